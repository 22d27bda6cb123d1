//! `EXPCACHE.GET`, `EXPCACHE.MGET`, `EXPCACHE.FETCH`, `EXPCACHE.META`.

use expcache_core::entry::{Entry, Etag};
use expcache_core::policy::fresh_left_ms;
use expcache_core::{Error, Result};

use super::parse::{self, once};
use crate::server::context::{Arg, Args, Ctx};
use crate::server::key::{Found, Key, Mode};
use crate::server::state::{self, State};

/// An entry that a read found alive.
struct Look<'k> {
    entry: &'k mut Entry,
    now_us: u64,
    /// Ms of freshness left; `None`: without end.
    fresh_left_ms: Option<i64>,
    /// When the server expires the key.
    expire_at_ms: Option<i64>,
}

/// When to look up a key's expiry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dated {
    Always,
    IfItDecides,
}

impl<'k> Look<'k> {
    /// Finds what is alive under a key. The expiry is looked up when it is asked for or when it decides.
    fn at(ctx: &Ctx, key: &'k mut Key<'_>, dated: Dated) -> Result<Option<Self>> {
        let decides = |entry: &Entry| entry.grace_ms() > 0 || state::with(|s| s.types.policy(entry.type_id()).sliding);
        let (found, expire_at_ms) = key.found_dated(|entry| dated == Dated::Always || decides(entry));
        let entry = match found {
            Found::Missing => return Ok(None),
            Found::Foreign => return Err(Error::WrongType),
            Found::Entry(entry) => entry,
        };
        let (dead, now_us) = state::with(|s| {
            let dead = s.is_dead(ctx.db(), entry);
            (dead, if expire_at_ms.is_some() || dated == Dated::Always { s.now_us() } else { s.about_now_us() })
        });
        if dead {
            return Ok(None);
        }
        let fresh_left_ms = fresh_left_ms(expire_at_ms, entry.grace_ms(), now_us / 1000);
        Ok(Some(Self { entry, now_us, fresh_left_ms, expire_at_ms }))
    }

    fn is_fresh(&self) -> bool {
        self.fresh_left_ms.is_none_or(|left| left > 0)
    }

    fn age_ms(&self) -> u64 {
        (self.now_us / 1000).saturating_sub(self.entry.created_ms())
    }

    /// Counts a payload handed out.
    fn count_hit(&mut self, s: &mut State, fresh: bool) {
        if let Some(counters) = s.counters(self.entry.type_id()) {
            *(if fresh { &mut counters.hits } else { &mut counters.stale_hits }) += 1;
        }
        if !s.saving {
            self.entry.hit(self.now_us);
        }
    }

    /// Where a hit puts the key's expiry, if its type is sliding. It never shortens a life, and a hundredth of the lifetime
    /// is not worth telling every replica.
    fn slides_to(&self, s: &State) -> Option<i64> {
        let lifetime = self.entry.lifetime_ms();
        if lifetime == 0 || !s.types.policy(self.entry.type_id()).sliding {
            return None;
        }
        let end = i64::try_from(self.now_us / 1000 + lifetime + self.entry.grace_ms()).ok()?;
        let gain = end.checked_sub(self.expire_at_ms?)?;
        (gain > 0 && gain >= (lifetime / 100).cast_signed()).then_some(end)
    }
}

/// Puts a key's expiry off after a hit, if anybody may now.
fn slide(ctx: &Ctx, name: Arg<'_>, to: Option<i64>) {
    if let Some(moment) = to
        && ctx.decides()
        && !ctx.must_keep_quiet()
    {
        ctx.expire_at(name, moment);
    }
}

/// Replies with a key's payload when fresh, else null.
fn reply_fresh(ctx: &Ctx, name: Arg<'_>) -> Result<()> {
    let mut key = ctx.open(name, Mode::Read);
    let slides_to = match Look::at(ctx, &mut key, Dated::IfItDecides)? {
        Some(mut look) if look.is_fresh() => {
            let slides_to = state::with(|s| {
                look.count_hit(s, true);
                look.slides_to(s)
            });
            ctx.reply_bytes(look.entry.payload());
            slides_to
        }
        _ => {
            state::with(|s| s.count_miss(name.bytes()));
            ctx.reply_null();
            None
        }
    };
    drop(key);
    slide(ctx, name, slides_to);
    Ok(())
}

