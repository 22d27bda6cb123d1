//! `get_or_produce`: once, whoever asks; and what becomes of it.

use std::io;
use std::time::Duration;

use expcache_client::{Compression, Encoding, Error, Export, How, Purge, Release, Selector, Served, Set, Stored};
use tokio::sync::Notify;

use super::*;

type Made = Result<&'static str, io::Error>;

async fn obtain(cache: &Cache, value: &'static str) -> Served {
    cache.get_or_produce(&request(cache), move || async move { Made::Ok(value) }).await.unwrap()
}

fn failure() -> Made {
    Err(io::Error::other("no database"))
}

/// Who does not wait for other processes shares what his own produces; and who waits for one that hangs does not for ever.
#[tokio::test]
async fn the_impatient_of_a_process_produce_once_together() {
    let (server, runs) = (Server::start(), Runs::default());
    let lease = Duration::from_millis(1500);
    let config = config(&server).patience(Duration::ZERO).lease(lease);
    let cache = Cache::open(config).unwrap();
    let hung = tokio::spawn({
        let cache = cache.clone();
        async move {
            let never = || std::future::pending::<Result<&'static str, std::io::Error>>();
            cache.get_or_produce(&request(&cache), never).await
        }
    });
    let c = client(&server);
    until("one produces, and hangs", async || c.stats().await.unwrap().leases == 1).await;
    let go = Arc::new(Notify::new());
    let asking = (0..30).map(|_| {
        let (cache, runs, go) = (cache.clone(), runs.clone(), go.clone());
        tokio::spawn(async move {
            let produce = move || async move {
                runs.next();
                go.notified().await;
                Ok::<_, std::io::Error>("v")
            };
            cache.get_or_produce(&request(&cache), produce).await
        })
    });
    let asking: Vec<_> = asking.collect();
    until("all have asked", async || c.stats().await.unwrap().misses == 31).await;
    // Their patience ends after twice the lease, one after the other; what they make together is not ready before.
    tokio::time::sleep(3 * lease).await;
    go.notify_one();
    for task in asking {
        assert_eq!(task.await.unwrap().unwrap().payload(), "v");
    }
    assert_eq!(runs.count(), 1);
    hung.abort();
}

/// Whatever the tasks are at when their runtime goes.
#[test]
fn a_runtime_that_goes_is_not_held_up() {
    let server = Server::start();
    for _ in 0..10 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let cache = cache(&server);
            for n in 0..100 {
                let cache = cache.clone();
                tokio::spawn(async move {
                    let request = cache.request("trips").field("n", n).build().unwrap();
                    let _ = cache.get_or_produce(&request, || async { Ok::<_, std::io::Error>("v") }).await;
                });
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(runtime);
            sender.send(())
        });
        receiver.recv_timeout(PATIENCE).expect("the runtime ends");
    }
}

