//! What is counted: entries and bytes of each type, counters, windows, rankings.

use expcache_core::codec::Encoding;
use expcache_core::entry::{Entry, Verdict};
use expcache_core::index::{Bytes, Index};
use expcache_core::stats::{Counters, Why};

use super::Cache;
use super::departures::{Cause, Departures, Reason};
use crate::server::{clock, status};

fn type_dead<'i>(indexes: impl Iterator<Item = (i32, &'i Index)>, type_id: u16) -> u64 {
    indexes.map(|(_, index)| index.type_dead(type_id)).sum()
}

impl Cache {
    // ---- entries and bytes of each type ----

    pub(super) fn count_in(&mut self, entry: &Entry) {
        if let Some(known) = self.types.get_mut(entry.type_id()) {
            known.entries += 1;
            known.payload_bytes += entry.size() as u64;
        }
    }

    pub(super) fn count_out(&mut self, entry: &Entry, was_dead: bool) {
        if let Some(known) = self.types.get_mut(entry.type_id()) {
            known.entries -= 1;
            known.payload_bytes -= entry.size() as u64;
            // Of what was loaded nobody knows whether it had been read.
            let is_known = entry.touched_us() > 0;
            known.ended += u64::from(is_known);
            known.ended_unread += u64::from(is_known && entry.hits() == 0);
            known.count_reclaimed(u64::from(was_dead));
        }
    }

    /// Notes that an entry's payload is kept in another form, and what it was kept in before.
    pub fn recount_encoding(&mut self, db: i32, entry: &Entry, encoding_before: Encoding, stored_before: usize) {
        self.databases.change(db, |index| index.settled(entry, encoding_before, stored_before));
    }

    /// How many entries of a type are dead and not yet reclaimed, in all databases.
    pub fn type_dead(&self, type_id: u16) -> u64 {
        type_dead(self.databases.indexes(), type_id)
    }

    /// Bytes of the entries of a type, in all databases.
    pub fn type_bytes(&self, type_id: u16) -> Bytes {
        self.databases.indexes().map(|(_, index)| index.type_bytes(type_id)).fold(Bytes::default(), |sum, bytes| {
            Bytes { payload: sum.payload + bytes.payload, stored: sum.stored + bytes.stored }
        })
    }

    /// The `rank`-th entry of a type over all databases.
    pub fn type_member(&self, type_id: u16, mut rank: u64) -> Option<(i32, &[u8])> {
        for (db, index) in self.databases.indexes() {
            let here = index.type_members(type_id);
            if rank < here {
                return index.type_member(type_id, u32::try_from(rank).ok()?).map(|key| (db, key));
            }
            rank -= here;
        }
        None
    }

    /// Says where the types' counts disagree with the indexes.
    pub fn check_types(&self, report: &mut dyn FnMut(String)) {
        for (id, known) in self.types.iter() {
            let entries: u64 = self.databases.indexes().map(|(_, index)| index.type_members(id)).sum();
            let payload_bytes = self.type_bytes(id).payload;
            if (entries, payload_bytes) != (known.entries, known.payload_bytes) {
                report(format!(
                    "type '{}': counts {} entries of {} bytes; the indexes have {entries} of {payload_bytes}",
                    String::from_utf8_lossy(&known.name),
                    known.entries,
                    known.payload_bytes
                ));
            }
        }
    }

    // ---- counters ----

    /// Counts something for a type.
    pub fn count(&mut self, type_id: u16, what: impl FnOnce(&mut Counters)) {
        if let Some(known) = self.types.get_mut(type_id) {
            what(&mut known.counters);
        }
    }

    /// Counts something for the type in a key's name: there is no entry that says its own.
    pub fn count_by_key(&mut self, key: &[u8], what: impl FnOnce(&mut Counters)) {
        let type_id = self.type_by_key(key);
        self.count(type_id, what);
    }

    /// Counts a value that was stored.
    pub fn count_set(&mut self, type_id: u16, cost_ms: Option<u64>, format: Option<&[u8]>, payload_bytes: usize) {
        if let Some(known) = self.types.get_mut(type_id) {
            known.count_set(cost_ms, format, payload_bytes as u64);
        }
    }

    /// Counts an entry that went, if the event that says why is about the one unlinked last.
    pub fn count_departure(&mut self, key: &[u8], cause: Cause) {
        let Some(entry) = self.departures.take_last_unlinked(key) else { return };
        // A replica's master tells it of what has expired by deleting it.
        let has_ended = status::is_replica() && cause == Cause::Deleted && entry.expires_ms <= clock::unix_ms();
        let cause = if has_ended { Cause::Expired } else { cause };
        // An entry that an invalidation was about to reclaim had expired before, if the server says so now.
        let had_expired =
            entry.was_dead && self.departures.reason == Some(Reason::Reclaiming) && cause == Cause::Expired;
        if entry.was_dead && !had_expired {
            return;
        }
        if cause == Cause::Expired {
            self.departures.note(entry.departure, Why::Expired);
        }
        self.count(entry.type_id, |counters| {
            counters.invalidated -= u64::from(had_expired).min(counters.invalidated);
            match cause {
                Cause::Deleted => counters.deletes += 1,
                Cause::Expired => counters.expired += 1,
                Cause::Evicted => counters.evicted += 1,
            }
        });
    }

