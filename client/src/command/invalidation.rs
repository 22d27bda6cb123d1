//! `EXPCACHE.INVALIDATE.TAG`, `PURGE`, `CLEAR` and `COUNT`.
//!
//! Tags are each node's own, so in a cluster these go to every primary, twice. The numbers of both rounds are added up.

use bytes::Bytes;
use expcache_core::grammar::purge::PurgeOptions;
use redis::Value;

use super::client::Client;
use super::selector::Selector;
use crate::error::{Error, Result};
use crate::link::{Call, Route};
use crate::reply;
use crate::words::words_of;

/// How to invalidate what a selector means.
#[derive(Debug, Clone, Default)]
pub struct Purge {
    soft: bool,
    dry_run: bool,
    keys: Option<u64>,
    note: Option<String>,
}

impl Purge {
    /// The entries are gone.
    pub fn hard() -> Self {
        Self::default()
    }

    /// The entries are stale, their grace beginning now.
    pub fn soft() -> Self {
        Self { soft: true, ..Self::default() }
    }

    /// Only counts.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Names up to so many of the keys, for each primary.
    #[must_use]
    pub fn keys(mut self, most: u64) -> Self {
        self.keys = Some(most);
        self
    }

    /// Who or what is behind it, for the server's record: at most 256 bytes.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }
}

/// What [`Client::purge`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many entries were meant.
    pub count: u64,
    /// Some of their keys, if they were asked for.
    pub keys: Vec<Bytes>,
}

impl Client {
    /// Every entry with any of the tags is gone; returns how many there were. Of no tags: none.
    pub async fn invalidate_tags<T: AsRef<[u8]>>(&self, tags: impl IntoIterator<Item = T>) -> Result<u64> {
        let tags: Vec<T> = tags.into_iter().collect();
        if tags.is_empty() {
            return Ok(0);
        }
        self.sum_twice(|| {
            // The alias: its name is of two parts, which every proxy and client understands.
            let mut call = Call::new("EXPCACHE.INVTAG", Route::Primaries);
            tags.iter().for_each(|tag| {
                call.cmd.arg(tag.as_ref());
            });
            call
        })
        .await
    }

    /// Invalidates what a selector means.
    pub async fn purge(&self, selector: &Selector, purge: Purge) -> Result<Purged> {
        let call = || purge_call(selector, &purge);
        let replies = if purge.dry_run { self.everywhere(call()).await? } else { self.twice(call).await? };
        let mut purged = Purged::default();
        replies.into_iter().try_for_each(|reply| purged.add(reply))?;
        Ok(purged)
    }

    /// Invalidates every entry of the database, and no other key; returns how many there were.
    pub async fn clear(&self) -> Result<u64> {
        self.sum_twice(|| Call::new("EXPCACHE.CLEAR", Route::Primaries)).await
    }

    /// Makes every entry of the database stale; returns how many were fresh.
    pub async fn clear_soft(&self) -> Result<u64> {
        self.sum_twice(|| {
            let mut call = Call::new("EXPCACHE.CLEAR", Route::Primaries);
            let soft = PurgeOptions { soft: Some(()), ..PurgeOptions::default() };
            soft.write(&mut words_of(&mut call.cmd));
            call
        })
        .await
    }

    /// How many entries a selector means.
    pub async fn count(&self, selector: &Selector) -> Result<u64> {
        let mut call = Call::new("EXPCACHE.COUNT", Route::Primaries);
        selector.write(&mut call.cmd);
        self.sum(call).await
    }
}

fn purge_call(selector: &Selector, purge: &Purge) -> Call {
    let mut call = Call::new("EXPCACHE.PURGE", Route::Primaries);
    let options = PurgeOptions {
        selector: selector.0.clone(),
        soft: purge.soft.then_some(()),
        dry_run: purge.dry_run.then_some(()),
        keys: purge.keys.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        at_ms: None,
        note: purge.note.as_deref().map(|note| note.as_bytes().into()),
    };
    options.write(&mut words_of(&mut call.cmd));
    call
}

impl Purged {
    fn add(&mut self, value: Value) -> Result<()> {
        match value {
            Value::Array(items) => {
                let mut items = items.into_iter();
                self.count += reply::count(items.next().ok_or_else(|| Error::reply("an empty array"))?)?;
                for key in items {
                    self.keys.push(reply::bytes(key)?);
                }
            }
            number => self.count += reply::count(number)?,
        }
        Ok(())
    }
}
