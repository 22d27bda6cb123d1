//! `EXPCACHE.DEL`.

use expcache_core::audit::Action;
use expcache_core::grammar::syntax::KEY;
use expcache_core::policy::Audit;
use expcache_core::{Error, Result};

use crate::audit::{self, Recorded};
use crate::server::args::Args;
use crate::server::command::{Keys, REMOVES, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::{cache, leases};

/// `EXPCACHE.DEL`, for the server.
pub const DEL: Row = Row {
    name: "expcache.del",
    handler: command(del),
    flags: "write",
    keys: Keys::All,
    key_flags: REMOVES,
    arity: -2,
    summary: "Removes entries; returns how many there were.",
    complexity: "O(N*T) for N keys of T tags.",
    tips: "request_policy:multi_shard response_policy:agg_sum",
    args: &[KEY.multiple()],
    ..ROW
};

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
        let (recorded, is_alive) = match ctx.open(name, Mode::Peek).found() {
            Found::Entry(entry) => cache::with(|s| {
                let recorded = Recorded::of(s, entry.type_id(), Audit::Changes);
                (recorded, Some(!s.is_dead(ctx.db(), entry) && !s.has_outlived(entry)))
            }),
            Found::Missing | Found::Foreign => (Recorded::by_name(None, name.bytes(), Audit::Changes), None),
        };
        let is_removed = is_alive.is_some_and(|alive| ctx.unlink(name) && alive);
        removed += u64::from(is_removed);
        if let Some(recorded) = recorded {
            let result: &[u8] = if is_removed { b"ok" } else { b"null" };
            let (type_name, key) = (Some(recorded.name()), Some(name.bytes()));
            audit::note(ctx, &Action { command: DEL.name, type_name, key, result, ..audit::OK });
        }
    }
    ctx.reply_count(removed);
    Ok(())
}
