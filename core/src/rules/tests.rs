//! Rules as a whole; patterns, prefixes and templates have their own tests beside them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::grammar::selector::Limits;

fn selector(words: &str) -> Selector {
    let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    Selector::parse(words.into_iter(), Limits::Apply).unwrap()
}

fn define(on: On, pattern: &str, does: &str) -> Result<Definition> {
    Definition::new(on, pattern.as_bytes(), selector(does), false)
}

fn rules(all: &[(&str, On, &str, &str)]) -> Rules {
    let mut rules = Rules::default();
    for (name, on, pattern, does) in all {
        rules.set(name.as_bytes(), define(*on, pattern, does).unwrap(), 100).unwrap();
    }
    rules
}

/// Each rule that is to be carried out, with its selector.
fn matched(rules: &mut Rules, on: On, text: &str, told: &[(&str, &str)]) -> Vec<String> {
    let told: Vec<_> = told.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let matches = rules.matches(on, text.as_bytes());
    let shown = |(rule, captures): &(usize, Captures<'_>)| {
        let what = match rules.selector(*rule, captures, &told) {
            Ok(selector) => crate::grammar::words(|to| selector.write(to)).join(&b' '),
            Err(error) => error.reply().into_owned().into_bytes(),
        };
        String::from_utf8([rules.name(*rule), b": ", &what].concat()).unwrap()
    };
    matches.iter().map(shown).collect()
}

#[test]
fn every_rule_that_matches_is_found_in_the_order_of_names() {
    let mut rules = rules(&[
        ("z", On::Key, "user:{id}", "ANY 1 user:{id}"),
        ("a", On::Key, "user:7*", "TYPE trips"),
        ("m", On::Key, "*", "TYPE all"),
        ("e", On::Event, "user:{id}", "TYPE event"),
    ]);
    let found = matched(&mut rules, On::Key, "user:7", &[]);
    assert_eq!(found, ["a: TYPE trips", "m: TYPE all", "z: ANY 1 user:7"]);
    assert_eq!(matched(&mut rules, On::Key, "other", &[]), ["m: TYPE all"]);
    assert_eq!(matched(&mut rules, On::Event, "user:7", &[]), ["e: TYPE event"]);
    assert!(rules.remove(b"m") && !rules.remove(b"m"));
    assert!(matched(&mut rules, On::Key, "other", &[]).is_empty());
    assert!(rules.matches(On::Key, &[b'u'; MOST_TEXT_BYTES + 1]).is_empty());
}

#[test]
fn fields_stand_beside_what_is_captured() {
    let mut rules = rules(&[("r", On::Event, "POST /{what}", "ANY 1 {what}:{id}")]);
    assert_eq!(matched(&mut rules, On::Event, "POST /user", &[("id", "7"), ("no", "matter")]), ["r: ANY 1 user:7"]);
    let missing = "r: ERR the rule 'r' wants 'id', which is neither captured nor a field";
    assert_eq!(matched(&mut rules, On::Event, "POST /user", &[]), [missing]);
    let both = "r: ERR the rule 'r': 'what' is both captured and a field";
    assert_eq!(matched(&mut rules, On::Event, "POST /user", &[("what", "x"), ("id", "7")]), [both]);
}

#[test]
fn a_rule_about_one_tag_is_told_from_others() {
    let mut rules = rules(&[
        ("a", On::Key, "user:{id}", "ANY 1 user:{id}"),
        ("b", On::Key, "user:{id}", "ANY 1 user:{id} TYPE t"),
        ("c", On::Key, "user:{id}", "ANY 2 user:{id} all"),
        ("d", On::Key, "user:{id}", "ALL 1 user:{id}"),
    ]);
    let tags = |rules: &mut Rules, key: &str| -> Vec<Option<Vec<u8>>> {
        let matches = rules.matches(On::Key, key.as_bytes());
        matches.iter().map(|(rule, captures)| Some(rules.only_tag(*rule, captures)?.to_vec())).collect()
    };
    assert_eq!(tags(&mut rules, "user:7"), [Some(b"user:7".to_vec()), None, None, None]);
    assert_eq!(tags(&mut rules, &format!("user:{}", "x".repeat(600))), [None, None, None, None]);
}

#[test]
fn a_rule_that_could_never_be_carried_out_is_refused() {
    for (on, pattern, does) in
        [(On::Key, "user:*", "ANY 1 user:{id}"), (On::Key, "user:{id}", "MATCH *:{id}"), (On::Event, "**", "TYPE t")]
    {
        assert!(define(on, pattern, does).is_err(), "{pattern} {does}");
    }
    assert!(define(On::Event, "user:*", "MATCH *:{id}").is_ok());
}

#[test]
fn rules_are_bounded_and_count_as_long_as_they_say_the_same() {
    let mut rules = rules(&[("a", On::Key, "a", "TYPE t"), ("b", On::Key, "b", "TYPE t")]);
    let one = || define(On::Key, "a", "TYPE t").unwrap();
    assert!(rules.set(b"c", one(), 2).is_err());
    let at = rules.matches(On::Key, b"a")[0].0;
    rules.count_fired(at, 5, 1000);
    rules.count_error(at);
    let counts = |rules: &Rules| rules.get(b"a").map(|rule| (rule.counts.values(), rule.last_ms));
    rules.set(b"a", one(), 0).unwrap();
    assert_eq!(counts(&rules), Some(([1, 5, 1], Some(1000))));
    rules.set(b"a", define(On::Key, "a", "TYPE u").unwrap(), 0).unwrap();
    assert_eq!(counts(&rules), Some(([0, 0, 0], None)));
    assert_eq!(rules.total.values(), [1, 5, 1]);
}
