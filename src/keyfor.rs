//! `EXPCACHE.KEYFOR`: the key under which a request's result is kept.

use expcache_core::key::{KeyRequest, derive_key};
use expcache_core::{Result, grammar};

use crate::cache;
use crate::server::args::Args;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING};

/// What it brings to the server.
pub const FEATURE: Feature = Feature { commands: &[KEYFOR], ..NOTHING };

/// `EXPCACHE.KEYFOR`, for the server.
const KEYFOR: Row = Row {
    name: "expcache.keyfor",
    handler: command(keyfor),
    flags: "readonly fast allow-stale allow-loading",
    arity: -2,
    summary: "Returns the key for a request: the same parameters in any order give the same key.",
    complexity: "O(N) for N bytes of parameters.",
    args: grammar::key::KEYFOR,
    ..ROW
};

/// `EXPCACHE.KEYFOR type [FORMAT f] [FILTERS json] [COMPANY id] [USER id] [PROJECT id] [FIELD name value …] [HASHTAG text]`
pub fn keyfor(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let request = KeyRequest::parse(args.words())?;
    let key = cache::PREFIX.with_text(|prefix| derive_key(prefix, &request))?;
    ctx.reply_bytes(&key);
    Ok(())
}
