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
use redis::aio::MultiplexedConnection;
#[cfg(feature = "cluster")]
use redis::{ConnectionAddr, ConnectionInfo};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use crate::command::Client;
use crate::config::Config;
#[cfg(feature = "cluster")]
use crate::config::Topology;
use crate::error::{Error, Result};
use crate::link::Connector;
use crate::memory::Memory;
use crate::reply;

const LOOK: Duration = Duration::from_secs(1);

/// Listens as long as there is a cache.
pub(crate) async fn run(near: Arc<Memory>, client: Client) {
    loop {
        let lost = listen(&near, &client).await;
        near.close();
        tell(&client, false);
        tracing::debug!(?lost, "the near cache is off");
        tokio::time::sleep(LOOK.mul_f64(0.2 + fastrand::f64())).await;
    }
}

/// Returns why it could not begin, or go on.
async fn listen(near: &Memory, client: &Client) -> Result<()> {
    let primaries = client.primaries().await?;
    let (sender, mut news) = mpsc::unbounded_channel();
    let mut connections = Vec::new();
    for connector in connectors(client.config(), &primaries)? {
        let mut connection = connector.connect(Some(sender.clone())).await?;
        track(&mut connection, &client.config().prefix).await?;
        connections.push(connection);
    }
    near.open();
    tell(client, true);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            message = news.recv() => note(near, message)?,
            _ = look.tick() => still_there(&mut connections, client, &primaries).await?,
        }
    }
}

async fn track(connection: &mut MultiplexedConnection, prefix: &[u8]) -> Result<()> {
    let mut cmd = redis::cmd("CLIENT");
    cmd.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg([prefix, b":"].concat());
    Ok(cmd.query_async(connection).await?)
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

async fn still_there(connections: &mut [MultiplexedConnection], client: &Client, primaries: &[String]) -> Result<()> {
    let limit = client.config().timeout;
    for connection in connections {
        let ping = redis::cmd("PING");
        let pong = tokio::time::timeout(limit, ping.query_async::<Value>(connection)).await;
        pong.map_err(|_| Error::Timeout)??;
    }
    match client.primaries().await?.as_slice() == primaries {
        true => Ok(()),
        false => Err(Error::reply("other primaries")),
    }
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
            primaries.iter().map(|address| Ok(Connector::to(at(like, address)?, config)?)).collect()
        }
        _ => {
            let _ = primaries;
            Ok(vec![Connector::new(config)?])
        }
    }
}

/// The node at an address, spoken to as another is.
#[cfg(feature = "cluster")]
fn at(like: &ConnectionInfo, address: &str) -> Result<ConnectionInfo> {
    let nonsense = || Error::Reply(format!("node address {address}"));
    let (host, port) = address.rsplit_once(':').ok_or_else(nonsense)?;
    let port = port.parse().map_err(|_| nonsense())?;
    let addr = match like.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    };
    Ok(like.clone().set_addr(addr))
}
