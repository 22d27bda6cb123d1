//! STATS: what is counted, overall and by type, and RESET.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{Conn, HOSTILE, Server, Value, args, check, refused, wait_until};

const COUNTERS: [&str; 9] =
    ["hits", "stale-hits", "misses", "sets", "deletes", "expired", "evicted", "invalidated", "rejected"];

#[track_caller]
fn count(c: &mut Conn, name: &str) -> i64 {
    c.map("EXPCACHE.STATS")[name].int()
}

#[test]
fn an_empty_cache_counts_nothing() {
    let server = Server::start();
    for mut c in server.conns() {
        let stats = c.map("EXPCACHE.STATS");
        for name in COUNTERS.into_iter().chain(["entries", "tags", "payload-bytes", "stored-bytes"]) {
            assert_eq!(stats[name], 0, "{name}");
        }
        assert_eq!(stats["hit-rate"].number(), 0.0);
        assert!(stats["ratio"].number().is_finite());
        assert!(stats["index-bytes"].int() >= 0);
    }
}

#[test]
fn what_is_in_the_cache() {
    let server = Server::start();
    let mut c = server.conn();
    let empty = c.map("EXPCACHE.STATS")["index-bytes"].int();
    c.ok("EXPCACHE.SET a 12345 TYPE trips TAGS 2 x y");
    c.ok("EXPCACHE.SET b 123 TYPE trips TAGS 2 y z");
    c.ok("EXPCACHE.SET c 1 TYPE vehicles");
    c.ok("SET native v");
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!(stats["entries"], 3);
    assert_eq!(stats["tags"], 3);
    assert_eq!(stats["payload-bytes"], 9);
    assert!(stats["stored-bytes"].int() >= 9);
    assert!(stats["index-bytes"].int() > empty);
    assert!(stats["ratio"].number() > 0.0);

    c.ok("EXPCACHE.SET a 1 TYPE vehicles");
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!(stats["entries"], 3);
    assert_eq!(stats["tags"], 2, "the last with the tag x is overwritten");
    assert_eq!(stats["payload-bytes"], 5);

    c.ok("FLUSHALL");
    let stats = c.map("EXPCACHE.STATS");
    for name in ["entries", "tags", "payload-bytes", "stored-bytes"] {
        assert_eq!(stats[name], 0, "{name}");
    }
    check(&mut c);
}

#[test]
fn reads_are_hits_or_misses() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.STATS RESET");
        c.ok("EXPCACHE.MSET 2 a 1 b 2");
        c.ok("EXPCACHE.SET stale 3 PXAT 1000 GRACE 365000d");
        c.cmd("EXPCACHE.GET a");
        c.cmd("EXPCACHE.GET nothing");
        c.cmd("EXPCACHE.MGET a b nothing");
        c.cmd("EXPCACHE.FETCH a");
        c.cmd("EXPCACHE.FETCH a IFNONEMATCH c4ca4238a0b923820dcc509a6f75849b");
        c.cmd("EXPCACHE.FETCH nothing");
        c.cmd("EXPCACHE.META a");
        c.cmd("EXPCACHE.META nothing");
        let stats = c.map("EXPCACHE.STATS");
        assert_eq!(stats["hits"], 5);
        assert_eq!(stats["misses"], 3);
        assert_eq!(stats["hit-rate"].number(), 0.625);
        assert_eq!(stats["stale-hits"], 0);

        c.cmd("EXPCACHE.FETCH stale");
        let stats = c.map("EXPCACHE.STATS");
        assert_eq!(stats["stale-hits"], 1);
        assert_eq!(stats["misses"], 3);
    }
}

#[test]
fn writes_are_counted_per_entry() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a 1 TAGS 1 x");
    c.ok("EXPCACHE.SET a 2 TAGS 1 x");
    c.ok("EXPCACHE.MSET 3 b 1 c 1 d 1 TAGS 1 x");
    c.nil("EXPCACHE.SET a 3 NX");
    c.nil("EXPCACHE.MSET 2 e 1 a 1 NX");
    assert_eq!(count(&mut c, "sets"), 5);
    c.int("EXPCACHE.DEL a nothing b");
    assert_eq!(count(&mut c, "deletes"), 2);
    c.int("EXPCACHE.INVALIDATE.TAG x");
    assert_eq!(count(&mut c, "invalidated"), 2);
    assert_eq!(count(&mut c, "deletes"), 2);
    assert_eq!(count(&mut c, "entries"), 0);
}

#[test]
fn expiry_and_making_room_are_counted() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 2 a 1 b 1 PX 1 TYPE trips");
    wait_until("both have expired", || count(&mut c, "expired") == 2);
    assert_eq!(count(&mut c, "entries"), 0);
    assert_eq!(c.map("EXPCACHE.STATS TYPE trips")["expired"], 2);

    c.ok("EXPCACHE.TYPE SET one MAXENTRIES 1");
    c.ok("EXPCACHE.SET a v TYPE one");
    c.ok("EXPCACHE.SET b v TYPE one");
    assert_eq!(count(&mut c, "evicted"), 1);
    assert_eq!(count(&mut c, "expired"), 2);
    check(&mut c);
}

