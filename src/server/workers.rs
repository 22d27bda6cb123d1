//! Threads that do what would hold the server up: hashing, compressing, decompressing, copying and freeing what is large.
//!
//! ```text
//!  main thread ── Waiting::work ──▶ a worker ──▶ the client        who waits is answered by the thread
//!              ── soon ───────────▶ a worker                       what is quick, or is waited for
//!              ── aside ──────────▶ a worker but the first         what takes its time, when it is due: one worker is always
//!                                                                   there for the rest
//!              ◀──────────── post ── a worker                      what only the main thread may do, in a timer of its own
//! ```
//!
//! A worker touches nothing of the server's but its allocator and the reply of a client that waits for it. What it works on is
//! shared and never changes, so whatever happens to the key meanwhile (overwritten, flushed, saved by a child) does no harm: what
//! comes of the work is used if it still fits, see [`super::settle`].
//!
//! The queues are bounded, each by itself: what nobody waits for never takes the room of what somebody waits for. What does not
//! fit, and what cannot wait (in a transaction, a script, on the replication link), is done at once by the main thread, and counted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select_biased, unbounded};
use expcache_core::codec::Coder;
use expcache_core::stats::Work;
use redis_module::raw;

use super::api::{api, api_if_any};
use super::background::{BETWEEN_SLICES_MS, Background, WHILE_QUIET_MS};
use super::context::{Ctx, LogLevel, log};
use super::replies::Replies;
use super::{guard, state};

/// What is asked of a worker.
type Job = Box<dyn FnOnce(&mut Coder) + Send>;
/// What a worker asks of the main thread.
type Finish = Box<dyn FnOnce(&Ctx) + Send>;

/// How much less a worker matters to the scheduler than the main thread.
const NICENESS: libc::c_int = 5;

/// What is not to be done before its time.
struct Aside {
    due: Instant,
    job: Job,
}

/// A queue.
struct Lane<T> {
    sender: Sender<T>,
    /// How much of it no thread has begun.
    waiting: AtomicUsize,
}

impl<T> Lane<T> {
    fn new() -> (Self, Receiver<T>) {
        let (sender, receiver) = unbounded();
        (Self { sender, waiting: AtomicUsize::new(0) }, receiver)
    }

    fn send(&self, work: T) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        _ = self.sender.send(work);
    }

    fn len(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

/// The threads' queues.
struct Pool {
    soon: Lane<Job>,
    aside: Lane<Aside>,
    busy: AtomicUsize,
}

impl Pool {
    /// Does work that waited in a lane, on the thread that calls.
    fn run<T>(&self, lane: &Lane<T>, work: Job, coder: &mut Coder) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        lane.waiting.fetch_sub(1, Ordering::Release);
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

static POOL: OnceLock<Option<Pool>> = OnceLock::new();
static DONE_HERE: AtomicU64 = AtomicU64::new(0);
static DONE_ASIDE: AtomicU64 = AtomicU64::new(0);
/// A context that is good for setting timers, on the main thread.
static CONTEXT: AtomicPtr<raw::RedisModuleCtx> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
    /// The main thread's own.
    static CODER: RefCell<Option<Coder>> = const { RefCell::new(None) };
}

/// To be called when the module is loaded: notes which thread is the main one.
pub(super) fn prepare(ctx: &Ctx) {
    IS_MAIN.set(true);
    // SAFETY: the context is live; what is made of it is kept for ever.
    let context = unsafe { api!(RedisModule_GetDetachedThreadSafeContext)(ctx.raw()) };
    CONTEXT.store(context, Ordering::Relaxed);
}

/// Is this the thread that runs commands?
pub fn is_main_thread() -> bool {
    IS_MAIN.try_with(Cell::get).unwrap_or(false)
}

// ---- the threads ----

/// They are started by the first work that there is: a server that never sees a large payload has none.
fn pool() -> Option<&'static Pool> {
    POOL.get_or_init(|| {
        let ((soon, urgent), (aside, rest)) = (Lane::new(), Lane::new());
        let threads = state::with(|s| s.config.workers);
        let start = |n: usize| {
            let urgent = urgent.clone();
            let rest = if n > 1 || threads == 1 { rest.clone() } else { never() };
            std::thread::Builder::new().name(format!("expcache-{n}")).spawn(move || run(&urgent, &rest))
        };
        let started = (1..=threads).filter(|n| start(*n).is_ok()).count();
        if started < threads {
            log(
                LogLevel::Warning,
                &format!("only {started} of {threads} worker threads could be started; none is used"),
            );
        }
        (started == threads && threads > 0).then(|| Pool { soon, aside, busy: AtomicUsize::new(0) })
    })
    .as_ref()
}

