//! A cluster: which node has which slots, and a [`Node`] for each.
//!
//! The map of slots is read from whichever nodes answer first, and again when a node sends elsewhere or does not answer; until
//! then the old one is used, so that nobody waits for a node that he does not need. The crate's own cluster connection is not
//! used: it keeps a connection that hangs, holds up all commands while it makes another, and tells "all primaries" those that it
//! is connected to. An invalidation that one of them did not hear of has not been done.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, join, join_all, select_ok};
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value};
use tokio::time::Instant;

use super::call::{Call, Route, before};
use super::connection::Visit;
use super::connector::Connector;
use super::lazy::Once;
use super::node::Node;
use super::slot::slot;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::lock::locked;

/// How often a command follows the slot that moves before its eyes.
const REDIRECTS: usize = 5;
/// How many nodes are asked for the map at a time: some may be dead.
const ASKED: usize = 3;
/// How often the map is read at the most because something failed.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    config: Arc<Config>,
    map: RwLock<Option<Arc<Map>>>,
    nodes: Mutex<HashMap<String, Arc<Node>>>,
    reading: Once<Arc<Map>>,
    last_read: Mutex<Option<Instant>>,
}

impl Cluster {
    pub(crate) fn new(seeds: &[ConnectionInfo], config: &Arc<Config>) -> Self {
        Self {
            seeds: seeds.to_vec(),
            config: Arc::clone(config),
            map: RwLock::default(),
            nodes: Mutex::default(),
            reading: Once::default(),
            last_read: Mutex::default(),
        }
    }

    pub(crate) async fn send(self: &Arc<Self>, call: &Call) -> Result<Value> {
        let map = self.map().await?;
        let reply = match &call.route {
            Route::Key(place) => self.visit(map.owner(slot(call.word(*place))), call).await,
            Route::Node(address) => self.visit(Ok(address), call).await,
            Route::Any => self.visit(map.any(), call).await,
            Route::Primaries => self.everywhere(&map, call).await,
        };
        if reply.as_ref().is_err_and(Error::is_away) {
            self.read_soon();
        }
        reply
    }

