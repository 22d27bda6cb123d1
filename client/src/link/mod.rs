//! The way to the servers: connections shared by all callers, others for those who wait, timeouts, retries and the breakers.
//!
//! A command that blocks (`FETCH … WAIT`) would hold up everything behind it on a shared connection, so it gets one of its own
//! from a small pool; the time for which it queues for that is nobody's failure. What is known of a server (its connections,
//! whether it answers) is kept by a [`Node`]; a cluster has many, and one that hangs concerns none of the others.

mod breaker;
mod call;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod connector;
mod lazy;
mod node;
mod pool;
mod setup;
mod slot;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use redis::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) use self::call::{Call, Carries, Repeat, Route};
#[cfg(feature = "cluster")]
use self::cluster::Cluster;
use self::connection::Visit;
pub(crate) use self::connector::{Connected, Connector};
use self::node::Node;
pub(crate) use self::slot::slot;
use crate::config::Config;
use crate::error::{Error, Result};

/// How long to wait before a command is sent again, at first and at last; up to twice as long, so that not all come at the same time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(crate) struct Link {
    servers: Servers,
    /// To wait with a connection of one's own.
    permits: Semaphore,
    config: Arc<Config>,
}

enum Servers {
    One(Box<Node>),
    #[cfg(feature = "cluster")]
    Cluster(Arc<Cluster>),
    #[cfg(feature = "testing")]
    Memory(Arc<crate::stand_in::Store>),
}

impl Servers {
    /// What can never work fails here, in a cluster too.
    fn new(config: &Arc<Config>) -> Result<Self> {
        let connector = || Connector::new(config);
        Ok(match &config.topology {
            #[cfg(feature = "cluster")]
            crate::config::Topology::Cluster(seeds) => {
                connector()?;
                Self::Cluster(Arc::new(Cluster::new(seeds, config)))
            }
            #[cfg(feature = "testing")]
            crate::config::Topology::Memory(store) => {
                store.set_policies(&config.policies)?;
                Self::Memory(Arc::clone(store))
            }
            _ => Self::One(Box::new(Node::new(connector()?, config))),
        })
    }
}

impl Link {
    pub(crate) fn new(config: Config) -> Result<Self> {
        let config = Arc::new(Config { refused_policies: Arc::default(), ..config });
        let servers = Servers::new(&config)?;
        Ok(Self { servers, permits: Semaphore::new(config.waiting_connections), config })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The reply. It is a box that whoever is dropped may hand on to others, and which keeps the types of callers' futures from becoming
    /// too deep for the compiler.
    pub(crate) fn call(self: &Arc<Self>, call: Call) -> BoxFuture<'static, Result<Value>> {
        let link = Arc::clone(self);
        let calling = async move {
            let _permit = if call.wait.is_zero() { None } else { Box::pin(link.permit(&call)).await? };
            match link.attempt(&call).await {
                Err(error) if call.repeat == Repeat::Harmless && error.is_worth_a_retry() => {
                    Box::pin(link.again(&call, error)).await
                }
                reply => reply,
            }
        };
        calling.boxed()
    }

    async fn again(&self, call: &Call, mut error: Error) -> Result<Value> {
        let (mut pause, longest) = PAUSES;
        for _ in 0..self.config.retries {
            tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64())).await;
            match self.attempt(call).await {
                Err(next) if next.is_worth_a_retry() => error = next,
                reply => return reply,
            }
            pause = longest.min(pause * 2);
        }
        Err(error)
    }

    /// Only so many wait at a time; the others queue.
    async fn permit(&self, call: &Call) -> Result<Option<SemaphorePermit<'_>>> {
        if call.apart {
            return Ok(None);
        }
        let (queue, too_late) = match call.queue {
            Some(queue) => (queue, Error::NoLease),
            None => (self.config.patience, Error::Timeout),
        };
        let permit = tokio::time::timeout(queue, self.permits.acquire()).await;
        Ok(permit.map_err(|_| too_late)?.ok())
    }

    async fn attempt(&self, call: &Call) -> Result<Value> {
        match &self.servers {
            Servers::One(node) => {
                let reply = node.send(call, Visit::Own).await?;
                Ok(call.of_the_only(|| node.name(), reply))
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => Box::pin(cluster.send(call)).await,
            #[cfg(feature = "testing")]
            Servers::Memory(store) => {
                let reply = store.call(&call.cmd).await?;
                Ok(call.of_the_only(|| Value::SimpleString("memory".to_owned()), reply))
            }
        }
    }

    /// Every node with its address, replicas of a cluster too; else the only server.
    pub(crate) async fn all_nodes(&self) -> Result<Vec<(String, Route)>> {
        Ok(match &self.servers {
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => {
                let nodes = cluster.all_nodes().await?;
                nodes.into_iter().map(|address| (address.clone(), Route::Node(address))).collect()
            }
            Servers::One(node) => vec![(node.address().to_owned(), Route::Any)],
            #[cfg(feature = "testing")]
            Servers::Memory(_) => vec![("memory".to_owned(), Route::Any)],
        })
    }

    /// The primaries' addresses, in their order; empty when there is but one server.
    pub(crate) async fn primaries(&self) -> Result<Vec<String>> {
        match &self.servers {
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.primaries().await,
            _ => Ok(Vec::new()),
        }
    }
}
