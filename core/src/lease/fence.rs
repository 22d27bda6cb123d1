//! Fences: what was invalidated while somebody was producing.
//!
//! A value's tags are known only when it is stored, so what was invalidated since its lease was granted must be remembered
//! until then. Each record bears the number of its invalidation; a lease bears the number of its granting; a record with a
//! greater number that hits the new entry means that the value may be older than the invalidation.
//!
//! 1. Order comes from numbers given out by [`Leases`](super::Leases) one after the other, never from a clock. No two things
//!    have the same number.
//! 2. What was invalidated twice is one record, with the latest number: repeating costs no memory. Of a tag's name no more
//!    than a mark is kept (see `names.rs`): of two that are one by chance both fence, in vain at worst.
//! 3. A record that no outstanding lease, and no key backing off, is older than is dropped, soon.
//! 4. What takes too long to be looked through counts as a hit: a lease may be fenced in vain, others are not kept waiting.
//! 5. There is a bound, and correctness comes before availability: what is forgotten fences the leases that are older than it. Of names
//!    there are so many that nobody comes to it by naming some that nobody bears, before most leases are over. A selector past
//!    the bound goes to the names, as tags that all it hits bear; if it has none, the *floor* is raised to its number: leases older
//!    than the floor are fenced whatever they store. (Who may name things by anything but their tags may name them all.)
//! 6. What is much is not freed here, but put aside for whoever can without keeping others waiting.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::aside::Aside;
use super::names::Names;

/// So many tags' names are remembered for each name that may be remembered in selectors.
pub const TAGS_PER_FENCE: usize = 40;

/// No more selectors are dropped at a time, if there is no haste.
const MOST_DROPPED: usize = 64;

/// How much is looked through for one value, in steps: each is about a comparison of bytes. A millisecond or two.
const MOST_STEPS: u64 = 1 << 19;

/// What a value about to be stored can be hit by.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its type's name.
    pub type_name: &'a [u8],
    /// The tags that it will bear.
    pub tags: &'a [&'a [u8]],
}

/// A selector of entries: the same ones select the same.
pub trait Hits: Eq + Hash {
    /// Would it have hit this? Takes the steps that it needs away from those that are left; it would if these are too few.
    fn hits(&self, subject: &Subject<'_>, left: &mut u64) -> bool;

    /// How many records it counts as against the bound: one for each name in it, or so.
    fn weight(&self) -> usize;

    /// Tags of which everything that it hits bears one, if there are such.
    fn any_of(&self) -> Option<Vec<&[u8]>>;
}

/// Things and the number that each had last.
struct Latest<T> {
    numbers: HashMap<T, u64>,
    things: BTreeMap<u64, T>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), things: BTreeMap::new() }
    }
}

impl<T: Hash + Eq + Clone> Latest<T> {
    /// Says whether the thing is a new one.
    fn note(&mut self, thing: T, number: u64) -> bool {
        let before = self.numbers.insert(thing.clone(), number);
        self.things.insert(number, thing);
        before.is_none_or(|before| self.things.remove(&before).is_none())
    }

    fn oldest(&self) -> Option<u64> {
        self.things.first_key_value().map(|(number, _)| *number)
    }

    fn drop_oldest(&mut self) -> Option<(u64, T)> {
        let (number, thing) = self.things.pop_first()?;
        self.numbers.remove(&thing);
        Some((number, thing))
    }
}

/// See the module's head.
pub(super) struct Fences<S> {
    /// Leases granted before this are fenced from everything.
    floor: u64,
    /// The number of the last invalidation.
    latest: u64,
    hasher: DefaultHashBuilder,
    tags: Names,
    selectors: Latest<Arc<S>>,
    /// What the selectors count as, together.
    selectors_weight: usize,
}

impl<S> Default for Fences<S> {
    fn default() -> Self {
        Self::above(0)
    }
}

