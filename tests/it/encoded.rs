//! What clients bring along: payloads that they have compressed, and what they say of them (`ENCODING`, `HASH`, `VALIDATE`, the limits of
//! their type). It is kept as it came, or refused as a whole and in bounded memory.

use crate::harness::{Conn, Random, Server, Value, args, check, refused, wait_until_settled};
use crate::large::*;

/// One for the main thread, one for a worker.
const SIZES: [usize; 2] = [3 * KB, 700 * KB];

/// Asserts that the command is refused. What is there stays, by its etag: everything else about it would be checked by a worker anew.
#[track_caller]
fn leaves(c: &mut Conn, command: Vec<Vec<u8>>, prefix: &str) {
    let changes = c.info("persistence", "rdb_changes_since_last_save");
    let before = c.cmd("DEBUG DIGEST");
    c.err(command, prefix);
    assert_eq!(c.cmd("DEBUG DIGEST"), before, "changed by a refused command");
    assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
}

// ---- as it came

#[test]
fn what_came_encoded_is_kept_as_it_came() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC lz4");
    for payload in SIZES.into_iter().flat_map(|size| [rows(size), noise(size)]).chain([vec![], vec![b'x']]) {
        for encoding in ENCODINGS {
            let packed = pack(encoding, &payload);
            let what = format!("{encoding} of {} bytes", payload.len());
            c.ok(args!["EXPCACHE.SET", "k", &packed, "ENCODING", encoding.to_uppercase(), "TAGS", 1, "t"]);
            wait_until_settled(&mut c);
            assert_eq!(kept(&mut c, "k"), (encoding.to_string(), packed.len()), "{what}");
            same(&stored(&mut c, "k").1, &packed, &what);
            reads(&mut c, "k", &payload, &what);
            assert_eq!(c.map("EXPCACHE.META k")["size"], payload.len() as i64);
        }
        c.ok(args!["EXPCACHE.SET", "k", &payload, "ENCODING", "identity"]);
        reads(&mut c, "k", &payload, "identity");
    }
    assert_eq!(c.map("EXPCACHE.STATS")["sets"].int(), 6 * 4);
    check(&mut c);
}

#[test]
fn several_streams_behind_each_other_are_one_payload() {
    let (_server, mut c) = server_with_codec("none");
    for size in SIZES {
        let (first, second) = (rows(size), noise(1000));
        let payload = [&first[..], &second].concat();
        for encoding in ENCODINGS {
            let packed = [pack(encoding, &first), pack(encoding, &second)].concat();
            c.ok(args!["EXPCACHE.SET", "k", &packed, "ENCODING", encoding, "HASH", etag(&payload)]);
            reads(&mut c, "k", &payload, encoding);
            let part = c.map(args!["EXPCACHE.FETCH", "k", "RANGE", size - 5, 10]);
            assert_eq!(part["value"], Value::bulk(&payload[size - 5..size + 5]));
        }
    }
}

#[test]
fn many_keys_at_once() {
    let (_server, mut c) = server_with_codec("none");
    for size in SIZES {
        let (a, b) = (rows(size), rows(size + 1));
        c.ok(args!["EXPCACHE.MSET", 2, "a", gzip(&a), "b", gzip(&b), "ENCODING", "gzip", "FORMAT", "csv"]);
        reads(&mut c, "a", &a, "one of two");
        reads(&mut c, "b", &b, "the other");
        for bad in [args!["a", "no gzip", "b", gzip(&b)], args!["a", gzip(&b), "b", "no gzip"]] {
            leaves(&mut c, [args!["EXPCACHE.MSET", 2], bad, args!["ENCODING", "gzip"]].concat(), "BADENCODING");
        }
        c.nil(args!["EXPCACHE.MSET", 2, "c", gzip(&a), "a", gzip(&b), "ENCODING", "gzip", "NX"]);
        c.nil("EXPCACHE.META c");
        c.ok(args!["EXPCACHE.MSET", 2, "a", &a, "b", &b]);
        reads(&mut c, "a", &a, "one of two");
        reads(&mut c, "b", &b, "the other");
    }
    check(&mut c);
}

// ---- broken

