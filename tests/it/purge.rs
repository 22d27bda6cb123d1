//! PURGE and CLEAR: which entries a selector means, that they are gone (or stale) at the reply, and what was asked for
//! wrongly. COUNT, SCAN and the invalidation itself must agree on what is meant.

use crate::harness::{
    Conn, HOSTILE, Server, Stop, Value, args, check, in_both_modes, now_ms, refused, wait_until, wait_until_reclaimed,
};
use std::time::Duration;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// The server reads the clock at another instant than the test.
const CLOCK_SLACK_MS: i64 = 10;

/// A few entries of several types with tags that overlap, and what is no entry.
const ENTRIES: [(&str, &str); 6] = [
    ("trips:1", "TAGS 2 c1 u1"),
    ("trips:2", "TAGS 2 c1 u2"),
    ("trips:3", ""),
    ("reports:1", "TAGS 1 c1"),
    ("reports:2", "TAGS 2 c2 u1"),
    ("other", "TAGS 2 c2 u2"),
];

fn fill(c: &mut Conn, options: &str) {
    for (key, tags) in ENTRIES {
        c.ok(&format!("EXPCACHE.SET {key} v {tags} {options}"));
    }
    c.ok("SET native v");
}

/// Selectors and the keys they mean.
const SELECTORS: [(&str, &[&str]); 38] = [
    ("ANY 1 c1", &["reports:1", "trips:1", "trips:2"]),
    ("ANY 2 c1 c2", &["other", "reports:1", "reports:2", "trips:1", "trips:2"]),
    ("ANY 3 c2 nosuch c2", &["other", "reports:2"]),
    ("ANY 1 nosuch", &[]),
    ("ANY 1 C1", &[]),
    ("ALL 2 c1 u1", &["trips:1"]),
    ("ALL 2 c1 c1", &["reports:1", "trips:1", "trips:2"]),
    ("ALL 2 c1 nosuch", &[]),
    ("ALL 3 c1 u1 u2", &[]),
    ("NONE 1 c1", &["other", "reports:2", "trips:3"]),
    ("NONE 2 c1 c2", &["trips:3"]),
    ("NONE 1 nosuch", &["other", "reports:1", "reports:2", "trips:1", "trips:2", "trips:3"]),
    ("TYPE trips", &["trips:1", "trips:2", "trips:3"]),
    ("TYPE default", &["other"]),
    ("TYPE vehicles", &[]),
    ("TYPE nosuch", &[]),
    ("TYPE trips TYPE trips", &["trips:1", "trips:2", "trips:3"]),
    ("TYPE trips TYPE reports", &[]),
    ("TYPES 2 reports trips", &["reports:1", "reports:2", "trips:1", "trips:2", "trips:3"]),
    ("TYPES 4 nosuch trips vehicles trips", &["trips:1", "trips:2", "trips:3"]),
    ("TYPES 1 nosuch", &[]),
    ("types 2 default reports TYPES 2 trips reports ANY 1 c1", &["reports:1"]),
    ("MATCH *", &["other", "reports:1", "reports:2", "trips:1", "trips:2", "trips:3"]),
    ("MATCH trips:*", &["trips:1", "trips:2", "trips:3"]),
    ("MATCH trips:1", &["trips:1"]),
    ("MATCH *:[1-2]", &["reports:1", "reports:2", "trips:1", "trips:2"]),
    ("MATCH [^tr]*", &["other"]),
    ("MATCH t??ps:?", &["trips:1", "trips:2", "trips:3"]),
    (r"MATCH \o\ther", &["other"]),
    ("MATCH native", &[]),
    ("MATCH *:1 MATCH trips*", &["trips:1"]),
    ("ANY 1 c1 ANY 1 u1", &["trips:1"]),
    ("ALL 1 c1 ALL 1 u2", &["trips:2"]),
    ("NONE 1 c1 NONE 1 c2", &["trips:3"]),
    ("ANY 1 c1 NONE 1 u1 TYPE trips", &["trips:2"]),
    ("MATCH *:2 TYPE reports", &["reports:2"]),
    ("TYPE reports ANY 2 c1 c2 NONE 1 u1 MATCH r*", &["reports:1"]),
    ("any 1 c1 all 1 u2 none 1 c2 type trips match *", &["trips:2"]),
];

fn ok() -> Value {
    Value::Simple("OK".into())
}

fn sorted(mut values: Vec<Value>) -> Vec<String> {
    values.sort_by_key(Value::text);
    values.iter().map(Value::text).collect()
}

/// The number and, sorted, the keys of a reply to `KEYS`.
#[track_caller]
fn numbered(reply: &Value) -> (i64, Vec<String>) {
    let items = reply.items();
    (items[0].int(), sorted(items[1..].to_vec()))
}

#[track_caller]
fn status(c: &mut Conn, key: &str) -> String {
    c.map(&["EXPCACHE.FETCH", key])["status"].text()
}

// ---- what is meant

#[test]
fn a_selector_means_the_same_to_all_commands() {
    let server = Server::start();
    for mut c in server.conns() {
        for (selector, keys) in SELECTORS {
            fill(&mut c, "");
            let many = keys.len() as i64;
            let changes = c.info("persistence", "rdb_changes_since_last_save");
            assert_eq!(c.cmd(&format!("EXPCACHE.COUNT {selector}")), many, "{selector}");
            assert_eq!(c.cmd(&format!("EXPCACHE.PURGE {selector} DRYRUN")), many, "{selector}");
            let dry = c.cmd(&format!("EXPCACHE.PURGE {selector} DRYRUN KEYS 100"));
            assert_eq!(numbered(&dry), (many, keys.iter().map(ToString::to_string).collect()), "{selector}");
            assert_eq!(sorted(c.iterate("EXPCACHE.SCAN", selector)), keys, "{selector}");
            assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes, "{selector}");
            check(&mut c);

            assert_eq!(c.cmd(&format!("EXPCACHE.PURGE {selector}")), many, "{selector}");
            check(&mut c);
            for (key, _) in ENTRIES {
                let expected = if keys.contains(&key) { Value::Nil } else { Value::bulk("v") };
                assert_eq!(c.cmd(&["EXPCACHE.GET", key]), expected, "{selector}: {key}");
            }
            wait_until("they are reclaimed", || c.int("DBSIZE") == 7 - many);
            assert_eq!(c.cmd(&format!("EXPCACHE.PURGE {selector}")), 0, "{selector}");
            assert_eq!(c.cmd("GET native"), "v");
        }
    }
}

#[test]
fn option_words_are_names_where_names_stand() {
    let server = Server::start();
    let mut c = server.conn();
    for word in ["ANY", "NONE", "SOFT", "1", "DRYRUN", "KEYS", "TYPE", "MATCH"] {
        c.ok(args!["EXPCACHE.SET", word, "v", "TYPE", word, "TAGS", 1, word]);
        let selector = args!["ANY", 1, word, "ALL", 1, word, "NONE", 1, "COUNT", "TYPE", word, "MATCH", word];
        assert_eq!(c.cmd([args!["EXPCACHE.COUNT"], selector.clone()].concat()), 1, "{word}");
        assert_eq!(c.cmd([args!["EXPCACHE.PURGE"], selector].concat()), 1, "{word}");
    }
    check(&mut c);
}

#[test]
fn names_are_any_bytes() {
    let server = Server::start();
    let mut c = server.conn();
    let every_byte: Vec<u8> = (0..=255).collect();
    let names: Vec<&[u8]> = HOSTILE.into_iter().chain([&every_byte[..]]).collect();
    // In a pattern each byte stands for itself.
    let literally = |name: &[u8]| name.iter().flat_map(|byte| [b'\\', *byte]).collect::<Vec<u8>>();
    for clause in ["ANY", "ALL", "TYPE", "MATCH"] {
        for name in &names {
            c.ok(args!["EXPCACHE.SET", name, "v", "TYPE", name, "TAGS", 1, name]);
        }
        for name in &names {
            let selector = match clause {
                "TYPE" => args!["TYPE", name],
                "MATCH" => args!["MATCH", literally(name)],
                _ => args![clause, 1, name],
            };
            assert_eq!(c.cmd([args!["EXPCACHE.COUNT"], selector.clone()].concat()), 1);
            let scanned = c.iterate("EXPCACHE.SCAN", selector.clone());
            assert_eq!(scanned, [Value::bulk(name)]);
            let purged = c.cmd([args!["EXPCACHE.PURGE"], selector, args!["KEYS", 5]].concat());
            assert_eq!(purged, Value::Array(vec![Value::Int(1), Value::bulk(name)]));
            check(&mut c);
        }
        assert_eq!(c.int("DBSIZE"), 0);
    }
}

