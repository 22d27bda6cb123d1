//! `EXPCACHE.META`, `SCAN` and `TAGS`.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use expcache_core::glob::Glob;
use expcache_core::grammar::scan::{ScanOptions, TagsOptions};
use redis::Value;
use serde::Serialize;

use super::client::Client;
use super::fetch::encoding;
use super::selector::Selector;
use super::shown;
use crate::error::{Error, Result};
use crate::link::{Call, Route};
use crate::reply::{self, Fields};
use crate::words::{name, words_of};
use expcache_core::codec::Encoding;

/// Everything known of an entry but its payload.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Meta {
    /// Its type.
    #[serde(rename = "type", serialize_with = "shown::text")]
    pub type_name: Bytes,
    /// What the payload is, if it was said.
    #[serde(serialize_with = "shown::optional_text")]
    pub format: Option<Bytes>,
    /// How many records it has, if that is known.
    pub records: Option<u64>,
    /// The payload's length.
    pub size: u64,
    /// The length of the bytes that it is kept in.
    pub stored: u64,
    /// How it is kept.
    #[serde(serialize_with = "shown::encoding")]
    pub encoding: Encoding,
    /// The payload's MD5.
    pub etag: String,
    /// When it was stored.
    #[serde(serialize_with = "shown::unix_millis")]
    pub created: SystemTime,
    /// How long ago that is.
    #[serde(serialize_with = "shown::millis")]
    pub age: Duration,
    /// Milliseconds of freshness left: negative when stale, none when it never expires.
    #[serde(rename = "ttl")]
    pub ttl_ms: Option<i64>,
    /// For how long it is stale after that.
    #[serde(serialize_with = "shown::millis")]
    pub grace: Duration,
    /// Whether it is fresh.
    pub fresh: bool,
    /// How often it was handed out.
    pub hits: u64,
    /// When it was last handed out or stored.
    #[serde(serialize_with = "shown::unix_millis")]
    pub last_access: SystemTime,
    /// What producing it took, if that is known.
    #[serde(serialize_with = "shown::optional_millis")]
    pub cost: Option<Duration>,
    /// Its tags.
    #[serde(serialize_with = "shown::texts")]
    pub tags: Vec<Bytes>,
    /// The JSON kept beside it.
    #[serde(serialize_with = "shown::json")]
    pub meta: Option<Bytes>,
    /// When its key was first stored: see [`Policy::lifetime`](crate::Policy::lifetime).
    #[serde(serialize_with = "shown::unix_millis")]
    pub born: SystemTime,
}

impl Meta {
    fn parse(mut fields: Fields) -> Result<Self> {
        let created_ms = fields.count("created")?;
        Ok(Self {
            type_name: fields.bytes("type")?,
            format: fields.optional_bytes("format")?,
            records: fields.optional_count("records")?,
            size: fields.count("size")?,
            stored: fields.count("stored")?,
            encoding: encoding(fields.take("encoding"))?,
            etag: fields.text("etag")?,
            created: moment(created_ms),
            age: Duration::from_millis(fields.count("age")?),
            ttl_ms: fields.optional_integer("ttl")?,
            grace: Duration::from_millis(fields.count("grace")?),
            fresh: fields.text("state")? == "fresh",
            hits: fields.count("hits")?,
            last_access: moment(fields.count("last-access")?),
            cost: fields.optional_count("cost")?.map(Duration::from_millis),
            tags: reply::strings(fields.take("tags"))?,
            meta: fields.optional_bytes("meta")?,
            born: moment(fields.optional_count("born")?.unwrap_or(created_ms)),
        })
    }
}

pub(crate) fn moment(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

/// Some keys of an iteration.
pub type Page = Vec<Bytes>;
/// Some tags of an iteration.
pub type TagPage = Vec<TagCount>;

/// A tag, and how many entries of a node have it. In a cluster a tag comes once for each node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagCount {
    /// Its name.
    pub tag: Bytes,
    /// The node's entries with it.
    pub entries: u64,
}

