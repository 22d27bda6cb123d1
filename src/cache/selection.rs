//! Selectors: which entries they mean, and what is done to these.

use std::borrow::Cow;

use expcache_core::glob::Glob;
use expcache_core::index::{Effort, Ids, Index, WalkId};
use expcache_core::selector::Selector;

use super::Cache;

/// So many bytes of names are enough for one reply.
const MOST_NAME_BYTES: usize = 4 << 20;

/// A tag, and how many entries bear it.
pub type Counted = (Box<[u8]>, u64);

impl Cache {
    /// The entries of a database that a selector means, its patterns left aside.
    pub fn select(&self, db: i32, selector: &Selector) -> Ids {
        self.databases.index(db).map_or_else(Ids::default, |index| index.select(selector, |name| self.types.id(name)))
    }

    /// How many entries that are.
    pub fn selected_len(&self, db: i32, selector: &Selector) -> u64 {
        self.databases.index(db).map_or(0, |index| index.count(selector, |name| self.types.id(name)))
    }

    /// The keys of up to `most` entries of a type that bear a tag, none of them dead, unless there are no more than `enough`.
    pub fn crowded(&self, db: i32, type_id: u16, tag: &[u8], enough: usize, most: usize) -> Vec<Box<[u8]>> {
        let Some(index) = self.databases.index(db) else { return Vec::new() };
        let ids = index.of_type_with_tag(type_id, tag, most);
        if ids.len() <= enough {
            return Vec::new();
        }
        ids.into_iter().filter_map(|id| index.key(id)).map(Into::into).collect()
    }

    /// Begins to look for the entries of a database that a selector with patterns means.
    pub fn start_walk(&mut self, db: i32, selector: &Selector) -> WalkId {
        let scope = self.select(db, selector);
        // The clone is made inside, for what the index keeps is weighed.
        self.databases.change(db, |index| index.start_walk(selector.patterns(), scope.clone())).unwrap_or_default()
    }

    /// Looks at names for so many more steps. Is that all? (It is, if the index is no more.)
    pub fn walk(&mut self, walk: WalkId, steps: u64) -> bool {
        self.change_walked(walk, |index| index.walk(walk, steps)).unwrap_or(true)
    }

    /// What was found, as things are now.
    pub fn finish_walk(&mut self, walk: WalkId, selector: &Selector) -> Ids {
        let Some(db) = self.database_of(walk) else { return Ids::default() };
        self.copy_out(db, |index| index.finish_walk(walk)).and(&self.select(db, selector))
    }

    /// Nobody waits for it any longer.
    pub fn cancel_walk(&mut self, walk: WalkId) {
        self.change_walked(walk, |index| index.cancel_walk(walk));
    }

    /// The database whose names are walked over: after `SWAPDB` it is another.
    pub fn database_of(&self, walk: WalkId) -> Option<i32> {
        self.databases.db_of(walk.index())
    }

    fn change_walked<R>(&mut self, walk: WalkId, work: impl FnOnce(&mut Index) -> R) -> Option<R> {
        let db = self.database_of(walk)?;
        self.databases.change(db, work)
    }

    /// The names of some of these entries: up to `most`, and fewer if they are very long.
    pub fn keys(&self, db: i32, ids: &Ids, most: usize) -> Vec<Box<[u8]>> {
        let Some(index) = self.databases.index(db) else { return Vec::new() };
        let mut left = MOST_NAME_BYTES;
        let fits = |key: &&[u8]| {
            let fitted = left > 0;
            left = left.saturating_sub(key.len());
            fitted
        };
        ids.iter().filter_map(|id| index.key(id)).take(most).take_while(fits).map(Into::into).collect()
    }

    /// A page of the keys of the entries that a selector means, and where the next begins.
    pub fn scan(&self, db: i32, selector: &Selector, cursor: u32, effort: Effort) -> (Vec<Box<[u8]>>, Option<u32>) {
        let Some(index) = self.databases.index(db) else { return (Vec::new(), None) };
        let (ids, next) = index.scan(selector, |name| self.types.id(name), cursor, effort);
        (ids.into_iter().filter_map(|id| index.key(id)).map(Into::into).collect(), next)
    }

    /// A page of the tags, each with how many entries it has, and where the next begins.
    pub fn scan_tags(&self, db: i32, glob: Option<&Glob>, cursor: u32, effort: Effort) -> (Vec<Counted>, Option<u32>) {
        let Some(index) = self.databases.index(db) else { return (Vec::new(), None) };
        let (tags, next) = index.scan_tags(cursor, effort, glob);
        (tags.into_iter().map(|(tag, entries)| (tag.into(), entries)).collect(), next)
    }

    // ---- invalidation ----

    /// Those of these entries that are fresh at a moment, unix ms.
    pub fn fresh<'i>(&mut self, db: i32, ids: &'i Ids, moment_ms: u64) -> Cow<'i, Ids> {
        let stale = self.copy_out(db, |index| index.stale(ids, moment_ms));
        self.databases.index(db).map_or_else(Cow::default, |index| index.fresh(ids, &stale))
    }

    /// Gets entries out of the index. A set that was made there weighs as a part of it, so it is let go there and a copy used.
    fn copy_out(&mut self, db: i32, work: impl FnOnce(&mut Index) -> Ids) -> Ids {
        let Some(inside) = self.databases.change(db, work) else { return Ids::default() };
        let outside = inside.clone();
        self.databases.change(db, |_| drop(inside));
        outside
    }

    /// Makes these entries dead, which are those that the selector means.
    pub fn kill(&mut self, db: i32, selector: &Selector, ids: &Ids) {
        self.databases.change(db, |index| match selector.only_any() {
            Some(tags) => index.invalidate_tags(tags.iter().map(AsRef::as_ref)),
            None => index.kill(ids),
        });
    }

    /// Makes the entries with a tag dead without anybody taking note; returns how many there were.
    pub fn kill_tagged(&mut self, db: i32, tag: &[u8]) -> u64 {
        self.databases.change(db, |index| index.invalidate_tags([tag])).unwrap_or(0)
    }

    /// Makes these entries, which are fresh at a moment, unix ms, stale from then on; those that have no grace, dead.
    pub fn soften(&mut self, db: i32, fresh: &Ids, moment_ms: u64) {
        let graces: Vec<u64> = self.types.iter().map(|(id, _)| self.types.policy(id).grace_ms).collect();
        let grace_of = |type_id: u16| graces.get(usize::from(type_id)).copied().unwrap_or(0);
        let dead = self.copy_out(db, |index| index.soften(fresh, moment_ms, grace_of));
        // Those that went for want of a grace are counted as they are reclaimed.
        let stale = fresh.without(&dead);
        let by_type: Vec<_> = self.databases.index(db).into_iter().flat_map(|index| index.by_type(&stale)).collect();
        for (type_id, count) in by_type {
            self.count(type_id, |counters| counters.invalidated += count);
        }
    }
}