fn run(urgent: &Receiver<Job>, rest: &Receiver<Aside>) {
    // SAFETY: changes this thread's own priority, which it may always lower.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    let mut coder = Coder::new();
    let Some(pool) = POOL.wait() else { return };
    // What it does when its time has come and nothing is urgent; and in turns with what is, or it would never be done.
    let (mut next, mut is_its_turn): (Option<Aside>, bool) = (None, false);
    loop {
        next = next.or_else(|| rest.try_recv().ok());
        let work = match &next {
            Some(next) if is_its_turn && next.due <= Instant::now() => None,
            Some(next) => urgent.recv_deadline(next.due).ok(),
            None => select_biased! {
                recv(urgent) -> work => work.ok(),
                recv(rest) -> work => {
                    next = work.ok();
                    continue;
                }
            },
        };
        is_its_turn = work.is_some();
        match (work, next.take_if(|_| !is_its_turn)) {
            (Some(work), _) => pool.run(&pool.soon, work, &mut coder),
            (None, Some(next)) => pool.run(&pool.aside, next.job, &mut coder),
            (None, None) => return,
        }
    }
}

/// The threads, if so much that is waited for may wait for them.
fn pool_with_room() -> Option<&'static Pool> {
    let room = state::with(|s| s.config.worker_queue);
    pool().filter(|pool| pool.soon.len() < room)
}

/// The threads, if so much that nobody waits for may wait for them.
fn pool_with_room_aside() -> Option<&'static Pool> {
    let room = state::with(|s| s.config.aside_queue());
    pool().filter(|pool| pool.aside.len() < room)
}

/// Does work on the main thread.
pub fn here<R>(work: impl FnOnce(&mut Coder) -> R) -> R {
    CODER.with_borrow_mut(|coder| work(coder.get_or_insert_with(Coder::new)))
}

/// What the workers do and did.
pub struct Figures {
    /// Threads at work.
    pub busy: usize,
    /// Work that waits for one, and is waited for.
    pub queued: usize,
    /// Payloads that are to be compressed.
    pub aside: usize,
    /// What was done and waits for the main thread.
    pub posted: usize,
    /// What was done.
    pub done: Work,
}

/// See [`Figures`].
pub fn figures() -> Figures {
    let of = |count: fn(&Pool) -> usize| POOL.get().and_then(Option::as_ref).map_or(0, count);
    // In the order in which work goes on: what does so meanwhile is told of twice rather than not at all.
    let (queued, aside) = (of(|pool| pool.soon.len()), of(|pool| pool.aside.len()));
    Figures {
        queued,
        aside,
        busy: of(|pool| pool.busy.load(Ordering::Acquire)),
        posted: posted(),
        done: Work { aside: DONE_ASIDE.load(Ordering::Relaxed), here: DONE_HERE.load(Ordering::Relaxed) },
    }
}

/// Has a thread do what is quick, or is waited for; if there is no room, it is done at once. On the main thread.
pub fn soon(work: impl FnOnce(&mut Coder) + Send + 'static) {
    match pool_with_room() {
        Some(pool) => pool.soon.send(Box::new(work)),
        None => at_once(work),
    }
}

/// As [`soon`], for what takes its time, and need not be done before some time has passed.
pub fn aside(after: Duration, work: impl FnOnce(&mut Coder) + Send + 'static) {
    match pool_with_room_aside() {
        Some(pool) => pool.aside.send(Aside { due: Instant::now() + after, job: Box::new(work) }),
        None => at_once(work),
    }
}

fn at_once(work: impl FnOnce(&mut Coder)) {
    DONE_HERE.fetch_add(1, Ordering::Relaxed);
    here(work);
}

// ---- clients that wait ----

/// A client that waits while its reply is made. It is answered with what was put into its replies when this is dropped; if it went
/// by itself meanwhile, nothing happens.
pub struct Waiting {
    client: *mut raw::RedisModuleBlockedClient,
    replies: Replies,
    answered: Cell<bool>,
}

// SAFETY: the server lets one thread at a time make the reply of a blocked client, and unblock it, without its lock.
unsafe impl Send for Waiting {}

