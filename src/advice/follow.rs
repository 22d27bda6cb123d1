//! What happens to entries, handed on to an estimator for each type.
//!
//! The time is that of the server's last beat: the estimators count in tenths of a second. So of a value that is handed out several times between
//! two beats each time but the first changes nothing but counts. There are so many types at most; one that was idle for a day makes room for
//! another.

use std::cmp::Reverse;

use expcache_core::advice::{Details, Estimator, Moment, Outcome, Salt, Stored, TagHash, TagTimes, Trial, moment};
use expcache_core::policy::Policy;
use expcache_core::selector::{Clause, Selector};

use crate::cache::{self, Cache};
use crate::server::clock;
use crate::server::main_thread::MainThread;
use crate::server::setting::Setting;

/// How many keys of a type are followed; 0: none.
pub static ADVICE_KEYS: Setting = Setting::number(c"advice-keys", 2304, 0..=20_000);

/// The most types that are followed.
const MOST_TYPES: usize = 64;
/// A type that nobody read for so long makes room, in ticks of 100 ms.
const IDLE: Moment = 24 * 60 * 60 * 10;
/// The main thread looks at no more bytes to tell whether a value is the same as before.
const MOST_DIGESTED: usize = 64 << 10;
/// So many keys that made room are remembered.
const MOST_EVICTED: usize = 4096;
/// So many tags have their names kept, of each type.
const MOST_NAMES: usize = 32;

/// The estimator of a type.
pub struct OfType {
    name: Box<[u8]>,
    /// What of its policy the measures depend on.
    measured_under: MeasuredUnder,
    read_at: Moment,
    /// How many of its values had ended when that was looked at last, and how many unread.
    ended: (u64, u64),
    pub estimator: Estimator,
    /// The names of tags that the estimator watches.
    pub tags: Vec<(TagHash, Box<[u8]>)>,
}

/// The TTL, and the most bytes and entries of a type.
type MeasuredUnder = (Option<u64>, u64, u64);

fn measured_under(policy: &Policy) -> MeasuredUnder {
    (policy.ttl_ms, policy.max_bytes, policy.max_entries)
}

/// All of them.
#[derive(Default)]
pub struct Followers {
    now: Moment,
    /// When the last beat was, by the clock of uses.
    beat_us: u64,
    salt: Salt,
    tags: TagTimes,
    of: Vec<Option<Box<OfType>>>,
    len: usize,
    /// The types that were not followed when they were used since the last beat, and whether somebody read them.
    waiting: Vec<(u16, bool)>,
    /// Keys that made room: parts of their hashes, each in a place of its own; a later one takes the place of an earlier.
    evicted: Vec<u32>,
}

static FOLLOWERS: MainThread<Followers> = MainThread::new();

/// Opens them. `work` must not call the server.
pub fn with<R>(work: impl FnOnce(&mut Followers) -> R) -> R {
    FOLLOWERS.with(work)
}

fn is_off() -> bool {
    ADVICE_KEYS.get() == 0
}

/// Notes a read of a key, which is of the index of that number. Its value was handed out before at that time, by the clock of uses; 0: perhaps
/// never.
#[inline]
pub fn read(type_id: u16, index: u16, key: &[u8], outcome: Outcome, before_us: u64) {
    if is_off() {
        return;
    }
    with(|all| {
        let hash = || all.salt.key(index, key);
        match all.of.get_mut(usize::from(type_id)) {
            Some(Some(of)) if outcome == Outcome::Fresh && before_us > all.beat_us => {
                of.estimator.read_again(hash, all.now, &all.tags);
            }
            Some(Some(of)) => {
                let hash = hash();
                of.read_at = all.now;
                of.estimator.read(hash, all.now, outcome, &all.tags);
                if outcome == Outcome::Cold && take_evicted(&mut all.evicted, hash) {
                    of.estimator.evidence.count_evicted_again();
                }
            }
            _ => all.wait(type_id, true),
        }
    });
}

/// Notes that a key made room because its type had too many bytes.
pub fn evicted(index: u16, key: &[u8]) {
    if is_off() {
        return;
    }
    with(|all| {
        let hash = all.salt.key(index, key);
        if all.evicted.is_empty() {
            all.evicted = vec![0; MOST_EVICTED];
        }
        all.evicted.get_mut(place_of(hash)).into_iter().for_each(|place| *place = part(hash));
    });
}

/// Some of the lowest bits say which database it is.
fn place_of(hash: u64) -> usize {
    (hash >> 16) as usize % MOST_EVICTED
}

