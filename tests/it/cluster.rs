//! In a cluster: commands go where their keys are, tags are each node's own, and entries move with their slots, by hand or
//! in one step.

use crate::harness::{Conn, PATIENCE, Server, Value, args, check, wait_until};
use crate::large::{KB, noise, same};
use crate::leases::lease;
use std::net::TcpListener;
use std::ops::Range;

/// A node of a cluster to be; its bus cannot be at its port + 10000, which may be beyond the last one.
fn node_with(module_args: &[&str]) -> Server {
    let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let timeout = PATIENCE.as_millis().to_string();
    let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", &timeout];
    Server::load(module_args, &settings).unwrap()
}

fn node() -> Server {
    node_with(&[])
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
fn a_payload_comes_in_pieces_to_the_node_of_its_slot() {
    let (_server, mut c) = only_node();
    let (_other, mut there) = another_node(&mut c);
    let piece = noise(300 * KB);
    for n in 0..10 {
        let key = format!("k:{n}");
        let token = lease(&mut c, &key);
        there.err(args!["EXPCACHE.PART", &key, &token, &piece], "MOVED");
        c.int(args!["EXPCACHE.PART", &key, &token, &piece]);
        c.int(args!["EXPCACHE.PART", &key, &token, &piece]);
        let store = args!["EXPCACHE.SET", &key, "end", "LEASE", &token, "PARTS", "TAGS", 1, "t"];
        if n % 2 == 0 {
            c.ok(store);
        } else {
            assert_eq!(c.transaction([store]), [Value::Simple("OK".into())]);
        }
        same(&c.bulk(args!["EXPCACHE.GET", &key]), &[&piece[..], &piece, b"end"].concat(), &key);
    }
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 10);
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
fn the_limit_of_a_tag_is_a_nodes() {
    let (_server, mut c) = only_node();
    let (_other, mut there) = another_node(&mut c);
    let of = |slot: &str, n: usize| format!("EXPCACHE.SET session:{{{slot}}}:{n} v TAGS 1 user:7");
    let slot = c.int("CLUSTER KEYSLOT y");
    let id = there.text("CLUSTER MYID");
    there.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &id]);
    c.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &id]);
    for mode in ["evict", "reject"] {
        for conn in [&mut c, &mut there] {
            conn.cmd("EXPCACHE.CLEAR");
            conn.ok(&format!("EXPCACHE.TYPE SET session PERTAG user: 3 {mode}"));
        }
        for n in 0..5 {
            let replies = [c.cmd(&of("x", n)), there.cmd(&of("y", n))];
            let refused = mode == "reject" && n >= 3;
            assert!(replies.iter().all(|reply| reply.to_string().contains("TAGLIMIT") == refused), "{replies:?}");
            for conn in [&mut c, &mut there] {
                assert_eq!(conn.int("EXPCACHE.COUNT ANY 1 user:7"), usize::min(n + 1, 3) as i64);
            }
        }
        // Over all slots of the node. Later servers show a command the keys of its own slot only, so it cannot know when to refuse.
        if mode == "evict" {
            c.ok(&of("z", 0));
            assert_eq!(c.int("EXPCACHE.COUNT ANY 1 user:7"), 3);
        }
    }
    check(&mut c);
    check(&mut there);
}

#[test]
fn the_limit_of_a_type_spans_slots() {
    let (_server, mut c) = only_node();
    c.ok("EXPCACHE.TYPE SET shot MAXENTRIES 3");
    for n in 0..9 {
        c.ok(args!["EXPCACHE.SET", format!("k:{n}"), "v", "TYPE", "shot"]);
        assert_eq!(c.int("EXPCACHE.COUNT TYPE shot"), i64::min(n + 1, 3));
    }
    assert_eq!(c.cmd("DBSIZE"), 3);
    check(&mut c);
}

#[test]
fn a_lifetime_that_a_transaction_sets_reaches_all_slots() {
    let (_server, mut c) = only_node();
    let keys: Vec<String> = (0..9).map(|n| format!("k:{n}")).collect();
    keys.iter().for_each(|key| c.ok(args!["EXPCACHE.SET", key, "v", "TYPE", "shot", "EX", 3600]));
    c.ok("MULTI");
    c.cmd("SET source 1");
    c.cmd("EXPCACHE.TYPE SET shot LIFETIME 600s");
    c.cmd("EXEC");
    wait_until("no key expires later", || keys.iter().all(|key| c.int(args!["PTTL", key]) <= 600_000));
    check(&mut c);
}

