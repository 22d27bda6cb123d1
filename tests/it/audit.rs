//! The audit log: what is in it and what is not, who did it, what a reader learns of lines that are gone, and readers that wait.

use std::thread;

use crate::harness::{Conn, Fields, IN_VAIN, Server, Stop, Value, args, check, refused, wait_until};
use crate::leases::{Waiting, blocked, lease};

const FIELDS: [&str; 13] =
    ["id", "time", "user", "client", "name", "command", "type", "key", "tags", "count", "size", "result", "note"];

/// The lines of the log.
#[track_caller]
fn lines(c: &mut Conn, options: &str) -> Vec<Fields> {
    c.cmd(&format!("EXPCACHE.AUDIT {options}")).items().iter().map(Value::fields).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Nil => "-".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        other => other.text(),
    }
}

/// What a line says was done, in short: command, type, key, tags, count, size, result.
fn told(line: &Fields) -> String {
    ["command", "type", "key", "tags", "count", "size", "result"].map(|field| text(&line[field])).join(" ")
}

/// The number of the newest line.
#[track_caller]
fn newest(c: &mut Conn) -> i64 {
    lines(c, "AFTER -1").last().map_or(0, |line| line["id"].int())
}

/// Asserts that a client's commands write these lines and no other.
#[track_caller]
fn writes(c: &mut Conn, run: impl FnOnce(&mut Conn), expected: &[&str]) -> Vec<Fields> {
    let before = newest(c);
    run(c);
    let lines = lines(c, &format!("COUNT 10000 AFTER {before}"));
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    lines
}

/// A server that has everything recorded of the type `trips`, and one line that says so.
fn scene() -> (Server, Conn) {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET trips AUDIT all");
    (server, c)
}

// ---- what is in it

#[test]
fn what_invalidates_or_defines_is_always_in_it() {
    let server = Server::start();
    for mut c in server.conns() {
        let mut step = |command: &str, expected: &str| _ = writes(&mut c, |c| _ = c.cmd(command), &[expected]);
        step("EXPCACHE.TYPE SET trips TTL 5m", "expcache.type|set trips - [TTL 5m] - - ok");
        step("EXPCACHE.TYPE SET fresh", "expcache.type|set fresh - [] - - ok");
        step("EXPCACHE.TYPE DEL fresh", "expcache.type|del fresh - [] 1 - ok");
        step("EXPCACHE.TYPE DEL fresh", "expcache.type|del fresh - [] 0 - ok");
        step("EXPCACHE.STATS RESET", "expcache.stats - - [RESET] - - ok");
        step("EXPCACHE.INVTAG u", "expcache.invalidate.tag - - [u] 0 - ok");
        for key in ["trips:1", "trips:2", "other"] {
            c.ok(args!["EXPCACHE.SET", key, "v", "TAGS", "2", "t", key]);
        }
        let mut step = |command: &str, expected: &str| _ = writes(&mut c, |c| _ = c.cmd(command), &[expected]);
        step("EXPCACHE.PURGE TYPE trips MATCH *1 SOFT", "expcache.purge trips - [TYPE trips MATCH *1 SOFT] 1 - ok");
        step("EXPCACHE.INVALIDATE.TAG trips:1 nobody", "expcache.invalidate.tag - - [trips:1 nobody] 0 - ok");
        step("EXPCACHE.PURGE ANY 1 t NONE 1 other KEYS 5", "expcache.purge - - [ANY 1 t NONE 1 other] 1 - ok");
        step("EXPCACHE.CLEAR", "expcache.clear - - [] 1 - ok");
        step("EXPCACHE.CLEAR SOFT", "expcache.clear - - [SOFT] 0 - ok");
        check(&mut c);
    }
}

#[test]
fn what_only_looks_or_is_refused_is_not_in_it() {
    let (server, mut c) = scene();
    c.ok("EXPCACHE.SET trips:1 v TAGS 1 t");
    c.ok("SET native v");
    let id = newest(&mut c);
    let looks = [
        "EXPCACHE.PURGE ANY 1 t DRYRUN",
        "EXPCACHE.COUNT ANY 1 t",
        "EXPCACHE.SCAN 0",
        "EXPCACHE.TAGS 0",
        "EXPCACHE.META trips:1",
        "EXPCACHE.STATS",
        "EXPCACHE.TYPE GET trips",
        "EXPCACHE.TYPE LIST",
        "EXPCACHE.TOP",
        "EXPCACHE.HEALTH",
        "EXPCACHE.AUDIT",
        "EXPCACHE.KEYFOR trips",
        "EXPCACHE.SELFTEST",
        "GET native",
    ];
    looks.iter().for_each(|command| _ = c.cmd(*command));
    for (command, error) in [
        ("EXPCACHE.SET native v TYPE trips", "WRONGTYPE"),
        ("EXPCACHE.SET trips:1 v LEASE nobodys-token-at-all", "LEASELOST"),
        ("EXPCACHE.SET trips:1 v HASH 00000000000000000000000000000000", "HASHMISMATCH"),
        ("EXPCACHE.SET trips:1 v EX 0", "ERR"),
        ("EXPCACHE.MSET 2 trips:1 v native v TYPE trips", "WRONGTYPE"),
        ("EXPCACHE.DEL trips:1 native", "WRONGTYPE"),
        ("EXPCACHE.PURGE ANY 1", "ERR"),
        ("EXPCACHE.TYPE SET trips TTL 5", "ERR"),
        ("EXPCACHE.TYPE SET trips AUDIT some", "ERR AUDIT must be off, changes or all"),
        ("EXPCACHE.TYPE DEL default", "ERR"),
    ] {
        refused(&mut c, command, error);
    }
    let mut someone = server.conn();
    c.ok("ACL SETUSER someone on nopass ~trips:* +@all");
    someone.ok("AUTH someone x");
    for command in ["EXPCACHE.CLEAR", "EXPCACHE.TYPE SET trips TTL 1s", "EXPCACHE.GET other", "EXPCACHE.INVTAG t"] {
        someone.err(command, "NOPERM");
    }
    assert_eq!(newest(&mut c), id, "{:?}", lines(&mut c, &format!("AFTER {id}")));
    // Nothing that nobody asked for: expiry, eviction by a limit, reclaiming.
    c.ok("EXPCACHE.TYPE SET trips MAXENTRIES 1 AUDIT changes");
    writes(&mut c, |c| c.ok("EXPCACHE.SET trips:2 v PX 1"), &["expcache.set trips trips:2 [] - 1 ok"]);
    let id = newest(&mut c);
    wait_until("it has expired", || c.cmd("EXISTS trips:2") == 0);
    assert_eq!(newest(&mut c), id);
    check(&mut c);
}

