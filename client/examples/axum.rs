//! A service that hands out an export: conditional requests, ranges, compressed as it is kept, and headers that say where it came
//! from, all in one call.
//!
//! ```sh
//! cargo run --example axum --features http -- redis://127.0.0.1/          # then
//! curl -i http://127.0.0.1:3000/companies/42/trips.csv
//! curl -i http://127.0.0.1:3000/companies/42/trips.csv -H 'If-None-Match: "<the etag>"'
//! curl -i http://127.0.0.1:3000/companies/42/trips.csv -r 0-99
//! curl -i http://127.0.0.1:3000/companies/42/trips.csv --compressed
//! curl -I http://127.0.0.1:3000/companies/42/trips.csv
//! curl -X POST http://127.0.0.1:3000/companies/42/changed
//! ```

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use expcache_client::{Ask, Cache, Config, Error, Export};
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

async fn trips(State(cache): State<Cache>, Path(company): Path<u64>, asked: Request) -> Result<Response, Failure> {
    let request = cache.request("trips").format("csv").company(company).grace(Duration::from_secs(300)).build()?;
    // Invalidated trips are not to be shown by a browser either, so it asks each time; mostly that is a 304.
    let ask = Ask::from(&asked).filename("trips.csv").cache_control(HeaderValue::from_static("private, no-cache"));
    let response = cache.respond(&request, ask, move || produce(company)).await?;
    Ok(response.map(Body::from))
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
