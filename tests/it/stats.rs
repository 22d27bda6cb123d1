//! STATS: what is counted, overall and by type, and RESET.

use crate::harness::{
    Conn, Fields, HOSTILE, Random, Server, Stop, Value, args, check, refused, wait_until, wait_until_reclaimed,
};

const COUNTERS: [&str; 20] = [
    "hits",
    "stale-hits",
    "misses",
    "misses-cold",
    "misses-expired",
    "misses-invalidated",
    "sets",
    "deletes",
    "expired",
    "evicted",
    "invalidated",
    "rejected",
    "corrupt",
    "leases",
    "fenced",
    "waits",
    "failures",
    "warmed",
    "warmed-hits",
    "saved-ms",
];

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

/// Whatever becomes of its key before that is reclaimed, an invalidation made one entry go.
#[test]
fn an_invalidated_entry_is_counted_once() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.reclaim-inline 0");
    for (n, and_then) in ["RENAME k l", "COPY k l", "RENAME k l", "PERSIST k"].iter().enumerate() {
        c.ok("EXPCACHE.SET k v TAGS 1 t");
        c.transaction([
            args!["EXPCACHE.INVALIDATE.TAG", "t"],
            and_then.split(' ').map(|w| w.as_bytes().to_vec()).collect(),
        ]);
        assert_eq!(count(&mut c, "invalidated"), n as i64 + 1, "{and_then}");
        wait_until_reclaimed(&mut c);
        assert_eq!(count(&mut c, "invalidated"), n as i64 + 1, "{and_then}, reclaimed");
    }
    check(&mut c);
}

#[test]
fn a_fenced_store_counts_for_its_type() {
    let server = Server::start();
    let mut c = server.conn();
    let lease = c.map("EXPCACHE.FETCH k LEASE 1h")["lease"].text();
    c.int("EXPCACHE.INVALIDATE.TAG t");
    c.err(&format!("EXPCACHE.SET k v TYPE trips TAGS 1 t LEASE {lease}"), "FENCED");
    assert_eq!(c.map("EXPCACHE.STATS TYPE trips")["fenced"], 1);
    assert_eq!(c.map("EXPCACHE.STATS TYPE default")["fenced"], 0);
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
        assert_eq!(
            (&stats["tags"], &stats["index-bytes"]),
            (&Value::Nil, &Value::Nil),
            "the index is one for all types"
        );
        assert_eq!(stats.get("types"), None);

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
        "EXPCACHE.STATS TYPE trips TYPE trips",
        "EXPCACHE.STATS TYPE trips RESET",
        "EXPCACHE.STATS WINDOW",
        "EXPCACHE.STATS WINDOW 0",
        "EXPCACHE.STATS WINDOW soon",
        "EXPCACHE.STATS WINDOW 31d",
        "EXPCACHE.STATS WINDOW 1h WINDOW 1h",
    ] {
        refused(&mut c, command, "ERR");
    }
    c.ok("expcache.stats reset");
    assert_ne!(c.cmd("expcache.stats type trips"), Value::Nil);
}

// ---- the whole map

#[test]
fn fields_come_in_the_order_of_the_contract() {
    let server = Server::start();
    let sizes = ["entries", "tags", "payload-bytes", "stored-bytes", "index-bytes", "ratio"];
    let reads = ["hits", "stale-hits", "misses", "misses-cold", "misses-expired", "misses-invalidated", "hit-rate"];
    let changes = ["sets", "deletes", "expired", "evicted", "invalidated", "rejected", "corrupt"];
    let production = ["leases", "fenced", "waits", "failures", "warmed", "warmed-hits", "produce-ms", "saved-ms"];
    let all = [&sizes[..], &reads, &changes, &production, &["formats", "ttl"]].concat();
    for mut c in server.conns() {
        for window in ["", "WINDOW 1h", "window 30d", "WINDOW 60000"] {
            assert_eq!(c.map(&format!("EXPCACHE.STATS {window}")).names(), [&all[..], &["types", "rules"]].concat());
            let of_type = c.map(&format!("EXPCACHE.STATS {window} TYPE trips"));
            assert_eq!(of_type.names(), all);
        }
    }
}

/// The counters of a reply.
fn counters(stats: &Fields) -> [i64; COUNTERS.len()] {
    COUNTERS.map(|name| stats[name].int())
}

