//! TOP: the first entries by hits, size, cost and time saved, against a model of what was done.

use std::collections::BTreeMap;

use crate::harness::{Conn, HOSTILE, Random, Server, Stop, Value, args, check, refused, wait_until};

/// The most that are told of.
const TOLD: usize = 64;

fn keys(c: &mut Conn, command: &str) -> Vec<String> {
    c.cmd(command).items().iter().map(|line| line.fields()["key"].text()).collect()
}

/// What the cache should know of an entry.
struct Model {
    type_name: &'static str,
    hits: usize,
    size: usize,
    cost: usize,
}

impl Model {
    fn figure(&self, by: &str) -> usize {
        match by {
            "hits" => self.hits,
            "size" => self.size,
            "cost" => self.cost,
            _ => self.hits * self.cost,
        }
    }
}

fn wait_until_ranked(c: &mut Conn) {
    wait_until("rankings are complete", || c.info("expcache", "expcache_ranking") == "0");
}

/// Asserts that each ranking tells the largest figures there are, of entries that have them.
fn is_right(c: &mut Conn, model: &BTreeMap<String, Model>) {
    for (by, of) in
        ["hits", "size", "cost", "saved"].into_iter().flat_map(|by| ["", "trips", "vehicles"].map(|of| (by, of)))
    {
        let entries = model.values().filter(|entry| of.is_empty() || of == entry.type_name);
        let mut expected: Vec<usize> = entries.map(|entry| entry.figure(by)).filter(|figure| *figure > 0).collect();
        expected.sort_unstable_by_key(|figure| std::cmp::Reverse(*figure));
        expected.truncate(TOLD);
        let of = if of.is_empty() { String::new() } else { format!("TYPE {of}") };
        let lines = c.cmd(&format!("EXPCACHE.TOP {of} BY {by} COUNT 1000"));
        let told: Vec<usize> = lines.items().iter().map(|line| checked(line, model).figure(by)).collect();
        assert_eq!(told, expected, "{of} by {by}");
    }
}

/// The entry that a line is about; the line must say what it is.
fn checked<'m>(line: &Value, model: &'m BTreeMap<String, Model>) -> &'m Model {
    let line = line.fields();
    let entry = &model[&line["key"].text()];
    assert_eq!(line.names(), ["key", "type", "hits", "size", "cost", "last-access"]);
    assert_eq!(line["type"], entry.type_name);
    assert_eq!(
        [&line["hits"], &line["size"], &line["cost"]].map(Value::int),
        [entry.hits, entry.size, entry.cost].map(|n| n as i64)
    );
    entry
}

#[test]
fn the_first_are_the_first_whatever_was_done() {
    let server = Server::start();
    let (mut c, mut random, mut model) = (server.conn(), Random::new(11), BTreeMap::<String, Model>::new());
    for step in 0..6000 {
        let key = format!("k{}", random.below(400));
        match random.below(10) {
            0..3 => {
                let type_name = ["trips", "vehicles"][random.below(2)];
                let (size, cost) = (random.below(300), random.below(5) * random.below(1000));
                c.ok(args!["EXPCACHE.SET", &key, "x".repeat(size), "TYPE", type_name, "COST", cost]);
                model.insert(key, Model { type_name, hits: 0, size, cost });
            }
            3 => {
                let there = model.remove(&key).is_some();
                assert_eq!(c.int(args!["EXPCACHE.DEL", &key]), i64::from(there));
            }
            4 => {
                let to = format!("k{}", random.below(400));
                if let Some(entry) = model.remove(&key) {
                    c.ok(args!["RENAME", &key, &to]);
                    model.insert(to, entry);
                }
            }
            _ => {
                c.cmd(args!["EXPCACHE.GET", &key]);
                model.entry(key).and_modify(|entry| entry.hits += 1);
            }
        }
        if step % 500 == 499 {
            wait_until_ranked(&mut c);
            is_right(&mut c, &model);
        }
    }
    check(&mut c);
}

#[test]
fn a_ranking_that_lost_its_first_finds_the_next() {
    let server = Server::start();
    let mut c = server.conn();
    let set = |n: usize| {
        let crowd = if n >= 2700 { "first" } else { "others" };
        args!["EXPCACHE.SET", format!("k{n}"), "x".repeat(n / 10), "COST", n, "TAGS", 1, crowd]
    };
    c.pipeline((0..3000).map(set));
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY cost COUNT 2"), ["k2999", "k2998"]);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG first"), 300);
    // What is invalidated is nowhere, from the reply on.
    assert!(keys(&mut c, "EXPCACHE.TOP BY cost COUNT 64").iter().all(|key| key[1..].parse::<u32>().unwrap() < 2700));
    let expected: Vec<String> = (0..TOLD).map(|n| format!("k{}", 2699 - n)).collect();
    wait_until("the next are found", || keys(&mut c, "EXPCACHE.TOP BY cost COUNT 64") == expected);
    check(&mut c);
}

