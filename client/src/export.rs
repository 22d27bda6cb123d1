//! What a producer produces.

use bytes::Bytes;
use serde::Serialize;

use crate::command::name;
use crate::error::{Error, Result};

/// A payload and what only its producer knows of it. Bytes and texts are exports without further ado.
///
/// ```
/// use expcache_client::Export;
///
/// #[derive(serde::Serialize)]
/// struct Trip { from: &'static str, to: &'static str }
///
/// let trips = [Trip { from: "A", to: "B" }];
/// let export = Export::csv(&trips)?.tag("driver:9");
/// assert_eq!(export.payload(), "from,to\nA,B\n");
/// # Ok::<(), expcache_client::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Export {
    pub(crate) payload: Bytes,
    pub(crate) format: Option<Bytes>,
    pub(crate) records: Option<u64>,
    pub(crate) meta: Option<Bytes>,
    pub(crate) tags: Vec<Bytes>,
}

impl Export {
    /// Any bytes.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// A value as JSON.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let payload = serde_json::to_vec(value).map_err(Error::payload)?;
        Ok(Self::new(payload).format("json"))
    }

    /// Records as CSV with a header, which their fields' names make: so they are structs. They are counted.
    pub fn csv<T: Serialize>(records: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut count = 0;
        for record in records {
            writer.serialize(record).map_err(Error::payload)?;
            count += 1;
        }
        let payload = writer.into_inner().map_err(|error| Error::payload(error.into_error()))?;
        Ok(Self::new(payload).format("csv").records(count))
    }

    /// What the payload is; else the request says.
    #[must_use]
    pub fn format(mut self, format: impl AsRef<[u8]>) -> Self {
        self.format = Some(name(format));
        self
    }

    /// How many records it has.
    #[must_use]
    pub fn records(mut self, count: u64) -> Self {
        self.records = Some(count);
        self
    }

    /// A JSON object to keep beside it; else the request says.
    #[must_use]
    pub fn meta(mut self, json: impl AsRef<[u8]>) -> Self {
        self.meta = Some(name(json));
        self
    }

    /// A tag that is known only now, beside those of the request.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(name(tag));
        self
    }

    /// Tags that are known only now.
    #[must_use]
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(name));
        self
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

impl From<Bytes> for Export {
    fn from(payload: Bytes) -> Self {
        Self::new(payload)
    }
}

impl From<Vec<u8>> for Export {
    fn from(payload: Vec<u8>) -> Self {
        Self::new(payload)
    }
}

impl From<String> for Export {
    fn from(payload: String) -> Self {
        Self::new(payload)
    }
}

impl From<&'static str> for Export {
    fn from(payload: &'static str) -> Self {
        Self::new(payload)
    }
}
