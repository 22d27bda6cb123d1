//! Values under dense small numbers.
//!
//! The lowest free number is given out first, so numbers stay dense and bitmaps over them small. Storage is in chunks: growing
//! never copies what is there, and a chunk whose last value goes gives its memory back at once. Nothing here takes longer
//! because there are many values.

use roaring::RoaringBitmap;

const CHUNK_BITS: u32 = 10;
const CHUNK: u32 = 1 << CHUNK_BITS;
/// How many free places [`Slab::slice`] passes, and how many more for each value that it may return.
const FREE_PASSED: usize = 1024;
const FREE_PASSED_A_STEP: usize = 16;

enum Slot<T> {
    /// Free; the next free place of the same chunk, or `CHUNK` for none.
    Free(u16),
    Used(T),
}

struct Chunk<T> {
    slots: Vec<Slot<T>>,
    first_free: u16,
    used: u16,
}

impl<T> Chunk<T> {
    const fn new() -> Self {
        Self { slots: Vec::new(), first_free: CHUNK as u16, used: 0 }
    }

    fn insert(&mut self, value: T) -> Option<u16> {
        let at = self.first_free;
        if let Some(slot) = self.slots.get_mut(usize::from(at)) {
            if let Slot::Free(next) = slot {
                self.first_free = *next;
            }
            *slot = Slot::Used(value);
            self.used += 1;
            return Some(at);
        }
        let at = u16::try_from(self.slots.len()).ok().filter(|at| u32::from(*at) < CHUNK)?;
        self.slots.push(Slot::Used(value));
        self.used += 1;
        Some(at)
    }

    fn remove(&mut self, at: u16) -> Option<T> {
        let slot = self.slots.get_mut(usize::from(at))?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Used(value) = std::mem::replace(slot, Slot::Free(self.first_free)) else { return None };
        self.first_free = at;
        self.used -= 1;
        if self.used == 0 {
            *self = Self::new();
        }
        Some(value)
    }

    fn is_full(&self) -> bool {
        u32::from(self.used) == CHUNK
    }
}

/// See the module's head.
pub(super) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// The chunks with room.
    roomy: RoaringBitmap,
    len: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), roomy: RoaringBitmap::new(), len: 0 }
    }
}

fn split(id: u32) -> (usize, u16) {
    ((id >> CHUNK_BITS) as usize, (id & (CHUNK - 1)) as u16)
}

impl<T> Slab<T> {
    /// Keeps `value` under the number that it returns; `None` when all four billion are taken.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        let chunk_at = match self.roomy.min() {
            Some(at) => at,
            None => {
                let at = u32::try_from(self.chunks.len()).ok().filter(|at| *at < u32::MAX >> CHUNK_BITS)?;
                self.chunks.push(Chunk::new());
                self.roomy.insert(at);
                at
            }
        };
        let chunk = self.chunks.get_mut(chunk_at as usize)?;
        let at = chunk.insert(value)?;
        if chunk.is_full() {
            self.roomy.remove(chunk_at);
        }
        self.len += 1;
        Some(chunk_at << CHUNK_BITS | u32::from(at))
    }

    /// Takes the value out; its number may be given out again from now on.
    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let (chunk_at, at) = split(id);
        let chunk = self.chunks.get_mut(chunk_at)?;
        let was_full = chunk.is_full();
        let value = chunk.remove(at)?;
        if was_full {
            self.roomy.insert(id >> CHUNK_BITS);
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        }
        Some(value)
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        let (chunk, at) = split(id);
        match self.chunks.get(chunk)?.slots.get(usize::from(at))? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (chunk, at) = split(id);
        match self.chunks.get_mut(chunk)?.slots.get_mut(usize::from(at))? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Some of the values from number `start` on, at most `steps`, and where to go on. Of free places not many more are
    /// passed at once, so there may be values further on even if there is none here.
    pub(super) fn slice(&self, start: u32, steps: usize) -> (Vec<(u32, &T)>, Option<u32>) {
        let end = (self.chunks.len() as u32) << CHUNK_BITS;
        let (mut found, mut at) = (Vec::new(), start);
        let mut left = FREE_PASSED_A_STEP.saturating_mul(steps).saturating_add(FREE_PASSED);
        while at < end && left > 0 && found.len() < steps {
            left -= 1;
            if self.chunks.get(split(at).0).is_some_and(|chunk| chunk.used == 0) {
                at = (at | (CHUNK - 1)) + 1;
                continue;
            }
            found.extend(self.get(at).map(|value| (at, value)));
            at += 1;
        }
        (found, (at < end).then_some(at))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().zip(0u32..).flat_map(|(chunk, chunk_at)| {
            chunk.slots.iter().zip(0u32..).filter_map(move |(slot, at)| match slot {
                Slot::Used(value) => Some((chunk_at << CHUNK_BITS | at, value)),
                Slot::Free(_) => None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_reused_and_memory_goes_back() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..3000).filter_map(|n| slab.insert(n)).collect();
        assert_eq!(ids, (0..3000).collect::<Vec<u32>>());
        assert_eq!((slab.remove(5), slab.remove(5), slab.get(5)), (Some(5), None, None));
        assert_eq!(slab.remove(2500), Some(2500));
        assert_eq!(slab.insert(7), Some(5), "the lowest free number first");
        assert_eq!((slab.len(), slab.get(5), slab.iter().count()), (2999, Some(&7), 2999));
        for id in ids.iter().filter(|id| **id != 2900) {
            slab.remove(*id);
        }
        assert_eq!(slab.slice(0, 1), (vec![(2900, &2900)], Some(2901)), "passing what is free");
        assert_eq!(slab.slice(2901, 1), (vec![], None));
        slab.remove(2900);
        assert_eq!((slab.len(), slab.chunks.capacity()), (0, 0));
    }
}
