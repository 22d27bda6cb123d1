//! Selectors: which entries are meant.

use std::ops::Deref;

use bytes::Bytes;
use expcache_core::glob::Glob;
use expcache_core::grammar::selector::Limits;
use expcache_core::selector::{self, Clause, TagNames};
use redis::Cmd;

use crate::error::{Error, Result};
use crate::words::words_of;

/// Clauses, all of which must hold for an entry. Without any it means all entries, which only
/// [`Scan`](super::Scan) takes.
///
/// ```
/// use expcache_client::Selector;
///
/// let of_last_year = Selector::new().all(["company:42", "year:2025"]).none(["pinned"]).type_name("trips");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(pub(super) selector::Selector);

impl Selector {
    /// No clause yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// It has one of the tags or more.
    #[must_use]
    pub fn any<T: AsRef<[u8]>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        self.and(Clause::Any(names(tags)))
    }

    /// It has all of the tags.
    #[must_use]
    pub fn all<T: AsRef<[u8]>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        self.and(Clause::All(names(tags)))
    }

    /// It has none of the tags.
    #[must_use]
    pub fn none<T: AsRef<[u8]>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        self.and(Clause::None(names(tags)))
    }

    /// It is of this type.
    #[must_use]
    pub fn type_name(self, type_name: impl AsRef<[u8]>) -> Self {
        self.and(Clause::Type(type_name.as_ref().into()))
    }

    /// It is of one of these types.
    #[must_use]
    pub fn types<T: AsRef<[u8]>>(self, types: impl IntoIterator<Item = T>) -> Self {
        self.and(Clause::Types(names(types)))
    }

    /// Its key matches the pattern.
    #[must_use]
    pub fn matching(self, glob: impl AsRef<[u8]>) -> Self {
        self.and(Clause::Match(Glob::new(glob.as_ref())))
    }

    fn and(mut self, clause: Clause) -> Self {
        self.0.clauses.push(clause);
        self
    }

    /// Of words, as a server replies them.
    pub(super) fn parse(words: &[Bytes]) -> Result<Self> {
        let words = words.iter().map(Deref::deref);
        selector::Selector::parse(words, Limits::Applied).map(Self).map_err(|_| Error::reply("no selector"))
    }

    pub(crate) fn write(&self, cmd: &mut Cmd) {
        self.0.write(&mut words_of(cmd));
    }
}

fn names<T: AsRef<[u8]>>(tags: impl IntoIterator<Item = T>) -> TagNames {
    tags.into_iter().map(|name| name.as_ref().into()).collect()
}
