//! Payloads on their way out: as they are kept, decoded, or in part; by the main thread where that is quick, else by a worker.

use std::borrow::Cow;

use expcache_core::codec::{Coder, Encoding};
use expcache_core::entry::{APART_FROM, Body, Entry, Etag, Form, Hasher, MAX_PAYLOAD, PayloadBytes, etag_of};
use expcache_core::{Error, Result};

use super::settle;
use crate::cache;
use crate::server::args::{Arg, Text};
use crate::server::at_once::{self, HASHING, MAX_DECODED_AT_ONCE};
use crate::server::context::Ctx;
use crate::server::deferred::DeferredReply;
use crate::server::key::{Found, Mode};
use crate::server::replies::Replies;
use crate::server::setting::Setting;
use crate::server::{alloc, workers};

/// From which size on payloads are encoded and checked by a worker.
pub static OFFLOAD_WRITE_SIZE: Setting =
    Setting::size(c"offload-write-size", APART_FROM as u64, APART_FROM as u64..=MAX_PAYLOAD as u64);
/// From which size on payloads are decoded by a worker.
pub static OFFLOAD_READ_SIZE: Setting = Setting::size(c"offload-read-size", 32 << 10, 1024..=MAX_PAYLOAD as u64);
/// The most bytes that what is encoded may decode to, alone or in one command.
pub static MAX_DECODED: Setting = Setting::size(c"max-decoded", 256 << 20, 1 << 20..=MAX_PAYLOAD as u64);
/// The most bytes that each encoded byte may decode to, of what decodes to more than [`ANY_RATIO`]; 0: any number. Exports compress to
/// a twentieth, some to a sixtieth; what repeats a few lines all the time, to a two-hundredth.
pub static MAX_RATIO: Setting = Setting::number(c"max-ratio", 250, 0..=1_000_000);

/// What decodes to no more than this may do so from as few bytes as it likes.
const ANY_RATIO: usize = 1 << 20;

/// The most bytes that so many encoded bytes may decode to.
pub fn may_decode_to(encoded_bytes: usize) -> usize {
    let by_ratio = match MAX_RATIO.as_usize() {
        0 => usize::MAX,
        ratio => encoded_bytes.saturating_mul(ratio).max(ANY_RATIO),
    };
    MAX_DECODED.as_usize().min(by_ratio)
}

/// What is wanted of a payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// All of it.
    Whole,
    /// The bytes that are kept, in whatever form.
    AsKept,
    /// So many bytes from there on, or as many as there are.
    Range(u64, u64),
}

/// A client that is to be answered.
pub enum ReplyTo {
    /// The one whose command is running.
    Caller,
    /// One that waits.
    Blocked(DeferredReply),
    /// It is in a worker's hands.
    Done,
}

impl ReplyTo {
    /// Where its reply goes.
    pub fn replies<'c>(&'c self, ctx: &'c Ctx) -> &'c Replies {
        match self {
            Self::Blocked(waiting) => waiting.replies(),
            Self::Caller | Self::Done => ctx,
        }
    }

    /// Has it wait, if it may be made to and does not yet; it is to be answered by whoever takes it.
    pub fn block(&mut self, ctx: &Ctx) -> Option<DeferredReply> {
        let waiting = match std::mem::replace(self, Self::Caller) {
            Self::Blocked(waiting) => waiting,
            Self::Caller => DeferredReply::new(ctx)?,
            Self::Done => return None,
        };
        *self = Self::Done;
        Some(waiting)
    }

    /// As [`ReplyTo::block`], for what takes as long as copying so many bytes. Who cannot be made to wait is served at once, if that is
    /// not too much.
    pub fn block_for(&mut self, ctx: &Ctx, cost: u64) -> Result<Option<DeferredReply>> {
        let taken = self.block(ctx);
        if taken.is_none() && cost > MAX_DECODED_AT_ONCE.get() * COPYING && workers::are_there() {
            return Err(Error::TooMuchAtOnce);
        }
        Ok(taken)
    }
}

/// From this size on it is asked whether there is memory to decode something.
const MUCH: usize = 1 << 20;
/// A command may decode to no more than this part of `maxmemory`: there is a buffer beside the reply, and what both take is taken from
/// other entries, which are evicted for it.
const PART_OF_MEMORY: u64 = 4;

/// Refuses to decode what is too large altogether, of which one is of that size. What one payload decodes to was looked at when
/// it was stored.
pub fn admit(ctx: &Ctx, decoded: usize, largest: usize) -> Result<()> {
    at_once::admit(ctx, decoded)?;
    if decoded < MUCH {
        return Ok(());
    }
    if decoded > MAX_DECODED.as_usize().max(largest) {
        return Err(Error::Expands);
    }
    if fits(ctx, decoded) { Ok(()) } else { Err(Error::NoMemory) }
}

/// May so many bytes be decoded, as far as `maxmemory` goes? What may not is kept as it came, or not at all.
pub fn fits(ctx: &Ctx, decoded: usize) -> bool {
    decoded < MUCH || ctx.max_memory().is_none_or(|most| decoded as u64 <= most / PART_OF_MEMORY)
}

