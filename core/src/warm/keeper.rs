//! The keys of one database that are kept in mind.
//!
//! ```text
//!  names {hash of key -> slot}    ids {id in the index -> slot}     soon {(when it is due, slot)}     jobs {(when to look again, slot)}
//!                       \            /                                    |  time                           |  no lease any more
//!                        known [slot] = key, type, cost, meta, tags, rate, pattern     ──▶ due {(score, slot)} ──▶ offered
//!                       /            \
//!  of a type:   best, rest {(score, slot)}   tried, new {(arrival, slot)}     a key of the best is offered, the others may become one
//! ```
//!
//! 1. Of a type the `n` keys that are worth most are its *best*. A quarter as many are kept besides, as the *rest*. As many are *new*: nobody has
//!    asked for them yet; and as many *tried*: somebody has, and some seconds will tell how often. Of these two the oldest make room. So whoever
//!    names a million keys once each displaces new keys and none that is asked for, and a key that is asked for often comes in.
//! 2. A key of the best whose value is not fresh any more, or soon will not be, is *due*, unless somebody produces it already, or it is not worth
//!    producing. So the next to be offered is found without a walk.
//! 3. What all keys take together is bounded; beyond it the one that is worth least goes, of whatever type, and of new ones the oldest.
//! 4. A score that is kept is never too low (see `rate`). It is computed anew before it decides; [`Keeper::turn`] does so in turns for all.
//! 5. What is said here of values is a hint. Before a key is offered the caller looks at what is there.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use roaring::RoaringBitmap;

use super::pattern::{HOUR_MS, Pattern, at_hour, hour};
use super::rate::{Rate, Score, score_from};
use crate::index::Ids;
use crate::lease::Token;

/// What names a key here.
pub type Slot = u32;

/// About what a key takes besides its texts: itself, and its places.
const KNOWN_BYTES: usize = size_of::<Known>() + 160;
/// About what a text takes besides itself.
const TEXT_BYTES: usize = 16;
/// No key takes more than such a part of all.
const LARGEST_PART: usize = 64;
/// New and tried keys may take such a part of all before known ones make room for them.
const NEW_PART: usize = 8;
/// Besides the best so many keys of a type are kept at least.
const LEAST_REST: usize = 16;
/// So many keys become due in one go for reasons of time.
const MOST_AT_ONCE: usize = 1024;
/// So long before an hour begins, what is asked for in it is produced, in ms.
pub const PREDICTED_AHEAD_MS: u64 = 5 * 60_000;

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// By the clock of the day, unix ms.
    pub unix_ms: u64,
    /// By the clock that nobody sets, ms.
    pub steady_ms: u64,
}

impl Now {
    fn unix(self) -> i64 {
        i64::try_from(self.unix_ms).unwrap_or(i64::MAX)
    }
}

/// Why a key is to be produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was invalidated.
    Invalidated,
    /// It is stale.
    Stale,
    /// Its time was over.
    Expired,
    /// It made room.
    Evicted,
    /// It will not be fresh for long.
    Expiring,
    /// It is going to be asked for.
    Predicted,
}

impl Reason {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalidated => "invalidated",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Expiring => "expiring",
            Self::Predicted => "predicted",
        }
    }
}

/// Among which keys of its type a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    /// It is worth most.
    Best,
    /// It may become one of these.
    Rest,
    /// It was asked for, and how often is not known yet.
    Tried,
    /// Nobody has asked for it yet.
    New,
}

/// What is known of a value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// What the index calls it.
    pub id: u32,
    /// Its fresh lifetime, in ms; 0: without end.
    pub lifetime_ms: u64,
    /// Until when it is fresh, unix ms; `None`: for ever.
    pub fresh_until_ms: Option<i64>,
    /// From when on it is refreshed early, in percent of its lifetime; 0: not at all.
    pub early_percent: u8,
    /// What producing it took, in ms.
    pub cost_ms: Option<u64>,
    /// Its format.
    pub format: Option<&'a [u8]>,
    /// What its producer said of it.
    pub meta: Option<&'a [u8]>,
    /// Its tags.
    pub tags: &'a [&'a [u8]],
}

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, in this database.
    pub bytes: usize,
    /// So many keys of the type are its best.
    pub best: usize,
}

