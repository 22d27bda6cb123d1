//! Glob patterns, against a matcher that tries everything.

use expcache_core::glob::Glob;

use crate::fuzz;

/// Literals, `*` and `?`, by a table of which beginnings match which.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match part {
                b'*' => reached[..=at].contains(&true),
                b'?' => at > 0 && reached[at - 1],
                byte => at > 0 && reached[at - 1] && name[at - 1] == *byte,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

#[test]
fn a_pattern_matches_what_a_naive_matcher_says() {
    fuzz(20_000, |rng| {
        let pattern: Vec<u8> = (0..rng.usize(..12)).map(|_| *rng.choice(b"ab*?").unwrap()).collect();
        let name: Vec<u8> = (0..rng.usize(..16)).map(|_| *rng.choice(b"ab").unwrap()).collect();
        assert_eq!(Glob::new(&pattern).matches(&name), matches(&pattern, &name), "{pattern:?} {name:?}");
    });
}
