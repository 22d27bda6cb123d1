//! Stored bytes that are not any more what was stored: a broken disk, memory or network between two servers. Reading them is a miss, never
//! another payload or a crash; `VERIFY` finds what decoding alone would not, and removes it.

use crate::harness::{Conn, Random, Server, Value, args, check, closed, opened, wait_until, wait_until_settled};
use crate::large::*;

/// Read by the main thread, decoded by a worker, copied by a worker.
const SIZES: [usize; 3] = [3 * KB, 200 * KB, 2 * MB];

/// So that what is stored stands in a dump as it is.
const PLAIN: &[&str] = &["--rdbcompression", "no"];

/// Where the stored form begins in what was dumped.
fn find(body: &[u8], stored: &[u8]) -> usize {
    body.windows(stored.len()).position(|bytes| bytes == stored).unwrap()
}

/// A dumped entry, and where its stored form is in it.
struct Dumped {
    body: Vec<u8>,
    version: [u8; 2],
    at: usize,
    len: usize,
}

impl Dumped {
    fn of(c: &mut Conn, key: &str) -> Dumped {
        let (_, stored) = stored(c, key);
        let (body, version) = opened(&c.bulk(&["DUMP", key]));
        Dumped { at: find(&body, &stored), len: stored.len(), body, version }
    }

    /// Puts it under `key` with other bytes stored.
    fn restore(&self, c: &mut Conn, key: &str, change: impl FnOnce(&mut [u8])) {
        let mut body = self.body.clone();
        change(&mut body[self.at..self.at + self.len]);
        c.ok(args!["RESTORE", key, 0, closed(&body, self.version), "REPLACE"]);
    }
}

/// An entry of this size, kept in this encoding under `k`.
fn store(c: &mut Conn, codec: &str, size: usize) -> (Vec<u8>, Dumped) {
    c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", codec, "THRESHOLD", "1kb"]);
    let payload = rows(size);
    c.ok(args!["EXPCACHE.SET", "k", &payload, "TAGS", 1, "t"]);
    wait_until_settled(c);
    // An entry whose MD5 nobody has asked for has nothing to be compared with.
    c.cmd("EXPCACHE.META k");
    let dumped = Dumped::of(c, "k");
    (payload, dumped)
}

#[track_caller]
fn is_gone(c: &mut Conn, key: &str) {
    wait_until("it is removed", || c.cmd(&["EXISTS", key]) == 0);
    check(c);
}

#[test]
fn what_does_not_decode_is_a_miss() {
    let server = Server::with(PLAIN);
    for mut c in server.conns() {
        for size in SIZES {
            for codec in ENCODINGS {
                let (payload, dumped) = store(&mut c, codec, size);
                let readers: [&[&str]; 4] =
                    [&["EXPCACHE.GET", "h"], &["EXPCACHE.MGET", "h"], &["EXPCACHE.FETCH", "h"], &[]];
                for reader in readers.iter().filter(|reader| !reader.is_empty()) {
                    c.ok("EXPCACHE.STATS RESET");
                    // The middle of the stream is no stream.
                    dumped.restore(&mut c, "h", |stored| stored.rotate_left(stored.len() / 2));
                    assert_eq!(c.map("EXPCACHE.META h")["encoding"], codec, "nobody has looked yet");
                    match c.cmd(*reader) {
                        Value::Nil => (),
                        Value::Array(items) if items == [Value::Nil] => (),
                        fetched => {
                            let fetched = fetched.fields();
                            assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("miss"), &Value::Nil));
                        }
                    }
                    is_gone(&mut c, "h");
                    let stats = c.map("EXPCACHE.STATS");
                    let counted = ["corrupt", "hits", "misses"].map(|name| stats[name].int());
                    assert_eq!(counted, [1, 0, 1], "{codec} {size} {reader:?}");
                }
                reads(&mut c, "k", &payload, codec);
            }
        }
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 1);
    }
}