/// A key that is kept in mind.
#[derive(Debug)]
pub struct Known {
    /// The key.
    pub key: Box<[u8]>,
    /// Its type.
    pub type_id: u16,
    /// What producing it took, in ms.
    pub cost_ms: Option<u64>,
    /// Its format.
    pub format: Option<Box<[u8]>>,
    /// What its producer said of it.
    pub meta: Option<Box<[u8]>>,
    /// Its tags.
    pub tags: Vec<Box<[u8]>>,
    /// How often it was asked for since it is known.
    pub hits: u64,
    /// Why it is not there, if it went.
    pub gone: Option<Reason>,
    lifetime_ms: u64,
    early_ms: u64,
    id: Option<u32>,
    fresh_until_ms: Option<i64>,
    /// Which one came first.
    arrival: i64,
    rate: Rate,
    pattern: Pattern,
    hour: u32,
    score: Score,
    /// Its place in `soon`.
    due_ms: Option<i64>,
    tier: Tier,
    is_due: bool,
    /// Is its value not fresh any more, or soon not?
    is_lapsed: bool,
    /// It is not worth producing unless it is asked for again.
    is_resting: bool,
    /// The hour for which it is predicted, and how surely.
    predicted: Option<(u32, f64)>,
    /// It is being produced: look again at that time, steady ms.
    job: Option<(u64, Option<Box<Token>>)>,
    /// It was produced because it was offered, and nobody asked for it since.
    is_warmed: bool,
}

impl Known {
    fn new(key: &[u8], type_id: u16, arrival: i64, now: Now) -> Self {
        Self {
            key: key.into(),
            type_id,
            cost_ms: None,
            format: None,
            meta: None,
            tags: Vec::new(),
            hits: 0,
            gone: None,
            lifetime_ms: 0,
            early_ms: 0,
            id: None,
            fresh_until_ms: None,
            arrival,
            rate: Rate::since(now.steady_ms),
            pattern: Pattern::default(),
            hour: hour(now.unix_ms),
            score: 0,
            due_ms: None,
            tier: Tier::New,
            is_due: false,
            is_lapsed: false,
            is_resting: false,
            predicted: None,
            job: None,
            is_warmed: false,
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.tags.iter().chain(&self.format).chain(&self.meta);
        texts.fold(KNOWN_BYTES + self.key.len(), |sum, text| sum + TEXT_BYTES + text.len())
    }

    fn see(&mut self, seen: &Seen<'_>) {
        let own = |text: &[u8]| text.into();
        let is_same = |old: &Option<Box<[u8]>>, new: Option<&[u8]>| old.as_deref() == new;
        self.cost_ms = seen.cost_ms.or(self.cost_ms);
        if !is_same(&self.format, seen.format) {
            self.format = seen.format.map(own);
        }
        if !is_same(&self.meta, seen.meta) {
            self.meta = seen.meta.map(own);
        }
        if !self.tags.iter().map(AsRef::as_ref).eq(seen.tags.iter().copied()) {
            self.tags = seen.tags.iter().copied().map(own).collect();
        }
        let passed = u64::from(100_u8.saturating_sub(seen.early_percent));
        self.early_ms = if seen.early_percent == 0 { 0 } else { seen.lifetime_ms / 100 * passed };
        (self.id, self.gone) = (Some(seen.id), None);
        (self.lifetime_ms, self.fresh_until_ms) = (seen.lifetime_ms, seen.fresh_until_ms);
    }

    fn counted(&mut self, now: Now) {
        self.hits += 1;
        self.rate.count(now.steady_ms);
        let to = at_hour(self.hour, hour(now.unix_ms));
        self.pattern = self.pattern.moved(self.hour, to);
        self.pattern.note(to);
        self.hour = to;
        self.is_resting = false;
    }

    fn is_young(&self) -> bool {
        matches!(self.tier, Tier::New | Tier::Tried)
    }

    /// Where it stands among those of its tier.
    fn place(&self) -> i64 {
        if self.is_young() { self.arrival } else { self.score }
    }

    fn is_wanted(&self) -> bool {
        self.tier == Tier::Best
            && (self.is_lapsed || self.predicted.is_some())
            && !self.is_resting
            && self.job.is_none()
    }

    /// By the rate of requests, or by what is predicted.
    fn scored(&self, now: Now) -> Score {
        let own = self.rate.score(self.cost_ms.unwrap_or(0), now.steady_ms);
        let Some((hour, share)) = self.predicted else { return own };
        // When the hour begins by the other clock.
        let begins_ms = now.steady_ms.saturating_add(u64::from(hour) * HOUR_MS).saturating_sub(now.unix_ms);
        own.max(score_from(share * 1000.0 / HOUR_MS as f64, self.cost_ms.unwrap_or(0), begins_ms))
    }

    /// Requests a second, now.
    pub fn per_second(&self, now: Now) -> f64 {
        self.rate.per_second(now.steady_ms)
    }

    /// Ms of waiting that having it is expected to save a second. A cost that nobody knows counts as 1 ms.
    pub fn worth(&self, now: Now) -> f64 {
        let by_rate = self.per_second(now);
        let rate = self.predicted.map_or(by_rate, |(_, share)| by_rate.max(share * 1000.0 / HOUR_MS as f64));
        rate * self.cost_ms.unwrap_or(1).max(1) as f64
    }

    /// Is one request at least to be expected while a value would be fresh?
    pub fn is_worth_it(&self, now: Now) -> bool {
        self.lifetime_ms == 0 || self.per_second(now) * self.lifetime_ms as f64 / 1000.0 >= 1.0
    }

    /// The hour for which it is predicted that somebody asks for it.
    pub fn predicted_hour(&self) -> Option<u32> {
        self.predicted.map(|(hour, _)| hour)
    }

    /// Until when its value is fresh as far as known, unix ms.
    #[cfg(test)]
    pub(super) fn fresh_until_ms(&self) -> Option<i64> {
        self.fresh_until_ms
    }

    /// For how long before its end its value is refreshed early, in ms.
    pub fn early_ms(&self) -> u64 {
        self.early_ms
    }
}

/// The keys of one type.
#[derive(Default)]
struct OfType {
    name: Box<[u8]>,
    best: BTreeSet<(Score, Slot)>,
    rest: BTreeSet<(Score, Slot)>,
    tried: BTreeSet<(i64, Slot)>,
    new: BTreeSet<(i64, Slot)>,
    due: BTreeSet<(Score, Slot)>,
    most: usize,
}

impl OfType {
    fn all(&self) -> impl Iterator<Item = &(i64, Slot)> {
        self.best.iter().chain(&self.rest).chain(&self.tried).chain(&self.new)
    }

