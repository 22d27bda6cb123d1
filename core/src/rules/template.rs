//! What a rule does: a selector with names in braces, in whose place stands what happened.
//!
//! A name may stand in tags, in types and in patterns of keys. In the last what is filled in is literal: no byte of it means anything
//! to the pattern, inside of brackets or out of them.

use smallvec::SmallVec;

use super::braces::{Part, parts};
use crate::glob::Glob;
use crate::key::validate_name;
use crate::selector::{Clause, Selector};
use crate::{Error, Result};

/// The most bytes of all patterns of keys together, filled in.
const MOST_PATTERN_BYTES: usize = 1024;

/// One word with names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word(Box<[Piece]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Bytes(Box<[u8]>),
    Name(Box<[u8]>),
}

/// A word with what its names stand for. Few are longer.
pub type Filled = SmallVec<[u8; 64]>;

/// A selector with names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Box<[Words]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Words {
    Any(Box<[Word]>),
    All(Box<[Word]>),
    None(Box<[Word]>),
    Type(Word),
    Types(Box<[Word]>),
    Match(Word),
}

/// Why a template cannot be filled in.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfilled<'r> {
    /// Nobody says what this name stands for.
    Unknown(&'r [u8]),
    /// What it comes to is out of bounds.
    Invalid(Error),
}

impl Word {
    fn read(text: &[u8]) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        for part in parts(text)? {
            match part {
                Part::Byte(byte) => literal.push(byte),
                Part::Name(name) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Bytes(std::mem::take(&mut literal).into()));
                    }
                    pieces.push(Piece::Name(name.into()));
                }
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Bytes(literal.into()));
        }
        Ok(Self(pieces.into()))
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(|piece| if let Piece::Name(name) = piece { Some(&**name) } else { None })
    }

    /// Fills it in; `add` takes what a name stands for. What is longer than anything may be is cut off, and stays too long: who tells
    /// an event chooses it, and a name may stand in a word many times.
    fn fill<'r, 'v>(
        &'r self,
        value: impl Fn(&[u8]) -> Option<&'v [u8]>,
        add: impl Fn(&mut Filled, &[u8]),
    ) -> std::result::Result<Filled, Unfilled<'r>> {
        let mut filled = Filled::new();
        for piece in &self.0 {
            match piece {
                Piece::Bytes(bytes) => filled.extend_from_slice(bytes),
                Piece::Name(name) => {
                    let value = value(name).ok_or(Unfilled::Unknown(name))?;
                    add(&mut filled, value.get(..=MOST_PATTERN_BYTES).unwrap_or(value));
                }
            }
        }
        Ok(filled)
    }

    fn fill_as_it_is<'r, 'v>(
        &'r self,
        value: impl Fn(&[u8]) -> Option<&'v [u8]>,
    ) -> std::result::Result<Filled, Unfilled<'r>> {
        self.fill(value, |filled, value| filled.extend_from_slice(value))
    }

    /// As a tag's or a type's name.
    fn name<'r, 'v>(
        &'r self,
        kind: &'static str,
        value: impl Fn(&[u8]) -> Option<&'v [u8]>,
    ) -> std::result::Result<Box<[u8]>, Unfilled<'r>> {
        let name = self.fill_as_it_is(value)?;
        validate_name(kind, &name).map_err(Unfilled::Invalid)?;
        Ok((*name).into())
    }

    /// As a pattern of keys.
    fn pattern<'r, 'v>(
        &'r self,
        value: impl Fn(&[u8]) -> Option<&'v [u8]>,
    ) -> std::result::Result<Filled, Unfilled<'r>> {
        self.fill(value, |filled, value| {
            for byte in value {
                if b"*?[]\\^-".contains(byte) {
                    filled.push(b'\\');
                }
                filled.push(*byte);
            }
        })
    }
}

fn read_all(names: &[Box<[u8]>]) -> Result<Box<[Word]>> {
    names.iter().map(|name| Word::read(name)).collect()
}

fn names<'r, 'v>(
    kind: &'static str,
    words: &'r [Word],
    value: impl Fn(&[u8]) -> Option<&'v [u8]> + Copy,
) -> std::result::Result<Box<[Box<[u8]>]>, Unfilled<'r>> {
    words.iter().map(|word| word.name(kind, value)).collect()
}

impl Template {
    /// Of a selector as it was written.
    pub fn read(written: &Selector) -> Result<Self> {
        let words = written.clauses.iter().map(|clause| {
            Ok(match clause {
                Clause::Any(tags) => Words::Any(read_all(tags)?),
                Clause::All(tags) => Words::All(read_all(tags)?),
                Clause::None(tags) => Words::None(read_all(tags)?),
                Clause::Type(name) => Words::Type(Word::read(name)?),
                Clause::Types(names) => Words::Types(read_all(names)?),
                Clause::Match(glob) => Words::Match(Word::read(glob.pattern())?),
            })
        });
        Ok(Self(words.collect::<Result<_>>()?))
    }

