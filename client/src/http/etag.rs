//! Entity tags: a strong one for each representation ([RFC 9110, 8.8.3]).
//!
//! The payload's is `"<md5>"`, that of its zstd `"<md5>-zstd"`. So what a client names in `If-None-Match` or `If-Range` tells
//! the version and the coding that it has.
//!
//! [RFC 9110, 8.8.3]: https://www.rfc-editor.org/rfc/rfc9110#section-8.8.3

#[cfg(feature = "http")]
use expcache_core::codec::Encoding;

/// How long an MD5 is in hexadecimal.
#[cfg(feature = "http")]
const MD5_DIGITS: usize = 32;

/// Without its quotes.
#[cfg(feature = "http")]
pub(super) fn of(md5: &str, encoding: Encoding) -> String {
    match encoding {
        Encoding::Identity => md5.to_owned(),
        other => format!("{md5}-{}", other.name()),
    }
}

/// The version and coding that one of our tags names.
#[cfg(feature = "http")]
pub(super) fn parse(tag: &str) -> Option<(&str, Encoding)> {
    let (md5, encoding) = match tag.split_once('-') {
        Some((md5, name)) => (md5, Encoding::parse(name.as_bytes()).filter(|found| *found != Encoding::Identity)?),
        None => (tag, Encoding::Identity),
    };
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (md5.len() == MD5_DIGITS && md5.bytes().all(digit)).then_some((md5, encoding))
}

/// What `If-None-Match` lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Listed {
    /// There is no such header, or it is none.
    #[default]
    Nothing,
    /// `*`.
    Any,
    /// The tags, without `W/` and quotes: they are compared weakly.
    These(Vec<String>),
}

impl Listed {
    pub(super) fn parse(value: &str) -> Self {
        if value.trim() == "*" {
            return Self::Any;
        }
        let (mut tags, mut rest) = (Vec::new(), value);
        while let Some((tag, after)) = next(rest) {
            tags.push(tag.to_owned());
            rest = after;
        }
        if tags.is_empty() { Self::Nothing } else { Self::These(tags) }
    }
}

/// The next tag of a list, and what comes after it. A tag may contain commas.
fn next(list: &str) -> Option<(&str, &str)> {
    let list = list.trim_start_matches([' ', '\t', ',']);
    list.strip_prefix("W/").unwrap_or(list).strip_prefix('"')?.split_once('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "http")]
    const MD5: &str = "6c1abef29d8c78fb8e696f94546a3918";

    #[cfg(feature = "http")]
    #[test]
    fn a_tag_for_each_coding() {
        for encoding in Encoding::ALL {
            assert_eq!(parse(&of(MD5, encoding)), Some((MD5, encoding)));
        }
        for other in ["", "other", &MD5[1..], &MD5.to_uppercase(), &format!("{MD5}-br"), &format!("{MD5}-identity")] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn lists() {
        let these = |tags: &[&str]| Listed::These(tags.iter().map(ToString::to_string).collect());
        for (value, expected) in [
            ("*", Listed::Any),
            (" * ", Listed::Any),
            ("", Listed::Nothing),
            ("a", Listed::Nothing),
            ("\"a", Listed::Nothing),
            ("\"a\"", these(&["a"])),
            ("W/\"a\"", these(&["a"])),
            ("\"\"", these(&[""])),
            ("\"*\"", these(&["*"])),
            (", \"a\" ,,W/\"b\"\t,\"c\"", these(&["a", "b", "c"])),
            ("\"a,b\", \"c\"", these(&["a,b", "c"])),
        ] {
            assert_eq!(Listed::parse(value), expected, "{value}");
        }
    }
}
