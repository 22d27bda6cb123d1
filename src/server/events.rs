//! What happens to keys and databases behind our back, and what it means for the index.
//!
//! Every way in which a key can come, go or move ends in one of these (tried on every supported server):
//!
//! | what | how we learn of it |
//! |---|---|
//! | our own commands | they link by themselves |
//! | a key goes, in whatever way: deleted, expired, evicted, overwritten, renamed, moved, trimmed | the type's `unlink2` |
//! | a key comes by `RENAME`, `MOVE`, `COPY`, `RESTORE` | `rename_to`, `move_to`, `copy_to`, `restore` |
//! | a key is loaded (RDB, full synchronization, slot migration) | `loaded` |
//! | a database, or all, is emptied at once | the event of flushing, which comes before the values are freed |
//! | two databases are exchanged | the event of swapping |
//!
//! `new` is not used: some servers send it before the old name is unlinked. Loading into a database beside the live one
//! is not opted in to, so a replica is flushed and loaded like anybody else.

use std::ffi::{CStr, c_char, c_int, c_void};

use expcache_core::entry::Verdict;
use expcache_core::index::Mark;
use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::{Arg, Text};
use super::context::Ctx;
use super::guard::guard;
use super::key::{Found, Mode};
use super::log::{LogLevel, log};
use super::state::{self, Cause};
use super::{background, clock, leases, ranking, reclaim, settle, slots, status};

/// Subscribes to all of it.
pub(super) fn subscribe(ctx: &Ctx) -> Result<(), String> {
    let wanted = raw::REDISMODULE_NOTIFY_GENERIC
        | raw::REDISMODULE_NOTIFY_EXPIRED
        | raw::REDISMODULE_NOTIFY_EVICTED
        | raw::REDISMODULE_NOTIFY_LOADED;
    // Being subscribed to trimming makes servers that migrate slots atomically unlink key by key.
    // SAFETY: asks a question.
    let known = api_if_any!(RedisModule_GetKeyspaceNotificationFlagsAll).map_or(0, |all| unsafe { all() });
    let events = wanted | known & raw::REDISMODULE_NOTIFY_KEY_TRIMMED;
    // SAFETY: the context is that of loading the module; the callbacks live as long as the module, which is never unloaded.
    unsafe {
        if api!(RedisModule_SubscribeToKeyspaceEvents)(ctx.raw(), events, Some(on_key)) != raw::REDISMODULE_OK as c_int
        {
            return Err("the server refused the subscription to keyspace events".into());
        }
        let on: [(u64, unsafe extern "C" fn(_, _, _, _)); 7] = [
            (raw::REDISMODULE_EVENT_FLUSHDB, on_flush),
            (raw::REDISMODULE_EVENT_SWAPDB, on_swap),
            (raw::REDISMODULE_EVENT_LOADING, on_loading),
            (raw::REDISMODULE_EVENT_FORK_CHILD, on_fork),
            (raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, on_role),
            (raw::REDISMODULE_EVENT_REPLICA_CHANGE, on_beat),
            (raw::REDISMODULE_EVENT_CRON_LOOP, on_beat),
        ];
        for (id, callback) in on {
            let event = raw::RedisModuleEvent { id, dataver: 1 };
            if api!(RedisModule_SubscribeToServerEvent)(ctx.raw(), event, Some(callback))
                != raw::REDISMODULE_OK as c_int
            {
                return Err(format!("the server refused the subscription to event {id}"));
            }
        }
    }
    slots::subscribe(ctx);
    Ok(())
}

unsafe extern "C" fn on_key(
    ctx: *mut raw::RedisModuleCtx,
    _class: c_int,
    event: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    guard((), || {
        // SAFETY: all three are live during the callback.
        let (ctx, event, key) = unsafe { (Ctx::new(ctx), CStr::from_ptr(event).to_bytes(), Arg::new(key)) };
        match event {
            b"expire" | b"persist" => redate_by_name(&ctx, key),
            b"restore" => {
                begin_anew(&ctx, key);
                link_by_name(&ctx, key);
            }
            b"loaded" | b"rename_to" | b"move_to" | b"copy_to" => link_by_name(&ctx, key),
            b"rename_from" | b"move_from" => state::with(state::State::forget_gone),
            b"del" => {
                count_gone(key, Cause::Deleted);
                if !state::with(|s| s.is_busy()) {
                    leases::lost(&ctx, ctx.db(), key.bytes());
                }
            }
            b"expired" => count_gone(key, Cause::Expired),
            b"evicted" => count_gone(key, Cause::Evicted),
            _ => (),
        }
    });
    raw::REDISMODULE_OK as c_int
}

/// Notes the first use of an entry that a client brought, who may have named any moment as that of its storing. Replicas get it as it
/// came, so each server believes no moment later than its own.
fn begin_anew(ctx: &Ctx, key: Arg<'_>) {
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    if let Found::Entry(entry) = opened.found()
        && !entry.is_linked()
    {
        entry.touch(clock::use_us());
        entry.clamp_created_ms(clock::unix_ms());
    }
}

