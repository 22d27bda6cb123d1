//! One key that is followed: what a cache of each lifetime would hold of it.

use super::outcome::Outcome;
use super::tags::{TagHash, TagTimes};
use super::ttls::{Moment, TICKS, TTLS};

/// How many of its tags are known.
pub(super) const TAGS: usize = 4;

/// A set of lifetimes, a bit each.
pub(super) type Which = u32;

/// See the head.
#[derive(Clone)]
pub(super) struct Followed {
    /// The key's hash, in halves: so a record has no gaps.
    hash: [u32; 2],
    /// When it would have been produced last, at each lifetime.
    fills: [Moment; TTLS],
    /// Until then a read is a hit at every lifetime, unless the key is invalidated.
    next_change: Moment,
    /// When it was read last.
    pub seen: Moment,
    tags: [TagHash; TAGS],
    /// Stands for the bytes that were stored last; 0: unknown.
    digest: u32,
    /// When those were; 0: not since it is followed.
    produced: Moment,
    /// Is it waited for, since a read found nothing fresh, and why was that?
    awaited: Awaited,
    /// It was stored anew, and it is not known yet what.
    pending: Pending,
}

/// Why a value is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// It is not.
    No,
    /// Its time was over.
    Ended,
    /// It was invalidated.
    Invalidated,
    /// It was deleted, or evicted, or never there.
    Unknown,
}

/// Why a value was stored of which the bytes are still to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    /// There is none.
    No,
    /// That it differs would say nothing.
    Other,
    AfterExpiry,
    /// The one of this number.
    AfterTag(u8),
}

/// How a key came to be stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Its time was over.
    AfterExpiry,
    /// One of its tags had been invalidated.
    AfterTag(TagHash),
}

/// A key that was stored again, and both values are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reproduced {
    pub how: Again,
    /// How long after the last time.
    pub after: u32,
    /// Is it another value?
    pub is_changed: bool,
}

impl Followed {
    /// A key that nobody asked for yet.
    pub fn new(hash: u64) -> Self {
        Self {
            hash: [hash as u32, (hash >> 32) as u32],
            fills: [0; TTLS],
            next_change: 0,
            seen: 0,
            tags: [0; TAGS],
            digest: 0,
            produced: 0,
            awaited: Awaited::No,
            pending: Pending::No,
        }
    }

    /// The key's hash.
    #[inline]
    pub fn hash(&self) -> u64 {
        let [low, high] = self.hash;
        u64::from(high) << 32 | u64::from(low)
    }

    /// A key of whose past nothing is known: it is taken for produced just now.
    pub fn begin(hash: u64, now: Moment) -> Self {
        Self { seen: now, ..Self::new(hash) }.filled(now)
    }

    fn filled(mut self, now: Moment) -> Self {
        self.fill(now);
        self
    }

    fn fill(&mut self, now: Moment) {
        self.fills = [now; TTLS];
        self.next_change = now.saturating_add(TICKS.first().copied().unwrap_or(0));
    }

    /// Is a read now a hit at every lifetime, for all that is known without looking further?
    #[inline]
    fn is_quiet(&self, now: Moment, tags: &TagTimes) -> bool {
        now < self.next_change && !tags.any_since(self.seen)
    }

    /// Reads it; returns the lifetimes at which that would be a miss.
    #[inline]
    pub fn read(&mut self, now: Moment, tags: &TagTimes, cleared: Moment) -> Which {
        if self.is_quiet(now, tags) && cleared < self.seen {
            self.seen = now;
            return 0;
        }
        self.look(now, tags, cleared)
    }

    #[inline(never)]
    fn look(&mut self, now: Moment, tags: &TagTimes, cleared: Moment) -> Which {
        if tags.any_since(self.seen) || cleared >= self.seen {
            let at = self.invalidated(tags).0.max(cleared);
            // What was produced in the same moment came after it.
            self.fills.iter_mut().filter(|fill| **fill < at).for_each(|fill| *fill = 0);
        }
        let (mut misses, mut next_change) = (0, Moment::MAX);
        for (bit, (fill, ttl)) in self.fills.iter_mut().zip(TICKS).enumerate() {
            if now.saturating_sub(*fill) >= ttl {
                *fill = now;
                misses |= 1 << bit;
            }
            next_change = next_change.min(fill.saturating_add(ttl));
        }
        (self.next_change, self.seen) = (next_change, now);
        misses
    }

    /// When one of its tags was last invalidated, and which.
    fn invalidated(&self, tags: &TagTimes) -> (Moment, u8) {
        let known = (0..).zip(self.tags).filter(|(_, tag)| *tag != 0);
        known.map(|(which, tag)| (tags.last_of(tag), which)).max().unwrap_or_default()
    }

    /// Notes that a read really found nothing fresh.
    pub fn found_nothing_fresh(&mut self, outcome: Outcome) {
        self.awaited = match outcome {
            Outcome::Fresh => return,
            Outcome::Stale | Outcome::Expired => Awaited::Ended,
            Outcome::Invalidated => Awaited::Invalidated,
            Outcome::Cold => Awaited::Unknown,
        };
    }

    /// Notes that it was deleted, which it would have been at every lifetime.
    pub fn deleted(&mut self) {
        (self.fills, self.next_change) = ([0; TTLS], 0);
    }

