//! Rules: a native key that is written, or an event that is told, invalidates in the same step. What a rule may say, which
//! changes it follows, whose rights count, and what is kept of it. `mix.rs` plays a random mix against a naive model, `readers.rs` has
//! clients look for a new source beside an old entry, `hostile.rs` looks for ways around rules, and for what rules make expensive.

mod hostile;
mod mix;
mod readers;

use crate::harness::{
    Arg, Conn, HOSTILE, Picture, Server, Stop, Value, args, check, now_ms, refused, wait_until, wait_until_reclaimed,
};
use crate::leases::{LONG, Waiting, granted, lease};

/// Every key is its own tag.
const EACH: &str = "EXPCACHE.RULE SET each KEY {key} DO ANY 1 of:{key}";

/// An entry that was made from a key.
fn entry_of(c: &mut Conn, key: &str) {
    c.ok(args!["EXPCACHE.SET", format!("entry:{key}"), "old", "TAGS", 1, format!("of:{key}")]);
}

fn is_alive(c: &mut Conn, key: &str) -> bool {
    c.cmd(args!["EXPCACHE.GET", format!("entry:{key}")]) != Value::Nil
}

fn fired(c: &mut Conn, rule: &str) -> i64 {
    c.map(&["EXPCACHE.RULE", "GET", rule])["fired"].int()
}

// ---- what a rule says

#[test]
fn a_rule_is_shown_as_it_was_set() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.RULE SET users KEY user:{id} DO ANY 2 user:{id} users TYPES 2 trips reports");
        c.ok("expcache.rule set api event POST* do match {x}:* soft");
        assert_eq!(c.cmd("EXPCACHE.RULE LIST"), Value::Array(vec![Value::bulk("api"), Value::bulk("users")]));
        let rule = c.map("EXPCACHE.RULE GET users");
        assert_eq!(rule.names(), ["on", "pattern", "do", "soft", "fired", "entries", "errors", "last"]);
        assert_eq!(["on", "pattern", "soft"].map(|name| rule[name].text()), ["key", "user:{id}", "no"]);
        let words: Vec<String> = rule["do"].items().iter().map(Value::text).collect();
        assert_eq!(words.join(" "), "ANY 2 user:{id} users TYPES 2 trips reports");
        assert_eq!(["fired", "entries", "errors"].map(|name| rule[name].int()), [0; 3]);
        assert_eq!(rule["last"], Value::Nil);
        let rule = c.map("EXPCACHE.RULE GET api");
        assert_eq!(["on", "soft"].map(|name| rule[name].text()), ["event", "yes"]);
        assert_eq!(c.int("EXPCACHE.RULE DEL api"), 1);
        assert_eq!(c.int("EXPCACHE.RULE DEL api"), 0);
        c.nil("EXPCACHE.RULE GET api");
        assert!(c.cmd("EXPCACHE.RULE HELP").items().len() > 5);
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET r KEY user:{id} DO ANY 1 user:{id}");
    let before = c.cmd("EXPCACHE.RULE GET r");
    for (words, prefix) in [
        ("KEY user:{id} ANY 1 user:{id} x", "ERR syntax error"),
        ("KEYS user:{id} DO ANY 1 user:{id}", "ERR syntax error"),
        ("KEY user:{id} DO SOFT SOFT x", "ERR syntax error"),
        ("KEY user:{id} DO ANY 2 user:{id}", "ERR syntax error"),
        ("KEY user:{id} DO ANY 1 a DRYRUN", "ERR syntax error"),
        ("KEY user:{id} DO ANY 0 user:{id}", "ERR a clause must have"),
        ("KEY ** DO ANY 1 a", "ERR in a pattern something must stand between"),
        ("KEY {a}{b} DO ANY 1 a", "ERR in a pattern something must stand between"),
        ("KEY {a}* DO ANY 1 a", "ERR in a pattern something must stand between"),
        ("KEY {a}:{a} DO ANY 1 a", "ERR a pattern captures a name once"),
        ("KEY {a DO ANY 1 a", "ERR an opening brace"),
        ("KEY a} DO ANY 1 a", "ERR a closing brace"),
        ("KEY {} DO ANY 1 a", "ERR a name in braces"),
        ("KEY user:* DO ANY 1 user:{id}", "ERR the pattern of a KEY rule must capture 'id'"),
        ("KEY user:{id} DO MATCH *:{id}", "ERR a KEY rule has no MATCH"),
        ("KEY user:{id} DO ANY 1 {id", "ERR an opening brace"),
    ] {
        refused(&mut c, &format!("EXPCACHE.RULE SET r {words}"), prefix);
        refused(&mut c, &format!("EXPCACHE.RULE SET new {words}"), prefix);
    }
    refused(&mut c, args!["EXPCACHE.RULE", "SET", "r", "KEY", "", "DO", "TYPE", "t"], "ERR a pattern must be");
    refused(&mut c, args!["EXPCACHE.RULE", "SET", "r", "KEY", "x".repeat(1025), "DO", "TYPE", "t"], "ERR a pattern");
    for name in ["", &"n".repeat(513)] {
        refused(&mut c, args!["EXPCACHE.RULE", "SET", name, "KEY", "x", "DO", "TYPE", "t"], "ERR a rule must be");
    }
    assert_eq!(c.cmd("EXPCACHE.RULE GET r"), before);
    assert_eq!(c.cmd("EXPCACHE.RULE LIST").items().len(), 1);
}

#[test]
fn there_are_so_many_rules_and_no_more() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-rules 2");
    for name in ["a", "b"] {
        c.ok(args!["EXPCACHE.RULE", "SET", name, "KEY", "x", "DO", "TYPE", "t"]);
    }
    refused(&mut c, "EXPCACHE.RULE SET c KEY x DO TYPE t", "ERR too many rules");
    c.ok("EXPCACHE.RULE SET b EVENT y DO TYPE u");
    c.int("EXPCACHE.RULE DEL a");
    c.ok("EXPCACHE.RULE SET c KEY x DO TYPE t");
}

