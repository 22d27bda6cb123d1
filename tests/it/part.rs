//! `EXPCACHE.PART`: a payload that comes in pieces under a lease, and becomes an entry in one step, or nothing.

use crate::harness::{Conn, Random, Server, Stop, Value, args, check, wait_until, wait_until_settled};
use crate::large::*;
use crate::leases::*;

/// What all pieces take, as the server says.
#[track_caller]
fn taken(c: &mut Conn) -> i64 {
    c.info("expcache", "expcache_parts_bytes").parse().unwrap()
}

/// Waits until no pieces are left: nothing was lost on the way, nor kept.
#[track_caller]
fn all_gone(c: &mut Conn) {
    wait_until("no pieces are left", || taken(c) == 0);
}

/// Sends a payload in pieces of random sizes up to so many bytes; the token.
#[track_caller]
fn send(c: &mut Conn, key: &str, payload: &[u8], largest: usize) -> String {
    let token = lease(c, key);
    append(c, key, &token, payload, largest, 0);
    token
}

#[track_caller]
fn append(c: &mut Conn, key: &str, token: &str, payload: &[u8], largest: usize, before: usize) {
    let mut random = Random::new(payload.len() as u64);
    let mut sent = 0;
    while sent < payload.len() {
        let end = payload.len().min(sent + 1 + (random.next() % largest as u64) as usize);
        let held = c.int(args!["EXPCACHE.PART", key, token, &payload[sent..end]]);
        assert_eq!(held as usize, before + end);
        sent = end;
    }
}

fn store(key: &str, token: &str, last: &[u8], options: &str) -> Vec<Vec<u8>> {
    let mut words = args!["EXPCACHE.SET", key, last, "LEASE", token, "PARTS"];
    words.extend(options.split_whitespace().map(|word| word.as_bytes().to_vec()));
    words
}

// ---- pieces become a payload

#[test]
fn pieces_of_any_size_become_what_they_are_together() {
    let server = Server::start();
    for mut c in server.conns() {
        for codec in ["none", "auto", "gzip", "zstd", "lz4"] {
            c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", codec]);
            for (size, largest) in [(1, 1), (3_000, 1), (100 * KB, 3_000), (5 * MB + 77, 90 * KB), (3 * MB, 2 * MB)] {
                for (what, payload) in [("rows", rows(size)), ("noise", noise(size))] {
                    let what = format!("{what} of {size} bytes, {codec}");
                    let split = size - size / 3;
                    for last in [size, split] {
                        let token = send(&mut c, "k", &payload[..last], largest);
                        let whole = format!("TAGS 1 t HASH {}", etag(&payload));
                        c.ok(store("k", &token, &payload[last..], &whole));
                        reads(&mut c, "k", &payload, &what);
                        wait_until_settled(&mut c);
                        reads(&mut c, "k", &payload, &what);
                        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 1);
                    }
                }
            }
        }
        all_gone(&mut c);
        check(&mut c);
    }
}

#[test]
fn what_compresses_is_compressed_when_the_store_is_answered() {
    for (codec, expected) in [("auto", "gzip"), ("gzip", "gzip"), ("zstd", "zstd"), ("lz4", "lz4")] {
        let (_server, mut c) = server_with_codec(codec);
        let payload = rows(6 * MB);
        let token = send(&mut c, "k", &payload, 64 * KB);
        wait_until("it is compressed as it comes", || taken(&mut c) < 4 * MB as i64);
        c.ok(store("k", &token, b"", "FORMAT csv"));
        let (encoding, bytes) = kept(&mut c, "k");
        assert_eq!(encoding, expected, "no worker had the time since");
        assert!(bytes < payload.len() / 2);
        let (_, kept) = stored(&mut c, "k");
        same(&unpack(&encoding, &kept, payload.len()), &payload, "what others read");
        let part = c.map(args!["EXPCACHE.FETCH", "k", "RANGE", 3 * MB - 5, 10]);
        assert_eq!(part["value"], Value::bulk(&payload[3 * MB - 5..3 * MB + 5]));
        all_gone(&mut c);
        check(&mut c);
    }
}

