//! Leases: the client that holds one produces a key's value, other clients wait for it.
//!
//! ```text
//!  table    one table of leases a database; the clients that wait      grants    asked for, renewed, fenced, lost, flushed
//!  ends     clients whose waiting is over, told in turns; the timer    commands  RENEW, RELEASE
//!  pieces   what holders have sent of their values
//! ```

mod commands;
mod ends;
mod grants;
pub mod pieces;
mod table;

use expcache_core::stats::Gauges;

pub use self::ends::withdraw;
pub use self::grants::{
    Counts, Offer, are_any, check, counts, fence, flush, gone, is_within_share, lost, may_hold, new_token, offer,
    owner, production_ms, release, renew, stored, tick, wait, with_pieces,
};
pub use self::table::{LEASE_MEMORY, MAX_FENCES, MAX_LEASE, MAX_LEASES, MAX_LEASES_PER_USER, Resume};
use crate::cache;
use crate::server::args::Arg;
use crate::server::context::Ctx;
use crate::server::feature::{Feature, KeyEvent, NOTHING, ServerEvent};

/// What leases bring to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::RENEW, commands::RELEASE],
    settings: &[&MAX_LEASE, &MAX_LEASES, &MAX_LEASES_PER_USER, &LEASE_MEMORY, &MAX_FENCES, &pieces::PARTS_MEMORY],
    on_key: Some(on_key),
    on_server: Some(on_server),
    gauges: Some(gauges),
    ..NOTHING
};

/// A client that deletes a key does not want the value that is being produced for it. An unlinking of our own says nothing of that.
fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    if event == KeyEvent::Deleted && !cache::with(|cache| cache.is_unlinking()) {
        lost(ctx, ctx.db(), key.bytes());
    }
}

fn on_server(ctx: &Ctx, event: ServerEvent) {
    match event {
        ServerEvent::Flushed(db) => flush(ctx, db),
        ServerEvent::Swapped(first, second) => {
            flush(ctx, Some(first));
            flush(ctx, Some(second));
        }
        // A lease of the old role is worth nothing in the new one.
        ServerEvent::RoleChanged => flush(ctx, None),
        ServerEvent::Beat => tick(ctx),
        ServerEvent::LoadingStarted | ServerEvent::Loaded | ServerEvent::Forked => (),
    }
}

fn gauges(gauges: &mut Gauges) {
    let Counts { held, backing_off, fences, waiting } = counts();
    (gauges.leases_held, gauges.keys_backing_off, gauges.fences, gauges.waiting_clients) =
        (held, backing_off, fences, waiting);
    gauges.parts_bytes = pieces::taken() as u64;
}
