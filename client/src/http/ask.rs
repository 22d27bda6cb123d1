//! What a request of HTTP asks for, and whether what is known of an entry answers it.

use bytes::Bytes;
use expcache_core::codec::Encoding;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{Method, Request, request};

use super::accept::Accepted;
use super::etag::{self, Listed};
use super::{ByteRange, RangeHeader};
use crate::command::Meta;
use crate::compression;
use crate::served::Served;
use crate::view::{Piece, View};

/// As far as the server counts.
const TO_THE_END: u64 = i64::MAX.cast_unsigned();
/// Up to here an MD5 takes no longer than waking another thread, about.
const AT_ONCE_BYTES: usize = 64 << 10;

/// What a request asks for, as its headers say, and how the answer is to look: see [`Cache::respond`](crate::Cache::respond).
///
/// ```
/// use expcache_client::Ask;
/// use http::{HeaderMap, Method};
///
/// let headers = HeaderMap::new();
/// let ask = Ask::from(&headers).method(&Method::HEAD).filename("trips of May.csv");
/// ```
#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    none_match: Listed,
    range: Option<String>,
    if_range: Option<String>,
    accepted: Accepted,
    /// Pieces of the body are to be so long, where it comes in pieces.
    pub(super) part_bytes: Option<u64>,
    pub(super) cache_control: Option<HeaderValue>,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) filename: Option<String>,
}

/// What the answer is.
pub(super) enum HttpAnswer {
    NotModified(Encoding),
    NotAcceptable,
    Beyond(u64),
    /// The representation in this coding, of so many bytes.
    Whole(Encoding, u64, AnswerBytes),
    Part(ByteRange, u64, AnswerBytes),
}

/// The bytes of an answer.
pub(super) enum AnswerBytes {
    /// These.
    Bytes(Bytes),
    /// These, and those that follow them in the payload, from here up to there.
    Begun(Bytes, std::ops::Range<u64>),
}

/// Whether what is known will do.
pub(super) enum Judged {
    Answer(HttpAnswer),
    /// This is needed besides.
    Lacks(View),
    /// How it is stored has to be known first.
    LacksMeta,
}

impl From<&HeaderMap> for Ask {
    /// Of a `GET`; else [`Ask::method`] says.
    fn from(headers: &HeaderMap) -> Self {
        Self {
            method: Method::GET,
            none_match: joined(headers, &IF_NONE_MATCH).map(|value| Listed::parse(&value)).unwrap_or_default(),
            range: single(headers, &RANGE),
            if_range: single(headers, &IF_RANGE),
            accepted: joined(headers, &ACCEPT_ENCODING).map(|value| Accepted::parse(&value)).unwrap_or_default(),
            part_bytes: None,
            cache_control: None,
            content_type: None,
            filename: None,
        }
    }
}

impl From<&request::Parts> for Ask {
    fn from(parts: &request::Parts) -> Self {
        Self::from(&parts.headers).method(&parts.method)
    }
}

impl<B> From<&Request<B>> for Ask {
    fn from(request: &Request<B>) -> Self {
        Self::from(request.headers()).method(request.method())
    }
}

/// A list may come in several lines.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// What must come once is as not said when it comes twice.
fn single(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    line.to_str().ok().map(ToOwned::to_owned)
}

impl Ask {
    /// The method. To `HEAD` the payload is not fetched; ranges are of `GET` only, and conditions of these two.
    #[must_use]
    pub fn method(mut self, method: &Method) -> Self {
        self.method = method.clone();
        self
    }

    /// The `Cache-Control` of the answer. Unless said it is `private`, with `max-age` as the entry is fresh, and the request's
    /// grace as `stale-while-revalidate` and `stale-if-error`. Browsers do not hear of invalidations: where they must not show what
    /// was invalidated, say `private, no-cache`. They ask each time then, and a `304` costs next to nothing.
    #[must_use]
    pub fn cache_control(mut self, value: HeaderValue) -> Self {
        self.cache_control = Some(value);
        self
    }

    /// The `Content-Type` of the answer; else the entry's format says.
    #[must_use]
    pub fn content_type(mut self, value: HeaderValue) -> Self {
        self.content_type = Some(value);
        self
    }

    /// The name under which a browser is to save it (`Content-Disposition: attachment`).
    #[must_use]
    pub fn filename(mut self, name: impl Into<String>) -> Self {
        self.filename = Some(name.into());
        self
    }

