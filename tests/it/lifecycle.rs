//! Entries are keys: what native commands do to keys they do to entries, and the tags follow. Invariant 1 of the index: an
//! entry is in it exactly when its key is in the keyspace, so `EXPCACHE.DEBUG CHECK` runs after every command here.
//!
//! Every story is told twice: to a server that frees at once, and to one that frees in the background wherever it can.

use crate::harness::{Command, Conn, Server, Value, args, check, in_both_modes, meta, now_ms};

/// Sends a command and checks the index behind it.
#[track_caller]
fn did(c: &mut Conn, command: impl Command) -> Value {
    let reply = c.cmd(command);
    check(c);
    reply
}

fn ok() -> Value {
    Value::Simple("OK".into())
}

/// Stores an entry with the tags `all` and `tag`.
#[track_caller]
fn store(c: &mut Conn, key: &str, tag: &str) {
    let payload = format!("stored as {key}");
    c.ok(args!["EXPCACHE.SET", key, payload, "TYPE", "trips", "TAGS", 2, "all", tag, "COST", 7, "META", "{}"]);
    check(c);
}

/// An entry that is worth being freed in the background.
fn store_heavy(c: &mut Conn, key: &str) {
    let mut words = args!["EXPCACHE.SET", key, "x".repeat(1 << 20), "TAGS", 64, "all"];
    words.extend((1..64).map(|n| format!("heavy:{n}").into_bytes()));
    c.ok(words);
}

/// Asserts that `key` holds the entry that was stored as `origin` with this tag.
#[track_caller]
fn holds(c: &mut Conn, key: &str, origin: &str, tag: &str) {
    let meta = c.map(&["EXPCACHE.META", key]);
    assert_eq!(meta["tags"].sorted_texts(), ["all", tag]);
    assert_eq!((&meta["type"], &meta["cost"]), (&Value::bulk("trips"), &Value::Int(7)));
    assert_eq!(c.text(&["EXPCACHE.GET", key]), format!("stored as {origin}"));
    assert_eq!(c.cmd(&["TYPE", key]), Value::Simple("exp-cache".into()));
}

/// Invalidates the tag and returns how many entries had it.
#[track_caller]
fn invalidated(c: &mut Conn, tag: &str) -> i64 {
    did(c, &["EXPCACHE.INVALIDATE.TAG", tag]).int()
}

/// What `EXPCACHE.STATS` says of entries and tags over all databases.
fn entries_and_tags(c: &mut Conn) -> (i64, i64) {
    let stats = c.map("EXPCACHE.STATS");
    (stats["entries"].int(), stats["tags"].int())
}

// ---- under another name

#[test]
fn rename() {
    in_both_modes(|c| {
        store(c, "a", "x");
        assert_eq!(did(c, "RENAME a b"), ok());
        c.nil("EXPCACHE.GET a");
        holds(c, "b", "a", "x");
        assert_eq!(did(c, "RENAME b b"), ok());
        holds(c, "b", "a", "x");
        assert_eq!(invalidated(c, "x"), 1);
        c.nil("EXPCACHE.META b");
        c.err("RENAME b c", "ERR no such key");
    });
}

#[test]
fn rename_over_a_key() {
    in_both_modes(|c| {
        store(c, "a", "x");
        store(c, "b", "y");
        assert_eq!(did(c, "RENAME a b"), ok());
        holds(c, "b", "a", "x");
        assert_eq!(invalidated(c, "y"), 0);

        c.ok("SET s text");
        assert_eq!(did(c, "RENAME b s"), ok());
        holds(c, "s", "a", "x");

        c.ok("SET t text");
        assert_eq!(did(c, "RENAME t s"), ok());
        c.err("EXPCACHE.GET s", "WRONGTYPE");
        assert_eq!(invalidated(c, "all"), 0);

        store_heavy(c, "heavy");
        assert_eq!(did(c, "RENAME s heavy"), ok());
        assert_eq!(entries_and_tags(c), (0, 0));
    });
}

