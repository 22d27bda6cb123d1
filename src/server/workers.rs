//! Worker threads. They hash, compress, decompress, copy and free large payloads, which would hold the server up.
//!
//! ```text
//!  main thread ── DeferredReply::work ──▶ a worker ──▶ the client   a client waits; the worker answers it
//!              ── run_soon ──────────────▶ a worker                urgent: somebody waits for it, or it is quick
//!              ── run_later ─────────────▶ a worker                deferred: compression, once it is due
//!              ◀────────── run_on_main ── a worker                 only the main thread may do it, in a timer of its own
//! ```
//!
//! Urgent work is small or large, and each kind is begun in a fair order, see [`Fair`]. The first thread does small urgent work only, so
//! that this never waits for large work; the second does all urgent work; the others do everything, deferred work in turns with the
//! rest.
//!
//! A worker touches nothing of the server's but its allocator and the reply of a client that waits for it. Its input is
//! shared and never changes, so a change of the key meanwhile (overwritten, flushed, saved by a child) does no harm: the result is
//! used if it still fits, see `payloads::settle`.
//!
//! The queues need no bound of their own: a client waits for one thing at a time, and an entry for one too. Work that cannot wait (in a
//! transaction, a script, on the replication link) is done at once by the main thread, and counted. So is what takes it less than a
//! moment, but no more of it than it [has time](has_time) for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use expcache_core::codec::Coder;
use expcache_core::fair::Fair;
use expcache_core::stats::{Gauges, Work};

use super::api::api;
use super::background::{self, Background, WHILE_QUIET_MS, between_slices_ms};
use super::context::Ctx;
use super::guard::guard;
use super::log::{LogLevel, log};
use super::setting::Setting;

/// Threads for what is large; 0: none.
pub static WORKERS: Setting = Setting::number_at_start(c"workers", 3, 0..=64);
/// How many pieces of work may wait for one, and be waited for, while all is well.
pub static WORKER_QUEUE: Setting = Setting::number(c"worker-queue", 1024, 0..=1_000_000);

/// How many payloads may wait to be compressed while all is well. They are not held for it: what waits is a place of some hundred
/// bytes.
pub fn most_aside() -> u64 {
    /// For each piece of work that may wait and is waited for.
    const ASIDE_FACTOR: u64 = 64;
    WORKER_QUEUE.get().saturating_mul(ASIDE_FACTOR)
}

/// Work for a worker.
type Job = Box<dyn FnOnce(&mut Coder) + Send>;
/// Work that a worker hands to the main thread.
type Finish = Box<dyn FnOnce(&Ctx) + Send>;

/// How much less a worker matters to the scheduler than the main thread.
const NICENESS: libc::c_int = 5;

/// Work that takes a thread longer than copying so many bytes is large: a few milliseconds.
const LARGE: u64 = 8 << 20;

/// Deferred work: not to be done before its time.
struct Aside {
    due: Instant,
    job: Job,
}

/// The work that waits for a thread.
#[derive(Default)]
struct Queues {
    small: Fair<Job>,
    large: Fair<Job>,
    /// In the order in which it is due.
    aside: VecDeque<Aside>,
}

/// The kind of work that a thread does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// Small urgent work, so that this never waits for large work.
    Small,
    /// All urgent work: a client waits for it.
    Urgent,
    /// Everything.
    Any,
}

impl Role {
    /// Of the thread of that number, from 1 on, of so many.
    fn of(number: usize, threads: usize) -> Self {
        match (number, threads) {
            (1, 2..) => Self::Small,
            (2, 3..) => Self::Urgent,
            _ => Self::Any,
        }
    }
}

impl Queues {
    fn next(&mut self, role: Role, is_asides_turn: bool) -> Option<Job> {
        let is_due = role == Role::Any && self.aside.front().is_some_and(|first| first.due <= Instant::now());
        if is_due && is_asides_turn {
            return self.aside.pop_front().map(|first| first.job);
        }
        let urgent = self.small.pop().or_else(|| if role >= Role::Urgent { self.large.pop() } else { None });
        urgent.or_else(|| if is_due { self.aside.pop_front().map(|first| first.job) } else { None })
    }
}

/// The threads and their queues.
#[derive(Default)]
struct Pool {
    queues: Mutex<Queues>,
    has_come: Condvar,
    /// Threads at work. Changed with the queues locked where work begins: what is begun is in one of them.
    busy: AtomicUsize,
}

