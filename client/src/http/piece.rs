//! What came of an entry where not all of it was asked for.

use bytes::Bytes;
use expcache_core::codec::Encoding;

/// What came of an entry.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// Nothing: it is the version that was named.
    Unchanged,
    /// The stored bytes, in this coding.
    Packed(Encoding, Bytes),
    /// A part of the payload.
    Part {
        /// Where it begins.
        offset: u64,
        /// The part.
        bytes: Bytes,
        /// The length of the whole.
        size: u64,
    },
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Unchanged => 0,
            Self::Packed(_, bytes) | Self::Part { bytes, .. } => bytes.len(),
        }
    }
}
