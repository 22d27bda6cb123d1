//! Fences: what was computed before an invalidation that would have hit it is not stored after it.

use crate::harness::{Conn, Server, Value, args, check, refused, wait_until};
use crate::leases::{LONG, STALE, count, figure, granted, is_held, lease, lost};

/// What the value that is being produced will be: its tags are known only when it is stored.
const VALUE: &str = "EXPCACHE.SET trips:1 new TAGS 2 company:42 user:7 TYPE trips LEASE";

/// Invalidations that hit it.
const HIT: [&str; 19] = [
    "EXPCACHE.INVALIDATE.TAG company:42",
    "EXPCACHE.INVALIDATE.TAG other user:7",
    "EXPCACHE.INVTAG user:7",
    "EXPCACHE.PURGE ANY 2 other company:42",
    "EXPCACHE.PURGE ANY 1 company:42 SOFT",
    "EXPCACHE.PURGE ANY 1 company:42 KEYS 5",
    "EXPCACHE.PURGE ALL 2 user:7 company:42",
    "EXPCACHE.PURGE ALL 1 user:7 NONE 1 other",
    "EXPCACHE.PURGE NONE 1 other",
    "EXPCACHE.PURGE TYPE trips",
    "EXPCACHE.PURGE TYPE trips SOFT",
    "EXPCACHE.PURGE TYPE trips ANY 1 user:7 ALL 1 company:42",
    "EXPCACHE.PURGE MATCH *",
    "EXPCACHE.PURGE MATCH trips:?",
    "EXPCACHE.PURGE MATCH trips:1 SOFT",
    "EXPCACHE.PURGE MATCH trips:* TYPE trips NONE 2 other another",
    "EXPCACHE.CLEAR",
    "EXPCACHE.CLEAR SOFT",
    "EXPCACHE.PURGE ANY 1 user:7 ANY 1 company:42",
];

/// What invalidates something else, or nothing.
const MISSED: [&str; 14] = [
    "EXPCACHE.INVALIDATE.TAG company:4",
    "EXPCACHE.INVALIDATE.TAG COMPANY:42 user user:77",
    "EXPCACHE.PURGE ANY 1 other SOFT",
    "EXPCACHE.PURGE ALL 2 user:7 other",
    "EXPCACHE.PURGE NONE 2 other user:7",
    "EXPCACHE.PURGE TYPE default",
    "EXPCACHE.PURGE TYPE reports ANY 1 user:7",
    "EXPCACHE.PURGE TYPE trips NONE 1 company:42",
    "EXPCACHE.PURGE MATCH trips:2*",
    "EXPCACHE.PURGE MATCH Trips:1",
    "EXPCACHE.PURGE ANY 1 user:7 DRYRUN",
    "EXPCACHE.PURGE MATCH * DRYRUN KEYS 5",
    "EXPCACHE.COUNT ANY 1 user:7",
    "EXPCACHE.SCAN 0 ANY 1 user:7",
];

#[track_caller]
fn sent(c: &mut Conn, command: &str) {
    let reply = c.cmd(command);
    assert!(!matches!(reply, Value::Error(_)), "{command}: {reply}");
}

/// A server, with an entry that is stale already under the key or with none; the lease of the key.
fn scene(stale: bool) -> (Server, Conn, String) {
    let server = Server::start();
    let mut c = server.conn();
    if stale {
        c.ok(&format!("EXPCACHE.SET trips:1 old TAGS 1 old {STALE}"));
    }
    let token = lease(&mut c, "trips:1");
    (server, c, token)
}

#[test]
fn what_was_invalidated_meanwhile_is_not_stored() {
    let server = Server::start();
    for mut c in server.conns() {
        for command in HIT {
            c.ok("FLUSHALL");
            c.ok("EXPCACHE.STATS RESET");
            let token = lease(&mut c, "trips:1");
            sent(&mut c, command);
            is_held(&mut c, "trips:1", true);
            let text = c.err(&format!("{VALUE} {token}"), "FENCED");
            assert_eq!(text, "FENCED the value was invalidated while it was produced", "{command}");
            c.nil("EXPCACHE.META trips:1");
            assert_eq!(c.map("EXPCACHE.STATS TYPE trips")["fenced"], 1);

            // The lease is over; a new one is granted after the invalidation, and its value is as good as any.
            is_held(&mut c, "trips:1", false);
            lost(&mut c, "trips:1", &token);
            let token = lease(&mut c, "trips:1");
            c.ok(&format!("{VALUE} {token}"));
            assert_eq!(c.cmd("EXPCACHE.GET trips:1"), "new");
            check(&mut c);
        }
    }
}

#[test]
fn what_was_not_hit_is_stored() {
    let server = Server::start();
    let mut c = server.conn();
    for command in MISSED {
        let token = lease(&mut c, "trips:1");
        sent(&mut c, command);
        c.ok(&format!("{VALUE} {token}"));
        assert_eq!(c.cmd("EXPCACHE.GET trips:1"), "new", "{command}");
        assert_eq!(c.cmd("EXPCACHE.DEL trips:1"), 1);
    }
    assert_eq!(count(&mut c, "fenced"), 0);
}

