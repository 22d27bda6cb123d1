//! What the hit rate of a type would be at other lifetimes, from its own traffic.
//!
//! For a few keys the caches of all lifetimes are played through (`followed.rs`). A few keys that carry most of the traffic decide everything,
//! and a sample either has them or has not; so there are two kinds. The *hot* keys (`heat.rs`), up to a fifth of all that are followed, are
//! each counted as they are. For all others a sample stands, chosen by the hash of the name: the keys below a threshold, which falls when
//! there are too many (SHARDS: Waldspurger et al., 2015). A read of such a key stands for as many as the threshold of that moment says
//! (Horvitz and Thompson, 1952); without that, what was sampled while the threshold was high would weigh more than what came after.
//!
//! What the play does not know (a grace, early refreshes, evictions, deletions), and what the sample has too much of, shows at the lifetime in
//! force: there the hit rate is measured, and all others are moved in proportion.
//!
//! A read costs a comparison for most keys, a look into a small table for the others, and a walk over the lifetimes for those whose entry would
//! have ended at one of them since. Of reads that find what another found in the same moment some stand for the others ([`Estimator::read_again`]):
//! those cost an addition. No call takes longer than a look at each followed key.

use std::ops::RangeInclusive;

use hashbrown::HashTable;

use super::counts::{Counts, PARTS, Rates, errors, rates};
use super::evidence::Evidence;
use super::followed::{Followed, Reproduced, TAGS};
use super::heat::{Heat, Slot};
use super::names::{DATABASES, database, spread};
use super::outcome::{Outcome, Stored};
use super::tags::{TagHash, TagTimes};
use super::ttls::{A_DAY, A_MINUTE, AN_HOUR, LONGEST, Moment, in_ms};

/// After so many reads the counts of what is hot are halved.
const EPOCH: u32 = 65_536;
/// So often at least must a key have been asked for to be hot.
const LEAST_HEAT: u16 = 3;
/// Of so many reads that change nothing but counts one stands for the others, on average.
const EACH_AGAIN: u16 = 8;
/// Of so many followed keys one may be hot.
const HOT_SHARE: usize = 5;
/// The measured rate says something of the play only where a lifetime like the one in force is played.
const PLAYED_MS: RangeInclusive<f64> = 7_000.0..=f64::INFINITY;

/// What is told of a followed key when it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Details {
    /// Its first tags; 0 is none.
    pub tags: [TagHash; TAGS],
    /// Stands for its bytes; 0: nobody will tell; `None`: that is told later.
    pub digest: Option<u32>,
}

/// See the head.
pub struct Estimator {
    most_hot: usize,
    most_cold: usize,
    followed: Vec<Followed>,
    free: Vec<Slot>,
    heat: Heat,
    /// From this heat on a key is hot.
    bar: u16,
    hot_len: usize,
    /// Reads until the counts of what is hot are halved.
    left: u32,
    /// Reads that changed nothing but counts, and for which one will stand that is still to come: the last of so many.
    again: u16,
    most_again: u16,
    chance: u32,
    cold: HashTable<Slot>,
    /// Keys whose hash is below are sampled.
    threshold: u64,
    /// How many reads one of a sampled key stands for.
    weight: f64,
    /// The first read of a key below this is the first ever; of others nobody knows.
    known_below: u64,
    /// Since when it is so low.
    raised_at: Moment,
    hot_counts: Counts,
    cold_counts: [Counts; PARTS],
    /// Reads of keys that were not hot.
    cold_reads: f64,
    /// For so many ticks has been counted, halves included.
    watched: f64,
    turned_at: Moment,
    halved_at: Moment,
    /// When everything was last invalidated, in any database and in each.
    cleared_at: Moment,
    cleared: [Moment; DATABASES],
    began_at: Moment,
    /// What else is known of the type.
    pub evidence: Evidence,
}

/// When everything was last invalidated in a key's database, as far as that may concern it.
#[inline]
fn cleared_at(any: Moment, each: &[Moment; DATABASES], key: &Followed) -> Moment {
    if any < key.seen { 0 } else { each.get(database(key.hash())).copied().unwrap_or(any) }
}

impl Estimator {
    /// One that follows so many keys.
    pub fn new(keys: usize, now: Moment) -> Self {
        let keys = keys.clamp(HOT_SHARE, Slot::MAX.into());
        Self {
            most_hot: keys / HOT_SHARE,
            most_cold: keys - keys / HOT_SHARE,
            followed: Vec::new(),
            free: Vec::new(),
            heat: Heat::default(),
            bar: LEAST_HEAT,
            hot_len: 0,
            left: EPOCH,
            again: 0,
            most_again: 1,
            chance: 0x9E37_79B9,
            cold: HashTable::new(),
            threshold: u64::MAX,
            weight: 1.0,
            known_below: u64::MAX,
            raised_at: now,
            hot_counts: Counts::default(),
            cold_counts: Default::default(),
            cold_reads: 0.0,
            watched: 0.0,
            turned_at: now,
            halved_at: now,
            cleared_at: 0,
            cleared: [0; DATABASES],
            began_at: now,
            evidence: Evidence::default(),
        }
    }

