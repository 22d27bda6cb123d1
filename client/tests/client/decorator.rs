//! `#[cached]`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use expcache_client::{Error, cached};

use super::*;

static RUNS: AtomicUsize = AtomicUsize::new(0);

/// As an application's own.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no trips")]
    NoTrips,
    #[error(transparent)]
    Cache(#[from] Error),
}

/// Its documentation stays.
#[cached(type = "trips", company = &company, tag = format!("month:{month}"), grace = Duration::from_secs(60))]
async fn trips(cache: &Cache, company: String, month: u8) -> Result<Vec<String>, Failure> {
    RUNS.fetch_add(1, Ordering::SeqCst);
    if month == 0 { Err(Failure::NoTrips) } else { Ok(vec![company, month.to_string()]) }
}

#[tokio::test]
async fn the_arguments_are_the_key_and_the_body_the_producer() {
    let server = Server::start();
    let cache = cache(&server);
    for _ in 0..3 {
        assert_eq!(trips(&cache, "ä".into(), 5).await.unwrap(), ["ä", "5"]);
    }
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
    assert_eq!(trips(&cache, "ä".into(), 6).await.unwrap(), ["ä", "6"]);
    assert_eq!(RUNS.load(Ordering::SeqCst), 2);

    assert_eq!(cache.invalidate_tags(["month:6"]).await.unwrap(), 1);
    assert_eq!(cache.invalidate_company("ä").await.unwrap(), 1);
    assert_eq!(trips(&cache, "ä".into(), 5).await.unwrap(), ["ä", "5"]);
    assert_eq!(RUNS.load(Ordering::SeqCst), 3);

    let error = trips(&cache, "ä".into(), 0).await.unwrap_err();
    assert!(matches!(&error, Failure::Cache(Error::Producer(why)) if why.to_string() == "no trips"), "{error:?}");
}
