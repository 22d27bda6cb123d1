//! SCAN and TAGS: iterations that miss nothing which is there throughout, whatever comes and goes meanwhile; and COUNT beside
//! them. (What a selector means is in `purge.rs`.)

use crate::harness::{Conn, HOSTILE, Random, Server, Value, args, check, refused, wait_until};
use std::collections::{BTreeMap, BTreeSet};

/// Stores entries `k:0`, `k:1` … with the tags `all`, `0` to `6`, and one of their own for each tenth.
fn crowd(c: &mut Conn, count: usize) {
    let sets = (0..count).map(|n| match n % 10 {
        0 => format!("EXPCACHE.SET k:{n} v TAGS 3 all {} own:{n}", n % 7),
        _ => format!("EXPCACHE.SET k:{n} v TAGS 2 all {}", n % 7),
    });
    let replies = c.pipeline(sets.collect::<Vec<_>>().iter());
    assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())));
}

#[track_caller]
fn scan(c: &mut Conn, options: &str) -> BTreeSet<String> {
    let keys = c.iterate("EXPCACHE.SCAN", options);
    keys.iter().map(Value::text).collect()
}

#[track_caller]
fn tags(c: &mut Conn, options: &str) -> BTreeMap<String, i64> {
    let elements = c.iterate("EXPCACHE.TAGS", options);
    elements.chunks(2).map(|pair| (pair[0].text(), pair[1].int())).collect()
}

fn names(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers.into_iter().map(|n| format!("k:{n}")).collect()
}

/// One step: where to go on, and the elements.
#[track_caller]
fn step(c: &mut Conn, command: &str, cursor: &str, options: &str) -> (String, Vec<Value>) {
    let reply = c.cmd(&format!("{command} {cursor} {options}"));
    let [next, elements] = reply.items() else { panic!("{reply}") };
    (next.text(), elements.items().to_vec())
}

// ---- all of it

#[test]
fn an_empty_database() {
    let server = Server::start();
    for mut c in server.conns() {
        let nothing = Value::Array(vec![Value::bulk("0"), Value::Array(Vec::new())]);
        c.ok("SET native v");
        for command in
            ["SCAN 0", "SCAN 0 ANY 1 t", "SCAN 0 TYPE trips MATCH * COUNT 5", "TAGS 0", "TAGS 0 MATCH * COUNT 5"]
        {
            assert_eq!(c.cmd(&format!("EXPCACHE.{command}")), nothing, "{command}");
        }
        assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), 0);
    }
}

#[test]
fn every_size_of_step_finds_all() {
    let server = Server::start();
    for mut c in server.conns() {
        crowd(&mut c, 1000);
        c.ok("SET native v");
        for count in ["", "COUNT 1", "COUNT 7", "COUNT 10", "COUNT 999", "COUNT 100000", "COUNT 9223372036854775807"] {
            assert_eq!(scan(&mut c, count), names(0..1000), "{count}");
            assert_eq!(scan(&mut c, &format!("ANY 1 3 {count}")), names((3..1000).step_by(7)), "{count}");
            assert_eq!(scan(&mut c, &format!("{count} ALL 2 all own:770")), names([770]), "{count}");
            assert_eq!(scan(&mut c, &format!("TYPE default {count} MATCH k:99?")), names(990..1000), "{count}");
            let found = tags(&mut c, count);
            assert_eq!(found.len(), 8 + 100, "{count}");
            assert_eq!((found["all"], found["0"], found["6"], found["own:770"]), (1000, 143, 142, 1), "{count}");
            assert_eq!(tags(&mut c, &format!("MATCH own:9?0 {count}")).len(), 10, "{count}");
        }
    }
}

