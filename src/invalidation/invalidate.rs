//! Invalidating: what every command and rule that invalidates ends in.
//!
//! It takes effect at once, as marks in the index, and fences what is being produced. Where few entries are marked they are dealt with
//! before the reply (reclaimed, or given the expiry of their grace), and replicas are told of each; where they are many, replicas are told
//! by the command itself, and the rest follows in slices (see [`reclaim`]). What is only stale is always told by the command too: its key's
//! expiry does not say it.

use std::ffi::CStr;

use expcache_core::grammar;
use expcache_core::grammar::purge::PurgeOptions;
use expcache_core::index::{Ids, Index};
use expcache_core::selector::{Clause, Selector};

use super::reclaim;
use crate::server::context::{Ctx, Recipients};
use crate::server::setting::Setting;
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

/// Invalidates these entries of the selected database, which are those that the selector means (and, to be made stale, that are fresh).
/// Returns how many there were, those left out that the server found expired.
pub fn invalidate(ctx: &Ctx, selector: &Selector, mode: Mode, ids: &Ids) -> u64 {
    let db = ctx.db();
    leases::fence(db, selector);
    if let Some(index) = cache::with(|cache| cache.index(db).map(Index::number)) {
        advice::invalidated(index, selector);
    }
    cache::with(|cache| match mode {
        Mode::Hard => cache.kill(db, selector, ids),
        Mode::Soft { at_ms } => cache.soften(db, ids, at_ms),
    });
    warming::invalidated(ctx, ids);
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
