//! Traffic of a type: generated, or read from a recorded trace.

use std::io::BufRead;

use fastrand::Rng;

/// One thing that happens.
pub struct Event {
    /// When, in ms from the start.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What happens.
pub enum What {
    /// A key is asked for, and produced if it is not there.
    Read(Read),
    /// Tags are invalidated.
    Invalidate(Vec<u32>),
}

/// A key that is asked for.
pub struct Read {
    /// The key.
    pub key: u64,
    /// The length of its value.
    pub size: u64,
    /// What producing it takes, in ms.
    pub cost_ms: u64,
    /// Its tags.
    pub tags: Vec<u32>,
    /// Stands for its bytes; 0: nobody knows.
    pub digest: u32,
}

/// A generated workload: keys whose popularity follows Zipf's law, more by day than by night.
#[derive(Clone, Copy)]
pub struct Workload {
    /// The exponent.
    pub skew: f64,
    /// How many keys there are at a time.
    pub keys: usize,
    /// Does a third of them get other names every six hours?
    pub renames: bool,
    /// How many reads there are in 48 hours.
    pub reads: u64,
    /// After how many hours a value is another.
    pub changes_h: f64,
}

const HOUR_MS: f64 = 3_600_000.0;
/// For how long each of them goes on.
const HOURS: f64 = 48.0;
const TAGS: u32 = 500;
const INVALIDATIONS: u64 = 2_000;

/// The ten workloads that the estimator is held to.
pub const TEN: [Workload; 10] = [
    workload(0.7, 2_000, false, DAY_H),
    workload(0.9, 2_000, true, MONTH_H),
    workload(1.2, 2_000, false, MONTH_H),
    workload(0.7, 100_000, true, DAY_H),
    workload(0.9, 100_000, false, MONTH_H),
    workload(1.0, 100_000, true, DAY_H),
    workload(1.2, 100_000, false, MONTH_H),
    workload(0.8, 1_000_000, true, MONTH_H),
    workload(1.0, 1_000_000, false, DAY_H),
    workload(1.2, 1_000_000, true, MONTH_H),
];

/// The workload that shows what warming is good for: exports that are asked for several times an hour by day, and seldom by night.
pub const DIURNAL: Workload = workload(0.9, 2_000, false, MONTH_H);

const DAY_H: f64 = 24.0;
const MONTH_H: f64 = 30.0 * DAY_H;

const fn workload(skew: f64, keys: usize, renames: bool, changes_h: f64) -> Workload {
    Workload { skew, keys, renames, reads: 2_000_000, changes_h }
}

impl Workload {
    /// All that happens, in order.
    pub fn events(self, seed: u64) -> impl Iterator<Item = Event> {
        let mut sums: Vec<f64> = Vec::with_capacity(self.keys);
        let mut sum = 0.0;
        for rank in 1..=self.keys {
            sum += (rank as f64).powf(-self.skew);
            sums.push(sum);
        }
        let mut rng = Rng::with_seed(seed);
        let (mut now_ms, mut next_invalidation_ms) = (0.0, 0.0);
        let between_ms = HOURS * HOUR_MS / INVALIDATIONS as f64;
        std::iter::from_fn(move || {
            if next_invalidation_ms <= now_ms {
                next_invalidation_ms += -between_ms * (1.0 - rng.f64()).ln();
                return Some(Event { at_ms: now_ms as u64, what: What::Invalidate(vec![rng.u32(1..=TAGS)]) });
            }
            // Most at noon, a ninth of that at midnight.
            let mean_ms = HOURS * HOUR_MS / self.reads as f64;
            let by_day = 1.0 - 0.8 * (now_ms / HOUR_MS / 24.0 * std::f64::consts::TAU).cos();
            now_ms += -mean_ms / by_day * (1.0 - rng.f64()).ln();
            if now_ms >= HOURS * HOUR_MS {
                return None;
            }
            let wanted = rng.f64() * sum;
            let rank = sums.partition_point(|sum| *sum < wanted) as u64;
            let era = if self.renames && rank.is_multiple_of(3) { (now_ms / HOUR_MS / 6.0) as u64 } else { 0 };
            let read = Read {
                key: rank | era << 32,
                size: 200 + mix(rank) % 2_000,
                cost_ms: 20 + mix(rank + 1) % 200,
                tags: (0..=mix(rank) % 3).map(|which| 1 + (mix(rank * 4 + which) % u64::from(TAGS)) as u32).collect(),
                digest: self.digest(rank, now_ms / HOUR_MS),
            };
            Some(Event { at_ms: now_ms as u64, what: What::Read(read) })
        })
    }
}

impl Workload {
    /// What stands for the bytes of a key's value at an hour.
    fn digest(&self, rank: u64, hour: f64) -> u32 {
        let changed = (hour / self.changes_h + (mix(rank) % 1000) as f64 / 1000.0) as u64;
        (mix(rank ^ changed << 40) | 1) as u32
    }
}

/// Any number, as if by chance.
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// Reads a trace: a line each for what happens, in order, with the type that it concerns.
///
/// ```text
/// time key type size cost tags etag     time in seconds, cost in ms, tags with commas between them, `-` for none
/// time !   tag,tag                      these tags are invalidated: of every type
/// ```
///
/// An etag that is not known is left out, and any other line is skipped. `expcache-top --record FILE` records one.
pub fn trace(lines: impl BufRead) -> impl Iterator<Item = (Option<String>, Event)> {
    lines.lines().map_while(Result::ok).filter_map(|line| parse(&line))
}

fn parse(line: &str) -> Option<(Option<String>, Event)> {
    let mut words = line.split_whitespace();
    let at_ms = (words.next()?.parse::<f64>().ok()? * 1000.0) as u64;
    let tags = |words: &str| words.split(',').filter(|tag| *tag != "-").map(|tag| number(tag) as u32 | 1).collect();
    let key = words.next()?;
    if key == "!" {
        return Some((None, Event { at_ms, what: What::Invalidate(tags(words.next()?)) }));
    }
    let type_name = words.next()?.to_owned();
    let size = words.next()?.parse().ok()?;
    let cost_ms = words.next()?.parse().unwrap_or(0);
    let tags = tags(words.next()?);
    let digest = words.next().map_or(0, |etag| number(etag) as u32 | 1);
    let read = Read { key: number(key), size, cost_ms, tags, digest };
    Some((Some(type_name), Event { at_ms, what: What::Read(read) }))
}

fn number(text: &str) -> u64 {
    text.bytes().fold(text.len() as u64, |number, byte| mix(number ^ u64::from(byte)))
}