#[tokio::test]
async fn a_miss_is_produced_and_then_hit() {
    let server = Server::start();
    let cache = cache(&server);
    let request =
        cache.request("trips").format("csv").company(42).object(9).ttl(Duration::from_secs(100)).build().unwrap();
    let produce = || async { Export::csv([("a", 1), ("b", 2)]).map(|export| export.tag("late").meta("{}")) };
    let made = cache.get_or_produce(&request, produce).await.unwrap();
    assert_eq!(made.how(), How::Produced);
    assert!(matches!(made.stored(), Stored::Yes));

    let hit = cache.get_or_produce(&request, produce).await.unwrap();
    assert_eq!((hit.how(), hit.payload(), hit.etag()), (How::Hit, made.payload(), made.etag()));
    assert_eq!((hit.format(), hit.records(), hit.meta()), (Some(b"csv".as_slice()), Some(2), Some(b"{}".as_slice())));
    let meta = cache.client().meta(request.key()).await.unwrap().unwrap();
    let mut tags = meta.tags.clone();
    tags.sort();
    assert_eq!(tags, ["company:42", "late", "object:9"]);
    assert!(meta.cost.is_some(), "measured by the lease");
    assert!(meta.ttl_ms.is_some_and(|ms| ms <= 100_000));

    assert_eq!(cache.invalidate_object(9).await.unwrap(), 1);
    assert!(cache.get(&request).await.unwrap().is_none());
    cache.put(&request, "put").await.unwrap();
    assert_eq!(cache.get(&request).await.unwrap().unwrap().payload(), "put");
    assert!(cache.remove(&request).await.unwrap());
    assert!(!cache.remove(&request).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_one_production() {
    let server = Server::start();
    let (caches, runs, go) = ([cache(&server), cache(&server)], Runs::default(), Arc::new(Notify::new()));
    let asking: Vec<_> = (0..200)
        .map(|n| {
            let (cache, runs, go) = (caches[n % 2].clone(), runs.clone(), go.clone());
            tokio::spawn(async move {
                let produce = move || async move {
                    runs.next();
                    go.notified().await;
                    Made::Ok("v")
                };
                cache.get_or_produce(&request(&cache), produce).await.unwrap()
            })
        })
        .collect();
    let client = caches[0].client();
    // Everybody has asked, and one of the other process waits for all of its own.
    until("all have asked", async || client.stats().await.unwrap().misses >= 200).await;
    go.notify_one();
    let mut produced = 0;
    for task in asking {
        let served = task.await.unwrap();
        assert_eq!(served.payload(), "v");
        // Who was slow to begin to wait finds it there.
        assert!(matches!(served.how(), How::Produced | How::Waited | How::Hit), "{served:?}");
        produced += usize::from(served.how() == How::Produced);
    }
    assert_eq!((produced, runs.count()), (1, 1));
    assert_eq!(client.stats().await.unwrap().sets, 1);
}

#[tokio::test]
async fn stale_is_served_at_once_and_refreshed_behind() {
    let server = Server::start();
    let (cache, go) = (cache(&server), Arc::new(Notify::new()));
    obtain(&cache, "old").await;
    cache.purge(&Selector::new().any(["company:42"]), Purge::soft()).await.unwrap();
    let held = go.clone();
    let produce = move || async move {
        held.notified().await;
        Made::Ok("new")
    };
    let served = cache.get_or_produce(&request(&cache), produce).await.unwrap();
    assert_eq!((served.how(), served.payload().as_ref()), (How::Stale, b"old".as_slice()));
    let other = obtain(&cache, "not needed").await;
    assert_eq!((other.how(), other.payload().as_ref()), (How::Stale, b"old".as_slice()));
    go.notify_one();
    until("the new one is there", async || obtain(&cache, "not needed").await.how() == How::Hit).await;
    assert_eq!(obtain(&cache, "not needed").await.payload(), "new");
}

#[tokio::test]
async fn an_older_one_than_asked_for_is_stale() {
    let server = Server::start();
    let cache = cache(&server);
    obtain(&cache, "old").await;
    let plain = request(&cache);
    let young = cache.request("trips").company(42).user(7).max_age(Duration::ZERO).build().unwrap();
    assert_eq!(plain.key(), young.key());
    until("it is older than nothing", async || cache.get(&young).await.unwrap().unwrap().how() == How::Stale).await;
    assert_eq!(cache.get(&plain).await.unwrap().unwrap().how(), How::Hit);
}

#[tokio::test]
async fn fenced_is_for_its_caller_only() {
    let server = Server::start();
    let (cache, runs) = (cache(&server), Runs::default());
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ask = |cache: Cache| {
        let (runs, begun, go) = (runs.clone(), begun.clone(), go.clone());
        tokio::spawn(async move {
            let produce = move || async move {
                let run = runs.next();
                if run == 1 {
                    begun.notify_one();
                    go.notified().await;
                }
                Ok::<_, io::Error>(format!("run {run}"))
            };
            cache.get_or_produce(&request(&cache), produce).await.unwrap()
        })
    };
    let first = ask(cache.clone());
    begun.notified().await;
    assert_eq!(cache.client().invalidate_tags(["company:42"]).await.unwrap(), 0);
    // After the invalidation: this one must not be given what was computed before it.
    let second = ask(cache.clone());
    let client = cache.client();
    until("it has asked", async || client.stats().await.unwrap().misses >= 2).await;
    go.notify_one();

    let first = first.await.unwrap();
    assert_eq!((first.how(), first.payload().as_ref()), (How::Produced, b"run 1".as_slice()));
    assert!(matches!(first.stored(), Stored::No(Error::Fenced)), "{first:?}");
    assert_eq!(second.await.unwrap().payload(), "run 2");
    assert_eq!(cache.get(&request(&cache)).await.unwrap().unwrap().payload(), "run 2");
}

#[tokio::test]
async fn a_failure_is_everybodys_and_is_not_tried_again_at_once() {
    let server = Server::start();
    let config = config(&server).backoff(Duration::from_secs(60), Duration::from_secs(60));
    let [here, there] = [(); 2].map(|()| Cache::open(config.clone()).unwrap());
    let runs = Runs::default();
    let fail = |cache: &Cache| {
        let (cache, runs) = (cache.clone(), runs.clone());
        async move {
            let produce = move || async move {
                runs.next();
                failure()
            };
            cache.get_or_produce(&request(&cache), produce).await.unwrap_err()
        }
    };
    assert_eq!(fail(&here).await.to_string(), "production failed: no database");
    assert!(matches!(fail(&here).await, Error::Producer(_)), "the same error, without trying");
    assert_eq!(runs.count(), 1);
    // Another process cannot know the error; it tries for itself, once, without a lease.
    assert!(matches!(fail(&there).await, Error::Producer(_)));
    assert!(matches!(fail(&there).await, Error::Producer(_)));
    assert_eq!(runs.count(), 2);
    assert_eq!(here.client().stats().await.unwrap().failures, 1);
}

/// One process failed; nobody is given the lease for a while. Another may know better.
#[tokio::test]
async fn what_is_made_without_a_lease_is_kept_for_a_moment() {
    let server = Server::start();
    let moment = Duration::from_secs(1);
    let config = Config::single(address(&server)).unwrap().backoff(PATIENCE, PATIENCE).near_lifetime(moment);
    let [here, there, strict] =
        [config.clone(), config.clone(), config.near_bytes(0)].map(|config| Cache::open(config).unwrap());
    assert!(here.get_or_produce(&request(&here), || async { failure() }).await.is_err());

    let runs = Runs::default();
    let make = async |cache: &Cache| {
        let runs = runs.clone();
        let produce = move || async move { Ok::<_, io::Error>(format!("run {}", runs.next())) };
        let served = cache.get_or_produce(&request(cache), produce).await.unwrap();
        assert!(matches!(served.stored(), Stored::No(Error::NoLease)), "{served:?}");
        assert!(matches!(served.how(), How::Alone | How::Kept), "{served:?}");
        String::from_utf8(served.payload().to_vec()).unwrap()
    };
    let asking: Vec<_> = futures_util::future::join_all((0..20).map(|_| make(&there))).await;
    assert!(asking.iter().all(|made| made == "run 1"), "{asking:?}");
    until("the moment is over", async || make(&there).await == "run 2").await;
    there.invalidate_company(42).await.unwrap();
    assert_eq!(make(&there).await, "run 3", "it was invalidated here");

    // Who keeps nothing near is not to be served what others may have invalidated.
    assert_eq!(make(&strict).await, "run 4");
    assert_eq!(make(&strict).await, "run 5");
}

/// Longer than clocks and servers count, or shorter.
#[tokio::test]
async fn any_duration_will_do() {
    let server = Server::start();
    let longest = Duration::MAX;
    let config = config(&server)
        .connect_timeout(longest)
        .timeout(longest)
        .transfer_timeout(longest)
        .breaker(1, longest)
        .near_lifetime(longest)
        .fallback_lifetime(longest)
        .lease(longest)
        .patience(longest)
        .backoff(longest, longest);
    let cache = Cache::open(config.clone()).unwrap();
    let forever = cache.request("trips").field("n", 1);
    let forever =
        forever.ttl(longest).grace(longest).max_age(longest).lease(longest).patience(longest).build().unwrap();
    let make = async |request: &Request| {
        let served = cache.get_or_produce(request, || async { Made::Ok("v") }).await.unwrap();
        assert!(matches!(served.stored(), Stored::Yes | Stored::Before), "{served:?}");
        served.how()
    };
    assert_eq!((make(&forever).await, make(&forever).await), (How::Produced, How::Hit));
    let failing = cache.request("trips").field("n", 2).build().unwrap();
    assert!(cache.get_or_produce(&failing, || async { failure() }).await.is_err());
    let fetch = expcache_client::Fetch::new("k").lease(Duration::from_secs(1)).wait(longest);
    assert!(cache.client().fetch(&fetch).await.unwrap().lease.is_some());

    // Somebody has to be waited for.
    let waited = cache.request("trips").field("n", 3).build().unwrap();
    let fetch = expcache_client::Fetch::new(waited.key()).lease(PATIENCE);
    let token = cache.client().fetch(&fetch).await.unwrap().lease.unwrap();
    let storing = async {
        until("it is waited for", async || cache.client().stats().await.unwrap().waits == 1).await;
        cache.client().set(&Set::new(waited.key(), "by another").lease(token)).await.unwrap();
    };
    assert_eq!(tokio::join!(make(&waited), storing).0, How::Waited);

    let tiny = Duration::from_micros(900);
    let shortest = cache.request("trips").field("n", 4).ttl(tiny).max_age(tiny).lease(Duration::ZERO).build().unwrap();
    assert_eq!(make(&shortest).await, How::Produced);

    let nobody = Config::single("redis://127.0.0.1:1/").unwrap().fallback_lifetime(longest).breaker(1, longest);
    let cache = Cache::open(nobody.near_bytes(0)).unwrap();
    for how in [How::Degraded, How::Kept] {
        let served = cache.get_or_produce(&forever, || async { Made::Ok("v") }).await.unwrap();
        assert_eq!(served.how(), how);
    }
}

#[tokio::test]
async fn after_the_pause_it_is_tried_again() {
    let server = Server::start();
    let config = config(&server).backoff(Duration::from_millis(20), Duration::from_millis(40));
    let (cache, runs) = (Cache::open(config).unwrap(), Runs::default());
    until("it succeeds", async || {
        let runs = runs.clone();
        let produce = move || async move { if runs.next() < 4 { failure() } else { Made::Ok("at last") } };
        let result = cache.get_or_produce(&request(&cache), produce).await;
        result.is_ok_and(|served| served.payload() == "at last" && matches!(served.stored(), Stored::Yes))
    })
    .await;
    assert_eq!(cache.client().stats().await.unwrap().failures, 3);
}

#[tokio::test]
async fn a_failed_refresh_leaves_the_stale_one() {
    let server = Server::start();
    let cache = cache(&server);
    obtain(&cache, "old").await;
    cache.purge(&Selector::new().any(["company:42"]), Purge::soft()).await.unwrap();
    let served = cache.get_or_produce(&request(&cache), || async { failure() }).await.unwrap();
    assert_eq!(served.payload(), "old");
    let client = cache.client();
    until("the failure is known", async || client.stats().await.unwrap().failures == 1).await;
    assert_eq!(obtain(&cache, "not tried").await.payload(), "old");
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let server = Server::start();
    let cache = cache(&server);
    let produce = || async { if true { panic!("on purpose") } else { Made::Ok("") } };
    let error = cache.get_or_produce(&request(&cache), produce).await.unwrap_err();
    assert!(matches!(&error, Error::Producer(why) if why.to_string().contains("panicked")), "{error:?}");
    assert_eq!(cache.client().stats().await.unwrap().failures, 1);
}

#[tokio::test]
async fn a_slow_producer_keeps_its_lease() {
    let server = Server::start();
    let cache = Cache::open(config(&server).lease(Duration::from_secs(2))).unwrap();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, held) = (begun.clone(), go.clone());
    let produce = move || async move {
        telling.notify_one();
        held.notified().await;
        Made::Ok("slow")
    };
    let asking = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_produce(&request(&cache), produce).await.unwrap() }
    });
    begun.notified().await;
    let since = Instant::now();
    // Twice the lease: somebody else never gets it.
    while since.elapsed() < Duration::from_secs(4) {
        let fetch = expcache_client::Fetch::new(request(&cache).key()).lease(Duration::from_secs(1));
        assert_eq!(cache.client().fetch(&fetch).await.unwrap().lease, None);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    go.notify_one();
    assert!(matches!(asking.await.unwrap().stored(), Stored::Yes));
}

