//! What goes wrong around a production, and must cost nobody else anything: producers that block, hang, ask for themselves or die;
//! replies that are lost; connections that were closed; links that are slow.

use std::io;

use expcache_client::{Error, Fetch, How, Policy, Release, Served, Set, Stored};
use harness::Stop;
use tokio::sync::Notify;

use super::proxy::Proxy;
use super::*;

type Made = Result<String, io::Error>;

/// Longer than any test would wait for a lease to end by itself.
const LONG: Duration = Duration::from_secs(600);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

async fn obtain(cache: &Cache, runs: &Runs) -> Served {
    let runs = runs.clone();
    let produce = move || async move { Made::Ok(format!("run {}", runs.next())) };
    cache.get_or_produce(&request(cache), produce).await.unwrap()
}

/// The lease of the key, as another process is given it.
async fn lease(client: &Client, cache: &Cache, time: Duration) -> Option<String> {
    client.fetch(&Fetch::new(request(cache).key()).lease(time)).await.unwrap().lease
}

async fn until_the_lease_is_free(server: &Server, cache: &Cache) {
    let other = client(server);
    until("another is given the lease", async || lease(&other, cache, LONG).await.is_some()).await;
}

#[tokio::test]
async fn what_was_made_without_a_lease_never_wins_over_one() {
    let server = Server::start();
    let near = Config::single(address(&server)).unwrap().near_lifetime(LONG).patience(ms(50));
    let (cache, runs, other) = (Cache::open(near).unwrap(), Runs::default(), client(&server));
    let token = lease(&other, &cache, LONG).await.unwrap();
    let made = obtain(&cache, &runs).await;
    assert_eq!((made.how(), made.payload().as_ref()), (How::Alone, b"run 1".as_slice()));
    other.invalidate_tags(["company:42"]).await.unwrap();
    other.release(request(&cache).key(), &token, &Release::unused()).await.unwrap();
    let made = obtain(&cache, &runs).await;
    assert_eq!((made.how(), made.payload().as_ref()), (How::Produced, b"run 2".as_slice()));
    assert!(matches!(made.stored(), Stored::Yes), "{made:?}");
}

#[tokio::test]
async fn a_wait_that_ends_with_nothing_is_asked_again() {
    let server = Server::start();
    let (cache, runs, other) = (cache(&server), Runs::default(), client(&server));
    lease(&other, &cache, LONG).await.unwrap();
    let waiting = tokio::spawn({
        let (cache, runs) = (cache.clone(), runs.clone());
        async move { obtain(&cache, &runs).await }
    });
    until("it waits", async || other.stats().await.unwrap().waits == 1).await;
    server.conn().cmd("FLUSHALL");
    let served = waiting.await.unwrap();
    assert!(matches!((served.how(), served.stored()), (How::Produced, Stored::Yes)), "{served:?}");
}

/// With one thread, which the producer keeps busy for twice the lease, and with two.
#[test]
fn a_producer_that_blocks_its_thread_keeps_its_lease() {
    let server = Server::start();
    for workers in [0, 2] {
        let runtime = match workers {
            0 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
            _ => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
        };
        runtime.unwrap().block_on(async {
            let cache = Cache::open(config(&server).lease(ms(1500)).store_wait(PATIENCE)).unwrap();
            let plan = cache.request("trips").field("workers", workers).build().unwrap();
            let produce = || async {
                std::thread::sleep(ms(3000));
                Ok::<_, io::Error>("v")
            };
            let served = cache.get_or_produce(&plan, produce).await.unwrap();
            assert!(matches!(served.stored(), Stored::Yes), "{workers}: {served:?}");
        });
    }
}

#[tokio::test]
async fn a_producer_that_blocks_has_a_thread_for_it() {
    let server = Server::start();
    let cache = Cache::open(config(&server).store_wait(PATIENCE)).unwrap();
    let (begin, begun) = std::sync::mpsc::channel::<()>();
    let produce = move || begun.recv().map(|()| "v");
    let plan = request(&cache);
    // The only thread of this runtime is free to let the producer go on.
    let (served, ()) = tokio::join!(cache.get_or_produce_blocking(&plan, produce), async { begin.send(()).unwrap() });
    assert!(matches!(served.unwrap().stored(), Stored::Yes));

    let fails = cache.request("trips").field("n", 2).build().unwrap();
    let panics = || if true { panic!("on purpose") } else { Ok::<_, io::Error>("") };
    let error = cache.get_or_produce_blocking(&fails, panics).await.unwrap_err().to_string();
    assert!(error.contains("on purpose"), "{error}");
}

