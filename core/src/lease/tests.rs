//! Each rule as a table of (time, call, expected).
//!
//! A call is written as words: a token is a letter, those made up for waiters are `A`, `B` … in the order of need. What is
//! woken is shown by the waiter's number, followed by the token if the lease is theirs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

const NO_BOUND: usize = usize::MAX;

/// Selects by type, or by all of some tags and a beginning of the key.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum Selector {
    Type(Vec<u8>),
    All(Vec<Vec<u8>>),
    Key(Vec<u8>),
}

impl Hits for Selector {
    fn hits(&self, subject: &Subject<'_>, _: &mut u64) -> bool {
        match self {
            Self::Type(name) => subject.type_name == name,
            Self::All(tags) => tags.iter().all(|tag| subject.tags.contains(&tag.as_slice())),
            Self::Key(prefix) => subject.key.starts_with(prefix),
        }
    }

    fn weight(&self) -> usize {
        if let Self::All(tags) = self { tags.len() } else { 0 }
    }

    fn any_of(&self) -> Option<Vec<&[u8]>> {
        if let Self::All(tags) = self { tags.first().map(|tag| vec![tag.as_slice()]) } else { None }
    }
}

struct Play {
    leases: Leases<Selector>,
    limit: usize,
    bytes: usize,
    bound: usize,
    each: usize,
    next_token: u128,
}

impl Default for Play {
    fn default() -> Self {
        Self {
            leases: Leases::default(),
            limit: 100,
            bytes: NO_BOUND,
            bound: NO_BOUND,
            each: NO_BOUND,
            next_token: u128::from(b'A'),
        }
    }
}

fn token(word: &str) -> Token {
    u128::from(word.as_bytes()[0]).into()
}

/// Whose a lease is that is asked for, if that is said.
fn owner(words: &[&str]) -> u64 {
    words.get(4).map_or(0, |owner| owner.parse().unwrap())
}

/// A type, and tags.
fn named(words: &[&str]) -> Named {
    let mut names = words.iter().map(|word| Box::from(word.as_bytes()));
    Named { type_name: names.next().unwrap_or_default(), tags: names.collect() }
}

fn shown(woken: &[Woken]) -> String {
    let one = |woken: &Woken| {
        let lease = woken.lease.map(|token| char::from(hex::decode(token.as_bytes()).unwrap()[15]));
        format!(" {}{}", woken.waiter, lease.map_or(String::new(), String::from))
    };
    format!("woken{}", woken.iter().map(one).collect::<String>())
}

fn names(waiters: &[u64]) -> String {
    waiters.iter().map(|waiter| format!(" {waiter}")).collect()
}

impl Play {
    fn run(&mut self, steps: &[(u64, &str, &str)]) {
        for (now_ms, call, expected) in steps {
            assert_eq!(self.call(*now_ms, call), *expected, "at {now_ms}: {call}");
        }
    }

