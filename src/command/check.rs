//! What is said of a payload that comes in (how it is encoded, its MD5, that it is of its format), and whether it is so.

use expcache_core::codec::{Coder, Encoding};
use expcache_core::entry::{Etag, Hasher, MAX_PAYLOAD, etag_of};
use expcache_core::policy::Policy;
use expcache_core::validate::validate;
use expcache_core::{Error, Result};

use super::options::Options;
use super::payload::digest;

/// What is said of one payload.
pub struct Claims {
    encoding: Encoding,
    hash: Option<Etag>,
    /// The format that it must be of.
    format: Option<Box<[u8]>>,
    /// The most bytes that it may decode to.
    most: usize,
}

/// What was found.
#[derive(Clone, Copy)]
pub struct Checked {
    /// How the bytes that came are encoded.
    pub encoding: Encoding,
    /// Length of the payload.
    pub size: usize,
    /// Its MD5, where that was looked at.
    pub etag: Option<Etag>,
    /// How many records it has, where they were counted.
    pub records: Option<u64>,
}

impl Checked {
    /// Of bytes of which nothing is claimed.
    pub fn plain(payload: &[u8]) -> Self {
        Self { encoding: Encoding::Identity, size: payload.len(), etag: None, records: None }
    }
}

impl Claims {
    /// Of a payload that is to live under a policy.
    pub fn new(options: &Options<'_>, policy: &Policy) -> Self {
        let most = if policy.max_value == 0 { MAX_PAYLOAD as u64 } else { policy.max_value };
        Self {
            encoding: options.encoding.unwrap_or_default(),
            hash: options.hash,
            format: options.format.filter(|_| policy.validate).map(Into::into),
            most: usize::try_from(most).unwrap_or(usize::MAX).min(MAX_PAYLOAD),
        }
    }

    /// Is there nothing to check that takes time?
    pub fn are_plain(&self) -> bool {
        self.encoding == Encoding::Identity && self.hash.is_none() && self.format.is_none()
    }

    /// Checks them.
    pub fn check(&self, coder: &mut Coder, bytes: &[u8]) -> Result<Checked> {
        if self.encoding == Encoding::Identity { self.check_identity(bytes) } else { self.check_encoded(coder, bytes) }
    }

    fn check_identity(&self, payload: &[u8]) -> Result<Checked> {
        if payload.len() > self.most {
            return Err(Error::TooLarge);
        }
        let etag = self.hash.map(|_| etag_of(payload));
        self.compare(etag)?;
        Ok(Checked { encoding: self.encoding, size: payload.len(), etag, records: self.count_records(payload)? })
    }

    fn check_encoded(&self, coder: &mut Coder, bytes: &[u8]) -> Result<Checked> {
        if bytes.is_empty() {
            return Err(Error::BadEncoding);
        }
        // What is too large, or is not what it is said to be, is never held whole.
        let (etag, size) = digest(coder, self.encoding, bytes, self.most, |_piece| ())?;
        self.compare(Some(etag))?;
        let mut parts = Hasher::default();
        if coder.for_each_part(self.encoding, bytes, size, |part| parts.update(part))? && parts.finish() != etag {
            return Err(Error::BadEncoding);
        }
        let records = match self.format {
            Some(_) => self.count_records(&coder.decode(self.encoding, bytes, size)?)?,
            None => None,
        };
        Ok(Checked { encoding: self.encoding, size, etag: Some(etag), records })
    }

    fn compare(&self, etag: Option<Etag>) -> Result<()> {
        if self.hash.is_some() && self.hash != etag { Err(Error::HashMismatch) } else { Ok(()) }
    }

    fn count_records(&self, payload: &[u8]) -> Result<Option<u64>> {
        self.format.as_ref().map_or(Ok(None), |format| validate(format, payload))
    }
}