#[test]
fn a_type_says_what_of_it_is_in_it() {
    let server = Server::start();
    let mut c = server.conn();
    let story = |c: &mut Conn| {
        c.ok("EXPCACHE.SET trips:1 12345 TAGS 2 t u");
        c.nil("EXPCACHE.SET trips:1 v NX");
        c.ok("EXPCACHE.MSET 2 trips:2 ab other c TAGS 1 t");
        c.nil("EXPCACHE.MSET 1 trips:2 ab NX TYPE reports");
        c.cmd("EXPCACHE.GET trips:1");
        c.cmd("EXPCACHE.GET trips:9");
        c.cmd("EXPCACHE.GET other");
        c.cmd("EXPCACHE.MGET trips:2 other trips:9");
        c.cmd("EXPCACHE.FETCH trips:1");
        c.cmd("EXPCACHE.FETCH trips:1 RANGE 1 3");
        c.cmd("EXPCACHE.FETCH trips:1 FIELDS 1 size");
        c.cmd("EXPCACHE.FETCH trips:1 IFNONEMATCH 827ccb0eea8a706c4c34a16891f84e7b");
        c.cmd("EXPCACHE.FETCH trips:9");
        assert_eq!(c.cmd("EXPCACHE.DEL trips:1 other trips:9"), 2);
        assert_eq!(c.cmd("UNLINK trips:2 trips:9"), 1);
    };
    c.ok("EXPCACHE.TYPE SET reports AUDIT off");
    writes(&mut c, story, &[]);
    let changes = [
        "expcache.set trips trips:1 [t u] - 5 ok",
        "expcache.set trips trips:1 [] - 1 null",
        "expcache.mset trips trips:2 [t] - 2 ok",
        "expcache.del trips trips:1 [] - - ok",
        "expcache.del trips trips:9 [] - - null",
        "del trips trips:2 [] - - ok",
    ];
    c.ok("EXPCACHE.TYPE SET trips AUDIT changes");
    writes(&mut c, story, &changes);
    let reads = [
        "expcache.get trips trips:1 [] - 5 hit",
        "expcache.get trips trips:9 [] - - miss",
        "expcache.mget trips trips:2 [] - 2 hit",
        "expcache.mget trips trips:9 [] - - miss",
        "expcache.fetch trips trips:1 [] - 5 hit",
        "expcache.fetch trips trips:1 [] - 3 hit",
        "expcache.fetch trips trips:1 [] - 0 hit",
        "expcache.fetch trips trips:1 [] - 0 hit",
        "expcache.fetch trips trips:9 [] - - miss",
    ];
    c.ok("EXPCACHE.TYPE SET trips AUDIT all");
    let all = [&changes[..3], &reads, &changes[3..]].concat();
    writes(&mut c, story, &all);
    c.ok("EXPCACHE.TYPE SET trips AUDIT off");
    writes(&mut c, story, &[]);
    check(&mut c);
}

#[test]
fn what_is_stale_is_read_as_such() {
    let (_server, mut c) = scene();
    c.ok("EXPCACHE.SET trips:1 abc PXAT 1000 GRACE 365000d");
    writes(
        &mut c,
        |c| {
            c.cmd("EXPCACHE.FETCH trips:1");
            c.cmd("EXPCACHE.GET trips:1");
            c.cmd("EXPCACHE.MGET trips:1");
        },
        &[
            "expcache.fetch trips trips:1 [] - 3 stale",
            "expcache.get trips trips:1 [] - - miss",
            "expcache.mget trips trips:1 [] - - miss",
        ],
    );
    check(&mut c);
}

/// A type that nobody defined lives under the policy of `default`, and so do keys that name none.
#[test]
fn the_policy_of_default_counts_for_what_has_none() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v TYPE gone");
    assert_eq!(c.cmd("EXPCACHE.TYPE DEL gone"), 1);
    c.ok("EXPCACHE.TYPE SET default AUDIT all");
    writes(
        &mut c,
        |c| {
            c.cmd("EXPCACHE.GET k");
            c.cmd("EXPCACHE.GET nothing");
            c.ok("EXPCACHE.SET new v TYPE first");
            c.cmd("EXPCACHE.GET trips:1");
        },
        &[
            "expcache.get gone k [] - 1 hit",
            "expcache.get default nothing [] - - miss",
            "expcache.set first new [] - 1 ok",
        ],
    );
    check(&mut c);
}

#[test]
fn a_line_has_these_fields_in_both_protocols() {
    let (server, mut c) = scene();
    c.ok("EXPCACHE.SET trips:1 v NOTE why");
    for mut c in server.conns() {
        let reply = c.cmd("EXPCACHE.AUDIT COUNT 2");
        assert_eq!(reply.items().len(), 2);
        for line in reply.items() {
            assert_eq!(matches!(line, Value::Map(_)), matches!(c.cmd("EXPCACHE.STATS"), Value::Map(_)));
            assert_eq!(line.fields().names(), FIELDS);
        }
        assert_eq!(reply.items()[1].fields()["note"], "why");
        let first = reply.items()[0].fields()["id"].int();
        let behind = lines(&mut c, &format!("AFTER {}", first - 2));
        assert_eq!(behind[0].names(), [&FIELDS[..], &["lost"]].concat());
        assert_eq!(behind[1].names(), FIELDS);
        assert_eq!(c.cmd("EXPCACHE.AUDIT AFTER $"), Value::Array(Vec::new()));
    }
    for (options, error) in [
        ("COUNT 0", "ERR value is not an integer or out of range"),
        ("COUNT 10001", "ERR value is not an integer or out of range"),
        ("AFTER --1", "ERR value is not an integer or out of range"),
        ("AFTER x", "ERR value is not an integer or out of range"),
        ("WAIT soon", "ERR invalid duration"),
        ("COUNT 1 COUNT 2", "ERR syntax error"),
        ("AFTER", "ERR syntax error"),
        ("KEY k", "ERR syntax error"),
    ] {
        refused(&mut c, &format!("EXPCACHE.AUDIT {options}"), error);
    }
    check(&mut c);
}

