//! The cache, without a server: no Redis, no clock, no global state.
//!
//! Time, randomness and the current configuration come in as arguments, so every rule here can be tested as a table of
//! (time, call, expected). Keys, tags, types and payloads are any bytes.
#![forbid(unsafe_code)]

pub mod audit;
mod bytes;
pub mod codec;
pub mod early;
pub mod entry;
pub mod error;
pub mod fair;
pub mod glob;
pub mod grammar;
pub mod index;
pub mod key;
pub mod lease;
pub mod limit;
mod moment;
pub mod policy;
pub mod selector;
pub mod stats;
pub mod types;
pub mod units;
pub mod validate;

pub use error::{Error, Result};