    fn of_mut(&mut self, tier: Tier) -> &mut BTreeSet<(Score, Slot)> {
        match tier {
            Tier::Best => &mut self.best,
            Tier::Rest => &mut self.rest,
            Tier::Tried => &mut self.tried,
            Tier::New => &mut self.new,
        }
    }

    /// How many are kept besides the best, of each kind.
    fn most_rest(&self) -> usize {
        if self.most == 0 { 0 } else { self.most / 4 + LEAST_REST }
    }
}

/// See the head.
#[derive(Default)]
pub struct Keeper {
    hasher: DefaultHashBuilder,
    names: HashTable<Slot>,
    known: Vec<Option<Known>>,
    free: Vec<Slot>,
    ids: HashMap<u32, Slot>,
    living: RoaringBitmap,
    types: HashMap<u16, OfType>,
    soon: BTreeSet<(i64, Slot)>,
    jobs: BTreeSet<(u64, Slot)>,
    bytes: usize,
    /// Those of new and tried ones.
    young_bytes: usize,
    arrivals: i64,
    /// Where [`Keeper::turn`] goes on.
    next: usize,
    /// The slot after which [`Keeper::some_jobs`] goes on.
    last_job: (u64, Slot),
}

impl Keeper {
    // ---- what happens to keys ----

    /// Somebody asks for a key. `None`: it is not known; else whether this is the first request for a value that was produced because it
    /// was offered.
    pub fn asked(&mut self, key: &[u8], found_fresh: bool, now: Now) -> Option<bool> {
        let slot = self.find(key)?;
        let known = self.get_mut(slot)?;
        known.counted(now);
        let was_warmed = found_fresh && std::mem::take(&mut known.is_warmed);
        self.rank(slot, now);
        self.refile(slot);
        Some(was_warmed)
    }