/// Puts what the key holds into the index, if it is an entry.
fn link_by_name(ctx: &Ctx, key: Arg<'_>) {
    // The name may stand on the server's stack, so a name of our own is used to open it.
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    let db = opened.db();
    let (Found::Entry(entry), expire_at_ms) = opened.found_dated(|_| true) else { return };
    if entry.is_linked() {
        return;
    }
    let is_marked = state::with(|s| s.verdict(db, entry)) != Verdict::Alive;
    let linked = state::with(|s| s.link_loose(db, key.bytes(), entry, expire_at_ms));
    if entry.is_unsettled() {
        settle::settle(ctx, db, key.bytes(), entry);
    }
    drop(opened);
    leases::stored(ctx, db, key.bytes(), None);
    if !linked {
        log(LogLevel::Warning, "the index is full; an entry is left out of it");
    }
    if is_marked {
        reclaim::schedule(ctx);
    }
}

/// Notes when what the key holds expires, if it is an entry.
fn redate_by_name(ctx: &Ctx, key: Arg<'_>) {
    // Without entries, every key is somebody else's.
    if !state::with(|s| s.indexes().any(|(_, index)| index.minds_expiries())) {
        return;
    }
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    let db = opened.db();
    if let (Found::Entry(entry), expire_at_ms) = opened.found_dated(|_| true) {
        // A rewritten append-only file gives each key its expiry, also where a soft invalidation is still to be carried out. Any
        // other says when the entry is gone; what was softly invalidated stays stale.
        state::with(|s| {
            let mark = if s.expected_expiry(key.bytes()) { Mark::Kept } else { Mark::CarriedOut };
            s.redate(db, entry, expire_at_ms, mark);
        });
    }
}

fn count_gone(key: Arg<'_>, cause: Cause) {
    state::with(|s| {
        // Almost every event is about a key of another type.
        if s.has_gone() {
            s.count_gone(key.bytes(), cause);
        }
    });
}

unsafe extern "C" fn on_flush(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    data: *mut c_void,
) {
    if phase != raw::REDISMODULE_SUBEVENT_FLUSHDB_START {
        return;
    }
    guard((), || {
        // SAFETY: that is what this event comes with.
        let info = unsafe { &*data.cast::<raw::RedisModuleFlushInfo>() };
        let db = (info.dbnum >= 0).then_some(info.dbnum);
        state::with(|s| s.flush(db));
        // SAFETY: live during the callback.
        leases::flush(&unsafe { Ctx::new(ctx) }, db);
    });
}

unsafe extern "C" fn on_swap(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _phase: u64,
    data: *mut c_void,
) {
    guard((), || {
        // SAFETY: that is what this event comes with.
        let info = unsafe { &*data.cast::<raw::RedisModuleSwapDbInfo>() };
        let both = [info.dbnum_first, info.dbnum_second];
        state::with(|s| {
            s.swap(both[0], both[1]);
            s.ranking.restart();
        });
        // SAFETY: live during the callback.
        both.into_iter().for_each(|db| leases::flush(&unsafe { Ctx::new(ctx) }, Some(db)));
    });
}

/// What is loaded brings its policies along; if it brings none, they were the initial ones.
unsafe extern "C" fn on_loading(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    _data: *mut c_void,
) {
    guard((), || match phase {
        raw::REDISMODULE_SUBEVENT_LOADING_RDB_START
        | raw::REDISMODULE_SUBEVENT_LOADING_AOF_START
        | raw::REDISMODULE_SUBEVENT_LOADING_REPL_START => state::with(|s| s.types.reset_policies()),
        raw::REDISMODULE_SUBEVENT_LOADING_ENDED => {
            status::forget_who_hears();
            // SAFETY: live during the callback.
            reclaim::schedule(&unsafe { Ctx::new(ctx) });
        }
        _ => (),
    });
}

unsafe extern "C" fn on_fork(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    _data: *mut c_void,
) {
    guard((), || {
        let born = phase == raw::REDISMODULE_SUBEVENT_FORK_CHILD_BORN;
        status::set_saving(born);
        status::forget_who_hears();
        if born {
            // SAFETY: live during the callback.
            super::policies::schedule(&unsafe { Ctx::new(ctx) });
        }
    });
}

unsafe extern "C" fn on_role(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _phase: u64,
    _data: *mut c_void,
) {
    guard((), || {
        // SAFETY: live during the callback.
        let ctx = unsafe { Ctx::new(ctx) };
        status::forget_who_hears();
        status::set_replica(!ctx.is_master());
        // What was given out in the old role is worth nothing in the new one.
        leases::flush(&ctx, None);
        reclaim::schedule(&ctx);
    });
}

/// Who hears what is replicated has to be asked again; and what went long ago went without an event.
unsafe extern "C" fn on_beat(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _phase: u64,
    _data: *mut c_void,
) {
    guard((), || {
        status::forget_who_hears();
        state::with(|s| {
            s.forget_gone();
            s.beat();
        });
        // SAFETY: live during the callback.
        let ctx = unsafe { Ctx::new(ctx) };
        status::set_replica(!ctx.is_master());
        ranking::schedule(&ctx);
        leases::catch_up(&ctx);
        leases::look_after(&ctx);
        background::catch_up(&ctx);
    });
}
