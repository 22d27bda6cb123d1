//! The cache as naively as it can be written: maps of names to values. It follows the contract and nothing else.

use super::Expect;
use super::step::{Condition, Life, Name, Options, Policy, Step, value};
use std::collections::{BTreeMap, BTreeSet};

mod invalidation;
mod native;

/// A moment or a time of which only bounds are known: a command runs between being sent and being answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub lo: i64,
    pub hi: i64,
}

impl Span {
    fn exactly(moment: i64) -> Span {
        Span { lo: moment, hi: moment }
    }

    fn plus(self, ms: i64) -> Span {
        Span { lo: self.lo + ms, hi: self.hi + ms }
    }

    fn plus_span(self, other: Span) -> Span {
        Span { lo: self.lo + other.lo, hi: self.hi + other.hi }
    }

    fn minus_span(self, other: Span) -> Span {
        Span { lo: self.lo - other.hi, hi: self.hi - other.lo }
    }

    fn min(self, other: Span) -> Span {
        Span { lo: self.lo.min(other.lo), hi: self.hi.min(other.hi) }
    }

    fn max(self, other: Span) -> Span {
        Span { lo: self.lo.max(other.lo), hi: self.hi.max(other.hi) }
    }

    fn is_after(self, now: Span) -> bool {
        assert!(self.lo > now.hi || self.hi <= now.lo, "too near to an end: {self:?} at {now:?}");
        self.lo > now.hi
    }
}

#[derive(Clone, Debug)]
struct Entry {
    value: usize,
    type_name: Name,
    tags: BTreeSet<Name>,
    format: Option<&'static str>,
    records: Option<i64>,
    cost: Option<i64>,
    meta: Option<&'static str>,
    grace_ms: i64,
    /// The fresh lifetime it was stored with; none: without end, or until a moment that was named.
    lifetime: Option<Span>,
    mark: Mark,
}

/// What an invalidation leaves on an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    None,
    /// It is gone, and its key still there.
    Dead,
    /// It is stale since then, for so long. Pending: its key does not expire with this grace yet.
    Soft {
        moment: Span,
        grace_ms: i64,
        pending: bool,
    },
    /// Its freshness ended then, as that of the value did which it replaced.
    Over {
        moment: Span,
    },
}

/// When the keys of what was invalidated are dealt with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reclaiming {
    BeforeTheReply,
    /// Until [`Model::reclaim`] is called, native commands see them.
    Later,
}

#[derive(Clone, Debug)]
enum Item {
    Entry(Entry),
    Text(Vec<u8>),
    Members(BTreeSet<Name>),
}

#[derive(Clone, Debug)]
struct Slot {
    item: Item,
    expire_at: Option<Span>,
}

impl Slot {
    /// The entry, unless it is gone.
    fn entry(&self) -> Option<&Entry> {
        match &self.item {
            Item::Entry(entry) if entry.mark != Mark::Dead => Some(entry),
            _ => None,
        }
    }