#[test]
fn what_was_compressed_in_vain_is_undone() {
    let (_server, mut c) = server_with_codec("zstd");
    c.ok("EXPCACHE.TYPE SET plain CODEC none");
    c.ok("EXPCACHE.TYPE SET strict CODEC zstd VALIDATE yes");
    let mut payload = rows(4 * MB);
    payload.truncate(payload.iter().rposition(|byte| *byte == b'\n').unwrap() + 1);
    // Its type at the end compresses nothing.
    let token = send(&mut c, "k", &payload, 100 * KB);
    c.ok(store("k", &token, b"", "TYPE plain"));
    assert_eq!(kept(&mut c, "k").0, "identity");
    reads(&mut c, "k", &payload, "of a type that compresses nothing");
    c.cmd("EXPCACHE.DEL k");
    // It is looked into.
    let token = send(&mut c, "k", &payload, 100 * KB);
    c.ok(store("k", &token, b"", "TYPE strict FORMAT csv"));
    assert!(c.map("EXPCACHE.META k")["records"].int() > 1000);
    c.cmd("EXPCACHE.DEL k");
    let token = send(&mut c, "k", &payload, 100 * KB);
    c.err(store("k", &token, b"\"", "TYPE strict FORMAT csv"), "BADFORMAT");
    c.ok(store("k", &token, b"", "TYPE strict FORMAT csv"));
    reads(&mut c, "k", &payload, "validated");
    c.cmd("EXPCACHE.DEL k");
    // It looked as if it would get smaller, and did not.
    let mixed = [rows(MB), noise(12 * MB)].concat();
    let token = send(&mut c, "k", &mixed, 300 * KB);
    c.ok(store("k", &token, b"", ""));
    assert_eq!(kept(&mut c, "k").0, "identity");
    reads(&mut c, "k", &mixed, "mostly noise");
    c.cmd("EXPCACHE.DEL k");
    // The client has compressed it, of which nothing is known before the end.
    for encoding in ENCODINGS {
        let token = send(&mut c, "k", &pack(encoding, &payload), 100 * KB);
        c.err(store("k", &token, b"x", &format!("ENCODING {encoding}")), "BADENCODING");
        c.ok(store("k", &token, b"", &format!("ENCODING {encoding} HASH {}", etag(&payload))));
        reads(&mut c, "k", &payload, encoding);
        c.cmd("EXPCACHE.DEL k");
    }
    all_gone(&mut c);
    check(&mut c);
}

/// The lease of a key that has a fresh value, which is too old as soon as it is older than a moment.
#[track_caller]
fn lease_of_old(c: &mut Conn, key: &str) -> String {
    wait_until("it is older than a moment", || c.map(args!["EXPCACHE.META", key])["age"].int() > 0);
    granted(&c.map(args!["EXPCACHE.FETCH", key, "LEASE", LONG, "MAXAGE", 0]))
}

#[test]
fn without_pieces_the_payload_is_the_value() {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    c.ok(store("k", &token, b"v", ""));
    assert_eq!(c.bulk("EXPCACHE.GET k"), b"v");
    let token = lease_of_old(&mut c, "k");
    assert_eq!(c.int(args!["EXPCACHE.PART", "k", &token, ""]), 0);
    c.ok(store("k", &token, b"", ""));
    assert_eq!(c.bulk("EXPCACHE.GET k"), b"");
    // Without `PARTS` they go with the lease.
    let token = lease_of_old(&mut c, "k");
    c.int(args!["EXPCACHE.PART", "k", &token, "piece"]);
    c.ok(args!["EXPCACHE.SET", "k", "whole", "LEASE", &token]);
    assert_eq!(c.bulk("EXPCACHE.GET k"), b"whole");
    c.err("EXPCACHE.SET k v PARTS", "ERR syntax error");
    c.err("EXPCACHE.MSET 1 k v PARTS", "ERR syntax error");
    all_gone(&mut c);
    check(&mut c);
}

/// What comes behind the pieces is put together by the main thread, too.
#[test]
fn all_that_a_transaction_puts_together_is_bounded() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-decoded-at-once 64mb");
    let tokens = ["k1", "k2"].map(|key| send(&mut c, key, b"x", 1));
    let large = noise(40 * MB);
    c.ok("MULTI");
    for (key, token) in ["k1", "k2"].iter().zip(&tokens) {
        c.cmd(store(key, token, &large, ""));
    }
    let replies = c.cmd("EXEC");
    assert_eq!(replies.items()[0], Value::Simple("OK".into()));
    assert!(matches!(replies.items()[1], Value::Error(_)), "both");
    c.ok(store("k2", &tokens[1], &large, ""));
    all_gone(&mut c);
    check(&mut c);
}

#[test]
fn an_empty_piece_is_none() {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    assert_eq!(c.int(args!["EXPCACHE.PART", "k", &token, ""]), 0);
    assert_eq!(c.info("expcache", "expcache_parts_bytes"), "0");
    c.err(args!["EXPCACHE.PART", "k", "not-the-token-of-anybody", ""], "LEASELOST");
    check(&mut c);
}

