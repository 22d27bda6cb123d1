//! The server is away, dies, hangs, comes back: the producer is always reached, and nothing old is served after it.

use std::time::Duration;

use expcache_client::{Client, Error, How, Served, Set, Stored};
use harness::Stop;
use tokio::sync::Notify;

use super::proxy::Proxy;
use super::*;

type Made = Result<String, std::io::Error>;

/// Impatient, and with a breaker that opens soon and tries again soon.
fn hasty(server: &Server) -> Config {
    let ms = Duration::from_millis;
    config(server).timeout(ms(200)).connect_timeout(ms(500)).retries(1).breaker(3, ms(100))
}

async fn obtain(cache: &Cache, runs: &Runs) -> Served {
    let runs = runs.clone();
    let produce = move || async move { Made::Ok(format!("run {}", runs.next())) };
    cache.get_or_produce(&request(cache), produce).await.unwrap()
}

#[tokio::test]
async fn without_a_server_it_is_produced_once_and_kept_here() {
    let nobody = Config::single("redis://127.0.0.1:1/").unwrap().near_bytes(0);
    let (cache, runs) = (Cache::open(nobody).unwrap(), Runs::default());
    let asking = (0..50).map(|_| {
        let (cache, runs) = (cache.clone(), runs.clone());
        tokio::spawn(async move { obtain(&cache, &runs).await })
    });
    for task in asking.collect::<Vec<_>>() {
        let served = task.await.unwrap();
        assert_eq!((served.how(), served.payload().as_ref()), (How::Degraded, b"run 1".as_slice()));
        assert!(matches!(served.stored(), Stored::No(why) if why.is_unavailable()));
    }
    assert!(cache.get(&request(&cache)).await.is_err());

    // Whoever changes the data here is not served what was before.
    assert!(cache.invalidate_company(42).await.unwrap_err().is_unavailable());
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 2");
    assert!(cache.remove(&request(&cache)).await.is_err());
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 3");
}

#[tokio::test]
async fn what_was_invalidated_while_it_was_produced_is_not_kept() {
    let nobody = Config::single("redis://127.0.0.1:1/").unwrap().near_bytes(0);
    let (cache, begun, go) = (Cache::open(nobody).unwrap(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, held) = (begun.clone(), go.clone());
    let produce = move || async move {
        telling.notify_one();
        held.notified().await;
        Made::Ok("old".into())
    };
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_produce(&request(&cache), produce).await.unwrap() }
    });
    begun.notified().await;
    cache.invalidate_company(42).await.unwrap_err();
    go.notify_one();
    assert_eq!(first.await.unwrap().payload(), "old");
    assert_eq!(obtain(&cache, &Runs::default()).await.payload(), "run 1");
}

#[tokio::test]
async fn the_fallback_ends_with_the_lifetime_and_is_bounded_by_memory() {
    let nobody = Config::single("redis://127.0.0.1:1/").unwrap().near_bytes(0);
    let (short, runs) =
        (Cache::open(nobody.clone().fallback_lifetime(Duration::from_millis(30))).unwrap(), Runs::default());
    until("it has ended", async || obtain(&short, &runs).await.payload() == "run 3").await;
    let (none, runs) = (Cache::open(nobody.fallback_bytes(0)).unwrap(), Runs::default());
    for expected in ["run 1", "run 2"] {
        assert_eq!(obtain(&none, &runs).await.payload(), expected);
    }
}

#[tokio::test]
async fn killed_while_it_is_produced_and_back_again() {
    let mut server = Server::start();
    let (cache, runs) = (Cache::open(hasty(&server)).unwrap(), Runs::default());
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, held) = (begun.clone(), go.clone());
    let produce = move || async move {
        telling.notify_one();
        held.notified().await;
        Made::Ok("in the middle".into())
    };
    let asking = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_produce(&request(&cache), produce).await.unwrap() }
    });
    begun.notified().await;
    server.restart(Stop::Kill);
    go.notify_one();
    let served = asking.await.unwrap();
    assert_eq!((served.how(), served.payload().as_ref()), (How::Produced, b"in the middle".as_slice()));
    assert!(matches!(served.stored(), Stored::No(Error::LeaseLost)), "{served:?}");
    until("the cache works again", async || obtain(&cache, &runs).await.how() == How::Hit).await;
}

