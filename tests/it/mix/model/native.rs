//! The native commands of the mix, as the servers document them.

use super::{Entry, Item, Mark, Model, SAME_OBJECT, Slot, Span, WRONGTYPE};
use crate::harness::Value;
use crate::mix::Expect;
use crate::mix::step::{Name, Step, value};
use std::collections::{BTreeMap, BTreeSet};

impl Model {
    pub(super) fn apply_native(&mut self, step: &Step, now: Span) -> Expect {
        match step {
            Step::Select(db) => {
                self.db = *db;
                Expect::ok()
            }
            Step::Del { keys, .. } => self.delete(keys),
            Step::Rename { by, from, to } => self.rename(*by == "RENAMENX", from, to),
            Step::Copy { from, to, db, replace } => self.copy(from, to, db.unwrap_or(self.db), *replace),
            Step::Move { key, db } => self.relocate(key, *db),
            Step::SwapDb(a, b) => {
                self.dbs.swap(*a, *b);
                Expect::ok()
            }
            Step::FlushDb(_) => {
                self.keys_mut().clear();
                Expect::ok()
            }
            Step::FlushAll(_) => {
                self.dbs.iter_mut().for_each(BTreeMap::clear);
                Expect::ok()
            }
            Step::ExpireAt { by, key, at_ms } => {
                self.expire_at(key, if *by == "EXPIREAT" { at_ms / 1000 * 1000 } else { *at_ms }, now)
            }
            Step::Persist(key) => {
                let slot = self.keys_mut().get_mut(key).filter(|slot| slot.expire_at.is_some());
                let persisted = slot.map(|slot| slot.date(None)).is_some();
                Expect::int(persisted.into())
            }
            Step::ExpireTime(key) => match self.keys().get(key).map(|slot| slot.expire_at) {
                None => Expect::number(Some(-2)),
                Some(None) => Expect::number(Some(-1)),
                Some(Some(span)) => Expect::Between(span),
            },
            Step::NativeSet { key, value: n, option } => self.native_set(key, value(*n), option),
            Step::NativeGet(key) => match self.keys().get(key).map(|slot| &slot.item) {
                None => Expect::nil(),
                Some(Item::Text(text)) => Expect::text(Some(text)),
                Some(_) => WRONGTYPE,
            },
            Step::AddMember { key, member } => self.add_member(key, member),
            Step::Union { to, from } => self.union(to, from),
            Step::Dump(key) => match self.keys().get(key) {
                None => Expect::nil(),
                Some(slot) => {
                    self.dumped = Some(slot.item.dumped());
                    Expect::Anything
                }
            },
            Step::Restore { key, at_ms, replace } => self.restore(key, *at_ms, *replace, now),
            Step::TypeOf(key) => Expect::Is(Value::Simple(self.type_of(key).into())),
            Step::Exists(keys) => Expect::int(keys.iter().filter(|key| self.keys().contains_key(*key)).count()),
            Step::DbSize => Expect::int(self.keys().len()),
            Step::ListEntries => {
                let entries = self.keys().iter().filter(|(_, slot)| !slot.is_foreign());
                let names = entries.map(|(key, _)| key.to_vec()).collect();
                Expect::Items(vec![Expect::text(Some("0")), Expect::Names(names)])
            }
            cache => unreachable!("{cache:?}"),
        }
    }

    fn rename(&mut self, only_if_absent: bool, from: Name, to: Name) -> Expect {
        let done = if only_if_absent { Expect::int(1) } else { Expect::ok() };
        if !self.keys().contains_key(from) {
            return Expect::Error("ERR no such key");
        }
        if only_if_absent && self.keys().contains_key(to) {
            return Expect::int(0);
        }
        if let Some(slot) = self.keys_mut().remove(from) {
            self.keys_mut().insert(to, slot);
        }
        done
    }

    fn copy(&mut self, from: Name, to: Name, db: usize, replace: bool) -> Expect {
        if from == to && db == self.db {
            return SAME_OBJECT;
        }
        match self.keys().get(from).cloned() {
            Some(slot) if replace || !self.dbs[db].contains_key(to) => {
                self.dbs[db].insert(to, slot);
                Expect::int(1)
            }
            _ => Expect::int(0),
        }
    }