#[test]
fn several_are_under_way_at_a_time() {
    let server = Server::start();
    let mut c = server.conn();
    let payloads: Vec<Vec<u8>> = (0..6).map(|n| rows(700 * KB + n)).collect();
    let tokens: Vec<String> = (0..6).map(|n| lease(&mut c, format!("k{n}"))).collect();
    for at in (0..700 * KB).step_by(50 * KB) {
        for (n, (payload, token)) in payloads.iter().zip(&tokens).enumerate() {
            let end = if at + 50 * KB >= 700 * KB { payload.len() } else { at + 50 * KB };
            c.int(args!["EXPCACHE.PART", format!("k{n}"), token, &payload[at..end]]);
        }
    }
    for (n, (payload, token)) in payloads.iter().zip(&tokens).enumerate() {
        c.ok(store(&format!("k{n}"), token, b"", "FORMAT csv"));
        reads(&mut c, &format!("k{n}"), payload, "one of six");
    }
    all_gone(&mut c);
    check(&mut c);
}

// ---- refused

#[test]
fn who_does_not_hold_the_lease_adds_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.int("SADD set a");
    let token = lease(&mut c, "k");
    assert_eq!(c.int(args!["EXPCACHE.PART", "k", &token, "abc"]), 3);
    for (key, by, prefix) in [
        ("k", NOBODYS, "LEASELOST"),
        ("k", "short", "LEASELOST"),
        ("other", &token, "LEASELOST"),
        ("set", &token, "WRONGTYPE"),
    ] {
        c.err(args!["EXPCACHE.PART", key, by, "x"], prefix);
    }
    c.ok("SELECT 1");
    c.err(args!["EXPCACHE.PART", "k", &token, "x"], "LEASELOST");
    c.ok("SELECT 0");
    c.err("EXPCACHE.PART k", "ERR wrong number of arguments");
    assert_eq!(c.int(args!["EXPCACHE.PART", "k", &token, ""]), 3);
    c.ok(store("k", &token, b"d", ""));
    assert_eq!(c.bulk("EXPCACHE.GET k"), b"abcd");
    all_gone(&mut c);
    check(&mut c);
}

#[test]
fn a_store_that_is_refused_leaves_the_pieces() {
    for codec in ["none", "gzip", "zstd", "lz4"] {
        let (_server, mut c) = server_with_codec(codec);
        c.ok("EXPCACHE.TYPE SET small MAXVALUE 1mb");
        c.ok("EXPCACHE.TYPE SET csv FORMATS 1 csv");
        c.ok("EXPCACHE.TYPE SET one PERTAG t 1 reject");
        c.ok("EXPCACHE.SET taken v TYPE one TAGS 1 t");
        for size in [3 * KB, 2 * MB + 5] {
            let payload = rows(size);
            let token = send(&mut c, "k", &payload, 100 * KB);
            let refusals = [
                ("HASH 00000000000000000000000000000000", "HASHMISMATCH"),
                ("TYPE csv FORMAT json", "BADFORMAT"),
                ("TYPE one TAGS 1 t", "TAGLIMIT"),
                ("EX 0", "ERR invalid expire"),
                ("META no", "ERR META"),
                ("ENCODING gzip", "BADENCODING"),
            ];
            // What was compressed is decompressed before it is back.
            let back = |c: &mut Conn| {
                let all = Value::Int(size as i64);
                wait_until("they are back", || c.cmd(args!["EXPCACHE.PART", "k", &token, ""]) == all);
            };
            for (options, prefix) in refusals {
                c.err(store("k", &token, b"end", options), prefix);
                c.nil("EXPCACHE.META k");
                back(&mut c);
            }
            if size > MB {
                c.err(store("k", &token, b"end", "TYPE small"), "TOOLARGE");
                back(&mut c);
            }
            for condition in ["XX", "IFMATCH 00000000000000000000000000000000"] {
                c.nil(store("k", &token, b"end", condition));
                back(&mut c);
            }
            // More may come even now.
            append(&mut c, "k", &token, b"more", 2, size);
            c.ok(store("k", &token, b"end", ""));
            reads(&mut c, "k", &[&payload[..], b"moreend"].concat(), codec);
            c.cmd("EXPCACHE.DEL k");
        }
        all_gone(&mut c);
        check(&mut c);
    }
}

