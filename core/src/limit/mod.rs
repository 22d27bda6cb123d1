//! Rate limits: may a call happen now?
//!
//! A policy allows `count` calls a `period`, evenly spread, and `burst` of them at once. The algorithm is GCRA, the generic cell
//! rate algorithm (ITU-T I.371, 1993; redis-cell brought it to Redis): one moment is all the state of a policy, the *theoretical
//! arrival time* (TAT), at which the limit will be full again. A call moves it on by the emission interval `period / count`, and
//! is refused if that puts it further ahead of now than `burst` intervals.
//!
//! ```text
//!            now           TAT        now + burst × interval
//! ────────────┼─────────────┼─────────────────┼───────────▶ time
//!             │◀── used ───▶│◀── remaining ──▶│
//!             │◀─ reset ───▶│
//! ```
//!
//! Nothing drifts: a moment is kept as nanoseconds and a fraction whose denominator is `count`, so that `count` intervals are one
//! period exactly. All sums are 128 bits wide, and the bounds of a policy keep them far from overflowing.
//!
//! Several policies can limit one key. All must allow a call, then all are charged; if one does not, none is.
//!
//! A clock that steps back leaves a TAT further ahead than any call can put it. Such a limit counts as used up, and no worse.

mod state;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

pub use self::state::State;
use crate::{Error, Result};

/// How many policies can limit one key.
pub const MAX_POLICIES: usize = 8;

/// The greatest `count` and `burst`.
const MAX_COUNT: u64 = 1_000_000_000;

/// The longest period: 366 days.
const MAX_PERIOD_MS: u64 = 366 * 24 * 60 * 60 * 1000;

/// The longest that a limit may take until it is full: ten years of 366 days.
const MAX_FULL_MS: u128 = 10 * MAX_PERIOD_MS as u128;

const NS_PER_MS: u64 = 1_000_000;

/// `count` calls a period, `burst` of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    count: u32,
    burst: u32,
    period_ms: u64,
}

/// Something for each policy, in the order in which they were given.
pub type Each<T> = SmallVec<[T; MAX_POLICIES]>;

/// What a call comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// May it happen?
    pub is_allowed: bool,
    /// What each policy says.
    pub verdicts: Each<Verdict>,
    /// The policy that says the most: of those that allow the call the one with the least left, of those that refuse it the one
    /// that does so the longest.
    pub tightest: usize,
    /// What is to be stored, if the call changes anything.
    pub change: Option<Change>,
}

/// What a call changes.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and an allocation would cost more")]
pub enum Change {
    /// There is a new state, worth nothing from this moment on (Unix time).
    Store {
        /// The state.
        state: State,
        /// When every limit is full again.
        until_ms: u64,
    },
    /// Every limit is full: there is nothing to keep.
    Delete,
}

/// What one policy says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The burst.
    pub limit: u64,
    /// How many calls are left now.
    pub remaining: u64,
    /// In how many milliseconds the call would be allowed: at once, or never.
    pub retry_ms: Option<u64>,
    /// In how many milliseconds the limit is full.
    pub reset_ms: u64,
}

impl Policy {
    /// A policy within the bounds. Without a burst it is the count.
    pub fn new(count: u64, period_ms: u64, burst: Option<u64>) -> Result<Self> {
        let burst = burst.unwrap_or(count);
        let out_of_bounds = |what: &str| Error::invalid(format!("{what} must be between 1 and {MAX_COUNT}"));
        let small = |what, number: u64| match u32::try_from(number) {
            Ok(number) if (1..=MAX_COUNT).contains(&u64::from(number)) => Ok(number),
            _ => Err(out_of_bounds(what)),
        };
        let policy = Self { count: small("the count of a policy", count)?, burst: small("BURST", burst)?, period_ms };
        if !(1..=MAX_PERIOD_MS).contains(&period_ms) {
            return Err(Error::invalid("the period of a policy must be between 1ms and 366d"));
        }
        if policy.period_ns() < policy.ticks_per_ns() {
            return Err(Error::invalid("the period of a policy must be at least a nanosecond for each of its count"));
        }
        if u128::from(policy.burst) * u128::from(period_ms) > MAX_FULL_MS * u128::from(policy.count) {
            return Err(Error::invalid("a policy must be full again within ten years"));
        }
        Ok(policy)
    }

    /// So many calls …
    pub fn count(self) -> u64 {
        self.count.into()
    }

    /// … in so many milliseconds.
    pub fn period_ms(self) -> u64 {
        self.period_ms
    }

    /// How many at once.
    pub fn burst(self) -> u64 {
        self.burst.into()
    }

    fn ticks_per_ns(self) -> Ticks {
        self.count.into()
    }

    fn period_ns(self) -> Ticks {
        Ticks::from(self.period_ms * NS_PER_MS)
    }
}

