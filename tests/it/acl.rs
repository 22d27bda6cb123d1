//! Who may do what: key patterns, tags (guarded as keys of their names would be), categories, single commands.

use crate::harness::{Command, Conn, Server, Value, args, check};

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
    admin.ok("EXPCACHE.SET app:s v TYPE s");
    admin.int("EXPIRE app:s 100");
    // A script that may only read puts nothing off.
    assert_eq!(c.cmd(&["EVAL_RO", "return redis.call('EXPCACHE.GET', KEYS[1])", "1", "app:s"]), "v");
    assert!(admin.int("TTL app:s") <= 100);
    assert_eq!(c.cmd("EXPCACHE.GET app:s"), "v");
    assert!(admin.int("TTL app:s") > 1000);
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

/// Everything that is not confined to tags of the user's own is another's business.
#[test]
fn one_company_can_neither_purge_nor_count_nor_list_what_is_anothers() {
    let (server, mut admin) = server();
    admin.ok("EXPCACHE.SET untagged v");
    let mut c = user(&server, "~app:* +@all");
    for selector in [
        "ANY 1 other:1",
        "ANY 2 app:1 other:1",
        "ANY 1 shared",
        "ALL 1 other:1",
        "ALL 2 other:1 shared",
        "NONE 1 app:1",
        "NONE 1 other:1",
        "TYPE default",
        "TYPES 2 default trips",
        "MATCH *",
        "MATCH app:*",
        "MATCH app:1",
        "MATCH app:1 TYPE default NONE 1 other:1",
        "ANY 1 other:1 ALL 1 shared NONE 1 app:1",
    ] {
        for command in ["PURGE", "PURGE SOFT", "PURGE DRYRUN", "PURGE DRYRUN KEYS 9", "COUNT", "SCAN 0"] {
            let (name, options) = command.split_once(' ').unwrap_or((command, ""));
            let command = match name {
                "SCAN" => format!("EXPCACHE.SCAN 0 {selector}"),
                _ => format!("EXPCACHE.{name} {selector} {options}"),
            };
            noperm(&mut c, &command);
        }
    }
    noperm(&mut c, "EXPCACHE.CLEAR");
    noperm(&mut c, "EXPCACHE.CLEAR SOFT");
    assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 5);
    assert_eq!(admin.cmd("EXPCACHE.COUNT TYPE default"), 5);
    assert_eq!(admin.cmd("EXPCACHE.PURGE TYPE default SOFT DRYRUN"), 5, "all are fresh");

    assert_eq!(iterated(&mut c, "EXPCACHE.SCAN", "COUNT 1"), ["app:1", "app:2"]);
    assert_eq!(iterated(&mut c, "EXPCACHE.TAGS", "COUNT 1"), ["2", "app:1"]);
    assert!(iterated(&mut c, "EXPCACHE.TAGS", "MATCH other:*").is_empty());
    check(&mut admin);
}

/// All elements of an iteration, sorted.
fn iterated(c: &mut Conn, command: &str, options: &str) -> Vec<String> {
    let mut elements: Vec<String> = c.iterate(command, options).iter().map(Value::text).collect();
    elements.sort();
    elements
}

#[test]
fn a_selector_is_a_users_if_a_clause_confines_it_to_his_tags() {
    for selector in [
        "ANY 1 app:1",
        "ANY 2 app:1 app:none",
        "ALL 1 app:1",
        "ALL 2 shared app:1",
        "ALL 3 app:1 shared app:1",
        "ANY 1 shared ANY 1 app:1",
        "ANY 2 other:1 app:1 ALL 1 app:1",
        "ANY 1 app:1 TYPE default",
        "TYPE default MATCH * NONE 1 other:1 ANY 1 app:1",
    ] {
        let (server, mut admin) = server();
        let mut c = user(&server, "~app:* +@all");
        assert_eq!(c.cmd(&format!("EXPCACHE.COUNT {selector}")), 2, "{selector}");
        assert_eq!(iterated(&mut c, "EXPCACHE.SCAN", selector), ["app:1", "app:2"], "{selector}");
        assert_eq!(c.cmd(&format!("EXPCACHE.PURGE {selector} DRYRUN")), 2, "{selector}");
        assert_eq!(c.cmd(&format!("EXPCACHE.PURGE {selector} KEYS 9")).items().len(), 3, "{selector}");
        assert_eq!(admin.cmd("EXPCACHE.COUNT ANY 1 other:1"), 2, "{selector}");
        check(&mut admin);
    }
    let (server, _admin) = server();
    let mut c = user(&server, "~app:* +@all");
    assert_eq!(c.cmd("EXPCACHE.PURGE ALL 2 app:1 other:1"), 0, "nothing has both");
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 other:1 ALL 1 app:1"), 0);
}

