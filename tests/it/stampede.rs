//! However a production ends, one client of those that wait gets the next lease, and no lease is given where it would do harm or
//! no good: to who may not write, where nothing can be stored, past the bounds.

use crate::harness::{Conn, Server, Value, args, check, refused, wait_until, wait_until_settled};
use crate::leases::{LONG, NOBODYS, STALE, Waiting, blocked, count, free, granted, held, is_held, lease, lost};

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
fn many_who_wait_are_told_in_turns_and_every_lease_is_over_at_once() {
    const KEYS: usize = 50;
    for flush in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"] {
        let server = Server::start();
        let mut c = server.conn();
        let key = |n: usize| format!("k:{n}");
        let tokens: Vec<_> = (0..KEYS).map(|n| lease(&mut c, key(n))).collect();
        let mut waiting: Vec<Vec<Waiting>> = (0..KEYS)
            .map(|n| {
                let wait = |how| Waiting::new(&server, &*format!("EXPCACHE.FETCH {} {how} WAIT 1h", key(n)));
                ["", "LEASE 1h", "LEASE 1h"].map(wait).into()
            })
            .collect();
        // In one turn no more is done than one thing, and the server flushes at once (Redis from 8.0 on has the client wait otherwise).
        c.ok("CONFIG SET expcache.reclaim-slice-us 1 lazyfree-lazy-user-flush yes");
        let stored = args!["EXPCACHE.SET", "k:0", "late", "LEASE", &tokens[0]];
        let replies = c.pipeline([flush.split(' ').map(Into::into).collect(), args!["EXPCACHE.HEALTH"], stored]);
        let health = replies[1].fields();
        let figure = |check: &str| health[check].fields()["figure"].int();
        assert_eq!(figure("leases"), 0, "{flush}: none is held");
        assert!(figure("waiters") >= 3 * KEYS as i64 - 1, "{flush}: not all are told at once");
        assert!(replies[2].to_string().contains("LEASELOST"), "{flush}: {}", replies[2]);
        for (n, waiting) in waiting.iter_mut().enumerate() {
            let token = one_produces(flush, waiting);
            c.ok(args!["EXPCACHE.SET", key(n), "v", "LEASE", token]);
        }
        assert_eq!(blocked(&mut c), 0);
        check(&mut c);
    }
}

#[test]
fn who_goes_before_being_told_is_not_mistaken_for_who_came_after() {
    let server = Server::start();
    let mut c = server.conn();
    lease(&mut c, "k");
    let mut waiting: Vec<_> = (0..9).map(|_| Waiting::new(&server, "EXPCACHE.FETCH k WAIT 1h")).collect();
    c.ok("CONFIG SET expcache.reclaim-slice-us 1 lazyfree-lazy-user-flush yes");
    let kill = args!["CLIENT", "KILL", "ID", waiting[8].id];
    let replies = c.pipeline([args!["FLUSHALL"], kill, args!["EXPCACHE.FETCH", "other", "LEASE", LONG]]);
    assert_eq!(replies[1], 1);
    let mut later = Waiting::new(&server, "EXPCACHE.FETCH other WAIT 1h");
    waiting[..8].iter_mut().for_each(|waiting| free(&waiting.misses()));
    assert!(later.still_waits(&mut c));
    c.ok(args!["EXPCACHE.SET", "other", "v"]);
    later.hits("v");
}

#[test]
fn who_shares_a_token_keeps_the_lease_when_the_other_goes() {
    let server = Server::start();
    let mut c = server.conn();
    let held = lease(&mut c, "k");
    let ask = format!("EXPCACHE.FETCH k LEASE {LONG} TOKEN {NOBODYS} WAIT 1h");
    let [mut first, second] = [(); 2].map(|()| Waiting::new(&server, &*ask));
    // One pipeline is one turn of the server: the second client is gone before it could be told.
    let kill = args!["CLIENT", "KILL", "ID", second.id];
    assert_eq!(c.pipeline([args!["EXPCACHE.RELEASE", "k", held], kill]), [Value::Int(1), Value::Int(1)]);
    assert_eq!(granted(&first.misses()), NOBODYS);
    c.ok(&["EXPCACHE.SET", "k", "v", "LEASE", NOBODYS]);
}

#[test]
fn one_at_least_is_looked_after_however_short_the_slice() {
    let server = Server::start();
    let mut c = server.conn();
    lease(&mut c, "k");
    c.ok("CONFIG SET expcache.reclaim-slice-us 1");
    let mut waiting: Vec<_> = (0..3).map(|_| Waiting::new(&server, "EXPCACHE.FETCH k WAIT 1h")).collect();
    c.ok("SET k native");
    for waiting in &mut waiting {
        let Value::Error(error) = waiting.reply() else { panic!("told") };
        assert!(error.starts_with("WRONGTYPE"), "{error}");
    }
}

