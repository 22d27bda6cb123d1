//! An entry, and what time makes of it.

use bytes::Bytes;
use expcache_core::codec::Encoding;
use expcache_core::policy::{Lifetime, Policy, end_ms, fresh_left_ms};
use redis::Value;

/// A native string.
pub(super) struct Text {
    pub(super) bytes: Bytes,
    pub(super) expire_at_ms: Option<i64>,
}

pub(super) struct Entry {
    pub(super) payload: Bytes,
    /// The payload as it is kept, if that is compressed.
    pub(super) packed: Option<(Encoding, Bytes)>,
    pub(super) type_name: Bytes,
    pub(super) tags: Vec<Bytes>,
    pub(super) format: Option<Bytes>,
    pub(super) records: Option<u64>,
    pub(super) meta: Option<Bytes>,
    pub(super) cost_ms: Option<u64>,
    pub(super) etag: String,
    pub(super) created_ms: u64,
    /// When its key was first stored, if that is kept.
    pub(super) kept_born_ms: Option<u64>,
    pub(super) life: Lifetime,
    /// Its end was named, so it does not slide.
    pub(super) is_end_named: bool,
    /// Since when it is stale, whatever its life says.
    pub(super) soft_ms: Option<u64>,
    pub(super) hits: u64,
    pub(super) last_access_ms: u64,
    /// Uses in their order.
    pub(super) used: u64,
}

impl Entry {
    /// By the policy that its type has now.
    pub(super) fn is_gone(&self, now_ms: u64, policy: Option<&Policy>) -> bool {
        let ends = [self.life.expire_at_ms, policy.and_then(|policy| policy.end_of_life_ms(self.born_ms()))];
        ends.into_iter().flatten().any(|end| end <= end_ms(now_ms, 0))
    }

    pub(super) fn born_ms(&self) -> u64 {
        self.kept_born_ms.unwrap_or(self.created_ms)
    }

    /// Ms; `None`: without end.
    pub(super) fn fresh_left_ms(&self, now_ms: u64) -> Option<i64> {
        match self.soft_ms {
            Some(since) => Some(end_ms(since, 0) - end_ms(now_ms, 0)),
            None => fresh_left_ms(self.life.expire_at_ms, self.life.grace_ms, now_ms),
        }
    }

    pub(super) fn is_fresh(&self, now_ms: u64) -> bool {
        self.fresh_left_ms(now_ms).is_none_or(|left| left > 0)
    }

    /// Until when it is fresh, for a successor that keeps that.
    pub(super) fn fresh_until_ms(&self, now_ms: u64) -> Option<i64> {
        self.fresh_left_ms(now_ms).map(|left| end_ms(now_ms, 0).saturating_add(left))
    }

    /// It is handed out; of a sliding type it lives on.
    pub(super) fn hit(&mut self, now_ms: u64, used: u64, policy: &Policy) {
        (self.hits, self.last_access_ms, self.used) = (self.hits + 1, now_ms, used);
        let Lifetime { expire_at_ms: Some(end), lifetime_ms: 1.., grace_ms } = self.life else { return };
        if policy.sliding && !self.is_end_named && self.is_fresh(now_ms) {
            let later = end_ms(now_ms, self.life.lifetime_ms.saturating_add(grace_ms));
            let latest = policy.end_of_life_ms(self.born_ms()).unwrap_or(i64::MAX);
            self.life.expire_at_ms = Some(end.max(later).min(latest));
        }
    }

    /// What is kept, and how.
    pub(super) fn kept(&self) -> (Encoding, &Bytes) {
        self.packed.as_ref().map_or((Encoding::Identity, &self.payload), |(encoding, bytes)| (*encoding, bytes))
    }
}

pub(super) fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (text(name), value)).collect())
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value::BulkString(text.into().into_bytes())
}

pub(super) fn bulk(bytes: &[u8]) -> Value {
    Value::BulkString(bytes.to_vec())
}

pub(super) fn optional_bulk(bytes: Option<&Bytes>) -> Value {
    bytes.map_or(Value::Nil, |bytes| bulk(bytes))
}

pub(super) fn bulks<'a>(all: impl IntoIterator<Item = &'a Bytes>) -> Value {
    Value::Array(all.into_iter().map(|bytes| bulk(bytes)).collect())
}

pub(super) fn count(number: impl TryInto<i64>) -> Value {
    Value::Int(number.try_into().unwrap_or(i64::MAX))
}

pub(super) fn optional_count(number: Option<u64>) -> Value {
    number.map_or(Value::Nil, count)
}