    /// The primaries' addresses as they are now, in their order.
    pub(crate) async fn primaries(self: &Arc<Self>) -> Result<Vec<String>> {
        let map = self.read_in_time().await?;
        let mut addresses: Vec<String> = map.primaries.values().cloned().collect();
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// The addresses of all nodes as they are now, replicas too, in their order.
    pub(crate) async fn all_nodes(self: &Arc<Self>) -> Result<Vec<String>> {
        let map = self.read_in_time().await?;
        let mut addresses: Vec<String> = map.all().cloned().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Sends a command to a node, and on to where that says the slot is.
    async fn visit(self: &Arc<Self>, address: Result<&str>, call: &Call) -> Result<Value> {
        let (mut address, mut visit) = (address?.to_owned(), Visit::Own);
        for _ in 0..REDIRECTS {
            let reply = self.node(&address)?.send(call, visit).await;
            match redirected(&reply, &address) {
                Some(other) => (address, visit) = other,
                None => return reply,
            }
            if visit == Visit::Own {
                self.read_soon();
            }
        }
        self.node(&address)?.send(call, visit).await
    }

    /// Sends a command to all primaries. Those are asked who they are at the same time: if it went to others, it has not been
    /// done.
    async fn everywhere(self: &Arc<Self>, map: &Map, call: &Call) -> Result<Value> {
        let nodes: Result<Vec<_>> = map.primaries.values().map(|address| self.node(address)).collect();
        let nodes = nodes?;
        let telling = join_all(nodes.iter().map(|node| node.send(call, Visit::Own)));
        let (replies, now) = join(telling, self.read_in_time()).await;
        if now?.primaries != map.primaries {
            let error = (ErrorKind::ClusterConnectionNotFound, "there are other primaries now");
            return Err(Error::from(RedisError::from(error)));
        }
        let named = nodes.iter().zip(replies).map(|(node, reply)| Ok((node.name(), reply?)));
        named.collect::<Result<_>>().map(Value::Map)
    }

    fn node(&self, address: &str) -> Result<Arc<Node>> {
        let mut nodes = locked(&self.nodes);
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let like = self.seeds.first().ok_or_else(no_node)?;
        let node = Arc::new(Node::new(Connector::to_node(like, address, &self.config)?, &self.config));
        nodes.insert(address.to_owned(), Arc::clone(&node));
        Ok(node)
    }

    async fn map(self: &Arc<Self>) -> Result<Arc<Map>> {
        match self.known() {
            Some(map) => Ok(map),
            None => self.read_in_time().await,
        }
    }

    fn known(&self) -> Option<Arc<Map>> {
        self.map.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn read_in_time(self: &Arc<Self>) -> Result<Arc<Map>> {
        before(Instant::now() + self.config.timeout, self.read()).await
    }

    /// Reads the map behind the callers' backs, unless that was done a moment ago.
    fn read_soon(self: &Arc<Self>) {
        if locked(&self.last_read).is_none_or(|last| last.elapsed() >= PAUSE) {
            drop(self.read());
        }
    }

    fn read(self: &Arc<Self>) -> impl Future<Output = RedisResult<Arc<Map>>> + use<> {
        let cluster = Arc::clone(self);
        self.reading.join(|| async move {
            *locked(&cluster.last_read) = Some(Instant::now());
            let asking: Vec<_> = cluster.candidates().into_iter().map(|address| cluster.ask(address)).collect();
            if asking.is_empty() {
                return Err((ErrorKind::InvalidClientConfig, "a cluster of no nodes").into());
            }
            let map = Arc::new(select_ok(asking).await?.0);
            cluster.install(&map);
            Ok(map)
        })
    }

    /// Some of the nodes that are known, and of those that were named at first.
    fn candidates(&self) -> Vec<String> {
        let known = self.known().map(|map| map.primaries.values().cloned().collect::<Vec<_>>());
        let named = self.seeds.iter().filter_map(|info| address_of(info.addr())).collect();
        let mut chosen: Vec<String> = [known.unwrap_or_default(), named].into_iter().flat_map(some).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    fn ask(self: &Arc<Self>, address: String) -> BoxFuture<'static, RedisResult<Map>> {
        let cluster = Arc::clone(self);
        let asking = async move {
            let mut slots = redis::cmd("CLUSTER");
            slots.arg("SLOTS");
            let reply = match cluster.node(&address) {
                Ok(node) => node.ask(&slots).await,
                Err(error) => Err(error),
            };
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            reply.map_err(as_redis).and_then(|slots| Map::parse(&slots, host))
        };
        asking.boxed()
    }

    fn install(&self, map: &Arc<Map>) {
        let named: Vec<String> = self.seeds.iter().filter_map(|info| address_of(info.addr())).collect();
        let is_of_use = |address: &String| named.contains(address) || map.all().any(|one| one == address);
        locked(&self.nodes).retain(|address, _| is_of_use(address));
        *self.map.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::clone(map));
    }
}

/// Which primary has which slots.
#[derive(Debug, PartialEq, Eq)]
struct Map {
    /// The first and last slot, and the address; in their order.
    ranges: Vec<(u16, u16, String)>,
    /// The addresses by the nodes' ids: a host may have several names.
    primaries: BTreeMap<Vec<u8>, String>,
    /// As for primaries.
    replicas: BTreeMap<Vec<u8>, String>,
}

impl Map {
    /// Of `[[first, last, [host, port, id, …], replica …] …]`, as `CLUSTER SLOTS` replies. A host that is left out is the one
    /// that was asked.
    fn parse(slots: &Value, asked: &str) -> RedisResult<Self> {
        let nonsense = || RedisError::from((ErrorKind::Parse, "no reply to CLUSTER SLOTS"));
        let (mut ranges, mut primaries, mut replicas) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for range in slots.as_sequence().ok_or_else(nonsense)? {
            let [Value::Int(first), Value::Int(last), primary, others @ ..] =
                range.as_sequence().ok_or_else(nonsense)?
            else {
                return Err(nonsense());
            };
            let named = |node: &Value| {
                let [host, Value::Int(port), Value::BulkString(id), ..] = node.as_sequence()? else { return None };
                let host = match host {
                    Value::BulkString(host) if !host.is_empty() && host != b"?" => String::from_utf8_lossy(host),
                    _ => asked.into(),
                };
                Some((id.clone(), format!("{host}:{port}")))
            };
            let (id, address) = named(primary).ok_or_else(nonsense)?;
            replicas.extend(others.iter().filter_map(named));
            let slot = |number: &i64| u16::try_from(*number).map_err(|_| nonsense());
            ranges.push((slot(first)?, slot(last)?, address.clone()));
            primaries.insert(id, address);
        }
        ranges.sort_unstable();
        Ok(Self { ranges, primaries, replicas })
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.primaries.values().chain(self.replicas.values())
    }

    fn owner(&self, slot: u16) -> Result<&str> {
        let place = self.ranges.partition_point(|(_, last, _)| *last < slot);
        let range = self.ranges.get(place).filter(|(first, ..)| *first <= slot);
        range.map(|(_, _, address)| address.as_str()).ok_or_else(no_node)
    }

    fn any(&self) -> Result<&str> {
        fastrand::choice(self.primaries.values()).map(String::as_str).ok_or_else(no_node)
    }
}

fn no_node() -> Error {
    Error::from(RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node has the slot")))
}

/// Where a node says that the slot is; `asked` is its own address.
fn redirected(reply: &Result<Value>, asked: &str) -> Option<(String, Visit)> {
    let Err(Error::Refused(error)) = reply else { return None };
    let (address, _) = error.redirect_node()?;
    let asking = error.kind() == ErrorKind::Server(redis::ServerErrorKind::Ask);
    let visit = if asking { Visit::Asking } else { Visit::Own };
    match address.rsplit_once(':')? {
        // The host is the same.
        ("" | "?", port) => Some((format!("{}:{port}", asked.rsplit_once(':')?.0), visit)),
        _ => Some((address.to_owned(), visit)),
    }
}

fn address_of(addr: &ConnectionAddr) -> Option<String> {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some(format!("{host}:{port}")),
        _ => None,
    }
}

fn some(mut addresses: Vec<String>) -> impl Iterator<Item = String> {
    fastrand::shuffle(&mut addresses);
    addresses.into_iter().take(ASKED)
}

/// The other way round of what `Error` is made of.
fn as_redis(error: Error) -> RedisError {
    match error {
        Error::Refused(error) | Error::Unavailable(error) => error,
        other => (ErrorKind::Io, "no map of the slots", other.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64, id: &str) -> Value {
        let node = vec![host, Value::Int(port), Value::BulkString(id.into())];
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(node)])
    }

    #[test]
    fn the_map_tells_the_owner_of_each_slot() {
        let host = |name: &str| Value::BulkString(name.into());
        let slots = vec![range(8000, 16383, Value::Nil, 2, "b"), range(0, 4999, host("one"), 1, "a")];
        let map = Map::parse(&Value::Array(slots), "asked").unwrap();
        for (slot, owner) in [(0, "one:1"), (4999, "one:1"), (8000, "asked:2"), (16383, "asked:2")] {
            assert_eq!(map.owner(slot).unwrap(), owner);
        }
        assert!(map.owner(5000).unwrap_err().is_unavailable(), "nobody has it");
        assert_eq!(map.primaries.len(), 2);
        assert!(Map::parse(&Value::Okay, "asked").is_err());
    }
}
