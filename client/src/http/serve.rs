//! What a view brings, as an answer.

use std::sync::Arc;

use bytes::Bytes;
use expcache_core::codec::Encoding;

use crate::cache::{Cache, entry_of};
use crate::command::{Fetched, Status};
use crate::compression;
use crate::error::Result;
use crate::how::{How, Stored};
use crate::memory::Ticket;
use crate::request::{Request, RequestPlan};
use crate::served::{CachedEntry, Served};
use crate::view::{Piece, View};

impl Request {
    /// The same, with another view.
    pub(super) fn viewed(&self, view: View) -> Self {
        Self(Arc::new(RequestPlan { view: Some(view), ..RequestPlan::clone(&self.0) }))
    }
}

impl Cache {
    /// What was fetched with a view; `None` for a miss. The payload of the answer is empty where something else came.
    pub(crate) async fn serve_view(
        &self,
        plan: &RequestPlan,
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
        let mut entry = CachedEntry { piece, ..entry_of(Bytes::new(), fetched) };
        let whole = self.is_whole(&mut entry, size).await?;
        let entry = Arc::new(entry);
        if let (true, How::Hit, Some(ticket)) = (whole, how, near) {
            self.keep_near(plan, &entry, age, ttl_ms, ticket);
        }
        Ok(Some(Served { entry, how, near: false, age, ttl_ms, stored: Stored::Before }))
    }

    /// Whether the entry has its payload. Of what may be kept near it is decoded, beside the stored bytes.
    async fn is_whole(&self, entry: &mut CachedEntry, size: u64) -> Result<bool> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        match entry.piece.take() {
            Some(Piece::Packed(Encoding::Identity, bytes)) => entry.payload = bytes,
            Some(Piece::Packed(encoding, bytes)) if size <= self.config().near_value_bytes => {
                entry.payload = compression::unpack(encoding, bytes.clone(), size).await?;
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
