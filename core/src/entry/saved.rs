//! An entry's metadata as a server saves it, and as replicas get it.

use smallvec::SmallVec;

use super::extras::Extras;
use super::limits::{LIFETIMES, MAX_TAGS, MOMENTS, read_name};
use super::{Content, Entry, Names, PayloadBytes, Verdict};
use crate::bytes::{Reader, Writer};

/// Version of [`Entry::encode`]'s bytes.
const ENCODING_VERSION: u8 = 1;

impl Entry {
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

    /// The detached entry that [`Entry::encode`] described; `None` for anything that it would not have written.
    pub fn decode(metadata: &[u8], stored: PayloadBytes<'_>) -> Option<Box<Self>> {
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
        let (type_name, tags) = (read_name(&mut r)?, read_tags(&mut r)?);
        let names = Names::new(type_name, tags.iter().copied(), soft);
        let extras = if r.is_empty() { Extras::default() } else { Extras::decode(&mut r)? };
        if !r.is_empty() || extras.meta.is_some_and(|m| crate::key::validate_meta(m).is_err()) {
            return None;
        }
        Self::new_loose(Content { created_ms, lifetime_ms, extras, stored }, names, verdict == Verdict::Dead)
    }
}

fn read_tags<'b>(r: &mut Reader<'b>) -> Option<SmallVec<[&'b [u8]; 8]>> {
    let count = usize::from(r.u8()?);
    let mut tags = SmallVec::new();
    for _ in 0..count.min(MAX_TAGS + 1) {
        let tag = read_name(r)?;
        if tags.contains(&tag) {
            return None;
        }
        tags.push(tag);
    }
    (tags.len() <= MAX_TAGS).then_some(tags)
}
