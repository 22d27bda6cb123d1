//! Errors of a request, and the one place that puts them in words.

use std::borrow::Cow;

/// Why a request was refused. Refusing changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The words are not in the grammar of the command.
    Syntax,
    /// A number was expected.
    NotAnInteger,
    /// A lifetime of nothing or less, or beyond what a server can hold.
    InvalidExpire(&'static str),
    /// The key holds a value of another Redis type.
    WrongType,
    /// The lease is over, superseded or unknown.
    LeaseLost,
    /// What it was computed from was invalidated meanwhile.
    Fenced,
    /// The payload does not have the hash that was given with it.
    HashMismatch,
    /// A tag has as many entries of the type as it may have.
    TagLimit,
    /// The payload is larger than its type, or the server, allows.
    TooLarge,
    /// Unfinished payloads take as much memory as they may.
    PartsFull,
    /// Another command stores the pieces of this lease.
    BeingStored,
    /// It decodes to more than the configuration allows, by its own or together with what else was asked for.
    Expands,
    /// Decoding it would hold everybody up, as its client cannot be made to wait.
    TooMuchAtOnce,
    /// There is no memory for what is large.
    NoMemory,
    /// The type does not allow this format, or the payload is not of it; the text says what is wrong.
    BadFormat(Cow<'static, str>),
    /// The bytes are not what they are said to be encoded as: of another format, cut off, damaged, or with something after them.
    BadEncoding,
    /// They are zstd, but looking at them would take too much memory.
    WideWindow,
    /// The user may not touch this key or tag.
    NoPermission,
    /// The user may not run this command.
    NoCommandPermission,
    /// The server became a replica while the client waited.
    Unblocked,
    /// The key's slot left this node while the client waited.
    SlotMoved,
    /// The key is another node's: of this slot, at this address; or of no node's, while nobody serves the slot.
    Moved(u16, Option<Cow<'static, str>>),
    /// The server accepts no writes now, and says why.
    Refused(String),
    /// An argument outside its range; the text says which and what is allowed.
    Invalid(Cow<'static, str>),
}

impl Error {
    /// An [`Error::Invalid`] from a text.
    pub fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(text.into())
    }

    /// An [`Error::BadFormat`] from a text.
    pub fn bad_format(text: impl Into<Cow<'static, str>>) -> Self {
        Self::BadFormat(text.into())
    }

    /// The error as the protocol carries it: an upper-case prefix, a blank, a sentence.
    pub fn reply(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Syntax => "ERR syntax error",
            Self::NotAnInteger => "ERR value is not an integer or out of range",
            Self::InvalidExpire(command) => {
                return Cow::Owned(format!("ERR invalid expire time in '{command}' command"));
            }
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::LeaseLost => "LEASELOST the lease is over, superseded or unknown",
            Self::Fenced => "FENCED the value was invalidated while it was produced",
            Self::HashMismatch => "HASHMISMATCH the payload does not have the given MD5",
            Self::TagLimit => "TAGLIMIT a tag has as many entries of the type as PERTAG allows",
            Self::TooLarge => "TOOLARGE the payload is over the type's MAXVALUE or 512 MB",
            Self::PartsFull => "TOOLARGE unfinished payloads take all the memory that expcache.parts-memory allows",
            Self::BeingStored => "TRYAGAIN the pieces are being stored, or put back after a store that was refused",
            Self::Expands => "TOOLARGE it decodes to more than expcache.max-decoded or expcache.max-ratio allow",
            Self::TooMuchAtOnce => {
                "TOOLARGE a transaction or script decodes no more than expcache.max-decoded-at-once; send the command by itself"
            }
            Self::NoMemory => "OOM there is not enough memory for the payload",
            Self::BadFormat(text) => return Cow::Owned(format!("BADFORMAT {text}")),
            Self::BadEncoding => "BADENCODING the bytes are not of the given encoding",
            Self::WideWindow => {
                "BADENCODING zstd with a window above 8 MiB is not taken (RFC 9659): compress without --ultra and --long"
            }
            Self::Unblocked => "UNBLOCKED the server became a replica meanwhile; nothing was done",
            Self::SlotMoved => "TRYAGAIN the key's slot is leaving this node, or the cluster is down",
            Self::NoCommandPermission => "NOPERM this needs the right to 'config|resetstat' or 'expcache.debug|check'",
            Self::NoPermission => "NOPERM No permissions to access a key",
            Self::Moved(slot, Some(address)) => return Cow::Owned(format!("MOVED {slot} {address}")),
            Self::Moved(_, None) => "CLUSTERDOWN Hash slot not served",
            Self::Refused(text) => return Cow::Owned(text.clone()),
            Self::Invalid(text) => return Cow::Owned(format!("ERR {text}")),
        })
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reply())
    }
}

impl std::error::Error for Error {}

/// The result of anything that a request can get wrong.
pub type Result<T> = std::result::Result<T, Error>;
