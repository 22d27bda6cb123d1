//! The estimator beside an exact simulation, both fed with the same traffic.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use expcache_core::advice::choice::What as Advised;
use expcache_core::advice::{
    Curve, Details, Estimator, Outcome, Present, Stored, TTLS, TagTimes, advise, moment, ttl_ms,
};
use expcache_core::units::{UnitRule, parse_duration_ms};

use crate::workload::{Event, Read, What, Workload, mix};

/// What is counted halves after a day.
const DAY_MS: u64 = 24 * 3_600_000;
/// The estimator is told that time passes so often.
const BEAT_MS: u64 = 10_000;

/// Every key at every lifetime, as it would be.
#[derive(Default)]
struct Exact {
    keys: HashMap<u64, Box<[Option<u64>; TTLS]>>,
    invalidated: HashMap<u32, u64>,
    reads: f64,
    misses: [f64; TTLS],
}

impl Exact {
    /// Reads a key at all lifetimes; returns what it really was at one.
    fn read(&mut self, at_ms: u64, read: &Read, real: usize) -> Outcome {
        let latest = read.tags.iter().filter_map(|tag| self.invalidated.get(tag)).max().copied();
        let fills = self.keys.entry(read.key).or_default();
        let mut outcome = Outcome::Fresh;
        self.reads += 1.0;
        for (which, (fill, misses)) in fills.iter_mut().zip(&mut self.misses).enumerate() {
            let is_over = fill.is_none_or(|fill| at_ms - fill >= ttl_ms(which));
            let is_invalidated = fill.is_some_and(|fill| latest.is_some_and(|latest| latest > fill));
            if !is_over && !is_invalidated {
                continue;
            }
            if which == real {
                outcome = match (*fill, is_over) {
                    (None, _) => Outcome::Cold,
                    (_, true) => Outcome::Expired,
                    (_, false) => Outcome::Invalidated,
                };
            }
            *misses += 1.0;
            *fill = Some(at_ms);
        }
        outcome
    }

    fn halve(&mut self) {
        self.reads /= 2.0;
        self.misses.iter_mut().for_each(|misses| *misses /= 2.0);
    }
}

/// One estimator, with hashes of its own.
struct Salted {
    salt: u64,
    estimator: Estimator,
    tags: TagTimes,
    took: Duration,
}

/// See the head.
pub struct Play {
    real: usize,
    exact: Exact,
    all: Vec<Salted>,
    beat_ms: u64,
    halved_ms: u64,
    now_ms: u64,
    is_timed: bool,
}

/// How far an estimator was off, in hundredths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Errors {
    /// At any lifetime.
    pub all: f64,
    /// At those from a quarter to four times the one in force.
    pub near: f64,
    /// The greatest that it said itself.
    pub said: f64,
}

impl Play {
    /// Estimators that follow so many keys, with these salts. Values are stored with the lifetime of that number.
    pub fn new(keys: usize, salts: impl Iterator<Item = u64>, real: usize, is_timed: bool) -> Self {
        let salted = |salt| Salted {
            salt,
            estimator: Estimator::new(keys, moment(0)),
            tags: TagTimes::default(),
            took: Duration::ZERO,
        };
        let all = salts.map(salted).collect();
        Self { real, exact: Exact::default(), all, beat_ms: 0, halved_ms: 0, now_ms: 0, is_timed }
    }

    /// Goes on to what happens next.
    pub fn step(&mut self, event: &Event) {
        self.now_ms = event.at_ms;
        let now = moment(event.at_ms);
        if event.at_ms - self.beat_ms >= BEAT_MS {
            self.beat_ms = event.at_ms;
            self.all.iter_mut().for_each(|one| one.estimator.turn(now));
            if event.at_ms / 100 - self.halved_ms / 100 >= DAY_MS / 100 {
                self.halved_ms = event.at_ms;
                self.exact.halve();
            }
        }
        match &event.what {
            What::Invalidate(tags) => {
                for tag in tags {
                    self.exact.invalidated.insert(*tag, event.at_ms);
                    self.all.iter_mut().for_each(|one| one.tags.note(*tag, now));
                }
            }
            What::Read(read) => {
                let outcome = self.exact.read(event.at_ms, read, self.real);
                let value = Stored {
                    lifetime_ms: ttl_ms(self.real),
                    size: read.size,
                    cost_ms: Some(read.cost_ms),
                    has_own_lifetime: false,
                    has_lease: true,
                };
                for one in &mut self.all {
                    let hash = mix(read.key ^ mix(one.salt));
                    let start = self.is_timed.then(Instant::now);
                    one.estimator.read(hash, now, outcome, &one.tags);
                    one.took += start.map_or(Duration::ZERO, |start| start.elapsed());
                    if outcome != Outcome::Fresh {
                        let mut tags = [0; 4];
                        tags.iter_mut().zip(&read.tags).for_each(|(own, tag)| *own = *tag);
                        let details = || Details { tags, digest: Some(read.digest).filter(|digest| *digest != 0) };
                        one.estimator.stored(hash, now, value, &one.tags, details);
                    }
                }
            }
        }
    }