/// `EXPCACHE.GET key`
pub fn get(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    reply_fresh(ctx, name)
}

/// `EXPCACHE.MGET key [key …]`
pub fn mget(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    // Errors come before the first element.
    for name in args {
        if matches!(ctx.open(name, Mode::Peek).found(), Found::Foreign) {
            return Err(Error::WrongType);
        }
    }
    ctx.reply_array(args.len());
    for name in args {
        reply_fresh(ctx, name)?;
    }
    Ok(())
}

/// `EXPCACHE.FETCH key [IFNONEMATCH etag] [RANGE offset length] [MAXAGE d]`
#[derive(Default)]
struct Fetch<'a> {
    if_none_match: Option<&'a [u8]>,
    range: Option<(u64, u64)>,
    max_age_ms: Option<u64>,
}

impl<'a> Fetch<'a> {
    fn parse(mut args: Args<'a>) -> Result<Self> {
        let mut fetch = Self::default();
        while let Some(word) = args.next() {
            match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
                b"IFNONEMATCH" => once(&mut fetch.if_none_match, args.need()?.bytes())?,
                b"RANGE" => once(&mut fetch.range, (parse::number(args.need()?)?, parse::number(args.need()?)?))?,
                b"MAXAGE" => once(&mut fetch.max_age_ms, parse::duration(args.need()?)?)?,
                _ => return Err(Error::Syntax),
            }
        }
        Ok(fetch)
    }

    fn status(&self, look: &Look<'_>, etag: Etag) -> Status {
        let too_old = self.max_age_ms.is_some_and(|most| look.age_ms() > most);
        let same = self.if_none_match.and_then(parse::etag) == Some(etag);
        match (look.is_fresh() && !too_old, same) {
            (true, true) => Status::NotModified,
            (true, false) => Status::Hit,
            (false, _) => Status::Stale,
        }
    }

    /// The part of the payload that was asked for.
    fn part<'p>(&self, payload: &'p [u8]) -> &'p [u8] {
        let Some((offset, length)) = self.range else { return payload };
        let bounded = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(payload.len());
        let start = bounded(offset);
        payload.get(start..bounded(offset.saturating_add(length))).unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Hit,
    Stale,
    NotModified,
}

impl Status {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Hit => b"hit",
            Self::Stale => b"stale",
            Self::NotModified => b"not-modified",
        }
    }
}

/// `EXPCACHE.FETCH`: see [`Fetch`].
pub fn fetch(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    let fetch = Fetch::parse(args)?;
    let mut key = ctx.open(name, Mode::Read);
    let slides_to = match Look::at(ctx, &mut key, Dated::Always)? {
        None => {
            state::with(|s| s.count_miss(name.bytes()));
            reply_miss(ctx);
            None
        }
        Some(mut look) => {
            let etag = look.entry.etag();
            let status = fetch.status(&look, etag);
            let (type_name, slides_to) = state::with(|s| {
                look.count_hit(s, status != Status::Stale);
                let slides_to = if status == Status::Stale { None } else { look.slides_to(s) };
                (s.types.get(look.entry.type_id()).name.clone(), slides_to)
            });
            reply_found(ctx, &look, &fetch, status, etag, &type_name);
            slides_to
        }
    };
    drop(key);
    slide(ctx, name, slides_to);
    Ok(())
}

/// The fields of a `FETCH`, in their order.
const FETCH_FIELDS: usize = 13;

fn reply_miss(ctx: &Ctx) {
    ctx.reply_map(FETCH_FIELDS);
    ctx.reply_bytes(b"status");
    ctx.reply_bytes(b"miss");
    for field in
        ["value", "encoding", "etag", "type", "format", "records", "size", "meta", "age", "ttl", "lease", "retry"]
    {
        ctx.reply_bytes(field.as_bytes());
        ctx.reply_null();
    }
}