/// A payload that decodes, or is not encoded at all, is checked against the MD5 only on request.
#[test]
fn verify_finds_what_decoding_does_not() {
    let server = Server::with(PLAIN);
    let mut c = server.conn();
    for size in SIZES {
        for options in ["VERIFY", "VERIFY RANGE 0 1", "VERIFY ACCEPT 1 gzip", "VERIFY LEASE 1h"] {
            let (_, dumped) = store(&mut c, "none", size);
            c.ok("EXPCACHE.STATS RESET");
            dumped.restore(&mut c, "h", |stored| stored[1000] ^= 1);
            let fetched = c.map("EXPCACHE.FETCH h");
            assert_eq!((&fetched["status"], fetched["value"].as_bytes().len()), (&Value::bulk("hit"), size));
            let fetched = c.map(&format!("EXPCACHE.FETCH h {options}"));
            assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("miss"), &Value::Nil), "{options}");
            assert_eq!(fetched["lease"] != Value::Nil, options.contains("LEASE"), "{options}");
            is_gone(&mut c, "h");
            let stats = c.map("EXPCACHE.STATS");
            assert_eq!(["corrupt", "hits", "misses"].map(|name| stats[name].int()), [1, 1, 1], "{options}");
            c.cmd("EXPCACHE.DEL h");
        }
    }
}

/// Whoever finds it and would produce the next value is to do so, also where it was stale and the lease was given before it was looked at.
#[test]
fn a_lease_that_comes_with_it_is_good() {
    let server = Server::with(PLAIN);
    for mut c in server.conns() {
        for size in SIZES {
            let (_, dumped) = store(&mut c, "zstd", size);
            for options in ["VERIFY LEASE 1h", "LEASE 1h", "MAXAGE 0 LEASE 1h", "WAIT 1h MAXAGE 0 LEASE 1h VERIFY"] {
                dumped.restore(&mut c, "h", |stored| stored.reverse());
                let fetched = c.map(&format!("EXPCACHE.FETCH h {options}"));
                assert_eq!(fetched["status"], "miss", "{options}");
                let token = fetched["lease"].text();
                c.ok(args!["EXPCACHE.SET", "h", "next", "LEASE", token]);
                assert_eq!(c.cmd("EXPCACHE.GET h"), "next");
            }
        }
    }
}

/// A client that is known to have the payload is told that it still is good, which is so only if it is.
#[test]
fn verify_looks_even_if_nothing_is_sent() {
    let server = Server::with(PLAIN);
    let mut c = server.conn();
    for (size, codec) in SIZES.into_iter().flat_map(|size| [(size, "none"), (size, "lz4")]) {
        let (payload, dumped) = store(&mut c, codec, size);
        dumped.restore(&mut c, "h", |stored| stored[500..900].fill(7));
        let known = args!["EXPCACHE.FETCH", "h", "IFNONEMATCH", etag(&payload)];
        assert_eq!(c.map(known.clone())["status"], "not-modified");
        assert_eq!(c.map([known, args!["VERIFY"]].concat())["status"], "miss");
        is_gone(&mut c, "h");
    }
}

/// Whatever bytes change, what is served verified is what was stored; unverified it has the right length at least.
#[test]
fn no_change_leads_to_another_payload() {
    let server = Server::with(PLAIN);
    let mut c = server.conn();
    let mut random = Random::new(5);
    for codec in ENCODINGS {
        let (payload, dumped) = store(&mut c, codec, 300 * KB);
        for _ in 0..60 {
            dumped.restore(&mut c, "h", |stored| {
                for _ in 0..=random.below(3) {
                    stored[random.below(stored.len())] ^= 1 << random.below(8);
                }
            });
            let part = c.map("EXPCACHE.FETCH h RANGE 270000 1000");
            assert!(part["value"] == Value::Nil || part["value"].as_bytes().len() == 1000);
            match c.cmd("EXPCACHE.GET h") {
                Value::Nil => (),
                value => assert_eq!(value.as_bytes().len(), payload.len()),
            }
            match &c.map("EXPCACHE.FETCH h VERIFY")["value"] {
                Value::Nil => (),
                value => same(value.as_bytes(), &payload, codec),
            }
        }
    }
    check(&mut c);
}

