//! Reclaiming: the keys of dead entries are unlinked, a slice of bounded time after another.
//!
//! Only a master reclaims; its replicas and its append-only file get one `UNLINK` a key. While nothing may be written
//! ([`Ctx::must_keep_quiet`]) the timer waits; a replica that becomes a master takes up where its master stopped.

use std::ffi::c_void;
use std::time::Instant;

use expcache_core::index::Soft;
use redis_module::raw;

use super::api::api;
use super::context::{Arg, Ctx, LogLevel, Text, log};
use super::guard;
use super::state::{self, Reason, State};

/// How long others have the server to themselves between two slices, ms.
const BETWEEN_SLICES_MS: i64 = 1;
/// How long to wait while nothing may be written, ms.
const WHILE_QUIET_MS: i64 = 20;

/// Sees to it that dead entries are reclaimed, if there are any and no timer is set.
pub fn schedule(ctx: &Ctx) {
    set_timer(ctx, BETWEEN_SLICES_MS);
}

fn set_timer(ctx: &Ctx, after_ms: i64) {
    let due = state::with(|s| {
        let due = !s.reclaim_is_due && s.dead_len() > 0;
        s.reclaim_is_due |= due;
        due
    });
    if due {
        // SAFETY: the context is live; the callback lives as long as the module.
        unsafe { api!(RedisModule_CreateTimer)(ctx.raw(), after_ms, Some(on_timer), std::ptr::null_mut()) };
    }
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _data: *mut c_void) {
    guard((), || {
        // SAFETY: live during the callback.
        let ctx = unsafe { Ctx::new(ctx) };
        let slice = state::with(|s| {
            s.reclaim_is_due = false;
            s.slice()
        });
        if !ctx.is_master() {
            // The master's unlinks will come; if this server is promoted, `schedule` is called again.
            return;
        }
        if ctx.must_keep_quiet() {
            return set_timer(&ctx, WHILE_QUIET_MS);
        }
        let start = Instant::now();
        while reclaim_next(&ctx).is_some() && start.elapsed() < slice {}
        set_timer(&ctx, BETWEEN_SLICES_MS);
    });
}

/// Deals with every marked entry of the selected database now; returns how many of them the server found expired instead.
pub fn reclaim_now(ctx: &Ctx) -> u64 {
    let db = ctx.db();
    let mut expired = 0;
    while let Some(was_there) = reclaim_in(ctx, db) {
        expired += u64::from(!was_there);
    }
    expired
}

/// Deals with one marked entry of any database, if there is one.
fn reclaim_next(ctx: &Ctx) -> Option<bool> {
    let db = state::with(|s| s.indexes().find(|(_, index)| index.marked_len() > 0).map(|(db, _)| db))?;
    ctx.select(db);
    reclaim_in(ctx, db)
}

/// Deals with one marked entry of a database, if there is one. Was it still there?
fn reclaim_in(ctx: &Ctx, db: i32) -> Option<bool> {
    let next = |s: &State| {
        let index = s.index(db)?;
        let dead = index.next_dead().map(|(id, key)| (id, Text::new(key), None));
        dead.or_else(|| index.next_soft().map(|(id, key, soft)| (id, Text::new(key), Some(soft))))
    };
    let (id, key, soft) = state::with(|s| next(s))?;
    let was_there = match soft {
        None => state::because(Reason::Reclaiming, || ctx.unlink(key.arg())),
        Some(soft) => make_stale(ctx, key.arg(), soft),
    };
    state::with(|s| {
        if next(s).is_some_and(|(again, ..)| again == id) {
            log(LogLevel::Warning, "a marked entry has no key; see EXPCACHE.DEBUG CHECK");
            s.drop_lost(db, id);
        }
    });
    Some(was_there)
}

fn make_stale(_ctx: &Ctx, _name: Arg<'_>, _soft: Soft) -> bool {
    true
}
