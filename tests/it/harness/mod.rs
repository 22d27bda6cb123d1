//! What every test under `tests/` stands on: a real server of its own ([`Server`]) and a client that shows replies as they
//! came ([`Conn`], [`Value`]).
//!
//! ```ignore
//! use crate::harness::{Server, check};
//!
//! let server = Server::start();
//! let mut c = server.conn();
//! c.ok("EXPCACHE.SET k v TAGS 1 t");          // words, or &["EXPCACHE.SET", "k", "a value"], or args![name, &bytes[..], 5]
//! assert_eq!(c.map("EXPCACHE.FETCH k")["status"], "hit");
//! check(&mut c);
//! ```
//!
//! `EXPCACHE_SERVER` names another server binary, `EXPCACHE_MODULE` another build of the module.

#![allow(dead_code, unused_imports, reason = "each test binary compiles its own copy and uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod clock;
mod resp;
mod server;

pub use resp::{Arg, Command, Conn, Fields, Value};
pub use server::{Server, Stop};

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything may take that is given a time: generous, since the machine may be slow.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// When a test gives up waiting for what has no time of its own. Only a test that fails waits for so long.
pub const IN_VAIN: Duration = Duration::from_secs(180);

/// Both protocols, for tests that must hold in each.
pub const RESP_VERSIONS: [u8; 2] = [2, 3];

/// Names and payloads that a careless program trips over.
pub const HOSTILE: [&[u8]; 6] =
    [b"\0", b"a\0b", b"line\r\nbreak", b"\xff\xfe not UTF-8", b"%s%n%s%n", b" a blank \"and\" 'quotes' "];

/// A command of mixed arguments: `args!["EXPCACHE.SET", &key[..], "v", "EX", 10]`.
#[allow(unused_macros, reason = "each binary uses a part of the harness")]
macro_rules! args {
    ($($arg:expr),+ $(,)?) => { vec![$($crate::harness::Arg::to_arg(&$arg)),+] };
}
pub(crate) use args;

/// Polls `holds` until it is true; panics with `what` when that does not happen within [`IN_VAIN`].
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < IN_VAIN, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a master has carried out in the keyspace all that was invalidated.
pub fn wait_until_reclaimed(c: &mut Conn) {
    wait_until("what was invalidated is reclaimed", || {
        c.map("EXPCACHE.HEALTH")["reclaim-backlog"].fields()["figure"] == 0
    });
}

/// Waits until the workers have done to large payloads all that is to be done.
pub fn wait_until_settled(c: &mut Conn) {
    wait_until("the workers are done", || {
        let health = c.map("EXPCACHE.HEALTH");
        ["worker-backlog", "workers-busy", "settle-backlog"].iter().all(|name| health[*name].fields()["figure"] == 0)
    });
}

/// Asserts that index and keyspace agree (every database; see `EXPCACHE.DEBUG CHECK`).
#[track_caller]
pub fn check(c: &mut Conn) {
    assert_eq!(c.cmd("EXPCACHE.DEBUG CHECK"), Value::Array(Vec::new()));
}

/// The wall clock as the server sees it, in unix milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Asserts that the command is refused with this prefix and leaves everything as it was: keys, their contents and expiry,
/// policies, the count of changes to be saved.
#[track_caller]
pub fn refused(c: &mut Conn, command: impl Command, prefix: &str) -> String {
    let before = everything(c);
    let text = c.err(command, prefix);
    assert_eq!(everything(c), before, "changed by a refused command");
    check(c);
    text
}

fn everything(c: &mut Conn) -> Vec<String> {
    let mut all = vec![c.info("persistence", "rdb_changes_since_last_save")];
    let keys = c.cmd("KEYS *");
    for key in keys.items().iter().map(Value::as_bytes) {
        let (dump, expiry) = (c.cmd(args!["DUMP", key]), c.cmd(args!["PEXPIRETIME", key]));
        all.push(format!("{} {expiry} {dump}", key.escape_ascii()));
    }
    let types = c.cmd("EXPCACHE.TYPE LIST");
    for name in types.items().iter().map(Value::as_bytes) {
        let policy = c.cmd(args!["EXPCACHE.TYPE", "GET", name]);
        all.push(format!("{} {policy}", name.escape_ascii()));
    }
    all.sort();
    all
}

mod dump;
mod picture;
mod random;

pub use dump::{closed, opened};
pub use picture::{DATABASES, Picture, meta};
pub use random::Random;

/// Tells a story twice: to a server that frees at once, and to one that frees in the background wherever it can.
pub fn in_both_modes(mut story: impl FnMut(&mut Conn)) {
    for mode in ["no", "yes"] {
        let uses = ["eviction", "expire", "server-del", "user-del", "user-flush"];
        let settings = uses.map(|using| [format!("--lazyfree-lazy-{using}"), mode.into()]).concat();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let server = Server::with(&settings);
        let mut c = server.conn();
        story(&mut c);
        check(&mut c);
    }
}
