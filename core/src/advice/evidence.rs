//! What else the traffic of a type tells: what is stored and at what cost, what is read at all, and whether what is produced again differs.

use super::counts::Measured;
use super::followed::{Again, Reproduced};
use super::outcome::{Outcome, Stored};
use super::tags::TagHash;
use super::trials::Trials;
use super::ttls::in_ms;

/// How many tags are watched for invalidating too much.
const WATCHED: usize = 16;
/// So many values that were produced again tell something.
const TELLING: f64 = 30.0;
/// From a larger share on of values with lifetimes of their own that of the type decides too little.
const MOST_OWN: f64 = 0.1;

/// A tag whose entries were produced again after it was invalidated.
#[derive(Clone, Copy, Default)]
struct Watched {
    tag: TagHash,
    again: f32,
    unchanged: f32,
}

/// A share of something, and of how many that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// 0–1.
    pub share: f64,
    /// How far it may be off.
    pub error: f64,
}

impl Share {
    /// Of so many that were looked at; twice the standard error.
    pub fn of(part: f64, whole: f64) -> Self {
        let share = (part / whole).clamp(0.0, 1.0);
        Self { share, error: 2.0 * (share * (1.0 - share) / whole).sqrt() }
    }
}

/// See the head.
#[derive(Clone, Default)]
pub struct Evidence {
    /// What reads really found.
    pub(super) measured: Measured,
    /// Of the misses of what had expired, those of keys that had been asked for in the last fifth of their lifetime.
    expired_in_use: f64,
    /// Misses and stale reads of keys that had been asked for within a lifetime.
    missed_in_use: f64,
    evicted_again: f64,
    stores: f64,
    /// Values that went, or that others took the place of, and those of them that nobody had read.
    ended: f64,
    ended_unread: f64,
    bytes: f64,
    cost_ms: f64,
    costs: f64,
    lifetimes: f64,
    /// The sum of their logarithms.
    log_lifetimes: f64,
    endless: f64,
    /// Those whose lifetime the type's has nothing to do with.
    own_lifetimes: f64,
    again: f64,
    changed: f64,
    after: f64,
    watched: [Watched; WATCHED],
    /// What payloads would take in other forms.
    pub trials: Trials,
}

impl Evidence {
    /// Counts a miss that stands for so many, of a key that was last read so long before.
    pub(super) fn count_miss(&mut self, weight: f64, gap: u32, outcome: Outcome) {
        let Some(lifetime_ms) = self.lifetime_ms().filter(|_| outcome != Outcome::Cold) else { return };
        let gap_ms = in_ms(f64::from(gap));
        if gap_ms < lifetime_ms {
            self.missed_in_use += weight;
        }
        if outcome == Outcome::Expired && gap_ms < lifetime_ms / 5.0 {
            self.expired_in_use += weight;
        }
    }

    /// Counts values that went, or that others took the place of, and those of them that nobody had read.
    pub fn count_ended(&mut self, ended: u64, unread: u64) {
        self.ended += ended as f64;
        self.ended_unread += unread as f64;
    }

    /// Counts a miss of what had made room not long before.
    pub fn count_evicted_again(&mut self) {
        self.evicted_again += 1.0;
    }

    pub(super) fn count_stored(&mut self, value: Stored) {
        let Stored { lifetime_ms, size, cost_ms, has_own_lifetime, has_lease: _ } = value;
        self.stores += 1.0;
        self.own_lifetimes += f64::from(u8::from(has_own_lifetime));
        self.bytes += size as f64;
        if let Some(cost_ms) = cost_ms {
            self.cost_ms += cost_ms as f64;
            self.costs += 1.0;
        }
        match lifetime_ms {
            0 => self.endless += 1.0,
            _ => {
                self.lifetimes += 1.0;
                self.log_lifetimes += (lifetime_ms as f64).ln();
            }
        }
    }

