//! What the tests of large payloads share: payloads, what other libraries make of them, and workers that are kept busy.

use crate::harness::{Conn, Random, Server, Value, args, wait_until, wait_until_settled};
use expcache_core::entry::etag_of;
use std::io::{Read, Write};
use std::sync::OnceLock;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

pub const KB: usize = 1 << 10;
pub const MB: usize = 1 << 20;

pub const ENCODINGS: [&str; 3] = ["gzip", "zstd", "lz4"];

/// Rows such as exports have: each encoding saves more than half. (They repeat themselves after a MiB, which is more than any encoder looks
/// back.)
pub fn rows(bytes: usize) -> Vec<u8> {
    static MEGABYTE: OnceLock<Vec<u8>> = OnceLock::new();
    let megabyte = MEGABYTE.get_or_init(megabyte_of_rows);
    let mut rows = megabyte[..bytes.min(megabyte.len())].repeat(bytes.div_ceil(megabyte.len()));
    rows.truncate(bytes);
    rows
}

fn megabyte_of_rows() -> Vec<u8> {
    let mut rows = Vec::with_capacity(MB + 100);
    for n in 0_u64.. {
        if rows.len() >= MB {
            break;
        }
        let (vehicle, degrees, fraction, month) = (n % 97, n % 90, n * 7919 % 999_983, n % 12 + 1);
        writeln!(rows, "{n},vehicle-{vehicle},{degrees}.{fraction:06},2026-{month:02}-01,true").unwrap();
    }
    rows
}

/// Bytes in which no encoder finds anything.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(bytes as u64);
    let mut noise = vec![0; bytes.next_multiple_of(8)];
    noise.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
    noise.truncate(bytes);
    noise
}

/// The MD5 of a payload, as replies have it.
pub fn etag(payload: &[u8]) -> String {
    hex::encode(etag_of(payload))
}

// ---- what others make of payloads

pub fn gzip(payload: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(payload).unwrap();
    encoder.finish().unwrap()
}

/// A frame that does not say how large its content is, as streaming encoders make it.
pub fn zstd(payload: &[u8]) -> Vec<u8> {
    let mut encoder = CCtx::create();
    encoder.set_parameter(CParameter::CompressionLevel(1)).unwrap();
    let mut stored = Vec::with_capacity(zstd_safe::compress_bound(payload.len()) + 100);
    let mut output = OutBuffer::around(&mut stored);
    encoder.compress_stream(&mut output, &mut InBuffer::around(payload)).unwrap();
    assert_eq!(encoder.end_stream(&mut output).unwrap(), 0);
    stored
}

pub fn lz4(payload: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(payload).unwrap();
    encoder.finish().unwrap()
}

pub fn pack(encoding: &str, payload: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => gzip(payload),
        "zstd" => zstd(payload),
        "lz4" => lz4(payload),
        _ => payload.to_vec(),
    }
}

/// What another library reads. Of gzip, like some browsers, the first member only.
pub fn unpack(encoding: &str, stored: &[u8], size: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(size);
    match encoding {
        "gzip" => drop(flate2::read::GzDecoder::new(stored).read_to_end(&mut payload).unwrap()),
        "lz4" => drop(lz4_flex::frame::FrameDecoder::new(stored).read_to_end(&mut payload).unwrap()),
        "zstd" => drop(zstd_safe::decompress(&mut payload, stored).unwrap()),
        _ => payload.extend_from_slice(stored),
    }
    payload
}

// ---- a server and what it has

/// A server on which payloads of the default type are kept in this encoding, from a KiB on, or whatever else a `CODEC` may be.
pub fn server_with_codec(codec: &str) -> (Server, Conn) {
    let server = Server::start();
    let mut c = server.conn();
    c.ok(args!["EXPCACHE.TYPE", "SET", "default", "CODEC", codec, "THRESHOLD", "1kb"]);
    (server, c)
}

/// Asserts that the two are equal, without showing megabytes when they are not.
#[track_caller]
pub fn same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "length of {what}");
    if found != expected {
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        panic!("{what} differs at {differs:?}");
    }
}

/// Asserts that every way of reading `key` gives the payload.
#[track_caller]
pub fn reads(c: &mut Conn, key: &str, payload: &[u8], what: &str) {
    same(&c.bulk(&["EXPCACHE.GET", key]), payload, what);
    let several = c.cmd(&["EXPCACHE.MGET", "nothing", key]);
    assert_eq!(several.items()[0], Value::Nil);
    same(several.items()[1].as_bytes(), payload, what);
    let fetched = c.map(&["EXPCACHE.FETCH", key, "VERIFY"]);
    same(fetched["value"].as_bytes(), payload, what);
    assert_eq!((&fetched["status"], &fetched["encoding"]), (&Value::bulk("hit"), &Value::bulk("identity")), "{what}");
    assert_eq!(fetched["size"], payload.len() as i64, "{what}");
    assert_eq!(fetched["etag"], etag(payload).as_str(), "{what}");
}

