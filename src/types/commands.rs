//! `EXPCACHE.TYPE SET|GET|LIST|DEL|HELP`.

use expcache_core::audit::Action;
use expcache_core::grammar::syntax::text;
use expcache_core::policy::PerTag;
use expcache_core::types::Definer;
use expcache_core::{Error, Result, grammar};

use super::lifetime;
use super::policies::{DEFAULT_TTL, MAX_TYPES, current_policy, define, replicate_displaced, replicate_policy};
use crate::audit;
use crate::cache;
use crate::server::access::Right;
use crate::server::args::Args;
use crate::server::command::{HELP, ROW, Row, help, subcommand};
use crate::server::context::Ctx;
use crate::server::replies::{Replies, Value};

/// `EXPCACHE.TYPE`, for the server.
pub const TYPE: Row = Row {
    name: "expcache.type",
    arity: -2,
    summary: "A container for commands on types and their policies.",
    complexity: "Depends on subcommand.",
    subcommands: SUBCOMMANDS,
    ..ROW
};

static SUBCOMMANDS: &[Row] = &[
    Row {
        name: "set",
        handler: subcommand(set),
        flags: "write admin",
        arity: -3,
        summary: "Defines a type, or changes the named fields of its policy.",
        tips: "request_policy:all_shards response_policy:all_succeeded",
        args: grammar::policy::TYPE_SET,
        ..TYPE_ROW
    },
    Row {
        name: "get",
        handler: subcommand(get),
        flags: "readonly fast allow-stale",
        arity: 3,
        summary: "Returns a type's policy.",
        args: &[text("name")],
        ..TYPE_ROW
    },
    Row {
        name: "list",
        handler: subcommand(list),
        flags: "readonly allow-stale",
        arity: 2,
        summary: "Returns the names of the defined types.",
        complexity: "O(T log T) for T types.",
        ..TYPE_ROW
    },
    Row {
        name: "del",
        handler: subcommand(del),
        flags: "write admin",
        arity: 3,
        summary: "Takes a type's policy away; its entries live on under that of the type default.",
        tips: "request_policy:all_shards response_policy:agg_max",
        args: &[text("name")],
        ..TYPE_ROW
    },
    Row { name: "help", handler: subcommand(type_help), ..TYPE_HELP },
];

const TYPE_ROW: Row = Row { container: "expcache.type", ..ROW };
const TYPE_HELP: Row = Row { arity: 2, flags: "readonly allow-stale allow-loading", summary: HELP, ..TYPE_ROW };

fn type_help(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    help(ctx, "EXPCACHE.TYPE", SUBCOMMANDS);
    Ok(())
}

/// `EXPCACHE.TYPE SET name [TTL d|default] [GRACE d] [MAXTTL d] [JITTER percent] [EARLY percent] [SLIDING yes|no]
/// [CODEC name] [THRESHOLD size] [MAXVALUE size] [MAXENTRIES n] [MAXBYTES size] [FORMATS n name …] [VALIDATE yes|no] [LIFETIME d]
/// [PERTAG prefix n evict|reject] [AUDIT off|changes|all]`
pub fn set(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let decides = ctx.decides();
    if decides {
        ctx.need_all_keys(Right::Delete)?;
    }
    let most = if decides { MAX_TYPES.as_usize() } else { usize::MAX };
    let (name, policy, definer) = define(args.words())?;
    let before = current_policy(&name);
    if decides && definer != Definer::Command {
        // What only a master may say.
        return Err(Error::Syntax);
    }
    let (displaced, id) = cache::with(|s| {
        let id = s.types.to_define(&name, most)?;
        let displaced = if s.types.get(id).policy.is_some() { None } else { s.types.make_room(most) };
        s.types.set_policy(id, policy.clone(), definer);
        Ok::<_, Error>((displaced, id))
    })?;
    replicate_displaced(ctx, displaced);
    replicate_policy(ctx, id, &before);
    lifetime::apply(ctx, id);
    let words: Vec<&[u8]> = args.words().skip(1).collect();
    let action = Action { command: "expcache.type|set", type_name: Some(&name), tags: &words, ..audit::OK };
    audit::note(ctx, &action);
    ctx.reply_ok();
    Ok(())
}

/// `EXPCACHE.TYPE GET name`
pub fn get(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    let found = cache::with(|s| {
        let id = s.types.defined_id(name)?;
        Some((s.types.policy(id).clone(), DEFAULT_TTL.get()))
    });
    let Some((policy, default_ttl_ms)) = found else {
        ctx.reply_null();
        return Ok(());
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    ctx.map(&[
        ("ttl", policy.ttl_ms(default_ttl_ms).into()),
        ("grace", policy.grace_ms.into()),
        ("maxttl", policy.max_ttl_ms.into()),
        ("jitter", u64::from(policy.jitter_percent).into()),
        ("early", u64::from(policy.early_percent).into()),
        ("sliding", yes(policy.sliding).into()),
        ("codec", policy.codec.name().into()),
        ("threshold", policy.threshold.into()),
        ("maxvalue", policy.max_value.into()),
        ("maxentries", policy.max_entries.into()),
        ("maxbytes", policy.max_bytes.into()),
        ("formats", Value::Names(&policy.formats)),
        ("validate", yes(policy.validate).into()),
        ("lifetime", policy.whole_life_ms.into()),
        ("pertag", Value::With(&|to| reply_per_tag(to, policy.per_tag.as_ref()))),
        ("audit", policy.audit.name().into()),
    ]);
    Ok(())
}

fn reply_per_tag(to: &Replies, limit: Option<&PerTag>) {
    let Some(limit) = limit else { return to.reply_null() };
    to.reply_array(3);
    to.reply_bytes(&limit.prefix);
    to.reply_count(limit.most);
    to.reply_bytes(limit.beyond.name().as_bytes());
}

/// `EXPCACHE.TYPE LIST`
pub fn list(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    let mut names: Vec<Box<[u8]>> = cache::with(|s| {
        s.types.iter().filter(|(_, known)| known.policy.is_some()).map(|(_, known)| known.name.clone()).collect()
    });
    names.sort();
    ctx.reply_array(names.len());
    names.iter().for_each(|name| ctx.reply_bytes(name));
    Ok(())
}

/// `EXPCACHE.TYPE DEL name`
pub fn del(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    if ctx.decides() {
        ctx.need_all_keys(Right::Delete)?;
    }
    let (deleted, id) = cache::with(|s| Ok::<_, Error>((s.types.undefine(name)?, s.types.id(name))))?;
    if deleted {
        ctx.replicate_verbatim();
        id.into_iter().for_each(|id| lifetime::apply(ctx, id));
    }
    let (type_name, count) = (Some(name), Some(deleted.into()));
    audit::note(ctx, &Action { command: "expcache.type|del", type_name, count, ..audit::OK });
    ctx.reply_integer(deleted.into());
    Ok(())
}
