//! What the module knows: the index of each database, the types, the configuration.
//!
//! There is one state, and only the main thread touches it (threads that hold the server's lock count as such). No call
//! into the server that may call us back (deleting a key, for one) happens while it is borrowed; a guard at run time proves
//! it, and ends in an error rather than in two owners.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use expcache_core::codec::Encoding;
use expcache_core::entry::{Entry, Names, Verdict};
use expcache_core::index::{Bytes, Index, Mark, Placement};
use expcache_core::lease::Leases;
use expcache_core::policy::fresh_until_ms;
use expcache_core::selector::Selector;
use expcache_core::stats::{Counters, MissMemory, Why};
use expcache_core::types::{DEFAULT_TYPE, Types};
use expcache_core::{Error, Result};

use super::alloc::weighed;
use super::api::api;
use super::args::Arg;
use super::clock;
use super::context::Ctx;
use super::discard;
use super::key::{Found, Mode};
use super::leases::{Timer, Waits};
use super::main_thread::MainThread;
use super::ranking::Ranking;
use super::setting::Setting;
use super::settle::Then;
use super::status;
use super::walk::Searches;
use crate::command::types::policy_words;

/// What derived keys begin with.
pub static PREFIX: Setting = Setting::text(c"prefix", c"export_cache", check_prefix);
/// The most types.
pub static MAX_TYPES: Setting = Setting::number(c"max-types", 1024, 8..=16_384);
/// How many keys are remembered of which it is known why they went; 0: none.
pub static MISS_MEMORY: Setting = Setting::number(c"miss-memory", 65_536, 0..=16_777_216);

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

/// See the module's head.
pub struct State {
    databases: Vec<Database>,
    /// The number of the index made last.
    last_number: u16,
    /// All types.
    pub types: Types,
    /// Those of them that wait for another's production.
    pub waits: Waits,
    /// The timer of leases, while it is set.
    pub lease_timer: Option<Timer>,
    /// Those of them for whom names are looked at.
    pub searches: Searches,
    /// What waits for the MD5 of payloads, by where these stand.
    pub digesting: HashMap<usize, Vec<Then>>,
    /// Why we ourselves are unlinking keys, while we are.
    reason: Option<Reason>,
    /// The entry that was unlinked last, until the event that says why.
    gone: Option<Unlinked>,
    /// Why keys went lately.
    pub departed: MissMemory,
    /// The completion of rankings.
    pub ranking: Ranking,
    /// When counting started, by the steady clock.
    counting_since_ms: u64,
    /// Since when something waits to be reclaimed, by the steady clock.
    backlog_since_ms: Option<u64>,
    /// The name of the entry that came last with its expiry to follow.
    expiry_follows: Option<u64>,
    hasher: RandomState,
}

#[derive(Default)]
struct Database {
    index: Box<Index>,
    index_bytes: isize,
    leases: Leases<Selector>,
}

struct Unlinked {
    name: u64,
    /// What it is remembered under.
    trace: u64,
    type_id: u16,
    was_dead: bool,
    expires_ms: u64,
}

/// Why an entry went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A command deleted it.
    Deleted,
    /// Its time was over.
    Expired,
    /// It made room.
    Evicted,
}

/// Why we unlink keys on our own account. What goes for such a reason is freed, and takes no names along.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They are dead.
    Reclaiming,
    /// Their type is over its limits.
    MakingRoom,
}

/// Runs `work`, in which keys are unlinked for a reason.
pub fn because<R>(reason: Reason, work: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            with(|s| s.reason = None);
        }
    }
    with(|s| s.reason = Some(reason));
    let _reset = Reset;
    work()
}

static STATE: MainThread<State> = MainThread::new();

/// Asks or changes the state. `work` must not call the server.
pub fn with<R>(work: impl FnOnce(&mut State) -> R) -> R {
    STATE.with(work)
}

