//! Whatever happens while a worker is at it: nothing is lost, mixed up or left over. The workers are kept busy with something else, so that
//! what is looked at stands in their queue in the meantime.

use crate::harness::{Conn, Server, Stop, Value, args, check, wait_until, wait_until_settled};
use crate::large::*;

/// Kept by a worker, read by one, whatever encoding it has.
const SIZE: usize = 300 * KB;

/// How many payloads a worker is kept busy with. What is small goes before the second; so a test may take as long as the first takes,
/// a second or so, for what it does while the worker is at it.
const PIECES: usize = 2;

fn blocked(c: &mut Conn) -> usize {
    c.info("clients", "blocked_clients").parse().unwrap()
}

/// A client whose command waits for a worker.
fn waiting(server: &Server, c: &mut Conn, command: Vec<Vec<u8>>) -> (Conn, i64) {
    let mut conn = server.conn();
    let id = conn.int("CLIENT ID");
    conn.send(command).unwrap();
    wait_until_blocked(c, id);
    (conn, id)
}

fn hash_set(key: &str, payload: &[u8]) -> Vec<Vec<u8>> {
    args!["EXPCACHE.SET", key, payload, "HASH", etag(payload), "TAGS", 1, "t"]
}

/// Asserts that everything works, on all workers.
#[track_caller]
fn goes_on(server: &Server) {
    let mut c = server.conn();
    wait_until_settled(&mut c);
    assert_eq!(blocked(&mut c), 0);
    c.ok(hash_set("goes on", &rows(SIZE)));
    wait_until_settled(&mut c);
    reads(&mut c, "goes on", &rows(SIZE), "what comes afterwards");
    c.cmd("EXPCACHE.DEL goes on");
    check(&mut c);
}

// ---- a payload that is yet to be compressed

#[test]
fn what_becomes_of_a_key_before_it_is_compressed() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        let (payload, other) = (rows(SIZE), rows(SIZE + 9));
        for n in 0..3 {
            c.ok(args!["EXPCACHE.SET", format!("stays:{n}"), &payload, "TAGS", 1, "t"]);
        }
        wait_until_settled(&mut c);
        occupy(&mut c, PIECES);
        let keys = [
            "over", "small", "del", "unlink", "renamed", "moved", "copied", "expired", "tagged", "soft", "text", "same",
        ];
        for key in keys {
            c.ok(args!["EXPCACHE.SET", key, &payload, "TAGS", 1, key, "GRACE", "1h"]);
        }
        c.ok(args!["EXPCACHE.SET", "over", &other]);
        c.ok("EXPCACHE.SET small v");
        c.ok(args!["EXPCACHE.SET", "same", &payload]);
        assert_eq!(c.cmd("DEL del"), 1);
        assert_eq!(c.cmd("UNLINK unlink"), 1);
        c.ok("RENAME renamed name");
        // Some versions of Valkey go along to the other database.
        assert_eq!(c.cmd("MOVE moved 1"), 1);
        c.ok("SELECT 0");
        assert_eq!(c.cmd("COPY copied copy"), 1);
        assert_eq!(c.cmd("COPY copied far DB 1"), 1);
        c.ok("SELECT 0");
        assert_eq!(c.cmd("PEXPIREAT expired 1"), 1);
        assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG tagged"), 1);
        assert_eq!(c.cmd("EXPCACHE.PURGE ANY 1 soft SOFT"), 1);
        c.ok("SET text v");
        assert_eq!(c.cmd("PERSIST copy"), 1);
        // Before as after.
        for settled in [false, true] {
            if settled {
                wait_until_settled(&mut c);
            } else {
                still_occupied(&mut c);
            }
            for (key, expected) in
                [("over", &other), ("name", &payload), ("copied", &payload), ("copy", &payload), ("same", &payload)]
            {
                same(&c.bulk(&["EXPCACHE.GET", key]), expected, key);
                let encoding = stored(&mut server.conn(), key).0;
                assert!(!settled || encoding == "gzip", "{key} {encoding}");
            }
            assert_eq!(c.cmd("EXPCACHE.GET small"), "v");
            assert_eq!(c.cmd("GET text"), "v");
            for key in ["del", "unlink", "renamed", "moved", "expired", "tagged"] {
                c.nil(&["EXPCACHE.GET", key]);
            }
            same(c.map("EXPCACHE.FETCH soft")["value"].as_bytes(), &payload, "soft");
            c.ok("SELECT 1");
            for key in ["moved", "far"] {
                same(&c.bulk(&["EXPCACHE.GET", key]), &payload, key);
                assert!(!settled || kept(&mut c, key).0 == "gzip", "{key}");
            }
            c.ok("SELECT 0");
            check(&mut c);
        }
        let stats = c.map("EXPCACHE.STATS");
        assert!(stats["stored-bytes"].int() < stats["payload-bytes"].int() / 2);
        goes_on(&server);
    });
}

