//! Others: has anybody had a command run? To know that, a command filter has to see every command; so there is one only while
//! somebody wants to know. (From Redis 8.4 on the server then has to find a command's keys a second time.)
//!
//! The server asks filters when a client's command comes, which in a transaction is long before it is run, and when a script calls one.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use redis_module::raw;

use super::api::api;
use super::context::Ctx;
use super::guard::guard;

/// So many commands came while they were counted, and two more: who was told of none yet, and holds 0, must not take it for one command
/// further.
static COMMANDS: AtomicU64 = AtomicU64::new(2);
/// The filter, while they are counted.
static FILTER: AtomicPtr<raw::RedisModuleCommandFilter> = AtomicPtr::new(std::ptr::null_mut());

/// Has commands counted from now on.
pub fn watch(ctx: &Ctx) {
    /// Not those that this module calls.
    const OF_OTHERS: i32 = raw::REDISMODULE_CMDFILTER_NOSELF as i32;
    if FILTER.load(Ordering::Relaxed).is_null() {
        // SAFETY: the context is live; the callback lives as long as the module.
        let filter = unsafe { api!(RedisModule_RegisterCommandFilter)(ctx.raw(), Some(on_command), OF_OTHERS) };
        FILTER.store(filter, Ordering::Relaxed);
    }
}

/// Commands need not be counted any more; so one of them counts as come, and more than one. Not while one is being looked at.
pub fn forget(ctx: &Ctx) {
    let filter = FILTER.swap(std::ptr::null_mut(), Ordering::Relaxed);
    if !filter.is_null() {
        // SAFETY: the context is live; the filter is this module's, and known no longer.
        unsafe { api!(RedisModule_UnregisterCommandFilter)(ctx.raw(), filter) };
        COMMANDS.fetch_add(2, Ordering::Relaxed);
    }
}

/// How many commands have come: it changes when one does.
pub fn commands() -> u64 {
    COMMANDS.load(Ordering::Relaxed)
}

/// It counts, and changes nothing.
unsafe extern "C" fn on_command(_filter: *mut raw::RedisModuleCommandFilterCtx) {
    guard((), || _ = COMMANDS.fetch_add(1, Ordering::Relaxed));
}
