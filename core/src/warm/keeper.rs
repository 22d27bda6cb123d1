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
//! 3. What all keys take together is bounded; beyond it the one that is worth least goes, of whatever type, and of new ones the oldest. Of many
//!    types some are looked at for that, in turns.
//! 4. A score that is kept is never too low (see `rate`): where it is computed for a request it allows for some more, so that most need not move
//!    their key. It is computed anew before it decides; [`Keeper::turn`] does so in turns for all.
//! 5. What is said here of values is a hint. Before a key is offered the caller looks at what is there.
//! 6. No call does more than a bounded number of steps. An invalidation of many only notes which values it meant (see `behind`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use roaring::RoaringBitmap;

use super::known::{KNOWN_BYTES, Known, Now, Reason, Seen, Slot};
use super::pattern::{HOUR_MS, at_hour, hour};
use super::rate::Score;
use super::tiers::OfType;

/// Of so many unknown keys that are asked for one is let in where another has to make room.
const LET_IN: u32 = 8;
/// And not more than so many from one [`Keeper::turn`] to the next: what comes in is to have time to be asked for again.
const MOST_LET_IN: u32 = 64;
/// For such a part more of a key's requests its score allows.
const SLACK: f64 = 1.0 / 32.0;
/// No key takes more than such a part of all.
const LARGEST_PART: usize = 64;
/// So many keys become due in one go, or are let go.
pub(super) const MOST_AT_ONCE: usize = 128;
/// So long before an hour begins, what is asked for in it is produced, in ms.
pub const PREDICTED_AHEAD_MS: u64 = 5 * 60_000;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, in this database.
    pub bytes: usize,
    /// So many keys of the type are its best.
    pub best: usize,
}

impl Limits {
    /// May a key of that name be kept?
    pub fn have_room_for(&self, key: &[u8]) -> bool {
        KNOWN_BYTES + key.len() <= self.bytes / LARGEST_PART
    }
}

/// See the head.
#[derive(Default)]
pub struct Keeper {
    pub(super) hasher: DefaultHashBuilder,
    pub(super) names: HashTable<Slot>,
    pub(super) known: Vec<Option<Box<Known>>>,
    /// The lowest first. What is beyond the last slot is none any more.
    pub(super) free: BinaryHeap<Reverse<Slot>>,
    pub(super) ids: HashMap<u32, Slot>,
    pub(super) living: RoaringBitmap,
    /// Those of them that were invalidated, and whose keys are still to be told.
    pub(super) untold: RoaringBitmap,
    /// Those that have keys here.
    pub(super) types: BTreeMap<u16, OfType>,
    /// Of all types.
    pub(super) due: BTreeSet<(Score, Slot)>,
    /// How often a key became due.
    pub(super) dues: u64,
    pub(super) soon: BTreeSet<(i64, Slot)>,
    pub(super) jobs: BTreeSet<(u64, Slot)>,
    /// So many slots are still to be looked through for jobs that nobody told the end of.
    pub(super) doubted: usize,
    /// The next of them.
    pub(super) next_doubted: usize,
    pub(super) bytes: usize,
    /// Those of new and tried ones.
    pub(super) young_bytes: usize,
    arrivals: i64,
    /// Where [`Keeper::turn`] goes on.
    next: usize,
    /// Where [`Keeper::look_after_types`] goes on.
    next_type: u16,
    /// What decides which unknown key is let in.
    chance: u32,
    /// So many were let in since the last turn.
    let_in: u32,
    /// Where it goes on when one is to be let go.
    pub(super) next_sampled: u16,
}

impl Keeper {
    // ---- what happens to keys ----

    /// Somebody asks for a key. `None`: it is not known; else whether this is the first request for a value that was produced because it
    /// was offered.
    pub fn asked(&mut self, key: &[u8], found_fresh: bool, now: Now) -> Option<bool> {
        let slot = self.find(key)?;
        Some(self.count(slot, found_fresh, now))
    }

    /// As [`Keeper::asked`], where the index calls the value so. It is found by that alone: `None` where it is not known by it.
    #[inline]
    pub fn asked_for(&mut self, id: u32, key: &[u8], found_fresh: bool, now: Now) -> Option<bool> {
        let slot = *self.ids.get(&id)?;
        self.get(slot).filter(|known| *known.key == *key)?;
        Some(self.count(slot, found_fresh, now))
    }

    #[inline]
    fn count(&mut self, slot: Slot, found_fresh: bool, now: Now) -> bool {
        let is_counted = self.get_mut(slot).is_some_and(|known| known.counted_only(now));
        !is_counted && self.count_and_rank(slot, found_fresh, now)
    }

    #[inline(never)]
    fn count_and_rank(&mut self, slot: Slot, found_fresh: bool, now: Now) -> bool {
        let Some(known) = self.get_mut(slot) else { return false };
        known.counted(now);
        let was_warmed = found_fresh && std::mem::take(&mut known.is_warmed);
        self.rank_with(slot, SLACK, now);
        self.refile(slot);
        was_warmed
    }

