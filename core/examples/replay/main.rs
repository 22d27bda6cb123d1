//! How well the hit rates at other lifetimes are estimated: for each workload, and each of some salts, the greatest error over all lifetimes
//! against an exact simulation. Then what came of a lifetime that was advised, with other traffic of the same kind; and what workers are good for
//! that keep a cache warm.
//!
//! ```text
//! cargo run --release -p expcache-core --example replay                the ten workloads that are generated, four salts each
//! cargo run --release -p expcache-core --example replay FILE [TTL]     a recorded trace, as `workload::trace` reads it; values live for TTL
//! ```
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a program for the console")]

mod play;
mod warming;
mod workload;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use expcache_core::advice::{TTLS, ttl_ms};
use expcache_core::units::{UnitRule, format_duration, parse_duration_ms};

use crate::play::{Applied, Play, apply};
use crate::warming::{Cache, Outcome};
use crate::workload::{DIURNAL, TEN, Workload, trace};

/// How many keys a type follows unless it is configured.
const KEYS: usize = 2304;
const SALTS: u64 = 4;
const HOUR_MS: u64 = 3_600_000;
/// The bounds, in hundredths: at any lifetime, and near the one in force.
const MOST: (f64, f64) = (3.0, 1.0);

/// How far a forecast may be off, in hundredths.
const FORECAST: f64 = 3.0;
/// How many keys are kept in mind, for so many workers.
const BEST: usize = 1_100;
const WORKERS: usize = 8;

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
        None => generated() & warmed(),
    };
    if !is_well {
        println!(
            "over the bounds: {} at any lifetime, {} from a quarter to four times the one in force, {FORECAST} of a forecast",
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
    let (mut is_well, mut advised) = (true, Vec::new());
    for workload in TEN {
        let mut play = Play::new(KEYS, 1..=SALTS, number_of(HOUR_MS), false);
        workload.events(1).for_each(|event| play.step(&event));
        is_well &= report(&named(&workload), &mut play);
        advised.push((workload, play.advised()));
    }
    println!(
        "\nworkload                       lifetime          forecast  measured  (after the lifetime that was advised was applied)"
    );
    for (workload, advised) in advised {
        let Some(advised) = advised else {
            println!("{:<30} 1h", named(&workload));
            continue;
        };
        let Applied { ttl_ms, forecast, measured } = apply(workload, 2, advised);
        let lifetime = format!("1h -> {}", format_duration(ttl_ms));
        println!("{:<30} {lifetime:<16} {:>8.2}% {:>8.2}%", named(&workload), 100.0 * forecast, 100.0 * measured);
        is_well &= 100.0 * (forecast - measured).abs() <= FORECAST;
    }
    is_well
}

fn named(workload: &Workload) -> String {
    let names = if workload.renames { "renamed" } else { "" };
    format!("zipf {} {:>7} keys {names}", workload.skew, workload.keys)
}

/// The workload that follows the time of the day, with workers and without.
fn warmed() -> bool {
    let [without, with] = [0, BEST].map(|best| {
        let mut cache = Cache::new(best, WORKERS);
        DIURNAL.events(1).for_each(|event| cache.step(&event));
        cache.outcome
    });
    println!("\n{} over two days; WARM {BEST}, {WORKERS} workers", named(&DIURNAL));
    for (name, Outcome { reads, misses, productions, .. }) in [("without", without), ("with", with)] {
        println!("{name:<8} {reads:>8} reads, {misses:>7} had to wait, {productions:>7} productions");
    }
    let (useful, more) = (with.warmed_hits / with.warmed, with.productions / without.productions);
    let fewer = with.misses / without.misses;
    println!(
        "warmed-hits / warmed {useful:.3} (>= 0.8), productions x {more:.3} (< 1.15), waits x {fewer:.3} (<= 0.5)"
    );
    useful >= 0.8 && more < 1.15 && fewer <= 0.5
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
