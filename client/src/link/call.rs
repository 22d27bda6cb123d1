//! A command, where it goes, and how it may be treated on the way.

use std::time::Duration;

use futures_util::FutureExt as _;
use redis::{Cmd, RedisResult, Value};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// Room for most commands, so that few grow as they are written.
const WORDS: usize = 16;
const WORDS_BYTES: usize = 256;

/// Where a command goes. Only a cluster makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the node that has the key, which is this word of the command.
    Key(usize),
    /// To any primary.
    Any,
    /// To every primary; the reply is a map of their names and replies.
    Primaries,
    /// To the node of this address, as [`Link::primaries`](super::Link::primaries) or
    /// [`Link::all_nodes`](super::Link::all_nodes) tells it.
    Node(String),
}

/// A command, and how to treat it.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) cmd: Cmd,
    pub(crate) route: Route,
    pub(crate) repeat: Repeat,
    pub(crate) carries: Carries,
    /// How long the server was asked to wait.
    pub(crate) wait: Duration,
    /// How long it may queue until it can wait; `None`: as long as the configuration has patience.
    pub(crate) queue: Option<Duration>,
    /// Does it wait on its own account? Then it is not one of those of which only so many wait at a time.
    pub(crate) apart: bool,
    /// Is it sent whatever the breaker says?
    pub(crate) anyway: bool,
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
        let cmd = name.split(' ').fold(Cmd::with_capacity(WORDS, WORDS_BYTES), |mut cmd, word| {
            cmd.arg(word);
            cmd
        });
        let (repeat, carries, wait, queue) = (Repeat::Harmless, Carries::Little, Duration::ZERO, None);
        Self { name, cmd, route, repeat, carries, wait, queue, apart: false, anyway: false }
    }

    pub(crate) fn on_key(name: &'static str, key: &[u8]) -> Self {
        let mut call = Self::new(name, Route::Key(1));
        call.cmd.arg(key);
        call
    }

    /// A word of the command; nothing if it has not so many.
    #[cfg(feature = "cluster")]
    pub(super) fn word(&self, place: usize) -> &[u8] {
        match self.cmd.args_iter().nth(place) {
            Some(redis::Arg::Simple(word)) => word,
            _ => b"",
        }
    }

    /// The reply of the only server, as it would come from all.
    pub(super) fn of_the_only(&self, name: impl FnOnce() -> Value, reply: Value) -> Value {
        if self.route == Route::Primaries { Value::Map(vec![(name(), reply)]) } else { reply }
    }
}

/// What a future comes to, if it does in time. (As an `async fn` it would hold the future twice.)
pub(super) fn before<T>(
    limit: Instant,
    future: impl Future<Output = RedisResult<T>>,
) -> impl Future<Output = Result<T>> {
    tokio::time::timeout_at(limit, future).map(|ended| ended.map_err(|_| Error::Timeout)?.map_err(Error::from))
}
