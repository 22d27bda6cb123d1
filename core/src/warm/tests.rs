//! What is kept in mind, beside a model that keeps everything and sorts it each time.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use super::*;
use crate::index::Ids;
use crate::lease::Token;

const PLENTY: Limits = Limits { bytes: 16 << 20, best: 100 };
const HOUR: u64 = HOUR_MS;

pub(super) fn at(ms: u64) -> Now {
    Now { unix_ms: 1_700_000_000_000 + ms, steady_ms: ms }
}

pub(super) fn ids(ids: impl IntoIterator<Item = u32>) -> Ids {
    Ids::from(RoaringBitmap::from_iter(ids))
}

pub(super) fn name(key: u32) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

/// Fresh for an hour from then on.
pub(super) fn seen(key: u32, cost_ms: u64, ms: u64) -> Seen<'static> {
    let fresh_until_ms = Some((at(ms).unix_ms + HOUR) as i64);
    Seen { id: key, lifetime_ms: HOUR, fresh_until_ms, cost_ms: Some(cost_ms), ..Seen::default() }
}

/// The keys that are due, what is worth most first.
pub(super) fn due(keeper: &mut Keeper, now: Now) -> Vec<Vec<u8>> {
    keeper.settle(None, now);
    let (mut all, mut walk) = (Vec::new(), keeper.walk(None, None, None, now));
    while let Some((_, slot)) = keeper.next_due(&mut walk, now) {
        all.extend(keeper.get(slot).map(|known| known.key.to_vec()));
    }
    all
}

/// What is shown to who looks ahead.
pub(super) fn ahead(keeper: &mut Keeper, types: Option<&[u16]>, ahead_ms: u64, now: Now) -> Vec<Vec<u8>> {
    let (mut all, mut walk) = (Vec::new(), keeper.walk(types, None, Some(ahead_ms), now));
    while let Some((_, slot)) = keeper.next_due(&mut walk, now) {
        all.extend(keeper.get(slot).map(|known| known.key.to_vec()));
    }
    all
}

/// The first of them, of these types.
fn first_due(keeper: &mut Keeper, types: Option<&[u16]>, now: Now) -> Option<Slot> {
    let mut walk = keeper.walk(types, None, None, now);
    keeper.next_due(&mut walk, now).map(|(_, slot)| slot)
}

#[test]
fn the_hundred_best_of_ten_thousand_are_due_in_order() {
    let (mut keeper, mut rng) = (Keeper::default(), fastrand::Rng::with_seed(3));
    for key in 20_000..30_000 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 1, 0), PLENTY, at(0));
    }
    let mut worth: Vec<(u64, Vec<u8>)> = Vec::new();
    for key in 0..10_000 {
        let (hits, cost) = (rng.u64(1..9), rng.u64(1..10_000));
        keeper.keep(&name(key), (1, b"t"), &seen(key, cost, 1000), PLENTY, at(1000));
        (0..hits).for_each(|_| assert!(keeper.asked(&name(key), true, at(1000)).is_some()));
        assert!(!keeper.has_due(None), "all are fresh");
        worth.push((hits * cost, name(key)));
    }
    worth.sort_unstable_by(|a, b| b.cmp(a));
    assert!(keeper.invalidated(&ids(0..10_000), at(2000)));
    let due = due(&mut keeper, at(2000));
    let worth_of = |key: &Vec<u8>| worth.iter().find(|(_, own)| own == key).map(|(worth, _)| *worth);
    let told: Vec<u64> = due.iter().filter_map(worth_of).collect();
    let expected: Vec<u64> = worth.iter().take(100).map(|(worth, _)| *worth).collect();
    assert_eq!(told, expected);
    keeper.check(at(2000));
}

