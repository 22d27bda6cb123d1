//! Selectors: which entries are meant.

use crate::words::{counted, name};
use bytes::Bytes;
use redis::Cmd;

/// Clauses, all of which must hold for an entry. Without any it means all entries, which only
/// [`Scan`](super::Scan) takes.
///
/// ```
/// use expcache_client::Selector;
///
/// let of_last_year = Selector::new().all(["company:42", "year:2025"]).none(["pinned"]).type_name("trips");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Selector {
    clauses: Vec<Clause>,
}

#[derive(Debug, Clone)]
enum Clause {
    Tags(&'static str, Vec<Bytes>),
    Word(&'static str, Bytes),
}

impl Selector {
    /// No clause yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// It has one of the tags or more.
    #[must_use]
    pub fn any<T: AsRef<[u8]>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags("ANY", tags)
    }

    /// It has all of the tags.
    #[must_use]
    pub fn all<T: AsRef<[u8]>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags("ALL", tags)
    }

    /// It has none of the tags.
    #[must_use]
    pub fn none<T: AsRef<[u8]>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags("NONE", tags)
    }

    /// It is of this type.
    #[must_use]
    pub fn type_name(mut self, type_name: impl AsRef<[u8]>) -> Self {
        self.clauses.push(Clause::Word("TYPE", name(type_name)));
        self
    }

    /// Its key matches the pattern.
    #[must_use]
    pub fn matching(mut self, glob: impl AsRef<[u8]>) -> Self {
        self.clauses.push(Clause::Word("MATCH", name(glob)));
        self
    }

    fn tags<T: AsRef<[u8]>>(mut self, word: &'static str, tags: impl IntoIterator<Item = T>) -> Self {
        self.clauses.push(Clause::Tags(word, tags.into_iter().map(name).collect()));
        self
    }

    pub(crate) fn write(&self, cmd: &mut Cmd) {
        for clause in &self.clauses {
            match clause {
                Clause::Tags(word, tags) => counted(cmd, word, tags.iter()),
                Clause::Word(word, value) => {
                    cmd.arg(*word).arg(value.as_ref());
                }
            }
        }
    }
}
