//! The keys of one type, by what they are worth.

use std::collections::BTreeSet;

use super::known::{Slot, Tier};
use super::rate::Score;

/// Besides the best so many keys of a type are kept at least.
const LEAST_REST: usize = 16;

/// The keys of one type.
#[derive(Default)]
pub(super) struct OfType {
    pub name: Box<[u8]>,
    pub best: BTreeSet<(Score, Slot)>,
    pub rest: BTreeSet<(Score, Slot)>,
    pub tried: BTreeSet<(i64, Slot)>,
    pub new: BTreeSet<(i64, Slot)>,
    pub due: BTreeSet<(Score, Slot)>,
    pub most: usize,
}

impl OfType {
    pub fn all(&self) -> impl Iterator<Item = &(i64, Slot)> {
        self.best.iter().chain(&self.rest).chain(&self.tried).chain(&self.new)
    }

    pub fn of_mut(&mut self, tier: Tier) -> &mut BTreeSet<(Score, Slot)> {
        match tier {
            Tier::Best => &mut self.best,
            Tier::Rest => &mut self.rest,
            Tier::Tried => &mut self.tried,
            Tier::New => &mut self.new,
        }
    }

    /// How many are kept besides the best, of each kind.
    pub fn most_rest(&self) -> usize {
        if self.most == 0 { 0 } else { self.most / 4 + LEAST_REST }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Are the best as many as they are to be, and no more kept than that?
    pub fn is_balanced(&self) -> bool {
        let are_full = self.best.len() == self.most || self.rest.is_empty();
        let most_rest = self.most_rest();
        are_full && [&self.rest, &self.tried, &self.new].iter().all(|all| all.len() <= most_rest)
    }
}