#[test]
fn a_runtime_that_goes_takes_its_leases_with_it() {
    let server = Server::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cache = runtime.block_on(async {
        let cache = Cache::open(config(&server).lease(LONG)).unwrap();
        let begun = Arc::new(Notify::new());
        let (asking, telling) = (cache.clone(), begun.clone());
        tokio::spawn(async move {
            let produce = move || async move {
                telling.notify_one();
                std::future::pending::<Made>().await
            };
            asking.get_or_produce(&request(&asking), produce).await
        });
        begun.notified().await;
        cache
    });
    drop(runtime);
    tokio::runtime::Runtime::new().unwrap().block_on(until_the_lease_is_free(&server, &cache));
}

#[tokio::test]
async fn a_lease_whose_reply_was_lost_is_given_back() {
    let server = Server::start();
    let (cache, runs) = (Cache::open(config(&server).lease(LONG).timeout(ms(600))).unwrap(), Runs::default());
    cache.client().get("k").await.unwrap();
    let frozen = Frozen::new(&server);
    assert_eq!(obtain(&cache, &runs).await.how(), How::Degraded);
    drop(frozen);
    until_the_lease_is_free(&server, &cache).await;
}

#[tokio::test]
async fn a_production_that_takes_too_long_has_failed() {
    let server = Server::start();
    let hasty = Cache::open(config(&server).produce_timeout(ms(50))).unwrap();
    let patient = cache(&server);
    let plain = request(&hasty);
    let own = patient.request("trips").field("n", 2).produce_timeout(ms(50)).build().unwrap();
    for (cache, plan) in [(&hasty, &plain), (&patient, &own)] {
        let hangs = || std::future::pending::<Made>();
        let asking = tokio::time::timeout(PATIENCE, cache.get_or_produce(plan, hangs));
        let error = asking.await.expect("it ends").unwrap_err();
        assert!(matches!(&error, Error::Producer(why) if why.to_string().contains("longer than")), "{error:?}");
    }
    assert_eq!(client(&server).stats().await.unwrap().failures, 2, "the leases were released as failed");
}

/// Whose thread is blocked cannot give up; the lease ends all the same.
#[tokio::test]
async fn a_blocked_production_loses_its_lease_when_it_takes_too_long() {
    let server = Server::start();
    let cache = Cache::open(config(&server).produce_timeout(ms(50)).lease(ms(1500))).unwrap();
    let (plan, mut other) = (request(&cache), server.conn());
    let ask = format!("EXPCACHE.FETCH {} LEASE 10m", String::from_utf8_lossy(plan.key()));
    let blocks = move || async move {
        harness::wait_until("another is given the lease", || other.map(&ask)["lease"] != harness::Value::Nil);
        Ok::<_, io::Error>("too late")
    };
    let _ = cache.get_or_produce(&plan, blocks).await;
    assert_eq!(client(&server).stats().await.unwrap().failures, 1);
}

/// By itself, or by way of another.
#[tokio::test]
async fn a_producer_that_asks_for_itself_is_told_so() {
    let server = Server::start();
    let cache = cache(&server);
    let [one, other] = [1, 2].map(|n| cache.request("trips").field("n", n).build().unwrap());
    let ask = |cache: &Cache, asked: &Request| {
        let (cache, asked) = (cache.clone(), asked.clone());
        let never = || async { Made::Ok("never".into()) };
        move || async move { cache.get_or_produce(&asked, never).await.map(Served::into_payload) }
    };
    let asking = cache.get_or_produce(&one, ask(&cache, &one));
    let error = tokio::time::timeout(PATIENCE, asking).await.expect("at once").unwrap_err().to_string();
    assert!(error.contains("asks for what it is to produce"), "{error}");

    let [one, other] = [&one, &other].map(|plan| {
        let key = [plan.key(), b":again"].concat();
        cache.request("trips").key(key).build().unwrap()
    });
    let back = ask(&cache, &one);
    let there = {
        let (cache, other) = (cache.clone(), other.clone());
        move || async move { cache.get_or_produce(&other, back).await.map(Served::into_payload) }
    };
    let asking = cache.get_or_produce(&one, there);
    let error = tokio::time::timeout(PATIENCE, asking).await.expect("at once").unwrap_err().to_string();
    assert!(error.contains("asks for what it is to produce"), "{error}");
}

