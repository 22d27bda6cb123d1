//! Invalidated entries whose keys are not reclaimed yet: for the cache they are gone, for native commands they are keys, and
//! nothing that is done to the keys brings one back.
//!
//! Within a transaction nothing is reclaimed in the background, so there the backlog is sure to be met.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod harness;

use harness::{Conn, Server, Value, args, check, in_both_modes, wait_until};

/// More than are reclaimed before the reply.
const MANY: usize = 1_000;

/// Stores many entries with the tag `dead`, and one without it.
fn populate(c: &mut Conn) {
    let sets = (0..MANY).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), format!("v{n}"), "TAGS", 2, "dead", "other"]);
    c.pipeline(sets);
    c.ok("EXPCACHE.SET alive v TAGS 1 other");
}

/// Invalidates the many and sends the commands before anything can be reclaimed; returns their replies.
#[track_caller]
fn meanwhile(c: &mut Conn, commands: &[Vec<Vec<u8>>]) -> Vec<Value> {
    populate(c);
    c.ok("MULTI");
    c.cmd("EXPCACHE.INVALIDATE.TAG dead");
    for command in commands {
        assert_eq!(c.cmd(command.clone()), Value::Simple("QUEUED".into()));
    }
    let replies = c.cmd("EXEC").items().to_vec();
    assert_eq!(replies[0], MANY as i64);
    replies[1..].to_vec()
}

/// Asserts that after a while nothing is left but these keys of database 0.
#[track_caller]
fn leaves(c: &mut Conn, keys: &[&str]) {
    check(c);
    wait_until("the backlog is reclaimed", || c.cmd("KEYS *").items().len() == keys.len());
    assert_eq!(c.cmd("KEYS *").sorted_texts(), keys);
    check(c);
}

fn words(command: &str) -> Vec<Vec<u8>> {
    command.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Whatever is stored over a dead entry with the tag that killed it can be invalidated by it again, to the last one.
#[test]
fn stored_over_they_are_invalidated_again() {
    in_both_modes(|c| {
        let over: Vec<_> = (0..MANY).map(|n| words(&format!("EXPCACHE.SET k:{n} new TAGS 2 dead other"))).collect();
        let replies = meanwhile(c, &over);
        assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())));
        check(c);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG dead"), MANY as i64);
        c.nil("EXPCACHE.GET k:0");
        leaves(c, &["alive"]);
    });
}

#[test]
fn cache_commands_see_none_of_them() {
    in_both_modes(|c| {
        let commands = [
            "EXPCACHE.GET k:999",
            "EXPCACHE.MGET k:999 alive",
            "EXPCACHE.META k:999",
            "EXPCACHE.FETCH k:999",
            "EXPCACHE.DEL k:998 k:999",
            "EXPCACHE.SET k:997 v XX",
            "EXPCACHE.SET k:996 v NX TAGS 1 new",
            "EXPCACHE.INVTAG dead",
            "EXPCACHE.STATS",
            "EXPCACHE.INVALIDATE.TAG other new",
        ];
        let replies = meanwhile(c, &commands.map(words));
        assert_eq!(replies[0], Value::Nil);
        assert_eq!(replies[1], Value::Array(vec![Value::Nil, Value::bulk("v")]));
        assert_eq!(replies[2], Value::Nil);
        assert_eq!(replies[3].fields()["status"], "miss");
        assert_eq!(replies[4], 0);
        assert_eq!(replies[5], Value::Nil);
        assert_eq!(replies[6], Value::Simple("OK".into()));
        assert_eq!(replies[7], 0);
        let stats = replies[8].fields();
        assert_eq!((stats["entries"].int(), stats["tags"].int()), (2, 2));
        assert_eq!(replies[9], 2);
        leaves(c, &[]);
    });
}

#[test]
fn an_entry_stored_over_one_lives_and_can_be_invalidated_again() {
    in_both_modes(|c| {
        let commands = [
            "EXPCACHE.SET k:1 new TAGS 1 dead",
            "EXPCACHE.SET k:2 new TAGS 1 other",
            "EXPCACHE.INVALIDATE.TAG dead",
            "EXPCACHE.SET k:1 newest TAGS 1 dead",
        ];
        let replies = meanwhile(c, &commands.map(words));
        assert_eq!(replies[2], 1, "invalidated, stored anew and invalidated again: counted twice");
        leaves(c, &["alive", "k:1", "k:2"]);
        assert_eq!(c.cmd("EXPCACHE.MGET k:1 k:2").items(), [Value::bulk("newest"), Value::bulk("new")]);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG dead"), 1);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG other"), 2);
    });
}

