//! The entries that bear a tag: a sorted list while they are few, a roaring bitmap (Lemire et al., 2016) beyond.
//!
//! A bitmap costs up to 56 bytes for each 65,536 numbers it touches, so a few hundred members spread over many entries are
//! smaller, and found as fast, as a list of four bytes each.

use roaring::RoaringBitmap;
use smallvec::SmallVec;

/// A list longer than this becomes a bitmap.
const LIST: usize = 1024;

pub(super) enum Members {
    List(SmallVec<[u32; 4]>),
    Bitmap(Box<RoaringBitmap>),
}

impl Default for Members {
    fn default() -> Self {
        Self::List(SmallVec::new())
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
                ids.insert(at, id);
                if ids.len() > LIST {
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
                if ids.spilled() && ids.len() < ids.capacity() / 4 {
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
        for count in [1u32, 4, 5, LIST as u32, LIST as u32 + 1, 5000] {
            let mut members = Members::default();
            for n in (0..count).rev() {
                members.insert(n * 3);
                members.insert(n * 3);
            }
            assert_eq!(members.len(), u64::from(count));
            assert_eq!(matches!(members, Members::Bitmap(_)), count as usize > LIST);
            let mut union = RoaringBitmap::from_iter([1]);
            members.unite_into(&mut union);
            assert_eq!(union.len(), u64::from(count) + 1);
            for n in 0..count {
                assert!(members.contains(n * 3) && !members.contains(n * 3 + 1));
                members.remove(n * 3);
                members.remove(n * 3);
            }
            assert!(members.is_empty());
        }
    }
}
