//! Producers, readers and invalidators in random order, over few keys and tags, against a model too simple to be wrong.
//!
//! The model remembers of each tag, pair of tags, type and key when it was invalidated last, and of each value when its
//! source was read, both as the number of the step. What must hold:
//!
//! - no value is accepted, or served, that was read before the last invalidation that hits it;
//! - a value is refused only if its lease is over, or something that hits it was invalidated since the lease was granted
//!   (or the bound on fences was passed);
//! - every other answer, of every call, is the model's.
//!
//! `EXPCACHE_SEED=n` plays other schedules, `EXPCACHE_SCHEDULES=n` so many of them instead of ten thousand.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::tests::Selector;
use fastrand::Rng;

use super::*;

const KEYS: [&[u8]; 3] = [b"k0", b"k1", b"k2"];
const TAGS: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
const TYPES: [&[u8]; 2] = [b"t", b"u"];

/// What a value is, to an invalidation.
#[derive(Clone, Copy)]
struct Is {
    key: usize,
    type_at: usize,
    /// A bit for each tag.
    tags: usize,
}

impl Is {
    fn bears(self, tag: usize) -> bool {
        self.tags >> tag & 1 == 1
    }
}

/// The step of the last invalidation of each thing.
#[derive(Default)]
struct Invalidated {
    tags: [u64; TAGS.len()],
    pairs: [[u64; TAGS.len()]; TAGS.len()],
    types: [u64; TYPES.len()],
    keys: [u64; KEYS.len()],
    everything: u64,
}

impl Invalidated {
    fn last(&self, is: Is) -> u64 {
        let mut last = self.everything.max(self.types[is.type_at]).max(self.keys[is.key]);
        for tag in (0..TAGS.len()).filter(|tag| is.bears(*tag)) {
            last = last.max(self.tags[tag]);
            for other in (0..TAGS.len()).filter(|other| is.bears(*other)) {
                last = last.max(self.pairs[tag][other]);
            }
        }
        last
    }
}

struct ModelLease {
    token: Token,
    granted: u64,
    since_ms: u64,
    until_ms: u64,
    waiters: Vec<(u64, Option<Wish>)>,
}

/// Until when, since which step, and what the key is then.
#[derive(Clone, Copy)]
struct BackingOff {
    until_ms: u64,
    since: u64,
    is: Is,
}

#[derive(Default)]
struct Model {
    held: [Option<ModelLease>; KEYS.len()],
    backing_off: [Option<BackingOff>; KEYS.len()],
    invalidated: Invalidated,
    /// What is stored: when it was read, and what it is.
    cache: [Option<(u64, Is)>; KEYS.len()],
}

impl Model {
    fn holds(&self, key: usize, token: Token, now_ms: u64) -> bool {
        self.held[key].as_ref().is_some_and(|lease| lease.token == token && now_ms < lease.until_ms)
    }

    fn ask(&mut self, key: usize, limit: usize, granted: ModelLease) -> Asked {
        let now_ms = granted.since_ms;
        if self.holds(key, granted.token, now_ms) {
            self.held[key].as_mut().unwrap().until_ms = granted.until_ms;
            return Asked::Again;
        }
        if let Some(lease) = self.held[key].as_ref().filter(|l| now_ms < l.until_ms || !l.waiters.is_empty()) {
            return Asked::Held { left_ms: lease.until_ms.saturating_sub(now_ms) };
        }
        let invalidated = &self.invalidated;
        let goes_on = |off: &BackingOff| now_ms < off.until_ms && invalidated.last(off.is) <= off.since;
        if let Some(off) = self.backing_off[key].filter(goes_on) {
            return Asked::BackingOff { left_ms: off.until_ms - now_ms };
        }
        (self.held[key], self.backing_off[key]) = (None, None);
        if self.records() >= limit {
            return Asked::Full;
        }
        self.held[key] = Some(granted);
        Asked::Granted
    }

