//! Leases: who gets one, what it is worth, and what ends it. Waiting for one is in `lease_wait.rs`, fences are in
//! `lease_fence.rs`, and everything at once is in `race.rs`.

use crate::harness::{Conn, HOSTILE, Server, Stop, Value, args, check, refused, wait_until};
use crate::leases::{LONG, NOBODYS, STALE, count, figure, free, granted, held, is_held, lease, lost};
use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

const HOUR_MS: i64 = 3_600_000;

/// The clocks of server and test are read at different instants, and count whole ms.
const SLACK: Duration = Duration::from_millis(3);

// ---- who gets it

#[test]
fn one_of_many_gets_the_lease_of_a_missing_key() {
    let server = Server::start();
    let mut others: Vec<Conn> = (0..5).flat_map(|_| server.conns()).collect();
    for (n, mut c) in server.conns().enumerate() {
        let key = format!("k{n}");
        let first = c.map(args!["EXPCACHE.FETCH", &key, "LEASE", LONG]);
        assert_eq!(first["status"], "miss");
        let token = granted(&first);
        assert_eq!(token.len(), 32);
        assert!(token.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{token}");
        for other in &mut others {
            let fetched = other.map(args!["EXPCACHE.FETCH", &key, "LEASE", LONG]);
            assert_eq!(fetched["status"], "miss");
            held(&fetched, HOUR_MS);
            held(&other.map(args!["EXPCACHE.FETCH", &key]), HOUR_MS);
        }
        // Who holds it already is told so, too.
        held(&c.map(args!["EXPCACHE.FETCH", &key, "LEASE", LONG]), HOUR_MS);
    }
    check(&mut server.conn());
}

#[test]
fn the_fields_of_a_lease_are_the_last_two_in_both_protocols() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        let fetched = c.map("EXPCACHE.FETCH k LEASE 30s");
        assert_eq!(fetched.names().len(), 13);
        assert_eq!(fetched.names()[11..], ["lease", "retry"]);
        for name in &fetched.names()[1..11] {
            assert_eq!(fetched[name], Value::Nil, "{name}");
        }
        assert!(matches!(fetched["lease"], Value::Bulk(_)));
        let retry = &c.map("EXPCACHE.FETCH k")["retry"];
        assert!((29_000..=30_000).contains(&retry.int()), "{retry}");
    }
}

#[test]
fn who_does_not_ask_gets_none() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET stale v {STALE}"));
    for _ in 0..3 {
        free(&c.map("EXPCACHE.FETCH missing"));
        free(&c.map("EXPCACHE.FETCH stale"));
        free(&c.map("EXPCACHE.FETCH missing WAIT 1h"));
    }
    lease(&mut c, "missing");
    lease(&mut c, "stale");
    assert_eq!(count(&mut c, "leases"), 2);
}

#[test]
fn no_two_tokens_are_alike() {
    let server = Server::start();
    let mut c = server.conn();
    let fetches = (0..2_000).map(|n| args!["EXPCACHE.FETCH", format!("k{n}"), "LEASE", LONG]);
    let tokens: Vec<String> = c.pipeline(fetches).iter().map(|reply| granted(&reply.fields())).collect();
    assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len());
    // No digit stands still from one token to the next: nothing of them is a counter or a clock.
    for digit in 0..32 {
        let different: HashSet<u8> = tokens.iter().map(|token| token.as_bytes()[digit]).collect();
        assert_eq!(different.len(), 16, "digit {digit}");
    }
}

#[test]
fn a_stale_entry_is_served_to_all_and_one_makes_the_next() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok(&format!("EXPCACHE.SET k old {STALE}"));
        let first = c.map("EXPCACHE.FETCH k LEASE 1h WAIT 1h");
        assert_eq!((&first["status"], &first["value"]), (&Value::bulk("stale"), &Value::bulk("old")));
        let token = granted(&first);
        for command in ["EXPCACHE.FETCH k", "EXPCACHE.FETCH k LEASE 1h", "EXPCACHE.FETCH k LEASE 1h WAIT 1h"] {
            let fetched = c.map(command);
            assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("stale"), &Value::bulk("old")));
            held(&fetched, HOUR_MS);
        }
        c.ok(args!["EXPCACHE.SET", "k", "new", "LEASE", token]);
        let fetched = c.map("EXPCACHE.FETCH k LEASE 1h");
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("hit"), &Value::bulk("new")));
        free(&fetched);
    }
}

#[test]
fn what_an_invalidation_made_stale_is_leased_as_well() {
    let server = Server::start();
    let mut c = server.conn();
    for (key, invalidation) in [("a", "EXPCACHE.CLEAR SOFT"), ("b", "EXPCACHE.PURGE MATCH b SOFT")] {
        c.ok(args!["EXPCACHE.SET", key, "old", "GRACE", "1h", "TAGS", 1, "t"]);
        free(&c.map(args!["EXPCACHE.FETCH", key, "LEASE", "1h"]));
        assert_eq!(c.cmd(invalidation), 1);
        let fetched = c.map(args!["EXPCACHE.FETCH", key, "LEASE", "1h"]);
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("stale"), &Value::bulk("old")));
        c.ok(args!["EXPCACHE.SET", key, "new", "TAGS", 1, "t", "LEASE", granted(&fetched)]);
        assert_eq!(c.cmd(&["EXPCACHE.GET", key]), "new");
    }
    check(&mut c);
}

#[test]
fn too_old_for_one_caller_is_fresh_for_the_others() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k old");
    sleep(Duration::from_millis(5));
    free(&c.map("EXPCACHE.FETCH k LEASE 1h"));
    let fetched = c.map("EXPCACHE.FETCH k LEASE 1h MAXAGE 1");
    assert_eq!(fetched["status"], "stale");
    let token = granted(&fetched);
    // To those who find it fresh nobody is said to hold anything.
    let fetched = c.map("EXPCACHE.FETCH k LEASE 1h");
    assert_eq!(fetched["status"], "hit");
    free(&fetched);
    held(&c.map("EXPCACHE.FETCH k MAXAGE 1"), HOUR_MS);
    c.ok(args!["EXPCACHE.SET", "k", "new", "LEASE", token]);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "new");
}

#[test]
fn each_key_of_each_database_has_its_own() {
    let server = Server::start();
    let mut c = server.conn();
    let mut tokens = Vec::new();
    for db in 0..3 {
        c.ok(args!["SELECT", db]);
        tokens.push(lease(&mut c, "k"));
        lease(&mut c, "other");
    }
    c.ok("SELECT 0");
    lost(&mut c, "k", &tokens[1]);
    lost(&mut c, "other", &tokens[0]);
    for (db, token) in tokens.iter().enumerate() {
        c.ok(args!["SELECT", db]);
        is_held(&mut c, "k", true);
        c.ok(args!["EXPCACHE.SET", "k", db, "LEASE", token]);
        is_held(&mut c, "k", false);
        is_held(&mut c, "other", true);
    }
}

