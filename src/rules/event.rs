//! `EXPCACHE.EVENT`: a client says what happened, and the rules say which entries are outdated. They are its rights that count.

use expcache_core::audit::Action;
use expcache_core::grammar::event::EventOptions;
use expcache_core::index::Ids;
use expcache_core::rules::{Captures, On};
use expcache_core::selector::Selector;
use expcache_core::{Result, grammar};

use super::set;
use crate::audit;
use crate::cache;
use crate::invalidation::search::{self, Purpose, SendReply};
use crate::invalidation::{self, Mode, access};
use crate::server::access::{Right, Rights};
use crate::server::args::Args;
use crate::server::clock;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;

/// `EXPCACHE.EVENT`, for the server.
pub const EVENT: Row = Row {
    name: "expcache.event",
    handler: command(event),
    flags: "write",
    arity: -2,
    summary: "Says what happened: carries out every EVENT rule that matches, and returns how many entries that concerned.",
    complexity: "O(log R + M) for R rules, M of which begin as the text does; and for each that matches what PURGE takes.",
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: grammar::event::EVENT,
    ..ROW
};

/// A rule that is to be carried out.
struct Consequence {
    rule: Box<[u8]>,
    selector: Selector,
    is_soft: bool,
}

/// `EXPCACHE.EVENT text [FIELD name value] … [DRYRUN] [RULES] [NOTE text]`
fn event(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let EventOptions { text, fields, dry_run, rules, note } = EventOptions::parse(args.words())?;
    let (is_dry, names_rules) = (dry_run.is_some(), rules.is_some());
    let all = consequences(text, &fields)?;
    for one in &all {
        access::guard(ctx, Right::Delete, &one.selector)?;
    }
    let purpose = if is_dry { Purpose::Read } else { Purpose::Write };
    let may = |rights: &Rights, selector: &Selector| access::owns(rights, Right::Delete, selector);
    let caller = if is_dry { None } else { audit::caller(ctx) };
    let (text, note): (Box<[u8]>, Option<Box<[u8]>>) = (text.into(), note.map(Into::into));
    let selectors = all.iter().map(|one| one.selector.clone()).collect();
    search::select_all_then(ctx, selectors, purpose, may, move |ctx, found| {
        let counts = if is_dry { count(ctx, &all, found) } else { carry_out(ctx, &all, found) };
        if let Some(caller) = caller {
            let (count, note) = (Some(counts.iter().sum()), note.as_deref());
            audit::note_by(ctx, &caller, &Action { command: EVENT.name, tags: &[&text], count, note, ..audit::OK });
        }
        let rules = names_rules.then(|| all.into_iter().map(|one| one.rule).collect());
        answer(rules, counts)
    })
}

/// What follows; nothing does if of one rule it cannot be said.
fn consequences(text: &[u8], fields: &[(&[u8], &[u8])]) -> Result<Vec<Consequence>> {
    set::with(|rules| {
        let matches = rules.matches(On::Event, text);
        let consequence = |(rule, captures): &(usize, Captures<'_>)| {
            let selector = rules.selector(*rule, captures, fields).inspect_err(|_| rules.count_error(*rule))?;
            Ok(Consequence { rule: rules.name(*rule).into(), selector, is_soft: rules.is_soft(*rule) })
        };
        matches.iter().map(consequence).collect()
    })
}

/// How many entries each rule concerns.
fn count(ctx: &Ctx, all: &[Consequence], found: &[Ids]) -> Vec<u64> {
    let concerned = |(one, ids): (&Consequence, &Ids)| Mode::now(one.is_soft).concerns(ctx.db(), ids).len();
    all.iter().zip(found).map(concerned).collect()
}

/// Carries out one rule after the other; an entry counts for the first that concerns it.
fn carry_out(ctx: &Ctx, all: &[Consequence], found: &[Ids]) -> Vec<u64> {
    let (db, mut counted, mut counts) = (ctx.db(), Ids::default(), Vec::with_capacity(all.len()));
    for (one, ids) in all.iter().zip(found) {
        let mode = Mode::now(one.is_soft);
        // Without those that the rules before made go.
        let left = ids.and(&cache::with(|cache| cache.select(db, &one.selector)));
        let ids = mode.concerns(db, &left);
        let again = ids.and(&counted).len();
        let entries = invalidation::invalidate(ctx, &one.selector, mode, &ids).saturating_sub(again);
        counted = counted.or(&ids);
        set::with(|rules| rules.count_fired_by_name(&one.rule, entries, clock::unix_ms_coarse()));
        counts.push(entries);
    }
    counts
}

/// The sum; or, with the rules' names, each with its count.
fn answer(rules: Option<Vec<Box<[u8]>>>, counts: Vec<u64>) -> SendReply {
    Box::new(move |ctx| {
        let Some(rules) = rules else {
            ctx.reply_count(counts.iter().sum());
            return Ok(());
        };
        ctx.reply_array(2 * rules.len());
        for (rule, entries) in rules.iter().zip(&counts) {
            ctx.reply_bytes(rule);
            ctx.reply_count(*entries);
        }
        Ok(())
    })
}
