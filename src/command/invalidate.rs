//! `EXPCACHE.INVALIDATE.TAG`, `EXPCACHE.PURGE` and `EXPCACHE.CLEAR`: entries go, or turn stale, however many they are.
//!
//! What they mean takes effect at once, as marks in the index. Where few entries are marked they are dealt with before the reply
//! (reclaimed, or given the expiry of their grace), and replicas are told of each; where they are many, replicas are told by
//! the command itself, and the rest follows in slices (see [`reclaim`]). What is only stale is always told by the command too: its
//! key's expiry does not say it.

use std::ffi::CStr;

use expcache_core::grammar::purge::PurgeOptions;
use expcache_core::grammar::{self, all_tags};
use expcache_core::index::Ids;
use expcache_core::selector::{Clause, Selector};
use expcache_core::{Error, Result};

use super::selector;
use crate::server::access::{Right, Rights};
use crate::server::args::Args;
use crate::server::clock;
use crate::server::context::{Ctx, Recipients};
use crate::server::reclaim;
use crate::server::setting::Setting;
use crate::server::state;
use crate::server::walk::{self, Answer, Purpose};

/// Up to how many entries an invalidation reclaims before it replies.
pub static RECLAIM_INLINE: Setting = Setting::number(c"reclaim-inline", 256, 0..=10_000);

/// The most tags that one command invalidates: all of it is one step.
const MOST_TAGS: usize = 4096;

/// An invalidation, as it was asked for.
struct Invalidation {
    selector: Selector,
    wish: Wish,
    /// Is it only counted?
    dry_run: bool,
    /// How many of the keys are to be named; `None`: the reply is a number.
    keys: Option<usize>,
}

#[derive(Clone, Copy)]
enum Wish {
    /// The entries go.
    Hard,
    /// They are stale from this moment on, unix ms; `None`: from when it takes effect.
    Soft(Option<u64>),
}

/// What is done to the entries, the moment said.
#[derive(Clone, Copy)]
enum How {
    Hard,
    Soft(u64),
}

/// `EXPCACHE.INVALIDATE.TAG tag [tag …]`
pub fn invalidate_tag(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    if args.len() > MOST_TAGS && !ctx.is_handed_on() {
        return Err(Error::invalid("at most 4096 tags at a time"));
    }
    let selector = selector::any_of(&all_tags(args.words())?);
    Invalidation { selector, wish: Wish::Hard, dry_run: false, keys: None }.run(ctx)
}

/// `EXPCACHE.PURGE selector [SOFT] [DRYRUN] [KEYS max] [AT unix-ms]`
pub fn purge(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let asked = Invalidation::parse(ctx, args)?;
    if asked.selector.clauses.is_empty() {
        return Err(Error::Syntax);
    }
    asked.run(ctx)
}

/// `EXPCACHE.CLEAR [SOFT] [AT unix-ms]`
pub fn clear(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let asked = Invalidation::parse(ctx, args)?;
    if !asked.selector.clauses.is_empty() || asked.dry_run || asked.keys.is_some() {
        return Err(Error::Syntax);
    }
    asked.run(ctx)
}

impl Invalidation {
    /// See [`purge`]. `AT` is for replicas: since when the entries are stale. From a user it is never in the future; a master's
    /// clock may be ahead.
    fn parse(ctx: &Ctx, args: Args<'_>) -> Result<Self> {
        let PurgeOptions { selector, soft, dry_run, keys, at_ms } =
            PurgeOptions::parse(args.words(), selector::limits(ctx))?;
        let wish = match (soft, at_ms) {
            (None, _) => Wish::Hard,
            (Some(()), Some(at)) if ctx.decides() => Wish::Soft(Some(at.min(clock::unix_ms()))),
            (Some(()), at) => Wish::Soft(at),
        };
        Ok(Self { selector, wish, dry_run: dry_run.is_some(), keys })
    }

    fn run(self, ctx: &Ctx) -> Result<()> {
        selector::guard(ctx, Right::Delete, &self.selector)?;
        let purpose = if self.dry_run { Purpose::Read } else { Purpose::Write };
        let may = |rights: &Rights, selector: &Selector| selector::owns(rights, Right::Delete, selector);
        walk::find(ctx, self.selector.clone(), purpose, may, move |ctx, ids| self.apply(ctx, ids))
    }

    /// Invalidates what was found, and says what to reply.
    fn apply(self, ctx: &Ctx, found: &Ids) -> Answer {
        let db = ctx.db();
        let fresh;
        let (how, ids) = match self.wish {
            Wish::Hard => (How::Hard, found),
            Wish::Soft(at) => {
                let moment_ms = at.unwrap_or_else(clock::unix_ms);
                fresh = state::with(|s| s.fresh(db, found, moment_ms));
                (How::Soft(moment_ms), &fresh)
            }
        };
        let keys = self.keys.map(|most| state::with(|s| s.keys(db, ids, most)));
        let count = if self.dry_run { ids.len() } else { self.invalidate(ctx, how, ids) };
        Box::new(move |ctx| {
            reply(ctx, count, keys);
            Ok(())
        })
    }

    fn invalidate(&self, ctx: &Ctx, how: How, ids: &Ids) -> u64 {
        let db = ctx.db();
        let few = state::with(|s| {
            match how {
                How::Hard => s.kill(db, &self.selector, ids),
                How::Soft(moment_ms) => s.soften(db, &self.selector, ids, moment_ms),
            }
            ids.len() <= RECLAIM_INLINE.get()
        });
        // Replicas have to know what is stale, and since when, before they are told of the expiries that follow from it.
        let is_soft = matches!(how, How::Soft(_)) && !ids.is_empty();
        if is_soft {
            self.replicate(ctx, how);
        }
        let (mut expired, mut finished) = (0, ids.is_empty());
        if !ctx.decides() {
            finished = false;
        } else if few {
            (expired, finished) = reclaim::reclaim_now(ctx, ids);
        } else {
            expired = reclaim::reclaim_leaving(ctx, ids);
        }
        if !finished {
            if !is_soft {
                self.replicate(ctx, how);
            }
            reclaim::schedule(ctx);
        }
        ids.len().saturating_sub(expired)
    }

    fn replicate(&self, ctx: &Ctx, how: How) {
        let (command, words) = self.words(how);
        ctx.replicate_words(command, &words, Recipients::All);
    }

    /// It, as replicas and the append-only file get it.
    fn words(&self, how: How) -> (&'static CStr, Vec<Vec<u8>>) {
        let at_ms = if let How::Soft(moment_ms) = how { Some(moment_ms) } else { None };
        match (self.selector.clauses.as_slice(), how) {
            ([Clause::Any(tags)], How::Hard) => {
                (c"EXPCACHE.INVALIDATE.TAG", tags.iter().map(|tag| tag.to_vec()).collect())
            }
            (clauses, _) => {
                let command = if clauses.is_empty() { c"EXPCACHE.CLEAR" } else { c"EXPCACHE.PURGE" };
                let soft = at_ms.map(|_| ());
                let options = PurgeOptions { selector: self.selector.clone(), soft, at_ms, ..PurgeOptions::default() };
                (command, grammar::words(|to| options.write(to)))
            }
        }
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
