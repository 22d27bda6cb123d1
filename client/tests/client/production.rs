//! `parts_or_produce`: exports that are sent as they are made, and read in parts.

use std::io;
use std::time::Duration;

use expcache_client::testing::InMemory;
use expcache_client::{Error, Export, Finished, Production, Unshared};
use harness::args;
use tokio::io::AsyncWriteExt as _;

use super::cluster::Cluster;
use super::*;

const PART: u64 = 100_000;
const HOUR: Duration = Duration::from_secs(3600);

fn line(n: usize) -> String {
    format!("{n},vehicle-{},true\n", n % 97)
}

fn rows(count: usize) -> String {
    (0..count).map(line).collect()
}

async fn write_rows(mut production: Production, count: usize) -> Result<Finished, Error> {
    for n in 0..count {
        production.write(line(n)).await?;
    }
    production.finish(Export::default().format("csv").records(count as u64).tag("late")).await
}

async fn whole(cache: &Cache, request: &Request, count: usize) -> String {
    let mut parts = cache.parts_or_produce(request, PART, |to| write_rows(to, count)).await.unwrap();
    let mut whole = Vec::new();
    while let Some(part) = parts.next().await.unwrap() {
        assert!(part.len() as u64 <= PART);
        whole.extend_from_slice(&part);
    }
    assert_eq!(parts.size(), whole.len() as u64);
    String::from_utf8(whole).unwrap()
}

#[tokio::test]
async fn what_is_written_is_what_is_read() {
    let server = Server::start();
    let (cache, c) = (cache(&server), client(&server));
    for count in [0, 1, 50_000, 200_000] {
        let request = cache.request("trips").company(42).field("rows", count).build().unwrap();
        let expected = rows(count);
        assert!(whole(&cache, &request, count).await == expected, "{count} rows, made");
        assert!(whole(&cache, &request, 0).await == expected, "{count} rows, found");
        let meta = c.meta(request.key()).await.unwrap().unwrap();
        assert_eq!((meta.format.as_deref(), meta.records), (Some(&b"csv"[..]), Some(count as u64)));
        assert!(meta.tags.iter().any(|tag| tag == "company:42") && meta.tags.iter().any(|tag| tag == "late"));
    }
    assert_eq!(server.conn().info("expcache", "expcache_parts_bytes"), "0");
}

#[tokio::test]
async fn whatever_writes_may_write() {
    let server = Server::start();
    let cache = cache(&server);
    let (request, payload) = (request(&cache), rows(100_000));
    let produce = |mut production: Production| {
        let payload = payload.clone();
        async move {
            tokio::io::copy(&mut payload.as_bytes(), &mut production).await?;
            production.flush().await?;
            assert_eq!(production.len(), payload.len() as u64);
            production.finish(Export::new("end")).await.map_err(io::Error::other)
        }
    };
    let mut parts = cache.parts_or_produce(&request, 1 << 30, produce).await.unwrap();
    assert!(parts.next().await.unwrap().unwrap() == payload + "end");
}

