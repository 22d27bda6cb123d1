//! The index of one database: which entries there are, which bear a tag, which are of a type, which are dead.
//!
//! Every entry in the keyspace has a small dense number, its *id*. Tags and types keep the ids of their entries; a dead
//! entry (invalidated, its key not yet reclaimed) is one bit more. Invalidating is uniting sets of ids, whatever their size.
//!
//! ```text
//!  key name <- records[id]        tag name <-> tags[tag id] -> {ids}        types[type id] -> {ids}        dead {ids}
//!                  ^                                  ^
//!  entry (in the keyspace): id ---'      its tag ids -'
//! ```
//!
//! 1. An entry is in the index exactly when its key is in the keyspace with our type. The caller says when that changes
//!    ([`Index::link`], [`Index::unlink`]); the index keeps everything it derives from it in step.
//! 2. The index is derived: loading the keys rebuilds all of it (a dead entry says so itself).
//! 3. An id is given out again only after `unlink` took it out of every set.
//! 4. No call takes longer because there are many entries, but for set arithmetic: a word for each 64 of them at most.

mod members;
mod name;
mod name_map;
mod slab;

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use roaring::RoaringBitmap;

use self::members::Members;
use self::name::Name;
use self::name_map::NameMap;
use self::slab::Slab;
use crate::entry::{Entry, Names};

struct Tag {
    name: Name,
    members: Members,
}

/// The entries of one type in this database, and their bytes.
#[derive(Default)]
struct TypeMembers {
    ids: RoaringBitmap,
    bytes: Bytes,
}

/// How many bytes some entries hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// As the users gave them.
    pub payload: u64,
    /// As they are kept.
    pub stored: u64,
}

impl Bytes {
    fn add(&mut self, entry: &Entry) {
        self.payload += entry.payload().len() as u64;
        self.stored += entry.stored_len() as u64;
    }

    fn subtract(&mut self, entry: &Entry) {
        self.payload -= entry.payload().len() as u64;
        self.stored -= entry.stored_len() as u64;
    }

    fn replace(&mut self, old: &Entry, new: &Entry) {
        self.add(new);
        self.subtract(old);
    }
}

/// See the module's head.
#[derive(Default)]
pub struct Index {
    number: u16,
    hasher: DefaultHashBuilder,
    records: Slab<Name>,
    tags: Slab<Tag>,
    tag_ids: NameMap,
    types: Vec<TypeMembers>,
    dead: RoaringBitmap,
}

impl Index {
    /// An empty index. Its entries bear its number, so that it is found from an entry, wherever its database goes.
    pub fn new(number: u16) -> Self {
        Self { number, ..Self::default() }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    // ---- entries come and go ----

    /// Puts an entry that is in no index into this one, under its key's name. `tags` are its tags' names, none twice, as many
    /// as it has room for. `false`, and nothing changed, when it has four billion neighbours already.
    #[must_use]
    pub fn link<'t>(
        &mut self,
        entry: &mut Entry,
        key: &[u8],
        type_id: u16,
        tags: impl IntoIterator<Item = &'t [u8]>,
    ) -> bool {
        let Some(id) = self.records.insert(Name::new(key)) else { return false };
        for (at, tag) in tags.into_iter().enumerate() {
            if let Some(tag_id) = self.tag_with_member(tag, id) {
                entry.set_tag_id(at, tag_id);
            }
        }
        self.add_to_type(entry, id, type_id);
        if entry.was_dead() {
            self.dead.insert(id);
        }
        entry.set_linked(id, type_id, self.number);
        true
    }

