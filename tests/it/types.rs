//! Types and their policies: TYPE SET, GET, LIST, DEL, HELP; limits on entries.

use crate::harness::{Conn, HOSTILE, Server, Value, args, check, now_ms, refused, wait_until};

const BUILT_IN: [&str; 6] = ["default", "drivers", "gps_tracks", "reports", "trips", "vehicles"];

fn list(c: &mut Conn) -> Vec<String> {
    c.cmd("EXPCACHE.TYPE LIST").sorted_texts()
}

/// Lets the clock move on, so that the next access is later than the last.
fn tick() {
    let start = now_ms();
    wait_until("the clock moves", || now_ms() > start + 2);
}

#[test]
fn some_types_are_there_from_the_start() {
    let server = Server::start();
    for mut c in server.conns() {
        assert_eq!(list(&mut c), BUILT_IN);
        for (name, ttl_ms) in [
            ("vehicles", 7_200_000),
            ("drivers", 7_200_000),
            ("trips", 3_600_000),
            ("gps_tracks", 1_800_000),
            ("reports", 14_400_000),
        ] {
            assert_eq!(c.map(&["EXPCACHE.TYPE", "GET", name])["ttl"], ttl_ms, "{name}");
        }
    }
}

#[test]
fn a_policy_is_shown_as_it_was_set() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.TYPE SET all TTL 90m GRACE 30s MAXTTL 1d JITTER 10 EARLY 80 SLIDING yes CODEC zstd \
             THRESHOLD 4kb MAXVALUE 10mb MAXENTRIES 1000 MAXBYTES 1gb FORMATS 2 csv json VALIDATE yes AUDIT Changes");
        let policy = c.map("EXPCACHE.TYPE GET all");
        assert_eq!(
            policy.names(),
            [
                "ttl",
                "grace",
                "maxttl",
                "jitter",
                "early",
                "sliding",
                "codec",
                "threshold",
                "maxvalue",
                "maxentries",
                "maxbytes",
                "formats",
                "validate",
                "lifetime",
                "pertag",
                "audit",
            ]
        );
        assert_eq!(policy["ttl"], 5_400_000);
        assert_eq!(policy["grace"], 30_000);
        assert_eq!(policy["maxttl"], 86_400_000);
        assert_eq!(policy["jitter"], 10);
        assert_eq!(policy["early"], 80);
        assert_eq!(policy["sliding"], "yes");
        assert_eq!(policy["codec"], "zstd");
        assert_eq!(policy["threshold"], 4096);
        assert_eq!(policy["maxvalue"], 10 << 20);
        assert_eq!(policy["maxentries"], 1000);
        assert_eq!(policy["maxbytes"], 1 << 30);
        assert_eq!(policy["formats"].sorted_texts(), ["csv", "json"]);
        assert_eq!(policy["validate"], "yes");
        assert_eq!(policy["audit"], "changes");
    }
}

#[test]
fn only_the_named_fields_change() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t TTL 90m JITTER 10 SLIDING yes FORMATS 1 csv");
    c.ok("expcache.type set t jitter 20 sliding no");
    let policy = c.map("EXPCACHE.TYPE GET t");
    assert_eq!(policy["ttl"], 5_400_000);
    assert_eq!(policy["jitter"], 20);
    assert_eq!(policy["sliding"], "no");
    assert_eq!(policy["formats"].sorted_texts(), ["csv"]);
}

