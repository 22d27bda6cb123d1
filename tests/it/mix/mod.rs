//! A random mix of cache commands and of the native commands that touch keys, for the tests that drive a server with one:
//! [`RandomSteps`] makes [`Step`]s, a [`Player`] sends them, and [`Model`] says what their replies must be.
//!
//! Nothing in the mix ends by the clock while a test runs: lifetimes are days long, and what shall be over is given a moment
//! in the past.

mod clause;
mod expect;
mod model;
mod random_steps;
mod step;

pub use expect::Expect;
pub use model::{Model, Reclaiming, Span};
pub use random_steps::{RandomSteps, audit, prologue};
pub use step::{Step, VALUES, value};

use crate::harness::{Conn, Server, Value, args};

/// How long a day is. The mix counts in days.
pub const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A server for the mix: types that set no TTL have a long one too.
pub fn server(settings: &[&str]) -> Server {
    Server::load(&["default-ttl", "40d"], settings).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
}

/// Valkey 8.1.0 to 9.1.0 leaves who moves or copies a key to another database in that one, if any module listens to events.
/// A client can go back, but a replica or an append-only file that is told of it cannot.
fn loses_the_database(c: &mut Conn) -> bool {
    let version = c.info("server", "valkey_version");
    let numbers: Vec<u32> = version.split('.').filter_map(|number| number.parse().ok()).collect();
    (&[8, 1, 0][..]..=&[9, 1, 0][..]).contains(&numbers.as_slice())
}

/// Sends steps over one connection, and knows what steps need to become commands: etags, the value last dumped.
pub struct Player {
    pub conn: Conn,
    etags: Vec<String>,
    dumped: Vec<u8>,
    db: usize,
}

/// How steps are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    Plainly,
    ByScript,
    InTransaction,
}

impl Player {
    pub fn new(mut conn: Conn) -> Player {
        let etags = (0..VALUES).map(|n| etag(&mut conn, &value(n))).collect();
        let mut player = Player { conn, etags, dumped: Vec::new(), db: 0 };
        player.play(&prologue(), Manner::Plainly);
        player
    }

    /// The MD5 of [`value`] number `n`, as the server says it.
    pub fn etags(&self) -> &[String] {
        &self.etags
    }

    /// A step's command, fit to be read.
    pub fn shown(&self, step: &Step) -> String {
        let shown = |word: &Vec<u8>| match word.len() {
            0..100 => format!("\"{}\"", word.escape_ascii()),
            long => format!("({long} bytes)"),
        };
        let words: Vec<String> = step.words(&self.etags, &self.dumped).iter().map(shown).collect();
        words.join(" ")
    }

    /// The database it is in.
    pub fn db(&self) -> usize {
        self.db
    }

    /// Goes on over another connection.
    pub fn reconnect(&mut self, conn: Conn) {
        self.conn = conn;
        self.conn.ok(args!["SELECT", self.db]);
    }

    /// Sends the steps and returns a reply for each.
    pub fn play(&mut self, steps: &[Step], manner: Manner) -> Vec<Value> {
        match manner {
            Manner::Plainly => steps.iter().map(|step| self.play_one(step, false)).collect(),
            Manner::ByScript => steps.iter().map(|step| self.play_one(step, step.can_be_scripted())).collect(),
            Manner::InTransaction => self.play_in_transaction(steps),
        }
    }

    fn play_one(&mut self, step: &Step, scripted: bool) -> Value {
        let words = step.words(&self.etags, &self.dumped);
        let script = "return redis.call(unpack(ARGV))";
        let reply = match scripted {
            true => self.conn.cmd([args!["EVAL", script, 0], words].concat()),
            false if step.iterates() => self.iterate(&words),
            false => self.conn.cmd(words),
        };
        self.note(step, &reply);
        if step.may_lose_the_database() {
            self.conn.ok(args!["SELECT", self.db]);
        }
        reply
    }

    /// Goes through a whole iteration and puts it together, as if it had been done at once.
    fn iterate(&mut self, words: &[Vec<u8>]) -> Value {
        let command = String::from_utf8_lossy(&words[0]).into_owned();
        let elements = self.conn.iterate(&command, &words[2..]);
        Value::Array(vec![Value::bulk("0"), Value::Array(elements)])
    }

    fn play_in_transaction(&mut self, steps: &[Step]) -> Vec<Value> {
        self.conn.ok("MULTI");
        let mut db = self.db;
        for step in steps {
            assert_eq!(
                self.conn.cmd(step.words(&self.etags, &self.dumped)),
                Value::Simple("QUEUED".into()),
                "{step:?}"
            );
            if let Step::Select(to) = step {
                db = *to;
            }
            if step.may_lose_the_database() {
                self.conn.cmd(args!["SELECT", db]);
            }
        }
        let mut replies = self.conn.cmd("EXEC").items().to_vec().into_iter();
        let mut own = Vec::new();
        for step in steps {
            let reply = replies.next().expect("a reply for each command");
            self.note(step, &reply);
            own.push(reply);
            if step.may_lose_the_database() {
                replies.next();
            }
        }
        own
    }

    fn note(&mut self, step: &Step, reply: &Value) {
        match (step, reply) {
            (Step::Dump(_), Value::Bulk(dumped)) => self.dumped = dumped.clone(),
            (Step::Select(db), _) => self.db = *db,
            _ => {}
        }
    }
}

fn etag(conn: &mut Conn, payload: &[u8]) -> String {
    conn.ok(args!["EXPCACHE.SET", "probe", payload]);
    let etag = conn.map("EXPCACHE.META probe")["etag"].text();
    assert_eq!(conn.int("EXPCACHE.DEL probe"), 1);
    etag
}
