//! What invalidations made of an entry, and how that travels with it.

use super::{GRACES, MOMENTS};
use crate::wire::{Reader, Writer};

/// A soft invalidation: the entry is stale from that moment on, for that grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soft {
    /// When it was invalidated, unix ms.
    pub moment_ms: u64,
    /// How long it stays servable as stale after that, in ms.
    pub grace_ms: u64,
}

impl Soft {
    /// When it is gone, unix ms.
    pub fn end_ms(self) -> u64 {
        self.moment_ms + self.grace_ms
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
    /// Stale, though its key's expiry does not say so yet.
    Soft(Soft),
}

const ALIVE: u8 = 0;
const DEAD: u8 = 1;
const SOFT: u8 = 2;

/// One byte, and after that of a soft invalidation its moment and its grace.
impl Verdict {
    pub(super) fn encode(self, w: &mut Writer) {
        match self {
            Self::Alive => w.u8(ALIVE),
            Self::Dead => w.u8(DEAD),
            Self::Soft(Soft { moment_ms, grace_ms }) => {
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
                bounded.then_some(Self::Soft(Soft { moment_ms, grace_ms }))
            }
            _ => None,
        }
    }
}
