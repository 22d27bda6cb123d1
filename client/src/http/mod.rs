//! Answers handed on over HTTP: in one call ([`Cache::respond`](crate::Cache::respond), feature `http`), or header by header.

#[cfg(feature = "http")]
mod accept;
#[cfg(feature = "http")]
mod ask;
#[cfg(feature = "http")]
mod body;
mod etag;
#[cfg(feature = "http")]
mod respond;
#[cfg(feature = "http")]
mod serve;

use std::fmt::Write as _;

use self::etag::Listed;
#[cfg(feature = "http")]
pub use self::{ask::Ask, body::Body};

use crate::how::{How, Stored};
use crate::served::Served;

impl Served {
    /// The value of `ETag` ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3)).
    pub fn etag_header(&self) -> String {
        format!("\"{}\"", self.etag())
    }

    /// The value of `Age` ([RFC 9111](https://www.rfc-editor.org/rfc/rfc9111#section-5.1)), in seconds.
    pub fn age_header(&self) -> String {
        self.age().as_secs().to_string()
    }

    /// A member of `Cache-Status` ([RFC 9211](https://www.rfc-editor.org/rfc/rfc9211)), such as
    /// `expcache; hit; ttl=3599`.
    pub fn cache_status_header(&self) -> String {
        let mut status = String::from("expcache");
        status += match self.how() {
            How::Hit | How::Stale | How::Kept => "; hit",
            How::Produced | How::Alone => "; fwd=miss",
            How::Waited => "; fwd=miss; collapsed",
            How::Degraded => "; fwd=bypass",
        };
        if let (How::Produced, Stored::Yes) = (self.how(), self.stored()) {
            status += "; stored";
        }
        if let (How::Hit | How::Stale, Some(ttl_ms)) = (self.how(), self.ttl_ms()) {
            // RFC 9211: negative when stale.
            let _ = write!(status, "; ttl={}", ttl_ms.div_euclid(1000));
        }
        if let Some(detail) = self.detail() {
            let _ = write!(status, "; detail={detail}");
        }
        status
    }

    /// What is special about it, as a token: where it was kept, or why the cache could not help or does not have it.
    fn detail(&self) -> Option<&'static str> {
        match (self.how(), self.stored()) {
            _ if self.is_near() => Some("near"),
            (How::Kept, _) => Some("kept"),
            (_, Stored::No(why)) => Some(why.token()),
            _ => None,
        }
    }

    /// Whether `If-None-Match` names this version, so that `304 Not Modified` is the answer: weak comparison, lists and `*`
    /// included ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2)).
    pub fn matches(&self, if_none_match: &str) -> bool {
        match Listed::parse(if_none_match) {
            Listed::Nothing => false,
            Listed::Any => true,
            Listed::These(tags) => tags.iter().any(|tag| tag == self.etag()),
        }
    }
}

/// A part of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// What the value of `Range` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeHeader {
    /// The whole: there is no such header, or one that may be ignored (other units, several ranges, nonsense).
    Whole,
    /// One part: answer `206` with [`ByteRange::content_range`].
    Part(ByteRange),
    /// Beyond the end: answer `416` with `Content-Range: bytes */size`.
    Beyond,
}

impl RangeHeader {
    /// Reads the value of `Range` for a payload of `size` bytes
    /// ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-14.2)).
    ///
    /// ```
    /// use expcache_client::{ByteRange, RangeHeader};
    ///
    /// let read = |value| RangeHeader::parse(value, 1000);
    /// assert_eq!(read("bytes=0-99"), RangeHeader::Part(ByteRange { offset: 0, length: 100 }));
    /// assert_eq!(read("bytes=-10"), RangeHeader::Part(ByteRange { offset: 990, length: 10 }));
    /// assert_eq!(read("bytes=1000-"), RangeHeader::Beyond);
    /// assert_eq!(read("lines=1-2"), RangeHeader::Whole);
    /// ```
    pub fn parse(value: &str, size: u64) -> Self {
        let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
            return Self::Whole;
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Self::part(first, (last - first).saturating_add(1), size),
            (Some(first), None) if last.is_empty() => Self::part(first, u64::MAX, size),
            (None, Some(0)) if first.is_empty() => Self::Beyond,
            (None, Some(last)) if first.is_empty() => Self::part(size.saturating_sub(last), last, size),
            _ => Self::Whole,
        }
    }

    fn part(offset: u64, length: u64, size: u64) -> Self {
        match size.checked_sub(offset) {
            None | Some(0) => Self::Beyond,
            Some(left) => Self::Part(ByteRange { offset, length: length.min(left) }),
        }
    }
}

