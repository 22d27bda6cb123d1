//! Nobody ever sees a new source beside an entry that was made from an older one: writers, producers and readers in a loop.
//!
//! `EXPCACHE_RULES_READS` says how many reads the long form takes.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::scope;

use crate::harness::{Conn, Random, Server, Value, args, check};

/// How many reads the short form takes.
const READS: usize = 20_000;
/// How many sources there are, each with an entry.
const SOURCES: usize = 3;
const READERS: usize = 2;

/// What happened, so that what never did is no proof.
#[derive(Default)]
struct Tally {
    reads: AtomicUsize,
    seen: AtomicUsize,
    stored: AtomicUsize,
    fenced: AtomicUsize,
    written: AtomicUsize,
}

fn source(n: usize) -> String {
    format!("source:{n}")
}

fn entry(n: usize) -> String {
    format!("entry:{n}")
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, SeqCst);
}

/// Writes ever new values, in every manner in which a key can come to have one, or none.
fn write(mut c: Conn, tally: &Tally, reads: usize) {
    let mut random = Random::new(7);
    while tally.reads.load(SeqCst) < reads {
        let (key, value) = (source(random.below(SOURCES)), tally.written.fetch_add(1, SeqCst));
        match random.below(6) {
            0 => _ = c.cmd(args!["DEL", key]),
            1 => {
                c.ok("MULTI");
                c.cmd(args!["SET", "other", value]);
                c.cmd(args!["SET", key, value]);
                c.cmd("EXEC");
            }
            2 => _ = c.cmd(args!["EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", 1, key, value]),
            3 => {
                c.ok(args!["SET", "next", value]);
                c.ok(args!["RENAME", "next", key]);
            }
            4 => c.ok(args!["SET", key, value, "PX", 1 + random.below(3)]),
            _ => c.ok(args!["SET", key, value]),
        }
    }
}

/// Makes entries from what it reads under a lease.
fn produce(mut c: Conn, tally: &Tally, reads: usize, seed: u64) {
    let mut random = Random::new(seed);
    while tally.reads.load(SeqCst) < reads {
        let n = random.below(SOURCES);
        let token = match &c.map(args!["EXPCACHE.FETCH", entry(n), "LEASE", "10s"])["lease"] {
            Value::Nil => continue,
            token => token.text(),
        };
        let value = match c.cmd(args!["GET", source(n)]) {
            Value::Bulk(value) => value,
            _ => {
                c.cmd(args!["EXPCACHE.RELEASE", entry(n), token]);
                continue;
            }
        };
        match c.cmd(args!["EXPCACHE.SET", entry(n), value, "TAGS", 1, source(n), "LEASE", token]) {
            Value::Error(text) => {
                assert!(text.starts_with("FENCED"), "{text}");
                count(&tally.fenced);
            }
            _ => count(&tally.stored),
        }
    }
}

fn read(mut c: Conn, tally: &Tally, reads: usize, seed: u64) {
    let mut random = Random::new(seed);
    while tally.reads.load(SeqCst) < reads {
        let n = random.below(SOURCES);
        let replies =
            c.pipeline([args!["MULTI"], args!["GET", source(n)], args!["EXPCACHE.GET", entry(n)], args!["EXEC"]]);
        let [.., both] = &replies[..] else { unreachable!() };
        if let [source, entry @ Value::Bulk(_)] = both.items() {
            assert_eq!(source, entry, "a new source beside an old entry");
            count(&tally.seen);
        }
        count(&tally.reads);
    }
}

#[test]
fn nobody_sees_a_new_source_beside_an_old_entry() {
    let reads = std::env::var("EXPCACHE_RULES_READS").map_or(READS, |text| text.parse().unwrap());
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET r KEY source:{n} DO ANY 1 source:{n}");
    let tally = Tally::default();
    scope(|scope| {
        let (server, tally) = (&server, &tally);
        scope.spawn(move || write(server.conn(), tally, reads));
        for seed in 0..2 {
            scope.spawn(move || produce(server.conn(), tally, reads, seed));
        }
        for seed in 0..READERS as u64 {
            scope.spawn(move || read(server.conn(), tally, reads, 10 + seed));
        }
    });
    for counter in [&tally.seen, &tally.stored, &tally.fenced, &tally.written] {
        assert!(counter.load(SeqCst) > 0, "it happens");
    }
    println!("{} reads, of entries {}", tally.reads.load(SeqCst), tally.seen.load(SeqCst));
    check(&mut c);
}
