//! An entry: one payload with its tags and metadata, in one allocation.
//!
//! A server holds one pointer a key, so an entry is a block that describes itself:
//!
//! ```text
//!  0     1       2    6       8      10        16       20     24      25        31         36
//!  +-----+-------+----+-------+------+---------+--------+------+-------+---------+----------+---------+--------+---------+
//!  |place| flags | id | index | type | touched | tail   | hits | tag   | created | lifetime | tag ids | extras | payload |
//!  |     |       |    |       | id   | us      | length |      | count | ms      | ms       | 3 each  |        |         |
//!  +-----+-------+----+-------+------+---------+--------+------+-------+---------+----------+---------+--------+---------+
//!                '-------- ids --------------'                                              '----------- tail ----------'
//! ```
//!
//! `touched` is of a clock that nobody sets, which starts with the server: it orders uses and dates nothing. Its six bytes
//! last for nine years. Extras (grace, cost, records, etag, format, meta, born) take room only where they are given: their length
//! in three bytes, a byte that says which there are, and then those.
//!
//! **Linked or detached.** An entry in the index knows its type and its tags by the index's ids. An entry outside it (just
//! loaded or copied) carries their names instead: ids mean nothing elsewhere. [`Entry::take_names`] and
//! [`crate::index::Index::link`] turn the latter into the former. One that is unlinked mostly goes for good, so its names are not
//! put into it: it keeps the ids, which its index keeps good for a while, under a number that it gives it ([`Entry::depart`]).
//!
//! **Apart.** What is rare has no room of its own in the head: the names of a detached entry, the tag ids of one that has a tag
//! beyond the 16,777,216th of its database, and a payload of [`APART_FROM`] bytes or more. They stand in a second block,
//! together with the ids, whose place its address takes.
//!
//! A payload that stands apart is shared: a thread that works on it, and a copy of the entry, hold the same bytes. It may be
//! kept encoded, and may be exchanged for another form of itself ([`Entry::settle`]) while the entry stays where it is.

mod body;
mod content;
mod extras;
mod limits;
mod names;
mod saved;
mod verdict;

use md5::{Digest, Md5};
use zerocopy::{FromZeros, KnownLayout};

pub use self::body::{Body, WeakBody};
pub use self::content::{Content, PayloadBytes};
pub use self::extras::{End, Extras, Form};
pub use self::limits::{APART_FROM, Etag, MAX_COST_MS, MAX_PAYLOAD, MAX_TAGS};
pub use self::names::Names;
pub use self::verdict::{Soft, Verdict};
use crate::bytes::Reader;
use crate::codec::Encoding;
use crate::key::{MAX_JSON_BYTES, MAX_NAME_BYTES};

/// From this size on an entry keeps its MD5 once it was asked for; below, computing it again is as fast as finding it.
const KEEP_ETAG_FROM: usize = 192;

const FLAG_LINKED: u8 = 1;
const FLAG_DEAD: u8 = 2;
const FLAG_EXTRAS: u8 = 4;
const FLAG_ETAG_KNOWN: u8 = 8;
const FLAG_FORM: u8 = 16;
/// Length of one tag id in the tail.
const TAG_ID: usize = 3;
/// Tag ids from here on do not fit there.
const WIDE_TAG_ID: u32 = 1 << (8 * TAG_ID);
/// Length of the extras' length.
const EXTRAS_LEN: usize = 3;
/// Where the tail's length stands: whoever holds only the address of an entry finds its end by it.
pub const TAIL_LEN_OFFSET: usize = std::mem::offset_of!(Entry, tail_len);

/// The MD5 of a payload.
pub fn etag_of(payload: &[u8]) -> Etag {
    Md5::digest(payload).into()
}

/// The MD5 of a payload that comes in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Md5);

impl Hasher {
    /// The next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The MD5 of all of them.
    pub fn finish(self) -> Etag {
        self.0.finalize().into()
    }
}

/// One payload with its tags and metadata. See the module's head for the layout.
#[derive(FromZeros, KnownLayout)]
#[repr(C)]
pub struct Entry {
    place: Layout,
    tail_len: u32,
    hits: u32,
    tag_count: u8,
    created_ms: [u8; 6],
    lifetime_ms: [u8; 5],
    tail: [u8],
}

/// Where the ids stand. The flags are in here because there is a byte left.
#[derive(FromZeros)]
#[repr(u8)]
enum Layout {
    Inline {
        flags: u8,
        ids: Ids,
    },
    /// Never `None`: the type is one that may be all zeroes.
    Apart {
        flags: u8,
        apart: Option<Box<Apart>>,
    },
}

