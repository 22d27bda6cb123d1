//! Selecting: a selector's clauses as arithmetic on the sets of ids that tags and types keep.
//!
//! The smallest set comes first, so what follows is about few; large sets are only borrowed. Patterns are not looked at
//! here: they take a look at each name (see `walk`).

use std::borrow::Cow;
use std::hash::BuildHasher;

use roaring::{MultiOps, RoaringBitmap};

use super::{Ids, Index, Members};
use crate::entry::MAX_TAGS;
use crate::selector::{Clause, Selector};

/// So few ids are looked up one by one in each set of a union, rather than the union made.
const FEW: u64 = 1024;

/// The entries that fulfil one clause.
pub(super) enum Source<'i> {
    Type(&'i RoaringBitmap),
    Tag(&'i Members),
    AnyOf(Vec<&'i Members>),
    AnyOfTypes(Vec<&'i RoaringBitmap>),
}

impl<'i> Source<'i> {
    /// At least so many.
    pub(super) fn most(&self) -> u64 {
        match self {
            Self::Type(ids) => ids.len(),
            Self::Tag(members) => members.len(),
            Self::AnyOf(tags) => tags.iter().map(|members| members.len()).sum(),
            Self::AnyOfTypes(types) => types.iter().map(|ids| ids.len()).sum(),
        }
    }

    /// Of how many sets.
    pub(super) fn sets(&self) -> usize {
        match self {
            Self::Type(_) | Self::Tag(_) => 1,
            Self::AnyOf(tags) => tags.len(),
            Self::AnyOfTypes(types) => types.len(),
        }
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        match self {
            Self::Type(ids) => ids.contains(id),
            Self::Tag(members) => members.contains(id),
            Self::AnyOf(tags) => tags.iter().any(|members| members.contains(id)),
            Self::AnyOfTypes(types) => types.iter().any(|ids| ids.contains(id)),
        }
    }

    /// The first `count` of them from `start` on.
    pub(super) fn from(&self, start: u32, count: usize) -> Vec<u32> {
        match self {
            Self::Type(ids) => ids.range(start..).take(count).collect(),
            Self::Tag(members) => members.from(start, count),
            Self::AnyOf(tags) => first(tags.iter().flat_map(|members| members.from(start, count)), count),
            Self::AnyOfTypes(types) => first(types.iter().flat_map(|ids| ids.range(start..).take(count)), count),
        }
    }

    fn ids(&self) -> Cow<'i, RoaringBitmap> {
        match self {
            Self::Type(ids) => Cow::Borrowed(ids),
            Self::Tag(members) => members.as_bitmap(),
            Self::AnyOf(tags) => {
                let mut union = RoaringBitmap::new();
                tags.iter().for_each(|members| members.unite_into(&mut union));
                Cow::Owned(union)
            }
            Self::AnyOfTypes(types) => Cow::Owned(types.iter().copied().union()),
        }
    }

    fn and(&self, ids: Cow<'i, RoaringBitmap>) -> Cow<'i, RoaringBitmap> {
        if ids.is_empty() {
            return ids;
        }
        if ids.len() <= FEW {
            return Cow::Owned(ids.iter().filter(|id| self.contains(*id)).collect());
        }
        let others = self.ids();
        Cow::Owned(match ids {
            Cow::Borrowed(ids) => ids & &*others,
            Cow::Owned(ids) => ids & &*others,
        })
    }
}

/// The first `count` of these, each once.
fn first(ids: impl Iterator<Item = u32>, count: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(count);
    ids
}

fn without<'i>(ids: Cow<'i, RoaringBitmap>, others: &RoaringBitmap) -> Cow<'i, RoaringBitmap> {
    match ids {
        _ if others.is_empty() => ids,
        Cow::Borrowed(ids) => Cow::Owned(ids - others),
        Cow::Owned(ids) => Cow::Owned(ids - others),
    }
}

impl Index {
    /// The entries, none of them dead, that fulfil all clauses but `MATCH`. `type_id` says the id of a type's name.
    pub fn select(&self, selector: &Selector, type_id: impl Fn(&[u8]) -> Option<u16>) -> Ids {
        let mut ids = without(self.selected(selector, type_id), &self.dead).into_owned();
        self.gone.ids().for_each(|id| _ = ids.remove(id));
        Ids(ids)
    }

    /// How many entries [`Index::select`] would return.
    pub fn count(&self, selector: &Selector, type_id: impl Fn(&[u8]) -> Option<u16>) -> u64 {
        let ids = self.selected(selector, type_id);
        ids.len() - ids.intersection_len(&self.dead) - self.gone.ids().filter(|id| ids.contains(*id)).count() as u64
    }

    /// How many of these entries there are of each type that has any.
    pub fn by_type(&self, ids: &Ids) -> impl Iterator<Item = (u16, u64)> {
        let types = (0u16..).zip(&self.types);
        types.map(|(id, members)| (id, members.ids.intersection_len(&ids.0))).filter(|(_, count)| *count > 0)
    }

    /// Up to `most` entries of a type that bear a tag, none of them dead.
    pub fn of_type_with_tag(&self, type_id: u16, tag: &[u8], most: usize) -> Vec<u32> {
        let of_type = self.types.get(usize::from(type_id)).map(|members| &members.ids);
        let (Some(tagged), Some(of_type)) = (self.members(tag), of_type) else { return Vec::new() };
        let is_alive = |id: &u32| !self.dead.contains(*id);
        if tagged.len() <= FEW {
            let ids = tagged.from(0, FEW as usize).into_iter();
            return ids.filter(|id| of_type.contains(*id)).filter(is_alive).take(most).collect();
        }
        Source::Tag(tagged).and(Cow::Borrowed(of_type)).iter().filter(is_alive).take(most).collect()
    }

    /// With dead ones, and such as have just gone.
    fn selected(&self, selector: &Selector, type_id: impl Fn(&[u8]) -> Option<u16>) -> Cow<'_, RoaringBitmap> {
        let Some(mut sources) = self.sources(selector, type_id) else { return Cow::default() };
        sources.sort_by_key(Source::most);
        let mut sources = sources.into_iter();
        let first = sources.next().map_or_else(|| self.everything(), |source| source.ids());
        let ids = sources.fold(first, |ids, source| source.and(ids));
        self.excluded(selector).fold(ids, |ids, members| match ids.len() {
            0 => ids,
            1..=FEW => Cow::Owned(ids.iter().filter(|id| !members.contains(*id)).collect()),
            _ => without(ids, &members.as_bitmap()),
        })
    }

    /// For each thing that the clauses demand, who fulfils it; `None` when nobody fulfils one of them.
    pub(super) fn sources(
        &self,
        selector: &Selector,
        type_id: impl Fn(&[u8]) -> Option<u16>,
    ) -> Option<Vec<Source<'_>>> {
        let all = selector.all_tags();
        if all.len() > MAX_TAGS {
            return None;
        }
        let mut sources = Vec::new();
        for name in all {
            sources.push(Source::Tag(self.members(name)?));
        }
        for clause in &selector.clauses {
            match clause {
                Clause::Any(names) => {
                    let tags: Vec<&Members> = names.iter().filter_map(|name| self.members(name)).collect();
                    sources.push(if let [only] = *tags { Source::Tag(only) } else { Source::AnyOf(tags) });
                }
                Clause::Type(name) => {
                    sources.push(Source::Type(&self.types.get(usize::from(type_id(name)?))?.ids));
                }
                Clause::Types(names) => {
                    let ids = names.iter().filter_map(|name| type_id(name));
                    let types = ids.filter_map(|id| self.types.get(usize::from(id))).map(|members| &members.ids);
                    sources.push(Source::AnyOfTypes(types.collect()));
                }
                Clause::All(_) | Clause::None(_) | Clause::Match(_) => {}
            }
        }
        Some(sources)
    }

    /// Whose members the clauses exclude.
    pub(super) fn excluded(&self, selector: &Selector) -> impl Iterator<Item = &Members> {
        let names = selector.clauses.iter().filter_map(|clause| match clause {
            Clause::None(names) => Some(names),
            _ => None,
        });
        names.flatten().filter_map(|name| self.members(name))
    }

    /// Does any entry bear the tag, be it a dead one?
    pub fn has_tag(&self, tag: &[u8]) -> bool {
        self.members(tag).is_some_and(|members| members.len() > self.gone_among(members))
    }

    /// How many of these have just gone.
    pub(super) fn gone_among(&self, members: &Members) -> u64 {
        self.gone.ids().filter(|id| members.contains(*id)).count() as u64
    }

    fn members(&self, tag: &[u8]) -> Option<&Members> {
        let tag_id = self.find_tag(self.hasher.hash_one(tag), tag)?;
        self.tags.get(tag_id).map(|tag| &tag.members)
    }

    /// Every entry is of a type.
    fn everything(&self) -> Cow<'_, RoaringBitmap> {
        let unite = |all: Cow<'_, RoaringBitmap>, ids| Cow::Owned(all.into_owned() | ids);
        let mut types = self.types.iter().map(|members| &members.ids).filter(|ids| !ids.is_empty());
        let first = types.next().map_or_else(Cow::default, Cow::Borrowed);
        types.fold(first, unite)
    }
}
