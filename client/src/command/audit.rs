//! `EXPCACHE.AUDIT`: the logs of all nodes, followed.
//!
//! Each node has a log of its own, so a task of its own reads it, on a connection of its own, and goes on behind the line that it
//! read last, whatever happens to the connection or the node. What nodes there are is looked up again and again: replicas come, and
//! become primaries.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use expcache_core::grammar::audit::{After, AuditOptions};
use redis::Value;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::client::Client;
use super::look::moment;
use super::shown;
use crate::abort::AbortOnDrop;
use crate::error::{Error, Result};
use crate::link::{Call, Carries, Route};
use crate::lock::locked;
use crate::reply::{self, Fields};
use crate::time::ms;
use crate::words::{name, words_of};

/// How long a node is asked to wait for a line.
const WAIT: Duration = Duration::from_secs(10);
/// How soon a node that could not be read is asked again, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often is looked up which nodes there are.
const LOOK: Duration = Duration::from_secs(2);
/// So many pages wait for whoever reads the trail. Then the nodes keep the lines, as long as they can.
const AHEAD: usize = 16;

/// What was done on a node, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditLine {
    /// Its number in the node's log.
    pub id: u64,
    /// When it was done, by the node's clock.
    #[serde(serialize_with = "shown::unix_millis")]
    pub time: SystemTime,
    /// The ACL user.
    #[serde(serialize_with = "shown::optional_text")]
    pub user: Option<Bytes>,
    /// The number of the connection.
    pub client: Option<u64>,
    /// What the connection calls itself.
    #[serde(serialize_with = "shown::optional_text")]
    pub name: Option<Bytes>,
    /// The command, in lower case.
    pub command: String,
    /// The type.
    #[serde(rename = "type", serialize_with = "shown::optional_text")]
    pub type_name: Option<Bytes>,
    /// The key, or what stands for it if keys are hashed.
    #[serde(serialize_with = "shown::optional_text")]
    pub key: Option<Bytes>,
    /// The entry's tags, or what else was named.
    #[serde(serialize_with = "shown::texts")]
    pub tags: Vec<Bytes>,
    /// How many entries it hit.
    pub count: Option<u64>,
    /// Bytes of the payload that was stored or handed out.
    pub size: Option<u64>,
    /// What came of it: `ok`, `null`, `hit`, `stale`, `miss`, or a rule's name.
    #[serde(serialize_with = "shown::text")]
    pub result: Bytes,
    /// Whom it was for, or why.
    #[serde(serialize_with = "shown::optional_text")]
    pub note: Option<Bytes>,
}

impl AuditLine {
    /// The line, and how many before it are gone.
    fn parse(value: Value) -> Result<(Self, Option<u64>)> {
        let mut fields = Fields::new(value)?;
        let lost = fields.optional_count("lost")?;
        let line = Self {
            id: fields.count("id")?,
            time: moment(fields.count("time")?),
            user: fields.optional_bytes("user")?,
            client: fields.optional_count("client")?,
            name: fields.optional_bytes("name")?,
            command: fields.text("command")?,
            type_name: fields.optional_bytes("type")?,
            key: fields.optional_bytes("key")?,
            tags: reply::optional(fields.take("tags"), reply::strings)?.unwrap_or_default(),
            count: fields.optional_count("count")?,
            size: fields.optional_count("size")?,
            result: fields.bytes("result")?,
            note: fields.optional_bytes("note")?,
        };
        Ok((line, lost))
    }
}

/// Lines that a trail did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// So many were written over before they were read.
    pub lost: u64,
    /// The node was started anew, and nobody knows what its log had before. A trail of one type or user cannot tell: `None`.
    pub restarted: Option<bool>,
}

/// Some lines of a node, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditPage {
    /// The node's address.
    pub node: String,
    /// What is missing before the first line, if anything is.
    pub gap: Option<Gap>,
    /// The lines; at least one.
    pub lines: Vec<AuditLine>,
}

