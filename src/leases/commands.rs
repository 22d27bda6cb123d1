//! `EXPCACHE.RENEW` and `EXPCACHE.RELEASE`: the holder of a lease extends it, or gives it up.

use expcache_core::grammar::lease::{ReleaseOptions, lease_duration};
use expcache_core::lease::{Named, Token};
use expcache_core::{Result, grammar};

use super::grants;
use crate::cache;
use crate::server::args::{Arg, Args};
use crate::server::command::{Keys, LEASES, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::server::log::{LogLevel, log};

/// What the server is told of it.
pub const RENEW: Row = Row {
    name: "expcache.renew",
    handler: command(renew),
    flags: "fast",
    keys: Keys::First,
    key_flags: LEASES,
    arity: 4,
    summary: "Extends a lease; returns 1, or 0 if it is not the caller's.",
    complexity: "O(log N) for N leases.",
    args: grammar::lease::RENEW,
    ..ROW
};

/// `EXPCACHE.RENEW key token d`
pub fn renew(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let (name, token) = (args.need()?, args.need()?);
    let duration_ms = lease_duration(args.need()?.bytes())?;
    let renewed = Token::parse(token.bytes()).is_some_and(|token| grants::renew(ctx, name.bytes(), token, duration_ms));
    ctx.reply_count(renewed.into());
    Ok(())
}

/// What the server is told of it.
pub const RELEASE: Row = Row {
    name: "expcache.release",
    handler: command(release),
    flags: "fast",
    keys: Keys::First,
    key_flags: LEASES,
    arity: -3,
    summary: "Gives a lease up; returns 1, or 0 if it is not the caller's.",
    complexity: "O(log N + W) for N leases and W clients that wait.",
    args: grammar::lease::RELEASE,
    ..ROW
};

/// `EXPCACHE.RELEASE key token [FAIL message] [BACKOFF d]`
pub fn release(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let (name, token) = (args.need()?, args.need()?);
    let ReleaseOptions { failure, backoff_ms } = ReleaseOptions::parse(args.words())?;
    let Some(token) = Token::parse(token.bytes()) else {
        ctx.reply_count(0);
        return Ok(());
    };
    let (type_id, named) = known_as(ctx, name);
    let released = grants::release(ctx, name.bytes(), token, backoff_ms.unwrap_or(0), named);
    if let Some(message) = failure.filter(|_| released) {
        cache::with(|s| s.count(type_id, |counters| counters.failures += 1));
        let [key, why] = [name.bytes(), message].map(String::from_utf8_lossy);
        log(LogLevel::Verbose, &format!("producing {key} failed: {why}"));
    }
    ctx.reply_count(released.into());
    Ok(())
}

/// The type and the tags of what is being produced, as far as known: those of the present entry, which is stale; without one, the type
/// in the key's name.
fn known_as(ctx: &Ctx, name: Arg<'_>) -> (u16, Named) {
    let mut key = ctx.open(name, Mode::Peek);
    let (db, found) = (key.db(), key.found());
    cache::with(|s| match found {
        Found::Entry(entry) if !s.is_dead(db, entry) => {
            let names = s.names(db, entry);
            let (type_name, tags) = (names.type_name().into(), names.tags().map(Into::into).collect());
            (entry.type_id(), Named { type_name, tags })
        }
        _ => {
            let type_id = s.type_by_key(name.bytes());
            (type_id, Named { type_name: s.types.get(type_id).name.clone(), tags: Vec::new() })
        }
    })
}
