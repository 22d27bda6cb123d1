//! Texts with names in braces: `user:{id}`. `{{` and `}}` are braces.

use crate::key::MAX_NAME_BYTES;
use crate::{Error, Result};

/// A part of such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// It stands for itself.
    Byte(u8),
    /// Something else stands in its place.
    Name(&'a [u8]),
}

/// Takes a text apart.
pub(super) fn parts(mut text: &[u8]) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let (part, rest) = match (first, rest) {
            (b'{', [b'{', rest @ ..]) | (b'}', [b'}', rest @ ..]) => (Part::Byte(*first), rest),
            (b'{', _) => name(rest)?,
            (b'}', _) => return Err(Error::invalid("a closing brace by itself is to be doubled")),
            _ => (Part::Byte(*first), rest),
        };
        parts.push(part);
        text = rest;
    }
    Ok(parts)
}

/// The name that the text begins with, and what follows the brace that ends it.
fn name(text: &[u8]) -> Result<(Part<'_>, &[u8])> {
    let end = text.iter().position(|byte| b"{}".contains(byte)).filter(|end| text.get(*end) == Some(&b'}'));
    let (name, rest) = end
        .and_then(|end| text.split_at_checked(end))
        .ok_or(Error::invalid("an opening brace begins a name that a closing one ends, or is to be doubled"))?;
    match name.len() {
        1..=MAX_NAME_BYTES => Ok((Part::Name(name), rest.get(1..).unwrap_or_default())),
        _ => Err(Error::invalid("a name in braces must be 1 to 512 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in angle brackets, or nothing.
    fn shown(text: &str) -> Option<String> {
        let one = |part: &Part<'_>| match part {
            Part::Byte(byte) => char::from(*byte).to_string(),
            Part::Name(name) => format!("<{}>", String::from_utf8_lossy(name)),
        };
        Some(parts(text.as_bytes()).ok()?.iter().map(one).collect())
    }

    #[test]
    fn braces_hold_a_name_or_are_doubled() {
        for (text, expected) in [
            ("", Some("")),
            ("a", Some("a")),
            ("{a}", Some("<a>")),
            ("{{", Some("{")),
            ("}}", Some("}")),
            ("{{a}}", Some("{a}")),
            ("cart:{{{id}}}", Some("cart:{<id>}")),
            ("{a}}}", Some("<a>}")),
            ("{a b}-{c}", Some("<a b>-<c>")),
            ("{{{{a", Some("{{a")),
            ("{", None),
            ("}", None),
            ("{}", None),
            ("{a", None),
            ("a}", None),
            ("{a}}", None),
            ("{a{b}}", None),
            ("{{{", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_have_a_length() {
        let named = |len: usize| parts(["{", &"n".repeat(len), "}"].concat().as_bytes()).is_ok();
        assert!(named(1) && named(512) && !named(513));
    }
}