fn reply_found(ctx: &Ctx, look: &Look<'_>, fetch: &Fetch<'_>, status: Status, etag: Etag, type_name: &[u8]) {
    let extras = look.entry.extras();
    let payload = look.entry.payload();
    let value = (status != Status::NotModified).then(|| fetch.part(payload));
    ctx.reply_map(FETCH_FIELDS);
    field(ctx, "status", Value::Bytes(Some(status.text())));
    field(ctx, "value", Value::Bytes(value));
    field(ctx, "encoding", Value::Bytes(Some(b"identity")));
    field(ctx, "etag", Value::Bytes(Some(&parse::etag_text(etag))));
    field(ctx, "type", Value::Bytes(Some(type_name)));
    field(ctx, "format", Value::Bytes(extras.format));
    field(ctx, "records", Value::Count(extras.records));
    field(ctx, "size", Value::Count(Some(payload.len() as u64)));
    field(ctx, "meta", Value::Bytes(extras.meta));
    field(ctx, "age", Value::Count(Some(look.age_ms())));
    field(ctx, "ttl", Value::Signed(look.fresh_left_ms));
    field(ctx, "lease", Value::Bytes(None));
    field(ctx, "retry", Value::Count(None));
}

/// A value of a map: something, or null.
enum Value<'v> {
    Bytes(Option<&'v [u8]>),
    Count(Option<u64>),
    Signed(Option<i64>),
}

fn field(ctx: &Ctx, name: &str, value: Value<'_>) {
    ctx.reply_bytes(name.as_bytes());
    match value {
        Value::Bytes(Some(bytes)) => ctx.reply_bytes(bytes),
        Value::Count(Some(count)) => ctx.reply_count(count),
        Value::Signed(Some(number)) => ctx.reply_integer(number),
        Value::Bytes(None) | Value::Count(None) | Value::Signed(None) => ctx.reply_null(),
    }
}

/// `EXPCACHE.META key`
pub fn meta(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    let mut key = ctx.open(name, Mode::Peek);
    let Some(look) = Look::at(ctx, &mut key, Dated::Always)? else {
        ctx.reply_null();
        return Ok(());
    };
    let etag = look.entry.etag();
    let entry = &*look.entry;
    let extras = entry.extras();
    let names = state::with(|s| s.names(ctx.db(), entry));
    ctx.reply_map(17);
    field(ctx, "type", Value::Bytes(Some(&names.type_name)));
    field(ctx, "format", Value::Bytes(extras.format));
    field(ctx, "records", Value::Count(extras.records));
    field(ctx, "size", Value::Count(Some(entry.payload().len() as u64)));
    field(ctx, "stored", Value::Count(Some(entry.stored_len() as u64)));
    field(ctx, "encoding", Value::Bytes(Some(b"identity")));
    field(ctx, "etag", Value::Bytes(Some(&parse::etag_text(etag))));
    field(ctx, "created", Value::Count(Some(entry.created_ms())));
    field(ctx, "age", Value::Count(Some(look.age_ms())));
    field(ctx, "ttl", Value::Signed(look.fresh_left_ms));
    field(ctx, "grace", Value::Count(Some(extras.grace_ms)));
    field(ctx, "state", Value::Bytes(Some(if look.is_fresh() { b"fresh" } else { b"stale" })));
    field(ctx, "hits", Value::Count(Some(entry.hits().into())));
    field(ctx, "last-access", Value::Count(Some(entry.touched_us() / 1000)));
    field(ctx, "cost", Value::Count(extras.cost_ms));
    ctx.reply_bytes(b"tags");
    ctx.reply_array(names.tags.len());
    names.tags.iter().for_each(|tag| ctx.reply_bytes(tag));
    field(ctx, "meta", Value::Bytes(extras.meta));
    Ok(())
}
