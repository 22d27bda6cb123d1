//! Soft invalidation against a naive model, mixed with everything else that happens to an entry.

use super::*;
use crate::entry::Soft;
use crate::selector::{Clause, Selector};

/// What the keyspace holds, said simply.
struct Modelled {
    tags: Vec<Box<[u8]>>,
    type_id: u16,
    grace_ms: u64,
    fresh_until_ms: Option<i64>,
    verdict: Verdict,
}

struct World {
    dice: Rng,
    index: Index,
    keys: Keyspace,
    model: BTreeMap<Vec<u8>, Modelled>,
    now_ms: u64,
}

/// Type 0 has no grace.
fn type_grace(type_id: u16) -> u64 {
    [0, 700, 700, 900][usize::from(type_id)]
}

fn type_name(type_id: u16) -> Vec<u8> {
    format!("type{type_id}").into_bytes()
}

fn type_id(name: &[u8]) -> Option<u16> {
    (0..4).find(|id| type_name(*id) == name)
}

fn entry(grace_ms: u64, tag_count: usize) -> Box<Entry> {
    let extras = Extras { grace_ms, ..Extras::default() };
    Entry::new(Content { extras, stored: b"payload".as_slice().into(), ..Content::default() }, tag_count).unwrap()
}

impl World {
    fn roll_date(&mut self) -> Option<i64> {
        let span = if self.model.len() > 100 { 40_000 } else { 400 };
        (self.dice.u64(..4) > 0).then(|| self.now_ms.cast_signed() + self.dice.u64(..span).cast_signed() - 50)
    }

    fn put(&mut self, key: Vec<u8>) {
        let tags: BTreeSet<Box<[u8]>> =
            (0..self.dice.u64(..4)).map(|_| format!("tag:{}", self.dice.u64(..6)).into_bytes().into()).collect();
        let grace_ms = self.dice.u64(..2) * 500;
        let (type_id, fresh_until_ms) = (self.dice.u64(..4) as u16, self.roll_date());
        self.store(
            key,
            Modelled { tags: tags.into_iter().collect(), type_id, grace_ms, fresh_until_ms, verdict: Verdict::Alive },
        );
    }

    fn store(&mut self, key: Vec<u8>, of: Modelled) {
        let mut new = entry(of.grace_ms, of.tags.len());
        let tags: Vec<&[u8]> = of.tags.iter().map(AsRef::as_ref).collect();
        let soft = if let Verdict::Soft(soft) = of.verdict { Some(soft) } else { None };
        let placement = Placement { type_id: of.type_id, fresh_until_ms: of.fresh_until_ms, soft };
        match self.keys.get_mut(&key) {
            Some(old) => assert!(self.index.relink(old, &mut new, placement, &tags).is_some()),
            None => assert!(self.index.link(&mut new, &key, placement, tags)),
        }
        self.keys.insert(key.clone(), new);
        self.model.insert(key, of);
    }

    fn remove(&mut self, key: &[u8]) -> Option<(Box<Entry>, Modelled)> {
        let entry = remove(&mut self.index, &mut self.keys, key);
        assert_eq!(entry.is_some(), self.model.contains_key(key));
        Some((entry?, self.model.remove(key)?))
    }

    /// As a `RENAME` does, or a `DUMP` and `RESTORE`.
    fn rename(&mut self, key: &[u8], to: &[u8]) {
        let Some((mut entry, of)) = self.remove(key) else { return };
        self.remove(to);
        if self.dice.u64(..2) == 0 {
            let names = entry.names().unwrap();
            let tags: Vec<&[u8]> = names.tags().collect();
            entry = Entry::decode(&entry.encode(b"t", &tags, of.verdict), entry.share()).unwrap();
        }
        let names = entry.take_names();
        let placement = Placement { type_id: of.type_id, fresh_until_ms: of.fresh_until_ms, soft: names.soft };
        assert!(self.index.link(&mut entry, to, placement, names.tags()));
        self.keys.insert(to.to_vec(), entry);
        self.model.insert(to.to_vec(), of);
    }

