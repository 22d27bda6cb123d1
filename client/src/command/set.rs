//! `EXPCACHE.SET` and `MSET`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use expcache_core::grammar::set::{self, ExpiryOption, SetOptions};

use super::client::Client;
use crate::error::Result;
use crate::link::{Call, Carries, Repeat, Route};
use crate::reply;
use crate::time::ms;
use crate::words::{name, words_of};
use expcache_core::codec::Encoding;

/// How long an entry is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// For so long.
    After(Duration),
    /// Until then.
    At(SystemTime),
    /// As long as the present entry would have been.
    Keep,
    /// For ever, unless its type says otherwise.
    Never,
}

/// When to store at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Only if there is no entry.
    Absent,
    /// Only if there is one.
    Present,
    /// Only if there is one with this etag.
    Etag(String),
}

/// An entry to store, and how.
///
/// ```
/// use expcache_client::Set;
/// use std::time::Duration;
///
/// let set = Set::new("trips:1", "A to B").type_name("trips").grace(Duration::from_secs(300)).tag("company:42");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Set {
    entries: Vec<(Bytes, Bytes)>,
    type_name: Option<Bytes>,
    expiry: Option<Expiry>,
    grace: Option<Duration>,
    tags: Vec<Bytes>,
    format: Option<Bytes>,
    records: Option<u64>,
    cost: Option<Duration>,
    meta: Option<Bytes>,
    hash: Option<String>,
    encoding: Option<Encoding>,
    condition: Option<Condition>,
    lease: Option<String>,
    parts: bool,
    note: Option<String>,
}

impl Set {
    /// A key and its payload.
    pub fn new(key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        Self { entries: vec![(name(key), value.into())], ..Self::default() }
    }

    /// A further key and payload with the same options, for [`Client::mset`].
    #[must_use]
    pub fn and(mut self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.entries.push((name(key), value.into()));
        self
    }

    /// Its type; else it is read off the key.
    #[must_use]
    pub fn type_name(mut self, type_name: impl AsRef<[u8]>) -> Self {
        self.type_name = Some(name(type_name));
        self
    }

    /// For how long it is fresh; else the type says.
    #[must_use]
    pub fn ttl(self, time: Duration) -> Self {
        self.expiry(Expiry::After(time))
    }

    /// Until when it is fresh.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// For how long it is stale after that; else the type says.
    #[must_use]
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = Some(time);
        self
    }

    /// A tag more.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(name(tag));
        self
    }

    /// Tags more.
    #[must_use]
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(name));
        self
    }

    /// What the payload is, such as `csv`.
    #[must_use]
    pub fn format(mut self, format: impl AsRef<[u8]>) -> Self {
        self.format = Some(name(format));
        self
    }

    /// How many records the payload has.
    #[must_use]
    pub fn records(mut self, count: u64) -> Self {
        self.records = Some(count);
        self
    }

    /// What producing it took; under a lease the server measures it.
    #[must_use]
    pub fn cost(mut self, time: Duration) -> Self {
        self.cost = Some(time);
        self
    }

    /// A JSON object to keep beside it, handed back byte for byte.
    #[must_use]
    pub fn meta(mut self, json: impl AsRef<[u8]>) -> Self {
        self.meta = Some(name(json));
        self
    }

    /// The MD5 that the payload must have.
    #[must_use]
    pub fn hash(mut self, md5_hex: impl Into<String>) -> Self {
        self.hash = Some(md5_hex.into());
        self
    }

    /// How the payload is encoded as it is given here.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// When to store at all.
    #[must_use]
    pub fn only_if(mut self, condition: Condition) -> Self {
        self.condition = Some(condition);
        self
    }

    /// The lease under which it was produced.
    #[must_use]
    pub fn lease(mut self, token: impl Into<String>) -> Self {
        self.lease = Some(token.into());
        self
    }

    /// Under the lease, the payload is what [`Client::part`] has brought, and then the value.
    #[must_use]
    pub fn parts(mut self) -> Self {
        self.parts = true;
        self
    }

    /// Who or what is behind it, for the server's record: at most 256 bytes.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }

    fn options(&self) -> SetOptions<'_> {
        SetOptions {
            type_name: self.type_name.as_deref(),
            expiry: self.expiry.map(expiry),
            grace_ms: self.grace.map(ms),
            tags: (!self.tags.is_empty()).then(|| self.tags.iter().map(AsRef::as_ref).collect()),
            format: self.format.as_deref(),
            records: self.records,
            cost_ms: self.cost.map(ms),
            meta: self.meta.as_deref(),
            hash: self.hash.as_deref().map(str::as_bytes),
            encoding: self.encoding.filter(|encoding| *encoding != Encoding::Identity),
            condition: self.condition.as_ref().map(condition),
            lease: self.lease.as_deref().map(str::as_bytes),
            parts: self.parts.then_some(()),
            note: self.note.as_deref().map(str::as_bytes),
        }
    }

    /// Only under a lease: the second sending is `LEASELOST`, and the value is either stored or not wanted. Without, it might
    /// undo what another stored meanwhile; and a condition looks at what the first sending may have left.
    fn repeat(&self) -> Repeat {
        match (&self.lease, &self.condition) {
            (Some(_), None) => Repeat::Harmless,
            _ => Repeat::Never,
        }
    }

    fn finish(&self, mut call: Call) -> Call {
        self.options().write(&mut words_of(&mut call.cmd));
        Call { repeat: self.repeat(), carries: Carries::Payload, ..call }
    }
}

fn expiry(expiry: Expiry) -> ExpiryOption {
    match expiry {
        Expiry::After(time) => ExpiryOption::Millis(signed(ms(time))),
        Expiry::At(moment) => ExpiryOption::AtMilli(signed(unix_ms(moment))),
        Expiry::Keep => ExpiryOption::Keep,
        Expiry::Never => ExpiryOption::Never,
    }
}

/// The server refuses what is that long, too.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The millisecond that it is in: nothing is to be fresh for longer than was said.
fn unix_ms(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn condition(condition: &Condition) -> set::Condition<'_> {
    match condition {
        Condition::Absent => set::Condition::Nx,
        Condition::Present => set::Condition::Xx,
        Condition::Etag(etag) => set::Condition::IfMatch(etag.as_bytes()),
    }
}

impl Client {
    /// Stores an entry. `false`: its condition did not hold.
    pub async fn set(&self, set: &Set) -> Result<bool> {
        let Some((key, value)) = set.entries.first() else { return Ok(true) };
        let mut call = Call::on_key("EXPCACHE.SET", key);
        call.cmd.arg(value.as_ref());
        reply::stored(self.call(set.finish(call)).await?)
    }

    /// Stores several entries, all or none; in a cluster their keys must be in one slot. `false`: the condition did not hold
    /// for one.
    pub async fn mset(&self, set: &Set) -> Result<bool> {
        if set.entries.is_empty() {
            return Ok(true);
        }
        let mut call = Call::new("EXPCACHE.MSET", Route::Key(2));
        call.cmd.arg(set.entries.len());
        for (key, value) in &set.entries {
            call.cmd.arg(key.as_ref()).arg(value.as_ref());
        }
        reply::stored(self.call(set.finish(call)).await?)
    }
}
