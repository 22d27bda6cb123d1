//! Listing, a page at a time, with the guarantees of the server's `SCAN`: what is there from the first page to the last is
//! listed. Pages go up the ids, which stay with an entry and a tag as long as it lives; so a cursor is the next id, and
//! nothing is kept between two pages.

use super::Index;
use super::hint::Patterns;
use crate::glob::Glob;
use crate::selector::Selector;

impl Index {
    /// A page of the entries that a selector selects, none of them dead, and the cursor of the next page, if there may be
    /// one. It starts from 0; about `steps` members of the clause with the fewest are looked at.
    pub fn scan(
        &self,
        selector: &Selector,
        type_id: impl Fn(&[u8]) -> Option<u16>,
        cursor: u32,
        steps: usize,
    ) -> (Vec<u32>, Option<u32>) {
        let steps = steps.max(1);
        let Some(sources) = self.sources(selector, type_id) else { return (Vec::new(), None) };
        let (mut page, next) = match sources.iter().min_by_key(|source| source.most()) {
            Some(fewest) => {
                let ids = fewest.from(cursor, steps);
                let next = ids.last().filter(|_| ids.len() == steps).and_then(|last| last.checked_add(1));
                (ids, next)
            }
            None => {
                let (records, next) = self.records.slice(cursor, steps);
                (records.into_iter().map(|(id, _)| id).collect(), next)
            }
        };
        let patterns = Patterns::new(selector.patterns());
        let excluded: Vec<_> = self.excluded(selector).collect();
        page.retain(|id| {
            !self.dead.contains(*id)
                && sources.iter().all(|source| source.contains(*id))
                && !excluded.iter().any(|members| members.contains(*id))
                && self.records.get(*id).is_some_and(|name| patterns.match_name(name))
        });
        (page, next)
    }

    /// A page of the tags that have an entry alive, each with how many, and the cursor of the next page, if there may be
    /// one. It starts from 0; about `steps` tags are looked at.
    pub fn scan_tags(&self, cursor: u32, steps: usize, pattern: Option<&Glob>) -> (Vec<(&[u8], u64)>, Option<u32>) {
        let (tags, next) = self.tags.slice(cursor, steps.max(1));
        let patterns = Patterns::new(pattern);
        let counted = tags.into_iter().filter(|(_, tag)| patterns.match_name(tag.name.bytes())).map(|(_, tag)| {
            // A name that no longer leads to its record is that of dead entries only.
            (tag.name.bytes(), tag.members.len_without(&self.dead))
        });
        (counted.filter(|(_, entries)| *entries > 0).collect(), next)
    }
}
