//! However a production ends, one client of those that wait gets the next lease, and no lease is given where it would do harm or
//! no good: to who may not write, where nothing can be stored, past the bounds.

use crate::harness::{Conn, Server, Value, args, check, refused, wait_until};
use crate::leases::{LONG, STALE, Waiting, blocked, count, free, granted, held, is_held, lease, lost};

const HOUR_MS: i64 = 3_600_000;
const WAITERS: usize = 20;

/// What ends the production of `k`, which `token` is to be stored by; nothing is there in the end.
type End = (&'static str, fn(&mut Conn, &str));

const ENDS: [End; 8] = [
    ("invalidated behind", |c, token| {
        let set = args!["EXPCACHE.SET", "k", "v", "TAGS", 1, "t", "LEASE", token];
        let replies = c.pipeline([set, args!["EXPCACHE.INVALIDATE.TAG", "t"]]);
        assert_eq!(replies, [Value::Simple("OK".into()), Value::Int(1)]);
    }),
    ("invalidated in a transaction", |c, token| {
        let set = args!["EXPCACHE.SET", "k", "v", "TAGS", 1, "t", "LEASE", token];
        c.transaction([set, args!["EXPCACHE.INVALIDATE.TAG", "t"]]);
    }),
    ("deleted in a transaction", |c, token| {
        c.transaction([args!["EXPCACHE.SET", "k", "v", "LEASE", token], args!["DEL", "k"]]);
    }),
    ("over before it was stored", |c, token| c.ok(args!["EXPCACHE.SET", "k", "v", "EXAT", 1, "LEASE", token])),
    ("flushed", |c, _| c.ok("FLUSHDB")),
    ("all flushed", |c, _| c.ok("FLUSHALL")),
    ("swapped", |c, _| c.ok("SWAPDB 0 1")),
    ("released", |c, token| assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1)),
];

/// Asserts that one of these has the lease and the others are told of it; the token.
#[track_caller]
fn one_produces(what: &str, waiting: &mut [Waiting]) -> String {
    let replies: Vec<_> = waiting.iter_mut().map(Waiting::misses).collect();
    let (leased, told): (Vec<_>, Vec<_>) = replies.iter().partition(|fetched| fetched["lease"] != Value::Nil);
    assert_eq!(leased.len(), 1, "{what}: leases");
    told.iter().for_each(|fetched| held(fetched, HOUR_MS));
    granted(leased[0])
}

#[test]
fn one_waiter_produces_however_the_production_ended() {
    for (what, end) in ENDS {
        let server = Server::start();
        let mut c = server.conn();
        let token = lease(&mut c, "k");
        let mut waiting: Vec<_> =
            (0..WAITERS).map(|_| Waiting::new(&server, "EXPCACHE.FETCH k LEASE 1h WAIT 1h")).collect();
        end(&mut c, &token);
        let next = one_produces(what, &mut waiting);
        c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", next]);
        assert_eq!((blocked(&mut c), count(&mut c, "leases")), (0, 2), "{what}");
        check(&mut c);
    }
}

#[test]
fn one_waiter_produces_after_all_was_loaded_anew() {
    let server = Server::with(&["--enable-debug-command", "yes"]);
    let mut c = server.conn();
    lease(&mut c, "k");
    let mut waiting: Vec<_> =
        (0..WAITERS).map(|_| Waiting::new(&server, "EXPCACHE.FETCH k LEASE 1h WAIT 1h")).collect();
    c.ok("DEBUG RELOAD");
    one_produces("reloaded", &mut waiting);
}

#[test]
fn who_waits_without_wanting_the_lease_is_not_given_it() {
    let server = Server::start();
    let mut c = server.conn();
    lease(&mut c, "k");
    let mut waiting = Waiting::new(&server, "EXPCACHE.FETCH k WAIT 1h");
    c.ok("FLUSHALL");
    free(&waiting.misses());
}

#[test]
fn a_value_of_another_type_is_told_to_those_who_wait() {
    let server = Server::start();
    let mut c = server.conn();
    lease(&mut c, "k");
    let mut waiting = [(); 3].map(|()| Waiting::new(&server, "EXPCACHE.FETCH k LEASE 1h WAIT 1h"));
    c.ok("SET k native");
    for waiting in &mut waiting {
        let reply = waiting.reply().to_string();
        assert!(reply.contains("WRONGTYPE"), "{reply}");
    }
    check(&mut c);
}

