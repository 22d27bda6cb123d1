//! What can go wrong, told apart by what a caller would do about it.
//!
//! The one question that matters inside the client is [`Error::is_unavailable`]: the server did not answer, or could not. Then
//! reading goes on without it. Every other error is an answer.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Any error, shareable: many callers may wait for one production.
pub type SharedError = Arc<dyn StdError + Send + Sync>;
/// What a producer may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;
/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// What the value was computed from was invalidated meanwhile; nothing was stored.
    Fenced,
    /// The lease is over, superseded or unknown; nothing was stored.
    LeaseLost,
    /// The payload does not have the hash that was given with it.
    HashMismatch,
    /// The payload is larger than its type, or the server, allows.
    TooLarge,
    /// The payload is not of its format, or its type does not allow the format.
    BadFormat,
    /// The bytes are not of the encoding that they are said to be.
    BadEncoding,
    /// The key holds a value of another Redis type.
    WrongType,
    /// Any other refusal by the server.
    Refused(RedisError),
    /// The server could not be reached, or cannot serve now.
    Unavailable(RedisError),
    /// There was no reply in time.
    Timeout,
    /// The server has failed so often that it is left alone for a moment.
    CircuitOpen,
    /// There is no lease to be had for the key now: its production failed a moment ago, another has had it for longer than one
    /// is willing to wait, or there are too many leases.
    NoLease,
    /// A reply that is none of those that the command has.
    Reply(String),
    /// A request that cannot be made: its parameters are no JSON, too long or ambiguous.
    Request(String),
    /// The producer failed; this is its error.
    Producer(SharedError),
    /// The payload cannot be read as, or written from, what was asked for.
    Payload(SharedError),
    /// The entry was replaced or went while it was read in parts.
    Changed,
}

impl Error {
    /// The server did not answer, or could not: it is away, starting, failing over.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout | Self::CircuitOpen)
    }

    /// A slot is on the move: the node is well, and says so.
    pub(crate) fn is_of_a_slot(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.kind() == ErrorKind::Server(ServerErrorKind::TryAgain))
    }

    /// The connection was refused or lost, so the same command may fare better on a new one.
    pub(crate) fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(crate) fn producer(error: impl Into<BoxError>) -> Self {
        Self::Producer(Arc::from(error.into()))
    }

    pub(crate) fn payload(error: impl Into<BoxError>) -> Self {
        Self::Payload(Arc::from(error.into()))
    }

    pub(crate) fn reply(what: &str) -> Self {
        Self::Reply(what.to_owned())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced => f.write_str("the value was invalidated while it was produced"),
            Self::LeaseLost => f.write_str("the lease is over, superseded or unknown"),
            Self::HashMismatch => f.write_str("the payload does not have the given MD5"),
            Self::TooLarge => f.write_str("the payload is larger than its type or the server allows"),
            Self::BadFormat => f.write_str("the format is not allowed, or the payload is not of it"),
            Self::BadEncoding => f.write_str("the bytes are not of the encoding that they are said to be"),
            Self::WrongType => f.write_str("the key holds another type of value"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unavailable(why) => write!(f, "the server cannot be reached: {why}"),
            Self::Timeout => f.write_str("no reply in time"),
            Self::CircuitOpen => f.write_str("left alone, as it has not answered before"),
            Self::NoLease => f.write_str("there is no lease to be had now"),
            Self::Reply(why) => write!(f, "unexpected reply: {why}"),
            Self::Request(why) => f.write_str(why),
            Self::Producer(why) => write!(f, "production failed: {why}"),
            Self::Payload(why) => write!(f, "the payload: {why}"),
            Self::Changed => f.write_str("the entry changed while it was read in parts"),
        }
    }
}

/// By hand, since the source is to be the error itself and not the `Arc` that shares it: so it can be downcast.
impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Producer(why) | Self::Payload(why) => Some(why.as_ref()),
            Self::Refused(why) | Self::Unavailable(why) => Some(why),
            _ => None,
        }
    }
}

impl From<expcache_core::Error> for Error {
    fn from(error: expcache_core::Error) -> Self {
        let text = error.reply();
        Self::Request(text.strip_prefix("ERR ").unwrap_or(&text).to_owned())
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some("FENCED") => Self::Fenced,
            Some("LEASELOST") => Self::LeaseLost,
            Some("HASHMISMATCH") => Self::HashMismatch,
            Some("TOOLARGE") => Self::TooLarge,
            Some("BADFORMAT") => Self::BadFormat,
            Some("BADENCODING") => Self::BadEncoding,
            Some("WRONGTYPE") => Self::WrongType,
            Some("UNBLOCKED") => Self::Unavailable(error),
            _ if error.is_timeout() => Self::Timeout,
            _ if cannot_serve(error.kind()) => Self::Unavailable(error),
            _ => Self::Refused(error),
        }
    }
}

/// Not reached, or not in a state to serve: both pass.
fn cannot_serve(kind: ErrorKind) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
    matches!(
        kind,
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_source_is_the_error_that_was_given() {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for error in [Error::producer(std::io::Error::from(refused.kind())), Error::payload(refused)] {
            let source = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
            assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(error.to_string().ends_with(&source.to_string()), "{error}");
        }
    }
}
