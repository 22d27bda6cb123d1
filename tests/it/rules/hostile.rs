//! Ways in which a key may change that are easily forgotten, and what a client may do to rules, or with them.

use super::*;

/// Fields of a hash have lives of their own where `HPEXPIREAT` is known. Whoever reads a field that is over has it expire.
#[test]
fn a_field_whose_time_is_over_changes_its_hash() {
    let server = Server::start();
    let mut c = server.conn();
    if c.cmd("COMMAND INFO HPEXPIREAT").items()[0] == Value::Nil {
        return;
    }
    let replica = Server::start();
    replica.replica_of(&server);
    c.ok(EACH);
    c.ok("EXPCACHE.RULE SET soft KEY {key} DO ANY 1 soft:{key} SOFT");
    let fields = |both: bool| if both { "HSET h f v g w" } else { "HSET h f v" };
    for both in [true, false] {
        for command in ["HPEXPIREAT h 1 FIELDS 1 f", "HPEXPIREAT h 33000000000000 FIELDS 1 f", "HPERSIST h FIELDS 1 f"]
        {
            c.int("DEL h");
            c.cmd(fields(both));
            entry_of(&mut c, "h");
            c.cmd(command);
            assert_eq!(is_alive(&mut c, "h"), !command.contains(" 1 FIELDS"), "{command}");
        }
        c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        c.int("DEL h");
        c.cmd(fields(both));
        entry_of(&mut c, "h");
        c.ok("EXPCACHE.SET soft old TAGS 1 soft:h GRACE 1h");
        c.cmd("HPEXPIRE h 1 FIELDS 1 f");
        let set_ms = now_ms();
        wait_until("it is over", || now_ms() > set_ms + 2);
        for command in ["HGET h f", "HMGET h f", "HGETALL h", "HSTRLEN h f"] {
            c.cmd(command);
        }
        c.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        wait_until("it is noticed", || c.cmd("HLEN h") == i64::from(both));
        wait_until("its entries know", || !is_alive(&mut c, "h"));
        assert_eq!(c.map("EXPCACHE.FETCH soft")["status"], "stale");
        wait_until_reclaimed(&mut c);
        wait_until("the replica knows", || {
            replica.wait_for_sync(&server);
            let mut r = replica.conn();
            let is_stale = r.map("EXPCACHE.FETCH soft")["status"] == "stale";
            is_stale && !is_alive(&mut r, "h") && r.cmd("HLEN h") == i64::from(both)
        });
    }
    // Nothing that only reads was sent to it.
    let calls = replica.conn().text("INFO commandstats");
    let read =
        calls.lines().find(|line| ["hget:", "hmget:", "hgetall:", "hstrlen:"].iter().any(|name| line.contains(name)));
    assert_eq!(read, None);
    check(&mut c);
    check(&mut replica.conn());
}

/// Entries are nobody's source: what a rule makes go has nothing go in its turn.
#[test]
fn rules_do_not_set_each_other_off() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    for reclaim_inline in [256, 0] {
        c.ok(args!["CONFIG", "SET", "expcache.reclaim-inline", reclaim_inline]);
        for (key, tag) in [("b", "of:a"), ("c", "of:b"), ("a2", "of:c")] {
            c.ok(args!["EXPCACHE.SET", key, "v", "TAGS", 1, tag]);
        }
        let before = fired(&mut c, "each");
        c.ok("SET a v");
        wait_until_reclaimed(&mut c);
        assert_eq!(c.cmd("EXPCACHE.MGET b c a2").items(), [Value::Nil, Value::bulk("v"), Value::bulk("v")]);
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG of:b of:c"), 2);
        wait_until_reclaimed(&mut c);
        assert_eq!(fired(&mut c, "each"), before + 1);
    }
    check(&mut c);
}

/// What comes with an end that has passed takes the place of what was there all the same.
#[test]
fn what_is_over_when_it_comes_is_a_change() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    c.ok("SET k v");
    let dump = c.bulk("DUMP k");
    for command in [
        args!["RESTORE", "k", 1, &dump[..], "ABSTTL", "REPLACE"],
        args!["PEXPIREAT", "k", 1],
        args!["GETEX", "k", "PXAT", 1],
        args!["SORT", "nothing", "STORE", "k"],
        args!["SINTERSTORE", "k", "nothing"],
    ] {
        c.ok("SET k v");
        entry_of(&mut c, "k");
        c.cmd(command.clone());
        assert_eq!(c.cmd("EXISTS k"), 0);
        assert!(!is_alive(&mut c, "k"), "{command:?}");
    }
    check(&mut c);
}