/// Would the main thread feel it?
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// No.
    Light,
    /// Yes.
    Heavy,
}

/// By how much copying is quicker than decoding.
pub const COPYING: u64 = 8;

impl Weight {
    /// Of what takes as long as copying so many bytes.
    pub fn of(cost: u64) -> Self {
        if cost >= OFFLOAD_READ_SIZE.get() * COPYING { Self::Heavy } else { Self::Light }
    }
}

/// What is handed out of a payload.
#[derive(Clone, Copy)]
pub struct Part {
    /// How much of it.
    pub portion: Portion,
    /// The MD5 that it must have, if that is to be verified first.
    pub verify: Option<Etag>,
}

impl Part {
    /// The payload.
    pub const WHOLE: Self = Self { portion: Portion::Whole, verify: None };

    /// How what is handed out of a payload that is kept like that is encoded.
    pub fn encoding(self, form: Form) -> Encoding {
        if self.portion == Portion::AsKept { form.encoding } else { Encoding::Identity }
    }

    /// How many bytes could be copied in the time that it takes.
    pub fn cost(self, entry: &Entry) -> u64 {
        let (form, kept) = (entry.form(), entry.stored().len() as u64);
        match self.portion {
            _ if self.looks_inside(form) => kept.max(form.size as u64) * COPYING,
            Portion::Range(_, length) => length.min(kept),
            Portion::AsKept | Portion::Whole => kept,
        }
    }

    /// Is it more than bytes that are copied?
    fn looks_inside(self, form: Form) -> bool {
        self.verify.is_some() || self.decodes(form)
    }

    fn decodes(self, form: Form) -> bool {
        form.encoding != Encoding::Identity && self.portion != Portion::AsKept
    }

    /// How many bytes decoding brings, of what is kept like that.
    pub fn decoded(self, form: Form) -> usize {
        let (start, end) = self.bounds(form);
        if self.decodes(form) { end - start } else { 0 }
    }

    /// How many bytes of a payload that is kept like that it hands out, decoded.
    pub fn payload_len(self, form: Form) -> usize {
        let (start, end) = self.bounds(form);
        end - start
    }

    /// What making it weighs. That is not a matter of how few bytes it is kept in.
    pub fn weight(self, entry: &Entry) -> Weight {
        match self.looks_inside(entry.form()) {
            false if entry.body().is_none() => Weight::Light,
            true if !workers::has_time() => Weight::Heavy,
            _ => Weight::of(self.cost(entry)),
        }
    }

    /// What is handed out where that is some of the bytes that are kept, and nobody need look inside.
    pub fn kept(self, stored: &[u8], form: Form) -> Option<&[u8]> {
        if self.looks_inside(form) { None } else { Some(self.cut(stored, form)) }
    }

    /// This part of bytes that are handed out as they are kept.
    fn cut(self, stored: &[u8], form: Form) -> &[u8] {
        match self.portion {
            Portion::AsKept | Portion::Whole => stored,
            Portion::Range(..) => {
                let (start, end) = self.bounds(form);
                stored.get(start..end).unwrap_or_default()
            }
        }
    }

    /// Extracts this part from the stored bytes, to be replied at once. Any error but [`Error::NoMemory`] says that they are not what was
    /// stored.
    pub fn of<'s>(self, coder: &mut Coder, stored: &'s [u8], form: Form) -> Result<Cow<'s, [u8]>> {
        let made = self.make(coder, stored, form)?;
        // The server would not take no for an answer.
        if alloc::has_room(made.len()) { Ok(made) } else { Err(Error::NoMemory) }
    }

    fn make<'s>(self, coder: &mut Coder, stored: &'s [u8], form: Form) -> Result<Cow<'s, [u8]>> {
        if !self.decodes(form) {
            self.check(coder, stored, form, |_piece| ())?;
            return Ok(Cow::Borrowed(self.cut(stored, form)));
        }
        let (start, end) = self.bounds(form);
        match (self.portion, self.verify) {
            (Portion::Range(..), Some(_)) => {
                // Cut out of what is looked at: to find it by itself might lead elsewhere.
                let (mut at, mut range) = (0, Vec::new());
                range.try_reserve_exact(end - start).map_err(|_| Error::NoMemory)?;
                self.check(coder, stored, form, |piece| {
                    let [from, to] = [start, end].map(|place| place.saturating_sub(at).min(piece.len()));
                    range.extend_from_slice(piece.get(from..to).unwrap_or_default());
                    at += piece.len();
                })?;
                Ok(Cow::Owned(range))
            }
            (Portion::Range(..), None) => {
                Ok(Cow::Owned(coder.decode_range(form.encoding, stored, form.size, start, end - start)?))
            }
            (_, verify) => {
                let payload = coder.decode(form.encoding, stored, form.size)?;
                if let Some(etag) = verify {
                    coder.count(payload.len() * HASHING);
                    if etag_of(&payload) != etag {
                        return Err(Error::HashMismatch);
                    }
                }
                Ok(Cow::Owned(payload))
            }
        }
    }

    /// Where it begins and ends in the payload.
    fn bounds(self, form: Form) -> (usize, usize) {
        let bounded = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(form.size);
        match self.portion {
            Portion::Range(offset, length) => (bounded(offset), bounded(offset.saturating_add(length))),
            Portion::Whole | Portion::AsKept => (0, form.size),
        }
    }

    /// Is all of the payload what was stored, if that is to be verified? `show` sees it in pieces then.
    fn check(self, coder: &mut Coder, stored: &[u8], form: Form, show: impl FnMut(&[u8])) -> Result<()> {
        let Some(etag) = self.verify else { return Ok(()) };
        let found = digest(coder, form.encoding, stored, form.size, show)?;
        if found == (etag, form.size) { Ok(()) } else { Err(Error::HashMismatch) }
    }
}

