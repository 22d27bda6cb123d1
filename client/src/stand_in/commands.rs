//! Which command does what; and all that are short.

use std::collections::BTreeMap;

use bytes::Bytes;
use expcache_core::grammar::lease::{ReleaseOptions, lease_duration};
use expcache_core::grammar::purge::PurgeOptions;
use expcache_core::grammar::scan::{ScanOptions, TagsOptions};
use expcache_core::grammar::selector::Limits;
use expcache_core::grammar::warm::WarmOptions;
use expcache_core::grammar::{Words as _, all_tags};
use expcache_core::lease::{Named, Token};
use expcache_core::policy::end_ms;
use expcache_core::selector::{Clause, Selector, TagNames};
use expcache_core::warm::Reason;
use expcache_core::{Error, Result};
use redis::Value;

use super::entry::{Entry, bulk, bulks, count, map, optional_bulk, optional_count, text};
use super::store::{LIMITS, State};
use super::words::{Words, words};

impl State {
    pub(super) fn run(&mut self, all: &[Bytes]) -> Result<Value> {
        let mut words = words(all);
        let name = words.need()?;
        match name {
            b"EXPCACHE.SET" => self.set(words),
            b"EXPCACHE.MSET" => self.mset(words),
            b"EXPCACHE.GET" => self.get(words.need()?),
            b"EXPCACHE.MGET" => words.map(|key| self.get(key)).collect::<Result<_>>().map(Value::Array),
            b"EXPCACHE.DEL" => self.del(words),
            b"EXPCACHE.META" => self.meta(words.need()?),
            b"EXPCACHE.INVTAG" => {
                let selector = Selector { clauses: vec![Clause::Any(tags(words)?)] };
                Ok(count(self.invalidate(selector, false).len()))
            }
            b"EXPCACHE.PURGE" => self.purge(words),
            b"EXPCACHE.CLEAR" => self.clear(words),
            b"EXPCACHE.COUNT" => {
                Selector::parse(words, Limits::Apply).map(|selector| count(self.select(&selector).len()))
            }
            b"EXPCACHE.SCAN" => self.scan(words),
            b"EXPCACHE.TAGS" => self.tags(words),
            b"EXPCACHE.RENEW" => self.renew(words),
            b"EXPCACHE.RELEASE" => self.release(words),
            b"EXPCACHE.WARM" => WarmOptions::parse(words).map(|options| Value::Array(self.warm(&options))),
            b"EXPCACHE.PART" => self.part(words),
            b"EXPCACHE.TYPE" => self.type_command(words),
            b"EXPCACHE.RULE" => self.rule_command(words),
            b"EXPCACHE.EVENT" => self.event(words),
            b"EXPCACHE.THROTTLE" => self.throttle(words),
            b"EXPCACHE.HEALTH" => Ok(map([("status", text("ok"))])),
            b"EXPCACHE.DEBUG" => Ok(Value::Array(Vec::new())),
            b"GET" => self.get_text(words),
            b"SET" => self.set_text(words),
            b"DEL" => Ok(self.delete_native(words)),
            b"PEXPIRE" => self.expire(words),
            b"RENAMENX" => self.rename_absent(words),
            _ => Err(Error::invalid(format!("the cache in memory has no {}", name.escape_ascii()))),
        }
    }

    fn get(&mut self, key: &[u8]) -> Result<Value> {
        self.no_text(key)?;
        let (now_ms, used) = (self.now_ms, self.next_use());
        let Some(entry) = self.find(key).filter(|entry| entry.is_fresh(now_ms)) else {
            self.note_asked(key, false);
            return Ok(Value::Nil);
        };
        let (payload, type_name) = (bulk(&entry.payload), entry.type_name.clone());
        let policy = self.policy(&type_name);
        if let Some(entry) = self.find(key) {
            entry.hit(now_ms, used, &policy);
        }
        self.note_asked(key, true);
        Ok(payload)
    }

    fn del(&mut self, words: Words<'_>) -> Result<Value> {
        words.clone().try_for_each(|key| self.no_text(key))?;
        Ok(count(words.filter(|key| self.delete(key)).count()))
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let was_there = self.remove(key);
        self.note_unwanted(key);
        let woken = self.leases.lost(key, self.now_ms);
        self.wake(woken);
        was_there
    }

