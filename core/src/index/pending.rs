//! Entries softly invalidated, whose keys' expiries do not say so yet.
//!
//! Many at once are one set of ids and one mark, so marking a million is set arithmetic; few at once have a mark each, so
//! there are never many sets to look through.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::entry::Soft;

/// Up to so many at once have a mark each. (In tests it is less, so that there are sets of many in small keyspaces.)
const FEW: u64 = if cfg!(test) { 16 } else { 1024 };

/// When, and for how long from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since {
    pub(super) moment_ms: u64,
    /// `None`: the entry's own.
    pub(super) grace_ms: Option<u64>,
}

impl Since {
    pub(super) fn resolve(self, own_grace_ms: u64) -> Soft {
        Soft { moment_ms: self.moment_ms, grace_ms: Some(self.grace_ms.unwrap_or(own_grace_ms)) }
    }
}

/// See the module's head. Each id of `all` is in one of the others, which have no further ones.
#[derive(Default)]
pub(super) struct Pending {
    all: RoaringBitmap,
    few: BTreeMap<u32, Since>,
    many: Vec<(Since, RoaringBitmap)>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn ids(&self) -> &RoaringBitmap {
        &self.all
    }

    pub(super) fn mark(&self, id: u32) -> Option<Since> {
        if !self.all.contains(id) {
            return None;
        }
        let one_of_many = || self.many.iter().find(|(_, ids)| ids.contains(id)).map(|(mark, _)| *mark);
        self.few.get(&id).copied().or_else(one_of_many)
    }

    /// Marks an entry that has no mark.
    pub(super) fn insert(&mut self, id: u32, mark: Since) {
        self.all.insert(id);
        self.few.insert(id, mark);
    }

    /// Marks entries of which none has a mark.
    pub(super) fn insert_all(&mut self, ids: RoaringBitmap, mark: Since) {
        self.all |= &ids;
        if ids.len() <= FEW {
            self.few.extend(ids.iter().map(|id| (id, mark)));
        } else {
            self.many.push((mark, ids));
        }
    }

    /// Takes an entry's mark off.
    pub(super) fn take(&mut self, id: u32) -> Option<Since> {
        let mark = self.mark(id)?;
        self.remove(id);
        Some(mark)
    }

    pub(super) fn remove(&mut self, id: u32) {
        if self.all.is_empty() || !self.all.remove(id) || self.few.remove(&id).is_some() {
            return;
        }
        if let Some(at) = self.many.iter_mut().position(|(_, ids)| ids.remove(id))
            && self.many.get(at).is_some_and(|(_, ids)| ids.is_empty())
        {
            self.many.swap_remove(at);
        }
    }

    pub(super) fn remove_all(&mut self, ids: &RoaringBitmap) {
        let gone = &self.all & ids;
        if gone.is_empty() {
            return;
        }
        self.all -= &gone;
        if gone.len() < self.few.len() as u64 {
            gone.iter().for_each(|id| _ = self.few.remove(&id));
        } else {
            self.few.retain(|id, _| !gone.contains(*id));
        }
        self.many.iter_mut().for_each(|(_, ids)| *ids -= &gone);
        self.many.retain(|(_, ids)| !ids.is_empty());
    }

    /// Says what disagrees in here.
    pub(super) fn check(&self, report: &mut dyn FnMut(String)) {
        let marks = self.few.len() as u64 + self.many.iter().map(|(_, ids)| ids.len()).sum::<u64>();
        let marked = self.all.iter().filter(|id| self.mark(*id).is_some()).count() as u64;
        if self.all.len() != marks || marked != marks {
            report(format!("{} softly invalidated, {marks} marks, {marked} of them theirs", self.all.len()));
        }
    }
}
