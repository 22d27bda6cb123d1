//! Bytes from someone who means harm, or from a broken disk: every one of them is an error or a valid entry, and the server
//! lives. (Invariant 6: a panic ends in an error reply; the harness finds the word in the server's log all the same.)

use crate::harness::{Conn, HOSTILE, Random, Server, Value, args, check, closed, opened};
use std::fs;

/// An entry with everything an entry can have.
fn store(c: &mut Conn) {
    c.ok("EXPCACHE.SET k payload TYPE trips TAGS 2 first second FORMAT csv RECORDS 3 COST 4 GRACE 5s META {\"a\":1}");
}

/// Sends each command and behind it what looks at the entry `h`, if there is one now; all must be answered.
fn survive(c: &mut Conn, commands: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Survival {
    let commands: Vec<Vec<Vec<u8>>> = commands.into_iter().collect();
    let mut survival = Survival::default();
    for some in commands.chunks(200) {
        let looks =
            ["EXPCACHE.META h", "EXPCACHE.FETCH h", "COPY h copy REPLACE", "DUMP h", "MEMORY USAGE h", "DEL h copy"];
        let looks = looks.map(|look| look.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        let replies = c.pipeline(some.iter().flat_map(|command| [vec![command.clone()], looks.to_vec()].concat()));
        for (replies, command) in replies.chunks(1 + looks.len()).zip(some) {
            match &replies[0] {
                Value::Error(_) => survival.refused += 1,
                _ => survival.accepted += 1,
            }
            let strange = replies[1..].iter().any(|reply| matches!(reply, Value::Error(_)));
            let shown: Vec<String> = command.iter().map(|word| word.escape_ascii().to_string()).collect();
            assert!(!strange, "{replies:?} after {}", shown.join(" "));
        }
        check(c);
    }
    assert_eq!(c.cmd("PING"), Value::Simple("PONG".into()));
    survival
}

#[derive(Default)]
struct Survival {
    accepted: usize,
    refused: usize,
}

// ---- what RESTORE brings

#[test]
fn truncated_payloads() {
    let server = Server::start();
    let mut c = server.conn();
    store(&mut c);
    let (body, version) = opened(&c.bulk("DUMP k"));
    let cut = (1..body.len()).map(|end| args!["RESTORE", "h", 0, closed(&body[..end], version)]);
    // What the server itself appends may stand for the one or two bytes that are missing.
    assert!(survive(&mut c, cut).accepted <= 2);
    assert_eq!(survive(&mut c, [args!["RESTORE", "h", 0, closed(&body, version)]]).accepted, 1);
}

#[test]
fn payloads_with_any_byte_changed() {
    let server = Server::start();
    let mut c = server.conn();
    store(&mut c);
    let (body, version) = opened(&c.bulk("DUMP k"));
    // The first byte makes it a value of the server's own types, whose decoders are not ours to test.
    for at in 1..body.len() {
        let changed = (1..=255).map(|by| {
            let mut body = body.clone();
            body[at] ^= by;
            args!["RESTORE", "h", 0, closed(&body, version)]
        });
        survive(&mut c, changed);
    }
    assert_eq!(c.cmd("EXPCACHE.GET k"), "payload");
    assert_eq!(c.cmd("EXPCACHE.INVALIDATE.TAG first"), 1);
}

#[test]
fn payloads_with_bytes_taken_out_put_in_and_mixed_up() {
    let server = Server::start();
    let mut c = server.conn();
    store(&mut c);
    let (body, version) = opened(&c.bulk("DUMP k"));
    let mut random = Random::new(11);
    let broken: Vec<_> = (0..5_000)
        .map(|_| {
            let mut body = body.clone();
            for _ in 0..=random.below(3) {
                let (at, other) = (1 + random.below(body.len() - 1), 1 + random.below(body.len() - 1));
                match random.below(4) {
                    0 => drop(body.remove(at)),
                    1 => body.insert(at, random.next() as u8),
                    2 => body.swap(at, other),
                    _ => body[at] = [0, 1, 0x7f, 0x80, 0x81, 0xc3, 0xff][random.below(7)],
                }
            }
            args!["RESTORE", "h", 0, closed(&body, version)]
        })
        .collect();
    assert!(survive(&mut c, broken).refused > 4_000);
}

#[test]
fn payloads_that_promise_too_much() {
    let server = Server::untouched();
    let mut c = server.conn();
    store(&mut c);
    let (body, version) = opened(&c.bulk("DUMP k"));
    // Lengths of 32 and of 64 bits, in place of every byte that may be a length, with and without all that follows.
    let lengths = [1 << 20, u64::from(u32::MAX), 1 << 32, (1 << 40) + 5, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    let mut broken = Vec::new();
    for at in 1..body.len() {
        for length in lengths {
            let long = [&[0x81][..], &length.to_be_bytes()].concat();
            let short = [&[0x80][..], &(length as u32).to_be_bytes()].concat();
            for encoded in [long, short] {
                for rest in [&body[at + 1..], &body[at..], &[]] {
                    broken.push(args!["RESTORE", "h", 0, closed(&[&body[..at], &encoded, rest].concat(), version)]);
                }
            }
        }
    }
    survive(&mut c, broken);
}

// ---- what the replication command brings

/// The arguments of the `EXPCACHE.RESTORE` that an entry becomes: key, expiry, metadata, payload.
fn replicated() -> Vec<Vec<u8>> {
    let server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    store(&mut server.conn());
    let directory = fs::read_dir(server.dir().join("appendonlydir")).unwrap();
    let files = directory.map(|file| file.unwrap().path());
    let file = files.into_iter().find(|path| path.to_string_lossy().ends_with(".incr.aof")).unwrap();
    let commands = commands_in(&fs::read(file).unwrap());
    commands.into_iter().find(|words| words[0] == b"EXPCACHE.RESTORE").unwrap()[1..].to_vec()
}

fn commands_in(mut file: &[u8]) -> Vec<Vec<Vec<u8>>> {
    fn number(file: &mut &[u8]) -> usize {
        let end = file.windows(2).position(|bytes| bytes == b"\r\n").unwrap();
        let number = String::from_utf8_lossy(&file[1..end]).parse().unwrap();
        *file = &file[end + 2..];
        number
    }
    let mut commands = Vec::new();
    while !file.is_empty() {
        let mut words = Vec::new();
        for _ in 0..number(&mut file) {
            let length = number(&mut file);
            words.push(file[..length].to_vec());
            file = &file[length + 2..];
        }
        commands.push(words);
    }
    commands
}

#[test]
fn replicated_entries_that_are_broken() {
    let server = Server::start();
    let mut c = server.conn();
    let [_, at, metadata, payload] = replicated().try_into().unwrap();
    let restore = |metadata: &[u8]| args!["EXPCACHE.RESTORE", "h", &at, metadata, &payload];
    assert_eq!(survive(&mut c, [restore(&metadata)]).accepted, 1);

    survive(&mut c, (0..metadata.len()).map(|end| restore(&metadata[..end])));
    assert_eq!(survive(&mut c, [restore(&[&metadata[..], b"x"].concat())]).accepted, 0);
    for place in 0..metadata.len() {
        survive(
            &mut c,
            (1..=255).map(|by| {
                let mut changed = metadata.clone();
                changed[place] ^= by;
                restore(&changed)
            }),
        );
    }
    let mut random = Random::new(13);
    let noise: Vec<_> = (0..5_000).map(|_| restore(&random.bytes(200))).collect();
    survive(&mut c, noise);
}

#[test]
fn replicated_entries_with_any_expiry() {
    let server = Server::start();
    let mut c = server.conn();
    let [_, _, metadata, payload] = replicated().try_into().unwrap();
    let moments = [
        "-1",
        "0",
        "1",
        "-2",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1e3",
        "",
        " 1",
        "4611686018427387904",
    ];
    survive(&mut c, moments.map(|at| args!["EXPCACHE.RESTORE", "h", at, &metadata, &payload]));
    c.ok("SET text v");
    assert!(matches!(c.cmd(args!["EXPCACHE.RESTORE", "text", -1, &metadata, &payload]), Value::Error(_)));
    assert_eq!(c.cmd("GET text"), "v");
    for words in [args!["EXPCACHE.RESTORE", "h"], args!["EXPCACHE.RESTORE", "h", -1, &metadata, &payload, "more"]] {
        c.err(words, "ERR wrong number of arguments");
    }
}

// ---- what any client can send

/// Words that mean something somewhere, and numbers at the ends of what numbers can be.
const WORDS: &[&str] = &[
    "TYPE",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "KEEPTTL",
    "GRACE",
    "TAGS",
    "FORMAT",
    "RECORDS",
    "COST",
    "META",
    "HASH",
    "ENCODING",
    "NX",
    "XX",
    "IFMATCH",
    "LEASE",
    "IFNONEMATCH",
    "RANGE",
    "MAXAGE",
    "VERIFY",
    "ACCEPT",
    "FILTERS",
    "COMPANY",
    "USER",
    "PROJECT",
    "FIELD",
    "HASHTAG",
    "TTL",
    "MAXTTL",
    "JITTER",
    "EARLY",
    "SLIDING",
    "CODEC",
    "THRESHOLD",
    "MAXVALUE",
    "MAXENTRIES",
    "MAXBYTES",
    "FORMATS",
    "VALIDATE",
    "RESET",
    "WINDOW",
    "GET",
    "SET",
    "LIST",
    "DEL",
    "CHECK",
    "HELP",
    "SOFT",
    "DRYRUN",
    "ANY",
    "ALL",
    "NONE",
    "MATCH",
    "COUNT",
    "yes",
    "no",
    "auto",
    "identity",
    "csv",
    "json",
    "trips",
    "default",
    "k",
    "h",
    "0",
    "1",
    "2",
    "-1",
    "3",
    "64",
    "65",
    "1000000",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1h",
    "0s",
    "1ms",
    "999999999d",
    "9223372036854775807ms",
    "1.5",
    "nan",
    "1gb",
    "9999999999gb",
    "{}",
    "[]",
    "{\"a\":1}",
    "{\"a\":1,\"a\":2}",
    "1e400",
    "*",
    "[",
    "d41d8cd98f00b204e9800998ecf8427e",
];

fn word(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0..7 => random.pick(WORDS).as_bytes().to_vec(),
        7 => random.pick(&HOSTILE).to_vec(),
        8 => random.bytes(600),
        _ => random.bytes(4),
    }
}

#[test]
fn any_words_after_any_command() {
    let server = Server::start();
    let commands = server.conn().cmd("COMMAND LIST FILTERBY MODULE expcache").sorted_texts();
    let names: Vec<&str> = commands.iter().filter(|name| !name.contains('|')).map(String::as_str).collect();
    assert!(names.len() >= 12, "{names:?}");
    for (seed, mut c) in (14..).zip(server.conns()) {
        let mut random = Random::new(seed);
        println!("seed {seed}");
        let mut answered = 0;
        for _ in 0..100 {
            let calls: Vec<Vec<Vec<u8>>> = (0..100)
                .map(|_| {
                    let name = random.pick(&names).as_bytes().to_vec();
                    let count = random.below(12);
                    [vec![name], (0..count).map(|_| word(&mut random)).collect()].concat()
                })
                .collect();
            let replies = c.pipeline(calls);
            answered += replies.iter().filter(|reply| !matches!(reply, Value::Error(_))).count();
            check(&mut c);
        }
        assert!(answered > 100, "some of it makes sense: {answered}");
        assert_eq!(c.cmd("PING"), Value::Simple("PONG".into()));
        c.ok("FLUSHALL");
        check(&mut c);
    }
}

#[test]
fn options_that_nearly_make_sense() {
    let server = Server::start();
    let mut c = server.conn();
    let mut random = Random::new(16);
    let names = ["EXPCACHE.SET", "EXPCACHE.MSET", "EXPCACHE.FETCH", "EXPCACHE.KEYFOR", "EXPCACHE.TYPE"];
    for round in 0..100 {
        let calls: Vec<Vec<Vec<u8>>> = (0..100)
            .map(|_| {
                let name = *random.pick(&names.each_ref());
                let mut words = match name {
                    "EXPCACHE.SET" => args![name, "h", word(&mut random)],
                    "EXPCACHE.MSET" => args![name, 2, "h", word(&mut random), "k", word(&mut random)],
                    "EXPCACHE.TYPE" => args![name, "SET", word(&mut random)],
                    _ => args![name, "h"],
                };
                for _ in 0..random.below(4) {
                    words.extend([random.pick(WORDS).as_bytes().to_vec(), word(&mut random)]);
                }
                words
            })
            .collect();
        c.pipeline(calls);
        check(&mut c);
        if round % 25 == 24 {
            // What was accepted must also be fit to be written down and read again.
            c.ok("DEBUG RELOAD");
            check(&mut c);
        }
    }
}

#[test]
fn json_of_any_depth_and_length() {
    let server = Server::start();
    let mut c = server.conn();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [10, 100, 1_000, 10_000, 300_000] {
            let (left, right) = (open.repeat(depth), close.repeat(depth));
            for json in [format!("{left}1{right}"), left.clone(), format!("{{\"a\":{left}1{right}}}")] {
                c.cmd(args!["EXPCACHE.SET", "k", "v", "META", &json]);
                c.cmd(args!["EXPCACHE.KEYFOR", "trips", "FILTERS", &json]);
                assert_eq!(c.cmd("PING"), Value::Simple("PONG".into()));
            }
        }
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    assert!(matches!(c.cmd(args!["EXPCACHE.SET", "k", "v", "META", &long]), Value::Error(_)));
    c.cmd(args!["EXPCACHE.KEYFOR", "trips", "FILTERS", &long]);
    check(&mut c);
}
