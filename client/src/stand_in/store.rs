//! What the server knows, its clock, and who waits or listens.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use expcache_core::lease::{Leases, Limits, Woken};
use expcache_core::policy::{Policy, initial_types};
use expcache_core::rules::Rules;
use expcache_core::selector::Selector;
use expcache_core::warm::Reason;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{mpsc, oneshot};

use super::entry::{Entry, Text, bulk};
use super::in_mind::InMind;
use crate::lock::locked;

/// As the server's own at first.
pub(super) const PREFIX: &[u8] = b"export_cache";
const DEFAULT: &[u8] = b"default";
/// Of leases; nobody comes near.
pub(super) const LIMITS: Limits = Limits { records: 1 << 20, bytes: 1 << 30, each: 1 << 20 };
/// Of what fences remember.
const FENCES: usize = 100_000;

/// See the [module's page](super).
pub(crate) struct Store {
    begun: Instant,
    begun_ms: u64,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) now_ms: u64,
    advanced: Duration,
    pub(super) entries: BTreeMap<Bytes, Entry>,
    pub(super) texts: BTreeMap<Bytes, Text>,
    pub(super) types: BTreeMap<Bytes, Policy>,
    pub(super) rules: Rules,
    /// With what their holders have sent in pieces.
    pub(super) leases: Leases<Selector, Vec<u8>>,
    pub(super) in_mind: InMind,
    uses: u64,
    waiting: HashMap<u64, oneshot::Sender<()>>,
    waiters: u64,
    listeners: Vec<mpsc::UnboundedSender<PushInfo>>,
}

impl Default for Store {
    fn default() -> Self {
        let begun_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let types = initial_types().map(|(name, policy)| (Bytes::from_static(name.as_bytes()), policy)).collect();
        let state = Mutex::new(State { types, ..State::default() });
        Self { begun: Instant::now(), begun_ms: u64::try_from(begun_ms).unwrap_or(0), state }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("in memory")
    }
}

impl Store {
    /// From now on whoever listens is told of each key that changes, as a connection with tracking would be.
    pub(crate) fn tell(&self, listener: mpsc::UnboundedSender<PushInfo>) {
        self.with(|state| state.listeners.push(listener));
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.with(|state| state.advanced = state.advanced.saturating_add(time));
        self.with(|state| state.tell(&Value::Nil));
    }

    /// Time goes on between commands, never within one.
    pub(super) fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        let mut state = locked(&self.state);
        let since = self.begun.elapsed().saturating_add(state.advanced).as_millis();
        state.now_ms = self.begun_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
        state.end_leases();
        let ran = run(&mut state);
        // What the server drops where it keeps nobody waiting.
        drop(state.leases.take_aside());
        ran
    }
}

impl State {
    fn end_leases(&mut self) {
        while let Some(ended) = self.leases.expire(self.now_ms) {
            self.wake(ended.woken);
        }
    }

    pub(super) fn until_deadline(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.leases.next_deadline()?.saturating_sub(self.now_ms)))
    }

    /// Who waited does so no more.
    pub(super) fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.leases.leave(number);
    }

    pub(super) fn wake(&mut self, woken: impl IntoIterator<Item = Woken>) {
        self.wake_all(woken.into_iter().map(|woken| woken.waiter));
    }

    pub(super) fn wake_all(&mut self, waiters: impl IntoIterator<Item = u64>) {
        for waiter in waiters {
            if let Some(waiting) = self.waiting.remove(&waiter) {
                // It may have gone.
                let _ = waiting.send(());
            }
        }
    }

    /// A number for who is about to wait, and where he is told.
    pub(super) fn next_waiter(&mut self) -> (u64, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        self.waiters += 1;
        self.waiting.insert(self.waiters, sender);
        (self.waiters, receiver)
    }

    /// A key changed.
    pub(super) fn changed(&mut self, key: &[u8]) {
        self.tell(&Value::Array(vec![bulk(key)]));
    }

    /// Everything did: null.
    fn tell(&mut self, what: &Value) {
        let message = || PushInfo { kind: PushKind::Invalidate, data: vec![what.clone()] };
        self.listeners.retain(|listener| listener.send(message()).is_ok());
    }

    /// What is there under a key, fresh or stale.
    pub(super) fn find(&mut self, key: &[u8]) -> Option<&mut Entry> {
        if self.entries.get(key).is_some_and(|entry| self.is_gone(entry)) {
            self.entries.remove(key);
            self.changed(key);
            self.note_went(key, Reason::Expired);
        }
        self.entries.get_mut(key)
    }

    pub(super) fn policy(&self, type_name: &[u8]) -> Policy {
        self.known_policy(type_name).cloned().unwrap_or_default()
    }

    /// Its own, or that of the type `default`.
    fn known_policy(&self, type_name: &[u8]) -> Option<&Policy> {
        self.types.get(type_name).or_else(|| self.types.get(DEFAULT))
    }

    fn is_gone(&self, entry: &Entry) -> bool {
        entry.is_gone(self.now_ms, self.known_policy(&entry.type_name))
    }

    /// What is fresh or stale.
    pub(super) fn live(&self) -> impl Iterator<Item = (&Bytes, &Entry)> {
        self.entries.iter().filter(|(_, entry)| !self.is_gone(entry))
    }

    pub(super) fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Of a key whose type is not said.
    pub(super) fn type_of(&self, key: &[u8]) -> Bytes {
        let mut types = expcache_core::key::types_in_key(PREFIX, key, usize::MAX);
        let found = types.find(|name| self.types.contains_key(*name)).unwrap_or(DEFAULT);
        Bytes::copy_from_slice(found)
    }

    /// The keys that a selector means.
    pub(super) fn select(&self, selector: &Selector) -> Vec<Bytes> {
        let is_meant = |(key, entry): &(&Bytes, &Entry)| selector.matches(key, &entry.type_name, &entry.tags);
        self.live().filter(is_meant).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let was_there = self.find(key).is_some();
        self.entries.remove(key);
        self.changed(key);
        was_there
    }

    /// What was read before cannot be stored any more.
    pub(super) fn fence(&mut self, selector: Selector) {
        match selector.only_any() {
            _ if selector.clauses.is_empty() => self.leases.fence_all(),
            Some(tags) => self.leases.fence_tags(tags.iter().map(AsRef::as_ref), FENCES),
            None => self.leases.fence(selector, FENCES),
        }
    }
}
