//! A connection that callers share, and what is known of whether it lives.
//!
//! A connection may be dead without anybody being told: a proxy, a firewall or a server that was stopped takes what is sent and
//! answers nothing. That others are answered proves nothing about it. What does are bytes that move on the connection itself.
//!
//! Where those cannot be counted (TLS by which whoever answers is trusted), it is a reply, after the command was sent: replies come in the order of the commands, so
//! either one of those before it is answered, or, where there are none, the `PING` that goes ahead of it. That costs something, so
//! it is left out where there was a reply a moment ago; should the next one not come in time, nothing is known, and the connection
//! is given up like a dead one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{OptionFuture, join};
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::connector::{Connected, Connector};
use super::lazy::Lazy;
use super::stream::Traffic;

/// How long ago a moment ago is.
const MOMENT: Duration = Duration::from_millis(100);

/// As the crate's error has no word for it.
const NEVER_SENT: &str = "before anything was sent";

/// How a node takes a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// As its own.
    Own,
    /// As that of a slot which is coming to it (`ASKING`).
    #[cfg(feature = "cluster")]
    Asking,
}

pub(crate) struct SharedConnection {
    connector: Arc<Connector>,
    connection: Lazy<Connection>,
}

impl SharedConnection {
    pub(crate) fn new(connector: &Arc<Connector>) -> Self {
        Self { connector: Arc::clone(connector), connection: Lazy::default() }
    }

    pub(crate) async fn connection(&self) -> RedisResult<Arc<Connection>> {
        let connect = || {
            let connector = Arc::clone(&self.connector);
            async move { connector.connect(None).await.map(Connection::new) }
        };
        // Whoever finds it closed connects anew. In the meantime it may have happened again: then that is an error.
        let connection = self.connection.get(connect).await?;
        if !connection.is_closed() {
            return Ok(connection);
        }
        self.discard(&connection);
        self.connection.get(connect).await
    }

    /// The connection, if there is one and it is not closed.
    pub(crate) fn open(&self) -> Option<Arc<Connection>> {
        self.connection.current().filter(|connection| !connection.is_closed())
    }

    /// How many callers wait for replies on it.
    pub(crate) fn under_way(&self) -> usize {
        self.connection.current().map_or(0, |connection| connection.under_way.load(Ordering::Acquire))
    }

    /// Who comes next connects anew; who uses the connection may wait on.
    pub(crate) fn discard(&self, connection: &Arc<Connection>) {
        self.connection.discard(connection);
    }
}

pub(crate) struct Connection {
    connected: Connected,
    since: Instant,
    replies: AtomicU64,
    /// After how many milliseconds the last one came.
    last_reply_ms: AtomicU64,
    under_way: AtomicUsize,
    transferring: AtomicBool,
}

impl Connection {
    pub(crate) fn new(connected: Connected) -> Self {
        Self {
            connected,
            since: Instant::now(),
            replies: AtomicU64::new(0),
            last_reply_ms: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            transferring: AtomicBool::new(false),
        }
    }

    pub(crate) async fn send(&self, cmd: &Cmd, visit: Visit) -> RedisResult<Value> {
        let _counted = Counted::new(&self.under_way);
        let written = self.traffic().map(Traffic::written);
        let mut connection = self.connected.connection.clone();
        let reply = match visit {
            Visit::Own => connection.send_packed_command(cmd).await,
            #[cfg(feature = "cluster")]
            Visit::Asking => {
                let mut asking = redis::pipe();
                asking.cmd("ASKING").add_command(cmd.clone());
                let replies = Box::pin(connection.send_packed_commands(&asking, 1, 1)).await;
                replies.map(|mut replies| replies.pop().unwrap_or(Value::Nil))
            }
        };
        let reply = reply.and_then(error_of);
        if reply.as_ref().is_err_and(RedisError::is_io_error) && written.is_some_and(|count| self.has_written(count)) {
            return Err(never_sent());
        }
        if written.is_none() && !reply.as_ref().is_err_and(RedisError::is_io_error) {
            self.last_reply_ms.store(crate::time::ms(self.since.elapsed()), Ordering::Release);
            self.replies.fetch_add(1, Ordering::AcqRel);
        }
        reply
    }

    /// What is known of its bytes, if they can be counted.
    pub(crate) fn traffic(&self) -> Option<&Traffic> {
        self.connected.traffic.as_deref()
    }

    /// Has either side hung up?
    pub(crate) fn is_closed(&self) -> bool {
        self.traffic().is_some_and(Traffic::is_closed)
    }

    /// Just so many bytes, and will it never be more?
    fn has_written(&self, count: u64) -> bool {
        self.traffic().is_some_and(|traffic| traffic.is_closed() && traffic.written() == count)
    }

    pub(crate) fn replied_a_moment_ago(&self) -> bool {
        let last = Duration::from_millis(self.last_reply_ms.load(Ordering::Acquire));
        self.replies() > 0 && self.since.elapsed().saturating_sub(last) < MOMENT
    }

    /// Sends what may take long. With something small ahead of it, [`Connection::replies`] tells soon whether the connection
    /// lives.
    pub(crate) async fn send_behind(&self, ahead: Option<&Cmd>, cmd: &Cmd, visit: Visit) -> RedisResult<Value> {
        let ahead = OptionFuture::from(ahead.map(|small| self.send(small, Visit::Own)));
        join(ahead, self.send(cmd, visit)).await.1
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// How many commands were answered on it; not counted where bytes are.
    pub(crate) fn replies(&self) -> u64 {
        self.replies.load(Ordering::Acquire)
    }

    /// Notes that what is under way is large: those behind it are answered after it only.
    pub(crate) fn note_transfer(&self) {
        self.transferring.store(true, Ordering::Release);
    }

    pub(crate) fn is_transferring(&self) -> bool {
        self.transferring.load(Ordering::Acquire)
    }
}

/// A command whose caller waits.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// No reply of ours has errors among what it tells, which would have to be looked for.
fn error_of(reply: Value) -> RedisResult<Value> {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

/// Not a byte of the command has left: it may be sent again, whatever it does.
fn never_sent() -> RedisError {
    (ErrorKind::Io, "the connection was closed", NEVER_SENT.to_owned()).into()
}

/// Whether it is that.
pub(crate) fn was_never_sent(error: &RedisError) -> bool {
    error.is_io_error() && error.detail() == Some(NEVER_SENT)
}

/// The connection is lost, or leads to what is no primary any more.
pub(crate) fn wants_another_connection(error: &RedisError) -> bool {
    was_never_sent(error)
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
