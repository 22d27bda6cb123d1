//! What `EXPCACHE.PURGE` and `EXPCACHE.CLEAR` are to invalidate, and how.

use super::selector::{CLAUSE, Clauses, Limits};
use super::syntax::{Arg, text, with_integer, word};
use super::{NOTE, Words, Writer, each_option, note, number, once, write_amount, write_text, write_word};
use crate::selector::Selector;
use crate::{Error, Result};

/// `PURGE selector [options]`
pub const PURGE: &[Arg] =
    &[CLAUSE.multiple(), SOFT, word("DRYRUN", "dryrun").optional(), with_integer("KEYS", "max").optional(), NOTE, AT];

/// `CLEAR [SOFT] [NOTE text] [AT unix-ms]`
pub const CLEAR: &[Arg] = &[SOFT, NOTE, AT];

/// `INVALIDATE.TAG tag [tag …]`
pub const INVALIDATE_TAG: &[Arg] = &[text("tag").multiple()];

const SOFT: Arg = word("SOFT", "soft").optional();
const AT: Arg = with_integer("AT", "unix-time-milliseconds").optional();

/// The most keys that an invalidation names.
const MOST_KEYS: u64 = 10_000;

/// The words of `PURGE`. Of a selector without clauses all entries are meant, which is `CLEAR`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurgeOptions {
    /// Which entries.
    pub selector: Selector,
    /// They turn stale instead of going.
    pub soft: Option<()>,
    /// They are only counted.
    pub dry_run: Option<()>,
    /// So many of their keys are to be named.
    pub keys: Option<usize>,
    /// Since when they are stale, unix ms. Masters say it to replicas.
    pub at_ms: Option<u64>,
    /// Who or what is behind it. No replica is told.
    pub note: Option<Box<[u8]>>,
}

impl PurgeOptions {
    /// Reads all words that are left.
    pub fn parse<'a>(mut words: impl Words<'a>, limits: Limits) -> Result<Self> {
        let (mut clauses, mut asked) = (Clauses::new(limits), Self::default());
        each_option(&mut words, |upper, word, words| {
            if clauses.take(word, words)? {
                return Ok(());
            }
            match upper {
                b"SOFT" => once(&mut asked.soft, ()),
                b"DRYRUN" => once(&mut asked.dry_run, ()),
                b"KEYS" => once(&mut asked.keys, most_keys(words.need()?)?),
                b"NOTE" => once(&mut asked.note, note(words)?.into()),
                b"AT" => once(&mut asked.at_ms, number(words.need()?)?),
                _ => Err(Error::Syntax),
            }
        })?;
        if asked.at_ms.is_some() && asked.soft.is_none() {
            return Err(Error::Syntax);
        }
        asked.selector = clauses.selector().unwrap_or_default();
        Ok(asked)
    }

    /// Writes them as a client, or a master, sends them.
    pub fn write(&self, to: Writer<'_>) {
        self.selector.write(to);
        write_word(to, "SOFT", self.soft.is_some());
        write_word(to, "DRYRUN", self.dry_run.is_some());
        write_amount(to, "KEYS", self.keys);
        write_amount(to, "AT", self.at_ms);
        write_text(to, "NOTE", self.note.as_deref());
    }
}

fn most_keys(word: &[u8]) -> Result<usize> {
    match number(word)? {
        most @ 0..=MOST_KEYS => Ok(most as usize),
        _ => Err(Error::invalid("KEYS names at most 10000 keys")),
    }
}
