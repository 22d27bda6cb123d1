//! The options of `EXPCACHE.SET` and `EXPCACHE.MSET`.

use super::syntax::{Arg, KEY, block, integer, one_of, text, with_block, with_integer, with_text, word};
use super::{
    FORMAT, NOTE, Tags, Words, Writer, duration, each_option, etag, format_name, note, number, once, tags, type_name,
    write_amount, write_counted, write_text, write_word,
};
use crate::codec::Encoding;
use crate::entry::{End, Etag, MAX_COST_MS};
use crate::key::validate_meta;
use crate::lease::Token;
use crate::policy::Freshness;
use crate::{Error, Result, units};

/// `SET key value [options]`
pub const SET: &[Arg] = &[
    KEY,
    text("value"),
    TYPE,
    FRESHNESS,
    GRACE,
    TAGS,
    FORMAT,
    RECORDS,
    COST,
    META,
    with_text("HASH", "md5").optional(),
    ENCODING,
    one_of("condition", &[word("NX", "nx"), word("XX", "xx"), with_text("IFMATCH", "etag")]).optional(),
    with_text("LEASE", "token").optional(),
    word("PARTS", "parts").optional(),
    NOTE,
];

/// `MSET numkeys key value [key value …] [options]`: of the options, those that say nothing of one payload.
pub const MSET: &[Arg] = &[
    integer("numkeys"),
    block("data", &[KEY, text("value")]).multiple(),
    TYPE,
    FRESHNESS,
    GRACE,
    TAGS,
    FORMAT,
    RECORDS,
    COST,
    META,
    ENCODING,
    one_of("condition", &[word("NX", "nx"), word("XX", "xx")]).optional(),
    NOTE,
];

const TYPE: Arg = with_text("TYPE", "type").optional();
const FRESHNESS: Arg = one_of(
    "freshness",
    &[
        with_integer("EX", "seconds"),
        with_integer("PX", "milliseconds"),
        with_integer("EXAT", "unix-time-seconds"),
        with_integer("PXAT", "unix-time-milliseconds"),
        word("KEEPTTL", "keepttl"),
        word("PERSIST", "persist"),
    ],
)
.optional();
const GRACE: Arg = with_text("GRACE", "duration").optional();
const TAGS: Arg = with_block("TAGS", "tags", &[integer("count"), text("tag").multiple()]).optional();
const RECORDS: Arg = with_integer("RECORDS", "records").optional();
const COST: Arg = with_integer("COST", "milliseconds").optional();
const META: Arg = with_text("META", "json").optional();
const ENCODING: Arg = with_text("ENCODING", "encoding").optional();

/// `[options]` of `SET` and `MSET`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetOptions<'a> {
    /// The entry's type.
    pub type_name: Option<&'a [u8]>,
    /// How long it is to be fresh, as it was said.
    pub expiry: Option<ExpiryOption>,
    /// How long it is to be stale after that, in ms.
    pub grace_ms: Option<u64>,
    /// Its tags.
    pub tags: Option<Tags<'a>>,
    /// What the payload is.
    pub format: Option<&'a [u8]>,
    /// How many records it has.
    pub records: Option<u64>,
    /// What producing it took, in ms.
    pub cost_ms: Option<u64>,
    /// A JSON object to keep beside it.
    pub meta: Option<&'a [u8]>,
    /// The MD5 that the payload must have, in hexadecimal.
    pub hash: Option<&'a [u8]>,
    /// How the payload is encoded as it comes.
    pub encoding: Option<Encoding>,
    /// When to store at all.
    pub condition: Option<Condition<'a>>,
    /// The token of the lease under which it was produced; perhaps no token's text.
    pub lease: Option<&'a [u8]>,
    /// Does what `PART` brought under that lease come before the value?
    pub parts: Option<()>,
    /// Who or what is behind it.
    pub note: Option<&'a [u8]>,
}

/// How long a value is to be fresh, as it was said: a count of seconds or ms, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryOption {
    /// `EX`
    Seconds(i64),
    /// `PX`
    Millis(i64),
    /// `EXAT`
    AtSecond(i64),
    /// `PXAT`
    AtMilli(i64),
    /// `KEEPTTL`
    Keep,
    /// `PERSIST`
    Never,
}

/// When to store at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition<'a> {
    /// There is no entry.
    Nx,
    /// There is one.
    Xx,
    /// There is one with this etag; what is no etag matches nothing.
    IfMatch(&'a [u8]),
}

/// Which command the options belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `SET`
    Set,
    /// `MSET`
    Mset,
}

