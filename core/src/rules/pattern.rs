//! What a rule reacts to: literal bytes, `*` (any bytes, or none) and `{name}` (at least one byte, remembered).
//!
//! ```text
//! user:{id}            POST /v1.0/user/*            *:{last}
//! ```
//!
//! Each `*` and each name ends where the literal after it first occurs; the last one before a literal that must end the text ends
//! there. Two never stand side by side, so a literal follows each but the last. Ending as early as may be leaves the most to what
//! follows, so no byte is ever gone back to: each literal is looked for by a linear search from where the one before it ended.

use memchr::memmem::Finder;
use smallvec::SmallVec;

use super::braces::{Part, parts};
use crate::{Error, Result};

/// The most bytes of a pattern.
const MOST_BYTES: usize = 1024;

/// What the names of a pattern stand for, in their order.
pub type Captures<'t> = SmallVec<[&'t [u8]; 4]>;

/// A compiled pattern. See the module's head.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<[u8]>,
    /// What it begins with.
    prefix: Box<[u8]>,
    gaps: Box<[Gap]>,
    names: Box<[Box<[u8]>]>,
}

/// A `*`, or a name in braces.
#[derive(Debug, Clone)]
struct Gap {
    /// Is it a name?
    captures: bool,
    /// What stands behind it, up to the next.
    literal: Finder<'static>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Reads one.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.is_empty() || text.len() > MOST_BYTES {
            return Err(Error::invalid("a pattern must be 1 to 1024 bytes"));
        }
        let (mut prefix, mut gaps) = (Vec::new(), Vec::new());
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for part in parts(text)? {
            let captures = match part {
                Part::Byte(b'*') => false,
                Part::Byte(byte) => {
                    gaps.last_mut().map_or(&mut prefix, |(_, literal): &mut (bool, Vec<u8>)| literal).push(byte);
                    continue;
                }
                Part::Name(name) if names.iter().any(|known| **known == *name) => {
                    return Err(Error::invalid("a pattern captures a name once"));
                }
                Part::Name(name) => {
                    names.push(name.into());
                    true
                }
            };
            if gaps.last().is_some_and(|(_, literal)| literal.is_empty()) {
                return Err(Error::invalid("in a pattern something must stand between two of '*' and '{name}'"));
            }
            gaps.push((captures, Vec::new()));
        }
        let gap = |(captures, literal): (bool, Vec<u8>)| Gap { captures, literal: Finder::new(&literal).into_owned() };
        Ok(Self {
            text: text.into(),
            prefix: prefix.into(),
            gaps: gaps.into_iter().map(gap).collect(),
            names: names.into(),
        })
    }

    /// As it was written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What every text that matches begins with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Its names, in their order.
    pub fn names(&self) -> &[Box<[u8]>] {
        &self.names
    }

    /// What its names stand for, if all of the text matches.
    pub fn captures<'t>(&self, text: &'t [u8]) -> Option<Captures<'t>> {
        let mut rest = text.strip_prefix(&*self.prefix)?;
        let mut captures = Captures::new();
        let last = self.gaps.len().wrapping_sub(1);
        for (at, gap) in self.gaps.iter().enumerate() {
            let end = if at == last { gap.end_at_end(rest) } else { gap.end(rest) }?;
            let (filled, behind) = rest.split_at_checked(end)?;
            if gap.captures {
                captures.push(filled);
            }
            rest = behind.get(gap.literal.needle().len()..)?;
        }
        rest.is_empty().then_some(captures)
    }
}

impl Gap {
    /// Where it ends at the earliest.
    fn least(&self) -> usize {
        usize::from(self.captures)
    }

    /// Where it ends, if its literal is somewhere.
    fn end(&self, rest: &[u8]) -> Option<usize> {
        Some(self.least() + self.literal.find(rest.get(self.least()..)?)?)
    }

    /// Where it ends, if its literal ends the text.
    fn end_at_end(&self, rest: &[u8]) -> Option<usize> {
        let end = rest.strip_suffix(self.literal.needle())?.len();
        (end >= self.least()).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the names stand for, with commas between; nothing if the text does not match.
    fn matched(pattern: &str, text: &str) -> Option<String> {
        let pattern = Pattern::parse(pattern.as_bytes()).ok()?;
        let captures = pattern.captures(text.as_bytes())?;
        assert_eq!(captures.len(), pattern.names().len());
        Some(String::from_utf8_lossy(&captures.join(&b',')).into_owned())
    }

    #[test]
    fn names_stand_for_what_is_up_to_the_next_literal() {
        for (pattern, text, expected) in [
            ("a", "a", Some("")),
            ("a", "ab", None),
            ("a", "", None),
            ("*", "", Some("")),
            ("*", "anything", Some("")),
            ("{x}", "", None),
            ("{x}", "a", Some("a")),
            ("user:{id}", "user:7", Some("7")),
            ("user:{id}", "user:", None),
            ("user:{id}", "user:7:x", Some("7:x")),
            ("user:{id}:name", "user:7:name", Some("7")),
            ("user:{id}:name", "user::name", None),
            ("{x}b", "abab", Some("aba")),
            ("{x}b{y}", "abab", Some("a,ab")),
            ("{x}b{y}", "bb", None),
            ("{x}b{y}", "bbb", Some("b,b")),
            ("*:{id}", "a:b:7", Some("b:7")),
            ("*:{id}", ":7", Some("7")),
            ("{a}:{b}", "1:2:3", Some("1,2:3")),
            ("POST /v1.0/user/*", "POST /v1.0/user/", Some("")),
            ("POST /v1.0/*/{id}", "POST /v1.0/user/7/x", Some("7/x")),
            ("cart:{{{id}}}", "cart:{7}", Some("7")),
            ("cart:{{{id}}}", "cart:7", None),
            ("a*a", "a", None),
            ("a*a", "aa", Some("")),
            ("a{x}a", "aa", None),
            ("*ab*", "aab", Some("")),
            ("*a{x}b*c", "zza1b2bc", Some("1")),
        ] {
            assert_eq!(matched(pattern, text).as_deref(), expected, "{pattern} and {text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for pattern in ["", "**", "{a}{b}", "*{a}", "{a}*", "{a}:{a}", "{", "a}b", "{}", &"x".repeat(1025)] {
            assert!(Pattern::parse(pattern.as_bytes()).is_err(), "{pattern}");
        }
        assert!(Pattern::parse("x".repeat(1024).as_bytes()).is_ok());
    }

    #[test]
    fn the_prefix_ends_where_anything_may_stand() {
        for (pattern, prefix) in [("user:{id}", "user:"), ("*x", ""), ("a{{b*", "a{b"), ("all", "all"), ("{x}", "")] {
            let prefix_of = Pattern::parse(pattern.as_bytes()).map(|pattern| pattern.prefix().to_vec());
            assert_eq!(prefix_of, Ok(prefix.as_bytes().to_vec()), "{pattern}");
        }
    }
}
