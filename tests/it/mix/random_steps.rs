//! Makes steps at random, from pools so small that they meet each other all the time.

use super::DAY_MS;
use super::clause::{Clause, KEY_PATTERNS, TAG_PATTERNS};
use super::step::{ALL_AT_ONCE, Condition, Life, Name, Options, Policy, Step, VALUES};
use crate::harness::{Conn, Random, now_ms};

const KEYS: [Name; 18] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"g",
    b"",
    b"\0binary\r\n\xff",
    b"trips:1",
    b"trips:2",
    b"export_cache:vehicles:1",
    b"export_cache:novel:1",
    b"novel:2",
    b"cramped:1",
    b"unknown:1",
    b"export_cache:unknown:1",
    b"%s%n",
];
const TAGS: [Name; 9] =
    [b"company:1", b"company:2", b"company:3", b"user:1", b"user:2", b"t", b"\0", b"\xff\xfe", b"%s%n"];
const TYPES: [Name; 9] =
    [b"default", b"trips", b"vehicles", b"sliding", b"jittery", b"eternal", b"capped", b"picky", b"cramped"];
/// These are deleted now and then, and defined by their next use.
const NOVEL_TYPES: [Name; 3] = [b"novel", b"\0odd type", b"reports"];
const FORMATS: [&str; 3] = ["json", "csv", "xml"];
const DATABASES: usize = 3;

/// Looks at everything there may be, from database to database; ends in `db`.
pub fn audit(db: usize) -> Vec<Step> {
    let mut steps = vec![Step::TypeList, Step::Stats(None)];
    for name in TYPES.into_iter().chain(NOVEL_TYPES) {
        steps.extend([Step::TypeGet(name), Step::Stats(Some(name))]);
    }
    for db in 0..DATABASES {
        steps.extend([Step::Select(db), Step::DbSize, Step::ListEntries]);
        steps.extend([Step::Scan { selector: Vec::new(), count: 7 }, Step::Tags { pattern: None, count: 7 }]);
        steps.extend(KEYS.into_iter().flat_map(|key| [Step::TypeOf(key), Step::ExpireTime(key), Step::Meta(key)]));
    }
    steps.push(Step::Select(db));
    steps
}

/// The policies that the mix begins with.
pub fn prologue() -> Vec<Step> {
    let days = |n: i64| Some(n * DAY_MS);
    let policies: [(Name, Policy); 9] = [
        (b"trips", Policy { ttl_ms: days(20), ..Policy::default() }),
        (b"vehicles", Policy { ttl_ms: days(10), grace_ms: days(5), ..Policy::default() }),
        (b"reports", Policy { ttl_ms: days(25), ..Policy::default() }),
        (b"sliding", Policy { ttl_ms: days(15), grace_ms: days(1), sliding: Some(true), ..Policy::default() }),
        (b"jittery", Policy { ttl_ms: days(30), jitter: Some(50), ..Policy::default() }),
        (b"eternal", Policy { ttl_ms: days(0), ..Policy::default() }),
        (b"capped", Policy { ttl_ms: days(0), max_ttl_ms: days(12), ..Policy::default() }),
        (b"picky", Policy { max_value: Some(300), formats: Some(&["json", "csv"]), ..Policy::default() }),
        (b"cramped", Policy { ttl_ms: days(9), ..Policy::default() }),
    ];
    policies.into_iter().map(|(name, policy)| Step::TypeSet { name, policy }).collect()
}

/// An endless source of steps.
pub struct RandomSteps {
    random: Random,
    start_ms: i64,
    between_databases: bool,
}

impl RandomSteps {
    /// Steps for the server behind the connection.
    pub fn new(seed: u64, c: &mut Conn) -> RandomSteps {
        RandomSteps { random: Random::new(seed), start_ms: now_ms(), between_databases: !super::loses_the_database(c) }
    }

    /// The source's own die, for who sends the steps.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// One step of any kind.
    pub fn next(&mut self) -> Step {
        match self.random.below(100) {
            0..25 => self.store(),
            25..42 => self.read(),
            42..47 => self.remove(),
            47..52 => self.purge(),
            52..56 => self.list(),
            56..59 => self.of_types(),
            59..82 => match self.relocate() {
                step if step.may_lose_the_database() && !self.between_databases => Step::Persist(self.key()),
                step => step,
            },
            82..91 => self.overwrite(),
            _ => self.look(),
        }
    }

