//! `EXPCACHE.FETCH`.

use std::time::Duration;

use expcache_core::codec::Encoding;
use expcache_core::early::is_due_early;
use expcache_core::grammar::Words as _;
use expcache_core::grammar::fetch::{FetchOptions, Field, Fields};
use expcache_core::lease::{Asked, Standing, Token, Wish};
use expcache_core::{Error, Result};
use redis::Value;
use tokio::sync::oneshot;

use super::entry::{Entry, bulk, count, map, optional_bulk, optional_count, text};
use super::store::{LIMITS, State};
use super::words::Words;

pub(super) struct Fetch<'a> {
    key: &'a [u8],
    options: FetchOptions<'a>,
    /// Who waits asks twice, as the same.
    token: Token,
}

/// What came of looking.
pub(super) enum Turn {
    Over(Value),
    /// As whom, and where it is told that it is worth while to look again.
    Waits(u64, oneshot::Receiver<()>),
}

/// What is said of the lease.
#[derive(Default)]
struct Offer {
    lease: Option<Token>,
    retry_ms: Option<u64>,
    is_held: bool,
}

impl<'a> Fetch<'a> {
    pub(super) fn parse(mut words: Words<'a>) -> Result<Self> {
        let (key, options) = (words.need()?, FetchOptions::parse(words)?);
        let made_up = || u128::from_be_bytes(std::array::from_fn(|_| fastrand::u8(..))).into();
        let token = options.token.and_then(Token::parse).unwrap_or_else(made_up);
        Ok(Self { key, options, token })
    }

    pub(super) fn wait(&self) -> Duration {
        Duration::from_millis(self.options.wait_ms.unwrap_or(0))
    }

    fn wish(&self) -> Option<Wish> {
        Some(Wish { token: self.token, duration_ms: self.options.lease_ms?, owner: 0 })
    }

    /// The fields that were asked for, each as it is told.
    fn told(&self, mut value: impl FnMut(Field) -> Value) -> Value {
        let fields = self.options.fields.unwrap_or(Fields::ALL);
        map(fields.as_slice().iter().map(|field| (field.name(), value(*field))))
    }

    /// How it is sent, and what.
    fn part(&self, entry: &Entry) -> (Encoding, Value) {
        let (encoding, bytes) = entry.kept();
        if let Some((offset, length)) = self.options.range {
            let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(entry.payload.len());
            let part = entry.payload.get(at(offset)..at(offset.saturating_add(length))).unwrap_or_default();
            return (Encoding::Identity, bulk(part));
        }
        match self.options.accept.is_some_and(|accepted| accepted.contains(encoding)) {
            true => (encoding, bulk(bytes)),
            false => (Encoding::Identity, bulk(&entry.payload)),
        }
    }
}

impl State {
    /// Looks; `may_wait`: at most once.
    pub(super) fn fetch(&mut self, fetch: &Fetch<'_>, may_wait: bool) -> Result<Turn> {
        self.no_text(fetch.key)?;
        let now_ms = self.now_ms;
        let Some((type_name, is_fresh)) = self.find(fetch.key).map(|entry| {
            let is_young = fetch.options.max_age_ms.is_none_or(|most| now_ms.saturating_sub(entry.created_ms) <= most);
            (entry.type_name.clone(), is_young && entry.is_fresh(now_ms))
        }) else {
            return Ok(self.miss(fetch, may_wait));
        };
        let policy = self.policy(&type_name);
        let is_due = self.find(fetch.key).is_some_and(|entry| {
            let left = entry.fresh_left_ms(now_ms).and_then(|left| u64::try_from(left).ok());
            let early = policy.early_percent;
            !is_fresh
                || left.is_some_and(|left| {
                    is_due_early(early, entry.life.lifetime_ms, left, entry.cost_ms, fastrand::u64(..))
                })
        });
        let mut offer = if is_due { self.offer(fetch) } else { self.needs_none(fetch, may_wait) };
        offer.retry_ms = offer.retry_ms.filter(|_| !is_fresh);
        let used = self.next_use();
        if may_wait {
            self.note_asked(fetch.key, is_fresh);
        }
        let Some(entry) = self.find(fetch.key) else { return Err(Error::Syntax) };
        let is_same = fetch.options.if_none_match.is_some_and(|etag| *etag == *entry.etag.as_bytes());
        let status = match (is_fresh, is_same) {
            (true, true) => "not-modified",
            (true, false) => "hit",
            (false, _) => "stale",
        };
        let found = found(entry, now_ms, status, fetch, &offer);
        entry.hit(now_ms, used, &policy);
        Ok(Turn::Over(found))
    }