/// MD5 and size of what bytes decode to, if that is not more than `most`; `show` sees it in pieces.
pub fn digest(
    coder: &mut Coder,
    encoding: Encoding,
    stored: &[u8],
    most: usize,
    mut show: impl FnMut(&[u8]),
) -> Result<(Etag, usize)> {
    let (mut hasher, mut hashed) = (Hasher::default(), 0);
    let size = coder.for_each_chunk(encoding, stored, most, |chunk| {
        hasher.update(chunk);
        hashed += chunk.len();
        show(chunk);
    });
    coder.count(hashed * HASHING);
    Ok((hasher.finish(), size?))
}

/// A part of an entry's payload, on its way out while the entry may change.
pub struct Outgoing {
    stored: Body,
    form: Form,
    part: Part,
}

impl Outgoing {
    /// Of an entry: its bytes are shared, unless they are few.
    pub fn new(entry: &Entry, part: Part) -> Self {
        let stored = match entry.share() {
            PayloadBytes::Lent(bytes) => Body::new(Box::<[u8]>::from(bytes)),
            PayloadBytes::Shared(bytes) => bytes,
        };
        Self { stored, form: entry.form(), part }
    }

    /// Its bytes.
    pub fn bytes(&self, coder: &mut Coder) -> Result<Cow<'_, [u8]>> {
        self.part.of(coder, &self.stored, self.form)
    }

    /// It is not what was stored: the entry goes, if it still keeps this. A replica leaves that to its master, whose copy may be
    /// sound. The hit that it was counted as, fresh or stale, was none.
    pub fn remove_corrupt(&self, ctx: &Ctx, name: Arg<'_>, fresh: bool) {
        let mut key = ctx.open(name, Mode::Peek);
        let Found::Entry(entry) = key.found() else { return };
        let is_same = entry.body().map(Body::address) == Some(self.stored.address());
        if entry.form() != self.form || !is_same && *entry.stored() != *self.stored {
            return;
        }
        let type_id = entry.type_id();
        drop(key);
        cache::with(|s| {
            s.count(type_id, |counters| {
                counters.corrupt += 1;
                let hits = if fresh { &mut counters.hits } else { &mut counters.stale_hits };
                *hits = hits.saturating_sub(1);
            });
        });
        if ctx.decides() && !ctx.must_keep_quiet() {
            ctx.unlink(name);
        }
    }
}

/// Is the MD5 of an entry's payload still to be computed, and would the main thread feel it?
pub fn is_etag_heavy(entry: &Entry) -> bool {
    let (Some(body), None) = (entry.body(), entry.known_etag()) else { return false };
    body.len() as u64 >= OFFLOAD_WRITE_SIZE.get()
}

/// Does what needs the MD5 of an entry's payload, now or when it is known: of what is large it is computed by a worker, and the client
/// waits.
pub fn with_etag(
    ctx: &Ctx,
    client: &mut ReplyTo,
    name: Arg<'_>,
    entry: &Entry,
    then: impl FnOnce(&Ctx, &mut ReplyTo, Arg<'_>) -> Result<()> + Send + 'static,
) -> bool {
    if !is_etag_heavy(entry) {
        return false;
    }
    let Some(waiting) = client.block(ctx) else { return false };
    let (db, name) = (ctx.db(), name.bytes().to_vec());
    let key = name.clone();
    settle::when_digested(db, &key, entry, move |ctx| {
        ctx.select(db);
        answer(ctx, waiting, &name, then);
    });
    true
}

/// Answers a client that waits, about a key of the selected database. `false` if it is by an error.
pub fn answer(
    ctx: &Ctx,
    waiting: DeferredReply,
    name: &[u8],
    then: impl FnOnce(&Ctx, &mut ReplyTo, Arg<'_>) -> Result<()>,
) -> bool {
    let name = Text::new(name);
    let mut client = ReplyTo::Blocked(waiting);
    let answered = then(ctx, &mut client, name.arg());
    if let Err(error) = &answered {
        client.replies(ctx).reply_error(&error.reply());
    }
    answered.is_ok()
}
