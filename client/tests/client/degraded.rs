//! The server is away, dies, hangs, comes back: the producer is always reached, and nothing old is served after it.

use std::time::Duration;

use expcache_client::{Client, Error, How, Served, Set, Stored};
use harness::Stop;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::proxy::Proxy;
use super::*;

type Made = Result<String, std::io::Error>;

/// Impatient, and with a breaker that opens soon and tries again soon.
fn hasty(server: &Server) -> Config {
    let ms = Duration::from_millis;
    config(server).timeout(ms(600)).connect_timeout(ms(600)).retries(1).breaker(3, ms(100))
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
        assert!(matches!(served.how(), How::Degraded | How::Kept) && served.payload() == "run 1", "{served:?}");
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
async fn what_is_kept_here_is_not_used_when_it_is_too_old() {
    let nobody = Config::single("redis://127.0.0.1:1/").unwrap().near_bytes(0);
    let (cache, runs) = (Cache::open(nobody).unwrap(), Runs::default());
    let young = cache.request("trips").company(42).user(7).max_age(Duration::from_millis(20)).build().unwrap();
    until("it is made anew", async || {
        let runs = runs.clone();
        let produce = move || async move { Made::Ok(format!("run {}", runs.next())) };
        cache.get_or_produce(&young, produce).await.unwrap().payload() == "run 3"
    })
    .await;
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 3", "who takes any age is given the last one");
}

#[tokio::test]
async fn a_failure_is_not_tried_again_at_once_without_a_server_either() {
    let nobody = Config::single("redis://127.0.0.1:1/").unwrap().near_bytes(0);
    let long = Duration::from_secs(600);
    let (cache, runs) = (Cache::open(nobody.clone().backoff(long, long)).unwrap(), Runs::default());
    for _ in 0..20 {
        let runs = runs.clone();
        let produce = move || async move {
            runs.next();
            Made::Err(std::io::Error::other("no database"))
        };
        let error = cache.get_or_produce(&request(&cache), produce).await.unwrap_err();
        assert_eq!(error.to_string(), "production failed: no database");
    }
    assert_eq!(runs.count(), 1);

    let short = Duration::from_millis(20);
    let (cache, runs) = (Cache::open(nobody.backoff(short, short)).unwrap(), Runs::default());
    until("it is tried again", async || {
        let runs = runs.clone();
        let produce = move || async move {
            if runs.next() == 1 { Err(std::io::Error::other("no database")) } else { Made::Ok("v".into()) }
        };
        cache.get_or_produce(&request(&cache), produce).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_everything_is_as_good_as_none() {
    let server = Server::start();
    // The right password and a right that is missing; a wrong password; none at all.
    let mut conn = server.conn();
    conn.cmd("ACL SETUSER writer on >secret ~* +@all -expcache.fetch");
    conn.cmd("ACL SETUSER default resetpass >other");
    for user in ["writer:secret@", "writer:wrong@", ""] {
        let address = format!("redis://{user}127.0.0.1:{}/", server.port());
        let config = Config::single(address).unwrap().near_bytes(0).backoff(PATIENCE, PATIENCE);
        let (cache, runs) = (Cache::open(config).unwrap(), Runs::default());
        for how in [How::Degraded, How::Kept, How::Kept] {
            let served = obtain(&cache, &runs).await;
            assert_eq!((served.how(), served.payload().as_ref()), (how, b"run 1".as_slice()), "{user}");
            assert!(matches!(served.stored(), Stored::No(Error::Refused(_))), "{user} {served:?}");
        }
        let _ = cache.invalidate_company(42).await;
        assert_eq!(obtain(&cache, &runs).await.payload(), "run 2", "{user}");
    }
    conn.cmd("ACL SETUSER default nopass");
}

#[tokio::test]
async fn what_was_kept_here_is_forgotten_when_the_server_lets_one_in() {
    let server = Server::start();
    let mut conn = server.conn();
    conn.cmd("ACL SETUSER reader on >secret ~* +@all -expcache.fetch");
    let address = format!("redis://reader:secret@127.0.0.1:{}/", server.port());
    let (cache, runs) = (Cache::open(Config::single(address).unwrap().near_bytes(0)).unwrap(), Runs::default());
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 1");
    conn.cmd("ACL SETUSER reader +expcache.fetch");
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 2");
    conn.cmd("EXPCACHE.INVALIDATE.TAG company:42");
    conn.cmd("ACL SETUSER reader -expcache.fetch");
    assert_eq!(obtain(&cache, &runs).await.payload(), "run 3", "not that of the first time");
}

/// One key that cannot be read says nothing of the others.
#[tokio::test]
async fn hits_of_others_leave_what_was_kept_for_want_of_one() {
    let server = Server::start();
    let (cache, runs) = (Cache::open(config(&server).near_bytes(0)).unwrap(), Runs::default());
    let key = String::from_utf8(request(&cache).key().to_vec()).unwrap();
    server.conn().cmd(format!("SADD {key} member").as_str());
    let other = cache.request("reports").build().unwrap();
    cache.put(&other, "v").await.unwrap();
    for _ in 0..5 {
        assert_eq!(obtain(&cache, &runs).await.payload(), "run 1");
        assert!(cache.get(&other).await.unwrap().is_some());
    }
}

/// As one that is full, or whose disk is, by the time that the export is made: it gave the lease and takes nothing, perhaps not
/// even the lease back.
#[tokio::test]
async fn a_server_that_refuses_to_store_does_not_make_anybody_produce_again_at_once() {
    let server = Server::start();
    let mut conn = server.conn();
    let rights = ["-expcache.set", "-expcache.set -expcache.release"];
    for (n, refused) in rights.into_iter().enumerate() {
        conn.cmd(&format!("ACL SETUSER reader{n} on >secret ~* +@all"));
        let address = format!("redis://reader{n}:secret@127.0.0.1:{}/", server.port());
        let config = Config::single(address).unwrap().lease(Duration::from_secs(600)).near_lifetime(PATIENCE);
        let (cache, runs) = (Cache::open(config).unwrap(), Runs::default());
        for how in [How::Produced, How::Kept, How::Kept] {
            let (runs, mut admin) = (runs.clone(), server.conn());
            let produce = move || async move {
                admin.cmd(&format!("ACL SETUSER reader{n} {refused}"));
                Made::Ok(format!("run {}", runs.next()))
            };
            let plan = request(&cache);
            let asking = tokio::time::timeout(PATIENCE, cache.get_or_produce(&plan, produce));
            let served = asking.await.expect("it waits for nobody").unwrap();
            assert_eq!((served.how(), served.payload().as_ref()), (how, b"run 1".as_slice()), "{refused}");
            assert!(matches!(served.stored(), Stored::No(Error::Refused(_))), "{refused}: {served:?}");
        }
        let fetch = expcache_client::Fetch::new(request(&cache).key()).lease(Duration::from_millis(1));
        let lease = client(&server).fetch(&fetch).await.unwrap().lease;
        assert_eq!(lease.is_some(), n == 0, "it is given back if that is allowed");
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
    until("it is left alone", async || {
        matches!(obtain(&cache, &runs).await.stored(), Stored::No(Error::CircuitOpen(_)))
    })
    .await;
    let open = cache.client().get("k").await.unwrap_err();
    assert!(matches!(open, Error::CircuitOpen(_)), "{open:?}");
    assert!(runs.count() <= 6, "{} requests had to wait", runs.count());
}

#[tokio::test]
async fn after_a_pause_one_command_tries() {
    let server = Server::start();
    let (cache, runs) = (Cache::open(hasty(&server)).unwrap(), Runs::default());
    obtain(&cache, &runs).await;
    let frozen = Frozen::new(&server);
    until("the circuit is open", async || matches!(cache.client().get("k").await, Err(Error::CircuitOpen(_)))).await;
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
    let large = vec![b'x'; 32 << 20];
    client(&server).set(&Set::new("k", large.clone())).await.unwrap();
    let proxy = Proxy::slow(&server).await;
    let slow = Config::single(proxy.address()).unwrap().timeout(Duration::from_millis(1000));
    let patient = Client::open(slow.clone()).unwrap();
    let since = Instant::now();
    assert_eq!(patient.get("k").await.unwrap().unwrap().len(), large.len());
    assert!(since.elapsed() > Duration::from_millis(1000), "it was too quick to show anything");

    // Unless it takes longer than a transfer may.
    let hasty = Client::open(slow.transfer_timeout(Duration::from_millis(1200))).unwrap();
    assert!(matches!(hasty.get("k").await, Err(Error::Timeout)));
}

/// Lets little through to the server, and of a payload nothing until it is told to. Tells when one is held up.
pub async fn holding_payloads(server: &Server, held: Arc<Notify>, go: Arc<Notify>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, port) = (listener.local_addr().unwrap(), server.port());
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (near.into_split(), far.into_split());
            let (held, go) = (held.clone(), go.clone());
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let (mut bytes, mut passed) = (vec![0; 64 << 10], 0);
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    let before = passed;
                    passed += count;
                    if before < PAYLOAD / 2 && passed >= PAYLOAD / 2 {
                        held.notify_one();
                        go.notified().await;
                    }
                    to_server.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
    });
    format!("redis://{address}/")
}

pub const PAYLOAD: usize = 4 << 20;

/// Also if there is but one connection, which the payload fills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_kept_while_its_payload_is_sent() {
    let server = Server::start();
    let (held, go, lease) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Duration::from_secs(2));
    let address = holding_payloads(&server, held.clone(), go.clone()).await;
    let cache =
        Cache::open(Config::single(address).unwrap().near_bytes(0).connections(1).lease(lease).store_wait(PATIENCE))
            .unwrap();
    let storing = tokio::spawn({
        let cache = cache.clone();
        let produce = || async { Ok::<_, std::io::Error>(vec![b'x'; PAYLOAD]) };
        async move { cache.get_or_produce(&request(&cache), produce).await.unwrap() }
    });
    held.notified().await;
    let (other, since) = (client(&server), Instant::now());
    while since.elapsed() < 2 * lease {
        let fetch = expcache_client::Fetch::new(request(&cache).key()).lease(lease);
        assert_eq!(other.fetch(&fetch).await.unwrap().lease, None, "nobody else is to produce it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    go.notify_one();
    let served = storing.await.unwrap();
    assert!(matches!(served.stored(), Stored::Yes), "{served:?}");
}
