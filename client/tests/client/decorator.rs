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

struct Order;
struct User;

impl Order {
    #[cached(type = "trips")]
    async fn load(cache: &Cache, id: u64) -> Result<String, Failure> {
        Ok(format!("order {id}"))
    }
}

impl User {
    #[cached(type = "trips")]
    async fn load(cache: &Cache, id: u64) -> Result<String, Failure> {
        Ok(format!("user {id}"))
    }
}

trait Row: Send + 'static {
    const NAME: &'static str;
}

impl Row for Order {
    const NAME: &'static str = "order";
}

impl Row for User {
    const NAME: &'static str = "user";
}

#[cached(type = "trips")]
async fn row<R: Row, const N: usize>(cache: &Cache, id: u64) -> Result<String, Failure> {
    Ok(format!("{} {id} {N}", R::NAME))
}

#[cached(type = "trips", function = "row of old")]
async fn named<R: Row>(cache: &Cache, id: u64) -> Result<String, Failure> {
    Ok(format!("{} {id}", R::NAME))
}

#[cached(type = "trips")]
async fn shown(
    cache: &Cache,
    value: impl std::fmt::Display + serde::Serialize + Copy + Send + Sync + 'static,
) -> Result<String, Failure> {
    Ok(format!("{value} of {} bytes", size_of_val(&value)))
}

struct Table<R>(std::marker::PhantomData<fn() -> R>);

impl<R: Row> Table<R> {
    #[cached(type = "trips")]
    async fn load(cache: &Cache, id: u64) -> Result<String, Failure> {
        Ok(format!("{} {id}", R::NAME))
    }

    #[cached(type = "trips", function = "of a table")]
    async fn named(cache: &Cache, id: u64) -> Result<String, Failure> {
        Ok(format!("{} {id}", R::NAME))
    }
}

trait Load<R> {
    async fn load_of(&self, id: u64) -> Result<String, Failure>;
}

#[derive(Clone)]
struct Service {
    cache: Cache,
    name: &'static str,
}

impl<R: Row> Load<R> for Service {
    #[cached(type = "trips", cache = self.cache, skip(self))]
    async fn load_of(&self, id: u64) -> Result<String, Failure> {
        Ok(format!("{} {id}", R::NAME))
    }
}

impl Service {
    /// Another result, with all else alike.
    #[cached(type = "trips", cache = self.cache, skip(self))]
    async fn greet(&self, whom: &str, again: &[u8], db: Option<&'static str>) -> Result<String, Failure> {
        let again = again.len();
        let text = format!("{} greets {whom} {again} times", self.name);
        Ok(text + db.unwrap_or_default())
    }

    #[cached(type = "trips", cache = &self.cache, key = format!("export_cache:trips:{}", self.name))]
    async fn by_key(&self, pool: Pool) -> Result<usize, Failure> {
        Ok(pool.0)
    }

    #[cached(type = "trips", cache = self.cache, skip(self, pool))]
    async fn count(self: std::sync::Arc<Self>, pool: &Pool, mut month: usize) -> Result<usize, Failure> {
        month += pool.0;
        Ok(month)
    }
}

/// It cannot be serialized.
#[derive(Clone)]
struct Pool(usize);

#[tokio::test]
async fn whose_they_are_and_what_for_is_in_the_key() {
    let server = Server::start();
    let cache = cache(&server);
    let service = Service { cache: cache.clone(), name: "it" };
    for _ in 0..2 {
        assert_eq!(Order::load(&cache, 1).await.unwrap(), "order 1");
        assert_eq!(User::load(&cache, 1).await.unwrap(), "user 1");
        assert_eq!(row::<Order, 1>(&cache, 1).await.unwrap(), "order 1 1");
        assert_eq!(row::<User, 1>(&cache, 1).await.unwrap(), "user 1 1");
        assert_eq!(row::<User, 2>(&cache, 1).await.unwrap(), "user 1 2");
        assert_eq!(named::<Order>(&cache, 1).await.unwrap(), "order 1");
        assert_eq!(named::<User>(&cache, 1).await.unwrap(), "user 1");
        assert_eq!(shown(&cache, 1u8).await.unwrap(), "1 of 1 bytes");
        assert_eq!(shown(&cache, 1u64).await.unwrap(), "1 of 8 bytes");
        assert_eq!(Table::<Order>::load(&cache, 1).await.unwrap(), "order 1");
        assert_eq!(Table::<User>::load(&cache, 1).await.unwrap(), "user 1");
        assert_eq!(Table::<Order>::named(&cache, 1).await.unwrap(), "order 1");
        assert_eq!(Table::<User>::named(&cache, 1).await.unwrap(), "user 1");
        assert_eq!(Load::<Order>::load_of(&service, 1).await.unwrap(), "order 1");
        assert_eq!(Load::<User>::load_of(&service, 1).await.unwrap(), "user 1");
    }
    let stats = cache.client().stats().await.unwrap();
    assert_eq!((stats.entries, stats.sets), (15, 15), "each was made once");
}