impl Waiting {
    /// Has the client wait, if it may be made to and a worker has room. Else it must be served at once, which is counted.
    pub fn new(ctx: &Ctx) -> Option<Self> {
        if !ctx.may_block() || pool_with_room().is_none() {
            DONE_HERE.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        // SAFETY: the context is that of a command that may block. Without callbacks the server waits for us to unblock the client,
        // whatever becomes of it.
        unsafe { Some(Self::of(api!(RedisModule_BlockClient)(ctx.raw(), None, None, None, 0))) }
    }

    /// # Safety
    /// `client` must be blocked, and unblocked by nobody else.
    pub(super) unsafe fn of(client: *mut raw::RedisModuleBlockedClient) -> Self {
        // SAFETY: the caller vouches for the client; the context is used by whoever has this value.
        let replies = unsafe { Replies::new(api!(RedisModule_GetThreadSafeContext)(client)) };
        Self { client, replies, answered: Cell::new(false) }
    }

    /// Its replies, to be given now.
    pub fn replies(&self) -> &Replies {
        self.answered.set(true);
        &self.replies
    }

    /// Has a thread work for it. The time that it takes is the command's, in statistics and `SLOWLOG`.
    pub fn work(self, work: impl FnOnce(&mut Coder, Self) + Send + 'static) {
        let timed = move |coder: &mut Coder| {
            let start = self.measure(api_if_any!(RedisModule_BlockedClientMeasureTimeStart));
            work(coder, start);
        };
        match pool() {
            Some(pool) => pool.soon.send(Box::new(timed)),
            None => here(timed),
        }
    }

    fn measure(
        self,
        mark: Option<unsafe extern "C" fn(*mut raw::RedisModuleBlockedClient) -> std::ffi::c_int>,
    ) -> Self {
        if let Some(mark) = mark {
            // SAFETY: the client is ours to unblock, so it is there.
            unsafe { mark(self.client) };
        }
        self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered.get() {
            self.replies.reply_error("ERR internal error, see the server's log");
        }
        // SAFETY: made for this client by `new`, given up once; unblocking it is ours alone.
        unsafe {
            if let Some(end) = api_if_any!(RedisModule_BlockedClientMeasureTimeEnd) {
                end(self.client);
            }
            api!(RedisModule_FreeThreadSafeContext)(self.replies.raw());
            api!(RedisModule_UnblockClient)(self.client, std::ptr::null_mut());
        }
    }
}

// ---- back to the main thread ----

static POSTED: Mutex<VecDeque<Finish>> = Mutex::new(VecDeque::new());
/// Is the main thread going to look?
static IS_CALLED: AtomicBool = AtomicBool::new(false);

/// Has the main thread do something soon, outside of any command. From any thread.
pub fn post(finish: impl FnOnce(&Ctx) + Send + 'static) {
    push(Box::new(finish));
    if !IS_CALLED.swap(true, Ordering::AcqRel) {
        // SAFETY: may be called from any thread; the callback lives as long as the module.
        unsafe { api!(RedisModule_EventLoopAddOneShot)(Some(on_called), std::ptr::null_mut()) };
    }
}

/// As [`post`], for what writes, which has to wait while nothing may be written.
pub fn post_writing(finish: impl FnOnce(&Ctx) + Send + 'static) {
    post(move |ctx| when_writable(ctx, finish));
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
    guard((), || {
        // SAFETY: made for that by `prepare`, on this thread.
        let ctx = unsafe { Ctx::new(CONTEXT.load(Ordering::Relaxed)) };
        FINISHING.schedule(&ctx, 0);
    });
}

static FINISHING: Background = Background::new(finish_posted);

fn finish_posted(ctx: &Ctx) -> Option<i64> {
    IS_CALLED.store(false, Ordering::Release);
    let (start, slice) = (Instant::now(), state::with(|s| s.slice()));
    // No more than there are now: what is put off comes to the end of the line.
    for _ in 0..posted() {
        let Some(finish) = POSTED.lock().ok().and_then(|mut posted| posted.pop_front()) else { break };
        guard((), || finish(ctx));
        if start.elapsed() > slice {
            break;
        }
    }
    let is_due = posted() > 0 && !IS_CALLED.swap(true, Ordering::AcqRel);
    is_due.then(|| if ctx.must_keep_quiet() { WHILE_QUIET_MS } else { BETWEEN_SLICES_MS })
}
