//! Why keys went, so that a miss can say what it missed.
//!
//! A bounded memory: hashes of names in sets of eight, each with the cause and the second in which it was noted. In a full set
//! the oldest makes room. How far back the memory is whole is known exactly: up to the youngest note that ever made room.
//!
//! It takes the memory that it needs: sets come one at a time, each to share the notes of an older one (linear hashing; Litwin,
//! 1980), until there are as many as are allowed. Of a hash 40 bits are kept, which is why another key's cause is told once in some
//! ten million misses that are in fact cold.

/// Notes in a set.
const SET: usize = 8;
/// While there may be more sets, there is room for so many times the notes there are: hardly a set is full then.
const SPARE: u64 = 8;
/// Sets are allocated so many at a time.
const CHUNK: usize = 64;
const CAUSE_BITS: u32 = 1;
const SECOND_BITS: u32 = 23;
/// Where the hash begins in a note.
const HASH_SHIFT: u32 = CAUSE_BITS + SECOND_BITS;
/// Seconds are counted round a clock of this many (97 days), and what is older than half of it is no longer believed.
const SECONDS: u64 = 1 << SECOND_BITS;

/// Why a key went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its time was over.
    Expired,
    /// It was invalidated.
    Invalidated,
}

/// A remembered key. 0 is none: a hash that would be all zeros is taken for another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Note(u64);

impl Note {
    fn new(hash: u64, why: Why, now_s: u64) -> Self {
        let cause = u64::from(why == Why::Invalidated);
        Self(tag(hash) << HASH_SHIFT | (now_s % SECONDS) << CAUSE_BITS | cause)
    }

    fn is_of(self, hash: u64) -> bool {
        self.0 >> HASH_SHIFT == tag(hash)
    }

    fn why(self) -> Why {
        if self.0 & 1 == 0 { Why::Expired } else { Why::Invalidated }
    }

    fn age_s(self, now_s: u64) -> u64 {
        (now_s % SECONDS + SECONDS - (self.0 >> CAUSE_BITS) % SECONDS) % SECONDS
    }

    fn tag(self) -> u64 {
        self.0 >> HASH_SHIFT
    }
}

