//! `EXPCACHE.WARM`: which keys are worth it is known to the same keeper as in the server.

use bytes::Bytes;
use expcache_core::grammar::warm::WarmOptions;
use expcache_core::lease::{Asked, Standing, Token, Wish};
use expcache_core::policy::end_ms;
use expcache_core::warm::{HOUR_MS, Known, Limits, Now, Reason, Seen, Slot};
use redis::Value;

use super::entry::{bulk, bulks, count, map, optional_bulk, optional_count, text};
use super::in_mind::InMind;
use super::store::{LIMITS, State};

/// As the server has it at first.
const MEMORY: usize = 16 << 20;
const LEASE_MS: u64 = 30_000;
/// More jobs are never under way here.
const MOST_JOBS: usize = 10_000;

/// What there is of a key.
enum There {
    Due(Reason),
    Fresh(Option<i64>),
    Lost,
}

impl State {
    fn now(&self) -> Now {
        Now { unix_ms: self.now_ms, steady_ms: self.now_ms }
    }

    /// Somebody asked for a key, and got what is there, if anything is.
    pub(super) fn note_asked(&mut self, key: &[u8], is_fresh: bool) {
        let now = self.now();
        if self.in_mind.keeper.asked(key, is_fresh, now).is_none() {
            self.note_stored(key);
        }
    }

    /// There is a value.
    pub(super) fn note_stored(&mut self, key: &[u8]) {
        let now = self.now();
        let Some(entry) = self.entries.get(key) else { return };
        let policy = self.policy(&entry.type_name);
        let best = usize::try_from(policy.warm).unwrap_or(0);
        self.in_mind.ids += 1;
        let tags: Vec<&[u8]> = entry.tags.iter().map(AsRef::as_ref).collect();
        let seen = Seen {
            id: self.in_mind.ids,
            lifetime_ms: entry.life.lifetime_ms,
            fresh_until_ms: entry.fresh_until_ms(self.now_ms),
            early_percent: policy.early_percent,
            cost_ms: entry.cost_ms,
            format: entry.format.as_deref(),
            meta: entry.meta.as_deref(),
            tags: &tags,
        };
        let of = (self.in_mind.type_id(&entry.type_name), entry.type_name.as_ref());
        self.in_mind.keeper.keep(key, of, &seen, Limits { bytes: MEMORY, best }, now);
    }

    /// It is not fresh any more, or gone.
    pub(super) fn note_went(&mut self, key: &[u8], why: Reason) {
        let now = self.now();
        self.in_mind.keeper.went(key, why, now);
    }

    /// Nobody wants it any more.
    pub(super) fn note_unwanted(&mut self, key: &[u8]) {
        self.in_mind.keeper.forget(key);
    }

    /// Policies changed.
    pub(super) fn note_types(&mut self) {
        let Self { in_mind: InMind { keeper, types: ids, .. }, types, .. } = self;
        let named = |id: u16| ids.iter().find(|(_, known)| **known == id).map(|(name, _)| name);
        keeper.look_after_types(usize::MAX, usize::MAX, |id| {
            let name = named(id)?;
            let most = types.get(name).map_or(0, |policy| policy.warm);
            Some((name.as_ref(), usize::try_from(most).unwrap_or(usize::MAX)))
        });
    }

    /// The keys most worth producing, with leases unless they are only listed.
    pub(super) fn warm(&mut self, options: &WarmOptions<'_>) -> Vec<Value> {
        let (now, most) = (self.now(), options.count.unwrap_or(1));
        let types: Option<Vec<u16>> = options
            .types
            .as_ref()
            .map(|names| names.iter().filter_map(|name| self.in_mind.types.get(*name).copied()).collect());
        self.in_mind.keeper.turn(usize::MAX, now);
        self.look_after_jobs(now);
        let mut walk = self.in_mind.keeper.walk(types.as_deref(), None, options.ahead_ms, now);
        let mut offered = Vec::new();
        while (offered.len() as u64) < most {
            let Some((_, slot)) = self.in_mind.keeper.next_due(&mut walk, now) else { break };
            offered.extend(self.offer_of(slot, options, now));
        }
        offered
    }

    /// Nobody tells it when a lease ends, so all are looked at.
    fn look_after_jobs(&mut self, now: Now) {
        self.in_mind.keeper.doubt_jobs();
        for slot in self.in_mind.keeper.some_jobs(MOST_JOBS, now) {
            let Some(key) = self.key_of(slot) else { continue };
            match self.leases.standing(&key, self.now_ms) {
                Standing::Free => self.in_mind.keeper.end_job(slot),
                Standing::Held(left_ms) | Standing::BackingOff(left_ms) => {
                    self.in_mind.keeper.prolong_job(slot, now.steady_ms.saturating_add(left_ms));
                }
            }
        }
    }

    fn key_of(&self, slot: Slot) -> Option<Bytes> {
        self.in_mind.keeper.get(slot).map(|known| Bytes::copy_from_slice(&known.key))
    }

