//! Waiting for another's production: `FETCH … WAIT`. Who waits is held in the server and answered in the moment in which there
//! is something to say; who goes leaves nothing behind.

use crate::harness::{Conn, Server, Stop, Value, args, check, wait_until};
use crate::leases::{LONG, NOBODYS, STALE, Waiting, blocked, count, figure, free, granted, held, is_held, lease, lost};
use std::thread::sleep;
use std::time::{Duration, Instant};

const HOUR_MS: i64 = 3_600_000;

/// Waits for the key, and would produce it.
const READY: &str = "EXPCACHE.FETCH k WAIT 1h LEASE 1h";
/// Only waits for it.
const READER: &str = "EXPCACHE.FETCH k WAIT 1h";

/// The clocks of server and test are read at different instants, and count whole ms.
const SLACK: Duration = Duration::from_millis(3);

/// A server on which somebody else holds the lease of `k`: its token.
fn scene() -> (Server, Conn, String) {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    (server, c, token)
}

/// A client of each protocol that waits for `k`, by this command.
fn both(server: &Server, command: &str) -> Vec<Waiting> {
    server.conns().map(|conn| Waiting::on(server, conn, command)).collect()
}

/// Asserts that nobody waits any more, and that the lease of `k` goes on working as if nobody ever had.
#[track_caller]
fn nothing_is_left(server: &Server) {
    let mut c = server.conn();
    assert_eq!((blocked(&mut c), figure(&mut c, "waiters")), (0, 0));
    c.ok("EXPCACHE.SET k v");
    c.cmd("EXPCACHE.DEL k");
    let token = lease(&mut c, "k");
    let mut waiting = Waiting::new(server, READER);
    assert_eq!((blocked(&mut c), figure(&mut c, "waiters")), (1, 1));
    c.ok(args!["EXPCACHE.SET", "k", "at last", "LEASE", token]);
    waiting.hits("at last");
    wait_until("nobody waits", || blocked(&mut c) == 0);
    check(&mut c);
}

// ---- with a value

#[test]
fn a_waiter_gets_the_lease_under_its_own_token_on_each_connection() {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    let fetch = args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "WAIT", LONG, "TOKEN", "a token of my own"];
    let mut waiting = [(); 2].map(|()| Waiting::new(&server, fetch.clone()));
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    for waiting in &mut waiting {
        assert_eq!(granted(&waiting.misses()), "a token of my own");
    }
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", "a token of my own"]);
    check(&mut c);
}

#[test]
fn all_are_answered_when_the_value_is_stored() {
    let (server, mut c, token) = scene();
    let mut waiting: Vec<Waiting> = [READER, READY, READER].iter().flat_map(|command| both(&server, command)).collect();
    assert_eq!(blocked(&mut c), 6);
    c.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", "trips", "META", "{}", "LEASE", token]);
    for waiting in &mut waiting {
        let fetched = waiting.fetched();
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("hit"), &Value::bulk("v")));
        assert_eq!((&fetched["type"], &fetched["meta"]), (&Value::bulk("trips"), &Value::bulk("{}")));
        free(&fetched);
    }
    assert_eq!(count(&mut c, "waits"), 6);
    assert_eq!(count(&mut c, "leases"), 1);
    nothing_is_left(&server);
}

#[test]
fn a_thousand_are_answered_each_once() {
    let (server, mut c, token) = scene();
    let mut conns: Vec<Conn> = (0..1_000).map(|_| server.conn()).collect();
    for conn in &mut conns {
        conn.send(READY).unwrap();
    }
    wait_until("all wait", || blocked(&mut c) == 1_000);
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    for conn in &mut conns {
        let fetched = conn.receive().unwrap().fields();
        assert_eq!(fetched["status"], "hit");
        free(&fetched);
        assert_eq!(conn.cmd("PING"), Value::Simple("PONG".into()));
    }
    assert_eq!((count(&mut c, "leases"), count(&mut c, "waits"), count(&mut c, "misses")), (1, 1_000, 1));
    nothing_is_left(&server);
}

#[test]
fn the_options_are_those_of_the_one_who_waits() {
    let (server, mut c, token) = scene();
    let command = "EXPCACHE.FETCH k WAIT 1h RANGE 1 3";
    let mut part = Waiting::new(&server, command);
    let mut known = Waiting::new(&server, "EXPCACHE.FETCH k WAIT 1h IFNONEMATCH 5d41402abc4b2a76b9719d911017c592");
    let mut aged = Waiting::new(&server, "EXPCACHE.FETCH k WAIT 1h MAXAGE 1h");
    c.ok(args!["EXPCACHE.SET", "k", "hello", "LEASE", token]);
    part.hits("ell");
    assert_eq!(known.fetched()["status"], "not-modified");
    aged.hits("hello");
}

