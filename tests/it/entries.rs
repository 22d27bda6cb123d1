//! Storing and reading entries: SET, MSET, GET, MGET, META, DEL.

use crate::harness::{Conn, HOSTILE, Server, Value, args, check, refused, wait_until};

const MD5_OF_HELLO: &str = "5d41402abc4b2a76b9719d911017c592";
const MD5_OF_NOTHING: &str = "d41d8cd98f00b204e9800998ecf8427e";

fn every_byte() -> Vec<u8> {
    (0..=255).collect()
}

fn tags(c: &mut Conn, key: &str) -> Vec<String> {
    c.map(&["EXPCACHE.META", key])["tags"].sorted_texts()
}

// ---- what is stored comes back

#[test]
fn a_payload_comes_back_byte_for_byte() {
    let server = Server::start();
    for mut c in server.conns() {
        let long = every_byte().repeat(20_000);
        for payload in HOSTILE.into_iter().chain([&every_byte()[..], &long, b""]) {
            c.ok(args!["EXPCACHE.SET", "k", payload]);
            assert_eq!(c.bulk("EXPCACHE.GET k"), payload);
            assert_eq!(c.map("EXPCACHE.FETCH k")["value"], Value::bulk(payload));
            let meta = c.map("EXPCACHE.META k");
            assert_eq!(meta["size"], payload.len() as i64);
        }
        check(&mut c);
    }
}

#[test]
fn an_empty_payload_is_a_value() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.SET", "k", ""]);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "");
    assert_eq!(c.cmd("EXPCACHE.MGET k"), Value::Array(vec![Value::bulk("")]));
    let fetched = c.map("EXPCACHE.FETCH k");
    assert_eq!(fetched["status"], "hit");
    assert_eq!(fetched["value"], "");
    assert_eq!(fetched["size"], 0);
    assert_eq!(fetched["etag"], MD5_OF_NOTHING);
    check(&mut c);
}

#[test]
fn keys_tags_and_types_are_any_bytes() {
    let server = Server::start();
    let mut c = server.conn();
    for name in HOSTILE.into_iter().chain([&every_byte()[..]]) {
        c.ok(args!["EXPCACHE.SET", name, "v", "TYPE", name, "TAGS", 1, name]);
        assert_eq!(c.cmd(args!["EXPCACHE.GET", name]), "v");
        let meta = c.map(args!["EXPCACHE.META", name]);
        assert_eq!(meta["type"], Value::bulk(name));
        assert_eq!(meta["tags"], Value::Array(vec![Value::bulk(name)]));
        check(&mut c);
        assert_eq!(c.int(args!["EXPCACHE.DEL", name]), 1);
        check(&mut c);
    }
}

#[test]
fn names_and_payloads_of_the_largest_size() {
    let server = Server::start();
    let mut c = server.conn();
    let name = "n".repeat(512);
    c.ok(args!["EXPCACHE.SET", &name, "v", "TYPE", &name, "TAGS", 1, &name]);
    assert_eq!(tags(&mut c, &name), [name.as_str()]);

    let payload = "0123456789abcdef".repeat(512 * 1024);
    c.ok(args!["EXPCACHE.SET", "large", &payload]);
    assert!(c.bulk("EXPCACHE.GET large") == payload.as_bytes());
    check(&mut c);
}

