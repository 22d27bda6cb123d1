//! A trace that is recorded: of a real server, and read by what replays it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../tests/it/harness/mod.rs"]
mod harness;
#[allow(dead_code, missing_docs, reason = "a part of it is used")]
#[path = "../../core/examples/replay/play.rs"]
mod play;
#[allow(dead_code, missing_docs, reason = "a part of it is used")]
#[path = "../../core/examples/replay/workload.rs"]
mod workload;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use harness::{Conn, Server, Stop, args, check, wait_until};
use play::Play;
use tempfile::TempDir;
use workload::{What, trace};

/// The program, while it records.
struct Recording {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    path: PathBuf,
    _dir: TempDir,
}

impl Recording {
    /// Returns when it has begun.
    fn start(server: &Server, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let mut command = Command::new(env!("CARGO_BIN_EXE_expcache-top"));
        command.args(["--url", &format!("redis://127.0.0.1:{}", server.port()), "--record"]).arg(&path).args(more);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.starts_with("recording "), "{line}");
        Self { child, errors, path, _dir: dir }
    }

    fn trace(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn await_text(&self, wanted: &str) {
        wait_until(&format!("the trace has {wanted:?}"), || self.trace().contains(wanted));
    }

    /// Waits until it has ended; what it said, and how that was.
    fn end(&mut self) -> (String, ExitStatus) {
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        (said, self.child.wait().unwrap())
    }

    fn interrupt(&mut self) -> (String, ExitStatus) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
        self.end()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn audited() -> (Server, Conn) {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.TYPE SET trips TTL 1h AUDIT all");
    (server, c)
}

/// What `core/examples/replay` reads of it.
fn read(text: &str) -> Vec<(Option<String>, workload::Event)> {
    trace(text.as_bytes()).collect()
}

/// The words of the lines without their times, and without what is said to people.
fn words(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(_, rest)| rest.to_owned()).collect()
}

#[test]
fn what_was_recorded_is_what_happened() {
    let (server, mut c) = audited();
    c.ok("EXPCACHE.SET trips:before v TYPE trips COST 7 TAGS 1 a");
    c.ok("EXPCACHE.SET others:1 v TYPE others");
    let mut recording = Recording::start(&server, &[]);
    assert_eq!(recording.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    c.nil("EXPCACHE.GET trips:1");
    c.ok("EXPCACHE.SET trips:1 value TYPE trips COST 40 TAGS 2 a b");
    c.bulk("EXPCACHE.GET trips:1");
    c.bulk("EXPCACHE.GET trips:before");
    c.bulk("EXPCACHE.GET others:1");
    c.int("EXPCACHE.INVALIDATE.TAG a");
    c.nil("EXPCACHE.GET trips:1");
    c.ok(args!["EXPCACHE.SET", "trips:1", "other", "TYPE", "trips", "COST", 41, "TAGS", 2, "a", "b"]);
    c.bulk("EXPCACHE.GET trips:1");
    recording.await_text(" ! a");
    wait_until("it has all", || recording.trace().matches("trips:1").count() == 4);
    let (said, status) = recording.interrupt();
    assert!(status.success(), "{said}");
    assert!(said.contains("7 lines are recorded") && !said.contains("lost"), "{said}");
    // The MD5 of `value`, `v` and `other`.
    let (value, v, other) =
        ("2063c1608d6e0baf80249c42e2be5804", "9e3669d19b675bd57058fd4664205d2a", "795f3202b17cb6bc3d4b771d8c6c9eaf");
    let expected = [
        format!("trips:1 trips 5 40 a,b {value}"),
        format!("trips:1 trips 5 40 a,b {value}"),
        format!("trips:before trips 1 7 a {v}"),
        "! a".to_owned(),
        format!("trips:1 trips 5 41 a,b {other}"),
        format!("trips:1 trips 5 41 a,b {other}"),
    ];
    let text = recording.trace();
    let found = words(&text);
    // Where both stores came in one look, the entry that was there is the second one's.
    let alike = |line: &String| line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    assert_eq!(found.iter().map(alike).collect::<Vec<_>>(), expected.iter().map(alike).collect::<Vec<_>>(), "{text}");
    assert_eq!(found[4..], expected[4..]);

    let events = read(&text);
    assert_eq!(events.len(), 6);
    let mut play = Play::new(100, 1..=1, 0, false);
    for (type_name, event) in &events {
        assert!(type_name.as_deref().is_none_or(|name| name == "trips"));
        play.step(event);
    }
    let reads = events.iter().filter(|(_, event)| matches!(event.what, What::Read(_))).count();
    assert_eq!((reads, play.estimators().next().unwrap().0.reads()), (5, 5.0));
    // Two keys were new, and one was invalidated, unless that was in the very millisecond in which it was stored.
    assert!(play.exact().iter().all(|rate| (0.39..0.61).contains(rate)), "{:?}", play.exact());
    check(&mut c);
}

#[test]
fn keys_are_hashed_on_request() {
    let (server, mut c) = audited();
    let mut recording = Recording::start(&server, &["--hash", "--lines", "4"]);
    for key in ["trips:secret", "trips:secret", "trips:other"] {
        c.ok(args!["EXPCACHE.SET", key, "v", "TYPE", "trips", "TAGS", 1, "user:7"]);
        c.bulk(args!["EXPCACHE.GET", key]);
    }
    c.int("EXPCACHE.INVALIDATE.TAG user:7");
    let (said, status) = recording.end();
    assert!(status.success() && said.contains("4 lines are recorded"), "it ends by itself: {said}");
    let text = recording.trace();
    assert!(!text.contains("secret") && !text.contains("user"), "{text}");
    let lines = words(&text);
    let (keys, tags): (Vec<&str>, Vec<&str>) = lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0], words[4])
        })
        .unzip();
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{text}");
    assert!(tags.iter().all(|tag| *tag == tags[0] && tag.len() == 16), "{text}");
}

