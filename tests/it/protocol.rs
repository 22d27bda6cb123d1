//! The commands as the server and its clients know them: what they are called, their arity, keys and documentation, their
//! replies in both protocols, and their part in transactions, scripts and access rules.

use crate::harness::{Conn, Server, Value, check, refused};

#[derive(Clone, Copy, PartialEq)]
enum Access {
    Read,
    Write,
    /// Needs the right to write, and changes no key.
    Hold,
    /// Names no key.
    Keyless,
}
use Access::{Hold, Keyless, Read, Write};

struct Row {
    name: &'static str,
    arity: i64,
    example: &'static str,
    keys: &'static [&'static str],
    access: Access,
}

const fn row(
    name: &'static str,
    arity: i64,
    example: &'static str,
    keys: &'static [&'static str],
    access: Access,
) -> Row {
    Row { name, arity, example, keys, access }
}

const COMMANDS: &[Row] = &[
    row("expcache.set", -3, "k v TAGS 1 t", &["k"], Write),
    row("expcache.mset", -4, "2 a 1 b 2 TAGS 1 t", &["a", "b"], Write),
    row("expcache.part", 4, "k 0123456789abcdef0123456789abcdef piece", &["k"], Hold),
    row("expcache.get", 2, "k", &["k"], Read),
    row("expcache.mget", -2, "a b c", &["a", "b", "c"], Read),
    row("expcache.fetch", -2, "k RANGE 0 1", &["k"], Read),
    row("expcache.meta", 2, "k", &["k"], Read),
    row("expcache.del", -2, "a b", &["a", "b"], Write),
    row("expcache.keyfor", -2, "t COMPANY 1", &[], Keyless),
    row("expcache.invalidate.tag", -2, "t u", &[], Keyless),
    row("expcache.invtag", -2, "t u", &[], Keyless),
    row("expcache.purge", -3, "ANY 2 t u DRYRUN", &[], Keyless),
    row("expcache.clear", -1, "SOFT", &[], Keyless),
    row("expcache.count", -3, "TYPE t", &[], Keyless),
    row("expcache.scan", -2, "0 ANY 1 t COUNT 5", &[], Keyless),
    row("expcache.tags", -2, "0 MATCH t*", &[], Keyless),
    row("expcache.renew", 4, "k t 1s", &["k"], Hold),
    row("expcache.release", -3, "k t BACKOFF 1s", &["k"], Hold),
    row("expcache.throttle", -5, "k POLICY 5 1h COST 0", &["k"], Hold),
    row("expcache.warm", -1, "TYPES 1 t COUNT 5 DRYRUN", &[], Keyless),
    row("expcache.advise", -1, "TYPE t COUNT 5", &[], Keyless),
    row("expcache.stats", -1, "", &[], Keyless),
    row("expcache.health", 1, "", &[], Keyless),
    row("expcache.audit", -1, "AFTER 5 COUNT 5", &[], Keyless),
    row("expcache.top", -1, "TYPE t BY size COUNT 5", &[], Keyless),
    row("expcache.selftest", 1, "", &[], Keyless),
    row("expcache.type", -2, "LIST", &[], Keyless),
    row("expcache.rule", -2, "LIST", &[], Keyless),
    row("expcache.event", -2, "POST:/v1/user/7 FIELD company 42 DRYRUN", &[], Keyless),
    row("expcache.debug", -2, "CHECK", &[], Keyless),
    row("expcache.restore", 5, "k -1 m p", &["k"], Write),
];

const CONTAINERS: [(&str, &[&str]); 3] = [
    ("expcache.type", &["del", "get", "help", "list", "set"]),
    ("expcache.rule", &["del", "get", "help", "list", "set"]),
    ("expcache.debug", &["check", "help"]),
];

/// `COMMAND INFO` of one command.
#[track_caller]
fn info(c: &mut Conn, name: &str) -> Vec<Value> {
    c.cmd(&["COMMAND", "INFO", name]).items()[0].items().to_vec()
}

fn lower(value: &Value) -> Vec<String> {
    value.sorted_texts().iter().map(|text| text.to_lowercase()).collect()
}

// ---- what the server knows of the commands

