//! How payloads travel: compressed, where that saves something, or as they are.
//!
//! What the server keeps compressed it may send so, which spares it the decoding and the network the bytes; it is decoded here.
//! Small payloads are coded at once, large ones on a thread for blocking work, so that a runtime's threads are not held up.

use std::cell::RefCell;

use bytes::Bytes;
use expcache_core::codec::{Coder, Encoding};

use crate::error::{Error, Result};

/// Up to here coding takes no longer than waking another thread, about.
const AT_ONCE_BYTES: usize = 64 << 10;

/// Which payloads are compressed before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compression {
    over: Option<(usize, Encoding)>,
}

impl Compression {
    /// None.
    pub const fn none() -> Self {
        Self { over: None }
    }

    /// Those of at least so many bytes, if that makes them smaller by a tenth. What the server refuses to decode, as it would grow too
    /// much (`expcache.max-ratio`, `expcache.max-decoded`), is sent again as it is.
    pub const fn from_bytes(bytes: usize, encoding: Encoding) -> Self {
        Self { over: Some((bytes, encoding)) }
    }
}

/// A payload as it is sent.
pub(crate) async fn pack(compression: Compression, payload: Bytes) -> (Encoding, Bytes) {
    let wanted = compression.over.filter(|(from, encoding)| payload.len() >= *from && *encoding != Encoding::Identity);
    let Some((_, encoding)) = wanted else { return (Encoding::Identity, payload) };
    let raw = payload.clone();
    let most = raw.len() - raw.len() / 10;
    let packed = off_the_runtime(raw.len(), move || coding(|coder| coder.encode(encoding, &raw, most))).await;
    match packed {
        Ok(Some(packed)) => (encoding, packed.into()),
        _ => (Encoding::Identity, payload),
    }
}

/// A payload encoded for one who takes nothing else; none if it cannot be made smaller.
#[cfg(feature = "http")]
pub(crate) async fn encoded(encoding: Encoding, payload: Bytes) -> Option<Bytes> {
    let size = payload.len();
    let encode = move || coding(|coder| coder.encode(encoding, &payload, usize::MAX));
    off_the_runtime(size, encode).await.ok().flatten().map(Bytes::from)
}

/// The payload, of `size` bytes, of what came.
pub(crate) async fn unpack(encoding: Encoding, bytes: Bytes, size: usize) -> Result<Bytes> {
    if encoding == Encoding::Identity {
        return Ok(bytes);
    }
    let decode = move || coding(|coder| coder.decode(encoding, &bytes, size));
    match off_the_runtime(size, decode).await? {
        Ok(payload) => Ok(payload.into()),
        Err(_) => Err(Error::BadEncoding),
    }
}

pub(crate) async fn off_the_runtime<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if bytes <= AT_ONCE_BYTES {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(Error::payload)
}

/// A coder is costly to make; each thread keeps one.
fn coding<T>(work: impl FnOnce(&mut Coder) -> T) -> T {
    thread_local!(static CODER: RefCell<Coder> = RefCell::new(Coder::new()));
    CODER.with_borrow_mut(work)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn there_and_back() {
        let payloads = [b"id,km\n".repeat(100), b"id,km\n".repeat(100_000), (0..=255).collect(), Vec::new()];
        for encoding in Encoding::ALL {
            for payload in payloads.clone().map(Bytes::from) {
                let (used, packed) = pack(Compression::from_bytes(0, encoding), payload.clone()).await;
                assert!(packed.len() <= payload.len());
                assert_eq!(unpack(used, packed, payload.len()).await.unwrap(), payload);
            }
        }
    }

    #[tokio::test]
    async fn only_what_is_large_and_gets_smaller() {
        let text = Bytes::from(b"id,km\n".repeat(100));
        let compression = Compression::from_bytes(text.len(), Encoding::Zstd);
        assert_eq!(pack(compression, text.clone()).await.0, Encoding::Zstd);
        assert_eq!(pack(compression, text.slice(1..)).await.0, Encoding::Identity);
        assert_eq!(pack(Compression::none(), text).await.0, Encoding::Identity);
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(10_000).collect();
        assert_eq!(pack(compression, noise.into()).await.0, Encoding::Identity);
    }

    #[tokio::test]
    async fn what_is_damaged_is_refused() {
        let damaged = Bytes::from_static(b"\x1f\x8b no gzip");
        assert!(matches!(unpack(Encoding::Gzip, damaged, 10).await, Err(Error::BadEncoding)));
    }
}
