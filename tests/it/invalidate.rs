//! Invalidation by tag: gone at the reply, however many.

use crate::harness::{Conn, HOSTILE, Server, Value, args, check, refused, wait_until};

/// Stores `count` entries `k0`, `k1` … with the tag `all` and one of `even`, `odd`.
fn fill(c: &mut Conn, count: usize) {
    let parity = ["even", "odd"];
    let sets = (0..count).map(|n| format!("EXPCACHE.SET k{n} v TAGS 2 all {}", parity[n % 2]));
    let replies = c.pipeline(sets.collect::<Vec<_>>().iter());
    assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())));
}

#[track_caller]
fn assert_gone(c: &mut Conn, key: &str) {
    c.nil(&["EXPCACHE.GET", key]);
    assert_eq!(c.cmd(&["EXPCACHE.MGET", key]), Value::Array(vec![Value::Nil]));
    c.nil(&["EXPCACHE.META", key]);
    assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "miss");
    c.nil(&["EXPCACHE.SET", key, "v", "XX"]);
    assert_eq!(c.int(&["EXPCACHE.DEL", key]), 0);
}

#[test]
fn the_tagged_are_gone_the_others_stay() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET a v TAGS 2 company:1 user:1");
        c.ok("EXPCACHE.SET b v TAGS 1 company:2");
        c.ok("EXPCACHE.SET c v");
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG company:1"), 1);
        check(&mut c);
        assert_gone(&mut c, "a");
        assert_eq!(c.cmd("EXPCACHE.GET b"), "v");
        assert_eq!(c.cmd("EXPCACHE.GET c"), "v");
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG company:1 user:1"), 0);
    }
}

/// As many of them as there is time for, and one at least. In a transaction nothing else reclaims any.
#[test]
fn a_few_are_reclaimed_before_the_reply() {
    let server = Server::start();
    let mut c = server.conn();
    fill(&mut c, 256);
    let replies = c.transaction(["EXPCACHE.INVALIDATE.TAG all", "DBSIZE"]);
    assert_eq!(replies[0], 256);
    assert!((0..256).contains(&replies[1].int()), "{} are left", replies[1]);
    check(&mut c);
    wait_until("the others are reclaimed", || c.int("DBSIZE") == 0);
    for tag in ["one", "two", "three"] {
        c.ok(&format!("EXPCACHE.SET {tag} v TAGS 1 {tag}"));
    }
    let replies = c.transaction(["one", "two", "three"].map(|tag| format!("EXPCACHE.INVALIDATE.TAG {tag}")).iter());
    assert_eq!(replies, [1, 1, 1].map(Value::Int));
    assert_eq!(c.int("DBSIZE"), 0);
    check(&mut c);
}

/// What is one step is bounded; what many name once each, or one many times, is the same.
#[test]
fn so_many_tags_at_a_time() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TAGS 1 tag:4095");
    c.ok("EXPCACHE.SET l v TAGS 1 m");
    let named = |count: usize| {
        let tags = (0..count).map(|n| format!("tag:{n}"));
        std::iter::once("EXPCACHE.INVALIDATE.TAG".to_string()).chain(tags).collect::<Vec<_>>()
    };
    for most in [named(4097), [named(0), vec!["m".into(); 4097]].concat()] {
        let words: Vec<&str> = most.iter().map(String::as_str).collect();
        assert_eq!(refused(&mut c, &words[..], "ERR"), "ERR at most 4096 tags at a time");
    }
    let words = [named(0), vec!["m".into(); 4096]].concat();
    assert_eq!(c.int(&words.iter().map(String::as_str).collect::<Vec<_>>()[..]), 1);
    let words = named(4096);
    assert_eq!(c.int(&words.iter().map(String::as_str).collect::<Vec<_>>()[..]), 1);
    check(&mut c);
}

#[test]
fn how_many_are_reclaimed_before_the_reply_is_configured() {
    let server = Server::with(&["--expcache.reclaim-inline", "0"]);
    let mut c = server.conn();
    fill(&mut c, 10);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG even"), 5);
    assert_gone(&mut c, "k0");
    check(&mut c);
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == 5);
    check(&mut c);
}

#[test]
fn any_of_the_tags_and_each_entry_counts_once() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a v TAGS 2 x y");
    c.ok("EXPCACHE.SET b v TAGS 2 y z");
    c.ok("EXPCACHE.SET c v TAGS 1 z");
    c.ok("EXPCACHE.SET d v TAGS 1 w");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG x y nosuch y"), 2);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG x y z"), 1);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG x y z"), 0);
    assert_eq!(c.cmd("EXPCACHE.GET d"), "v");
    check(&mut c);
}

#[test]
fn the_alias_does_the_same() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a v TAGS 1 x");
    assert_eq!(c.int("EXPCACHE.INVTAG x"), 1);
    assert_eq!(c.int("EXPCACHE.INVTAG x y"), 0);
    assert_gone(&mut c, "a");
}