/// A step takes no longer because it was told a greater number: it lists fewer and is gone on from.
#[test]
fn a_step_ends_where_its_work_does() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 20_000);
    let all = "all ".repeat(1024);
    for options in ["", "ANY 1 all", &format!("ALL 1024 {all}")] {
        let options = format!("{options} COUNT 200000");
        let (next, keys) = step(&mut c, "EXPCACHE.SCAN", "0", &options);
        assert!(next != "0" && (1000..20_000).contains(&keys.len()), "{} at once, on to {next}", keys.len());
        assert_eq!(scan(&mut c, &options), names(0..20_000), "{options}");
    }
    let (next, tags_of_one) = step(&mut c, "EXPCACHE.TAGS", "0", "COUNT 200000");
    assert!(tags_of_one.len() >= 1000, "{} at once, on to {next}", tags_of_one.len());
    // More tags than an entry can bear, all of which it is to bear.
    let too_many: String = (0..65).map(|n| format!("all:{n} ")).collect();
    assert!(scan(&mut c, &format!("ALL 65 {too_many}")).is_empty());
}

/// However many it was told, and be it more than can be counted with.
#[test]
fn one_step_may_be_as_large_as_any_number() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 30_000);
    for count in ["1000000", "4611686018427387904", "9223372036854775807"] {
        for (command, length) in [("EXPCACHE.SCAN", 30_000), ("EXPCACHE.TAGS", 2 * (8 + 3_000))] {
            let elements = c.iterate(command, &format!("COUNT {count}"));
            assert_eq!(elements.len(), length, "{command} {count}");
        }
    }
}

/// A step looks at about as many as it was told: what waits for its reply waits no longer for a large database.
#[test]
fn a_step_is_as_large_as_it_was_told() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 10_000);
    for (options, most) in
        [("", 10), ("COUNT 100", 100), ("ANY 1 all", 10), ("TYPE default COUNT 100", 100), ("NONE 1 x", 10)]
    {
        let (mut cursor, mut steps) = ("0".to_string(), 0);
        loop {
            let (next, keys) = step(&mut c, "EXPCACHE.SCAN", &cursor, options);
            assert!(keys.len() <= 2 * most, "{options}: {} keys", keys.len());
            (cursor, steps) = (next, steps + 1);
            if cursor == "0" {
                break;
            }
        }
        assert!(steps >= 10_000 / (2 * most), "{options}: {steps} steps");
    }
    let (_, some) = step(&mut c, "EXPCACHE.TAGS", "0", "COUNT 100");
    assert!(some.len() <= 2 * 200, "{} tags", some.len() / 2);
}

/// An iteration over a small tag goes through that and not through the database.
#[test]
fn the_smallest_clause_leads() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 10_000);
    for options in
        ["ANY 1 own:770", "ALL 2 own:770 all", "TYPE default ALL 1 all ANY 1 own:770", "ANY 1 nosuch", "TYPE trips"]
    {
        assert_eq!(step(&mut c, "EXPCACHE.SCAN", "0", options).0, "0", "{options}: one step is enough");
    }
}

#[test]
fn names_are_any_bytes() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        let every_byte: Vec<u8> = (0..=255).collect();
        let names: BTreeSet<&[u8]> = HOSTILE.into_iter().chain([&every_byte[..]]).collect();
        for name in &names {
            c.ok(args!["EXPCACHE.SET", name, "v", "TAGS", 2, name, "all"]);
        }
        let scanned = c.iterate("EXPCACHE.SCAN", "COUNT 1");
        assert_eq!(scanned.iter().map(Value::as_bytes).collect::<BTreeSet<_>>(), names);
        let tags = c.iterate("EXPCACHE.TAGS", "COUNT 1");
        let found: BTreeMap<&[u8], i64> = tags.chunks(2).map(|pair| (pair[0].as_bytes(), pair[1].int())).collect();
        assert_eq!(found.len(), names.len() + 1);
        assert!(names.iter().all(|name| found[name] == 1));
        assert_eq!(found[&b"all"[..]], names.len() as i64);
        let one = c.iterate("EXPCACHE.TAGS", args!["MATCH", &b"\xff*"[..]]);
        assert_eq!(one, [Value::bulk(b"\xff\xfe not UTF-8"), Value::Int(1)]);
    }
}

