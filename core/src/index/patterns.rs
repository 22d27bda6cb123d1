//! Patterns that names are held against: in as many steps as the caller has left, and most names not at all (see `hint`).

use super::hint::Hint;
use super::records::Reader;
use crate::glob::{Glob, Matching};

/// Patterns that a name must all match.
pub(super) struct Patterns {
    globs: Vec<(Hint, Glob)>,
}

/// What going to a name takes, in steps of a matcher.
const LOOK: u64 = 16;

/// How far the look at one name has come: so many patterns match, and so far has the next been tried.
#[derive(Default)]
pub(super) struct Looking {
    matched: usize,
    matching: Matching,
}

impl Patterns {
    pub(super) fn new<'g>(globs: impl IntoIterator<Item = &'g Glob>) -> Self {
        Self { globs: globs.into_iter().map(|glob| (Hint::of(glob.literal_prefix()), glob.clone())).collect() }
    }

    /// Does this name match all of them? Takes the steps that it needs, however few are left.
    pub(super) fn match_name(&self, name: &[u8], left: &mut u64) -> bool {
        let mut all = u64::MAX;
        let matches = self.go_on(name, &mut Looking::default(), &mut all) == Some(true);
        *left = left.saturating_sub(LOOK + (u64::MAX - all));
        matches
    }

    /// Does the name under this number? `None`: the steps that were left were too few, and it is to be asked again.
    pub(super) fn match_record(
        &self,
        records: &mut Reader<'_>,
        id: u32,
        looking: &mut Looking,
        left: &mut u64,
    ) -> Option<bool> {
        *left = left.saturating_sub(LOOK);
        let may_match = |hint: Hint| self.globs.iter().all(|(wanted, _)| hint.may_begin_as(*wanted));
        match records.name(id, may_match) {
            Some(name) => self.go_on(name, looking, left),
            None => Some(false),
        }
    }

    fn go_on(&self, name: &[u8], looking: &mut Looking, left: &mut u64) -> Option<bool> {
        while let Some((_, glob)) = self.globs.get(looking.matched) {
            if !glob.go_on(name, &mut looking.matching, left)? {
                return Some(false);
            }
            *looking = Looking { matched: looking.matched + 1, matching: Matching::default() };
        }
        Some(true)
    }
}
