//! A clock of the day that is set while the server runs, back and forth: it dates what is stored and says what is over. What
//! orders uses, and what counts time, goes on as it did.

use crate::harness::{Conn, Server, Stop, Value, args, check, now_ms, wait_until, wait_until_reclaimed};
use crate::leases::{Waiting, lease};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

#[track_caller]
fn is_there(c: &mut Conn, key: &str, there: bool) {
    assert_eq!(c.int(&["EXISTS", key]) == 1, there, "{key}");
}

#[test]
fn what_is_stored_after_a_step_back_lives_as_long_as_it_was_told() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    for behind in [60 * SECOND, DAY] {
        server.set_clock(0);
        c.ok("EXPCACHE.SET before v");
        assert_eq!(c.cmd("EXPCACHE.GET before"), "v");
        server.set_clock(-behind);
        c.ok("EXPCACHE.SET short v EX 100");
        for left in [c.int("PTTL short"), c.map("EXPCACHE.FETCH short")["ttl"].int()] {
            assert!(left <= 101 * SECOND, "{behind}: {left}");
        }
        let until = (now_ms() - behind) / SECOND + 30;
        c.ok(args!["EXPCACHE.SET", "named", "v", "EXAT", until]);
        assert_eq!(c.cmd("EXPCACHE.GET named"), "v", "{behind}: it ends in half a minute");
        let meta = c.map("EXPCACHE.META short");
        for moment in ["created", "last-access"] {
            let off = meta[moment].int().abs_diff(now_ms() - behind);
            assert!(off < 5000, "{behind}: {moment} is off by {off} ms");
        }
        check(&mut c);
    }
}

#[test]
fn the_least_recently_used_is_so_whatever_was_done_to_the_clock() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET few TTL 100d MAXENTRIES 3");
    for key in ["a", "b", "c"] {
        c.ok(&format!("EXPCACHE.SET {key} v TYPE few"));
    }
    server.set_clock(-DAY);
    assert_eq!(c.cmd("EXPCACHE.GET a"), "v");
    c.ok("EXPCACHE.SET d v TYPE few");
    is_there(&mut c, "b", false);
    server.set_clock(DAY);
    assert_eq!(c.cmd("EXPCACHE.GET c"), "v");
    server.set_clock(-DAY);
    c.ok("EXPCACHE.SET e v TYPE few");
    is_there(&mut c, "a", false);
    assert_eq!(c.cmd("EXPCACHE.GET d"), "v");
    c.ok("EXPCACHE.SET f v TYPE few");
    is_there(&mut c, "c", false);
    check(&mut c);
}

#[test]
fn what_was_loaded_and_not_used_since_is_ordered_by_its_age() {
    let mut server = Server::with_clock(&[]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET few TTL 100d MAXENTRIES 3");
    for (hours, key) in [(1, "oldest"), (2, "older"), (3, "old")] {
        server.set_clock(hours * HOUR);
        c.ok(&format!("EXPCACHE.SET {key} v TYPE few"));
    }
    server.restart(Stop::Save);
    let mut c = server.conn();
    let meta = c.map("EXPCACHE.META older");
    assert_eq!(meta["last-access"], meta["created"], "nobody used it since");
    assert_eq!(c.cmd("EXPCACHE.GET oldest"), "v");
    c.ok("EXPCACHE.SET new v TYPE few");
    is_there(&mut c, "older", false);
    c.ok("EXPCACHE.SET newer v TYPE few");
    is_there(&mut c, "old", false);
    check(&mut c);
}

#[test]
fn what_comes_from_the_future_has_no_advantage_by_it() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET few TTL 100d MAXENTRIES 2");
    server.set_clock(DAY);
    c.ok("EXPCACHE.SET there v TYPE few");
    let dump = c.bulk("DUMP there");
    // This one was stored here, before the clock was set right.
    c.ok("EXPCACHE.SET stays v EX 8000000");
    server.set_clock(0);
    assert_eq!(c.map("EXPCACHE.FETCH stays MAXAGE 1h")["status"], "stale", "nobody knows how old it is");
    assert_eq!(c.map("EXPCACHE.FETCH stays MAXAGE 2d")["status"], "hit");
    c.int("DEL there");
    c.ok(args!["RESTORE", "future", 0, &dump[..]]);
    assert!(c.map("EXPCACHE.META future")["created"].int() <= now_ms() + 5, "no younger than now");
    for key in ["a", "b"] {
        c.ok(&format!("EXPCACHE.SET {key} v TYPE few"));
    }
    is_there(&mut c, "future", false);
    is_there(&mut c, "a", true);
    check(&mut c);
}