#[test]
fn what_was_invalidated_before_does_not_matter() {
    let server = Server::start();
    let mut c = server.conn();
    // Another lease keeps the fences in memory.
    let older = lease(&mut c, "older");
    for command in HIT {
        sent(&mut c, command);
        let token = lease(&mut c, "trips:1");
        c.ok(&format!("{VALUE} {token}"));
        assert_eq!(c.cmd("EXPCACHE.DEL trips:1"), 1, "{command}");
    }
    c.err(args!["EXPCACHE.SET", "older", "v", "LEASE", older], "FENCED");
}

#[test]
fn a_refused_value_leaves_what_is_there() {
    let (_server, mut c, token) = scene(true);
    sent(&mut c, "EXPCACHE.INVALIDATE.TAG user:7");
    refused(&mut c, &format!("{VALUE} {token}"), "FENCED");
    let fetched = c.map("EXPCACHE.FETCH trips:1 LEASE 1h");
    assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("stale"), &Value::bulk("old")));
    c.ok(&format!("{VALUE} {}", granted(&fetched)));
}

#[test]
fn the_tags_that_count_are_those_of_the_new_value() {
    // Those of the stale one are not asked.
    let (_server, mut c, token) = scene(true);
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG old"), 1);
    c.ok(&format!("{VALUE} {token}"));
    // Nor is the type that the key's name stands for, if another is said.
    c.cmd("EXPCACHE.DEL trips:1");
    let token = lease(&mut c, "trips:1");
    sent(&mut c, "EXPCACHE.PURGE TYPE trips");
    c.ok(args!["EXPCACHE.SET", "trips:1", "v", "TYPE", "reports", "LEASE", token]);
    c.cmd("EXPCACHE.DEL trips:1");
    let token = lease(&mut c, "trips:1");
    sent(&mut c, "EXPCACHE.PURGE TYPE trips");
    c.err(args!["EXPCACHE.SET", "trips:1", "v", "LEASE", token], "FENCED");
}

#[test]
fn invalidations_in_transactions_and_scripts_fence_too() {
    let (_server, mut c, mut token) = scene(false);
    for command in ["EXPCACHE.INVALIDATE.TAG user:7", "EXPCACHE.PURGE MATCH trips:*", "EXPCACHE.CLEAR SOFT"] {
        c.ok("MULTI");
        c.cmd(command);
        c.cmd(&format!("{VALUE} {token}"));
        let replies = c.cmd("EXEC");
        assert!(matches!(&replies.items()[1], Value::Error(text) if text.starts_with("FENCED")), "{replies}");

        token = lease(&mut c, "trips:1");
        let words: Vec<String> = command.split(' ').map(|word| format!("'{word}'")).collect();
        c.cmd(args!["EVAL", format!("return redis.call({})", words.join(",")), 0]);
        c.err(&format!("{VALUE} {token}"), "FENCED");
        token = lease(&mut c, "trips:1");
    }
}

#[test]
fn other_databases_are_not_concerned() {
    let (_server, mut c, token) = scene(false);
    c.ok("SELECT 1");
    let others = lease(&mut c, "trips:1");
    for command in HIT {
        sent(&mut c, command);
    }
    c.err(&format!("{VALUE} {others}"), "FENCED");
    c.ok("SELECT 0");
    c.ok(&format!("{VALUE} {token}"));
}

#[test]
fn renewing_does_not_help() {
    let (_server, mut c, token) = scene(false);
    sent(&mut c, "EXPCACHE.INVALIDATE.TAG user:7");
    assert_eq!(c.cmd(args!["EXPCACHE.RENEW", "trips:1", &token, LONG]), 1);
    c.err(&format!("{VALUE} {token}"), "FENCED");
}

#[test]
fn a_value_that_is_not_hit_may_still_take_its_place() {
    // Refused for another reason, the lease stays, and so does what is remembered for it.
    let (_server, mut c, token) = scene(true);
    sent(&mut c, "EXPCACHE.INVALIDATE.TAG user:7");
    c.nil(&format!("{VALUE} {token} NX"));
    is_held(&mut c, "trips:1", true);
    c.ok(args!["EXPCACHE.SET", "trips:1", "v", "TAGS", 1, "company:42", "LEASE", token]);
}

#[test]
fn stores_without_a_lease_are_not_fenced() {
    let (_server, mut c, token) = scene(false);
    sent(&mut c, "EXPCACHE.CLEAR");
    c.ok("EXPCACHE.SET trips:1 v TAGS 1 user:7");
    lost(&mut c, "trips:1", &token);
    assert_eq!(c.cmd("EXPCACHE.GET trips:1"), "v");
}

