//! The server's pattern language, as `KEYS` and `SCAN` know it, compiled once and matched in linear time.
//!
//! `*` any bytes, `?` any byte, `[a-c]` one of these, `[^a-c]` none of them, `\` takes the next byte as it is. The edges are
//! the server's too: a class that is not closed ends with the pattern, a range stands either way round, its end may be `]`,
//! and a backslash that ends the pattern means itself. Bytes are compared as numbers from 0 to 255.
//!
//! Stars cut a pattern into pieces, and every part of a piece takes exactly one byte. The first piece has its place at the
//! beginning of a name and the last one at its end. Each of the others takes the first place that it fits behind the one
//! before it: what a later place could make match, the first can too. So no byte is ever gone back to:
//!
//! - a piece of mere bytes is found by a linear search for a substring;
//! - any other by following all places at which it may have begun at once, a bit for each of its parts (Shift-And;
//!   Baeza-Yates and Gonnet, 1992): a step for each byte of the name and 64 parts.
//!
//! Matching counts its steps, and can stop inside a name and go on later. See [`Glob::go_on`].

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use memchr::memmem::Finder;

/// A compiled pattern. See the module's head. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Glob(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    pattern: Box<[u8]>,
    /// What every name that matches begins with.
    prefix: Box<[u8]>,
    /// What the first piece goes on with.
    head: Box<[Part]>,
    /// What comes behind the first star, if there is one.
    starred: Option<Starred>,
}

#[derive(Debug)]
struct Starred {
    middle: Box<[Piece]>,
    /// The last piece; empty if a star ends the pattern.
    tail: Box<[Part]>,
}

/// A piece between two stars. It is not empty.
#[derive(Debug)]
enum Piece {
    Bytes(Box<Finder<'static>>),
    Mixed(Mixed),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Byte(u8),
    AnyByte,
    Class(Box<Class>),
}

/// A bit for each byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Class([u128; 2]);

/// A piece with parts that take more than one byte.
#[derive(Debug)]
struct Mixed {
    /// Bits of the parts that take a byte, `words` for each row.
    rows: Box<[u64]>,
    words: usize,
    /// Which row is a byte's.
    row_of: Box<[u16; 256]>,
    /// In the last word, the bit of the last part.
    last: u64,
}

/// How far the matching of one name has come.
#[derive(Debug, Clone, Default)]
pub struct Matching {
    /// Do the ends of the name fit?
    begun: bool,
    /// The piece that is being looked for.
    piece: usize,
    /// From where in the name.
    at: usize,
    /// With which bits.
    bits: Vec<u64>,
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.pattern() == other.pattern()
    }
}

impl Eq for Glob {}

impl Hash for Glob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pattern().hash(state);
    }
}

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

    /// It, with the bytes that a part names.
    fn with(mut self, part: &Part) -> Self {
        match part {
            Part::Byte(byte) => self.add(*byte),
            Part::AnyByte => {}
            Part::Class(class) => self.0.iter_mut().zip(class.0).for_each(|(half, more)| *half |= more),
        }
        self
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(only) => *only == byte,
            Self::AnyByte => true,
            Self::Class(class) => class.has(byte),
        }
    }

    fn literal(&self) -> Option<u8> {
        if let Self::Byte(byte) = self { Some(*byte) } else { None }
    }
}

impl Glob {
    /// Every text is a pattern.
    pub fn new(pattern: &[u8]) -> Self {
        let mut pieces = read_pieces(pattern);
        let tail = if pieces.len() > 1 { pieces.pop() } else { None };
        let mut pieces = pieces.into_iter();
        let first = pieces.next().unwrap_or_default();
        let prefix: Box<[u8]> = first.iter().map_while(Part::literal).collect();
        let middle = pieces.filter(|piece| !piece.is_empty()).map(|piece| Piece::new(&piece));
        Self(Arc::new(Compiled {
            pattern: pattern.into(),
            head: first.into_iter().skip(prefix.len()).collect(),
            prefix,
            starred: tail.map(|tail| Starred { middle: middle.collect(), tail: tail.into() }),
        }))
    }

    /// As it was written.
    pub fn pattern(&self) -> &[u8] {
        &self.0.pattern
    }

    /// What every name that matches begins with.
    pub fn literal_prefix(&self) -> &[u8] {
        &self.0.prefix
    }

    /// About how many bytes of memory it takes.
    pub fn size_bytes(&self) -> usize {
        let middle = self.0.starred.iter().flat_map(|starred| &starred.middle);
        // A part of a piece without a row of its own takes sixteen bytes.
        self.0.pattern.len() * (1 + size_of::<Part>()) + middle.map(Piece::size_bytes).sum::<usize>()
    }

    /// Does all of `name` match?
    pub fn matches(&self, name: &[u8]) -> bool {
        self.go_on(name, &mut Matching::default(), &mut u64::MAX.clone()) == Some(true)
    }

