//! `EXPCACHE.WARM [TYPES n name …] [COUNT n] [LEASE d] [WAIT d] [AHEAD d] [DRYRUN]`, and the workers that wait.
//!
//! A worker that waits is answered with leases that it was given in that moment. If it is gone when the answer comes to it, their time is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use expcache_core::grammar::warm::WarmOptions;
use expcache_core::lease::Token;
use expcache_core::{Error, Result, grammar};

use super::crews::Crew;
use super::keep;
use super::offer::{self, Asker, Looking, Offered, Untold, Wanted};
use crate::server::args::Args;
use crate::server::background::{self, Background, between_slices_ms};
use crate::server::blocked::{self, BlockedId, MAX_WAITERS, OnEnd};
use crate::server::clock;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::main_thread::MainThread;
use crate::server::replies::Value;

/// How long a lease lasts unless it is said.
const LEASE_MS: u64 = 30_000;

/// What the server is told of it.
pub const WARM: Row = Row {
    name: "expcache.warm",
    handler: command(warm),
    flags: "readonly",
    arity: -1,
    summary: "Returns the keys most worth producing now, each with a lease; waits until there is one.",
    complexity: "O(N log M) for N keys of M that are kept in mind.",
    tips: "nondeterministic_output request_policy:special response_policy:special",
    args: grammar::warm::WARM,
    ..ROW
};

/// A worker that waits.
struct Worker {
    client: BlockedId,
    db: i32,
    /// Until when, steady ms.
    until_ms: u64,
    wanted: Wanted,
    /// Whose rights count.
    number: u64,
    words: Arc<[Box<[u8]>]>,
}

/// So many are answered in one turn because their time is up.
const MOST_AT_ONCE: usize = 128;
/// One call looks at so many keys at most.
const MOST_LOOKED_AT: usize = 1000;
/// For a worker that waits so many are looked at in one turn.
const LOOKED_AT_FOR_EACH: usize = 100;
/// For so many times as long others have the server to themselves after a turn in which nothing was found for anybody: workers that may have
/// nothing of what is due can be many.
const AFTER_NOTHING: u32 = 9;
/// Who waits is looked after so often though no key became due: what stood in the way may have been something else, ms.
const PASSES_EACH_MS: u64 = 1000;

#[derive(Default)]
struct Workers {
    /// By their order of arrival.
    all: BTreeMap<u64, Worker>,
    by_time: BTreeSet<(u64, u64)>,
    numbers: HashMap<BlockedId, u64>,
    last: u64,
    /// The one that was looked at last, if there was no time for all.
    seen: u64,
    /// Has that begun anew once?
    has_begun_anew: bool,
    /// How many keys had become due when they were gone through last, and when that was.
    passed: (u64, u64),
    /// How often they were gone through.
    passes: u64,
    /// Were not all keys looked at for each?
    is_again: bool,
}

static WORKERS: MainThread<Workers> = MainThread::new();
static SERVING: Background = Background::new(|ctx| {
    serve(ctx);
    None
});
static WAITING: OnEnd = OnEnd { gone, unblocked: Some(unblocked) };

/// See the head.
pub fn warm(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let WarmOptions { types, count, lease_ms, wait_ms, ahead_ms, dry_run } = WarmOptions::parse(args.words())?;
    let wanted = Wanted {
        types: types.map(|names| names.into_iter().map(Box::from).collect()),
        count: usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX),
        lease_ms: lease_ms.unwrap_or(LEASE_MS),
        ahead_ms,
        dry_run: dry_run.is_some(),
    };
    if !wanted.dry_run && !ctx.may_lease() {
        return Err(refusal(ctx));
    }
    let rights = ctx.rights();
    let (db, client) = (ctx.db(), ctx.client());
    let asker = Asker { client, rights: &rights };
    let (offered, is_more) = if wanted.dry_run {
        (offer::next(ctx, &wanted, &asker, Looking { after: None, most: MOST_LOOKED_AT }).0, false)
    } else {
        Crew::of(ctx, db, client, &wanted).look(ctx, &wanted, &asker, MOST_LOOKED_AT, None)
    };
    let wait_ms = wait_ms.filter(|wait_ms| offered.is_empty() && *wait_ms > 0 && !wanted.dry_run);
    match wait_ms {
        Some(wait_ms) if WORKERS.with(|workers| workers.all.len() < MAX_WAITERS.as_usize()) => {
            wait(ctx, wanted, wait_ms, is_more);
        }
        _ => offered.tell(|offered| reply(ctx, offered)),
    }
    Ok(())
}