#[test]
fn every_codec_and_unit_is_known() {
    let server = Server::start();
    let mut c = server.conn();
    for codec in ["auto", "none", "gzip", "zstd", "lz4"] {
        c.ok(&["EXPCACHE.TYPE", "SET", "t", "CODEC", codec]);
        assert_eq!(c.map("EXPCACHE.TYPE GET t")["codec"], codec);
    }
    for (size, bytes) in [("512", 512), ("64kb", 64 << 10), ("10mb", 10 << 20), ("1gb", 1 << 30)] {
        c.ok(&["EXPCACHE.TYPE", "SET", "t", "MAXVALUE", size]);
        assert_eq!(c.map("EXPCACHE.TYPE GET t")["maxvalue"], bytes);
    }
    for (ttl, ms) in [("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
        c.ok(&["EXPCACHE.TYPE", "SET", "t", "TTL", ttl]);
        assert_eq!(c.map("EXPCACHE.TYPE GET t")["ttl"], ms);
    }
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_whole() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t TTL 90m JITTER 10");
    for (fields, prefix) in [
        ("NONSENSE 1", "ERR syntax error"),
        ("TTL", "ERR syntax error"),
        ("TTL 1h JITTER", "ERR syntax error"),
        ("FORMATS", "ERR syntax error"),
        ("FORMATS 2 csv", "ERR syntax error"),
        ("TTL soon", "ERR invalid duration"),
        ("TTL 3600", "ERR invalid duration"),
        ("TTL -1h", "ERR invalid duration"),
        ("GRACE 5", "ERR invalid duration"),
        ("MAXTTL 5x", "ERR invalid duration"),
        ("JITTER -1", "ERR"),
        ("JITTER 101", "ERR"),
        ("JITTER some", "ERR"),
        ("EARLY 101", "ERR"),
        ("SLIDING maybe", "ERR"),
        ("VALIDATE maybe", "ERR"),
        ("CODEC rar", "ERR"),
        ("THRESHOLD 1tb5", "ERR"),
        ("MAXVALUE big", "ERR"),
        ("MAXVALUE -1", "ERR"),
        ("MAXENTRIES -1", "ERR"),
        ("MAXENTRIES many", "ERR"),
        ("MAXBYTES 1.5gb", "ERR"),
        ("FORMATS -1", "ERR"),
        ("FORMATS x csv", "ERR"),
        ("TTL 5m JITTER 200", "ERR"),
    ] {
        refused(&mut c, &format!("EXPCACHE.TYPE SET t {fields}"), prefix);
        refused(&mut c, &format!("EXPCACHE.TYPE SET new {fields}"), prefix);
    }
    for name in ["", &"n".repeat(513)] {
        refused(&mut c, &["EXPCACHE.TYPE", "SET", name, "TTL", "1h"], "ERR");
    }
}

#[test]
fn names_are_any_bytes_and_case_sensitive() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET Trips TTL 5m");
    assert_eq!(c.map("EXPCACHE.TYPE GET trips")["ttl"], 3_600_000);
    for name in HOSTILE {
        c.ok(args!["EXPCACHE.TYPE", "SET", name, "TTL", "5m"]);
        assert_eq!(c.map(args!["EXPCACHE.TYPE", "GET", name])["ttl"], 300_000);
        assert!(c.cmd("EXPCACHE.TYPE LIST").items().contains(&Value::bulk(name)));
        assert_eq!(c.int(args!["EXPCACHE.TYPE", "DEL", name]), 1);
    }
}

#[test]
fn an_unknown_type_is_null() {
    let server = Server::start();
    for mut c in server.conns() {
        c.nil("EXPCACHE.TYPE GET nosuch");
        assert_eq!(c.int("EXPCACHE.TYPE DEL nosuch"), 0);
    }
}

#[test]
fn entries_outlive_their_type_under_the_default_policy() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t TTL 5m MAXVALUE 3");
    c.ok("EXPCACHE.SET k v TYPE t TAGS 1 a");
    assert_eq!(c.int("EXPCACHE.TYPE DEL t"), 1);
    check(&mut c);
    c.nil("EXPCACHE.TYPE GET t");
    assert_eq!(list(&mut c), BUILT_IN);
    assert_eq!(c.int("EXPCACHE.TYPE DEL t"), 0);

    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    assert_eq!(c.map("EXPCACHE.META k")["type"], "t");
    c.ok("EXPCACHE.SET t:1 v");
    assert_eq!(c.map("EXPCACHE.META t:1")["type"], "default");

    c.ok("EXPCACHE.TYPE SET t SLIDING yes");
    c.int("PEXPIRE k 60000");
    c.cmd("EXPCACHE.GET k");
    assert!(c.int("PTTL k") > 60_000, "defined again, its policy holds for the entry");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG a"), 1);
    check(&mut c);
}

#[test]
fn default_stays() {
    let server = Server::start();
    let mut c = server.conn();
    refused(&mut c, "EXPCACHE.TYPE DEL default", "ERR");
    c.ok("EXPCACHE.TYPE SET default TTL 5m");
    assert_eq!(c.map("EXPCACHE.TYPE GET default")["ttl"], 300_000);
    for name in BUILT_IN.into_iter().filter(|name| *name != "default") {
        assert_eq!(c.int(&["EXPCACHE.TYPE", "DEL", name]), 1);
    }
    assert_eq!(list(&mut c), ["default"]);
}

#[test]
fn types_are_the_whole_servers() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t TTL 5m");
    c.ok("SELECT 3");
    assert_eq!(c.map("EXPCACHE.TYPE GET t")["ttl"], 300_000);
    c.ok("FLUSHALL");
    assert_eq!(c.map("EXPCACHE.TYPE GET t")["ttl"], 300_000);
}

