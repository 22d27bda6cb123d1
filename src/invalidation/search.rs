//! Entries found by their names, which no set tells. Names are looked at in slices of bounded time: the client that asked waits, and nobody
//! else does. What was found is exact in the moment in which it is used, whatever came and went in between (the index sees
//! to that, at a small price for every entry that comes: so there are few walks at a time, and the other searches wait in line).
//! A search may be for what several selectors mean; what each does is exact in one and the same moment.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use expcache_core::index::{Ids, WalkId};
use expcache_core::selector::Selector;
use expcache_core::{Error, Result};

use crate::cache;
use crate::server::access::Rights;
use crate::server::background::{self, Background, WHILE_QUIET_MS, between_slices_ms};
use crate::server::blocked::{self, BlockedId, MAX_WAITERS, OnEnd};
use crate::server::context::Ctx;
use crate::server::guard::guard;
use crate::server::main_thread::MainThread;

/// The complexity of selecting.
pub const SELECTION_COMPLEXITY: &str =
    "O(N/64) for N entries of its tags and types; with MATCH O(N), in slices, the caller waiting and nobody else.";

/// How long names are looked at between two looks at the clock, in steps of the matcher of patterns: ten microseconds or so.
const STEPS: u64 = 8192;
/// How long where nobody can wait, so all others do: ten milliseconds or so.
const STEPS_IN_ONE_GO: u64 = 1 << 23;
/// How many searches are under way at a time.
const ABREAST: usize = 16;
/// How many selectors with patterns one search may have.
const MOST_WALKS: usize = 16;

/// Acts on the entries found, those of each selector, in one go; returns the reply to send.
type OnFound = Box<dyn FnOnce(&Ctx, &[Ids]) -> SendReply>;
/// May a client with these rights still read the selected entries, or change them?
type May = fn(&Rights, &Selector) -> bool;
/// Replies, to the client that asked.
pub type SendReply = Box<dyn FnOnce(&Ctx) -> Result<()>>;

/// The purpose for which entries are selected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing is written.
    Read,
    /// It is.
    Write,
}

/// A client's search that goes on.
pub struct Search {
    waiter: BlockedId,
    /// The database that was asked about.
    db: i32,
    parts: Vec<Part>,
    purpose: Purpose,
    /// Who asks, in which words.
    client: u64,
    words: Vec<Box<[u8]>>,
    may: May,
    then: OnFound,
}

/// What one selector means.
struct Part {
    selector: Selector,
    /// `None`: it is not its turn yet, or there are no names to look at.
    walk: Option<WalkId>,
}

impl Part {
    fn new(selector: Selector) -> Self {
        Self { selector, walk: None }
    }

    fn looks_at_names(&self) -> bool {
        self.selector.patterns().next().is_some()
    }

    /// Begins with it, if it has not begun.
    fn begin(&mut self, db: i32) {
        if self.walk.is_none() && self.looks_at_names() {
            self.walk = Some(cache::with(|s| s.start_walk(db, &self.selector)));
        }
    }

    /// What was found, as things are now.
    fn finish(&self, db: i32) -> Ids {
        cache::with(|s| match self.walk {
            Some(walk) => s.finish_walk(walk, &self.selector),
            None => s.select(db, &self.selector),
        })
    }
}

/// Looks at some more names. Is that all, for each part?
fn walk(parts: &[Part]) -> bool {
    parts.iter().filter_map(|part| part.walk).all(|walk| cache::with(|s| s.walk(walk, STEPS)))
}

fn cancel_all(parts: &[Part]) {
    parts.iter().filter_map(|part| part.walk).for_each(|walk| cache::with(|s| s.cancel_walk(walk)));
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

    /// Puts one behind all, and says how many there are.
    fn put_last(&mut self, search: Search) -> usize {
        self.waiting.push_back(search);
        self.waiting.len()
    }

    /// Puts one behind those that are under way, and says how many these are.
    fn put_back(&mut self, search: Search) -> usize {
        let abreast = ABREAST.min(self.waiting.len() + 1);
        self.waiting.insert(abreast - 1, search);
        abreast
    }
}

static SEARCHES: MainThread<Searches> = MainThread::new();

/// How many searches go on.
pub fn count() -> usize {
    SEARCHES.with(|all| all.count())
}

static SEARCHING: Background = Background::new(search);

static WAITING: OnEnd = OnEnd { gone: cancel, unblocked: None };

/// Finds the entries of the selected database that a selector means and hands them to `then`.
pub fn select_then(
    ctx: &Ctx,
    selector: Selector,
    purpose: Purpose,
    may: May,
    then: impl FnOnce(&Ctx, &Ids) -> SendReply + 'static,
) -> Result<()> {
    let then = move |ctx: &Ctx, found: &[Ids]| then(ctx, found.first().unwrap_or(&Ids::default()));
    select_all_then(ctx, vec![selector], purpose, may, then)
}