#[test]
fn set_keeps_everything_it_was_told() {
    let server = Server::start();
    for mut c in server.conns() {
        let json = r#"{ "filters": {"year": 2024, "company": "42"} }"#;
        c.ok(args![
            "EXPCACHE.SET",
            "k",
            "hello",
            "TYPE",
            "vehicles",
            "TAGS",
            2,
            "company:42",
            "user:7",
            "FORMAT",
            "csv",
            "RECORDS",
            1234,
            "COST",
            250,
            "META",
            json,
            "HASH",
            MD5_OF_HELLO,
            "ENCODING",
            "identity",
        ]);
        let meta = c.map("EXPCACHE.META k");
        assert_eq!(meta["type"], "vehicles");
        assert_eq!(meta["format"], "csv");
        assert_eq!(meta["records"], 1234);
        assert_eq!(meta["cost"], 250);
        assert_eq!(meta["meta"], json);
        assert_eq!(meta["etag"], MD5_OF_HELLO);
        assert_eq!(meta["size"], 5);
        assert_eq!(meta["encoding"], "identity");
        assert_eq!(meta["state"], "fresh");
        assert_eq!(meta["tags"].sorted_texts(), ["company:42", "user:7"]);

        let fetched = c.map("EXPCACHE.FETCH k");
        for field in ["type", "format", "records", "meta", "etag", "size", "encoding"] {
            assert_eq!(fetched[field], meta[field], "{field}");
        }
        check(&mut c);
    }
}

#[test]
fn what_was_not_told_is_null() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET k v");
        let meta = c.map("EXPCACHE.META k");
        for field in ["format", "records", "cost", "meta"] {
            assert_eq!(meta[field], Value::Nil, "{field}");
        }
        assert_eq!(meta["tags"], Value::Array(vec![]));
        let fetched = c.map("EXPCACHE.FETCH k");
        for field in ["format", "records", "meta", "lease", "retry"] {
            assert_eq!(fetched[field], Value::Nil, "{field}");
        }
    }
}

#[test]
fn option_words_in_any_order_and_case_names_as_written() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("expcache.set k v tags 1 Company:1 Format CSV type Trips px 60000 nx grace 5s");
    let meta = c.map("expcache.meta k");
    assert_eq!(meta["type"], "Trips");
    assert_eq!(meta["format"], "CSV");
    assert_eq!(meta["grace"], 5000);
    assert_eq!(meta["tags"].sorted_texts(), ["Company:1"]);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG company:1"), 0);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG Company:1"), 1);
    check(&mut c);
}

#[test]
fn an_option_word_can_be_a_key_a_payload_a_tag() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET TAGS NX TAGS 2 EX XX FORMAT TAGS TYPE TYPE");
    assert_eq!(c.cmd("EXPCACHE.GET TAGS"), "NX");
    let meta = c.map("EXPCACHE.META TAGS");
    assert_eq!(meta["tags"].sorted_texts(), ["EX", "XX"]);
    assert_eq!(meta["format"], "TAGS");
    assert_eq!(meta["type"], "TYPE");
    check(&mut c);
}

// ---- tags

#[test]
fn sixty_four_tags_and_no_more() {
    let server = Server::start();
    let mut c = server.conn();
    let set = |count: usize| {
        let mut words = args!["EXPCACHE.SET", "k", "v", "TAGS", count];
        words.extend((0..count).map(|n| format!("tag:{n}").into_bytes()));
        words
    };
    c.ok(set(64));
    assert_eq!(tags(&mut c, "k").len(), 64);
    refused(&mut c, set(65), "ERR");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG tag:63"), 1);
    check(&mut c);
}

#[test]
fn a_tag_given_twice_is_one() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TAGS 3 a b a");
    assert_eq!(tags(&mut c, "k"), ["a", "b"]);
    assert_eq!(c.map("EXPCACHE.STATS")["tags"], 2);
    check(&mut c);
}

#[test]
fn overwriting_replaces_everything() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(r#"EXPCACHE.SET k old TYPE trips EX 50 GRACE 5s TAGS 2 a b FORMAT csv RECORDS 1 COST 1 META {"a":1}"#);
    c.cmd("EXPCACHE.GET k");
    c.ok("EXPCACHE.SET k new TYPE vehicles TAGS 2 b c");
    let meta = c.map("EXPCACHE.META k");
    assert_eq!(meta["type"], "vehicles");
    assert_eq!(meta["size"], 3);
    assert_eq!(meta["grace"], 0);
    assert_eq!(meta["hits"], 0);
    assert_eq!(meta["tags"].sorted_texts(), ["b", "c"]);
    for field in ["format", "records", "cost", "meta"] {
        assert_eq!(meta[field], Value::Nil, "{field}");
    }
    check(&mut c);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG a"), 0);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "new");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG c"), 1);
    check(&mut c);
}