/// Names that a trace must not take for anything else.
#[test]
fn any_key_is_one_word() {
    let (server, mut c) = audited();
    let recording = Recording::start(&server, &[]);
    for name in [&b"!"[..], b"a b", b"-", b"50%"].into_iter().chain(harness::HOSTILE) {
        c.ok(args!["EXPCACHE.SET", name, "v", "TYPE", "trips", "TAGS", 1, name]);
        c.bulk(args!["EXPCACHE.GET", name]);
    }
    c.bulk("EXPCACHE.GET !");
    wait_until("it has all", || words(&recording.trace()).len() == 11);
    assert!(read(&recording.trace()).iter().all(|(name, _)| name.as_deref() == Some("trips")));
}

#[test]
fn gaps_are_told_and_a_server_that_comes_back_is_followed() {
    let (mut server, mut c) = audited();
    c.ok("EXPCACHE.SET trips:1 v TYPE trips");
    let mut recording = Recording::start(&server, &[]);
    c.bulk("EXPCACHE.GET trips:1");
    recording.await_text("trips:1 trips");
    c.ok("SAVE");
    server.restart(Stop::Kill);
    let mut c = server.conn();
    c.bulk("EXPCACHE.GET trips:1");
    recording.await_text("# the server was started anew");
    wait_until("it goes on", || words(&recording.trace()).len() == 2);
    // More than it has room for, before anybody can read it.
    c.ok("CONFIG SET expcache.audit-memory 131072");
    let count = 20_000;
    c.pipeline(std::iter::once("MULTI").chain((0..count).map(|_| "EXPCACHE.GET trips:1")));
    c.cmd("EXEC");
    recording.await_text("written over before they were read");
    let (said, status) = recording.interrupt();
    assert!(status.success() && said.contains("lines of the log were lost"), "{said}");
    assert!(words(&recording.trace()).len() < count);
}

fn refusal(url: &str, path: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_expcache-top"));
    let output = command.args(["--url", url, "--record"]).arg(path).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_cannot_be_recorded_is_said() {
    let server = Server::start();
    let mut c = server.conn();
    let (dir, url) = (tempfile::tempdir().unwrap(), format!("redis://127.0.0.1:{}", server.port()));
    let path = dir.path().join("trace");
    let said = refusal(&url, &path);
    assert!(said.contains("AUDIT all") && !path.exists(), "{said}");
    c.ok("EXPCACHE.TYPE SET trips AUDIT all");
    std::fs::write(&path, "days of work").unwrap();
    let said = refusal(&url, &path);
    assert!(said.contains("trace") && std::fs::read_to_string(&path).unwrap() == "days of work", "{said}");
    c.ok("ACL SETUSER someone on >secret ~* +@all -expcache.audit");
    let said = refusal(&url.replace("//", "//someone:secret@"), &dir.path().join("other"));
    assert!(said.contains("NOPERM"), "{said}");
}
