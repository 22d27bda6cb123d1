//! When tags were last invalidated.
//!
//! A lifetime that is longer than the real one outlives the real entry, so the index does not tell when it would have been invalidated.
//! Of a tag 32 bits of a hash are kept, in sets of four; in a full set the one that was invalidated longest ago makes room.

use super::ttls::Moment;

const SETS: usize = 1024;
const WAYS: usize = 4;

/// What stands for a tag's name.
pub type TagHash = u32;

#[derive(Clone, Copy, Default)]
struct Last {
    tag: TagHash,
    at: Moment,
}

/// See the head.
#[derive(Default)]
pub struct TagTimes {
    sets: Vec<[Last; WAYS]>,
    /// When the last of all was.
    last: Moment,
}

impl TagTimes {
    /// Notes that a tag is invalidated.
    pub fn note(&mut self, tag: TagHash, now: Moment) {
        if self.sets.is_empty() {
            self.sets = vec![[Last::default(); WAYS]; SETS];
        }
        self.last = self.last.max(now);
        let Some(set) = self.sets.get_mut(tag as usize % SETS) else { return };
        let known = set.iter().position(|last| last.tag == tag && last.at != 0);
        let oldest = set.iter().enumerate().min_by_key(|(_, last)| last.at).map_or(0, |(way, _)| way);
        set.get_mut(known.unwrap_or(oldest)).into_iter().for_each(|last| *last = Last { tag, at: now });
    }

    /// When a tag was last invalidated; 0: never, as far as known.
    pub fn last_of(&self, tag: TagHash) -> Moment {
        let set = self.sets.get(tag as usize % SETS);
        set.and_then(|set| set.iter().find(|last| last.tag == tag)).map_or(0, |last| last.at)
    }

    /// Was any invalidated at that moment or later?
    pub fn any_since(&self, at: Moment) -> bool {
        self.last >= at
    }

    /// Bytes of memory that it takes.
    pub fn size_bytes(&self) -> usize {
        self.sets.len() * size_of::<[Last; WAYS]>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_is_told_until_others_need_the_room() {
        let mut times = TagTimes::default();
        assert_eq!((times.last_of(1), times.any_since(1), times.size_bytes()), (0, false, 0));
        for round in 1..=3 {
            times.note(1, round);
        }
        assert_eq!((times.last_of(1), times.any_since(3), times.any_since(4)), (3, true, false));
        for other in 1..=4 {
            times.note(1 + other * SETS as u32, 3 + other);
        }
        assert_eq!((times.last_of(1), times.last_of(1 + SETS as u32)), (0, 4));
        assert_eq!(times.size_bytes(), 32 << 10);
    }
}
