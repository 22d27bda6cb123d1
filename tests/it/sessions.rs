//! What makes sessions of entries: an end that nobody puts off (`LIFETIME`), and so many for each user (`PERTAG`).

use crate::harness::{Conn, Server, Stop, Value, args, check, now_ms, refused, wait_until};
use std::thread;

const HOUR: i64 = 60 * 60 * 1000;
const MINUTE: i64 = 60 * 1000;

#[track_caller]
fn born(c: &mut Conn, key: &str) -> i64 {
    c.map(&["EXPCACHE.META", key])["born"].int()
}

#[track_caller]
fn expiry(c: &mut Conn, key: &str) -> i64 {
    c.int(&["PEXPIRETIME", key])
}

#[track_caller]
fn unseen(c: &mut Conn, key: &str) {
    c.nil(&["EXPCACHE.GET", key]);
    c.nil(&["EXPCACHE.META", key]);
    assert_eq!(c.cmd(&["EXPCACHE.MGET", key]), Value::Array(vec![Value::Nil]));
    assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "miss");
    assert_eq!(c.cmd(args!["EXPCACHE.COUNT", "MATCH", key]), 0);
}

/// A server whose clock the test sets, and a type whose entries live for 8 hours, 20 minutes of idleness at a time.
fn server() -> (Server, Conn) {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 20m SLIDING yes LIFETIME 8h");
    (server, c)
}

/// Uses it as long as it lives.
fn keep_alive(server: &Server, c: &mut Conn, key: &str, from_min: i64, to_min: i64) {
    for minute in (from_min..to_min).step_by(15) {
        server.set_clock(minute * MINUTE);
        assert_ne!(c.cmd(&["EXPCACHE.GET", key]), Value::Nil, "after {minute} min");
    }
}

// ---- LIFETIME

#[test]
fn hits_extend_a_session_up_to_its_end() {
    let (server, mut c) = server();
    c.ok("EXPCACHE.SET session:1 v");
    let start = born(&mut c, "session:1");
    assert_eq!(start, c.map("EXPCACHE.META session:1")["created"].int());
    keep_alive(&server, &mut c, "session:1", 0, 8 * 60);
    assert_eq!(expiry(&mut c, "session:1"), start + 8 * HOUR);
    server.set_clock(8 * HOUR + 1000);
    unseen(&mut c, "session:1");
    assert_eq!(c.int("EXISTS session:1"), 0);
    c.ok("EXPCACHE.SET session:1 v");
    assert!(born(&mut c, "session:1") >= start + 8 * HOUR, "its successor is born anew");
    check(&mut c);
}

#[test]
fn stores_keep_the_birth_and_are_cut() {
    let server = Server::start();
    for mut c in server.conns() {
        c.cmd("EXPCACHE.CLEAR");
        c.ok("EXPCACHE.TYPE SET session TTL 20m GRACE 5m LIFETIME 8h");
        c.ok("EXPCACHE.TYPE SET other TTL 1h");
        c.ok("EXPCACHE.SET session:1 v");
        let start = born(&mut c, "session:1");
        for options in ["EX 1000000", "PERSIST", "EX 1000000 GRACE 300d", "PXAT 4102444800000", "TYPE session PERSIST"]
        {
            c.ok(&format!("EXPCACHE.SET session:1 v {options}"));
            assert_eq!(
                (expiry(&mut c, "session:1"), born(&mut c, "session:1")),
                (start + 8 * HOUR, start),
                "{options}"
            );
        }
        c.ok("EXPCACHE.SET session:1 v KEEPTTL");
        assert_eq!(expiry(&mut c, "session:1"), start + 8 * HOUR);
        c.ok("EXPCACHE.SET session:1 v EX 60");
        let meta = c.map("EXPCACHE.META session:1");
        assert_eq!(expiry(&mut c, "session:1"), meta["created"].int() + 6 * MINUTE, "what ends before is not cut");
        // The grace has room for what is left of it only.
        c.ok(&format!("EXPCACHE.SET session:1 v PXAT {} GRACE 5h", start + 4 * HOUR));
        assert_eq!(
            (expiry(&mut c, "session:1"), c.map("EXPCACHE.META session:1")["grace"].int()),
            (start + 8 * HOUR, 4 * HOUR)
        );
        // Another type, and back.
        c.ok("EXPCACHE.SET session:1 v TYPE other PERSIST");
        assert_eq!((expiry(&mut c, "session:1"), born(&mut c, "session:1")), (-1, start));
        c.ok("EXPCACHE.MSET 2 session:1 v session:2 v PERSIST");
        assert_eq!((expiry(&mut c, "session:1"), born(&mut c, "session:1")), (start + 8 * HOUR, start));
        assert!(born(&mut c, "session:2") >= start);
        // What had no end when it was stored was born when it was stored last.
        c.ok("EXPCACHE.SET other:1 v");
        let created = c.map("EXPCACHE.META other:1")["created"].int();
        c.ok("EXPCACHE.SET other:1 v TYPE session PERSIST");
        assert_eq!((expiry(&mut c, "other:1"), born(&mut c, "other:1")), (created + 8 * HOUR, created));
        c.ok("EXPCACHE.TYPE SET session LIFETIME 0s");
        c.ok("EXPCACHE.SET session:1 v PERSIST");
        assert_eq!((expiry(&mut c, "session:1"), born(&mut c, "session:1")), (-1, start));
        check(&mut c);
    }
}

