//! Large payloads on replicas and after restarts: in the same encoding, with the same MD5, and every byte of it.

use crate::harness::{Conn, Picture, Server, Stop, Value, args, check, wait_until, wait_until_settled};
use crate::large::*;

const KEYS: [&str; 8] = ["gzip", "zstd", "lz4", "none", "auto", "noise", "foreign", "hashed"];

fn payload(key: &str) -> Vec<u8> {
    let n = KEYS.iter().position(|known| *known == key).unwrap();
    if key == "noise" { noise(500 * KB) } else { rows(500 * KB + n) }
}

/// An entry kept in each way; a small one of each as well.
fn populate(c: &mut Conn) {
    for codec in ["gzip", "zstd", "lz4", "none", "auto"] {
        c.ok(args!["EXPCACHE.TYPE", "SET", codec, "CODEC", codec]);
        c.ok(args!["EXPCACHE.SET", codec, payload(codec), "TYPE", codec, "TAGS", 2, "t", codec]);
        c.ok(args!["EXPCACHE.SET", format!("small {codec}"), rows(3 * KB), "TYPE", codec, "TAGS", 1, "small"]);
    }
    c.ok(args!["EXPCACHE.SET", "noise", payload("noise"), "TYPE", "gzip", "TAGS", 1, "t"]);
    c.ok(args!["EXPCACHE.SET", "foreign", zstd(&payload("foreign")), "ENCODING", "zstd", "TAGS", 1, "t"]);
    let hashed = payload("hashed");
    c.ok(args!["EXPCACHE.SET", "hashed", &hashed, "HASH", etag(&hashed), "TYPE", "lz4", "TAGS", 1, "t"]);
}

#[track_caller]
fn all_is_there(c: &mut Conn) {
    wait_until_settled(c);
    for key in KEYS {
        reads(c, key, &payload(key), key);
    }
    check(c);
}

/// Digests of values, which is what an operator compares.
fn digests(c: &mut Conn) -> Vec<Value> {
    KEYS.map(|key| c.cmd(&["DEBUG", "DIGEST-VALUE", key])).to_vec()
}

fn stored_forms(c: &mut Conn) -> Vec<(String, Vec<u8>)> {
    KEYS.map(|key| stored(c, key)).to_vec()
}

#[track_caller]
fn are_equal(master: &Server, replica: &Server) {
    replica.wait_for_sync(master);
    let (mut m, mut r) = (master.conn(), replica.conn());
    Picture::of(&mut m).assert_same(&Picture::of(&mut r));
    assert_eq!(digests(&mut m), digests(&mut r));
    assert!(stored_forms(&mut m) == stored_forms(&mut r), "the stored bytes are the same");
    all_is_there(&mut r);
}

#[test]
fn a_writable_replica_checks_what_it_stores() {
    let (master, replica) = (Server::start(), Server::start());
    replica.replica_of(&master);
    let mut c = replica.conn();
    c.ok("CONFIG SET replica-read-only no");
    let payload = rows(300 * KB);
    c.ok(args!["EXPCACHE.SET", "k", &payload, "HASH", etag(&payload)]);
    c.ok(args!["EXPCACHE.SET", "packed", gzip(&payload), "ENCODING", "gzip"]);
    c.ok(args!["EXPCACHE.SET", "k", &payload, "IFMATCH", etag(&payload)]);
    wait_until_settled(&mut c);
    for key in ["k", "packed"] {
        reads(&mut c, key, &payload, key);
    }
    check(&mut c);
}

#[test]
fn a_replica_keeps_the_same() {
    let (master, replica) = (Server::start(), Server::start());
    let mut m = master.conn();
    // What comes with the first synchronisation, in the middle of the work and after it, and what comes later.
    populate(&mut m);
    replica.replica_of(&master);
    are_equal(&master, &replica);
    for key in KEYS {
        assert_eq!(m.cmd(args!["DEL", key]), 1);
    }
    populate(&mut m);
    are_equal(&master, &replica);
    assert_eq!(m.cmd("EXPCACHE.INVALIDATE.TAG gzip"), 1);
    assert_eq!(m.cmd("EXPCACHE.DEL none"), 1);
    wait_until("it is reclaimed", || m.cmd("EXISTS gzip") == 0);
    replica.wait_for_sync(&master);
    Picture::of(&mut m).assert_same(&Picture::of(&mut replica.conn()));
}