/// Requests mostly change nothing but counts; what is due comes in the order of all that were counted, and the best are those that are worth most.
#[test]
fn what_is_asked_for_often_is_ranked_by_each_request() {
    let (mut keeper, mut rng) = (Keeper::default(), fastrand::Rng::with_seed(4));
    let mut left: Vec<u32> = Vec::new();
    let mut counts: Vec<(u64, u32)> = Vec::new();
    for key in 0..260 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 10, 0), Limits { best: 200, ..PLENTY }, at(0));
        keeper.asked(&name(key), true, at(0));
        let hits = 100 + 7 * u64::from(key) % 260;
        counts.push((hits, key));
        left.extend((1..hits).map(|_| key));
    }
    rng.shuffle(&mut left);
    let mut moved = 0;
    for key in left {
        let before = keeper.ids.get(&key).and_then(|slot| keeper.get(*slot)).map(|known| known.score);
        assert_eq!(keeper.asked_for(key, &name(key), true, at(1000)), Some(false));
        moved += u64::from(keeper.ids.get(&key).and_then(|slot| keeper.get(*slot)).map(|known| known.score) != before);
    }
    let all: u64 = counts.iter().map(|(hits, _)| hits).sum();
    assert!(moved < all / 2, "{moved} of {all}");
    keeper.check(at(1000));
    counts.sort_unstable_by(|a, b| b.cmp(a));
    keeper.invalidated(&ids(0..260), at(2000));
    let expected: Vec<Vec<u8>> = counts.iter().take(200).map(|(_, key)| name(*key)).collect();
    assert_eq!(due(&mut keeper, at(2000)), expected);
    let hits = |key: &u32| find(&keeper, &name(*key)).map(|known| known.hits);
    assert!(counts.iter().take(200).all(|(count, key)| hits(key) == Some(*count)), "each is counted");
    keeper.check(at(2000));
}

#[test]
fn a_value_is_found_by_its_number_if_it_is_that_key() {
    let mut keeper = Keeper::default();
    keeper.keep(b"k", (1, b"t"), &seen(7, 10, 0), PLENTY, at(0));
    keeper.note_warmed(b"k");
    assert_eq!(keeper.asked_for(7, b"another", true, at(1)), None, "it went, and nobody told");
    assert_eq!(keeper.asked_for(8, b"k", true, at(1)), None);
    assert_eq!(keeper.asked_for(7, b"k", true, at(1)), Some(true));
    keeper.went(b"k", Reason::Expired, at(2));
    assert_eq!(keeper.asked_for(7, b"k", true, at(3)), None);
    assert_eq!(keeper.asked(b"k", false, at(3)), Some(false));
    keeper.check(at(3));
}

/// However many unknown keys are asked for, a bounded number displaces others.
#[test]
fn unknown_keys_are_let_in_a_few_at_a_time() {
    let mut keeper = Keeper::default();
    let limits = Limits { best: 10, ..PLENTY };
    let let_in = |keeper: &mut Keeper, from: u32, count: u32| {
        let admitted = |key: &u32| {
            let is_in = keeper.admits(1, limits);
            if is_in {
                keeper.keep(&name(*key), (1, b"t"), &seen(*key, 10, 0), limits, at(1));
            }
            is_in
        };
        (from..from + count).filter(admitted).count()
    };
    assert_eq!(let_in(&mut keeper, 0, 18), 18, "while there is room");
    let some = let_in(&mut keeper, 100, 200);
    assert!((5..64).contains(&some), "{some}");
    assert_eq!(some + let_in(&mut keeper, 1000, 100_000), 64);
    keeper.turn(10, at(2));
    assert_eq!(let_in(&mut keeper, 200_000, 100_000), 64);
    keeper.check(at(2));
}

pub(super) fn find<'k>(keeper: &'k Keeper, key: &[u8]) -> Option<&'k Known> {
    (0..2_000).filter_map(|slot| keeper.get(slot)).find(|known| *known.key == *key)
}

/// What the model knows of a key.
#[derive(Clone, Copy)]
struct Plain {
    rate: super::rate::Rate,
    cost: u64,
    id: Option<u32>,
    is_lapsed: bool,
    is_job: bool,
}