#[test]
fn keys_are_any_bytes() {
    let server = Server::start();
    let mut c = server.conn();
    for key in HOSTILE {
        let token = lease(&mut c, key);
        assert_eq!(c.cmd(args!["EXPCACHE.RENEW", key, &token, LONG]), 1);
        c.ok(args!["EXPCACHE.SET", key, key, "LEASE", &token]);
        assert_eq!(c.cmd(args!["EXPCACHE.GET", key]), Value::bulk(key));
        assert_eq!(c.cmd(args!["EXPCACHE.DEL", key]), 1);
        let token = lease(&mut c, key);
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", key, &token, "FAIL", key]), 1);
    }
    check(&mut c);
}

// ---- tokens of the caller's own

const OWN: &str = "a token of my own";

#[test]
fn who_lost_the_reply_asks_again_with_the_same_token() {
    let server = Server::start();
    let mut other = server.conn();
    for (key, prepare) in [("missing", "PING"), ("stale", &*format!("EXPCACHE.SET stale v {STALE}"))] {
        other.cmd(prepare);
        // On one connection, which breaks, and on another.
        let mut gone = server.conn();
        assert_eq!(granted(&gone.map(args!["EXPCACHE.FETCH", key, "LEASE", LONG, "TOKEN", OWN])), OWN);
        drop(gone);
        for mut c in server.conns() {
            held(&other.map(args!["EXPCACHE.FETCH", key, "LEASE", LONG]), HOUR_MS);
            held(&other.map(args!["EXPCACHE.FETCH", key, "LEASE", LONG, "TOKEN", NOBODYS]), HOUR_MS);
            // WAIT does not wait for oneself.
            let again = c.map(args!["EXPCACHE.FETCH", key, "LEASE", "30m", "TOKEN", OWN, "WAIT", LONG]);
            assert_eq!(granted(&again), OWN);
            held(&other.map(args!["EXPCACHE.FETCH", key]), HOUR_MS / 2);
        }
        assert_eq!(other.cmd(args!["EXPCACHE.RENEW", key, OWN, LONG]), 1);
        other.ok(args!["EXPCACHE.SET", key, "new", "LEASE", OWN]);
        assert_eq!(other.cmd(args!["EXPCACHE.GET", key]), "new");
        lost(&mut other, key, OWN);
    }
    assert_eq!(count(&mut other, "leases"), 2, "each was one lease");
    check(&mut other);
}

#[test]
fn a_lease_that_is_given_again_lasts_from_then_on() {
    let server = Server::start();
    let mut c = server.conn();
    granted(&c.map(args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", OWN]));
    granted(&c.map(args!["EXPCACHE.FETCH", "k", "LEASE", "1ms", "TOKEN", OWN]));
    wait_until("the lease is over", || c.map("EXPCACHE.FETCH k")["retry"] == Value::Nil);
    // Over is over; the token is as good as a new one.
    lost(&mut c, "k", OWN);
    granted(&c.map(args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", OWN]));
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", OWN]);
}

#[test]
fn what_is_given_again_is_fenced_as_it_was() {
    let server = Server::start();
    let mut c = server.conn();
    let fetch = args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", OWN];
    granted(&c.map(fetch.clone()));
    c.int("EXPCACHE.INVALIDATE.TAG t");
    granted(&c.map(fetch.clone()));
    c.err(args!["EXPCACHE.SET", "k", "v", "TAGS", 1, "t", "LEASE", OWN], "FENCED");
    // That ended it, and whoever asks now asks after the invalidation.
    granted(&c.map(fetch));
    c.ok(args!["EXPCACHE.SET", "k", "v", "TAGS", 1, "t", "LEASE", OWN]);
}

#[test]
fn a_token_is_any_16_to_64_bytes() {
    let server = Server::start();
    let mut c = server.conn();
    for len in [0, 1, 15, 65, 100_000] {
        let command = args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", vec![b'x'; len]];
        let text = refused(&mut c, command, "ERR");
        assert_eq!(text, "ERR a lease's token must be 16 to 64 bytes");
    }
    is_held(&mut c, "k", false);
    for token in [vec![0; 16], vec![0; 17], vec![0xFF; 64], b"\r\n and the like \0\"".to_vec()] {
        let fetched = c.map(args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", &token[..]]);
        assert_eq!(fetched["lease"], Value::bulk(&token));
        assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", &token[1..], LONG]), 0);
        assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", &token[..], LONG]), 1);
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", &token[..]]), 1);
    }
    for command in [
        args!["EXPCACHE.FETCH", "k", "TOKEN", OWN],
        args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN"],
        args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", OWN, "TOKEN", OWN],
    ] {
        refused(&mut c, command, "ERR syntax error");
    }
}

#[test]
fn no_lease_lasts_longer_than_is_configured() {
    let server = Server::start();
    let mut c = server.conn();
    assert_eq!(c.config("expcache.max-lease"), "1h");
    let token = granted(&c.map("EXPCACHE.FETCH k LEASE 10000d"));
    held(&c.map("EXPCACHE.FETCH k"), HOUR_MS);
    c.ok("CONFIG SET expcache.max-lease 30m");
    // What was given stays; what is asked for now is cut.
    assert!(c.map("EXPCACHE.FETCH k")["retry"].int() > HOUR_MS / 2);
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", token, "2d"]), 1);
    held(&c.map("EXPCACHE.FETCH k"), HOUR_MS / 2);
    for bad in ["0s", "5", "-1s", "long", ""] {
        c.err(args!["CONFIG", "SET", "expcache.max-lease", bad], "ERR");
    }
    assert_eq!(c.config("expcache.max-lease"), "30m");
}

// ---- what it is worth

#[test]
fn a_lease_is_good_for_one_store() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        let token = lease(&mut c, "k");
        c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "TAGS", 1, "t", "LEASE", &token]);
        let fetched = c.map("EXPCACHE.FETCH k LEASE 1h");
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("hit"), &Value::bulk("v")));
        free(&fetched);
        let text = refused(&mut c, args!["EXPCACHE.SET", "k", "again", "LEASE", &token], "LEASELOST");
        assert_eq!(text, "LEASELOST the lease is over, superseded or unknown");
        lost(&mut c, "k", &token);
        check(&mut c);
    }
}