#[test]
fn the_empty_key_is_a_key() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.SET", "", "v"]);
    c.ok("EXPCACHE.SET k v");
    assert_eq!(c.iterate("EXPCACHE.SCAN", args!["MATCH", ""]), [Value::bulk("")]);
    assert_eq!(c.cmd(args!["EXPCACHE.PURGE", "MATCH", ""]), 1);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    check(&mut c);
}

#[test]
fn a_clause_has_room_for_1024_tags() {
    let server = Server::start();
    let mut c = server.conn();
    let clause = |word: &str, count: usize| {
        [args![word, count], (0..count).map(|n| format!("t{n}").into_bytes()).collect()].concat()
    };
    c.ok("EXPCACHE.SET a v TAGS 1 t1023");
    c.ok("EXPCACHE.SET b v TAGS 1 other");
    for (word, expected) in [("ANY", 1), ("ALL", 0), ("NONE", 1)] {
        assert_eq!(c.cmd([args!["EXPCACHE.COUNT"], clause(word, 1024)].concat()), expected, "{word}");
        for command in ["EXPCACHE.PURGE", "EXPCACHE.COUNT"] {
            refused(&mut c, [args![command], clause(word, 1025)].concat(), "ERR");
        }
        refused(&mut c, [args!["EXPCACHE.SCAN", 0], clause(word, 1025)].concat(), "ERR");
    }
    assert_eq!(c.cmd([args!["EXPCACHE.PURGE"], clause("ANY", 1024)].concat()), 1);
    check(&mut c);
}

#[test]
fn a_selector_has_room_for_1024_tags() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a v TAGS 2 t0 t1");
    let several = |counts: [usize; 3]| {
        let clause = |(word, count): (&str, usize)| {
            [args![word, count], (0..count).map(|n| format!("t{n}").into_bytes()).collect()].concat()
        };
        ["ANY", "NONE", "ANY"]
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(clause)
            .collect::<Vec<_>>()
            .concat()
    };
    assert_eq!(c.cmd([args!["EXPCACHE.COUNT"], several([512, 0, 512])].concat()), 1);
    for counts in [[512, 0, 513], [1024, 1, 0], [1, 1023, 1]] {
        for command in [args!["EXPCACHE.PURGE"], args!["EXPCACHE.COUNT"], args!["EXPCACHE.SCAN", 0]] {
            let text = refused(&mut c, [command, several(counts)].concat(), "ERR");
            assert_eq!(text, "ERR a selector has at most 1024 tags", "{counts:?}");
        }
    }
    assert_eq!(c.cmd([args!["EXPCACHE.PURGE"], several([512, 0, 512])].concat()), 1);
    check(&mut c);
}

#[test]
fn a_clause_has_room_for_1024_types() {
    let server = Server::start();
    let mut c = server.conn();
    let clause =
        |count: usize| [args!["TYPES", count], (0..count).map(|n| format!("t{n}").into_bytes()).collect()].concat();
    c.ok("EXPCACHE.SET a v TYPE t1023");
    c.ok("EXPCACHE.SET b v TYPE other");
    for (command, found) in [("EXPCACHE.COUNT", 1), ("EXPCACHE.PURGE", 1)] {
        refused(&mut c, [args![command], clause(1025)].concat(), "ERR a clause must have 1 to 1024 types");
        refused(&mut c, [args![command], clause(1000), clause(25)].concat(), "ERR a selector has at most 1024 types");
        assert_eq!(c.cmd([args![command], clause(1024)].concat()), found);
    }
    for wrong in ["TYPES", "TYPES 0", "TYPES 2 a", "TYPES -1 a"] {
        refused(&mut c, &format!("EXPCACHE.COUNT {wrong}"), "ERR");
    }
    refused(&mut c, args!["EXPCACHE.COUNT", "TYPES", 1, ""], "ERR a type must be 1 to 512 bytes");
    assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), 1);
    check(&mut c);
}

#[test]
fn a_pattern_cannot_go_astray() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.SET", "a".repeat(10_000), "v"]);
    let pattern = "a*".repeat(500) + "b";
    assert_eq!(c.cmd(args!["EXPCACHE.COUNT", "MATCH", &pattern]), 0);
    assert!(c.iterate("EXPCACHE.SCAN", args!["MATCH", &pattern]).is_empty());
    assert_eq!(c.cmd(args!["EXPCACHE.PURGE", "MATCH", &pattern]), 0);
    assert_eq!(c.cmd(args!["EXPCACHE.PURGE", "MATCH", "a*".repeat(500)]), 1);
}

#[test]
fn clauses_and_patterns_have_a_bound() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k:aaaaaaaaa v TAGS 1 t");
    let types = |count: usize| (0..count).map(|n| format!("TYPE x{n} ")).collect::<String>();
    let patterns = |count: usize, stars: usize| {
        (0..count).flat_map(|n| args!["MATCH", "*".repeat(stars) + &"?*".repeat(n)]).collect::<Vec<_>>()
    };
    for command in ["EXPCACHE.PURGE", "EXPCACHE.COUNT", "EXPCACHE.SCAN 0"] {
        let words = || command.split(' ').map(|word| args![word].concat()).collect::<Vec<_>>();
        assert_eq!(
            refused(&mut c, &format!("{command} {}", types(65)), "ERR"),
            "ERR a selector has at most 64 clauses"
        );
        let text = refused(&mut c, [words(), patterns(9, 1)].concat(), "ERR");
        assert_eq!(text, "ERR a selector has at most 8 patterns");
        for long in [patterns(1, 1025), patterns(2, 512)] {
            let text = refused(&mut c, [words(), long].concat(), "ERR");
            assert_eq!(text, "ERR the patterns of a selector have at most 1024 bytes");
        }
    }
    let text = refused(&mut c, args!["EXPCACHE.TAGS", 0, "MATCH", "*".repeat(1025)], "ERR");
    assert_eq!(text, "ERR a pattern has at most 1024 bytes");
    assert_eq!(refused(&mut c, "EXPCACHE.PURGE ANY 1 t KEYS 10001", "ERR"), "ERR KEYS names at most 10000 keys");
    assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 t KEYS 10000 DRYRUN").items().len(), 2);
    assert_eq!(c.cmd(&format!("EXPCACHE.COUNT {}", types(64))), 0);
    // The same clause again says nothing more.
    assert_eq!(c.cmd(&format!("EXPCACHE.COUNT {}", "ANY 2 t t ".repeat(500))), 1);
    assert_eq!(c.cmd([args!["EXPCACHE.COUNT"], patterns(8, 100)].concat()), 1);
}

/// Not even inside the name of one key does a search go on for long while others wait.
#[test]
fn a_search_stops_inside_a_name() {
    let server = Server::with(&["--expcache.reclaim-slice-us", "1"]);
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.SET", "a".repeat(16 << 20), "v"]);
    for (pattern, found) in [("*a?b*", 0), ("*a?a", 1)] {
        let mut asker = search(&server, &format!("EXPCACHE.PURGE MATCH *?a?a?b* MATCH {pattern}"));
        c.ok("EXPCACHE.SET other v");
        c.ok("CLIENT PAUSE 600000 WRITE");
        assert_eq!(c.cmd("EXPCACHE.GET other"), "v");
        c.ok("CLIENT UNPAUSE");
        assert_eq!(asker.receive().unwrap(), 0, "{pattern}");
        assert_eq!(c.cmd(&format!("EXPCACHE.COUNT MATCH {pattern}")), found);
    }
    check(&mut c);
}

/// Nobody can wait there, so all others would.
#[test]
fn in_a_transaction_a_search_has_a_bound() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.SET", "a".repeat(16 << 20), "v", "TAGS", 1, "t"]);
    let hostile = "EXPCACHE.PURGE MATCH *a?b*";
    let replies = c.transaction([hostile, "EXPCACHE.PURGE ANY 1 t MATCH b*"]);
    let text = "ERR too many names to look at in a transaction or script";
    assert!(matches!(&replies[0], Value::Error(error) if error == text), "{}", replies[0]);
    assert_eq!(replies[1], 0);
    assert_eq!(c.cmd(hostile), 0, "by itself it may take its time");
    check(&mut c);
}

