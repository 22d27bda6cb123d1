//! The commands: each parses its words, does its work, replies. No `unsafe` here.

mod check;
mod debug;
mod del;
mod evict;
pub mod fetch;
mod health;
mod invalidate;
mod keyfor;
mod lease;
mod list;
mod look;
mod payload;
mod plan;
mod read;
mod restore;
mod selector;
mod selftest;
mod set;
mod stats;
mod top;
pub mod types;

use expcache_core::Result;
use expcache_core::grammar;
use expcache_core::grammar::syntax::{KEY, integer, syntax, text};

use crate::server::args::Args;
use crate::server::command::{Keys, LEASES, OVERWRITES, READS, REMOVES, ROW, Row, command, subcommand};
use crate::server::context::Ctx;
use crate::server::feature::Feature;
use crate::server::{leases, settle, state};

/// What the commands bring.
pub const FEATURE: Feature = Feature {
    commands: TABLE,
    settings: &[
        &state::PREFIX,
        &types::DEFAULT_TTL,
        &state::MAX_TYPES,
        &invalidate::RECLAIM_INLINE,
        &leases::MAX_LEASE,
        &leases::MAX_LEASES,
        &leases::MAX_LEASES_PER_USER,
        &leases::LEASE_MEMORY,
        &leases::MAX_FENCES,
        &health::MIN_HIT_RATE,
        &payload::OFFLOAD_WRITE_SIZE,
        &payload::OFFLOAD_READ_SIZE,
        &payload::MAX_DECODED,
        &payload::MAX_RATIO,
        &settle::MIN_SAVING,
        &state::MISS_MEMORY,
    ],
};