// ---- who did it

#[test]
fn a_line_says_who_did_it() {
    let (server, mut admin) = scene();
    admin.ok("ACL SETUSER alice on nopass ~* +@all");
    admin.ok("ACL SETUSER bob on nopass ~* +@all");
    let mut c = server.conn();
    let client = c.int("CLIENT ID");
    let who = |admin: &mut Conn| {
        let last = lines(admin, "AFTER -1").pop().unwrap();
        [&last["user"], &last["client"], &last["name"]].map(text)
    };
    let id = client.to_string();
    c.ok("EXPCACHE.SET trips:1 v");
    assert_eq!(who(&mut admin), ["default", &id, "-"]);
    c.ok("CLIENT SETNAME api");
    c.ok("EXPCACHE.SET trips:1 v");
    assert_eq!(who(&mut admin), ["default", &id, "api"]);
    c.ok("CLIENT SETNAME web");
    wait_until("reads know it", || {
        c.cmd("EXPCACHE.GET trips:1");
        who(&mut admin) == ["default", &id, "web"]
    });
    // Each command is its user's, whoever had the connection before.
    for (user, name) in [("alice", "one"), ("bob", "two"), ("alice", "three")] {
        let replies = c.pipeline([
            args!["AUTH", user, "x"],
            args!["EXPCACHE.GET", "trips:1"],
            args!["CLIENT", "SETNAME", name],
            args!["EXPCACHE.SET", "trips:1", "v"],
        ]);
        assert_eq!(replies[1], "v");
        assert_eq!(text(&lines(&mut admin, "AFTER -2")[0]["user"]), user);
        assert_eq!(who(&mut admin), [user, &id, name]);
    }
    c.transaction(["EXPCACHE.GET trips:1", "AUTH bob x", "EXPCACHE.DEL trips:1", "EXPCACHE.CLEAR"]);
    let all = lines(&mut admin, "AFTER -3");
    let users: Vec<String> = all.iter().map(|line| text(&line["user"])).collect();
    assert_eq!(users, ["alice", "bob", "bob"]);
    assert_eq!(who(&mut admin), ["bob", &id, "three"]);
    // Of a script's client only the user is known.
    c.cmd(args!["EVAL", "return redis.call('EXPCACHE.GET', 'trips:1')", "0"]);
    assert_eq!(who(&mut admin), ["bob", "-", "-"]);
    c.cmd(args!["EVAL", "return redis.call('EXPCACHE.PURGE', 'ANY', '1', 't', 'NOTE', 'x')", "0"]);
    assert_eq!(who(&mut admin), ["bob", "-", "-"]);
    // Whose command of the server's own it was is told to no module.
    c.ok("EXPCACHE.SET trips:1 v");
    assert_eq!(who(&mut admin), ["bob", &id, "three"]);
    assert_eq!(c.cmd("DEL trips:1"), 1);
    assert_eq!(who(&mut admin), ["-", "-", "-"]);
    assert_eq!(lines(&mut admin, "USER alice COUNT 10000").len(), 5);
    assert_eq!(lines(&mut admin, "USER nobody"), []);
    assert!(
        lines(&mut admin, "USER bob TYPE trips").iter().all(|line| line["user"] == "bob" && line["type"] == "trips")
    );
    check(&mut c);
}

#[test]
fn a_note_is_on_every_line_of_its_command() {
    let (server, mut c) = scene();
    let notes = |c: &mut Conn, command: &[&str]| {
        let before = newest(c);
        let reply = c.cmd(command);
        assert!(!matches!(reply, Value::Error(_)), "{reply}");
        let lines = lines(c, &format!("AFTER {before}"));
        lines.iter().map(|line| text(&line["note"])).collect::<Vec<_>>()
    };
    let token = lease(&mut c, "trips:3");
    let long = "n".repeat(256);
    for (command, count) in [
        (vec!["EXPCACHE.SET", "trips:1", "v", "TAGS", "1", "t", "NOTE", &long], 1),
        (vec!["EXPCACHE.SET", "trips:1", "v", "NX", "NOTE", &long], 1),
        (vec!["EXPCACHE.SET", "trips:3", "v", "LEASE", &token, "NOTE", &long], 1),
        (vec!["EXPCACHE.MSET", "2", "trips:1", "v", "trips:2", "v", "TAGS", "1", "t", "NOTE", &long], 2),
        (vec!["EXPCACHE.FETCH", "trips:1", "NOTE", &long], 1),
        (vec!["EXPCACHE.FETCH", "trips:9", "NOTE", &long, "WAIT", "1s", "LEASE", "1s"], 1),
        (vec!["EXPCACHE.FETCH", "trips:2", "VERIFY", "NOTE", &long], 1),
        (vec!["EXPCACHE.PURGE", "ANY", "1", "t", "NOTE", &long], 1),
        (vec!["EXPCACHE.PURGE", "MATCH", "*", "SOFT", "NOTE", &long], 1),
        (vec!["EXPCACHE.CLEAR", "NOTE", &long], 1),
    ] {
        assert_eq!(notes(&mut c, &command), vec![long.as_str(); count], "{command:?}");
    }
    let odd = b"\0 \xff\r\n".as_slice();
    let before = newest(&mut c);
    c.ok(args!["EXPCACHE.SET", "trips:1", "v", "NOTE", odd]);
    assert_eq!(lines(&mut c, &format!("AFTER {before}"))[0]["note"], Value::bulk(odd));
    check(&mut server.conn());
}

// ---- when it is done

/// Random bytes do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut random = crate::harness::Random::new(7);
    (0..len).map(|_| random.next() as u8).collect()
}

