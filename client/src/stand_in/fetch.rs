//! `EXPCACHE.FETCH`.

use std::time::Duration;

use bytes::Bytes;
use expcache_core::codec::Encoding;
use expcache_core::early::is_due_early;
use expcache_core::lease::{Asked, Standing, Token, Wish};
use expcache_core::{Error, Result};
use redis::Value;
use tokio::sync::oneshot;

use super::entry::{Entry, bulk, count, map, optional_bulk, optional_count, text};
use super::store::{LIMITS, State};
use super::words::Words;

#[derive(Default)]
pub(super) struct Fetch {
    key: Bytes,
    lease_ms: Option<u64>,
    token: Option<Token>,
    wait: Option<Duration>,
    accept: Vec<Encoding>,
    if_none_match: Option<Bytes>,
    range: Option<(u64, u64)>,
    max_age_ms: Option<u64>,
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

impl Fetch {
    pub(super) fn parse(mut words: Words<'_>) -> Result<Self> {
        let mut fetch = Self { key: words.need()?.clone(), ..Self::default() };
        while let Some(word) = words.next() {
            match word.as_ref() {
                b"LEASE" => fetch.lease_ms = Some(words.ms()?),
                b"TOKEN" => fetch.token = Some(token(words.need()?)?),
                b"WAIT" => fetch.wait = Some(words.duration()?),
                b"ACCEPT" => fetch.accept = words.counted()?.iter().filter_map(|name| Encoding::parse(name)).collect(),
                b"IFNONEMATCH" => fetch.if_none_match = Some(words.need()?.clone()),
                b"RANGE" => fetch.range = Some((words.number()?, words.number()?)),
                b"MAXAGE" => fetch.max_age_ms = Some(words.ms()?),
                b"VERIFY" => {}
                _ => return Err(Error::Syntax),
            }
        }
        // Who waits asks twice, as the same.
        fetch.token.get_or_insert_with(|| u128::from_be_bytes(std::array::from_fn(|_| fastrand::u8(..))).into());
        Ok(fetch)
    }

    pub(super) fn wait(&self) -> Duration {
        self.wait.unwrap_or_default()
    }

    fn wish(&self) -> Option<Wish> {
        Some(Wish { token: self.token?, duration_ms: self.lease_ms?, owner: 0 })
    }

    /// How it is sent, and what.
    fn part(&self, entry: &Entry) -> (Encoding, Value) {
        let (encoding, bytes) = entry.kept();
        if let Some((offset, length)) = self.range {
            let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(entry.payload.len());
            let part = entry.payload.get(at(offset)..at(offset.saturating_add(length))).unwrap_or_default();
            return (Encoding::Identity, bulk(part));
        }
        match self.accept.contains(&encoding) {
            true => (encoding, bulk(bytes)),
            false => (Encoding::Identity, bulk(&entry.payload)),
        }
    }
}

fn token(word: &[u8]) -> Result<Token> {
    Token::parse(word).ok_or(Error::invalid("a TOKEN must be 16 to 64 bytes"))
}

impl State {
    /// Looks; `may_wait`: at most once.
    pub(super) fn fetch(&mut self, fetch: &Fetch, may_wait: bool) -> Result<Turn> {
        let now_ms = self.now_ms;
        let Some((type_name, is_fresh)) = self.find(&fetch.key).map(|entry| {
            let is_young = fetch.max_age_ms.is_none_or(|most| now_ms.saturating_sub(entry.created_ms) <= most);
            (entry.type_name.clone(), is_young && entry.is_fresh(now_ms))
        }) else {
            return Ok(self.miss(fetch, may_wait));
        };
        let policy = self.policy(&type_name);
        let is_due = self.find(&fetch.key).is_some_and(|entry| {
            let left = entry.fresh_left_ms(now_ms).and_then(|left| u64::try_from(left).ok());
            let early = policy.early_percent;
            !is_fresh
                || left.is_some_and(|left| {
                    is_due_early(early, entry.life.lifetime_ms, left, entry.cost_ms, fastrand::u64(..))
                })
        });
        let mut offer = if is_due { self.offer(fetch) } else { self.needs_none(fetch, may_wait) };
        offer.retry_ms = offer.retry_ms.filter(|_| !is_fresh);
        let Some(entry) = self.find(&fetch.key) else { return Err(Error::Syntax) };
        let is_same = fetch.if_none_match.as_ref().is_some_and(|etag| *etag == entry.etag.as_bytes());
        let status = match (is_fresh, is_same) {
            (true, true) => "not-modified",
            (true, false) => "hit",
            (false, _) => "stale",
        };
        let found = found(entry, now_ms, status, fetch.part(entry), &offer);
        entry.hit(now_ms, &policy);
        Ok(Turn::Over(found))
    }

    fn miss(&mut self, fetch: &Fetch, may_wait: bool) -> Turn {
        let offer = self.offer(fetch);
        if may_wait && offer.is_held && !fetch.wait().is_zero() {
            let (number, woken) = self.next_waiter();
            if self.leases.wait(&fetch.key, number, fetch.wish()) {
                return Turn::Waits(number, woken);
            }
        }
        let (lease, retry) = (lease(&offer), optional_count(offer.retry_ms));
        Turn::Over(map([("status", text("miss")), ("lease", lease), ("retry", retry)]))
    }

    /// The lease, if it is asked for and is free.
    fn offer(&mut self, fetch: &Fetch) -> Offer {
        let asked = match fetch.wish() {
            Some(wish) => self.leases.ask(&fetch.key, self.now_ms, wish, LIMITS),
            None => match self.leases.standing(&fetch.key, self.now_ms) {
                Standing::Free => return Offer::default(),
                Standing::Held(left_ms) => Asked::Held { left_ms },
                Standing::BackingOff(left_ms) => Asked::BackingOff { left_ms },
            },
        };
        match asked {
            Asked::Granted | Asked::Again => Offer { lease: fetch.token, ..Offer::default() },
            Asked::Held { left_ms } => Offer { retry_ms: Some(left_ms), is_held: true, lease: None },
            Asked::BackingOff { left_ms } => Offer { retry_ms: Some(left_ms), ..Offer::default() },
            Asked::Full => Offer::default(),
        }
    }

    /// There is a fresh value: a lease that came while it waited is given up.
    fn needs_none(&mut self, fetch: &Fetch, is_first: bool) -> Offer {
        if let (false, Some(token)) = (is_first, fetch.token) {
            let woken = self.leases.release(&fetch.key, token, self.now_ms, 0, Default::default(), LIMITS);
            self.wake(woken.into_iter().flatten());
        }
        Offer::default()
    }
}

fn found(entry: &Entry, now_ms: u64, status: &str, part: (Encoding, Value), offer: &Offer) -> Value {
    let (encoding, value) = part;
    let value = if status == "not-modified" { Value::Nil } else { value };
    map([
        ("status", text(status)),
        ("value", value),
        ("encoding", text(encoding.name())),
        ("etag", text(&*entry.etag)),
        ("type", bulk(&entry.type_name)),
        ("format", optional_bulk(entry.format.as_ref())),
        ("records", optional_count(entry.records)),
        ("size", count(entry.payload.len())),
        ("meta", optional_bulk(entry.meta.as_ref())),
        ("age", count(now_ms.saturating_sub(entry.created_ms))),
        ("ttl", entry.fresh_left_ms(now_ms).map_or(Value::Nil, Value::Int)),
        ("lease", lease(offer)),
        ("retry", optional_count(offer.retry_ms)),
    ])
}

fn lease(offer: &Offer) -> Value {
    offer.lease.map_or(Value::Nil, |token| bulk(token.as_bytes()))
}