/// What was done at random is counted overall, by type and in every window, and the types add up to the whole.
#[test]
fn types_and_windows_add_up_to_the_whole() {
    let server = Server::start();
    let (mut c, mut random) = (server.conn(), Random::new(5));
    for _ in 0..3000 {
        let (key, type_name) = (format!("k{}", random.below(200)), format!("type{}", random.below(5)));
        match random.below(12) {
            0..3 => {
                _ = c.cmd(args![
                    "EXPCACHE.SET",
                    key,
                    "v",
                    "TYPE",
                    type_name,
                    "TAGS",
                    1,
                    format!("t{}", random.below(9)),
                    "COST",
                    7
                ])
            }
            3 => _ = c.cmd(args!["EXPCACHE.SET", key, "v", "TYPE", type_name, "PX", 1 + random.below(3)]),
            4 => _ = c.cmd(args!["EXPCACHE.DEL", key]),
            5 => _ = c.cmd(args!["EXPCACHE.INVALIDATE.TAG", format!("t{}", random.below(9))]),
            6 => _ = c.cmd(args!["EXPCACHE.FETCH", key, "LEASE", 1]),
            7 => _ = c.cmd(args!["EXPCACHE.PURGE", "TYPE", type_name, "SOFT"]),
            _ => _ = c.cmd(args!["EXPCACHE.GET", key]),
        }
    }
    wait_until_reclaimed(&mut c);
    wait_until("what is brief has expired", || {
        let stats = c.map("EXPCACHE.STATS");
        stats["ttl"].items()[0].items()[1] == 0
    });
    for window in ["", "WINDOW 1m", "WINDOW 24h", "WINDOW 25h", "WINDOW 30d"] {
        let all = c.map(&format!("EXPCACHE.STATS {window}"));
        assert_eq!(
            all["misses"].int(),
            ["misses-cold", "misses-expired", "misses-invalidated"].map(|n| all[n].int()).iter().sum::<i64>()
        );
        let mut sum = [0; COUNTERS.len()];
        for name in all["types"].fields().names() {
            let of_type = c.map(&format!("EXPCACHE.STATS TYPE {name} {window}"));
            sum.iter_mut().zip(counters(&of_type)).for_each(|(sum, own)| *sum += own);
            let among = all["types"].fields()[name].fields();
            for field in among.names() {
                assert_eq!(among[field], of_type[field], "{name} {field} {window}");
            }
        }
        assert_eq!(sum, counters(&all), "{window}");
        // The server has not run for two minutes.
        assert_eq!(counters(&all), counters(&c.map("EXPCACHE.STATS")), "{window}");
    }
    check(&mut c);
}

// ---- why a read missed

#[track_caller]
fn misses(c: &mut Conn) -> [i64; 3] {
    let stats = c.map("EXPCACHE.STATS");
    let by_cause = ["misses-cold", "misses-expired", "misses-invalidated"].map(|name| stats[name].int());
    assert_eq!(by_cause.iter().sum::<i64>(), stats["misses"].int());
    by_cause
}

/// Reads a key in every way there is; how many misses of each cause that makes.
#[track_caller]
fn reads(c: &mut Conn, key: &str) -> [i64; 3] {
    let before = misses(c);
    c.nil(&format!("EXPCACHE.GET {key}"));
    c.cmd(&format!("EXPCACHE.MGET {key}"));
    c.cmd(&format!("EXPCACHE.FETCH {key}"));
    let after = misses(c);
    [0, 1, 2].map(|at| after[at] - before[at])
}