#[test]
fn a_database_has_its_own() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a 333 COST 1");
    c.ok("SELECT 1");
    c.ok("EXPCACHE.SET b 22 COST 1");
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), ["b"]);
    c.ok("SWAPDB 0 1");
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), ["a"]);
    c.int("MOVE a 0");
    // Some versions of Valkey go along with a MOVE.
    c.ok("SELECT 1");
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), [""; 0]);
    c.ok("SELECT 0");
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), ["a", "b"]);
    c.ok("FLUSHDB");
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), [""; 0]);
    check(&mut c);
}

#[test]
fn what_is_over_is_left_out() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    c.ok("EXPCACHE.SET brief 55555 PX 1");
    c.ok("EXPCACHE.SET lasting 4444");
    c.ok(args!["EXPCACHE.SET", "empty", ""]);
    wait_until("its time is over", || c.cmd("EXISTS brief") == 0);
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), ["lasting"]);
}

#[test]
fn looking_counts_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v COST 5");
    c.cmd("EXPCACHE.FETCH k");
    let before = c.map("EXPCACHE.STATS");
    let line = c.cmd("EXPCACHE.TOP BY saved").items()[0].fields();
    assert_eq!(line["last-access"], c.map("EXPCACHE.META k")["last-access"].int());
    assert_eq!(c.cmd("EXPCACHE.TOP").items()[0].fields(), line);
    assert_eq!(c.map("EXPCACHE.STATS")["hits"], before["hits"].int());
}

#[test]
fn any_key_of_any_type_can_be_first() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        for name in HOSTILE {
            c.ok(args!["EXPCACHE.SET", name, "v", "TYPE", name]);
            let lines = c.cmd(args!["EXPCACHE.TOP", "TYPE", name, "BY", "SIZE"]);
            let line = lines.items()[0].fields();
            assert_eq!((line["key"].as_bytes(), line["type"].as_bytes()), (name, name));
            assert_eq!(line["cost"], Value::Nil, "nobody said what it cost");
        }
        assert_eq!(c.cmd("EXPCACHE.TOP BY size").items().len(), HOSTILE.len());
    }
}

#[test]
fn who_may_not_read_a_key_does_not_see_it() {
    let server = Server::start();
    let mut admin = server.conn();
    for n in 1..40 {
        admin.ok(args!["EXPCACHE.SET", format!("app:{n}"), "x".repeat(n)]);
        admin.ok(args!["EXPCACHE.SET", format!("other:{n}"), "x".repeat(n + 1)]);
    }
    for (rules, first) in [("%R~app:* +@all", "app:39"), ("~app:* +@all", "app:39"), ("~* +@all", "other:39")] {
        admin.int("ACL DELUSER someone");
        admin.ok(&format!("ACL SETUSER someone on >secret {rules}"));
        let mut c = server.conn();
        c.ok("AUTH someone secret");
        let seen = keys(&mut c, "EXPCACHE.TOP BY size COUNT 64");
        assert_eq!(seen[0], first, "{rules}");
        assert!(rules.contains("~* ") || seen.len() > 20 && seen.iter().all(|key| key.starts_with("app:")), "{seen:?}");
    }
    admin.int("ACL DELUSER someone");
    admin.ok("ACL SETUSER someone on >secret %W~* +@all");
    let mut c = server.conn();
    c.ok("AUTH someone secret");
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), [""; 0]);
    admin.ok("ACL SETUSER someone -expcache.top");
    c.err("EXPCACHE.TOP", "NOPERM");
}

#[test]
fn a_restart_keeps_what_is_in_the_entries() {
    let mut server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET a 4444 COST 10");
    c.ok("EXPCACHE.SET b 333 COST 20");
    c.cmd("EXPCACHE.GET a");
    server.restart(Stop::Save);
    let mut c = server.conn();
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY size"), ["a", "b"]);
    assert_eq!(keys(&mut c, "EXPCACHE.TOP BY cost"), ["b", "a"]);
    assert_eq!(keys(&mut c, "EXPCACHE.TOP"), [""; 0], "hits begin at nothing");
    check(&mut c);
}

#[test]
fn a_replica_ranks_by_its_own_hits() {
    let (master, replica) = (Server::start(), Server::start());
    let (mut c, mut r) = (master.conn(), replica.conn());
    c.ok("EXPCACHE.MSET 2 a 1 b 1");
    replica.replica_of(&master);
    // While the server forks, hits of entries stand still.
    wait_until("the master's child is done", || c.info("persistence", "rdb_bgsave_in_progress") == "0");
    c.cmd("EXPCACHE.GET a");
    r.cmd("EXPCACHE.GET b");
    assert_eq!(keys(&mut c, "EXPCACHE.TOP"), ["a"]);
    assert_eq!(keys(&mut r, "EXPCACHE.TOP"), ["b"]);
}

#[test]
fn what_it_does_not_understand_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    for command in [
        "TOP x",
        "TOP TYPE",
        "TOP BY",
        "TOP BY name",
        "TOP COUNT",
        "TOP COUNT x",
        "TOP COUNT -1",
        "TOP BY hits BY hits",
    ] {
        refused(&mut c, &format!("EXPCACHE.{command}"), "ERR");
    }
    assert_eq!(c.cmd("EXPCACHE.TOP COUNT 0").items().len(), 0);
    assert_eq!(c.cmd("expcache.top type trips by hits").items().len(), 0);
}
