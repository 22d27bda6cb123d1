//! HEALTH: each check with its figure, its limit and its verdict; one that fails makes the whole degraded.

use std::fs;

use crate::harness::{Conn, Fields, Server, Value, args, refused, wait_until, wait_until_reclaimed};

const CHECKS: [&str; 17] = [
    "memory-bytes",
    "index-disagreements",
    "reclaim-backlog",
    "reclaim-seconds",
    "leases",
    "fences",
    "waiters",
    "hit-rate-percent",
    "rules",
    "rule-errors",
    "rdb-save",
    "aof-rewrite",
    "aof-write",
    "master-link",
    "loading",
    "cluster-state",
    "replicas",
];

fn check_of(c: &mut Conn, name: &str) -> Fields {
    c.map("EXPCACHE.HEALTH")[name].fields()
}

/// Asserts that this check and no other is degraded, if one is named.
#[track_caller]
fn degraded(c: &mut Conn, name: Option<&str>) {
    let health = c.map("EXPCACHE.HEALTH");
    let failed = health.names().into_iter().skip(1).filter(|check| health[check].fields()["verdict"] != "ok");
    assert_eq!(failed.collect::<Vec<_>>(), name.into_iter().collect::<Vec<_>>());
    assert_eq!(health["status"], if name.is_some() { "degraded" } else { "ok" });
}

#[test]
fn a_new_server_is_well_and_every_check_is_there() {
    let server = Server::start();
    for mut c in server.conns() {
        let health = c.map("EXPCACHE.HEALTH");
        assert!(CHECKS.iter().all(|check| health.get(check).is_some()), "{:?}", health.names());
        for check in health.names().into_iter().skip(1) {
            assert_eq!(health[check].fields().names(), ["figure", "limit", "verdict"], "{check}");
        }
        degraded(&mut c, None);
        refused(&mut c, "EXPCACHE.HEALTH now", "ERR");
    }
}

#[test]
fn memory_that_nothing_gives_back_is_short_near_its_bound() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.SET", "k", "x".repeat(1_000_000)]);
    let used: i64 = c.info("memory", "used_memory").parse().unwrap();
    c.ok(args!["CONFIG", "SET", "maxmemory", used + used / 100]);
    degraded(&mut c, Some("memory-bytes"));
    assert_eq!(check_of(&mut c, "memory-bytes")["limit"].int(), used + used / 100);
    c.ok("CONFIG SET maxmemory-policy allkeys-lru");
    degraded(&mut c, None);
}

#[test]
fn a_hit_rate_below_the_floor_shows_after_enough_reads() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.min-hit-rate 50");
    c.ok("EXPCACHE.SET trips:1 v TYPE brief-type");
    c.pipeline((0..300).map(|_| "EXPCACHE.GET trips:1"));
    c.pipeline((0..699).map(|_| "EXPCACHE.GET nothing"));
    degraded(&mut c, None);
    c.cmd("EXPCACHE.GET nothing");
    degraded(&mut c, Some("hit-rate-percent"));
    let check = check_of(&mut c, "hit-rate-percent");
    assert_eq!((check["figure"].int(), check["limit"].int()), (30, 50));
    // Reads of a type that is no more are reads too.
    c.int("EXPCACHE.DEL trips:1");
    c.int("EXPCACHE.TYPE DEL brief-type");
    c.ok("EXPCACHE.TYPE SET another TTL 1h");
    assert_eq!(check_of(&mut c, "hit-rate-percent")["figure"], 30);
    c.ok("CONFIG SET expcache.min-hit-rate 30");
    degraded(&mut c, None);
    c.ok("CONFIG SET expcache.min-hit-rate 0");
    assert_eq!(check_of(&mut c, "hit-rate-percent")["limit"], Value::Nil);
}

#[test]
fn what_waits_to_be_reclaimed_shows_and_goes() {
    let server = Server::start();
    let (mut c, mut admin) = (server.conn(), server.conn());
    c.ok("CONFIG SET expcache.reclaim-inline 0");
    c.pipeline((0..500).map(|n| args!["EXPCACHE.SET", format!("k{n}"), "v", "TAGS", 1, "t"]));
    // Nothing is reclaimed inside a transaction.
    let replies = c.transaction(["EXPCACHE.INVALIDATE.TAG t", "EXPCACHE.HEALTH"]);
    assert_eq!(replies[0], 500);
    assert_eq!(replies[1].fields()["reclaim-backlog"].fields()["figure"], 500);
    wait_until_reclaimed(&mut c);
    wait_until("and nothing waits", || check_of(&mut admin, "reclaim-seconds")["figure"] == 0);
    degraded(&mut admin, None);
}

