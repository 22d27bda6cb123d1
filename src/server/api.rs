//! The server's API as functions: each is looked up when the module is loaded, and one that this server lacks is `None`.

/// The API function of this name. One that every supported server has (7.0 on) may be called without a question; a missing
/// one ends in a panic, which the callback's guard turns into an error.
macro_rules! api {
    ($name:ident) => {{
        // SAFETY: written once, while the module is loaded, before anything else of it runs.
        #[allow(unused_unsafe, reason = "most callers are inside a block of their own")]
        let function = unsafe { redis_module::raw::$name };
        match function {
            Some(function) => function,
            None => $crate::server::api::missing(stringify!($name)),
        }
    }};
}

/// The API function of this name, if this server has it.
macro_rules! api_if_any {
    ($name:ident) => {{
        // SAFETY: written once, while the module is loaded, before anything else of it runs.
        #[allow(unused_unsafe, reason = "most callers are inside a block of their own")]
        let function = unsafe { redis_module::raw::$name };
        function
    }};
}

#[cold]
#[expect(clippy::panic, reason = "caught by the guard around every callback")]
pub(super) fn missing(name: &str) -> ! {
    panic!("this server has no {name}")
}

pub(super) use {api, api_if_any};
