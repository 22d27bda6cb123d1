//! Payloads that are kept compressed, and nobody can tell: they come back byte for byte, whole and in parts, as they are kept or
//! decoded, before the workers have done their work and after.

use crate::harness::{Conn, Server, Value, args, check, wait_until_settled};
use crate::large::*;

const THRESHOLD: usize = KB;
/// From here on payloads stand apart and are compressed by workers.
const APART: usize = 8 * KB;

/// Every size at which something begins to be done in another way.
fn sizes() -> Vec<usize> {
    let borders = [THRESHOLD, APART, 32 * KB, 256 * KB, MB];
    let around = borders.into_iter().flat_map(|size| [size - 1, size, size + 1]);
    [0, 1].into_iter().chain(around).chain([3 * MB + 7]).collect()
}

/// Stores a payload, reads it at once and when it is settled, and asserts how it is kept in the end.
#[track_caller]
fn round_trip(c: &mut Conn, payload: &[u8], encoding: &str) {
    let what = format!("{encoding} of {} bytes", payload.len());
    c.ok(args!["EXPCACHE.SET", "k", payload]);
    same(&c.bulk("EXPCACHE.GET k"), payload, &what);
    wait_until_settled(c);
    reads(c, "k", payload, &what);
    let meta = c.map("EXPCACHE.META k");
    assert_eq!((meta["encoding"].text().as_str(), meta["size"].int()), (encoding, payload.len() as i64), "{what}");
    let (stored, size) = (meta["stored"].int(), payload.len() as i64);
    assert!(if encoding == "identity" { stored == size } else { stored <= size * 9 / 10 }, "{what}: {stored}");
    let ratio = if stored == 0 { 1.0 } else { size as f64 / stored as f64 };
    assert!((meta["ratio"].number() - ratio).abs() < 0.001, "{what}: {}", meta["ratio"]);
}

#[test]
fn every_size_comes_back() {
    for codec in ["gzip", "zstd", "lz4", "auto", "none"] {
        let (_server, mut c) = server_with_codec(codec);
        let compressed = |size: usize| match codec {
            "none" => "identity",
            _ if size < THRESHOLD => "identity",
            "auto" => {
                if size < APART {
                    "lz4"
                } else {
                    "zstd"
                }
            }
            codec => codec,
        };
        for size in sizes() {
            round_trip(&mut c, &rows(size), compressed(size));
            round_trip(&mut c, &noise(size), "identity");
        }
        check(&mut c);
    }
}

#[test]
fn sixteen_megabytes_come_back() {
    let (_server, mut c) = server_with_codec("auto");
    let (rows, noise) = (rows(16 * MB), noise(16 * MB));
    for codec in ENCODINGS {
        c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", codec]);
        round_trip(&mut c, &rows, codec);
        round_trip(&mut c, &noise, "identity");
    }
    check(&mut c);
}

/// At no time does it cost more than the payload and its compressed form (and what the server itself keeps for its client).
#[test]
fn a_quarter_of_a_gigabyte_comes_back() {
    let (server, mut c) = server_with_codec("zstd");
    // A little less, or the allocator takes a block of the next larger kind, which is a quarter larger.
    let payload = rows(256 * MB - 4 * KB);
    let before = memory(&mut c, "used_memory");
    // The server has room ready for another such command of this client, so it goes.
    server.conn().ok(args!["EXPCACHE.SET", "k", &payload]);
    crate::harness::wait_until("the client is gone", || c.info("clients", "connected_clients") == "1");
    let mut peak = 0;
    crate::harness::wait_until("the workers are done", || {
        peak = peak.max(memory(&mut c, "used_memory") - before);
        kept(&mut c, "k").0 == "zstd" && figure(&mut c, "workers-busy") + figure(&mut c, "settle-backlog") == 0
    });
    let (encoding, stored) = kept(&mut c, "k");
    assert_eq!(encoding, "zstd");
    let most = (payload.len() + stored * 5 / 4 + 4 * MB) as i64;
    assert!(peak <= most, "{peak} bytes, not {most}");
    let after = memory(&mut c, "used_memory") - before;
    assert!(after <= (stored * 5 / 4 + 4 * MB) as i64, "{after} bytes are left for {stored}");
    same(&c.bulk("EXPCACHE.GET k"), &payload, "256 MiB");
    let at = payload.len() - 1000;
    let part = c.map(args!["EXPCACHE.FETCH", "k", "RANGE", at, 5000])["value"].clone();
    same(part.as_bytes(), &payload[at..], "the end of 256 MiB");
    assert_eq!(c.map("EXPCACHE.META k")["etag"], etag(&payload).as_str());
}

