//! How well the hit rates at other lifetimes are estimated: for each workload, and each of some salts, the greatest error over all lifetimes
//! against an exact simulation.
//!
//! ```text
//! cargo run --release -p expcache-core --example replay                the ten workloads that are generated, four salts each
//! cargo run --release -p expcache-core --example replay FILE [TTL]     a recorded trace, as `workload::trace` reads it; values live for TTL
//! ```
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a program for the console")]

mod play;
mod workload;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use expcache_core::advice::{TTLS, ttl_ms};
use expcache_core::units::{UnitRule, format_duration, parse_duration_ms};

use crate::play::Play;
use crate::workload::{TEN, trace};

/// How many keys a type follows unless it is configured.
const KEYS: usize = 2304;
const SALTS: u64 = 4;
const HOUR_MS: u64 = 3_600_000;
/// The bounds, in hundredths: at any lifetime, and near the one in force.
const MOST: (f64, f64) = (3.0, 1.0);

fn main() {
    let mut args = std::env::args().skip(1);
    println!(
        "workload                       salt   error  near  said  bytes  (error: the greatest over {TTLS} lifetimes, in hundredths)"
    );
    let is_well = match args.next() {
        Some(path) => {
            let ttl = args.next().unwrap_or_else(|| "1h".into());
            recorded(&path, parse_duration_ms(ttl.as_bytes(), UnitRule::Required).expect("a lifetime with its unit"))
        }
        None => generated(),
    };
    if !is_well {
        println!(
            "over the bounds: {} at any lifetime, {} from a quarter to four times the one in force",
            MOST.0, MOST.1
        );
        std::process::exit(1);
    }
}

/// The number of the lifetime that is nearest.
fn number_of(wanted_ms: u64) -> usize {
    (0..TTLS).min_by_key(|at| ttl_ms(*at).abs_diff(wanted_ms)).unwrap_or(0)
}

fn generated() -> bool {
    let mut is_well = true;
    for workload in TEN {
        let mut play = Play::new(KEYS, 1..=SALTS, number_of(HOUR_MS), false);
        workload.events(1).for_each(|event| play.step(&event));
        let names = if workload.renames { "renamed" } else { "" };
        is_well &= report(&format!("zipf {} {:>7} keys {names}", workload.skew, workload.keys), &mut play);
    }
    is_well
}

fn recorded(path: &str, ttl_ms: u64) -> bool {
    let file = BufReader::new(File::open(path).expect("a trace that can be read"));
    let mut plays: BTreeMap<String, Play> = BTreeMap::new();
    for (type_name, event) in trace(file) {
        match type_name {
            Some(name) => {
                plays.entry(name).or_insert_with(|| Play::new(KEYS, 1..=SALTS, number_of(ttl_ms), false)).step(&event)
            }
            None => plays.values_mut().for_each(|play| play.step(&event)),
        }
    }
    let all = plays.iter_mut().map(|(name, play)| report(&format!("{name} at {}", format_duration(ttl_ms)), play));
    all.fold(true, |all, one| all & one)
}

fn report(name: &str, play: &mut Play) -> bool {
    let errors = play.errors();
    for (salt, (errors, (estimator, _))) in (1..).zip(errors.iter().zip(play.estimators())) {
        let bytes = estimator.size_bytes();
        println!("{name:<30} {salt:>4}  {:>6.2} {:>5.2} {:>5.2} {bytes:>6}", errors.all, errors.near, errors.said);
    }
    errors.iter().all(|errors| errors.all <= MOST.0 && errors.near <= MOST.1)
}