fn refusal(ctx: &Ctx) -> Error {
    if ctx.is_master() {
        Error::invalid("EXPCACHE.WARM gives no leases in a transaction or a script; DRYRUN lists the keys")
    } else {
        Error::Refused("READONLY EXPCACHE.WARM gives leases on masters only; DRYRUN lists the keys".into())
    }
}

fn reply(ctx: &Ctx, offered: &[Offered]) {
    ctx.reply_array(offered.len());
    for one in offered {
        ctx.map(&[
            ("key", Value::Bytes(&one.key)),
            ("type", Value::Bytes(&one.type_name)),
            ("reason", one.reason.name().into()),
            ("token", one.token.as_ref().map(Token::as_bytes).into()),
            ("lease", one.lease_ms.into()),
            ("worth", one.worth.into()),
            ("hits", one.hits.into()),
            ("cost", one.cost_ms.into()),
            ("format", one.format.as_deref().into()),
            ("meta", one.meta.as_deref().into()),
            ("tags", Value::Names(&one.tags)),
        ]);
    }
}

// ---- workers that wait ----

fn wait(ctx: &Ctx, wanted: Wanted, wait_ms: u64, is_more: bool) {
    let (db, number, words) = (ctx.db(), ctx.client(), ctx.copied_words().into());
    let client = ctx.block(&WAITING);
    let until_ms = clock::steady_ms().saturating_add(wait_ms);
    WORKERS.with(|workers| {
        workers.last += 1;
        let own = workers.last;
        workers.numbers.insert(client, own);
        workers.by_time.insert((until_ms, own));
        workers.all.insert(own, Worker { client, db, until_ms, wanted, number, words });
        workers.is_again |= is_more;
    });
    let next_ms = if is_more { 1 } else { i64::try_from(wait_ms).unwrap_or(i64::MAX) };
    SERVING.schedule_by(ctx, next_ms.max(1));
}

impl Workers {
    fn remove(&mut self, number: u64) -> Option<Worker> {
        let worker = self.all.remove(&number)?;
        self.numbers.remove(&worker.client);
        self.by_time.remove(&(worker.until_ms, number));
        Some(worker)
    }

    /// One after the other.
    fn next(&mut self) -> Option<u64> {
        let (number, _) = self.all.range(self.seen + 1..).next()?;
        self.seen = *number;
        Some(*number)
    }

    /// Is there reason to go through them, or to go on with it?
    fn begin_pass(&mut self, dues: u64, now_ms: u64) -> bool {
        let is_new = dues != self.passed.0;
        if self.seen != 0 && (!is_new || self.has_begun_anew) {
            return true;
        }
        let is_due = self.is_again || is_new || now_ms >= self.passed.1.saturating_add(PASSES_EACH_MS);
        if is_due {
            // What became due in the middle is for those who came first, but not so often that the last are never reached.
            self.has_begun_anew = self.seen != 0;
            (self.passed, self.is_again, self.seen) = ((dues, now_ms), false, 0);
            self.passes += 1;
        }
        is_due
    }
}

/// A worker stopped waiting by itself.
fn gone(client: BlockedId) {
    WORKERS.with(|workers| {
        let number = workers.numbers.get(&client).copied();
        number.and_then(|number| workers.remove(number))
    });
}

/// It need not wait any longer.
fn unblocked(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    reply(ctx, &[]);
    Ok(())
}