#[test]
fn exports_become_much_smaller() {
    let export = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/data/flights.csv")).unwrap();
    let rows = export.iter().filter(|byte| **byte == b'\n').count() as i64 - 1;
    for (codec, least) in [("gzip", 3.5), ("zstd", 3.5), ("lz4", 2.0), ("auto", 3.5)] {
        let (_server, mut c) = server_with_codec(codec);
        c.ok("EXPCACHE.TYPE SET reports VALIDATE yes");
        c.ok(args!["EXPCACHE.SET", "reports:1", &export, "FORMAT", "csv"]);
        wait_until_settled(&mut c);
        reads(&mut c, "reports:1", &export, codec);
        let meta = c.map("EXPCACHE.META reports:1");
        let encoding = meta["encoding"].text();
        assert!(codec == "auto" || codec == encoding || encoding != "identity", "{encoding}");
        assert!(meta["ratio"].number() > least, "{codec}: {}", meta["ratio"]);
        assert_eq!(meta["records"], rows);
        let stats = c.map("EXPCACHE.STATS");
        assert_eq!(stats["payload-bytes"], meta["size"]);
        assert_eq!(stats["stored-bytes"], meta["stored"]);
    }
}

/// `auto` takes gzip for what has a format: browsers read that.
#[test]
fn what_has_a_format_is_kept_for_browsers() {
    let (_server, mut c) = server_with_codec("auto");
    for size in [APART, 100 * KB] {
        c.ok(args!["EXPCACHE.SET", "k", rows(size), "FORMAT", "csv"]);
        becomes(&mut c, "k", "gzip");
        c.ok(args!["EXPCACHE.SET", "k", rows(size)]);
        becomes(&mut c, "k", "zstd");
    }
}

// ---- what is handed out as it is kept

#[test]
fn what_a_client_accepts_it_gets_as_it_is_kept() {
    let accepted = [
        vec!["identity"],
        vec!["gzip"],
        vec!["ZSTD", "lz4"],
        vec!["br", "deflate"],
        vec!["lz4", "gzip", "zstd"],
        vec!["identity", "gzip", "zstd", "lz4", "br"],
    ];
    for kept in ["gzip", "zstd", "lz4", "none"] {
        let server = Server::start();
        for (mut c, size) in server.conns().flat_map(|c| [(c, 2 * KB)]).chain([(server.conn(), 3 * MB + 7)]) {
            c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", kept, "THRESHOLD", "1kb"]);
            let payload = rows(size);
            c.ok(args!["EXPCACHE.SET", "k", &payload]);
            wait_until_settled(&mut c);
            for names in &accepted {
                let words = [args!["EXPCACHE.FETCH", "k", "ACCEPT", names.len()], args![names[0]]].concat();
                let words = [words, names[1..].iter().map(|name| name.as_bytes().to_vec()).collect()].concat();
                let fetched = c.map(words);
                let matches = names.iter().any(|name| name.eq_ignore_ascii_case(kept));
                let expected = if matches { kept } else { "identity" };
                assert_eq!(fetched["encoding"], expected, "{kept}, {names:?}");
                same(&unpack(expected, fetched["value"].as_bytes(), size), &payload, kept);
                let meta = c.map("EXPCACHE.META k");
                let length = if matches { meta["stored"].int() } else { size as i64 };
                assert_eq!(fetched["value"].as_bytes().len() as i64, length);
                // Everything else is about the payload.
                assert_eq!((&fetched["size"], &fetched["etag"]), (&Value::Int(size as i64), &meta["etag"]));
            }
            // A range is always decoded; a known payload is not sent at all.
            let words = ["RANGE", "5", "10", "ACCEPT", "2", kept, "identity"];
            let fetched = c.map([args!["EXPCACHE.FETCH", "k"], args![words[0], words[1], words[2]]].concat());
            assert_eq!(fetched["value"], Value::bulk(&payload[5..15]));
            let fetched = c.map([&["EXPCACHE.FETCH", "k"], &words[..]].concat());
            assert_eq!(
                (&fetched["value"], &fetched["encoding"]),
                (&Value::bulk(&payload[5..15]), &Value::bulk("identity"))
            );
            let fetched = c.map(args!["EXPCACHE.FETCH", "k", "IFNONEMATCH", etag(&payload), "ACCEPT", 1, kept]);
            assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("not-modified"), &Value::Nil));
        }
        check(&mut server.conn());
    }
}