    /// Those that an invalidation concerns: to turn stale an entry must be fresh.
    pub(super) fn concerned(&mut self, selector: &Selector, is_soft: bool) -> Vec<Bytes> {
        let now_ms = self.now_ms;
        let mut meant = self.select(selector);
        meant.retain(|key| !is_soft || self.find(key).is_some_and(|entry| entry.is_fresh(now_ms)));
        meant
    }

    /// They are gone, or stale; returns which they were.
    pub(super) fn invalidate(&mut self, selector: Selector, is_soft: bool) -> Vec<Bytes> {
        let meant = self.concerned(&selector, is_soft);
        self.fence(selector);
        if is_soft {
            self.soften(&meant);
        } else {
            for key in &meant {
                self.remove(key);
                self.note_went(key, Reason::Invalidated);
            }
        }
        meant
    }

    /// Without any grace they are gone.
    fn soften(&mut self, meant: &[Bytes]) {
        let now_ms = self.now_ms;
        for key in meant {
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
            self.note_went(key, Reason::Invalidated);
        }
    }

    fn purge(&mut self, words: Words<'_>) -> Result<Value> {
        let PurgeOptions { selector, soft, dry_run, keys, .. } = PurgeOptions::parse(words, Limits::Apply)?;
        if selector.clauses.is_empty() {
            return Err(Error::Syntax);
        }
        let meant = match dry_run {
            Some(()) => self.concerned(&selector, soft.is_some()),
            None => self.invalidate(selector, soft.is_some()),
        };
        let number = count(meant.len());
        Ok(match keys {
            None => number,
            Some(most) => {
                Value::Array(std::iter::once(number).chain(meant.iter().take(most).map(|key| bulk(key))).collect())
            }
        })
    }

    fn clear(&mut self, words: Words<'_>) -> Result<Value> {
        let PurgeOptions { selector, soft, dry_run, keys, .. } = PurgeOptions::parse(words, Limits::Apply)?;
        if !selector.clauses.is_empty() || dry_run.is_some() || keys.is_some() {
            return Err(Error::Syntax);
        }
        Ok(count(self.invalidate(selector, soft.is_some()).len()))
    }

    /// All at once.
    fn scan(&self, words: Words<'_>) -> Result<Value> {
        let selector = ScanOptions::parse(words, Limits::Apply)?.selector.unwrap_or_default();
        Ok(Value::Array(vec![text("0"), bulks(&self.select(&selector))]))
    }

    fn tags(&self, words: Words<'_>) -> Result<Value> {
        let glob = TagsOptions::parse(words)?.glob;
        let mut tags: BTreeMap<&Bytes, i64> = BTreeMap::new();
        for tag in self.live().flat_map(|(_, entry)| &entry.tags) {
            *tags.entry(tag).or_default() += 1;
        }
        let matching = tags.iter().filter(|(tag, _)| glob.as_ref().is_none_or(|glob| glob.matches(tag)));
        let pairs = matching.flat_map(|(tag, entries)| [bulk(tag), Value::Int(*entries)]).collect();
        Ok(Value::Array(vec![text("0"), Value::Array(pairs)]))
    }

    fn renew(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, token, time_ms) = (words.need()?, Token::parse(words.need()?), lease_duration(words.need()?)?);
        let renewed = token.is_some_and(|token| self.leases.renew(key, token, self.now_ms, time_ms));
        Ok(count(i64::from(renewed)))
    }

    fn part(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, token, piece) = (words.need()?, Token::parse(words.need()?), words.need()?);
        self.no_text(key)?;
        let pieces = token.and_then(|token| self.leases.gathered(key, token, self.now_ms)).ok_or(Error::LeaseLost)?;
        pieces.extend_from_slice(piece);
        Ok(count(pieces.len()))
    }

    fn release(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, token) = (words.need()?, Token::parse(words.need()?));
        let backoff_ms = ReleaseOptions::parse(words)?.backoff_ms.unwrap_or(0);
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
        self.no_text(key)?;
        let now_ms = self.now_ms;
        Ok(self.find(key).map_or(Value::Nil, |entry| described(entry, now_ms)))
    }
}

fn tags(words: Words<'_>) -> Result<TagNames> {
    Ok(all_tags(words)?.into_iter().map(Into::into).collect())
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
        ("born", count(entry.born_ms())),
    ])
}
