//! Who is first by a figure, without a walk and without a word kept for those who are not.
//!
//! A ranking lists some entries with their figures, and knows a *bound*: nobody who is not listed has more. Whoever comes above
//! the bound is listed; when there are too many, the least leave and the bound rises to the largest of them. So the list is at
//! any time exactly the top of all entries, as long as it is: somebody who leaves it makes it shorter, never wrong. (Entries of
//! equal figures stand in any order, and one of them may be listed where another is not.)
//!
//! A list that has become short is [reopened](Ranking::reopen): the bound falls to nothing, all entries are shown to it again, a
//! few at a time, and when all were, it is whole. Until then it may lack some that were not shown to it yet.
//!
//! On the way of a hit that is one comparison, for an entry above the bound a look-up in a small table.

use hashbrown::HashMap;

/// So many of the first are told of; a list with fewer is to be completed.
pub const TOP_MAX: usize = 64;
/// As many are listed at most.
const MOST: usize = 3 * TOP_MAX;
/// As many stay when there were more.
const KEPT: usize = MOST / 2;

/// What entries are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// How often they were handed out.
    Hits,
    /// The length of their payload.
    Size,
    /// What producing them took.
    Cost,
    /// What their hits saved: their number times the cost.
    Saved,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hits, Self::Size, Self::Cost, Self::Saved];
}

/// An entry's figures, in the order of [`By::ALL`]. An entry is not ranked by what is 0.
pub type Figures = [u64; By::ALL.len()];

/// The figures of an entry.
pub fn figures(hits: u64, size: u64, cost_ms: u64) -> Figures {
    [hits, size, cost_ms, hits.saturating_mul(cost_ms)]
}

/// The ranking by one figure. See the module's head.
#[derive(Debug, Default)]
pub struct Ranking {
    listed: HashMap<u32, u64>,
    bound: u64,
}

impl Ranking {
    /// Shows it an entry: a new one, or one whose figure has grown.
    #[inline]
    pub fn show(&mut self, id: u32, figure: u64) {
        if self.wants(figure) {
            self.list(id, figure);
        }
    }

    /// What it lists of an entry, if it does.
    pub fn figure(&self, id: u32) -> Option<u64> {
        self.listed.get(&id).copied()
    }

    /// Would [`Ranking::show`] make a difference?
    #[inline]
    fn wants(&self, figure: u64) -> bool {
        figure > self.bound || figure == self.bound && figure > 0 && self.listed.len() < KEPT
    }

    /// As [`Ranking::show`], for an entry whose figure has grown, if it is listed or need not be. Was it so?
    #[inline]
    fn grow(&mut self, id: u32, figure: u64) -> bool {
        if !self.wants(figure) {
            return true;
        }
        let listed = self.listed.get_mut(&id);
        listed.map(|listed| *listed = figure).is_some()
    }

    fn list(&mut self, id: u32, figure: u64) {
        self.listed.insert(id, figure);
        if self.listed.len() > MOST {
            let mut all = self.sorted();
            if let Some((_, most)) = all.split_off(KEPT).first() {
                self.bound = *most;
            }
            self.listed = all.into_iter().collect();
        }
    }

    /// The entry goes, or its figure falls.
    pub fn remove(&mut self, id: u32, figure: u64) {
        if figure >= self.bound && figure > 0 {
            self.listed.remove(&id);
        }
    }

    /// Has it lost so many that it is to be completed?
    pub fn is_short(&self) -> bool {
        self.bound > 0 && self.listed.len() < TOP_MAX
    }

    /// From now on every entry is going to be shown to it.
    pub fn reopen(&mut self) {
        self.bound = 0;
    }

    /// Those who are listed with their figures, in no order.
    pub fn listed(&self) -> impl Iterator<Item = (u32, u64)> {
        self.listed.iter().map(|(id, figure)| (*id, *figure))
    }

    /// As [`Ranking::listed`], the first first.
    fn sorted(&self) -> Vec<(u32, u64)> {
        let mut all: Vec<(u32, u64)> = self.listed().collect();
        all.sort_unstable_by_key(|(id, figure)| (std::cmp::Reverse(*figure), *id));
        all
    }
}

/// A ranking by each figure.
#[derive(Debug, Default)]
pub struct Rankings([Ranking; By::ALL.len()]);

impl Rankings {
    /// Shows them an entry: a new one, or one whose figures have grown.
    #[inline]
    pub fn show(&mut self, id: u32, figures: Figures) {
        self.0.iter_mut().zip(figures).for_each(|(ranking, figure)| ranking.show(id, figure));
    }

    /// As [`Rankings::show`], for an entry that was hit: what it costs and how long it is has not changed. `false` if it is not
    /// listed yet where it should be: then it is to be shown.
    #[inline]
    pub fn grow(&mut self, id: u32, hits: u64, cost_ms: u64) -> bool {
        let [by_hits, _, _, by_saved] = &mut self.0;
        by_hits.grow(id, hits) & (cost_ms == 0 || by_saved.grow(id, hits.saturating_mul(cost_ms)))
    }

    /// The entry goes.
    pub fn remove(&mut self, id: u32, figures: Figures) {
        self.0.iter_mut().zip(figures).for_each(|(ranking, figure)| ranking.remove(id, figure));
    }

    /// The entry has other figures.
    pub fn change(&mut self, id: u32, old: Figures, new: Figures) {
        for (ranking, (old, new)) in self.0.iter_mut().zip(old.into_iter().zip(new)) {
            if new < old {
                ranking.remove(id, old);
            }
            if new != old {
                ranking.show(id, new);
            }
        }
    }