#[test]
fn what_is_invalidated_is_born_anew() {
    let (server, mut c) = server();
    let commands =
        ["EXPCACHE.DEL k", "DEL k", "EXPCACHE.INVTAG t", "EXPCACHE.PURGE TYPE session", "EXPCACHE.CLEAR", "FLUSHALL"];
    for (at, command) in (1..).zip(commands) {
        c.ok("EXPCACHE.SET k v TYPE session TAGS 1 t");
        let before = born(&mut c, "k");
        server.set_clock(at * MINUTE);
        c.ok("EXPCACHE.SET k v TYPE session TAGS 1 t");
        assert_eq!(born(&mut c, "k"), before, "{command}");
        c.cmd(command);
        c.ok("EXPCACHE.SET k v TYPE session TAGS 1 t");
        assert!(born(&mut c, "k") >= before + MINUTE / 2, "{command}");
    }
    c.ok("EXPCACHE.SET k v TYPE session GRACE 1h");
    let before = born(&mut c, "k");
    server.set_clock(10 * MINUTE);
    assert_eq!(c.cmd("EXPCACHE.PURGE MATCH k SOFT"), 1);
    c.ok("EXPCACHE.SET k v TYPE session");
    assert_eq!(born(&mut c, "k"), before, "what is stale is there");
    check(&mut c);
}