    /// Counts a value that was produced again; the tag that is watched for it, if it is one more.
    pub(super) fn count_again(&mut self, again: Reproduced) -> Option<TagHash> {
        let Again::AfterTag(tag) = again.how else {
            self.again += 1.0;
            self.changed += f64::from(u8::from(again.is_changed));
            self.after += f64::from(again.after);
            return None;
        };
        let known = self.watched.iter().position(|watched| watched.tag == tag && watched.again > 0.0);
        let least = self.watched.iter().enumerate().min_by(|(_, a), (_, b)| a.again.total_cmp(&b.again));
        let at = known.or(least.map(|(at, _)| at))?;
        let watched = self.watched.get_mut(at)?;
        if known.is_none() {
            *watched = Watched { tag, ..Watched::default() };
        }
        watched.again += 1.0;
        watched.unchanged += f32::from(u8::from(!again.is_changed));
        known.is_none().then_some(tag)
    }

    /// What was measured is of no use any more: the policy is another.
    pub(super) fn measure_anew(&mut self) {
        self.measured = Measured::default();
        (self.expired_in_use, self.missed_in_use, self.evicted_again) = (0.0, 0.0, 0.0);
        (self.lifetimes, self.log_lifetimes, self.endless, self.own_lifetimes) = (0.0, 0.0, 0.0, 0.0);
    }

    pub(super) fn halve(&mut self) {
        for watched in &mut self.watched {
            (watched.again, watched.unchanged) = (watched.again / 2.0, watched.unchanged / 2.0);
        }
        let all = [
            &mut self.expired_in_use,
            &mut self.missed_in_use,
            &mut self.evicted_again,
            &mut self.stores,
            &mut self.ended,
            &mut self.ended_unread,
            &mut self.bytes,
            &mut self.cost_ms,
            &mut self.costs,
            &mut self.lifetimes,
            &mut self.log_lifetimes,
            &mut self.endless,
            &mut self.own_lifetimes,
            &mut self.again,
            &mut self.changed,
            &mut self.after,
        ];
        all.into_iter().for_each(|count| *count /= 2.0);
        self.measured.halve();
        self.trials.halve();
    }

    // ---- what it tells ----

    /// The lifetime that values are stored with, in ms, on average of its logarithm. `None`: nothing was stored; infinite: most have no end.
    pub fn lifetime_ms(&self) -> Option<f64> {
        match (self.lifetimes, self.endless) {
            (0.0, 0.0) => None,
            (ending, endless) if endless > ending => Some(f64::INFINITY),
            (ending, _) => Some((self.log_lifetimes / ending).exp()),
        }
    }

    /// Do values live as long as their type says?
    pub fn is_lifetime_of_type(&self) -> bool {
        self.own_lifetimes <= MOST_OWN * (self.lifetimes + self.endless)
    }

    /// What producing a value takes on average, in ms.
    pub fn mean_cost_ms(&self) -> Option<f64> {
        (self.costs > 0.0).then(|| self.cost_ms / self.costs)
    }

    /// How long a value is on average, in bytes.
    pub fn mean_bytes(&self) -> f64 {
        if self.stores > 0.0 { self.bytes / self.stores } else { 0.0 }
    }

    /// How many values were stored.
    pub fn stores(&self) -> f64 {
        self.stores
    }

    fn of_reads(&self, part: f64) -> Share {
        Share::of(part, self.measured.reads.max(1.0))
    }

    /// The share of reads that missed what had expired although its key was in use.
    pub fn expired_in_use(&self) -> Share {
        self.of_reads(self.expired_in_use)
    }

    /// The share of reads that found nothing fresh although the key was in use.
    pub fn missed_in_use(&self) -> Share {
        self.of_reads(self.missed_in_use)
    }

    /// The share of reads that missed what had made room not long before.
    pub fn evicted_again(&self) -> Share {
        self.of_reads(self.evicted_again)
    }

    /// The share of values that nobody had read when they went, and how many went: of those that are there nobody knows yet.
    pub fn unread(&self) -> (Share, f64) {
        (Share::of(self.ended_unread, self.ended.max(1.0)), self.ended)
    }