    fn call(&mut self, now: u64, call: &str) -> String {
        let words: Vec<&str> = call.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let key = words.get(1).copied().unwrap_or_default().as_bytes();
        let Self { leases, next_token, limit, bytes, bound, each } = self;
        let mut wish = |duration_ms: u64| {
            *next_token += 1;
            Wish { token: (*next_token - 1).into(), duration_ms, owner: 0 }
        };
        let tags: Vec<&[u8]> = words.iter().skip(1).map(|tag| tag.as_bytes()).collect();
        match words[0] {
            "ask" => match leases.ask(
                key,
                now,
                Wish { token: token(words[2]), duration_ms: number(3), owner: owner(&words) },
                Limits { records: *limit, bytes: *bytes, each: *each },
            ) {
                Asked::Granted => "granted".into(),
                Asked::Again => "again".into(),
                Asked::Held { left_ms } => format!("held {left_ms}"),
                Asked::BackingOff { left_ms } => format!("backing off {left_ms}"),
                Asked::Full => "full".into(),
            },
            "held" => format!("{:?}", leases.standing(key, now)),
            "wait" => leases.wait(key, number(2), words.get(3).map(|ms| wish(ms.parse().unwrap()))).to_string(),
            "leave" => leases.leave(number(1)).to_string(),
            "store" => {
                let subject = Subject { key, type_name: words[3].as_bytes(), tags: &tags[3..] };
                match leases.check(key, token(words[2]), now, &subject) {
                    Ok(()) => {
                        let stored = leases.finish(key, token(words[2]), now).unwrap();
                        format!("stored in {}:{}", stored.production_ms, names(&stored.waiters))
                    }
                    Err(Error::Fenced) => format!("fenced, {}", shown(&leases.lost(key, now))),
                    Err(error) => format!("{error:?}"),
                }
            }
            "renew" => leases.renew(key, token(words[2]), now, number(3)).to_string(),
            "release" => {
                let named = named(words.get(4..).unwrap_or_default());
                let limits = Limits { records: *limit, bytes: *bytes, each: *each };
                let released = leases.release(key, token(words[2]), now, number(3), named, limits);
                released.map_or("not theirs".into(), |woken| shown(&woken))
            }
            "superseded" => format!("superseded:{}", names(&leases.superseded(key))),
            "lost" => shown(&leases.lost(key, now)),
            "flush" => {
                format!("flushed:{}", names(&leases.flush().collect::<Vec<_>>()))
            }
            "tags" => fenced(leases, |l| l.fence_tags(tags.iter().copied(), *bound)),
            "type" => fenced(leases, |l| l.fence(Selector::Type(key.into()), *bound)),
            "key" => fenced(leases, |l| l.fence(Selector::Key(key.into()), *bound)),
            "all-of" => {
                let tags = tags.iter().map(|tag| tag.to_vec()).collect();
                fenced(leases, |l| l.fence(Selector::All(tags), *bound))
            }
            "everything" => fenced(leases, Leases::fence_all),
            "next" => format!("{:?}", leases.next_deadline()),
            "expire" => leases.expire(now).map_or("none".into(), |ended| shown(&ended.woken)),
            "counts" => {
                let (held, backing_off) = (leases.len(), leases.backing_off_len());
                assert_eq!(leases.deadlines.len(), held + backing_off);
                format!("{held} held, {backing_off} backing off, {} waiting", leases.waiters_len())
            }
            other => unreachable!("{other}"),
        }
    }
}

/// Shows how much is remembered after an invalidation.
fn fenced(leases: &mut Leases<Selector>, invalidate: impl FnOnce(&mut Leases<Selector>)) -> String {
    invalidate(leases);
    leases.fences_len().to_string()
}

#[test]
fn one_holds_a_lease_until_it_is_used() {
    Play::default().run(&[
        (0, "next", "None"),
        (0, "ask k a 100", "granted"),
        (0, "ask other o 500", "granted"),
        (30, "ask k b 100", "held 70"),
        (30, "held k", "Held(70)"),
        (30, "held nobody", "Free"),
        (30, "next", "Some(100)"),
        (40, "store k b t", "LeaseLost"),
        (40, "store nobody a t", "LeaseLost"),
        (40, "store k a t", "stored in 40:"),
        (40, "store k a t", "LeaseLost"),
        (40, "counts", "1 held, 0 backing off, 0 waiting"),
        (41, "ask k c 100", "granted"),
        (41, "next", "Some(141)"),
    ]);
}

#[test]
fn a_check_changes_nothing() {
    let mut play = Play::default();
    play.run(&[(0, "ask k a 100", "granted"), (5, "tags x", "1")]);
    for (tags, expected) in [(vec![], Ok(())), (vec![b"x".as_slice()], Err(Error::Fenced))] {
        for _ in 0..2 {
            let subject = Subject { key: b"k", type_name: b"t", tags: &tags };
            assert_eq!(play.leases.check(b"k", token("a"), 10, &subject), expected);
        }
    }
    play.run(&[(20, "renew k a 100", "true"), (50, "store k a t", "stored in 50:")]);
}