#[tokio::test]
async fn it_goes_on_when_its_caller_is_dropped() {
    let server = Server::start();
    let cache = cache(&server);
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, held) = (begun.clone(), go.clone());
    let produce = move || async move {
        telling.notify_one();
        held.notified().await;
        Made::Ok("for the others")
    };
    let plan = request(&cache);
    let mut asking = Box::pin(cache.get_or_produce(&plan, produce));
    tokio::select! {
        _ = &mut asking => panic!("it cannot be ready"),
        () = begun.notified() => {}
    }
    drop(asking);
    go.notify_one();
    assert_eq!(obtain(&cache, "another").await.payload(), "for the others");
}

#[tokio::test]
async fn a_lease_whose_caller_was_dropped_is_released() {
    let server = Server::start();
    let cache = Cache::open(config(&server).lease(Duration::from_secs(600)).timeout(Duration::from_secs(30))).unwrap();
    // Connected, so that what follows is one command.
    cache.client().get("k").await.unwrap();
    cache.client().get("k").await.unwrap();
    let frozen = Frozen::new(&server);
    let plan = request(&cache);
    let asking = cache.get_or_produce(&plan, || async { Made::Ok("never") });
    assert!(tokio::time::timeout(Duration::from_millis(50), asking).await.is_err());
    drop(frozen);
    // Else this would wait ten minutes.
    let patient = cache.request("trips").company(42).user(7).patience(PATIENCE).build().unwrap();
    let served = cache.get_or_produce(&patient, || async { Made::Ok("v") }).await.unwrap();
    assert_eq!(served.how(), How::Produced);
}

