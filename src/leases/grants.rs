//! Leases in the server: whom they may be given to, what their holders do, and what happens to them as keys and tags change.
//!
//! What ends a client's waiting goes through [`ToAnswer`], which answers it as it [asks](Resume).

use std::time::Instant;

use expcache_core::lease::{Asked, Leases, Named, Standing, Subject, Token, Wish};
use expcache_core::selector::Selector;
use expcache_core::{Error, Result};

use super::ends::{ToAnswer, end_without_value, set_timer};
use super::pieces::Pieces;
use super::table::{self, MAX_FENCES, MAX_LEASE, Resume, WaitRecord};
use crate::server::args::{Arg, Text};
use crate::server::blocked::{BlockedId, MAX_WAITERS, OnEnd};
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::server::{background, clock};

/// What a reader is told of a key's lease.
#[derive(Clone, Copy, Default)]
pub struct Offer {
    /// It is the reader's.
    pub lease: Option<Token>,
    /// It is since just now.
    pub is_new: bool,
    /// Another client holds it.
    pub is_held: bool,
    /// Another holds it, or the key backs off, for so many ms at most.
    pub retry_ms: Option<u64>,
}

impl From<Standing> for Offer {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Free => Self::default(),
            Standing::Held(left_ms) => Self { is_held: true, retry_ms: Some(left_ms), ..Self::default() },
            Standing::BackingOff(left_ms) => Self { retry_ms: Some(left_ms), ..Self::default() },
        }
    }
}

/// A new token.
pub fn new_token() -> Token {
    clock::secret().into()
}

impl Ctx {
    /// May leases be given to the client whose command runs? Not on a replica, in a transaction or in a script.
    pub fn may_lease(&self) -> bool {
        self.may_block() && self.is_master()
    }
}

// ---- readers ----

/// Says what stands in the way of the lease of a key of the selected database; gives it to a reader who wishes for it if nothing
/// does.
pub fn offer(ctx: &Ctx, key: Arg<'_>, wish: Option<Wish>) -> Offer {
    let (db, name) = (ctx.db(), key.bytes());
    let (standing, is_theirs) = table::with(|board| {
        let now_ms = clock::steady_ms();
        let Some(leases) = board.of(db) else { return (Standing::Free, false) };
        let is_theirs = wish.is_some_and(|wish| leases.production_ms(name, wish.token, now_ms).is_some());
        (leases.standing(name, now_ms), is_theirs)
    });
    let may_be_given = is_theirs || !matches!(standing, Standing::BackingOff(_) | Standing::Held(1..));
    let Some(wish) = wish.filter(|_| may_be_given && ctx.accepts_writes()) else { return standing.into() };
    let asked = table::with(|board| {
        let (now_ms, wish) = (clock::steady_ms(), table::cut(wish));
        let limits = table::limits();
        board.of_mut(db).map_or(Asked::Full, |leases| leases.ask(name, now_ms, wish, limits))
    });
    match asked {
        Asked::Granted | Asked::Again => {
            set_timer(ctx);
            Offer { lease: Some(wish.token), is_new: asked == Asked::Granted, ..Offer::default() }
        }
        Asked::Held { left_ms } => Standing::Held(left_ms).into(),
        Asked::BackingOff { left_ms } => Standing::BackingOff(left_ms).into(),
        Asked::Full => Offer::default(),
    }
}

/// May this client be given leases of a key? Who may not store it could only keep others from doing so.
pub fn may_hold(ctx: &Ctx, client: u64, key: &[u8]) -> bool {
    ctx.client_may_run(client, &[b"EXPCACHE.SET", key, b""])
}

/// Whose leases a client's count as: its user's.
pub fn owner(ctx: &Ctx, client: u64) -> u64 {
    let name = ctx.client_user_name(client);
    table::with(|board| name.map_or(0, |name| board.owner(name.arg().bytes())))
}

/// Does an owner hold no more leases in the selected database than it may?
pub fn is_within_share(ctx: &Ctx, owner: u64) -> bool {
    let db = ctx.db();
    table::with(|board| board.of(db).is_none_or(|leases| leases.owned_len(owner) <= table::limits().each))
}

