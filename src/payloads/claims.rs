//! What is said of a payload that comes in (how it is encoded, its MD5, that it is of its format), and whether it is so.

use expcache_core::codec::{Coder, Encoding, said_size};
use expcache_core::entry::{Body, Etag, Hasher, MAX_PAYLOAD, etag_of};
use expcache_core::grammar::set::SetOptions;
use expcache_core::policy::Policy;
use expcache_core::validate::validate;
use expcache_core::{Error, Result};

use super::outgoing::{OFFLOAD_WRITE_SIZE, digest, may_decode_to};
use super::settle::worth_keeping;
use crate::server::at_once::CHECKING;
use crate::server::workers;

/// What is said of one payload.
pub struct Claims {
    encoding: Encoding,
    hash: Option<Etag>,
    /// The format that it must be of.
    format: Option<Box<[u8]>>,
    /// The most bytes that it may have.
    most: usize,
    /// The most bytes that it may decode to.
    most_decoded: usize,
    /// How it is to be encoded before it is stored, and in how many bytes at the most.
    wanted: Encoding,
    worth_keeping: usize,
}

/// What was found.
#[derive(Clone)]
pub struct Checked {
    /// How the bytes that came are encoded.
    pub encoding: Encoding,
    /// Length of the payload.
    pub size: usize,
    /// Its MD5, where that was looked at.
    pub etag: Option<Etag>,
    /// How many records it has, where they were counted.
    pub records: Option<u64>,
    /// How it was to be encoded, and what came of it, if that was tried.
    pub tried: Option<(Encoding, Option<Body>)>,
    /// The bytes, if they are not those that the command brought: they were put together, in a block of their own.
    pub made: Option<Body>,
}

impl Checked {
    /// Of bytes of which nothing is claimed.
    pub fn plain(payload: &[u8]) -> Self {
        Self { encoding: Encoding::Identity, size: payload.len(), etag: None, records: None, tried: None, made: None }
    }
}

impl Claims {
    /// Of a payload that comes in so many bytes and is to live under a policy.
    pub fn new(options: &SetOptions<'_>, policy: &Policy, bytes: usize) -> Self {
        let encoding = options.encoding.unwrap_or_default();
        let is_small = encoding == Encoding::Identity && (bytes as u64) < OFFLOAD_WRITE_SIZE.get();
        let most = if policy.max_value == 0 { MAX_PAYLOAD as u64 } else { policy.max_value };
        Self {
            encoding,
            hash: options.hash(),
            format: options.format.filter(|_| policy.validate).map(Into::into),
            most: usize::try_from(most).unwrap_or(usize::MAX).min(MAX_PAYLOAD),
            most_decoded: may_decode_to(bytes),
            wanted: if is_small { policy.encoding(bytes as u64, options.format) } else { Encoding::Identity },
            worth_keeping: worth_keeping(bytes),
        }
    }

    /// As of what was decided elsewhere, where other bounds may hold.
    pub fn of_what_was_decided(self) -> Self {
        Self { most_decoded: usize::MAX, ..self }
    }

    /// Is it to be encoded before it is stored?
    pub fn are_to_encode(&self) -> bool {
        self.wanted != Encoding::Identity
    }

    /// What it can decode to before it is refused.
    pub fn bound(&self) -> usize {
        self.most.min(self.most_decoded)
    }

    /// What it says that it decodes to, if it says so.
    pub fn said_size(&self, bytes: &[u8]) -> Option<usize> {
        said_size(self.encoding, bytes)
    }

    /// Is looking at it done with when so many bytes were? Takes from them what it decodes to.
    pub fn are_within(&self, coder: &mut Coder, bytes: &[u8], left: &mut usize) -> bool {
        let most = self.bound().min(*left);
        let size = match self.encoding {
            Encoding::Identity => bytes.len(),
            encoding => match coder.for_each_chunk(encoding, bytes, most, |_piece| ()) {
                Ok(size) => size,
                // What is refused before is done with.
                Err(Error::TooLarge) if self.bound() > *left => return false,
                Err(_) => 0,
            },
        };
        let is_within = size <= *left;
        *left = left.saturating_sub(size);
        is_within
    }

    /// Is it as it came, and nobody has to look into it?
    pub fn may_be_encoded_before(&self) -> bool {
        self.encoding == Encoding::Identity && self.format.is_none()
    }

