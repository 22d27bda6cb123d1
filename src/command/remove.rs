//! `EXPCACHE.DEL` and `EXPCACHE.INVALIDATE.TAG`.

use expcache_core::{Error, Result};

use super::parse;
use crate::server::context::{Args, Ctx};
use crate::server::key::{Found, Mode};
use crate::server::{reclaim, state};

/// `EXPCACHE.DEL key [key …]`
pub fn del(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    for name in args {
        if matches!(ctx.open(name, Mode::Peek).found(), Found::Foreign) {
            return Err(Error::WrongType);
        }
    }
    let mut removed = 0;
    for name in args {
        let alive = match ctx.open(name, Mode::Peek).found() {
            Found::Entry(entry) => state::with(|s| !s.is_dead(ctx.db(), entry)),
            Found::Missing | Found::Foreign => continue,
        };
        removed += u64::from(ctx.unlink(name) && alive);
    }
    ctx.reply_count(removed);
    Ok(())
}

/// `EXPCACHE.INVALIDATE.TAG tag [tag …]`
///
/// A few dead entries are reclaimed at once, and replicas are told of their unlinking; of many, replicas are told by the
/// command itself, and the unlinking follows.
pub fn invalidate_tag(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let tags = parse::all_tags(args)?;
    if tags.iter().any(|tag| !ctx.may_delete(tag)) {
        return Err(Error::NoPermission);
    }
    let db = ctx.db();
    let (count, few) = state::with(|s| {
        let count = s.invalidate_tags(db, &tags);
        (count, s.index(db).is_some_and(|index| index.dead_len() <= s.config.reclaim_inline))
    });
    let mut expired = 0;
    if count > 0 && few && ctx.decides() {
        expired = reclaim::reclaim_now(ctx);
    } else if count > 0 || !ctx.decides() {
        ctx.replicate_verbatim();
        reclaim::schedule(ctx);
    }
    ctx.reply_count(count.saturating_sub(expired));
    Ok(())
}
