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
//! `touched` counts from `created`. Extras (grace, cost, records, etag, format, meta) take room only where they are given:
//! their length in three bytes, a byte that says which there are, and then those.
//!
//! **Linked or loose.** An entry in the index knows its type and its tags by the index's ids. An entry outside it (just
//! loaded or copied, or unlinked on its way to another name or database) carries their names instead: ids mean nothing
//! elsewhere. [`Entry::take_names`] and [`crate::index::Index::link`] turn the latter into the former, `Index::unlink` and
//! [`Entry::carry`] the former into the latter.
//!
//! **Apart.** What is rare has no room of its own in the head: the names of a loose entry, and the tag ids of one that has
//! a tag beyond the 16,777,216th of its database. They stand in a second block, together with the ids, whose place its
//! address takes.

use md5::{Digest, Md5};
use zerocopy::{FromZeros, KnownLayout};

use crate::key::{MAX_JSON_BYTES, MAX_NAME_BYTES};
use crate::wire::{Reader, Writer};

/// The longest payload: what the protocol allows in one string by default.
pub const MAX_PAYLOAD: usize = 512 << 20;
/// The most tags of one entry.
pub const MAX_TAGS: usize = 64;

/// Version of [`Entry::encode`]'s bytes.
const ENCODING_VERSION: u8 = 1;
/// From this size on an entry keeps its MD5 once it was asked for; below, computing it again is as fast as finding it.
const KEEP_ETAG_FROM: usize = 192;

/// Moments, lifetimes and graces of soft invalidations are less than these, in ms: the years 10889, 36 and 36.
const MOMENTS: u64 = 1 << 48;
const LIFETIMES: u64 = 1 << 40;
const GRACES: u64 = 1 << 40;

const FLAG_LINKED: u8 = 1;
const FLAG_DEAD: u8 = 2;
const FLAG_EXTRAS: u8 = 4;
const FLAG_ETAG_KNOWN: u8 = 8;
/// Length of one tag id in the tail.
const TAG_ID: usize = 3;
/// Tag ids from here on do not fit there.
const WIDE_TAG_ID: u32 = 1 << (8 * TAG_ID);
/// Length of the extras' length.
const EXTRAS_LEN: usize = 3;
/// Where the tail's length stands: whoever holds only the address of an entry finds its end by it.
pub const TAIL_LEN_OFFSET: usize = std::mem::offset_of!(Entry, tail_len);

/// An MD5, as bytes.
pub type Etag = [u8; 16];

/// The MD5 of a payload.
pub fn etag_of(payload: &[u8]) -> Etag {
    Md5::digest(payload).into()
}

/// One payload with its tags and metadata. See the module's head for the layout.
#[derive(FromZeros, KnownLayout)]
#[repr(C)]
pub struct Entry {
    place: Place,
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
enum Place {
    Here {
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
    kept: Kept,
}

enum Kept {
    Names(Names),
    WideTagIds(Vec<u32>),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Names(Names::default())
    }
}

/// The names that an entry carries while it is in no index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The entry's type.
    pub type_name: Box<[u8]>,
    /// Its tags, none twice.
    pub tags: Vec<Box<[u8]>>,
    /// Was it softly invalidated, and its key's expiry does not say so yet?
    pub soft: Option<Soft>,
}

/// A soft invalidation: the entry is stale from that moment on, for that grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soft {
    /// When it was invalidated, unix ms.
    pub moment_ms: u64,
    /// How long it stays servable as stale after that, in ms.
    pub grace_ms: u64,
}

impl Soft {
    /// When it is gone, unix ms.
    pub fn end_ms(self) -> u64 {
        self.moment_ms + self.grace_ms
    }
}

/// What invalidations made of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: its key's expiry decides.
    #[default]
    Alive,
    /// Gone, though its key is not reclaimed yet.
    Dead,
    /// Stale, though its key's expiry does not say so yet.
    Soft(Soft),
}