    /// Does it follow so many?
    pub fn follows(&self, keys: usize) -> bool {
        self.most_hot + self.most_cold == keys.clamp(HOT_SHARE, Slot::MAX.into())
    }

    // ---- what happens ----

    /// Notes a read of the key with this hash.
    #[inline]
    pub fn read(&mut self, hash: u64, now: Moment, outcome: Outcome, tags: &TagTimes) {
        self.read_times(hash, 1, now, outcome, tags);
    }

    /// Notes a read that found what another found in the same moment, which was noted: a fresh value. It changes nothing but counts, so some of
    /// these stand for the others, and of those not even the hash is needed.
    #[inline]
    pub fn read_again(&mut self, hash: impl FnOnce() -> u64, now: Moment, tags: &TagTimes) {
        self.again += 1;
        if self.again < self.most_again {
            return;
        }
        let times = std::mem::take(&mut self.again);
        self.chance = self.chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.most_again = 1 + (self.chance >> 16) as u16 % (2 * EACH_AGAIN - 1);
        self.read_times(hash(), times, now, Outcome::Fresh, tags);
    }

    #[inline]
    fn read_times(&mut self, hash: u64, times: u16, now: Moment, outcome: Outcome, tags: &TagTimes) {
        let counted = self.heat.count(hash, times);
        if let Some(slot) = counted.displaced {
            self.cool_down(slot);
        }
        self.left = self.left.saturating_sub(times.into());
        self.evidence.measured.count(times.into(), outcome == Outcome::Fresh);
        if let Some(slot) = counted.slot {
            self.read_hot(slot, times, now, outcome, tags);
        } else {
            self.cold_reads += f64::from(times);
            if hash < self.threshold {
                self.read_sampled(hash, times, now, outcome, tags);
            }
            if counted.heat >= self.bar && self.hot_len < self.most_hot {
                self.warm_up(hash, now);
            }
        }
        if self.left == 0 {
            self.left = EPOCH;
            self.end_epoch();
        }
    }

    #[inline]
    fn read_hot(&mut self, slot: Slot, times: u16, now: Moment, outcome: Outcome, tags: &TagTimes) {
        let Some(key) = self.followed.get_mut(usize::from(slot)) else { return };
        let cleared = cleared_at(self.cleared_at, &self.cleared, key);
        let gap = key.gap(now);
        let misses = key.read(now, tags, cleared);
        self.hot_counts.count(times.into(), misses);
        if outcome != Outcome::Fresh {
            key.found_nothing_fresh(outcome);
            self.evidence.count_miss(times.into(), gap, outcome);
        }
    }

    fn read_sampled(&mut self, hash: u64, times: u16, now: Moment, outcome: Outcome, tags: &TagTimes) {
        let known = self.cold_slot(hash);
        let is_first = known.is_none();
        // What is there before anybody is known to have asked for it was stored, or loaded, by itself.
        let is_known_from_now = is_first && (hash >= self.known_below || outcome == Outcome::Fresh);
        let Some(slot) = known.or_else(|| self.sample(hash, now, is_known_from_now)) else { return };
        let weight = self.weight * f64::from(times);
        let Some(key) = self.followed.get_mut(usize::from(slot)) else { return };
        let cleared = cleared_at(self.cleared_at, &self.cleared, key);
        let gap = if is_first { Moment::MAX } else { key.gap(now) };
        let misses = key.read(now, tags, cleared);
        if outcome != Outcome::Fresh {
            key.found_nothing_fresh(outcome);
        }
        if is_known_from_now {
            return;
        }
        self.part(hash).into_iter().for_each(|counts| counts.count(weight, misses));
        if outcome != Outcome::Fresh {
            self.evidence.count_miss(weight, gap, outcome);
        }
    }

    fn part(&mut self, hash: u64) -> Option<&mut Counts> {
        self.cold_counts.get_mut((hash >> 8) as usize % PARTS)
    }

    fn set_threshold(&mut self, threshold: u64) {
        self.threshold = threshold.max(1);
        self.weight = u64::MAX as f64 / self.threshold as f64;
    }