    fn miss(&mut self, fetch: &Fetch<'_>, may_wait: bool) -> Turn {
        if may_wait {
            self.note_asked(fetch.key, false);
        }
        let offer = self.offer(fetch);
        if may_wait && offer.is_held && !fetch.wait().is_zero() {
            let (number, woken) = self.next_waiter();
            if self.leases.wait(fetch.key, number, fetch.wish()) {
                return Turn::Waits(number, woken);
            }
        }
        Turn::Over(fetch.told(|field| match field {
            Field::Status => text("miss"),
            Field::Lease => lease(&offer),
            Field::Retry => optional_count(offer.retry_ms),
            _ => Value::Nil,
        }))
    }

    /// The lease, if it is asked for and is free.
    fn offer(&mut self, fetch: &Fetch<'_>) -> Offer {
        let asked = match fetch.wish() {
            Some(wish) => self.leases.ask(fetch.key, self.now_ms, wish, LIMITS),
            None => match self.leases.standing(fetch.key, self.now_ms) {
                Standing::Free => return Offer::default(),
                Standing::Held(left_ms) => Asked::Held { left_ms },
                Standing::BackingOff(left_ms) => Asked::BackingOff { left_ms },
            },
        };
        match asked {
            Asked::Granted | Asked::Again => Offer { lease: Some(fetch.token), ..Offer::default() },
            Asked::Held { left_ms } => Offer { retry_ms: Some(left_ms), is_held: true, lease: None },
            Asked::BackingOff { left_ms } => Offer { retry_ms: Some(left_ms), ..Offer::default() },
            Asked::Full => Offer::default(),
        }
    }

    /// There is a fresh value: a lease that came while it waited is given up.
    fn needs_none(&mut self, fetch: &Fetch<'_>, is_first: bool) -> Offer {
        if !is_first {
            let woken = self.leases.release(fetch.key, fetch.token, self.now_ms, 0, Default::default(), LIMITS);
            self.wake(woken.into_iter().flatten());
        }
        Offer::default()
    }
}

fn found(entry: &Entry, now_ms: u64, status: &str, fetch: &Fetch<'_>, offer: &Offer) -> Value {
    let (encoding, value) = fetch.part(entry);
    let mut value = Some(value).filter(|_| status != "not-modified");
    fetch.told(|field| match field {
        Field::Status => text(status),
        Field::Value => value.take().unwrap_or_default(),
        Field::Encoding => text(encoding.name()),
        Field::Etag => text(&*entry.etag),
        Field::Type => bulk(&entry.type_name),
        Field::Format => optional_bulk(entry.format.as_ref()),
        Field::Records => optional_count(entry.records),
        Field::Size => count(entry.payload.len()),
        Field::Meta => optional_bulk(entry.meta.as_ref()),
        Field::Age => count(now_ms.saturating_sub(entry.created_ms)),
        Field::Ttl => entry.fresh_left_ms(now_ms).map_or(Value::Nil, Value::Int),
        Field::Lease => lease(offer),
        Field::Retry => optional_count(offer.retry_ms),
    })
}

fn lease(offer: &Offer) -> Value {
    offer.lease.map_or(Value::Nil, |token| bulk(token.as_bytes()))
}
