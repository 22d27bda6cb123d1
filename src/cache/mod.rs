//! The books: the state that changes together when an entry comes, goes or changes. They know the server's tools and no feature.
//!
//! *An entry is in the index exactly when its key is in the keyspace with our type* (invariant 1), and each type counts what the
//! indexes hold of it. [`Cache`] is one cell, because `link`, `unlink` and the like change both in one step. While it is open nobody
//! calls the server.
//!
//! ```text
//!  databases   an index for each database            counting   counters of types, windows, rankings
//!  departures  why entries go, the memory of misses  freshness  expiries that are moved
//!  place       an entry into index and key           selection  what a selector means
//!  figures     sums for STATS and INFO
//! ```

pub mod counting;
mod databases;
pub mod departures;
pub mod figures;
pub mod freshness;
pub mod place;
pub mod selection;

use expcache_core::entry::{Entry, Names, Verdict};
use expcache_core::grammar::Tags;
use expcache_core::index::{Index, Placement};
use expcache_core::policy::fresh_until_ms;
use expcache_core::types::{DEFAULT_TYPE, Types};
use expcache_core::{Error, Result};

use self::databases::Databases;
use self::departures::{Departures, Reason, Unlinked};
use crate::server::discard;
use crate::server::feature::{Feature, NOTHING};
use crate::server::main_thread::MainThread;
use crate::server::setting::Setting;
use crate::server::status;

/// What the books bring to the server.
pub const FEATURE: Feature = Feature { settings: &[&PREFIX, &departures::MISS_MEMORY], ..NOTHING };

/// What derived keys begin with.
pub static PREFIX: Setting = Setting::text(c"prefix", c"export_cache", check_prefix);
fn check_prefix(prefix: &[u8]) -> Result<()> {
    if prefix.is_empty() || prefix.len() > 512 {
        return Err(Error::invalid("the prefix must be 1 to 512 bytes"));
    }
    // CONFIG REWRITE writes a module's settings as they are: with one of these the server would not read its file again,
    // or read something else (Valkey 8.1 leaves backslashes out).
    if prefix.iter().any(|byte| b" \t\n\x0b\x0c\r\0\"'\\".contains(byte)) {
        return Err(Error::invalid("the prefix must have no blank, quote, backslash or NUL in it"));
    }
    Ok(())
}

/// See the head.
#[derive(Default)]
pub struct Cache {
    databases: Databases,
    /// All types.
    pub types: Types,
    /// When counting started, by the steady clock.
    counting_since_ms: u64,
    departures: Departures,
    /// How many entries have come, ever.
    arrivals: u64,
    /// The hash of the name of the entry that came last with its expiry to follow.
    expiry_follows: Option<u64>,
}

static CACHE: MainThread<Cache> = MainThread::new();

/// Opens the books. `work` must not call the server.
#[inline]
pub fn with<R>(work: impl FnOnce(&mut Cache) -> R) -> R {
    CACHE.with(work)
}

/// Runs `work`, in which we unlink keys for a reason of our own.
pub fn while_unlinking<R>(reason: Reason, work: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            with(|cache| cache.departures.reason = None);
        }
    }
    with(|cache| cache.departures.reason = Some(reason));
    let _reset = Reset;
    work()
}

impl Cache {
    /// The index of a database.
    pub fn index(&self, db: i32) -> Option<&Index> {
        self.databases.index(db)
    }

    /// Every database's index.
    pub fn indexes(&self) -> impl Iterator<Item = (i32, &Index)> {
        self.databases.indexes()
    }

    /// The database whose index has this number: after `SWAPDB` it is another.
    pub fn db_of(&self, index: u16) -> Option<i32> {
        self.databases.db_of(index)
    }

    /// The number of a database's index, and how many entries have come, ever: what a selector means has only become less while both stay
    /// as they are.
    pub fn stand(&self, db: i32) -> (u16, u64) {
        (self.databases.index(db).map_or(0, Index::number), self.arrivals)
    }

    // ---- entries come and go ----

    /// Puts an entry into the index, with these tags. `false` when there is no room for it.
    #[must_use]
    pub fn link(&mut self, db: i32, key: &[u8], entry: &mut Entry, placement: Placement, tags: &[&[u8]]) -> bool {
        let linked =
            self.databases.change(db, |index| index.link(entry, key, placement, tags.iter().copied())) == Some(true);
        if linked {
            self.count_in(entry);
        }
        self.arrivals += 1;
        linked
    }

    /// Puts an entry into the index that carries its names, or that an index knows as gone. What lost them is dead: nothing could ever
    /// invalidate it. `false` when there is no room for it.
    #[must_use]
    pub fn link_arrived(&mut self, db: i32, key: &[u8], entry: &mut Entry, expire_at_ms: Option<i64>) -> bool {
        let names = match entry.names() {
            Some(_) => entry.take_names(),
            None => self.names_of_gone(db, entry).unwrap_or_else(|| {
                entry.depart(0, true);
                Names::new(&self.types.get(DEFAULT_TYPE).name, std::iter::empty(), None)
            }),
        };
        let fresh_until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
        let type_id = self.types.know(names.type_name()).unwrap_or(DEFAULT_TYPE);
        let tags: Tags<'_> = names.tags().collect();
        let linked = self.link(db, key, entry, Placement { type_id, fresh_until_ms, soft: names.soft }, &tags);
        if linked && self.is_dead(db, entry) {
            // It was counted where it was invalidated.
            self.types.get_mut(type_id).into_iter().for_each(|known| known.dead_uncounted += 1);
        }
        linked
    }