    /// Is a key that somebody asks for, and that is not known, to be kept in mind? Where another would have to make room for it, mostly not:
    /// what is asked for often comes in all the same, and has more time then to be asked for again.
    pub fn admits(&mut self, type_id: u16, limits: Limits) -> bool {
        let is_full = self.types.get(&type_id).is_some_and(|own| own.most > 0 && own.new.len() >= own.most_rest());
        if !is_full && self.bytes + KNOWN_BYTES <= limits.bytes {
            return true;
        }
        self.chance = self.chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let is_let_in = self.let_in < MOST_LET_IN && (self.chance >> 16).is_multiple_of(LET_IN);
        self.let_in += u32::from(is_let_in);
        is_let_in
    }

    /// A value is there, stored just now or found by a read that knew of none. Says whether the key is kept in mind.
    pub fn keep(&mut self, key: &[u8], of: (u16, &[u8]), seen: &Seen<'_>, limits: Limits, now: Now) -> bool {
        let (type_id, type_name) = of;
        if limits.best == 0 || !limits.have_room_for(key) {
            self.forget(key);
            return false;
        }
        if !self.prepare_type(type_id, type_name, limits.best) {
            return false;
        }
        let found = self.find(key);
        let is_of_type = |slot: &Slot| self.get(*slot).is_some_and(|known| known.type_id == type_id);
        let known = found.filter(is_of_type);
        if known.is_none() {
            found.into_iter().for_each(|slot| self.remove(slot));
        }
        let slot = known.unwrap_or_else(|| {
            self.arrivals += 1;
            self.insert(Known::new(key, type_id, self.arrivals, now))
        });
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
        self.shrink(limits.bytes);
        self.get(slot).is_some_and(|known| *known.key == *key)
    }

    /// A value that is known was produced because the key was offered.
    pub fn note_warmed(&mut self, key: &[u8]) {
        let known = self.find(key).and_then(|slot| self.get_mut(slot));
        known.into_iter().for_each(|known| known.is_warmed = true);
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
        self.lapse(slot, why == Reason::Expired, now);
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

    // ---- types ----

    /// May keys of a type of that name be kept?
    fn prepare_type(&mut self, type_id: u16, name: &[u8], most: usize) -> bool {
        let is_anothers = |all: &BTreeMap<u16, OfType>| all.get(&type_id).is_some_and(|of_type| *of_type.name != *name);
        if is_anothers(&self.types) {
            // The number is another type's now. As long as some of the old one's keys are left the new one's have to wait.
            self.forget_some(type_id, MOST_AT_ONCE);
            if is_anothers(&self.types) {
                return false;
            }
        }
        let of_type = self.types.entry(type_id).or_default();
        if of_type.most == 0 {
            of_type.name = name.into();
        }
        of_type.most = most;
        true
    }

    /// The name of a type of which keys are kept in mind.
    pub fn type_name(&self, type_id: u16) -> Option<&[u8]> {
        self.types.get(&type_id).map(|of_type| &*of_type.name)
    }

    /// Looks at so many types, one after the other: whether there still is one of that name, and how many keys are to be the best of it. What
    /// is not wanted any more is forgotten, in turns too: about so many keys.
    pub fn look_after_types<'n>(
        &mut self,
        count: usize,
        keys: usize,
        wanted: impl Fn(u16) -> Option<(&'n [u8], usize)>,
    ) {
        let mut left = keys.max(1);
        for _ in 0..count.min(self.types.len()) {
            let next = self.types.range(self.next_type..).next().or_else(|| self.types.first_key_value());
            let Some((type_id, of_type)) = next else { return };
            let (type_id, before) = (*type_id, of_type.most);
            let most = wanted(type_id).filter(|(name, _)| *name == &*of_type.name).map_or(0, |(_, most)| most);
            if most == 0 {
                left -= self.forget_some(type_id, left);
            } else if before != most || !of_type.is_balanced() {
                self.types.entry(type_id).and_modify(|of_type| of_type.most = most);
                self.balance(type_id);
                left = left.saturating_sub(MOST_AT_ONCE);
            }
            if left == 0 {
                // It goes on with this one.
                self.next_type = type_id;
                return;
            }
            self.next_type = type_id.wrapping_add(1);
        }
    }

    /// Forgets so many keys of a type. How many were there?
    fn forget_some(&mut self, type_id: u16, most: usize) -> usize {
        let Some(of_type) = self.types.get(&type_id) else { return 0 };
        let slots: Vec<Slot> = of_type.all().take(most).map(|(_, slot)| *slot).collect();
        slots.iter().for_each(|slot| self.remove(*slot));
        slots.len()
    }

    // ---- time ----

    /// Looks at so many keys, one after the other: computes their scores anew, and predicts.
    pub fn turn(&mut self, count: usize, now: Now) {
        self.let_in = 0;
        self.catch_up(count, now);
        self.give_back(count);
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

    /// A key that is kept in mind.
    pub fn get(&self, slot: Slot) -> Option<&Known> {
        self.known.get(slot as usize)?.as_deref()
    }

    /// How many keys are kept in mind.
    pub fn len(&self) -> usize {
        self.names.len()
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
        self.due.len()
    }

    /// How often a key became due. As long as this stays the same, whoever was offered nothing is offered nothing again, but for what has to
    /// do with himself.
    pub fn dues(&self) -> u64 {
        self.dues
    }
}