#[test]
fn databases_that_go_or_change_places() {
    in_time(|| {
        for flush in ["FLUSHALL SYNC", "FLUSHDB ASYNC", "SWAPDB 0 1"] {
            let (server, mut c) = one_worker(&[]);
            occupy(&mut c, 1);
            c.ok(args!["EXPCACHE.SET", "k", rows(SIZE), "TAGS", 1, "t"]);
            let (mut asks, _) = waiting(&server, &mut c, args!["EXPCACHE.META", "k"]);
            let (mut stores, _) = waiting(&server, &mut c, hash_set("other", &rows(SIZE)));
            c.ok(flush);
            still_occupied(&mut c);
            c.ok(args!["EXPCACHE.SET", "k", rows(SIZE + 1)]);
            // It asked for what is there no more; it is told of nothing, or of what is there now.
            let asked = asks.receive().unwrap();
            assert!(asked == Value::Nil || asked.fields()["size"].int() == SIZE as i64 + 1, "{asked}");
            assert_eq!(stores.receive().unwrap(), Value::Simple("OK".into()));
            wait_until_settled(&mut c);
            reads(&mut c, "k", &rows(SIZE + 1), flush);
            reads(&mut c, "other", &rows(SIZE), flush);
            if flush.starts_with("SWAPDB") {
                c.ok("SELECT 1");
                becomes(&mut c, "k", "gzip");
                reads(&mut c, "k", &rows(SIZE), "what went elsewhere");
            }
            goes_on(&server);
        }
    });
}

// ---- readers and writers that wait

/// A reader gets what was there when it asked.
#[test]
fn a_reader_gets_what_it_asked_for_whatever_becomes_of_the_key() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        let payload = rows(SIZE);
        for change in ["EXPCACHE.SET k new", "DEL k", "FLUSHALL ASYNC", "EXPCACHE.INVALIDATE.TAG t", "SWAPDB 0 1"] {
            c.ok(args!["EXPCACHE.SET", "k", &payload, "TAGS", 1, "t"]);
            becomes(&mut c, "k", "gzip");
            occupy(&mut c, 1);
            let commands = [
                args!["EXPCACHE.GET", "k"],
                args!["EXPCACHE.MGET", "k", "k"],
                args!["EXPCACHE.FETCH", "k", "VERIFY"],
                args!["EXPCACHE.FETCH", "k", "RANGE", 1, SIZE],
            ];
            let mut readers = commands.map(|command| waiting(&server, &mut c, command).0);
            c.cmd(change);
            still_occupied(&mut c);
            same(readers[0].receive().unwrap().as_bytes(), &payload, change);
            same(readers[1].receive().unwrap().items()[1].as_bytes(), &payload, change);
            same(readers[2].receive().unwrap().fields()["value"].as_bytes(), &payload, change);
            same(readers[3].receive().unwrap().fields()["value"].as_bytes(), &payload[1..], change);
            c.ok("FLUSHALL");
        }
        goes_on(&server);
    });
}

