//! Invalidating: what every command and rule that invalidates ends in.
//!
//! It takes effect at once, as marks in the index, and fences what is being produced. Where few entries are marked they are dealt with
//! before the reply (reclaimed, or given the expiry of their grace), and replicas are told of each; where they are many, replicas are told
//! by the command itself, and the rest follows in slices (see [`reclaim`]). What is only stale is always told by the command too: its key's
//! expiry does not say it.
//!
//! Where no key may be written, in a keyspace event's callback, [`mark`] does the part that needs none: the marks, the fences, and what
//! replicas are told.

use std::borrow::Cow;
use std::ffi::CStr;

use expcache_core::grammar;
use expcache_core::grammar::purge::PurgeOptions;
use expcache_core::index::{Ids, Index};
use expcache_core::selector::{Clause, Selector};

use super::reclaim;
use crate::server::context::{Ctx, Recipients};
use crate::server::setting::Setting;
use crate::server::{clock, slots};
use crate::{advice, cache, leases, warming};

/// Up to how many entries an invalidation reclaims before it replies.
pub static RECLAIM_INLINE: Setting = Setting::number(c"reclaim-inline", 256, 0..=10_000);

/// What becomes of the entries.
#[derive(Clone, Copy)]
pub enum Mode {
    /// They go.
    Hard,
    /// They are stale.
    Soft {
        /// Since when, unix ms.
        at_ms: u64,
    },
}

impl Mode {
    /// That of something that is to be done now.
    pub fn now(is_soft: bool) -> Self {
        if is_soft { Self::Soft { at_ms: clock::unix_ms() } } else { Self::Hard }
    }

    /// Those of the entries found that it concerns: what is stale is not made so again.
    pub fn concerns<'i>(&self, db: i32, found: &'i Ids) -> Cow<'i, Ids> {
        match self {
            Self::Hard => Cow::Borrowed(found),
            Self::Soft { at_ms } => cache::with(|cache| cache.fresh(db, found, *at_ms)),
        }
    }
}

/// Invalidates these entries of the selected database, which are those that the selector means (and, to be made stale, that are fresh).
/// Returns how many there were, those left out that the server found expired.
pub fn invalidate(ctx: &Ctx, selector: &Selector, mode: Mode, ids: &Ids) -> u64 {
    let db = ctx.db();
    put_down(ctx, db, selector, mode, ids);
    if ctx.is_bound_to_a_slot() && ctx.decides() {
        if !ids.is_empty() {
            follow_up(ctx, db, selector, mode, ids.clone());
            reclaim::schedule(ctx);
        }
        return ids.len();
    }
    // Replicas have to know what is stale, and since when, before they are told of the expiries that follow from it.
    let is_soft = matches!(mode, Mode::Soft { .. }) && !ids.is_empty();
    if is_soft {
        replicate(ctx, selector, mode);
    }
    let (mut expired, mut finished) = (0, ids.is_empty());
    if !ctx.decides() {
        finished = false;
    } else if ids.len() <= RECLAIM_INLINE.get() {
        (expired, finished) = reclaim::reclaim_now(ctx, ids);
    } else {
        expired = reclaim::reclaim_leaving(ctx, ids);
    }
    if !finished {
        if !is_soft {
            replicate(ctx, selector, mode);
        }
        reclaim::schedule(ctx);
    }
    ids.len().saturating_sub(expired)
}

/// Would it do anything to invalidate a tag in a database?
pub fn matters(db: i32, tag: &[u8]) -> bool {
    leases::are_any(db) || cache::with(|cache| cache.index(db).is_some_and(|index| index.has_tag(tag)))
}

/// What may be done about what is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Replicas are told now, or few keys go when the command is over: it is one that writes, or the server makes room.
    Now,
    /// Replicas are told when the command is over, and no key goes until later. The command may be one that only reads, or waits, or fails;
    /// were anything replicated within it, the server would take it for a write and send it to replicas too. Or there is none, and the
    /// server walks over its keys (see [`crate::server::afterwards`]).
    Afterwards,
}

/// Invalidates the entries of this database, where something happens, that a selector without patterns means, touching no key. Returns
/// how many there were.
pub fn mark(ctx: &Ctx, db: i32, selector: &Selector, mode: Mode, telling: Telling) -> u64 {
    let found = cache::with(|cache| cache.select(db, selector));
    let ids = mode.concerns(db, &found).into_owned();
    put_down(ctx, db, selector, mode, &ids);
    let count = ids.len();
    if count > 0 {
        match telling {
            Telling::Now => follow_up(ctx, db, selector, mode, ids),
            Telling::Afterwards => tell_afterwards(ctx, db, selector, mode, ids),
        }
        reclaim::schedule(ctx);
    }
    count
}