#[test]
fn eviction_at_maxmemory_is_counted() {
    let server = Server::with(&["--maxmemory-policy", "allkeys-lru"]);
    let mut c = server.conn();
    let payload = "x".repeat(1000);
    for n in 0..1000 {
        c.ok(args!["EXPCACHE.SET", format!("k{n}"), &payload, "TAGS", 1, "x"]);
    }
    let used: i64 = c.info("memory", "used_memory").parse().unwrap();
    c.ok(args!["CONFIG", "SET", "maxmemory", used - 200_000]);
    c.ok("EXPCACHE.SET one-more v");
    wait_until("entries are evicted", || count(&mut c, "evicted") > 0);
    check(&mut c);
}

#[test]
fn a_refused_store_is_counted() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET small MAXVALUE 2 FORMATS 1 csv");
    c.err("EXPCACHE.SET k 333 TYPE small", "TOOLARGE");
    c.err("EXPCACHE.SET k 22 TYPE small FORMAT xml", "BADFORMAT");
    assert_eq!(count(&mut c, "rejected"), 2);
    assert_eq!(c.map("EXPCACHE.STATS TYPE small")["rejected"], 2);
    assert_eq!(count(&mut c, "sets"), 0);
}

#[test]
fn each_type_has_its_own() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.STATS RESET");
        c.ok("EXPCACHE.MSET 2 trips:1 12345 trips:2 12345 TAGS 1 x");
        c.ok("EXPCACHE.SET vehicles:1 1");
        c.cmd("EXPCACHE.MGET trips:1 trips:2 vehicles:1");
        let stats = c.map("EXPCACHE.STATS TYPE trips");
        assert_eq!(stats["entries"], 2);
        assert_eq!(stats["payload-bytes"], 10);
        assert_eq!(stats["hits"], 2);
        assert_eq!(stats["sets"], 2);
        for name in ["tags", "index-bytes", "types"] {
            assert_eq!(stats.get(name), None, "{name} is the whole cache's");
        }

        let types = c.map("EXPCACHE.STATS")["types"].fields();
        let trips = types["trips"].fields();
        assert_eq!(trips.names(), ["entries", "payload-bytes", "stored-bytes", "hits", "misses", "hit-rate"]);
        assert_eq!(trips["entries"], 2);
        assert_eq!(trips["payload-bytes"], 10);
        assert_eq!(trips["hits"], 2);
        assert_eq!(trips["hit-rate"].number(), 1.0);
        assert_eq!(types["vehicles"].fields()["entries"], 1);
    }
}

#[test]
fn a_type_of_any_name_has_statistics() {
    let server = Server::start();
    let mut c = server.conn();
    for name in HOSTILE {
        c.ok(args!["EXPCACHE.SET", name, "v", "TYPE", name]);
        assert_eq!(c.map(args!["EXPCACHE.STATS", "TYPE", name])["entries"], 1);
    }
    assert_eq!(c.map("EXPCACHE.STATS")["entries"], HOSTILE.len() as i64);
}

#[test]
fn reset_clears_the_counters_and_nothing_else() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.MSET 3 trips:1 1 trips:2 1 trips:3 1 TAGS 1 x");
        c.cmd("EXPCACHE.MGET trips:1 nothing");
        c.cmd("EXPCACHE.DEL trips:3");
        c.cmd("EXPCACHE.INVALIDATE.TAG nosuch");
        c.ok("EXPCACHE.STATS RESET");
        let stats = c.map("EXPCACHE.STATS");
        for name in COUNTERS {
            assert_eq!(stats[name], 0, "{name}");
            assert_eq!(c.map("EXPCACHE.STATS TYPE trips")[name], 0, "{name}");
        }
        assert_eq!(stats["hit-rate"].number(), 0.0);
        assert_eq!(stats["entries"], 2);
        assert_eq!(stats["tags"], 1);
        assert_eq!(stats["payload-bytes"], 2);
        assert_eq!(c.cmd("EXPCACHE.GET trips:1"), "1");
        check(&mut c);
    }
}

#[test]
fn counting_changes_nothing_that_is_saved() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a v");
    c.ok("EXPCACHE.SET stale v PXAT 1000 GRACE 365000d");
    let changes = c.info("persistence", "rdb_changes_since_last_save");
    for command in [
        "EXPCACHE.GET a",
        "EXPCACHE.GET nothing",
        "EXPCACHE.MGET a stale nothing",
        "EXPCACHE.FETCH a",
        "EXPCACHE.FETCH stale",
        "EXPCACHE.META a",
        "EXPCACHE.STATS",
        "EXPCACHE.STATS RESET",
        "EXPCACHE.TYPE GET trips",
        "EXPCACHE.DEBUG CHECK",
    ] {
        c.cmd(command);
    }
    assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
}

#[test]
fn what_it_does_not_understand_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    for command in [
        "EXPCACHE.STATS NONSENSE",
        "EXPCACHE.STATS TYPE",
        "EXPCACHE.STATS RESET NOW",
        "EXPCACHE.STATS TYPE trips NONSENSE",
    ] {
        refused(&mut c, command, "ERR");
    }
    c.ok("expcache.stats reset");
    assert_ne!(c.cmd("expcache.stats type trips"), Value::Nil);
}
