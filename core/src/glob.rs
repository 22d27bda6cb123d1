//! The server's pattern language, as `KEYS` and `SCAN` know it, compiled once and matched without ever going astray.
//!
//! `*` any bytes, `?` any byte, `[a-c]` one of these, `[^a-c]` none of them, `\` takes the next byte as it is. The edges are
//! the server's too: a class that is not closed ends with the pattern, a range stands either way round, its end may be `]`,
//! and a backslash that ends the pattern means itself. Bytes are compared as numbers from 0 to 255.
//!
//! Every part but `*` takes exactly one byte. So when something does not match, only the last `*` can help by taking one more
//! byte: what an earlier one could make match, the last one can too. There is one point to go back to, and the time is
//! at most the product of both lengths.

/// A compiled pattern. See the module's head.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Glob {
    pattern: Box<[u8]>,
    prefix: Box<[u8]>,
    rest: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Byte(u8),
    AnyByte,
    AnyBytes,
    Class(Box<Class>),
}

/// A bit for each byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Class([u128; 2]);

impl Class {
    fn add(&mut self, byte: u8) {
        if let Some(half) = self.0.get_mut(usize::from(byte >> 7)) {
            *half |= 1 << (byte & 127);
        }
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 7)).is_some_and(|half| half >> (byte & 127) & 1 != 0)
    }

    fn inverted(self) -> Self {
        Self(self.0.map(|half| !half))
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(only) => *only == byte,
            Self::AnyByte => true,
            Self::AnyBytes => false,
            Self::Class(class) => class.has(byte),
        }
    }
}

impl Glob {
    /// Every text is a pattern.
    pub fn new(pattern: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut left = pattern;
        while let [first, after @ ..] = left {
            left = after;
            let part = match (first, after) {
                (b'*', _) if parts.last() == Some(&Part::AnyBytes) => continue,
                (b'*', _) => Part::AnyBytes,
                (b'?', _) => Part::AnyByte,
                (b'[', _) => Part::Class(Box::new(read_class(&mut left))),
                (b'\\', [escaped, after @ ..]) => {
                    left = after;
                    Part::Byte(*escaped)
                }
                _ => Part::Byte(*first),
            };
            parts.push(part);
        }
        let literal = |part: &Part| if let Part::Byte(byte) = part { Some(*byte) } else { None };
        let prefix: Box<[u8]> = parts.iter().map_while(literal).collect();
        Self { pattern: pattern.into(), rest: parts.drain(prefix.len()..).collect(), prefix }
    }

    /// As it was written.
    pub fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// What every name that matches begins with.
    pub fn literal_prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Does all of `name` match?
    pub fn matches(&self, name: &[u8]) -> bool {
        name.strip_prefix(&*self.prefix).is_some_and(|rest| match_parts(&self.rest, rest))
    }
}

/// What stands between `[` and `]`, the latter taken too.
fn read_class(left: &mut &[u8]) -> Class {
    let mut class = Class::default();
    let inverted = left.first() == Some(&b'^');
    if inverted {
        *left = left.get(1..).unwrap_or_default();
    }
    loop {
        let after = match left {
            [] => break,
            [b'\\', escaped, after @ ..] => {
                class.add(*escaped);
                after
            }
            [b']', after @ ..] => {
                *left = after;
                break;
            }
            [start, b'-', end, after @ ..] => {
                (*start.min(end)..=*start.max(end)).for_each(|byte| class.add(byte));
                after
            }
            [byte, after @ ..] => {
                class.add(*byte);
                after
            }
        };
        *left = after;
    }
    if inverted { class.inverted() } else { class }
}

