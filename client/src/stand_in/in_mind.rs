//! The keys that are kept in mind to be warmed.

use std::collections::HashMap;

use bytes::Bytes;
use expcache_core::warm::Keeper;

#[derive(Default)]
pub(super) struct InMind {
    pub(super) keeper: Keeper,
    /// The types' numbers.
    pub(super) types: HashMap<Bytes, u16>,
    /// The last number of an entry.
    pub(super) ids: u32,
}

impl InMind {
    pub(super) fn type_id(&mut self, name: &Bytes) -> u16 {
        let next = u16::try_from(self.types.len()).unwrap_or(u16::MAX);
        *self.types.entry(name.clone()).or_insert(next)
    }
}
