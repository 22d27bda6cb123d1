//! `EXPCACHE.FETCH`: the full read protocol.
//!
//! A client that waits for another's production is blocked, and its `FETCH` runs again when the waiting is over: then it is
//! answered whatever there is.

use expcache_core::early::is_due_early;
use expcache_core::entry::Etag;
use expcache_core::lease::Token;
use expcache_core::{Error, Result};
use smallvec::SmallVec;

use super::look::{Dated, Look, slide};
use super::parse::{self, once};
use super::read::{Value, field};
use crate::server::access::Right;
use crate::server::context::{Arg, Args, Ctx};
use crate::server::key::Mode;
use crate::server::leases::{self, Offer};
use crate::server::state::{self, State};

/// `EXPCACHE.FETCH key [LEASE d] [WAIT d] [IFNONEMATCH etag] [RANGE offset length] [MAXAGE d]`
#[derive(Default)]
struct Fetch<'a> {
    lease_ms: Option<u64>,
    wait_ms: Option<u64>,
    if_none_match: Option<&'a [u8]>,
    range: Option<(u64, u64)>,
    max_age_ms: Option<u64>,
}

/// Names of types are short, so this mostly takes no block of memory.
type TypeName = SmallVec<[u8; 32]>;

/// Which run of the command it is.
#[derive(Clone, Copy)]
enum Turn {
    First,
    /// After waiting, perhaps with the lease that was waited for.
    Last(Option<Token>),
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
    Fetch::parse(args)?.run(ctx, name, Turn::First)
}

/// Answers a client that waited, and says whether the lease is its own now.
pub fn answer(ctx: &Ctx, mut args: Args<'_>, lease: Option<Token>) -> Result<()> {
    let name = args.need()?;
    // What it may read can have changed while it waited, and nobody checks that but us.
    if !ctx.rights().allow(Right::Read, name.bytes()) {
        return Err(Error::NoPermission);
    }
    Fetch::parse(args)?.run(ctx, name, Turn::Last(lease))
}

/// Tells a client that it need not wait any longer, as if its time were up.
pub fn unblocked(ctx: &Ctx) {
    reply_miss(ctx, Offer::default());
}

impl<'a> Fetch<'a> {
    fn parse(mut args: Args<'a>) -> Result<Self> {
        let mut fetch = Self::default();
        while let Some(word) = args.next() {
            match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
                b"LEASE" => once(&mut fetch.lease_ms, parse::positive_duration(args.need()?)?)?,
                b"WAIT" => once(&mut fetch.wait_ms, parse::duration(args.need()?)?)?,
                b"IFNONEMATCH" => once(&mut fetch.if_none_match, args.need()?.bytes())?,
                b"RANGE" => once(&mut fetch.range, (parse::number(args.need()?)?, parse::number(args.need()?)?))?,
                b"MAXAGE" => once(&mut fetch.max_age_ms, parse::duration(args.need()?)?)?,
                _ => return Err(Error::Syntax),
            }
        }
        Ok(fetch)
    }

    fn run(&self, ctx: &Ctx, name: Arg<'_>, turn: Turn) -> Result<()> {
        let mut key = ctx.open(name, Mode::Read);
        let Some(mut look) = Look::at(ctx, &mut key, Dated::Always)? else {
            drop(key);
            self.miss(ctx, name, turn);
            return Ok(());
        };
        let etag = look.entry.etag();
        let status = self.status(&look, etag);
        let type_id = look.entry.type_id();
        let (type_name, due, slides_to) = state::with(|s| {
            let due = status == Status::Stale || self.lease_ms.is_some() && is_due(s, &look);
            look.count_hit(s, status != Status::Stale);
            let slides_to = if status == Status::Stale { None } else { look.slides_to(s) };
            (TypeName::from_slice(&s.types.get(type_id).name), due, slides_to)
        });
        let mut offer = if due { self.offer(ctx, name, turn, Some(type_id)) } else { Offer::default() };
        if status != Status::Stale {
            offer.held_ms = None;
        }
        reply_found(ctx, &look, self, status, etag, &type_name, offer);
        drop(key);
        slide(ctx, name, slides_to);
        Ok(())
    }

    /// There is nothing: the client is told so, unless it waits for another that produces it.
    fn miss(&self, ctx: &Ctx, name: Arg<'_>, turn: Turn) {
        let offer = self.offer(ctx, name, turn, None);
        if let (Turn::First, Some(wait_ms @ 1..), Some(_)) = (turn, self.wait_ms, offer.held_ms)
            && leases::wait(ctx, name.bytes(), self.lease_ms, wait_ms)
        {
            return state::with(|s| s.count_by_key(name.bytes(), |counters| counters.waits += 1));
        }
        state::with(|s| s.count_by_key(name.bytes(), |counters| counters.misses += 1));
        reply_miss(ctx, offer);
    }

    /// The key's lease: the reader's own, if it asked for it and nobody holds it.
    fn offer(&self, ctx: &Ctx, name: Arg<'_>, turn: Turn, type_id: Option<u16>) -> Offer {
        let offer = match turn {
            Turn::First => leases::offer(ctx, name.bytes(), self.lease_ms),
            // Unless it was lost again before it could be told.
            Turn::Last(Some(token)) if leases::production_ms(ctx, name.bytes(), token).is_ok() => {
                Offer { lease: Some(token), held_ms: None }
            }
            Turn::Last(_) => leases::offer(ctx, name.bytes(), None),
        };
        if offer.lease.is_some() {
            state::with(|s| {
                let type_id = type_id.unwrap_or_else(|| s.type_by_key(name.bytes()));
                s.count(type_id, |counters| counters.leases += 1);
            });
        }
        offer
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

/// Is a fresh entry to be refreshed by this reader already?
fn is_due(s: &mut State, look: &Look<'_>) -> bool {
    let early_percent = s.types.policy(look.entry.type_id()).early_percent;
    let Some(left_ms) = look.fresh_left_ms.filter(|_| early_percent > 0) else { return false };
    let (lifetime_ms, cost_ms) = (look.entry.lifetime_ms(), look.entry.cost_ms());
    is_due_early(early_percent, lifetime_ms, left_ms.unsigned_abs(), cost_ms, s.random())
}

/// The fields of a `FETCH`, in their order.
const FETCH_FIELDS: usize = 13;

fn reply_miss(ctx: &Ctx, offer: Offer) {
    ctx.reply_map(FETCH_FIELDS);
    field(ctx, "status", Value::Bytes(Some(b"miss")));
    for name in ["value", "encoding", "etag", "type", "format", "records", "size", "meta", "age", "ttl"] {
        field(ctx, name, Value::Bytes(None));
    }
    reply_offer(ctx, offer);
}

fn reply_found(
    ctx: &Ctx,
    look: &Look<'_>,
    fetch: &Fetch<'_>,
    status: Status,
    etag: Etag,
    type_name: &[u8],
    offer: Offer,
) {
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
    reply_offer(ctx, offer);
}

fn reply_offer(ctx: &Ctx, offer: Offer) {
    let token = offer.lease.map(|token| token.to_string());
    field(ctx, "lease", Value::Bytes(token.as_deref().map(str::as_bytes)));
    field(ctx, "retry", Value::Count(offer.held_ms));
}
