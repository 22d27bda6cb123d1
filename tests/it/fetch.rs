//! FETCH: the full read protocol.

use crate::harness::{Server, Value, args, check, refused, wait_until};
use crate::large::{KB, etag, in_time, occupy, one_worker, rows, wait_until_blocked};

const MD5_OF_HELLO: &str = "5d41402abc4b2a76b9719d911017c592";

/// Long over, but within its grace.
const STALE: &str = "PXAT 1000 GRACE 365000d";

#[test]
fn a_hit() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok(r#"EXPCACHE.SET k hello TYPE trips EX 100 FORMAT csv RECORDS 3 META {"a":1}"#);
        let fetched = c.map("EXPCACHE.FETCH k");
        assert_eq!(fetched["status"], "hit");
        assert_eq!(fetched["value"], "hello");
        assert_eq!(fetched["encoding"], "identity");
        assert_eq!(fetched["etag"], MD5_OF_HELLO);
        assert_eq!(fetched["type"], "trips");
        assert_eq!(fetched["format"], "csv");
        assert_eq!(fetched["records"], 3);
        assert_eq!(fetched["size"], 5);
        assert_eq!(fetched["meta"], r#"{"a":1}"#);
        assert!(fetched["age"].int() >= 0);
        assert!((1..=100_000).contains(&fetched["ttl"].int()));
        assert_eq!(fetched["lease"], Value::Nil);
        assert_eq!(fetched["retry"], Value::Nil);
    }
}

/// The names are had from the server's `ECHO`, which an administrator may have taken away, or given to another command.
#[test]
fn the_names_are_told_without_echo() {
    let gone = ["--rename-command", "ECHO", "MURMUR"];
    let another = ["--rename-command", "ECHO", "MURMUR", "--rename-command", "TYPE", "ECHO"];
    for settings in [&gone[..], &another] {
        let server = Server::with(settings);
        let mut c = server.conn();
        c.ok("EXPCACHE.SET k hello");
        let fetched = c.map("EXPCACHE.FETCH k FIELDS 2 status value");
        assert_eq!(fetched.names(), ["status", "value"]);
        assert_eq!(fetched["status"], "hit");
        assert_eq!(fetched["value"], "hello");
        check(&mut c);
    }
}

#[test]
fn a_miss_is_all_null() {
    let server = Server::start();
    for mut c in server.conns() {
        let fetched = c.map("EXPCACHE.FETCH nothing");
        assert_eq!(fetched["status"], "miss");
        for name in fetched.names() {
            assert!(name == "status" || fetched[name] == Value::Nil, "{name}");
        }
    }
}

#[test]
fn the_fields_come_in_one_order() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET k hello");
        c.ok(&format!("EXPCACHE.SET stale hello {STALE}"));
        let order = [
            "status", "value", "encoding", "etag", "type", "format", "records", "size", "meta", "age", "ttl", "lease",
            "retry",
        ];
        let matching = format!("EXPCACHE.FETCH k IFNONEMATCH {MD5_OF_HELLO}");
        for command in ["EXPCACHE.FETCH k", "EXPCACHE.FETCH stale", "EXPCACHE.FETCH no", &matching] {
            assert_eq!(c.map(command).names(), order, "{command}");
        }
    }
}

#[test]
fn a_stale_entry_is_served_as_such() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET k hello TYPE trips FORMAT csv {STALE}"));
    c.nil("EXPCACHE.GET k");
    let fetched = c.map("EXPCACHE.FETCH k");
    assert_eq!(fetched["status"], "stale");
    assert_eq!(fetched["value"], "hello");
    assert_eq!(fetched["etag"], MD5_OF_HELLO);
    assert_eq!(fetched["type"], "trips");
    assert_eq!(fetched["format"], "csv");
    assert!(fetched["ttl"].int() < 0);
    check(&mut c);
}

#[test]
fn a_known_payload_is_not_sent_again() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET k hello TYPE trips FORMAT csv RECORDS 3");
        let fetched = c.map(&["EXPCACHE.FETCH", "k", "IFNONEMATCH", MD5_OF_HELLO]);
        assert_eq!(fetched["status"], "not-modified");
        assert_eq!(fetched["value"], Value::Nil);
        assert_eq!(fetched["etag"], MD5_OF_HELLO);
        assert_eq!(fetched["type"], "trips");
        assert_eq!(fetched["records"], 3);
        assert_eq!(fetched["size"], 5);

        let fetched = c.map("EXPCACHE.FETCH k IFNONEMATCH d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(fetched["status"], "hit");
        assert_eq!(fetched["value"], "hello");
        let fetched = c.map(&["EXPCACHE.FETCH", "nothing", "IFNONEMATCH", MD5_OF_HELLO]);
        assert_eq!(fetched["status"], "miss");
    }
}

