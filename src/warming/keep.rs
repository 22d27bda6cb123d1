//! What happens to entries, noted in a keeper for each database. Nothing is kept of types that do not ask for it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use expcache_core::entry::{Entry, Verdict};
use expcache_core::grammar::Tags;
use expcache_core::index::Ids;
use expcache_core::lease::Token;
use expcache_core::policy::fresh_until_ms;
use expcache_core::stats::Gauges;
use expcache_core::warm::{Keeper, Limits, Now, Reason, Seen};

use crate::cache;
use crate::server::args::{Arg, Text};
use crate::server::clock;
use crate::server::context::Ctx;
use crate::server::discard;
use crate::server::key::{Found, Mode};
use crate::server::main_thread::MainThread;
use crate::server::setting::Setting;

/// Bytes that the keys take which are kept in mind to be warmed, in all databases.
pub static WARM_MEMORY: Setting = Setting::size(c"warm-memory", 16 << 20, 0..=1 << 40);

/// A database is given such a part of the memory, however much others have.
const LEAST_SHARE: usize = 16;
/// So many keys are looked at anew at each beat, in all databases, and so many types; and twice as many are let go at most.
const LOOKED_AT: usize = 128;
/// So many keys become due at a time.
const TOLD_AT_ONCE: usize = 16;

static KEEPERS: MainThread<Vec<Keeper>> = MainThread::new();
/// What time it was when the clocks were asked last, which they are at each beat while anything is kept: see [`lately`].
static LATELY_UNIX_MS: AtomicU64 = AtomicU64::new(0);
static LATELY_STEADY_MS: AtomicU64 = AtomicU64::new(0);

/// What time it is, by both clocks.
pub fn now() -> Now {
    let now = Now { unix_ms: clock::unix_ms(), steady_ms: clock::steady_ms() };
    LATELY_UNIX_MS.store(now.unix_ms, Relaxed);
    LATELY_STEADY_MS.store(now.steady_ms, Relaxed);
    now
}

/// What time it was a moment ago, which is enough to count requests.
fn lately() -> Now {
    Now { unix_ms: LATELY_UNIX_MS.load(Relaxed), steady_ms: LATELY_STEADY_MS.load(Relaxed) }
}

/// Opens the keeper of a database. `work` must not call the server.
pub fn with<R>(db: i32, work: impl FnOnce(&mut Keeper) -> R) -> Option<R> {
    let at = usize::try_from(db).ok()?;
    KEEPERS.with(|all| all.get_mut(at).filter(|keeper| !keeper.is_empty()).map(work))
}

/// Is there a keeper of that database?
pub fn has(db: i32) -> bool {
    usize::try_from(db).is_ok_and(|at| KEEPERS.with(|all| at < all.len()))
}

/// Is nothing kept at all?
pub fn is_empty() -> bool {
    KEEPERS.with(|all| all.iter().all(Keeper::is_empty))
}

/// How often keys became due, in all databases: as long as it stays the same there is nothing new for who waits.
pub fn dues() -> u64 {
    KEEPERS.with(|all| all.iter().fold(0_u64, |sum, keeper| sum.wrapping_add(keeper.dues())))
}

/// Counts something for the type of an entry that was kept in mind.
fn count_warmed_hit(type_id: u16) {
    cache::with(|s| s.count(type_id, |counters| counters.warmed_hits += 1));
}

/// Somebody got what is under a key of the selected database; its type is one that is to be kept in mind.
pub fn asked_for_entry(ctx: &Ctx, key: &[u8], entry: &Entry, is_fresh: bool) {
    let (db, now) = (ctx.db(), lately());
    match with(db, |keeper| keeper.asked_for(entry.id(), key, is_fresh, now)).flatten() {
        Some(true) => count_warmed_hit(entry.type_id()),
        Some(false) => (),
        None => meet(db, ctx, key, entry.type_id()),
    }
}

/// Somebody got what is under a key that is not kept in mind, as far as the index's number says. What is too long is looked at no further.
fn meet(db: i32, ctx: &Ctx, key: &[u8], type_id: u16) {
    let limits = limits(db, 1);
    if with(db, |keeper| keeper.admits(type_id, limits)) != Some(false) && limits.have_room_for(key) {
        // A read does not always look at the expiry.
        arrived_as(ctx, Text::new(key).arg(), false);
    }
}