/// Counts are exact; only keys that the user may read are named.
#[test]
fn keys_that_a_user_may_not_read_are_not_named() {
    let (server, mut admin) = server();
    admin.ok("EXPCACHE.SET elsewhere v TAGS 1 app:1");
    let mut c = user(&server, "~app:* +@all");
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 app:1"), 3);
    assert_eq!(iterated(&mut c, "EXPCACHE.SCAN", "ANY 1 app:1"), ["app:1", "app:2"]);
    assert_eq!(iterated(&mut c, "EXPCACHE.TAGS", ""), ["3", "app:1"]);
    let named = |reply: Value| {
        let names: Vec<Value> = reply.items()[1..].to_vec();
        (reply.items()[0].int(), Value::Array(names).sorted_texts().join(" "))
    };
    for dry in ["DRYRUN", ""] {
        let reply = c.cmd(&format!("EXPCACHE.PURGE ANY 1 app:1 KEYS 100 {dry}"));
        assert_eq!(named(reply), (3, "app:1 app:2".into()), "{dry}");
    }
    admin.nil("EXPCACHE.GET elsewhere");

    admin.ok("EXPCACHE.SET app:1 v TAGS 1 app:1");
    let mut writer = user(&server, "%W~app:* +@all");
    assert_eq!(named(writer.cmd("EXPCACHE.PURGE ANY 1 app:1 KEYS 100")), (1, String::new()));
    check(&mut admin);
}

#[test]
fn reading_and_writing_are_two_rights() {
    let (server, mut admin) = server();
    let mut reader = user(&server, "%R~app:* +@all");
    assert_eq!(reader.cmd("EXPCACHE.COUNT ANY 1 app:1"), 2);
    assert_eq!(iterated(&mut reader, "EXPCACHE.SCAN", "ALL 1 app:1"), ["app:1", "app:2"]);
    assert_eq!(iterated(&mut reader, "EXPCACHE.TAGS", ""), ["2", "app:1"]);
    for command in ["PURGE ANY 1 app:1", "PURGE ANY 1 app:1 SOFT", "PURGE ANY 1 app:1 DRYRUN", "CLEAR", "CLEAR SOFT"] {
        noperm(&mut reader, &format!("EXPCACHE.{command}"));
    }
    let mut writer = user(&server, "%W~app:* +@all");
    noperm(&mut writer, "EXPCACHE.COUNT ANY 1 app:1");
    noperm(&mut writer, "EXPCACHE.SCAN 0 ANY 1 app:1");
    assert!(iterated(&mut writer, "EXPCACHE.SCAN", "").is_empty());
    assert!(iterated(&mut writer, "EXPCACHE.TAGS", "").is_empty());
    assert_eq!(writer.cmd("EXPCACHE.PURGE ANY 1 app:1 DRYRUN"), 2);
    assert_eq!(writer.cmd("EXPCACHE.PURGE ANY 1 app:1"), 2);

    let mut reader = user(&server, "%R~* +@all");
    assert_eq!(reader.cmd("EXPCACHE.COUNT TYPE default"), 2);
    assert_eq!(iterated(&mut reader, "EXPCACHE.SCAN", "MATCH *"), ["other:1", "other:2"]);
    assert_eq!(iterated(&mut reader, "EXPCACHE.TAGS", ""), ["2", "2", "other:1", "shared"]);
    noperm(&mut reader, "EXPCACHE.PURGE MATCH *");
    noperm(&mut reader, "EXPCACHE.CLEAR");
    let mut writer = user(&server, "%W~* +@all");
    noperm(&mut writer, "EXPCACHE.COUNT TYPE default");
    assert_eq!(writer.cmd("EXPCACHE.PURGE MATCH other:1"), 1);
    assert_eq!(writer.cmd("EXPCACHE.CLEAR"), 1);
    check(&mut admin);
}