// ---- conditions

#[test]
fn nx_stores_only_what_is_missing() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        c.ok("EXPCACHE.SET k v1 NX TAGS 1 a");
        c.nil("EXPCACHE.SET k v2 NX TAGS 1 b");
        assert_eq!(c.cmd("EXPCACHE.GET k"), "v1");
        assert_eq!(tags(&mut c, "k"), ["a"]);
        check(&mut c);
    }
}

#[test]
fn xx_stores_only_over_an_entry() {
    let server = Server::start();
    let mut c = server.conn();
    c.nil("EXPCACHE.SET k v1 XX");
    assert_eq!(c.int("EXISTS k"), 0);
    c.ok("EXPCACHE.SET k v1");
    c.ok("EXPCACHE.SET k v2 XX");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v2");
    check(&mut c);
}

#[test]
fn ifmatch_stores_only_over_that_payload() {
    let server = Server::start();
    let mut c = server.conn();
    c.nil(&["EXPCACHE.SET", "k", "v", "IFMATCH", MD5_OF_HELLO]);
    c.ok("EXPCACHE.SET k hello TAGS 1 a");
    c.nil(&["EXPCACHE.SET", "k", "v", "IFMATCH", MD5_OF_NOTHING]);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "hello");
    assert_eq!(tags(&mut c, "k"), ["a"]);
    c.ok(&["EXPCACHE.SET", "k", "v", "IFMATCH", MD5_OF_HELLO]);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    check(&mut c);
}

#[test]
fn a_stale_entry_exists_for_the_conditions() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k hello PXAT 1000 GRACE 365000d");
    c.nil("EXPCACHE.GET k");
    c.nil("EXPCACHE.SET k v NX");
    c.ok(&["EXPCACHE.SET", "k", "v", "IFMATCH", MD5_OF_HELLO]);
    c.ok("EXPCACHE.SET k v2 PXAT 1000 GRACE 365000d");
    c.ok("EXPCACHE.SET k v3 XX");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v3");
    check(&mut c);
}

#[test]
fn a_hash_is_checked_before_anything_is_stored() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(&["EXPCACHE.SET", "k", "hello", "HASH", MD5_OF_HELLO]);
    let wrong = &["EXPCACHE.SET", "k", "hallo", "HASH", MD5_OF_HELLO];
    refused(&mut c, wrong, "HASHMISMATCH");
    let new = &["EXPCACHE.SET", "new", "hallo", "HASH", MD5_OF_HELLO, "TYPE", "new"];
    refused(&mut c, new, "HASHMISMATCH");
    refused(&mut c, "EXPCACHE.SET k hello HASH abc", "");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "hello");

    let large = vec![b'x'; 4 << 20];
    let wrong = args!["EXPCACHE.SET", "k", &large, "HASH", MD5_OF_HELLO];
    c.err(wrong, "HASHMISMATCH");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "hello");
    check(&mut c);
}

// ---- refusals

