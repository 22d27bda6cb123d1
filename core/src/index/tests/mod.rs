#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod select;
mod soft;
mod speed;

use fastrand::Rng;

use super::*;
use crate::entry::{Content, Extras};
use crate::selector::{Clause, Selector};
use std::collections::{BTreeMap, BTreeSet};

type Keyspace = BTreeMap<Vec<u8>, Box<Entry>>;

/// In these tests an entry's freshness ends at a moment that its key tells, unless a test moves it.
fn fresh_until(key: &[u8]) -> Option<i64> {
    key.last().filter(|last| last.is_ascii_digit()).map(|last| i64::from(last - b'0') * 100)
}

fn placement(key: &[u8], type_id: u16) -> Placement {
    Placement { type_id, fresh_until_ms: fresh_until(key), soft: None }
}

fn complaints(index: &Index, keyspace: &Keyspace) -> Vec<String> {
    complaints_given(index, keyspace, fresh_until)
}

fn complaints_given(index: &Index, keyspace: &Keyspace, fresh_until: impl Fn(&[u8]) -> Option<i64>) -> Vec<String> {
    let mut said = Vec::new();
    let mut walked = Walked::default();
    for (key, entry) in keyspace {
        walked.count(entry);
        index.check_entry(entry, key, fresh_until(key), &mut |text| said.push(text));
    }
    index.check(&walked, &mut |text| said.push(text));
    said
}

fn link(index: &mut Index, entry: &mut Entry, key: &[u8], type_id: u16, tags: &[&[u8]]) -> bool {
    index.link(entry, key, placement(key, type_id), tags.iter().copied())
}

fn put(index: &mut Index, keyspace: &mut Keyspace, key: &[u8], type_id: u16, tags: &[&[u8]]) {
    let mut entry = Entry::new(Content { stored: key.into(), ..Content::default() }, tags.len()).unwrap();
    match keyspace.get_mut(key) {
        Some(old) => assert!(index.relink(old, &mut entry, placement(key, type_id), tags).is_some()),
        None => assert!(link(index, &mut entry, key, type_id, tags)),
    }
    keyspace.insert(key.to_vec(), entry);
}

fn remove(index: &mut Index, keyspace: &mut Keyspace, key: &[u8]) -> Option<Box<Entry>> {
    let mut entry = keyspace.remove(key)?;
    let names = index.names(&entry, b"t");
    let dead = index.unlink(&mut entry, key)?;
    entry.carry(names, dead);
    Some(entry)
}

fn relink(index: &mut Index, keyspace: &mut Keyspace, key: &[u8], mut entry: Box<Entry>) {
    let names = entry.take_names();
    let placement = Placement { soft: names.soft, ..placement(key, 1) };
    assert!(index.link(&mut entry, key, placement, names.tags()));
    keyspace.insert(key.to_vec(), entry);
}

#[test]
fn tags_live_as_long_as_their_last_member() {
    let (mut index, mut keys) = (Index::default(), Keyspace::new());
    put(&mut index, &mut keys, b"k1", 0, &[b"a", b"b"]);
    put(&mut index, &mut keys, b"k2", 3, &[b"b"]);
    assert_eq!((index.len(), index.tag_count(), index.type_len(3), index.type_len(9)), (2, 2, 1, 0));
    put(&mut index, &mut keys, b"k1", 0, &[]);
    assert_eq!(index.tag_count(), 1);
    let detached = remove(&mut index, &mut keys, b"k2").unwrap();
    assert!(detached.names().unwrap().tags().eq([b"b"]));
    assert!(!index.has_tag(b"b") && index.scan_tags(0, Effort { elements: 9, work: 9000 }, None).0.is_empty());
    index.settle();
    assert_eq!((index.len(), index.tag_count()), (1, 0));
    assert_eq!(complaints(&index, &keys), [""; 0]);
}

#[test]
fn the_table_of_dates_goes_with_the_last_entry() {
    let (mut index, mut keys) = (Index::default(), Keyspace::new());
    put(&mut index, &mut keys, b"k1", 0, &[]);
    put(&mut index, &mut keys, b"without", 0, &[]);
    remove(&mut index, &mut keys, b"k1");
    assert!(index.moved.ids().is_empty() && index.moved.has_a_table());
    remove(&mut index, &mut keys, b"without");
    assert!(!index.moved.has_a_table());
}

