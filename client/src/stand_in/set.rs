//! `EXPCACHE.SET` and `MSET`.

use bytes::Bytes;
use expcache_core::codec::{Coder, Encoding};
use expcache_core::key::{md5_hex, validate_meta, validate_name};
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
const MAX_TAGS: usize = 64;
/// What decodes to more is not taken.
const MAX_BYTES: usize = 512 << 20;

#[derive(Default)]
struct Options {
    type_name: Option<Bytes>,
    freshness: Option<Freshness>,
    grace_ms: Option<u64>,
    tags: Vec<Bytes>,
    format: Option<Bytes>,
    records: Option<u64>,
    cost_ms: Option<u64>,
    meta: Option<Bytes>,
    hash: Option<Bytes>,
    encoding: Option<Encoding>,
    condition: Option<Condition>,
    lease: Option<Bytes>,
    parts: bool,
}

enum Condition {
    Absent,
    Present,
    Etag(Bytes),
}

impl Options {
    fn parse(mut words: Words<'_>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            match word.as_ref() {
                b"TYPE" => options.type_name = Some(words.need()?.clone()),
                b"PX" => options.freshness = Some(Freshness::For(positive(words.number()?)?)),
                b"PXAT" => {
                    let at = i64::try_from(positive(words.number()?)?).map_err(|_| Error::NotAnInteger)?;
                    options.freshness = Some(Freshness::Until(at));
                }
                b"KEEPTTL" => options.freshness = Some(Freshness::Keep),
                b"GRACE" => options.grace_ms = Some(words.ms()?),
                b"TAGS" => options.tags = tags(words.counted()?)?,
                b"FORMAT" => options.format = Some(words.need()?.clone()),
                b"RECORDS" => options.records = Some(words.number()?),
                b"COST" => options.cost_ms = Some(words.number()?),
                b"META" => options.meta = Some(words.need()?.clone()),
                b"HASH" => options.hash = Some(words.need()?.clone()),
                b"ENCODING" => options.encoding = Some(Encoding::parse(words.need()?).ok_or(Error::Syntax)?),
                b"NX" => options.condition = Some(Condition::Absent),
                b"XX" => options.condition = Some(Condition::Present),
                b"IFMATCH" => options.condition = Some(Condition::Etag(words.need()?.clone())),
                b"LEASE" => options.lease = Some(words.need()?.clone()),
                b"PARTS" => options.parts = true,
                _ => return Err(Error::Syntax),
            }
        }
        options.type_name.as_ref().map_or(Ok(()), |name| validate_name("type", name))?;
        options.meta.as_ref().map_or(Ok(()), |meta| validate_meta(meta))?;
        Ok(options)
    }

    /// `None`: it says nothing. A lease of an impossible name is nobody's.
    fn token(&self) -> Result<Option<Token>> {
        self.lease.as_ref().map(|name| Token::parse(name).ok_or(Error::LeaseLost)).transpose()
    }

    /// What is to be stored of the bytes that came.
    fn payload(&self, bytes: &Bytes) -> Result<Bytes> {
        let payload = match self.encoding {
            None | Some(Encoding::Identity) => bytes.clone(),
            Some(encoding) => decoded(encoding, bytes)?.into(),
        };
        match &self.hash {
            Some(hash) if **hash != md5_hex(&payload) => Err(Error::HashMismatch),
            _ => Ok(payload),
        }
    }

    fn allows(&self, there: Option<&Entry>) -> bool {
        match (&self.condition, there) {
            (None, _) | (Some(Condition::Absent), None) | (Some(Condition::Present), Some(_)) => true,
            (Some(Condition::Etag(etag)), Some(entry)) => *etag == entry.etag.as_bytes(),
            _ => false,
        }
    }
}

fn positive(number: u64) -> Result<u64> {
    if number > 0 { Ok(number) } else { Err(Error::InvalidExpire("expcache.set")) }
}

