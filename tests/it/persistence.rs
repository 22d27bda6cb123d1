//! What a restart brings back: entries, tags, metadata, expiry and policies, and nothing that was invalidated. Invariants 2
//! (the index is derived from the keys) and 5 (a counter dirties nothing).

use crate::harness::{Conn, Picture, Random, Server, Stop, Value, args, check, now_ms, wait_until};
use std::fs;

const SNAPSHOTS: &[&str] = &[];
const AOF: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "yes"];
const AOF_OF_COMMANDS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no"];

/// Keys of every type, entries with everything an entry can have, policies that were changed, made and deleted.
fn populate(c: &mut Conn) {
    let policies = [
        "trips TTL 5h GRACE 10m MAXTTL 6h JITTER 10 EARLY 80 SLIDING yes CODEC none THRESHOLD 2kb MAXVALUE 2mb \
         MAXENTRIES 1000 MAXBYTES 10mb FORMATS 2 csv json VALIDATE no",
        "default GRACE 1m",
        "made-by-hand TTL 0s",
        "drivers TTL 9h",
        "drivers MAXVALUE 0",
    ];
    for policy in policies {
        c.ok(&format!("EXPCACHE.TYPE SET {policy}"));
    }
    let past_but_graceful = now_ms() - 1000;
    for db in 0..3 {
        c.ok(args!["SELECT", db]);
        c.ok(args!["EXPCACHE.SET", format!("plain {db}"), "v"]);
        c.ok("EXPCACHE.SET of-hand v TYPE made-by-hand TAGS 1 t");
        c.ok("EXPCACHE.SET of-use v TYPE made-on-first-use TAGS 2 t u");
        c.ok("EXPCACHE.SET of-deleted v TYPE reports TAGS 1 t");
        c.ok("EXPCACHE.SET trips:1 v FORMAT csv RECORDS 12 COST 3400 TAGS 2 t u META {\"a\":[1,2]}");
        c.ok(args!["EXPCACHE.SET", "stale", "v", "PXAT", past_but_graceful, "GRACE", "5h", "TAGS", 1, "t"]);
        c.ok("EXPCACHE.SET persistent v TAGS 1 t");
        c.int("PERSIST persistent");
        c.ok(args!["EXPCACHE.SET", "empty", ""]);
        c.ok(args!["EXPCACHE.SET", "long", Random::new(7).bytes(1).repeat(1 << 20), "TAGS", 1, "t"]);
        let odd: Vec<u8> = (0..=255).collect();
        c.ok(args!["EXPCACHE.SET", &odd, &odd, "TYPE", &odd, "TAGS", 2, &odd, "t"]);
        let tags: Vec<Vec<u8>> = (0..64).map(|n| vec![n; 512]).collect();
        c.ok([args!["EXPCACHE.SET", "many tags", "v", "TAGS", 64], tags].concat());
        c.int("SADD set a b");
        c.int("HSET hash f v");
        c.ok("SET text v EX 10000");
    }
    c.ok("SELECT 0");
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL reports"), 1);
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL gps_tracks"), 1);
}

/// Asserts that the tags are there too, by what an invalidation finds.
fn tags_work(c: &mut Conn) {
    c.ok("SELECT 2");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG u"), 2);
    assert_eq!(c.cmd(args!["EXPCACHE.INVALIDATE.TAG", vec![63u8; 512]]), 1);
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 6);
    c.ok("SELECT 0");
    check(c);
}

/// Tells the story of a server that goes down and comes up again in some way.
fn comes_back(settings: &[&str], between: impl Fn(&mut Conn), again: impl Fn(&mut Server)) {
    let mut server = Server::with(settings);
    let mut c = server.conn();
    populate(&mut c);
    between(&mut c);
    let before = Picture::of(&mut c);
    drop(c);
    again(&mut server);
    let mut c = server.conn();
    Picture::of(&mut c).assert_same(&before);
    tags_work(&mut c);
    // What it writes now must be as good as what it wrote at first.
    let before = Picture::of(&mut c);
    again(&mut server);
    Picture::of(&mut server.conn()).assert_same(&before);
}

