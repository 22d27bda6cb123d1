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

/// The server's allocator hands out blocks aligned to 16 bytes; what wants more is given room to align itself in, which
/// nothing here does, so it is refused.
fn fits(layout: Layout) -> bool {
    layout.align() <= ALIGN
}

// SAFETY: the four functions are the server's malloc family, which has the properties asked for; layouts that it could not
// honour are refused. They are there before anything in this module can allocate: loading fetches them first.
unsafe impl GlobalAlloc for ServerAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: see above; reading the pointer races with nothing, it is written once while loading.
        match unsafe { raw::RedisModule_Alloc } {
            // SAFETY: any size is allowed.
            Some(alloc) if fits(layout) => unsafe { alloc(layout.size()).cast() },
            _ => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as for `alloc`.
        if let Some(free) = unsafe { raw::RedisModule_Free } {
            // SAFETY: the block came from the same allocator.
            unsafe { free(block.cast()) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as for `alloc`.
        match unsafe { raw::RedisModule_Calloc } {
            // SAFETY: any size is allowed.
            Some(calloc) if fits(layout) => unsafe { calloc(1, layout.size()).cast() },
            _ => std::ptr::null_mut(),
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size as isize - layout.size() as isize);
        // SAFETY: as for `alloc`.
        match unsafe { raw::RedisModule_Realloc } {
            // SAFETY: the block came from the same allocator.
            Some(realloc) => unsafe { realloc(block.cast::<c_void>(), new_size).cast() },
            None => std::ptr::null_mut(),
        }
    }
}
