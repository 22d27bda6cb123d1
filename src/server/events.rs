//! Passes events about keys and the server to the features. They react in the order of their list, each behind a guard of its own.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::Arg;
use super::context::Ctx;
use super::feature::{Feature, KeyEvent, ServerEvent, WriteEvent};
use super::guard::guard;
use super::{background, saving, slots, status};

struct Reactions {
    on_key: Vec<fn(&Ctx, KeyEvent, Arg<'_>)>,
    on_write: Vec<fn(&Ctx, WriteEvent, Arg<'_>)>,
    on_server: Vec<fn(&Ctx, ServerEvent)>,
}

static REACTIONS: OnceLock<Reactions> = OnceLock::new();

/// Subscribes to what features react to.
pub(super) fn subscribe(ctx: &Ctx, features: &'static [&'static Feature]) -> Result<(), String> {
    let on_key_all = features.iter().filter_map(|feature| feature.on_key).collect();
    let on_write = features.iter().filter_map(|feature| feature.on_write).collect();
    let on_server = features.iter().filter_map(|feature| feature.on_server).collect();
    let _ = REACTIONS.set(Reactions { on_key: on_key_all, on_write, on_server });
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
        if IS_UNSEEN.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: all three are live during the callback.
        let (ctx, event, key) = unsafe { (Ctx::new(ctx), CStr::from_ptr(event).to_bytes(), Arg::new(key)) };
        let event = match event {
            b"expire" | b"persist" => KeyEvent::Redated,
            b"restore" => KeyEvent::Restored,
            b"loaded" => KeyEvent::Loaded,
            b"rename_to" | b"move_to" | b"copy_to" => KeyEvent::Arrived,
            b"rename_from" | b"move_from" => KeyEvent::Left,
            b"del" => KeyEvent::Deleted,
            b"expired" => KeyEvent::Expired,
            b"evicted" => KeyEvent::Evicted,
            // Valkey tells so of a field that its sweep found.
            b"hexpired" => return tell_of_write(&ctx, WriteEvent::PartExpired, key),
            _ => return,
        };
        for react in REACTIONS.get().into_iter().flat_map(|all| &all.on_key) {
            guard((), || react(&ctx, event, key));
        }
    });
    raw::REDISMODULE_OK as c_int
}

// ---- native values that are written

/// The classes of events that tell of it, besides those of all keys.
const WRITES: c_int = raw::REDISMODULE_NOTIFY_STRING
    | raw::REDISMODULE_NOTIFY_LIST
    | raw::REDISMODULE_NOTIFY_SET
    | raw::REDISMODULE_NOTIFY_HASH
    | raw::REDISMODULE_NOTIFY_ZSET
    | raw::REDISMODULE_NOTIFY_STREAM
    | raw::REDISMODULE_NOTIFY_MODULE;

static ARE_WRITES_WATCHED: AtomicBool = AtomicBool::new(false);

/// Is somebody to be told of native values that are written?
pub fn are_writes_watched() -> bool {
    ARE_WRITES_WATCHED.load(Ordering::Relaxed)
}

/// Has rooms told of native values that are written, or no longer. The server is asked to when it is first wanted: until then a native
/// write costs what it does without us. It cannot be asked to stop on all servers, so from then on it costs a look at a flag.
pub fn watch_writes(ctx: &Ctx, wanted: bool) {
    static IS_SUBSCRIBED: AtomicBool = AtomicBool::new(false);
    if wanted && !IS_SUBSCRIBED.swap(true, Ordering::Relaxed) {
        // SAFETY: the context is live and the module's; the callback lives as long as the module, which is never unloaded.
        unsafe { api!(RedisModule_SubscribeToKeyspaceEvents)(ctx.raw(), WRITES, Some(on_write)) };
    }
    ARE_WRITES_WATCHED.store(wanted, Ordering::Relaxed);
}