#[test]
fn pieces_are_bounded() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET small MAXVALUE 10kb");
    // By the type in the key's name; the store decides.
    let token = lease(&mut c, "small:1");
    assert_eq!(c.int(args!["EXPCACHE.PART", "small:1", &token, noise(10 * KB)]), 10 * KB as i64);
    c.err(args!["EXPCACHE.PART", "small:1", &token, "x"], "TOOLARGE");
    c.err(store("small:1", &token, b"x", ""), "TOOLARGE");
    wait_until("they are back", || c.cmd(args!["EXPCACHE.PART", "small:1", &token, ""]) == Value::Int(10 * KB as i64));
    c.ok(store("small:1", &token, b"x", "TYPE default"));
    // By the memory of all.
    c.cmd("CONFIG SET expcache.parts-memory 3mb");
    let tokens = ["a", "b", "c"].map(|key| lease(&mut c, key));
    c.int(args!["EXPCACHE.PART", "a", &tokens[0], noise(MB)]);
    c.int(args!["EXPCACHE.PART", "b", &tokens[1], noise(MB)]);
    c.err(args!["EXPCACHE.PART", "c", &tokens[2], noise(MB)], "TOOLARGE unfinished payloads");
    assert!(taken(&mut c) <= 3 * MB as i64);
    c.int(args!["EXPCACHE.RELEASE", "a", &tokens[0]]);
    wait_until("there is room", || taken(&mut c) < 2 * MB as i64);
    c.int(args!["EXPCACHE.PART", "c", &tokens[2], noise(MB)]);
    c.ok(store("b", &tokens[1], b"", ""));
    c.cmd("CONFIG SET expcache.parts-memory 0");
    c.err(args!["EXPCACHE.PART", "c", &tokens[2], "x"], "TOOLARGE");
    c.err(args!["EXPCACHE.PART", "c", &tokens[2], ""], "TOOLARGE");
    c.ok(store("c", &tokens[2], b"", ""));
    reads(&mut c, "c", &noise(MB), "what was there before");
    all_gone(&mut c);
    check(&mut c);
}

#[test]
fn there_are_no_pieces_of_more_than_512_mb() {
    let server = Server::start();
    let mut c = server.conn();
    c.cmd("CONFIG SET expcache.parts-memory 1gb");
    let token = lease(&mut c, "k");
    let piece = vec![b'x'; 64 * MB];
    for n in 1..=8 {
        assert_eq!(c.int(args!["EXPCACHE.PART", "k", &token, &piece]), n * 64 * MB as i64);
    }
    c.err(args!["EXPCACHE.PART", "k", &token, "x"], "TOOLARGE");
    c.err(store("k", &token, b"x", ""), "TOOLARGE");
    c.ok(store("k", &token, b"", ""));
    assert_eq!(c.map("EXPCACHE.FETCH k RANGE 0 1")["size"], 512 * MB as i64);
    all_gone(&mut c);
    check(&mut c);
}

/// Who is at `maxmemory` and may evict nothing takes no pieces; where there is something to be evicted, pieces make it go.
#[test]
fn pieces_count_as_memory() {
    let server = Server::with(&["--maxmemory", "40mb"]);
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    let mut sent = 0;
    let refused = loop {
        match c.cmd(args!["EXPCACHE.PART", "k", &token, noise(MB)]) {
            Value::Int(_) => sent += 1,
            refused => break refused,
        }
    };
    assert!(matches!(&refused, Value::Error(text) if text.starts_with("OOM")), "{refused}");
    assert!((10..40).contains(&sent), "{sent}");
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "k", &token]), 1);
    all_gone(&mut c);
    wait_until("there is room", || matches!(c.cmd("SET native v"), Value::Simple(_)));
    c.cmd("CONFIG SET maxmemory-policy allkeys-lru");
    for n in 0..30 {
        c.ok(args!["EXPCACHE.SET", format!("old:{n}"), noise(MB)]);
    }
    let token = send(&mut c, "k", &noise(9 * MB), 100 * KB);
    c.ok(store("k", &token, b"", ""));
    assert!(c.info("stats", "evicted_keys").parse::<i64>().unwrap() > 0);
    check(&mut c);
}

// ---- they go with the lease

#[test]
fn pieces_go_with_their_lease_however_it_ends() {
    type Ending = (&'static str, fn(&mut Conn, &str));
    let endings: [Ending; 9] = [
        ("released", |c, token| assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token]), 1)),
        ("failed", |c, token| {
            assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", token, "FAIL", "x", "BACKOFF", "1h"]), 1)
        }),
        ("over", |c, token| {
            assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "k", token, 1]), 1);
            wait_until("it is over", || matches!(c.cmd(args!["EXPCACHE.PART", "k", token, ""]), Value::Error(_)));
        }),
        ("stored by another", |c, _| c.ok("EXPCACHE.SET k other")),
        ("deleted", |c, _| drop(c.cmd("EXPCACHE.DEL k"))),
        ("flushed", |c, _| c.ok("FLUSHDB")),
        ("all flushed", |c, _| c.ok("FLUSHALL ASYNC")),
        ("swapped", |c, _| c.ok("SWAPDB 0 1")),
        ("fenced", |c, token| {
            c.cmd("EXPCACHE.CLEAR");
            c.err(store("k", token, b"", ""), "FENCED");
        }),
    ];
    for codec in ["none", "gzip"] {
        let (_server, mut c) = server_with_codec(codec);
        for (how, end) in endings {
            for size in [1, 100 * KB, 4 * MB] {
                let token = send(&mut c, "k", &rows(size), 70 * KB);
                end(&mut c, &token);
                c.err(args!["EXPCACHE.PART", "k", &token, "x"], "LEASELOST");
                c.err(store("k", &token, b"", ""), "LEASELOST");
                wait_until(how, || taken(&mut c) == 0);
                c.cmd("EXPCACHE.DEL k");
            }
        }
        check(&mut c);
    }
}