#[test]
fn whoever_stores_the_value_has_it_told() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET other v");
    let dump = c.bulk("DUMP other");
    for store in [
        args!["EXPCACHE.SET", "k", "v"],
        args!["EXPCACHE.MSET", 2, "x", "v", "k", "v"],
        args!["RESTORE", "k", 0, dump],
        args!["COPY", "other", "k"],
        args!["RENAME", "temporary", "k"],
        args!["EVAL", "return redis.call('EXPCACHE.SET', KEYS[1], 'v')", 1, "k"],
    ] {
        c.ok("EXPCACHE.SET temporary v");
        let token = lease(&mut c, "k");
        let mut waiting = [Waiting::new(&server, READER), Waiting::new(&server, READY)];
        let reply = c.cmd(store);
        assert!(!matches!(reply, Value::Error(_)), "{reply}");
        waiting.iter_mut().for_each(|waiting| waiting.hits("v"));
        lost(&mut c, "k", &token);
        is_held(&mut c, "k", false);
        assert_eq!(c.cmd("EXPCACHE.DEL k"), 1);
    }
    nothing_is_left(&server);
}

#[test]
fn a_key_that_comes_from_another_database_is_a_value() {
    let (server, mut c, token) = scene();
    c.ok("SELECT 1");
    c.ok("EXPCACHE.SET k v");
    let mut waiting = Waiting::new(&server, READY);
    assert_eq!(c.cmd("MOVE k 0"), 1);
    waiting.hits("v");
    c.ok("SELECT 0");
    lost(&mut c, "k", &token);
}

#[test]
fn a_transaction_answers_at_its_end() {
    let (server, mut c, token) = scene();
    let mut waiting = both(&server, READY);
    c.ok("MULTI");
    for value in ["first", "last"] {
        c.cmd(args!["EXPCACHE.SET", "k", value]);
    }
    c.cmd(args!["EXPCACHE.FETCH", "k"]);
    assert_eq!(blocked(&mut server.conn()), 2);
    assert_eq!(c.cmd("EXEC").items().len(), 3);
    waiting.iter_mut().for_each(|waiting| waiting.hits("last"));
    lost(&mut c, "k", &token);

    // What is stored and gone again by then is a miss.
    c.cmd("EXPCACHE.DEL k");
    let token = lease(&mut c, "k");
    let mut waiting = both(&server, READER);
    c.ok("MULTI");
    c.cmd(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    c.cmd("DEL k");
    c.cmd("EXEC");
    waiting.iter_mut().for_each(|waiting| free(&waiting.misses()));
    nothing_is_left(&server);
}

#[test]
fn a_value_that_is_stale_when_it_is_stored_is_handed_out_as_such() {
    let (server, mut c, token) = scene();
    let mut waiting = both(&server, READER);
    c.ok(format!("EXPCACHE.SET k old {STALE} LEASE {token}").as_str());
    for waiting in &mut waiting {
        let fetched = waiting.fetched();
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("stale"), &Value::bulk("old")));
        free(&fetched);
    }
}

#[test]
fn a_key_that_became_one_of_another_type_is_told_to_who_waits() {
    let (server, mut c, token) = scene();
    let mut waiting = both(&server, READY);
    c.ok("SET k text");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    for waiting in &mut waiting {
        let reply = waiting.reply();
        assert!(matches!(&reply, Value::Error(text) if text.starts_with("WRONGTYPE")), "{reply}");
        assert_eq!(waiting.conn.cmd("PING"), Value::Simple("PONG".into()));
    }
}

// ---- when there is nobody to wait for

#[test]
fn nobody_waits_for_nobody() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET fresh v");
    c.ok(&format!("EXPCACHE.SET stale old {STALE}"));
    let start = Instant::now();
    free(&c.map(READER));
    assert_eq!(c.map("EXPCACHE.FETCH fresh WAIT 1h LEASE 1h")["status"], "hit");
    let fetched = c.map("EXPCACHE.FETCH stale WAIT 1h LEASE 1h");
    let token = granted(&fetched);
    let fetched = c.map("EXPCACHE.FETCH stale WAIT 1h LEASE 1h");
    assert_eq!(fetched["status"], "stale", "a stale entry is never waited for");
    held(&fetched, HOUR_MS);
    let missing = granted(&c.map(READY));
    // Without a WAIT, and with one of nothing.
    held(&c.map("EXPCACHE.FETCH k LEASE 1h"), HOUR_MS);
    held(&c.map("EXPCACHE.FETCH k LEASE 1h WAIT 0"), HOUR_MS);
    held(&c.map("EXPCACHE.FETCH k WAIT 0s"), HOUR_MS);
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(count(&mut c, "waits"), 0);
    for (key, token) in [("stale", token), ("k", missing)] {
        c.ok(args!["EXPCACHE.SET", key, "v", "LEASE", token]);
    }
    nothing_is_left(&server);
}

#[test]
fn in_transactions_and_scripts_nobody_waits() {
    let (server, mut c, _) = scene();
    c.ok("MULTI");
    c.cmd(READER);
    c.cmd(READY);
    for fetched in c.cmd("EXEC").items() {
        assert_eq!(fetched.fields()["status"], "miss");
        held(&fetched.fields(), HOUR_MS);
    }
    let script = "return redis.call('EXPCACHE.FETCH', KEYS[1], 'WAIT', '1h', 'LEASE', '1h')";
    held(&c.map(args!["EVAL", script, 1, "k"]), HOUR_MS);
    assert_eq!(count(&mut c, "waits"), 0);
    nothing_is_left(&server);
}

// ---- without a value

