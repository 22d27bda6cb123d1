//! The module's memory is the server's: it counts in `used_memory` and towards `maxmemory`.
//!
//! Besides, whatever a piece of code allocates on its thread can be weighed ([`weighed`]): that is how the index knows its
//! size to the byte without any structure keeping count.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_void;

use redis_module::raw;

/// Alignment that the server's allocator gives to every block.
const ALIGN: usize = 16;

thread_local! {
    /// Bytes that this thread allocated, less those that it freed.
    static BALANCE: Cell<isize> = const { Cell::new(0) };
}

/// Runs `work`; returns what it returned, and by how many bytes the memory allocated on this thread grew meanwhile.
pub fn weighed<R>(work: impl FnOnce() -> R) -> (R, isize) {
    let before = BALANCE.get();
    let result = work();
    (result, BALANCE.get() - before)
}

fn note(bytes: isize) {
    // A thread that is ending may have no balance any more; nobody asks it.
    let _ = BALANCE.try_with(|balance| balance.set(balance.get() + bytes));
}

/// The server's allocator.
pub struct ServerAlloc;

#[global_allocator]
static ALLOCATOR: ServerAlloc = ServerAlloc;

/// The server's allocator aligns its blocks to 16 bytes. What wants more (zlib does) gets a block that is larger by its alignment, and in
/// it the first aligned place that has room before it for the address of the block.
fn is_plain(layout: Layout) -> bool {
    layout.align() <= ALIGN
}

/// How large a block must be for an aligned place in it, of `layout`'s size.
fn around(layout: Layout) -> usize {
    layout.size() + layout.align()
}

/// # Safety
/// `block` must be null, or aligned to 16 bytes and of so many bytes as [`around`] says.
unsafe fn align(block: *mut u8, layout: Layout) -> *mut u8 {
    if block.is_null() {
        return block;
    }
    // The next aligned address is 16 to `align` bytes further on: room for an address before it, and for `size` bytes behind it.
    let offset = layout.align() - block as usize % layout.align();
    // SAFETY: both places are in the block.
    unsafe {
        let aligned = block.add(offset);
        aligned.cast::<*mut u8>().sub(1).write(block);
        aligned
    }
}

// SAFETY: the four functions are the server's malloc family, which has the properties asked for; greater alignments are made as said
// above. They are there before anything in this module can allocate: loading fetches them first.
unsafe impl GlobalAlloc for ServerAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: see above; reading the pointer races with nothing, it is written once while loading.
        match unsafe { raw::RedisModule_Alloc } {
            // SAFETY: any size is allowed.
            Some(alloc) if is_plain(layout) => unsafe { alloc(layout.size()).cast() },
            // SAFETY: the block is of that size.
            Some(alloc) => unsafe { align(alloc(around(layout)).cast(), layout) },
            None => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as for `alloc`.
        let Some(free) = (unsafe { raw::RedisModule_Free }) else { return };
        // SAFETY: the block came from the same allocator; before an aligned place stands the address of its block.
        unsafe {
            let block = if is_plain(layout) { block } else { block.cast::<*mut u8>().sub(1).read() };
            free(block.cast());
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as for `alloc`.
        match unsafe { raw::RedisModule_Calloc } {
            // SAFETY: any size is allowed.
            Some(calloc) if is_plain(layout) => unsafe { calloc(1, layout.size()).cast() },
            // SAFETY: the block is of that size.
            Some(calloc) => unsafe { align(calloc(1, around(layout)).cast(), layout) },
            None => std::ptr::null_mut(),
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_plain(layout) {
            // SAFETY: the caller vouches for block and layout; the new size is not zero.
            return unsafe { self.move_aligned(block, layout, new_size) };
        }
        note(new_size as isize - layout.size() as isize);
        // SAFETY: as for `alloc`.
        match unsafe { raw::RedisModule_Realloc } {
            // SAFETY: the block came from the same allocator.
            Some(realloc) => unsafe { realloc(block.cast::<c_void>(), new_size).cast() },
            None => std::ptr::null_mut(),
        }
    }
}

impl ServerAlloc {
    /// # Safety
    /// As for [`GlobalAlloc::realloc`].
    unsafe fn move_aligned(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for the sizes; the blocks do not overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}