/// Finds the entries of the selected database that each of several selectors means and hands them to `then`.
pub fn select_all_then(
    ctx: &Ctx,
    selectors: Vec<Selector>,
    purpose: Purpose,
    may: May,
    then: impl FnOnce(&Ctx, &[Ids]) -> SendReply + 'static,
) -> Result<()> {
    let db = ctx.db();
    let mut parts: Vec<Part> = selectors.into_iter().map(Part::new).collect();
    let finish = |parts: &[Part]| parts.iter().map(|part| part.finish(db)).collect::<Vec<_>>();
    match parts.iter().filter(|part| part.looks_at_names()).count() {
        0 => return then(ctx, &finish(&parts))(ctx),
        1..=MOST_WALKS => {}
        _ => return Err(Error::invalid("at most 16 selectors with MATCH at a time")),
    }
    if SEARCHES.with(|all| all.waiting.len() >= MAX_WAITERS.as_usize()) {
        return Err(Error::invalid("too many clients wait, see the config expcache.max-waiters"));
    }
    let wait = |parts, then| {
        let waiter = ctx.block(&WAITING);
        let (client, words) = (ctx.client(), ctx.copied_words());
        let search = Search { waiter, db, parts, purpose, client, words, may, then };
        SEARCHES.with(|all| all.waiting.push_back(search));
        SEARCHING.schedule(ctx, between_slices_ms());
        Ok(())
    };
    let may_block = ctx.may_block();
    if may_block && count() > 0 {
        return wait(parts, Box::new(then));
    }
    parts.iter_mut().for_each(|part| part.begin(db));
    let (start, slice, mut left) = (Instant::now(), background::slice(), STEPS_IN_ONE_GO);
    while !walk(&parts) {
        if may_block && start.elapsed() > slice {
            return wait(parts, Box::new(then));
        }
        left = left.saturating_sub(STEPS);
        if left == 0 && !may_block && !ctx.is_handed_on() {
            cancel_all(&parts);
            return Err(Error::invalid("too many names to look at in a transaction or script"));
        }
    }
    then(ctx, &finish(&parts))(ctx)
}

/// Its client went.
fn cancel(waiter: BlockedId) {
    let gone = SEARCHES.with(|all| {
        let at = all.waiting.iter().position(|search| search.waiter == waiter)?;
        all.waiting.remove(at)
    });
    gone.iter().for_each(|search| cancel_all(&search.parts));
}

fn search(ctx: &Ctx) -> Option<i64> {
    let (slice, quiet) = (background::slice(), ctx.must_keep_quiet());
    let goes_on = go_on(ctx, slice, quiet);
    let is_any_left = count() > 0;
    is_any_left.then_some(if goes_on { between_slices_ms() } else { WHILE_QUIET_MS })
}

/// Goes on with the searches, in turn, for the length of a slice. `false` if all there are wait for the end of a pause.
fn go_on(ctx: &Ctx, slice: Duration, quiet: bool) -> bool {
    let start = Instant::now();
    let mut held_back = 0;
    while start.elapsed() < slice {
        let Some(mut search) = SEARCHES.with(|all| all.waiting.pop_front()) else { return true };
        search.begin();
        let done = walk(&search.parts);
        let waits = done && quiet && search.purpose == Purpose::Write;
        if done && !waits {
            search.finish(ctx);
            continue;
        }
        held_back = if waits { held_back + 1 } else { 0 };
        // What waits for the end of a pause keeps no other from its turn.
        let others = SEARCHES.with(|all| if waits { all.put_last(search) } else { all.put_back(search) });
        if held_back > others {
            return false;
        }
    }
    true
}

impl Search {
    /// Begins with what has not begun.
    fn begin(&mut self) {
        self.parts.iter_mut().for_each(|part| part.begin(self.db));
    }

    /// The database that it is about: after `SWAPDB` it is another. `None`: it was flushed.
    fn database(&self) -> Option<i32> {
        let walk = self.parts.iter().find_map(|part| part.walk)?;
        cache::with(|s| s.database_of(walk))
    }

    /// Uses what it found, and answers its client.
    fn finish(mut self, ctx: &Ctx) {
        if self.purpose == Purpose::Write && !ctx.is_master() {
            cancel_all(&self.parts);
            return blocked::answer(self.waiter, |_ctx, _args| Err(Error::Unblocked));
        }
        let Some(db) = self.database() else {
            // There is little in it by now, to be looked at from the beginning.
            self.parts.iter_mut().for_each(|part| part.walk = None);
            return SEARCHES.with(|all| all.waiting.push_back(self));
        };
        ctx.select(db);
        // The client's rights may have changed while it waited, and the server does not check them again.
        let rights = ctx.client_rights(self.client, &self.words);
        if !self.parts.iter().all(|part| (self.may)(&rights, &part.selector)) {
            cancel_all(&self.parts);
            return blocked::answer(self.waiter, |_ctx, _args| Err(Error::NoPermission));
        }
        let found: Vec<Ids> = self.parts.iter().map(|part| part.finish(db)).collect();
        match guard(None, || Some((self.then)(ctx, &found))) {
            Some(answer) => blocked::answer(self.waiter, move |ctx, _args| answer(ctx)),
            None => {
                blocked::answer(self.waiter, |_ctx, _args| Err(Error::invalid("internal error, see the server's log")))
            }
        }
    }
}
