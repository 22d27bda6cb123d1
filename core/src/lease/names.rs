//! The names that fences remember: of each no more than a mark, and the number that it had last.
//!
//! Names are spread over *shards* by their hashes. In a shard are two tables, of recent names and of those before them. A name that is
//! noted is recent. When there are as many of these as there may be, they become those before; these are forgotten, and the shard's
//! *floor* is raised: a name in it that is not remembered may have any number up to that. So
//!
//! 1. nothing is ever missed: of two names with one mark, both have the later number, and what is forgotten is below the floor;
//! 2. a name is remembered until as many others were noted in its shard as a table holds;
//! 3. every step takes constant time: a table is forgotten at once, and never has so many names that its growing would be felt.

use hashbrown::HashMap;

/// As many as there are values of so many bits.
const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;

/// With the shard's it makes 38 bits of a hash.
type Mark = u32;

/// The marks of names, and their numbers less that of the first.
#[derive(Default)]
struct Table {
    first: u64,
    latest: u64,
    numbers: HashMap<Mark, u32>,
}

impl Table {
    fn number(&self, mark: Mark) -> u64 {
        self.numbers.get(&mark).map_or(0, |since| self.first + u64::from(*since))
    }

    fn remove(&mut self, mark: Mark) -> u64 {
        self.numbers.remove(&mark).map_or(0, |since| self.first + u64::from(since))
    }

    fn has_room(&self, mark: Mark, number: u64, most: usize) -> bool {
        let is_near = self.numbers.is_empty() || u32::try_from(number.saturating_sub(self.first)).is_ok();
        is_near && (self.numbers.len() < most || self.numbers.contains_key(&mark))
    }

    /// Notes a number, if there is room for it. An earlier one than the first is rounded up.
    fn note(&mut self, mark: Mark, number: u64) {
        if self.numbers.is_empty() {
            self.first = number;
        }
        self.latest = self.latest.max(number);
        let since = u32::try_from(number.saturating_sub(self.first)).unwrap_or(u32::MAX);
        self.numbers.entry(mark).and_modify(|known| *known = since.max(*known)).or_insert(since);
    }

    fn drop_before(&mut self, number: u64) {
        if self.latest < number && !self.numbers.is_empty() {
            *self = Self::default();
        }
    }
}

#[derive(Default)]
struct Shard {
    recent: Table,
    before: Table,
    floor: u64,
}

impl Shard {
    fn number(&self, mark: Mark) -> u64 {
        self.recent.number(mark).max(self.before.number(mark)).max(self.floor)
    }

    fn note(&mut self, mark: Mark, number: u64, most: usize) {
        let number = self.before.remove(mark).max(number);
        if !self.recent.has_room(mark, number, most) {
            let full = std::mem::take(&mut self.recent);
            let before = std::mem::replace(&mut self.before, full);
            if !before.numbers.is_empty() {
                self.floor = self.floor.max(before.latest);
            }
        }
        self.recent.note(mark, number);
    }
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Names {
    /// None, until there is something in them.
    shards: Vec<Shard>,
    /// The latest number of all.
    latest: u64,
}

/// The last bits of a hash are the mark, the first ones choose the shard.
fn place(hash: u64) -> (usize, Mark) {
    ((hash >> (u64::BITS - SHARD_BITS)) as usize, hash as Mark)
}

/// How many names each table may have if all together may have `bound`: as many as fit the memory that they will take.
fn most_in_table(bound: usize) -> usize {
    let share = (bound / SHARDS / 2).max(1);
    // A table has a power of two of places, and 8 of them for 7 names.
    let places = 1 << (share.saturating_mul(8) / 7).ilog2();
    if places < 8 { share } else { places / 8 * 7 }
}

impl Names {
    /// Notes that the name with this hash has this number, unless it has a later one. There are no more than `bound`, about.
    pub(super) fn note(&mut self, hash: u64, number: u64, bound: usize) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, Shard::default);
        }
        self.latest = self.latest.max(number);
        let (at, mark) = place(hash);
        if let Some(shard) = self.shards.get_mut(at) {
            shard.note(mark, number, most_in_table(bound));
        }
    }

    /// The last number of the name with this hash, or a later one; 0 if it is known to have none.
    pub(super) fn number(&self, hash: u64) -> u64 {
        let (at, mark) = place(hash);
        self.shards.get(at).map_or(0, |shard| shard.number(mark))
    }

    /// Forgets what nobody asks for who asks whether a number is later than this one. Tables go as a whole.
    pub(super) fn drop_before(&mut self, number: u64) {
        for shard in &mut self.shards {
            shard.recent.drop_before(number);
            shard.before.drop_before(number);
        }
    }

    /// Is there nothing that is later?
    pub(super) fn is_before(&self, number: u64) -> bool {
        self.latest < number
    }

    /// Was nothing noted?
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// How many names are remembered.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.recent.numbers.len() + shard.before.numbers.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn nothing_is_missed_and_repeating_forgets_nothing() {
        let hasher = RandomState::new();
        for bound in [1, 1_000, 20_000] {
            let (mut names, mut latest) = (Names::default(), HashMap::new());
            for number in 1..100_000_u64 {
                let hash = hasher.hash_one(number * number % 2_003);
                // Sometimes one that was pushed out of somewhere else, which is older.
                let number = if number % 10 == 0 { number / 2 } else { number };
                names.note(hash, number, bound);
                latest.entry(hash).and_modify(|known| *known = number.max(*known)).or_insert(number);
            }
            assert!(latest.iter().all(|(hash, number)| names.number(*hash) >= *number), "bound {bound}");
            let exact = latest.iter().filter(|(hash, number)| names.number(**hash) == **number).count();
            assert_eq!(exact == latest.len(), bound == 20_000, "bound {bound}: {exact} of {}", latest.len());
            assert!(names.len() <= bound.max(2 * SHARDS));
        }
    }

    #[test]
    fn many_that_nobody_bears_are_taken_for_no_others() {
        // By default ten times as many may be remembered.
        let (hasher, bound, sure) = (RandomState::new(), 400_000, 100_000);
        let mut names = Names::default();
        let taken = |names: &Names, since: u64| {
            (0..1_000).filter(|n| names.number(hasher.hash_one(("other", n))) > since).count()
        };
        let note = |names: &mut Names, numbers: std::ops::RangeInclusive<u64>| {
            numbers.for_each(|n| names.note(hasher.hash_one(("acme", n)), n, bound));
        };
        note(&mut names, 1..=sure);
        assert_eq!(taken(&names, 0), 0);
        // Past the bound, only who is older than all that is remembered.
        note(&mut names, sure + 1..=600_000);
        assert_eq!([taken(&names, 0), taken(&names, 600_000 - sure)], [1_000, 0]);
        assert!(names.len() <= bound);
        assert!((1..=600_000).all(|n| names.number(hasher.hash_one(("acme", n))) >= n));
    }

    #[test]
    fn numbers_that_are_far_apart_do_not_share_a_table() {
        let mut names = Names::default();
        let far = 1 << 40;
        names.note(1, 5, 10_000);
        names.note(2, far, 10_000);
        names.note(3, 2 * far, 10_000);
        assert_eq!([names.number(2), names.number(3)], [far, 2 * far]);
        assert!(names.number(1) >= 5);
        names.drop_before(2 * far);
        assert_eq!((names.len(), names.number(3)), (1, 2 * far));
    }
}
