//! Small payloads that decode to much: whoever stores or reads them waits by himself, for a bounded time and in bounded memory, and
//! is refused what is out of all proportion.

use std::io::Write;
use std::process::Command;

use crate::harness::{Conn, Server, Value, args, check, wait_until_settled};
use crate::large::*;

/// A zstd frame of blocks that repeat a byte 128 KiB times, in four bytes each; it does not say how large it is.
fn rle(blocks: usize) -> Vec<u8> {
    let block = |last: u32| (last | 1 << 1 | (128 * KB as u32) << 3).to_le_bytes()[..3].to_vec();
    let middle = [block(0), b"x".to_vec()].concat().repeat(blocks - 1);
    [b"\x28\xb5\x2f\xfd\x00\x38".to_vec(), middle, block(1), b"x".to_vec()].concat()
}

const MUCH: usize = 512 * KB;

/// Much in a few bytes of each encoding, which every bound allows.
fn much(encoding: &str) -> Vec<u8> {
    if encoding == "zstd" { rle(4) } else { pack(encoding, &vec![b'x'; MUCH]) }
}

fn jobs(c: &mut Conn) -> u64 {
    c.info("expcache", "expcache_worker_jobs_total").parse().unwrap()
}

/// Asserts that a worker did what a command takes, and hands back its reply.
#[track_caller]
fn aside(c: &mut Conn, command: Vec<Vec<u8>>) -> Value {
    wait_until_settled(c);
    let (before, what) = (jobs(c), String::from_utf8_lossy(&command[0]).into_owned());
    let reply = c.cmd(command);
    // The reply is given before the worker is done.
    wait_until_settled(c);
    assert!(jobs(c) > before, "{what}: by the main thread");
    reply
}

#[test]
fn what_decodes_to_much_is_decoded_by_a_worker_however_small_it_is() {
    let server = Server::start();
    let mut c = server.conn();
    for encoding in ENCODINGS {
        let (small, payload) = (much(encoding), vec![b'x'; MUCH]);
        assert!(small.len() < 8 * KB, "{}", small.len());
        let ok = Value::Simple("OK".into());
        assert_eq!(aside(&mut c, args!["EXPCACHE.SET", "k", &small, "ENCODING", encoding]), ok);
        assert_eq!(aside(&mut c, args!["EXPCACHE.MSET", 2, "k", &small, "l", &small, "ENCODING", encoding]), ok);
        same(aside(&mut c, args!["EXPCACHE.GET", "k"]).as_bytes(), &payload, encoding);
        same(aside(&mut c, args!["EXPCACHE.MGET", "k", "l"]).items()[1].as_bytes(), &payload, encoding);
        same(aside(&mut c, args!["EXPCACHE.FETCH", "k"]).fields()["value"].as_bytes(), &payload, encoding);
        let part = aside(&mut c, args!["EXPCACHE.FETCH", "k", "RANGE", MUCH - 5, 10]);
        assert_eq!(part.fields()["value"], "xxxxx", "{encoding}");
        let verified = aside(&mut c, args!["EXPCACHE.FETCH", "k", "VERIFY", "ACCEPT", 1, encoding]);
        same(verified.fields()["value"].as_bytes(), &small, encoding);
        assert_eq!(aside(&mut c, args!["EXPCACHE.SET", "k", &small, "ENCODING", encoding, "XX"]), ok);
    }
    assert_eq!(c.info("expcache", "expcache_worker_inline_total"), "0");
    check(&mut c);
}

/// The metadata in the dump of an entry, as `RESTORE` takes it: the first of the dump's two strings.
fn metadata(c: &mut Conn, key: &str) -> Vec<u8> {
    let dump = c.bulk(args!["DUMP", key]);
    // A type of a byte, the module's 64 bits in nine, and before a string its kind and length.
    let (kind, length) = (dump[10], usize::from(dump[11]));
    assert!(kind == 5 && length < 64, "{dump:?}");
    dump[12..12 + length].to_vec()
}

