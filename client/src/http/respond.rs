//! [`Cache::respond`]: a request of HTTP answered in one call.
//!
//! One question to the server has to do as often as possible, and must not bring more than the answer needs: so the headers of the
//! request choose a view of the entry (`ask.rs`), and only where what came tells that something else is needed (a range counted
//! from the end, several versions, a new version, how it is stored) a second question follows. Whatever happens between the two
//! ends in an ordinary production.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use expcache_core::codec::Encoding;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, VARY,
};
use http::{Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::ask::{AnswerBytes, Ask, HttpAnswer, Judged};
use super::body::{Body, Source};
use super::etag;
use crate::Cache;
use crate::asking::{Answer, Task};
use crate::error::{BoxError, Error, Result};
use crate::export::Export;
use crate::how::Stored;
use crate::lease::Claim;
use crate::produce::Producer;
use crate::request::{Request, RequestPlan};
use crate::served::Served;
use crate::view::View;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// What may stand in a `filename*` as it is (RFC 8187, 3.2.1).
const VALUE_CHARS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

impl Cache {
    /// The export that a request means as the answer to a request of HTTP. As [`Cache::get_or_produce`], and:
    ///
    /// - Who has this version is answered `304` (`If-None-Match`); the payload is not fetched. While the entry is stale it is.
    /// - A part is answered `206`, or `416`, and that part alone is fetched (`Range`, `If-Range`); several parts at once are
    ///   answered with the whole. Parts are of the payload itself, never of a coded one.
    /// - What the server keeps as gzip or zstd is handed out so to who takes that (`Accept-Encoding`), and not decoded anywhere.
    /// - To `HEAD` no payload is fetched.
    /// - Each coding has its own strong `ETag`: `"<md5>"`, `"<md5>-gzip"`, `"<md5>-zstd"`.
    /// - `Vary`, `Cache-Control`, `Age`, `Cache-Status`, `Content-Type`, and `Content-Disposition` are set: see [`Ask`].
    ///
    /// A producer that fails is an error here; what to answer then is the service's own to say.
    ///
    /// ```no_run
    /// # async fn example(cache: expcache_client::Cache, headers: http::HeaderMap) -> expcache_client::Result<()> {
    /// use expcache_client::{Ask, Export};
    ///
    /// let request = cache.request("trips").format("json").company(42).build()?;
    /// let response = cache.respond(&request, Ask::from(&headers), || async { Export::json(&["A to B"]) }).await?;
    /// println!("{}: {} bytes", response.status(), response.body().len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn respond<P, F, T, E>(&self, request: &Request, ask: Ask, produce: P) -> Result<Response<Bytes>>
    where
        P: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        Ok(self.answered(request, &ask, self.producer(&request.0.key, produce)).await?.map(Body::into_first))
    }

    /// The same with a body that is fetched in parts of so many bytes as it is sent, for what should not be held whole. Each part
    /// is a read of its own, and counts as one. What was produced here, and what is handed out coded, is held whole all the same.
    ///
    /// ```no_run
    /// # async fn example(cache: expcache_client::Cache, headers: http::HeaderMap) -> expcache_client::Result<()> {
    /// use expcache_client::{Ask, Export};
    ///
    /// let request = cache.request("trips").format("json").company(42).build()?;
    /// let produce = || async { Export::json(&["A to B"]) };
    /// let response = cache.respond_in_parts(&request, Ask::from(&headers), 1 << 20, produce).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn respond_in_parts<P, F, T, E>(
        &self,
        request: &Request,
        ask: Ask,
        part_bytes: u64,
        produce: P,
    ) -> Result<Response<Body>>
    where
        P: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        self.answered(request, &ask.in_parts(part_bytes.max(1)), self.producer(&request.0.key, produce)).await
    }

    async fn answered(&self, request: &Request, ask: &Ask, producer: Producer) -> Result<Response<Body>> {
        if let Some(served) = self.near(&request.0) {
            self.tell_served(&request.0, &served, None);
            return self.whole(request, ask, served).await;
        }
        let since = Instant::now();
        let (served, verdict) = self.obtain_view(request, ask, producer).await?;
        self.tell_served(&request.0, &served, Some(since));
        Ok(self.response(&request.0, ask, &served, verdict))
    }

    /// The answer out of a payload that is here.
    async fn whole(&self, request: &Request, ask: &Ask, served: Served) -> Result<Response<Body>> {
        let verdict = final_verdict(ask, &served).await?;
        Ok(self.response(&request.0, ask, &served, verdict))
    }

    async fn obtain_view(&self, request: &Request, ask: &Ask, producer: Producer) -> Result<(Served, HttpAnswer)> {
        let asked = Instant::now();
        let (served, lease) = match self.ask(&request.viewed(ask.view())).await {
            Answer::Ready(served, lease) => (served, lease),
            Answer::Not(task) => {
                let served = self.fly(request, asked, task, producer).await?;
                let verdict = final_verdict(ask, &served).await?;
                return Ok((served, verdict));
            }
        };
        let spare = Spare { cache: self, request, lease, producer: Some(producer) };
        let view = match ask.judge(&served).await {
            Judged::Answer(verdict) => return Ok((served, verdict)),
            Judged::Lacks(view) => view,
            Judged::LacksMeta => {
                let meta = self.0.client.meta(request.key()).await.ok().flatten();
                match ask.judge_stored(&served, meta) {
                    Judged::Answer(verdict) => return Ok((served, verdict)),
                    Judged::Lacks(view) => view,
                    Judged::LacksMeta => View::default(),
                }
            }
        };
        if let Some(again) = self.look(request, view).await
            && let Judged::Answer(verdict) = ask.judge(&again).await
        {
            return Ok((again, verdict));
        }
        // It changes while one looks, or went, or the server did.
        let served = spare.use_up(asked).await?;
        let verdict = final_verdict(ask, &served).await?;
        Ok((served, verdict))
    }

    /// Looks again, and asks for no lease.
    async fn look(&self, request: &Request, view: View) -> Option<Served> {
        let viewed = request.viewed(view);
        let ticket = self.0.near.ticket(&request.0.key);
        let fetched = self.0.client.fetch(&viewed.0.fetch(self.config())).await.ok()?;
        self.serve(&viewed.0, fetched, ticket).await.ok().flatten()
    }

    fn response(&self, plan: &RequestPlan, ask: &Ask, served: &Served, verdict: HttpAnswer) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CACHE_CONTROL, ask.cache_control.clone().unwrap_or_else(|| cache_control(plan, served)));
        put(headers, AGE, &served.age_header());
        put(headers, CACHE_STATUS, &served.cache_status_header());
        let (status, encoding, content) = match verdict {
            HttpAnswer::NotAcceptable => {
                // It says nothing of the export.
                *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                return response;
            }
            HttpAnswer::NotModified(encoding) => (StatusCode::NOT_MODIFIED, encoding, None),
            HttpAnswer::Beyond(size) => {
                put(headers, CONTENT_RANGE, &format!("bytes */{size}"));
                (StatusCode::RANGE_NOT_SATISFIABLE, Encoding::Identity, None)
            }
            HttpAnswer::Whole(encoding, length, content) => {
                describe(headers, ask, served, length);
                (StatusCode::OK, encoding, Some(content))
            }
            HttpAnswer::Part(part, size, content) => {
                describe(headers, ask, served, part.length);
                put(headers, CONTENT_RANGE, &part.content_range(size));
                (StatusCode::PARTIAL_CONTENT, Encoding::Identity, Some(content))
            }
        };
        put(headers, ETAG, &format!("\"{}\"", etag::of(served.etag(), encoding)));
        if content.is_some() && encoding != Encoding::Identity {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        *response.status_mut() = status;
        if let Some(content) = content.filter(|_| !ask.is_head()) {
            *response.body_mut() = self.body(plan, ask, served, content);
        }
        response
    }

    fn body(&self, plan: &RequestPlan, ask: &Ask, served: &Served, content: AnswerBytes) -> Body {
        let (client, key, etag) = (self.0.client.clone(), plan.key.clone(), served.etag().to_owned());
        Body::new(content, Source { client, key, etag, part_bytes: ask.part_bytes.unwrap_or(u64::MAX) })
    }
}

