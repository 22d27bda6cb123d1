//! Entries at the server's memory limit, and at their type's own limits.

use crate::harness::{Conn, Server, Value, args, check, wait_until, wait_until_settled};

const MB: i64 = 1 << 20;

fn used_memory(c: &mut Conn) -> i64 {
    c.info("memory", "used_memory").parse().unwrap_or(i64::MAX)
}

/// A server that may use so many bytes more than it does now. What workers need to try payloads in other forms comes out of that: some
/// 3 MiB, sooner or later.
fn server_with_room_for(bytes: i64, policy: &str) -> (Server, Conn, i64) {
    let server = Server::with(&["--maxmemory-policy", policy]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC none");
    let limit = used_memory(&mut c) + bytes;
    c.ok(args!["CONFIG", "SET", "maxmemory", limit]);
    (server, c, limit)
}

fn set(n: usize, size: usize) -> Vec<Vec<u8>> {
    args!["EXPCACHE.SET", format!("k:{n}"), "x".repeat(size), "EX", 1000 + n, "TAGS", 3, "all", n % 10, format!("t{n}")]
}

#[test]
fn at_the_memory_limit_entries_make_room() {
    for order in ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random"] {
        let (_server, mut c, limit) = server_with_room_for(10 * MB, order);
        for n in 0..8_000 {
            c.ok(set(n, 4_000));
            if n % 500 == 0 {
                check(&mut c);
                let used = used_memory(&mut c);
                assert!(used < limit + MB, "{order}: {used} bytes of {limit}");
            }
        }
        // From here on no command evicts.
        c.ok("CONFIG SET maxmemory 0");
        check(&mut c);
        let evicted: i64 = c.info("stats", "evicted_keys").parse().unwrap_or(0);
        assert!(evicted > 4_000, "{order}: {evicted}");
        let stats = c.map("EXPCACHE.STATS");
        assert_eq!(stats["evicted"], evicted, "{order}");
        let left = c.int("DBSIZE");
        assert_eq!((stats["entries"].int(), left), (8_000 - evicted, 8_000 - evicted));
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG all"), left);
        wait_until("the memory is given back", || used_memory(&mut c) < limit - 5 * MB);
    }
}

#[test]
fn the_entries_that_end_first_make_room() {
    let (_server, mut c, _) = server_with_room_for(10 * MB, "volatile-ttl");
    // The later ones live longer, so the earlier ones have to go.
    (0..8_000).for_each(|n| c.ok(set(n, 4_000)));
    check(&mut c);
    let present = |c: &mut Conn, from: usize| {
        (from..from + 500).filter(|n| c.cmd(args!["EXISTS", format!("k:{n}")]) == 1).count()
    };
    // The server looks at samples, so not quite all.
    assert!(present(&mut c, 7_500) > 490);
    assert!(present(&mut c, 0) < 10);
}

#[test]
fn reads_keep_an_entry() {
    let (_server, mut c, _) = server_with_room_for(10 * MB, "allkeys-lfu");
    c.ok("EXPCACHE.SET hot v TAGS 1 hot");
    for n in 0..8_000 {
        assert_eq!(c.cmd("EXPCACHE.GET hot"), "v");
        c.ok(set(n, 4_000));
    }
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG hot"), 1);
}

#[test]
fn without_eviction_what_does_not_fit_is_refused() {
    let (_server, mut c, limit) = server_with_room_for(20 * MB, "noeviction");
    let mut stored = 0;
    let refusal = loop {
        match c.cmd(set(stored, 4_000)) {
            Value::Error(text) => break text,
            _ => stored += 1,
        }
    };
    assert!(refusal.starts_with("OOM "), "{refusal}");
    assert!(stored > 2_500);
    // The refused command's own memory is free again; now there is none for the smallest one.
    c.ok(args!["CONFIG", "SET", "maxmemory", limit - MB / 2]);
    c.err("EXPCACHE.MSET 2 k:0 new another v", "OOM ");
    c.err("EXPCACHE.SET k:0 new", "OOM ");
    c.err("EXPCACHE.SET new v TYPE novel", "OOM ");
    check(&mut c);
    assert_eq!(c.cmd("DBSIZE"), stored as i64);
    assert_eq!(c.cmd("EXPCACHE.GET k:0"), Value::bulk("x".repeat(4_000)));
    c.nil("EXPCACHE.TYPE GET novel");

    // What reads or frees goes on working.
    assert_eq!(c.map("EXPCACHE.FETCH k:1")["status"], "hit");
    assert_eq!(c.cmd("EXPCACHE.DEL k:1"), 1);
    let invalidated = c.int("EXPCACHE.INVALIDATE.TAG 1 2 3");
    assert!(invalidated > stored as i64 / 5, "{invalidated} of {stored}");
    wait_until("the memory is given back", || used_memory(&mut c) < limit - MB);
    c.ok("EXPCACHE.SET k:0 new");
    check(&mut c);
}

