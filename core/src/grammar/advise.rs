//! What `EXPCACHE.ADVISE` is asked for.

use super::syntax::{Arg, block, one_of, with_text};
use super::{COUNT, TYPE_NAME, Words, Writer, each_option, is, number, once, type_name, write_amount, write_text};
use crate::{Error, Result};

/// `ADVISE [TYPE name] [COUNT n] | CURVE name`
pub const ADVISE: &[Arg] =
    &[one_of("what", &[block("advice", &[TYPE_NAME, COUNT]), with_text("CURVE", "type-name")]).optional()];

/// What is wanted of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdviseOptions<'a> {
    /// What to change.
    Advice {
        /// Of this type only.
        type_name: Option<&'a [u8]>,
        /// So many pieces.
        count: Option<u64>,
    },
    /// What each lifetime would come to, of this type.
    Curve(&'a [u8]),
}

impl<'a> AdviseOptions<'a> {
    /// Reads all words that are left.
    pub fn parse(mut words: impl Words<'a>) -> Result<Self> {
        let (mut only, mut count, mut curve) = (None, None, None);
        let are_two = words.len() == 2;
        each_option(&mut words, |upper, word, words| match upper {
            b"TYPE" => once(&mut only, type_name(words)?),
            b"COUNT" => once(&mut count, number(words.need()?)?),
            _ if are_two && is(word, "CURVE") => once(&mut curve, type_name(words)?),
            _ => Err(Error::Syntax),
        })?;
        Ok(curve.map_or(Self::Advice { type_name: only, count }, Self::Curve))
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        match self {
            Self::Advice { type_name, count } => {
                write_text(to, "TYPE", *type_name);
                write_amount(to, "COUNT", *count);
            }
            Self::Curve(name) => write_text(to, "CURVE", Some(name)),
        }
    }
}
