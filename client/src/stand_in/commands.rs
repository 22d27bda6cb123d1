//! Which command does what; and all that are short.

use std::collections::BTreeMap;

use bytes::Bytes;
use expcache_core::lease::{Named, Token};
use expcache_core::policy::end_ms;
use expcache_core::selector::{Clause, Selector};
use expcache_core::{Error, Result};
use redis::Value;

use super::entry::{Entry, bulk, bulks, count, map, optional_bulk, optional_count, text};
use super::store::{LIMITS, State};
use super::words::{Words, clause, names};

impl State {
    pub(super) fn run(&mut self, words: &[Bytes]) -> Result<Value> {
        let mut words = Words::new(words);
        let name = words.need()?;
        match name.as_ref() {
            b"EXPCACHE.SET" => self.set(words),
            b"EXPCACHE.MSET" => self.mset(words),
            b"EXPCACHE.GET" => Ok(self.get(words.need()?)),
            b"EXPCACHE.MGET" => Ok(Value::Array(words.rest().iter().map(|key| self.get(key)).collect())),
            b"EXPCACHE.DEL" => Ok(count(words.rest().iter().filter(|key| self.delete(key)).count())),
            b"EXPCACHE.META" => self.meta(words.need()?),
            b"EXPCACHE.INVTAG" => self.invalidate(Selector { clauses: vec![Clause::Any(names(words.rest()))] }),
            b"EXPCACHE.PURGE" => self.purge(words),
            b"EXPCACHE.CLEAR" => self.clear(words),
            b"EXPCACHE.COUNT" => selector(words).map(|selector| count(self.select(&selector).len())),
            b"EXPCACHE.SCAN" => self.scan(words),
            b"EXPCACHE.TAGS" => self.tags(words),
            b"EXPCACHE.RENEW" => self.renew(words),
            b"EXPCACHE.RELEASE" => self.release(words),
            b"EXPCACHE.PART" => self.part(words),
            b"EXPCACHE.TYPE" => self.type_command(words),
            b"EXPCACHE.HEALTH" => Ok(map([("status", text("ok"))])),
            b"EXPCACHE.DEBUG" => Ok(Value::Array(Vec::new())),
            _ => Err(Error::invalid(format!("the cache in memory has no {}", name.escape_ascii()))),
        }
    }

    fn get(&mut self, key: &[u8]) -> Value {
        let now_ms = self.now_ms;
        let Some(entry) = self.find(key).filter(|entry| entry.is_fresh(now_ms)) else { return Value::Nil };
        let (payload, type_name) = (bulk(&entry.payload), entry.type_name.clone());
        let policy = self.policy(&type_name);
        if let Some(entry) = self.find(key) {
            entry.hit(now_ms, &policy);
        }
        payload
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let was_there = self.remove(key);
        let woken = self.leases.lost(key, self.now_ms);
        self.wake(woken);
        was_there
    }

    fn invalidate(&mut self, selector: Selector) -> Result<Value> {
        let meant = self.select(&selector);
        self.fence(selector);
        for key in &meant {
            self.remove(key);
        }
        Ok(count(meant.len()))
    }

    /// Those that were fresh are stale; without any grace they are gone.
    fn soften(&mut self, selector: Selector) -> Vec<Bytes> {
        let now_ms = self.now_ms;
        let mut meant = self.select(&selector);
        meant.retain(|key| self.find(key).is_some_and(|entry| entry.is_fresh(now_ms)));
        self.fence(selector);
        for key in &meant {
            let Some(entry) = self.find(key) else { continue };
            let (own, type_name) = (entry.life.grace_ms, entry.type_name.clone());
            let grace_ms = if own > 0 { own } else { self.policy(&type_name).grace_ms };
            match self.find(key) {
                Some(entry) if grace_ms > 0 => {
                    (entry.soft_ms, entry.life.grace_ms) = (Some(now_ms), grace_ms);
                    entry.life.expire_at_ms = Some(end_ms(now_ms, grace_ms));
                    self.changed(key);
                }
                _ => drop(self.remove(key)),
            }
        }
        meant
    }

    fn purge(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (mut selector, mut soft, mut dry_run, mut most) = (Selector::default(), false, false, None);
        while let Some(word) = words.next() {
            match word.as_ref() {
                b"SOFT" => soft = true,
                b"DRYRUN" => dry_run = true,
                b"KEYS" => most = Some(usize::try_from(words.number()?).unwrap_or(usize::MAX)),
                word if clause(word, &mut words, &mut selector)? => {}
                _ => return Err(Error::Syntax),
            }
        }
        if selector.clauses.is_empty() {
            return Err(Error::Syntax);
        }
        let now_ms = self.now_ms;
        let mut meant = self.select(&selector);
        if soft {
            meant.retain(|key| self.find(key).is_some_and(|entry| entry.is_fresh(now_ms)));
        }
        match (dry_run, soft) {
            (true, _) => {}
            (false, true) => drop(self.soften(selector)),
            (false, false) => drop(self.invalidate(selector)?),
        }
        let number = count(meant.len());
        Ok(match most {
            None => number,
            Some(most) => {
                Value::Array(std::iter::once(number).chain(meant.iter().take(most).map(|key| bulk(key))).collect())
            }
        })
    }