/// A rule that is set in a transaction holds for the rest of it, the first one too.
#[test]
fn a_rule_holds_from_the_next_command_on() {
    let server = Server::start();
    let mut c = server.conn();
    for key in ["k", "l"] {
        entry_of(&mut c, key);
    }
    c.transaction(["SET k v", EACH, "SET l v", "EXPCACHE.RULE DEL each", "SET k w"]);
    assert_eq!((is_alive(&mut c, "k"), is_alive(&mut c, "l")), (true, false));
    check(&mut c);
}

/// Whatever who writes the source writes into its name is but a part of a tag.
#[test]
fn names_of_keys_mean_nothing_else() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET r KEY user:{id} DO ANY 1 user:{id}");
    c.ok("EXPCACHE.RULE SET s KEY of:{type}:{id} DO TYPE {type} ANY 1 user:{id} SOFT");
    for (key, tag) in [("a", "user:7"), ("b", "user:{id}"), ("c", "user:*"), ("d", "other")] {
        c.ok(args!["EXPCACHE.SET", key, "v", "TYPE", "trips", "GRACE", "1h", "TAGS", 1, tag]);
    }
    for key in ["user:*", "user:{id}", "user:?", "user: ANY 1 other", "user:7 other", "of:*:7", "of:trips:*:7"] {
        c.ok(args!["SET", key, "v"]);
    }
    assert_eq!(c.cmd("EXPCACHE.MGET a b c d").items(), [Value::bulk("v"), Value::Nil, Value::Nil, Value::bulk("v")]);
    assert_eq!(c.map("EXPCACHE.FETCH a")["status"], "hit");
    for key in [[b"user:".as_slice(), &[b'x'; 508]].concat(), [b"user:".as_slice(), &vec![b'x'; 17 << 10]].concat()] {
        c.ok(args!["SET", &key[..], "v"]);
    }
    assert_eq!(c.map("EXPCACHE.RULE GET r")["errors"], 1, "of the longer one no rule is asked");
    check(&mut c);
}

/// As many rules as there may be, all of which look at all of the text, and whose selectors are as long as they may be.
#[test]
fn a_thousand_rules_that_all_match_come_to_what_each_says() {
    let server = Server::start();
    let mut c = server.conn();
    let names: String = (0..60).map(|n| format!("-{{n{n}}}")).collect();
    for on in ["KEY", "EVENT"] {
        let pattern = format!("*{names}");
        let set = |n: usize| {
            args![
                "EXPCACHE.RULE",
                "SET",
                format!("{on}{n}"),
                on,
                &pattern,
                "DO",
                "ANY",
                2,
                format!("{n}:{{n0}}"),
                "{n59}"
            ]
        };
        c.pipeline((0..500).map(set));
    }
    let text = format!("{}{}", "x".repeat(1000), (0..60).map(|n| format!("-{n}")).collect::<String>());
    let entries = |c: &mut Conn| {
        let set = |n: usize| args!["EXPCACHE.SET", format!("e{n}"), "v", "TAGS", 1, format!("{n}:0")];
        c.pipeline((0..600).map(set));
        c.ok("EXPCACHE.SET last v TAGS 1 59");
    };
    entries(&mut c);
    c.ok(args!["SET", &text, "v"]);
    assert_eq!(c.int("EXPCACHE.COUNT MATCH *"), 100);
    entries(&mut c);
    assert_eq!(c.int(args!["EXPCACHE.EVENT", &text]), 501);
    assert_eq!(c.int("EXPCACHE.COUNT MATCH *"), 100);
    let mut lines: Vec<i64> = Vec::new();
    for line in c.cmd("EXPCACHE.AUDIT AFTER -501 COUNT 1000").items() {
        lines.push(line.fields()["count"].int());
    }
    assert_eq!(
        (lines.len(), lines.iter().sum::<i64>()),
        (501, 501 + 501),
        "a line for each rule on keys, and one for the event"
    );
    check(&mut c);
}

/// However long a field is, and however often a rule names it.
#[test]
fn a_long_field_takes_no_memory() {
    let server = Server::start();
    let mut c = server.conn();
    let tag = "{x}".repeat(150);
    for (rule, clause) in [("tag", args!["ANY", 1, &tag]), ("match", args!["MATCH", &tag])] {
        c.ok([args!["EXPCACHE.RULE", "SET", rule, "EVENT", rule, "DO"], clause].concat());
        let long = "*".repeat(16 << 20);
        c.err(args!["EXPCACHE.EVENT", rule, "FIELD", "x", &long], "ERR the rule");
    }
    let peak: i64 = c.info("memory", "used_memory_peak").parse().unwrap();
    assert!(peak < 400 << 20, "{peak}");
}
