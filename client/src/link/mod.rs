//! The way to the servers: connections shared by all callers, others for those who wait, timeouts, retries and the breaker.
//!
//! A command that blocks (`FETCH … WAIT`) would hold up everything behind it on a shared connection, so it gets one of its own
//! from a small pool. Timeouts tell a large reply from a dead server: who waits longer than the usual for a payload asks, on
//! another connection, whether the server is there at all.

mod breaker;
mod lazy;
mod pool;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use redis::{Cmd, RedisResult, Value};

use self::breaker::Breaker;
use self::pool::Pool;
use self::wire::Wire;
pub(crate) use self::wire::{Connector, Route};
use crate::config::Config;
use crate::error::{Error, Result};

/// A command, and how to treat it.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) cmd: Cmd,
    pub(crate) route: Route,
    pub(crate) repeat: Repeat,
    pub(crate) carries: Carries,
    /// How long the server was asked to wait.
    pub(crate) wait: Duration,
}

/// What sending a command twice would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The same as sending it once.
    Harmless,
    /// Perhaps something else, so a lost reply is not asked for again.
    Never,
}

/// How large a command or its reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    Little,
    Payload,
}

impl Call {
    pub(crate) fn new(name: &'static str, route: Route) -> Self {
        let cmd = name.split(' ').fold(Cmd::new(), |mut cmd, word| {
            cmd.arg(word);
            cmd
        });
        Self { name, cmd, route, repeat: Repeat::Harmless, carries: Carries::Little, wait: Duration::ZERO }
    }

    pub(crate) fn on_key(name: &'static str, key: &[u8]) -> Self {
        let mut call = Self::new(name, Route::Key(key.to_vec()));
        call.cmd.arg(key);
        call
    }
}

pub(crate) struct Link {
    wires: Vec<Wire>,
    turn: AtomicUsize,
    waiting: Pool,
    breaker: Breaker,
    config: Config,
}

impl Link {
    pub(crate) fn new(config: Config) -> Result<Self> {
        let wires: RedisResult<_> = (0..config.connections).map(|_| Wire::new(&config)).collect();
        Ok(Self {
            wires: wires?,
            turn: AtomicUsize::new(0),
            waiting: Pool::new(config.waiting_connections),
            breaker: Breaker::new(config.breaker_failures, config.breaker_pause),
            config,
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) async fn call(&self, call: &Call) -> Result<Value> {
        let retries = if call.repeat == Repeat::Harmless { self.config.retries } else { 0 };
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(retries)
            .with_jitter();
        (|| self.attempt(call)).retry(delays).when(Error::is_worth_a_retry).await
    }

    async fn attempt(&self, call: &Call) -> Result<Value> {
        if !self.breaker.allows(Instant::now()) {
            return Err(Error::CircuitOpen);
        }
        let reply = if call.wait.is_zero() { self.send(call).await } else { self.send_and_wait(call).await };
        match &reply {
            Err(error) if error.is_unavailable() => self.note_failure(call, error),
            _ => self.breaker.succeeded(),
        }
        reply
    }

    fn note_failure(&self, call: &Call, error: &Error) {
        self.breaker.failed(Instant::now());
        tracing::debug!(command = call.name, %error, "the server is not available");
        if let Some(observer) = &self.config.observer {
            observer.unavailable(call.name, error);
        }
    }

    async fn send(&self, call: &Call) -> Result<Value> {
        let sending = self.wire()?.send(&call.cmd, &call.route);
        match call.carries {
            Carries::Little => within(self.config.timeout, sending).await,
            Carries::Payload => self.within_transfer(call, sending).await,
        }
    }

    /// Gives a payload its time as long as the server is there.
    async fn within_transfer(&self, call: &Call, sending: impl Future<Output = RedisResult<Value>>) -> Result<Value> {
        let mut sending = std::pin::pin!(sending);
        match within(self.config.timeout, &mut sending).await {
            Err(Error::Timeout) => {}
            done => return done,
        }
        self.probe(&call.route).await?;
        within(self.config.transfer_timeout.saturating_sub(self.config.timeout), sending).await
    }

    /// Whether the server answers others.
    async fn probe(&self, route: &Route) -> Result<()> {
        let ping = redis::cmd("PING");
        let asking = self.waiting.send(&self.config, &ping, route);
        within(self.config.timeout, asking).await.map(drop)
    }

    async fn send_and_wait(&self, call: &Call) -> Result<Value> {
        let limit = call.wait + self.config.timeout;
        let asking = self.waiting.send(&self.config, &call.cmd, &call.route);
        within(limit, asking).await
    }

    /// The primaries' addresses; empty when there is but one server.
    pub(crate) async fn primaries(&self) -> Result<Vec<String>> {
        within(self.config.timeout, self.wire()?.primaries()).await
    }

    fn wire(&self) -> Result<&Wire> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.wires.get(turn % self.wires.len().max(1)).ok_or(Error::CircuitOpen)
    }
}

async fn within<T>(limit: Duration, future: impl Future<Output = RedisResult<T>>) -> Result<T> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::Timeout),
    }
}
