//! A task that does not outlive who started it.

use tokio::task::JoinHandle;

/// A task that ends when nobody wants it any more.
pub(crate) struct AbortOnDrop<T = ()>(pub(crate) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
