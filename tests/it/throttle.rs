//! Limits: what is allowed, what is said of it, and that what is refused leaves no trace. The arithmetic has its own tests, in
//! `core/src/limit`; here periods are so long that nothing comes back while a test runs.

use crate::harness::{Conn, Server, Stop, Value, args, check, refused, wait_until};

/// Five an hour, at once.
const HOURLY: &str = "POLICY 5 1h";

const REFILL_MS: i64 = 12 * 60 * 1000;

/// Calls are some milliseconds apart.
const SLACK_MS: i64 = 10_000;

#[track_caller]
fn throttle(c: &mut Conn, key: &str, how: &str) -> (i64, i64) {
    let reply = c.map(&*format!("EXPCACHE.THROTTLE {key} {how}"));
    (reply["allowed"].int(), reply["remaining"].int())
}

#[track_caller]
fn about(value: &Value, ms: i64) {
    assert!((ms - SLACK_MS..=ms + SLACK_MS).contains(&value.int()), "{value} is about {ms}");
}

#[test]
fn a_limit_allows_its_burst_and_says_when_to_come_again() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        for used in 1..=5 {
            let reply = c.map("EXPCACHE.THROTTLE k POLICY 5 1h");
            assert_eq!(reply.names(), ["allowed", "limit", "remaining", "retry", "reset", "policy", "policies"]);
            let said = ["allowed", "limit", "remaining", "retry", "policy"].map(|name| reply[name].int());
            assert_eq!(said, [1, 5, 5 - used, 0, 0]);
            about(&reply["reset"], used * REFILL_MS);
            let each = reply["policies"].items();
            assert_eq!(each.len(), 1);
            let first = each[0].fields();
            assert_eq!(first.names(), ["limit", "remaining", "retry", "reset"]);
            for name in first.names() {
                assert_eq!(first[name], reply[name]);
            }
        }
        let reply = c.map("EXPCACHE.THROTTLE k POLICY 5 1h");
        assert_eq!((reply["allowed"].int(), reply["remaining"].int()), (0, 0));
        about(&reply["retry"], REFILL_MS);
        about(&reply["reset"], 5 * REFILL_MS);
        about(&Value::Int(c.int("PTTL k")), 5 * REFILL_MS);
        assert_eq!(c.cmd("TYPE k"), Value::Simple("string".into()));
        c.int("DEL k");
        assert_eq!(throttle(&mut c, "k", HOURLY), (1, 4));
        check(&mut c);
    }
}

#[test]
fn costs_looks_and_refunds() {
    let server = Server::start();
    let mut c = server.conn();
    for (how, said) in [
        ("POLICY 5 1h COST 0", (1, 5)),
        ("POLICY 5 1h COST 3", (1, 2)),
        ("COST 3 POLICY 5 1h", (0, 2)),
        ("POLICY 5 1h COST 2", (1, 0)),
        ("POLICY 5 1h COST 0", (0, 0)),
        ("POLICY 5 1h COST -1", (1, 1)),
        ("POLICY 5 1h COST -9223372036854775808", (1, 5)),
        ("POLICY 5 1h COST 9223372036854775807", (0, 5)),
        ("policy 5 3600000 burst 9 cost 9", (1, 0)),
    ] {
        assert_eq!(throttle(&mut c, "k", how), said, "{how}");
    }
    let never = c.map("EXPCACHE.THROTTLE other POLICY 5 1h COST 6");
    assert_eq!((never["allowed"].int(), &never["retry"]), (0, &Value::Nil));
    assert_eq!(c.int("EXISTS other"), 0);
    c.map("EXPCACHE.THROTTLE k POLICY 5 1h BURST 9 COST -9");
    assert_eq!(c.int("EXISTS k"), 0, "full, so nothing is kept");
}

#[test]
fn all_policies_allow_a_call_or_none_is_charged() {
    let server = Server::start();
    let mut c = server.conn();
    let both = "POLICY 10 1h POLICY 12 1d";
    assert_eq!(throttle(&mut c, "k", &format!("{both} COST 10")), (1, 0));
    let reply = c.map("EXPCACHE.THROTTLE k POLICY 9 1h POLICY 12 1d COST 3");
    assert_eq!((reply["allowed"].int(), reply["policy"].int(), reply["limit"].int()), (0, 1, 12));
    about(&reply["retry"], 2 * 3_600_000);
    let left = |reply: &Value| reply.items().iter().map(|each| each.fields()["remaining"].int()).collect::<Vec<_>>();
    assert_eq!(left(&reply["policies"]), [9, 2], "the new one is full, and nothing was taken");
    // In whatever order they are given.
    let reply = c.map("EXPCACHE.THROTTLE k POLICY 12 1d POLICY 10 1h COST 0");
    assert_eq!(left(&reply["policies"]), [2, 0]);
}

