//! Strings of the server's that outlive their command without being copied.
//!
//! The server counts who holds a string without an atomic operation, so what we hold is only let go where nobody else can be
//! counting: on the main thread, or on any thread once the event loop has gone round, because then the command that brought the
//! string has let it go and we alone hold it.

use std::sync::Mutex;

use redis_module::raw;

use super::api::api;
use super::context::{Arg, Args};
use super::guard;
use super::workers::{self, FREE_ASIDE_FROM};

/// A string of the server's that is held.
pub struct Held {
    string: *mut raw::RedisModuleString,
    start: *const u8,
    len: usize,
}

// SAFETY: its bytes do not change while it is held; the count of its holders is dealt with as the module's head says.
unsafe impl Send for Held {}
// SAFETY: as above; sharing a reference only reads bytes.
unsafe impl Sync for Held {}

impl Held {
    /// Holds an argument. On the main thread.
    pub fn new(arg: Arg<'_>) -> Self {
        let mut len = 0;
        // SAFETY: the string is live. The server would shrink a string that a module keeps when the command ends, moving its bytes:
        // so that is done first.
        unsafe {
            api!(RedisModule_TrimStringAllocation)(arg.raw());
            let string = api!(RedisModule_HoldString)(std::ptr::null_mut(), arg.raw());
            let start = api!(RedisModule_StringPtrLen)(string, &mut len).cast();
            Self { string, start, len }
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: that is where they are while it is held.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if workers::is_main_thread() && (self.len < FREE_ASIDE_FROM || workers::memory_is_short()) {
            free(self.string);
        } else if let Ok(mut left) = LEFT.lock() {
            left.push(Free(self.string));
            workers::post(|_ctx| free_left());
        }
    }
}

/// Strings that nobody needs, to be let go once the event loop has gone round.
static LEFT: Mutex<Vec<Free>> = Mutex::new(Vec::new());

struct Free(*mut raw::RedisModuleString);

// SAFETY: only ever let go of, see the module's head.
unsafe impl Send for Free {}

fn free_left() {
    let left = LEFT.lock().map(|mut left| std::mem::take(&mut *left)).unwrap_or_default();
    workers::soon(move |_coder| left.into_iter().for_each(|Free(string)| free(string)));
}

fn free(string: *mut raw::RedisModuleString) {
    // SAFETY: ours, let go once; where that may be done is what the module's head says.
    guard((), || unsafe { api!(RedisModule_FreeString)(std::ptr::null_mut(), string) });
}

/// All the arguments of a command, held.
pub struct HeldArgs {
    strings: Vec<Held>,
    raw: Vec<Free>,
}

impl HeldArgs {
    /// Holds them. On the main thread.
    pub fn new(args: Args<'_>) -> Self {
        let strings: Vec<Held> = args.map(Held::new).collect();
        let raw = strings.iter().map(|held| Free(held.string)).collect();
        Self { strings, raw }
    }

    /// They, on the main thread.
    pub fn args(&self) -> Args<'_> {
        debug_assert_eq!(self.strings.len(), self.raw.len());
        // SAFETY: the strings live as long as `self`; a `Free` is nothing but their address.
        unsafe { Args::new(self.raw.as_ptr().cast_mut().cast(), self.raw.len() as std::ffi::c_int, 0) }
    }
}
