//! Replies to a client.

use std::ffi::{CString, c_int, c_long};

use expcache_core::Result;
use redis_module::raw;

use super::api::api;
use super::guard::guard;
use super::word::Word;

/// Where a client's reply goes: the context of its command, or that of a client that waits while a thread makes its reply.
pub struct Replies(*mut raw::RedisModuleCtx);

impl Replies {
    /// # Safety
    /// `raw` must be a live context for as long as this value is used, and nobody else may use it at the same time.
    pub(super) unsafe fn new(raw: *mut raw::RedisModuleCtx) -> Self {
        Self(raw)
    }

    pub(super) fn raw(&self) -> *mut raw::RedisModuleCtx {
        self.0
    }

    /// `+OK`
    pub fn reply_ok(&self) {
        // SAFETY: the context is live, the text static.
        unsafe { api!(RedisModule_ReplyWithSimpleString)(self.0, c"OK".as_ptr()) };
    }

    /// A line of text that is not data, as `+OK` is.
    pub fn reply_line(&self, text: &str) {
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: the server copies the text.
        unsafe { api!(RedisModule_ReplyWithSimpleString)(self.0, text.as_ptr()) };
    }

    /// Null.
    pub fn reply_null(&self) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithNull)(self.0) };
    }

    /// An integer.
    pub fn reply_integer(&self, value: i64) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithLongLong)(self.0, value) };
    }

    /// A count.
    pub fn reply_count(&self, value: u64) {
        self.reply_integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A double: a bulk string in RESP2.
    pub fn reply_double(&self, value: f64) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithDouble)(self.0, value) };
    }

    /// A bulk string.
    pub fn reply_bytes(&self, bytes: &[u8]) {
        // SAFETY: the server copies the bytes.
        unsafe { api!(RedisModule_ReplyWithStringBuffer)(self.0, bytes.as_ptr().cast(), bytes.len()) };
    }

    /// A word, as a bulk string.
    pub fn reply_word(&self, word: &Word) {
        let echo = word.echo();
        // SAFETY: the context is live, and so is what the server once wrote.
        let is_sent = !echo.is_null()
            && unsafe { api!(RedisModule_ReplyWithCallReply)(self.0, echo) } == raw::REDISMODULE_OK as c_int;
        if !is_sent {
            self.reply_bytes(word.text());
        }
    }

    /// The head of an array; its elements are to follow.
    pub fn reply_array(&self, len: usize) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithArray)(self.0, len as c_long) };
    }

    /// The head of a map: an array of twice the length in RESP2. Keys and values are to follow.
    pub fn reply_map(&self, len: usize) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithMap)(self.0, len as c_long) };
    }

    /// An error.
    pub fn reply_error(&self, text: &str) {
        let clean: Vec<u8> = text.bytes().map(|b| if b < b' ' { b' ' } else { b }).collect();
        let text = CString::new(clean).unwrap_or_default();
        // SAFETY: the server copies the text.
        unsafe { api!(RedisModule_ReplyWithError)(self.0, text.as_ptr()) };
    }
}

/// Runs what replies to a client; an error of its, or a panic, is the reply instead.
pub(super) fn reply(to: &Replies, work: impl FnOnce() -> Result<()>) {
    match guard(None, || Some(work())) {
        Some(Ok(())) => (),
        Some(Err(error)) => to.reply_error(&error.reply()),
        None => to.reply_error("ERR internal error, see the server's log"),
    }
}

/// A value of a map: something, or null.
#[derive(Clone, Copy)]
pub enum Value<'v> {
    /// Nothing.
    Null,
    /// Any bytes.
    Bytes(&'v [u8]),
    /// One of those that are replied often.
    Word(&'v Word),
    /// A number of something.
    Count(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A quotient.
    Ratio(f64),
    /// Names.
    Names(&'v [Box<[u8]>]),
    /// What writes itself.
    With(&'v dyn Fn(&Replies)),
}

impl<'v, T: Into<Value<'v>>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(bytes: &'v [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'v> From<&'v Word> for Value<'v> {
    fn from(word: &'v Word) -> Self {
        Self::Word(word)
    }
}

impl From<u64> for Value<'_> {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<f64> for Value<'_> {
    fn from(ratio: f64) -> Self {
        Self::Ratio(ratio)
    }
}

impl Replies {
    /// A map of these fields.
    pub fn map(&self, fields: &[(&str, Value<'_>)]) {
        self.reply_map(fields.len());
        fields.iter().for_each(|(name, value)| self.field(name, *value));
    }

    /// One field of a map whose head was written.
    pub fn field(&self, name: &str, value: Value<'_>) {
        self.reply_bytes(name.as_bytes());
        self.value(value);
    }

    /// The value of a field whose name was written.
    pub fn value(&self, value: Value<'_>) {
        match value {
            Value::Null => self.reply_null(),
            Value::Bytes(bytes) => self.reply_bytes(bytes),
            Value::Word(word) => self.reply_word(word),
            Value::Count(count) => self.reply_count(count),
            Value::Signed(number) => self.reply_integer(number),
            Value::Ratio(ratio) => self.reply_double(ratio),
            Value::Names(names) => {
                self.reply_array(names.len());
                names.iter().for_each(|name| self.reply_bytes(name));
            }
            Value::With(write) => write(self),
        }
    }
}
