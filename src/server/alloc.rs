//! The module's memory is the server's: it counts in `used_memory` and towards `maxmemory`.
//!
//! Besides, the allocations of a piece of code on its thread can be weighed ([`weighed`]): that is how the index knows its
//! size to the byte without any structure keeping count.
//!
//! The server ends itself when it gets no memory. So large blocks are asked for in another way ([`LARGE`]), which may fail: the
//! caller gets an error. Code that allocates as much as a client says must be able to take no for an answer.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_void;

use redis_module::raw;

use super::api::api_if_any;

/// Alignment that the server's allocator gives to every block.
const ALIGN: usize = 16;

/// From this size on memory may be refused.
const LARGE: usize = 1 << 20;

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

fn noted(block: *mut u8, bytes: usize) -> *mut u8 {
    if !block.is_null() {
        note(bytes as isize);
    }
    block
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

/// Is there memory for so many bytes more? They are mapped and unmapped: what the server itself takes next, it will get. Not by its
/// allocator, or what it uses would seem to jump, and it might evict for it.
pub fn has_room(bytes: usize) -> bool {
    if bytes < LARGE {
        return true;
    }
    let (how, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, which nobody else knows of and which is unmapped as it was mapped.
    unsafe {
        let block = libc::mmap(std::ptr::null_mut(), bytes, how, kind, -1, 0);
        block != libc::MAP_FAILED && libc::munmap(block, bytes) == 0
    }
}

/// A block of the server's, or null.
fn server_alloc(bytes: usize) -> *mut c_void {
    // SAFETY: the pointers are written once, while loading; any size is allowed.
    unsafe {
        let alloc =
            if bytes < LARGE { raw::RedisModule_Alloc } else { raw::RedisModule_TryAlloc.or(raw::RedisModule_Alloc) };
        alloc.map_or(std::ptr::null_mut(), |alloc| alloc(bytes))
    }
}

/// As [`server_alloc`], all zero.
fn server_calloc(bytes: usize) -> *mut c_void {
    // SAFETY: as above; a block that is not null has room for so many zeros.
    unsafe {
        match raw::RedisModule_TryCalloc.filter(|_| bytes >= LARGE) {
            Some(calloc) => calloc(1, bytes),
            None if bytes < LARGE => raw::RedisModule_Calloc.map_or(std::ptr::null_mut(), |calloc| calloc(1, bytes)),
            None => {
                let block = server_alloc(bytes);
                if !block.is_null() {
                    block.cast::<u8>().write_bytes(0, bytes);
                }
                block
            }
        }
    }
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
        let block = if is_plain(layout) {
            server_alloc(layout.size()).cast()
        } else {
            // SAFETY: the block is of that size.
            unsafe { align(server_alloc(around(layout)).cast(), layout) }
        };
        noted(block, layout.size())
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
        let block = if is_plain(layout) {
            server_calloc(layout.size()).cast()
        } else {
            // SAFETY: the block is of that size.
            unsafe { align(server_calloc(around(layout)).cast(), layout) }
        };
        noted(block, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_plain(layout) {
            // SAFETY: the caller vouches for block and layout; the new size is not zero.
            return unsafe { self.move_to_another(block, layout, new_size) };
        }
        let realloc = api_if_any!(RedisModule_TryRealloc).filter(|_| new_size >= LARGE);
        // A server that cannot say no to this is asked by another way first.
        if new_size > layout.size() && new_size >= LARGE && realloc.is_none() && !has_room(new_size) {
            return std::ptr::null_mut();
        }
        // SAFETY: the pointer is written once, while loading; the block came from the same allocator.
        let new: *mut u8 = match realloc.or(unsafe { raw::RedisModule_Realloc }) {
            // SAFETY: as above.
            Some(realloc) => unsafe { realloc(block.cast::<c_void>(), new_size).cast() },
            None => std::ptr::null_mut(),
        };
        if !new.is_null() {
            note(new_size as isize - layout.size() as isize);
        }
        new
    }
}

impl ServerAlloc {
    /// # Safety
    /// As for [`GlobalAlloc::realloc`].
    unsafe fn move_to_another(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
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
