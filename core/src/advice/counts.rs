//! What is counted of followed keys, and what follows from it for all.

use super::followed::Which;
use super::ttls::{TTLS, at};

/// Parts of the cold sample, each of which could stand for all of it.
pub(super) const PARTS: usize = 4;

/// Reads, and how many of them would have missed at each lifetime.
#[derive(Clone, Default)]
pub(super) struct Counts {
    pub reads: f64,
    pub misses: [f64; TTLS],
}

impl Counts {
    /// Counts a read that stands for so many.
    #[inline]
    pub fn count(&mut self, weight: f64, misses: Which) {
        self.reads += weight;
        if misses != 0 {
            self.count_misses(weight, misses);
        }
    }

    #[inline(never)]
    fn count_misses(&mut self, weight: f64, misses: Which) {
        for (bit, count) in self.misses.iter_mut().enumerate() {
            if misses >> bit & 1 != 0 {
                *count += weight;
            }
        }
    }

    pub fn halve(&mut self) {
        self.reads /= 2.0;
        self.misses.iter_mut().for_each(|misses| *misses /= 2.0);
    }

    fn sum<'c>(all: impl Iterator<Item = &'c Self>) -> Self {
        all.fold(Self::default(), |mut sum, counts| {
            sum.reads += counts.reads;
            sum.misses.iter_mut().zip(counts.misses).for_each(|(sum, misses)| *sum += misses);
            sum
        })
    }
}

/// Hit rates, one for each lifetime.
pub(super) type Rates = [f64; TTLS];

/// What reads really found.
#[derive(Clone, Copy, Default)]
pub(super) struct Measured {
    pub reads: f64,
    pub fresh: f64,
}

/// So many reads make a measured rate.
const TELLING: f64 = 1_000.0;
/// A hit rate that is lower says nothing of the others by its proportion.
const LEAST_RATE: f64 = 0.02;

impl Measured {
    #[inline]
    pub fn count(&mut self, times: f64, is_fresh: bool) {
        self.reads += times;
        if is_fresh {
            self.fresh += times;
        }
    }

    pub fn halve(&mut self) {
        (self.reads, self.fresh) = (self.reads / 2.0, self.fresh / 2.0);
    }

    /// The hit rate, if there were enough reads.
    pub fn rate(&self) -> Option<f64> {
        (self.reads >= TELLING).then(|| self.fresh / self.reads)
    }
}

/// The hit rates of all reads: those of the hot keys are known, and a sample stands for the others, of which there were `cold_reads`. Where a
/// rate was measured at a lifetime in ms, all are moved by that (see [`move_by`]).
pub(super) fn rates<'c>(
    hot: &Counts,
    cold: impl Iterator<Item = &'c Counts>,
    cold_reads: f64,
    measured: Option<(f64, f64)>,
) -> Rates {
    let cold = Counts::sum(cold);
    let each = if cold.reads > 0.0 { cold_reads / cold.reads } else { 0.0 };
    let all = hot.reads + each * cold.reads;
    let mut rates = [0.0; TTLS];
    if all > 0.0 {
        for (rate, (hot, cold)) in rates.iter_mut().zip(hot.misses.iter().zip(cold.misses)) {
            *rate = 1.0 - (hot + each * cold) / all;
        }
    }
    if let Some((ttl_ms, rate)) = measured {
        move_by(&mut rates, ttl_ms, rate);
    }
    rates
}

/// Moves all rates by what one was measured to be. Those at shorter lifetimes in proportion: a sample that has too many keys in it which are asked
/// for often overestimates all of them. At longer ones the misses have a proportion too, as no rate is above 1; the higher the rate is, the
/// more that one counts.
fn move_by(rates: &mut Rates, ttl_ms: f64, rate: f64) {
    let own = at(rates, ttl_ms);
    let hits = if own > LEAST_RATE { rate / own } else { 1.0 };
    let misses = if own < 1.0 - LEAST_RATE { (1.0 - rate) / (1.0 - own) } else { 1.0 };
    for (which, one) in rates.iter_mut().enumerate() {
        let by_hits = *one * hits + (rate - own * hits);
        let by_misses = 1.0 - (1.0 - *one) * misses - ((1.0 - rate) - (1.0 - own) * misses);
        let share = if (super::ttls::ttl_ms(which) as f64) < ttl_ms { 0.0 } else { rate };
        *one = ((1.0 - share) * by_hits + share * by_misses).clamp(0.0, 1.0);
    }
}

/// How sure the hit rates are: by how much they would differ had another part of the sample been left out (the jack-knife), twice the
/// standard error. `rates_without` says what they are without one part.
pub(super) fn errors(rates_without: impl Fn(usize) -> Rates) -> Rates {
    let all: Vec<Rates> = (0..PARTS).map(rates_without).collect();
    let of = |at: usize| all.iter().filter_map(move |rates| rates.get(at).copied());
    let mut errors = [0.0; TTLS];
    for (at, error) in errors.iter_mut().enumerate() {
        let mean = of(at).sum::<f64>() / PARTS as f64;
        let spread: f64 = of(at).map(|rate| (rate - mean) * (rate - mean)).sum();
        *error = 2.0 * (spread * (PARTS - 1) as f64 / PARTS as f64).sqrt();
    }
    errors
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn counts(reads: f64, misses: f64) -> Counts {
        Counts { reads, misses: [misses; TTLS] }
    }

    #[test]
    fn a_sample_stands_for_all_cold_reads() {
        let cold = [counts(10.0, 5.0), counts(30.0, 10.0)];
        let rates = |hot: &Counts, parts, cold_reads| rates(hot, cold.iter().take(parts), cold_reads, None);
        let all = rates(&counts(100.0, 10.0), 2, 400.0);
        assert!(all.iter().all(|rate| (rate - (1.0 - (10.0 + 150.0) / 500.0)).abs() < 1e-12));
        assert_eq!(rates(&counts(0.0, 0.0), 0, 9.0), [0.0; TTLS]);
    }

    #[test]
    fn what_was_measured_moves_all_in_proportion() {
        let moved = |counts, rate| rates(&counts, std::iter::empty(), 0.0, Some((3_600_000.0, rate)))[0];
        let own = counts(100.0, 50.0);
        assert_eq!([0.25, 0.5, 0.75].map(|rate| moved(own.clone(), rate)), [0.25, 0.5, 0.75]);
        assert_eq!(moved(counts(100.0, 100.0), 0.25), 0.25);
        let mut rates = [0.8; TTLS];
        (rates[0], rates[TTLS - 1]) = (0.4, 0.96);
        move_by(&mut rates, 3_600_000.0, 0.9);
        assert!((rates[0] - 0.45).abs() < 1e-9 && rates[TTLS - 1] > 0.97 && rates[TTLS - 1] < 1.0, "{rates:?}");
        let mut measured = Measured::default();
        (0..1000).for_each(|at| measured.count(1.0, at % 4 == 0));
        assert_eq!(measured.rate(), Some(0.25));
        measured.halve();
        assert_eq!(measured.rate(), None);
    }

    #[test]
    fn parts_that_agree_are_sure() {
        assert_eq!(errors(|_| [0.5; TTLS]), [0.0; TTLS]);
        let errors = errors(|part| [if part == 0 { 0.5 } else { 0.7 }; TTLS]);
        assert!(errors.iter().all(|error| (error - 0.3).abs() < 1e-9), "{errors:?}");
    }
}
