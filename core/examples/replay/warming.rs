//! A cache with workers that keep it warm, as the keeper of `core` tells them, and the same cache without them.
//!
//! Time is simulated. A production takes what it costs; who asks meanwhile waits, as whoever asks first does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use expcache_core::index::Ids;
use expcache_core::warm::{HOUR_MS, Keeper, Limits, Now, Seen};
use roaring::RoaringBitmap;

use crate::workload::{Event, Read, What};

/// How long a value is fresh.
const TTL_MS: u64 = 3_600_000;
/// Workers are woken so soon.
const BEAT_MS: u64 = 1_000;
/// All scores are computed anew so often, about as often as a server does.
const TURN_MS: u64 = 10_000;
const MEMORY: usize = 16 << 20;
/// A moment at midnight.
const START_MS: u64 = 1_700_006_400_000;

/// What it came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Keys that were asked for.
    pub reads: f64,
    /// Those who had to wait.
    pub misses: f64,
    /// Values that were produced, by whomever.
    pub productions: f64,
    /// Those that workers produced.
    pub warmed: f64,
    /// Those of these that somebody asked for before they went.
    pub warmed_hits: f64,
}

/// A key.
#[derive(Default)]
struct Entry {
    id: u32,
    cost_ms: u64,
    /// Until when its value is fresh.
    until_ms: u64,
    /// Until when it is being produced.
    produced_ms: u64,
    invalidated_ms: u64,
}

/// A production that is under way: when it ends, its key, when it began, and whether a worker does it.
type Production = Reverse<(u64, u64, u64, bool)>;

/// See the head.
pub struct Cache {
    best: usize,
    idle_workers: usize,
    keeper: Keeper,
    entries: HashMap<u64, Entry>,
    of_tags: HashMap<u32, Vec<u64>>,
    under_way: BinaryHeap<Production>,
    beat_ms: u64,
    turned_ms: u64,
    /// What it has come to.
    pub outcome: Outcome,
}

fn at(ms: u64) -> Now {
    Now { unix_ms: START_MS + ms, steady_ms: ms }
}

fn name(key: u64) -> [u8; 8] {
    key.to_be_bytes()
}

impl Cache {
    /// One in which so many keys are kept in mind, for so many workers.
    pub fn new(best: usize, workers: usize) -> Self {
        Self {
            best,
            idle_workers: workers,
            keeper: Keeper::default(),
            entries: HashMap::new(),
            of_tags: HashMap::new(),
            under_way: BinaryHeap::new(),
            beat_ms: 0,
            turned_ms: 0,
            outcome: Outcome::default(),
        }
    }

    /// Goes on to what happens next.
    pub fn step(&mut self, event: &Event) {
        while self.best > 0 && self.beat_ms + BEAT_MS <= event.at_ms {
            self.beat_ms += BEAT_MS;
            self.end_productions(self.beat_ms);
            self.beat(self.beat_ms);
        }
        self.end_productions(event.at_ms);
        match &event.what {
            What::Read(read) => self.read(read, event.at_ms),
            What::Invalidate(tags) => tags.iter().for_each(|tag| self.invalidate(*tag, event.at_ms)),
        }
        self.hand_out(event.at_ms);
    }

    fn beat(&mut self, now_ms: u64) {
        self.keeper.settle(None, at(now_ms));
        if now_ms >= self.turned_ms + TURN_MS {
            self.turned_ms = now_ms;
            self.keeper.turn(self.keeper.len(), at(now_ms));
        }
        self.hand_out(now_ms);
    }

