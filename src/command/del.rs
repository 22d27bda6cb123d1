//! `EXPCACHE.DEL`.

use expcache_core::{Error, Result};

use crate::server::args::Args;
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::server::{leases, state};

/// `EXPCACHE.DEL key [key …]`
pub fn del(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    for name in args {
        if matches!(ctx.open(name, Mode::Peek).found(), Found::Foreign) {
            return Err(Error::WrongType);
        }
    }
    let mut removed = 0;
    for name in args {
        leases::lost(ctx, ctx.db(), name.bytes());
        let alive = match ctx.open(name, Mode::Peek).found() {
            Found::Entry(entry) => state::with(|s| !s.is_dead(ctx.db(), entry)),
            Found::Missing | Found::Foreign => continue,
        };
        removed += u64::from(ctx.unlink(name) && alive);
    }
    ctx.reply_count(removed);
    Ok(())
}