/// A client's line is there before its next command, whoever makes the reply.
#[test]
fn what_a_worker_does_is_in_it_when_it_is_done() {
    let (_server, mut c) = scene();
    let large = noise(2 << 20);
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &"a,b,c\n".repeat(100_000).into_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let client = c.int("CLIENT ID");
    let mut step = |command: Vec<Vec<u8>>, expected: &[&str]| {
        let lines = writes(&mut c, |c| assert!(!matches!(c.cmd(command), Value::Error(_) | Value::Nil)), expected);
        for line in lines {
            assert_eq!((&line["user"], &line["client"]), (&Value::bulk("default"), &Value::Int(client)));
        }
    };
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    step(args!["EXPCACHE.SET", "trips:1", &large, "TAGS", "1", "t"], &["expcache.set trips trips:1 [t] - 2097152 ok"]);
    step(args!["EXPCACHE.GET", "trips:1"], &["expcache.get trips trips:1 [] - 2097152 hit"]);
    step(
        args!["EXPCACHE.SET", "trips:2", &gzip, "ENCODING", "gzip", "TAGS", "1", "t"],
        &["expcache.set trips trips:2 [t] - 600000 ok"],
    );
    step(args!["EXPCACHE.GET", "trips:2"], &["expcache.get trips trips:2 [] - 600000 hit"]);
    step(
        args!["EXPCACHE.MGET", "trips:2", "trips:9", "trips:1"],
        &[
            "expcache.mget trips trips:2 [] - 600000 hit",
            "expcache.mget trips trips:9 [] - - miss",
            "expcache.mget trips trips:1 [] - 2097152 hit",
        ],
    );
    step(args!["EXPCACHE.FETCH", "trips:2"], &["expcache.fetch trips trips:2 [] - 600000 hit"]);
    step(
        args!["EXPCACHE.FETCH", "trips:2", "RANGE", 100_000, 400_000, "VERIFY"],
        &["expcache.fetch trips trips:2 [] - 400000 hit"],
    );
    step(args!["EXPCACHE.SET", "trips:1", &large], &["expcache.set trips trips:1 [] - 2097152 ok"]);
    step(args!["EXPCACHE.FETCH", "trips:1", "IFNONEMATCH", md5], &["expcache.fetch trips trips:1 [] - 2097152 hit"]);
    // In a transaction the main thread does it.
    let before = newest(&mut c);
    c.transaction([args!["EXPCACHE.GET", "trips:2"], args!["EXPCACHE.FETCH", "trips:2"]]);
    assert_eq!(lines(&mut c, &format!("AFTER {before}")).len(), 2);
    check(&mut c);
}

#[test]
fn who_waits_is_in_it_when_it_is_answered() {
    let (server, mut c) = scene();
    c.ok("ACL SETUSER alice on nopass ~* +@all");
    let token = lease(&mut c, "trips:1");
    let mut alice = server.conn();
    alice.ok("AUTH alice x");
    let before = newest(&mut c);
    let mut waiting =
        Waiting::on(&server, alice, args!["EXPCACHE.FETCH", "trips:1", "WAIT", "1h", "NOTE", "for carol"]);
    assert_eq!(newest(&mut c), before, "it waits");
    c.ok(args!["EXPCACHE.SET", "trips:1", "abc", "LEASE", token]);
    waiting.hits("abc");
    let found = lines(&mut c, &format!("AFTER {before}"));
    let told: Vec<String> = found.iter().map(told).collect();
    assert_eq!(told, ["expcache.set trips trips:1 [] - 3 ok", "expcache.fetch trips trips:1 [] - 3 hit"]);
    assert_eq!((&found[1]["user"], &found[1]["note"]), (&Value::bulk("alice"), &Value::bulk("for carol")));
    assert_eq!(found[1]["client"], waiting.id);
    // One that is let go misses; one that hangs up was told nothing.
    lease(&mut c, "trips:2");
    let mut waiting = Waiting::new(&server, "EXPCACHE.FETCH trips:2 WAIT 1h");
    let gone = Waiting::new(&server, "EXPCACHE.FETCH trips:2 WAIT 1h");
    let before = newest(&mut c);
    drop(gone);
    wait_until("one waits", || blocked(&mut c) == 1);
    c.cmd(args!["CLIENT", "UNBLOCK", waiting.id]);
    waiting.fetched();
    let found: Vec<String> = lines(&mut c, &format!("AFTER {before}")).iter().map(self::told).collect();
    assert_eq!(found, ["expcache.fetch trips trips:2 [] - - miss"]);
    check(&mut c);
}

/// As many clients as there are do what they like: each line is there, in the order in which its client did it.
#[test]
fn every_action_is_in_it_in_the_order_in_which_it_was_done() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 400;
    let (server, mut c) = scene();
    let before = newest(&mut c);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let mut conn = server.conn();
            thread::spawn(move || {
                let (id, key) = (conn.int("CLIENT ID"), format!("trips:{n}"));
                let large = noise(40_000);
                for round in 0..ROUNDS {
                    match round % 5 {
                        0 => conn.ok(args!["EXPCACHE.SET", &key, "v", "TAGS", "1", &key]),
                        1 => _ = conn.cmd(args!["EXPCACHE.GET", &key]),
                        2 if n % 4 == 0 => conn.ok(args!["EXPCACHE.SET", &key, &large, "FORMAT", "bin"]),
                        2 => _ = conn.cmd(args!["EXPCACHE.FETCH", &key]),
                        3 => _ = conn.cmd(args!["EXPCACHE.INVTAG", &key]),
                        _ => _ = conn.cmd(args!["EXPCACHE.DEL", &key]),
                    }
                }
                id
            })
        })
        .collect();
    // A reader sees them as they come.
    let mut seen: Vec<Fields> = Vec::new();
    while seen.len() < CLIENTS * ROUNDS {
        let after = seen.last().map_or(before, |line| line["id"].int());
        let more = lines(&mut c, &format!("AFTER {after} COUNT 500 WAIT {}", IN_VAIN.as_millis()));
        assert!(!more.is_empty(), "{} lines are missing", CLIENTS * ROUNDS - seen.len());
        seen.extend(more);
    }
    let ids: Vec<i64> = seen.iter().map(|line| line["id"].int()).collect();
    assert!(ids.windows(2).all(|two| two[1] == two[0] + 1) && ids[0] == before + 1);
    assert!(seen.iter().all(|line| line.get("lost").is_none()));
    let mut clients: Vec<i64> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    clients.sort_unstable();
    for (n, id) in clients.iter().enumerate() {
        let own: Vec<String> =
            seen.iter().filter(|line| line["client"] == *id).map(|line| text(&line["command"])).collect();
        assert_eq!(own.len(), ROUNDS, "client {n}");
        for (round, command) in own.iter().enumerate() {
            let expected = ["set", "get", "fetch", "invalidate.tag", "del"][round % 5];
            let is_large = round % 5 == 2 && command == "expcache.set";
            assert!(is_large || *command == format!("expcache.{expected}"), "client {n}, round {round}: {command}");
        }
    }
    check(&mut c);
}

