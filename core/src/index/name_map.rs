//! From a name to its number, growing without ever stopping to rehash everything.
//!
//! Extendible hashing (Fagin, Nievergelt, Pippenger, Strong, 1979): a directory, indexed by some bits of the hash, points to
//! small hash tables. A table that fills up is split in two by one more bit, which costs the same however many names there
//! are; only the directory, a few bytes per hundred names, is ever doubled. The names themselves stand elsewhere: tables
//! hold numbers, and the caller compares.

use hashbrown::HashTable;

/// A table with more names than this is split.
const BUCKET: usize = 512;
/// The directory's bits are taken from here up; the table inside a bucket uses the lowest and the highest ones.
const DIRECTORY_SHIFT: u32 = 24;
const MAX_DEPTH: u8 = 28;

struct Bucket {
    /// How many bits of the hash all its names share.
    depth: u8,
    table: HashTable<u32>,
}

/// See the module's head.
pub(super) struct NameMap {
    depth: u8,
    directory: Vec<u32>,
    buckets: Vec<Bucket>,
    len: usize,
}

impl Default for NameMap {
    fn default() -> Self {
        Self { depth: 0, directory: vec![0], buckets: vec![Bucket { depth: 0, table: HashTable::new() }], len: 0 }
    }
}

fn bit(hash: u64, depth: u8) -> bool {
    hash >> (DIRECTORY_SHIFT + u32::from(depth)) & 1 != 0
}

impl NameMap {
    fn bucket_of(&self, hash: u64) -> usize {
        let slot = (hash >> DIRECTORY_SHIFT) & ((1u64 << self.depth) - 1);
        self.directory.get(slot as usize).map_or(0, |bucket| *bucket as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number for which `is_it` holds among those with this hash.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.buckets.get(self.bucket_of(hash))?.table.find(hash, |id| is_it(*id)).copied()
    }

    /// Adds a number that is not there. `hash_of` gives the hash of any number that is.
    pub(super) fn insert(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        let mut at = self.bucket_of(hash);
        while self.buckets.get(at).is_some_and(|b| b.table.len() >= BUCKET && b.depth < MAX_DEPTH) {
            self.split(at, hash, &hash_of);
            at = self.bucket_of(hash);
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.table.insert_unique(hash, id, |id| hash_of(*id));
            self.len += 1;
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        let at = self.bucket_of(hash);
        let Some(bucket) = self.buckets.get_mut(at) else { return };
        let Ok(found) = bucket.table.find_entry(hash, |other| *other == id) else { return };
        found.remove();
        self.len -= 1;
        if bucket.table.len() < bucket.table.capacity() / 8 {
            bucket.table.shrink_to(bucket.table.len() * 2, |id| hash_of(*id));
        }
        if self.len == 0 {
            *self = Self::default();
        }
    }

    /// Splits a bucket, to which this hash leads.
    fn split(&mut self, at: usize, hash: u64, hash_of: &impl Fn(u32) -> u64) {
        let Some(depth) = self.buckets.get(at).map(|b| b.depth) else { return };
        if depth == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let (mut low, mut high) = (HashTable::new(), HashTable::new());
        if let Some(bucket) = self.buckets.get(at) {
            for id in &bucket.table {
                let hash = hash_of(*id);
                let half = if bit(hash, depth) { &mut high } else { &mut low };
                half.insert_unique(hash, *id, |id| hash_of(*id));
            }
        }
        let new = self.buckets.len() as u32;
        // Every slot that agrees with the hash in the bits shared until now and has the next one set; no other is looked at.
        let next = 1 << depth;
        let first = (hash >> DIRECTORY_SHIFT) as usize & (next - 1) | next;
        self.directory.iter_mut().skip(first).step_by(2 * next).for_each(|bucket| *bucket = new);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket = Bucket { depth: depth + 1, table: low };
        }
        self.buckets.push(Bucket { depth: depth + 1, table: high });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn grows_by_splitting_and_finds_everything() {
        let hasher = hashbrown::DefaultHashBuilder::default();
        let hash = |id: u32| hasher.hash_one(id);
        let mut map = NameMap::default();
        for id in 0..50_000 {
            map.insert(hash(id), id, hash);
        }
        assert_eq!(map.len(), 50_000);
        assert!(map.buckets.iter().all(|b| b.table.len() <= BUCKET) && map.buckets.len() > 50);
        assert!((0..50_000).all(|id| map.find(hash(id), |other| other == id) == Some(id)));
        assert_eq!(map.find(hash(50_000), |other| other == 50_000), None);
        for id in 0..50_000 {
            map.remove(hash(id), id, hash);
            assert_eq!(map.find(hash(id), |other| other == id), None);
        }
        assert_eq!((map.len(), map.buckets.len()), (0, 1));
    }

    #[test]
    fn equal_hashes_do_not_split_for_ever() {
        let mut map = NameMap::default();
        for id in 0..600 {
            map.insert(0, id, |_| 0);
        }
        assert_eq!(map.find(0, |id| id == 599), Some(599));
    }
}
