//! One server, and the connections to it. What carries little has one of its own, so that it never stands behind payloads; who
//! waits has one of his own, since nobody could use it meanwhile.
//!
//! Whoever gets no reply in time takes the connection out of use: the next caller connects anew. Only a payload is waited for
//! longer, as long as bytes move on its connection; where those cannot be counted, if there was a reply on it since the payload
//! was sent and as long as the server answers others.
//!
//! What has never been sent, since the connection was closed before, is sent again on another, whatever it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::call::{Call, Carries, before};
use super::connection::{Connection, SharedConnection, Visit, wants_another_connection, was_never_sent};
use super::connector::Connector;
use super::pool::Pool;
use super::stream::Traffic;
use crate::config::Config;
use crate::error::{Error, Result};

/// How often what has never been sent is sent on another connection: that, too, may be closed before it is used.
const ANEW: usize = 2;
/// How much of a payload the systems on the way may take at once, about.
const BUFFERED: usize = 4 << 20;

pub(crate) struct Node {
    connector: Arc<Connector>,
    little: SharedConnection,
    payloads: Vec<SharedConnection>,
    waiting: Pool,
    breaker: Breaker,
    /// A payload was not there in time once.
    is_slow: AtomicBool,
    /// It has not loaded the module, as far as is known.
    lacks_module: AtomicBool,
    config: Arc<Config>,
}

impl Node {
    pub(crate) fn new(connector: Connector, config: &Arc<Config>) -> Self {
        let connector = Arc::new(connector);
        Self {
            little: SharedConnection::new(&connector),
            payloads: (0..config.connections).map(|_| SharedConnection::new(&connector)).collect(),
            waiting: Pool::default(),
            breaker: Breaker::new(config.breaker_failures, config.breaker_pause),
            is_slow: AtomicBool::new(false),
            lacks_module: AtomicBool::new(false),
            config: Arc::clone(config),
            connector,
        }
    }

    pub(crate) async fn send(&self, call: &Call, visit: Visit) -> Result<Value> {
        if !call.anyway && !self.breaker.is_well() {
            self.breaker.allows(Instant::now().into_std()).map_err(Error::CircuitOpen)?;
        }
        let mut anew = 0..ANEW;
        let reply = loop {
            match self.send_once(call, visit).await {
                Err(Error::Unavailable(error)) if was_never_sent(&error) && anew.next().is_some() => {}
                reply => break reply,
            }
        };
        match &reply {
            Err(error) if error.is_away() && !error.is_of_a_slot() => self.note_failure(call, error),
            _ => self.note_reply(&reply),
        }
        reply
    }

    async fn send_once(&self, call: &Call, visit: Visit) -> Result<Value> {
        match call.carries {
            // What is rare is boxed here and below: each call would else move some kilobytes for it, again and again.
            _ if !call.wait.is_zero() => {
                Box::pin(self.waiting.send(&self.connector, call, visit, self.config.timeout)).await
            }
            Carries::Little => Box::pin(self.send_little(&call.cmd, visit)).await,
            Carries::Payload => self.transfer(&call.cmd, visit).await,
        }
    }

    /// Its address, as people write it.
    pub(crate) fn address(&self) -> &str {
        self.connector.address()
    }

    /// What it is called, as a reply would have it.
    pub(crate) fn name(&self) -> Value {
        Value::BulkString(self.address().into())
    }

    /// Asks whatever the breaker says: to find out how things are.
    pub(crate) async fn ask(&self, cmd: &Cmd) -> Result<Value> {
        self.send_little(cmd, Visit::Own).await
    }

    fn note_failure(&self, call: &Call, error: &Error) {
        let server = self.connector.address();
        if self.breaker.failed(Instant::now().into_std(), error) {
            tracing::warn!(server, command = call.name, %error, "the circuit is open: the server is left alone");
        } else {
            tracing::debug!(server, command = call.name, %error, "the server is not available");
        }
        if let Some(observer) = &self.config.observer {
            observer.unavailable(call.name, error);
        }
    }

