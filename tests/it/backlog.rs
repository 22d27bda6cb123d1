//! Invalidated entries whose keys are not reclaimed yet: for the cache they are gone, for native commands they are keys, and
//! nothing that is done to the keys brings one back. And entries that were made stale, and do not expire with their grace
//! yet: nothing makes one fresh but what would make a stale one fresh.
//!
//! Within a transaction nothing is reclaimed in the background, so there the backlog is sure to be met.

use crate::harness::{Conn, Server, Value, args, check, in_both_modes, now_ms, wait_until};

/// More than are reclaimed before the reply.
const MANY: usize = 1_000;

/// Stores many entries with the tag `dead`, and one without it.
fn populate(c: &mut Conn) {
    let sets = (0..MANY).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), format!("v{n}"), "TAGS", 2, "dead", "other"]);
    c.pipeline(sets);
    c.ok("EXPCACHE.SET alive v TAGS 1 other");
}

/// Invalidates the many, by the tag or by whatever else does, and sends the commands before anything can be reclaimed; returns their replies.
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

/// In one of few turns of the event loop some are reclaimed, however short the turns are and whoever else is served: a client that asks again and
/// again is answered once a turn. If it were each millisecond, it would be answered many times for each of them.
#[test]
fn some_are_reclaimed_between_two_questions() {
    const ALL: usize = 20_000;
    let server = Server::start();
    let mut c = server.conn();
    c.pipeline((0..ALL).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 1, "dead"]));
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG dead"), ALL as i64);
    let mut asked = 0;
    while c.int("DBSIZE") > 0 {
        asked += 1;
        assert!(asked < ALL / 2, "{} of {ALL} are left", c.int("DBSIZE"));
    }
    check(&mut c);
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

/// By whatever command they were invalidated.
#[test]
fn they_are_gone_by_any_command() {
    for purge in
        ["PURGE TYPE default", "PURGE ALL 2 dead other MATCH k:*", "PURGE NONE 1 nosuch", "CLEAR", "CLEAR SOFT"]
    {
        in_both_modes(|c| {
            populate(c);
            let replies = c.transaction([
                &format!("EXPCACHE.{purge}"),
                "EXPCACHE.MGET k:1 k:999",
                "EXPCACHE.COUNT ANY 2 dead other",
                "EXPCACHE.SET k:1 new TAGS 1 dead",
                "RENAME k:2 renamed",
                "COPY k:3 copied",
                "EXPCACHE.SCAN 0 COUNT 10000",
            ]);
            let alive = i64::from(purge.contains("MATCH"));
            assert_eq!(replies[0], 1 + MANY as i64 - alive, "{purge}");
            assert_eq!(replies[1].items(), [Value::Nil, Value::Nil], "{purge}");
            assert_eq!(replies[2], alive, "{purge}");
            assert_eq!(replies[6].items()[1].items().len() as i64, 1 + alive, "{purge}");
            leaves(c, if alive == 1 { &["alive", "k:1"] } else { &["k:1"] });
            assert_eq!(c.cmd("EXPCACHE.GET k:1"), "new", "{purge}");
        });
    }
}

// ---- stale by command

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Stores many entries with the tag `soft` and a grace of an hour that begins in a day; makes them stale and sends the
/// commands before anything else can be done. Returns their replies.
#[track_caller]
fn meanwhile_stale(c: &mut Conn, commands: &[&str]) -> Vec<Value> {
    let set = |n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "EX", 86_400, "GRACE", "1h", "TAGS", 1, "soft"];
    c.pipeline((0..MANY).map(set));
    c.ok("EXPCACHE.SET alive v EX 86400 GRACE 1h TAGS 1 other");
    let replies = c.transaction(["EXPCACHE.PURGE ANY 1 soft SOFT"].iter().chain(commands).copied());
    assert_eq!(replies[0], MANY as i64);
    check(c);
    replies[1..].to_vec()
}

/// Asserts that an entry is stale, and that its key expires with a grace which began with that.
#[track_caller]
fn is_stale(c: &mut Conn, key: &str) {
    let fetched = c.map(&["EXPCACHE.FETCH", key]);
    assert_eq!(fetched["status"], "stale", "{key}");
    assert_eq!(c.map(&["EXPCACHE.META", key])["state"], "stale", "{key}");
    let stale_for = -fetched["ttl"].int();
    assert!((0..HOUR_MS).contains(&stale_for), "{key}: for {stale_for} ms");
    wait_until("the key expires with its grace", || (1..=HOUR_MS).contains(&c.int(&["PTTL", key])));
    assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "stale", "{key}");
}

