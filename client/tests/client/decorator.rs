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

#[cached(type = "trips")]
async fn identity(cache: &Cache, n: u64) -> Result<u64, Failure> {
    Ok(n)
}

#[tokio::test]
async fn every_integer_has_a_key_of_its_own() {
    let server = Server::start();
    let cache = cache(&server);
    for n in [0, 1 << 53, (1 << 53) + 1, (1 << 53) + 2, 1_541_815_603_606_036_480, u64::MAX - 1, u64::MAX] {
        assert_eq!(identity(&cache, n).await.unwrap(), n);
    }
}

#[cached(type = "trips", company = company)]
async fn count(cache: &Cache, company: String, month: u8) -> Result<usize, Failure> {
    Ok(company.len() + usize::from(month))
}

#[cached(type = "trips", company = company)]
async fn longest(cache: &Cache, company: String, month: u8) -> Result<usize, Failure> {
    Ok(company.len() * 100 + usize::from(month))
}

#[cached(type = "trips", company = company, function = "longest of a month")]
async fn shortest(cache: &Cache, company: String, month: u8) -> Result<usize, Failure> {
    Ok(company.len() * 1000 + usize::from(month))
}

/// What `shortest` was once called.
#[cached(type = "trips", company = company, function = "longest of a month")]
async fn of_old(cache: &Cache, company: String, month: u8) -> Result<usize, Failure> {
    Ok(company.len() * 1000 + usize::from(month))
}

mod elsewhere {
    use super::*;

    #[cached(type = "trips", company = company)]
    pub async fn count(cache: &Cache, company: String, month: u8) -> Result<usize, Failure> {
        Ok(company.len() * 10_000 + usize::from(month))
    }
}

#[tokio::test]
async fn functions_of_the_same_parameters_do_not_share_their_values() {
    let server = Server::start();
    let cache = cache(&server);
    for _ in 0..2 {
        assert_eq!(count(&cache, "c".into(), 5).await.unwrap(), 6);
        assert_eq!(longest(&cache, "c".into(), 5).await.unwrap(), 105);
        assert_eq!(shortest(&cache, "c".into(), 5).await.unwrap(), 1005);
        assert_eq!(elsewhere::count(&cache, "c".into(), 5).await.unwrap(), 10_005);
    }
    assert_eq!(cache.client().stats().await.unwrap().entries, 4);
    assert_eq!(of_old(&cache, "c".into(), 5).await.unwrap(), 1005);
    assert_eq!(cache.client().stats().await.unwrap().entries, 4, "they are called the same");
}

/// Another version of `months`, as it was before, or will be after a deployment.
#[cached(type = "trips", function = "months")]
async fn months_as_text(cache: &Cache, company: u64) -> Result<String, Failure> {
    Ok(format!("May {company}"))
}

#[cached(type = "trips", function = "months")]
async fn months(cache: &Cache, company: u64) -> Result<Vec<u64>, Failure> {
    Ok(vec![company, 5])
}

#[tokio::test]
async fn what_another_version_stored_is_made_anew() {
    let server = Server::start();
    let cache = cache(&server);
    for _ in 0..2 {
        assert_eq!(months_as_text(&cache, 42).await.unwrap(), "May 42");
        assert_eq!(months(&cache, 42).await.unwrap(), [42, 5]);
        assert_eq!(months(&cache, 42).await.unwrap(), [42, 5]);
    }
    assert_eq!(cache.client().stats().await.unwrap().sets, 4, "what can be read is not made again");
}

/// It is written as `null`, which is no number.
#[cached(type = "trips")]
async fn endless(cache: &Cache) -> Result<f64, Failure> {
    Ok(f64::INFINITY)
}

#[tokio::test]
async fn what_can_never_be_read_is_an_error() {
    let server = Server::start();
    let cache = cache(&server);
    for _ in 0..2 {
        let error = endless(&cache).await.unwrap_err();
        assert!(matches!(&error, Failure::Cache(Error::Payload(_))), "{error:?}");
    }
}

/// Parameters called as the attribute might call what it needs itself.
#[cached(type = "trips", company = request.clone() + &filters)]
async fn awkward(
    cache: &Cache,
    request: String,
    filters: String,
    mut produced: Vec<u8>,
    value: u8,
    produce_awkward: u8,
    r#type: u8,
) -> Result<Vec<u8>, expcache_client::BoxError> {
    produced.extend([value, produce_awkward, r#type]);
    produced.extend((request + &filters).bytes());
    Ok(produced)
}

#[tokio::test]
async fn parameters_may_have_any_name() {
    let server = Server::start();
    let cache = cache(&server);
    for _ in 0..2 {
        let made = awkward(&cache, "r".into(), "f".into(), vec![0], 1, 2, 3).await.unwrap();
        assert_eq!(made, [0, 1, 2, 3, b'r', b'f']);
    }
    assert_eq!(cache.invalidate_company("rf").await.unwrap(), 1);
}
