//! The options of `EXPCACHE.FETCH`.

use super::lease::{lease_duration, own_token};
use super::syntax::{Arg, KEY, integer, text, with_block, with_text, word};
use super::{
    Words, Writer, count, duration, each_option, number, once, write_amount, write_counted, write_number, write_text,
    write_word,
};
use crate::codec::Encoding;
use crate::{Error, Result};

/// `FETCH key [options]`
pub const FETCH: &[Arg] = &[
    KEY,
    with_block("LEASE", "lease", &[text("lease-duration"), with_text("TOKEN", "token").optional()]).optional(),
    with_text("WAIT", "wait-duration").optional(),
    with_block("ACCEPT", "accept", &[integer("count"), text("encoding").multiple()]).optional(),
    with_text("IFNONEMATCH", "etag").optional(),
    with_block("RANGE", "range", &[integer("offset"), integer("length")]).optional(),
    with_text("MAXAGE", "max-duration").optional(),
    word("VERIFY", "verify").optional(),
];

/// `[options]` of `FETCH`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchOptions<'a> {
    /// The lease is asked for, for so many ms.
    pub lease_ms: Option<u64>,
    /// The token that the lease is to have.
    pub token: Option<&'a [u8]>,
    /// How long to wait while another produces, in ms.
    pub wait_ms: Option<u64>,
    /// In which encodings the payload may come.
    pub accept: Option<Accepted>,
    /// No payload, if the entry has this etag; what is no etag matches nothing.
    pub if_none_match: Option<&'a [u8]>,
    /// That part of the payload: where it begins, and its length.
    pub range: Option<(u64, u64)>,
    /// An older entry counts as stale, in ms.
    pub max_age_ms: Option<u64>,
    /// The payload is to be held against its MD5.
    pub verify: Option<()>,
}

/// The encodings that a client takes; a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted(u8);

impl Accepted {
    /// `count encoding [encoding …]`; names that are not known are names of encodings that we do not have.
    fn parse<'a>(words: &mut impl Words<'a>) -> Result<Self> {
        let count = count(words.need()?)?;
        Ok(words.need_some(count)?.filter_map(Encoding::parse).collect())
    }

    /// Is this one among them?
    pub fn contains(self, encoding: Encoding) -> bool {
        self.0 & 1 << encoding as u8 != 0
    }
}

impl FromIterator<Encoding> for Accepted {
    fn from_iter<I: IntoIterator<Item = Encoding>>(encodings: I) -> Self {
        Self(encodings.into_iter().fold(0, |bits, encoding| bits | 1 << encoding as u8))
    }
}

impl<'a> FetchOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut fetch = Self::default();
        each_option(&mut words, |word, _, words| match word {
            b"LEASE" => once(&mut fetch.lease_ms, lease_duration(words.need()?)?),
            b"TOKEN" => once(&mut fetch.token, own_token(words.need()?)?),
            b"WAIT" => once(&mut fetch.wait_ms, duration(words.need()?)?),
            b"ACCEPT" => once(&mut fetch.accept, Accepted::parse(words)?),
            b"IFNONEMATCH" => once(&mut fetch.if_none_match, words.need()?),
            b"RANGE" => once(&mut fetch.range, (number(words.need()?)?, number(words.need()?)?)),
            b"MAXAGE" => once(&mut fetch.max_age_ms, duration(words.need()?)?),
            b"VERIFY" => once(&mut fetch.verify, ()),
            _ => Err(Error::Syntax),
        })?;
        if fetch.token.is_some() && fetch.lease_ms.is_none() { Err(Error::Syntax) } else { Ok(fetch) }
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        write_amount(to, "LEASE", self.lease_ms);
        write_text(to, "TOKEN", self.token);
        write_amount(to, "WAIT", self.wait_ms);
        if let Some(accepted) = self.accept {
            let names = Encoding::ALL.into_iter().filter(|encoding| accepted.contains(*encoding));
            let names: Vec<&[u8]> = names.map(|encoding| encoding.name().as_bytes()).collect();
            write_counted(to, "ACCEPT", names.into_iter());
        }
        write_text(to, "IFNONEMATCH", self.if_none_match);
        if let Some((offset, length)) = self.range {
            write_amount(to, "RANGE", Some(offset));
            write_number(to, length);
        }
        write_amount(to, "MAXAGE", self.max_age_ms);
        write_word(to, "VERIFY", self.verify.is_some());
    }
}
