//! Deferred replies: a worker makes the reply of a blocked client.

use std::cell::Cell;

use expcache_core::codec::Coder;
use redis_module::raw;

use super::api::{api, api_if_any};
use super::context::Ctx;
use super::replies::Replies;
use super::workers;

/// A client that waits while its reply is made. It is answered with what was put into its replies when this is dropped; if it went
/// by itself meanwhile, nothing happens.
pub struct DeferredReply {
    client: *mut raw::RedisModuleBlockedClient,
    replies: Replies,
    answered: Cell<bool>,
}

// SAFETY: the server lets one thread at a time make the reply of a blocked client, and unblock it, without its lock.
unsafe impl Send for DeferredReply {}

impl DeferredReply {
    /// Has the client wait, if it may be made to and there are threads. Else it must be served at once, which is counted.
    pub fn new(ctx: &Ctx) -> Option<Self> {
        if !ctx.may_block() || !workers::are_there() {
            workers::count_here();
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

    /// Has a thread work for it, for as long as copying so many bytes takes. The time is the command's, in statistics and `SLOWLOG`.
    pub fn work(self, cost: u64, work: impl FnOnce(&mut Coder, Self) + Send + 'static) {
        let timed = move |coder: &mut Coder| {
            let start = self.measure(api_if_any!(RedisModule_BlockedClientMeasureTimeStart));
            work(coder, start);
        };
        workers::urgent(cost, timed);
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

impl Drop for DeferredReply {
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
