//! What an entry is made of.

use super::body::Body;
use super::extras::Extras;

/// A payload's bytes, in whatever form.
#[derive(Debug, Clone)]
pub enum PayloadBytes<'a> {
    /// To be copied.
    Lent(&'a [u8]),
    /// To be held, unless they are few.
    Shared(Body),
}

impl Default for PayloadBytes<'_> {
    fn default() -> Self {
        Self::Lent(&[])
    }
}

impl<'a> From<&'a [u8]> for PayloadBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Lent(bytes)
    }
}

impl From<Body> for PayloadBytes<'_> {
    fn from(bytes: Body) -> Self {
        Self::Shared(bytes)
    }
}

impl std::ops::Deref for PayloadBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl PayloadBytes<'_> {
    /// The bytes, to stand apart; `None` if there is no memory for them.
    pub(super) fn into_body(self) -> Option<Body> {
        match self {
            Self::Lent(bytes) => Body::copy_of(bytes),
            Self::Shared(bytes) => Some(bytes),
        }
    }
}

/// Everything that makes an entry but its names.
#[derive(Debug, Clone, Default)]
pub struct Content<'a> {
    /// When it was stored, unix ms.
    pub created_ms: u64,
    /// The fresh lifetime it was stored with, in ms; 0: without end.
    pub lifetime_ms: u64,
    /// See [`Extras`].
    pub extras: Extras<'a>,
    /// The user's bytes, in the form that the extras say.
    pub stored: PayloadBytes<'a>,
}
