//! The options of `EXPCACHE.SET` and `EXPCACHE.MSET`.

use expcache_core::codec::Encoding;
use expcache_core::entry::{End, Etag, MAX_COST_MS};
use expcache_core::key::validate_meta;
use expcache_core::lease::Token;
use expcache_core::policy::Freshness;
use expcache_core::{Error, Result, units};

use super::parse::{self, Tags, once};
use crate::server::context::{Arg, Args};

/// `[options]` of `SET` and `MSET`.
#[derive(Default)]
pub struct Options<'a> {
    pub type_name: Option<&'a [u8]>,
    pub freshness: Option<Wish>,
    pub grace_ms: Option<u64>,
    pub tags: Option<Tags<'a>>,
    pub format: Option<&'a [u8]>,
    pub records: Option<u64>,
    pub cost_ms: Option<u64>,
    pub meta: Option<&'a [u8]>,
    pub hash: Option<Etag>,
    pub encoding: Option<Encoding>,
    pub condition: Option<Condition>,
    /// `None` inside: the text is no token's.
    pub lease: Option<Option<Token>>,
}

/// How long the value shall be fresh, as it was said: a count of seconds or ms, or a moment.
#[derive(Clone, Copy)]
pub enum Wish {
    Seconds(i64),
    Millis(i64),
    AtSecond(i64),
    AtMilli(i64),
    Keep,
}

/// When to store at all.
#[derive(Clone, Copy)]
pub enum Condition {
    /// There is no entry.
    Nx,
    /// There is one.
    Xx,
    /// There is one with this etag; `None` matches nothing.
    IfMatch(Option<Etag>),
}

/// Which command the options belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Set,
    Mset,
}

impl<'a> Options<'a> {
    /// ```text
    /// [TYPE name] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] [GRACE d] [TAGS count tag …] [FORMAT name] [RECORDS n]
    /// [COST ms] [META json] [HASH md5hex] [ENCODING name] [NX | XX | IFMATCH etag] [LEASE token]
    /// ```
    pub fn parse(mut args: Args<'a>, form: Form) -> Result<Self> {
        let mut options = Self::default();
        while let Some(word) = args.next() {
            options.parse_one(word, &mut args, form)?;
        }
        Ok(options)
    }

    fn parse_one(&mut self, word: Arg<'a>, args: &mut Args<'a>, form: Form) -> Result<()> {
        let single = form == Form::Set;
        match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
            b"TYPE" => once(&mut self.type_name, parse::type_name(args)?),
            b"EX" => once(&mut self.freshness, Wish::Seconds(units::parse_i64(args.need()?.bytes())?)),
            b"PX" => once(&mut self.freshness, Wish::Millis(units::parse_i64(args.need()?.bytes())?)),
            b"EXAT" => once(&mut self.freshness, Wish::AtSecond(units::parse_i64(args.need()?.bytes())?)),
            b"PXAT" => once(&mut self.freshness, Wish::AtMilli(units::parse_i64(args.need()?.bytes())?)),
            b"KEEPTTL" => once(&mut self.freshness, Wish::Keep),
            b"GRACE" => once(&mut self.grace_ms, parse::duration(args.need()?)?),
            b"TAGS" => once(&mut self.tags, parse::tags(args)?),
            b"FORMAT" => once(&mut self.format, parse::format_name(args)?),
            b"RECORDS" => once(&mut self.records, parse::number(args.need()?)?),
            b"COST" => once(&mut self.cost_ms, parse_cost(args)?),
            b"META" => once(&mut self.meta, parse_meta(args)?),
            b"ENCODING" => once(&mut self.encoding, parse_encoding(args)?),
            b"NX" => once(&mut self.condition, Condition::Nx),
            b"XX" => once(&mut self.condition, Condition::Xx),
            b"HASH" if single => once(&mut self.hash, parse_hash(args)?),
            b"IFMATCH" if single => {
                let etag = parse::etag(args.need()?.bytes());
                once(&mut self.condition, Condition::IfMatch(etag))
            }
            b"LEASE" if single => once(&mut self.lease, Token::parse(args.need()?.bytes())),
            _ => Err(Error::Syntax),
        }
    }

    /// Is there nothing in them that a payload could contradict?
    pub fn say_nothing_of_payloads(&self) -> bool {
        self.encoding.is_none() && self.hash.is_none() && self.format.is_none()
    }

    /// The lease, if one was given that can be one.
    pub fn token(&self) -> Option<Token> {
        self.lease.flatten()
    }

    /// Its tags.
    pub fn tags(&self) -> &[&'a [u8]] {
        self.tags.as_deref().unwrap_or_default()
    }

    /// What the end of the value's freshness follows from; `None`: from that of the value that it replaces.
    pub fn end(&self) -> Option<End> {
        match self.freshness {
            Some(Wish::Keep) => None,
            Some(Wish::AtSecond(_) | Wish::AtMilli(_)) => Some(End::Named),
            Some(Wish::Seconds(_) | Wish::Millis(_)) | None => Some(End::OfLifetime),
        }
    }

    /// How long the value shall be fresh.
    pub fn freshness(&self, command: &'static str) -> Result<Freshness> {
        let invalid = Error::InvalidExpire(command);
        let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).ok_or(invalid.clone());
        let in_ms = |n: i64| n.checked_mul(1000).ok_or(invalid.clone());
        Ok(match self.freshness {
            None => Freshness::TypeDefault,
            Some(Wish::Keep) => Freshness::Keep,
            Some(Wish::Seconds(n)) => Freshness::For(positive(in_ms(n)?)?),
            Some(Wish::Millis(n)) => Freshness::For(positive(n)?),
            Some(Wish::AtSecond(n)) => Freshness::Until(positive(in_ms(n)?)?.cast_signed()),
            Some(Wish::AtMilli(n)) => Freshness::Until(positive(n)?.cast_signed()),
        })
    }
}

fn parse_meta<'a>(args: &mut Args<'a>) -> Result<&'a [u8]> {
    let json = args.need()?.bytes();
    validate_meta(json)?;
    Ok(json)
}

fn parse_cost(args: &mut Args<'_>) -> Result<u64> {
    match parse::number(args.need()?)? {
        cost_ms if cost_ms > MAX_COST_MS => Err(Error::invalid("COST must be at most 30 days, in milliseconds")),
        cost_ms => Ok(cost_ms),
    }
}

fn parse_hash(args: &mut Args<'_>) -> Result<Etag> {
    parse::etag(args.need()?.bytes()).ok_or(Error::invalid("HASH must be 32 hexadecimal digits"))
}

fn parse_encoding(args: &mut Args<'_>) -> Result<Encoding> {
    Encoding::parse(args.need()?.bytes()).ok_or(Error::invalid("ENCODING must be identity, gzip, zstd or lz4"))
}