#[test]
fn help_is_an_array_of_lines() {
    let server = Server::start();
    for mut c in server.conns() {
        for command in ["EXPCACHE.TYPE HELP", "EXPCACHE.DEBUG HELP"] {
            let help = c.cmd(command);
            assert!(help.items().iter().any(|line| line.text() == "HELP"), "{help}");
        }
    }
}

// ---- the type of an entry, when it is not given

#[test]
fn the_type_is_read_from_the_key() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET session TTL 20m");
    for (key, expected) in [
        ("export_cache:trips:abc", "trips"),
        ("export_cache:trips:{tag}:abc", "trips"),
        ("export_cache:nosuch:abc", "default"),
        ("vehicles:42", "vehicles"),
        ("session:", "session"),
        ("session", "default"),
        ("Vehicles:42", "default"),
        ("nosuch:42", "default"),
        ("x:vehicles:42", "default"),
        ("plain", "default"),
    ] {
        c.ok(&["EXPCACHE.SET", key, "v"]);
        assert_eq!(c.map(&["EXPCACHE.META", key])["type"], expected, "{key}");
    }
    c.ok("EXPCACHE.SET vehicles:42 v TYPE trips");
    assert_eq!(c.map("EXPCACHE.META vehicles:42")["type"], "trips");
    check(&mut c);
}

#[test]
fn an_unknown_type_is_defined_on_first_use() {
    let server = Server::start();
    let mut c = server.conn();
    c.nil("EXPCACHE.TYPE GET new");
    c.ok("EXPCACHE.SET k v TYPE new");
    c.map("EXPCACHE.TYPE GET new");
    c.ok("EXPCACHE.SET new:1 v");
    assert_eq!(c.map("EXPCACHE.META new:1")["type"], "new");
}

#[test]
fn there_are_no_more_types_than_configured() {
    let server = Server::with(&["--expcache.max-types", "8"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a v TYPE seventh");
    c.ok("EXPCACHE.TYPE SET eighth TTL 1m");
    refused(&mut c, "EXPCACHE.SET b v TYPE ninth", "ERR");
    refused(&mut c, "EXPCACHE.TYPE SET ninth TTL 1m", "ERR");
    c.ok("EXPCACHE.SET b v TYPE eighth");
    assert_eq!(c.int("EXPCACHE.TYPE DEL eighth"), 1);
    c.ok("EXPCACHE.SET b v TYPE ninth");
}

// ---- what a policy lets in

#[test]
fn a_value_over_maxvalue_is_too_large() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t MAXVALUE 1kb");
    c.ok(args!["EXPCACHE.SET", "k", "x".repeat(1024), "TYPE", "t"]);
    refused(&mut c, args!["EXPCACHE.SET", "k", "x".repeat(1025), "TYPE", "t"], "TOOLARGE");
    refused(&mut c, args!["EXPCACHE.SET", "new", "x".repeat(1025), "TYPE", "t"], "TOOLARGE");
    c.ok("EXPCACHE.TYPE SET t MAXVALUE 0");
    c.ok(args!["EXPCACHE.SET", "k", "x".repeat(1025), "TYPE", "t"]);
    check(&mut c);
}

#[test]
fn a_format_outside_formats_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t FORMATS 2 csv json");
    c.ok("EXPCACHE.SET k v TYPE t FORMAT csv");
    c.ok("EXPCACHE.SET k v TYPE t FORMAT json");
    c.ok("EXPCACHE.SET k v TYPE t");
    refused(&mut c, "EXPCACHE.SET k v TYPE t FORMAT xml", "BADFORMAT");
    refused(&mut c, "EXPCACHE.MSET 2 k v l v TYPE t FORMAT xml", "BADFORMAT");
    c.ok("EXPCACHE.TYPE SET t FORMATS 0");
    assert_eq!(c.map("EXPCACHE.TYPE GET t")["formats"], Value::Array(vec![]));
    c.ok("EXPCACHE.SET k v TYPE t FORMAT xml");
}

#[test]
fn the_least_recently_used_make_room_for_new_entries() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t MAXENTRIES 3");
    for key in ["a", "b", "c"] {
        c.ok(&["EXPCACHE.SET", key, "v", "TYPE", "t", "TAGS", "1", "x"]);
        tick();
    }
    c.cmd("EXPCACHE.GET a");
    tick();
    c.ok("EXPCACHE.SET c v TYPE t TAGS 1 x");
    assert_eq!(c.int("EXISTS a b c"), 3, "overwriting needs no room");
    tick();
    c.ok("EXPCACHE.SET d v TYPE t TAGS 1 x");
    assert_eq!(c.int("EXISTS b"), 0);
    assert_eq!(c.int("EXISTS a c d"), 3);
    check(&mut c);
    c.ok("EXPCACHE.SET other v");
    assert_eq!(c.int("EXISTS a c d"), 3, "another type needs no room here");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG x"), 3);
    check(&mut c);
}

