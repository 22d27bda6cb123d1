//! A key that is kept in mind, and what is known of its value.

use super::pattern::{HOUR_MS, Pattern, at_hour, hour};
use super::rate::{Rate, Score, score_from};
use crate::lease::Token;

/// What names a key here.
pub type Slot = u32;

/// About what a key takes in its places: in the tables by name and by number, among those of its type, and by what is due and when.
const PLACES_BYTES: usize = 110;
/// About what a key takes besides its texts: itself, and its places.
pub(super) const KNOWN_BYTES: usize = block(size_of::<Known>()) + PLACES_BYTES;
/// What a text takes in a list of them.
const LISTED_BYTES: usize = size_of::<Box<[u8]>>();

/// What the server's allocator gives for so many bytes: steps of 16, then four for each doubling.
const fn block(bytes: usize) -> usize {
    let step = if bytes <= 128 { 16 } else { 1 << (bytes - 1).ilog2() >> 2 };
    bytes.next_multiple_of(step)
}

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// By the clock of the day, unix ms.
    pub unix_ms: u64,
    /// By the clock that nobody sets, ms.
    pub steady_ms: u64,
}

impl Now {
    pub(super) fn unix(self) -> i64 {
        i64::try_from(self.unix_ms).unwrap_or(i64::MAX)
    }
}

/// Why a key is to be produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was invalidated.
    Invalidated,
    /// It is stale.
    Stale,
    /// Its time was over.
    Expired,
    /// It made room.
    Evicted,
    /// It will not be fresh for long.
    Expiring,
    /// It is going to be asked for.
    Predicted,
}

impl Reason {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalidated => "invalidated",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Expiring => "expiring",
            Self::Predicted => "predicted",
        }
    }
}

/// Among which keys of its type a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// It is worth most.
    Best,
    /// It may become one of these.
    Rest,
    /// It was asked for, and how often is not known yet.
    Tried,
    /// Nobody has asked for it yet.
    New,
}

/// What is known of a value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// What the index calls it.
    pub id: u32,
    /// Its fresh lifetime, in ms; 0: without end.
    pub lifetime_ms: u64,
    /// Until when it is fresh, unix ms; `None`: for ever.
    pub fresh_until_ms: Option<i64>,
    /// From when on it is refreshed early, in percent of its lifetime; 0: not at all.
    pub early_percent: u8,
    /// What producing it took, in ms.
    pub cost_ms: Option<u64>,
    /// Its format.
    pub format: Option<&'a [u8]>,
    /// What its producer said of it.
    pub meta: Option<&'a [u8]>,
    /// Its tags.
    pub tags: &'a [&'a [u8]],
}

/// Somebody produces a key, or it backs off.
#[derive(Debug)]
pub(super) struct Job {
    /// When to look whether that is still so, steady ms.
    pub until_ms: u64,
    /// By which its value will be known as one that was produced because it was offered.
    pub token: Option<Box<Token>>,
}

/// A key that is kept in mind.
#[derive(Debug)]
pub struct Known {
    /// The key.
    pub key: Box<[u8]>,
    /// Its type.
    pub type_id: u16,
    /// What producing it took, in ms.
    pub cost_ms: Option<u64>,
    /// Its format.
    pub format: Option<Box<[u8]>>,
    /// What its producer said of it.
    pub meta: Option<Box<[u8]>>,
    /// Its tags.
    pub tags: Vec<Box<[u8]>>,
    /// How often it was asked for since it is known.
    pub hits: u64,
    /// Why it is not there, if it went.
    pub gone: Option<Reason>,
    pub(super) lifetime_ms: u64,
    pub(super) early_ms: u64,
    pub(super) id: Option<u32>,
    pub(super) fresh_until_ms: Option<i64>,
    /// Which one came first.
    pub(super) arrival: i64,
    pub(super) rate: Rate,
    pub(super) pattern: Pattern,
    pub(super) hour: u32,
    pub(super) score: Score,
    /// The score allows for so many requests, as its rate sums them up.
    pub(super) allowed: f64,
    /// Its place in `soon`.
    pub(super) due_ms: Option<i64>,
    pub(super) tier: Tier,
    pub(super) is_due: bool,
    /// Is its value not fresh any more, or soon not?
    pub(super) is_lapsed: bool,
    /// It is not worth producing unless it is asked for again.
    pub(super) is_resting: bool,
    /// The hour for which it is predicted, and how surely.
    pub(super) predicted: Option<(u32, f64)>,
    /// It is being produced, or not to be.
    pub(super) job: Option<Job>,
    /// It was produced because it was offered, and nobody asked for it since.
    pub(super) is_warmed: bool,
}

