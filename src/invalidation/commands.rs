//! `EXPCACHE.INVALIDATE.TAG`, `EXPCACHE.PURGE` and `EXPCACHE.CLEAR`: entries are invalidated, or turn stale, however many they are.

use expcache_core::audit::Action;
use expcache_core::grammar::purge::PurgeOptions;
use expcache_core::grammar::{self, all_tags};
use expcache_core::index::Ids;
use expcache_core::selector::{Clause, Selector};
use expcache_core::{Error, Result};

use super::access;
use super::invalidate::{Mode, invalidate};
use super::search::{self, Purpose, SELECTION_COMPLEXITY, SendReply};
use crate::audit::{self, Caller};
use crate::cache;
use crate::server::access::{Right, Rights};
use crate::server::args::Args;
use crate::server::clock;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;

/// The most tags that one command invalidates: all of it is one step.
const MOST_TAGS: usize = 4096;

/// A request to invalidate.
struct Request {
    selector: Selector,
    wish: Wish,
    /// Is it only counted?
    dry_run: bool,
    /// How many of the keys are to be named; `None`: the reply is a number.
    keys: Option<usize>,
    /// Who is behind it, as the client says.
    note: Option<Box<[u8]>>,
    command: &'static str,
}

#[derive(Clone, Copy)]
enum Wish {
    /// The entries go.
    Hard,
    /// They are stale from this moment on, unix ms; `None`: from when it takes effect.
    Soft(Option<u64>),
}

/// `EXPCACHE.INVALIDATE.TAG`, for the server.
pub const INVALIDATE_TAG: Row = Row {
    name: "expcache.invalidate.tag",
    handler: command(invalidate_tag),
    flags: "write",
    arity: -2,
    summary: "Makes every entry go that bears any of the tags; returns how many there were.",
    complexity: "O(N/64) for N entries of these tags; their keys are reclaimed in the background.",
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: grammar::purge::INVALIDATE_TAG,
    ..ROW
};
/// The same by another name: some cluster clients refuse a name with two dots.
pub const INVTAG: Row = Row { name: "expcache.invtag", ..INVALIDATE_TAG };

/// `EXPCACHE.INVALIDATE.TAG tag [tag …]`
pub fn invalidate_tag(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    if args.len() > MOST_TAGS && !ctx.is_handed_on() {
        return Err(Error::invalid("at most 4096 tags at a time"));
    }
    let selector = access::any_of(&all_tags(args.words())?);
    let command = INVALIDATE_TAG.name;
    Request { selector, wish: Wish::Hard, dry_run: false, keys: None, note: None, command }.run(ctx)
}

/// `EXPCACHE.PURGE`, for the server.
pub const PURGE: Row = Row {
    name: "expcache.purge",
    handler: command(purge),
    flags: "write",
    arity: -3,
    summary: "Invalidates the entries that a selector means; returns how many there were.",
    complexity: SELECTION_COMPLEXITY,
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: grammar::purge::PURGE,
    ..ROW
};

/// `EXPCACHE.PURGE selector [SOFT] [DRYRUN] [KEYS max] [NOTE text] [AT unix-ms]`
pub fn purge(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let asked = Request::parse(ctx, args, PURGE.name)?;
    if asked.selector.clauses.is_empty() {
        return Err(Error::Syntax);
    }
    asked.run(ctx)
}

/// `EXPCACHE.CLEAR`, for the server.
pub const CLEAR: Row = Row {
    name: "expcache.clear",
    handler: command(clear),
    flags: "write",
    arity: -1,
    summary: "Invalidates every entry of the database; returns how many there were. Other keys stay.",
    complexity: "O(N/64) for N entries; their keys are reclaimed in the background.",
    tips: "request_policy:all_shards response_policy:agg_sum",
    args: grammar::purge::CLEAR,
    ..ROW
};

/// `EXPCACHE.CLEAR [SOFT] [NOTE text] [AT unix-ms]`
pub fn clear(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let asked = Request::parse(ctx, args, CLEAR.name)?;
    if !asked.selector.clauses.is_empty() || asked.dry_run || asked.keys.is_some() {
        return Err(Error::Syntax);
    }
    asked.run(ctx)
}