#[test]
fn clients_that_go_in_the_middle() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        c.ok(args!["EXPCACHE.SET", "k", rows(SIZE)]);
        wait_until_settled(&mut c);
        let commands =
            || [args!["EXPCACHE.GET", "k"], args!["EXPCACHE.FETCH", "k", "WAIT", "1h"], hash_set("new", &rows(SIZE))];
        // They disconnect, are killed, or told to be unblocked, which does not apply.
        occupy(&mut c, 2);
        for command in commands() {
            drop(waiting(&server, &mut c, command));
        }
        wait_until("they are gone", || c.info("clients", "connected_clients") == "1");
        for command in commands() {
            let (_conn, id) = waiting(&server, &mut c, command);
            assert_eq!(c.cmd(args!["CLIENT", "KILL", "ID", id]), 1);
        }
        let mut stays: Vec<(Conn, i64)> = commands().map(|command| waiting(&server, &mut c, command)).into();
        for (_, id) in &stays {
            for how in ["TIMEOUT", "ERROR"] {
                assert_eq!(c.cmd(args!["CLIENT", "UNBLOCK", id, how]), 0);
            }
        }
        still_occupied(&mut c);
        same(stays[0].0.receive().unwrap().as_bytes(), &rows(SIZE), "GET");
        same(stays[1].0.receive().unwrap().fields()["value"].as_bytes(), &rows(SIZE), "FETCH");
        assert_eq!(stays[2].0.receive().unwrap(), Value::Simple("OK".into()));
        goes_on(&server);
    });
}

#[test]
fn a_server_that_goes_down_in_the_middle() {
    in_time(|| {
        for (settings, stop) in [
            (&["--appendonly", "yes", "--appendfsync", "always"][..], Stop::NoSave),
            (&["--appendonly", "yes", "--appendfsync", "always"], Stop::Kill),
            (&[], Stop::Save),
        ] {
            let mut server = Server::with(settings);
            let mut c = server.conn();
            c.ok("EXPCACHE.TYPE SET default CODEC gzip");
            c.ok(args!["EXPCACHE.SET", "k", rows(SIZE), "TAGS", 1, "t"]);
            wait_until_settled(&mut c);
            occupy_both(&mut c);
            c.ok(args!["EXPCACHE.SET", "late", rows(SIZE), "TAGS", 1, "t"]);
            let mut others =
                [args!["EXPCACHE.GET", "k"], hash_set("perhaps", &rows(SIZE)), args!["EXPCACHE.META", "late"]].map(
                    |command| {
                        let mut conn = server.conn();
                        conn.send(command).unwrap();
                        conn
                    },
                );
            server.restart(stop);
            // One worker does what is small; it may have been quicker. Who was not answered by then learns that there is no server.
            let answers = others.each_mut().map(|conn| conn.receive().ok());
            assert!(answers.iter().zip(&mut others).all(|(answer, conn)| answer.is_none() || conn.receive().is_err()));
            let mut c = server.conn();
            wait_until_settled(&mut c);
            for key in ["k", "late"] {
                reads(&mut c, key, &rows(SIZE), key);
                becomes(&mut c, key, "gzip");
            }
            let stored = c.int("EXISTS perhaps");
            assert!(answers[1].is_none() || stored == 1, "{:?}", answers[1]);
            if stored == 1 {
                reads(&mut c, "perhaps", &rows(SIZE), "perhaps");
            }
            assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 2 + stored);
            c.ok("FLUSHALL");
            goes_on(&server);
        }
    });
}

fn occupy_both(c: &mut Conn) {
    keep_busy(c, 2, PIECES);
    let work = rows(32 * MB);
    for n in 0..4 {
        c.ok(args!["EXPCACHE.SET", format!("busy:{n}"), &work]);
    }
}

// While a script runs or a file is loaded, the event loop stands still; what is overwritten or compressed goes all the same.

#[test]
fn what_a_script_overwrites_takes_no_memory() {
    let server = Server::start();
    let mut c = server.conn();
    let (payload, before) = (noise(4 * MB), memory(&mut c, "used_memory"));
    let script = "for n = 1, 100 do redis.call('EXPCACHE.SET', KEYS[1], ARGV[1]) end";
    c.cmd(args!["EVAL", script, 1, "k", &payload]);
    let peak = memory(&mut c, "used_memory_peak");
    assert!(peak < before + 150 * MB as i64, "400 MB stored, {before} bytes used before, {peak} bytes then");
    reads(&mut c, "k", &payload, "the last");
    goes_on(&server);
}

