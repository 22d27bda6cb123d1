//! State that only the main thread touches.
//!
//! State that must change together shares a cell. All other state has a cell of its own, private to its file. While a cell is open
//! nobody calls the server, which may call back (deleting a key, for one), nor another file that might. Opening a cell that is
//! open panics: that ends in an error rather than in two owners.

use std::cell::RefCell;

/// A cell that is made when it is first opened.
pub struct MainThread<T>(RefCell<Option<T>>);

// SAFETY: only touched by the main thread, or by a thread that holds the server's lock, which excludes the former.
unsafe impl<T> Sync for MainThread<T> {}

impl<T: Default> MainThread<T> {
    /// A cell that holds the default.
    #[allow(clippy::new_without_default, reason = "a static is made by a function that is const")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Opens the cell for `work`.
    #[inline]
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut cell = self.0.borrow_mut();
        let state = match &mut *cell {
            Some(state) => state,
            empty => fill(empty),
        };
        work(state)
    }
}

#[cold]
#[inline(never)]
fn fill<T: Default>(empty: &mut Option<T>) -> &mut T {
    empty.insert(T::default())
}