/// A node's log cannot be read at present. The trail tries again, and goes on behind the line that it read last.
#[derive(Debug, Clone)]
pub struct NodeError {
    /// The node's address; empty if it is not known which nodes there are.
    pub node: String,
    /// Why.
    pub error: Error,
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the audit log of {}: {}", if self.node.is_empty() { "all nodes" } else { &self.node }, self.error)
    }
}

impl std::error::Error for NodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Where a trail begins on a node that it has no place on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Oldest,
    Now,
}

/// The audit logs of all nodes, of replicas too in a cluster, as they are written. It goes on until it is dropped.
///
/// ```no_run
/// # async fn example(client: expcache_client::Client) {
/// let mut trail = client.audit();
/// loop {
///     match trail.next().await {
///         // To be kept with its node and its last id, from which `resume` goes on.
///         Ok(page) => println!("{} {:?} {:?}", page.node, page.gap, page.lines),
///         Err(away) => eprintln!("{away}"),
///     }
/// }
/// # }
/// ```
pub struct AuditTrail {
    plan: Following,
    places: HashMap<String, u64>,
    running: Option<Followers>,
}

/// What is wanted of each node.
#[derive(Clone)]
struct Following {
    client: Client,
    type_name: Option<Bytes>,
    user: Option<Bytes>,
    count: usize,
    begin: Begin,
}

struct Followers {
    pages: Receiver<Result<AuditPage, NodeError>>,
    _task: AbortOnDrop,
}

/// Behind which line to go on, by node.
type Places = Arc<Mutex<HashMap<String, u64>>>;

impl Client {
    /// Follows the audit logs of all nodes, from their oldest lines on.
    pub fn audit(&self) -> AuditTrail {
        let (type_name, user, count, begin) = (None, None, 1000, Begin::Oldest);
        let plan = Following { client: self.clone(), type_name, user, count, begin };
        AuditTrail { plan, places: HashMap::new(), running: None }
    }
}

impl AuditTrail {
    /// Lines of this type only.
    #[must_use]
    pub fn type_name(mut self, type_name: impl AsRef<[u8]>) -> Self {
        self.plan.type_name = Some(name(type_name));
        self
    }

    /// Lines of this user only.
    #[must_use]
    pub fn user(mut self, user: impl AsRef<[u8]>) -> Self {
        self.plan.user = Some(name(user));
        self
    }

    /// What is written from now on; on nodes that come later, all.
    #[must_use]
    pub fn from_now(mut self) -> Self {
        self.plan.begin = Begin::Now;
        self
    }

    /// Goes on behind this line of a node, by its address.
    #[must_use]
    pub fn resume(mut self, node: impl Into<String>, id: u64) -> Self {
        self.places.insert(node.into(), id);
        self
    }

    /// So many lines a page at most. 1,000 unless said.
    #[must_use]
    pub fn page(mut self, lines: usize) -> Self {
        self.plan.count = lines.clamp(1, 10_000);
        self
    }

    /// The next lines of any node; an error each time that one cannot be read any more. Whatever is given up while it waits is given
    /// next time.
    pub async fn next(&mut self) -> Result<AuditPage, NodeError> {
        let Self { plan, places, running } = self;
        let running = running.get_or_insert_with(|| Followers::start(plan.clone(), std::mem::take(places)));
        let gone = || NodeError { node: String::new(), error: Error::reply("the runtime was shut down") };
        running.pages.recv().await.unwrap_or_else(|| Err(gone()))
    }
}

impl Followers {
    fn start(plan: Following, places: HashMap<String, u64>) -> Self {
        let (send, pages) = channel(AHEAD);
        Self { pages, _task: AbortOnDrop(tokio::spawn(plan.follow_all(Arc::new(Mutex::new(places)), send))) }
    }
}

