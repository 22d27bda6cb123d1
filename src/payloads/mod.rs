//! Payloads: claims about them are checked, large ones are hashed and compressed, and replies hand them out.
//!
//! ```text
//!            ┌ claims: checked by a worker if that takes time
//!  SET ──▶ held: the server's own string, not copied ──▶ settled: MD5 and compressed form, in a place of its own (settle)
//!                      │                                       │
//!                      └────────▶ shared: a reply or a copy holds the same bytes (outgoing) ◀──┘
//!                                         │
//!                                         └──▶ left: its entry is gone ──▶ freed, by a worker if it is large (server::discard)
//! ```

pub mod claims;
pub mod outgoing;
pub mod settle;
pub mod trial;

use crate::server::at_once;
use crate::server::feature::{Feature, NOTHING};

/// What payloads bring to the server.
pub const FEATURE: Feature = Feature {
    settings: &[
        &outgoing::OFFLOAD_WRITE_SIZE,
        &outgoing::OFFLOAD_READ_SIZE,
        &outgoing::MAX_DECODED,
        &at_once::MAX_DECODED_AT_ONCE,
        &outgoing::MAX_RATIO,
        &settle::MIN_SAVING,
    ],
    ..NOTHING
};
