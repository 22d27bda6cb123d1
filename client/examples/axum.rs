//! A service that hands out an export: conditional requests, ranges, and headers that say where it came from.
//!
//! ```sh
//! cargo run --example axum -- redis://127.0.0.1/          # then
//! curl -i http://127.0.0.1:3000/companies/42/trips.csv
//! curl -i http://127.0.0.1:3000/companies/42/trips.csv -H 'If-None-Match: "<the etag>"'
//! curl -i http://127.0.0.1:3000/companies/42/trips.csv -H 'Range: bytes=0-99'
//! curl -X POST http://127.0.0.1:3000/companies/42/changed
//! ```

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use expcache_client::{Cache, Config, Error, Export, RangeHeader, Served};
use tower::limit::GlobalConcurrencyLimitLayer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "redis://127.0.0.1/".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let cache = Cache::open(Config::single(server)?)?;
    let app = Router::new()
        .route("/companies/{company}/trips.csv", get(trips))
        .route("/companies/{company}/changed", post(changed))
        .layer(GlobalConcurrencyLimitLayer::new(1000))
        .with_state(cache);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn trips(State(cache): State<Cache>, Path(company): Path<u64>, headers: HeaderMap) -> Result<Response, Failure> {
    let request = cache.request("trips").format("csv").company(company).grace(Duration::from_secs(300)).build()?;
    let served = cache.get_or_produce(&request, move || produce(company)).await?;
    Ok(respond(&served, &headers))
}

/// The slow query.
async fn produce(company: u64) -> Result<Export, Error> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    Export::csv((1..1000).map(|trip| Trip { company, trip, km: trip * 17 % 400 }))
}

#[derive(serde::Serialize)]
struct Trip {
    company: u64,
    trip: u64,
    km: u64,
}

async fn changed(State(cache): State<Cache>, Path(company): Path<u64>) -> Result<String, Failure> {
    Ok(format!("{} exports are gone\n", cache.invalidate_company(company).await?))
}

fn respond(served: &Served, asked: &HeaderMap) -> Response {
    let text = |name| asked.get(name).and_then(|value| value.to_str().ok());
    let told = [
        (header::ETAG, served.etag_header()),
        (header::AGE, served.age_header()),
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::HeaderName::from_static("cache-status"), served.cache_status_header()),
    ];
    if text(header::IF_NONE_MATCH).is_some_and(|etags| served.matches(etags)) {
        return (StatusCode::NOT_MODIFIED, told).into_response();
    }
    let csv = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
    let size = served.payload().len() as u64;
    // A part of another version would be of no use to who asks `If-Range`.
    let same = text(header::IF_RANGE).is_none_or(|etag| etag == served.etag_header());
    match text(header::RANGE).filter(|_| same).map_or(RangeHeader::Whole, |range| RangeHeader::parse(range, size)) {
        RangeHeader::Whole => (told, csv, served.payload().clone()).into_response(),
        RangeHeader::Part(part) => {
            let range = [(header::CONTENT_RANGE, part.content_range(size))];
            (StatusCode::PARTIAL_CONTENT, told, csv, range, part.of(served.payload())).into_response()
        }
        RangeHeader::Beyond => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            (StatusCode::RANGE_NOT_SATISFIABLE, told, range).into_response()
        }
    }
}

/// The producer's error, or a request that cannot be.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}