#[test]
fn what_is_no_token_is_a_lost_lease() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET there v");
    let token = lease(&mut c, "k");
    let others = lease(&mut c, "other");
    let (upper, long, short) = (token.to_uppercase(), format!("{token}0"), &token[1..]);
    let (blank, signed) = (format!(" {short}"), format!("+{short}"));
    let none: [&[u8]; 11] = [
        b"",
        b"x",
        b"0",
        NOBODYS.as_bytes(),
        &[b'0'; 32],
        others.as_bytes(),
        long.as_bytes(),
        short.as_bytes(),
        blank.as_bytes(),
        signed.as_bytes(),
        &[0xff; 32],
    ];
    for text in none.into_iter().chain(HOSTILE).chain((upper != token).then_some(upper.as_bytes())) {
        for key in ["k", "there", "nothing"] {
            refused(&mut c, args!["EXPCACHE.SET", key, "late", "LEASE", text], "LEASELOST");
            assert_eq!(c.cmd(args!["EXPCACHE.RENEW", key, text, LONG]), 0);
            assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", key, text]), 0);
        }
    }
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", &token]);
}

#[test]
fn a_lease_is_over_at_its_time_even_if_nobody_else_wants_it() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET stale old {STALE}"));
    for key in ["missing", "stale"] {
        let start = Instant::now();
        let token = granted(&c.map(&["EXPCACHE.FETCH", key, "LEASE", "60ms"]));
        held(&c.map(&["EXPCACHE.FETCH", key]), 60);
        wait_until("the lease is over", || c.map(&["EXPCACHE.FETCH", key])["retry"] == Value::Nil);
        assert!(start.elapsed() + SLACK >= Duration::from_millis(60), "{:?}", start.elapsed());
        lost(&mut c, key, &token);
        let next = lease(&mut c, key);
        lost(&mut c, key, &token);
        c.ok(args!["EXPCACHE.SET", key, "v", "LEASE", next]);
    }
    check(&mut c);
}

#[test]
fn a_lease_is_over_at_its_time_even_while_nothing_asks_the_server() {
    let server = Server::start();
    let mut c = server.conn();
    let token = granted(&c.map("EXPCACHE.FETCH k LEASE 20ms"));
    sleep(Duration::from_millis(40));
    c.err(args!["EXPCACHE.SET", "k", "v", "LEASE", &token], "LEASELOST");
    c.nil("EXPCACHE.META k");
    // And so it is if it ends while the server sleeps: its timer comes too late.
    let token = granted(&c.map("EXPCACHE.FETCH k LEASE 20ms"));
    let commands = [args!["DEBUG", "SLEEP", "0.05"], args!["EXPCACHE.SET", "k", "v", "LEASE", &token]];
    let replies = c.pipeline(commands);
    assert!(matches!(&replies[1], Value::Error(text) if text.starts_with("LEASELOST")), "{}", replies[1]);
    c.nil("EXPCACHE.META k");
}

#[test]
fn a_lease_may_last_as_long_as_any_duration() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-lease 365000d");
    // The last makes the server's own count of µs wrap around to nothing.
    for duration in ["4611686018427387903", "36500d", "18446744073709552"] {
        c.ok("FLUSHALL");
        let fetched = c.map(&["EXPCACHE.FETCH", "k", "LEASE", duration]);
        assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", granted(&fetched), duration]), 1);
        let retry = c.map("EXPCACHE.FETCH k")["retry"].int();
        assert!(retry > 1_000_000_000, "{retry}");
        let before = cpu_seconds(&mut c);
        sleep(Duration::from_millis(300));
        let used = cpu_seconds(&mut c) - before;
        assert!(used < 0.1, "the server is busy with nothing: {used} s of 0.3");
    }
    refused(&mut c, "EXPCACHE.FETCH k LEASE 9223372036854775808", "ERR invalid duration");
}

fn cpu_seconds(c: &mut Conn) -> f64 {
    let fields = ["used_cpu_user", "used_cpu_sys"];
    fields.map(|field| c.info("cpu", field).parse::<f64>().unwrap()).iter().sum()
}

#[test]
fn asking_for_a_lease_changes_nothing() {
    let server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET stale v {STALE}"));
    let changes = |c: &mut Conn| {
        (
            c.info("persistence", "rdb_changes_since_last_save"),
            c.info("persistence", "aof_current_size"),
            c.int("DBSIZE"),
        )
    };
    let before = changes(&mut c);
    for key in ["missing", "stale"] {
        let token = lease(&mut c, key);
        assert_eq!(c.cmd(args!["EXPCACHE.RENEW", key, &token, LONG]), 1);
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", key, &token, "FAIL", "why", "BACKOFF", "1s"]), 1);
    }
    assert_eq!(changes(&mut c), before);
}

// ---- RENEW

#[test]
fn a_renewed_lease_ends_at_its_new_time() {
    let server = Server::start();
    let mut c = server.conn();
    // Long enough for a slow machine to renew it in time.
    let token = granted(&c.map("EXPCACHE.FETCH k LEASE 3s"));
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", &token, "1h"]), 1);
    sleep(Duration::from_millis(3020));
    let retry = c.map("EXPCACHE.FETCH k")["retry"].int();
    assert!((HOUR_MS - 60_000..=HOUR_MS).contains(&retry), "{retry}");

    // From now on, not from where it ended; so it may be shortened too.
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", &token, "30m"]), 1);
    held(&c.map("EXPCACHE.FETCH k LEASE 1h"), HOUR_MS / 2);
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", &token, 30]), 1);
    wait_until("the lease is over", || c.map("EXPCACHE.FETCH k")["retry"] == Value::Nil);
    lost(&mut c, "k", &token);
}

#[test]
fn who_renews_in_time_keeps_it_for_ever() {
    let server = Server::start();
    let mut c = server.conn();
    let token = granted(&c.map("EXPCACHE.FETCH k LEASE 10s"));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", &token, "10s"]), 1);
        held(&c.map("EXPCACHE.FETCH k LEASE 10s"), 10_000);
        sleep(Duration::from_millis(10));
    }
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", &token]);
    let cost = c.map("EXPCACHE.META k")["cost"].int();
    assert!(cost >= 297, "the cost is measured from the granting: {cost}");
}

// ---- RELEASE

#[test]
fn a_released_lease_is_the_next_askers() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        let token = lease(&mut c, "k");
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", &token]), 1);
        free(&c.map("EXPCACHE.FETCH k"));
        lost(&mut c, "k", &token);
        let next = lease(&mut c, "k");
        lost(&mut c, "k", &token);
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", &next, "BACKOFF", 0]), 1);
        let next = lease(&mut c, "k");
        c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", &next]);
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", &next]), 0);
        assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    }
}