#[test]
fn a_transaction_with_keys_of_one_slot_invalidates_in_all() {
    let (_server, mut c) = only_node();
    for script in [false, true] {
        for n in 0..20 {
            c.ok(args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 1, "t"]);
        }
        if script {
            let text = "redis.call('SET', KEYS[1], 1) return redis.call('EXPCACHE.INVALIDATE.TAG', 't')";
            assert_eq!(c.cmd(args!["EVAL", text, 1, "source"]), 20);
        } else {
            c.ok("MULTI");
            c.cmd("SET source 1");
            c.cmd("EXPCACHE.INVALIDATE.TAG t");
            c.cmd("EXPCACHE.SET source:copy v TAGS 1 t".replace("source:copy", "{source}copy").as_str());
            assert_eq!(c.cmd("EXEC").items()[1], 20);
            assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 1);
        }
        wait_until("their keys are gone", || c.cmd("DBSIZE") == 1);
        check(&mut c);
    }
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
fn what_was_checked_for_a_slot_that_left_meanwhile_is_not_stored() {
    crate::large::in_time(|| {
        let server = node_with(&["workers", "1"]);
        let (mut c, mut waiting) = (server.conn(), server.conn());
        c.ok("CLUSTER ADDSLOTSRANGE 0 16383");
        c.ok("CONFIG SET cluster-require-full-coverage no");
        wait_until_ok(&mut c);
        crate::large::occupy(&mut c, 1);
        let id = waiting.int("CLIENT ID");
        let payload = crate::large::noise(crate::large::MB);
        waiting.send(args!["EXPCACHE.SET", "k", &payload, "HASH", crate::large::etag(&payload)]).unwrap();
        crate::large::wait_until_blocked(&mut c, id);
        let slot = c.int("CLUSTER KEYSLOT k");
        c.ok(args!["CLUSTER", "DELSLOTS", slot]);
        let Value::Error(error) = waiting.receive().unwrap() else { panic!("it is stored") };
        assert!(error.starts_with("TRYAGAIN "), "{error}");
        c.ok(args!["CLUSTER", "ADDSLOTS", slot]);
        assert_eq!(c.cmd("EXISTS k"), 0);
        c.ok(args!["EXPCACHE.SET", "k", &payload, "HASH", crate::large::etag(&payload)]);
        check(&mut c);
    });
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

/// A node without slots that knows the one of `c`.
fn another_node(c: &mut Conn) -> (Server, Conn) {
    let server = node();
    let mut there = server.conn();
    c.ok(args!["CLUSTER", "MEET", "127.0.0.1", server.port(), there.config("cluster-port")]);
    for conn in [c, &mut there] {
        wait_until("the nodes know each other", || conn.text("CLUSTER INFO").contains("cluster_known_nodes:2"));
        wait_until_ok(conn);
    }
    (server, there)
}

/// Two nodes, the first of which has all slots and the entries, and is about to give the slot of `{x}` to the second. The
/// story is told with connections to both and a way to move entries; when it is over, so is the move.
fn while_a_slot_moves(
    entries: impl IntoIterator<Item = Vec<Vec<u8>>>,
    story: impl FnOnce(&mut Conn, &mut Conn, &dyn Fn(&mut Conn, Range<usize>)),
) {
    let (_source, mut c) = only_node();
    c.pipeline(entries);
    let (target, mut there) = another_node(&mut c);
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
        wait_until("they are reclaimed", || conn.cmd("DBSIZE") == 0);
    }
}

