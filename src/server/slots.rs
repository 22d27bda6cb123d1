//! Slots that are leaving this node: what an invalidation kills in them is unlinked before its reply. And slots that are arriving: what is
//! written in them happened elsewhere.
//!
//! Redis from 8.4 and Valkey from 9 on move slots by a snapshot that a child takes, followed by the stream of what is written
//! meanwhile; when both are through, the slots change hands in one step. What is dead when the child is born arrives dead, or
//! not at all: the mark travels with the value ([`super::datatype`]). What dies later was sent alive. The stream leaves out
//! commands that name no key, so the invalidation itself does not reach the other node, but an `UNLINK` a key does. Slices
//! can come too late for that: whatever they have not reached when the slots change hands would live on over there. Hence
//! the room of invalidations has `reclaim_leaving`.
//!
//! Both servers say so before the child is born, and again when the slots have changed hands or will not; nothing that a
//! client asks for is written between the last of the stream and that moment. So at the start there is nothing to be done
//! but to remember the slots. Slots that are moved by hand (`CLUSTER SETSLOT`, `MIGRATE`) are not told of and need nothing:
//! each key is in one node only.

use std::ffi::{c_char, c_int, c_void};
use std::ops::RangeInclusive;

use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::Text;
use super::context::Ctx;
use super::guard::guard;
use super::main_thread::MainThread;
use super::version::Version;

/// The slots that are leaving this node now.
static LEAVING: MainThread<Slots> = MainThread::new();
/// Those that are arriving.
static ARRIVING: MainThread<Slots> = MainThread::new();

type Slots = Vec<RangeInclusive<u16>>;

/// Are any slots leaving this node?
pub fn are_leaving() -> bool {
    LEAVING.with(|all| !all.is_empty())
}

/// Is the key's slot among those that are leaving?
pub fn is_leaving(key: &[u8]) -> bool {
    are_leaving() && is_in(&LEAVING, key)
}

/// Is the key's slot among those that are arriving?
pub fn is_arriving(key: &[u8]) -> bool {
    ARRIVING.with(|all| !all.is_empty()) && is_in(&ARRIVING, key)
}

fn is_in(all: &MainThread<Slots>, key: &[u8]) -> bool {
    slot_of(key).is_some_and(|slot| all.with(|all| all.iter().any(|slots| slots.contains(&slot))))
}

fn note((which, what): (&MainThread<Slots>, Change), slots: Slots) {
    which.with(|all| match what {
        Change::Start => all.extend(slots),
        // No slot is in two migrations at once, and one ends with the ranges with which it started.
        Change::End => all.retain(|moving| !slots.contains(moving)),
    });
}

/// The slot of a key. A server that moves slots in one step can say it.
fn slot_of(key: &[u8]) -> Option<u16> {
    // SAFETY: the server only reads the key.
    let slot = unsafe {
        match api_if_any!(RedisModule_ClusterKeySlotC) {
            Some(slot_of) => slot_of(key.as_ptr().cast(), key.len()),
            // Redis 8.4 and Valkey 9.0 want a string of theirs.
            None => api_if_any!(RedisModule_ClusterKeySlot)?(Text::new(key).arg().raw()),
        }
    };
    u16::try_from(slot).ok()
}

#[derive(Clone, Copy)]
enum Change {
    Start,
    End,
}

/// Subscribes to the servers' events. An older one has none, and refuses: it does not move slots in this way.
pub(super) fn subscribe(ctx: &Ctx) {
    type Callback = unsafe extern "C" fn(*mut raw::RedisModuleCtx, raw::RedisModuleEvent, u64, *mut c_void);
    // The same numbers mean other things to the other server.
    let (id, callback): (_, Callback) = match ctx.server_version() {
        Version::Redis(_) => (raw::REDISMODULE_EVENT_CLUSTER_SLOT_MIGRATION, on_redis),
        Version::Valkey(_) => (VALKEY_EVENT_ATOMIC_SLOT_MIGRATION, on_valkey),
    };
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    // SAFETY: the context is that of loading the module; the callback lives as long as the module, which is never unloaded.
    unsafe { api!(RedisModule_SubscribeToServerEvent)(ctx.raw(), event, Some(callback)) };
}

unsafe extern "C" fn on_redis(
    _ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    data: *mut c_void,
) {
    let change = match phase {
        raw::REDISMODULE_SUBEVENT_CLUSTER_SLOT_MIGRATION_MIGRATE_STARTED => (&LEAVING, Change::Start),
        raw::REDISMODULE_SUBEVENT_CLUSTER_SLOT_MIGRATION_MIGRATE_FAILED
        | raw::REDISMODULE_SUBEVENT_CLUSTER_SLOT_MIGRATION_MIGRATE_COMPLETED => (&LEAVING, Change::End),
        raw::REDISMODULE_SUBEVENT_CLUSTER_SLOT_MIGRATION_IMPORT_STARTED => (&ARRIVING, Change::Start),
        raw::REDISMODULE_SUBEVENT_CLUSTER_SLOT_MIGRATION_IMPORT_FAILED
        | raw::REDISMODULE_SUBEVENT_CLUSTER_SLOT_MIGRATION_IMPORT_COMPLETED => (&ARRIVING, Change::End),
        _ => return,
    };
    guard((), || {
        // SAFETY: that is what this event comes with; the array is as long as it says.
        let ranges = unsafe {
            let slots = (*data.cast::<raw::RedisModuleClusterSlotMigrationInfo>()).slots;
            (*slots).ranges.as_slice(usize::try_from((*slots).num_ranges).unwrap_or(0))
        };
        let slots = ranges.iter().map(|range| range.start..=range.end).collect();
        note(change, slots);
    });
}

// Valkey's event is unknown to the bindings.
const VALKEY_EVENT_ATOMIC_SLOT_MIGRATION: u64 = 19;
const VALKEY_IMPORT_STARTED: u64 = 0;
const VALKEY_EXPORT_STARTED: u64 = 1;
const VALKEY_IMPORT_ABORTED: u64 = 2;
const VALKEY_EXPORT_ABORTED: u64 = 3;
const VALKEY_IMPORT_COMPLETED: u64 = 4;
const VALKEY_EXPORT_COMPLETED: u64 = 5;

/// `ValkeyModuleAtomicSlotMigrationInfoV1`
#[repr(C)]
struct ValkeyInfo {
    version: u64,
    job_name: [c_char; 41],
    slot_ranges: *const ValkeySlotRange,
    num_slot_ranges: u32,
}

/// `ValkeyModuleSlotRange`
#[repr(C)]
struct ValkeySlotRange {
    start: c_int,
    end: c_int,
}

unsafe extern "C" fn on_valkey(
    _ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    data: *mut c_void,
) {
    let change = match phase {
        VALKEY_EXPORT_STARTED => (&LEAVING, Change::Start),
        VALKEY_EXPORT_ABORTED | VALKEY_EXPORT_COMPLETED => (&LEAVING, Change::End),
        VALKEY_IMPORT_STARTED => (&ARRIVING, Change::Start),
        VALKEY_IMPORT_ABORTED | VALKEY_IMPORT_COMPLETED => (&ARRIVING, Change::End),
        _ => return,
    };
    guard((), || {
        // SAFETY: that is what this event comes with; the array is as long as it says.
        let ranges = unsafe {
            let info = &*data.cast::<ValkeyInfo>();
            std::slice::from_raw_parts(info.slot_ranges, info.num_slot_ranges as usize)
        };
        let slots = ranges.iter().map(|range| range.start as u16..=range.end as u16).collect();
        note(change, slots);
    });
}
