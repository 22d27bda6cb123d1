//! Hostile and random input to the pure parts of the cache, one file a subject. Each test runs a short form in `make test`
//! and goes on for as long as `EXPCACHE_FUZZ_SECONDS` says in `make fuzz`.
//!
//! Every round has a seed of its own. A failure prints it; `EXPCACHE_FUZZ_SEED=n` plays that round alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

/// Plays `round` with one seed after another: `short` times, or until the time is up.
pub fn fuzz(short: u64, mut round: impl FnMut(&mut Rng)) {
    let mut play = |seed: u64| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| round(&mut Rng::with_seed(seed)))) {
            eprintln!("failed with EXPCACHE_FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
    };
    if let Some(seed) = number("EXPCACHE_FUZZ_SEED") {
        return play(seed);
    }
    let Some(seconds) = number("EXPCACHE_FUZZ_SECONDS") else {
        return (0..short).for_each(play);
    };
    let start = Instant::now();
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        play(first.wrapping_add(rounds));
        rounds += 1;
    }
    eprintln!("{rounds} rounds in {seconds} s");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|why| panic!("{variable}: {why}")))
}

mod decode;
mod glob;
mod moments;
mod rules;
