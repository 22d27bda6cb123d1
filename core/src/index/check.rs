//! Proof that an index and its keyspace agree, and that the index agrees with itself.

use std::hash::BuildHasher;

use super::dates::date_of;
use super::{Bytes, Index};
use crate::entry::Entry;

impl Index {
    /// Says what is wrong with a linked entry found under `key`, which is fresh until then by its key's expiry.
    pub fn check_entry(&self, entry: &Entry, key: &[u8], fresh_until_ms: Option<i64>, report: &mut dyn FnMut(String)) {
        let shown = String::from_utf8_lossy(key).into_owned();
        if !entry.is_linked() {
            return report(format!("key '{shown}' is not in the index"));
        }
        if !self.holds(entry, key) {
            return report(format!("key '{shown}' bears id {}, which is not its own", entry.id()));
        }
        for tag_id in entry.tag_ids() {
            if !self.tags.get(tag_id).is_some_and(|tag| tag.members.contains(entry.id())) {
                report(format!("key '{shown}' is not a member of its tag {tag_id}"));
            }
        }
        if !self.types.get(usize::from(entry.type_id())).is_some_and(|t| t.ids.contains(entry.id())) {
            report(format!("key '{shown}' is not a member of its type {}", entry.type_id()));
        }
        self.check_ranks(entry, report);
        let (date, expected) = (self.date_by_expiry(entry), date_of(fresh_until_ms));
        // Until a soft invalidation is over the key's expiry is not what it should be, and may be moved.
        let may_differ = self.pending.mark(entry.id()).is_some();
        if date != expected && !may_differ {
            report(format!("key '{shown}' is fresh until {expected}, and {date} in the index"));
        }
    }

    /// Says what disagrees inside the index, given what a walk over the keyspace found.
    pub fn check(&self, walked: &Walked, report: &mut dyn FnMut(String)) {
        let mut same = |what: &str, index: u64, keyspace: u64| {
            if index != keyspace {
                report(format!("{what}: {index} in the index, {keyspace} in the keyspace"));
            }
        };
        same("entries", self.records.len().into(), walked.entries);
        let of_gone = self.gone.known().map(|departed| departed.tag_ids.len() as u64).sum::<u64>();
        same("memberships", self.tags.iter().map(|(_, tag)| tag.members.len()).sum(), walked.memberships + of_gone);
        same("ids held", self.records.held(), self.gone.ids().count() as u64);
        same("entries by type", self.types.iter().map(|t| t.ids.len()).sum(), walked.entries);
        same("entries with a grace", self.dates.ids().len(), walked.with_grace);
        same("entries by the time they have left", self.types.iter().map(|t| t.spread.len()).sum(), walked.entries);
        same("payload bytes", self.types.iter().map(|t| t.bytes.payload).sum(), walked.bytes.payload);
        same("bytes by encoding", self.kept.iter().sum(), walked.bytes.stored);
        same("stored bytes", self.types.iter().map(|t| t.bytes.stored).sum(), walked.bytes.stored);
        let mut named = 0;
        let mut unseen = self.dead.clone();
        unseen.extend(self.gone.ids());
        for (tag_id, tag) in self.tags.iter() {
            let hash = self.hasher.hash_one(tag.name.bytes());
            let mut say = |what| report(format!("tag '{}' {what}", String::from_utf8_lossy(tag.name.bytes())));
            if tag.members.is_empty() {
                say("has no entry");
            }
            if self.tag_ids.find(hash, |id| id == tag_id).is_some() {
                named += 1;
            } else if !tag.members.are_all_in(&unseen) {
                say("has an entry alive and cannot be found");
            }
        }
        if self.tag_ids.len() != named {
            report(format!("{} tag names, {named} of them of a tag", self.tag_ids.len()));
        }
        let softened = self.softened.ids();
        for (what, ids) in [("dead", &self.dead), ("softly invalidated", self.pending.ids()), ("softened", softened)] {
            for id in ids.iter().filter(|id| self.records.get(*id).is_none()) {
                report(format!("{what} id {id} is nobody's"));
            }
        }
        if !self.pending.ids().is_disjoint(&self.dead) {
            report("some of the dead are softly invalidated".into());
        }
        if !self.pending.ids().is_disjoint(softened) {
            report("soft invalidations are pending that were carried out".into());
        }
        for departed in self.gone.known() {
            let is_in = |tag_id: &u32| self.tags.get(*tag_id).is_some_and(|tag| tag.members.contains(departed.id));
            if self.records.get(departed.id).is_some() || !departed.tag_ids.iter().all(is_in) {
                report(format!("id {} has gone, and is somebody's or in none of its tags", departed.id));
            }
        }
        if self.stray_ranks() > 0 {
            report(format!("{} places of rankings are nobody's", self.stray_ranks()));
        }
        self.pending.check(report);
    }
}

/// What a walk over all keys of a database counted.
#[derive(Default)]
pub struct Walked {
    entries: u64,
    memberships: u64,
    with_grace: u64,
    bytes: Bytes,
}

impl Walked {
    /// Counts one entry.
    pub fn count(&mut self, entry: &Entry) {
        self.entries += 1;
        self.memberships += entry.tag_count() as u64;
        self.with_grace += u64::from(entry.grace_ms() > 0);
        self.bytes.add(entry);
    }
}