fn tags(words: &[Bytes]) -> Result<Vec<Bytes>> {
    let mut tags: Vec<Bytes> = Vec::new();
    for tag in words {
        validate_name("tag", tag)?;
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    if tags.len() > MAX_TAGS { Err(Error::invalid("an entry has at most 64 tags")) } else { Ok(tags) }
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
        let (key, mut value) = (words.need()?.clone(), words.need()?.clone());
        let options = Options::parse(words)?;
        if let (true, Some(token)) = (options.parts, options.token()?) {
            let pieces = self.leases.gathered(&key, token, self.now_ms).ok_or(Error::LeaseLost)?;
            value = [&pieces[..], &value].concat().into();
        }
        self.store(&[(key, value)], &options)
    }

    pub(super) fn mset(&mut self, mut words: Words<'_>) -> Result<Value> {
        let count = words.number()?;
        let pairs = (0..count).map(|_| Ok((words.need()?.clone(), words.need()?.clone())));
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        self.store(&pairs, &Options::parse(words)?)
    }

    /// All or nothing.
    fn store(&mut self, pairs: &[(Bytes, Bytes)], options: &Options) -> Result<Value> {
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, bytes) in pairs {
            if !options.allows(self.find(key).map(|entry| &*entry)) {
                return Ok(Value::Nil);
            }
            entries.push(self.planned(key, bytes, options)?);
        }
        for ((key, _), entry) in pairs.iter().zip(entries) {
            self.commit(key, entry, options.token()?);
        }
        Ok(Value::Okay)
    }

    fn planned(&mut self, key: &Bytes, bytes: &Bytes, options: &Options) -> Result<Entry> {
        let (now_ms, token) = (self.now_ms, options.token()?);
        let lost = || Error::LeaseLost;
        let produced_ms =
            token.map(|token| self.leases.production_ms(key, token, now_ms).ok_or_else(lost)).transpose()?;
        let type_name = options.type_name.clone().unwrap_or_else(|| self.type_of(key));
        let policy = self.policy(&type_name);
        let (payload, format) = (options.payload(bytes)?, options.format.as_deref());
        policy.admit(payload.len() as u64, format)?;
        let counted =
            format.filter(|_| policy.validate).map(|format| validate(format, &payload)).transpose()?.flatten();
        let subject_tags: Vec<&[u8]> = options.tags.iter().map(AsRef::as_ref).collect();
        if let Some(token) = token {
            self.admit(key, token, &Subject { key, type_name: &type_name, tags: &subject_tags })?;
        }
        let kept = self.find(key).map(|entry| entry.fresh_until_ms(now_ms));
        let moment = StoreContext { now_ms, default_ttl_ms: DEFAULT_TTL_MS, random: fastrand::u64(..) };
        let freshness = options.freshness.unwrap_or(Freshness::TypeDefault);
        let life = policy.life(freshness, options.grace_ms, kept, moment);
        let packed = match options.encoding {
            // As it came.
            Some(encoding) if encoding != Encoding::Identity => Some((encoding, bytes.clone())),
            _ => packed(&policy, &payload, format),
        };
        Ok(Entry {
            packed,
            etag: md5_hex(&payload).iter().map(|digit| char::from(*digit)).collect(),
            payload,
            type_name,
            tags: options.tags.clone(),
            format: options.format.clone(),
            records: counted.or(options.records),
            meta: options.meta.clone(),
            cost_ms: options.cost_ms.or(produced_ms),
            created_ms: now_ms,
            life: life.ok_or(Error::InvalidExpire("expcache.set"))?,
            is_end_named: matches!(freshness, Freshness::Until(_)),
            soft_ms: None,
            hits: 0,
            last_access_ms: now_ms,
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

    fn commit(&mut self, key: &Bytes, entry: Entry, token: Option<Token>) {
        let finished = token.and_then(|token| self.leases.finish(key, token, self.now_ms));
        let waiters = finished.map_or_else(|| self.leases.superseded(key), |stored| stored.waiters);
        self.types.entry(entry.type_name.clone()).or_default();
        self.entries.insert(key.clone(), entry);
        self.changed(key);
        self.wake_all(waiters);
    }
}