/// A node that learns that a slot is another's deletes what it has there, one key after the other; rules follow from each.
#[test]
fn a_slot_that_is_taken_away_fires() {
    let (_source, mut c) = only_node();
    let (_target, mut there) = another_node(&mut c);
    let slot = c.int("CLUSTER KEYSLOT {x}");
    let (from, to) = (c.text("CLUSTER MYID"), there.text("CLUSTER MYID"));
    c.ok("CONFIG SET expcache.reclaim-inline 10000");
    c.pipeline((0..50).map(|n| args!["SET", format!("{{x}}:source:{n}"), "v"]));
    c.pipeline((0..500).map(|n| args!["EXPCACHE.SET", format!("{{x}}:{n}"), "v", "EX", 1000, "TAGS", 1, "t"]));
    c.ok("EXPCACHE.SET elsewhere v TAGS 1 t");
    c.ok("EXPCACHE.RULE SET all KEY *:source:* DO ANY 1 t");
    there.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", &from]);
    there.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &to]);
    wait_until("the keys have gone", || c.cmd(args!["CLUSTER", "COUNTKEYSINSLOT", slot]) == 0);
    // Redis 7.0 does not tell of them.
    let is_told = !c.text("INFO server").contains("redis_version:7.0");
    assert_eq!(c.cmd("EXPCACHE.GET elsewhere") == Value::Nil, is_told);
    check(&mut c);
}

#[test]
fn who_waits_for_a_key_whose_slot_leaves_is_sent_after_it() {
    let (source, mut c) = only_node();
    let (target, mut there) = another_node(&mut c);
    let slot = c.int("CLUSTER KEYSLOT k");
    let (from, to) = (c.text("CLUSTER MYID"), there.text("CLUSTER MYID"));
    crate::leases::lease(&mut c, "k");
    let mut waiting = ["LEASE 1h WAIT 1h", "WAIT 1h"]
        .map(|how| crate::leases::Waiting::new(&source, &*format!("EXPCACHE.FETCH k {how}")));
    there.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", &from]);
    there.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &to]);
    c.ok(args!["CLUSTER", "SETSLOT", slot, "NODE", &to]);
    // In one step, as the node has no key of the slot. Valkey 8 must not be asked where it went.
    let may_be_asked = !c.text("INFO server").contains("valkey_version:8.");
    let moved = format!("MOVED {slot} 127.0.0.1:{}", target.port());
    for waiting in &mut waiting {
        let Value::Error(reply) = waiting.reply() else { panic!("an answer") };
        assert!(if may_be_asked { reply == moved } else { reply.starts_with("TRYAGAIN ") }, "{reply}");
    }
    c.err("EXPCACHE.FETCH k WAIT 1h", "MOVED");
    check(&mut c);
}

