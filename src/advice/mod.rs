//! Advice: each type's traffic is followed, by a few of its keys, and what would be better is told.
//!
//! ```text
//!  follow    what happens to entries, handed on to an estimator for each type
//!  commands  ADVISE
//! ```

mod commands;
mod follow;

use expcache_core::stats::Gauges;

pub use self::follow::{digested, digests_later, evicted, invalidated, read, stored, tried};
use crate::cache;
use crate::server::args::Arg;
use crate::server::context::Ctx;
use crate::server::feature::{Feature, KeyEvent, NOTHING, ServerEvent};
use crate::server::status;

/// What advice brings to the server.
pub const FEATURE: Feature = Feature {
    commands: &[commands::ADVISE],
    settings: &[&follow::ADVICE_KEYS],
    on_key: Some(on_key),
    on_server: Some(on_server),
    gauges: Some(gauges),
    ..NOTHING
};

/// What is deleted by a command, or goes on under another name, would be gone at every lifetime. What expired, was invalidated or made room
/// would not.
fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    if !matches!(event, KeyEvent::Deleted | KeyEvent::Left) || follow::is_empty() {
        return;
    }
    let db = ctx.db();
    let entry = cache::with(|cache| {
        // Almost every event is about a key of another type.
        let type_id = cache.departed_type(key.bytes())?;
        let is_other = cache.is_unlinking() || status::is_replica() && cache.why_gone(db, key.bytes()).is_some();
        cache.index(db).map(|index| (type_id, index.number())).filter(|_| !is_other)
    });
    entry.into_iter().for_each(|(type_id, index)| follow::deleted(type_id, index, key.bytes()));
}

fn on_server(_ctx: &Ctx, event: ServerEvent) {
    // A database that is flushed has an index of another number then: to those who follow its keys are new ones.
    if event == ServerEvent::Beat {
        follow::tick();
    }
}

fn gauges(gauges: &mut Gauges) {
    gauges.advice_bytes = follow::size_bytes() as u64;
}