// ---- what is gone

/// Fills a log of the least size until its oldest lines are gone.
fn overflow(c: &mut Conn) {
    for _ in 0..30 {
        c.pipeline((0..200).map(|n| args!["EXPCACHE.GET", format!("trips:{n}")]));
    }
}

#[test]
fn a_reader_is_told_what_it_missed() {
    let server = Server::with(&["--expcache.audit-memory", "131072"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET trips AUDIT all");
    let first = newest(&mut c);
    overflow(&mut c);
    let all = lines(&mut c, "COUNT 10000");
    let (oldest, last) = (all[0]["id"].int(), all.last().unwrap()["id"].int());
    assert!(oldest > first && all.len() > 400, "{oldest} {first} {}", all.len());
    assert_eq!(last - first, 6000, "every read is numbered");
    assert_eq!(last - oldest + 1, all.len() as i64, "without a gap");
    assert!(all[0].get("lost").is_none(), "nothing was asked for before it");
    for (after, id, lost) in [
        (first, oldest, Some(oldest - first - 1)),
        (first - 1, oldest, Some(oldest - first)),
        (0, oldest, Some(oldest - first)),
        (oldest - 2, oldest, Some(1)),
        (oldest - 1, oldest, None),
        (last - 1, last, None),
        // The number of another start, from before the clock was set back.
        (last + 1_000_000, oldest, Some(oldest - first)),
    ] {
        for mut c in server.conns() {
            let found = lines(&mut c, &format!("AFTER {after} COUNT 3"));
            assert_eq!((found[0]["id"].int(), found[0].get("lost").map(Value::int)), (id, lost), "AFTER {after}");
            assert!(found[1..].iter().all(|line| line.get("lost").is_none()));
        }
    }
    // With a filter the first that matches says it.
    c.ok("EXPCACHE.TYPE SET reports TTL 1h");
    let found = lines(&mut c, &format!("AFTER {first} TYPE reports"));
    assert_eq!(found.len(), 1);
    assert!(found[0]["lost"].int() >= oldest - first - 1);
    check(&mut c);
}

#[test]
fn a_reader_is_told_of_a_restart() {
    let (mut server, mut c) = scene();
    let last = newest(&mut c);
    server.restart(Stop::Save);
    let mut c = server.conn();
    assert_eq!(lines(&mut c, ""), [], "what is loaded was done before");
    c.cmd("EXPCACHE.GET trips:1");
    let found = lines(&mut c, &format!("AFTER {last}"));
    assert_eq!(told(&found[0]), "expcache.get trips trips:1 [] - - miss");
    assert_eq!(found[0]["lost"], 0);
    assert!(found[0]["id"].int() > last + 1, "there is a gap that nobody knows the size of");
    check(&mut c);
}

#[test]
fn memory_is_bounded_by_the_setting() {
    let (server, mut c) = scene();
    let bytes = |c: &mut Conn| c.info("expcache", "expcache_audit_bytes").parse::<usize>().unwrap();
    assert!(bytes(&mut c) <= 64 << 10, "it is taken as lines come");
    c.ok("CONFIG SET expcache.audit-memory 1mb");
    for _ in 0..4 {
        overflow(&mut c);
    }
    assert_eq!(bytes(&mut c), 1 << 20);
    let before = lines(&mut c, "COUNT 1")[0]["id"].int();
    c.ok("CONFIG SET expcache.audit-memory 2mb");
    assert_eq!(lines(&mut c, "COUNT 1")[0]["id"].int(), before, "more memory loses nothing");
    let last = newest(&mut c);
    c.ok("CONFIG SET expcache.audit-memory 1");
    let left = lines(&mut c, "COUNT 10000");
    assert_eq!(left.last().unwrap()["id"].int(), last, "the newest lines stay");
    wait_until("the rest is given up", || bytes(&mut c) <= 128 << 10);
    c.ok("CONFIG SET expcache.audit-memory 0");
    assert_eq!(lines(&mut c, ""), []);
    c.cmd("EXPCACHE.CLEAR");
    c.cmd("EXPCACHE.GET trips:1");
    assert_eq!((lines(&mut c, ""), bytes(&mut c)), (vec![], 0));
    c.ok("CONFIG SET expcache.audit-memory 1mb");
    c.cmd("EXPCACHE.CLEAR");
    let found = lines(&mut c, &format!("AFTER {last}"));
    assert_eq!((found.len(), found[0]["id"].int(), found[0].get("lost")), (1, last + 1, None), "no number was taken");
    // It is no key: what empties the server does not empty it.
    c.ok("FLUSHALL");
    c.ok("EXPCACHE.STATS RESET");
    assert_eq!(lines(&mut c, "").len(), 2);
    check(&mut server.conn());
}

/// Whatever a client sends, its line is small.
#[test]
fn a_line_is_bounded_and_says_what_was_cut() {
    let (server, mut c) = scene();
    let (long, tags) = ("k".repeat(1 << 20), (0..4096).map(|n| format!("t{n}")).collect::<Vec<_>>());
    c.ok(args!["CLIENT", "SETNAME", &"n".repeat(1 << 20)]);
    let before = newest(&mut c);
    c.ok(args!["EXPCACHE.SET", &format!("trips:{long}"), "v"]);
    let mut command = args!["EXPCACHE.INVALIDATE.TAG"];
    command.extend(tags.iter().map(|tag| tag.clone().into_bytes()));
    assert_eq!(c.cmd(command), 0);
    let found = lines(&mut c, &format!("AFTER {before}"));
    let key = text(&found[0]["key"]);
    assert_eq!(key, format!("trips:{}... ({} more bytes)", "k".repeat(506), (1 << 20) - 506));
    let name = text(&found[0]["name"]);
    assert_eq!(name, format!("{}... ({} more bytes)", "n".repeat(96), (1 << 20) - 96));
    let named = found[1]["tags"].items();
    assert!(named.len() < 500 && named.last().unwrap().text() == format!("... ({} more)", 4096 - named.len() + 1));
    c.ok("CLIENT SETNAME short");
    c.cmd("EXPCACHE.CLEAR");
    let mut other = server.conn();
    other.ok("CLIENT SETNAME other");
    other.cmd("EXPCACHE.CLEAR");
    assert_eq!(lines(&mut c, "AFTER -1")[0]["name"], "other");
    check(&mut c);
}

// ---- readers that wait

#[test]
fn a_reader_waits_for_the_next_line() {
    let (server, mut c) = scene();
    for conn in server.conns() {
        let mut waiting = Waiting::on(&server, conn, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
        c.cmd("EXPCACHE.GET trips:1");
        let reply = waiting.reply();
        assert_eq!(reply.items().len(), 1);
        assert_eq!(told(&reply.items()[0].fields()), "expcache.get trips trips:1 [] - - miss");
        // What is there already is not waited for.
        assert_eq!(waiting.conn.cmd("EXPCACHE.AUDIT COUNT 1 WAIT 1h").items().len(), 1);
    }
    // Only for what it asks for.
    let mut waiting = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h TYPE reports USER default");
    c.cmd("EXPCACHE.GET trips:1");
    c.ok("EXPCACHE.TYPE SET reports TTL 1h");
    assert_eq!(told(&waiting.reply().items()[0].fields()), "expcache.type|set reports - [TTL 1h] - - ok");
    // A script's line wakes it as well, and so does a deletion by a command of the server's own.
    let mut waiting = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    c.cmd(args!["EVAL", "return redis.call('EXPCACHE.CLEAR')", "0"]);
    assert_eq!(waiting.reply().items()[0].fields()["command"], "expcache.clear");
    c.ok("EXPCACHE.SET trips:1 v");
    let mut waiting = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    c.cmd("DEL trips:1");
    assert_eq!(waiting.reply().items()[0].fields()["command"], "del");
    assert_eq!(blocked(&mut c), 0);
    check(&mut c);
}

#[test]
fn a_reader_need_not_wait() {
    let (server, mut c) = scene();
    let nothing = Value::Array(Vec::new());
    assert_eq!(c.cmd("EXPCACHE.AUDIT AFTER $ WAIT 20ms"), nothing);
    assert_eq!(c.cmd("EXPCACHE.AUDIT AFTER $ WAIT 0"), nothing);
    let mut waiting = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    let gone = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    c.cmd(args!["CLIENT", "UNBLOCK", waiting.id]);
    assert_eq!(waiting.reply(), nothing);
    drop(gone);
    wait_until("nobody waits", || blocked(&mut c) == 0);
    // Where nobody can be made to wait.
    assert_eq!(c.transaction(["EXPCACHE.AUDIT AFTER $ WAIT 1h"]), std::slice::from_ref(&nothing));
    let script = "return redis.call('EXPCACHE.AUDIT', 'AFTER', '$', 'WAIT', '1h')";
    assert_eq!(c.cmd(args!["EVAL", script, "0"]), nothing);
    // The log is taken away, and given back.
    let mut waiting = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    for memory in ["0", "1mb", "128kb", "8mb"] {
        c.ok(args!["CONFIG", "SET", "expcache.audit-memory", memory]);
        c.cmd("PING");
    }
    assert!(waiting.still_waits(&mut c));
    c.cmd("EXPCACHE.CLEAR");
    assert_eq!(waiting.reply().items().len(), 1);
    check(&mut c);
}

#[test]
fn many_readers_wait_and_one_too_many_does_not() {
    let (server, mut c) = scene();
    let mut readers: Vec<Conn> = (0..1024).map(|_| server.conn()).collect();
    for (n, reader) in readers.iter_mut().enumerate() {
        let kind = if n % 2 == 0 { "reports" } else { "trips" };
        reader.send(&format!("EXPCACHE.AUDIT AFTER $ WAIT 1h TYPE {kind}")).unwrap();
    }
    wait_until("all wait", || blocked(&mut c) == 1024);
    c.err("EXPCACHE.AUDIT AFTER $ WAIT 1h", "ERR too many clients read the audit log");
    c.cmd("EXPCACHE.GET trips:1");
    for reader in readers.iter_mut().skip(1).step_by(2) {
        assert_eq!(reader.receive().unwrap().items().len(), 1);
    }
    assert_eq!(blocked(&mut c), 512);
    drop(readers);
    wait_until("nobody waits", || blocked(&mut c) == 0);
    let mut waiting = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    c.cmd("EXPCACHE.CLEAR");
    assert_eq!(waiting.reply().items().len(), 1);
    check(&mut c);
}

/// Many lines are looked at in slices, and many are told by a worker.
#[test]
fn few_lines_of_many_are_found() {
    let (server, mut c) = scene();
    c.ok("CONFIG SET expcache.audit-memory 64mb");
    c.ok("CONFIG SET expcache.reclaim-slice-us 1");
    c.ok("EXPCACHE.TYPE SET reports AUDIT all");
    c.cmd("EXPCACHE.GET reports:first");
    overflow(&mut c);
    c.cmd("EXPCACHE.GET reports:last");
    for mut c in server.conns() {
        let found: Vec<String> = lines(&mut c, "TYPE reports").iter().map(|line| text(&line["key"])).collect();
        assert_eq!(found, ["-", "reports:first", "reports:last"]);
        assert_eq!(lines(&mut c, "TYPE reports COUNT 2").len(), 2);
        assert_eq!(lines(&mut c, "USER nobody"), []);
        assert_eq!(lines(&mut c, "COUNT 5000").len(), 5000);
        let many = lines(&mut c, "TYPE trips COUNT 5000");
        assert_eq!(many.len(), 5000);
        assert!(many[1..].windows(2).all(|two| two[1]["id"].int() == two[0]["id"].int() + 1));
        assert_eq!(c.transaction(["EXPCACHE.AUDIT TYPE reports"])[0].items().len(), 3);
    }
    check(&mut c);
}

// ---- whose it is

#[test]
fn it_is_for_those_who_may_read_everything() {
    let (server, mut admin) = scene();
    let mut c = server.conn();
    for (rules, may) in [
        ("~* +@all", true),
        ("%R~* +@all", true),
        ("~* +expcache.audit", true),
        ("~trips:* +@all", false),
        ("%W~* +@all", false),
        ("~* +@all -expcache.audit", false),
        ("+@all (~* +get)", false),
        ("-@all (~* +expcache.audit)", true),
    ] {
        admin.ok(&format!("ACL SETUSER someone reset on nopass {rules}"));
        c.ok("AUTH someone x");
        if may {
            assert!(!c.cmd("EXPCACHE.AUDIT").items().is_empty(), "{rules}");
        } else {
            c.err("EXPCACHE.AUDIT", "NOPERM");
        }
        c = server.conn();
    }
    // It may not any more when it is answered.
    admin.ok("ACL SETUSER someone reset on nopass ~* +expcache.audit +client");
    let mut someone = server.conn();
    someone.ok("AUTH someone x");
    let mut waiting = Waiting::on(&server, someone, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    admin.ok("ACL SETUSER someone resetkeys");
    admin.cmd("EXPCACHE.CLEAR");
    assert!(matches!(waiting.reply(), Value::Error(error) if error.starts_with("NOPERM")));
    check(&mut admin);
}

#[test]
fn keys_are_hashed_if_they_are_to_be() {
    let (mut server, mut c) = scene();
    c.ok("CONFIG SET expcache.audit-keys hashed");
    let story = |c: &mut Conn| {
        let before = newest(c);
        c.ok("EXPCACHE.SET trips:secret v TAGS 1 user:7");
        c.cmd("EXPCACHE.GET trips:secret");
        c.cmd("EXPCACHE.GET trips:other");
        c.cmd("DEL trips:secret");
        lines(c, &format!("AFTER {before}")).iter().map(|line| text(&line["key"])).collect::<Vec<_>>()
    };
    let keys = story(&mut c);
    assert!(keys.iter().all(|key| key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit())), "{keys:?}");
    assert!(keys[0] == keys[1] && keys[1] == keys[3] && keys[2] != keys[0], "{keys:?}");
    assert_eq!(story(&mut c), keys);
    c.ok("CONFIG SET expcache.audit-keys PLAIN");
    assert_eq!(story(&mut c), ["trips:secret", "trips:secret", "trips:other", "trips:secret"]);
    c.ok("CONFIG SET expcache.audit-keys hashed");
    c.ok("CONFIG REWRITE");
    server.restart(Stop::Save);
    let mut c = server.conn();
    assert_eq!(c.config("expcache.audit-keys"), "hashed");
    assert_ne!(story(&mut c)[0], keys[0], "every start has a salt of its own");
    refused(&mut c, "CONFIG SET expcache.audit-keys some", "ERR");
    check(&mut c);
}

// ---- replicas, files, clocks

#[test]
fn a_replica_logs_what_its_own_clients_do() {
    let (master, replica) = (Server::start(), Server::start());
    replica.replica_of(&master);
    let (mut m, mut r) = (master.conn(), replica.conn());
    let here = newest(&mut r);
    m.ok("EXPCACHE.TYPE SET trips AUDIT all");
    m.ok("EXPCACHE.SET trips:1 v TAGS 1 t");
    m.ok("EXPCACHE.MSET 2 trips:2 v trips:3 v TAGS 1 t");
    m.cmd("EXPCACHE.DEL trips:2");
    m.cmd("DEL trips:3");
    m.ok("EXPCACHE.SET trips:4 v");
    m.cmd("EXPCACHE.PURGE ANY 1 t SOFT");
    m.cmd("EXPCACHE.INVTAG t");
    m.cmd("EXPCACHE.CLEAR");
    replica.wait_for_sync(&master);
    assert_eq!(r.map("EXPCACHE.TYPE GET trips")["audit"], "all");
    assert_eq!(lines(&mut r, &format!("AFTER {here}")), [], "it is in the log of the node that was asked");
    assert_eq!(lines(&mut m, "").len(), 10);
    m.ok("EXPCACHE.SET trips:5 abc");
    replica.wait_for_sync(&master);
    writes(
        &mut r,
        |r| {
            r.cmd("EXPCACHE.GET trips:5");
            r.cmd("EXPCACHE.FETCH trips:9 NOTE who");
            r.cmd("EXPCACHE.MGET trips:5");
        },
        &[
            "expcache.get trips trips:5 [] - 3 hit",
            "expcache.fetch trips trips:9 [] - - miss",
            "expcache.mget trips trips:5 [] - 3 hit",
        ],
    );
    // A replica that may be written logs what is written there.
    r.ok("CONFIG SET replica-read-only no");
    writes(&mut r, |r| r.ok("EXPCACHE.SET trips:6 v"), &["expcache.set trips trips:6 [] - 1 ok"]);
    // A reader waits there too, until its role changes; then everything goes on.
    let mut waiting = Waiting::new(&replica, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    r.cmd("EXPCACHE.GET trips:5");
    assert_eq!(waiting.reply().items().len(), 1);
    r.ok("REPLICAOF NO ONE");
    writes(&mut r, |r| _ = r.cmd("DEL trips:5"), &["del trips trips:5 [] - - ok"]);
    let mut waiting = Waiting::new(&replica, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
    r.ok(args!["REPLICAOF", "127.0.0.1", i64::from(master.port())]);
    assert!(matches!(waiting.reply(), Value::Error(_)), "the server lets go of who waits");
    replica.wait_for_sync(&master);
    assert_eq!(blocked(&mut r), 0);
    check(&mut m);
    check(&mut r);
}

#[test]
fn what_is_loaded_is_not_in_it() {
    for preamble in ["yes", "no"] {
        let mut server = Server::with(&["--appendonly", "yes", "--aof-use-rdb-preamble", preamble]);
        let mut c = server.conn();
        c.ok("EXPCACHE.TYPE SET trips AUDIT all");
        c.ok("EXPCACHE.SET trips:1 v TAGS 1 t");
        c.ok("EXPCACHE.SET trips:2 v");
        c.cmd("DEL trips:2");
        c.cmd("EXPCACHE.INVTAG t");
        c.ok("EXPCACHE.SET trips:3 v");
        server.restart(Stop::Save);
        let mut c = server.conn();
        assert_eq!(lines(&mut c, ""), []);
        assert_eq!(c.map("EXPCACHE.TYPE GET trips")["audit"], "all");
        c.cmd("EXPCACHE.GET trips:3");
        assert_eq!(lines(&mut c, "").len(), 1);
        check(&mut c);
    }
}

/// What is done is ordered by its number, whatever the clock says.
#[test]
fn a_clock_that_is_set_changes_times_and_no_order() {
    let server = Server::with_clock(&[]);
    let mut c = server.conn();
    let mut expected = Vec::new();
    for (tag, ahead_ms) in [("one", 0), ("two", -86_400_000), ("three", 86_400_000), ("four", -1_000)] {
        server.set_clock(ahead_ms);
        c.cmd(&format!("EXPCACHE.INVTAG {tag}"));
        expected.push(format!("[{tag}]"));
        let mut waiting = Waiting::new(&server, "EXPCACHE.AUDIT AFTER $ WAIT 1h");
        c.cmd(&format!("EXPCACHE.INVTAG {tag}-again"));
        expected.push(format!("[{tag}-again]"));
        assert_eq!(waiting.reply().items().len(), 1);
    }
    let found = lines(&mut c, "");
    assert_eq!(found.iter().map(|line| text(&line["tags"])).collect::<Vec<_>>(), expected);
    assert!(found.windows(2).all(|two| two[1]["id"].int() == two[0]["id"].int() + 1));
    assert!(found[2]["time"].int() < found[0]["time"].int() && found[4]["time"].int() > found[0]["time"].int());
    check(&mut c);
}

/// What a policy does not say stands in no file: an older module reads it.
#[test]
fn policies_say_what_is_not_initial_and_nothing_else() {
    for preamble in ["yes", "no"] {
        let mut server = Server::with(&["--appendonly", "yes", "--aof-use-rdb-preamble", preamble]);
        let mut c = server.conn();
        let written = |server: &Server| {
            let folder = server.dir().join("appendonlydir");
            let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
            String::from_utf8_lossy(&files.collect::<Vec<_>>().concat()).into_owned()
        };
        let rewrite = |server: &Server, c: &mut Conn| {
            c.cmd("BGREWRITEAOF");
            wait_until("it is rewritten", || {
                c.info("persistence", "aof_rewrite_in_progress") == "0"
                    && c.info("persistence", "aof_rewrite_scheduled") == "0"
            });
            written(server)
        };
        c.ok("EXPCACHE.TYPE SET trips TTL 5m");
        c.ok("EXPCACHE.SET k v TYPE used");
        for file in [written(&server), rewrite(&server, &mut c)] {
            for word in ["LIFETIME", "PERTAG", "AUDIT"] {
                assert!(!file.contains(word), "{word}");
            }
        }
        // What was said and is taken back is said; what differs from `default` too.
        c.ok("EXPCACHE.TYPE SET trips LIFETIME 1d PERTAG u 2 evict AUDIT all");
        c.ok("EXPCACHE.TYPE SET trips LIFETIME 0s PERTAG u 0 AUDIT off");
        c.ok("EXPCACHE.TYPE SET default LIFETIME 9d PERTAG d 3 reject AUDIT changes");
        c.ok("EXPCACHE.TYPE SET plain LIFETIME 0s PERTAG d 0 AUDIT off");
        c.ok("EXPCACHE.SET k v TYPE used-later");
        let types = ["trips", "default", "plain", "used", "used-later", "vehicles"];
        let policies = |c: &mut Conn| types.map(|name| c.cmd(args!["EXPCACHE.TYPE", "GET", name]));
        let before = policies(&mut c);
        assert_eq!(before[4].fields()["audit"], "changes");
        let replica = Server::start();
        replica.replica_of(&server);
        assert_eq!(policies(&mut replica.conn()), before, "a full synchronization");
        c.ok("EXPCACHE.TYPE SET trips AUDIT all");
        c.ok("EXPCACHE.TYPE SET trips AUDIT off");
        replica.wait_for_sync(&server);
        assert_eq!(policies(&mut replica.conn()), before, "what is replicated");
        server.restart(Stop::NoSave);
        let mut c = server.conn();
        assert_eq!(policies(&mut c), before, "the append-only file");
        rewrite(&server, &mut c);
        server.restart(Stop::NoSave);
        let mut c = server.conn();
        assert_eq!(policies(&mut c), before, "and rewritten");
        check(&mut c);
    }
}

/// No command of a client comes between an answer that says nothing is there and the waiting.
#[test]
fn a_reader_misses_nothing_between_two_answers() {
    let (server, mut c) = scene();
    let mut after = newest(&mut c);
    let mut writer = server.conn();
    let writing = thread::spawn(move || {
        for n in 0..3_000 {
            writer.cmd(args!["EXPCACHE.GET", format!("trips:{n}")]);
        }
    });
    let mut seen = 0;
    while seen < 3_000 {
        let found = lines(&mut c, &format!("AFTER {after} WAIT 1h"));
        for line in &found {
            assert_eq!(line["id"].int(), after + 1);
            assert_eq!(text(&line["key"]), format!("trips:{seen}"));
            (after, seen) = (after + 1, seen + 1);
        }
    }
    writing.join().unwrap();
    check(&mut c);
}
