//! KEYFOR: the same parameters give the same key, different ones a different key.

use crate::harness::{Server, args, check, refused};
use std::collections::HashMap;

/// Each digest is that of the canonical JSON in the comment.
#[test]
fn keys_are_the_digest_of_the_canonical_parameters() {
    let server = Server::start();
    for mut c in server.conns() {
        // {"company":"42","format":"csv"}
        assert_eq!(
            c.text("EXPCACHE.KEYFOR trips FORMAT csv COMPANY 42"),
            "export_cache:trips:f1a2ed9c41b5820ccc9619f2e57a66be"
        );
        // {"company":"42","fields":{"a":"1","b":"2"},"filters":{"status":["active"],"year":2024},"format":"csv","project":"p","user":"7"}
        assert_eq!(
            c.text(args![
                "EXPCACHE.KEYFOR",
                "trips",
                "FORMAT",
                "csv",
                "FILTERS",
                r#"{ "year": 2024.0, "status": ["active"] }"#,
                "COMPANY",
                42,
                "USER",
                7,
                "PROJECT",
                "p",
                "FIELD",
                "b",
                2,
                "FIELD",
                "a",
                1,
            ]),
            "export_cache:trips:ade30689b1b8a3af0b9228ae5e30775e"
        );
        // {"filters":{"a":0.1,"n":null,"t":true,"z":1e+21,"é":"é\n"}}
        assert_eq!(
            c.text(args![
                "EXPCACHE.KEYFOR",
                "trips",
                "FILTERS",
                r#"{"é":"\u00e9\n","z":1e21,"t":true,"n":null,"a":0.10}"#,
            ]),
            "export_cache:trips:d510d0663b35f243a329e92c7f6bd9a8"
        );
        // {"fields":{"région":"Île"}}
        assert_eq!(
            c.text(args!["EXPCACHE.KEYFOR", "trips", "FIELD", "région", "Île"]),
            "export_cache:trips:54931b3344efaa69fac1e0214785a76b"
        );
    }
}

#[test]
fn a_hash_tag_stands_in_the_key_and_not_in_the_digest() {
    let server = Server::start();
    let mut c = server.conn();
    assert_eq!(
        c.text("EXPCACHE.KEYFOR trips FORMAT csv COMPANY 42 HASHTAG company:42"),
        "export_cache:trips:{company:42}:f1a2ed9c41b5820ccc9619f2e57a66be"
    );
}

#[test]
fn the_order_means_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    let first = c.text(
        r#"EXPCACHE.KEYFOR t FORMAT csv FILTERS {"a":1,"b":[1,2]} COMPANY 1 USER 2 PROJECT 3 FIELD x 1 FIELD y 2"#,
    );
    let second = c.text(
        r#"expcache.keyfor t field y 2 project 3 field x 1 user 2 filters {"b":[1,2],"a":1} company 1 format csv"#,
    );
    assert_eq!(first, second);
}

#[test]
fn different_parameters_give_different_keys() {
    let server = Server::start();
    let mut c = server.conn();
    let mut seen = HashMap::new();
    for parameters in [
        "t",
        "u",
        "t FORMAT csv",
        "t FORMAT CSV",
        "t COMPANY csv",
        "t USER csv",
        "t PROJECT csv",
        "t FIELD format csv",
        "t FIELD csv format",
        "t FIELD formatcsv x",
        "t FIELD a 1",
        "t FIELD a 1 FIELD b 1",
        "t FILTERS {}",
        "t FILTERS []",
        r#"t FILTERS {"format":"csv"}"#,
        r#"t FILTERS {"a":1}"#,
        r#"t FILTERS {"a":"1"}"#,
        r#"t FILTERS {"a":true}"#,
        r#"t FILTERS {"a":null}"#,
        r#"t FILTERS {"a":[1,2]}"#,
        r#"t FILTERS {"a":[2,1]}"#,
        r#"t FILTERS {"a":0.1}"#,
        r#"t FILTERS {"a":0.10000000000000002}"#,
        "t COMPANY 1 USER 2",
        "t COMPANY 2 USER 1",
        "t COMPANY 12",
        "t HASHTAG x",
    ] {
        let key = c.text(&format!("EXPCACHE.KEYFOR {parameters}"));
        let same = seen.insert(key, parameters);
        assert_eq!(same, None, "the key of {parameters}");
    }
}

#[test]
fn a_given_parameter_differs_from_a_missing_one_even_if_empty() {
    let server = Server::start();
    let mut c = server.conn();
    let missing = c.text("EXPCACHE.KEYFOR t");
    assert_ne!(c.text(&["EXPCACHE.KEYFOR", "t", "COMPANY", ""]), missing);
}

