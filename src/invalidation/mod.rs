//! Invalidation: a selector marks entries dead or stale in one step; their keys follow in slices.
//!
//! ```text
//!  commands ──▶ access      whose entries are these?
//!           ──▶ search      which are they? names are looked at in slices
//!           ──▶ invalidate  marks, fences, what replicas are told ──▶ reclaim   the keys follow, in slices
//! ```

pub mod access;
mod commands;
mod invalidate;
pub mod reclaim;
pub mod search;

use expcache_core::stats::Gauges;

pub use self::invalidate::{Mode, RECLAIM_INLINE, Telling, invalidate, mark, matters};
use crate::cache;
use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING, ServerEvent};

/// What invalidation brings to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::INVALIDATE_TAG, commands::INVTAG, commands::PURGE, commands::CLEAR],
    settings: &[&RECLAIM_INLINE],
    on_server: Some(on_server),
    gauges: Some(gauges),
    ..NOTHING
};

fn on_server(ctx: &Ctx, event: ServerEvent) {
    match event {
        ServerEvent::Loaded | ServerEvent::RoleChanged => reclaim::schedule(ctx),
        ServerEvent::Beat => reclaim::note_age(),
        _ => (),
    }
}

fn gauges(gauges: &mut Gauges) {
    gauges.searches = search::count() as u64;
    gauges.reclaim_backlog = cache::with(|cache| cache.marked_len());
}
