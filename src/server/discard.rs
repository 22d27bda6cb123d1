//! Freeing what is large: on a worker, for it takes its time; at once, on the main thread, when memory is short.
//!
//! A server that is over its `maxmemory` evicts until it has room, and looks at its memory only. What waits to be freed would
//! make it evict in vain, so the first entry that goes then takes along all that waits.

use std::mem::take;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use expcache_core::entry::{Body, Entry};

use super::api::api_if_any;
use super::workers;

/// Freeing more bytes than this on the main thread would be felt.
pub const FREE_ASIDE_FROM: usize = 256 << 10;

type Left = Vec<Box<dyn Send>>;

/// What any thread may free.
static LEFT: Mutex<Left> = Mutex::new(Vec::new());
/// What only the main thread may free, until the event loop has gone round.
static LEFT_IN_THIS_TURN: Mutex<Left> = Mutex::new(Vec::new());
/// Is there anything in the two?
static IS_ANYTHING_LEFT: AtomicBool = AtomicBool::new(false);

/// Is the server over its `maxmemory`? On the main thread.
pub fn memory_is_short() -> bool {
    // SAFETY: asks a question, on the main thread.
    api_if_any!(RedisModule_GetUsedMemoryRatio).is_some_and(|ratio| unsafe { ratio() } > 1.0)
}

/// Frees an entry that the server gave up. On any thread.
pub fn entry(entry: Box<Entry>) {
    if !workers::is_main_thread() {
        return;
    }
    if IS_ANYTHING_LEFT.load(Ordering::Relaxed) && memory_is_short() {
        IS_ANYTHING_LEFT.store(false, Ordering::Relaxed);
        free(&LEFT_IN_THIS_TURN);
        free(&LEFT);
    }
    if entry.size_bytes().0 >= FREE_ASIDE_FROM {
        large(Box::new(entry));
    }
}

/// Frees a payload, if it is an entry's no more. On the main thread.
pub fn body(body: Body) {
    if body.len() >= FREE_ASIDE_FROM {
        large(Box::new(body));
    }
}

fn large(thing: Box<dyn Send>) {
    if !memory_is_short() {
        leave(thing, &LEFT);
        workers::soon(|_coder| free(&LEFT));
    }
}

/// Frees what a thread must not free before the event loop has gone round. On any thread.
pub fn next_turn(thing: impl Send + 'static) {
    leave(Box::new(thing), &LEFT_IN_THIS_TURN);
    workers::post(|_ctx| {
        let Ok(mut aged) = LEFT_IN_THIS_TURN.lock().map(|mut left| take(&mut *left)) else { return };
        if let Ok(mut left) = LEFT.lock() {
            left.append(&mut aged);
        }
        workers::soon(|_coder| free(&LEFT));
    });
}

fn leave(thing: Box<dyn Send>, to: &Mutex<Left>) {
    if let Ok(mut left) = to.lock() {
        left.push(thing);
        IS_ANYTHING_LEFT.store(true, Ordering::Relaxed);
    }
}

fn free(all: &Mutex<Left>) {
    let left = all.lock().map(|mut left| take(&mut *left));
    drop(left);
}