#[test]
fn who_has_all_keys_may_select_anything() {
    for rules in ["~* +@all", "allkeys +@all", "~app:* ~* +@all", "%RW~* +@all"] {
        let (server, mut admin) = server();
        let mut c = user(&server, rules);
        assert_eq!(c.cmd("EXPCACHE.COUNT TYPE default"), 4, "{rules}");
        assert_eq!(iterated(&mut c, "EXPCACHE.SCAN", "NONE 1 app:1"), ["other:1", "other:2"], "{rules}");
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH *:1 SOFT"), 2, "{rules}");
        assert_eq!(c.cmd("EXPCACHE.CLEAR"), 2, "{rules}");
        check(&mut admin);
    }
    // Many keys are not all.
    for rules in ["~[^a]* +@all", "~a* ~o* ~s* +@all", "~*:* +@all", "~ +@all", "%R~app:* %W~other:* +@all"] {
        let (server, mut admin) = server();
        let mut c = user(&server, rules);
        for command in ["CLEAR", "PURGE MATCH *", "PURGE TYPE default", "COUNT TYPE default", "SCAN 0 MATCH app:*"] {
            noperm(&mut c, &format!("EXPCACHE.{command}"));
        }
        assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 4, "{rules}");
    }
}

#[test]
fn a_user_with_several_selectors_may_what_any_of_them_grants() {
    let (server, mut admin) = server();
    let mut c = user(&server, "~app:* +@all (~other:* +@all)");
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 2 app:1 other:1"), 4);
    noperm(&mut c, "EXPCACHE.COUNT ANY 1 shared");
    assert_eq!(iterated(&mut c, "EXPCACHE.SCAN", ""), ["app:1", "app:2", "other:1", "other:2"]);
    assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 other:1 MATCH *:1"), 1);
    noperm(&mut c, "EXPCACHE.CLEAR");
    let mut c = user(&server, "~app:* +@all (%W~* +@all)");
    noperm(&mut c, "EXPCACHE.COUNT MATCH *");
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 3);
    check(&mut admin);
}

#[test]
fn selectors_are_guarded_in_transactions_and_scripts() {
    let (server, mut admin) = server();
    let mut c = user(&server, "~app:* +@all");
    for words in [
        args!["EXPCACHE.PURGE", "ANY", 1, "other:1"],
        args!["EXPCACHE.PURGE", "MATCH", "app:*", "SOFT"],
        args!["EXPCACHE.CLEAR"],
        args!["EXPCACHE.COUNT", "TYPE", "default"],
        args!["EXPCACHE.SCAN", 0, "ANY", 1, "other:1"],
    ] {
        let script = "return redis.call(unpack(ARGV))";
        let reply = c.cmd([args!["EVAL", script, 0], words.clone()].concat());
        assert!(matches!(reply, Value::Error(_)), "{reply}");
        c.ok("MULTI");
        c.cmd(words);
        let replies = c.cmd("EXEC");
        assert!(matches!(replies, Value::Error(_)) || matches!(replies.items()[0], Value::Error(_)), "{replies}");
    }
    assert_eq!(admin.cmd("EXPCACHE.PURGE TYPE default SOFT DRYRUN"), 4);
    let script = "return redis.call('EXPCACHE.SCAN', '0')[2]";
    assert_eq!(c.cmd(&["EVAL", script, "0"]).sorted_texts(), ["app:1", "app:2"]);
    let replies = c.transaction(["EXPCACHE.SCAN 0", "EXPCACHE.TAGS 0", "EXPCACHE.PURGE ANY 1 app:1 KEYS 1"]);
    assert_eq!(replies[0].items()[1].sorted_texts(), ["app:1", "app:2"]);
    assert_eq!(replies[1].items()[1].items(), [Value::bulk("app:1"), Value::Int(2)]);
    assert_eq!(replies[2].items().len(), 2);
    check(&mut admin);
}