impl Pool {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, cost: u64, job: Job) {
        let mut queues = self.queues();
        let lane = if cost < LARGE { &mut queues.small } else { &mut queues.large };
        lane.push(cost, job);
        drop(queues);
        self.has_come.notify_all();
    }

    fn push_aside(&self, aside: Aside) {
        self.queues().aside.push_back(aside);
        self.has_come.notify_all();
    }

    /// Waits for work. What is aside has its turn after what was urgent, or it would never be done.
    fn next(&self, role: Role, is_asides_turn: bool) -> Job {
        let mut queues = self.queues();
        loop {
            if let Some(job) = queues.next(role, is_asides_turn) {
                self.busy.fetch_add(1, Ordering::Relaxed);
                return job;
            }
            let due = queues.aside.front().filter(|_| role == Role::Any).map(|first| first.due);
            let left = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
            queues = self.has_come.wait_timeout(queues, left).map_or_else(|e| e.into_inner().0, |(queues, _)| queues);
        }
    }

    /// Does a piece of work, on the thread that calls.
    fn run(&self, work: Job, coder: &mut Coder) {
        let done = guard(false, || {
            work(coder);
            true
        });
        if !done {
            *coder = Coder::new();
        }
        DONE_ASIDE.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_sub(1, Ordering::Release);
    }
}

/// How long a thread waits for nothing in particular.
const IDLE: Duration = Duration::from_secs(3600);

static POOL: OnceLock<Option<Pool>> = OnceLock::new();
static DONE_HERE: AtomicU64 = AtomicU64::new(0);
static DONE_ASIDE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
    /// The main thread's own.
    static CODER: RefCell<Option<Coder>> = const { RefCell::new(None) };
    static DECODED: Cell<u64> = const { Cell::new(0) };
    static SPENT: Cell<Spent> = Cell::new(Spent { time: Duration::ZERO, at: Instant::now() });
}

/// To be called when the module is loaded: notes which thread is the main one.
pub(super) fn prepare() {
    IS_MAIN.set(true);
}

/// Is this the thread that runs commands?
pub fn is_main_thread() -> bool {
    IS_MAIN.try_with(Cell::get).unwrap_or(false)
}

// ---- the threads ----

/// They are started by the first work that there is: a server that never sees a large payload has none.
fn pool() -> Option<&'static Pool> {
    POOL.get_or_init(|| {
        let threads = WORKERS.as_usize();
        let start = |n: usize| {
            let role = Role::of(n, threads);
            std::thread::Builder::new().name(format!("expcache-{n}")).spawn(move || run(role))
        };
        let started = (1..=threads).filter(|n| start(*n).is_ok()).count();
        if started < threads {
            log(
                LogLevel::Warning,
                &format!("only {started} of {threads} worker threads could be started; none is used"),
            );
        }
        (started == threads && threads > 0).then(Pool::default)
    })
    .as_ref()
}

