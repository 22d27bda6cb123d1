//! Entries made dead, many at once, and the dead handed out one after another to be reclaimed.

use std::hash::BuildHasher;

use super::{Ids, Index};

impl Index {
    /// Makes every entry dead that bears any of the tags; returns how many were not before.
    ///
    /// The tags are forgotten with their entries: their records only wait for the last of them to be reclaimed, and whoever
    /// uses such a name from now on starts a new one.
    pub fn invalidate_tags<'t>(&mut self, tags: impl IntoIterator<Item = &'t [u8]>) -> u64 {
        let before = self.dead.len();
        for name in tags {
            let hash = self.hasher.hash_one(name);
            let Some(tag_id) = self.find_tag(hash, name) else { continue };
            if let Some(tag) = self.tags.get(tag_id) {
                tag.members.unite_into(&mut self.dead);
            }
            self.forget_tag_name(tag_id);
        }
        self.gone.ids().for_each(|id| _ = self.dead.remove(id));
        self.pending.remove_all(&self.dead);
        self.dead.len() - before
    }

    /// Makes these entries dead; returns how many were not before. They must have been selected since the index last changed.
    ///
    /// The names of their tags go on leading to them: to forget the names would take looking at each tag.
    pub fn kill(&mut self, ids: &Ids) -> u64 {
        let before = self.dead.len();
        self.dead |= &ids.0;
        self.pending.remove_all(&ids.0);
        self.dead.len() - before
    }

    /// How many dead entries wait to be reclaimed.
    pub fn dead_len(&self) -> u64 {
        self.dead.len()
    }

    /// Some dead entries to reclaim: their ids and their keys. They come from the end, where sets are shortened at less cost.
    pub fn next_dead(&self, most: usize) -> impl Iterator<Item = (u32, &[u8])> {
        self.dead.iter().rev().take(most).map(|id| (id, self.key(id).unwrap_or_default()))
    }

    /// Does an id wait to be reclaimed, or else for its soft invalidation to be carried out?
    pub fn is_marked(&self, id: u32, dead: bool) -> bool {
        if dead { self.dead.contains(id) } else { self.pending.ids().contains(id) }
    }

    /// Takes out a dead id whose key is not there, which [`Index::check`] would have reported. This looks through
    /// everything, and is for what should not happen.
    pub fn drop_lost(&mut self, id: u32) {
        let tags: Vec<u32> = self.tags.iter().map(|(tag_id, _)| tag_id).collect();
        for tag_id in tags {
            self.remove_member(tag_id, id);
        }
        for members in &mut self.types {
            members.ids.remove(id);
            members.rankings.forget(id);
        }
        self.leave(id);
        self.records.free(id);
    }
}