#[test]
fn databases_have_tags_of_their_own() {
    let server = Server::start();
    let mut c = server.conn();
    for db in 0..3 {
        c.ok(args!["SELECT", db]);
        c.ok(args!["EXPCACHE.SET", format!("in {db}"), "v", "TAGS", 2, "all", db]);
    }
    for db in 0..3 {
        c.ok(args!["SELECT", db]);
        assert_eq!(scan(&mut c, ""), BTreeSet::from([format!("in {db}")]));
        assert_eq!(tags(&mut c, ""), BTreeMap::from([("all".into(), 1), (db.to_string(), 1)]));
        assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 all"), 1);
    }
    c.ok("SWAPDB 0 2");
    assert_eq!(scan(&mut c, "ANY 1 all"), BTreeSet::from(["in 0".to_string()]));
    c.ok("FLUSHDB");
    assert!(tags(&mut c, "").is_empty());
    c.ok("SELECT 1");
    assert_eq!(tags(&mut c, "").len(), 2);
}

// ---- what is gone is left out

#[test]
fn of_what_is_gone_nothing_is_listed() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    c.ok("EXPCACHE.SET stays v TAGS 2 t of-stays");
    c.ok("EXPCACHE.SET stale v PXAT 1000 GRACE 365000d TAGS 2 t of-stale");
    c.ok("EXPCACHE.SET deleted v TAGS 2 t of-deleted");
    c.ok("EXPCACHE.SET purged v TAGS 2 t of-purged");
    c.ok("EXPCACHE.SET over v TAGS 2 t of-over");
    c.ok("EXPCACHE.SET native v TAGS 2 t of-native");
    c.ok("EXPCACHE.SET short v PX 1 TAGS 1 t");
    c.int("UNLINK deleted native");
    c.ok("SET native v");
    c.ok("EXPCACHE.SET over v TAGS 2 t again");
    c.int("EXPCACHE.PURGE ANY 1 of-purged");
    let mut other = server.conn();
    wait_until("the short one is over", || other.cmd("EXPCACHE.META short") == Value::Nil);
    let expected: BTreeSet<String> = ["over", "stale", "stays"].map(String::from).into();
    assert_eq!(scan(&mut c, ""), expected, "the server need not have expired it yet");
    assert_eq!(scan(&mut c, "ANY 1 t"), expected);
    assert_eq!(c.int("DEL short"), 0);
    let expected = [("again", 1), ("of-stale", 1), ("of-stays", 1), ("t", 3)];
    assert_eq!(tags(&mut c, ""), expected.map(|(tag, entries)| (tag.to_string(), entries)).into());
    check(&mut c);
}

#[test]
fn what_waits_to_be_reclaimed_is_not_listed() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 1_000);
    let replies = c.transaction([
        "EXPCACHE.PURGE ANY 6 1 2 3 4 5 6",
        "EXPCACHE.SCAN 0 COUNT 10000",
        "EXPCACHE.SCAN 0 ANY 1 1 COUNT 10000",
        "EXPCACHE.SCAN 0 ANY 1 all COUNT 10000",
        "EXPCACHE.TAGS 0 COUNT 10000",
        "EXPCACHE.TAGS 0 MATCH [1-6] COUNT 10000",
        "EXPCACHE.COUNT ANY 1 all",
        "EXPCACHE.CLEAR SOFT",
        "EXPCACHE.SCAN 0 COUNT 10000",
        "EXPCACHE.TAGS 0 COUNT 10000",
    ]);
    assert_eq!(replies[0], 1000 - 143);
    let keys = |reply: &Value| reply.items()[1].items().iter().map(Value::text).collect::<BTreeSet<_>>();
    assert_eq!(keys(&replies[1]), names((0..1000).step_by(7)));
    assert!(keys(&replies[2]).is_empty());
    assert_eq!(keys(&replies[3]), names((0..1000).step_by(7)));
    // Of the tags with one entry, those of multiples of 70 are left; and `all` and `0`.
    assert_eq!(replies[4].items()[1].items().len(), 2 * (15 + 2));
    assert!(replies[5].items()[1].items().is_empty());
    assert_eq!(replies[6], 143);
    assert_eq!(replies[7], 143, "without any grace they are gone");
    assert!(keys(&replies[8]).is_empty() && replies[9].items()[1].items().is_empty());
    check(&mut c);
}

