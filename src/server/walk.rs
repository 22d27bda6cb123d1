//! Entries found by their names, which no set tells: names are looked at in slices of bounded time, the asker waiting and
//! nobody else. What was found is exact in the moment in which it is used, whatever came and went in between (the index sees
//! to that).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use expcache_core::index::{Ids, WalkId};
use expcache_core::selector::Selector;
use expcache_core::{Error, Result};

use super::background::{BETWEEN_SLICES_MS, Background, WHILE_QUIET_MS};
use super::blocked::{self, Kind, Waiter};
use super::context::Ctx;
use super::{guard, state};

/// How many names are looked at between two looks at the clock.
const STEP: usize = 256;

/// What is done with what was found, in one go; it says what to reply.
type Then = Box<dyn FnOnce(&Ctx, &Ids) -> Answer>;
/// Replies, to the client that asked.
pub type Answer = Box<dyn FnOnce(&Ctx) -> Result<()>>;

/// What is going to be done with what is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing is written.
    Read,
    /// It is.
    Write,
}

/// A client's search that goes on.
pub struct Search {
    waiter: Waiter,
    /// The database that was asked about.
    db: i32,
    walk: WalkId,
    selector: Selector,
    purpose: Purpose,
    then: Then,
}

/// All of them.
#[derive(Default)]
pub struct Searches {
    waiting: VecDeque<Search>,
}

impl Searches {
    /// How many go on.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }
}

static SEARCHING: Background = Background::new(search);

static WAITING: Kind = Kind { gone: cancel, unblocked: None };

/// Finds the entries of the selected database that a selector means and hands them to `then`.
pub fn find(
    ctx: &Ctx,
    selector: Selector,
    purpose: Purpose,
    then: impl FnOnce(&Ctx, &Ids) -> Answer + 'static,
) -> Result<()> {
    let db = ctx.db();
    if selector.patterns().next().is_none() {
        let ids = state::with(|s| s.select(db, &selector));
        return then(ctx, &ids)(ctx);
    }
    if state::with(|s| s.searches.waiting.len() >= s.config.max_waiters) {
        return Err(Error::invalid("too many clients wait, see the config expcache.max-waiters"));
    }
    let (walk, slice) = state::with(|s| (s.start_walk(db, &selector), s.slice()));
    let (start, may_block) = (Instant::now(), ctx.may_block());
    while !state::with(|s| s.walk(walk, STEP)) {
        if may_block && start.elapsed() > slice {
            let waiter = ctx.block(&WAITING);
            let search = Search { waiter, db, walk, selector, purpose, then: Box::new(then) };
            state::with(|s| s.searches.waiting.push_back(search));
            SEARCHING.schedule(ctx, BETWEEN_SLICES_MS);
            return Ok(());
        }
    }
    let ids = state::with(|s| s.finish_walk(walk, &selector));
    then(ctx, &ids)(ctx)
}

/// Its client went.
fn cancel(waiter: Waiter) {
    state::with(|s| {
        let at = s.searches.waiting.iter().position(|search| search.waiter == waiter);
        if let Some(search) = at.and_then(|at| s.searches.waiting.remove(at)) {
            s.cancel_walk(search.walk);
        }
    });
}

fn search(ctx: &Ctx) -> Option<i64> {
    let (slice, quiet) = (state::with(|s| s.slice()), ctx.must_keep_quiet());
    let goes_on = go_on(ctx, slice, quiet);
    let is_any_left = state::with(|s| s.searches.count() > 0);
    is_any_left.then_some(if goes_on { BETWEEN_SLICES_MS } else { WHILE_QUIET_MS })
}

/// Goes on with the searches, in turn, for the length of a slice. `false` if all there are wait for the end of a pause.
fn go_on(ctx: &Ctx, slice: Duration, quiet: bool) -> bool {
    let start = Instant::now();
    let mut held_back = 0;
    while start.elapsed() < slice {
        let Some((done, waits)) = state::with(|s| {
            let (walk, writes) = {
                let search = s.searches.waiting.front()?;
                (search.walk, search.purpose == Purpose::Write)
            };
            let done = s.walk(walk, STEP);
            Some((done, done && writes && quiet))
        }) else {
            return true;
        };
        if done && !waits {
            finish(ctx);
            continue;
        }
        held_back = if waits { held_back + 1 } else { 0 };
        state::with(|s| s.searches.waiting.rotate_left(1));
        if held_back > state::with(|s| s.searches.waiting.len()) {
            return false;
        }
    }
    true
}

/// Uses what the first search found, and answers its client.
fn finish(ctx: &Ctx) {
    let Some(mut search) = state::with(|s| s.searches.waiting.pop_front()) else { return };
    if search.purpose == Purpose::Write && !ctx.is_master() {
        state::with(|s| s.cancel_walk(search.walk));
        return blocked::answer(search.waiter, |_ctx, _args| Err(Error::Unblocked));
    }
    let Some(db) = state::with(|s| s.database_of(search.walk)) else {
        // The database was flushed. There is little in it by now, to be looked at from the beginning.
        state::with(|s| {
            search.walk = s.start_walk(search.db, &search.selector);
            s.searches.waiting.push_back(search);
        });
        return;
    };
    let ids = state::with(|s| s.finish_walk(search.walk, &search.selector));
    ctx.select(db);
    match guard(None, || Some((search.then)(ctx, &ids))) {
        Some(answer) => blocked::answer(search.waiter, move |ctx, _args| answer(ctx)),
        None => {
            blocked::answer(search.waiter, |_ctx, _args| Err(Error::invalid("internal error, see the server's log")))
        }
    }
}