/// How a payload is kept: encoding and length.
#[track_caller]
pub fn kept(c: &mut Conn, key: &str) -> (String, usize) {
    let meta = c.map(&["EXPCACHE.META", key]);
    (meta["encoding"].text(), meta["stored"].int().try_into().unwrap())
}

/// The bytes in which a payload is kept, and how they are encoded.
#[track_caller]
pub fn stored(c: &mut Conn, key: &str) -> (String, Vec<u8>) {
    let fetched = c.map(&["EXPCACHE.FETCH", key, "ACCEPT", "4", "identity", "gzip", "zstd", "lz4"]);
    (fetched["encoding"].text(), fetched["value"].as_bytes().to_vec())
}

/// Waits until a payload is kept in this encoding.
#[track_caller]
pub fn becomes(c: &mut Conn, key: &str, encoding: &str) {
    wait_until_settled(c);
    assert_eq!(kept(c, key).0, encoding, "{key}");
}

#[track_caller]
pub fn counter(c: &mut Conn, name: &str) -> i64 {
    c.map("EXPCACHE.STATS")[name].int()
}

#[track_caller]
pub fn memory(c: &mut Conn, name: &str) -> i64 {
    c.info("memory", name).parse().unwrap()
}

// ---- busy workers

/// A server with one worker.
pub fn one_worker(settings: &[&str]) -> (Server, Conn) {
    let server = Server::load(&["workers", "1"], settings).unwrap();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET default CODEC gzip");
    c.ok("EXPCACHE.TYPE SET busy CODEC gzip");
    (server, c)
}

/// The size of a [`bomb`]'s payload.
pub const BOMB: usize = 504 * MB;

/// A store whose payload keeps a worker busy for a second or so.
pub fn bomb(key: &str) -> Vec<Vec<u8>> {
    static ZEROS: OnceLock<Vec<u8>> = OnceLock::new();
    let zeros = ZEROS.get_or_init(|| gzip(&vec![0; BOMB / 8]).repeat(8));
    args!["EXPCACHE.SET", key, zeros, "ENCODING", "gzip"]
}

/// Lets anything be decoded.
pub fn allow_bombs(c: &mut Conn) {
    c.cmd("CONFIG SET expcache.max-ratio 0");
    c.cmd("CONFIG SET expcache.max-decoded 512mb");
}

/// Gives the worker this many pieces to check for clients, each of which takes half a second, so that whatever comes next has to wait;
/// returns when it works on the first. The clients are gone then.
pub fn occupy(c: &mut Conn, pieces: usize) {
    keep_busy(c, 1, pieces);
}

/// As [`occupy`], for so many workers.
pub fn keep_busy(c: &mut Conn, workers: usize, pieces: usize) {
    allow_bombs(c);
    for n in 0..workers * pieces {
        let mut client = c.another();
        let id = client.int("CLIENT ID");
        client.send(bomb(&format!("checked:{n}"))).unwrap();
        wait_until_blocked(c, id);
    }
    wait_until("the workers have begun", || figure(c, "workers-busy") == workers as i64);
}

/// Waits until a client, by its number, waits for a worker. What it sent is its first command of ours.
pub fn wait_until_blocked(c: &mut Conn, id: i64) {
    let list = args!["CLIENT", "LIST", "ID", id];
    wait_until("the client waits for a worker", || {
        let client = c.text(list.clone());
        let is_blocked = client.contains(" flags=b ");
        assert!(is_blocked || !client.contains(" cmd=expcache."), "{TOO_LATE}");
        is_blocked
    });
}

/// With this in its panic a story is told again by [`in_time`].
pub const TOO_LATE: &str = "what was to happen meanwhile came too late";

/// Asserts that the worker has not got beyond what [`occupy`] gave it: otherwise a test would show nothing.
#[track_caller]
pub fn still_occupied(c: &mut Conn) {
    assert!(figure(c, "workers-busy") > 0, "{TOO_LATE}");
}

/// Tells a story in which workers have to be [`still_occupied`], again if this machine was too slow for it.
pub fn in_time(story: fn()) {
    let is_too_late = |panic: &Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.is_some_and(|text| text.contains(TOO_LATE))
    };
    for _ in 0..9 {
        match std::panic::catch_unwind(story) {
            Err(panic) if is_too_late(&panic) => (),
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => return,
        }
    }
    story();
}

/// The figure of one of the checks that `HEALTH` makes.
#[track_caller]
pub fn figure(c: &mut Conn, check: &str) -> i64 {
    c.map("EXPCACHE.HEALTH")[check].fields()["figure"].int()
}
