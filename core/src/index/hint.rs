//! Patterns, and what tells most names that do not match without a look at them.
//!
//! Keys mostly begin with what they are of, up to a colon or two: `trips:1`, `export_cache:trips:1`. A byte beside each name says
//! something of that beginning, so a pattern that begins literally up to a colon passes over nearly all that begin otherwise.

use super::records::Records;
use crate::glob::{Glob, Matching};

/// Hashes of four bits, of a name up to and including its first `:`, and its second; 0 where there is none near its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hint(u8);

/// Only that much of a name is looked at for a hint.
const HINTED: usize = 128;

impl Hint {
    pub(super) fn of(name: &[u8]) -> Self {
        let (mut hint, mut shift) = (0, 0);
        // FNV-1a: nothing depends on its being hard to find two names with the same hint.
        let mut hash = 0x811C_9DC5u32;
        for byte in name.iter().take(HINTED) {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
            if *byte == b':' {
                hint |= (((hash >> 24) % 15) as u8 + 1) << shift;
                shift += 4;
                if shift == 8 {
                    break;
                }
            }
        }
        Self(hint)
    }

    /// May a name with this hint begin as the one with that hint does?
    fn may_begin_as(self, beginning: Self) -> bool {
        [0x0F, 0xF0].iter().all(|half| beginning.0 & half == 0 || self.0 & half == beginning.0 & half)
    }
}

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
        records: &Records,
        id: u32,
        looking: &mut Looking,
        left: &mut u64,
    ) -> Option<bool> {
        *left = left.saturating_sub(LOOK);
        let may_match = |hint: Hint| self.globs.iter().all(|(wanted, _)| hint.may_begin_as(*wanted));
        match records.hint(id).filter(|hint| may_match(*hint)).and_then(|_| records.get(id)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_never_hides_a_name_that_matches() {
        let names = ["", "a", "a:", ":", "::", "a:b", "a:b:", "a:b:c", "a:b:c:d", "x:b:c", "a:x:c"];
        for name in names.map(str::as_bytes) {
            for beginning in names.map(str::as_bytes).into_iter().filter(|beginning| name.starts_with(beginning)) {
                assert!(Hint::of(name).may_begin_as(Hint::of(beginning)), "{name:?} begins as {beginning:?}");
            }
        }
        let far: Vec<u8> = [vec![b'n'; HINTED], b":".to_vec()].concat();
        assert_eq!(Hint::of(&far), Hint::default(), "far from the beginning");
        let hidden = |name: &[u8], beginning: &[u8]| !Hint::of(name).may_begin_as(Hint::of(beginning));
        assert!(hidden(b"trips:1", b"reports:") && hidden(b"cache:trips:1", b"cache:reports:"));
        assert!(hidden(b"trips", b"trips:") && hidden(b"cache:trips", b"cache:trips:"));
    }
}
