//! Warming: the keys that are most worth producing are kept in mind as traffic happens, and handed out to workers.
//!
//! There is no queue: a job is a lease. What leases hold (one holder a key, death, backoff, fences, waiting readers) holds for jobs.
//!
//! ```text
//!  keep      what happens to entries, noted in a keeper for each database
//!  offer     the next keys, each looked at before it is handed out
//!  commands  WARM, and the workers that wait
//! ```

mod commands;
mod keep;
mod offer;

use expcache_core::stats::Gauges;
use expcache_core::warm::Reason;

pub use self::keep::{asked_for_entry, asked_in_vain, forget, stored};
use crate::cache;
use crate::server::args::Arg;
use crate::server::context::Ctx;
use crate::server::feature::{Feature, KeyEvent, NOTHING, ServerEvent};

/// What warming brings to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::WARM],
    settings: &[&keep::WARM_MEMORY],
    on_key: Some(on_key),
    on_server: Some(on_server),
    gauges: Some(gauges),
    ..NOTHING
};

/// These entries of the selected database were invalidated.
pub fn invalidated(ctx: &Ctx, db: i32, ids: &expcache_core::index::Ids) {
    if keep::invalidated(db, ids) {
        commands::serve_soon(ctx);
    }
}

fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    // Mostly nothing is kept in mind.
    if keep::is_empty() {
        return;
    }
    let is_ours = || cache::with(|cache| cache.is_unlinking());
    let why = match event {
        KeyEvent::Expired => Some(Reason::Expired),
        KeyEvent::Evicted => Some(Reason::Evicted),
        KeyEvent::Deleted if is_ours() => Some(Reason::Invalidated),
        KeyEvent::Deleted | KeyEvent::Left => None,
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

fn on_server(ctx: &Ctx, event: ServerEvent) {
    match event {
        ServerEvent::Flushed(db) => keep::flush(db),
        ServerEvent::Swapped(first, second) => keep::swap(first, second),
        ServerEvent::Beat => {
            keep::tick();
            offer::look_after_jobs(ctx);
            commands::serve(ctx);
        }
        _ => (),
    }
}

fn gauges(gauges: &mut Gauges) {
    keep::gauges(gauges);
}
