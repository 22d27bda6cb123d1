//! The types: names, policies and counters, server-wide.
//!
//! A type is *known* by a small id as long as anything may name it: it is defined, or has entries somewhere. It is *defined*
//! when it has a policy of its own; an entry of a type that was deleted, or that came with a restored value, lives under the
//! policy of `default` until somebody defines it. Defined types are bounded, and others last no longer than their entries,
//! so names that clients invent cannot fill memory. A type that its first use defined, and nobody since, makes room for
//! another when it has no entries any more: what one client invents does not use up everybody's types.

use hashbrown::HashMap;

use crate::entry::Entry;
use crate::policy::{Audit, Policy, initial_types};
use crate::stats::{Counters, Formats, Windows};
use crate::{Error, Result};

const TOO_MANY: &str = "too many types (see the config expcache.max-types)";

/// The id of the type `default`, which is always there.
pub const DEFAULT_TYPE: u16 = 0;

/// Who defined a type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Definer {
    /// Somebody on purpose.
    #[default]
    Command,
    /// An entry that was stored with its name.
    FirstUse,
}

/// One type.
#[derive(Debug, Default)]
pub struct Type {
    /// Its name.
    pub name: Box<[u8]>,
    /// Its policy, when it is defined.
    pub policy: Option<Policy>,
    /// Who defined it, when it is.
    pub definer: Definer,
    /// Its counters.
    pub counters: Counters,
    /// Those of the last minutes, hours and days.
    pub windows: Windows,
    /// What was stored in which format.
    pub formats: Formats,
    /// Linked entries of it, in all databases, dead ones included.
    pub entries: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// How many went, or had others take their places; and how many of these nobody had read.
    pub ended: u64,
    /// See `ended`.
    pub ended_unread: u64,
    /// How many of the dead that still wait are not to be counted: they were dead before the last reset, or came so.
    pub dead_uncounted: u64,
}

impl Type {
    /// Is there anything to say of it: a policy, or an entry?
    pub fn is_in_use(&self) -> bool {
        self.policy.is_some() || self.entries > 0
    }

    /// Would nobody miss its policy? Its next use defines it again.
    fn makes_room(&self) -> bool {
        self.policy.is_some() && self.definer == Definer::FirstUse && self.entries == 0
    }

    /// What was counted. Dead entries are counted as invalidated when they are reclaimed; those that wait are dead all the same.
    pub fn total(&self, dead: u64) -> Counters {
        let mut total = self.counters.clone();
        total.invalidated += dead.saturating_sub(self.dead_uncounted);
        total
    }

    /// Counts a value that was stored.
    pub fn count_set(&mut self, cost_ms: Option<u64>, format: Option<&[u8]>, payload_bytes: u64) {
        self.counters.count_set(cost_ms);
        if let Some(format) = format {
            self.formats.count(format, payload_bytes);
        }
    }

    /// Counts dead entries that were reclaimed.
    pub fn count_reclaimed(&mut self, entries: u64) {
        let uncounted = entries.min(self.dead_uncounted);
        self.dead_uncounted -= uncounted;
        self.counters.invalidated += entries - uncounted;
    }
}

/// All known types.
pub struct Types {
    by_id: Vec<Type>,
    /// Stands for a type that is not known.
    nobody: Type,
    /// The policy where nobody defined one.
    plain: Policy,
    /// What was counted for types that nobody names any more.
    pub retired: Counters,
    /// What was stored of these in which format.
    pub retired_formats: Formats,
    /// What was counted for all in the last minutes, hours and days.
    windows: Windows,
    /// The minute that is running (see [`crate::stats::windows`]).
    minute: u64,
    ids: HashMap<Box<[u8]>, u16>,
    most_colons: usize,
    /// Did any policy end whole lives since the start?
    ends_lives: bool,
    /// Did any have keys kept in mind to be warmed?
    warms: bool,
    /// Did any have something recorded?
    are_audited: bool,
}

