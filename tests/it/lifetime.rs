//! How long an entry lives: fresh for its TTL, stale for its grace, then gone; by option, type, configuration and native
//! command.

use crate::harness::{Conn, Server, Stop, Value, args, check, now_ms, refused, wait_until};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// When the key is gone, in unix milliseconds; -1 for never.
#[track_caller]
fn expiry(c: &mut Conn, key: &str) -> i64 {
    c.int(&["PEXPIRETIME", key])
}

/// TTL and grace together, as they were when the entry was stored.
#[track_caller]
fn lifetime(c: &mut Conn, key: &str) -> i64 {
    expiry(c, key) - c.map(&["EXPCACHE.META", key])["created"].int()
}

#[track_caller]
fn assert_fresh(c: &mut Conn, key: &str) {
    assert_ne!(c.cmd(&["EXPCACHE.GET", key]), Value::Nil);
    assert_eq!(c.map(&["EXPCACHE.META", key])["state"], "fresh");
    assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "hit");
}

#[track_caller]
fn assert_stale(c: &mut Conn, key: &str) {
    c.nil(&["EXPCACHE.GET", key]);
    assert_eq!(c.cmd(&["EXPCACHE.MGET", key]), Value::Array(vec![Value::Nil]));
    assert_eq!(c.map(&["EXPCACHE.META", key])["state"], "stale");
    let fetched = c.map(&["EXPCACHE.FETCH", key]);
    assert_eq!(fetched["status"], "stale");
    assert_ne!(fetched["value"], Value::Nil);
}

#[track_caller]
fn assert_gone(c: &mut Conn, key: &str) {
    c.nil(&["EXPCACHE.GET", key]);
    c.nil(&["EXPCACHE.META", key]);
    assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "miss");
    assert_eq!(c.int(&["EXISTS", key]), 0);
    check(c);
}

// ---- where the TTL comes from

#[test]
fn the_type_decides_the_ttl() {
    let server = Server::start();
    let mut c = server.conn();
    for (name, expected) in [
        ("vehicles", 2 * HOUR),
        ("drivers", 2 * HOUR),
        ("trips", HOUR),
        ("gps_tracks", 30 * MINUTE),
        ("reports", 4 * HOUR),
        ("default", HOUR),
        ("unheard-of", HOUR),
    ] {
        c.ok(&["EXPCACHE.SET", "k", "v", "TYPE", name]);
        assert_eq!(lifetime(&mut c, "k"), expected, "{name}");
        let by_key = format!("export_cache:{name}:k");
        c.ok(&["EXPCACHE.SET", &by_key, "v"]);
        assert_eq!(lifetime(&mut c, &by_key), expected, "{name}");
    }
    check(&mut c);
}

#[test]
fn a_changed_policy_holds_for_what_is_stored_afterwards() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET trips:1 v");
    c.ok("EXPCACHE.TYPE SET trips TTL 5m");
    assert_eq!(lifetime(&mut c, "trips:1"), HOUR);
    c.ok("EXPCACHE.SET trips:2 v");
    assert_eq!(lifetime(&mut c, "trips:2"), 5 * MINUTE);
}

#[test]
fn a_type_without_a_ttl_takes_the_configured_one() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.default-ttl 10m");
    c.ok("EXPCACHE.SET k v TYPE unheard-of");
    assert_eq!(lifetime(&mut c, "k"), 10 * MINUTE);
    c.ok("EXPCACHE.TYPE SET half MAXVALUE 1mb");
    c.ok("EXPCACHE.SET k v TYPE half");
    assert_eq!(lifetime(&mut c, "k"), 10 * MINUTE);
    c.ok("EXPCACHE.SET k v TYPE vehicles");
    assert_eq!(lifetime(&mut c, "k"), 2 * HOUR);
}

#[test]
fn a_type_with_ttl_zero_never_expires() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.TYPE SET forever TTL 0s GRACE 5s");
        c.ok("EXPCACHE.SET k v TYPE forever");
        assert_eq!(c.int("PTTL k"), -1);
        assert_eq!(c.map("EXPCACHE.META k")["ttl"], Value::Nil);
        assert_eq!(c.map("EXPCACHE.FETCH k")["ttl"], Value::Nil);
        assert_fresh(&mut c, "k");
        c.ok("EXPCACHE.SET k v TYPE forever EX 100");
        assert_eq!(lifetime(&mut c, "k"), 105 * SECOND);
    }
}