#[test]
fn set_refuses_what_it_does_not_understand() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(r#"EXPCACHE.SET k v TYPE trips EX 1000 GRACE 5s TAGS 1 a META {"a":1}"#);
    const SYNTAX: &str = "ERR syntax error";
    const NUMBER: &str = "ERR value is not an integer or out of range";
    const EXPIRE: &str = "ERR invalid expire time in 'expcache.set' command";
    const DURATION: &str = "ERR invalid duration";
    for (options, prefix) in [
        ("NONSENSE", SYNTAX),
        ("EX 10 NONSENSE", SYNTAX),
        ("TYPE", SYNTAX),
        ("EX", SYNTAX),
        ("GRACE", SYNTAX),
        ("TAGS", SYNTAX),
        ("TAGS 2 only-one", SYNTAX),
        ("FORMAT", SYNTAX),
        ("META", SYNTAX),
        ("HASH", SYNTAX),
        ("IFMATCH", SYNTAX),
        ("EX 10 PX 10", SYNTAX),
        ("EX 10 EXAT 9999999999", SYNTAX),
        ("PXAT 9999999999999 KEEPTTL", SYNTAX),
        ("EX 10 KEEPTTL", SYNTAX),
        ("NX XX", SYNTAX),
        ("NX IFMATCH 9e3669d19b675bd57058fd4664205d2a", SYNTAX),
        ("IFMATCH 9e3669d19b675bd57058fd4664205d2a XX", SYNTAX),
        ("EX ten", NUMBER),
        ("PX 1.5", NUMBER),
        ("EXAT tomorrow", NUMBER),
        ("PXAT 99999999999999999999", NUMBER),
        ("TAGS two a b", NUMBER),
        ("RECORDS many", NUMBER),
        ("COST much", NUMBER),
        ("EX 0", EXPIRE),
        ("EX -1", EXPIRE),
        ("PX 0", EXPIRE),
        ("PX -1", EXPIRE),
        ("EX 9223372036854775807", EXPIRE),
        ("GRACE soon", DURATION),
        ("GRACE 5x", DURATION),
        ("GRACE -5s", DURATION),
        ("GRACE 1.5h", DURATION),
        ("GRACE 99999999999999999d", DURATION),
        ("TAGS -1", "ERR"),
        ("RECORDS -1", "ERR"),
        ("COST -1", "ERR"),
        ("META {", "ERR"),
        ("META [1]", "ERR"),
        ("META 1", "ERR"),
        ("META {}x", "ERR"),
        ("LEASE unknown", "LEASELOST"),
    ] {
        refused(&mut c, &format!("EXPCACHE.SET k other {options}"), prefix);
        refused(&mut c, &format!("EXPCACHE.SET new other {options}"), prefix);
    }
}

#[test]
fn set_refuses_names_that_are_empty_or_too_long() {
    let server = Server::start();
    let mut c = server.conn();
    for name in ["", &"n".repeat(513)] {
        refused(&mut c, &["EXPCACHE.SET", "k", "v", "TAGS", "2", "a", name], "ERR");
        refused(&mut c, &["EXPCACHE.SET", "k", "v", "TYPE", name], "ERR");
        refused(&mut c, &["EXPCACHE.MSET", "1", "k", "v", "TAGS", "1", name], "ERR");
    }
}

#[test]
fn metadata_is_at_most_64_kib_of_a_json_object() {
    let server = Server::start();
    let mut c = server.conn();
    let object = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    c.ok(args!["EXPCACHE.SET", "k", "v", "META", object(64 * 1024)]);
    assert_eq!(c.map("EXPCACHE.META k")["meta"].text().len(), 64 * 1024);
    refused(&mut c, args!["EXPCACHE.SET", "k", "v", "META", object(64 * 1024 + 1)], "ERR");
    refused(&mut c, args!["EXPCACHE.SET", "k", "v", "META", b"{\"a\":\"\xff\"}"[..]], "ERR");
}

#[test]
fn a_key_of_another_type_is_left_alone() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("SET s native");
        c.ok("EXPCACHE.SET k v");
        for command in [
            "EXPCACHE.SET s v",
            "EXPCACHE.SET s v NX",
            "EXPCACHE.SET s v XX",
            "EXPCACHE.SET s v IFMATCH 9e3669d19b675bd57058fd4664205d2a",
            "EXPCACHE.MSET 2 k new s new",
            "EXPCACHE.MSET 2 s new new new NX",
            "EXPCACHE.GET s",
            "EXPCACHE.MGET k s nothing",
            "EXPCACHE.FETCH s",
            "EXPCACHE.META s",
            "EXPCACHE.DEL k s",
        ] {
            refused(&mut c, command, "WRONGTYPE");
        }
        assert_eq!(c.cmd("GET s"), "native");
        assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
        c.err("GET k", "WRONGTYPE");
        c.err("APPEND k x", "WRONGTYPE");
    }
}

// ---- MSET