#[test]
fn a_file_is_loaded_in_the_memory_of_its_data() {
    let mut server = Server::with(&["--appendonly", "yes"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC gzip");
    let (same_key, payload) = (noise(4 * MB), rows(4 * MB));
    for n in 0..50 {
        c.ok(args!["EXPCACHE.SET", "k", &same_key]);
        c.ok(args!["EXPCACHE.SET", format!("k:{n}"), &payload]);
    }
    wait_until_settled(&mut c);
    let data = memory(&mut c, "used_memory");
    server.restart(Stop::Save);
    let mut c = server.conn();
    let peak = memory(&mut c, "used_memory_peak");
    assert!(peak < data + 100 * MB as i64, "400 MB of commands, {data} bytes of data, {peak} bytes used");
    wait_until_settled(&mut c);
    (0..50).for_each(|n| becomes(&mut c, &format!("k:{n}"), "gzip"));
    reads(&mut c, "k", &same_key, "what was overwritten");

    goes_on(&server);
}

#[test]
fn a_child_that_saves_in_the_middle() {
    in_time(|| {
        for preamble in ["yes", "no"] {
            let settings = ["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", preamble];
            let mut server = Server::load(&["workers", "1"], &settings).unwrap();
            let mut c = server.conn();
            c.ok("EXPCACHE.TYPE SET default CODEC gzip");
            c.ok("EXPCACHE.TYPE SET busy CODEC gzip");
            occupy(&mut c, PIECES);
            c.ok(args!["EXPCACHE.SET", "k", rows(SIZE), "TAGS", 1, "t"]);
            let (mut stores, _) = waiting(&server, &mut c, hash_set("checked", &rows(SIZE)));
            c.cmd("BGREWRITEAOF");
            still_occupied(&mut c);
            c.ok(args!["EXPCACHE.SET", "after", rows(SIZE), "TAGS", 1, "t"]);
            assert_eq!(stores.receive().unwrap(), Value::Simple("OK".into()));
            wait_until_settled(&mut c);
            wait_until("the file is rewritten", || {
                c.info("persistence", "aof_rewrite_in_progress") == "0"
                    && c.info("persistence", "aof_rewrite_scheduled") == "0"
            });
            assert_eq!(c.info("persistence", "aof_last_bgrewrite_status"), "ok");
            c.cmd("BGSAVE");
            wait_until("the snapshot is written", || c.info("persistence", "rdb_bgsave_in_progress") == "0");
            assert_eq!(c.info("persistence", "rdb_last_bgsave_status"), "ok");
            server.restart(Stop::Kill);
            let mut c = server.conn();
            for key in ["k", "checked", "after"] {
                becomes(&mut c, key, "gzip");
                reads(&mut c, key, &rows(SIZE), key);
            }
            assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG t"), 3);
            check(&mut c);
        }
    });
}

// ---- a store that waits is decided on at its end

#[test]
fn what_holds_when_it_is_stored_counts() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        let payload = rows(SIZE);
        let with = |key: &str, more: &str| {
            [hash_set(key, &payload), more.split(' ').map(|w| w.as_bytes().to_vec()).collect()].concat()
        };
        c.ok("EXPCACHE.SET there v");
        let [fenced, lost] =
            ["fenced", "lost"].map(|key| c.map(&["EXPCACHE.FETCH", key, "LEASE", "1h"])["lease"].text());
        occupy(&mut c, 1);
        let mut stores = [
            with("new", "NX"),
            with("there", "XX"),
            with("there", "IFMATCH 9e3669d19b675bd57058fd4664205d2a"),
            with("fenced", &format!("LEASE {fenced}")),
            with("lost", &format!("LEASE {lost}")),
            with("foreign", "NX"),
        ]
        .map(|command| waiting(&server, &mut c, command).0);
        c.ok("EXPCACHE.SET new first");
        assert_eq!(c.cmd("EXPCACHE.DEL there"), 1);
        c.int("EXPCACHE.INVALIDATE.TAG t");
        c.ok("EXPCACHE.SET lost first");
        c.int("SADD foreign a");
        still_occupied(&mut c);
        let replies = stores.each_mut().map(|conn| conn.receive().unwrap());
        assert_eq!(replies[..3], [Value::Nil, Value::Nil, Value::Nil]);
        for (reply, prefix) in replies[3..].iter().zip(["FENCED", "LEASELOST", "WRONGTYPE"]) {
            assert!(matches!(reply, Value::Error(text) if text.starts_with(prefix)), "{reply} for {prefix}");
        }
        assert_eq!(c.cmd("EXPCACHE.MGET new there fenced lost").items()[0], Value::bulk("first"));
        for key in ["there", "fenced"] {
            c.nil(&["EXPCACHE.GET", key]);
        }
        assert_eq!(c.cmd("EXPCACHE.GET lost"), "first");
        assert_eq!(c.cmd("SCARD foreign"), 1);
        goes_on(&server);
    });
}

