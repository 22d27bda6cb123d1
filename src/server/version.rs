//! The server's version, the options that it needs to be given, and its known bugs.

use std::ffi::c_int;

use redis_module::raw;

use super::api;
use super::context::Ctx;
use super::log::{LogLevel, log};

/// Which server this is.
pub enum Version {
    /// Redis, and which.
    Redis([u32; 3]),
    /// Valkey, and which.
    Valkey([u32; 3]),
}

impl Ctx {
    /// Which server this is.
    pub fn server_version(&self) -> Version {
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

/// Tells the server what the module can cope with.
pub(super) fn set_options(ctx: &Ctx) {
    /// Valkey 9 moves slots atomically only if every module says that it can cope; other servers ignore the bit.
    const HANDLE_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;
    let mut options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
    if matches!(ctx.server_version(), Version::Valkey(_)) {
        options |= HANDLE_ATOMIC_SLOT_MIGRATION;
    }
    // SAFETY: the context is that of loading the module.
    unsafe { api::api!(RedisModule_SetModuleOptions)(ctx.raw(), options as c_int) };
}

/// Writes known bugs of this server to its log.
pub(super) fn warn_of_known_bugs(ctx: &Ctx) {
    if matches!(ctx.server_version(), Version::Valkey(version) if ([8, 1, 0]..[9, 1, 1]).contains(&version)) {
        log(
            LogLevel::Warning,
            "this Valkey leaves a client in the destination database after MOVE and COPY ... DB while a module listens to \
             keyspace events (valkey #4024, mended in 9.1.1): SELECT again after them",
        );
    }
}
