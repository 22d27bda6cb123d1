//! The next keys to be produced. What a keeper says is a hint: each key is looked at before it is handed out.

use std::sync::Arc;

use expcache_core::entry::Verdict;
use expcache_core::lease::{Token, Wish};
use expcache_core::policy::{end_ms, fresh_until_ms};
use expcache_core::warm::{HOUR_MS, Known, Now, Reason, Score, Slot};

use super::keep::{self, now};
use crate::server::access::{Right, Rights};
use crate::server::args::{Arg, Text};
use crate::server::cluster::Whereabouts;
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::{cache, leases};

/// So many jobs are looked at at a time, whether they are still under way.
const MOST_JOBS: usize = 64;

/// What a worker wants.
#[derive(Clone)]
pub struct Wanted {
    /// Keys of these types only.
    pub types: Option<Arc<[Box<[u8]>]>>,
    /// How many.
    pub count: usize,
    /// How long each lease is to last, in ms.
    pub lease_ms: u64,
    /// How long before the end of their freshness, in ms.
    pub ahead_ms: Option<u64>,
    /// Are they only listed?
    pub dry_run: bool,
}

/// Where a key stands among those that are due.
pub type Place = (Score, Slot);

/// Where a look at the keys that are due begins, and at how many: some may not be the asker's.
#[derive(Clone, Copy)]
pub struct Looking {
    /// The place of the key after which it goes on.
    pub after: Option<Place>,
    /// So many at most.
    pub most: usize,
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

/// What is offered and was not told yet. If nobody ever is told, the leases' time is over.
pub struct Untold {
    db: i32,
    offered: Vec<Offered>,
}

impl Untold {
    fn new(db: i32) -> Self {
        Self { db, offered: Vec::new() }
    }

    /// Is it nothing?
    pub fn is_empty(&self) -> bool {
        self.offered.is_empty()
    }

    /// Has somebody told.
    pub fn tell(mut self, tell: impl FnOnce(&[Offered])) {
        tell(&self.offered);
        self.offered.clear();
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        for one in &self.offered {
            one.token.into_iter().for_each(|token| leases::withdraw(self.db, &one.key, token));
        }
    }
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
    /// A value of another type, or another node's.
    Lost,
    /// Nobody knows.
    Unknown,
}

/// May there be something for a worker in a database?
pub fn may_have_any(db: i32, wanted: &Wanted) -> bool {
    let now = now();
    let ids = ids(wanted);
    keep::with(db, |keeper| {
        keeper.settle(ids.as_deref(), now);
        keeper.has_due(ids.as_deref()) || wanted.ahead_ms.is_some_and(|ahead_ms| keeper.ends_within(ahead_ms, now))
    }) == Some(true)
}

fn ids(wanted: &Wanted) -> Option<Vec<u16>> {
    let names = wanted.types.as_ref()?;
    Some(cache::with(|s| names.iter().filter_map(|name| s.types.id(name)).collect()))
}

/// The keys of the selected database that are most worth producing now, in that order, with leases unless they are only listed. Besides, where
/// to go on, if not all that are due were looked at.
pub fn next(ctx: &Ctx, wanted: &Wanted, asker: &Asker<'_>, looking: Looking) -> (Untold, Option<Place>) {
    let (db, now) = (ctx.db(), now());
    let ids = ids(wanted);
    let types = ids.as_deref();
    keep::with(db, |keeper| keeper.settle(types, now));
    if keep::with(db, |keeper| keeper.has_due(types)) == Some(false) {
        look_after_jobs_of(ctx, db);
    }
    let mut untold = Untold::new(db);
    let walk = keep::with(db, |keeper| keeper.walk(types, looking.after, wanted.ahead_ms, now));
    let Some(mut walk) = walk else { return (untold, None) };
    let mut last = None;
    for _ in 0..looking.most {
        if untold.offered.len() >= wanted.count {
            break;
        }
        let next = keep::with(db, |keeper| {
            let (score, slot) = keeper.next_due(&mut walk, now)?;
            let known = keeper.get(slot)?;
            let type_name = keeper.type_name(known.type_id)?;
            Some(((score, slot), known.key.clone(), (known.type_id, Box::from(type_name))))
        });
        let Some(Some((place, key, of_type))) = next else { return (untold, walk.unseen()) };
        last = Some(place);
        match consider(ctx, Candidate { slot: place.1, key: &key, of_type }, wanted, asker, now) {
            Considered::Offered(one) => untold.offered.push(*one),
            Considered::PassedOver => (),
            Considered::NoneNow => return (untold, None),
        }
    }
    // Beyond where it stopped looking ahead it saw only what is due.
    (untold, walk.unseen().or(last))
}

/// A key that is due.
struct Candidate<'k> {
    slot: Slot,
    key: &'k [u8],
    of_type: (u16, Box<[u8]>),
}