#[test]
fn what_is_restored_is_looked_at_by_a_worker() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.SET", "k", rle(8), "ENCODING", "zstd", "TAGS", 1, "t"]);
    let metadata = metadata(&mut c, "k");
    let restore = |payload: &[u8]| args!["EXPCACHE.RESTORE", "l", -1, &metadata, payload];
    assert_eq!(aside(&mut c, restore(&rle(8))), Value::Simple("OK".into()));
    same(&c.bulk("EXPCACHE.GET l"), &vec![b'x'; MB], "what was restored");
    assert_eq!(c.cmd("EXPCACHE.COUNT ANY 1 t"), 2);
    for wrong in [rle(7), rle(9), b"nonsense".to_vec()] {
        assert!(matches!(aside(&mut c, restore(&wrong)), Value::Error(text) if text.starts_with("BADENCODING")));
    }
    check(&mut c);
    // A replica gets it as it came.
    let replica = Server::start();
    replica.replica_of(&server);
    c.ok(restore(&rle(8)));
    replica.wait_for_sync(&server);
    same(&replica.conn().bulk("EXPCACHE.GET l"), &vec![b'x'; MB], "what was replicated");
}

#[test]
fn what_is_out_of_proportion_is_refused_and_changes_nothing() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k old TAGS 1 t");
    for set in [
        args!["EXPCACHE.SET", "k", rle(2000), "ENCODING", "zstd"],
        args!["EXPCACHE.SET", "k", zstd(&vec![0; 16 * MB]), "ENCODING", "zstd"],
        args!["EXPCACHE.MSET", 2, "k", rle(1), "l", rle(20), "ENCODING", "zstd"],
    ] {
        c.err(set, "TOOLARGE");
    }
    assert_eq!(c.cmd("EXPCACHE.GET k"), "old");
    assert_eq!(c.cmd("EXISTS l"), 0);
    assert!(counter(&mut c, "rejected") >= 2);
    // Who wants more says so.
    c.ok("CONFIG SET expcache.max-ratio 0");
    c.ok(args!["EXPCACHE.SET", "k", rle(2000), "ENCODING", "zstd"]);
    c.ok("CONFIG SET expcache.max-decoded 100mb");
    c.err(args!["EXPCACHE.SET", "l", rle(2000), "ENCODING", "zstd"], "TOOLARGE");
    // What exports compress to is far from it.
    c.ok("CONFIG SET expcache.max-ratio 250");
    for encoding in ENCODINGS {
        c.ok(args!["EXPCACHE.SET", "l", pack(encoding, &rows(20 * MB)), "ENCODING", encoding]);
    }
    check(&mut c);
}

#[test]
fn one_command_decodes_no_more_than_is_allowed() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-ratio 0");
    c.ok("CONFIG SET expcache.max-decoded 20mb");
    c.ok(args!["EXPCACHE.SET", "k", rle(64), "ENCODING", "zstd"]);
    let hits = counter(&mut c, "hits");
    c.err("EXPCACHE.MGET k k k", "TOOLARGE");
    assert_eq!(counter(&mut c, "hits"), hits);
    assert_eq!(c.cmd("EXPCACHE.MGET k k").items()[1].as_bytes().len(), 8 * MB);
    // One is always allowed: it was when it was stored.
    c.ok("CONFIG SET expcache.max-decoded 1mb");
    assert_eq!(c.bulk("EXPCACHE.GET k").len(), 8 * MB);
    assert_eq!(c.cmd("EXPCACHE.MGET k nothing").items()[0].as_bytes().len(), 8 * MB);
    c.err("EXPCACHE.MGET k k", "TOOLARGE");
    check(&mut c);
}

#[test]
fn one_read_does_not_evict_everybody() {
    let server = Server::with(&["--maxmemory-policy", "allkeys-lru"]);
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-ratio 0");
    c.ok(args!["EXPCACHE.SET", "k", rle(512), "ENCODING", "zstd"]);
    c.pipeline((0..1000).map(|n| args!["EXPCACHE.SET", format!("other:{n}"), "v"]));
    c.ok("CONFIG SET maxmemory 100mb");
    for command in ["EXPCACHE.GET k", "EXPCACHE.MGET k", "EXPCACHE.FETCH k"] {
        c.err(command, "OOM");
    }
    assert_eq!(c.map("EXPCACHE.FETCH k RANGE 0 3")["value"], "xxx");
    assert_eq!(c.map("EXPCACHE.FETCH k ACCEPT 1 zstd")["encoding"], "zstd");
    assert_eq!(c.cmd("DBSIZE"), 1001);
    check(&mut c);
}

