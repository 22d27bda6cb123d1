//! In a cluster: commands go where their keys are, tags are each node's own, and entries move with their slots.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{Conn, PATIENCE, Server, Value, args, check, wait_until};
use std::net::TcpListener;
use std::ops::Range;

/// A node of a cluster to be; its bus cannot be at its port + 10000, which may be beyond the last one.
fn node() -> Server {
    let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let timeout = PATIENCE.as_millis().to_string();
    Server::with(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", &timeout])
}

fn wait_until_ok(c: &mut Conn) {
    wait_until("the cluster is ok", || c.text("CLUSTER INFO").contains("cluster_state:ok"));
}

/// A node with all slots.
fn only_node() -> (Server, Conn) {
    let server = node();
    let mut c = server.conn();
    c.ok("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_until_ok(&mut c);
    (server, c)
}

#[test]
fn keys_of_one_command_are_in_one_slot() {
    let (_server, mut c) = only_node();
    c.ok("EXPCACHE.MSET 2 {x}1 v {x}2 v TAGS 2 t u");
    assert_eq!(c.cmd("EXPCACHE.MGET {x}1 {x}2").items(), [Value::bulk("v"), Value::bulk("v")]);
    c.err("EXPCACHE.MSET 2 a v b v", "CROSSSLOT");
    c.err("EXPCACHE.MGET a b", "CROSSSLOT");
    c.err("EXPCACHE.DEL a b", "CROSSSLOT");
    assert_eq!(c.cmd("EXPCACHE.DEL {x}1 {x}3"), 1);
    check(&mut c);
}

#[test]
fn tags_are_not_keys_and_span_slots() {
    let (_server, mut c) = only_node();
    for n in 0..300 {
        c.ok(args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 2, "all", n % 3]);
    }
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG 0 1"), 200);
    assert_eq!(c.cmd("EXPCACHE.INVTAG all"), 100);
    wait_until("they are reclaimed", || c.cmd("DBSIZE") == 0);
    check(&mut c);
}

#[test]
fn selectors_span_slots() {
    let (_server, mut c) = only_node();
    for n in 0..300 {
        c.ok(args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 2, "all", n % 3, "GRACE", "1h"]);
    }
    assert_eq!(c.cmd("EXPCACHE.COUNT ALL 2 all 0"), 100);
    assert_eq!(c.iterate("EXPCACHE.SCAN", "ANY 1 all COUNT 7").len(), 300);
    assert_eq!(c.iterate("EXPCACHE.TAGS", "COUNT 1").len(), 2 * 4);
    assert_eq!(c.cmd("EXPCACHE.PURGE ANY 2 0 1 MATCH k:*[02468]"), 100);
    assert_eq!(c.cmd("EXPCACHE.CLEAR SOFT"), 200);
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 200);
    wait_until("they are reclaimed", || c.cmd("DBSIZE") == 0);
    check(&mut c);
}

#[test]
fn a_derived_key_can_be_told_its_slot() {
    let (_server, mut c) = only_node();
    let slot = c.int("CLUSTER KEYSLOT company:42");
    for number in 0..5 {
        let key = c.text(args!["EXPCACHE.KEYFOR", "trips", "USER", number, "HASHTAG", "company:42"]);
        assert_eq!(c.cmd(&["CLUSTER", "KEYSLOT", &key]), slot, "{key}");
    }
}

