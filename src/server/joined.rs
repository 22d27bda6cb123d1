//! Pieces of a payload become one block, and the server's memory never holds them twice.
//!
//! If the block were taken while the pieces are still there, the server would seem to need twice as much, and might evict others' keys for
//! it. So the pieces are first brought to a place that is not the server's, each freed when it is there. On any thread: workers do it.

/// So many bytes are copied, and their memory given back, at a time: whole pages, however large they are.
const STEP: usize = 2 << 20;

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

    /// What is there, in a block of the server's. The place itself, if there is no memory for the block.
    pub fn into_block(self) -> Result<Box<[u8]>, Self> {
        let mut block = Vec::new();
        if block.try_reserve_exact(self.filled).is_err() {
            return Err(self);
        }
        for piece in self.as_ref().chunks(STEP) {
            block.extend_from_slice(piece);
            self.let_go(piece);
        }
        Ok(block.into_boxed_slice())
    }

    /// Gives the memory of what was copied back at once.
    fn let_go(&self, piece: &[u8]) {
        // SAFETY: whole pages of the mapping, which nobody reads any more; what they held is lost.
        unsafe { libc::madvise(piece.as_ptr().cast_mut().cast(), piece.len(), libc::MADV_DONTNEED) };
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