    /// A value is there, stored just now or found by a read that knew of none. Says whether the key is kept in mind.
    pub fn keep(&mut self, key: &[u8], of: (u16, &[u8]), seen: &Seen<'_>, limits: Limits, now: Now) -> bool {
        let (type_id, type_name) = of;
        if limits.best == 0 {
            self.forget(key);
            return false;
        }
        self.prepare_type(type_id, type_name, limits.best);
        let slot = match self.find(key) {
            Some(slot) if self.get(slot).is_some_and(|known| known.type_id == type_id) => slot,
            _ => {
                self.forget(key);
                self.arrivals += 1;
                self.insert(Known::new(key, type_id, self.arrivals, now))
            }
        };
        self.leave(slot);
        self.end_job(slot);
        let Some(known) = self.get_mut(slot) else { return false };
        let before = known.bytes();
        known.see(seen);
        (known.is_lapsed, known.predicted, known.is_warmed) = (false, None, false);
        let (after, is_young) = (known.bytes(), known.is_young());
        self.bytes = self.bytes + after - before;
        if is_young {
            self.young_bytes = self.young_bytes + after - before;
        }
        if after > limits.bytes / LARGEST_PART {
            self.remove(slot);
            return false;
        }
        self.enter(slot, seen.id);
        self.rank(slot, now);
        self.refile(slot);
        while self.bytes > limits.bytes && self.drop_least(limits.bytes) {}
        self.find(key).is_some()
    }

    /// A value was produced by the holder of a lease. Was that because the key was offered?
    pub fn is_job(&self, key: &[u8], token: Token) -> bool {
        let known = self.find(key).and_then(|slot| self.get(slot));
        known.and_then(|known| known.job.as_ref()?.1.as_deref()).is_some_and(|own| *own == token)
    }

    /// A value that is known was produced because the key was offered.
    pub fn note_warmed(&mut self, key: &[u8]) {
        let known = self.find(key).and_then(|slot| self.get_mut(slot));
        known.into_iter().for_each(|known| known.is_warmed = true);
    }

    /// These entries were invalidated. Says whether any of them is known.
    pub fn invalidated(&mut self, ids: &Ids, now: Now) -> bool {
        let slots: Vec<Slot> = if ids.len() <= self.living.len() {
            ids.iter().filter_map(|id| self.ids.get(&id).copied()).collect()
        } else {
            self.living.iter().filter(|id| ids.contains(*id)).filter_map(|id| self.ids.get(&id).copied()).collect()
        };
        slots.iter().for_each(|slot| self.lapse(*slot, now));
        !slots.is_empty()
    }