/// Metadata of an entry without anything optional: of type `default`, stored at that moment.
fn metadata(created_ms: u64, lifetime_ms: u64) -> Vec<u8> {
    let name = b"default";
    let numbers = [created_ms, lifetime_ms].map(u64::to_le_bytes).concat();
    [&[1, 0], &numbers[..], &(name.len() as u16).to_le_bytes(), name, &[0]].concat()
}

#[test]
fn what_was_stored_in_1970_was_used_when_it_was_used() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.RESTORE", "k", -1, &metadata(0, 0)[..], "v"]);
    let meta = c.map("EXPCACHE.META k");
    assert_eq!(meta["created"], 0);
    let off = meta["last-access"].int().abs_diff(now_ms());
    assert!(off < 5000, "off by {off} ms");
    check(&mut c);
}

#[test]
fn a_moment_that_was_not_believed_is_not_passed_on() {
    let (server, replica) = (Server::start(), Server::start());
    replica.replica_of(&server);
    let (mut c, mut there) = (server.conn(), replica.conn());
    let future = (now_ms() + DAY).unsigned_abs();
    c.ok(args!["EXPCACHE.RESTORE", "k", -1, &metadata(future, 0)[..], "v"]);
    replica.wait_for_sync(&server);
    let created = c.map("EXPCACHE.META k")["created"].int();
    assert!(created <= now_ms());
    assert_eq!(there.map("EXPCACHE.META k")["created"].int(), created);
    check(&mut there);
}

#[test]
fn what_was_softly_invalidated_is_stale_also_before_that_moment() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v GRACE 10h");
    assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 1);
    server.set_clock(-HOUR);
    c.nil("EXPCACHE.GET k");
    let fetched = c.map("EXPCACHE.FETCH k");
    assert_eq!(fetched["status"], "stale");
    assert!(fetched["ttl"].int() <= 0);
    assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 0);
    check(&mut c);
}

#[test]
fn leases_and_waits_end_when_their_time_is_over() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    lease(&mut c, "long");
    let mut waiting = Waiting::new(&server, "EXPCACHE.FETCH long WAIT 1500ms");
    assert_eq!(c.map("EXPCACHE.FETCH short LEASE 1500ms").get("lease").map(|lease| *lease != Value::Nil), Some(true));
    let mut heir = Waiting::new(&server, "EXPCACHE.FETCH short LEASE 1h WAIT 1h");
    server.set_clock(-DAY);
    assert_eq!(waiting.misses()["lease"], Value::Nil);
    assert_ne!(heir.misses()["lease"], Value::Nil, "the lease before it is over");
    // And none is over too early.
    server.set_clock(2 * DAY);
    assert_eq!(c.map("EXPCACHE.FETCH long LEASE 1h")["lease"], Value::Nil);
    check(&mut c);
}

#[test]
fn what_is_done_in_the_background_goes_on() {
    let server = Server::with_clock(&["--expcache.reclaim-inline", "0", "--expcache.reclaim-slice-us", "1"]);
    let mut c = server.conn();
    c.pipeline((0..2000).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 1, "t"]));
    // While nothing may be written a timer is always set.
    c.transaction(["EXPCACHE.INVALIDATE.TAG t", "CLIENT PAUSE 600000 WRITE"]);
    server.set_clock(-DAY);
    c.ok("CLIENT UNPAUSE");
    wait_until_reclaimed(&mut c);
    wait_until("the keys are gone", || c.int("DBSIZE") == 0);
    check(&mut c);
}

#[test]
fn windows_are_of_the_time_that_passed() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v EX 8000000");
    for ahead in [0, DAY, -DAY] {
        server.set_clock(ahead);
        c.cmd("EXPCACHE.GET k");
    }
    assert_eq!(c.map("EXPCACHE.STATS WINDOW 1m")["hits"], 3);
}

#[test]
fn what_is_restored_from_the_future_is_no_younger_on_replicas() {
    let (server, replica, elsewhere) = (Server::start(), Server::start(), Server::with_clock(&[]));
    replica.replica_of(&server);
    let (mut c, mut there) = (server.conn(), replica.conn());
    elsewhere.set_clock(DAY);
    let mut ahead = elsewhere.conn();
    ahead.ok("EXPCACHE.SET k v EX 8000000");
    let dump = ahead.bulk("DUMP k");
    c.ok(args!["RESTORE", "k", 0, &dump[..]]);
    replica.wait_for_sync(&server);
    let created = [&mut c, &mut there].map(|conn| conn.map("EXPCACHE.META k")["created"].int());
    // Each by its own clock, which is the same here, when it came to it.
    assert!(created.iter().all(|created| *created <= now_ms()), "{created:?}");
    assert!(created[0] <= created[1], "{created:?}");
    check(&mut there);
}
