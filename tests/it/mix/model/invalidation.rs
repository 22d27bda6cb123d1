//! What clauses mean, and what becomes of the entries that are meant: by looking at every key of the database.

use super::{Item, Mark, Model, Reclaiming, Slot, Span};
use crate::mix::Expect;
use crate::mix::clause::{Clause, Pattern};
use crate::mix::step::Name;
use std::collections::BTreeMap;

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

    /// The grace is the entry's, or else its type's; without any it is gone.
    fn soften(&mut self, key: Name, now: Span) {
        let Some(entry) = self.keys().get(key).and_then(Slot::entry) else { return };
        let of_type = self.policy_of(entry.type_name).grace_ms.unwrap_or(0);
        let grace_ms = if entry.grace_ms > 0 { entry.grace_ms } else { of_type };
        if grace_ms == 0 {
            return self.kill(key);
        }
        self.mark(key, Mark::Soft { moment: now, grace_ms, pending: true });
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

    /// Deals with all that waits to be dealt with.
    pub fn reclaim(&mut self) {
        for db in &mut self.dbs {
            db.retain(|_, slot| slot.stored().is_none_or(|entry| entry.mark != Mark::Dead));
            db.values_mut().for_each(Slot::reclaim);
        }
    }
}

impl Slot {
    fn reclaim(&mut self) {
        let Item::Entry(entry) = &mut self.item else { return };
        if let Mark::Soft { moment, grace_ms, pending } = &mut entry.mark
            && *pending
        {
            *pending = false;
            self.expire_at = Some(moment.plus(*grace_ms));
        }
    }
}
