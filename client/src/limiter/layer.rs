//! A rate limit before a service of [tower](https://docs.rs/tower), as axum's: who is beyond it is answered here.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use super::{Limiter, Verdict};
use crate::error::Error;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is to happen while the server cannot say whether a request is within its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// Every request goes through: the service matters more than the limit.
    Open,
    /// No request does (`503 Service Unavailable`): the limit protects what must not be overrun.
    Closed,
}

/// Makes services that are asked within a limit only: see [`Limiter::layer`].
#[derive(Clone)]
pub struct LimitLayer<F> {
    limiter: Limiter,
    on_outage: OnOutage,
    key: F,
}

/// A service behind a limit: see [`Limiter::layer`].
#[derive(Clone)]
pub struct Limit<S, F> {
    inner: S,
    layer: LimitLayer<F>,
}

impl Limiter {
    /// A layer of tower. `key` says whose the request is, from its head; `None`: it is not limited.
    ///
    /// - Beyond the limit: `429 Too Many Requests` with `Retry-After`, `RateLimit`, `RateLimit-Policy` and a body of the type
    ///   `application/problem+json`. The service is not asked.
    /// - Within it: the service's response, and `RateLimit` and `RateLimit-Policy` with it.
    /// - The server is away, or refuses to say: what `on_outage` says. How long that takes is
    ///   [`Config::timeout`](crate::Config::timeout)'s to say; after some failures no time at all.
    ///
    /// ```no_run
    /// # fn example(client: expcache_client::Client) -> expcache_client::Result<()> {
    /// use expcache_client::{Limiter, OnOutage, Rate};
    /// use std::time::Duration;
    ///
    /// let limiter = Limiter::new(&client, "api")?.policy("minute", Rate::new(100, Duration::from_secs(60))?)?;
    /// let layer = limiter.layer(OnOutage::Open, |head| head.headers.get("x-api-key").cloned());
    /// # tower::ServiceBuilder::new().layer(layer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<F, K>(&self, on_outage: OnOutage, key: F) -> LimitLayer<F>
    where
        F: Fn(&Parts) -> Option<K>,
        K: AsRef<[u8]>,
    {
        LimitLayer { limiter: self.clone(), on_outage, key }
    }
}

impl<S, F: Clone> Layer<S> for LimitLayer<F> {
    type Service = Limit<S, F>;

    fn layer(&self, inner: S) -> Limit<S, F> {
        Limit { inner, layer: self.clone() }
    }
}

impl<S, F, K, B, R> Service<Request<B>> for Limit<S, F>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    F: Fn(&Parts) -> Option<K>,
    K: AsRef<[u8]>,
    B: Send + 'static,
    R: From<String> + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready; its clone need not be.
        let unready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, unready);
        let (head, body) = request.into_parts();
        let key = (self.layer.key)(&head).map(|key| key.as_ref().to_vec());
        let request = Request::from_parts(head, body);
        let (limiter, on_outage) = (self.layer.limiter.clone(), self.layer.on_outage);
        Box::pin(async move {
            let Some(key) = key else { return inner.call(request).await };
            match limiter.check(&key).await {
                Ok(verdict) if verdict.allowed => Ok(told(inner.call(request).await?, &verdict)),
                Ok(verdict) => Ok(told(refusal(&verdict), &verdict)),
                Err(error) if is_passed(on_outage, &limiter, &error) => inner.call(request).await,
                Err(_) => Ok(closed()),
            }
        })
    }
}

fn is_passed(on_outage: OnOutage, limiter: &Limiter, error: &Error) -> bool {
    tracing::debug!(limiter = limiter.name, ?on_outage, %error, "nobody can say whether it is within the limit");
    on_outage == OnOutage::Open
}

fn refusal<R: From<String>>(verdict: &Verdict) -> Response<R> {
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, verdict.problem());
    if let Some(seconds) = verdict.retry_after_header() {
        add(response.headers_mut(), RETRY_AFTER, &seconds);
    }
    response
}

/// What failed is between the service and its cache.
fn closed<R: From<String>>() -> Response<R> {
    let body = serde_json::json!({ "title": "Service Unavailable", "status": 503 });
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, body.to_string());
    add(response.headers_mut(), RETRY_AFTER, "1");
    response
}

fn problem<R: From<String>>(status: StatusCode, body: String) -> Response<R> {
    let mut response = Response::new(R::from(body));
    *response.status_mut() = status;
    add(response.headers_mut(), CONTENT_TYPE, "application/problem+json");
    response
}

/// Beside what another limit has said.
fn told<R>(mut response: Response<R>, verdict: &Verdict) -> Response<R> {
    add(response.headers_mut(), RATE_LIMIT, &verdict.rate_limit_header());
    add(response.headers_mut(), RATE_LIMIT_POLICY, &verdict.rate_limit_policy_header());
    response
}

fn add(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}
