//! Types: their policies and limits.
//!
//! ```text
//!  commands  TYPE SET, GET, LIST, DEL          policies  what a type is going to be, and the words for it
//!  limits    MAXENTRIES, MAXBYTES              saving    policies, saved
//!  lifetime  LIFETIME                          per_tag   PERTAG
//! ```

mod commands;
pub mod lifetime;
pub mod limits;
pub mod per_tag;
pub mod policies;
mod saving;

use crate::cache;
use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING, ServerEvent};

/// What types bring to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::TYPE],
    settings: &[&policies::DEFAULT_TTL, &policies::MAX_TYPES],
    on_key: Some(lifetime::on_key),
    on_server: Some(on_server),
    saves: Some(&saving::SAVES),
    ..NOTHING
};

fn on_server(ctx: &Ctx, event: ServerEvent) {
    match event {
        // What is loaded brings its policies along; if it brings none, they were the initial ones.
        ServerEvent::LoadingStarted => cache::with(|cache| cache.types.reset_policies()),
        ServerEvent::Loaded | ServerEvent::RoleChanged => lifetime::apply_all(ctx),
        ServerEvent::Beat => cache::with(|cache| cache.types.shrink(policies::MAX_TYPES.as_usize())),
        _ => (),
    }
}
