//! What `docs/clients` shows is what is in `contrib/clients`, and it works: on one server and on three primaries, and when something
//! goes wrong.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use expcache_client::{Policy, Set};

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
fn the_pages_show_the_programs() {
    let pages = [
        "Jedis.java java",
        "go_redis.go go",
        "large_export.py ../howto/upload",
        "node_redis.mjs javascript",
        "redis_py.py python",
        "redis_rs.rs redis-rs",
        "warm_worker.py ../howto/warm",
    ];
    assert_eq!(std::fs::read_dir(snippet("")).unwrap().count(), pages.len());
    for (program, page) in pages.iter().filter_map(|pair| pair.split_once(' ')) {
        let text = std::fs::read_to_string(snippet(program)).unwrap();
        let page = repository().join("docs/clients").join(page).with_extension("md");
        let shown = std::fs::read_to_string(&page).unwrap();
        assert!(shown.contains(&format!("\n{}\n```\n", text.trim_end())), "{} shows another {program}", page.display());
    }
}

/// Where the programs that go wrong are.
fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/recipes").join(name)
}

#[test]
fn python() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().display().to_string();
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", &target, "redis>=7,<9"]);
    if brought("redis-py", &mut pip) {
        let path = std::env::join_paths([dir.path(), &snippet("")]).unwrap();
        let python = |program: PathBuf| {
            let mut python = Command::new("python3");
            python.arg(program).env("PYTHONPATH", &path).env("PYTHONDONTWRITEBYTECODE", "1");
            python
        };
        in_both(&mut python(snippet("redis_py.py")));
        survives(&mut python(recipe("faults.py")));
        warms(&mut python(snippet("warm_worker.py")));
        sends_in_pieces(&mut python(snippet("large_export.py")));
    }
}

/// The first who asks sends an export in pieces, and who asks after that reads it.
fn sends_in_pieces(command: &mut Command) {
    let server = Server::start();
    command.arg("127.0.0.1").arg(server.port().to_string());
    for _ in 0..2 {
        let said = command.output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&said.stdout),
            "2066896 bytes\n",
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = Client::open(config(&server)).unwrap();
    let stats = runtime.block_on(client.stats()).unwrap();
    assert_eq!((stats.sets, stats.leases), (1, 1));
}

/// A worker produces what is worth it, and ends when it is told to.
fn warms(command: &mut Command) {
    let (server, cluster) = ([Server::start()], Cluster::start());
    warms_one(command, &server, config(&server[0]), &[]);
    warms_one(command, &cluster.0, cluster.config(), &["cluster"]);
}