// ---- where none is given

#[test]
fn no_lease_is_given_while_nothing_can_be_stored() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET stale old {STALE}"));
    let tokens = ["a", "b"].map(|key| lease(&mut c, key));
    for (forbid, refusal, allow) in [
        ("CONFIG SET min-replicas-to-write 1", "NOREPLICAS", "CONFIG SET min-replicas-to-write 0"),
        ("CONFIG SET maxmemory 1", "OOM", "CONFIG SET maxmemory 0"),
    ] {
        c.ok(forbid);
        c.err("EXPCACHE.SET x y", refusal);
        let stale = c.map("EXPCACHE.FETCH stale LEASE 1h WAIT 1h");
        assert_eq!(stale["value"], "old", "{refusal}");
        free(&stale);
        free(&c.map("EXPCACHE.FETCH missing LEASE 1h WAIT 1h"));
        // What is held goes on, and can be given up.
        held(&c.map("EXPCACHE.FETCH a LEASE 1h"), HOUR_MS);
        assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "a", &tokens[0], LONG]), 1);
        c.ok(allow);
        lease(&mut c, "missing");
        c.cmd("EXPCACHE.DEL missing");
    }
    c.ok("CONFIG SET min-replicas-to-write 1");
    let mut waiting = Waiting::new(&server, "EXPCACHE.FETCH b LEASE 1h WAIT 1h");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "b", &tokens[1]]), 1);
    // Who waited inherits nothing that could not be stored either.
    free(&waiting.misses());
    check(&mut c);
}

#[test]
fn who_may_not_write_a_key_is_given_no_lease() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("ACL SETUSER reader on nopass +@all %R~r:*");
    c.ok("ACL SETUSER writer on nopass +@all %R~r:* %W~r:w*");
    let user = |name: &str| {
        let mut conn = server.conn();
        conn.ok(args!["AUTH", name, "x"]);
        conn
    };
    let (mut reader, mut writer) = (user("reader"), user("writer"));
    c.ok(&format!("EXPCACHE.SET r:stale old {STALE}"));
    for key in ["r:missing", "r:stale"] {
        for command in ["LEASE 1h", "LEASE 1h WAIT 1h"] {
            free(&reader.map(&*format!("EXPCACHE.FETCH {key} {command}")));
            free(&writer.map(&*format!("EXPCACHE.FETCH {key} {command}")));
        }
    }
    granted(&writer.map("EXPCACHE.FETCH r:w LEASE 1h"));
    // A reader may wait for what others produce, and is told of it; it inherits nothing.
    let token = lease(&mut c, "r:k");
    held(&reader.map("EXPCACHE.FETCH r:k LEASE 1h"), HOUR_MS);
    let mut first = Waiting::on(&server, user("reader"), "EXPCACHE.FETCH r:k LEASE 1h WAIT 1h");
    let mut second = Waiting::new(&server, "EXPCACHE.FETCH r:k LEASE 1h WAIT 1h");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "r:k", token]), 1);
    held(&first.misses(), HOUR_MS);
    granted(&second.misses());
}

#[test]
fn who_lost_the_right_to_write_while_it_waited_passes_the_lease_on() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("ACL SETUSER u on nopass +@all ~*");
    let token = lease(&mut c, "k");
    let mut conn = server.conn();
    conn.ok("AUTH u x");
    let mut waiting = Waiting::on(&server, conn, "EXPCACHE.FETCH k LEASE 1h WAIT 1h");
    c.ok("ACL SETUSER u resetkeys %R~*");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    free(&waiting.misses());
    lease(&mut c, "k");
}

#[test]
fn who_lost_the_command_while_it_waited_is_told_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("ACL SETUSER u on nopass +@all ~*");
    let token = lease(&mut c, "k");
    let mut conn = server.conn();
    conn.ok("AUTH u x");
    let mut waiting = Waiting::on(&server, conn, "EXPCACHE.FETCH k LEASE 1h WAIT 1h");
    c.ok("ACL SETUSER u -expcache.fetch");
    c.ok(args!["EXPCACHE.SET", "k", "secret", "LEASE", token]);
    let reply = waiting.reply().to_string();
    assert!(reply.contains("NOPERM") && !reply.contains("secret"), "{reply}");
}