#[test]
fn who_waits_for_a_key_whose_slot_is_on_its_way_must_ask_again() {
    let (source, mut c) = only_node();
    let (target, mut there) = another_node(&mut c);
    let slot = c.int("CLUSTER KEYSLOT k");
    let (from, to) = (c.text("CLUSTER MYID"), there.text("CLUSTER MYID"));
    crate::leases::lease(&mut c, "k");
    let mut waiting = crate::leases::Waiting::new(&source, "EXPCACHE.FETCH k LEASE 1h WAIT 1h");
    there.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", &from]);
    c.ok(args!["CLUSTER", "SETSLOT", slot, "MIGRATING", &to]);
    let Value::Error(reply) = waiting.reply() else { panic!("an answer") };
    assert!(reply.starts_with("TRYAGAIN "), "{reply}");
    assert_eq!(
        c.cmd("EXPCACHE.FETCH k LEASE 1h WAIT 1h"),
        Value::Error(format!("ASK {slot} 127.0.0.1:{}", target.port()))
    );
    there.ok("ASKING");
    assert_eq!(there.map("EXPCACHE.FETCH k LEASE 1h WAIT 1h")["status"], "miss");
    check(&mut c);
    check(&mut there);
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

#[test]
fn a_source_that_comes_with_its_slot_is_no_change() {
    let (_source, mut c) = only_node();
    let (target, mut there) = another_node(&mut c);
    let (from, to, slot) = (c.text("CLUSTER MYID"), there.text("CLUSTER MYID"), c.int("CLUSTER KEYSLOT {x}"));
    for conn in [&mut c, &mut there] {
        conn.ok("EXPCACHE.RULE SET r KEY source:{id} DO TYPE made");
    }
    c.ok("SET source:{x} v");
    c.ok("EXPCACHE.SET {y} v TYPE made");
    there.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", from]);
    c.ok(args!["CLUSTER", "SETSLOT", slot, "MIGRATING", &to]);
    assert_eq!(asking(&mut there, "EXPCACHE.SET {x}e v TYPE made"), Value::Simple("OK".into()));
    c.ok(args!["MIGRATE", "127.0.0.1", target.port(), "source:{x}", 0, 5000]);
    assert_eq!(there.cmd("EXPCACHE.COUNT TYPE made"), 1);
    assert_eq!(there.map("EXPCACHE.RULE GET r")["fired"], 0);
    assert_eq!(c.cmd("EXPCACHE.COUNT TYPE made"), 0, "from here it went");
    // What a client writes is a change wherever the slot is.
    assert_eq!(asking(&mut there, "SET source:{x} w"), Value::Simple("OK".into()));
    assert_eq!(there.cmd("EXPCACHE.COUNT TYPE made"), 0);
    check(&mut c);
    check(&mut there);
}

// ---- keys that are kept warm ----

/// Three nodes, each of which has a third of the slots.
fn three_primaries() -> Vec<(Server, Conn)> {
    let mut nodes: Vec<(Server, Conn)> = [(0, 5460), (5461, 10922), (10923, 16383)]
        .map(|(first, last)| {
            let server = node();
            let mut c = server.conn();
            c.ok(args!["CLUSTER", "ADDSLOTSRANGE", first, last]);
            (server, c)
        })
        .into();
    let others: Vec<(u16, String)> =
        nodes.iter_mut().skip(1).map(|(server, c)| (server.port(), c.config("cluster-port"))).collect();
    for (port, bus) in others {
        nodes[0].1.ok(args!["CLUSTER", "MEET", "127.0.0.1", port, bus]);
    }
    for (_, c) in &mut nodes {
        wait_until("the nodes know each other", || c.text("CLUSTER INFO").contains("cluster_known_nodes:3"));
        wait_until("all slots are served", || c.text("CLUSTER INFO").contains("cluster_slots_assigned:16384"));
        wait_until_ok(c);
    }
    nodes
}

/// Stores a key that is kept in mind, and reads it.
fn wanted(c: &mut Conn, key: &str) {
    c.ok(args!["EXPCACHE.SET", key, "v", "TYPE", "trips", "TAGS", 1, "t"]);
    c.pipeline((0..20).map(|_| args!["EXPCACHE.GET", key]));
}

fn warm(c: &mut Conn, how: &str) -> Vec<(String, String)> {
    let jobs = c.cmd(&format!("EXPCACHE.WARM COUNT 100 LEASE 1h {how}"));
    let of = |job: &Value| (job.fields()["key"].text(), job.fields()["token"].to_string());
    jobs.items().iter().map(of).collect()
}

/// What a node offers it also takes: no worker is sent elsewhere when it comes back with a value.
#[test]
fn each_primary_offers_its_own_keys() {
    let mut nodes = three_primaries();
    let keys: Vec<String> = (0..12).map(|n| format!("trips:{n}")).collect();
    for (_, c) in &mut nodes {
        c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 100");
        for key in &keys {
            if !matches!(c.cmd(&["EXPCACHE.GET", key.as_str()]), Value::Error(_)) {
                wanted(c, key);
            }
        }
    }
    let mut offered = Vec::new();
    for (_, c) in &mut nodes {
        c.int("EXPCACHE.INVALIDATE.TAG t");
        let listed = warm(c, "DRYRUN").into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let jobs = c.cmd("EXPCACHE.WARM COUNT 100 LEASE 1h");
        for job in jobs.items().iter().map(Value::fields) {
            c.ok(args!["EXPCACHE.SET", job["key"].text(), "new", "TYPE", "trips", "LEASE", job["token"].text()]);
            offered.push(job["key"].text());
        }
        assert_eq!(listed.len(), jobs.items().len());
        assert!(warm(c, "").is_empty());
    }
    offered.sort();
    let mut expected = keys;
    expected.sort();
    assert_eq!(offered, expected);
    nodes.iter_mut().for_each(|(_, c)| check(c));
}

#[test]
fn what_left_with_its_slot_is_not_offered() {
    let (_source, mut c) = only_node();
    let (_target, mut there) = another_node(&mut c);
    c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 100");
    for key in ["{x}1", "{y}1", "{z}1"] {
        wanted(&mut c, key);
    }
    c.int("EXPCACHE.INVALIDATE.TAG t");
    crate::harness::wait_until_reclaimed(&mut c);
    let slots = ["x", "y"].map(|name| c.int(args!["CLUSTER", "KEYSLOT", name]));
    let (from, to) = (c.text("CLUSTER MYID"), there.text("CLUSTER MYID"));
    for slot in slots {
        there.ok(args!["CLUSTER", "SETSLOT", slot, "IMPORTING", &from]);
        c.ok(args!["CLUSTER", "SETSLOT", slot, "MIGRATING", &to]);
    }
    // The value of one that is on its way would have to be stored in the other node, which knows nothing of the lease.
    there.ok(args!["CLUSTER", "SETSLOT", slots[0], "NODE", &to]);
    c.ok(args!["CLUSTER", "SETSLOT", slots[0], "NODE", &to]);
    assert_eq!(warm(&mut c, "").into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["{z}1"]);
    assert_eq!(c.info("expcache", "expcache_warm_keys"), "1");
    assert!(warm(&mut there, "").is_empty());
    check(&mut c);
    check(&mut there);
}

/// While the cluster is down nothing can be stored. That says nothing of what is worth producing.
#[test]
fn a_cluster_that_is_down_forgets_nothing() {
    let (_server, mut c) = only_node();
    c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 100");
    wanted(&mut c, "{x}1");
    c.int("EXPCACHE.INVALIDATE.TAG t");
    let slot = c.int("CLUSTER KEYSLOT another");
    c.ok(args!["CLUSTER", "DELSLOTS", slot]);
    wait_until("the cluster is down", || c.text("CLUSTER INFO").contains("cluster_state:fail"));
    assert!(warm(&mut c, "").is_empty());
    c.ok(args!["CLUSTER", "ADDSLOTS", slot]);
    wait_until_ok(&mut c);
    assert_eq!(warm(&mut c, "").len(), 1);
    check(&mut c);
}

/// A replica of a cluster lists its own: what it has is its primary's, and clients need not say that they only read.
#[test]
fn a_replica_in_a_cluster_lists_what_is_read_of_it() {
    let (_server, mut c) = only_node();
    let (_other, mut r) = another_node(&mut c);
    c.ok("EXPCACHE.TYPE SET trips TTL 1h WARM 100");
    r.ok(args!["CLUSTER", "REPLICATE", c.text("CLUSTER MYID")]);
    c.ok("EXPCACHE.SET {x}1 v TYPE trips TAGS 1 t");
    let mut reader = r.another();
    reader.ok("READONLY");
    wait_until("the replica has it", || reader.cmd("EXPCACHE.GET {x}1") == "v");
    reader.pipeline((0..20).map(|_| "EXPCACHE.GET {x}1"));
    for how in ["DRYRUN AHEAD 2h", "DRYRUN AHEAD 3h"] {
        assert_eq!(warm(&mut r, how).len(), 1, "{how}");
    }
    check(&mut c);
}

// ---- slots that move in one step: Redis from 8.4, Valkey from 9 on ----

/// How many entries are in the slot that moves.
const CROWD: usize = 4000;
/// How long the child that sends the slot rests after each key, µs: two seconds in all, so that what a test does while the slot
/// moves happens while it moves.
const REST_US: usize = 500;

/// Two nodes, the first of which has all slots and, in the slot of `{x}`, a crowd of entries.
struct Move {
    from: Conn,
    to: Conn,
    slot: i64,
    _servers: [Server; 2],
}

impl Move {
    fn prepare() -> Move {
        let (source, mut from) = only_node();
        let (target, mut to) = another_node(&mut from);
        let entry =
            |slot, n| args!["EXPCACHE.SET", format!("{slot}{n}"), [b'v'; 1000].as_slice(), "TAGS", 2, "all", n % 2];
        from.pipeline((0..CROWD).map(|n| entry("{x}", n)));
        // Slices so short that almost nothing is reclaimed in them.
        for conn in [&mut from, &mut to] {
            conn.ok("CONFIG SET expcache.reclaim-slice-us 1");
        }
        let slot = from.int("CLUSTER KEYSLOT {x}");
        Move { from, to, slot, _servers: [source, target] }
    }

    fn is_valkey(&mut self) -> bool {
        !self.from.info("server", "valkey_version").is_empty()
    }

    fn ask(&mut self) -> Value {
        if self.is_valkey() {
            let target = self.to.text("CLUSTER MYID");
            self.from.cmd(args!["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", self.slot, self.slot, "NODE", target])
        } else {
            self.to.cmd(args!["CLUSTER", "MIGRATION", "IMPORT", self.slot, self.slot])
        }
    }

    /// How often the servers have given up.
    fn failures(&mut self) -> usize {
        let jobs = if self.is_valkey() {
            self.from.cmd("CLUSTER GETSLOTMIGRATIONS")
        } else {
            self.to.cmd("CLUSTER MIGRATION STATUS ALL")
        };
        jobs.to_string().matches("\"failed\"").count()
    }

    /// Starts; `false`, and said so, when the server cannot.
    fn start(&mut self) -> bool {
        let reply = self.ask();
        let unknown = matches!(&reply, Value::Error(text) if text.starts_with("ERR unknown subcommand"));
        if unknown {
            eprintln!("skipped: this server does not move slots in one step");
        } else {
            assert!(!matches!(reply, Value::Error(_)), "{reply}");
        }
        !unknown
    }

    fn start_slowly(&mut self) -> bool {
        self.from.ok(args!["CONFIG", "SET", "rdb-key-save-delay", REST_US]);
        let started = self.start();
        if started {
            let to = &mut self.to;
            wait_until("a quarter has been sent", || entries(to) > CROWD as i64 / 4);
        }
        started
    }

    fn cancel(&mut self) {
        let is_valkey = self.is_valkey();
        let Move { from, to, .. } = self;
        if !is_valkey {
            assert_eq!(to.cmd("CLUSTER MIGRATION CANCEL ALL"), 1);
            wait_until("the source has given up", || {
                from.cmd("CLUSTER MIGRATION STATUS ALL").to_string().contains("\"failed\"")
            });
        } else {
            from.ok("CLUSTER CANCELSLOTMIGRATIONS");
        }
        wait_until("the target has cleaned up", || entries(to) == 0);
    }

    /// Waits until the slot is the other node's, and the source has deleted what it had in it.
    fn finish(&mut self) {
        let mut seen = 0;
        wait_until("the slot is the target's", || {
            // The servers may give up: Valkey 9.1 does at random when a module replicates a command without keys, as an
            // invalidation is (it looks at a flag that nobody has set). Then it is begun again, as an operator would.
            let failures = self.failures();
            if failures > seen {
                seen = failures;
                self.ask();
            }
            self.to.cmd("EXPCACHE.GET {x}1") == Value::bulk([b'v'; 1000])
        });
        let from = &mut self.from;
        // The news takes a moment to the source, which answers until then.
        wait_until(
            "the source knows",
            || matches!(from.cmd("EXPCACHE.GET {x}1"), Value::Error(text) if text.starts_with("MOVED")),
        );
        wait_until("the source has deleted what it had", || entries(from) == 0 && from.cmd("DBSIZE") == 0);
    }

    fn keys_in_slot(&mut self) -> i64 {
        self.from.int(args!["CLUSTER", "COUNTKEYSINSLOT", self.slot])
    }

    /// Asserts that of the slot's entries the odd ones live, in the other node, and nothing else does in either.
    fn only_odd_ones_live(mut self) {
        self.finish();
        let Move { from, to, .. } = &mut self;
        let replies = to.pipeline((0..CROWD).map(|n| args!["EXPCACHE.GET", format!("{{x}}{n}")]));
        let alive: Vec<usize> = (0..CROWD).filter(|n| replies[*n] != Value::Nil).collect();
        assert_eq!(alive, (0..CROWD).filter(|n| n % 2 == 1).collect::<Vec<_>>());
        assert_eq!(entries(to), alive.len() as i64);
        to.ok("CONFIG SET expcache.reclaim-slice-us 500");
        wait_until("the dead are reclaimed", || to.cmd("DBSIZE") == alive.len() as i64);
        for conn in [from, to] {
            check(conn);
            conn.int("EXPCACHE.INVALIDATE.TAG all");
            wait_until("all is reclaimed", || conn.cmd("DBSIZE") == 0);
            assert_eq!(entries(conn), 0);
            check(conn);
        }
    }
}

fn entries(c: &mut Conn) -> i64 {
    c.map("EXPCACHE.STATS")["entries"].int()
}

#[test]
fn what_dies_while_its_slot_moves_is_dead_in_the_other_node_too() {
    let mut m = Move::prepare();
    m.from.pipeline((0..CROWD).map(|n| args!["EXPCACHE.SET", format!("{{y}}{n}"), "v", "TAGS", 1, 0]));
    if !m.start_slowly() {
        return;
    }
    let both = CROWD / 2 + CROWD;
    assert_eq!(m.from.cmd("EXPCACHE.INVALIDATE.TAG 0"), both as i64);
    assert_eq!(m.keys_in_slot(), CROWD as i64 / 2, "unlinked before the reply");
    assert!(m.from.int("DBSIZE") > CROWD as i64, "other slots' are left to the slices");
    assert_eq!(m.from.cmd("EXPCACHE.GET {x}1"), Value::bulk([b'v'; 1000]), "all of it while the slot moved");
    m.from.ok("CONFIG SET expcache.reclaim-slice-us 500");
    m.only_odd_ones_live();
}

#[test]
fn both_nodes_may_be_told_while_a_slot_moves() {
    let mut m = Move::prepare();
    if !m.start_slowly() {
        return;
    }
    assert_eq!(m.from.cmd("EXPCACHE.INVALIDATE.TAG 0"), CROWD as i64 / 2);
    // What it has by now: none, if what the source said of its keys was quicker. The rest comes from the source, which knows.
    let known = m.to.int("EXPCACHE.INVALIDATE.TAG 0");
    assert!((0..=CROWD as i64 / 2).contains(&known), "{known}");
    assert_eq!(m.from.cmd("EXPCACHE.GET {x}1"), Value::bulk([b'v'; 1000]), "all of it while the slot moved");
    m.only_odd_ones_live();
}

#[test]
fn what_died_before_its_slot_moves_stays_dead() {
    let mut m = Move::prepare();
    // Redis takes its time to delete what has left, and meanwhile hides it.
    m.from.cmd("DEBUG ASM-TRIM-METHOD active 100");
    assert_eq!(m.from.cmd("EXPCACHE.INVALIDATE.TAG 0"), CROWD as i64 / 2);
    if !m.start() {
        return;
    }
    m.only_odd_ones_live();
}

#[test]
fn a_slot_that_stays_after_all_is_reclaimed_in_slices_again() {
    let mut m = Move::prepare();
    if !m.start_slowly() {
        return;
    }
    m.cancel();
    assert_eq!(m.from.cmd("EXPCACHE.INVALIDATE.TAG 0"), CROWD as i64 / 2);
    assert!(m.keys_in_slot() > CROWD as i64 / 2, "left to the slices");
    m.from.ok("CONFIG SET expcache.reclaim-slice-us 500");
    wait_until("the dead are reclaimed", || m.keys_in_slot() == CROWD as i64 / 2);
    check(&mut m.from);
    check(&mut m.to);
}

#[test]
fn what_a_rule_made_go_while_its_slot_moves_is_dead_in_the_other_node_too() {
    let mut m = Move::prepare();
    m.from.ok("EXPCACHE.RULE SET few KEY few{{x}} DO ANY 1 few");
    m.from.ok("EXPCACHE.RULE SET even KEY go{{x}} DO ANY 1 0");
    m.to.ok("EXPCACHE.RULE SET odd KEY came{{x}} DO ANY 1 1");
    m.from.ok("SET came{x} v");
    m.from.pipeline((0..100).map(|n| args!["EXPCACHE.SET", format!("{{x}}few{n}"), "v", "TAGS", 1, "few"]));
    if !m.start_slowly() {
        return;
    }
    m.from.ok("SET few{x} v");
    // How many follow before the reply is bounded by time.
    assert!(m.keys_in_slot() < 100 + CROWD as i64, "{}", m.keys_in_slot());
    m.from.ok("SET go{x} v");
    m.from.ok("CONFIG SET expcache.reclaim-slice-us 500");
    m.finish();
    assert_eq!(m.to.cmd("EXPCACHE.COUNT ANY 1 few"), 0);
    assert_eq!(m.to.map("EXPCACHE.RULE GET odd")["fired"], 0, "it came with its slot");
    assert_eq!(m.to.cmd("EXPCACHE.COUNT ANY 1 0"), 0);
    assert_eq!(m.to.cmd("EXPCACHE.COUNT ANY 1 1"), CROWD as i64 / 2);
    m.to.ok("SET came{x} w");
    assert_eq!(m.to.cmd("EXPCACHE.COUNT ANY 1 1"), 0);
    check(&mut m.from);
    check(&mut m.to);
}
