//! What `docs/clients.md` shows is what is in `contrib/clients`, and it works: on one server and on three primaries.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use super::*;
use crate::cluster::Cluster;

/// How long bringing a package may take.
const FETCHING: Duration = Duration::from_secs(120);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn snippet(name: &str) -> PathBuf {
    repository().join("contrib/clients").join(name)
}

#[test]
fn the_page_shows_the_programs() {
    let page = std::fs::read_to_string(repository().join("docs/clients.md")).unwrap();
    let programs: Vec<_> = std::fs::read_dir(snippet("")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(programs.len(), 5);
    for program in programs {
        let text = std::fs::read_to_string(&program).unwrap();
        assert!(
            page.contains(&format!("\n{}\n```\n", text.trim_end())),
            "docs/clients.md shows another {}",
            program.display()
        );
    }
}

#[test]
fn python() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().display().to_string();
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", &target, "redis>=7,<9"]);
    if brought("redis-py", &mut pip) {
        let mut python = Command::new("python3");
        in_both(python.arg(snippet("redis_py.py")).env("PYTHONPATH", &target).env("PYTHONDONTWRITEBYTECODE", "1"));
    }
}

#[test]
fn node() {
    let dir = tempfile::tempdir().unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(dir.path()).arg("redis@6");
    if brought("node-redis", &mut npm) {
        // Modules are looked for beside the program.
        let program = dir.path().join("node_redis.mjs");
        std::fs::copy(snippet("node_redis.mjs"), &program).unwrap();
        in_both(Command::new("node").arg(program));
    }
}

#[test]
fn rust() {
    if let Some(built) = example("redis_rs") {
        in_both(&mut Command::new(built));
    }
}

/// `client/examples/axum.rs`, asked as a browser would.
#[test]
fn axum() {
    let (server, built) = (Server::start(), example("axum"));
    let Some(built) = built else { return };
    let mut service =
        Command::new(built).args([&address(&server), "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let host = line.trim().rsplit('/').next().unwrap().to_owned();

    let get = |headers: &str| http(&host, "GET /companies/42/trips.csv", headers);
    let (head, made) = get("");
    assert!(head.starts_with("http/1.1 200") && head.contains("cache-status: expcache; fwd=miss; stored"), "{head}");
    let (head, body) = get("");
    assert!(head.contains("cache-status: expcache; hit; ttl=") && head.contains("\r\nage: "), "{head}");
    assert_eq!(body, made);
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();

    let (head, body) = get(&format!("If-None-Match: {etag}\r\n"));
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
    let (head, body) = get("Range: bytes=3-9\r\n");
    assert!(
        head.starts_with("http/1.1 206") && head.contains(&format!("content-range: bytes 3-9/{}", made.len())),
        "{head}"
    );
    assert_eq!(body, made[3..10]);
    let (head, _) = get("Range: bytes=99999999-\r\n");
    assert!(head.starts_with("http/1.1 416"), "{head}");
    let (head, body) = get("Range: bytes=3-9\r\nIf-Range: \"other\"\r\n");
    assert!(head.starts_with("http/1.1 200") && body == made, "{head}");

    let (_, body) = http(&host, "POST /companies/42/changed", "");
    assert_eq!(body, "1 exports are gone\n");
    assert!(get("").0.contains("fwd=miss"));
    service.kill().unwrap();
    service.wait().unwrap();
}

/// Head, in lower case, and body.
fn http(host: &str, request: &str, headers: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// An example that is built; if it is not, it says so.
fn example(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let built = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    if !built.exists() {
        eprintln!("SKIPPED: {} is not built; `cargo test` without --test builds it", built.display());
        return None;
    }
    Some(built)
}

/// Whether the package could be had; if not, it says so.
fn brought(what: &str, command: &mut Command) -> bool {
    let reason = match finished(command, FETCHING) {
        Some(output) if output.status.success() => return true,
        Some(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        None => "there is no such program, or it takes too long".to_owned(),
    };
    eprintln!("SKIPPED: {what} cannot be had here: {reason}");
    false
}

/// The output of a command, unless it cannot be started or does not end.
fn finished(command: &mut Command, patience: Duration) -> Option<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > patience {
            let _ = child.kill();
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().ok()
}

fn in_both(command: &mut Command) {
    let server = Server::start();
    assert_works(command, &server, &[]);
    let cluster = Cluster::start();
    assert_works(command, &cluster.0[0], &["cluster"]);
    for node in &cluster.0 {
        let mut c = node.conn();
        harness::check(&mut c);
        assert_eq!(c.cmd("DBSIZE"), 0, "it was invalidated on every primary");
        assert!(c.map("EXPCACHE.STATS")["sets"].int() > 0, "and had been on each");
    }
}

fn assert_works(command: &mut Command, server: &Server, mode: &[&str]) {
    let mut with = Command::new(command.get_program());
    with.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = finished(with.arg("127.0.0.1").arg(server.port().to_string()).args(mode), PATIENCE).unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.trim(), "invalidated 9", "{errors}");
    assert!(output.status.success(), "{errors}");
}