#[test]
fn a_type_never_has_more_than_maxentries() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t MAXENTRIES 100");
    c.pipeline((0..500).map(|n| format!("EXPCACHE.SET k{n} v TYPE t TAGS 1 x")).collect::<Vec<_>>().iter());
    assert_eq!(c.int("DBSIZE"), 100);
    assert_eq!(c.int("EXISTS k499"), 1);
    let stats = c.map("EXPCACHE.STATS TYPE t");
    assert_eq!(stats["entries"], 100);
    assert_eq!(stats["evicted"], 400);
    check(&mut c);
}

#[test]
fn a_type_never_has_more_than_maxbytes() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET t MAXBYTES 10kb");
    let payload = "x".repeat(1000);
    for n in 0..50 {
        c.ok(args!["EXPCACHE.SET", format!("k{n}"), &payload, "TYPE", "t"]);
        assert_eq!(c.int(&["EXISTS", &format!("k{n}")]), 1, "the new entry stays");
        let stats = c.map("EXPCACHE.STATS TYPE t");
        assert!(stats["payload-bytes"].int() <= 10 << 10);
    }
    assert!(c.int("DBSIZE") >= 5);
    check(&mut c);
}

#[test]
fn an_entry_that_makes_room_is_announced_as_evicted() {
    let server = Server::with(&["--notify-keyspace-events", "Ee"]);
    let (mut c, mut listener) = (server.conn(), server.conn());
    listener.cmd("SUBSCRIBE __keyevent@0__:evicted");
    c.ok("EXPCACHE.TYPE SET t MAXENTRIES 1");
    c.ok("EXPCACHE.SET a v TYPE t");
    tick();
    c.ok("EXPCACHE.SET b v TYPE t");
    assert_eq!(listener.receive().unwrap().items()[2], "a");
}

// ---- names that clients invent

/// What one client invents does not use up everybody's types.
#[test]
fn a_name_that_was_only_used_makes_room_when_it_is_empty() {
    let master = Server::load(&["max-types", "8"], &[]).unwrap();
    let mut replica = Server::start();
    replica.replica_of(&master);
    let mut c = master.conn();
    c.ok("EXPCACHE.SET kept v TYPE kept");
    for n in 0..50 {
        c.ok(&format!("EXPCACHE.SET k v TYPE x{n}"));
        c.ok("EXPCACHE.SET k v TYPE kept");
    }
    let names = list(&mut c);
    assert!(names.len() == 8 && names.contains(&"kept".to_string()), "{names:?}");
    c.ok("EXPCACHE.SET k v TYPE y");
    assert!(refused(&mut c, "EXPCACHE.SET k2 v TYPE z", "ERR").contains("too many types"), "both have entries");
    replica.wait_for_sync(&master);
    assert_eq!(list(&mut replica.conn()), list(&mut c));

    // Who was promoted, or started again, knows as much.
    replica.conn().ok("REPLICAOF NO ONE");
    replica.restart(crate::harness::Stop::Save);
    let mut r = replica.conn();
    r.ok("CONFIG SET expcache.max-types 8");
    refused(&mut r, "EXPCACHE.SET k2 v TYPE z", "ERR");
    r.int("DEL k");
    r.ok("EXPCACHE.SET k2 v TYPE z");
    assert!(list(&mut r).contains(&"z".to_string()) && !list(&mut r).contains(&"y".to_string()));
    check(&mut r);
    check(&mut c);
}

#[test]
fn a_type_that_somebody_defined_makes_no_room() {
    let server = Server::load(&["max-types", "8"], &[]).unwrap();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET mine TTL 1m");
    c.ok("EXPCACHE.SET k v TYPE used");
    c.ok("EXPCACHE.TYPE SET used GRACE 1m");
    c.int("DEL k");
    refused(&mut c, "EXPCACHE.SET k v TYPE more", "ERR too many types");
    refused(&mut c, "EXPCACHE.TYPE SET more TTL 1m", "ERR too many types");
    assert_eq!(c.map("EXPCACHE.TYPE GET mine")["ttl"], 60_000);
    // What replicas are told, nobody else may say.
    refused(&mut c, "EXPCACHE.TYPE SET used FIRSTUSE", "ERR syntax error");
}

