//! Iterations: `EXPCACHE.SCAN` and `EXPCACHE.TAGS`.

use super::selector::{CLAUSE, Clauses, Limits, pattern};
use super::syntax::{Arg, integer, with_text};
use super::{COUNT, Words, Writer, each_option, number, once, write_amount, write_number, write_text};
use crate::glob::Glob;
use crate::selector::Selector;
use crate::{Error, Result, units};

/// `SCAN cursor [selector] [COUNT n]`
pub const SCAN: &[Arg] = &[integer("cursor"), CLAUSE.optional().multiple(), COUNT];

/// `TAGS cursor [MATCH glob] [COUNT n]`
pub const TAGS: &[Arg] = &[integer("cursor"), with_text("MATCH", "glob").optional(), COUNT];

/// `COUNT selector`
pub const COUNT_ENTRIES: &[Arg] = &[CLAUSE.multiple()];

/// The words of `SCAN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// Where to go on: 0 at the beginning.
    pub cursor: u32,
    /// Which entries; `None`: all.
    pub selector: Option<Selector>,
    /// How many elements to look at.
    pub count: Option<usize>,
}

impl ScanOptions {
    /// Reads the cursor and all words that are left.
    pub fn parse<'a>(mut words: impl Words<'a>, limits: Limits) -> Result<Self> {
        let cursor = cursor(words.need()?)?;
        let (mut clauses, mut count) = (Clauses::new(limits), None);
        each_option(&mut words, |upper, word, words| match clauses.take(word, words)? {
            true => Ok(()),
            false if upper == b"COUNT" => once(&mut count, steps(words.need()?)?),
            false => Err(Error::Syntax),
        })?;
        Ok(Self { cursor, selector: clauses.selector(), count })
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        write_number(to, self.cursor);
        self.selector.iter().for_each(|selector| selector.write(to));
        write_amount(to, "COUNT", self.count);
    }
}

/// The words of `TAGS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsOptions {
    /// Where to go on: 0 at the beginning.
    pub cursor: u32,
    /// Tags that match only.
    pub glob: Option<Glob>,
    /// How many elements to look at.
    pub count: Option<usize>,
}

impl TagsOptions {
    /// Reads the cursor and all words that are left.
    pub fn parse<'a>(mut words: impl Words<'a>) -> Result<Self> {
        let mut asked = Self { cursor: cursor(words.need()?)?, glob: None, count: None };
        each_option(&mut words, |word, _, words| match word {
            b"MATCH" => once(&mut asked.glob, pattern(words.need()?)?),
            b"COUNT" => once(&mut asked.count, steps(words.need()?)?),
            _ => Err(Error::Syntax),
        })?;
        Ok(asked)
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        write_number(to, self.cursor);
        write_text(to, "MATCH", self.glob.as_ref().map(Glob::pattern));
        write_amount(to, "COUNT", self.count);
    }
}

fn cursor(word: &[u8]) -> Result<u32> {
    let number = units::parse_u64(word).ok().and_then(|number| u32::try_from(number).ok());
    number.ok_or(Error::invalid("invalid cursor"))
}

fn steps(word: &[u8]) -> Result<usize> {
    match number(word)? {
        0 => Err(Error::Syntax),
        steps => Ok(usize::try_from(steps).unwrap_or(usize::MAX)),
    }
}