#[test]
fn renamenx() {
    in_both_modes(|c| {
        store(c, "a", "x");
        store(c, "b", "y");
        assert_eq!(did(c, "RENAMENX a b"), 0);
        assert_eq!(did(c, "RENAMENX a a"), 0);
        holds(c, "a", "a", "x");
        holds(c, "b", "b", "y");
        assert_eq!(did(c, "RENAMENX a c"), 1);
        holds(c, "c", "a", "x");
        assert_eq!(invalidated(c, "all"), 2);
    });
}

#[test]
fn copy() {
    in_both_modes(|c| {
        store(c, "a", "x");
        assert_eq!(did(c, "COPY a b"), 1);
        holds(c, "b", "a", "x");
        assert_eq!(c.cmd("PEXPIRETIME a"), c.cmd("PEXPIRETIME b"));
        assert_eq!(meta(c, b"a"), meta(c, b"b"));

        store(c, "a", "y");
        assert_eq!(did(c, "COPY a b"), 0);
        holds(c, "b", "a", "x");
        assert_eq!(did(c, "COPY a b REPLACE"), 1);
        holds(c, "b", "a", "y");
        assert_eq!(invalidated(c, "x"), 0);

        c.ok("SET s text");
        assert_eq!(did(c, "COPY a s REPLACE"), 1);
        holds(c, "s", "a", "y");
        c.ok("SET t text");
        assert_eq!(did(c, "COPY t s REPLACE"), 1);
        assert_eq!(invalidated(c, "y"), 2);
    });
}

#[test]
fn copy_to_another_database() {
    in_both_modes(|c| {
        store(c, "a", "x");
        // SELECT: Valkey 8.1.0 to 9.1.0 leaves the client in the destination's database.
        assert_eq!(did(c, "COPY a a DB 1"), 1);
        c.ok("SELECT 0");
        assert_eq!(did(c, "COPY a a DB 1"), 0);
        c.ok("SELECT 0");
        assert_eq!(did(c, "COPY a a DB 1 REPLACE"), 1);
        c.ok("SELECT 0");
        assert_eq!(invalidated(c, "x"), 1);
        c.nil("EXPCACHE.GET a");
        c.ok("SELECT 1");
        holds(c, "a", "a", "x");
        assert_eq!(invalidated(c, "x"), 1);
    });
}

#[test]
fn r#move() {
    in_both_modes(|c| {
        store(c, "a", "x");
        let expiry = c.cmd("PEXPIRETIME a");
        assert_eq!(did(c, "MOVE a 1"), 1);
        c.ok("SELECT 0");
        c.nil("EXPCACHE.GET a");
        store(c, "a", "y");
        assert_eq!(did(c, "MOVE a 1"), 0);
        c.ok("SELECT 0");
        holds(c, "a", "a", "y");
        assert_eq!(invalidated(c, "x"), 0);
        c.ok("SELECT 1");
        holds(c, "a", "a", "x");
        assert_eq!(c.cmd("PEXPIRETIME a"), expiry);
        assert_eq!(invalidated(c, "x"), 1);
    });
}

// ---- out and in again

#[test]
fn dump_and_restore() {
    in_both_modes(|c| {
        store(c, "a", "x");
        let dump = c.bulk("DUMP a");
        assert_eq!(did(c, args!["RESTORE", "b", 0, &dump]), ok());
        holds(c, "b", "a", "x");
        assert_eq!(c.cmd("TTL b"), -1);
        assert_eq!(c.map("EXPCACHE.META b")["ttl"], Value::Nil);
        assert_eq!(invalidated(c, "x"), 2);

        assert_eq!(did(c, args!["RESTORE", "c", 5_000_000, &dump]), ok());
        assert!((4_900_000..=5_000_000).contains(&c.int("PTTL c")));
        let moment = now_ms() + 9_000_000;
        assert_eq!(did(c, args!["RESTORE", "d", moment, &dump, "ABSTTL"]), ok());
        assert_eq!(c.cmd("PEXPIRETIME d"), moment);
        assert_eq!(did(c, args!["RESTORE", "e", 0, &dump, "IDLETIME", 1000]), ok());
        assert!(c.int("OBJECT IDLETIME e") >= 1000);
        assert_eq!(did(c, args!["RESTORE", "f", 0, &dump, "FREQ", 9]), ok());
        assert_eq!(invalidated(c, "x"), 4);
    });
}