#[test]
fn it_does_what_a_plain_list_does() {
    for seed in 0..10 {
        let (mut rng, mut keeper) = (fastrand::Rng::with_seed(seed), Keeper::default());
        let mut all: BTreeMap<Vec<u8>, Plain> = BTreeMap::new();
        // All have room, so none is forgotten.
        const ROOM: Limits = Limits { bytes: 16 << 20, best: 1000 };
        let (mut ms, mut last_id) = (0, 0);
        for step in 0..3_000 {
            ms += rng.u64(..20_000);
            let (key, now) = (name(rng.u32(..90)), at(ms));
            match rng.u32(..10) {
                0..3 => {
                    last_id += 1;
                    let cost = rng.u64(1..1000);
                    assert!(keeper.keep(&key, (1, b"t"), &seen(last_id, cost, ms), ROOM, now));
                    let fresh =
                        Plain { rate: super::rate::Rate::since(ms), cost, id: None, is_lapsed: false, is_job: false };
                    let plain = all.entry(key.clone()).or_insert(fresh);
                    (plain.cost, plain.id, plain.is_lapsed, plain.is_job) = (cost, Some(last_id), false, false);
                }
                3..6 => {
                    let known = keeper.asked(&key, true, now);
                    assert_eq!(known.is_some(), all.contains_key(&key));
                    all.get_mut(&key).into_iter().for_each(|plain| plain.rate.count(ms));
                }
                6 => {
                    keeper.went(&key, Reason::Expired, now);
                    all.get_mut(&key).into_iter().for_each(|plain| (plain.id, plain.is_lapsed) = (None, true));
                }
                7 => {
                    let hit: BTreeSet<u32> = (0..rng.u32(..20)).map(|_| rng.u32(..last_id + 2)).collect();
                    keeper.invalidated(&ids(hit.iter().copied()), now);
                    let hit = all.values_mut().filter(|plain| plain.id.is_some_and(|id| hit.contains(&id)));
                    // Perhaps that ended a job.
                    hit.for_each(|plain| (plain.is_lapsed, plain.is_job) = (true, false));
                }
                8 => {
                    let slot = (0..200).find(|slot| keeper.get(*slot).is_some_and(|known| *known.key == *key));
                    let start = rng.bool();
                    slot.into_iter().for_each(|slot| {
                        if start { keeper.start_job(slot, ms + 5, None) } else { keeper.end_job(slot) }
                    });
                    all.get_mut(&key).into_iter().for_each(|plain| plain.is_job = start);
                }
                _ if rng.u32(..20) == 0 => {
                    keeper.forget(&key);
                    all.remove(&key);
                }
                _ => keeper.turn(3, now),
            }
            // What the hour of its storing is over for is due as well.
            keeper.settle(None, now);
            if step % 50 == 0 {
                keeper.check(now);
                let mut expected: Vec<(f64, &Vec<u8>)> = all
                    .iter()
                    .filter(|(key, plain)| (plain.is_lapsed || is_over(&keeper, key, now)) && !plain.is_job)
                    .map(|(key, plain)| (plain.rate.per_second(ms) * plain.cost as f64, key))
                    .filter(|(worth, _)| *worth > 0.0)
                    .collect();
                expected.sort_by(|a, b| b.0.total_cmp(&a.0));
                let told = due(&mut keeper, now);
                let worth = |key: &Vec<u8>| expected.iter().find(|(_, own)| *own == key).map(|(worth, _)| *worth);
                let told_worth: Vec<f64> = told.iter().filter_map(worth).collect();
                assert_eq!(told_worth.len(), expected.len(), "seed {seed}, step {step}");
                assert_eq!(told.len(), expected.len(), "seed {seed}, step {step}");
                let close = |(a, b): (&f64, &(f64, &Vec<u8>))| (a - b.0).abs() <= 1e-5 * a.max(1e-9);
                assert!(
                    told_worth.iter().zip(&expected).all(close),
                    "seed {seed}, step {step}: {told_worth:?} {expected:?}"
                );
            }
        }
    }
}

fn is_over(keeper: &Keeper, key: &[u8], now: Now) -> bool {
    find(keeper, key).is_some_and(|known| known.fresh_until_ms().is_some_and(|until| until <= now.unix_ms as i64))
}