    /// Puts an entry in the place of another that is here, under the same key: as linking the one and unlinking the other,
    /// but tags that both bear are not touched. Says whether the old one was dead, or `None` (and does nothing) when it is
    /// not here.
    pub fn relink(&mut self, old: &mut Entry, new: &mut Entry, type_id: u16, tags: &[&[u8]]) -> Option<bool> {
        // Found under its own key by the caller, so its record is not read to prove it: that would be the one miss of the
        // processor's caches in storing over an entry.
        if !old.is_linked() || old.index() != self.number {
            return None;
        }
        let id = old.id();
        // Most often the tags are the same, in the same order.
        let mut same = tags.len() == old.tag_count();
        let mut old_tags = old.tag_ids();
        for (at, name) in tags.iter().enumerate() {
            let kept = old_tags.next().filter(|tag| self.is_live_tag(*tag, name));
            same &= kept.is_some();
            if let Some(tag_id) = kept.or_else(|| self.tag_with_member(name, id)) {
                new.set_tag_id(at, tag_id);
            }
        }
        drop(old_tags);
        // Not before the tags were looked at: while an entry is dead its tags may be forgotten.
        let was_dead = self.dead.remove(id);
        if !same {
            for tag_id in old.tag_ids().filter(|tag| !new.tag_ids().any(|kept| kept == *tag)) {
                self.remove_member(tag_id, id);
            }
        }
        if old.type_id() == type_id
            && let Some(members) = self.types.get_mut(usize::from(type_id))
        {
            members.bytes.replace(old, new);
        } else {
            self.take_from_type(old);
            self.add_to_type(new, id, type_id);
        }
        if new.was_dead() {
            self.dead.insert(id);
        }
        old.set_unlinked();
        new.set_linked(id, type_id, self.number);
        Some(was_dead)
    }

    /// Is this the record that the name leads to? (After an invalidation it may lead to another, or nowhere.)
    fn is_live_tag(&self, tag_id: u32, name: &[u8]) -> bool {
        self.tags.get(tag_id).is_some_and(|tag| tag.name.bytes() == name)
            && (self.dead.is_empty() || self.find_tag(self.hasher.hash_one(name), name) == Some(tag_id))
    }

    /// Takes an entry out; says whether it was dead, or `None` (and does nothing) when it is not here under this key.
    pub fn unlink(&mut self, entry: &mut Entry, key: &[u8]) -> Option<bool> {
        if !self.holds(entry, key) {
            return None;
        }
        let id = entry.id();
        for tag_id in entry.tag_ids() {
            self.remove_member(tag_id, id);
        }
        self.take_from_type(entry);
        self.records.remove(id);
        entry.set_unlinked();
        Some(self.dead.remove(id))
    }

    fn holds(&self, entry: &Entry, key: &[u8]) -> bool {
        entry.is_linked()
            && entry.index() == self.number
            && self.records.get(entry.id()).is_some_and(|name| name.bytes() == key)
    }

    fn add_to_type(&mut self, entry: &Entry, id: u32, type_id: u16) {
        if let Some(members) = self.type_mut(type_id) {
            members.ids.insert(id);
            members.bytes.add(entry);
        }
    }

    fn take_from_type(&mut self, entry: &Entry) {
        if let Some(members) = self.types.get_mut(usize::from(entry.type_id())) {
            members.ids.remove(entry.id());
            members.bytes.subtract(entry);
        }
    }

    fn type_mut(&mut self, type_id: u16) -> Option<&mut TypeMembers> {
        let at = usize::from(type_id);
        if self.types.len() <= at {
            self.types.resize_with(at + 1, TypeMembers::default);
        }
        self.types.get_mut(at)
    }