fn nothing(_: &mut Conn) {}

fn rewrite(c: &mut Conn) {
    c.cmd("BGREWRITEAOF");
    wait_until("the append-only file is rewritten", || {
        c.info("persistence", "aof_rewrite_in_progress") == "0" && c.info("persistence", "aof_rewrite_scheduled") == "0"
    });
    assert_eq!(c.info("persistence", "aof_last_bgrewrite_status"), "ok");
}

fn rewrite_and_go_on(c: &mut Conn) {
    rewrite(c);
    c.ok("EXPCACHE.SET after v TAGS 1 after");
    c.ok("EXPCACHE.TYPE SET after TTL 7h");
    c.ok("RENAME persistent renamed");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG u"), 2);
    c.ok("EXPCACHE.SET trips:1 again TAGS 2 t u");
    c.ok("EXPCACHE.SET of-use again TYPE made-on-first-use TAGS 2 t u");
}

#[test]
fn from_a_snapshot() {
    comes_back(SNAPSHOTS, nothing, |server| server.restart(Stop::Save));
}

#[test]
fn from_a_snapshot_of_a_fork() {
    comes_back(SNAPSHOTS, nothing, |server| {
        let mut c = server.conn();
        c.cmd("BGSAVE");
        wait_until("the snapshot is written", || c.info("persistence", "rdb_bgsave_in_progress") == "0");
        assert_eq!(c.info("persistence", "rdb_last_bgsave_status"), "ok");
        server.restart(Stop::Kill);
    });
}

#[test]
fn from_an_append_only_file() {
    comes_back(AOF, nothing, |server| server.restart(Stop::Kill));
    comes_back(AOF, rewrite_and_go_on, |server| server.restart(Stop::Kill));
}

#[test]
fn from_an_append_only_file_of_commands() {
    comes_back(AOF_OF_COMMANDS, nothing, |server| server.restart(Stop::Kill));
    comes_back(AOF_OF_COMMANDS, rewrite_and_go_on, |server| server.restart(Stop::Kill));
}

#[test]
fn within_a_running_server() {
    comes_back(SNAPSHOTS, nothing, |server| server.conn().ok("DEBUG RELOAD"));
    comes_back(AOF, rewrite_and_go_on, |server| server.conn().ok("DEBUG LOADAOF"));
    comes_back(AOF_OF_COMMANDS, rewrite_and_go_on, |server| server.conn().ok("DEBUG LOADAOF"));
}