/// What a read might not decode is not brought into a form that has to be decoded.
#[test]
fn what_is_stored_can_be_read() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC gzip");
    c.ok("CONFIG SET maxmemory 200mb");
    let payload = rows(60 * MB);
    c.ok(args!["EXPCACHE.SET", "k", &payload]);
    wait_until_settled(&mut c);
    same(&c.bulk("EXPCACHE.GET k"), &payload, "as it came");
    assert_eq!(c.map("EXPCACHE.META k")["encoding"], "identity");
    c.err(args!["EXPCACHE.SET", "packed", gzip(&payload), "ENCODING", "gzip"], "TOOLARGE");
    c.ok("CONFIG SET maxmemory 0");
    c.ok(args!["EXPCACHE.SET", "k", &payload]);
    becomes(&mut c, "k", "gzip");
    check(&mut c);
}

/// A server that cannot have more memory says so, and goes on.
#[test]
fn a_lack_of_memory_is_an_error() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-ratio 0");
    c.ok(args!["EXPCACHE.SET", "k", gzip(&vec![0; 200 * MB]), "ENCODING", "gzip"]);
    c.ok(args!["EXPCACHE.SET", "z", rle(1600), "ENCODING", "zstd"]);
    let pid = c.info("server", "process_id");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: usize = size.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KB;
    let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--as={}", size + 150 * MB)]).status().unwrap();
    assert!(limited.success());
    for key in ["k", "z"] {
        for command in
            [args!["EXPCACHE.GET", key], args!["EXPCACHE.FETCH", key], args!["EXPCACHE.FETCH", key, "VERIFY"]]
        {
            c.err(command, "OOM");
        }
        let several = c.cmd(args!["EXPCACHE.MGET", key, "nothing"]);
        assert!(matches!(&several.items()[0], Value::Error(text) if text.starts_with("OOM")), "{several}");
        assert_eq!(c.map(args!["EXPCACHE.META", key])["size"], 200 * MB as i64, "it is sound, and stays");
    }
    assert_eq!(c.map("EXPCACHE.FETCH k RANGE 100000000 3")["value"], Value::bulk([0; 3]));
    assert_eq!(counter(&mut c, "corrupt"), 0);
    check(&mut c);
}

/// What is small is served while workers have much to do for others, and more waits.
#[test]
fn what_is_small_waits_for_nothing_large() {
    in_time(|| {
        let server = Server::load(&["workers", "2"], &[]).unwrap();
        let mut c = server.conn();
        let payload = rows(120 * KB);
        c.ok(args!["EXPCACHE.SET", "small", &payload]);
        wait_until_settled(&mut c);
        c.ok("EXPCACHE.TYPE SET busy CODEC gzip");
        keep_busy_with_large(&mut c, 6);
        same(&c.bulk("EXPCACHE.GET small"), &payload, "what is small");
        same(c.map("EXPCACHE.FETCH small VERIFY")["value"].as_bytes(), &payload, "what is small");
        c.ok(args!["EXPCACHE.SET", "checked", &payload, "HASH", etag(&payload)]);
        assert!(figure(&mut c, "worker-backlog") > 0, "{TOO_LATE}: what is large was served before it");
    });
}

/// Several clients have a worker check a quarter of a gigabyte each.
fn keep_busy_with_large(c: &mut Conn, clients: usize) {
    let zeros = gzip(&vec![0; 64 * MB]).repeat(4);
    allow_bombs(c);
    for n in 0..clients {
        let mut client = c.another();
        let id = client.int("CLIENT ID");
        client.send(args!["EXPCACHE.SET", format!("large:{n}"), &zeros, "ENCODING", "gzip"]).unwrap();
        wait_until_blocked(c, id);
    }
}

