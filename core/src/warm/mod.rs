//! Warming: which keys are worth producing before anybody waits for them.
//!
//! ```text
//!  keeper   the keys that are kept in mind: what happens to them     ── filing   where each stands: by name, by worth, by what is due
//!   known   one of them                                              ── due      the next to be offered
//!   tiers   those of a type                                          ── jobs     those that are being produced
//!  rate     how often a key is asked for lately, and how keys are ranked by it
//!  pattern  in which hours of the day, and on which days of the week
//! ```

#[cfg(test)]
mod check;
mod due;
mod filing;
mod jobs;
mod keeper;
mod known;
mod pattern;
mod rate;
#[cfg(test)]
mod tests;
mod tiers;

pub use self::due::DueWalk;
pub use self::keeper::{Keeper, Limits, PREDICTED_AHEAD_MS};
pub use self::known::{Known, Now, Reason, Seen, Slot};
pub use self::pattern::HOUR_MS;
pub use self::rate::Score;