/// The next holder begins with nothing.
#[test]
fn who_gets_the_lease_next_has_none_of_them() {
    let server = Server::start();
    let mut c = server.conn();
    let token = send(&mut c, "k", &rows(100 * KB), 70 * KB);
    let mut waiter = server.conn();
    let id = waiter.int("CLIENT ID");
    waiter.send(args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "WAIT", "1h"]).unwrap();
    wait_until("it waits", || c.text(args!["CLIENT", "LIST", "ID", id]).contains(" flags=b "));
    assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", &token]), 1);
    let next = granted(&waiter.receive().unwrap().fields());
    assert_eq!(c.int(args!["EXPCACHE.PART", "k", &next, "x"]), 1);
    c.ok(store("k", &next, b"y", ""));
    assert_eq!(c.bulk("EXPCACHE.GET k"), b"xy");
    all_gone(&mut c);
    check(&mut c);
}

/// Who asks again with the token that holds the lease goes on where it was.
#[test]
fn pieces_survive_a_lost_connection() {
    let server = Server::start();
    let mut c = server.conn();
    let own = "a token of the client's own making";
    c.cmd(args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", own]);
    assert_eq!(c.int(args!["EXPCACHE.PART", "k", own, "abc"]), 3);
    let mut again = server.conn();
    assert_eq!(granted(&again.map(args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", own])), own);
    assert_eq!(again.int(args!["EXPCACHE.PART", "k", own, ""]), 3);
    again.ok(store("k", own, b"def", ""));
    assert_eq!(c.bulk("EXPCACHE.GET k"), b"abcdef");
    check(&mut c);
}

// ---- while others are at it

/// While a worker puts them together nobody else stores them, and what happens to the lease meanwhile decides.
#[test]
fn what_happens_while_a_worker_puts_them_together() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        c.ok("EXPCACHE.TYPE SET default CODEC none");
        let payload = rows(MB);
        let keys = ["stays", "deleted", "fenced", "stored"];
        let tokens: Vec<String> = keys.iter().map(|key| send(&mut c, key, &payload, 100 * KB)).collect();
        occupy(&mut c, 2);
        let mut waiting: Vec<Conn> = Vec::new();
        for (key, token) in keys.iter().zip(&tokens) {
            let mut client = server.conn();
            let id = client.int("CLIENT ID");
            client.send(store(key, token, b"", "TAGS 1 t")).unwrap();
            wait_until_blocked(&mut c, id);
            c.err(args!["EXPCACHE.PART", key, token, "x"], "TRYAGAIN");
            c.err(store(key, token, b"", ""), "TRYAGAIN");
            waiting.push(client);
        }
        // Who goes does not take the store along.
        drop(waiting.remove(0));
        c.cmd("EXPCACHE.DEL deleted");
        c.ok("EXPCACHE.SET stored newer");
        c.cmd("EXPCACHE.PURGE MATCH fenced");
        still_occupied(&mut c);
        for (client, prefix) in waiting.iter_mut().zip(["LEASELOST", "FENCED", "LEASELOST"]) {
            let reply = client.receive().unwrap();
            assert!(matches!(&reply, Value::Error(text) if text.starts_with(prefix)), "{prefix}: {reply}");
        }
        wait_until_settled(&mut c);
        reads(&mut c, "stays", &payload, "whose client went");
        assert_eq!(c.bulk("EXPCACHE.GET stored"), b"newer");
        c.nil("EXPCACHE.GET deleted");
        all_gone(&mut c);
        check(&mut c);
    });
}

#[test]
fn without_workers_everything_is_done_at_once() {
    let server = Server::load(&["workers", "0"], &[]).unwrap();
    let mut c = server.conn();
    for codec in ["none", "gzip"] {
        c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", codec]);
        let payload = rows(2 * MB);
        let token = send(&mut c, "k", &payload, 100 * KB);
        c.ok(store("k", &token, b"", &format!("HASH {}", etag(&payload))));
        reads(&mut c, "k", &payload, codec);
        c.cmd("EXPCACHE.DEL k");
    }
    all_gone(&mut c);
    check(&mut c);
}

// ---- transactions and scripts

#[test]
fn in_transactions_and_scripts() {
    for codec in ["none", "gzip"] {
        let (_server, mut c) = server_with_codec(codec);
        let (first, last) = (rows(2 * MB), rows(100 * KB));
        let token = send(&mut c, "k", &first, 100 * KB);
        let replies = c.transaction([
            args!["EXPCACHE.PART", "k", &token, &last],
            store("k", &token, b"", "TYPE none XX"),
            store("k", &token, b"end", "TAGS 1 t"),
            args!["EXPCACHE.PART", "k", &token, "late"],
        ]);
        assert_eq!(replies[0], Value::Int((first.len() + last.len()) as i64));
        assert_eq!((&replies[1], &replies[2]), (&Value::Nil, &Value::Simple("OK".into())));
        assert!(matches!(&replies[3], Value::Error(text) if text.starts_with("LEASELOST")));
        reads(&mut c, "k", &[&first[..], &last, b"end"].concat(), codec);
        let token = lease_of_old(&mut c, "k");
        let script = "for n = 1, 300 do redis.call('EXPCACHE.PART', KEYS[1], ARGV[1], ARGV[2]) end \
                      return redis.call('EXPCACHE.SET', KEYS[1], '', 'LEASE', ARGV[1], 'PARTS')";
        let piece = rows(1000);
        c.ok(args!["EVAL", script, 1, "k", &token, &piece]);
        reads(&mut c, "k", &piece.repeat(300), codec);
        all_gone(&mut c);
        check(&mut c);
    }
}

#[test]
fn a_transaction_puts_no_more_than_64_mib_together() {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    let piece = noise(33 * MB);
    c.int(args!["EXPCACHE.PART", "k", &token, &piece]);
    c.int(args!["EXPCACHE.PART", "k", &token, &piece]);
    let replies = c.transaction([store("k", &token, b"", "")]);
    assert!(matches!(&replies[0], Value::Error(text) if text.starts_with("TOOLARGE")), "{:?}", replies[0]);
    c.ok(store("k", &token, b"", ""));
    same(&c.bulk("EXPCACHE.GET k"), &piece.repeat(2), "by itself");
    all_gone(&mut c);
    check(&mut c);
}

// ---- replicas, files, forks

/// What is replicated is what was stored, whatever it was put together of.
#[test]
fn replicas_and_files_get_the_payload() {
    for preamble in ["yes", "no"] {
        let settings = ["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", preamble];
        let (mut server, replica) = (Server::with(&settings), Server::start());
        replica.replica_of(&server);
        let mut c = server.conn();
        c.ok("EXPCACHE.TYPE SET packed CODEC zstd");
        let payloads = [("plain", rows(KB)), ("plain2", noise(3 * MB)), ("packed:1", rows(3 * MB))];
        for (key, payload) in &payloads {
            let token = send(&mut c, key, payload, 100 * KB);
            c.ok(store(key, &token, b"", "TAGS 1 t"));
        }
        let unfinished = send(&mut c, "unfinished", &rows(MB), 100 * KB);
        // Nothing of it is written, nor in the way of a child that writes.
        wait_until("no child saves", || c.info("persistence", "rdb_bgsave_in_progress") == "0");
        c.cmd("BGREWRITEAOF");
        wait_until("it is rewritten", || c.info("persistence", "aof_rewrite_in_progress") == "0");
        c.ok("SAVE");
        replica.wait_for_sync(&server);
        let mut r = replica.conn();
        for (key, payload) in &payloads {
            reads(&mut r, key, payload, "a replica's");
            assert_eq!(c.cmd(args!["DEBUG", "DIGEST-VALUE", key]), r.cmd(args!["DEBUG", "DIGEST-VALUE", key]));
        }
        becomes(&mut r, "packed:1", "zstd");
        r.err(args!["EXPCACHE.PART", "unfinished", &unfinished, "x"], "LEASELOST");
        check(&mut r);
        c.ok(store("unfinished", &unfinished, b"", ""));
        reads(&mut c, "unfinished", &rows(MB), "it went on");
        drop(c);
        server.restart(Stop::Kill);
        let mut c = server.conn();
        for (key, payload) in &payloads {
            reads(&mut c, key, payload, "of the file");
        }
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 3);
        check(&mut c);
    }
}

