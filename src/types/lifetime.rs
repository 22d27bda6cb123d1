//! `LIFETIME`: the end that nobody puts off.
//!
//! Whoever looks at an entry sees for himself that its whole life is over, by the policy of that moment. So that the server lets the key
//! go too, no key expires later than that: storing and sliding see to it at once. What else moves an expiry (`EXPIRE`, `PERSIST`, a key
//! that is restored) is put right after the command, and entries that a changed policy finds, in slices of bounded time.

use std::collections::VecDeque;
use std::time::Instant;

use expcache_core::entry::Entry;
use expcache_core::index::Effort;
use expcache_core::selector::{Clause, Selector};
use expcache_core::types::DEFAULT_TYPE;

use crate::cache;
use crate::cache::freshness::put_off;
use crate::server::args::{Arg, Text};
use crate::server::background::{self, Background, WHILE_QUIET_MS, between_slices_ms};
use crate::server::clock;
use crate::server::context::Ctx;
use crate::server::feature::KeyEvent;
use crate::server::key::{Found, Mode};
use crate::server::main_thread::MainThread;

/// So many keys are put right one by one, and so many bytes of them; for more than that, all entries of their types are looked at.
const MOST_KEYS: usize = 1024;
const MOST_KEY_BYTES: usize = 1 << 20;
/// How many entries are looked at between two looks at the clock.
const PAGE: Effort = Effort { elements: 16, work: 1 << 14 };

/// What is still to be put right.
#[derive(Default)]
struct Ahead {
    keys: VecDeque<(i32, Box<[u8]>)>,
    key_bytes: usize,
    walks: Vec<Walk>,
}

impl Ahead {
    /// Notes a key, if there is room for it.
    fn add(&mut self, db: i32, key: &[u8]) -> bool {
        let has_room = self.keys.len() < MOST_KEYS && self.key_bytes + key.len() <= MOST_KEY_BYTES;
        if has_room {
            self.key_bytes += key.len();
            self.keys.push_back((db, key.into()));
        }
        has_room
    }

    fn take(&mut self) -> Option<(i32, Box<[u8]>)> {
        let (db, key) = self.keys.pop_front()?;
        self.key_bytes -= key.len();
        Some((db, key))
    }
}

/// Over the entries of a type.
struct Walk {
    type_name: Box<[u8]>,
    databases: Vec<i32>,
    cursor: u32,
}

static AHEAD: MainThread<Ahead> = MainThread::new();
static PUTTING_RIGHT: Background = Background::new(put_right);

/// Looks after the entries that live under the policy of a type, which was changed.
pub fn apply(ctx: &Ctx, type_id: u16) {
    let names: Vec<Box<[u8]>> = cache::with(|s| s.types.ending_like(type_id).map(|known| known.name.clone()).collect());
    if names.is_empty() || !ctx.decides() {
        return;
    }
    names.into_iter().for_each(walk_over);
    if ctx.is_bound_to_a_slot() {
        return PUTTING_RIGHT.schedule(ctx, 0);
    }
    // Few entries are put right before the reply.
    let home = ctx.db();
    let next_ms = put_right(ctx);
    ctx.select(home);
    next_ms.into_iter().for_each(|after_ms| PUTTING_RIGHT.schedule(ctx, after_ms));
}

/// Looks after all entries: nobody may have while the server was a replica, or down.
pub fn apply_all(ctx: &Ctx) {
    let names: Vec<Box<[u8]>> = cache::with(|s| {
        let ids: Vec<u16> =
            s.types.iter().filter(|(id, own)| own.policy.is_some() || *id == DEFAULT_TYPE).map(|(id, _)| id).collect();
        ids.into_iter().flat_map(|id| s.types.ending_like(id)).map(|known| known.name.clone()).collect()
    });
    if !names.is_empty() && ctx.is_master() {
        names.into_iter().for_each(walk_over);
        PUTTING_RIGHT.schedule(ctx, 0);
    }
}