    fn tag_with_member(&mut self, name: &[u8], id: u32) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let tag_id = match self.find_tag(hash, name) {
            Some(tag_id) => tag_id,
            None => {
                let tag_id = self.tags.insert(Tag { name: Name::new(name), members: Members::default() })?;
                let (tags, hasher) = (&self.tags, &self.hasher);
                self.tag_ids.insert(hash, tag_id, |tag| hash_of(hasher, tags, tag));
                tag_id
            }
        };
        self.tags.get_mut(tag_id)?.members.insert(id);
        Some(tag_id)
    }

    fn remove_member(&mut self, tag_id: u32, id: u32) {
        let Some(tag) = self.tags.get_mut(tag_id) else { return };
        tag.members.remove(id);
        if tag.members.is_empty() {
            self.forget_tag_name(tag_id);
            self.tags.remove(tag_id);
        }
    }

    fn find_tag(&self, hash: u64, name: &[u8]) -> Option<u32> {
        self.tag_ids.find(hash, |tag| self.tags.get(tag).is_some_and(|t| t.name.bytes() == name))
    }

    /// The name leads nowhere from now on, or to a new record.
    fn forget_tag_name(&mut self, tag_id: u32) {
        let (tags, hasher) = (&self.tags, &self.hasher);
        let hash = hash_of(hasher, tags, tag_id);
        self.tag_ids.remove(hash, tag_id, |tag| hash_of(hasher, tags, tag));
    }

    // ---- questions ----

    /// How many entries there are, dead ones not counted.
    pub fn len(&self) -> u64 {
        u64::from(self.records.len()) - self.dead.len()
    }

    /// Is nothing here, not even a dead entry?
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// How many tags have an entry. (One whose entries all died by other tags counts until they are reclaimed.)
    pub fn tag_count(&self) -> u64 {
        self.tag_ids.len() as u64
    }

    /// How many entries of a type there are, dead ones not counted.
    pub fn type_len(&self, type_id: u16) -> u64 {
        self.types.get(usize::from(type_id)).map_or(0, |t| t.ids.len() - t.ids.intersection_len(&self.dead))
    }

    /// The types that have entries here, dead or not: each one's id and how many.
    pub fn types(&self) -> impl Iterator<Item = (u16, u64)> {
        (0u16..).zip(&self.types).map(|(id, members)| (id, members.ids.len())).filter(|(_, entries)| *entries > 0)
    }

    /// How many entries of a type there are, dead or not.
    pub fn type_members(&self, type_id: u16) -> u64 {
        self.types.get(usize::from(type_id)).map_or(0, |t| t.ids.len())
    }

    /// How many entries of a type are dead and not yet reclaimed.
    pub fn type_dead(&self, type_id: u16) -> u64 {
        self.types.get(usize::from(type_id)).map_or(0, |t| t.ids.intersection_len(&self.dead))
    }

    /// Bytes that the entries of a type hold, those of dead ones included until they are reclaimed.
    pub fn type_bytes(&self, type_id: u16) -> Bytes {
        self.types.get(usize::from(type_id)).map_or(Bytes::default(), |t| t.bytes)
    }

    /// The key of the `rank`-th entry of a type (dead ones included), in the order of ids.
    pub fn type_member(&self, type_id: u16, rank: u32) -> Option<&[u8]> {
        let id = self.types.get(usize::from(type_id))?.ids.select(rank)?;
        self.key(id)
    }

    /// Was this entry invalidated?
    pub fn is_dead(&self, entry: &Entry) -> bool {
        // Almost always there is none at all.
        !self.dead.is_empty() && self.dead.contains(entry.id())
    }

    /// The key under which an id is here.
    pub fn key(&self, id: u32) -> Option<&[u8]> {
        self.records.get(id).map(Name::bytes)
    }

    /// The names of a linked entry's tags.
    pub fn tags<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a [u8]> {
        entry.tag_ids().filter_map(|tag| self.tags.get(tag)).map(|tag| tag.name.bytes())
    }

    /// A linked entry's names.
    pub fn names(&self, entry: &Entry, type_name: &[u8]) -> Names {
        Names { type_name: type_name.into(), tags: self.tags(entry).map(Into::into).collect() }
    }

    // ---- invalidation ----

    /// Makes every entry dead that bears any of the tags; returns how many were not before.
    ///
    /// The tags are forgotten with their entries: their records only wait for the last of them to be reclaimed, and whoever
    /// uses such a name from now on starts a new one.
    pub fn invalidate_tags<'t>(&mut self, tags: impl IntoIterator<Item = &'t [u8]>) -> u64 {
        let before = self.dead.len();
        for name in tags {
            let hash = self.hasher.hash_one(name);
            let Some(tag_id) = self.find_tag(hash, name) else { continue };
            if let Some(tag) = self.tags.get(tag_id) {
                tag.members.unite_into(&mut self.dead);
            }
            self.forget_tag_name(tag_id);
        }
        self.dead.len() - before
    }

    /// How many dead entries wait to be reclaimed.
    pub fn dead_len(&self) -> u64 {
        self.dead.len()
    }

    /// The next dead entry to reclaim: its id and its key.
    pub fn next_dead(&self) -> Option<(u32, &[u8])> {
        let id = self.dead.min()?;
        Some((id, self.key(id).unwrap_or_default()))
    }

    /// Takes out a dead id whose key is not there, which [`Index::check`] would have reported. This looks through
    /// everything, and is for what should not happen.
    pub fn drop_lost(&mut self, id: u32) {
        let tags: Vec<u32> = self.tags.iter().map(|(tag_id, _)| tag_id).collect();
        for tag_id in tags {
            self.remove_member(tag_id, id);
        }
        for members in &mut self.types {
            members.ids.remove(id);
        }
        self.dead.remove(id);
        self.records.remove(id);
    }

    // ---- proof ----

    /// Says what is wrong with a linked entry found under `key`.
    pub fn check_entry(&self, entry: &Entry, key: &[u8], report: &mut dyn FnMut(String)) {
        let shown = String::from_utf8_lossy(key).into_owned();
        if !entry.is_linked() {
            return report(format!("key '{shown}' is not in the index"));
        }
        if !self.holds(entry, key) {
            return report(format!("key '{shown}' bears id {}, which is not its own", entry.id()));
        }
        for tag_id in entry.tag_ids() {
            if !self.tags.get(tag_id).is_some_and(|tag| tag.members.contains(entry.id())) {
                report(format!("key '{shown}' is not a member of its tag {tag_id}"));
            }
        }
        if !self.types.get(usize::from(entry.type_id())).is_some_and(|t| t.ids.contains(entry.id())) {
            report(format!("key '{shown}' is not a member of its type {}", entry.type_id()));
        }
    }

    /// Says what disagrees inside the index, given what a walk over the keyspace found.
    pub fn check(&self, walked: &Walked, report: &mut dyn FnMut(String)) {
        let mut same = |what: &str, index: u64, keyspace: u64| {
            if index != keyspace {
                report(format!("{what}: {index} in the index, {keyspace} in the keyspace"));
            }
        };
        same("entries", self.records.len().into(), walked.entries);
        same("memberships", self.tags.iter().map(|(_, tag)| tag.members.len()).sum(), walked.memberships);
        same("entries by type", self.types.iter().map(|t| t.ids.len()).sum(), walked.entries);
        same("payload bytes", self.types.iter().map(|t| t.bytes.payload).sum(), walked.bytes.payload);
        same("stored bytes", self.types.iter().map(|t| t.bytes.stored).sum(), walked.bytes.stored);
        let mut named = 0;
        for (tag_id, tag) in self.tags.iter() {
            let hash = self.hasher.hash_one(tag.name.bytes());
            let mut say = |what| report(format!("tag '{}' {what}", String::from_utf8_lossy(tag.name.bytes())));
            if tag.members.is_empty() {
                say("has no entry");
            }
            if self.tag_ids.find(hash, |id| id == tag_id).is_some() {
                named += 1;
            } else if !tag.members.are_all_in(&self.dead) {
                say("has an entry alive and cannot be found");
            }
        }
        if self.tag_ids.len() != named {
            report(format!("{} tag names, {named} of them of a tag", self.tag_ids.len()));
        }
        for id in self.dead.iter().filter(|id| self.records.get(*id).is_none()) {
            report(format!("dead id {id} is nobody's"));
        }
    }
}