#[test]
fn stale_entries_are_listed() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 2 a v b v GRACE 1h TAGS 1 t");
    assert_eq!(c.cmd("EXPCACHE.PURGE MATCH a SOFT"), 1);
    assert_eq!(scan(&mut c, "ANY 1 t").len(), 2);
    assert_eq!(tags(&mut c, "")["t"], 2);
    assert_eq!(c.cmd("EXPCACHE.COUNT TYPE default"), 2);
}

// ---- the guarantees

/// Whatever comes, goes and is stored over between the steps: what is there throughout is found.
#[test]
fn what_is_there_throughout_is_found() {
    let server = Server::start();
    let mut c = server.conn();
    let mut random = Random::new(17);
    for (round, options) in
        ["", "ANY 1 all", "TYPE default", "ALL 2 all 3", "MATCH k:*", "NONE 1 0 COUNT 3"].iter().enumerate()
    {
        c.ok("FLUSHALL");
        crowd(&mut c, 2_000);
        let is_meant = |n: usize| match round {
            3 => n % 7 == 3,
            5 => !n.is_multiple_of(7),
            _ => true,
        };
        // The even ones stay; of the odd ones some go and come back, and others come that never were there.
        let (mut cursor, mut found) = ("0".to_string(), BTreeSet::new());
        loop {
            let (next, keys) = step(&mut c, "EXPCACHE.SCAN", &cursor, options);
            found.extend(keys.iter().map(Value::text));
            cursor = next;
            if cursor == "0" {
                break;
            }
            let odd = |random: &mut Random| 2 * random.below(1_000) + 1;
            let n = odd(&mut random);
            match random.below(6) {
                0 => drop(c.int(args!["UNLINK", format!("k:{n}")])),
                1 => c.ok(args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 2, "all", n % 7]),
                2 => drop(c.cmd(args!["RENAME", format!("k:{n}"), format!("k:{}", odd(&mut random))])),
                3 => c.ok(args!["EXPCACHE.SET", format!("new:{n}"), "v", "TAGS", 1, "new"]),
                4 => drop(c.cmd(args!["COPY", format!("k:{}", n - 1), format!("copy:{n}")])),
                // Stored over with the same tags, an entry is there throughout.
                _ => c.ok(args!["EXPCACHE.SET", format!("k:{}", n - 1), "w", "TAGS", 2, "all", (n - 1) % 7]),
            }
        }
        let missed: Vec<String> = (0..2_000)
            .step_by(2)
            .filter(|n| is_meant(*n))
            .map(|n| format!("k:{n}"))
            .filter(|key| !found.contains(key))
            .collect();
        assert!(missed.is_empty(), "{options}: {missed:?}");
        check(&mut c);
    }
}

#[test]
fn tags_that_are_there_throughout_are_found() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 2_000);
    let mut random = Random::new(18);
    let (mut cursor, mut found) = ("0".to_string(), BTreeSet::new());
    loop {
        let (next, some) = step(&mut c, "EXPCACHE.TAGS", &cursor, "COUNT 2");
        found.extend(some.chunks(2).map(|pair| pair[0].text()));
        cursor = next;
        if cursor == "0" {
            break;
        }
        // Tags of multiples of 20 stay.
        let n = 20 * random.below(100) + 10;
        match random.below(3) {
            0 => drop(c.int(args!["UNLINK", format!("k:{n}")])),
            1 => c.ok(args!["EXPCACHE.SET", format!("new:{n}"), "v", "TAGS", 1, format!("new:{n}")]),
            _ => drop(c.int(args!["EXPCACHE.INVALIDATE.TAG", format!("own:{n}")])),
        }
    }
    for tag in (0..2_000).step_by(20).map(|n| format!("own:{n}")).chain(["all".into(), "0".into(), "6".into()]) {
        assert!(found.contains(&tag), "{tag}");
    }
    check(&mut c);
}

