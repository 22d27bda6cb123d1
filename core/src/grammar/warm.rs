//! The options of `EXPCACHE.WARM`.

use super::lease::lease_duration;
use super::syntax::{Arg, integer, text, with_block, with_text, word};
use super::{
    COUNT, Words, Writer, all_names, count, duration, each_option, number, once, write_amount, write_counted,
    write_word,
};
use crate::{Error, Result};

/// `WARM [options]`
pub const WARM: &[Arg] = &[
    with_block("TYPES", "types", &[integer("type-count"), text("type").multiple()]).optional(),
    COUNT,
    with_text("LEASE", "lease-duration").optional(),
    with_text("WAIT", "wait-duration").optional(),
    with_text("AHEAD", "ahead-duration").optional(),
    word("DRYRUN", "dryrun").optional(),
];

/// The most types that are named.
const MOST_TYPES: usize = 1024;
/// The most keys that are offered at a time.
const MOST: u64 = 1000;

/// `[options]` of `WARM`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WarmOptions<'a> {
    /// Keys of these types only.
    pub types: Option<Vec<&'a [u8]>>,
    /// How many at most.
    pub count: Option<u64>,
    /// How long each lease is to last, in ms.
    pub lease_ms: Option<u64>,
    /// How long to wait until there is one, in ms.
    pub wait_ms: Option<u64>,
    /// How long before the end of their freshness keys are offered, in ms.
    pub ahead_ms: Option<u64>,
    /// Are they only listed?
    pub dry_run: Option<()>,
}

impl<'a> WarmOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut warm = Self::default();
        each_option(&mut words, |word, _, words| match word {
            b"TYPES" => once(&mut warm.types, types(words)?),
            b"COUNT" => once(&mut warm.count, most(words.need()?)?),
            b"LEASE" => once(&mut warm.lease_ms, lease_duration(words.need()?)?),
            b"WAIT" => once(&mut warm.wait_ms, duration(words.need()?)?),
            b"AHEAD" => once(&mut warm.ahead_ms, duration(words.need()?)?),
            b"DRYRUN" => once(&mut warm.dry_run, ()),
            _ => Err(Error::Syntax),
        })?;
        Ok(warm)
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        if let Some(types) = &self.types {
            write_counted(to, "TYPES", types.iter().copied());
        }
        write_amount(to, "COUNT", self.count);
        write_amount(to, "LEASE", self.lease_ms);
        write_amount(to, "WAIT", self.wait_ms);
        write_amount(to, "AHEAD", self.ahead_ms);
        write_word(to, "DRYRUN", self.dry_run.is_some());
    }
}

fn types<'a>(words: &mut impl Words<'a>) -> Result<Vec<&'a [u8]>> {
    let count = count(words.need()?)?;
    if !(1..=MOST_TYPES).contains(&count) {
        return Err(Error::invalid("TYPES must name 1 to 1024 types"));
    }
    all_names("type", words.need_some(count)?)
}

fn most(word: &[u8]) -> Result<u64> {
    let count = number(word)?;
    if (1..=MOST).contains(&count) { Ok(count) } else { Err(Error::invalid("COUNT must be 1 to 1000")) }
}
