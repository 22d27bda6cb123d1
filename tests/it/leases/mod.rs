//! What the tests of leases share: asking for one, and clients that wait for another's production.

use crate::harness::{Command, Conn, Fields, Server, Value, args, wait_until};

/// Long enough never to end while a test runs.
pub const LONG: &str = "1h";

/// Long over, but within its grace.
pub const STALE: &str = "PXAT 1000 GRACE 365000d";

/// A well-formed token that nobody was ever given.
pub const NOBODYS: &str = "0123456789abcdef0123456789abcdef";

/// Asks for the lease of `key`, for an hour, which must be granted; the token.
#[track_caller]
pub fn lease(c: &mut Conn, key: impl AsRef<[u8]>) -> String {
    granted(&c.map(args!["EXPCACHE.FETCH", key.as_ref(), "LEASE", LONG]))
}

/// The token in the reply of a `FETCH`, which must have one.
#[track_caller]
pub fn granted(fetched: &Fields) -> String {
    assert_eq!(fetched["retry"], Value::Nil, "who holds the lease need not wait for it");
    match &fetched["lease"] {
        Value::Nil => panic!("no lease: {fetched:?}"),
        token => token.text(),
    }
}

/// Asserts that the reply of a `FETCH` tells of another's lease that lasts for `most_ms` at most.
#[track_caller]
pub fn held(fetched: &Fields, most_ms: i64) {
    assert_eq!(fetched["lease"], Value::Nil);
    match fetched["retry"] {
        Value::Int(retry_ms) => assert!((0..=most_ms).contains(&retry_ms), "{retry_ms}"),
        _ => panic!("nobody holds the lease: {fetched:?}"),
    }
}

/// Asserts that the reply of a `FETCH` tells of nobody who holds the lease.
#[track_caller]
pub fn free(fetched: &Fields) {
    assert_eq!((&fetched["lease"], &fetched["retry"]), (&Value::Nil, &Value::Nil));
}

/// Asserts that `FETCH key` finds the lease of the selected database held, or free.
#[track_caller]
pub fn is_held(c: &mut Conn, key: &str, expected: bool) {
    let fetched = c.map(&["EXPCACHE.FETCH", key]);
    assert_eq!(fetched["retry"] != Value::Nil, expected, "{key} is held");
}

/// Asserts that the token is worth nothing: nothing is stored by it, nothing renewed or released.
#[track_caller]
pub fn lost(c: &mut Conn, key: &str, token: &str) {
    let before = c.cmd(&["DUMP", key]);
    c.err(&["EXPCACHE.SET", key, "late", "LEASE", token], "LEASELOST");
    assert_eq!(c.cmd(&["EXPCACHE.RENEW", key, token, LONG]), 0);
    assert_eq!(c.cmd(&["EXPCACHE.RELEASE", key, token]), 0);
    assert_eq!(c.cmd(&["DUMP", key]), before, "changed by a refused command");
}

/// One of the counters that `STATS` has for everything together.
#[track_caller]
pub fn count(c: &mut Conn, name: &str) -> i64 {
    c.map("EXPCACHE.STATS")[name].int()
}

/// The figure of one of the checks that `HEALTH` makes.
#[track_caller]
pub fn figure(c: &mut Conn, check: &str) -> i64 {
    c.map("EXPCACHE.HEALTH")[check].fields()["figure"].int()
}

/// How many clients the server holds.
#[track_caller]
pub fn blocked(c: &mut Conn) -> usize {
    c.info("clients", "blocked_clients").parse().unwrap()
}

/// A client that the server holds.
pub struct Waiting {
    /// Its connection, on which a reply is due.
    pub conn: Conn,
    /// Its number.
    pub id: i64,
}

impl Waiting {
    /// A new client of database 0 that speaks RESP2 and sends this command, which the server must hold.
    #[track_caller]
    pub fn new(server: &Server, command: impl Command) -> Waiting {
        Waiting::on(server, server.conn(), command)
    }

    /// A new client of another database.
    #[track_caller]
    pub fn in_database(server: &Server, db: i32, command: impl Command) -> Waiting {
        let mut conn = server.conn();
        conn.ok(args!["SELECT", db]);
        Waiting::on(server, conn, command)
    }

    /// A client that is there already.
    #[track_caller]
    pub fn on(server: &Server, mut conn: Conn, command: impl Command) -> Waiting {
        let id = conn.int("CLIENT ID");
        conn.send(command).unwrap();
        let waiting = Waiting { conn, id };
        let mut observer = server.conn();
        wait_until("the client waits", || waiting.still_waits(&mut observer));
        waiting
    }

    /// Does the server hold it?
    pub fn still_waits(&self, observer: &mut Conn) -> bool {
        let line = observer.text(args!["CLIENT", "LIST", "ID", self.id]);
        let flags = line.split(' ').find_map(|field| field.strip_prefix("flags=")).unwrap_or_default();
        flags.contains('b')
    }

    /// Its reply, whatever it is.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        self.conn.receive().unwrap()
    }

    /// Its reply, which must be that of a `FETCH`.
    #[track_caller]
    pub fn fetched(&mut self) -> Fields {
        self.reply().fields()
    }

    /// Asserts that it is answered with a value, and need not do anything.
    #[track_caller]
    pub fn hits(&mut self, value: &str) {
        let fetched = self.fetched();
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("hit"), &Value::bulk(value)));
        free(&fetched);
    }

    /// Asserts that it is told that there is nothing; what else it is told.
    #[track_caller]
    pub fn misses(&mut self) -> Fields {
        let fetched = self.fetched();
        assert_eq!((&fetched["status"], &fetched["value"]), (&Value::bulk("miss"), &Value::Nil));
        fetched
    }
}
