//! `EXPCACHE.KEYFOR`: the key under which a request's result is kept.

use expcache_core::Result;
use expcache_core::key::{KeyRequest, derive_key};

use crate::server::args::Args;
use crate::server::context::Ctx;
use crate::server::state;

/// `EXPCACHE.KEYFOR type [FORMAT f] [FILTERS json] [COMPANY id] [USER id] [PROJECT id] [FIELD name value …] [HASHTAG text]`
pub fn keyfor(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let request = KeyRequest::parse(args.words())?;
    let key = state::PREFIX.with_text(|prefix| derive_key(prefix, &request))?;
    ctx.reply_bytes(&key);
    Ok(())
}