unsafe extern "C" fn on_write(
    ctx: *mut raw::RedisModuleCtx,
    class: c_int,
    event: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    guard((), || {
        if !are_writes_watched() || IS_UNSEEN.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: all three are live during the callback.
        let (ctx, event, key) = unsafe { (Ctx::new(ctx), CStr::from_ptr(event).to_bytes(), Arg::new(key)) };
        let event = match (class, event) {
            // What is said of a field's expiry changes no value.
            (raw::REDISMODULE_NOTIFY_HASH, b"hexpire" | b"hpersist") => return,
            (raw::REDISMODULE_NOTIFY_HASH, b"hexpired") => WriteEvent::PartExpired,
            // Of a value of ours.
            (raw::REDISMODULE_NOTIFY_MODULE, event) if event.starts_with(b"expcache.") => return,
            _ => WriteEvent::Changed,
        };
        tell_of_write(&ctx, event, key);
    });
    raw::REDISMODULE_OK as c_int
}

fn tell_of_write(ctx: &Ctx, event: WriteEvent, key: Arg<'_>) {
    if are_writes_watched() {
        REACTIONS.get().into_iter().flat_map(|all| &all.on_write).for_each(|react| react(ctx, event, key));
    }
}

static IS_UNSEEN: AtomicBool = AtomicBool::new(false);

/// Does something to keys of which no room is told.
pub fn unseen<R>(work: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            IS_UNSEEN.store(false, Ordering::Relaxed);
        }
    }
    IS_UNSEEN.store(true, Ordering::Relaxed);
    let _reset = Reset;
    work()
}

// ---- the server

fn tell(ctx: &Ctx, event: ServerEvent) {
    for react in REACTIONS.get().into_iter().flat_map(|all| &all.on_server) {
        guard((), || react(ctx, event));
    }
}

unsafe extern "C" fn on_flush(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    data: *mut c_void,
) {
    guard((), || {
        if phase == raw::REDISMODULE_SUBEVENT_FLUSHDB_START {
            // SAFETY: the context is live during the callback; the other is what this event comes with.
            let (ctx, info) = unsafe { (Ctx::new(ctx), &*data.cast::<raw::RedisModuleFlushInfo>()) };
            tell(&ctx, ServerEvent::Flushed((info.dbnum >= 0).then_some(info.dbnum)));
        }
    });
}

unsafe extern "C" fn on_swap(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _phase: u64,
    data: *mut c_void,
) {
    guard((), || {
        // SAFETY: the context is live during the callback; the other is what this event comes with.
        let (ctx, info) = unsafe { (Ctx::new(ctx), &*data.cast::<raw::RedisModuleSwapDbInfo>()) };
        tell(&ctx, ServerEvent::Swapped(info.dbnum_first, info.dbnum_second));
    });
}

unsafe extern "C" fn on_loading(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    _data: *mut c_void,
) {
    guard((), || {
        // SAFETY: live during the callback.
        let ctx = unsafe { Ctx::new(ctx) };
        match phase {
            raw::REDISMODULE_SUBEVENT_LOADING_RDB_START
            | raw::REDISMODULE_SUBEVENT_LOADING_AOF_START
            | raw::REDISMODULE_SUBEVENT_LOADING_REPL_START => {
                status::set_loading(true);
                tell(&ctx, ServerEvent::LoadingStarted);
            }
            raw::REDISMODULE_SUBEVENT_LOADING_ENDED => {
                status::set_loading(false);
                status::forget_who_hears();
                tell(&ctx, ServerEvent::Loaded);
            }
            raw::REDISMODULE_SUBEVENT_LOADING_FAILED => status::set_loading(false),
            _ => (),
        }
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
            let ctx = unsafe { Ctx::new(ctx) };
            saving::schedule(&ctx);
            tell(&ctx, ServerEvent::Forked);
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
        status::forget_what_is_accepted();
        status::set_replica(!ctx.is_master());
        tell(&ctx, ServerEvent::RoleChanged);
    });
}

/// The module has to ask again who takes the replicated commands. And an entry that went long ago got no event.
unsafe extern "C" fn on_beat(
    ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _phase: u64,
    _data: *mut c_void,
) {
    guard((), || {
        // SAFETY: live during the callback.
        let ctx = unsafe { Ctx::new(ctx) };
        status::forget_who_hears();
        status::forget_what_is_accepted();
        status::set_replica(!ctx.is_master());
        tell(&ctx, ServerEvent::Beat);
        background::catch_up(&ctx);
    });
}
