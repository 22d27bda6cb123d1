//! Others: has anybody had a command run? Asked while there is background work only, for to know it a command filter has to look at every
//! command.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use redis_module::raw;

use super::api::api;
use super::context::Ctx;

/// So many commands came while they were counted.
static COMMANDS: AtomicU64 = AtomicU64::new(0);
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

/// Commands need not be counted any more. Not while one is being looked at.
pub fn forget(ctx: &Ctx) {
    let filter = FILTER.swap(std::ptr::null_mut(), Ordering::Relaxed);
    if !filter.is_null() {
        // SAFETY: the context is live; the filter is this module's, and known no longer.
        unsafe { api!(RedisModule_UnregisterCommandFilter)(ctx.raw(), filter) };
    }
}

/// How many commands have come: it changes when one does.
pub fn commands() -> u64 {
    COMMANDS.load(Ordering::Relaxed)
}

/// It looks at nothing, and changes nothing.
unsafe extern "C" fn on_command(_filter: *mut raw::RedisModuleCommandFilterCtx) {
    COMMANDS.fetch_add(1, Ordering::Relaxed);
}