#[test]
fn restore_over_a_key() {
    in_both_modes(|c| {
        store(c, "a", "x");
        let dump = c.bulk("DUMP a");
        store(c, "b", "y");
        c.err(args!["RESTORE", "b", 0, &dump], "BUSYKEY");
        holds(c, "b", "b", "y");
        assert_eq!(did(c, args!["RESTORE", "b", 0, &dump, "REPLACE"]), ok());
        holds(c, "b", "a", "x");
        assert_eq!(invalidated(c, "y"), 0);
        assert_eq!(did(c, args!["RESTORE", "a", 0, &dump, "REPLACE"]), ok());
        c.ok("SET s text");
        let text = c.bulk("DUMP s");
        assert_eq!(did(c, args!["RESTORE", "s", 0, &dump, "REPLACE"]), ok());
        assert_eq!(did(c, args!["RESTORE", "b", 0, &text, "REPLACE"]), ok());
        c.err("EXPCACHE.GET b", "WRONGTYPE");
        assert_eq!(invalidated(c, "x"), 2);
    });
}

#[test]
fn restore_of_what_is_over_removes() {
    in_both_modes(|c| {
        store(c, "a", "x");
        let dump = c.bulk("DUMP a");
        let past = now_ms() - 60_000;
        assert_eq!(did(c, args!["RESTORE", "b", past, &dump, "ABSTTL"]), ok());
        assert_eq!(did(c, args!["RESTORE", "a", past, &dump, "ABSTTL", "REPLACE"]), ok());
        assert_eq!(c.cmd("DBSIZE"), 0);
        assert_eq!(entries_and_tags(c), (0, 0));
    });
}

#[test]
fn a_broken_payload_is_refused() {
    in_both_modes(|c| {
        store(c, "a", "x");
        let mut dump = c.bulk("DUMP a");
        dump[12] ^= 1;
        c.err(args!["RESTORE", "a", 0, &dump, "REPLACE"], "ERR DUMP payload");
        holds(c, "a", "a", "x");
        check(c);
    });
}

#[test]
fn migrate_takes_entries_to_another_server() {
    let other = Server::start();
    let mut there = other.conn();
    in_both_modes(|c| {
        there.ok("FLUSHALL");
        for key in ["a", "b", "c", "d"] {
            store(c, key, "x");
        }
        let (was, expiry) = (meta(c, b"a"), c.cmd("PEXPIRETIME a").int());
        let to = ["MIGRATE", "127.0.0.1", &other.port().to_string()].join(" ");
        assert_eq!(did(c, &format!("{to} a 0 5000")), ok());
        assert_eq!(meta(&mut there, b"a"), was);
        assert!((there.int("PEXPIRETIME a") - expiry).abs() < 2000);
        store(&mut there, "b", "y");
        c.err(&format!("{to} b 0 5000"), "ERR Target instance replied with error: BUSYKEY");
        assert_eq!(did(c, &format!("{to} b 0 5000 COPY REPLACE")), ok());
        let several = args!["MIGRATE", "127.0.0.1", other.port(), "", 1, 5000, "KEYS", "c", "d", "none"];
        assert_eq!(did(c, several), ok());

        check(&mut there);
        assert_eq!(invalidated(c, "x"), 1);
        assert_eq!(invalidated(&mut there, "y"), 0);
        assert_eq!(invalidated(&mut there, "x"), 2);
        there.ok("SELECT 1");
        holds(&mut there, "c", "c", "x");
        assert_eq!(invalidated(&mut there, "x"), 2);
        there.ok("SELECT 0");
    });
}