impl<'a> SetOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>, verb: Verb) -> Result<Self> {
        let mut options = Self::default();
        each_option(&mut words, |word, _, words| options.read(word, words, verb))?;
        if options.parts.is_some() && options.lease.is_none() { Err(Error::Syntax) } else { Ok(options) }
    }

    fn read(&mut self, word: &[u8], words: &mut impl Words<'a>, verb: Verb) -> Result<()> {
        let single = verb == Verb::Set;
        match word {
            b"TYPE" => once(&mut self.type_name, type_name(words)?),
            b"EX" => once(&mut self.expiry, ExpiryOption::Seconds(units::parse_i64(words.need()?)?)),
            b"PX" => once(&mut self.expiry, ExpiryOption::Millis(units::parse_i64(words.need()?)?)),
            b"EXAT" => once(&mut self.expiry, ExpiryOption::AtSecond(units::parse_i64(words.need()?)?)),
            b"PXAT" => once(&mut self.expiry, ExpiryOption::AtMilli(units::parse_i64(words.need()?)?)),
            b"KEEPTTL" => once(&mut self.expiry, ExpiryOption::Keep),
            b"PERSIST" => once(&mut self.expiry, ExpiryOption::Never),
            b"GRACE" => once(&mut self.grace_ms, duration(words.need()?)?),
            b"TAGS" => once(&mut self.tags, tags(words)?),
            b"FORMAT" => once(&mut self.format, format_name(words)?),
            b"RECORDS" => once(&mut self.records, number(words.need()?)?),
            b"COST" => once(&mut self.cost_ms, cost(words.need()?)?),
            b"META" => once(&mut self.meta, meta(words.need()?)?),
            b"ENCODING" => once(&mut self.encoding, encoding(words.need()?)?),
            b"NX" => once(&mut self.condition, Condition::Nx),
            b"XX" => once(&mut self.condition, Condition::Xx),
            b"NOTE" => once(&mut self.note, note(words)?),
            b"HASH" if single => once(&mut self.hash, hash(words.need()?)?),
            b"IFMATCH" if single => once(&mut self.condition, Condition::IfMatch(words.need()?)),
            b"LEASE" if single => once(&mut self.lease, words.need()?),
            b"PARTS" if single => once(&mut self.parts, ()),
            _ => Err(Error::Syntax),
        }
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        write_text(to, "TYPE", self.type_name);
        match self.expiry {
            None => {}
            Some(ExpiryOption::Seconds(n)) => write_amount(to, "EX", Some(n)),
            Some(ExpiryOption::Millis(n)) => write_amount(to, "PX", Some(n)),
            Some(ExpiryOption::AtSecond(n)) => write_amount(to, "EXAT", Some(n)),
            Some(ExpiryOption::AtMilli(n)) => write_amount(to, "PXAT", Some(n)),
            Some(ExpiryOption::Keep) => write_word(to, "KEEPTTL", true),
            Some(ExpiryOption::Never) => write_word(to, "PERSIST", true),
        }
        write_amount(to, "GRACE", self.grace_ms);
        if let Some(tags) = &self.tags {
            write_counted(to, "TAGS", tags.iter().copied());
        }
        write_text(to, "FORMAT", self.format);
        write_amount(to, "RECORDS", self.records);
        write_amount(to, "COST", self.cost_ms);
        write_text(to, "META", self.meta);
        write_text(to, "HASH", self.hash);
        write_amount(to, "ENCODING", self.encoding.map(Encoding::name));
        match self.condition {
            None => {}
            Some(Condition::Nx) => write_word(to, "NX", true),
            Some(Condition::Xx) => write_word(to, "XX", true),
            Some(Condition::IfMatch(etag)) => write_text(to, "IFMATCH", Some(etag)),
        }
        write_text(to, "LEASE", self.lease);
        write_word(to, "PARTS", self.parts.is_some());
        write_text(to, "NOTE", self.note);
    }

    /// Is there nothing in them that a payload could contradict?
    pub fn say_nothing_of_payloads(&self) -> bool {
        self.encoding.is_none() && self.hash.is_none() && self.format.is_none()
    }

    /// The MD5 that the payload must have.
    pub fn hash(&self) -> Option<Etag> {
        self.hash.and_then(etag)
    }

    /// The etag that the present entry must have, if one was given that can be one.
    pub fn if_match(&self) -> Option<Etag> {
        if let Some(Condition::IfMatch(text)) = self.condition { etag(text) } else { None }
    }

    /// The lease, if one was given that can be one.
    pub fn token(&self) -> Option<Token> {
        self.lease.and_then(Token::parse)
    }

    /// Its tags.
    pub fn tags(&self) -> &[&'a [u8]] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// What the end of the value's freshness follows from; `None`: from that of the value that it replaces.
    pub fn end(&self) -> Option<End> {
        match self.expiry {
            Some(ExpiryOption::Keep) => None,
            Some(ExpiryOption::AtSecond(_) | ExpiryOption::AtMilli(_)) => Some(End::Named),
            Some(ExpiryOption::Seconds(_) | ExpiryOption::Millis(_) | ExpiryOption::Never) | None => {
                Some(End::OfLifetime)
            }
        }
    }

    /// How long the value shall be fresh.
    pub fn freshness(&self, command: &'static str) -> Result<Freshness> {
        let invalid = Error::InvalidExpire(command);
        let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| invalid.clone());
        let in_ms = |n: i64| n.checked_mul(1000).ok_or_else(|| invalid.clone());
        Ok(match self.expiry {
            None => Freshness::TypeDefault,
            Some(ExpiryOption::Keep) => Freshness::Keep,
            Some(ExpiryOption::Never) => Freshness::Forever,
            Some(ExpiryOption::Seconds(n)) => Freshness::For(positive(in_ms(n)?)?),
            Some(ExpiryOption::Millis(n)) => Freshness::For(positive(n)?),
            Some(ExpiryOption::AtSecond(n)) => Freshness::Until(positive(in_ms(n)?)?.cast_signed()),
            Some(ExpiryOption::AtMilli(n)) => Freshness::Until(positive(n)?.cast_signed()),
        })
    }
}

fn meta(json: &[u8]) -> Result<&[u8]> {
    validate_meta(json)?;
    Ok(json)
}

fn cost(word: &[u8]) -> Result<u64> {
    match number(word)? {
        cost_ms if cost_ms > MAX_COST_MS => Err(Error::invalid("COST must be at most 30 days, in milliseconds")),
        cost_ms => Ok(cost_ms),
    }
}

fn hash(text: &[u8]) -> Result<&[u8]> {
    etag(text).map(|_| text).ok_or(Error::invalid("HASH must be 32 hexadecimal digits"))
}

fn encoding(name: &[u8]) -> Result<Encoding> {
    Encoding::parse(name).ok_or(Error::invalid("ENCODING must be identity, gzip, zstd or lz4"))
}