#[test]
fn whoever_extends_it_it_ends() {
    let (server, mut c) = server();
    c.ok("EXPCACHE.SET k v TYPE session PERSIST");
    let end = born(&mut c, "k") + 8 * HOUR;
    let dumped = c.bulk("DUMP k");
    type Do = (&'static str, Vec<Vec<u8>>);
    let extend: [Do; 8] = [
        ("k", args!["PERSIST", "k"]),
        ("k", args!["PEXPIREAT", "k", end + HOUR]),
        ("k", args!["EXPIRE", "k", 1_000_000]),
        ("copy", args!["COPY", "k", "copy"]),
        ("name", args!["RENAME", "copy", "name"]),
        ("back", args!["RESTORE", "back", 0, &dumped]),
        ("back", args!["RESTORE", "back", end + HOUR, &dumped, "ABSTTL", "REPLACE"]),
        ("back", args!["PERSIST", "back"]),
    ];
    for (key, command) in extend {
        c.cmd(command);
        assert_eq!(born(&mut c, key), end - 8 * HOUR, "{key}");
        wait_until("the server knows the end", || expiry(&mut c, key) == end);
        assert_eq!(c.map(&["EXPCACHE.META", key])["state"], "fresh");
    }
    // In a transaction no time is left between extending and looking.
    c.transaction(["PERSIST k", "PERSIST name"]);
    server.set_clock(8 * HOUR + 1);
    for key in ["k", "name", "back"] {
        unseen(&mut c, key);
    }
    wait_until("the keys go", || c.int("DBSIZE") == 0);
    check(&mut c);
}

#[test]
fn a_restored_key_is_no_younger_than_it_says() {
    let (server, mut c) = server();
    c.ok("EXPCACHE.SET k v TYPE session");
    let (end, dumped) = (born(&mut c, "k") + 8 * HOUR, c.bulk("DUMP k"));
    server.set_clock(9 * HOUR);
    c.ok(args!["RESTORE", "late", 0, &dumped]);
    unseen(&mut c, "late");
    wait_until("it goes", || c.int("EXISTS late") == 0);
    assert!(now_ms() < end, "nothing waited for hours");
    check(&mut c);
}

#[test]
fn the_policy_of_the_moment_counts() {
    let server = Server::with_clock(&[]);
    for mut c in server.conns() {
        server.set_clock(0);
        c.cmd("EXPCACHE.CLEAR");
        c.cmd("EXPCACHE.TYPE DEL session");
        c.ok("EXPCACHE.TYPE SET default LIFETIME 0s");
        c.ok("EXPCACHE.TYPE SET session TTL 0s");
        for n in 0..100 {
            c.ok(&format!("EXPCACHE.SET session:{n} v"));
        }
        let created = c.map("EXPCACHE.META session:1")["created"].int();
        c.ok("EXPCACHE.TYPE SET session LIFETIME 8h");
        wait_until("the server knows the end", || expiry(&mut c, "session:1") == created + 8 * HOUR);
        c.ok("EXPCACHE.SET session:2 v");
        assert!((created..=created + HOUR).contains(&born(&mut c, "session:2")));
        server.set_clock(2 * HOUR);
        assert_eq!(c.cmd("EXPCACHE.COUNT TYPE session"), 100);
        assert_eq!(c.map("EXPCACHE.TYPE GET session")["lifetime"], 8 * HOUR);
        c.ok("EXPCACHE.TYPE SET session LIFETIME 1h");
        unseen(&mut c, "session:1");
        assert_eq!(c.cmd("EXPCACHE.DEL session:1 session:2"), 0);
        wait_until("all go", || c.int("DBSIZE") == 0);
        // Without a type of its own, an entry lives as `default` says.
        c.ok("EXPCACHE.SET session:3 v");
        c.ok("EXPCACHE.TYPE SET session LIFETIME 0s");
        c.ok("EXPCACHE.SET session:3 v PERSIST");
        c.cmd("EXPCACHE.TYPE DEL session");
        c.ok("EXPCACHE.TYPE SET default LIFETIME 1h");
        server.set_clock(4 * HOUR);
        unseen(&mut c, "session:3");
        check(&mut c);
    }
}

#[test]
fn the_birth_survives_restarts() {
    for settings in [
        &["--appendonly", "no"][..],
        &["--appendonly", "yes", "--aof-use-rdb-preamble", "yes"],
        &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"],
    ] {
        let mut server = Server::with(settings);
        let mut c = server.conn();
        c.ok("EXPCACHE.TYPE SET session TTL 20m LIFETIME 8h");
        c.ok("EXPCACHE.SET k v TYPE session");
        let start = born(&mut c, "k");
        wait_until("time goes on", || now_ms() > start + 5);
        c.ok("EXPCACHE.SET k v2 TYPE session PERSIST");
        let expected = (start, start + 8 * HOUR);
        for rewritten in [false, true] {
            if rewritten && settings.len() > 2 {
                let mut c = server.conn();
                c.cmd("BGREWRITEAOF");
                wait_until("it is rewritten", || {
                    c.info("persistence", "aof_rewrite_in_progress") == "0"
                        && c.info("persistence", "aof_rewrite_scheduled") == "0"
                });
            }
            server.restart(if settings.len() > 2 { Stop::NoSave } else { Stop::Save });
            let mut c = server.conn();
            assert_eq!(c.map("EXPCACHE.TYPE GET session")["lifetime"], 8 * HOUR);
            assert_eq!((born(&mut c, "k"), expiry(&mut c, "k")), expected, "{settings:?}");
            assert_ne!(c.map("EXPCACHE.META k")["created"], start);
            check(&mut c);
        }
    }
}

#[test]
fn replicas_and_who_is_promoted_know_the_birth() {
    let (master, replica) = (Server::start(), Server::start());
    let (mut m, mut r) = (master.conn(), replica.conn());
    m.ok("EXPCACHE.TYPE SET session TTL 20m LIFETIME 8h");
    m.ok("EXPCACHE.SET before v TYPE session");
    replica.replica_of(&master);
    m.ok("EXPCACHE.SET after v TYPE session");
    let starts = ["before", "after"].map(|key| born(&mut m, key));
    wait_until("time goes on", || now_ms() > starts[1] + 5);
    for key in ["before", "after"] {
        m.ok(&["EXPCACHE.SET", key, "v2", "TYPE", "session", "EX", "60"]);
        assert_eq!(m.int(&["PERSIST", key]), 1);
    }
    for (key, start) in ["before", "after"].into_iter().zip(starts) {
        wait_until("the master puts it right", || expiry(&mut m, key) == start + 8 * HOUR);
        wait_until("the replica hears of it", || expiry(&mut r, key) == start + 8 * HOUR);
        assert_eq!(born(&mut r, key), start);
    }
    r.ok("REPLICAOF NO ONE");
    for (key, start) in ["before", "after"].into_iter().zip(starts) {
        r.ok(&["EXPCACHE.SET", key, "v3", "TYPE", "session", "PERSIST"]);
        assert_eq!((born(&mut r, key), expiry(&mut r, key)), (start, start + 8 * HOUR));
    }
    check(&mut m);
    check(&mut r);
}

#[test]
fn long_names_that_are_extended_are_put_right_without_being_kept() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 20m LIFETIME 8h");
    let names: Vec<Vec<u8>> = (0..16).map(|n| [format!("{n}:").as_bytes(), &vec![b'n'; 1 << 20]].concat()).collect();
    for name in &names {
        c.ok(args!["EXPCACHE.SET", name, "v", "TYPE", "session"]);
    }
    let memory = |reply: &Value| -> u64 {
        let text = reply.text();
        let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.trim().parse().unwrap()
    };
    // In a transaction nothing is put right in between.
    let persist = names.iter().map(|name| args!["PERSIST", name]);
    let asks = || std::iter::once(args!["INFO", "memory"]);
    let replies = c.transaction(asks().chain(persist).chain(asks()));
    let (first, last) = (memory(&replies[0]), memory(&replies[replies.len() - 1]));
    assert!(last < first + (4 << 20), "{} KiB were kept", (last - first) >> 10);
    for name in &names {
        let end = c.map(args!["EXPCACHE.META", name])["born"].int() + 8 * HOUR;
        wait_until("the server knows the end", || c.int(args!["PEXPIRETIME", name]) == end);
    }
    check(&mut c);
}

