//! `#[cached(…, warm = …)]`: a function as the handler of its own keys; and programs that end.

use std::collections::HashSet;

use expcache_client::{BoxError, Error, Export, Fetch, How, Purge, Selector, cached};
use tokio::sync::Notify;

use super::*;

const LONG: Duration = Duration::from_secs(600);

type Made<T> = Result<T, Error>;

fn server() -> Server {
    let server = Server::start();
    server.conn().ok("EXPCACHE.TYPE SET trips TTL 1h WARM 1000");
    server
}

/// No part of any key.
#[derive(Clone)]
struct Pool(&'static str);

#[cached(type = "trips", company = &company, tag = format!("month:{month}"), skip(db), warm = warm_trips, ttl = Duration::from_secs(77))]
async fn trips(cache: &Cache, db: &Pool, company: &str, month: u8) -> Made<Vec<String>> {
    Ok(vec![db.0.into(), company.into(), month.to_string()])
}

/// Whatever arguments may be.
#[cached(type = "trips", warm = warm_awkward)]
async fn awkward(
    cache: &Cache,
    ids: HashSet<u64>,
    at: (f64, f32),
    names: &[String],
    r#type: Option<String>,
    mut large: u128,
    job: (i64, char),
) -> Made<String> {
    large -= 1;
    let ids = ids.len();
    Ok(format!("{ids} {at:?} {names:?} {type:?} {large} {job:?}"))
}

/// As `awkward`, for other types.
#[cached(type = "trips", warm = warm_row)]
async fn row<T, const N: usize>(cache: &Cache, value: T) -> Made<String>
where
    T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug + Clone + Send + Sync + 'static,
{
    Ok(format!("{value:?} {N}"))
}

#[cached(type = "trips", key = format!("export_cache:trips:of-{user}"), skip(warmer), warm = warm_by_key)]
async fn by_key(cache: &Cache, user: u64, warmer: Pool) -> Made<String> {
    Ok(format!("{user} {}", warmer.0))
}

#[cached(type = "trips", warm = warm_nothing)]
async fn nothing(cache: &Cache) -> Made<u8> {
    Ok(1)
}

#[derive(Clone)]
struct Reports {
    cache: Cache,
    name: &'static str,
}

impl Reports {
    #[cached(type = "trips", cache = self.cache, skip(self), user = self.name, warm = warm_yearly)]
    async fn yearly(&self, year: u16) -> Made<String> {
        Ok(format!("{} {year}", self.name))
    }

    #[cached(type = "trips", cache = &self.cache, skip(self, db), warm = warm_shared, function = "shared reports")]
    pub async fn shared(self: std::sync::Arc<Self>, year: u16, db: Pool) -> Made<String> {
        Ok(format!("{} {year} {}", self.name, db.0))
    }
}

/// Calls it as often as it takes to be worth it.
async fn often<T: std::fmt::Debug>(mut call: impl AsyncFnMut() -> Made<T>) {
    for _ in 0..20 {
        call().await.unwrap();
    }
}

/// Workers have produced so many.
async fn all_are_there(cache: &Cache, count: u64) {
    until("all are produced", async || cache.client().stats().await.unwrap().warmed == count).await;
}

#[tokio::test]
async fn a_function_makes_what_it_was_asked_for() {
    let server = server();
    let cache = cache(&server);
    let reports = ["one", "other"].map(|name| Reports { cache: cache.clone(), name });
    let shared = std::sync::Arc::new(reports[0].clone());
    let ids = HashSet::from([1, 1 << 60, u64::MAX]);
    let (at, names) = (0.1 + 0.2, ["ä".to_owned(), "\"".to_owned()]);
    let call_awkward =
        async || awkward(&cache, ids.clone(), (at, 0.1), &names, Some("t".into()), u128::MAX, (i64::MIN, 'é')).await;
    let db = Pool("old");
    often(async || trips(&cache, &db, "ä", 5).await).await;
    often(async || trips(&cache, &db, "b", 6).await).await;
    often(async || call_awkward().await).await;
    often(async || row::<u64, 1>(&cache, u64::MAX).await).await;
    often(async || row::<String, 1>(&cache, "1".into()).await).await;
    often(async || by_key(&cache, 7, Pool("by key")).await).await;
    often(async || nothing(&cache).await).await;
    often(async || reports[0].yearly(2024).await).await;
    often(async || reports[1].yearly(2024).await).await;
    often(async || shared.clone().shared(2025, db.clone()).await).await;

    assert_eq!(cache.client().stats().await.unwrap().entries, 10);
    let metas: Vec<String> = {
        let keys = cache.client().scan(Selector::new().any(["company:ä"])).collect().await.unwrap();
        let meta = cache.client().meta(&keys[0]).await.unwrap().unwrap();
        meta.meta.iter().map(|meta| String::from_utf8(meta.to_vec()).unwrap()).collect()
    };
    assert_eq!(metas, [r#"{"company":"ä","month":5}"#]);

    assert_eq!(cache.invalidate_type("trips").await.unwrap(), 10);
    let warmer = warm_trips(cache.warmer().concurrency(4), &Pool("new"));
    let warmer = warm_row::<u64, 1>(warm_row::<String, 1>(warm_awkward(warm_nothing(warmer))));
    let warmer = reports.iter().fold(warmer, |warmer, of| of.warm_yearly(warmer));
    let warmer = shared.clone().warm_shared(warm_by_key(warmer, Pool("by key")), Pool("new"));
    let warming = warmer.start().unwrap();
    all_are_there(&cache, 10).await;
    assert!(warming.stop(PATIENCE).await);

    // Nobody has to produce now, and what is there is what it should be.
    let sets = cache.client().stats().await.unwrap().sets;
    assert_eq!(trips(&cache, &db, "ä", 5).await.unwrap(), ["new", "ä", "5"]);
    assert_eq!(trips(&cache, &db, "b", 6).await.unwrap(), ["new", "b", "6"]);
    let awkward = call_awkward().await.unwrap();
    assert!(awkward.starts_with("3 (0.30000000000000004, 0.1) [\"ä\""), "{awkward}");
    assert_eq!(row::<u64, 1>(&cache, u64::MAX).await.unwrap(), format!("{} 1", u64::MAX));
    assert_eq!(row::<String, 1>(&cache, "1".into()).await.unwrap(), "\"1\" 1");
    assert_eq!(by_key(&cache, 7, Pool("by key")).await.unwrap(), "7 by key");
    assert_eq!(nothing(&cache).await.unwrap(), 1);
    assert_eq!(reports[1].yearly(2024).await.unwrap(), "other 2024");
    assert_eq!(shared.clone().shared(2025, db.clone()).await.unwrap(), "one 2025 new");
    let stats = cache.client().stats().await.unwrap();
    assert_eq!((stats.sets, stats.failures), (sets, 0), "nothing was produced by its readers");
    assert_eq!(cache.invalidate_tags(["month:5"]).await.unwrap(), 1, "the tags are the request's");
    assert_eq!(cache.client().debug_check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn arguments_that_are_too_long_are_not_warmed_and_all_else_works() {
    let server = server();
    let cache = cache(&server);
    for length in [10, 70_000] {
        assert_eq!(by_text(&cache, &"x".repeat(length)).await.unwrap(), length);
        let meta = cache.client().meta(format!("export_cache:trips:{length}")).await.unwrap().unwrap();
        assert_eq!(meta.meta.is_some(), length == 10);
    }
}

#[cached(type = "trips", key = format!("export_cache:trips:{}", text.len()), warm = warm_by_text)]
async fn by_text(cache: &Cache, text: &str) -> Made<usize> {
    Ok(text.len())
}

/// Those of a function that is not registered are given back at once, and keep nothing else from being produced.
#[tokio::test]
async fn keys_that_nobody_here_makes_are_left_to_readers() {
    let server = server();
    let cache = Cache::open(config(&server).lease(LONG)).unwrap();
    for _ in 0..3 {
        often(async || nothing(&cache).await).await;
    }
    for value in ["1", "2"] {
        often(async || row::<String, 1>(&cache, value.into()).await).await;
    }
    often(async || by_text(&cache, "text").await).await;
    assert_eq!(cache.invalidate_type("trips").await.unwrap(), 4);
    let warming = warm_by_text(cache.warmer()).start().unwrap();
    all_are_there(&cache, 1).await;
    assert_eq!(nothing(&cache).await.unwrap(), 1);
    assert!(warming.stop(PATIENCE).await);
    let request = Fetch::new("export_cache:trips:4");
    assert!(cache.client().fetch(&request).await.unwrap().value.is_some());
    assert_eq!(cache.client().stats().await.unwrap().failures, 0);
}

// ---- programs that end

/// What was served stale is refreshed before a short program ends; and so is what that was served in turn.
#[tokio::test]
async fn a_short_program_refreshes_what_it_was_served_stale() {
    let server = Server::start();
    let cache = cache(&server);
    let inner = |cache: &Cache| cache.request("drivers").company(42).grace(LONG).build().unwrap();
    for plan in [request(&cache), inner(&cache)] {
        cache.put(&plan, "old").await.unwrap();
    }
    cache.purge(&Selector::new().any(["company:42"]), Purge::soft()).await.unwrap();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let produce = {
        let (cache, begun, go) = (cache.clone(), begun.clone(), go.clone());
        move || async move {
            begun.notify_one();
            go.notified().await;
            let slow = || async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Ok::<_, BoxError>("new")
            };
            let of = cache.get_or_produce(&cache.request("drivers").company(42).grace(LONG).build()?, slow).await?;
            assert_eq!(of.how(), How::Stale);
            Ok::<_, BoxError>(Export::new("new"))
        }
    };
    assert_eq!(cache.get_or_produce(&request(&cache), produce).await.unwrap().how(), How::Stale);
    begun.notified().await;
    let (ended, ()) = tokio::join!(cache.shutdown(PATIENCE), async { go.notify_one() });
    assert!(ended);
    for plan in [request(&cache), inner(&cache)] {
        let served = cache.get(&plan).await.unwrap().unwrap();
        assert_eq!((served.how(), served.payload().as_ref()), (How::Hit, &b"new"[..]));
    }
    let stats = cache.client().stats().await.unwrap();
    assert_eq!((stats.sets, stats.failures), (4, 0));
    assert_eq!(cache.client().debug_check().await.unwrap(), Vec::<String>::new());
}

/// The caller is gone before it is known whether it has the lease.
#[tokio::test]
async fn a_shutdown_waits_for_what_was_asked_for() {
    let server = Server::start();
    let cache = Cache::open(config(&server).lease(LONG)).unwrap();
    let other = client(&server);
    for _ in 0..50 {
        let (asking, plan) = (cache.clone(), request(&cache));
        let asking = tokio::spawn(async move {
            let _ = asking.get_or_produce(&plan, || async { Ok::<_, BoxError>("v") }).await;
        });
        tokio::task::yield_now().await;
        asking.abort();
        let _ = asking.await;
        assert!(cache.shutdown(PATIENCE).await);
        let fetch = Fetch::new(request(&cache).key()).lease(LONG);
        let found = other.fetch(&fetch).await.unwrap();
        assert!(found.value.is_some() || found.lease.is_some(), "it was made, or nobody has the lease: {found:?}");
        other.del(&[request(&cache).key()]).await.unwrap();
    }
}