/// What of a hash stands in a note: its upper bits, never all zeros.
fn tag(hash: u64) -> u64 {
    (hash >> HASH_SHIFT).max(1)
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct MissMemory {
    chunks: Vec<Box<[[Note; SET]; CHUNK]>>,
    /// The sets in use.
    sets: usize,
    /// How many keys it is to remember.
    room: usize,
    len: u64,
    /// When it began, or the second of the youngest note that made room.
    whole_since_s: u64,
}

impl MissMemory {
    /// One that remembers so many keys (as a power of two, and no fewer than eight), or none.
    pub fn new(room: usize, now_s: u64) -> Self {
        let room = if room == 0 { 0 } else { room.next_power_of_two().max(SET) };
        Self { room, whole_since_s: now_s, ..Self::default() }
    }

    /// Was it made for so many keys?
    pub fn has_room_for(&self, room: usize) -> bool {
        self.room == if room == 0 { 0 } else { room.next_power_of_two().max(SET) }
    }

    /// The set in which notes with this tag are.
    fn place(&self, tag: u64) -> usize {
        let all = self.sets.next_power_of_two();
        let at = tag as usize & (all - 1);
        if at < self.sets { at } else { at & (all / 2).saturating_sub(1) }
    }

    fn set(&self, at: usize) -> Option<&[Note; SET]> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    fn set_mut(&mut self, at: usize) -> Option<&mut [Note; SET]> {
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    /// Adds a set, and puts what belongs there into it.
    fn grow(&mut self) {
        let (new, half) = (self.sets, (self.sets + 1).next_power_of_two() / 2);
        if new.is_multiple_of(CHUNK) {
            self.chunks.push(Box::new([[Note::default(); SET]; CHUNK]));
        }
        self.sets += 1;
        if new == 0 {
            return;
        }
        let Some(mut shared) = self.set(new & (half - 1)).copied() else { return };
        let mut own = [Note::default(); SET];
        for (note, place) in shared.iter_mut().zip(&mut own) {
            if note.0 != 0 && self.place(note.tag()) == new {
                *place = std::mem::take(note);
            }
        }
        self.set_mut(new & (half - 1)).into_iter().for_each(|set| *set = shared);
        self.set_mut(new).into_iter().for_each(|set| *set = own);
    }

    /// Remembers why the key with this hash went.
    pub fn note(&mut self, hash: u64, why: Why, now_s: u64) {
        if self.sets * SET < self.room && self.len * SPARE >= (self.sets * SET) as u64 {
            self.grow();
        }
        let at = self.place(tag(hash));
        let Some(set) = self.set_mut(at) else { return };
        let note = Note::new(hash, why, now_s);
        let known = set.iter_mut().find(|old| old.is_of(hash));
        if let Some(old) = known {
            *old = note;
            return;
        }
        if let Some(free) = set.iter_mut().find(|old| **old == Note::default()) {
            *free = note;
            self.len += 1;
            return;
        }
        let Some(oldest) = set.iter_mut().max_by_key(|old| old.age_s(now_s)) else { return };
        let age_s = std::mem::replace(oldest, note).age_s(now_s);
        self.whole_since_s = self.whole_since_s.max(now_s.saturating_sub(age_s));
    }

    /// Forgets the key with this hash: it is back, or went for another reason.
    pub fn forget(&mut self, hash: u64) {
        let at = self.place(tag(hash));
        let known = self.set_mut(at).and_then(|set| set.iter_mut().find(|old| old.is_of(hash)));
        if let Some(note) = known {
            *note = Note::default();
            self.len -= 1;
        }
    }

    /// Why the key with this hash went, if that is remembered.
    pub fn why(&self, hash: u64, now_s: u64) -> Option<Why> {
        let set = self.set(self.place(tag(hash)))?;
        let note = set.iter().find(|note| note.is_of(hash))?;
        (note.age_s(now_s) < SECONDS / 2).then(|| note.why())
    }

    /// How many keys it remembers.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Does it remember none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How far back it is whole, in seconds.
    pub fn reach_s(&self, now_s: u64) -> u64 {
        if self.room == 0 { 0 } else { now_s.saturating_sub(self.whole_since_s).min(SECONDS / 2) }
    }

    /// Bytes of memory that it takes.
    pub fn size_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * SET * size_of::<Note>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    #[test]
    fn the_last_cause_is_told_until_it_is_forgotten() {
        let mut gone = MissMemory::new(64, 0);
        gone.note(hash(1), Why::Expired, 10);
        gone.note(hash(2), Why::Invalidated, 10);
        gone.note(hash(1), Why::Invalidated, 11);
        assert_eq!(
            [1, 2, 3].map(|key| gone.why(hash(key), 12)),
            [Some(Why::Invalidated), Some(Why::Invalidated), None]
        );
        gone.forget(hash(2));
        gone.forget(hash(3));
        assert_eq!((gone.why(hash(2), 12), gone.len(), gone.reach_s(12)), (None, 1, 12));
        gone.note(0, Why::Expired, 12);
        assert_eq!(gone.why(0, 12), Some(Why::Expired));
        gone.forget(0);
        assert_eq!(gone.why(hash(1), 12 + SECONDS / 2), None, "too old to be believed");
    }

    /// Within its reach it knows of every key what happened to it last.
    #[test]
    fn it_is_whole_as_far_as_it_says() {
        let mut gone = MissMemory::new(1000, 5);
        let mut last: BTreeMap<u64, (u64, Option<Why>)> = BTreeMap::new();
        for step in 0..50_000u64 {
            let (key, now_s) = (hash(step) % 5000, 5 + step / 20);
            let why = match hash(step) >> 40 & 7 {
                0 => None,
                1..4 => Some(Why::Expired),
                _ => Some(Why::Invalidated),
            };
            match why {
                Some(why) => gone.note(hash(key), why, now_s),
                None => gone.forget(hash(key)),
            }
            last.insert(key, (now_s, why));
            if step % 1000 == 999 {
                let whole_since_s = now_s - gone.reach_s(now_s);
                for (key, (at_s, why)) in &last {
                    let told = gone.why(hash(*key), now_s);
                    assert!(told == *why || told.is_none() && *at_s <= whole_since_s, "key {key} at {now_s}");
                }
            }
        }
        assert!(gone.reach_s(2505) > 10, "{} seconds", gone.reach_s(2505));
        assert!(gone.len() <= 1024 && gone.len() > 900, "{} keys", gone.len());
        assert_eq!(gone.size_bytes(), 8192);
    }

    #[test]
    fn it_takes_memory_as_it_needs_it_and_loses_nothing_while_there_is_more() {
        let mut gone = MissMemory::new(1 << 17, 0);
        assert_eq!(gone.size_bytes(), 0);
        let why = |key: u64| if key.is_multiple_of(3) { Why::Expired } else { Why::Invalidated };
        for key in 0..20_000 {
            gone.note(hash(key), why(key), key);
            if key == 100 {
                assert_eq!(gone.size_bytes(), 8192);
            }
        }
        let told = |key: u64| gone.why(hash(key), 20_000) == Some(why(key));
        assert!((0..20_000).filter(|key| !told(*key)).count() < 20, "next to none was lost");
        assert!(gone.size_bytes() <= 1 << 20);
    }

    #[test]
    fn without_room_it_remembers_nothing() {
        let mut gone = MissMemory::new(0, 0);
        gone.note(1, Why::Expired, 1);
        assert_eq!((gone.why(1, 1), gone.len(), gone.reach_s(100), gone.size_bytes()), (None, 0, 0, 0));
    }
}