#[test]
fn a_pause_of_writes_puts_off_what_is_to_be_stored() {
    in_time(|| {
        let server = Server::with(&["--appendonly", "yes"]);
        let mut c = server.conn();
        occupy_both(&mut c);
        // Of equal payloads the last comes last: it is not even begun when writes are paused.
        let (mut stores, _) = waiting(&server, &mut c, bomb("k"));
        let (mut asks, _) = waiting(&server, &mut c, args!["EXPCACHE.META", "busy:3"]);
        c.ok("CLIENT PAUSE 100000 WRITE");
        // All that kept the workers busy would be stored, but for what is put off, and so would `k`.
        let put_off = 2 * PIECES as i64 + 4 + 1 - c.int("DBSIZE");
        // What only looks is answered, and what was stored before is compressed.
        assert_eq!(asks.receive().unwrap().fields()["size"], 32 * MB as i64);
        wait_until("the payloads are compressed", || kept(&mut c, "busy:0").0 != "identity");
        wait_until("only the stores are left", || {
            figure(&mut c, "workers-busy") == 0 && figure(&mut c, "settle-backlog") == put_off
        });
        c.nil("EXPCACHE.GET k");
        assert_eq!(blocked(&mut c), 1);
        c.ok("CLIENT UNPAUSE");
        assert_eq!(stores.receive().unwrap(), Value::Simple("OK".into()));
        assert_eq!(c.map("EXPCACHE.META k")["size"], BOMB as i64);
        goes_on(&server);
    });
}

#[test]
fn rights_that_are_taken_away_in_the_middle() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        c.ok(args!["EXPCACHE.SET", "k", rows(SIZE)]);
        wait_until_settled(&mut c);
        c.ok("ACL SETUSER someone on nopass ~* +@all");
        occupy(&mut c, 1);
        let of_someone = |c: &mut Conn, command: Vec<Vec<u8>>| {
            let mut conn = server.conn();
            let id = conn.int("CLIENT ID");
            conn.ok("AUTH someone x");
            conn.send(command).unwrap();
            wait_until_blocked(c, id);
            conn
        };
        let mut clients =
            [of_someone(&mut c, args!["EXPCACHE.GET", "k"]), of_someone(&mut c, hash_set("new", &rows(SIZE)))];
        c.ok("ACL SETUSER someone resetkeys ~other -@all");
        still_occupied(&mut c);
        // They were allowed to when they asked; what counts here is that they are answered.
        assert!(clients.iter_mut().all(|conn| conn.receive().is_ok()));
        c.ok("ACL SETUSER someone on nopass ~* +@all");
        occupy(&mut c, 1);
        let mut gone = of_someone(&mut c, hash_set("new", &rows(SIZE)));
        assert_eq!(c.cmd("ACL DELUSER someone"), 1);
        assert!(gone.receive().is_err());
        goes_on(&server);
    });
}

// ---- where nobody may wait