#[test]
fn while_nothing_may_be_written_nothing_is_put_right() {
    let server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 0s");
    let stores = (0..30_000).map(|n| args!["EXPCACHE.SET", format!("session:{n}"), "v"]);
    c.pipeline(stores);
    let created = c.map("EXPCACHE.META session:29999")["created"].int();
    // The walk has only just begun.
    c.pipeline(["EXPCACHE.TYPE SET session LIFETIME 8h", "CLIENT PAUSE 600000 WRITE"]);
    let late = |c: &mut Conn| (0..30_000).step_by(100).filter(|n| expiry(c, &format!("session:{n}")) == -1).count();
    let before = late(&mut c);
    assert!(before > 0, "it was over too soon for this test");
    // Five beats of its clock.
    let beats = |c: &mut Conn| c.info("server", "uptime_in_seconds").parse::<u64>().unwrap();
    let start = beats(&mut c);
    wait_until("some time has passed", || beats(&mut c) > start);
    assert_eq!(late(&mut c), before);
    assert_eq!(c.cmd("EXPCACHE.GET session:7"), "v");
    c.ok("CLIENT UNPAUSE");
    wait_until("all are put right", || late(&mut c) == 0);
    assert_eq!(expiry(&mut c, "session:29999"), created + 8 * HOUR);
    check(&mut c);
}

// ---- PERTAG

