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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;
    use std::collections::HashMap;

    fn filters(json: &str) -> KeyRequest<'_> {
        KeyRequest { type_name: b"trips", filters: Some(json.as_bytes()), ..KeyRequest::default() }
    }

    fn canonical(request: &KeyRequest<'_>) -> String {
        String::from_utf8(canonical_json(request).unwrap()).unwrap()
    }

    fn canonical_filters(json: &str) -> String {
        let text = canonical(&filters(json));
        let inner = text.strip_prefix("{\"filters\":");
        inner.unwrap().strip_suffix('}').unwrap().to_owned()
    }

    fn key(request: &KeyRequest<'_>) -> String {
        String::from_utf8(derive_key(b"export_cache", request).unwrap()).unwrap()
    }

    fn refusal<T: fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().reply().into_owned()
    }

    #[test]
    fn a_key_by_heart() {
        // Each digest can be had with `printf '%s' '<the JSON>' | md5sum`.
        let all = KeyRequest {
            type_name: b"trips",
            format: Some(b"csv"),
            filters: Some(br#"{"to": 2.50, "from": [1, true, null]}"#),
            company: Some(b"42"),
            user: Some(b"7"),
            project: Some("\u{20ac}".as_bytes()),
            fields: vec![(b"zone", b"b"), (b"area", b"a")],
            hashtag: None,
        };
        assert_eq!(
            canonical(&all),
            concat!(
                r#"{"company":"42","fields":{"area":"a","zone":"b"},"#,
                r#""filters":{"from":[1,true,null],"to":2.5},"#,
                "\"format\":\"csv\",\"project\":\"\u{20ac}\",\"user\":\"7\"}"
            )
        );
        let nothing = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
        assert_eq!(canonical(&nothing), "{}");

        let tagged = KeyRequest { hashtag: Some(b"acme:42"), ..all.clone() };
        let cases = [
            (&nothing, "export_cache:trips:99914b932bd37a50b983c5e7c90ae93b"),
            (&all, "export_cache:trips:fbc97fbb95f179c3477a21cbb48c4066"),
            (&tagged, "export_cache:trips:{acme:42}:fbc97fbb95f179c3477a21cbb48c4066"),
        ];
        for (request, expected) in cases {
            assert_eq!(key(request), expected);
        }
        assert_eq!(derive_key(b"p:q", &nothing).unwrap(), b"p:q:trips:99914b932bd37a50b983c5e7c90ae93b");
    }

    #[test]
    fn types_and_hash_tags_are_any_bytes() {
        let request = KeyRequest { type_name: b"\0\xff", hashtag: Some(b"\xfe"), ..KeyRequest::default() };
        let key = derive_key(b"\xfd", &request).unwrap();
        assert!(key.starts_with(b"\xfd:\0\xff:{\xfe}:"));
    }

    #[test]
    fn rfc_8785_numbers() {
        let samples: [(u64, &str); 24] = [
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x8000000000000001, "-5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0xffefffffffffffff, "-1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0xc340000000000000, "-9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555554, "333333333.33333325"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0x41b3de4355555556, "333333333.3333334"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ];
        for (bits, expected) in samples {
            let number = f64::from_bits(bits);
            // The shortest spelling that means this double, and one with far more digits than it needs.
            for written in [format!("{number:e}"), format!("{number:.800e}")] {
                assert_eq!(canonical_filters(&written), expected, "{written}");
            }
        }
    }

    #[test]
    fn rfc_8785_text() {
        let sample = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = concat!(
            r#"{"literals":[null,true,false],"#,
            r#""numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            "\"string\":\"\u{20ac}",
            r#"$\u000f\nA'B\"\\\\\"/"}"#,
        );
        assert_eq!(canonical_filters(sample), expected);
    }

    #[test]
    fn rfc_8785_sorting() {
        let sample = r#"{
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\ud83d\ude00": "Emoji: Grinning Face",
            "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis"
        }"#;
        let expected = concat!(
            r#"{"\r":"Carriage Return","1":"One","#,
            "\"\u{80}\":\"Control\",",
            "\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",",
            "\"\u{20ac}\":\"Euro Sign\",",
            "\"\u{1f600}\":\"Emoji: Grinning Face\",",
            "\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        );
        assert_eq!(canonical_filters(sample), expected);
    }

    #[test]
    fn the_same_parameters_give_the_same_key() {
        let spellings = [
            [r#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#, r#" { "b" : {"d":"\u0078","c":[1.0,2e0]} , "a" : 10e-1 } "#],
            [r#"0.1"#, r#"0.10000000000000000001"#],
            [r#"-0"#, r#"0"#],
            [r#"1e21"#, r#"1000000000000000000000"#],
            [r#""\u00e9""#, "\"\u{e9}\""],
        ];
        for [one, other] in spellings {
            assert_eq!(key(&filters(one)), key(&filters(other)), "{one} {other}");
        }

        let fields: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")];
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let keys = orders.map(|order| {
            key(&KeyRequest {
                type_name: b"trips",
                fields: order.map(|place| fields[place]).to_vec(),
                ..KeyRequest::default()
            })
        });
        assert!(keys.iter().all(|other| other == &keys[0]));
    }

    #[test]
    fn different_parameters_give_different_keys() {
        let base = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
        let with = |change: fn(&mut KeyRequest<'static>)| {
            let mut request = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
            change(&mut request);
            request
        };
        let mut requests = vec![
            base,
            with(|r| r.type_name = b"Trips"),
            with(|r| r.type_name = b"trips:"),
            with(|r| r.format = Some(b"csv")),
            with(|r| r.format = Some(b"CSV")),
            with(|r| r.format = Some(b"")),
            with(|r| r.company = Some(b"csv")),
            with(|r| r.user = Some(b"csv")),
            with(|r| r.project = Some(b"csv")),
            with(|r| r.filters = Some(b"\"csv\"")),
            with(|r| r.fields = vec![(b"format", b"csv")]),
            with(|r| r.fields = vec![(b"csv", b"format")]),
            with(|r| r.fields = vec![(b"", b"")]),
            with(|r| r.fields = vec![(b"a", b"1"), (b"b", b"2")]),
            with(|r| r.fields = vec![(b"a", b"2"), (b"b", b"1")]),
            with(|r| r.fields = vec![(b"a\":\"1\",\"b", b"2")]),
            with(|r| r.filters = Some(br#"{"a":"1","b":"2"}"#)),
            with(|r| r.hashtag = Some(b"csv")),
            with(|r| r.hashtag = Some(b"x:{y")),
        ];
        let json = [
            "null",
            "true",
            "false",
            "0",
            "1",
            "0.1",
            "\"1\"",
            "\"\"",
            "[]",
            "{}",
            "[[]]",
            "[1,2]",
            "[2,1]",
            "[12]",
            "[1,\"2\"]",
            "{\"a\":null}",
            "{\"\":null}",
            "{\"a\":{\"b\":1}}",
            "{\"a\":1,\"b\":1}",
            "9007199254740991",
            "9007199254740992",
            "9007199254740994",
            "18446744073709551616.0",
            "0.30000000000000004",
            "0.3",
            "\"e\u{301}\"",
            "\"\u{e9}\"",
        ];
        requests.extend(json.map(filters));

        let mut seen = HashMap::new();
        for request in &requests {
            if let Some(other) = seen.insert(key(request), request) {
                panic!("{request:?} and {other:?} have the same key");
            }
        }
    }

    #[test]
    fn integers_must_fit_a_double() {
        let cases = [
            ("9007199254740991", true),
            ("9007199254740992", true),
            ("9007199254740993", false),
            ("-9007199254740993", false),
            ("9007199254740994", true),
            ("9223372036854775807", false),
            ("9223372036854775808", true),
            ("-9223372036854775808", true),
            ("-9223372036854775809", false),
            ("18446744073709551615", false),
            ("18446744073709551616", true),
            ("18446744073709551617", false),
            ("10000000000000000000000", true),
            ("100000000000000000000000", false),
            // However it is written.
            ("9007199254740993.0", false),
            ("9007199254740993.000", false),
            ("[-9007199254740993.0]", false),
            ("9007199254740992.0", true),
            ("9007199254740994.00", true),
            ("9007199254740993.5", false),
            ("9007199254740992.5", false),
            ("4503599627370497.5", true),
            ("123456789012345.0625", true),
            ("-0.00000000000000000", true),
            ("0.10000000000000000555", true),
            // An exponent says that a double is meant.
            ("1e23", true),
            ("2.9514790517935283e+20", true),
            // Not a number.
            (r#""9007199254740993""#, true),
            (r#""\"9007199254740993""#, true),
            (r#"{"9007199254740993":"9007199254740993"}"#, true),
            // Anywhere.
            (r#"{"a":[1,{"b":9007199254740993}]}"#, false),
            (r#"["\\",9007199254740993]"#, false),
            (r#"["\\\"",9007199254740993,"\""]"#, false),
        ];
        for (json, accepted) in cases {
            assert_eq!(derive_key(b"p", &filters(json)).is_ok(), accepted, "{json}");
        }
        assert_eq!(
            refusal(derive_key(b"p", &filters("[18446744073709551617]"))),
            "ERR FILTERS has the integer 18446744073709551617, which a double cannot hold: write it as a string"
        );
        let endless = "9".repeat(MAX_JSON_BYTES);
        assert!(derive_key(b"p", &filters(&endless)).is_err());
    }

    #[test]
    fn number_tokens_are_as_written() {
        let json = r#"{"1":-2.5e+3,"a\"4":[true,0,"5\\"],"e":{"f":false,"g":[[1E5],7]},"h":null}"#;
        let tokens: Vec<_> = number_tokens(json).collect();
        assert_eq!(tokens, ["-2.5e+3", "0", "1E5", "7"]);
    }

    #[test]
    fn ambiguous_or_malformed_filters_are_refused() {
        let long = format!("\"{}\"", "x".repeat(MAX_JSON_BYTES - 1));
        let deep = "[".repeat(200) + &"]".repeat(200);
        let cases: [(&str, &[u8]); 20] = [
            ("member 'a' is given twice", br#"{"a":1,"a":1}"#),
            ("member 'a' is given twice", br#"{"a":1,"\u0061":2}"#),
            ("member 'b' is given twice", br#"[{"a":{"b":1,"c":2,"b":3}}]"#),
            ("member '\u{fffd}' is given twice", br#"{"\r":1,"\r":2}"#),
            ("valid JSON", b""),
            ("valid JSON", b"{"),
            ("valid JSON", b"{} {}"),
            ("valid JSON", b"{'a':1}"),
            ("valid JSON", b"[1,]"),
            ("valid JSON", b"01"),
            ("valid JSON", b"NaN"),
            ("valid JSON", b"1e400"),
            ("valid JSON", b"\"\\ud800\""),
            ("valid JSON", b"\"\x01\""),
            ("valid JSON", "\u{feff}{}".as_bytes()),
            ("valid JSON", b"null\0"),
            ("UTF-8", b"\"\xff\""),
            ("UTF-8", b"\xff"),
            ("recursion limit", deep.as_bytes()),
            ("at most 64 KiB", long.as_bytes()),
        ];
        for (expected, json) in cases {
            let request = KeyRequest { type_name: b"trips", filters: Some(json), ..KeyRequest::default() };
            let reply = refusal(derive_key(b"p", &request));
            assert!(reply.starts_with("ERR FILTERS "), "{reply}");
            assert!(reply.contains(expected), "{reply}");
            assert!(reply.len() < 200 && !reply.contains(['\r', '\n']), "{reply}");
        }
        let longest = format!("\"{}\"", "x".repeat(MAX_JSON_BYTES - 2));
        assert!(derive_key(b"p", &filters(&longest)).is_ok());
        let deepest = "[".repeat(127) + &"]".repeat(127);
        assert!(derive_key(b"p", &filters(&deepest)).is_ok());
    }

    #[test]
    fn other_parameters_that_are_refused() {
        let long = [b'x'; MAX_NAME_BYTES + 1];
        let request = |change: &dyn Fn(&mut KeyRequest<'static>)| {
            let mut request = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
            change(&mut request);
            refusal(derive_key(b"p", &request))
        };
        let cases = [
            (request(&|r| r.type_name = b""), "ERR a type must be 1 to 512 bytes"),
            (request(&|r| r.company = Some(b"\xff")), "ERR COMPANY must be UTF-8"),
            (request(&|r| r.format = Some(b"\xff")), "ERR FORMAT must be UTF-8"),
            (request(&|r| r.fields = vec![(b"a", b"\xff")]), "ERR FIELD must be UTF-8"),
            (request(&|r| r.fields = vec![(b"\xff", b"a")]), "ERR FIELD must be UTF-8"),
            (request(&|r| r.fields = vec![(b"a", b"1"), (b"b", b"1"), (b"a", b"1")]), "ERR FIELD 'a' is given twice"),
            (request(&|r| r.hashtag = Some(b"")), "ERR HASHTAG must not be empty and not contain '}'"),
            (request(&|r| r.hashtag = Some(b"a}b")), "ERR HASHTAG must not be empty and not contain '}'"),
            (request(&|r| r.type_name = b"a:{b}"), "ERR a type with ':{' in it cannot be part of a derived key"),
            (
                request(&|r| {
                    r.type_name = b"{a";
                    r.hashtag = Some(b"b");
                }),
                "ERR HASHTAG has no effect after a prefix or type with '{' in it",
            ),
        ];
        for (reply, expected) in cases {
            assert_eq!(reply, expected);
        }

        let too_long = KeyRequest { type_name: &long, ..KeyRequest::default() };
        assert!(derive_key(b"p", &too_long).is_err());
        let fixed_slot = KeyRequest { type_name: b"trips", hashtag: Some(b"b"), ..KeyRequest::default() };
        assert!(derive_key(b"{p}", &fixed_slot).is_err());
    }

    #[test]
    fn types_by_key_name() {
        type Case = (&'static [u8], &'static [u8], usize, &'static [&'static [u8]]);
        let cases: [Case; 16] = [
            (b"p", b"p:trips:1", 0, &[b"trips", b"p"]),
            (b"p", b"p:trips:{a}:1", 0, &[b"trips", b"p"]),
            (b"p", b"p:trips", 0, &[b"p"]),
            (b"p", b"p::x", 0, &[b"p"]),
            (b"p", b"trips:1", 0, &[b"trips"]),
            (b"p", b"pp:trips:1", 0, &[b"pp"]),
            (b"p", b"trips", 0, &[]),
            (b"p", b":trips:1", 0, &[]),
            (b"p", b"", 9, &[]),
            (b"a:b", b"a:b:trips:1", 0, &[b"trips", b"a"]),
            (b"", b":trips:1", 0, &[b"trips"]),
            (b"\xff", b"\xff:\0:", 0, &[b"\0", b"\xff"]),
            // A name may have colons, and the longest is meant.
            (b"p", b"p:a:b:1", 1, &[b"a:b", b"a", b"p:a", b"p"]),
            (b"p", b"p:a:b:1", 9, &[b"a:b", b"a", b"p:a:b", b"p:a", b"p"]),
            // A hash tag is no part of it.
            (b"p", b"p:a:b:{c:d}:1", 9, &[b"a:b", b"a", b"p:a:b:{c:d}", b"p:a:b:{c", b"p:a:b", b"p:a", b"p"]),
            (b"p", b"::a:", 9, &[b"::a", b":"]),
        ];
        for (prefix, key, most_colons, expected) in cases {
            assert_eq!(types_in_key(prefix, key, most_colons).collect::<Vec<_>>(), expected, "{key:?} {most_colons}");
        }
    }

    /// Whatever type a key was derived for is the first one read off it, and another that is defined too changes nothing.
    #[test]
    fn the_type_of_a_derived_key_is_read_back() {
        let types: [&[u8]; 6] = [b"a", b"a:b", b"a:b:c", b":", b"a:", b"\xff:\0"];
        let tags: [Option<&[u8]>; 4] = [None, Some(b"x"), Some(b"x:y"), Some(b"{:")];
        for (type_name, hashtag) in types.iter().flat_map(|name| tags.map(|tag| (*name, tag))) {
            let request = KeyRequest { type_name, hashtag, ..KeyRequest::default() };
            let key = derive_key(b"p", &request).unwrap();
            let read = types_in_key(b"p", &key, 9).find(|name| types.contains(name));
            assert_eq!(read, Some(type_name), "{type_name:?} {hashtag:?}");
        }
    }

    #[test]
    fn md5_in_hex() {
        let cases: [(&[u8], &str); 3] = [
            (b"", "d41d8cd98f00b204e9800998ecf8427e"),
            (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
            (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ];
        for (payload, expected) in cases {
            assert_eq!(md5_hex(payload), expected.as_bytes());
        }
    }

    #[test]
    fn names() {
        let long = [b'x'; MAX_NAME_BYTES + 1];
        assert_eq!(validate_name("tag", b"\0"), Ok(()));
        assert_eq!(validate_name("tag", &long[1..]), Ok(()));
        for name in [&b""[..], &long] {
            let reply = refusal(validate_name("tag", name));
            assert_eq!(reply, "ERR a tag must be 1 to 512 bytes");
        }
    }

    #[test]
    fn metadata() {
        let longest = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_JSON_BYTES - 8));
        let deep = "{\"a\":".repeat(9000) + "1" + &"}".repeat(9000);
        let good = [
            "{}",
            " \t\r\n{} ",
            r#"{"a":[1,{"b":null}],"c":"\u20ac"}"#,
            r#"{"a":1,"a":18446744073709551617}"#,
            &longest,
            &deep,
        ];
        for json in good {
            assert_eq!(validate_meta(json.as_bytes()), Ok(()));
        }

        let too_long = longest.clone() + " ";
        let text = format!("\"{}\"", "x".repeat(1000));
        let bad: [(&[u8], &str); 12] = [
            (b"", "valid JSON"),
            (b"[]", "a JSON object"),
            (b"null", "a JSON object"),
            (b"1", "a JSON object"),
            (text.as_bytes(), "a JSON object"),
            (b"{", "valid JSON"),
            (b"{}x", "valid JSON"),
            (b"{}{}", "valid JSON"),
            (b"\x0c{}", "valid JSON"),
            (b"{\"a\":}", "valid JSON"),
            (b"{\"a\":\"\xff\"}", "UTF-8"),
            (too_long.as_bytes(), "at most 64 KiB"),
        ];
        for (json, expected) in bad {
            let reply = refusal(validate_meta(json));
            assert!(reply.starts_with("ERR META must be "), "{reply}");
            assert!(reply.contains(expected) && reply.len() < 200, "{reply}");
        }
    }
}