#[test]
fn transactions_and_scripts_work_in_place() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        let (payload, hash) = (rows(SIZE), etag(&rows(SIZE)));
        c.ok(args!["EXPCACHE.SET", "k", &payload]);
        wait_until_settled(&mut c);
        occupy(&mut c, 2);
        let replies = c.transaction([
            args!["EXPCACHE.GET", "k"],
            hash_set("a", &payload),
            args!["EXPCACHE.META", "a"],
            args!["EXPCACHE.SET", "b", &payload],
            args!["EXPCACHE.SET", "b", "new", "IFMATCH", &hash],
            args!["EXPCACHE.SET", "c", gzip(&payload), "ENCODING", "gzip"],
            args!["EXPCACHE.FETCH", "c", "IFNONEMATCH", &hash],
            args!["EXPCACHE.MGET", "k", "c"],
        ]);
        same(replies[0].as_bytes(), &payload, "in a transaction");
        assert_eq!(replies[2].fields()["etag"], hash.as_str());
        assert!([1, 3, 4, 5].iter().all(|at| replies[*at] == Value::Simple("OK".into())), "{:?}", &replies[3..6]);
        assert_eq!(replies[6].fields()["status"], "not-modified");
        same(replies[7].items()[1].as_bytes(), &payload, "in a transaction");
        let script =
            "redis.call('EXPCACHE.SET', KEYS[1], ARGV[1], 'HASH', ARGV[2]); return redis.call('EXPCACHE.GET', KEYS[1])";
        same(c.cmd(args!["EVAL", script, 1, "d", &payload, &hash]).as_bytes(), &payload, "in a script");
        still_occupied(&mut c);
        assert_eq!(c.cmd("EXPCACHE.GET b"), "new");
        goes_on(&server);
    });
}

#[test]
fn without_workers_the_main_thread_does_it() {
    {
        let server = Server::load(&["workers", "0"], &[]).unwrap();
        for mut c in server.conns() {
            c.ok("EXPCACHE.TYPE SET default CODEC gzip");
            for payload in [rows(SIZE), noise(SIZE)] {
                c.ok(hash_set("k", &payload));
                // At once: there is nobody else to do it.
                assert_eq!(figure(&mut c, "workers-busy"), 0);
                reads(&mut c, "k", &payload, "without workers");
                c.ok(args!["EXPCACHE.SET", "k", zstd(&payload), "ENCODING", "zstd", "IFMATCH", etag(&payload)]);
                c.ok(args!["EXPCACHE.SET", "k", &payload]);
                assert_eq!(c.map("EXPCACHE.META k")["etag"], etag(&payload).as_str());
                let encoding = if payload == rows(SIZE) { "gzip" } else { "identity" };
                becomes(&mut c, "k", encoding);
                reads(&mut c, "k", &payload, "without workers");
            }
            c.ok("FLUSHALL");
        }
        goes_on(&server);
    }
}

/// What nobody waits for never takes the place of what somebody waits for, and is done for all that.
#[test]
fn a_burst_of_stores_leaves_the_workers_to_those_who_wait() {
    in_time(|| {
        let (server, mut c) = one_worker(&[]);
        c.ok("CONFIG SET expcache.worker-queue 8");
        occupy(&mut c, 1);
        let inline = |c: &mut Conn| c.info("expcache", "expcache_worker_inline_total").parse::<u64>().unwrap();
        c.pipeline((0..300).map(|n| args!["EXPCACHE.SET", format!("k:{n}"), rows(20 * KB + n)]));
        assert_eq!(inline(&mut c), 0);
        still_occupied(&mut c);
        let checks = c.map("EXPCACHE.HEALTH");
        assert!(checks["settle-backlog"].fields()["figure"].int() > 100, "{checks:?}");
        assert_eq!(checks["status"], "ok");
        // Looked at by the worker, though there is much to compress.
        c.ok(hash_set("hashed", &rows(SIZE)));
        assert_eq!(inline(&mut c), 0);
        goes_on(&server);
        (0..300).for_each(|n| assert_eq!(kept(&mut c, &format!("k:{n}")).0, "gzip"));
    });
}

