//! Who may do what: key patterns, tags (guarded as keys of their names would be), categories, single commands.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod harness;

use harness::{Command, Conn, Server, Value, args, check};

/// A connection of a new user with these rules.
fn user(server: &Server, rules: &str) -> Conn {
    let mut admin = server.conn();
    admin.int("ACL DELUSER someone");
    admin.ok(&format!("ACL SETUSER someone on >secret {rules}"));
    let mut c = server.conn();
    c.ok("AUTH someone secret");
    c
}

/// A server with entries of two applications, `app` and `other`, each with a tag of its own and a shared one.
fn server() -> (Server, Conn) {
    let server = Server::start();
    let mut admin = server.conn();
    for name in ["app", "other"] {
        for n in 1..=2 {
            admin.ok(args!["EXPCACHE.SET", format!("{name}:{n}"), "v", "TAGS", 2, format!("{name}:1"), "shared"]);
        }
    }
    (server, admin)
}

#[track_caller]
fn noperm(c: &mut Conn, command: impl Command) {
    c.err(command, "NOPERM");
}

// ---- keys

#[test]
fn who_may_read_a_key_may_read_the_entry_and_nothing_else() {
    let (server, mut admin) = server();
    for rules in ["%R~app:* +@all", "~app:* +@all"] {
        let mut c = user(&server, rules);
        assert_eq!(c.cmd("EXPCACHE.GET app:1"), "v");
        assert_eq!(c.cmd("EXPCACHE.MGET app:1 app:2 app:3").items().len(), 3);
        assert_eq!(c.map("EXPCACHE.FETCH app:1")["status"], "hit");
        assert_eq!(c.map("EXPCACHE.META app:1")["size"], 1);
        c.text("EXPCACHE.KEYFOR trips COMPANY 1");
        for command in [
            "EXPCACHE.GET other:1",
            "EXPCACHE.FETCH other:1",
            "EXPCACHE.META other:1",
            "EXPCACHE.MGET app:1 other:1",
            "EXPCACHE.MGET other:1 app:1",
            "EXPCACHE.SET other:1 w",
            "EXPCACHE.MSET 2 app:1 w other:1 w",
            "EXPCACHE.DEL app:1 other:1",
        ] {
            noperm(&mut c, command);
        }
    }
    let mut c = user(&server, "%R~app:* +@all");
    for command in ["EXPCACHE.SET app:1 w", "EXPCACHE.MSET 1 app:1 w", "EXPCACHE.DEL app:1"] {
        noperm(&mut c, command);
    }
    let mut c = user(&server, "%W~app:* +@all");
    for command in ["EXPCACHE.GET app:1", "EXPCACHE.MGET app:1", "EXPCACHE.FETCH app:1", "EXPCACHE.META app:1"] {
        noperm(&mut c, command);
    }
    assert_eq!(admin.cmd("EXPCACHE.MGET app:1 other:1").items(), [Value::bulk("v"), Value::bulk("v")]);
    c.ok("EXPCACHE.SET app:1 w");
    c.ok("EXPCACHE.MSET 1 app:2 w");
    assert_eq!(c.cmd("EXPCACHE.DEL app:1 app:2"), 2);
    check(&mut admin);
}

#[test]
fn what_a_hit_puts_off_is_not_the_readers_doing() {
    let (server, mut admin) = server();
    admin.ok("EXPCACHE.TYPE SET s TTL 10h SLIDING yes");
    let mut c = user(&server, "%R~app:* +expcache.get +eval_ro");
    for read in
        [&["EXPCACHE.GET", "app:s"][..], &["EVAL_RO", "return redis.call('EXPCACHE.GET', KEYS[1])", "1", "app:s"]]
    {
        admin.ok("EXPCACHE.SET app:s v TYPE s");
        admin.int("EXPIRE app:s 100");
        assert_eq!(c.cmd(read), "v");
        assert!(admin.int("TTL app:s") > 1000, "{read:?}");
    }
}