    /// How often a value changes, per ms (Cho and Garcia-Molina, 2003); `None` where too few were compared.
    fn changes(&self) -> Option<f64> {
        let mean_ms = in_ms(self.after) / self.again;
        let rate = -((self.again - self.changed + 0.5) / (self.again + 0.5)).ln();
        (self.again >= TELLING && mean_ms > 0.0).then(|| rate.max(0.0) / mean_ms)
    }

    /// The share of what is handed out that would be outdated, at a lifetime in ms; `None` where that is not known.
    pub fn stale_share(&self, ttl_ms: f64) -> Option<f64> {
        let expected = self.changes()? * ttl_ms;
        Some(if expected < 1e-9 { 0.0 } else { 1.0 + (-expected).exp_m1() / expected })
    }

    /// Tags after whose invalidation values were produced again: the share of those that were the same as before, and how many.
    pub fn tags(&self) -> impl Iterator<Item = (TagHash, Share, f64)> {
        let all =
            self.watched.iter().map(|watched| (watched.tag, f64::from(watched.unchanged), f64::from(watched.again)));
        let telling = all.filter(|(_, _, again)| *again >= TELLING);
        telling.map(|(tag, unchanged, again)| (tag, Share::of(unchanged, again), again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_seldom_is_outdated_seldom() {
        let mut evidence = Evidence::default();
        let again = |is_changed| Reproduced { how: Again::AfterExpiry, after: 36_000, is_changed };
        assert_eq!(evidence.stale_share(1.0), None);
        (0..1000).for_each(|at| _ = evidence.count_again(again(at % 10 == 0)));
        // One in ten an hour: within an hour on average half of that is outdated.
        let share = evidence.stale_share(3_600_000.0).unwrap_or(1.0);
        assert!((share - 0.05).abs() < 0.005, "{share}");
        assert!(evidence.stale_share(36_000_000.0).is_some_and(|share| share > 0.3));
        assert!(evidence.stale_share(10.0).is_some_and(|share| share < 0.001));
    }

    #[test]
    fn a_tag_that_invalidates_too_much_is_told() {
        let mut evidence = Evidence::default();
        for at in 0..400u32 {
            let tag = if at % 2 == 0 { 5 } else { 100 + at };
            let again = Reproduced { how: Again::AfterTag(tag), after: 10, is_changed: at % 20 == 0 };
            evidence.count_again(again);
        }
        let told: Vec<_> = evidence.tags().map(|(tag, share, _)| (tag, (share.share * 100.0).round())).collect();
        assert_eq!(told, [(5, 90.0)]);
        evidence.halve();
        assert_eq!(evidence.tags().map(|(_, _, again)| again).collect::<Vec<_>>(), [100.0]);
    }

    #[test]
    fn the_lifetime_in_force_is_that_of_what_is_stored() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.lifetime_ms(), None);
        let value = |lifetime_ms, cost_ms| Stored { lifetime_ms, size: 10, cost_ms, ..Stored::default() };
        [1_000, 4_000].into_iter().for_each(|ms| evidence.count_stored(value(ms, Some(3))));
        assert!(evidence.lifetime_ms().is_some_and(|ms| (ms - 2_000.0).abs() < 1e-6));
        (0..3).for_each(|_| evidence.count_stored(value(0, None)));
        assert_eq!(evidence.lifetime_ms(), Some(f64::INFINITY));
        assert_eq!((evidence.mean_cost_ms(), evidence.mean_bytes(), evidence.stores()), (Some(3.0), 10.0, 5.0));
        assert!(evidence.is_lifetime_of_type());
        evidence.count_stored(Stored { has_own_lifetime: true, ..value(5, None) });
        assert!(!evidence.is_lifetime_of_type(), "programs say how long");
        evidence.measure_anew();
        assert_eq!((evidence.lifetime_ms(), evidence.is_lifetime_of_type()), (None, true));
    }
}