/// `EXPCACHE_REFUSED_CALLS=1000000` makes it a million.
#[test]
fn what_is_refused_leaves_no_trace() {
    // A primary that pings its replicas writes that into the stream.
    let quiet = ["--repl-ping-replica-period", "3600"];
    let server = Server::with(&[&["--appendonly", "yes", "--appendfsync", "always"], &quiet[..]].concat());
    let replica = Server::start();
    replica.replica_of(&server);
    let mut c = server.conn();
    c.map("EXPCACHE.THROTTLE k POLICY 5 1h COST 5");
    replica.wait_for_sync(&server);
    let traces = |c: &mut Conn| {
        let of = [
            ("persistence", "rdb_changes_since_last_save"),
            ("persistence", "aof_current_size"),
            ("replication", "master_repl_offset"),
        ];
        of.map(|(section, name)| c.info(section, name))
    };
    let (before, dump) = (traces(&mut c), c.bulk("DUMP k"));
    let calls = std::env::var("EXPCACHE_REFUSED_CALLS").map_or(10_000, |calls| calls.parse().unwrap());
    for _ in 0..calls / 100 {
        let refused = c.pipeline(vec!["EXPCACHE.THROTTLE k POLICY 5 1h"; 100]);
        assert!(refused.iter().all(|reply| reply.fields()["allowed"] == 0));
        c.pipeline(["EXPCACHE.THROTTLE k POLICY 5 1h COST 0", "EXPCACHE.THROTTLE new POLICY 5 1h COST 6"]);
    }
    assert_eq!(traces(&mut c), before);
    assert_eq!((c.bulk("DUMP k"), c.int("DBSIZE")), (dump, 1));
    // Nothing went out in between: the next command that does is the next that the replica hears of.
    c.ok("SET after v");
    replica.wait_for_sync(&server);
}

#[test]
fn replicas_and_files_have_what_the_primary_has() {
    let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let replica = Server::start();
    replica.replica_of(&server);
    let mut c = server.conn();
    c.transaction(["EXPCACHE.THROTTLE k POLICY 5 1h COST 2", "EXPCACHE.THROTTLE k POLICY 5 1h"]);
    c.cmd(args!["EVAL", "return redis.call('expcache.throttle', KEYS[1], 'POLICY', 5, '1h')", 1, "k"]);
    replica.wait_for_sync(&server);
    let mut r = replica.conn();
    let is_equal = |c: &mut Conn, r: &mut Conn| {
        assert_eq!((c.bulk("DUMP k"), c.int("PEXPIRETIME k")), (r.bulk("DUMP k"), r.int("PEXPIRETIME k")));
    };
    is_equal(&mut c, &mut r);
    assert_eq!(throttle(&mut r, "k", "POLICY 5 1h COST 0"), (1, 1), "a replica may be asked");
    refused(&mut r, "EXPCACHE.THROTTLE k POLICY 5 1h", "READONLY");
    for stop in [Stop::Kill, Stop::Save] {
        server.restart(stop);
        let mut c = server.conn();
        is_equal(&mut c, &mut r);
        assert_eq!(throttle(&mut c, "k", "POLICY 5 1h COST 0"), (1, 1));
    }
    r.ok("REPLICAOF NO ONE");
    assert_eq!([throttle(&mut r, "k", HOURLY), throttle(&mut r, "k", HOURLY)], [(1, 0), (0, 0)]);
}

#[test]
fn bad_calls_are_refused_and_change_nothing() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.map("EXPCACHE.THROTTLE k POLICY 5 1h");
        for (call, prefix) in [
            ("k", "ERR wrong number"),
            ("k COST 1 COST", "ERR syntax"),
            ("k COST 1 x", "ERR syntax"),
            ("k POLICY 5 1h COST 1 COST 1", "ERR syntax"),
            ("k POLICY 5 1h COST", "ERR syntax"),
            ("k POLICY 5 1h COST x", "ERR value is not an integer"),
            ("k POLICY 5 1h COST 9223372036854775808", "ERR value is not an integer"),
            ("k POLICY 5 1h BURST", "ERR syntax"),
            ("k POLICY 5 1h BURST 2 BURST 2", "ERR syntax"),
            ("k POLICY 5 1h COST 1 BURST 2", "ERR syntax"),
            ("k BURST 2 POLICY 5 1h", "ERR syntax"),
            ("k POLICY 5 1h BURST -1", "ERR value is not an integer"),
            ("k POLICY 5 1h BURST 0", "ERR BURST must be between 1 and 1000000000"),
            ("k POLICY 0 1h", "ERR the count of a policy must be between 1 and 1000000000"),
            ("k POLICY 1000000001 1h", "ERR the count"),
            ("k POLICY -1 1h", "ERR value is not an integer"),
            ("k POLICY 5 0", "ERR the period of a policy must be between 1ms and 366d"),
            ("k POLICY 5 367d", "ERR the period"),
            ("k POLICY 5 soon", "ERR invalid duration"),
            ("k POLICY 1000000000 1ms", "ERR the period of a policy must be at least a nanosecond"),
            ("k POLICY 1 366d BURST 11", "ERR a policy must be full again within ten years"),
            ("k POLICY 5 1h POLICY 5 60m", "ERR syntax"),
            ("k POLICY 5 1h POLICY 5 60m BURST 5", "ERR syntax"),
        ] {
            refused(&mut c, &*format!("EXPCACHE.THROTTLE {call}"), prefix);
        }
        let nine: Vec<String> = (1..=9).map(|n| format!("POLICY {n} 1h")).collect();
        c.map(&*format!("EXPCACHE.THROTTLE eight {}", nine[..8].join(" ")));
        refused(&mut c, &*format!("EXPCACHE.THROTTLE k {}", nine.join(" ")), "ERR a key has at most 8 policies");
        c.int("DEL eight");
    }
}

