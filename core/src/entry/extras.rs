//! What few entries have.

use super::limits::{Etag, MAX_PAYLOAD, MOMENTS, read_name};
use crate::bytes::{Reader, Writer};
use crate::codec::Encoding;

/// How a payload is kept, where it is not simply kept as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// How the bytes that are kept are encoded.
    pub encoding: Encoding,
    /// How they are going to be encoded; `Identity`: as they are.
    pub wanted: Encoding,
    /// Length of the payload.
    pub size: usize,
}

/// What the end of an entry's freshness follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// Its lifetime, which a hit may restart.
    #[default]
    OfLifetime,
    /// It was named as a moment, and no hit moves it.
    Named,
}

/// What an entry may have besides its payload, tags and type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    /// How long the entry stays servable as stale after its freshness, in ms.
    pub grace_ms: u64,
    /// See [`Form`].
    pub form: Option<Form>,
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
    /// See [`End`].
    pub end: End,
    /// When its key was first stored, unix ms, where that is kept.
    pub born_ms: Option<u64>,
}

const HAS_GRACE: u8 = 1;
const HAS_COST: u8 = 2;
const HAS_RECORDS: u8 = 4;
const HAS_ETAG: u8 = 8;
const HAS_FORMAT: u8 = 16;
const HAS_META: u8 = 32;
const HAS_FORM: u8 = 64;
/// A second byte follows, of what there is besides.
const HAS_MORE: u8 = 128;
/// In the second byte; nothing else belongs to it.
const NAMED_END: u8 = 1;
const HAS_BORN: u8 = 2;
const HAS_NUMBERS: u8 = HAS_GRACE | HAS_COST | HAS_RECORDS;

/// `has` byte, a second one if it says so, then in this order what they name: form (two encodings in one byte, size in 4), grace, cost and records (8 bytes
/// each), etag (16), format (length in 2), meta (length in 4), born (8). Nothing at all when there is nothing.
impl<'a> Extras<'a> {
    fn has(&self, etag: bool) -> u8 {
        let bit = |given: bool, bit: u8| if given { bit } else { 0 };
        bit(self.grace_ms != 0, HAS_GRACE)
            | bit(self.cost_ms.is_some(), HAS_COST)
            | bit(self.records.is_some(), HAS_RECORDS)
            | bit(etag, HAS_ETAG)
            | bit(self.format.is_some(), HAS_FORMAT)
            | bit(self.meta.is_some(), HAS_META)
            | bit(self.form.is_some(), HAS_FORM)
            | bit(self.has_more() != 0, HAS_MORE)
    }

    fn has_more(&self) -> u8 {
        let bit = |given: bool, bit: u8| if given { bit } else { 0 };
        bit(self.end == End::Named, NAMED_END) | bit(self.born_ms.is_some(), HAS_BORN)
    }

    pub(super) fn encoded_len(&self, etag: bool) -> usize {
        let has = self.has(etag);
        if has == 0 {
            return 0;
        }
        etag_offset(has)
            + if etag { size_of::<Etag>() } else { 0 }
            + self.format.map_or(0, |f| 2 + f.len())
            + self.meta.map_or(0, |m| 4 + m.len())
            + self.born_ms.map_or(0, |_| BORN_LEN)
    }

    pub(super) fn encode(&self, etag: bool, out: &mut [u8]) {
        let mut w = Writer::default();
        if out.is_empty() {
            return;
        }
        w.u8(self.has(etag));
        if self.has_more() != 0 {
            w.u8(self.has_more());
        }
        if let Some(form) = self.form {
            w.0.extend_from_slice(&form.to_bytes());
        }
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
        if let Some(born_ms) = self.born_ms {
            w.u64(born_ms);
        }
        if out.len() == w.0.len() {
            out.copy_from_slice(&w.0);
        }
    }

    pub(super) fn decode(r: &mut Reader<'a>) -> Option<Self> {
        let has = r.u8()?;
        if has == 0 {
            return None;
        }
        let given = |bit: u8| has & bit != 0;
        let more = if given(HAS_MORE) { r.u8().filter(|more| *more != 0)? } else { 0 };
        if more & !(NAMED_END | HAS_BORN) != 0 {
            return None;
        }
        let end = if more & NAMED_END != 0 { End::Named } else { End::OfLifetime };
        let form = if given(HAS_FORM) { Some(Form::from_bytes(r.bytes(FORM_LEN)?.first_chunk()?)?) } else { None };
        let grace_ms = if given(HAS_GRACE) { r.u64()? } else { 0 };
        let cost_ms = if given(HAS_COST) { Some(r.u64()?) } else { None };
        let records = if given(HAS_RECORDS) { Some(r.u64()?) } else { None };
        let etag = if given(HAS_ETAG) { Some(*r.bytes(size_of::<Etag>())?.first_chunk()?) } else { None };
        let format = if given(HAS_FORMAT) { Some(read_name(r)?) } else { None };
        let meta = if given(HAS_META) { Some(r.long_bytes()?) } else { None };
        let born_ms = if more & HAS_BORN != 0 { Some(r.u64().filter(|born_ms| *born_ms < MOMENTS)?) } else { None };
        let bounded = [Some(grace_ms), cost_ms, records].into_iter().flatten().all(|n| n <= i64::MAX as u64);
        bounded.then_some(Self { grace_ms, form, cost_ms, records, etag, format, meta, end, born_ms })
    }
}