    /// The user moves the key's expiry.
    fn expire(&mut self, key: &[u8]) {
        let fresh_until_ms = self.roll_date();
        let (Some(entry), Some(of)) = (self.keys.get(key), self.model.get_mut(key)) else { return };
        self.index.redate(entry, fresh_until_ms, Mark::CarriedOut);
        of.fresh_until_ms = fresh_until_ms;
        of.verdict = match of.verdict {
            // It stays stale since the same moment; only its end was moved.
            Verdict::Soft(Soft { moment_ms, .. }) => Verdict::Soft(Soft { moment_ms, grace_ms: None }),
            other => other,
        };
    }

    /// What the server does for one that is pending: the expiry goes where it belongs.
    fn settle_next(&mut self) {
        let Some((id, key)) = self.index.next_soft().map(|(id, key)| (id, key.to_vec())) else { return };
        let entry = &self.keys[&key];
        let Verdict::Soft(soft) = self.index.verdict(entry) else { panic!("not pending") };
        assert_eq!(entry.id(), id);
        let fresh_until_ms = soft.end_ms().map(|end_ms| end_ms - entry.grace_ms().cast_signed());
        self.index.redate(entry, fresh_until_ms, Mark::CarriedOut);
        let of = self.model.get_mut(&key).unwrap();
        (of.fresh_until_ms, of.verdict) = (fresh_until_ms, Verdict::Soft(Soft { grace_ms: None, ..soft }));
    }

    fn expected(&mut self, selector: &Selector) -> Vec<&mut Modelled> {
        let matching = self
            .model
            .iter_mut()
            .filter(|(key, of)| of.verdict != Verdict::Dead && selector.matches(key, &type_name(of.type_id), &of.tags));
        matching.map(|(_, of)| of).collect()
    }

    fn soften(&mut self, selector: &Selector) {
        let ids = self.index.select(selector, type_id);
        let stale = self.index.stale(&ids, self.now_ms);
        let fresh = self.index.fresh(&ids, &stale);
        let dead = self.index.soften(&fresh, self.now_ms, type_grace);
        let (now_ms, mut expected) = (self.now_ms, (0, 0));
        for of in self.expected(selector) {
            let is_stale = of.grace_ms > 0 && of.fresh_until_ms.is_some_and(|until| until <= now_ms.cast_signed());
            let is_soft = matches!(of.verdict, Verdict::Soft(_));
            if is_stale || is_soft || of.verdict == Verdict::Dead {
                continue;
            }
            let grace_ms = if of.grace_ms > 0 { of.grace_ms } else { type_grace(of.type_id) };
            let soft = Soft { moment_ms: now_ms, grace_ms: Some(grace_ms) };
            of.verdict = if grace_ms > 0 { Verdict::Soft(soft) } else { Verdict::Dead };
            expected.0 += 1;
            expected.1 += u64::from(grace_ms == 0);
        }
        assert_eq!((fresh.len(), dead.len()), expected);
    }

    fn kill(&mut self, selector: &Selector) {
        let killed = match selector.only_any() {
            Some(tags) if self.dice.u64(..2) == 0 => self.index.invalidate_tags(tags.iter().map(AsRef::as_ref)),
            _ => {
                let ids = self.index.select(selector, type_id);
                self.index.kill(&ids)
            }
        };
        let expected = self.expected(selector);
        assert_eq!(killed, expected.len() as u64);
        expected.into_iter().for_each(|of| of.verdict = Verdict::Dead);
    }

    fn roll_selector(&mut self) -> Selector {
        let tags = (0..1 + self.dice.u64(..2)).map(|_| format!("tag:{}", self.dice.u64(..6)).into_bytes().into());
        let tags: Box<[Box<[u8]>]> = tags.collect();
        let clauses = match self.dice.u64(..12) {
            0 => vec![],
            1..4 => vec![Clause::Type(type_name(self.dice.u64(..4) as u16).into())],
            4..6 => vec![Clause::All(tags)],
            6..8 => vec![Clause::None(tags), Clause::Type(type_name(self.dice.u64(..4) as u16).into())],
            _ => vec![Clause::Any(tags)],
        };
        Selector { clauses }
    }