#[test]
fn what_is_broken_is_refused() {
    let (_server, mut c) = server_with_codec("none");
    c.ok("EXPCACHE.SET k v TAGS 1 t");
    let mut random = Random::new(1);
    for size in SIZES {
        for encoding in ENCODINGS {
            let packed = pack(encoding, &rows(size));
            let set = |bytes: &[u8]| args!["EXPCACHE.SET", "k", bytes, "ENCODING", encoding];
            // An LZ4 frame and a gzip end with what can be told to be missing; so does each zstd frame.
            for cut in [0, 1, 4, 10, packed.len() / 2, packed.len() - 5, packed.len() - 1] {
                leaves(&mut c, set(&packed[..cut]), "BADENCODING");
            }
            for rest in [&b"x"[..], b"\0", &packed[..20], &[0; 100]] {
                leaves(&mut c, set(&[&packed, rest].concat()), "BADENCODING");
            }
            for other in ENCODINGS.into_iter().filter(|other| *other != encoding) {
                leaves(&mut c, set(&pack(other, &rows(size))), "BADENCODING");
            }
            leaves(&mut c, set(&rows(size)), "BADENCODING");
            leaves(&mut c, set(&noise(size)), "BADENCODING");
            // A changed byte is refused, or (where there is no checksum) makes another payload; with a hash it never does.
            for _ in 0..20 {
                let mut changed = packed.clone();
                changed[random.below(packed.len())] ^= 1 << random.below(8);
                let words = [set(&changed), args!["HASH", etag(&rows(size))]].concat();
                if c.cmd(words) == Value::Simple("OK".into()) {
                    reads(&mut c, "k", &rows(size), "a byte that does not matter");
                    c.ok("EXPCACHE.SET k v TAGS 1 t");
                }
            }
        }
    }
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    check(&mut c);
}

/// A gzip of ours says where its parts begin. One from elsewhere may say it wrongly, and be sound otherwise.
#[test]
fn parts_that_begin_elsewhere_are_refused() {
    let (_server, mut c) = server_with_codec("gzip");
    let payload = rows(700 * KB);
    c.ok(args!["EXPCACHE.SET", "k", &payload]);
    wait_until_settled(&mut c);
    let packed = stored(&mut c, "k").1;
    let set = |bytes: &[u8]| args!["EXPCACHE.SET", "k", bytes, "ENCODING", "gzip"];
    let mut lying = packed.clone();
    assert_eq!(lying[12..14], *b"XC");
    // The third part begins where the second does.
    lying[20..24].fill(0);
    leaves(&mut c, set(&lying), "BADENCODING");
    // What leads nowhere is not believed.
    lying[20..24].fill(9);
    lying[16..20].fill(9);
    for bytes in [&packed, &lying] {
        c.ok(set(bytes));
        for words in [vec![], args!["VERIFY"]] {
            let part = c.map([args!["EXPCACHE.FETCH", "k", "RANGE", 600 * KB, 100], words].concat());
            same(part["value"].as_bytes(), &payload[600 * KB..][..100], "of the third part");
        }
    }
}

#[test]
fn an_encoding_that_is_none_is_refused() {
    let (_server, mut c) = server_with_codec("none");
    for options in ["ENCODING", "ENCODING br", "ENCODING gzip ENCODING gzip", "ENCODING 1"] {
        refused(&mut c, &format!("EXPCACHE.SET k v {options}"), "ERR");
    }
}

// ---- bombs

/// A payload of so many MiB of nothing, in a few KiB.
fn bomb(encoding: &str, megabytes: usize) -> Vec<u8> {
    pack(encoding, &vec![0; 16 * MB]).repeat(megabytes / 16)
}

