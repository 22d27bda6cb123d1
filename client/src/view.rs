//! A look at an entry that does not fetch all of it: nothing if it is the version that one has, a part, or its bytes as the
//! server keeps them.
//!
//! A request with a view goes the way of any other (`produce.rs`): it asks for the lease too, and may be handed it. Only what is
//! shared with other callers (waiting, producing) is asked without.

use bytes::Bytes;
use expcache_core::codec::Encoding;

use crate::command::Fetch;

/// What of an entry is to come.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The codings in which the payload may come, if it is kept so.
    pub(crate) accept: Vec<Encoding>,
    /// Not, if its MD5 is that.
    pub(crate) unless: Option<String>,
    /// That part of the payload, uncoded: where it begins, and its length.
    pub(crate) range: Option<(u64, u64)>,
}

impl View {
    /// What is known of an entry, and no payload.
    pub(crate) fn nothing() -> Self {
        Self { range: Some((0, 0)), ..Self::default() }
    }

    pub(crate) fn apply(&self, fetch: Fetch) -> Fetch {
        let fetch = fetch.accept(&self.accept);
        let fetch = self.unless.iter().fold(fetch, |fetch, md5| fetch.if_none_match(md5));
        self.range.iter().fold(fetch, |fetch, (offset, length)| fetch.range(*offset, *length))
    }
}

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
