//! `EXPCACHE.RENEW` and `EXPCACHE.RELEASE`: what else the holder of a lease may do but store.

use expcache_core::lease::Token;
use expcache_core::{Error, Result};

use super::parse::{self, once};
use crate::server::context::{Args, Ctx, LogLevel, log};
use crate::server::{leases, state};

/// `EXPCACHE.RENEW key token d`
pub fn renew(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let (name, token) = (args.need()?, args.need()?);
    let duration_ms = parse::lease_duration(args.need()?)?;
    let renewed = Token::parse(token.bytes()).is_some_and(|token| leases::renew(ctx, name.bytes(), token, duration_ms));
    ctx.reply_count(renewed.into());
    Ok(())
}

/// `EXPCACHE.RELEASE key token [FAIL message] [BACKOFF d]`
pub fn release(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let (name, token) = (args.need()?, args.need()?);
    let (mut failure, mut backoff_ms) = (None, None);
    while let Some(word) = args.next() {
        match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
            b"FAIL" => once(&mut failure, args.need()?.bytes())?,
            b"BACKOFF" => once(&mut backoff_ms, parse::duration(args.need()?)?)?,
            _ => return Err(Error::Syntax),
        }
    }
    let backoff_ms = backoff_ms.unwrap_or(0);
    let released =
        Token::parse(token.bytes()).is_some_and(|token| leases::release(ctx, name.bytes(), token, backoff_ms));
    if let Some(message) = failure.filter(|_| released) {
        state::with(|s| s.count_by_key(name.bytes(), |counters| counters.failures += 1));
        let [key, why] = [name.bytes(), message].map(String::from_utf8_lossy);
        log(LogLevel::Verbose, &format!("producing {key} failed: {why}"));
    }
    ctx.reply_count(released.into());
    Ok(())
}
