//! How a lock is taken here.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a lock guards is whole whatever happened to who held it: nothing here can fail half-way.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
