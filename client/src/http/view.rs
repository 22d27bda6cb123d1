//! A look at an entry that does not fetch all of it: nothing if it is the version that one has, a part, or its bytes as the
//! server keeps them.
//!
//! A request with a view goes the way of any other (`produce.rs`): it asks for the lease too, and may be handed it. Only what is
//! shared with other callers (waiting, producing) is asked without.

use std::sync::Arc;

use bytes::Bytes;
use expcache_core::codec::Encoding;

use crate::Cache;
use crate::command::{Fetch, Fetched, Status};
use crate::error::Result;
use crate::memory::Ticket;
use crate::request::{Plan, Request};
use crate::served::{Entry, How, Served, Stored};
use crate::wire;

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

impl Request {
    /// The same, with another view.
    pub(super) fn viewed(&self, view: View) -> Self {
        Self(Arc::new(Plan { view: Some(view), ..Plan::clone(&self.0) }))
    }
}

impl Cache {
    /// What was fetched with a view; `None` for a miss. The payload of the answer is empty where something else came.
    pub(crate) async fn serve_view(
        &self,
        plan: &Plan,
        view: &View,
        mut fetched: Fetched,
        near: Option<Ticket>,
    ) -> Result<Option<Served>> {
        let (age, ttl_ms, size) = (fetched.age, fetched.ttl_ms, fetched.size);
        let (status, encoding) = (fetched.status, fetched.encoding);
        let how = if status == Status::Stale { How::Stale } else { How::Hit };
        let piece = match (fetched.value.take(), view.range) {
            _ if status == Status::NotModified => Some(Piece::Unchanged),
            (None, _) => return Ok(None),
            (Some(bytes), Some((offset, _))) => Some(Piece::Part { offset, bytes, size }),
            (Some(bytes), None) => Some(Piece::Packed(encoding, bytes)),
        };
        let mut entry = Entry { piece, ..Entry::fetched(Bytes::new(), fetched) };
        let whole = self.is_whole(&mut entry, size).await?;
        let entry = Arc::new(entry);
        if let (true, How::Hit, Some(ticket)) = (whole, how, near) {
            self.keep_near(plan, &entry, age, ttl_ms, ticket);
        }
        Ok(Some(Served { entry, how, near: false, age, ttl_ms, stored: Stored::Before }))
    }

    /// Whether the entry has its payload. Of what may be kept near it is decoded, beside the stored bytes.
    async fn is_whole(&self, entry: &mut Entry, size: u64) -> Result<bool> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        match entry.piece.take() {
            Some(Piece::Packed(Encoding::Identity, bytes)) => entry.payload = bytes,
            Some(Piece::Packed(encoding, bytes)) if size <= self.config().near_value_bytes => {
                entry.payload = wire::unpack(encoding, bytes.clone(), size).await?;
                entry.piece = Some(Piece::Packed(encoding, bytes));
            }
            other => {
                entry.piece = other;
                return Ok(false);
            }
        }
        Ok(true)
    }
}
