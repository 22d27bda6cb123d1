//! A look at an entry: is it there, is it fresh, and what a hit does to it.

use expcache_core::advice::Outcome;
use expcache_core::entry::{End, Entry, Soft, Verdict};
use expcache_core::index::Index;
use expcache_core::policy::{Audit, Policy, end_ms, fresh_left_ms};
use expcache_core::stats::Why;
use expcache_core::{Error, Result};

use crate::audit::Recorded;
use crate::cache::freshness::put_off;
use crate::cache::{self, Cache};
use crate::server::args::Arg;
use crate::server::context::Ctx;
use crate::server::key::{Found, Key, Mode};
use crate::server::{clock, status};
use crate::{advice, warming};

/// An entry that a read found alive.
pub struct Look<'k> {
    /// The entry.
    pub entry: &'k mut Entry,
    /// Its key.
    name: Arg<'k>,
    /// Now, unix ms.
    now_ms: u64,
    /// Ms of freshness left; `None`: without end.
    pub fresh_left_ms: Option<i64>,
    /// When the server expires the key.
    expire_at_ms: Option<i64>,
    /// How long it is stale after being fresh, in ms.
    pub grace_ms: u64,
    /// When it is over, whatever its key's expiry says, unix ms.
    ends_ms: Option<i64>,
    hit: Hit,
}

/// What those who follow reads want to know of a hit.
#[derive(Default)]
struct Hit {
    /// When the entry was handed out before, by the clock of uses; 0: perhaps never.
    before_us: u64,
    /// Are keys of its type kept in mind to be warmed?
    is_kept_in_mind: bool,
}

/// Whether the expiry of the key is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReadExpiry {
    /// The reply names it.
    Always,
    /// It decides whether the entry is fresh, or slides.
    WhenNeeded,
}

impl<'k> Look<'k> {
    /// Finds what is alive under a key. The expiry is looked up when it is asked for or when it decides.
    pub fn at(ctx: &Ctx, key: &'k mut Key<'_>, dated: ReadExpiry) -> Result<Option<Self>> {
        let name = key.name();
        let asks = |policy: &Policy| policy.sliding || policy.whole_life_ms != 0;
        let decides = |entry: &Entry| entry.grace_ms() > 0 || cache::with(|s| asks(s.types.policy(entry.type_id())));
        let (found, expire_at_ms) = key.found_dated(|entry| dated == ReadExpiry::Always || decides(entry));
        let entry = match found {
            Found::Missing => return Ok(None),
            Found::Foreign => return Err(Error::WrongType),
            Found::Entry(entry) => entry,
        };
        let (verdict, ends_ms) = cache::with(|s| (s.verdict(ctx.db(), entry), s.types.end_of_life_ms(entry)));
        let exact = expire_at_ms.or(ends_ms).is_some() || dated == ReadExpiry::Always || verdict != Verdict::Alive;
        let now_ms = if exact { clock::unix_ms() } else { clock::unix_ms_coarse() };
        if ends_ms.is_some_and(|ends_ms| ends_ms <= moment(now_ms)) {
            return Ok(None);
        }
        let expire_at_ms = [expire_at_ms, ends_ms].into_iter().flatten().min();
        let own_grace_ms = entry.grace_ms();
        let (fresh_left_ms, grace_ms) = match verdict {
            Verdict::Dead => return Ok(None),
            Verdict::Soft(soft) if soft.end_ms().is_some_and(|end_ms| end_ms <= moment(now_ms)) => return Ok(None),
            Verdict::Soft(soft) => {
                // It is stale also where the clock was set back since, or is another's.
                let left = moment(soft.moment_ms).saturating_sub(moment(now_ms)).min(0);
                (Some(left), soft.grace_ms.or(stale_for(soft, expire_at_ms)).unwrap_or(own_grace_ms))
            }
            Verdict::Alive => (fresh_left_ms(expire_at_ms, own_grace_ms, now_ms), own_grace_ms),
        };
        Ok(Some(Self { entry, name, now_ms, fresh_left_ms, expire_at_ms, grace_ms, ends_ms, hit: Hit::default() }))
    }

    /// Is it fresh?
    pub fn is_fresh(&self) -> bool {
        self.fresh_left_ms.is_none_or(|left| left > 0)
    }

    /// When its freshness ends, unix ms; `None`: never.
    pub fn fresh_until_ms(&self) -> Option<i64> {
        self.fresh_left_ms.map(|left| left.saturating_add(moment(self.now_ms)))
    }

    /// How long ago it was stored, in ms.
    pub fn age_ms(&self) -> u64 {
        self.now_ms.saturating_sub(self.entry.created_ms())
    }

    /// May it have been stored longer ago than that? Of one that is dated so far into the future nobody knows: the clock was set
    /// back since, or it was another's.
    pub fn is_older_than(&self, most_ms: u64) -> bool {
        self.now_ms.abs_diff(self.entry.created_ms()) > most_ms
    }