    /// Is a key kept in mind?
    pub fn knows(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// A key went. Is it known?
    pub fn went(&mut self, key: &[u8], why: Reason, now: Now) -> bool {
        let Some(slot) = self.find(key) else { return false };
        self.leave(slot);
        if let Some(known) = self.get_mut(slot) {
            known.gone = Some(why);
        }
        self.lapse(slot, now);
        true
    }

    /// A key's value is fresh until another moment, unix ms.
    pub fn redated(&mut self, key: &[u8], fresh_until_ms: Option<i64>) {
        if let Some(slot) = self.find(key) {
            self.put_off(slot, fresh_until_ms);
        }
    }

    /// Nobody wants a key any more.
    pub fn forget(&mut self, key: &[u8]) {
        if let Some(slot) = self.find(key) {
            self.remove(slot);
        }
    }

    /// Forgets all keys of a type.
    pub fn forget_type(&mut self, type_id: u16) {
        let Some(of_type) = self.types.get(&type_id) else { return };
        let slots: Vec<Slot> = of_type.all().map(|(_, slot)| *slot).collect();
        slots.into_iter().for_each(|slot| self.remove(slot));
        self.types.remove(&type_id);
    }

    fn prepare_type(&mut self, type_id: u16, name: &[u8], most: usize) {
        if self.types.get(&type_id).is_some_and(|of_type| *of_type.name != *name) {
            // The number is another type's now.
            self.forget_type(type_id);
        }
        let of_type = self.types.entry(type_id).or_default();
        if of_type.most == 0 {
            of_type.name = name.into();
        }
        of_type.most = most;
    }

    /// These types, with their names and how many keys are the best of each, are to be kept in mind; all others are forgotten.
    pub fn want(&mut self, types: &[(u16, Box<[u8]>, u64)]) {
        let wanted = |id: u16, of_type: &OfType| {
            let same = types.iter().find(|(known, name, _)| *known == id && *name == of_type.name);
            same.map(|(_, _, most)| usize::try_from(*most).unwrap_or(0))
        };
        let all: Vec<(u16, Option<usize>)> = self.types.iter().map(|(id, of)| (*id, wanted(*id, of))).collect();
        for (id, most) in all {
            match (most, self.types.get_mut(&id)) {
                (Some(most), Some(of_type)) if of_type.most != most => {
                    of_type.most = most;
                    self.balance(id);
                }
                (Some(_), _) => (),
                (None, _) => self.forget_type(id),
            }
        }
    }

    // ---- offering ----

    /// Has keys become due that are within `ahead_ms` of the end of their freshness, or as early as their types say.
    pub fn settle(&mut self, ahead_ms: Option<u64>, now: Now) {
        let until_ms = now.unix().saturating_add(i64::try_from(ahead_ms.unwrap_or(0)).unwrap_or(i64::MAX));
        for _ in 0..MOST_AT_ONCE {
            let Some((at_ms, slot)) = self.soon.first().copied().filter(|(at_ms, _)| *at_ms <= until_ms) else { break };
            self.soon.remove(&(at_ms, slot));
            if let Some(known) = self.get_mut(slot) {
                known.due_ms = None;
            }
            self.lapse(slot, now);
        }
    }

    /// The key that is worth most of those that are due, of any or of these types, and ranked below `below`.
    pub fn next_due(&mut self, types: Option<&[u16]>, below: Option<(Score, Slot)>, now: Now) -> Option<(Score, Slot)> {
        loop {
            let is_meant = |id: &u16| types.is_none_or(|types| types.contains(id));
            let first = |of_type: &OfType| match below {
                Some(below) => of_type.due.range(..below).next_back().copied(),
                None => of_type.due.last().copied(),
            };
            let meant = self.types.iter().filter(|(id, _)| is_meant(id));
            let next = meant.filter_map(|(_, of_type)| first(of_type)).max()?;
            self.rank(next.1, now);
            // Its score may have been too high.
            let Some(known) = self.get(next.1).filter(|known| known.is_due) else { continue };
            if known.score >= next.0 {
                return Some((known.score, next.1));
            }
        }
    }

    /// A key that is kept in mind.
    pub fn get(&self, slot: Slot) -> Option<&Known> {
        self.known.get(slot as usize)?.as_ref()
    }

    /// A key is not worth producing, unless somebody asks for it again.
    pub fn rest(&mut self, slot: Slot) {
        self.change(slot, |known| (known.is_resting, known.predicted) = (true, None));
    }

    /// A value is fresh after all, until that moment, unix ms.
    pub fn put_off(&mut self, slot: Slot, fresh_until_ms: Option<i64>) {
        self.change(slot, |known| {
            (known.is_lapsed, known.fresh_until_ms, known.predicted) = (false, fresh_until_ms, None);
        });
        self.wait_for_end(slot);
    }

    /// A key is being produced, by somebody who was offered it or by another; look again at that time, steady ms.
    pub fn start_job(&mut self, slot: Slot, until_ms: u64, token: Option<Token>) {
        self.end_job(slot);
        if self.get(slot).is_some() {
            self.change(slot, |known| known.job = Some((until_ms, token.map(Box::new))));
            self.jobs.insert((until_ms, slot));
        }
    }

    /// A key is not being produced any more.
    pub fn end_job(&mut self, slot: Slot) {
        let job = self.get_mut(slot).and_then(|known| known.job.take());
        if let Some((until_ms, _)) = job {
            self.jobs.remove(&(until_ms, slot));
        }
        self.refile(slot);
    }

    /// A key goes on being produced; look again at that time, steady ms.
    pub fn prolong_job(&mut self, slot: Slot, until_ms: u64) {
        let Some(job) = self.get_mut(slot).and_then(|known| known.job.as_mut()) else { return };
        let old = std::mem::replace(&mut job.0, until_ms);
        self.jobs.remove(&(old, slot));
        self.jobs.insert((until_ms, slot));
    }

    /// Some keys that are being produced as far as known, to be looked at: those whose time is over, and others in turns.
    pub fn some_jobs(&mut self, most: usize, now: Now) -> Vec<Slot> {
        let over = self.jobs.range(..=(now.steady_ms, Slot::MAX)).take(most).copied();
        let mut jobs: Vec<(u64, Slot)> = over.collect();
        let room = most - jobs.len();
        let after = (std::ops::Bound::Excluded(self.last_job), std::ops::Bound::Unbounded);
        jobs.extend(self.jobs.range(after).chain(&self.jobs).take(room.min(self.jobs.len())).copied());
        self.last_job = jobs.last().copied().unwrap_or_default();
        jobs.sort_unstable();
        jobs.dedup();
        jobs.into_iter().map(|(_, slot)| slot).collect()
    }

    /// When something is due by time next, unix ms.
    pub fn next_ms(&self) -> Option<i64> {
        self.soon.first().map(|(at_ms, _)| *at_ms)
    }

    /// Is any key due, of any or of these types?
    pub fn has_due(&self, types: Option<&[u16]>) -> bool {
        let mut meant = self.types.iter().filter(|(id, _)| types.is_none_or(|types| types.contains(id)));
        meant.any(|(_, of_type)| !of_type.due.is_empty())
    }

    // ---- time ----

    /// Looks at so many keys, one after the other: computes their scores anew, and predicts.
    pub fn turn(&mut self, count: usize, now: Now) {
        self.settle(None, now);
        for _ in 0..count.min(self.known.len()) {
            let slot = self.next;
            self.next = (self.next + 1) % self.known.len().max(1);
            let Ok(slot) = Slot::try_from(slot) else { return };
            self.predict(slot, now);
            self.rank(slot, now);
        }
    }

    fn predict(&mut self, slot: Slot, now: Now) {
        // The hour that begins soon, or has just begun.
        let soon_ms = now.unix_ms.saturating_add(PREDICTED_AHEAD_MS);
        let (next, is_time) = (hour(soon_ms), soon_ms % HOUR_MS < 2 * PREDICTED_AHEAD_MS);
        let Some(known) = self.get_mut(slot) else { return };
        let at = at_hour(known.hour, next);
        let share = if is_time { known.pattern.moved(known.hour, at).share(at) } else { 0.0 };
        let begins_ms = i64::try_from(u64::from(next) * HOUR_MS).unwrap_or(i64::MAX);
        let is_fresh_then = known.gone.is_none() && known.fresh_until_ms.is_none_or(|until_ms| until_ms > begins_ms);
        let predicted = (share >= 0.5 && !is_fresh_then).then_some((next, share));
        if predicted.map(|(hour, _)| hour) != known.predicted_hour() {
            known.is_resting &= predicted.is_none();
            known.predicted = predicted;
            self.refile(slot);
        }
    }

    // ---- counts ----

    /// How many keys are kept in mind.
    pub fn len(&self) -> usize {
        self.known.len() - self.free.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are due.
    pub fn due_len(&self) -> usize {
        self.types.values().map(|of_type| of_type.due.len()).sum()
    }

    /// Says what does not fit together inside.
    #[cfg(test)]
    pub(super) fn check(&self, now: Now) {
        let all = || (0..).zip(&self.known).filter_map(|(slot, known)| Some((slot, known.as_ref()?)));
        assert_eq!(all().map(|(_, known)| known.bytes()).sum::<usize>(), self.bytes);
        let young = all().filter(|(_, known)| known.is_young());
        assert_eq!(young.map(|(_, known)| known.bytes()).sum::<usize>(), self.young_bytes);
        assert_eq!((self.names.len(), all().count()), (self.len(), self.len()));
        assert_eq!(all().filter(|(_, known)| known.id.is_some()).count(), self.ids.len());
        assert_eq!(self.living.len(), self.ids.len() as u64);
        assert_eq!(all().filter(|(_, known)| known.due_ms.is_some()).count(), self.soon.len());
        assert_eq!(all().filter(|(_, known)| known.job.is_some()).count(), self.jobs.len());
        for (slot, known) in all() {
            assert!(self.types.contains_key(&known.type_id));
            let Some(of_type) = self.types.get(&known.type_id) else { continue };
            let place = (known.place(), slot);
            let tiers = [
                (&of_type.best, Tier::Best),
                (&of_type.rest, Tier::Rest),
                (&of_type.tried, Tier::Tried),
                (&of_type.new, Tier::New),
            ];
            assert!(tiers.iter().all(|(set, tier)| set.contains(&place) == (*tier == known.tier)));
            assert_eq!(!known.rate.is_asked_for(), known.tier == Tier::New);
            assert_eq!(
                (of_type.due.contains(&(known.score, slot)), known.is_due),
                (known.is_wanted(), known.is_wanted())
            );
            assert_eq!(self.find(&known.key), Some(slot));
            assert!(known.predicted.is_some() || known.score >= known.scored(now), "a score is never too low");
        }
        for of_type in self.types.values() {
            assert!(
                of_type.best.len() <= of_type.most && of_type.rest.len().max(of_type.new.len()) <= of_type.most_rest()
            );
            assert!(of_type.best.first() > of_type.rest.last() || of_type.best.is_empty() && of_type.rest.is_empty());
        }
        let placed: usize = self.types.values().map(|of_type| of_type.all().count()).sum();
        assert_eq!(placed, self.len());
    }

    /// Has them take no more than so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        for _ in 0..MOST_AT_ONCE {
            if self.bytes <= bytes || !self.drop_least(bytes) {
                return;
            }
        }
    }