#[test]
fn when_the_waiting_is_over_the_lease_goes_on() {
    let (server, mut c, token) = scene();
    for command in ["EXPCACHE.FETCH k WAIT 60ms", "EXPCACHE.FETCH k WAIT 60ms LEASE 1h"] {
        for mut conn in server.conns() {
            let start = Instant::now();
            let fetched = conn.map(command);
            assert!(start.elapsed() + SLACK >= Duration::from_millis(60), "{:?}", start.elapsed());
            assert_eq!(fetched["status"], "miss");
            held(&fetched, HOUR_MS);
            assert_eq!(conn.cmd("PING"), Value::Simple("PONG".into()));
        }
    }
    // Nobody is owed the lease who went.
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    lease(&mut c, "k");
    assert_eq!(count(&mut c, "waits"), 4);
    nothing_is_left(&server);
}

#[test]
fn each_waits_for_its_own_time() {
    let (server, mut c, token) = scene();
    let start = Instant::now();
    let mut long = Waiting::new(&server, READER);
    // Long enough to be seen waiting on a slow machine.
    let mut middle = Waiting::new(&server, "EXPCACHE.FETCH k WAIT 4s");
    let mut short = Waiting::new(&server, "EXPCACHE.FETCH k WAIT 2s");
    held(&short.misses(), HOUR_MS);
    assert!(start.elapsed() + SLACK >= Duration::from_secs(2));
    held(&middle.misses(), HOUR_MS);
    assert!(start.elapsed() + SLACK >= Duration::from_secs(4));
    assert!(long.still_waits(&mut c));
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    long.hits("v");
}

#[test]
fn a_holder_that_died_is_followed_by_the_first_that_would_produce() {
    let server = Server::start();
    let mut dying = server.conn();
    let start = Instant::now();
    let token = granted(&dying.map("EXPCACHE.FETCH k LEASE 4s"));
    drop(dying);
    let mut reader = Waiting::new(&server, READER);
    let mut heir = Waiting::new(&server, "EXPCACHE.FETCH k WAIT 1h LEASE 10m");
    let mut next = Waiting::new(&server, READY);
    let mut last = Waiting::new(&server, READER);
    let fetched = heir.misses();
    assert!(start.elapsed() + SLACK >= Duration::from_secs(4), "{:?}", start.elapsed());
    let own = granted(&fetched);
    for other in [&mut reader, &mut next, &mut last] {
        held(&other.misses(), 600_000);
    }
    let mut c = server.conn();
    lost(&mut c, "k", &token);
    assert_eq!(count(&mut c, "leases"), 2);

    // And so on: who was passed over waits again.
    let mut again = Waiting::on(&server, next.conn, READY);
    assert_eq!(heir.conn.cmd(args!["EXPCACHE.RELEASE", "k", own]), 1);
    let own = granted(&again.misses());
    let mut waiting = Waiting::on(&server, reader.conn, READER);
    again.conn.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", own]);
    waiting.hits("v");
    nothing_is_left(&server);
}

#[test]
fn if_nobody_would_produce_all_are_sent_away() {
    let server = Server::start();
    let mut c = server.conn();
    let token = granted(&c.map("EXPCACHE.FETCH k LEASE 3s"));
    let mut waiting = both(&server, READER);
    waiting.iter_mut().for_each(|waiting| free(&waiting.misses()));
    lost(&mut c, "k", &token);
    nothing_is_left(&server);
}

/// Ends the lease of `k` without a value, and says whether the first who asked is to get the next.
type End = (&'static str, fn(&mut Conn, &str), bool);

const ENDS: [End; 6] = [
    ("released", |c, token| assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1), true),
    ("failed", |c, token| assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token, "FAIL", "why"]), 1), true),
    ("backing off", |c, token| assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token, "BACKOFF", LONG]), 1), false),
    ("deleted", |c, _| assert_eq!(c.cmd("EXPCACHE.DEL k"), 0), true),
    (
        "fenced",
        |c, token| {
            assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 0);
            c.err(args!["EXPCACHE.SET", "k", "late", "TAGS", 1, "t", "LEASE", token], "FENCED");
        },
        true,
    ),
    ("flushed", |c, _| c.ok("FLUSHDB"), true),
];

#[test]
fn when_a_lease_ends_without_a_value_all_learn_it_at_once() {
    for (name, end, passes) in ENDS {
        println!("{name}");
        let (server, mut c, token) = scene();
        let mut readers = both(&server, READER);
        let mut ready = both(&server, READY);
        readers.extend(both(&server, READER));
        end(&mut c, &token);
        let heir = ready.remove(0).misses();
        let others = readers.iter_mut().chain(&mut ready);
        if passes {
            let own = granted(&heir);
            others.for_each(|other| held(&other.misses(), HOUR_MS));
            lost(&mut c, "k", &token);
            // The new lease is one like any other: it was granted after whatever ended the old one.
            let mut waiting = Waiting::new(&server, READER);
            c.ok(args!["EXPCACHE.SET", "k", "v", "TAGS", 1, "t", "LEASE", own]);
            waiting.hits("v");
        } else {
            // Nobody holds it, but all learn how long the key backs off.
            held(&heir, HOUR_MS);
            others.for_each(|other| held(&other.misses(), HOUR_MS));
            lost(&mut c, "k", &token);
        }
        assert_eq!(blocked(&mut c), 0);
        check(&mut c);
    }
}