/// Whether the runtime had time to notice it or not.
#[tokio::test]
async fn the_first_store_on_a_closed_connection_succeeds() {
    let mut server = Server::start();
    let cache = Cache::open(config(&server).retries(0)).unwrap();
    let plan = request(&cache);
    for round in 0..4 {
        cache.put(&plan, "before").await.unwrap();
        cache.client().set(&Set::new("k", "v")).await.unwrap();
        cache.remove(&plan).await.unwrap();
        match round {
            0 => drop(server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes")),
            1 => {
                server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes");
                tokio::time::sleep(ms(50)).await;
            }
            2 => server.restart(Stop::Kill),
            _ => {
                server.restart(Stop::Kill);
                tokio::time::sleep(ms(50)).await;
            }
        }
        std::thread::sleep(ms(10));
        cache.put(&plan, "after").await.unwrap_or_else(|error| panic!("{round}: {error}"));
        cache.remove(&plan).await.unwrap_or_else(|error| panic!("{round}: {error}"));
    }
}

#[tokio::test]
async fn nothing_that_slides_is_near() {
    let server = Server::start();
    let cache = Cache::open(Config::single(address(&server)).unwrap().near_lifetime(LONG)).unwrap();
    cache.client().set_type("session", &Policy { sliding: Some(true), ..Policy::default() }).await.unwrap();
    let (slides, stays) = (cache.request("session").build().unwrap(), cache.request("trips").build().unwrap());
    for plan in [&slides, &stays] {
        cache.put(plan, "v").await.unwrap();
    }
    until("another type is near", async || cache.get(&stays).await.unwrap().unwrap().is_near()).await;
    for _ in 0..20 {
        assert!(!cache.get(&slides).await.unwrap().unwrap().is_near());
        tokio::time::sleep(ms(5)).await;
    }
}

/// The first of its kind on the connection, which has just brought a reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_is_no_dead_one() {
    let server = Server::start();
    let setting = client(&server);
    setting.set(&Set::new("large", vec![b'x'; 32 << 20])).await.unwrap();
    setting.set(&Set::new("small", "v")).await.unwrap();
    let proxy = Proxy::slow(&server).await;
    let config = Config::single(proxy.address()).unwrap().connections(1).timeout(ms(1000)).retries(0);
    let slow = Client::open(config).unwrap();
    slow.get("small").await.unwrap();
    let since = Instant::now();
    assert_eq!(slow.get("large").await.unwrap().unwrap().len(), 32 << 20);
    assert!(since.elapsed() > ms(1000), "it was too quick to show anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_produced_does_not_wait_for_a_slow_store() {
    let server = Server::start();
    let (held, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let address = degraded::holding_payloads(&server, held.clone(), go.clone()).await;
    let cache =
        Cache::open(Config::single(address).unwrap().near_bytes(0).connections(1).transfer_timeout(LONG)).unwrap();
    let plan = cache.request("trips").store_wait(ms(1)).build().unwrap();
    let produce = || async { Ok::<_, io::Error>(vec![b'x'; degraded::PAYLOAD]) };
    let served =
        tokio::time::timeout(PATIENCE, cache.get_or_produce(&plan, produce)).await.expect("an answer").unwrap();
    assert!(matches!((served.how(), served.stored()), (How::Produced, Stored::UnderWay)), "{served:?}");
    held.notified().await;
    go.notify_one();
    let other = client(&server);
    until("it is stored", async || other.get(plan.key()).await.unwrap().is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_is_stuck_is_given_up() {
    let server = Server::start();
    let (held, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let address = degraded::holding_payloads(&server, held, go).await;
    let config = Config::single(address).unwrap().connections(1).timeout(ms(200)).transfer_timeout(LONG);
    let client = Client::open(config).unwrap();
    let set = Set::new("k", vec![b'x'; degraded::PAYLOAD]);
    let storing = tokio::time::timeout(PATIENCE / 2, client.set(&set)).await.expect("it ends");
    assert!(matches!(storing, Err(Error::Timeout)), "{storing:?}");
}

#[tokio::test]
async fn a_shutdown_waits_and_then_gives_back() {
    let server = Server::start();
    let cache = Cache::open(config(&server).lease(LONG)).unwrap();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ask = || {
        let (cache, begun, go) = (cache.clone(), begun.clone(), go.clone());
        tokio::spawn(async move {
            let produce = move || async move {
                begun.notify_one();
                go.notified().await;
                Made::Ok("v".into())
            };
            cache.get_or_produce(&request(&cache), produce).await
        })
    };
    let asking = ask();
    begun.notified().await;
    let (ended, ()) = tokio::join!(cache.shutdown(PATIENCE), async { go.notify_one() });
    assert!(ended);
    assert!(cache.get(&request(&cache)).await.unwrap().is_some());
    asking.await.unwrap().unwrap();

    cache.clear().await.unwrap();
    let asking = ask();
    begun.notified().await;
    assert!(!cache.shutdown(ms(10)).await);
    assert!(lease(&client(&server), &cache, LONG).await.is_some(), "the lease was given back");
    assert!(asking.await.unwrap().is_err());
}