#[test]
fn a_million_keys_named_once_displace_none_that_is_asked_for() {
    let mut keeper = Keeper::default();
    let limits = Limits { bytes: 1 << 20, best: 50 };
    for key in 0..50 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 10, 0), limits, at(0));
        (0..3).for_each(|_| _ = keeper.asked(&name(key), true, at(10)));
    }
    for key in 50..100_000 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 10_000, 20), limits, at(20));
    }
    assert!(keeper.len() <= 50 + 3 * (50 / 4 + 16) && keeper.bytes() <= 1 << 20);
    keeper.invalidated(&ids(0..100_000), at(30));
    let mut due = due(&mut keeper, at(30));
    due.sort();
    let mut expected: Vec<_> = (0..50).map(name).collect();
    expected.sort();
    assert_eq!(due, expected);
    keeper.check(at(30));
}

/// However many are asked for twice meanwhile.
#[test]
fn a_key_that_comes_late_and_is_asked_for_often_comes_in() {
    let mut keeper = Keeper::default();
    let limits = Limits { bytes: 16 << 20, best: 50 };
    let mut now = 0;
    for key in 0..200 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 1000, now), limits, at(now));
        (0..20).for_each(|_| _ = keeper.asked(&name(key), true, at(now)));
        now += 100;
    }
    // Of low cost, and asked for a hundred times as often.
    let mut other = 1000;
    for _ in 0..10_000 {
        now += 10;
        other += 1;
        keeper.keep(&name(other), (1, b"t"), &seen(other, 10, now), limits, at(now));
        keeper.asked(&name(other), true, at(now));
        keeper.turn(10, at(now));
        if keeper.asked(b"late", true, at(now)).is_none() {
            keeper.keep(b"late", (1, b"t"), &seen(999, 100, now), limits, at(now));
        }
    }
    keeper.went(b"late", Reason::Expired, at(now));
    assert_eq!(due(&mut keeper, at(now)).first().map(Vec::as_slice), Some(&b"late"[..]));
    keeper.check(at(now));
}

#[test]
fn what_a_key_takes_is_bounded_and_all_of_it_too() {
    let mut keeper = Keeper::default();
    let limits = Limits { bytes: 1 << 20, best: 1000 };
    let long = vec![b'x'; 17 << 10];
    assert!(!keeper.keep(&long, (1, b"t"), &seen(1, 10, 0), limits, at(0)), "a name as long as that");
    let meta = Seen { meta: Some(&long), ..seen(1, 10, 0) };
    assert!(!keeper.keep(b"k", (1, b"t"), &meta, limits, at(0)) && keeper.is_empty());
    let meta = Seen { meta: long.get(..13 << 10), ..seen(1, 10, 0) };
    for key in 0..1000 {
        keeper.keep(&name(key), (1, b"t"), &Seen { id: key, ..meta }, limits, at(u64::from(key)));
        (0..key).take(3).for_each(|_| _ = keeper.asked(&name(key), true, at(u64::from(key))));
        assert!(keeper.bytes() <= 1 << 20, "{}", keeper.bytes());
    }
    assert!(keeper.len() > 60);
    keeper.shrink(100_000);
    assert!(keeper.bytes() <= 100_000 && !keeper.is_empty());
    keeper.check(at(1000));
    (0..10).for_each(|_| keeper.shrink(0));
    assert!(keeper.is_empty() && keeper.bytes() == 0);
}

#[test]
fn a_key_is_offered_while_a_request_is_to_be_expected_in_its_lifetime() {
    let mut keeper = Keeper::default();
    keeper.keep(b"k", (1, b"t"), &seen(1, 10, 0), PLENTY, at(0));
    assert!(find(&keeper, b"k").is_some_and(|known| !known.is_worth_it(at(1))), "nobody asked for it yet");
    (1..=60).for_each(|minute| _ = keeper.asked(b"k", true, at(minute * 60_000)));
    let is_worth_it =
        |keeper: &Keeper, hours: u64| find(keeper, b"k").is_some_and(|known| known.is_worth_it(at(hours * HOUR)));
    assert!(is_worth_it(&keeper, 2) && is_worth_it(&keeper, 4) && !is_worth_it(&keeper, 9));
    keeper.went(b"k", Reason::Expired, at(9 * HOUR));
    let next = first_due(&mut keeper, None, at(9 * HOUR));
    next.into_iter().for_each(|slot| keeper.rest(slot));
    assert!(!keeper.has_due(None));
    keeper.asked(b"k", false, at(9 * HOUR));
    assert!(keeper.has_due(None), "somebody asks for it again");
}