#[test]
fn an_option_overrides_the_type() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TYPE trips EX 100");
    assert_eq!(lifetime(&mut c, "k"), 100 * SECOND);
    c.ok("EXPCACHE.SET k v TYPE trips PX 12345");
    assert_eq!(lifetime(&mut c, "k"), 12345);
    c.ok("EXPCACHE.SET k v TYPE trips EXAT 4102444800");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_000);
    c.ok("EXPCACHE.SET k v TYPE trips PXAT 4102444800123");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_123);
    check(&mut c);
}

#[test]
fn the_remaining_freshness_is_shown() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v EX 100 GRACE 50s");
    for command in ["EXPCACHE.META k", "EXPCACHE.FETCH k"] {
        assert!((1..=100 * SECOND).contains(&c.map(command)["ttl"].int()));
    }
    assert!(c.int("PTTL k") > 50 * SECOND);
}

#[test]
fn a_moment_in_the_past_leaves_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    for option in ["PXAT 1000", "EXAT 1", "PXAT 1000 GRACE 5s"] {
        c.ok("EXPCACHE.SET k old TAGS 1 a");
        c.ok(&format!("EXPCACHE.SET k new TAGS 1 b {option}"));
        assert_gone(&mut c, "k");
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG a b"), 0);
    }
}

#[test]
fn freshness_ends_by_itself() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET gone v PX 1");
    c.ok("EXPCACHE.SET stale v PX 1 GRACE 1h");
    wait_until("one is gone", || c.cmd("EXPCACHE.GET gone") == Value::Nil);
    wait_until("one is stale", || c.cmd("EXPCACHE.GET stale") == Value::Nil);
    assert_gone(&mut c, "gone");
    assert_stale(&mut c, "stale");
}

// ---- KEEPTTL

#[test]
fn keepttl_keeps_the_moment_at_which_freshness_ends() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v PXAT 4102444800000 GRACE 10s");
    c.ok("EXPCACHE.SET k v2 KEEPTTL");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_000);
    c.ok("EXPCACHE.SET k v3 KEEPTTL GRACE 20s");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_820_000);
    c.ok("EXPCACHE.MSET 2 k v4 new v4 KEEPTTL TYPE trips");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_000);
    assert_eq!(lifetime(&mut c, "new"), HOUR);
    check(&mut c);
}

#[test]
fn keepttl_of_an_entry_that_never_expires() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v EX 100");
    assert_eq!(c.int("PERSIST k"), 1);
    c.ok("EXPCACHE.SET k v2 KEEPTTL");
    assert_eq!(c.int("PTTL k"), -1);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v2");
}

#[test]
fn keepttl_without_an_entry_takes_the_types_ttl() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TYPE vehicles KEEPTTL");
    assert_eq!(lifetime(&mut c, "k"), 2 * HOUR);
}

// ---- PERSIST

#[test]
fn persist_stores_what_never_expires() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.TYPE SET hourly TTL 1h GRACE 5m JITTER 50");
        c.ok("EXPCACHE.SET k v TYPE hourly EX 100");
        c.ok("EXPCACHE.SET k v TYPE hourly PERSIST");
        c.ok("EXPCACHE.MSET 2 a v b v TYPE hourly persist");
        for key in ["k", "a", "b"] {
            assert_eq!(expiry(&mut c, key), -1);
            assert_eq!(c.map(&["EXPCACHE.META", key])["ttl"], Value::Nil);
            assert_eq!(c.map(&["EXPCACHE.META", key])["grace"], 5 * MINUTE);
            assert_fresh(&mut c, key);
        }
        c.ok("EXPCACHE.SET k v2 KEEPTTL");
        assert_eq!(expiry(&mut c, "k"), -1);
        for twice in ["PERSIST PERSIST", "PERSIST EX 1", "KEEPTTL PERSIST"] {
            refused(&mut c, &format!("EXPCACHE.SET k v {twice}"), "ERR syntax error");
        }
        check(&mut c);
    }
}

