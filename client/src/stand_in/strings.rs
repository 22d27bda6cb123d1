//! Native strings, and keys of whatever kind: `GET`, `SET`, `DEL`, `PEXPIRE`, `RENAMENX`; and `EXPCACHE.THROTTLE`, which keeps its
//! state in one.

use bytes::Bytes;
use expcache_core::grammar::throttle::ThrottleOptions;
use expcache_core::grammar::{Words as _, is, number};
use expcache_core::limit::{self, Change, Outcome, Verdict};
use expcache_core::policy::end_ms;
use expcache_core::{Error, Result};
use redis::Value;

use super::entry::{Text, bulk, count, map, optional_count};
use super::store::State;
use super::words::Words;

impl State {
    pub(super) fn text(&mut self, key: &[u8]) -> Option<&mut Text> {
        let now_ms = end_ms(self.now_ms, 0);
        if self.texts.get(key).is_some_and(|text| text.expire_at_ms.is_some_and(|end| end <= now_ms)) {
            self.texts.remove(key);
        }
        self.texts.get_mut(key)
    }

    /// A key of another kind is not touched.
    pub(super) fn no_text(&mut self, key: &[u8]) -> Result<()> {
        if self.text(key).is_some() { Err(Error::WrongType) } else { Ok(()) }
    }

    fn no_entry(&mut self, key: &[u8]) -> Result<()> {
        if self.find(key).is_some() { Err(Error::WrongType) } else { Ok(()) }
    }

    pub(super) fn get_text(&mut self, mut words: Words<'_>) -> Result<Value> {
        let key = words.need()?;
        self.no_entry(key)?;
        Ok(self.text(key).map_or(Value::Nil, |text| bulk(&text.bytes)))
    }

    /// `SET key value PX ms NX`
    pub(super) fn set_text(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, bytes) = (words.need()?, words.need()?);
        let (px, time_ms, nx) = (words.need()?, number(words.need()?)?, words.need()?);
        if !is(px, "PX") || !is(nx, "NX") {
            return Err(Error::Syntax);
        }
        if self.find(key).is_some() || self.text(key).is_some() {
            return Ok(Value::Nil);
        }
        let expire_at_ms = Some(end_ms(self.now_ms, time_ms));
        self.put_text(key, Text { bytes: Bytes::copy_from_slice(bytes), expire_at_ms });
        Ok(Value::Okay)
    }

    pub(super) fn delete_native(&mut self, words: Words<'_>) -> Value {
        count(
            words
                .filter(|key| {
                    self.note_unwanted(key);
                    self.texts.remove(*key).is_some() | self.remove(key)
                })
                .count(),
        )
    }

    pub(super) fn expire(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, time_ms) = (words.need()?, number(words.need()?)?);
        let end = Some(end_ms(self.now_ms, time_ms));
        let found = match (self.text(key).is_some(), self.find(key)) {
            (_, Some(entry)) => {
                entry.life.expire_at_ms = end;
                true
            }
            (is_text, None) => is_text,
        };
        self.texts.get_mut(key).into_iter().for_each(|text| text.expire_at_ms = end);
        self.changed(key);
        Ok(count(i64::from(found)))
    }

    pub(super) fn rename_absent(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (from, to) = (words.need()?, words.need()?);
        let (is_text, is_entry) = (self.text(from).is_some(), self.find(from).is_some());
        if !is_text && !is_entry {
            return Err(Error::invalid("no such key"));
        }
        if self.text(to).is_some() || self.find(to).is_some() {
            return Ok(count(0));
        }
        let name = Bytes::copy_from_slice(to);
        if let Some(text) = self.texts.remove(from) {
            self.texts.insert(name.clone(), text);
        }
        if let Some(entry) = self.entries.remove(from) {
            self.entries.insert(name, entry);
            self.note_unwanted(from);
        }
        self.changed(from);
        self.changed(to);
        Ok(count(1))
    }

    pub(super) fn throttle(&mut self, mut words: Words<'_>) -> Result<Value> {
        let key = words.need()?;
        let ThrottleOptions { policies, cost } = ThrottleOptions::parse(words)?;
        self.no_entry(key)?;
        let state = self.text(key).map_or(Ok(limit::State::default()), |text| limit::State::parse(&text.bytes))?;
        let outcome = limit::throttle(&policies, &state, cost.unwrap_or(1), self.now_ms.saturating_mul(1000));
        match &outcome.change {
            Some(Change::Store { state, until_ms }) => {
                let expire_at_ms = Some(end_ms(*until_ms, 0));
                self.put_text(key, Text { bytes: Bytes::copy_from_slice(&state.to_bytes()), expire_at_ms });
            }
            Some(Change::Delete) => drop(self.texts.remove(key)),
            None => {}
        }
        Ok(told(&outcome))
    }

    fn put_text(&mut self, key: &[u8], text: Text) {
        self.texts.insert(Bytes::copy_from_slice(key), text);
        self.changed(key);
    }
}

fn told(outcome: &Outcome) -> Value {
    let tightest = outcome.verdicts.get(outcome.tightest).map(verdict);
    let policies = outcome.verdicts.iter().map(|each| map(verdict(each))).collect();
    let first = [("allowed", count(i64::from(outcome.is_allowed)))];
    let last = [("policy", count(outcome.tightest)), ("policies", Value::Array(policies))];
    map(first.into_iter().chain(tightest.into_iter().flatten()).chain(last))
}

fn verdict(verdict: &Verdict) -> [(&'static str, Value); 4] {
    let Verdict { limit, remaining, retry_ms, reset_ms } = *verdict;
    [
        ("limit", count(limit)),
        ("remaining", count(remaining)),
        ("retry", optional_count(retry_ms)),
        ("reset", count(reset_ms)),
    ]
}