/// The others wait in line.
#[test]
fn many_searches_at_once_all_end() {
    let (server, mut c) = slow_server(20_000);
    let mut askers: Vec<Conn> = (0..100).map(|_| server.conn()).collect();
    for (n, asker) in askers.iter_mut().enumerate() {
        asker.send(&format!("EXPCACHE.COUNT MATCH *{}", n % 10)).unwrap();
    }
    for asker in &mut askers {
        assert_eq!(asker.receive().unwrap(), 2000);
    }
    check(&mut c);
}

#[test]
fn only_in_the_selected_database() {
    let server = Server::start();
    let mut c = server.conn();
    for db in 0..3 {
        c.ok(args!["SELECT", db]);
        fill(&mut c, "GRACE 1h");
    }
    c.ok("SELECT 1");
    assert_eq!(c.cmd("EXPCACHE.PURGE TYPE trips MATCH *"), 3);
    assert_eq!(c.cmd("EXPCACHE.PURGE NONE 1 c1 SOFT"), 2);
    c.ok("SELECT 2");
    assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 6);
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 6);
    for (db, entries, fresh) in [(0, 6, 6), (1, 3, 1), (2, 0, 0)] {
        c.ok(args!["SELECT", db]);
        assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), entries);
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH * SOFT DRYRUN"), fresh);
        assert_eq!(c.cmd("GET native"), "v");
    }
    check(&mut c);
}

#[test]
fn an_entry_whose_type_is_deleted_is_still_of_it() {
    let server = Server::start();
    let mut c = server.conn();
    fill(&mut c, "");
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL trips"), 1);
    assert_eq!(c.cmd("EXPCACHE.COUNT TYPE trips"), 3);
    assert_eq!(c.cmd("EXPCACHE.COUNT TYPE default"), 1);
    assert_eq!(c.cmd("EXPCACHE.PURGE TYPE trips"), 3);
    check(&mut c);
}

#[test]
fn what_is_stored_over_is_meant_as_it_is_now() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TYPE trips TAGS 1 old");
    c.ok("EXPCACHE.SET k v TYPE reports TAGS 1 new");
    for selector in ["ANY 1 old", "TYPE trips", "NONE 1 new"] {
        assert_eq!(c.cmd(&format!("EXPCACHE.COUNT {selector}")), 0, "{selector}");
        assert_eq!(c.cmd(&format!("EXPCACHE.PURGE {selector}")), 0, "{selector}");
    }
    c.ok("RENAME k moved");
    assert_eq!(c.cmd("EXPCACHE.COUNT MATCH k"), 0);
    assert_eq!(c.cmd("EXPCACHE.PURGE TYPE reports ALL 1 new NONE 1 old MATCH moved"), 1);
    check(&mut c);
}

#[test]
fn keys_are_named_up_to_so_many() {
    let server = Server::start();
    let mut c = server.conn();
    for most in [0, 1, 3, 4] {
        fill(&mut c, "");
        for dry in [" DRYRUN", ""] {
            let (count, keys) = numbered(&c.cmd(&format!("EXPCACHE.PURGE ANY 1 c1{dry} KEYS {most}")));
            assert_eq!(count, 3);
            assert_eq!(keys.len(), most.min(3));
            assert!(keys.iter().all(|key| ["reports:1", "trips:1", "trips:2"].contains(&key.as_str())));
        }
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 c1 KEYS 5"), Value::Array(vec![Value::Int(0)]));
    }
}

#[test]
fn invalidated_is_what_statistics_count() {
    let server = Server::start();
    let mut c = server.conn();
    fill(&mut c, "");
    c.cmd("EXPCACHE.PURGE TYPE trips DRYRUN");
    assert_eq!(c.map("EXPCACHE.STATS")["invalidated"], 0);
    c.cmd("EXPCACHE.PURGE TYPE trips MATCH *:1");
    assert_eq!(c.map("EXPCACHE.STATS")["invalidated"], 1);
    assert_eq!(c.map("EXPCACHE.STATS TYPE trips")["invalidated"], 1);
    assert_eq!(c.map("EXPCACHE.STATS TYPE reports")["invalidated"], 0);
    c.cmd("EXPCACHE.CLEAR");
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!((stats["invalidated"].int(), stats["entries"].int(), stats["tags"].int()), (6, 0, 0));
    assert_eq!(stats["deletes"], 0);
    assert_eq!(c.map("EXPCACHE.STATS TYPE trips")["invalidated"], 3);
}

// ---- all of them

#[test]
fn clear_takes_entries_and_nothing_else() {
    let server = Server::start();
    for mut c in server.conns() {
        fill(&mut c, "");
        c.int("SADD set m");
        assert_eq!(c.cmd("EXPCACHE.CLEAR"), 6);
        check(&mut c);
        wait_until_reclaimed(&mut c);
        assert_eq!(c.cmd("KEYS *").sorted_texts(), ["native", "set"]);
        assert_eq!(c.cmd("EXPCACHE.CLEAR"), 0);
        assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 0);
    }
}

#[test]
fn clear_of_many() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 20_000, "");
    c.ok("SET native v");
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 20_000);
    c.nil("EXPCACHE.GET k:7");
    assert_eq!(c.map("EXPCACHE.STATS")["entries"], 0);
    assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), 0);
    c.ok("EXPCACHE.SET k:7 again TAGS 1 all");
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 all"), 1);
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == 2);
    assert_eq!(c.cmd("EXPCACHE.GET k:7"), "again");
    check(&mut c);
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 1);
}

// ---- many

/// Stores so many entries `k:0`, `k:1` … with the tags `all` and `0` to `6`.
fn crowd(c: &mut Conn, count: usize, options: &str) {
    let sets = (0..count).map(|n| format!("EXPCACHE.SET k:{n} v TAGS 2 all {} {options}", n % 7));
    let replies = c.pipeline(sets.collect::<Vec<_>>().iter());
    assert!(replies.iter().all(|reply| *reply == ok()));
}

/// More than are reclaimed before the reply: gone with it all the same.
#[test]
fn of_many_none_is_seen_again() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 7_000, "");
    for (selector, purged, left) in [
        ("ALL 2 all 0", 1000, 6000),
        ("ANY 2 1 2 NONE 1 2", 1000, 5000),
        ("ANY 1 all MATCH k:[0-2]*", 1587, 3413),
        ("TYPE default NONE 3 4 5 6", 1364, 2049),
        ("MATCH *", 2049, 0),
    ] {
        let changed = c.transaction(
            [
                format!("EXPCACHE.COUNT {selector}"),
                format!("EXPCACHE.PURGE {selector}"),
                format!("EXPCACHE.COUNT {selector}"),
                "EXPCACHE.COUNT MATCH *".into(),
                format!("EXPCACHE.PURGE {selector} KEYS 10"),
                "EXPCACHE.STATS".into(),
                format!("EXPCACHE.SCAN 0 {selector} COUNT 10000"),
            ]
            .iter(),
        );
        assert_eq!(changed[..4], [purged, purged, 0, left].map(Value::Int), "{selector}");
        assert_eq!(changed[4], Value::Array(vec![Value::Int(0)]), "{selector}");
        assert_eq!(changed[5].fields()["entries"], left, "{selector}");
        assert!(changed[6].items()[1].items().is_empty(), "{selector}");
        check(&mut c);
    }
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == 0);
    assert_eq!(c.map("EXPCACHE.STATS")["tags"], 0);
    check(&mut c);
}

#[test]
fn stored_again_and_purged_again_counts_again() {
    let server = Server::start();
    let mut c = server.conn();
    for selector in ["ANY 1 all", "TYPE default", "MATCH k:*", "ALL 1 all MATCH *"] {
        crowd(&mut c, 1_000, "");
        let purge = format!("EXPCACHE.PURGE {selector}");
        let again = ["EXPCACHE.SET k:1 v2 TAGS 1 all", "EXPCACHE.SET k:2 v2 TAGS 1 all"];
        let replies = c.transaction([&purge, again[0], again[1], &purge, again[0], "EXPCACHE.GET k:1"]);
        assert_eq!(replies[0], 1000, "{selector}");
        assert_eq!(replies[3], 2, "{selector}");
        assert_eq!(replies[5], "v2");
        wait_until("the keys are reclaimed", || c.int("DBSIZE") == 1);
        assert_eq!(c.cmd("EXPCACHE.GET k:1"), "v2");
        check(&mut c);
    }
}

