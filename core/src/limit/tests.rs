//! GCRA as a table of (time, call, expected), and against an exact token bucket.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use fastrand::Rng;

use super::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const YEAR_US: u64 = 366 * DAY_MS * 1000;
/// Some day in 2026.
const T0_US: u64 = 1_790_000_000_000_000;

fn policy(count: u64, period_ms: u64, burst: u64) -> Policy {
    Policy::new(count, period_ms, Some(burst)).unwrap()
}

/// A key under limits, and a clock.
#[derive(Default)]
struct Key {
    bytes: Option<(Vec<u8>, u64)>,
}

impl Key {
    fn call(&mut self, policies: &[Policy], cost: i64, now_us: u64) -> Outcome {
        // As the server does: what is over is not there.
        if self.bytes.as_ref().is_some_and(|(_, until_ms)| now_us / 1000 >= *until_ms) {
            self.bytes = None;
        }
        let state = self.bytes.as_ref().map_or_else(State::default, |(bytes, _)| State::parse(bytes).unwrap());
        let outcome = throttle(policies, &state, cost, now_us);
        match &outcome.change {
            Some(Change::Store { state, until_ms }) => self.bytes = Some((state.to_bytes().to_vec(), *until_ms)),
            Some(Change::Delete) => self.bytes = None,
            None => (),
        }
        outcome
    }
}

/// One policy: when (ms), cost, and what is said: allowed, remaining, retry, reset.
type Row = (u64, i64, bool, u64, Option<u64>, u64);

fn table(policy: Policy, rows: &[Row]) {
    let mut key = Key::default();
    for (row, &(at_ms, cost, is_allowed, remaining, retry_ms, reset_ms)) in rows.iter().enumerate() {
        let outcome = key.call(&[policy], cost, T0_US + at_ms * 1000);
        let limit = policy.burst.into();
        assert_eq!(outcome.is_allowed, is_allowed, "row {row}");
        assert_eq!(outcome.verdicts.as_slice(), [Verdict { limit, remaining, retry_ms, reset_ms }], "row {row}");
    }
}

#[test]
fn calls_are_spread_and_a_burst_is_had_at_once() {
    table(
        policy(10, 1000, 3),
        &[
            (0, 1, true, 2, Some(0), 100),
            (0, 1, true, 1, Some(0), 200),
            (0, 1, true, 0, Some(0), 300),
            (0, 1, false, 0, Some(100), 300),
            (50, 1, false, 0, Some(50), 250),
            (99, 1, false, 0, Some(1), 201),
            (100, 1, true, 0, Some(0), 300),
            (250, 1, true, 0, Some(0), 250),
            (450, 2, true, 0, Some(0), 250),
            (10_000, 3, true, 0, Some(0), 300),
        ],
    );
}

#[test]
fn costs_larger_and_smaller() {
    table(
        policy(5, 1000, 5),
        &[
            (0, 3, true, 2, Some(0), 600),
            (0, 3, false, 2, Some(200), 600), // nothing is taken
            (0, 2, true, 0, Some(0), 1000),
            (0, 6, false, 0, None, 1000), // never
            (0, 0, false, 0, Some(200), 1000),
            (200, 0, true, 1, Some(0), 800), // a look takes nothing
            (200, 0, true, 1, Some(0), 800),
            (200, -2, true, 3, Some(0), 400),
            (200, -9, true, 5, Some(0), 0), // never beyond full
            (200, -1, true, 5, Some(0), 0),
            (200, 5, true, 0, Some(0), 1000),
            (200, i64::MAX, false, 0, None, 1000),
            (200, i64::MIN, true, 5, Some(0), 0),
        ],
    );
}

#[test]
fn a_third_of_a_second_three_times_is_a_second() {
    table(
        policy(3, 1000, 3),
        &[
            (0, 3, true, 0, Some(0), 1000),
            (333, 1, false, 0, Some(1), 667),
            (334, 1, true, 0, Some(0), 1000),
            (667, 1, true, 0, Some(0), 1000),
            (1000, 1, true, 0, Some(0), 1000),
            (2000, 3, true, 0, Some(0), 1000), // and no nanosecond is lost
        ],
    );
}

#[test]
fn a_clock_that_steps_back_leaves_the_limit_used_up_and_no_worse() {
    let (policy, mut key) = (policy(10, 1000, 10), Key::default());
    key.call(&[policy], 10, T0_US + 3_600_000_000);
    let outcome = key.call(&[policy], 1, T0_US);
    assert_eq!(
        (outcome.is_allowed, outcome.verdicts[0].retry_ms, outcome.verdicts[0].reset_ms),
        (false, Some(100), 1000)
    );
}

