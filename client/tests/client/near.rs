//! The near cache: what it serves is what the server would, a message later.

use std::time::Duration;

use expcache_client::{Policy, Served, Set};
use harness::Stop;

use super::*;

type Made = Result<String, std::io::Error>;

/// Kept near for so long that only messages can end it.
async fn near(server: &Server) -> Cache {
    let config = Config::single(address(server)).unwrap().near_lifetime(Duration::from_secs(3600));
    let cache = Cache::open(config).unwrap();
    until("it hears the server", async || cache.is_near()).await;
    cache
}

async fn obtain(cache: &Cache, runs: &Runs) -> Served {
    let runs = runs.clone();
    let produce = move || async move { Made::Ok(format!("run {}", runs.next())) };
    cache.get_or_produce(&request(cache), produce).await.unwrap()
}

/// Asks until the answer comes from here.
async fn warm(cache: &Cache, runs: &Runs) -> Served {
    until("it is kept", async || obtain(cache, runs).await.is_near()).await;
    obtain(cache, runs).await
}

#[tokio::test]
async fn a_hit_does_not_ask_the_server() {
    let server = Server::start();
    let (cache, runs) = (near(&server).await, Runs::default());
    let served = warm(&cache, &runs).await;
    assert_eq!((served.payload().as_ref(), runs.count()), (b"run 1".as_slice(), 1));
    let hits = client(&server).stats().await.unwrap().hits;
    for _ in 0..100 {
        assert_eq!(obtain(&cache, &runs).await.etag(), served.etag());
    }
    assert_eq!(client(&server).stats().await.unwrap().hits, hits);
    until("its age goes on", async || obtain(&cache, &runs).await.age() > served.age()).await;
}

/// The runtime in which it was opened is the one that listens.
#[test]
fn what_nobody_listens_for_is_not_kept() {
    let server = Server::start();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (opened, runs) = (runtime(), Runs::default());
    let cache = opened.block_on(async {
        let cache = near(&server).await;
        warm(&cache, &runs).await;
        cache
    });
    drop(opened);
    runtime().block_on(async {
        assert!(!cache.is_near());
        assert!(!cache.get(&request(&cache)).await.unwrap().unwrap().is_near());
    });
}

#[tokio::test]
async fn whatever_another_does_to_it_is_heard() {
    let server = Server::start();
    let (cache, runs) = (near(&server).await, Runs::default());
    let key = String::from_utf8(request(&cache).key().to_vec()).unwrap();
    let mut c = server.conn();
    let changes = [
        "EXPCACHE.INVALIDATE.TAG company:42".to_owned(),
        "EXPCACHE.PURGE ANY 1 user:7".to_owned(),
        "EXPCACHE.PURGE ANY 1 user:7 SOFT".to_owned(),
        "EXPCACHE.CLEAR".to_owned(),
        format!("EXPCACHE.DEL {key}"),
        format!("DEL {key}"),
        format!("EXPCACHE.SET {key} other"),
        format!("RENAME {key} elsewhere"),
        format!("PEXPIRE {key} 1"),
        "FLUSHALL".to_owned(),
    ];
    for change in changes {
        warm(&cache, &runs).await;
        c.cmd(change.as_str());
        until("it is heard", async || {
            !cache.get(&request(&cache)).await.unwrap().is_some_and(|served| served.is_near())
        })
        .await;
        c.cmd("EXPCACHE.CLEAR");
    }
}

#[tokio::test]
async fn ones_own_changes_are_seen_at_once() {
    let server = Server::start();
    let (cache, runs) = (near(&server).await, Runs::default());
    for n in 1..30 {
        assert_eq!(warm(&cache, &runs).await.payload(), &format!("run {n}"));
        match n % 3 {
            0 => assert_eq!(cache.invalidate_user(7).await.unwrap(), 1),
            1 => assert!(cache.remove(&request(&cache)).await.unwrap()),
            _ => assert_eq!(cache.clear().await.unwrap(), 1),
        }
        assert!(cache.get(&request(&cache)).await.unwrap().is_none());
    }
    cache.put(&request(&cache), "put").await.unwrap();
    assert_eq!(obtain(&cache, &runs).await.payload(), "put");
}