#[test]
fn names_keys_and_tags_are_any_bytes() {
    let server = Server::start();
    let mut c = server.conn();
    for name in HOSTILE {
        let pattern = [name, b":{id}"].concat();
        let tag = [b"t:", name, b":{id}"].concat();
        c.ok(args!["EXPCACHE.RULE", "SET", name, "KEY", &pattern[..], "DO", "ANY", 1, &tag[..]]);
        for id in HOSTILE {
            let (key, tag) = ([name, b":", id].concat(), [b"t:", name, b":", id].concat());
            c.ok(args!["EXPCACHE.SET", "e", "v", "TAGS", 1, &tag[..]]);
            c.ok(args!["SET", &key[..], "v"]);
            c.nil("EXPCACHE.GET e");
        }
        assert_eq!(c.map(args!["EXPCACHE.RULE", "GET", name])["fired"].int(), HOSTILE.len() as i64);
        assert_eq!(c.int(args!["EXPCACHE.RULE", "DEL", name]), 1);
    }
    // Keys carry hash tags.
    c.ok("EXPCACHE.RULE SET carts KEY cart:{{{id}}} DO ANY 1 {{{id}}}");
    c.ok("EXPCACHE.SET e v TAGS 1 {7}");
    c.ok("SET cart:{7} v");
    c.nil("EXPCACHE.GET e");
    check(&mut c);
}

// ---- which changes fire

/// What is there before each change: keys of all types, whose names begin with it.
const PROLOGUE: [&str; 9] = [
    "SET string 5",
    "RPUSH list a b c",
    "SADD set a b c",
    "SADD set2 a b",
    "ZADD zset 1 a 2 b",
    "HSET hash f v g w",
    "XADD stream 1-1 f v",
    "EXPCACHE.SET cached v",
    "SET other v",
];

/// A command, and the keys that it changes.
const CHANGES: &[(&str, &[&str])] = &[
    ("SET string v", &["string"]),
    ("SET new v", &["new"]),
    ("SET string v EX 100", &["string"]),
    ("SETEX string 100 v", &["string"]),
    ("GETSET string v", &["string"]),
    ("GETDEL string", &["string"]),
    ("APPEND string v", &["string"]),
    ("INCR string", &["string"]),
    ("INCRBYFLOAT string 1.5", &["string"]),
    ("SETRANGE string 3 v", &["string"]),
    ("SETBIT string 0 1", &["string"]),
    ("MSET string v new w", &["string", "new"]),
    ("MSETNX new v new2 w", &["new", "new2"]),
    ("BITOP NOT new string", &["new"]),
    ("PFADD new a", &["new"]),
    ("LPUSH list v", &["list"]),
    ("RPOP list", &["list"]),
    ("LSET list 0 v", &["list"]),
    ("LTRIM list 0 0", &["list"]),
    ("LREM list 0 a", &["list"]),
    ("LINSERT list BEFORE a v", &["list"]),
    ("LMOVE list new LEFT RIGHT", &["list", "new"]),
    ("LPOP list 3", &["list"]),
    ("BLPOP list 0", &["list"]),
    ("SADD set v", &["set"]),
    ("SREM set a", &["set"]),
    ("SPOP set 3", &["set"]),
    ("SMOVE set new a", &["set", "new"]),
    ("SINTERSTORE new set set2", &["new"]),
    ("SUNIONSTORE string set", &["string"]),
    ("ZADD zset 3 c", &["zset"]),
    ("ZINCRBY zset 1 a", &["zset"]),
    ("ZREM zset a", &["zset"]),
    ("ZPOPMIN zset", &["zset"]),
    ("ZRANGESTORE new zset 0 -1", &["new"]),
    ("GEOADD new 1 1 a", &["new"]),
    ("HSET hash f w", &["hash"]),
    ("HINCRBY hash n 1", &["hash"]),
    ("HDEL hash f g", &["hash"]),
    ("XADD stream 2-1 f v", &["stream"]),
    ("XDEL stream 1-1", &["stream"]),
    ("XTRIM stream MAXLEN 0", &["stream"]),
    ("SORT list ALPHA STORE new", &["new"]),
    ("DEL string", &["string"]),
    ("DEL string list nothing", &["string", "list"]),
    ("UNLINK hash", &["hash"]),
    ("RENAME string new", &["string", "new"]),
    ("RENAME string list", &["string", "list"]),
    ("RENAMENX string new", &["string", "new"]),
    ("COPY string new", &["new"]),
    ("COPY string list REPLACE", &["list"]),
    ("MOVE string 1", &["string"]),
    ("PEXPIREAT string 1", &["string"]),
    // Over an entry.
    ("SET cached v", &["cached"]),
    ("RENAME string cached", &["string", "cached"]),
    ("COPY string cached REPLACE", &["cached"]),
    ("SUNIONSTORE cached set", &["cached"]),
    // What changes no value, or no native one.
    ("GET string", &[]),
    ("EXPIRE string 100", &[]),
    ("PEXPIREAT string 33000000000000", &[]),
    ("PERSIST string", &[]),
    ("TOUCH string", &[]),
    ("EXPCACHE.SET cached w", &[]),
    ("EXPCACHE.DEL cached", &[]),
    ("DEL cached", &[]),
    ("RENAME cached cached2", &[]),
];

/// How a command is sent.
const MANNERS: [&str; 3] = ["plainly", "in a transaction", "by a script"];

fn send(c: &mut Conn, command: &str, manner: &str) {
    let reply = match manner {
        "in a transaction" => {
            c.ok("MULTI");
            c.cmd(command);
            c.cmd("EXEC").items()[0].clone()
        }
        // Some servers do not let scripts call what might wait.
        "by a script" if !command.starts_with("BLPOP") => {
            let words = command.split(' ').map(Arg::to_arg).collect();
            c.cmd([args!["EVAL", "return redis.call(unpack(ARGV))", 0], words].concat())
        }
        _ => c.cmd(command),
    };
    assert!(!matches!(reply, Value::Error(_)), "{command}: {reply}");
}

#[test]
fn a_key_that_changes_in_whatever_way_invalidates_what_was_made_from_it() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    for &(command, changed) in CHANGES {
        for manner in MANNERS {
            c.ok("FLUSHALL");
            PROLOGUE.iter().for_each(|command| _ = c.cmd(*command));
            let mut names = c.cmd("KEYS *").sorted_texts();
            names.extend(["new", "new2", "cached2"].map(String::from));
            names.iter().for_each(|name| entry_of(&mut c, name));
            let before = fired(&mut c, "each");
            send(&mut c, command, manner);
            // Some servers leave who moves a key in the other database.
            c.ok("SELECT 0");
            for name in &names {
                let expected = !changed.contains(&name.as_str());
                assert_eq!(is_alive(&mut c, name), expected, "{name} after {command}, {manner}");
            }
            assert!(fired(&mut c, "each") - before >= changed.len() as i64, "{command}");
            assert!(fired(&mut c, "each") == before || !changed.is_empty(), "{command}");
            check(&mut c);
        }
    }
}

