//! What can go wrong, told apart by what a caller would do about it.
//!
//! The one question that matters inside the client is whether the server is away: it did not answer, or could not. Then reading
//! goes on without it. Every other error is an answer. For callers that is [`Error::is_unavailable`], where the server may also be
//! well but in no state to store.

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
    /// A tag has as many entries of the type as it may have; nothing was stored.
    TagLimit,
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
    /// The server has failed so often that it is left alone for a moment; this is how it failed last.
    CircuitOpen(Arc<Error>),
    /// The server answers, but has not loaded the module.
    NoModule,
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
    /// The server did not answer, or cannot do it now: it is away, starting, failing over, busy with a script, or takes no writes
    /// (`OOM`, `MISCONF`, `NOREPLICAS`).
    pub fn is_unavailable(&self) -> bool {
        self.is_away() || matches!(self, Self::Refused(error) if takes_no_writes(error))
    }

    /// It passes: the same call may succeed later although nobody has changed it, or mended anything.
    pub fn is_transient(&self) -> bool {
        self.is_unavailable() || matches!(self, Self::Fenced | Self::LeaseLost | Self::NoLease | Self::Changed)
    }

    /// The producer's own error, if it was one of this kind.
    ///
    /// ```
    /// # fn example(error: expcache_client::Error) {
    /// if let Some(io) = error.producer::<std::io::Error>() {
    ///     println!("the file: {io}");
    /// }
    /// # }
    /// ```
    pub fn producer<E: StdError + 'static>(&self) -> Option<&E> {
        let Self::Producer(why) = self else { return None };
        let why: &(dyn StdError + 'static) = why.as_ref();
        match why.downcast_ref::<Unshared>() {
            Some(unshared) => unshared.0.downcast_ref(),
            None => why.downcast_ref(),
        }
    }

    /// In a word, as a header value has it.
    pub(crate) fn token(&self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::LeaseLost => "lease-lost",
            Self::TooLarge => "too-large",
            Self::TagLimit => "tag-limit",
            Self::BadFormat => "bad-format",
            Self::NoLease => "no-lease",
            Self::NoModule => "no-module",
            error if error.is_unavailable() => "unavailable",
            _ => "refused",
        }
    }

    /// The server cannot even be read.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout | Self::CircuitOpen(_))
    }

    /// A slot is on the move: the node is well, and says so.
    pub(crate) fn is_of_a_slot(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.kind() == ErrorKind::Server(ServerErrorKind::TryAgain))
    }

    /// The connection was refused or lost, so the same command may fare better on a new one.
    pub(crate) fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Concerns nobody but the caller whose producer it was.
    pub(crate) fn is_unshared(&self) -> bool {
        matches!(self, Self::Producer(why) if why.is::<Unshared>())
    }

    pub(crate) fn of_producer(error: impl Into<BoxError>) -> Self {
        Self::Producer(Arc::from(error.into()))
    }

    pub(crate) fn payload(error: impl Into<BoxError>) -> Self {
        Self::Payload(Arc::from(error.into()))
    }

    pub(crate) fn reply(what: &str) -> Self {
        Self::Reply(what.to_owned())
    }
}

/// A producer's error that concerns its caller alone, such as "not found": the key does not back off, and others who wait try for
/// themselves.
///
/// ```no_run
/// # async fn example(cache: expcache_client::Cache) -> expcache_client::Result<()> {
/// # async fn find(id: u64) -> Result<Option<String>, std::io::Error> { Ok(None) }
/// use expcache_client::{BoxError, Unshared};
///
/// let request = cache.request("orders").field("id", 7).build()?;
/// let produce = || async { find(7).await?.ok_or_else(|| BoxError::from(Unshared::new("no such order"))) };
/// let order = cache.get_or_produce(&request, produce).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Unshared(BoxError);