#[tokio::test]
async fn one_produces_and_the_others_wait() {
    let (server, runs) = (Server::start(), Runs::default());
    let caches: Vec<Cache> = (0..4).map(|_| cache(&server)).collect();
    let asking = caches.iter().map(|cache| {
        let (cache, runs) = (cache.clone(), runs.clone());
        tokio::spawn(async move {
            let produce = |to| async move {
                runs.next();
                write_rows(to, 30_000).await
            };
            cache.parts_or_produce(&request(&cache), PART, produce).await.map(|parts| parts.size())
        })
    });
    for task in asking.collect::<Vec<_>>() {
        assert_eq!(task.await.unwrap().unwrap(), rows(30_000).len() as u64);
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn what_is_not_finished_is_given_up() {
    let server = Server::start();
    let (cache, c) = (cache(&server), client(&server));
    let request = request(&cache);
    // The producer fails.
    let fails = |mut to: Production| async move {
        to.write(rows(50_000)).await.unwrap();
        Err::<Finished, _>(io::Error::other("no database"))
    };
    let error = cache.parts_or_produce(&request, PART, fails).await.unwrap_err();
    assert_eq!(error.producer::<io::Error>().unwrap().to_string(), "no database");
    assert_eq!(c.stats().await.unwrap().failures, 1);
    c.del(&[request.key()]).await.unwrap();
    // Its caller goes.
    let hangs = |mut to: Production| async move {
        to.write(rows(50_000)).await.unwrap();
        std::future::pending::<Result<Finished, Error>>().await
    };
    let asking = cache.parts_or_produce(&request, PART, hangs);
    assert!(tokio::time::timeout(Duration::from_millis(300), asking).await.is_err());
    until("it is given back", async || server.conn().info("expcache", "expcache_leases_held") == "0").await;
    assert_eq!(server.conn().info("expcache", "expcache_parts_bytes"), "0");
    // What it is made of is invalidated meanwhile.
    let invalidated = |mut to: Production| {
        let cache = cache.clone();
        async move {
            to.write(rows(50_000)).await?;
            cache.invalidate_company(42).await?;
            to.finish(Export::default()).await
        }
    };
    assert!(matches!(cache.parts_or_produce(&request, PART, invalidated).await, Err(Error::Fenced)));
    assert!(whole(&cache, &request, 1_000).await == rows(1_000), "and another may produce it");
}

/// What is wrong is told where it is noticed, and says nothing against the producer.
#[tokio::test]
async fn a_lost_lease_is_an_error() {
    let server = Server::start();
    let (cache, c) = (cache(&server), client(&server));
    let (server, request) = (&server, &request(&cache));
    let loses = |mut to: Production| async move {
        to.write(rows(50_000)).await?;
        server.conn().cmd(args!["EXPCACHE.DEL", request.key()]);
        let error = to.write(rows(50_000)).await.unwrap_err();
        assert!(matches!(error, Error::LeaseLost), "{error}");
        to.finish(Export::default()).await
    };
    assert!(matches!(cache.parts_or_produce(request, PART, loses).await, Err(Error::LeaseLost)));
    let copies = |mut to: Production| async move {
        to.write(rows(50_000)).await.unwrap();
        server.conn().cmd(args!["EXPCACHE.DEL", request.key()]);
        tokio::io::copy(&mut rows(100_000).as_bytes(), &mut to).await?;
        to.finish(Export::default()).await.map_err(io::Error::other)
    };
    assert!(matches!(cache.parts_or_produce(request, PART, copies).await, Err(Error::LeaseLost)));
    let unshared = |_: Production| async { Err::<Finished, _>(Unshared::new("no such report")) };
    assert!(cache.parts_or_produce(request, PART, unshared).await.unwrap_err().producer::<io::Error>().is_none());
    assert_eq!(c.stats().await.unwrap().failures, 0, "none of that is a failure that others learn of");
    assert_eq!(server.conn().info("expcache", "expcache_parts_bytes"), "0");
    assert!(whole(&cache, request, 1_000).await == rows(1_000), "and another may produce it");
}

/// A piece whose reply is lost is there once.
#[tokio::test]
async fn connections_break_in_the_middle() {
    let server = Server::start();
    let cache = cache(&server);
    let (server, request) = (&server, request(&cache));
    let breaks = |mut to: Production| async move {
        for _ in 0..5 {
            to.write(rows(40_000)).await?;
            server.conn().cmd("CLIENT KILL TYPE normal SKIPME yes");
        }
        to.finish(Export::default()).await
    };
    let mut parts = cache.parts_or_produce(&request, 1 << 30, breaks).await.unwrap();
    assert!(parts.next().await.unwrap().unwrap() == rows(40_000).repeat(5));
}

#[tokio::test]
async fn a_producer_that_takes_too_long_has_failed() {
    let server = Server::start();
    let cache = Cache::open(Config::single(address(&server)).unwrap().backoff(HOUR, HOUR)).unwrap();
    let request = cache.request("trips").produce_timeout(Duration::from_millis(50)).build().unwrap();
    let hangs = |mut to: Production| async move {
        to.write(rows(50_000)).await.unwrap();
        std::future::pending::<Result<Finished, Error>>().await
    };
    let error = cache.parts_or_produce(&request, PART, hangs).await.unwrap_err();
    assert!(error.to_string().contains("longer than 50ms"), "{error}");
    until("it is given back", async || server.conn().info("expcache", "expcache_parts_bytes") == "0").await;
    // While the key backs off, nobody hammers at the server.
    let error = cache.parts_or_produce(&request, PART, |to| write_rows(to, 1)).await.unwrap_err();
    assert!(error.to_string().contains("longer than 50ms"), "{error}");
}

#[tokio::test]
async fn in_a_cluster() {
    let cluster = Cluster::start();
    let cache = Cache::open(cluster.config()).unwrap();
    for n in 0..6 {
        let request = cache.request("trips").field("n", n).build().unwrap();
        assert!(whole(&cache, &request, 30_000 + n).await == rows(30_000 + n));
    }
    for node in &cluster.0 {
        assert_eq!(node.conn().info("expcache", "expcache_parts_bytes"), "0");
    }
}

/// The lease lasts as long as it takes.
#[tokio::test]
async fn a_long_production_keeps_its_lease() {
    let server = Server::start();
    let cache = cache(&server);
    let request = cache.request("trips").lease(Duration::from_millis(500)).build().unwrap();
    let slow = |mut to: Production| async move {
        for n in 0..8 {
            to.write(rows(20_000)).await?;
            tokio::time::sleep(Duration::from_millis(200 + n)).await;
        }
        to.finish(Export::default()).await
    };
    let parts = cache.parts_or_produce(&request, PART, slow).await.unwrap();
    assert_eq!(parts.size(), 8 * rows(20_000).len() as u64);
}

#[tokio::test]
async fn without_a_server_it_is_an_error() {
    let config = Config::single("redis://127.0.0.1:1/").unwrap();
    let cache = Cache::open(config).unwrap();
    let error = cache.parts_or_produce(&request(&cache), PART, |to| write_rows(to, 1)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

#[tokio::test]
async fn in_memory_too() {
    let memory = InMemory::new();
    let cache = memory.cache().unwrap();
    assert!(whole(&cache, &request(&cache), 20_000).await == rows(20_000));
}
