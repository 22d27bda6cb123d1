//! The tools: the server's C interface, and the only room with `unsafe` in it. It knows the value type `Entry` and nothing above it:
//! [`load`] is given the list of [`Feature`]s.
//!
//! ```text
//!  ways in, each behind guard                        ways out, for everybody above
//!    command     a command's row and its call          context   who calls, what it may do, what is replicated
//!    setting     CONFIG, the file, loadmodule          key       keys, opened and removed;  scan  all of them
//!    datatype    a value saved, loaded, copied, freed  replies   what a client is told
//!    events      keys and databases that change        call      the server's own commands;  cluster  where a key is
//!                                                      word      what is replied often
//!    slots       slots that leave or reach this node   access    whose key or tag it is
//!    info        the section of INFO                   status    facts that are asked often;  clock  time and chance
//!    afterwards  what a callback may not do itself     saving    what is saved beside the keys
//!    background  timers;  others  who comes meanwhile  blocked   clients that wait;  deferred  a reply that a worker makes
//!                                                      workers   threads;  held, joined  strings of theirs;  discard  what they free
//! ```
//!
//! Every way in goes through [`guard::guard`]: a panic ends there, in an error, and the server goes on.

pub mod access;
mod acl_rules;
pub mod afterwards;
pub mod alloc;
mod api;
pub mod args;
pub mod at_once;
pub mod background;
pub mod blocked;
mod call;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod context;
pub mod datatype;
pub mod deferred;
pub mod discard;
pub mod events;
pub mod feature;
pub mod guard;
pub mod held;
pub mod info;
pub mod joined;
pub mod key;
pub mod log;
pub mod main_thread;
mod others;
pub mod replies;
pub mod saving;
pub mod scan;
pub mod setting;
pub mod slots;
pub mod status;
mod version;
pub mod word;
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
    gauges: Some(workers::gauges),
    ..NOTHING
};

fn register(ctx: &Ctx, args: Args<'_>, features: &'static [&'static Feature]) -> Result<(), String> {
    clock::start();
    workers::prepare();
    background::prepare(ctx);
    version::set_options(ctx);
    saving::set_all(features.iter().filter_map(|of| of.saves).collect());
    datatype::register(ctx, features.iter().find_map(|of| of.value))?;
    command::register(ctx, features.iter().flat_map(|of| of.commands))?;
    let all: Vec<&'static Feature> = features.iter().copied().chain([&TOOLS]).collect();
    setting::register(ctx, args, &all.iter().flat_map(|of| of.settings).copied().collect::<Vec<_>>())?;
    all.iter().flat_map(|of| of.words).copied().flatten().for_each(|word| {
        // SAFETY: the context is that of loading the module.
        unsafe { word.prepare(ctx.raw()) };
    });
    feature::set_all(all);
    events::subscribe(ctx, features)?;
    info::register(ctx, features.iter().find_map(|of| of.info))?;
    version::warn_of_known_bugs(ctx);
    Ok(())
}
