//! Lines in the server's log.

use std::ffi::CString;

use super::api::api;

/// Writes to the server's log. The text is never a format, and cut at a NUL.
pub fn log(level: LogLevel, text: &str) {
    let level = match level {
        LogLevel::Verbose => c"verbose",
        LogLevel::Notice => c"notice",
        LogLevel::Warning => c"warning",
    };
    let clean: Vec<u8> = text.bytes().map(|b| if b < b' ' { b' ' } else { b }).collect();
    let text = CString::new(clean).unwrap_or_default();
    // SAFETY: the format takes exactly the one text; no context is needed to log.
    unsafe { api!(RedisModule_Log)(std::ptr::null_mut(), level.as_ptr(), c"expcache: %s".as_ptr(), text.as_ptr()) };
}

/// How much a line of the log matters.
#[derive(Clone, Copy)]
pub enum LogLevel {
    /// For those who look closely.
    Verbose,
    /// Good to know.
    Notice,
    /// Needs somebody's attention.
    Warning,
}