#[test]
fn what_an_entry_left_behind_is_a_native_key_like_any() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    c.ok("SET d v");
    let dump = c.bulk("DUMP d");
    for over in [
        args!["SET", "k", "v"],
        args!["RESTORE", "k", 0, &dump[..], "REPLACE"],
        args!["COPY", "d", "k", "REPLACE"],
        args!["SUNIONSTORE", "k", "s"],
        args!["RENAME", "d", "k"],
    ] {
        c.ok("SET d v");
        c.int("SADD s a");
        c.ok("EXPCACHE.SET k v");
        c.cmd(over);
        entry_of(&mut c, "k");
        assert_eq!(c.int("DEL k"), 1);
        assert!(!is_alive(&mut c, "k"), "a native key was deleted");
        c.ok("EXPCACHE.SET k v");
        entry_of(&mut c, "k");
        assert_eq!(c.int("DEL k"), 1);
        assert!(is_alive(&mut c, "k"), "an entry was deleted");
    }
    check(&mut c);
}

#[test]
fn restored_and_expired_keys_fire() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    c.ok("SET k v");
    let dump = c.bulk("DUMP k");
    entry_of(&mut c, "k");
    c.ok(args!["RESTORE", "k", 0, &dump[..], "REPLACE"]);
    assert!(!is_alive(&mut c, "k"));

    // Found by a reader, and by the server itself.
    c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    for key in ["read", "swept"] {
        c.ok(args!["SET", key, "v"]);
        entry_of(&mut c, key);
        assert_eq!(c.int(args!["PEXPIRE", key, 1]), 1);
    }
    wait_until("it is over", || c.cmd("GET read") == Value::Nil);
    assert!(!is_alive(&mut c, "read"));
    c.ok("DEBUG SET-ACTIVE-EXPIRE 1");
    wait_until("it is swept", || c.info("stats", "expired_keys") == "2");
    assert!(!is_alive(&mut c, "swept"));

    // An entry's end is no native key's.
    let before = fired(&mut c, "each");
    c.ok("EXPCACHE.SET brief v PX 1");
    wait_until("it is over", || c.cmd("EXISTS brief") == 0);
    assert_eq!(fired(&mut c, "each"), before);
    check(&mut c);
}

/// The server walks over its keys to find those whose time is over, and where it stands next must not go meanwhile.
#[test]
fn entries_beside_a_source_that_expires_have_an_end_themselves() {
    let server = Server::with(&["--hz", "500"]);
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.reclaim-inline 10000");
    for (softness, left) in [("", 0), ("SOFT", 60)] {
        c.ok(&format!("EXPCACHE.RULE SET all KEY source DO ANY 1 t {softness}"));
        for _ in 0..25 {
            c.ok("SET source v");
            let entry = |n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "EX", 1000, "GRACE", 900, "TAGS", 1, "t"];
            c.pipeline((0..60).map(entry));
            c.int("PEXPIRE source 1");
            wait_until("it is swept", || c.map("EXPCACHE.FETCH k:7")["status"] != "hit" && c.int("DBSIZE") == left);
            check(&mut c);
        }
    }
}

#[test]
fn a_key_that_makes_room_fires() {
    let server = Server::with(&["--maxmemory-policy", "allkeys-random"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET each KEY source:{key} DO ANY 1 of:{key}");
    let value = "x".repeat(2000);
    for n in 0..500 {
        c.ok(args!["SET", format!("source:{n}"), &value]);
        entry_of(&mut c, &n.to_string());
    }
    let used: i64 = c.info("memory", "used_memory").parse().unwrap();
    c.ok(args!["CONFIG", "SET", "maxmemory", used - 300_000]);
    wait_until("some made room", || {
        c.cmd("SET other v");
        c.info("stats", "evicted_keys").parse::<i64>().unwrap() > 50
    });
    c.ok("CONFIG SET maxmemory 0");
    let mut gone = 0;
    for n in 0..500 {
        if c.cmd(args!["EXISTS", format!("source:{n}")]) == 0 {
            gone += 1;
            assert!(!is_alive(&mut c, &n.to_string()), "{n}");
        }
    }
    assert!(gone > 10, "{gone}");
    assert_eq!(fired(&mut c, "each"), 500 + gone);
    check(&mut c);
}

#[test]
fn what_happens_to_everything_fires_nothing() {
    let mut server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    c.ok(EACH);
    c.ok("SET k v");
    c.ok("SET l v");
    let before = fired(&mut c, "each");
    c.ok("SWAPDB 0 1");
    c.ok("SWAPDB 0 1");
    c.ok("FLUSHDB");
    c.ok("SET k v");
    c.ok("FLUSHALL");
    assert_eq!(fired(&mut c, "each"), before + 1);
    c.ok("SET k v");
    entry_of(&mut c, "k");
    for _ in 0..2 {
        c.ok("DEBUG RELOAD");
        assert_eq!((is_alive(&mut c, "k"), fired(&mut c, "each")), (true, 0));
        c.ok("DEBUG LOADAOF");
        assert_eq!((is_alive(&mut c, "k"), fired(&mut c, "each")), (true, 0));
    }
    server.restart(Stop::NoSave);
    let mut c = server.conn();
    assert_eq!((is_alive(&mut c, "k"), fired(&mut c, "each")), (true, 0));
    check(&mut c);
}

#[test]
fn a_limit_fires_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    entry_of(&mut c, "k");
    for cost in ["1", "3", "-1", "-9"] {
        c.cmd(&*format!("EXPCACHE.THROTTLE k POLICY 5 1h COST {cost}"));
    }
    assert_eq!(c.cmd("EXISTS k"), 0, "given back, it is full again and gone");
    assert_eq!((is_alive(&mut c, "k"), fired(&mut c, "each")), (true, 0));
    c.cmd("EXPCACHE.THROTTLE k POLICY 5 1h");
    c.int("DEL k");
    assert!(!is_alive(&mut c, "k"), "who deletes it by hand deletes a key");
    check(&mut c);
}

#[test]
fn rules_are_of_all_databases_and_act_in_the_keys_own() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    for db in 0..3 {
        c.ok(args!["SELECT", db]);
        entry_of(&mut c, "k");
    }
    c.ok("SELECT 1");
    c.ok("SET k v");
    let alive = |c: &mut Conn| {
        [0, 1, 2].map(|db| {
            c.ok(args!["SELECT", db]);
            is_alive(c, "k")
        })
    };
    assert_eq!(alive(&mut c), [true, false, true]);
    c.ok("SELECT 1");
    assert_eq!(c.int("MOVE k 2"), 1);
    assert_eq!(alive(&mut c), [true, false, false]);
    // In a transaction too.
    c.ok("SELECT 1");
    c.ok("SET m v");
    entry_of(&mut c, "m");
    c.ok("SELECT 2");
    entry_of(&mut c, "m");
    c.ok("SELECT 1");
    c.ok("MULTI");
    c.cmd("MOVE m 2");
    c.cmd("EXEC");
    for db in 1..3 {
        c.ok(args!["SELECT", db]);
        assert!(!is_alive(&mut c, "m"), "in {db}");
    }
    c.ok("SELECT 2");
    entry_of(&mut c, "k");
    assert_eq!(c.int("COPY k k DB 0"), 1);
    assert_eq!(alive(&mut c), [false, false, true]);
    check(&mut c);
}