#[test]
fn a_master_that_becomes_a_replica_has_no_pieces_left() {
    let (server, other) = (Server::start(), Server::start());
    let mut c = server.conn();
    let token = send(&mut c, "k", &rows(MB), 100 * KB);
    server.replica_of(&other);
    all_gone(&mut c);
    c.err(args!["EXPCACHE.PART", "k", &token, "x"], "LEASELOST");
    c.ok("REPLICAOF NO ONE");
    c.err(args!["EXPCACHE.PART", "k", &token, "x"], "LEASELOST");
    check(&mut c);
}

// ---- hostile

/// A byte costs a byte, however it comes.
#[test]
fn a_million_pieces_of_a_byte() {
    let server = Server::start();
    let mut c = server.conn();
    let token = lease(&mut c, "k");
    let before = memory(&mut c, "used_memory");
    for n in 1..=100 {
        let replies = c.pipeline((0..10_000).map(|n| args!["EXPCACHE.PART", "k", &token, vec![n as u8]]));
        assert_eq!(replies.last(), Some(&Value::Int(n * 10_000)));
    }
    assert!(taken(&mut c) < 2 * MB as i64);
    assert!(memory(&mut c, "used_memory") - before < 8 * MB as i64, "buffers of clients and workers included");
    c.ok(store("k", &token, b"", ""));
    let payload: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    reads(&mut c, "k", &payload.repeat(100), "in bytes");
    all_gone(&mut c);
    check(&mut c);
}

