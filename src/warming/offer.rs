//! The next keys to be produced. What a keeper says is a hint: each key is looked at before it is handed out.

use expcache_core::entry::Verdict;
use expcache_core::lease::{Token, Wish};
use expcache_core::policy::{end_ms, fresh_until_ms};
use expcache_core::warm::{HOUR_MS, Known, Now, Reason, Slot};

use super::keep::{self, now};
use crate::server::access::{Right, Rights};
use crate::server::args::{Arg, Text};
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::{cache, leases};

/// One call looks at so many keys at most: some may not be the caller's.
const MOST_LOOKED_AT: usize = 1000;
/// So many jobs are looked at at a time, whether they are still under way.
const MOST_JOBS: usize = 64;

/// What a worker wants.
#[derive(Clone)]
pub struct Wanted {
    /// Keys of these types only.
    pub types: Option<Vec<Box<[u8]>>>,
    /// How many.
    pub count: usize,
    /// How long each lease is to last, in ms.
    pub lease_ms: u64,
    /// How long before the end of their freshness, in ms.
    pub ahead_ms: Option<u64>,
    /// Are they only listed?
    pub dry_run: bool,
}

/// A key that is offered.
pub struct Offered {
    pub key: Box<[u8]>,
    pub type_name: Box<[u8]>,
    pub reason: Reason,
    pub token: Option<Token>,
    pub lease_ms: Option<u64>,
    pub worth: f64,
    pub hits: u64,
    pub cost_ms: Option<u64>,
    pub format: Option<Box<[u8]>>,
    pub meta: Option<Box<[u8]>>,
    pub tags: Vec<Box<[u8]>>,
}

/// Who asks.
pub struct Asker<'r> {
    /// The client.
    pub client: u64,
    /// What its user may do.
    pub rights: &'r Rights,
}

impl Asker<'_> {
    /// May it have the job, which is to read and write the key?
    fn may_have(&self, ctx: &Ctx, key: &[u8]) -> bool {
        self.rights.allow(Right::Read, key) && leases::may_hold(ctx, self.client, key)
    }
}

/// What is there of a key.
enum State {
    /// Nothing fresh: it is to be produced.
    Due(Reason),
    /// A value that is fresh until that moment, unix ms.
    Fresh(Option<i64>),
    /// Another type's value, or none of this node.
    Lost,
}

/// May there be something for a worker in the selected database?
pub fn has_any(ctx: &Ctx, wanted: &Wanted) -> bool {
    let (db, now) = (ctx.db(), now());
    let ids = ids(wanted);
    keep::with(db, |keeper| {
        keeper.settle(wanted.ahead_ms, now);
        keeper.has_due(ids.as_deref())
    }) == Some(true)
}

fn ids(wanted: &Wanted) -> Option<Vec<u16>> {
    let names = wanted.types.as_ref()?;
    Some(cache::with(|s| names.iter().filter_map(|name| s.types.id(name)).collect()))
}

/// The keys of the selected database that are most worth producing now, in that order, with leases unless they are only listed.
pub fn next(ctx: &Ctx, wanted: &Wanted, asker: &Asker<'_>) -> Vec<Offered> {
    let (db, now, is_cluster) = (ctx.db(), now(), ctx.is_cluster());
    let ids = ids(wanted);
    let types = ids.as_deref();
    keep::with(db, |keeper| keeper.settle(wanted.ahead_ms, now));
    if keep::with(db, |keeper| keeper.has_due(types)) == Some(false) {
        look_after_jobs_of(ctx, db);
    }
    let (mut offered, mut below) = (Vec::new(), None);
    for _ in 0..MOST_LOOKED_AT {
        if offered.len() >= wanted.count {
            break;
        }
        let next = keep::with(db, |keeper| {
            let (score, slot) = keeper.next_due(types, below, now)?;
            let known = keeper.get(slot)?;
            Some((score, slot, known.type_id, known.key.clone()))
        });
        let Some(Some((score, slot, type_id, key))) = next else { break };
        below = Some((score, slot));
        if cache::with(|s| s.types.warm(type_id)) == 0 {
            keep::with(db, |keeper| keeper.forget_type(type_id));
            continue;
        }
        let name = Text::new(&key);
        if !asker.may_have(ctx, &key) {
            continue;
        }
        let state =
            if is_cluster && !ctx.serves(name.arg()) { State::Lost } else { look(ctx, name.arg(), slot, wanted, now) };
        let reason = match state {
            State::Due(reason) => reason,
            State::Fresh(until_ms) => {
                keep::with(db, |keeper| keeper.put_off(slot, until_ms));
                continue;
            }
            State::Lost => {
                keep::with(db, |keeper| keeper.forget(&key));
                continue;
            }
        };
        let is_worth_it = |known: &Known| known.is_worth_it(now) || reason == Reason::Predicted;
        if keep::with(db, |keeper| keeper.get(slot).is_some_and(is_worth_it)) != Some(true) {
            keep::with(db, |keeper| keeper.rest(slot));
            continue;
        }
        let token = match lease(ctx, name.arg(), slot, wanted, asker, now) {
            Lease::Given(token) => token,
            Lease::Held => continue,
            Lease::None => break,
        };
        let lease_ms = token.map(|_| lease_ms(wanted));
        let one = keep::with(db, |keeper| keeper.get(slot).map(|known| of(known, reason, token, lease_ms, now)));
        offered.extend(one.flatten());
    }
    offered
}

