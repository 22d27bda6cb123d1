//! The client that all commands are methods of, and how replies of several servers become one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redis::Value;

use crate::config::Config;
use crate::error::Result;
use crate::link::{Call, Link, Route};
use crate::reply;

/// The commands, typed. Cheap to clone; clones share their connections.
///
/// Keyed commands go to the node that has the key, all others to every primary, and their answers are combined.
///
/// ```no_run
/// # async fn example() -> expcache_client::Result<()> {
/// use expcache_client::{Client, Config, Set, Fetch, Selector, Purge};
/// use std::time::Duration;
///
/// let client = Client::open(Config::single("redis://127.0.0.1/")?)?;
/// client.set(&Set::new("trips:1", "A to B").ttl(Duration::from_secs(600)).tag("company:42")).await?;
/// let fetched = client.fetch(&Fetch::new("trips:1")).await?;
/// assert_eq!(fetched.value.as_deref(), Some(b"A to B".as_slice()));
/// client.purge(&Selector::new().any(["company:42"]).type_name("trips"), Purge::hard()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    link: Arc<Link>,
}

impl Client {
    /// A client that connects when it is first used.
    pub fn open(config: Config) -> Result<Self> {
        #[cfg(feature = "tls")]
        let config = config.certified()?;
        Ok(Self { link: Arc::new(Link::new(config)?) })
    }

    pub(crate) fn config(&self) -> &Config {
        self.link.config()
    }

    pub(crate) fn call(&self, call: Call) -> BoxFuture<'static, Result<Value>> {
        self.link.call(call)
    }

    /// The replies of all primaries.
    pub(super) async fn everywhere(&self, call: Call) -> Result<Vec<Value>> {
        Ok(self.by_node(call).await?.into_iter().map(|(_, reply)| reply).collect())
    }

    /// The replies of all primaries, with their addresses.
    pub(super) async fn by_node(&self, call: Call) -> Result<Vec<(String, Value)>> {
        let replies = reply::pairs(self.call(call).await?)?;
        replies.into_iter().map(|(node, reply)| Ok((reply::text(node)?, reply))).collect()
    }

    /// The replies of all primaries; of a cluster's twice, the second time after all have answered. While a slot moves, an entry may
    /// leave a node before that is told, and arrive at another after. A replica that becomes a primary may not have heard what its own
    /// primary was told.
    pub(super) async fn twice(&self, call: impl Fn() -> Call) -> Result<Vec<Value>> {
        let mut replies = self.everywhere(call()).await?;
        if self.is_cluster() {
            replies.extend(self.everywhere(call()).await?);
        }
        Ok(replies)
    }

    pub(super) async fn sum(&self, call: Call) -> Result<u64> {
        sum(self.everywhere(call).await?)
    }

    /// The sum of what all primaries reply in both rounds.
    pub(super) async fn sum_twice(&self, call: impl Fn() -> Call) -> Result<u64> {
        sum(self.twice(call).await?)
    }

    /// The names that a command lists on any primary, in order.
    pub(super) async fn names_of(&self, list: &'static str) -> Result<Vec<Bytes>> {
        let mut names = BTreeSet::new();
        for reply in self.everywhere(Call::new(list, Route::Primaries)).await? {
            names.extend(reply::strings(reply)?);
        }
        Ok(names.into_iter().collect())
    }

    /// The nodes to iterate over: each primary by its address, or the only server.
    pub(crate) async fn nodes(&self) -> Result<Vec<Route>> {
        let primaries = self.link.primaries().await?;
        Ok(match primaries.is_empty() {
            true => vec![Route::Any],
            false => primaries.into_iter().map(Route::Node).collect(),
        })
    }

    /// Every node there is with its address, replicas of a cluster too; else the only server.
    pub(super) async fn all_nodes(&self) -> Result<Vec<(String, Route)>> {
        self.link.all_nodes().await
    }

    /// The primaries' addresses; empty when there is but one server.
    pub(crate) async fn primaries(&self) -> Result<Vec<String>> {
        self.link.primaries().await
    }

    pub(crate) fn is_cluster(&self) -> bool {
        match self.config().topology {
            #[cfg(feature = "cluster")]
            crate::config::Topology::Cluster(_) => true,
            _ => false,
        }
    }
}

fn sum(replies: Vec<Value>) -> Result<u64> {
    replies.into_iter().map(reply::count).sum()
}