/// Length of a form.
pub(super) const FORM_LEN: usize = 5;
/// Length of the moment at which a key was first stored.
const BORN_LEN: usize = 8;

impl Form {
    /// Of bytes that are to be encoded later, if at all.
    pub fn wanting(wanted: Encoding, size: usize) -> Self {
        Self { encoding: Encoding::Identity, wanted, size }
    }

    /// Of encoded bytes.
    pub fn encoded(encoding: Encoding, size: usize) -> Self {
        Self { encoding, wanted: Encoding::Identity, size }
    }

    /// Can so many bytes, with or without an MD5, be kept like that? Of encoded bytes the MD5 must be known, because the payload
    /// is not there to compute it from.
    pub(super) fn is_sound(self, stored_len: usize, has_etag: bool) -> bool {
        match self.encoding {
            Encoding::Identity => self.size == stored_len,
            _ => self.wanted == Encoding::Identity && stored_len > 0 && self.size <= MAX_PAYLOAD && has_etag,
        }
    }

    pub(super) fn to_bytes(self) -> [u8; FORM_LEN] {
        let [a, b, c, d] = u32::try_from(self.size).unwrap_or(u32::MAX).to_le_bytes();
        [self.encoding as u8 | (self.wanted as u8) << 4, a, b, c, d]
    }

    pub(super) fn from_bytes(bytes: &[u8; FORM_LEN]) -> Option<Self> {
        let [encodings, size @ ..] = *bytes;
        let (encoding, wanted) = (Encoding::from_u8(encodings & 15)?, Encoding::from_u8(encodings >> 4)?);
        Some(Self { encoding, wanted, size: u32::from_le_bytes(size) as usize })
    }
}

/// Length of the bytes that say what there is, the first of which this is.
fn has_len(has: u8) -> usize {
    if has & HAS_MORE == 0 { 1 } else { 2 }
}

/// Where the MD5 stands in extras that begin like that.
fn etag_offset(has: u8) -> usize {
    numbers_offset(has) + 8 * (has & HAS_NUMBERS).count_ones() as usize
}

// What is asked for at each read and whenever an entry goes is read alone. The rest of the extras is not looked at.

/// Where the numbers begin in extras that begin like that.
fn numbers_offset(has: u8) -> usize {
    has_len(has) + if has & HAS_FORM == 0 { 0 } else { FORM_LEN }
}

/// One of the numbers in encoded extras.
fn number_in(extras: &[u8], which: u8) -> Option<u64> {
    let has = *extras.first()?;
    if has & which == 0 {
        return None;
    }
    let before = (has & HAS_NUMBERS & (which - 1)).count_ones() as usize;
    extras.get(numbers_offset(has) + 8 * before..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The grace in encoded extras, in ms.
pub(super) fn grace_in(extras: &[u8]) -> u64 {
    number_in(extras, HAS_GRACE).unwrap_or(0)
}

/// The cost in encoded extras, in ms.
pub(super) fn cost_in(extras: &[u8]) -> Option<u64> {
    number_in(extras, HAS_COST)
}

/// The form in encoded extras.
pub(super) fn form_in(extras: &[u8]) -> Option<Form> {
    let has = *extras.first()?;
    let bytes = if has & HAS_FORM == 0 { None } else { extras.get(has_len(has)..)?.first_chunk() };
    Form::from_bytes(bytes?)
}

/// The form in encoded extras, to be written over.
pub(super) fn form_slot(extras: &mut [u8]) -> Option<&mut [u8; FORM_LEN]> {
    let has = *extras.first()?;
    if has & HAS_FORM == 0 { None } else { extras.get_mut(has_len(has)..)?.first_chunk_mut() }
}

/// What the end follows from, by encoded extras.
pub(super) fn end_in(extras: &[u8]) -> End {
    match extras {
        [has, more, ..] if has & HAS_MORE != 0 && more & NAMED_END != 0 => End::Named,
        _ => End::OfLifetime,
    }
}

/// The moment of birth in encoded extras, which ends them.
pub(super) fn born_in(extras: &[u8]) -> Option<u64> {
    match extras {
        [has, more, ..] if has & HAS_MORE != 0 && more & HAS_BORN != 0 => {
            extras.last_chunk().map(|born_ms| u64::from_le_bytes(*born_ms))
        }
        _ => None,
    }
}

/// The MD5 in encoded extras, or the room for it.
pub(super) fn etag_in(extras: &mut [u8]) -> Option<&mut Etag> {
    let has = *extras.first()?;
    if has & HAS_ETAG == 0 { None } else { extras.get_mut(etag_offset(has)..)?.first_chunk_mut() }
}
