//! Background work: one slice of bounded time after another.
//!
//! The next slice comes with the next turn of the server's event loop, in which everybody is served who waits. So the work follows the load:
//! while nobody else is there it has nearly all of the time, and among many clients a slice in each turn, if turns are long. Nobody waits for it
//! longer than a slice of each kind that is under way. The server writes replies at the end of a turn, so work gives way for a moment after
//! its last slice: in a turn in which a command was run it has none then. And slices are shorter while turns are.
//!
//! ```text
//!  slice ──▶ more is left ──▶ a call from the next turn of the loop ──▶ a timer that is due at once ──▶ slice
//!        └─▶ it is due later ──▶ a timer ──▶ slice
//! ```
//!
//! A timer that a timer's callback sets comes a millisecond later at the earliest, so nine tenths of an idle server's time would be lost. The call
//! comes at once, but perhaps in the midst of a script, where nothing may be done: so it only sets a timer, which the same turn serves.
//!
//! The server counts a timer's time by the clock of the day. When that is set back, the timer comes so much later; so one
//! that is late is set anew with the next beat of the server ([`catch_up`]).

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::{Duration, Instant};

use redis_module::raw;

use super::api::api;
use super::context::Ctx;
use super::guard::guard;
use super::main_thread::MainThread;
use super::others;
use super::setting::Setting;

/// How long one slice of work may take, µs.
pub static SLICE_US: Setting = Setting::number(c"reclaim-slice-us", 100, 1..=100_000);

/// How long one slice of work may take: half of what is allowed, while others have commands run and turns are short. On the main thread.
pub fn slice() -> Duration {
    let longest = Duration::from_micros(SLICE_US.get());
    let was_within = |at: &MainThread<Option<Instant>>, time| at.with(|at| at.is_some_and(|at| at.elapsed() < time));
    let are_others_waiting = was_within(&LAST_COMMAND, IN_COMPANY) && was_within(&LAST_SLICE, longest);
    if are_others_waiting { longest.min(Duration::from_micros(WORTH_A_TURN_US).max(longest / 2)) } else { longest }
}

/// A turn of the event loop takes some microseconds by itself. For less work than this it is not worth while.
const WORTH_A_TURN_US: u64 = 50;

/// For how long others have the server to themselves between two slices, at the least, ms.
pub fn between_slices_ms() -> i64 {
    i64::from(SLICE_US.get() < WORTH_A_TURN_US)
}

/// How long to wait while nothing may be written ([`Ctx::must_keep_quiet`]), ms.
pub const WHILE_QUIET_MS: i64 = 20;
/// How long to wait after a panic, ms.
const AFTER_PANIC_MS: i64 = 1000;
/// By how much a timer may be late before it is not waited for any longer, ms.
const LATE_MS: u64 = 100;

/// The server counts in µs, and a timer beyond what that can hold would fire at once, for ever. So it fires after a day, and work that is
/// not due yet looks again then.
const LONGEST_TIMER_MS: i64 = 24 * 60 * 60 * 1000;

/// Work that comes again as long as there is some.
pub struct Background {
    /// Does a slice of it; says in how many milliseconds the next is due, if one is.
    slice: fn(&Ctx) -> Option<i64>,
    pace: MainThread<Pace>,
}

/// How a kind of work comes along.
#[derive(Default)]
struct Pace {
    /// How many [commands of others](others::commands) there had been when it last had its turn.
    commands: u64,
    /// When its last slice was over.
    last_slice: Option<Instant>,
}

/// A slice that is due.
struct Due {
    work: &'static Background,
    /// `None`: the next turn of the event loop sets it.
    timer: Option<raw::RedisModuleTimerID>,
    at: Instant,
}

impl Due {
    fn stop(&self, ctx: &Ctx) {
        if let Some(timer) = self.timer {
            // SAFETY: the context is live; a timer that fired is not known any more.
            unsafe { api!(RedisModule_StopTimer)(ctx.raw(), timer, std::ptr::null_mut()) };
        }
    }
}

/// There are as many as kinds of work at most. No call into the server is made while they are borrowed.
static DUE: MainThread<Vec<Due>> = MainThread::new();
/// When the last slice of any kind was over.
static LAST_SLICE: MainThread<Option<Instant>> = MainThread::new();
/// When a command of others was last seen.
static LAST_COMMAND: MainThread<Option<Instant>> = MainThread::new();
/// For so long after a slice its work gives way to replies, and no longer than to the end of a turn: it may be what somebody waits for.
const GIVES_WAY: Duration = Duration::from_micros(50);
/// For so long after a command of theirs others are there.
const IN_COMPANY: Duration = Duration::from_millis(10);
/// A context that is good for setting timers.
static CONTEXT: AtomicPtr<raw::RedisModuleCtx> = AtomicPtr::new(std::ptr::null_mut());

/// To be called when the module is loaded.
pub(super) fn prepare(ctx: &Ctx) {
    // SAFETY: the context is live; what is made of it is kept for ever.
    let context = unsafe { api!(RedisModule_GetDetachedThreadSafeContext)(ctx.raw()) };
    CONTEXT.store(context, Ordering::Relaxed);
}