fn user_sessions(c: &mut Conn, user: &str) -> Vec<String> {
    let mut keys: Vec<String> =
        c.iterate("EXPCACHE.SCAN", &format!("ANY 1 {user} TYPE session")).iter().map(Value::text).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn one_more_makes_the_least_recently_used_go() {
    let server = Server::start();
    for mut c in server.conns() {
        c.cmd("EXPCACHE.CLEAR");
        c.ok("EXPCACHE.TYPE SET session PERTAG user: 3 evict");
        c.ok("EXPCACHE.STATS RESET");
        for n in 1..=3 {
            c.ok(&format!("EXPCACHE.SET session:{n} v TAGS 2 user:7 sid:{n}"));
            c.ok(&format!("EXPCACHE.SET other:{n} v TAGS 1 user:7"));
            c.ok(&format!("EXPCACHE.SET session:8{n} v TAGS 1 user:8"));
        }
        assert_eq!(c.cmd("EXPCACHE.GET session:1"), "v");
        c.ok("EXPCACHE.SET session:4 v TAGS 2 user:7 sid:4");
        assert_eq!(user_sessions(&mut c, "user:7"), ["session:1", "session:3", "session:4"]);
        c.ok("EXPCACHE.SET session:3 v2 TAGS 1 user:7");
        assert_eq!(user_sessions(&mut c, "user:7"), ["session:1", "session:3", "session:4"], "no one more");
        assert_eq!(c.map("EXPCACHE.STATS TYPE session")["evicted"], 1);
        c.ok("EXPCACHE.MSET 2 session:5 v session:6 v TAGS 2 user:7 user:8");
        assert_eq!(user_sessions(&mut c, "user:7"), ["session:3", "session:5", "session:6"]);
        assert_eq!(user_sessions(&mut c, "user:8"), ["session:5", "session:6", "session:83"]);
        c.ok("EXPCACHE.MSET 5 a v b v c v d v e v TYPE session TAGS 1 user:9");
        assert_eq!(user_sessions(&mut c, "user:9"), ["c", "d", "e"]);
        assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 user:7"), 6, "of other types any number");
        // What is invalidated or over is none.
        assert_eq!(c.cmd("EXPCACHE.INVTAG user:9"), 3);
        c.ok("EXPCACHE.MSET 3 a v b v c v TYPE session TAGS 1 user:9 PX 1");
        wait_until("they are over", || c.cmd("EXPCACHE.MGET a b c") == Value::Array(vec![Value::Nil; 3]));
        c.ok("EXPCACHE.MSET 2 d v e v TYPE session TAGS 1 user:9 GRACE 1h");
        c.ok("EXPCACHE.SET f v TYPE session TAGS 1 user:9");
        assert_eq!(user_sessions(&mut c, "user:9"), ["d", "e", "f"]);
        check(&mut c);
    }
}

#[test]
fn one_more_is_refused() {
    let server = Server::start();
    for mut c in server.conns() {
        c.cmd("EXPCACHE.CLEAR");
        c.ok("EXPCACHE.TYPE SET session PERTAG user: 2 reject");
        c.ok("EXPCACHE.STATS RESET");
        c.ok("EXPCACHE.SET session:1 v TAGS 1 user:7");
        let lease = c.map("EXPCACHE.FETCH session:3 LEASE 1m")["lease"].text();
        c.ok("EXPCACHE.SET session:2 v TAGS 1 user:7");
        let changes = c.info("persistence", "rdb_changes_since_last_save");
        refused(&mut c, "EXPCACHE.SET session:3 v TAGS 1 user:7", "TAGLIMIT");
        refused(&mut c, &["EXPCACHE.SET", "session:3", "v", "TAGS", "2", "x", "user:7", "LEASE", &lease], "TAGLIMIT");
        refused(&mut c, "EXPCACHE.MSET 2 session:1 v session:3 v TAGS 1 user:7", "TAGLIMIT");
        refused(&mut c, "EXPCACHE.MSET 3 session:1 v session:3 v session:4 v TAGS 1 user:8", "TAGLIMIT");
        assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes, "nothing was stored");
        assert_eq!(c.map("EXPCACHE.STATS TYPE session")["rejected"], 4);
        c.nil("EXPCACHE.SET session:1 v TAGS 1 user:7 NX");
        c.ok("EXPCACHE.SET session:1 v2 TAGS 1 user:7");
        c.ok("EXPCACHE.MSET 3 session:1 v session:2 v session:1 w TAGS 1 user:7");
        c.ok("EXPCACHE.SET session:3 v TYPE default TAGS 1 user:7");
        assert_eq!(c.cmd("EXPCACHE.DEL session:3"), 1);
        assert_eq!(c.cmd("EXPCACHE.DEL session:1"), 1);
        let lease = c.map("EXPCACHE.FETCH session:3 LEASE 1m")["lease"].text();
        c.ok(&["EXPCACHE.SET", "session:3", "v", "TAGS", "2", "x", "user:7", "LEASE", &lease]);
        c.ok(args!["EXPCACHE.TYPE", "SET", "session", "PERTAG", "", 0]);
        c.ok("EXPCACHE.SET session:4 v TAGS 1 user:7");
        assert_eq!(user_sessions(&mut c, "user:7"), ["session:2", "session:3", "session:4"]);
        check(&mut c);
    }
}

