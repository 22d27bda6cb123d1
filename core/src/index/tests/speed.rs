//! How long things take with a million entries: `cargo test --release -p expcache-core speed -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::*;
use crate::glob::Glob;
use crate::selector::{Clause, Selector};

const MILLION: u32 = 1_000_000;

fn name(number: u32) -> Vec<u8> {
    let prefix = if number.is_multiple_of(10) { "cache:trips" } else { "cache:reports" };
    format!("{prefix}:{:0>width$x}", md5_like(number), width = 50 - prefix.len()).into_bytes()
}

fn md5_like(number: u32) -> u128 {
    u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

fn filled(grace_ms: u64) -> (Index, Vec<Box<Entry>>) {
    let mut index = Index::new(1);
    let entries = (0..MILLION).map(|number| {
        let content = Content { extras: Extras { grace_ms, ..Extras::default() }, ..Content::default() };
        let mut entry = Entry::new(content.clone(), 3).unwrap();
        let (half, few) = (format!("half:{}", number % 2), format!("few:{}", number / 100));
        let tags = [b"all".as_slice(), half.as_bytes(), few.as_bytes()];
        let fresh_until_ms = Some(i64::from(number % 10) * 100 + 50);
        let placement = Placement { type_id: (number % 2) as u16, fresh_until_ms, soft: None };
        assert!(index.link(&mut entry, &name(number), placement, tags));
        entry
    });
    let entries = entries.collect();
    (index, entries)
}

/// The best of a few.
fn timed<R>(what: &str, mut work: impl FnMut() -> R) -> R {
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let start = Instant::now();
        black_box(work());
        best = best.min(start.elapsed());
    }
    println!("{what}: {best:?}");
    work()
}

fn tags(names: &[&str]) -> Box<[Box<[u8]>]> {
    names.iter().map(|name| name.as_bytes().into()).collect()
}

#[test]
#[ignore = "takes long, and says something only in release mode"]
fn speed_of_selecting() {
    let (mut index, _entries) = filled(0);
    let types = |name: &[u8]| Some(u16::from(name[0] - b'0'));
    let (all, even) = (|| Clause::All(tags(&["all"])), || Clause::Any(tags(&["half:0", "few:1"])));
    let none = || Clause::None(tags(&["half:1", "few:2"]));
    for (what, clauses) in [
        ("everything", vec![]),
        ("one tag", vec![all()]),
        ("one of two tags", vec![even()]),
        ("two tags, without two", vec![all(), even(), none()]),
        ("a type without two tags", vec![Clause::Type(b"0".as_slice().into()), none()]),
        ("few of many", vec![all(), even(), Clause::Any(tags(&["few:1", "few:77"]))]),
    ] {
        let selector = Selector { clauses };
        let count = timed(&format!("count {what}"), || index.count(&selector, types));
        let ids = timed(&format!("select {what}, {count}"), || index.select(&selector, types));
        timed(&format!("by type, {what}"), || index.by_type(&ids).count());
        timed(&format!("page of 100, {what}"), || {
            index.scan(&selector, types, 0, Effort { elements: 100, work: u64::MAX })
        });
    }
    // As if there were ten million entries, a tenth of them with a tag.
    index.types[0].ids = (0..10 * MILLION).collect();
    index.types[1].ids.clear();
    for tag in 0..3 {
        let ids = (0..MILLION).map(|number| number * 10 + number * 7 % (8 + tag)).collect();
        index.tags.get_mut(tag).unwrap().members = Members::Bitmap(Box::new(ids));
    }
    let clause = |name: &str| Clause::Any(tags(&[name]));
    for (what, clauses) in [
        ("one tag", vec![all()]),
        ("two tags", vec![all(), clause("half:0")]),
        ("a tag and a type", vec![all(), Clause::Type(b"0".as_slice().into())]),
        ("a tag without another", vec![all(), Clause::None(tags(&["half:0"]))]),
        ("either of two tags", vec![Clause::Any(tags(&["all", "half:0"]))]),
        ("a type without a tag", vec![Clause::Type(b"0".as_slice().into()), Clause::None(tags(&["all"]))]),
    ] {
        let selector = Selector { clauses };
        let count = timed(&format!("scattered: count {what}"), || index.count(&selector, types));
        timed(&format!("scattered: select {what}, {count}"), || index.select(&selector, types));
    }
    let ids = index.select(&Selector { clauses: vec![all()] }, types);
    timed("scattered: kill 1 M", || {
        index.dead.clear();
        index.kill(&ids)
    });
}

#[test]
#[ignore = "takes long, and says something only in release mode"]
fn speed_of_softening() {
    for (what, own, type_grace) in [("own grace", 1000, 0), ("their type's grace", 0, 500), ("no grace", 0, 0)] {
        let (mut index, entries) = filled(own);
        for (share, now_ms) in [("none stale", 0), ("half stale", 499), ("all stale", 1000)] {
            let all = index.select(&Selector::default(), |_| None);
            timed(&format!("soften 1 M with {what}, {share} by date"), || {
                (index.pending, index.dead) = (Pending::default(), RoaringBitmap::default());
                let stale = index.stale(&all, now_ms);
                let fresh = index.fresh(&all, &stale);
                index.soften(&fresh, now_ms, |_| type_grace)
            });
            timed("1 M verdicts", || entries.iter().filter(|entry| index.verdict(entry) == Verdict::Alive).count());
        }
        let ids: Vec<u32> = index.pending.ids().iter().collect();
        timed("settle all", || {
            ids.iter().for_each(|id| index.redate(&entries[*id as usize], Some(0), Mark::CarriedOut))
        });
        timed("1 M verdicts, nothing pending", || {
            entries.iter().filter(|entry| index.verdict(entry) == Verdict::Alive).count()
        });
    }
}

#[test]
#[ignore = "takes long, and says something only in release mode"]
fn speed_of_walks() {
    let (mut index, mut entries) = filled(0);
    for pattern in ["cache:trips:*", "[c]ache:trips:*", "cache:trip*", "*ffff*", "nothing:*"] {
        let globs = [Glob::new(pattern.as_bytes())];
        timed(&format!("walk over 1 M names of 51 bytes, {pattern}"), || {
            let scope = index.select(&Selector::default(), |_| None);
            let walk = index.start_walk(&globs, scope);
            while !index.walk(walk, 16_384) {}
            index.finish_walk(walk).len()
        });
    }
    let mut again = |index: &mut Index, what: &str| {
        timed(&format!("100 k entries out and in, {what}"), || {
            for (number, entry) in (0..100_000).zip(&mut entries) {
                let (half, few) = (format!("half:{}", number % 2), format!("few:{}", number / 100));
                index.unlink(entry, &name(number)).unwrap();
                let tags = [b"all".as_slice(), half.as_bytes(), few.as_bytes()];
                assert!(link(index, entry, &name(number), (number % 2) as u16, &tags));
            }
        });
    };
    again(&mut index, "no walk");
    let walk = index.start_walk(&[Glob::new(b"cache:trips:*")], Ids::default());
    again(&mut index, "one walk");
    index.cancel_walk(walk);
}