    // ---- inside ----

    fn find(&self, key: &[u8]) -> Option<Slot> {
        if self.names.is_empty() {
            return None;
        }
        let is_it = |slot: &Slot| self.get(*slot).is_some_and(|known| *known.key == *key);
        self.names.find(self.hasher.hash_one(key), is_it).copied()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Known> {
        self.known.get_mut(slot as usize)?.as_mut()
    }

    fn insert(&mut self, known: Known) -> Slot {
        let hash = self.hasher.hash_one(&*known.key);
        self.bytes += known.bytes();
        self.young_bytes += known.bytes();
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.known.push(None);
                Slot::try_from(self.known.len() - 1).unwrap_or(Slot::MAX)
            }
        };
        if let Some(place) = self.known.get_mut(slot as usize) {
            *place = Some(known);
        }
        let (all, hasher) = (&self.known, &self.hasher);
        let hash_of = |slot: &Slot| {
            let known = all.get(*slot as usize).and_then(Option::as_ref);
            hasher.hash_one(known.map_or(&[][..], |known| &*known.key))
        };
        self.names.insert_unique(hash, slot, hash_of);
        slot
    }

    fn remove(&mut self, slot: Slot) {
        self.leave(slot);
        self.end_job(slot);
        let Some(known) = self.known.get_mut(slot as usize).and_then(Option::take) else { return };
        let hash = self.hasher.hash_one(&*known.key);
        if let Ok(found) = self.names.find_entry(hash, |own| *own == slot) {
            found.remove();
        }
        if let Some(of_type) = self.types.get_mut(&known.type_id) {
            of_type.of_mut(known.tier).remove(&(known.place(), slot));
            of_type.due.remove(&(known.score, slot));
        }
        self.bytes -= known.bytes();
        if known.is_young() {
            self.young_bytes -= known.bytes();
        }
        self.free.push(slot);
        if self.free.len() == self.known.len() {
            (self.known, self.free, self.names) = (Vec::new(), Vec::new(), HashTable::new());
        }
    }

