//! The names of an entry that is in no index. They stand in one block.

use super::Soft;
use crate::bytes::{Reader, Writer};

/// See the module's head.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The type's name, and then those of the tags, each behind its length.
    packed: Vec<u8>,
    tag_count: u8,
    /// Was it softly invalidated, and its key's expiry does not say so yet?
    pub soft: Option<Soft>,
}

impl Names {
    /// Of a type and of tags, none of them twice.
    pub fn new<'t>(type_name: &[u8], tags: impl Iterator<Item = &'t [u8]> + Clone, soft: Option<Soft>) -> Self {
        let bytes: usize = tags.clone().map(|tag| 2 + tag.len()).sum();
        let mut packed = Writer(Vec::with_capacity(2 + type_name.len() + bytes));
        packed.short_bytes(type_name);
        let mut tag_count = 0u8;
        for tag in tags {
            packed.short_bytes(tag);
            tag_count = tag_count.saturating_add(1);
        }
        Self { packed: packed.0, tag_count, soft }
    }

    /// The entry's type.
    pub fn type_name(&self) -> &[u8] {
        Reader::new(&self.packed).short_bytes().unwrap_or_default()
    }

    /// Its tags.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        let mut packed = Reader::new(&self.packed);
        packed.short_bytes();
        std::iter::from_fn(move || packed.short_bytes())
    }

    /// How many tags.
    pub fn tag_count(&self) -> usize {
        self.tag_count.into()
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |name: &[u8]| name.escape_ascii().to_string();
        let tags: Vec<String> = self.tags().map(shown).collect();
        write!(f, "Names({}, {tags:?}, {:?})", shown(self.type_name()), self.soft)
    }
}
