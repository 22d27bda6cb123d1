//! The options of `EXPCACHE.TOP`.

use super::syntax::{Arg, with_one_of, word};
use super::{
    COUNT, LONGEST_WORD, TYPE_NAME, Words, Writer, each_option, number, once, upper, write_amount, write_text,
};
use crate::stats::By;
use crate::{Error, Result};

/// `TOP [options]`
pub const TOP: &[Arg] = &[TYPE_NAME, with_one_of("BY", "figure", FIGURES).optional(), COUNT];

const FIGURES: &[Arg] = &[word("hits", "hits"), word("size", "size"), word("cost", "cost"), word("saved", "saved")];

/// `[options]` of `TOP`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopOptions<'a> {
    /// Entries of this type only.
    pub type_name: Option<&'a [u8]>,
    /// What they are ranked by.
    pub by: Option<By>,
    /// How many.
    pub count: Option<u64>,
}

impl<'a> TopOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut asked = Self::default();
        each_option(&mut words, |word, _, words| match word {
            b"TYPE" => once(&mut asked.type_name, words.need()?),
            b"BY" => once(&mut asked.by, figure(words.need()?)?),
            b"COUNT" => once(&mut asked.count, number(words.need()?)?),
            _ => Err(Error::Syntax),
        })?;
        Ok(asked)
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        write_text(to, "TYPE", self.type_name);
        write_text(to, "BY", self.by.map(name));
        write_amount(to, "COUNT", self.count);
    }
}

fn figure(word: &[u8]) -> Result<By> {
    match upper(word, &mut [0; LONGEST_WORD]) {
        b"HITS" => Ok(By::Hits),
        b"SIZE" => Ok(By::Size),
        b"COST" => Ok(By::Cost),
        b"SAVED" => Ok(By::Saved),
        _ => Err(Error::Syntax),
    }
}

fn name(by: By) -> &'static [u8] {
    match by {
        By::Hits => b"hits",
        By::Size => b"size",
        By::Cost => b"cost",
        By::Saved => b"saved",
    }
}