impl Default for Types {
    fn default() -> Self {
        let mut types = Self {
            by_id: Vec::new(),
            nobody: Type::default(),
            plain: Policy::default(),
            retired: Counters::default(),
            retired_formats: Formats::default(),
            windows: Windows::default(),
            minute: 0,
            ids: HashMap::new(),
            most_colons: 0,
            ends_lives: false,
            warms: false,
            are_audited: false,
        };
        types.define_initial();
        types
    }
}

impl Types {
    fn define_initial(&mut self) {
        for (name, policy) in initial_types() {
            if let Some(id) = self.know(name.as_bytes()) {
                self.set_policy(id, policy, Definer::Command);
            }
        }
    }

    /// Puts the initial policies back in the place of all others. Counters and entries stay.
    pub fn reset_policies(&mut self) {
        self.forget_policies();
        self.define_initial();
    }

    /// Forgets every policy: others are about to be loaded in their place.
    pub fn forget_policies(&mut self) {
        for known in &mut self.by_id {
            known.policy = None;
        }
    }

    /// The id of a known type.
    pub fn id(&self, name: &[u8]) -> Option<u16> {
        self.ids.get(name).copied()
    }

    /// The id of a defined type.
    pub fn defined_id(&self, name: &[u8]) -> Option<u16> {
        self.id(name).filter(|id| self.get(*id).policy.is_some())
    }

    /// The id of a type that is known from now on; `None` when 65,535 are.
    pub fn know(&mut self, name: &[u8]) -> Option<u16> {
        if let Some(id) = self.id(name) {
            return Some(id);
        }
        let idle = self.by_id.iter().position(|known| !known.is_in_use());
        let at = idle.unwrap_or(self.by_id.len());
        let id = u16::try_from(at).ok().filter(|id| *id < u16::MAX)?;
        let new = Type { name: name.into(), windows: Windows::new(self.minute), ..Type::default() };
        if at == self.by_id.len() {
            self.by_id.push(new);
        } else {
            self.retire(at, new);
        }
        let colons = name.iter().filter(|byte| **byte == b':').count();
        self.most_colons = self.most_colons.max(colons);
        self.ids.insert(name.into(), id);
        Some(id)
    }

    /// Puts another in the place of a type that nobody names any more. What was counted for it is kept.
    fn retire(&mut self, at: usize, next: Type) {
        let Some(slot) = self.by_id.get_mut(at) else { return };
        let old = std::mem::replace(slot, next);
        self.retired.add(&old.counters);
        self.retired_formats.add(&old.formats);
        if self.ids.get(&old.name).is_some_and(|id| usize::from(*id) == at) {
            self.ids.remove(&old.name);
        }
    }

    /// Lets go of the types that nobody names any more, if more than `most` are known: after a flush of what had been restored.
    pub fn shrink(&mut self, most: usize) {
        if self.by_id.len() <= most {
            return;
        }
        let used = self.by_id.iter().rposition(Type::is_in_use).map_or(0, |last| last + 1);
        for at in (used..self.by_id.len()).rev() {
            self.retire(at, Type::default());
        }
        self.by_id.truncate(used);
        self.by_id.shrink_to(most);
        self.ids.shrink_to(most);
    }

    /// The id of a type that is about to be defined, if it is not; refused when `most` are defined already and none of them
    /// makes room.
    pub fn to_define(&mut self, name: &[u8], most: usize) -> Result<u16> {
        if let Some(id) = self.defined_id(name) {
            return Ok(id);
        }
        let has_room = self.defined_len() < most || self.by_id.iter().any(Type::makes_room);
        let room = if has_room { self.know(name) } else { None };
        room.ok_or(Error::invalid(TOO_MANY))
    }

    fn defined_len(&self) -> usize {
        self.by_id.iter().filter(|known| known.policy.is_some()).count()
    }