#[test]
fn maxttl_ends_what_was_to_persist() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET short MAXTTL 10m GRACE 1m");
    c.ok("EXPCACHE.SET k v TYPE short PERSIST");
    c.ok("EXPCACHE.MSET 1 m v TYPE short PERSIST");
    assert_eq!(lifetime(&mut c, "k"), 11 * MINUTE);
    assert_eq!(lifetime(&mut c, "m"), 11 * MINUTE);
}

// ---- MAXTTL

#[test]
fn maxttl_cuts_every_lifetime() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET kept v PXAT 4102444800000");
    c.ok("EXPCACHE.TYPE SET short TTL 30m MAXTTL 10m");
    for option in ["", "EX 3600", "PX 3600000", "EXAT 4102444800", "PXAT 4102444800000"] {
        c.ok(&format!("EXPCACHE.SET k v TYPE short {option}"));
        assert_eq!(lifetime(&mut c, "k"), 10 * MINUTE, "{option:?}");
    }
    c.ok("EXPCACHE.SET kept v TYPE short KEEPTTL");
    assert_eq!(lifetime(&mut c, "kept"), 10 * MINUTE);

    c.ok("EXPCACHE.SET k v TYPE short EX 60");
    assert_eq!(lifetime(&mut c, "k"), MINUTE);
    c.ok("EXPCACHE.SET k v TYPE short GRACE 1h");
    assert_eq!(lifetime(&mut c, "k"), 10 * MINUTE + HOUR, "the grace is not cut");
}

#[test]
fn maxttl_ends_what_would_never_expire() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET short TTL 0s MAXTTL 10m");
    c.ok("EXPCACHE.SET k v TYPE short");
    assert_eq!(lifetime(&mut c, "k"), 10 * MINUTE);
    c.ok("EXPCACHE.TYPE SET short MAXTTL 0s");
    c.ok("EXPCACHE.SET k v TYPE short");
    assert_eq!(c.int("PTTL k"), -1);
}

// ---- JITTER

#[test]
fn jitter_only_shortens_and_spreads() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET spread TTL 1000s JITTER 10");
    for option in ["", "EX 1000", "PX 1000000"] {
        let mut lifetimes: Vec<i64> = (0..100)
            .map(|n| {
                let key = format!("k{n}");
                c.ok(&format!("EXPCACHE.SET {key} v TYPE spread {option}"));
                lifetime(&mut c, &key)
            })
            .collect();
        let allowed = 900 * SECOND..=1000 * SECOND;
        assert!(lifetimes.iter().all(|ms| allowed.contains(ms)), "{lifetimes:?}");
        lifetimes.sort_unstable();
        lifetimes.dedup();
        assert!(lifetimes.len() > 50, "hardly spread: {lifetimes:?}");
    }
    check(&mut c);
}

#[test]
fn jitter_leaves_given_moments_and_the_grace_alone() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET spread TTL 1000s JITTER 50");
    c.ok("EXPCACHE.SET k v TYPE spread EXAT 4102444800");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_000);
    c.ok("EXPCACHE.SET k v TYPE spread PXAT 4102444800001");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_001);
    c.ok("EXPCACHE.SET k v TYPE spread KEEPTTL");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_001);
    c.ok("EXPCACHE.SET k v TYPE spread GRACE 5s");
    assert_eq!(c.map("EXPCACHE.META k")["grace"], 5 * SECOND);
    c.ok("EXPCACHE.TYPE SET spread JITTER 0");
    c.ok("EXPCACHE.SET k v TYPE spread");
    assert_eq!(lifetime(&mut c, "k"), 1000 * SECOND);
}

// ---- grace, and the native commands

#[test]
fn grace_comes_after_the_ttl() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET graceful TTL 100s GRACE 50s");
    c.ok("EXPCACHE.SET k v TYPE graceful");
    assert_eq!(lifetime(&mut c, "k"), 150 * SECOND);
    assert_eq!(c.map("EXPCACHE.META k")["grace"], 50 * SECOND);
    c.ok("EXPCACHE.SET k v TYPE graceful GRACE 7000");
    assert_eq!(lifetime(&mut c, "k"), 107 * SECOND, "a plain number is milliseconds");
    c.ok("EXPCACHE.SET k v TYPE graceful GRACE 0");
    assert_eq!(lifetime(&mut c, "k"), 100 * SECOND);
    c.ok("EXPCACHE.SET k v TYPE trips");
    assert_eq!(c.map("EXPCACHE.META k")["grace"], 0);
}