#[test]
fn there_are_these_commands() {
    let server = Server::start();
    let mut c = server.conn();
    let mut found = lower(&c.cmd("COMMAND LIST FILTERBY MODULE expcache"));
    found.retain(|name| !name.contains('|'));
    let mut expected: Vec<&str> = COMMANDS.iter().map(|row| row.name).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn arity_and_flags_are_known() {
    let server = Server::start();
    let mut c = server.conn();
    for row in COMMANDS {
        let info = info(&mut c, row.name);
        assert_eq!(info[1], row.arity, "{}", row.name);
        let flags = lower(&info[2]);
        let has = |flag: &str| flags.iter().any(|f| f == flag);
        assert!(has("module"), "{}", row.name);
        assert!(!(has("readonly") && has("write")), "{}", row.name);
        match row.access {
            Read => assert!(has("readonly"), "{}: {flags:?}", row.name),
            Write => assert!(has("write"), "{}: {flags:?}", row.name),
            Hold => assert!(!has("write") && !has("readonly"), "{}: {flags:?}", row.name),
            Keyless => {}
        }
    }
    for name in ["expcache.count", "expcache.scan", "expcache.tags"] {
        assert!(lower(&info(&mut c, name)[2]).contains(&"readonly".to_string()), "{name}");
    }
    for (name, expected) in [
        ("expcache.set", true),
        ("expcache.mset", true),
        ("expcache.del", false),
        ("expcache.invalidate.tag", false),
        ("expcache.invtag", false),
        ("expcache.purge", false),
        ("expcache.clear", false),
        ("expcache.event", false),
    ] {
        let flags = lower(&info(&mut c, name)[2]);
        assert!(flags.contains(&"write".to_string()), "{name}");
        assert_eq!(flags.contains(&"denyoom".to_string()), expected, "{name}");
    }
}

#[test]
fn keys_are_found_in_every_command() {
    let server = Server::start();
    let mut c = server.conn();
    for row in COMMANDS {
        let command = format!("COMMAND GETKEYS {} {}", row.name, row.example);
        if row.access == Keyless {
            c.err(&command, "ERR");
            continue;
        }
        let keys: Vec<String> = c.cmd(&command).items().iter().map(Value::text).collect();
        assert_eq!(keys, row.keys, "{}", row.name);
    }
}

#[test]
fn key_specs_say_how_a_key_is_used() {
    let server = Server::start();
    let mut c = server.conn();
    for row in COMMANDS {
        let specs = info(&mut c, row.name)[8].clone();
        assert_eq!(specs.items().is_empty(), row.access == Keyless, "{}", row.name);
        for spec in specs.items() {
            let flags = lower(&spec.fields()["flags"]);
            let has = |flag: &str| flags.iter().any(|f| f == flag);
            match row.access {
                Read => assert!(has("ro") && has("access"), "{}: {flags:?}", row.name),
                _ => assert!(!has("ro"), "{}: {flags:?}", row.name),
            }
        }
    }
}

#[test]
fn every_command_is_documented() {
    let server = Server::start();
    for mut c in server.conns() {
        for row in COMMANDS {
            let docs = c.map(&["COMMAND", "DOCS", row.name]);
            let name = docs.names()[0];
            assert_eq!(name.to_lowercase(), row.name);
            let docs = docs[name].fields();
            assert!(docs["summary"].text().len() > 10, "{}", row.name);
            let has_parts = docs.get("arguments").is_some() || docs.get("subcommands").is_some();
            assert!(has_parts || row.arity == 1, "{}", row.name);
        }
    }
}

#[test]
fn containers_list_their_subcommands() {
    let server = Server::start();
    let mut c = server.conn();
    for (container, expected) in CONTAINERS {
        let subcommands = info(&mut c, container)[9].clone();
        let mut names: Vec<String> =
            subcommands.items().iter().map(|sub| sub.items()[0].text().to_lowercase()).collect();
        names.sort();
        let expected: Vec<String> = expected.iter().map(|sub| format!("{container}|{sub}")).collect();
        assert_eq!(names, expected);
    }
}

/// A cluster client sends it to every shard and adds up the counts.
#[test]
fn invalidation_says_where_it_belongs() {
    let server = Server::start();
    let mut c = server.conn();
    for name in [
        "expcache.invalidate.tag",
        "expcache.invtag",
        "expcache.purge",
        "expcache.clear",
        "expcache.event",
        "expcache.count",
    ] {
        let tips = lower(&info(&mut c, name)[7]);
        for tip in ["request_policy:all_shards", "response_policy:agg_sum"] {
            assert!(tips.iter().any(|t| t == tip), "{name}: {tips:?}");
        }
    }
}

#[test]
fn too_few_and_too_many_arguments() {
    let server = Server::start();
    for mut c in server.conns() {
        const PREFIX: &str = "ERR wrong number of arguments";
        for row in COMMANDS {
            let mut words = vec![row.name];
            while (words.len() as i64) < row.arity.abs() {
                refused(&mut c, &words[..], PREFIX);
                words.push("1");
            }
            if row.arity > 0 {
                words.push("1");
                refused(&mut c, &words[..], PREFIX);
            }
        }
        for command in [
            "EXPCACHE.TYPE SET",
            "EXPCACHE.TYPE GET",
            "EXPCACHE.TYPE GET a b",
            "EXPCACHE.TYPE LIST a",
            "EXPCACHE.TYPE DEL",
            "EXPCACHE.TYPE DEL a b",
            "EXPCACHE.RULE SET a KEY b DO TYPE",
            "EXPCACHE.RULE GET",
            "EXPCACHE.RULE LIST a",
            "EXPCACHE.RULE DEL a b",
            "EXPCACHE.DEBUG CHECK a",
        ] {
            refused(&mut c, command, PREFIX);
        }
    }
}

#[test]
fn an_unknown_subcommand() {
    let server = Server::start();
    for mut c in server.conns() {
        refused(&mut c, "EXPCACHE.TYPE NONSENSE", "ERR unknown subcommand");
        refused(&mut c, "EXPCACHE.TYPE NONSENSE a b c", "ERR unknown subcommand");
        refused(&mut c, "EXPCACHE.DEBUG NONSENSE", "ERR unknown subcommand");
    }
}

// ---- replies in both protocols

#[test]
fn maps_are_flat_arrays_in_resp2_and_maps_in_resp3() {
    let server = Server::start();
    let (mut two, mut three) = (server.conn(), server.conn());
    three.hello3();
    two.ok("EXPCACHE.SET k v TAGS 1 t");
    for command in [
        "EXPCACHE.FETCH k",
        "EXPCACHE.FETCH nothing",
        "EXPCACHE.META k",
        "EXPCACHE.TYPE GET trips",
        "EXPCACHE.STATS",
        "EXPCACHE.STATS TYPE trips",
    ] {
        let (flat, map) = (two.cmd(command), three.cmd(command));
        assert!(matches!(flat, Value::Array(_)), "{command}: {flat}");
        assert!(matches!(map, Value::Map(_)), "{command}: {map}");
        assert_eq!(flat.fields().names(), map.fields().names(), "{command}");
    }
    let (flat, map) = (two.map("EXPCACHE.STATS"), three.map("EXPCACHE.STATS"));
    assert!(matches!(flat["types"], Value::Array(_)));
    assert!(matches!(map["types"], Value::Map(_)));
    assert!(matches!(flat["hit-rate"], Value::Bulk(_)));
    assert!(matches!(map["hit-rate"], Value::Double(_)));
}

#[test]
fn other_replies_are_the_same_in_both() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.SET k v TAGS 1 t");
        assert_eq!(c.cmd("EXPCACHE.GET k"), Value::bulk("v"));
        assert_eq!(c.cmd("EXPCACHE.GET nothing"), Value::Nil);
        let values = vec![Value::bulk("v"), Value::Nil];
        assert_eq!(c.cmd("EXPCACHE.MGET k nothing"), Value::Array(values));
        assert_eq!(c.cmd("EXPCACHE.SET k v NX"), Value::Nil);
        assert!(matches!(c.cmd("EXPCACHE.KEYFOR t"), Value::Bulk(_)));
        assert!(matches!(c.cmd("EXPCACHE.TYPE LIST"), Value::Array(_)));
        assert!(matches!(c.map("EXPCACHE.META k")["tags"], Value::Array(_)));
        assert!(matches!(c.map("EXPCACHE.TYPE GET trips")["formats"], Value::Array(_)));
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), Value::Int(1));
        assert_eq!(c.cmd("EXPCACHE.TYPE DEL nosuch"), Value::Int(0));
        assert_eq!(c.cmd("EXPCACHE.STATS RESET"), Value::Simple("OK".into()));
    }
}