#[test]
fn from_an_append_only_file_that_is_turned_on_while_entries_are_stored() {
    let mut server = Server::with(&["--appendfsync", "always"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET jittery TTL 10h JITTER 50 SLIDING yes");
    // At once: the file begins between two of these commands, and from then on it must have the resolved ones.
    let set = |n: usize| args!["EXPCACHE.SET", format!("jittery:{n}"), "v", "TAGS", 2, "t", n % 7];
    let before = (0..1000).map(set);
    let after = (500..2000).flat_map(|n| [set(n), args!["EXPCACHE.GET", format!("jittery:{}", n / 2)]]);
    c.pipeline(before.chain([args!["CONFIG", "SET", "appendonly", "yes"]]).chain(after));
    c.ok("CONFIG REWRITE");
    wait_until("the append-only file is written", || {
        c.info("persistence", "aof_rewrite_in_progress") == "0" && c.info("persistence", "aof_rewrite_scheduled") == "0"
    });
    let before = Picture::of(&mut c);
    server.restart(Stop::Kill);
    Picture::of(&mut server.conn()).assert_same(&before);
}

/// The ways in which all of a server's memory is lost, with what is to be done before.
const WAYS: [(&str, &[&str], Option<&str>, Stop); 5] = [
    ("a snapshot", SNAPSHOTS, None, Stop::Save),
    ("an append-only file", AOF, None, Stop::Kill),
    ("a rewritten append-only file", AOF, Some("BGREWRITEAOF"), Stop::Kill),
    ("an append-only file of commands", AOF_OF_COMMANDS, None, Stop::Kill),
    ("a rewritten append-only file of commands", AOF_OF_COMMANDS, Some("BGREWRITEAOF"), Stop::Kill),
];

#[test]
fn policies_without_any_entry() {
    for (way, settings, before_that, stop) in WAYS {
        let mut server = Server::with(settings);
        let mut c = server.conn();
        c.ok("EXPCACHE.TYPE SET trips TTL 5m SLIDING yes");
        c.ok("EXPCACHE.TYPE SET made-by-hand MAXBYTES 1mb FORMATS 1 csv");
        assert_eq!(c.cmd("EXPCACHE.TYPE DEL reports"), 1);
        let before = Picture::of(&mut c);
        if before_that.is_some() {
            rewrite(&mut c);
        }
        server.restart(stop);
        println!("{way}");
        Picture::of(&mut server.conn()).assert_same(&before);
        // Policies are not keys: nobody's FLUSHALL takes them away.
        server.conn().ok("FLUSHALL");
        Picture::of(&mut server.conn()).assert_same(&before);
    }
}

// ---- what was invalidated stays gone

const MEMBERS: usize = 20_000;

/// Stores a crowd and another one. What is invalidated of them will take its time to be reclaimed.
fn crowd(c: &mut Conn) {
    c.ok("CONFIG SET expcache.reclaim-slice-us 1");
    c.pipeline((0..MEMBERS).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 2, "crowd", n % 7]));
    c.ok("EXPCACHE.SET other v TAGS 1 3");
}

/// Sends everything at once, so that nothing is reclaimed between the commands.
fn at_once(c: &mut Conn, commands: &[&str]) -> Vec<Value> {
    c.pipeline(commands.iter().copied())
}

#[track_caller]
fn only_the_others_are_there(c: &mut Conn, others: &[&str]) {
    check(c);
    assert_eq!(c.map("EXPCACHE.STATS")["entries"], others.len() as i64);
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG crowd"), 0);
    for n in [0, 1, MEMBERS / 2, MEMBERS - 2, MEMBERS - 1] {
        let key = format!("k:{n}");
        let expected = others.contains(&key.as_str()).then_some("v");
        assert_eq!(c.cmd(&["EXPCACHE.GET", &key]), expected.map_or(Value::Nil, Value::bulk));
    }
    c.ok("CONFIG SET expcache.reclaim-slice-us 500");
    wait_until("the backlog is reclaimed", || c.cmd("DBSIZE") == others.len() as i64);
    check(c);
}

#[test]
fn a_snapshot_brings_nothing_invalidated_back() {
    let mut server = Server::start();
    let mut c = server.conn();
    crowd(&mut c);
    let overwrite = "EXPCACHE.SET k:1 v TAGS 1 another";
    let replies = at_once(&mut c, &["EXPCACHE.INVALIDATE.TAG crowd", overwrite, "SAVE", "DBSIZE"]);
    assert_eq!(replies[0], MEMBERS as i64);
    assert_eq!(replies[3], 1 + MEMBERS as i64, "they are in the snapshot");
    server.restart(Stop::Kill);
    only_the_others_are_there(&mut server.conn(), &["other", "k:1"]);
}

#[test]
fn a_reload_brings_nothing_invalidated_back() {
    let server = Server::start();
    let mut c = server.conn();
    crowd(&mut c);
    let replies = at_once(&mut c, &["EXPCACHE.INVALIDATE.TAG crowd", "DEBUG RELOAD", "DBSIZE"]);
    assert_eq!(replies[2], 1 + MEMBERS as i64, "they are in the snapshot");
    only_the_others_are_there(&mut c, &["other"]);
}

