//! `EXPCACHE.RULE SET|GET|LIST|DEL|HELP`.

use expcache_core::audit::Action;
use expcache_core::grammar::selector::Limits;
use expcache_core::grammar::syntax::text;
use expcache_core::{Result, grammar};

use super::set;
use crate::audit;
use crate::server::access::Right;
use crate::server::args::Args;
use crate::server::command::{HELP, ROW, Row, help, subcommand};
use crate::server::context::Ctx;
use crate::server::replies::{Replies, Value};

/// `EXPCACHE.RULE`, for the server.
pub const RULE: Row = Row {
    name: "expcache.rule",
    arity: -2,
    summary: "A container for commands on rules: what happens, and which entries are outdated then.",
    complexity: "Depends on subcommand.",
    subcommands: SUBCOMMANDS,
    ..ROW
};

static SUBCOMMANDS: &[Row] = &[
    Row {
        name: "set",
        handler: subcommand(set),
        flags: "write admin",
        arity: -8,
        summary: "Has entries invalidated whenever a key is written or an event told that matches a pattern.",
        complexity: "O(N) for N rules.",
        tips: "request_policy:all_shards response_policy:all_succeeded",
        args: grammar::rule::RULE_SET,
        ..RULE_ROW
    },
    Row {
        name: "get",
        handler: subcommand(get),
        flags: "readonly fast allow-stale",
        arity: 3,
        summary: "Returns what a rule says, and what it did.",
        complexity: "O(log N) for N rules.",
        args: &[text("name")],
        ..RULE_ROW
    },
    Row {
        name: "list",
        handler: subcommand(list),
        flags: "readonly allow-stale",
        arity: 2,
        summary: "Returns the names of the rules.",
        complexity: "O(N) for N rules.",
        ..RULE_ROW
    },
    Row {
        name: "del",
        handler: subcommand(del),
        flags: "write admin",
        arity: 3,
        summary: "Takes a rule away; what it invalidated stays so.",
        complexity: "O(N) for N rules.",
        tips: "request_policy:all_shards response_policy:agg_max",
        args: &[text("name")],
        ..RULE_ROW
    },
    Row { name: "help", handler: subcommand(rule_help), ..RULE_HELP },
];

const RULE_ROW: Row = Row { container: "expcache.rule", ..ROW };
const RULE_HELP: Row = Row { arity: 2, flags: "readonly allow-stale allow-loading", summary: HELP, ..RULE_ROW };

fn rule_help(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    help(ctx, "EXPCACHE.RULE", SUBCOMMANDS);
    Ok(())
}

/// `EXPCACHE.RULE SET name KEY|EVENT pattern DO selector [SOFT]`
fn set(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let limits = if ctx.decides() {
        ctx.need_all_keys(Right::Delete)?;
        Limits::Apply
    } else {
        Limits::Applied
    };
    let words = set::define(args.words(), limits)?;
    set::watch(ctx);
    set::replicate(ctx, &words);
    let named: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
    audit::note(ctx, &Action { command: "expcache.rule|set", tags: &named, ..audit::OK });
    ctx.reply_ok();
    Ok(())
}

/// `EXPCACHE.RULE GET name`. Its tags and its figures tell of everybody's keys.
fn get(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    ctx.need_all_keys(Right::Read)?;
    let found =
        set::with(|rules| rules.get(name).map(|rule| (rule.definition.clone(), rule.counts.clone(), rule.last_ms)));
    let Some((definition, counts, last_ms)) = found else {
        ctx.reply_null();
        return Ok(());
    };
    let selector = |to: &Replies| {
        let words = grammar::words(|to| definition.selector.write(to));
        to.reply_array(words.len());
        words.iter().for_each(|word| to.reply_bytes(word));
    };
    ctx.map(&[
        ("on", definition.on.name().into()),
        ("pattern", definition.pattern.text().into()),
        ("do", Value::With(&selector)),
        ("soft", if definition.is_soft { "yes" } else { "no" }.into()),
        ("fired", counts.fired.into()),
        ("entries", counts.entries.into()),
        ("errors", counts.errors.into()),
        ("last", last_ms.into()),
    ]);
    Ok(())
}

/// `EXPCACHE.RULE LIST`
fn list(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    ctx.need_all_keys(Right::Read)?;
    let names: Vec<Box<[u8]>> = set::with(|rules| rules.iter().map(|rule| rule.name.clone()).collect());
    ctx.reply_array(names.len());
    names.iter().for_each(|name| ctx.reply_bytes(name));
    Ok(())
}

/// `EXPCACHE.RULE DEL name`
fn del(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    if ctx.decides() {
        ctx.need_all_keys(Right::Delete)?;
    }
    let deleted = set::remove(name);
    if deleted {
        set::watch(ctx);
        ctx.replicate_verbatim();
    }
    let count = Some(deleted.into());
    audit::note(ctx, &Action { command: "expcache.rule|del", tags: &[name], count, ..audit::OK });
    ctx.reply_integer(deleted.into());
    Ok(())
}