/// Has the client wait for what becomes of a key's lease, for `wait_ms` at most. `false` if it may not.
pub fn wait(ctx: &Ctx, kind: &'static OnEnd, asking: impl Resume + 'static, wait_ms: u64) -> bool {
    let db = ctx.db();
    if !ctx.may_lease() || table::with(|board| board.waits.count() >= MAX_WAITERS.as_usize()) {
        return false;
    }
    let client = ctx.block(kind);
    let (waiter, waits) = table::with(|board| {
        let until_ms = clock::steady_ms().saturating_add(wait_ms);
        let wish = asking.wish().map(table::cut);
        let waiter = board.waits.next_number();
        let waits = board.of_mut(db).is_some_and(|leases| leases.wait(asking.key(), waiter, wish));
        board.waits.insert(waiter, WaitRecord { until_ms, client, db, asking: Box::new(asking) });
        (waiter, waits)
    });
    if waits {
        set_timer(ctx);
    } else {
        ToAnswer::with_value(vec![waiter]).answer(ctx);
    }
    true
}

/// A client stopped waiting by itself.
pub fn gone(client: BlockedId) {
    table::with(|board| {
        if let Some(waiter) = board.waits.number_of(client)
            && let Some(wait) = board.waits.remove(waiter)
        {
            board.leave(waiter, wait.db);
        }
    });
}

// ---- holders ----

/// For how long the holder of `token` has been producing a key, in ms.
pub fn production_ms(ctx: &Ctx, key: &[u8], token: Token) -> Result<u64> {
    let db = ctx.db();
    table::with(|board| {
        let now_ms = clock::steady_ms();
        board.of(db).and_then(|leases| leases.production_ms(key, token, now_ms))
    })
    .ok_or(Error::LeaseLost)
}

/// Shows what the holder of `token` has sent of its value. `work` must not call the server.
pub fn with_pieces<R>(ctx: &Ctx, key: &[u8], token: Token, work: impl FnOnce(&mut Pieces) -> R) -> Result<R> {
    let db = ctx.db();
    table::with(|board| {
        let now_ms = clock::steady_ms();
        board.of_mut(db)?.gathered(key, token, now_ms).map(work)
    })
    .ok_or(Error::LeaseLost)
}

/// May the holder of `token` store this? If it was invalidated since, the lease ends.
pub fn check(ctx: &Ctx, token: Token, subject: &Subject<'_>) -> Result<()> {
    let db = ctx.db();
    let allowed = table::with(|board| {
        let now_ms = clock::steady_ms();
        let lost = Err(Error::LeaseLost);
        board.of(db).map_or(lost, |leases| leases.check(subject.key, token, now_ms, subject))
    });
    if allowed == Err(Error::Fenced) {
        lost(ctx, db, subject.key);
    }
    allowed
}

/// The holder needs the lease for `duration_ms` from now on. Is it the holder?
pub fn renew(ctx: &Ctx, key: &[u8], token: Token, duration_ms: u64) -> bool {
    let db = ctx.db();
    let renewed = table::with(|board| {
        let (now_ms, duration_ms) = (clock::steady_ms(), duration_ms.min(MAX_LEASE.get()));
        board.of_mut(db).is_some_and(|leases| leases.renew(key, token, now_ms, duration_ms))
    });
    set_timer(ctx);
    renewed
}

/// The holder gives up, and nobody gets a lease for `backoff_ms` or until the key, `named` so, is invalidated. Was it the holder?
pub fn release(ctx: &Ctx, key: &[u8], token: Token, backoff_ms: u64, named: Named) -> bool {
    let db = ctx.db();
    let woken = table::with(|board| {
        let now_ms = clock::steady_ms();
        // A key that backs off takes a lease's place, and for no longer than a lease would.
        let backoff_ms = backoff_ms.min(MAX_LEASE.get());
        let limits = table::limits();
        board.of_mut(db)?.release(key, token, now_ms, backoff_ms, named, limits)
    });
    let Some(woken) = woken else { return false };
    if backoff_ms == 0 {
        end_without_value(ctx, db, key, woken);
    } else {
        ToAnswer::without_value(woken).answer(ctx);
    }
    true
}

// ---- what happens to keys ----