#[test]
fn the_deletion_of_a_stale_entry_ends_waiting_too() {
    // A stale entry is not waited for: who waits came while there was none.
    for delete in ["DEL k", "UNLINK k", "EXPCACHE.DEL k"] {
        let (server, mut c, token) = scene();
        let mut waiting = [Waiting::new(&server, READER), Waiting::new(&server, READY)];
        // At once: who waits for a key that holds a text is told so at the next beat.
        let reply = c.transaction(["SET k text", delete]).remove(1);
        if delete == "EXPCACHE.DEL k" {
            for reply in [reply, waiting[0].reply(), waiting[1].reply()] {
                assert!(matches!(&reply, Value::Error(text) if text.starts_with("WRONGTYPE")), "{reply}");
            }
            continue;
        }
        assert_eq!(reply, 1);
        held(&waiting[0].misses(), HOUR_MS);
        granted(&waiting[1].misses());
        lost(&mut c, "k", &token);
    }
}

#[test]
fn an_invalidation_does_not_end_the_waiting() {
    let (server, mut c, token) = scene();
    let mut waiting = [Waiting::new(&server, READER), Waiting::new(&server, READY)];
    for command in [
        "EXPCACHE.INVALIDATE.TAG t",
        "EXPCACHE.PURGE MATCH k",
        "EXPCACHE.PURGE TYPE default SOFT",
        "EXPCACHE.CLEAR",
        "DEL k",
    ] {
        assert_eq!(c.cmd(command), 0);
        assert!(waiting.iter().all(|waiting| waiting.still_waits(&mut c)), "{command}");
    }
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", &token, "2h"]), 1);
    assert!(waiting.iter().all(|waiting| waiting.still_waits(&mut c)));
    c.err(args!["EXPCACHE.SET", "k", "late", "LEASE", &token], "FENCED");
    held(&waiting[0].misses(), HOUR_MS);
    granted(&waiting[1].misses());
}

// ---- who goes by himself

#[test]
fn who_disconnects_leaves_nothing_behind() {
    let (server, mut c, token) = scene();
    let (first, mut second) = (Waiting::new(&server, READY), Waiting::new(&server, READY));
    let reader = Waiting::new(&server, READER);
    drop(first);
    drop(reader);
    wait_until("both are gone", || blocked(&mut c) == 1);
    // The lease does not go to who is not there any more.
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    granted(&second.misses());
    assert_eq!(count(&mut c, "leases"), 2);
    nothing_is_left(&server);
}

#[test]
fn who_is_killed_leaves_nothing_behind() {
    let (server, mut c, token) = scene();
    let (first, mut second) = (Waiting::new(&server, READY), Waiting::new(&server, READY));
    let mut reader = Waiting::new(&server, READER);
    for id in [first.id, reader.id] {
        assert_eq!(c.cmd(args!["CLIENT", "KILL", "ID", id]), 1);
    }
    assert!(reader.conn.receive().is_err());
    wait_until("both are gone", || blocked(&mut c) == 1);
    c.cmd("EXPCACHE.DEL k");
    granted(&second.misses());
    lost(&mut c, "k", &token);
    nothing_is_left(&server);
}

#[test]
fn who_is_unblocked_leaves_nothing_behind() {
    let (server, mut c, token) = scene();
    for conn in server.conns() {
        let mut waiting = Waiting::on(&server, conn, READY);
        assert_eq!(c.cmd(args!["CLIENT", "UNBLOCK", waiting.id]), 1);
        waiting.misses();
        assert_eq!(c.cmd(args!["CLIENT", "UNBLOCK", waiting.id]), 0);
        waiting = Waiting::on(&server, waiting.conn, READY);
        assert_eq!(c.cmd(args!["CLIENT", "UNBLOCK", waiting.id, "TIMEOUT"]), 1);
        assert_eq!(waiting.misses()["lease"], Value::Nil);
        waiting = Waiting::on(&server, waiting.conn, READY);
        assert_eq!(c.cmd(args!["CLIENT", "UNBLOCK", waiting.id, "ERROR"]), 1);
        let reply = waiting.reply();
        assert!(matches!(&reply, Value::Error(text) if text.starts_with("UNBLOCKED")), "{reply}");
        // The connection goes on, and its client may wait again.
        assert_eq!(waiting.conn.cmd("PING"), Value::Simple("PONG".into()));
    }
    assert_eq!(blocked(&mut c), 0);
    is_held(&mut c, "k", true);
    let mut other = Waiting::new(&server, READY);
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    granted(&other.misses());
    nothing_is_left(&server);
}

