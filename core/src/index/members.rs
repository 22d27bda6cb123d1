//! The ids of one tag's entries: runs of differences while they are some thousands, a roaring bitmap (Lemire et al., 2016)
//! beyond.
//!
//! Most tags have few entries, and their ids lie far apart: a run takes one byte for an id that is less than 128 after the
//! one before it, two for one less than 16,384 after. A bitmap takes two to four, and some 60 for each 65,536 numbers it
//! touches; but sets of millions are united and intersected as bitmaps in no time.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use super::run::Run;

/// From so many runs on (twenty to thirty thousand ids) they are a bitmap.
const MANY: usize = 256;

pub(super) enum Members {
    Run(Run),
    Runs(Box<Runs>),
    Bitmap(Box<RoaringBitmap>),
}

impl Default for Members {
    fn default() -> Self {
        Self::Run(Run::default())
    }
}

impl Members {
    pub(super) fn insert(&mut self, id: u32) {
        match self {
            Self::Run(run) if run.is_full() => {
                let mut runs = Runs { len: run.len() as u64, runs: vec![std::mem::take(run)] };
                runs.insert(id);
                *self = Self::Runs(Box::new(runs));
            }
            Self::Run(run) => {
                run.insert(id);
            }
            Self::Runs(runs) => {
                runs.insert(id);
                if runs.runs.len() >= MANY {
                    *self = Self::Bitmap(Box::new(bitmap(runs.iter())));
                }
            }
            Self::Bitmap(ids) => {
                ids.insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: u32) {
        match self {
            Self::Run(run) => {
                run.remove(id);
            }
            Self::Runs(runs) => {
                runs.remove(id);
                if runs.runs.len() < 2 {
                    *self = Self::Run(runs.runs.pop().unwrap_or_default());
                }
            }
            Self::Bitmap(ids) => {
                ids.remove(id);
            }
        }
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        match self {
            Self::Run(run) => run.contains(id),
            Self::Runs(runs) => runs.runs.get(runs.place(id)).is_some_and(|run| run.contains(id)),
            Self::Bitmap(ids) => ids.contains(id),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Run(run) => run.len() as u64,
            Self::Runs(runs) => runs.len,
            Self::Bitmap(ids) => ids.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Run(run) => run.is_empty(),
            Self::Runs(_) => false,
            Self::Bitmap(ids) => ids.is_empty(),
        }
    }

    pub(super) fn are_all_in(&self, others: &RoaringBitmap) -> bool {
        match self {
            Self::Run(run) => run.iter().all(|id| others.contains(id)),
            Self::Runs(runs) => runs.iter().all(|id| others.contains(id)),
            Self::Bitmap(ids) => ids.is_subset(others),
        }
    }

    /// The first `count` of them from `start` on, in rising order.
    pub(super) fn from(&self, start: u32, count: usize) -> Vec<u32> {
        match self {
            Self::Run(run) => run.iter().skip_while(|id| *id < start).take(count).collect(),
            Self::Runs(runs) => runs.from(start).take(count).collect(),
            Self::Bitmap(ids) => ids.range(start..).take(count).collect(),
        }
    }

    /// About how many steps it takes to count those that are not in `others`.
    pub(super) fn counting(&self, others: &RoaringBitmap) -> u64 {
        match self {
            _ if others.is_empty() => 1,
            Self::Run(_) | Self::Runs(_) => 16 * self.len(),
            Self::Bitmap(ids) => ids.len() / 4,
        }
    }

    /// How many are not in `others`.
    pub(super) fn len_without(&self, others: &RoaringBitmap) -> u64 {
        match self {
            _ if others.is_empty() => self.len(),
            Self::Run(run) => run.iter().filter(|id| !others.contains(*id)).count() as u64,
            Self::Runs(runs) => runs.iter().filter(|id| !others.contains(*id)).count() as u64,
            Self::Bitmap(ids) => ids.len() - ids.intersection_len(others),
        }
    }

    /// As a set to do arithmetic with.
    pub(super) fn as_bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Self::Run(run) => Cow::Owned(bitmap(run.iter())),
            Self::Runs(runs) => Cow::Owned(bitmap(runs.iter())),
            Self::Bitmap(ids) => Cow::Borrowed(ids),
        }
    }

    /// Adds all of them to `union`.
    pub(super) fn unite_into(&self, union: &mut RoaringBitmap) {
        match self {
            Self::Run(run) => union.extend(run.iter()),
            Self::Runs(runs) => *union |= bitmap(runs.iter()),
            Self::Bitmap(ids) => *union |= &**ids,
        }
    }
}

fn bitmap(rising_ids: impl Iterator<Item = u32>) -> RoaringBitmap {
    RoaringBitmap::from_sorted_iter(rising_ids).unwrap_or_default()
}

/// Several runs, one after the other; none is empty.
pub(super) struct Runs {
    runs: Vec<Run>,
    len: u64,
}

