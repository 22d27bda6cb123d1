//! expcache: cache semantics inside the server. A module for Redis and Valkey.
//!
//! It is a data type whose values are cache entries (a payload with a type, tags, freshness and metadata), an index over them that follows
//! every native command, and commands. It is not a second keyspace, a proxy or a client-side cache: entries are keys, and expire, replicate,
//! persist and move as keys do.
//!
//! Arrows point down, and `tests/house.rs` holds them to it:
//!
//! ```text
//!  8  lib                        the list of features; what the server calls first
//!  7  listing   statistics
//!  6  entries   keyspace
//!  5  invalidation               an invalidation fences leases
//!  4  leases   payloads   types   diagnosis   keyfor   limits
//!  3  audit                      the log of who did what
//!     cache                      the books: what changes together when an entry comes, goes or changes
//!  2  server                     the tools: the server's C interface, all of the `unsafe`
//!  1  expcache-core              entries, index, policies, leases, grammar; no server, no clock
//! ```
#![deny(unsafe_code)]

pub mod audit;
pub mod cache;
pub mod diagnosis;
pub mod entries;
pub mod invalidation;
pub mod keyfor;
pub mod keyspace;
pub mod leases;
pub mod limits;
pub mod listing;
pub mod payloads;
#[allow(unsafe_code, reason = "it is the room for it")]
pub mod server;
pub mod statistics;
pub mod types;

use std::ffi::c_int;

use redis_module::raw;

use server::feature::Feature;

/// What the module is made of, in the order in which the rooms react when something happens to a key or the server: first the books are
/// right, then waiting clients are answered by them, then the keys of what is marked follow.
static FEATURES: &[&Feature] = &[
    &cache::FEATURE,
    &keyspace::FEATURE,
    &audit::FEATURE,
    &types::FEATURE,
    &leases::FEATURE,
    &payloads::FEATURE,
    &invalidation::FEATURE,
    &entries::FEATURE,
    &listing::FEATURE,
    &statistics::FEATURE,
    &diagnosis::FEATURE,
    &keyfor::FEATURE,
    &limits::FEATURE,
];

/// The version that `MODULE LIST` shows: 0.1.0 is 100.
const VERSION: c_int = 100;

/// The server's way in: called once, when the module is loaded.
///
/// # Safety
/// To be called by the server.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "what the server calls is C")]
#[allow(non_snake_case, reason = "the server looks for this name")]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server calls this, with what `load` wants.
    unsafe { server::load(ctx, argv, argc, VERSION, FEATURES) }
}