#[test]
fn a_transaction_and_a_script_see_it_at_once() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    entry_of(&mut c, "k");
    c.ok("MULTI");
    for command in ["EXPCACHE.GET entry:k", "SET k new", "EXPCACHE.GET entry:k", "EXPCACHE.COUNT ANY 1 of:k"] {
        c.cmd(command);
    }
    let seen = c.cmd("EXEC");
    assert_eq!(seen.items()[0], "old");
    assert_eq!((&seen.items()[2], &seen.items()[3]), (&Value::Nil, &Value::Int(0)));

    // What is stored after the write, in the same step, was made from it.
    c.ok("MULTI");
    c.cmd("SET k newer");
    c.cmd("EXPCACHE.SET entry:k newer TAGS 1 of:k");
    c.cmd("EXEC");
    wait_until_reclaimed(&mut c);
    assert_eq!(c.cmd("EXPCACHE.GET entry:k"), "newer");

    entry_of(&mut c, "k");
    let script = "redis.call('SET', 'k', 'v') return redis.call('EXPCACHE.GET', 'entry:k')";
    c.nil(&["EVAL", script, "2", "k", "entry:k"]);
    let function = "#!lua name=lib\nredis.register_function('put', function(keys) redis.call('SET', keys[1], 'v') \
                    return redis.call('EXPCACHE.GET', 'entry:' .. keys[1]) end)";
    c.cmd(&["FUNCTION", "LOAD", function]);
    entry_of(&mut c, "k");
    c.nil("FCALL put 1 k");
    check(&mut c);
}

#[test]
fn a_client_that_waits_for_a_list_fires_when_it_is_served() {
    let server = Server::start();
    let replica = Server::start();
    replica.replica_of(&server);
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET each KEY list DO ANY 1 of:list");
    let mut waiting = Waiting::new(&server, "BLPOP list 0");
    entry_of(&mut c, "list");
    c.ok("MULTI");
    c.cmd("RPUSH list v");
    c.cmd("EXPCACHE.SET entry:list between TAGS 1 of:list");
    c.cmd("EXEC");
    assert!(!matches!(waiting.reply(), Value::Error(_)));
    assert!(!is_alive(&mut c, "list"), "it was taken after that was stored");
    wait_until_reclaimed(&mut c);
    replica.wait_for_sync(&server);
    Picture::of(&mut c).assert_same(&Picture::of(&mut replica.conn()));
}

// ---- what follows

#[test]
fn a_value_that_was_being_made_is_fenced() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("FLUSHALL");
        for (selector, hit, other) in [
            ("ANY 1 of:{key}", "TAGS 1 of:k", "TAGS 1 of:l"),
            ("ANY 1 of:{key} NONE 1 other", "TAGS 1 of:k", "TAGS 2 of:k other"),
            ("ALL 2 of:{key} all", "TAGS 2 of:k all", "TAGS 1 of:k"),
            ("TYPE made", "TYPE made", "TYPE another"),
            ("TYPES 2 other made", "TYPE made", "TYPE another"),
            ("NONE 1 other", "", "TAGS 1 other"),
        ] {
            for soft in ["", " SOFT"] {
                c.ok(&format!("EXPCACHE.RULE SET r KEY {{key}} DO {selector}{soft}"));
                let token = lease(&mut c, "e");
                // There is no entry yet.
                c.ok("SET k new");
                c.err(&format!("EXPCACHE.SET e old {hit} LEASE {token}"), "FENCED");
                let token = lease(&mut c, "e");
                c.ok(&format!("EXPCACHE.SET e new {hit} LEASE {token}"));
                c.int("EXPCACHE.DEL e");
                let token = lease(&mut c, "e");
                c.ok("SET k newer");
                c.ok(&format!("EXPCACHE.SET e new {other} LEASE {token}"));
                c.int("EXPCACHE.DEL e");
            }
        }
        check(&mut c);
    }
}

#[test]
fn who_waits_is_answered_as_after_any_invalidation() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    let token = lease(&mut c, "e");
    let mut waiting = Waiting::new(&server, &*format!("EXPCACHE.FETCH e LEASE {LONG} WAIT {LONG}"));
    c.ok("SET k new");
    c.err(&format!("EXPCACHE.SET e old TAGS 1 of:k LEASE {token}"), "FENCED");
    let token = granted(&waiting.fetched());
    c.ok(&format!("EXPCACHE.SET e new TAGS 1 of:k LEASE {token}"));
    // A key backs off until what it was made from changes.
    c.int("EXPCACHE.DEL e");
    c.ok("EXPCACHE.SET e old TAGS 1 of:k PXAT 1000 GRACE 365000d");
    let token = lease(&mut c, "e");
    assert_eq!(c.int(args!["EXPCACHE.RELEASE", "e", token, "BACKOFF", LONG]), 1);
    assert_eq!(c.map(args!["EXPCACHE.FETCH", "e", "LEASE", LONG])["lease"], Value::Nil);
    c.ok("SET k newest");
    lease(&mut c, "e");
    check(&mut c);
}