fn of(known: &Known, reason: Reason, token: Option<Token>, lease_ms: Option<u64>, now: Now) -> Offered {
    Offered {
        key: known.key.clone(),
        type_name: cache::with(|s| s.types.get(known.type_id).name.clone()),
        reason,
        token,
        lease_ms,
        worth: known.worth(now),
        hits: known.hits,
        cost_ms: known.cost_ms,
        format: known.format.clone(),
        meta: known.meta.clone(),
        tags: known.tags.clone(),
    }
}

/// What there is under a key.
fn look(ctx: &Ctx, name: Arg<'_>, slot: Slot, wanted: &Wanted, now: Now) -> State {
    let mut key = ctx.open(name, Mode::Peek);
    let db = ctx.db();
    let (early_ms, predicted, gone) = keep::with(db, |keeper| {
        let known = keeper.get(slot)?;
        Some((known.early_ms(), known.predicted_hour(), (known.gone, known.is_worth_it(now))))
    })
    .flatten()
    .unwrap_or_default();
    let (gone, is_worth_it) = gone;
    // What is asked for so seldom that it would rest is offered for the hour in which it is expected.
    let or_predicted = |reason| if predicted.is_some() && !is_worth_it { Reason::Predicted } else { reason };
    let (entry, expire_at_ms) = match key.found_dated(|_| true) {
        (Found::Missing, _) => return State::Due(or_predicted(gone.unwrap_or(Reason::Expired))),
        (Found::Foreign, _) => return State::Lost,
        (Found::Entry(entry), expire_at_ms) => (entry, expire_at_ms),
    };
    let (verdict, is_over) = cache::with(|s| (s.verdict(db, entry), s.has_outlived(entry)));
    let now_ms = end_ms(now.unix_ms, 0);
    let until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
    let left_ms = until_ms.map_or(i64::MAX, |until_ms| until_ms.saturating_sub(now_ms));
    let ahead_ms = i64::try_from(wanted.ahead_ms.unwrap_or(early_ms)).unwrap_or(i64::MAX);
    let begins_ms = predicted.map(|hour| end_ms(u64::from(hour) * HOUR_MS, 0));
    match verdict {
        Verdict::Dead | Verdict::Soft(_) => State::Due(or_predicted(Reason::Invalidated)),
        Verdict::Alive if is_over => State::Due(or_predicted(Reason::Expired)),
        Verdict::Alive if left_ms <= 0 => State::Due(or_predicted(Reason::Stale)),
        Verdict::Alive if left_ms <= ahead_ms => State::Due(or_predicted(Reason::Expiring)),
        Verdict::Alive if begins_ms.zip(until_ms).is_some_and(|(begins, until)| until <= begins) => {
            State::Due(Reason::Predicted)
        }
        Verdict::Alive => State::Fresh(until_ms),
    }
}

/// The lease of a key that is offered.
enum Lease {
    /// It is the asker's; none where keys are only listed.
    Given(Option<Token>),
    /// Somebody has it, or the key backs off.
    Held,
    /// None is given now.
    None,
}

/// No lease lasts longer than is configured.
fn lease_ms(wanted: &Wanted) -> u64 {
    wanted.lease_ms.min(leases::MAX_LEASE.get())
}

fn lease(ctx: &Ctx, name: Arg<'_>, slot: Slot, wanted: &Wanted, asker: &Asker<'_>, now: Now) -> Lease {
    let wish = (!wanted.dry_run).then(|| Wish {
        token: leases::new_token(),
        duration_ms: lease_ms(wanted),
        owner: leases::owner(ctx, asker.client),
    });
    let offer = leases::offer(ctx, name, wish);
    let start = |after_ms: u64, token| {
        keep::with(ctx.db(), |keeper| keeper.start_job(slot, now.steady_ms.saturating_add(after_ms), token))
    };
    match (offer.retry_ms, offer.lease) {
        (Some(after_ms), _) => {
            start(after_ms, None);
            Lease::Held
        }
        (None, None) if wanted.dry_run => Lease::Given(None),
        (None, None) => Lease::None,
        (None, Some(token)) => {
            start(lease_ms(wanted), Some(token));
            let type_id = keep::with(ctx.db(), |keeper| keeper.get(slot).map(|known| known.type_id)).flatten();
            type_id.into_iter().for_each(|id| cache::with(|s| s.count(id, |counters| counters.leases += 1)));
            Lease::Given(Some(token))
        }
    }
}

/// Jobs that are under way as far as known are looked at, some at each beat of the server's clock: a lease may have been given up, lost or over.
pub fn look_after_jobs(ctx: &Ctx) {
    let mut db = 0;
    while keep::has(db) {
        if ctx.select(db) {
            look_after_jobs_of(ctx, db);
        }
        db += 1;
    }
}

fn look_after_jobs_of(ctx: &Ctx, db: i32) {
    let now = now();
    let jobs = keep::with(db, |keeper| {
        let slots = keeper.some_jobs(MOST_JOBS, now);
        slots.into_iter().filter_map(|slot| Some((slot, keeper.get(slot)?.key.clone()))).collect::<Vec<_>>()
    });
    for (slot, key) in jobs.into_iter().flatten() {
        let offer = leases::offer(ctx, Text::new(&key).arg(), None);
        keep::with(db, |keeper| match offer.retry_ms.filter(|left_ms| *left_ms > 0) {
            Some(left_ms) => keeper.prolong_job(slot, now.steady_ms.saturating_add(left_ms)),
            None => keeper.end_job(slot),
        });
    }
}