/// A client that cannot wait is not served at everybody's cost.
#[test]
fn in_a_transaction_nobody_decodes_very_much() {
    let server = Server::start();
    let mut c = server.conn();
    allow_bombs(&mut c);
    c.ok("CONFIG SET expcache.max-decoded-at-once 64mb");
    c.ok(args!["EXPCACHE.SET", "k", rle(800), "ENCODING", "zstd"]);
    let replies = c.transaction([
        args!["EXPCACHE.GET", "k"],
        args!["EXPCACHE.SET", "m", rle(80), "ENCODING", "zstd"],
        args!["EXPCACHE.GET", "m"],
        args!["EXPCACHE.SET", "l", rle(800), "ENCODING", "zstd"],
    ]);
    assert!(is_too_much(&replies[0]) && is_too_much(&replies[3]), "{}, {}", replies[0], replies[3]);
    assert_eq!(replies[2].as_bytes().len(), 10 * MB);
    assert_eq!(c.cmd("EXISTS l"), 0);
    // How much that is may be chosen.
    c.ok("CONFIG SET expcache.max-decoded-at-once 8mb");
    let replies = c.transaction([args!["EXPCACHE.GET", "m"]]);
    assert!(is_too_much(&replies[0]), "{}", replies[0]);
    assert_eq!(c.bulk("EXPCACHE.GET m").len(), 10 * MB, "by itself it is read");
    check(&mut c);
}

/// A transaction or a script may be of very many commands, each of which decodes what one may.
#[test]
fn many_commands_of_one_transaction_decode_no_more_than_one() {
    let server = Server::start();
    let mut c = server.conn();
    allow_bombs(&mut c);
    c.ok("CONFIG SET expcache.max-decoded-at-once 64mb");
    c.ok(args!["EXPCACHE.SET", "k", rle(8), "ENCODING", "zstd"]);
    c.ok(args!["EXPCACHE.SET", "last", "old"]);
    let set = || args!["EXPCACHE.SET", "l", rle(8), "ENCODING", "zstd"];
    let mset = || args!["EXPCACHE.MSET", 2, "l", rle(4), "last", rle(4), "ENCODING", "zstd"];
    let of = |read: &str| read.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    // An MD5 takes four times as long as decoding.
    let kinds = [
        (set(), 12),
        (mset(), 12),
        (of("EXPCACHE.GET k"), 64),
        (of("EXPCACHE.MGET nothing k"), 64),
        (of("EXPCACHE.FETCH k"), 64),
        (of("EXPCACHE.FETCH k ACCEPT 1 zstd VERIFY"), 12),
        (of("EXPCACHE.FETCH k VERIFY"), 12),
        (args!["EXPCACHE.SET", "l", rows(MB), "HASH", etag(&rows(MB))], 12),
    ];
    for (command, most) in kinds {
        let name = String::from_utf8_lossy(&command[0]).into_owned();
        let replies = c.transaction(std::iter::repeat_n(command.clone(), 100));
        let served = replies.iter().take_while(|reply| !is_too_much(reply)).count();
        assert!((most - most / 12..=most).contains(&served), "{name}: {served} of a MiB each");
        assert!(replies[served..].iter().all(is_too_much), "{name}");
        assert!(c.transaction([command]).iter().all(|reply| !is_too_much(reply)), "{name}: the next is another");
    }
    // However little each is.
    c.ok(args!["EXPCACHE.SET", "small", rle(1), "ENCODING", "zstd"]);
    let replies = c.transaction(std::iter::repeat_n(of("EXPCACHE.GET small"), 1000));
    let served = replies.iter().filter(|reply| !is_too_much(reply)).count();
    assert!((505..=520).contains(&served), "{served} of 128 KiB each");
    let script = "local refused = 0 for n = 1, 100 do \
                  if redis.pcall('EXPCACHE.GET', KEYS[1]).err then refused = refused + 1 end end return refused";
    for _ in 0..2 {
        assert_eq!(c.cmd(args!["EVAL", script, 1, "k"]), 36);
    }
    // Though they come all at once, each has its own: scripts, and transactions, which may be of scripts.
    let (eval, get) = (args!["EVAL", script, 1, "k"], of("EXPCACHE.GET k"));
    let mut commands = vec![eval.clone(); 3];
    for inner in [
        vec![eval.clone()],
        vec![get.clone(); 100],
        vec![get.clone(); 100],
        vec![eval.clone(), get],
        vec![eval.clone()],
    ] {
        commands.extend([of("MULTI")].into_iter().chain(inner).chain([of("EXEC")]));
    }
    commands.push(eval);
    let of_one = |reply: &Value| if let Value::Int(refused) = reply { *refused } else { i64::from(is_too_much(reply)) };
    let refused = |reply: &Value| match reply {
        Value::Array(all) => all.iter().map(of_one).sum(),
        Value::Int(refused) => *refused,
        _ => -1,
    };
    let refused: Vec<i64> = c.pipeline(commands).iter().map(refused).filter(|refused| *refused >= 0).collect();
    assert_eq!(refused, [36, 36, 36, 36, 36, 36, 37, 36, 36]);
    // What others send, or the same client by itself, is not charged for it.
    assert_eq!(c.bulk("EXPCACHE.GET k").len(), MB);
    check(&mut c);
}

