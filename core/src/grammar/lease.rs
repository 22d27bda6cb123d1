//! What follows a key and a token in `EXPCACHE.RENEW`, `EXPCACHE.RELEASE` and `EXPCACHE.PART`.

use super::syntax::{Arg, KEY, text, with_text};
use super::{Words, Writer, duration, each_option, once, write_amount, write_text};
use crate::lease::Token;
use crate::{Error, Result};

/// `RENEW key token duration`
pub const RENEW: &[Arg] = &[KEY, text("token"), text("duration")];

/// `PART key token chunk`
pub const PART: &[Arg] = &[KEY, text("token"), text("chunk")];

/// `RELEASE key token [options]`
pub const RELEASE: &[Arg] =
    &[KEY, text("token"), with_text("FAIL", "message").optional(), with_text("BACKOFF", "duration").optional()];

/// `[options]` of `RELEASE`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReleaseOptions<'a> {
    /// Production was tried and failed, for this reason.
    pub failure: Option<&'a [u8]>,
    /// Nobody is to try for so many ms.
    pub backoff_ms: Option<u64>,
}

impl<'a> ReleaseOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut release = Self::default();
        each_option(&mut words, |word, _, words| match word {
            b"FAIL" => once(&mut release.failure, words.need()?),
            b"BACKOFF" => once(&mut release.backoff_ms, duration(words.need()?)?),
            _ => Err(Error::Syntax),
        })?;
        Ok(release)
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        write_text(to, "FAIL", self.failure);
        write_amount(to, "BACKOFF", self.backoff_ms);
    }
}

/// How long a lease lasts, in ms.
pub fn lease_duration(word: &[u8]) -> Result<u64> {
    match duration(word)? {
        0 => Err(Error::invalid("a lease must last longer than nothing")),
        duration_ms => Ok(duration_ms),
    }
}

/// A token of the caller's own making.
pub(super) fn own_token(word: &[u8]) -> Result<&[u8]> {
    Token::parse(word).map(|_| word).ok_or(Error::invalid("a lease's token must be 16 to 64 bytes"))
}