impl Following {
    /// Follows each node as long as there is one of that address.
    async fn follow_all(self, places: Places, send: Sender<Result<AuditPage, NodeError>>) {
        let mut following: HashMap<String, AbortOnDrop> = HashMap::new();
        let (mut plan, mut was_told) = (self, false);
        loop {
            match plan.client.all_nodes().await {
                Ok(nodes) => {
                    following.retain(|known, _| nodes.iter().any(|(node, _)| node == known));
                    for (node, route) in nodes {
                        let task = || plan.clone().follow(node.clone(), route, Arc::clone(&places), send.clone());
                        following.entry(node.clone()).or_insert_with(|| AbortOnDrop(tokio::spawn(task())));
                    }
                    // A node that comes later is wanted whole.
                    (plan.begin, was_told) = (Begin::Oldest, false);
                }
                Err(error) => {
                    if !std::mem::replace(&mut was_told, true) {
                        let error = NodeError { node: String::new(), error };
                        if send.send(Err(error)).await.is_err() {
                            return;
                        }
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn follow(self, node: String, route: Route, places: Places, send: Sender<Result<AuditPage, NodeError>>) {
        let (mut begin, mut pause) = (self.begin, None);
        loop {
            let place = locked(&places).get(&node).copied();
            let is_to_skip = place.is_none() && begin == Begin::Now;
            let read = if is_to_skip { self.newest(&route).await } else { self.read(&route, place).await };
            let news = match read {
                Ok(lines) => {
                    (begin, pause) = (Begin::Oldest, None);
                    let Some((last, _)) = lines.last() else { continue };
                    let last = last.id;
                    let page = (!is_to_skip).then(|| self.page(&node, place, lines)).map(Ok);
                    locked(&places).insert(node.clone(), last);
                    page
                }
                Err(error) => {
                    let is_news = pause.is_none();
                    let next = pause.map_or(PAUSES.0, |pause: Duration| (pause * 2).min(PAUSES.1));
                    pause = Some(next);
                    is_news.then(|| Err(NodeError { node: node.clone(), error }))
                }
            };
            if let Some(news) = news
                && send.send(news).await.is_err()
            {
                return;
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            }
        }
    }

    /// Lines behind a place, as soon as there are some.
    async fn read(&self, route: &Route, place: Option<u64>) -> Result<Vec<(AuditLine, Option<u64>)>> {
        let after = place.map(After::Id);
        let (count, wait_ms) = (Some(self.count), Some(ms(WAIT)));
        let (type_name, user) = (self.type_name.as_deref(), self.user.as_deref());
        self.ask(route, AuditOptions { after, count, wait_ms, type_name, user }, WAIT).await
    }

    /// The newest line of all, if there is one.
    async fn newest(&self, route: &Route) -> Result<Vec<(AuditLine, Option<u64>)>> {
        let options = AuditOptions { after: Some(After::Last(1)), ..AuditOptions::default() };
        self.ask(route, options, Duration::ZERO).await
    }

    async fn ask(
        &self,
        route: &Route,
        options: AuditOptions<'_>,
        wait: Duration,
    ) -> Result<Vec<(AuditLine, Option<u64>)>> {
        // It is no waiting for a production, of which there are only so many at a time.
        let apart = !wait.is_zero();
        let mut call = Call { wait, apart, carries: Carries::Payload, ..Call::new("EXPCACHE.AUDIT", route.clone()) };
        options.write(&mut words_of(&mut call.cmd));
        reply::array(self.client.call(call).await?)?.into_iter().map(AuditLine::parse).collect()
    }

    fn page(&self, node: &str, place: Option<u64>, lines: Vec<(AuditLine, Option<u64>)>) -> AuditPage {
        let gap = lines.first().and_then(|(first, lost)| {
            let (lost, place) = ((*lost)?, place?);
            let is_whole = self.type_name.is_none() && self.user.is_none();
            let restarted = is_whole.then(|| first.id != place.saturating_add(lost).saturating_add(1));
            Some(Gap { lost, restarted })
        });
        AuditPage { node: node.to_owned(), gap, lines: lines.into_iter().map(|(line, _)| line).collect() }
    }
}
