//! Clients whose waiting is over, and how they come to be told: at once while they are few, the others in turns of bounded time.
//!
//! What ended is over for everybody from that moment on, whoever is told when. A client that goes meanwhile is not told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use expcache_core::lease::{Flushed, Token, Woken};

use super::table::{self, MOST_IN_A_TURN, Over, Resume, WaitRecord, WaitTable, is_freed};
use crate::server::background::{self, Background, between_slices_ms};
use crate::server::context::Ctx;
use crate::server::main_thread::MainThread;
use crate::server::{blocked, clock, feature, workers};

static TELLING: Background = Background::new(tell_next);
static ENDING: Background = Background::new(end_what_is_over);

/// What ended and is still to be told.
static ENDED: MainThread<VecDeque<ToAnswer>> = MainThread::new();

/// Sees to it that what is over next ends in time.
pub fn set_timer(ctx: &Ctx) {
    if let Some(due_ms) = table::with(table::Board::next_deadline_ms) {
        let after_ms = due_ms.saturating_sub(clock::steady_ms());
        ENDING.schedule_by(ctx, i64::try_from(after_ms).unwrap_or(i64::MAX).max(1));
    }
}

fn end_what_is_over(ctx: &Ctx) -> Option<i64> {
    let Over { woken, freed } = table::with(table::Board::end_what_is_over);
    freed.iter().for_each(|(db, key)| feature::freed(ctx, *db, key));
    ToAnswer::without_value(woken).answer(ctx);
    None
}

/// A key's lease ended without a value, for which these waited.
pub fn end_without_value(ctx: &Ctx, db: i32, key: &[u8], woken: Vec<Woken>) {
    if is_freed(&woken) {
        feature::freed(ctx, db, key);
    }
    if !woken.is_empty() {
        ToAnswer::without_value(woken).answer(ctx);
    }
}

/// Clients to answer because something ended at one time. It must not be dropped while the tables are open: it may hold a lease that
/// nobody was told of.
#[must_use]
#[derive(Default)]
pub struct ToAnswer {
    /// Those who want the lease come first.
    flushed: VecDeque<Flushed>,
    /// Then these, in this order.
    told: VecDeque<(u64, Option<Arc<UntoldLease>>)>,
}

impl ToAnswer {
    /// They are told that a lease ended without a value, whose next some of them have. These come first: their time has begun.
    pub fn without_value(mut woken: Vec<Woken>) -> Self {
        woken.sort_by_key(|woken| woken.lease.is_none());
        let mut last: Option<Arc<UntoldLease>> = None;
        let told = table::with(|board| {
            let untold = |woken: &Woken| {
                let token = woken.lease?;
                let WaitRecord { db, asking, .. } = board.waits.get(woken.waiter)?;
                // Clients that ask with one token for one key share the lease, and come one after the other.
                let shared =
                    last.take().filter(|last| last.token == token && last.db == *db && *last.key == *asking.key());
                let lease = shared.unwrap_or_else(|| Arc::new(UntoldLease::new(*db, asking.key(), token)));
                last = Some(Arc::clone(&lease));
                Some(lease)
            };
            woken.iter().map(|woken| woken.waiter).zip(woken.iter().map(untold)).collect()
        });
        drop(last);
        Self { told, ..Self::default() }
    }

    /// They are answered with what is there. If nothing is any more, one of those who want the lease gets it, so they come first: then
    /// the others can be told.
    pub fn with_value(mut waiters: Vec<u64>) -> Self {
        table::with(|board| waiters.sort_by_key(|waiter| !board.waits.wants(*waiter)));
        Self { told: waiters.into_iter().map(|waiter| (waiter, None)).collect(), ..Self::default() }
    }

    /// As [`ToAnswer::with_value`], for all waiters of some databases.
    pub fn flushed(flushed: impl IntoIterator<Item = Flushed>) -> Self {
        Self { flushed: flushed.into_iter().collect(), ..Self::default() }
    }