#[test]
fn soft_rules_make_stale() {
    let server = Server::start();
    let replica = Server::start();
    replica.replica_of(&server);
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET soft KEY {key} DO ANY 1 of:{key} SOFT");
    c.ok("EXPCACHE.SET graced old TAGS 1 of:k GRACE 1h");
    c.ok("EXPCACHE.SET without old TAGS 1 of:k");
    c.ok("SET k new");
    assert_eq!(c.map("EXPCACHE.FETCH graced")["status"], "stale");
    assert_eq!(c.map("EXPCACHE.FETCH without")["status"], "miss");
    let rule = c.map("EXPCACHE.RULE GET soft");
    assert_eq!(["fired", "entries", "errors"].map(|name| rule[name].int()), [1, 2, 0]);
    assert!(rule["last"].int() > 1_700_000_000_000);
    // What is stale already is not counted again.
    c.ok("SET k newer");
    assert_eq!(c.map("EXPCACHE.RULE GET soft")["entries"], 2);
    wait_until_reclaimed(&mut c);
    replica.wait_for_sync(&server);
    Picture::of(&mut c).assert_same(&Picture::of(&mut replica.conn()));
    assert_eq!(replica.conn().map("EXPCACHE.FETCH graced")["status"], "stale");
}

#[test]
fn what_comes_to_no_name_that_there_could_be_counts_as_an_error() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    let write = |c: &mut Conn, len: usize| c.ok(args!["SET", "k".repeat(len), "v"]);
    write(&mut c, 509);
    write(&mut c, 510);
    write(&mut c, 16 << 10);
    // No rule is held against a name that is longer still.
    write(&mut c, (16 << 10) + 1);
    let rule = c.map("EXPCACHE.RULE GET each");
    assert_eq!(["fired", "entries", "errors"].map(|name| rule[name].int()), [1, 0, 2]);
    assert_eq!(c.map("EXPCACHE.HEALTH")["status"], "ok");
    check(&mut c);
}

#[test]
fn what_rules_did_is_in_the_statistics() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    entry_of(&mut c, "k");
    c.ok("SET k v");
    c.ok("SET k w");
    c.ok(args!["SET", "k".repeat(600), "v"]);
    let rules = c.map("EXPCACHE.STATS")["rules"].fields();
    assert_eq!(["fired", "entries", "errors"].map(|name| rules[name].int()), [2, 1, 1]);
    let figures = ["rules", "rules_fired_total", "rules_entries_total", "rules_errors_total"];
    assert_eq!(figures.map(|name| c.info("expcache", &format!("expcache_{name}"))), ["1", "2", "1", "1"]);
    let health = c.map("EXPCACHE.HEALTH");
    assert_eq!(["rules", "rule-errors"].map(|name| health[name].fields()["figure"].int()), [1, 1]);
    assert_eq!(health["rules"].fields()["limit"], 1024);
    // What a rule did outlives it.
    c.int("EXPCACHE.RULE DEL each");
    assert_eq!(c.info("expcache", "expcache_rules_fired_total"), "2");
    c.ok("EXPCACHE.STATS RESET");
    assert_eq!(c.map("EXPCACHE.STATS")["rules"].fields()["fired"], 0);
}

#[test]
fn without_a_rule_that_reacts_to_keys_nothing_is_looked_at() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    c.ok("EXPCACHE.RULE SET each EVENT {key} DO ANY 1 of:{key}");
    entry_of(&mut c, "k");
    c.ok("SET k v");
    assert!(is_alive(&mut c, "k"));
    c.ok(EACH);
    c.ok("SET k v");
    assert!(!is_alive(&mut c, "k"));
    c.int("EXPCACHE.RULE DEL each");
    entry_of(&mut c, "k");
    c.ok("SET k v");
    c.int("DEL k");
    assert!(is_alive(&mut c, "k"));
    check(&mut c);
}

#[test]
fn what_rules_did_is_on_record() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(EACH);
    c.ok("EXPCACHE.RULE SET told EVENT told:{key} DO ANY 1 of:{key}");
    entry_of(&mut c, "k");
    c.ok("SET k v");
    c.ok("SET k w");
    entry_of(&mut c, "k");
    assert_eq!(c.int("EXPCACHE.EVENT told:k NOTE someone"), 1);
    c.int("EXPCACHE.RULE DEL told");
    let lines = c.cmd("EXPCACHE.AUDIT");
    let lines: Vec<_> = lines.items().iter().map(Value::fields).collect();
    let commands: Vec<String> = lines.iter().map(|line| line["command"].text()).collect();
    assert_eq!(commands, ["expcache.rule|set", "expcache.rule|set", "rule", "expcache.event", "expcache.rule|del"]);
    assert_eq!(
        (lines[2]["key"].text(), lines[2]["result"].text(), lines[2]["count"].int()),
        ("k".into(), "each".into(), 1)
    );
    assert_eq!((lines[3]["note"].text(), lines[3]["count"].int()), ("someone".into(), 1));
}

// ---- what is kept

/// All that is to be the same elsewhere: what each rule says.
fn said(c: &mut Conn) -> Vec<String> {
    let names = c.cmd("EXPCACHE.RULE LIST");
    let mut all = Vec::new();
    for name in names.items().iter().map(Value::as_bytes) {
        let rule = c.map(args!["EXPCACHE.RULE", "GET", name]);
        let said = ["on", "pattern", "do", "soft"].map(|field| rule[field].to_string());
        all.push(format!("{} {}", name.escape_ascii(), said.join(" ")));
    }
    all
}

fn set_some(c: &mut Conn) {
    c.ok(EACH);
    c.ok("EXPCACHE.RULE SET soft EVENT {{{x}}}* DO MATCH {x}:* NONE 1 never SOFT");
    let many: Vec<String> = (0..1000).map(|n| format!("tag:{n}:{{x}}")).collect();
    c.ok([
        args!["EXPCACHE.RULE", "SET", "many", "KEY", "m:{x}", "DO", "ANY", 1000],
        many.iter().map(Arg::to_arg).collect(),
    ]
    .concat());
    for name in HOSTILE {
        c.ok(args!["EXPCACHE.RULE", "SET", name, "EVENT", name, "DO", "TYPE", name]);
    }
}