#[test]
fn mset_stores_all_with_the_same_options() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(r#"EXPCACHE.MSET 3 a 1 b 2 c 3 TYPE trips EX 100 GRACE 5s TAGS 2 x y FORMAT csv RECORDS 9 COST 8 META {"m":1} ENCODING identity"#);
    let expected = ["1", "2", "3"].map(Value::bulk).to_vec();
    assert_eq!(c.cmd("EXPCACHE.MGET a b c"), Value::Array(expected));
    for key in ["a", "b", "c"] {
        let meta = c.map(&["EXPCACHE.META", key]);
        assert_eq!(meta["type"], "trips");
        assert_eq!(meta["grace"], 5000);
        assert_eq!(meta["format"], "csv");
        assert_eq!(meta["records"], 9);
        assert_eq!(meta["cost"], 8);
        assert_eq!(meta["meta"], r#"{"m":1}"#);
        assert_eq!(meta["tags"].sorted_texts(), ["x", "y"]);
    }
    check(&mut c);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG x"), 3);
    check(&mut c);
}

#[test]
fn mset_reads_the_type_from_each_key() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 3 trips:1 v vehicles:1 v other v");
    for (key, expected) in [("trips:1", "trips"), ("vehicles:1", "vehicles"), ("other", "default")] {
        assert_eq!(c.map(&["EXPCACHE.META", key])["type"], expected);
    }
}

#[test]
fn mset_is_all_or_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a old TAGS 1 t");
    c.nil("EXPCACHE.MSET 2 b 2 a 1 NX TAGS 1 u");
    c.nil("EXPCACHE.MSET 2 a 1 b 2 XX TAGS 1 u");
    assert_eq!(c.cmd("EXPCACHE.GET a"), "old");
    assert_eq!(c.int("EXISTS b"), 0);
    check(&mut c);

    c.ok("EXPCACHE.MSET 2 b 2 c 3 NX");
    c.ok("EXPCACHE.MSET 3 a 1 b 2 c 3 XX");
    assert_eq!(c.cmd("EXPCACHE.GET a"), "1");

    c.ok("EXPCACHE.TYPE SET small MAXVALUE 4");
    refused(&mut c, "EXPCACHE.MSET 2 a 4444 b 55555 TYPE small", "TOOLARGE");
    check(&mut c);
}

#[test]
fn mset_refuses_what_it_does_not_understand() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a old TAGS 1 t");
    for (arguments, prefix) in [
        ("0 a 1", "ERR"),
        ("-1 a 1", "ERR"),
        ("one a 1", "ERR"),
        ("2 a 1 b", "ERR"),
        ("9223372036854775807 a 1", "ERR"),
        ("1 a 1 b 2", "ERR syntax error"),
        ("1 a 1 NX XX", "ERR syntax error"),
        ("1 a 1 EX 10 PX 10", "ERR syntax error"),
        ("1 a 1 LEASE token", "ERR syntax error"),
        ("1 a 1 HASH 5d41402abc4b2a76b9719d911017c592", "ERR syntax error"),
        ("1 a 1 IFMATCH 5d41402abc4b2a76b9719d911017c592", "ERR syntax error"),
        ("2 a 1 b 2 EX 0", "ERR invalid expire time in 'expcache.mset' command"),
        ("2 a 1 b 2 GRACE soon", "ERR invalid duration"),
    ] {
        refused(&mut c, &format!("EXPCACHE.MSET {arguments}"), prefix);
    }
}

// ---- GET, MGET, DEL, META

#[test]
fn nothing_is_null() {
    let server = Server::start();
    for mut c in server.conns() {
        c.nil("EXPCACHE.GET nothing");
        c.nil("EXPCACHE.META nothing");
        let nulls = Value::Array(vec![Value::Nil, Value::Nil]);
        assert_eq!(c.cmd("EXPCACHE.MGET nothing nowhere"), nulls);
        assert_eq!(c.int("EXPCACHE.DEL nothing nowhere"), 0);
    }
}

