//! Nothing is left behind: whatever way entries go, the index weighs afterwards what it weighed before. `EXPCACHE_LEAK_ENTRIES`
//! says how many are to come and go for each way; a few millions take some minutes.

#![allow(clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Conn, Server, Value, args, check, wait_until};

/// In all of a test, unless `EXPCACHE_LEAK_ENTRIES` says otherwise.
const ENTRIES: usize = 300_000;
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

/// Lets waves of entries come and, by `removal`, go; the index must weigh at the end no more than at first.
fn comes_and_goes(options: &str, removal: impl Fn(&mut Conn)) {
    let server = Server::with(&["--active-expire-effort", "10"]);
    let mut c = server.conn();
    // Types stay when their entries go.
    c.pipeline((0..9).map(|n| set(n, "")));
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 9);
    let before = index_bytes(&mut c);
    let total = std::env::var("EXPCACHE_LEAK_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(ENTRIES);
    for first in (0..total).step_by(WAVE) {
        let replies = c.pipeline((first..first + WAVE).map(|n| set(n, options)));
        assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())));
        removal(&mut c);
        wait_until("all are gone", || c.cmd("DBSIZE") == 0);
    }
    check(&mut c);
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!((&stats["entries"], &stats["tags"]), (&Value::Int(0), &Value::Int(0)));
    let after = index_bytes(&mut c);
    assert!(after <= before, "{after} bytes after {total} entries, {before} before");
}

#[test]
fn entries_that_expire() {
    comes_and_goes("PX 1", |_| {});
}

#[test]
fn entries_that_are_invalidated() {
    comes_and_goes("", |c| assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG all"), WAVE as i64));
    comes_and_goes("", |c| assert_eq!(c.cmd("EXPCACHE.CLEAR"), WAVE as i64));
    comes_and_goes("", |c| {
        let companies = (0..100).map(|n| args!["EXPCACHE.PURGE", "ANY", 1, format!("company:{n}")]);
        let purged: i64 = c.pipeline(companies).iter().map(Value::int).sum();
        assert_eq!(purged, WAVE as i64);
    });
    comes_and_goes("", |c| assert_eq!(c.cmd("EXPCACHE.PURGE MATCH export_cache:*:entry* ANY 1 all"), WAVE as i64));
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
fn entries_that_are_flushed_moved_renamed_and_stored_over() {
    comes_and_goes("", |c| c.ok("FLUSHDB"));
    comes_and_goes("GRACE 1h", |c| {
        c.int("EXPCACHE.PURGE ANY 1 all SOFT");
        c.ok("FLUSHALL ASYNC");
    });
    comes_and_goes("", |c| {
        let keys = c.iterate("EXPCACHE.SCAN", "COUNT 1000");
        c.pipeline(keys.iter().enumerate().map(|(n, key)| match n % 4 {
            0 => args!["RENAME", key.as_bytes(), "one"],
            1 => args!["MOVE", key.as_bytes(), 1],
            2 => args!["SET", key.as_bytes(), "v"],
            _ => args!["EXPCACHE.SET", key.as_bytes(), "w", "TAGS", 1, format!("new:{n}")],
        }));
        c.pipeline(["SELECT 1", "EXPCACHE.CLEAR", "SELECT 0", "EXPCACHE.CLEAR"]);
        c.pipeline(keys.iter().map(|key| args!["UNLINK", key.as_bytes()]));
    });
}
