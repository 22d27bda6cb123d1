//! A server process that belongs to one test.

use super::{Conn, IN_VAIN, RESP_VERSIONS, wait_until};
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What every server is started with; later arguments win. No sync delay, so that replicas need no patience.
const DEFAULTS: &[&str] = &[
    "--save",
    "",
    "--appendonly",
    "no",
    "--loglevel",
    "notice",
    "--enable-debug-command",
    "yes",
    "--repl-diskless-sync-delay",
    "0",
];

/// How a server goes down in [`Server::restart`].
#[derive(Clone, Copy)]
pub enum Stop {
    /// `SHUTDOWN SAVE`: writes the RDB file.
    Save,
    /// `SHUTDOWN NOSAVE`: the append-only file, if on, is complete.
    NoSave,
    /// `kill -9`.
    Kill,
}

/// A running server with the module, in its own directory and on its own port. Dropped, it is killed, and its log must
/// tell of no crash.
pub struct Server {
    child: Child,
    port: u16,
    dir: TempDir,
    environment: Vec<(&'static str, PathBuf)>,
    /// Its log tells of panics, as it should.
    panics: bool,
}

/// What jemalloc reads, as a system has it and as Redis brings it.
const ALLOCATOR: [&str; 2] = ["MALLOC_CONF", "JE_MALLOC_CONF"];

impl Server {
    /// A server with the defaults.
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// A server with further settings: `Server::with(&["--maxmemory", "10mb"])`.
    pub fn with(settings: &[&str]) -> Server {
        Server::load(&[], settings).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// A server that leaves what it frees as it is: when it is made to ask for gigabytes, nobody touches them.
    pub fn untouched() -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let environment = ALLOCATOR.map(|name| (name, PathBuf::new())).into();
        Server::load_in(dir, environment, &module_path(), &[], &[])
            .unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// A server with further settings whose clock of the day can be [set](Server::set_clock).
    pub fn with_clock(settings: &[&str]) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let environment = super::clock::prepare(dir.path()).into();
        Server::load_in(dir, environment, &module_path(), &[], settings)
            .unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Sets the clock of the day so many ms ahead of the true one, or behind it. What runs by another clock goes on as it did.
    pub fn set_clock(&self, ahead_ms: i64) {
        super::clock::set(self.dir(), ahead_ms);
        // The server keeps the time for a while.
        wait_until("the server has noticed", || {
            let told = self.conn().cmd("TIME").items()[0].text().parse::<i64>().unwrap() * 1000;
            told.abs_diff(super::now_ms() + ahead_ms) < 1500
        });
    }

    /// A server with arguments for the module; when it refuses to start, its log.
    pub fn load(module_args: &[&str], settings: &[&str]) -> Result<Server, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Server::load_in(dir, Vec::new(), &module_path(), module_args, settings)
    }

    /// A server with another module in the place of ours, one that panics.
    pub fn with_panics(module: &Path, settings: &[&str]) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = Server::load_in(dir, Vec::new(), module, &[], settings);
        let mut server = server.unwrap_or_else(|log| panic!("the server did not start:\n{log}"));
        server.panics = true;
        server
    }