/// An invalidation deals with what it marked itself, and counts of that only.
#[test]
fn what_expired_before_is_no_part_of_the_next_count() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    let brief: Vec<String> = (0..300).map(|n| format!("EXPCACHE.SET brief:{n} v PX 1 TAGS 1 brief")).collect();
    c.pipeline(&brief);
    for n in 0..5 {
        c.ok(&format!("EXPCACHE.SET k:{n} v TAGS 1 t"));
    }
    // Long enough for them to expire; nobody looks at them, which would remove them.
    std::thread::sleep(Duration::from_millis(50));
    // Too many for the first to deal with, and the second could deal with all.
    let replies =
        c.transaction(["EXPCACHE.INVTAG brief", "CONFIG SET expcache.reclaim-inline 1000", "EXPCACHE.INVTAG t"]);
    assert_eq!(replies[1..], [ok(), Value::Int(5)]);
    assert_eq!(c.int("EXISTS k:0 k:1 k:2 k:3 k:4"), 0);
    wait_until_reclaimed(&mut c);
    assert_eq!(c.int("DBSIZE"), 0);
    check(&mut c);
}

// ---- a search for names takes its time, and nobody else's

/// Starts a server that looks at names as slowly as it can, with so many entries in it.
fn slow_server(count: usize) -> (Server, Conn) {
    let server = Server::with(&["--expcache.reclaim-slice-us", "1"]);
    let mut c = server.conn();
    crowd(&mut c, count, "");
    (server, c)
}

const MANY: usize = 200_000;

/// Sends a command that searches for names, and waits until its client waits.
fn search(server: &Server, command: &str) -> Conn {
    let mut asker = server.conn();
    asker.send(command).unwrap();
    let mut c = server.conn();
    wait_until("the asker waits", || c.info("clients", "blocked_clients") == "1");
    asker
}

#[test]
fn the_asker_waits_and_nobody_else() {
    let (server, mut c) = slow_server(MANY);
    for command in ["EXPCACHE.COUNT MATCH *9", "EXPCACHE.PURGE MATCH *9 DRYRUN", "EXPCACHE.PURGE MATCH *9"] {
        let mut asker = search(&server, command);
        // Writes must wait for the end of the pause, so the search is not over before it.
        c.ok("CLIENT PAUSE 600000 WRITE");
        assert_eq!(c.cmd("EXPCACHE.GET k:9"), "v");
        assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 all"), MANY as i64);
        c.ok("CLIENT UNPAUSE");
        assert_eq!(asker.receive().unwrap(), MANY as i64 / 10, "{command}");
    }
    c.nil("EXPCACHE.GET k:9");
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 all"), MANY as i64 * 9 / 10);
    check(&mut c);
}

#[test]
fn a_search_that_waits_for_the_end_of_a_pause_holds_no_other_back() {
    let (server, mut c) = slow_server(MANY);
    let mut purge = search(&server, "EXPCACHE.PURGE MATCH *9");
    c.ok("CLIENT PAUSE 600000 WRITE");
    // At the end of the first count at the latest the purge has found its entries.
    for _ in 0..2 {
        assert_eq!(server.conn().cmd("EXPCACHE.COUNT MATCH *9"), MANY as i64 / 10);
    }
    assert_eq!(c.cmd("EXPCACHE.GET k:9"), "v");
    c.ok("CLIENT UNPAUSE");
    assert_eq!(purge.receive().unwrap(), MANY as i64 / 10);
    check(&mut c);
}

#[test]
fn what_is_stored_during_a_search_is_gone_with_it() {
    let (server, mut c) = slow_server(MANY);
    let mut asker = search(&server, "EXPCACHE.PURGE MATCH *:new:*");
    let waits = |c: &mut Conn| c.info("clients", "blocked_clients") == "1";
    let mut stored = 0;
    while waits(&mut c) && stored < 10_000 {
        c.ok(args!["EXPCACHE.SET", format!("k:new:{stored}"), "v"]);
        c.ok(args!["EXPCACHE.SET", format!("k:other:{stored}"), "v"]);
        stored += 1;
    }
    let gone = asker.receive().unwrap().int();
    let is_there = |c: &mut Conn, n: i64| c.cmd(args!["EXPCACHE.GET", format!("k:new:{n}")]) != Value::Nil;
    for n in 0..stored {
        assert_eq!(is_there(&mut c, n), n >= gone, "{n} of {stored}, of which {gone} were purged");
        assert_eq!(c.cmd(args!["EXPCACHE.GET", format!("k:other:{n}")]), "v");
    }
    assert!(gone > 0, "the first was stored while the asker waited");
    check(&mut c);
}

#[test]
fn what_changes_during_a_search_counts_as_it_is_at_its_end() {
    let (server, mut c) = slow_server(MANY);
    c.ok("EXPCACHE.MSET 6 x:renamed v x:deleted v x:untagged v x:over v x:invalidated v x:moved v TAGS 1 y");
    c.ok("EXPCACHE.SET x:invalidated v TAGS 2 y gone");
    c.ok("EXPCACHE.MSET 3 to-be v tagged v stays v TAGS 1 y");
    c.ok("EXPCACHE.SET x:tagged v");
    let mut asker = search(&server, "EXPCACHE.PURGE ANY 2 y all MATCH x:*");
    let replies = c.pipeline([
        "RENAME x:renamed renamed",
        "EXPCACHE.DEL x:deleted",
        "EXPCACHE.SET x:untagged v",
        "SET x:native v",
        "UNLINK x:over",
        "SET x:over v",
        "EXPCACHE.INVTAG gone",
        "MOVE x:moved 1",
        "SELECT 0",
        "RENAME to-be x:came",
        "EXPCACHE.SET x:tagged v TAGS 1 y",
        "COPY stays x:copied",
        "PING",
    ]);
    assert!(!replies.iter().any(|reply| matches!(reply, Value::Error(_))), "{replies:?}");
    assert_eq!(c.info("clients", "blocked_clients"), "1", "the search goes on");
    assert_eq!(asker.receive().unwrap(), 3);
    for key in ["x:came", "x:tagged", "x:copied"] {
        c.nil(&["EXPCACHE.GET", key]);
    }
    for key in ["renamed", "x:untagged", "stays", "tagged"] {
        assert_eq!(c.cmd(&["EXPCACHE.GET", key]), "v", "{key}");
    }
    assert_eq!(c.cmd("GET x:over"), "v");
    check(&mut c);
}

#[test]
fn several_searches_at_once() {
    let (server, mut c) = slow_server(MANY / 4);
    let commands = (0..8).map(|n| match n % 2 {
        0 => format!("EXPCACHE.COUNT MATCH *{n}"),
        _ => format!("EXPCACHE.PURGE MATCH *{n} KEYS 2"),
    });
    let mut askers: Vec<Conn> = commands
        .map(|command| {
            let mut asker = server.conn();
            asker.send(&command).unwrap();
            asker
        })
        .collect();
    for (n, asker) in askers.iter_mut().enumerate() {
        match asker.receive().unwrap() {
            Value::Int(count) => assert_eq!(count, MANY as i64 / 40),
            reply => {
                let (count, keys) = numbered(&reply);
                assert_eq!((count, keys.len()), (MANY as i64 / 40, 2));
                assert!(keys.iter().all(|key| key.ends_with(&n.to_string())));
            }
        }
    }
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 all"), MANY as i64 / 4 * 6 / 10);
    check(&mut c);
}

#[test]
fn an_asker_who_goes_away() {
    let (server, mut c) = slow_server(MANY);
    for how in ["closes", "is killed"] {
        let mut asker = server.conn();
        let id = asker.int("CLIENT ID");
        asker.send("EXPCACHE.PURGE MATCH *").unwrap();
        wait_until("the asker waits", || c.info("clients", "blocked_clients") == "1");
        match how {
            "closes" => drop(asker),
            _ => drop(c.int(args!["CLIENT", "KILL", "ID", id])),
        }
        wait_until("nobody waits", || c.info("clients", "blocked_clients") == "0");
        check(&mut c);
        assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 all"), MANY as i64, "{how}: nobody learns of it, so it is not done");
    }
    let mut asker = search(&server, "EXPCACHE.COUNT MATCH *");
    assert_eq!(asker.receive().unwrap(), MANY as i64, "the next one is served");
}