#[test]
fn durations_in_every_unit() {
    let server = Server::start();
    let mut c = server.conn();
    for (text, ms) in [
        ("500ms", 500),
        ("30s", 30 * SECOND),
        ("15m", 15 * MINUTE),
        ("2h", 2 * HOUR),
        ("7d", 7 * 24 * HOUR),
        ("1234", 1234),
        ("0", 0),
        ("0s", 0),
    ] {
        c.ok(&["EXPCACHE.SET", "k", "v", "GRACE", text]);
        assert_eq!(c.map("EXPCACHE.META k")["grace"], ms, "{text}");
    }
}

#[test]
fn native_expiry_moves_freshness() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v EX 100 GRACE 50s TAGS 1 t");
    assert_fresh(&mut c, "k");

    // Less is left than the grace: it is stale.
    assert_eq!(c.int("EXPIRE k 40"), 1);
    assert_stale(&mut c, "k");
    assert!(c.map("EXPCACHE.FETCH k")["ttl"].int() < 0);

    // More is left: it is fresh again.
    assert_eq!(c.int(&format!("PEXPIREAT k {}", now_ms() + HOUR)), 1);
    assert_fresh(&mut c, "k");
    assert!(c.map("EXPCACHE.META k")["ttl"].int() <= HOUR - 50 * SECOND);

    assert_eq!(c.int("PEXPIRE k 1000000"), 1);
    assert_fresh(&mut c, "k");
    assert_eq!(c.int("EXPIRE k 40"), 1);
    assert_stale(&mut c, "k");

    // For ever.
    assert_eq!(c.int("PERSIST k"), 1);
    assert_fresh(&mut c, "k");
    assert_eq!(c.map("EXPCACHE.FETCH k")["ttl"], Value::Nil);

    // Over.
    assert_eq!(c.int("PEXPIREAT k 1000"), 1);
    assert_gone(&mut c, "k");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 0);
}

#[test]
fn a_grace_that_remains_of_a_past_moment() {
    let server = Server::start();
    let mut c = server.conn();
    let ended = now_ms() - 10 * SECOND;
    c.ok(&format!("EXPCACHE.SET k v PXAT {ended} GRACE 1h"));
    assert_stale(&mut c, "k");
    assert_eq!(expiry(&mut c, "k"), ended + HOUR);
    check(&mut c);
}

// ---- SLIDING

#[test]
fn a_hit_restarts_a_sliding_ttl() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 100s GRACE 50s SLIDING yes");
    for read in ["EXPCACHE.GET k", "EXPCACHE.MGET other k", "EXPCACHE.FETCH k"] {
        c.ok("EXPCACHE.SET k v TYPE session");
        c.int("PEXPIRE k 60000");
        let before = now_ms();
        c.cmd(read);
        // The server's clock may stand still within one round of its event loop.
        assert!(expiry(&mut c, "k") >= before + 149 * SECOND, "{read}");
        check(&mut c);
    }
}

/// A read that puts an expiry off changes no value: a transaction of the reader, or of anybody, still runs.
#[test]
fn a_sliding_hit_touches_no_watched_key() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET s TTL 10h SLIDING yes");
    c.ok("EXPCACHE.SET k v TYPE s");
    c.int("EXPIRE k 100");
    c.ok("WATCH k");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    assert!(c.int("TTL k") > 100);
    c.ok("MULTI");
    c.cmd("PING");
    assert_ne!(c.cmd("EXEC"), Value::Nil);
}

#[test]
fn a_sliding_ttl_is_the_entrys_own() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 100s SLIDING yes");
    c.ok("EXPCACHE.SET k v TYPE session EX 1000");
    c.int("PEXPIRE k 60000");
    let before = now_ms();
    c.cmd("EXPCACHE.GET k");
    assert!(expiry(&mut c, "k") >= before + 999 * SECOND);
}

#[test]
fn sliding_never_shortens_and_never_starts_an_expiry() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 100s SLIDING yes");
    c.ok("EXPCACHE.SET k v TYPE session");
    c.int("PEXPIREAT k 4102444800000");
    c.cmd("EXPCACHE.GET k");
    assert_eq!(expiry(&mut c, "k"), 4_102_444_800_000);
    c.int("PERSIST k");
    c.cmd("EXPCACHE.GET k");
    assert_eq!(c.int("PTTL k"), -1);
}