fn match_parts(mut parts: &[Part], mut name: &[u8]) -> bool {
    // The parts after the last `*`, and from where in the name they were tried.
    let mut again: Option<(&[Part], &[u8])> = None;
    loop {
        match (parts, name) {
            ([Part::AnyBytes], _) | ([], []) => return true,
            ([Part::AnyBytes, after @ ..], _) => {
                parts = after;
                again = Some((parts, name));
            }
            ([part, after @ ..], [byte, rest @ ..]) if part.takes(*byte) => (parts, name) = (after, rest),
            _ => {
                let Some((after @ [first, ..], [_, rest @ ..])) = again else { return false };
                let Some(at) = rest.iter().position(|byte| first.takes(*byte)) else { return false };
                (parts, name) = (after, rest.get(at..).unwrap_or_default());
                again = Some((parts, name));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, name: &str) -> bool {
        Glob::new(pattern.as_bytes()).matches(name.as_bytes())
    }

    #[test]
    fn matches_as_the_server_does() {
        for (pattern, matching, other) in [
            ("", &[""][..], &["a"][..]),
            ("*", &["", "a", "abc"], &[]),
            ("h?llo", &["hello", "hxllo"], &["hllo", "heello"]),
            ("h*llo", &["hllo", "heeeello"], &["hell", "xhllo"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo"], &["hello", "hllo"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo", "h-llo"]),
            ("[b-a]", &["a", "b"], &["c", "-"]),
            ("a**b***", &["ab", "axxb", "abx"], &["ba"]),
            (r"\*\?\[", &["*?["], &[r"\*\?\[", "abc"]),
            (r"a\", &[r"a\"], &["a"]),
            (r"[\]a]", &["]", "a"], &["\\"]),
            (r"[\", &[r"\"], &["a", ""]),
            ("[a", &["a"], &["[a", "b", ""]),
            ("[", &[], &["[", ""]),
            ("[^", &["a", "]"], &["", "ab"]),
            ("[]x", &[], &["]x", "x"]),
            ("[a-]x", &["a", "]", "x", "^"], &["ax", "-x"]),
            ("*[bc]?*d", &["bxd", "abbxxd"], &["bd", "axd"]),
        ] {
            for name in matching {
                assert!(is_match(pattern, name), "{pattern} and {name}");
            }
            for name in other {
                assert!(!is_match(pattern, name), "{pattern} and {name}");
            }
        }
        assert!(Glob::new(b"[\x80-\xFE]").matches(b"\xA0") && !Glob::new(b"[\x80-\xFE]").matches(b"a"));
    }

    #[test]
    fn the_literal_prefix_ends_where_the_pattern_begins() {
        for (pattern, prefix) in [("a:b:*", "a:b:"), (r"a\*b?", "a*b"), ("[a]b", ""), ("abc", "abc"), ("", "")] {
            assert_eq!(Glob::new(pattern.as_bytes()).literal_prefix(), prefix.as_bytes());
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!is_match(&pattern, &"a".repeat(5000)));
    }

    /// The server's function, word for word, but that `*` matches nothing at all too.
    fn reference(mut pattern: &[u8], mut name: &[u8]) -> bool {
        while let ([first, ..], [byte, ..]) = (pattern, name) {
            match first {
                b'*' => {
                    while pattern.get(1) == Some(&b'*') {
                        pattern = &pattern[1..];
                    }
                    return pattern.len() == 1 || (0..name.len()).any(|at| reference(&pattern[1..], &name[at..]));
                }
                b'?' => {}
                b'[' => {
                    pattern = &pattern[1..];
                    let not = pattern.first() == Some(&b'^');
                    pattern = &pattern[usize::from(not)..];
                    let mut found = false;
                    loop {
                        if pattern.len() >= 2 && pattern[0] == b'\\' {
                            pattern = &pattern[1..];
                            found |= pattern[0] == *byte;
                        } else if pattern.is_empty() || pattern[0] == b']' {
                            break;
                        } else if pattern.len() >= 3 && pattern[1] == b'-' {
                            found |= (pattern[0].min(pattern[2])..=pattern[0].max(pattern[2])).contains(byte);
                            pattern = &pattern[2..];
                        } else {
                            found |= pattern[0] == *byte;
                        }
                        pattern = &pattern[1..];
                    }
                    if found == not {
                        return false;
                    }
                }
                _ => {
                    if *first == b'\\' && pattern.len() >= 2 {
                        pattern = &pattern[1..];
                    }
                    if pattern[0] != *byte {
                        return false;
                    }
                }
            }
            pattern = pattern.get(1..).unwrap_or_default();
            name = &name[1..];
        }
        name.is_empty() && pattern.iter().all(|left| *left == b'*')
    }

    #[test]
    fn agrees_with_the_servers_function_on_every_short_pattern() {
        let alphabet = b"ab*?[]^-\\";
        let names = [&b""[..], b"a", b"b", b"]", b"ab", b"ba", b"a-", b"\\", b"aab", b"aba", b"^[b", b"b*a]"];
        for number in 0..9u32.pow(4) * 5 {
            let len = 1 + number as usize / 9usize.pow(4);
            let pattern: Vec<u8> = (0..len as u32).map(|at| alphabet[(number / 9u32.pow(at) % 9) as usize]).collect();
            let glob = Glob::new(&pattern);
            for name in names {
                let shown = (String::from_utf8_lossy(&pattern), String::from_utf8_lossy(name));
                assert_eq!(glob.matches(name), reference(&pattern, name), "{shown:?}");
            }
        }
    }
}
