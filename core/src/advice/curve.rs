//! The curve of a type: what each lifetime would come to.

use super::estimator::Estimator;
use super::ttls::{TTLS, at, ttl_ms};

/// What one lifetime would come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// The lifetime, in ms.
    pub ttl_ms: u64,
    /// The share of reads that would hit, 0–1.
    pub hit_rate: f64,
    /// Values that would be produced in an hour.
    pub productions: f64,
    /// Bytes of payload that would be there.
    pub bytes: f64,
    /// The share of what is handed out that would be outdated; `None`: not known.
    pub stale_share: Option<f64>,
    /// How far the hit rate may be off.
    pub error: f64,
}

/// See the head.
#[derive(Debug, Clone)]
pub struct Curve {
    /// A point for each lifetime.
    pub points: [Point; TTLS],
    /// The lifetime that values are stored with now, in ms, and the hit rate at it.
    pub in_force: Option<(f64, f64)>,
    /// Reads that it is founded on.
    pub reads: f64,
    /// How many there are in an hour.
    pub reads_per_hour: f64,
    /// In how many hours these were.
    pub hours: f64,
    /// For how long the type has been watched, in ms: of longer lifetimes nobody knows.
    pub watched_ms: f64,
}

impl Curve {
    /// That of a type, from its traffic.
    pub fn of(estimator: &Estimator) -> Self {
        let (rates, errors) = estimator.rates();
        let (evidence, per_hour) = (&estimator.evidence, estimator.reads_per_hour());
        let watched_ms = estimator.watched_ms();
        let mut points = [Point::default(); TTLS];
        for (which, (point, (rate, error))) in points.iter_mut().zip(rates.into_iter().zip(errors)).enumerate() {
            let ttl_ms = ttl_ms(which);
            let productions = (1.0 - rate) * per_hour;
            *point = Point {
                ttl_ms,
                hit_rate: rate,
                productions,
                // What is produced is there for a lifetime (Little's law).
                bytes: productions * (ttl_ms as f64 / 3_600_000.0) * evidence.mean_bytes(),
                stale_share: evidence.stale_share(ttl_ms as f64),
                error: if ttl_ms as f64 <= watched_ms { error } else { 1.0 },
            };
        }
        let in_force = estimator.evidence.lifetime_ms().map(|ttl_ms| (ttl_ms, at(&rates, ttl_ms)));
        let reads = estimator.reads();
        Self { points, in_force, reads, reads_per_hour: per_hour, hours: estimator.hours(), watched_ms }
    }

    fn at(&self, ttl_ms: f64, figure: impl Fn(&Point) -> f64) -> f64 {
        let mut figures = [0.0; TTLS];
        figures.iter_mut().zip(&self.points).for_each(|(own, point)| *own = figure(point));
        at(&figures, ttl_ms)
    }

    /// The hit rate at any lifetime, in ms.
    pub fn rate_at(&self, ttl_ms: f64) -> f64 {
        self.at(ttl_ms, |point| point.hit_rate)
    }

    /// How far that may be off.
    pub fn error_at(&self, ttl_ms: f64) -> f64 {
        self.at(ttl_ms, |point| point.error)
    }

    /// Bytes of payload at any lifetime, in ms.
    pub fn bytes_at(&self, ttl_ms: f64) -> f64 {
        self.at(ttl_ms, |point| point.bytes)
    }
}
