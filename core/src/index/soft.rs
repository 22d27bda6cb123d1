//! Soft invalidation: entries are stale at once, though it takes a while until their keys' expiries say so.
//!
//! An entry is fresh until its key's expiry less its grace, and only the server knows the expiry. So the index remembers
//! when the freshness of entries with a grace ends (those without are never stale), and it marks what is softly invalidated
//! as pending. The caller then puts the expiries where they belong, as many at a time as it likes, and the marks go.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::pending::Since;
use super::{Ids, Index};
use crate::entry::{Entry, Verdict};

/// What becomes of a pending soft invalidation when the key's expiry is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is over: the expiry says it all, but for a grace that is still to be given to the entry.
    Over,
    /// It is still to be carried out.
    Kept,
}

impl Index {
    /// Those of these entries that are neither dead nor stale at a moment. They must have been selected since the index last
    /// changed.
    pub fn fresh(&mut self, ids: &Ids, now_ms: u64) -> Ids {
        let alive = &ids.0 - &self.dead - self.pending.stale(now_ms);
        Ids(self.dates.without_stale(alive, now_ms))
    }

    /// How many entries bear a mark that waits to be carried out: dead, or softly invalidated.
    pub fn marked_len(&self) -> u64 {
        self.dead_len() + self.soft_len()
    }

    /// Makes these entries, which are [fresh](Index::fresh) at that moment, stale from then on: for their own grace, else for the
    /// grace of their type, or dead if there is neither. Returns those that are dead.
    pub fn soften(&mut self, fresh: &Ids, now_ms: u64, type_grace_ms: impl Fn(u16) -> u64) -> Ids {
        let own = &fresh.0 & self.dates.ids();
        let mut by_grace = self.by_grace(&fresh.0 - &own, type_grace_ms);
        let dead = by_grace.remove(&0).unwrap_or_default();
        self.pending.remove_all(&fresh.0);
        self.dead |= &dead;
        self.pending.insert_all(own, Since { moment_ms: now_ms, grace_ms: None });
        for (grace_ms, ids) in by_grace {
            self.pending.insert_all(ids, Since { moment_ms: now_ms, grace_ms: Some(grace_ms) });
        }
        Ids(dead)
    }

    fn by_grace(&self, ids: RoaringBitmap, type_grace_ms: impl Fn(u16) -> u64) -> BTreeMap<u64, RoaringBitmap> {
        let mut by_grace: BTreeMap<u64, RoaringBitmap> = BTreeMap::new();
        for (type_id, members) in (0u16..).zip(&self.types) {
            let of_type = &ids & &members.ids;
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
        // Almost always there is none at all.
        let mark = if self.pending.is_empty() { None } else { self.pending.mark(entry.id()) };
        mark.map_or(Verdict::Alive, |mark| Verdict::Soft(mark.resolve(entry.grace_ms())))
    }

    /// Notes that the server moved the key's expiry, and with it the end of the entry's freshness, and what that means for a
    /// soft invalidation that is pending.
    pub fn redate(&mut self, entry: &Entry, fresh_until_ms: Option<i64>, mark: Mark) {
        if entry.is_linked() && entry.index() == self.number {
            if mark == Mark::Over {
                self.pending.redate(entry.id(), fresh_until_ms);
            }
            let old_date = self.date_of(entry);
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
