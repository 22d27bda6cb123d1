//! Everything at once: clients that produce, invalidate, store, read, wait and die, over few keys and tags, in one server.
//!
//! What is cached is made from a *source*: for everything together and for each key, type and tag it has a version. Whoever
//! changes something raises its version, invalidates what was made from it and, when the reply has come, notes that this is
//! done. Whoever produces reads the versions and stores them as the value. So it is plain to see, for any value that is
//! served as fresh, whether an invalidation was missed:
//!
//! 1. A read that is sent after an invalidation of a change is done never finds a fresh value that was made before the change.
//! 2. Of two leases of a key, the second asked for when the first was granted already, only the second is good for a store.
//!
//! `EXPCACHE_RACE_STEPS` makes the races longer. What threads do follows from seeds, but how they meet does not.

use crate::harness::{Conn, Fields, Random, Server, Value, args, check, wait_until};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::Duration;

/// Steps of all threads together, unless `EXPCACHE_RACE_STEPS` says otherwise.
const STEPS: usize = 60_000;
const THREADS: usize = 8;
const KEYS: usize = 4;
const TYPES: [&str; 2] = ["trips", "reports"];
const TAGS: usize = 5;

/// Something in the source that changes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Subject {
    Everything,
    Key(usize),
    Type(usize),
    Tag(usize),
}

const SUBJECTS: usize = 1 + KEYS + TYPES.len() + TAGS;

impl Subject {
    fn number(self) -> usize {
        match self {
            Subject::Everything => 0,
            Subject::Key(n) => 1 + n,
            Subject::Type(n) => 1 + KEYS + n,
            Subject::Tag(n) => 1 + KEYS + TYPES.len() + n,
        }
    }

    fn any(random: &mut Random) -> Subject {
        match random.below(20) {
            0 => Subject::Everything,
            1..=4 => Subject::Key(random.below(KEYS)),
            5..=7 => Subject::Type(random.below(TYPES.len())),
            _ => Subject::Tag(random.below(TAGS)),
        }
    }

    /// One of the ways to invalidate what was made from it.
    fn invalidation(self, random: &mut Random) -> String {
        let ways: &[&str] = match self {
            Subject::Everything => &["EXPCACHE.CLEAR", "EXPCACHE.CLEAR SOFT", "EXPCACHE.PURGE MATCH *", "FLUSHDB"],
            Subject::Key(_) => &["EXPCACHE.DEL NAME", "EXPCACHE.PURGE MATCH NAME", "EXPCACHE.PURGE MATCH NAME SOFT"],
            Subject::Type(_) => &["EXPCACHE.PURGE TYPE NAME", "EXPCACHE.PURGE TYPE NAME SOFT"],
            Subject::Tag(_) => &[
                "EXPCACHE.INVALIDATE.TAG NAME",
                "EXPCACHE.INVALIDATE.TAG another NAME",
                "EXPCACHE.PURGE ANY 1 NAME SOFT",
                "EXPCACHE.PURGE ALL 1 NAME NONE 1 another",
                "EXPCACHE.PURGE ANY 2 NAME another KEYS 3",
            ],
        };
        let name = match self {
            Subject::Everything => String::new(),
            Subject::Key(n) => key(n),
            Subject::Type(n) => TYPES[n].into(),
            Subject::Tag(n) => tag(n),
        };
        ways[random.below(ways.len())].replace("NAME", &name)
    }
}

fn key(n: usize) -> String {
    format!("key:{n}")
}

fn tag(n: usize) -> String {
    format!("tag:{n}")
}

/// What all threads share.
#[derive(Default)]
struct World {
    /// The source: the version of each subject.
    now: [AtomicU64; SUBJECTS],
    /// The versions whose predecessors were invalidated.
    done: [AtomicU64; SUBJECTS],
    /// Counts askings for a lease and grantings.
    clock: AtomicU64,
    /// When the latest of the leases of each key that were granted was asked for.
    asked: [AtomicU64; KEYS],
    /// The number of each thread's connection.
    ids: [AtomicI64; THREADS],
    tally: Tally,
}

/// How often what happened: a race in which something does not happen shows nothing of it.
#[derive(Default, Debug)]
struct Tally {
    fresh: AtomicU64,
    stale: AtomicU64,
    missed: AtomicU64,
    granted: AtomicU64,
    stored: AtomicU64,
    fenced: AtomicU64,
    lost: AtomicU64,
    unblocked: AtomicU64,
    died: AtomicU64,
    refused_superseded: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, SeqCst);
}

/// A thread's view of it.
struct Client<'w> {
    world: &'w World,
    server: &'w Server,
    conn: Conn,
    number: usize,
    random: Random,
}

impl<'w> Client<'w> {
    fn new(world: &'w World, server: &'w Server, number: usize, seed: u64) -> Self {
        let mut client = Client { world, server, conn: server.conn(), number, random: Random::new(seed) };
        client.connect();
        client
    }

