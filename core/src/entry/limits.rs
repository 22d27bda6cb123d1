//! What an entry can hold at most, and the small things that its parts share.

use crate::bytes::Reader;
use crate::key::MAX_NAME_BYTES;

/// The longest payload: what the protocol allows in one string by default.
pub const MAX_PAYLOAD: usize = 512 << 20;
/// From this size on a payload stands apart.
pub const APART_FROM: usize = 8 << 10;
/// The most tags of one entry.
pub const MAX_TAGS: usize = 64;

/// The highest cost of one entry: a production of a month, in ms. Sums over all hits then stay far from their ends.
pub const MAX_COST_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Moments, lifetimes and graces of soft invalidations are less than these, in ms: the years 10889, 36 and 36.
pub(super) const MOMENTS: u64 = 1 << 48;
pub(super) const LIFETIMES: u64 = 1 << 40;
pub(super) const GRACES: u64 = 1 << 40;

/// An MD5, as bytes.
pub type Etag = [u8; 16];

pub(super) fn read_name<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    r.short_bytes().filter(|name| !name.is_empty() && name.len() <= MAX_NAME_BYTES)
}
