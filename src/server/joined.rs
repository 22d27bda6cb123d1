//! Pieces of a payload become one string of the server's, and the server's memory never holds them twice.
//!
//! A string of the server's is one block. If that were taken while the pieces are still there, the server would seem to need twice as
//! much, and might evict others' keys for it. So the pieces are first brought to a place that is not the server's, each freed when it is
//! there. On any thread: workers do it.

use redis_module::raw;

use super::alloc;
use super::api::api;
use super::held::Held;

/// A place for so many bytes beside the server's memory.
pub struct Hall {
    start: *mut u8,
    len: usize,
    filled: usize,
}

// SAFETY: the mapping is this value's alone, and bytes that are filled do not change.
unsafe impl Send for Hall {}
// SAFETY: as above; sharing a reference only reads bytes.
unsafe impl Sync for Hall {}

impl Hall {
    /// If there is memory for it.
    pub fn new(len: usize) -> Option<Self> {
        let (how, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which nobody else knows of.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len.max(1), how, kind, -1, 0) };
        (start != libc::MAP_FAILED).then(|| Self { start: start.cast(), len, filled: 0 })
    }

    /// Brings a piece there. `false` if there is no place for it.
    #[must_use]
    pub fn push(&mut self, piece: &[u8]) -> bool {
        if piece.len() > self.len - self.filled {
            return false;
        }
        // SAFETY: there are as many bytes behind those that are filled, and nobody else writes them.
        unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), self.start.add(self.filled), piece.len()) };
        self.filled += piece.len();
        true
    }

    /// A string of the server's of what is there. The place itself, if there is no memory for the string.
    pub fn into_string(self) -> Result<Held, Self> {
        if !alloc::has_room(self.filled) {
            return Err(self);
        }
        // SAFETY: the server copies the bytes, and touches nothing but its allocator; without a context the string is its caller's.
        unsafe {
            let string: *mut raw::RedisModuleString =
                api!(RedisModule_CreateString)(std::ptr::null_mut(), self.start.cast(), self.filled);
            Ok(Held::of(string))
        }
    }
}

impl AsRef<[u8]> for Hall {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: these bytes were filled.
        unsafe { std::slice::from_raw_parts(self.start, self.filled) }
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, of that length, and unmapped once.
        unsafe { libc::munmap(self.start.cast(), self.len.max(1)) };
    }
}
