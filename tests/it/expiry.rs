//! The native expiry of entries, and what the server tells of them as keys: freshness follows whatever native commands do to
//! the expiry, and the tags follow when it comes.

use crate::harness::{Conn, Server, Value, args, check, in_both_modes, now_ms, wait_until};

const HOUR_MS: i64 = 60 * 60 * 1000;

#[track_caller]
fn state(c: &mut Conn, key: &str) -> String {
    check(c);
    c.map(&["EXPCACHE.META", key])["state"].text()
}

// ---- freshness follows the native expiry

#[test]
fn expire_moves_the_end_of_freshness() {
    in_both_modes(|c| {
        c.ok("EXPCACHE.SET k v EX 100 GRACE 1h TAGS 1 t");
        let fresh_until = |c: &mut Conn| c.int("PEXPIRETIME k") - HOUR_MS;
        for (command, hours) in [("EXPIRE k 7200", 1), ("PEXPIRE k 10800000", 2)] {
            assert_eq!(c.cmd(command), 1);
            assert!((fresh_until(c) - now_ms() - hours * HOUR_MS).abs() < 5000);
            let left = c.map("EXPCACHE.META k")["ttl"].int();
            assert!((left - hours * HOUR_MS).abs() < 5000, "{left}");
            assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
        }
        let moment = (now_ms() / 1000 + 5 * 3600) * 1000;
        assert_eq!(c.cmd(args!["EXPIREAT", "k", moment / 1000]), 1);
        assert_eq!(fresh_until(c), moment - HOUR_MS);
        assert_eq!(c.cmd(args!["PEXPIREAT", "k", moment + 1]), 1);
        assert_eq!(fresh_until(c), moment + 1 - HOUR_MS);
        for (condition, expected) in [("NX", 0), ("GT", 0), ("LT", 1), ("XX", 1)] {
            assert_eq!(c.cmd(args!["PEXPIREAT", "k", moment, condition]), expected);
        }
        assert_eq!(state(c, "k"), "fresh");
    });
}

#[test]
fn an_expiry_nearer_than_the_grace_makes_stale() {
    in_both_modes(|c| {
        c.ok("EXPCACHE.SET k v EX 100 GRACE 2h TAGS 1 t");
        assert_eq!(c.cmd("EXPIRE k 3600"), 1);
        assert_eq!(state(c, "k"), "stale");
        c.nil("EXPCACHE.GET k");
        assert_eq!(c.cmd("EXPCACHE.MGET k"), Value::Array(vec![Value::Nil]));
        let fetched = c.map("EXPCACHE.FETCH k");
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("stale"), &Value::bulk("v")));
        assert!((fetched["ttl"].int() + HOUR_MS).abs() < 5000);
        assert_eq!(c.cmd("EXPIRE k 10800"), 1);
        assert_eq!(state(c, "k"), "fresh");
        assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 1);
    });
}

#[test]
fn persist_makes_fresh_for_ever() {
    in_both_modes(|c| {
        c.ok("EXPCACHE.SET k v EX 100 GRACE 2h TAGS 1 t");
        c.int("EXPIRE k 3600");
        assert_eq!(c.cmd("PERSIST k"), 1);
        assert_eq!(state(c, "k"), "fresh");
        assert_eq!(c.map("EXPCACHE.META k")["ttl"], Value::Nil);
        assert_eq!(c.map("EXPCACHE.FETCH k")["ttl"], Value::Nil);
        assert_eq!(c.cmd("PERSIST k"), 0);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 1);
    });
}

// ---- when it comes

#[test]
fn an_expiry_in_the_past_removes() {
    in_both_modes(|c| {
        for command in ["EXPIRE k -1", "PEXPIRE k 0", "EXPIREAT k 1", "PEXPIREAT k 1"] {
            c.ok("EXPCACHE.SET k v TAGS 1 t");
            assert_eq!(c.cmd(command), 1);
            check(c);
            assert_eq!(c.cmd("DBSIZE"), 0);
            assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 0);
        }
    });
}

/// Stores that many entries which end at once, one of them with the grace to be stale for long.
fn store_short_lived(c: &mut Conn, count: usize) {
    let sets = (0..count).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "PX", 1, "TAGS", 2, "t", n]);
    c.pipeline(sets);
    c.ok("EXPCACHE.SET graceful v PX 1 GRACE 1h TAGS 1 t");
}

#[test]
fn expired_entries_are_removed_when_they_are_touched() {
    in_both_modes(|c| {
        c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        store_short_lived(c, 10);
        let over = now_ms() + 2;
        wait_until("the entries are over", || now_ms() > over);
        let touches =
            ["EXPCACHE.GET", "EXPCACHE.MGET", "EXPCACHE.FETCH", "EXPCACHE.META", "EXISTS", "TTL", "TYPE", "DUMP"];
        for n in 0..10 {
            let touch = touches.get(n).unwrap_or(&"UNLINK");
            c.cmd(args![touch, format!("k:{n}")]);
            check(c);
        }
        // Not every touch removes: META looks and changes nothing.
        (0..10).for_each(|n| assert_eq!(c.cmd(args!["EXISTS", format!("k:{n}")]), 0));
        check(c);
        assert_eq!(c.cmd("DBSIZE"), 1);
        let stats = c.map("EXPCACHE.STATS");
        assert_eq!((stats["entries"].int(), stats["tags"].int(), stats["expired"].int()), (1, 1, 10));
        wait_until("the other one is stale", || state(c, "graceful") == "stale");
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 1);
    });
}

