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
//! 3. An id is given out again only when it is in no set any more, a little after `unlink` (see `gone`).
//! 4. No call takes longer because there are many entries, but for set arithmetic: a word for each 64 of them at most.

mod check;
mod dates;
mod gone;
mod hint;
mod ids;
mod invalidate;
mod members;
mod name;
mod name_map;
mod overview;
mod patterns;
mod pending;
mod records;
mod run;
mod scan;
mod select;
mod slab;
mod soft;
mod walk;
mod walks;

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

pub use self::check::Walked;
use self::dates::Dates;
use self::gone::{Departed, Gone};
pub use self::ids::Ids;
use self::members::Members;
use self::name::Name;
use self::name_map::NameMap;
use self::pending::Pending;
use self::records::Records;
pub use self::scan::Effort;
use self::slab::Slab;
pub use self::soft::Mark;
pub use self::walks::WalkId;
use self::walks::Walks;
use crate::codec::Encoding;
use crate::entry::{Entry, Names, Soft, Verdict};
use crate::stats::{Rankings, Spread, compression_ratio};

struct Tag {
    name: Name,
    members: Members,
}

/// The entries of one type in this database, and what is told of them.
#[derive(Default)]
struct TypeMembers {
    ids: RoaringBitmap,
    bytes: Bytes,
    rankings: Rankings,
    spread: Spread,
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
    /// How many times smaller the stored bytes are than the payloads; 1 when there are none.
    pub fn ratio(self) -> f64 {
        compression_ratio(self.payload, self.stored)
    }

    fn add(&mut self, entry: &Entry) {
        self.payload += entry.size() as u64;
        self.stored += entry.stored().len() as u64;
    }

    fn subtract(&mut self, entry: &Entry) {
        self.payload -= entry.size() as u64;
        self.stored -= entry.stored().len() as u64;
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
    records: Records,
    tags: Slab<Tag>,
    tag_ids: NameMap,
    types: Vec<TypeMembers>,
    dead: RoaringBitmap,
    /// None of them dead, nor in any other set than those of tags.
    gone: Gone,
    /// None of them dead.
    pending: Pending,
    /// Since when entries are stale whose soft invalidation was carried out. None of them pending.
    softened: Dates,
    dates: Dates,
    /// When the freshness ends of entries without a grace whose key's expiry was moved.
    moved: Dates,
    /// Bytes of payloads in each encoding.
    kept: [u64; Encoding::ALL.len()],
    walks: Walks,
}

/// What the index is told of an entry that comes, and does not find in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Placement {
    /// Its type.
    pub type_id: u16,
    /// Until when it is fresh by its key's expiry; `None`: for ever.
    pub fresh_until_ms: Option<i64>,
    /// Was it softly invalidated where it comes from?
    pub soft: Option<Soft>,
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

    /// Bytes of payloads that are kept in this encoding.
    pub fn kept_as(&self, encoding: Encoding) -> u64 {
        self.kept.get(encoding as usize).copied().unwrap_or(0)
    }

    fn kept_mut(&mut self, encoding: Encoding) -> &mut u64 {
        let [identity, gzip, zstd, lz4] = &mut self.kept;
        match encoding {
            Encoding::Identity => identity,
            Encoding::Gzip => gzip,
            Encoding::Zstd => zstd,
            Encoding::Lz4 => lz4,
        }
    }

    /// Notes that an entry's payload is kept in another form, and what it was kept in before.
    pub fn settled(&mut self, entry: &Entry, encoding_before: Encoding, stored_before: usize) {
        *self.kept_mut(encoding_before) -= stored_before as u64;
        *self.kept_mut(entry.form().encoding) += entry.stored().len() as u64;
        if let Some(of_type) = self.types.get_mut(usize::from(entry.type_id())) {
            of_type.bytes.stored += entry.stored().len() as u64;
            of_type.bytes.stored -= stored_before as u64;
        }
    }

    // ---- entries come and go ----

