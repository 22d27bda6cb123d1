//! FETCH: the full read protocol.

use crate::harness::{Server, Value, args, check, refused, wait_until};

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
