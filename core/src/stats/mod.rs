//! Counters, figures and a memory of the past that answer every question at once, without a walk.
//!
//! | what | where | bounded by |
//! |---|---|---|
//! | everything counted, and every figure, with its name and sentence | [`metrics`] | the table |
//! | what was stored in each format | [`formats`] | 32 a type |
//! | why keys went, to tell misses apart | [`misses`] | the configuration |
//! | the counters of the last minutes, hours and days | [`windows`] | 30 days |
//! | which entries are first, by hits, size, cost and time saved | [`ranking`] | 200 a type and database |
//! | how long entries have left | [`spread`] | some hundred steps a type and database |

pub mod formats;
pub mod metrics;
pub mod misses;
pub mod ranking;
pub mod spread;
pub mod windows;

pub use self::formats::Formats;
pub use self::metrics::{Counters, Gauges, RuleCounts, Sizes, Work, compression_ratio, share};
pub use self::misses::{MissMemory, Why};
pub use self::ranking::{By, Rankings};
pub use self::spread::Spread;
pub use self::windows::Windows;
