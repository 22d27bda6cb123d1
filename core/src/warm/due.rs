//! The keys that are due, one after the other.

use std::collections::BinaryHeap;

use super::keeper::Keeper;
use super::known::{Known, Now, Slot};
use super::rate::Score;

/// So many keys that are not to be offered are passed over for who looks ahead.
const PASSED_OVER: usize = 1024;

/// A walk over the keys that are due, of some types or of all. It may be left and taken up again while keys are being put off, given to somebody
/// or forgotten.
#[derive(Debug, Default)]
pub struct DueWalk {
    /// The next key of each type that is meant, or of all: `None`.
    heads: BinaryHeap<(Score, Slot, Option<u16>)>,
    /// It goes over all of the best, for what is fresh and ends until then, unix ms; and passes over so many more.
    ahead: Option<(i64, usize)>,
    /// Below that place it did not.
    unseen: Option<(Score, Slot)>,
}

impl DueWalk {
    /// The place after which it looked ahead no further.
    pub fn unseen(&self) -> Option<(Score, Slot)> {
        self.unseen
    }
}

impl Keeper {
    /// Begins a walk with what is worth most, or after a place at which another ended. Who looks ahead, by so many ms, is shown besides what ends
    /// until then; nothing changes by that for anybody else.
    pub fn walk(
        &self,
        types: Option<&[u16]>,
        after: Option<(Score, Slot)>,
        ahead_ms: Option<u64>,
        now: Now,
    ) -> DueWalk {
        let sorted = types.map(|types| {
            let mut sorted = types.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            sorted
        });
        if let Some(ahead_ms) = ahead_ms {
            let until_ms = now.unix().saturating_add(i64::try_from(ahead_ms).unwrap_or(i64::MAX));
            let heads = self.best_of(sorted.as_deref(), after).into_iter();
            let heads = heads.map(|(score, slot, type_id)| (score, slot, Some(type_id))).collect();
            return DueWalk { heads, ahead: Some((until_ms, PASSED_OVER)), unseen: None };
        }
        let sources = sorted.map_or(vec![None], |types| types.into_iter().map(Some).collect());
        let heads = sources.into_iter().filter_map(|source| self.next_of(source, after, false)).collect();
        DueWalk { heads, ..DueWalk::default() }
    }

    /// The next below a place: among those that are due, or among all of the best of a type.
    fn next_of(
        &self,
        source: Option<u16>,
        below: Option<(Score, Slot)>,
        is_ahead: bool,
    ) -> Option<(Score, Slot, Option<u16>)> {
        let all = match source {
            Some(type_id) if is_ahead => &self.types.get(&type_id)?.best,
            Some(type_id) => &self.types.get(&type_id)?.due,
            None => &self.due,
        };
        let found = match below {
            Some(below) => all.range(..below).next_back(),
            None => all.last(),
        };
        found.map(|(score, slot)| (*score, *slot, source))
    }

    /// The next key of a walk, with its place.
    pub fn next_due(&mut self, walk: &mut DueWalk, now: Now) -> Option<(Score, Slot)> {
        loop {
            let (score, slot, source) = walk.heads.pop()?;
            let place = (score, slot);
            let until_ms = walk.ahead.map(|(until_ms, _)| until_ms);
            if until_ms.is_some_and(|until_ms| !self.is_offered(slot, Some(until_ms))) {
                walk.heads.extend(self.next_of(source, Some(place), true));
                self.pass_over(walk, place);
                continue;
            }
            self.rank(slot, now);
            walk.heads.extend(self.next_of(source, Some(place), until_ms.is_some()));
            let is_meant = |type_id| source.is_none_or(|source| source == type_id);
            let is_offered = self.is_offered(slot, until_ms);
            let Some(known) = self.get(slot).filter(|known| is_offered && is_meant(known.type_id)) else { continue };
            // If its score was too high, it comes again where it belongs.
            if known.score >= score {
                return Some(place);
            }
        }
    }

    fn is_offered(&self, slot: Slot, until_ms: Option<i64>) -> bool {
        let is_ahead = |known: &Known| until_ms.is_some_and(|until_ms| known.is_offered_ahead(until_ms));
        self.get(slot).is_some_and(|known| known.is_due || is_ahead(known))
    }

    /// From some place on a walk is over those that are due only.
    fn pass_over(&self, walk: &mut DueWalk, place: (Score, Slot)) {
        let Some((_, left)) = &mut walk.ahead else { return };
        *left -= 1;
        if *left == 0 {
            (walk.ahead, walk.unseen) = (None, Some(place));
            let below = |(score, slot, source)| {
                let is_due = self.is_offered(slot, None);
                if is_due { Some((score, slot, source)) } else { self.next_of(source, Some((score, slot)), false) }
            };
            walk.heads = std::mem::take(&mut walk.heads).into_iter().filter_map(below).collect();
        }
    }

    /// Is any key due, of any or of these types?
    pub fn has_due(&self, types: Option<&[u16]>) -> bool {
        let of_type = |id: &u16| self.types.get(id).is_some_and(|of_type| !of_type.due.is_empty());
        !self.due.is_empty() && types.is_none_or(|types| types.iter().any(of_type))
    }

    /// Does any key's freshness end within so many ms?
    pub fn ends_within(&self, ms: u64, now: Now) -> bool {
        let until_ms = now.unix().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
        self.soon.first().is_some_and(|(at_ms, _)| *at_ms <= until_ms)
    }

    /// A key is not worth producing, unless somebody asks for it again.
    pub fn rest(&mut self, slot: Slot) {
        self.change(slot, |known| (known.is_resting, known.predicted) = (true, None));
    }

    /// A value is fresh after all, until that moment, unix ms.
    pub fn put_off(&mut self, slot: Slot, fresh_until_ms: Option<i64>) {
        self.change(slot, |known| {
            (known.is_lapsed, known.fresh_until_ms, known.predicted) = (false, fresh_until_ms, None);
        });
        self.wait_for_end(slot);
    }
}
