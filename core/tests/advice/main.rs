//! The estimator of hit rates against an exact simulation: the short form of `make advise`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "the program needs more of it")]

#[path = "../../examples/replay/play.rs"]
mod play;
#[path = "../../examples/replay/warming.rs"]
mod warming;
#[path = "../../examples/replay/workload.rs"]
mod workload;

use std::collections::HashMap;

use expcache_core::advice::{Details, Estimator, Outcome, Salt, Stored, TTLS, TagTimes, moment, ttl_ms};
use play::{Applied, Play, apply};
use warming::Cache;
use workload::{DIURNAL, Workload, mix};

const KEYS: usize = 2304;
/// The number of the lifetime of an hour.
const HOUR: usize = 13;

#[test]
fn an_hour_is_one_of_the_lifetimes() {
    assert_eq!(ttl_ms(HOUR), 3_600_000);
}

/// A tenth of the reads of a workload that is held to the same bounds in full by `make advise`.
fn is_close(skew: f64, keys: usize, renames: bool) {
    let mut play = Play::new(KEYS, 1..=2, HOUR, false);
    let workload = Workload { skew, keys, renames, reads: 200_000, changes_h: 24.0 };
    workload.events(3).for_each(|event| play.step(&event));
    for errors in play.errors() {
        assert!(errors.all <= 3.0 && errors.near <= 1.0, "{skew} {keys} {renames}: {errors:?}");
    }
    for (estimator, _) in play.estimators() {
        assert!(estimator.size_bytes() <= 350 << 10, "{} bytes", estimator.size_bytes());
    }
}

#[test]
fn a_few_keys_that_carry_most_of_the_traffic_are_estimated_well() {
    is_close(1.2, 100_000, true);
}

#[test]
fn many_keys_of_about_the_same_weight_are_estimated_well() {
    is_close(0.7, 20_000, false);
}

#[test]
fn few_keys_are_all_followed_and_known_exactly() {
    let mut play = Play::new(KEYS, 1..=1, HOUR, false);
    Workload { skew: 0.9, keys: 200, renames: false, reads: 100_000, changes_h: 24.0 }
        .events(3)
        .for_each(|event| play.step(&event));
    for errors in play.errors() {
        assert!(errors.all <= 0.2, "{errors:?}");
    }
}

/// A tenant who names a million keys once each takes no more memory, and does not make others unknown.
#[test]
fn keys_that_are_asked_for_once_take_no_more_than_there_is() {
    let (mut estimator, tags) = (Estimator::new(KEYS, moment(0)), TagTimes::default());
    for step in 0..1_000_000u64 {
        let now = moment(step);
        estimator.read(mix(step), now, Outcome::Cold, &tags);
        if step % 10 == 0 {
            estimator.read(mix(u64::MAX - step / 10 % 50), now, Outcome::Fresh, &tags);
        }
    }
    assert!(estimator.size_bytes() <= 350 << 10, "{} bytes", estimator.size_bytes());
    let (rates, _) = estimator.rates();
    // 50 keys have a read each half a second or so, all others miss always.
    assert!((rates[TTLS - 1] - 1.0 / 11.0).abs() < 0.01, "{rates:?}");
}

/// Everything is invalidated in one database, and some keys are deleted.
#[test]
fn what_is_gone_is_gone_at_every_lifetime_and_only_that() {
    let (mut estimator, tags, salt) = (Estimator::new(KEYS, moment(0)), TagTimes::default(), Salt::default());
    let hash = |index: u16, key: u64| salt.key(index, &key.to_le_bytes());
    let read = |estimator: &mut Estimator, index, seconds: u64| {
        for key in 0..100 {
            estimator.read(hash(index, key), moment(seconds * 1000), Outcome::Cold, &tags);
        }
        estimator.rates().0[TTLS - 1]
    };
    read(&mut estimator, 1, 0);
    read(&mut estimator, 2, 0);
    for second in 1..8 {
        read(&mut estimator, 1, second);
    }
    let before = read(&mut estimator, 1, 8);
    // A thousand reads, of which the first of each key missed.
    assert!((before - 0.8).abs() < 0.01, "{before}");
    estimator.clear(2, moment(8_500));
    let other = read(&mut estimator, 1, 9);
    assert!(other > before, "another database is no business of theirs: {other}");
    estimator.clear(1, moment(9_500));
    let own = read(&mut estimator, 1, 10);
    assert!(own < other - 0.05, "{own}");
    let again = read(&mut estimator, 1, 11);
    (0..100).for_each(|key| estimator.deleted(hash(1, key)));
    assert!(again > own && read(&mut estimator, 1, 12) < again - 0.04);
}

