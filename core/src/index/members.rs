//! The entries that bear a tag: a sorted list while they are few or scattered, a roaring bitmap (Lemire et al., 2016) beyond.
//!
//! A bitmap costs some 56 bytes for each 65,536 numbers it touches and two for each member; a list costs four a member. So a
//! list is the smaller one up to 28 members for each such stretch, and it is found in as fast.

use roaring::RoaringBitmap;

/// Up to so many members for each 65,536 numbers a list is smaller.
const LIST_PER_STRETCH: usize = 28;
/// A list shorter than this is never worth a bitmap, and one longer than that costs too much to insert into.
const LIST: std::ops::Range<usize> = 64..2048;

pub(super) enum Members {
    List(Vec<u32>),
    Bitmap(Box<RoaringBitmap>),
}

impl Default for Members {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Members {
    pub(super) fn insert(&mut self, id: u32) {
        match self {
            Self::Bitmap(ids) => {
                ids.insert(id);
            }
            Self::List(ids) => {
                let Err(at) = search(ids, id) else { return };
                if ids.len() == ids.capacity() {
                    // Growing by a quarter rather than doubling: most lists are small and many.
                    ids.reserve_exact((ids.len() / 4).max(2));
                }
                ids.insert(at, id);
                if is_better_as_bitmap(ids) {
                    *self = Self::Bitmap(Box::new(ids.iter().collect()));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, id: u32) {
        match self {
            Self::Bitmap(ids) => {
                ids.remove(id);
            }
            Self::List(ids) => {
                let Ok(at) = search(ids, id) else { return };
                ids.remove(at);
                if ids.len() < ids.capacity() / 2 {
                    ids.shrink_to_fit();
                }
            }
        }
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        match self {
            Self::Bitmap(ids) => ids.contains(id),
            Self::List(ids) => search(ids, id).is_ok(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bitmap(ids) => ids.len(),
            Self::List(ids) => ids.len() as u64,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Bitmap(ids) => ids.is_empty(),
            Self::List(ids) => ids.is_empty(),
        }
    }

    pub(super) fn are_all_in(&self, others: &RoaringBitmap) -> bool {
        match self {
            Self::Bitmap(ids) => ids.is_subset(others),
            Self::List(ids) => ids.iter().all(|id| others.contains(*id)),
        }
    }

    /// Adds all of them to `union`.
    pub(super) fn unite_into(&self, union: &mut RoaringBitmap) {
        match self {
            Self::Bitmap(ids) => *union |= &**ids,
            Self::List(ids) => union.extend(ids.iter()),
        }
    }
}

fn is_better_as_bitmap(ids: &[u32]) -> bool {
    if !LIST.contains(&ids.len()) {
        return ids.len() >= LIST.end;
    }
    let stretches = ids.first().zip(ids.last()).map_or(0, |(first, last)| (last >> 16) - (first >> 16) + 1);
    ids.len() > LIST_PER_STRETCH * stretches as usize
}

fn search(ids: &[u32], id: u32) -> Result<usize, usize> {
    // Numbers mostly come in rising order: look at the end first.
    match ids.last() {
        None => Err(0),
        Some(last) if *last < id => Err(ids.len()),
        _ => ids.binary_search(&id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_and_bitmap_behave_alike() {
        for (count, step) in [(1u32, 3), (4, 3), (64, 3), (65, 3), (5000, 3), (500, 1 << 16), (2048, 1 << 16)] {
            let mut members = Members::default();
            for n in (0..count).rev() {
                members.insert(n * step);
                members.insert(n * step);
            }
            assert_eq!(members.len(), u64::from(count));
            let is_list = matches!(members, Members::List(_));
            assert_eq!(is_list, (count as usize) < LIST.start || step > 3 && (count as usize) < LIST.end);
            let mut union = RoaringBitmap::from_iter([1]);
            members.unite_into(&mut union);
            assert_eq!(union.len(), u64::from(count) + 1);
            for n in 0..count {
                assert!(members.contains(n * step) && !members.contains(n * step + 1));
                members.remove(n * step);
                members.remove(n * step);
            }
            assert!(members.is_empty());
        }
    }
}
