//! When the freshness of entries ends that have a grace of their own: sparse, for most entries have none.
//!
//! Dates stand in chunks of 64 ids, each as long as it has dates. For each chunk there is a bound below which it has none. The bounds
//! stand together, so what is stale by now is found without a look at most chunks. All that is given back when there are no ids.

use roaring::RoaringBitmap;

const CHUNK: u32 = 64;
/// Looking one date up takes about as long as comparing so many that stand together.
const LOOKED_UP_SHARE: u64 = 8;
/// The date of what stays fresh for ever.
const NEVER: u64 = u64::MAX;

/// See the module's head.
#[derive(Default)]
pub(super) struct Dates {
    chunks: Vec<Option<Box<Chunk>>>,
    /// No date of a chunk is earlier.
    earliest: Vec<u64>,
    dated: RoaringBitmap,
}

/// Of its 64 ids those have a date whose bits are set; the dates are in the order of the ids.
#[derive(Default)]
struct Chunk {
    dated: u64,
    dates: Vec<u64>,
}

fn split(id: u32) -> (usize, u32) {
    ((id / CHUNK) as usize, id % CHUNK)
}

impl Chunk {
    fn has(&self, at: u32) -> bool {
        self.dated >> at & 1 != 0
    }

    fn rank(&self, at: u32) -> usize {
        (self.dated & ((1 << at) - 1)).count_ones() as usize
    }

    fn set(&mut self, at: u32, date: u64) {
        let rank = self.rank(at);
        if self.has(at) {
            self.dates.get_mut(rank).into_iter().for_each(|slot| *slot = date);
            return;
        }
        self.dated |= 1 << at;
        self.dates.insert(rank, date);
    }

    fn remove(&mut self, at: u32) {
        if self.has(at) {
            self.dates.remove(self.rank(at));
            self.dated &= !(1 << at);
        }
    }

    /// Bits as in `dated`, of the ids whose dates are no later.
    fn stale(&self, now_ms: u64) -> u64 {
        // Neither loop branches on a date, for nothing says which way it would go.
        let by_rank = self.dates.iter().rev().fold(0, |bits, date| bits << 1 | u64::from(*date <= now_ms));
        if self.dated == u64::MAX {
            return by_rank;
        }
        let (mut stale, mut left) = (0, self.dated);
        for rank in 0..self.dates.len() {
            let lowest = left & left.wrapping_neg();
            stale |= lowest & (by_rank >> rank & 1).wrapping_neg();
            left ^= lowest;
        }
        stale
    }
}

/// A date as it is kept.
pub(super) fn date_of(fresh_until_ms: Option<i64>) -> u64 {
    fresh_until_ms.map_or(NEVER, |ms| u64::try_from(ms).unwrap_or(0))
}

impl Dates {
    /// Those that have a date.
    pub(super) fn ids(&self) -> &RoaringBitmap {
        &self.dated
    }

    #[cfg(test)]
    pub(super) fn has_a_table(&self) -> bool {
        !self.chunks.is_empty()
    }

    pub(super) fn get(&self, id: u32) -> Option<u64> {
        let (chunk, at) = split(id);
        let chunk = self.chunks.get(chunk)?.as_ref().filter(|chunk| chunk.has(at))?;
        chunk.dates.get(chunk.rank(at)).copied()
    }

    pub(super) fn set(&mut self, id: u32, date: u64) {
        let (chunk_at, at) = split(id);
        if self.chunks.len() <= chunk_at {
            self.chunks.resize_with(chunk_at + 1, || None);
            self.earliest.resize(self.chunks.len(), NEVER);
        }
        if let (Some(chunk), Some(earliest)) = (self.chunks.get_mut(chunk_at), self.earliest.get_mut(chunk_at)) {
            chunk.get_or_insert_default().set(at, date);
            *earliest = date.min(*earliest);
            self.dated.insert(id);
        }
    }

    pub(super) fn remove(&mut self, id: u32) {
        // When the last date goes the table stays: it is as long as there are ids, and the next date would have to make it again.
        if self.dated.is_empty() || !self.dated.remove(id) {
            return;
        }
        let (chunk_at, at) = split(id);
        let Some(slot) = self.chunks.get_mut(chunk_at) else { return };
        if let Some(chunk) = slot {
            chunk.remove(at);
        }
        slot.take_if(|chunk| chunk.dated == 0);
    }

    /// Those, of these at least, whose freshness has ended. Few are looked at one by one, so that what a few entries cost does not
    /// depend on how many others there are.
    pub(super) fn stale(&mut self, ids: &RoaringBitmap, now_ms: u64) -> RoaringBitmap {
        if ids.len() > self.dated.len() / LOOKED_UP_SHARE {
            return self.all_stale(now_ms);
        }
        ids.iter().filter(|id| self.get(*id).is_some_and(|date| date <= now_ms)).collect()
    }

    fn all_stale(&mut self, now_ms: u64) -> RoaringBitmap {
        let mut stale = Vec::new();
        let early = self.earliest.iter_mut().enumerate().filter(|(_, earliest)| **earliest <= now_ms);
        for (at, earliest) in early {
            let chunk = self.chunks.get(at).and_then(Option::as_ref);
            *earliest = chunk.and_then(|chunk| chunk.dates.iter().copied().min()).unwrap_or(NEVER);
            if let Some(chunk) = chunk.filter(|_| *earliest <= now_ms) {
                stale.resize(at * size_of::<u64>(), 0);
                stale.extend(chunk.stale(now_ms).to_le_bytes());
            }
        }
        RoaringBitmap::from_lsb0_bytes(0, &stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_back_and_the_stale_are_found() {
        let mut dates = Dates::default();
        for id in (0..20_000).filter(|id| id % 7 == 0 || id % 5000 < 70) {
            dates.set(id, 1);
            dates.set(id, 1000 + u64::from(id));
        }
        dates.set(3, date_of(None));
        for id in 0..21_000 {
            let expected = (id < 20_000 && (id % 7 == 0 || id % 5000 < 70)).then_some(1000 + u64::from(id));
            assert_eq!(dates.get(id), if id == 3 { Some(NEVER) } else { expected });
        }
        assert!(dates.all_stale(999).is_empty());
        // One by one, and all at once, it is the same.
        for step in [1, 1000] {
            let ids: RoaringBitmap = (0..21_000).step_by(step).collect();
            for now_ms in [999, 1004, 15_000, u64::MAX - 1] {
                assert_eq!(&ids - dates.stale(&ids, now_ms), &ids - dates.all_stale(now_ms), "{step} {now_ms}");
            }
        }
        assert!(dates.all_stale(1004).iter().eq([0, 1, 2, 4]));
        assert_eq!(dates.all_stale(u64::MAX - 1).len(), dates.ids().len() - 1);
        dates.set(1_000_000, 7);
        assert!(dates.all_stale(999).iter().eq([1_000_000]), "far beyond the others");
        dates.remove(1_000_000);
        for id in 0..21_000 {
            dates.remove(id);
            assert_eq!(dates.get(id), None);
        }
        assert_eq!((dates.ids().len(), dates.chunks.iter().flatten().count()), (0, 0));
        // One that comes and goes among a million ids does not have the table made each time.
        let table = dates.chunks.as_ptr();
        dates.set(900_000, 7);
        dates.remove(900_000);
        assert_eq!(dates.chunks.as_ptr(), table);
        assert_eq!((date_of(Some(-5)), date_of(Some(5))), (0, 5));
    }
}
