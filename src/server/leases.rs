//! Leases in the server: whom they may be given to, when waiting clients are answered, and the timer that ends what is over.
//!
//! Leases are in memory, and a master's only. A client that waits is blocked (see [`super::blocked`]) and known to the leases of its
//! database by a number, which no other ever has; whatever ends its waiting goes through [`Ends`], which answers it as it
//! [asks](Asking).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::c_void;
use std::ops::Bound;
use std::time::Instant;

use expcache_core::lease::{Asked, Leases, Limits, Named, Standing, Subject, Token, Wish, Woken};
use expcache_core::selector::Selector;
use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::api;
use super::args::{Arg, Args, Text};
use super::background;
use super::background::{BETWEEN_SLICES_MS, LATE_MS};
use super::blocked::MAX_WAITERS;
use super::blocked::{Kind, Waiter};
use super::clock;
use super::context::Ctx;
use super::deferred::Waiting;
use super::discard;
use super::ends::{Ends, MOST_IN_A_TURN};
use super::guard::guard;
use super::key::{Found, Mode};
use super::setting::Setting;
use super::state::{self, State};

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

/// Clients that wait.
#[derive(Default)]
pub struct Waits {
    by_time: BTreeSet<(u64, u64)>,
    of: HashMap<u64, Wait>,
    numbers: HashMap<Waiter, u64>,
    /// The number given out last.
    last: u64,
    /// Who was looked after last.
    seen: (u64, u64),
    /// Who does not wait for anything but to be told.
    pub(super) ended: VecDeque<Ends>,
}

/// What a client asks when it begins to wait, and how it is answered in the end, perhaps with the lease.
pub trait Asking: Send {
    /// The key that it waits for.
    fn key(&self) -> &[u8];
    /// The lease, if it wants it.
    fn wish(&self) -> Option<Wish>;
    /// Is the answer so large that the main thread had better not make it? The key's database is selected.
    fn is_heavy(&self, ctx: &Ctx) -> bool;
    /// Answers it, from the words of its command.
    fn answer(&self, ctx: &Ctx, args: Args<'_>, lease: Option<Token>) -> Result<()>;
    /// Answers it, with the help of a worker. `false` if it is refused.
    fn answer_aside(&self, ctx: &Ctx, waiting: Waiting, lease: Option<Token>) -> bool;
}

/// A client's waiting.
pub(super) struct Wait {
    until_ms: u64,
    pub(super) client: Waiter,
    pub(super) db: i32,
    pub(super) asking: Box<dyn Asking>,
}

impl Waits {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.of.len()
    }

    pub(super) fn get(&self, waiter: u64) -> Option<&Wait> {
        self.of.get(&waiter)
    }

    /// Does it want the lease?
    pub(super) fn wants(&self, waiter: u64) -> bool {
        self.get(waiter).is_some_and(|wait| wait.asking.wish().is_some())
    }

    /// Some of those whose time is up, with their databases.
    fn over(&self, now_ms: u64) -> Vec<(u64, i32)> {
        let over = self.by_time.range(..=(now_ms, u64::MAX)).map(|(_, waiter)| *waiter).take(MOST_IN_A_TURN);
        over.filter_map(|waiter| Some((waiter, self.of.get(&waiter)?.db))).collect()
    }

