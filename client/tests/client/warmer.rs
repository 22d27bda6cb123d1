//! Workers: what is offered is produced and stored, whatever happens to whoever does it.

use std::process::{Command, Stdio};

use expcache_client::testing::InMemory;
use expcache_client::{BoxError, Export, How, Policy, Release, Unshared, Warm, WarmJob, Warming};
use harness::{Conn, args};
use tokio::sync::{Barrier, Notify};

use super::*;
use crate::cluster::Cluster;
use crate::proxy::Proxy;

const LONG: Duration = Duration::from_secs(600);

/// A server with a type of which keys are kept in mind.
fn server() -> Server {
    let server = Server::start();
    server.conn().ok("EXPCACHE.TYPE SET trips TTL 1h WARM 100");
    server
}

/// A key that was stored and asked for often, and was invalidated.
fn due(c: &mut Conn, key: &str) {
    let mut set = args!["EXPCACHE.SET", key, "old", "TYPE", "trips", "COST", 40, "FORMAT", "csv"];
    set.extend(args!["META", r#"{"n": 7}"#, "TAGS", 2, "t", key]);
    c.ok(set);
    for reply in c.pipeline((0..20).map(|_| args!["EXPCACHE.GET", key])) {
        assert_eq!(reply, "old");
    }
    assert_eq!(c.int(args!["EXPCACHE.INVALIDATE.TAG", key]), 1);
}

fn moments(config: Config) -> Config {
    let moment = Duration::from_millis(50);
    config.backoff(moment, moment)
}

fn value(c: &mut Conn, key: &str) -> Option<String> {
    let reply = c.cmd(args!["EXPCACHE.GET", key]);
    (reply != harness::Value::Nil).then(|| reply.text())
}

async fn stored(server: &Server, key: &str, expected: &str) {
    let mut c = server.conn();
    until("it is stored", async || value(&mut c, key).as_deref() == Some(expected)).await;
}

async fn well(server: &Server) {
    assert_eq!(client(server).debug_check().await.unwrap(), Vec::<String>::new());
}

/// What a worker does that is told to fail first.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    Error,
    Unshared,
    Panic,
    Hangs,
}

#[tokio::test]
async fn a_key_is_produced_and_stored_as_it_was() {
    let server = server();
    let mut c = server.conn();
    for config in [config(&server), config(&server).resp2()] {
        due(&mut c, "trips:1");
        let cache = Cache::open(config).unwrap();
        let handler = |job: WarmJob| async move {
            #[derive(serde::Deserialize)]
            struct Wanted {
                n: u64,
            }
            let Wanted { n } = job.meta()?;
            assert_eq!((job.reason.as_str(), job.cost), ("invalidated", Some(Duration::from_millis(40))));
            assert!(job.hits >= 20);
            Ok::<_, BoxError>(format!("new {n}"))
        };
        let warming = cache.warmer().handle("trips", handler).start().unwrap();
        stored(&server, "trips:1", "new 7").await;
        let meta = client(&server).meta("trips:1").await.unwrap().unwrap();
        let mut tags = meta.tags.clone();
        tags.sort();
        assert_eq!(tags, ["t", "trips:1"]);
        assert_eq!((meta.format.as_deref(), meta.meta.as_deref()), (Some(&b"csv"[..]), Some(&br#"{"n": 7}"#[..])));
        assert!(warming.stop(PATIENCE).await);
        c.ok("FLUSHALL");
    }
    assert_eq!(client(&server).stats().await.unwrap().warmed, 2);
    well(&server).await;
}

#[tokio::test]
async fn tags_that_an_export_says_are_those_that_it_has() {
    let server = server();
    due(&mut server.conn(), "trips:1");
    let cache = cache(&server);
    let handler = |_| async { Ok::<_, BoxError>(Export::new("new").tag("other")) };
    let warming = cache.warmer().handle("trips", handler).start().unwrap();
    stored(&server, "trips:1", "new").await;
    assert_eq!(client(&server).meta("trips:1").await.unwrap().unwrap().tags, ["other"]);
    assert!(warming.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_are_produced_at_a_time() {
    let server = server();
    let mut c = server.conn();
    for n in 0..9 {
        due(&mut c, &format!("trips:{n}"));
    }
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (barrier, counts) = (Arc::new(Barrier::new(3)), (at_once.clone(), most.clone()));
    let handler = move |job: WarmJob| {
        let (barrier, (at_once, most)) = (barrier.clone(), counts.clone());
        async move {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Fewer would wait for ever.
            barrier.wait().await;
            at_once.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, BoxError>(job.key)
        }
    };
    let warming = cache(&server).warmer().handle("trips", handler).concurrency(3).start().unwrap();
    for n in 0..9 {
        let key = format!("trips:{n}");
        stored(&server, &key, &key).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert!(warming.stop(PATIENCE).await);
    assert_eq!(client(&server).stats().await.unwrap().warmed, 9);
}

#[tokio::test]
async fn what_goes_wrong_is_a_failure_and_tried_again_later() {
    let server = server();
    let mut c = server.conn();
    for (number, mishap) in (1..).zip([Mishap::Error, Mishap::Unshared, Mishap::Panic, Mishap::Hangs]) {
        due(&mut c, "trips:1");
        let cache = Cache::open(moments(config(&server)).produce_timeout(Duration::from_secs(1))).unwrap();
        let runs = Runs::default();
        let ran = runs.clone();
        let handler = move |_| {
            let run = runs.next();
            async move {
                match (run, mishap) {
                    (1, Mishap::Error) => Err("no database".into()),
                    (1, Mishap::Unshared) => Err(BoxError::from(Unshared::new("not found"))),
                    (1, Mishap::Panic) => panic!("a mishap"),
                    (1, Mishap::Hangs) => std::future::pending().await,
                    _ => Ok(format!("run {run}")),
                }
            }
        };
        let warming = cache.warmer().handle("trips", handler).start().unwrap();
        stored(&server, "trips:1", "run 2").await;
        assert!(warming.stop(PATIENCE).await);
        assert_eq!(ran.count(), 2, "{mishap:?}");
        assert_eq!(client(&server).stats().await.unwrap().failures, number, "{mishap:?}");
    }
    well(&server).await;
}

#[tokio::test]
async fn what_the_server_refuses_is_not_made_again_and_again() {
    let server = server();
    let mut c = server.conn();
    due(&mut c, "trips:1");
    c.ok("EXPCACHE.TYPE SET trips MAXVALUE 5");
    let (cache, runs) = (Cache::open(config(&server).backoff(LONG, LONG)).unwrap(), Runs::default());
    let ran = runs.clone();
    let handler = move |_| {
        let run = runs.next();
        async move { Ok::<_, BoxError>(format!("too long {run}")) }
    };
    let warming = cache.warmer().handle("trips", handler).start().unwrap();
    until("it is refused", async || cache.client().stats().await.unwrap().failures == 1).await;
    assert!(client(&server).warm(&Warm::new()).await.unwrap().is_empty(), "it backs off");
    assert!(warming.stop(PATIENCE).await);
    assert_eq!(ran.count(), 1);
    well(&server).await;
}

#[tokio::test]
async fn a_key_that_is_invalidated_meanwhile_is_made_again() {
    let server = server();
    due(&mut server.conn(), "trips:1");
    let (begun, go, runs) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Runs::default());
    let handler = {
        let (begun, go) = (begun.clone(), go.clone());
        move |_| {
            let (begun, go, run) = (begun.clone(), go.clone(), runs.next());
            async move {
                if run == 1 {
                    begun.notify_one();
                    go.notified().await;
                }
                Ok::<_, BoxError>(format!("run {run}"))
            }
        }
    };
    let warming = cache(&server).warmer().handle("trips", handler).start().unwrap();
    begun.notified().await;
    client(&server).invalidate_tags(["t"]).await.unwrap();
    go.notify_one();
    stored(&server, "trips:1", "run 2").await;
    assert!(warming.stop(PATIENCE).await);
    let stats = client(&server).stats().await.unwrap();
    assert_eq!((stats.fenced, stats.warmed, stats.failures), (1, 1, 0));
    well(&server).await;
}

/// A worker that holds its key until it is told to go on.
fn holding(cache: &Cache) -> (Warming, Arc<Notify>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (begun.clone(), go.clone());
    let handler = move |_| {
        let (begun, go) = (tells.clone(), waits.clone());
        async move {
            begun.notify_one();
            go.notified().await;
            Ok::<_, BoxError>("new")
        }
    };
    (cache.warmer().handle("trips", handler).start().unwrap(), begun, go)
}

/// Somebody else is offered it.
async fn offered(server: &Server) -> WarmJob {
    let (client, mut jobs) = (client(server), Vec::new());
    until("it is offered again", async || {
        jobs = client.warm(&Warm::new().types(["trips"]).lease(LONG)).await.unwrap();
        !jobs.is_empty()
    })
    .await;
    jobs.remove(0)
}

#[tokio::test]
async fn a_stop_waits_and_then_gives_back() {
    let server = server();
    let mut c = server.conn();
    let cache = Cache::open(config(&server).lease(LONG)).unwrap();
    due(&mut c, "trips:1");
    let (warming, begun, go) = holding(&cache);
    begun.notified().await;
    assert!(client(&server).warm(&Warm::new()).await.unwrap().is_empty(), "a worker has it");
    let (ended, ()) = tokio::join!(warming.stop(PATIENCE), async { go.notify_one() });
    assert!(ended);
    assert_eq!(value(&mut c, "trips:1").as_deref(), Some("new"));

    // By a stop, by being dropped, and by the cache's shutdown.
    for how in 0..3 {
        due(&mut c, "trips:1");
        let cache = Cache::open(config(&server).lease(LONG)).unwrap();
        let (warming, begun, _go) = holding(&cache);
        begun.notified().await;
        match how {
            0 => assert!(!warming.stop(Duration::from_millis(10)).await),
            1 => drop(warming),
            _ => assert!(!cache.shutdown(Duration::from_millis(10)).await),
        }
        let job = offered(&server).await;
        let token = job.token.unwrap();
        assert!(client(&server).release("trips:1", &token, &Release::unused()).await.unwrap());
        c.ok("FLUSHALL");
    }
    assert_eq!(client(&server).stats().await.unwrap().failures, 0, "nothing has failed");
    well(&server).await;
}

/// The reply that tells the token is still on its way when all is to end.
#[tokio::test]
async fn what_is_offered_at_the_last_moment_is_given_back() {
    let server = server();
    let mut c = server.conn();
    for how in 0..3 {
        due(&mut c, "trips:1");
        let proxy = Proxy::new(&server).await;
        proxy.hold("trips:1");
        let cache = Cache::open(Config::single(proxy.address()).unwrap().lease(LONG).timeout(PATIENCE)).unwrap();
        let warming = cache.warmer().handle("trips", |_| async { Ok::<_, BoxError>("new") }).start().unwrap();
        until("a worker has it", async || client(&server).warm(&Warm::new().dry_run()).await.unwrap().is_empty()).await;
        let of_cache = cache.clone();
        let ending = tokio::spawn(async move {
            match how {
                0 => _ = warming.stop(Duration::ZERO).await,
                1 => drop(warming),
                _ => _ = of_cache.shutdown(Duration::ZERO).await,
            }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        proxy.let_go();
        ending.await.unwrap();
        let token = offered(&server).await.token.unwrap();
        assert!(client(&server).release("trips:1", &token, &Release::unused()).await.unwrap());
        c.ok("FLUSHALL");
    }
    assert_eq!(client(&server).stats().await.unwrap().warmed, 0);
    well(&server).await;
}

#[tokio::test]
async fn nothing_is_begun_after_a_stop() {
    let server = server();
    let (cache, runs) = (cache(&server), Runs::default());
    let ran = runs.clone();
    let handler = move |_| {
        runs.next();
        async { Ok::<_, BoxError>("new") }
    };
    let warming = cache.warmer().handle("trips", handler.clone()).start().unwrap();
    assert!(warming.stop(PATIENCE).await);
    let warming = cache.warmer().handle("trips", handler).start().unwrap();
    assert!(cache.shutdown(PATIENCE).await);
    due(&mut server.conn(), "trips:1");
    assert_eq!(offered(&server).await.key, "trips:1");
    assert_eq!(ran.count(), 0);
    assert!(warming.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_reader_waits_for_a_workers_value() {
    let server = server();
    due(&mut server.conn(), "trips:1");
    let (cache, other) = (cache(&server), cache(&server));
    let (warming, begun, go) = holding(&cache);
    begun.notified().await;
    let reading = tokio::spawn(async move {
        let request = other.request("trips").key("trips:1").build().unwrap();
        other.get_or_produce(&request, || async { Err::<&str, _>("a worker has it") }).await.unwrap()
    });
    let mut c = server.conn();
    until("it waits", async || c.info("clients", "blocked_clients") == "1").await;
    go.notify_one();
    let served = reading.await.unwrap();
    assert_eq!((served.how(), served.payload().as_ref()), (How::Waited, &b"new"[..]));
    assert!(warming.stop(PATIENCE).await);
}

/// A server that comes back is asked again.
#[tokio::test]
async fn a_server_that_was_away_is_asked_again() {
    let mut server = server();
    let runs = Runs::default();
    let ran = runs.clone();
    let handler = move |_| {
        runs.next();
        async { Ok::<_, BoxError>("new") }
    };
    let warming = cache(&server).warmer().handle("trips", handler).start().unwrap();
    server.restart(harness::Stop::Kill);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 100");
    due(&mut c, "trips:1");
    stored(&server, "trips:1", "new").await;
    assert_eq!(ran.count(), 1);
    assert!(warming.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_warmer_without_handlers_is_refused() {
    let server = server();
    assert!(cache(&server).warmer().start().is_err());
}

#[tokio::test]
async fn a_request_of_ones_own_says_all_that_it_says() {
    let server = server();
    let mut c = server.conn();
    let cache = cache(&server);
    let request = |cache: &Cache, n: u64| {
        cache
            .request("trips")
            .field("n", n)
            .meta(format!(r#"{{"n":{n}}}"#))
            .tag("t")
            .ttl(Duration::from_secs(77))
            .build()
    };
    for n in 0..2 {
        let plan = request(&cache, n).unwrap();
        for _ in 0..20 {
            cache.get_or_produce(&plan, || async { Ok::<_, BoxError>("old") }).await.unwrap();
        }
    }
    due(&mut c, "trips:plain");
    client(&server).invalidate_tags(["t"]).await.unwrap();
    let warming = cache
        .warmer()
        .handle_request("trips", move |cache, job| {
            let n = job.meta::<std::collections::HashMap<String, u64>>()?["n"];
            Ok((request(cache, n)?, move || async move { Ok::<_, BoxError>(format!("made {n}")) }))
        })
        .handle("trips", |_| async { Ok::<_, BoxError>("plain") })
        .start()
        .unwrap();
    for n in 0..2 {
        let key = String::from_utf8(request(&cache, n).unwrap().key().to_vec()).unwrap();
        stored(&server, &key, &format!("made {n}")).await;
        assert!(client(&server).meta(&key).await.unwrap().unwrap().ttl_ms.is_some_and(|ms| ms <= 77_000));
    }
    stored(&server, "trips:plain", "plain").await;
    assert!(warming.stop(PATIENCE).await);
    well(&server).await;
}

// ---- what may happen to a process

const PORT: &str = "EXPCACHE_TEST_WARMER_PORT";

#[tokio::test]
async fn a_killed_workers_key_is_offered_again_when_the_lease_is_over() {
    let server = server();
    let mut c = server.conn();
    due(&mut c, "trips:1");
    let mut worker = Command::new(std::env::current_exe().unwrap());
    worker.args(["--exact", "warmer::a_worker_that_will_be_killed", "--ignored", "--nocapture"]);
    let mut worker = worker.env(PORT, server.port().to_string()).stdout(Stdio::null()).spawn().unwrap();
    until("it has begun", async || c.cmd("GET begun") == "1").await;
    assert!(client(&server).warm(&Warm::new()).await.unwrap().is_empty());
    // It dies as by `kill -9`.
    worker.kill().unwrap();
    worker.wait().unwrap();
    let job = offered(&server).await;
    assert_eq!((job.key.as_ref(), job.reason.as_str()), (&b"trips:1"[..], "invalidated"));
    let stats = client(&server).stats().await.unwrap();
    assert_eq!((stats.leases, stats.failures), (2, 0));
}

/// What the process does; it is started by the test above only.
#[tokio::test]
#[ignore = "a part of another test"]
async fn a_worker_that_will_be_killed() {
    let Ok(port) = std::env::var(PORT) else { return };
    let address = format!("redis://127.0.0.1:{port}/");
    let cache = Cache::open(Config::single(address.as_str()).unwrap().lease(Duration::from_millis(1500))).unwrap();
    let counter = redis::Client::open(address).unwrap().get_multiplexed_async_connection().await.unwrap();
    let handler = move |_| {
        let mut counter = counter.clone();
        async move {
            // Longer than the lease: it is renewed.
            tokio::time::sleep(Duration::from_secs(3)).await;
            let _: i64 = redis::cmd("INCR").arg("begun").query_async(&mut counter).await?;
            std::future::pending::<()>().await;
            Ok::<_, BoxError>("never")
        }
    };
    let _warming = cache.warmer().handle("trips", handler).start().unwrap();
    std::future::pending::<()>().await;
}

// ---- a cluster

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_primary_of_a_cluster_is_asked_and_those_that_come_later() {
    let mut cluster = Cluster::start();
    let replica = cluster.add_replica_of_last();
    let cache = Cache::open(cluster.config()).unwrap();
    let warm = Policy { ttl: Some(LONG), warm: Some(100), ..Policy::default() };
    cache.client().set_type("trips", &warm).await.unwrap();
    // One on each primary.
    let keys = ["trips:{a}", "trips:{b}", "trips:{c}", "trips:{d}", "trips:{e}", "trips:{f}", "trips:{h}"];
    let make_due = async |round: &str| {
        for key in keys {
            cache.client().set(&expcache_client::Set::new(key, "old").type_name("trips").tag("t")).await.unwrap();
            for _ in 0..20 {
                cache.client().get(key).await.unwrap();
            }
        }
        // Each primary is told twice, and the worker may be faster than that.
        assert!(cache.invalidate_tags(["t"]).await.unwrap() >= keys.len() as u64, "{round}");
    };
    let produced = async || {
        for key in keys {
            let is_new = async || cache.client().get(key).await.is_ok_and(|found| found.as_deref() == Some(b"new"));
            until("it is produced", is_new).await;
        }
    };
    let warming = cache.warmer().handle("trips", |_| async { Ok::<_, BoxError>("new") }).start().unwrap();
    make_due("at first").await;
    produced().await;
    for node in &cluster.0 {
        assert!(node.conn().map("EXPCACHE.STATS")["warmed"].int() > 0, "each of them has some");
    }

    replica.wait_for_sync(&cluster.0[2]);
    replica.conn().ok("CLUSTER FAILOVER TAKEOVER");
    drop(cluster.0.pop());
    until("all know the new one", async || cache.invalidate_tags(["none"]).await.is_ok()).await;
    make_due("after the failover").await;
    produced().await;
    assert!(replica.conn().map("EXPCACHE.STATS")["warmed"].int() > 0);
    assert!(warming.stop(PATIENCE).await);
    assert_eq!(cache.client().debug_check().await.unwrap(), Vec::<String>::new());
}

// ---- a server in memory

#[tokio::test]
async fn a_server_in_memory_offers_what_a_real_one_would() {
    let (memory, real) = (InMemory::new(), Server::start());
    let mut told = Vec::new();
    for config in [memory.config().near_bytes(0), config(&real)] {
        let warm = Policy { ttl: Some(LONG), warm: Some(10), ..Policy::default() };
        let cache = Cache::open(moments(config.policy("trips", warm))).unwrap();
        let client = cache.client();
        let set = |key: &str| {
            let set = expcache_client::Set::new(key, "old").type_name("trips").tags(["t", key]).format("csv");
            set.meta("{}").cost(Duration::from_millis(7))
        };
        for (key, reads) in [("trips:often", 40), ("trips:seldom", 10), ("trips:never", 0), ("trips:deleted", 40)] {
            client.set(&set(key)).await.unwrap();
            for _ in 0..reads {
                client.get(key).await.unwrap();
            }
        }
        let mut lines = Vec::new();
        let mut tell = async |what: &str| {
            let jobs = client.warm(&Warm::new().count(10).dry_run()).await.unwrap();
            for WarmJob { key, type_name, reason, token, lease, hits, cost, format, meta, tags, .. } in jobs {
                let mut tags = tags;
                tags.sort();
                let job = (key, type_name, reason, token, lease, hits, (cost, format, meta, tags));
                lines.push(format!("{what}: {job:?}"));
            }
        };
        tell("fresh").await;
        client.del(&["trips:deleted"]).await.unwrap();
        client
            .purge(&expcache_client::Selector::new().any(["trips:seldom"]), expcache_client::Purge::soft())
            .await
            .unwrap();
        client.invalidate_tags(["t"]).await.unwrap();
        tell("invalidated").await;
        let mut jobs = client.warm(&Warm::new().count(1).lease(LONG)).await.unwrap();
        tell("one is held").await;
        let (job, failed) = (jobs.remove(0), Release::failed("no").backoff(LONG));
        assert!(client.release(&job.key, job.token.as_deref().unwrap(), &failed).await.unwrap());
        tell("one backs off").await;
        client
            .purge(&expcache_client::Selector::new().type_name("trips"), expcache_client::Purge::hard())
            .await
            .unwrap();
        let listed = Warm::new().count(10).dry_run();
        until("it does no more", async || client.warm(&listed).await.unwrap().len() == 2).await;

        let runs = Runs::default();
        let ran = runs.clone();
        let handler = move |job: WarmJob| {
            let run = runs.next();
            async move { if run == 1 { Err(BoxError::from("no database")) } else { Ok(job.key) } }
        };
        let warming = cache.warmer().handle("trips", handler).start().unwrap();
        for key in ["trips:often", "trips:seldom"] {
            until("it is produced", async || client.get(key).await.unwrap().as_deref() == Some(key.as_bytes())).await;
        }
        assert!(warming.stop(PATIENCE).await);
        assert_eq!(ran.count(), 3);
        tell("all is fresh").await;
        told.push(lines);
    }
    assert_eq!(told[0], told[1]);
    assert!(told[0].iter().any(|line| line.starts_with("invalidated") && line.contains("often")), "{told:#?}");
}

#[tokio::test]
async fn what_expires_in_memory_is_offered() {
    let server = InMemory::new();
    let hour = Duration::from_secs(3600);
    let warm = Policy { ttl: Some(hour), grace: Some(hour), warm: Some(10), ..Policy::default() };
    let cache = Cache::open(server.config().policy("trips", warm)).unwrap();
    let plan = cache.request("trips").format("json").near(false).meta(r#"{"month":5}"#).build().unwrap();
    let ask = async || cache.get_or_produce(&plan, || async { Ok::<_, BoxError>("by a reader") }).await.unwrap();
    for _ in 0..20 {
        ask().await;
    }
    server.advance(hour);
    let jobs = cache.client().warm(&Warm::new().dry_run()).await.unwrap();
    assert_eq!((jobs[0].key.as_ref(), jobs[0].reason.as_str()), (plan.key(), "stale"));
    let handler = |job: WarmJob| async move {
        assert_eq!(job.meta::<serde_json::Value>()?["month"], 5);
        Ok::<_, BoxError>("by a worker")
    };
    let warming = cache.warmer().handle("trips", handler).start().unwrap();
    let is_warm = async || cache.get(&plan).await.unwrap().is_some_and(|served| served.payload() == "by a worker");
    until("it is warm", is_warm).await;
    assert!(warming.stop(PATIENCE).await);
}