#[test]
fn an_expired_lease_is_lost_even_if_nobody_took_it() {
    Play::default().run(&[
        (0, "ask k a 100", "granted"),
        (99, "store k z t", "LeaseLost"),
        (100, "store k a t", "LeaseLost"),
        (100, "renew k a 100", "false"),
        (100, "release k a 0", "not theirs"),
        (100, "ask k b 100", "granted"),
        (150, "expire", "none"),
        (150, "store k a t", "LeaseLost"),
        (199, "store k b t", "stored in 99:"),
        (300, "expire", "none"),
        (300, "counts", "0 held, 0 backing off, 0 waiting"),
    ]);
}

#[test]
fn renewing_counts_from_now_and_keeps_the_fence() {
    Play::default().run(&[
        (0, "ask k a 100", "granted"),
        (10, "tags x", "1"),
        (90, "renew k a 200", "true"),
        (90, "next", "Some(290)"),
        (91, "renew k b 500", "false"),
        (150, "expire", "none"),
        (150, "renew k a 10", "true"),
        (159, "ask k b 100", "held 1"),
        (159, "renew k a 18446744073709551615", "true"),
        (160, "store k a t x", "fenced, woken"),
        (160, "counts", "0 held, 0 backing off, 0 waiting"),
    ]);
}

#[test]
fn waiters_are_answered_by_the_value_in_the_order_of_arrival() {
    Play::default().run(&[
        (0, "wait k 7", "false"),
        (0, "ask k a 100", "granted"),
        (1, "wait k 7", "true"),
        (1, "wait k 7", "false"),
        (2, "wait k 3 50", "true"),
        (3, "wait k 9", "true"),
        (3, "counts", "1 held, 0 backing off, 3 waiting"),
        (4, "leave 3", "true"),
        (4, "leave 3", "false"),
        (5, "wait k 3", "true"),
        (6, "store k a t", "stored in 6: 7 9 3"),
        (6, "leave 7", "false"),
        (6, "counts", "0 held, 0 backing off, 0 waiting"),
        (7, "ask k b 100", "granted"),
        (7, "wait k 7", "true"),
        (8, "superseded k", "superseded: 7"),
        (8, "superseded k", "superseded:"),
        (9, "store k b t", "LeaseLost"),
    ]);
}

#[test]
fn without_a_value_the_first_who_wants_the_lease_gets_it() {
    let start = [
        (0, "ask k a 100", "granted"),
        (1, "wait k 1", "true"),
        (1, "wait k 2 40", "true"),
        (1, "wait k 3 50", "true"),
    ];
    for (how, now_ms, expected) in [
        ("release k a 0", 50, "woken 1 2A 3"),
        ("lost k", 50, "woken 1 2A 3"),
        ("store k a t x", 50, "fenced, woken 1 2A 3"),
        ("expire", 100, "woken 1 2A 3"),
    ] {
        let mut play = Play::default();
        play.run(&start);
        play.run(&[(10, "tags x", "1"), (now_ms, how, expected)]);
        play.run(&[
            (now_ms, "expire", "none"),
            (now_ms, "counts", "1 held, 0 backing off, 0 waiting"),
            (now_ms, "ask k b 100", "held 40"),
            (now_ms, "store k a t", "LeaseLost"),
            (now_ms + 5, "store k A t x", "stored in 5:"),
        ]);
    }
    Play::default().run(&[
        (0, "ask k a 100", "granted"),
        (1, "wait k 1", "true"),
        (2, "lost k", "woken 1"),
        (2, "lost k", "woken"),
        (2, "counts", "0 held, 0 backing off, 0 waiting"),
    ]);
}

#[test]
fn who_waited_comes_before_who_asks_after_the_end() {
    Play::default().run(&[
        (0, "ask k a 100", "granted"),
        (1, "wait k 1 50", "true"),
        (120, "ask k b 100", "held 0"),
        (120, "wait k 2 50", "true"),
        (120, "store k a t", "LeaseLost"),
        (121, "expire", "woken 1A 2"),
        (121, "expire", "none"),
        (121, "ask k b 100", "held 50"),
        // All have left: nobody is before the asker.
        (122, "wait k 3 50", "true"),
        (123, "leave 3", "true"),
        (171, "ask k b 100", "granted"),
    ]);
}