#[test]
fn an_append_only_file_brings_nothing_invalidated_back() {
    for settings in [AOF, AOF_OF_COMMANDS] {
        let mut server = Server::with(settings);
        let mut c = server.conn();
        crowd(&mut c);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG crowd"), MEMBERS as i64);
        server.restart(Stop::Kill);
        only_the_others_are_there(&mut server.conn(), &["other"]);
    }
}

#[test]
fn a_rewritten_append_only_file_brings_nothing_invalidated_back() {
    for settings in [AOF, AOF_OF_COMMANDS] {
        let mut server = Server::with(settings);
        let mut c = server.conn();
        crowd(&mut c);
        let overwrite = "EXPCACHE.SET k:1 v TAGS 1 another";
        let replies = at_once(&mut c, &["EXPCACHE.INVALIDATE.TAG crowd", "BGREWRITEAOF", overwrite, "DBSIZE"]);
        assert_eq!(replies[3], 1 + MEMBERS as i64, "they are there when the file is rewritten");
        wait_until("the append-only file is rewritten", || c.info("persistence", "aof_rewrite_in_progress") == "0");
        assert_eq!(c.info("persistence", "aof_last_bgrewrite_status"), "ok");
        server.restart(Stop::Kill);
        only_the_others_are_there(&mut server.conn(), &["other", "k:1"]);
    }
}

// ---- what was made stale stays stale

const GRACE_MS: i64 = 60 * 60 * 1000;

/// As [`crowd`], with a grace of an hour that begins in a day; and some without a grace of their own, whose type has one.
fn graceful_crowd(c: &mut Conn) {
    c.ok("CONFIG SET expcache.reclaim-slice-us 1");
    let set = |n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "EX", 86_400, "GRACE", "1h", "TAGS", 1, "crowd"];
    c.pipeline((0..MEMBERS).map(set));
    c.pipeline((0..1_000).map(|n| args!["EXPCACHE.SET", format!("later:{n}"), "v", "EX", 86_400, "TYPE", "later"]));
    c.ok("EXPCACHE.TYPE SET later GRACE 1h");
    c.ok("EXPCACHE.SET other v EX 86400 GRACE 1h");
    c.ok("EXPCACHE.SET over v EX 86400 GRACE 1h");
}

const SOFTEN: [&str; 5] = [
    "EXPCACHE.PURGE ANY 1 crowd SOFT",
    "EXPCACHE.PURGE TYPE later SOFT",
    "EXPCACHE.PURGE MATCH over SOFT",
    "EXPCACHE.SET over w EX 86400 GRACE 1h",
    "PTTL k:19999",
];

#[track_caller]
fn all_of_the_crowd_is_stale(c: &mut Conn) {
    check(c);
    let looks = [0, 1, MEMBERS / 2, MEMBERS - 1].map(|n| format!("k:{n}"));
    for key in looks.iter().map(String::as_str).chain(["later:0", "later:999"]) {
        assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "stale", "{key}");
        c.nil(&["EXPCACHE.GET", key]);
    }
    assert_eq!(c.cmd("EXPCACHE.MGET other over").items(), [Value::bulk("v"), Value::bulk("w")]);
    assert_eq!(c.cmd("EXPCACHE.PURGE MATCH * SOFT DRYRUN"), 2, "fresh ones");
    c.ok("CONFIG SET expcache.reclaim-slice-us 500");
    wait_until("the keys expire with their grace", || {
        let keys = (0..MEMBERS).map(|n| format!("k:{n}")).chain((0..1_000).map(|n| format!("later:{n}")));
        c.pipeline(keys.map(|key| args!["PTTL", key])).iter().all(|left| (1..=GRACE_MS).contains(&left.int()))
    });
    for key in looks.iter().map(String::as_str).chain(["later:0", "later:999"]) {
        assert_eq!(c.map(&["EXPCACHE.META", key])["state"], "stale", "{key}");
    }
    assert_eq!(c.cmd("EXPCACHE.MGET other over").items(), [Value::bulk("v"), Value::bulk("w")]);
    assert_eq!(c.cmd("EXPCACHE.COUNT TYPE default"), MEMBERS as i64 + 2);
    check(c);
}

