//! `EXPCACHE.COUNT`, `EXPCACHE.SCAN` and `EXPCACHE.TAGS`: what there is, without touching it.

use expcache_core::Result;
use expcache_core::grammar::scan::{ScanOptions, TagsOptions};
use expcache_core::index::Effort;
use expcache_core::selector::Selector;

use super::look::{Dated, Look};
use super::selector;
use crate::server::access::{Right, Rights};
use crate::server::args::{Args, Text};
use crate::server::context::Ctx;
use crate::server::key::Mode;
use crate::server::state;
use crate::server::walk::{self, Purpose};

/// How many elements a step of an iteration looks at unless it is told, as in `SCAN`.
const STEP: usize = 10;
/// How much work it does at most, in steps of a matcher of patterns: two milliseconds or so. It lists fewer elements rather than
/// take longer.
const WORK: u64 = 1 << 20;

/// `EXPCACHE.COUNT selector`
pub fn count(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let selector = Selector::parse(args.words(), selector::limits(ctx))?;
    selector::guard(ctx, Right::Read, &selector)?;
    if selector.patterns().next().is_none() {
        ctx.reply_count(state::with(|s| s.selected_len(ctx.db(), &selector)));
        return Ok(());
    }
    let may = |rights: &Rights, selector: &Selector| selector::owns(rights, Right::Read, selector);
    walk::find(ctx, selector, Purpose::Read, may, |_ctx, ids| {
        let count = ids.len();
        Box::new(move |ctx| {
            ctx.reply_count(count);
            Ok(())
        })
    })
}

/// `EXPCACHE.SCAN cursor [selector] [COUNT n]`
pub fn scan(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let ScanOptions { cursor, selector, count } = ScanOptions::parse(args.words(), selector::limits(ctx))?;
    if let Some(selector) = &selector {
        selector::guard(ctx, Right::Read, selector)?;
    }
    let selector = selector.unwrap_or_default();
    let (mut keys, next) = state::with(|s| s.scan(ctx.db(), &selector, cursor, effort(count)));
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
    matches!(Look::at(ctx, &mut key, Dated::Always), Ok(Some(_)))
}

/// `EXPCACHE.TAGS cursor [MATCH glob] [COUNT n]`
pub fn tags(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let TagsOptions { cursor, glob, count } = TagsOptions::parse(args.words())?;
    let (mut tags, next) = state::with(|s| s.scan_tags(ctx.db(), glob.as_ref(), cursor, effort(count)));
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