    /// Puts an entry that is in no index into this one, under its key's name. `tags` are its tags' names, none twice, as many
    /// as it has room for. `false`, and nothing changed, when it has four billion neighbours already.
    #[must_use]
    pub fn link<'t>(
        &mut self,
        entry: &mut Entry,
        key: &[u8],
        placement: Placement,
        tags: impl IntoIterator<Item = &'t [u8]>,
    ) -> bool {
        let Some(id) = self.records.insert(key) else { return false };
        // All are looked for before one is changed: so the processor waits for their memory at the same time.
        let look = |name: &'t [u8]| {
            let hash = self.hasher.hash_one(name);
            (name, hash, self.find_tag(hash, name))
        };
        let known: SmallVec<[_; 8]> = tags.into_iter().map(look).collect();
        for (at, (name, hash, known)) in known.into_iter().enumerate() {
            if let Some(tag_id) = known.or_else(|| self.add_tag(name, hash)) {
                self.tags.get_mut(tag_id).into_iter().for_each(|tag| tag.members.insert(id));
                entry.set_tag_id(at, tag_id);
            }
        }
        self.enter(entry, id, placement);
        self.add_to_type(entry, id, placement.type_id);
        true
    }

    /// Puts an entry in the place of another that is here, under the same key: as linking the one and unlinking the other,
    /// but tags that both bear are not touched. Says whether the old one was dead, or `None` (and does nothing) when it is
    /// not here.
    pub fn relink(&mut self, old: &mut Entry, new: &mut Entry, placement: Placement, tags: &[&[u8]]) -> Option<bool> {
        // Found under its own key by the caller, so its record is not read to prove it: that would be the one miss of the
        // processor's caches in storing over an entry.
        if !old.is_linked() || old.index() != self.number {
            return None;
        }
        let id = old.id();
        // Most often the tags are the same, in the same order. Of what is dead they may be nobody's, or another's, by now.
        let is_dead = self.dead.contains(id);
        let mut same = tags.len() == old.tag_count();
        let mut old_tags = old.tag_ids();
        for (at, name) in tags.iter().enumerate() {
            let kept = old_tags.next().filter(|tag| !is_dead && self.is_live_tag(*tag, name));
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
        let old_date = self.date_of(old);
        self.unmark_soft(id);
        self.enter(new, id, placement);
        if old.type_id() == placement.type_id {
            self.replace_in_type(old, old_date, new);
        } else {
            self.take_from_type(old, old_date);
            self.add_to_type(new, id, placement.type_id);
        }
        old.set_unlinked();
        Some(was_dead)
    }

    /// Notes of an entry what is neither its tags nor its type.
    fn enter(&mut self, entry: &mut Entry, id: u32, placement: Placement) {
        self.date(entry, id, placement.fresh_until_ms);
        if entry.carries_dead_mark() {
            self.dead.insert(id);
        } else if let Some(soft) = placement.soft {
            self.mark_soft(id, soft, entry.grace_ms());
        }
        self.walks.linked(id);
        entry.set_linked(id, placement.type_id, self.number);
    }

    /// Is this the record that the name leads to? (After an invalidation it may lead to another, or nowhere.)
    fn is_live_tag(&self, tag_id: u32, name: &[u8]) -> bool {
        self.tags.get(tag_id).is_some_and(|tag| tag.name.bytes() == name)
            && (self.dead.is_empty() || self.find_tag(self.hasher.hash_one(name), name) == Some(tag_id))
    }

    /// Takes an entry out; says whether it was dead, or `None` (and does nothing) when it is not here under this key. Should it be
    /// linked again soon, it has [names](Index::names_of_gone).
    pub fn unlink(&mut self, entry: &mut Entry, key: &[u8]) -> Option<bool> {
        if !self.holds(entry, key) {
            return None;
        }
        let (id, soft, date) = (entry.id(), self.soft_mark(entry), self.date_of(entry));
        self.take_from_type(entry, date);
        let was_dead = self.leave(id);
        let (number, over) = self.gone.note(id, entry.tag_ids(), soft);
        entry.depart(number, was_dead);
        over.into_iter().for_each(|over| self.forget(&over));
        Some(was_dead)
    }

    /// Forgets the last that went. Not while one of them may come back.
    pub fn settle(&mut self) {
        while let Some(departed) = self.gone.take() {
            self.forget(&departed);
        }
    }

    fn forget(&mut self, departed: &Departed) {
        for tag_id in &departed.tag_ids {
            self.remove_member(*tag_id, departed.id);
        }
        self.records.free(departed.id);
    }

    /// Takes out of what is neither tag nor type; returns whether it was dead.
    fn leave(&mut self, id: u32) -> bool {
        self.records.remove(id);
        self.walks.unlinked(id);
        self.dates.remove(id);
        self.moved.remove(id);
        self.unmark_soft(id);
        if self.is_empty() {
            (self.dates, self.moved, self.softened) = Default::default();
        }
        self.dead.remove(id)
    }

    fn holds(&self, entry: &Entry, key: &[u8]) -> bool {
        entry.is_linked()
            && entry.index() == self.number
            && self.records.get(entry.id()).is_some_and(|name| name == key)
    }

    fn add_to_type(&mut self, entry: &Entry, id: u32, type_id: u16) {
        let date = self.date_of(entry);
        *self.kept_mut(entry.form().encoding) += entry.stored().len() as u64;
        if let Some(members) = self.type_mut(type_id) {
            members.ids.insert(id);
            members.bytes.add(entry);
            members.count_in(entry, date);
        }
    }

    fn take_from_type(&mut self, entry: &Entry, date: u64) {
        *self.kept_mut(entry.form().encoding) -= entry.stored().len() as u64;
        if let Some(members) = self.types.get_mut(usize::from(entry.type_id())) {
            members.ids.remove(entry.id());
            members.bytes.subtract(entry);
            members.count_out(entry, date);
            members.drop_if_empty();
        }
    }

    fn replace_in_type(&mut self, old: &Entry, old_date: u64, new: &Entry) {
        *self.kept_mut(old.form().encoding) -= old.stored().len() as u64;
        *self.kept_mut(new.form().encoding) += new.stored().len() as u64;
        let date = self.date_of(new);
        if let Some(members) = self.types.get_mut(usize::from(new.type_id())) {
            members.bytes.replace(old, new);
            members.recount((old, old_date), (new, date));
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
        let tag_id = self.find_tag(hash, name).or_else(|| self.add_tag(name, hash))?;
        self.tags.get_mut(tag_id)?.members.insert(id);
        Some(tag_id)
    }

    fn add_tag(&mut self, name: &[u8], hash: u64) -> Option<u32> {
        let tag_id = self.tags.insert(Tag { name: Name::new(name), members: Members::default() })?;
        let (tags, hasher) = (&self.tags, &self.hasher);
        self.tag_ids.insert(hash, tag_id, |tag| hash_of(hasher, tags, tag));
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

    /// How many tags have an entry. (One whose entries all died by other tags counts until they are reclaimed, and one whose entries
    /// have just gone until that is [settled](Index::settle).)
    pub fn tag_count(&self) -> u64 {
        self.tag_ids.len() as u64
    }

    /// How many entries of a type there are, dead ones not counted.
    #[cfg(test)]
    fn type_len(&self, type_id: u16) -> u64 {
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
    #[inline]
    pub fn is_dead(&self, entry: &Entry) -> bool {
        // Almost always there is none at all.
        !self.dead.is_empty() && self.dead.contains(entry.id())
    }

    /// Was the entry with this id invalidated?
    pub fn has_died(&self, id: u32) -> bool {
        self.dead.contains(id)
    }

    /// The key under which an id is here.
    pub fn key(&self, id: u32) -> Option<&[u8]> {
        self.records.get(id)
    }

    /// The names of a linked entry's tags.
    pub fn tags<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a [u8]> + Clone {
        entry.tag_ids().filter_map(|tag| self.tags.get(tag)).map(|tag| tag.name.bytes())
    }

    /// A linked entry's names.
    pub fn names(&self, entry: &Entry, type_name: &[u8]) -> Names {
        Names::new(type_name, self.tags(entry), self.soft_mark(entry))
    }

    /// The names of an entry that was unlinked here, if it was one of the last.
    pub fn names_of_gone(&self, entry: &Entry, type_name: &[u8]) -> Option<Names> {
        let soft = self.gone.soft(entry.departed()?)?;
        Some(Names::new(type_name, self.tags(entry), soft))
    }

    /// The soft invalidation of such an entry.
    pub fn soft_of_gone(&self, entry: &Entry) -> Option<Soft> {
        self.gone.soft(entry.departed()?)?
    }

    fn soft_mark(&self, entry: &Entry) -> Option<Soft> {
        if let Verdict::Soft(soft) = self.verdict(entry) { Some(soft) } else { None }
    }
}

fn hash_of(hasher: &DefaultHashBuilder, tags: &Slab<Tag>, tag_id: u32) -> u64 {
    hasher.hash_one(tags.get(tag_id).map(|tag| tag.name.bytes()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