/// Asserts that an entry is fresh, and stays so when the others have been dealt with.
#[track_caller]
fn is_fresh(c: &mut Conn, key: &str) {
    all_are_dated(c);
    assert_eq!(c.map(&["EXPCACHE.META", key])["state"], "fresh", "{key}");
    let left = c.int(&["PTTL", key]);
    assert!(left == -1 || left > HOUR_MS, "{key}: {left}");
}

/// Waits until no key of the many is left that does not expire with its grace.
fn all_are_dated(c: &mut Conn) {
    wait_until("the keys expire with their grace", || {
        let left = c.pipeline((100..MANY).map(|n| args!["PTTL", format!("k:{n}")]));
        left.iter().all(|left| left.int() <= HOUR_MS)
    });
    check(c);
}

#[test]
fn cache_commands_see_them_stale() {
    in_both_modes(|c| {
        let replies = meanwhile_stale(
            c,
            &[
                "EXPCACHE.GET k:999",
                "EXPCACHE.MGET k:999 alive",
                "EXPCACHE.META k:999",
                "EXPCACHE.FETCH k:999",
                "EXPCACHE.PURGE ANY 1 soft SOFT",
                "EXPCACHE.CLEAR SOFT",
                "EXPCACHE.COUNT ANY 1 soft",
                "EXPCACHE.DEL k:998",
                "EXPCACHE.SET k:997 w NX",
                "EXPCACHE.STATS",
            ],
        );
        assert_eq!(replies[0], Value::Nil);
        assert_eq!(replies[1].items(), [Value::Nil, Value::bulk("v")]);
        assert_eq!(replies[2].fields()["state"], "stale");
        assert_eq!(replies[3].fields()["status"], "stale");
        assert_eq!(replies[4..8], [0, 1, 1_000, 1].map(Value::Int));
        assert_eq!(replies[8], Value::Nil, "it is there");
        assert_eq!(replies[9].fields()["entries"], MANY as i64);
        is_stale(c, "k:999");
        is_stale(c, "alive");
        all_are_dated(c);
    });
}

#[test]
fn under_another_name_they_stay_stale() {
    in_both_modes(|c| {
        meanwhile_stale(
            c,
            &[
                "RENAME k:1 renamed",
                "COPY k:2 copied",
                "RENAME k:3 alive",
                "COPY k:4 k:5 REPLACE",
                "COPY k:6 copied DB 1",
                "SELECT 0",
                "MOVE k:7 1",
                "SELECT 0",
            ],
        );
        for key in ["renamed", "copied", "k:2", "alive", "k:5", "k:6"] {
            is_stale(c, key);
        }
        assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 soft"), MANY as i64);
        c.ok("SELECT 1");
        for key in ["copied", "k:7"] {
            is_stale(c, key);
        }
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 soft"), 2);
        c.ok("SELECT 0");
        all_are_dated(c);
    });
}

#[test]
fn dumped_and_restored_they_stay_stale() {
    in_both_modes(|c| {
        let dump = meanwhile_stale(c, &["DUMP k:1"]).remove(0);
        let far = now_ms() + 86_400_000;
        c.ok(args!["RESTORE", "back", 0, dump.as_bytes()]);
        c.ok(args!["RESTORE", "back-with-expiry", far, dump.as_bytes(), "ABSTTL"]);
        c.ok(args!["RESTORE", "alive", 0, dump.as_bytes(), "REPLACE"]);
        for key in ["back", "back-with-expiry", "alive"] {
            is_stale(c, key);
        }
        check(c);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG soft"), MANY as i64 + 3);
    });
}

#[test]
fn migrated_they_stay_stale() {
    let other = Server::start();
    let mut there = other.conn();
    in_both_modes(|c| {
        let migrate = (990..1000).map(|n| format!("MIGRATE 127.0.0.1 {} k:{n} 0 5000", other.port()));
        let migrate: Vec<String> = migrate.collect();
        meanwhile_stale(c, &migrate.iter().map(String::as_str).collect::<Vec<_>>());
        for n in 990..1000 {
            is_stale(&mut there, &format!("k:{n}"));
        }
        check(&mut there);
        assert_eq!(there.cmd("EXPCACHE.INVALIDATE.TAG soft"), 10);
        check(c);
    });
}

