//! Warming: the keys that are most worth producing are kept in mind as traffic happens, and handed out to workers.
//!
//! There is no queue: a job is a lease. What leases hold (one holder a key, death, backoff, fences, waiting readers) holds for jobs.
//!
//! ```text
//!  keep      what happens to entries, noted in a keeper for each database
//!  offer     the next keys, each looked at before it is handed out
//!  crews     how far those with the same rights have looked
//!  commands  WARM, and the workers that wait
//! ```

mod commands;
mod crews;
mod keep;
mod offer;

use std::time::Instant;

use expcache_core::stats::Why;
use expcache_core::warm::Reason;

pub use self::keep::{arrived, asked_for_entry, asked_in_vain, forget, stored};
use crate::cache;
use crate::server::args::Arg;
use crate::server::background::{self, Background, between_slices_ms};
use crate::server::context::Ctx;
use crate::server::feature::{Feature, KeyEvent, NOTHING, ServerEvent};
use crate::server::status;

/// What warming brings to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::WARM],
    settings: &[&keep::WARM_MEMORY],
    on_key: Some(on_key),
    on_server: Some(on_server),
    on_freed: Some(on_freed),
    gauges: Some(keep::gauges),
    ..NOTHING
};

/// Has the keys of large invalidations become due.
static CATCHING_UP: Background = Background::new(catch_up);

fn catch_up(ctx: &Ctx) -> Option<i64> {
    let (start, slice) = (Instant::now(), background::slice());
    while !keep::catch_up() {
        if start.elapsed() > slice {
            return Some(between_slices_ms());
        }
    }
    commands::serve_soon(ctx);
    None
}

/// These entries of the selected database were invalidated.
pub fn invalidated(ctx: &Ctx, db: i32, ids: &expcache_core::index::Ids) {
    if keep::invalidated(db, ids) {
        commands::serve_soon(ctx);
        CATCHING_UP.schedule_by(ctx, between_slices_ms());
    }
}

fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    // Mostly nothing is kept in mind.
    if keep::is_empty() {
        return;
    }
    let why = match event {
        KeyEvent::Expired => Some(Reason::Expired),
        KeyEvent::Evicted => Some(Reason::Evicted),
        KeyEvent::Deleted => why_deleted(ctx, key.bytes()),
        KeyEvent::Left => None,
        KeyEvent::Loaded => return,
        KeyEvent::Restored | KeyEvent::Arrived => return keep::arrived(ctx, key),
        KeyEvent::Redated => return keep::redated(ctx, key),
    };
    match why {
        None => keep::forget(ctx, key.bytes()),
        Some(why) if keep::went(ctx, key.bytes(), why) => commands::serve_soon(ctx),
        Some(_) => (),
    }
}

/// Why a key was deleted, if it is to be produced again all the same. A primary deletes in a replica what has expired there, and what was
/// invalidated; the books know which it was.
fn why_deleted(ctx: &Ctx, key: &[u8]) -> Option<Reason> {
    let db = ctx.db();
    cache::with(|cache| match cache.why_gone(db, key).filter(|_| status::is_replica()) {
        Some(Why::Expired) => Some(Reason::Expired),
        Some(Why::Invalidated) => Some(Reason::Invalidated),
        None => cache.is_unlinking().then_some(Reason::Invalidated),
    })
}

/// A lease ended that perhaps was a job, or a key can be one again.
fn on_freed(ctx: &Ctx, db: i32, key: &[u8]) {
    if !keep::is_empty() && keep::freed(db, key) {
        commands::serve_soon(ctx);
    }
}

fn on_server(ctx: &Ctx, event: ServerEvent) {
    match event {
        ServerEvent::Flushed(db) => {
            keep::flush(db);
            crews::forget();
        }
        // Their leases ended.
        ServerEvent::Swapped(first, second) => {
            keep::swap(first, second);
            crews::forget();
            keep::doubt_jobs();
        }
        ServerEvent::RoleChanged => keep::doubt_jobs(),
        ServerEvent::Beat => {
            if keep::tick() {
                CATCHING_UP.schedule_by(ctx, between_slices_ms());
            }
            offer::look_after_jobs(ctx);
            commands::serve(ctx);
        }
        _ => (),
    }
}