// ---- tags

#[test]
fn a_tag_is_guarded_as_a_key_of_its_name() {
    for rules in ["~app:* +@all", "%W~app:* +@all", "%R~* %W~app:* +@all"] {
        for command in ["EXPCACHE.INVALIDATE.TAG", "EXPCACHE.INVTAG"] {
            let (server, mut admin) = server();
            let mut c = user(&server, rules);
            for tags in ["other:1", "app:1 other:1", "other:1 app:1", "shared", "app:1 nobody's"] {
                noperm(&mut c, &format!("{command} {tags}"));
                assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 4, "{rules}: {tags}");
            }
            assert_eq!(c.cmd(&[command, "app:1", "app:none"]), 2);
            assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 2);
            check(&mut admin);
        }
    }
    let (server, mut admin) = server();
    noperm(&mut user(&server, "%R~app:* +@all"), "EXPCACHE.INVALIDATE.TAG app:1");
    noperm(&mut user(&server, "+@all"), "EXPCACHE.INVALIDATE.TAG app:1");
    assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 4);
}

#[test]
fn what_a_permitted_tag_is_on_goes_wherever_it_is() {
    let (server, mut admin) = server();
    admin.ok("EXPCACHE.SET elsewhere v TAGS 1 app:1");
    let mut c = user(&server, "~app:* +@all");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG app:1"), 3);
    admin.nil("EXPCACHE.GET elsewhere");
    assert_eq!(admin.cmd("EXPCACHE.GET other:1"), "v");
    check(&mut admin);
}

#[test]
fn in_transactions_and_scripts_too() {
    let (server, mut admin) = server();
    let mut c = user(&server, "~app:* +@all");
    let script = "return redis.call('EXPCACHE.INVALIDATE.TAG', ARGV[1])";
    assert!(matches!(c.cmd(&["EVAL", script, "0", "other:1"]), Value::Error(_)));
    c.ok("MULTI");
    // An error here discards the transaction, one in EXEC stands among its replies: either refuses.
    c.cmd("EXPCACHE.INVALIDATE.TAG other:1");
    let replies = c.cmd("EXEC");
    assert!(matches!(replies, Value::Error(_)) || matches!(replies.items()[0], Value::Error(_)), "{replies}");
    assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 4);
    assert_eq!(c.cmd(&["EVAL", script, "0", "app:1"]), 2);
}

#[test]
fn background_removal_asks_nobody() {
    let (server, mut admin) = server();
    let sets = (0..1_000).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 1, "app:crowd"]);
    admin.pipeline(sets);
    let mut c = user(&server, "~app:* +expcache.invalidate.tag");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG app:crowd"), 1_000);
    harness::wait_until("they are reclaimed", || admin.cmd("DBSIZE") == 4);
}

// ---- commands

#[test]
fn categories() {
    let (server, mut admin) = server();
    // Redis 7.0 knows no categories of module commands.
    if admin.info("server", "redis_version").starts_with("7.0.") {
        return;
    }
    let mut c = user(&server, "~* +@read");
    for command in ["EXPCACHE.GET app:1", "EXPCACHE.MGET app:1", "EXPCACHE.FETCH app:1", "EXPCACHE.META app:1"] {
        assert!(!matches!(c.cmd(command), Value::Error(_)), "{command}");
    }
    for command in ["EXPCACHE.SET a v", "EXPCACHE.MSET 1 a v", "EXPCACHE.DEL a", "EXPCACHE.INVALIDATE.TAG a"] {
        noperm(&mut c, command);
    }
    let mut c = user(&server, "~* +@write");
    for command in ["EXPCACHE.GET app:1", "EXPCACHE.MGET app:1", "EXPCACHE.FETCH app:1", "EXPCACHE.META app:1"] {
        noperm(&mut c, command);
    }
    c.ok("EXPCACHE.SET a v TAGS 1 a");
    c.ok("EXPCACHE.MSET 1 a v TAGS 1 a");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG a"), 1);
    assert_eq!(c.cmd("EXPCACHE.DEL a"), 0);
}