#[test]
fn the_dead_are_counted_once_travel_with_the_entry_and_end_with_it() {
    let (mut index, mut keys) = (Index::default(), Keyspace::new());
    put(&mut index, &mut keys, b"k1", 0, &[b"a", b"b"]);
    put(&mut index, &mut keys, b"k2", 0, &[b"b"]);
    put(&mut index, &mut keys, b"k3", 0, &[b"c"]);
    assert_eq!(index.invalidate_tags([b"a".as_slice(), b"b"]), 2);
    assert_eq!(index.invalidate_tags([b"b".as_slice(), b"nobody"]), 0);
    assert_eq!((index.len(), index.type_len(0), index.type_dead(0), index.dead_len()), (1, 1, 2, 2));

    let moved = remove(&mut index, &mut keys, b"k1").unwrap();
    assert!(moved.carries_dead_mark());
    relink(&mut index, &mut keys, b"k9", moved);
    assert!(index.is_dead(&keys[b"k9".as_slice()]));

    put(&mut index, &mut keys, b"k2", 0, &[b"b"]);
    assert_eq!(index.dead_len(), 1, "an overwritten entry lives");
    assert_eq!(index.next_dead(1).next().unwrap().1, b"k9");
    remove(&mut index, &mut keys, b"k9");
    assert_eq!(index.invalidate_tags([b"b".as_slice()]), 1, "and counts again");
    assert_eq!(complaints(&index, &keys), [""; 0]);
}

#[test]
fn an_entry_is_taken_out_only_under_its_own_key() {
    let (mut index, mut keys) = (Index::default(), Keyspace::new());
    put(&mut index, &mut keys, b"k1", 0, &[b"a"]);
    let entry = keys.get_mut(b"k1".as_slice()).unwrap();
    assert_eq!(index.unlink(entry, b"other"), None);
    assert!(entry.is_linked());
    assert_eq!(index.unlink(entry, b"k1"), Some(false));
    assert!(!entry.is_linked() && index.is_empty());
    assert_eq!(complaints(&index, &keys).len(), 8, "and a check notices");
}

/// What goes may come back at once; its id is nobody else's as long as a tag names it.
#[test]
fn the_last_that_went_have_their_names_and_ids_wait() {
    let (mut index, mut keys) = (Index::default(), Keyspace::new());
    let key = |n: u32| format!("key:{n}").into_bytes();
    (0..20).for_each(|n| put(&mut index, &mut keys, &key(n), 3, &[b"all", format!("tag:{n}").as_bytes()]));
    index.mark_soft(19, Soft { moment_ms: 7, grace_ms: None }, 0);
    let mut went: Vec<Box<Entry>> = (0..20)
        .map(|n| {
            let mut entry = keys.remove(&key(n)).unwrap();
            assert_eq!(index.unlink(&mut entry, &key(n)), Some(false));
            entry
        })
        .collect();
    let all = Selector { clauses: vec![Clause::Any([Box::from(b"all".as_slice())].into())] };
    assert_eq!((index.count(&all, |_| None), index.select(&all, |_| None).len()), (0, 0));
    for (n, entry) in went.iter().enumerate().skip(12) {
        let names = index.names_of_gone(entry, b"t").unwrap();
        assert!(names.type_name() == b"t" && names.tags().eq([b"all".as_slice(), format!("tag:{n}").as_bytes()]));
        assert_eq!((names.soft.is_some(), index.soft_of_gone(entry).is_some()), (n == 19, n == 19));
    }
    assert!(went[..12].iter().all(|entry| index.names_of_gone(entry, b"t").is_none()), "only the last eight");
    let last = went.pop().unwrap();
    let names = index.names_of_gone(&last, b"t").unwrap();
    put(&mut index, &mut keys, b"other", 3, &names.tags().collect::<Vec<_>>());
    let id = keys[b"other".as_slice()].id();
    assert!(went[12..].iter().all(|entry| entry.id() != id) && id != 19);
    assert_eq!(index.invalidate_tags([b"all".as_slice()]), 1);
    assert_eq!(complaints(&index, &keys), [""; 0]);
    index.settle();
    assert_eq!(index.names_of_gone(&last, b"t"), None);
    assert_eq!(complaints(&index, &keys), [""; 0]);
    remove(&mut index, &mut keys, b"other");
    index.settle();
    assert_eq!((index.tags.len(), index.records.pages()), (0, 0));
}

