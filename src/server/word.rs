//! Words that are replied often, as the names of what a `FETCH` tells.
//!
//! A server writes a text in three steps (its length, its bytes, its end), and the reply of one of its own commands in one. So each
//! of these words is had from `ECHO` when the module is loaded, and is handed on as the server wrote it.

use std::ffi::c_char;
use std::sync::atomic::{AtomicPtr, Ordering};

use redis_module::raw;

use super::api::api;

/// One of them.
pub struct Word {
    text: &'static [u8],
    /// What `ECHO` replied, for as long as the module is there; null: nothing, where the server has no such command.
    echo: AtomicPtr<raw::RedisModuleCallReply>,
}

impl Word {
    /// Of these bytes.
    pub const fn new(text: &'static [u8]) -> Self {
        Self { text, echo: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Has the server write it. Called when the module is loaded.
    ///
    /// # Safety
    /// `ctx` must be a live context.
    pub(super) unsafe fn prepare(&self, ctx: *mut raw::RedisModuleCtx) {
        // SAFETY: the caller vouches for the context; the variable arguments are the bytes with their length that the format says. The
        // reply is live until it is freed. The server reads it when it is first asked what it is; after that no thread that hands it on
        // changes it.
        unsafe {
            let (start, len) = (self.text.as_ptr().cast::<c_char>(), self.text.len());
            let echo = api!(RedisModule_Call)(ctx, c"ECHO".as_ptr(), c"b".as_ptr(), start, len);
            if echo.is_null() {
                return;
            }
            let mut len = 0;
            let said: *const u8 = api!(RedisModule_CallReplyStringPtr)(echo, &mut len).cast();
            if !said.is_null() && std::slice::from_raw_parts(said, len) == self.text {
                self.echo.store(echo, Ordering::Release);
            } else {
                // Another command bears that name here, or it failed.
                api!(RedisModule_FreeCallReply)(echo);
            }
        }
    }

    /// Its bytes.
    pub(super) fn text(&self) -> &'static [u8] {
        self.text
    }

    /// As the server wrote it; null: it did not.
    pub(super) fn echo(&self) -> *mut raw::RedisModuleCallReply {
        self.echo.load(Ordering::Acquire)
    }
}
