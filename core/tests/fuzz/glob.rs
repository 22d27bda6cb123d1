//! Glob patterns, against a matcher that tries everything.

use expcache_core::glob::{Glob, Matching};
use fastrand::Rng;

use crate::fuzz;

/// A part of a pattern as it is meant: what it is written as, and which bytes it takes; a star takes any number of any.
struct Part {
    written: Vec<u8>,
    takes: Option<Vec<u8>>,
}

const LETTERS: &[u8] = b"ab]\\*\xff";

fn roll_part(rng: &mut Rng) -> Part {
    let any = |rng: &mut Rng| *rng.choice(LETTERS).unwrap();
    let (written, takes) = match rng.u8(..10) {
        0..3 => return Part { written: b"*".to_vec(), takes: None },
        3 => (b"?".to_vec(), (0..=u8::MAX).collect()),
        4 => {
            let byte = any(rng);
            (vec![b'\\', byte], vec![byte])
        }
        5..7 => {
            let (inverted, bytes) = (rng.bool(), (0..rng.usize(..3)).map(|_| any(rng)).collect::<Vec<u8>>());
            let written = bytes.iter().flat_map(|byte| [b'\\', *byte]);
            let written = [if inverted { &b"[^"[..] } else { b"[" }, &written.collect::<Vec<u8>>(), b"]"].concat();
            (written, (0..=u8::MAX).filter(|byte| bytes.contains(byte) != inverted).collect())
        }
        7 => {
            let (one, other) = (rng.u8(b'a'..=b'c'), rng.u8(b'a'..=b'c'));
            (vec![b'[', one, b'-', other, b']'], (one.min(other)..=one.max(other)).collect())
        }
        _ => {
            let byte = rng.u8(b'a'..=b'b');
            (vec![byte], vec![byte])
        }
    };
    Part { written, takes: Some(takes) }
}

/// By a table of which beginnings match which.
fn matches(pattern: &[Part], name: &[u8]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match &part.takes {
                None => reached[..=at].contains(&true),
                Some(takes) => at > 0 && reached[at - 1] && takes.contains(&name[at - 1]),
            };
        }
        reached = next;
    }
    reached[name.len()]
}

fn roll(rng: &mut Rng) -> (Vec<Part>, Vec<u8>, Vec<u8>) {
    // Some pieces are longer than a word has bits.
    let (parts, letters) = *rng.choice(&[(12, 16), (12, 16), (200, 400)]).unwrap();
    let parts: Vec<Part> = (0..rng.usize(..parts)).map(|_| roll_part(rng)).collect();
    let pattern = parts.iter().flat_map(|part| part.written.clone()).collect();
    let name = if rng.bool() {
        (0..rng.usize(..letters)).map(|_| *rng.choice(LETTERS).unwrap()).collect()
    } else {
        // One that matches, or would but for a byte.
        let mut name: Vec<u8> = parts
            .iter()
            .flat_map(|part| match &part.takes {
                None => (0..rng.usize(..3)).map(|_| rng.u8(b'a'..=b'b')).collect(),
                Some(takes) => rng.choice(takes).copied().into_iter().collect::<Vec<u8>>(),
            })
            .collect();
        if rng.bool() && !name.is_empty() {
            let at = rng.usize(..name.len());
            name[at] = *rng.choice(LETTERS).unwrap();
        }
        name
    };
    (parts, pattern, name)
}

#[test]
fn a_pattern_matches_what_a_naive_matcher_says() {
    fuzz(20_000, |rng| {
        let (parts, pattern, name) = roll(rng);
        assert_eq!(Glob::new(&pattern).matches(&name), matches(&parts, &name), "{pattern:?} {name:?}");
    });
}

#[test]
fn however_often_matching_stops_it_comes_to_the_same() {
    fuzz(5_000, |rng| {
        let (_, pattern, name) = roll(rng);
        let (glob, mut matching) = (Glob::new(&pattern), Matching::default());
        let found = loop {
            if let Some(found) = glob.go_on(&name, &mut matching, &mut rng.u64(1..50)) {
                break found;
            }
        };
        assert_eq!(found, glob.matches(&name), "{pattern:?} {name:?}");
    });
}

/// A step a byte, of the name for each 64 parts of the pattern.
#[test]
fn steps_grow_with_the_lengths_and_not_with_their_product() {
    fuzz(5_000, |rng| {
        let stuff = |rng: &mut Rng, of: &[u8], most: usize| -> Vec<u8> {
            (0..rng.usize(..most)).map(|_| *rng.choice(of).unwrap()).collect()
        };
        let pattern = if rng.bool() { roll(rng).1 } else { [b"*", &stuff(rng, b"aaaa?", 1000)[..], b"b*"].concat() };
        let name = stuff(rng, b"aaaaaaaaaaaaaaab", 3000);
        let mut left = u64::MAX;
        Glob::new(&pattern).go_on(&name, &mut Matching::default(), &mut left);
        let most = pattern.len() + name.len() * (1 + pattern.len().div_ceil(64));
        assert!(u64::MAX - left <= most as u64 + 1, "{} steps for {pattern:?} {name:?}", u64::MAX - left);
    });
}