#[test]
fn failing_keeps_others_from_trying_for_a_while() {
    Play::default().run(&[
        (0, "ask k a 100", "granted"),
        (1, "wait k 1 50", "true"),
        (10, "release k b 500", "not theirs"),
        (10, "release k a 500", "woken 1"),
        (10, "release k a 500", "not theirs"),
        (10, "counts", "0 held, 1 backing off, 0 waiting"),
        (10, "wait k 1", "false"),
        (10, "held k", "BackingOff(500)"),
        (20, "ask k b 100", "backing off 490"),
        (20, "ask other b 100", "granted"),
        (30, "superseded l", "superseded:"),
        (30, "lost l", "woken"),
        (509, "ask k b 100", "backing off 1"),
        (510, "ask k b 100", "granted"),
        (510, "release k b 40", "woken"),
        (550, "next", "Some(120)"),
        (550, "expire", "woken"),
        (550, "expire", "woken"),
        (550, "expire", "none"),
        (550, "counts", "0 held, 0 backing off, 0 waiting"),
    ]);
}

#[test]
fn what_happens_to_a_key_ends_its_backing_off() {
    for (what, ends) in [
        ("superseded k", true),
        ("lost k", true),
        ("tags x", true),
        ("type t", true),
        ("key k", true),
        ("all-of x y", true),
        ("everything", true),
        ("flush", true),
        ("superseded l", false),
        ("lost l", false),
        ("tags z", false),
        ("type u", false),
        ("key l", false),
        ("all-of x z", false),
    ] {
        let mut play = Play::default();
        play.run(&[(0, "ask k a 100", "granted")]);
        play.run(&[(10, "release k a 500 t x y", "woken")]);
        assert_eq!(play.call(20, "ask k b 100"), "backing off 490", "{what}");
        play.call(20, what);
        assert_eq!(play.call(20, "held k"), if ends { "Free" } else { "BackingOff(490)" }, "{what}");
        assert_eq!(play.call(20, "ask k b 100"), if ends { "granted" } else { "backing off 490" }, "{what}");
        play.call(21, "flush");
        play.run(&[(21, "tags z", "0"), (21, "counts", "0 held, 0 backing off, 0 waiting")]);
        assert_eq!(play.leases.bytes(), 0, "{what}");
    }
}

#[test]
fn there_are_no_more_than_fit_the_bytes() {
    let mut play = Play { bytes: 1_000, ..Play::default() };
    play.run(&[(0, "ask k1 a 100", "granted"), (0, "ask k2 b 100", "granted"), (0, "ask k3 c 100", "granted")]);
    play.run(&[(0, "ask k4 d 100", "full"), (0, "ask k1 d 100", "held 100"), (1, "store k2 b t", "stored in 1:")]);
    let long = format!("ask {} d 100", "k".repeat(1_000));
    assert_eq!(play.call(1, &long), "full");
    play.run(&[(1, "ask k4 d 100", "granted"), (2, "release k4 d 500 t x", "woken"), (3, "ask k5 e 100", "full")]);
}

#[test]
fn what_a_key_that_backs_off_is_counts_too_and_without_room_for_it_any_invalidation_means_the_key() {
    let long = "x".repeat(500);
    for (bytes, means_all) in [(1_200, false), (800, true)] {
        let mut play = Play { bytes, ..Play::default() };
        play.run(&[(0, "ask k a 100", "granted"), (0, "ask l b 100", "granted")]);
        assert_eq!(play.call(0, &format!("release k a 500 t {long}")), "woken");
        assert!(play.leases.bytes() <= bytes);
        play.run(&[(0, "held k", "BackingOff(500)"), (0, "tags other", "1")]);
        assert_eq!(play.call(0, "held k"), if means_all { "Free" } else { "BackingOff(500)" });
        play.call(0, &format!("tags {long}"));
        play.run(&[(0, "held k", "Free")]);
    }
}

