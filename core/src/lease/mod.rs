//! Leases: one client produces a key's next value, others wait for it, and outdated values are never stored.
//!
//! Of any number of clients that want a missing or stale key one gets its *lease*, under a token.
//! The others may be noted as *waiters*: they are told when the lease ends, with a value or without; in the latter case the
//! first of them who asked for a lease gets the next one. A *fence* refuses values that were computed before an invalidation
//! that would have hit them (see `fence.rs`). A production that failed may keep the key *backing off* for a while,
//! until something happens to the key that makes another try worth while: it is deleted, stored or invalidated.
//!
//! ```text
//! key -> record {number, until, held: token, since, waiters | backing off}     deadlines {(until, number) -> key}
//!                                                          ^                   numbers {of records}
//! waiter -> (key, place in the line) ----------------------'
//! ```
//!
//! 1. One counter numbers everything that happens: granting, arriving, invalidating. So "before" needs no clock, and the
//!    first of the records' numbers is that of the oldest.
//! 2. A lease ends once: by its value, by another's, by its holder giving up, by deletion, by a fence, or by time. What it
//!    held goes with it: the deadline, the waiters, what its holder has gathered, and the fences that only it could have needed.
//! 3. A lease whose time is over is lost, even before [`Leases::expire`] took it away. Until then it is still held to
//!    those who ask, if somebody waits: whoever waited comes before whoever asks now.
//! 4. Nothing is kept for a key but while it is leased or backing off, nothing for a waiter but while it waits.
//! 5. What is much is not freed but put aside ([`Leases::take_aside`]): for a thread, it may take long.
//! 6. No call takes longer than the logarithm of how much there is, for each lease, waiter or record that it touches.
//!
//! Only one thing may end a lease or fence it: a change that somebody asked for. A key that is expired, evicted, or reclaimed
//! after an invalidation says nothing about the value that is being produced.

mod aside;
mod fence;
mod names;
#[cfg(test)]
mod race;
#[cfg(test)]
mod tests;
mod token;

use std::collections::btree_map::IntoKeys;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use self::aside::Aside;
use self::fence::Fences;
pub use self::fence::{Hits, Subject, TAGS_PER_FENCE};
pub use self::token::Token;
use crate::{Error, Result};

/// A lease as somebody wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// By which they will be known as its holder.
    pub token: Token,
    /// How long it is to last.
    pub duration_ms: u64,
    /// Whose it counts as, see [`Limits::each`].
    pub owner: u64,
}

/// The answer to who asks for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is theirs.
    Granted,
    /// It was theirs before: it is the same lease, from now on for as long as they asked.
    Again,
    /// Another holds it, for so long at most.
    Held {
        /// In ms.
        left_ms: u64,
    },
    /// Producing failed, and is not to be tried again before this is over.
    BackingOff {
        /// In ms.
        left_ms: u64,
    },
    /// There are as many leases as there may be, of all or of this owner, or they take as much memory.
    Full,
}

/// How much may be kept of leases and keys backing off together.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// So many records.
    pub records: usize,
    /// So many bytes, see [`Leases::bytes`].
    pub bytes: usize,
    /// So many records of each owner.
    pub each: usize,
}

/// What stands in the way of a key's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Free,
    /// Somebody holds it, for so many ms at most.
    Held(u64),
    /// The key backs off, for so many ms.
    BackingOff(u64),
}

/// What invalidations know a key by that backs off: its present entry, or what its name says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Its type's name.
    pub type_name: Box<[u8]>,
    /// Its tags.
    pub tags: Vec<Box<[u8]>>,
}

impl Named {
    fn bytes(&self) -> usize {
        const BESIDES: usize = size_of::<Box<[u8]>>();
        self.type_name.len() + self.tags.iter().map(|tag| BESIDES + tag.len()).sum::<usize>()
    }
}

/// A waiter to be answered, for whom there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken {
    /// As the caller named it.
    pub waiter: u64,
    /// The lease, if it is theirs now.
    pub lease: Option<Token>,
}

/// A lease ended by its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// From granting to storing.
    pub production_ms: u64,
    /// Who is to be answered with the value, in the order of arrival.
    pub waiters: Vec<u64>,
}

/// A lease whose time was over, or a backing off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its key.
    pub key: Arc<[u8]>,
    /// Who is to be answered.
    pub woken: Vec<Woken>,
}