/// The workers of the old replica go on with what they are at when it is a master.
#[test]
fn a_promotion_in_the_middle() {
    in_time(|| {
        let (master, replica) = (Server::start(), Server::load(&["workers", "1"], &[]).unwrap());
        let (mut m, mut r) = (master.conn(), replica.conn());
        replica.replica_of(&master);
        allow_bombs(&mut m);
        m.ok(args!["EXPCACHE.SET", "much", gzip(&vec![0; 256 * MB]), "ENCODING", "gzip"]);
        replica.wait_for_sync(&master);
        // Each takes the worker half a second, and comes before what it is to compress.
        let mut verifiers = [(); 4].map(|()| {
            let mut conn = replica.conn();
            let id = conn.int("CLIENT ID");
            conn.send("EXPCACHE.FETCH much VERIFY RANGE 0 9").unwrap();
            wait_until_blocked(&mut r, id);
            conn
        });
        populate(&mut m);
        replica.wait_for_sync(&master);
        still_occupied(&mut r);
        let mut reader = replica.conn();
        reader.send("EXPCACHE.META auto").unwrap();
        r.ok("REPLICAOF NO ONE");
        r.ok(args!["EXPCACHE.SET", "new", rows(500 * KB), "TYPE", "gzip"]);
        assert_eq!(reader.receive().unwrap().fields()["etag"], etag(&payload("auto")).as_str());
        all_is_there(&mut r);
        becomes(&mut r, "new", "gzip");
        for conn in &mut verifiers {
            assert_eq!(conn.receive().unwrap().fields()["value"].as_bytes(), [0; 9]);
        }
        assert_eq!(r.cmd("EXPCACHE.DEL much"), 1);
        master.replica_of(&replica);
        are_equal(&replica, &master);
    });
}

/// A store that a worker checks is not made by a server that became a replica meanwhile.
#[test]
fn a_demotion_in_the_middle() {
    in_time(|| {
        let (other, server) = (Server::start(), Server::load(&["workers", "1"], &[]).unwrap());
        let (mut c, mut writer) = (server.conn(), server.conn());
        c.ok("EXPCACHE.TYPE SET busy CODEC gzip");
        occupy(&mut c, 1);
        let id = writer.int("CLIENT ID");
        writer.send(args!["EXPCACHE.SET", "k", rows(MB), "HASH", etag(&rows(MB))]).unwrap();
        wait_until_blocked(&mut c, id);
        c.ok(args!["REPLICAOF", "127.0.0.1", other.port()]);
        let reply = writer.receive().unwrap();
        assert!(matches!(&reply, Value::Error(text) if text.starts_with("UNBLOCKED")), "{reply}");
        server.wait_for_sync(&other);
        wait_until_settled(&mut c);
        assert_eq!(c.cmd("DBSIZE"), 0);
        c.ok("REPLICAOF NO ONE");
        populate(&mut c);
        all_is_there(&mut c);
    });
}

const AOF: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

#[test]
fn a_restart_keeps_the_same() {
    for (settings, rewrite, stop) in [
        (&[][..], false, Stop::Save),
        (AOF, false, Stop::Kill),
        (AOF, true, Stop::Kill),
        (&["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no"], true, Stop::Kill),
    ] {
        let mut server = Server::with(settings);
        let mut c = server.conn();
        populate(&mut c);
        for settled in [true, false] {
            if rewrite {
                c.cmd("BGREWRITEAOF");
                wait_until("the file is rewritten", || {
                    c.info("persistence", "aof_rewrite_in_progress") == "0"
                        && c.info("persistence", "aof_rewrite_scheduled") == "0"
                });
            }
            if !settled {
                populate(&mut c);
            }
            let before = settled.then(|| (Picture::of(&mut c), digests(&mut c), stored_forms(&mut c)));
            server.restart(stop);
            c = server.conn();
            all_is_there(&mut c);
            if let Some((picture, digests_before, forms)) = before {
                picture.assert_same(&Picture::of(&mut c));
                assert_eq!(digests(&mut c), digests_before);
                assert!(stored_forms(&mut c) == forms, "the stored bytes are the same");
            }
        }
        c.ok("DEBUG RELOAD");
        all_is_there(&mut c);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), KEYS.len() as i64);
    }
}

/// `DUMP`, `RESTORE`, `COPY` and `MIGRATE`, of what is compressed and of what is yet to be.
#[test]
fn another_server_gets_the_same() {
    let (from, to) = (Server::start(), Server::start());
    let (mut f, mut t) = (from.conn(), to.conn());
    for settled in [false, true] {
        populate(&mut f);
        if settled {
            wait_until_settled(&mut f);
        }
        for key in KEYS {
            let dump = f.bulk(args!["DUMP", key]);
            t.ok(args!["RESTORE", key, 3_600_000, dump, "REPLACE"]);
            assert_eq!(t.cmd(args!["COPY", key, "copy", "REPLACE"]), 1);
            same(&t.bulk("EXPCACHE.GET copy"), &payload(key), key);
        }
        all_is_there(&mut t);
        assert_eq!(digests(&mut f), digests(&mut t));
        let port = to.port().to_string();
        let words = ["MIGRATE", "127.0.0.1", &port, "", "0", "10000", "REPLACE", "KEYS"];
        f.ok([&words[..], &KEYS].concat());
        all_is_there(&mut t);
        wait_until_settled(&mut f);
        check(&mut f);
        assert_eq!(t.cmd("EXPCACHE.INVALIDATE.TAG t"), 1 + KEYS.len() as i64);
    }
}