fn run(role: Role) {
    if role != Role::Small {
        // SAFETY: changes this thread's own priority, which it may always lower.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    }
    let mut coder = Coder::new();
    let Some(pool) = POOL.wait() else { return };
    let mut is_asides_turn = false;
    loop {
        let work = pool.next(role, is_asides_turn);
        pool.run(work, &mut coder);
        is_asides_turn = !is_asides_turn;
    }
}

/// Are there threads at all?
pub fn are_there() -> bool {
    pool().is_some()
}

/// Counts work that the main thread does because its client cannot wait, or for want of threads.
pub(super) fn count_here() {
    DONE_HERE.fetch_add(1, Ordering::Relaxed);
}

/// As [`run_soon`], for a client that waits; without threads it is not counted again.
pub(super) fn urgent(cost: u64, work: impl FnOnce(&mut Coder) + Send + 'static) {
    match pool() {
        Some(pool) => pool.push(cost, Box::new(work)),
        None => run_here(work),
    }
}

/// Notes that the main thread has decoded so many bytes.
pub fn charge(bytes: usize) {
    DECODED.set(DECODED.get() + bytes as u64);
}

/// How many bytes the main thread has decoded.
pub fn decoded() -> u64 {
    DECODED.get()
}

/// Does work on the main thread. The time that it takes is taken from its [allowance](has_time).
pub fn run_here<R>(work: impl FnOnce(&mut Coder) -> R) -> R {
    let start = Instant::now();
    let (done, decoded) = CODER.with_borrow_mut(|coder| {
        let coder = coder.get_or_insert_with(Coder::new);
        let before = coder.decoded();
        (work(coder), coder.decoded() - before)
    });
    charge(decoded as usize);
    let took = start.elapsed();
    SPENT.set(Spent { time: left_of(SPENT.get(), start) + took, at: start + took });
    done
}

/// The time that the main thread has spent on payloads lately.
#[derive(Clone, Copy)]
struct Spent {
    time: Duration,
    at: Instant,
}

/// So much it may spend in one go; and half of all time in the long run.
const ALLOWANCE: Duration = Duration::from_millis(1);

fn left_of(spent: Spent, now: Instant) -> Duration {
    spent.time.saturating_sub(now.saturating_duration_since(spent.at) / 2)
}

/// Has the main thread time for what takes it less than a moment? A moment for each of many commands that one client sends at a time
/// is more than others should wait.
pub fn has_time() -> bool {
    left_of(SPENT.get(), Instant::now()) < ALLOWANCE
}

/// The workers' load, and the work that they have done.
pub struct Load {
    /// Threads at work.
    pub busy: usize,
    /// Work that waits for one, and is waited for.
    pub queued: usize,
    /// Payloads that are to be compressed.
    pub aside: usize,
    /// Results that wait for the main thread.
    pub posted: usize,
    /// Work that was done.
    pub done: Work,
}

/// See [`Load`].
pub fn figures() -> Load {
    let pool = POOL.get().and_then(Option::as_ref);
    // In the order in which work goes on: what does so meanwhile is told of twice rather than not at all.
    let (queued, aside) = pool.map_or((0, 0), |pool| {
        let queues = pool.queues();
        (queues.small.len() + queues.large.len(), queues.aside.len())
    });
    Load {
        queued,
        aside,
        busy: pool.map_or(0, |pool| pool.busy.load(Ordering::Acquire)),
        posted: posted(),
        done: Work { aside: DONE_ASIDE.load(Ordering::Relaxed), here: DONE_HERE.load(Ordering::Relaxed) },
    }
}

/// Fills in what is known of the threads.
pub(super) fn gauges(gauges: &mut Gauges) {
    let figures = figures();
    gauges.workers = WORKERS.get();
    gauges.workers_busy = figures.busy as u64;
    gauges.worker_queue = figures.queued as u64;
    gauges.settle_queue = (figures.aside + figures.posted) as u64;
}

/// Has a thread do what takes it as long as copying so many bytes, and is waited for. On the main thread.
pub fn run_soon(cost: u64, work: impl FnOnce(&mut Coder) + Send + 'static) {
    match pool() {
        Some(pool) => pool.push(cost, Box::new(work)),
        None => at_once(work),
    }
}

/// As [`run_soon`], for what takes its time, and need not be done before some time has passed.
pub fn run_later(after: Duration, work: impl FnOnce(&mut Coder) + Send + 'static) {
    match pool() {
        Some(pool) => pool.push_aside(Aside { due: Instant::now() + after, job: Box::new(work) }),
        None => at_once(work),
    }
}

fn at_once(work: impl FnOnce(&mut Coder)) {
    count_here();
    run_here(work);
}

// ---- back to the main thread ----

static POSTED: Mutex<VecDeque<Finish>> = Mutex::new(VecDeque::new());
/// Is the main thread going to look?
static IS_CALLED: AtomicBool = AtomicBool::new(false);

/// Has the main thread do something soon, outside of any command. From any thread.
pub fn run_on_main(finish: impl FnOnce(&Ctx) + Send + 'static) {
    push(Box::new(finish));
    if !IS_CALLED.swap(true, Ordering::AcqRel) {
        // SAFETY: may be called from any thread; the callback lives as long as the module.
        unsafe { api!(RedisModule_EventLoopAddOneShot)(Some(on_called), std::ptr::null_mut()) };
    }
}

/// As [`run_on_main`], for what writes, which has to wait while nothing may be written.
pub fn run_on_main_when_writable(finish: impl FnOnce(&Ctx) + Send + 'static) {
    run_on_main(move |ctx| when_writable(ctx, finish));
}

fn when_writable(ctx: &Ctx, finish: impl FnOnce(&Ctx) + Send + 'static) {
    if ctx.must_keep_quiet() {
        push(Box::new(move |ctx| when_writable(ctx, finish)));
    } else {
        finish(ctx);
    }
}

fn push(finish: Finish) {
    if let Ok(mut posted) = POSTED.lock() {
        posted.push_back(finish);
    }
}

fn posted() -> usize {
    POSTED.lock().map_or(0, |posted| posted.len())
}

/// The server may be in the middle of a script here, so this only sets a timer.
unsafe extern "C" fn on_called(_data: *mut c_void) {
    guard((), || FINISHING.schedule_from_anywhere());
}

static FINISHING: Background = Background::new(finish_posted);

fn finish_posted(ctx: &Ctx) -> Option<i64> {
    IS_CALLED.store(false, Ordering::Release);
    let (start, slice) = (Instant::now(), background::slice());
    // No more than there are now: what is put off comes to the end of the line.
    for _ in 0..posted() {
        let Some(finish) = POSTED.lock().ok().and_then(|mut posted| posted.pop_front()) else { break };
        guard((), || finish(ctx));
        if start.elapsed() > slice {
            break;
        }
    }
    let is_due = posted() > 0 && !IS_CALLED.swap(true, Ordering::AcqRel);
    is_due.then(|| if ctx.must_keep_quiet() { WHILE_QUIET_MS } else { between_slices_ms() })
}