    /// A value is not in the index any more, or another is going to take its place.
    fn leave(&mut self, slot: Slot) {
        let Some(known) = self.get_mut(slot) else { return };
        let (id, due_ms) = (known.id.take(), known.due_ms.take());
        if let Some(id) = id {
            self.ids.remove(&id);
            self.living.remove(id);
        }
        if let Some(due_ms) = due_ms {
            self.soon.remove(&(due_ms, slot));
        }
    }

    /// A value is in the index.
    fn enter(&mut self, slot: Slot, id: u32) {
        if let Some(other) = self.ids.insert(id, slot).filter(|other| *other != slot)
            && let Some(other) = self.get_mut(other)
        {
            // Its entry went, and nobody told.
            other.id = None;
        }
        self.living.insert(id);
        self.wait_for_end(slot);
    }

    /// Sees to it that a key becomes due in time.
    fn wait_for_end(&mut self, slot: Slot) {
        let Some(known) = self.get_mut(slot) else { return };
        let early_ms = i64::try_from(known.early_ms).unwrap_or(i64::MAX);
        let due_ms = known.fresh_until_ms.map(|until_ms| until_ms.saturating_sub(early_ms));
        let old = std::mem::replace(&mut known.due_ms, due_ms);
        old.into_iter().for_each(|due_ms| _ = self.soon.remove(&(due_ms, slot)));
        due_ms.into_iter().for_each(|due_ms| _ = self.soon.insert((due_ms, slot)));
    }