/// The only list of commands there is: everything a server or a page of documentation knows of them comes from here.
const TABLE: &[Row] = &[
    Row {
        name: "expcache.set",
        handler: command(set::set),
        flags: "write deny-oom fast",
        keys: Keys::First,
        key_flags: OVERWRITES,
        arity: -3,
        summary: "Stores an entry, replacing everything about the one that may be there.",
        complexity: "O(T) for T tags, and the copy of the payload.",
        args: grammar::set::SET,
        ..ROW
    },
    Row {
        name: "expcache.mset",
        handler: command(set::mset),
        flags: "write deny-oom",
        keys: Keys::CountedPairs,
        key_flags: OVERWRITES,
        arity: -4,
        summary: "Stores several entries with the same options, all or none.",
        complexity: "O(N*T) for N keys and T tags, and the copy of the payloads.",
        tips: "request_policy:multi_shard response_policy:all_succeeded",
        args: grammar::set::MSET,
        ..ROW
    },
    Row {
        name: "expcache.get",
        handler: command(read::get),
        flags: "readonly fast",
        keys: Keys::First,
        key_flags: READS,
        arity: 2,
        summary: "Returns the payload of a fresh entry.",
        args: &[KEY],
        ..ROW
    },
    Row {
        name: "expcache.mget",
        handler: command(read::mget),
        flags: "readonly fast",
        keys: Keys::All,
        key_flags: READS,
        arity: -2,
        summary: "Returns the payloads of fresh entries, null for each other key.",
        complexity: "O(N) for N keys.",
        tips: "request_policy:multi_shard",
        args: &[KEY.multiple()],
        ..ROW
    },
    Row {
        name: "expcache.fetch",
        handler: command(fetch::fetch),
        flags: "readonly",
        keys: Keys::First,
        key_flags: READS,
        arity: -2,
        summary: "Returns an entry with what is known of it: its state, payload or part of it, etag, type and age.",
        complexity: "O(1) on the main thread; large payloads are hashed, decoded and sent by a worker.",
        args: grammar::fetch::FETCH,
        ..ROW
    },
    Row {
        name: "expcache.meta",
        handler: command(read::meta),
        flags: "readonly",
        keys: Keys::First,
        key_flags: READS,
        arity: 2,
        summary: "Returns everything known of an entry but its payload. Counts as no use of it.",
        complexity: "O(T) for T tags; the client waits for the MD5 of a large payload that was just stored.",
        args: &[KEY],
        ..ROW
    },
    Row {
        name: "expcache.del",
        handler: command(del::del),
        flags: "write",
        keys: Keys::All,
        key_flags: REMOVES,
        arity: -2,
        summary: "Removes entries; returns how many there were.",
        complexity: "O(N*T) for N keys of T tags.",
        tips: "request_policy:multi_shard response_policy:agg_sum",
        args: &[KEY.multiple()],
        ..ROW
    },
    Row {
        name: "expcache.renew",
        handler: command(lease::renew),
        flags: "fast",
        keys: Keys::First,
        key_flags: LEASES,
        arity: 4,
        summary: "Extends a lease; returns 1, or 0 if it is not the caller's.",
        complexity: "O(log N) for N leases.",
        args: grammar::lease::RENEW,
        ..ROW
    },
    Row {
        name: "expcache.release",
        handler: command(lease::release),
        flags: "fast",
        keys: Keys::First,
        key_flags: LEASES,
        arity: -3,
        summary: "Gives a lease up; returns 1, or 0 if it is not the caller's.",
        complexity: "O(log N + W) for N leases and W clients that wait.",
        args: grammar::lease::RELEASE,
        ..ROW
    },
    Row {
        name: "expcache.restore",
        handler: command(restore::restore),
        flags: "write deny-oom",
        keys: Keys::First,
        key_flags: OVERWRITES,
        arity: 5,
        summary: "Stores an entry in its resolved form. Replication and the append-only file use it.",
        complexity: "O(T) for T tags, and the copy of the payload.",
        args: &[KEY, integer("expire-at-milliseconds"), text("metadata"), text("payload")],
        ..ROW
    },
    Row {
        name: "expcache.keyfor",
        handler: command(keyfor::keyfor),
        flags: "readonly fast allow-stale allow-loading",
        arity: -2,
        summary: "Returns the key for a request: the same parameters in any order give the same key.",
        complexity: "O(N) for N bytes of parameters.",
        args: grammar::key::KEYFOR,
        ..ROW
    },
    Row { name: "expcache.invalidate.tag", ..INVALIDATE_TAG },
    // Some cluster clients refuse a name with two dots.
    Row { name: "expcache.invtag", ..INVALIDATE_TAG },
    Row {
        name: "expcache.purge",
        handler: command(invalidate::purge),
        flags: "write",
        arity: -3,
        summary: "Invalidates the entries that a selector means; returns how many there were.",
        complexity: SELECTS,
        tips: "request_policy:all_shards response_policy:agg_sum",
        args: grammar::purge::PURGE,
        ..ROW
    },
    Row {
        name: "expcache.clear",
        handler: command(invalidate::clear),
        flags: "write",
        arity: -1,
        summary: "Invalidates every entry of the database; returns how many there were. Other keys stay.",
        complexity: "O(N/64) for N entries; their keys are reclaimed in the background.",
        tips: "request_policy:all_shards response_policy:agg_sum",
        args: grammar::purge::CLEAR,
        ..ROW
    },
    Row {
        name: "expcache.count",
        handler: command(list::count),
        flags: "readonly",
        arity: -3,
        summary: "Returns how many entries a selector means.",
        complexity: SELECTS,
        tips: "request_policy:all_shards response_policy:agg_sum",
        args: grammar::scan::COUNT_ENTRIES,
        ..ROW
    },
    Row {
        name: "expcache.scan",
        handler: command(list::scan),
        flags: "readonly",
        arity: -2,
        summary: "Iterates over the keys of the entries that a selector means.",
        complexity: "O(1) for every call; O(N) for a whole iteration over the N entries of the smallest clause.",
        tips: "nondeterministic_output request_policy:special response_policy:special",
        args: grammar::scan::SCAN,
        ..ROW
    },
    Row {
        name: "expcache.tags",
        handler: command(list::tags),
        flags: "readonly",
        arity: -2,
        summary: "Iterates over the tags, each with the number of its entries.",
        complexity: "O(1) for every call; O(N) for a whole iteration over N tags.",
        tips: "nondeterministic_output request_policy:special response_policy:special",
        args: grammar::scan::TAGS,
        ..ROW
    },
    Row {
        name: "expcache.type",
        arity: -2,
        summary: "A container for commands on types and their policies.",
        complexity: "Depends on subcommand.",
        subcommands: TYPE_SUBCOMMANDS,
        ..ROW
    },
    Row {
        name: "expcache.stats",
        handler: command(stats::stats),
        flags: "readonly allow-stale allow-loading",
        arity: -1,
        summary: "Returns what there is and what was counted, overall or of one type, lately or at all; or starts counting anew.",
        complexity: "O(T) for T types.",
        tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        args: grammar::stats::STATS,
        ..ROW
    },
    Row {
        name: "expcache.top",
        handler: command(top::top),
        flags: "readonly",
        arity: -1,
        summary: "Returns the first entries of the database by hits, size, cost or time saved.",
        complexity: "O(T) for T types.",
        tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        args: grammar::top::TOP,
        ..ROW
    },
    Row {
        name: "expcache.health",
        handler: command(health::health),
        flags: "readonly allow-stale allow-loading",
        arity: 1,
        summary: "Returns whether all is well, and what was checked: each figure, its limit and the verdict.",
        complexity: "O(T) for T types.",
        tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        ..ROW
    },
    Row {
        name: "expcache.selftest",
        handler: command(selftest::selftest),
        flags: "write deny-oom",
        arity: 1,
        summary: "Stores, reads, expires, invalidates and deletes an entry of its own; returns how each step went.",
        tips: "nondeterministic_output request_policy:all_shards response_policy:special",
        ..ROW
    },
    Row {
        name: "expcache.debug",
        arity: -2,
        summary: "A container for commands that diagnose.",
        complexity: "Depends on subcommand.",
        subcommands: DEBUG_SUBCOMMANDS,
        ..ROW
    },
];

