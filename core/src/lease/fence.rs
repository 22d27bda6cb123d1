//! Fences: what was invalidated while somebody was producing.
//!
//! A value's tags are known only when it is stored, so what was invalidated since its lease was granted must be remembered
//! until then. Each record bears the number of its invalidation; a lease bears the number of its granting; a record with a
//! greater number that hits the new entry means that the value may be older than the invalidation.
//!
//! 1. Order comes from numbers given out by [`Leases`](super::Leases) one after the other, never from a clock. No two things
//!    have the same number.
//! 2. What was invalidated twice is one record, with the latest number: repeating costs no memory.
//! 3. A record that no outstanding lease is older than is dropped.
//! 4. What takes too long to be looked through counts as a hit: a lease may be fenced in vain, others are not kept waiting.
//! 5. There is a bound. Past it the oldest record is dropped, and the *floor* raised to its number: leases older than the
//!    floor are fenced whatever they store. Correctness comes before availability.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;

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
}

/// Things and the number that each had last.
struct Latest<T: ?Sized> {
    numbers: HashMap<Arc<T>, u64>,
    things: BTreeMap<u64, Arc<T>>,
}

impl<T: ?Sized> Default for Latest<T> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), things: BTreeMap::new() }
    }
}

impl<T: ?Sized + Hash + Eq> Latest<T> {
    /// Says whether the thing is a new one.
    fn note(&mut self, thing: impl Borrow<T> + Into<Arc<T>>, number: u64) -> bool {
        if let Some(known) = self.numbers.get_mut(thing.borrow()) {
            if let Some(thing) = self.things.remove(known) {
                self.things.insert(number, thing);
            }
            *known = number;
            return false;
        }
        let thing = thing.into();
        self.numbers.insert(Arc::clone(&thing), number);
        self.things.insert(number, thing);
        true
    }

    fn oldest(&self) -> Option<u64> {
        self.things.first_key_value().map(|(number, _)| *number)
    }

    fn drop_oldest(&mut self) -> Option<Arc<T>> {
        let (_, thing) = self.things.pop_first()?;
        self.numbers.remove(&thing);
        Some(thing)
    }
}

/// See the module's head.
pub(super) struct Fences<S> {
    /// Leases granted before this are fenced from everything.
    floor: u64,
    tags: Latest<[u8]>,
    selectors: Latest<S>,
    /// What the selectors count as, together.
    selectors_weight: usize,
}

impl<S> Default for Fences<S> {
    fn default() -> Self {
        Self { floor: 0, tags: Latest::default(), selectors: Latest::default(), selectors_weight: 0 }
    }
}

impl<S: Hits> Fences<S> {
    /// Was anything invalidated since the number `granted` that would have hit this? Looks each tag up, and at each
    /// selector noted since.
    pub(super) fn hit(&self, granted: u64, subject: &Subject<'_>) -> bool {
        let mut left = MOST_STEPS;
        granted < self.floor
            || subject.tags.iter().any(|tag| self.tags.numbers.get(*tag).is_some_and(|number| granted < *number))
            || self.selectors.things.range(granted..).any(|(_, selector)| selector.hits(subject, &mut left))
    }

    pub(super) fn note_tag(&mut self, tag: &[u8], number: u64, bound: usize) {
        self.tags.note(tag, number);
        self.keep_within(bound);
    }

    pub(super) fn note_selector(&mut self, selector: S, number: u64, bound: usize) {
        let weight = weight_of(&selector);
        if self.selectors.note(selector, number) {
            self.selectors_weight += weight;
        }
        self.keep_within(bound);
    }

    /// Everything was invalidated: nothing noted before says more.
    pub(super) fn note_everything(&mut self, number: u64) {
        *self = Self { floor: number, ..Self::default() };
    }

    /// Drops what is older than the oldest lease that is outstanding.
    pub(super) fn drop_before(&mut self, oldest_lease: Option<u64>) {
        let Some(oldest) = oldest_lease else {
            *self = Self { floor: self.floor, ..Self::default() };
            return;
        };
        while self.oldest().is_some_and(|number| number < oldest) {
            self.drop_oldest();
        }
    }

    /// What is remembered, as it counts against the bound.
    pub(super) fn len(&self) -> usize {
        self.tags.things.len() + self.selectors_weight
    }

    fn keep_within(&mut self, bound: usize) {
        while self.len() > bound
            && let Some(number) = self.oldest()
        {
            self.drop_oldest();
            self.floor = number;
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.tags.oldest().into_iter().chain(self.selectors.oldest()).min()
    }

    fn drop_oldest(&mut self) {
        let is_tag = self.tags.oldest().is_some_and(|tag| self.selectors.oldest().is_none_or(|other| tag < other));
        if is_tag {
            self.tags.drop_oldest();
        } else if let Some(selector) = self.selectors.drop_oldest() {
            self.selectors_weight -= weight_of(&*selector);
        }
    }
}

/// Nothing is free, or there would be no bound.
fn weight_of(selector: &impl Hits) -> usize {
    selector.weight().max(1)
}
