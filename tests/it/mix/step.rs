//! One command of the mix, as a value that a model can read and a server can be sent.

use std::sync::LazyLock;

use super::clause::{Clause, Pattern};
use crate::harness::args;

/// Names of keys, tags and types come from fixed pools.
pub type Name = &'static [u8];

/// How many different payloads there are.
pub const VALUES: usize = 10;

/// So many steps of an iteration see everything that the mix can have.
pub const ALL_AT_ONCE: usize = 10_000;

/// Payload number `n`: the sizes around the bounds that an entry's layout may have; larger ones are compressed, at once or by a
/// worker, but for one that cannot be.
pub fn value(n: usize) -> Vec<u8> {
    const SIZES: [usize; VALUES] = [0, 1, 5, 100, 191, 192, 5000, 9000, 40_000, 40_001];
    const NOISE: usize = 9;
    // They are asked for at each step.
    static ALL: LazyLock<[Vec<u8>; VALUES]> = LazyLock::new(|| {
        std::array::from_fn(|n| {
            let noise = |at: usize| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) ^ (at >> 7);
            let byte = |at: usize| if n == NOISE { noise(at) } else { at * 7 + n };
            (0..SIZES[n]).map(|at| byte(at) as u8).collect()
        })
    });
    ALL[n].clone()
}

/// How long a value shall be fresh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Life {
    OfType,
    Seconds(i64),
    Millis(i64),
    UntilSecond(i64),
    UntilMs(i64),
    Keep,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    Always,
    Absent,
    Present,
    /// The entry has this payload.
    Match(usize),
}

/// The options of `EXPCACHE.SET` and `MSET`.
#[derive(Clone, Debug)]
pub struct Options {
    pub type_name: Option<Name>,
    pub life: Life,
    pub grace_ms: Option<i64>,
    pub tags: Vec<Name>,
    pub format: Option<&'static str>,
    pub records: Option<i64>,
    pub cost: Option<i64>,
    pub meta: Option<&'static str>,
    /// The payload whose MD5 is given as the stored one's.
    pub hash_of: Option<usize>,
    pub condition: Condition,
}

/// The fields of a type that a step changes.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub ttl_ms: Option<i64>,
    pub grace_ms: Option<i64>,
    pub max_ttl_ms: Option<i64>,
    pub jitter: Option<i64>,
    pub sliding: Option<bool>,
    pub max_value: Option<i64>,
    pub max_entries: Option<i64>,
    pub formats: Option<&'static [&'static str]>,
}

