//! Limits: may a call happen now? The arithmetic is `core::limit`'s. Here a key is read, and written if a call is charged.
//!
//! The state is a native string, replicated as `SET … PXAT`, without a keyspace event. A call that is refused, or only looks,
//! writes nothing. A client may look on a replica, so the command has no flag that says that it writes; the room
//! itself asks whether the server accepts writes.

use expcache_core::Result;
use expcache_core::grammar::throttle::{THROTTLE, ThrottleOptions};
use expcache_core::limit::{self, Change, Outcome, State, Verdict};

use crate::server::args::Args;
use crate::server::clock::unix_us;
use crate::server::command::{CHARGES, Keys, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING};
use crate::server::key::{Key, Mode};

/// For how long the state of limits that are full again is kept. Mostly the next call comes soon, and a key that expires before is one
/// that the server has to delete, here and on its replicas, and to make anew.
const KEPT_MS: u64 = 1000;

/// What limits bring to the server.
pub const FEATURE: Feature = Feature {
    commands: &[Row {
        name: "expcache.throttle",
        handler: command(throttle),
        flags: "fast",
        keys: Keys::First,
        key_flags: CHARGES,
        arity: -5,
        summary: "Returns whether something may happen now, by rate limits, and counts it if so.",
        complexity: "O(P) for P policies.",
        args: THROTTLE,
        ..ROW
    }],
    ..NOTHING
};

/// `EXPCACHE.THROTTLE key POLICY count period [BURST n] [POLICY …] … [COST n]`
fn throttle(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    let ThrottleOptions { policies, cost } = ThrottleOptions::parse(args.words())?;
    let cost = cost.unwrap_or(1);
    let mut key = ctx.open(name, if cost == 0 { Mode::Read } else { Mode::Write });
    let state = key.text()?.map_or(Ok(State::default()), State::parse)?;
    if cost != 0 {
        ctx.check_writes()?;
    }
    let outcome = limit::throttle(&policies, &state, cost, unix_us());
    match &outcome.change {
        Some(Change::Store { state, until_ms }) => store(ctx, key, &state.to_bytes(), *until_ms),
        Some(Change::Delete) => {
            drop(key);
            ctx.unlink(name);
        }
        None => (),
    }
    reply(ctx, &outcome);
    Ok(())
}

fn store(ctx: &Ctx, mut key: Key<'_>, text: &[u8], until_ms: u64) {
    let until_ms = i64::try_from(until_ms.saturating_add(KEPT_MS)).unwrap_or(i64::MAX);
    key.set_text(text, until_ms);
    ctx.signal_modified(key.name());
    if ctx.is_heard() {
        ctx.replicate_text(key.name(), text, until_ms);
    } else {
        ctx.replicate_verbatim();
    }
}

fn reply(ctx: &Ctx, outcome: &Outcome) {
    let Some(tightest) = outcome.verdicts.get(outcome.tightest) else { return ctx.reply_null() };
    ctx.reply_map(7);
    ctx.reply_bytes(b"allowed");
    ctx.reply_integer(outcome.is_allowed.into());
    reply_verdict(ctx, tightest);
    ctx.reply_bytes(b"policy");
    ctx.reply_count(outcome.tightest as u64);
    ctx.reply_bytes(b"policies");
    ctx.reply_array(outcome.verdicts.len());
    for verdict in &outcome.verdicts {
        ctx.reply_map(4);
        reply_verdict(ctx, verdict);
    }
}

fn reply_verdict(ctx: &Ctx, verdict: &Verdict) {
    let Verdict { limit, remaining, retry_ms, reset_ms } = *verdict;
    for (name, value) in
        [("limit", Some(limit)), ("remaining", Some(remaining)), ("retry", retry_ms), ("reset", Some(reset_ms))]
    {
        ctx.reply_bytes(name.as_bytes());
        match value {
            Some(value) => ctx.reply_count(value),
            None => ctx.reply_null(),
        }
    }
}
