//! What is done besides the commands: a slice of bounded time after another, each in a timer of its own.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use redis_module::raw;

use super::api::api;
use super::context::Ctx;
use super::guard;

/// How long others have the server to themselves between two slices, ms.
pub const BETWEEN_SLICES_MS: i64 = 1;
/// How long to wait while nothing may be written ([`Ctx::must_keep_quiet`]), ms.
pub const WHILE_QUIET_MS: i64 = 20;
/// How long to wait after a panic, ms.
const AFTER_PANIC_MS: i64 = 1000;

/// Work that comes again as long as there is some.
pub struct Background {
    /// Does a slice of it; says in how many milliseconds the next is due, if one is.
    slice: fn(&Ctx) -> Option<i64>,
    is_due: AtomicBool,
}

impl Background {
    pub const fn new(slice: fn(&Ctx) -> Option<i64>) -> Self {
        Self { slice, is_due: AtomicBool::new(false) }
    }

    /// Has a slice done in so many milliseconds, unless one is due already. On the main thread.
    pub fn schedule(&'static self, ctx: &Ctx, after_ms: i64) {
        if !self.is_due.swap(true, Ordering::Relaxed) {
            let this = std::ptr::from_ref(self).cast_mut().cast();
            // SAFETY: the context is live; the callback and what it is given live as long as the module.
            unsafe { api!(RedisModule_CreateTimer)(ctx.raw(), after_ms, Some(on_timer), this) };
        }
    }
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, this: *mut c_void) {
    guard((), || {
        // SAFETY: the context is live during the callback; the other is what `schedule` gave.
        let (ctx, this) = unsafe { (Ctx::new(ctx), &*this.cast_const().cast::<Background>()) };
        this.is_due.store(false, Ordering::Relaxed);
        if let Some(after_ms) = guard(Some(AFTER_PANIC_MS), || (this.slice)(&ctx)) {
            this.schedule(&ctx, after_ms);
        }
    });
}
