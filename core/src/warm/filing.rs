//! Where keys stand: by name, by number, by worth, by what is due. All of it changes here.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::keeper::{Keeper, MOST_AT_ONCE};
use super::known::{Known, Now, Slot, Tier};
use super::rate::Score;
use super::tiers::OfType;

/// New and tried keys may take such a part of all before known ones make room for them.
const NEW_PART: usize = 8;
/// So many types are looked at to find the key that is worth least.
const SAMPLED: usize = 16;

impl Keeper {
    /// Has them take no more than so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        for _ in 0..MOST_AT_ONCE {
            if self.bytes <= bytes || !self.drop_least(bytes) {
                return;
            }
        }
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Slot> {
        if self.names.is_empty() {
            return None;
        }
        let is_it = |slot: &Slot| self.get(*slot).is_some_and(|known| *known.key == *key);
        self.names.find(self.hasher.hash_one(key), is_it).copied()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Known> {
        self.known.get_mut(slot as usize)?.as_deref_mut()
    }

    /// Takes a new key in, of a type that is there.
    pub(super) fn insert(&mut self, known: Known) -> Slot {
        let hash = self.hasher.hash_one(&*known.key);
        self.bytes += known.bytes();
        self.young_bytes += known.bytes();
        let slot = match self.free.pop() {
            Some(Reverse(slot)) if (slot as usize) < self.known.len() => slot,
            // The others are beyond the last slot too.
            _ => {
                self.free.clear();
                self.known.push(None);
                Slot::try_from(self.known.len() - 1).unwrap_or(Slot::MAX)
            }
        };
        let of_type = self.types.get_mut(&known.type_id);
        of_type.into_iter().for_each(|of_type| _ = of_type.new.insert((known.place(), slot)));
        if let Some(place) = self.known.get_mut(slot as usize) {
            *place = Some(Box::new(known));
        }
        let (all, hasher) = (&self.known, &self.hasher);
        let hash_of = |slot: &Slot| {
            let known = all.get(*slot as usize).and_then(Option::as_deref);
            hasher.hash_one(known.map_or(&[][..], |known| &*known.key))
        };
        self.names.insert_unique(hash, slot, hash_of);
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
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
            if of_type.is_empty() {
                self.types.remove(&known.type_id);
            }
        }
        self.due.remove(&(known.score, slot));
        self.bytes -= known.bytes();
        if known.is_young() {
            self.young_bytes -= known.bytes();
        }
        self.free.push(Reverse(slot));
        if self.names.is_empty() {
            (self.known, self.free, self.names) = (Vec::new(), BinaryHeap::new(), HashTable::new());
        }
    }

    /// A value is not in the index any more, or another is going to take its place.
    pub(super) fn leave(&mut self, slot: Slot) {
        let Some(known) = self.get_mut(slot) else { return };
        let (id, due_ms) = (known.id.take(), known.due_ms.take());
        if let Some(id) = id {
            self.ids.remove(&id);
            self.living.remove(id);
            self.untold.remove(id);
        }
        if let Some(due_ms) = due_ms {
            self.soon.remove(&(due_ms, slot));
        }
    }

    /// A value is in the index.
    pub(super) fn enter(&mut self, slot: Slot, id: u32) {
        if let Some(other) = self.ids.insert(id, slot).filter(|other| *other != slot)
            && let Some(other) = self.get_mut(other)
        {
            // Its entry went, and nobody told.
            other.id = None;
        }
        self.living.insert(id);
        self.untold.remove(id);
        self.wait_for_end(slot);
    }

    /// Sees to it that a key becomes due in time.
    pub(super) fn wait_for_end(&mut self, slot: Slot) {
        let Some(known) = self.get_mut(slot) else { return };
        let early_ms = i64::try_from(known.early_ms).unwrap_or(i64::MAX);
        let due_ms = known.fresh_until_ms.map(|until_ms| until_ms.saturating_sub(early_ms));
        let old = std::mem::replace(&mut known.due_ms, due_ms);
        old.into_iter().for_each(|due_ms| _ = self.soon.remove(&(due_ms, slot)));
        due_ms.into_iter().for_each(|due_ms| _ = self.soon.insert((due_ms, slot)));
    }

    /// A value is not fresh any more, or soon not. If it was produced because it was offered, and nobody asked for it until its time was over, the
    /// key is asked for less often than it seemed: it is not offered again before somebody asks.
    pub(super) fn lapse(&mut self, slot: Slot, is_over: bool, now: Now) {
        self.change(slot, |known| (known.is_lapsed, known.is_resting) = (true, is_over && known.is_warmed));
        self.rank(slot, now);
    }

    pub(super) fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.get_mut(slot) {
            change(known);
        }
        self.refile(slot);
    }

    /// Computes a key's score anew, and puts it where it belongs.
    pub(super) fn rank(&mut self, slot: Slot, now: Now) {
        self.rank_with(slot, 0.0, now);
    }

    /// The same, with a score that allows for such a part more of requests.
    pub(super) fn rank_with(&mut self, slot: Slot, slack: f64, now: Now) {
        let Some(known) = self.known.get_mut(slot as usize).and_then(Option::as_deref_mut) else { return };
        let Some(of_type) = self.types.get_mut(&known.type_id) else { return };
        let (old_place, old_tier, was_young) = (known.place(), known.tier, known.is_young());
        known.allowed = known.rate.sum() * (1.0 + slack);
        let score = known.scored(known.allowed, now);
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
        if score != old && of_type.due.remove(&(old, slot)) {
            of_type.due.insert((score, slot));
            self.due.remove(&(old, slot));
            self.due.insert((score, slot));
        }
        if (tier, place) != (old_tier, old_place) {
            of_type.of_mut(old_tier).remove(&(old_place, slot));
            of_type.of_mut(tier).insert((place, slot));
        }
        self.balance(type_id);
    }

    /// Has the best of a type be those that are worth most, and lets go of what is too much, in turns if that is much.
    pub(super) fn balance(&mut self, type_id: u16) {
        for _ in 0..MOST_AT_ONCE {
            let Some(of_type) = self.types.get_mut(&type_id) else { return };
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
    pub(super) fn refile(&mut self, slot: Slot) {
        let Some(known) = self.get_mut(slot) else { return };
        let (is_wanted, score, type_id) = (known.is_wanted(), known.score, known.type_id);
        if known.is_due == is_wanted {
            return;
        }
        known.is_due = is_wanted;
        let Some(of_type) = self.types.get_mut(&type_id) else { return };
        if is_wanted {
            of_type.due.insert((score, slot));
            self.due.insert((score, slot));
            self.dues += 1;
        } else {
            of_type.due.remove(&(score, slot));
            self.due.remove(&(score, slot));
        }
    }

    /// Lets go of the key that is worth least, or of the oldest new or tried one if these take more than their part of so many bytes. Was
    /// there one?
    fn drop_least(&mut self, bytes: usize) -> bool {
        let (from, len) = (self.next_sampled, self.types.len());
        let sampled =
            || self.types.range(from..).chain(self.types.range(..from)).take(SAMPLED).map(|(_, of_type)| of_type);
        let oldest = |of: fn(&OfType) -> &BTreeSet<(i64, Slot)>| sampled().filter_map(|own| of(own).first()).min();
        let oldest = oldest(|of_type| &of_type.new).or_else(|| oldest(|of_type| &of_type.tried)).copied();
        let least = |of_type: &OfType| of_type.rest.first().or_else(|| of_type.best.first()).copied();
        let least = sampled().filter_map(least).min();
        let goes = if self.young_bytes > bytes / NEW_PART { oldest.or(least) } else { least.or(oldest) };
        if len > SAMPLED {
            let next = self.types.range(from..).chain(self.types.range(..from)).nth(SAMPLED);
            self.next_sampled = next.map_or(0, |(type_id, _)| *type_id);
        }
        let Some((_, slot)) = goes else { return false };
        self.remove(slot);
        true
    }
}
