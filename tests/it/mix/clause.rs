//! The clauses of a selector: as words to send, and as a plain question about one entry.

use super::step::Name;
use crate::harness::args;

/// What an entry must be like to be meant.
#[derive(Clone, Debug)]
pub enum Clause {
    Any(Vec<Name>),
    All(Vec<Name>),
    None(Vec<Name>),
    Type(Name),
    Types(Vec<Name>),
    Match(Pattern),
}

/// A pattern, with what it means: so no test needs to understand patterns.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    pub glob: Name,
    pub holds: fn(&[u8]) -> bool,
}

/// For the names of keys that the mix has.
pub const KEY_PATTERNS: [Pattern; 12] = [
    Pattern { glob: b"*", holds: |_| true },
    Pattern { glob: b"", holds: <[u8]>::is_empty },
    Pattern { glob: b"?", holds: |name| name.len() == 1 },
    Pattern { glob: b"[a-c]", holds: |name| matches!(name, [b'a'..=b'c']) },
    Pattern { glob: b"[^ac]", holds: |name| matches!(name, [byte] if !b"ac".contains(byte)) },
    Pattern { glob: b"trips:*", holds: |name| name.starts_with(b"trips:") },
    Pattern { glob: b"export_cache:*", holds: |name| name.starts_with(b"export_cache:") },
    Pattern { glob: b"export_cache:novel:*", holds: |name| name.starts_with(b"export_cache:novel:") },
    Pattern { glob: b"*:1", holds: |name| name.ends_with(b":1") },
    Pattern { glob: b"*:*:*", holds: |name| name.iter().filter(|byte| **byte == b':').count() >= 2 },
    Pattern { glob: b"\0b*\xff", holds: |name| name.starts_with(b"\0b") && name.ends_with(b"\xff") },
    Pattern { glob: b"\\%[s]%?", holds: |name| name.len() == 4 && name.starts_with(b"%s%") },
];

/// For the names of its tags.
pub const TAG_PATTERNS: [Pattern; 3] = [
    Pattern { glob: b"*", holds: |_| true },
    Pattern { glob: b"company:*", holds: |name| name.starts_with(b"company:") },
    Pattern { glob: b"?", holds: |name| name.len() == 1 },
];

impl Clause {
    /// Does it hold for such an entry?
    pub fn holds<'t>(&self, key: Name, type_name: Name, tags: impl IntoIterator<Item = &'t Name>) -> bool {
        let tags: Vec<Name> = tags.into_iter().copied().collect();
        match self {
            Clause::Any(names) => names.iter().any(|name| tags.contains(name)),
            Clause::All(names) => names.iter().all(|name| tags.contains(name)),
            Clause::None(names) => !names.iter().any(|name| tags.contains(name)),
            Clause::Type(name) => *name == type_name,
            Clause::Types(names) => names.contains(&type_name),
            Clause::Match(pattern) => (pattern.holds)(key),
        }
    }

    pub fn words(&self) -> Vec<Vec<u8>> {
        let counted = |word: &str, names: &[Name]| {
            [args![word, names.len()], names.iter().map(|name| name.to_vec()).collect()].concat()
        };
        match self {
            Clause::Any(names) => counted("ANY", names),
            Clause::All(names) => counted("ALL", names),
            Clause::None(names) => counted("NONE", names),
            Clause::Type(name) => args!["TYPE", name],
            Clause::Types(names) => counted("TYPES", names),
            Clause::Match(pattern) => args!["MATCH", pattern.glob],
        }
    }
}