#[tokio::test]
async fn patience_ends_and_the_producer_is_reached() {
    let server = Server::start();
    let cache = Cache::open(config(&server).patience(Duration::from_millis(100))).unwrap();
    let plan = request(&cache);
    let lease = expcache_client::Fetch::new(plan.key()).lease(Duration::from_secs(600));
    let token = cache.client().fetch(&lease).await.unwrap().lease.unwrap();
    let served = obtain(&cache, "for myself").await;
    assert_eq!((served.how(), served.payload().as_ref()), (How::Alone, b"for myself".as_slice()));
    assert!(cache.get(&plan).await.unwrap().is_none(), "it is not stored");

    let waiting = tokio::spawn({
        let plan = cache.request("trips").company(42).user(7).patience(PATIENCE).build().unwrap();
        let cache = cache.clone();
        async move { cache.get_or_produce(&plan, || async { Made::Ok("no") }).await.unwrap() }
    });
    cache.client().set(&Set::new(plan.key(), "by another").lease(token)).await.unwrap();
    assert_eq!(waiting.await.unwrap().payload(), "by another");
}

#[tokio::test]
async fn a_waiter_takes_over_from_one_who_gives_up() {
    let server = Server::start();
    let cache = cache(&server);
    let plan = request(&cache);
    let lease = expcache_client::Fetch::new(plan.key()).lease(Duration::from_secs(600));
    let token = cache.client().fetch(&lease).await.unwrap().lease.unwrap();
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { obtain(&cache, "taken over").await }
    });
    let client = cache.client();
    until("it waits", async || client.stats().await.unwrap().waits == 1).await;
    client.release(plan.key(), &token, &Release::unused()).await.unwrap();
    let served = waiting.await.unwrap();
    assert_eq!((served.payload().as_ref(), served.how()), (b"taken over".as_slice(), How::Produced));
}

