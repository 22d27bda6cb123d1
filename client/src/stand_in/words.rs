//! The words of a command.

use std::time::Duration;

use bytes::Bytes;
use expcache_core::glob::Glob;
use expcache_core::selector::{Clause, Selector, TagNames};
use expcache_core::units::{UnitRule, parse_duration_ms, parse_u64};
use expcache_core::{Error, Result};

/// What is left of them.
pub(super) struct Words<'a>(std::slice::Iter<'a, Bytes>);

impl<'a> Words<'a> {
    pub(super) fn new(words: &'a [Bytes]) -> Self {
        Self(words.iter())
    }

    pub(super) fn next(&mut self) -> Option<&'a Bytes> {
        self.0.next()
    }

    pub(super) fn need(&mut self) -> Result<&'a Bytes> {
        self.next().ok_or(Error::Syntax)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        parse_u64(self.need()?)
    }

    pub(super) fn ms(&mut self) -> Result<u64> {
        parse_duration_ms(self.need()?, UnitRule::Optional)
    }

    pub(super) fn duration(&mut self) -> Result<Duration> {
        self.ms().map(Duration::from_millis)
    }

    /// `n word …`
    pub(super) fn counted(&mut self) -> Result<&'a [Bytes]> {
        let count = usize::try_from(self.number()?).map_err(|_| Error::Syntax)?;
        let (counted, rest) = self.0.as_slice().split_at_checked(count).ok_or(Error::Syntax)?;
        self.0 = rest.iter();
        Ok(counted)
    }

    pub(super) fn rest(self) -> &'a [Bytes] {
        self.0.as_slice()
    }
}

/// Takes a clause, if the word begins one.
pub(super) fn clause(word: &[u8], words: &mut Words<'_>, selector: &mut Selector) -> Result<bool> {
    let clause = match word {
        b"ANY" => Clause::Any(names(words.counted()?)),
        b"ALL" => Clause::All(names(words.counted()?)),
        b"NONE" => Clause::None(names(words.counted()?)),
        b"TYPE" => Clause::Type(words.need()?.as_ref().into()),
        b"MATCH" => Clause::Match(Glob::new(words.need()?)),
        _ => return Ok(false),
    };
    selector.clauses.push(clause);
    Ok(true)
}

pub(super) fn names(words: &[Bytes]) -> TagNames {
    words.iter().map(|name| name.as_ref().into()).collect()
}
