//! The parameters of `EXPCACHE.KEYFOR`.

use super::syntax::{Arg, text, with_block, with_text};
use super::{FORMAT, Words, Writer, each_option, once, type_name, write_text};
use crate::key::KeyRequest;
use crate::{Error, Result};

/// `KEYFOR type [parameters]`
pub const KEYFOR: &[Arg] = &[
    text("type"),
    FORMAT,
    with_text("FILTERS", "json").optional(),
    with_text("COMPANY", "company-id").optional(),
    with_text("USER", "user-id").optional(),
    with_text("PROJECT", "project-id").optional(),
    with_block("FIELD", "field", &[text("name"), text("value")]).optional().multiple(),
    with_text("HASHTAG", "text").optional(),
];

/// A request has a few dozen parameters at the most.
const MOST_FIELDS: usize = 1024;

impl<'a> KeyRequest<'a> {
    /// Reads the type and all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let mut request = Self { type_name: type_name(&mut words)?, ..Self::default() };
        each_option(&mut words, |word, _, words| {
            let value = words.need()?;
            match word {
                b"FORMAT" => once(&mut request.format, value),
                b"FILTERS" => once(&mut request.filters, value),
                b"COMPANY" => once(&mut request.company, value),
                b"USER" => once(&mut request.user, value),
                b"PROJECT" => once(&mut request.project, value),
                b"HASHTAG" => once(&mut request.hashtag, value),
                b"FIELD" if request.fields.len() < MOST_FIELDS => {
                    request.fields.push((value, words.need()?));
                    Ok(())
                }
                _ => Err(Error::Syntax),
            }
        })?;
        Ok(request)
    }

    /// Writes the type and the parameters as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        to(self.type_name);
        write_text(to, "FORMAT", self.format);
        write_text(to, "FILTERS", self.filters);
        write_text(to, "COMPANY", self.company);
        write_text(to, "USER", self.user);
        write_text(to, "PROJECT", self.project);
        for (name, value) in &self.fields {
            write_text(to, "FIELD", Some(name));
            to(value);
        }
        write_text(to, "HASHTAG", self.hashtag);
    }
}