#[test]
fn a_miss_says_what_it_missed() {
    for inline in ["0", "256"] {
        let server = Server::start();
        let mut c = server.conn();
        c.ok(&format!("CONFIG SET expcache.reclaim-inline {inline}"));
        assert_eq!(reads(&mut c, "never"), [3, 0, 0]);

        c.ok("EXPCACHE.SET brief v PX 1");
        wait_until("its time is over", || c.cmd("EXISTS brief") == 0);
        assert_eq!(reads(&mut c, "brief"), [0, 3, 0]);

        c.ok("EXPCACHE.MSET 2 a v b v TAGS 1 t");
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 2);
        assert_eq!(reads(&mut c, "a"), [0, 0, 3]);
        wait_until_reclaimed(&mut c);
        assert_eq!(reads(&mut c, "a"), [0, 0, 3]);

        // What comes back and goes for another reason is not what it was.
        c.ok("EXPCACHE.SET a v");
        c.int("EXPCACHE.DEL a");
        assert_eq!(reads(&mut c, "a"), [3, 0, 0]);
        c.ok("EXPCACHE.SET b v PX 1");
        wait_until("its time is over", || c.cmd("EXISTS b") == 0);
        assert_eq!(reads(&mut c, "b"), [0, 3, 0]);

        // FETCH hands out what is stale, the others do not.
        c.ok("EXPCACHE.SET stale v PXAT 1000 GRACE 365000d");
        assert_eq!(reads(&mut c, "stale"), [0, 2, 0]);
        c.ok("EXPCACHE.SET soft v GRACE 1h");
        assert_eq!(c.int("EXPCACHE.PURGE MATCH soft SOFT"), 1);
        assert_eq!(reads(&mut c, "soft"), [0, 0, 2]);
        wait_until_reclaimed(&mut c);
        assert_eq!(reads(&mut c, "soft"), [0, 0, 2]);

        // A cause is a key's, and a key a database's.
        c.ok("SELECT 1");
        assert_eq!(reads(&mut c, "brief"), [3, 0, 0]);
        c.ok("SWAPDB 0 1");
        assert_eq!(reads(&mut c, "brief"), [0, 3, 0]);
        c.ok("FLUSHDB");
        assert_eq!(reads(&mut c, "brief"), [3, 0, 0]);
        check(&mut c);
    }
}

#[test]
fn a_miss_counts_for_the_type_of_what_is_there() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET trips:1 v TYPE reports PXAT 1000 GRACE 365000d");
    c.nil("EXPCACHE.GET trips:1");
    c.nil("EXPCACHE.GET trips:2");
    assert_eq!(c.map("EXPCACHE.STATS TYPE reports")["misses-expired"], 1);
    assert_eq!(c.map("EXPCACHE.STATS TYPE trips")["misses-cold"], 1);
}

#[test]
fn the_memory_of_causes_is_bounded_and_can_be_turned_off() {
    let server = Server::start();
    let mut c = server.conn();
    let info = |c: &mut Conn, name: &str| c.info("expcache", name).parse::<f64>().unwrap();
    c.ok("CONFIG SET expcache.miss-memory 100");
    c.pipeline((0..1000).map(|n| args!["EXPCACHE.SET", format!("k{n}"), "v", "TAGS", 1, "t"]));
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1000);
    wait_until_reclaimed(&mut c);
    let known = info(&mut c, "expcache_miss_memory_keys");
    assert!((64.0..=128.0).contains(&known), "{known}");
    assert!(info(&mut c, "expcache_miss_memory_reach_seconds") < 60.0);
    let before = misses(&mut c);
    c.pipeline((0..1000).map(|n| args!["EXPCACHE.GET", format!("k{n}")]));
    let after = misses(&mut c);
    assert_eq!((after[2] - before[2]) as f64, known);

    c.ok("CONFIG SET expcache.miss-memory 0");
    c.ok("EXPCACHE.SET k v TAGS 1 t");
    c.int("EXPCACHE.INVALIDATE.TAG t");
    wait_until("it is forgotten", || info(&mut c, "expcache_miss_memory_keys") == 0.0);
    assert_eq!(reads(&mut c, "k"), [3, 0, 0]);
    // What is dead and still there needs no memory.
    c.ok("CONFIG SET expcache.reclaim-inline 0");
    let replies = c.transaction(["EXPCACHE.SET k v TAGS 1 t", "EXPCACHE.INVALIDATE.TAG t", "EXPCACHE.GET k"]);
    assert_eq!(replies[2], Value::Nil);
    assert_eq!(misses(&mut c)[2] - after[2], 1);
}

#[test]
fn a_replica_counts_for_itself() {
    let (master, replica) = (Server::start(), Server::start());
    let (mut c, mut r) = (master.conn(), replica.conn());
    replica.replica_of(&master);
    c.ok("EXPCACHE.MSET 2 a v b v");
    c.ok("EXPCACHE.SET brief v PX 1");
    wait_until("the master has expired it", || c.cmd("DBSIZE") == 2);
    c.cmd("EXPCACHE.GET a");
    replica.wait_for_sync(&master);
    assert_eq!(reads(&mut r, "brief"), [0, 3, 0]);
    r.cmd("EXPCACHE.GET b");
    let (of_master, of_replica) = (c.map("EXPCACHE.STATS"), r.map("EXPCACHE.STATS"));
    let seen =
        |stats: &Fields| ["entries", "hits", "misses", "sets", "deletes", "expired"].map(|name| stats[name].int());
    assert_eq!(seen(&of_master), [2, 1, 0, 3, 0, 1]);
    assert_eq!(seen(&of_replica), [2, 1, 3, 0, 0, 1]);
    r.ok("EXPCACHE.STATS RESET");
    assert_eq!((count(&mut r, "hits"), count(&mut c, "hits")), (0, 1));
    check(&mut r);
}

