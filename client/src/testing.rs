//! A cache server in this process, for the tests of programs that have a [`Cache`].
//!
//! ```
//! use expcache_client::testing::InMemory;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> expcache_client::Result<()> {
//! let server = InMemory::new();
//! let cache = server.cache()?;
//! let request = cache.request("trips").company(42).ttl(Duration::from_secs(600)).build()?;
//! cache.put(&request, "A to B").await?;
//!
//! server.advance(Duration::from_secs(599));
//! assert!(cache.get(&request).await?.is_some());
//! server.advance(Duration::from_secs(1));
//! assert!(cache.get(&request).await?.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! It stands where a connection would: what makes commands of calls and answers of replies is the client that the program has, and
//! what reads them and what decides (lives, leases, fences, selectors, formats, limits) is the core that the server has. So what a test
//! sees is what a server would do.
//!
//! It has no statistics (`stats`, `top`), gives no advice, has no `key_for`, and makes no room: `MAXENTRIES` and `MAXBYTES` are kept and mean
//! nothing, as are rules on keys, of which there are none but entries. It never refuses for want of memory or of rights, is one node, and is
//! never away; for that, see the page on testing.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Topology;
use crate::error::Result;
use crate::stand_in::Store;
use crate::{Cache, Config};

/// A server of its own, with nothing in it. Clones are the same server. See the [module's page](self).
#[derive(Clone, Default)]
pub struct InMemory(Arc<Store>);

impl InMemory {
    /// A new one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How to get at it. Each [`Cache`] that is opened with this is as a process of its own: two of them share what is stored, and
    /// nothing that they keep.
    pub fn config(&self) -> Config {
        Config::new(Topology::Memory(Arc::clone(&self.0)))
    }

    /// A cache in it. Within a tokio runtime, as always.
    pub fn cache(&self) -> Result<Cache> {
        Cache::open(self.config())
    }

    /// Lets so much time pass on the server, at once: entries become stale and go, leases that nobody renews end. What its caches keep
    /// near is forgotten. The time that they measure themselves, as for a backoff or while they wait, goes on as it does.
    pub fn advance(&self, time: Duration) {
        self.0.advance(time);
    }
}