#[test]
fn only_a_hit_of_a_sliding_type_slides() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 100s GRACE 50s SLIDING yes");
    c.ok("EXPCACHE.SET k v TYPE session");

    c.int("PEXPIRE k 60000");
    let left = expiry(&mut c, "k");
    c.map("EXPCACHE.META k");
    assert_eq!(expiry(&mut c, "k"), left);

    c.int("PEXPIRE k 40000");
    let left = expiry(&mut c, "k");
    assert_stale(&mut c, "k");
    assert_eq!(expiry(&mut c, "k"), left, "a stale hit is not a hit");

    c.int("PEXPIRE k 60000");
    c.ok("EXPCACHE.TYPE SET session SLIDING no");
    let left = expiry(&mut c, "k");
    assert_fresh(&mut c, "k");
    assert_eq!(expiry(&mut c, "k"), left);
}

/// A hit half way puts off an end that follows from a lifetime, and no other, wherever the entry went meanwhile.
#[test]
fn no_hit_moves_an_end_that_was_named() {
    let settings = ["--appendonly", "yes", "--appendfsync", "no", "--aof-use-rdb-preamble", "no"];
    let (mut server, replica) = (Server::with_clock(&settings), Server::with_clock(&[]));
    replica.replica_of(&server);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 1000s GRACE 50s SLIDING yes");
    let until = now_ms() / SECOND + 1000;
    for (key, option) in [("pxat", format!("PXAT {}", until * SECOND)), ("exat", format!("EXAT {until}"))] {
        c.ok(&format!("EXPCACHE.SET {key} v TYPE session {option}"));
    }
    c.ok("EXPCACHE.SET for v TYPE session EX 1000");
    for key in ["pxat", "for"] {
        c.ok(&format!("EXPCACHE.SET {key}-kept v TYPE session EX 1"));
        c.int(&format!("COPY {key} {key}-kept REPLACE"));
        c.ok(&format!("EXPCACHE.SET {key}-kept v TYPE session KEEPTTL"));
    }
    c.ok("RENAME exat renamed");
    let dump = c.bulk("DUMP pxat");
    c.ok(args!["RESTORE", "restored", (until + 50) * SECOND, &dump[..], "ABSTTL"]);
    let end = (until + 50) * SECOND;
    let named = ["pxat", "renamed", "pxat-kept", "restored"];
    let mut ahead = 0;
    let mut no_hit_moves_them = |server: &Server| {
        ahead += 100 * SECOND;
        server.set_clock(ahead);
        let mut c = server.conn();
        for key in named {
            assert_eq!(expiry(&mut c, key), end, "{key}");
            for read in ["EXPCACHE.GET", "EXPCACHE.MGET", "EXPCACHE.FETCH"] {
                c.cmd(&[read, key]);
            }
            assert_eq!(expiry(&mut c, key), end, "{key}");
        }
        let slid = ["for", "for-kept"].map(|key| {
            let before = expiry(&mut c, key);
            c.cmd(&["EXPCACHE.GET", key]);
            expiry(&mut c, key) > before
        });
        assert_eq!(slid, [true, true]);
        check(&mut c);
    };
    no_hit_moves_them(&server);
    server.conn().ok("DEBUG RELOAD");
    no_hit_moves_them(&server);
    server.restart(Stop::Kill);
    no_hit_moves_them(&server);
    let mut c = server.conn();
    c.cmd("BGREWRITEAOF");
    wait_until("the append-only file is rewritten", || {
        c.info("persistence", "aof_rewrite_in_progress") == "0" && c.info("persistence", "aof_rewrite_scheduled") == "0"
    });
    server.restart(Stop::Kill);
    no_hit_moves_them(&server);
    replica.wait_for_sync(&server);
    replica.conn().ok("REPLICAOF NO ONE");
    no_hit_moves_them(&replica);
    // Stored again without one, it slides.
    let mut c = replica.conn();
    c.ok("EXPCACHE.SET pxat v TYPE session");
    c.int("PEXPIRE pxat 60000");
    c.cmd("EXPCACHE.GET pxat");
    assert!(c.int("PTTL pxat") > 60_000);
}