#[test]
fn a_bomb_is_refused_in_bounded_memory() {
    let (_server, mut c) = server_with_codec("none");
    c.ok("EXPCACHE.TYPE SET small MAXVALUE 100mb");
    c.ok("EXPCACHE.TYPE SET checked MAXVALUE 20mb VALIDATE yes");
    let bombs = ENCODINGS.map(|encoding| (encoding, bomb(encoding, 1024)));
    let before = memory(&mut c, "used_memory");
    for (encoding, bomb) in &bombs {
        assert!(bomb.len() < 10 * MB, "{encoding}: {}", bomb.len());
        for kind in ["default", "small"] {
            c.err(args!["EXPCACHE.SET", "k", bomb, "ENCODING", encoding, "TYPE", kind], "TOOLARGE");
        }
        c.err(args!["EXPCACHE.MSET", 1, "k", bomb, "ENCODING", encoding, "TYPE", "small"], "TOOLARGE");
        let words = args!["EXPCACHE.SET", "k", bomb, "ENCODING", encoding, "TYPE", "small"];
        assert!(matches!(&c.transaction([words])[0], Value::Error(text) if text.starts_with("TOOLARGE")));
    }
    let peak = memory(&mut c, "used_memory_peak") - before;
    assert!(peak < 30 * MB as i64, "{peak}");
    // What is to be read as a whole is held as a whole, but no more of it than the type allows.
    for (encoding, bomb) in &bombs {
        let words = args!["EXPCACHE.SET", "k", bomb, "ENCODING", encoding, "TYPE", "checked", "FORMAT", "json"];
        c.err(words, "TOOLARGE");
    }
    let peak = memory(&mut c, "used_memory_peak") - before;
    assert!(peak < 70 * MB as i64, "{peak}");
    c.nil("EXPCACHE.META k");
    assert_eq!(c.map("EXPCACHE.STATS TYPE small")["rejected"], 9);
    check(&mut c);
}

/// 512 MB of payload are allowed, and not a byte more.
#[test]
fn half_a_gigabyte_is_the_most() {
    let (_server, mut c) = server_with_codec("none");
    allow_bombs(&mut c);
    let most = bomb("zstd", 512);
    let more = [&most[..], &zstd(b"x")].concat();
    c.err(args!["EXPCACHE.SET", "k", &more, "ENCODING", "zstd"], "TOOLARGE");
    c.ok(args!["EXPCACHE.SET", "k", &most, "ENCODING", "zstd"]);
    assert_eq!(c.map("EXPCACHE.META k")["size"], 512 * MB as i64);
    let part = c.map(args!["EXPCACHE.FETCH", "k", "RANGE", 512 * MB - 3, 10]);
    assert_eq!(part["value"], Value::bulk([0; 3]));
}

// ---- what else is said of a payload

#[test]
fn the_hash_must_be_that_of_the_payload() {
    let (_server, mut c) = server_with_codec("gzip");
    for size in SIZES {
        let (payload, other) = (rows(size), etag(&rows(size + 1)));
        let good = etag(&payload);
        for encoding in ["identity", "gzip", "zstd", "lz4"] {
            let set =
                |hash: &str| args!["EXPCACHE.SET", "k", pack(encoding, &payload), "ENCODING", encoding, "HASH", hash];
            c.ok(set(&good));
            c.ok(set(&good.to_uppercase()));
            leaves(&mut c, set(&other), "HASHMISMATCH");
            leaves(&mut c, set("d41d8cd98f00b204e9800998ecf8427"), "ERR");
            // Of the bytes that were sent it is another one.
            if encoding != "identity" {
                leaves(&mut c, set(&etag(&pack(encoding, &payload))), "HASHMISMATCH");
            }
            reads(&mut c, "k", &payload, encoding);
            assert!(matches!(&c.transaction([set(&other)])[0], Value::Error(text) if text.starts_with("HASHMISMATCH")));
        }
    }
    check(&mut c);
}

