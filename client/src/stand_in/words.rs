//! The words of a command, as the core's grammar reads them.

use bytes::Bytes;

/// What is left of them.
pub(super) type Words<'a> = std::iter::Map<std::slice::Iter<'a, Bytes>, fn(&'a Bytes) -> &'a [u8]>;

pub(super) fn words(all: &[Bytes]) -> Words<'_> {
    all.iter().map(AsRef::as_ref)
}
