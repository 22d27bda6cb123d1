//! Nothing is left behind: whatever way entries go, the index weighs afterwards what it weighed before. `EXPCACHE_LEAK_ENTRIES`
//! says how many are to come and go for each way; a few millions take some minutes.

use crate::harness::{Conn, Server, Value, args, check, wait_until};

/// For each way, unless `EXPCACHE_LEAK_ENTRIES` says otherwise.
const ENTRIES: usize = 60_000;
/// So many are there at a time.
const WAVE: usize = 20_000;

/// A command that stores the entry number `n`: with tags that many have, that few have, and that no other one has.
fn set(n: usize, options: &str) -> Vec<Vec<u8>> {
    let key = format!("export_cache:type-{}:entry number {n}", n % 9);
    let few = format!("user:{}", n / 50);
    let mut words = args!["EXPCACHE.SET", key, "v", "TYPE", format!("type-{}", n % 9)];
    words.extend(args!["TAGS", 4, "all", format!("company:{}", n % 100), few, format!("object:{n}")]);
    words.extend(options.split_whitespace().map(|word| word.as_bytes().to_vec()));
    words
}

fn index_bytes(c: &mut Conn) -> i64 {
    c.map("EXPCACHE.STATS")["index-bytes"].int()
}

/// What the first ones leave may be so large, for lists that keep a little room; it does not depend on how many they were.
const ROOM_BYTES: i64 = 1024;

/// Lets waves of entries come and, by `removal`, go; the index must weigh afterwards what it did before.
fn comes_and_goes(options: &str, removal: impl Fn(&mut Conn)) {
    let server = Server::with(&["--active-expire-effort", "10"]);
    let mut c = server.conn();
    // The databases, and types stay when their entries go.
    for db in [1, 0] {
        c.ok(args!["SELECT", db]);
        c.pipeline((0..9).map(|n| set(n, "")));
        assert_eq!(c.cmd("EXPCACHE.CLEAR"), 9);
    }
    let mut before = index_bytes(&mut c);
    let total = std::env::var("EXPCACHE_LEAK_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(ENTRIES);
    for first in (0..total).step_by(WAVE) {
        let replies = c.pipeline((first..first + WAVE).map(|n| set(n, options)));
        assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())));
        let (now, left) = (index_bytes(&mut c), c.int("DBSIZE"));
        assert!(now > before || left == 0, "{before}, and with {left} entries {now}");
        removal(&mut c);
        wait_until("all are gone", || c.cmd("DBSIZE") == 0);
        let after = index_bytes(&mut c);
        let room = if first == 0 { 0..=ROOM_BYTES } else { 0..=0 };
        assert!(room.contains(&(after - before)), "{before}, and after {} entries {after}", first + WAVE);
        before = after;
    }
    check(&mut c);
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!((&stats["entries"], &stats["tags"]), (&Value::Int(0), &Value::Int(0)));
}

#[test]
fn entries_that_expire() {
    comes_and_goes("PX 1 GRACE 1ms", |_| {});
}

#[test]
fn entries_that_are_invalidated() {
    comes_and_goes("", |c| assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG all"), WAVE as i64));
    comes_and_goes("", |c| {
        let companies = (0..100).map(|n| args!["EXPCACHE.PURGE", "ANY", 1, format!("company:{n}")]);
        let purged: i64 = c.pipeline(companies).iter().map(Value::int).sum();
        assert_eq!(purged, WAVE as i64);
    });
}

/// Searches for names come and go too, and so do their clients.
#[test]
fn entries_that_are_searched_for() {
    comes_and_goes("", |c| {
        c.ok("CONFIG SET expcache.reclaim-slice-us 1");
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH export_cache:*:entry*1 ANY 1 all"), WAVE as i64 / 10);
        c.ok("CONFIG SET expcache.reclaim-slice-us 500");
        assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *2"), WAVE as i64 / 10);
        assert_eq!(c.cmd("EXPCACHE.CLEAR"), WAVE as i64 / 10 * 9);
    });
}

#[test]
fn entries_that_are_made_stale() {
    comes_and_goes("GRACE 1h", |c| {
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 all SOFT"), WAVE as i64);
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 company:7"), WAVE as i64 / 100);
        assert_eq!(c.cmd("EXPCACHE.CLEAR"), WAVE as i64 / 100 * 99);
    });
    // The grace is over at once, so the server expires them.
    comes_and_goes("GRACE 1ms", |c| drop(c.cmd("EXPCACHE.CLEAR SOFT")));
}

#[test]
fn entries_that_are_moved_renamed_and_stored_over() {
    comes_and_goes("", |c| {
        let keys = c.iterate("EXPCACHE.SCAN", "COUNT 1000");
        c.pipeline(keys.iter().enumerate().map(|(n, key)| match n % 4 {
            0 => args!["RENAME", key.as_bytes(), "one"],
            1 => args!["MOVE", key.as_bytes(), 1],
            2 => args!["EXPIRE", key.as_bytes(), 0],
            _ => args!["EXPCACHE.SET", key.as_bytes(), "w", "TAGS", 1, format!("new:{n}")],
        }));
        c.pipeline(["SELECT 1", "EXPCACHE.CLEAR", "SELECT 0", "EXPCACHE.CLEAR SOFT"]);
        c.ok("SELECT 1");
        wait_until("all are gone from the other", || c.cmd("DBSIZE") == 0);
        c.ok("SELECT 0");
    });
}

/// Then nothing is left at all.
#[test]
fn entries_that_are_flushed() {
    let server = Server::start();
    let mut c = server.conn();
    let empty = index_bytes(&mut c);
    for flush in ["FLUSHDB", "FLUSHALL ASYNC"] {
        c.ok("CONFIG SET expcache.reclaim-inline 0");
        c.pipeline((0..WAVE).map(|n| set(n, "GRACE 1h")));
        let replies =
            c.transaction(["EXPCACHE.PURGE ANY 1 company:7", "EXPCACHE.CLEAR SOFT", "EXPCACHE.COUNT MATCH *"]);
        assert_eq!(replies[2], WAVE as i64 / 100 * 99);
        c.ok(flush);
        assert_eq!(index_bytes(&mut c), empty, "{flush}");
    }
    check(&mut c);
}