    fn read(&mut self, read: &Read, now_ms: u64) {
        let is_new = !self.entries.contains_key(&read.key);
        let id = u32::try_from(self.entries.len()).unwrap_or(0);
        let entry = self.entries.entry(read.key).or_insert_with(|| Entry { id, ..Entry::default() });
        if is_new {
            read.tags.iter().for_each(|tag| self.of_tags.entry(*tag).or_default().push(read.key));
        }
        entry.cost_ms = read.cost_ms;
        let is_fresh = entry.until_ms > now_ms;
        let is_produced = entry.produced_ms > now_ms;
        self.outcome.reads += 1.0;
        if !is_fresh {
            self.outcome.misses += 1.0;
            if !is_produced {
                self.produce(read.key, now_ms, false);
            }
        }
        if self.best == 0 {
            return;
        }
        match self.keeper.asked(&name(read.key), is_fresh, at(now_ms)) {
            Some(was_warmed) => self.outcome.warmed_hits += f64::from(u8::from(was_warmed)),
            None if is_fresh && self.keeper.admits(1, self.limits()) => _ = self.keep(read.key, now_ms),
            None => (),
        }
    }

    fn produce(&mut self, key: u64, now_ms: u64, by_worker: bool) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.produced_ms = now_ms + entry.cost_ms;
        self.outcome.productions += 1.0;
        self.under_way.push(Reverse((entry.produced_ms, key, now_ms, by_worker)));
    }

    fn end_productions(&mut self, until_ms: u64) {
        while let Some(Reverse((ends_ms, key, began_ms, by_worker))) = self.under_way.peek().copied()
            && ends_ms <= until_ms
        {
            self.under_way.pop();
            self.idle_workers += usize::from(by_worker);
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.invalidated_ms > began_ms {
                // What was read before the invalidation is not stored.
                self.keeper.freed(&name(key));
                continue;
            }
            entry.until_ms = ends_ms + TTL_MS;
            if self.keep(key, ends_ms) && by_worker {
                self.keeper.note_warmed(&name(key));
            }
            self.outcome.warmed += f64::from(u8::from(by_worker));
        }
    }

    fn keep(&mut self, key: u64, now_ms: u64) -> bool {
        let Some(entry) = self.entries.get(&key) else { return false };
        let seen = Seen {
            id: entry.id,
            lifetime_ms: TTL_MS,
            fresh_until_ms: i64::try_from(START_MS + entry.until_ms).ok(),
            cost_ms: Some(entry.cost_ms),
            ..Seen::default()
        };
        self.keeper.keep(&name(key), (1, b"type"), &seen, self.limits(), at(now_ms))
    }

    fn limits(&self) -> Limits {
        Limits { bytes: MEMORY, best: self.best }
    }

    fn invalidate(&mut self, tag: u32, now_ms: u64) {
        let mut ids = RoaringBitmap::new();
        for key in self.of_tags.get(&tag).into_iter().flatten() {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.invalidated_ms = now_ms;
                if entry.until_ms > now_ms {
                    entry.until_ms = now_ms;
                    ids.insert(entry.id);
                }
            }
        }
        self.keeper.invalidated(&Ids::from(ids), at(now_ms));
    }

    /// Gives workers that have nothing to do what is worth most.
    fn hand_out(&mut self, now_ms: u64) {
        if self.idle_workers == 0 || !self.keeper.has_due(None) {
            return;
        }
        let mut walk = self.keeper.walk(None, None, None, at(now_ms));
        while self.idle_workers > 0
            && let Some((_, slot)) = self.keeper.next_due(&mut walk, at(now_ms))
        {
            let Some(known) = self.keeper.get(slot) else { continue };
            let begins_ms = known.predicted_hour().map(|hour| (u64::from(hour) * HOUR_MS).saturating_sub(START_MS));
            let is_worth_it = known.is_worth_it(at(now_ms)) || begins_ms.is_some();
            let key = <[u8; 8]>::try_from(&*known.key).map_or(0, u64::from_be_bytes);
            let Some(entry) = self.entries.get(&key) else { continue };
            if entry.until_ms > now_ms && begins_ms.is_none_or(|begins_ms| entry.until_ms > begins_ms) {
                self.keeper.put_off(slot, i64::try_from(START_MS + entry.until_ms).ok());
            } else if !is_worth_it {
                self.keeper.rest(slot);
            } else if entry.produced_ms > now_ms {
                self.keeper.start_job(slot, entry.produced_ms, None);
            } else {
                self.keeper.start_job(slot, now_ms + TTL_MS, None);
                self.idle_workers -= 1;
                self.produce(key, now_ms, true);
            }
        }
    }
}
