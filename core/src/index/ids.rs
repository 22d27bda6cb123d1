//! A set of entries, as what selects hands it to what acts on it.

use std::borrow::Cow;

use roaring::RoaringBitmap;

/// A set of entries of one index, good until that index changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ids(pub(crate) RoaringBitmap);

impl From<RoaringBitmap> for Ids {
    fn from(ids: RoaringBitmap) -> Self {
        Self(ids)
    }
}

impl Ids {
    /// How many.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is this one among them?
    pub fn contains(&self, id: u32) -> bool {
        self.0.contains(id)
    }

    /// All of them, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter()
    }

    /// Takes the first one out.
    pub fn take_first(&mut self) -> Option<u32> {
        let first = self.0.min()?;
        self.0.remove(first);
        Some(first)
    }

    /// Those that are not in `others`.
    #[must_use]
    pub fn without(&self, others: &Self) -> Cow<'_, Self> {
        if others.is_empty() { Cow::Borrowed(self) } else { Cow::Owned(Self(&self.0 - &others.0)) }
    }

    /// Those that are in one of them.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        Self(&self.0 | &others.0)
    }

    /// Adds others.
    pub fn extend(&mut self, others: &Self) {
        self.0 |= &others.0;
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self(&self.0 & &others.0)
    }
}