/// Has few keys go when the command is over, as those of few that a command invalidates, by one `UNLINK` each. Of many replicas are told
/// now; they follow in slices, but in slots that are leaving.
fn follow_up(ctx: &Ctx, db: i32, selector: &Selector, mode: Mode, ids: Ids) {
    let are_few = matches!(mode, Mode::Hard) && ids.len() <= RECLAIM_INLINE.get();
    if !are_few {
        replicate(ctx, selector, mode);
        if slots::are_leaving() {
            ctx.afterwards(move |ctx| _ = reclaim::reclaim_leaving(ctx, &ids));
        }
        return;
    }
    let (later, stand) = (selector.clone(), cache::with(|cache| cache.stand(db)));
    let is_later = ctx.afterwards(move |ctx| {
        if reclaim::reclaim_now(ctx, &ids).1 {
            return;
        }
        // What came meanwhile, in a transaction, must not be hit on a replica, which is told of what is dead as it is reclaimed.
        if cache::with(|cache| cache.stand(db)) == stand {
            replicate(ctx, &later, mode);
        }
        reclaim::reclaim_leaving(ctx, &ids);
    });
    if !is_later {
        replicate(ctx, selector, mode);
    }
}

/// Tells replicas of entries that were marked when the command is over. If others have come by then, of each: as it is reclaimed or, if it
/// turned stale, as it is; but of few that are dead at once.
fn tell_afterwards(ctx: &Ctx, db: i32, selector: &Selector, mode: Mode, ids: Ids) {
    let stand = cache::with(|cache| cache.stand(db));
    let tell_each = move |ctx: &Ctx, ids: &Ids| match mode {
        Mode::Soft { .. } => reclaim::hand_over_soon(ctx, stand.0, ids.clone()),
        Mode::Hard if ids.len() <= RECLAIM_INLINE.get() => reclaim::announce(ctx, ids, |_| true),
        Mode::Hard => {}
    };
    let (later, marked) = (selector.clone(), ids.clone());
    let is_later = ctx.afterwards(move |ctx| {
        if cache::with(|cache| cache.stand(db)) == stand {
            replicate(ctx, &later, mode);
        } else {
            tell_each(ctx, &marked);
        }
        reclaim::announce_leaving(ctx, &marked);
    });
    // Within a command that may be no write nothing is said of the dead.
    if !is_later && matches!(mode, Mode::Soft { .. }) {
        tell_each(ctx, &ids);
    }
}

/// Marks the entries, and fences.
fn put_down(ctx: &Ctx, db: i32, selector: &Selector, mode: Mode, ids: &Ids) {
    leases::fence(db, selector);
    if let Some(index) = cache::with(|cache| cache.index(db).map(Index::number)) {
        advice::invalidated(index, selector);
    }
    cache::with(|cache| match mode {
        Mode::Hard => cache.kill(db, selector, ids),
        Mode::Soft { at_ms } => cache.soften(db, ids, at_ms),
    });
    warming::invalidated(ctx, db, ids);
}

fn replicate(ctx: &Ctx, selector: &Selector, mode: Mode) {
    let (command, words) = command(selector, mode);
    ctx.replicate_words(command, &words, Recipients::All);
}

/// The command that says it to replicas and the append-only file.
fn command(selector: &Selector, mode: Mode) -> (&'static CStr, Vec<Vec<u8>>) {
    let at_ms = if let Mode::Soft { at_ms } = mode { Some(at_ms) } else { None };
    match (selector.clauses.as_slice(), mode) {
        ([Clause::Any(tags)], Mode::Hard) => {
            (c"EXPCACHE.INVALIDATE.TAG", tags.iter().map(|tag| tag.to_vec()).collect())
        }
        (clauses, _) => {
            let command = if clauses.is_empty() { c"EXPCACHE.CLEAR" } else { c"EXPCACHE.PURGE" };
            let soft = at_ms.map(|_| ());
            let options = PurgeOptions { selector: selector.clone(), soft, at_ms, ..PurgeOptions::default() };
            (command, grammar::words(|to| options.write(to)))
        }
    }
}
