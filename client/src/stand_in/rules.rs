//! `EXPCACHE.RULE` and `EXPCACHE.EVENT`. There are no keys here but entries and what the client itself keeps, so rules that react to keys
//! are kept, and nothing has them carried out.

use std::collections::BTreeSet;

use bytes::Bytes;
use expcache_core::grammar::event::EventOptions;
use expcache_core::grammar::rule::RuleOptions;
use expcache_core::grammar::selector::Limits;
use expcache_core::grammar::{self, Words as _, is};
use expcache_core::rules::{Captures, Definition, On, Rule};
use expcache_core::selector::Selector;
use expcache_core::{Error, Result};
use redis::Value;

use super::entry::{bulk, count, map, optional_count, text};
use super::store::State;
use super::words::Words;

/// As `expcache.max-rules` at first.
const MOST_RULES: usize = 1024;

/// A rule that is to be carried out.
struct Consequence {
    rule: Vec<u8>,
    selector: Selector,
    is_soft: bool,
}

impl State {
    pub(super) fn rule_command(&mut self, mut words: Words<'_>) -> Result<Value> {
        match words.need()? {
            word if is(word, "SET") => self.set_rule(words),
            word if is(word, "GET") => Ok(self.rules.get(words.need()?).map_or(Value::Nil, shown)),
            word if is(word, "LIST") => Ok(Value::Array(self.rules.iter().map(|rule| bulk(&rule.name)).collect())),
            word if is(word, "DEL") => Ok(count(i64::from(self.rules.remove(words.need()?)))),
            _ => Err(Error::Syntax),
        }
    }

    fn set_rule(&mut self, words: Words<'_>) -> Result<Value> {
        let RuleOptions { name, on, pattern, selector, soft } = RuleOptions::parse(words, Limits::Apply)?;
        let definition = Definition::new(on, pattern, selector, soft.is_some())?;
        self.rules.set(name, definition, MOST_RULES)?;
        Ok(Value::Okay)
    }

    pub(super) fn event(&mut self, words: Words<'_>) -> Result<Value> {
        let EventOptions { text, fields, dry_run, rules, .. } = EventOptions::parse(words)?;
        let all = self.consequences(text, &fields)?;
        let mut counts = Vec::with_capacity(all.len());
        let mut counted = BTreeSet::new();
        for Consequence { rule, selector, is_soft } in &all {
            counts.push(if dry_run.is_some() {
                self.concerned(selector, *is_soft).len()
            } else {
                let meant = self.invalidate(selector.clone(), *is_soft);
                // An entry counts for the first rule that concerns it.
                let entries = meant.into_iter().filter(|key: &Bytes| counted.insert(key.clone())).count();
                self.rules.count_fired_by_name(rule, entries as u64, self.now_ms);
                entries
            });
        }
        Ok(match rules {
            None => count(counts.iter().sum::<usize>()),
            Some(()) => {
                let pair = |(one, entries): (&Consequence, usize)| [bulk(&one.rule), count(entries)];
                Value::Array(all.iter().zip(counts).flat_map(pair).collect())
            }
        })
    }

    /// What follows; nothing does if of one rule it cannot be said.
    fn consequences(&mut self, text: &[u8], fields: &[(&[u8], &[u8])]) -> Result<Vec<Consequence>> {
        let rules = &mut self.rules;
        let matches = rules.matches(On::Event, text);
        let consequence = |(rule, captures): &(usize, Captures<'_>)| {
            let selector = rules.selector(*rule, captures, fields).inspect_err(|_| rules.count_error(*rule))?;
            Ok(Consequence { rule: rules.name(*rule).to_vec(), selector, is_soft: rules.is_soft(*rule) })
        };
        matches.iter().map(consequence).collect()
    }
}

fn shown(rule: &Rule) -> Value {
    let Rule { definition, counts, last_ms, .. } = rule;
    let selector = grammar::words(|to| definition.selector.write(to));
    map([
        ("on", text(definition.on.name())),
        ("pattern", bulk(definition.pattern.text())),
        ("do", Value::Array(selector.iter().map(|word| bulk(word)).collect())),
        ("soft", text(if definition.is_soft { "yes" } else { "no" })),
        ("fired", count(counts.fired)),
        ("entries", count(counts.entries)),
        ("errors", count(counts.errors)),
        ("last", optional_count(*last_ms)),
    ])
}