/// Somebody asked for a key of the selected database, and there was nothing.
pub fn asked_in_vain(ctx: &Ctx, key: &[u8]) {
    with(ctx.db(), |keeper| keeper.asked(key, false, lately()));
}

/// A value was stored under a key of the selected database, perhaps by the holder of a lease.
pub fn stored(ctx: &Ctx, name: Arg<'_>, token: Option<Token>) {
    let key = name.bytes();
    let was_job = |token| with(ctx.db(), |keeper| keeper.is_job(key, token)) == Some(true);
    let is_warmed = token.is_some_and(was_job);
    arrived_as(ctx, name, is_warmed);
}

fn is_known(ctx: &Ctx, key: Arg<'_>) -> bool {
    !ctx.is_loading() && with(ctx.db(), |keeper| keeper.knows(key.bytes())) == Some(true)
}

/// There is another value under a key. Only keys that are known are looked at: reads tell of others.
pub fn arrived(ctx: &Ctx, key: Arg<'_>) {
    if is_known(ctx, key) {
        arrived_as(ctx, key, false);
    }
}

/// The expiry of a key was moved.
pub fn redated(ctx: &Ctx, key: Arg<'_>) {
    if !is_known(ctx, key) {
        return;
    }
    let name = Text::new(key.bytes());
    let mut key = ctx.open(name.arg(), Mode::Peek);
    let db = key.db();
    if let (Found::Entry(entry), expire_at_ms) = key.found_dated(|_| true)
        && cache::with(|s| s.verdict(db, entry)) == Verdict::Alive
    {
        let until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
        with(db, |keeper| keeper.redated(name.arg().bytes(), until_ms));
    }
}

fn arrived_as(ctx: &Ctx, name: Arg<'_>, is_warmed: bool) {
    // The name of an event may stand on the server's stack.
    let name = Text::new(name.bytes());
    let mut key = ctx.open(name.arg(), Mode::Peek);
    let db = key.db();
    let (Found::Entry(entry), expire_at_ms) = key.found_dated(|_| true) else { return };
    if cache::with(|s| s.verdict(db, entry)) != Verdict::Alive {
        return;
    }
    let type_id = entry.type_id();
    keep(db, name.arg().bytes(), entry, fresh_until_ms(expire_at_ms, entry.grace_ms()), now());
    if is_warmed {
        with(db, |keeper| keeper.note_warmed(name.arg().bytes()));
        cache::with(|s| s.count(type_id, |counters| counters.warmed += 1));
    }
}

/// Keeps an entry in mind.
fn keep(db: i32, key: &[u8], entry: &Entry, fresh_until_ms: Option<i64>, now: Now) {
    let type_id = entry.type_id();
    let (names, early_percent, best) =
        cache::with(|s| (s.names(db, entry), s.types.policy(type_id).early_percent, s.types.warm(type_id)));
    let tags: Tags<'_> = names.tags().collect();
    let extras = entry.extras();
    let seen = Seen {
        id: entry.id(),
        lifetime_ms: entry.lifetime_ms(),
        fresh_until_ms,
        early_percent,
        cost_ms: extras.cost_ms,
        format: extras.format,
        meta: extras.meta,
        tags: &tags,
    };
    let limits = limits(db, best);
    KEEPERS.with(|all| {
        let Ok(at) = usize::try_from(db) else { return };
        if all.len() <= at {
            all.resize_with(at + 1, Keeper::default);
        }
        all.get_mut(at)
            .into_iter()
            .for_each(|keeper| _ = keeper.keep(key, (type_id, names.type_name()), &seen, limits, now));
    });
}

/// What a database may keep in mind: what the others leave it, but as much as one that is among several in any case. What that is too much
/// the next beat takes from those that have most.
fn limits(db: i32, best: u64) -> Limits {
    let others: usize =
        KEEPERS.with(|all| (0..).zip(&*all).filter(|(at, _)| *at != db).map(|(_, keeper)| keeper.bytes()).sum());
    let memory = WARM_MEMORY.as_usize();
    let bytes = memory.saturating_sub(others).max(memory / LEAST_SHARE);
    Limits { bytes, best: usize::try_from(best).unwrap_or(0) }
}