#[test]
fn accept_without_what_it_needs_is_refused() {
    let (_server, mut c) = server_with_codec("gzip");
    c.ok("EXPCACHE.SET k v");
    for options in ["ACCEPT", "ACCEPT 2 gzip", "ACCEPT 1 gzip ACCEPT 1 zstd", "ACCEPT 9223372036854775807 gzip"] {
        crate::harness::refused(&mut c, &format!("EXPCACHE.FETCH k {options}"), "ERR syntax error");
    }
    for options in ["ACCEPT gzip", "ACCEPT -1 gzip", "ACCEPT 18446744073709551616 gzip"] {
        crate::harness::refused(&mut c, &format!("EXPCACHE.FETCH k {options}"), "ERR value is not an integer");
    }
    assert_eq!(c.map("EXPCACHE.FETCH k ACCEPT 0")["value"], "v");
}

// ---- ranges

/// Ranges around the places where parts end.
fn assert_ranges(c: &mut Conn, payload: &[u8], what: &str) {
    let size = payload.len();
    let borders = [0, 64 * KB, 256 * KB, 512 * KB, MB, 2 * MB, size];
    let offsets = borders.into_iter().flat_map(|border| [border.saturating_sub(1), border, border + 1]);
    for (offset, length) in offsets.flat_map(|offset| [1, 3, 300 * KB, usize::MAX >> 1].map(|length| (offset, length)))
    {
        let fetched = c.map(&["EXPCACHE.FETCH", "k", "RANGE", &offset.to_string(), &length.to_string()]);
        let end = offset.saturating_add(length).min(size);
        same(fetched["value"].as_bytes(), &payload[offset.min(size)..end], &format!("{what} RANGE {offset} {length}"));
        assert_eq!(fetched["size"], size as i64);
    }
}

#[test]
fn ranges_reach_over_the_borders_of_parts() {
    let payload = rows(2 * MB + 300 * KB + 7);
    for codec in ["gzip", "zstd", "lz4", "none"] {
        let (_server, mut c) = server_with_codec(codec);
        c.ok(args!["EXPCACHE.SET", "k", &payload]);
        wait_until_settled(&mut c);
        assert_ranges(&mut c, &payload, codec);
        if codec != "none" {
            c.ok(args!["EXPCACHE.SET", "k", pack(codec, &payload), "ENCODING", codec]);
            assert_eq!(kept(&mut c, "k").0, codec);
            assert_ranges(&mut c, &payload, &format!("foreign {codec}"));
        }
    }
}

// ---- what is worth it

#[test]
fn what_saves_too_little_is_not_kept() {
    for size in [4 * KB, 300 * KB] {
        // About a third of it compresses to nothing.
        let payload = [noise(size * 2 / 3), vec![b'x'; size / 3]].concat();
        for codec in ENCODINGS {
            let (_server, mut c) = server_with_codec(codec);
            c.ok("CONFIG SET expcache.min-saving 0");
            c.ok(args!["EXPCACHE.SET", "k", &payload]);
            becomes(&mut c, "k", codec);
            let saved = 100 - (kept(&mut c, "k").1 * 100).div_ceil(payload.len());
            assert!((20..=35).contains(&saved), "{saved}");
            for (least, expected) in [(saved, codec), (saved + 1, "identity"), (90, "identity")] {
                c.ok(args!["CONFIG", "SET", "expcache.min-saving", least]);
                c.ok(args!["EXPCACHE.SET", "k", &payload]);
                becomes(&mut c, "k", expected);
                reads(&mut c, "k", &payload, codec);
            }
        }
    }
}

#[test]
fn the_threshold_is_the_types() {
    let (_server, mut c) = server_with_codec("zstd");
    for threshold in [100, 5 * KB, 100 * KB] {
        c.ok(args!["EXPCACHE.TYPE", "SET", "default", "THRESHOLD", threshold]);
        for (size, expected) in [(threshold - 1, "identity"), (threshold, "zstd"), (threshold + 1, "zstd")] {
            c.ok(args!["EXPCACHE.SET", "k", vec![b'x'; size]]);
            becomes(&mut c, "k", expected);
        }
    }
    c.ok("EXPCACHE.TYPE SET default THRESHOLD 0");
    c.ok(args!["EXPCACHE.SET", "k", ""]);
    becomes(&mut c, "k", "identity");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "");
}

/// A payload stays as it is kept when its type changes its mind.
#[test]
fn a_change_of_codec_is_for_what_comes() {
    let (_server, mut c) = server_with_codec("gzip");
    for (key, codec) in [("a", "gzip"), ("b", "lz4"), ("c", "zstd")] {
        c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", codec]);
        c.ok(args!["EXPCACHE.SET", key, rows(50 * KB)]);
        wait_until_settled(&mut c);
    }
    assert_eq!(["a", "b", "c"].map(|key| kept(&mut c, key).0), ["gzip", "lz4", "zstd"]);
    let several = c.cmd("EXPCACHE.MGET a b nothing c");
    for value in [0, 1, 3].map(|at| &several.items()[at]) {
        same(value.as_bytes(), &rows(50 * KB), "one of several");
    }
}