#[test]
fn a_cache_command_does_not_see_what_is_over_though_the_key_be_there() {
    in_both_modes(|c| {
        c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
        c.ok("EXPCACHE.SET k v PX 1 TAGS 1 t");
        wait_until("the entry is over", || c.cmd("EXPCACHE.GET k") == Value::Nil);
        c.nil("EXPCACHE.META k");
        assert_eq!(c.map("EXPCACHE.FETCH k")["status"], "miss");
        c.nil("EXPCACHE.SET k v XX");
        c.ok("EXPCACHE.SET k v NX TAGS 1 u");
        check(c);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 0);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG u"), 1);
    });
}

#[test]
fn expired_entries_are_removed_in_the_background() {
    in_both_modes(|c| {
        store_short_lived(c, 500);
        wait_until("the entries are removed", || c.cmd("DBSIZE") == 1);
        check(c);
        let stats = c.map("EXPCACHE.STATS");
        assert_eq!((stats["entries"].int(), stats["tags"].int(), stats["expired"].int()), (1, 1, 500));
    });
}

// ---- what the server tells of entries as keys

#[test]
fn entries_are_keys_of_a_type_of_their_own() {
    in_both_modes(|c| {
        c.ok("SET text v");
        c.ok("EXPCACHE.SET a v");
        c.ok("EXPCACHE.SET b v");
        assert_eq!(c.cmd("TYPE a"), Value::Simple("exp-cache".into()));
        let scan = c.cmd("SCAN 0 COUNT 1000 TYPE exp-cache");
        assert_eq!(scan.items()[1].sorted_texts(), ["a", "b"]);
        assert_eq!(c.cmd("EXISTS a b text none"), 3);
        assert_eq!(c.cmd("TOUCH a b none"), 2);
        assert_eq!(c.cmd("KEYS *").sorted_texts(), ["a", "b", "text"]);
        assert_eq!(c.cmd("OBJECT ENCODING a"), "raw");
        assert_eq!(c.cmd("OBJECT REFCOUNT a"), 1);
        assert!(c.int("OBJECT IDLETIME a") < 10);
        c.err("OBJECT FREQ a", "ERR An LFU");
    });
}

#[test]
fn reads_warm_the_lfu_counter_and_meta_does_not() {
    let server = Server::with(&["--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    let mut last = c.int("OBJECT FREQ k");
    for read in ["EXPCACHE.GET k", "EXPCACHE.MGET k", "EXPCACHE.FETCH k"] {
        c.cmd(read);
        let now = c.int("OBJECT FREQ k");
        assert!(now > last, "{read}");
        last = now;
    }
    c.cmd("EXPCACHE.META k");
    c.cmd("EXPCACHE.DEBUG CHECK");
    assert_eq!(c.int("OBJECT FREQ k"), last);
    c.ok("EXPCACHE.SET k other");
    assert!(c.int("OBJECT FREQ k") >= last, "an entry that is stored anew is as much in use as before");
}

#[test]
fn memory_usage_grows_with_payload_and_metadata() {
    in_both_modes(|c| {
        // Nothing is compressed in the midst of it.
        c.ok("EXPCACHE.TYPE SET default CODEC none");
        let mut last = 0;
        for size in [0, 1_000, 10_000, 1_000_000] {
            c.ok(args!["EXPCACHE.SET", "k", "x".repeat(size)]);
            let usage = c.int("MEMORY USAGE k");
            assert!(usage >= last + size as i64 / 2, "{usage} bytes for {size}");
            assert!(usage < 2 * size as i64 + 1_000, "{usage} bytes for {size}");
            last = usage;
        }
        c.ok("EXPCACHE.SET k v");
        let without = c.int("MEMORY USAGE k");
        c.ok(args!["EXPCACHE.SET", "k", "v", "META", format!(r#"{{"a":"{}"}}"#, "x".repeat(5_000))]);
        assert!(c.int("MEMORY USAGE k") >= without + 5_000);
    });
}

#[test]
fn digests_are_of_what_was_stored() {
    in_both_modes(|c| {
        let digest = |c: &mut Conn, key: &str| c.cmd(&["DEBUG", "DIGEST-VALUE", key]).items()[0].text();
        c.ok("EXPCACHE.SET a v TAGS 2 t u FORMAT csv GRACE 1m");
        c.int("COPY a b");
        let of_a = digest(c, "a");
        assert_eq!(digest(c, "b"), of_a);
        for read in ["EXPCACHE.GET a", "EXPCACHE.FETCH a", "EXPCACHE.META a"] {
            c.cmd(read);
        }
        assert_eq!(digest(c, "a"), of_a, "counters are not part of it");
        let all = c.cmd("DEBUG DIGEST");
        c.ok("DEBUG RELOAD");
        assert_eq!(c.cmd("DEBUG DIGEST"), all);

        let mut seen = vec![of_a];
        for options in ["TAGS 1 t", "TAGS 2 t x", "TAGS 2 t u FORMAT csv", "TAGS 2 t u FORMAT json GRACE 1m"] {
            c.ok(&format!("EXPCACHE.SET c v {options}"));
            seen.push(digest(c, "c"));
        }
        c.ok("EXPCACHE.SET c w TAGS 2 t u FORMAT csv GRACE 1m");
        seen.push(digest(c, "c"));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 6, "what differs has another digest");
    });
}
