//! `EXPCACHE.AUDIT`.

use expcache_core::audit::Wanted;
use expcache_core::grammar::audit::AuditOptions;
use expcache_core::{Result, grammar};

use super::readers;
use crate::server::access::Right;
use crate::server::args::Args;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;

/// How many lines there are in an answer that does not say.
const LINES: usize = 100;

/// `EXPCACHE.AUDIT`, for the server.
pub const AUDIT: Row = Row {
    name: "expcache.audit",
    handler: command(audit),
    flags: "readonly admin allow-stale",
    arity: -1,
    summary: "Returns what was done on this node and by whom, the oldest first; waits for it if there is nothing yet.",
    complexity: "O(N) for N lines; with TYPE or USER for N lines looked at, in slices, the caller waiting and nobody else.",
    tips: "nondeterministic_output request_policy:special response_policy:special",
    args: grammar::audit::AUDIT,
    ..ROW
};

/// `EXPCACHE.AUDIT [AFTER id] [COUNT n] [WAIT d] [TYPE name] [USER name]`
pub fn audit(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let AuditOptions { after, count, wait_ms, type_name, user } = AuditOptions::parse(args.words())?;
    ctx.need_all_keys(Right::Read)?;
    let (type_name, user) = (type_name.map(Into::into), user.map(Into::into));
    let wanted = Wanted { after, count: count.unwrap_or(LINES), type_name, user };
    readers::read(ctx, wanted, wait_ms.unwrap_or(0))
}
