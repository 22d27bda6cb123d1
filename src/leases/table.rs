//! The tables of leases, one a database, and the clients that wait for one.
//!
//! Leases are kept in memory, and by masters only. A waiting client is in four tables: blocked in the server's, in [`WaitTable`] (twice: by its
//! number and by its time) and among its database's leases. It is in all of them or in none. Its number is one that no other ever has.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use expcache_core::lease::{Ended, Leases, Limits, Token, Wish, Woken};
use expcache_core::selector::Selector;
use expcache_core::{Error, Result};

use super::pieces::Pieces;
use crate::server::args::Args;
use crate::server::blocked::BlockedId;
use crate::server::context::Ctx;
use crate::server::deferred::DeferredReply;
use crate::server::main_thread::MainThread;
use crate::server::setting::Setting;
use crate::server::{background, clock, discard};

/// The longest that a lease lasts unless it is renewed.
pub static MAX_LEASE: Setting = Setting::duration(c"max-lease", 3_600_000, |most_ms| match most_ms {
    0 => Err(Error::invalid("leases must last longer than nothing")),
    _ => Ok(()),
});
/// The most leases, in each database.
pub static MAX_LEASES: Setting = Setting::number(c"max-leases", 100_000, 0..=10_000_000);
/// The most of them of one user; 0: any number.
pub static MAX_LEASES_PER_USER: Setting = Setting::number(c"max-leases-per-user", 0, 0..=10_000_000);
/// The most bytes that leases and keys backing off take, in each database.
pub static LEASE_MEMORY: Setting = Setting::size(c"lease-memory", 64 << 20, 0..=1 << 40);
/// The most names of tags and types that fences remember, in each database.
pub static MAX_FENCES: Setting = Setting::number(c"max-fences", 100_000, 1..=10_000_000);

/// So many waiting clients are answered in one turn at most: what the server then does for each takes longer than telling it.
pub const MOST_IN_A_TURN: usize = 128;

/// The leases of one database.
pub type Table = Leases<Selector, Pieces>;

/// All of it.
#[derive(Default)]
pub struct Board {
    tables: Vec<Table>,
    /// The clients that wait.
    pub waits: WaitTable,
    hasher: RandomState,
}

static BOARD: MainThread<Board> = MainThread::new();

/// Opens the tables. `work` must not call the server.
pub fn with<R>(work: impl FnOnce(&mut Board) -> R) -> R {
    BOARD.with(work)
}

/// No lease lasts longer than is configured.
pub fn cut(wish: Wish) -> Wish {
    Wish { duration_ms: wish.duration_ms.min(MAX_LEASE.get()), ..wish }
}

/// How many leases there may be.
pub fn limits() -> Limits {
    let each = match MAX_LEASES_PER_USER.as_usize() {
        0 => usize::MAX,
        most => most,
    };
    Limits { records: MAX_LEASES.as_usize(), bytes: LEASE_MEMORY.as_usize(), each }
}

impl Board {
    /// The leases of a database.
    pub fn of(&self, db: i32) -> Option<&Table> {
        usize::try_from(db).ok().and_then(|at| self.tables.get(at))
    }

    /// The leases of a database, to be changed.
    pub fn of_mut(&mut self, db: i32) -> Option<&mut Table> {
        let at = usize::try_from(db).ok()?;
        if self.tables.len() <= at {
            self.tables.resize_with(at + 1, Leases::default);
        }
        self.tables.get_mut(at)
    }

    /// Those of a database if there are any, to be changed.
    pub fn held_in(&mut self, db: i32) -> Option<&mut Table> {
        let at = usize::try_from(db).ok()?;
        self.tables.get_mut(at).filter(|leases| !leases.is_empty())
    }

    /// Those of every database.
    pub fn all(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    /// Those of every database, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        self.tables.iter_mut()
    }