#[test]
fn rules_outlive_restarts_and_reach_replicas() {
    for settings in [
        &[][..],
        &["--appendonly", "yes", "--aof-use-rdb-preamble", "yes"],
        &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"],
    ] {
        let is_file = !settings.is_empty();
        let mut server = Server::with(settings);
        let early = Server::start();
        early.replica_of(&server);
        let mut c = server.conn();
        set_some(&mut c);
        c.ok("EXPCACHE.RULE SET gone KEY x DO TYPE t");
        assert_eq!(c.int("EXPCACHE.RULE DEL gone"), 1);
        let expected = said(&mut c);
        assert_eq!(expected.len(), 3 + HOSTILE.len());
        early.wait_for_sync(&server);
        assert_eq!(said(&mut early.conn()), expected, "in the stream");

        // A full synchronisation: what the replica had of its own is gone.
        let late = Server::start();
        late.conn().ok("EXPCACHE.RULE SET own KEY x DO TYPE t");
        late.replica_of(&server);
        assert_eq!(said(&mut late.conn()), expected, "in a full synchronisation");

        for rewritten in [false, true] {
            if rewritten && is_file {
                c.cmd("BGREWRITEAOF");
                wait_until("it is rewritten", || {
                    c.info("persistence", "aof_rewrite_in_progress") == "0"
                        && c.info("persistence", "aof_rewrite_scheduled") == "0"
                });
            }
            server.restart(if is_file { Stop::NoSave } else { Stop::Save });
            c = server.conn();
            assert_eq!(said(&mut c), expected, "{settings:?}, rewritten {rewritten}");
            entry_of(&mut c, "k");
            c.ok("SET k v");
            assert!(!is_alive(&mut c, "k"), "and they are followed");
        }
        c.ok("FLUSHALL");
        assert_eq!(said(&mut c), expected, "they are no data");
    }
}

#[test]
fn replicas_are_told_what_follows_and_decide_nothing() {
    let (server, replica) = (Server::start(), Server::start());
    replica.replica_of(&server);
    let (mut c, mut r) = (server.conn(), replica.conn());
    c.ok(EACH);
    c.ok("SET k v");
    entry_of(&mut c, "k");
    replica.wait_for_sync(&server);
    r.err("EXPCACHE.RULE SET all KEY {key} DO NONE 1 never", "READONLY");
    r.ok("CONFIG SET replica-read-only no");
    entry_of(&mut r, "own");
    r.ok("SET own v");
    assert!(is_alive(&mut r, "own"), "a write to a replica is nobody's source");
    c.ok("SET k w");
    replica.wait_for_sync(&server);
    assert!(!is_alive(&mut r, "k"));
    assert_eq!(fired(&mut r, "each"), 0);

    // A master that was one follows them.
    r.ok("REPLICAOF NO ONE");
    wait_until("it is a master", || r.info("replication", "role") == "master");
    entry_of(&mut r, "k");
    r.ok("SET k x");
    assert!(!is_alive(&mut r, "k"));
    assert_eq!(fired(&mut r, "each"), 1);
    check(&mut r);
}

/// What the append-only file was sent since the start.
fn appended(server: &Server) -> String {
    let files = std::fs::read_dir(server.dir().join("appendonlydir")).unwrap().map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.to_string_lossy().contains(".incr."));
    logs.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()).collect()
}