#[tokio::test]
async fn what_its_type_refuses_is_returned_all_the_same() {
    let server = Server::start();
    let cache = cache(&server);
    let small = expcache_client::Policy { max_value: Some(2), ..Default::default() };
    cache.client().set_type("trips", &small).await.unwrap();
    let served = obtain(&cache, "too long").await;
    assert_eq!((served.how(), served.payload().as_ref()), (How::Produced, b"too long".as_slice()));
    assert!(matches!(served.stored(), Stored::No(Error::TooLarge)));
    assert_eq!(obtain(&cache, "ok").await.how(), How::Produced, "the lease was given back");
}

#[tokio::test]
async fn typed_values() {
    let server = Server::start();
    let cache = cache(&server);
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug, Clone)]
    struct Trip {
        from: String,
        km: f64,
    }
    let trips = vec![Trip { from: "Köln, \"Dom\"".into(), km: 0.5 }, Trip { from: "line\nbreak".into(), km: 1e9 }];
    for format in ["json", "csv"] {
        let request = cache.request("trips").format(format).build().unwrap();
        for _ in 0..2 {
            let made = trips.clone();
            let produce =
                move || async move { if format == "json" { Export::json(&made) } else { Export::csv(&made) } };
            let served = cache.get_or_produce(&request, produce).await.unwrap();
            let read: Vec<Trip> = if format == "json" { served.json().unwrap() } else { served.csv().unwrap() };
            assert_eq!(read, trips);
        }
    }
    let nonsense = cache.request("trips").field("x", 1).build().unwrap();
    let served = cache.get_or_produce(&nonsense, || async { Made::Ok("no json") }).await.unwrap();
    assert!(matches!(served.json::<Vec<Trip>>(), Err(Error::Payload(_))));
}