/// Nor is what others had decoded before the first of all.
#[test]
fn the_first_script_has_all_of_it() {
    let server = Server::start();
    let mut c = server.conn();
    allow_bombs(&mut c);
    c.ok("CONFIG SET expcache.offload-read-size 16mb");
    c.ok("CONFIG SET expcache.max-decoded-at-once 8mb");
    c.ok(args!["EXPCACHE.SET", "k", rle(8), "ENCODING", "zstd"]);
    for _ in 0..20 {
        assert_eq!(c.bulk("EXPCACHE.GET k").len(), MB);
    }
    let script = "local served = 0 for n = 1, 20 do \
                  if type(redis.pcall('EXPCACHE.GET', KEYS[1])) == 'string' then served = served + 1 end end return served";
    assert_eq!(c.cmd(args!["EVAL", script, 1, "k"]), 8);
}

/// What is refused in the end was decoded until then.
#[test]
fn what_is_refused_is_charged_to_its_transaction() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.max-decoded-at-once 128mb");
    c.ok("EXPCACHE.SET k old");
    // 4,000 bytes, of which each may decode to 250: they are given up after a MiB.
    let bomb = args!["EXPCACHE.SET", "l", rle(1000), "ENCODING", "zstd"];
    let legal = || args!["EXPCACHE.SET", "k", zstd(&rows(20 * MB)), "ENCODING", "zstd"];
    let replies = c.transaction(std::iter::repeat_n(bomb, 60).chain([legal()]));
    assert!(replies.iter().all(|reply| matches!(reply, Value::Error(text) if text.starts_with("TOOLARGE"))));
    assert!(is_too_much(&replies[60]) && !is_too_much(&replies[0]), "{}", replies[60]);
    let mismatched = args!["EXPCACHE.SET", "l", rows(MB), "HASH", etag(b"another")];
    let replies = c.transaction(std::iter::repeat_n(mismatched, 30));
    assert!(!is_too_much(&replies[0]) && is_too_much(&replies[29]), "{}", replies[29]);
    assert_eq!(c.cmd("EXPCACHE.GET k"), "old");
    assert_eq!(c.transaction([legal()])[0], Value::Simple("OK".into()));
    check(&mut c);
}

/// What a client restores by the server's own `RESTORE` was looked at by nobody, and is bounded where it is read.
#[test]
fn what_the_server_restores_is_bounded_where_it_is_read() {
    let (source, server) = (Server::start(), Server::start());
    let (mut s, mut c) = (source.conn(), server.conn());
    allow_bombs(&mut s);
    s.ok(args!["EXPCACHE.SET", "k", rle(2400), "ENCODING", "zstd"]);
    c.ok(args!["RESTORE", "k", 0, s.bulk("DUMP k")]);
    c.err("EXPCACHE.MGET k k", "TOOLARGE");
    assert!(is_too_much(&c.transaction(["EXPCACHE.GET k"])[0]));
    assert_eq!(aside(&mut c, args!["EXPCACHE.GET", "k"]).as_bytes().len(), 300 * MB);
    c.ok("CONFIG SET maxmemory 500mb");
    c.err("EXPCACHE.GET k", "OOM");
    assert_eq!(c.map("EXPCACHE.META k")["size"], 300 * MB as i64);
    check(&mut c);
}

