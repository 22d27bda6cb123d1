//! Names: deriving a key from parameters, and reading the type out of a key.
//!
//! A derived key is `<prefix>:<type>:<md5>`, the MD5 being that of the parameters as canonical JSON (RFC 8785). The point
//! of it: the same parameters give the same key, whoever asks, in whatever order and spelling (`1.0` or `1`), and
//! different parameters give a different one. So whatever would make two meanings collapse into one text is refused
//! rather than guessed (I-JSON, RFC 7493): an object with a member twice, and an integer that a double cannot hold.
//! A decimal means the double nearest to it.

use std::fmt;

use md5::{Digest, Md5};
use memchr::{memchr_iter, memrchr, memrchr_iter};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::units::excerpt;
use crate::{Error, Result};

/// The largest JSON that a request may carry, in `FILTERS` or in `META`.
pub const MAX_JSON_BYTES: usize = 64 * 1024;

/// The longest name of a type or tag.
pub const MAX_NAME_BYTES: usize = 512;

/// The parameters that a key is derived from. Their order means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRequest<'a> {
    /// The entry's type; it stands in the key itself.
    pub type_name: &'a [u8],
    /// The format of the payload, such as `csv`.
    pub format: Option<&'a [u8]>,
    /// Any JSON value.
    pub filters: Option<&'a [u8]>,
    /// Whose data it is.
    pub company: Option<&'a [u8]>,
    /// Who asks.
    pub user: Option<&'a [u8]>,
    /// The project it belongs to.
    pub project: Option<&'a [u8]>,
    /// Further parameters by name.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
    /// Cluster hash tag: keys with the same text live in the same slot.
    pub hashtag: Option<&'a [u8]>,
}

/// Derives the key of a request: `<prefix>:<type>:<md5>`, with a hash tag `<prefix>:<type>:{text}:<md5>`.
pub fn derive_key(prefix: &[u8], request: &KeyRequest<'_>) -> Result<Vec<u8>> {
    validate_name("type", request.type_name)?;
    validate_hashtag(prefix, request)?;
    let digest = md5_hex(&canonical_json(request)?);

    let mut key = [prefix, request.type_name].join(&b':');
    if let Some(text) = request.hashtag {
        key.extend([b":{", text, b"}"].concat());
    }
    key.push(b':');
    key.extend(digest);
    Ok(key)
}

/// The types that a key's name can stand for: `t` in `<prefix>:<t>:…`, then `t` in `<t>:…`, the longest first in each. The
/// first that is defined is meant. None that is asked for has more than `most_colons` colons in it.
pub fn types_in_key<'a>(prefix: &[u8], key: &'a [u8], most_colons: usize) -> impl Iterator<Item = &'a [u8]> {
    let derived = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(b":")).unwrap_or_default();
    // A hash tag stands behind the type, and is no part of it.
    let tag = memchr_iter(b':', derived).find(|at| derived.get(at + 1) == Some(&b'{'));
    let derived = tag.and_then(|at| derived.get(..=at)).unwrap_or(derived);
    beginnings(derived, most_colons).chain(beginnings(key, most_colons))
}

/// What stands before each of the first colons, the longest first.
fn beginnings(name: &[u8], most_colons: usize) -> impl Iterator<Item = &[u8]> {
    let name = name.get(..=MAX_NAME_BYTES).unwrap_or(name);
    let last = memchr_iter(b':', name).nth(most_colons).or_else(|| memrchr(b':', name));
    let cut = name.get(..last.map_or(0, |at| at + 1)).unwrap_or_default();
    memrchr_iter(b':', cut).filter_map(|at| cut.get(..at)).filter(|part| !part.is_empty())
}

/// Lower-case hex of the payload's MD5: an entry's etag.
pub fn md5_hex(payload: &[u8]) -> [u8; 32] {
    let mut text = [0; 32];
    #[expect(clippy::expect_used, reason = "sixteen bytes are thirty-two digits, whatever the payload")]
    hex::encode_to_slice(Md5::digest(payload), &mut text).expect("room for the digest");
    text
}

/// Refuses a name that is not 1 to 512 bytes; `what` is `tag` or `type`.
pub fn validate_name(what: &'static str, name: &[u8]) -> Result<()> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(()),
        _ => Err(Error::invalid(format!("a {what} must be 1 to {MAX_NAME_BYTES} bytes"))),
    }
}

/// Refuses metadata that is not a JSON object of at most 64 KiB. It is kept as it was given, so only its form matters:
/// nothing is built from it.
pub fn validate_meta(json: &[u8]) -> Result<()> {
    let text = json_text("META", json)?;
    let IgnoredAny = serde_json::from_str(text).map_err(|error| not_json("META", &error))?;
    match text.trim_ascii_start().starts_with('{') {
        true => Ok(()),
        false => Err(Error::invalid("META must be a JSON object")),
    }
}