#[tokio::test]
async fn what_was_kept_here_is_forgotten_when_the_server_is_back() {
    let mut server = Server::start();
    let (cache, runs) = (Cache::open(hasty(&server)).unwrap(), Runs::default());
    assert_eq!(obtain(&cache, &runs).await.how(), How::Produced);
    let frozen = Frozen::new(&server);
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 2");
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 2", "kept");
    drop(frozen);
    let plan = request(&cache);
    until("the server is asked again", async || cache.get(&plan).await.is_ok()).await;
    // Another process, which knows only the server.
    client(&server).invalidate_tags(["company:42"]).await.unwrap();
    server.restart(Stop::Kill);
    let frozen = Frozen::new(&server);
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 3", "not that of the first time it was away");
    drop(frozen);
}

#[tokio::test]
async fn a_hanging_server_costs_a_few_timeouts_and_then_nothing() {
    let server = Server::start();
    let cache = Cache::open(hasty(&server).breaker(3, Duration::from_secs(600)).fallback_bytes(0)).unwrap();
    let runs = Runs::default();
    obtain(&cache, &runs).await;
    let _frozen = Frozen::new(&server);
    until("it is left alone", async || matches!(obtain(&cache, &runs).await.stored(), Stored::No(Error::CircuitOpen)))
        .await;
    let open = cache.client().get("k").await.unwrap_err();
    assert!(matches!(open, Error::CircuitOpen), "{open:?}");
    assert!(runs.count() <= 6, "{} requests had to wait", runs.count());
}

#[tokio::test]
async fn after_a_pause_one_command_tries() {
    let server = Server::start();
    let (cache, runs) = (Cache::open(hasty(&server)).unwrap(), Runs::default());
    obtain(&cache, &runs).await;
    let frozen = Frozen::new(&server);
    until("the circuit is open", async || matches!(cache.client().get("k").await, Err(Error::CircuitOpen))).await;
    drop(frozen);
    until("it is closed", async || cache.client().get("k").await.is_ok()).await;
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 1", "it had not died");
}

#[tokio::test]
async fn whoever_waits_for_another_when_the_server_dies_produces() {
    let mut server = Server::start();
    let (cache, runs) = (Cache::open(hasty(&server)).unwrap(), Runs::default());
    let lease = expcache_client::Fetch::new(request(&cache).key()).lease(Duration::from_secs(600));
    cache.client().fetch(&lease).await.unwrap().lease.unwrap();
    let waiting = tokio::spawn({
        let (cache, runs) = (cache.clone(), runs.clone());
        async move { obtain(&cache, &runs).await }
    });
    let client = client(&server);
    until("it waits", async || client.stats().await.unwrap().waits == 1).await;
    server.restart(Stop::Kill);
    assert_eq!(waiting.await.unwrap().payload(), "run 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_under_load() {
    let mut server = Server::with(&["--appendonly", "yes"]);
    let (cache, runs) = (Cache::open(hasty(&server)).unwrap(), Runs::default());
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking: Vec<_> = (0..8)
        .map(|n| {
            let (cache, runs, over) = (cache.clone(), runs.clone(), over.clone());
            tokio::spawn(async move {
                let mut answers = 0;
                while !over.load(Ordering::SeqCst) {
                    let request = cache.request("trips").company(n % 4).field("n", answers % 3).build().unwrap();
                    let runs = runs.clone();
                    let produce = move || async move { Made::Ok(format!("{}", runs.next())) };
                    let served = cache.get_or_produce(&request, produce).await.unwrap();
                    assert!(!served.payload().is_empty());
                    if answers % 10 == 0 {
                        // It may fail: the server is killed all the time.
                        let _ = cache.invalidate_company(n % 4).await;
                    }
                    answers += 1;
                    tokio::task::yield_now().await;
                }
                answers
            })
        })
        .collect();
    for _ in 0..5 {
        let before = runs.count();
        until("they go on", async || runs.count() > before + 20).await;
        tokio::task::block_in_place(|| server.restart(Stop::Kill));
    }
    over.store(true, Ordering::SeqCst);
    for task in asking {
        assert!(task.await.unwrap() > 0);
    }
    let client = client(&server);
    assert_eq!(client.debug_check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_under_way_is_waited_for_as_long_as_the_server_lives() {
    let server = Server::start();
    let large = vec![b'x'; 16 << 20];
    client(&server).set(&Set::new("k", large.clone())).await.unwrap();
    let proxy = Proxy::slow(&server).await;
    let slow = Config::single(proxy.address()).unwrap().timeout(Duration::from_millis(300));
    let patient = Client::open(slow.clone()).unwrap();
    let since = Instant::now();
    assert_eq!(patient.get("k").await.unwrap().unwrap().len(), large.len());
    assert!(since.elapsed() > Duration::from_millis(300), "it was too quick to show anything");

    // Unless it takes longer than a transfer may.
    let hasty = Client::open(slow.transfer_timeout(Duration::from_millis(400))).unwrap();
    assert!(matches!(hasty.get("k").await, Err(Error::Timeout)));
}