/// Of a value that is handed out several times in one moment some times stand for the others.
#[test]
fn reads_that_change_nothing_but_counts_stand_for_others() {
    let (mut each, mut some) = (Estimator::new(KEYS, moment(0)), Estimator::new(KEYS, moment(0)));
    let (tags, mut rng) = (TagTimes::default(), fastrand::Rng::with_seed(2));
    let (mut filled, mut read) = (HashMap::new(), HashMap::new());
    let value = Stored { lifetime_ms: 25_000, size: 100, cost_ms: None, has_own_lifetime: false, has_lease: true };
    let mut hashes = 0;
    for step in 0..300_000u64 {
        let now = moment(step / 5);
        // As many keys of each order of magnitude, up to ten thousand.
        let hash = mix(10_f64.powf(4.0 * rng.f64()) as u64);
        let fill = filled.entry(hash).or_insert(now - 250);
        let outcome = if now - *fill >= 250 { Outcome::Expired } else { Outcome::Fresh };
        each.read(hash, now, outcome, &tags);
        let mut count = || {
            hashes += 1;
            hash
        };
        match outcome == Outcome::Fresh && read.insert(hash, now) == Some(now) {
            true => some.read_again(&mut count, now, &tags),
            false => some.read(count(), now, outcome, &tags),
        }
        if outcome != Outcome::Fresh {
            (*fill, _) = (now, read.remove(&hash));
            for one in [&mut each, &mut some] {
                one.stored(hash, now, value, &tags, Details::default);
            }
        }
        if step % 500 == 499 {
            each.turn(now);
            some.turn(now);
        }
    }
    assert!(hashes < 200_000, "{hashes}");
    assert!((each.reads() - some.reads()).abs() < 20.0, "{} {}", each.reads(), some.reads());
    let rates = each.rates().0.into_iter().zip(some.rates().0);
    assert!(rates.clone().all(|(each, some)| (each - some).abs() < 0.002), "{:?}", rates.collect::<Vec<_>>());
}

/// What is asked for no more is forgotten, and others are followed in its place.
#[test]
fn what_was_busy_weeks_ago_makes_room() {
    let (mut estimator, tags) = (Estimator::new(KEYS, moment(0)), TagTimes::default());
    const DAY_MS: u64 = 24 * 3_600_000;
    for day in 0..30 {
        for step in 0..40_000u64 {
            let now_ms = day * DAY_MS + step * 2_000;
            // Each day has keys of its own, each asked for twice.
            estimator.read(mix((day << 32) | (step / 2)), moment(now_ms), Outcome::Cold, &tags);
            estimator.turn(moment(now_ms));
        }
    }
    let (rates, _) = estimator.rates();
    assert!((rates[TTLS - 1] - 0.5).abs() < 0.03 && (rates[0] - 0.5).abs() < 0.03, "{rates:?}");
}

/// What is forecast for a lifetime is what comes of it.
#[test]
fn a_lifetime_that_is_advised_keeps_what_it_promised() {
    let workload = Workload { skew: 0.9, keys: 20_000, renames: false, reads: 200_000, changes_h: 720.0 };
    let mut play = Play::new(KEYS, 1..=1, HOUR, false);
    workload.events(3).for_each(|event| play.step(&event));
    let advised = play.advised().expect("that more would hit with a longer lifetime");
    let Applied { ttl_ms, forecast, measured } = apply(workload, 4, advised);
    assert!(ttl_ms > 3_600_000, "{ttl_ms}");
    assert!((forecast - measured).abs() < 0.03, "{forecast} {measured} at {ttl_ms}");
}

/// Workers that keep a cache warm spare those who ask most of the waiting, and produce hardly more than is asked for.
#[test]
fn warming_is_worth_it() {
    // A quarter of what `make advise` plays.
    let workload = Workload { keys: 500, reads: 500_000, ..DIURNAL };
    let [without, with] = [0, 275].map(|best| {
        let mut cache = Cache::new(best, 8);
        workload.events(1).for_each(|event| cache.step(&event));
        cache.outcome
    });
    assert!(with.warmed_hits >= 0.8 * with.warmed && with.warmed > 5_000.0, "{with:?}");
    assert!(with.productions < 1.15 * without.productions, "{with:?} {without:?}");
    assert!(with.misses <= 0.5 * without.misses, "{with:?} {without:?}");
}