    /// The lease is over without a value; says who is woken.
    fn give_up(&mut self, key: usize, step: u64, now_ms: u64) -> Vec<Woken> {
        let Some(ended) = self.held[key].take() else { return Vec::new() };
        let heir = ended.waiters.iter().find_map(|(_, wish)| *wish);
        if let Some(Wish { token, duration_ms, .. }) = heir {
            let until_ms = now_ms + duration_ms;
            self.held[key] = Some(ModelLease { token, granted: step, since_ms: now_ms, until_ms, waiters: Vec::new() });
        }
        let lease_of = |wish: Option<Wish>| wish.map(|wish| wish.token).filter(|of| *of == heir.unwrap().token);
        ended.waiters.iter().map(|(waiter, wish)| Woken { waiter: *waiter, lease: lease_of(*wish) }).collect()
    }

    fn waiters(&self) -> impl Iterator<Item = u64> {
        self.held.iter().flatten().flat_map(|lease| lease.waiters.iter().map(|(waiter, _)| *waiter))
    }

    fn held_len(&self) -> usize {
        self.held.iter().flatten().count()
    }

    fn records(&self) -> usize {
        self.held_len() + self.backing_off.iter().flatten().count()
    }

    fn next_deadline(&self) -> Option<u64> {
        self.held
            .iter()
            .flatten()
            .map(|lease| lease.until_ms)
            .chain(self.backing_off.iter().flatten().map(|off| off.until_ms))
            .min()
    }

    /// Takes out of the cache what was invalidated in this step.
    fn sweep(&mut self, step: u64) {
        for value in &mut self.cache {
            value.take_if(|(_, is)| self.invalidated.last(*is) == step);
        }
    }
}

/// Somebody who was granted a lease, and maybe read the source.
struct Producer {
    key: usize,
    token: Token,
    read: Option<u64>,
}

/// What happened, to see that it did.
#[derive(Default, Debug)]
struct Happened {
    stored: u64,
    stored_after_invalidations: u64,
    fenced: u64,
    fenced_in_vain: u64,
    lost: u64,
    inherited: u64,
    granted_again: u64,
    served: u64,
}

struct World<'h> {
    dice: Rng,
    step: u64,
    now_ms: u64,
    next_token: u128,
    next_waiter: u64,
    limit: usize,
    bound: usize,
    leases: Leases<Selector>,
    model: Model,
    producers: Vec<Producer>,
    happened: &'h mut Happened,
}

