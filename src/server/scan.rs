//! Walks over the keys of a database.

use std::ffi::c_void;

use redis_module::raw;

use super::api::api;
use super::args::Arg;
use super::context::Ctx;
use super::guard::guard;
use super::key::{Found, expire_at_ms, found};

impl Ctx {
    /// Shows every key of the selected database, expired ones that are still there included, with when the server expires
    /// it. `show` must not call the server.
    pub fn scan(&self, mut show: impl FnMut(&[u8], Found<'_>, Option<i64>)) {
        let cursor = Cursor::start();
        while self.scan_step(&cursor, &mut show) {}
    }

    /// As [`Ctx::scan`], a few keys at a time: `false` when there are no more. A key that is there throughout is shown.
    pub fn scan_step<F: FnMut(&[u8], Found<'_>, Option<i64>)>(&self, cursor: &Cursor, show: &mut F) -> bool {
        unsafe extern "C" fn visit<F: FnMut(&[u8], Found<'_>, Option<i64>)>(
            _ctx: *mut raw::RedisModuleCtx,
            name: *mut raw::RedisModuleString,
            key: *mut raw::RedisModuleKey,
            data: *mut c_void,
        ) {
            guard((), || {
                // SAFETY: `data` is the closure that `scan` lent; name and key are live during the callback.
                unsafe { (*data.cast::<F>())(Arg::new(name).bytes(), found(key), expire_at_ms(key)) }
            });
        }
        // SAFETY: context, cursor and closure are live during the step.
        unsafe { api!(RedisModule_Scan)(self.raw(), cursor.0, Some(visit::<F>), std::ptr::from_mut(show).cast()) != 0 }
    }
}

/// How far a scan of a database has come.
pub struct Cursor(*mut raw::RedisModuleScanCursor);

impl Cursor {
    /// At its beginning.
    pub fn start() -> Self {
        // SAFETY: makes something that is ours to free.
        Self(unsafe { api!(RedisModule_ScanCursorCreate)() })
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { api!(RedisModule_ScanCursorDestroy)(self.0) };
    }
}
