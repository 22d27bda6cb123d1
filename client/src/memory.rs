//! Payloads kept in this process: near (the server tells of every change) and as a fallback (the server is away).
//!
//! What is put in was read or produced a moment ago, and may have been invalidated since. So whoever is going to put something
//! in takes a [`Ticket`] **before** he asks the server or the producer; whatever is invalidated meanwhile makes it worthless.
//! That holds whichever connection the news comes by: either it came before the value is put in, then the ticket tells, or it
//! comes after, then it takes the value out.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::sync::Cache;

use crate::how::Stored;
use crate::served::CachedEntry;

/// Keys share marks by their hash: a ticket may be worthless for nothing, but never be good for nothing.
const MARKS: usize = 1024;

/// What an entry costs besides its payload, about.
const OVERHEAD_BYTES: usize = 256;

/// Of such entries few make much.
const LARGE_BYTES: usize = 64 << 10;

fn weight(key: &Bytes, kept: &KeptEntry) -> usize {
    let meta = kept.entry.meta.as_ref().map_or(0, Bytes::len);
    #[cfg(feature = "http")]
    let meta = meta + kept.entry.piece.as_ref().map_or(0, crate::view::Piece::len);
    key.len() + kept.entry.payload.len() + meta + OVERHEAD_BYTES
}

pub(crate) struct Memory {
    kept: Cache<Bytes, KeptEntry>,
    /// The most that they may weigh.
    bytes: u64,
    hasher: RandomState,
    marks: Box<[AtomicU64]>,
    /// Rises with everything that concerns all keys.
    epoch: AtomicU64,
    open: AtomicBool,
}

/// An entry as it was at a moment.
#[derive(Clone)]
pub(crate) struct KeptEntry {
    pub(crate) entry: Arc<CachedEntry>,
    pub(crate) age: Duration,
    pub(crate) ttl_ms: Option<i64>,
    pub(crate) since: Instant,
    pub(crate) lifetime: Duration,
    pub(crate) stored: Stored,
    /// Was it made because the cache could not be read?
    pub(crate) unread: bool,
}

impl KeptEntry {
    /// Did the server refuse to store it, under a lease? It would again.
    pub(crate) fn is_refused(&self) -> bool {
        !self.unread && !matches!(self.stored, Stored::No(crate::Error::NoLease))
    }

    /// How old the entry is now.
    pub(crate) fn age_now(&self) -> Duration {
        self.age + self.since.elapsed()
    }
}

/// What had been heard of a key when its value was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    epoch: u64,
    mark: u64,
}

struct Lifetimes;

impl Expiry<Bytes, KeptEntry> for Lifetimes {
    fn expire_after_create(&self, _: &Bytes, kept: &KeptEntry, _: Instant) -> Option<Duration> {
        Some(kept.lifetime)
    }

    fn expire_after_update(&self, _: &Bytes, kept: &KeptEntry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.lifetime)
    }
}

impl Memory {
    pub(crate) fn new(bytes: u64, open: bool) -> Self {
        let weigher = |key: &Bytes, kept: &KeptEntry| u32::try_from(weight(key, kept)).unwrap_or(u32::MAX);
        Self {
            kept: Cache::builder().max_capacity(bytes).weigher(weigher).expire_after(Lifetimes).build(),
            bytes,
            hasher: RandomState::new(),
            marks: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
            epoch: AtomicU64::new(0),
            open: AtomicBool::new(open),
        }
    }

    pub(crate) fn get(&self, key: &Bytes) -> Option<KeptEntry> {
        if !self.open.load(Ordering::Acquire) {
            return None;
        }
        self.kept.get(key)
    }

    /// `None` while nothing is to be kept.
    pub(crate) fn ticket(&self, key: &Bytes) -> Option<Ticket> {
        self.is_open().then(|| self.present(key))
    }