#[test]
fn nobody_has_more_than_its_share() {
    let mut play = Play { each: 2, ..Play::default() };
    play.run(&[
        (0, "ask k1 a 100 1", "granted"),
        (0, "ask k2 b 50 1", "granted"),
        (0, "ask k3 c 100 1", "full"),
        (0, "ask k3 c 100 2", "granted"),
        (0, "ask k1 a 100 1", "again"),
        // Backing off counts.
        (1, "release k1 a 60", "woken"),
        (1, "ask k4 d 100 1", "full"),
        (50, "expire", "woken"),
        (50, "ask k4 d 100 1", "granted"),
        (51, "ask k5 e 100 1", "full"),
        (52, "store k4 d t", "stored in 2:"),
        (52, "ask k5 e 100 1", "granted"),
        (52, "flush", "flushed:"),
        (53, "ask k5 e 100 1", "granted"),
        (53, "ask k6 f 100 1", "granted"),
    ]);
    assert_eq!([1, 2].map(|owner| play.leases.owned_len(owner)), [2, 0]);
}

#[test]
fn there_are_no_more_than_the_limit() {
    let mut play = Play { limit: 2, ..Play::default() };
    play.run(&[
        (0, "ask k1 a 100", "granted"),
        (0, "ask k2 b 100", "granted"),
        (0, "ask k3 c 100", "full"),
        (0, "ask k1 c 100", "held 100"),
        (1, "wait k1 1 50", "true"),
        (2, "release k1 a 0", "woken 1A"),
        (2, "ask k3 c 100", "full"),
        (3, "release k1 A 10", "woken"),
        (3, "ask k3 c 100", "full"),
        (13, "expire", "woken"),
        (13, "ask k3 c 100", "granted"),
        (100, "ask k2 d 100", "granted"),
    ]);
}

#[test]
fn a_flush_ends_everything() {
    Play::default().run(&[
        (0, "ask k1 a 100", "granted"),
        (0, "ask k2 b 100", "granted"),
        (0, "ask k3 c 100", "granted"),
        (0, "wait k1 1 50", "true"),
        (0, "wait k2 2", "true"),
        (0, "release k3 c 500", "woken"),
        (0, "tags x", "1"),
        (1, "flush", "flushed: 1 2"),
        (1, "tags x", "0"),
        (1, "counts", "0 held, 0 backing off, 0 waiting"),
        (1, "next", "None"),
        (1, "store k1 a t", "LeaseLost"),
        (1, "ask k3 d 100", "granted"),
        (1, "store k3 d t x", "stored in 0:"),
    ]);
}

#[test]
fn what_was_invalidated_since_the_lease_was_granted_is_not_stored() {
    for (invalidation, store, outcome) in [
        ("tags x y", "store k a t y", "fenced, woken"),
        ("tags x y", "store k a t z", "stored in 10:"),
        ("tags x y", "store k a t", "stored in 10:"),
        ("tags x y", "store k a x", "stored in 10:"),
        ("type t", "store k a t", "fenced, woken"),
        ("type t", "store k a u", "stored in 10:"),
        ("all-of x y", "store k a t y z x", "fenced, woken"),
        ("all-of x y", "store k a t y", "stored in 10:"),
        ("key k", "store k a t", "fenced, woken"),
        ("key l", "store k a t", "stored in 10:"),
        ("everything", "store k a t", "fenced, woken"),
        ("lost other", "store k a t", "stored in 10:"),
        ("lost k", "store k a t", "LeaseLost"),
    ] {
        let mut play = Play::default();
        play.run(&[(0, "ask k a 100", "granted")]);
        play.call(5, invalidation);
        play.run(&[(10, store, outcome), (10, "counts", "0 held, 0 backing off, 0 waiting")]);
        assert_eq!(play.leases.fences_len(), 0, "{invalidation}");

        // The same before the lease was granted is no matter.
        let mut play = Play::default();
        play.run(&[(0, "ask old o 100", "granted")]);
        play.call(0, invalidation);
        play.run(&[(0, "ask k a 100", "granted"), (10, store, "stored in 10:")]);
    }
}

