//! `expcache-top`: what an expcache server does, live in the terminal.
//!
//! Three threads send to one: the terminal's keys, the signals that end a process, and the one that looks at the server.
//! So a server that does not answer never keeps a key press waiting.
//!
//! | file | |
//! |---|---|
//! | `source.rs` | reading the server |
//! | `rates.rs` | what happened between two looks |
//! | `view.rs` | what is shown, and what key presses change of it |
//! | `screen.rs`, `advice.rs`, `table.rs` | drawing it |
//! | `print.rs` | the screen as text or picture, without a terminal |
//! | `record.rs`, `trace.rs` | a trace instead of a screen: reading the audit log, and what becomes of its lines |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking"))]

mod advice;
mod args;
mod print;
mod rates;
mod record;
mod screen;
mod source;
mod table;
mod text;
mod trace;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Instant;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use args::{Args, Print};
use source::{Snapshot, Source};
use view::{Pace, View, Wish};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match Args::parse(lexopt::Parser::from_env()) {
        Ok(Some(args)) => ended(run(&args)),
        Ok(None) => {
            print!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprint!("expcache-top: {why}\n\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("expcache-top: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if let Some(plan) = &args.record {
        return record::run(&args.url, plan);
    }
    let source = Source::new(&args.url)?;
    // https://no-color.org: set, and not empty
    let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut view = View::new(source.address(), args.interval, has_colours);
    view.pace.is_advised = args.is_advised;
    match args.print {
        Some(how) => print(args, how, source, view),
        None if std::io::stdout().is_terminal() => live(source, view),
        None => Err("not a terminal; --once prints one screen".into()),
    }
}

// ---- once

fn print(args: &Args, how: Print, mut source: Source, mut view: View) -> Result<(), Failure> {
    for look in 1..=args.looks {
        view.take(Ok(source.look(args.is_advised)?));
        if look < args.looks {
            thread::sleep(args.interval);
        }
    }
    let buffer = print::screen(&view, args.size.0, args.size.1);
    match how {
        Print::Text => print!("{}", print::text(&buffer)),
        Print::Svg => print!("{}", print::svg(&buffer)),
    }
    Ok(())
}

// ---- live

/// What happens.
enum Message {
    Wished(Wish),
    Looked(Box<Result<Snapshot, String>>),
    /// The terminal has another size.
    Redraw,
}

fn live(source: Source, mut view: View) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel();
    let (pace_sender, pace_receiver) = mpsc::channel();
    listen_to_signals(sender.clone())?;
    let watch = Watch { source, pace: view.pace, paces: pace_receiver, reports: sender.clone() };
    // From here on a panic restores the terminal, too.
    let mut terminal = ratatui::try_init()?;
    thread::spawn(move || watch.run());
    thread::spawn(move || listen_to_keys(&sender));
    let result = show(&mut terminal, &mut view, &receiver, &pace_sender);
    ratatui::try_restore()?;
    result
}

fn show(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    messages: &Receiver<Message>,
    paces: &Sender<Pace>,
) -> Result<(), Failure> {
    terminal.draw(|frame| screen::draw(frame, view))?;
    while let Ok(message) = messages.recv() {
        match message {
            Message::Wished(Wish::Quit) => return Ok(()),
            Message::Wished(wish) => {
                view.grant(wish);
                paces.send(view.pace)?;
            }
            Message::Looked(looked) => view.take(*looked),
            Message::Redraw => {}
        }
        terminal.draw(|frame| screen::draw(frame, view))?;
    }
    Ok(())
}

/// Quits when dropped: a thread that ends takes the program with it.
struct QuitAtEnd<'a>(&'a Sender<Message>);

impl Drop for QuitAtEnd<'_> {
    fn drop(&mut self) {
        // Nobody hears it when all is over anyway.
        let _ = self.0.send(Message::Wished(Wish::Quit));
    }
}

fn listen_to_signals(sender: Sender<Message>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT])?;
    thread::spawn(move || {
        let _quit = QuitAtEnd(&sender);
        signals.forever().next();
    });
    Ok(())
}

fn listen_to_keys(sender: &Sender<Message>) {
    let _quit = QuitAtEnd(sender);
    while let Ok(event) = event::read() {
        let message = match event {
            Event::Key(key) => wish(key).map(Message::Wished),
            Event::Resize(..) => Some(Message::Redraw),
            _ => None,
        };
        if message.is_some_and(|message| sender.send(message).is_err()) {
            return;
        }
    }
}

fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
        KeyCode::Char('t') | KeyCode::Right | KeyCode::Down => Some(Wish::NextOrder),
        KeyCode::Left | KeyCode::Up => Some(Wish::PreviousOrder),
        KeyCode::Char('+' | '=') => Some(Wish::Slower),
        KeyCode::Char('-') => Some(Wish::Faster),
        KeyCode::Char('p' | ' ') => Some(Wish::Pause),
        KeyCode::Char('a') => Some(Wish::Advice),
        KeyCode::Char('?' | 'h') => Some(Wish::Help),
        _ => None,
    }
}

/// Looks at the server again and again.
struct Watch {
    source: Source,
    pace: Pace,
    paces: Receiver<Pace>,
    reports: Sender<Message>,
}

impl Watch {
    fn run(mut self) {
        let reports = self.reports.clone();
        let _quit = QuitAtEnd(&reports);
        loop {
            let begun = Instant::now();
            let looked = Box::new(self.source.look(self.pace.is_advised));
            if reports.send(Message::Looked(looked)).is_err() || !self.rest(begun) {
                return;
            }
        }
    }

    /// Waits until it is time to look again. `false`: it will not be.
    fn rest(&mut self, since: Instant) -> bool {
        loop {
            let left = self.pace.interval.saturating_sub(since.elapsed());
            let told = match self.pace.is_paused {
                true => self.paces.recv().map_err(RecvTimeoutError::from),
                false => self.paces.recv_timeout(left),
            };
            match told {
                Ok(pace) => {
                    let is_news = pace.is_advised && !self.pace.is_advised;
                    self.pace = pace;
                    if is_news {
                        self.source.forget_advice();
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
