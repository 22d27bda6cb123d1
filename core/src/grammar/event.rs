//! `EXPCACHE.EVENT`: what happened, and what is told besides.

use super::syntax::{Arg, text, with_block, word};
use super::{NOTE, Words, Writer, each_option, note, once, write_text, write_word};
use crate::key::validate_name;
use crate::rules::MOST_TEXT_BYTES;
use crate::{Error, Result};

/// `EVENT text [FIELD name value] … [DRYRUN] [RULES] [NOTE text]`
pub const EVENT: &[Arg] = &[
    text("event"),
    with_block("FIELD", "field", &[text("name"), text("value")]).optional().multiple(),
    word("DRYRUN", "dryrun").optional(),
    word("RULES", "rules").optional(),
    NOTE,
];

/// The most fields.
const MOST_FIELDS: usize = 64;

/// The words of `EVENT`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventOptions<'a> {
    /// What happened.
    pub text: &'a [u8],
    /// What is told besides: names and values.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
    /// The entries are only counted.
    pub dry_run: Option<()>,
    /// The rules are to be named.
    pub rules: Option<()>,
    /// Who or what is behind it.
    pub note: Option<&'a [u8]>,
}

impl<'a> EventOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut asked = Self { text: words.need()?, ..Self::default() };
        if asked.text.len() > MOST_TEXT_BYTES {
            return Err(Error::invalid("an event has at most 16384 bytes"));
        }
        each_option(&mut words, |upper, _word, words| match upper {
            b"FIELD" => asked.add_field(words.need()?, words.need()?),
            b"DRYRUN" => once(&mut asked.dry_run, ()),
            b"RULES" => once(&mut asked.rules, ()),
            b"NOTE" => once(&mut asked.note, note(words)?),
            _ => Err(Error::Syntax),
        })?;
        Ok(asked)
    }

    fn add_field(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<()> {
        validate_name("field", name)?;
        if self.fields.iter().any(|(known, _)| *known == name) {
            return Err(Error::invalid("a field is given twice"));
        }
        if self.fields.len() >= MOST_FIELDS {
            return Err(Error::invalid("an event has at most 64 fields"));
        }
        self.fields.push((name, value));
        Ok(())
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        to(self.text);
        for (name, value) in &self.fields {
            write_text(to, "FIELD", Some(name));
            to(value);
        }
        write_word(to, "DRYRUN", self.dry_run.is_some());
        write_word(to, "RULES", self.rules.is_some());
        write_text(to, "NOTE", self.note);
    }
}