#[test]
fn while_a_key_backs_off_nobody_holds_or_gets_its_lease() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET stale old {STALE}"));
    for key in ["missing", "stale"] {
        let token = lease(&mut c, key);
        let start = Instant::now();
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", key, &token, "BACKOFF", "150ms"]), 1);
        lost(&mut c, key, &token);
        let fetch = args!["EXPCACHE.FETCH", key, "LEASE", LONG, "WAIT", LONG];
        // Nobody is waited for, as nobody produces.
        let fetched = c.map(fetch.clone());
        if start.elapsed() < Duration::from_millis(100) {
            held(&fetched, 150);
        }
        assert_eq!(fetched["status"].text(), if key == "stale" { "stale" } else { "miss" });
        wait_until("the backing off is over", || c.map(fetch.clone())["lease"] != Value::Nil);
        assert!(start.elapsed() + SLACK >= Duration::from_millis(150), "{:?}", start.elapsed());
    }
}

#[test]
fn failures_are_counted_for_the_type_of_the_key() {
    let server = Server::start();
    let mut c = server.conn();
    let failures = |c: &mut Conn, name: &str| c.map(&["EXPCACHE.STATS", "TYPE", name])["failures"].int();
    let token = lease(&mut c, "trips:1");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "trips:1", NOBODYS, "FAIL", "not mine"]), 0);
    assert_eq!((failures(&mut c, "trips"), count(&mut c, "failures")), (0, 0));
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "trips:1", &token, "FAIL", "the database is away"]), 1);
    assert_eq!((failures(&mut c, "trips"), count(&mut c, "failures")), (1, 1));
    // Giving up without a word is no failure.
    let token = lease(&mut c, "trips:1");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "trips:1", &token]), 1);
    for why in HOSTILE.into_iter().chain([&b""[..]]) {
        let token = lease(&mut c, "reports:1");
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "reports:1", &token, "BACKOFF", 0, "FAIL", why]), 1);
    }
    assert_eq!((failures(&mut c, "trips"), failures(&mut c, "reports")), (1, 7));
}

// ---- words

#[test]
fn what_makes_no_sense_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    const NOTHING: &str = "ERR a lease must last longer than nothing";
    const NO_DURATION: &str = "ERR invalid duration";
    const SYNTAX: &str = "ERR syntax error";
    for (command, prefix) in [
        ("EXPCACHE.FETCH new LEASE 0", NOTHING),
        ("EXPCACHE.FETCH new LEASE 0s", NOTHING),
        ("EXPCACHE.FETCH new LEASE 0 WAIT 1s", NOTHING),
        ("EXPCACHE.FETCH new LEASE", SYNTAX),
        ("EXPCACHE.FETCH new LEASE 1s LEASE 1s", SYNTAX),
        ("EXPCACHE.FETCH new WAIT", SYNTAX),
        ("EXPCACHE.FETCH new WAIT 1s WAIT 1s", SYNTAX),
        ("EXPCACHE.FETCH new LEASE WAIT 1s", NO_DURATION),
        ("EXPCACHE.FETCH new LEASE soon", NO_DURATION),
        ("EXPCACHE.FETCH new LEASE -1", NO_DURATION),
        ("EXPCACHE.FETCH new LEASE 1.5s", NO_DURATION),
        ("EXPCACHE.FETCH k WAIT -1", NO_DURATION),
        ("EXPCACHE.FETCH k WAIT 1w", NO_DURATION),
        ("EXPCACHE.RENEW k TOKEN 0", NOTHING),
        ("EXPCACHE.RENEW k TOKEN 0ms", NOTHING),
        ("EXPCACHE.RENEW k none 0", NOTHING),
        ("EXPCACHE.RENEW k TOKEN soon", NO_DURATION),
        ("EXPCACHE.RENEW k TOKEN", "ERR wrong number of arguments"),
        ("EXPCACHE.RENEW k TOKEN 1s 1s", "ERR wrong number of arguments"),
        ("EXPCACHE.RELEASE k", "ERR wrong number of arguments"),
        ("EXPCACHE.RELEASE k TOKEN FAIL", SYNTAX),
        ("EXPCACHE.RELEASE k TOKEN BACKOFF", SYNTAX),
        ("EXPCACHE.RELEASE k TOKEN NOW", SYNTAX),
        ("EXPCACHE.RELEASE k TOKEN BACKOFF -1", NO_DURATION),
        ("EXPCACHE.RELEASE k TOKEN BACKOFF FAIL", NO_DURATION),
        ("EXPCACHE.RELEASE k TOKEN FAIL a FAIL b", SYNTAX),
        ("EXPCACHE.RELEASE k TOKEN BACKOFF 1 BACKOFF 1", SYNTAX),
        ("EXPCACHE.SET k v LEASE", SYNTAX),
        ("EXPCACHE.SET k v LEASE TOKEN LEASE TOKEN", SYNTAX),
        ("EXPCACHE.MSET 1 k v LEASE TOKEN", SYNTAX),
    ] {
        refused(&mut c, &command.replace("TOKEN", &token), prefix);
    }
    free(&c.map("EXPCACHE.FETCH new"));
    c.ok(args!["EXPCACHE.SET", "k", "v", "lease", &token]);
    assert_eq!(c.cmd("EXPCACHE.DEL k"), 1);
    let token = granted(&c.map("expcache.fetch k maxage 0 wait 1s lease 1h"));
    assert_eq!(c.cmd(args!["expcache.release", "k", token, "backoff", "1ms", "fail", "backoff"]), 1);
}

#[test]
fn a_key_of_another_type_has_no_lease() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("SET text v");
    c.err("EXPCACHE.FETCH text LEASE 1h", "WRONGTYPE");
    c.err("EXPCACHE.FETCH text LEASE 1h WAIT 1h", "WRONGTYPE");
    c.ok("RENAME text away");
    let token = lease(&mut c, "text");
    c.ok("RENAME away text");
    refused(&mut c, args!["EXPCACHE.SET", "text", "v", "LEASE", &token], "WRONGTYPE");
    c.ok("RENAME text away");
    c.ok(args!["EXPCACHE.SET", "text", "v", "LEASE", &token]);
}

// ---- what ends it, and what does not

/// A server with the entries `a` and `b`, a dump of one and the lease of `k`, missing or stale.
fn scene(stale: bool) -> (Server, Conn, String) {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 2 a 1 b 2 TAGS 1 t");
    if stale {
        c.ok(&format!("EXPCACHE.SET k old TAGS 1 t {STALE}"));
    }
    let token = lease(&mut c, "k");
    (server, c, token)
}