    fn step(&mut self, spread: u64) {
        self.now_ms += self.dice.u64(..3);
        let key = format!("key:{}", self.dice.u64(..spread)).into_bytes();
        // Of many entries, most are to be as they are when they are all invalidated.
        let often = if spread > 1000 { 3000 } else { 100 };
        match self.dice.u64(..often) {
            0 | 1 => {
                let selector = self.roll_selector();
                self.kill(&selector);
            }
            2..7 => {
                let selector = self.roll_selector();
                self.soften(&selector);
            }
            7..20 => _ = self.remove(&key),
            20..28 => {
                let to = format!("key:{}", self.dice.u64(..spread)).into_bytes();
                if to != key {
                    self.rename(&key, &to);
                }
            }
            28..36 => self.expire(&key),
            36..46 => (0..self.dice.u64(..spread / 2 + 2)).for_each(|_| self.settle_next()),
            46..50 => loop {
                let Some(key) = self.index.next_dead(1).next().map(|(_, key)| key.to_vec()) else { break };
                assert_eq!(self.remove(&key).unwrap().1.verdict, Verdict::Dead);
            },
            _ => self.put(key),
        }
    }

    fn check(&self) {
        let date = |key: &[u8]| self.model[key].fresh_until_ms;
        assert_eq!(complaints_given(&self.index, &self.keys, date), [""; 0]);
        let mut soft = 0;
        for (key, of) in &self.model {
            let verdict = self.index.verdict(&self.keys[key]);
            assert_eq!(verdict, of.verdict);
            soft += u64::from(matches!(verdict, Verdict::Soft(Soft { grace_ms: Some(_), .. })));
        }
        assert_eq!((self.index.soft_len(), self.index.next_soft().is_some()), (soft, soft > 0));
    }
}

#[test]
fn soft_invalidations_agree_with_a_naive_model() {
    for (spread, steps) in [(3, 10_000), (40, 10_000), (6000, 40_000)] {
        let (index, keys, model) = (Index::default(), Keyspace::new(), BTreeMap::new());
        let mut world = World { dice: Rng::with_seed(99 + spread), index, keys, model, now_ms: 1_000_000 };
        let mut most = 0;
        for step in 0..steps {
            world.step(spread);
            most = most.max(world.index.soft_len());
            if spread < 1000 || step % 200 == 0 {
                world.check();
            }
        }
        assert!(spread < 1000 || most > 1000, "sets of many were in use: {most}");
        while !world.index.pending.is_empty() {
            world.settle_next();
        }
        world.check();
        for key in world.keys.keys().cloned().collect::<Vec<_>>() {
            world.remove(&key);
        }
        let Index { dates, softened, .. } = &world.index;
        assert!(world.index.is_empty() && dates.ids().is_empty() && softened.ids().is_empty());
        assert!(world.index.next_soft().is_none());
    }
}

#[test]
fn a_check_notices_a_wrong_date_and_a_lost_mark() {
    let (mut index, mut keys) = (Index::default(), Keyspace::new());
    let mut new = entry(5, 0);
    assert!(link(&mut index, &mut new, b"k1", 0, &[]));
    keys.insert(b"k1".to_vec(), new);
    assert_eq!(complaints_given(&index, &keys, |_| Some(100)), [""; 0]);
    assert_eq!(complaints_given(&index, &keys, |_| None).len(), 1);
    let soften_all = |index: &mut Index| {
        let all = index.select(&Selector::default(), |_| None);
        let stale = index.stale(&all, 99);
        let fresh = index.fresh(&all, &stale);
        (fresh.len(), index.soften(&fresh, 99, |_| 0).len())
    };
    assert_eq!(soften_all(&mut index), (1, 0));
    assert_eq!(soften_all(&mut index), (0, 0), "counted once");
    assert_eq!(complaints_given(&index, &keys, |_| None), [""; 0], "its date is not what counts");
    index.dead.insert(0);
    assert_eq!(complaints_given(&index, &keys, |_| None).len(), 1);
    index.dead.clear();
    for date in [Some(99), Some(500), None] {
        index.redate(&keys[b"k1".as_slice()], date, Mark::CarriedOut);
        let soft = Soft { moment_ms: 99, grace_ms: None };
        assert_eq!(index.verdict(&keys[b"k1".as_slice()]), Verdict::Soft(soft));
        assert_eq!(soften_all(&mut index), (0, 0), "stale, whatever its key's expiry");
        assert_eq!(complaints_given(&index, &keys, |_| date), [""; 0]);
    }
    index.softened.set(7, 99);
    assert_eq!(complaints_given(&index, &keys, |_| None).len(), 1);
}