/// Of many that nobody finishes nothing is left when their time is over.
#[test]
fn many_that_nobody_finishes() {
    let server = Server::start();
    let mut c = server.conn();
    let tokens: Vec<String> = (0..20_000).map(|n| format!("a token as good as any: {n:09}")).collect();
    c.pipeline(
        tokens
            .iter()
            .enumerate()
            .map(|(n, token)| args!["EXPCACHE.FETCH", format!("k{n}"), "LEASE", LONG, "TOKEN", token]),
    );
    let replies =
        c.pipeline(tokens.iter().enumerate().map(|(n, token)| args!["EXPCACHE.PART", format!("k{n}"), token, "abc"]));
    assert!(replies.iter().all(|reply| *reply == Value::Int(3)));
    assert!((20_000 * 3..20_000 * 1_000).contains(&taken(&mut c)), "{}", taken(&mut c));
    c.ok("FLUSHALL");
    all_gone(&mut c);
    check(&mut c);
}

/// A lease that is lost again and again takes its pieces along, though workers were about to compress them.
#[test]
fn leases_lost_with_pieces_that_workers_have() {
    let (_server, mut c) = server_with_codec("gzip");
    let payload = rows(MB);
    let before = memory(&mut c, "used_memory");
    for n in 0..200 {
        let key = format!("k{n}");
        let token = send(&mut c, &key, &payload, 300 * KB);
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", &key, &token]), 1);
    }
    all_gone(&mut c);
    wait_until_settled(&mut c);
    wait_until("it is freed", || memory(&mut c, "used_memory") - before < 8 * MB as i64);
    check(&mut c);
}

/// The payload is never twice in the server's memory.
#[test]
fn memory_is_that_of_the_payload() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC none");
    let payload = noise(64 * MB);
    c.ok("CONFIG RESETSTAT");
    let before = memory(&mut c, "used_memory");
    let token = lease(&mut c, "k");
    for piece in payload.chunks(64 * KB) {
        c.int(args!["EXPCACHE.PART", "k", &token, piece]);
    }
    c.ok(store("k", &token, b"", ""));
    let most = memory(&mut c, "used_memory_peak") - before;
    assert!(most < 71 * MB as i64, "{} MiB", most >> 20);
    same(&c.bulk("EXPCACHE.GET k"), &payload, "64 MiB");
    all_gone(&mut c);
    check(&mut c);
}

/// What a refused store brought itself counts as nobody's memory, so it is not kept.
#[test]
fn what_came_with_a_refused_store_is_not_kept() {
    for codec in ["none", "gzip"] {
        let (_server, mut c) = server_with_codec(codec);
        let before = memory(&mut c, "used_memory");
        for n in 0..20 {
            let key = format!("k{n}");
            let piece = rows(1 + n * 10 * KB);
            let token = send(&mut c, &key, &piece, 30 * KB);
            c.nil(store(&key, &token, &noise(5 * MB), "XX"));
            let all = Value::Int(piece.len() as i64);
            wait_until("they are back", || c.cmd(args!["EXPCACHE.PART", &key, &token, ""]) == all);
        }
        wait_until_settled(&mut c);
        wait_until("it is freed", || memory(&mut c, "used_memory") - before < 12 * MB as i64);
        let sent: usize = (0..20).map(|n| 1 + n * 10 * KB).sum();
        assert!((sent..sent * 2).contains(&(taken(&mut c) as usize)), "{}", taken(&mut c));
        c.ok("FLUSHALL");
        all_gone(&mut c);
        check(&mut c);
    }
}

/// What was read before an invalidation is not stored under a lease that was given after it, though its token is the same.
#[test]
fn a_lease_of_the_same_token_is_another() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        c.ok("EXPCACHE.TYPE SET default CODEC none");
        let ask = args!["EXPCACHE.FETCH", "k", "LEASE", LONG, "TOKEN", NOBODYS];
        c.map(ask.clone());
        append(&mut c, "k", NOBODYS, &rows(MB), 100 * KB, 0);
        occupy(&mut c, 1);
        let mut client = server.conn();
        let id = client.int("CLIENT ID");
        client.send(store("k", NOBODYS, b"", "TAGS 1 t")).unwrap();
        wait_until_blocked(&mut c, id);
        c.cmd("EXPCACHE.INVALIDATE.TAG t");
        assert_eq!(c.cmd(args!["EXPCACHE.RELEASE", "k", NOBODYS]), 1);
        assert_eq!(granted(&c.map(ask)), NOBODYS);
        assert_eq!(c.int(args!["EXPCACHE.PART", "k", NOBODYS, "newer"]), 5);
        still_occupied(&mut c);
        let reply = client.receive().unwrap();
        assert!(matches!(&reply, Value::Error(text) if text.starts_with("LEASELOST")), "{reply}");
        c.ok(store("k", NOBODYS, b"", "TAGS 1 t"));
        assert_eq!(c.bulk("EXPCACHE.GET k"), b"newer");
        all_gone(&mut c);
        check(&mut c);
    });
}