#[test]
fn the_rights_are_those_of_the_moment() {
    let (server, mut admin) = server();
    let mut c = user(&server, "~* +@all");
    assert_eq!(c.cmd("EXPCACHE.COUNT MATCH *"), 4);
    admin.ok("ACL SETUSER someone resetkeys ~app:*");
    noperm(&mut c, "EXPCACHE.COUNT MATCH *");
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 app:1"), 2);
    admin.ok("ACL SETUSER someone resetkeys");
    noperm(&mut c, "EXPCACHE.COUNT ANY 1 app:1");
    assert!(iterated(&mut c, "EXPCACHE.SCAN", "").is_empty());
    assert!(iterated(&mut c, "EXPCACHE.TAGS", "").is_empty());
}

#[test]
fn what_may_no_longer_be_searched_for_is_not_changed() {
    let (server, mut admin) = server();
    admin.ok("CONFIG SET expcache.reclaim-slice-us 1");
    // Names that take a thousand slices and more.
    let name = "a".repeat(100_000);
    admin.pipeline((0..100).map(|n| args!["EXPCACHE.SET", format!("{n}:{name}"), "v"]));
    let keys = admin.int("DBSIZE");
    let mut c = user(&server, "~* +@all");
    let id = c.int("CLIENT ID");
    c.send("EXPCACHE.PURGE MATCH *x*y*").unwrap();
    crate::harness::wait_until("the search goes on", || {
        admin.text("CLIENT LIST").lines().any(|line| line.contains(&format!("id={id} ")) && line.contains(" flags=b "))
    });
    admin.ok("ACL SETUSER someone resetkeys -@all");
    assert!(matches!(c.receive().unwrap(), Value::Error(why) if why.starts_with("NOPERM")));
    assert_eq!(admin.int("DBSIZE"), keys);
    check(&mut admin);
}

