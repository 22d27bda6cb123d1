//! expcache: cache semantics inside the server. A module for Redis and Valkey.
//!
//! It is a data type whose values are cache entries (a payload with a type, tags, freshness and metadata), an index over them
//! that follows every native command, and the commands of [`command::TABLE`]. It is not a second keyspace, a proxy or a
//! client-side cache: entries are keys, and expire, replicate, persist and move as keys do.
//!
//! ```text
//!   client ──▶ the server ──▶ server/ (its C interface; all of the `unsafe`) ──▶ command/ (grammar, replies)
//!                                │                                                  │
//!                                └───────────────▶ expcache-core ◀──────────────────┘
//!                                    (entries, index, policies, keys; no server, no clock)
//! ```

pub mod command;
pub mod server;

/// The version that `MODULE LIST` shows: 0.1.0 is 100.
const VERSION: std::ffi::c_int = 100;