    /// Takes away the policy of a type that makes room for one more than `most`; its name, if there was need.
    pub fn make_room(&mut self, most: usize) -> Option<Box<[u8]>> {
        if self.defined_len() < most {
            return None;
        }
        let idle = self.by_id.iter_mut().find(|known| known.makes_room())?;
        idle.policy = None;
        Some(idle.name.clone())
    }

    /// Refuses a name that would be one more when `most` types are in use already, but for those that make room.
    pub fn has_room_for(&self, name: &[u8], most: usize) -> Result<()> {
        let is_used = |known: &Type| known.is_in_use() && !known.makes_room();
        let is_there = || self.id(name).is_some_and(|id| is_used(self.get(id)));
        let room = is_there() || self.by_id.iter().filter(|known| is_used(known)).count() < most;
        if room { Ok(()) } else { Err(Error::invalid(TOO_MANY)) }
    }

    /// No known name has more colons in it.
    pub fn most_colons(&self) -> usize {
        self.most_colons
    }

    /// A known type.
    #[inline]
    pub fn get(&self, id: u16) -> &Type {
        self.by_id.get(usize::from(id)).unwrap_or(&self.nobody)
    }

    /// A known type, to change its counters.
    pub fn get_mut(&mut self, id: u16) -> Option<&mut Type> {
        self.by_id.get_mut(usize::from(id))
    }

    /// The policy that entries of a type live under.
    #[inline]
    pub fn policy(&self, id: u16) -> &Policy {
        let own = self.get(id).policy.as_ref();
        own.or_else(|| self.get(DEFAULT_TYPE).policy.as_ref()).unwrap_or(&self.plain)
    }

    /// Defines a type, or changes what it is defined as.
    pub fn set_policy(&mut self, id: u16, policy: Policy, definer: Definer) {
        self.ends_lives |= policy.whole_life_ms != 0;
        self.warms |= policy.warm != 0;
        self.are_audited |= policy.audit != Audit::Off;
        if let Some(known) = self.get_mut(id) {
            (known.policy, known.definer) = (Some(policy), definer);
        }
    }

    /// May a policy end the whole life of an entry? `false`: none ever did.
    pub fn end_lives(&self) -> bool {
        self.ends_lives
    }

    /// Did any policy since the start have keys kept in mind to be warmed?
    #[inline]
    pub fn warms(&self) -> bool {
        self.warms
    }

    /// How many keys of a type are kept in mind to be warmed.
    #[inline]
    pub fn warm(&self, id: u16) -> u64 {
        // Mostly none ever was.
        if self.warms { self.policy(id).warm } else { 0 }
    }

    /// May a policy have something recorded? `false`: none ever did.
    pub fn are_audited(&self) -> bool {
        self.are_audited
    }

    /// When an entry is over, whatever becomes of its key's expiry, unix ms; `None`: never.
    #[inline]
    pub fn end_of_life_ms(&self, entry: &Entry) -> Option<i64> {
        self.policy(entry.type_id()).end_of_life_ms(entry.born_ms())
    }

    /// The types that have entries which end with their whole life, if they live under the policy of this one.
    pub fn ending_like(&self, id: u16) -> impl Iterator<Item = &Type> {
        let ends = self.policy(id).whole_life_ms != 0;
        let is_like = move |own: u16, known: &Type| own == id || id == DEFAULT_TYPE && known.policy.is_none();
        let all = self.iter().filter(move |(own, known)| ends && known.entries > 0 && is_like(*own, known));
        all.map(|(_, known)| known)
    }

    /// Takes a type's policy away; was there one?
    pub fn undefine(&mut self, name: &[u8]) -> Result<bool> {
        match self.id(name) {
            Some(DEFAULT_TYPE) => Err(Error::invalid("the type default cannot be deleted")),
            Some(id) => Ok(self.get_mut(id).and_then(|known| known.policy.take()).is_some()),
            None => Ok(false),
        }
    }