/// Out of a payload that is here.
async fn final_verdict(ask: &Ask, served: &Served) -> Result<HttpAnswer> {
    match ask.judge(served).await {
        Judged::Answer(verdict) => Ok(verdict),
        Judged::Lacks(_) | Judged::LacksMeta => Err(Error::Changed),
    }
}

/// The lease that came with a look, if one did, and the producer: the next value is made behind the answer, also if the caller hangs
/// up between two looks.
struct Spare<'a> {
    cache: &'a Cache,
    request: &'a Request,
    lease: Option<Arc<Claim>>,
    producer: Option<Producer>,
}

impl Spare<'_> {
    /// Produces, or waits for who does.
    async fn use_up(mut self, asked: Instant) -> Result<Served> {
        let Some(producer) = self.producer.take() else { return Err(Error::NoLease) };
        match self.lease.take() {
            Some(lease) => self.cache.fly(self.request, asked, Task::Produce(lease), producer).await,
            None => self.cache.obtain(self.request, || producer).await,
        }
    }
}

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        // Without a runtime there is nobody to produce; the lease ends by itself.
        if let (Some(lease), Some(producer)) = (self.lease.take(), self.producer.take())
            && tokio::runtime::Handle::try_current().is_ok()
        {
            self.cache.refresh_behind(self.request, lease, producer);
        }
    }
}