impl<S> Fences<S> {
    fn above(floor: u64) -> Self {
        Self {
            floor,
            latest: floor,
            hasher: DefaultHashBuilder::default(),
            tags: Names::default(),
            selectors: Latest::default(),
            selectors_weight: 0,
        }
    }
}

impl<S: Hits + Send + Sync + 'static> Fences<S> {
    /// Was anything invalidated since the number `granted` that would have hit this? Looks each tag up, and at each
    /// selector noted since.
    pub(super) fn hit(&self, granted: u64, subject: &Subject<'_>) -> bool {
        let mut left = MOST_STEPS;
        granted < self.floor
            || subject.tags.iter().any(|tag| granted < self.latest(tag))
            || self.selectors.things.range(granted..).any(|(_, selector)| selector.hits(subject, &mut left))
    }

    /// The number of a tag's last invalidation, or a later one.
    fn latest(&self, tag: &[u8]) -> u64 {
        self.tags.number(self.hasher.hash_one(tag))
    }

    /// Was anything at all invalidated since the number `granted`?
    pub(super) fn any_since(&self, granted: u64) -> bool {
        granted < self.latest
    }

    pub(super) fn note_tag(&mut self, tag: &[u8], number: u64, bound: usize) {
        self.latest = number;
        self.tags.note(self.hasher.hash_one(tag), number, bound.saturating_mul(TAGS_PER_FENCE));
    }

    pub(super) fn note_selector(&mut self, selector: S, number: u64, bound: usize) {
        self.latest = number;
        let weight = weight_of(&selector);
        if self.selectors.note(Arc::new(selector), number) {
            self.selectors_weight += weight;
        }
        while self.selectors_weight > bound
            && let Some((number, selector)) = self.drop_oldest_selector()
        {
            self.weaken(&selector, number, bound);
        }
    }

    /// Everything was invalidated: nothing noted before says more.
    pub(super) fn note_everything(&mut self, number: u64, aside: &mut Aside) {
        self.start_again(number, aside);
    }

    fn start_again(&mut self, floor: u64, aside: &mut Aside) {
        if self.is_empty() {
            (self.floor, self.latest) = (floor, self.latest.max(floor));
        } else {
            let before = std::mem::replace(self, Self::above(floor));
            aside.put(before.len(), before);
        }
    }

    /// Drops what is older than the oldest lease that is outstanding, some of it at a time.
    pub(super) fn drop_before(&mut self, oldest_lease: Option<u64>, aside: &mut Aside) {
        let Some(oldest) = oldest_lease else { return self.start_again(self.floor, aside) };
        if self.tags.is_before(oldest) && !self.tags.is_empty() {
            aside.put(self.tags.len(), std::mem::take(&mut self.tags));
        }
        self.tags.drop_before(oldest);
        for _ in 0..MOST_DROPPED {
            if self.selectors.oldest().is_none_or(|number| number >= oldest) {
                break;
            }
            self.drop_oldest_selector();
        }
    }

    fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.selectors.things.is_empty()
    }

    /// What is remembered, as it counts against the bound, which is for tags and for selectors.
    pub(super) fn len(&self) -> usize {
        self.tags.len().max(self.selectors_weight)
    }

    fn drop_oldest_selector(&mut self) -> Option<(u64, Arc<S>)> {
        let (number, selector) = self.selectors.drop_oldest()?;
        self.selectors_weight -= weight_of(&*selector);
        Some((number, selector))
    }

    /// Remembers less exactly what a selector hits.
    fn weaken(&mut self, selector: &S, number: u64, bound: usize) {
        match selector.any_of() {
            Some(tags) => tags.into_iter().for_each(|tag| {
                self.tags.note(self.hasher.hash_one(tag), number, bound.saturating_mul(TAGS_PER_FENCE));
            }),
            None => self.floor = self.floor.max(number),
        }
    }
}

/// Nothing is free, or there would be no bound.
fn weight_of(selector: &impl Hits) -> usize {
    selector.weight().max(1)
}
