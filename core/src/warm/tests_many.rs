//! Work on many keys is done in turns, and memory comes back.

use super::tests::{ahead, at, due, find, ids, name, seen};
use super::*;

const ROOM: Limits = Limits { bytes: 1 << 30, best: 10_000 };
const HOUR: u64 = HOUR_MS;

/// Keys that are worth the more the higher their numbers are.
fn many(count: u32) -> Keeper {
    let mut keeper = Keeper::default();
    for key in 0..count {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 100 + u64::from(key), 0), ROOM, at(0));
        keeper.asked(&name(key), true, at(0));
    }
    keeper
}

fn first(of: &mut Keeper, count: usize, now: Now) -> Vec<Vec<u8>> {
    due(of, now).into_iter().take(count).collect()
}

fn names(keys: impl Iterator<Item = u32>) -> Vec<Vec<u8>> {
    keys.map(name).collect()
}

/// However many an invalidation means, it takes a bounded number of steps; who asks meanwhile is given the best.
#[test]
fn an_invalidation_of_many_takes_turns() {
    let mut keeper = many(10_000);
    assert!(keeper.invalidated(&ids(0..1_000_000), at(1)));
    assert!((1..=128).contains(&keeper.due_len()), "{}", keeper.due_len());
    assert!(first(&mut keeper, 900, at(2)) == names((9_100..10_000).rev()), "the best, and not whichever was first");
    keeper.check(at(2));
    let mut turns = 0;
    while !keeper.catch_up(100, at(3)) {
        let before = keeper.due_len();
        assert!(!keeper.catch_up(0, at(3)) && keeper.due_len() == before);
        turns += 1;
    }
    assert!((80..=100).contains(&turns), "{turns}");
    assert!(first(&mut keeper, 10_000, at(3)) == names((0..10_000).rev()));
    keeper.check(at(3));
}

/// What happens to a key that was not told yet is not undone when it is.
#[test]
fn what_happens_before_a_key_is_told_counts() {
    let mut keeper = many(1_000);
    keeper.invalidated(&ids(0..1_000), at(1));
    // The numbers are told from the last on.
    assert!(find(&keeper, &name(5)).is_some_and(|known| !known.is_due));
    keeper.keep(&name(5), (1, b"t"), &seen(2_000, 100, 2), ROOM, at(2));
    keeper.went(&name(6), Reason::Evicted, at(2));
    keeper.forget(&name(7));
    keeper.keep(b"other", (1, b"t"), &seen(8, 100, 2), ROOM, at(2));
    let slot = (0..1_000).find(|slot| keeper.get(*slot).is_some_and(|known| *known.key == *name(9)));
    keeper.start_job(slot.unwrap_or(0), 500, Some(crate::lease::Token::from(3)));
    while !keeper.catch_up(10, at(3)) {}
    assert!(find(&keeper, &name(5)).is_some_and(|known| !known.is_due), "a new value");
    assert!(find(&keeper, b"other").is_some_and(|known| !known.is_due), "its number was another's");
    assert!(find(&keeper, &name(6)).is_some_and(|known| known.is_due));
    assert!(keeper.is_job(&name(9), crate::lease::Token::from(3)), "a lease that came after the invalidation");
    keeper.check(at(3));
}

/// All that was stored in one moment ends in one.
#[test]
fn many_that_end_at_once_take_turns() {
    let mut keeper = many(5_000);
    keeper.turn(100, at(HOUR));
    assert!(keeper.due_len() <= 100);
    assert!(first(&mut keeper, 300, at(HOUR)) == names((4_700..5_000).rev()));
    let mut turns = 0;
    while !keeper.catch_up(100, at(HOUR)) {
        turns += 1;
    }
    assert!((20..=50).contains(&turns), "{turns}");
    assert_eq!(keeper.due_len(), 5_000);
    keeper.check(at(HOUR));
}

/// Of a type that is asked for, and for who asks only.
#[test]
fn who_looks_ahead_changes_nothing_for_others() {
    let mut keeper = many(3_000);
    for key in 5_000..5_003 {
        keeper.keep(&name(key), (2, b"u"), &seen(key, 1, 0), ROOM, at(0));
        (0..5).for_each(|_| _ = keeper.asked(&name(key), true, at(0)));
    }
    let mut of_two = ahead(&mut keeper, Some(&[2]), 2 * HOUR, at(1));
    of_two.sort();
    assert_eq!(of_two, names(5_000..5_003), "though three thousand others end as soon");
    assert_eq!(ahead(&mut keeper, None, 2 * HOUR, at(1)).len(), 3_003);
    assert!(keeper.due_len() == 0 && !keeper.has_due(None));
    // Beyond what is passed over it is shown what is due.
    keeper.invalidated(&ids([0, 2_999]), at(2));
    assert_eq!(ahead(&mut keeper, Some(&[1]), HOUR / 2, at(3)), names([2_999, 0].into_iter()));
    let mut walk = keeper.walk(Some(&[1]), None, Some(HOUR / 2), at(3));
    while keeper.next_due(&mut walk, at(3)).is_some() {}
    assert!(walk.unseen().is_some());
    keeper.check(at(3));
}

/// What they took is given back, not only when none is left.
#[test]
fn memory_comes_back_in_turns() {
    let mut keeper = many(10_000);
    keeper.invalidated(&ids(0..5_000), at(1));
    let (slots, few) = (keeper.known.capacity(), keeper.bytes() / 50);
    while keeper.bytes() > few {
        keeper.shrink(few);
    }
    keeper.check(at(2));
    let mut turns = 0;
    while keeper.known.capacity() > slots / 10 {
        keeper.turn(100, at(2));
        turns += 1;
        assert!(turns < 1000);
    }
    assert!(keeper.names.capacity() < 1_000 && keeper.ids.capacity() < 1_000 && keeper.free.capacity() < 1_000);
    keeper.check(at(2));
    // It goes on as before.
    for key in 20_000..21_000 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 5_000_000, 2), ROOM, at(2));
        keeper.asked(&name(key), true, at(2));
        assert!(find(&keeper, &name(key)).is_some());
    }
    keeper.check(at(2));
    assert!(keeper.len() > 1_000);
}
