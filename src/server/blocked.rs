//! Clients that wait for their reply, while the server goes on.
//!
//! A command blocks its client, and the client is answered later, from the place where its reply arises. Until then it may go by itself:
//! disconnected, killed, unblocked by `CLIENT UNBLOCK` or by a change of role. Each way leads to [`OnEnd::gone`], once, so that
//! nothing is kept for a client that is no more.
//!
//! Times are ours, not the server's: in its own a client that is answered in the moment of its timeout gets no reply at all.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::api;
use super::args::Args;
use super::context::Ctx;
use super::deferred::DeferredReply;
use super::guard::guard;
use super::main_thread::MainThread;
use super::replies::reply;
use super::setting::Setting;

/// The most clients that wait for another's production, and for a search.
pub static MAX_WAITERS: Setting = Setting::number(c"max-waiters", 100_000, 0..=10_000_000);

/// A blocked client. It is never one that went.
pub type BlockedId = u64;

/// What happens when the waiting of a client ends before it is answered.
pub struct OnEnd {
    /// Called when the client disconnects, or is unblocked from outside.
    pub gone: fn(BlockedId),
    /// Answers it when `CLIENT UNBLOCK` ends its waiting; without this, that command does not apply.
    pub unblocked: Option<fn(&Ctx, Args<'_>) -> Result<()>>,
}

/// All of them.
static WAITING: MainThread<HashMap<BlockedId, &'static OnEnd>> = MainThread::new();

type Reply = Box<dyn FnOnce(&Ctx, Args<'_>) -> Result<()>>;

impl Ctx {
    /// Has the client wait until it is answered. Only if it [may be made to](Ctx::may_block).
    pub fn block(&self, kind: &'static OnEnd) -> BlockedId {
        let unblocked: raw::RedisModuleCmdFunc = if kind.unblocked.is_some() { Some(on_unblocked) } else { None };
        // SAFETY: the context is that of a command; the callbacks live as long as the module.
        let waiter = unsafe {
            let client = api!(RedisModule_BlockClient)(self.raw(), Some(on_answered), unblocked, Some(free_reply), 0);
            api!(RedisModule_SetDisconnectCallback)(client, Some(on_gone));
            client as BlockedId
        };
        WAITING.with(|all| all.insert(waiter, kind));
        waiter
    }
}

/// Answers a client: `reply` is called with its command's arguments when the server comes to it, unless the client goes first.
pub fn answer(waiter: BlockedId, reply: impl FnOnce(&Ctx, Args<'_>) -> Result<()> + 'static) {
    if WAITING.with(|all| all.remove(&waiter)).is_some() {
        let reply: Box<Option<Reply>> = Box::new(Some(Box::new(reply)));
        unblock(waiter, Box::into_raw(reply).cast());
    }
}

/// Hands a client over to somebody who answers it: from now on it goes by nobody else's doing. `None` if it went before.
pub fn into_deferred(waiter: BlockedId) -> Option<DeferredReply> {
    WAITING.with(|all| all.remove(&waiter))?;
    // SAFETY: a waiter is a blocked client that nobody unblocked yet, and nobody else will now.
    Some(unsafe { DeferredReply::of(waiter as *mut raw::RedisModuleBlockedClient) })
}

fn unblock(waiter: BlockedId, reply: *mut c_void) {
    // SAFETY: a waiter is a blocked client that nobody unblocked yet; the server hands the reply to `free_reply` at last.
    unsafe { api!(RedisModule_UnblockClient)(waiter as *mut raw::RedisModuleBlockedClient, reply) };
}

unsafe extern "C" fn on_answered(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: context and arguments are live during the callback; the private data is what `answer` gave.
    unsafe {
        let (ctx, args) = (Ctx::of_command(ctx, argv, argc), Args::new(argv, argc, 1));
        let data = api!(RedisModule_GetBlockedClientPrivateData)(ctx.raw()).cast::<Option<Reply>>();
        reply(&ctx, || match data.as_mut().and_then(Option::take) {
            Some(reply) => reply(&ctx, args),
            None => Ok(()),
        });
    }
    raw::REDISMODULE_OK as c_int
}

unsafe extern "C" fn free_reply(_ctx: *mut raw::RedisModuleCtx, data: *mut c_void) {
    // SAFETY: `answer` made it, and the server gives it up.
    guard((), || drop(unsafe { Box::from_raw(data.cast::<Option<Reply>>()) }));
}

unsafe extern "C" fn on_gone(_ctx: *mut raw::RedisModuleCtx, client: *mut raw::RedisModuleBlockedClient) {
    guard((), || {
        forget(client as BlockedId);
    });
}

unsafe extern "C" fn on_unblocked(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: context and arguments are live during the callback.
    let (client, ctx, args) = unsafe {
        let client = api!(RedisModule_GetBlockedClientHandle)(ctx);
        (client, Ctx::of_command(ctx, argv, argc), Args::new(argv, argc, 1))
    };
    reply(&ctx, || match forget(client as BlockedId).and_then(|kind| kind.unblocked) {
        Some(answer) => answer(&ctx, args),
        // Its answer was on its way, and now comes too late.
        None => Err(Error::invalid("unblocked before the reply was ready")),
    });
    raw::REDISMODULE_OK as c_int
}

/// A client went by itself. The server wants to be told that it may free what it keeps of it.
fn forget(waiter: BlockedId) -> Option<&'static OnEnd> {
    let kind = WAITING.with(|all| all.remove(&waiter))?;
    // Whatever becomes of this, the server is told.
    guard((), || (kind.gone)(waiter));
    unblock(waiter, std::ptr::null_mut());
    Some(kind)
}
