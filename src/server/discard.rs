//! Frees large values: on a worker, because that takes time; or at once on the main thread, when waiting would take too much memory.
//!
//! A server that is over its `maxmemory` evicts until it has room, and looks at its memory only. Values that wait to be freed
//! would make it evict in vain, so the first entry that goes then takes all of them along. The same happens when very much waits, as
//! it does in a long script or while a file is loaded, when the event loop stands still.
//!
//! The server counts only what it frees itself. If another thread frees an older payload while the server evicts, memory is short no more
//! and the server goes on all the same. So after an evicted value that was left to another thread all is freed at once, until the
//! event loop has gone round.

use std::mem::take;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use expcache_core::entry::{Body, Entry};

use super::api::api_if_any;
use super::workers;

/// Freeing more bytes than this on the main thread would be felt.
pub const FREE_ASIDE_FROM: usize = 256 << 10;
/// No more bytes than this wait to be freed.
const MOST_LEFT: usize = 64 << 20;

/// Things that wait to be freed.
struct FreeList {
    things: Mutex<Vec<Box<dyn Send>>>,
    bytes: AtomicUsize,
}

/// Values that any thread may free.
static LEFT: FreeList = FreeList::new();
/// Values that only the main thread may free, until the event loop has gone round.
static LEFT_IN_THIS_TURN: FreeList = FreeList::new();
/// Is a worker going to free the former?
static IS_SENT: AtomicBool = AtomicBool::new(false);
/// Was a value left to another thread since the last entry was unlinked?
static WENT_ASIDE: AtomicBool = AtomicBool::new(false);
/// Has the server evicted such an entry since the event loop last went round?
static IS_EVICTING: AtomicBool = AtomicBool::new(false);

impl FreeList {
    const fn new() -> Self {
        Self { things: Mutex::new(Vec::new()), bytes: AtomicUsize::new(0) }
    }

    fn add(&self, things: impl IntoIterator<Item = Box<dyn Send>>, bytes: usize) {
        if let Ok(mut left) = self.things.lock() {
            left.extend(things);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// All of it, and how many bytes it holds.
    fn take(&self) -> (Vec<Box<dyn Send>>, usize) {
        self.things.lock().map(|mut left| (take(&mut *left), self.bytes.swap(0, Ordering::Relaxed))).unwrap_or_default()
    }
}

/// Is a value of so many bytes to be left to another thread? On the main thread.
pub fn goes_aside(bytes: usize) -> bool {
    let aside = bytes >= FREE_ASIDE_FROM && !memory_is_short();
    if aside {
        WENT_ASIDE.store(true, Ordering::Relaxed);
    }
    aside
}

/// An entry is unlinked, and perhaps freed.
pub fn note_unlinked() {
    WENT_ASIDE.store(false, Ordering::Relaxed);
}

/// The server has evicted the entry that was unlinked last.
pub fn note_eviction() {
    if WENT_ASIDE.swap(false, Ordering::Relaxed) && !IS_EVICTING.swap(true, Ordering::Relaxed) {
        workers::run_on_main(|_ctx| IS_EVICTING.store(false, Ordering::Relaxed));
    }
}

/// Is the server over its `maxmemory`, or evicting because it was? On the main thread.
fn memory_is_short() -> bool {
    // SAFETY: asks a question, on the main thread.
    IS_EVICTING.load(Ordering::Relaxed)
        || api_if_any!(RedisModule_GetUsedMemoryRatio).is_some_and(|ratio| unsafe { ratio() } > 1.0)
}

/// Frees an entry that the server gave up. On any thread.
pub fn free_entry(entry: Box<Entry>) {
    if !workers::is_main_thread() {
        return;
    }
    free_if_much();
    let bytes = entry.size_bytes().0;
    free_large(entry, bytes);
}

/// Frees a payload, if it is an entry's no more. On the main thread.
pub fn free_body(body: Body) {
    free_if_much();
    let bytes = body.len();
    free_large(body, bytes);
}

/// Frees what is many things, none of them large, on a thread of its own.
pub fn on_thread(things: impl Send + 'static) {
    // Without a thread they are freed here.
    let _ = std::thread::Builder::new().name("expcache-free".into()).spawn(move || drop(things));
}

fn free_if_much() {
    let left = LEFT.bytes.load(Ordering::Relaxed) + LEFT_IN_THIS_TURN.bytes.load(Ordering::Relaxed);
    if left > MOST_LEFT || left > 0 && memory_is_short() {
        drop(LEFT.take());
        drop(LEFT_IN_THIS_TURN.take());
    }
}

fn free_large(thing: impl Send + 'static, bytes: usize) {
    if goes_aside(bytes) {
        LEFT.add([Box::new(thing) as Box<dyn Send>], bytes);
        send();
    }
}

/// Frees what a thread must not free before the event loop has gone round. On any thread.
pub fn free_after_this_turn(thing: impl Send + 'static, bytes: usize) {
    LEFT_IN_THIS_TURN.add([Box::new(thing) as Box<dyn Send>], bytes);
    workers::run_on_main(|_ctx| {
        let (aged, bytes) = LEFT_IN_THIS_TURN.take();
        LEFT.add(aged, bytes);
        send();
    });
}

fn send() {
    if !IS_SENT.swap(true, Ordering::AcqRel) {
        workers::run_soon(0, |_coder| {
            IS_SENT.store(false, Ordering::Release);
            drop(LEFT.take());
        });
    }
}