    fn note_reply(&self, reply: &Result<Value>) {
        let server = self.connector.address();
        if self.breaker.succeeded() {
            tracing::info!(server, "the circuit is closed: the server answers again");
        }
        let lacks = matches!(reply, Err(Error::NoModule));
        match (self.lacks_module.load(Ordering::Acquire), lacks) {
            (false, true) => tracing::warn!(server, "{}", Error::NoModule),
            (true, false) => tracing::info!(server, "the server has loaded the module"),
            _ => return,
        }
        self.lacks_module.store(lacks, Ordering::Release);
    }

    async fn send_little(&self, cmd: &Cmd, visit: Visit) -> Result<Value> {
        let limit = Instant::now() + self.config.timeout;
        let connection = before(limit, self.little.connection()).await?;
        settle(&self.little, &connection, before(limit, connection.send(cmd, visit)).await)
    }

    async fn transfer(&self, cmd: &Cmd, visit: Visit) -> Result<Value> {
        let wire = match self.payloads.as_slice() {
            [only] => only,
            all => all.iter().min_by_key(|wire| wire.under_way()).unwrap_or(&self.little),
        };
        let connection = match wire.open() {
            Some(connection) => connection,
            None => Box::pin(before(Instant::now() + self.config.timeout, wire.connection())).await?,
        };
        if connection.traffic().is_some() {
            return settle(wire, &connection, self.while_it_moves(&connection, cmd, visit).await);
        }
        Box::pin(self.transfer_unseen(wire, &connection, cmd, visit)).await
    }

    /// The reply, as long as bytes move.
    async fn while_it_moves(&self, connection: &Connection, cmd: &Cmd, visit: Visit) -> Result<Value> {
        let begun = Instant::now();
        let last = begun + self.config.transfer_timeout.max(self.config.timeout);
        let bytes = || connection.traffic().map_or(0, Traffic::read);
        let before_it = bytes();
        let mut sending = std::pin::pin!(connection.send(cmd, visit));
        let mut limit = begun + self.config.timeout;
        loop {
            match before(limit.min(last), &mut sending).await {
                Err(Error::Timeout) if Instant::now() < last => {}
                reply => return reply,
            }
            let moved = connection.traffic().map_or(begun, |traffic| begun.max(traffic.last().into()));
            // A connection that has brought something lives, and may have to rest, as this process may.
            let rest = if bytes() > before_it { self.config.timeout } else { self.config.timeout / 4 };
            limit = moved + self.config.timeout + rest + hidden(cmd);
            if Instant::now() >= limit {
                return Err(Error::Timeout);
            }
        }
    }

    /// As it is done where bytes cannot be counted.
    async fn transfer_unseen(
        &self,
        wire: &SharedConnection,
        connection: &Arc<Connection>,
        cmd: &Cmd,
        visit: Visit,
    ) -> Result<Value> {
        let limit = Instant::now() + self.config.timeout;
        let replies = connection.replies();
        let ping = self.ahead_on(connection);
        let mut sending = std::pin::pin!(connection.send_behind(ping.as_ref(), cmd, visit));
        let reply = settle(wire, connection, before(limit, &mut sending).await);
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
            reply = before(limit, sending) => settle(wire, connection, reply),
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
                Err(error) if error.is_away() && was_silent => return error,
                Err(error) if error.is_away() => was_silent = true,
                _ => {
                    was_silent = false;
                    tokio::time::sleep(self.config.timeout).await;
                }
            }
        }
    }
}

/// The reply; a connection that does not bring it is taken out of use.
fn settle(wire: &SharedConnection, connection: &Arc<Connection>, reply: Result<Value>) -> Result<Value> {
    let is_lost = match &reply {
        Err(Error::Timeout) => true,
        Err(Error::Unavailable(error) | Error::Refused(error)) => wants_another_connection(error),
        _ => false,
    };
    if is_lost {
        wire.discard(connection);
    }
    reply
}

/// For how long nobody may see anything move, though it does: what the systems on the way have taken of a payload they hand on
/// unseen, a second for each MiB, if the way is slow.
fn hidden(cmd: &Cmd) -> Duration {
    let size: usize =
        cmd.args_iter().map(|arg| if let redis::Arg::Simple(bytes) = arg { bytes.len() } else { 0 }).sum();
    Duration::from_secs(1).mul_f64(size.min(BUFFERED) as f64 / f64::from(1 << 20))
}