    /// The entry, gone or not.
    fn stored(&self) -> Option<&Entry> {
        match &self.item {
            Item::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    fn is_foreign(&self) -> bool {
        !matches!(self.item, Item::Entry(_))
    }

    /// Since when it is stale by command.
    fn softened(&self) -> Option<Span> {
        match self.entry()?.mark {
            Mark::Soft { moment, .. } | Mark::Over { moment } => Some(moment),
            _ => None,
        }
    }

    /// When its freshness ends.
    fn fresh_until(&self) -> Option<Span> {
        let until = || self.expire_at.map(|at| at.plus(-self.entry().map_or(0, |entry| entry.grace_ms)));
        self.softened().map(Some).unwrap_or_else(until)
    }

    fn is_fresh(&self, now: Span) -> bool {
        self.softened().is_none() && self.fresh_until().is_none_or(|until| until.is_after(now))
    }

    /// How long it is stale after being fresh.
    fn grace(&self) -> Expect {
        let own = self.entry().map_or(0, |entry| entry.grace_ms);
        match (self.entry().map_or(Mark::None, |entry| entry.mark), self.expire_at) {
            (Mark::Soft { grace_ms, pending: true, .. }, _) => Expect::number(Some(grace_ms)),
            (Mark::Soft { moment, .. }, Some(at)) => Expect::Between(at.minus_span(moment)),
            _ => Expect::number(Some(own)),
        }
    }

    fn freshness_left(&self, now: Span) -> Expect {
        self.fresh_until().map_or(Expect::nil(), |until| Expect::Between(until.minus_span(now)))
    }
}

/// See the module's head.
pub struct Model {
    dbs: Vec<BTreeMap<Name, Slot>>,
    db: usize,
    types: BTreeMap<Name, Policy>,
    dumped: Option<Item>,
    etags: Vec<String>,
    reclaiming: Reclaiming,
    /// Is what comes next done by scripts? A hit in one puts no expiry off.
    pub by_script: bool,
}

/// `expcache.default-ttl` as [`super::server`] sets it.
const DEFAULT_TTL_MS: i64 = 40 * super::DAY_MS;

const WRONGTYPE: Expect = Expect::Error("WRONGTYPE");
const SAME_OBJECT: Expect = Expect::Error("ERR source and destination objects are the same");

impl Model {
    /// A new server, of which the MD5 of each payload is known.
    pub fn new(etags: &[String], reclaiming: Reclaiming) -> Model {
        let names: [Name; 6] = [b"default", b"vehicles", b"drivers", b"trips", b"gps_tracks", b"reports"];
        let types = names.into_iter().map(|name| (name, Policy::default())).collect();
        Model {
            dbs: vec![BTreeMap::new(); 3],
            db: 0,
            types,
            dumped: None,
            etags: etags.to_vec(),
            reclaiming,
            by_script: false,
        }
    }

    /// Does what the step does at that time and says what the reply to it must be.
    pub fn apply(&mut self, step: &Step, now: Span) -> Expect {
        match step {
            Step::Set { key, value, options } => self.store(&[(*key, *value)], options, now),
            Step::Mset { pairs, options } => self.store(pairs, options, now),
            Step::Get(key) => self.get(key, now),
            Step::Mget(keys) => match self.any_foreign(keys) {
                true => WRONGTYPE,
                false => Expect::Items(keys.iter().map(|key| self.get(key, now)).collect()),
            },
            Step::Fetch { key, unless, range } => self.fetch(key, *unless, *range, now),
            Step::Meta(key) => self.meta(key, now),
            Step::CacheDel(keys) => match self.any_foreign(keys) {
                true => WRONGTYPE,
                false => self.cache_delete(keys),
            },
            Step::Invalidate { tags, .. } => self.invalidate(tags),
            Step::Purge { selector, soft, dry_run, keys } => self.purge(selector, *soft, *dry_run, *keys, now),
            Step::Clear { soft } => self.purge(&[], *soft, false, None, now),
            Step::Count(selector) => Expect::int(self.selected(selector).len()),
            Step::Scan { selector, .. } => self.scan(selector),
            Step::Tags { pattern, .. } => self.tags(*pattern),
            Step::TypeSet { name, policy } => self.type_set(name, policy),
            Step::TypeGet(name) => self.types.get(name).map_or(Expect::nil(), type_fields),
            Step::TypeList => Expect::Names(self.types.keys().map(|name| name.to_vec()).collect()),
            Step::TypeDel(b"default") => Expect::Error("ERR"),
            Step::TypeDel(name) => Expect::int(self.types.remove(name).is_some().into()),
            Step::Stats(None) => self.stats(),
            Step::Stats(Some(name)) => self.type_stats(name),
            native => self.apply_native(native, now),
        }
    }

    fn keys(&self) -> &BTreeMap<Name, Slot> {
        &self.dbs[self.db]
    }

    fn keys_mut(&mut self) -> &mut BTreeMap<Name, Slot> {
        &mut self.dbs[self.db]
    }

    fn is_foreign(&self, key: Name) -> bool {
        self.keys().get(key).is_some_and(Slot::is_foreign)
    }

    fn any_foreign(&self, keys: &[Name]) -> bool {
        keys.iter().any(|key| self.is_foreign(key))
    }

    // ---- storing

    fn store(&mut self, pairs: &[(Name, usize)], options: &Options, now: Span) -> Expect {
        let refusals: Vec<Expect> = pairs.iter().flat_map(|(key, n)| self.refusals(key, *n, options)).collect();
        // Where several reasons hold, the contract does not say which is told.
        if !refusals.is_empty() {
            return Expect::OneOf(refusals);
        }
        if let Some(name) = options.type_name {
            let new = self.policy_of(name);
            self.types.entry(name).or_insert(new);
        }
        for (key, n) in pairs {
            self.store_one(key, *n, options, now);
        }
        Expect::ok()
    }

    fn refusals(&self, key: Name, n: usize, options: &Options) -> Vec<Expect> {
        let policy = self.policy_of(self.type_for(key, options));
        let size = value(n).len() as i64;
        let too_large = policy.max_value.is_some_and(|most| most > 0 && size > most);
        let formats = policy.formats.unwrap_or_default();
        let bad_format = options.format.is_some_and(|format| !formats.is_empty() && !formats.contains(&format));
        let bad_hash = options.hash_of.is_some_and(|other| self.etags[other] != self.etags[n]);
        let present = self.keys().get(key).and_then(Slot::entry);
        let unmet = match options.condition {
            Condition::Always => false,
            Condition::Absent => present.is_some(),
            Condition::Present => present.is_none(),
            Condition::Match(other) => present.is_none_or(|entry| self.etags[entry.value] != self.etags[other]),
        };
        let refusals = [
            (self.is_foreign(key), WRONGTYPE),
            (too_large, Expect::Error("TOOLARGE")),
            (bad_format, Expect::Error("BADFORMAT")),
            (bad_hash, Expect::Error("HASHMISMATCH")),
            (unmet, Expect::nil()),
        ];
        refusals.into_iter().filter(|(holds, _)| *holds).map(|(_, refusal)| refusal).collect()
    }

    /// The type that was given, or else the defined one that the key names, or else `default`.
    fn type_for(&self, key: Name, options: &Options) -> Name {
        let named = |key: &[u8]| {
            let end = key.iter().position(|byte| *byte == b':')?;
            self.types.keys().find(|name| **name == &key[..end]).copied()
        };
        let of_key = key.strip_prefix(b"export_cache:").and_then(named).or_else(|| named(key));
        options.type_name.or(of_key).unwrap_or(b"default")
    }

    fn store_one(&mut self, key: Name, n: usize, options: &Options, now: Span) {
        let type_name = self.type_for(key, options);
        let policy = self.policy_of(type_name);
        let old = self.keys().get(key).filter(|slot| slot.entry().is_some());
        let kept = old.map(Slot::fresh_until);
        // Whose end of freshness is kept, is stale since the same moment.
        let softened = old.and_then(Slot::softened).filter(|_| options.life == Life::Keep);
        let is_kept_named =
            options.life == Life::Keep && old.and_then(Slot::entry).is_some_and(|entry| entry.lifetime.is_none());
        let is_named = matches!(options.life, Life::UntilMs(_) | Life::UntilSecond(_)) || is_kept_named;
        let grace_ms = options.grace_ms.or(policy.grace_ms).unwrap_or(0);
        let until = fresh_until(&policy, options.life, kept, now);
        let entry = Entry {
            value: n,
            type_name,
            tags: options.tags.iter().copied().collect(),
            format: options.format,
            records: options.records,
            cost: options.cost,
            meta: options.meta,
            grace_ms,
            lifetime: until
                .map(|until| until.minus_span(now))
                .filter(|left| left.hi > 0 && softened.is_none() && !is_named),
            mark: softened.map_or(Mark::None, |moment| Mark::Over { moment }),
        };
        let expire_at = until.map(|until| until.plus(grace_ms));
        let is_over = softened.is_some() && grace_ms == 0;
        if !is_over && expire_at.is_none_or(|at| at.is_after(now)) {
            self.keys_mut().insert(key, Slot { item: Item::Entry(entry), expire_at });
        } else {
            self.keys_mut().remove(key);
        }
    }

    /// Entries of a type that is not defined are under the policy of `default`, and a new type starts with it.
    fn policy_of(&self, type_name: Name) -> Policy {
        self.types.get(type_name).unwrap_or(&self.types[&b"default"[..]]).clone()
    }

    // ---- reading

    fn get(&mut self, key: Name, now: Span) -> Expect {
        match self.keys().get(key) {
            _ if self.is_foreign(key) => WRONGTYPE,
            Some(slot) if slot.is_fresh(now) => {
                let payload = slot.entry().map(|entry| value(entry.value));
                self.slide(key, now);
                Expect::text(payload)
            }
            _ => Expect::nil(),
        }
    }

    fn fetch(&mut self, key: Name, unless: Option<usize>, range: Option<(usize, usize)>, now: Span) -> Expect {
        if self.is_foreign(key) {
            return WRONGTYPE;
        }
        let Some((slot, entry)) = self.keys().get(key).and_then(|slot| Some((slot, slot.entry()?))) else {
            let nothing = ["value", "etag", "type", "format", "records", "size", "meta", "lease", "retry"];
            let mut fields = vec![("status", Expect::text(Some("miss")))];
            fields.extend(nothing.map(|name| (name, Expect::nil())));
            return Expect::Fields(fields);
        };
        let payload = value(entry.value);
        let (offset, length) = range.unwrap_or((0, payload.len()));
        let part: Vec<u8> = payload.iter().skip(offset).take(length).copied().collect();
        let fresh = slot.is_fresh(now);
        let (status, part) = match unless {
            Some(other) if fresh && self.etags[other] == self.etags[entry.value] => ("not-modified", None),
            _ if fresh => ("hit", Some(part)),
            _ => ("stale", Some(part)),
        };
        let mut fields = self.shared_fields(entry);
        fields.extend([
            ("status", Expect::text(Some(status))),
            ("value", Expect::text(part)),
            // Whatever it is kept as.
            ("encoding", Expect::text(Some("identity"))),
            ("ttl", slot.freshness_left(now)),
            ("lease", Expect::nil()),
            ("retry", Expect::nil()),
        ]);
        if fresh {
            self.slide(key, now);
        }
        // The field is of before or after the sliding.
        if let Some(slot) = self.keys().get(key).filter(|_| fresh) {
            let after = slot.freshness_left(now);
            fields.iter_mut().filter(|(name, _)| *name == "ttl").for_each(|(_, ttl)| {
                *ttl = Expect::OneOf(vec![ttl.clone(), after.clone()]);
            });
        }
        Expect::Fields(fields)
    }

    fn meta(&self, key: Name, now: Span) -> Expect {
        if self.is_foreign(key) {
            return WRONGTYPE;
        }
        let Some((slot, entry)) = self.keys().get(key).and_then(|slot| Some((slot, slot.entry()?))) else {
            return Expect::nil();
        };
        let mut fields = self.shared_fields(entry);
        fields.extend([
            ("grace", slot.grace()),
            ("cost", Expect::number(entry.cost)),
            ("state", Expect::text(Some(if slot.is_fresh(now) { "fresh" } else { "stale" }))),
            ("ttl", slot.freshness_left(now)),
            ("tags", Expect::Names(entry.tags.iter().map(|tag| tag.to_vec()).collect())),
        ]);
        Expect::Fields(fields)
    }

    fn shared_fields(&self, entry: &Entry) -> Vec<(&'static str, Expect)> {
        vec![
            ("etag", Expect::text(Some(&self.etags[entry.value]))),
            ("type", Expect::text(Some(entry.type_name))),
            ("format", Expect::text(entry.format)),
            ("records", Expect::number(entry.records)),
            ("size", Expect::int(value(entry.value).len())),
            ("meta", Expect::text(entry.meta)),
        ]
    }

    /// A hit on an entry of a sliding type restarts its life and never shortens it. What would gain less than a hundredth
    /// of the lifetime may be left undone.
    fn slide(&mut self, key: Name, now: Span) {
        let Some((slot, entry)) = self.keys().get(key).and_then(|slot| Some((slot, slot.entry()?))) else { return };
        let sliding = self.policy_of(entry.type_name).sliding.unwrap_or(false) && !self.by_script;
        if let (true, Some(old), Some(lifetime)) = (sliding, slot.expire_at, entry.lifetime) {
            let mut restarted = now.plus_span(lifetime).plus(entry.grace_ms);
            restarted.lo -= lifetime.hi / 100;
            if let Some(slot) = self.keys_mut().get_mut(key) {
                slot.expire_at = Some(old.max(restarted));
            }
        }
    }

    // ---- removing

    fn delete(&mut self, keys: &[Name]) -> Expect {
        let removed = keys.iter().filter(|key| self.keys_mut().remove(*key).is_some()).count();
        Expect::int(removed)
    }

    /// As above, but what is gone already does not count.
    fn cache_delete(&mut self, keys: &[Name]) -> Expect {
        let removed = keys.iter().filter_map(|key| self.keys_mut().remove(key));
        Expect::int(removed.filter(|slot| slot.entry().is_some()).count())
    }

    // ---- types and figures

    fn type_set(&mut self, name: Name, changes: &Policy) -> Expect {
        let new = self.policy_of(name);
        let policy = self.types.entry(name).or_insert(new);
        policy.ttl_ms = changes.ttl_ms.or(policy.ttl_ms);
        policy.grace_ms = changes.grace_ms.or(policy.grace_ms);
        policy.max_ttl_ms = changes.max_ttl_ms.or(policy.max_ttl_ms);
        policy.jitter = changes.jitter.or(policy.jitter);
        policy.sliding = changes.sliding.or(policy.sliding);
        policy.max_value = changes.max_value.or(policy.max_value);
        policy.formats = changes.formats.or(policy.formats);
        Expect::ok()
    }

    fn stats(&self) -> Expect {
        let entries = |of: fn(&Slot) -> Option<&Entry>| self.dbs.iter().flat_map(move |db| db.values().filter_map(of));
        let bytes = |of| entries(of).map(|entry| value(entry.value).len()).sum();
        let tags = |of: fn(&Slot) -> Option<&Entry>| {
            let tags_of = |db: &BTreeMap<Name, Slot>| {
                let tags: BTreeSet<Name> = db.values().filter_map(of).flat_map(|entry| entry.tags.clone()).collect();
                tags.len()
            };
            self.dbs.iter().map(tags_of).sum()
        };
        Expect::Fields(vec![
            ("entries", Expect::int(entries(Slot::entry).count())),
            ("tags", between(tags(Slot::entry), tags(Slot::stored))),
            ("payload-bytes", between(bytes(Slot::entry), bytes(Slot::stored))),
        ])
    }

    fn type_stats(&self, name: Name) -> Expect {
        if !self.types.contains_key(name) {
            return Expect::Anything;
        }
        let of_type = |of: fn(&Slot) -> Option<&Entry>| {
            let all = self.dbs.iter().flat_map(move |db| db.values().filter_map(of));
            all.filter(|entry| entry.type_name == name).map(|entry| value(entry.value).len()).collect::<Vec<_>>()
        };
        let bytes = between(of_type(Slot::entry).iter().sum(), of_type(Slot::stored).iter().sum());
        Expect::Fields(vec![("entries", Expect::int(of_type(Slot::entry).len())), ("payload-bytes", bytes)])
    }
}

/// What is stored counts until it is reclaimed, as it takes room until then.
fn between(alive: usize, stored: usize) -> Expect {
    Expect::Between(Span { lo: alive as i64, hi: stored as i64 })
}

/// When a value stored now ceases to be fresh; `kept` is when the one it replaces does.
fn fresh_until(policy: &Policy, life: Life, kept: Option<Option<Span>>, now: Span) -> Option<Span> {
    let shortened = |ms: i64| Span { lo: now.lo + ms - ms * policy.jitter.unwrap_or(0) / 100, hi: now.hi + ms };
    let until = match (life, kept) {
        (Life::UntilMs(at), _) => Some(Span::exactly(at)),
        (Life::UntilSecond(at), _) => Some(Span::exactly(at * 1000)),
        (Life::Seconds(n), _) => Some(shortened(n * 1000)),
        (Life::Millis(n), _) => Some(shortened(n)),
        (Life::Keep, Some(until)) => until,
        (Life::OfType | Life::Keep, _) => match policy.ttl_ms.unwrap_or(DEFAULT_TTL_MS) {
            0 => None,
            ttl_ms => Some(shortened(ttl_ms)),
        },
    };
    match policy.max_ttl_ms.unwrap_or(0) {
        0 => until,
        most => Some(until.map_or(now.plus(most), |until| until.min(now.plus(most)))),
    }
}

fn type_fields(policy: &Policy) -> Expect {
    let number = |number: Option<i64>| Expect::number(Some(number.unwrap_or(0)));
    let formats = policy.formats.unwrap_or_default();
    let mut fields = vec![
        ("grace", number(policy.grace_ms)),
        ("maxttl", number(policy.max_ttl_ms)),
        ("jitter", number(policy.jitter)),
        ("maxvalue", number(policy.max_value)),
        ("sliding", Expect::text(Some(if policy.sliding == Some(true) { "yes" } else { "no" }))),
        ("formats", Expect::Names(formats.iter().map(|name| name.as_bytes().to_vec()).collect())),
    ];
    fields.extend(policy.ttl_ms.map(|ms| ("ttl", Expect::number(Some(ms)))));
    Expect::Fields(fields)
}