// ---- transactions

#[test]
fn a_transaction_runs_as_one() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("MULTI");
        for command in [
            "EXPCACHE.SET k v TAGS 1 t",
            "EXPCACHE.GET k",
            "EXPCACHE.SET k other LEASE unknown",
            "EXPCACHE.INVALIDATE.TAG t",
            "EXPCACHE.GET k",
            "EXPCACHE.MSET 2 a 1 b 2",
        ] {
            assert_eq!(c.cmd(command), Value::Simple("QUEUED".into()));
        }
        let replies = c.cmd("EXEC");
        let replies = replies.items();
        assert_eq!(replies[0], Value::Simple("OK".into()));
        assert_eq!(replies[1], "v");
        assert!(matches!(&replies[2], Value::Error(text) if text.starts_with("LEASELOST")));
        assert_eq!(replies[3], 1);
        assert_eq!(replies[4], Value::Nil);
        assert_eq!(replies[5], Value::Simple("OK".into()));
        check(&mut c);
    }
}

#[test]
fn a_transaction_with_a_malformed_command_does_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("MULTI");
    c.cmd("EXPCACHE.SET k v");
    c.err("EXPCACHE.GET", "ERR wrong number of arguments");
    c.err("EXEC", "EXECABORT");
    assert_eq!(c.int("EXISTS k"), 0);
    check(&mut c);
}