/// One command. Payloads stand as their numbers, moments in unix milliseconds.
#[derive(Clone, Debug)]
pub enum Step {
    Set {
        key: Name,
        value: usize,
        options: Options,
    },
    Mset {
        pairs: Vec<(Name, usize)>,
        options: Options,
    },
    Get(Name),
    Mget(Vec<Name>),
    Fetch {
        key: Name,
        unless: Option<usize>,
        range: Option<(usize, usize)>,
    },
    Meta(Name),
    CacheDel(Vec<Name>),
    Invalidate {
        by: &'static str,
        tags: Vec<Name>,
    },
    Purge {
        selector: Vec<Clause>,
        soft: bool,
        dry_run: bool,
        /// How many of the keys are to be named.
        keys: Option<usize>,
    },
    Clear {
        soft: bool,
    },
    Count(Vec<Clause>),
    /// The whole iteration, in steps of `count`.
    Scan {
        selector: Vec<Clause>,
        count: usize,
    },
    /// The whole iteration, in steps of `count`.
    Tags {
        pattern: Option<Pattern>,
        count: usize,
    },
    TypeSet {
        name: Name,
        policy: Policy,
    },
    TypeGet(Name),
    TypeList,
    TypeDel(Name),
    Stats(Option<Name>),
    Select(usize),
    Del {
        by: &'static str,
        keys: Vec<Name>,
    },
    Rename {
        by: &'static str,
        from: Name,
        to: Name,
    },
    Copy {
        from: Name,
        to: Name,
        db: Option<usize>,
        replace: bool,
    },
    Move {
        key: Name,
        db: usize,
    },
    SwapDb(usize, usize),
    FlushDb(&'static str),
    FlushAll(&'static str),
    ExpireAt {
        by: &'static str,
        key: Name,
        at_ms: i64,
    },
    Persist(Name),
    ExpireTime(Name),
    NativeSet {
        key: Name,
        value: usize,
        option: &'static str,
    },
    NativeGet(Name),
    AddMember {
        key: Name,
        member: Name,
    },
    Union {
        to: Name,
        from: Vec<Name>,
    },
    Dump(Name),
    /// Of what was dumped last; `at_ms` 0: without expiry.
    Restore {
        key: Name,
        at_ms: i64,
        replace: bool,
    },
    TypeOf(Name),
    Exists(Vec<Name>),
    DbSize,
    ListEntries,
}

type Words = Vec<Vec<u8>>;

impl Step {
    /// Scripts cannot choose their client's database.
    pub fn can_be_scripted(&self) -> bool {
        !matches!(self, Step::Select(_)) && !self.iterates()
    }

    /// Does it take several commands, each of which continues the one before?
    pub fn iterates(&self) -> bool {
        matches!(self, Step::Scan { count, .. } | Step::Tags { count, .. } if *count < ALL_AT_ONCE)
    }

    /// Valkey 8.1.0 to 9.1.0 leaves the client in the destination's database where a module listens to keyspace events.
    pub fn may_lose_the_database(&self) -> bool {
        matches!(self, Step::Move { .. } | Step::Copy { db: Some(_), .. })
    }

    /// The command.
    pub fn words(&self, etags: &[String], dumped: &[u8]) -> Words {
        match self {
            Step::Set { key, value: n, options } => {
                [args!["EXPCACHE.SET", key, value(*n)], options.words(etags)].concat()
            }
            Step::Mset { pairs, options } => {
                let pairs_words = pairs.iter().flat_map(|(key, n)| args![key, value(*n)]).collect();
                [args!["EXPCACHE.MSET", pairs.len()], pairs_words, options.words(etags)].concat()
            }
            Step::Get(key) => args!["EXPCACHE.GET", key],
            Step::Mget(keys) => listed("EXPCACHE.MGET", keys),
            Step::Fetch { key, unless, range } => {
                let mut words = args!["EXPCACHE.FETCH", key];
                words.extend(unless.iter().flat_map(|n| args!["IFNONEMATCH", etags[*n]]));
                words.extend(range.iter().flat_map(|(offset, length)| args!["RANGE", offset, length]));
                words
            }
            Step::Meta(key) => args!["EXPCACHE.META", key],
            Step::CacheDel(keys) => listed("EXPCACHE.DEL", keys),
            Step::Invalidate { by, tags } => listed(by, tags),
            Step::Purge { selector, soft, dry_run, keys } => {
                let mut words = [args!["EXPCACHE.PURGE"], clauses(selector)].concat();
                words.extend(soft.then(|| b"SOFT".to_vec()));
                words.extend(dry_run.then(|| b"DRYRUN".to_vec()));
                words.extend(keys.iter().flat_map(|most| args!["KEYS", most]));
                words
            }
            Step::Clear { soft: false } => args!["EXPCACHE.CLEAR"],
            Step::Clear { soft: true } => args!["EXPCACHE.CLEAR", "SOFT"],
            Step::Count(selector) => [args!["EXPCACHE.COUNT"], clauses(selector)].concat(),
            Step::Scan { selector, count } => {
                [args!["EXPCACHE.SCAN", 0], clauses(selector), args!["COUNT", count]].concat()
            }
            Step::Tags { pattern, count } => {
                let pattern = pattern.iter().flat_map(|pattern| args!["MATCH", pattern.glob]).collect();
                [args!["EXPCACHE.TAGS", 0], pattern, args!["COUNT", count]].concat()
            }
            Step::TypeSet { name, policy } => [args!["EXPCACHE.TYPE", "SET", name], policy.words()].concat(),
            Step::TypeGet(name) => args!["EXPCACHE.TYPE", "GET", name],
            Step::TypeList => args!["EXPCACHE.TYPE", "LIST"],
            Step::TypeDel(name) => args!["EXPCACHE.TYPE", "DEL", name],
            Step::Stats(None) => args!["EXPCACHE.STATS"],
            Step::Stats(Some(name)) => args!["EXPCACHE.STATS", "TYPE", name],
            native => native.native_words(dumped),
        }
    }

    fn native_words(&self, dumped: &[u8]) -> Words {
        match self {
            Step::Select(db) => args!["SELECT", db],
            Step::Del { by, keys } => listed(by, keys),
            Step::Rename { by, from, to } => args![by, from, to],
            Step::Copy { from, to, db, replace } => {
                let mut words = args!["COPY", from, to];
                words.extend(db.iter().flat_map(|db| args!["DB", db]));
                words.extend(replace.then(|| b"REPLACE".to_vec()));
                words
            }
            Step::Move { key, db } => args!["MOVE", key, db],
            Step::SwapDb(a, b) => args!["SWAPDB", a, b],
            Step::FlushDb(how) => args!["FLUSHDB", how],
            Step::FlushAll(how) => args!["FLUSHALL", how],
            Step::ExpireAt { by: "EXPIREAT", key, at_ms } => args!["EXPIREAT", key, at_ms / 1000],
            Step::ExpireAt { by, key, at_ms } => args![by, key, at_ms],
            Step::Persist(key) => args!["PERSIST", key],
            Step::ExpireTime(key) => args!["PEXPIRETIME", key],
            Step::NativeSet { key, value: n, option: "" } => args!["SET", key, value(*n)],
            Step::NativeSet { key, value: n, option } => args!["SET", key, value(*n), option],
            Step::NativeGet(key) => args!["GET", key],
            Step::AddMember { key, member } => args!["SADD", key, member],
            Step::Union { to, from } => [args!["SUNIONSTORE", to], listed_only(from)].concat(),
            Step::Dump(key) => args!["DUMP", key],
            Step::Restore { key, at_ms, replace } => {
                let mut words = args!["RESTORE", key, at_ms, dumped, "ABSTTL"];
                words.extend(replace.then(|| b"REPLACE".to_vec()));
                words
            }
            Step::TypeOf(key) => args!["TYPE", key],
            Step::Exists(keys) => listed("EXISTS", keys),
            Step::DbSize => args!["DBSIZE"],
            Step::ListEntries => args!["SCAN", 0, "COUNT", 10_000, "TYPE", "exp-cache"],
            cache => unreachable!("{cache:?}"),
        }
    }
}

fn listed(command: &str, names: &[Name]) -> Words {
    [args![command], listed_only(names)].concat()
}

fn clauses(selector: &[Clause]) -> Words {
    selector.iter().flat_map(Clause::words).collect()
}

fn listed_only(names: &[Name]) -> Words {
    names.iter().map(|name| name.to_vec()).collect()
}

impl Options {
    fn words(&self, etags: &[String]) -> Words {
        let mut words = Words::new();
        words.extend(self.type_name.iter().flat_map(|name| args!["TYPE", name]));
        words.extend(match self.life {
            Life::OfType => Words::new(),
            Life::Seconds(n) => args!["EX", n],
            Life::Millis(n) => args!["PX", n],
            Life::UntilSecond(n) => args!["EXAT", n],
            Life::UntilMs(n) => args!["PXAT", n],
            Life::Keep => args!["KEEPTTL"],
        });
        words.extend(self.grace_ms.iter().flat_map(|ms| args!["GRACE", ms]));
        if !self.tags.is_empty() {
            words.extend([args!["TAGS", self.tags.len()], listed_only(&self.tags)].concat());
        }
        words.extend(self.format.iter().flat_map(|name| args!["FORMAT", name]));
        words.extend(self.records.iter().flat_map(|n| args!["RECORDS", n]));
        words.extend(self.cost.iter().flat_map(|n| args!["COST", n]));
        words.extend(self.meta.iter().flat_map(|json| args!["META", json]));
        words.extend(self.hash_of.iter().flat_map(|n| args!["HASH", etags[*n]]));
        words.extend(match self.condition {
            Condition::Always => Words::new(),
            Condition::Absent => args!["NX"],
            Condition::Present => args!["XX"],
            Condition::Match(n) => args!["IFMATCH", etags[n]],
        });
        words
    }
}

impl Policy {
    fn words(&self) -> Words {
        let duration = |ms: &i64| if *ms == 0 { "0s".to_string() } else { format!("{ms}ms") };
        let mut words = Words::new();
        words.extend(self.ttl_ms.iter().flat_map(|ms| args!["TTL", duration(ms)]));
        words.extend(self.grace_ms.iter().flat_map(|ms| args!["GRACE", duration(ms)]));
        words.extend(self.max_ttl_ms.iter().flat_map(|ms| args!["MAXTTL", duration(ms)]));
        words.extend(self.jitter.iter().flat_map(|percent| args!["JITTER", percent]));
        words.extend(self.sliding.iter().flat_map(|yes| args!["SLIDING", if *yes { "yes" } else { "no" }]));
        words.extend(self.max_value.iter().flat_map(|bytes| args!["MAXVALUE", bytes]));
        words.extend(self.max_entries.iter().flat_map(|n| args!["MAXENTRIES", n]));
        if let Some(formats) = self.formats {
            words.extend(args!["FORMATS", formats.len()]);
            words.extend(formats.iter().map(|name| name.as_bytes().to_vec()));
        }
        words
    }
}
