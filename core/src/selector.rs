//! Which entries: clauses about an entry's tags, type and key, all of which must hold.
//!
//! The same words name what to invalidate, what to count and list, and what a fence remembers of an invalidation. The index
//! answers them by set arithmetic ([`crate::index::Index::select`]); [`Selector::matches`] says the same of one entry.

use std::collections::BTreeSet;

use crate::glob::{Glob, Matching};
use crate::key::MAX_NAME_BYTES;
use crate::lease::{Hits, Subject};

/// Names of tags.
pub type TagNames = Box<[Box<[u8]>]>;
/// Names of types.
pub type TypeNames = Box<[Box<[u8]>]>;

/// Clauses that all must hold; without any, everything is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// In any order, and of a kind as many as one likes.
    pub clauses: Vec<Clause>,
}

/// What one clause demands of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Clause {
    /// It bears at least one of the tags.
    Any(TagNames),
    /// It bears each of the tags.
    All(TagNames),
    /// It bears none of the tags.
    None(TagNames),
    /// It is of this type.
    Type(Box<[u8]>),
    /// It is of one of these types.
    Types(TypeNames),
    /// Its key matches.
    Match(Glob),
}

impl Clause {
    /// Of an entry of this type and these tags; what it demands of the key is left aside.
    fn holds(&self, type_name: &[u8], tags: &[impl AsRef<[u8]>]) -> bool {
        let bears = |name: &[u8]| tags.iter().any(|tag| tag.as_ref() == name);
        match self {
            Self::Any(names) => names.iter().any(|name| bears(name)),
            Self::All(names) => names.iter().all(|name| bears(name)),
            Self::None(names) => !names.iter().any(|name| bears(name)),
            Self::Type(name) => **name == *type_name,
            Self::Types(names) => names.iter().any(|name| **name == *type_name),
            Self::Match(_) => true,
        }
    }

    /// How many steps it takes to ask that of an entry with so many tags.
    fn steps(&self, tags: usize) -> u64 {
        let types = if let Self::Types(names) = self { names.len() } else { 0 };
        1 + (self.tags().len() * tags + types) as u64
    }

    /// The tags that it names.
    pub fn tags(&self) -> &[Box<[u8]>] {
        match self {
            Self::Any(names) | Self::All(names) | Self::None(names) => names,
            Self::Type(_) | Self::Types(_) | Self::Match(_) => &[],
        }
    }
}

impl Selector {
    /// Does it select an entry of this key, type and tags?
    pub fn matches(&self, key: &[u8], type_name: &[u8], tags: &[impl AsRef<[u8]>]) -> bool {
        self.matches_within(key, type_name, tags, &mut u64::MAX.clone()) == Some(true)
    }

    /// Does it? Takes the steps that it needs away from those that are left; `None` when they are too few. Patterns come last:
    /// they cost most.
    fn matches_within(&self, key: &[u8], type_name: &[u8], tags: &[impl AsRef<[u8]>], left: &mut u64) -> Option<bool> {
        for clause in &self.clauses {
            *left = left.checked_sub(clause.steps(tags.len()))?;
            if !clause.holds(type_name, tags) {
                return Some(false);
            }
        }
        for glob in self.patterns() {
            if !glob.go_on(key, &mut Matching::default(), left)? {
                return Some(false);
            }
        }
        Some(true)
    }

    /// The tags that must all be borne, each once.
    pub(crate) fn all_tags(&self) -> BTreeSet<&[u8]> {
        let all = self.clauses.iter().filter(|clause| matches!(clause, Clause::All(_)));
        all.flat_map(Clause::tags).map(AsRef::as_ref).collect()
    }

    /// The patterns that the key must match.
    pub fn patterns(&self) -> impl Iterator<Item = &Glob> {
        self.clauses.iter().filter_map(|clause| if let Clause::Match(glob) = clause { Some(glob) } else { None })
    }

