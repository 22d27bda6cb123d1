//! `EXPCACHE.COUNT`, `EXPCACHE.SCAN` and `EXPCACHE.TAGS`: counts and lists entries and tags; it touches none.

use expcache_core::grammar::scan::{ScanOptions, TagsOptions};
use expcache_core::index::Effort;
use expcache_core::selector::Selector;
use expcache_core::{Result, grammar};

use crate::cache;
use crate::entries::look::{Look, ReadExpiry};
use crate::invalidation::access;
use crate::invalidation::search::{self, Purpose, SELECTION_COMPLEXITY};
use crate::server::access::{Right, Rights};
use crate::server::args::{Args, Text};
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING};
use crate::server::key::Mode;

/// What listing brings to the server.
pub const FEATURE: Feature = Feature { commands: &[COUNT, SCAN, TAGS], ..NOTHING };

/// How many elements a step of an iteration looks at unless it is told, as in `SCAN`.
const STEP: usize = 10;
/// How much work it does at most, in steps of a matcher of patterns: two milliseconds or so. It lists fewer elements rather than
/// take longer.
const WORK: u64 = 1 << 20;

/// `EXPCACHE.COUNT`, for the server.
const COUNT: Row = Row {
    name: "expcache.count",
    handler: command(count),
    flags: "readonly",
    arity: -3,
    summary: "Returns how many entries a selector means.",
    complexity: SELECTION_COMPLEXITY,
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: grammar::scan::COUNT_ENTRIES,
    ..ROW
};

/// `EXPCACHE.COUNT selector`
pub fn count(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let selector = Selector::parse(args.words(), access::limits(ctx))?;
    access::guard(ctx, Right::Read, &selector)?;
    if selector.patterns().next().is_none() {
        ctx.reply_count(cache::with(|s| s.selected_len(ctx.db(), &selector)));
        return Ok(());
    }
    let may = |rights: &Rights, selector: &Selector| access::owns(rights, Right::Read, selector);
    search::select_then(ctx, selector, Purpose::Read, may, |_ctx, ids| {
        let count = ids.len();
        Box::new(move |ctx| {
            ctx.reply_count(count);
            Ok(())
        })
    })
}

/// `EXPCACHE.SCAN`, for the server.
const SCAN: Row = Row {
    name: "expcache.scan",
    handler: command(scan),
    flags: "readonly",
    arity: -2,
    summary: "Iterates over the keys of the entries that a selector means.",
    complexity: "O(1) for every call; O(N) for a whole iteration over the N entries of the smallest clause.",
    tips: "nondeterministic_output request_policy:special response_policy:special",
    args: grammar::scan::SCAN,
    ..ROW
};

/// `EXPCACHE.SCAN cursor [selector] [COUNT n]`
pub fn scan(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let ScanOptions { cursor, selector, count } = ScanOptions::parse(args.words(), access::limits(ctx))?;
    if let Some(selector) = &selector {
        access::guard(ctx, Right::Read, selector)?;
    }
    let selector = selector.unwrap_or_default();
    let (mut keys, next) = cache::with(|s| s.scan(ctx.db(), &selector, cursor, effort(count)));
    let rights = ctx.rights();
    keys.retain(|key| rights.allow(Right::Read, key) && is_there(ctx, key));
    reply_cursor(ctx, next);
    ctx.reply_array(keys.len());
    keys.iter().for_each(|key| ctx.reply_bytes(key));
    Ok(())
}

/// Not if its time is over and the server just has not expired it yet.
fn is_there(ctx: &Ctx, key: &[u8]) -> bool {
    let name = Text::new(key);
    let mut key = ctx.open(name.arg(), Mode::Peek);
    matches!(Look::at(ctx, &mut key, ReadExpiry::Always), Ok(Some(_)))
}

/// `EXPCACHE.TAGS`, for the server.
const TAGS: Row = Row {
    name: "expcache.tags",
    handler: command(tags),
    flags: "readonly",
    arity: -2,
    summary: "Iterates over the tags, each with the number of its entries.",
    complexity: "O(1) for every call; O(N) for a whole iteration over N tags.",
    tips: "nondeterministic_output request_policy:special response_policy:special",
    args: grammar::scan::TAGS,
    ..ROW
};

/// `EXPCACHE.TAGS cursor [MATCH glob] [COUNT n]`
pub fn tags(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let TagsOptions { cursor, glob, count } = TagsOptions::parse(args.words())?;
    let (mut tags, next) = cache::with(|s| s.scan_tags(ctx.db(), glob.as_ref(), cursor, effort(count)));
    let rights = ctx.rights();
    tags.retain(|(tag, _)| rights.allow(Right::Read, tag));
    reply_cursor(ctx, next);
    ctx.reply_array(2 * tags.len());
    for (tag, entries) in &tags {
        ctx.reply_bytes(tag);
        ctx.reply_count(*entries);
    }
    Ok(())
}

fn effort(count: Option<usize>) -> Effort {
    Effort { elements: count.unwrap_or(STEP), work: WORK }
}

fn reply_cursor(ctx: &Ctx, next: Option<u32>) {
    ctx.reply_array(2);
    ctx.reply_bytes(next.unwrap_or(0).to_string().as_bytes());
}