#[test]
fn a_database_that_is_flushed_or_swapped_during_a_search() {
    for flush in ["FLUSHALL", "FLUSHDB", "FLUSHALL ASYNC"] {
        let (server, mut c) = slow_server(MANY);
        let mut asker = search(&server, "EXPCACHE.PURGE MATCH *");
        c.ok(flush);
        let reply = asker.receive().unwrap();
        assert!(matches!(reply, Value::Int(0) | Value::Error(_)), "{flush}: {reply}");
        check(&mut c);
        c.ok("EXPCACHE.SET k v");
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH *"), 1);
    }
    let (server, mut c) = slow_server(MANY);
    let mut asker = search(&server, "EXPCACHE.PURGE MATCH *");
    c.ok("SWAPDB 0 1");
    let reply = asker.receive().unwrap();
    let entries = c.map("EXPCACHE.STATS")["entries"].int();
    match reply {
        Value::Int(count) => assert_eq!(count + entries, MANY as i64),
        other => assert!(matches!(other, Value::Error(_)), "{other}"),
    }
    c.ok("CONFIG SET expcache.reclaim-slice-us 500");
    wait_until("the keys are reclaimed", || {
        let zero = c.int("DBSIZE");
        c.ok("SELECT 1");
        let one = c.int("DBSIZE");
        c.ok("SELECT 0");
        zero + one == entries
    });
    check(&mut c);
}

#[test]
fn a_flush_during_a_search_is_felt_in_its_database_only() {
    let (server, mut c) = slow_server(0);
    c.ok("EXPCACHE.SET k:0 v");
    let token = c.map("EXPCACHE.FETCH k:1 LEASE 1h")["lease"].text();
    let mut other = server.conn();
    other.ok("SELECT 5");
    crowd(&mut other, MANY, "");
    let mut asker = server.conn();
    asker.ok("SELECT 5");
    asker.send("EXPCACHE.PURGE MATCH k:*").unwrap();
    wait_until("the asker waits", || c.info("clients", "blocked_clients") == "1");
    other.transaction(["FLUSHDB", "EXPCACHE.SET k:new v", "EXPCACHE.SET other v"]);
    assert_eq!(asker.receive().unwrap(), 1, "what was stored after the flush is there to be found");
    other.nil("EXPCACHE.GET k:new");
    assert_eq!(other.cmd("EXPCACHE.GET other"), "v");
    assert_eq!(c.cmd("EXPCACHE.GET k:0"), "v");
    c.ok(args!["EXPCACHE.SET", "k:1", "v", "LEASE", token]);
    check(&mut c);
}

#[test]
fn a_reload_during_a_search() {
    let (server, mut c) = slow_server(MANY / 4);
    let mut asker = search(&server, "EXPCACHE.PURGE MATCH *");
    c.ok("DEBUG RELOAD");
    let reply = asker.receive().unwrap();
    let left = c.int("EXPCACHE.COUNT ANY 1 all");
    match reply {
        Value::Int(count) => assert_eq!(count + left, MANY as i64 / 4),
        other => assert!(matches!(other, Value::Error(_)), "{other}"),
    }
    c.ok("CONFIG SET expcache.reclaim-slice-us 500");
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == left);
    check(&mut c);
}

/// It must not write any more.
#[test]
fn a_master_that_becomes_a_replica_during_a_search() {
    let master = Server::start();
    let (server, mut c) = slow_server(MANY / 4);
    let mut asker = search(&server, "EXPCACHE.PURGE MATCH *");
    c.ok(args!["REPLICAOF", "127.0.0.1", master.port()]);
    // The server itself sends those away who wait.
    let reply = asker.receive();
    assert!(matches!(&reply, Err(_) | Ok(Value::Error(_))), "{reply:?}");
    server.wait_for_sync(&master);
    assert_eq!(c.int("DBSIZE"), 0);
    check(&mut c);
    master.conn().ok("EXPCACHE.SET k v TAGS 1 t");
    server.wait_for_sync(&master);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    check(&mut c);
}

#[test]
fn a_server_that_stops_during_a_search() {
    let (mut server, _c) = slow_server(MANY);
    let mut asker = search(&server, "EXPCACHE.PURGE MATCH *");
    server.restart(Stop::Save);
    assert!(matches!(asker.receive(), Err(_) | Ok(Value::Error(_))));
    let mut c = server.conn();
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 all"), MANY as i64);
    check(&mut c);
}

/// There nobody can wait, so it runs through.
#[test]
fn in_transactions_and_scripts_a_search_runs_through() {
    let (_server, mut c) = slow_server(20_000);
    let replies = c.transaction([
        "EXPCACHE.COUNT MATCH *1",
        "EXPCACHE.PURGE MATCH *1",
        "EXPCACHE.COUNT MATCH *1",
        "EXPCACHE.GET k:1",
        "EXPCACHE.PURGE MATCH *2 DRYRUN KEYS 1",
    ]);
    assert_eq!(replies[..3], [2000, 2000, 0].map(Value::Int));
    assert_eq!((&replies[3], replies[4].items()[0].int()), (&Value::Nil, 2000));
    let script = "local n = redis.call('EXPCACHE.PURGE', 'MATCH', '*3')
        return {n, redis.call('EXPCACHE.COUNT', 'MATCH', '*3'), redis.call('EXPCACHE.COUNT', 'MATCH', '*4')}";
    assert_eq!(c.cmd(&["EVAL", script, "0"]), Value::Array([2000, 0, 2000].map(Value::Int).to_vec()));
    check(&mut c);
}

// ---- soft

/// Since when an entry with this grace is stale, by its key's expiry.
#[track_caller]
fn stale_since(c: &mut Conn, key: &str, grace_ms: i64) -> i64 {
    c.int(&["PEXPIRETIME", key]) - grace_ms
}

/// Asserts that an entry has been stale since a moment between `since` and now, and is served so.
#[track_caller]
fn is_stale(c: &mut Conn, key: &str, since: i64, grace_ms: i64) {
    let moment = stale_since(c, key, grace_ms);
    assert!(
        (since - CLOCK_SLACK_MS..=now_ms() + CLOCK_SLACK_MS).contains(&moment),
        "{key} since {moment}, not {since}"
    );
    assert_stale(c, key, grace_ms);
}

#[track_caller]
fn assert_stale(c: &mut Conn, key: &str, grace_ms: i64) {
    c.nil(&["EXPCACHE.GET", key]);
    assert_eq!(c.cmd(&["EXPCACHE.MGET", key]), Value::Array(vec![Value::Nil]));
    let fetched = c.map(&["EXPCACHE.FETCH", key]);
    assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("stale"), &Value::bulk("v")), "{key}");
    assert!(fetched["ttl"].int() <= 0, "{key}: {}", fetched["ttl"]);
    let meta = c.map(&["EXPCACHE.META", key]);
    assert_eq!(meta["state"], "stale", "{key}");
    assert_eq!(meta["grace"], grace_ms, "{key}");
    assert!(meta["ttl"].int() <= 0, "{key}: {}", meta["ttl"]);
}

/// Asserts that an entry has been stale since about a moment, whatever its key's expiry.
#[track_caller]
fn stays_stale(c: &mut Conn, key: &str, since: i64) {
    c.nil(&["EXPCACHE.GET", key]);
    let fetched = c.map(&["EXPCACHE.FETCH", key]);
    assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("stale"), &Value::bulk("v")), "{key}");
    let meta = c.map(&["EXPCACHE.META", key]);
    assert_eq!(meta["state"], "stale", "{key}");
    for ttl in [fetched["ttl"].int(), meta["ttl"].int()] {
        let most = now_ms() - since + CLOCK_SLACK_MS;
        assert!((-most..=0).contains(&ttl), "{key}: {ttl}");
    }
}