    fn relocate(&mut self, key: Name, db: usize) -> Expect {
        if db == self.db {
            return SAME_OBJECT;
        }
        if self.dbs[db].contains_key(key) {
            return Expect::int(0);
        }
        let Some(slot) = self.keys_mut().remove(key) else { return Expect::int(0) };
        self.dbs[db].insert(key, slot);
        Expect::int(1)
    }

    fn expire_at(&mut self, key: Name, at_ms: i64, now: Span) -> Expect {
        let at = Span::exactly(at_ms);
        match self.keys_mut().get_mut(key) {
            None => return Expect::int(0),
            Some(slot) if at.is_after(now) => slot.date(Some(at)),
            Some(_) => drop(self.keys_mut().remove(key)),
        }
        Expect::int(1)
    }

    fn native_set(&mut self, key: Name, text: Vec<u8>, option: &str) -> Expect {
        let old = self.keys().get(key).cloned();
        let reply = match (option, &old) {
            ("NX", Some(_)) | ("XX", None) => return Expect::nil(),
            ("GET", Some(Slot { item: Item::Text(text), .. })) => Expect::text(Some(text)),
            ("GET", Some(_)) => return WRONGTYPE,
            ("GET", None) => Expect::nil(),
            _ => Expect::ok(),
        };
        let expire_at = old.and_then(|slot| slot.expire_at).filter(|_| option == "KEEPTTL");
        self.keys_mut().insert(key, Slot { item: Item::Text(text), expire_at });
        reply
    }

    fn add_member(&mut self, key: Name, member: Name) -> Expect {
        let new = Slot { item: Item::Members(BTreeSet::new()), expire_at: None };
        match &mut self.keys_mut().entry(key).or_insert(new).item {
            Item::Members(members) => Expect::int(members.insert(member).into()),
            _ => WRONGTYPE,
        }
    }

    fn union(&mut self, to: Name, from: &[Name]) -> Expect {
        let mut all = BTreeSet::new();
        for slot in from.iter().filter_map(|key| self.keys().get(key)) {
            match &slot.item {
                Item::Members(members) => all.extend(members.iter().copied()),
                _ => return WRONGTYPE,
            }
        }
        let size = all.len();
        self.keys_mut().remove(to);
        if size > 0 {
            self.keys_mut().insert(to, Slot { item: Item::Members(all), expire_at: None });
        }
        Expect::int(size)
    }

    fn restore(&mut self, key: Name, at_ms: i64, replace: bool, now: Span) -> Expect {
        if !replace && self.keys().contains_key(key) {
            return Expect::Error("BUSYKEY");
        }
        let Some(item) = self.dumped.clone() else { return Expect::Error("ERR DUMP payload") };
        let expire_at = (at_ms > 0).then(|| Span::exactly(at_ms));
        if expire_at.is_none_or(|at| at.is_after(now)) {
            self.keys_mut().insert(key, Slot { item, expire_at });
        } else {
            self.keys_mut().remove(key);
        }
        Expect::ok()
    }

    fn type_of(&self, key: Name) -> &'static str {
        match self.keys().get(key).map(|slot| &slot.item) {
            None => "none",
            Some(Item::Entry(_)) => "exp-cache",
            Some(Item::Text(_)) => "string",
            Some(Item::Members(_)) => "set",
        }
    }
}

impl Slot {
    /// Gives it another expiry. That decides from now on how long it is fresh, unless the entry is gone or was softly invalidated.
    fn date(&mut self, expire_at: Option<Span>) {
        self.expire_at = expire_at;
        if let Item::Entry(Entry { mark, .. }) = &mut self.item {
            match mark {
                Mark::Over { .. } => *mark = Mark::None,
                Mark::Soft { pending, .. } => *pending = false,
                Mark::None | Mark::Dead => (),
            }
        }
    }
}

impl Item {
    /// It, as a dump holds it: when its freshness ends is not part of it, only that it was invalidated is.
    fn dumped(&self) -> Item {
        let mut item = self.clone();
        if let Item::Entry(Entry { mark, .. }) = &mut item
            && matches!(mark, Mark::Over { .. })
        {
            *mark = Mark::None;
        }
        item
    }
}
