//! What becomes of lines of the audit log: a trace, as `core/examples/replay` reads it.
//!
//! ```text
//! time key type size cost tags etag     a key is asked for: time in seconds, cost in ms, tags with commas between them, `-` for none
//! time !   tag,tag                      these tags are invalidated
//! # words                               for people
//! ```
//!
//! A line of the log that tells of a read says nothing of the value, and after a miss there is none yet. So reads wait for some seconds,
//! in their order, until the value of those that missed is stored. What is known of values comes from the lines that tell of stores, and
//! of their entries' `META`; that of the newest 50,000 keys at least is remembered, but for what was stored where lines are missing.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// So long a read that missed waits for its value.
const HELD_MS: u64 = 10_000;
/// So many lines wait at most.
const MOST_HELD: usize = 20_000;
/// Of so many keys the values are known at least, and of twice as many at most.
const KNOWN: usize = 50_000;

/// A line of the audit log.
#[derive(Debug, Clone, Default)]
pub struct Logged {
    pub id: u64,
    /// How many before it are gone.
    pub lost: Option<u64>,
    pub time_ms: u64,
    pub command: String,
    pub type_name: Vec<u8>,
    pub key: Vec<u8>,
    pub tags: Vec<Vec<u8>>,
    pub size: Option<u64>,
    pub result: String,
}

/// What a line tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Read {
        missed: bool,
    },
    Store,
    Invalidation,
    /// What a trace has no words for.
    LeftOut(&'static str),
    Nothing,
}

impl Logged {
    /// What it tells of.
    pub fn tells(&self) -> Told {
        let is_well = self.result == "ok";
        match self.command.as_str() {
            "expcache.get" | "expcache.mget" | "expcache.fetch" => Told::Read { missed: self.result == "miss" },
            "expcache.set" | "expcache.mset" | "expcache.restore" if is_well => Told::Store,
            "expcache.invalidate.tag" | "expcache.invtag" => Told::Invalidation,
            "expcache.purge" if self.purged().is_some() => Told::Invalidation,
            "expcache.purge" | "expcache.clear" => Told::LeftOut("invalidations by more than tags"),
            "expcache.event" | "rule" => Told::LeftOut("rules that fired"),
            "expcache.del" | "del" if is_well => Told::LeftOut("deletions"),
            _ => Told::Nothing,
        }
    }

    /// The tags that are invalidated.
    fn invalidated(&self) -> &[Vec<u8>] {
        self.purged().unwrap_or(&self.tags)
    }

    /// Those of a purge that means tags and nothing else.
    fn purged(&self) -> Option<&[Vec<u8>]> {
        let [any, count, rest @ ..] = self.tags.as_slice() else { return None };
        let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
        let (tags, more) = rest.split_at_checked(count)?;
        let is_all = more.iter().all(|word| word.eq_ignore_ascii_case(b"SOFT"));
        (self.command == "expcache.purge" && any.eq_ignore_ascii_case(b"ANY") && is_all).then_some(tags)
    }
}

/// Stands in a line for tags that had no room there.
fn stands_for_more(tag: &[u8]) -> bool {
    tag.starts_with(b"... (") && tag.ends_with(b" more)")
}

/// What is known of a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value {
    pub size: u64,
    pub cost_ms: Option<u64>,
    pub tags: Vec<Vec<u8>>,
    pub etag: Option<String>,
}

/// What waits to be written.
enum Held {
    Read { time_ms: u64, key: Vec<u8>, type_name: Vec<u8>, value: Option<Rc<Value>> },
    Invalidation { time_ms: u64, tags: Vec<Vec<u8>> },
    Words(String),
}

/// The values that are known: the newest, and those that were before.
#[derive(Default)]
struct Values {
    new: HashMap<Vec<u8>, Rc<Value>>,
    old: HashMap<Vec<u8>, Rc<Value>>,
}

impl Values {
    fn get(&self, key: &[u8]) -> Option<&Rc<Value>> {
        self.new.get(key).or_else(|| self.old.get(key))
    }

    fn insert(&mut self, key: Vec<u8>, value: Rc<Value>) {
        if self.new.len() >= KNOWN {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, value);
    }
}