/// A key was stored, with a lease or without: whoever waits is answered with what is there.
pub fn stored(ctx: &Ctx, db: i32, key: &[u8], token: Option<Token>) {
    let waiters = table::with(|board| {
        let now_ms = clock::steady_ms();
        // Mostly there is no lease at all.
        let leases = board.held_in(db)?;
        let stored = token.and_then(|token| leases.finish(key, token, now_ms));
        Some(stored.map_or_else(|| leases.superseded(key), |stored| stored.waiters))
    });
    if let Some(waiters) = waiters.filter(|waiters| !waiters.is_empty()) {
        ToAnswer::with_value(waiters).answer(ctx);
    }
}

/// A key was deleted, or its next value refused: the lease is over.
pub fn lost(ctx: &Ctx, db: i32, key: &[u8]) {
    let woken = table::with(|board| {
        let now_ms = clock::steady_ms();
        let leases = board.held_in(db)?;
        Some(leases.lost(key, now_ms))
    });
    if let Some(woken) = woken {
        end_without_value(ctx, db, key, woken);
    }
}

/// Is any lease held in a database, or does a key back off? Else there is nothing to fence.
pub fn are_any(db: i32) -> bool {
    table::with(|board| board.held_in(db).is_some())
}

/// Entries of a database were invalidated: what is being produced since before and would have been among them is not to be
/// stored.
pub fn fence(db: i32, selector: &Selector) {
    let bound = MAX_FENCES.as_usize();
    table::with(|board| {
        let Some(leases) = board.held_in(db) else { return };
        match selector.only_any() {
            Some(tags) => leases.fence_tags(tags.iter().map(AsRef::as_ref), bound),
            None if selector.clauses.is_empty() => leases.fence_all(),
            None => leases.fence(selector.clone(), bound),
        }
    });
}

/// All leases of a database end, or all there are.
pub fn flush(ctx: &Ctx, db: Option<i32>) {
    let flushed: Vec<_> = table::with(|board| {
        let flushed = match db {
            Some(db) => board.of_mut(db).map(Leases::flush).into_iter().collect(),
            None => board.all_mut().map(Leases::flush).collect(),
        };
        board.free_aside();
        flushed
    });
    ToAnswer::flushed(flushed.into_iter().filter(|waiters| waiters.len() > 0)).answer(ctx);
}

/// What is to be done for leases at every beat of the server's clock.
pub fn tick(ctx: &Ctx) {
    table::with(table::Board::free_aside);
    set_timer(ctx);
    look_after(ctx);
}

/// Nobody tells of a key that another type's value came to be stored under it, nor that its slot left the node. So those who wait
/// are looked after: a few each time, and who waits in vain is answered, by what it then finds.
fn look_after(ctx: &Ctx) {
    let (start, slice, count) = (Instant::now(), background::slice(), table::with(|board| board.waits.count()));
    let is_cluster = count > 0 && ctx.is_cluster();
    let mut in_vain = Vec::new();
    for _ in 0..count {
        let Some((waiter, db, key)) = table::with(|board| board.waits.next()) else { break };
        ctx.select(db);
        let name = Text::new(&key);
        let is_foreign = matches!(ctx.open(name.arg(), Mode::Peek).found(), Found::Foreign);
        if is_foreign || is_cluster && !ctx.serves(name.arg()) {
            table::with(|board| board.leave(waiter, db));
            in_vain.push(waiter);
        }
        // One at least is looked after at each beat, however long its key's name.
        if start.elapsed() > slice {
            break;
        }
    }
    if !in_vain.is_empty() {
        ToAnswer::with_value(in_vain).answer(ctx);
    }
}

/// How many there are, in all databases: leases held, keys backing off, names that fences remember, clients that wait.
pub struct Counts {
    /// Leases held.
    pub held: u64,
    /// Keys backing off.
    pub backing_off: u64,
    /// Names that fences remember.
    pub fences: u64,
    /// Clients that wait.
    pub waiting: u64,
}

/// See [`Counts`].
pub fn counts() -> Counts {
    table::with(|board| {
        let none = Counts { held: 0, backing_off: 0, fences: 0, waiting: board.waits.count() as u64 };
        board.all().fold(none, |sum, of| Counts {
            held: sum.held + of.len() as u64,
            backing_off: sum.backing_off + of.backing_off_len() as u64,
            fences: sum.fences + of.fences_len() as u64,
            ..sum
        })
    })
}