/// Whether a transaction that watches `k` still runs after `command` of another client.
fn runs_after(server: &Server, command: &str) -> bool {
    let (mut watcher, mut other) = (server.conn(), server.conn());
    watcher.ok("WATCH k");
    let reply = other.cmd(command);
    assert!(!matches!(reply, Value::Error(_)), "{command}: {reply}");
    watcher.ok("MULTI");
    watcher.cmd("PING");
    watcher.cmd("EXEC") != Value::Nil
}

#[test]
fn a_watched_key_is_touched_by_what_changes_it() {
    let server = Server::start();
    let mut c = server.conn();
    for command in [
        "EXPCACHE.SET k v2",
        "EXPCACHE.SET k v2 XX",
        "EXPCACHE.SET k v2 PXAT 1000",
        "EXPCACHE.MSET 2 other v k v",
        "EXPCACHE.DEL k",
        "EXPCACHE.INVALIDATE.TAG t",
    ] {
        c.ok("EXPCACHE.SET k v TAGS 1 t");
        assert!(!runs_after(&server, command), "{command}");
    }
    c.int("EXPCACHE.DEL k");
    assert!(!runs_after(&server, "EXPCACHE.SET k v NX"));
    check(&mut c);
}

#[test]
fn a_watched_key_is_not_touched_by_what_leaves_it() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TAGS 1 t");
    for command in [
        "EXPCACHE.SET k v2 NX",
        "EXPCACHE.SET k v2 IFMATCH d41d8cd98f00b204e9800998ecf8427e",
        "EXPCACHE.MSET 2 other v k v NX",
        "EXPCACHE.GET k",
        "EXPCACHE.MGET k other",
        "EXPCACHE.FETCH k",
        "EXPCACHE.META k",
        "EXPCACHE.DEL other",
        "EXPCACHE.INVALIDATE.TAG nosuch",
        "EXPCACHE.STATS",
        "EXPCACHE.TYPE SET trips TTL 2h",
    ] {
        assert!(runs_after(&server, command), "{command}");
    }
    assert!(runs_after(&server, "EXPCACHE.SET other v"));
}

// ---- scripts

fn eval(c: &mut Conn, script: &str) -> Value {
    c.cmd(&["EVAL", script, "1", "k"])
}

#[test]
fn scripts_store_read_and_invalidate() {
    let server = Server::start();
    for mut c in server.conns() {
        let set = "return redis.call('EXPCACHE.SET', KEYS[1], 'v', 'TAGS', 1, 't')";
        assert_eq!(eval(&mut c, set), Value::Simple("OK".into()));
        assert_eq!(eval(&mut c, "return redis.call('EXPCACHE.GET', KEYS[1])"), "v");
        let status = "redis.setresp(3) return redis.call('EXPCACHE.FETCH', KEYS[1]).map.status";
        assert_eq!(eval(&mut c, status), "hit");
        let both =
            "local n = redis.call('EXPCACHE.INVALIDATE.TAG', 't') return {n, redis.call('EXPCACHE.GET', KEYS[1])}";
        // A script returns false for null, which a client sees as null again.
        assert_eq!(eval(&mut c, both), Value::Array(vec![Value::Int(1), Value::Nil]));
        check(&mut c);
    }
}

