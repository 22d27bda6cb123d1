//! `EXPCACHE.COUNT`, `EXPCACHE.SCAN` and `EXPCACHE.TAGS`: what there is, without touching it.

use expcache_core::index::Effort;
use expcache_core::selector::Selector;
use expcache_core::{Error, Result, units};

use super::look::{Dated, Look};
use super::parse::{self, once};
use super::selector::{self, Clauses};
use crate::server::access::{Right, Rights};
use crate::server::args::{Arg, Args, Text};
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
pub fn count(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let mut clauses = Clauses::new(ctx);
    while let Some(word) = args.next() {
        if !clauses.take(word, &mut args)? {
            return Err(Error::Syntax);
        }
    }
    let selector = clauses.selector().ok_or(Error::Syntax)?;
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
pub fn scan(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let cursor = cursor(args.need()?)?;
    let (mut clauses, mut count) = (Clauses::new(ctx), None);
    while let Some(word) = args.next() {
        match clauses.take(word, &mut args)? {
            true => {}
            false if parse::is(word, "COUNT") => once(&mut count, steps(args.need()?)?)?,
            false => return Err(Error::Syntax),
        }
    }
    let selector = clauses.selector();
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
pub fn tags(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let cursor = cursor(args.need()?)?;
    let (mut glob, mut count) = (None, None);
    while let Some(word) = args.next() {
        match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
            b"MATCH" => once(&mut glob, selector::pattern(&mut args)?)?,
            b"COUNT" => once(&mut count, steps(args.need()?)?)?,
            _ => return Err(Error::Syntax),
        }
    }
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

/// Where an iteration goes on: 0 at its beginning, and again at its end.
fn cursor(arg: Arg<'_>) -> Result<u32> {
    let number = units::parse_u64(arg.bytes()).ok().and_then(|number| u32::try_from(number).ok());
    number.ok_or(Error::invalid("invalid cursor"))
}

fn steps(arg: Arg<'_>) -> Result<usize> {
    match parse::number(arg)? {
        0 => Err(Error::Syntax),
        steps => Ok(usize::try_from(steps).unwrap_or(usize::MAX)),
    }
}

fn effort(count: Option<usize>) -> Effort {
    Effort { elements: count.unwrap_or(STEP), work: WORK }
}

fn reply_cursor(ctx: &Ctx, next: Option<u32>) {
    ctx.reply_array(2);
    ctx.reply_bytes(next.unwrap_or(0).to_string().as_bytes());
}
