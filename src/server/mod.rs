//! The room that knows the server's C interface, and the only one with `unsafe` in it.
//!
//! ```text
//!  the server ──▶ register   commands, from command::TABLE ──▶ handler ──▶ a command's `call`
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
pub mod at_once;
mod background;
pub mod blocked;
pub mod cluster;
pub mod config;
pub mod context;
pub mod datatype;
pub mod discard;
mod ends;
mod events;
pub mod figures;
pub mod held;
mod info;
pub mod key;
pub mod leases;
pub mod migration;
mod policies;
pub mod ranking;
pub mod reclaim;
mod register;
pub mod replies;
mod rules;
mod selection;
pub mod settle;
pub mod state;
pub mod walk;
pub mod workers;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use expcache_core::Result;
use redis_module::raw;

pub use register::Handler;
pub(crate) use register::handler;

use self::context::{Args, Ctx, LogLevel, log};

/// Runs a callback of the server's; a panic in it is logged and becomes `otherwise`.
fn guard<R>(otherwise: R, work: impl FnOnce() -> R) -> R {
    // Nothing is left half-done where it matters: the state's own changes are single steps, and a check
    // (EXPCACHE.DEBUG CHECK) finds what is not.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// Runs a command.
///
/// # Safety
/// To be called with what the server calls a command with.
pub(crate) unsafe fn run_command(
    call: fn(&Ctx, Args<'_>) -> Result<()>,
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
    words_of_name: usize,
) -> c_int {
    // SAFETY: context and arguments live during the call.
    let (ctx, args) = unsafe { (Ctx::of_command(ctx, argv, argc), Args::new(argv, argc, words_of_name)) };
    reply(&ctx, || call(&ctx, args));
    raw::REDISMODULE_OK as c_int
}

/// Runs what replies to a client; an error of its, or a panic, is the reply instead.
fn reply(ctx: &Ctx, work: impl FnOnce() -> Result<()>) {
    match guard(None, || Some(work())) {
        Some(Ok(())) => (),
        Some(Err(error)) => ctx.reply_error(&error.reply()),
        None => ctx.reply_error("ERR internal error, see the server's log"),
    }
}

/// A panic's message goes to the server's log, like everything else.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        log(LogLevel::Warning, &format!("a panic at {place}: {text}"));
    }));
}

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
    let version = raw::REDISMODULE_APIVER_1 as c_int;
    // Nothing may allocate before this: it is what brings the allocator.
    // SAFETY: the context is the server's, the name static.
    let met = unsafe { raw::Export_RedisModule_Init(ctx, c"expcache".as_ptr(), crate::VERSION, version) };
    if met == raw::REDISMODULE_ERR as c_int {
        return met;
    }
    log_panics();
    // SAFETY: context and arguments live during the call.
    let (ctx, args) = unsafe { (Ctx::new(ctx), Args::new(argv, argc, 0)) };
    match guard(Err("a panic".into()), || load(&ctx, args)) {
        Ok(()) => raw::REDISMODULE_OK as c_int,
        Err(why) => {
            config::refuse(&why);
            raw::REDISMODULE_ERR as c_int
        }
    }
}

fn load(ctx: &Ctx, args: Args<'_>) -> std::result::Result<(), String> {
    workers::prepare(ctx);
    set_options(ctx);
    datatype::register(ctx)?;
    register::register(ctx, crate::command::TABLE)?;
    config::register(ctx, args)?;
    events::subscribe(ctx)?;
    info::register(ctx)?;
    warn_of_known_bugs(ctx);
    Ok(())
}

/// Which server this is.
enum Version {
    Redis([u32; 3]),
    Valkey([u32; 3]),
}

impl Ctx {
    fn server_version(&self) -> Version {
        let parse = |text: String| {
            let mut numbers = text.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
            [(); 3].map(|()| numbers.next().unwrap_or(0))
        };
        match self.server_info(c"server", c"valkey_version") {
            Some(version) => Version::Valkey(parse(version)),
            None => Version::Redis(parse(self.server_info(c"server", c"redis_version").unwrap_or_default())),
        }
    }
}

fn set_options(ctx: &Ctx) {
    /// Valkey 9 moves slots atomically only if every module says that it can cope; other servers ignore the bit.
    const HANDLE_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;
    let mut options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
    if matches!(ctx.server_version(), Version::Valkey(_)) {
        options |= HANDLE_ATOMIC_SLOT_MIGRATION;
    }
    // SAFETY: the context is that of loading the module.
    unsafe { api::api!(RedisModule_SetModuleOptions)(ctx.raw(), options as c_int) };
}

fn warn_of_known_bugs(ctx: &Ctx) {
    if matches!(ctx.server_version(), Version::Valkey(version) if ([8, 1, 0]..[9, 1, 1]).contains(&version)) {
        log(
            LogLevel::Warning,
            "this Valkey leaves a client in the destination database after MOVE and COPY ... DB while a module listens to \
             keyspace events (valkey #4024, mended in 9.1.1): SELECT again after them",
        );
    }
}