    pub(crate) fn put(&self, key: &Bytes, kept: KeptEntry, ticket: Ticket) {
        let bytes = weight(key, &kept);
        if kept.lifetime.is_zero() || bytes as u64 > self.bytes || self.present(key) != ticket {
            return;
        }
        self.kept.insert(key.clone(), kept);
        if bytes > LARGE_BYTES {
            // Or it would stay beside what it is to push out until somebody comes by.
            self.kept.run_pending_tasks();
        }
        if self.present(key) != ticket {
            self.kept.invalidate(key);
        }
    }

    /// The key changed.
    pub(crate) fn forget(&self, key: &Bytes) {
        self.mark(key).fetch_add(1, Ordering::AcqRel);
        self.kept.invalidate(key);
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.kept.invalidate_all();
        self.kept.run_pending_tasks();
    }

    /// From now on what is put in is kept; whatever was asked for before is not.
    pub(crate) fn open(&self) {
        self.forget_all();
        self.open.store(true, Ordering::Release);
    }

    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
        self.forget_all();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn present(&self, key: &Bytes) -> Ticket {
        let epoch = self.epoch.load(Ordering::Acquire);
        Ticket { epoch, mark: self.mark(key).load(Ordering::Acquire) }
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is a place among the marks")]
    fn mark(&self, key: &Bytes) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let place = self.hasher.hash_one(key) as usize;
        &self.marks[place % MARKS]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn kept(payload: &'static str, lifetime_ms: u64) -> KeptEntry {
        KeptEntry {
            entry: Arc::new(CachedEntry::new(Bytes::from_static(payload.as_bytes()))),
            age: Duration::ZERO,
            ttl_ms: None,
            since: Instant::now(),
            lifetime: Duration::from_millis(lifetime_ms),
            stored: Stored::Before,
            unread: false,
        }
    }

    fn key() -> Bytes {
        Bytes::from_static(b"export_cache:trips:1")
    }

    #[test]
    fn what_is_put_in_is_there_until_it_changes() {
        let memory = Memory::new(1 << 20, true);
        memory.put(&key(), kept("v", 60_000), memory.ticket(&key()).unwrap());
        assert_eq!(memory.get(&key()).unwrap().entry.payload, "v");
        memory.forget(&key());
        assert!(memory.get(&key()).is_none());
    }

    #[test]
    fn news_that_overtook_the_value_keep_it_out() {
        let memory = Memory::new(1 << 20, true);
        for news in [|memory: &Memory| memory.forget(&key()), |memory: &Memory| memory.forget_all()] {
            let ticket = memory.ticket(&key()).unwrap();
            news(&memory);
            memory.put(&key(), kept("old", 60_000), ticket);
            assert!(memory.get(&key()).is_none());
        }
    }

    #[test]
    fn what_was_asked_for_before_it_opened_is_not_kept() {
        let memory = Memory::new(1 << 20, true);
        let ticket = memory.ticket(&key()).unwrap();
        memory.close();
        assert!(memory.ticket(&key()).is_none());
        memory.open();
        memory.put(&key(), kept("old", 60_000), ticket);
        assert!(memory.get(&key()).is_none());
    }

    #[test]
    fn each_has_its_own_lifetime() {
        let memory = Memory::new(1 << 20, true);
        memory.put(&key(), kept("v", 0), memory.ticket(&key()).unwrap());
        assert!(memory.get(&key()).is_none(), "it has no time left");
        memory.put(&key(), kept("v", 1), memory.ticket(&key()).unwrap());
        let start = Instant::now();
        while memory.get(&key()).is_some() {
            assert!(start.elapsed() < Duration::from_secs(20), "it never ends");
        }
    }

    #[test]
    fn it_is_bounded() {
        let memory = Memory::new(100_000, true);
        for n in 0..1000 {
            let key = Bytes::from(format!("k{n}"));
            memory.put(&key, kept("0123456789", 60_000), memory.ticket(&key).unwrap());
        }
        memory.kept.run_pending_tasks();
        assert!(memory.kept.weighted_size() <= 100_000);
        assert!(memory.kept.entry_count() < 1000);
    }
}