    /// Is there nothing to check that takes time?
    pub fn are_plain(&self) -> bool {
        self.encoding == Encoding::Identity && self.hash.is_none() && self.format.is_none()
    }

    /// What a byte of the payload counts where it is checked on the main thread.
    pub fn weight(&self) -> usize {
        match self.encoding {
            // It is not decoded, but looked at.
            Encoding::Identity if self.hash.is_none() => 1,
            _ => CHECKING,
        }
    }

    /// Checks them on the main thread: takes what that counts from what is left, and refuses more.
    pub fn check_here(&self, coder: &mut Coder, bytes: &[u8], left: &mut usize) -> Result<Checked> {
        let weight = self.weight();
        let most = *left / weight;
        if self.encoding == Encoding::Identity && bytes.len() <= most {
            // What is decoded is counted as it comes.
            workers::charge(bytes.len() * weight);
        }
        let checked = self.check(coder, bytes, most)?;
        *left = left.saturating_sub(checked.size * weight);
        Ok(checked)
    }

    /// Checks them, if that is no more than so many bytes.
    fn check(&self, coder: &mut Coder, bytes: &[u8], most: usize) -> Result<Checked> {
        match self.encoding {
            Encoding::Identity => self.check_identity(bytes, most),
            _ => self.check_encoded(coder, bytes, most),
        }
    }

    /// Checks them, if that is no more than so many bytes, and encodes what is to be.
    pub fn check_and_encode(&self, coder: &mut Coder, bytes: &[u8], most: usize) -> Result<Checked> {
        let mut checked = self.check(coder, bytes, most)?;
        if self.are_to_encode() {
            let encoded = coder.encode(self.wanted, bytes, self.worth_keeping);
            checked.etag = checked.etag.or_else(|| encoded.as_ref().map(|_| etag_of(bytes)));
            checked.tried = Some((self.wanted, encoded.map(|encoded| Body::new(encoded.into_boxed_slice()))));
        }
        Ok(checked)
    }

    /// Checks them of what was encoded and hashed as it came.
    pub fn check_known(&self, encoding: Encoding, size: usize, etag: Etag) -> Result<Checked> {
        if size > self.most {
            return Err(Error::TooLarge);
        }
        self.compare(Some(etag))?;
        Ok(Checked { encoding, size, etag: Some(etag), records: None, tried: None, made: None })
    }

    fn check_identity(&self, payload: &[u8], most: usize) -> Result<Checked> {
        if payload.len() > self.most {
            return Err(Error::TooLarge);
        }
        if payload.len() > most {
            return Err(Error::TooMuchAtOnce);
        }
        let etag = self.hash.map(|_| etag_of(payload));
        self.compare(etag)?;
        Ok(Checked {
            encoding: self.encoding,
            size: payload.len(),
            etag,
            records: self.count_records(payload)?,
            tried: None,
            made: None,
        })
    }

    fn check_encoded(&self, coder: &mut Coder, bytes: &[u8], most: usize) -> Result<Checked> {
        if bytes.is_empty() {
            return Err(Error::BadEncoding);
        }
        // What is too large, or is not what it is said to be, is never held whole.
        let found = digest(coder, self.encoding, bytes, self.bound().min(most), |_piece| ());
        let (etag, size) = found.map_err(|refused| match refused {
            Error::TooLarge if most < self.bound() => Error::TooMuchAtOnce,
            Error::TooLarge if self.most_decoded < self.most => Error::Expands,
            refused => refused,
        })?;
        self.compare(Some(etag))?;
        let mut parts = Hasher::default();
        if coder.for_each_part(self.encoding, bytes, size, |part| parts.update(part))? && parts.finish() != etag {
            return Err(Error::BadEncoding);
        }
        let records = match self.format {
            Some(_) => self.count_records(&coder.decode(self.encoding, bytes, size)?)?,
            None => None,
        };
        Ok(Checked { encoding: self.encoding, size, etag: Some(etag), records, tried: None, made: None })
    }

    fn compare(&self, etag: Option<Etag>) -> Result<()> {
        if self.hash.is_some() && self.hash != etag { Err(Error::HashMismatch) } else { Ok(()) }
    }

    fn count_records(&self, payload: &[u8]) -> Result<Option<u64>> {
        self.format.as_ref().map_or(Ok(None), |format| validate(format, payload))
    }
}