/// A payload that waits for a worker, or for a thread that frees it, makes no room: then one entry would go after the other, in vain.
#[test]
fn large_entries_make_room_one_by_one() {
    let (noise, rows) = (crate::large::noise(4 * MB as usize), crate::large::rows(4 * MB as usize));
    let hash = crate::large::etag(&noise);
    for (lazy, codec, payload, hash) in [
        ("no", "gzip", &rows, None),
        ("no", "none", &noise, None),
        ("yes", "gzip", &rows, None),
        ("yes", "zstd", &rows, None),
        ("yes", "none", &noise, Some(&hash)),
    ] {
        let settings = ["--maxmemory-policy", "allkeys-lru", "--lazyfree-lazy-eviction", lazy];
        let server = Server::with(&settings);
        let mut c = server.conn();
        c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", codec]);
        let limit = used_memory(&mut c) + 64 * MB;
        c.ok(args!["CONFIG", "SET", "maxmemory", limit]);
        for n in 0..30 {
            let set = args!["EXPCACHE.SET", format!("k:{n}"), payload, "TAGS", 1, "t"];
            c.ok([set, hash.map(|hash| args!["HASH", hash]).unwrap_or_default()].concat());
            let (used, entries) = (used_memory(&mut c), c.int("DBSIZE"));
            assert!(used < limit + 16 * MB, "{codec}, lazy {lazy}: {used} bytes of {limit}");
            // Uncompressed there is room for a dozen, less what the workers are at; what is compressed makes less room when it goes.
            assert!(entries > 5 || entries == n + 1, "{codec}, lazy {lazy}: {entries} entries are left of {n}");
        }
        wait_until_settled(&mut c);
        assert!(c.int("DBSIZE") > 1);
        check(&mut c);
    }
}

/// What another thread frees while the server makes room, it does not count. Then one goes that need not, and not all.
#[test]
fn what_workers_free_meanwhile_makes_nobody_else_go() {
    const STORES: usize = 8_000;
    let (server, mut c, _) = server_with_room_for(64 * MB, "allkeys-lru");
    let payload = crate::large::noise(300 << 10);
    std::thread::scope(|scope| {
        // Half of the stores are over others, whose payloads are freed by a worker.
        let stores = [0, 1, 2].map(|client| {
            let (mut c, payload) = (server.conn(), &payload);
            scope.spawn(move || {
                (0..STORES).for_each(|n| c.ok(args!["EXPCACHE.SET", format!("{client}:{}", n * 7 % 130), payload]))
            })
        });
        let (mut most, mut least_since) = (0, i64::MAX);
        while !stores.iter().all(|store| store.is_finished()) {
            let entries = c.int("DBSIZE");
            most = most.max(entries);
            if most > 150 {
                least_since = least_since.min(entries);
            }
        }
        // There is room for some two hundred.
        assert!((100..i64::MAX).contains(&least_since), "{least_since} entries are left of {most}");
    });
    wait_until_settled(&mut c);
    check(&mut c);
}

// ---- a type's own limits

fn present(c: &mut Conn, keys: &[&str]) -> Vec<bool> {
    keys.iter().map(|key| c.cmd(&["EXPCACHE.META", key]) != Value::Nil).collect()
}

#[test]
fn the_least_recently_used_entry_of_a_full_type_makes_room() {
    let server = Server::start();
    for use_a in ["EXPCACHE.GET a", "EXPCACHE.MGET a", "EXPCACHE.FETCH a", "EXPCACHE.SET a again TYPE few TAGS 1 t"] {
        let mut c = server.conn();
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.STATS RESET");
        c.ok("EXPCACHE.TYPE SET few MAXENTRIES 3");
        for key in ["a", "b", "c"] {
            c.ok(args!["EXPCACHE.SET", key, "v", "TYPE", "few", "TAGS", 1, "t"]);
        }
        c.ok("EXPCACHE.SET other v TAGS 1 t");
        c.cmd(use_a);
        c.cmd("EXPCACHE.META b");
        c.ok("EXPCACHE.SET d v TYPE few TAGS 1 t");
        check(&mut c);
        let keys = ["a", "b", "c", "d", "other"];
        assert_eq!(present(&mut c, &keys), [true, false, true, true, true], "{use_a}");
        c.ok("EXPCACHE.SET e v TYPE few TAGS 1 t");
        check(&mut c);
        assert_eq!(present(&mut c, &keys), [true, false, false, true, true], "{use_a}");
        let stats = c.map("EXPCACHE.STATS TYPE few");
        assert_eq!((stats["entries"].int(), stats["evicted"].int()), (3, 2));
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 4);
        assert_eq!(c.cmd("DBSIZE"), 0);
    }
}

#[test]
fn storing_over_an_entry_of_a_full_type_evicts_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET few MAXENTRIES 2 MAXBYTES 200");
    c.ok(args!["EXPCACHE.SET", "few:a", "x".repeat(100)]);
    c.ok(args!["EXPCACHE.SET", "few:b", "x".repeat(100)]);
    c.ok(args!["EXPCACHE.SET", "few:a", "y".repeat(100)]);
    check(&mut c);
    assert_eq!(present(&mut c, &["few:a", "few:b"]), [true, true]);
    assert_eq!(c.map("EXPCACHE.STATS")["evicted"], 0);
}