const INVALIDATE_TAG: Row = Row {
    handler: command(invalidate::invalidate_tag),
    flags: "write",
    arity: -2,
    summary: "Makes every entry go that bears any of the tags; returns how many there were.",
    complexity: "O(N/64) for N entries of these tags; their keys are reclaimed in the background.",
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: grammar::purge::INVALIDATE_TAG,
    ..ROW
};

const SELECTS: &str =
    "O(N/64) for N entries of its tags and types; with MATCH O(N), in slices, the caller waiting and nobody else.";

static TYPE_SUBCOMMANDS: &[Row] = &[
    Row {
        name: "set",
        handler: subcommand(types::set),
        flags: "write admin",
        arity: -3,
        summary: "Defines a type, or changes the named fields of its policy.",
        tips: "request_policy:all_shards response_policy:all_succeeded",
        args: grammar::policy::TYPE_SET,
        ..TYPE_ROW
    },
    Row {
        name: "get",
        handler: subcommand(types::get),
        flags: "readonly fast allow-stale",
        arity: 3,
        summary: "Returns a type's policy.",
        args: &[text("name")],
        ..TYPE_ROW
    },
    Row {
        name: "list",
        handler: subcommand(types::list),
        flags: "readonly allow-stale",
        arity: 2,
        summary: "Returns the names of the defined types.",
        complexity: "O(T log T) for T types.",
        ..TYPE_ROW
    },
    Row {
        name: "del",
        handler: subcommand(types::del),
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

static DEBUG_SUBCOMMANDS: &[Row] = &[
    Row {
        name: "check",
        handler: subcommand(debug::check),
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
const HELP: &str = "Returns helpful text about the different subcommands.";

fn type_help(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    help(ctx, "EXPCACHE.TYPE", TYPE_SUBCOMMANDS);
    Ok(())
}

fn debug_help(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    help(ctx, "EXPCACHE.DEBUG", DEBUG_SUBCOMMANDS);
    Ok(())
}

/// As the server's own containers answer `HELP`.
fn help(ctx: &Ctx, container: &str, subcommands: &[Row]) {
    ctx.reply_array(1 + 2 * subcommands.len());
    ctx.reply_line(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for row in subcommands {
        ctx.reply_line(&syntax(&row.name.to_ascii_uppercase(), row.args));
        ctx.reply_line(&format!("    {}", row.summary));
    }
}
