//! Warming: which keys are worth producing before anybody waits for them.
//!
//! ```text
//!  keeper   the keys that are kept in mind: what happens to them     ── filing   where each stands: by name, by worth, by what is due
//!   known   one of them                                              ── behind   those that are still to become due
//!   tiers   those of a type                                          ── due      the next to be offered
//!                                                                    ── jobs     those that are being produced
//!                                                                    ── compact  memory that is given back
//!  rate     how often a key is asked for lately, and how keys are ranked by it
//!  pattern  in which hours of the day, and on which days of the week
//! ```

mod behind;
#[cfg(test)]
mod check;
mod compact;
mod due;
mod filing;
mod jobs;
mod keeper;
mod known;
mod pattern;
mod rate;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_many;
mod tiers;

pub use self::due::DueWalk;
pub use self::keeper::{Keeper, Limits, PREDICTED_AHEAD_MS};
pub use self::known::{Known, Now, Reason, Seen, Slot};
pub use self::pattern::HOUR_MS;
pub use self::rate::Score;
