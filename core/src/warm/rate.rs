//! How often a key is asked for lately, and what it is worth to have it.
//!
//! Requests count half after an hour. Their sum is divided by the time for which the key was watched, which decays likewise: so a key that
//! came an hour ago is not taken for one that is asked for half as often.
//!
//! Keys are ranked by a *score*, the logarithm of what they are worth without the part of the decay that all have in common. It does not change
//! while nobody asks for a key, but for its time of being watched, which grows: so a score that was computed earlier is never too low.
//!
//! A request that comes soon after one that was counted may be counted as of that moment ([`Rate::count_with_last`]), which takes an addition.

/// What was so long ago counts half, in ms.
const HALF_LIFE_MS: f64 = 3_600_000.0;
/// No key counts as watched for less, in ms: nothing follows from two requests in a moment.
const LEAST_WATCHED_MS: f64 = 10_000.0;
/// What comes within so long may be counted as of one moment, in ms: by 0.2% too little.
const ONE_MOMENT_MS: u64 = 10_000;
/// Steps of a score for twice the worth.
const STEPS: f64 = (1 << 24) as f64;

/// What ranks a key.
pub type Score = i64;

/// That of keys of which nothing is known.
const UNKNOWN: Score = Score::MIN;

/// See the head. Times are those of a clock that nobody sets, in ms.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    count: f64,
    counted_ms: u64,
    since_ms: u64,
}

impl Rate {
    /// Watched from now on.
    pub fn since(now_ms: u64) -> Self {
        Self { count: 0.0, counted_ms: now_ms, since_ms: now_ms }
    }

    /// Did anybody ask for it since then?
    pub fn is_asked_for(&self) -> bool {
        self.count > 0.0
    }

    /// Was it watched for so long that its rate is what it is?
    pub fn is_settled(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) as f64 >= LEAST_WATCHED_MS
    }

    /// How many requests it counts, as of the moment that was counted last.
    pub fn sum(&self) -> f64 {
        self.count
    }

    /// Notes a request as of the moment that was counted last, if that was not long ago, and if it counts no more than so many then. Did it?
    #[inline]
    pub fn count_with_last(&mut self, most: f64, now_ms: u64) -> bool {
        let is_counted = self.count + 1.0 <= most && now_ms.saturating_sub(self.counted_ms) < ONE_MOMENT_MS;
        if is_counted {
            self.count += 1.0;
        }
        is_counted
    }

    /// Notes a request.
    pub fn count(&mut self, now_ms: u64) {
        self.count = self.decayed(now_ms) + 1.0;
        self.counted_ms = self.counted_ms.max(now_ms);
    }

    fn decayed(&self, now_ms: u64) -> f64 {
        self.count * (-half_lives(self.counted_ms, now_ms)).exp2()
    }

    fn watched_ms(&self, now_ms: u64) -> f64 {
        let whole_ms = HALF_LIFE_MS / std::f64::consts::LN_2;
        (whole_ms * (1.0 - (-half_lives(self.since_ms, now_ms)).exp2())).max(LEAST_WATCHED_MS)
    }

    /// Requests a second.
    pub fn per_second(&self, now_ms: u64) -> f64 {
        1000.0 * self.decayed(now_ms) / self.watched_ms(now_ms)
    }

    /// Ranks a key of that cost, in ms, as if so many requests were counted.
    pub fn score(&self, sum: f64, cost_ms: u64, now_ms: u64) -> Score {
        if sum == 0.0 {
            return UNKNOWN;
        }
        let worth = sum.log2() + (cost_ms.max(1) as f64).log2() - self.watched_ms(now_ms).log2();
        steps(worth + self.counted_ms as f64 / HALF_LIFE_MS)
    }
}

/// Ranks a key that is going to be asked for so often a second from a moment on.
pub fn score_from(per_second: f64, cost_ms: u64, from_ms: u64) -> Score {
    steps((per_second / 1000.0).log2() + (cost_ms.max(1) as f64).log2() + from_ms as f64 / HALF_LIFE_MS)
}

fn steps(score: f64) -> Score {
    (score * STEPS) as Score
}

fn half_lives(from_ms: u64, to_ms: u64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / HALF_LIFE_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn asked(since: u64, every: u64, until: u64) -> Rate {
        let mut rate = Rate::since(since);
        (since + every..=until).step_by(every as usize).for_each(|now| rate.count(now));
        rate
    }

    #[test]
    fn a_key_is_asked_for_as_often_as_it_is_however_long_it_is_known() {
        for hours in [1, 2, 5, 50] {
            let rate = asked(0, 10_000, hours * HOUR).per_second(hours * HOUR);
            assert!((rate - 0.1).abs() < 0.002, "{rate} after {hours}");
        }
    }

    #[test]
    fn what_was_popular_does_not_stay_so() {
        let (old, new) = (asked(0, 1_000, 10 * HOUR), asked(14 * HOUR, 10_000, 15 * HOUR));
        let now = 15 * HOUR;
        assert!(
            old.per_second(now) < new.per_second(now) && old.score(old.sum(), 7, now) < new.score(new.sum(), 7, now)
        );
        assert!(old.per_second(10 * HOUR) > 0.99);
    }

    #[test]
    fn what_comes_soon_is_counted_as_of_one_moment() {
        let (mut each, mut some) = (Rate::since(0), Rate::since(0));
        let mut counted = 0;
        for now in (0..20 * HOUR).step_by(500) {
            each.count(now);
            if some.count_with_last(1.1 * some.sum(), now) {
                counted += 1;
            } else {
                some.count(now);
            }
            let (each, some) = (each.per_second(now), some.per_second(now));
            assert!(some <= each * 1.000_001 && some >= each * 0.998, "{each} {some} at {now}");
        }
        assert!(counted > 130_000, "{counted} of 144,000");
        let mut rate = asked(0, 1_000, HOUR);
        let allowed = rate.sum() + 2.5;
        let score = rate.score(allowed, 7, HOUR);
        let counted = [(); 3].map(|()| rate.count_with_last(allowed, HOUR + 3_000));
        assert_eq!(counted, [true, true, false]);
        assert!(rate.score(rate.sum(), 7, HOUR + 3_000) <= score);
    }

    /// What is worth more ranks higher, at the same moment; and a score that was computed earlier is never too low.
    #[test]
    fn scores_rank_as_worth_does() {
        let mut rng = fastrand::Rng::with_seed(5);
        let now = 20 * HOUR;
        let mut all: Vec<(f64, Score)> = Vec::new();
        for _ in 0..500 {
            let since = rng.u64(..19 * HOUR);
            let rate = asked(since, rng.u64(1..600_000), rng.u64(since + 1..now));
            let cost = rng.u64(1..5_000);
            assert!(rate.score(rate.sum(), cost, now) >= rate.score(rate.sum(), cost, now + rng.u64(..HOUR)));
            all.push((rate.per_second(now) * cost as f64, rate.score(rate.sum(), cost, now)));
        }
        all.retain(|(worth, _)| *worth > 0.0);
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(all.is_sorted_by_key(|(_, score)| *score >> 4), "equal ones aside");
        let lowest = all.first().map(|(_, score)| *score);
        assert!(lowest > Some(Rate::since(5).score(0.0, 9, now)), "of which nothing is known");
    }
}