impl Unshared {
    /// Of any error.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Unshared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Unshared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced => f.write_str("the value was invalidated while it was produced"),
            Self::LeaseLost => f.write_str("the lease is over, superseded or unknown"),
            Self::HashMismatch => f.write_str("the payload does not have the given MD5"),
            Self::TooLarge => f.write_str("the payload is larger than its type or the server allows"),
            Self::TagLimit => f.write_str("a tag has as many entries of the type as it may have"),
            Self::BadFormat => f.write_str("the format is not allowed, or the payload is not of it"),
            Self::BadEncoding => f.write_str("the bytes are not of the encoding that they are said to be"),
            Self::WrongType => f.write_str("the key holds another type of value"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unavailable(why) => write!(f, "the server cannot be reached: {why}"),
            Self::Timeout => f.write_str("no reply in time"),
            Self::CircuitOpen(why) => write!(f, "left alone for a moment, as it has failed before: {why}"),
            Self::NoModule => f.write_str("the server has not loaded libexpcache.so"),
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
            Self::CircuitOpen(why) => Some(why.as_ref()),
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
            Some("TAGLIMIT") => Self::TagLimit,
            Some("BADFORMAT") => Self::BadFormat,
            Some("BADENCODING") => Self::BadEncoding,
            Some("WRONGTYPE") => Self::WrongType,
            Some("UNBLOCKED" | "BUSY") => Self::Unavailable(error),
            _ if knows_no_command(&error) => Self::NoModule,
            _ if is_full(&error) => Self::Unavailable(error),
            _ if error.is_timeout() => Self::Timeout,
            _ if cannot_serve(error.kind()) => Self::Unavailable(error),
            _ => Self::Refused(error),
        }
    }
}

/// It answers, and its memory, its disk or its replicas keep it from storing.
fn takes_no_writes(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS"))
}

/// The server knows none of our commands. The text has been the same since there are modules, but for the quotes.
fn knows_no_command(error: &RedisError) -> bool {
    let of_ours = |text: &str| text.starts_with("unknown command") && text.to_ascii_uppercase().contains("EXPCACHE.");
    error.detail().is_some_and(of_ours)
}

/// It has no place for another connection (`maxclients`).
fn is_full(error: &RedisError) -> bool {
    error.to_string().contains("max number of clients")
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
        for error in [Error::of_producer(std::io::Error::from(refused.kind())), Error::payload(refused)] {
            let source = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
            assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(error.to_string().ends_with(&source.to_string()), "{error}");
        }
    }

    fn of_server(line: &str) -> Error {
        let mut parser = redis::Parser::new();
        parser.parse_value(format!("{line}\r\n").as_bytes()).and_then(redis::Value::extract_error).unwrap_err().into()
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        let unavailable = [
            "-OOM command not allowed when used memory > 'maxmemory'.",
            "-MISCONF Redis is configured to save RDB snapshots",
            "-BUSY Redis is busy running a script.",
            "-NOREPLICAS Not enough good replicas to write.",
            "-LOADING Redis is loading the dataset in memory",
            "-READONLY You can't write against a read only replica.",
            "-ERR max number of clients reached",
        ];
        for line in unavailable {
            let error = of_server(line);
            assert!(error.is_unavailable() && error.is_transient(), "{line}: {error:?}");
            assert!(error.to_string().contains(line.split_once(' ').unwrap().1), "{error}");
        }
        for line in ["-FENCED the value was invalidated", "-LEASELOST the lease is over"] {
            assert!(of_server(line).is_transient() && !of_server(line).is_unavailable(), "{line}");
        }
        let lasting =
            ["-NOPERM no permissions", "-WRONGTYPE no", "-TOOLARGE it is", "-ERR syntax error", "-WRONGPASS no"];
        for line in lasting {
            assert!(!of_server(line).is_transient(), "{line}");
        }
        // A server that takes no writes can still be read: nothing is to be done without it.
        assert!(!of_server("-OOM no").is_away() && of_server("-BUSY it is").is_away());
    }

    #[test]
    fn a_server_without_the_module_is_called_that() {
        for line in [
            "-ERR unknown command 'EXPCACHE.FETCH', with args beginning with: 'k' 'LEASE' ",
            "-ERR unknown command `expcache.set`, with args beginning with: ",
        ] {
            assert!(matches!(of_server(line), Error::NoModule), "{line}");
        }
        assert!(matches!(of_server("-ERR unknown command 'HELLO'"), Error::Refused(_)));
        assert!(Error::NoModule.to_string().contains("libexpcache.so"));
    }

    #[test]
    fn the_error_of_a_producer_can_be_had_back() {
        let error = Error::of_producer(std::io::Error::from(std::io::ErrorKind::NotFound));
        assert_eq!(error.producer::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::NotFound);
        assert!(error.producer::<fmt::Error>().is_none() && Error::Timeout.producer::<fmt::Error>().is_none());
        let unshared = Error::of_producer(Unshared::new(std::io::Error::from(std::io::ErrorKind::NotFound)));
        assert!(unshared.is_unshared() && unshared.producer::<std::io::Error>().is_some());
        assert!(unshared.producer::<Unshared>().is_none(), "the wrapping is not what was meant");
    }
}