#[tokio::test]
async fn large_ones_travel_compressed() {
    let server = Server::start();
    let rows = bytes::Bytes::from("id,km\n".repeat(100_000));
    for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Lz4] {
        let cache = Cache::open(config(&server).compression(Compression::from_bytes(1000, encoding))).unwrap();
        let plan = cache.request("trips").format("csv").field("encoding", encoding.name()).build().unwrap();
        let made = rows.clone();
        let served = cache.get_or_produce(&plan, move || async move { Ok::<_, io::Error>(made) }).await.unwrap();
        assert!(matches!(served.stored(), Stored::Yes), "{served:?}");
        let meta = cache.client().meta(plan.key()).await.unwrap().unwrap();
        assert_eq!((meta.size, meta.encoding, meta.etag.as_str()), (rows.len() as u64, encoding, served.etag()));
        assert!(meta.stored < meta.size / 10);

        let hit = cache.get(&plan).await.unwrap().unwrap();
        assert_eq!((hit.payload(), hit.etag()), (&rows, served.etag()));
        let plain = Cache::open(config(&server).accept(&[])).unwrap();
        assert_eq!(plain.get(&plan).await.unwrap().unwrap().payload(), &rows);
        let raw = expcache_client::Fetch::new(plan.key()).accept(&[encoding]).verify();
        let raw = cache.client().fetch(&raw).await.unwrap();
        assert_eq!((raw.encoding, raw.value.unwrap().len() as u64), (encoding, meta.stored));
    }
}

