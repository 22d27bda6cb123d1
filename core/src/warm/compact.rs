//! Memory that is given back, in turns, when there are far fewer keys than there were: slots and tables are as large as they once had to be.

use std::cmp::Reverse;
use std::hash::BuildHasher;

use super::keeper::Keeper;
use super::known::Slot;

/// Tables for so many keys are not worth making smaller.
const SMALL: usize = 256;

impl Keeper {
    /// Moves so many keys at most from the last slots to free ones, if there are more of these than keys, and makes the tables smaller.
    pub(super) fn give_back(&mut self, most: usize) {
        // Doubted jobs are looked through by their slots.
        let is_sparse = |keeper: &Self| keeper.known.len() > SMALL + 2 * keeper.len() && keeper.doubted == 0;
        for _ in 0..most {
            if !is_sparse(self) {
                break;
            }
            match self.known.pop().flatten() {
                // Its slot is among the free ones, and is seen to be none there.
                None => (),
                Some(known) => {
                    let from = Slot::try_from(self.known.len()).unwrap_or(Slot::MAX);
                    self.known.push(Some(known));
                    let Some(Reverse(to)) = self.free.pop().filter(|free| free.0 < from) else { break };
                    self.move_slot(from, to);
                    self.known.pop();
                }
            }
        }
        let room = SMALL + 2 * self.len();
        if self.known.capacity() > 2 * room && self.known.len() <= room {
            self.known.shrink_to(room);
            let last = self.known.len();
            self.free.retain(|free| (free.0 as usize) < last);
            self.free.shrink_to(room);
            let (all, hasher) = (&self.known, &self.hasher);
            let hash_of = |slot: &Slot| {
                let known = all.get(*slot as usize).and_then(Option::as_deref);
                hasher.hash_one(known.map_or(&[][..], |known| &*known.key))
            };
            self.names.shrink_to(room, hash_of);
            self.ids.shrink_to(room);
        }
    }

    fn move_slot(&mut self, from: Slot, to: Slot) {
        let Some(known) = self.known.get_mut(from as usize).and_then(Option::take) else { return };
        let hash = self.hasher.hash_one(&*known.key);
        self.names.find_mut(hash, |slot| *slot == from).into_iter().for_each(|slot| *slot = to);
        known.id.into_iter().for_each(|id| _ = self.ids.insert(id, to));
        if let Some(of_type) = self.types.get_mut(&known.type_id) {
            let all = of_type.of_mut(known.tier);
            all.remove(&(known.place(), from));
            all.insert((known.place(), to));
            if of_type.due.remove(&(known.score, from)) {
                of_type.due.insert((known.score, to));
            }
        }
        if self.due.remove(&(known.score, from)) {
            self.due.insert((known.score, to));
        }
        if let Some(due_ms) = known.due_ms {
            self.soon.remove(&(due_ms, from));
            self.soon.insert((due_ms, to));
        }
        if let Some(job) = &known.job {
            self.jobs.remove(&(job.until_ms, from));
            self.jobs.insert((job.until_ms, to));
        }
        if let Some(place) = self.known.get_mut(to as usize) {
            *place = Some(known);
        }
    }
}