#[test]
fn tags_are_any_bytes() {
    let server = Server::start();
    let mut c = server.conn();
    let every_byte: Vec<u8> = (0..=255).collect();
    for tag in HOSTILE.into_iter().chain([&every_byte[..]]) {
        c.ok(args!["EXPCACHE.SET", tag, "v", "TAGS", 1, tag]);
    }
    for tag in HOSTILE.into_iter().chain([&every_byte[..]]) {
        assert_eq!(c.int(args!["EXPCACHE.INVALIDATE.TAG", tag]), 1);
        check(&mut c);
    }
    assert_eq!(c.int("DBSIZE"), 0);
}

#[test]
fn only_in_the_selected_database() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k zero TAGS 1 x");
    c.ok("SELECT 1");
    c.ok("EXPCACHE.SET k one TAGS 1 x");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG x"), 1);
    assert_gone(&mut c, "k");
    c.ok("SELECT 0");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "zero");
    check(&mut c);
}

#[test]
fn a_stale_entry_is_invalidated_too() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TAGS 1 x PXAT 1000 GRACE 365000d");
    assert_eq!(c.map("EXPCACHE.FETCH k")["status"], "stale");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG x"), 1);
    assert_gone(&mut c, "k");
    check(&mut c);
}

#[test]
fn twenty_thousand_at_once() {
    let server = Server::start();
    let mut c = server.conn();
    fill(&mut c, 20_000);
    c.ok("EXPCACHE.SET other v TAGS 1 else");
    c.ok("SET native v");
    check(&mut c);

    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG even"), 10_000);
    for n in (0..20_000).step_by(1000) {
        assert_gone(&mut c, &format!("k{n}"));
        assert_eq!(c.cmd(&format!("EXPCACHE.GET k{}", n + 1)), "v");
    }
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!(stats["entries"], 10_001);
    assert_eq!(stats["invalidated"], 10_000);
    check(&mut c);

    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG all even odd"), 10_000);
    assert_eq!(c.map("EXPCACHE.STATS")["entries"], 1);
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == 2);
    assert_eq!(c.int("EXISTS other native"), 2);
    assert_eq!(c.map("EXPCACHE.STATS")["tags"], 1);
    check(&mut c);
}

/// In one transaction nothing has been reclaimed yet: what is seen is the verdict alone.
#[test]
fn the_dead_are_gone_before_they_are_reclaimed() {
    let server = Server::start();
    let mut c = server.conn();
    fill(&mut c, 1000);
    c.ok("MULTI");
    for command in [
        "EXPCACHE.INVALIDATE.TAG all",
        "EXPCACHE.GET k1",
        "EXPCACHE.MGET k1 k2",
        "EXPCACHE.META k1",
        "EXPCACHE.DEL k1 k2",
        "EXPCACHE.SET k3 again XX",
        "EXPCACHE.SET k4 again NX TAGS 1 all",
        "EXPCACHE.SET k5 again IFMATCH 9e3669d19b675bd57058fd4664205d2a",
        "EXPCACHE.INVALIDATE.TAG all",
        "EXPCACHE.INVALIDATE.TAG all even odd",
        "EXPCACHE.SET k6 again KEEPTTL",
    ] {
        assert_eq!(c.cmd(command), Value::Simple("QUEUED".into()));
    }
    let replies = c.cmd("EXEC");
    let expected = vec![
        Value::Int(1000),
        Value::Nil,
        Value::Array(vec![Value::Nil, Value::Nil]),
        Value::Nil,
        Value::Int(0),
        Value::Nil,
        Value::Simple("OK".into()),
        Value::Nil,
        Value::Int(1),
        Value::Int(0),
        Value::Simple("OK".into()),
    ];
    assert_eq!(replies, Value::Array(expected));
    check(&mut c);
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == 1);
    assert_eq!(c.cmd("EXPCACHE.GET k6"), "again");
    check(&mut c);
}

#[test]
fn a_key_stored_again_lives_on() {
    let server = Server::start();
    let mut c = server.conn();
    fill(&mut c, 20_000);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG all"), 20_000);
    let sets = (0..20_000).step_by(100).map(|n| format!("EXPCACHE.SET k{n} again TAGS 1 all"));
    c.pipeline(sets.collect::<Vec<_>>().iter());
    wait_until("the keys are reclaimed", || c.int("DBSIZE") == 200);
    assert_eq!(c.cmd("EXPCACHE.GET k100"), "again");
    check(&mut c);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG all"), 200, "invalidated twice counts twice");
    wait_until("these are reclaimed", || c.int("DBSIZE") == 0);
    check(&mut c);
}

#[test]
fn nothing_to_invalidate_changes_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TAGS 1 x");
    let changes = c.info("persistence", "rdb_changes_since_last_save");
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG nosuch"), 0);
    assert_eq!(c.info("persistence", "rdb_changes_since_last_save"), changes);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
}