    /// Notes that a value is stored. `details` is asked for if the key is followed. Names a tag that is watched from now on, if one is: after its
    /// invalidation the value was produced again.
    pub fn stored(
        &mut self,
        hash: u64,
        now: Moment,
        value: Stored,
        tags: &TagTimes,
        details: impl FnOnce() -> Details,
    ) -> Option<TagHash> {
        self.evidence.count_stored(value);
        let slot = self.slot(hash)?;
        let Details { tags: own, digest } = details();
        let key = self.followed.get_mut(usize::from(slot))?;
        key.stored(now, own, value.has_lease, tags);
        digest.and_then(|digest| self.digested(hash, now, digest))
    }

    /// Tells what stands for the bytes that were stored last under a key. As [`Estimator::stored`].
    pub fn digested(&mut self, hash: u64, now: Moment, digest: u32) -> Option<TagHash> {
        let slot = self.slot(hash)?;
        let key = self.followed.get_mut(usize::from(slot))?;
        let again: Reproduced = key.digested(now, digest)?;
        self.evidence.count_again(again)
    }

    /// Is the key with this hash followed?
    pub fn is_followed(&self, hash: u64) -> bool {
        self.slot(hash).is_some()
    }

    fn slot(&self, hash: u64) -> Option<Slot> {
        self.heat.slot(hash).or_else(|| if hash < self.threshold { self.cold_slot(hash) } else { None })
    }

    /// Notes that all entries of the type in the index of that number were invalidated.
    pub fn clear(&mut self, index: u16, now: Moment) {
        self.cleared_at = now;
        self.cleared.get_mut(usize::from(index) % DATABASES).into_iter().for_each(|at| *at = now);
    }

    /// Notes that the key with this hash was deleted.
    pub fn deleted(&mut self, hash: u64) {
        let key = self.slot(hash).and_then(|slot| self.followed.get_mut(usize::from(slot)));
        key.into_iter().for_each(Followed::deleted);
    }

    /// To be called now and then: time passes.
    pub fn turn(&mut self, now: Moment) {
        self.watched += f64::from(now.saturating_sub(self.turned_at));
        self.turned_at = now;
        if now.saturating_sub(self.halved_at) < A_DAY {
            return;
        }
        self.halved_at = now;
        self.hot_counts.halve();
        self.cold_counts.iter_mut().for_each(Counts::halve);
        self.cold_reads /= 2.0;
        self.watched /= 2.0;
        self.evidence.halve();
        self.forget_idle(now);
    }

    // ---- who is followed ----

    fn cold_slot(&self, hash: u64) -> Option<Slot> {
        let is_it = |slot: &Slot| self.followed.get(usize::from(*slot)).is_some_and(|key| key.hash() == hash);
        self.cold.find(spread(hash), is_it).copied()
    }