    /// Does all of `name` match? Goes on from where `matching` has come for as many steps as are left, and takes away
    /// those that it needed; `None` when they were too few. A step is about a byte, of the pattern or of the name.
    pub fn go_on(&self, name: &[u8], matching: &mut Matching, left: &mut u64) -> Option<bool> {
        if !matching.begun {
            let Compiled { head, starred, .. } = &*self.0;
            let ends = head.len() + starred.as_ref().map_or(0, |starred| starred.tail.len());
            take(left, 1 + ends.min(name.len()));
            matching.begun = true;
            matching.at = match self.fits_ends(name) {
                Ends::Fit(at) => at,
                Ends::Decide(verdict) => return Some(verdict),
            };
        }
        let Some(Starred { middle, tail }) = &self.0.starred else { return Some(false) };
        let end = name.len() - tail.len();
        while let Some(piece) = middle.get(matching.piece) {
            if *left == 0 {
                return None;
            }
            match piece.find(name.get(..end).unwrap_or_default(), matching, left) {
                Found::There => (matching.piece, _) = (matching.piece + 1, matching.bits.clear()),
                Found::Nowhere => return Some(false),
                Found::NotYet => {}
            }
        }
        Some(true)
    }

    /// Do the first and the last piece fit?
    fn fits_ends(&self, name: &[u8]) -> Ends {
        let Compiled { prefix, head, starred, .. } = &*self.0;
        let Some(rest) = name.strip_prefix(&**prefix) else { return Ends::Decide(false) };
        let Some(Starred { middle, tail }) = starred else {
            return Ends::Decide(rest.len() == head.len() && fits(head, rest));
        };
        let Some(last) = rest.len().checked_sub(tail.len()).filter(|last| *last >= head.len()) else {
            return Ends::Decide(false);
        };
        let fit = fits(head, rest) && fits(tail, rest.get(last..).unwrap_or_default());
        if fit && !middle.is_empty() { Ends::Fit(prefix.len() + head.len()) } else { Ends::Decide(fit) }
    }
}

enum Ends {
    /// The pieces between them are to be looked for from here on.
    Fit(usize),
    /// That is all there was to ask.
    Decide(bool),
}

enum Found {
    There,
    Nowhere,
    /// The steps were too few.
    NotYet,
}

fn take(left: &mut u64, steps: usize) {
    *left = left.saturating_sub(steps as u64);
}

fn fits(parts: &[Part], bytes: &[u8]) -> bool {
    parts.iter().zip(bytes).all(|(part, byte)| part.takes(*byte))
}

impl Piece {
    fn new(parts: &[Part]) -> Self {
        match parts.iter().map(Part::literal).collect::<Option<Vec<u8>>>() {
            Some(bytes) => Self::Bytes(Box::new(Finder::new(&bytes).into_owned())),
            None => Self::Mixed(Mixed::new(parts)),
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Bytes(_) => size_of::<Finder<'_>>(),
            Self::Mixed(mixed) => size_of_val(&*mixed.rows) + size_of_val(&*mixed.row_of),
        }
    }

    /// Looks for the first place from `matching.at` on; if it is there, `at` is behind it.
    fn find(&self, name: &[u8], matching: &mut Matching, left: &mut u64) -> Found {
        match self {
            Self::Bytes(finder) => find_bytes(finder, name, &mut matching.at, left),
            Self::Mixed(mixed) => mixed.find(name, matching, left),
        }
    }
}

fn find_bytes(finder: &Finder<'_>, name: &[u8], at: &mut usize, left: &mut u64) -> Found {
    let (rest, len) = (name.get(*at..).unwrap_or_default(), finder.needle().len());
    // So that as many places are tried as steps are left.
    let window = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX).saturating_add(len - 1));
    if let Some(found) = finder.find(rest.get(..window).unwrap_or_default()) {
        take(left, found + len);
        *at += found + len;
        return Found::There;
    }
    take(left, window);
    *at += window.saturating_sub(len - 1);
    if window == rest.len() { Found::Nowhere } else { Found::NotYet }
}

/// Puts a row behind the others that has the bits of some parts, unless there is such a row; says which it is.
fn push_row(rows: &mut Vec<u64>, words: usize, parts: &[Part], has: impl Fn(&Part) -> bool) -> u16 {
    let start = rows.len();
    let bits = |parts: &[Part]| parts.iter().rev().fold(0, |bits, part| bits << 1 | u64::from(has(part)));
    rows.extend(parts.chunks(64).map(bits));
    let (others, new) = rows.split_at(start);
    let known = others.chunks(words).position(|row| row == new);
    if known.is_some() {
        rows.truncate(start);
    }
    known.unwrap_or(start / words) as u16
}