#[test]
fn a_save_that_failed_shows() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    // A directory in the place of the file.
    fs::create_dir(server.dir().join("dump.rdb")).unwrap();
    c.cmd("BGSAVE");
    wait_until("the save has failed", || check_of(&mut c, "rdb-save")["figure"] == "err");
    degraded(&mut c, Some("rdb-save"));
    fs::remove_dir(server.dir().join("dump.rdb")).unwrap();
    c.cmd("BGSAVE");
    wait_until("a save has gone well", || check_of(&mut c, "rdb-save")["figure"] == "ok");
    degraded(&mut c, None);
}

#[test]
fn a_replica_without_its_master_shows() {
    let replica = Server::start();
    let mut r = replica.conn();
    {
        let master = Server::start();
        replica.replica_of(&master);
        degraded(&mut r, None);
        assert_eq!(check_of(&mut r, "master-link")["figure"], "up");
    }
    wait_until("the link is down", || check_of(&mut r, "master-link")["figure"] == "down");
    degraded(&mut r, Some("master-link"));
}

/// A server that refuses what clients send is not well.
#[test]
fn a_cluster_that_is_down_is_not_well() {
    let bus = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let server = Server::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    let mut c = server.conn();
    assert_eq!(check_of(&mut c, "cluster-state")["figure"], "fail");
    degraded(&mut c, Some("cluster-state"));
    c.err("EXPCACHE.GET k", "CLUSTERDOWN");
    c.ok("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_until("the cluster is up", || check_of(&mut c, "cluster-state")["figure"] == "ok");
    degraded(&mut c, None);
}

#[test]
fn writes_that_want_more_replicas_than_there_are_are_not_well() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET min-replicas-to-write 1");
    c.err("EXPCACHE.SET k v", "NOREPLICAS");
    degraded(&mut c, Some("replicas"));
    assert_eq!(check_of(&mut c, "replicas")["limit"], 1);
    let replica = Server::start();
    replica.replica_of(&server);
    wait_until("the replica is counted", || check_of(&mut c, "replicas")["figure"] == 1);
    degraded(&mut c, None);
    c.ok("CONFIG SET min-replicas-max-lag 0");
    degraded(&mut c, None);
    c.ok("EXPCACHE.SET k v");
}

/// A replica without its master says so, where it refuses to read.
#[test]
fn a_stale_replica_answers_what_needs_no_data() {
    let server = Server::with(&["--replica-serve-stale-data", "no"]);
    let mut c = server.conn();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    c.ok(&["REPLICAOF", "127.0.0.1", &nobody.to_string()]);
    c.err("EXPCACHE.GET k", "MASTERDOWN");
    degraded(&mut c, Some("master-link"));
    c.map("EXPCACHE.STATS");
    c.text("EXPCACHE.KEYFOR trips");
    assert_eq!(c.map("EXPCACHE.TYPE GET trips")["ttl"], 3_600_000);
    c.cmd("EXPCACHE.TYPE LIST").items();
    assert_eq!(c.cmd("EXPCACHE.DEBUG CHECK"), Value::Array(Vec::new()));
}

#[test]
fn a_server_that_loads_answers_what_needs_no_data() {
    let server = Server::start();
    let mut c = server.conn();
    c.pipeline((0..2000).map(|n| args!["EXPCACHE.SET", format!("k{n}"), "v".repeat(200)]));
    c.ok("CONFIG SET loading-process-events-interval-bytes 1024");
    c.ok("CONFIG SET key-load-delay 3000");
    let mut loads = server.conn();
    loads.send("DEBUG RELOAD").unwrap();
    wait_until("it loads", || matches!(c.cmd("EXPCACHE.GET k1"), Value::Error(text) if text.starts_with("LOADING")));
    degraded(&mut c, Some("loading"));
    c.map("EXPCACHE.STATS");
    c.text("EXPCACHE.KEYFOR trips");
    c.ok("CONFIG SET key-load-delay 0");
    assert_eq!(loads.receive().unwrap(), Value::Simple("OK".into()));
    degraded(&mut c, None);
}
