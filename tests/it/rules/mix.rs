//! A random mix of native commands, transactions, scripts and events under rules, against a model that tries everything: what is
//! fresh, stale and gone is what the model says, on the server, on its replica, after restarts and after a failover.

use std::collections::BTreeMap;

use crate::harness::{Arg, Conn, Picture, Random, Server, Stop, args, check, wait_until, wait_until_reclaimed};

/// How many steps a test takes.
const STEPS: usize = 1_500;
/// After so many the index, the replica and the file are looked at.
const AUDIT_EVERY: usize = 300;

const RULES: [&str; 6] = [
    "user KEY user:{id} DO ANY 1 user:{id}",
    "account KEY acct:*:{id} DO ANY 2 user:{id} acct TYPES 2 trips reports",
    "config KEY cfg* DO TYPE trips",
    "pair KEY {a}.{b} DO ALL 2 user:{a} user:{b} NONE 1 kept",
    "soft KEY {any}:1 DO TYPE reports SOFT",
    "told EVENT did:{id} DO ANY 1 user:{id} NONE 1 kept",
];

/// Keys that are written natively, some of which are entries at times.
const NAMES: [&str; 12] =
    ["user:1", "user:2", "user:3", "acct:x:1", "acct:y:2", "cfg", "cfg2", "1.2", "2.3", "e1", "e2", "e3"];
/// Keys of entries.
const ENTRIES: [&str; 8] = ["e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8"];
const TYPES: [&str; 3] = ["trips", "reports", "default"];
const TAGS: [&str; 5] = ["user:1", "user:2", "user:3", "acct", "kept"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Fresh,
    Stale,
    Gone,
}

#[derive(Clone, Debug)]
enum Held {
    Text,
    List(usize),
    Entry { type_name: &'static str, tags: Vec<&'static str>, state: State },
}