/// An iteration over keys or tags, one page after the other, over all primaries. It may be given up at any time.
///
/// ```no_run
/// # async fn example(client: expcache_client::Client) -> expcache_client::Result<()> {
/// use expcache_client::Selector;
///
/// let mut scan = client.scan(Selector::new().type_name("trips"));
/// while let Some(keys) = scan.next().await? {
///     println!("{keys:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Scan<T> {
    client: Client,
    of: Of,
    glob: Option<Bytes>,
    count: usize,
    nodes: Option<VecDeque<Route>>,
    cursor: u32,
    read: fn(Value) -> Result<Vec<T>>,
}

/// What is iterated over.
enum Of {
    Keys(Selector),
    Tags,
}

impl<T> Scan<T> {
    /// How many entries or tags a step looks at. 1,000 unless said.
    #[must_use]
    pub fn step(mut self, count: u64) -> Self {
        self.count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        self
    }

    /// Tags that match this pattern only; for keys say it in the selector.
    #[must_use]
    pub fn matching(mut self, glob: impl AsRef<[u8]>) -> Self {
        self.glob = Some(name(glob));
        self
    }

    /// The next page, which may be empty; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>> {
        let Some(node) = self.node().await? else { return Ok(None) };
        let reply = reply::array(self.client.call(self.call(node)).await?)?;
        let [cursor, page] = <[Value; 2]>::try_from(reply).map_err(|_| Error::reply("no cursor"))?;
        self.cursor = reply::text(cursor)?.parse().map_err(|_| Error::reply("cursor"))?;
        if self.cursor == 0 {
            self.nodes.iter_mut().for_each(|nodes| drop(nodes.pop_front()));
        }
        (self.read)(page).map(Some)
    }

    /// All that is left.
    pub async fn collect(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }

    async fn node(&mut self) -> Result<Option<Route>> {
        if self.nodes.is_none() {
            self.nodes = Some(self.client.nodes().await?.into());
        }
        Ok(self.nodes.as_ref().and_then(|nodes| nodes.front().cloned()))
    }

    fn call(&self, node: Route) -> Call {
        let command = if matches!(self.of, Of::Tags) { "EXPCACHE.TAGS" } else { "EXPCACHE.SCAN" };
        let mut call = Call::new(command, node);
        let (cursor, count) = (self.cursor, Some(self.count));
        let mut to = words_of(&mut call.cmd);
        match &self.of {
            Of::Keys(selector) => {
                let selector = self.glob.iter().fold(selector.clone(), |selector, glob| selector.matching(glob));
                ScanOptions { cursor, selector: Some(selector.0), count }.write(&mut to);
            }
            Of::Tags => {
                TagsOptions { cursor, glob: self.glob.as_ref().map(|glob| Glob::new(glob)), count }.write(&mut to)
            }
        }
        drop(to);
        call
    }
}

impl Client {
    /// Everything known of an entry but its payload. Counts as no use of it.
    pub async fn meta(&self, key: impl AsRef<[u8]>) -> Result<Option<Meta>> {
        let fields = Fields::optional(self.call(Call::on_key("EXPCACHE.META", key.as_ref())).await?)?;
        fields.map(Meta::parse).transpose()
    }

    /// Iterates over the keys of the entries that a selector means; all, without a clause.
    pub fn scan(&self, selector: Selector) -> Scan<Bytes> {
        self.iterate(Of::Keys(selector), reply::strings)
    }

    /// Iterates over the tags, with the number of their entries.
    pub fn tags(&self) -> Scan<TagCount> {
        self.iterate(Of::Tags, tag_counts)
    }

    fn iterate<T>(&self, of: Of, read: fn(Value) -> Result<Vec<T>>) -> Scan<T> {
        let client = self.clone();
        Scan { client, of, glob: None, count: 1000, nodes: None, cursor: 0, read }
    }
}

fn tag_counts(value: Value) -> Result<Vec<TagCount>> {
    let read = |(tag, entries)| Ok(TagCount { tag: reply::bytes(tag)?, entries: reply::count(entries)? });
    reply::pairs(value)?.into_iter().map(read).collect()
}