impl Mixed {
    fn new(parts: &[Part]) -> Self {
        let words = parts.len().div_ceil(64);
        let mut mixed =
            Self { rows: Box::default(), words, row_of: Box::new([0; 256]), last: 1 << ((parts.len() - 1) % 64) };
        // The first row is that of all bytes which no part names.
        let mut rows = Vec::new();
        push_row(&mut rows, words, parts, |part| *part == Part::AnyByte);
        let named = parts.iter().fold(Class::default(), Class::with);
        for (byte, row) in (0..=u8::MAX).zip(mixed.row_of.iter_mut()).filter(|(byte, _)| named.has(*byte)) {
            *row = push_row(&mut rows, words, parts, |part| part.takes(byte));
        }
        mixed.rows = rows.into();
        mixed
    }

    fn find(&self, name: &[u8], matching: &mut Matching, left: &mut u64) -> Found {
        let Matching { at, bits, .. } = matching;
        bits.resize(self.words, 0);
        let rest = name.get(*at..).unwrap_or_default();
        let affordable = usize::try_from(*left / self.words as u64).unwrap_or(usize::MAX).max(1);
        let window = rest.get(..affordable).unwrap_or(rest);
        let found = match bits.as_mut_slice() {
            [bits] => self.follow_in_a_word(window, bits),
            bits => self.follow(window, bits),
        };
        let passed = found.map_or(window.len(), |last| last + 1);
        take(left, passed * self.words);
        *at += passed;
        match found {
            Some(_) => Found::There,
            None if window.len() == rest.len() => Found::Nowhere,
            None => Found::NotYet,
        }
    }

    /// Where does the piece end first? The bits say which of its beginnings have ended with the byte before.
    fn follow(&self, bytes: &[u8], bits: &mut [u64]) -> Option<usize> {
        bytes.iter().position(|byte| {
            let start = self.row_of(*byte) * self.words;
            let row = self.rows.get(start..start + self.words).unwrap_or_default();
            // The first part may begin anywhere; each other where the one before it ended.
            let mut carry = 1;
            for (word, takes) in bits.iter_mut().zip(row) {
                (*word, carry) = ((*word << 1 | carry) & takes, *word >> 63);
            }
            bits.last().is_some_and(|word| word & self.last != 0)
        })
    }

    /// As [`Mixed::follow`], for nearly all pieces.
    fn follow_in_a_word(&self, bytes: &[u8], bits: &mut u64) -> Option<usize> {
        let mut word = *bits;
        let found = bytes.iter().position(|byte| {
            word = (word << 1 | 1) & self.rows.get(self.row_of(*byte)).copied().unwrap_or(0);
            word & self.last != 0
        });
        *bits = word;
        found
    }

    fn row_of(&self, byte: u8) -> usize {
        self.row_of.get(usize::from(byte)).map_or(0, |row| usize::from(*row))
    }
}

/// What stands between the stars, one piece more than there are stars; stars side by side have an empty one between them.
fn read_pieces(pattern: &[u8]) -> Vec<Vec<Part>> {
    let (mut pieces, mut piece) = (Vec::new(), Vec::new());
    let mut left = pattern;
    while let [first, after @ ..] = left {
        left = after;
        let part = match (first, after) {
            (b'*', _) => {
                pieces.push(std::mem::take(&mut piece));
                continue;
            }
            (b'?', _) => Part::AnyByte,
            (b'[', _) => Part::Class(Box::new(read_class(&mut left))),
            (b'\\', [escaped, after @ ..]) => {
                left = after;
                Part::Byte(*escaped)
            }
            _ => Part::Byte(*first),
        };
        piece.push(part);
    }
    pieces.push(piece);
    pieces
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
    fn matching_goes_on_where_it_stopped_and_takes_a_step_a_byte() {
        let wide = "?".repeat(100) + "b";
        for pattern in ["*ab*ba", "*a?b*", "*[ab]b*a?*", "*aab*?a*a*", "a*", "*", "?a*", &format!("*{wide}*")] {
            for name in
                ["", "ab", "aabba", "abababab", "aaaaaaaaaaaaaaaaba", &"a".repeat(300), &("a".repeat(300) + "b")]
            {
                let (glob, whole) = (Glob::new(pattern.as_bytes()), is_match(pattern, name));
                for few in [1, 2, 7] {
                    let (mut matching, mut rounds) = (Matching::default(), 0);
                    let found = loop {
                        rounds += 1;
                        if let Some(found) = glob.go_on(name.as_bytes(), &mut matching, &mut few.clone()) {
                            break found;
                        }
                    };
                    assert_eq!(found, whole, "{pattern} and {name}, {few} steps at a time");
                    assert!(rounds <= 2 + 2 * name.len(), "{rounds} rounds for {pattern} and {name}");
                }
                let mut left = 10_000;
                glob.go_on(name.as_bytes(), &mut Matching::default(), &mut left);
                assert!(10_000 - left <= (pattern.len() + 2 * name.len()) as u64 + 1, "{pattern} and {name}");
            }
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
