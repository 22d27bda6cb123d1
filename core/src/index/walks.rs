//! Which names match a pattern: walks over the names, in as many steps at a time as the caller has time for. The steps are
//! the matcher's, so a walk can stop inside a name.
//!
//! In between, entries come and go. What comes is put where the walk will come by, what goes is taken out; so when the walk is
//! over, its result is right at that instant. Without a walk under way none of this costs anything.

use std::ops::Bound;

use roaring::RoaringBitmap;

use super::patterns::{Looking, Patterns};
use super::records::{Reader, Records};

/// A walk under way, in one index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalkId(u16, u64);

impl WalkId {
    /// The number of the index.
    pub fn index(self) -> u16 {
        self.0
    }
}

#[derive(Default)]
pub(super) struct Walks {
    started: u64,
    under_way: Vec<Walk>,
}

struct Walk {
    number: u64,
    patterns: Patterns,
    scope: RoaringBitmap,
    /// Of the scope everything up to this was looked at.
    passed: Option<u32>,
    /// What is to be looked at when the scope is through.
    again: RoaringBitmap,
    /// The name at which it stopped, and how far the look at that has come.
    looking: Option<(u32, Looking)>,
    matching: RoaringBitmap,
}

impl Walk {
    /// What is ahead of it?
    fn ahead(&self) -> (Bound<u32>, Bound<u32>) {
        (self.passed.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
    }

    /// Goes on. Was that all?
    fn go_on(&mut self, records: &mut Reader<'_>, left: &mut u64) -> bool {
        // Put in together: a set looks for the place of each that comes alone.
        let mut matching = Vec::new();
        let is_through = self.look(records, left, &mut matching);
        self.matching.extend(matching);
        if !is_through {
            return false;
        }
        (self.scope, self.passed) = (std::mem::take(&mut self.again), None);
        self.scope.is_empty() || self.go_on(records, left)
    }

    /// Looks at what is ahead. Was that the whole scope?
    fn look(&mut self, records: &mut Reader<'_>, left: &mut u64, matching: &mut Vec<u32>) -> bool {
        for id in self.scope.range(self.ahead()) {
            if *left == 0 {
                return false;
            }
            let (_, mut looking) = self.looking.take_if(|(at, _)| *at == id).unwrap_or_default();
            match self.patterns.match_record(records, id, &mut looking, left) {
                Some(true) => matching.push(id),
                Some(false) => {}
                None => {
                    self.looking = Some((id, looking));
                    return false;
                }
            }
            self.passed = Some(id);
        }
        true
    }
}

impl Walks {
    pub(super) fn start(&mut self, index: u16, patterns: Patterns, scope: RoaringBitmap) -> WalkId {
        self.started += 1;
        self.under_way.push(Walk {
            number: self.started,
            patterns,
            scope,
            passed: None,
            again: RoaringBitmap::new(),
            looking: None,
            matching: RoaringBitmap::new(),
        });
        WalkId(index, self.started)
    }

    /// Goes on for so many steps. Was that all, or is there no such walk?
    pub(super) fn go_on(&mut self, index: u16, id: WalkId, records: &Records, mut steps: u64) -> bool {
        let walk = self.find(index, id).and_then(|at| self.under_way.get_mut(at));
        walk.is_none_or(|walk| walk.go_on(&mut records.reader(), &mut steps))
    }

    /// Ends a walk. The ids that matched until now.
    pub(super) fn end(&mut self, index: u16, id: WalkId) -> Option<RoaringBitmap> {
        let at = self.find(index, id)?;
        let walk = self.under_way.swap_remove(at);
        if self.is_empty() {
            self.under_way.shrink_to_fit();
        }
        Some(walk.matching)
    }

    fn find(&self, index: u16, id: WalkId) -> Option<usize> {
        self.under_way.iter().position(|walk| WalkId(index, walk.number) == id)
    }

    /// Is there none? Then nothing below need be told.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// An entry came, or another took its place.
    pub(super) fn linked(&mut self, id: u32) {
        for walk in &mut self.under_way {
            let is_ahead = walk.passed.is_none_or(|passed| id > passed);
            if is_ahead {
                walk.scope.insert(id)
            } else {
                walk.again.insert(id)
            };
        }
    }

    /// An entry went.
    pub(super) fn unlinked(&mut self, id: u32) {
        for walk in &mut self.under_way {
            // Its id may still be in the scope. It is nobody's, or the name that it has by then is looked at, from its beginning.
            walk.matching.remove(id);
            walk.looking.take_if(|(at, _)| *at == id);
        }
    }
}