#[test]
fn leases_take_no_more_memory_than_they_may() {
    let server = Server::start();
    let mut c = server.conn();
    assert_eq!(c.config("expcache.lease-memory"), "67108864");
    c.ok("CONFIG SET expcache.lease-memory 1mb");
    let long = |n: u8| vec![n; 400_000];
    let tokens = [1, 2].map(|n| lease(&mut c, long(n)));
    free(&c.map(args!["EXPCACHE.FETCH", long(3), "LEASE", LONG]));
    lease(&mut c, "short");
    c.ok(args!["EXPCACHE.SET", long(1), "v", "LEASE", &tokens[0]]);
    lease(&mut c, long(3));
    // Backing off takes as much.
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", long(2), &tokens[1], "BACKOFF", LONG]), 1);
    free(&c.map(args!["EXPCACHE.FETCH", long(4), "LEASE", LONG]));
    c.ok("FLUSHALL");
    for n in [5, 6] {
        lease(&mut c, long(n));
    }
}

// ---- backing off

/// Takes the lease of a key and has the key back off.
#[track_caller]
fn back_off(c: &mut Conn, key: &str) {
    let token = lease(c, key);
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", key, &token, "BACKOFF", LONG]), 1);
    lost(c, key, &token);
    held(&c.map(args!["EXPCACHE.FETCH", key, "LEASE", LONG]), HOUR_MS);
}

#[test]
fn what_happens_to_a_key_ends_its_backing_off() {
    let server = Server::start();
    let mut c = server.conn();
    for (command, stale, missing) in [
        ("EXPCACHE.DEL trips:1", true, true),
        ("DEL trips:1", true, false),
        ("EXPCACHE.INVALIDATE.TAG t", true, false),
        ("EXPCACHE.PURGE ALL 2 t u SOFT", true, false),
        ("EXPCACHE.PURGE TYPE trips", true, true),
        ("EXPCACHE.PURGE MATCH t*:1", true, true),
        ("EXPCACHE.CLEAR", true, true),
        ("EXPCACHE.SET trips:1 v PXAT 1", true, true),
        ("FLUSHALL", true, true),
        ("EXPCACHE.DEL trips:2", false, false),
        ("EXPCACHE.INVALIDATE.TAG v", false, false),
        ("EXPCACHE.PURGE TYPE default", false, false),
    ] {
        for (is_stale, ends) in [(true, stale), (false, missing)] {
            c.ok("FLUSHALL");
            if is_stale {
                c.ok(&format!("EXPCACHE.SET trips:1 old TAGS 2 t u {STALE}"));
            }
            back_off(&mut c, "trips:1");
            c.cmd(command);
            let fetched = c.map("EXPCACHE.FETCH trips:1 LEASE 1h");
            assert_eq!(fetched["lease"] != Value::Nil, ends, "{command}, stale: {is_stale}");
        }
    }
    check(&mut c);
}

#[test]
fn a_failure_is_one_of_the_type_that_the_stale_entry_has() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET k6 old TYPE reports {STALE}"));
    for key in ["k6", "trips:1"] {
        let token = lease(&mut c, key);
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", key, token, "FAIL", "why"]), 1);
    }
    for (name, failures) in [("reports", 1), ("trips", 1), ("default", 0)] {
        assert_eq!(c.map(args!["EXPCACHE.STATS", "TYPE", name])["failures"], failures, "{name}");
    }
}

#[test]
fn renewing_and_releasing_write_nothing_and_are_refused_to_readers() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("ACL SETUSER reader on nopass +@all %R~*");
    let token = lease(&mut c, "k");
    let mut reader = server.conn();
    reader.ok("AUTH reader x");
    reader.err(args!["EXPCACHE.RENEW", "k", &token, LONG], "NOPERM");
    reader.err(args!["EXPCACHE.RELEASE", "k", &token], "NOPERM");
    is_held(&mut c, "k", true);
    refused(&mut c, args!["EXPCACHE.RENEW", "k", &token, 0], "ERR");
    wait_until("nobody waits", || blocked(&mut c) == 0);
}