impl Runs {
    fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(Run::iter)
    }

    fn from(&self, start: u32) -> impl Iterator<Item = u32> {
        let runs = self.runs.get(self.place(start)..).unwrap_or_default();
        runs.iter().flat_map(Run::iter).skip_while(move |id| *id < start)
    }

    /// Which run an id is in, or should be.
    fn place(&self, id: u32) -> usize {
        let at = self.runs.partition_point(|run| run.last().is_some_and(|last| last < id));
        at.min(self.runs.len() - 1)
    }

    fn insert(&mut self, id: u32) {
        let mut at = self.place(id);
        if self.runs.get(at).is_some_and(Run::is_full) {
            self.widen(at, id);
            at = self.place(id);
        }
        if self.runs.get_mut(at).is_some_and(|run| run.insert(id)) {
            self.len += 1;
        }
    }

    /// Makes room in or beside a full run for an id.
    fn widen(&mut self, at: usize, id: u32) {
        // Growing by a quarter rather than doubling: there are many lists.
        if self.runs.len() == self.runs.capacity() {
            self.runs.reserve_exact(self.runs.len() / 4 + 1);
        }
        let Some(run) = self.runs.get_mut(at) else { return };
        if run.last().is_some_and(|last| last < id) {
            // Rising ids leave full runs behind, not halves.
            self.runs.insert(at + 1, Run::from_iter([id]));
            self.len += 1;
        } else {
            let upper = run.split();
            self.runs.insert(at + 1, upper);
        }
    }

    fn remove(&mut self, id: u32) {
        let at = self.place(id);
        let Some(run) = self.runs.get_mut(at) else { return };
        if !run.remove(id) {
            return;
        }
        self.len -= 1;
        if run.is_empty() {
            self.runs.remove(at);
        } else {
            self.merge(at);
            self.merge(at.saturating_sub(1));
        }
        if self.runs.len() < self.runs.capacity() / 2 {
            self.runs.shrink_to_fit();
        }
    }

    /// Makes one run of two neighbours that are small.
    fn merge(&mut self, at: usize) {
        let Some([run, next]) = self.runs.get_mut(at..).and_then(<[Run]>::first_chunk_mut) else { return };
        if run.is_small_beside(next) {
            next.iter().for_each(|id| {
                run.insert(id);
            });
            self.runs.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn agree(members: &Members, model: &BTreeSet<u32>) {
        assert_eq!((members.len(), members.is_empty()), (model.len() as u64, model.is_empty()));
        let mut union = RoaringBitmap::new();
        members.unite_into(&mut union);
        assert!(union.iter().eq(model.iter().copied()));
        assert_eq!((&*members.as_bitmap(), members.len_without(&union)), (&union, 0));
        for start in model.iter().step_by(97).flat_map(|id| [*id, id.saturating_add(1)]).chain([0]) {
            assert!(members.from(start, 3).into_iter().eq(model.range(start..).take(3).copied()));
        }
        assert!(members.are_all_in(&union));
        if let Some(some) = model.first() {
            union.remove(*some);
            assert!(!members.are_all_in(&union));
        }
    }

    #[test]
    fn every_form_is_the_set_that_it_stands_for() {
        for (spread, most) in [(40, 30), (3000, 1000), (3_000_000, 20_000), (u64::from(u32::MAX), 60), (50_000, 40_000)]
        {
            let (mut members, mut model) = (Members::default(), BTreeSet::new());
            let mut rng = fastrand::Rng::with_seed(1);
            let mut any = || rng.u64(..spread) as u32;
            for grows in [true, false, true, false] {
                while if grows { model.len() < most } else { !model.is_empty() } {
                    let id = any();
                    if grows {
                        members.insert(id);
                        model.insert(id);
                        assert!(members.contains(id));
                        continue;
                    }
                    // Any id, there or not, and the one after it, so that it comes to an end.
                    for id in [Some(id), model.range(id..).next().copied(), model.last().copied()].into_iter().flatten()
                    {
                        members.remove(id);
                        model.remove(&id);
                        assert!(!members.contains(id));
                    }
                    if model.len() % 512 == 0 {
                        agree(&members, &model);
                    }
                }
                agree(&members, &model);
            }
        }
    }

    #[test]
    fn rising_ids_fill_runs_and_many_are_a_bitmap() {
        let mut members = Members::default();
        (0..30_000).for_each(|n| members.insert(n * 10));
        let Members::Runs(runs) = &members else { unreachable!("30,000 bytes are not too many for runs") };
        assert!(runs.runs.len() <= 30_000 / 120 && runs.runs.capacity() <= runs.runs.len() * 5 / 4 + 1);
        (30_000..40_000).for_each(|n| members.insert(n * 10));
        assert!(matches!(members, Members::Bitmap(_)));
        (0..40_000).for_each(|n| members.remove(n * 10));
        assert!(members.is_empty());
    }
}