/// In a transaction or script nothing is put off; and a stale entry is looked at as well.
#[test]
fn wherever_it_is_found() {
    let server = Server::with(PLAIN);
    let mut c = server.conn();
    for size in SIZES {
        let (_, dumped) = store(&mut c, "zstd", size);
        let spoil = |c: &mut Conn| dumped.restore(c, "h", |stored| stored.reverse());
        spoil(&mut c);
        let replies = c.transaction(["EXPCACHE.GET h", "EXISTS h", "EXPCACHE.FETCH h"]);
        assert_eq!((&replies[0], &replies[1]), (&Value::Nil, &Value::Int(0)));
        spoil(&mut c);
        c.nil(&["EVAL", "return redis.call('EXPCACHE.GET', KEYS[1])", "1", "h"]);
        is_gone(&mut c, "h");
        spoil(&mut c);
        c.ok("EXPCACHE.STATS RESET");
        assert_eq!(c.map("EXPCACHE.FETCH h MAXAGE 0")["status"], "miss");
        is_gone(&mut c, "h");
        let stats = c.map("EXPCACHE.STATS");
        assert_eq!(["corrupt", "hits", "stale-hits", "misses"].map(|name| stats[name].int()), [1, 0, 0, 1]);
    }
}

/// A replica does not decide: its master's copy may be sound.
#[test]
fn a_replica_removes_nothing() {
    let (master, replica) = (Server::with(PLAIN), Server::with(PLAIN));
    let (mut m, mut r) = (master.conn(), replica.conn());
    for (size, codec) in [(3 * KB, "zstd"), (200 * KB, "zstd"), (2 * MB, "none")] {
        let (_, dumped) = store(&mut m, codec, size);
        dumped.restore(&mut m, "h", |stored| stored[100..300].fill(9));
        replica.replica_of(&master);
        assert_eq!(r.map("EXPCACHE.FETCH h VERIFY")["status"], "miss");
        wait_until_settled(&mut r);
        assert_eq!(r.cmd("EXISTS h"), 1);
        assert_eq!(m.map("EXPCACHE.FETCH h VERIFY")["status"], "miss");
        is_gone(&mut m, "h");
        replica.wait_for_sync(&master);
        assert_eq!(r.cmd("EXISTS h"), 0);
        r.ok("REPLICAOF NO ONE");
    }
}

/// What somebody stored over it meanwhile is not removed in its place.
#[test]
fn what_was_stored_over_it_stays() {
    in_time(|| {
        let (server, mut c) = one_worker(PLAIN);
        let (_, dumped) = store(&mut c, "gzip", 200 * KB);
        dumped.restore(&mut c, "h", |stored| stored.reverse());
        let mut reader = server.conn();
        occupy(&mut c, 1);
        reader.send("EXPCACHE.GET h").unwrap();
        wait_until("the reader waits", || c.info("clients", "blocked_clients") == "1");
        c.ok("EXPCACHE.SET h sound");
        still_occupied(&mut c);
        assert_eq!(reader.receive().unwrap(), Value::Nil);
        wait_until_settled(&mut c);
        assert_eq!(c.cmd("EXPCACHE.GET h"), "sound");
        check(&mut c);
    });
}

#[test]
fn what_claims_to_be_replicated_is_checked() {
    let server = Server::with(PLAIN);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC none");
    for size in SIZES {
        for encoding in ENCODINGS {
            c.ok(args!["EXPCACHE.SET", "k", pack(encoding, &rows(size)), "ENCODING", encoding]);
            let (body, version) = opened(&c.bulk("DUMP k"));
            let (_, stored) = stored(&mut c, "k");
            let whole = closed(&body, version);
            let at = find(&body, &stored);
            // The server's own command believes its checksum; what it brings is looked at when it is read.
            c.ok(args!["RESTORE", "h", 0, &whole]);
            reads(&mut c, "h", &rows(size), encoding);
            let cut = closed(&[&body[..at + stored.len() - 1], &body[at + stored.len()..]].concat(), version);
            c.err(args!["RESTORE", "h", 0, cut, "REPLACE"], "ERR Bad data format");
            reads(&mut c, "h", &rows(size), encoding);
            c.cmd("EXPCACHE.DEL h");
        }
    }
    check(&mut c);
}