/// A script that may only read must not write by reading; whether it is such a one nobody tells a module.
#[test]
fn a_hit_in_a_script_slides_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 100s SLIDING yes");
    c.ok("EXPCACHE.SET k v TYPE session");
    c.int("PEXPIRE k 60000");
    let before = expiry(&mut c, "k");
    let changes = c.info("persistence", "rdb_changes_since_last_save");
    let script = "redis.call('EXPCACHE.FETCH', KEYS[1]) return redis.call('EXPCACHE.GET', KEYS[1])";
    for eval in ["EVAL_RO", "EVAL"] {
        assert_eq!(c.cmd(&[eval, script, "1", "k"]), "v");
        assert_eq!(expiry(&mut c, "k"), before, "{eval}");
    }
    assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
    c.cmd("EXPCACHE.GET k");
    assert!(expiry(&mut c, "k") > before);
}

// ---- the ends of numbers

/// Metadata of an entry of type `default` with that grace and cost.
fn metadata(grace_ms: u64, cost_ms: u64) -> Vec<u8> {
    let created = now_ms().unsigned_abs();
    let head = [&[1, 0], &[created, 3_600_000].map(u64::to_le_bytes).concat()[..], &[7, 0], b"default", &[0]].concat();
    [&head[..], &[3], &[grace_ms, cost_ms].map(u64::to_le_bytes).concat()].concat()
}

#[test]
fn a_grace_beyond_all_moments_loses_no_invalidation() {
    let server = Server::start();
    let mut c = server.conn();
    let end = now_ms() + 1000 * SECOND;
    for grace_ms in [i64::MAX as u64, i64::MAX as u64 - 1, i64::MAX as u64 / 2, 1 << 62, 1 << 48, 1 << 40] {
        for (key, expire_at) in [("for-ever", -1), ("dated", end), ("late", i64::MAX - 1)] {
            c.ok(args!["EXPCACHE.RESTORE", key, expire_at, &metadata(grace_ms, 5)[..], "v"]);
        }
        check(&mut c);
        assert_eq!(c.map("EXPCACHE.FETCH for-ever")["status"], "hit");
        assert!(c.int("EXPCACHE.CLEAR SOFT") >= 1);
        for key in ["for-ever", "dated", "late"] {
            assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "stale", "{key}, {grace_ms}");
            assert_eq!(c.map(&["EXPCACHE.META", key])["state"], "stale", "{key}, {grace_ms}");
        }
        check(&mut c);
        c.ok("FLUSHALL");
    }
    refused(&mut c, "EXPCACHE.SET k v EX 100 GRACE 9223372036854775807", "ERR invalid duration");
    refused(&mut c, "EXPCACHE.SET k v PXAT 9223372036854775807 GRACE 1", "ERR invalid expire time");
    c.ok("EXPCACHE.TYPE SET endless TTL 1h MAXTTL 4611686018427387903ms");
    c.ok("EXPCACHE.SET k v TYPE endless");
    assert_fresh(&mut c, "k");
}

#[test]
fn a_cost_beyond_belief_spoils_nobodys_figures() {
    let server = Server::start();
    let mut c = server.conn();
    for cost in ["9223372036854775807", "2592000001"] {
        refused(&mut c, &["EXPCACHE.SET", "k", "v", "COST", cost], "ERR COST must be at most 30 days");
        refused(&mut c, &["EXPCACHE.MSET", "1", "k", "v", "COST", cost], "ERR COST must be at most 30 days");
    }
    c.ok("EXPCACHE.SET k v COST 2592000000");
    for key in ["a", "b", "c"] {
        c.ok(args!["EXPCACHE.RESTORE", key, -1, &metadata(5, i64::MAX as u64)[..], "v"]);
        assert_eq!(c.map(&["EXPCACHE.META", key])["cost"], 2_592_000_000);
        assert_eq!(c.cmd(&["EXPCACHE.GET", key]), "v");
    }
    assert_eq!(c.map("EXPCACHE.STATS")["saved-ms"], 3 * 2_592_000_000i64);
    check(&mut c);
}

#[test]
fn a_refused_store_keeps_the_expiry() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v EX 100");
    let before = expiry(&mut c, "k");
    refused(&mut c, "EXPCACHE.SET k v EX 0", "ERR invalid expire time");
    c.nil("EXPCACHE.SET k v EX 500 NX");
    assert_eq!(expiry(&mut c, "k"), before);
}