#[tokio::test]
async fn while_the_server_is_not_heard_nothing_is_kept() {
    let mut server = Server::start();
    let (cache, runs) = (near(&server).await, Runs::default());
    warm(&cache, &runs).await;
    server.restart(Stop::Kill);
    // What was kept died with the connection, and the server has lost it.
    until("the loss is noticed", async || !obtain(&cache, &runs).await.is_near()).await;
    until("it hears the server again", async || cache.is_near()).await;
    assert_ne!(warm(&cache, &runs).await.payload(), "run 1");

    let frozen = Frozen::new(&server);
    until("silence is noticed", async || !cache.is_near()).await;
    drop(frozen);
    until("it hears the server again", async || cache.is_near()).await;

    server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes");
    until("it hears the server again", async || cache.is_near()).await;
    warm(&cache, &runs).await;
}

#[tokio::test]
async fn it_lives_no_longer_than_the_entry() {
    let server = Server::start();
    let (cache, runs) = (near(&server).await, Runs::default());
    cache
        .client()
        .set_type("trips", &Policy { ttl: Some(Duration::from_millis(300)), ..Policy::default() })
        .await
        .unwrap();
    until("it has run twice", async || {
        let served = obtain(&cache, &runs).await;
        assert!(!served.is_near() || served.ttl_ms().is_some_and(|ms| ms >= 0), "{served:?}");
        runs.count() >= 2
    })
    .await;
}

#[tokio::test]
async fn not_what_was_said_not_to_be() {
    let server = Server::start();
    let config = Config::single(address(&server)).unwrap().near_type("sessions", false);
    let cache = Cache::open(config).unwrap();
    until("it hears the server", async || cache.is_near()).await;
    let [near, far] = [true, false].map(|near| cache.request("trips").near(near).build().unwrap());
    assert_eq!(near.key(), far.key());
    let session = cache.request("sessions").build().unwrap();
    for request in [&near, &session] {
        cache.put(request, "v").await.unwrap();
    }
    until("it is kept", async || cache.get(&near).await.unwrap().unwrap().is_near()).await;
    for request in [&far, &session, &far, &session] {
        assert!(!cache.get(request).await.unwrap().unwrap().is_near());
    }
}

#[tokio::test]
async fn not_what_is_large_or_of_other_names_or_in_resp2() {
    let server = Server::start();
    let cache = near(&server).await;
    let large = cache.request("trips").build().unwrap();
    let other = cache.request("trips").key("other:1").build().unwrap();
    cache.client().set(&Set::new(large.key(), vec![0; 20_000])).await.unwrap();
    cache.client().set(&Set::new("other:1", "v")).await.unwrap();
    for request in [&large, &other, &large, &other] {
        assert!(!cache.get(request).await.unwrap().unwrap().is_near());
    }
    let resp2 = Cache::open(Config::single(address(&server)).unwrap().resp2()).unwrap();
    let runs = Runs::default();
    for _ in 0..10 {
        assert!(!obtain(&resp2, &runs).await.is_near());
    }
    assert!(!resp2.is_near());
}

/// Writers change, readers read: nobody is served a version older than one whose change he has been told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_go_back_behind_their_own_invalidation() {
    let server = Server::start();
    let cache = near(&server).await;
    let version = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let read = |cache: Cache, version: Arc<AtomicUsize>| async move {
        let read = version.clone();
        let produce = move || async move { Made::Ok(read.load(Ordering::SeqCst).to_string()) };
        let served = cache.get_or_produce(&request(&cache), produce).await.unwrap();
        String::from_utf8(served.payload().to_vec()).unwrap().parse::<usize>().unwrap()
    };
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (cache, version, over) = (cache.clone(), version.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    read(cache.clone(), version.clone()).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for change in 1..300 {
        version.store(change, Ordering::SeqCst);
        cache.invalidate_company(42).await.unwrap();
        assert_eq!(read(cache.clone(), version.clone()).await, change);
    }
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}