    /// Notes that a value was stored. One that nobody waited for, and for which nobody had a lease, would have been stored whatever the
    /// lifetime.
    pub fn stored(&mut self, now: Moment, own: [TagHash; TAGS], has_lease: bool, tags: &TagTimes) {
        let awaited = std::mem::replace(&mut self.awaited, Awaited::No);
        if self.pending != Pending::No {
            // Nobody ever told what the last value was.
            (self.digest, self.produced) = (0, 0);
        }
        let (invalidated, which) = self.invalidated(tags);
        let is_by_tag = invalidated != 0 && invalidated >= self.produced;
        self.pending = match awaited {
            Awaited::Ended | Awaited::Invalidated if is_by_tag => Pending::AfterTag(which),
            Awaited::Ended => Pending::AfterExpiry,
            // By a tag that is not known here, or by what no lifetime has to do with.
            Awaited::No | Awaited::Invalidated | Awaited::Unknown => Pending::Other,
        };
        // The tag that is named by its number is one of the new ones then.
        if !matches!(self.pending, Pending::AfterTag(_)) || self.tags == own {
            self.tags = own;
        } else {
            (self.tags, self.pending) = (own, Pending::Other);
        }
        if awaited == Awaited::No && !has_lease {
            self.fill(now);
        }
    }

    /// Notes what stands for the bytes that were stored last; what is found out by that.
    pub fn digested(&mut self, now: Moment, digest: u32) -> Option<Reproduced> {
        let pending = std::mem::replace(&mut self.pending, Pending::No);
        if pending == Pending::No {
            return None;
        }
        let (before, last) = (std::mem::replace(&mut self.digest, digest), std::mem::replace(&mut self.produced, now));
        let how = match pending {
            Pending::AfterExpiry => Again::AfterExpiry,
            Pending::AfterTag(which) => Again::AfterTag(self.tags.get(usize::from(which)).copied()?),
            Pending::No | Pending::Other => return None,
        };
        let are_known = last != 0 && before != 0 && digest != 0;
        are_known.then_some(Reproduced { how, after: now.saturating_sub(last), is_changed: before != digest })
    }

    /// For how long nobody has asked for it.
    pub fn gap(&self, now: Moment) -> u32 {
        now.saturating_sub(self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ttls::moment;
    use super::*;

    fn at(seconds: u64) -> Moment {
        moment(seconds * 1000)
    }

    fn all_from(bit: usize) -> Which {
        (1 << bit) - 1
    }

    #[test]
    fn each_lifetime_has_its_own_hits() {
        let (mut key, tags) = (Followed::new(1), TagTimes::default());
        assert_eq!(key.read(at(0), &tags, 0), all_from(TTLS), "never produced");
        assert_eq!(key.read(at(9), &tags, 0), 0);
        assert_eq!(key.read(at(12), &tags, 0), all_from(1), "10 s are over");
        assert_eq!(key.read(at(20), &tags, 0), 1 << 1, "15 s are over; that of 10 s began at 12");
        assert_eq!(key.read(at(3 * 86_400), &tags, 0), all_from(TTLS));
        assert!(size_of::<Followed>() <= 140, "{}", size_of::<Followed>());
    }

    #[test]
    fn an_invalidation_means_what_is_gone_in_truth_and_would_be_there_at_a_longer_lifetime() {
        let (mut key, mut tags) = (Followed::new(1), TagTimes::default());
        key.read(at(0), &tags, 0);
        key.stored(at(0), [5, 6, 0, 0], true, &tags);
        tags.note(6, at(100));
        assert_eq!(key.read(at(120), &tags, 0), all_from(TTLS));
        assert_eq!(key.read(at(121), &tags, 0), 0);
        tags.note(7, at(122));
        assert_eq!(key.read(at(123), &tags, 0), 0, "another's tag");
        assert_eq!(key.read(at(124), &tags, at(124)), all_from(TTLS), "everything was invalidated");
        assert_eq!(key.read(at(125), &tags, at(124)), 0, "produced in the same moment");
        key.deleted();
        assert_eq!(key.read(at(126), &tags, 0), all_from(TTLS), "there at no lifetime");
        assert_eq!(key.read(at(127), &tags, 0), 0);
    }

    #[test]
    fn equal_values_are_told_from_others() {
        let (mut key, mut tags) = (Followed::new(1), TagTimes::default());
        let store_after = |key: &mut Followed, outcome, seconds, digest, tags: &TagTimes| {
            key.found_nothing_fresh(outcome);
            key.stored(at(seconds), [9, 0, 0, 0], true, tags);
            key.digested(at(seconds), digest)
        };
        let store = |key: &mut Followed, seconds, digest, tags: &TagTimes| {
            store_after(key, Outcome::Expired, seconds, digest, tags)
        };
        assert_eq!(store(&mut key, 0, 1, &tags), None);
        let same = Reproduced { how: Again::AfterExpiry, after: 600, is_changed: false };
        assert_eq!(store(&mut key, 60, 1, &tags), Some(same));
        tags.note(9, at(61));
        let other = Reproduced { how: Again::AfterTag(9), after: 20, is_changed: true };
        assert_eq!(store(&mut key, 62, 2, &tags), Some(other));
        assert_eq!(store_after(&mut key, Outcome::Cold, 65, 3, &tags), None, "it was deleted because it changed");
        assert_eq!(store_after(&mut key, Outcome::Invalidated, 66, 4, &tags), None, "by a tag that is not known");
        key.stored(at(70), [9, 0, 0, 0], false, &tags);
        assert_eq!(key.digested(at(70), 3), None, "nobody asked for it");
        assert_eq!(key.read(at(79), &tags, 0), 0, "but it is there at every lifetime");
    }
}
