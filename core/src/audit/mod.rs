//! The audit log: who did what, in a bounded part of memory.
//!
//! ```text
//!  line     a line as bytes: an actor and an action, each text cut to a bound
//!  log      the lines, the oldest of which make room
//!  reading  what a reader wants of the log, and how far it has come
//! ```

mod line;
mod log;
mod reading;
#[cfg(test)]
mod tests;

pub use self::line::{Action, Actor, LogLine, TagList};
pub use self::log::AuditLog;
pub use self::reading::{Findings, Progress, Reading, Wanted};