#[test]
fn leases_that_are_over_together_end_in_turns() {
    const LEASES: usize = 3_000;
    let server = Server::start();
    let mut c = server.conn();
    c.pipeline((0..LEASES).map(|n| args!["EXPCACHE.FETCH", n, "LEASE", "5s"]));
    let held_ones = |c: &mut Conn| c.map("EXPCACHE.HEALTH")["leases"].fields()["figure"].int();
    assert_eq!(held_ones(&mut c), LEASES as i64);
    c.ok("CONFIG SET expcache.reclaim-slice-us 1");
    wait_until("they end", || held_ones(&mut c) < LEASES as i64);
    assert!(held_ones(&mut c) > 0, "not all at once");
    // Each is over in its moment all the same.
    let last = args!["EXPCACHE.FETCH", LEASES - 1, "LEASE", LONG];
    wait_until("the last is over", || c.map(last.clone())["lease"] != Value::Nil);
    assert!(held_ones(&mut c) > 1, "not all were taken away");
    c.ok("CONFIG SET expcache.reclaim-slice-us 500");
    wait_until("all but that are over", || held_ones(&mut c) == 1);
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
fn no_lease_is_given_while_saving_fails() {
    let server = Server::with(&["--save", "3600 1000000"]);
    let mut c = server.conn();
    c.ok("CONFIG SET stop-writes-on-bgsave-error yes");
    let token = lease(&mut c, "held");
    // The server cannot put its file where a directory is.
    let name = c.config("dbfilename");
    let taken = server.dir().join(name);
    std::fs::create_dir_all(taken.join("in the way")).unwrap();
    c.cmd("BGSAVE");
    wait_until("saving has failed", || c.info("persistence", "rdb_last_bgsave_status") == "err");
    c.err("EXPCACHE.SET k v", "MISCONF");
    for command in ["LEASE 1h", "LEASE 1h WAIT 1h"] {
        free(&c.map(&*format!("EXPCACHE.FETCH k {command}")));
    }
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "held", &token, LONG]), 1);
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "held", &token]), 1);
    std::fs::remove_dir_all(taken).unwrap();
    c.cmd("BGSAVE");
    wait_until("saving succeeds again", || c.info("persistence", "rdb_last_bgsave_status") == "ok");
    lease(&mut c, "k");
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
fn who_is_refused_a_large_answer_keeps_no_lease() {
    let server = Server::start();
    let mut c = server.conn();
    let large = "large ".repeat(100_000);
    c.ok(args!["EXPCACHE.SET", "k", large, "TAGS", 1, "t"]);
    wait_until_settled(&mut c);
    c.ok("ACL SETUSER u on nopass +@all ~*");
    c.ok("CONFIG SET expcache.reclaim-inline 0");
    // What is dead stays where it is.
    let replies = c.transaction(["EXPCACHE.INVALIDATE.TAG t", "CLIENT PAUSE 1000000 WRITE"]);
    assert_eq!(replies, [Value::Int(1), Value::Simple("OK".into())]);
    let token = lease(&mut c, "k");
    let mut conn = server.conn();
    conn.ok("AUTH u x");
    let mut waiting = Waiting::on(&server, conn, "EXPCACHE.FETCH k LEASE 1h WAIT 1h");
    c.ok("ACL SETUSER u -expcache.fetch");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    let reply = waiting.reply().to_string();
    assert!(reply.contains("NOPERM"), "{reply}");
    wait_until("it does not hold the lease", || c.map("EXPCACHE.FETCH k")["retry"] == Value::Nil);
    c.ok("CLIENT UNPAUSE");
    lease(&mut c, "k");
    check(&mut c);
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

#[test]
fn one_user_holds_no_more_leases_than_its_share() {
    let server = Server::start();
    let mut c = server.conn();
    assert_eq!(c.config("expcache.max-leases-per-user"), "0");
    c.ok("CONFIG SET expcache.max-leases-per-user 2");
    for user in ["acme", "other"] {
        c.ok(args!["ACL", "SETUSER", user, "on", "nopass", "+@all", "~*"]);
    }
    let of = |user: &str| {
        let mut conn = server.conn();
        conn.ok(args!["AUTH", user, "x"]);
        conn
    };
    let [mut acme, mut again, mut other] = ["acme", "acme", "other"].map(of);
    let token = lease(&mut acme, "k:1");
    lease(&mut again, "k:2");
    for conn in [&mut acme, &mut again] {
        free(&conn.map("EXPCACHE.FETCH k:3 LEASE 1h"));
    }
    // Others are given theirs, and so is who may not have more, in another database and when one is given up.
    let others = lease(&mut other, "k:3");
    acme.ok("SELECT 1");
    lease(&mut acme, "k:3");
    acme.ok("SELECT 0");
    // Waiting is no way around it: the next who waits gets what would be too many.
    let mut first = Waiting::on(&server, of("acme"), "EXPCACHE.FETCH k:3 LEASE 1h WAIT 1h");
    let mut second = Waiting::on(&server, of("other"), "EXPCACHE.FETCH k:3 LEASE 1h WAIT 1h");
    assert_eq!(other.cmd(args!["EXPCACHE.RELEASE", "k:3", others]), 1);
    assert_eq!(first.misses()["lease"], Value::Nil);
    granted(&second.misses());
    assert_eq!(again.cmd(args!["EXPCACHE.RELEASE", "k:1", token]), 1);
    lease(&mut acme, "k:4");
    c.ok("CONFIG SET expcache.max-leases-per-user 0");
    lease(&mut acme, "k:5");
    check(&mut c);
}

#[test]
fn what_a_key_is_known_by_that_backs_off_takes_no_more_either() {
    let server = Server::start();
    let mut c = server.conn();
    let mut set = args!["EXPCACHE.SET", "k", "old", "PXAT", 1000, "GRACE", "365000d", "TAGS", 64];
    set.extend((0..64).map(|n| vec![b'a' + n; 500]));
    c.ok(set);
    c.ok("CONFIG SET expcache.lease-memory 20kb");
    back_off(&mut c, "k");
    lease(&mut c, "other");
    // Any invalidation may then mean the key.
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 0);
    lease(&mut c, "k");
    check(&mut c);
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