#[test]
fn a_restart_begins_anew_with_what_there_is() {
    let mut server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a 12345 TYPE trips EX 1000 FORMAT csv");
    c.ok("EXPCACHE.SET b 123 TYPE trips EX 100000");
    assert_eq!(c.int("EXPIRE b 50"), 1);
    c.cmd("EXPCACHE.GET a");
    let before = c.map("EXPCACHE.STATS");
    server.restart(Stop::Save);
    let mut c = server.conn();
    let after = c.map("EXPCACHE.STATS");
    assert_eq!(counters(&after), [0; COUNTERS.len()]);
    for name in ["entries", "payload-bytes", "ttl"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    check(&mut c);
}

// ---- formats and lifetimes

#[test]
fn exports_are_counted_by_format() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.STATS RESET");
        c.ok("EXPCACHE.SET a 12345 TYPE trips FORMAT csv");
        c.ok("EXPCACHE.SET a 123 TYPE trips FORMAT csv");
        c.ok("EXPCACHE.MSET 2 b 1 c 22 TYPE reports FORMAT csv");
        c.ok("EXPCACHE.SET d 1 TYPE reports FORMAT xlsx");
        c.ok("EXPCACHE.SET e 1 TYPE reports");
        let of = |stats: &Fields, name: &str| {
            let format = stats["formats"].fields()[name].fields();
            ["sets", "bytes", "max-bytes"].map(|field| format[field].int())
        };
        let (all, trips) = (c.map("EXPCACHE.STATS"), c.map("EXPCACHE.STATS TYPE trips"));
        assert_eq!(all["formats"].fields().names().len(), 2);
        assert_eq!((of(&all, "csv"), of(&all, "xlsx")), ([4, 11, 5], [1, 1, 1]));
        assert_eq!((trips["formats"].fields().names(), of(&trips, "csv")), (vec!["csv"], [2, 8, 5]));
        c.pipeline((0..100).map(|n| args!["EXPCACHE.SET", "k", "v", "FORMAT", format!("f{n}")]));
        let all = c.map("EXPCACHE.STATS TYPE default");
        assert_eq!(all["formats"].fields().names().len(), 33);
        assert_eq!(of(&all, "other")[0], 68);
        c.ok("EXPCACHE.STATS RESET");
        assert_eq!(c.map("EXPCACHE.STATS")["formats"].fields().names().len(), 0);
    }
}

/// Entries by the bound of the time that they have left, as `[bound, entries]` of those bounds that have some.
#[track_caller]
fn left(c: &mut Conn, of: &str) -> Vec<(i64, i64)> {
    let stats = c.map(&format!("EXPCACHE.STATS {of}"));
    let pairs: Vec<(i64, i64)> =
        stats["ttl"].items().iter().map(|p| (p.items()[0].int(), p.items()[1].int())).collect();
    assert_eq!(pairs.iter().map(|(_, entries)| entries).sum::<i64>(), stats["entries"].int());
    pairs.into_iter().filter(|(_, entries)| *entries > 0).collect()
}