#[test]
fn who_goes_in_the_moment_of_the_answer_is_not_answered() {
    // (UNBLOCK … TIMEOUT at that moment is lost in the server itself: the client is told nothing at all.)
    for end in ["CLIENT KILL ID id", "CLIENT UNBLOCK id ERROR"] {
        let (server, mut c, token) = scene();
        let mut waiting: Vec<Waiting> =
            (0..50).map(|n| Waiting::new(&server, if n < 25 { READER } else { READY })).collect();
        // All in one go: the server has not come to answering anybody when the next command ends the waiting.
        let mut commands = vec![format!("EXPCACHE.SET k v LEASE {token}")];
        commands.extend(waiting.iter().map(|waiting| end.replace("id", &waiting.id.to_string())));
        commands.push("EXPCACHE.DEL k".into());
        c.pipeline(&commands);
        for waiting in &mut waiting {
            match waiting.conn.receive() {
                Ok(Value::Error(text)) => assert!(text.starts_with("UNBLOCKED"), "{text}"),
                Ok(reply) => assert!(["hit", "miss"].contains(&reply.fields()["status"].text().as_str())),
                Err(_) => continue,
            }
            assert_eq!(waiting.conn.cmd("PING"), Value::Simple("PONG".into()), "one reply, and no more");
        }
        nothing_is_left(&server);
    }
}

#[test]
fn many_come_and_go() {
    let (server, mut c, token) = scene();
    for round in 0..20 {
        let mut conns: Vec<Conn> = (0..50).map(|_| server.conn()).collect();
        for (n, conn) in conns.iter_mut().enumerate() {
            conn.send(if (n + round) % 3 == 0 { READY } else { "EXPCACHE.FETCH k WAIT 1s LEASE 5s" }).unwrap();
        }
        conns.truncate(round);
    }
    wait_until("all are gone", || blocked(&mut c) == 0);
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    nothing_is_left(&server);
}

#[test]
fn a_server_goes_down_with_clients_that_wait() {
    for stop in [Stop::Save, Stop::NoSave, Stop::Kill] {
        let (mut server, _, token) = scene();
        let mut waiting = [Waiting::new(&server, READER), Waiting::new(&server, READY)];
        server.restart(stop);
        for waiting in &mut waiting {
            assert!(!matches!(waiting.conn.receive(), Ok(Value::Map(_) | Value::Array(_))));
        }
        lost(&mut server.conn(), "k", &token);
        nothing_is_left(&server);
    }
}

// ---- pipelines

#[test]
fn what_is_pipelined_behind_a_waiting_fetch_waits_too() {
    let (server, mut c, token) = scene();
    for mut conn in server.conns() {
        conn.ok("EXPCACHE.SET later early");
        let commands =
            [READER, "PING", "EXPCACHE.GET k", "EXPCACHE.SET later late", "EXPCACHE.FETCH k LEASE 1h", "ECHO end"];
        let token = if c.map("EXPCACHE.FETCH k")["retry"] == Value::Nil { lease(&mut c, "k") } else { token.clone() };
        let mut waiting = Waiting::on(&server, conn, READER);
        for command in &commands[1..] {
            waiting.conn.send(*command).unwrap();
        }
        sleep(Duration::from_millis(50));
        assert_eq!(c.cmd("EXPCACHE.GET later"), "early", "nothing overtakes");
        c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
        waiting.hits("v");
        let mut conn = waiting.conn;
        let replies: Vec<Value> = commands[1..].iter().map(|_| conn.receive().unwrap()).collect();
        assert_eq!(replies[0], Value::Simple("PONG".into()));
        assert_eq!(replies[1], "v");
        assert_eq!(replies[2], Value::Simple("OK".into()));
        assert_eq!(replies[3].fields()["status"], "hit");
        assert_eq!(replies[4], "end");
        assert_eq!(c.cmd("EXPCACHE.DEL k"), 1);
    }
}

#[test]
fn a_pipeline_may_wait_many_times() {
    let server = Server::start();
    let (mut c, mut waiting) = (server.conn(), server.conn());
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let tokens: Vec<String> = keys.iter().map(|key| lease(&mut c, key)).collect();
    for key in &keys {
        waiting.send(args!["EXPCACHE.FETCH", key, "WAIT", LONG]).unwrap();
        waiting.send(args!["ECHO", key]).unwrap();
    }
    // Stored in another order than they are waited for.
    for (key, token) in keys.iter().zip(tokens).rev() {
        c.ok(args!["EXPCACHE.SET", key, key, "LEASE", token]);
    }
    for key in &keys {
        let fetched = waiting.receive().unwrap().fields();
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("hit"), &Value::bulk(key)));
        assert_eq!(waiting.receive().unwrap(), Value::bulk(key));
    }
    wait_until("nobody waits", || blocked(&mut c) == 0);
}

#[test]
fn a_pipeline_that_waits_for_itself_waits_for_its_time_only() {
    let server = Server::start();
    let mut c = server.conn();
    // The holder stands behind itself: what it would store comes after what waits for it.
    let replies = c.pipeline(["EXPCACHE.FETCH k LEASE 80ms", "EXPCACHE.FETCH k LEASE 1h WAIT 1h", "EXPCACHE.FETCH k"]);
    granted(&replies[0].fields());
    granted(&replies[1].fields());
    held(&replies[2].fields(), HOUR_MS);
}

