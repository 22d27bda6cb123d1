//! The options of `EXPCACHE.AUDIT`.

use super::syntax::{Arg, with_text};
use super::{COUNT, TYPE_NAME, Words, Writer, duration, each_option, is, number, once, write_amount, write_text};
use crate::{Error, Result};

/// `AUDIT [options]`
pub const AUDIT: &[Arg] = &[
    with_text("AFTER", "id").optional(),
    COUNT,
    with_text("WAIT", "wait-duration").optional(),
    TYPE_NAME,
    with_text("USER", "username").optional(),
];

/// The most lines of one answer.
const MOST_LINES: u64 = 10_000;
/// Stands for the end of the log.
const END: &str = "$";

/// A place in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Behind the line of this number.
    Id(u64),
    /// So many lines before the end.
    Last(u64),
}

impl After {
    fn parse(word: &[u8]) -> Result<Self> {
        match word.strip_prefix(b"-") {
            _ if is(word, END) => Ok(Self::Last(0)),
            Some(last) => number(last).map(Self::Last),
            None => number(word).map(Self::Id),
        }
    }
}

/// `[options]` of `AUDIT`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditOptions<'a> {
    /// Lines behind this place; `None`: all.
    pub after: Option<After>,
    /// How many.
    pub count: Option<usize>,
    /// How long to wait for the first, in ms.
    pub wait_ms: Option<u64>,
    /// Of this type only.
    pub type_name: Option<&'a [u8]>,
    /// Of this user only.
    pub user: Option<&'a [u8]>,
}

impl<'a> AuditOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut asked = Self::default();
        each_option(&mut words, |word, _, words| match word {
            b"AFTER" => once(&mut asked.after, After::parse(words.need()?)?),
            b"COUNT" => once(&mut asked.count, lines(words.need()?)?),
            b"WAIT" => once(&mut asked.wait_ms, duration(words.need()?)?),
            b"TYPE" => once(&mut asked.type_name, words.need()?),
            b"USER" => once(&mut asked.user, words.need()?),
            _ => Err(Error::Syntax),
        })?;
        Ok(asked)
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        match self.after {
            None => {}
            Some(After::Last(0)) => write_text(to, "AFTER", Some(END.as_bytes())),
            Some(After::Last(lines)) => write_amount(to, "AFTER", Some(format_args!("-{lines}"))),
            Some(After::Id(id)) => write_amount(to, "AFTER", Some(id)),
        }
        write_amount(to, "COUNT", self.count);
        write_amount(to, "WAIT", self.wait_ms);
        write_text(to, "TYPE", self.type_name);
        write_text(to, "USER", self.user);
    }
}

fn lines(word: &[u8]) -> Result<usize> {
    match number(word)? {
        count @ 1..=MOST_LINES => Ok(count as usize),
        _ => Err(Error::NotAnInteger),
    }
}
