//! `EXPCACHE.FETCH`, the full read.

use std::time::Duration;

use bytes::Bytes;
pub use expcache_core::grammar::fetch::Field;
use expcache_core::grammar::fetch::{Accepted, FetchOptions, Fields as Told};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Map};
use redis::Value;

use super::client::Client;
use crate::error::{Error, Result};
use crate::link::{Call, Carries};
use crate::reply::{self, Fields};
use crate::time::{bounded, ms};
use crate::words::{name, words_of};
use expcache_core::codec::Encoding;

/// What to read, and what for.
#[derive(Debug, Clone, Default)]
pub struct Fetch {
    key: Bytes,
    lease: Option<Duration>,
    token: Option<String>,
    wait: Option<Duration>,
    queue: Option<Duration>,
    accept: Accepted,
    if_none_match: Option<String>,
    range: Option<(u64, u64)>,
    max_age: Option<Duration>,
    verify: bool,
    only: Option<Vec<Field>>,
    note: Option<String>,
}

impl Fetch {
    /// The entry of a key.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self::of(name(key))
    }

    pub(crate) fn of(key: Bytes) -> Self {
        Self { key, ..Self::default() }
    }

    /// Asks for the right to produce the next value, for so long.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = Some(time);
        self
    }

    /// A token for the lease, of one's own making: 16 to 64 bytes that nobody can guess. Who asks again with the token that holds
    /// the lease is given it again, for as long as he asks: so a reply that was lost costs nothing. Without [`Fetch::lease`] it
    /// means nothing.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Waits for so long while another produces.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        self.wait = Some(bounded(time));
        self
    }

    /// Queues no longer than that for a connection to wait with; then there is [`crate::Error::NoLease`].
    pub(crate) fn queue(mut self, time: Duration) -> Self {
        self.queue = Some(time);
        self
    }

    /// Encodings in which the payload may come if it is stored so.
    #[must_use]
    pub fn accept(mut self, encodings: &[Encoding]) -> Self {
        self.accept = encodings.iter().copied().collect();
        self
    }

    /// Sends no payload if the entry has this etag.
    #[must_use]
    pub fn if_none_match(mut self, etag: impl Into<String>) -> Self {
        self.if_none_match = Some(etag.into());
        self
    }

    /// Sends this part of the payload only.
    #[must_use]
    pub fn range(mut self, offset: u64, length: u64) -> Self {
        self.range = Some((offset, length));
        self
    }

    /// Takes an older entry for stale.
    #[must_use]
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = Some(time);
        self
    }

    /// Checks the payload against its hash first.
    #[must_use]
    pub fn verify(mut self) -> Self {
        self.verify = true;
        self
    }

    /// Asks for these only: the server computes nothing else, and the rest of [`Fetched`] is as on a miss. What the reply could not be
    /// read without is told all the same: the status, the encoding of a value, a lease that was asked for.
    #[must_use]
    pub fn only(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.only = Some(fields.into_iter().collect());
        self
    }

    /// Who or what is behind it, for the server's record: at most 256 bytes.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }

    fn fields(&self) -> Option<Told> {
        let only = self.only.as_ref()?;
        let is_told = |field: &Field| match field {
            Field::Status => true,
            Field::Encoding => {
                only.contains(field) || self.accept != Accepted::default() && only.contains(&Field::Value)
            }
            Field::Lease => only.contains(field) || self.lease.is_some(),
            field => only.contains(field),
        };
        Told::new(Field::ALL.into_iter().filter(is_told))
    }

    fn options(&self) -> FetchOptions<'_> {
        FetchOptions {
            lease_ms: self.lease.map(ms),
            token: self.token.as_deref().filter(|_| self.lease.is_some()).map(str::as_bytes),
            wait_ms: self.wait.map(ms),
            accept: (self.accept != Accepted::default()).then_some(self.accept),
            if_none_match: self.if_none_match.as_deref().map(str::as_bytes),
            range: self.range,
            max_age_ms: self.max_age.map(ms),
            verify: self.verify.then_some(()),
            fields: self.fields(),
            note: self.note.as_deref().map(str::as_bytes),
        }
    }

    fn call(&self) -> Call {
        let mut call = Call { carries: Carries::Payload, ..Call::on_key("EXPCACHE.FETCH", &self.key) };
        self.options().write(&mut words_of(&mut call.cmd));
        Call { wait: self.wait.unwrap_or_default(), queue: self.queue, ..call }
    }
}

/// What there is under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A fresh entry.
    Hit,
    /// An entry that may still be used while the next is made.
    Stale,
    /// Nothing.
    Miss,
    /// The version that the caller has.
    NotModified,
}

pub(crate) type Fetching = Map<BoxFuture<'static, Result<Value>>, fn(Result<Value>) -> Result<Fetched>>;

/// The reply of [`Client::fetch`].
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What there is.
    pub status: Status,
    /// The payload or the part of it that was asked for, in [`Fetched::encoding`].
    pub value: Option<Bytes>,
    /// How the value is encoded.
    pub encoding: Encoding,
    /// The MD5 of the payload; none on a miss, as the following.
    pub etag: Option<String>,
    /// The entry's type.
    pub type_name: Option<Bytes>,
    /// What the payload is, if it was said.
    pub format: Option<Bytes>,
    /// How many records it has, if that is known.
    pub records: Option<u64>,
    /// The length of the whole payload.
    pub size: u64,
    /// The JSON kept beside it.
    pub meta: Option<Bytes>,
    /// How long ago it was stored.
    pub age: Duration,
    /// Milliseconds of freshness left: negative when stale, none when it never expires.
    pub ttl_ms: Option<i64>,
    /// You are to produce the next value, and to store it with this token.
    pub lease: Option<String>,
    /// How long another may take who has the lease.
    pub retry: Option<Duration>,
}

impl Fetched {
    fn parse(value: Value) -> Result<Self> {
        let mut fields = Fields::new(value)?;
        Ok(Self {
            status: status(&fields.text("status")?)?,
            value: fields.optional_bytes("value")?,
            encoding: encoding(fields.take("encoding"))?,
            etag: fields.optional_text("etag")?,
            type_name: fields.optional_bytes("type")?,
            format: fields.optional_bytes("format")?,
            records: fields.optional_count("records")?,
            size: fields.count("size")?,
            meta: fields.optional_bytes("meta")?,
            age: Duration::from_millis(fields.count("age")?),
            ttl_ms: fields.optional_integer("ttl")?,
            lease: fields.optional_text("lease")?,
            retry: fields.optional_count("retry")?.map(Duration::from_millis),
        })
    }
}

/// Null on a miss.
pub(super) fn encoding(value: Value) -> Result<Encoding> {
    let name = reply::optional(value, reply::bytes)?;
    name.map_or(Some(Encoding::Identity), |name| Encoding::parse(&name)).ok_or_else(|| Error::reply("encoding"))
}

fn status(name: &str) -> Result<Status> {
    match name {
        "hit" => Ok(Status::Hit),
        "stale" => Ok(Status::Stale),
        "miss" => Ok(Status::Miss),
        "not-modified" => Ok(Status::NotModified),
        _ => Err(Error::reply("status")),
    }
}

impl Client {
    /// Reads an entry with what is known of it. With [`Fetch::wait`] it takes a connection of its own for that time.
    pub async fn fetch(&self, fetch: &Fetch) -> Result<Fetched> {
        self.fetching(fetch).await
    }

    /// A read that goes on by itself, whoever waits for it.
    pub(crate) fn fetching(&self, fetch: &Fetch) -> Fetching {
        self.call(fetch.call()).map(|reply| Fetched::parse(reply?))
    }
}