    /// A key as it is told, if it may be had.
    fn offer_of(&mut self, slot: Slot, options: &WarmOptions<'_>, now: Now) -> Option<Value> {
        let key = self.key_of(slot)?;
        let reason = match self.there(&key, slot, options.ahead_ms, now) {
            There::Due(reason) => reason,
            There::Fresh(until_ms) => {
                self.in_mind.keeper.put_off(slot, until_ms);
                return None;
            }
            There::Lost => {
                self.in_mind.keeper.forget(&key);
                return None;
            }
        };
        if !self.in_mind.keeper.get(slot).is_some_and(|known| known.is_worth_it(now) || reason == Reason::Predicted) {
            // Who only looks ahead says nothing of what others are offered later.
            if self.in_mind.keeper.get(slot).is_some_and(Known::is_due) {
                self.in_mind.keeper.rest(slot);
            }
            return None;
        }
        let lease_ms = options.lease_ms.unwrap_or(LEASE_MS);
        let token = match self.leased(&key, lease_ms, options.dry_run.is_some()) {
            Ok(token) => token,
            Err(left_ms) => {
                self.in_mind.keeper.start_job(slot, now.steady_ms.saturating_add(left_ms), None);
                return None;
            }
        };
        if token.is_some() {
            self.in_mind.keeper.start_job(slot, now.steady_ms.saturating_add(lease_ms), token);
        }
        let known = self.in_mind.keeper.get(slot)?;
        let type_name = self.in_mind.types.iter().find(|(_, id)| **id == known.type_id).map(|(name, _)| name.clone());
        Some(told(known, type_name.as_ref(), reason, token.map(|token| (token, lease_ms)), now))
    }

    /// The lease, none if it is only listed; or for how long it is not to be had.
    fn leased(&mut self, key: &[u8], lease_ms: u64, is_listed: bool) -> Result<Option<Token>, u64> {
        if is_listed {
            return match self.leases.standing(key, self.now_ms) {
                Standing::Free => Ok(None),
                Standing::Held(left_ms) | Standing::BackingOff(left_ms) => Err(left_ms),
            };
        }
        let token: Token = u128::from_be_bytes(std::array::from_fn(|_| fastrand::u8(..))).into();
        match self.leases.ask(key, self.now_ms, Wish { token, duration_ms: lease_ms, owner: 0 }, LIMITS) {
            Asked::Granted | Asked::Again => Ok(Some(token)),
            Asked::Held { left_ms } | Asked::BackingOff { left_ms } => Err(left_ms),
            Asked::Full => Err(0),
        }
    }

    fn there(&mut self, key: &[u8], slot: Slot, ahead_ms: Option<u64>, now: Now) -> There {
        if self.text(key).is_some() {
            return There::Lost;
        }
        let Some(known) = self.in_mind.keeper.get(slot) else { return There::Lost };
        let (gone, early_ms, hour) = (known.gone, known.early_ms(), known.predicted_hour());
        let is_only_predicted = hour.is_some() && !known.is_worth_it(now);
        let due = |reason| There::Due(if is_only_predicted { Reason::Predicted } else { reason });
        let now_ms = self.now_ms;
        let Some(entry) = self.find(key).map(|entry| &*entry) else { return due(gone.unwrap_or(Reason::Expired)) };
        let ahead_ms = i64::try_from(ahead_ms.unwrap_or(early_ms)).unwrap_or(i64::MAX);
        let begins_ms = hour.map(|hour| end_ms(u64::from(hour) * HOUR_MS, 0));
        let until_ms = entry.fresh_until_ms(now_ms);
        match entry.fresh_left_ms(now_ms) {
            _ if entry.soft_ms.is_some() => due(Reason::Invalidated),
            Some(left) if left <= 0 => due(Reason::Stale),
            Some(left) if left <= ahead_ms => due(Reason::Expiring),
            _ if begins_ms.zip(until_ms).is_some_and(|(begins, until)| until <= begins) => {
                There::Due(Reason::Predicted)
            }
            _ => There::Fresh(until_ms),
        }
    }
}

fn told(known: &Known, type_name: Option<&Bytes>, reason: Reason, lease: Option<(Token, u64)>, now: Now) -> Value {
    let boxed = |bytes: &Option<Box<[u8]>>| optional_bulk(bytes.as_deref().map(Bytes::copy_from_slice).as_ref());
    let tags: Vec<Bytes> = known.tags.iter().map(|tag| Bytes::copy_from_slice(tag)).collect();
    map([
        ("key", bulk(&known.key)),
        ("type", optional_bulk(type_name)),
        ("reason", text(reason.name())),
        ("token", lease.map_or(Value::Nil, |(token, _)| bulk(token.as_bytes()))),
        ("lease", lease.map_or(Value::Nil, |(_, lease_ms)| count(lease_ms))),
        ("worth", Value::Double(known.worth(now))),
        ("hits", count(known.hits)),
        ("cost", optional_count(known.cost_ms)),
        ("format", boxed(&known.format)),
        ("meta", boxed(&known.meta)),
        ("tags", bulks(&tags)),
    ])
}
