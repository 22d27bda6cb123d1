//! expcache: cache semantics inside the server. A module for Redis and Valkey.
//!
//! It is a data type whose values are cache entries (a payload with a type, tags, freshness and metadata), an index over them
//! that follows every native command, and the commands of [`command::TABLE`]. It is not a second keyspace, a proxy or a
//! client-side cache: entries are keys, and expire, replicate, persist and move as keys do.
//!
//! ```text
//!   client ──▶ the server ──▶ server/ (its C interface; all of the `unsafe`) ──▶ command/ (grammar, replies)
//!                                │                                                  │
//!                                └───────────────▶ expcache-core ◀──────────────────┘
//!                                    (entries, index, policies, keys; no server, no clock)
//! ```

pub mod command;
pub mod server;

use std::ffi::c_int;

use redis_module::raw;

/// What the server is given.
static FEATURES: &[&server::feature::Feature] = &[&command::FEATURE];

/// The version that `MODULE LIST` shows: 0.1.0 is 100.
const VERSION: c_int = 100;

/// The server's way in: called once, when the module is loaded.
///
/// # Safety
/// To be called by the server.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the server looks for this name")]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server calls this, with what `load` wants.
    unsafe { server::load(ctx, argv, argc, VERSION, FEATURES) }
}