#[test]
fn who_stores_the_key_without_the_lease_ends_it() {
    for stale in [false, true] {
        let (_server, mut c, mut token) = scene(stale);
        let dump = c.bulk("DUMP a");
        let expiry = (crate::harness::now_ms() + HOUR_MS).to_string();
        let metadata = restore_metadata();
        let stores = [
            args!["EXPCACHE.SET", "k", "v"],
            args!["EXPCACHE.MSET", 2, "x", "v", "k", "v"],
            args!["RESTORE", "k", 0, dump, "REPLACE"],
            args!["COPY", "a", "k", "REPLACE"],
            args!["RENAME", "a", "k"],
            args!["EXPCACHE.RESTORE", "k", expiry, metadata, "v"],
            args!["EXPCACHE.SET", "k", "v", "PXAT", 1000, "GRACE", "365000d"],
        ];
        for store in stores {
            let shown = Value::bulk(&store[0]);
            is_held(&mut c, "k", true);
            assert!(!matches!(c.cmd(store), Value::Error(_)), "{shown}");
            is_held(&mut c, "k", false);
            lost(&mut c, "k", &token);
            c.ok("EXPCACHE.SET a 1 TAGS 1 t");
            assert_eq!(c.cmd("EXPCACHE.DEL k"), 1, "{shown}");
            if stale {
                c.ok(&format!("EXPCACHE.SET k old TAGS 1 t {STALE}"));
            }
            token = lease(&mut c, "k");
        }
        check(&mut c);
    }
}

/// The metadata of some entry, as replication sends it: it is read off the append-only file.
fn restore_metadata() -> Vec<u8> {
    const BEFORE: &[u8] = b"EXPCACHE.RESTORE\r\n$1\r\nk\r\n$2\r\n-1\r\n$";
    let server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.default-ttl 0");
    c.ok("EXPCACHE.SET k v");
    let files = std::fs::read_dir(server.dir().join("appendonlydir")).unwrap();
    let log: Vec<u8> = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    let at = log.windows(BEFORE.len()).position(|part| part == BEFORE).unwrap() + BEFORE.len();
    let digits = log[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length: usize = std::str::from_utf8(&log[at..at + digits]).unwrap().parse().unwrap();
    log[at + digits + 2..][..length].to_vec()
}

#[test]
fn who_deletes_the_key_ends_it() {
    for delete in ["DEL k", "UNLINK k", "UNLINK a k b", "EXPCACHE.DEL k", "EXPCACHE.DEL a k b"] {
        let (_server, mut c, token) = scene(true);
        assert!(c.int(delete) > 0);
        is_held(&mut c, "k", false);
        lost(&mut c, "k", &token);
        c.nil("EXPCACHE.META k");
        lease(&mut c, "k");
        check(&mut c);
    }
}

#[test]
fn deleting_what_is_not_there_ends_it_if_it_is_the_caches_command() {
    let (_server, mut c, token) = scene(false);
    assert_eq!(c.cmd("DEL k"), 0);
    assert_eq!(c.cmd("UNLINK k"), 0);
    is_held(&mut c, "k", true);
    c.ok("SET native v");
    c.err("EXPCACHE.DEL k native", "WRONGTYPE");
    is_held(&mut c, "k", true);
    assert_eq!(c.cmd("EXPCACHE.DEL k"), 0);
    is_held(&mut c, "k", false);
    lost(&mut c, "k", &token);
    lease(&mut c, "k");
}

#[test]
fn emptying_and_swapping_databases_ends_all_of_theirs() {
    for (command, ended) in [
        ("FLUSHDB", &[0][..]),
        ("FLUSHDB ASYNC", &[0]),
        ("FLUSHALL", &[0, 1, 2]),
        ("FLUSHALL ASYNC", &[0, 1, 2]),
        ("SWAPDB 0 2", &[0, 2]),
        ("SWAPDB 2 1", &[1, 2]),
        ("DEBUG RELOAD", &[0, 1, 2]),
    ] {
        let server = Server::start();
        let mut c = server.conn();
        let mut tokens = Vec::new();
        for db in 0..3 {
            c.ok(args!["SELECT", db]);
            c.ok("EXPCACHE.SET there v");
            tokens.push(lease(&mut c, "k"));
        }
        c.ok("SELECT 0");
        c.ok(command);
        for (db, token) in tokens.iter().enumerate() {
            c.ok(args!["SELECT", db]);
            let is_over = ended.contains(&db);
            is_held(&mut c, "k", !is_over);
            if is_over {
                lost(&mut c, "k", token);
                lease(&mut c, "k");
            } else {
                c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
            }
        }
        check(&mut c);
    }
}

#[test]
fn what_says_nothing_about_the_next_value_does_not_end_it() {
    for commands in [
        // The key goes or comes, or not, but nobody said that what it was made from has changed.
        &["PEXPIRE k 100"][..],
        &["PERSIST k"],
        &["RENAME k elsewhere"],
        &["MOVE k 1", "SELECT 0"],
        &["COPY k elsewhere"],
        &["DUMP k", "TOUCH k", "OBJECT FREQ k", "TYPE k"],
        // Other keys.
        &["DEL a", "EXPCACHE.DEL b nothing", "EXPCACHE.SET c v", "EXPCACHE.DEL c"],
        // The same key elsewhere.
        &["SELECT 1", "EXPCACHE.SET k v", "DEL k", "EXPCACHE.DEL k", "EXPCACHE.CLEAR", "FLUSHDB", "SELECT 0"],
        // Nothing is stored.
        &["EXPCACHE.SET k v NX", "EXPCACHE.SET k v IFMATCH 00000000000000000000000000000000"],
        &["EXPCACHE.SET k v HASH 00000000000000000000000000000000", "EXPCACHE.MSET 2 k v a v NX"],
        &["EXPCACHE.TYPE SET default TTL 5m", "EXPCACHE.TYPE DEL trips", "EXPCACHE.STATS RESET", "CONFIG RESETSTAT"],
        &["SAVE", "SCRIPT FLUSH", "CONFIG REWRITE"],
    ] {
        let (_server, mut c, token) = scene(true);
        for command in commands {
            c.cmd(*command);
        }
        c.ok(args!["EXPCACHE.SET", "k", "new", "LEASE", &token]);
        assert_eq!(c.cmd("EXPCACHE.GET k"), "new", "{commands:?}");
        check(&mut c);
    }
}

#[test]
fn the_end_of_the_stale_entry_does_not_end_it() {
    // Found expired by who reads, and by the server itself.
    for active in [0, 1] {
        let (_server, mut c, token) = scene(true);
        c.ok(args!["DEBUG", "SET-ACTIVE-EXPIRE", active]);
        assert_eq!(c.cmd("PEXPIRE k 1"), 1);
        wait_until("the entry is gone", || match active {
            0 => c.map("EXPCACHE.FETCH k")["status"] == "miss",
            _ => c.int("DBSIZE") == 2,
        });
        is_held(&mut c, "k", true);
        c.ok(args!["EXPCACHE.SET", "k", "new", "LEASE", &token]);
    }
    // Evicted, by the server and by its type.
    let (_server, mut c, token) = scene(true);
    c.ok("CONFIG SET maxmemory-policy allkeys-random maxmemory 1");
    wait_until("everything is evicted", || {
        c.cmd("EXPCACHE.SET x v");
        c.int("DBSIZE") == 0
    });
    c.ok("CONFIG SET maxmemory 0");
    c.ok(args!["EXPCACHE.SET", "k", "new", "LEASE", &token]);
    c.ok("EXPCACHE.TYPE SET cramped MAXENTRIES 1");
    c.ok(&format!("EXPCACHE.SET m old TYPE cramped {STALE}"));
    let token = lease(&mut c, "m");
    c.ok("EXPCACHE.SET n v TYPE cramped");
    c.nil("EXPCACHE.META m");
    c.ok(args!["EXPCACHE.SET", "m", "new", "LEASE", &token]);
    check(&mut c);
}

#[test]
fn reclaiming_what_was_invalidated_before_does_not_end_it() {
    for inline in [0, 256] {
        let server = Server::start();
        let mut c = server.conn();
        c.ok(args!["CONFIG", "SET", "expcache.reclaim-inline", inline]);
        c.ok(args!["CONFIG", "SET", "expcache.reclaim-slice-us", 1]);
        let keys: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
        c.pipeline(keys.iter().map(|key| args!["EXPCACHE.SET", key, "old", "TAGS", 1, "t"]));
        let mut commands = vec![args!["EXPCACHE.INVALIDATE.TAG", "t"]];
        commands.extend(keys.iter().map(|key| args!["EXPCACHE.FETCH", key, "LEASE", LONG]));
        let replies = c.pipeline(commands);
        assert_eq!(replies[0], 200);
        let tokens: Vec<String> = replies[1..].iter().map(|reply| granted(&reply.fields())).collect();
        wait_until("all are reclaimed", || c.int("DBSIZE") == 0);
        for (key, token) in keys.iter().zip(tokens) {
            c.ok(args!["EXPCACHE.SET", key, "new", "TAGS", 1, "t", "LEASE", token]);
        }
        check(&mut c);
    }
}

#[test]
fn a_store_that_does_not_happen_leaves_the_lease() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET tight MAXVALUE 3 FORMATS 1 csv");
    c.ok(&format!("EXPCACHE.SET k old {STALE}"));
    let token = lease(&mut c, "k");
    for command in ["EXPCACHE.SET k v NX LEASE", "EXPCACHE.SET k v IFMATCH 00000000000000000000000000000000 LEASE"] {
        c.nil(&format!("{command} {token}"));
        is_held(&mut c, "k", true);
    }
    let missing = lease(&mut c, "missing");
    c.nil(&format!("EXPCACHE.SET missing v XX LEASE {missing}"));
    for (options, prefix) in [
        ("TYPE tight", "TOOLARGE"),
        ("TYPE tight FORMAT xml", "BADFORMAT"),
        ("HASH 00000000000000000000000000000000", "HASHMISMATCH"),
        ("EX 0", "ERR invalid expire time"),
        ("EX 1 PX 1", "ERR syntax error"),
        ("TAGS 1", "ERR syntax error"),
        ("META []", "ERR META"),
        ("GRACE soon", "ERR invalid duration"),
    ] {
        let payload = if prefix == "BADFORMAT" { "v" } else { "longer" };
        refused(&mut c, &format!("EXPCACHE.SET k {payload} {options} LEASE {token}"), prefix);
        refused(&mut c, &format!("EXPCACHE.SET missing {payload} LEASE {missing} {options}"), prefix);
        is_held(&mut c, "k", true);
        is_held(&mut c, "missing", true);
    }
    c.ok("CONFIG SET maxmemory-policy noeviction maxmemory 1");
    c.err(args!["EXPCACHE.SET", "k", "v", "LEASE", &token], "OOM");
    c.ok("CONFIG SET maxmemory 0");
    c.ok(&format!("EXPCACHE.SET k v XX LEASE {token}"));
    c.ok(&format!("EXPCACHE.SET missing v NX LEASE {missing}"));
    check(&mut c);
}