    fn store(&mut self) -> Step {
        if self.random.chance(20) {
            let mut pairs: Vec<(Name, usize)> = Vec::new();
            for key in self.keys() {
                if !pairs.iter().any(|(seen, _)| *seen == key) {
                    pairs.push((key, self.value()));
                }
            }
            let mut options = self.options();
            options.hash_of = None;
            if matches!(options.condition, Condition::Match(_)) {
                options.condition = Condition::Always;
            }
            return Step::Mset { pairs, options };
        }
        let (key, value, mut options) = (self.key(), self.value(), self.options());
        if options.hash_of.is_some() && self.random.chance(70) {
            options.hash_of = Some(value);
        }
        Step::Set { key, value, options }
    }

    fn read(&mut self) -> Step {
        match self.random.below(5) {
            0 => Step::Get(self.key()),
            1 => Step::Mget(self.keys()),
            2 => Step::Meta(self.key()),
            _ => Step::Fetch {
                key: self.key(),
                unless: self.random.chance(30).then(|| self.value()),
                range: self.random.chance(20).then(|| (self.random.below(300), self.random.below(300))),
            },
        }
    }

    fn remove(&mut self) -> Step {
        let keys = self.keys();
        match self.random.below(10) {
            0..2 => Step::CacheDel(keys),
            2 => Step::Del { by: "DEL", keys },
            3 => Step::Del { by: "UNLINK", keys },
            _ => Step::Invalidate {
                by: self.random.pick(&["EXPCACHE.INVALIDATE.TAG", "EXPCACHE.INVTAG"]),
                tags: self.tags(3),
            },
        }
    }

    fn purge(&mut self) -> Step {
        match self.random.below(12) {
            0 => Step::Clear { soft: self.random.chance(70) },
            _ => Step::Purge {
                selector: self.selector(),
                soft: self.random.chance(60),
                dry_run: self.random.chance(25),
                keys: self.maybe(40, |random| [0, 1, 3, 1000][random.below(4)]),
            },
        }
    }

    fn list(&mut self) -> Step {
        let count = [1, 3, 10, ALL_AT_ONCE][self.random.below(4)];
        match self.random.below(5) {
            0 | 1 => Step::Count(self.selector()),
            2 => Step::Scan { selector: Vec::new(), count },
            3 => Step::Scan { selector: self.selector(), count },
            _ => Step::Tags { pattern: self.maybe(50, |random| TAG_PATTERNS[random.below(TAG_PATTERNS.len())]), count },
        }
    }

    fn selector(&mut self) -> Vec<Clause> {
        (0..=self.random.below(3)).map(|_| self.clause()).collect()
    }

    fn clause(&mut self) -> Clause {
        match self.random.below(8) {
            0 | 1 => Clause::Any(self.tags(3)),
            2 => Clause::All(self.tags(2)),
            3 => Clause::None(self.tags(2)),
            4 => Clause::Type(if self.random.chance(80) {
                self.random.pick(&TYPES)
            } else {
                self.random.pick(&NOVEL_TYPES)
            }),
            5 => Clause::Types(self.types()),
            _ => Clause::Match(KEY_PATTERNS[self.random.below(KEY_PATTERNS.len())]),
        }
    }

    fn types(&mut self) -> Vec<Name> {
        let one = |random: &mut Random| {
            let known = random.chance(80);
            if known { random.pick(&TYPES) } else { random.pick(&NOVEL_TYPES) }
        };
        (0..=self.random.below(3)).map(|_| one(&mut self.random)).collect()
    }

    fn of_types(&mut self) -> Step {
        let novel = self.random.pick(&NOVEL_TYPES);
        let name = if self.random.chance(50) { novel } else { self.random.pick(&TYPES) };
        match self.random.below(6) {
            0 | 1 => Step::TypeSet { name, policy: self.policy() },
            2 => Step::TypeDel(if self.random.chance(90) { novel } else { b"default" }),
            3 => Step::TypeGet(name),
            4 => Step::TypeList,
            _ => Step::Stats(Some(name)),
        }
    }

    fn relocate(&mut self) -> Step {
        let (key, to, db) = (self.key(), self.key(), self.random.below(DATABASES));
        match self.random.below(20) {
            0..3 => Step::Rename { by: self.random.pick(&["RENAME", "RENAMENX"]), from: key, to },
            3..6 => {
                Step::Copy { from: key, to, db: self.random.chance(60).then_some(db), replace: self.random.chance(50) }
            }
            6..8 => Step::Move { key, db },
            8..10 => Step::Dump(key),
            10..13 => {
                let at_ms = if self.random.chance(30) { 0 } else { self.moment() };
                Step::Restore { key, at_ms, replace: self.random.chance(60) }
            }
            13..16 => Step::ExpireAt { by: self.random.pick(&["PEXPIREAT", "EXPIREAT"]), key, at_ms: self.moment() },
            16 => Step::Persist(key),
            17 | 18 => Step::Select(db),
            _ => match self.random.below(10) {
                0..6 => Step::SwapDb(db, self.random.below(DATABASES)),
                6..9 => Step::FlushDb(self.random.pick(&["SYNC", "ASYNC"])),
                _ => Step::FlushAll(self.random.pick(&["SYNC", "ASYNC"])),
            },
        }
    }