#[test]
fn the_modules_own_category_where_the_server_has_such() {
    let (server, mut admin) = server();
    if !admin.cmd("ACL CAT").sorted_texts().contains(&"expcache".to_string()) {
        // Added to Redis after 7.2, from which Valkey began; its 8.0 has it.
        let version = admin.info("server", "redis_version");
        let valkey = admin.info("server", "valkey_version");
        assert!(version.starts_with("7.") && valkey.is_empty(), "Redis {version}, Valkey {valkey}");
        return;
    }
    // Valkey 8.0 knows the category and lists nothing of it.
    let commands = admin.cmd("ACL CAT expcache").sorted_texts();
    let commands =
        if commands.is_empty() { admin.cmd("COMMAND LIST FILTERBY ACLCAT expcache").sorted_texts() } else { commands };
    for command in ["get", "set", "mget", "mset", "fetch", "meta", "del", "invalidate.tag", "invtag", "stats", "keyfor"]
    {
        assert!(commands.contains(&format!("expcache.{command}")), "{command} in {commands:?}");
    }
    let mut c = user(&server, "~* +@expcache");
    assert_eq!(c.cmd("EXPCACHE.GET app:1"), "v");
    c.ok("EXPCACHE.SET app:1 w");
    c.ok("EXPCACHE.TYPE SET trips TTL 1h");
    noperm(&mut c, "GET app:1");
    let mut c = user(&server, "~* +@all -@expcache");
    noperm(&mut c, "EXPCACHE.GET app:1");
    noperm(&mut c, "EXPCACHE.TYPE LIST");
    c.ok("SET text v");
}

#[test]
fn a_single_command() {
    let (server, _admin) = server();
    let mut c = user(&server, "~* +expcache.get");
    assert_eq!(c.cmd("EXPCACHE.GET app:1"), "v");
    for command in ["EXPCACHE.MGET app:1", "EXPCACHE.SET app:1 w", "EXPCACHE.STATS", "EXPCACHE.TYPE LIST", "PING"] {
        noperm(&mut c, command);
    }
}

#[test]
fn a_single_subcommand() {
    let (server, mut admin) = server();
    let mut c = user(&server, "+expcache.type|get");
    assert_eq!(c.map("EXPCACHE.TYPE GET trips")["ttl"], 3_600_000);
    for command in ["EXPCACHE.TYPE SET trips TTL 1m", "EXPCACHE.TYPE LIST", "EXPCACHE.TYPE DEL trips"] {
        noperm(&mut c, command);
    }
    let mut c = user(&server, "+expcache.type -expcache.type|set -expcache.type|del");
    assert_eq!(c.map("EXPCACHE.TYPE GET trips")["ttl"], 3_600_000);
    c.cmd("EXPCACHE.TYPE LIST").items();
    noperm(&mut c, "EXPCACHE.TYPE SET trips TTL 1m");
    noperm(&mut c, "EXPCACHE.TYPE DEL trips");
    assert_eq!(admin.map("EXPCACHE.TYPE GET trips")["ttl"], 3_600_000);
}

#[test]
fn a_dry_run_says_the_same() {
    let (server, mut admin) = server();
    user(&server, "%R~app:* %W~acme:* +@all -expcache.stats");
    for command in ["GET app:1", "MGET app:1 app:2", "FETCH app:1", "META app:1", "SET acme:1 v", "DEL acme:1"] {
        admin.ok(&format!("ACL DRYRUN someone EXPCACHE.{command}"));
    }
    for command in ["GET acme:1", "MGET app:1 acme:1", "SET app:1 v", "MSET 2 acme:1 v app:1 v", "DEL app:1", "STATS"] {
        let verdict = admin.cmd(&format!("ACL DRYRUN someone EXPCACHE.{command}")).text();
        assert!(verdict.contains("no permissions"), "{command}: {verdict}");
    }
}