#[test]
fn errors_pass_through_scripts() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("SET native v");
    c.ok("EXPCACHE.SET k v");
    for (call, prefix) in [
        ("'EXPCACHE.GET', 'native'", "WRONGTYPE"),
        ("'EXPCACHE.SET', 'native', 'v'", "WRONGTYPE"),
        ("'EXPCACHE.SET', KEYS[1], 'v', 'LEASE', 'x'", "LEASELOST"),
        ("'EXPCACHE.SET', KEYS[1], 'v', 'EX', 0", "ERR invalid expire time"),
        ("'EXPCACHE.SET', KEYS[1], 'v', 'NONSENSE'", "ERR syntax error"),
    ] {
        for function in ["call", "pcall"] {
            let script = format!("return redis.{function}({call})");
            c.err(&["EVAL", &script, "2", "k", "native"], prefix);
        }
    }
    let caught = "local r = redis.pcall('EXPCACHE.GET', KEYS[1]) return r.err and 'caught'";
    assert_eq!(c.cmd(&["EVAL", caught, "1", "native"]), "caught");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
    check(&mut c);
}

#[test]
fn read_only_scripts_may_read_only() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    for command in ["GET", "MGET", "FETCH", "META"] {
        let script = format!("return redis.call('EXPCACHE.{command}', KEYS[1])");
        assert_ne!(c.cmd(&["EVAL_RO", &script, "1", "k"]), Value::Nil, "{command}");
    }
    for call in ["'EXPCACHE.SET', KEYS[1], 'v2'", "'EXPCACHE.DEL', KEYS[1]", "'EXPCACHE.INVALIDATE.TAG', 't'"] {
        let script = format!("return redis.call({call})");
        refused(&mut c, &["EVAL_RO", &script, "1", "k"], "ERR Write commands are not allowed");
    }
}

// ---- access and memory

/// A connection of a user with these rules.
fn user(server: &Server, rules: &str) -> Conn {
    let mut c = server.conn();
    c.ok(&format!("ACL SETUSER someone reset on nopass +@all {rules}"));
    c.ok("AUTH someone any");
    c
}

#[test]
fn key_permissions_hold() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 2 a:1 v b:1 v");

    let mut reader = user(&server, "%R~a:*");
    assert_eq!(reader.cmd("EXPCACHE.GET a:1"), "v");
    assert_eq!(reader.cmd("EXPCACHE.MGET a:1 a:2").items().len(), 2);
    assert_eq!(reader.map("EXPCACHE.FETCH a:1")["status"], "hit");
    assert_eq!(reader.map("EXPCACHE.META a:1")["size"], 1);
    for command in [
        "EXPCACHE.GET b:1",
        "EXPCACHE.MGET a:1 b:1",
        "EXPCACHE.FETCH b:1",
        "EXPCACHE.META b:1",
        "EXPCACHE.SET a:1 v",
        "EXPCACHE.MSET 1 a:1 v",
        "EXPCACHE.DEL a:1",
    ] {
        reader.err(command, "NOPERM");
    }

    let mut owner = user(&server, "~a:*");
    owner.ok("EXPCACHE.SET a:1 v2");
    owner.err("EXPCACHE.SET b:1 v2", "NOPERM");
    owner.err("EXPCACHE.MSET 2 a:1 v3 b:1 v3", "NOPERM");
    owner.err("EXPCACHE.DEL a:1 b:1", "NOPERM");
    assert_eq!(owner.cmd("EXPCACHE.GET a:1"), "v2");
    assert_eq!(c.cmd("EXPCACHE.GET b:1"), "v");
    check(&mut c);
}

#[test]
fn a_full_server_refuses_to_store_and_does_all_else() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.MSET 2 a v b v TAGS 1 t");
    c.ok("CONFIG SET maxmemory 1");
    refused(&mut c, "EXPCACHE.SET a v2", "OOM");
    refused(&mut c, "EXPCACHE.MSET 1 new v2", "OOM");
    assert_eq!(c.cmd("EXPCACHE.GET a"), "v");
    assert_eq!(c.int("EXPCACHE.DEL a"), 1);
    assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG t"), 1);
    check(&mut c);
}

/// Some servers look for the keys of a command on threads of their own, and a command of ours runs on the main one only.
#[test]
fn commands_come_over_threads_and_are_written_to_the_append_only_file() {
    let server = Server::with(&["--io-threads", "4", "--appendonly", "yes"]);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let mut c = server.conn();
            scope.spawn(move || {
                for round in 0..100 {
                    let commands = (0..64).map(|n| match n % 3 {
                        0 => format!("EXPCACHE.MSET 2 a:{n} {round} b:{client} v TAGS 1 t{n}"),
                        1 => format!("EXPCACHE.SET a:{n} v TAGS 2 t{n} u"),
                        _ => format!("SET a:{n}:native v"),
                    });
                    let replies = c.pipeline(commands.collect::<Vec<_>>().iter().map(String::as_str));
                    assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())));
                }
            });
        }
    });
    check(&mut server.conn());
}