#[test]
fn a_pipeline_is_answered_to_its_end_whatever_ends_the_waiting() {
    for end in ["UNBLOCK", "KILL", "RELEASE"] {
        let (server, mut c, token) = scene();
        let mut waiting = Waiting::new(&server, READER);
        waiting.conn.send("EXPCACHE.SET behind v").unwrap();
        waiting.conn.send("PING").unwrap();
        sleep(Duration::from_millis(20));
        match end {
            "UNBLOCK" => assert_eq!(c.cmd(args!["CLIENT", "UNBLOCK", waiting.id, "ERROR"]), 1),
            "KILL" => assert_eq!(c.cmd(args!["CLIENT", "KILL", "ID", waiting.id]), 1),
            _ => assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1),
        }
        if end == "KILL" {
            assert!(waiting.conn.receive().is_err());
            c.nil("EXPCACHE.GET behind");
        } else {
            waiting.reply();
            assert_eq!(waiting.reply(), Value::Simple("OK".into()));
            assert_eq!(waiting.reply(), Value::Simple("PONG".into()));
        }
        nothing_is_left(&server);
    }
}

#[test]
fn who_tracks_keys_hears_of_the_change_before_the_value_that_it_waited_for() {
    let (server, mut c, token) = scene();
    let mut conn = server.conn();
    conn.hello3();
    conn.ok("CLIENT TRACKING ON");
    let mut waiting = Waiting::on(&server, conn, READER);
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    let keys = Value::Array(vec![Value::bulk("k")]);
    assert_eq!(waiting.reply(), Value::Push(vec![Value::bulk("invalidate"), keys]));
    waiting.hits("v");
}

/// It was chosen and could not be told, so its lease is nobody's.
#[test]
fn an_heir_that_is_killed_before_its_reply_is_followed_by_the_next() {
    let (server, mut c, token) = scene();
    let mut heir = Waiting::new(&server, READY);
    let mut next = Waiting::new(&server, READY);
    let kill = args!["CLIENT", "KILL", "ID", heir.id];
    let replies = c.transaction([args!["EXPCACHE.RELEASE", "k", &token], kill]);
    assert_eq!(replies, [1, 1].map(Value::Int));
    assert!(heir.conn.receive().is_err());
    let own = granted(&next.misses());
    lost(&mut c, "k", &token);
    next.conn.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", own]);
    nothing_is_left(&server);
}

#[test]
fn a_lease_that_is_lost_before_it_is_told_is_not_told() {
    let (server, mut c, mut token) = scene();
    for end in ["EXPCACHE.DEL k", "FLUSHDB"] {
        let mut heirs = both(&server, READY);
        c.transaction(&[format!("EXPCACHE.RELEASE k {token}"), end.into()]);
        // The first of them asks again as anybody does.
        let [first, second] = &mut heirs[..] else { unreachable!() };
        token = granted(&first.misses());
        held(&second.misses(), HOUR_MS);
    }
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    nothing_is_left(&server);
}

// ---- rights

/// A client of a user `someone` who may do everything with `k`, and waits for it by this command.
fn someone(server: &Server, c: &mut Conn, command: &str) -> Waiting {
    c.ok("ACL SETUSER someone on >secret ~k +@all");
    let mut conn = server.conn();
    conn.ok("AUTH someone secret");
    Waiting::on(server, conn, command)
}

#[track_caller]
fn is_refused(waiting: &mut Waiting) {
    let reply = waiting.reply();
    assert!(matches!(&reply, Value::Error(text) if text.starts_with("NOPERM")), "{reply}");
}

#[test]
fn who_lost_its_rights_while_it_waited_is_told_nothing() {
    let (server, mut c, token) = scene();
    let mut waiting = someone(&server, &mut c, READER);
    let mut other = Waiting::new(&server, READER);
    c.ok("ACL SETUSER someone resetkeys ~other");
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    is_refused(&mut waiting);
    other.hits("v");
    c.ok("ACL SETUSER someone ~k");
    assert_eq!(waiting.conn.cmd("EXPCACHE.GET k"), "v");
    nothing_is_left(&server);
}

#[test]
fn an_heir_without_rights_is_followed_by_the_next() {
    let (server, mut c, token) = scene();
    let mut waiting = someone(&server, &mut c, READY);
    c.ok("ACL SETUSER someone resetkeys ~other");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1);
    is_refused(&mut waiting);
    let own = granted(&c.map(READY));
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", own]);
    nothing_is_left(&server);
}

// ---- pauses and roles

#[test]
fn a_pause_of_writes_does_not_hold_back_who_may_be_answered() {
    let server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    let mut holder = server.conn();
    let token = granted(&holder.map("EXPCACHE.FETCH k LEASE 4s"));
    lease(&mut holder, "other");
    let mut heir = Waiting::new(&server, READY);
    let mut reader = Waiting::new(&server, READER);
    let mut brief = Waiting::new(&server, "EXPCACHE.FETCH other WAIT 3s");
    c.ok("CLIENT PAUSE 100000 WRITE");
    held(&brief.misses(), HOUR_MS);
    let own = granted(&heir.misses());
    held(&reader.misses(), HOUR_MS);
    // Leases are granted meanwhile, since nothing is written, and waited for.
    lease(&mut c, "new");
    let mut late = Waiting::new(&server, READER);
    let killed = Waiting::new(&server, READER);
    assert_eq!(c.cmd(args!["CLIENT", "KILL", "ID", killed.id]), 1);

    // A store waits for the end of the pause, and with it who waits for the store.
    holder.send(args!["EXPCACHE.SET", "k", "late", "LEASE", &token]).unwrap();
    heir.conn.send(args!["EXPCACHE.SET", "k", "v", "LEASE", &own]).unwrap();
    sleep(Duration::from_millis(50));
    assert!(late.still_waits(&mut c));
    c.nil("EXPCACHE.GET k");
    c.ok("CLIENT UNPAUSE");
    late.hits("v");
    assert_eq!(heir.reply(), Value::Simple("OK".into()));
    assert!(matches!(holder.receive().unwrap(), Value::Error(text) if text.starts_with("LEASELOST")));
    nothing_is_left(&server);
}

