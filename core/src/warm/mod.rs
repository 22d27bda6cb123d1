//! Warming: which keys are worth producing before anybody waits for them.
//!
//! ```text
//!  keeper   the keys that are kept in mind: which are worth most, which of them are due
//!  rate     how often a key is asked for lately, and how keys are ranked by it
//!  pattern  in which hours of the day, and on which days of the week
//! ```

mod keeper;
mod pattern;
mod rate;
#[cfg(test)]
mod tests;

pub use self::keeper::{Keeper, Known, Limits, Now, PREDICTED_AHEAD_MS, Reason, Seen, Slot};
pub use self::pattern::HOUR_MS;
pub use self::rate::Score;
