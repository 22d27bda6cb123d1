//! `EXPCACHE.RULE SET`: what happens, and which entries are outdated then.

use super::selector::{CLAUSE, Clauses, Limits};
use super::syntax::{Arg, one_of, text, with_block, with_text, word};
use super::{LONGEST_WORD, Words, Writer, each_option, is, once, upper, write_text, write_word};
use crate::key::validate_name;
use crate::rules::On;
use crate::selector::Selector;
use crate::{Error, Result};

/// `RULE SET name KEY|EVENT pattern DO selector [SOFT]`
pub const RULE_SET: &[Arg] = &[
    text("name"),
    one_of("on", &[with_text("KEY", "key-pattern"), with_text("EVENT", "event-pattern")]),
    with_block("DO", "selector", &[CLAUSE.multiple()]),
    word("SOFT", "soft").optional(),
];

/// The words of `RULE SET`. The selector is as it was written, its names still in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOptions<'a> {
    /// The rule's name.
    pub name: &'a [u8],
    /// What it reacts to.
    pub on: On,
    /// Which of that.
    pub pattern: &'a [u8],
    /// Which entries are outdated then.
    pub selector: Selector,
    /// They turn stale instead of going.
    pub soft: Option<()>,
}

impl<'a> RuleOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>, limits: Limits) -> Result<Self> {
        let name = words.need()?;
        validate_name("rule", name)?;
        let on = match upper(words.need()?, &mut [0; LONGEST_WORD]) {
            b"KEY" => On::Key,
            b"EVENT" => On::Event,
            _ => return Err(Error::Syntax),
        };
        let pattern = words.need()?;
        if !is(words.need()?, "DO") {
            return Err(Error::Syntax);
        }
        let (mut clauses, mut soft) = (Clauses::new(limits), None);
        each_option(&mut words, |upper, word, words| match upper {
            b"SOFT" => once(&mut soft, ()),
            _ if clauses.take(word, words)? => Ok(()),
            _ => Err(Error::Syntax),
        })?;
        let selector = clauses.selector().ok_or(Error::Syntax)?;
        Ok(Self { name, on, pattern, selector, soft })
    }

    /// Writes them as a client, or a master, sends them.
    pub fn write(&self, to: Writer<'_>) {
        to(self.name);
        write_text(to, if self.on == On::Key { "KEY" } else { "EVENT" }, Some(self.pattern));
        to(b"DO");
        self.selector.write(to);
        write_word(to, "SOFT", self.soft.is_some());
    }
}