    /// The names that must be known.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let words = self.0.iter().flat_map(|words| match words {
            Words::Any(all) | Words::All(all) | Words::None(all) | Words::Types(all) => &**all,
            Words::Type(one) | Words::Match(one) => std::slice::from_ref(one),
        });
        words.flat_map(Word::names)
    }

    /// Does it look at the names of keys?
    pub fn looks_at_keys(&self) -> bool {
        self.0.iter().any(|words| matches!(words, Words::Match(_)))
    }

    /// The tag, filled in, if it is all that the selector is about and could be an entry's.
    pub fn only_tag<'v>(&self, value: impl Fn(&[u8]) -> Option<&'v [u8]>) -> Option<Filled> {
        let [Words::Any(tags)] = &*self.0 else { return None };
        let [tag] = &**tags else { return None };
        tag.fill_as_it_is(value).ok().filter(|tag| validate_name("tag", tag).is_ok())
    }

    /// The selector with what `value` says in the place of each name.
    pub fn fill<'r, 'v>(
        &'r self,
        value: impl Fn(&[u8]) -> Option<&'v [u8]> + Copy,
    ) -> std::result::Result<Selector, Unfilled<'r>> {
        let mut pattern_bytes = 0;
        let clauses = self.0.iter().map(|words| {
            Ok(match words {
                Words::Any(tags) => Clause::Any(names("tag", tags, value)?),
                Words::All(tags) => Clause::All(names("tag", tags, value)?),
                Words::None(tags) => Clause::None(names("tag", tags, value)?),
                Words::Type(name) => Clause::Type(name.name("type", value)?),
                Words::Types(all) => Clause::Types(names("type", all, value)?),
                Words::Match(word) => {
                    let pattern = word.pattern(value)?;
                    pattern_bytes += pattern.len();
                    if pattern_bytes > MOST_PATTERN_BYTES {
                        let error = "the patterns of a selector, filled in, have at most 1024 bytes";
                        return Err(Unfilled::Invalid(Error::invalid(error)));
                    }
                    Clause::Match(Glob::new(&pattern))
                }
            })
        });
        Ok(Selector { clauses: clauses.collect::<std::result::Result<_, _>>()? })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::grammar::selector::Limits;

    fn template(words: &str) -> Result<Template> {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        Template::read(&Selector::parse(words.into_iter(), Limits::Apply)?)
    }

    /// The selector as words, or why there is none.
    fn filled(template: &Template, values: &[(&str, &[u8])]) -> std::result::Result<String, String> {
        let value = |name: &[u8]| values.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, value)| *value);
        match template.fill(value) {
            Ok(selector) => {
                let words = crate::grammar::words(|to| selector.write(to));
                Ok(String::from_utf8_lossy(&words.join(&b' ')).into_owned())
            }
            Err(Unfilled::Unknown(name)) => Err(String::from_utf8_lossy(name).into_owned()),
            Err(Unfilled::Invalid(error)) => Err(error.reply().into_owned()),
        }
    }

    #[test]
    fn names_are_filled_in_wherever_they_stand() {
        let written = "ANY 2 user:{id} all{{}} ALL 1 {id}{of} NONE 1 x TYPE {of}_stats TYPES 2 a {of} MATCH *:{id}:?";
        let template = template(written).unwrap();
        let names: Vec<String> = template.names().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["id", "id", "of", "of", "of", "id"]);
        assert!(template.looks_at_keys());
        assert_eq!(
            filled(&template, &[("id", b"7"), ("of", b"trips")]).as_deref(),
            Ok("ANY 2 user:7 all{} ALL 1 7trips NONE 1 x TYPE trips_stats TYPES 2 a trips MATCH *:7:?")
        );
        assert_eq!(filled(&template, &[("id", b"7")]), Err("of".into()));
        let long = [b'x'; 512];
        let refused = filled(&template, &[("id", &long), ("of", b"trips")]);
        assert_eq!(refused, Err("ERR a tag must be 1 to 512 bytes".into()));
    }

    #[test]
    fn in_patterns_of_keys_what_is_filled_in_is_literal() {
        for (written, value, matching, other) in [
            ("MATCH k:{x}:*", &b"a*b"[..], &["k:a*b:1"][..], &["k:aXb:1", "k:ab:1"][..]),
            ("MATCH {x}", b"[ab]", &["[ab]"], &["a", "b"]),
            ("MATCH {x}", b"a\\", &["a\\"], &["a"]),
            ("MATCH {x}?", b"?", &["?a"], &["aa"]),
            ("MATCH [{x}]", b"a-z", &["a", "-", "z"], &["b", "\\"]),
            ("MATCH [{x}]", b"^a", &["^", "a"], &["b", "\\"]),
            ("MATCH [{x}]", b"]", &["]"], &["\\"]),
        ] {
            let selector = template(written).ok().and_then(|template| template.fill(|_| Some(value)).ok());
            let matches = |key: &&str| {
                selector.as_ref().is_some_and(|selector| selector.matches(key.as_bytes(), b"t", &[] as &[&[u8]]))
            };
            assert!(matching.iter().all(&matches), "{written}");
            assert!(!other.iter().any(&matches), "{written}");
        }
        let long = vec![b'*'; 513];
        let refused = template("MATCH {x}").map(|template| template.fill(|_| Some(&long)).is_err());
        assert_eq!(refused, Ok(true));
    }

    #[test]
    fn what_is_too_long_is_not_copied_again_and_again() {
        let (word, long) = (Word::read("{x}".repeat(150).as_bytes()).unwrap(), vec![b'*'; 10 << 20]);
        assert!(word.fill_as_it_is(|_| Some(&long)).unwrap().len() < 1 << 20);
        assert!(word.pattern(|_| Some(&long)).unwrap().len() < 1 << 20);
        for written in ["ANY 1 {x}", "TYPE {x}", "MATCH {x}"] {
            assert!(template(written).unwrap().fill(|_| Some(&long)).is_err(), "{written}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for written in ["ANY 1 {", "TYPE a}b", "MATCH {}", "TYPES 1 {a{b}}"] {
            assert!(template(written).is_err(), "{written}");
        }
    }
}