#[test]
fn the_time_left_is_spread_by_what_the_server_says() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a v TYPE trips EX 30");
    c.ok("EXPCACHE.SET b v TYPE trips EX 7200");
    c.ok("EXPCACHE.SET c v TYPE trips EX 7200 GRACE 30d");
    c.ok("EXPCACHE.SET d v TYPE reports PXAT 1000 GRACE 365000d");
    c.ok("EXPCACHE.TYPE SET endless TTL 0s");
    c.ok("EXPCACHE.SET e v TYPE endless");
    assert_eq!(left(&mut c, ""), [(60, 2), (14_400, 2), (-1, 1)]);
    assert_eq!(left(&mut c, "TYPE trips"), [(60, 1), (14_400, 2)]);
    // Natively moved, with a grace and without; renamed, copied, moved, stored over.
    assert_eq!(c.int("EXPIRE b 200"), 1);
    assert_eq!(c.int("PERSIST a"), 1);
    assert_eq!(c.int("EXPIRE e 100000"), 1);
    assert_eq!(left(&mut c, ""), [(60, 1), (300, 1), (14_400, 1), (604_800, 1), (-1, 1)]);
    c.ok("RENAME b b2");
    assert_eq!(c.int("COPY b2 b3"), 1);
    assert_eq!(left(&mut c, "TYPE trips"), [(300, 2), (14_400, 1), (-1, 1)]);
    c.ok("EXPCACHE.SET b2 v TYPE trips EX 500");
    c.int("EXPCACHE.DEL a d");
    assert_eq!(left(&mut c, ""), [(300, 1), (900, 1), (14_400, 1), (604_800, 1)]);
    assert_eq!(c.int("EXPCACHE.PURGE TYPE trips SOFT"), 3);
    wait_until_reclaimed(&mut c);
    assert_eq!(left(&mut c, ""), [(60, 1), (604_800, 1)], "what has no grace is gone");
    check(&mut c);
    c.ok("FLUSHALL");
    assert_eq!(left(&mut c, ""), []);
}

#[test]
fn a_sliding_hit_puts_the_time_off() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 1h SLIDING yes");
    c.ok("EXPCACHE.SET s v TYPE session");
    assert_eq!(c.int("EXPIRE s 100"), 1);
    assert_eq!(left(&mut c, ""), [(300, 1)]);
    c.cmd("EXPCACHE.GET s");
    assert_eq!(left(&mut c, ""), [(3600, 1)]);
    check(&mut c);
}

// ---- many at once

/// Clients store, read and invalidate at the same time; in the end everything is counted once.
#[test]
fn nothing_is_counted_twice_or_lost_when_many_do_it_at_once() {
    let server = Server::start();
    let work = |seed: u64| {
        let (mut c, mut random) = (server.conn(), Random::new(seed));
        let [mut sets, mut reads, mut invalidated] = [0i64; 3];
        for _ in 0..1500 {
            let key = format!("k{}", random.below(50));
            match random.below(5) {
                0 => {
                    c.ok(args![
                        "EXPCACHE.SET",
                        key,
                        "v",
                        "TAGS",
                        1,
                        format!("t{}", random.below(5)),
                        "PX",
                        1 + random.below(2000)
                    ]);
                    sets += 1;
                }
                1 => invalidated += c.int(args!["EXPCACHE.INVALIDATE.TAG", format!("t{}", random.below(5))]),
                _ => {
                    c.cmd(args!["EXPCACHE.GET", key]);
                    reads += 1;
                }
            }
        }
        [sets, reads, invalidated]
    };
    let done: Vec<[i64; 3]> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || work(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let of = |at: usize| done.iter().map(|counts| counts[at]).sum::<i64>();
    let mut c = server.conn();
    wait_until_reclaimed(&mut c);
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!(stats["sets"].int(), of(0));
    assert_eq!(stats["hits"].int() + stats["misses"].int(), of(1));
    assert_eq!(stats["invalidated"].int(), of(2));
    assert_eq!(misses(&mut c).iter().sum::<i64>(), stats["misses"].int());
    check(&mut c);
}

// ---- keyspace events

#[test]
fn invalidations_are_announced_key_by_key_and_reads_are_not() {
    let server = Server::with(&["--notify-keyspace-events", "KEAd"]);
    let (mut c, mut listener) = (server.conn(), server.conn());
    listener.cmd("PSUBSCRIBE __keyevent@0__:*");
    let mut next = || {
        let event = listener.receive().unwrap();
        (event.items()[2].text().replace("__keyevent@0__:", ""), event.items()[3].text())
    };
    let mut expect = |event: &str, key: &str| assert_eq!(next(), (event.to_string(), key.to_string()));
    c.ok("EXPCACHE.SET a v TAGS 1 t GRACE 1h");
    c.cmd("EXPCACHE.GET a");
    c.cmd("EXPCACHE.FETCH a");
    expect("expcache.set", "a");
    assert_eq!(c.int("EXPCACHE.PURGE ANY 1 t SOFT"), 1);
    expect("expcache.stale", "a");
    c.cmd("EXPCACHE.FETCH a");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    expect("del", "a");
    expect("expcache.invalidate", "a");
    c.nil("EXPCACHE.GET a");
    c.ok("EXPCACHE.SET b v");
    expect("expcache.set", "b");
}