    /// The tags, if the one clause is that any of them be borne. Nothing but invalidating these tags would do the same.
    pub fn only_any(&self) -> Option<&[Box<[u8]>]> {
        match self.clauses.as_slice() {
            [Clause::Any(names)] => Some(names),
            _ => None,
        }
    }
}

impl Hits for Selector {
    fn hits(&self, subject: &Subject<'_>, left: &mut u64) -> bool {
        self.matches_within(subject.key, subject.type_name, subject.tags, left) != Some(false)
    }

    fn weight(&self) -> usize {
        let weight = |clause: &Clause| match clause {
            Clause::Any(names) | Clause::All(names) | Clause::None(names) | Clause::Types(names) => names.len(),
            Clause::Type(_) => 1,
            Clause::Match(glob) => 1 + glob.size_bytes() / MAX_NAME_BYTES,
        };
        self.clauses.iter().map(weight).sum()
    }

    fn any_of(&self) -> Option<Vec<&[u8]>> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Any(names) => Some(names.iter().map(AsRef::as_ref).collect()),
            Clause::All(names) => names.first().map(|name| vec![name.as_ref()]),
            Clause::None(_) | Clause::Type(_) | Clause::Types(_) | Clause::Match(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> TagNames {
        names.iter().map(|name| name.as_bytes().into()).collect()
    }

    #[test]
    fn every_clause_must_hold() {
        let any = || Clause::Any(tags(&["a", "b"]));
        let all = || Clause::All(tags(&["a", "c"]));
        let none = || Clause::None(tags(&["d", "e"]));
        let of_type = |name: &str| Clause::Type(name.as_bytes().into());
        let like = |pattern: &str| Clause::Match(Glob::new(pattern.as_bytes()));
        for (clauses, selected) in [
            (vec![], true),
            (vec![any()], true),
            (vec![any(), all(), none(), of_type("trips"), like("k:*")], true),
            (vec![like("k:*"), like("*:1"), of_type("trips"), of_type("trips")], true),
            (vec![like("k:*"), like("*:2")], false),
            (vec![of_type("trips"), of_type("reports")], false),
            (vec![Clause::Types(tags(&["reports", "trips"])), any()], true),
            (vec![Clause::Types(tags(&["reports", "a"]))], false),
            (vec![Clause::Any(tags(&["d"]))], false),
            (vec![Clause::All(tags(&["a", "d"]))], false),
            (vec![any(), Clause::None(tags(&["d", "c"]))], false),
        ] {
            let selector = Selector { clauses };
            assert_eq!(selector.matches(b"k:1", b"trips", &tags(&["a", "c"])), selected, "{selector:?}");
        }
    }

    #[test]
    fn what_takes_too_long_to_be_ruled_out_counts_as_hit() {
        let selector = Selector { clauses: vec![Clause::Any(tags(&["a"])), Clause::Match(Glob::new(b"*a?b*"))] };
        let key = "a".repeat(1000);
        let hits = |tag: &[u8], mut left: u64| {
            selector.hits(&Subject { key: key.as_bytes(), type_name: b"trips", tags: &[tag] }, &mut left)
        };
        assert!(!hits(b"a", 2000));
        assert!(hits(b"a", 500));
        assert!(!hits(b"b", 500), "tags are looked at first");
    }

    #[test]
    fn only_tags_to_invalidate_are_told_from_the_rest() {
        let any = Clause::Any(tags(&["a"]));
        let of = |clauses: &[Clause]| Selector { clauses: clauses.to_vec() };
        assert_eq!(of(std::slice::from_ref(&any)).only_any(), Some(&*tags(&["a"])));
        assert_eq!(of(&[any.clone(), any.clone()]).only_any(), None);
        assert_eq!(of(&[any, Clause::Match(Glob::new(b"*"))]).patterns().count(), 1);
        assert_eq!(of(&[Clause::All(tags(&["a"]))]).only_any(), None);
    }
}