    /// What stands for an owner's name, as long as the server runs.
    pub fn owner(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    /// A client does not wait in its database any longer.
    pub fn leave(&mut self, waiter: u64, db: i32) {
        if let Some(leases) = self.of_mut(db) {
            leases.leave(waiter);
        }
    }

    /// When something is over next, steady ms.
    pub fn next_deadline_ms(&mut self) -> Option<u64> {
        let waits = self.waits.by_time.first().map(|(until_ms, _)| *until_ms);
        self.all_mut().filter_map(|leases| leases.next_deadline()).chain(waits).min()
    }

    /// Ends what is over, as much as there is time for.
    pub fn end_what_is_over(&mut self) -> Over {
        let now_ms = clock::steady_ms();
        let mut over = self.expire(now_ms);
        for (waiter, db) in self.waits.over(now_ms) {
            self.leave(waiter, db);
            over.woken.push(Woken { waiter, lease: None });
        }
        over
    }

    fn expire(&mut self, now_ms: u64) -> Over {
        let (start, slice, mut over) = (Instant::now(), background::slice(), Over::default());
        for (db, leases) in (0..).zip(self.all_mut()) {
            while start.elapsed() < slice
                && over.woken.len() < MOST_IN_A_TURN
                && let Some(Ended { key, woken }) = leases.expire(now_ms)
            {
                if is_freed(&woken) {
                    over.freed.push((db, key));
                }
                over.woken.extend(woken);
            }
        }
        over
    }

    /// Has a thread free the tables that were put aside.
    pub fn free_aside(&mut self) {
        let aside: Vec<_> = self.all_mut().flat_map(Leases::take_aside).collect();
        if !aside.is_empty() {
            discard::on_thread(aside);
        }
    }
}

/// The clients that wait, by number, by time and by their handle.
#[derive(Default)]
pub struct WaitTable {
    by_time: BTreeSet<(u64, u64)>,
    of: HashMap<u64, WaitRecord>,
    numbers: HashMap<BlockedId, u64>,
    /// The number given out last.
    last: u64,
    /// Who was looked after last.
    seen: (u64, u64),
}

/// What was over.
#[derive(Default)]
pub struct Over {
    /// Those to be told.
    pub woken: Vec<Woken>,
    /// Keys of databases of which anybody may produce the next value.
    pub freed: Vec<(i32, Arc<[u8]>)>,
}

/// Did a lease end, for which these waited, that none of them has now?
pub fn is_freed(woken: &[Woken]) -> bool {
    woken.iter().all(|woken| woken.lease.is_none())
}

/// How a waiting client is answered in the end: by running its command again, perhaps with the lease.
pub trait Resume: Send {
    /// The key that it waits for.
    fn key(&self) -> &[u8];
    /// The lease, if it wants it.
    fn wish(&self) -> Option<Wish>;
    /// Is the answer so large that the main thread had better not make it? The key's database is selected.
    fn is_heavy(&self, ctx: &Ctx) -> bool;
    /// Answers it, from the words of its command.
    fn answer(&self, ctx: &Ctx, args: Args<'_>, lease: Option<Token>) -> Result<()>;
    /// Answers it, with the help of a worker. `false` if it is refused.
    fn answer_aside(&self, ctx: &Ctx, waiting: DeferredReply, lease: Option<Token>) -> bool;
}

/// A client's waiting.
pub struct WaitRecord {
    /// Until when, steady ms.
    pub until_ms: u64,
    /// Its client.
    pub client: BlockedId,
    /// The database of its key.
    pub db: i32,
    /// What it asks.
    pub asking: Box<dyn Resume>,
}

impl WaitTable {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.of.len()
    }

    /// A client that waits.
    pub fn get(&self, waiter: u64) -> Option<&WaitRecord> {
        self.of.get(&waiter)
    }

    /// Does it want the lease?
    pub fn wants(&self, waiter: u64) -> bool {
        self.get(waiter).is_some_and(|wait| wait.asking.wish().is_some())
    }

    /// Some of those whose time is up, with their databases.
    fn over(&self, now_ms: u64) -> Vec<(u64, i32)> {
        let over = self.by_time.range(..=(now_ms, u64::MAX)).map(|(_, waiter)| *waiter).take(MOST_IN_A_TURN);
        over.filter_map(|waiter| Some((waiter, self.of.get(&waiter)?.db))).collect()
    }

    /// One after the other, and then from the start again.
    pub fn next(&mut self) -> Option<(u64, i32, Box<[u8]>)> {
        let after = self.by_time.range((Bound::Excluded(self.seen), Bound::Unbounded)).next();
        let next = *after.or_else(|| self.by_time.first())?;
        self.seen = next;
        let wait = self.of.get(&next.1)?;
        Some((next.1, wait.db, wait.asking.key().into()))
    }

    /// A number that no other waiter has.
    pub fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The number of a client that waits.
    pub fn number_of(&self, client: BlockedId) -> Option<u64> {
        self.numbers.get(&client).copied()
    }

    /// Adds a client.
    pub fn insert(&mut self, waiter: u64, wait: WaitRecord) {
        self.by_time.insert((wait.until_ms, waiter));
        self.numbers.insert(wait.client, waiter);
        self.of.insert(waiter, wait);
    }

    /// Takes a client out.
    pub fn remove(&mut self, waiter: u64) -> Option<WaitRecord> {
        let wait = self.of.remove(&waiter)?;
        self.numbers.remove(&wait.client);
        self.by_time.remove(&(wait.until_ms, waiter));
        Some(wait)
    }
}
