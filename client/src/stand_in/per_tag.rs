//! `PERTAG`: how many live entries a tag may have.

use std::collections::HashSet;

use bytes::Bytes;
use expcache_core::policy::{Beyond, PerTag};
use expcache_core::warm::Reason;
use expcache_core::{Error, Result};

use super::store::State;

impl State {
    /// Refuses what would be one too many: keys that are about to be stored with these tags.
    pub(super) fn admit_tags(&mut self, type_name: &[u8], keys: &[&[u8]], tags: &[&[u8]]) -> Result<()> {
        let Some(limit) = self.tag_limit(type_name, Beyond::Reject) else { return Ok(()) };
        let coming: HashSet<&[u8]> = keys.iter().copied().collect();
        for tag in limited(&limit, tags) {
            let others = self.with_tag(type_name, tag).into_iter().filter(|(_, key)| !coming.contains(&**key)).count();
            if (others + coming.len()) as u64 > limit.most {
                return Err(Error::TagLimit);
            }
        }
        Ok(())
    }

    /// Has the least recently used go that are too many now that `newest` is stored.
    pub(super) fn make_room(&mut self, newest: &[u8], type_name: &[u8], tags: &[&[u8]]) {
        let Some(limit) = self.tag_limit(type_name, Beyond::Evict) else { return };
        for tag in limited(&limit, tags) {
            let mut others = self.with_tag(type_name, tag);
            others.retain(|(_, key)| **key != *newest);
            others.sort_unstable();
            let too_many = (others.len() + 1).saturating_sub(usize::try_from(limit.most).unwrap_or(usize::MAX));
            for (_, key) in others.iter().take(too_many) {
                self.remove(key);
                self.note_went(key, Reason::Evicted);
            }
        }
    }

    fn tag_limit(&self, type_name: &[u8], beyond: Beyond) -> Option<PerTag> {
        self.policy(type_name).per_tag.filter(|limit| limit.beyond == beyond)
    }

    /// Live entries of the type with the tag, and when each was used.
    fn with_tag(&self, type_name: &[u8], tag: &[u8]) -> Vec<(u64, Bytes)> {
        let of_both =
            self.live().filter(|(_, entry)| entry.type_name == type_name && entry.tags.iter().any(|one| one == tag));
        of_both.map(|(key, entry)| (entry.used, key.clone())).collect()
    }
}

fn limited<'t>(limit: &PerTag, tags: &'t [&'t [u8]]) -> impl Iterator<Item = &'t [u8]> {
    tags.iter().copied().filter(|tag| tag.starts_with(&limit.prefix))
}