    /// Answers them, in so many turns as it takes.
    pub fn answer(mut self, ctx: &Ctx) {
        if !self.take_turn(ctx) {
            ENDED.with(|all| all.push_back(self));
            TELLING.schedule(ctx, between_slices_ms());
        }
        set_timer(ctx);
    }

    /// Tells some. Was that all?
    fn take_turn(&mut self, ctx: &Ctx) -> bool {
        let (start, slice) = (Instant::now(), background::slice());
        for _ in 0..MOST_IN_A_TURN {
            match table::with(|board| self.step(&board.waits)) {
                Step::Tell(waiter, untold) => tell(ctx, waiter, untold),
                Step::Over => return true,
                Step::Later => (),
            }
            if start.elapsed() > slice {
                break;
            }
        }
        false
    }

    fn step(&mut self, waits: &WaitTable) -> Step {
        let Some(flushed) = self.flushed.front_mut() else {
            return self.told.pop_front().map_or(Step::Over, |(waiter, untold)| Step::Tell(waiter, untold));
        };
        match flushed.next() {
            Some(waiter) if waits.wants(waiter) => return Step::Tell(waiter, None),
            Some(waiter) => self.told.push_back((waiter, None)),
            None => drop(self.flushed.pop_front()),
        }
        Step::Later
    }
}

enum Step {
    Tell(u64, Option<Arc<UntoldLease>>),
    Later,
    Over,
}

fn tell_next(ctx: &Ctx) -> Option<i64> {
    let mut ends = ENDED.with(VecDeque::pop_front)?;
    let is_all = ends.take_turn(ctx);
    ENDED.with(|all| {
        if !is_all {
            all.push_front(ends);
        }
        (!all.is_empty()).then_some(between_slices_ms())
    })
}

fn tell(ctx: &Ctx, waiter: u64, untold: Option<Arc<UntoldLease>>) {
    let Some(WaitRecord { client, db, asking, .. }) = table::with(|board| board.waits.remove(waiter)) else { return };
    let lease = untold.as_ref().map(|untold| untold.token);
    let learns =
        move |knows: bool| untold.iter().for_each(|untold| _ = untold.is_known.fetch_or(knows, Ordering::Relaxed));
    if is_heavy(ctx, db, &*asking) {
        workers::run_on_main(move |ctx| {
            let Some(waiting) = blocked::into_deferred(client) else { return };
            ctx.select(db);
            learns(asking.answer_aside(ctx, waiting, lease));
        });
    } else {
        blocked::answer(client, move |ctx, args| {
            asking.answer(ctx, args, lease)?;
            learns(true);
            Ok(())
        });
    }
}

fn is_heavy(ctx: &Ctx, db: i32, asking: &dyn Resume) -> bool {
    let selected = ctx.db();
    ctx.select(db);
    let is_heavy = asking.is_heavy(ctx);
    ctx.select(selected);
    is_heavy
}

/// The holder of a lease was never told of it, and cannot be any more: the lease's time is over.
pub fn withdraw(db: i32, key: &[u8], token: Token) {
    table::with(|board| {
        let now_ms = clock::steady_ms();
        // The timer sees to the rest; the server's clock sees to the timer.
        board.of_mut(db).is_some_and(|leases| leases.renew(key, token, now_ms, 0))
    });
}

/// A lease granted to waiting clients none of which has been told yet: mostly one, several if they asked with one token. Dropped
/// untold, it gives the lease up.
struct UntoldLease {
    db: i32,
    key: Box<[u8]>,
    token: Token,
    is_known: AtomicBool,
}

impl UntoldLease {
    fn new(db: i32, key: &[u8], token: Token) -> Self {
        Self { db, key: key.into(), token, is_known: AtomicBool::new(false) }
    }
}

impl Drop for UntoldLease {
    fn drop(&mut self) {
        if *self.is_known.get_mut() {
            return;
        }
        withdraw(self.db, &self.key, self.token);
    }
}
