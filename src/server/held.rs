//! Strings of the server's that outlive their command without being copied.
//!
//! The server counts who holds a string without an atomic operation. So the main thread may release a string at any
//! time; another thread may only if it is the last holder. An entry's string has no other holder once the event loop has gone round:
//! by then the command that brought it has released it, even a command that had waited.

use redis_module::raw;

use super::api::api;
use super::args::{Arg, Args};
use super::discard;
use super::guard::guard;
use super::workers;

/// A string of the server's that an entry is made of.
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
    /// Holds an argument, which nobody else does but its command and [`HeldArgs`]. On the main thread.
    pub fn new(arg: Arg<'_>) -> Self {
        let string = hold(arg);
        // SAFETY: held, so it lives as long as what is made of it here.
        let bytes = unsafe { Arg::new(string) }.bytes();
        Self { string, start: bytes.as_ptr(), len: bytes.len() }
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
        let string = ReleaseOnDrop(self.string);
        let at_once = workers::is_main_thread() && !discard::goes_aside(self.len);
        if !at_once {
            discard::free_after_this_turn(string, self.len);
        }
    }
}

/// All the arguments of a command whose client waits; any thread may look at them. They are let go by the main thread: the client
/// has them too.
pub struct HeldArgs(Box<[*mut raw::RedisModuleString]>);

// SAFETY: as for one; other threads hand them back to the main one.
unsafe impl Send for HeldArgs {}

impl HeldArgs {
    /// Holds them. On the main thread.
    pub fn new(args: Args<'_>) -> Self {
        Self(args.map(hold).collect())
    }

    /// The held arguments.
    pub fn args(&self) -> Args<'_> {
        // SAFETY: the strings live as long as `self`.
        unsafe { Args::these(&self.0) }
    }
}

impl Drop for HeldArgs {
    fn drop(&mut self) {
        let strings: Vec<ReleaseOnDrop> = self.0.iter().map(|string| ReleaseOnDrop(*string)).collect();
        if !workers::is_main_thread() {
            workers::run_on_main(move |_ctx| drop(strings));
        }
    }
}

fn hold(arg: Arg<'_>) -> *mut raw::RedisModuleString {
    // SAFETY: the string is live. The server would shrink a string that a module keeps when the command ends, moving its bytes:
    // so that is done first.
    unsafe {
        api!(RedisModule_TrimStringAllocation)(arg.raw());
        api!(RedisModule_HoldString)(std::ptr::null_mut(), arg.raw())
    }
}

/// A string that is let go when this is dropped, where the module's head says that it may be.
struct ReleaseOnDrop(*mut raw::RedisModuleString);

// SAFETY: only ever let go of, see the module's head.
unsafe impl Send for ReleaseOnDrop {}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        // SAFETY: ours, let go once.
        guard((), || unsafe { api!(RedisModule_FreeString)(std::ptr::null_mut(), self.0) });
    }
}
