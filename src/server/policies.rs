//! Policies in an append-only file that is rewritten without an RDB preamble.
//!
//! Such a rewrite asks only keys for what they are, so nobody would write the policies. But the server opens the file for
//! what comes next before it forks: sending the policies once more, right after the fork, puts them there.

use std::ffi::c_void;

use redis_module::raw;

use super::api::api;
use super::context::{Ctx, Recipients};
use super::{guard, state};

const WHILE_QUIET_MS: i64 = 20;

/// Sends the policies to the append-only file soon, if it is being rewritten and they are not the initial ones.
pub(super) fn schedule(ctx: &Ctx) {
    if !state::with(|s| s.types.are_initial()) {
        set_timer(ctx, 0);
    }
}

fn set_timer(ctx: &Ctx, after_ms: i64) {
    // SAFETY: the context is live; the callback lives as long as the module.
    unsafe { api!(RedisModule_CreateTimer)(ctx.raw(), after_ms, Some(on_timer), std::ptr::null_mut()) };
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    guard((), || {
        // SAFETY: live during the callback.
        let ctx = unsafe { Ctx::new(ctx) };
        if ctx.server_info(c"persistence", c"aof_rewrite_in_progress").as_deref() != Some("1") {
            return;
        }
        if ctx.must_keep_quiet() {
            return set_timer(&ctx, WHILE_QUIET_MS);
        }
        let (deleted, policies) = state::with(|s| (s.types.deleted_initial(), s.policies()));
        let deletions = deleted.into_iter().map(|name| vec![b"DEL".to_vec(), name.as_bytes().to_vec()]);
        for words in policies.into_iter().chain(deletions) {
            ctx.replicate_words(c"EXPCACHE.TYPE", &words, Recipients::AppendOnlyFile);
        }
    });
}