    /// Counts a payload handed out.
    pub fn count_hit(&mut self, s: &mut Cache, fresh: bool) {
        let saved_ms = self.entry.cost_ms().unwrap_or(0);
        s.count(self.entry.type_id(), |counters| {
            *(if fresh { &mut counters.hits } else { &mut counters.stale_hits }) += 1;
            counters.saved_ms = counters.saved_ms.saturating_add(saved_ms);
        });
        self.hit.is_kept_in_mind = s.types.warm(self.entry.type_id()) > 0;
        if !status::is_saving() {
            self.hit.before_us = if self.entry.hits() == 0 { 0 } else { self.entry.touched_us() };
            self.entry.hit(clock::use_us());
            s.rank_hit(self.entry, saved_ms);
        }
    }

    /// Tells those who follow reads of a payload that is handed out. The books must not be open.
    pub fn tell(&self, ctx: &Ctx) {
        let (type_id, index, key) = (self.entry.type_id(), self.entry.index(), self.name.bytes());
        let outcome = if self.is_fresh() { Outcome::Fresh } else { Outcome::Stale };
        advice::read(type_id, index, key, outcome, self.hit.before_us);
        if self.hit.is_kept_in_mind {
            warming::asked_for_entry(ctx, key, self.entry, self.is_fresh());
        }
    }

    /// Where a hit puts the key's expiry, if its type is sliding and nobody named its end. It never shortens a life, and a
    /// hundredth of the lifetime is not worth telling every replica.
    pub fn slides_to(&self, s: &Cache) -> Option<i64> {
        let lifetime_ms = self.entry.lifetime_ms();
        if lifetime_ms == 0 || !s.types.policy(self.entry.type_id()).sliding || self.entry.end() == End::Named {
            return None;
        }
        let end_ms = end_ms(self.now_ms, lifetime_ms.saturating_add(self.entry.grace_ms()));
        let end_ms = self.ends_ms.map_or(end_ms, |ends_ms| end_ms.min(ends_ms));
        let gain_ms = end_ms.saturating_sub(self.expire_at_ms?);
        (gain_ms > 0 && gain_ms >= moment(lifetime_ms / 100)).then_some(end_ms)
    }
}

/// How long an entry is stale in all, in ms, if its key expires.
fn stale_for(soft: Soft, expire_at_ms: Option<i64>) -> Option<u64> {
    expire_at_ms.map(|end_ms| u64::try_from(end_ms).unwrap_or(0).saturating_sub(soft.moment_ms))
}

/// A moment as the server counts it.
fn moment(ms: u64) -> i64 {
    end_ms(ms, 0)
}

/// What the log says of a read that hands out a fresh payload.
pub const HIT: &[u8] = b"hit";
/// And of one that hands out nothing.
pub const MISS: &[u8] = b"miss";

/// A read that hands out nothing.
pub struct Miss {
    /// The entry's, if there is one: dead or stale.
    type_id: Option<u16>,
    /// The number of the index that the key would be in.
    index: u16,
    /// `None`: nothing is known.
    why: Option<Why>,
}

impl Miss {
    /// Why a read of this key hands out nothing.
    pub fn of(ctx: &Ctx, key: &mut Key<'_>) -> Self {
        let (db, name) = (ctx.db(), key.name());
        if let Found::Entry(entry) = key.found() {
            let why = cache::with(|s| s.why_not_fresh(db, name.bytes(), entry));
            return Self { type_id: Some(entry.type_id()), index: entry.index(), why: Some(why) };
        }
        let number = |s: &Cache| s.index(db).map_or(0, Index::number);
        let (why, index, is_replica) = cache::with(|s| (s.why_gone(db, name.bytes()), number(s), status::is_replica()));
        // A replica keeps what has expired until its master says so, and does not show it.
        let buried = || matches!(ctx.open(name, Mode::Buried).found(), Found::Entry(_)).then_some(Why::Expired);
        Self { type_id: None, index, why: if is_replica { why.or_else(buried) } else { why } }
    }

    /// Counts it: for the entry's type, or for the one in the key's name. Those who follow reads are told. Returns the type, if its reads are
    /// put on record.
    pub fn count(&self, ctx: &Ctx, name: &[u8]) -> Option<Recorded> {
        let (type_id, warms, recorded) = cache::with(|s| {
            let type_id = self.type_id.unwrap_or_else(|| s.type_by_key(name));
            s.count(type_id, |counters| {
                counters.misses += 1;
                *match self.why {
                    None => &mut counters.misses_cold,
                    Some(Why::Expired) => &mut counters.misses_expired,
                    Some(Why::Invalidated) => &mut counters.misses_invalidated,
                } += 1;
            });
            (type_id, s.types.warms(), Recorded::of(s, type_id, Audit::All))
        });
        let outcome = match self.why {
            None => Outcome::Cold,
            Some(Why::Expired) => Outcome::Expired,
            Some(Why::Invalidated) => Outcome::Invalidated,
        };
        advice::read(type_id, self.index, name, outcome, 0);
        if warms {
            warming::asked_in_vain(ctx, name);
        }
        recorded
    }
}

/// Puts a key's expiry off after a hit, if anybody may now. In a script nobody may: whether it is one that only reads is told to no
/// module.
pub fn slide(ctx: &Ctx, name: Arg<'_>, to: Option<i64>) {
    if let Some(moment) = to
        && ctx.decides()
        && !ctx.is_in_script()
        && !ctx.must_keep_quiet()
    {
        put_off(ctx, name, moment);
    }
}