#[test]
fn background_removal_asks_nobody() {
    let (server, mut admin) = server();
    let sets = (0..1_000).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), "v", "TAGS", 1, "app:crowd"]);
    admin.pipeline(sets);
    let mut c = user(&server, "~app:* +expcache.invalidate.tag");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG app:crowd"), 1_000);
    crate::harness::wait_until("they are reclaimed", || admin.cmd("DBSIZE") == 4);
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
    for command in ["EXPCACHE.COUNT ANY 1 a", "EXPCACHE.SCAN 0", "EXPCACHE.TAGS 0"] {
        assert!(!matches!(c.cmd(command), Value::Error(_)), "{command}");
    }
    for command in ["EXPCACHE.SET a v", "EXPCACHE.MSET 1 a v", "EXPCACHE.DEL a", "EXPCACHE.INVALIDATE.TAG a"] {
        noperm(&mut c, command);
    }
    for command in ["EXPCACHE.PURGE ANY 1 a", "EXPCACHE.PURGE ANY 1 a DRYRUN", "EXPCACHE.CLEAR"] {
        noperm(&mut c, command);
    }
    let mut c = user(&server, "~* +@write");
    for command in ["EXPCACHE.GET app:1", "EXPCACHE.MGET app:1", "EXPCACHE.FETCH app:1", "EXPCACHE.META app:1"] {
        noperm(&mut c, command);
    }
    for command in ["EXPCACHE.COUNT ANY 1 a", "EXPCACHE.SCAN 0", "EXPCACHE.TAGS 0"] {
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
    for command in [
        "get",
        "set",
        "mget",
        "mset",
        "fetch",
        "meta",
        "del",
        "invalidate.tag",
        "invtag",
        "purge",
        "clear",
        "count",
        "scan",
        "tags",
        "stats",
        "keyfor",
    ] {
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

// ---- all keys, and one selector for both command and keys

/// Patterns that match nearly every name, and so every name that one thinks of.
#[test]
fn nearly_all_keys_are_not_all() {
    let (server, mut admin) = server();
    for keys in ["~? ~????????", "~?*", "~[^x]*", "~? ~??*", "~????????*", "~*?", "%R~* %W~? %W~????????"] {
        let mut c = user(&server, &format!("{keys} +@all"));
        for command in ["CLEAR", "CLEAR SOFT", "PURGE MATCH *", "PURGE TYPE default SOFT", "PURGE NONE 1 a DRYRUN"] {
            noperm(&mut c, &format!("EXPCACHE.{command}"));
        }
    }
    assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 4);
    for keys in ["~*", "~**", "%RW~*", "%R~x %W~*", "~x (~* +@all)", "allkeys"] {
        let mut c = user(&server, &format!("{keys} +@all"));
        assert_eq!(c.cmd("EXPCACHE.PURGE MATCH nothing"), 0, "{keys}");
    }
    check(&mut admin);
}

/// The keys of one selector and the commands of another are nothing together.
#[test]
fn one_selector_must_grant_the_command_and_the_keys() {
    let (server, mut admin) = server();
    let ours = "+expcache.clear +expcache.purge +expcache.count +expcache.scan +expcache.tags +expcache.top \
                +expcache.invalidate.tag +expcache.invtag +expcache.type|set +expcache.type|del +eval";
    for rules in [format!("~app:* {ours} (~* +get +set)"), format!("~* +get (~app:* {ours})")] {
        let mut c = user(&server, &rules);
        for command in [
            "CLEAR",
            "PURGE MATCH *",
            "PURGE ANY 1 other:1",
            "COUNT TYPE default",
            "COUNT ANY 1 other:1",
            "SCAN 0 MATCH *",
            "INVALIDATE.TAG other:1",
            "INVTAG app:1 other:1",
            "TYPE SET default MAXVALUE 1",
            "TYPE DEL trips",
        ] {
            noperm(&mut c, &format!("EXPCACHE.{command}"));
            let script = "return redis.call(unpack(ARGV))";
            let command = format!("EXPCACHE.{command}");
            let words = ["EVAL", script, "0"].into_iter().chain(command.split(' ')).collect::<Vec<_>>();
            assert!(matches!(c.cmd(words), Value::Error(_)), "{command}");
        }
        assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 app:1"), 2, "{rules}");
        assert_eq!(iterated(&mut c, "EXPCACHE.SCAN", ""), ["app:1", "app:2"], "{rules}");
        assert_eq!(iterated(&mut c, "EXPCACHE.TAGS", ""), ["2", "app:1"], "{rules}");
        assert_eq!(c.cmd("EXPCACHE.TOP BY size").items().len(), 2, "{rules}");
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 app:1 SOFT DRYRUN"), 2, "{rules}");
    }
    assert_eq!(admin.map("EXPCACHE.STATS")["entries"], 4);
    let mut c = user(&server, "~app:* +expcache.count (~* +expcache.clear)");
    noperm(&mut c, "EXPCACHE.COUNT TYPE default");
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 4);
    check(&mut admin);
}

/// More users, each with selectors of his own, than are remembered; and rules that change.
#[test]
fn each_of_many_users_has_his_own_selectors() {
    let (server, mut admin) = server();
    let mut users: Vec<Conn> = (0..80)
        .map(|n| {
            admin.ok(&format!(
                "ACL SETUSER u{n} on nopass ~u{n}:* +get (~t{n}:* +expcache.invtag) (~s{n} +expcache.count)"
            ));
            let mut c = server.conn();
            c.ok(&format!("AUTH u{n} x"));
            c
        })
        .collect();
    for _ in 0..2 {
        for (n, c) in users.iter_mut().enumerate() {
            assert_eq!(c.cmd(&format!("EXPCACHE.INVTAG t{n}:1")), 0);
            assert_eq!(c.cmd(&format!("EXPCACHE.COUNT ANY 1 s{n}")), 0);
            for tag in [format!("u{n}:1"), format!("s{n}"), format!("t{}:1", n + 1)] {
                noperm(c, &format!("EXPCACHE.INVTAG {tag}"));
            }
        }
    }
    admin.ok("ACL SETUSER u7 clearselectors (~z* +expcache.invtag) (~s7 +get)");
    noperm(&mut users[7], "EXPCACHE.INVTAG t7:1");
    noperm(&mut users[7], "EXPCACHE.COUNT ANY 1 s7");
    assert_eq!(users[7].cmd("EXPCACHE.INVTAG z"), 0);
}

