//! How the words of a command are made.

use bytes::Bytes;
use redis::Cmd;

/// A key, tag or type from anything that can be seen as bytes.
pub(crate) fn name(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

/// `WORD n item …`.
pub(crate) fn counted<'a>(cmd: &mut Cmd, word: &str, items: impl ExactSizeIterator<Item = &'a Bytes>) {
    cmd.arg(word).arg(items.len());
    for item in items {
        cmd.arg(item.as_ref());
    }
}

pub(crate) fn option(cmd: &mut Cmd, word: &str, value: Option<impl redis::ToRedisArgs>) {
    if let Some(value) = value {
        cmd.arg(word).arg(value);
    }
}
