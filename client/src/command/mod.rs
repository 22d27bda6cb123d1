//! Every command as a method of [`Client`]: options are builders, replies are structs, and nobody needs raw words.

mod advise;
mod audit;
mod client;
mod cluster;
mod entries;
mod fetch;
mod invalidation;
mod keys;
mod leases;
mod look;
mod native;
mod operation;
mod rules;
mod selector;
mod set;
mod shown;
mod statistics;
mod throttle;
mod types;
mod warm;

pub use self::advise::{Advised, CurvePoint};
pub use self::audit::{AuditLine, AuditPage, AuditTrail, Gap, NodeError};
pub use self::client::Client;
pub use self::cluster::{CheckedCluster, Defined, Difference, Said};
pub use self::fetch::{Fetch, Fetched, Field, Status};
pub use self::invalidation::{Purge, Purged};
pub use self::leases::Release;
pub use self::look::{Meta, Page, Scan, TagCount, TagPage};
pub(crate) use self::native::Renamed;
pub use self::operation::{Check, Health, SelfTest};
pub use self::rules::{Event, Fired, On, Rule, RuleState};
pub use self::selector::Selector;
pub use self::set::{Condition, Expiry, Set};
pub use self::statistics::{Formats, Rank, Stats, Top, TopEntry, TypeStats};
pub use self::throttle::{Quota, Rate, Throttle, Throttled};
pub use self::warm::{Warm, WarmJob};