    /// One after the other, and then from the start again.
    fn next(&mut self) -> Option<(u64, i32, Box<[u8]>)> {
        let after = self.by_time.range((Bound::Excluded(self.seen), Bound::Unbounded)).next();
        let next = *after.or_else(|| self.by_time.first())?;
        self.seen = next;
        let wait = self.of.get(&next.1)?;
        Some((next.1, wait.db, wait.asking.key().into()))
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn insert(&mut self, waiter: u64, wait: Wait) {
        self.by_time.insert((wait.until_ms, waiter));
        self.numbers.insert(wait.client, waiter);
        self.of.insert(waiter, wait);
    }

    pub(super) fn remove(&mut self, waiter: u64) -> Option<Wait> {
        let wait = self.of.remove(&waiter)?;
        self.numbers.remove(&wait.client);
        self.by_time.remove(&(wait.until_ms, waiter));
        Some(wait)
    }
}

/// The timer, and when it is due, steady ms.
pub struct Timer {
    id: raw::RedisModuleTimerID,
    due_ms: u64,
}

/// The server counts in µs, and a timer beyond what that can hold would fire at once, for ever. So it looks again after a day.
const LONGEST_TIMER_MS: u64 = 24 * 60 * 60 * 1000;

impl Ctx {
    /// May leases be given to the client whose command runs? Not on a replica, in a transaction or in a script.
    pub fn may_lease(&self) -> bool {
        self.may_block() && self.is_master()
    }
}

/// A new token: 128 bits from the server's generator, which is seeded by the system's and cryptographically strong.
pub fn new_token() -> Token {
    let mut bytes = [0; 16];
    // SAFETY: writes so many bytes; calls nobody back.
    unsafe { api!(RedisModule_GetRandomBytes)(bytes.as_mut_ptr(), bytes.len()) };
    u128::from_le_bytes(bytes).into()
}

// ---- readers ----

/// Says what stands in the way of the lease of a key of the selected database; gives it to a reader who wishes for it if nothing
/// does.
pub fn offer(ctx: &Ctx, key: Arg<'_>, wish: Option<Wish>) -> Offer {
    let (db, name) = (ctx.db(), key.bytes());
    let (standing, is_theirs) = state::with(|s| {
        let now_ms = clock::steady_ms();
        let Some(leases) = s.leases(db) else { return (Standing::Free, false) };
        let is_theirs = wish.is_some_and(|wish| leases.production_ms(name, wish.token, now_ms).is_some());
        (leases.standing(name, now_ms), is_theirs)
    });
    let may_be_given = is_theirs || !matches!(standing, Standing::BackingOff(_) | Standing::Held(1..));
    let Some(wish) = wish.filter(|_| may_be_given && ctx.accepts_writes()) else { return standing.into() };
    let asked = state::with(|s| {
        let (now_ms, wish) = (clock::steady_ms(), s.cut(wish));
        let limits = s.lease_limits();
        s.leases_mut(db).map_or(Asked::Full, |leases| leases.ask(name, now_ms, wish, limits))
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
    state::with(|s| name.map_or(0, |name| s.hash_of(name.arg().bytes())))
}

/// Does an owner hold no more leases in the selected database than it may?
pub fn is_within_share(ctx: &Ctx, owner: u64) -> bool {
    let db = ctx.db();
    state::with(|s| s.leases(db).is_none_or(|leases| leases.owned_len(owner) <= s.lease_limits().each))
}

/// Has the client wait for what becomes of a key's lease, for `wait_ms` at most. `false` if it may not.
pub fn wait(ctx: &Ctx, kind: &'static Kind, asking: impl Asking + 'static, wait_ms: u64) -> bool {
    let db = ctx.db();
    if !ctx.may_lease() || state::with(|s| s.waits.count() >= MAX_WAITERS.as_usize()) {
        return false;
    }
    let client = ctx.block(kind);
    let (waiter, waits) = state::with(|s| {
        let until_ms = clock::steady_ms().saturating_add(wait_ms);
        let wish = asking.wish().map(|wish| s.cut(wish));
        let waiter = s.waits.next_number();
        let waits = s.leases_mut(db).is_some_and(|leases| leases.wait(asking.key(), waiter, wish));
        s.waits.insert(waiter, Wait { until_ms, client, db, asking: Box::new(asking) });
        (waiter, waits)
    });
    if waits {
        set_timer(ctx);
    } else {
        Ends::with_value(vec![waiter]).answer(ctx);
    }
    true
}

/// A client stopped waiting by itself.
pub fn gone(client: Waiter) {
    state::with(|s| {
        if let Some(waiter) = s.waits.numbers.get(&client).copied()
            && let Some(wait) = s.waits.remove(waiter)
        {
            s.leave(waiter, wait.db);
        }
    });
}

impl State {
    /// No lease lasts longer than is configured.
    fn cut(&self, wish: Wish) -> Wish {
        Wish { duration_ms: wish.duration_ms.min(MAX_LEASE.get()), ..wish }
    }

    fn lease_limits(&self) -> Limits {
        let each = match MAX_LEASES_PER_USER.as_usize() {
            0 => usize::MAX,
            most => most,
        };
        Limits { records: MAX_LEASES.as_usize(), bytes: LEASE_MEMORY.as_usize(), each }
    }

    fn leave(&mut self, waiter: u64, db: i32) {
        if let Some(leases) = self.leases_mut(db) {
            leases.leave(waiter);
        }
    }
}

// ---- holders ----

/// For how long the holder of `token` has been producing a key, in ms.
pub fn production_ms(ctx: &Ctx, key: &[u8], token: Token) -> Result<u64> {
    let db = ctx.db();
    state::with(|s| {
        let now_ms = clock::steady_ms();
        s.leases(db).and_then(|leases| leases.production_ms(key, token, now_ms))
    })
    .ok_or(Error::LeaseLost)
}

/// May the holder of `token` store this? If it was invalidated since, the lease ends.
pub fn check(ctx: &Ctx, token: Token, subject: &Subject<'_>) -> Result<()> {
    let db = ctx.db();
    let allowed = state::with(|s| {
        let now_ms = clock::steady_ms();
        let lost = Err(Error::LeaseLost);
        s.leases(db).map_or(lost, |leases| leases.check(subject.key, token, now_ms, subject))
    });
    if allowed == Err(Error::Fenced) {
        lost(ctx, db, subject.key);
    }
    allowed
}

/// The holder needs the lease for `duration_ms` from now on. Is it the holder?
pub fn renew(ctx: &Ctx, key: &[u8], token: Token, duration_ms: u64) -> bool {
    let db = ctx.db();
    let renewed = state::with(|s| {
        let (now_ms, duration_ms) = (clock::steady_ms(), duration_ms.min(MAX_LEASE.get()));
        s.leases_mut(db).is_some_and(|leases| leases.renew(key, token, now_ms, duration_ms))
    });
    set_timer(ctx);
    renewed
}

/// The holder gives up, and nobody gets a lease for `backoff_ms` or until the key, `named` so, is invalidated. Was it the holder?
pub fn release(ctx: &Ctx, key: &[u8], token: Token, backoff_ms: u64, named: Named) -> bool {
    let db = ctx.db();
    let woken = state::with(|s| {
        let now_ms = clock::steady_ms();
        // A key that backs off takes a lease's place, and for no longer than a lease would.
        let backoff_ms = backoff_ms.min(MAX_LEASE.get());
        let limits = s.lease_limits();
        s.leases_mut(db)?.release(key, token, now_ms, backoff_ms, named, limits)
    });
    let released = woken.is_some();
    Ends::without_value(woken.unwrap_or_default()).answer(ctx);
    released
}

// ---- what happens to keys ----

/// A key was stored, with a lease or without: whoever waits is answered with what is there.
pub fn stored(ctx: &Ctx, db: i32, key: &[u8], token: Option<Token>) {
    let waiters = state::with(|s| {
        let now_ms = clock::steady_ms();
        // Mostly there is no lease at all.
        let leases = s.leases_mut(db).filter(|leases| !leases.is_empty())?;
        let stored = token.and_then(|token| leases.finish(key, token, now_ms));
        Some(stored.map_or_else(|| leases.superseded(key), |stored| stored.waiters))
    });
    if let Some(waiters) = waiters.filter(|waiters| !waiters.is_empty()) {
        Ends::with_value(waiters).answer(ctx);
    }
}

/// A key was deleted, or its next value refused: the lease is over.
pub fn lost(ctx: &Ctx, db: i32, key: &[u8]) {
    let woken = state::with(|s| {
        let now_ms = clock::steady_ms();
        let leases = s.leases_mut(db).filter(|leases| !leases.is_empty())?;
        Some(leases.lost(key, now_ms))
    });
    if let Some(woken) = woken.filter(|woken| !woken.is_empty()) {
        Ends::without_value(woken).answer(ctx);
    }
}

/// Entries of a database were invalidated: what is being produced since before and would have been among them is not to be
/// stored.
pub fn fence(s: &mut State, db: i32, selector: &Selector) {
    let bound = MAX_FENCES.as_usize();
    let Some(leases) = s.leases_mut(db) else { return };
    match selector.only_any() {
        _ if leases.is_empty() => (),
        Some(tags) => leases.fence_tags(tags.iter().map(AsRef::as_ref), bound),
        None if selector.clauses.is_empty() => leases.fence_all(),
        None => leases.fence(selector.clone(), bound),
    }
}

/// All leases of a database end, or all there are.
pub fn flush(ctx: &Ctx, db: Option<i32>) {
    let flushed: Vec<_> = state::with(|s| {
        let flushed = match db {
            Some(db) => s.leases_mut(db).map(Leases::flush).into_iter().collect(),
            None => s.all_leases_mut().map(Leases::flush).collect(),
        };
        s.free_aside();
        flushed
    });
    Ends::flushed(flushed.into_iter().filter(|waiters| waiters.len() > 0)).answer(ctx);
}

// ---- time ----

/// Sees to it that the timer is set for what is over next.
pub fn set_timer(ctx: &Ctx) {
    let (now_ms, next_ms, set) = state::with(|s| {
        let waits = s.waits.by_time.first().map(|(until_ms, _)| *until_ms);
        let next_ms = s.all_leases_mut().filter_map(|leases| leases.next_deadline()).chain(waits).min();
        (clock::steady_ms(), next_ms, s.lease_timer.as_ref().map(|timer| (timer.id, timer.due_ms)))
    });
    let Some(due_ms) = next_ms else { return };
    // SAFETY: the context is live; the callback lives as long as the module; a timer is stopped before it fired.
    unsafe {
        match set {
            // It comes early enough, and looks again then.
            Some((_, set_ms)) if set_ms <= due_ms => return,
            Some((id, _)) => {
                api!(RedisModule_StopTimer)(ctx.raw(), id, std::ptr::null_mut());
            }
            None => (),
        }
        let after_ms = due_ms.saturating_sub(now_ms).min(LONGEST_TIMER_MS).cast_signed().max(BETWEEN_SLICES_MS);
        let id = api!(RedisModule_CreateTimer)(ctx.raw(), after_ms, Some(on_timer), std::ptr::null_mut());
        state::with(|s| s.lease_timer = Some(Timer { id, due_ms }));
    }
}

/// As [`set_timer`]; a timer that is late is set anew. The server counts by the clock of the day: when that is set back, a timer
/// comes so much later.
pub fn catch_up(ctx: &Ctx) {
    let late = state::with(|s| {
        s.free_aside();
        let now_ms = clock::steady_ms();
        s.lease_timer.take_if(|timer| timer.due_ms.saturating_add(LATE_MS) < now_ms)
    });
    if let Some(timer) = late {
        // SAFETY: the context is live; a timer that fired is not known any more.
        unsafe { api!(RedisModule_StopTimer)(ctx.raw(), timer.id, std::ptr::null_mut()) };
    }
    set_timer(ctx);
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    guard((), || {
        // SAFETY: live during the callback.
        let ctx = unsafe { Ctx::new(ctx) };
        let over = state::with(|s| {
            s.lease_timer = None;
            let now_ms = clock::steady_ms();
            let mut over = s.expire_leases(now_ms);
            for (waiter, db) in s.waits.over(now_ms) {
                s.leave(waiter, db);
                over.push(Woken { waiter, lease: None });
            }
            over
        });
        Ends::without_value(over).answer(&ctx);
    });
}

/// Nobody tells of a key that another type's value came to be stored under it, nor that its slot left the node. So those who wait
/// are looked after: a few each time, and who waits in vain is answered, by what it then finds.
pub fn look_after(ctx: &Ctx) {
    let (start, slice, count) = (Instant::now(), background::slice(), state::with(|s| s.waits.count()));
    let is_cluster = count > 0 && ctx.is_cluster();
    let mut in_vain = Vec::new();
    for _ in 0..count {
        let Some((waiter, db, key)) = state::with(|s| s.waits.next()) else { break };
        if start.elapsed() > slice {
            break;
        }
        ctx.select(db);
        let name = Text::new(&key);
        let is_foreign = matches!(ctx.open(name.arg(), Mode::Peek).found(), Found::Foreign);
        if is_foreign || is_cluster && ctx.check_node(name.arg()).is_err() {
            state::with(|s| s.leave(waiter, db));
            in_vain.push(waiter);
        }
    }
    if !in_vain.is_empty() {
        Ends::with_value(in_vain).answer(ctx);
    }
}

impl State {
    /// Ends leases whose time is over, as many as there is time for.
    fn expire_leases(&mut self, now_ms: u64) -> Vec<Woken> {
        let (start, slice, mut over) = (Instant::now(), background::slice(), Vec::new());
        for leases in self.all_leases_mut() {
            while start.elapsed() < slice
                && over.len() < MOST_IN_A_TURN
                && let Some(woken) = leases.expire(now_ms)
            {
                over.extend(woken);
            }
        }
        over
    }

    fn free_aside(&mut self) {
        let aside: Vec<_> = self.all_leases_mut().flat_map(Leases::take_aside).collect();
        if !aside.is_empty() {
            discard::on_thread(aside);
        }
    }
}
