//! Hashes of names, under a salt that nobody outside knows.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;

use super::tags::TagHash;

/// So many databases are told apart.
pub(super) const DATABASES: usize = 64;
const LAST: u64 = DATABASES as u64 - 1;
/// Where the bits begin that say which database it is. They neither say where a key is counted nor whether it is sampled; for who goes by
/// the lowest bits there is [`spread`].
const SHIFT: u32 = 10;

/// Which database's index a key is of, by its hash; one in so many has the same.
#[inline]
pub(super) fn database(hash: u64) -> usize {
    (hash >> SHIFT & LAST) as usize
}

/// A key's hash for a table, which begins with the lowest bits: these are the same ones for all keys of a database.
#[inline]
pub(super) fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

/// See the head.
#[derive(Default)]
pub struct Salt(DefaultHashBuilder);

impl Salt {
    /// That of a key of the index of that number. Each of its bits decides something; some say which index it is ([`database`]).
    #[inline]
    pub fn key(&self, index: u16, key: &[u8]) -> u64 {
        let hash = self.of(index, key);
        let mixed = (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 29) & !(LAST << SHIFT) | (u64::from(index) & LAST) << SHIFT
    }

    /// That of a tag of the index of that number; never 0.
    pub fn tag(&self, index: u16, tag: &[u8]) -> TagHash {
        (self.key(index, tag) >> 32) as u32 | 1
    }

    /// What stands for some bytes; never 0.
    pub fn digest(&self, bytes: &[u8]) -> u32 {
        (self.of(0, bytes) >> 32) as u32 | 1
    }

    #[inline]
    fn of(&self, index: u16, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u16(index);
        hasher.write(bytes);
        hasher.finish()
    }
}
