//! Keys whose values are not fresh any more, and that were not told yet.
//!
//! One invalidation may mean every key, and any number may end in one moment. So that nobody waits for that, what was invalidated is only noted
//! by its number, and the keys follow in turns ([`Keeper::catch_up`]). Who asks meanwhile for what is due is not offered anything lesser: those
//! that are worth most are looked at first ([`Keeper::settle`]).

use std::collections::BinaryHeap;

use super::keeper::{Keeper, MOST_AT_ONCE};
use super::known::{Now, Slot};
use super::rate::Score;
use crate::index::Ids;

/// So many of the best keys are looked at for who asks.
const LOOKED_AT: usize = 2048;

impl Keeper {
    /// These entries were invalidated. Says whether any of them is known: some of their keys are due at once, of many the others in turns. Who
    /// produces one is looked at again, for it may be that the invalidation ended its backing off.
    pub fn invalidated(&mut self, ids: &Ids, now: Now) -> bool {
        self.doubt_jobs();
        if ids.len() > MOST_AT_ONCE as u64 {
            let meant = &self.living & &ids.0;
            let is_any = !meant.is_empty();
            self.untold |= meant;
            self.tell_some(MOST_AT_ONCE, now);
            return is_any;
        }
        let slots: Vec<Slot> = ids.iter().filter_map(|id| self.ids.get(&id).copied()).collect();
        slots.iter().for_each(|slot| self.tell(*slot, now));
        !slots.is_empty()
    }

    /// Has keys become due that were invalidated, or whose time has come: so many of each. Is that all?
    pub fn catch_up(&mut self, most: usize, now: Now) -> bool {
        self.tell_some(most, now);
        for _ in 0..most {
            let Some(slot) = self.soonest(now) else { break };
            self.end_wait(slot, now);
        }
        !self.is_behind(now)
    }

    /// Are there keys that are still to become due?
    pub fn is_behind(&self, now: Now) -> bool {
        !self.untold.is_empty() || self.soonest(now).is_some()
    }

    /// Has keys become due for who wants some of these types, or of all: if not all can at once, then those that are worth most.
    pub fn settle(&mut self, types: Option<&[u16]>, now: Now) {
        if self.catch_up(MOST_AT_ONCE, now) {
            return;
        }
        let mut heads = self.best_of(types, None);
        for _ in 0..LOOKED_AT {
            let Some((score, slot, type_id)) = heads.pop() else { return };
            if self.untold_id(slot).is_some() {
                self.tell(slot, now);
            } else if self.get(slot).is_some_and(|known| known.due_ms.is_some_and(|at_ms| at_ms <= now.unix())) {
                self.end_wait(slot, now);
            }
            heads.extend(self.next_best(type_id, Some((score, slot))));
        }
    }

    /// The best of each of these types, or of all; below a place.
    pub(super) fn best_of(
        &self,
        types: Option<&[u16]>,
        below: Option<(Score, Slot)>,
    ) -> BinaryHeap<(Score, Slot, u16)> {
        let next = |type_id: &u16| self.next_best(*type_id, below);
        match types {
            Some(types) => types.iter().filter_map(next).collect(),
            None => self.types.keys().filter_map(next).collect(),
        }
    }

    /// The best key of a type, or the best below a place.
    pub(super) fn next_best(&self, type_id: u16, below: Option<(Score, Slot)>) -> Option<(Score, Slot, u16)> {
        let best = &self.types.get(&type_id)?.best;
        let found = match below {
            Some(below) => best.range(..below).next_back(),
            None => best.last(),
        };
        found.map(|(score, slot)| (*score, *slot, type_id))
    }

    fn soonest(&self, now: Now) -> Option<Slot> {
        self.soon.first().filter(|(at_ms, _)| *at_ms <= now.unix()).map(|(_, slot)| *slot)
    }

    /// A value's time has come.
    fn end_wait(&mut self, slot: Slot, now: Now) {
        if let Some(due_ms) = self.get_mut(slot).and_then(|known| known.due_ms.take()) {
            self.soon.remove(&(due_ms, slot));
        }
        self.lapse(slot, true, now);
    }

    fn tell_some(&mut self, most: usize, now: Now) {
        for _ in 0..most {
            let Some(id) = self.untold.max() else { return };
            match self.ids.get(&id).copied() {
                Some(slot) => self.tell(slot, now),
                None => _ = self.untold.remove(id),
            }
        }
    }

    /// A value was invalidated.
    fn tell(&mut self, slot: Slot, now: Now) {
        self.take_untold(slot);
        self.end_job(slot);
        self.lapse(slot, false, now);
    }

    fn untold_id(&self, slot: Slot) -> Option<u32> {
        self.get(slot)?.id.filter(|id| self.untold.contains(*id))
    }

    /// Was a key's value invalidated, and the key not told? It is now.
    pub(super) fn take_untold(&mut self, slot: Slot) -> bool {
        let id = self.untold_id(slot);
        id.is_some_and(|id| self.untold.remove(id))
    }
}
