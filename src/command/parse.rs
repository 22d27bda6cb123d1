//! Pieces of grammar that several commands share.

use expcache_core::entry::{Etag, MAX_NAME, MAX_TAGS};
use expcache_core::key::validate_name;
use expcache_core::units::{self, UnitRule};
use expcache_core::{Error, Result};
use smallvec::SmallVec;

use crate::server::context::{Arg, Args};

/// Some tags; few entries have more than eight.
pub type Tags<'a> = SmallVec<[&'a [u8]; 8]>;

/// Is this argument the word (in any case)?
pub fn is(arg: Arg<'_>, word: &str) -> bool {
    arg.bytes().eq_ignore_ascii_case(word.as_bytes())
}

/// No word of any command is longer.
pub const LONGEST_WORD: usize = 16;

/// An option's word in upper case; nothing if it is longer than any.
pub fn upper<'b>(word: Arg<'_>, buffer: &'b mut [u8; LONGEST_WORD]) -> &'b [u8] {
    let word = word.bytes();
    let Some(upper) = buffer.get_mut(..word.len()) else { return b"" };
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    upper
}

/// Fills a slot that nothing has filled yet: no option is given twice.
pub fn once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Syntax),
    }
}

/// A count or an amount.
pub fn number(arg: Arg<'_>) -> Result<u64> {
    units::parse_u64(arg.bytes())
        .map_err(|_| Error::NotAnInteger)
        .and_then(|number| if number > i64::MAX as u64 { Err(Error::NotAnInteger) } else { Ok(number) })
}

/// A duration of a request: a plain number is ms.
pub fn duration(arg: Arg<'_>) -> Result<u64> {
    units::parse_duration_ms(arg.bytes(), UnitRule::Optional)
}

/// `count tag [tag …]`; a tag given twice counts once.
pub fn tags<'a>(args: &mut Args<'a>) -> Result<Tags<'a>> {
    let count = usize::try_from(number(args.need()?)?).map_err(|_| Error::NotAnInteger)?;
    if count > MAX_TAGS {
        return Err(Error::invalid("an entry has at most 64 tags"));
    }
    distinct_tags(args.split_off(count)?)
}

/// Tags, each once.
pub fn distinct_tags<'a>(args: Args<'a>) -> Result<Tags<'a>> {
    let mut tags = Tags::new();
    for tag in args.map(Arg::bytes) {
        validate_name("tag", tag)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// A type's name.
pub fn type_name<'a>(args: &mut Args<'a>) -> Result<&'a [u8]> {
    let name = args.need()?.bytes();
    validate_name("type", name)?;
    Ok(name)
}

/// A format's name.
pub fn format_name<'a>(args: &mut Args<'a>) -> Result<&'a [u8]> {
    let name = args.need()?.bytes();
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::invalid("a format must be 1 to 512 bytes"));
    }
    Ok(name)
}

/// An MD5 in hexadecimal; `None` if it is not one.
pub fn etag(text: &[u8]) -> Option<Etag> {
    let mut etag = Etag::default();
    let digits = text.as_chunks::<2>();
    if text.len() != 2 * etag.len() || !digits.1.is_empty() {
        return None;
    }
    for (byte, pair) in etag.iter_mut().zip(digits.0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(etag)
}

/// An MD5 as hexadecimal text.
pub fn etag_text(etag: Etag) -> [u8; 32] {
    let mut text = [0; 32];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(etag) {
        *pair = [byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    text
}
