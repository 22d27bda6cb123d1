//! A panic ends in an error, and the server goes on (invariant 6): in whatever callback it happens.
//!
//! Nothing of ours panics that we know of. So our tools are handed a room that does nothing else: `tests/panics/lib.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Conn, Server, Value, wait_until};

const INTERNAL: &str = "ERR internal error, see the server's log";

fn module() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "panics", "--target-dir"])
        .arg(target())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the module that panics cannot be built");
    target().join("debug/examples/libpanics.so")
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

#[test]
fn a_panic_is_an_error_and_the_server_goes_on() {
    let server = Server::with_panics(&module(), &[]);
    let mut c = server.conn();
    let log = |told: &str| wait_until(told, || server.log().contains(&format!(": {told}")));
    let panics = |told: &str, c: &mut Conn, command: &[&str]| {
        let _ = c.cmd(command);
        log(told);
        assert_eq!(c.int("EXISTS nothing"), 0);
    };

    log("a server's event");
    c.err("PANICS.COMMAND", INTERNAL);
    panics("a command", &mut c, &["PANICS.COMMAND"]);
    c.err(&["CONFIG", "SET", "expcache.text", "x"], "ERR CONFIG SET failed");
    c.err(&["CONFIG", "SET", "expcache.duration", "2s"], "ERR CONFIG SET failed");
    log("a text is set");
    log("a duration is set");
    assert_eq!(c.config("expcache.text"), "text");
    panics("INFO", &mut c, &["INFO", "expcache"]);
    panics("a timer", &mut c, &["PANICS.TIMER"]);
    panics("posted", &mut c, &["PANICS.POSTED"]);
    c.err("PANICS.WORKER", INTERNAL);
    log("a worker");
    c.err("PANICS.ANSWER", INTERNAL);
    log("an answer");

    c.ok("PANICS.STORE k");
    panics("a scan", &mut c, &["PANICS.SCAN"]);
    panics("copying", &mut c, &["COPY", "k", "other"]);
    panics("saving", &mut c, &["DUMP", "k"]);
    panics("a digest", &mut c, &["DEBUG", "DIGEST-VALUE", "k"]);
    panics("saving beside the keys", &mut c, &["SAVE"]);
    panics("unlinking", &mut c, &["UNLINK", "k"]);
    panics("a key's event", &mut c, &["UNLINK", "k"]);
    assert_eq!(c.cmd("EXISTS k"), 0);
    c.ok("PANICS.WATCH");
    panics("a write", &mut c, &["SET", "k", "v"]);
    if c.info("server", "redis_version").starts_with("7.0") {
        eprintln!("this server does nothing afterwards");
    } else {
        log("afterwards");
    }
    c.ok("FLUSHALL");
    c.ok("SWAPDB 0 1");
}

/// The client is told, or goes, and the next one is served.
#[test]
fn a_client_whose_waiting_ends_in_a_panic_is_answered() {
    let server = Server::with_panics(&module(), &[]);
    let mut c = server.conn();
    let mut waiting = server.conn();
    let id = waiting.int("CLIENT ID").to_string();
    waiting.send("PANICS.BLOCKED").unwrap();
    wait_until("it waits", || c.info("clients", "blocked_clients") == "1");
    assert_eq!(c.int(&["CLIENT", "UNBLOCK", &id]), 1);
    assert_eq!(waiting.receive().unwrap(), Value::Error(INTERNAL.into()));
    assert!(server.log().contains(": gone") && server.log().contains(": unblocked"), "{}", server.log());

    waiting.send("PANICS.BLOCKED").unwrap();
    wait_until("it waits again", || c.info("clients", "blocked_clients") == "1");
    drop(waiting);
    wait_until("it is gone", || c.info("clients", "blocked_clients") == "0");
    assert_eq!(c.int("EXISTS nothing"), 0);
}
