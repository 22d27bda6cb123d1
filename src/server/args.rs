//! The words of a command, and strings that the module makes.

use std::ffi::c_int;
use std::marker::PhantomData;

use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::api;

/// One argument of a command.
#[derive(Clone, Copy)]
pub struct Arg<'a> {
    string: *mut raw::RedisModuleString,
    call: PhantomData<&'a ()>,
}

/// The arguments of a command that were not taken yet. The command's name was.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    left: &'a [*mut raw::RedisModuleString],
}

impl<'a> Arg<'a> {
    /// # Safety
    /// `string` must be a string of the server's that lives as long as `'a`.
    pub(super) unsafe fn new(string: *mut raw::RedisModuleString) -> Self {
        Self { string, call: PhantomData }
    }

    pub(super) fn raw(self) -> *mut raw::RedisModuleString {
        self.string
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the string lives as long as `'a`, and the server does not change it while a module may see it.
        unsafe {
            let start = api!(RedisModule_StringPtrLen)(self.string, &mut len);
            std::slice::from_raw_parts(start.cast(), len)
        }
    }
}

impl<'a> Args<'a> {
    /// # Safety
    /// `argv` must be null, or hold `argc` strings that live as long as `'a`.
    pub(super) unsafe fn new(argv: *mut *mut raw::RedisModuleString, argc: c_int, skip: usize) -> Self {
        if argv.is_null() {
            // A module that is loaded without arguments.
            return Self { left: &[] };
        }
        // SAFETY: as above.
        let all = unsafe { std::slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or(0)) };
        Self { left: all.get(skip..).unwrap_or_default() }
    }

    /// # Safety
    /// The strings must be the server's, and live as long as `'a`.
    pub(super) unsafe fn these(strings: &'a [*mut raw::RedisModuleString]) -> Self {
        Self { left: strings }
    }

    /// The next argument, which the grammar demands.
    pub fn need(&mut self) -> Result<Arg<'a>> {
        self.next().ok_or_else(|| Error::Syntax)
    }

    /// Takes the next `count` arguments.
    pub fn split_off(&mut self, count: usize) -> Result<Args<'a>> {
        let (taken, rest) = self.left.split_at_checked(count).ok_or(Error::Syntax)?;
        self.left = rest;
        Ok(Args { left: taken })
    }

    /// The remaining words, as the grammar reads them.
    pub fn words(self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        self.map(Arg::bytes)
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Is nothing left?
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Fails if words are left.
    pub fn end(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(Error::Syntax) }
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = Arg<'a>;

    fn next(&mut self) -> Option<Arg<'a>> {
        let (first, rest) = self.left.split_first()?;
        self.left = rest;
        // SAFETY: `new`'s caller vouched for it.
        Some(unsafe { Arg::new(*first) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.iter().size_hint()
    }
}

impl ExactSizeIterator for Args<'_> {}

/// A string of the server's that we made.
pub struct Text(*mut raw::RedisModuleString);

impl Text {
    /// From any bytes.
    pub fn new(bytes: &[u8]) -> Self {
        // SAFETY: the server copies the bytes; without a context the string is ours to free.
        Self(unsafe { api!(RedisModule_CreateString)(std::ptr::null_mut(), bytes.as_ptr().cast(), bytes.len()) })
    }

    /// One that the server made for us.
    ///
    /// # Safety
    /// `string` must be ours to free.
    pub(super) unsafe fn taken(string: *mut raw::RedisModuleString) -> Self {
        Self(string)
    }

    /// As an argument.
    pub fn arg(&self) -> Arg<'_> {
        // SAFETY: the string lives as long as `self`.
        unsafe { Arg::new(self.0) }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: we made it, and nobody else frees it.
        unsafe { api!(RedisModule_FreeString)(std::ptr::null_mut(), self.0) };
    }
}