/// What describes the content.
fn describe(headers: &mut HeaderMap, ask: &Ask, served: &Served, length: u64) {
    let by_format = || HeaderValue::from_static(content_type(served.format()));
    headers.insert(CONTENT_TYPE, ask.content_type.clone().unwrap_or_else(by_format));
    put(headers, CONTENT_LENGTH, &length.to_string());
    if let Some(name) = &ask.filename {
        put(headers, CONTENT_DISPOSITION, &disposition(name));
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// For how long the recipient may use it (RFC 9111, 5861). `max-age` counts from when the entry was stored, as `Age` does.
fn cache_control(plan: &RequestPlan, served: &Served) -> HeaderValue {
    let lifetime_ms =
        served.ttl_ms().map(|ttl| i64::try_from(served.age().as_millis()).unwrap_or(0).saturating_add(ttl));
    let told = match (lifetime_ms, served.stored()) {
        // What others invalidate is not heard of, or its end is not known: to be asked about each time.
        (_, Stored::No(_)) | (None, _) => "private, no-cache".to_owned(),
        (Some(lifetime), _) => {
            let max_age = format!("private, max-age={}", lifetime.max(0) / 1000);
            match plan.grace.map(|grace| grace.as_secs()) {
                Some(grace) if grace > 0 => {
                    format!("{max_age}, stale-while-revalidate={grace}, stale-if-error={grace}")
                }
                _ => max_age,
            }
        }
    };
    HeaderValue::from_str(&told).unwrap_or_else(|_| HeaderValue::from_static("private, no-cache"))
}

/// The media type of a format.
fn content_type(format: Option<&[u8]>) -> &'static str {
    match format.map(<[u8]>::to_ascii_lowercase).as_deref() {
        Some(b"csv") => "text/csv; charset=utf-8",
        Some(b"tsv") => "text/tab-separated-values; charset=utf-8",
        Some(b"txt" | b"text") => "text/plain; charset=utf-8",
        Some(b"html") => "text/html; charset=utf-8",
        Some(b"json") => "application/json",
        Some(b"geojson") => "application/geo+json",
        Some(b"ndjson" | b"jsonl") => "application/x-ndjson",
        Some(b"xml") => "application/xml",
        Some(b"gpx") => "application/gpx+xml",
        Some(b"pdf") => "application/pdf",
        Some(b"zip") => "application/zip",
        Some(b"parquet") => "application/vnd.apache.parquet",
        Some(b"xls") => "application/vnd.ms-excel",
        Some(b"xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Some(b"png") => "image/png",
        Some(b"svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// To be saved under a name ([RFC 6266](https://www.rfc-editor.org/rfc/rfc6266)); in `filename` for old recipients only what every
/// one of them understands.
fn disposition(name: &str) -> String {
    let plain = |char: char| {
        if char.is_ascii_graphic() && !matches!(char, '"' | '\\' | '%') || char == ' ' { char } else { '_' }
    };
    let simple: String = name.chars().map(plain).collect();
    let starred = match simple == name {
        true => String::new(),
        false => format!("; filename*=UTF-8''{}", utf8_percent_encode(name, VALUE_CHARS)),
    };
    format!("attachment; filename=\"{simple}\"{starred}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::how::How;
    use crate::served::CachedEntry;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn names_to_save_under() {
        for (name, expected) in [
            ("trips.csv", "attachment; filename=\"trips.csv\""),
            ("trips of May.csv", "attachment; filename=\"trips of May.csv\""),
            ("a\"b.csv", "attachment; filename=\"a_b.csv\"; filename*=UTF-8''a%22b.csv"),
            ("Mär\r\nz.csv", "attachment; filename=\"M_r__z.csv\"; filename*=UTF-8''M%C3%A4r%0D%0Az.csv"),
            ("100%", "attachment; filename=\"100_\"; filename*=UTF-8''100%25"),
        ] {
            assert_eq!(disposition(name), expected);
        }
    }

    #[test]
    fn how_long_it_may_be_used() -> Result<()> {
        let plain = Request::builder("p", "t").build()?;
        let graceful = Request::builder("p", "t").grace(Duration::from_secs(300)).build()?;
        let grace = "stale-while-revalidate=300, stale-if-error=300";
        for (request, ttl_ms, stored, expected) in [
            (&plain, Some(3_590_500), Stored::Before, "private, max-age=3600".to_owned()),
            (&graceful, Some(3_590_500), Stored::Before, format!("private, max-age=3600, {grace}")),
            // Stale: its age is above what it was good for.
            (&graceful, Some(-4_500), Stored::Before, format!("private, max-age=5, {grace}")),
            (&plain, Some(-60_000), Stored::Before, "private, max-age=0".to_owned()),
            (&plain, None, Stored::Before, "private, no-cache".to_owned()),
            (&graceful, Some(5_000), Stored::No(Error::Timeout), "private, no-cache".to_owned()),
        ] {
            let entry = Arc::new(CachedEntry::new(Bytes::new()));
            let age = Duration::from_millis(9_500);
            let served = Served { entry, how: How::Hit, near: false, age, ttl_ms, stored };
            assert_eq!(cache_control(&request.0, &served), expected);
        }
        Ok(())
    }
}
