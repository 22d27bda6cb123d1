//! The body of an answer: bytes that are here, or a payload that is fetched part by part as it is sent.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use http_body::{Frame, SizeHint};

use super::ask::AnswerBytes;
use crate::command::{Client, Fetch, Field};
use crate::error::{Error, Result};

/// The body of an answer of [`Cache::respond_in_parts`](crate::Cache::respond_in_parts).
///
/// An export that changes or goes while it is sent ends in an error, which web servers answer by breaking the connection: nobody takes
/// the beginning of one for the whole, or gets a mixture of two.
pub struct Body {
    first: Bytes,
    rest: Option<BoxStream<'static, Result<Bytes>>>,
    left: u64,
}

/// Which entry the parts are of.
pub(super) struct Source {
    pub(super) client: Client,
    pub(super) key: Bytes,
    pub(super) etag: String,
    pub(super) part_bytes: u64,
}

impl Body {
    pub(super) fn empty() -> Self {
        Self { first: Bytes::new(), rest: None, left: 0 }
    }

    pub(super) fn new(content: AnswerBytes, source: Source) -> Self {
        match content {
            AnswerBytes::Bytes(first) => Self { left: first.len() as u64, first, rest: None },
            AnswerBytes::Begun(first, rest) => {
                let left = first.len() as u64 + rest.end.saturating_sub(rest.start);
                Self { first, rest: Some(source.parts(rest).boxed()), left }
            }
        }
    }

    /// All of it, where it does not come in parts.
    pub(super) fn into_first(self) -> Bytes {
        self.first
    }
}

impl Source {
    fn parts(self, range: Range<u64>) -> impl futures_util::Stream<Item = Result<Bytes>> + Send {
        try_unfold((self, range), |(source, mut range)| async move {
            if range.start >= range.end {
                return Ok(None);
            }
            let part = source.part(&range).await?;
            range.start += part.len() as u64;
            Ok(Some((part, (source, range))))
        })
    }

    async fn part(&self, range: &Range<u64>) -> Result<Bytes> {
        let length = (range.end - range.start).min(self.part_bytes);
        let fetch = Fetch::new(&self.key).range(range.start, length).only([Field::Value, Field::Etag]);
        let fetched = self.client.fetch(&fetch).await?;
        match fetched.value {
            Some(part) if !part.is_empty() && fetched.etag.as_deref() == Some(&self.etag) => Ok(part),
            _ => Err(Error::Changed),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let part = if !self.first.is_empty() {
            Some(Ok(std::mem::take(&mut self.first)))
        } else if let Some(rest) = &mut self.rest {
            std::task::ready!(rest.poll_next_unpin(context))
        } else {
            None
        };
        match &part {
            Some(Ok(part)) => self.left = self.left.saturating_sub(part.len() as u64),
            _ => self.rest = None,
        }
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && (self.rest.is_none() || self.left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("left", &self.left).finish_non_exhaustive()
    }
}
