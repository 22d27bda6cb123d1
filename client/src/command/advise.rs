//! `EXPCACHE.ADVISE`: each primary of a cluster gives advice on its own traffic.

use std::time::Duration;

use bytes::Bytes;
use expcache_core::grammar::advise::AdviseOptions;
use redis::Value;
use serde::Serialize;

use super::client::Client;
use super::shown;
use crate::error::{Error, Result};
use crate::link::{Call, Route};
use crate::reply::{self, Fields};
use crate::words::words_of;

/// What to change about a type, by its own traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advised {
    /// The primary's address.
    pub node: String,
    /// The type.
    #[serde(rename = "type", serialize_with = "shown::text")]
    pub type_name: Bytes,
    /// What to change: `ttl`, `grace`, `early`, `warm`, `maxbytes`, `tag` or `unread`.
    pub what: String,
    /// What it is now; of `tag` the tag.
    #[serde(serialize_with = "shown::optional_text")]
    pub now: Option<Bytes>,
    /// What `TYPE SET` takes, where there is such a field.
    #[serde(serialize_with = "shown::optional_text")]
    pub to: Option<Bytes>,
    /// What that gains.
    pub gain: f64,
    /// In what: `ms/h`, `points` or `bytes`.
    pub unit: String,
    /// How far the gain may be off.
    pub error: f64,
    /// The reads, or stores, that it is founded on.
    pub requests: u64,
    /// Why.
    pub why: String,
}

/// What a lifetime would come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The lifetime.
    #[serde(serialize_with = "shown::millis")]
    pub ttl: Duration,
    /// The hit rate, 0 to 1.
    pub hit_rate: f64,
    /// Productions in an hour.
    pub productions: f64,
    /// Bytes of payload that would be there.
    pub bytes: f64,
    /// The share of what is handed out that would be outdated, if that is known.
    pub stale: Option<f64>,
    /// How far the hit rate may be off.
    pub error: f64,
}

impl Client {
    /// What to change about types, or one of them: what saves most first.
    pub async fn advise(&self, type_name: Option<&[u8]>, count: usize) -> Result<Vec<Advised>> {
        let mut all = Vec::new();
        let call = advise(AdviseOptions::Advice { type_name, count: Some(count as u64) });
        for (node, reply) in self.by_node(call).await? {
            for one in reply::array(reply)? {
                all.push(Advised::parse(node.clone(), one)?);
            }
        }
        let rank = |one: &Advised| ["ms/h", "points", "bytes"].iter().position(|unit| *unit == one.unit);
        all.sort_by(|a, b| rank(a).cmp(&rank(b)).then(b.gain.total_cmp(&a.gain)));
        all.truncate(count);
        Ok(all)
    }

    /// What each of 24 lifetimes would come to, of a type on each primary, by its address. None where there were too few reads, or
    /// there is no such type.
    pub async fn curve(&self, type_name: impl AsRef<[u8]>) -> Result<Vec<(String, Vec<CurvePoint>)>> {
        let replies = self.by_node(advise(AdviseOptions::Curve(type_name.as_ref()))).await?;
        let read = |(node, reply)| {
            let points = reply::optional(reply, reply::array)?.unwrap_or_default();
            Ok((node, points.into_iter().map(CurvePoint::parse).collect::<Result<_>>()?))
        };
        replies.into_iter().map(read).collect()
    }
}

fn advise(options: AdviseOptions<'_>) -> Call {
    let mut call = Call::new("EXPCACHE.ADVISE", Route::Primaries);
    options.write(&mut words_of(&mut call.cmd));
    call
}

impl Advised {
    fn parse(node: String, value: Value) -> Result<Self> {
        let mut fields = Fields::new(value)?;
        Ok(Self {
            node,
            type_name: fields.bytes("type")?,
            what: fields.text("what")?,
            now: fields.optional_bytes("now")?,
            to: fields.optional_bytes("to")?,
            gain: fields.double("gain")?,
            unit: fields.text("unit")?,
            error: fields.double("error")?,
            requests: fields.count("requests")?,
            why: fields.text("why")?,
        })
    }
}

impl CurvePoint {
    fn parse(value: Value) -> Result<Self> {
        let [ttl, hit_rate, productions, bytes, stale, error] =
            <[Value; 6]>::try_from(reply::array(value)?).map_err(|_| Error::reply("no point of a curve"))?;
        Ok(Self {
            ttl: Duration::from_millis(reply::count(ttl)?),
            hit_rate: reply::double(hit_rate)?,
            productions: reply::double(productions)?,
            bytes: reply::double(bytes)?,
            stale: reply::optional(stale, reply::double)?,
            error: reply::double(error)?,
        })
    }
}