#[test]
fn a_value_that_is_over_before_it_is_stored_ends_the_lease_all_the_same() {
    let server = Server::start();
    let mut c = server.conn();
    for key in ["missing", "there"] {
        if key == "there" {
            c.ok(&format!("EXPCACHE.SET there old {STALE}"));
        }
        let token = lease(&mut c, key);
        c.ok(args!["EXPCACHE.SET", key, "v", "PXAT", 1000, "GRACE", 0, "LEASE", &token]);
        c.nil(args!["EXPCACHE.META", key]);
        is_held(&mut c, key, false);
        lost(&mut c, key, &token);
    }
    check(&mut c);
}

// ---- cost and statistics

#[test]
fn the_cost_is_measured_from_the_granting() {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    sleep(Duration::from_millis(40));
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", &token]);
    let cost = c.map("EXPCACHE.META k")["cost"].int();
    assert!((38..20_000).contains(&cost), "{cost}");

    let token = lease(&mut c, "given");
    sleep(Duration::from_millis(5));
    c.ok(args!["EXPCACHE.SET", "given", "v", "COST", 0, "LEASE", &token]);
    assert_eq!(c.map("EXPCACHE.META given")["cost"], 0);
    c.ok("EXPCACHE.SET without v");
    assert_eq!(c.map("EXPCACHE.META without")["cost"], Value::Nil);
}

#[test]
fn everything_is_counted_overall_and_by_type() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.STATS RESET");
        let token = lease(&mut c, "trips:1");
        c.cmd("EXPCACHE.FETCH trips:1 LEASE 1h");
        c.ok(args!["EXPCACHE.SET", "trips:1", "v", "COST", 100, "LEASE", token]);
        let token = lease(&mut c, "trips:2");
        c.cmd("EXPCACHE.FETCH trips:2 WAIT 5ms");
        c.cmd("EXPCACHE.INVALIDATE.TAG t");
        c.err(args!["EXPCACHE.SET", "trips:2", "v", "TAGS", 1, "t", "LEASE", token], "FENCED");
        let token = lease(&mut c, "trips:2");
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "trips:2", token, "FAIL", "why"]), 1);
        // An entry's own type counts when there is one, whatever its key looks like.
        c.ok(&format!("EXPCACHE.SET trips:3 v TYPE reports COST 300 {STALE}"));
        let token = lease(&mut c, "trips:3");
        c.ok(args!["EXPCACHE.SET", "trips:3", "v", "TYPE", "reports", "COST", 300, "LEASE", token]);
        for _ in 0..3 {
            c.cmd("EXPCACHE.GET trips:1");
        }
        c.cmd("EXPCACHE.FETCH trips:1");
        c.cmd("EXPCACHE.MGET trips:3 trips:1");

        let names = ["leases", "fenced", "waits", "failures", "produce-ms", "saved-ms"];
        let stats = c.map("EXPCACHE.STATS");
        let trips = c.map("EXPCACHE.STATS TYPE trips");
        let reports = c.map("EXPCACHE.STATS TYPE reports");
        assert_eq!(names.map(|name| trips[name].int()), [3, 1, 1, 1, 100, 500]);
        // Two values of 300 ms were stored; one was handed out stale, the other fresh.
        assert_eq!(names.map(|name| reports[name].int()), [1, 0, 0, 0, 300, 600]);
        assert_eq!(names.map(|name| stats[name].int()), [4, 1, 1, 1, 700 / 3, 1100]);
        for stats in [stats, trips] {
            let at = stats.names().iter().position(|name| *name == "corrupt").unwrap();
            let shown: Vec<&str> =
                stats.names()[at + 1..].iter().copied().filter(|name| !name.starts_with("warmed")).take(6).collect();
            assert_eq!(shown, names);
        }
        c.ok("EXPCACHE.STATS RESET");
        assert_eq!(names.map(|name| count(&mut c, name)), [0; 6]);
    }
}

