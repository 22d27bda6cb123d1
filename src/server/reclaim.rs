//! Reclaiming: the keys of dead entries are unlinked, a slice of bounded time after another.
//!
//! Only a master reclaims; its replicas and its append-only file get one `UNLINK` a key. While nothing may be written
//! ([`Ctx::must_keep_quiet`]) the timer waits; a replica that becomes a master takes up where its master stopped.

use std::ffi::c_void;
use std::time::{Duration, Instant};

use redis_module::raw;

use super::api::api;
use super::context::{Ctx, LogLevel, Text, log};
use super::guard;
use super::state::{self, Reason};

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
            Duration::from_micros(s.config.reclaim_slice_us)
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

/// Reclaims every dead entry of the selected database now; returns how many of them the server found expired instead.
pub fn reclaim_now(ctx: &Ctx) -> u64 {
    let db = ctx.db();
    let mut expired = 0;
    while let Some(unlinked) = reclaim_in(ctx, db) {
        expired += u64::from(!unlinked);
    }
    expired
}

/// Reclaims one dead entry of any database, if there is one.
fn reclaim_next(ctx: &Ctx) -> Option<bool> {
    let db = state::with(|s| s.indexes().find(|(_, index)| index.dead_len() > 0).map(|(db, _)| db))?;
    ctx.select(db);
    reclaim_in(ctx, db)
}

fn reclaim_in(ctx: &Ctx, db: i32) -> Option<bool> {
    let (id, key) = state::with(|s| {
        let index = s.index(db)?;
        let (id, key) = index.next_dead()?;
        Some((id, Text::new(key)))
    })?;
    let unlinked = state::because(Reason::Reclaiming, || ctx.unlink(key.arg()));
    state::with(|s| {
        let again = s.index(db).and_then(|index| index.next_dead()).is_some_and(|(next, _)| next == id);
        if again {
            log(LogLevel::Warning, "a dead entry has no key; see EXPCACHE.DEBUG CHECK");
            s.drop_lost(db, id);
        }
    });
    Some(unlinked)
}