#[test]
fn expired_entries_make_room_before_living_ones() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    c.ok("EXPCACHE.TYPE SET two MAXENTRIES 2");
    c.ok("EXPCACHE.SET e1 v TYPE two PX 1");
    c.ok("EXPCACHE.SET e2 v TYPE two PX 1");
    wait_until("both have expired", || c.int("EXISTS e1 e2") == 0);
    c.ok("EXPCACHE.SET a v TYPE two");
    c.ok("EXPCACHE.SET b v TYPE two");
    assert_eq!(present(&mut c, &["a", "b"]), [true, true]);
    assert_eq!(c.map("EXPCACHE.STATS TYPE two")["evicted"], 0);
    c.ok("EXPCACHE.SET c v TYPE two");
    assert_eq!(present(&mut c, &["a", "b", "c"]), [false, true, true]);
    check(&mut c);
}

#[test]
fn a_types_limit_holds_over_all_databases() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET few MAXENTRIES 3");
    for n in 0..12 {
        c.ok(args!["SELECT", n % 4]);
        c.ok(args!["EXPCACHE.SET", format!("few:{n}"), "v", "TAGS", 1, "t"]);
        check(&mut c);
        assert!(c.map("EXPCACHE.STATS TYPE few")["entries"].int() <= 3);
        assert_ne!(c.cmd(args!["EXPCACHE.META", format!("few:{n}")]), Value::Nil, "the newest is there");
    }
    assert_eq!(c.map("EXPCACHE.STATS TYPE few")["entries"], 3);
}

#[test]
fn a_type_stays_within_its_bytes() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET few MAXBYTES 10kb");
    for n in 0..200 {
        c.ok(args!["EXPCACHE.SET", format!("few:{n}"), "x".repeat(n * 17 % 3_000), "TAGS", 2, "t", n]);
        let stats = c.map("EXPCACHE.STATS TYPE few");
        assert!(stats["payload-bytes"].int() <= 10 * 1024, "{stats:?}");
        assert_eq!(present(&mut c, &[&format!("few:{n}")]), [true]);
    }
    check(&mut c);
    let stats = c.map("EXPCACHE.STATS TYPE few");
    assert_eq!(stats["entries"].int() + stats["evicted"].int(), 200);
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), stats["entries"]);
}

#[test]
fn a_large_type_keeps_its_bound_and_what_is_used() {
    let server = Server::with(&["--notify-keyspace-events", "Ee"]);
    let mut c = server.conn();
    let mut listener = server.conn();
    listener.cmd("SUBSCRIBE __keyevent@0__:evicted");
    c.ok("EXPCACHE.TYPE SET many MAXENTRIES 1000");
    let hot: Vec<String> = (0..10).map(|n| format!("many:{n}")).collect();
    for n in 0..5_000 {
        c.ok(args!["EXPCACHE.SET", format!("many:{n}"), "v", "TAGS", 2, "t", n % 10]);
        if n % 50 == 0 {
            hot.iter().for_each(|key| drop(c.cmd(&["EXPCACHE.GET", key])));
            assert!(c.map("EXPCACHE.STATS TYPE many")["entries"].int() <= 1_000);
        }
    }
    check(&mut c);
    let stats = c.map("EXPCACHE.STATS TYPE many");
    assert_eq!((stats["entries"].int(), stats["evicted"].int()), (1_000, 4_000));
    let hot: Vec<&str> = hot.iter().map(String::as_str).collect();
    assert_eq!(present(&mut c, &hot), [true; 10]);
    for _ in 0..4_000 {
        let message = listener.receive().map(|message| message.items()[2].text()).unwrap_or_default();
        assert!(message.starts_with("many:"), "{message}");
    }
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 1_000);
}

#[test]
fn limits_hold_in_transactions_and_scripts() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET few MAXENTRIES 3");
    c.ok("MULTI");
    for n in 0..10 {
        c.cmd(args!["EXPCACHE.SET", format!("few:{n}"), "v", "TAGS", 1, "t"]);
    }
    assert_eq!(c.cmd("EXEC").items().len(), 10);
    check(&mut c);
    assert_eq!(c.cmd("DBSIZE"), 3);
    let script = "for n = 10, 19 do redis.call('EXPCACHE.SET', 'few:' .. n, 'v', 'TAGS', 1, 't') end";
    c.nil(&["EVAL", script, "0"]);
    check(&mut c);
    assert_eq!(c.cmd("DBSIZE"), 3);
    c.ok("EXPCACHE.MSET 3 few:20 v few:21 v few:22 v TAGS 1 t");
    check(&mut c);
    assert_eq!(
        c.cmd("EXPCACHE.MGET few:20 few:21 few:22").items(),
        [Value::bulk("v"), Value::bulk("v"), Value::bulk("v")]
    );
}