#[test]
fn what_deletes_keys_one_by_one_fences_by_ending_the_lease() {
    let (_server, mut c, token) = scene(true);
    for (delete, expected) in [("DEL trips:1", 1), ("EXPCACHE.DEL trips:1", 0)] {
        assert_eq!(c.cmd(delete), expected);
        c.err(&format!("{VALUE} {token}"), "LEASELOST");
        lease(&mut c, "trips:1");
    }
}

#[test]
fn who_invalidates_more_names_than_are_remembered_fences_nobody_else() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-fences 3");
    let older = lease(&mut c, "trips:1");
    // The same ones again and again take no more room than once.
    for _ in 0..100 {
        sent(&mut c, "EXPCACHE.INVALIDATE.TAG a b c");
    }
    assert_eq!(figure(&mut c, "fences"), 3, "not more than once");
    c.ok(&format!("{VALUE} {older}"));
    assert_eq!(c.cmd("EXPCACHE.DEL trips:1"), 1);

    let older = lease(&mut c, "trips:1");
    sent(&mut c, "EXPCACHE.INVALIDATE.TAG a b c d");
    let newer = lease(&mut c, "trips:2");
    c.ok(&format!("{VALUE} {older}"));
    c.ok(args!["EXPCACHE.SET", "trips:2", "v", "TAGS", 1, "a", "LEASE", newer]);
    // What is not remembered by itself still fences what bears it.
    for tag in ["a", "b", "c", "d"] {
        let older = lease(&mut c, "trips:3");
        sent(&mut c, "EXPCACHE.INVALIDATE.TAG a b c d");
        sent(&mut c, "EXPCACHE.PURGE ALL 4 e f g h");
        c.err(args!["EXPCACHE.SET", "trips:3", "v", "TAGS", 1, tag, "LEASE", older], "FENCED");
    }
}

#[test]
fn millions_of_fences_cost_what_they_may() {
    let server = Server::start();
    let mut c = server.conn();
    let memory = |c: &mut Conn| c.info("memory", "used_memory").parse::<i64>().unwrap_or_default();
    let before = memory(&mut c);
    let token = lease(&mut c, "trips:1");
    c.pipeline(unborne(0..75));
    // Two names with one hash are remembered as one; of so many there are seldom any.
    let remembered = figure(&mut c, "fences");
    assert!((75 * NAMES as i64 - 5..=75 * NAMES as i64).contains(&remembered), "{remembered}");
    let full = memory(&mut c) - before;
    assert!((2_000_000..20_000_000).contains(&full), "{full} bytes");
    let fenced =
        |name: usize, token: &str| args!["EXPCACHE.SET", "trips:1", "v", "TAGS", 1, unborne_name(name), "LEASE", token];
    c.err(fenced(5, &token), "FENCED");
    assert_eq!(figure(&mut c, "fences"), 0);
    wait_until("without a lease nothing is kept", || memory(&mut c) - before < full / 10);
    // No more are remembered than may be, and none is missed.
    c.ok("CONFIG SET expcache.max-fences 2000");
    let token = lease(&mut c, "trips:1");
    c.pipeline(unborne(0..75));
    let remembered = figure(&mut c, "fences");
    assert!((20_000..=80_000).contains(&remembered), "{remembered}");
    c.err(fenced(5, &token), "FENCED");
}

/// So many names are allowed in one command.
const NAMES: usize = 4096;

fn unborne_name(n: usize) -> String {
    format!("acme:{n:08}")
}

/// Invalidations of names that nobody bears, as many as one command may name.
fn unborne(commands: std::ops::Range<usize>) -> impl Iterator<Item = Vec<Vec<u8>>> {
    commands.map(|n| {
        let mut words = args!["EXPCACHE.INVALIDATE.TAG"];
        words.extend((n * NAMES..(n + 1) * NAMES).map(|n| unborne_name(n).into_bytes()));
        words
    })
}

#[test]
fn names_that_nobody_bears_fence_nobody() {
    const LEASES: usize = 1_000;
    let server = Server::start();
    let mut c = server.conn();
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t:1 t:3 t:5"), 0);
    let ask = |n: usize| args!["EXPCACHE.FETCH", format!("k:{n}"), "LEASE", LONG];
    let replies = c.pipeline((0..LEASES).map(ask));
    let tokens: Vec<String> = replies.iter().map(|reply| granted(&reply.fields())).collect();
    c.cmd("EXPCACHE.INVALIDATE.TAG t:7 t:8");
    c.pipeline(unborne(0..60));
    let store = |n: usize| {
        args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 2, format!("t:{n}"), format!("u:{n}"), "LEASE", &tokens[n]]
    };
    let replies = c.pipeline((0..LEASES).map(store));
    let fenced: Vec<usize> = (0..LEASES).filter(|n| matches!(replies[*n], Value::Error(_))).collect();
    // Once in some hundred runs a name has the hash of one that was invalidated.
    assert!(fenced.contains(&7) && fenced.contains(&8) && fenced.len() < 4, "{fenced:?}");
    check(&mut c);
}
