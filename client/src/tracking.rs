//! What keeps the near cache right: the server's own messages of changed keys (client-side caching, RESP3).
//!
//! The broadcasting mode is used, on connections that carry nothing else. It tells of every key with the prefix, whoever reads it
//! and however: in the other mode the server remembers what a command read, and does not remember what it hands out after
//! waiting, or from a worker. It costs the server a message to each process for each change of an entry; exports change seldom.
//!
//! The near cache is open while every primary is heard, and is emptied when one is not. Which primaries there are is looked up
//! each second. After an invalidation of very many entries the server tells of each key as it reclaims it, which may take
//! seconds: so nothing is kept near for longer than [`Config::near_lifetime`](crate::Config::near_lifetime).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc;

use crate::command::Client;
use crate::config::Config;
#[cfg(any(feature = "cluster", feature = "testing"))]
use crate::config::Topology;
use crate::error::{Error, Result};
use crate::link::{Connected, Connector};
use crate::memory::Memory;
use crate::reply;

const LOOK: Duration = Duration::from_secs(1);

/// Listens as long as there is a cache.
pub(crate) async fn run(near: Arc<Memory>, client: Client) {
    // However it ends, with its runtime or by a panic: who does not listen keeps nothing.
    let _closing = Closing(Arc::clone(&near));
    loop {
        let lost = listen(&near, &client).await;
        // Only if it had begun.
        let was_open = near.is_open();
        near.close();
        if was_open {
            tell(&client, false);
        }
        tracing::debug!(?lost, "the near cache is off");
        tokio::time::sleep(LOOK.mul_f64(0.2 + fastrand::f64())).await;
    }
}

struct Closing(Arc<Memory>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Returns why it could not begin, or go on.
async fn listen(near: &Memory, client: &Client) -> Result<()> {
    let config = client.config();
    let primaries = client.primaries().await?;
    let (sender, mut news) = mpsc::unbounded_channel();
    #[cfg(feature = "testing")]
    if let Topology::Memory(store) = &config.topology {
        store.tell(sender);
        near.open();
        tell(client, true);
        loop {
            note(near, news.recv().await)?;
        }
    }
    let mut connections = Vec::new();
    for connector in connectors(config, &primaries)? {
        let mut connection = connector.connect(Some(sender.clone())).await?;
        within(config.timeout, track(&mut connection.connection, &config.prefix)).await?;
        within(config.timeout, has_module(&mut connection.connection)).await?;
        connections.push(connection);
    }
    near.open();
    tell(client, true);
    let mut looking = std::pin::pin!(until_it_is_lost(connections, client, &primaries));
    loop {
        tokio::select! {
            biased;
            message = news.recv() => note(near, message)?,
            lost = &mut looking => return lost,
        }
    }
}

async fn track(connection: &mut MultiplexedConnection, prefix: &[u8]) -> RedisResult<()> {
    let mut cmd = redis::cmd("CLIENT");
    cmd.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg([prefix, b":"].concat());
    cmd.query_async(connection).await
}

/// A server without the module tells of no entry. One that does not let this user ask has it.
async fn has_module(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let asked = redis::cmd("EXPCACHE.COUNT").arg("TYPE").arg("default").query_async::<Value>(connection).await;
    match asked {
        Err(error) if matches!(Error::from(error.clone()), Error::NoModule) || error.is_io_error() => Err(error),
        _ => Ok(()),
    }
}

fn note(near: &Memory, message: Option<PushInfo>) -> Result<()> {
    let lost = || Error::reply("the connection is lost");
    match message.ok_or_else(lost)? {
        PushInfo { kind: PushKind::Invalidate, data } => {
            data.into_iter().for_each(|changed| forget(near, changed));
            Ok(())
        }
        PushInfo { kind: PushKind::Disconnection, .. } => Err(lost()),
        _ => Ok(()),
    }
}

/// Keys; or null, when the database was flushed.
fn forget(near: &Memory, changed: Value) {
    match reply::strings(changed) {
        Ok(keys) => keys.iter().for_each(|key: &Bytes| near.forget(key)),
        Err(_) => near.forget_all(),
    }
}

/// Looks each second whether every primary answers, and whether they are still the same.
async fn until_it_is_lost(mut connections: Vec<Connected>, client: &Client, primaries: &[String]) -> Result<()> {
    let (limit, ping) = (client.config().timeout, redis::cmd("PING"));
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        try_join_all(connections.iter_mut().map(|one| within(limit, ping.query_async::<Value>(&mut one.connection))))
            .await?;
        if client.primaries().await? != primaries {
            return Err(Error::reply("other primaries"));
        }
    }
}

async fn within<T>(limit: Duration, asking: impl Future<Output = RedisResult<T>>) -> Result<T> {
    Ok(tokio::time::timeout(limit, asking).await.map_err(|_| Error::Timeout)??)
}

fn tell(client: &Client, connected: bool) {
    if let Some(observer) = &client.config().observer {
        observer.near(connected);
    }
}

fn connectors(config: &Config, primaries: &[String]) -> Result<Vec<Connector>> {
    match &config.topology {
        #[cfg(feature = "cluster")]
        Topology::Cluster(nodes) => {
            let like = nodes.first().ok_or_else(|| Error::Request("a cluster of no nodes".to_owned()))?;
            primaries.iter().map(|address| Connector::to_node(like, address, config)).collect()
        }
        _ => {
            let _ = primaries;
            Ok(vec![Connector::new(config)?])
        }
    }
}