// ---- whole databases

#[test]
fn swapdb() {
    in_both_modes(|c| {
        store(c, "a", "x");
        store(c, "b", "x");
        c.ok("SELECT 1");
        store(c, "a", "y");
        assert_eq!(did(c, "SWAPDB 0 1"), ok());
        holds(c, "b", "b", "x");
        assert_eq!(invalidated(c, "y"), 0);
        assert_eq!(invalidated(c, "x"), 2);
        store(c, "new", "z");
        assert_eq!(did(c, "SWAPDB 1 2"), ok());
        assert_eq!(did(c, "SWAPDB 2 2"), ok());
        assert_eq!(invalidated(c, "all"), 0);
        c.ok("SELECT 0");
        assert_eq!(invalidated(c, "all"), 1);
        c.ok("SELECT 2");
        holds(c, "new", "new", "z");
        assert_eq!(invalidated(c, "all"), 1);
    });
}

#[test]
fn flush() {
    in_both_modes(|c| {
        for how in ["SYNC", "ASYNC"] {
            for db in 0..3 {
                c.ok(args!["SELECT", db]);
                store(c, "a", "x");
                store_heavy(c, "heavy");
            }
            c.ok("SELECT 1");
            assert_eq!(did(c, &["FLUSHDB", how]), ok());
            assert_eq!(invalidated(c, "all"), 0);
            assert_eq!(entries_and_tags(c), (4, 2 * 65));
            store(c, "again", "x");
            assert_eq!(invalidated(c, "all"), 1);
            store(c, "again", "x");
            assert_eq!(did(c, &["FLUSHALL", how]), ok());
            assert_eq!(entries_and_tags(c), (0, 0));
            c.ok("SELECT 0");
            store(c, "again", "x");
            assert_eq!(invalidated(c, "all"), 1);
        }
    });
}

// ---- overwritten and removed

#[test]
fn what_another_command_stores_over_an_entry_takes_its_place() {
    in_both_modes(|c| {
        c.int("SADD set 1 2");
        c.int("RPUSH list 3 1 2");
        c.int("ZADD zset 1 a");
        let commands = [
            "SET k text",
            "SET k text XX KEEPTTL",
            "SETEX k 100 text",
            "MSET k text",
            "SUNIONSTORE k set",
            "SDIFFSTORE k none",
            "ZUNIONSTORE k 1 zset",
            "SORT list STORE k",
            "BITOP NOT k none",
            "ZRANGESTORE k zset 0 -1",
        ];
        for command in commands {
            store_heavy(c, "k");
            did(c, command);
            assert_eq!(entries_and_tags(c), (0, 0), "{command}");
            c.int("DEL k");
        }
        store(c, "k", "x");
        c.ok("SET k text KEEPTTL");
        assert!(c.int("TTL k") > 3000, "the entry's expiry is kept");
        c.err("EXPCACHE.SET k v", "WRONGTYPE");
    });
}

#[test]
fn commands_for_other_types_are_refused() {
    in_both_modes(|c| {
        store(c, "k", "x");
        let before = (meta(c, b"k"), c.cmd("PEXPIRETIME k"));
        for command in [
            "GET k",
            "SET k v GET",
            "GETDEL k",
            "GETEX k PERSIST",
            "APPEND k v",
            "INCR k",
            "SETRANGE k 0 v",
            "STRLEN k",
            "LPUSH k v",
            "HSET k f v",
            "SADD k v",
            "ZADD k 1 v",
            "XADD k * f v",
            "PFADD k v",
            "SETBIT k 0 1",
            "SUNIONSTORE k k",
            "SORT k",
        ] {
            c.err(command, "WRONGTYPE");
            check(c);
        }
        c.nil("SET k v NX");
        assert_eq!(did(c, "MSETNX k v other v"), 0);
        assert_eq!((meta(c, b"k"), c.cmd("PEXPIRETIME k")), before);
    });
}