    fn load_in(
        dir: TempDir,
        environment: Vec<(&'static str, PathBuf)>,
        module: &Path,
        module_args: &[&str],
        settings: &[&str],
    ) -> Result<Server, String> {
        let mut module = vec!["--loadmodule".to_string(), module.display().to_string()];
        module.extend(module_args.iter().map(ToString::to_string));
        loop {
            let port = free_port();
            let mut all = lines(DEFAULTS) + &lines(settings) + &lines(&module);
            all += &lines(&["--port", &port.to_string()]);
            all += &lines(&["--dir", &dir.path().display().to_string()]);
            all += &lines(&["--logfile", &log_path(dir.path()).display().to_string()]);
            fs::write(config_path(dir.path()), all).unwrap();
            let mut child = spawn(dir.path(), &environment);
            match await_start(&mut child, port, dir.path()) {
                Ok(()) => return Ok(Server { child, port, dir, environment, panics: false }),
                Err(log) if port_was_taken(&log) => fs::remove_file(log_path(dir.path())).unwrap(),
                Err(log) => return Err(log),
            }
        }
    }

    /// A new connection, RESP2.
    pub fn conn(&self) -> Conn {
        Conn::open(self.port).expect("a connection to the server")
    }

    /// One new connection for each protocol.
    pub fn conns(&self) -> impl Iterator<Item = Conn> {
        RESP_VERSIONS.into_iter().map(|version| {
            let mut conn = self.conn();
            if version == 3 {
                conn.hello3();
            }
            conn
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's directory: RDB and append-only files, its configuration.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything the server has logged, its standard error included.
    pub fn log(&self) -> String {
        read_log(self.dir.path())
    }

    /// Stops the server and starts it again with the same directory, port and configuration file.
    pub fn restart(&mut self, stop: Stop) {
        self.stop(stop);
        let start = Instant::now();
        loop {
            self.child = spawn(self.dir.path(), &self.environment);
            let old_log = self.log().len();
            let Err(log) = await_start(&mut self.child, self.port, self.dir.path()) else {
                return;
            };
            let taken = log.get(old_log..).is_some_and(port_was_taken);
            assert!(taken && start.elapsed() < IN_VAIN, "no restart:\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn stop(&mut self, stop: Stop) {
        let how = match stop {
            Stop::Save => "SAVE",
            Stop::NoSave => "NOSAVE",
            Stop::Kill => {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                return;
            }
        };
        // The server answers only if it refuses.
        if let Ok(reply) = self.conn().try_cmd(&["SHUTDOWN", how, "NOW"]) {
            panic!("SHUTDOWN: {reply}");
        }
        wait_until("the server has shut down", || has_ended(&mut self.child).is_some());
    }

    /// Makes this server a replica of `master` and waits until it has its data.
    pub fn replica_of(&self, master: &Server) {
        self.conn().ok(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
        self.wait_for_sync(master);
    }

    /// Waits until this replica has everything that `master` has sent.
    pub fn wait_for_sync(&self, master: &Server) {
        let (mut own, mut masters) = (self.conn(), master.conn());
        wait_until("the replica is in sync", || {
            own.info("replication", "master_link_status") == "up"
                && own.info("replication", "slave_repl_offset") == masters.info("replication", "master_repl_offset")
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may fail when the server is gone already, which its log explains.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            // What follows the head of a crash report is a test of the memory.
            let (what, from) = match log.find("BUG REPORT START") {
                Some(at) => ("a crash", at),
                None => ("the end", log.rmatch_indices('\n').nth(40).map_or(0, |(at, _)| at + 1)),
            };
            eprintln!("--- the server's log: {what}");
            log[from..].lines().take(60).for_each(|line| eprintln!("{line}"));
            return;
        }
        let crash = log.lines().find(|line| tells_of_a_crash(line) && !(self.panics && line.contains("panic")));
        assert_eq!(crash, None, "in the server's log:\n{log}");
    }
}

fn tells_of_a_crash(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["panic", "assert", "crash", "bug report"].iter().any(|word| line.contains(word))
}

fn module_path() -> PathBuf {
    // The harness is also used by the tests of the client, a directory below.
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("target/release/libexpcache.so"));
    let built = built.into_iter().find(|path| path.exists()).unwrap_or_default();
    let path = std::env::var_os("EXPCACHE_MODULE").map_or(built, PathBuf::from);
    let shown = path.display();
    assert!(path.exists(), "{shown} does not exist: run `make test`, which builds the module");
    path
}

/// A port that nobody listens on; somebody may until the server does, so a start is tried again.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

fn port_was_taken(log: &str) -> bool {
    log.contains("Address already in use")
}

/// Settings in the form of command-line arguments as lines of a configuration file, which `CONFIG REWRITE` needs.
fn lines(settings: &[impl AsRef<str>]) -> String {
    let mut text = String::new();
    for word in settings.iter().map(AsRef::as_ref) {
        match word.strip_prefix("--") {
            Some(name) => text += &format!("\n{name}"),
            None => text += &format!(" \"{}\"", word.escape_default()),
        }
    }
    text
}

fn config_path(dir: &Path) -> PathBuf {
    dir.join("redis.conf")
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn read_log(dir: &Path) -> String {
    fs::read(log_path(dir)).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

fn spawn(dir: &Path, environment: &[(&str, PathBuf)]) -> Child {
    let server = std::env::var("EXPCACHE_SERVER").unwrap_or_else(|_| "redis-server".into());
    // Standard error goes to the log too: a panic's message is printed there.
    let log = OpenOptions::new().create(true).append(true).open(log_path(dir)).unwrap();
    let also_log: File = log.try_clone().unwrap();
    std::process::Command::new(&server)
        .arg(config_path(dir))
        // What is freed is overwritten: who uses it still does not get away with it.
        .envs(ALLOCATOR.map(|name| (name, "junk:free")))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(also_log)
        .spawn()
        .unwrap_or_else(|why| panic!("cannot start {server} ({why}): run `make test`, which installs it"))
}

fn has_ended(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().expect("the server's state")
}

/// Waits until this very process answers on the port and has loaded its data; the log when it ends instead.
fn await_start(child: &mut Child, port: u16, dir: &Path) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < IN_VAIN {
        if has_ended(child).is_some() {
            return Err(read_log(dir));
        }
        if answers(child.id(), port) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("no answer on port {port}\n{}", read_log(dir)))
}

/// Whether `pid` serves the port: another test's server might have been quicker to take it.
fn answers(pid: u32, port: u16) -> bool {
    let Ok(mut conn) = Conn::open(port) else {
        return false;
    };
    let pong = conn.try_cmd("PING").is_ok_and(|reply| reply == super::Value::Simple("PONG".into()));
    pong && conn.info("server", "process_id") == pid.to_string()
}