/// What follows is in the stream in one transaction with what it follows from.
#[test]
fn the_stream_has_it_in_one_step() {
    let server = Server::with(&["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]);
    let mut c = server.conn();
    c.ok(EACH);
    entry_of(&mut c, "k");
    c.ok("SET k v");
    c.ok("SET k w");
    wait_until_reclaimed(&mut c);
    let mut log = String::new();
    wait_until("it is written", || {
        log = appended(&server);
        log.contains("EXEC")
    });
    let words: Vec<&str> = log.lines().filter(|line| !line.starts_with(['*', '$', '#'])).collect();
    let at = words.iter().position(|word| *word == "MULTI").unwrap_or_else(|| panic!("{words:?}"));
    let steps = words[at..].join(" ");
    let expected = ["MULTI EXPCACHE.INVALIDATE.TAG of:k SET k v EXEC", "MULTI SET k v UNLINK entry:k EXEC"];
    assert!(expected.iter().any(|expected| steps.starts_with(expected)), "{steps}");
    assert_eq!(words.iter().filter(|word| **word == "MULTI").count(), 1, "{words:?}");
}

/// Has a key be over, and nobody look at it.
fn end(c: &mut Conn, key: &str) {
    let end_ms = now_ms() + 2;
    assert_eq!(c.int(args!["PEXPIREAT", key, end_ms]), 1);
    wait_until("it is over", || now_ms() > end_ms + 2);
}

/// Whoever looks at a key that is over has it expire; his command is no write for that, and is not sent to replicas.
#[test]
fn a_command_that_finds_its_source_expired_stays_what_it_is() {
    let server = Server::with(&["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]);
    let replica = Server::start();
    replica.replica_of(&server);
    let mut c = server.conn();
    c.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    c.ok(EACH);
    c.ok("EXPCACHE.RULE SET soft KEY {key} DO ANY 1 soft:{key} SOFT");
    for command in ["GET k", "RENAME k l", "LSET k 0 v", "MIGRATE 127.0.0.1 1 k 0 10", "SORT k", "EXISTS k"] {
        c.ok("SET k v");
        entry_of(&mut c, "k");
        c.ok("EXPCACHE.SET soft old TAGS 1 soft:k GRACE 1h");
        end(&mut c, "k");
        c.cmd(command);
        assert!(!is_alive(&mut c, "k"), "{command}");
        assert_eq!(c.map("EXPCACHE.FETCH soft")["status"], "stale", "{command}");
        wait_until_reclaimed(&mut c);
        wait_until("the replica knows", || {
            replica.wait_for_sync(&server);
            let mut r = replica.conn();
            !is_alive(&mut r, "k") && r.map("EXPCACHE.FETCH soft")["status"] == "stale"
        });
    }
    // In a transaction what is stored after it was found is new.
    c.ok("SET k v");
    entry_of(&mut c, "k");
    c.ok("EXPCACHE.SET soft old TAGS 1 soft:k GRACE 1h");
    end(&mut c, "k");
    c.ok("MULTI");
    c.cmd("EXISTS k");
    c.cmd("EXPCACHE.SET entry:k new TAGS 1 of:k");
    c.cmd("EXPCACHE.SET soft2 new TAGS 1 soft:k GRACE 1h");
    assert_eq!(c.cmd("EXEC").items()[0], 0);
    wait_until_reclaimed(&mut c);
    wait_until("the replica knows", || {
        replica.wait_for_sync(&server);
        replica.conn().map("EXPCACHE.FETCH soft")["status"] == "stale"
    });
    for conn in [&mut c, &mut replica.conn()] {
        assert_eq!(conn.cmd("EXPCACHE.GET entry:k"), "new");
        assert_eq!(conn.cmd("EXPCACHE.GET soft2"), "new");
        check(conn);
    }
    let errors = replica.log().lines().filter(|line| line.contains("sending an error")).count();
    assert_eq!(errors, 0, "{}", replica.log());
}

// ---- events

fn with_rules() -> (Server, Conn) {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET a-vehicle EVENT POST*/vehicles/{id} DO ANY 1 vehicle:{id}");
    c.ok("EXPCACHE.RULE SET b-company EVENT POST*/vehicles* DO TYPES 2 trips reports ANY 1 company:{company}");
    c.ok("EXPCACHE.RULE SET c-keys EVENT POST*/vehicles* DO MATCH *:c{company}:* SOFT");
    c.ok("EXPCACHE.RULE SET d-other EVENT PUT* DO TYPE trips");
    c.ok("EXPCACHE.SET x:c42:1 v TYPE trips GRACE 1h TAGS 2 company:42 vehicle:17");
    c.ok("EXPCACHE.SET x:c42:2 v TYPE reports TAGS 1 company:42");
    c.ok("EXPCACHE.SET x:c42:3 v TYPE other GRACE 1h TAGS 1 company:42");
    c.ok("EXPCACHE.SET x:c43:1 v TYPE trips TAGS 1 company:43");
    (server, c)
}

const EVENT: &str = "EXPCACHE.EVENT POST:/v1/vehicles/17 FIELD company 42";

fn counts(reply: &Value) -> Vec<(String, i64)> {
    reply.items().chunks(2).map(|pair| (pair[0].text(), pair[1].int())).collect()
}

#[test]
fn an_event_carries_out_every_rule_that_matches() {
    let (_server, mut c) = with_rules();
    let all = |counts: [i64; 3]| {
        let names = ["a-vehicle", "b-company", "c-keys"].map(String::from);
        names.into_iter().zip(counts).collect::<Vec<_>>()
    };
    assert_eq!(counts(&c.cmd(&*format!("{EVENT} DRYRUN RULES"))), all([1, 2, 3]));
    assert_eq!(c.cmd(&*format!("{EVENT} DRYRUN")), 6);
    assert_eq!(fired(&mut c, "a-vehicle"), 0);
    // Each entry counts where it was hit first.
    assert_eq!(counts(&c.cmd(&*format!("{EVENT} RULES NOTE someone"))), all([1, 1, 1]));
    assert_eq!(c.cmd("EXPCACHE.MGET x:c42:1 x:c42:2 x:c42:3").items(), [Value::Nil, Value::Nil, Value::Nil]);
    assert_eq!(c.map("EXPCACHE.FETCH x:c42:3")["status"], "stale");
    assert_eq!(c.cmd("EXPCACHE.GET x:c43:1"), "v");
    let rule = c.map("EXPCACHE.RULE GET c-keys");
    assert_eq!(["fired", "entries"].map(|name| rule[name].int()), [1, 1]);
    assert_eq!(c.cmd(EVENT), 0);
    assert_eq!(c.cmd("EXPCACHE.EVENT nothing"), 0);
    assert_eq!(c.cmd("EXPCACHE.EVENT nothing RULES"), Value::Array(Vec::new()));
    assert_eq!(c.cmd("EXPCACHE.EVENT PUT"), 1);
    check(&mut c);
}

#[test]
fn an_event_of_which_a_rule_wants_to_know_more_does_nothing() {
    let (_server, mut c) = with_rules();
    let text = refused(&mut c, "EXPCACHE.EVENT POST:/v1/vehicles/17", "ERR");
    assert_eq!(text, "ERR the rule 'b-company' wants 'company', which is neither captured nor a field");
    refused(&mut c, "EXPCACHE.EVENT POST:/v1/vehicles/17 FIELD company 42 FIELD id 17", "ERR the rule 'a-vehicle'");
    refused(&mut c, args!["EXPCACHE.EVENT", "POST/vehicles/17", "FIELD", "company", "x".repeat(600)], "ERR the rule");
    assert_eq!(c.map("EXPCACHE.RULE GET b-company")["errors"], 2);
    assert_eq!(fired(&mut c, "a-vehicle"), 0);
    assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), 4);
    for (words, prefix) in [
        ("x FIELD a", "ERR syntax error"),
        ("x FIELD a 1 FIELD a 2", "ERR a field is given twice"),
        ("x DRYRUN DRYRUN", "ERR syntax error"),
        ("x NONSENSE", "ERR syntax error"),
        (&format!("x NOTE {}", "n".repeat(257)), "ERR a note has"),
        (&"x".repeat(16_385), "ERR an event has at most"),
        (
            &format!("x {}", (0..65).map(|n| format!("FIELD f{n} v ")).collect::<String>().trim()),
            "ERR an event has at most",
        ),
    ] {
        refused(&mut c, &format!("EXPCACHE.EVENT {words}"), prefix);
    }
}

#[test]
fn what_is_captured_is_literal_in_a_pattern_of_keys() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET r EVENT changed:{what} DO MATCH k:{what}:*");
    for name in ["k:a:1", "k:*:1", "k:[ab]:1", "k:b:1"] {
        c.ok(args!["EXPCACHE.SET", name, "v"]);
    }
    assert_eq!(c.cmd("EXPCACHE.EVENT changed:*"), 1);
    assert_eq!(c.cmd("EXPCACHE.EVENT changed:[ab]"), 1);
    assert_eq!(c.cmd("EXPCACHE.EVENT changed:?"), 0);
    assert_eq!(c.cmd("EXPCACHE.MGET k:a:1 k:b:1").items(), [Value::bulk("v"), Value::bulk("v")]);
    check(&mut c);
}

#[test]
fn events_are_told_in_transactions_and_scripts_and_replicated() {
    let (server, mut c) = with_rules();
    let replica = Server::start();
    replica.replica_of(&server);
    c.ok("MULTI");
    c.cmd(EVENT);
    c.cmd("EXPCACHE.GET x:c42:2");
    let seen = c.cmd("EXEC");
    assert_eq!((&seen.items()[0], &seen.items()[1]), (&Value::Int(3), &Value::Nil));
    assert_eq!(c.cmd(&["EVAL", "return redis.call('EXPCACHE.EVENT', 'PUT')", "0"]), 1);
    wait_until_reclaimed(&mut c);
    replica.wait_for_sync(&server);
    Picture::of(&mut c).assert_same(&Picture::of(&mut replica.conn()));
    replica.conn().err(EVENT, "READONLY");
}

#[test]
fn an_event_fences() {
    let (_server, mut c) = with_rules();
    let token = lease(&mut c, "new");
    c.cmd(EVENT);
    c.err(&format!("EXPCACHE.SET new old TAGS 1 vehicle:17 LEASE {token}"), "FENCED");
    check(&mut c);
}

/// Names are looked at in slices, for several rules at a time, while entries come and go.
#[test]
fn a_search_for_several_rules_goes_on_in_slices() {
    let server = Server::start();
    let (mut c, mut other) = (server.conn(), server.conn());
    for n in 0..4 {
        c.ok(args!["EXPCACHE.RULE", "SET", format!("r{n}"), "EVENT", "all", "DO", "MATCH", format!("*{n}")]);
    }
    c.ok("CONFIG SET expcache.reclaim-slice-us 1");
    c.pipeline((0..20_000).map(|n| args!["EXPCACHE.SET", format!("key:{n}"), "v"]));
    other.send("EXPCACHE.EVENT all RULES").unwrap();
    wait_until("it waits", || c.info("clients", "blocked_clients") == "1");
    let (mut more, mut less) = (0, 0);
    for n in 20_000..20_100 {
        c.ok(args!["EXPCACHE.SET", format!("key:{n}"), "v"]);
        more += i64::from(n % 10 < 4);
        less += i64::from(c.int(args!["EXPCACHE.DEL", format!("key:{}", n - 20_000)]) == 1 && n % 10 < 4);
    }
    let reply = other.receive().unwrap();
    let found: i64 = counts(&reply).iter().map(|(_, entries)| entries).sum();
    // It may have ended meanwhile.
    assert!(found <= 8_000 + more && found >= 8_000 - less, "{found}");
    wait_until_reclaimed(&mut c);
    check(&mut c);

    for n in 4..17 {
        c.ok(args!["EXPCACHE.RULE", "SET", format!("r{n}"), "EVENT", "all", "DO", "MATCH", format!("*{n}")]);
    }
    refused(&mut c, "EXPCACHE.EVENT all", "ERR at most 16 selectors with MATCH");
}

// ---- whose rights

fn user(server: &Server, rules: &str) -> Conn {
    let mut c = server.conn();
    c.ok(&format!("ACL SETUSER someone reset on nopass {rules}"));
    c.ok("AUTH someone any");
    c
}

#[test]
fn who_sets_a_rule_must_be_entitled_to_everything() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET r KEY acme:{id} DO ANY 1 acme:{id}");
    for (rules, may_read) in [("~acme:* +@all", false), ("%R~* %W~acme:* +@all", true), ("~* +@all", true)] {
        let mut someone = user(&server, rules);
        let may_write = rules.starts_with("~*");
        for command in ["EXPCACHE.RULE SET n KEY acme:{id} DO ANY 1 acme:{id}", "EXPCACHE.RULE DEL n"] {
            let reply = someone.cmd(command);
            assert_eq!(
                matches!(&reply, Value::Error(text) if text.starts_with("NOPERM")),
                !may_write,
                "{command}: {reply}"
            );
        }
        for command in ["EXPCACHE.RULE LIST", "EXPCACHE.RULE GET r"] {
            let reply = someone.cmd(command);
            assert_eq!(
                matches!(&reply, Value::Error(text) if text.starts_with("NOPERM")),
                !may_read,
                "{command}: {reply}"
            );
        }
    }
    let admin = c.cmd("COMMAND INFO expcache.rule|set").items()[0].items()[2].sorted_texts();
    assert!(admin.contains(&"admin".to_string()), "{admin:?}");
    assert_eq!(c.cmd("EXPCACHE.RULE LIST").items().len(), 1);
}

