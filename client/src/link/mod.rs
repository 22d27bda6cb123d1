//! The way to the servers: connections shared by all callers, others for those who wait, timeouts, retries and the breakers.
//!
//! A command that blocks (`FETCH … WAIT`) would hold up everything behind it on a shared connection, so it gets one of its own
//! from a small pool; the time for which it queues for that is nobody's failure. What is known of a server (its connections,
//! whether it answers) is kept by a [`Node`]; a cluster has many, and one that hangs concerns none of the others.

mod breaker;
#[cfg(feature = "cluster")]
mod cluster;
mod connector;
mod lazy;
mod node;
mod pool;
mod setup;
mod slot;
mod stream;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures_util::FutureExt as _;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

#[cfg(feature = "cluster")]
use self::cluster::Cluster;
pub(crate) use self::connector::{Connected, Connector};
use self::node::Node;
pub(crate) use self::slot::slot;
use self::wire::Visit;
use crate::config::Config;
use crate::error::{Error, Result};

/// Where a command goes. Only a cluster makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the node that has the key.
    Key(Vec<u8>),
    /// To any primary.
    Any,
    /// To every primary; the reply is a map of their names and replies.
    Primaries,
    /// To the node of this address, as [`Link::primaries`] tells it.
    Node(String),
}

/// A command, and how to treat it.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) cmd: Cmd,
    pub(crate) route: Route,
    pub(crate) repeat: Repeat,
    pub(crate) carries: Carries,
    /// How long the server was asked to wait.
    pub(crate) wait: Duration,
    /// How long it may queue until it can wait; `None`: as long as the configuration has patience.
    pub(crate) queue: Option<Duration>,
    /// Is it sent whatever the breaker says?
    pub(crate) anyway: bool,
}

/// What sending a command twice would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The same as sending it once.
    Harmless,
    /// Perhaps something else, so a lost reply is not asked for again.
    Never,
}

/// How large a command or its reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    Little,
    Payload,
}

impl Call {
    pub(crate) fn new(name: &'static str, route: Route) -> Self {
        let cmd = name.split(' ').fold(Cmd::new(), |mut cmd, word| {
            cmd.arg(word);
            cmd
        });
        let (repeat, carries, wait, queue) = (Repeat::Harmless, Carries::Little, Duration::ZERO, None);
        Self { name, cmd, route, repeat, carries, wait, queue, anyway: false }
    }

    pub(crate) fn on_key(name: &'static str, key: &[u8]) -> Self {
        let mut call = Self::new(name, Route::Key(key.to_vec()));
        call.cmd.arg(key);
        call
    }

    /// The reply of the only server, as it would come from all.
    fn of_the_only(&self, name: impl FnOnce() -> Value, reply: Value) -> Value {
        if self.route == Route::Primaries { Value::Map(vec![(name(), reply)]) } else { reply }
    }
}

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
    Memory(Arc<crate::testing::Store>),
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

    pub(crate) async fn call(&self, call: &Call) -> Result<Value> {
        let _permit = self.permit(call).await?;
        let retries = if call.repeat == Repeat::Harmless { self.config.retries } else { 0 };
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(retries)
            .with_jitter();
        // Boxed: the types of the callers' futures would become too deep for the compiler.
        (|| self.attempt(call).boxed()).retry(delays).when(Error::is_worth_a_retry).await
    }

    /// Only so many wait at a time; the others queue.
    async fn permit(&self, call: &Call) -> Result<Option<SemaphorePermit<'_>>> {
        if call.wait.is_zero() {
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
            Servers::Cluster(cluster) => cluster.send(call).await,
            #[cfg(feature = "testing")]
            Servers::Memory(store) => {
                let reply = store.call(&call.cmd).await?;
                Ok(call.of_the_only(|| Value::SimpleString("memory".to_owned()), reply))
            }
        }
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

/// What a future comes to, if it does in time.
async fn before<T>(limit: Instant, future: impl Future<Output = RedisResult<T>>) -> Result<T> {
    match tokio::time::timeout_at(limit, future).await {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::Timeout),
    }
}