/// No state is kept for them, so many may be under way, and be given up.
#[test]
fn iterations_do_not_disturb_each_other() {
    let server = Server::start();
    let (mut a, mut b) = (server.conn(), server.conn());
    crowd(&mut a, 1_000);
    let (cursor, first) = step(&mut a, "EXPCACHE.SCAN", "0", "COUNT 100");
    assert_eq!(scan(&mut b, "COUNT 3"), names(0..1000));
    assert_eq!(step(&mut b, "EXPCACHE.SCAN", "0", "COUNT 100"), (cursor.clone(), first));
    let again = step(&mut a, "EXPCACHE.SCAN", &cursor, "COUNT 100");
    assert_eq!(step(&mut b, "EXPCACHE.SCAN", &cursor, "COUNT 100"), again);
}

#[test]
fn listing_touches_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET s SLIDING yes TTL 1h");
    c.ok("EXPCACHE.SET s:1 v TAGS 1 t");
    c.int("EXPIRE s:1 100");
    let look = |c: &mut Conn| {
        let meta = c.map("EXPCACHE.META s:1");
        let stats = c.map("EXPCACHE.STATS");
        let changes = c.info("persistence", "rdb_changes_since_last_save");
        (meta["hits"].int(), meta["last-access"].int(), stats["hits"].int(), stats["misses"].int(), changes)
    };
    let before = (look(&mut c), c.int("PEXPIRETIME s:1"));
    scan(&mut c, "");
    scan(&mut c, "ANY 1 t MATCH s:*");
    tags(&mut c, "");
    c.int("EXPCACHE.COUNT TYPE s MATCH *");
    assert_eq!((look(&mut c), c.int("PEXPIRETIME s:1")), before);
}

// ---- errors

#[test]
fn what_is_asked_for_wrongly() {
    let server = Server::start();
    let syntax = "ERR syntax error";
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET k v TAGS 1 t");
        for command in ["SCAN", "TAGS"] {
            for (rest, prefix) in [
                ("x", "ERR invalid cursor"),
                ("-1", "ERR invalid cursor"),
                ("1.5", "ERR invalid cursor"),
                ("99999999999999999999999", "ERR invalid cursor"),
                ("0 COUNT", syntax),
                ("0 COUNT 0", syntax),
                ("0 COUNT x", "ERR value is not an integer or out of range"),
                ("0 COUNT 99999999999999999999", "ERR value is not an integer or out of range"),
                ("0 COUNT 1 COUNT 2", syntax),
                ("0 MATCH", syntax),
                ("0 NONSENSE", syntax),
                ("0 SOFT", syntax),
                ("0 KEYS 1", syntax),
            ] {
                refused(&mut c, &format!("EXPCACHE.{command} {rest}"), prefix);
            }
            // As in the server's own, below nothing is an error of one kind or the other.
            refused(&mut c, &format!("EXPCACHE.{command} 0 COUNT -1"), "ERR");
        }
        refused(&mut c, "EXPCACHE.TAGS 0 MATCH a MATCH b", syntax);
        refused(&mut c, "EXPCACHE.TAGS 0 ANY 1 t", syntax);
        refused(&mut c, "EXPCACHE.TAGS 0 TYPE trips", syntax);
    }
}

/// Cursors come from clients, who may make them up.
#[test]
fn a_cursor_that_was_never_given_out() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 100);
    for command in ["EXPCACHE.SCAN", "EXPCACHE.TAGS"] {
        for cursor in ["1", "50", "99", "100", "101", "1000", "4294967295", "4294967296", "18446744073709551615"] {
            for options in ["", "COUNT 9223372036854775807"] {
                let reply = c.cmd(&format!("{command} {cursor} {options}"));
                match &reply {
                    Value::Error(text) => assert!(text.starts_with("ERR invalid cursor"), "{text}"),
                    reply => assert_eq!(reply.items().len(), 2),
                }
            }
        }
    }
    for cursor in ["7", "99", "4294967295"] {
        for options in ["ANY 1 all", "TYPE default MATCH *"] {
            let reply = c.cmd(&format!("EXPCACHE.SCAN {cursor} {options}"));
            assert!(matches!(reply, Value::Array(_) | Value::Error(_)), "{reply}");
        }
    }
    check(&mut c);
}