// ---- early refresh

/// An entry of a type that is refreshed early, its window opened by a native expiry, and so dear that everybody is due.
fn early(c: &mut Conn) {
    c.ok("EXPCACHE.TYPE SET eager EARLY 50 TTL 1000s");
    c.ok("EXPCACHE.SET k old TYPE eager COST 2592000000");
    assert_eq!(c.cmd("EXPIRE k 60"), 1);
}

#[test]
fn an_entry_near_its_end_is_still_fresh_and_one_makes_the_next() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        early(&mut c);
        let fetched = c.map("EXPCACHE.FETCH k");
        assert_eq!(fetched["status"], "hit");
        free(&fetched);
        let fetched = c.map("EXPCACHE.FETCH k LEASE 1h");
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("hit"), &Value::bulk("old")));
        let token = granted(&fetched);
        // One refresh runs at a time, and nobody else is bothered with it.
        for _ in 0..100 {
            let fetched = c.map("EXPCACHE.FETCH k LEASE 1h WAIT 1h");
            assert_eq!(fetched["status"], "hit");
            free(&fetched);
        }
        c.ok(args!["EXPCACHE.SET", "k", "new", "TYPE", "eager", "LEASE", &token]);
        assert_eq!(c.cmd("EXPCACHE.GET k"), "new");
        free(&c.map("EXPCACHE.FETCH k LEASE 1h"));
    }
}

#[test]
fn who_has_the_payload_may_refresh_it_too() {
    let server = Server::start();
    let mut c = server.conn();
    early(&mut c);
    let etag = c.map("EXPCACHE.META k")["etag"].text();
    let fetched = c.map(args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "IFNONEMATCH", etag]);
    assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("not-modified"), &Value::Nil));
    granted(&fetched);
}

#[test]
fn before_its_window_and_without_an_end_nothing_is_refreshed() {
    let server = Server::start();
    let mut c = server.conn();
    for window in ["EXPIRE k 501", "PERSIST k", "EXPCACHE.TYPE SET eager EARLY 0"] {
        early(&mut c);
        c.cmd(window);
        for _ in 0..200 {
            free(&c.map("EXPCACHE.FETCH k LEASE 1h"));
        }
    }
}

#[test]
fn a_cheap_entry_is_refreshed_before_its_end_too() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET eager EARLY 10 TTL 1s GRACE 1h");
    c.ok("EXPCACHE.SET k old TYPE eager");
    let start = Instant::now();
    loop {
        let fetched = c.map("EXPCACHE.FETCH k LEASE 1h");
        if fetched["lease"] != Value::Nil {
            // A machine that stands still might not ask in time.
            assert!(fetched["status"] == "hit" || start.elapsed() > Duration::from_secs(1));
            assert!(start.elapsed() + SLACK >= Duration::from_millis(100), "{:?}", start.elapsed());
            break;
        }
    }
}

// ---- transactions, scripts, replicas, restarts

#[test]
fn in_a_transaction_leases_are_used_but_not_granted() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        let tokens = ["stored", "renewed", "released"].map(|key| lease(&mut c, key));
        let commands = [
            args!["MULTI"],
            args!["EXPCACHE.FETCH", "new", "LEASE", LONG],
            args!["EXPCACHE.FETCH", "stored", "LEASE", LONG, "WAIT", LONG],
            args!["EXPCACHE.SET", "stored", "v", "LEASE", &tokens[0]],
            args!["EXPCACHE.FETCH", "stored", "LEASE", LONG, "WAIT", LONG],
            args!["EXPCACHE.RENEW", "renewed", &tokens[1], "2h"],
            args!["EXPCACHE.FETCH", "renewed"],
            args!["EXPCACHE.RELEASE", "released", &tokens[2], "FAIL", "why"],
            args!["EXPCACHE.FETCH", "released", "WAIT", LONG],
            args!["EXEC"],
        ];
        let replies = c.pipeline(commands).pop().unwrap();
        let fetched = |n: usize| replies.items()[n].fields();
        free(&fetched(0));
        held(&fetched(1), HOUR_MS);
        assert_eq!(replies.items()[2], Value::Simple("OK".into()));
        assert_eq!(fetched(3)["status"], "hit");
        assert_eq!(replies.items()[4], 1);
        held(&fetched(5), 2 * HOUR_MS);
        assert_eq!(replies.items()[6], 1);
        free(&fetched(7));
        free(&c.map("EXPCACHE.FETCH new"));
        check(&mut c);
    }
}

#[test]
fn in_a_script_leases_are_used_but_not_granted() {
    let server = Server::start();
    let mut c = server.conn();
    let script = |c: &mut Conn, command: Vec<Vec<u8>>| {
        let mut words = args!["EVAL", "return redis.call(unpack(ARGV))", 1];
        words.push(command[1].clone());
        words.extend(command);
        c.cmd(words)
    };
    free(&script(&mut c, args!["EXPCACHE.FETCH", "k", "LEASE", LONG]).fields());
    let token = lease(&mut c, "k");
    held(&script(&mut c, args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "WAIT", LONG]).fields(), HOUR_MS);
    assert_eq!(script(&mut c, args!["EXPCACHE.RENEW", "k", &token, LONG]), 1);
    assert_eq!(script(&mut c, args!["EXPCACHE.SET", "k", "v", "LEASE", &token]), Value::Simple("OK".into()));
    let late = script(&mut c, args!["EXPCACHE.SET", "k", "w", "LEASE", &token]);
    assert!(matches!(&late, Value::Error(text) if text.contains("LEASELOST")), "{late}");
    let token = lease(&mut c, "other");
    assert_eq!(script(&mut c, args!["EXPCACHE.RELEASE", "other", &token]), 1);
    free(&c.map("EXPCACHE.FETCH other"));
    check(&mut c);
}