/// A hash tag must decide the slot, and two requests must not meet in one key: the type `a:{b}` would look like the type
/// `a` with the hash tag `b`.
fn validate_hashtag(prefix: &[u8], request: &KeyRequest<'_>) -> Result<()> {
    let type_name = request.type_name;
    let refused = match request.hashtag {
        None if type_name.windows(2).any(|pair| pair == b":{") => {
            "a type with ':{' in it cannot be part of a derived key"
        }
        Some(text) if text.is_empty() || text.contains(&b'}') => "HASHTAG must not be empty and not contain '}'",
        Some(_) if prefix.contains(&b'{') || type_name.contains(&b'{') => {
            "HASHTAG has no effect after a prefix or type with '{' in it"
        }
        _ => return Ok(()),
    };
    Err(Error::invalid(refused))
}

/// The members that were given, and only those, as RFC 8785 writes them.
fn canonical_json(request: &KeyRequest<'_>) -> Result<Vec<u8>> {
    let mut members = Map::new();
    let texts = [
        ("company", "COMPANY", request.company),
        ("format", "FORMAT", request.format),
        ("project", "PROJECT", request.project),
        ("user", "USER", request.user),
    ];
    for (member, option, given) in texts {
        if let Some(text) = given {
            members.insert(member.to_owned(), utf8(option, text)?.into());
        }
    }
    if !request.fields.is_empty() {
        members.insert("fields".to_owned(), fields_object(&request.fields)?);
    }
    if let Some(json) = request.filters {
        members.insert("filters".to_owned(), parse_filters(json)?);
    }
    serde_json_canonicalizer::to_vec(&Value::Object(members)).map_err(|error| Error::invalid(error.to_string()))
}

fn fields_object(fields: &[(&[u8], &[u8])]) -> Result<Value> {
    let mut object = Map::new();
    for (name, value) in fields {
        let value = utf8("FIELD", value)?.into();
        if object.insert(utf8("FIELD", name)?.to_owned(), value).is_some() {
            return Err(Error::invalid(format!("FIELD '{}' is given twice", excerpt(name))));
        }
    }
    Ok(Value::Object(object))
}

fn parse_filters(json: &[u8]) -> Result<Value> {
    let text = json_text("FILTERS", json)?;
    let UnambiguousJson(value) = serde_json::from_str(text).map_err(|error| not_json("FILTERS", &error))?;
    match number_tokens(text).find(|token| is_inexact_integer(token)) {
        None => Ok(value),
        Some(token) => Err(Error::invalid(format!(
            "FILTERS has the integer {}, which a double cannot hold: write it as a string",
            excerpt(token.as_bytes())
        ))),
    }
}

/// Every number in a valid JSON text, as it was written. The parser cannot be asked for that: it makes a double of an
/// integer beyond 64 bits without a word.
fn number_tokens(json: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let outside = move |c: char| {
        let was_quoted = quoted;
        // A backslash, and so an escaped quote, only stands inside a string.
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        was_quoted || !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')
    };
    json.split(outside).filter(|token| token.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
}

/// An integer is held exactly when the double nearest to it, written out in full, is that integer again. One may be written
/// with a fraction of nothing; past the doubles that have fractions, one with any other is not held either. (An exponent
/// says that a double is meant.)
fn is_inexact_integer(token: &str) -> bool {
    const ALWAYS_EXACT_DIGITS: usize = 15;
    const ALL_INTEGERS_FROM: f64 = (1_u64 << 53) as f64;
    if token.len() <= ALWAYS_EXACT_DIGITS || token.contains(['e', 'E']) {
        return false;
    }
    let (integer, fraction) = token.split_once('.').unwrap_or((token, ""));
    let Ok(double) = token.parse::<f64>() else { return true };
    match fraction.trim_end_matches('0') {
        "" => format!("{double:.0}") != integer,
        _ => double.abs() >= ALL_INTEGERS_FROM,
    }
}

fn utf8<'a>(option: &str, text: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(text).map_err(|_| Error::invalid(format!("{option} must be UTF-8")))
}

fn json_text<'a>(option: &str, json: &'a [u8]) -> Result<&'a str> {
    if json.len() > MAX_JSON_BYTES {
        return Err(Error::invalid(format!("{option} must be at most {} KiB", MAX_JSON_BYTES / 1024)));
    }
    utf8(option, json)
}

fn not_json(option: &str, error: &serde_json::Error) -> Error {
    Error::invalid(format!("{option} must be valid JSON: {error}"))
}

/// A JSON value in which no object has a member twice. (Depth is bounded by the parser.)
struct UnambiguousJson(Value);

impl<'de> Deserialize<'de> for UnambiguousJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(UnambiguousVisitor).map(Self)
    }
}

struct UnambiguousVisitor;

impl<'de> Visitor<'de> for UnambiguousVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(UnambiguousJson(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, UnambiguousJson(value))) = members.next_entry::<String, _>()? {
            if object.contains_key(&name) {
                let name = excerpt(name.as_bytes());
                return Err(A::Error::custom(format_args!("member '{name}' is given twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests;