/// However much waits, nothing of it is done by the main thread, and all of it in order.
#[test]
fn a_long_queue_holds_nobody_off() {
    let (server, mut c) = one_worker(&[]);
    c.ok("CONFIG SET expcache.worker-queue 3");
    let sets = (0..60).flat_map(|n| {
        let payload = rows(20 * KB + n);
        [
            args!["EXPCACHE.SET", format!("k:{n}"), &payload],
            hash_set(&format!("h:{n}"), &payload),
            args!["EXPCACHE.GET", format!("k:{n}")],
        ]
    });
    let replies = c.pipeline(sets);
    for (n, replies) in replies.chunks(3).enumerate() {
        assert_eq!(replies[..2], [Value::Simple("OK".into()), Value::Simple("OK".into())]);
        same(replies[2].as_bytes(), &rows(20 * KB + n), "what was just stored");
    }
    wait_until_settled(&mut c);
    for n in 0..60 {
        assert_eq!(["k", "h"].map(|kind| kept(&mut c, &format!("{kind}:{n}")).0), ["gzip", "gzip"]);
    }
    assert_eq!(c.info("expcache", "expcache_worker_inline_total"), "0");
    goes_on(&server);
}

// ---- order

#[test]
fn a_pipeline_is_answered_in_its_order() {
    let server = Server::start();
    for mut c in server.conns() {
        c.ok("EXPCACHE.TYPE SET default CODEC zstd");
        let commands = (0..40).flat_map(|n| {
            let payload = rows(40 * KB + n);
            [
                hash_set("k", &payload),
                args!["EXPCACHE.GET", "k"],
                args!["PING", n.to_string()],
                args!["EXPCACHE.FETCH", "k", "IFNONEMATCH", etag(&payload)],
                args!["EXPCACHE.MGET", "k", "nothing"],
                args!["EXPCACHE.DEL", "k"],
            ]
        });
        let replies = c.pipeline(commands);
        for (n, replies) in replies.chunks(6).enumerate() {
            let payload = rows(40 * KB + n);
            assert_eq!(replies[0], Value::Simple("OK".into()));
            same(replies[1].as_bytes(), &payload, "GET");
            assert_eq!(replies[2], n.to_string().as_str());
            assert_eq!(replies[3].fields()["status"], "not-modified");
            same(replies[4].items()[0].as_bytes(), &payload, "MGET");
            assert_eq!(replies[5], 1);
        }
    }
    goes_on(&server);
}

#[test]
fn those_who_wait_for_a_large_value_get_it() {
    let server = Server::start();
    let mut c = server.conn();
    let payload = rows(MB);
    for (n, encoding) in ["identity", "gzip", "zstd"].into_iter().enumerate() {
        let key = format!("k:{n}");
        let token = c.map(&["EXPCACHE.FETCH", &key, "LEASE", "1h"])["lease"].text();
        let commands = [
            args!["EXPCACHE.FETCH", &key, "WAIT", "1h"],
            args!["EXPCACHE.FETCH", &key, "WAIT", "1h", "LEASE", "1h", "VERIFY"],
            args!["EXPCACHE.FETCH", &key, "WAIT", "1h", "RANGE", MB - 10, 100],
            args!["EXPCACHE.FETCH", &key, "WAIT", "1h", "ACCEPT", 1, encoding],
        ];
        let mut waiters = commands.map(|command| waiting(&server, &mut c, command).0);
        let (gone, id) = waiting(&server, &mut c, args!["EXPCACHE.FETCH", &key, "WAIT", "1h"]);
        c.ok(args!["EXPCACHE.SET", &key, pack(encoding, &payload), "ENCODING", encoding, "LEASE", token]);
        c.cmd(args!["CLIENT", "KILL", "ID", id]);
        drop(gone);
        let fetched = waiters.each_mut().map(|conn| conn.receive().unwrap().fields());
        for (at, expected) in [(0, &payload[..]), (1, &payload), (2, &payload[MB - 10..])] {
            assert_eq!((&fetched[at]["status"], &fetched[at]["lease"]), (&Value::bulk("hit"), &Value::Nil));
            same(fetched[at]["value"].as_bytes(), expected, "what was waited for");
            assert_eq!(fetched[at]["etag"], etag(&payload).as_str());
        }
        same(&unpack(&fetched[3]["encoding"].text(), fetched[3]["value"].as_bytes(), MB), &payload, "as it is kept");
    }
    goes_on(&server);
}

