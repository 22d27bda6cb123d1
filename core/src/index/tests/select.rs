//! Selecting, counting, killing and listing against a naive model.

use super::*;
use crate::glob::Glob;
use crate::selector::{Clause, Selector};

/// What the keyspace holds, said simply.
#[derive(Debug, Clone)]
struct Modelled {
    type_name: Vec<u8>,
    tags: Vec<Box<[u8]>>,
    dead: bool,
}

type Model = BTreeMap<Vec<u8>, Modelled>;

fn type_id(name: &[u8]) -> Option<u16> {
    name.strip_prefix(b"type")?.first().map(|digit| u16::from(digit - b'0'))
}

fn roll_tags(dice: &mut Rng, most: u64) -> Vec<Box<[u8]>> {
    let of = |dice: &mut Rng| {
        let spread = [3, 40, 2000][dice.u64(..3) as usize];
        format!("tag:{}", dice.u64(..spread)).into_bytes().into()
    };
    (0..dice.u64(..most + 1)).map(|_| of(dice)).collect::<BTreeSet<Box<[u8]>>>().into_iter().collect()
}

fn roll_clause(dice: &mut Rng) -> Clause {
    match dice.u64(..5) {
        0 => Clause::Any(roll_tags(dice, 4).into()),
        1 => Clause::All(roll_tags(dice, 2).into()),
        2 => Clause::None(roll_tags(dice, 3).into()),
        3 => Clause::Type(format!("type{}", dice.u64(..4)).into_bytes().into()),
        _ => {
            let patterns = ["*", "k:*", "k:1*", "*[13579]", "k:long:*:long:*", "k:long:*", "k:??", "nothing:*", "k:7"];
            Clause::Match(Glob::new(patterns[dice.u64(..patterns.len() as u64) as usize].as_bytes()))
        }
    }
}

pub(super) fn roll_selector(dice: &mut Rng) -> Selector {
    Selector { clauses: (0..dice.u64(..4)).map(|_| roll_clause(dice)).collect() }
}

fn matching<'m>(model: &'m Model, selector: &'m Selector) -> impl Iterator<Item = (&'m Vec<u8>, &'m Modelled)> {
    model.iter().filter(|(key, of)| !of.dead && selector.matches(key, &of.type_name, &of.tags))
}

fn change(dice: &mut Rng, index: &mut Index, keys: &mut Keyspace, model: &mut Model, spread: u64) {
    let number = dice.u64(..spread);
    let key = if number.is_multiple_of(3) {
        format!("k:{number}")
    } else {
        format!("k:long:{number}:long:enough for a block")
    };
    let key = key.into_bytes();
    match dice.u64(..100) {
        0..70 => {
            let (tags, of_type) = (roll_tags(dice, 5), dice.u64(..4) as u16);
            let names: Vec<&[u8]> = tags.iter().map(AsRef::as_ref).collect();
            put(index, keys, &key, of_type, &names);
            model.insert(key, Modelled { type_name: format!("type{of_type}").into_bytes(), tags, dead: false });
        }
        70..95 => {
            assert_eq!(remove(index, keys, &key).is_some(), model.remove(&key).is_some());
        }
        _ => {
            let names = roll_tags(dice, 2);
            let expected = kill_in(model, &Selector { clauses: vec![Clause::Any(names.clone().into())] });
            assert_eq!(index.invalidate_tags(names.iter().map(AsRef::as_ref)), expected);
        }
    }
}

fn kill_in(model: &mut Model, selector: &Selector) -> u64 {
    let mut killed = 0;
    for (_, of) in model.iter_mut().filter(|(key, of)| !of.dead && selector.matches(key, &of.type_name, &of.tags)) {
        (of.dead, killed) = (true, killed + 1);
    }
    killed
}

/// What `select` leaves out: those whose names do not match.
fn by_name(index: &Index, selector: &Selector, ids: &Ids) -> Ids {
    let fits = |id: &u32| selector.patterns().all(|glob| glob.matches(index.key(*id).unwrap()));
    Ids(ids.iter().filter(fits).collect())
}

#[test]
fn selecting_counting_and_killing_agree_with_a_naive_model() {
    for (spread, steps) in [(4, 3000), (60, 4000), (5000, 12_000)] {
        let mut dice = Rng::with_seed(77 + spread);
        let (mut index, mut keys, mut model) = (Index::default(), Keyspace::new(), Model::new());
        for step in 0..steps {
            change(&mut dice, &mut index, &mut keys, &mut model, spread);
            if spread > 1000 && step % 40 != 0 {
                continue;
            }
            let selector = roll_selector(&mut dice);
            let all = index.select(&selector, type_id);
            assert_eq!(all.len(), index.count(&selector, type_id));
            let ids = by_name(&index, &selector, &all);
            let mut found: Vec<&[u8]> = ids.iter().map(|id| index.key(id).unwrap()).collect();
            found.sort_unstable();
            let expected: Vec<&[u8]> = matching(&model, &selector).map(|(key, _)| key.as_slice()).collect();
            assert_eq!(found, expected, "{selector:?}");
            let types: BTreeMap<u16, u64> = matching(&model, &selector).fold(BTreeMap::new(), |mut types, (_, of)| {
                *types.entry(type_id(&of.type_name).unwrap()).or_default() += 1;
                types
            });
            assert_eq!(index.by_type(&ids).collect::<BTreeMap<_, _>>(), types);
            if dice.u64(..8) == 0 {
                assert_eq!(index.kill(&ids), kill_in(&mut model, &selector));
                assert_eq!(index.kill(&ids), 0);
            }
            for _ in 0..dice.u64(..20) {
                let Some(key) = index.next_dead(1).next().map(|(_, key)| key.to_vec()) else { break };
                assert!(remove(&mut index, &mut keys, &key).is_some() && model.remove(&key).unwrap().dead);
            }
            assert_eq!(complaints(&index, &keys), [""; 0], "step {step}");
        }
    }
}