/// The bounds are for clients. What a master did, or this server before, was within those of then and there.
#[test]
fn what_is_handed_on_is_not_measured_again() {
    let server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut c = server.conn();
    let files = std::fs::read_dir(server.dir().join("appendonlydir")).unwrap();
    let mut names = files.map(|file| file.unwrap().path());
    let file = names.find(|path| path.to_string_lossy().ends_with(".incr.aof")).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    let mut write = |words: Vec<Vec<u8>>| {
        file.write_all(format!("*{}\r\n", words.len()).as_bytes()).unwrap();
        for word in words {
            file.write_all(&[format!("${}\r\n", word.len()).as_bytes(), &word, b"\r\n"].concat()).unwrap();
        }
    };
    write(args!["SELECT", 0]);
    write(args!["MULTI"]);
    for n in 0..3 {
        write(args!["EXPCACHE.SET", format!("k{n}"), rle(800), "ENCODING", "zstd"]);
    }
    write(args!["EXPCACHE.MSET", 2, "l", rle(80), "m", rle(80), "ENCODING", "zstd"]);
    write(args!["EXEC"]);
    c.ok("CONFIG SET expcache.max-types 8");
    for n in 0..10 {
        write(args!["EXPCACHE.SET", format!("t{n}"), "v", "TYPE", format!("type{n}")]);
    }
    c.ok("CONFIG SET expcache.max-decoded 1mb");
    c.ok("DEBUG LOADAOF");
    assert_eq!(c.cmd("EXISTS k0 k1 k2 l m t0 t1 t2 t3 t4 t5 t6 t7 t8 t9"), 15);
    assert_eq!(c.bulk("EXPCACHE.GET k2").len(), 100 * MB);
    check(&mut c);
}

fn is_too_much(reply: &Value) -> bool {
    matches!(reply, Value::Error(text) if text.starts_with("TOOLARGE a transaction or script"))
}

/// What a type wants compressed, of many small payloads at once, a worker compresses.
#[test]
fn many_small_payloads_are_compressed_by_a_worker() {
    let server = Server::start();
    let mut c = server.conn();
    for codec in ["zstd", "auto"] {
        c.ok(args!["EXPCACHE.TYPE", "SET", "default", "THRESHOLD", "1kb", "CODEC", codec]);
        let pairs = (0..1000).flat_map(|n| [format!("k:{n}").into_bytes(), rows(7000 + n)]);
        let mset = args!["EXPCACHE.MSET", 1000].into_iter().chain(pairs).collect();
        assert_eq!(aside(&mut c, mset), Value::Simple("OK".into()));
        for n in [0, 500, 999] {
            let key = format!("k:{n}");
            assert_eq!(kept(&mut c, &key).0, if codec == "auto" { "lz4" } else { codec });
            reads(&mut c, &key, &rows(7000 + n), &key);
        }
    }
    check(&mut c);
}

/// Small payloads are not compressed unless a type asks for it, and then so that reading costs least.
#[test]
fn what_is_small_is_kept_as_it_came() {
    let server = Server::start();
    let mut c = server.conn();
    let keeps = |c: &mut Conn, size: usize| {
        c.ok(args!["EXPCACHE.SET", "k", rows(size), "FORMAT", "csv"]);
        wait_until_settled(c);
        kept(c, "k").0
    };
    assert_eq!(
        [KB, 4 * KB, 8 * KB - 1, 8 * KB].map(|size| keeps(&mut c, size)),
        ["identity", "identity", "identity", "gzip"]
    );
    c.ok("EXPCACHE.TYPE SET default THRESHOLD 1kb");
    assert_eq!([KB - 1, KB, 8 * KB - 1, 8 * KB].map(|size| keeps(&mut c, size)), ["identity", "lz4", "lz4", "gzip"]);
    c.ok("EXPCACHE.TYPE SET default CODEC gzip");
    assert_eq!(keeps(&mut c, KB), "gzip");
}