/// A server refuses what decodes to a multiple out of all proportion.
#[tokio::test]
async fn what_repeats_itself_is_stored_too() {
    let server = Server::start();
    let rows = bytes::Bytes::from("id,km\n".repeat(400_000));
    for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Lz4] {
        let cache = Cache::open(config(&server).compression(Compression::from_bytes(1000, encoding))).unwrap();
        let plan = cache.request("trips").format("csv").field("encoding", encoding.name()).build().unwrap();
        let made = rows.clone();
        let served = cache.get_or_produce(&plan, move || async move { Ok::<_, io::Error>(made) }).await.unwrap();
        assert!(matches!(served.stored(), Stored::Yes), "{served:?}");
        assert_eq!(cache.get(&plan).await.unwrap().unwrap().payload(), &rows);
    }
}

/// Readers that join one another while another process changes the data: whoever asks after an invalidation gets what was
/// computed after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_given_what_was_invalidated_before_he_asked() {
    async fn read(cache: &Cache, version: &Runs) -> usize {
        let now = version.clone();
        let produce = move || async move { Ok::<_, io::Error>(now.count().to_string()) };
        let served = cache.get_or_produce(&request(cache), produce).await.unwrap();
        String::from_utf8(served.payload().to_vec()).unwrap().parse().unwrap()
    }
    let server = Server::start();
    let caches = [cache(&server), cache(&server)];
    let (version, over) = (Runs::default(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let readers: Vec<_> = (0..8)
        .map(|n| {
            let (cache, version, over) = (caches[n % 2].clone(), version.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let before = version.count();
                    // A change is told to the server a moment later, so the one before is still good.
                    assert!(read(&cache, &version).await + 1 >= before);
                }
            })
        })
        .collect();
    let writer = client(&server);
    for _ in 0..1200 {
        let change = version.next();
        writer.invalidate_tags(["company:42"]).await.unwrap();
        let [first, second] = &caches;
        let (first, second) = tokio::join!(read(first, &version), read(second, &version));
        assert_eq!((first, second), (change, change));
    }
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[derive(Default)]
struct Told(std::sync::Mutex<Vec<String>>);

impl expcache_client::Observer for Told {
    fn served(&self, type_name: &[u8], how: How, _took: Duration) {
        self.0.lock().unwrap().push(format!("served {} {how:?}", type_name.escape_ascii()));
    }

    fn produced(&self, _type_name: &[u8], _took: Duration, succeeded: bool) {
        self.0.lock().unwrap().push(format!("produced {succeeded}"));
    }

    fn not_stored(&self, _type_name: &[u8], why: &Error) {
        self.0.lock().unwrap().push(format!("not stored {why:?}"));
    }

    fn unavailable(&self, command: &str, _why: &Error) {
        self.0.lock().unwrap().push(format!("unavailable {command}"));
    }
}

#[tokio::test]
async fn an_observer_is_told() {
    let (server, told) = (Server::start(), Arc::new(Told::default()));
    let cache = Cache::open(config(&server).observer(told.clone()).retries(0)).unwrap();
    obtain(&cache, "v").await;
    obtain(&cache, "v").await;
    let small = expcache_client::Policy { max_value: Some(2), ..Default::default() };
    cache.client().set_type("trips", &small).await.unwrap();
    cache.clear().await.unwrap();
    obtain(&cache, "too long").await;
    drop(server);
    obtain(&cache, "v").await;
    let expected = [
        "produced true",
        "served trips Produced",
        "served trips Hit",
        "produced true",
        "not stored TooLarge",
        "served trips Produced",
        "unavailable EXPCACHE.FETCH",
        "produced true",
        "served trips Degraded",
    ];
    assert_eq!(*told.0.lock().unwrap(), expected);
}
