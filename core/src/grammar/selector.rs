//! `selector`: which entries a command means.
//!
//! ```text
//! ANY n tag … | ALL n tag … | NONE n tag … | TYPE name | TYPES n name … | MATCH glob      one or more, in any order; all must hold
//! ```

use super::syntax::{Arg, integer, one_of, text, with_block, with_text};
use super::{LONGEST_WORD, Words, Writer, all_names, all_tags, number, type_name, upper, write_counted, write_text};
use crate::glob::Glob;
use crate::selector::{Clause, Selector, TagNames, TypeNames};
use crate::{Error, Result};

/// One clause.
pub const CLAUSE: Arg = one_of(
    "clause",
    &[
        with_block("ANY", "any", COUNTED_TAGS),
        with_block("ALL", "all", COUNTED_TAGS),
        with_block("NONE", "none", COUNTED_TAGS),
        with_text("TYPE", "name"),
        with_block("TYPES", "types", &[integer("count"), text("type").multiple()]),
        with_text("MATCH", "glob"),
    ],
);

const COUNTED_TAGS: &[Arg] = &[integer("count"), text("tag").multiple()];

/// The most tags of one clause, and of all clauses together; and the most types.
const MOST_NAMES: u64 = 1024;
/// The most clauses.
const MOST_CLAUSES: usize = 64;
/// The most patterns among them.
const MOST_PATTERNS: usize = 8;
/// The most bytes of a pattern, and of all patterns together.
const MOST_PATTERN_BYTES: usize = 1024;

/// Is a selector held against the limits of clauses and patterns? What was decided before is not measured again: a replica and the
/// append-only file carry out what a master did, be it of an older version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// It is.
    Apply,
    /// It was.
    Applied,
}

/// The clauses of one command, as they are read.
pub struct Clauses {
    read: Vec<Clause>,
    tags: u64,
    types: u64,
    limits: Limits,
}

impl Clauses {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self { read: Vec::new(), tags: 0, types: 0, limits }
    }

    /// Takes one clause; `false`, and nothing taken, if the word begins none.
    pub fn take<'a>(&mut self, word: &[u8], words: &mut impl Words<'a>) -> Result<bool> {
        let clause = match upper(word, &mut [0; LONGEST_WORD]) {
            b"ANY" => Clause::Any(self.tags(words)?),
            b"ALL" => Clause::All(self.tags(words)?),
            b"NONE" => Clause::None(self.tags(words)?),
            b"TYPE" => Clause::Type(type_name(words)?.into()),
            b"TYPES" => Clause::Types(self.types(words)?),
            b"MATCH" => Clause::Match(self.pattern(words.need()?)?),
            _ => return Ok(false),
        };
        if !self.read.contains(&clause) {
            self.read.push(clause);
        }
        if self.limits == Limits::Apply && self.read.len() > MOST_CLAUSES {
            return Err(Error::invalid("a selector has at most 64 clauses"));
        }
        Ok(true)
    }

    fn tags<'a>(&mut self, words: &mut impl Words<'a>) -> Result<TagNames> {
        let count = number(words.need()?)?;
        if !(1..=MOST_NAMES).contains(&count) {
            return Err(Error::invalid("a clause must have 1 to 1024 tags"));
        }
        let tags = all_tags(words.need_some(count as usize)?)?;
        self.tags += count;
        if self.tags > MOST_NAMES {
            return Err(Error::invalid("a selector has at most 1024 tags"));
        }
        Ok(tags.into_iter().map(Into::into).collect())
    }

    fn types<'a>(&mut self, words: &mut impl Words<'a>) -> Result<TypeNames> {
        let count = number(words.need()?)?;
        if !(1..=MOST_NAMES).contains(&count) {
            return Err(Error::invalid("a clause must have 1 to 1024 types"));
        }
        let types = all_names("type", words.need_some(count as usize)?)?;
        self.types += count;
        if self.types > MOST_NAMES {
            return Err(Error::invalid("a selector has at most 1024 types"));
        }
        Ok(types.into_iter().map(Into::into).collect())
    }

    fn pattern(&self, pattern: &[u8]) -> Result<Glob> {
        let others =
            self.read.iter().filter_map(|clause| if let Clause::Match(glob) = clause { Some(glob) } else { None });
        let (count, bytes) = others.fold((1, pattern.len()), |(n, bytes), glob| (n + 1, bytes + glob.pattern().len()));
        match self.limits {
            Limits::Apply if bytes > MOST_PATTERN_BYTES => {
                Err(Error::invalid("the patterns of a selector have at most 1024 bytes"))
            }
            Limits::Apply if count > MOST_PATTERNS => Err(Error::invalid("a selector has at most 8 patterns")),
            _ => Ok(Glob::new(pattern)),
        }
    }

    /// Them, as one selector; `None` if there are none.
    pub fn selector(self) -> Option<Selector> {
        (!self.read.is_empty()).then_some(Selector { clauses: self.read })
    }
}

/// A pattern by itself.
pub(super) fn pattern(pattern: &[u8]) -> Result<Glob> {
    if pattern.len() > MOST_PATTERN_BYTES {
        return Err(Error::invalid("a pattern has at most 1024 bytes"));
    }
    Ok(Glob::new(pattern))
}

impl Selector {
    /// Reads all words that are left; there must be a clause.
    pub fn parse<'a>(mut words: impl Words<'a>, limits: Limits) -> Result<Self> {
        let mut clauses = Clauses::new(limits);
        while let Some(word) = words.next() {
            if !clauses.take(word, &mut words)? {
                return Err(Error::Syntax);
            }
        }
        clauses.selector().ok_or(Error::Syntax)
    }

    /// Writes its clauses, in their order.
    pub fn write(&self, to: Writer<'_>) {
        for clause in &self.clauses {
            match clause {
                Clause::Any(tags) => write_counted(to, "ANY", tags.iter().map(AsRef::as_ref)),
                Clause::All(tags) => write_counted(to, "ALL", tags.iter().map(AsRef::as_ref)),
                Clause::None(tags) => write_counted(to, "NONE", tags.iter().map(AsRef::as_ref)),
                Clause::Type(name) => write_text(to, "TYPE", Some(name)),
                Clause::Types(names) => write_counted(to, "TYPES", names.iter().map(AsRef::as_ref)),
                Clause::Match(glob) => write_text(to, "MATCH", Some(glob.pattern())),
            }
        }
    }
}
