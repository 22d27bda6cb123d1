//! How the words of a command are made.

use bytes::Bytes;
use redis::Cmd;

/// A key, tag or type from anything that can be seen as bytes.
pub(crate) fn name(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

/// Takes the words that [`expcache_core::grammar`] writes.
pub(crate) fn words_of(cmd: &mut Cmd) -> impl FnMut(&[u8]) {
    |word| {
        cmd.arg(word);
    }
}
