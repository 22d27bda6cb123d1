//! Which keys are asked for most, in a memory of fixed size: Space-Saving (Metwally et al., 2005), in sets of eight.
//!
//! A key that is not counted yet takes the place of the least counted of its set, and that one's count as its error. It does so by chance, the less
//! likely the more that one was asked for (RAP: Ben Basat et al., 2017): else keys that come once would drive the counts up, and nobody who
//! is asked for a little more often than they would be told from them. What is sure of a key is the difference of count and error, and by that
//! keys are compared. In one set instead of many the least would have to be found among all; with eight to a set and a quarter of the
//! counters wanted, a set hardly ever lacks room.

/// A key's record among those that are followed because they are hot.
pub(super) type Slot = u16;
/// There is none.
const NONE: Slot = Slot::MAX;

const SETS: usize = 256;
const WAYS: usize = 8;
/// How many keys are counted.
pub(super) const COUNTERS: usize = SETS * WAYS;

/// Of one line of the processor's cache. A count that would be larger stays as large as it can be.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Set {
    names: [u16; WAYS],
    counts: [u16; WAYS],
    errors: [u16; WAYS],
    slots: [Slot; WAYS],
}

const EMPTY: Set = Set { names: [0; WAYS], counts: [0; WAYS], errors: [0; WAYS], slots: [NONE; WAYS] };

/// See the head.
pub(super) struct Heat {
    sets: Box<[Set]>,
    chance: u32,
}

/// What is known of a key that was counted.
pub(super) struct Counted {
    /// So often at least was it asked for lately.
    pub heat: u16,
    /// The record by which it is followed as a hot key.
    pub slot: Option<Slot>,
    /// That of a key which made room for it.
    pub displaced: Option<Slot>,
}

/// Where a key is counted: the parts of its hash that say so are not those which decide whether it is sampled.
fn place(hash: u64) -> (usize, u16) {
    let name = (hash >> 16) as u16;
    (hash as usize % SETS, if name == 0 { 1 } else { name })
}

fn known(slot: Slot) -> Option<Slot> {
    (slot != NONE).then_some(slot)
}

impl Set {
    /// Where a key is counted. All are compared, which takes less than to stop at the one.
    #[inline]
    fn way(&self, name: u16) -> Option<usize> {
        let equal = self.names.iter().enumerate();
        let equal = equal.fold(0_u32, |equal, (way, known)| equal | u32::from(*known == name) << way);
        (equal != 0).then(|| equal.trailing_zeros() as usize)
    }

    /// Counts a key in the place of the one that is counted least, if chance is for it: any number.
    #[inline]
    fn make_room(&mut self, name: u16, times: u16, chance: u32) -> Option<Counted> {
        let least = self.counts.iter().enumerate().min_by_key(|(_, count)| **count).map_or(0, |(way, _)| way);
        let (own, count) = (self.names.get_mut(least)?, self.counts.get_mut(least)?);
        let (error, slot) = (self.errors.get_mut(least)?, self.slots.get_mut(least)?);
        if (u64::from(chance) * (u64::from(*count) + 1)) >> 32 >= times.into() {
            return None;
        }
        let displaced = known(std::mem::replace(slot, NONE));
        (*own, *error) = (name, *count);
        *count = count.saturating_add(times);
        Some(Counted { heat: times, slot: None, displaced })
    }
}

impl Default for Heat {
    fn default() -> Self {
        Self { sets: vec![EMPTY; SETS].into_boxed_slice(), chance: 0x9E37_79B9 }
    }
}

