//! The Rust client of expcache: cache an export in one call, and keep working when the server does not.
//!
//! ```no_run
//! use expcache_client::{Cache, Config, Export};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> expcache_client::Result<()> {
//! let cache = Cache::open(Config::single("redis://127.0.0.1/")?)?;
//!
//! let request = cache
//!     .request("trips")
//!     .format("json")
//!     .company(42)
//!     .filters(&serde_json::json!({"month": 5}))
//!     .grace(Duration::from_secs(300))
//!     .build()?;
//!
//! let served = cache
//!     .get_or_produce(&request, || async {
//!         // The slow query. It runs once, however many ask, in however many processes.
//!         Export::json(&["A to B", "B to C"])
//!     })
//!     .await?;
//! let trips: Vec<String> = served.json()?;
//! println!("{trips:?}: {:?}, {} s old", served.how(), served.age().as_secs());
//!
//! // The data of company 42 has changed.
//! cache.invalidate_company(42).await?;
//! # Ok(())
//! # }
//! ```
//!
//! It is thin. What the server does (freshness, leases, fences, tags, policies) it does not do again; keys come from the crate
//! [`expcache_core`] that the server derives them with. What is here is what a server cannot do for a process: see
//! [`Cache::get_or_produce`].
//!
//! # When the server is away
//!
//! | | |
//! |---|---|
//! | no connection, no reply in time | commands that may safely be sent twice are, with growing, jittered pauses |
//! | several failures in a row | the circuit opens: the server is left alone for a moment, and one command tries |
//! | a request meanwhile | is produced, once for all callers in this process, and kept in a bounded fallback |
//! | it fails | nobody in this process tries again for a while |
//! | the server refuses to be read | the same: a wrong password, a right that is missing |
//! | the server is back | the fallback is emptied: what others invalidated meanwhile is not known |
//! | an invalidation meanwhile | empties what this process keeps, and is an error: it has to be tried again |
//!
//! # Near
//!
//! Small payloads are also kept in this process, for at most [`Config::near_lifetime`] (5 s). The server tells of every change as
//! it happens (RESP3); if it cannot be heard, nothing is kept. One's own invalidations empty it at once. After somebody else's
//! invalidation of very many entries the server tells of each as it reclaims it, some seconds for a million: that is how long
//! an invalidated payload may be served from here, and never longer than the lifetime. [`Config::near_bytes`]`(0)` turns it off.
//!
//! # Warm
//!
//! The server knows what is worth producing before anybody waits for it: [`Cache::warmer`] makes workers of programs. A program that
//! was served something stale makes the next behind it, and before it ends it waits for that: [`Cache::shutdown`].
//!
//! # Features
//!
//! `cluster` and `sentinel` (on), `tls` (rustls), `blocking` (`blocking::Cache`), `http` (`Cache::respond`), `macros` (`#[cached]`), `tower`
//! (`LimitLayer`), `tower-sessions` (`TowerSessions`), `testing` (`testing::InMemory`, for the tests of one's own program).
//!
//! The least supported Rust is 1.88.
#![forbid(unsafe_code)]

mod abort;
mod asking;
mod backoff;
#[cfg(feature = "blocking")]
pub mod blocking;
mod cache;
#[cfg(feature = "macros")]
mod cached;
mod check;
mod command;
mod compression;
mod config;
mod error;
mod exact;
mod export;
mod flight;
mod how;
mod http;
mod lease;
mod limiter;
mod link;
mod lock;
mod memory;
mod observe;
mod parts;
mod policy;
mod produce;
mod production;
mod reply;
mod request;
mod served;
mod sessions;
mod sliding;
#[cfg(feature = "testing")]
mod stand_in;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
#[cfg(feature = "tls")]
mod tls;
mod tracking;
mod typed;
#[cfg(feature = "http")]
mod view;
mod warmer;
mod words;

#[cfg(feature = "macros")]
pub use expcache_client_macros::cached;
pub use expcache_core;

#[cfg(feature = "http")]
pub use self::http::{Ask, Body};
pub use self::http::{ByteRange, RangeHeader};
pub use cache::Cache;
pub use check::Checked;
pub use command::*;
pub use compression::Compression;
pub use config::{Address, Config};
pub use error::{BoxError, Error, Result, SharedError, Unshared};
pub use expcache_core::codec::Encoding;
pub use export::Export;
pub use how::{How, Stored};
#[cfg(feature = "tower")]
pub use limiter::{Limit, LimitLayer, OnOutage};
pub use limiter::{Limiter, Verdict};
pub use observe::Observer;
pub use parts::Parts;
pub use policy::{Audit, Beyond, PerTag, Policy};
pub use production::{Finished, Production};
pub use request::{Request, RequestBuilder};
pub use served::Served;
#[cfg(feature = "tower-sessions")]
pub use sessions::TowerSessions;
pub use sessions::{Listed, Session, SessionId, Sessions};
pub use typed::Typed;
pub use warmer::{Warmer, Warming};

#[cfg(feature = "macros")]
#[doc(hidden)]
pub use cached::{
    argument as __argument, cached as __cached, described as __described, export as __export, identity as __identity,
    identity_of as __identity_of, owned as __owned, rebuilt as __rebuilt, text as __text,
};
#[cfg(feature = "macros")]
#[doc(hidden)]
pub use serde_json::Value as __Value;