/// What EXPIRE and PERSIST do not undo is not undone by any way that an entry takes either.
#[test]
fn what_was_softened_stays_stale_wherever_it_goes() {
    let settings = ["--appendonly", "yes", "--appendfsync", "no", "--aof-use-rdb-preamble"];
    for preamble in ["yes", "no"] {
        let settings = [settings.as_slice(), &[preamble]].concat();
        let (mut server, replica) = (Server::with(&settings), Server::start());
        replica.replica_of(&server);
        let mut c = server.conn();
        c.ok("EXPCACHE.TYPE SET later TTL 10h");
        c.ok("EXPCACHE.SET expire v GRACE 1h");
        c.ok("EXPCACHE.SET persist v GRACE 1h");
        c.ok("EXPCACHE.SET of-type v TYPE later");
        c.ok("EXPCACHE.TYPE SET later GRACE 1h");
        let since = now_ms();
        assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 3);
        for key in ["expire", "of-type"] {
            assert_eq!(c.cmd(&["EXPIRE", key, "20000"]), 1);
        }
        assert_eq!(c.cmd("PERSIST persist"), 1);
        c.ok("RENAME of-type renamed");
        assert_eq!(c.cmd("COPY persist copied"), 1);
        let dump = c.bulk("DUMP expire");
        c.ok(args!["RESTORE", "restored", 0, &dump[..]]);
        let keys = ["expire", "persist", "renamed", "copied", "restored"];
        let all_stay_stale = |c: &mut Conn| {
            keys.iter().for_each(|key| stays_stale(c, key, since));
            assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 0, "none is fresh");
            check(c);
        };
        all_stay_stale(&mut c);
        replica.wait_for_sync(&server);
        let mut there = replica.conn();
        keys.iter().for_each(|key| stays_stale(&mut there, key, since));
        check(&mut there);
        c.ok("DEBUG RELOAD");
        all_stay_stale(&mut c);
        server.restart(Stop::Kill);
        let mut c = server.conn();
        all_stay_stale(&mut c);
        c.cmd("BGREWRITEAOF");
        wait_until("the append-only file is rewritten", || {
            c.info("persistence", "aof_rewrite_in_progress") == "0"
                && c.info("persistence", "aof_rewrite_scheduled") == "0"
        });
        server.restart(Stop::Kill);
        let mut c = server.conn();
        all_stay_stale(&mut c);
        replica.conn().ok("REPLICAOF NO ONE");
        all_stay_stale(&mut replica.conn());
        c.ok("EXPCACHE.SET persist v");
        assert_eq!(c.cmd("EXPCACHE.GET persist"), "v");
    }
}

#[test]
fn soft_makes_stale_and_the_grace_begins() {
    in_both_modes(|c| {
        c.ok("EXPCACHE.TYPE SET graceful TTL 5h GRACE 2h");
        // Stored before its type got a grace, so it has none of its own.
        c.ok("EXPCACHE.SET of-type v TYPE later TAGS 1 t EX 5000");
        c.ok("EXPCACHE.TYPE SET later GRACE 3h");
        c.ok("EXPCACHE.SET own v EX 5000 GRACE 1h TAGS 1 t");
        c.ok("EXPCACHE.SET both v TYPE graceful GRACE 1h TAGS 1 t");
        c.ok("EXPCACHE.SET stored v TYPE graceful TAGS 1 t");
        c.ok("EXPCACHE.SET for-ever v GRACE 1h TAGS 1 t");
        c.ok("EXPCACHE.SET of-type-for-ever v TAGS 1 t");
        c.int("PERSIST for-ever");
        c.ok("EXPCACHE.SET other v TAGS 1 other GRACE 1h");
        let since = now_ms();
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 t SOFT"), 6);
        check(c);
        for (key, hours) in [("of-type", 3), ("own", 1), ("both", 1), ("stored", 2), ("for-ever", 1)] {
            is_stale(c, key, since, hours * HOUR_MS);
        }
        assert_eq!(c.int("EXISTS of-type-for-ever"), 0, "without any grace it is gone");
        assert_eq!(c.cmd("EXPCACHE.GET other"), "v");
        assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 t"), 5, "stale ones are entries");
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 5);
        wait_until("they are reclaimed", || c.int("DBSIZE") == 1);
    });
}

#[test]
fn the_grace_begins_when_a_pause_of_writes_ends() {
    let server = Server::with(&["--expcache.reclaim-slice-us", "1"]);
    let mut c = server.conn();
    crowd(&mut c, MANY, "EX 5000 GRACE 1h");
    let mut asker = search(&server, "EXPCACHE.PURGE MATCH * SOFT");
    c.ok("CLIENT PAUSE 600000 WRITE");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(status(&mut c, "k:9"), "hit");
    let since = now_ms();
    c.ok("CLIENT UNPAUSE");
    c.ok("CONFIG SET expcache.reclaim-slice-us 500");
    assert_eq!(asker.receive().unwrap(), MANY as i64);
    wait_until_reclaimed(&mut c);
    is_stale(&mut c, "k:9", since, HOUR_MS);
    check(&mut c);
}

#[test]
fn soft_twice_counts_once_and_changes_nothing() {
    in_both_modes(|c| {
        c.ok("EXPCACHE.SET a v GRACE 1h TAGS 1 t");
        c.ok("EXPCACHE.SET stale v PXAT 1000 GRACE 365000d TAGS 1 t");
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 t SOFT KEYS 9"), Value::Array(vec![Value::Int(1), Value::bulk("a")]));
        let expiry = c.int("PEXPIRETIME a");
        let of_stale = c.int("PEXPIRETIME stale");
        let changes = c.info("persistence", "rdb_changes_since_last_save");
        for command in ["EXPCACHE.PURGE ANY 1 t SOFT", "EXPCACHE.PURGE MATCH * SOFT", "EXPCACHE.CLEAR SOFT"] {
            assert_eq!(c.cmd(command), 0, "{command}");
        }
        assert_eq!((c.int("PEXPIRETIME a"), c.int("PEXPIRETIME stale")), (expiry, of_stale));
        assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
        check(c);
    });
}

#[test]
fn soft_without_grace_is_gone() {
    in_both_modes(|c| {
        fill(c, "");
        assert_eq!(c.cmd("EXPCACHE.PURGE TYPE trips MATCH *:1 SOFT"), 1);
        assert_eq!(status(c, "trips:1"), "miss");
        assert_eq!(c.int("EXISTS trips:1"), 0);
        assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 5);
        wait_until_reclaimed(c);
        assert_eq!(c.cmd("KEYS *").sorted_texts(), ["native"]);
        check(c);
    });
}

#[test]
fn a_dry_run_of_soft_counts_the_fresh() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        fill(&mut c, "GRACE 1h");
        c.ok("EXPCACHE.SET no-grace v TAGS 1 c1");
        let changes = c.info("persistence", "rdb_changes_since_last_save");
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 c1 SOFT DRYRUN"), 4);
        let (count, keys) = numbered(&c.cmd("EXPCACHE.PURGE ANY 1 c1 DRYRUN SOFT KEYS 10"));
        assert_eq!((count, keys.join(" ").as_str()), (4, "no-grace reports:1 trips:1 trips:2"));
        assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH trips:1 SOFT"), 1);
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 c1 SOFT DRYRUN"), 3);
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 c1 DRYRUN"), 4, "hard, the stale one counts");
    }
}

#[test]
fn soft_entries_live_again_only_when_they_are_stored_again() {
    in_both_modes(|c| {
        for key in ["expire", "persist", "over", "keep", "keep-none", "rename"] {
            c.ok(&format!("EXPCACHE.SET {key} v GRACE 1h TAGS 1 t"));
        }
        let since = now_ms();
        assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 6);
        assert_eq!(c.cmd("EXPIRE expire 7200"), 1);
        assert_eq!(c.cmd("PERSIST persist"), 1);
        c.ok("EXPCACHE.SET over v GRACE 1h TAGS 1 t");
        c.ok("EXPCACHE.SET keep v KEEPTTL GRACE 2h TAGS 1 t");
        c.ok("EXPCACHE.SET keep-none v KEEPTTL");
        c.ok("RENAME rename renamed");
        check(c);
        assert_eq!(c.cmd("EXPCACHE.GET over"), "v");
        // Only its end was moved: two hours from now on.
        stays_stale(c, "expire", since);
        assert!(c.int("PTTL expire") > 7_190_000);
        let grace = c.map("EXPCACHE.META expire")["grace"].int();
        assert!((7_190_000..7_300_000).contains(&grace), "{grace}");
        stays_stale(c, "persist", since);
        assert_eq!((c.int("PTTL persist"), c.map("EXPCACHE.META persist")["grace"].int()), (-1, HOUR_MS));
        is_stale(c, "keep", since, 2 * HOUR_MS);
        is_stale(c, "renamed", since, HOUR_MS);
        assert_eq!(c.int("EXISTS keep-none"), 0, "what it keeps is over");
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 t SOFT DRYRUN"), 1, "only `over` is fresh");
        // What was stored with an end that had passed is stale by that end, like any other.
        assert_eq!(c.cmd("EXPIRE keep 20000"), 1);
        assert_eq!(c.cmd("EXPCACHE.GET keep"), "v");
        for key in ["expire", "persist", "renamed"] {
            c.ok(&format!("EXPCACHE.SET {key} v EX 100"));
            assert_eq!(c.cmd(&["EXPCACHE.GET", key]), "v", "{key}");
            assert_eq!(c.cmd(&["EXPIRE", key, "5000"]), 1);
            assert_eq!(c.cmd(&["EXPCACHE.GET", key]), "v", "{key}");
        }
        check(c);
    });
}