impl Heat {
    /// Counts so many requests for a key.
    #[inline]
    pub fn count(&mut self, hash: u64, times: u16) -> Counted {
        let (at, name) = place(hash);
        let none = Counted { heat: 0, slot: None, displaced: None };
        let Some(set) = self.sets.get_mut(at) else { return none };
        let Some(way) = set.way(name) else {
            self.chance ^= self.chance << 13;
            self.chance ^= self.chance >> 17;
            self.chance ^= self.chance << 5;
            return set.make_room(name, times, self.chance).unwrap_or(none);
        };
        let (Some(count), Some(error), Some(slot)) = (set.counts.get_mut(way), set.errors.get(way), set.slots.get(way))
        else {
            return none;
        };
        *count = count.saturating_add(times);
        Counted { heat: count.saturating_sub(*error), slot: known(*slot), displaced: None }
    }

    /// The record by which a key is followed as a hot one.
    pub fn slot(&self, hash: u64) -> Option<Slot> {
        let (at, name) = place(hash);
        let set = self.sets.get(at)?;
        set.slots.get(set.way(name)?).copied().and_then(known)
    }

    /// Notes the record of a key that is counted, or that there is none any more.
    pub fn set_slot(&mut self, hash: u64, to: Option<Slot>) {
        let (at, name) = place(hash);
        let Some(set) = self.sets.get_mut(at) else { return };
        if let Some(slot) = set.way(name).and_then(|way| set.slots.get_mut(way)) {
            *slot = to.unwrap_or(NONE);
        }
    }

    /// Has all of it count half, so that what was hot once does not stay so; says from which heat on a key is among the `most` hottest.
    pub fn halve(&mut self, most: usize) -> u16 {
        let mut heats = Vec::with_capacity(COUNTERS);
        for set in &mut self.sets {
            for (count, error) in set.counts.iter_mut().zip(&mut set.errors) {
                (*count, *error) = (*count / 2, *error / 2);
                heats.push(count.saturating_sub(*error));
            }
        }
        let at = most.clamp(1, COUNTERS) - 1;
        *heats.select_nth_unstable_by(at, |a, b| b.cmp(a)).1
    }

    /// The records of hot keys that are below a heat.
    pub fn below(&self, bar: u16) -> Vec<Slot> {
        let mut cold = Vec::new();
        for set in &self.sets {
            let all = set.slots.iter().zip(set.counts.iter().zip(&set.errors));
            let fallen = all.filter(|(_, (count, error))| count.saturating_sub(**error) < bar);
            cold.extend(fallen.filter_map(|(slot, _)| known(*slot)));
        }
        cold
    }

    /// Bytes of memory that it takes.
    pub fn size_bytes(&self) -> usize {
        self.sets.len() * size_of::<Set>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u64) -> u64 {
        (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    /// Of keys that come ever more seldom the first are told apart from the rest, whatever a million others do meanwhile.
    #[test]
    fn what_is_asked_for_most_is_found() {
        let (mut heat, mut rng) = (Heat::default(), fastrand::Rng::with_seed(7));
        let mut seen = 0;
        for step in 0..400_000u64 {
            let key = if step % 2 == 0 { rng.u64(..64) } else { 1000 + step };
            let counted = heat.count(hash(key), 1);
            seen += u64::from(key < 64 && step > 100_000 && counted.heat > 16);
            if step % 65_536 == 65_535 {
                heat.halve(256);
            }
        }
        assert!(seen > 148_000, "{seen} of 150,000");
    }

    #[test]
    fn a_record_goes_with_its_counter() {
        let mut heat = Heat::default();
        heat.count(hash(1), 1);
        heat.set_slot(hash(1), Some(7));
        assert_eq!((heat.slot(hash(1)), heat.count(hash(1), 1).slot), (Some(7), Some(7)));
        let displaced = (2..500_000).filter_map(|key| heat.count(hash(key), 1).displaced).collect::<Vec<_>>();
        assert_eq!((displaced, heat.slot(hash(1))), (vec![7], None));
        while heat.count(hash(1), 1).heat == 0 {}
        heat.set_slot(hash(1), Some(3));
        assert_eq!(heat.below(u16::MAX), [3]);
        heat.set_slot(hash(1), None);
        assert!(heat.below(u16::MAX).is_empty());
    }
}