/// Somebody ends its waiting when the value is there already, but not yet its turn to be answered: it cannot be made to wait once more.
#[test]
fn who_is_unblocked_before_a_large_value_is_made_gets_it_at_once() {
    let server = Server::start();
    let mut c = server.conn();
    for how in ["TIMEOUT", "ERROR"] {
        c.ok("FLUSHALL");
        let token = c.map("EXPCACHE.FETCH k LEASE 1h")["lease"].text();
        let (mut waiter, id) = waiting(&server, &mut c, args!["EXPCACHE.FETCH", "k", "WAIT", "1h"]);
        let replies =
            c.pipeline([args!["EXPCACHE.SET", "k", rows(MB), "LEASE", token], args!["CLIENT", "UNBLOCK", id, how]]);
        assert_eq!(replies[0], Value::Simple("OK".into()));
        match waiter.receive().unwrap() {
            Value::Error(text) => assert!(text.starts_with("UNBLOCKED"), "{text}"),
            fetched => same(fetched.fields()["value"].as_bytes(), &rows(MB), "what was waited for"),
        }
    }
    goes_on(&server);
}

// ---- all at once

/// While a worker looks at a payload, its client, its command and in the end its entry have it too; each lets it go by itself.
#[test]
fn stores_that_wait_for_a_worker_by_the_thousand() {
    let server = Server::start();
    let payload = noise(40 * KB);
    let (hash, packed) = (etag(&payload), gzip(&payload));
    let of = |client: usize, n: usize| match n % 2 {
        0 => args!["EXPCACHE.SET", format!("k:{client}"), &payload, "HASH", &hash],
        _ => args!["EXPCACHE.SET", format!("k:{client}"), &packed, "ENCODING", "gzip", "HASH", &hash],
    };
    std::thread::scope(|scope| {
        for client in 0..4 {
            let mut c = server.conn();
            scope.spawn(move || {
                for _ in 0..1500 {
                    let replies = c.pipeline((0..16).map(|n| of(client, n)));
                    assert!(replies.iter().all(|reply| *reply == Value::Simple("OK".into())), "{}", replies[0]);
                }
            });
        }
    });
    let mut c = server.conn();
    (0..4).for_each(|client| reads(&mut c, &format!("k:{client}"), &payload, "the last of thousands"));
    goes_on(&server);
}

#[test]
fn two_hundred_clients_at_once() {
    const CLIENTS: usize = 200;
    let server = Server::with(&["--io-threads", "4"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC auto");
    let payloads: Vec<Vec<u8>> =
        (0..10).map(|n| if n % 3 == 0 { noise(70 * KB + n) } else { rows(90 * KB + n) }).collect();
    let hashes: Vec<String> = payloads.iter().map(|payload| etag(payload)).collect();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, payloads, hashes) = (&server, &payloads, &hashes);
            scope.spawn(move || {
                let mut c = server.conn();
                for step in 0..20 {
                    // A key has always the same payload, or none.
                    let n = (client + step * 7) % payloads.len();
                    let (key, payload) = (format!("k:{n}"), &payloads[n]);
                    match (client * 31 + step * 17) % 9 {
                        0 => c.ok(args!["EXPCACHE.SET", &key, payload, "TAGS", 1, n % 3]),
                        1 => c.ok(args!["EXPCACHE.SET", &key, payload, "HASH", &hashes[n], "FORMAT", "csv"]),
                        2 => c.ok(args!["EXPCACHE.SET", &key, lz4(payload), "ENCODING", "lz4", "TAGS", 1, n % 3]),
                        3 => drop(c.int(args!["EXPCACHE.INVALIDATE.TAG", n % 3])),
                        4 => drop(c.int(args!["COPY", &key, format!("copy:{n}"), "REPLACE"])),
                        5 => match &c.map(args!["EXPCACHE.FETCH", format!("copy:{n}"), "VERIFY"])["value"] {
                            Value::Nil => (),
                            value => same(value.as_bytes(), payload, "a copy"),
                        },
                        _ => match c.cmd(args!["EXPCACHE.GET", &key]) {
                            Value::Nil => (),
                            value => same(value.as_bytes(), payload, "a payload"),
                        },
                    }
                }
            });
        }
    });
    wait_until_settled(&mut c);
    check(&mut c);
    assert_eq!(counter(&mut c, "corrupt"), 0);
    c.ok("FLUSHALL");
    goes_on(&server);
}