#[test]
fn a_type_that_is_defined_on_purpose_takes_the_room_of_one_that_was_used() {
    let server = Server::load(&["max-types", "8"], &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]).unwrap();
    let mut c = server.conn();
    for name in ["a", "b"] {
        c.ok(&format!("EXPCACHE.SET k v TYPE {name}"));
    }
    c.int("DEL k");
    c.ok("EXPCACHE.TYPE SET mine TTL 1m");
    c.ok("EXPCACHE.TYPE SET other TTL 1m");
    assert_eq!(list(&mut c), ["default", "drivers", "gps_tracks", "mine", "other", "reports", "trips", "vehicles"]);
    let before = list(&mut c);
    c.ok("DEBUG LOADAOF");
    assert_eq!(list(&mut c), before);
}

/// The names of restored values are bounded by those that are in use, whichever they are.
#[test]
fn restored_values_bring_no_more_types_than_there_may_be() {
    let (source, server) = (Server::start(), Server::load(&["max-types", "8"], &[]).unwrap());
    let (mut s, mut c) = (source.conn(), server.conn());
    let dumps: Vec<Vec<u8>> = (0..40)
        .map(|n| {
            s.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", format!("x{n}")]);
            s.bulk("DUMP k")
        })
        .collect();
    let mut restored = 0;
    for (n, dump) in dumps.iter().enumerate() {
        restored += usize::from(!matches!(c.cmd(args!["RESTORE", format!("k{n}"), 0, dump]), Value::Error(_)));
    }
    assert_eq!(restored, 2, "beside the six");
    assert_eq!(c.cmd("DBSIZE"), 2);
    assert!(server.log().contains("too many types"));
    check(&mut c);
    // In any order, as long as they are not there at the same time.
    for (n, dump) in dumps.iter().enumerate() {
        c.ok("FLUSHALL");
        c.ok(args!["RESTORE", "k", 0, dump]);
        assert_eq!(c.map("EXPCACHE.META k")["type"], format!("x{n}").as_str());
    }
    c.ok("FLUSHALL");
    c.ok("EXPCACHE.TYPE SET one TTL 1m");
    c.ok("EXPCACHE.TYPE SET two TTL 1m");
    refused(&mut c, args!["RESTORE", "k", 0, dumps[0].as_slice()], "ERR");
    check(&mut c);
}

/// A slot is moved by `RESTORE`, and nodes may have had other types each: none is to be left half moved.
#[test]
fn slots_may_bring_the_types_of_other_nodes() {
    let (source, server) = (Server::start(), Server::load(&["max-types", "8"], &["--cluster-enabled", "yes"]).unwrap());
    let (mut s, mut c) = (source.conn(), server.conn());
    c.ok("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_until("the cluster is ok", || c.text("CLUSTER INFO").contains("cluster_state:ok"));
    let mut restored = 0;
    for n in 0..40 {
        s.ok(args!["EXPCACHE.SET", "k", "v", "TYPE", format!("x{n}")]);
        let dump = s.bulk("DUMP k");
        restored += usize::from(!matches!(c.cmd(args!["RESTORE", format!("k{n}"), 0, dump]), Value::Error(_)));
    }
    assert_eq!(restored, 4 * 8 - 6, "beside the six");
    check(&mut c);
}

/// A replica and a file that is loaded take what there was.
#[test]
fn what_was_there_is_loaded_whatever_the_bound_is_now() {
    let mut server = Server::start();
    let mut c = server.conn();
    for n in 0..20 {
        c.ok(&format!("EXPCACHE.SET k{n} v TYPE x{n}"));
    }
    c.ok("CONFIG SET expcache.max-types 8");
    c.ok("DEBUG RELOAD");
    assert_eq!(c.cmd("DBSIZE"), 20);
    let replica = Server::load(&["max-types", "8"], &[]).unwrap();
    replica.replica_of(&server);
    c.ok("RENAME k1 k0");
    let dump = c.bulk("DUMP k2");
    c.ok(args!["RESTORE", "copy", 0, dump]);
    replica.wait_for_sync(&server);
    assert_eq!(replica.conn().cmd("DBSIZE"), 20);
    assert_eq!(replica.conn().map("EXPCACHE.META copy")["type"], "x2");
    check(&mut replica.conn());
    server.restart(crate::harness::Stop::Save);
    assert_eq!(server.conn().cmd("DBSIZE"), 20);
}
