//! What the main thread decodes for those who cannot wait for a worker: no more than so much in one transaction or script, however many
//! commands that is made of.
//!
//! Which commands belong together, the server's cached time tells: it stands still from the beginning of what a client sent to its
//! end, a transaction and a script included. What decodes anything takes longer than a microsecond, so no two have the same. (A script
//! that the server calls busy, after five seconds, has time move on.)

use std::cell::Cell;

use expcache_core::{Error, Result};

use super::api::api_if_any;
use super::context::Ctx;
use super::workers;

/// So many bytes.
pub const AT_ONCE: usize = 64 << 20;

/// A transaction, script or command: when it began, and how much had been decoded by then.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Unit {
    moment_us: i64,
    decoded_before: u64,
}

thread_local! {
    static UNIT: Cell<Unit> = const { Cell::new(Unit { moment_us: 0, decoded_before: 0 }) };
}

/// How many bytes the main thread may decode now; any number for who brings what others have decided, and for who can wait.
pub fn left(ctx: &Ctx) -> usize {
    if !ctx.holds_others_up() || !workers::are_there() {
        return usize::MAX;
    }
    let decoded = workers::decoded();
    let moment_us = moment_us(ctx);
    if UNIT.get().moment_us != moment_us {
        UNIT.set(Unit { moment_us, decoded_before: decoded });
    }
    AT_ONCE.saturating_sub((decoded - UNIT.get().decoded_before) as usize)
}

/// Refuses what decodes to more than is left.
pub fn admit(ctx: &Ctx, bytes: usize) -> Result<()> {
    if bytes == 0 || bytes <= left(ctx) { Ok(()) } else { Err(Error::TooMuchAtOnce) }
}

/// The server's cached time.
fn moment_us(ctx: &Ctx) -> i64 {
    match api_if_any!(RedisModule_CachedMicroseconds) {
        // SAFETY: asks a question.
        Some(cached) => unsafe { cached() },
        // Redis 7.0 says it elsewhere.
        None => ctx.server_info(c"server", c"server_time_usec").and_then(|us| us.parse().ok()).unwrap_or_default(),
    }
}
