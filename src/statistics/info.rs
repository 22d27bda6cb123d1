//! The figures of the section of `INFO`: every figure of the table, a line each, and a line for each type.

use expcache_core::stats::Gauges;

use crate::cache;
use crate::rules;
use crate::server::info::Report;
use crate::server::{feature, workers};

/// Writes the section.
pub fn show(report: &Report) {
    if !report.section() {
        return;
    }
    let (all, types) = cache::with(|cache| {
        let (all, types) = cache.all_figures();
        let named = types.into_iter().map(|(id, figures)| (escaped(&cache.types.get(id).name), figures));
        (all, named.collect::<Vec<_>>())
    });
    let mut gauges = Gauges {
        types: types.len() as u64,
        hit_ratio: millionths(all.counters.hit_rate()),
        compression_ratio: millionths(all.ratio()),
        ..Gauges::default()
    };
    feature::gauges(&mut gauges);
    let (done, fired) = (workers::figures().done, rules::total());
    let overall = all.counters.iter().chain(all.sizes.iter()).chain(gauges.iter()).chain(done.iter());
    let overall = overall.chain(fired.iter());
    overall.for_each(|field| report.field(field));
    for (name, figures) in &types {
        report.line(&format!("type_{name}"), figures.counters.iter().chain(figures.sizes.iter()));
    }
}

fn millionths(share: f64) -> u64 {
    (share * 1e6).round() as u64
}

/// A type's name in a form that no line breaks at.
fn escaped(name: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(*byte).to_string(),
        other => format!("%{other:02x}"),
    };
    name.iter().map(one).collect()
}
