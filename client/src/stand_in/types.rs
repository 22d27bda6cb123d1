//! `EXPCACHE.TYPE`.

use bytes::Bytes;
use expcache_core::grammar::policy::PolicyChange;
use expcache_core::grammar::{Words as _, is};
use expcache_core::policy::{PerTag, Policy};
use expcache_core::{Error, Result};
use redis::Value;

use super::entry::{bulk, bulks, count, map, text};
use super::set::DEFAULT_TTL_MS;
use super::store::State;
use super::words::Words;

impl State {
    pub(super) fn type_command(&mut self, mut words: Words<'_>) -> Result<Value> {
        match words.need()? {
            word if is(word, "SET") => self.set_type(words),
            word if is(word, "GET") => Ok(self.types.get(words.need()?).map_or(Value::Nil, shown)),
            word if is(word, "LIST") => Ok(bulks(self.types.keys())),
            word if is(word, "DEL") => {
                let was_there = self.types.remove(words.need()?).is_some();
                self.note_types();
                Ok(count(i64::from(was_there)))
            }
            _ => Err(Error::Syntax),
        }
    }

    fn set_type(&mut self, words: Words<'_>) -> Result<Value> {
        let (name, change) = PolicyChange::parse(words)?;
        let mut policy = self.policy(name);
        change.apply(&mut policy)?;
        self.types.insert(Bytes::copy_from_slice(name), policy);
        self.note_types();
        Ok(Value::Okay)
    }
}

fn shown(policy: &Policy) -> Value {
    let yes = |flag: bool| text(if flag { "yes" } else { "no" });
    let formats: Vec<Bytes> = policy.formats.iter().map(|name| Bytes::copy_from_slice(name)).collect();
    map([
        ("ttl", count(policy.ttl_ms(DEFAULT_TTL_MS))),
        ("grace", count(policy.grace_ms)),
        ("maxttl", count(policy.max_ttl_ms)),
        ("jitter", count(policy.jitter_percent)),
        ("early", count(policy.early_percent)),
        ("sliding", yes(policy.sliding)),
        ("codec", text(policy.codec.name())),
        ("threshold", count(policy.threshold)),
        ("maxvalue", count(policy.max_value)),
        ("maxentries", count(policy.max_entries)),
        ("maxbytes", count(policy.max_bytes)),
        ("formats", bulks(&formats)),
        ("validate", yes(policy.validate)),
        ("lifetime", count(policy.whole_life_ms)),
        ("pertag", policy.per_tag.as_ref().map_or(Value::Nil, shown_limit)),
        ("warm", count(policy.warm)),
        ("audit", text(policy.audit.name())),
    ])
}

fn shown_limit(limit: &PerTag) -> Value {
    Value::Array(vec![bulk(&limit.prefix), count(limit.most), text(limit.beyond.name())])
}
