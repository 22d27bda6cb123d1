//! Hashes of names, under a salt that nobody outside knows.

use std::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;

use super::tags::TagHash;

/// See the head.
#[derive(Default)]
pub struct Salt(DefaultHashBuilder);

impl Salt {
    /// That of a key of the index of that number. Each of its bits decides something.
    #[inline]
    pub fn key(&self, index: u16, key: &[u8]) -> u64 {
        let hash = self.of(index, key);
        let mixed = (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 29
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