#[test]
fn what_is_asked_for_each_day_at_that_hour_is_predicted() {
    let mut keeper = Keeper::default();
    let day = 24 * HOUR;
    // The hour begins.
    let start = HOUR - at(0).unix_ms % HOUR;
    for days in 0..3 {
        let ms = start + days * day + 600_000;
        if keeper.asked(b"k", false, at(ms)).is_none() || days > 0 {
            let short =
                Seen { fresh_until_ms: Some(at(ms + 1000).unix_ms as i64), lifetime_ms: 1000, ..seen(1, 10, ms) };
            keeper.keep(b"k", (1, b"t"), &short, PLENTY, at(ms));
            keeper.asked(b"k", true, at(ms));
        }
        keeper.went(b"k", Reason::Expired, at(ms + 1000));
    }
    let offered = |keeper: &mut Keeper, ms: u64| {
        keeper.turn(10, at(ms));
        let next = first_due(keeper, None, at(ms))?;
        let hour = keeper.get(next)?.predicted_hour();
        if hour.is_none() {
            keeper.rest(next);
        }
        hour
    };
    let next = start + 3 * day;
    assert_eq!(offered(&mut keeper, next - 10 * 60_000), None);
    assert_eq!(offered(&mut keeper, next - 4 * 60_000), Some(((at(next).unix_ms) / HOUR) as u32));
    assert_eq!(offered(&mut keeper, next + 20 * 60_000), None);
    assert_eq!(offered(&mut keeper, next + 2 * HOUR - 60_000), None);
    keeper.check(at(next + 2 * HOUR));
}

#[test]
fn a_job_is_its_lease() {
    let mut keeper = Keeper::default();
    let token = Token::from(7);
    keeper.keep(b"k", (1, b"t"), &seen(1, 10, 0), PLENTY, at(0));
    keeper.asked(b"k", true, at(1));
    keeper.invalidated(&ids([1]), at(2));
    let slot = first_due(&mut keeper, Some(&[1, 1]), at(2)).unwrap_or(9);
    assert!(first_due(&mut keeper, Some(&[2]), at(2)).is_none());
    keeper.start_job(slot, 100, Some(token));
    assert!(!keeper.has_due(None) && keeper.is_job(b"k", token) && !keeper.is_job(b"k", Token::from(8)));
    keeper.went(b"k", Reason::Invalidated, at(3));
    assert!(!keeper.has_due(None), "its key is reclaimed meanwhile");
    assert!(keeper.freed(b"k") && keeper.has_due(None) && !keeper.freed(b"another"));
    keeper.start_job(slot, 100, Some(token));
    keeper.keep(b"k", (1, b"t"), &seen(2, 10, 4), PLENTY, at(4));
    keeper.note_warmed(b"k");
    assert_eq!((keeper.has_due(None), keeper.is_job(b"k", token)), (false, false));
    assert_eq!((keeper.asked(b"k", true, at(5)), keeper.asked(b"k", true, at(6))), (Some(true), Some(false)));
    keeper.check(at(6));
}

#[test]
fn a_type_that_goes_or_whose_number_is_anothers_is_forgotten() {
    let mut keeper = Keeper::default();
    for key in 0..20 {
        keeper.keep(
            &name(key),
            (1 + key as u16 % 2, if key % 2 == 0 { b"a" } else { b"b" }),
            &seen(key, 1, 0),
            PLENTY,
            at(0),
        );
    }
    let wanted = |keeper: &mut Keeper, names: &[&'static [u8]], best| {
        keeper.look_after_types(9, 1024, |id| Some((*names.get(usize::from(id) - 1)?, best)));
        keeper.len()
    };
    assert_eq!(wanted(&mut keeper, &[b"a", b"b"], 100), 20);
    assert_eq!(wanted(&mut keeper, &[b"other", b"b"], 100), 10);
    keeper.keep(b"new", (2, b"c"), &seen(99, 1, 1), PLENTY, at(1));
    assert_eq!(keeper.len(), 1);
    keeper.keep(b"new", (2, b"c"), &seen(99, 1, 1), Limits { best: 0, ..PLENTY }, at(1));
    assert!(keeper.is_empty());
    keeper.check(at(1));
}