#[test]
fn a_tag_takes_48_bytes_and_its_list() {
    assert_eq!(size_of::<Tag>(), 48);
}

#[test]
fn agrees_with_a_naive_model() {
    for (keys, steps) in [(3, 20_000), (40, 20_000), (3000, 60_000)] {
        play_against_a_model(keys, steps);
    }
}

fn play_against_a_model(key_count: u64, steps: u32) {
    let mut dice = Rng::with_seed(0x9E37_79B9_7F4A_7C15 ^ key_count);
    let few = key_count < 100;
    let (mut index, mut keys) = (Index::default(), Keyspace::new());
    let mut model: BTreeMap<Vec<u8>, (BTreeSet<Vec<u8>>, bool)> = BTreeMap::new();
    for step in 0..steps {
        let key = format!("key:{}", dice.u64(..key_count)).into_bytes();
        match dice.u64(..100) {
            0..60 => {
                let tags: BTreeSet<Vec<u8>> = (0..dice.u64(..5))
                    .map(|_| {
                        let spread = if few || dice.u64(..2) == 0 { 4 } else { 2000 };
                        format!("tag:{}", dice.u64(..spread)).into_bytes()
                    })
                    .collect();
                let names: Vec<&[u8]> = tags.iter().map(AsRef::as_ref).collect();
                put(&mut index, &mut keys, &key, dice.u64(..5) as u16, &names);
                model.insert(key, (tags, false));
            }
            60..75 => {
                // Reclaiming, now and then to the last.
                for _ in 0..dice.u64(..3) {
                    let Some(key) = index.next_dead(1).next().map(|(_, key)| key.to_vec()) else { break };
                    assert!(remove(&mut index, &mut keys, &key).is_some());
                    model.remove(&key);
                }
            }
            75..90 => {
                assert_eq!(remove(&mut index, &mut keys, &key).is_some(), model.remove(&key).is_some());
            }
            90..96 => {
                // A rename: the entry goes on under another key, over whatever is there.
                if let Some(entry) = remove(&mut index, &mut keys, &key) {
                    let to = format!("key:{}", dice.u64(..key_count)).into_bytes();
                    remove(&mut index, &mut keys, &to);
                    relink(&mut index, &mut keys, &to, entry);
                    let state = model.remove(&key).unwrap();
                    model.insert(to, state);
                }
            }
            _ => {
                let spread = if few || dice.u64(..20) == 0 { 4 } else { 2000 };
                let tag = format!("tag:{}", dice.u64(..spread)).into_bytes();
                let mut expected = 0;
                for (tags, dead) in model.values_mut().filter(|(tags, dead)| !dead && tags.contains(&tag)) {
                    (*dead, expected) = (tags.contains(&tag), expected + 1);
                }
                assert_eq!(index.invalidate_tags([tag.as_slice()]), expected, "step {step}");
            }
        }
        if step % (steps / 10) == 0 {
            assert_eq!(complaints(&index, &keys), [""; 0], "step {step}");
        }
    }
    for (key, (tags, dead)) in &model {
        let entry = &keys[key];
        assert_eq!(index.is_dead(entry), *dead);
        assert_eq!(index.tags(entry).map(<[u8]>::to_vec).collect::<BTreeSet<_>>(), *tags);
    }
    loop {
        let Some(key) = index.next_dead(1).next().map(|(_, key)| key.to_vec()) else { break };
        assert!(remove(&mut index, &mut keys, &key).is_some());
    }
    assert_eq!(index.len(), keys.len() as u64);
    for key in keys.keys().cloned().collect::<Vec<_>>() {
        remove(&mut index, &mut keys, &key);
    }
    index.settle();
    assert_eq!((index.gone.ids().count(), index.records.held()), (0, 0));
    assert!(index.is_empty() && index.tag_count() == 0 && index.tag_ids.len() == 0);
}
