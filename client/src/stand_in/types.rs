//! `EXPCACHE.TYPE`.

use bytes::Bytes;
use expcache_core::policy::{Codec, Policy};
use expcache_core::units::{UnitRule, parse_duration_ms, parse_size};
use expcache_core::{Error, Result};
use redis::Value;

use super::entry::{bulks, count, map, text};
use super::set::DEFAULT_TTL_MS;
use super::store::State;
use super::words::{Words, names};

impl State {
    pub(super) fn type_command(&mut self, mut words: Words<'_>) -> Result<Value> {
        match words.need()?.as_ref() {
            b"SET" => self.set_type(words),
            b"GET" => Ok(self.types.get(words.need()?).map_or(Value::Nil, shown)),
            b"LIST" => Ok(bulks(self.types.keys())),
            b"DEL" => Ok(count(i64::from(self.types.remove(words.need()?).is_some()))),
            _ => Err(Error::Syntax),
        }
    }

    fn set_type(&mut self, mut words: Words<'_>) -> Result<Value> {
        let name = words.need()?;
        expcache_core::key::validate_name("type", name)?;
        let mut policy = self.policy(name);
        while let Some(word) = words.next() {
            change(&mut policy, word, &mut words)?;
        }
        self.types.insert(name.clone(), policy);
        Ok(Value::Okay)
    }
}

fn change(policy: &mut Policy, word: &Bytes, words: &mut Words<'_>) -> Result<()> {
    match word.as_ref() {
        b"TTL" => policy.ttl_ms = Some(duration(words)?),
        b"GRACE" => policy.grace_ms = duration(words)?,
        b"MAXTTL" => policy.max_ttl_ms = duration(words)?,
        b"JITTER" => policy.jitter_percent = percent(words)?,
        b"EARLY" => policy.early_percent = percent(words)?,
        b"SLIDING" => policy.sliding = flag(words)?,
        b"CODEC" => policy.codec = Codec::parse(words.need()?)?,
        b"THRESHOLD" => policy.threshold = parse_size(words.need()?)?,
        b"MAXVALUE" => policy.max_value = parse_size(words.need()?)?,
        b"MAXENTRIES" => policy.max_entries = words.number()?,
        b"MAXBYTES" => policy.max_bytes = parse_size(words.need()?)?,
        b"FORMATS" => policy.formats = names(words.counted()?).into_vec(),
        b"VALIDATE" => policy.validate = flag(words)?,
        _ => return Err(Error::Syntax),
    }
    Ok(())
}

fn duration(words: &mut Words<'_>) -> Result<u64> {
    parse_duration_ms(words.need()?, UnitRule::Required)
}

fn percent(words: &mut Words<'_>) -> Result<u8> {
    let percent = u8::try_from(words.number()?).ok().filter(|percent| *percent <= 100);
    percent.ok_or(Error::invalid("a percentage is 0 to 100"))
}

fn flag(words: &mut Words<'_>) -> Result<bool> {
    match words.need()?.as_ref() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(Error::invalid("say yes or no")),
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
    ])
}