#[test]
fn fences_are_kept_as_long_as_a_lease_could_need_them() {
    let mut play = Play::default();
    play.run(&[
        (0, "tags x", "0"),
        (0, "type t", "0"),
        (0, "ask k1 a 100", "granted"),
        (0, "tags x y", "2"),
        (0, "tags y x", "2"),
        (0, "all-of x y", "2"),
        (0, "all-of x y", "2"),
        (0, "ask k2 b 50", "granted"),
        (0, "type t", "3"),
        (0, "type t", "3"),
        (0, "tags x", "3"),
        (0, "ask k3 c 200", "granted"),
        (50, "expire", "woken"),
        (50, "tags z", "3"),
        // The oldest goes, and with it all from before k3, except names that happen to be kept together with a later one.
        (60, "store k1 a u v", "stored in 60:"),
    ]);
    assert!(["1", "2"].contains(&play.call(60, "type v").as_str()));
    let mut kept = (0..9).map(|n| {
        play.call(60, "flush");
        play.run(&[(60, "ask k1 a 100", "granted"), (60, "tags x y", "2"), (60, "ask k3 c 200", "granted")]);
        play.run(&[(60, "tags z", "3"), (60, "store k1 a u v", "stored in 0:")]);
        play.call(60, &format!("tags z{n}"))
    });
    assert!(kept.any(|kept| kept == "2"));
    play.run(&[(60, "store k3 c t x", "stored in 0:"), (60, "tags z", "0")]);
}

#[test]
fn past_the_bound_tags_are_remembered_all_the_same() {
    let mut play = Play { bound: 2, ..Play::default() };
    play.run(&[
        (0, "ask k1 a 100", "granted"),
        (0, "ask k2 b 100", "granted"),
        (0, "tags x", "1"),
        (0, "tags y", "2"),
        (0, "ask k3 c 100", "granted"),
        (0, "tags w v", "4"),
        (1, "store k1 a t x", "fenced, woken"),
        (1, "store k2 b t z", "stored in 1:"),
        (1, "store k3 c t x y", "stored in 1:"),
        // Counts as three: what it hits bears p.
        (2, "ask k4 d 100", "granted"),
        (2, "ask k5 e 100", "granted"),
        (2, "all-of p q r", "1"),
        (3, "store k4 d t q r", "stored in 1:"),
        (3, "store k5 e t p", "fenced, woken"),
    ]);
}

#[test]
fn however_many_names_one_invalidates_others_are_not_fenced_by_them() {
    let mut play = Play { bound: 100, ..Play::default() };
    play.run(&[(0, "ask k1 a 100", "granted"), (0, "ask k2 b 100", "granted"), (0, "tags mine", "1")]);
    let many: Vec<String> = (0..2_000).map(|n| format!("acme:{n}")).collect();
    play.leases.fence_tags(many.iter().map(|tag| tag.as_bytes()), 100);
    play.run(&[(1, "store k1 a t other", "stored in 1:"), (1, "store k2 b t mine", "fenced, woken")]);
    for name in &many {
        play.call(2, "ask k c 100");
        play.leases.fence_tags(many.iter().map(|tag| tag.as_bytes()).take(200), 100);
        let stored = play.call(2, &format!("store k c t {name}"));
        let is_among = many[..200].contains(name);
        assert_eq!(stored.starts_with("fenced"), is_among, "{name}: {stored}");
        if name.ends_with("400") {
            break;
        }
    }
}

#[test]
fn selectors_that_are_not_needed_any_more_go_a_few_at_a_time() {
    let mut play = Play::default();
    play.run(&[(0, "ask k1 a 100", "granted")]);
    (0..200).for_each(|n| _ = play.call(0, &format!("type t{n}")));
    play.run(&[(0, "ask k2 b 100", "granted"), (0, "type t", "201"), (0, "store k1 a u", "stored in 0:")]);
    play.run(&[(0, "type t", "137"), (0, "ask k1 a 100", "granted"), (0, "store k1 a u", "stored in 0:")]);
    play.run(&[
        (0, "type t", "73"),
        (0, "store k2 b t", "fenced, woken"),
        (0, "ask k1 a 9", "granted"),
        (0, "type t", "1"),
    ]);
}

