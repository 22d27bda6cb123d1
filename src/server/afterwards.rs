//! What a keyspace event's callback may not do itself: write a key. The server does it for us when the command, transaction or script is
//! over, in one step with it and before anything else (Redis and Valkey from 7.2 on).
//!
//! Where no command brought the event about, the server may be walking over its keys still, as it does over those that expire and those of a
//! slot that it lost. There the work may touch no key either: the one that the server comes to next must not go.

use std::ffi::{c_int, c_void};

use redis_module::raw;

use super::api::api_if_any;
use super::context::Ctx;
use super::guard::guard;

type Work = Box<dyn FnOnce(&Ctx)>;

/// Does the server do so?
pub fn is_there() -> bool {
    api_if_any!(RedisModule_AddPostNotificationJob).is_some()
}

impl Ctx {
    /// Has `work` done afterwards, in the database that is selected now. `false`, and nothing is, where the server cannot.
    pub fn afterwards(&self, work: impl FnOnce(&Ctx) + 'static) -> bool {
        let Some(add) = api_if_any!(RedisModule_AddPostNotificationJob) else { return false };
        let work: *mut Work = Box::into_raw(Box::new(Box::new(work)));
        // SAFETY: the context is live; the server hands what it is given to the callback, once.
        let is_added = unsafe { add(self.raw(), Some(run), work.cast(), None) } == raw::REDISMODULE_OK as c_int;
        if !is_added {
            // SAFETY: refused, so it is still ours.
            drop(unsafe { Box::from_raw(work) });
        }
        is_added
    }
}

unsafe extern "C" fn run(ctx: *mut raw::RedisModuleCtx, work: *mut c_void) {
    guard((), || {
        // SAFETY: the context is live during the callback; the other is what `afterwards` gave.
        let (ctx, work) = unsafe { (Ctx::new(ctx), Box::from_raw(work.cast::<Work>())) };
        work(&ctx);
    });
}
