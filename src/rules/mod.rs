//! Rules: what happens means that entries are outdated, and the server itself invalidates them.
//!
//! ```text
//!  commands  RULE SET, GET, LIST, DEL                  set      all rules; how they are saved and replicated
//!  event     EVENT: a client tells what happened       firing   a native key was written or went: in the same step
//! ```

mod commands;
mod event;
mod firing;
mod set;

use expcache_core::stats::Gauges;

pub use self::set::{MAX_RULES, count, reset_total, total};
use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING, ServerEvent};

/// What rules bring to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::RULE, event::EVENT],
    settings: &[&MAX_RULES],
    on_key: Some(firing::on_key),
    on_write: Some(firing::on_write),
    on_server: Some(on_server),
    gauges: Some(gauges),
    saves: Some(&set::SAVES),
    ..NOTHING
};

fn on_server(ctx: &Ctx, event: ServerEvent) {
    match event {
        // What is loaded brings its rules along; if it brings none, there were none.
        ServerEvent::LoadingStarted => set::clear(),
        ServerEvent::Loaded => set::watch(ctx),
        _ => (),
    }
}

fn gauges(gauges: &mut Gauges) {
    gauges.rules = count() as u64;
}