fn warms_one(command: &mut Command, servers: &[Server], config: Config, mode: &[&str]) {
    let (runtime, keys) = (tokio::runtime::Runtime::new().unwrap(), ["trips:{a}", "trips:{b}", "trips:{c}"]);
    let client = Client::open(config).unwrap();
    runtime.block_on(async {
        let warm = Policy { warm: Some(10), ..Policy::default() };
        client.set_type("trips", &warm).await.unwrap();
        for key in keys {
            let set =
                Set::new(key, "old").type_name("trips").tag("t").format("csv").meta(r#"{"company": 42, "month": 5}"#);
            client.set(&set).await.unwrap();
            for _ in 0..20 {
                client.get(key).await.unwrap();
            }
        }
        assert_eq!(client.invalidate_tags(["t"]).await.unwrap(), 3);
    });
    let mut worker = Command::new(command.get_program());
    worker.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut worker = worker.arg("127.0.0.1").arg(servers[0].port().to_string()).args(mode).spawn().unwrap();
    runtime.block_on(async {
        for key in keys {
            let is_made = async || client.get(key).await.unwrap().as_deref() == Some(b"company,month\n42,5\n");
            until("it is produced", is_made).await;
        }
        assert_eq!(client.stats().await.unwrap().warmed, 3);
        assert_eq!(client.meta(keys[0]).await.unwrap().unwrap().tags, ["t"]);
        assert_eq!(client.debug_check().await.unwrap(), Vec::<String>::new());
    });
    signal("-TERM", &worker.id().to_string());
    assert!(worker.wait().unwrap().success(), "it ends well");
}

#[test]
fn node() {
    let dir = tempfile::tempdir().unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(dir.path()).arg("redis@6");
    if brought("node-redis", &mut npm) {
        // Modules are looked for beside the program.
        for program in [snippet("node_redis.mjs"), recipe("faults.mjs")] {
            std::fs::copy(&program, dir.path().join(program.file_name().unwrap())).unwrap();
        }
        in_both(Command::new("node").arg(dir.path().join("node_redis.mjs")));
        survives(Command::new("node").arg(dir.path().join("faults.mjs")));
    }
}

#[test]
fn rust() {
    if let Some(built) = example("redis_rs") {
        in_both(&mut Command::new(built));
    }
}

/// One of `client/examples`, running.
struct Service {
    process: std::process::Child,
    host: String,
}

impl Service {
    /// `None`: it is not built.
    fn start(name: &str, server: &Server) -> Option<Self> {
        let mut started = Command::new(example(name)?);
        let mut process = started.args([&address(server), "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Some(Self { process, host: line.trim().rsplit('/').next().unwrap().to_owned() })
    }

    fn get(&self, headers: &str) -> (String, String) {
        http(&self.host, "GET /companies/42/trips.csv", headers)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Browsers of a user, and what somebody made up.
#[test]
fn sessions() {
    let server = Server::start();
    let Some(service) = Service::start("sessions", &server) else { return };
    let ask = |what: &str, cookie: &str| {
        let (head, body) = as_it_is(&service.host, what, &format!("Cookie: id={cookie}\r\n"));
        (head.split(' ').nth(1).unwrap().to_owned(), body, head)
    };
    let login = |cookie: &str| {
        let (_, _, head) = ask("POST /login/alice", cookie);
        head.split("id=").nth(1).unwrap().split(';').next().unwrap().to_owned()
    };
    for nobody in ["", "made-up", &"A".repeat(22)] {
        assert_eq!(ask("GET /me", nobody).0, "401");
    }
    let first = login("");
    let second = login(&first);
    assert_eq!((ask("GET /me", &first).0.as_str(), ask("GET /me", &second).1.as_str()), ("401", "alice\n"));
    let browsers: Vec<String> = (0..3).map(|_| login("made-up")).collect();
    assert_eq!(ask("GET /me", &second).0, "401", "three and no more");
    assert_eq!(ask("GET /sessions", &browsers[0]).1.lines().count(), 3);
    assert_eq!(ask("POST /logout", &browsers[0]).0, "200");
    assert_eq!(ask("GET /sessions", &browsers[1]).1.lines().count(), 2);
    assert_eq!(ask("POST /logout-everywhere", &browsers[1]).1, "2 sessions have ended\n");
    assert!(browsers.iter().all(|cookie| ask("GET /me", cookie).0 == "401"));
    assert_eq!(server.conn().cmd("DBSIZE"), 0);
}

/// Asked as a browser would.
#[test]
fn axum() {
    let server = Server::start();
    let Some(service) = Service::start("axum", &server) else { return };
    let get = |headers: &str| service.get(headers);
    let (head, made) = get("");
    assert!(head.starts_with("http/1.1 200") && head.contains("cache-status: expcache; fwd=miss; stored"), "{head}");
    let (head, body) = get("");
    assert!(head.contains("cache-status: expcache; hit; ttl=") && head.contains("\r\nage: "), "{head}");
    assert!(head.contains("content-type: text/csv; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("content-disposition: attachment; filename=\"trips.csv\"\r\n"), "{head}");
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

    let (_, body) = http(&service.host, "POST /companies/42/changed", "");
    assert_eq!(body, "1 exports are gone\n");
    assert!(get("").0.contains("fwd=miss"));
}

/// What the example's service would answer with, put into the cache by another.
fn put(server: &Server, payload: Vec<u8>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cache = cache(server);
        let request = cache.request("trips").format("csv").company(42).build().unwrap();
        cache.put(&request, payload).await.unwrap();
    });
}

#[test]
fn axum_moves_nothing_for_a_304() {
    let server = Server::start();
    let Some(service) = Service::start("axum", &server) else { return };
    let digit = |n: u64| b"0123456789abcdef"[(n.wrapping_mul(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize];
    put(&server, (0..10 << 20).map(digit).collect());
    let sent = || -> u64 { server.conn().info("stats", "total_net_output_bytes").parse().unwrap() };
    let (head, body) = service.get("");
    assert_eq!(body.len(), 10 << 20, "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let before = sent();
    for _ in 0..10 {
        let (head, body) = service.get(&format!("If-None-Match: {etag}\r\n"));
        assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
    }
    assert!(sent() - before < 64 << 10, "{} bytes were sent", sent() - before);
}

#[test]
fn curl() {
    let server = Server::start();
    let Some(service) = Service::start("axum", &server) else { return };
    if finished(Command::new("curl").arg("--version"), PATIENCE).is_none() {
        eprintln!("SKIPPED: there is no curl");
        return;
    }
    let url = format!("http://{}/companies/42/trips.csv", service.host);
    let dir = tempfile::tempdir().unwrap();
    let got = dir.path().join("got");
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        // Not into a pipe that nobody empties.
        curl.args(["--silent", "--show-error"]).args(arguments).arg("--output").arg(&got).arg(&url);
        let output = finished(&mut curl, PATIENCE).unwrap();
        assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(&got).unwrap()
    };
    let text = b"id,km\n1,12\n".repeat(100_000);
    for codec in ["none", "gzip", "zstd"] {
        server.conn().ok(&format!("EXPCACHE.TYPE SET trips CODEC {codec}"));
        put(&server, text.clone());
        let stored = || server.conn().map(&format!("EXPCACHE.META {}", key()))["encoding"].text();
        harness::wait_until("it is kept so", || codec == "none" || stored() == codec);
        assert!(curl(&[]) == text);
        assert!(curl(&["--compressed"]) == text, "decoded by curl from {codec}");
        let gzip = curl(&["--include", "--header", "Accept-Encoding: gzip"]);
        let head = String::from_utf8_lossy(&gzip[..gzip.len().min(2000)]).to_lowercase();
        assert_eq!(head.contains("content-encoding: gzip"), codec == "gzip", "{head}");
        assert!(codec != "gzip" || gzip.len() < text.len() / 2, "it travels as it is kept");
        assert_eq!(curl(&["-r", "3-9"]), text[3..10]);
        assert_eq!(curl(&["-r", "-5", "--compressed"]), text[text.len() - 5..]);
        let head = String::from_utf8(curl(&["-I"])).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", text.len())), "{head}");
        assert!(head.contains("vary: accept-encoding") && !head.contains("content-encoding"), "{head}");
    }
}

/// The key of the example's export.
fn key() -> String {
    let request = Request::builder("export_cache", "trips").format("csv").company(42).build().unwrap();
    String::from_utf8(request.key().to_vec()).unwrap()
}

/// The same, the head in lower case.
fn http(host: &str, what: &str, headers: &str) -> (String, String) {
    let (head, body) = as_it_is(host, what, headers);
    (head.to_lowercase(), body)
}

/// The head and the body.
fn as_it_is(host: &str, request: &str, headers: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
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
    assert_says("invalidated 9", command, server, mode);
}

/// It ends the server itself.
fn survives(command: &mut Command) {
    assert_says("all well", command, &Server::start(), &[]);
}

fn assert_says(expected: &str, command: &mut Command, server: &Server, mode: &[&str]) {
    let mut with = Command::new(command.get_program());
    with.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = finished(with.arg("127.0.0.1").arg(server.port().to_string()).args(mode), PATIENCE).unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.trim(), expected, "{errors}");
    assert!(output.status.success(), "{errors}");
}