    pub(super) fn in_parts(mut self, bytes: u64) -> Self {
        self.part_bytes = Some(bytes);
        self
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// What to look at first.
    pub(super) fn view(&self) -> View {
        let versions = self.versions();
        let range = match (self.range(), self.part_bytes) {
            _ if self.is_head() || versions.len() > 1 || self.lists_any() => Some((0, 0)),
            (Some(range), part) => Some(first_part(range, part)),
            (None, part) => part.map(|length| (0, length)),
        };
        let unless = match versions.as_slice() {
            [version] => Some((*version).to_owned()),
            _ => None,
        };
        View { unless, range, ..self.whole() }
    }

    fn whole(&self) -> View {
        View { accept: self.accepted.codings(), ..View::default() }
    }

    fn lists_any(&self) -> bool {
        self.is_conditional() && self.none_match == Listed::Any
    }

    fn is_conditional(&self) -> bool {
        self.method == Method::GET || self.is_head()
    }

    /// The versions that the client has, each once, in a coding that it still takes.
    fn versions(&self) -> Vec<&str> {
        let mut versions: Vec<&str> = self.has().map(|(md5, _)| md5).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    fn has(&self) -> impl Iterator<Item = (&str, Encoding)> {
        let listed = match &self.none_match {
            Listed::These(tags) if self.is_conditional() => tags.as_slice(),
            _ => &[],
        };
        let named = listed.iter().filter_map(|tag| etag::parse(tag));
        named.filter(|(_, encoding)| self.accepted.takes(*encoding))
    }

    /// The value of `Range`, where it counts and means a part.
    fn range(&self) -> Option<&str> {
        let counts = self.method == Method::GET && self.accepted.takes_identity();
        let is_part = |range: &&str| RangeHeader::parse(range, TO_THE_END) != RangeHeader::Whole;
        self.range.as_deref().filter(|_| counts).filter(is_part)
    }

    /// Whether a part of this version is of use to who asks `If-Range`: that compares strongly, and the part is of the payload
    /// itself. A date says nothing here, for no answer has a `Last-Modified`.
    fn continues(&self, md5: &str) -> bool {
        self.if_range.as_deref().is_none_or(|tag| {
            tag.trim().strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).is_some_and(|tag| tag == md5)
        })
    }

    pub(super) async fn judge(&self, served: &Served) -> Judged {
        let md5 = etag_of(served).await;
        if let Some(encoding) = self.unchanged(&md5, served) {
            return Judged::Answer(HttpAnswer::NotModified(encoding));
        }
        if let Some(range) = self.range().filter(|_| self.continues(&md5))
            && let Some(judged) = self.judge_range(range, served)
        {
            return judged;
        }
        self.judge_whole(served).await
    }

    fn unchanged(&self, md5: &str, served: &Served) -> Option<Encoding> {
        if self.lists_any() {
            return Some(served.packed(&self.accepted.codings()).map_or(Encoding::Identity, |(encoding, _)| encoding));
        }
        self.has().find(|(version, _)| *version == md5).map(|(_, encoding)| encoding)
    }

    /// `None`: the whole is wanted after all.
    fn judge_range(&self, range: &str, served: &Served) -> Option<Judged> {
        let Some(size) = served.size() else { return Some(Judged::Lacks(View::nothing())) };
        let part = match RangeHeader::parse(range, size) {
            RangeHeader::Whole => return None,
            RangeHeader::Beyond => return Some(Judged::Answer(HttpAnswer::Beyond(size))),
            RangeHeader::Part(part) => part,
        };
        Some(match self.content(served, part) {
            Some(content) => Judged::Answer(HttpAnswer::Part(part, size, content)),
            None => Judged::Lacks(View { range: Some(limited(part, self.part_bytes)), ..View::default() }),
        })
    }

    /// A part of the payload, if it, or its beginning where it comes in pieces, is there.
    fn content(&self, served: &Served, part: ByteRange) -> Option<AnswerBytes> {
        let end = part.offset + part.length;
        match (served.whole(), &served.entry.piece) {
            (Some(payload), _) => Some(AnswerBytes::Bytes(part.of(payload))),
            (None, Some(Piece::Part { offset, bytes, .. })) if *offset == part.offset => {
                let have = bytes.len() as u64;
                if have >= part.length {
                    let bytes = ByteRange { offset: 0, length: part.length }.of(bytes);
                    return Some(AnswerBytes::Bytes(bytes));
                }
                let begun = have > 0 && self.part_bytes.is_some();
                begun.then(|| AnswerBytes::Begun(bytes.clone(), offset + have..end))
            }
            _ => None,
        }
    }

    async fn judge_whole(&self, served: &Served) -> Judged {
        let codings = self.accepted.codings();
        if let Some((encoding, bytes)) = served.packed(&codings) {
            return Judged::Answer(HttpAnswer::Whole(encoding, bytes.len() as u64, AnswerBytes::Bytes(bytes.clone())));
        }
        if !self.accepted.takes_identity() {
            let Some(payload) = served.whole() else { return Judged::Lacks(self.whole()) };
            return Judged::Answer(encoded(&codings, payload).await);
        }
        match served.size() {
            Some(size) if self.is_head() && served.whole().is_none() => match codings.is_empty() {
                true => Judged::Answer(HttpAnswer::Whole(Encoding::Identity, size, AnswerBytes::Bytes(Bytes::new()))),
                false => Judged::LacksMeta,
            },
            Some(size) => match self.content(served, ByteRange { offset: 0, length: size }) {
                Some(AnswerBytes::Begun(..)) if !codings.is_empty() => Judged::LacksMeta,
                Some(content) => Judged::Answer(HttpAnswer::Whole(Encoding::Identity, size, content)),
                None => Judged::Lacks(self.whole()),
            },
            None => Judged::Lacks(self.whole()),
        }
    }

    /// The same when it is known how the entry is stored; `None`: not even that is known.
    pub(super) fn judge_stored(&self, served: &Served, meta: Option<Meta>) -> Judged {
        let same = meta.filter(|meta| meta.etag == served.etag() && self.accepted.codings().contains(&meta.encoding));
        let size = served.size().unwrap_or_default();
        match (same, self.is_head()) {
            (Some(meta), true) => {
                Judged::Answer(HttpAnswer::Whole(meta.encoding, meta.stored, AnswerBytes::Bytes(Bytes::new())))
            }
            (None, true) => {
                Judged::Answer(HttpAnswer::Whole(Encoding::Identity, size, AnswerBytes::Bytes(Bytes::new())))
            }
            (Some(_), false) => Judged::Lacks(self.whole()),
            (None, false) => match self.content(served, ByteRange { offset: 0, length: size }) {
                Some(content) => Judged::Answer(HttpAnswer::Whole(Encoding::Identity, size, content)),
                None => Judged::Lacks(self.whole()),
            },
        }
    }
}

/// As much of a range as can be asked for before the size is known.
fn first_part(range: &str, part: Option<u64>) -> (u64, u64) {
    match RangeHeader::parse(range, TO_THE_END) {
        // What is counted from the end is none before the end is known.
        RangeHeader::Part(_) if range.trim_end().starts_with("bytes=-") => (0, 0),
        RangeHeader::Part(range) => limited(range, part),
        _ => (0, 0),
    }
}

fn limited(part: ByteRange, longest: Option<u64>) -> (u64, u64) {
    (part.offset, longest.map_or(part.length, |longest| part.length.min(longest)))
}

/// For who takes no payload as it is.
async fn encoded(codings: &[Encoding], payload: &Bytes) -> HttpAnswer {
    for encoding in codings {
        if let Some(bytes) = compression::encoded(*encoding, payload.clone()).await {
            return HttpAnswer::Whole(*encoding, bytes.len() as u64, AnswerBytes::Bytes(bytes));
        }
    }
    HttpAnswer::NotAcceptable
}

/// The MD5. Of a large payload that was produced here it is computed elsewhere.
async fn etag_of(served: &Served) -> String {
    if served.entry.etag.get().is_none() && served.payload().len() > AT_ONCE_BYTES {
        let other = served.clone();
        let computed = compression::off_the_runtime(served.payload().len(), move || other.etag().to_owned()).await;
        if let Ok(md5) = computed {
            return md5;
        }
    }
    served.etag().to_owned()
}

impl Served {
    /// The payload, if it came.
    fn whole(&self) -> Option<&Bytes> {
        match &self.entry.piece {
            None => Some(self.payload()),
            Some(Piece::Packed(..)) if !self.payload().is_empty() => Some(self.payload()),
            _ => None,
        }
    }

    /// The length of the payload, if that is known.
    fn size(&self) -> Option<u64> {
        match &self.entry.piece {
            Some(Piece::Part { size, .. }) => Some(*size),
            _ => self.whole().map(|payload| payload.len() as u64),
        }
    }

    /// The stored bytes, if they came and are in one of these codings.
    fn packed(&self, codings: &[Encoding]) -> Option<(Encoding, &Bytes)> {
        match &self.entry.piece {
            Some(Piece::Packed(encoding, bytes)) if codings.contains(encoding) => Some((*encoding, bytes)),
            _ => None,
        }
    }
}