/// Makes the crowd stale and does something else before the keys expire with that.
fn while_stale(settings: &[&str], and: &[&str], again: impl Fn(&mut Server)) {
    let mut server = Server::with(settings);
    let mut c = server.conn();
    graceful_crowd(&mut c);
    let replies = at_once(&mut c, &[&SOFTEN, and].concat());
    assert_eq!(replies[..2], [MEMBERS as i64, 1_000].map(Value::Int));
    assert!(replies[4].int() > GRACE_MS, "most wait to be dealt with");
    drop(c);
    again(&mut server);
    all_of_the_crowd_is_stale(&mut server.conn());
}

#[test]
fn a_snapshot_makes_nothing_fresh() {
    while_stale(SNAPSHOTS, &["SAVE"], |server| server.restart(Stop::Kill));
    while_stale(SNAPSHOTS, &["DEBUG RELOAD"], |_| {});
}

#[test]
fn an_append_only_file_makes_nothing_fresh() {
    for settings in [AOF, AOF_OF_COMMANDS] {
        while_stale(settings, &[], |server| server.restart(Stop::Kill));
        while_stale(settings, &[], |server| server.conn().ok("DEBUG LOADAOF"));
        while_stale(settings, &["BGREWRITEAOF"], |server| {
            let mut c = server.conn();
            wait_until("the append-only file is rewritten", || {
                c.info("persistence", "aof_rewrite_in_progress") == "0"
                    && c.info("persistence", "aof_rewrite_scheduled") == "0"
            });
            assert_eq!(c.info("persistence", "aof_last_bgrewrite_status"), "ok");
            server.restart(Stop::Kill);
        });
    }
}

/// A later restart must not begin the grace anew.
#[test]
fn the_grace_begins_once() {
    for settings in [AOF, AOF_OF_COMMANDS] {
        let mut server = Server::with(&[settings, &["--expcache.reclaim-inline", "0"]].concat());
        let mut c = server.conn();
        c.ok("EXPCACHE.SET k v EX 86400 GRACE 1h");
        c.ok("EXPCACHE.TYPE SET later GRACE 1h");
        c.ok("EXPCACHE.SET later v EX 86400 TYPE later GRACE 0");
        assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 2);
        let expiries = |c: &mut Conn| {
            wait_until("the keys expire with their grace", || {
                c.int("PTTL k") <= GRACE_MS && c.int("PTTL later") <= GRACE_MS
            });
            (c.int("PEXPIRETIME k"), c.int("PEXPIRETIME later"))
        };
        let before = expiries(&mut c);
        for _ in 0..2 {
            server.restart(Stop::Kill);
            assert_eq!(expiries(&mut server.conn()), before);
        }
    }
}

/// Before the keys expire with their grace, and when all is long done: the file is read from its beginning.
#[test]
fn what_was_softened_is_stale_until_when_somebody_said() {
    for settings in [AOF, AOF_OF_COMMANDS] {
        for (inline, rewritten) in [("256", false), ("0", false), ("0", true)] {
            let mut server = Server::with(&[settings, &["--expcache.reclaim-inline", inline]].concat());
            let mut c = server.conn();
            c.ok("EXPCACHE.TYPE SET later GRACE 0s");
            c.ok("EXPCACHE.MSET 5 at-once v persisted v late v late-persisted v stale v EX 86400 GRACE 1h");
            c.ok("EXPCACHE.SET of-type v EX 86400 TYPE later");
            c.ok("EXPCACHE.TYPE SET later GRACE 1h");
            let soften =
                ["MULTI", "EXPCACHE.CLEAR SOFT", "EXPIRE at-once 9000", "PERSIST persisted", "EXPIRE of-type 9000"];
            let rewrite_or_not = if rewritten { "BGREWRITEAOF" } else { "PING" };
            at_once(&mut c, &[&soften[..], &["EXEC", rewrite_or_not]].concat());
            wait_until("the append-only file is rewritten", || c.info("persistence", "aof_rewrite_in_progress") == "0");
            wait_until("the others expire with their grace", || {
                ["late", "late-persisted", "stale"].iter().all(|key| c.int(&["PTTL", key]) <= GRACE_MS)
            });
            assert_eq!(c.cmd("EXPIRE late 9000"), 1);
            assert_eq!(c.cmd("PERSIST late-persisted"), 1);
            let of_each = |c: &mut Conn| {
                ["at-once", "persisted", "late", "late-persisted", "stale", "of-type"].map(|key| {
                    let meta = c.map(&["EXPCACHE.META", key]);
                    (meta["state"].text(), meta["grace"].int(), c.int(&["PEXPIRETIME", key]))
                })
            };
            let before = of_each(&mut c);
            let states = before.each_ref().map(|(state, ..)| state.as_str());
            assert_eq!(states, ["stale"; 6]);
            for _ in 0..2 {
                server.restart(Stop::Kill);
                let mut c = server.conn();
                assert_eq!(of_each(&mut c), before);
                check(&mut c);
            }
        }
    }
}

