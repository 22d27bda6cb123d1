//! Walks over the names of an index: begun, gone on with, and ended (see `walks`).

use super::patterns::Patterns;
use super::{Ids, Index, WalkId};
use crate::glob::Glob;

impl Index {
    /// Begins to look for those of `scope` whose names match all the patterns. Entries that come later are looked at too,
    /// whether the scope would have had them or not.
    pub fn start_walk<'g>(&mut self, patterns: impl IntoIterator<Item = &'g Glob>, scope: Ids) -> WalkId {
        self.walks.start(self.number, Patterns::new(patterns), scope.0)
    }

    /// Goes on for so many steps of the matcher. Was that all? So it is for a walk that is not under way in this index.
    pub fn walk(&mut self, id: WalkId, steps: u64) -> bool {
        self.walks.go_on(self.number, id, &self.records, steps)
    }

    /// Ends a walk. Those that match and are alive; if it was over, all of its scope and all that came until then. None for a walk
    /// that is not under way in this index: whoever emptied the database in the meantime took it away.
    pub fn finish_walk(&mut self, id: WalkId) -> Ids {
        let matching = self.walks.end(self.number, id);
        matching.map_or_else(Ids::default, |matching| Ids(matching - &self.dead))
    }

    /// Ends a walk whose result nobody wants.
    pub fn cancel_walk(&mut self, id: WalkId) {
        self.walks.end(self.number, id);
    }
}