impl Background {
    /// Work of which `slice` does a part.
    pub const fn new(slice: fn(&Ctx) -> Option<i64>) -> Self {
        Self { slice, pace: MainThread::new() }
    }

    /// Has a slice done in so many milliseconds, unless one is due already. On the main thread.
    pub fn schedule(&'static self, ctx: &Ctx, after_ms: i64) {
        if !DUE.with(|all| all.iter().any(|due| std::ptr::eq(due.work, self))) {
            self.set_timer(ctx, after_ms);
        }
    }

    /// Has a slice done in so many milliseconds at the latest: a timer that is set for later is set anew. On the main thread.
    pub fn schedule_by(&'static self, ctx: &Ctx, after_ms: i64) {
        let at = Instant::now() + Duration::from_millis(after_ms.clamp(0, LONGEST_TIMER_MS).unsigned_abs());
        let is_later = |due: &mut Due| std::ptr::eq(due.work, self) && due.at > at;
        let later: Vec<Due> = DUE.with(|all| all.extract_if(.., is_later).collect());
        later.iter().for_each(|due| due.stop(ctx));
        self.schedule(ctx, after_ms);
    }

    /// Has a slice done at once, by a callback of the event loop, which gets no context.
    pub fn schedule_from_anywhere(&'static self) {
        // SAFETY: made for that by `prepare`, on this thread.
        let ctx = unsafe { Ctx::new(CONTEXT.load(Ordering::Relaxed)) };
        self.schedule(&ctx, 0);
    }

    /// Has a slice done in the next turn of the event loop, unless one is due already.
    fn schedule_next_turn(&'static self, ctx: &Ctx) {
        others::watch(ctx);
        let is_new = DUE.with(|all| {
            let is_new = !all.iter().any(|due| std::ptr::eq(due.work, self));
            if is_new {
                all.push(Due { work: self, timer: None, at: Instant::now() });
            }
            is_new
        });
        if is_new {
            let this = std::ptr::from_ref(self).cast_mut().cast();
            // SAFETY: the callback and what it is given live as long as the module.
            unsafe { api!(RedisModule_EventLoopAddOneShot)(Some(on_turn), this) };
        }
    }

    /// Has a command been run since its last turn, shortly after its last slice?
    fn gives_way(&self) -> bool {
        let commands = others::commands();
        let (then, last_slice) =
            self.pace.with(|pace| (std::mem::replace(&mut pace.commands, commands), pace.last_slice));
        if then == commands {
            return false;
        }
        LAST_COMMAND.with(|last| *last = Some(Instant::now()));
        last_slice.is_some_and(|last| last.elapsed() < GIVES_WAY)
    }

    fn set_timer(&'static self, ctx: &Ctx, after_ms: i64) {
        let this = std::ptr::from_ref(self).cast_mut().cast();
        let after_ms = after_ms.min(LONGEST_TIMER_MS);
        // SAFETY: the context is live; the callback and what it is given live as long as the module.
        let timer = unsafe { api!(RedisModule_CreateTimer)(ctx.raw(), after_ms, Some(on_timer), this) };
        let at = Instant::now() + Duration::from_millis(after_ms.unsigned_abs());
        DUE.with(|all| all.push(Due { work: self, timer: Some(timer), at }));
    }
}

/// Sets timers that are late anew.
pub fn catch_up(ctx: &Ctx) {
    if DUE.with(|all| all.iter().all(|due| due.timer.is_some())) {
        others::forget(ctx);
    }
    let is_late = |due: &mut Due| due.at.elapsed() > Duration::from_millis(LATE_MS);
    let late: Vec<Due> = DUE.with(|all| all.extract_if(.., is_late).collect());
    for due in late {
        due.stop(ctx);
        due.work.set_timer(ctx, 0);
    }
}

/// Perhaps in the midst of a script.
unsafe extern "C" fn on_turn(this: *mut c_void) {
    guard((), || {
        // SAFETY: what `schedule_next_turn` gave.
        let this = unsafe { &*this.cast_const().cast::<Background>() };
        let is_this = |due: &mut Due| due.timer.is_none() && std::ptr::eq(due.work, this);
        // Else it was late, and has a timer by now.
        if DUE.with(|all| all.extract_if(.., is_this).next().is_some()) {
            this.schedule_from_anywhere();
        }
    });
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, this: *mut c_void) {
    guard((), || {
        // SAFETY: the context is live during the callback; the other is what `schedule` gave.
        let (ctx, this) = unsafe { (Ctx::new(ctx), &*this.cast_const().cast::<Background>()) };
        DUE.with(|all| all.retain(|due| !std::ptr::eq(due.work, this)));
        if this.gives_way() {
            return this.schedule_next_turn(&ctx);
        }
        let next = guard(Some(AFTER_PANIC_MS), || (this.slice)(&ctx));
        let now = Some(Instant::now());
        LAST_SLICE.with(|last| *last = now);
        this.pace.with(|pace| pace.last_slice = now);
        match next {
            None => (),
            Some(..=0) => this.schedule_next_turn(&ctx),
            Some(after_ms) => this.schedule(&ctx, after_ms),
        }
    });
}