type Key = Arc<[u8]>;

struct Record<P> {
    number: u64,
    until_ms: u64,
    owner: u64,
    state: State<P>,
}

/// About what a record takes besides names: itself, its places in the tables, its token.
const RECORD_BYTES: usize = 300;

fn bytes_of(key: &[u8]) -> usize {
    RECORD_BYTES + key.len()
}

impl<P> Record<P> {
    /// What it is reckoned to take.
    fn bytes(&self, key: &[u8]) -> usize {
        let names = match &self.state {
            State::Held(_) => 0,
            State::BackingOff(named) => named.as_ref().map_or(0, Named::bytes),
        };
        bytes_of(key) + names
    }
}

enum State<P> {
    Held(Holding<P>),
    /// As what invalidations know the key; if there was no room for that, any of them means it.
    BackingOff(Option<Named>),
}

struct Holding<P> {
    token: Token,
    since_ms: u64,
    /// By the number of their arrival.
    waiters: BTreeMap<u64, Waiter>,
    gathered: P,
}

struct Waiter {
    name: u64,
    /// The lease, if it wants it.
    wish: Option<Wish>,
}

/// The leases of one database; `S` is what selects entries in invalidations, `P` what a holder gathers for its value before it stores it.
/// See the module's head.
pub struct Leases<S, P = ()> {
    /// The number given out last.
    number: u64,
    records: HashMap<Key, Record<P>>,
    deadlines: BTreeMap<(u64, u64), Key>,
    /// The numbers of all records.
    numbers: BTreeSet<u64>,
    /// How many of them are leases.
    held: usize,
    /// What they are reckoned to take.
    bytes: usize,
    /// How many records each owner has.
    of_owners: HashMap<u64, usize>,
    waiting: BTreeMap<u64, Place>,
    fences: Fences<S>,
    aside: Aside,
}

/// What a waiter waits for, and when it arrived.
type Place = (Key, u64);

/// The waiters of everything that a flush ended.
pub type Flushed = IntoKeys<u64, Place>;

impl<S, P> Default for Leases<S, P> {
    fn default() -> Self {
        Self {
            number: 0,
            records: HashMap::default(),
            deadlines: BTreeMap::new(),
            numbers: BTreeSet::new(),
            held: 0,
            bytes: 0,
            of_owners: HashMap::default(),
            waiting: BTreeMap::new(),
            fences: Fences::default(),
            aside: Aside::default(),
        }
    }
}