// ---- what is written, and what is not

#[test]
fn reads_and_counters_dirty_nothing() {
    let server = Server::with(AOF);
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET k v TAGS 1 t");
        c.ok("EXPCACHE.SET stale v PX 1 GRACE 1h");
        wait_until("the entry is stale", || c.map("EXPCACHE.META stale")["state"] == "stale");
        let written = |c: &mut Conn| {
            (c.info("persistence", "rdb_changes_since_last_save"), c.info("persistence", "aof_current_size"))
        };
        let before = written(&mut c);
        for command in [
            "EXPCACHE.GET k",
            "EXPCACHE.GET none",
            "EXPCACHE.GET stale",
            "EXPCACHE.MGET k none stale",
            "EXPCACHE.FETCH k",
            "EXPCACHE.FETCH none",
            "EXPCACHE.FETCH stale",
            "EXPCACHE.META k",
            "EXPCACHE.DEL none",
            "EXPCACHE.INVALIDATE.TAG none",
            "EXPCACHE.PURGE ANY 1 none",
            "EXPCACHE.PURGE MATCH * DRYRUN KEYS 5",
            "EXPCACHE.PURGE MATCH stale SOFT",
            "EXPCACHE.COUNT TYPE default MATCH *",
            "EXPCACHE.SCAN 0",
            "EXPCACHE.TAGS 0",
            "EXPCACHE.SET k other NX",
            "EXPCACHE.SET none v XX",
            "EXPCACHE.STATS",
            "EXPCACHE.STATS TYPE default",
            "EXPCACHE.STATS RESET",
            "EXPCACHE.TYPE LIST",
            "EXPCACHE.TYPE GET trips",
            "EXPCACHE.TYPE DEL none",
            "EXPCACHE.KEYFOR trips COMPANY 1",
            "EXPCACHE.DEBUG CHECK",
        ] {
            c.cmd(command);
            assert_eq!(written(&mut c), before, "{command}");
        }
    }
}

#[test]
fn without_entries_and_with_the_first_policies_any_server_loads_the_snapshot() {
    let mut server = Server::start();
    let mut c = server.conn();
    // Redis 7.0 knows no way for a module to write nothing.
    if c.info("server", "redis_version").starts_with("7.0.") {
        return;
    }
    c.ok("SET text v");
    c.ok("EXPCACHE.SET k v TAGS 1 t");
    assert_eq!(c.cmd("EXPCACHE.DEL k"), 1);
    let config = server.dir().join("redis.conf");
    let text = fs::read_to_string(&config).unwrap_or_default();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("loadmodule")).collect();
    assert!(without.len() < text.lines().count());
    assert!(fs::write(&config, without.join("\n")).is_ok());
    server.restart(Stop::Save);
    let mut c = server.conn();
    c.err("EXPCACHE.GET k", "ERR unknown command");
    assert_eq!(c.cmd("GET text"), "v");
}
