//! `EXPCACHE.SET` and `MSET`.

use bytes::Bytes;
use expcache_core::codec::{Coder, Encoding};
use expcache_core::grammar::set::{Condition, SetOptions, Verb};
use expcache_core::grammar::{Words as _, etag_text, number};
use expcache_core::key::md5_hex;
use expcache_core::lease::{Subject, Token};
use expcache_core::policy::{Freshness, Policy, StoreContext};
use expcache_core::validate::validate;
use expcache_core::{Error, Result};
use redis::Value;

use super::entry::Entry;
use super::store::State;
use super::words::Words;

/// Where nothing else says so, an hour.
pub(super) const DEFAULT_TTL_MS: u64 = 3_600_000;
/// What decodes to more is not taken.
const MAX_BYTES: usize = 512 << 20;

/// `None`: it says nothing. A lease of an impossible name is nobody's.
fn token(options: &SetOptions<'_>) -> Result<Option<Token>> {
    options.lease.map(|name| Token::parse(name).ok_or(Error::LeaseLost)).transpose()
}

/// What is to be stored of the bytes that came.
fn payload(options: &SetOptions<'_>, bytes: &Bytes) -> Result<Bytes> {
    let payload = match options.encoding {
        None | Some(Encoding::Identity) => bytes.clone(),
        Some(encoding) => decoded(encoding, bytes)?.into(),
    };
    match options.hash() {
        Some(hash) if etag_text(hash) != md5_hex(&payload) => Err(Error::HashMismatch),
        _ => Ok(payload),
    }
}

fn allows(options: &SetOptions<'_>, there: Option<&Entry>) -> bool {
    match (options.condition, there) {
        (None, _) | (Some(Condition::Nx), None) | (Some(Condition::Xx), Some(_)) => true,
        (Some(Condition::IfMatch(_)), Some(entry)) => {
            options.if_match().is_some_and(|etag| etag_text(etag) == *entry.etag.as_bytes())
        }
        _ => false,
    }
}

fn decoded(encoding: Encoding, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    Coder::new().for_each_chunk(encoding, bytes, MAX_BYTES, |chunk| payload.extend_from_slice(chunk))?;
    Ok(payload)
}

/// As the policy wants it kept, if that saves something.
fn packed(policy: &Policy, payload: &Bytes, format: Option<&[u8]>) -> Option<(Encoding, Bytes)> {
    let encoding = policy.encoding(payload.len() as u64, format);
    let packed = Coder::new().encode(encoding, payload, payload.len() - payload.len() / 10)?;
    Some((encoding, packed.into()))
}

impl State {
    pub(super) fn set(&mut self, mut words: Words<'_>) -> Result<Value> {
        let (key, value) = (words.need()?, words.need()?);
        let options = SetOptions::parse(words, Verb::Set)?;
        let whole = match (options.parts, token(&options)?) {
            (Some(()), Some(token)) => {
                self.no_text(key)?;
                let pieces = self.leases.gathered(key, token, self.now_ms).ok_or(Error::LeaseLost)?;
                Some([&pieces[..], value].concat())
            }
            _ => None,
        };
        self.store(&[(key, whole.as_deref().unwrap_or(value))], &options, "expcache.set")
    }

    pub(super) fn mset(&mut self, mut words: Words<'_>) -> Result<Value> {
        let count = number(words.need()?)?;
        let pairs = (0..count).map(|_| Ok((words.need()?, words.need()?)));
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        self.store(&pairs, &SetOptions::parse(words, Verb::Mset)?, "expcache.mset")
    }

