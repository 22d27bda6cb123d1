//! Proof that an index and its keyspace agree, and that the index agrees with itself.

use std::hash::BuildHasher;

use super::{Bytes, Index};
use crate::entry::Entry;

impl Index {
    /// Says what is wrong with a linked entry found under `key`.
    pub fn check_entry(&self, entry: &Entry, key: &[u8], report: &mut dyn FnMut(String)) {
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
    }

    /// Says what disagrees inside the index, given what a walk over the keyspace found.
    pub fn check(&self, walked: &Walked, report: &mut dyn FnMut(String)) {
        let mut same = |what: &str, index: u64, keyspace: u64| {
            if index != keyspace {
                report(format!("{what}: {index} in the index, {keyspace} in the keyspace"));
            }
        };
        same("entries", self.records.len().into(), walked.entries);
        same("memberships", self.tags.iter().map(|(_, tag)| tag.members.len()).sum(), walked.memberships);
        same("entries by type", self.types.iter().map(|t| t.ids.len()).sum(), walked.entries);
        same("payload bytes", self.types.iter().map(|t| t.bytes.payload).sum(), walked.bytes.payload);
        same("stored bytes", self.types.iter().map(|t| t.bytes.stored).sum(), walked.bytes.stored);
        let mut named = 0;
        for (tag_id, tag) in self.tags.iter() {
            let hash = self.hasher.hash_one(tag.name.bytes());
            let mut say = |what| report(format!("tag '{}' {what}", String::from_utf8_lossy(tag.name.bytes())));
            if tag.members.is_empty() {
                say("has no entry");
            }
            if self.tag_ids.find(hash, |id| id == tag_id).is_some() {
                named += 1;
            } else if !tag.members.are_all_in(&self.dead) {
                say("has an entry alive and cannot be found");
            }
        }
        if self.tag_ids.len() != named {
            report(format!("{} tag names, {named} of them of a tag", self.tag_ids.len()));
        }
        for id in self.dead.iter().filter(|id| self.records.get(*id).is_none()) {
            report(format!("dead id {id} is nobody's"));
        }
    }
}

/// What a walk over all keys of a database counted.
#[derive(Default)]
pub struct Walked {
    entries: u64,
    memberships: u64,
    bytes: Bytes,
}

impl Walked {
    /// Counts one entry.
    pub fn count(&mut self, entry: &Entry) {
        self.entries += 1;
        self.memberships += entry.tag_count() as u64;
        self.bytes.add(entry);
    }
}
