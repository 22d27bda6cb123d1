//! The grammar of the commands: one home for the server, which reads it, and for clients, which write it.
//!
//! Each file is one set of options. It holds the syntax as data (what documentation shows), `parse`, which makes options of words,
//! and `write`, which makes words of options; a test shows that one undoes the other. Options borrow from the words, so reading
//! them copies nothing.
//!
//! A parser takes any iterator over byte words whose length is known. It decides about the form of each word, in the order of the
//! words: the first that is wrong is the error.

pub mod advise;
pub mod audit;
pub mod event;
pub mod fetch;
pub mod key;
pub mod lease;
pub mod policy;
pub mod purge;
pub mod rule;
pub mod scan;
pub mod selector;
pub mod set;
pub mod stats;
pub mod syntax;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod top;
pub mod warm;

use std::collections::HashSet;
use std::fmt::Display;

use smallvec::SmallVec;

use crate::entry::{Etag, MAX_TAGS};
use crate::key::{MAX_NAME_BYTES, validate_name};
use crate::units::{self, UnitRule};
use crate::{Error, Result};

/// Some tags; few entries have more than eight.
pub type Tags<'a> = SmallVec<[&'a [u8]; 8]>;

/// The words of a command that are still to be read.
pub trait Words<'a>: ExactSizeIterator<Item = &'a [u8]> {
    /// The next word, which the grammar demands.
    fn need(&mut self) -> Result<&'a [u8]> {
        self.next().ok_or_else(|| Error::Syntax)
    }

    /// The next `count` words; all of them have to be there.
    fn need_some(&mut self, count: usize) -> Result<std::iter::Take<&mut Self>>
    where
        Self: Sized,
    {
        if count > self.len() { Err(Error::Syntax) } else { Ok(self.take(count)) }
    }
}

impl<'a, W: ExactSizeIterator<Item = &'a [u8]>> Words<'a> for W {}

/// No word of any command is longer.
const LONGEST_WORD: usize = 16;

/// Reads options until no word is left. `read` gets the word of each in upper case, or nothing if it is longer than any, and the
/// words behind it.
fn each_option<'a, W: Words<'a>>(
    words: &mut W,
    mut read: impl FnMut(&[u8], &'a [u8], &mut W) -> Result<()>,
) -> Result<()> {
    while let Some(word) = words.next() {
        read(upper(word, &mut [0; LONGEST_WORD]), word, words)?;
    }
    Ok(())
}

/// A word in upper case; nothing if it is longer than any.
fn upper<'b>(word: &[u8], buffer: &'b mut [u8; LONGEST_WORD]) -> &'b [u8] {
    let Some(place) = buffer.get_mut(..word.len()) else { return b"" };
    place.copy_from_slice(word);
    // All of it at once: that takes one step, and the bytes of a word one each.
    buffer.make_ascii_uppercase();
    buffer.get(..word.len()).unwrap_or_default()
}

/// Is it this word, in any case?
#[inline]
pub fn is(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

/// Fills a slot that nothing has filled yet: no option is given twice.
pub fn once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Syntax),
    }
}

/// A count or an amount.
pub fn number(word: &[u8]) -> Result<u64> {
    match units::parse_u64(word) {
        Ok(number) if number <= i64::MAX as u64 => Ok(number),
        _ => Err(Error::NotAnInteger),
    }
}

/// How many words follow.
fn count(word: &[u8]) -> Result<usize> {
    usize::try_from(number(word)?).map_err(|_| Error::NotAnInteger)
}

/// A duration of a request: a plain number is ms.
pub fn duration(word: &[u8]) -> Result<u64> {
    units::parse_duration_ms(word, UnitRule::Optional)
}

