//! `EXPCACHE.WARM`.

use std::time::Duration;

use bytes::Bytes;
use expcache_core::grammar::warm::WarmOptions;
use redis::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::shown;
use crate::error::{Error, Result};
use crate::link::{Call, Carries, Repeat, Route};
use crate::reply::{self, Fields};
use crate::time::ms;
use crate::words::{name, words_of};

/// Which keys are asked for that are worth producing, and how they are handed out.
#[derive(Debug, Clone, Default)]
pub struct Warm {
    types: Vec<Bytes>,
    count: Option<usize>,
    lease: Option<Duration>,
    ahead: Option<Duration>,
    dry_run: bool,
}

impl Warm {
    /// One key, of whatever type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys of these types only.
    #[must_use]
    pub fn types<T: AsRef<[u8]>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types.extend(types.into_iter().map(name));
        self
    }

    /// So many keys at most, up to 1,000; in a cluster, of each primary.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }

    /// How long each lease lasts. 30 s unless said.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = Some(crate::time::lease(time));
        self
    }

    /// Also what is fresh for no longer than that; else its type's early refresh says.
    #[must_use]
    pub fn ahead(mut self, time: Duration) -> Self {
        self.ahead = Some(time);
        self
    }

    /// Only lists them: no leases.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// A key that is worth producing, and what its producer needs to know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WarmJob {
    /// The key.
    #[serde(serialize_with = "shown::text")]
    pub key: Bytes,
    /// Its type.
    #[serde(rename = "type", serialize_with = "shown::text")]
    pub type_name: Bytes,
    /// Why: `invalidated`, `stale`, `expired`, `evicted`, `expiring` or `predicted`.
    pub reason: String,
    /// The lease, unless it was only listed.
    #[serde(skip)]
    pub token: Option<String>,
    /// How long that lasts.
    #[serde(serialize_with = "shown::optional_millis")]
    pub lease: Option<Duration>,
    /// Ms of waiting that having the value is expected to save a second.
    pub worth: f64,
    /// How often the key was asked for since the server keeps it in mind.
    pub hits: u64,
    /// What producing it took.
    #[serde(serialize_with = "shown::optional_millis")]
    pub cost: Option<Duration>,
    /// The format that it was stored with.
    #[serde(serialize_with = "shown::optional_text")]
    pub format: Option<Bytes>,
    /// The JSON object that it was stored with.
    #[serde(serialize_with = "shown::json")]
    pub meta: Option<Bytes>,
    /// The tags that it was stored with.
    #[serde(serialize_with = "shown::texts")]
    pub tags: Vec<Bytes>,
}

impl WarmJob {
    /// What the value was stored with as its `META`, read as this.
    pub fn meta<T: DeserializeOwned>(&self) -> Result<T> {
        let meta = self.meta.as_deref().unwrap_or(b"{}");
        serde_json::from_slice(meta).map_err(Error::payload)
    }

    fn parse(value: Value) -> Result<Self> {
        let mut fields = Fields::new(value)?;
        Ok(Self {
            key: fields.bytes("key")?,
            type_name: fields.bytes("type")?,
            reason: fields.text("reason")?,
            token: fields.optional_text("token")?,
            lease: fields.optional_count("lease")?.map(Duration::from_millis),
            worth: fields.double("worth")?,
            hits: fields.count("hits")?,
            cost: fields.optional_count("cost")?.map(Duration::from_millis),
            format: fields.optional_bytes("format")?,
            meta: fields.optional_bytes("meta")?,
            tags: reply::optional(fields.take("tags"), reply::strings)?.unwrap_or_default(),
        })
    }
}

impl Client {
    /// The keys most worth producing now, what is worth most first; each with a lease, unless they are only listed. Nobody waits: that
    /// is what [`Cache::warmer`](crate::Cache::warmer) is for.
    pub async fn warm(&self, warm: &Warm) -> Result<Vec<WarmJob>> {
        let mut jobs = Vec::new();
        for node in self.nodes().await? {
            jobs.extend(self.warm_of(&node, warm, Duration::ZERO).await?);
        }
        jobs.sort_by(|a, b| b.worth.total_cmp(&a.worth));
        Ok(jobs)
    }

    /// Those of a node. They may be waited for; it is no waiting for a production, of which there are only so many at a time.
    pub(crate) async fn warm_of(&self, node: &Route, warm: &Warm, wait: Duration) -> Result<Vec<WarmJob>> {
        let (apart, repeat) = (true, Repeat::Never);
        let new = Call::new("EXPCACHE.WARM", node.clone());
        let mut call = Call { wait, apart, repeat, carries: Carries::Payload, ..new };
        let options = WarmOptions {
            types: (!warm.types.is_empty()).then(|| warm.types.iter().map(AsRef::as_ref).collect()),
            count: warm.count.map(|count| count as u64),
            lease_ms: warm.lease.map(ms),
            wait_ms: (!wait.is_zero()).then(|| ms(wait)),
            ahead_ms: warm.ahead.map(ms),
            dry_run: warm.dry_run.then_some(()),
        };
        options.write(&mut words_of(&mut call.cmd));
        reply::array(self.call(call).await?)?.into_iter().map(WarmJob::parse).collect()
    }
}
