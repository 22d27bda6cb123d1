//! Reclaiming: what invalidations marked is carried out in the keyspace, a slice of bounded time after another. The keys of
//! dead entries are unlinked; those of entries made stale get the expiry of their grace.
//!
//! Only a master reclaims; its replicas and its append-only file get `UNLINK`s of some keys each. While nothing may be written
//! ([`Ctx::must_keep_quiet`]) the timer waits; a replica that becomes a master takes up where its master stopped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use expcache_core::entry::Verdict;
use expcache_core::index::Ids;

use crate::cache::departures::Reason;
use crate::cache::freshness::put_off;
use crate::cache::{self, Cache};
use crate::server::args::{Arg, Text};
use crate::server::background::{self, Background, WHILE_QUIET_MS, between_slices_ms};
use crate::server::context::{Ctx, EventClass, Recipients};
use crate::server::key::{Found, Mode};
use crate::server::log::{LogLevel, log};
use crate::server::main_thread::MainThread;
use crate::server::{clock, slots};

/// How long an invalidation may deal with what it marked before it replies.
const INLINE: Duration = Duration::from_millis(2);

static RECLAIMING: Background = Background::new(reclaim);

/// Sees to it that dead entries are reclaimed, if there are any.
pub fn schedule(ctx: &Ctx) {
    if cache::with(|s| s.marked_len() > 0) {
        RECLAIMING.schedule(ctx, between_slices_ms());
    }
}

/// Since when something waits to be reclaimed, by the steady clock.
static BACKLOG_SINCE_MS: MainThread<Option<u64>> = MainThread::new();

/// Notes whether something still waits.
pub fn note_age() {
    let now_ms = clock::steady_ms();
    let waits = cache::with(|cache| cache.marked_len()) > 0;
    BACKLOG_SINCE_MS.with(|since_ms| *since_ms = waits.then(|| since_ms.unwrap_or(now_ms)));
}

/// For how long there has always been something to reclaim.
pub fn backlog_age_ms() -> u64 {
    BACKLOG_SINCE_MS.with(|since_ms| since_ms.map_or(0, |since_ms| clock::steady_ms().saturating_sub(since_ms)))
}

fn reclaim(ctx: &Ctx) -> Option<i64> {
    if !ctx.is_master() {
        // The master's unlinks will come; if this server is promoted, `schedule` is called again.
        return None;
    }
    if ctx.must_keep_quiet() {
        return Some(WHILE_QUIET_MS);
    }
    let (start, slice) = (Instant::now(), background::slice());
    while reclaim_some(ctx) {
        if start.elapsed() >= slice {
            return Some(between_slices_ms());
        }
    }
    None
}

/// Deals with these entries of the selected database, which were marked just now, for a bounded time: entries can be large. The
/// first of them is dealt with however slow the machine is.
/// Returns how many of them the server found expired instead, and whether that were all.
pub fn reclaim_now(ctx: &Ctx, ids: &Ids) -> (u64, bool) {
    let start = Instant::now();
    let (mut expired, mut is_first) = (0, true);
    for id in ids.iter() {
        if !is_first && start.elapsed() > INLINE {
            return (expired, false);
        }
        is_first = false;
        expired += u64::from(!reclaim_one(ctx, id, |_| true));
    }
    (expired, true)
}

/// Deals with those of these entries of the selected database that were marked just now and whose slots are leaving this node:
/// the node that gets the slots learns of each, but not of the invalidation (see [`crate::server::slots`]). Returns how many of
/// them the server found expired instead.
pub fn reclaim_leaving(ctx: &Ctx, ids: &Ids) -> u64 {
    if !slots::are_leaving() {
        return 0;
    }
    ids.iter().map(|id| u64::from(!reclaim_one(ctx, id, slots::is_leaving))).sum()
}

/// As [`reclaim_leaving`], where no key may be touched: the keys themselves follow in slices.
pub fn announce_leaving(ctx: &Ctx, ids: &Ids) {
    if slots::are_leaving() {
        announce(ctx, ids, slots::is_leaving);
    }
}

/// Tells replicas of those of these entries of the selected database that are wanted, touching no key: that the dead have gone, and how the
/// stale are.
pub fn announce(ctx: &Ctx, ids: &Ids, is_wanted: impl Fn(&[u8]) -> bool) {
    for (key, dead) in ids.iter().filter_map(|id| mark_of(ctx.db(), id, &is_wanted)) {
        if dead {
            ctx.replicate_words(c"UNLINK", &[key.arg().bytes().to_vec()], Recipients::All);
        } else {
            hand_over_if_stale(ctx, key.arg());
        }
    }
}

/// Deals with one marked entry of the selected database, if its key is wanted. `false` if it had expired.
fn reclaim_one(ctx: &Ctx, id: u32, is_wanted: impl Fn(&[u8]) -> bool) -> bool {
    mark_of(ctx.db(), id, is_wanted).is_none_or(|(key, dead)| carry_out(ctx, key.arg(), dead))
}

/// The key of an entry that was marked, if it is wanted, and whether it is dead.
fn mark_of(db: i32, id: u32, is_wanted: impl Fn(&[u8]) -> bool) -> Option<(Text, bool)> {
    cache::with(|s| {
        let index = s.index(db)?;
        let key = index.key(id).filter(|key| is_wanted(key))?;
        Some((Text::new(key), index.has_died(id)))
    })
}

/// So many keys are dealt with between two looks at the clock.
const BATCH: usize = 8;

