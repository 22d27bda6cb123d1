//! Advice: each type's traffic is followed, by a few of its keys, and what would be better is told.
//!
//! ```text
//!  follow    what happens to entries, handed on to an estimator for each type
//!  commands  ADVISE
//! ```

mod commands;
mod follow;

use expcache_core::stats::Gauges;

pub use self::follow::{digested, digests_later, invalidated, read, read_once, stored, tried};
use crate::cache;
use crate::server::args::Arg;
use crate::server::context::Ctx;
use crate::server::feature::{Feature, KeyEvent, NOTHING, ServerEvent};

/// What advice brings to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::ADVISE],
    settings: &[&follow::ADVICE_KEYS],
    on_key: Some(on_key),
    on_server: Some(on_server),
    gauges: Some(gauges),
    ..NOTHING
};

fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    if event == KeyEvent::Evicted
        && let Some(index) = cache::with(|cache| cache.index(ctx.db()).map(|index| index.number()))
    {
        follow::evicted(index, key.bytes());
    }
}

fn on_server(_ctx: &Ctx, event: ServerEvent) {
    match event {
        ServerEvent::Beat => follow::tick(),
        ServerEvent::Flushed(_) => follow::cleared(),
        _ => (),
    }
}

fn gauges(gauges: &mut Gauges) {
    gauges.advice_bytes = follow::size_bytes() as u64;
}
