//! The guard turns a panic into an error, and the server goes on. Every way in from the server goes through it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::log::{LogLevel, log};

/// Runs a callback of the server's; a panic in it is logged and becomes `otherwise`.
pub fn guard<R>(otherwise: R, work: impl FnOnce() -> R) -> R {
    // Nothing is left half-done where it matters: what changes together changes in one step, and a check
    // (EXPCACHE.DEBUG CHECK) finds what is not.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// A panic's message goes to the server's log, like everything else.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        log(LogLevel::Warning, &format!("a panic at {place}: {text}"));
    }));
}