#[test]
fn keep_nothing_of_what_an_entry_was() {
    in_both_modes(|c| {
        let replies = meanwhile(c, &[words("EXPCACHE.SET k:1 new KEEPTTL"), words("PERSIST k:2")]);
        assert_eq!(replies[0], Value::Simple("OK".into()));
        leaves(c, &["alive", "k:1"]);
        assert!((3_590_000..=3_600_000).contains(&c.int("PTTL k:1")), "the type's TTL");
    });
}

#[test]
fn under_another_name_they_stay_gone() {
    in_both_modes(|c| {
        let commands = [
            "RENAME k:1 renamed",
            "RENAME k:2 alive",
            "COPY k:3 copied",
            "COPY k:4 copied DB 1",
            "SELECT 0",
            "MOVE k:5 1",
            "SELECT 0",
            "COPY k:6 k:7 REPLACE",
            "EXPCACHE.MGET renamed alive copied k:7",
            "EXPCACHE.INVALIDATE.TAG dead other",
        ];
        let replies = meanwhile(c, &commands.map(words));
        assert_eq!(replies[8].items(), [Value::Nil, Value::Nil, Value::Nil, Value::Nil]);
        assert_eq!(replies[9], 0);
        leaves(c, &[]);
        c.ok("SELECT 1");
        assert_eq!(c.cmd("EXPCACHE.MGET copied k:5").items(), [Value::Nil, Value::Nil]);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG dead other"), 0);
        leaves(c, &[]);
    });
}

#[test]
fn dumped_and_restored_they_stay_gone() {
    in_both_modes(|c| {
        let dump = meanwhile(c, &[words("DUMP k:999")]).remove(0);
        leaves(c, &["alive"]);
        // That an invalidated entry has no dump would do as well.
        if let Value::Bulk(dump) = dump {
            c.cmd(args!["RESTORE", "back", 0, &dump]);
            c.cmd(args!["RESTORE", "alive", 0, &dump, "REPLACE"]);
            assert_eq!(c.cmd("EXPCACHE.MGET back alive").items(), [Value::Nil, Value::Nil]);
            assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG dead other"), 0);
            leaves(c, &[]);
        }
    });
}

#[test]
fn migrated_they_stay_gone() {
    let other = Server::start();
    let mut there = other.conn();
    in_both_modes(|c| {
        let commands = (990..1000).map(|n| words(&format!("MIGRATE 127.0.0.1 {} k:{n} 0 5000", other.port())));
        meanwhile(c, &commands.collect::<Vec<_>>());
        let keys = (990..1000).map(|n| format!("k:{n}").into_bytes()).collect();
        let values = there.cmd([args!["EXPCACHE.MGET"], keys].concat());
        assert!(values.items().iter().all(|value| *value == Value::Nil), "{values}");
        assert_eq!(there.cmd("EXPCACHE.INVALIDATE.TAG dead other"), 0);
        leaves(&mut there, &[]);
        leaves(c, &["alive"]);
    });
}

#[test]
fn they_move_with_their_databases() {
    in_both_modes(|c| {
        let replies = meanwhile(c, &["SWAPDB 0 1", "EXPCACHE.SET k:1 new TAGS 1 dead"].map(words));
        assert_eq!(replies[1], Value::Simple("OK".into()));
        leaves(c, &["k:1"]);
        c.ok("SELECT 1");
        assert_eq!(c.cmd("EXPCACHE.GET k:1"), Value::Nil);
        leaves(c, &["alive"]);
        c.ok("FLUSHALL");
        c.ok("SELECT 0");
        meanwhile(c, &["FLUSHDB", "EXPCACHE.SET k:1 new TAGS 1 dead"].map(words));
        leaves(c, &["k:1"]);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG dead"), 1);
    });
}

#[test]
fn reclaiming_tells_who_listens() {
    let server = Server::with(&["--notify-keyspace-events", "Eg"]);
    let (mut c, mut listener) = (server.conn(), server.conn());
    populate(&mut c);
    listener.cmd("SUBSCRIBE __keyevent@0__:del");
    c.ok("WATCH k:500");
    assert_eq!(server.conn().int("EXPCACHE.INVALIDATE.TAG dead"), MANY as i64);
    for _ in 0..MANY {
        let message = listener.receive().unwrap_or(Value::Nil);
        assert!(message.items()[2].text().starts_with("k:"), "{message}");
    }
    c.ok("MULTI");
    c.cmd("PING");
    c.nil("EXEC");
    leaves(&mut c, &["alive"]);
    assert_eq!(c.map("EXPCACHE.STATS")["tags"], 1);
}