#[test]
fn stale_ones_move_with_their_databases() {
    in_both_modes(|c| {
        let replies = meanwhile_stale(c, &["SWAPDB 0 1", "EXPCACHE.SET k:1 w EX 86400 GRACE 1h", "EXPCACHE.GET k:1"]);
        assert_eq!(replies[2], "w");
        c.ok("SELECT 1");
        is_stale(c, "k:1");
        all_are_dated(c);
        c.ok("SELECT 0");
        assert_eq!(c.cmd("EXPCACHE.GET k:1"), "w");
        assert!(c.int("PTTL k:1") > HOUR_MS);
        c.ok("FLUSHALL");
        meanwhile_stale(c, &["FLUSHDB", "EXPCACHE.SET k:1 w EX 86400 GRACE 1h"]);
        is_fresh(c, "k:1");
    });
}

/// Nothing but storing them again makes them fresh; their ends may be moved.
#[test]
fn what_is_done_to_stale_ones_before_they_are_dealt_with() {
    in_both_modes(|c| {
        let replies = meanwhile_stale(
            c,
            &[
                "EXPCACHE.SET k:1 w EX 86400 GRACE 1h TAGS 1 soft",
                "EXPIRE k:2 86400",
                "PERSIST k:3",
                "EXPCACHE.MGET k:1 k:2 k:3",
                "EXPCACHE.PURGE ANY 1 soft SOFT",
                "EXPIRE k:2 86400",
                "PERSIST k:3",
                "EXPIRE k:3 86400",
                "EXPIRE k:4 1800",
                "EXPCACHE.SET k:5 w KEEPTTL GRACE 1h",
                "EXPCACHE.SET k:6 w KEEPTTL",
            ],
        );
        assert_eq!(replies[3].items(), [Value::bulk("w"), Value::Nil, Value::Nil]);
        assert_eq!(replies[4], 1);
        all_are_dated(c);
        for key in ["k:2", "k:3"] {
            assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "stale", "{key}");
            assert!(c.int(&["PTTL", key]) > HOUR_MS, "{key}");
        }
        for key in ["k:1", "k:4", "k:5"] {
            is_stale(c, key);
        }
        assert!(c.int("PTTL k:4") <= HOUR_MS / 2);
        assert_eq!(c.int("EXISTS k:6"), 0, "the freshness that it keeps is over");
        check(c);
    });
}

/// Whatever their type's grace is later.
#[test]
fn a_grace_of_the_type_is_that_of_the_moment() {
    in_both_modes(|c| {
        c.ok("EXPCACHE.TYPE SET t TTL 1d GRACE 0s");
        c.pipeline((0..MANY).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TYPE", "t", "TAGS", 1, "soft"]));
        c.ok("EXPCACHE.TYPE SET t GRACE 1h");
        let replies = c.transaction([
            "EXPCACHE.PURGE ANY 1 soft SOFT",
            "EXPCACHE.META k:1",
            "EXPCACHE.TYPE SET t GRACE 2h",
            "RENAME k:2 renamed",
            "EXPCACHE.SET k:3 w TYPE t",
            "EXPIRE k:4 1800",
            "EXPCACHE.META k:4",
            "EXPIRE k:5 86400",
            "EXPCACHE.META k:5",
        ]);
        assert_eq!(replies[0], MANY as i64);
        // Whose end was moved has what is left until then for a grace.
        for (reply, grace_ms) in [(1, HOUR_MS), (6, HOUR_MS / 2), (8, 24 * HOUR_MS)] {
            let meta = replies[reply].fields();
            assert_eq!(meta["state"], "stale", "{reply}");
            assert!((grace_ms - 1000..grace_ms + 1000).contains(&meta["grace"].int()), "{reply}: {}", meta["grace"]);
        }
        for key in ["k:1", "renamed", "k:999"] {
            is_stale(c, key);
            assert_eq!(c.map(&["EXPCACHE.META", key])["grace"], HOUR_MS);
        }
        is_fresh(c, "k:3");
        for key in ["k:4", "k:5"] {
            assert_eq!(c.map(&["EXPCACHE.FETCH", key])["status"], "stale", "{key}");
        }
        c.ok("EXPCACHE.TYPE SET t GRACE 0s");
        check(c);
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