#[test]
fn what_is_much_is_put_aside() {
    let tags = (0..2_000).map(|n| format!(" t{n}")).collect::<String>();
    for (many, expected) in [(true, 1), (false, 0)] {
        let mut play = Play { limit: NO_BOUND, ..Play::default() };
        play.run(&[(0, "ask k1 a 100", "granted")]);
        play.call(0, if many { &tags } else { " x" }.replacen(' ', "tags ", 1).as_str());
        play.run(&[(0, "everything", "0")]);
        assert_eq!(play.leases.take_aside().len(), expected, "fences");
        (0..if many { 2_000 } else { 2 }).for_each(|n| _ = play.call(0, &format!("ask l{n} a 100")));
        play.run(&[(0, "flush", "flushed:"), (0, "flush", "flushed:")]);
        assert_eq!(play.leases.take_aside().len(), expected, "records");
    }
}

#[test]
fn past_the_bound_of_selectors_without_tags_the_oldest_leases_are_fenced_from_everything() {
    let mut play = Play { bound: 2, ..Play::default() };
    play.run(&[
        (0, "ask k1 a 100", "granted"),
        (0, "type u", "1"),
        (0, "ask k2 b 100", "granted"),
        (0, "type v", "2"),
        (0, "type w", "2"),
        (1, "store k2 b t z", "stored in 1:"),
        (1, "store k1 a t z", "fenced, woken"),
    ]);
}

#[test]
fn who_asks_again_with_the_token_that_holds_the_lease_is_given_it_again() {
    Play::default().run(&[
        (0, "ask k a 100", "granted"),
        (10, "tags x", "1"),
        (50, "ask k a 100", "again"),
        (60, "ask k b 100", "held 90"),
        (60, "next", "Some(150)"),
        // Nobody knows when its production began, so it is as old as it can be.
        (70, "store k a t x", "fenced, woken"),
        (80, "ask k a 10", "granted"),
        (90, "ask k a 100", "granted"),
        (95, "ask k a 1", "again"),
        (95, "store k a t x", "stored in 5:"),
        (96, "release k a 0", "not theirs"),
    ]);
}

#[test]
fn who_waits_twice_with_one_token_gets_the_lease_twice() {
    let mut play = Play::default();
    play.run(&[(0, "ask k a 100", "granted")]);
    let wish = |letter, duration_ms| Some(Wish { token: token(letter), duration_ms, owner: 0 });
    for (waiter, wish) in [(1, None), (2, wish("b", 50)), (3, wish("c", 50)), (4, wish("b", 60))] {
        assert!(play.leases.wait(b"k", waiter, wish));
    }
    play.run(&[
        (10, "release k a 0", "woken 1 2b 3 4b"),
        (10, "ask k b 70", "again"),
        (20, "store k b t", "stored in 10:"),
        (20, "counts", "0 held, 0 backing off, 0 waiting"),
    ]);
}

#[test]
fn tokens_come_back_from_their_bytes() {
    for (token, text) in [
        (0, "00000000000000000000000000000000"),
        (0x0123_4567_89AB_CDEF_0000_0000_0000_00FF, "0123456789abcdef00000000000000ff"),
        (u128::MAX, "ffffffffffffffffffffffffffffffff"),
    ] {
        assert_eq!(Token::from(token).as_bytes(), text.as_bytes());
        assert_eq!(Token::parse(text.as_bytes()), Some(Token::from(token)));
    }
    for len in 0..100 {
        let bytes: Vec<u8> = (0..len).map(|n| 255 - n).collect();
        let token = Token::parse(&bytes);
        assert_eq!(token.is_some(), (16..=64).contains(&len), "{len} bytes");
        assert!(token.is_none_or(|token| token.as_bytes() == bytes), "{len} bytes");
    }
    assert_ne!(Token::parse(&[0; 16]), Token::parse(&[0; 17]));
}
