//! What `EXPCACHE.STATS` is asked for.

use super::syntax::{Arg, block, one_of, with_text, word};
use super::{TYPE_NAME, Words, Writer, duration, each_option, is, once, write_amount, write_text, write_word};
use crate::stats::windows::LONGEST;
use crate::{Error, Result};

/// `STATS [TYPE name] [WINDOW duration] | RESET`
pub const STATS: &[Arg] =
    &[one_of("what", &[block("statistics", &[TYPE_NAME, WINDOW]), word("RESET", "reset")]).optional()];

/// In ms.
const MINUTE_MS: u64 = 60_000;

const WINDOW: Arg = with_text("WINDOW", "duration").optional();

/// What is wanted of statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsOptions<'a> {
    /// To be told.
    Read {
        /// Of this type only.
        type_name: Option<&'a [u8]>,
        /// Counted in so many ms up to now.
        window_ms: Option<u64>,
    },
    /// To count anew.
    Reset,
}

impl<'a> StatsOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let (mut type_name, mut window_ms, mut reset) = (None, None, None);
        let is_alone = words.len() == 1;
        each_option(&mut words, |upper, word, words| match upper {
            b"TYPE" => once(&mut type_name, words.need()?),
            b"WINDOW" => once(&mut window_ms, window(words.need()?)?),
            _ if is_alone && is(word, "RESET") => once(&mut reset, ()),
            _ => Err(Error::Syntax),
        })?;
        Ok(reset.map_or(Self::Read { type_name, window_ms }, |()| Self::Reset))
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        match self {
            Self::Read { type_name, window_ms } => {
                write_text(to, "TYPE", *type_name);
                write_amount(to, "WINDOW", *window_ms);
            }
            Self::Reset => write_word(to, "RESET", true),
        }
    }
}

fn window(word: &[u8]) -> Result<u64> {
    let window_ms = duration(word)?;
    let is_one = (1..=LONGEST * MINUTE_MS).contains(&window_ms);
    if is_one { Ok(window_ms) } else { Err(Error::invalid("a window is longer than nothing and at most 30d")) }
}
