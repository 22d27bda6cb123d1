//! `EXPCACHE.THROTTLE`: may this happen now?

use std::time::Duration;

use bytes::Bytes;
use expcache_core::grammar::throttle::ThrottleOptions;
use expcache_core::limit::{Each, MAX_POLICIES, Policy};
use redis::Value;

use super::client::Client;
use crate::error::{Error, Result};
use crate::link::{Call, Repeat};
use crate::reply::{self, Fields};
use crate::time::ms;
use crate::words::{name, words_of};

/// A policy of a limit: so many calls a period, evenly spread, and a burst of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(Policy);

impl Rate {
    /// So many calls a period, all of them at once if need be. An error if the server would not take it: there are bounds.
    pub fn new(count: u64, period: Duration) -> Result<Self> {
        Ok(Self(Policy::new(count, ms(period), None)?))
    }

    /// So many at once; fewer or more than the count.
    pub fn burst(self, calls: u64) -> Result<Self> {
        Ok(Self(Policy::new(self.0.count(), self.0.period_ms(), Some(calls))?))
    }

    /// How many calls a period.
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// The period.
    pub fn period(&self) -> Duration {
        Duration::from_millis(self.0.period_ms())
    }
}

/// A call to be counted, and the policies that must allow it.
///
/// ```
/// # fn example() -> expcache_client::Result<()> {
/// use expcache_client::{Rate, Throttle};
/// use std::time::Duration;
///
/// let hour = Duration::from_secs(3600);
/// let throttle = Throttle::new("upload:alice", [Rate::new(100, hour)?, Rate::new(500, 24 * hour)?.burst(50)?]).cost(3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Throttle {
    key: Bytes,
    rates: Vec<Rate>,
    cost: i64,
}

impl Throttle {
    /// A call that counts 1. Up to eight policies, all different.
    pub fn new(key: impl AsRef<[u8]>, rates: impl IntoIterator<Item = Rate>) -> Self {
        Self { key: name(key), rates: rates.into_iter().collect(), cost: 1 }
    }

    /// How much it counts: 0 only looks whether a call of 1 would be allowed, less gives back.
    #[must_use]
    pub fn cost(mut self, cost: i64) -> Self {
        self.cost = cost;
        self
    }

    fn options(&self) -> Result<ThrottleOptions> {
        if self.rates.len() > MAX_POLICIES {
            return Err(Error::Request("a key has at most 8 policies".to_owned()));
        }
        let policies: Each<Policy> = self.rates.iter().map(|rate| rate.0).collect();
        Ok(ThrottleOptions { policies, cost: (self.cost != 1).then_some(self.cost) })
    }

    /// What changes a limit may have done so although its reply was lost.
    fn repeat(&self) -> Repeat {
        if self.cost == 0 { Repeat::Harmless } else { Repeat::Never }
    }
}

/// What a limit says of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttled {
    /// May it happen? Then it was counted.
    pub allowed: bool,
    /// What the tightest policy says: of those that allow the call the one with the least left, of those that refuse it the one
    /// that does so the longest.
    pub tightest: Quota,
    /// Which policy that is, from 0.
    pub policy: usize,
    /// What each says, in the order given.
    pub policies: Vec<Quota>,
}

/// What one policy says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The burst.
    pub limit: u64,
    /// How many calls are left now.
    pub remaining: u64,
    /// In how long the call would be allowed: at once (zero), or never (`None`), as its cost is above the burst.
    pub retry: Option<Duration>,
    /// In how long the limit is full again.
    pub reset: Duration,
}

impl Throttled {
    fn parse(value: Value) -> Result<Self> {
        let mut fields = Fields::new(value)?;
        let policies = reply::array(fields.take("policies"))?.into_iter();
        Ok(Self {
            allowed: reply::yes(fields.take("allowed"))?,
            policy: usize::try_from(fields.count("policy")?).unwrap_or(usize::MAX),
            policies: policies.map(|policy| Quota::parse(&mut Fields::new(policy)?)).collect::<Result<_>>()?,
            tightest: Quota::parse(&mut fields)?,
        })
    }
}

impl Quota {
    fn parse(fields: &mut Fields) -> Result<Self> {
        Ok(Self {
            limit: fields.count("limit")?,
            remaining: fields.count("remaining")?,
            retry: fields.optional_count("retry")?.map(Duration::from_millis),
            reset: Duration::from_millis(fields.count("reset")?),
        })
    }

    /// It would not allow the call.
    pub fn refuses(&self) -> bool {
        self.retry != Some(Duration::ZERO)
    }
}

impl Client {
    /// Whether a call may happen now by rate limits; counts it if so. [`Limiter`](crate::Limiter) names and keeps the policies.
    pub async fn throttle(&self, throttle: &Throttle) -> Result<Throttled> {
        let mut call = Call { repeat: throttle.repeat(), ..Call::on_key("EXPCACHE.THROTTLE", &throttle.key) };
        throttle.options()?.write(&mut words_of(&mut call.cmd));
        Throttled::parse(self.call(call).await?)
    }
}