/// What each may have, so that all have no more than `most`: those that have less than that are left alone.
fn fair_share(mut sizes: Vec<usize>, most: usize) -> usize {
    sizes.sort_unstable();
    let (mut left, mut others) = (most, sizes.len());
    for size in sizes {
        if size > left / others {
            return left / others;
        }
        (left, others) = (left - size, others - 1);
    }
    most
}

/// These entries of a database were invalidated. Is one of them kept in mind?
pub fn invalidated(db: i32, ids: &Ids) -> bool {
    with(db, |keeper| keeper.invalidated(ids, now())) == Some(true)
}

/// A key of the selected database went. Was it kept in mind?
pub fn went(ctx: &Ctx, key: &[u8], why: Reason) -> bool {
    with(ctx.db(), |keeper| keeper.went(key, why, now())) == Some(true)
}

/// Anybody may produce a key again. Is it due?
pub fn freed(db: i32, key: &[u8]) -> bool {
    with(db, |keeper| keeper.freed(key)) == Some(true)
}

/// Something may have ended jobs, and nobody tells which.
pub fn doubt_jobs() {
    KEEPERS.with(|all| all.iter_mut().for_each(Keeper::doubt_jobs));
}

/// Nobody wants a key of the selected database any more.
pub fn forget(ctx: &Ctx, key: &[u8]) {
    with(ctx.db(), |keeper| keeper.forget(key));
}

/// A database, or all, is emptied.
pub fn flush(db: Option<i32>) {
    KEEPERS.with(|all| {
        for (at, keeper) in (0..).zip(all) {
            if db.is_none_or(|db| db == at) && !keeper.is_empty() {
                discard::on_thread(std::mem::take(keeper));
            }
        }
    });
}

/// Two databases were exchanged.
pub fn swap(first: i32, second: i32) {
    let (Ok(first), Ok(second)) = (usize::try_from(first), usize::try_from(second)) else { return };
    KEEPERS.with(|all| {
        if all.len() <= first.max(second) {
            all.resize_with(first.max(second) + 1, Keeper::default);
        }
        all.swap(first, second);
    });
}

/// Has some of the keys become due that were invalidated or whose time has come. Is that all?
pub fn catch_up() -> bool {
    let now = now();
    KEEPERS.with(|all| match all.iter_mut().find(|keeper| keeper.is_behind(now)) {
        Some(keeper) => {
            keeper.catch_up(TOLD_AT_ONCE, now);
            false
        }
        None => true,
    })
}

/// What is to be done at every beat of the server's clock: time passes, and types that do not want to be kept in mind any more are forgotten.
/// Are keys still to become due?
pub fn tick() -> bool {
    let databases = KEEPERS.with(|all| all.iter().filter(|keeper| !keeper.is_empty()).count());
    if databases == 0 {
        return false;
    }
    let (now, count) = (now(), (LOOKED_AT / databases).max(1));
    cache::with(|s| {
        let wanted = |type_id| Some((&*s.types.get(type_id).name, usize::try_from(s.types.warm(type_id)).ok()?));
        KEEPERS.with(|all| {
            for keeper in all.iter_mut().filter(|keeper| !keeper.is_empty()) {
                keeper.look_after_types(count, 2 * count, wanted);
                keeper.turn(count, now);
            }
        });
    });
    KEEPERS.with(|all| {
        let sizes = all.iter().map(Keeper::bytes).filter(|bytes| *bytes > 0).collect();
        let share = fair_share(sizes, WARM_MEMORY.as_usize());
        all.iter_mut().for_each(|keeper| keeper.shrink(share));
        all.iter().any(|keeper| keeper.is_behind(now))
    })
}

/// Fills in what is known of them.
pub fn gauges(gauges: &mut Gauges) {
    KEEPERS.with(|all| {
        gauges.warm_keys = all.iter().map(Keeper::len).sum::<usize>() as u64;
        gauges.warm_bytes = all.iter().map(Keeper::bytes).sum::<usize>() as u64;
        gauges.warm_due = all.iter().map(Keeper::due_len).sum::<usize>() as u64;
    });
}