#[test]
fn what_a_type_says_of_its_tags() {
    let server = Server::start();
    for mut c in server.conns() {
        assert_eq!(c.map("EXPCACHE.TYPE GET trips")["pertag"], Value::Nil);
        c.ok("EXPCACHE.TYPE SET trips PERTAG user: 3 EVICT LIFETIME 90s");
        let shown = c.map("EXPCACHE.TYPE GET trips");
        assert_eq!(shown["pertag"], Value::Array(vec![Value::bulk("user:"), Value::Int(3), Value::bulk("evict")]));
        assert_eq!(shown["lifetime"], 90_000);
        for (wrong, error) in [
            ("PERTAG", "ERR syntax error"),
            ("PERTAG a 1", "ERR syntax error"),
            ("PERTAG a x evict", "ERR value is not an integer or out of range"),
            ("PERTAG a -1 evict", "ERR value is not an integer or out of range"),
            ("PERTAG a 1025 evict", "ERR PERTAG allows a tag at most 1024 entries"),
            ("PERTAG a 1 forget", "ERR PERTAG must evict or reject"),
            ("PERTAG a 1 evict PERTAG a 1 evict", "ERR syntax error"),
            ("LIFETIME 5", "ERR invalid duration"),
            ("LIFETIME 5s LIFETIME 5s", "ERR syntax error"),
        ] {
            refused(&mut c, &format!("EXPCACHE.TYPE SET trips {wrong}"), error);
        }
        refused(
            &mut c,
            args!["EXPCACHE.TYPE", "SET", "trips", "PERTAG", "p".repeat(513), 1, "evict"],
            "ERR a prefix has at most",
        );
        c.ok(args!["EXPCACHE.TYPE", "SET", "trips", "PERTAG", "", 0, "TTL", "1h"]);
        assert_eq!(c.map("EXPCACHE.TYPE GET trips")["pertag"], Value::Nil);
        c.ok(args!["EXPCACHE.TYPE", "SET", "trips", "PERTAG", "", 1, "reject", "LIFETIME", "0s"]);
        c.ok("EXPCACHE.SET trips:1 v TAGS 1 any");
        refused(&mut c, "EXPCACHE.SET trips:2 v TAGS 2 none any", "TAGLIMIT");
        c.ok("EXPCACHE.SET trips:2 v");
        c.cmd("EXPCACHE.CLEAR");
        c.ok(args!["EXPCACHE.TYPE", "SET", "trips", "PERTAG", "", 0]);
    }
}

#[test]
fn a_limit_that_was_lowered_is_come_down_to() {
    let server = Server::start();
    let mut c = server.conn();
    for n in 0..200 {
        c.ok(&format!("EXPCACHE.SET session:{n} v TYPE session TAGS 1 user:7"));
    }
    c.ok("EXPCACHE.TYPE SET session PERTAG user: 3 evict");
    for expected in [136, 73, 10, 3, 3] {
        c.ok(&format!("EXPCACHE.SET session:new-{expected} v TAGS 1 user:7"));
        assert!(c.int("EXPCACHE.COUNT ANY 1 user:7") <= expected + 1);
    }
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 user:7"), 3);
    check(&mut c);
}