    /// All or nothing.
    fn store(&mut self, pairs: &[(&[u8], &[u8])], options: &SetOptions<'_>, command: &'static str) -> Result<Value> {
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, bytes) in pairs {
            self.no_text(key)?;
            if !allows(options, self.find(key).map(|entry| &*entry)) {
                return Ok(Value::Nil);
            }
            entries.push(self.planned(key, bytes, options, command)?);
        }
        let keys: Vec<&[u8]> = pairs.iter().map(|(key, _)| *key).collect();
        if let Some(type_name) = entries.first().map(|entry| entry.type_name.clone()) {
            self.admit_tags(&type_name, &keys, options.tags())?;
        }
        for (key, entry) in keys.into_iter().zip(entries) {
            let type_name = entry.type_name.clone();
            self.commit(key, entry, token(options)?);
            self.make_room(key, &type_name, options.tags());
        }
        Ok(Value::Okay)
    }

    fn planned(&mut self, key: &[u8], bytes: &[u8], options: &SetOptions<'_>, command: &'static str) -> Result<Entry> {
        let (now_ms, token, bytes) = (self.now_ms, token(options)?, Bytes::copy_from_slice(bytes));
        let lost = || Error::LeaseLost;
        let produced_ms =
            token.map(|token| self.leases.production_ms(key, token, now_ms).ok_or_else(lost)).transpose()?;
        let type_name = options.type_name.map_or_else(|| self.type_of(key), Bytes::copy_from_slice);
        let policy = self.policy(&type_name);
        let (payload, format) = (payload(options, &bytes)?, options.format);
        policy.admit(payload.len() as u64, format)?;
        let counted =
            format.filter(|_| policy.validate).map(|format| validate(format, &payload)).transpose()?.flatten();
        if let Some(token) = token {
            self.admit(key, token, &Subject { key, type_name: &type_name, tags: options.tags() })?;
        }
        let there = self.find(key);
        let kept = there.as_ref().map(|entry| entry.fresh_until_ms(now_ms));
        let was_born_ms = there.as_ref().map(|entry| entry.born_ms().min(now_ms));
        let was_kept = there.is_some_and(|entry| entry.kept_born_ms.is_some());
        let kept_born_ms = (was_kept || policy.whole_life_ms != 0).then(|| was_born_ms.unwrap_or(now_ms));
        let moment = StoreContext { now_ms, default_ttl_ms: DEFAULT_TTL_MS, random: fastrand::u64(..) };
        let freshness = options.freshness(command)?;
        let life = policy.life(freshness, options.grace_ms, kept, moment).ok_or(Error::InvalidExpire(command))?;
        let latest_ms = kept_born_ms.and_then(|born_ms| policy.end_of_life_ms(born_ms));
        let packed = match options.encoding {
            // As it came.
            Some(encoding) if encoding != Encoding::Identity => Some((encoding, bytes)),
            _ => packed(&policy, &payload, format),
        };
        Ok(Entry {
            packed,
            etag: md5_hex(&payload).iter().map(|digit| char::from(*digit)).collect(),
            payload,
            type_name,
            tags: options.tags().iter().map(|tag| Bytes::copy_from_slice(tag)).collect(),
            format: format.map(Bytes::copy_from_slice),
            records: counted.or(options.records),
            meta: options.meta.map(Bytes::copy_from_slice),
            cost_ms: options.cost_ms.or(produced_ms),
            created_ms: now_ms,
            kept_born_ms,
            life: latest_ms.map_or(life, |latest_ms| life.cut_off(latest_ms, now_ms)),
            is_end_named: matches!(freshness, Freshness::Until(_)),
            soft_ms: None,
            hits: 0,
            last_access_ms: now_ms,
            used: self.next_use(),
        })
    }

    /// What was invalidated since the lease was granted is not stored, and the lease is over.
    fn admit(&mut self, key: &[u8], token: Token, subject: &Subject<'_>) -> Result<()> {
        let admitted = self.leases.check(key, token, self.now_ms, subject);
        if admitted == Err(Error::Fenced) {
            let woken = self.leases.lost(key, self.now_ms);
            self.wake(woken);
        }
        admitted
    }

    fn commit(&mut self, key: &[u8], entry: Entry, token: Option<Token>) {
        let finished = token.and_then(|token| self.leases.finish(key, token, self.now_ms));
        let waiters = finished.map_or_else(|| self.leases.superseded(key), |stored| stored.waiters);
        let policy = self.policy(&entry.type_name);
        self.types.entry(entry.type_name.clone()).or_insert(policy);
        self.entries.insert(Bytes::copy_from_slice(key), entry);
        self.changed(key);
        self.note_stored(key);
        self.wake_all(waiters);
    }
}
