//! Soft invalidation: entries are stale at once, though it takes a while until their keys' expiries say so.
//!
//! An entry is fresh until its key's expiry less its grace, and only the server knows the expiry. So the index remembers
//! when the freshness of entries with a grace ends (those without are never stale), and it marks what is softly invalidated
//! as pending. The caller then puts the expiries where they belong, as many at a time as it likes, and the marks go.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::dates::date_of;
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

/// What a soft invalidation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Softened {
    /// How many were fresh and are no longer.
    pub count: u64,
    /// How many of these are dead, for want of any grace.
    pub dead: u64,
}

impl Index {
    /// Those of these entries that are neither dead nor stale at a moment. They must have been selected since the index last
    /// changed.
    pub fn fresh(&mut self, ids: &Ids, now_ms: u64) -> Ids {
        Ids(&ids.0 - &self.dead - self.pending.stale(now_ms) - self.dates.stale(now_ms))
    }

    /// How many entries bear a mark that waits to be carried out: dead, or softly invalidated.
    pub fn marked_len(&self) -> u64 {
        self.dead_len() + self.soft_len()
    }

    /// Makes those of these entries stale that are fresh: for their own grace, else for the grace of their type, or dead
    /// if there is neither. They must have been selected since the index last changed.
    pub fn soften(&mut self, ids: Ids, now_ms: u64, type_grace_ms: impl Fn(u16) -> u64) -> Softened {
        let fresh = self.fresh(&ids, now_ms).0;
        let own = &fresh & self.dates.ids();
        let by_grace = self.by_grace(&fresh - &own, type_grace_ms);
        self.pending.remove_all(&fresh);
        let (count, dead) = (fresh.len(), by_grace.get(&0).map_or(0, RoaringBitmap::len));
        self.pending.insert_all(own, Since { moment_ms: now_ms, grace_ms: None });
        for (grace_ms, ids) in by_grace {
            match grace_ms {
                0 => self.dead |= ids,
                _ => self.pending.insert_all(ids, Since { moment_ms: now_ms, grace_ms: Some(grace_ms) }),
            }
        }
        Softened { count, dead }
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
            self.date(entry, entry.id(), fresh_until_ms);
        }
    }

    /// Does it matter to this index when keys expire?
    pub fn minds_expiries(&self) -> bool {
        !self.pending.is_empty() || !self.dates.ids().is_empty()
    }

    /// Notes when an entry's freshness ends, if it has a grace.
    pub(super) fn date(&mut self, entry: &Entry, id: u32, fresh_until_ms: Option<i64>) {
        match entry.grace_ms() {
            0 => self.dates.remove(id),
            _ => self.dates.set(id, date_of(fresh_until_ms)),
        }
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
