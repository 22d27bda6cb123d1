//! `EXPCACHE.DEBUG CHECK|HELP`.

use expcache_core::Result;
use expcache_core::index::Walked;
use expcache_core::policy::fresh_until_ms;

use crate::cache;
use crate::server::args::Args;
use crate::server::command::{HELP, ROW, Row, help, subcommand};
use crate::server::context::Ctx;
use crate::server::key::Found;

/// `EXPCACHE.DEBUG`, for the server.
pub const DEBUG: Row = Row {
    name: "expcache.debug",
    arity: -2,
    summary: "A container for commands that diagnose.",
    complexity: "Depends on subcommand.",
    subcommands: SUBCOMMANDS,
    ..ROW
};

static SUBCOMMANDS: &[Row] = &[
    Row {
        name: "check",
        handler: subcommand(check),
        flags: "admin allow-stale",
        arity: 2,
        summary: "Returns every disagreement between the index and the keyspace, and inside the index.",
        complexity: "O(N) for N keys of all databases; the server waits.",
        ..DEBUG_ROW
    },
    Row { name: "help", handler: subcommand(debug_help), ..DEBUG_HELP },
];

const DEBUG_ROW: Row = Row { container: "expcache.debug", ..ROW };
const DEBUG_HELP: Row = Row { arity: 2, flags: "readonly allow-stale allow-loading", summary: HELP, ..DEBUG_ROW };

fn debug_help(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    help(ctx, "EXPCACHE.DEBUG", SUBCOMMANDS);
    Ok(())
}

/// `EXPCACHE.DEBUG CHECK`: every disagreement between index and keyspace, and inside the index.
pub fn check(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    let home = ctx.db();
    let mut said: Vec<String> = Vec::new();
    let mut db = 0;
    while ctx.select(db) {
        let mut walked = Walked::default();
        ctx.scan(|key, found, expire_at_ms| {
            if let Found::Entry(entry) = found {
                walked.count(entry);
                let fresh_until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
                cache::with(|s| match s.index(db) {
                    Some(index) => {
                        let say = &mut |text| said.push(format!("db {db}: {text}"));
                        index.check_entry(entry, key, fresh_until_ms, say);
                    }
                    None => said.push(format!("db {db}: there are entries and no index")),
                });
            }
        });
        cache::with(|s| {
            if let Some(index) = s.index(db) {
                index.check(&walked, &mut |text| said.push(format!("db {db}: {text}")));
            }
        });
        db += 1;
    }
    ctx.select(home);
    cache::with(|s| s.check_types(&mut |text| said.push(text)));
    ctx.reply_array(said.len());
    said.iter().for_each(|text| ctx.reply_bytes(text.as_bytes()));
    Ok(())
}