#[test]
fn a_walk_is_right_at_the_instant_when_it_ends() {
    let mut dice = Rng::with_seed(8);
    for round in 0..150 {
        let (mut index, mut keys, mut model) = (Index::new(3), Keyspace::new(), Model::new());
        let spread = [10, 100, 1000][round % 3];
        for _ in 0..spread {
            change(&mut dice, &mut index, &mut keys, &mut model, spread);
        }
        let mut walks: Vec<(Selector, WalkId)> = Vec::new();
        for _ in 0..3 {
            // With a clause or two at most, so that what is walked over is not nothing.
            let mut clauses = roll_selector(&mut dice).clauses;
            clauses.truncate(dice.u64(..2) as usize);
            clauses.push(Clause::Match(Glob::new([&b"k:long:*"[..], b"k:?"][dice.u64(..2) as usize])));
            let selector = Selector { clauses };
            let scope = index.select(&selector, type_id);
            let id = index.start_walk(selector.patterns(), scope);
            walks.push((selector, id));
        }
        let other = index.start_walk(&[Glob::new(b"*")], Ids::default());
        index.cancel_walk(other);
        assert!(index.walk(other, 1) && index.finish_walk(other).is_empty());
        while let Some((selector, id)) = walks.pop() {
            while !index.walk(id, 1 + dice.u64(..40 + spread)) {
                for _ in 0..dice.u64(..10) {
                    change(&mut dice, &mut index, &mut keys, &mut model, spread);
                }
            }
            for _ in 0..dice.u64(..3) {
                change(&mut dice, &mut index, &mut keys, &mut model, spread);
            }
            while !index.walk(id, 20) {}
            assert!(index.walk(id, 1), "once it is over it stays so");
            let ids = index.finish_walk(id).and(&index.select(&selector, type_id));
            let found: BTreeSet<&[u8]> = ids.iter().map(|id| index.key(id).unwrap()).collect();
            let expected: BTreeSet<&[u8]> = matching(&model, &selector).map(|(key, _)| key.as_slice()).collect();
            assert_eq!(found, expected, "{selector:?}");
            if dice.u64(..2) == 0 {
                assert_eq!(index.kill(&ids), kill_in(&mut model, &selector));
            }
        }
        assert!(index.walks.is_empty());
        assert_eq!(complaints(&index, &keys), [""; 0]);
    }
}

#[test]
fn a_scan_lists_what_is_there_throughout_and_only_what_is_there() {
    let mut dice = Rng::with_seed(5);
    for round in 0..90 {
        let (mut index, mut keys, mut model) = (Index::default(), Keyspace::new(), Model::new());
        let spread = [10, 100, 1000][round % 3];
        for _ in 0..spread {
            change(&mut dice, &mut index, &mut keys, &mut model, spread);
        }
        let selector = roll_selector(&mut dice);
        let mut throughout: BTreeSet<Vec<u8>> = matching(&model, &selector).map(|(key, _)| key.clone()).collect();
        let (mut listed, mut cursor) = (BTreeSet::new(), Some(0));
        while let Some(at) = cursor {
            let steps = dice.u64(..10 + spread / 10) as usize;
            let effort = Effort { elements: steps, work: [u64::MAX, 700][round % 2] };
            let (ids, next) = index.scan(&selector, type_id, at, effort);
            assert!(ids.len() <= steps.max(1) && next.is_none_or(|next| next > at));
            let now: BTreeSet<&Vec<u8>> = matching(&model, &selector).map(|(key, _)| key).collect();
            for id in ids {
                let key = index.key(id).unwrap().to_vec();
                assert!(now.contains(&key), "{selector:?} lists {}", String::from_utf8_lossy(&key));
                listed.insert(key);
            }
            cursor = next;
            for _ in 0..dice.u64(..5) {
                change(&mut dice, &mut index, &mut keys, &mut model, spread);
                let now: BTreeSet<&Vec<u8>> = matching(&model, &selector).map(|(key, _)| key).collect();
                throughout.retain(|key| now.contains(key));
            }
        }
        assert!(throughout.is_subset(&listed), "{selector:?}");
    }
}

#[test]
fn a_scan_of_tags_lists_each_with_an_entry_alive() {
    let mut dice = Rng::with_seed(6);
    let (mut index, mut keys, mut model) = (Index::default(), Keyspace::new(), Model::new());
    for step in 0..3000 {
        change(&mut dice, &mut index, &mut keys, &mut model, 500);
        if step % 100 != 0 {
            continue;
        }
        let glob = [None, Some(Glob::new(b"tag:1*"))][dice.u64(..2) as usize].clone();
        let mut expected: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for tag in model.values().filter(|of| !of.dead).flat_map(|of| &of.tags) {
            if glob.as_ref().is_none_or(|glob| glob.matches(tag)) {
                *expected.entry(tag.to_vec()).or_default() += 1;
            }
        }
        let (mut listed, mut cursor) = (Vec::new(), Some(0));
        while let Some(at) = cursor {
            let effort = Effort { elements: 7, work: [u64::MAX, 1000, 0][step % 3] };
            let (tags, next) = index.scan_tags(at, effort, glob.as_ref());
            listed.extend(tags.into_iter().map(|(name, entries)| (name.to_vec(), entries)));
            cursor = next;
        }
        assert_eq!(listed.len(), expected.len());
        assert_eq!(listed.into_iter().collect::<BTreeMap<_, _>>(), expected);
    }
}