/// What an entry may have besides its payload, tags and type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    /// How long the entry stays servable as stale after its freshness, in ms.
    pub grace_ms: u64,
    /// What producing the payload took, in ms.
    pub cost_ms: Option<u64>,
    /// How many records the payload has.
    pub records: Option<u64>,
    /// The payload's MD5, when it was computed.
    pub etag: Option<Etag>,
    /// `csv`, `json`, …
    pub format: Option<&'a [u8]>,
    /// A JSON object of the user's.
    pub meta: Option<&'a [u8]>,
}

/// Everything that makes an entry but its names.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content<'a> {
    /// When it was stored, unix ms.
    pub created_ms: u64,
    /// The fresh lifetime it was stored with, in ms; 0: without end.
    pub lifetime_ms: u64,
    /// See [`Extras`].
    pub extras: Extras<'a>,
    /// The user's bytes.
    pub payload: &'a [u8],
}

impl Entry {
    /// A new entry with room for `tag_count` tags, not yet linked and without names.
    /// `None` when a part is over its bound or there is no memory for it.
    pub fn new(content: &Content<'_>, tag_count: usize) -> Option<Box<Self>> {
        let extras = &content.extras;
        if content.payload.len() > MAX_PAYLOAD
            || tag_count > MAX_TAGS
            || extras.format.is_some_and(|f| f.is_empty() || f.len() > MAX_NAME_BYTES)
            || extras.meta.is_some_and(|m| m.len() > MAX_JSON_BYTES)
        {
            return None;
        }
        let keep_etag = extras.etag.is_some() || content.payload.len() >= KEEP_ETAG_FROM;
        let extras_len = extras.encoded_len(keep_etag);
        let tags_len = tag_count * TAG_ID;
        let before = tags_len + if extras_len > 0 { EXTRAS_LEN + extras_len } else { 0 };
        let tail_len = before + content.payload.len();
        let mut entry = Self::new_box_zeroed_with_elems(tail_len).ok()?;
        entry.tail_len = u32::try_from(tail_len).ok()?;
        entry.tag_count = u8::try_from(tag_count).ok()?;
        put_uint(&mut entry.created_ms, content.created_ms);
        put_uint(&mut entry.lifetime_ms, content.lifetime_ms);
        let (head, payload) = entry.tail.split_at_mut_checked(before)?;
        payload.copy_from_slice(content.payload);
        if let Some((len, bytes)) = head.get_mut(tags_len..)?.split_first_chunk_mut::<EXTRAS_LEN>() {
            put_uint(len, extras_len as u64);
            extras.encode(keep_etag, bytes);
            *entry.flags_mut() |= FLAG_EXTRAS;
        }
        if extras.etag.is_some() {
            *entry.flags_mut() |= FLAG_ETAG_KNOWN;
        }
        Some(entry)
    }

    /// A loose entry: one that carries its names.
    pub fn new_loose(content: &Content<'_>, names: Names, dead: bool) -> Option<Box<Self>> {
        let mut entry = Self::new(content, names.tags.len())?;
        entry.carry(names, dead);
        Some(entry)
    }

