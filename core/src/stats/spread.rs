//! How the time that entries have left is spread, without a walk: entries are counted by the moment at which their freshness
//! ends, in steps of a fraction of the lifetime that they were stored with.
//!
//! A step is between a 64th and a 128th of the lifetime, so there are never many of them however long entries live; a moment
//! counts as the beginning of its step. What is asked for, how many have no more than so long left, is right to that fraction.

use hashbrown::HashMap;

/// The bounds that are told of, in seconds.
pub const BOUNDS_S: [u64; 9] = [60, 300, 900, 3600, 14_400, 86_400, 604_800, 2_592_000, 31_536_000];
/// How many entries have no more than each of [`BOUNDS_S`] left and more than the one before; at last those with more, or
/// without end.
pub type Left = [u64; BOUNDS_S.len() + 1];

/// The date of what stays fresh for ever.
pub const NEVER: u64 = u64::MAX;
/// Steps are no shorter than 64 ms.
const SHORTEST_BITS: u32 = 6;
/// The lifetime has this many steps at least, as a power of two.
const STEPS_BITS: u32 = 6;
/// Steps of what was stored without a lifetime: a minute.
const OF_ENDLESS_BITS: u32 = 16;

/// Where the length of the step stands in a step's name.
const BITS_SHIFT: u32 = 58;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Spread {
    /// How many entries in each step: its number, and its length as a power of two.
    steps: HashMap<u64, u32>,
    never: u64,
}

fn step(date_ms: u64, life_ms: u64) -> u64 {
    let bits = match life_ms {
        0 => OF_ENDLESS_BITS,
        life => life.ilog2().saturating_sub(STEPS_BITS).max(SHORTEST_BITS),
    };
    u64::from(bits) << BITS_SHIFT | date_ms >> bits & ((1 << BITS_SHIFT) - 1)
}

impl Spread {
    /// Counts an entry that is fresh until that date, and was stored with that lifetime.
    pub fn add(&mut self, date_ms: u64, life_ms: u64) {
        match date_ms {
            NEVER => self.never += 1,
            _ => *self.steps.entry(step(date_ms, life_ms)).or_default() += 1,
        }
    }

    /// Counts it no more.
    pub fn remove(&mut self, date_ms: u64, life_ms: u64) {
        if date_ms == NEVER {
            self.never = self.never.saturating_sub(1);
            return;
        }
        let step = step(date_ms, life_ms);
        let Some(count) = self.steps.get_mut(&step) else { return };
        *count -= 1;
        if *count == 0 {
            self.steps.remove(&step);
        }
    }

    /// How many entries it counts.
    pub fn len(&self) -> u64 {
        self.never + self.steps.values().map(|count| u64::from(*count)).sum::<u64>()
    }

    /// Does it count none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds up how many have how long left.
    pub fn add_to(&self, now_ms: u64, left: &mut Left) {
        let [.., endless] = left;
        *endless += self.never;
        for (step, count) in &self.steps {
            let start_ms = (step & ((1 << BITS_SHIFT) - 1)) << (step >> BITS_SHIFT);
            let left_ms = start_ms.saturating_sub(now_ms);
            let at = BOUNDS_S.partition_point(|bound_s| bound_s * 1000 < left_ms);
            left.get_mut(at).into_iter().for_each(|sum| *sum += u64::from(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn left(spread: &Spread, now_ms: u64) -> Left {
        let mut left = Left::default();
        spread.add_to(now_ms, &mut left);
        left
    }

    #[test]
    fn entries_are_where_their_time_left_puts_them() {
        let mut spread = Spread::default();
        let lives_s = [1, 60, 62, 3600, 3700, 86_400, 90_000, 2_700_000, 40_000_000];
        for life_s in lives_s {
            spread.add(NOW + life_s * 1000, life_s * 1000);
        }
        spread.add(NEVER, 0);
        spread.add(NOW - 5000, 1000);
        assert_eq!(left(&spread, NOW), [3, 1, 0, 1, 1, 1, 1, 0, 1, 2]);
        let later = NOW + 3_600_000;
        assert_eq!(left(&spread, later), [5, 1, 0, 0, 0, 2, 0, 0, 1, 2], "time passes");
        for life_s in lives_s {
            spread.remove(NOW + life_s * 1000, life_s * 1000);
        }
        spread.remove(NOW - 5000, 1000);
        assert_eq!((left(&spread, NOW)[9], spread.len(), spread.steps.len()), (1, 1, 0));
    }

    #[test]
    fn a_moment_is_off_by_a_64th_of_the_lifetime_at_most_and_steps_are_few() {
        let life_ms = 3_600_000;
        let mut spread = Spread::default();
        for stored_ms in (NOW - life_ms..NOW).step_by(100) {
            spread.add(stored_ms + life_ms, life_ms);
        }
        assert!(spread.steps.len() <= 130, "{}", spread.steps.len());
        let exact = [600, 2400, 6000, 27_000];
        for (told, exact) in left(&spread, NOW).into_iter().zip(exact) {
            assert!(told.abs_diff(exact) <= 36_000 / 64 + 1, "{told} where {exact} are");
        }
        assert_eq!(left(&spread, NOW).iter().sum::<u64>(), 36_000);
    }
}
