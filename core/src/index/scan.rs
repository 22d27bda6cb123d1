//! Listing, a page at a time, with the guarantees of the server's `SCAN`: what is there from the first page to the last is
//! listed. Pages go up the ids, which stay with an entry and a tag as long as it lives; so a cursor is the next id, and
//! nothing is kept between two pages.
//!
//! Some elements cost more than others to look at: those of many clauses, long names. A page ends where its work does, so it may
//! be shorter than it was asked to be. Work is counted in steps of the matcher of patterns; a name is looked at to its end.

use super::Index;
use super::patterns::Patterns;
use super::select::Source;
use crate::glob::Glob;
use crate::selector::Selector;

/// What asking one set for an id takes.
const ASK: u64 = 16;
/// What is done to an element that a page lists, here and by others: its key is opened, the rights to it are checked.
const LIST: u64 = 700;

/// How much a page may look at.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// So many elements.
    pub elements: usize,
    /// So much work, in steps. At least one element is looked at, however little this is.
    pub work: u64,
}

impl Effort {
    /// How many elements there can be if each takes that much.
    fn at_most(self, each: u64) -> usize {
        let affordable = usize::try_from(self.work / each).unwrap_or(usize::MAX);
        self.elements.min(affordable).max(1)
    }
}

impl Index {
    /// A page of the entries that a selector selects, none of them dead, and the cursor of the next page, if there may be
    /// one. It starts from 0; members of the clause with the fewest are looked at.
    pub fn scan(
        &self,
        selector: &Selector,
        type_id: impl Fn(&[u8]) -> Option<u16>,
        cursor: u32,
        effort: Effort,
    ) -> (Vec<u32>, Option<u32>) {
        let Some(sources) = self.sources(selector, type_id) else { return (Vec::new(), None) };
        let excluded: Vec<_> = self.excluded(selector).collect();
        let sets = 1 + excluded.len() + sources.iter().map(Source::sets).sum::<usize>();
        let look = ASK * sets as u64;
        let steps = effort.at_most(look);
        let (ids, mut next) = match sources.iter().min_by_key(|source| source.most()) {
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
        let (mut page, mut left) = (Vec::new(), effort.work.max(1));
        for id in ids {
            if left == 0 {
                next = Some(id);
                break;
            }
            left = left.saturating_sub(look);
            let is_in = !self.dead.contains(id)
                && sources.iter().all(|source| source.contains(id))
                && !excluded.iter().any(|members| members.contains(id));
            let Some(name) = self.records.get(id).filter(|name| is_in && patterns.match_name(name, &mut left)) else {
                continue;
            };
            left = left.saturating_sub(LIST + name.len() as u64);
            page.push(id);
        }
        (page, next)
    }

    /// A page of the tags that have an entry alive, each with how many, and the cursor of the next page, if there may be
    /// one. It starts from 0.
    pub fn scan_tags(&self, cursor: u32, effort: Effort, pattern: Option<&Glob>) -> (Vec<(&[u8], u64)>, Option<u32>) {
        let (tags, mut next) = self.tags.slice(cursor, effort.at_most(ASK));
        let patterns = Patterns::new(pattern);
        let (mut page, mut left) = (Vec::new(), effort.work.max(1));
        for (id, tag) in tags {
            if left == 0 {
                next = Some(id);
                break;
            }
            left = left.saturating_sub(ASK);
            let name = tag.name.bytes();
            if !patterns.match_name(name, &mut left) {
                continue;
            }
            left = left.saturating_sub(LIST + tag.members.counting(&self.dead));
            // A name that no longer leads to its record is that of dead entries only.
            let entries = tag.members.len_without(&self.dead) - self.gone_among(&tag.members);
            if entries > 0 {
                page.push((name, entries));
            }
        }
        (page, next)
    }
}