#[test]
fn a_hit_does_not_slide_what_is_stale() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET s TTL 10h GRACE 1h SLIDING yes");
    c.ok("EXPCACHE.SET s:1 v");
    let since = now_ms();
    assert_eq!(c.cmd("EXPCACHE.PURGE TYPE s SOFT"), 1);
    for _ in 0..3 {
        is_stale(&mut c, "s:1", since, HOUR_MS);
    }
}

/// Too many to be dealt with before the reply: they are stale all the same.
#[test]
fn many_are_stale_at_once() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 5_000, "GRACE 1h");
    c.ok("EXPCACHE.MSET 2 k:gone:1 v k:gone:2 v TAGS 1 all");
    let since = now_ms();
    let replies = c.transaction([
        "EXPCACHE.PURGE ANY 1 all SOFT",
        "EXPCACHE.PURGE ANY 1 all SOFT",
        "EXPCACHE.COUNT ANY 1 all",
        "EXPCACHE.GET k:4999",
        "EXPCACHE.MGET k:4998 k:gone:1",
        "EXPCACHE.FETCH k:4999",
        "EXPCACHE.META k:4999",
        "EXPCACHE.FETCH k:gone:2",
        "EXPCACHE.PURGE MATCH k:499? SOFT DRYRUN",
        "EXPCACHE.PURGE MATCH k:499? DRYRUN",
        "EXPCACHE.STATS",
    ]);
    assert_eq!(replies[..4], [Value::Int(5002), Value::Int(0), Value::Int(5000), Value::Nil]);
    assert_eq!(replies[4], Value::Array(vec![Value::Nil, Value::Nil]));
    let (fetched, meta) = (replies[5].fields(), replies[6].fields());
    assert_eq!((&fetched["status"], &meta["state"]), (&Value::bulk("stale"), &Value::bulk("stale")));
    assert!(fetched["ttl"].int() <= 0 && meta["ttl"].int() <= 0);
    assert_eq!(replies[7].fields()["status"], "miss");
    assert_eq!(replies[8..10], [0, 10].map(Value::Int));
    assert_eq!(replies[10].fields()["entries"], 5000);
    check(&mut c);
    all_are_dated(&mut c, 5_000, since);
    assert_eq!(c.int("DBSIZE"), 5000);
    for n in (0..5_000).step_by(500) {
        is_stale(&mut c, &format!("k:{n}"), since, HOUR_MS);
    }
    check(&mut c);
}

/// Waits until so many entries `k:0`, `k:1` … with a grace of an hour, which is before their first expiry, expire with it.
fn all_are_dated(c: &mut Conn, count: usize, since: i64) {
    wait_until("the keys expire with their grace", || {
        let expiries = c.pipeline((0..count).map(|n| args!["PEXPIRETIME", format!("k:{n}")]));
        let latest = expiries.iter().map(Value::int).max().unwrap_or(0);
        latest <= now_ms() + HOUR_MS + CLOCK_SLACK_MS && latest >= since + HOUR_MS - CLOCK_SLACK_MS
    });
}

#[test]
fn what_is_stored_over_many_stale_ones_is_fresh_and_stays_so() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 5_000, "GRACE 1h");
    let replies = c.transaction([
        "EXPCACHE.CLEAR SOFT",
        "EXPCACHE.SET k:1 v GRACE 1h",
        "EXPCACHE.SET k:2 v",
        "EXPIRE k:3 20000",
        "EXPCACHE.GET k:3",
        "PERSIST k:4",
        "EXPCACHE.GET k:4",
        "EXPCACHE.CLEAR SOFT",
        "EXPCACHE.SET k:1 v GRACE 1h",
        "EXPIRE k:3 20000",
        "EXPIRE k:4 20000",
    ]);
    assert_eq!(replies[0], 5000);
    assert_eq!((&replies[4], &replies[6]), (&Value::Nil, &Value::Nil));
    assert_eq!(replies[7], 2, "only what was stored over is fresh, and softened again");
    wait_until("the others expire with their grace", || {
        let expiries = c.pipeline((5..5_000).map(|n| args!["PTTL", format!("k:{n}")]));
        expiries.iter().all(|left| left.int() <= HOUR_MS)
    });
    assert_eq!(c.cmd("EXPCACHE.GET k:1"), "v");
    for key in ["k:3", "k:4"] {
        c.nil(&["EXPCACHE.GET", key]);
        assert!(c.int(&["PTTL", key]) > HOUR_MS, "{key}: its end is where somebody moved it");
    }
    check(&mut c);
}

#[test]
fn hard_after_soft() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c, 5_000, "GRACE 1h");
    let replies = c.transaction(["EXPCACHE.CLEAR SOFT", "EXPCACHE.PURGE ANY 1 all", "EXPCACHE.FETCH k:1"]);
    assert_eq!(replies[..2], [5000, 5000].map(Value::Int));
    assert_eq!(replies[2].fields()["status"], "miss");
    check(&mut c);
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == 0);
    check(&mut c);
}

// ---- protocols, transactions, scripts, watching

#[test]
fn replies_are_the_same_in_both_protocols() {
    let server = Server::start();
    for mut c in server.conns() {
        fill(&mut c, "");
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH trips:1 DRYRUN"), Value::Int(1));
        let expected = Value::Array(vec![Value::Int(1), Value::bulk("trips:1")]);
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH trips:1 DRYRUN KEYS 1"), expected);
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH trips:1 KEYS 1"), expected);
        assert_eq!(c.cmd("EXPCACHE.COUNT TYPE trips"), Value::Int(2));
        assert_eq!(c.cmd("EXPCACHE.CLEAR"), Value::Int(5));
    }
}

#[test]
fn in_a_transaction() {
    let server = Server::start();
    for mut c in server.conns() {
        fill(&mut c, "GRACE 1h");
        let replies = c.transaction([
            "EXPCACHE.PURGE TYPE trips SOFT",
            "EXPCACHE.GET trips:1",
            "EXPCACHE.PURGE ANY 1 c1",
            "EXPCACHE.PURGE ANY 1",
            "EXPCACHE.COUNT MATCH *",
            "EXPCACHE.SET trips:1 v TAGS 1 c1",
            "EXPCACHE.CLEAR",
            "EXPCACHE.SET trips:1 v",
        ]);
        assert_eq!(replies[..3], [Value::Int(3), Value::Nil, Value::Int(3)]);
        assert!(matches!(&replies[3], Value::Error(text) if text.starts_with("ERR syntax")), "{}", replies[3]);
        assert_eq!(replies[4..], [Value::Int(3), ok(), Value::Int(4), ok()]);
        wait_until_reclaimed(&mut c);
        assert_eq!(c.cmd("KEYS *").sorted_texts(), ["native", "trips:1"]);
        check(&mut c);
    }
}

