//! Calls of the server's own commands, and what they reply.

use std::ffi::{CStr, c_char};

use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::Text;
use super::context::Ctx;

impl Ctx {
    /// Would the server let a client store something now? Not on a read-only replica, nor while memory is short, too few replicas
    /// are there or the disk fails.
    pub fn accepts_writes(&self) -> bool {
        self.ask_for_write().is_ok()
    }

    /// As [`Ctx::accepts_writes`], with the server's own refusal.
    pub(super) fn ask_for_write(&self) -> Result<()> {
        const REFUSALS: [&str; 4] = ["OOM", "NOREPLICAS", "MISCONF", "READONLY"];
        // A write that changes nothing, held to what scripts (`S`) and memory (`M`) are held to; refusals come as replies (`E`).
        // SAFETY: the variable arguments are the three strings that the format says.
        let reply = unsafe {
            Reply::new(api!(RedisModule_Call)(
                self.raw(),
                c"SETRANGE".as_ptr(),
                c"cccSME".as_ptr(),
                c"".as_ptr(),
                c"0".as_ptr(),
                c"".as_ptr(),
            ))
        };
        let text = reply.whole().text();
        let text = text.trim_start_matches('-');
        if REFUSALS.iter().any(|refusal| text.starts_with(refusal)) { Err(Error::Refused(text.into())) } else { Ok(()) }
    }

    /// The server's bound for all memory, if there is one.
    pub fn max_memory(&self) -> Option<u64> {
        // SAFETY: asks a question. Without a bound nothing is used of it.
        let used = api_if_any!(RedisModule_GetUsedMemoryRatio).map(|ratio| unsafe { ratio() });
        if used.is_some_and(|used| used <= 0.0) {
            return None;
        }
        let value = self.call_for_texts(c"CONFIG", &[c"GET", c"maxmemory"]).pop()?;
        String::from_utf8(value).ok()?.parse().ok().filter(|most| *most > 0)
    }

    /// Calls a command of the server's on our own account, for texts: that of its reply, or those in it; nothing for an error.
    pub fn call_for_texts(&self, command: &CStr, words: &[&CStr]) -> Vec<Vec<u8>> {
        let texts: Vec<Text> = words.iter().map(|word| Text::new(word.to_bytes())).collect();
        let mut strings: Vec<_> = texts.iter().map(|text| text.arg().raw()).collect();
        // SAFETY: the variable arguments are what the format says: strings and how many. The reply is freed after its last use,
        // and with it those in it.
        unsafe {
            let call = api!(RedisModule_Call);
            let reply = call(self.raw(), command.as_ptr(), c"v".as_ptr(), strings.as_mut_ptr(), strings.len());
            if reply.is_null() {
                return Vec::new();
            }
            let kind = api!(RedisModule_CallReplyType)(reply) as isize;
            let found = if kind == raw::REDISMODULE_REPLY_ARRAY {
                let elements = 0..api!(RedisModule_CallReplyLength)(reply);
                elements.map(|at| reply_text(api!(RedisModule_CallReplyArrayElement)(reply, at))).collect()
            } else {
                vec![reply_text(reply)]
            };
            api!(RedisModule_FreeCallReply)(reply);
            found
        }
    }

    /// A field of a section of the server's `INFO`.
    pub fn server_info(&self, section: &CStr, field: &CStr) -> Option<String> {
        // SAFETY: the section's data is freed after its last use; the field's text is the data's.
        unsafe {
            let data = api!(RedisModule_GetServerInfo)(self.raw(), section.as_ptr());
            let text = api!(RedisModule_ServerInfoGetFieldC)(data, field.as_ptr());
            let found = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
            api!(RedisModule_FreeServerInfo)(self.raw(), data);
            found
        }
    }
}

/// # Safety
/// `reply` must be a live part of a reply, or null.
unsafe fn reply_text(reply: *mut raw::RedisModuleCallReply) -> Vec<u8> {
    let mut len = 0;
    // SAFETY: the caller vouches for the reply; anything but a text has no bytes.
    unsafe {
        let start =
            if reply.is_null() { std::ptr::null() } else { api!(RedisModule_CallReplyStringPtr)(reply, &mut len) };
        if start.is_null() { Vec::new() } else { std::slice::from_raw_parts(start.cast(), len).to_vec() }
    }
}

/// A reply of the server's to a call of ours.
pub struct Reply(*mut raw::RedisModuleCallReply);

/// A part of a reply, which is freed with the whole.
pub struct Part<'r>(*mut raw::RedisModuleCallReply, std::marker::PhantomData<&'r Reply>);

impl Reply {
    /// # Safety
    /// The reply must be nobody else's to free; null is none.
    pub(super) unsafe fn new(reply: *mut raw::RedisModuleCallReply) -> Self {
        Self(reply)
    }

    /// All of it.
    pub fn whole(&self) -> Part<'_> {
        Part(self.0, std::marker::PhantomData)
    }

    /// Its number, if it is one.
    pub fn integer(&self) -> Option<i64> {
        self.whole().integer()
    }

    /// How many parts it has.
    pub fn len(&self) -> usize {
        // SAFETY: the reply is live; of what is no array the length is of no matter, as it has no parts.
        if self.0.is_null() { 0 } else { unsafe { api!(RedisModule_CallReplyLength)(self.0) } }
    }

    /// One of its parts, if it has that many.
    pub fn at(&self, at: usize) -> Option<Part<'_>> {
        self.whole().at(at)
    }
}

impl<'r> Part<'r> {
    fn is(&self, kind: isize) -> bool {
        // SAFETY: the reply is live.
        !self.0.is_null() && unsafe { api!(RedisModule_CallReplyType)(self.0) } as isize == kind
    }

    /// Its number, if it is one.
    pub fn integer(&self) -> Option<i64> {
        // SAFETY: the reply is live.
        self.is(raw::REDISMODULE_REPLY_INTEGER).then(|| unsafe { api!(RedisModule_CallReplyInteger)(self.0) })
    }

    /// One of its parts, if it has that many.
    pub fn at(&self, at: usize) -> Option<Part<'r>> {
        if !self.is(raw::REDISMODULE_REPLY_ARRAY) {
            return None;
        }
        // SAFETY: the reply is live and an array; beyond its end is null.
        let part = unsafe { api!(RedisModule_CallReplyArrayElement)(self.0, at) };
        (!part.is_null()).then_some(Part(part, std::marker::PhantomData))
    }

    /// Its text, if it is one, or an error's.
    pub fn text(&self) -> String {
        if !self.is(raw::REDISMODULE_REPLY_STRING) && !self.is(raw::REDISMODULE_REPLY_ERROR) {
            return String::new();
        }
        let mut len = 0;
        // SAFETY: the reply is live, and its text as long as it says.
        unsafe {
            let text: *const c_char = api!(RedisModule_CallReplyStringPtr)(self.0, &mut len);
            if text.is_null() {
                return String::new();
            }
            String::from_utf8_lossy(std::slice::from_raw_parts(text.cast(), len)).into_owned()
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: ours, freed once.
            unsafe { api!(RedisModule_FreeCallReply)(self.0) };
        }
    }
}
