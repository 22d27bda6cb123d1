//! The keys that are due, one after the other.

use std::collections::BinaryHeap;

use super::keeper::Keeper;
use super::known::{Now, Slot};
use super::rate::Score;

/// A walk over the keys that are due, of some types or of all. It may be left and taken up again while keys are being put off, given to somebody
/// or forgotten.
#[derive(Debug, Default)]
pub struct DueWalk {
    /// The next key of each type that is meant, or of all: `None`.
    heads: BinaryHeap<(Score, Slot, Option<u16>)>,
}

impl Keeper {
    /// Begins a walk with what is worth most, or after a place at which another ended.
    pub fn walk(&self, types: Option<&[u16]>, after: Option<(Score, Slot)>) -> DueWalk {
        let mut sources: Vec<Option<u16>> = types.map_or(vec![None], |types| types.iter().copied().map(Some).collect());
        sources.sort_unstable();
        sources.dedup();
        DueWalk { heads: sources.into_iter().filter_map(|source| self.head(source, after)).collect() }
    }

    fn head(&self, source: Option<u16>, below: Option<(Score, Slot)>) -> Option<(Score, Slot, Option<u16>)> {
        let all = match source {
            Some(type_id) => &self.types.get(&type_id)?.due,
            None => &self.due,
        };
        let found = match below {
            Some(below) => all.range(..below).next_back(),
            None => all.last(),
        };
        found.map(|(score, slot)| (*score, *slot, source))
    }

    /// The next key of a walk, with its place.
    pub fn next_due(&mut self, walk: &mut DueWalk, now: Now) -> Option<(Score, Slot)> {
        loop {
            let (score, slot, source) = walk.heads.pop()?;
            self.rank(slot, now);
            walk.heads.extend(self.head(source, Some((score, slot))));
            let is_meant = |type_id| source.is_none_or(|source| source == type_id);
            let Some(known) = self.get(slot).filter(|known| known.is_due && is_meant(known.type_id)) else { continue };
            // If its score was too high, it comes again where it belongs.
            if known.score >= score {
                return Some((score, slot));
            }
        }
    }

    /// Is any key due, of any or of these types?
    pub fn has_due(&self, types: Option<&[u16]>) -> bool {
        let of_type = |id: &u16| self.types.get(id).is_some_and(|of_type| !of_type.due.is_empty());
        !self.due.is_empty() && types.is_none_or(|types| types.iter().any(of_type))
    }

    /// A key is not worth producing, unless somebody asks for it again.
    pub fn rest(&mut self, slot: Slot) {
        self.change(slot, |known| (known.is_resting, known.predicted) = (true, None));
    }

    /// A value is fresh after all, until that moment, unix ms.
    pub fn put_off(&mut self, slot: Slot, fresh_until_ms: Option<i64>) {
        self.change(slot, |known| {
            (known.is_lapsed, known.fresh_until_ms, known.predicted) = (false, fresh_until_ms, None);
        });
        self.wait_for_end(slot);
    }
}
