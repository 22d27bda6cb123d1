//! What happens, told to whoever counts it. There is no global registry here: an application has its own.

use std::time::Duration;

use crate::how::How;

/// Gets to know what a cache does. Each method does nothing unless it is written; all are called in the middle of things, so
/// they must be quick.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
/// use expcache_client::{How, Observer};
///
/// #[derive(Default)]
/// struct Hits(AtomicU64);
///
/// impl Observer for Hits {
///     fn served(&self, _type_name: &[u8], how: How, _took: Duration) {
///         if how == How::Hit {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync {
    /// A request was answered. The time of those that came from the near cache is not taken, and zero.
    fn served(&self, type_name: &[u8], how: How, took: Duration) {
        let _ = (type_name, how, took);
    }

    /// A producer ended, well or not.
    fn produced(&self, type_name: &[u8], took: Duration, succeeded: bool) {
        let _ = (type_name, took, succeeded);
    }

    /// What was produced could not be stored, for this reason.
    fn not_stored(&self, type_name: &[u8], why: &crate::Error) {
        let _ = (type_name, why);
    }

    /// A command failed because the server did not answer or could not serve.
    fn unavailable(&self, command: &str, why: &crate::Error) {
        let _ = (command, why);
    }

    /// The near cache is kept right by the server from now on, or is not any more.
    fn near(&self, connected: bool) {
        let _ = connected;
    }
}
