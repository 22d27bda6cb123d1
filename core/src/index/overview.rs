//! Figures about a type's entries that need no walk: rankings and remaining lifetimes.
//!
//! Both follow every way in which an entry comes, goes or changes. When the freshness of an entry ends follows mostly from the
//! entry itself, so nothing is kept for it; of those whose key's expiry was moved, and of those with a grace, the date is kept.

use super::dates::date_of;
use super::{Index, TypeMembers};
use crate::entry::Entry;
use crate::stats::ranking::{By, Figures, TOP_MAX, figures};
use crate::stats::spread::{Left, NEVER};

fn figures_of(entry: &Entry) -> Figures {
    figures(entry.hits().into(), entry.size() as u64, entry.cost_ms().unwrap_or(0))
}

/// The lifetime that an entry was stored with, in ms; 0: without end. With a grace that is much longer it counts as longer, or the
/// stale would be spread over too many steps.
fn life_ms(entry: &Entry) -> u64 {
    entry.lifetime_ms().max(entry.grace_ms() / 64)
}

/// When its freshness ends if nobody moved its key's expiry.
pub(super) fn stored_date(entry: &Entry) -> u64 {
    match entry.lifetime_ms() {
        0 => NEVER,
        lifetime => entry.created_ms().saturating_add(lifetime),
    }
}

impl TypeMembers {
    pub(super) fn count_in(&mut self, entry: &Entry, date: u64) {
        self.rankings.show(entry.id(), figures_of(entry));
        self.spread.add(date, life_ms(entry));
    }

    pub(super) fn count_out(&mut self, entry: &Entry, date: u64) {
        self.rankings.remove(entry.id(), figures_of(entry));
        self.spread.remove(date, life_ms(entry));
    }

    /// Without entries there is nothing to tell, and no room to be kept for it.
    pub(super) fn drop_if_empty(&mut self) {
        if self.ids.is_empty() {
            (self.rankings, self.spread) = Default::default();
        }
    }

    /// Both have the same id.
    pub(super) fn recount(&mut self, (old, old_date): (&Entry, u64), (new, date): (&Entry, u64)) {
        self.rankings.change(new.id(), figures_of(old), figures_of(new));
        self.spread.remove(old_date, life_ms(old));
        self.spread.add(date, life_ms(new));
    }
}

impl Index {
    /// When the freshness of a linked entry ends: with the soft invalidation that was carried out, else by its key's expiry.
    pub(super) fn date_of(&self, entry: &Entry) -> u64 {
        self.softened.get(entry.id()).unwrap_or_else(|| self.date_by_expiry(entry))
    }

    /// When the freshness of a linked entry ends by its key's expiry.
    pub(super) fn date_by_expiry(&self, entry: &Entry) -> u64 {
        let kept = if entry.grace_ms() > 0 { &self.dates } else { &self.moved };
        if kept.ids().is_empty() {
            return stored_date(entry);
        }
        kept.get(entry.id()).unwrap_or_else(|| stored_date(entry))
    }

    /// Notes when an entry's freshness ends.
    pub(super) fn date(&mut self, entry: &Entry, id: u32, fresh_until_ms: Option<i64>) {
        let date = date_of(fresh_until_ms);
        if entry.grace_ms() > 0 {
            self.moved.remove(id);
            return self.dates.set(id, date);
        }
        self.dates.remove(id);
        if date == stored_date(entry) {
            self.moved.remove(id);
        } else {
            self.moved.set(id, date);
        }
    }

    /// Ranks an entry that was hit, if it is listed where it comes to stand; else it is to be [ranked](Index::rank). Says whether
    /// that is all.
    #[inline]
    pub fn rank_hit(&mut self, entry: &Entry, cost_ms: u64) -> bool {
        let members = self.types.get_mut(usize::from(entry.type_id()));
        members.is_none_or(|members| members.rankings.grow(entry.id(), entry.hits().into(), cost_ms))
    }

    /// Is the entry stale earlier than it was stored to be?
    pub fn ends_early(&self, entry: &Entry) -> bool {
        self.date_of(entry) < stored_date(entry)
    }

    /// When a linked entry's key expires, unix ms; a long time hence if never.
    pub fn expires_ms(&self, entry: &Entry) -> u64 {
        self.date_by_expiry(entry).saturating_add(entry.grace_ms())
    }

    /// Ranks an entry by its figures, which may have grown.
    pub fn rank(&mut self, entry: &Entry) {
        if !entry.is_linked() || entry.index() != self.number {
            return;
        }
        if let Some(members) = self.types.get_mut(usize::from(entry.type_id())) {
            members.rankings.show(entry.id(), figures_of(entry));
        }
    }

    /// The first by a figure of one type or of all, in order: each one's id, type and figure. Dead ones are left out.
    pub fn top(&self, by: By, type_id: Option<u16>) -> Vec<(u32, u16, u64)> {
        let of_type = |(id, _): &(u16, _)| type_id.is_none_or(|wanted| wanted == *id);
        let mut top = Vec::new();
        for (type_id, members) in (0u16..).zip(&self.types).filter(of_type) {
            let ranking = members.rankings.by(by).listed();
            top.extend(ranking.filter(|(id, _)| !self.dead.contains(*id)).map(|(id, figure)| (id, type_id, figure)));
        }
        let order = |(id, _, figure): &(u32, u16, u64)| (std::cmp::Reverse(*figure), *id);
        if top.len() > TOP_MAX {
            top.select_nth_unstable_by_key(TOP_MAX, order);
            top.truncate(TOP_MAX);
        }
        top.sort_unstable_by_key(order);
        top
    }

    /// Is a ranking to be completed because it lost too many?
    pub fn lacks_ranks(&self) -> bool {
        self.types.iter().any(|members| members.rankings.are_short())
    }

    /// Lets rankings that are to be completed take in whoever is shown to them: every entry is going to be [ranked](Index::rank)
    /// anew.
    pub fn reopen_rankings(&mut self) {
        self.types.iter_mut().for_each(|members| members.rankings.reopen());
    }

    /// Says where rankings list an entry with other figures than it has.
    pub(super) fn check_ranks(&self, entry: &Entry, report: &mut dyn FnMut(String)) {
        let Some(members) = self.types.get(usize::from(entry.type_id())) else { return };
        for (by, figure) in By::ALL.into_iter().zip(figures_of(entry)) {
            if let Some(listed) = members.rankings.by(by).figure(entry.id()).filter(|listed| *listed != figure) {
                report(format!("id {} is ranked by {by:?} as {listed}, and has {figure}", entry.id()));
            }
        }
    }

    /// How many places of rankings belong to nobody.
    pub(super) fn stray_ranks(&self) -> usize {
        let strays = |members: &TypeMembers| {
            let listed = By::ALL.into_iter().flat_map(|by| members.rankings.by(by).listed());
            listed.filter(|(id, _)| !members.ids.contains(*id)).count()
        };
        self.types.iter().map(strays).sum()
    }

    /// Adds up how long the entries of a type have left, dead ones that wait to be reclaimed among them.
    pub fn add_left(&self, type_id: u16, now_ms: u64, left: &mut Left) {
        if let Some(members) = self.types.get(usize::from(type_id)) {
            members.spread.add_to(now_ms, left);
        }
    }
}