/// Deals with some marked entries of any database, if there are any.
fn reclaim_some(ctx: &Ctx) -> bool {
    let marked = cache::with(|s| {
        let (db, index) = s.indexes().find(|(_, index)| index.marked_len() > 0)?;
        let named = |(id, key): (u32, &[u8])| (id, Text::new(key));
        let dead: Vec<_> = index.next_dead(BATCH).map(named).collect();
        let soft = if dead.is_empty() { index.next_soft().map(named) } else { None };
        Some((db, dead, soft))
    });
    let Some((db, dead, soft)) = marked else { return false };
    ctx.select(db);
    let is_dead = soft.is_none();
    if let Some((_, key)) = &soft {
        make_stale(ctx, key.arg());
    } else {
        unlink_all(ctx, &dead);
    }
    cache::with(|s| {
        let is_marked = |s: &Cache, id| s.index(db).is_some_and(|index| index.is_marked(id, is_dead));
        for id in dead.iter().chain(&soft).map(|(id, _)| *id) {
            if is_marked(s, id) {
                log(LogLevel::Warning, "a marked entry has no key; see EXPCACHE.DEBUG CHECK");
                s.drop_lost(db, id);
            }
        }
    });
    true
}

/// Unlinks the keys of dead entries, of the selected database.
fn unlink_all(ctx: &Ctx, dead: &[(u32, Text)]) {
    let tell = |name| ctx.notify(EventClass::Module, c"expcache.invalidate", name);
    cache::while_unlinking(Reason::Reclaiming, || ctx.unlink_all(dead.iter().map(|(_, key)| key.arg()), tell));
}

/// Carries out in the keyspace what the mark of an entry says. Was it still there, and had not expired?
fn carry_out(ctx: &Ctx, name: Arg<'_>, dead: bool) -> bool {
    if !dead {
        return make_stale(ctx, name);
    }
    let was_there = cache::while_unlinking(Reason::Reclaiming, || ctx.unlink(name));
    if was_there {
        ctx.notify(EventClass::Module, c"expcache.invalidate", name);
    }
    was_there
}

/// Puts down that an entry is stale: its key expires when its grace is over. Is it there?
fn make_stale(ctx: &Ctx, name: Arg<'_>) -> bool {
    let db = ctx.db();
    let mut key = ctx.open(name, Mode::Write);
    let Found::Entry(entry) = key.found() else { return false };
    let Verdict::Soft(soft) = cache::with(|s| s.verdict(db, entry)) else { return true };
    let Some(end_ms) = soft.end_ms() else { return true };
    drop(key);
    put_off(ctx, name, end_ms);
    if slots::is_leaving(name.bytes()) {
        hand_over(ctx, name);
    }
    cache::with(|s| s.note_invalidated(db, name.bytes()));
    ctx.signal_modified(name);
    ctx.notify(EventClass::Module, c"expcache.stale", name);
    true
}

/// Stale entries, by the numbers of their indexes, of which replicas are to be told one by one.
static UNTOLD: MainThread<VecDeque<(u16, Ids)>> = MainThread::new();

static HANDING_OVER: Background = Background::new(hand_over_some);

/// Sends entries of an index that were made stale as they are, in slices.
pub fn hand_over_soon(ctx: &Ctx, index: u16, ids: Ids) {
    UNTOLD.with(|all| match all.back_mut() {
        Some((last, others)) if *last == index => others.extend(&ids),
        _ => all.push_back((index, ids)),
    });
    HANDING_OVER.schedule(ctx, 0);
}

fn hand_over_some(ctx: &Ctx) -> Option<i64> {
    if !ctx.is_master() {
        UNTOLD.with(VecDeque::clear);
        return None;
    }
    if ctx.must_keep_quiet() {
        return Some(WHILE_QUIET_MS);
    }
    let (start, slice) = (Instant::now(), background::slice());
    while start.elapsed() < slice {
        let (index, id) = UNTOLD.with(|all| {
            let (index, ids) = all.front_mut()?;
            Some((*index, ids.take_first()))
        })?;
        let found = id.and_then(|id| {
            cache::with(|s| {
                let db = s.db_of(index)?;
                Some((db, Text::new(s.index(db)?.key(id)?)))
            })
        });
        match found {
            Some((db, name)) => {
                ctx.select(db);
                hand_over_if_stale(ctx, name.arg());
            }
            // It went, or these were all.
            None if id.is_none() => drop(UNTOLD.with(VecDeque::pop_front)),
            None => {}
        }
    }
    Some(between_slices_ms())
}

fn hand_over_if_stale(ctx: &Ctx, name: Arg<'_>) {
    let db = ctx.db();
    let is_stale = match ctx.open(name, Mode::Peek).found() {
        Found::Entry(entry) => matches!(cache::with(|s| s.verdict(db, entry)), Verdict::Soft(_)),
        Found::Missing | Found::Foreign => false,
    };
    if is_stale {
        hand_over(ctx, name);
    }
}

/// Sends an entry as it is: who gets it was told of its expiry, and not why it is stale.
fn hand_over(ctx: &Ctx, name: Arg<'_>) {
    let db = ctx.db();
    let mut key = ctx.open(name, Mode::Peek);
    let (Found::Entry(entry), expire_at_ms) = key.found_dated(|_| true) else { return };
    let end_ms = if let Verdict::Soft(soft) = cache::with(|s| s.verdict(db, entry)) { soft.end_ms() } else { None };
    let expire_at_ms = expire_at_ms.into_iter().chain(end_ms).min();
    let (metadata, payload) = (cache::with(|s| s.metadata(db, entry)), Text::new(entry.stored()));
    ctx.replicate_entry(name, expire_at_ms.unwrap_or(-1), &metadata, payload.arg());
}