/// Two nodes, the first of which has all slots and the entries, and is about to give the slot of `{x}` to the second. The
/// story is told with connections to both and a way to move entries; when it is over, so is the move.
fn while_a_slot_moves(
    entries: impl IntoIterator<Item = Vec<Vec<u8>>>,
    story: impl FnOnce(&mut Conn, &mut Conn, &dyn Fn(&mut Conn, Range<usize>)),
) {
    let (_source, mut c) = only_node();
    c.pipeline(entries);
    let target = node();
    let mut there = target.conn();
    c.ok(args!["CLUSTER", "MEET", "127.0.0.1", target.port(), there.config("cluster-port")]);
    for conn in [&mut c, &mut there] {
        wait_until("the nodes know each other", || conn.text("CLUSTER INFO").contains("cluster_known_nodes:2"));
        wait_until_ok(conn);
    }
    let (from, to) = (c.text("CLUSTER MYID"), there.text("CLUSTER MYID"));
    let slot = c.int("CLUSTER KEYSLOT {x}");
    there.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", from]);
    c.ok(args!["CLUSTER", "SETSLOT", slot, "MIGRATING", &to]);
    let port = target.port();
    story(&mut c, &mut there, &|c, numbers| {
        let keys = numbers.map(|n| format!("{{x}}{n}").into_bytes()).collect();
        c.ok([args!["MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS"], keys].concat());
    });
    there.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &to]);
    c.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &to]);
    c.err("EXPCACHE.GET {x}0", "MOVED");
    for conn in [&mut c, &mut there] {
        check(conn);
        assert_eq!(conn.cmd("EXPCACHE.INVALIDATE.TAG all"), 10);
        check(conn);
        assert_eq!(conn.cmd("DBSIZE"), 0);
    }
}

fn asking(c: &mut Conn, command: &str) -> Value {
    c.ok("ASKING");
    c.cmd(command)
}

#[test]
fn entries_move_with_their_slot() {
    let of = |slot: &str, n: usize| args!["EXPCACHE.SET", format!("{slot}{n}"), "v", "TAGS", 2, "all", n % 2];
    while_a_slot_moves((0..20).flat_map(|n| [of("{x}", n), of("{y}", n)]), |c, there, migrate| {
        migrate(c, 0..10);
        check(c);
        check(there);
        c.err("EXPCACHE.GET {x}3", "ASK");
        assert_eq!(c.cmd("EXPCACHE.GET {x}13"), "v");
        assert_eq!(asking(there, "EXPCACHE.GET {x}3"), "v");
        let tags = asking(there, "EXPCACHE.META {x}3").fields()["tags"].sorted_texts();
        assert_eq!(tags, ["1", "all"]);
        // Between the two, each node invalidates what it holds.
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG 0"), 5 + 10);
        assert_eq!(there.cmd("EXPCACHE.INVALIDATE.TAG 0"), 5);
        check(there);
        assert_eq!(asking(there, "EXPCACHE.GET {x}2"), Value::Nil);
        assert_eq!(asking(there, "EXPCACHE.GET {x}3"), "v");
        migrate(c, 10..20);
    });
}

#[test]
fn a_crowd_is_reclaimed_where_its_slot_is_on_its_way_to() {
    let of = |slot: &str, n: usize, tag: &str| args!["EXPCACHE.SET", format!("{slot}{n}"), "v", "TAGS", 2, "all", tag];
    let crowd = (0..390).map(|n| of("{x}", n, "crowd"));
    let others = (390..400).flat_map(|n| [of("{x}", n, "others"), of("{y}", n, "others")]);
    while_a_slot_moves(crowd.chain(others), |c, there, migrate| {
        migrate(c, 0..400);
        assert_eq!(there.cmd("EXPCACHE.INVALIDATE.TAG crowd"), 390);
        assert_eq!(asking(there, "EXPCACHE.GET {x}0"), Value::Nil);
        wait_until("they are reclaimed", || there.cmd("DBSIZE") == 10);
        check(there);
        assert_eq!(asking(there, "EXPCACHE.GET {x}395"), "v");
    });
}

#[test]
fn a_full_type_makes_room_in_a_slot_on_its_way() {
    let of = |slot: &str, n: usize| args!["EXPCACHE.SET", format!("{slot}{n}"), "v", "TYPE", "few", "TAGS", 1, "all"];
    while_a_slot_moves((0..10).flat_map(|n| [of("{x}", n), of("{y}", n)]), |c, there, migrate| {
        migrate(c, 0..10);
        there.ok("EXPCACHE.TYPE SET few MAXENTRIES 10");
        for n in 10..15 {
            assert_eq!(
                asking(there, &format!("EXPCACHE.SET {{x}}{n} v TYPE few TAGS 1 all")),
                Value::Simple("OK".into())
            );
            check(there);
            assert_eq!(there.cmd("DBSIZE"), 10);
        }
        assert_eq!(asking(there, "EXPCACHE.GET {x}14"), "v");
    });
}