    fn connect(&mut self) {
        self.conn = self.server.conn();
        if self.random.chance(50) {
            self.conn.hello3();
        }
        self.world.ids[self.number].store(self.conn.int("CLIENT ID"), SeqCst);
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.fetch_to_produce(),
            45..55 => self.fetch(),
            55..75 => self.get(),
            75..80 => self.get_several(),
            80..95 => self.change(),
            95..98 => self.unblock_somebody(),
            _ => self.die_waiting(),
        }
    }

    // ---- reading

    fn done(&self) -> [u64; SUBJECTS] {
        std::array::from_fn(|n| self.world.done[n].load(SeqCst))
    }

    fn get(&mut self) {
        let done = self.done();
        let reply = self.conn.cmd(&format!("EXPCACHE.GET key:{}", self.random.below(KEYS)));
        self.judge(&reply, &done);
    }

    fn get_several(&mut self) {
        let done = self.done();
        let reply = self.conn.cmd("EXPCACHE.MGET key:0 key:1 key:2 key:3");
        reply.items().iter().for_each(|reply| self.judge(reply, &done));
    }

    fn fetch(&mut self) {
        let done = self.done();
        let options = ["", "WAIT 5ms", "MAXAGE 1", "RANGE 0 1000"][self.random.below(4)];
        let reply = self.conn.cmd(&format!("EXPCACHE.FETCH key:{} {options}", self.random.below(KEYS)));
        if let Some(fetched) = self.fetched(reply, &done) {
            assert_eq!(fetched["lease"], Value::Nil);
        }
    }

    /// Judges the reply of a `FETCH`; nothing when the client was unblocked.
    fn fetched(&self, reply: Value, done: &[u64]) -> Option<Fields> {
        let tally = &self.world.tally;
        if let Value::Error(text) = &reply {
            assert!(text.starts_with("UNBLOCKED"), "{text}");
            count(&tally.unblocked);
            return None;
        }
        let fetched = reply.fields();
        match fetched["status"].text().as_str() {
            "hit" => self.judge(&fetched["value"], done),
            "stale" => count(&tally.stale),
            _ => count(&tally.missed),
        }
        Some(fetched)
    }

    /// Was this, which was served as fresh, made before a change that was done with when it was asked for?
    fn judge(&self, value: &Value, done: &[u64]) {
        if *value == Value::Nil {
            return count(&self.world.tally.missed);
        }
        for (subject, version) in versions(&value.text()) {
            let least = done[subject];
            assert!(version >= least, "subject {subject}: version {version} is served, {least} was done: {value}");
        }
        count(&self.world.tally.fresh);
    }

    // ---- producing

    fn fetch_to_produce(&mut self) {
        let (n, lease_ms) = (self.random.below(KEYS), [1, 5, 20, 1_000][self.random.below(4)]);
        let wait = ["", "WAIT 2ms", "WAIT 50ms"][self.random.below(3)];
        let (done, asked) = (self.done(), self.world.clock.fetch_add(1, SeqCst));
        let reply = self.conn.cmd(&format!("EXPCACHE.FETCH {} LEASE {lease_ms}ms {wait}", key(n)));
        let Some(fetched) = self.fetched(reply, &done) else { return };
        if let Value::Bulk(token) = &fetched["lease"] {
            self.world.asked[n].fetch_max(asked, SeqCst);
            let granted = self.world.clock.fetch_add(1, SeqCst);
            count(&self.world.tally.granted);
            self.produce(n, &String::from_utf8_lossy(token), granted);
        }
    }

    fn produce(&mut self, n: usize, token: &str, granted: u64) {
        let (value, options) = self.made(n);
        match self.random.below(20) {
            0 => return count(&self.world.tally.died),
            1 => return self.release(n, token),
            2 => drop(self.conn.int(&format!("EXPCACHE.RENEW {} {token} 20ms", key(n)))),
            3..8 => sleep(Duration::from_micros(self.random.below(3_000) as u64)),
            _ => (),
        }
        let superseded = self.world.asked[n].load(SeqCst) > granted;
        let reply = self.conn.cmd(&format!("EXPCACHE.SET {} {value} {options} LEASE {token}", key(n)));
        let tally = &self.world.tally;
        match reply {
            Value::Simple(_) => count(&tally.stored),
            Value::Error(text) if text.starts_with("FENCED") => count(&tally.fenced),
            Value::Error(text) if text.starts_with("LEASELOST") => {
                count(if superseded { &tally.refused_superseded } else { &tally.lost });
                return;
            }
            other => panic!("{other}"),
        }
        assert!(!superseded, "{} was leased to another, and the older lease is still good", key(n));
    }

    fn release(&mut self, n: usize, token: &str) {
        let how = ["", "FAIL why", "BACKOFF 2ms", "FAIL why BACKOFF 1"][self.random.below(4)];
        self.conn.int(&format!("EXPCACHE.RELEASE {} {token} {how}", key(n)));
    }

    /// A value, which is what it was made from, and the options to store it with. What it is made from is drawn at random.
    fn made(&mut self, n: usize) -> (String, String) {
        let kind = self.random.below(TYPES.len());
        let tags: Vec<usize> = (0..TAGS).filter(|_| self.random.chance(40)).collect();
        let mut subjects = vec![Subject::Everything, Subject::Key(n), Subject::Type(kind)];
        subjects.extend(tags.iter().copied().map(Subject::Tag));
        let parts: Vec<String> = subjects
            .iter()
            .map(|subject| format!("{}={}", subject.number(), self.world.now[subject.number()].load(SeqCst)))
            .collect();
        let names: Vec<String> = tags.iter().map(|n| tag(*n)).collect();
        let life = ["EX 100 GRACE 100s", "PX 20 GRACE 100s", "PX 3 GRACE 0", "EX 100"][self.random.below(4)];
        (parts.join(","), format!("TYPE {} {life} TAGS {} {}", TYPES[kind], names.len(), names.join(" ")))
    }

    // ---- disturbing

    fn change(&mut self) {
        let subject = Subject::any(&mut self.random);
        let version = self.world.now[subject.number()].fetch_add(1, SeqCst) + 1;
        let command = subject.invalidation(&mut self.random);
        let reply = match self.random.below(10) {
            0 => {
                self.conn.ok("MULTI");
                self.conn.cmd(&command);
                self.conn.cmd("EXEC").items()[0].clone()
            }
            _ => self.conn.cmd(&command),
        };
        if let Value::Error(text) = &reply {
            // Some servers hold who flushes, so another thread may have unblocked this one: it can't say that it is done, and
            // when it is, the server answers whatever the connection waits for by then.
            assert!(text.starts_with("UNBLOCKED"), "{command}: {text}");
            self.connect();
            return count(&self.world.tally.unblocked);
        }
        self.world.done[subject.number()].fetch_max(version, SeqCst);
    }

    fn unblock_somebody(&mut self) {
        let id = self.world.ids[self.random.below(THREADS)].load(SeqCst);
        // Not TIMEOUT: servers lose the reply if they were just about to answer.
        self.conn.int(args!["CLIENT", "UNBLOCK", id, "ERROR"]);
    }

    /// Goes while it waits, or holds the lease.
    fn die_waiting(&mut self) {
        self.conn.send(&format!("EXPCACHE.FETCH key:{} LEASE 10ms WAIT 1s", self.random.below(KEYS))).unwrap();
        if self.random.chance(50) {
            sleep(Duration::from_micros(300));
        }
        self.connect();
    }
}

