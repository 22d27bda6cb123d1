//! Advice: what the hit rate of a type would be at other lifetimes, and what to change, from the type's own traffic.
//!
//! ```text
//!  what happens ──▶ estimator ──▶ curve ──▶ choice     what to change, and what it would gain
//!                    ├─ heat       which keys are asked for most
//!                    ├─ followed   one key, at each of 24 lifetimes ◀── tags   when they were last invalidated
//!                    ├─ counts     what is counted of those, and what follows for all
//!                    └─ evidence   what else the traffic tells ◀── trials   what payloads would take in other forms
//! ```
//!
//! It takes a bounded memory and a bounded time for each read. Time and hashes come as arguments; the salt of the hashes is the caller's.

pub mod choice;
mod counts;
pub mod curve;
mod estimator;
pub mod evidence;
mod followed;
mod heat;
mod names;
mod outcome;
mod tags;
pub mod trials;
mod ttls;

pub use self::choice::{Advice, Present, advise};
pub use self::curve::{Curve, Point};
pub use self::estimator::{Details, Estimator};
pub use self::names::Salt;
pub use self::outcome::{Outcome, Stored};
pub use self::tags::{TagHash, TagTimes};
pub use self::trials::{Keeping, Trial};
pub use self::ttls::{Moment, TTLS, moment, ttl_ms};