    fn add(&mut self, key: Followed) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            *self.followed.get_mut(usize::from(slot))? = key;
            return Some(slot);
        }
        let slot = Slot::try_from(self.followed.len()).ok()?;
        // Not twice as much each time: there is a bound, and a type may be small.
        let more = (self.followed.len() / 2).max(64).min((self.most_hot + self.most_cold).saturating_sub(slot.into()));
        if self.followed.len() == self.followed.capacity() {
            self.followed.reserve_exact(more.max(1));
        }
        self.followed.push(key);
        Some(slot)
    }

    fn add_cold(&mut self, slot: Slot, hash: u64) {
        let followed = &self.followed;
        let hash_of = |slot: &Slot| followed.get(usize::from(*slot)).map_or(0, |key| spread(key.hash()));
        self.cold.insert_unique(spread(hash), slot, hash_of);
    }

    fn remove_cold(&mut self, hash: u64) -> Option<Slot> {
        let followed = &self.followed;
        let is_it = |slot: &Slot| followed.get(usize::from(*slot)).is_some_and(|key| key.hash() == hash);
        self.cold.find_entry(spread(hash), is_it).ok().map(|found| found.remove().0)
    }

    /// Samples a key that is below the threshold, if that does not have to fall for it.
    fn sample(&mut self, hash: u64, now: Moment, is_known_from_now: bool) -> Option<Slot> {
        if self.cold.len() >= self.most_cold {
            self.lower_threshold();
            if hash >= self.threshold {
                return None;
            }
        }
        let key = if is_known_from_now { Followed::begin(hash, now) } else { Followed::new(hash) };
        let slot = self.add(key)?;
        self.add_cold(slot, hash);
        Some(slot)
    }

    /// Has the threshold fall so far that a sixteenth of the keys is let go.
    fn lower_threshold(&mut self) {
        let hash_of = |slot: &Slot| self.followed.get(usize::from(*slot)).map_or(0, |key| key.hash());
        let mut hashes: Vec<u64> = self.cold.iter().map(hash_of).collect();
        let kept = hashes.len() - (hashes.len() / 16).max(1);
        if hashes.is_empty() {
            return;
        }
        let (_, threshold, gone) = hashes.select_nth_unstable(kept);
        self.set_threshold(*threshold);
        self.known_below = self.known_below.min(self.threshold);
        let gone: Vec<u64> = std::iter::once(*threshold).chain(gone.iter().copied()).collect();
        for hash in gone {
            let slot = self.remove_cold(hash);
            self.free.extend(slot);
        }
    }

    /// Follows a key as a hot one from now on.
    fn warm_up(&mut self, hash: u64, now: Moment) {
        let sampled = if hash < self.threshold { self.remove_cold(hash) } else { None };
        let slot = sampled.or_else(|| self.add(Followed::begin(hash, now)));
        if let Some(slot) = slot {
            self.heat.set_slot(hash, Some(slot));
            self.hot_len += 1;
        }
    }

    /// A key is hot no longer: it is sampled if its hash says so, or let go.
    fn cool_down(&mut self, slot: Slot) {
        self.hot_len -= 1;
        let hash = self.followed.get(usize::from(slot)).map_or(u64::MAX, |key| key.hash());
        if hash >= self.threshold {
            return self.free.push(slot);
        }
        if self.cold.len() >= self.most_cold {
            self.lower_threshold();
        }
        if hash < self.threshold { self.add_cold(slot, hash) } else { self.free.push(slot) }
    }

    fn end_epoch(&mut self) {
        self.bar = self.heat.halve(self.most_hot).max(LEAST_HEAT / 2);
        for slot in self.heat.below(self.bar) {
            let hash = self.followed.get(usize::from(slot)).map_or(0, |key| key.hash());
            self.heat.set_slot(hash, None);
            self.cool_down(slot);
        }
    }

    /// Lets go of sampled keys that nobody asked for within the longest lifetime: their next read is a miss whether they are followed or
    /// not. If few are left the threshold rises.
    fn forget_idle(&mut self, now: Moment) {
        let is_idle = |key: &&Followed| now.saturating_sub(key.seen) > LONGEST;
        let idle: Vec<u64> = self.followed.iter().filter(is_idle).map(|key| key.hash()).collect();
        for hash in idle {
            let slot = self.remove_cold(hash);
            self.free.extend(slot);
        }
        if now.saturating_sub(self.raised_at) > LONGEST {
            self.known_below = self.threshold;
            if self.cold.len() < self.most_cold / 2 {
                self.set_threshold(self.threshold.saturating_mul(2));
                self.raised_at = now;
            }
        }
    }

    // ---- what follows ----

    /// The hit rate at each lifetime, and how far each may be off, both as shares.
    pub fn rates(&self) -> (Rates, Rates) {
        let ttl_ms = self.evidence.lifetime_ms().filter(|ttl_ms| PLAYED_MS.contains(ttl_ms));
        let measured = ttl_ms.zip(self.evidence.measured.rate());
        let without = |left_out: usize| {
            let parts = self.cold_counts.iter().enumerate().filter(move |(part, _)| *part != left_out);
            rates(&self.hot_counts, parts.map(|(_, counts)| counts), self.cold_reads, measured)
        };
        (without(PARTS), errors(without))
    }

    /// What was measured is of no use any more: the policy is another.
    pub fn measure_anew(&mut self) {
        self.evidence.measure_anew();
    }

    /// In how many hours was counted what is counted: a minute at least, as nothing follows for an hour from a moment.
    pub fn hours(&self) -> f64 {
        self.watched.max(A_MINUTE) / AN_HOUR
    }

    /// Reads an hour.
    pub fn reads_per_hour(&self) -> f64 {
        self.reads() / self.hours()
    }

    /// For how long the type has been watched, in ms.
    pub fn watched_ms(&self) -> f64 {
        in_ms(f64::from(self.turned_at.saturating_sub(self.began_at)))
    }

    /// Reads that all this is founded on.
    pub fn reads(&self) -> f64 {
        self.hot_counts.reads + self.cold_reads
    }

    /// How many keys are read so often that one read at least is to be expected within that time, in ms.
    pub fn busy_keys(&self, now: Moment, within_ms: f64) -> f64 {
        let is_busy = |key: &&Followed| in_ms(f64::from(key.gap(now))) < within_ms;
        let cold = self.cold.iter().filter_map(|slot| self.followed.get(usize::from(*slot)));
        self.hot_len as f64 + cold.filter(is_busy).count() as f64 * self.weight
    }

    /// Bytes of memory that it takes.
    pub fn size_bytes(&self) -> usize {
        self.followed.capacity() * size_of::<Followed>()
            + self.free.capacity() * size_of::<Slot>()
            + self.cold.allocation_size()
            + self.heat.size_bytes()
            + size_of::<Self>()
    }
}