#[tokio::test]
async fn two_of_one_path_are_not_mixed_up() {
    let server = Server::start();
    let cache = cache(&server);
    let first = {
        #[cached(type = "trips")]
        async fn load(cache: &Cache, id: u64) -> Result<String, Failure> {
            Ok(format!("first {id}"))
        }
        load(&cache, 1).await
    };
    let second = {
        #[cached(type = "trips")]
        async fn load(cache: &Cache, id: u64) -> Result<String, Failure> {
            Ok(format!("second {id}"))
        }
        load(&cache, 1).await
    };
    assert_eq!(first.unwrap(), "first 1");
    let error = second.unwrap_err().to_string();
    assert!(error.contains("function = "), "it says what to write: {error}");
}

#[tokio::test]
async fn methods_and_what_is_lent_and_skipped() {
    let server = Server::start();
    let cache = cache(&server);
    let [it, other] = ["it", "other"].map(|name| Service { cache: cache.clone(), name });
    for service in [&it, &other] {
        let made = service.greet("Ada", &[1, 2], Some("!")).await.unwrap();
        assert_eq!(made, "it greets Ada 2 times!", "who asks second is no part of the key");
    }
    assert_eq!(it.greet("Bob", &[], None).await.unwrap(), "it greets Bob 0 times");
    assert_eq!((it.by_key(Pool(1)).await.unwrap(), it.by_key(Pool(2)).await.unwrap()), (1, 1));
    assert_eq!(other.by_key(Pool(2)).await.unwrap(), 2);
    let it = std::sync::Arc::new(it);
    for pool in [5, 6] {
        assert_eq!(it.clone().count(&Pool(pool), 1).await.unwrap(), 6);
    }
}

#[cached(type = "trips")]
async fn of_set(cache: &Cache, ids: std::collections::HashSet<u64>, limit: Option<f64>) -> Result<usize, Failure> {
    RUNS_OF_SET.fetch_add(1, Ordering::SeqCst);
    Ok(ids.len() + usize::from(limit.is_some()))
}

static RUNS_OF_SET: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn sets_have_one_key_and_numbers_that_are_none_are_refused() {
    let server = Server::start();
    let cache = cache(&server);
    for turn in 0..5 {
        let ids = (0..100).cycle().skip(turn * 13).take(100).collect();
        assert_eq!(of_set(&cache, ids, None).await.unwrap(), 100);
    }
    assert_eq!(RUNS_OF_SET.load(Ordering::SeqCst), 1);
    for number in [f64::NAN, f64::INFINITY] {
        let error = of_set(&cache, [1].into(), Some(number)).await.unwrap_err();
        assert!(matches!(&error, Failure::Cache(Error::Request(_))), "{error:?}");
    }
    assert_eq!(RUNS_OF_SET.load(Ordering::SeqCst), 1);
}

/// It would come back as `None`.
#[cached(type = "trips")]
async fn perhaps(cache: &Cache) -> Result<Option<f64>, Failure> {
    Ok(Some(f64::NAN))
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Nested(Vec<Nested>);

#[cached(type = "trips")]
async fn nested(cache: &Cache, depth: usize) -> Result<Nested, Failure> {
    Ok((1..depth).fold(Nested(Vec::new()), |inner, _| Nested(vec![inner])))
}

#[tokio::test]
async fn a_value_that_would_come_back_as_another_is_an_error() {
    let server = Server::start();
    let cache = cache(&server);
    let error = perhaps(&cache).await.unwrap_err();
    assert!(matches!(&error, Failure::Cache(Error::Payload(_))), "{error:?}");
    assert!(nested(&cache, 127).await.is_ok());
    let error = nested(&cache, 128).await.err().unwrap();
    assert!(matches!(&error, Failure::Cache(Error::Payload(why)) if why.to_string().contains("127")), "{error:?}");
}

#[cached(type = "trips", unshared = |error: &Failure| matches!(error, Failure::NoTrips))]
async fn found(cache: &Cache) -> Result<usize, Failure> {
    match RUNS_OF_FOUND.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Failure::NoTrips),
        run => Ok(run),
    }
}

static RUNS_OF_FOUND: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn an_error_of_one_caller_is_not_that_of_the_next() {
    let server = Server::start();
    let long = Duration::from_secs(600);
    let cache = Cache::open(config(&server).backoff(long, long)).unwrap();
    let error = found(&cache).await.unwrap_err();
    assert!(matches!(&error, Failure::Cache(error) if error.producer::<Failure>().is_some()), "{error:?}");
    assert_eq!(found(&cache).await.unwrap(), 1);
}