#[test]
fn what_is_fresh_after_all_waits_for_its_end() {
    let mut keeper = Keeper::default();
    let early = Seen { early_percent: 80, ..seen(1, 10, 0) };
    keeper.keep(b"k", (1, b"t"), &early, PLENTY, at(0));
    keeper.asked(b"k", true, at(1));
    keeper.settle(None, at(HOUR * 79 / 100));
    assert!(!keeper.has_due(None));
    keeper.settle(None, at(HOUR * 80 / 100));
    let slot = first_due(&mut keeper, None, at(HOUR)).unwrap_or(9);
    keeper.put_off(slot, Some((at(3 * HOUR).unix_ms) as i64));
    keeper.settle(None, at(2 * HOUR));
    assert!(!keeper.has_due(None));
    assert!(ahead(&mut keeper, None, HOUR, at(2 * HOUR)) == [b"k"], "a worker looks further ahead");
    assert!(ahead(&mut keeper, None, HOUR - 1, at(2 * HOUR)).is_empty());
    assert!(!keeper.has_due(None), "which is nothing to others");
    keeper.check(at(2 * HOUR));
}

/// Many keys that are let go, or change their places, take turns.
#[test]
fn what_concerns_many_keys_is_done_in_turns() {
    let mut keeper = Keeper::default();
    let limits = Limits { bytes: 64 << 20, best: 10_000 };
    for key in 0..10_000 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 10, 0), limits, at(0));
        keeper.asked(&name(key), true, at(1));
    }
    let turn = |keeper: &mut Keeper, best| {
        let before = keeper.len();
        keeper.look_after_types(9, 1024, |_| (best > 0).then_some((&b"t"[..], best)));
        before - keeper.len()
    };
    assert_eq!(turn(&mut keeper, 10_000), 0);
    let gone = turn(&mut keeper, 8_000);
    assert!(gone <= 1024, "{gone}");
    while turn(&mut keeper, 8_000) > 0 {}
    (0..100).for_each(|_| _ = turn(&mut keeper, 8_000));
    assert!((8_000..=8_000 + 8_000 / 4 + 16).contains(&keeper.len()));
    keeper.check(at(2));
    assert_eq!(turn(&mut keeper, 0), 1024);
    (0..10).for_each(|_| _ = turn(&mut keeper, 0));
    assert!(keeper.is_empty() && keeper.bytes() == 0);
    keeper.check(at(3));
}

/// However many types there are, what is worth least of some of them makes room.
#[test]
fn many_types_share_the_memory() {
    let mut keeper = Keeper::default();
    let limits = Limits { bytes: 1 << 20, best: 10 };
    for key in 0..20_000 {
        let type_id = 1 + (key % 5_000) as u16;
        keeper.keep(&name(key), (type_id, &name(type_id.into())), &seen(key, 10, 0), limits, at(key.into()));
        keeper.asked(&name(key), true, at(key.into()));
        assert!(keeper.bytes() <= 1 << 20);
    }
    assert!(keeper.len() > 1_000);
    keeper.check(at(20_000));
    // Types of which nothing is kept are forgotten with their last keys.
    keeper.shrink(0);
    (0..100).for_each(|_| keeper.shrink(0));
    assert!(keeper.is_empty() && keeper.bytes() == 0);
    keeper.check(at(20_000));
}

