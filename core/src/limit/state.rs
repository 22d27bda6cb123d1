//! What is kept of a key's limits, as bytes.
//!
//! Eight bytes say what it is, then each policy has 28: its count, burst and period, and its TAT in nanoseconds and ticks of
//! `1 / count` ns. All numbers are little-endian. A policy is known by what it says, so nothing can be taken for another's.

use super::{Each, MAX_POLICIES, Policy, Ticks};
use crate::{Error, Result};

/// No text begins like this, and nothing else of the cache's.
const MAGIC: &[u8; 8] = b"\0explim\x01";

const RECORD_BYTES: usize = 28;

/// What is kept of a key's limits: the TAT of each of its policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State(Each<(Policy, Ticks)>);

impl State {
    /// Is nothing kept?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The TAT of a policy, if it is known.
    pub(super) fn tat(&self, policy: Policy) -> Option<Ticks> {
        self.0.iter().find(|(known, _)| *known == policy).map(|(_, tat)| *tat)
    }

    /// Reads what `to_bytes` wrote. Anything else is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes).ok_or_else(|| Error::invalid("the key holds a string that is not a limiter's"))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (records, rest) = bytes.strip_prefix(MAGIC)?.as_chunks::<RECORD_BYTES>();
        if !rest.is_empty() || !(1..=MAX_POLICIES).contains(&records.len()) {
            return None;
        }
        records.iter().map(read_record).collect::<Option<_>>().map(Self)
    }

    /// The bytes to keep.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + self.0.len() * RECORD_BYTES);
        bytes.extend_from_slice(MAGIC);
        for (policy, tat) in &self.0 {
            let (ns, part) = (tat.div_euclid(policy.ticks_per_ns()), tat.rem_euclid(policy.ticks_per_ns()));
            bytes.extend_from_slice(&policy.count.to_le_bytes());
            bytes.extend_from_slice(&policy.burst.to_le_bytes());
            bytes.extend_from_slice(&policy.period_ms.to_le_bytes());
            bytes.extend_from_slice(&u64::try_from(ns).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(part).unwrap_or(0).to_le_bytes());
        }
        bytes
    }
}

impl FromIterator<(Policy, Ticks)> for State {
    fn from_iter<I: IntoIterator<Item = (Policy, Ticks)>>(limits: I) -> Self {
        Self(limits.into_iter().collect())
    }
}

fn read_record(record: &[u8; RECORD_BYTES]) -> Option<(Policy, Ticks)> {
    let (count, rest) = record.split_first_chunk()?;
    let (burst, rest) = rest.split_first_chunk()?;
    let (period, rest) = rest.split_first_chunk()?;
    let (ns, part) = rest.split_first_chunk()?;
    let (count, burst) = (u32::from_le_bytes(*count).into(), u32::from_le_bytes(*burst).into());
    let policy = Policy::new(count, u64::from_le_bytes(*period), Some(burst)).ok()?;
    let part = u32::from_le_bytes(part.try_into().ok()?);
    let tat = i128::from(u64::from_le_bytes(*ns)) * policy.ticks_per_ns() + i128::from(part);
    (i128::from(part) < policy.ticks_per_ns()).then_some((policy, tat))
}