    /// The entry goes, and nobody knows its figures.
    pub fn forget(&mut self, id: u32) {
        self.0.iter_mut().for_each(|ranking| _ = ranking.listed.remove(&id));
    }

    /// One of them.
    pub fn by(&self, by: By) -> &Ranking {
        let [hits, size, cost, saved] = &self.0;
        match by {
            By::Hits => hits,
            By::Size => size,
            By::Cost => cost,
            By::Saved => saved,
        }
    }

    /// Is one of them to be completed?
    pub fn are_short(&self) -> bool {
        self.0.iter().any(Ranking::is_short)
    }

    /// Reopens those that are to be completed.
    pub fn reopen(&mut self) {
        self.0.iter_mut().filter(|ranking| ranking.is_short()).for_each(Ranking::reopen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// As far as it goes, the list has the largest figures there are.
    fn is_exact(ranking: &Ranking, all: &BTreeMap<u32, u64>) {
        let mut expected: Vec<u64> = all.values().copied().filter(|figure| *figure > 0).collect();
        expected.sort_unstable_by_key(|figure| std::cmp::Reverse(*figure));
        let listed = ranking.sorted();
        assert!(listed.iter().all(|(id, figure)| all.get(id) == Some(figure)), "figures are those of the entries");
        let figures: Vec<u64> = listed.iter().map(|(_, figure)| *figure).collect();
        assert_eq!(Some(figures.as_slice()), expected.get(..figures.len()));
        assert!(ranking.is_short() || figures.len() >= TOP_MAX.min(expected.len()), "{}", figures.len());
    }

    #[test]
    fn the_list_is_the_top_whatever_comes_grows_and_goes() {
        let (mut rng, mut ranking, mut all) = (fastrand::Rng::with_seed(1), Ranking::default(), BTreeMap::new());
        for step in 0..200_000u32 {
            let id = rng.u32(..5000);
            let old = all.get(&id).copied();
            // Crowds come and go: for a while most steps are removals.
            let goes = rng.u64(..100) < if step / 20_000 % 2 == 0 { 5 } else { 60 };
            match (old, goes) {
                (Some(figure), true) => {
                    ranking.remove(id, figure);
                    all.remove(&id);
                }
                (None, true) => (),
                (old, false) => {
                    let figure = old.unwrap_or(0) + rng.u64(..4);
                    ranking.show(id, figure);
                    all.insert(id, figure);
                }
            }
            if ranking.is_short() {
                ranking.reopen();
                all.iter().for_each(|(id, figure)| ranking.show(*id, *figure));
            }
            if step % 500 == 0 {
                is_exact(&ranking, &all);
            }
        }
    }

    #[test]
    fn a_short_list_is_right_and_completed_while_all_goes_on() {
        let (mut ranking, mut all) = (Ranking::default(), BTreeMap::new());
        for id in 0..1000u32 {
            ranking.show(id, u64::from(id) + 1);
            all.insert(id, u64::from(id) + 1);
        }
        for id in 0..20 {
            let id = 999 - id;
            ranking.remove(id, all.remove(&id).unwrap_or(0));
            is_exact(&ranking, &all);
        }
        while !ranking.is_short() {
            let Some((id, figure)) = ranking.sorted().first().copied() else { break };
            ranking.remove(id, figure);
            all.remove(&id);
        }
        is_exact(&ranking, &all);
        ranking.reopen();
        let there: Vec<u32> = all.keys().copied().collect();
        for (at, id) in there.into_iter().enumerate() {
            if let Some(figure) = all.get(&id) {
                ranking.show(id, *figure);
            }
            // Meanwhile some grow, some go, some come.
            let (grown, gone, new) = ((at as u32 * 7) % 900, (at as u32 * 13) % 900, 2000 + at as u32);
            if let Some(figure) = all.get_mut(&grown) {
                *figure += 300;
                ranking.show(grown, *figure);
            }
            if let Some(figure) = all.remove(&gone) {
                ranking.remove(gone, figure);
            }
            all.insert(new, 500);
            ranking.show(new, 500);
        }
        is_exact(&ranking, &all);
    }

    #[test]
    fn equal_figures_do_not_wear_a_list_out() {
        let mut ranking = Ranking::default();
        for id in 0..10_000 {
            ranking.show(id, 100);
        }
        for id in 0..10_000 {
            ranking.remove(id, 100);
            ranking.show(10_000 + id, 100);
            assert!(!ranking.is_short());
        }
        assert!(ranking.sorted().len() >= TOP_MAX && ranking.sorted().len() <= MOST);
    }

    #[test]
    fn an_entry_is_ranked_by_each_of_its_figures() {
        let mut rankings = Rankings::default();
        rankings.show(1, figures(0, 10, 5));
        rankings.show(2, figures(3, 20, 0));
        let ids = |rankings: &Rankings, by| rankings.by(by).sorted().iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(By::ALL.map(|by| ids(&rankings, by)), [vec![2], vec![2, 1], vec![1], vec![]]);
        assert!(rankings.grow(2, 3, 0) && !rankings.grow(1, 1, 5) && rankings.by(By::Saved).sorted().is_empty());
        rankings.change(1, figures(0, 10, 5), figures(9, 10, 5));
        assert_eq!(rankings.by(By::Saved).sorted(), [(1, 45)]);
        rankings.change(1, figures(9, 10, 5), figures(0, 30, 5));
        assert_eq!(By::ALL.map(|by| ids(&rankings, by)), [vec![2], vec![1, 2], vec![1], vec![]]);
        rankings.remove(2, figures(3, 20, 0));
        rankings.forget(1);
        assert_eq!(By::ALL.map(|by| ids(&rankings, by).len()), [0; 4]);
    }
}