#[test]
fn mget_answers_in_the_order_of_the_keys() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 2 a 1 b 2");
    c.ok("EXPCACHE.SET stale 3 PXAT 1000 GRACE 365000d");
    let (one, two) = (Value::bulk("1"), Value::bulk("2"));
    let expected = vec![two, Value::Nil, one.clone(), Value::Nil, one];
    assert_eq!(c.cmd("EXPCACHE.MGET b nothing a stale a"), Value::Array(expected));
}

#[test]
fn del_counts_the_entries_it_removed() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 3 a 1 b 2 c 3 TAGS 1 t");
    c.ok("EXPCACHE.SET stale 3 PXAT 1000 GRACE 365000d TAGS 1 t");
    assert_eq!(c.int("EXPCACHE.DEL a nothing stale a"), 2);
    check(&mut c);
    assert_eq!(c.int("EXISTS a b c stale"), 2);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 2);
    check(&mut c);
}

#[test]
fn meta_is_no_hit_and_touches_no_clock() {
    let server = Server::with(&["--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0", "--lfu-decay-time", "0"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    let frequency = c.int("OBJECT FREQ k");
    for _ in 0..20 {
        c.map("EXPCACHE.META k");
    }
    assert_eq!(c.int("OBJECT FREQ k"), frequency);
    assert_eq!(c.map("EXPCACHE.META k")["hits"], 0);
    assert_eq!(c.map("EXPCACHE.STATS")["hits"], 0);

    c.cmd("EXPCACHE.GET k");
    assert!(c.int("OBJECT FREQ k") > frequency);
}

#[test]
fn meta_counts_the_hits_and_keeps_the_times() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    let created = c.map("EXPCACHE.META k")["created"].int();
    wait_until("the entry is older", || c.map("EXPCACHE.META k")["age"].int() > 5);
    c.cmd("EXPCACHE.GET k");
    c.cmd("EXPCACHE.MGET k");
    c.cmd("EXPCACHE.FETCH k");
    let meta = c.map("EXPCACHE.META k");
    assert_eq!(meta["hits"], 3);
    assert_eq!(meta["created"], created);
    assert!(meta["last-access"].int() > created);
    assert_eq!(c.cmd("COPY k copy"), 1);
    let copy = c.map("EXPCACHE.META copy");
    assert_eq!((copy["hits"].int(), copy["created"].int()), (0, created));
    assert!(copy["last-access"].int() >= meta["last-access"].int());
}

// ---- as any key

#[test]
fn an_entry_has_a_type_of_its_own_and_belongs_to_its_database() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k zero");
    c.ok("SET s native");
    assert_eq!(c.cmd("TYPE k"), Value::Simple("exp-cache".into()));
    let found = c.cmd("SCAN 0 COUNT 1000 TYPE exp-cache");
    assert_eq!(found.items()[1], Value::Array(vec![Value::bulk("k")]));

    c.ok("SELECT 1");
    c.nil("EXPCACHE.GET k");
    c.ok("EXPCACHE.SET k one");
    c.ok("SELECT 0");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "zero");
    check(&mut c);
}

#[test]
fn a_store_is_announced_to_subscribers() {
    let server = Server::with(&["--notify-keyspace-events", "Edg"]);
    let (mut c, mut listener) = (server.conn(), server.conn());
    listener.cmd("PSUBSCRIBE __keyevent@0__:*");
    let mut next = |key: &str| {
        let message = listener.receive().unwrap();
        assert_eq!(message.items()[3], key);
        message.items()[2].text()
    };
    c.ok("EXPCACHE.SET a v");
    assert_eq!(next("a"), "__keyevent@0__:expcache.set");
    c.ok("EXPCACHE.MSET 2 a 1 b 2");
    assert_eq!(next("a"), "__keyevent@0__:expcache.set");
    assert_eq!(next("b"), "__keyevent@0__:expcache.set");
    c.nil("EXPCACHE.SET a v NX");
    assert_eq!(c.int("EXPCACHE.DEL a"), 1);
    assert_eq!(next("a"), "__keyevent@0__:del");
}
