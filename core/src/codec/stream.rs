//! What the formats have in common: how a payload comes out of a stream piece by piece, and how memory for it is taken.

use crate::{Error, Result};

/// No format but zstd makes more of a byte; a larger payload gets its memory as it comes.
pub(super) const USUAL_RATIO: usize = 1032;

/// Where decoding can start.
#[derive(Clone, Copy, Default)]
pub(super) struct Start {
    /// In the stored bytes.
    pub(super) at: usize,
    /// In the payload.
    pub(super) position: usize,
}

/// Why a stream was left before its end.
pub(super) enum Stop {
    /// No more of it is wanted.
    Enough,
    Refused(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

pub(super) type Streamed<T = ()> = std::result::Result<T, Stop>;

/// What is called with each piece of the payload.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8]) -> Streamed;

/// Adds a piece to what is to become `whole` bytes, and takes no memory for more.
///
/// A `whole` that `stored_bytes` cannot hold is a lie; memory for it is not taken before the bytes come.
pub(super) fn append(bytes: &mut Vec<u8>, piece: &[u8], whole: usize, stored_bytes: usize) -> Streamed {
    let missing = whole.saturating_sub(bytes.len());
    if piece.len() > missing {
        return Err(Error::BadEncoding.into());
    }
    if bytes.capacity() - bytes.len() < piece.len() {
        let likely = stored_bytes.saturating_mul(USUAL_RATIO).max(bytes.len()).max(piece.len());
        reserve(bytes, likely.min(missing))?;
    }
    bytes.extend_from_slice(piece);
    Ok(())
}

/// Takes memory for so many more bytes, if there is so much.
pub(super) fn reserve(bytes: &mut Vec<u8>, more: usize) -> Result<()> {
    bytes.try_reserve_exact(more).map_err(|_| Error::NoMemory)
}

/// Makes room for so many more encoded bytes; an eighth more than there are, where a vector by itself would take twice the memory.
/// `None` when there is no memory for it.
pub(super) fn make_room(stored: &mut Vec<u8>, more: usize) -> Option<()> {
    if stored.capacity() - stored.len() < more {
        reserve(stored, more.max(stored.len() / 8)).ok()?;
    }
    Some(())
}

/// The payload in pieces of that many bytes; an empty payload is one empty piece.
pub(super) fn parts(payload: &[u8], bytes: usize) -> impl Iterator<Item = &[u8]> {
    payload.chunks(bytes).chain(payload.is_empty().then_some(payload))
}
