//! Entries: stored, read, removed.
//!
//! ```text
//!  look   a look at an entry: alive? fresh? hits and misses        store    plan, then commit: the one way in which an entry is stored
//!  set, restore     words to plans                                  get, meta, fetch, del   a command each
//!  reply, reader    what a FETCH says, and to whom
//!  part   a payload that comes in pieces
//! ```

mod del;
mod fetch;
mod get;
pub mod look;
mod meta;
mod part;
mod reader;
mod reply;
mod restore;
mod set;
mod store;

use crate::server::feature::{Feature, NOTHING};

/// What entries bring to the server.
pub const FEATURE: Feature = Feature {
    commands: &[
        set::SET,
        set::MSET,
        part::PART,
        get::GET,
        get::MGET,
        fetch::FETCH,
        meta::META,
        del::DEL,
        restore::RESTORE,
    ],
    words: &[&reply::NAMES, &reply::STATUSES],
    ..NOTHING
};
