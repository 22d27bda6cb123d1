//! Pieces of grammar that several commands share.

use std::collections::HashSet;

use expcache_core::entry::{Etag, MAX_TAGS};
use expcache_core::key::{MAX_NAME_BYTES, validate_name};
use expcache_core::lease::Token;
use expcache_core::units::{self, UnitRule};
use expcache_core::{Error, Result};
use smallvec::SmallVec;

use crate::server::args::{Arg, Args};

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

/// How long a lease lasts.
pub fn lease_duration(arg: Arg<'_>) -> Result<u64> {
    match duration(arg)? {
        0 => Err(Error::invalid("a lease must last longer than nothing")),
        duration_ms => Ok(duration_ms),
    }
}

/// A token of the caller's own making.
pub fn own_token(arg: Arg<'_>) -> Result<Token> {
    Token::parse(arg.bytes()).ok_or(Error::invalid("a lease's token must be 16 to 64 bytes"))
}

/// `count tag [tag …]`; a tag given twice counts once.
pub fn tags<'a>(args: &mut Args<'a>) -> Result<Tags<'a>> {
    let count = usize::try_from(number(args.need()?)?).map_err(|_| Error::NotAnInteger)?;
    if count > MAX_TAGS {
        return Err(Error::invalid("an entry has at most 64 tags"));
    }
    let mut tags = Tags::new();
    for tag in args.split_off(count)?.map(Arg::bytes) {
        validate_name("tag", tag)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// Tags and nothing else, as many as there are; one given twice counts once.
pub fn all_tags<'a>(args: Args<'a>) -> Result<Vec<&'a [u8]>> {
    let mut known = HashSet::with_capacity(args.len());
    let mut tags =
        args.map(Arg::bytes).map(|tag| validate_name("tag", tag).map(|()| tag)).collect::<Result<Vec<_>>>()?;
    tags.retain(|tag| known.insert(*tag));
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