    /// The user's bytes.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.tail.get(self.before_payload()..).unwrap_or_default()
    }

    /// The MD5 of the payload: remembered from the first time on where that is worth its room.
    pub fn etag(&mut self) -> Etag {
        if let Some(etag) = self.extras().etag {
            return etag;
        }
        let etag = etag_of(self.payload());
        if let Some(slot) = self.etag_slot() {
            slot.copy_from_slice(&etag);
            *self.flags_mut() |= FLAG_ETAG_KNOWN;
        }
        etag
    }

    /// The MD5 that it came with, right or wrong.
    pub fn claimed_etag(&self) -> Option<Etag> {
        self.extras().etag
    }

    /// Makes it no younger than `now_ms`.
    pub fn clamp_created_ms(&mut self, now_ms: u64) {
        let created_ms = self.created_ms().min(now_ms);
        put_uint(&mut self.created_ms, created_ms);
    }

    /// Its tags' ids in the index; meaningless while loose.
    pub fn tag_ids(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
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
        if self.flags() & FLAG_EXTRAS == 0 { None } else { self.extras().cost_ms }
    }

    /// How long it stays stale after being fresh, in ms.
    #[inline]
    pub fn grace_ms(&self) -> u64 {
        if self.flags() & FLAG_EXTRAS == 0 { 0 } else { self.extras().grace_ms }
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

    /// The index's name for its type; meaningless while loose.
    #[inline]
    pub fn type_id(&self) -> u16 {
        self.ids().type_id
    }

    /// The index's name for it; meaningless while loose.
    #[inline]
    pub fn id(&self) -> u32 {
        self.ids().id
    }

    /// The number of the index that it is in; meaningless while loose.
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
    pub fn was_dead(&self) -> bool {
        self.flags() & FLAG_DEAD != 0
    }

    /// Gives an entry that is in no index the names that it goes on with, and says whether it is dead.
    pub fn carry(&mut self, names: Names, dead: bool) {
        self.put_apart(Kept::Names(names));
        let flags = self.flags_mut();
        *flags = *flags & !FLAG_DEAD | if dead { FLAG_DEAD } else { 0 };
    }

    /// The names it carries, which it is about to get back as ids.
    pub fn take_names(&mut self) -> Names {
        let Some(Kept::Names(names)) = self.kept_mut() else { return Names::default() };
        let names = std::mem::take(names);
        self.place = Place::Here { flags: self.flags(), ids: self.ids() };
        names
    }

    /// The names it carries, while loose.
    pub fn names(&self) -> Option<&Names> {
        match self.kept()? {
            Kept::Names(names) => Some(names),
            Kept::WideTagIds(_) => None,
        }
    }

    /// How often it was handed out.
    pub fn hits(&self) -> u32 {
        self.hits
    }

    /// When it was last handed out or stored, unix µs.
    pub fn touched_us(&self) -> u64 {
        self.created_ms() * 1000 + get_uint(&self.ids().touched_us)
    }

    /// Notes a hit.
    #[inline]
    pub fn hit(&mut self, now_us: u64) {
        self.hits = self.hits.saturating_add(1);
        self.touch(now_us);
    }

    /// Notes the time of a use (see [`Entry::touched_us`]).
    #[inline]
    pub fn touch(&mut self, now_us: u64) {
        let since = now_us.saturating_sub(self.created_ms() * 1000);
        put_uint(&mut self.ids_mut().touched_us, since);
    }

    /// How many bytes the payload is kept in.
    pub fn stored_len(&self) -> usize {
        self.payload().len()
    }

    /// Bytes of memory it takes, its loose names aside.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self)
    }

    /// What a server keeps of it on disk and sends to replicas besides the payload: versioned, self-contained, without a
    /// clock or a counter.
    pub fn encode(&self, type_name: &[u8], tags: &[&[u8]], verdict: Verdict) -> Vec<u8> {
        let extras = self.extras();
        let names_len: usize = tags.iter().map(|tag| 2 + tag.len()).sum();
        let mut w = Writer(Vec::with_capacity(40 + type_name.len() + names_len + extras.encoded_len(true)));
        w.u8(ENCODING_VERSION);
        verdict.encode(&mut w);
        w.u64(self.created_ms());
        w.u64(self.lifetime_ms());
        w.short_bytes(type_name);
        w.u8(self.tag_count);
        for tag in tags {
            w.short_bytes(tag);
        }
        let start = w.0.len();
        w.0.resize(start + extras.encoded_len(extras.etag.is_some()), 0);
        extras.encode(extras.etag.is_some(), w.0.get_mut(start..).unwrap_or_default());
        w.0
    }

    /// The loose entry that [`Entry::encode`] described; `None` for anything that it would not have written.
    pub fn decode(metadata: &[u8], payload: &[u8]) -> Option<Box<Self>> {
        let mut r = Reader::new(metadata);
        if r.u8()? != ENCODING_VERSION {
            return None;
        }
        let verdict = Verdict::decode(&mut r)?;
        let (created_ms, lifetime_ms) = (r.u64()?, r.u64()?);
        if created_ms >= MOMENTS || lifetime_ms >= LIFETIMES {
            return None;
        }
        let soft = if let Verdict::Soft(soft) = verdict { Some(soft) } else { None };
        let names = Names { type_name: read_name(&mut r)?.into(), tags: read_tags(&mut r)?, soft };
        let extras = if r.is_empty() { Extras::default() } else { Extras::decode(&mut r)? };
        if !r.is_empty() || extras.meta.is_some_and(|m| crate::key::validate_meta(m).is_err()) {
            return None;
        }
        Self::new_loose(&Content { created_ms, lifetime_ms, extras, payload }, names, verdict == Verdict::Dead)
    }

    /// A copy with its own names, for another key. Nobody has used it yet.
    pub fn copy(&self, names: Names, dead: bool) -> Option<Box<Self>> {
        let content = Content {
            created_ms: self.created_ms(),
            lifetime_ms: self.lifetime_ms(),
            extras: self.extras(),
            payload: self.payload(),
        };
        Self::new_loose(&content, names, dead)
    }

    /// A copy with another grace, for the same place: its uses go on being counted.
    pub fn with_grace(&self, grace_ms: u64) -> Option<Box<Self>> {
        let content = Content {
            created_ms: self.created_ms(),
            lifetime_ms: self.lifetime_ms(),
            extras: Extras { grace_ms, ..self.extras() },
            payload: self.payload(),
        };
        let mut copy = Self::new(&content, self.tag_count())?;
        copy.hits = self.hits;
        copy.touch(self.touched_us());
        Some(copy)
    }

    pub(crate) fn set_tag_id(&mut self, at: usize, id: u32) {
        if id >= WIDE_TAG_ID && self.wide_tag_ids().is_none() {
            let ids = self.tag_ids().collect();
            self.put_apart(Kept::WideTagIds(ids));
        }
        if let Some(Kept::WideTagIds(ids)) = self.kept_mut() {
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
        let (Place::Here { flags, .. } | Place::Apart { flags, .. }) = &self.place;
        *flags
    }

    fn flags_mut(&mut self) -> &mut u8 {
        let (Place::Here { flags, .. } | Place::Apart { flags, .. }) = &mut self.place;
        flags
    }

    #[inline]
    fn ids(&self) -> Ids {
        match &self.place {
            Place::Here { ids, .. } => *ids,
            Place::Apart { apart, .. } => apart.as_ref().map(|apart| apart.ids).unwrap_or_default(),
        }
    }

    #[inline]
    fn ids_mut(&mut self) -> &mut Ids {
        match &mut self.place {
            Place::Here { ids, .. } => ids,
            Place::Apart { apart, .. } => &mut apart.get_or_insert_default().ids,
        }
    }

    fn kept(&self) -> Option<&Kept> {
        match &self.place {
            Place::Here { .. } => None,
            Place::Apart { apart, .. } => apart.as_ref().map(|apart| &apart.kept),
        }
    }

    fn kept_mut(&mut self) -> Option<&mut Kept> {
        match &mut self.place {
            Place::Here { .. } => None,
            Place::Apart { apart, .. } => apart.as_mut().map(|apart| &mut apart.kept),
        }
    }

    fn wide_tag_ids(&self) -> Option<&[u32]> {
        match self.kept()? {
            Kept::WideTagIds(ids) => Some(ids),
            Kept::Names(_) => None,
        }
    }

    fn put_apart(&mut self, kept: Kept) {
        let apart = Box::new(Apart { ids: self.ids(), kept });
        self.place = Place::Apart { flags: self.flags(), apart: Some(apart) };
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

    fn etag_slot(&mut self) -> Option<&mut [u8]> {
        let range = self.extras_range()?;
        let extras = self.tail.get_mut(range)?;
        let has = *extras.first()?;
        if has & HAS_ETAG == 0 {
            return None;
        }
        let numbers = (has & HAS_NUMBERS).count_ones() as usize;
        extras.get_mut(1 + numbers * 8..1 + numbers * 8 + size_of::<Etag>())
    }
}

const ALIVE: u8 = 0;
const DEAD: u8 = 1;
const SOFT: u8 = 2;

/// One byte, and after that of a soft invalidation its moment and its grace.
impl Verdict {
    fn encode(self, w: &mut Writer) {
        match self {
            Self::Alive => w.u8(ALIVE),
            Self::Dead => w.u8(DEAD),
            Self::Soft(Soft { moment_ms, grace_ms }) => {
                w.u8(SOFT);
                w.u64(moment_ms.min(MOMENTS - 1));
                w.u64(grace_ms.clamp(1, GRACES - 1));
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Option<Self> {
        match r.u8()? {
            ALIVE => Some(Self::Alive),
            DEAD => Some(Self::Dead),
            SOFT => {
                let (moment_ms, grace_ms) = (r.u64()?, r.u64()?);
                let bounded = moment_ms < MOMENTS && (1..GRACES).contains(&grace_ms);
                bounded.then_some(Self::Soft(Soft { moment_ms, grace_ms }))
            }
            _ => None,
        }
    }
}

const HAS_GRACE: u8 = 1;
const HAS_COST: u8 = 2;
const HAS_RECORDS: u8 = 4;
const HAS_ETAG: u8 = 8;
const HAS_FORMAT: u8 = 16;
const HAS_META: u8 = 32;
const HAS_NUMBERS: u8 = HAS_GRACE | HAS_COST | HAS_RECORDS;

/// `has` byte, then in this order what it names: grace, cost and records (8 bytes each), etag (16), format (length in 2),
/// meta (length in 4). Nothing at all when there is nothing.
impl<'a> Extras<'a> {
    fn has(&self, etag: bool) -> u8 {
        let bit = |given: bool, bit: u8| if given { bit } else { 0 };
        bit(self.grace_ms != 0, HAS_GRACE)
            | bit(self.cost_ms.is_some(), HAS_COST)
            | bit(self.records.is_some(), HAS_RECORDS)
            | bit(etag, HAS_ETAG)
            | bit(self.format.is_some(), HAS_FORMAT)
            | bit(self.meta.is_some(), HAS_META)
    }

    fn encoded_len(&self, etag: bool) -> usize {
        let has = self.has(etag);
        if has == 0 {
            return 0;
        }
        1 + (has & HAS_NUMBERS).count_ones() as usize * 8
            + if etag { size_of::<Etag>() } else { 0 }
            + self.format.map_or(0, |f| 2 + f.len())
            + self.meta.map_or(0, |m| 4 + m.len())
    }

    fn encode(&self, etag: bool, out: &mut [u8]) {
        let mut w = Writer::default();
        if out.is_empty() {
            return;
        }
        w.u8(self.has(etag));
        if self.grace_ms != 0 {
            w.u64(self.grace_ms);
        }
        for number in [self.cost_ms, self.records].into_iter().flatten() {
            w.u64(number);
        }
        if etag {
            w.0.extend_from_slice(&self.etag.unwrap_or_default());
        }
        if let Some(format) = self.format {
            w.short_bytes(format);
        }
        if let Some(meta) = self.meta {
            w.long_bytes(meta);
        }
        if out.len() == w.0.len() {
            out.copy_from_slice(&w.0);
        }
    }

    fn decode(r: &mut Reader<'a>) -> Option<Self> {
        let has = r.u8()?;
        if has == 0 || has >= HAS_META << 1 {
            return None;
        }
        let given = |bit: u8| has & bit != 0;
        let grace_ms = if given(HAS_GRACE) { r.u64()? } else { 0 };
        let cost_ms = if given(HAS_COST) { Some(r.u64()?) } else { None };
        let records = if given(HAS_RECORDS) { Some(r.u64()?) } else { None };
        let etag = if given(HAS_ETAG) { Some(*r.bytes(size_of::<Etag>())?.first_chunk()?) } else { None };
        let format = if given(HAS_FORMAT) { Some(read_name(r)?) } else { None };
        let meta = if given(HAS_META) { Some(r.long_bytes()?) } else { None };
        let bounded = [Some(grace_ms), cost_ms, records].into_iter().flatten().all(|n| n <= i64::MAX as u64);
        bounded.then_some(Self { grace_ms, cost_ms, records, etag, format, meta })
    }
}

fn read_name<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    r.short_bytes().filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES)
}

fn read_tags(r: &mut Reader<'_>) -> Option<Vec<Box<[u8]>>> {
    let count = usize::from(r.u8()?);
    let mut tags: Vec<Box<[u8]>> = Vec::new();
    for _ in 0..count.min(MAX_TAGS + 1) {
        let tag = read_name(r)?;
        if tags.iter().any(|seen| **seen == *tag) {
            return None;
        }
        tags.push(tag.into());
    }
    (tags.len() <= MAX_TAGS).then_some(tags)
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
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn names(tags: &[&str]) -> Names {
        Names {
            type_name: b"trips".as_slice().into(),
            tags: tags.iter().map(|t| t.as_bytes().into()).collect(),
            soft: None,
        }
    }

    fn full(payload: &[u8]) -> Content<'_> {
        let extras = Extras {
            grace_ms: 60_000,
            cost_ms: Some(1200),
            records: Some(7),
            etag: None,
            format: Some(b"csv"),
            meta: Some(br#"{"from":"JFK"}"#),
        };
        Content { created_ms: 1_700_000_000_123, lifetime_ms: 3_600_000, extras, payload }
    }

    #[test]
    fn the_layout_is_what_the_head_draws() {
        assert_eq!(size_of::<Place>(), 16);
        assert_eq!(TAIL_LEN_OFFSET, 16);
        assert_eq!(std::mem::offset_of!(Entry, tag_count), 24);
        assert_eq!(std::mem::offset_of!(Entry, lifetime_ms), 31);
        let plain = Content { payload: &[7; 100], ..Content::default() };
        let entry = Entry::new(&plain, 8).unwrap();
        assert_eq!(entry.size_bytes(), 160, "a 100-byte payload with eight tags fills one 160-byte block");
    }

    #[test]
    fn tag_ids_of_any_size_come_back() {
        let mut entry = Entry::new(&full(b"payload"), 3).unwrap();
        entry.hit(1_700_000_000_124_000);
        for ids in [[1, 2, 3], [1, WIDE_TAG_ID - 1, 3], [1, WIDE_TAG_ID, 3], [u32::MAX, 2, 3]] {
            (0..).zip(ids).for_each(|(at, id)| entry.set_tag_id(at, id));
            entry.set_linked(7, 8, 9);
            assert!(entry.tag_ids().eq(ids));
            assert_eq!((entry.id(), entry.type_id(), entry.index(), entry.names()), (7, 8, 9, None));
            entry.set_unlinked();
            entry.carry(names(&["a", "b", "c"]), true);
            assert_eq!((entry.is_linked(), entry.was_dead(), entry.type_id()), (false, true, 8));
            assert_eq!(entry.take_names(), names(&["a", "b", "c"]));
            assert_eq!(entry.names(), None);
        }
        assert_eq!((entry.hits(), entry.touched_us()), (1, 1_700_000_000_124_000), "uses are kept on the way");
        assert_eq!((entry.payload(), entry.extras()), (b"payload".as_slice(), full(b"").extras));
    }

    #[test]
    fn what_goes_in_comes_out() {
        for size in [0, 1, KEEP_ETAG_FROM - 1, KEEP_ETAG_FROM, 5000] {
            let payload = vec![0xA5; size];
            let mut entry = Entry::new_loose(&full(&payload), names(&["a", "b"]), false).unwrap();
            assert_eq!(entry.payload(), payload);
            assert_eq!(entry.extras(), full(&payload).extras);
            assert_eq!(
                (entry.grace_ms(), entry.created_ms(), entry.lifetime_ms()),
                (60_000, 1_700_000_000_123, 3_600_000)
            );
            let etag: Etag = Md5::digest(&payload).into();
            assert_eq!((entry.etag(), entry.etag()), (etag, etag));
            assert_eq!(entry.extras().etag.is_some(), size >= KEEP_ETAG_FROM);
            assert_eq!(entry.extras().format, Some(b"csv".as_slice()));
        }
    }

    #[test]
    fn encoding_round_trips_and_refuses_everything_else() {
        let mut entry = Entry::new_loose(&full(&[1; 300]), names(&["a", "bb"]), false).unwrap();
        entry.etag();
        let bytes = entry.encode(b"trips", &[b"a", b"bb"], Verdict::Dead);
        let back = Entry::decode(&bytes, &[1; 300]).unwrap();
        assert_eq!(back.extras(), entry.extras());
        assert_eq!(back.names(), Some(&names(&["a", "bb"])));
        assert!(back.was_dead() && !back.is_linked());
        for cut in 0..bytes.len() {
            // A cut between two parts may leave a well-formed whole only where everything optional ends.
            if let Some(short) = Entry::decode(&bytes[..cut], &[]) {
                assert_eq!(short.extras(), Extras::default());
            }
        }
        for (at, value) in [(0, 2), (1, 3), (bytes.len() - 1, b'x')] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            assert!(Entry::decode(&wrong, &[]).is_none(), "byte {at}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(Entry::decode(&longer, &[]).is_none());
    }

    #[test]
    fn a_soft_invalidation_travels_within_its_bounds() {
        let entry = Entry::new(&Content::default(), 0).unwrap();
        let encode = |moment_ms, grace_ms| entry.encode(b"t", &[], Verdict::Soft(Soft { moment_ms, grace_ms }));
        let decoded =
            |bytes: &[u8]| Entry::decode(bytes, b"").map(|entry| (entry.names().unwrap().soft, entry.was_dead()));
        let soft = |moment_ms, grace_ms| Some((Some(Soft { moment_ms, grace_ms }), false));
        assert_eq!(decoded(&encode(1_700_000_000_123, 60_000)), soft(1_700_000_000_123, 60_000));
        assert_eq!(decoded(&encode(u64::MAX, u64::MAX)), soft(MOMENTS - 1, GRACES - 1));
        assert_eq!(decoded(&encode(0, 0)), soft(0, 1));
        for (at, value) in [(8, 1), (14, 1), (15, 1)] {
            let mut wrong = encode(0, 1);
            wrong[at] = value;
            assert_eq!(decoded(&wrong).is_none(), at != 14, "byte {at}");
        }
        let mut without_grace = encode(0, 1);
        without_grace[10] = 0;
        assert_eq!(decoded(&without_grace), None);
        assert_eq!(decoded(&entry.encode(b"t", &[], Verdict::Dead)), Some((None, true)));
        assert_eq!(decoded(&entry.encode(b"t", &[], Verdict::Alive)), Some((None, false)));
    }

    #[test]
    fn a_tag_twice_or_too_many_tags_are_refused() {
        let entry = Entry::new(&Content::default(), 2).unwrap();
        assert!(Entry::decode(&entry.encode(b"t", &[b"a", b"a"], Verdict::Alive), &[]).is_none());
        assert!(Entry::decode(&entry.encode(b"", &[b"a", b"b"], Verdict::Alive), &[]).is_none());
        assert!(Entry::new(&Content::default(), MAX_TAGS + 1).is_none());
    }

    #[test]
    fn uses_are_counted_and_timed_to_the_microsecond() {
        let mut entry = Entry::new(&Content { created_ms: 1_000, ..Content::default() }, 0).unwrap();
        assert_eq!((entry.hits(), entry.touched_us()), (0, 1_000_000));
        entry.hit(1_234_567);
        assert_eq!((entry.hits(), entry.touched_us()), (1, 1_234_567));
        entry.hit(5);
        assert_eq!((entry.hits(), entry.touched_us()), (2, 1_000_000), "a clock that went back");
    }
}