#[test]
fn a_pause_that_begins_between_the_store_and_the_answer() {
    // A hit of a sliding type puts the expiry off, which is a write that nobody may make now.
    let server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET sliding SLIDING yes TTL 1h");
    for (how, ms) in [("WRITE", 100_000), ("ALL", 300)] {
        let token = lease(&mut c, "sliding:1");
        let command = "EXPCACHE.FETCH sliding:1 WAIT 1h";
        let mut waiting = [Waiting::new(&server, command), Waiting::new(&server, command)];
        let commands = [
            args!["EXPCACHE.SET", "sliding:1", "v", "TYPE", "sliding", "LEASE", token],
            args!["PEXPIRE", "sliding:1", 100_000],
            args!["CLIENT", "PAUSE", ms, how],
        ];
        for (reply, expected) in c.pipeline(commands).iter().zip(["+OK", "1", "+OK"]) {
            assert_eq!(reply.to_string(), expected);
        }
        waiting.iter_mut().for_each(|waiting| waiting.hits("v"));
        // While all is paused this waits for the end as well.
        c.ok("CLIENT UNPAUSE");
        assert_eq!(c.cmd("EXPCACHE.DEL sliding:1"), 1);
    }
    nothing_is_left(&server);
}

#[test]
fn an_entry_that_expires_in_a_pause_is_a_miss_to_who_waited() {
    let server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    let mut waiting = Waiting::new(&server, READER);
    let commands = [
        args!["EXPCACHE.SET", "k", "v", "PX", 1, "GRACE", 0, "LEASE", token],
        args!["CLIENT", "PAUSE", 100_000, "WRITE"],
        args!["DEBUG", "SLEEP", "0.02"],
    ];
    c.pipeline(commands);
    free(&waiting.misses());
    c.ok("CLIENT UNPAUSE");
    nothing_is_left(&server);
}

/// Asserts that the waiting ended because the server is not a master any more: mostly the server says so itself, and closes
/// the connection.
#[track_caller]
fn is_sent_away(waiting: &mut Waiting) {
    match waiting.reply() {
        Value::Error(text) => assert!(text.starts_with("UNBLOCKED"), "{text}"),
        miss => free(&miss.fields()),
    }
}

#[test]
fn who_waits_at_a_master_that_becomes_a_replica_is_sent_away() {
    let (other, (server, mut c, token)) = (Server::start(), scene());
    let mut waiting: Vec<Waiting> = [READER, READY].iter().flat_map(|command| both(&server, command)).collect();
    let mut elsewhere = Waiting::in_database(&server, 0, READER);
    c.ok(args!["REPLICAOF", "127.0.0.1", other.port()]);
    waiting.iter_mut().chain([&mut elsewhere]).for_each(is_sent_away);
    server.wait_for_sync(&other);
    let mut c = server.conn();
    assert_eq!(blocked(&mut c), 0);
    for command in [READER, READY] {
        free(&c.map(command));
    }
    c.ok("REPLICAOF NO ONE");
    lost(&mut c, "k", &token);
    nothing_is_left(&server);
    nothing_is_left(&other);
}

#[test]
fn a_failover_with_clients_that_wait() {
    let (master, replica) = (Server::start(), Server::start());
    replica.replica_of(&master);
    let mut c = master.conn();
    let token = lease(&mut c, "k");
    let mut waiting: Vec<Waiting> = [READER, READY].iter().flat_map(|command| both(&master, command)).collect();
    c.ok("FAILOVER");
    waiting.iter_mut().for_each(is_sent_away);
    let mut new = replica.conn();
    wait_until("the replica is the master", || new.info("replication", "role") == "master");
    lost(&mut new, "k", &token);
    wait_until("the master is a replica in sync", || {
        master.conn().info("replication", "role") == "slave"
            && master.conn().info("replication", "master_link_status") == "up"
    });
    free(&master.conn().map(READY));
    nothing_is_left(&replica);
    master.wait_for_sync(&replica);
    assert_eq!(master.conn().cmd("EXPCACHE.GET k"), "at last");
}

#[test]
fn a_failover_that_is_given_up_leaves_who_waits_alone() {
    let (master, replica) = (Server::start(), Server::start());
    replica.replica_of(&master);
    let mut c = master.conn();
    let token = lease(&mut c, "k");
    let mut waiting = Waiting::new(&master, READY);
    // The replica stands still, so it can't catch up.
    let mut stopped = replica.conn();
    stopped.send("DEBUG SLEEP 5").unwrap();
    c.cmd("EXPCACHE.SET something v");
    c.ok("FAILOVER");
    let mut brief = Waiting::new(&master, "EXPCACHE.FETCH k WAIT 2s");
    held(&brief.misses(), HOUR_MS);
    if c.cmd("FAILOVER ABORT") == Value::Simple("OK".into()) {
        assert!(waiting.still_waits(&mut c));
        c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
        waiting.hits("v");
        stopped.receive().unwrap();
    }
}