/// The server says who was refused what, if it is told.
#[test]
fn what_is_refused_is_in_the_servers_log_of_it() {
    let (server, mut admin) = server();
    let mut c = user(&server, "~app:* +@all -@admin -config");
    for (command, object) in [
        ("INVALIDATE.TAG app:1 other:1", "other:1"),
        ("PURGE ALL 2 shared other:1", "shared"),
        ("PURGE MATCH *", "*"),
        ("COUNT ANY 1 other:1", "other:1"),
        ("SCAN 0 TYPE default", "*"),
        ("CLEAR", "*"),
    ] {
        admin.ok("ACL LOG RESET");
        noperm(&mut c, &format!("EXPCACHE.{command}"));
        let log = admin.cmd("ACL LOG");
        let first = log.items().first().unwrap_or_else(|| panic!("{command} is not in the log")).fields();
        let said = ["reason", "object", "username"].map(|name| first[name].text());
        assert_eq!(said, ["key", object, "someone"], "{command}");
    }
}

// ---- types, counters and checks are an administrator's

#[test]
fn a_types_policy_is_everybodys_business() {
    let (server, mut admin) = server();
    let before = admin.map("EXPCACHE.TYPE GET default");
    for keys in ["~app:*", "%R~*", "~? ~????????", "~*:* ~app*"] {
        let mut c = user(&server, &format!("{keys} +@all"));
        for command in ["SET default MAXVALUE 1", "SET default MAXENTRIES 1", "SET new TTL 1s", "DEL trips"] {
            noperm(&mut c, &format!("EXPCACHE.TYPE {command}"));
            let replies = c.transaction([format!("EXPCACHE.TYPE {command}").as_str()]);
            assert!(replies[0].text().starts_with("NOPERM"), "{replies:?}");
        }
        assert_eq!(c.map("EXPCACHE.TYPE GET trips")["ttl"], 3_600_000);
    }
    assert_eq!(admin.map("EXPCACHE.TYPE GET default"), before);
    assert_eq!(admin.cmd("EXPCACHE.TYPE LIST").items().len(), 6);
    let mut c = user(&server, "%W~* +@all");
    c.ok("EXPCACHE.TYPE SET new TTL 1s");
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL new"), 1);
    check(&mut admin);
}

#[test]
fn a_policy_can_be_changed_when_memory_is_short() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET maxmemory 1");
    c.err("EXPCACHE.SET k v", "OOM");
    c.ok("EXPCACHE.TYPE SET trips MAXENTRIES 10");
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL trips"), 1);
}

#[test]
fn who_only_reads_neither_checks_nor_resets() {
    let (server, mut admin) = server();
    let mut c = user(&server, "~* +expcache.stats +multi +exec +@read -@dangerous");
    c.map("EXPCACHE.STATS");
    noperm(&mut c, "EXPCACHE.DEBUG CHECK");
    assert!(c.err("EXPCACHE.STATS RESET", "NOPERM").contains("config|resetstat"));
    let reply = c.transaction(["EXPCACHE.STATS RESET"]);
    assert!(reply[0].text().starts_with("NOPERM"), "{reply:?}");
    assert_eq!(admin.map("EXPCACHE.STATS")["sets"], 4);
    admin.ok("ACL SETUSER someone +config|resetstat");
    c.ok("EXPCACHE.STATS RESET");
    assert_eq!(admin.map("EXPCACHE.STATS")["sets"], 0);
    user(&server, "+expcache.stats +expcache.debug|check").ok("EXPCACHE.STATS RESET");
    // Redis 7.0 knows no categories of module commands.
    if !admin.info("server", "redis_version").starts_with("7.0.") {
        let mut c = user(&server, "~* +@all -@admin");
        for command in ["TYPE SET trips TTL 1h", "TYPE DEL trips", "DEBUG CHECK", "STATS RESET"] {
            noperm(&mut c, &format!("EXPCACHE.{command}"));
        }
    }
}