impl<S, P> Leases<S, P>
where
    S: Hits + Send + Sync + 'static,
    P: Default + Send + Sync + 'static,
{
    // ---- asking and waiting ----

    /// Asks for the lease of a key, from now on. Who brings the token that holds it is given it again: the reply may have been
    /// lost. It stays the same lease, for what it is fenced from and for when it began.
    pub fn ask(&mut self, key: &[u8], now_ms: u64, wish: Wish, limits: Limits) -> Asked {
        if self.renew(key, wish.token, now_ms, wish.duration_ms) {
            return Asked::Again;
        }
        match self.standing(key, now_ms) {
            Standing::Held(left_ms) if left_ms > 0 || self.is_awaited(key) => return Asked::Held { left_ms },
            Standing::BackingOff(left_ms) => return Asked::BackingOff { left_ms },
            Standing::Held(_) | Standing::Free => drop(self.take(key)),
        }
        let has_room = self.records.len() < limits.records && self.bytes + bytes_of(key) <= limits.bytes;
        if !has_room || self.owned_len(wish.owner) >= limits.each {
            return Asked::Full;
        }
        self.grant(key.into(), now_ms, wish);
        Asked::Granted
    }

    /// What stands in the way of a key's lease. What invalidated the key since it began to back off has ended that.
    pub fn standing(&self, key: &[u8], now_ms: u64) -> Standing {
        let Some(record) = self.records.get(key) else { return Standing::Free };
        let left_ms = record.until_ms.saturating_sub(now_ms);
        match &record.state {
            State::Held(_) => Standing::Held(left_ms),
            State::BackingOff(named) if left_ms > 0 && !self.is_hit(key, record.number, named) => {
                Standing::BackingOff(left_ms)
            }
            State::BackingOff(_) => Standing::Free,
        }
    }

    fn is_hit(&self, key: &[u8], since: u64, named: &Option<Named>) -> bool {
        let Some(named) = named else { return self.fences.any_since(since) };
        let tags: Vec<&[u8]> = named.tags.iter().map(AsRef::as_ref).collect();
        self.fences.hit(since, &Subject { key, type_name: &named.type_name, tags: &tags })
    }

    fn is_awaited(&self, key: &[u8]) -> bool {
        let record = self.records.get(key);
        record.is_some_and(|record| matches!(&record.state, State::Held(holding) if !holding.waiters.is_empty()))
    }

    /// Notes somebody who waits for what becomes of a key's lease, and how they want it if it becomes free.
    /// `false`, and nothing noted, when nobody holds it or `waiter` waits already.
    #[must_use]
    pub fn wait(&mut self, key: &[u8], waiter: u64, wish: Option<Wish>) -> bool {
        if self.waiting.contains_key(&waiter) {
            return false;
        }
        let arrival = self.next_number();
        let Some(holding) = self.holding_mut(key) else { return false };
        holding.waiters.insert(arrival, Waiter { name: waiter, wish });
        if let Some((key, _)) = self.records.get_key_value(key) {
            self.waiting.insert(waiter, (Arc::clone(key), arrival));
        }
        true
    }

    /// Forgets a waiter, for whatever reason it no longer waits. Says whether it did.
    pub fn leave(&mut self, waiter: u64) -> bool {
        let Some((key, arrival)) = self.waiting.remove(&waiter) else { return false };
        if let Some(holding) = self.holding_mut(&key) {
            holding.waiters.remove(&arrival);
        }
        true
    }

    // ---- the holder ----

    /// For how long the holder of `token` has held the lease, in ms; `None` when it does not.
    pub fn production_ms(&self, key: &[u8], token: Token, now_ms: u64) -> Option<u64> {
        self.holder(key, token, now_ms).map(|(_, holding)| now_ms.saturating_sub(holding.since_ms))
    }

    /// May the holder of `token` store this? Changes nothing: [`Error::LeaseLost`], or [`Error::Fenced`], on which the
    /// caller ends the lease by [`Leases::lost`] (its value will never do).
    pub fn check(&self, key: &[u8], token: Token, now_ms: u64, subject: &Subject<'_>) -> Result<()> {
        let (record, _) = self.holder(key, token, now_ms).ok_or(Error::LeaseLost)?;
        if self.fences.hit(record.number, subject) { Err(Error::Fenced) } else { Ok(()) }
    }

    /// The value that [`Leases::check`] allowed, at this same moment, is stored: ends the lease. `None`, and nothing done,
    /// when the token does not hold it.
    pub fn finish(&mut self, key: &[u8], token: Token, now_ms: u64) -> Option<Finished> {
        self.holder(key, token, now_ms)?;
        let (_, holding) = self.end(key)?;
        let production_ms = now_ms.saturating_sub(holding.since_ms);
        Some(Finished { production_ms, waiters: self.dismiss(&holding.waiters) })
    }

    /// What the holder of `token` has gathered for its value. It goes with the lease, however that ends.
    pub fn gathered(&mut self, key: &[u8], token: Token, now_ms: u64) -> Option<&mut P> {
        self.holder(key, token, now_ms)?;
        self.holding_mut(key).map(|holding| &mut holding.gathered)
    }

    /// The holder needs it for `duration_ms` from now on. `false` when it is not theirs.
    pub fn renew(&mut self, key: &[u8], token: Token, now_ms: u64, duration_ms: u64) -> bool {
        if self.holder(key, token, now_ms).is_none() {
            return false;
        }
        let Some(record) = self.records.get_mut(key) else { return false };
        let until_ms = now_ms.saturating_add(duration_ms);
        if let Some(key) = self.deadlines.remove(&(record.until_ms, record.number)) {
            self.deadlines.insert((until_ms, record.number), key);
        }
        record.until_ms = until_ms;
        true
    }

    /// The holder gives up; nobody gets a lease of the key for `backoff_ms`, unless it is invalidated as what it is `named`. If that
    /// would take more bytes than there may be, any invalidation counts as one that means the key.
    /// Says who is to be answered, `None` when the lease is not theirs.
    pub fn release(
        &mut self,
        key: &[u8],
        token: Token,
        now_ms: u64,
        backoff_ms: u64,
        named: Named,
        limits: Limits,
    ) -> Option<Vec<Woken>> {
        self.holder(key, token, now_ms)?;
        if backoff_ms == 0 {
            return Some(self.lost(key, now_ms));
        }
        let owner = self.records.get(key)?.owner;
        let (key, holding) = self.end(key)?;
        let number = self.next_number();
        let named = Some(named).filter(|named| self.bytes + bytes_of(&key) + named.bytes() <= limits.bytes);
        let until_ms = now_ms.saturating_add(backoff_ms);
        self.put(key, Record { number, until_ms, owner, state: State::BackingOff(named) });
        Some(self.dismiss(&holding.waiters).into_iter().map(|waiter| Woken { waiter, lease: None }).collect())
    }

    // ---- what others do ----

    /// Somebody stored the key without a lease: that is lost if there is one, and its waiters, who are returned, are to be
    /// answered with what is there. A key backing off no longer does.
    pub fn superseded(&mut self, key: &[u8]) -> Vec<u64> {
        self.end_backing_off(key);
        self.end(key).map(|(_, holding)| self.dismiss(&holding.waiters)).unwrap_or_default()
    }

    /// The key was deleted, or its value refused by a fence: the lease, if there is one, is over without a value, and so is backing
    /// off.
    pub fn lost(&mut self, key: &[u8], now_ms: u64) -> Vec<Woken> {
        self.end_backing_off(key);
        self.end(key).map(|(key, holding)| self.pass_on(key, &holding, now_ms)).unwrap_or_default()
    }

    /// Everything is gone, and every lease and backoff with it. Returns all waiters, by their names.
    pub fn flush(&mut self) -> Flushed {
        let (number, aside) = (self.number, std::mem::take(&mut self.aside));
        let mut ended = std::mem::replace(self, Self { number, aside, ..Self::default() });
        let waiters = std::mem::take(&mut ended.waiting);
        self.aside.put(ended.records.len().max(ended.fences.len()), ended);
        waiters.into_keys()
    }

    /// What was put aside, to be dropped where it keeps nobody waiting.
    pub fn take_aside(&mut self) -> Vec<Box<dyn Send + Sync>> {
        std::mem::take(&mut self.aside.0)
    }

    /// The entries with any of these tags were invalidated. At most `bound` records are kept.
    pub fn fence_tags<'t>(&mut self, tags: impl IntoIterator<Item = &'t [u8]>, bound: usize) {
        if self.is_empty() {
            return;
        }
        for tag in tags {
            let number = self.next_number();
            self.fences.note_tag(tag, number, bound);
        }
    }

    /// The entries that a selector selects were invalidated.
    pub fn fence(&mut self, selector: S, bound: usize) {
        if !self.is_empty() {
            let number = self.next_number();
            self.fences.note_selector(selector, number, bound);
        }
    }

    /// All entries were invalidated, but leases go on (what they are for can be produced, but not from what was read).
    pub fn fence_all(&mut self) {
        let number = self.next_number();
        self.fences.note_everything(number, &mut self.aside);
    }

    // ---- time ----

    /// When [`Leases::expire`] has something to do next, unix ms.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first_key_value().map(|((until_ms, _), _)| *until_ms)
    }

    /// Ends one lease or backoff whose time is over, and says who is to be answered; `None` when there is none. Called until
    /// then, in slices if need be.
    pub fn expire(&mut self, now_ms: u64) -> Option<Ended> {
        let ((until_ms, _), key) = self.deadlines.first_key_value()?;
        if *until_ms > now_ms {
            return None;
        }
        let (key, record) = self.take(&Arc::clone(key))?;
        let woken = match record.state {
            State::Held(holding) => self.pass_on(Arc::clone(&key), &holding, now_ms),
            State::BackingOff(_) => Vec::new(),
        };
        Some(Ended { key, woken })
    }

    // ---- counts ----

    /// How many leases are held.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Is none held, and does no key back off?
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What leases and keys backing off are reckoned to take: their keys' names, and what each needs besides.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many leases an owner holds, and keys that back off since it gave up.
    pub fn owned_len(&self, owner: u64) -> usize {
        self.of_owners.get(&owner).copied().unwrap_or(0)
    }

    /// How many keys back off.
    pub fn backing_off_len(&self) -> usize {
        self.records.len() - self.held
    }

    /// How many wait.
    #[cfg(test)]
    fn waiters_len(&self) -> usize {
        self.waiting.len()
    }

    /// How much of the bound on fences is used.
    pub fn fences_len(&self) -> usize {
        self.fences.len()
    }

    // ---- inside ----

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn holding_mut(&mut self, key: &[u8]) -> Option<&mut Holding<P>> {
        match &mut self.records.get_mut(key)?.state {
            State::Held(holding) => Some(holding),
            State::BackingOff(_) => None,
        }
    }

    fn holder(&self, key: &[u8], token: Token, now_ms: u64) -> Option<(&Record<P>, &Holding<P>)> {
        let record = self.records.get(key)?;
        match &record.state {
            State::Held(holding) if holding.token == token && now_ms < record.until_ms => Some((record, holding)),
            State::Held(_) | State::BackingOff(_) => None,
        }
    }

    fn grant(&mut self, key: Key, now_ms: u64, Wish { token, duration_ms, owner }: Wish) {
        let number = self.next_number();
        let holding = Holding { token, since_ms: now_ms, waiters: BTreeMap::new(), gathered: P::default() };
        self.held += 1;
        let until_ms = now_ms.saturating_add(duration_ms);
        self.put(key, Record { number, until_ms, owner, state: State::Held(holding) });
    }

    fn put(&mut self, key: Key, record: Record<P>) {
        self.deadlines.insert((record.until_ms, record.number), Arc::clone(&key));
        self.numbers.insert(record.number);
        self.bytes += record.bytes(&key);
        *self.of_owners.entry(record.owner).or_default() += 1;
        self.records.insert(key, record);
    }

    /// Takes a record out, with all that was kept for it but its waiters.
    fn take(&mut self, key: &[u8]) -> Option<(Key, Record<P>)> {
        let (key, record) = self.records.remove_entry(key)?;
        self.deadlines.remove(&(record.until_ms, record.number));
        self.numbers.remove(&record.number);
        self.bytes -= record.bytes(&key);
        self.disown(record.owner);
        self.held -= usize::from(matches!(record.state, State::Held(_)));
        self.fences.drop_before(self.numbers.first().copied(), &mut self.aside);
        if self.records.is_empty() {
            self.records = HashMap::default();
        }
        Some((key, record))
    }

    fn disown(&mut self, owner: u64) {
        if let Some(count) = self.of_owners.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.of_owners.remove(&owner);
            }
        }
    }

    /// Takes the key's record out if it is held.
    fn end(&mut self, key: &[u8]) -> Option<(Key, Holding<P>)> {
        self.holding_mut(key)?;
        let (key, record) = self.take(key)?;
        match record.state {
            State::Held(holding) => Some((key, holding)),
            State::BackingOff(_) => None,
        }
    }

    fn end_backing_off(&mut self, key: &[u8]) {
        if self.records.get(key).is_some_and(|record| matches!(record.state, State::BackingOff(_))) {
            self.take(key);
        }
    }

    /// The waiters of a lease that is over no longer wait.
    fn dismiss(&mut self, waiters: &BTreeMap<u64, Waiter>) -> Vec<u64> {
        for waiter in waiters.values() {
            self.waiting.remove(&waiter.name);
        }
        waiters.values().map(|waiter| waiter.name).collect()
    }

    /// A lease ended without a value: the first who wants it gets the next, and all learn what became of it. Who waits more
    /// than once, since a connection broke unnoticed, gets it on each.
    fn pass_on(&mut self, key: Key, ended: &Holding<P>, now_ms: u64) -> Vec<Woken> {
        let heir = ended.waiters.values().find_map(|waiter| waiter.wish);
        let lease_of =
            |waiter: &Waiter| waiter.wish.map(|wish| wish.token).filter(|of| heir.is_some_and(|h| h.token == *of));
        let woken =
            ended.waiters.values().map(|waiter| Woken { waiter: waiter.name, lease: lease_of(waiter) }).collect();
        self.dismiss(&ended.waiters);
        if let Some(wish) = heir {
            self.grant(key, now_ms, wish);
        }
        woken
    }
}