/// Makes a trace of a log.
#[derive(Default)]
pub struct Tracer {
    /// What keys and tags are hashed by, if they are.
    salt: Option<RandomState>,
    begun_ms: Option<u64>,
    now_ms: u64,
    held: VecDeque<Held>,
    /// The number of the first of these.
    first: usize,
    /// Those that missed, by key.
    missing: HashMap<Vec<u8>, Vec<usize>>,
    values: Values,
    /// What was left out, and how often.
    pub left_out: Vec<(&'static str, u64)>,
}

impl Tracer {
    /// Of names as they are, or of their hashes.
    pub fn new(is_hashed: bool) -> Self {
        Self { salt: is_hashed.then(RandomState::new), ..Self::default() }
    }

    /// Lines are missing: what was stored meanwhile is not known.
    pub fn forget_values(&mut self) {
        self.values = Values::default();
    }

    /// The keys among these lines whose entries are to be looked at: what they are is not known, or they are new.
    pub fn unknown<'l>(&self, lines: &'l [Logged]) -> Vec<&'l [u8]> {
        let is_unknown = |line: &&Logged| match line.tells() {
            Told::Store => true,
            Told::Read { missed } => !missed && self.values.get(&line.key).is_none(),
            _ => false,
        };
        let mut keys: Vec<&[u8]> = lines.iter().filter(is_unknown).map(|line| line.key.as_slice()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Takes lines in, with what their entries' `META` says now.
    pub fn take(&mut self, lines: &[Logged], found: &HashMap<Vec<u8>, Value>) {
        let last: HashMap<&[u8], u64> = lines
            .iter()
            .filter(|line| line.tells() == Told::Store)
            .map(|line| (line.key.as_slice(), line.id))
            .collect();
        for line in lines {
            // The clock of the day may be set back; a trace goes on.
            self.now_ms = self.now_ms.max(line.time_ms);
            self.begun_ms.get_or_insert(self.now_ms);
            match line.tells() {
                Told::Read { missed } => self.read(line, missed, found),
                Told::Store => {
                    // Of several stores it is that of the last.
                    let found = found.get(&line.key).filter(|_| last.get(line.key.as_slice()) == Some(&line.id));
                    self.stored(line, found);
                }
                Told::Invalidation => {
                    let (more, tags): (Vec<_>, Vec<_>) =
                        line.invalidated().iter().cloned().partition(|tag| stands_for_more(tag));
                    if !more.is_empty() {
                        self.leave_out("tags of long lists");
                    }
                    self.hold(Held::Invalidation { time_ms: self.now_ms, tags });
                }
                Told::LeftOut(what) => self.leave_out(what),
                Told::Nothing => {}
            }
        }
    }

    /// Words for whoever reads the trace, in their place.
    pub fn say(&mut self, words: String) {
        self.hold(Held::Words(words));
    }

    fn leave_out(&mut self, what: &'static str) {
        match self.left_out.iter_mut().find(|(known, _)| *known == what) {
            Some((_, times)) => *times += 1,
            None => self.left_out.push((what, 1)),
        }
    }

    fn read(&mut self, line: &Logged, missed: bool, found: &HashMap<Vec<u8>, Value>) {
        let key = line.key.clone();
        let value = if missed {
            self.missing.entry(key.clone()).or_default().push(self.first + self.held.len());
            None
        } else {
            if self.values.get(&key).is_none()
                && let Some(value) = found.get(&key)
            {
                self.values.insert(key.clone(), Rc::new(value.clone()));
            }
            // What has gone since then is known by its size.
            let by_size = || Rc::new(Value { size: line.size.unwrap_or(0), ..Value::default() });
            Some(self.values.get(&key).cloned().unwrap_or_else(by_size))
        };
        self.hold(Held::Read { time_ms: self.now_ms, key, type_name: line.type_name.clone(), value });
    }

    fn stored(&mut self, line: &Logged, found: Option<&Value>) {
        let tags = line.tags.clone();
        let is_cut = tags.last().is_some_and(|tag| stands_for_more(tag));
        let value = match found {
            Some(found) if Some(found.size) == line.size || line.size.is_none() => found.clone(),
            // It is another one by now.
            _ => {
                Value { size: line.size.unwrap_or(0), tags: if is_cut { Vec::new() } else { tags }, ..Value::default() }
            }
        };
        let value = Rc::new(value);
        for number in self.missing.remove(&line.key).into_iter().flatten() {
            let held = number.checked_sub(self.first).and_then(|at| self.held.get_mut(at));
            if let Some(Held::Read { value: missing, .. }) = held {
                *missing = Some(Rc::clone(&value));
            }
        }
        self.values.insert(line.key.clone(), value);
    }

    fn hold(&mut self, held: Held) {
        self.held.push_back(held);
    }

    /// The next line of the trace, if it has waited long enough, or if all is over.
    pub fn next(&mut self, is_over: bool) -> Option<String> {
        let is_ready = match self.held.front()? {
            Held::Read { value: None, time_ms, .. } => {
                is_over || self.held.len() > MOST_HELD || self.now_ms - time_ms >= HELD_MS
            }
            _ => true,
        };
        if !is_ready {
            return None;
        }
        let held = self.held.pop_front()?;
        self.first += 1;
        Some(match held {
            Held::Words(words) => format!("# {words}"),
            Held::Invalidation { time_ms, tags } => format!("{} ! {}", self.time(time_ms), self.tags(&tags)),
            Held::Read { time_ms, key, type_name, value } => {
                if value.is_none() {
                    self.give_up(&key);
                }
                // A value that came later may be known by now.
                let value = value.or_else(|| self.values.get(&key).cloned()).unwrap_or_default();
                let Value { size, cost_ms, tags, etag } = &*value;
                let cost = cost_ms.map_or("-".into(), |cost| cost.to_string());
                let (time, key, type_name) = (self.time(time_ms), self.name(&key), word(&type_name));
                let mut line = format!("{time} {key} {type_name} {size} {cost} {}", self.tags(tags));
                if let Some(etag) = etag {
                    line.push(' ');
                    line += etag;
                }
                line
            }
        })
    }

    /// A read of it has waited in vain; it is the first that did.
    fn give_up(&mut self, key: &[u8]) {
        let first = self.first;
        if let Some(numbers) = self.missing.get_mut(key) {
            numbers.retain(|number| *number >= first);
            if numbers.is_empty() {
                self.missing.remove(key);
            }
        }
    }

    fn time(&self, time_ms: u64) -> String {
        let since = time_ms.saturating_sub(self.begun_ms.unwrap_or(0));
        format!("{}.{:03}", since / 1000, since % 1000)
    }

    fn tags(&self, tags: &[Vec<u8>]) -> String {
        let tags: Vec<String> = tags.iter().map(|tag| self.name(tag)).collect();
        if tags.is_empty() { "-".into() } else { tags.join(",") }
    }

    /// A key or a tag.
    fn name(&self, name: &[u8]) -> String {
        match &self.salt {
            Some(salt) => format!("{:016x}", salt.hash_one(name)),
            None => word(name),
        }
    }
}

/// Bytes as one word that means nothing else.
fn word(bytes: &[u8]) -> String {
    let mut word = String::new();
    for byte in bytes {
        match byte {
            b'%' | b',' => _ = write!(word, "%{byte:02x}"),
            b'!' | b'-' if bytes.len() == 1 => _ = write!(word, "%{byte:02x}"),
            byte if byte.is_ascii_graphic() => word.push(char::from(*byte)),
            byte => _ = write!(word, "%{byte:02x}"),
        }
    }
    if word.is_empty() { "%".into() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64, time_ms: u64, command: &str, key: &str, result: &str) -> Logged {
        Logged {
            id,
            time_ms,
            command: format!("expcache.{command}"),
            type_name: "trips".into(),
            key: key.into(),
            result: result.into(),
            ..Logged::default()
        }
    }

    fn all(tracer: &mut Tracer, is_over: bool) -> Vec<String> {
        std::iter::from_fn(|| tracer.next(is_over)).collect()
    }

    fn value(size: u64, etag: &str) -> Value {
        Value { size, cost_ms: Some(40), tags: vec!["a".into(), "b".into()], etag: Some(etag.into()) }
    }

    #[test]
    fn a_read_that_missed_has_the_value_that_was_stored_then() {
        let mut tracer = Tracer::new(false);
        let lines = [
            line(1, 50_000, "fetch", "k", "miss"),
            line(2, 50_010, "get", "other", "hit"),
            Logged { size: Some(7), tags: vec!["a".into()], ..line(3, 50_500, "set", "k", "ok") },
            line(4, 51_000, "get", "k", "hit"),
        ];
        assert_eq!(tracer.unknown(&lines), [b"k".as_slice(), b"other"]);
        tracer.take(&lines[..2], &HashMap::from([("other".into(), value(9, "e1"))]));
        assert!(all(&mut tracer, false).is_empty(), "the first waits, and so the others do");
        tracer.take(&lines[2..], &HashMap::from([("k".into(), value(7, "e2"))]));
        let expected = ["0.000 k trips 7 40 a,b e2", "0.010 other trips 9 40 a,b e1", "1.000 k trips 7 40 a,b e2"];
        assert_eq!(all(&mut tracer, false), expected);
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let mut tracer = Tracer::new(false);
        let stored = Logged { size: Some(7), tags: vec!["a".into()], ..line(2, 20_000, "set", "k", "ok") };
        tracer.take(&[line(1, 1000, "get", "never", "miss"), stored, line(3, 5, "get", "k", "stale")], &HashMap::new());
        let expected = ["0.000 never trips 0 - -", "19.000 k trips 7 - a"];
        assert_eq!(all(&mut tracer, false), expected, "it has waited long enough; and time goes on");
        // A hit does not wait for its value.
        tracer.take(&[Logged { size: Some(3), ..line(4, 20_500, "get", "gone", "hit") }], &HashMap::new());
        assert_eq!(all(&mut tracer, false), ["19.500 gone trips 3 - -"]);
        // What was there when it was looked at is another value.
        let again = Logged { size: Some(8), ..line(4, 21_000, "set", "k", "ok") };
        tracer.take(&[again, line(5, 21_000, "get", "k", "hit")], &HashMap::from([("k".into(), value(9, "e"))]));
        assert_eq!(all(&mut tracer, true), ["20.000 k trips 8 - -"]);
    }

    #[test]
    fn invalidations_and_what_has_no_place() {
        let mut tracer = Tracer::new(false);
        let with = |command, tags: &[&str]| Logged {
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
            ..line(1, 1000, command, "", "ok")
        };
        let lines = [
            with("invalidate.tag", &["a", "b c"]),
            with("purge", &["ANY", "2", "x", "y", "SOFT"]),
            with("purge", &["ANY", "1", "x", "TYPE", "t"]),
            with("clear", &[]),
            line(1, 1000, "del", "k", "ok"),
            line(1, 1000, "del", "k", "null"),
            line(1, 1000, "set", "k", "null"),
            with("invalidate.tag", &["a", "... (4093 more)"]),
        ];
        tracer.take(&lines, &HashMap::new());
        tracer.say("17 lines were lost".into());
        assert_eq!(all(&mut tracer, false), ["0.000 ! a,b%20c", "0.000 ! x,y", "0.000 ! a", "# 17 lines were lost"]);
        let expected = [("invalidations by more than tags", 2), ("deletions", 1), ("tags of long lists", 1)];
        assert_eq!(tracer.left_out, expected);
    }

    #[test]
    fn names_are_words_whatever_they_are() {
        let words = [&b"!"[..], b"", b"a b", b"\xff\n", b"50%", b"-", b"a,b", b"export_cache:trips:7"].map(word);
        assert_eq!(words, ["%21", "%", "a%20b", "%ff%0a", "50%25", "%2d", "a%2cb", "export_cache:trips:7"]);
        let mut tracer = Tracer::new(true);
        tracer.take(&[line(1, 1, "get", "secret", "miss"), line(2, 1, "get", "secret", "miss")], &HashMap::new());
        let lines = all(&mut tracer, true);
        assert!(lines.iter().all(|line| !line.contains("secret") && line.contains(" trips 0 - -")), "{lines:?}");
        assert_eq!(lines.first(), lines.last(), "one key is one");
    }

    #[test]
    fn what_it_holds_is_bounded() {
        let mut tracer = Tracer::new(false);
        for page in 0..120 {
            let lines = (page * 1000..(page + 1) * 1000).flat_map(|n| {
                let stored = Logged { size: Some(1), ..line(n, 1000, "set", &format!("k{n}"), "ok") };
                [line(n, 1000, "get", &format!("never{n}"), "miss"), stored]
            });
            tracer.take(&lines.collect::<Vec<_>>(), &HashMap::new());
            while tracer.next(false).is_some() {}
        }
        assert!(tracer.held.len() <= MOST_HELD && tracer.missing.len() <= MOST_HELD);
        assert!(tracer.values.new.len() <= KNOWN && tracer.values.old.len() <= KNOWN);
    }
}