#[test]
fn the_prefix_is_configured_and_the_type_is_found_in_the_key() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.prefix acme");
    let key = c.text("EXPCACHE.KEYFOR trips FORMAT csv COMPANY 42");
    assert_eq!(key, "acme:trips:f1a2ed9c41b5820ccc9619f2e57a66be");
    c.ok(&["EXPCACHE.SET", &key, "v"]);
    assert_eq!(c.map(&["EXPCACHE.META", &key])["type"], "trips");
    c.ok("EXPCACHE.SET export_cache:trips:x v");
    assert_eq!(c.map("EXPCACHE.META export_cache:trips:x")["type"], "default");
}

#[test]
fn what_could_mean_two_things_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    for (parameters, prefix) in [
        ("NONSENSE", "ERR syntax error"),
        ("FORMAT", "ERR syntax error"),
        ("FIELD a", "ERR syntax error"),
        ("FILTERS {", "ERR"),
        ("FILTERS {}x", "ERR"),
        (r#"FILTERS {"a":1,"a":2}"#, "ERR"),
        (r#"FILTERS {"x":{"a":1,"a":1}}"#, "ERR"),
        (r#"FILTERS {"a":9007199254740993}"#, "ERR"),
        ("FIELD a 1 FIELD a 2", "ERR"),
        ("FIELD a 1 FIELD a 1", "ERR"),
    ] {
        refused(&mut c, &format!("EXPCACHE.KEYFOR t {parameters}"), prefix);
    }
    let not_utf8 = b"\xff".as_slice();
    for option in ["FORMAT", "FILTERS", "COMPANY", "USER", "PROJECT"] {
        refused(&mut c, args!["EXPCACHE.KEYFOR", "t", option, not_utf8], "ERR");
    }
    refused(&mut c, args!["EXPCACHE.KEYFOR", "t", "FIELD", "a", not_utf8], "ERR");
    for name in ["", &"n".repeat(513)] {
        refused(&mut c, &["EXPCACHE.KEYFOR", name], "ERR");
    }
}

/// What `KEYFOR` is given as the type is what a value stored under its key has, whichever other types there are.
#[test]
fn an_entry_has_the_type_that_its_key_was_derived_for() {
    let server = Server::start();
    let mut c = server.conn();
    let types: [&[u8]; 6] = [b"a", b"a:b", b"a:b:c", b"export_cache", b":", b"a:{x"];
    for name in types {
        c.ok(args!["EXPCACHE.TYPE", "SET", name, "TTL", "1m"]);
    }
    for (name, hashtag) in types[..5].iter().flat_map(|name| ["", "x", "x:y"].map(|tag| (*name, tag))) {
        let hashtag = if hashtag.is_empty() { vec![] } else { args!["HASHTAG", hashtag] };
        let key = c.bulk([args!["EXPCACHE.KEYFOR", name], hashtag].concat());
        c.ok(args!["EXPCACHE.SET", key.as_slice(), "v"]);
        assert_eq!(c.map(args!["EXPCACHE.META", key.as_slice()])["type"].as_bytes(), name, "{}", key.escape_ascii());
    }
    c.ok("EXPCACHE.SET a:b:1 v");
    assert_eq!(c.map("EXPCACHE.META a:b:1")["type"], "a:b");
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL a:b"), 1);
    c.ok("EXPCACHE.SET a:b:1 v");
    assert_eq!(c.map("EXPCACHE.META a:b:1")["type"], "a");
    check(&mut c);
}

/// `…993` is no double, however it is written.
#[test]
fn an_integer_that_no_double_holds_is_refused_with_a_fraction_too() {
    let server = Server::start();
    let mut c = server.conn();
    for number in ["9007199254740993", "9007199254740993.0", "-9007199254740993.00", "9007199254740992.5"] {
        refused(&mut c, args!["EXPCACHE.KEYFOR", "t", "FILTERS", number], "ERR FILTERS has the integer");
    }
    let keys = ["9007199254740992", "9007199254740992.0"].map(|n| c.text(args!["EXPCACHE.KEYFOR", "t", "FILTERS", n]));
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn filters_nest_127_deep() {
    let server = Server::start();
    let mut c = server.conn();
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    c.text(args!["EXPCACHE.KEYFOR", "t", "FILTERS", deep(127)]);
    refused(&mut c, args!["EXPCACHE.KEYFOR", "t", "FILTERS", deep(128)], "ERR FILTERS must be valid JSON");
}