/// What the index knows an entry by, and its last use. Packed, so that it may follow two single bytes.
#[derive(Clone, Copy, Default, FromZeros)]
#[repr(C, packed(2))]
struct Ids {
    id: u32,
    index: u16,
    type_id: u16,
    touched_us: [u8; 6],
}

/// See the module's head.
#[derive(Default)]
struct Apart {
    ids: Ids,
    kept: NamesOrIds,
    /// The payload, in whatever form.
    body: Option<Body>,
}

#[derive(Default)]
enum NamesOrIds {
    #[default]
    Nothing,
    Names(Names),
    WideTagIds(Vec<u32>),
}

impl Entry {
    /// A new entry with room for `tag_count` tags, not yet linked and without names.
    /// `None` when a part is over its bound or there is no memory for it.
    pub fn new(content: Content<'_>, tag_count: usize) -> Option<Box<Self>> {
        let Content { created_ms, lifetime_ms, mut extras, stored } = content;
        extras.cost_ms = extras.cost_ms.map(|cost_ms| cost_ms.min(MAX_COST_MS));
        let stored_len = stored.len();
        if stored_len >= APART_FROM {
            extras.form.get_or_insert(Form::wanting(Encoding::Identity, stored_len));
        }
        if stored_len > MAX_PAYLOAD
            || tag_count > MAX_TAGS
            || extras.format.is_some_and(|f| f.is_empty() || f.len() > MAX_NAME_BYTES)
            || extras.meta.is_some_and(|m| m.len() > MAX_JSON_BYTES)
            || extras.form.is_some_and(|form| !form.is_sound(stored_len, extras.etag.is_some()))
        {
            return None;
        }
        let keep_etag = extras.etag.is_some() || extras.form.is_some() || stored_len >= KEEP_ETAG_FROM;
        let extras_len = extras.encoded_len(keep_etag);
        let tags_len = tag_count * TAG_ID;
        let before = tags_len + if extras_len > 0 { EXTRAS_LEN + extras_len } else { 0 };
        let inline_len = if stored_len < APART_FROM { stored_len } else { 0 };
        let mut entry = Self::new_box_zeroed_with_elems(before + inline_len).ok()?;
        entry.tail_len = u32::try_from(before + inline_len).ok()?;
        entry.tag_count = u8::try_from(tag_count).ok()?;
        put_uint(&mut entry.created_ms, created_ms);
        put_uint(&mut entry.lifetime_ms, lifetime_ms);
        let (head, inline) = entry.tail.split_at_mut_checked(before)?;
        inline.copy_from_slice(stored.get(..inline_len)?);
        if let Some((len, bytes)) = head.get_mut(tags_len..)?.split_first_chunk_mut::<EXTRAS_LEN>() {
            put_uint(len, extras_len as u64);
            extras.encode(keep_etag, bytes);
        }
        let flag = |given: bool, flag: u8| if given { flag } else { 0 };
        *entry.flags_mut() |= flag(extras_len > 0, FLAG_EXTRAS)
            | flag(extras.etag.is_some(), FLAG_ETAG_KNOWN)
            | flag(extras.form.is_some(), FLAG_FORM);
        if stored_len >= APART_FROM {
            let body = stored.into_body()?;
            entry.put_apart(|apart| apart.body = Some(body));
        }
        Some(entry)
    }

    /// A detached entry: one that carries its names.
    pub fn new_loose(content: Content<'_>, names: Names, dead: bool) -> Option<Box<Self>> {
        let mut entry = Self::new(content, names.tag_count())?;
        entry.carry(names, dead);
        Some(entry)
    }

    /// The bytes that are kept.
    #[inline]
    pub fn stored(&self) -> &[u8] {
        match self.body() {
            Some(body) => body,
            None => self.tail.get(self.before_payload()..).unwrap_or_default(),
        }
    }

    /// The bytes that are kept, where they stand apart and are shared.
    #[inline]
    pub fn body(&self) -> Option<&Body> {
        match &self.place {
            Layout::Inline { .. } => None,
            Layout::Apart { apart, .. } => apart.as_ref()?.body.as_ref(),
        }
    }

