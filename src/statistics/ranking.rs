//! Rankings that lost too many entries are completed: all keys are looked at again, in slices of bounded time.
//!
//! The index keeps rankings exact as long as they are (see [`expcache_core::stats::ranking`]); this is for what it cannot know
//! without a look at entries that were never ranked. After a walk there is a rest of several times its length, so that entries
//! that come and go by the thousand cost no more than a small share of the server's time.

use std::time::{Duration, Instant};

use crate::cache::{self, Cache};
use crate::server::background::{self, Background};
use crate::server::context::Ctx;
use crate::server::key::Found;
use crate::server::main_thread::MainThread;
use crate::server::scan::Cursor;

/// How long others have the server to themselves between two slices, ms.
const BETWEEN_SLICES_MS: i64 = 5;
/// A rest is so many times as long as the walk before it.
const REST: u32 = 4;

static WALKING: Background = Background::new(walk_on);

/// The walk that is under way, or the rest after it.
#[derive(Default)]
struct Ranking {
    walk: Option<Walk>,
    rests_until: Option<Instant>,
}

struct Walk {
    db: i32,
    cursor: Cursor,
    started: Instant,
}

impl Ranking {
    /// Is a walk under way?
    fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    /// Begins anew if a walk is under way: what it has seen is elsewhere now.
    fn restart(&mut self) {
        if let Some(walk) = &mut self.walk {
            (walk.db, walk.cursor) = (0, Cursor::start());
        }
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|end| Instant::now() < end)
    }
}

static RANKING: MainThread<Ranking> = MainThread::new();

/// Is a walk under way?
pub fn is_under_way() -> bool {
    RANKING.with(|ranking| ranking.is_under_way())
}

/// Begins anew if a walk is under way: what it has seen is elsewhere now.
pub fn restart() {
    RANKING.with(Ranking::restart);
}

/// Begins a walk if rankings are to be completed.
pub fn schedule(ctx: &Ctx) {
    let is_free = RANKING.with(|ranking| !ranking.is_under_way() && !ranking.rests());
    if !is_free || !cache::with(|cache| cache.indexes().any(|(_, index)| index.lacks_ranks())) {
        return;
    }
    cache::with(Cache::reopen_rankings);
    RANKING.with(|ranking| {
        ranking.walk = Some(Walk { db: 0, cursor: Cursor::start(), started: Instant::now() });
    });
    WALKING.schedule(ctx, BETWEEN_SLICES_MS);
}

fn walk_on(ctx: &Ctx) -> Option<i64> {
    let mut walk = RANKING.with(|ranking| ranking.walk.take())?;
    let goes_on = go_on(ctx, &mut walk, background::slice());
    RANKING.with(|ranking| match goes_on {
        true => ranking.walk = Some(walk),
        false => ranking.rests_until = Some(Instant::now() + walk.started.elapsed() * REST),
    });
    goes_on.then_some(BETWEEN_SLICES_MS)
}

/// Shows entries to the rankings for the length of a slice. `false` when all were shown.
fn go_on(ctx: &Ctx, walk: &mut Walk, slice: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < slice {
        if cache::with(|s| s.index(walk.db).is_none()) || !ctx.select(walk.db) {
            return false;
        }
        let more = ctx.scan_step(&walk.cursor, &mut |_key, found, _expire_at_ms| {
            if let Found::Entry(entry) = found {
                cache::with(|s| s.rank(entry));
            }
        });
        if !more {
            (walk.db, walk.cursor) = (walk.db + 1, Cursor::start());
        }
    }
    true
}