#[test]
fn a_stale_payload_is_sent_even_if_known() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&format!("EXPCACHE.SET k hello {STALE}"));
    let fetched = c.map(&["EXPCACHE.FETCH", "k", "IFNONEMATCH", MD5_OF_HELLO]);
    assert_eq!(fetched["status"], "stale");
    assert_eq!(fetched["value"], "hello");
}

#[test]
fn a_range_of_the_payload() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET k 0123456789");
        for (offset, length, expected) in [
            ("0", "10", "0123456789"),
            ("2", "3", "234"),
            ("9", "1", "9"),
            ("7", "100", "789"),
            ("0", "0", ""),
            ("10", "1", ""),
            ("1000", "1", ""),
            ("5", "9223372036854775807", "56789"),
        ] {
            let fetched = c.map(&["EXPCACHE.FETCH", "k", "RANGE", offset, length]);
            assert_eq!(fetched["status"], "hit");
            assert_eq!(fetched["value"], expected, "RANGE {offset} {length}");
            assert_eq!(fetched["encoding"], "identity");
            assert_eq!(fetched["size"], 10);
        }
        let fetched = c.map("EXPCACHE.FETCH nothing RANGE 0 5");
        assert_eq!(fetched["status"], "miss");
        assert_eq!(fetched["value"], Value::Nil);
    }
}

#[test]
fn a_range_of_a_binary_payload() {
    let server = Server::start();
    let mut c = server.conn();
    let payload: Vec<u8> = (0..=255).collect();
    c.ok(args!["EXPCACHE.SET", "k", payload]);
    let fetched = c.map("EXPCACHE.FETCH k RANGE 10 246");
    assert_eq!(fetched["value"], Value::bulk(&payload[10..]));
}

#[test]
fn an_older_entry_than_asked_for_is_stale() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k hello");
    assert_eq!(c.map("EXPCACHE.FETCH k MAXAGE 1h")["status"], "hit");
    wait_until("the entry is older than 1 ms", || c.map("EXPCACHE.FETCH k MAXAGE 1ms")["status"] == "stale");
    assert_eq!(c.map("EXPCACHE.FETCH k MAXAGE 1")["status"], "stale");
    let fetched = c.map(&["EXPCACHE.FETCH", "k", "MAXAGE", "1", "IFNONEMATCH", MD5_OF_HELLO]);
    assert_eq!(fetched["status"], "stale");
    assert_eq!(fetched["value"], "hello");

    // For that call only.
    assert_eq!(c.map("EXPCACHE.FETCH k")["status"], "hit");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "hello");
    check(&mut c);
}

#[test]
fn options_combine_in_any_order_and_case() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k 0123456789");
    let fetched = c.map("expcache.fetch k maxage 1h range 2 3 ifnonematch 5d41402abc4b2a76b9719d911017c592");
    assert_eq!(fetched["status"], "hit");
    assert_eq!(fetched["value"], "234");
}

#[test]
fn what_it_does_not_understand_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    for (options, prefix) in [
        ("NONSENSE", "ERR syntax error"),
        ("IFNONEMATCH", "ERR syntax error"),
        ("RANGE 1", "ERR syntax error"),
        ("MAXAGE", "ERR syntax error"),
        ("RANGE a 1", "ERR value is not an integer or out of range"),
        ("RANGE 1 b", "ERR value is not an integer or out of range"),
        ("RANGE -1 1", "ERR"),
        ("RANGE 0 -1", "ERR"),
        ("MAXAGE old", "ERR invalid duration"),
        ("MAXAGE -1", "ERR invalid duration"),
    ] {
        refused(&mut c, &format!("EXPCACHE.FETCH k {options}"), prefix);
        refused(&mut c, &format!("EXPCACHE.FETCH nothing {options}"), prefix);
    }
}

// ---- FIELDS

#[test]
fn only_the_fields_that_were_asked_for_come_in_that_order() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok(r#"EXPCACHE.SET k hello TYPE trips EX 100 FORMAT csv RECORDS 3 META {"a":1}"#);
        c.ok(&format!("EXPCACHE.SET stale hello {STALE}"));
        let all = c.map("EXPCACHE.FETCH k").names().into_iter().rev().map(str::to_owned).collect::<Vec<_>>();
        for key in ["k", "stale", "no"] {
            let whole = c.map(&["EXPCACHE.FETCH", key]);
            let reversed = c.map(&format!("EXPCACHE.FETCH {key} FIELDS {} {}", all.len(), all.join(" ")));
            assert_eq!(reversed.names(), all, "{key}");
            for name in &all {
                let one = c.map(&format!("EXPCACHE.FETCH {key} FIELDS 1 {}", name.to_uppercase()));
                assert_eq!(one.names(), [name], "{key}");
                // Time goes on.
                if !["age", "ttl"].contains(&name.as_str()) {
                    assert_eq!(one[name.as_str()], whole[name.as_str()], "{key} {name}");
                    assert_eq!(one[name.as_str()], reversed[name.as_str()], "{key} {name}");
                }
                assert_eq!(one[name.as_str()] == Value::Nil, whole[name.as_str()] == Value::Nil, "{key} {name}");
            }
        }
        let same = c.map(&format!("EXPCACHE.FETCH k IFNONEMATCH {MD5_OF_HELLO} FIELDS 2 value status"));
        assert_eq!((&same["value"], &same["status"]), (&Value::Nil, &Value::bulk("not-modified")));
        let old = c.map("EXPCACHE.FETCH k MAXAGE 0 RANGE 1 3 VERIFY FIELDS 1 value");
        assert_eq!(old["value"], "ell");
        check(&mut c);
    }
}