/// The keys of some types come in the order of their worth, as those of all do, also while they are put off or given to somebody.
#[test]
fn the_keys_of_some_types_come_in_order() {
    let (mut keeper, mut rng) = (Keeper::default(), fastrand::Rng::with_seed(9));
    for key in 0..500 {
        let type_id = 1 + (key % 5) as u16;
        keeper.keep(&name(key), (type_id, &name(type_id.into())), &seen(key, rng.u64(1..100_000), 0), PLENTY, at(0));
        (0..3).for_each(|_| _ = keeper.asked(&name(key), true, at(5)));
    }
    keeper.invalidated(&ids(0..500), at(6));
    let now = at(60_000);
    while !keeper.catch_up(100, now) {}
    let mut told = Vec::new();
    let mut walk = keeper.walk(Some(&[4, 2, 2]), None, None, now);
    while let Some((score, slot)) = keeper.next_due(&mut walk, now) {
        assert!(keeper.get(slot).is_some_and(|known| [2, 4].contains(&known.type_id)));
        told.push((score, slot));
        match told.len() % 3 {
            0 => keeper.start_job(slot, 100_000, None),
            1 => keeper.put_off(slot, None),
            _ => (),
        }
    }
    assert_eq!(told.len(), 200);
    assert!(told.is_sorted_by(|a, b| a > b), "each once, what is worth most first");
    // Who left off goes on behind that.
    let place = told.get(29).copied();
    let mut walk = keeper.walk(Some(&[2, 4]), place, None, now);
    assert!(keeper.next_due(&mut walk, now) < place);
    keeper.check(now);
}

/// What was popular a moment ago is produced in vain once, not until its rate has decayed.
#[test]
fn what_was_produced_in_vain_is_not_offered_again_before_somebody_asks() {
    let mut keeper = Keeper::default();
    keeper.keep(b"k", (1, b"t"), &seen(1, 10, 0), PLENTY, at(0));
    (0..1000).for_each(|ms| _ = keeper.asked(b"k", true, at(ms)));
    keeper.settle(None, at(HOUR));
    assert!(keeper.has_due(None));
    keeper.keep(b"k", (1, b"t"), &seen(2, 10, HOUR), PLENTY, at(HOUR));
    keeper.note_warmed(b"k");
    keeper.invalidated(&ids([2]), at(HOUR + 1));
    assert!(keeper.has_due(None), "an invalidation says nothing of it");
    keeper.keep(b"k", (1, b"t"), &seen(3, 10, HOUR), PLENTY, at(HOUR + 2));
    keeper.note_warmed(b"k");
    assert!(ahead(&mut keeper, None, 2 * HOUR, at(HOUR + 3)).is_empty(), "nor to a worker that looks far ahead");
    keeper.settle(None, at(2 * HOUR));
    keeper.went(b"k", Reason::Expired, at(2 * HOUR));
    assert!(!keeper.has_due(None) && find(&keeper, b"k").is_some_and(|known| known.is_worth_it(at(2 * HOUR))));
    keeper.asked(b"k", false, at(2 * HOUR + 1));
    assert!(keeper.has_due(None));
    keeper.check(at(2 * HOUR + 1));
}

#[test]
fn jobs_that_may_have_ended_are_looked_at() {
    let mut keeper = Keeper::default();
    for key in 0..3_000 {
        keeper.keep(&name(key), (1, b"t"), &seen(key, 10, 0), Limits { best: 3_000, ..PLENTY }, at(0));
        keeper.asked(&name(key), true, at(1));
    }
    keeper.invalidated(&ids(0..2_000), at(2));
    while !keeper.catch_up(100, at(2)) {}
    let mut walk = keeper.walk(None, None, None, at(3));
    while let Some((_, slot)) = keeper.next_due(&mut walk, at(3)) {
        keeper.start_job(slot, 1_000 + u64::from(slot), None);
    }
    assert!(keeper.some_jobs(64, at(4)).is_empty(), "whoever keeps the leases tells");
    assert_eq!(keeper.some_jobs(5_000, at(1_009)).len(), 10, "those whose time is over");
    // An invalidation that means a key of which somebody says that it backs off.
    keeper.invalidated(&ids([0]), at(5));
    assert!(keeper.has_due(None), "what it hits is looked at at once");
    let mut looked_at = BTreeSet::new();
    for _ in 0..100 {
        let some = keeper.some_jobs(64, at(6));
        assert!(some.len() <= 64);
        looked_at.extend(some);
    }
    assert_eq!(looked_at.len(), 1_999);
    assert!(keeper.some_jobs(64, at(7)).is_empty());
    keeper.check(at(7));
}