/// What comes of it.
enum Considered {
    Offered(Box<Offered>),
    PassedOver,
    /// No lease is given now.
    NoneNow,
}

fn consider(ctx: &Ctx, candidate: Candidate<'_>, wanted: &Wanted, asker: &Asker<'_>, now: Now) -> Considered {
    let (db, Candidate { slot, key, of_type: (type_id, type_name) }) = (ctx.db(), candidate);
    // What is not wanted any more is forgotten in turns.
    let is_wanted = cache::with(|s| s.types.warm(type_id) > 0 && s.types.get(type_id).name == type_name);
    if !is_wanted || !asker.may_have(ctx, key) {
        return Considered::PassedOver;
    }
    let name = Text::new(key);
    let reason = match look(ctx, name.arg(), slot, wanted, now) {
        State::Due(reason) => reason,
        State::Fresh(until_ms) => {
            keep::with(db, |keeper| keeper.put_off(slot, until_ms));
            return Considered::PassedOver;
        }
        State::Lost => {
            keep::with(db, |keeper| keeper.forget(key));
            return Considered::PassedOver;
        }
        State::Unknown => return Considered::NoneNow,
    };
    let is_worth_it = |known: &Known| known.is_worth_it(now) || reason == Reason::Predicted;
    if keep::with(db, |keeper| keeper.get(slot).is_some_and(is_worth_it)) != Some(true) {
        // Who only looks ahead says nothing of what others are offered later.
        keep::with(db, |keeper| {
            if keeper.get(slot).is_some_and(Known::is_due) {
                keeper.rest(slot)
            }
        });
        return Considered::PassedOver;
    }
    let token = match lease(ctx, name.arg(), (slot, type_id), wanted, asker, now) {
        Lease::Given(token) => token,
        Lease::Held => return Considered::PassedOver,
        Lease::None => return Considered::NoneNow,
    };
    let of = |known: &Known| Offered {
        key: known.key.clone(),
        type_name,
        reason,
        token,
        lease_ms: token.map(|_| lease_ms(wanted)),
        worth: known.worth(now),
        hits: known.hits,
        cost_ms: known.cost_ms,
        format: known.format.clone(),
        meta: known.meta.clone(),
        tags: known.tags.clone(),
    };
    match keep::with(db, |keeper| keeper.get(slot).map(of)).flatten() {
        Some(one) => Considered::Offered(Box::new(one)),
        None => {
            token.into_iter().for_each(|token| leases::withdraw(db, key, token));
            Considered::PassedOver
        }
    }
}

/// What there is under a key.
fn look(ctx: &Ctx, name: Arg<'_>, slot: Slot, wanted: &Wanted, now: Now) -> State {
    // What a replica has is its primary's.
    match if ctx.is_master() { ctx.whereabouts(name) } else { Whereabouts::Here } {
        Whereabouts::Here => (),
        Whereabouts::Elsewhere => return State::Lost,
        Whereabouts::Unknown => return State::Unknown,
    }
    let mut key = ctx.open(name, Mode::Peek);
    let db = ctx.db();
    let known = keep::with(db, |keeper| {
        let known = keeper.get(slot)?;
        let (gone, is_worth_it) = (known.gone, known.is_worth_it(now));
        Some((known.type_id, known.early_ms(), known.predicted_hour(), gone, is_worth_it))
    });
    let Some((type_id, early_ms, predicted, gone, is_worth_it)) = known.flatten() else { return State::Lost };
    // What is asked for so seldom that it would rest is offered for the hour in which it is expected.
    let or_predicted = |reason| if predicted.is_some() && !is_worth_it { Reason::Predicted } else { reason };
    let (entry, expire_at_ms) = match key.found_dated(|_| true) {
        (Found::Missing, _) => return State::Due(or_predicted(gone.unwrap_or(Reason::Expired))),
        (Found::Entry(entry), expire_at_ms) if entry.type_id() == type_id => (entry, expire_at_ms),
        (Found::Entry(_) | Found::Foreign, _) => return State::Lost,
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

fn lease(
    ctx: &Ctx,
    name: Arg<'_>,
    (slot, type_id): (Slot, u16),
    wanted: &Wanted,
    asker: &Asker<'_>,
    now: Now,
) -> Lease {
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
            cache::with(|s| s.count(type_id, |counters| counters.leases += 1));
            Lease::Given(Some(token))
        }
    }
}

/// Jobs that are under way as far as known are looked at, some at each beat of the server's clock, where it is doubtful whether they still are.
pub fn look_after_jobs(ctx: &Ctx) {
    let home = ctx.db();
    for db in (0..).take_while(|db| keep::has(*db)) {
        if ctx.select(db) {
            look_after_jobs_of(ctx, db);
        }
    }
    ctx.select(home);
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