/// As what comes in one piece, it decodes to no more than the server is told, and in a transaction to no more than 64 MiB.
#[test]
fn pieces_that_decode_to_much() {
    let server = Server::start();
    let mut c = server.conn();
    for encoding in ENCODINGS {
        let token = send(&mut c, "k", &pack(encoding, &vec![b'x'; 100 * MB]), 30 * KB);
        let encoded = format!("ENCODING {encoding}");
        if encoding == "zstd" {
            c.err(store("k", &token, b"", &encoded), "TOOLARGE it decodes");
        }
        c.cmd("CONFIG SET expcache.max-ratio 0");
        let replies = c.transaction([store("k", &token, b"", &encoded)]);
        assert!(matches!(&replies[0], Value::Error(text) if text.starts_with("TOOLARGE a trans")), "{:?}", replies[0]);
        c.ok(store("k", &token, b"", &encoded));
        assert_eq!(c.map("EXPCACHE.META k")["size"], 100 * MB as i64);
        c.cmd("CONFIG SET expcache.max-ratio 250");
        c.cmd("EXPCACHE.DEL k");
    }
    all_gone(&mut c);
    check(&mut c);
}

/// What the server itself compresses may become as small as it likes, and comes back.
#[test]
fn pieces_that_compress_to_nothing() {
    let (_server, mut c) = server_with_codec("zstd");
    let payload = vec![b'x'; 64 * MB];
    let token = lease(&mut c, "k");
    for piece in payload.chunks(MB) {
        c.int(args!["EXPCACHE.PART", "k", &token, piece]);
    }
    c.ok(store("k", &token, b"", ""));
    wait_until_settled(&mut c);
    assert!(kept(&mut c, "k").1 < MB);
    reads(&mut c, "k", &payload, "64 MiB of one byte");
    c.cmd("DEBUG RELOAD");
    reads(&mut c, "k", &payload, "loaded again");
    all_gone(&mut c);
    check(&mut c);
}

/// The whole database goes, or the server's role, while a worker puts pieces together.
#[test]
fn what_ends_all_leases_meanwhile() {
    in_time(|| {
        let other = Server::start();
        for end in ["FLUSHALL", "DEBUG RELOAD", "REPLICAOF"] {
            let (server, mut c) = one_worker(&[]);
            c.ok("EXPCACHE.TYPE SET default CODEC none");
            let token = send(&mut c, "k", &rows(MB), 100 * KB);
            let gathering = send(&mut c, "gathering", &rows(300 * KB), 100 * KB);
            occupy(&mut c, 1);
            let mut client = server.conn();
            let id = client.int("CLIENT ID");
            client.send(store("k", &token, b"", "")).unwrap();
            wait_until_blocked(&mut c, id);
            match end {
                "REPLICAOF" => c.ok(args!["REPLICAOF", "127.0.0.1", other.port()]),
                end => c.ok(end),
            }
            if end != "DEBUG RELOAD" {
                still_occupied(&mut c);
            }
            let reply = client.receive().unwrap();
            let expected = if end == "REPLICAOF" { "UNBLOCKED" } else { "LEASELOST" };
            assert!(matches!(&reply, Value::Error(text) if text.starts_with(expected)), "{end}: {reply}");
            if end == "REPLICAOF" {
                c.ok("REPLICAOF NO ONE");
            }
            wait_until_settled(&mut c);
            c.err(args!["EXPCACHE.PART", "gathering", &gathering, "x"], "LEASELOST");
            c.nil("EXPCACHE.META k");
            all_gone(&mut c);
            check(&mut c);
        }
    });
}

/// The store waits as any that a worker has a part in.
#[test]
fn while_nothing_may_be_written() {
    let server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    let payload = rows(3 * MB);
    let token = send(&mut c, "k", &payload, 100 * KB);
    let mut client = server.conn();
    c.ok("CLIENT PAUSE 3600000 WRITE");
    // It writes nothing.
    append(&mut c, "k", &token, &payload, 100 * KB, payload.len());
    client.send(store("k", &token, b"", "")).unwrap();
    c.ok("CLIENT UNPAUSE");
    assert_eq!(client.receive().unwrap(), Value::Simple("OK".into()));
    reads(&mut c, "k", &payload.repeat(2), "after the pause");
    all_gone(&mut c);
    check(&mut c);
}