fn part(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

fn take_evicted(evicted: &mut [u32], hash: u64) -> bool {
    let place = evicted.get_mut(place_of(hash)).filter(|place| **place == part(hash));
    place.map(std::mem::take).is_some()
}

/// Is no type followed?
pub fn is_empty() -> bool {
    with(|all| all.len == 0)
}

/// Notes that a key was deleted that held an entry of that type.
pub fn deleted(type_id: u16, index: u16, key: &[u8]) {
    with(|all| {
        let hash = all.salt.key(index, key);
        let of = all.of.get_mut(usize::from(type_id)).and_then(Option::as_mut);
        of.into_iter().for_each(|of| of.estimator.deleted(hash));
    });
}

/// Notes that a value is stored with these tags. Its bytes are as they came; `None`: somebody will tell what stands for them. Is its payload to
/// be tried in other forms?
pub fn stored(type_id: u16, index: u16, key: &[u8], value: Stored, tags: &[&[u8]], bytes: Option<&[u8]>) -> bool {
    if is_off() {
        return false;
    }
    with(|all| {
        let (salt, now) = (&all.salt, all.now);
        let hash = salt.key(index, key);
        let Some(Some(of)) = all.of.get_mut(usize::from(type_id)) else {
            all.wait(type_id, false);
            return false;
        };
        let details = || {
            let mut own = Details { digest: bytes.map(|bytes| salt.digest(bytes)), ..Details::default() };
            let mut known: Vec<TagHash> = tags.iter().map(|tag| salt.tag(index, tag)).collect();
            if known.len() > own.tags.len() {
                // Those that were invalidated last are the most likely to be again.
                known.sort_by_key(|tag| Reverse(all.tags.last_of(*tag)));
            }
            own.tags.iter_mut().zip(known).for_each(|(own, tag)| *own = tag);
            own
        };
        let watched = of.estimator.stored(hash, now, value, &all.tags, details);
        let name = |watched| tags.iter().find(|tag| salt.tag(index, tag) == watched);
        if let Some((watched, name)) = watched.and_then(|watched| Some((watched, name(watched)?))) {
            of.name_tag(watched, name);
        }
        of.estimator.evidence.trials.is_due()
    })
}

/// Notes what came of a payload of a type of that name that was tried in other forms.
pub fn tried(type_id: u16, type_name: &[u8], trial: &Trial) {
    with(|all| {
        let of = all.named_mut(type_id, type_name);
        of.into_iter().for_each(|of| of.estimator.evidence.trials.note(trial));
    });
}

/// Is a payload so large that a worker tells what stands for it?
pub fn digests_later(bytes: usize) -> bool {
    bytes > MOST_DIGESTED
}

/// Tells what stands for the bytes of a value that is stored: its MD5. The tags of its entry are asked for if one of them is of interest.
pub fn digested(type_id: u16, index: u16, key: &[u8], etag: &[u8], tags: impl FnOnce() -> Vec<Box<[u8]>>) {
    if is_off() {
        return;
    }
    let watched = with(|all| {
        let (digest, hash, now) = (all.salt.digest(etag), all.salt.key(index, key), all.now);
        all.get_mut(type_id)?.estimator.digested(hash, now, digest)
    });
    let Some(watched) = watched else { return };
    let tags = tags();
    with(|all| {
        let name = tags.iter().find(|tag| all.salt.tag(index, tag) == watched).cloned();
        if let (Some(name), Some(of)) = (name, all.get_mut(type_id)) {
            of.name_tag(watched, &name);
        }
    });
}

/// Notes an invalidation in the database of that index. Of those that are not confined to tags or types nobody knows which of the followed keys
/// they mean; what was measured makes up for that.
pub fn invalidated(index: u16, selector: &Selector) {
    if is_off() {
        return;
    }
    let types: Option<Vec<u16>> = match selector.clauses.as_slice() {
        [] => Some(Vec::new()),
        [Clause::Type(name)] => Some(cache::with(|s| s.types.id(name)).into_iter().collect()),
        [Clause::Types(names)] => Some(cache::with(|s| names.iter().filter_map(|name| s.types.id(name)).collect())),
        _ => None,
    };
    with(|all| {
        let now = all.now;
        if let Some(tags) = selector.only_any() {
            tags.iter().for_each(|tag| all.tags.note(all.salt.tag(index, tag), now));
        } else if selector.clauses.is_empty() {
            all.of.iter_mut().flatten().for_each(|of| of.estimator.clear(index, now));
        }
        let meant = types.into_iter().flatten();
        meant.for_each(|id| all.get_mut(id).into_iter().for_each(|of| of.estimator.clear(index, now)));
    });
}

/// What is to be done at every beat of the server's clock.
pub fn tick() {
    let keys = ADVICE_KEYS.as_usize();
    if keys == 0 {
        return with(|all| {
            if all.len > 0 {
                *all = Followers::default();
            }
        });
    }
    with(|all| (all.now, all.beat_us) = (moment(clock::steady_ms()), clock::use_us()));
    cache::with(|s| with(|all| all.look_after(s, keys)));
}

/// Bytes of memory that they take.
pub fn size_bytes() -> usize {
    with(|all| {
        let own = all.of.iter().flatten().map(|of| of.estimator.size_bytes());
        own.sum::<usize>() + all.tags.size_bytes()
    })
}

impl OfType {
    fn new(s: &Cache, type_id: u16, keys: usize, now: Moment) -> Self {
        let (known, policy) = (s.types.get(type_id), s.types.policy(type_id));
        Self {
            name: known.name.clone(),
            measured_under: measured_under(policy),
            read_at: now,
            ended: (known.ended, known.ended_unread),
            estimator: Estimator::new(keys, now),
            tags: Vec::new(),
        }
    }

    fn name_tag(&mut self, tag: TagHash, name: &[u8]) {
        if self.tags.len() >= MOST_NAMES {
            // What the estimator does not watch any more is the oldest.
            self.tags.remove(0);
        }
        self.tags.retain(|(known, _)| *known != tag);
        self.tags.push((tag, name.into()));
    }
}

impl Followers {
    /// The estimator of a type.
    pub fn get_mut(&mut self, type_id: u16) -> Option<&mut OfType> {
        self.of.get_mut(usize::from(type_id))?.as_deref_mut()
    }

    /// The same, of a type of that name: until the next beat another may have had the number.
    pub fn named_mut(&mut self, type_id: u16, name: &[u8]) -> Option<&mut OfType> {
        self.get_mut(type_id).filter(|of| *of.name == *name)
    }

    /// The types that are followed.
    pub fn types(&self) -> Vec<u16> {
        (0..).zip(&self.of).filter(|(_, of)| of.is_some()).map(|(type_id, _)| type_id).collect()
    }

    /// What time it is.
    pub fn now(&self) -> Moment {
        self.now
    }

    #[cold]
    fn wait(&mut self, type_id: u16, is_read: bool) {
        let has_room = self.waiting.len() < MOST_TYPES;
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == type_id) {
            Some((_, was_read)) => *was_read |= is_read,
            None if has_room => self.waiting.push((type_id, is_read)),
            None => (),
        }
    }

    fn look_after(&mut self, s: &Cache, keys: usize) {
        let now = self.now;
        for (type_id, place) in (0..).zip(&mut self.of) {
            let Some(of) = place else { continue };
            let (known, policy) = (s.types.get(type_id), s.types.policy(type_id));
            if known.name != of.name || !of.estimator.follows(keys) {
                *place = None;
                self.len -= 1;
                continue;
            }
            let under = measured_under(policy);
            if std::mem::replace(&mut of.measured_under, under) != under {
                of.estimator.measure_anew();
            }
            let (ended, unread) = std::mem::replace(&mut of.ended, (known.ended, known.ended_unread));
            of.estimator
                .evidence
                .count_ended(known.ended.saturating_sub(ended), known.ended_unread.saturating_sub(unread));
            of.estimator.turn(now);
        }
        for (type_id, is_read) in std::mem::take(&mut self.waiting) {
            // One that nobody reads takes no other's place.
            if self.len >= MOST_TYPES && !(is_read && self.drop_idle()) {
                continue;
            }
            let at = usize::from(type_id);
            if self.of.len() <= at {
                self.of.resize_with(at + 1, || None);
            }
            if let Some(place @ None) = self.of.get_mut(at) {
                *place = Some(Box::new(OfType::new(s, type_id, keys, now)));
                self.len += 1;
            }
        }
    }

    fn drop_idle(&mut self) -> bool {
        let now = self.now;
        let is_idle = |of: &OfType| now.saturating_sub(of.read_at) > IDLE || of.estimator.reads() == 0.0;
        let idle = self.of.iter_mut().find(|place| place.as_ref().is_some_and(|of| is_idle(of)));
        let found = idle.is_some_and(|place| place.take().is_some());
        self.len -= usize::from(found);
        found
    }
}