#[test]
fn what_is_to_be_valid_is_looked_at() {
    let (_server, mut c) = server_with_codec("auto");
    c.ok("EXPCACHE.TYPE SET checked VALIDATE yes");
    for size in SIZES {
        let csv = [b"a,b,c,d,e\n".to_vec(), rows(size)].concat();
        let end = csv.iter().rposition(|byte| *byte == b'\n').unwrap();
        let csv = &csv[..=end];
        let records = csv.iter().filter(|byte| **byte == b'\n').count() as i64 - 1;
        let json = format!("[{}1]", "{\"a\": [1, 2, {}]},\n".repeat(size / 19)).into_bytes();
        let elements = (size / 19) as i64 + 1;
        for (format, good, records) in [("csv", csv, records), ("JSON", &json, elements)] {
            let bad: [Vec<u8>; 2] = if format == "csv" {
                [[csv, b"1,2,3\n"].concat(), [csv, b"1,2,3,4,\"5\n"].concat()]
            } else {
                [json[..json.len() - 1].to_vec(), [&json[..], b"]"].concat()]
            };
            for encoding in ["identity", "gzip", "zstd", "lz4"] {
                let set = |payload: &[u8]| {
                    let packed = pack(encoding, payload);
                    args!["EXPCACHE.SET", "checked:1", packed, "FORMAT", format, "ENCODING", encoding, "RECORDS", 7]
                };
                c.ok(set(good));
                assert_eq!(c.map("EXPCACHE.META checked:1")["records"], records, "{format}");
                for bad in &bad {
                    leaves(&mut c, set(bad), "BADFORMAT");
                    assert!(
                        matches!(&c.transaction([set(bad)])[0], Value::Error(text) if text.starts_with("BADFORMAT"))
                    );
                }
            }
            // Another format, or another type, is not looked at.
            c.ok(args!["EXPCACHE.SET", "checked:2", &bad[0], "FORMAT", "txt"]);
            c.ok(args!["EXPCACHE.SET", "other", &bad[0], "FORMAT", format]);
            let words = args!["EXPCACHE.MSET", 2, "checked:3", good, "checked:4", &bad[1], "FORMAT", format];
            leaves(&mut c, words, "BADFORMAT");
        }
    }
    assert_eq!(c.map("EXPCACHE.STATS TYPE checked")["rejected"], 2 * 2 * (4 * 4 + 1));
    check(&mut c);
}

#[test]
fn limits_are_about_the_payload() {
    let (_server, mut c) = server_with_codec("auto");
    for most in [2 * KB, 500 * KB] {
        c.ok(args!["EXPCACHE.TYPE", "SET", "small", "MAXVALUE", most, "FORMATS", 2, "csv", "json"]);
        let noisy = noise(most);
        for encoding in ["identity", "gzip", "zstd", "lz4"] {
            for (payload, fits) in
                [(&rows(most), true), (&rows(most + 1), false), (&noisy, true), (&noise(most + 1), false)]
            {
                let packed = pack(encoding, payload);
                let words = args!["EXPCACHE.SET", "small:1", packed, "ENCODING", encoding, "FORMAT", "csv"];
                // Noise becomes larger than it is; what counts is what it decodes to.
                if fits { c.ok(words) } else { leaves(&mut c, words, "TOOLARGE") }
            }
            let packed = pack(encoding, &rows(most));
            leaves(
                &mut c,
                args!["EXPCACHE.SET", "small:1", packed, "ENCODING", encoding, "FORMAT", "xml"],
                "BADFORMAT",
            );
        }
        reads(&mut c, "small:1", &noisy, "what was stored last");
    }
    check(&mut c);
}

/// Conditions are looked at when everything else is known.
#[test]
fn conditions_hold_for_what_was_checked() {
    let (_server, mut c) = server_with_codec("gzip");
    for size in SIZES {
        let (first, second) = (rows(size), rows(size + 1));
        let hash = etag(&second);
        c.ok("FLUSHALL");
        c.nil(args!["EXPCACHE.SET", "k", &second, "HASH", &hash, "XX"]);
        c.ok(args!["EXPCACHE.SET", "k", &first, "NX"]);
        c.nil(args!["EXPCACHE.SET", "k", &second, "HASH", &hash, "NX"]);
        c.nil(args!["EXPCACHE.SET", "k", &second, "IFMATCH", &hash]);
        // At once: the etag of what is there is still being computed.
        c.ok(args!["EXPCACHE.SET", "k", &first]);
        c.ok(args!["EXPCACHE.SET", "k", gzip(&second), "ENCODING", "gzip", "HASH", &hash, "IFMATCH", etag(&first)]);
        c.nil(args!["EXPCACHE.SET", "k", &first, "IFMATCH", etag(&first)]);
        reads(&mut c, "k", &second, "what was stored on a condition");
        c.cmd("SET text v");
        c.err(args!["EXPCACHE.SET", "text", gzip(&second), "ENCODING", "gzip"], "WRONGTYPE");
        let lease = c.map("EXPCACHE.FETCH new LEASE 1h")["lease"].text();
        c.err(args!["EXPCACHE.SET", "new", &first, "HASH", &hash, "LEASE", &lease], "HASHMISMATCH");
        c.ok(args!["EXPCACHE.SET", "new", &second, "HASH", &hash, "LEASE", &lease]);
        c.err(args!["EXPCACHE.SET", "new", &second, "HASH", &hash, "LEASE", &lease], "LEASELOST");
    }
    check(&mut c);
}