/// Digits only: `parse` would take a sign.
fn number(digits: &str) -> Option<u64> {
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

impl ByteRange {
    /// The value of `Content-Range`.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.offset, self.offset + self.length.saturating_sub(1))
    }

    /// This part of a payload.
    pub fn of(self, payload: &bytes::Bytes) -> bytes::Bytes {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(payload.len());
        payload.slice(place(self.offset)..place(self.offset.saturating_add(self.length)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::served::CachedEntry;
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::Duration;

    fn served(how: How, stored: Stored, ttl_ms: Option<i64>) -> Served {
        let entry = Arc::new(CachedEntry::new(Bytes::from_static(b"id,name\n1,Ada\n")));
        Served { entry, how, near: false, age: Duration::from_millis(61_999), ttl_ms, stored }
    }

    #[test]
    fn headers() {
        let hit = served(How::Hit, Stored::Before, Some(3_599_999));
        assert_eq!(hit.etag_header(), "\"6c1abef29d8c78fb8e696f94546a3918\"");
        assert_eq!(hit.age_header(), "61");
        for (served, expected) in [
            (hit, "expcache; hit; ttl=3599"),
            (served(How::Hit, Stored::Before, None), "expcache; hit"),
            (served(How::Stale, Stored::Before, Some(-1)), "expcache; hit; ttl=-1"),
            (served(How::Produced, Stored::Yes, None), "expcache; fwd=miss; stored"),
            (served(How::Produced, Stored::No(crate::Error::Fenced), None), "expcache; fwd=miss; detail=fenced"),
            (served(How::Waited, Stored::Before, Some(5)), "expcache; fwd=miss; collapsed"),
            (
                served(How::Degraded, Stored::No(crate::Error::Timeout), None),
                "expcache; fwd=bypass; detail=unavailable",
            ),
            (served(How::Degraded, Stored::No(crate::Error::NoModule), None), "expcache; fwd=bypass; detail=no-module"),
            (served(How::Alone, Stored::No(crate::Error::NoLease), None), "expcache; fwd=miss; detail=no-lease"),
            (served(How::Kept, Stored::No(crate::Error::Timeout), None), "expcache; hit; detail=kept"),
        ] {
            assert_eq!(served.cache_status_header(), expected);
        }
    }

    #[test]
    fn if_none_match() {
        let served = served(How::Hit, Stored::Before, None);
        let etag = served.etag_header();
        for (value, expected) in [
            (etag.clone(), true),
            (format!("W/{etag}"), true),
            (format!("\"other\", {etag}"), true),
            ("*".to_owned(), true),
            ("\"other\"".to_owned(), false),
            (served.etag().to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(served.matches(&value), expected, "{value}");
        }
    }

    #[test]
    fn ranges() {
        let part = |offset, length| RangeHeader::Part(ByteRange { offset, length });
        for (value, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=5-", part(5, 5)),
            ("bytes=5-100", part(5, 5)),
            ("bytes=-100", part(0, 10)),
            ("bytes=-0", RangeHeader::Beyond),
            ("bytes=10-10", RangeHeader::Beyond),
            ("bytes=7-5", RangeHeader::Whole),
            ("bytes=0-1,3-4", RangeHeader::Whole),
            ("bytes=+1-2", RangeHeader::Whole),
            ("bytes=", RangeHeader::Whole),
        ] {
            assert_eq!(RangeHeader::parse(value, 10), expected, "{value}");
        }
        assert_eq!(RangeHeader::parse("bytes=0-", 0), RangeHeader::Beyond);
        assert_eq!(ByteRange { offset: 2, length: 3 }.content_range(10), "bytes 2-4/10");
        assert_eq!(ByteRange { offset: 2, length: 3 }.of(&Bytes::from_static(b"0123456789")), "234");
    }
}
