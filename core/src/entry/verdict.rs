//! What invalidations made of an entry, and how that travels with it.

use super::limits::{GRACES, MOMENTS};
use crate::bytes::{Reader, Writer};
use crate::moment::end_ms;

/// A soft invalidation: the entry is stale from that moment on, until it is stored again, whatever becomes of its key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soft {
    /// When it was invalidated, unix ms.
    pub moment_ms: u64,
    /// How long it stays servable as stale after that, in ms; `None`: until its key expires, which was set meanwhile.
    pub grace_ms: Option<u64>,
}

impl Soft {
    /// When it is gone, unix ms; `None`: when its key expires.
    pub fn end_ms(self) -> Option<i64> {
        self.grace_ms.map(|grace_ms| end_ms(self.moment_ms, grace_ms))
    }
}

/// What invalidations made of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: its key's expiry decides.
    #[default]
    Alive,
    /// Gone, though its key is not reclaimed yet.
    Dead,
    /// Stale, whatever its key's expiry says.
    Soft(Soft),
}

const ALIVE: u8 = 0;
const DEAD: u8 = 1;
/// Its grace is not in the key's expiry yet.
const SOFT: u8 = 2;
const SOFT_UNTIL_EXPIRY: u8 = 3;

/// One byte, and after that of a soft invalidation its moment and, while it is pending, its grace.
impl Verdict {
    pub(super) fn encode(self, w: &mut Writer) {
        match self {
            Self::Alive => w.u8(ALIVE),
            Self::Dead => w.u8(DEAD),
            Self::Soft(Soft { moment_ms, grace_ms: None }) => {
                w.u8(SOFT_UNTIL_EXPIRY);
                w.u64(moment_ms.min(MOMENTS - 1));
            }
            Self::Soft(Soft { moment_ms, grace_ms: Some(grace_ms) }) => {
                w.u8(SOFT);
                w.u64(moment_ms.min(MOMENTS - 1));
                w.u64(grace_ms.clamp(1, GRACES - 1));
            }
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Option<Self> {
        match r.u8()? {
            ALIVE => Some(Self::Alive),
            DEAD => Some(Self::Dead),
            SOFT => {
                let (moment_ms, grace_ms) = (r.u64()?, r.u64()?);
                let bounded = moment_ms < MOMENTS && (1..GRACES).contains(&grace_ms);
                bounded.then_some(Self::Soft(Soft { moment_ms, grace_ms: Some(grace_ms) }))
            }
            SOFT_UNTIL_EXPIRY => {
                let moment_ms = r.u64().filter(|moment_ms| *moment_ms < MOMENTS)?;
                Some(Self::Soft(Soft { moment_ms, grace_ms: None }))
            }
            _ => None,
        }
    }
}
