//! Exports read in parts, by `RANGE`: for what should not be held whole.

use bytes::Bytes;
use futures_util::Stream;

use crate::command::{Client, Fetch, Fetched, Field};
use crate::error::{Error, Result};
use crate::words::name;

/// An export that is read part by part. Each part is a read of its own, and counts as one.
///
/// The etag is compared at each part: an export that is replaced or goes meanwhile ends in [`Error::Changed`], never in a
/// mixture of two.
pub struct Parts {
    client: Client,
    key: Bytes,
    part_bytes: u64,
    etag: String,
    size: u64,
    format: Option<Bytes>,
    offset: u64,
    /// The first part came with the size.
    first: Option<Bytes>,
}

impl Client {
    /// Begins to read an entry, fresh or stale, in parts of so many bytes. `None`: there is none.
    ///
    /// ```no_run
    /// # async fn example(client: expcache_client::Client) -> expcache_client::Result<()> {
    /// if let Some(mut parts) = client.read_in_parts("reports:1", 256 << 10).await? {
    ///     while let Some(part) = parts.next().await? {
    ///         println!("{} of {} bytes", part.len(), parts.size());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_in_parts(&self, key: impl AsRef<[u8]>, part_bytes: u64) -> Result<Option<Parts>> {
        let key = name(key);
        let part_bytes = part_bytes.max(1);
        let needed = [Field::Value, Field::Etag, Field::Size, Field::Format];
        let fetched = self.fetch(&Fetch::new(&key).range(0, part_bytes).only(needed)).await?;
        Ok(Parts::of(self, key, part_bytes, fetched))
    }
}

impl Parts {
    /// Of what was fetched: the first part, if there is anything.
    pub(crate) fn of(client: &Client, key: Bytes, part_bytes: u64, fetched: Fetched) -> Option<Self> {
        let Fetched { value: Some(first), etag: Some(etag), size, format, .. } = fetched else { return None };
        Some(Self { client: client.clone(), key, part_bytes, etag, size, format, offset: 0, first: Some(first) })
    }

    /// The MD5 of the whole.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The length of the whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it is, such as `csv`, if it was said.
    pub fn format(&self) -> Option<&[u8]> {
        self.format.as_deref()
    }

    /// Goes on from another place.
    pub fn seek(&mut self, offset: u64) {
        (self.offset, self.first) = (offset, None);
    }

    /// The next part; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.offset >= self.size {
            return Ok(None);
        }
        let part = match self.first.take() {
            Some(first) => first,
            None => self.read().await?,
        };
        self.offset += part.len() as u64;
        if part.is_empty() { Err(Error::Changed) } else { Ok(Some(part)) }
    }

    /// The parts as a stream, as web frameworks take them.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send {
        futures_util::stream::try_unfold(
            self,
            |mut parts| async move { Ok(parts.next().await?.map(|part| (part, parts))) },
        )
    }

    async fn read(&self) -> Result<Bytes> {
        let fetch = Fetch::new(&self.key).range(self.offset, self.part_bytes).only([Field::Value, Field::Etag]);
        let fetched = self.client.fetch(&fetch).await?;
        match fetched.value {
            Some(part) if fetched.etag.as_deref() == Some(&self.etag) => Ok(part),
            _ => Err(Error::Changed),
        }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({} of {} bytes)", self.offset, self.size)
    }
}