fn hash_of(hasher: &DefaultHashBuilder, tags: &Slab<Tag>, tag_id: u32) -> u64 {
    hasher.hash_one(tags.get(tag_id).map(|tag| tag.name.bytes()).unwrap_or_default())
}

/// What a walk over all keys of a database counted.
#[derive(Default)]
pub struct Walked {
    entries: u64,
    memberships: u64,
    bytes: Bytes,
}

impl Walked {
    /// Counts one entry.
    pub fn count(&mut self, entry: &Entry) {
        self.entries += 1;
        self.memberships += entry.tag_count() as u64;
        self.bytes.add(entry);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::entry::Content;
    use std::collections::{BTreeMap, BTreeSet};

    type Keyspace = BTreeMap<Vec<u8>, Box<Entry>>;

    fn complaints(index: &Index, keyspace: &Keyspace) -> Vec<String> {
        let mut said = Vec::new();
        let mut walked = Walked::default();
        for (key, entry) in keyspace {
            walked.count(entry);
            index.check_entry(entry, key, &mut |text| said.push(text));
        }
        index.check(&walked, &mut |text| said.push(text));
        said
    }

    fn put(index: &mut Index, keyspace: &mut Keyspace, key: &[u8], type_id: u16, tags: &[&[u8]]) {
        let mut entry = Entry::new(&Content { payload: key, ..Content::default() }, tags.len()).unwrap();
        match keyspace.get_mut(key) {
            Some(old) => assert!(index.relink(old, &mut entry, type_id, tags).is_some()),
            None => assert!(index.link(&mut entry, key, type_id, tags.iter().copied())),
        }
        keyspace.insert(key.to_vec(), entry);
    }

    fn remove(index: &mut Index, keyspace: &mut Keyspace, key: &[u8]) -> Option<Box<Entry>> {
        let mut entry = keyspace.remove(key)?;
        let names = index.names(&entry, b"t");
        let dead = index.unlink(&mut entry, key)?;
        entry.carry(names, dead);
        Some(entry)
    }

    fn relink(index: &mut Index, keyspace: &mut Keyspace, key: &[u8], mut entry: Box<Entry>) {
        let names = entry.take_names();
        assert!(index.link(&mut entry, key, 1, names.tags.iter().map(AsRef::as_ref)));
        keyspace.insert(key.to_vec(), entry);
    }

    #[test]
    fn tags_live_as_long_as_their_last_member() {
        let (mut index, mut keys) = (Index::default(), Keyspace::new());
        put(&mut index, &mut keys, b"k1", 0, &[b"a", b"b"]);
        put(&mut index, &mut keys, b"k2", 3, &[b"b"]);
        assert_eq!((index.len(), index.tag_count(), index.type_len(3), index.type_len(9)), (2, 2, 1, 0));
        put(&mut index, &mut keys, b"k1", 0, &[]);
        assert_eq!(index.tag_count(), 1);
        let loose = remove(&mut index, &mut keys, b"k2").unwrap();
        assert_eq!(loose.names().unwrap().tags, [Box::from(b"b".as_slice())]);
        assert_eq!((index.len(), index.tag_count()), (1, 0));
        assert_eq!(complaints(&index, &keys), [""; 0]);
    }

    #[test]
    fn the_dead_are_counted_once_travel_with_the_entry_and_end_with_it() {
        let (mut index, mut keys) = (Index::default(), Keyspace::new());
        put(&mut index, &mut keys, b"k1", 0, &[b"a", b"b"]);
        put(&mut index, &mut keys, b"k2", 0, &[b"b"]);
        put(&mut index, &mut keys, b"k3", 0, &[b"c"]);
        assert_eq!(index.invalidate_tags([b"a".as_slice(), b"b"]), 2);
        assert_eq!(index.invalidate_tags([b"b".as_slice(), b"nobody"]), 0);
        assert_eq!((index.len(), index.type_len(0), index.type_dead(0), index.dead_len()), (1, 1, 2, 2));

        let moved = remove(&mut index, &mut keys, b"k1").unwrap();
        assert!(moved.was_dead());
        relink(&mut index, &mut keys, b"k9", moved);
        assert!(index.is_dead(&keys[b"k9".as_slice()]));

        put(&mut index, &mut keys, b"k2", 0, &[b"b"]);
        assert_eq!(index.dead_len(), 1, "an overwritten entry lives");
        assert_eq!(index.next_dead().unwrap().1, b"k9");
        remove(&mut index, &mut keys, b"k9");
        assert_eq!(index.invalidate_tags([b"b".as_slice()]), 1, "and counts again");
        assert_eq!(complaints(&index, &keys), [""; 0]);
    }

    #[test]
    fn an_entry_is_taken_out_only_under_its_own_key() {
        let (mut index, mut keys) = (Index::default(), Keyspace::new());
        put(&mut index, &mut keys, b"k1", 0, &[b"a"]);
        let entry = keys.get_mut(b"k1".as_slice()).unwrap();
        assert_eq!(index.unlink(entry, b"other"), None);
        assert!(entry.is_linked());
        assert_eq!(index.unlink(entry, b"k1"), Some(false));
        assert!(!entry.is_linked() && index.is_empty());
        assert_eq!(complaints(&index, &keys).len(), 6, "and a check notices");
    }

    #[test]
    fn a_tag_takes_48_bytes_and_its_list() {
        assert_eq!(size_of::<Tag>(), 48);
    }

    /// A small generator is enough, and makes every run the same (xorshift64*, Vigna 2016).
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
        }
    }

    #[test]
    fn agrees_with_a_naive_model() {
        for (keys, steps) in [(3, 20_000), (40, 20_000), (3000, 60_000)] {
            play_against_a_model(keys, steps);
        }
    }

    fn play_against_a_model(key_count: u64, steps: u32) {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ key_count);
        let few = key_count < 100;
        let (mut index, mut keys) = (Index::default(), Keyspace::new());
        let mut model: BTreeMap<Vec<u8>, (BTreeSet<Vec<u8>>, bool)> = BTreeMap::new();
        for step in 0..steps {
            let key = format!("key:{}", dice.roll(key_count)).into_bytes();
            match dice.roll(100) {
                0..60 => {
                    let tags: BTreeSet<Vec<u8>> = (0..dice.roll(5))
                        .map(|_| {
                            let spread = if few || dice.roll(2) == 0 { 4 } else { 2000 };
                            format!("tag:{}", dice.roll(spread)).into_bytes()
                        })
                        .collect();
                    let names: Vec<&[u8]> = tags.iter().map(AsRef::as_ref).collect();
                    put(&mut index, &mut keys, &key, dice.roll(5) as u16, &names);
                    model.insert(key, (tags, false));
                }
                60..75 => {
                    // Reclaiming, now and then to the last.
                    for _ in 0..dice.roll(3) {
                        let Some(key) = index.next_dead().map(|(_, key)| key.to_vec()) else { break };
                        assert!(remove(&mut index, &mut keys, &key).is_some());
                        model.remove(&key);
                    }
                }
                75..90 => {
                    assert_eq!(remove(&mut index, &mut keys, &key).is_some(), model.remove(&key).is_some());
                }
                90..96 => {
                    // A rename: the entry goes on under another key, over whatever is there.
                    if let Some(entry) = remove(&mut index, &mut keys, &key) {
                        let to = format!("key:{}", dice.roll(key_count)).into_bytes();
                        remove(&mut index, &mut keys, &to);
                        relink(&mut index, &mut keys, &to, entry);
                        let state = model.remove(&key).unwrap();
                        model.insert(to, state);
                    }
                }
                _ => {
                    let spread = if few || dice.roll(20) == 0 { 4 } else { 2000 };
                    let tag = format!("tag:{}", dice.roll(spread)).into_bytes();
                    let mut expected = 0;
                    for (tags, dead) in model.values_mut().filter(|(tags, dead)| !dead && tags.contains(&tag)) {
                        (*dead, expected) = (tags.contains(&tag), expected + 1);
                    }
                    assert_eq!(index.invalidate_tags([tag.as_slice()]), expected, "step {step}");
                }
            }
            if step % (steps / 10) == 0 {
                assert_eq!(complaints(&index, &keys), [""; 0], "step {step}");
            }
        }
        for (key, (tags, dead)) in &model {
            let entry = &keys[key];
            assert_eq!(index.is_dead(entry), *dead);
            assert_eq!(index.tags(entry).map(<[u8]>::to_vec).collect::<BTreeSet<_>>(), *tags);
        }
        while let Some((_, key)) = index.next_dead() {
            let key = key.to_vec();
            assert!(remove(&mut index, &mut keys, &key).is_some());
        }
        assert_eq!(index.len(), keys.len() as u64);
        for key in keys.keys().cloned().collect::<Vec<_>>() {
            remove(&mut index, &mut keys, &key);
        }
        assert!(index.is_empty() && index.tag_count() == 0 && index.tag_ids.len() == 0);
    }
}