#[test]
fn in_a_script() {
    let server = Server::start();
    for mut c in server.conns() {
        fill(&mut c, "GRACE 1h");
        let script = "local a = redis.call('EXPCACHE.PURGE', 'TYPE', 'trips', 'SOFT')
            local b = redis.call('EXPCACHE.PURGE', 'ALL', '2', 'c1', 'u1', 'KEYS', '5')
            local c = redis.call('EXPCACHE.COUNT', 'MATCH', '*')
            local d = redis.call('EXPCACHE.CLEAR')
            return {a, b[1], b[2], c, d, redis.call('EXPCACHE.COUNT', 'MATCH', '*')}";
        let reply = c.cmd(&["EVAL", script, "0"]);
        let texts: Vec<String> = reply.items().iter().map(Value::text).collect();
        assert_eq!(texts, ["3", "1", "trips:1", "5", "5", "0"]);
        for call in
            ["'EXPCACHE.PURGE', 'ANY', '0', 't'", "'EXPCACHE.CLEAR', 'NONSENSE'", "'EXPCACHE.COUNT', 'ANY', '1'"]
        {
            c.err(&["EVAL", &format!("return redis.call({call})"), "0"], "ERR");
        }
        let only_read = |call: &str| args!["EVAL_RO", format!("return redis.call({call})"), 0];
        assert_eq!(c.cmd(only_read("'EXPCACHE.COUNT', 'MATCH', '*'")), 0);
        assert_eq!(c.cmd(only_read("'EXPCACHE.SCAN', '0'")).items().len(), 2);
        assert_eq!(c.cmd(only_read("'EXPCACHE.TAGS', '0'")).items().len(), 2);
        for call in ["'EXPCACHE.PURGE', 'MATCH', '*'", "'EXPCACHE.CLEAR'"] {
            refused(&mut c, only_read(call), "ERR Write commands are not allowed");
        }
        check(&mut c);
    }
}

/// Whether a transaction that watches `k` still runs after `command` of another client.
fn runs_after(server: &Server, command: &str) -> bool {
    let mut watcher = server.conn();
    watcher.ok("WATCH k");
    server.conn().int(command);
    watcher.ok("MULTI");
    watcher.cmd("PING");
    watcher.cmd("EXEC") != Value::Nil
}

#[test]
fn who_watches_a_key_learns_of_it() {
    let server = Server::start();
    let mut c = server.conn();
    for command in ["PURGE ANY 1 t", "PURGE MATCH k", "PURGE ANY 1 t SOFT", "CLEAR", "CLEAR SOFT"] {
        c.ok("EXPCACHE.SET k v TAGS 1 t GRACE 1h");
        for other in ["COUNT ANY 1 t", "PURGE ANY 1 t DRYRUN", "PURGE ANY 1 t SOFT DRYRUN", "PURGE NONE 1 t"] {
            assert!(runs_after(&server, &format!("EXPCACHE.{other}")), "{other}");
        }
        assert!(!runs_after(&server, &format!("EXPCACHE.{command}")), "{command}");
    }
}

#[test]
fn who_watches_one_of_many_learns_of_it_in_time() {
    let server = Server::start();
    let mut c = server.conn();
    for command in ["EXPCACHE.PURGE TYPE default", "EXPCACHE.CLEAR SOFT"] {
        crowd(&mut c, 1_000, "GRACE 1h");
        let mut watcher = server.conn();
        watcher.ok("WATCH k:999");
        let expiry = c.int("PEXPIRETIME k:999");
        assert_eq!(c.cmd(command), 1000);
        wait_until("the key is dealt with", || c.int("PEXPIRETIME k:999") != expiry);
        watcher.ok("MULTI");
        watcher.cmd("PING");
        watcher.nil("EXEC");
    }
}

#[test]
fn a_client_that_caches_is_told() {
    let server = Server::start();
    let mut c = server.conn();
    for command in ["EXPCACHE.PURGE MATCH k SOFT", "EXPCACHE.PURGE MATCH k", "EXPCACHE.CLEAR"] {
        c.ok("EXPCACHE.SET k v GRACE 1h");
        let mut cacher = server.conn();
        cacher.hello3();
        cacher.ok("CLIENT TRACKING ON");
        assert_eq!(cacher.cmd("EXPCACHE.GET k"), "v");
        assert_eq!(c.cmd(command), 1);
        let Value::Push(told) = cacher.receive().unwrap() else { panic!("{command}: not told") };
        assert_eq!(told, [Value::bulk("invalidate"), Value::Array(vec![Value::bulk("k")])], "{command}");
    }
}

// ---- errors

#[test]
fn what_is_asked_for_wrongly() {
    let server = Server::start();
    let syntax = "ERR syntax error";
    let number = "ERR value is not an integer or out of range";
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        fill(&mut c, "");
        // Clauses, for each command that takes them.
        for (clauses, prefix) in [
            ("ANY 0", "ERR"),
            ("ANY 0 c1", "ERR"),
            ("ALL 0", "ERR"),
            ("NONE 0 c1", "ERR"),
            ("ANY 1", syntax),
            ("ALL 2 c1", syntax),
            ("NONE 3 c1 c2", syntax),
            ("ANY c1 c2", number),
            ("ANY -1 c1", number),
            ("ALL 1.5 c1", number),
            ("NONE 99999999999999999999 c1", number),
            ("ANY 9223372036854775807 c1", "ERR"),
            ("ANY 18446744073709551615 c1", "ERR"),
            ("ANY 1 c1 c2", syntax),
            ("ANY 1 c1 ALL", syntax),
            ("ANY 1 c1 TYPE", syntax),
            ("ANY 1 c1 MATCH", syntax),
            ("TYPE trips reports", syntax),
            ("NONSENSE 1", syntax),
            ("MATCH * NONSENSE", syntax),
            ("TAG c1", syntax),
        ] {
            for command in ["EXPCACHE.PURGE", "EXPCACHE.COUNT", "EXPCACHE.SCAN 0"] {
                refused(&mut c, &format!("{command} {clauses}"), prefix);
            }
        }
        for name in [String::new(), "x".repeat(513)] {
            for clause in
                [args!["ANY", 1, &name], args!["ALL", 2, "c1", &name], args!["NONE", 1, &name], args!["TYPE", &name]]
            {
                for command in [args!["EXPCACHE.PURGE"], args!["EXPCACHE.COUNT"], args!["EXPCACHE.SCAN", 0]] {
                    refused(&mut c, [command, clause.clone()].concat(), "ERR");
                }
            }
        }
        for (command, prefix) in [
            ("PURGE SOFT DRYRUN", syntax),
            ("PURGE KEYS 1", syntax),
            ("PURGE ANY 1 c1 KEYS", syntax),
            ("PURGE ANY 1 c1 KEYS x", number),
            ("PURGE ANY 1 c1 KEYS -1", number),
            ("PURGE ANY 1 c1 KEYS 1 KEYS 2", syntax),
            ("PURGE ANY 1 c1 SOFT SOFT", syntax),
            ("PURGE ANY 1 c1 DRYRUN SOFT DRYRUN", syntax),
            ("PURGE ANY 1 c1 COUNT 1", syntax),
            ("COUNT ANY 1 c1 SOFT", syntax),
            ("COUNT ANY 1 c1 DRYRUN", syntax),
            ("COUNT ANY 1 c1 KEYS 1", syntax),
            ("COUNT ANY 1 c1 COUNT 1", syntax),
            ("CLEAR NONSENSE", syntax),
            ("CLEAR SOFT SOFT", syntax),
            ("CLEAR DRYRUN", syntax),
            ("CLEAR KEYS 1", syntax),
            ("CLEAR TYPE trips", syntax),
            ("CLEAR MATCH *", syntax),
        ] {
            refused(&mut c, &format!("EXPCACHE.{command}"), prefix);
        }
        assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), 6);
    }
}

#[test]
fn nothing_meant_changes_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    fill(&mut c, "");
    let changes = c.info("persistence", "rdb_changes_since_last_save");
    for selector in ["ANY 1 nosuch", "TYPE nosuch", "MATCH nosuch*", "ALL 2 c1 c2", "NONE 1 c1 ANY 1 c1 SOFT"] {
        assert_eq!(c.cmd(&format!("EXPCACHE.PURGE {selector}")), 0, "{selector}");
    }
    assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
    c.ok("SELECT 5");
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 0);
    assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 0);
    assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), 0);
    assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
}

#[test]
fn a_full_server_still_invalidates() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET graceful GRACE 1h");
    fill(&mut c, "GRACE 1h");
    c.ok("EXPCACHE.SET k v TYPE graceful GRACE 0");
    c.ok("CONFIG SET maxmemory 1");
    assert_eq!(c.cmd("EXPCACHE.PURGE TYPE trips"), 3);
    assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 4);
    assert_eq!(c.map("EXPCACHE.META k")["state"], "stale");
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 4);
    check(&mut c);
}
