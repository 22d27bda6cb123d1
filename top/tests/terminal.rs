//! The screen in a terminal: a pseudo-terminal, the program in it, and a real server that it looks at.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../tests/it/harness/mod.rs"]
mod harness;

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use harness::{Server, Stop, wait_until};
use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

const TOP: &str = env!("CARGO_BIN_EXE_expcache-top");
const ESC: &str = "\x1b";
const CTRL_C: &str = "\x03";

/// The program in a terminal of its own. What it sends is shown as a terminal would.
struct Screen {
    master: Box<dyn MasterPty + Send>,
    // The terminal lives as long as somebody has it open, so its settings can be asked for when the program is gone.
    _slave: Box<dyn portable_pty::SlavePty + Send>,
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    parser: Arc<Mutex<vt100::Parser>>,
    settings: String,
}

impl Screen {
    fn of(server: &Server, environment: &[(&str, &str)]) -> Screen {
        let size = PtySize { rows: 24, cols: 80, ..PtySize::default() };
        let pair = native_pty_system().openpty(size).unwrap();
        let settings = format!("{:?}", pair.master.get_termios());
        let mut command = CommandBuilder::new(TOP);
        command.args(["--url", &url(server), "--interval", "100ms"]);
        command.env("TERM", "xterm-256color");
        ["NO_COLOR", "REDISCLI_AUTH"].iter().for_each(|name| command.env_remove(name));
        environment.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        let parser = Arc::new(Mutex::new(vt100::Parser::new(side(24), side(80), 0)));
        let (mut output, shown) = (pair.master.try_clone_reader().unwrap(), parser.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        Screen { master: pair.master, _slave: pair.slave, child, keyboard, parser, settings }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    fn text(&self) -> String {
        self.parser.lock().unwrap().screen().contents()
    }

    #[track_caller]
    fn await_text(&self, wanted: &str) {
        self.wait_until(&format!("the screen shows {wanted:?}"), |text| text.contains(wanted));
    }

    #[track_caller]
    fn wait_until(&self, what: &str, mut holds: impl FnMut(&str) -> bool) {
        let start = std::time::Instant::now();
        while !holds(&self.text()) {
            assert!(start.elapsed() < harness::PATIENCE, "waited in vain until {what}; it shows\n{}", self.text());
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn resize(&self, rows: u16, cols: u16) {
        self.parser.lock().unwrap().screen_mut().set_size(side(rows), side(cols));
        self.master.resize(PtySize { rows, cols, ..PtySize::default() }).unwrap();
    }

    /// Waits for the end; the terminal must be as it was.
    fn await_end(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        wait_until("the terminal shows what it showed before", || {
            let parser = self.parser.lock().unwrap();
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        });
        assert_eq!(format!("{:?}", self.master.get_termios()), self.settings);
        status.unwrap()
    }

    fn is_in_use(&self) -> bool {
        let parser = self.parser.lock().unwrap();
        parser.screen().alternate_screen() && format!("{:?}", self.master.get_termios()) != self.settings
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended, as most tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn side(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).unwrap()
}

fn url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

/// Three types; one key is first by hits, one by size, one by cost.
fn with_entries() -> Server {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET trips:often v COST 10 TAGS 1 company:42");
    c.ok(&["EXPCACHE.SET", "reports:large", &"x".repeat(5000)]);
    c.ok("EXPCACHE.SET drivers:dear v COST 9000");
    (0..7).for_each(|_| drop(c.bulk("EXPCACHE.GET trips:often")));
    c.nil("EXPCACHE.GET trips:never");
    server
}

/// The line that begins the list of first entries, and the first of these.
fn first(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.lines().skip_while(|line| !line.contains("first by"));
    Some((lines.next()?, lines.next()?))
}

#[test]
fn what_the_server_does_is_shown() {
    let server = with_entries();
    let mut screen = Screen::of(&server, &[]);
    screen.await_text("● ok");
    screen.wait_until("the program has the terminal", |_| screen.is_in_use());
    for wanted in ["entries 3", "tags 1", "87.5 % in", "reclaim backlog 0", "trips:often", "company"] {
        match wanted {
            "company" => assert!(!screen.text().contains(wanted), "tags are counted, not shown"),
            _ => screen.await_text(wanted),
        }
    }
    let mut c = server.conn();
    let trips =
        |text: &str| text.lines().find(|line| line.starts_with(" trips ")).map(str::to_owned).unwrap_or_default();
    screen.wait_until("the hit rate of trips is there", |text| trips(text).contains("87.5 %"));
    // Something goes on: rates are no longer 0.
    screen.wait_until("hits are counted", |text| {
        (0..50).for_each(|_| drop(c.bulk("EXPCACHE.GET trips:often")));
        let line = text.lines().find(|line| line.starts_with(" hits ")).unwrap_or_default();
        line.split_once("/s").is_some_and(|(rate, _)| !rate.ends_with(" 0"))
    });
    screen.press("q");
    assert!(screen.await_end().success());
}

#[test]
fn keys_are_obeyed() {
    let server = with_entries();
    let mut screen = Screen::of(&server, &[]);
    let orders = [("", "HITS", "trips:often"), ("t", "SIZE", "reports:large"), ("\x1b[C", "COST", "drivers:dear")];
    for (key, order, key_first) in orders {
        screen.press(key);
        screen.wait_until(&format!("{key_first} is first by {order}"), |text| {
            first(text).is_some_and(|(heading, line)| heading.contains(order) && line.contains(key_first))
        });
    }
    screen.press("\x1b[D");
    screen.await_text("first by SIZE");
    screen.press("+");
    screen.await_text("[every 200ms]");
    screen.press("-");
    screen.await_text("[every 100ms]");
    screen.press("?");
    screen.await_text("look less often");
    screen.press("?");
    screen.await_text("reports:large");
    screen.press("p");
    screen.await_text("[PAUSED]");
    let mut c = server.conn();
    c.ok("EXPCACHE.SET trips:later v");
    screen.press("p");
    screen.await_text("entries 4");
    screen.press(ESC);
    assert!(screen.await_end().success());
}

#[test]
fn it_follows_the_terminals_size() {
    let server = with_entries();
    let mut screen = Screen::of(&server, &[]);
    screen.await_text("misses/s");
    screen.resize(12, 38);
    screen.wait_until("what has no room is gone", |text| text.contains("trips") && !text.contains("misses/s"));
    screen.resize(40, 132);
    screen.wait_until("all of it is used", |text| text.contains("last used") && text.lines().count() > 38);
    screen.press(CTRL_C);
    assert!(screen.await_end().success());
}

#[test]
fn a_signal_ends_it_as_a_key_does() {
    let server = with_entries();
    for signal in ["TERM", "HUP"] {
        let screen = Screen::of(&server, &[]);
        screen.await_text("● ok");
        let pid = screen.child.process_id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert!(screen.await_end().success());
    }
}

#[test]
fn a_lost_server_is_found_again() {
    let mut server = with_entries();
    let mut screen = Screen::of(&server, &[]);
    screen.await_text("entries 3");
    server.restart(Stop::Kill);
    screen.await_text("entries 0");
    drop(server);
    screen.await_text("connection lost, retrying");
    screen.await_text("entries 0");
    screen.press("t");
    screen.await_text("first by SIZE");
    screen.press("q");
    assert!(screen.await_end().success());
}

#[test]
fn what_may_not_be_seen_is_not_and_the_rest_is() {
    let server = with_entries();
    let mut c = server.conn();
    c.ok("ACL SETUSER default reset on >secret +info +expcache.health +ping +client +select ~*");
    let mut screen = Screen::of(&server, &[("REDISCLI_AUTH", "secret"), ("NO_COLOR", "1")]);
    screen.await_text("entries 3");
    screen.await_text("NOPERM");
    let is_plain =
        |cell: &vt100::Cell| cell.fgcolor() == vt100::Color::Default && cell.bgcolor() == vt100::Color::Default;
    let parser = screen.parser.lock().unwrap();
    let mut cells = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
    assert!(cells.all(|(row, column)| parser.screen().cell(row, column).is_none_or(is_plain)), "NO_COLOR is set");
    drop(parser);
    screen.press("q");
    assert!(screen.await_end().success());
}

/// A key is whatever bytes somebody chose; the terminal must not obey them.
#[test]
fn names_do_nothing_to_the_terminal() {
    let server = Server::start();
    let mut c = server.conn();
    for name in [&b"\x1b[2J\x1bc\x07"[..]].into_iter().chain(harness::HOSTILE) {
        c.ok(harness::args!["EXPCACHE.SET", name, "v", "TYPE", name]);
        c.bulk(harness::args!["EXPCACHE.GET", name]);
    }
    let mut screen = Screen::of(&server, &[]);
    screen.resize(40, 120);
    screen.wait_until("both lists have the name", |text| text.matches(r" \u{1b}[2J\u{1b}c\u{7}").count() >= 2);
    screen.await_text("● ok");
    screen.press("q");
    assert!(screen.await_end().success());
}

/// Advice, and what is worth producing.
#[test]
fn advice_is_shown_on_request() {
    let server = Server::start();
    let mut c = server.conn();
    wait_until("the type is followed", || {
        c.nil("EXPCACHE.GET drivers:none");
        c.info("expcache", "expcache_advice_bytes") != "0"
    });
    // A tag that invalidates what is the same when it is produced again.
    for _ in 0..12 {
        c.pipeline((0..100).map(|n| harness::args!["EXPCACHE.GET", format!("drivers:{n}")]));
        c.pipeline(
            (0..100)
                .map(|n| harness::args!["EXPCACHE.SET", format!("drivers:{n}"), "v", "COST", 100, "TAGS", 1, "busy"]),
        );
        assert_eq!(c.int("EXPCACHE.INVALIDATE.TAG busy"), 100);
    }
    c.ok("EXPCACHE.TYPE SET trips WARM 10");
    c.ok("EXPCACHE.SET trips:7 v COST 400 TAGS 1 company:42");
    (0..200).for_each(|_| drop(c.bulk("EXPCACHE.GET trips:7")));
    let mut screen = Screen::of(&server, &[]);
    screen.await_text("first by HITS");
    screen.press("a");
    screen.await_text("nothing is due");
    screen.await_text("drivers  tag  busy");
    c.int("EXPCACHE.INVALIDATE.TAG company:42");
    screen.wait_until("the key is worth producing", |text| {
        text.lines().any(|line| line.contains("trips:7") && line.contains("invalidated"))
    });
    screen.press("a");
    screen.await_text("first by HITS");
    c.ok("ACL SETUSER default reset on nopass +info +expcache.health +expcache.top +ping +client +select ~*");
    screen.press("a");
    screen.wait_until("neither may be seen", |text| text.matches("NOPERM").count() == 2);
    screen.press("q");
    assert!(screen.await_end().success());
}

// ---- without a terminal

fn once(args: &[&str]) -> Output {
    Command::new(TOP).args(args).output().unwrap()
}

#[test]
fn one_screen_is_printed() {
    let server = with_entries();
    let output = once(&["--url", &url(&server), "--once", "--interval", "100ms", "--size", "100x30"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("trips:often") && !text.contains('\x1b'), "{text}");
    assert_eq!(text.lines().count(), 30);
    let output = once(&["--url", &url(&server), "--once", "--interval", "100ms", "--advice"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("worth producing now") && !text.contains("first by"), "{text}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let server = Server::start();
    let refusals = [
        (vec!["--url".to_string(), url(&server)], "not a terminal"),
        (vec!["--interval".into(), "fast".into()], "invalid duration"),
        (vec!["--url".into(), "redis://127.0.0.1:1".into(), "--once".into()], "efused"),
    ];
    for (args, why) in refusals {
        let output = once(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{args:?}: {said}");
    }
}