    /// Every known type with its id.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Type)> {
        (0u16..).zip(&self.by_id)
    }

    /// Every known type, to reset or count.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Type> {
        self.by_id.iter_mut()
    }

    // ---- counting ----

    /// The minute that is running.
    pub fn minute(&self) -> u64 {
        self.minute
    }

    /// Notes that it is this minute. `dead` says of a type how many of its entries are dead and not reclaimed.
    pub fn turn(&mut self, now_minute: u64, dead: impl Fn(u16) -> u64) {
        if now_minute <= self.minute {
            return;
        }
        self.minute = now_minute;
        let mut total = self.retired.clone();
        for (id, known) in (0u16..).zip(&mut self.by_id) {
            let own = known.total(dead(id));
            total.add(&own);
            known.windows.turn(now_minute, &own);
        }
        self.windows.turn(now_minute, &total);
    }

    /// What was counted for all types from the beginning of a minute on; `total` is what was counted altogether.
    pub fn since(&self, start: u64, total: &Counters) -> Counters {
        self.windows.since(start, total)
    }

    /// Starts counting anew. `dead` is as in [`Types::turn`].
    pub fn reset_counters(&mut self, dead: impl Fn(u16) -> u64) {
        (self.retired, self.retired_formats) = (Counters::default(), Formats::default());
        self.windows = Windows::new(self.minute);
        for (id, known) in (0u16..).zip(&mut self.by_id) {
            known.counters = Counters::default();
            known.windows = Windows::new(self.minute);
            known.formats = Formats::default();
            known.dead_uncounted = dead(id);
        }
    }

    /// Bytes of memory that windows and formats take.
    pub fn statistics_bytes(&self) -> usize {
        let of = |known: &Type| known.windows.size_bytes() + known.formats.size_bytes();
        self.windows.size_bytes() + self.retired_formats.size_bytes() + self.by_id.iter().map(of).sum::<usize>()
    }

    /// The initial types that are defined no more.
    pub fn deleted_initial(&self) -> Vec<&'static str> {
        initial_types().map(|(name, _)| name).filter(|name| self.defined_id(name.as_bytes()).is_none()).collect()
    }

    /// Are the policies those of a fresh server?
    pub fn are_initial(&self) -> bool {
        let defined = self.by_id.iter().filter(|t| t.policy.is_some()).count();
        let mut expected = 0;
        initial_types().all(|(name, policy)| {
            expected += 1;
            self.id(name.as_bytes()).is_some_and(|id| self.get(id).policy.as_ref() == Some(&policy))
        }) && defined == expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_need_and_bounded() {
        let mut types = Types::default();
        assert!(types.are_initial());
        let initial = types.iter().count();
        assert_eq!(types.defined_id(b"default"), Some(DEFAULT_TYPE));
        let held = types.know(b"held");
        assert!(held.is_some() && types.defined_id(b"held").is_none() && types.are_initial());
        if let Some(known) = held.and_then(|id| types.get_mut(id)) {
            known.entries = 1;
        }
        let idle = types.know(b"idle");
        assert_eq!(types.to_define(b"other", initial + 1).ok(), idle, "an idle name makes room");
        assert_eq!(types.id(b"idle"), None);
        types.set_policy(types.id(b"other").unwrap_or(0), Policy::default(), Definer::Command);
        assert!(types.to_define(b"more", initial + 1).is_err() && types.to_define(b"other", 0).is_ok());
        assert!(!types.are_initial());
    }

    /// What only its first use defined makes room when it is empty; what somebody defined, or is used, does not.
    #[test]
    fn a_name_that_was_only_used_makes_room() {
        let mut types = Types::default();
        let most = types.iter().count() + 1;
        let used = types.to_define(b"used", most).unwrap_or(0);
        types.set_policy(used, Policy::default(), Definer::FirstUse);
        types.get_mut(used).into_iter().for_each(|known| known.entries = 1);
        assert!(types.to_define(b"next", most).is_err() && types.make_room(most).is_none());
        types.get_mut(used).into_iter().for_each(|known| known.entries = 0);
        assert!(types.to_define(b"next", most).is_ok());
        assert_eq!(types.make_room(most + 1), None, "there is room");
        assert_eq!(types.make_room(most).as_deref(), Some(&b"used"[..]));
        let next = types.id(b"next").unwrap_or(0);
        types.set_policy(next, Policy::default(), Definer::Command);
        assert!(types.to_define(b"used", most).is_err());
    }

    /// Types that come with restored values are bounded by those that have entries, and let go when these are gone.
    #[test]
    fn restored_names_are_bounded_and_let_go() {
        let mut types = Types::default();
        let most = types.iter().count() + 3;
        let entries = |types: &mut Types, name: &[u8], entries| {
            let id = types.know(name);
            id.and_then(|id| types.get_mut(id)).into_iter().for_each(|known| known.entries = entries);
        };
        for name in [b"a", b"b", b"c"] {
            assert_eq!(types.has_room_for(name, most), Ok(()));
            entries(&mut types, name, 1);
        }
        assert!(types.has_room_for(b"d", most).is_err() && types.has_room_for(b"a", most).is_ok());
        entries(&mut types, b"b", 0);
        assert_eq!(types.has_room_for(b"d", most), Ok(()));
        for name in [b"e", b"f", b"g"] {
            entries(&mut types, name, 1);
        }
        for name in [b"a", b"c", b"e", b"f", b"g"] {
            entries(&mut types, name, 0);
        }
        types.shrink(most);
        assert_eq!(types.iter().count(), most - 3);
        assert!(types.id(b"a").is_none() && types.id(b"trips").is_some());
    }

    /// Types come and go, are counted for and invalidated; the windows of each, added up, are those of all.
    #[test]
    fn what_types_count_adds_up() {
        let mut types = Types::default();
        let first = types.id(b"trips").unwrap_or(0);
        let count = |types: &mut Types, id: u16, hits| {
            types.get_mut(id).into_iter().for_each(|known| known.counters.hits += hits);
        };
        count(&mut types, first, 5);
        types.turn(60, |_| 0);
        count(&mut types, first, 2);
        let idle = types.know(b"idle").unwrap_or(0);
        count(&mut types, idle, 10);
        types.turn(61, |id| u64::from(id == first) * 7);
        let next = types.know(b"next").unwrap_or(0);
        assert_eq!(next, idle, "a name that nobody uses makes room, its counts are kept");
        count(&mut types, next, 100);

        let totals: Vec<Counters> = types.iter().map(|(id, t)| t.total(u64::from(id == first) * 7)).collect();
        let mut all = types.retired.clone();
        totals.iter().for_each(|total| all.add(total));
        assert_eq!((all.hits, all.invalidated), (117, 7));
        for (start, hits, own, invalidated) in [(0, 117, 7, 7), (60, 112, 2, 7), (61, 100, 0, 0)] {
            let window = types.since(start, &all);
            assert_eq!((window.hits, window.invalidated), (hits, invalidated), "from {start}");
            let of = |id: u16| totals.get(usize::from(id)).map(|total| types.get(id).windows.since(start, total).hits);
            assert_eq!((of(first), of(next)), (Some(own), Some(100)), "from {start}");
        }
        types.reset_counters(|id| u64::from(id == first) * 7);
        assert_eq!(types.get(first).total(7), Counters::default());
        assert_eq!(types.get(first).total(9).invalidated, 2);
        assert_eq!(types.since(0, &Counters::default()), Counters::default());
    }

    #[test]
    fn a_deleted_type_lives_under_default() {
        let mut types = Types::default();
        let trips = types.id(b"trips").unwrap_or(0);
        assert_eq!(types.policy(trips).ttl_ms(1), 3_600_000);
        assert_eq!((types.undefine(b"trips"), types.undefine(b"trips")), (Ok(true), Ok(false)));
        assert_eq!(types.policy(trips).ttl_ms(1), 1);
        assert!(types.undefine(b"default").is_err());
        types.reset_policies();
        assert!(types.are_initial());
    }
}