/// What a key with this hash is remembered under, in the index of this number.
fn trace(name: u64, number: u16) -> u64 {
    name ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn type_dead(databases: &[Database], type_id: u16) -> u64 {
    databases.iter().map(|database| database.index.type_dead(type_id)).sum()
}

impl Default for State {
    fn default() -> Self {
        Self {
            databases: Vec::new(),
            last_number: 0,
            types: Types::default(),
            waits: Waits::default(),
            lease_timer: None,
            searches: Searches::default(),
            digesting: HashMap::new(),
            reason: None,
            gone: None,
            departed: MissMemory::default(),
            ranking: Ranking::default(),
            counting_since_ms: 0,
            backlog_since_ms: None,
            expiry_follows: None,
            hasher: RandomState::new(),
        }
    }
}

impl State {
    /// What stands for a name, as long as the server runs.
    pub fn hash_of(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    // ---- the index of each database ----

    /// The index of a database.
    pub fn index(&self, db: i32) -> Option<&Index> {
        usize::try_from(db).ok().and_then(|at| self.databases.get(at)).map(|d| &*d.index)
    }

    /// Every database's index.
    pub fn indexes(&self) -> impl Iterator<Item = (i32, &Index)> {
        (0..).zip(self.databases.iter().map(|d| &*d.index))
    }

    fn make_databases(&mut self, count: usize) {
        while self.databases.len() < count {
            let index = self.new_index();
            self.databases.push(Database { index, ..Database::default() });
        }
    }

    /// An index with a number that no other has (as long as there are not 65,535 databases).
    fn new_index(&mut self) -> Box<Index> {
        loop {
            self.last_number = self.last_number.wrapping_add(1);
            let is_new = self.databases.iter().all(|database| database.index.number() != self.last_number);
            if is_new || self.databases.len() >= usize::from(u16::MAX) {
                return Box::new(Index::new(self.last_number));
            }
        }
    }

    /// The index that an entry is in. The server does not always say the right database (`MIGRATE` names its target's), so
    /// the entry does; `db` is where to look first.
    pub(super) fn index_of(&self, db: i32, entry: &Entry) -> Option<&Index> {
        let hint = self.index(db).filter(|index| index.number() == entry.index());
        hint.or_else(|| self.indexes().map(|(_, index)| index).find(|index| index.number() == entry.index()))
    }

    /// The leases of a database.
    pub fn leases(&self, db: i32) -> Option<&Leases<Selector>> {
        usize::try_from(db).ok().and_then(|at| self.databases.get(at)).map(|d| &d.leases)
    }

    /// The leases of a database, to be changed.
    pub fn leases_mut(&mut self, db: i32) -> Option<&mut Leases<Selector>> {
        let at = usize::try_from(db).ok()?;
        self.make_databases(at + 1);
        self.databases.get_mut(at).map(|d| &mut d.leases)
    }

    /// Those of every database.
    pub fn all_leases_mut(&mut self) -> impl Iterator<Item = &mut Leases<Selector>> {
        self.databases.iter_mut().map(|d| &mut d.leases)
    }

    /// Changes the index of a database, noting what that does to its size.
    pub(super) fn change<R>(&mut self, db: i32, work: impl FnOnce(&mut Index) -> R) -> Option<R> {
        let at = usize::try_from(db).ok()?;
        self.make_databases(at + 1);
        let database = self.databases.get_mut(at)?;
        let (result, bytes) = weighed(|| work(&mut database.index));
        database.index_bytes += bytes;
        Some(result)
    }

    /// Bytes of memory that all indexes take.
    pub fn index_bytes(&self) -> u64 {
        self.databases.iter().map(|d| u64::try_from(d.index_bytes).unwrap_or(0)).sum()
    }

    /// Puts an entry into the index, with these tags. `false` when there is no room for it.
    #[must_use]
    pub fn link(&mut self, db: i32, key: &[u8], entry: &mut Entry, placement: Placement, tags: &[&[u8]]) -> bool {
        let linked = self.change(db, |index| index.link(entry, key, placement, tags.iter().copied())) == Some(true);
        if linked {
            self.count_in(entry);
        }
        linked
    }

    /// Puts an entry into the index that carries its names. `false` when there is no room for it.
    #[must_use]
    pub fn link_loose(&mut self, db: i32, key: &[u8], entry: &mut Entry, expire_at_ms: Option<i64>) -> bool {
        let names = entry.take_names();
        let fresh_until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
        let type_id = self.types.know(&names.type_name).unwrap_or(DEFAULT_TYPE);
        let tags: Vec<&[u8]> = names.tags.iter().map(AsRef::as_ref).collect();
        let linked = self.link(db, key, entry, Placement { type_id, fresh_until_ms, soft: names.soft }, &tags);
        if linked && self.is_dead(db, entry) {
            // It was counted where it was invalidated.
            self.types.get_mut(type_id).into_iter().for_each(|known| known.dead_uncounted += 1);
        }
        linked
    }

    /// Takes an entry out of the index because its key goes. It may go on under another name or in another database, so it
    /// carries its names from now on, unless it is known to be freed.
    pub fn unlink(&mut self, db: i32, key: &[u8], entry: &mut Entry) {
        let names = if self.reason.is_some() { Names::default() } else { self.names(db, entry) };
        let (number, name) = (entry.index(), self.hasher.hash_one(key));
        let expires_ms = self.index_of(db, entry).map_or(u64::MAX, |index| index.expires_ms(entry));
        if let Some(was_dead) = self.drop_from_index(db, key, entry) {
            entry.carry(names, was_dead);
            let trace = trace(name, number);
            self.gone = Some(Unlinked { name, trace, type_id: entry.type_id(), was_dead, expires_ms });
            if was_dead { self.note_gone(trace, Why::Invalidated) } else { self.departed.forget(trace) }
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
        let Some(was_dead) = self.change(db, |index| index.relink(old, new, placement, tags)).flatten() else {
            return self.link(db, key, new, placement, tags);
        };
        self.count_out(old, was_dead);
        self.count_in(new);
        true
    }

    fn drop_from_index(&mut self, db: i32, key: &[u8], entry: &mut Entry) -> Option<bool> {
        let dead = self.change(db, |index| index.unlink(entry, key))??;
        self.count_out(entry, dead);
        Some(dead)
    }

    fn count_in(&mut self, entry: &Entry) {
        if let Some(known) = self.types.get_mut(entry.type_id()) {
            known.entries += 1;
            known.payload_bytes += entry.size() as u64;
        }
    }

    fn count_out(&mut self, entry: &Entry, was_dead: bool) {
        if let Some(known) = self.types.get_mut(entry.type_id()) {
            known.entries -= 1;
            known.payload_bytes -= entry.size() as u64;
            known.count_reclaimed(u64::from(was_dead));
        }
    }

    /// The names of an entry, in the index or not.
    pub fn names(&self, db: i32, entry: &Entry) -> Names {
        match (entry.names(), self.index_of(db, entry)) {
            (Some(names), _) => names.clone(),
            (None, Some(index)) => index.names(entry, &self.types.get(entry.type_id()).name),
            (None, None) => Names::default(),
        }
    }

    /// Is this entry dead: invalidated and not yet reclaimed?
    pub fn is_dead(&self, db: i32, entry: &Entry) -> bool {
        self.verdict(db, entry) == Verdict::Dead
    }

    /// What invalidations made of an entry, in the index or not.
    pub fn verdict(&self, db: i32, entry: &Entry) -> Verdict {
        if entry.is_linked() {
            return self.index_of(db, entry).map_or(Verdict::Alive, |index| index.verdict(entry));
        }
        match entry.names().and_then(|names| names.soft) {
            _ if entry.carries_dead_mark() => Verdict::Dead,
            Some(soft) => Verdict::Soft(soft),
            None => Verdict::Alive,
        }
    }

    /// Notes that an entry's key expires at another time from now on, and what that means for a soft invalidation that is
    /// still to be carried out.
    pub fn redate(&mut self, db: i32, entry: &Entry, expire_at_ms: Option<i64>, mark: Mark) {
        self.change(db, |index| index.redate(entry, fresh_until_ms(expire_at_ms, entry.grace_ms()), mark));
    }

    /// Notes that an entry's payload is kept in another form, and what it was kept in before.
    pub fn settled(&mut self, db: i32, entry: &Entry, encoding_before: Encoding, stored_before: usize) {
        self.change(db, |index| index.settled(entry, encoding_before, stored_before));
    }

    /// Forgets a database's index, or all of them: its keys are gone, all at once. Freeing it is a thread's work.
    pub fn flush(&mut self, db: Option<i32>) {
        let range = match db.map(usize::try_from) {
            None => 0..self.databases.len(),
            Some(Ok(at)) if at < self.databases.len() => at..at + 1,
            Some(_) => return,
        };
        for at in range {
            let index = self.new_index();
            let Some(database) = self.databases.get_mut(at) else { break };
            let leases = std::mem::take(&mut database.leases);
            let old = std::mem::replace(database, Database { index, index_bytes: 0, leases });
            for (type_id, entries) in old.index.types() {
                if let Some(known) = self.types.get_mut(type_id) {
                    known.entries -= entries;
                    known.payload_bytes -= old.index.type_bytes(type_id).payload;
                    known.count_reclaimed(old.index.type_dead(type_id));
                }
            }
            if !old.index.is_empty() {
                discard::on_thread(old);
            }
        }
    }

    /// Exchanges two databases' indexes, as `SWAPDB` did their keys.
    pub fn swap(&mut self, first: i32, second: i32) {
        let (Ok(a), Ok(b)) = (usize::try_from(first), usize::try_from(second)) else { return };
        self.make_databases(a.max(b) + 1);
        self.databases.swap(a, b);
    }

    /// Takes out a dead id whose key is not there.
    pub fn drop_lost(&mut self, db: i32, id: u32) {
        self.change(db, |index| index.drop_lost(id));
    }

    /// How many entries bear a mark of an invalidation that waits to be carried out, in all databases.
    pub fn marked_len(&self) -> u64 {
        self.indexes().map(|(_, index)| index.marked_len()).sum()
    }

    // ---- types ----

    /// The type of an entry that does not say: the one in its key's name, if it is defined, else `default`.
    pub fn type_by_key(&self, key: &[u8]) -> u16 {
        PREFIX.with_text(|prefix| {
            let mut names = expcache_core::key::types_in_key(prefix, key, self.types.most_colons());
            names.find_map(|name| self.types.defined_id(name)).unwrap_or(DEFAULT_TYPE)
        })
    }

    /// The words of a `TYPE SET` for each defined type.
    pub fn policies(&self) -> Vec<Vec<Vec<u8>>> {
        self.types.iter().filter_map(|(_, known)| policy_words(known)).collect()
    }

    // ---- counting ----

    /// Starts counting anew.
    pub fn reset_counters(&mut self) {
        self.turn();
        self.counting_since_ms = clock::steady_ms();
        self.types.reset_counters(|id| type_dead(&self.databases, id));
    }

    /// For how long has been counted.
    pub fn counting_ms(&self) -> u64 {
        clock::steady_ms() - self.counting_since_ms
    }

    /// Notes which minute it is. To be called before the counters of a window are asked for.
    pub fn turn(&mut self) {
        self.types.turn(clock::steady_ms() / 60_000, |id| type_dead(&self.databases, id));
    }

    /// What there is to note from time to time.
    pub fn beat(&mut self) {
        self.turn();
        self.fit_memory();
        self.types.shrink(MAX_TYPES.as_usize());
        let now_ms = clock::steady_ms();
        let since_ms = self.backlog_since_ms.unwrap_or(now_ms);
        self.backlog_since_ms = (self.marked_len() > 0).then_some(since_ms);
    }

    /// For how long there has always been something to reclaim.
    pub fn backlog_age_ms(&self) -> u64 {
        self.backlog_since_ms.map_or(0, |since_ms| clock::steady_ms().saturating_sub(since_ms))
    }

    /// How many entries of a type are dead and not yet reclaimed, in all databases.
    pub fn type_dead(&self, type_id: u16) -> u64 {
        type_dead(&self.databases, type_id)
    }

    /// Ranks an entry of any database by its figures.
    pub fn rank(&mut self, entry: &Entry) {
        if let Some(db) = self.db_of(entry) {
            self.change(db, |index| index.rank(entry));
        }
    }

    /// As [`State::rank`], for an entry that was hit.
    #[inline]
    pub fn rank_hit(&mut self, entry: &Entry, cost_ms: u64) {
        let of = self.databases.iter_mut().find(|database| database.index.number() == entry.index());
        if of.is_some_and(|database| !database.index.rank_hit(entry, cost_ms)) {
            self.rank(entry);
        }
    }

    fn db_of(&self, entry: &Entry) -> Option<i32> {
        self.indexes().find(|(_, index)| index.number() == entry.index()).map(|(db, _)| db)
    }

    /// See [`Index::reopen_rankings`].
    pub fn reopen_rankings(&mut self) {
        self.databases.iter_mut().for_each(|database| database.index.reopen_rankings());
    }

    // ---- why keys went ----

    /// What a key is remembered under; it is its database's index that counts, wherever that goes.
    fn trace_of(&self, db: i32, key: &[u8]) -> u64 {
        trace(self.hasher.hash_one(key), self.index(db).map_or(0, Index::number))
    }

    fn note_gone(&mut self, trace: u64, why: Why) {
        self.fit_memory();
        self.departed.note(trace, why, clock::steady_ms() / 1000);
    }

    /// Makes the memory of why keys went as large as it is configured.
    fn fit_memory(&mut self) {
        if !self.departed.has_room_for(MISS_MEMORY.as_usize()) {
            self.departed = MissMemory::new(MISS_MEMORY.as_usize(), clock::steady_ms() / 1000);
        }
    }

    /// Remembers that a key was invalidated, though it is there.
    pub fn note_invalidated(&mut self, db: i32, key: &[u8]) {
        self.note_gone(self.trace_of(db, key), Why::Invalidated);
    }

    /// Forgets why a key went.
    pub fn forget_why(&mut self, db: i32, key: &[u8]) {
        self.departed.forget(self.trace_of(db, key));
    }

    /// Why a key is not there, as far as known.
    pub fn why_gone(&self, db: i32, key: &[u8]) -> Option<Why> {
        if self.departed.is_empty() {
            return None;
        }
        self.departed.why(self.trace_of(db, key), clock::steady_ms() / 1000)
    }

    /// Why an entry that is there is not fresh.
    pub fn why_not_fresh(&self, db: i32, key: &[u8], entry: &Entry) -> Why {
        let marked = self.verdict(db, entry) != Verdict::Alive;
        let cut_short = || self.index_of(db, entry).is_some_and(|index| index.ends_early(entry));
        if marked || cut_short() && self.why_gone(db, key) == Some(Why::Invalidated) {
            Why::Invalidated
        } else {
            Why::Expired
        }
    }

    /// Counts a value that was stored.
    pub fn count_set(&mut self, type_id: u16, cost_ms: Option<u64>, format: Option<&[u8]>, payload_bytes: usize) {
        if let Some(known) = self.types.get_mut(type_id) {
            known.count_set(cost_ms, format, payload_bytes as u64);
        }
    }

    /// Says where the types' counts disagree with the indexes.
    pub fn check_types(&self, report: &mut dyn FnMut(String)) {
        for (id, known) in self.types.iter() {
            let entries: u64 = self.indexes().map(|(_, index)| index.type_members(id)).sum();
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

    /// Counts an entry that went, if the event that says why is about the one unlinked last.
    pub fn count_gone(&mut self, key: &[u8], cause: Cause) {
        let Some(gone) = self.gone.take().filter(|gone| gone.name == self.hasher.hash_one(key)) else { return };
        // A replica's master tells it of what has expired by deleting it.
        let has_ended = status::is_replica() && cause == Cause::Deleted && gone.expires_ms <= clock::unix_ms();
        let cause = if has_ended { Cause::Expired } else { cause };
        // An entry that an invalidation was about to reclaim had expired before, if the server says so now.
        let had_expired = gone.was_dead && self.reason == Some(Reason::Reclaiming) && cause == Cause::Expired;
        if gone.was_dead && !had_expired {
            return;
        }
        if cause == Cause::Expired {
            self.note_gone(gone.trace, Why::Expired);
        }
        self.count(gone.type_id, |counters| {
            counters.invalidated -= u64::from(had_expired).min(counters.invalidated);
            match cause {
                Cause::Deleted => counters.deletes += 1,
                Cause::Expired => counters.expired += 1,
                Cause::Evicted => counters.evicted += 1,
            }
        });
    }

    /// The `rank`-th entry of a type over all databases.
    pub fn type_member(&self, type_id: u16, mut rank: u64) -> Option<(i32, &[u8])> {
        for (db, index) in self.indexes() {
            let here = index.type_members(type_id);
            if rank < here {
                return index.type_member(type_id, u32::try_from(rank).ok()?).map(|key| (db, key));
            }
            rank -= here;
        }
        None
    }

    /// An entry was put down by itself, and its expiry follows: so the server rewrites the append-only file.
    pub fn expect_expiry(&mut self, key: &[u8]) {
        self.expiry_follows = Some(self.hasher.hash_one(key));
    }

    /// Is this expiry the one that follows an entry? Any other is somebody's will.
    pub fn expected_expiry(&mut self, key: &[u8]) -> bool {
        self.expiry_follows.take().is_some_and(|name| name == self.hasher.hash_one(key))
    }

    /// The entry that was unlinked last is not going, or nobody will say why.
    pub fn forget_gone(&mut self) {
        self.gone = None;
    }

    /// Are we ourselves unlinking keys?
    pub fn is_busy(&self) -> bool {
        self.reason.is_some()
    }

    /// Is the reason still to be said why the last entry went?
    pub fn has_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Bytes of the entries of a type, in all databases.
    pub fn type_bytes(&self, type_id: u16) -> Bytes {
        self.indexes().map(|(_, index)| index.type_bytes(type_id)).fold(Bytes::default(), |sum, bytes| Bytes {
            payload: sum.payload + bytes.payload,
            stored: sum.stored + bytes.stored,
        })
    }
}

impl Ctx {
    /// Puts a key's expiry off and tells replicas. Who watches or tracks the key is not told: its value is the same.
    pub fn expire_at(&self, name: Arg<'_>, moment_ms: i64) {
        let mut key = self.open(name, Mode::Write);
        key.set_expire_at_ms(Some(moment_ms));
        let db = key.db();
        if let Found::Entry(entry) = key.found() {
            with(|s| s.redate(db, entry, Some(moment_ms), Mark::CarriedOut));
        }
        drop(key);
        // SAFETY: the variable arguments are the string and the number that the format says.
        unsafe {
            api!(RedisModule_Replicate)(self.raw(), c"PEXPIREAT".as_ptr(), c"sl".as_ptr(), name.raw(), moment_ms)
        };
    }
}
