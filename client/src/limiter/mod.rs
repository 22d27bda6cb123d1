//! Rate limits by name: the policies, the keys, and what is said of them over HTTP.
//!
//! The server decides and counts in one step, for all processes; nothing of a limit is kept here.

mod headers;
#[cfg(feature = "tower")]
mod layer;

use std::ops::Deref;
use std::sync::Arc;

#[cfg(feature = "tower")]
pub use self::layer::{Limit, LimitLayer, OnOutage};
use crate::command::{Client, Rate, Throttle, Throttled};
use crate::error::{Error, Result};
use crate::words::plain_name;

/// A rate limit with a name: policies that all must allow a call, counted for each key by itself. Cheap to clone.
///
/// A call that is refused costs no policy anything. What a limit is kept under is `limit:<prefix>:<name>:<key>`, with
/// [`Config::prefix`](crate::Config::prefix); a user of the server needs rights to that.
///
/// ```no_run
/// # async fn example(client: expcache_client::Client) -> expcache_client::Result<()> {
/// use expcache_client::{Limiter, Rate};
/// use std::time::Duration;
///
/// let limiter = Limiter::new(&client, "exports")?
///     .policy("minute", Rate::new(10, Duration::from_secs(60))?)?
///     .policy("day", Rate::new(200, Duration::from_secs(86_400))?)?;
///
/// let verdict = limiter.check("user:7").await?;
/// if !verdict.allowed {
///     println!("again in {:?}", verdict.tightest.retry);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Limiter {
    client: Client,
    name: String,
    policies: Arc<Vec<Named>>,
}

/// A policy, and what it is called in headers.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    rate: Rate,
}

impl Limiter {
    /// A limit without a policy yet; it needs one. Its name is part of the keys: letters, digits, `-`, `_` and `.`.
    pub fn new(client: &Client, name: &str) -> Result<Self> {
        Ok(Self { client: client.clone(), name: plain_name("limit", name)?, policies: Arc::default() })
    }

    /// A policy more, with the name that headers tell. Limits are told apart by what they say: one that is changed starts full, the
    /// others go on.
    pub fn policy(mut self, name: &str, rate: Rate) -> Result<Self> {
        let name = plain_name("limit", name)?;
        if self.policies.iter().any(|other| other.name == name || other.rate == rate) {
            return Err(Error::Request(format!("a second policy `{name}`, or one that says the same")));
        }
        Arc::make_mut(&mut self.policies).push(Named { name, rate });
        Ok(self)
    }

    /// May it happen now? Then it is counted.
    pub async fn check(&self, key: impl AsRef<[u8]>) -> Result<Verdict> {
        self.check_cost(key, 1).await
    }

    /// May something happen that counts as so many calls? One that counts nothing only looks, as [`Limiter::peek`].
    pub async fn check_cost(&self, key: impl AsRef<[u8]>, cost: u32) -> Result<Verdict> {
        self.ask(key.as_ref(), cost.into()).await
    }

    /// Would a call be allowed? Nothing is counted or written; replicas answer that too.
    pub async fn peek(&self, key: impl AsRef<[u8]>) -> Result<Verdict> {
        self.ask(key.as_ref(), 0).await
    }

    /// Gives calls back that did not happen, never beyond full.
    pub async fn refund(&self, key: impl AsRef<[u8]>, cost: u32) -> Result<Verdict> {
        self.ask(key.as_ref(), -i64::from(cost)).await
    }

    /// All policies are full again for this key. `false`: they were.
    pub async fn reset(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.client.delete_native(&self.key(key.as_ref())).await
    }

    async fn ask(&self, key: &[u8], cost: i64) -> Result<Verdict> {
        let rates = self.policies.iter().map(|policy| policy.rate);
        let throttle = Throttle::new(self.key(key), rates).cost(cost);
        Ok(Verdict { throttled: self.client.throttle(&throttle).await?, policies: Arc::clone(&self.policies) })
    }

    /// Not beneath the prefix itself: whoever keeps entries near is told of every change there.
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [b"limit", self.client.config().prefix.as_slice(), self.name.as_bytes(), key].join(&b':')
    }
}

/// What a [`Limiter`] says of a call: what the server does, and the values of headers.
#[derive(Debug, Clone)]
pub struct Verdict {
    throttled: Throttled,
    policies: Arc<Vec<Named>>,
}

impl Deref for Verdict {
    type Target = Throttled;

    fn deref(&self) -> &Throttled {
        &self.throttled
    }
}