    /// A value is not fresh any more, or soon not.
    fn lapse(&mut self, slot: Slot, now: Now) {
        self.change(slot, |known| (known.is_lapsed, known.is_resting) = (true, false));
        self.rank(slot, now);
    }

    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.get_mut(slot) {
            change(known);
        }
        self.refile(slot);
    }

    /// Computes a key's score anew, and puts it where it belongs.
    fn rank(&mut self, slot: Slot, now: Now) {
        let Some(known) = self.known.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let Some(of_type) = self.types.get_mut(&known.type_id) else { return };
        let (old_place, old_tier, was_young) = (known.place(), known.tier, known.is_young());
        let score = known.scored(now);
        let old = std::mem::replace(&mut known.score, score);
        if known.tier == Tier::New && known.rate.is_asked_for() {
            known.tier = Tier::Tried;
        }
        if known.tier == Tier::Tried {
            let is_better = of_type.rest.first().is_none_or(|(least, _)| known.score > *least);
            let is_in = of_type.rest.len() < of_type.most_rest() || is_better || known.rate.is_settled(now.steady_ms);
            known.tier = if is_in { Tier::Rest } else { Tier::Tried };
        }
        if was_young && !known.is_young() {
            self.young_bytes -= known.bytes();
        }
        let (type_id, tier, place) = (known.type_id, known.tier, known.place());
        if of_type.due.remove(&(old, slot)) {
            of_type.due.insert((score, slot));
        }
        of_type.of_mut(old_tier).remove(&(old_place, slot));
        of_type.of_mut(tier).insert((place, slot));
        self.balance(type_id);
    }

    /// Has the best of a type be those that are worth most, and lets go of what is too much.
    fn balance(&mut self, type_id: u16) {
        while let Some(of_type) = self.types.get_mut(&type_id) {
            let (most, most_rest) = (of_type.most, of_type.most_rest());
            let (least, next) = (of_type.best.first().copied(), of_type.rest.last().copied());
            if of_type.best.len() > most {
                self.move_to_rest(type_id, least);
            } else if next.is_some() && most > 0 && (of_type.best.len() < most || next > least) {
                self.move_to_best(type_id, next);
            } else {
                let too_many =
                    [&of_type.rest, &of_type.tried, &of_type.new].into_iter().find(|all| all.len() > most_rest);
                let Some((_, slot)) = too_many.and_then(BTreeSet::first).copied() else { return };
                self.remove(slot);
            }
        }
    }

    fn move_to_rest(&mut self, type_id: u16, which: Option<(Score, Slot)>) {
        let (Some(which), Some(of_type)) = (which, self.types.get_mut(&type_id)) else { return };
        of_type.best.remove(&which);
        of_type.rest.insert(which);
        self.change(which.1, |known| known.tier = Tier::Rest);
    }

    fn move_to_best(&mut self, type_id: u16, which: Option<(Score, Slot)>) {
        let (Some(which), Some(of_type)) = (which, self.types.get_mut(&type_id)) else { return };
        of_type.rest.remove(&which);
        of_type.best.insert(which);
        self.change(which.1, |known| known.tier = Tier::Best);
    }

    /// Puts a key among those that are due, or takes it out.
    fn refile(&mut self, slot: Slot) {
        let Some(known) = self.get_mut(slot) else { return };
        let (is_wanted, score, type_id) = (known.is_wanted(), known.score, known.type_id);
        if known.is_due == is_wanted {
            return;
        }
        known.is_due = is_wanted;
        let Some(of_type) = self.types.get_mut(&type_id) else { return };
        if is_wanted {
            of_type.due.insert((score, slot));
        } else {
            of_type.due.remove(&(score, slot));
        }
    }

    /// Lets go of the key that is worth least, or of the oldest new or tried one if these take more than their part of so many bytes. Was
    /// there one?
    fn drop_least(&mut self, bytes: usize) -> bool {
        let oldest =
            |of: fn(&OfType) -> &BTreeSet<(i64, Slot)>| self.types.values().filter_map(|own| of(own).first()).min();
        let oldest = oldest(|of_type| &of_type.new).or_else(|| oldest(|of_type| &of_type.tried)).copied();
        let least = |of_type: &OfType| of_type.rest.first().or_else(|| of_type.best.first()).copied();
        let least = self.types.values().filter_map(least).min();
        let goes = if self.young_bytes > bytes / NEW_PART { oldest.or(least) } else { least.or(oldest) };
        let Some((_, slot)) = goes else { return false };
        self.remove(slot);
        true
    }
}
