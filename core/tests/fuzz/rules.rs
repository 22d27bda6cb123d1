//! Patterns of rules against a matcher that tries everything, and rules found by their prefixes against asking each.

use expcache_core::grammar::selector::Limits;
use expcache_core::rules::{Definition, On, Pattern, Rules, Template};
use expcache_core::selector::Selector;
use fastrand::Rng;

use crate::fuzz;

/// A part of a pattern as it is meant.
#[derive(Clone, PartialEq)]
enum Part {
    Literal(Vec<u8>),
    Star,
    Name,
}

const LETTERS: &[u8] = b"ab:{}\xff";

fn letters(rng: &mut Rng, least: usize, most: usize) -> Vec<u8> {
    (0..rng.usize(least..=most)).map(|_| *rng.choice(LETTERS).unwrap()).collect()
}

/// Never two side by side of what may be anything.
fn roll_parts(rng: &mut Rng) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for _ in 0..rng.usize(1..10) {
        let after_gap = matches!(parts.last(), Some(Part::Star | Part::Name));
        let part = match rng.u8(..3) {
            0 if !after_gap => Part::Star,
            1 if !after_gap => Part::Name,
            _ => Part::Literal(letters(rng, 1, 3)),
        };
        parts.push(part);
    }
    parts
}

fn written(parts: &[Part]) -> Vec<u8> {
    let mut names = 0;
    let mut written = Vec::new();
    for part in parts {
        match part {
            Part::Literal(bytes) => bytes.iter().for_each(|byte| match byte {
                b'{' | b'}' => written.extend([*byte; 2]),
                byte => written.push(*byte),
            }),
            Part::Star => written.push(b'*'),
            Part::Name => {
                written.extend(format!("{{n{names}}}").bytes());
                names += 1;
            }
        }
    }
    written
}

/// What the names stand for if each part takes as little as lets the rest match; tries everything.
fn naive<'t>(parts: &[Part], text: &'t [u8]) -> Option<Vec<&'t [u8]>> {
    match parts {
        [] => text.is_empty().then(Vec::new),
        [Part::Literal(bytes), rest @ ..] => naive(rest, text.strip_prefix(&bytes[..])?),
        [gap, rest @ ..] => (usize::from(*gap == Part::Name)..=text.len()).find_map(|end| {
            let mut captures = naive(rest, &text[end..])?;
            if *gap == Part::Name {
                captures.insert(0, &text[..end]);
            }
            Some(captures)
        }),
    }
}

/// One that matches, or would but for a few bytes, or any.
fn roll_text(rng: &mut Rng, parts: &[Part]) -> Vec<u8> {
    if rng.u8(..4) == 0 {
        return letters(rng, 0, 20);
    }
    let of_part = |part: &Part, rng: &mut Rng| match part {
        Part::Literal(bytes) => bytes.clone(),
        Part::Star => letters(rng, 0, 4),
        Part::Name => letters(rng, 1, 4),
    };
    let mut text: Vec<u8> = parts.iter().flat_map(|part| of_part(part, rng)).collect();
    if rng.bool() && !text.is_empty() {
        let at = rng.usize(..text.len());
        text[at] = *rng.choice(LETTERS).unwrap();
    }
    text
}

#[test]
fn a_pattern_matches_what_a_naive_matcher_says() {
    fuzz(50_000, |rng| {
        let parts = roll_parts(rng);
        let (pattern, text) = (written(&parts), roll_text(rng, &parts));
        let captures = Pattern::parse(&pattern).unwrap().captures(&text).map(|found| found.to_vec());
        assert_eq!(captures, naive(&parts, &text), "{} and {}", pattern.escape_ascii(), text.escape_ascii());
    });
}

/// Anything at all is a pattern, or is refused; and what it captures is in the text.
#[test]
fn whatever_is_written_does_no_harm() {
    fuzz(50_000, |rng| {
        let any: Vec<u8> = (0..rng.usize(..12)).map(|_| *rng.choice(b"{{}}*ab:").unwrap()).collect();
        let text = letters(rng, 0, 30);
        if let Ok(pattern) = Pattern::parse(&any)
            && let Some(captures) = pattern.captures(&text)
        {
            assert!(captures.iter().all(|part| !part.is_empty()) && captures.len() == pattern.names().len());
            assert!(captures.iter().map(|part| part.len()).sum::<usize>() <= text.len());
        }
        let selector = |words: [&[u8]; 2]| Selector::parse(words.into_iter(), Limits::Apply).ok();
        for template in [selector([b"TYPE", &any]), selector([b"MATCH", &any])].into_iter().flatten() {
            _ = Template::read(&template).map(|template| template.fill(|_| Some(text.as_slice())).is_ok());
        }
    });
}

#[test]
fn rules_are_found_as_if_each_were_asked() {
    fuzz(2_000, |rng| {
        let mut rules = Rules::default();
        let mut all: Vec<(Vec<u8>, Pattern)> = Vec::new();
        for number in 0..rng.usize(..30) {
            let (name, pattern) = (format!("r{number:02}").into_bytes(), written(&roll_parts(rng)));
            let anything = Selector::parse([&b"TYPE"[..], b"t"].into_iter(), Limits::Apply).unwrap();
            rules.set(&name, Definition::new(On::Key, &pattern, anything, false).unwrap(), 100).unwrap();
            all.push((name, Pattern::parse(&pattern).unwrap()));
        }
        for _ in 0..20 {
            let text = letters(rng, 0, 12);
            let matches = |(name, pattern): &(Vec<u8>, Pattern)| pattern.captures(&text).map(|_| name.clone());
            let expected: Vec<Vec<u8>> = all.iter().filter_map(matches).collect();
            let found: Vec<usize> = rules.matches(On::Key, &text).iter().map(|(rule, _)| *rule).collect();
            let found: Vec<Vec<u8>> = found.into_iter().map(|rule| rules.name(rule).to_vec()).collect();
            assert_eq!(found, expected, "{}", text.escape_ascii());
        }
    });
}

/// Ten times the text takes about ten times as long; a matcher that goes back would take a hundred times, or for ever.
#[test]
fn much_to_try_takes_no_time() {
    let pattern = "{a}a".to_owned() + &"*ab".repeat(200) + "{z}c";
    let pattern = Pattern::parse(pattern.as_bytes()).unwrap();
    let text = "a".repeat(1 << 20);
    assert!(pattern.captures(text.as_bytes()).is_none());
    assert!(pattern.captures(text.replace("aa", "ab").as_bytes()).is_none());
}