    /// The bytes that are kept, to be kept by another as well.
    pub fn share(&self) -> PayloadBytes<'_> {
        self.body().map_or_else(|| PayloadBytes::Lent(self.stored()), |body| PayloadBytes::Shared(body.clone()))
    }

    /// How the payload is kept.
    #[inline]
    pub fn form(&self) -> Form {
        let form = if self.flags() & FLAG_FORM == 0 { None } else { self.extras_bytes().and_then(extras::form_in) };
        form.unwrap_or_else(|| Form::wanting(Encoding::Identity, self.stored().len()))
    }

    /// Length of the payload.
    pub fn size(&self) -> usize {
        self.form().size
    }

    /// The MD5 of the payload, if it is known.
    pub fn known_etag(&self) -> Option<Etag> {
        self.extras().etag
    }

    /// The MD5 of the payload: remembered from the first time on where that is worth its room.
    pub fn etag(&mut self) -> Etag {
        if let Some(etag) = self.known_etag() {
            return etag;
        }
        // Of an encoded payload it is known.
        let etag = etag_of(self.stored());
        self.remember_etag(etag);
        etag
    }

    /// Remembers the MD5 of the payload, if that is worth its room.
    pub fn remember_etag(&mut self, etag: Etag) {
        if let Some(slot) = self.extras_mut().and_then(extras::etag_in) {
            *slot = etag;
            *self.flags_mut() |= FLAG_ETAG_KNOWN;
        }
    }

    /// Is there work to be done on the payload that can wait: its MD5, another form?
    pub fn is_unsettled(&self) -> bool {
        self.body().is_some() && (self.known_etag().is_none() || self.form().wanted != Encoding::Identity)
    }

    /// Exchanges the bytes of a payload that stands apart for others of the same payload, and notes its MD5. Returns those that were
    /// kept so far.
    pub fn settle(&mut self, etag: Etag, encoding: Encoding, body: Body) -> Option<Body> {
        let form = Form::encoded(encoding, self.size());
        if self.body().is_none() || !form.is_sound(body.len(), true) {
            return None;
        }
        *self.extras_mut().and_then(extras::form_slot)? = form.to_bytes();
        self.remember_etag(etag);
        match &mut self.place {
            Layout::Apart { apart: Some(apart), .. } => apart.body.replace(body),
            _ => None,
        }
    }

    /// Makes it no younger than `now_ms`.
    pub fn clamp_created_ms(&mut self, now_ms: u64) {
        let created_ms = self.created_ms().min(now_ms);
        put_uint(&mut self.created_ms, created_ms);
    }

    /// Its tags' ids in the index; meaningless while detached.
    pub fn tag_ids(&self) -> impl ExactSizeIterator<Item = u32> + Clone + '_ {
        let wide = self.wide_tag_ids();
        let narrow = self.tail.get(..self.tag_count() * TAG_ID).unwrap_or_default().as_chunks::<TAG_ID>().0;
        narrow.iter().enumerate().map(move |(at, id)| match wide.and_then(|ids| ids.get(at)) {
            None => get_uint(id) as u32,
            Some(id) => *id,
        })
    }

    /// How many tags it has.
    pub fn tag_count(&self) -> usize {
        self.tag_count.into()
    }

    /// Everything optional.
    pub fn extras(&self) -> Extras<'_> {
        if self.flags() & FLAG_EXTRAS == 0 {
            return Extras::default();
        }
        let mut extras = self.extras_bytes().and_then(|b| Extras::decode(&mut Reader::new(b))).unwrap_or_default();
        if self.flags() & FLAG_ETAG_KNOWN == 0 {
            extras.etag = None;
        }
        extras
    }

    /// What producing the payload took, in ms, if that is known.
    #[inline]
    pub fn cost_ms(&self) -> Option<u64> {
        self.extras_bytes().and_then(extras::cost_in)
    }

    /// How long it stays stale after being fresh, in ms.
    #[inline]
    pub fn grace_ms(&self) -> u64 {
        self.extras_bytes().map_or(0, extras::grace_in)
    }

    /// What its end follows from.
    pub fn end(&self) -> End {
        self.extras_bytes().map_or(End::default(), extras::end_in)
    }

    /// When its key was first stored, unix ms, where that is kept. It was never stored before that.
    #[inline]
    pub fn kept_born_ms(&self) -> Option<u64> {
        extras::born_in(self.extras_bytes()?).map(|born_ms| born_ms.min(self.created_ms()))
    }

    /// When its key was first stored, unix ms; where that is not kept, when it was stored itself.
    #[inline]
    pub fn born_ms(&self) -> u64 {
        self.kept_born_ms().unwrap_or_else(|| self.created_ms())
    }

    /// When it was stored, unix ms.
    #[inline]
    pub fn created_ms(&self) -> u64 {
        get_uint(&self.created_ms)
    }

    /// The fresh lifetime it was stored with, in ms; 0: without end.
    #[inline]
    pub fn lifetime_ms(&self) -> u64 {
        get_uint(&self.lifetime_ms)
    }

    /// The index's name for its type; meaningless while detached.
    #[inline]
    pub fn type_id(&self) -> u16 {
        self.ids().type_id
    }

    /// The index's name for it; meaningless while detached.
    #[inline]
    pub fn id(&self) -> u32 {
        self.ids().id
    }

    /// The number of the index that it is in; meaningless while detached.
    #[inline]
    pub fn index(&self) -> u16 {
        self.ids().index
    }

    /// Is it in an index?
    #[inline]
    pub fn is_linked(&self) -> bool {
        self.flags() & FLAG_LINKED != 0
    }

    /// Was it invalidated, in the index it came from, before it was taken out of it? (In an index, ask the index.)
    pub fn carries_dead_mark(&self) -> bool {
        self.flags() & FLAG_DEAD != 0
    }

    /// Gives an entry that is in no index the names that it goes on with, and says whether it is dead.
    pub fn carry(&mut self, names: Names, dead: bool) {
        self.put_apart(|apart| apart.kept = NamesOrIds::Names(names));
        let flags = self.flags_mut();
        *flags = *flags & !FLAG_DEAD | if dead { FLAG_DEAD } else { 0 };
    }

    /// Notes of an entry that was taken out of an index under which number that knows it, and whether it is dead.
    pub fn depart(&mut self, number: u32, dead: bool) {
        self.ids_mut().id = number;
        let flags = self.flags_mut();
        *flags = *flags & !(FLAG_LINKED | FLAG_DEAD) | if dead { FLAG_DEAD } else { 0 };
    }

    /// Under which number its index may still know it, if it departed.
    pub fn departed(&self) -> Option<u32> {
        (!self.is_linked() && self.names().is_none()).then(|| self.ids().id)
    }

    /// The names it carries, which it is about to get back as ids.
    pub fn take_names(&mut self) -> Names {
        let Layout::Apart { apart: Some(apart), .. } = &mut self.place else { return Names::default() };
        let NamesOrIds::Names(names) = &mut apart.kept else { return Names::default() };
        let names = std::mem::take(names);
        apart.kept = NamesOrIds::Nothing;
        if apart.body.is_none() {
            self.place = Layout::Inline { flags: self.flags(), ids: self.ids() };
        }
        names
    }

    /// The names it carries, while detached.
    pub fn names(&self) -> Option<&Names> {
        match self.kept()? {
            NamesOrIds::Names(names) => Some(names),
            NamesOrIds::Nothing | NamesOrIds::WideTagIds(_) => None,
        }
    }

    /// How often it was handed out.
    pub fn hits(&self) -> u32 {
        self.hits
    }

    /// When it was last handed out or stored, in µs of the clock that orders uses; 0: not since it was loaded.
    pub fn touched_us(&self) -> u64 {
        get_uint(&self.ids().touched_us)
    }

    /// What orders entries by their last use; of those that nobody used since they were loaded, the older come first.
    pub fn use_order(&self) -> (u64, u64) {
        (self.touched_us(), self.created_ms())
    }

    /// Notes a hit.
    #[inline]
    pub fn hit(&mut self, use_us: u64) {
        self.hits = self.hits.saturating_add(1);
        self.touch(use_us);
    }

    /// Notes a use (see [`Entry::touched_us`]).
    #[inline]
    pub fn touch(&mut self, use_us: u64) {
        put_uint(&mut self.ids_mut().touched_us, use_us);
    }

    /// Bytes of memory it takes, its detached names aside, and how many of them are not in its own block.
    pub fn size_bytes(&self) -> (usize, usize) {
        let apart = self.body().map_or(0, |body| size_of::<Apart>() + body.len());
        (size_of_val(self) + apart, apart)
    }

    fn content(&self) -> Content<'_> {
        let (created_ms, lifetime_ms) = (self.created_ms(), self.lifetime_ms());
        Content { created_ms, lifetime_ms, extras: self.extras(), stored: self.share() }
    }

    /// A copy with its own names, for another key. Nobody has used it yet.
    pub fn copy(&self, names: Names, dead: bool) -> Option<Box<Self>> {
        Self::new_loose(self.content(), names, dead)
    }

    pub(crate) fn set_tag_id(&mut self, at: usize, id: u32) {
        if id >= WIDE_TAG_ID && self.wide_tag_ids().is_none() {
            let ids = self.tag_ids().collect();
            self.put_apart(|apart| apart.kept = NamesOrIds::WideTagIds(ids));
        }
        if let Some(NamesOrIds::WideTagIds(ids)) = self.kept_mut() {
            ids.get_mut(at).into_iter().for_each(|slot| *slot = id);
        } else if let Some(slot) = self.tail.get_mut(at * TAG_ID..).and_then(<[u8]>::first_chunk_mut::<TAG_ID>) {
            put_uint(slot, id.into());
        }
    }

    pub(crate) fn set_linked(&mut self, id: u32, type_id: u16, index: u16) {
        let ids = self.ids_mut();
        (ids.id, ids.type_id, ids.index) = (id, type_id, index);
        let flags = self.flags_mut();
        *flags = (*flags | FLAG_LINKED) & !FLAG_DEAD;
    }

    pub(crate) fn set_unlinked(&mut self) {
        *self.flags_mut() &= !FLAG_LINKED;
    }

    #[inline]
    fn flags(&self) -> u8 {
        let (Layout::Inline { flags, .. } | Layout::Apart { flags, .. }) = &self.place;
        *flags
    }

    fn flags_mut(&mut self) -> &mut u8 {
        let (Layout::Inline { flags, .. } | Layout::Apart { flags, .. }) = &mut self.place;
        flags
    }

    #[inline]
    fn ids(&self) -> Ids {
        match &self.place {
            Layout::Inline { ids, .. } => *ids,
            Layout::Apart { apart, .. } => apart.as_ref().map(|apart| apart.ids).unwrap_or_default(),
        }
    }

    #[inline]
    fn ids_mut(&mut self) -> &mut Ids {
        match &mut self.place {
            Layout::Inline { ids, .. } => ids,
            Layout::Apart { apart, .. } => &mut apart.get_or_insert_default().ids,
        }
    }

    fn kept(&self) -> Option<&NamesOrIds> {
        match &self.place {
            Layout::Inline { .. } => None,
            Layout::Apart { apart, .. } => apart.as_ref().map(|apart| &apart.kept),
        }
    }

    fn kept_mut(&mut self) -> Option<&mut NamesOrIds> {
        match &mut self.place {
            Layout::Inline { .. } => None,
            Layout::Apart { apart, .. } => apart.as_mut().map(|apart| &mut apart.kept),
        }
    }

    fn wide_tag_ids(&self) -> Option<&[u32]> {
        match self.kept()? {
            NamesOrIds::WideTagIds(ids) => Some(ids),
            NamesOrIds::Nothing | NamesOrIds::Names(_) => None,
        }
    }

    /// Changes what stands apart, which begins to now if nothing did.
    fn put_apart(&mut self, change: impl FnOnce(&mut Apart)) {
        let (flags, ids) = (self.flags(), self.ids());
        let mut apart = match std::mem::replace(&mut self.place, Layout::Inline { flags, ids }) {
            Layout::Apart { apart: Some(apart), .. } => apart,
            _ => Box::new(Apart { ids, ..Apart::default() }),
        };
        change(&mut apart);
        self.place = Layout::Apart { flags, apart: Some(apart) };
    }

    #[inline]
    fn before_payload(&self) -> usize {
        let tags_len = self.tag_count() * TAG_ID;
        tags_len + self.extras_bytes().map_or(0, |extras| EXTRAS_LEN + extras.len())
    }

    #[inline]
    fn extras_range(&self) -> Option<std::ops::Range<usize>> {
        if self.flags() & FLAG_EXTRAS == 0 {
            return None;
        }
        let start = self.tag_count() * TAG_ID;
        let len = get_uint(self.tail.get(start..)?.first_chunk::<EXTRAS_LEN>()?);
        let start = start + EXTRAS_LEN;
        Some(start..start + usize::try_from(len).ok()?)
    }

    #[inline]
    fn extras_bytes(&self) -> Option<&[u8]> {
        self.tail.get(self.extras_range()?)
    }

    fn extras_mut(&mut self) -> Option<&mut [u8]> {
        let range = self.extras_range()?;
        self.tail.get_mut(range)
    }
}

/// Little-endian, as many bytes as there are; what does not fit becomes the largest that does.
fn put_uint<const N: usize>(out: &mut [u8; N], value: u64) {
    let largest = u64::MAX >> (64 - 8 * N);
    let bytes = value.min(largest).to_le_bytes();
    if let Some(low) = bytes.first_chunk::<N>() {
        *out = *low;
    }
}

fn get_uint<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut all = [0; 8];
    if let Some(low) = all.first_chunk_mut::<N>() {
        *low = *bytes;
    }
    u64::from_le_bytes(all)
}

#[cfg(test)]
mod tests;