impl Request {
    /// See [`purge`]. `AT` is for replicas: since when the entries are stale. From a user it is never in the future; a master's
    /// clock may be ahead.
    fn parse(ctx: &Ctx, args: Args<'_>, command: &'static str) -> Result<Self> {
        let PurgeOptions { selector, soft, dry_run, keys, at_ms, note } =
            PurgeOptions::parse(args.words(), access::limits(ctx))?;
        let wish = match (soft, at_ms) {
            (None, _) => Wish::Hard,
            (Some(()), Some(at)) if ctx.decides() => Wish::Soft(Some(at.min(clock::unix_ms()))),
            (Some(()), at) => Wish::Soft(at),
        };
        Ok(Self { selector, wish, dry_run: dry_run.is_some(), keys, note, command })
    }

    fn run(self, ctx: &Ctx) -> Result<()> {
        access::guard(ctx, Right::Delete, &self.selector)?;
        let purpose = if self.dry_run { Purpose::Read } else { Purpose::Write };
        let may = |rights: &Rights, selector: &Selector| access::owns(rights, Right::Delete, selector);
        // Who does it is known now; a search may take its time.
        let caller = if self.dry_run { None } else { audit::caller(ctx) };
        search::select_then(ctx, self.selector.clone(), purpose, may, move |ctx, ids| self.apply(ctx, caller, ids))
    }

    /// Invalidates what was found, and says what to reply.
    fn apply(self, ctx: &Ctx, caller: Option<Caller>, found: &Ids) -> SendReply {
        let db = ctx.db();
        let fresh;
        let (mode, ids) = match self.wish {
            Wish::Hard => (Mode::Hard, found),
            Wish::Soft(at) => {
                let moment_ms = at.unwrap_or_else(clock::unix_ms);
                fresh = cache::with(|s| s.fresh(db, found, moment_ms));
                (Mode::Soft { at_ms: moment_ms }, &fresh)
            }
        };
        let keys = self.keys.map(|most| cache::with(|s| s.keys(db, ids, most)));
        let count = if self.dry_run { ids.len() } else { invalidate(ctx, &self.selector, mode, ids) };
        if let Some(caller) = caller {
            self.record(ctx, &caller, count);
        }
        Box::new(move |ctx| {
            reply(ctx, count, keys);
            Ok(())
        })
    }

    /// Puts it on record: the tags that were named by themselves, or all that says which entries are meant.
    fn record(&self, ctx: &Ctx, caller: &Caller, count: u64) {
        let soft = if matches!(self.wish, Wish::Soft(_)) { Some(()) } else { None };
        let words;
        let tags: Vec<&[u8]> = match &*self.selector.clauses {
            [Clause::Any(tags)] if self.command == INVALIDATE_TAG.name => tags.iter().map(AsRef::as_ref).collect(),
            _ => {
                let selector = self.selector.clone();
                words = grammar::words(|to| PurgeOptions { selector, soft, ..PurgeOptions::default() }.write(to));
                words.iter().map(Vec::as_slice).collect()
            }
        };
        let (count, note) = (Some(count), self.note.as_deref());
        let action =
            Action { command: self.command, type_name: self.type_name(), tags: &tags, count, note, ..audit::OK };
        audit::note_by(ctx, caller, &action);
    }

    /// The one type that it means.
    fn type_name(&self) -> Option<&[u8]> {
        self.selector
            .clauses
            .iter()
            .find_map(|clause| if let Clause::Type(name) = clause { Some(&**name) } else { None })
    }
}

/// The count, and with it the keys that the caller may see, if any were to be named.
fn reply(ctx: &Ctx, count: u64, keys: Option<Vec<Box<[u8]>>>) {
    let Some(mut keys) = keys else { return ctx.reply_count(count) };
    let rights = ctx.rights();
    keys.retain(|key| rights.allow(Right::Read, key));
    ctx.reply_array(1 + keys.len());
    ctx.reply_count(count);
    keys.iter().for_each(|key| ctx.reply_bytes(key));
}