#[test]
fn what_is_not_a_limit_is_left_alone() {
    let server = Server::start();
    let mut c = server.conn();
    c.int("RPUSH list v");
    c.ok("EXPCACHE.SET entry v");
    for key in ["list", "entry"] {
        refused(&mut c, &*format!("EXPCACHE.THROTTLE {key} POLICY 5 1h"), "WRONGTYPE");
    }
    c.ok(args!["SET", "text", "12"]);
    c.ok(args!["SET", "empty", ""]);
    c.int("SETBIT sparse 4000000000 1");
    for key in ["text", "empty", "sparse"] {
        for cost in [-1, 0, 1] {
            let call = format!("EXPCACHE.THROTTLE {key} POLICY 5 1h COST {cost}");
            refused(&mut c, &*call, "ERR the key holds a string that is not a limiter's");
        }
    }
    // A limiter's, but for a byte.
    c.map("EXPCACHE.THROTTLE k POLICY 5 1h");
    let state = c.bulk("GET k");
    for wrong in [&state[1..], &state[..state.len() - 1], &[&state[..], b"x"].concat()] {
        c.ok(args!["SET", "text", wrong, "PX", 600_000]);
        refused(&mut c, "EXPCACHE.THROTTLE text POLICY 5 1h", "ERR the key holds");
        assert_eq!((c.bulk("GET text"), c.int("PTTL text") > 500_000), (wrong.to_vec(), true));
    }
    c.ok(args!["SET", "text", &state]);
    assert_eq!(throttle(&mut c, "text", HOURLY), (1, 3), "without an expiry it is one still");
    assert!(c.int("PTTL text") > 0);
    check(&mut c);
}

#[test]
fn the_right_to_write_the_key_is_needed() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("ACL SETUSER limiter on nopass ~limit:* +expcache.throttle");
    c.ok("ACL SETUSER reader on nopass %R~limit:* +@all");
    c.ok("AUTH limiter x");
    assert_eq!(throttle(&mut c, "limit:1", HOURLY), (1, 4));
    c.err("EXPCACHE.THROTTLE other POLICY 5 1h", "NOPERM");
    c.ok("AUTH reader x");
    c.err("EXPCACHE.THROTTLE limit:1 POLICY 5 1h", "NOPERM");
}

#[test]
fn where_nothing_can_be_stored_no_call_is_charged_and_one_may_look() {
    let server = Server::start();
    let mut c = server.conn();
    c.map("EXPCACHE.THROTTLE k POLICY 5 1h");
    for (setting, refuses, allows, prefix) in
        [("min-replicas-to-write", "1", "0", "NOREPLICAS"), ("maxmemory", "1", "0", "OOM")]
    {
        c.ok(&["CONFIG", "SET", setting, refuses]);
        // What the server accepts is asked once a beat of its clock.
        let give_back = "EXPCACHE.THROTTLE k POLICY 5 1h COST -1";
        wait_until("it is refused", || c.cmd(give_back).to_string().contains(prefix));
        c.err("EXPCACHE.THROTTLE k POLICY 5 1h", prefix);
        assert_eq!(throttle(&mut c, "k", "POLICY 5 1h COST 0").0, 1);
        c.ok(&["CONFIG", "SET", setting, allows]);
        assert_eq!(throttle(&mut c, "k", HOURLY).0, 1);
    }
}

#[test]
fn those_who_watch_and_track_the_key_are_told_of_a_charge_and_not_of_a_refusal() {
    let server = Server::start();
    let (mut c, mut other) = (server.conn(), server.conn());
    for (cost, is_told) in [(5, true), (1, false), (0, false), (-1, true)] {
        c.ok("WATCH k");
        other.map(&*format!("EXPCACHE.THROTTLE k POLICY 5 1h COST {cost}"));
        c.ok("MULTI");
        assert_eq!(c.cmd("EXEC") == Value::Nil, is_told, "cost {cost}");
    }
}

#[test]
fn a_clock_that_is_set_back_costs_one_burst_at_most() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    server.set_clock(1000 * 3_600_000);
    assert_eq!(throttle(&mut c, "k", "POLICY 5 1h COST 5"), (1, 0));
    server.set_clock(0);
    let reply = c.map("EXPCACHE.THROTTLE k POLICY 5 1h");
    assert_eq!(reply["allowed"], 0);
    about(&reply["retry"], REFILL_MS);
    about(&reply["reset"], 5 * REFILL_MS);
}