    /// The exact hit rates.
    pub fn exact(&self) -> [f64; TTLS] {
        self.exact.misses.map(|misses| 1.0 - misses / self.exact.reads.max(1.0))
    }

    /// The curves that were estimated.
    pub fn curves(&mut self) -> Vec<Curve> {
        let now = moment(self.now_ms);
        self.all.iter_mut().for_each(|one| one.estimator.turn(now));
        self.all.iter().map(|one| Curve::of(&one.estimator)).collect()
    }

    /// How far each of them was off.
    pub fn errors(&mut self) -> Vec<Errors> {
        let (exact, real_ms) = (self.exact(), ttl_ms(self.real));
        let is_near = |ttl_ms: u64| (real_ms / 4..=real_ms * 4).contains(&ttl_ms);
        let of = |curve: &Curve| {
            let mut errors = Errors::default();
            for (point, rate) in curve.points.iter().zip(exact) {
                let error = 100.0 * (point.hit_rate - rate).abs();
                errors.all = errors.all.max(error);
                // Of what was not watched for so long it says that it does not know.
                if point.ttl_ms as f64 <= curve.watched_ms {
                    errors.said = errors.said.max(100.0 * point.error);
                }
                if is_near(point.ttl_ms) {
                    errors.near = errors.near.max(error);
                }
            }
            errors
        };
        self.curves().iter().map(of).collect()
    }

    /// The estimators, and what a read took them on average, in ns.
    pub fn estimators(&self) -> impl Iterator<Item = (&Estimator, f64)> {
        let reads = self.all.iter().map(|one| one.estimator.reads().max(1.0));
        self.all.iter().zip(reads).map(|(one, reads)| (&one.estimator, one.took.as_nanos() as f64 / reads))
    }

    /// The lifetime that is advised, by its number, and the hit rate that is forecast for it; `None`: that of now is well.
    pub fn advised(&mut self) -> Option<(usize, f64)> {
        let curve = self.curves().into_iter().next()?;
        let evidence = &self.all.first()?.estimator.evidence;
        let advice = advise(&Present::default(), &curve, evidence).into_iter().find(|one| one.what == Advised::Ttl)?;
        let wanted = parse_duration_ms(advice.to?.as_bytes(), UnitRule::Required).ok()?;
        let number = (0..TTLS).find(|number| ttl_ms(*number) == wanted)?;
        Some((number, curve.points.get(number)?.hit_rate))
    }
}

/// What came of a lifetime that was advised.
pub struct Applied {
    /// The lifetime, in ms.
    pub ttl_ms: u64,
    /// The hit rate that was forecast.
    pub forecast: f64,
    /// That of other traffic of the same kind, with that lifetime.
    pub measured: f64,
}

/// Has values live as long as was advised, see [`Play::advised`].
pub fn apply(workload: Workload, seed: u64, (number, forecast): (usize, f64)) -> Applied {
    let (mut exact, mut hits, mut reads) = (Exact::default(), 0.0, 0.0);
    for event in workload.events(seed) {
        match &event.what {
            What::Invalidate(tags) => tags.iter().for_each(|tag| _ = exact.invalidated.insert(*tag, event.at_ms)),
            What::Read(read) => {
                reads += 1.0;
                hits += f64::from(u8::from(exact.read(event.at_ms, read, number) == Outcome::Fresh));
            }
        }
    }
    Applied { ttl_ms: ttl_ms(number), forecast, measured: hits / f64::max(reads, 1.0) }
}
