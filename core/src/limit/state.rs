//! What is kept of a key's limits, as bytes.
//!
//! Eight bytes say what it is, then each policy has 28: its count, burst and period, and its TAT in nanoseconds and ticks of
//! `1 / count` ns. All numbers are little-endian. A policy is known by what it says, so nothing can be taken for another's.

use smallvec::SmallVec;

use super::{Each, MAX_POLICIES, Policy, Ticks, fits};
use crate::{Error, Result};

/// No text begins like this, and nothing else of the cache's.
const MAGIC: &[u8; 8] = b"\0explim\x01";

const RECORD_BYTES: usize = 28;

const MOST_BYTES: usize = MAGIC.len() + MAX_POLICIES * RECORD_BYTES;

/// What is kept of a key's limits: the TAT of each of its policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State(Each<(Policy, Moment)>);

/// A moment: nanoseconds, and ticks of a policy beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    ns: u64,
    part: u32,
}

impl Moment {
    /// So many ticks after another.
    fn after(ns: u64, ahead: Ticks, policy: Policy) -> Self {
        let whole = fits(policy.count.into(), ahead);
        let part = ahead - Ticks::from(whole) * policy.ticks_per_ns();
        Self { ns: ns.saturating_add(whole), part: u32::try_from(part).unwrap_or(0) }
    }

    fn ticks(self, policy: Policy) -> Ticks {
        Ticks::from(self.ns) * policy.ticks_per_ns() + Ticks::from(self.part)
    }
}

impl State {
    /// Is nothing kept?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The TAT of a policy, if it is known.
    pub(super) fn tat(&self, policy: Policy) -> Option<Ticks> {
        self.0.iter().find(|(known, _)| *known == policy).map(|(_, tat)| tat.ticks(policy))
    }

    /// TATs that are so far ahead of a moment.
    pub(super) fn after(ns: u64, ahead: impl Iterator<Item = (Policy, Ticks)>) -> Self {
        Self(ahead.map(|(policy, ahead)| (policy, Moment::after(ns, ahead, policy))).collect())
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
    pub fn to_bytes(&self) -> SmallVec<[u8; MOST_BYTES]> {
        let mut bytes = SmallVec::new();
        bytes.extend_from_slice(MAGIC);
        for (policy, tat) in &self.0 {
            bytes.extend_from_slice(&policy.count.to_le_bytes());
            bytes.extend_from_slice(&policy.burst.to_le_bytes());
            bytes.extend_from_slice(&policy.period_ms.to_le_bytes());
            bytes.extend_from_slice(&tat.ns.to_le_bytes());
            bytes.extend_from_slice(&tat.part.to_le_bytes());
        }
        bytes
    }
}

fn read_record(record: &[u8; RECORD_BYTES]) -> Option<(Policy, Moment)> {
    let (count, rest) = record.split_first_chunk()?;
    let (burst, rest) = rest.split_first_chunk()?;
    let (period, rest) = rest.split_first_chunk()?;
    let (ns, part) = rest.split_first_chunk()?;
    let (count, burst) = (u32::from_le_bytes(*count).into(), u32::from_le_bytes(*burst).into());
    let policy = Policy::new(count, u64::from_le_bytes(*period), Some(burst)).ok()?;
    let tat = Moment { ns: u64::from_le_bytes(*ns), part: u32::from_le_bytes(part.try_into().ok()?) };
    (tat.part < policy.count).then_some((policy, tat))
}
