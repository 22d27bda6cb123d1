//! Rankings that lost too many entries are completed: all keys are looked at again, in slices of bounded time.
//!
//! The index keeps rankings exact as long as they are (see [`expcache_core::stats::ranking`]); this is for what it cannot know
//! without a look at entries that were never ranked. After a walk there is a rest of several times its length, so that entries
//! that come and go by the thousand cost no more than a small share of the server's time.

use std::time::{Duration, Instant};

use super::background;
use super::background::Background;
use super::context::Ctx;
use super::key::Found;
use super::scan::Cursor;
use super::state;

/// How long others have the server to themselves between two slices, ms.
const BETWEEN_SLICES_MS: i64 = 5;
/// A rest is so many times as long as the walk before it.
const REST: u32 = 4;

static WALKING: Background = Background::new(walk_on);

/// The walk that is under way, or the rest after it.
#[derive(Default)]
pub struct Ranking {
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
    pub fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    /// Begins anew if a walk is under way: what it has seen is elsewhere now.
    pub fn restart(&mut self) {
        if let Some(walk) = &mut self.walk {
            (walk.db, walk.cursor) = (0, Cursor::start());
        }
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|end| Instant::now() < end)
    }
}

/// Begins a walk if rankings are to be completed.
pub fn schedule(ctx: &Ctx) {
    let due = state::with(|s| {
        let due = !s.ranking.is_under_way() && s.indexes().any(|(_, index)| index.lacks_ranks()) && !s.ranking.rests();
        if due {
            s.reopen_rankings();
            s.ranking.walk = Some(Walk { db: 0, cursor: Cursor::start(), started: Instant::now() });
        }
        due
    });
    if due {
        WALKING.schedule(ctx, BETWEEN_SLICES_MS);
    }
}

fn walk_on(ctx: &Ctx) -> Option<i64> {
    let mut walk = state::with(|s| s.ranking.walk.take())?;
    let goes_on = go_on(ctx, &mut walk, background::slice());
    state::with(|s| match goes_on {
        true => s.ranking.walk = Some(walk),
        false => s.ranking.rests_until = Some(Instant::now() + walk.started.elapsed() * REST),
    });
    goes_on.then_some(BETWEEN_SLICES_MS)
}

/// Shows entries to the rankings for the length of a slice. `false` when all were shown.
fn go_on(ctx: &Ctx, walk: &mut Walk, slice: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < slice {
        if state::with(|s| s.index(walk.db).is_none()) || !ctx.select(walk.db) {
            return false;
        }
        let more = ctx.scan_step(&walk.cursor, &mut |_key, found, _expire_at_ms| {
            if let Found::Entry(entry) = found {
                state::with(|s| s.rank(entry));
            }
        });
        if !more {
            (walk.db, walk.cursor) = (walk.db + 1, Cursor::start());
        }
    }
    true
}