impl Known {
    pub(super) fn new(key: &[u8], type_id: u16, arrival: i64, now: Now) -> Self {
        Self {
            key: key.into(),
            type_id,
            cost_ms: None,
            format: None,
            meta: None,
            tags: Vec::new(),
            hits: 0,
            gone: None,
            lifetime_ms: 0,
            early_ms: 0,
            id: None,
            fresh_until_ms: None,
            arrival,
            rate: Rate::since(now.steady_ms),
            pattern: Pattern::default(),
            hour: hour(now.unix_ms),
            score: 0,
            allowed: 0.0,
            due_ms: None,
            tier: Tier::New,
            is_due: false,
            is_lapsed: false,
            is_resting: false,
            predicted: None,
            job: None,
            is_warmed: false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let texts = self.tags.iter().chain(&self.format).chain(&self.meta);
        let own = KNOWN_BYTES + block(self.key.len()) + block(self.tags.len() * LISTED_BYTES);
        texts.fold(own, |sum, text| sum + block(text.len()))
    }

    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        let own = |text: &[u8]| text.into();
        let is_same = |old: &Option<Box<[u8]>>, new: Option<&[u8]>| old.as_deref() == new;
        self.cost_ms = seen.cost_ms.or(self.cost_ms);
        if !is_same(&self.format, seen.format) {
            self.format = seen.format.map(own);
        }
        if !is_same(&self.meta, seen.meta) {
            self.meta = seen.meta.map(own);
        }
        if !self.tags.iter().map(AsRef::as_ref).eq(seen.tags.iter().copied()) {
            self.tags = seen.tags.iter().copied().map(own).collect();
        }
        let passed = u64::from(100_u8.saturating_sub(seen.early_percent));
        self.early_ms = if seen.early_percent == 0 { 0 } else { seen.lifetime_ms / 100 * passed };
        (self.id, self.gone) = (Some(seen.id), None);
        (self.lifetime_ms, self.fresh_until_ms) = (seen.lifetime_ms, seen.fresh_until_ms);
    }

    /// Counts a request that changes nothing but how many there were: the score allows for it, and whatever else a request may change is so.
    /// Was it one?
    #[inline]
    pub(super) fn counted_only(&mut self, now: Now) -> bool {
        let is_plain = !self.is_resting && !self.is_warmed && at_hour(self.hour, hour(now.unix_ms)) == self.hour;
        let is_counted = is_plain && self.rate.count_with_last(self.allowed, now.steady_ms);
        self.hits += u64::from(is_counted);
        is_counted
    }

    pub(super) fn counted(&mut self, now: Now) {
        self.hits += 1;
        self.rate.count(now.steady_ms);
        let to = at_hour(self.hour, hour(now.unix_ms));
        self.pattern = self.pattern.moved(self.hour, to);
        self.pattern.note(to);
        self.hour = to;
        self.is_resting = false;
    }

    pub(super) fn is_young(&self) -> bool {
        matches!(self.tier, Tier::New | Tier::Tried)
    }

    /// Is it offered to who looks ahead until then, unix ms, though it is fresh? Of what was produced because it was offered, and is not asked for,
    /// the time counts as over then: else it would be produced as soon as it is stored.
    pub(super) fn is_offered_ahead(&self, until_ms: i64) -> bool {
        let ends = self.fresh_until_ms.is_some_and(|end_ms| end_ms <= until_ms);
        ends && !self.is_warmed && !self.is_resting && self.job.is_none() && self.tier == Tier::Best
    }

    /// Where it stands among those of its tier.
    pub(super) fn place(&self) -> i64 {
        if self.is_young() { self.arrival } else { self.score }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.tier == Tier::Best
            && (self.is_lapsed || self.predicted.is_some())
            && !self.is_resting
            && self.job.is_none()
    }

    /// By the rate of requests, as if they came to that sum, or by what is predicted.
    pub(super) fn scored(&self, sum: f64, now: Now) -> Score {
        let own = self.rate.score(sum, self.cost_ms.unwrap_or(0), now.steady_ms);
        let Some((hour, share)) = self.predicted else { return own };
        // When the hour begins by the other clock.
        let begins_ms = now.steady_ms.saturating_add(u64::from(hour) * HOUR_MS).saturating_sub(now.unix_ms);
        own.max(score_from(share * 1000.0 / HOUR_MS as f64, self.cost_ms.unwrap_or(0), begins_ms))
    }

    /// Requests a second, now.
    pub fn per_second(&self, now: Now) -> f64 {
        self.rate.per_second(now.steady_ms)
    }

    /// Ms of waiting that having it is expected to save a second. A cost that nobody knows counts as 1 ms.
    pub fn worth(&self, now: Now) -> f64 {
        let by_rate = self.per_second(now);
        let rate = self.predicted.map_or(by_rate, |(_, share)| by_rate.max(share * 1000.0 / HOUR_MS as f64));
        rate * self.cost_ms.unwrap_or(1).max(1) as f64
    }

    /// Is one request at least to be expected while a value would be fresh?
    pub fn is_worth_it(&self, now: Now) -> bool {
        self.lifetime_ms == 0 || self.per_second(now) * self.lifetime_ms as f64 / 1000.0 >= 1.0
    }

    /// Is it due, for everybody?
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// The hour for which it is predicted that somebody asks for it.
    pub fn predicted_hour(&self) -> Option<u32> {
        self.predicted.map(|(hour, _)| hour)
    }

    /// Until when its value is fresh as far as known, unix ms.
    #[cfg(test)]
    pub(super) fn fresh_until_ms(&self) -> Option<i64> {
        self.fresh_until_ms
    }

    /// For how long before its end its value is refreshed early, in ms.
    pub fn early_ms(&self) -> u64 {
        self.early_ms
    }
}