#[test]
fn del_and_unlink() {
    in_both_modes(|c| {
        for command in ["DEL", "UNLINK", "EXPCACHE.DEL"] {
            store(c, "a", "x");
            store(c, "b", "y");
            store_heavy(c, "heavy");
            assert_eq!(did(c, &[command, "a", "none", "a", "heavy"]), 2);
            assert_eq!(invalidated(c, "x"), 0);
            holds(c, "b", "b", "y");
            assert_eq!(did(c, &[command, "b"]), 1);
            assert_eq!(entries_and_tags(c), (0, 0));
        }
    });
}

// ---- several at once

#[test]
fn in_a_transaction() {
    in_both_modes(|c| {
        store(c, "a", "x");
        c.ok("MULTI");
        for command in [
            "COPY a b",
            "RENAME a c",
            "EXPCACHE.INVALIDATE.TAG x",
            "EXPCACHE.SET d v TAGS 1 y",
            "RENAME d b",
            "EXPCACHE.GET b",
            "UNLINK b",
            "EXPCACHE.INVALIDATE.TAG y",
            "EXPCACHE.SET e v TAGS 1 y",
            "FLUSHDB",
            "EXPCACHE.SET f v TAGS 1 y",
        ] {
            assert_eq!(c.cmd(command), Value::Simple("QUEUED".into()));
        }
        let replies = did(c, "EXEC");
        let one = Value::Int(1);
        let expected =
            [one.clone(), ok(), Value::Int(2), ok(), ok(), Value::bulk("v"), one, Value::Int(0), ok(), ok(), ok()];
        assert_eq!(replies.items(), expected);
        assert_eq!(entries_and_tags(c), (1, 1));

        c.ok("MULTI");
        c.cmd("EXPCACHE.SET g v");
        c.ok("DISCARD");
        c.nil("EXPCACHE.GET g");
    });
}

#[test]
fn in_a_script() {
    in_both_modes(|c| {
        let script = "local c = redis.call
            c('EXPCACHE.SET', KEYS[1], 'v', 'TAGS', 2, 'x', 'y')
            c('COPY', KEYS[1], KEYS[2])
            c('RENAME', KEYS[1], KEYS[3])
            c('SET', KEYS[3], 'text')
            local hit = c('EXPCACHE.GET', KEYS[2])
            return {hit, c('EXPCACHE.INVALIDATE.TAG', 'x'), c('EXPCACHE.GET', KEYS[2])}";
        let replies = did(c, &["EVAL", script, "3", "a", "b", "c"]);
        assert_eq!(replies.items(), [Value::bulk("v"), Value::Int(1), Value::Nil]);
        assert_eq!(entries_and_tags(c), (0, 0));
    });
}

#[test]
fn a_watched_entry_that_changes_stops_the_transaction() {
    let server = Server::start();
    let (mut c, mut other) = (server.conn(), server.conn());
    for change in [
        "EXPCACHE.SET k v",
        "RENAME k other",
        "EXPCACHE.DEL k",
        "EXPCACHE.INVALIDATE.TAG x",
        "PEXPIRE k 100000",
        "FLUSHALL",
    ] {
        store(&mut c, "k", "x");
        c.ok("WATCH k");
        other.cmd(change);
        c.ok("MULTI");
        c.cmd("PING");
        c.nil("EXEC");
    }
    store(&mut c, "k", "x");
    c.ok("WATCH k");
    other.cmd("EXPCACHE.GET k");
    c.ok("MULTI");
    c.cmd("PING");
    assert_eq!(c.cmd("EXEC").items().len(), 1, "a read changes nothing");
}
