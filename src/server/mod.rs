//! The room that knows the server's C interface, and the only one with `unsafe` in it.
//!
//! ```text
//!  the server ──▶ command    
//!             ──▶ datatype   saving, loading, copying, freeing a value
//!             ──▶ events     keys and databases that come and go behind our back ──▶ state
//!             ──▶ migration  slots on their way to another node ──▶ state
//!             ──▶ config     CONFIG SET, the configuration file, loadmodule's arguments
//!             ──▶ info       the section of INFO
//!             ──▶ background timers ──▶ reclaim (dead entries' memory), walk (searches), ranking, policies, what workers post
//!             ──▶ blocked    clients that wait: answered, or gone
//!             ──▶ workers    threads for what is large ──▶ settle, and clients that wait for them
//! ```
//!
//! Every way in from the server goes through [`guard`]: a panic ends there, in an error, and the server goes on.

pub mod access;
pub mod alloc;
mod api;
pub mod args;
pub mod at_once;
mod background;
pub mod blocked;
mod call;
pub mod clock;
mod cluster;
pub mod command;
pub mod context;
pub mod datatype;
pub mod deferred;
pub mod discard;
mod ends;
mod events;
pub mod feature;
pub mod figures;
mod guard;
pub mod held;
mod info;
pub mod key;
pub mod leases;
pub mod log;
mod main_thread;
mod policies;
pub mod ranking;
pub mod reclaim;
pub mod replies;
mod rules;
mod scan;
mod selection;
pub mod setting;
pub mod settle;
mod slots;
pub mod state;
pub mod status;
mod version;
pub mod walk;
pub mod workers;

use std::ffi::c_int;

use redis_module::raw;

use self::args::Args;
use self::context::Ctx;
use self::feature::{Feature, NOTHING};
use self::guard::guard;
use self::log::{LogLevel, log};

/// Loads the module: what the server calls `RedisModule_OnLoad` ends here.
///
/// # Safety
/// To be called by the server, with what it calls that function with.
pub unsafe fn load(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    module_version: c_int,
    features: &'static [&'static Feature],
) -> c_int {
    let version = raw::REDISMODULE_APIVER_1 as c_int;
    // Nothing may allocate before this: it is what brings the allocator.
    // SAFETY: the context is the server's, the name static.
    let met = unsafe { raw::Export_RedisModule_Init(ctx, c"expcache".as_ptr(), module_version, version) };
    if met == raw::REDISMODULE_ERR as c_int {
        return met;
    }
    guard::log_panics();
    // SAFETY: context and arguments live during the call.
    let (ctx, args) = unsafe { (Ctx::new(ctx), Args::new(argv, argc, 0)) };
    match guard(Err("a panic".into()), || register(&ctx, args, features)) {
        Ok(()) => raw::REDISMODULE_OK as c_int,
        Err(why) => {
            log(LogLevel::Warning, &format!("the module is not loaded: {why}"));
            raw::REDISMODULE_ERR as c_int
        }
    }
}

/// What the tools themselves bring.
const TOOLS: Feature = Feature {
    settings: &[&background::SLICE_US, &blocked::MAX_WAITERS, &workers::WORKERS, &workers::WORKER_QUEUE],
    ..NOTHING
};

fn register(ctx: &Ctx, args: Args<'_>, features: &'static [&'static Feature]) -> Result<(), String> {
    clock::start();
    workers::prepare(ctx);
    version::set_options(ctx);
    datatype::register(ctx)?;
    command::register(ctx, features.iter().flat_map(|feature| feature.commands))?;
    let all = features.iter().copied().chain([&TOOLS]);
    setting::register(ctx, args, &all.flat_map(|feature| feature.settings).copied().collect::<Vec<_>>())?;
    events::subscribe(ctx)?;
    info::register(ctx)?;
    version::warn_of_known_bugs(ctx);
    Ok(())
}