/// A view's rights are its definer's.
#[test]
fn who_may_write_the_source_thereby_invalidates() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET r KEY source:{id} DO ANY 1 cache:{id}");
    c.ok("EXPCACHE.SET e v TAGS 1 cache:7");
    let mut writer = user(&server, "~source:* +set");
    writer.err("EXPCACHE.INVALIDATE.TAG cache:7", "NOPERM");
    writer.ok("SET source:7 v");
    c.nil("EXPCACHE.GET e");
    check(&mut c);
}

#[test]
fn who_tells_an_event_does_it_by_his_own_rights() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.RULE SET r EVENT done:* DO ANY 1 {company}:all");
    c.ok("EXPCACHE.RULE SET z EVENT done:everything DO TYPE trips");
    for company in ["acme", "other"] {
        c.ok(args!["EXPCACHE.SET", format!("{company}:1"), "v", "TYPE", "trips", "TAGS", 1, format!("{company}:all")]);
    }
    let mut acme = user(&server, "~acme:* +@all");
    for event in [
        "EXPCACHE.EVENT done:x FIELD company other",
        "EXPCACHE.EVENT done:x FIELD company other DRYRUN",
        "EXPCACHE.EVENT done:x FIELD company other RULES",
        // One rule that is beyond his rights, and nothing is done.
        "EXPCACHE.EVENT done:everything FIELD company acme",
    ] {
        acme.err(event, "NOPERM");
        assert_eq!(c.cmd("EXPCACHE.COUNT TYPE trips"), 2, "{event}");
    }
    assert_eq!(fired(&mut c, "r"), 0);
    assert_eq!(acme.cmd("EXPCACHE.EVENT done:x FIELD company acme"), 1);
    assert_eq!(c.cmd("EXPCACHE.EVENT done:everything FIELD company other"), 1);
    check(&mut c);
}