    fn clear(&mut self, mut words: Words<'_>) -> Result<Value> {
        match words.next().map(AsRef::as_ref) {
            None => self.invalidate(Selector::default()),
            Some(b"SOFT") => Ok(count(self.soften(Selector::default()).len())),
            Some(_) => Err(Error::Syntax),
        }
    }

    /// All at once.
    fn scan(&mut self, mut words: Words<'_>) -> Result<Value> {
        words.need()?;
        let selector = selector(words)?;
        Ok(Value::Array(vec![text("0"), bulks(&self.select(&selector))]))
    }

    fn tags(&mut self, mut words: Words<'_>) -> Result<Value> {
        words.need()?;
        let pattern = selector(words)?;
        let mut tags: BTreeMap<Bytes, i64> = BTreeMap::new();
        for key in self.select(&Selector::default()) {
            for tag in self.find(&key).iter().flat_map(|entry| &entry.tags) {
                *tags.entry(tag.clone()).or_default() += 1;
            }
        }
        let matching = tags.iter().filter(|(tag, _)| pattern.matches(tag, b"", &[b""; 0]));
        let pairs = matching.flat_map(|(tag, entries)| [bulk(tag), Value::Int(*entries)]).collect();
        Ok(Value::Array(vec![text("0"), Value::Array(pairs)]))
    }

    fn renew(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, token, time_ms) = (words.need()?, Token::parse(words.need()?), words.ms()?);
        let renewed = token.is_some_and(|token| self.leases.renew(key, token, self.now_ms, time_ms));
        Ok(count(i64::from(renewed)))
    }

    fn part(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, token, piece) = (words.need()?, Token::parse(words.need()?), words.need()?);
        let pieces = token.and_then(|token| self.leases.gathered(key, token, self.now_ms)).ok_or(Error::LeaseLost)?;
        pieces.extend_from_slice(piece);
        Ok(count(pieces.len()))
    }

    fn release(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, token, mut backoff_ms) = (words.need()?, Token::parse(words.need()?), 0);
        while let Some(word) = words.next() {
            match word.as_ref() {
                b"FAIL" => drop(words.need()?),
                b"BACKOFF" => backoff_ms = words.ms()?,
                _ => return Err(Error::Syntax),
            }
        }
        let named = self.named(key);
        let woken = token.and_then(|token| self.leases.release(key, token, self.now_ms, backoff_ms, named, LIMITS));
        let was_theirs = woken.is_some();
        self.wake(woken.into_iter().flatten());
        Ok(count(i64::from(was_theirs)))
    }

    /// What invalidations know a key by.
    fn named(&mut self, key: &[u8]) -> Named {
        let boxed = |name: &Bytes| name.as_ref().into();
        match self.find(key) {
            Some(entry) => Named { type_name: boxed(&entry.type_name), tags: entry.tags.iter().map(boxed).collect() },
            None => Named { type_name: boxed(&self.type_of(key)), tags: Vec::new() },
        }
    }

    fn meta(&mut self, key: &[u8]) -> Result<Value> {
        let now_ms = self.now_ms;
        Ok(self.find(key).map_or(Value::Nil, |entry| described(entry, now_ms)))
    }
}

fn selector(mut words: Words<'_>) -> Result<Selector> {
    let mut selector = Selector::default();
    while let Some(word) = words.next() {
        match word.as_ref() {
            b"COUNT" => drop(words.number()?),
            word if clause(word, &mut words, &mut selector)? => {}
            _ => return Err(Error::Syntax),
        }
    }
    Ok(selector)
}

fn described(entry: &Entry, now_ms: u64) -> Value {
    let (encoding, stored) = entry.kept();
    map([
        ("type", bulk(&entry.type_name)),
        ("format", optional_bulk(entry.format.as_ref())),
        ("records", optional_count(entry.records)),
        ("size", count(entry.payload.len())),
        ("stored", count(stored.len())),
        ("encoding", text(encoding.name())),
        ("etag", text(&*entry.etag)),
        ("created", count(entry.created_ms)),
        ("age", count(now_ms.saturating_sub(entry.created_ms))),
        ("ttl", entry.fresh_left_ms(now_ms).map_or(Value::Nil, Value::Int)),
        ("grace", count(entry.life.grace_ms)),
        ("state", text(if entry.is_fresh(now_ms) { "fresh" } else { "stale" })),
        ("hits", count(entry.hits)),
        ("last-access", count(entry.last_access_ms)),
        ("cost", optional_count(entry.cost_ms)),
        ("tags", bulks(&entry.tags)),
        ("meta", optional_bulk(entry.meta.as_ref())),
    ])
}