/// How many times a span of time fits into another; none is negative. Most are of 64 bits, and a processor divides these in a small part of
/// the time.
fn fits(span: u64, into: Ticks) -> u64 {
    match u64::try_from(into) {
        Ok(into) => into.checked_div(span).unwrap_or(0),
        Err(_) if into < 0 => 0,
        Err(_) => into.checked_div(span.into()).and_then(|times| u64::try_from(times).ok()).unwrap_or(0),
    }
}

/// A moment or a span by the clock of a policy, which ticks `count` times a nanosecond: an interval is `period_ns` of its ticks.
type Ticks = i128;

/// A policy at work: where its TAT is, and now.
struct Limit {
    policy: Policy,
    now: Ticks,
    tat: Ticks,
}

impl Limit {
    fn new(policy: Policy, state: &State, now_us: u64) -> Self {
        let now = i128::from(now_us) * 1000 * policy.ticks_per_ns();
        let mut limit = Self { policy, now, tat: now };
        limit.move_to(state.tat(policy).unwrap_or(now));
        limit
    }

    fn burst(&self) -> Ticks {
        i128::from(self.policy.burst) * self.policy.period_ns()
    }

    /// A TAT is neither in the past nor further ahead than a burst.
    fn move_to(&mut self, tat: Ticks) {
        self.tat = tat.clamp(self.now, self.now + self.burst());
    }

    /// By how much a call of this cost comes too early: nothing, or less, if it is allowed.
    fn early_by(&self, cost: u64) -> Ticks {
        self.tat + i128::from(cost) * self.policy.period_ns() - self.now - self.burst()
    }

    fn charge(&mut self, cost: i64) {
        self.move_to(self.tat + i128::from(cost) * self.policy.period_ns());
    }

    fn verdict(&self, retry_ms: Option<u64>) -> Verdict {
        let left = self.now + self.burst() - self.tat;
        Verdict {
            limit: self.policy.burst.into(),
            remaining: fits(self.policy.period_ms * NS_PER_MS, left),
            retry_ms,
            reset_ms: self.ms(self.tat - self.now),
        }
    }

    /// A span in milliseconds, rounded up: who waits that long has waited long enough.
    fn ms(&self, span: Ticks) -> u64 {
        let ticks_per_ms = u64::from(self.policy.count) * NS_PER_MS;
        if span <= 0 { 0 } else { fits(ticks_per_ms, span + Ticks::from(ticks_per_ms) - 1) }
    }

    /// In how many milliseconds a call of this cost would be allowed.
    fn retry_ms(&self, cost: u64) -> Option<u64> {
        (cost <= self.policy.burst.into()).then(|| self.ms(self.early_by(cost)))
    }
}

/// Makes a call of a `cost`: 0 only looks whether 1 would be allowed, less gives back.
///
/// Policies must differ from each other. One that the state does not know starts full; those of the state that are not among them
/// are forgotten when something is stored.
pub fn throttle(policies: &[Policy], state: &State, cost: i64, now_us: u64) -> Outcome {
    let mut limits: Each<Limit> = policies.iter().map(|policy| Limit::new(*policy, state, now_us)).collect();
    let asked = if cost == 0 { 1 } else { u64::try_from(cost).unwrap_or(0) };
    let retries: Each<Option<u64>> = limits.iter().map(|limit| limit.retry_ms(asked)).collect();
    let is_allowed = retries.iter().all(|retry_ms| *retry_ms == Some(0));
    let change = if is_allowed && cost != 0 { charge(&mut limits, state, cost, now_us) } else { None };
    let verdicts: Each<Verdict> = limits.iter().zip(retries).map(|(limit, retry)| limit.verdict(retry)).collect();
    Outcome { is_allowed, tightest: tightest(&verdicts, is_allowed), verdicts, change }
}

/// Charges all limits. What is given back to full limits changes nothing.
fn charge(limits: &mut [Limit], before: &State, cost: i64, now_us: u64) -> Option<Change> {
    limits.iter_mut().for_each(|limit| limit.charge(cost));
    if limits.iter().all(|limit| limit.tat == limit.now) {
        return (!before.is_empty()).then_some(Change::Delete);
    }
    let ahead = limits.iter().map(|limit| (limit.policy, limit.tat - limit.now));
    let state = State::after(now_us * 1000, ahead);
    let until_full_ms = limits.iter().map(|limit| limit.ms(limit.tat - limit.now)).max().unwrap_or(0);
    Some(Change::Store { state, until_ms: now_us.div_ceil(1000) + until_full_ms })
}

fn tightest(verdicts: &[Verdict], is_allowed: bool) -> usize {
    let places = verdicts.iter().enumerate();
    let found = if is_allowed {
        places.min_by_key(|(_, verdict)| verdict.remaining)
    } else {
        // The first of equals; never is the longest.
        places.rev().max_by_key(|(_, verdict)| verdict.retry_ms.unwrap_or(u64::MAX))
    };
    found.map_or(0, |(place, _)| place)
}