/// The subjects that a value was made from, with their versions.
fn versions(value: &str) -> impl Iterator<Item = (usize, u64)> {
    value.split(',').map(|part| {
        let (subject, version) = part.split_once('=').unwrap();
        (subject.parse().unwrap(), version.parse().unwrap())
    })
}

fn race(settings: &[&str]) {
    let steps = std::env::var("EXPCACHE_RACE_STEPS").map_or(STEPS, |text| text.parse().unwrap());
    let server = Server::start();
    let mut c = server.conn();
    for setting in settings {
        c.ok(&format!("CONFIG SET expcache.{setting}"));
    }
    let world = World::default();
    scope(|scope| {
        for number in 0..THREADS {
            let (world, server) = (&world, &server);
            scope.spawn(move || {
                let mut client = Client::new(world, server, number, number as u64);
                (0..steps / THREADS).for_each(|_| client.step());
            });
        }
    });
    println!("{:?}", world.tally);
    wait_until("nobody waits", || c.info("clients", "blocked_clients") == "0");
    check(&mut c);
    everything_happened(&world.tally);
    is_usable(&server);
}

fn everything_happened(tally: &Tally) {
    for counter in [
        &tally.fresh,
        &tally.stale,
        &tally.missed,
        &tally.granted,
        &tally.stored,
        &tally.fenced,
        &tally.lost,
        &tally.unblocked,
        &tally.died,
    ] {
        assert!(counter.load(SeqCst) > 0, "{tally:?}");
    }
}

/// Every key can be leased and stored, and nothing is left of the race.
fn is_usable(server: &Server) {
    let mut c = server.conn();
    c.int("EXPCACHE.CLEAR");
    for n in 0..KEYS {
        let mut token = Value::Nil;
        wait_until("the key's last lease is over", || {
            token = c.map(args!["EXPCACHE.FETCH", key(n), "LEASE", "1h"])["lease"].clone();
            token != Value::Nil
        });
        c.ok(args!["EXPCACHE.SET", key(n), "v", "LEASE", token.text()]);
    }
    assert_eq!(c.cmd("EXPCACHE.CLEAR"), 4);
    let health = c.map("EXPCACHE.HEALTH");
    for what in ["leases", "fences", "waiters"] {
        assert_eq!(health[what].fields()["figure"], 0, "{what}");
    }
    check(&mut c);
}

#[test]
fn no_value_older_than_the_last_invalidation_is_served_as_fresh() {
    race(&[]);
}

#[test]
fn nor_when_everything_is_scarce() {
    race(&["max-fences 2", "max-leases 3", "max-waiters 2", "reclaim-inline 0", "reclaim-slice-us 1"]);
}
