//! A cache server in this process: what [`crate::testing`] gives programs, and the link calls where it would call a server.

mod calls;
mod commands;
mod entry;
mod fetch;
mod in_mind;
mod per_tag;
mod rules;
mod set;
mod store;
mod strings;
mod types;
mod warm;
mod words;

pub(crate) use self::store::Store;