#[test]
fn what_is_asked_for_in_fields_decides_no_status() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET slow SLIDING yes");
    c.ok("EXPCACHE.SET k v TYPE slow EX 100");
    assert_eq!(c.int("EXPIRE k 10"), 1);
    assert_eq!(c.map("EXPCACHE.FETCH k FIELDS 1 size")["size"], 1);
    assert!(c.int("TTL k") > 90, "a hit slides, whatever it asks for");
    assert_eq!(c.map("EXPCACHE.META k")["hits"], 1);
    let lease = c.map("EXPCACHE.FETCH new LEASE 30s FIELDS 2 lease status");
    assert_ne!(lease["lease"], Value::Nil);
    assert!(c.map("EXPCACHE.FETCH new LEASE 30s FIELDS 2 retry lease")["retry"].int() > 0);
    c.ok(&["EXPCACHE.SET", "new", "v", "LEASE", &lease["lease"].text()]);
    for wrong in [
        "FIELDS",
        "FIELDS 0",
        "FIELDS 1",
        "FIELDS 2 value",
        "FIELDS 1 values",
        "FIELDS 2 value VALUE",
        "FIELDS 1 value FIELDS 1 value",
        "LEASE 30s FIELDS 1 value",
        "FIELDS 1 retry LEASE 30s",
    ] {
        refused(&mut c, &format!("EXPCACHE.FETCH k {wrong}"), "ERR syntax error");
    }
    refused(&mut c, "EXPCACHE.FETCH k FIELDS x value", "ERR value is not an integer or out of range");
    check(&mut c);
}

/// The only worker is busy, so the MD5 of what was just stored is not known yet.
#[test]
fn who_asks_for_no_etag_waits_for_none() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        let payload = rows(20 * KB);
        occupy(&mut c, 2);
        c.ok(args!["EXPCACHE.SET", "k", &payload]);
        let mut other = server.conn();
        let id = other.int("CLIENT ID");
        other.send("EXPCACHE.FETCH k FIELDS 1 etag").unwrap();
        wait_until_blocked(&mut c, id);
        let fetched = c.map("EXPCACHE.FETCH k FIELDS 3 status value size");
        assert_eq!((&fetched["status"], fetched["value"].as_bytes()), (&Value::bulk("hit"), &*payload));
        let others = c.text(args!["CLIENT", "LIST", "ID", id]);
        assert!(others.contains(" flags=b "), "the other still waits: {others}");
        let told = other.receive().unwrap();
        assert_eq!(told.fields()["etag"].text(), etag(&payload));
    });
}

#[test]
fn a_note_is_taken_and_bounded() {
    let server = Server::start();
    for mut c in server.conns() {
        let (longest, longer) = ("n".repeat(256), "n".repeat(257));
        c.ok("EXPCACHE.SET k v TAGS 1 t NOTE someone");
        for command in [
            "SET k v TAGS 1 t",
            "MSET 1 k v TAGS 1 t",
            "FETCH k",
            "PURGE ANY 1 t DRYRUN",
            "PURGE ANY 1 t SOFT",
            "CLEAR SOFT",
        ] {
            let words = |note: &[u8]| {
                let words = format!("EXPCACHE.{command} NOTE");
                let words = words.split(' ').map(|word| word.as_bytes().to_vec());
                words.chain([note.to_vec()]).collect::<Vec<_>>()
            };
            for note in [longest.as_bytes(), b"", b"\0\xFF any\r\nbytes"] {
                assert!(!matches!(c.cmd(words(note)), Value::Error(_)), "{command}");
            }
            refused(&mut c, words(longer.as_bytes()), "ERR a note has at most 256 bytes");
            refused(&mut c, &format!("EXPCACHE.{command} NOTE"), "ERR syntax error");
            refused(&mut c, &format!("EXPCACHE.{command} NOTE a NOTE b"), "ERR syntax error");
        }
        check(&mut c);
    }
}
