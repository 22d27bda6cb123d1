//! Statistics: counters, figures, rankings, and the verdict of HEALTH.

mod health;
mod info;
mod ranking;
mod stats;
mod top;

use expcache_core::stats::Gauges;

use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING, ServerEvent};

/// What statistics bring to the server.
pub const FEATURE: Feature = Feature {
    commands: &[stats::STATS, top::TOP, health::HEALTH],
    settings: &[&health::MIN_HIT_RATE],
    on_server: Some(on_server),
    gauges: Some(gauges),
    info: Some(info::show),
    ..NOTHING
};

fn on_server(ctx: &Ctx, event: ServerEvent) {
    match event {
        ServerEvent::Swapped(..) => ranking::restart(),
        ServerEvent::Beat => ranking::schedule(ctx),
        _ => (),
    }
}

fn gauges(gauges: &mut Gauges) {
    gauges.ranking = ranking::is_under_way().into();
}