/// `count tag [tag …]` of an entry; a tag given twice counts once.
fn tags<'a>(words: &mut impl Words<'a>) -> Result<Tags<'a>> {
    let count = count(words.need()?)?;
    if count > MAX_TAGS {
        return Err(Error::invalid("an entry has at most 64 tags"));
    }
    let mut tags = Tags::new();
    for tag in words.need_some(count)? {
        validate_name("tag", tag)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// Tags and nothing else, as many as there are; one given twice counts once.
pub fn all_tags<'a>(words: impl Words<'a>) -> Result<Vec<&'a [u8]>> {
    all_names("tag", words)
}

/// Names of that kind and nothing else, as many as there are; one given twice counts once.
fn all_names<'a>(kind: &'static str, words: impl Words<'a>) -> Result<Vec<&'a [u8]>> {
    let mut known = HashSet::with_capacity(words.len());
    let mut names = words.map(|name| validate_name(kind, name).map(|()| name)).collect::<Result<Vec<_>>>()?;
    names.retain(|name| known.insert(*name));
    Ok(names)
}

/// The most bytes of a note.
pub const MOST_NOTE_BYTES: usize = 256;

/// Who or what is behind a command, for the record.
fn note<'a>(words: &mut impl Words<'a>) -> Result<&'a [u8]> {
    let note = words.need()?;
    if note.len() > MOST_NOTE_BYTES { Err(Error::invalid("a note has at most 256 bytes")) } else { Ok(note) }
}

/// A type's name.
pub fn type_name<'a>(words: &mut impl Words<'a>) -> Result<&'a [u8]> {
    let name = words.need()?;
    validate_name("type", name)?;
    Ok(name)
}

/// A format's name.
fn format_name<'a>(words: &mut impl Words<'a>) -> Result<&'a [u8]> {
    let name = words.need()?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(Error::invalid("a format must be 1 to 512 bytes"));
    }
    Ok(name)
}

/// An MD5 in hexadecimal; `None` if it is not one.
pub fn etag(text: &[u8]) -> Option<Etag> {
    let mut etag = Etag::default();
    hex::decode_to_slice(text, &mut etag).ok().map(|()| etag)
}

/// An MD5 as hexadecimal text.
pub fn etag_text(etag: Etag) -> [u8; 32] {
    let mut text = [0; 32];
    // Sixteen bytes fit 32 digits.
    let _ = hex::encode_to_slice(etag, &mut text);
    text
}

/// Takes the words that are written, one after the other.
pub type Writer<'w> = &'w mut dyn FnMut(&[u8]);

/// What was written, as words of its own.
pub fn words(write: impl FnOnce(Writer<'_>)) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    write(&mut |word| words.push(word.to_vec()));
    words
}

fn write_number(to: Writer<'_>, number: impl Display) {
    to(number.to_string().as_bytes());
}

/// A word that stands for itself.
fn write_word(to: Writer<'_>, word: &str, is_given: bool) {
    if is_given {
        to(word.as_bytes());
    }
}

/// A word and a text.
fn write_text(to: Writer<'_>, word: &str, text: Option<&[u8]>) {
    if let Some(text) = text {
        to(word.as_bytes());
        to(text);
    }
}

/// A word and a number.
fn write_amount(to: Writer<'_>, word: &str, amount: Option<impl Display>) {
    if let Some(amount) = amount {
        to(word.as_bytes());
        write_number(to, amount);
    }
}

/// A word, a count, and so many words.
fn write_counted<'a>(to: Writer<'_>, word: &str, items: impl ExactSizeIterator<Item = &'a [u8]>) {
    to(word.as_bytes());
    write_number(to, items.len());
    items.for_each(to);
}

/// What `SET` and `KEYFOR` have in common.
const FORMAT: syntax::Arg = syntax::with_text("FORMAT", "format").optional();
/// How many, of `SCAN`, `TAGS` and `TOP`.
const COUNT: syntax::Arg = syntax::with_integer("COUNT", "count").optional();
/// Of commands that are put on record.
const NOTE: syntax::Arg = syntax::with_text("NOTE", "note").optional();
/// Of one type only.
const TYPE_NAME: syntax::Arg = syntax::with_text("TYPE", "name").optional();
