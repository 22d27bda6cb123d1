//! Soft invalidation: entries are stale at once, though it takes a while until their keys' expiries say so.
//!
//! An entry is fresh until its key's expiry less its grace, and only the server knows the expiry. So the index remembers
//! when the freshness of entries with a grace ends (those without are never stale), and it marks what is softly invalidated
//! as pending. The caller then puts the expiries where they belong, as many at a time as it likes. From then on an expiry only
//! says when the entry is gone, and may be moved; that the entry is stale, and since when, is kept beside it until it is stored again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::pending::Since;
use super::{Ids, Index};
use crate::entry::{Entry, Soft, Verdict};

/// What becomes of a pending soft invalidation when the key's expiry is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The expiry is where it belongs, or where somebody wants it.
    CarriedOut,
    /// It is still to be carried out.
    Kept,
}

impl Index {
    /// Those, of these entries at least, whose freshness has ended by itself at a moment. They must have been selected since the index
    /// last changed.
    pub fn stale(&mut self, ids: &Ids, now_ms: u64) -> Ids {
        Ids(self.dates.stale(&ids.0, now_ms))
    }

    /// Those of these entries that are neither dead nor softly invalidated, nor [stale](Index::stale): mostly all, and then not copied.
    pub fn fresh<'i>(&self, ids: &'i Ids, stale: &Ids) -> Cow<'i, Ids> {
        let mut fresh = Cow::Borrowed(ids);
        for others in [&self.dead, self.pending.ids(), self.softened.ids(), &stale.0] {
            if !fresh.0.is_disjoint(others) {
                fresh.to_mut().0 -= others;
            }
        }
        fresh
    }

    /// How many entries bear a mark that waits to be carried out: dead, or softly invalidated.
    pub fn marked_len(&self) -> u64 {
        self.dead_len() + self.soft_len()
    }

    /// Makes these entries, which are [fresh](Index::fresh) at a moment, stale from then on: for their own grace, else for the
    /// grace of their type, or dead if there is neither. Returns those that are dead.
    pub fn soften(&mut self, fresh: &Ids, now_ms: u64, type_grace_ms: impl Fn(u16) -> u64) -> Ids {
        let own = &fresh.0 & self.dates.ids();
        let mut by_grace = self.by_grace(&fresh.0, &own, type_grace_ms);
        let dead = by_grace.remove(&0).unwrap_or_default();
        self.dead |= &dead;
        self.pending.insert_all(own, Since { moment_ms: now_ms, grace_ms: None });
        for (grace_ms, ids) in by_grace {
            self.pending.insert_all(ids, Since { moment_ms: now_ms, grace_ms: Some(grace_ms) });
        }
        Ids(dead)
    }

    /// Entries by the grace of their type, but for those with `own`.
    fn by_grace(
        &self,
        ids: &RoaringBitmap,
        own: &RoaringBitmap,
        type_grace_ms: impl Fn(u16) -> u64,
    ) -> BTreeMap<u64, RoaringBitmap> {
        let mut by_grace: BTreeMap<u64, RoaringBitmap> = BTreeMap::new();
        if own.len() == ids.len() {
            return by_grace;
        }
        for (type_id, members) in (0u16..).zip(&self.types) {
            let of_type = (ids & &members.ids) - own;
            if !of_type.is_empty() {
                *by_grace.entry(type_grace_ms(type_id)).or_default() |= of_type;
            }
        }
        by_grace
    }

    /// What invalidations made of this entry.
    #[inline]
    pub fn verdict(&self, entry: &Entry) -> Verdict {
        if self.is_dead(entry) {
            return Verdict::Dead;
        }
        self.soft(entry).map_or(Verdict::Alive, Verdict::Soft)
    }

    /// The soft invalidation of this entry, which is not dead.
    #[inline]
    fn soft(&self, entry: &Entry) -> Option<Soft> {
        // Almost always there is none at all.
        let pending = if self.pending.is_empty() { None } else { self.pending.mark(entry.id()) };
        let carried_out = || self.softened.get(entry.id()).map(|moment_ms| Soft { moment_ms, grace_ms: None });
        pending.map(|mark| mark.resolve(entry.grace_ms())).or_else(carried_out)
    }

    /// Notes the soft invalidation of an entry that comes.
    pub(super) fn mark_soft(&mut self, id: u32, soft: Soft, own_grace_ms: u64) {
        match soft.grace_ms {
            None => self.softened.set(id, soft.moment_ms),
            Some(grace_ms) => {
                let grace_ms = (own_grace_ms == 0).then_some(grace_ms);
                self.pending.insert(id, Since { moment_ms: soft.moment_ms, grace_ms });
            }
        }
    }

    /// An entry bears no mark of a soft invalidation any more.
    pub(super) fn unmark_soft(&mut self, id: u32) {
        self.pending.remove(id);
        self.softened.remove(id);
    }

    /// Notes that the server moved the key's expiry, and what that means for a soft invalidation that is pending. With the expiry
    /// goes the end of the entry's freshness, unless it was softly invalidated.
    pub fn redate(&mut self, entry: &Entry, fresh_until_ms: Option<i64>, mark: Mark) {
        if entry.is_linked() && entry.index() == self.number {
            let old_date = self.date_of(entry);
            if mark == Mark::CarriedOut
                && let Some(Since { moment_ms, .. }) = self.pending.take(entry.id())
            {
                self.softened.set(entry.id(), moment_ms);
            }
            self.date(entry, entry.id(), fresh_until_ms);
            self.replace_in_type(entry, old_date, entry);
        }
    }

    /// Does it matter to this index when keys expire?
    pub fn minds_expiries(&self) -> bool {
        !self.is_empty()
    }

    /// How many are softly invalidated without their keys' expiries saying so yet.
    pub fn soft_len(&self) -> u64 {
        self.pending.ids().len()
    }

    /// One of these: its id and its key. Its [`Index::verdict`] says where its expiry belongs; then [`Index::redate`] it.
    pub fn next_soft(&self) -> Option<(u32, &[u8])> {
        let id = self.pending.ids().min()?;
        Some((id, self.key(id).unwrap_or_default()))
    }
}
