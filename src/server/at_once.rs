//! How much the main thread decodes in one transaction or script, whose commands cannot wait for a worker: a bound for all of
//! them together.
//!
//! The server's cached time tells which commands belong together: it stands still from the beginning of a client's command to its
//! end, a whole transaction or script included. Decoding takes longer than a microsecond, so no two of them have the same time. (From Redis
//! 7.2 on a script that the server calls busy, after five seconds, has time move on.)

use std::cell::Cell;

use expcache_core::entry::MAX_PAYLOAD;
use expcache_core::{Error, Result};

use super::api::api_if_any;
use super::context::Ctx;
use super::others;
use super::setting::Setting;
use super::workers;

/// So many bytes. What is hashed counts [more](HASHING).
pub static MAX_DECODED_AT_ONCE: Setting = Setting::size(c"max-decoded-at-once", 8 << 20, 1 << 20..=MAX_PAYLOAD as u64);

/// How many bytes are decoded in the time that the MD5 of one takes.
pub const HASHING: usize = 4;
/// What a byte counts that is decoded and hashed.
pub const CHECKING: usize = 1 + HASHING;

/// Asking which unit it is costs something, so nobody does before as much as this was decoded.
const LITTLE: u64 = 256 << 10;

/// A transaction, script or command: when it began, and how much had been decoded by then.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Unit {
    moment_us: i64,
    decoded_before: u64,
}

thread_local! {
    static UNIT: Cell<Unit> = const { Cell::new(Unit { moment_us: 0, decoded_before: 0 }) };
    /// What had been decoded when it was last asked which unit it is, or less.
    static DECODED_WHEN_ASKED: Cell<u64> = const { Cell::new(0) };
    /// The cached time as Redis 7.0 last said it, and how many commands of others there had been.
    static SAID: Cell<(i64, u64)> = const { Cell::new((0, 0)) };
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
    let left = MAX_DECODED_AT_ONCE.as_usize().saturating_sub((decoded - UNIT.get().decoded_before) as usize);
    // Where little is left the next is asked too.
    DECODED_WHEN_ASKED.set(if left as u64 >= LITTLE { decoded } else { decoded.saturating_sub(LITTLE) });
    left
}

/// Refuses what decodes to more than is left.
pub fn admit(ctx: &Ctx, bytes: usize) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let since_asked = workers::decoded() - DECODED_WHEN_ASKED.get() + bytes as u64;
    if since_asked < LITTLE || bytes <= left(ctx) { Ok(()) } else { Err(Error::TooMuchAtOnce) }
}

/// The server's cached time.
fn moment_us(ctx: &Ctx) -> i64 {
    match api_if_any!(RedisModule_CachedMicroseconds) {
        // SAFETY: asks a question.
        Some(cached) => unsafe { cached() },
        None => moment_us_by_info(ctx),
    }
}

/// The same on Redis 7.0, which says it in a text and takes 20 µs for that. So it is asked only if another command has come. None is counted
/// while a transaction is carried out. Of a script each call is counted once, this one too.
fn moment_us_by_info(ctx: &Ctx) -> i64 {
    others::watch(ctx);
    let commands = others::commands();
    let (said_us, commands_then) = SAID.get();
    let is_same = match (ctx.is_in_script(), ctx.is_in_transaction()) {
        (true, _) => commands <= commands_then + 1,
        (false, true) => commands == commands_then,
        (false, false) => false,
    };
    let us = if is_same { said_us } else { ask_info(ctx) };
    SAID.set((us, commands));
    us
}

/// The text is read as it is, for taking it apart takes longer than all the rest.
fn ask_info(ctx: &Ctx) -> i64 {
    let info = ctx.call_for_texts(c"INFO", &[c"server"]).pop().unwrap_or_default();
    let line = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"server_time_usec:"));
    line.and_then(|us| std::str::from_utf8(us.trim_ascii()).ok()?.parse().ok()).unwrap_or_default()
}