#[test]
fn a_replica_decides_nothing_again() {
    let (master, replica) = (Server::start(), Server::with(&["--appendonly", "yes"]));
    replica.replica_of(&master);
    let (mut m, mut r) = (master.conn(), replica.conn());
    m.ok("EXPCACHE.TYPE SET session PERTAG user: 2 evict");
    m.ok("EXPCACHE.SET session:1 v TAGS 1 user:7");
    m.ok("EXPCACHE.SET session:2 v TAGS 1 user:7");
    replica.wait_for_sync(&master);
    wait_until("the replica has both", || r.cmd("EXPCACHE.COUNT ANY 1 user:7") == Value::Int(2));
    // On the replica the other was used last.
    assert_eq!(r.cmd("EXPCACHE.GET session:1"), "v");
    assert_eq!(m.cmd("EXPCACHE.GET session:2"), "v");
    m.ok("EXPCACHE.SET session:3 v TAGS 1 user:7");
    wait_until("the replica has the new one", || r.cmd("EXISTS session:3") == Value::Int(1));
    for c in [&mut m, &mut r] {
        assert_eq!(user_sessions(c, "user:7"), ["session:2", "session:3"]);
        check(c);
    }
    // COPY passes the limit, and the replica follows.
    assert_eq!(m.cmd("COPY session:2 session:4"), 1);
    wait_until("the replica has it", || r.cmd("EXPCACHE.COUNT ANY 1 user:7") == Value::Int(3));
    m.transaction(["EXPCACHE.SET session:5 v TAGS 1 user:7"]);
    wait_until("the replica comes down", || user_sessions(&mut r, "user:7") == user_sessions(&mut m, "user:7"));
    assert_eq!(m.cmd("EXPCACHE.COUNT ANY 1 user:7"), 2);
}

#[test]
fn many_clients_never_have_more_sessions_than_a_user_may() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 20m SLIDING yes LIFETIME 8h PERTAG user: 3 evict");
    let clients: Vec<_> = (0..64)
        .map(|client| {
            let mut c = server.conn();
            thread::spawn(move || {
                for n in 0..20 {
                    c.ok(&format!("EXPCACHE.SET session:{client}:{n} v TAGS 1 user:7"));
                    assert!(c.int("EXPCACHE.COUNT ANY 1 user:7 TYPE session") <= 3);
                }
            })
        })
        .collect();
    while !clients.iter().all(thread::JoinHandle::is_finished) {
        assert!(c.int("EXPCACHE.COUNT ANY 1 user:7") <= 3);
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 user:7"), 3);
    assert_eq!(c.int("DBSIZE"), 3);
    check(&mut c);
}

/// How many there are that anybody gets.
fn live(c: &mut Conn, keys: impl Iterator<Item = String>) -> usize {
    let command = std::iter::once("EXPCACHE.MGET".to_owned()).chain(keys).collect::<Vec<_>>();
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    c.cmd(command.as_slice()).items().iter().filter(|value| **value != Value::Nil).count()
}

#[test]
fn what_has_expired_neither_counts_nor_hides_what_counts() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    for mode in ["evict", "reject"] {
        c.ok("FLUSHALL");
        c.ok(args!["EXPCACHE.TYPE", "SET", "session", "PERTAG", "", 0]);
        // More than a store looks at, and the server does not expire them by itself.
        for n in 0..500 {
            c.ok(&format!("EXPCACHE.SET session:old:{n} v PX 1 TAGS 1 user:7"));
        }
        wait_until("they are over", || {
            live(&mut c, (0..0).map(|_| String::new()).chain(["session:old:499".into()])) == 0
        });
        assert!(c.int("EXPCACHE.COUNT ANY 1 user:7") > 400, "they are there still");
        c.ok(&format!("EXPCACHE.TYPE SET session PERTAG user: 3 {mode}"));
        for n in 0..8 {
            let stored = c.cmd(&format!("EXPCACHE.SET session:new:{n} v TAGS 1 user:7"));
            assert_eq!(stored.to_string().contains("TAGLIMIT"), mode == "reject" && n >= 3, "{stored}");
            let expected = usize::min(n + 1, 3);
            assert_eq!(live(&mut c, (0..8).map(|n| format!("session:new:{n}"))), expected, "{mode} {n}");
        }
        check(&mut c);
    }
}