    /// Takes an entry out of the index because its key goes. It may go on under another name or in another database.
    pub fn unlink(&mut self, db: i32, key: &[u8], entry: &mut Entry) {
        let Some(index) = self.databases.index_of(db, entry).filter(|_| entry.is_linked()) else { return };
        // Who decides by himself knows why a key goes.
        let expires_ms = if status::is_replica() { index.expires_ms(entry) } else { u64::MAX };
        let (index, name) = (entry.index(), self.departures.hash(key));
        if let Some(was_dead) = self.drop_from_index(db, key, entry) {
            let (departure, type_id) = (Departures::departure_hash(name, index), entry.type_id());
            self.departures.unlinked(Unlinked { name, departure, type_id, was_dead, expires_ms });
        }
    }

    /// Puts an entry into the index in the place of another under the same key. `false` when there is no room for it.
    #[must_use]
    pub fn relink(
        &mut self,
        db: i32,
        key: &[u8],
        old: &mut Entry,
        new: &mut Entry,
        placement: Placement,
        tags: &[&[u8]],
    ) -> bool {
        let Some(was_dead) = self.databases.change(db, |index| index.relink(old, new, placement, tags)).flatten()
        else {
            return self.link(db, key, new, placement, tags);
        };
        self.count_out(old, was_dead);
        self.count_in(new);
        self.arrivals += 1;
        true
    }

    fn drop_from_index(&mut self, db: i32, key: &[u8], entry: &mut Entry) -> Option<bool> {
        let dead = self.databases.change(db, |index| index.unlink(entry, key))??;
        self.count_out(entry, dead);
        Some(dead)
    }

    /// Forgets a database's index, or all of them: its keys are gone, all at once. A thread of its own frees each old index: that
    /// takes as long as it is large, and workers are for what clients wait for.
    pub fn flush(&mut self, db: Option<i32>) {
        for old in self.databases.empty(db) {
            for (type_id, entries) in old.types() {
                if let Some(known) = self.types.get_mut(type_id) {
                    known.entries -= entries;
                    known.payload_bytes -= old.type_bytes(type_id).payload;
                    known.count_reclaimed(old.type_dead(type_id));
                }
            }
            if !old.is_empty() {
                discard::on_thread(old);
            }
        }
    }

    /// Exchanges two databases' indexes, as `SWAPDB` did their keys.
    pub fn swap(&mut self, first: i32, second: i32) {
        self.databases.swap(first, second);
    }

    /// Takes out a dead id whose key is not there.
    pub fn drop_lost(&mut self, db: i32, id: u32) {
        self.databases.change(db, |index| index.drop_lost(id));
    }

    // ---- what is known of an entry ----

    /// The names of an entry, in the index or not.
    pub fn names(&self, db: i32, entry: &Entry) -> Names {
        match (entry.names(), self.databases.index_of(db, entry)) {
            (Some(names), _) => names.clone(),
            (None, Some(index)) if entry.is_linked() => index.names(entry, &self.types.get(entry.type_id()).name),
            (None, _) => self.names_of_gone(db, entry).unwrap_or_default(),
        }
    }

    /// Those of an entry that has just gone, if they are still known.
    fn names_of_gone(&self, db: i32, entry: &Entry) -> Option<Names> {
        self.databases.index_of(db, entry)?.names_of_gone(entry, &self.types.get(entry.type_id()).name)
    }

    /// Is this entry dead: invalidated and not yet reclaimed?
    pub fn is_dead(&self, db: i32, entry: &Entry) -> bool {
        self.verdict(db, entry) == Verdict::Dead
    }

    /// What invalidations made of an entry, in the index or not.
    pub fn verdict(&self, db: i32, entry: &Entry) -> Verdict {
        if entry.is_linked() {
            return self.databases.index_of(db, entry).map_or(Verdict::Alive, |index| index.verdict(entry));
        }
        let soft_of_gone = || self.databases.index_of(db, entry)?.soft_of_gone(entry);
        match entry.names().map_or_else(soft_of_gone, |names| names.soft) {
            _ if entry.carries_dead_mark() => Verdict::Dead,
            Some(soft) => Verdict::Soft(soft),
            None => Verdict::Alive,
        }
    }

    /// How many entries bear a mark of an invalidation that waits to be carried out, in all databases.
    pub fn marked_len(&self) -> u64 {
        self.databases.indexes().map(|(_, index)| index.marked_len()).sum()
    }

    /// The type of an entry that does not say: the one in its key's name, if it is defined, else `default`.
    pub fn type_by_key(&self, key: &[u8]) -> u16 {
        PREFIX.with_text(|prefix| {
            let mut names = expcache_core::key::types_in_key(prefix, key, self.types.most_colons());
            names.find_map(|name| self.types.defined_id(name)).unwrap_or(DEFAULT_TYPE)
        })
    }

    /// An entry's metadata, as it is saved and replicated.
    pub fn metadata(&self, db: i32, entry: &Entry) -> Vec<u8> {
        let verdict = self.verdict(db, entry);
        match self.databases.index_of(db, entry).filter(|_| entry.is_linked()) {
            Some(index) => {
                entry.encode(&self.types.get(entry.type_id()).name, &index.tags(entry).collect::<Tags<'_>>(), verdict)
            }
            None => {
                let names = self.names(db, entry);
                entry.encode(names.type_name(), &names.tags().collect::<Tags<'_>>(), verdict)
            }
        }
    }
}
