//! A look at an entry: is it there, is it fresh, and what a hit does to it.

use expcache_core::entry::{Entry, Verdict};
use expcache_core::policy::fresh_left_ms;
use expcache_core::stats::Why;
use expcache_core::{Error, Result};

use crate::server::context::{Arg, Ctx};
use crate::server::key::{Found, Key, Mode};
use crate::server::state::{self, State};

/// An entry that a read found alive.
pub struct Look<'k> {
    /// It.
    pub entry: &'k mut Entry,
    /// Now, unix µs.
    pub now_us: u64,
    /// Ms of freshness left; `None`: without end.
    pub fresh_left_ms: Option<i64>,
    /// When the server expires the key.
    expire_at_ms: Option<i64>,
    /// How long it is stale after being fresh, in ms.
    pub grace_ms: u64,
}

/// When to look up a key's expiry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dated {
    /// The reply names it.
    Always,
    /// It decides whether the entry is fresh, or slides.
    IfItDecides,
}

impl<'k> Look<'k> {
    /// Finds what is alive under a key. The expiry is looked up when it is asked for or when it decides.
    pub fn at(ctx: &Ctx, key: &'k mut Key<'_>, dated: Dated) -> Result<Option<Self>> {
        let decides = |entry: &Entry| entry.grace_ms() > 0 || state::with(|s| s.types.policy(entry.type_id()).sliding);
        let (found, expire_at_ms) = key.found_dated(|entry| dated == Dated::Always || decides(entry));
        let entry = match found {
            Found::Missing => return Ok(None),
            Found::Foreign => return Err(Error::WrongType),
            Found::Entry(entry) => entry,
        };
        let (verdict, now_us) = state::with(|s| {
            let verdict = s.verdict(ctx.db(), entry);
            let exact = expire_at_ms.is_some() || dated == Dated::Always || verdict != Verdict::Alive;
            (verdict, if exact { s.now_us() } else { s.about_now_us() })
        });
        let now_ms = now_us / 1000;
        let (fresh_left_ms, grace_ms) = match verdict {
            Verdict::Alive => (fresh_left_ms(expire_at_ms, entry.grace_ms(), now_ms), entry.grace_ms()),
            Verdict::Soft(soft) if soft.end_ms() > now_ms => {
                (Some(soft.moment_ms.cast_signed() - now_ms.cast_signed()), soft.grace_ms)
            }
            Verdict::Soft(_) | Verdict::Dead => return Ok(None),
        };
        Ok(Some(Self { entry, now_us, fresh_left_ms, expire_at_ms, grace_ms }))
    }

    /// Is it fresh?
    pub fn is_fresh(&self) -> bool {
        self.fresh_left_ms.is_none_or(|left| left > 0)
    }

    /// When its freshness ends, unix ms; `None`: never.
    pub fn fresh_until_ms(&self) -> Option<i64> {
        self.fresh_left_ms.map(|left| left + (self.now_us / 1000).cast_signed())
    }

    /// How long ago it was stored, in ms.
    pub fn age_ms(&self) -> u64 {
        (self.now_us / 1000).saturating_sub(self.entry.created_ms())
    }

    /// Counts a payload handed out.
    pub fn count_hit(&mut self, s: &mut State, fresh: bool) {
        let saved_ms = self.entry.cost_ms().unwrap_or(0);
        s.count(self.entry.type_id(), |counters| {
            *(if fresh { &mut counters.hits } else { &mut counters.stale_hits }) += 1;
            counters.saved_ms = counters.saved_ms.saturating_add(saved_ms);
        });
        if !s.saving {
            self.entry.hit(self.now_us);
            s.rank_hit(self.entry, saved_ms);
        }
    }

    /// Where a hit puts the key's expiry, if its type is sliding. It never shortens a life, and a hundredth of the lifetime
    /// is not worth telling every replica.
    pub fn slides_to(&self, s: &State) -> Option<i64> {
        let lifetime = self.entry.lifetime_ms();
        if lifetime == 0 || !s.types.policy(self.entry.type_id()).sliding {
            return None;
        }
        let end = i64::try_from(self.now_us / 1000 + lifetime + self.entry.grace_ms()).ok()?;
        let gain = end.checked_sub(self.expire_at_ms?)?;
        (gain > 0 && gain >= (lifetime / 100).cast_signed()).then_some(end)
    }
}

/// A read that hands out nothing.
pub struct Miss {
    /// The entry's, if there is one: dead or stale.
    type_id: Option<u16>,
    /// `None`: nothing is known.
    why: Option<Why>,
}

impl Miss {
    /// Why a read of this key hands out nothing.
    pub fn of(ctx: &Ctx, key: &mut Key<'_>) -> Self {
        let (db, name) = (ctx.db(), key.name());
        if let Found::Entry(entry) = key.found() {
            let why = state::with(|s| s.why_not_fresh(db, name.bytes(), entry));
            return Self { type_id: Some(entry.type_id()), why: Some(why) };
        }
        let (why, is_replica) = state::with(|s| (s.why_gone(db, name.bytes()), s.is_replica));
        // A replica keeps what has expired until its master says so, and does not show it.
        let buried = || matches!(ctx.open(name, Mode::Buried).found(), Found::Entry(_)).then_some(Why::Expired);
        Self { type_id: None, why: if is_replica { why.or_else(buried) } else { why } }
    }

    /// Counts it: for the entry's type, or for the one in the key's name.
    pub fn count(&self, name: &[u8]) {
        state::with(|s| {
            let type_id = self.type_id.unwrap_or_else(|| s.type_by_key(name));
            s.count(type_id, |counters| {
                counters.misses += 1;
                *match self.why {
                    None => &mut counters.misses_cold,
                    Some(Why::Expired) => &mut counters.misses_expired,
                    Some(Why::Invalidated) => &mut counters.misses_invalidated,
                } += 1;
            });
        });
    }
}

/// Puts a key's expiry off after a hit, if anybody may now.
pub fn slide(ctx: &Ctx, name: Arg<'_>, to: Option<i64>) {
    if let Some(moment) = to
        && ctx.decides()
        && !ctx.must_keep_quiet()
    {
        ctx.expire_at(name, moment);
    }
}
