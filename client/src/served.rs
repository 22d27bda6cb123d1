//! What a request is answered with.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::how::{How, Stored};

/// A payload with what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct CachedEntry {
    pub(crate) payload: Bytes,
    pub(crate) etag: OnceLock<String>,
    pub(crate) type_name: Bytes,
    pub(crate) format: Option<Bytes>,
    pub(crate) records: Option<u64>,
    pub(crate) meta: Option<Bytes>,
    /// What came of it over the wire, where a view asked for that.
    #[cfg(feature = "http")]
    pub(crate) piece: Option<crate::view::Piece>,
}

impl CachedEntry {
    pub(crate) fn new(payload: Bytes) -> Self {
        Self {
            payload,
            etag: OnceLock::new(),
            type_name: Bytes::new(),
            format: None,
            records: None,
            meta: None,
            #[cfg(feature = "http")]
            piece: None,
        }
    }

    /// Of what was produced here it is computed when it is first asked for.
    pub(crate) fn etag(&self) -> &str {
        self.etag.get_or_init(|| {
            let hex = expcache_core::key::md5_hex(&self.payload);
            hex.iter().map(|digit| char::from(*digit)).collect()
        })
    }
}

/// The answer to a request. Cheap to clone.
#[derive(Clone)]
pub struct Served {
    pub(crate) entry: Arc<CachedEntry>,
    pub(crate) how: How,
    pub(crate) near: bool,
    pub(crate) age: Duration,
    pub(crate) ttl_ms: Option<i64>,
    pub(crate) stored: Stored,
}

impl Served {
    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.entry.payload
    }

    /// The payload alone.
    pub fn into_payload(self) -> Bytes {
        self.entry.payload.clone()
    }

    /// How it came about.
    pub fn how(&self) -> How {
        self.how
    }

    /// Whether it was kept in this process.
    pub fn is_near(&self) -> bool {
        self.near
    }

    /// How long ago it was stored or produced.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Milliseconds of freshness left when it was read: negative when stale; none when it never expires or nothing is known.
    pub fn ttl_ms(&self) -> Option<i64> {
        self.ttl_ms
    }

    /// The MD5 of the payload, in lower-case hexadecimal. Of a value that was produced here it is computed when it is first
    /// asked for.
    pub fn etag(&self) -> &str {
        self.entry.etag()
    }

    /// The entry's type.
    pub fn type_name(&self) -> &[u8] {
        &self.entry.type_name
    }

    /// What the payload is, such as `csv`, if it was said.
    pub fn format(&self) -> Option<&[u8]> {
        self.entry.format.as_deref()
    }

    /// How many records it has, if that is known.
    pub fn records(&self) -> Option<u64> {
        self.entry.records
    }

    /// The JSON kept beside it.
    pub fn meta(&self) -> Option<&[u8]> {
        self.entry.meta.as_deref()
    }

    /// What became of it after it was produced.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The payload read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.payload()).map_err(Error::payload)
    }

    /// The payload read as CSV with a header, record by record.
    pub fn csv<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let records = csv::Reader::from_reader(self.payload().as_ref()).into_deserialize();
        records.collect::<std::result::Result<_, _>>().map_err(Error::payload)
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("bytes", &self.entry.payload.len())
            .field("how", &self.how)
            .field("near", &self.near)
            .field("age", &self.age)
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}
