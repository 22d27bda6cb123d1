//! What clauses mean, and what becomes of the entries that are meant: by looking at every key of the database.

use super::{Item, Mark, Model, Reclaiming, Slot, Span};
use crate::mix::Expect;
use crate::mix::clause::{Clause, Pattern};
use crate::mix::step::Name;
use std::collections::BTreeMap;

/// A key whose reclaiming is still to come, in a database: it is to expire then, or to be gone.
pub type Unfinished = (usize, Name, Option<Span>);

impl Model {
    /// The keys of the entries for which all the clauses hold.
    pub(super) fn selected(&self, selector: &[Clause]) -> Vec<Name> {
        let entries = self.keys().iter().filter_map(|(key, slot)| Some((*key, slot.entry()?)));
        let meant = entries
            .filter(|(key, entry)| selector.iter().all(|clause| clause.holds(key, entry.type_name, &entry.tags)));
        meant.map(|(key, _)| key).collect()
    }

    pub(super) fn invalidate(&mut self, tags: &[Name]) -> Expect {
        let meant = self.selected(&[Clause::Any(tags.to_vec())]);
        meant.iter().for_each(|key| self.kill(key));
        Expect::int(meant.len())
    }

    pub(super) fn purge(
        &mut self,
        selector: &[Clause],
        soft: bool,
        dry_run: bool,
        keys: Option<usize>,
        now: Span,
    ) -> Expect {
        let mut meant = self.selected(selector);
        meant.retain(|key| !soft || self.keys()[key].is_fresh(now));
        if !dry_run {
            meant.iter().for_each(|key| if soft { self.soften(key, now) } else { self.kill(key) });
        }
        match keys {
            None => Expect::int(meant.len()),
            Some(most) => Expect::Some {
                number: meant.len() as i64,
                names: meant.len().min(most),
                of: meant.iter().map(|key| key.to_vec()).collect(),
            },
        }
    }

    fn kill(&mut self, key: Name) {
        match self.reclaiming {
            Reclaiming::BeforeTheReply => drop(self.keys_mut().remove(key)),
            Reclaiming::Later => self.mark(key, Mark::Dead),
        }
    }

    /// The grace is the entry's, or else its type's, and then the entry has it; without any it is gone.
    fn soften(&mut self, key: Name, now: Span) {
        let Some(entry) = self.keys().get(key).and_then(Slot::entry) else { return };
        let of_type = self.policy_of(entry.type_name).grace_ms.unwrap_or(0);
        let grace_ms = if entry.grace_ms > 0 { entry.grace_ms } else { of_type };
        if grace_ms == 0 {
            return self.kill(key);
        }
        self.mark(key, Mark::Soft { moment: now, pending: true });
        if let Some(Slot { item: Item::Entry(entry), .. }) = self.keys_mut().get_mut(key) {
            entry.grace_ms = grace_ms;
        }
        if self.reclaiming == Reclaiming::BeforeTheReply {
            self.reclaim();
        }
    }

    fn mark(&mut self, key: Name, mark: Mark) {
        if let Some(Slot { item: Item::Entry(entry), .. }) = self.keys_mut().get_mut(key) {
            entry.mark = mark;
        }
    }

    pub(super) fn scan(&self, selector: &[Clause]) -> Expect {
        let names = self.selected(selector).iter().map(|key| key.to_vec()).collect();
        Expect::Items(vec![Expect::text(Some("0")), Expect::Names(names)])
    }

    pub(super) fn tags(&self, pattern: Option<Pattern>) -> Expect {
        let mut numbers = BTreeMap::new();
        for tag in self.keys().values().filter_map(Slot::entry).flat_map(|entry| &entry.tags) {
            if pattern.is_none_or(|pattern| (pattern.holds)(tag)) {
                *numbers.entry(tag.to_vec()).or_insert(0) += 1;
            }
        }
        Expect::Items(vec![Expect::text(Some("0")), Expect::Numbers(numbers)])
    }

    /// Which keys are not yet dealt with.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        let keys = |db: usize| self.dbs[db].iter().map(move |(key, slot)| (db, *key, slot));
        let all = (0..self.dbs.len()).flat_map(keys);
        all.filter_map(|(db, key, slot)| slot.to_become().map(|expire_at| (db, key, expire_at))).collect()
    }

    /// Deals with all of them.
    pub fn reclaim(&mut self) {
        for (db, key, expire_at) in self.unfinished() {
            match self.dbs[db].get_mut(key) {
                Some(slot) if expire_at.is_some() => slot.reclaim(expire_at),
                _ => drop(self.dbs[db].remove(key)),
            }
        }
    }
}

impl Slot {
    /// What is still to be done with its key: `None` if nothing is.
    fn to_become(&self) -> Option<Option<Span>> {
        match &self.item {
            Item::Entry(entry) => match entry.mark {
                Mark::Dead => Some(None),
                Mark::Soft { moment, pending: true } => Some(Some(moment.plus(entry.grace_ms))),
                _ => None,
            },
            _ => None,
        }
    }

    fn reclaim(&mut self, expire_at: Option<Span>) {
        self.expire_at = expire_at;
        if let Item::Entry(entry) = &mut self.item
            && let Mark::Soft { pending, .. } = &mut entry.mark
        {
            *pending = false;
        }
    }
}