#[test]
fn a_replica_grants_nothing_and_knows_of_nothing() {
    let (master, replica) = (Server::start(), Server::start());
    let (mut m, mut r) = (master.conn(), replica.conn());
    m.ok(&format!("EXPCACHE.SET stale old {STALE}"));
    replica.replica_of(&master);
    let token = lease(&mut m, "k");
    lease(&mut m, "stale");
    for key in ["k", "stale", "new"] {
        free(&r.map(args!["EXPCACHE.FETCH", key, "LEASE", LONG]));
        free(&r.map(args!["EXPCACHE.FETCH", key, "LEASE", LONG, "WAIT", LONG]));
    }
    r.err(args!["EXPCACHE.SET", "k", "v", "LEASE", &token], "READONLY");
    assert_eq!(r.cmd(args!["EXPCACHE.RENEW", "k", &token, LONG]), 0);
    assert_eq!(r.cmd(args!["EXPCACHE.RELEASE", "k", &token]), 0);

    m.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", &token]);
    replica.wait_for_sync(&master);
    assert_eq!(r.cmd("EXPCACHE.GET k"), "v");
    assert_eq!(r.map("EXPCACHE.META k")["cost"], m.map("EXPCACHE.META k")["cost"]);
    check(&mut r);
}

#[test]
fn whoever_becomes_the_master_starts_anew() {
    let (master, replica) = (Server::start(), Server::start());
    let (mut m, mut r) = (master.conn(), replica.conn());
    replica.replica_of(&master);
    let token = lease(&mut m, "k");
    r.ok("REPLICAOF NO ONE");
    lost(&mut r, "k", &token);
    let own = lease(&mut r, "k");

    // The old master comes back as a replica, and then as a master: what it gave out is not worth anything any more.
    master.replica_of(&replica);
    m = master.conn();
    free(&m.map(args!["EXPCACHE.FETCH", "k", "LEASE", LONG]));
    r.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", own]);
    m.ok("REPLICAOF NO ONE");
    lost(&mut m, "k", &token);
    for (c, key) in [(&mut m, "x"), (&mut r, "x")] {
        let token = lease(c, key);
        c.ok(args!["EXPCACHE.SET", key, "v", "LEASE", token]);
        check(c);
    }
}

#[test]
fn nothing_of_a_lease_survives_a_restart() {
    for stop in [Stop::Save, Stop::NoSave, Stop::Kill] {
        let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "no"]);
        let mut c = server.conn();
        c.ok(&format!("EXPCACHE.SET stale old {STALE}"));
        let tokens = ["k", "stale"].map(|key| (key, lease(&mut c, key)));
        let token = lease(&mut c, "backing-off");
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "backing-off", token, "BACKOFF", LONG]), 1);
        server.restart(stop);
        let mut c = server.conn();
        for (key, token) in tokens {
            lost(&mut c, key, &token);
            lease(&mut c, key);
        }
        lease(&mut c, "backing-off");
        check(&mut c);
    }
}

#[test]
fn rewriting_the_append_only_file_and_saving_leave_leases_alone() {
    let server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    c.cmd("BGREWRITEAOF");
    c.ok("SAVE");
    wait_until("the file is rewritten", || c.info("persistence", "aof_rewrite_in_progress") == "0");
    c.cmd("BGSAVE");
    wait_until("the child is done", || c.info("persistence", "rdb_bgsave_in_progress") == "0");
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
}

// ---- bounds and rights

#[test]
fn there_are_no_more_leases_in_a_database_than_allowed() {
    let server = Server::start();
    let mut c = server.conn();
    assert_eq!(c.config("expcache.max-leases"), "100000");
    c.ok("CONFIG SET expcache.max-leases 2");
    let tokens = ["a", "b"].map(|key| lease(&mut c, key));
    for _ in 0..2 {
        free(&c.map("EXPCACHE.FETCH c LEASE 1h"));
        free(&c.map("EXPCACHE.FETCH c LEASE 1h WAIT 1h"));
        held(&c.map("EXPCACHE.FETCH a LEASE 1h"), HOUR_MS);
    }
    c.ok("SELECT 1");
    lease(&mut c, "c");
    c.ok("SELECT 0");
    assert_eq!(figure(&mut c, "leases"), 3);
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "a", &tokens[0], LONG]), 1);
    c.ok(args!["EXPCACHE.SET", "a", "v", "LEASE", &tokens[0]]);
    assert_eq!(figure(&mut c, "leases"), 2);
    lease(&mut c, "c");
    free(&c.map("EXPCACHE.FETCH d LEASE 1h"));

    // What is there already stays when there may be fewer.
    c.ok("CONFIG SET expcache.max-leases 0");
    c.ok(args!["EXPCACHE.SET", "b", "v", "LEASE", &tokens[1]]);
    free(&c.map("EXPCACHE.FETCH d LEASE 1h"));
    c.ok("CONFIG SET expcache.max-leases 100000");
    lease(&mut c, "d");
    check(&mut c);
}

#[test]
fn a_lease_that_is_over_makes_room() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-leases 1");
    c.cmd("EXPCACHE.FETCH a LEASE 30ms");
    wait_until("another gets the room", || c.map("EXPCACHE.FETCH b LEASE 1h")["lease"] != Value::Nil);
}

#[test]
fn the_bounds_are_settings() {
    let server = Server::start();
    let mut c = server.conn();
    for name in ["expcache.max-leases", "expcache.max-waiters", "expcache.max-fences"] {
        assert_eq!(c.config(name), "100000");
        c.ok(&["CONFIG", "SET", name, "17"]);
        assert_eq!(c.config(name), "17");
        for wrong in ["-1", "many", "10000001"] {
            refused(&mut c, &["CONFIG", "SET", name, wrong], "ERR");
        }
    }
    refused(&mut c, "CONFIG SET expcache.max-fences 0", "ERR");
}

#[test]
fn who_may_not_write_a_key_may_not_renew_or_release_its_lease() {
    let server = Server::start();
    let mut admin = server.conn();
    let token = lease(&mut admin, "app:1");
    admin.ok("ACL SETUSER other on >secret ~other:* +@all");
    admin.ok("ACL SETUSER reader on >secret %R~app:* +@all");
    for name in ["other", "reader"] {
        let mut c = server.conn();
        c.ok(&["AUTH", name, "secret"]);
        c.err(args!["EXPCACHE.SET", "app:1", "v", "LEASE", &token], "NOPERM");
        c.err(args!["EXPCACHE.RENEW", "app:1", &token, LONG], "NOPERM");
        c.err(args!["EXPCACHE.RELEASE", "app:1", &token], "NOPERM");
    }
    for command in ["EXPCACHE.RENEW app:1 t 1h", "EXPCACHE.RELEASE app:1 t FAIL why"] {
        let keys = admin.cmd(&format!("COMMAND GETKEYS {command}"));
        assert_eq!(keys.sorted_texts(), ["app:1"]);
    }
    admin.ok(args!["EXPCACHE.SET", "app:1", "v", "LEASE", &token]);
}