#[test]
fn all_allow_or_nothing_is_charged() {
    let (second, minute) = (policy(10, 1000, 10), policy(12, 60_000, 12));
    let mut key = Key::default();
    let outcome = key.call(&[second, minute], 10, T0_US);
    assert_eq!((outcome.is_allowed, outcome.tightest), (true, 0)); // 0 left of the second's, 2 of the minute's
    let before = key.bytes.clone();
    let outcome = key.call(&[second, minute], 3, T0_US + 1_000_000);
    assert_eq!((outcome.is_allowed, outcome.tightest, outcome.change), (false, 1, None));
    assert_eq!(
        outcome.verdicts.iter().map(|v| (v.remaining, v.retry_ms)).collect::<Vec<_>>(),
        [(10, Some(0)), (2, Some(4000))]
    );
    assert_eq!(key.bytes, before);
    let outcome = key.call(&[minute, second], 2, T0_US + 1_000_000);
    assert_eq!((outcome.is_allowed, outcome.tightest, outcome.verdicts[1].remaining), (true, 0, 8)); // in whatever order
}

#[test]
fn the_first_of_equals_is_the_tightest_and_never_is_the_longest() {
    let (a, b) = (policy(1, 1000, 2), policy(2, 2000, 2));
    let mut key = Key::default();
    assert_eq!(key.call(&[a, b], 1, T0_US).tightest, 0);
    assert_eq!(key.call(&[a, b], 2, T0_US).tightest, 0);
    assert_eq!(key.call(&[policy(1, DAY_MS, 9), a], 5, T0_US).tightest, 1);
}

#[test]
fn a_new_policy_starts_full_and_one_left_out_is_forgotten() {
    let (a, b, c) = (policy(5, 1000, 5), policy(5, DAY_MS, 5), policy(6, 1000, 6));
    let mut key = Key::default();
    key.call(&[a, b], 2, T0_US);
    let outcome = key.call(&[c, b], 0, T0_US);
    assert_eq!(outcome.verdicts.iter().map(|v| v.remaining).collect::<Vec<_>>(), [6, 3]);
    assert_eq!(key.call(&[a], 0, T0_US).verdicts[0].remaining, 3, "a look forgets nothing");
    key.call(&[c, b], 1, T0_US);
    assert_eq!(key.call(&[a], 0, T0_US).verdicts[0].remaining, 5);
}

#[test]
fn what_is_kept_ends_when_all_is_full() {
    let (a, b) = (policy(5, 1000, 5), policy(1, 60_000, 5));
    let mut key = Key::default();
    let outcome = key.call(&[a, b], 1, T0_US + 1);
    let Some(Change::Store { until_ms, .. }) = outcome.change else { panic!("stored") };
    assert_eq!(until_ms, T0_US / 1000 + 60_001); // never too early
    assert_eq!(key.call(&[a, b], -1, T0_US + 2).change, Some(Change::Delete));
    assert_eq!(key.call(&[a, b], -1, T0_US + 2).change, None);
}

#[test]
fn bounds_of_a_policy() {
    let most = MAX_COUNT;
    for (count, period_ms, burst, is_good) in [
        (1, 1, None, true),
        (0, 1, None, false),
        (1, 0, None, false),
        (1, 1, Some(0), false),
        (most, 1000, None, true),
        (most, 999, None, false), // less than a nanosecond each
        (1_000_000, 1, None, true),
        (1_000_001, 1, None, false),
        (most + 1, DAY_MS, None, false),
        (u64::MAX, DAY_MS, None, false),
        (1, DAY_MS, Some(most + 1), false),
        (1, 366 * DAY_MS, Some(10), true),
        (1, 366 * DAY_MS, Some(11), false),
        (1, 366 * DAY_MS + 1, None, false),
        (1, u64::MAX, None, false),
        (most, 366 * DAY_MS, Some(most), true),
    ] {
        let policy = Policy::new(count, period_ms, burst);
        assert_eq!(policy.is_ok(), is_good, "{count} per {period_ms} ms, burst {burst:?}: {policy:?}");
    }
}

#[test]
fn only_what_was_written_is_read() {
    let ahead = [(policy(3, 1000, 3), 7), (policy(1, 5, 2), i128::from(u64::MAX) - 9)];
    let state = State::after(9, ahead.into_iter());
    let bytes = state.to_bytes();
    assert_eq!(State::parse(&bytes), Ok(state));
    for cut in 0..bytes.len() {
        let is_whole = cut == 8 + 28;
        assert_eq!(State::parse(&bytes[..cut]).is_ok(), is_whole, "{cut}");
    }
    let long: Vec<u8> = [&bytes[..], &bytes[8..].repeat(4)].concat();
    assert!(State::parse(&long).is_err(), "more than eight");
    for foreign in [&b""[..], b"12", b"\0explim\x01", b"\0explim\x02aaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        assert!(State::parse(foreign).is_err());
    }
    let mut rng = Rng::with_seed(7);
    for _ in 0..100_000 {
        let mut bytes = bytes.clone();
        let at = rng.usize(..bytes.len());
        bytes[at] = rng.u8(..);
        if let Ok(state) = State::parse(&bytes) {
            assert_eq!(state.to_bytes(), bytes, "read means: written so");
            throttle(&[policy(3, 1000, 3)], &state, 1, T0_US);
        }
    }
}