fn walk_over(type_name: Box<[u8]>) {
    let databases = cache::with(|s| s.indexes().map(|(db, _)| db).collect());
    AHEAD.with(|ahead| {
        ahead.walks.retain(|walk| walk.type_name != type_name);
        ahead.walks.push(Walk { type_name, databases, cursor: 0 });
    });
}

/// Notes an entry whose expiry was moved by others.
pub fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    if matches!(event, KeyEvent::Redated | KeyEvent::Restored | KeyEvent::Loaded | KeyEvent::Arrived) {
        look_after(ctx, key);
    }
}

/// Has a key put right soon, if it expires too late.
pub fn look_after(ctx: &Ctx, key: Arg<'_>) {
    if !cache::with(|s| s.types.end_lives()) || !ctx.decides() {
        return;
    }
    // The name may stand on the server's stack, so a name of our own is used to open it.
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    let db = opened.db();
    let (Found::Entry(entry), expire_at_ms) = opened.found_dated(|_| true) else { return };
    if too_late(entry, expire_at_ms).is_none() {
        return;
    }
    let type_name = cache::with(|s| s.types.get(entry.type_id()).name.clone());
    if !AHEAD.with(|ahead| ahead.add(db, key.bytes())) {
        walk_over(type_name);
    }
    PUTTING_RIGHT.schedule(ctx, 0);
}

/// When the entry is over, if its key does not expire by then.
fn too_late(entry: &Entry, expire_at_ms: Option<i64>) -> Option<i64> {
    let end_ms = cache::with(|s| s.types.end_of_life_ms(entry))?;
    expire_at_ms.is_none_or(|at| at > end_ms).then_some(end_ms)
}

/// A slice of what is ahead.
fn put_right(ctx: &Ctx) -> Option<i64> {
    if !ctx.is_master() {
        AHEAD.with(|ahead| *ahead = Ahead::default());
        return None;
    }
    if ctx.must_keep_quiet() {
        return Some(WHILE_QUIET_MS);
    }
    let (start, slice) = (Instant::now(), background::slice());
    while start.elapsed() < slice {
        let keys = next();
        if keys.is_empty() && AHEAD.with(|ahead| ahead.walks.is_empty()) {
            return None;
        }
        for (db, key) in keys {
            ctx.select(db);
            put_right_one(ctx, Text::new(&key).arg());
        }
    }
    Some(between_slices_ms())
}

/// The next keys to be looked at.
fn next() -> Vec<(i32, Box<[u8]>)> {
    let (key, walk) = AHEAD.with(|ahead| {
        let key = ahead.take();
        let walk = if key.is_none() { ahead.walks.pop() } else { None };
        (key, walk)
    });
    key.into_iter().chain(walk.map(page).into_iter().flatten()).collect()
}

/// Goes on with a walk.
fn page(mut walk: Walk) -> Vec<(i32, Box<[u8]>)> {
    let Some(db) = walk.databases.last().copied() else { return Vec::new() };
    let selector = Selector { clauses: vec![Clause::Type(walk.type_name.clone())] };
    let (keys, next) = cache::with(|s| s.scan(db, &selector, walk.cursor, PAGE));
    if next.is_none() {
        walk.databases.pop();
    }
    walk.cursor = next.unwrap_or(0);
    AHEAD.with(|ahead| ahead.walks.push(walk));
    keys.into_iter().map(|key| (db, key)).collect()
}

/// Has a key of the selected database expire when its entry is over, or go, if it is.
fn put_right_one(ctx: &Ctx, name: Arg<'_>) {
    let late = match ctx.open(name, Mode::Peek).found_dated(|_| true) {
        (Found::Entry(entry), expire_at_ms) => too_late(entry, expire_at_ms),
        (Found::Missing | Found::Foreign, _) => None,
    };
    let Some(end_ms) = late else { return };
    put_off(ctx, name, end_ms);
    if i64::try_from(clock::unix_ms()).is_ok_and(|now_ms| end_ms <= now_ms) {
        // A write looks, and the server expires it.
        drop(ctx.open(name, Mode::Write));
    }
}
