//! One server, and the connections to it. What carries little has one of its own, so that it never stands behind payloads; who
//! waits has one of his own, since nobody could use it meanwhile.
//!
//! Whoever gets no reply in time takes the connection out of use: the next caller connects anew. Only a payload is waited for
//! longer, if there was a reply on the same connection since it was sent and as long as the server answers others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Cmd, RedisResult, Value};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::connector::Connector;
use super::pool::Pool;
use super::wire::{Connection, Visit, Wire, wants_another_connection};
use super::{Call, Carries, before};
use crate::config::Config;
use crate::error::{Error, Result};

pub(crate) struct Node {
    connector: Arc<Connector>,
    little: Wire,
    payloads: Vec<Wire>,
    waiting: Pool,
    breaker: Breaker,
    /// A payload was not there in time once.
    is_slow: AtomicBool,
    config: Arc<Config>,
}

impl Node {
    pub(crate) fn new(connector: Connector, config: &Arc<Config>) -> Self {
        let connector = Arc::new(connector);
        Self {
            little: Wire::new(&connector),
            payloads: (0..config.connections).map(|_| Wire::new(&connector)).collect(),
            waiting: Pool::default(),
            breaker: Breaker::new(config.breaker_failures, config.breaker_pause),
            is_slow: AtomicBool::new(false),
            config: Arc::clone(config),
            connector,
        }
    }

    pub(crate) async fn send(&self, call: &Call, visit: Visit) -> Result<Value> {
        if !self.breaker.allows(Instant::now().into_std()) {
            return Err(Error::CircuitOpen);
        }
        let reply = match call.carries {
            _ if !call.wait.is_zero() => self.waiting.send(&self.connector, call, visit, self.config.timeout).await,
            Carries::Little => self.send_little(&call.cmd, visit).await,
            Carries::Payload => self.transfer(&call.cmd, visit).await,
        };
        match &reply {
            Err(error) if error.is_unavailable() && !error.is_of_a_slot() => self.note_failure(call, error),
            _ => self.breaker.succeeded(),
        }
        reply
    }

    /// Asks whatever the breaker says: to find out how things are.
    pub(crate) async fn ask(&self, cmd: &Cmd) -> Result<Value> {
        self.send_little(cmd, Visit::Own).await
    }

    fn note_failure(&self, call: &Call, error: &Error) {
        self.breaker.failed(Instant::now().into_std());
        tracing::debug!(command = call.name, %error, "the server is not available");
        if let Some(observer) = &self.config.observer {
            observer.unavailable(call.name, error);
        }
    }

    async fn send_little(&self, cmd: &Cmd, visit: Visit) -> Result<Value> {
        let limit = Instant::now() + self.config.timeout;
        let connection = before(limit, self.little.connection()).await?;
        settle(&self.little, &connection, limit, connection.send(cmd, visit)).await
    }

    async fn transfer(&self, cmd: &Cmd, visit: Visit) -> Result<Value> {
        let limit = Instant::now() + self.config.timeout;
        let wire = self.payloads.iter().min_by_key(|wire| wire.under_way()).unwrap_or(&self.little);
        let connection = before(limit, wire.connection()).await?;
        let replies = connection.replies();
        let ping = self.ahead_on(&connection);
        let mut sending = std::pin::pin!(connection.send_behind(ping.as_ref(), cmd, visit));
        let reply = settle(wire, &connection, limit, &mut sending).await;
        if !matches!(reply, Err(Error::Timeout)) {
            return reply;
        }
        self.is_slow.store(true, Ordering::Release);
        let is_silent = || connection.replies() == replies && !connection.is_transferring();
        if is_silent() {
            // Whoever is ahead finds out at the same time, and may know that it lives.
            tokio::time::sleep(self.config.timeout / 4).await;
        }
        if is_silent() {
            return reply;
        }
        connection.note_transfer();
        let limit = limit + self.config.transfer_timeout.saturating_sub(self.config.timeout);
        tokio::select! {
            reply = settle(wire, &connection, limit, sending) => reply,
            away = self.until_it_is_away() => Err(away),
        }
    }

    /// What shows whether a connection lives, where nothing else will.
    fn ahead_on(&self, connection: &Connection) -> Option<Cmd> {
        let is_well = !self.is_slow.load(Ordering::Acquire) && connection.replied_a_moment_ago();
        (connection.is_idle() && !is_well).then(|| redis::cmd("PING"))
    }

    /// Returns when the server does not answer on a new connection either.
    async fn until_it_is_away(&self) -> Error {
        let ping = redis::cmd("PING");
        let mut was_silent = false;
        loop {
            match self.ask(&ping).await {
                Err(error) if error.is_unavailable() && was_silent => return error,
                Err(error) if error.is_unavailable() => was_silent = true,
                _ => {
                    was_silent = false;
                    tokio::time::sleep(self.config.timeout).await;
                }
            }
        }
    }
}

/// The reply, if it comes in time. A connection that does not bring it is taken out of use.
async fn settle(
    wire: &Wire,
    connection: &Arc<Connection>,
    limit: Instant,
    sending: impl Future<Output = RedisResult<Value>>,
) -> Result<Value> {
    let reply = tokio::time::timeout_at(limit, sending).await;
    let is_lost = match &reply {
        Ok(reply) => reply.as_ref().is_err_and(wants_another_connection),
        Err(_) => true,
    };
    if is_lost {
        wire.discard(connection);
    }
    reply.map_or(Err(Error::Timeout), |reply| reply.map_err(Error::from))
}