#[test]
fn a_promotion_finds_nobody_waiting() {
    let (master, replica) = (Server::start(), Server::start());
    replica.replica_of(&master);
    let mut r = replica.conn();
    free(&r.map(READY));
    r.ok("REPLICAOF NO ONE");
    nothing_is_left(&replica);
}

// ---- databases and bounds

#[test]
fn each_database_has_its_own_who_wait() {
    let server = Server::start();
    let mut c = server.conn();
    let mut tokens = Vec::new();
    for db in 0..4 {
        c.ok(args!["SELECT", db]);
        tokens.push(lease(&mut c, "k"));
    }
    let mut waiting: Vec<Waiting> = (0..4).map(|db| Waiting::in_database(&server, db, READY)).collect();
    let waits = |waiting: &[Waiting], c: &mut Conn| waiting.iter().map(|w| w.still_waits(c)).collect::<Vec<_>>();

    c.ok("SELECT 1");
    c.ok(args!["EXPCACHE.SET", "k", "one", "LEASE", &tokens[1]]);
    waiting[1].hits("one");
    assert_eq!(waits(&waiting, &mut c), [true, false, true, true]);

    c.ok("SELECT 2");
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", &tokens[2]]), 1);
    let own = granted(&waiting[2].misses());
    assert_eq!(waits(&waiting, &mut c), [true, false, false, true]);
    c.ok(args!["EXPCACHE.SET", "k", "two", "LEASE", own]);
    assert_eq!(waiting[2].conn.cmd("EXPCACHE.GET k"), "two", "the client stays in its database");

    // What was database 1 is database 0 now: who waited for a key of 0 is told what there is now.
    c.ok("SWAPDB 0 1");
    waiting[0].hits("one");
    assert_eq!(waits(&waiting, &mut c), [false, false, false, true]);
    c.ok("SWAPDB 3 5");
    let own = granted(&waiting[3].misses());
    c.ok("SELECT 3");
    c.ok(args!["EXPCACHE.SET", "k", "three", "LEASE", own]);
    nothing_is_left(&server);
}

#[test]
fn timers_serve_all_databases() {
    let server = Server::start();
    let mut waiting: Vec<Waiting> = Vec::new();
    for db in (0..16).rev() {
        let mut c = server.conn();
        c.ok(args!["SELECT", db]);
        let duration = format!("{}ms", 600 + 10 * (db % 4));
        granted(&c.map(args!["EXPCACHE.FETCH", "k", "LEASE", duration]));
        waiting.push(Waiting::on(&server, c, READY));
    }
    for waiting in &mut waiting {
        let own = granted(&waiting.misses());
        waiting.conn.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", own]);
    }
    assert_eq!(blocked(&mut server.conn()), 0);
}

#[test]
fn no_more_wait_than_may() {
    let (server, mut c, token) = scene();
    c.ok("CONFIG SET expcache.max-waiters 2");
    let mut waiting = both(&server, READER);
    for command in [READER, READY] {
        let fetched = c.map(command);
        assert_eq!(fetched["status"], "miss");
        held(&fetched, HOUR_MS);
    }
    // One goes, another may come; and the bound is for all databases together.
    drop(waiting.pop());
    wait_until("one is gone", || blocked(&mut c) == 1);
    c.ok("SELECT 1");
    lease(&mut c, "k");
    waiting.push(Waiting::in_database(&server, 1, READY));
    held(&c.map(READY), HOUR_MS);
    c.ok("SELECT 0");
    held(&c.map(READY), HOUR_MS);
    // Leases are granted as before.
    lease(&mut c, "other");
    c.ok("CONFIG SET expcache.max-waiters 0");
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    waiting[0].hits("v");
    c.cmd("EXPCACHE.DEL k");
    lease(&mut c, "k");
    held(&c.map(READER), HOUR_MS);
    c.ok("CONFIG SET expcache.max-waiters 10");
    nothing_is_left_but(&server, 1);
}

#[track_caller]
fn nothing_is_left_but(server: &Server, waiting: usize) {
    let mut c = server.conn();
    assert_eq!(blocked(&mut c), waiting);
    check(&mut c);
}

#[test]
fn one_may_wait_as_long_as_any_duration() {
    let (server, mut c, token) = scene();
    let mut waiting: Vec<Waiting> = ["4611686018427387903", "18446744073709552", "36500d"]
        .map(|duration| Waiting::new(&server, args!["EXPCACHE.FETCH", "k", "WAIT", duration, "LEASE", duration]))
        .into();
    sleep(Duration::from_millis(20));
    assert!(waiting.iter().all(|waiting| waiting.still_waits(&mut c)));
    c.ok(args!["EXPCACHE.SET", "k", "v", "LEASE", token]);
    waiting.iter_mut().for_each(|waiting| waiting.hits("v"));
    c.err(args!["EXPCACHE.SET", "k", "late", "LEASE", NOBODYS], "LEASELOST");
    nothing_is_left(&server);
}