/// Sees to it that the workers that wait are served soon: a key became due.
pub fn serve_soon(ctx: &Ctx) {
    if WORKERS.with(|workers| !workers.all.is_empty()) {
        SERVING.schedule_by(ctx, between_slices_ms());
    }
}

/// Answers the workers that wait and whose time is up, or for which there is something, the first first, for a bounded time.
pub fn serve(ctx: &Ctx) {
    if WORKERS.with(|workers| workers.all.is_empty()) {
        return;
    }
    let now_ms = clock::steady_ms();
    let over: Vec<u64> = WORKERS.with(|workers| {
        let over = workers.by_time.range(..=(now_ms, u64::MAX));
        over.take(MOST_AT_ONCE).map(|(_, number)| *number).collect()
    });
    over.into_iter().for_each(|number| answer(number, None));
    let is_pass_due = WORKERS.with(|workers| workers.begin_pass(keep::dues(), now_ms));
    let start = Instant::now();
    let Pass { is_all, has_found } = if is_pass_due { pass(ctx) } else { Pass { is_all: true, has_found: false } };
    let took = start.elapsed();
    let over_ms = WORKERS.with(|workers| workers.by_time.first().map(|(until_ms, _)| *until_ms));
    if let Some(over_ms) = over_ms {
        let after_ms = match (is_all, has_found) {
            (true, _) => i64::try_from(over_ms.saturating_sub(clock::steady_ms())).unwrap_or(i64::MAX).max(1),
            (false, true) => between_slices_ms(),
            (false, false) => i64::try_from((took * AFTER_NOTHING).as_millis()).unwrap_or(i64::MAX).max(1),
        };
        SERVING.schedule_by(ctx, after_ms);
    }
}

/// How far the workers were gone through.
struct Pass {
    is_all: bool,
    /// Was there something for any?
    has_found: bool,
}

fn pass(ctx: &Ctx) -> Pass {
    let (home, start, slice) = (ctx.db(), Instant::now(), background::slice());
    let (mut is_all, mut has_found) = (true, false);
    while let Some(number) = WORKERS.with(Workers::next) {
        let offered = for_worker(ctx, number).filter(|offered| !offered.is_empty());
        if offered.is_some() {
            has_found = true;
            answer(number, offered);
        }
        if start.elapsed() > slice {
            is_all = false;
            break;
        }
    }
    ctx.select(home);
    let is_all = WORKERS.with(|workers| {
        if is_all {
            (workers.seen, workers.has_begun_anew) = (0, false);
        }
        is_all && !workers.is_again
    });
    Pass { is_all, has_found }
}

fn for_worker(ctx: &Ctx, number: u64) -> Option<Untold> {
    let (db, client, wanted, pass) = WORKERS.with(|workers| {
        let own = workers.all.get(&number)?;
        Some((own.db, own.number, own.wanted.clone(), workers.passes))
    })?;
    if !offer::may_have_any(db, &wanted) || !ctx.is_master() || !ctx.select(db) {
        return None;
    }
    let crew = Crew::of(ctx, db, client, &wanted);
    if crew.has_seen_all(pass) {
        return None;
    }
    let words = WORKERS.with(|workers| workers.all.get(&number).map(|own| Arc::clone(&own.words)));
    let rights = ctx.client_rights(client, &words.unwrap_or_default());
    let asker = Asker { client, rights: &rights };
    let (offered, is_more) = crew.look(ctx, &wanted, &asker, LOOKED_AT_FOR_EACH, Some(pass));
    WORKERS.with(|workers| workers.is_again |= offered.is_empty() && is_more);
    Some(offered)
}

fn answer(number: u64, offered: Option<Untold>) {
    let Some(Worker { client, .. }) = WORKERS.with(|workers| workers.remove(number)) else { return };
    blocked::answer(client, move |ctx, _args| {
        match offered {
            Some(offered) => offered.tell(|offered| reply(ctx, offered)),
            None => reply(ctx, &[]),
        }
        Ok(())
    });
}