/// A token bucket, exact: its level in tokens is `filled / period_ns`.
struct Bucket {
    policy: Policy,
    filled: i128,
    at_us: u64,
}

impl Bucket {
    fn full(&self) -> i128 {
        i128::from(self.policy.burst) * self.policy.period_ns()
    }

    fn pass(&mut self, now_us: u64) {
        let gained = i128::from(now_us - self.at_us) * 1000 * self.policy.ticks_per_ns();
        (self.filled, self.at_us) = ((self.filled + gained).min(self.full()), now_us);
    }

    fn takes(&self, cost: u64) -> bool {
        self.filled >= i128::from(cost) * self.policy.period_ns()
    }
}

fn random_policy(rng: &mut Rng) -> Policy {
    loop {
        let log = |rng: &mut Rng, most: u64| (rng.f64() * (most as f64).ln()).exp() as u64;
        let (count, period, burst) = match rng.u8(..10) {
            0 => (MAX_COUNT, MAX_PERIOD_MS, MAX_COUNT),
            1 => (1_000_000, 1, MAX_COUNT),
            2 => (1, MAX_PERIOD_MS, 10),
            _ => (log(rng, MAX_COUNT), log(rng, MAX_PERIOD_MS), log(rng, 1000)),
        };
        if let Ok(policy) = Policy::new(count, period, Some(burst)) {
            return policy;
        }
    }
}

/// A million calls of random cost, at random times, under one to eight random policies.
#[test]
fn it_is_the_token_bucket() {
    const ROUNDS: u64 = 10_000;
    for seed in 0..ROUNDS {
        let mut rng = Rng::with_seed(seed);
        let mut policies: Each<Policy> = Each::new();
        for _ in 0..rng.usize(1..=MAX_POLICIES) {
            let policy = random_policy(&mut rng);
            if !policies.contains(&policy) {
                policies.push(policy);
            }
        }
        let mut now_us = T0_US + rng.u64(..YEAR_US);
        let mut buckets: Vec<Bucket> =
            policies.iter().map(|&policy| Bucket { policy, filled: i128::MAX / 2, at_us: now_us }).collect();
        let mut key = Key::default();
        for _ in 0..100 {
            let step = match rng.u8(..4) {
                0 => 0,
                1 => rng.u64(..2000),
                2 => rng.u64(..2_000_000),
                _ => (rng.f64() * (YEAR_US as f64).ln()).exp() as u64,
            };
            now_us += step;
            let burst = u64::from(policies[rng.usize(..policies.len())].burst);
            let cost = match rng.u8(..8) {
                0 => 0,
                1 => -(rng.u64(..=burst) as i64),
                2 => burst as i64 + rng.i64(0..2),
                3 => rng.i64(..),
                _ => rng.u64(1..=burst.min(5)) as i64,
            };
            buckets.iter_mut().for_each(|bucket| bucket.pass(now_us));
            compare(&mut buckets, &key.call(&policies, cost, now_us), cost, now_us, seed);
        }
    }
}

fn compare(buckets: &mut [Bucket], outcome: &Outcome, cost: i64, now_us: u64, seed: u64) {
    let asked = if cost == 0 { 1 } else { cost.max(0) as u64 };
    assert_eq!(outcome.is_allowed, buckets.iter().all(|bucket| bucket.takes(asked)), "round {seed}");
    for (bucket, verdict) in buckets.iter_mut().zip(&outcome.verdicts) {
        if outcome.is_allowed && cost != 0 {
            let filled = bucket.filled - i128::from(cost) * bucket.policy.period_ns();
            bucket.filled = filled.min(bucket.full());
        }
        assert_eq!(i128::from(verdict.remaining), bucket.filled / bucket.policy.period_ns(), "round {seed}");
        // What is said of later holds: one millisecond before it is not so, then it is.
        let later = |ms: u64| {
            let mut later = Bucket { policy: bucket.policy, filled: bucket.filled, at_us: now_us };
            later.pass(now_us + ms * 1000);
            later
        };
        let is_full = |ms| later(ms).filled == bucket.full();
        assert!(is_full(verdict.reset_ms) && (verdict.reset_ms == 0 || !is_full(verdict.reset_ms - 1)), "round {seed}");
        if !outcome.is_allowed {
            match verdict.retry_ms {
                Some(ms) => assert!(later(ms).takes(asked) && (ms == 0 || !later(ms - 1).takes(asked)), "round {seed}"),
                None => assert!(asked > bucket.policy.burst.into(), "round {seed}"),
            }
        }
    }
}
