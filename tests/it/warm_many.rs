//! Warming with many keys: nobody waits for them, and what they take is known.

use std::collections::BTreeSet;

use crate::harness::{Conn, Fields, Server, Value, args, check, wait_until};
use crate::leases::{LONG, Waiting};

/// So many are worth far more than the others, and the first of them most: a slow machine asks for some long after others.
const BEST: usize = 100;

/// A server that keeps this many keys in mind, each asked for.
fn server_with(keys: usize) -> (Server, Conn) {
    let server = Server::start();
    let mut c = server.conn();
    // What is done at each beat is done soon.
    c.ok("CONFIG SET hz 500");
    c.ok("CONFIG SET expcache.advice-keys 0");
    c.ok(args!["EXPCACHE.TYPE", "SET", "trips", "TTL", LONG, "WARM", 10_000]);
    let all: Vec<usize> = (0..keys).collect();
    for some in all.chunks(100) {
        let name = |key: &usize| format!("trips:{key}");
        let cost = |key: usize| if key < BEST { 10_000_000 >> (3 * key).min(12) } else { 100 };
        let set =
            |key: &usize| args!["EXPCACHE.SET", name(key), "v", "TYPE", "trips", "COST", cost(*key), "TAGS", 1, "t"];
        c.pipeline(some.iter().map(set));
        // Twice: those that came are not to make room for the next ones.
        (0..2).for_each(|_| _ = c.pipeline(some.iter().map(|key| args!["EXPCACHE.GET", name(key)])));
    }
    assert_eq!(gauge(&mut c, "warm_keys"), keys as u64);
    (server, c)
}

fn gauge(c: &mut Conn, name: &str) -> u64 {
    c.info("expcache", &format!("expcache_{name}")).parse().unwrap()
}

fn warm(c: &mut Conn, how: &str) -> Vec<Fields> {
    c.cmd(&*format!("EXPCACHE.WARM {how}")).items().iter().map(Value::fields).collect()
}

fn keys(jobs: &[Fields]) -> Vec<String> {
    jobs.iter().map(|job| job["key"].text()).collect()
}

/// An invalidation only notes whom it meant: how many keys are due when it returns does not grow with how many there are. Who asks at once is
/// given the best all the same.
#[test]
fn an_invalidation_of_many_is_followed_in_turns() {
    let (_server, mut c) = server_with(3_000);
    c.ok("MULTI");
    for command in ["EXPCACHE.INVALIDATE.TAG t", "INFO expcache", "EXPCACHE.WARM COUNT 100 DRYRUN"] {
        assert_eq!(c.cmd(command), Value::Simple("QUEUED".into()));
    }
    let replies = c.cmd("EXEC").items().to_vec();
    assert_eq!(replies[0].int(), 3_000);
    let info = replies[1].text();
    let due = info.lines().find_map(|line| line.strip_prefix("expcache_warm_due:")).unwrap();
    assert!((1..=128).contains(&due.trim().parse::<u64>().unwrap()), "{due} are due at once");
    let listed: Vec<Fields> = replies[2].items().iter().map(Value::fields).collect();
    let best: BTreeSet<String> = (0..BEST).map(|key| format!("trips:{key}")).collect();
    assert_eq!(keys(&listed).into_iter().collect::<BTreeSet<_>>(), best);
    assert_eq!(keys(&listed)[..3], ["trips:0", "trips:1", "trips:2"]);
    wait_until("all are due", || gauge(&mut c, "warm_due") == 3_000);
    check(&mut c);
}

#[test]
fn what_keys_take_is_known_and_given_back() {
    let (_server, mut c) = server_with(4_000);
    let used = |c: &mut Conn| c.info("memory", "used_memory").parse::<u64>().unwrap();
    let (before, counted) = (used(&mut c), gauge(&mut c, "warm_bytes"));
    c.ok("CONFIG SET expcache.warm-memory 128kb");
    wait_until("few are kept", || gauge(&mut c, "warm_bytes") <= 128 << 10);
    let less = counted - gauge(&mut c, "warm_bytes");
    let mut freed = 0;
    wait_until("what the others took is given back", || {
        freed = before.saturating_sub(used(&mut c));
        freed * 4 > less * 3
    });
    assert!(freed * 3 < less * 4, "{freed} bytes were freed, and {less} had been counted");
    check(&mut c);
}

/// What is fresh is shown to who looks ahead, of the types that he named; nobody else is offered it.
#[test]
fn looking_ahead_is_for_who_does() {
    let (server, mut c) = server_with(1_500);
    c.ok(args!["EXPCACHE.TYPE", "SET", "cars", "TTL", LONG, "WARM", 10]);
    for key in ["cars:1", "cars:2"] {
        c.ok(args!["EXPCACHE.SET", key, "v", "TYPE", "cars", "COST", 1]);
        (0..5).for_each(|_| _ = c.cmd(args!["EXPCACHE.GET", key]));
    }
    let mut listed = keys(&warm(&mut c, "TYPES 1 cars COUNT 10 AHEAD 7d DRYRUN"));
    listed.sort();
    assert_eq!(listed, ["cars:1", "cars:2"]);
    let first = keys(&warm(&mut c, "COUNT 3 AHEAD 7d DRYRUN"));
    assert_eq!(first, ["trips:0", "trips:1", "trips:2"], "what is worth most");
    let mut other = server.conn();
    assert_eq!((keys(&warm(&mut other, "COUNT 1000")).len(), gauge(&mut c, "warm_due")), (0, 0));
    let jobs = warm(&mut c, "TYPES 1 cars COUNT 10 AHEAD 7d");
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job["reason"] == "expiring"));
    assert!(warm(&mut other, "TYPES 1 cars COUNT 10 AHEAD 7d").is_empty(), "each has one holder");
    check(&mut c);
}

/// A worker that may have few of the keys comes to its own however short it waits, among others that wait for nothing.
#[test]
fn a_worker_with_few_rights_goes_on_where_it_was() {
    let (server, mut c) = server_with(3_500);
    c.ok(args!["EXPCACHE.SET", "own:1", "v", "TYPE", "trips", "COST", 1, "TAGS", 1, "t"]);
    (0..3).for_each(|_| _ = c.cmd("EXPCACHE.GET own:1"));
    for user in ["someone", "nobody"] {
        c.ok(&format!("ACL SETUSER {user} on >secret ~{} +@all", if user == "nobody" { "none:*" } else { "own:*" }));
    }
    let connect = |user: &str| {
        let mut conn = server.conn();
        conn.ok(&format!("AUTH {user} secret"));
        conn
    };
    c.int("EXPCACHE.INVALIDATE.TAG t");
    wait_until("all are due", || gauge(&mut c, "warm_due") == 3_501);
    let waiting: Vec<Waiting> =
        (0..20).map(|_| Waiting::on(&server, connect("nobody"), "EXPCACHE.WARM WAIT 1h")).collect();
    // Each time it is another connection of the same user's.
    let calls = (1..=10).find(|_| {
        let jobs = warm(&mut connect("someone"), "");
        jobs.iter().any(|job| job["key"] == "own:1")
    });
    assert!(calls.is_some_and(|calls| (2..=5).contains(&calls)), "{calls:?} calls");
    drop(waiting);
    check(&mut c);
}