/// What each key holds; an entry that is gone is one still, for its key may be there.
#[derive(Default)]
struct Model(BTreeMap<&'static str, Held>);

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(&'static str),
    Append(&'static str),
    Push(&'static str),
    Pop(&'static str),
    Delete(&'static str),
    Take(&'static str),
    End(&'static str),
    Date(&'static str),
    Rename(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Two(&'static str, &'static str),
    Store(&'static str, &'static str, [Option<&'static str>; 2]),
    Tell(&'static str),
}

impl Step {
    fn words(self) -> Vec<Vec<u8>> {
        match self {
            Step::Set(key) => args!["SET", key, "v"],
            Step::Append(key) => args!["APPEND", key, "v"],
            Step::Push(key) => args!["LPUSH", key, "v"],
            Step::Pop(key) => args!["RPOP", key],
            Step::Delete(key) => args!["DEL", key],
            Step::Take(key) => args!["GETDEL", key],
            Step::End(key) => args!["PEXPIREAT", key, 1],
            Step::Date(key) => args!["EXPIRE", key, 1_000_000],
            Step::Rename(from, to) => args!["RENAME", from, to],
            Step::Copy(from, to) => args!["COPY", from, to, "REPLACE"],
            Step::Two(one, other) => args!["MSET", one, "v", other, "v"],
            Step::Tell(id) => args!["EXPCACHE.EVENT", format!("did:{id}")],
            Step::Store(key, type_name, tags) => {
                let tags: Vec<_> = tags.into_iter().flatten().map(|tag| tag.to_arg()).collect();
                let head = args!["EXPCACHE.SET", key, "v", "TYPE", type_name, "EX", 1_000_000, "GRACE", "30d", "TAGS"];
                [head, args![tags.len()], tags].concat()
            }
        }
    }
}

impl Model {
    fn is_native(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Held::Text | Held::List(_)))
    }

    fn is_entry(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Held::Entry { .. }))
    }

    /// May it be played? Where an entry is gone, its key may be there or not; so of entries only what does the same to both is asked.
    fn allows(&self, step: Step) -> bool {
        match step {
            Step::Append(key)
            | Step::Push(key)
            | Step::Pop(key)
            | Step::Take(key)
            | Step::End(key)
            | Step::Date(key) => !self.is_entry(key),
            Step::Rename(from, to) | Step::Copy(from, to) => from != to && self.is_native(from),
            Step::Two(one, other) => one != other,
            Step::Store(key, ..) => !self.is_native(key),
            Step::Set(_) | Step::Delete(_) | Step::Tell(_) => true,
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Set(key) => self.put(key, Held::Text),
            Step::Append(key) => match self.0.get(key) {
                Some(Held::List(_)) => {}
                _ => self.put(key, Held::Text),
            },
            Step::Push(key) => match self.0.get(key) {
                Some(Held::Text) => {}
                Some(Held::List(len)) => self.put(key, Held::List(len + 1)),
                _ => self.put(key, Held::List(1)),
            },
            Step::Pop(key) => match self.0.get(key) {
                Some(Held::List(1)) => self.drop(key),
                Some(Held::List(len)) => self.put(key, Held::List(len - 1)),
                _ => {}
            },
            Step::Delete(key) | Step::End(key) => self.drop(key),
            Step::Take(key) if matches!(self.0.get(key), Some(Held::Text)) => self.drop(key),
            Step::Take(_) | Step::Date(_) => {}
            Step::Rename(from, to) => {
                let held = self.0[from].clone();
                self.drop(from);
                self.put(to, held);
            }
            Step::Copy(from, to) => self.put(to, self.0[from].clone()),
            Step::Two(one, other) => {
                self.put(one, Held::Text);
                self.put(other, Held::Text);
            }
            Step::Store(key, type_name, tags) => {
                let tags = tags.into_iter().flatten().collect();
                self.0.insert(key, Held::Entry { type_name, tags, state: State::Fresh });
            }
            Step::Tell(id) => {
                let user = format!("user:{id}");
                self.outdate(State::Gone, |_, tags| tags.contains(&user.as_str()) && !tags.contains(&"kept"));
            }
        }
    }

    fn put(&mut self, key: &'static str, held: Held) {
        self.0.insert(key, held);
        self.changed(key);
    }

    fn drop(&mut self, key: &'static str) {
        let native = self.is_native(key);
        self.0.remove(key);
        if native {
            self.changed(key);
        }
    }

    /// What the rules say, word for word.
    fn changed(&mut self, key: &str) {
        if let Some(id) = key.strip_prefix("user:") {
            let user = format!("user:{id}");
            self.outdate(State::Gone, |_, tags| tags.contains(&user.as_str()));
        }
        if let Some((_, id)) = key.strip_prefix("acct:").and_then(|rest| rest.split_once(':')) {
            let user = format!("user:{id}");
            self.outdate(State::Gone, |type_name, tags| {
                (tags.contains(&user.as_str()) || tags.contains(&"acct")) && type_name != "default"
            });
        }
        if key.starts_with("cfg") {
            self.outdate(State::Gone, |type_name, _| type_name == "trips");
        }
        if let Some((a, b)) = key.split_once('.') {
            let both = [format!("user:{a}"), format!("user:{b}")];
            self.outdate(State::Gone, |_, tags| {
                both.iter().all(|user| tags.contains(&user.as_str())) && !tags.contains(&"kept")
            });
        }
        if key.ends_with(":1") {
            self.outdate(State::Stale, |type_name, _| type_name == "reports");
        }
    }

    fn outdate(&mut self, to: State, is_meant: impl Fn(&str, &[&str]) -> bool) {
        for held in self.0.values_mut() {
            if let Held::Entry { type_name, tags, state } = held
                && is_meant(type_name, tags)
                && (to == State::Gone || *state == State::Fresh)
            {
                *state = to;
            }
        }
    }

    fn state(&self, key: &str) -> State {
        match self.0.get(key) {
            Some(Held::Entry { state, .. }) => *state,
            _ => State::Gone,
        }
    }
}

fn roll(random: &mut Random) -> Step {
    let name = |random: &mut Random| NAMES[random.below(NAMES.len())];
    let (one, other) = (name(random), name(random));
    match random.below(22) {
        0 | 1 => Step::Set(one),
        2 => Step::Append(one),
        3 => Step::Push(one),
        4 => Step::Pop(one),
        5 | 6 => Step::Delete(one),
        7 => Step::Take(one),
        8 => Step::End(one),
        9 => Step::Date(one),
        10 => Step::Rename(one, other),
        11 => Step::Copy(one, other),
        12 => Step::Two(one, other),
        13 => Step::Tell(["1", "2", "3", "4"][random.below(4)]),
        _ => {
            let mut tag = || random.chance(70).then(|| TAGS[random.below(TAGS.len())]);
            let tags = [tag(), tag()];
            Step::Store(ENTRIES[random.below(ENTRIES.len())], TYPES[random.below(TYPES.len())], tags)
        }
    }
}

/// Sends steps and has the model make the same.
fn play(c: &mut Conn, model: &mut Model, random: &mut Random) {
    let mut steps = Vec::new();
    let manner = random.below(4);
    for _ in 0..if manner == 0 { 1 + random.below(5) } else { 1 } {
        let step = roll(random);
        if model.allows(step) {
            model.play(step);
            steps.push(step);
        }
    }
    match manner {
        0 => {
            c.ok("MULTI");
            steps.iter().for_each(|step| _ = c.cmd(step.words()));
            c.cmd("EXEC");
        }
        1 => {
            let script = "return redis.pcall(unpack(ARGV))";
            steps.iter().for_each(|step| _ = c.cmd([args!["EVAL", script, 0], step.words()].concat()));
        }
        _ => steps.iter().for_each(|step| _ = c.cmd(step.words())),
    }
    compare(c, model, &format!("{steps:?}"));
}

/// Each entry is what the model says.
fn compare(c: &mut Conn, model: &Model, after: &str) {
    let names: Vec<&str> = ENTRIES.into_iter().filter(|name| !model.is_native(name)).collect();
    let replies = c.pipeline(names.iter().map(|name| args!["EXPCACHE.FETCH", name, "FIELDS", 1, "status"]));
    for (name, reply) in names.iter().zip(replies) {
        let found = match reply.fields()["status"].text().as_str() {
            "hit" => State::Fresh,
            "stale" => State::Stale,
            _ => State::Gone,
        };
        assert_eq!(found, model.state(name), "{name} after {after}");
    }
}

fn audit(c: &mut Conn, server: &Server, replica: &Server) {
    check(c);
    wait_until_reclaimed(c);
    replica.wait_for_sync(server);
    wait_until("both are the same", || {
        replica.wait_for_sync(server);
        c.cmd("DEBUG DIGEST") == replica.conn().cmd("DEBUG DIGEST")
    });
    Picture::of(c).assert_same(&Picture::of(&mut replica.conn()));
}

/// Adds up how many entries each rule concerned, which the server forgets when it is restarted.
fn tally(c: &mut Conn, entries: &mut BTreeMap<String, i64>) {
    for name in c.cmd("EXPCACHE.RULE LIST").sorted_texts() {
        let rule = c.map(&["EXPCACHE.RULE", "GET", &name]);
        assert_eq!(rule["errors"], 0, "{name}");
        *entries.entry(name).or_default() += rule["entries"].int();
    }
}

fn story(seed: u64, settings: &[&str], entries: &mut BTreeMap<String, i64>) {
    println!("seed {seed}, {settings:?}");
    let settings = [&["--appendonly", "yes"], settings].concat();
    let (mut server, replica) = (Server::with(&settings), Server::start());
    replica.replica_of(&server);
    let mut c = server.conn();
    RULES.iter().for_each(|rule| c.ok(&format!("EXPCACHE.RULE SET {rule}")));
    let (mut model, mut random) = (Model::default(), Random::new(seed));
    for step in 1..=STEPS {
        play(&mut c, &mut model, &mut random);
        if step % AUDIT_EVERY == 0 {
            audit(&mut c, &server, &replica);
        }
        if step % (2 * AUDIT_EVERY) == 0 {
            tally(&mut c, entries);
            server.restart(Stop::NoSave);
            c = server.conn();
            compare(&mut c, &model, "a restart");
            check(&mut c);
            replica.wait_for_sync(&server);
        }
    }
    tally(&mut c, entries);

    // What the master knew is known to its successor, in the middle of everything.
    (0..20).for_each(|_| play(&mut c, &mut model, &mut random));
    replica.wait_for_sync(&server);
    let mut r = replica.conn();
    r.ok("REPLICAOF NO ONE");
    wait_until("it is a master", || r.info("replication", "role") == "master");
    compare(&mut r, &model, "the failover");
    (0..STEPS / 5).for_each(|_| play(&mut r, &mut model, &mut random));
    check(&mut r);
}

#[test]
fn a_random_mix_leaves_what_the_model_says() {
    let mut entries = BTreeMap::new();
    story(1, &["--aof-use-rdb-preamble", "yes"], &mut entries);
    story(2, &["--aof-use-rdb-preamble", "no"], &mut entries);
    assert!(entries.len() == RULES.len() && entries.values().all(|count| *count > 0), "{entries:?}");
}