    fn overwrite(&mut self) -> Step {
        let key = self.key();
        match self.random.below(8) {
            0 | 1 => Step::NativeSet {
                key,
                value: self.value(),
                option: self.random.pick(&["", "", "NX", "XX", "KEEPTTL", "GET"]),
            },
            2 => Step::AddMember { key, member: self.random.pick(&TAGS) },
            3 => Step::Union { to: key, from: self.keys() },
            // Keys of other types must stay rare, or most commands would only meet WRONGTYPE.
            _ => Step::Del { by: "DEL", keys: vec![key] },
        }
    }

    fn look(&mut self) -> Step {
        match self.random.below(8) {
            0 => Step::TypeOf(self.key()),
            1 => Step::Exists(self.keys()),
            2 => Step::DbSize,
            3 => Step::ListEntries,
            4 => Step::NativeGet(self.key()),
            5 => Step::Stats(None),
            _ => Step::ExpireTime(self.key()),
        }
    }

    fn key(&mut self) -> Name {
        self.random.pick(&KEYS)
    }

    fn keys(&mut self) -> Vec<Name> {
        (0..=self.random.below(4)).map(|_| self.key()).collect()
    }

    fn tags(&mut self, most: usize) -> Vec<Name> {
        (0..=self.random.below(most)).map(|_| self.random.pick(&TAGS)).collect()
    }

    fn value(&mut self) -> usize {
        self.random.below(VALUES)
    }

    /// Mostly days ahead, near enough to make entries with a grace stale; now and then in the past.
    fn moment(&mut self) -> i64 {
        match self.random.chance(15) {
            true => self.start_ms - DAY_MS,
            false => self.start_ms + (1 + self.random.below(60) as i64) * DAY_MS,
        }
    }

    fn maybe<T>(&mut self, percent: usize, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        self.random.chance(percent).then(|| make(&mut self.random))
    }

    fn options(&mut self) -> Options {
        let mut options = Options {
            type_name: self.maybe(40, |random| random.pick(&TYPES)),
            life: self.life(),
            grace_ms: self.maybe(25, |random| [0, 2, 5][random.below(3)] * DAY_MS),
            tags: if self.random.chance(80) { self.tags(5) } else { Vec::new() },
            format: self.maybe(20, |random| random.pick(&FORMATS)),
            records: self.maybe(10, |random| random.below(1_000_000) as i64),
            cost: self.maybe(10, |random| random.below(1_000_000) as i64),
            meta: self.maybe(10, |random| random.pick(&["{}", r#"{"a":[1,{"b":"ü"}]}"#, r#"{ "spaced" : null }"#])),
            hash_of: self.maybe(10, |random| random.below(VALUES)),
            condition: self.condition(),
        };
        if self.random.chance(10) {
            // A type comes to be by an entry that is stored, and the contract does not say what a refused one does. So
            // nothing may refuse these but a key of another Redis type, and that is said to leave everything as it was.
            options.type_name = Some(self.random.pick(&NOVEL_TYPES));
            options.life = Life::Seconds(30 * DAY_MS / 1000);
            (options.format, options.hash_of, options.condition) = (None, None, Condition::Always);
        }
        options
    }

    fn life(&mut self) -> Life {
        let days = 3 + self.random.below(50) as i64;
        match self.random.below(10) {
            0 => Life::Seconds(days * DAY_MS / 1000),
            1 => Life::Millis(days * DAY_MS),
            2 => Life::UntilSecond(self.moment() / 1000),
            3 => Life::UntilMs(self.moment()),
            4 => Life::Keep,
            _ => Life::OfType,
        }
    }

    fn condition(&mut self) -> Condition {
        match self.random.below(10) {
            0 => Condition::Absent,
            1 => Condition::Present,
            2 => Condition::Match(self.value()),
            _ => Condition::Always,
        }
    }

    fn policy(&mut self) -> Policy {
        let mut days = |percent| self.maybe(percent, |random| [0, 10, 20, 35][random.below(4)] * DAY_MS);
        Policy {
            ttl_ms: days(40),
            grace_ms: days(30),
            max_ttl_ms: days(20),
            jitter: self.maybe(20, |random| random.below(60) as i64),
            sliding: self.maybe(20, |random| random.chance(30)),
            max_value: self.maybe(10, |random| [0, 0, 4000][random.below(3)]),
            max_entries: None,
            formats: self.maybe(10, |random| {
                let lists: [&'static [&'static str]; 2] = [&[], &["json", "xml"]];
                lists[random.below(2)]
            }),
        }
    }
}
