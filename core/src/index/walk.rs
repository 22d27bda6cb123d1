//! Which names match a pattern: a walk over the names, in as many steps at a time as the caller has time for. The steps are
//! the matcher's, so a walk can stop inside a name.
//!
//! In between, entries come and go. What comes is put where the walk will come by, what goes is taken out; so when the walk is
//! over, its result is right at that instant. Without a walk under way none of this costs anything.

use std::ops::Bound;

use roaring::RoaringBitmap;

use super::hint::{Looking, Patterns};
use super::records::Records;
use super::{Ids, Index};
use crate::glob::Glob;

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

    /// Looks at what is ahead. Was that all?
    fn go_on(&mut self, records: &Records, left: &mut u64) -> bool {
        let ahead = self.ahead();
        for id in self.scope.range(ahead) {
            if *left == 0 {
                return false;
            }
            let (_, mut looking) = self.looking.take_if(|(at, _)| *at == id).unwrap_or_default();
            match self.patterns.match_record(records, id, &mut looking, left) {
                Some(true) => _ = self.matching.insert(id),
                Some(false) => {}
                None => {
                    self.looking = Some((id, looking));
                    return false;
                }
            }
            self.passed = Some(id);
        }
        (self.scope, self.passed) = (std::mem::take(&mut self.again), None);
        self.scope.is_empty() || self.go_on(records, left)
    }
}

impl Walks {
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

impl Index {
    /// Begins to look for those of `scope` whose names match all the patterns. Entries that come later are looked at too,
    /// whether the scope would have had them or not.
    pub fn start_walk<'g>(&mut self, patterns: impl IntoIterator<Item = &'g Glob>, scope: Ids) -> WalkId {
        let walks = &mut self.walks;
        walks.started += 1;
        walks.under_way.push(Walk {
            number: walks.started,
            patterns: Patterns::new(patterns),
            scope: scope.0,
            passed: None,
            again: RoaringBitmap::new(),
            looking: None,
            matching: RoaringBitmap::new(),
        });
        WalkId(self.number, walks.started)
    }

    /// Goes on for so many steps of the matcher. Was that all? So it is for a walk that is not under way in this index.
    pub fn walk(&mut self, id: WalkId, steps: u64) -> bool {
        let Some(at) = self.find_walk(id) else { return true };
        let Some(walk) = self.walks.under_way.get_mut(at) else { return true };
        walk.go_on(&self.records, &mut steps.clone())
    }

    /// Ends a walk. Those that match and are alive; if it was over, all of its scope and all that came until then. None for a walk
    /// that is not under way in this index: whoever emptied the database in the meantime took it away.
    pub fn finish_walk(&mut self, id: WalkId) -> Ids {
        self.take_walk(id).map_or_else(Ids::default, |walk| Ids(walk.matching - &self.dead))
    }

    /// Ends a walk whose result nobody wants.
    pub fn cancel_walk(&mut self, id: WalkId) {
        self.take_walk(id);
    }

    fn take_walk(&mut self, id: WalkId) -> Option<Walk> {
        let at = self.find_walk(id)?;
        let walk = self.walks.under_way.swap_remove(at);
        if self.walks.is_empty() {
            self.walks.under_way.shrink_to_fit();
        }
        Some(walk)
    }

    fn find_walk(&self, id: WalkId) -> Option<usize> {
        let under_way = &self.walks.under_way;
        under_way.iter().position(|walk| WalkId(self.number, walk.number) == id)
    }
}