impl World<'_> {
    fn step(&mut self) {
        self.step += 1;
        self.now_ms += self.dice.u64(..3);
        let key = self.dice.usize(..KEYS.len());
        match self.dice.u64(..100) {
            0..18 => self.ask(key),
            18..36 => self.read_source(),
            36..60 => self.store(),
            60..68 => self.wait(key),
            68..71 => self.leave(),
            71..74 => self.renew(),
            74..77 => self.release(),
            77..79 => self.superseded(key),
            79..81 => self.delete(key),
            81..95 => self.invalidate(key),
            95..99 => self.serve(key),
            _ if self.dice.u64(..20) == 0 => self.flush(),
            _ => self.invalidate(key),
        }
        if self.dice.u64(..4) == 0 {
            // What is granted then is granted after what was just invalidated.
            self.step += 1;
            self.expire();
        }
        self.compare();
    }

    fn ask(&mut self, key: usize) {
        let duration_ms = 1 + self.dice.u64(..60);
        let token = self.token();
        if self.bound != usize::MAX && self.leases.standing(KEYS[key], self.now_ms) == Standing::Free {
            self.model.backing_off[key] = None;
        }
        let asked = self.leases.ask(
            KEYS[key],
            self.now_ms,
            Wish { token, duration_ms, owner: 0 },
            Limits { records: self.limit, bytes: usize::MAX, each: usize::MAX },
        );
        let until_ms = self.now_ms + duration_ms;
        let granted = ModelLease { token, granted: self.step, since_ms: self.now_ms, until_ms, waiters: Vec::new() };
        assert_eq!(asked, self.model.ask(key, self.limit, granted));
        match asked {
            Asked::Granted => self.begin(key, token),
            Asked::Again => self.happened.granted_again += 1,
            _ => (),
        }
    }

    /// A production begins. If its token had another, that is given up: whoever asks again begins again.
    fn begin(&mut self, key: usize, token: Token) {
        self.producers.retain(|producer| producer.token != token);
        self.producers.push(Producer { key, token, read: None });
    }

    /// A new one, or of somebody who was granted a lease, or waits for one.
    fn token(&mut self) -> Token {
        if self.dice.u64(..4) == 0 && self.next_token > 0 {
            return (self.next_token - u128::from(self.dice.u64(..3)).min(self.next_token)).into();
        }
        self.next_token += 1;
        self.next_token.into()
    }

    fn read_source(&mut self) {
        let step = self.step;
        if let Some(producer) = self.any_producer() {
            producer.read.get_or_insert(step);
        }
    }

    /// Any but, mostly, not one whose lease is over: of these a few are left, who come late.
    fn any_producer(&mut self) -> Option<&mut Producer> {
        if self.dice.u64(..4) != 0 {
            let (model, now_ms) = (&self.model, self.now_ms);
            self.producers.retain(|producer| model.holds(producer.key, producer.token, now_ms));
        }
        if self.producers.is_empty() {
            return None;
        }
        let at = self.dice.usize(..self.producers.len());
        Some(&mut self.producers[at])
    }

    fn store(&mut self) {
        let (tags, type_at) =
            (self.dice.usize(..1 << TAGS.len()) & self.dice.usize(..1 << TAGS.len()), self.dice.usize(..TYPES.len()));
        let Some(&mut Producer { key, token, read: Some(read) }) = self.any_producer() else { return };
        let is = Is { key, type_at, tags };
        let names: Vec<&[u8]> = (0..TAGS.len()).filter(|tag| is.bears(*tag)).map(|tag| TAGS[tag]).collect();
        let subject = Subject { key: KEYS[key], type_name: TYPES[type_at], tags: &names };
        let checked = self.leases.check(KEYS[key], token, self.now_ms, &subject);
        if !self.model.holds(key, token, self.now_ms) {
            self.happened.lost += 1;
            return assert_eq!(checked, Err(Error::LeaseLost));
        }
        let granted = self.model.held[key].as_ref().unwrap().granted;
        let hit = self.model.invalidated.last(is);
        match checked {
            Ok(()) => {
                assert!(read > hit, "a value read in step {read} accepted, invalidated in {hit}");
                assert!(granted > hit, "a lease of step {granted} accepted, invalidated in {hit}");
                self.finish(token, is, read);
            }
            Err(Error::Fenced) => {
                assert!(granted < hit || self.bound != usize::MAX, "lease of step {granted} fenced, hit in {hit}");
                self.happened.fenced += u64::from(granted < hit);
                self.happened.fenced_in_vain += u64::from(granted > hit);
                self.lost(key);
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn finish(&mut self, token: Token, is: Is, read: u64) {
        // A SET that fails for another reason leaves the lease as it was.
        if self.dice.u64(..8) == 0 {
            return;
        }
        let stored = self.leases.finish(KEYS[is.key], token, self.now_ms).unwrap();
        let lease = self.model.held[is.key].take().unwrap();
        assert_eq!(stored.production_ms, self.now_ms - lease.since_ms);
        assert_eq!(stored.waiters, lease.waiters.iter().map(|(waiter, _)| *waiter).collect::<Vec<_>>());
        self.model.cache[is.key] = Some((read, is));
        self.happened.stored += 1;
        let latest = self.model.invalidated.tags.iter().max();
        self.happened.stored_after_invalidations += u64::from(latest.is_some_and(|step| *step > lease.granted));
    }

    fn wait(&mut self, key: usize) {
        let wants = self.dice.u64(..2) == 0;
        let wish = wants.then(|| Wish { token: self.token(), duration_ms: 1 + self.dice.u64(..60), owner: 1 });
        self.next_waiter += 1;
        let waits = self.leases.wait(KEYS[key], self.next_waiter, wish);
        let lease = self.model.held[key].as_mut();
        assert_eq!(waits, lease.is_some());
        if let Some(lease) = lease {
            lease.waiters.push((self.next_waiter, wish));
            assert!(!self.leases.wait(KEYS[key], self.next_waiter, None), "not twice");
        }
    }

    fn leave(&mut self) {
        let waiter = 1 + self.next_waiter.saturating_sub(self.dice.u64(..6));
        let waited = self.model.waiters().any(|name| name == waiter);
        assert_eq!(self.leases.leave(waiter), waited);
        for lease in self.model.held.iter_mut().flatten() {
            lease.waiters.retain(|(name, _)| *name != waiter);
        }
    }

    fn renew(&mut self) {
        let duration_ms = 1 + self.dice.u64(..60);
        let Some(&mut Producer { key, token, .. }) = self.any_producer() else { return };
        let renewed = self.leases.renew(KEYS[key], token, self.now_ms, duration_ms);
        assert_eq!(renewed, self.model.holds(key, token, self.now_ms));
        if let Some(lease) = self.model.held[key].as_mut().filter(|_| renewed) {
            lease.until_ms = self.now_ms + duration_ms;
        }
    }

    fn release(&mut self) {
        let backoff_ms = self.dice.u64(..2) * self.dice.u64(..30);
        let Some(&mut Producer { key, token, .. }) = self.any_producer() else { return };
        let is = Is { key, type_at: self.dice.usize(..TYPES.len()), tags: self.dice.usize(..1 << TAGS.len()) };
        let tags = (0..TAGS.len()).filter(|tag| is.bears(*tag)).map(|tag| TAGS[tag].into()).collect();
        let named = Named { type_name: TYPES[is.type_at].into(), tags };
        let limits = Limits { records: self.limit, bytes: usize::MAX, each: usize::MAX };
        let woken = self.leases.release(KEYS[key], token, self.now_ms, backoff_ms, named, limits);
        let theirs = self.model.holds(key, token, self.now_ms);
        assert_eq!(woken.is_some(), theirs);
        let Some(woken) = woken else { return };
        if backoff_ms == 0 {
            let expected = self.model.give_up(key, self.step, self.now_ms);
            return self.inherit(key, &woken, &expected);
        }
        let waiters = self.model.held[key].take().unwrap().waiters;
        self.model.backing_off[key] = Some(BackingOff { until_ms: self.now_ms + backoff_ms, since: self.step, is });
        assert!(
            woken.iter().map(|woken| (woken.waiter, woken.lease)).eq(waiters.iter().map(|(name, _)| (*name, None)))
        );
    }

    /// Somebody stores a value that is as new as can be, without a lease.
    fn superseded(&mut self, key: usize) {
        let waiters = self.leases.superseded(KEYS[key]);
        self.model.backing_off[key] = None;
        let lease = self.model.held[key].take();
        let expected = lease.map(|lease| lease.waiters).unwrap_or_default();
        assert!(waiters.into_iter().eq(expected.into_iter().map(|(waiter, _)| waiter)));
        self.model.cache[key] = Some((self.step, Is { key, type_at: 0, tags: 1 }));
    }

    fn delete(&mut self, key: usize) {
        self.model.cache[key] = None;
        self.lost(key);
    }

    fn lost(&mut self, key: usize) {
        self.model.backing_off[key] = None;
        let woken = self.leases.lost(KEYS[key], self.now_ms);
        let expected = self.model.give_up(key, self.step, self.now_ms);
        self.inherit(key, &woken, &expected);
    }

    /// A waiter with the lease becomes a producer.
    fn inherit(&mut self, key: usize, woken: &[Woken], expected: &[Woken]) {
        assert_eq!(woken, expected);
        if let Some(token) = woken.iter().find_map(|woken| woken.lease) {
            self.happened.inherited += 1;
            self.begin(key, token);
        }
    }

    fn invalidate(&mut self, key: usize) {
        let (tag, other, type_at) =
            (self.dice.usize(..TAGS.len()), self.dice.usize(..TAGS.len()), self.dice.usize(..TYPES.len()));
        let (leases, last) = (&mut self.leases, &mut self.model.invalidated);
        match self.dice.u64(..20) {
            0..8 => {
                leases.fence_tags([TAGS[tag]], self.bound);
                last.tags[tag] = self.step;
            }
            8..11 => {
                leases.fence_tags([TAGS[tag], TAGS[other]], self.bound);
                (last.tags[tag], last.tags[other]) = (self.step, self.step);
            }
            11..15 => {
                leases.fence(Selector::All(vec![TAGS[tag].to_vec(), TAGS[other].to_vec()]), self.bound);
                last.pairs[tag][other] = self.step;
            }
            15..17 => {
                leases.fence(Selector::Type(TYPES[type_at].to_vec()), self.bound);
                last.types[type_at] = self.step;
            }
            17..19 => {
                leases.fence(Selector::Key(KEYS[key].to_vec()), self.bound);
                last.keys[key] = self.step;
            }
            _ => {
                leases.fence_all();
                last.everything = self.step;
            }
        }
        self.model.sweep(self.step);
    }

    fn serve(&mut self, key: usize) {
        if let Some((read, is)) = self.model.cache[key] {
            assert!(read > self.model.invalidated.last(is), "a value of step {read} served");
            self.happened.served += 1;
        }
    }

    fn flush(&mut self) {
        let waiters: Vec<u64> = self.leases.flush().collect();
        let mut expected: Vec<u64> = self.model.waiters().collect();
        expected.sort_unstable();
        assert_eq!(waiters, expected);
        (self.model.held, self.model.backing_off, self.model.cache) = Default::default();
    }

    fn expire(&mut self) {
        loop {
            let before = self.leases.deadlines.first_key_value().map(|(_, key)| Arc::clone(key));
            let Some(Ended { key: ended, woken }) = self.leases.expire(self.now_ms) else { break };
            assert_eq!(before.as_deref(), Some(&*ended));
            let key = KEYS.iter().position(|key| before.as_deref() == Some(*key)).unwrap();
            let due = self.model.held[key].as_ref().map(|lease| lease.until_ms);
            let due = due.or(self.model.backing_off[key].map(|off| off.until_ms));
            assert!(due.unwrap() <= self.now_ms);
            self.model.backing_off[key] = None;
            let expected = self.model.give_up(key, self.step, self.now_ms);
            self.inherit(key, &woken, &expected);
        }
        assert!(self.model.next_deadline().is_none_or(|deadline| deadline > self.now_ms));
    }

    fn compare(&self) {
        let (leases, model) = (&self.leases, &self.model);
        assert_eq!(leases.len(), model.held_len());
        assert_eq!(leases.len() + leases.backing_off_len(), model.records());
        assert_eq!(leases.owned_len(0) + leases.owned_len(1), model.records());
        assert_eq!(leases.waiters_len(), model.waiters().count());
        assert_eq!(leases.next_deadline(), model.next_deadline());
        let bound = self.bound.saturating_mul(TAGS_PER_FENCE);
        assert!(leases.fences_len() <= bound && (!leases.is_empty() || leases.fences_len() == 0));
    }
}

const STEPS: u64 = 100;

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(schedules: u64, bound: usize) -> Happened {
    let seed = given("EXPCACHE_SEED").unwrap_or(0);
    let mut happened = Happened::default();
    for schedule in 0..schedules {
        let mut world = World {
            dice: Rng::with_seed(seed << 32 | schedule),
            step: 0,
            now_ms: 1_000,
            next_token: 0,
            next_waiter: 0,
            limit: if schedule % 2 == 0 { 2 } else { 100 },
            bound,
            leases: Leases::default(),
            model: Model::default(),
            producers: Vec::new(),
            happened: &mut happened,
        };
        let told = TellOnPanic { seed, schedule };
        for _ in 0..STEPS {
            world.step();
        }
        std::mem::forget(told);
    }
    happened
}

/// Which schedule it was, when an assertion fails.
struct TellOnPanic {
    seed: u64,
    schedule: u64,
}

impl Drop for TellOnPanic {
    fn drop(&mut self) {
        eprintln!("EXPCACHE_SEED={}, schedule {}", self.seed, self.schedule);
    }
}

#[test]
fn no_value_outlives_an_invalidation_and_none_is_refused_without_one() {
    let happened = play(given("EXPCACHE_SCHEDULES").unwrap_or(10_000), usize::MAX);
    println!("{happened:?}");
    let Happened { stored, stored_after_invalidations, fenced, fenced_in_vain, lost, inherited, granted_again, served } =
        happened;
    assert!(
        stored.min(stored_after_invalidations).min(fenced).min(lost).min(inherited).min(granted_again).min(served)
            > 1_000
    );
    assert_eq!(fenced_in_vain, 0);
}

#[test]
fn past_the_bound_values_may_be_refused_but_none_outlives_an_invalidation() {
    let happened = play(2_000, 2);
    println!("{happened:?}");
    assert!(happened.stored.min(happened.fenced) > 1_000 && happened.fenced_in_vain > 50);
}