    /// Forgets the last unlinked entry: it was renamed or moved, or no event will say its reason.
    pub fn forget_last_unlinked(&mut self) {
        self.departures.forget_last_unlinked();
    }

    /// Forgets the names of what went: none of it goes on elsewhere.
    pub fn forget_gone(&mut self) {
        self.databases.settle();
    }

    /// Is the reason still to be said why the last entry went?
    pub fn has_last_unlinked(&self) -> bool {
        self.departures.has_last_unlinked()
    }

    /// Was the entry that went last, and of which nobody has said yet why, under this key?
    pub fn was_last_unlinked(&self, key: &[u8]) -> bool {
        self.departures.has_last_unlinked() && self.departures.last_unlinked(key).is_some()
    }

    /// The type of the entry that was unlinked last, if the key is its and it was not dead.
    pub fn last_unlinked_type(&self, key: &[u8]) -> Option<u16> {
        self.departures.last_unlinked(key).filter(|entry| !entry.was_dead).map(|entry| entry.type_id)
    }

    /// The type of the entry that went last, if the key was its, also when it is known why.
    pub fn departed_type(&self, key: &[u8]) -> Option<u16> {
        self.departures.departed_type(key)
    }

    /// Are we ourselves unlinking keys?
    pub fn is_unlinking(&self) -> bool {
        self.departures.reason.is_some()
    }

    /// Starts counting anew.
    pub fn reset_counters(&mut self) {
        self.roll_windows();
        self.counting_since_ms = clock::steady_ms();
        let Self { types, databases, .. } = self;
        types.reset_counters(|id| type_dead(databases.indexes(), id));
    }

    /// For how long has been counted.
    pub fn counting_ms(&self) -> u64 {
        clock::steady_ms() - self.counting_since_ms
    }

    /// Notes which minute it is. To be called before the counters of a window are asked for.
    pub fn roll_windows(&mut self) {
        let Self { types, databases, .. } = self;
        types.turn(clock::steady_ms() / 60_000, |id| type_dead(databases.indexes(), id));
    }

    /// What is to be noted at every beat of the server's clock.
    pub fn tick(&mut self) {
        self.departures.forget_last_unlinked();
        self.databases.settle();
        self.roll_windows();
        self.departures.fit();
    }

    // ---- rankings ----

    /// Ranks an entry of any database by its figures.
    pub fn rank(&mut self, entry: &Entry) {
        if let Some(db) = self.databases.db_of(entry.index()) {
            self.databases.change(db, |index| index.rank(entry));
        }
    }

    /// As [`Cache::rank`], for an entry that was hit.
    #[inline]
    pub fn rank_hit(&mut self, entry: &Entry, cost_ms: u64) {
        let index = self.databases.numbered_mut(entry.index());
        if index.is_some_and(|index| !index.rank_hit(entry, cost_ms)) {
            self.rank(entry);
        }
    }

    /// See [`Index::reopen_rankings`].
    pub fn reopen_rankings(&mut self) {
        self.databases.reopen_rankings();
    }

    // ---- why reads miss ----

    fn departure_hash(&self, db: i32, key: &[u8]) -> u64 {
        Departures::departure_hash(self.departures.hash(key), self.databases.index(db).map_or(0, Index::number))
    }

    /// Remembers that a key was invalidated, though it is there.
    pub fn note_invalidated(&mut self, db: i32, key: &[u8]) {
        self.departures.note(self.departure_hash(db, key), Why::Invalidated);
    }

    /// Forgets why a key went.
    pub fn forget_why(&mut self, db: i32, key: &[u8]) {
        self.departures.forget(self.departure_hash(db, key));
    }

    /// Why a key is not there, as far as known.
    pub fn why_gone(&self, db: i32, key: &[u8]) -> Option<Why> {
        if self.departures.misses().is_empty() {
            return None;
        }
        self.departures.why(self.departure_hash(db, key))
    }

    /// Why an entry that is there is not fresh.
    pub fn why_not_fresh(&self, db: i32, key: &[u8], entry: &Entry) -> Why {
        let marked = self.verdict(db, entry) != Verdict::Alive;
        let cut_short = || self.databases.index_of(db, entry).is_some_and(|index| index.ends_early(entry));
        if marked || cut_short() && self.why_gone(db, key) == Some(Why::Invalidated) {
            Why::Invalidated
        } else {
            Why::Expired
        }
    }
}
