//! How the words of a command are made.

use bytes::Bytes;
use redis::Cmd;

use crate::error::{Error, Result};

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

/// A name that stands in keys, headers and patterns as it is: letters, digits, `-`, `_` and `.`.
pub(crate) fn plain_name(of: &str, name: &str) -> Result<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        return Err(Error::Request(format!("`{}` is no name of a {of}", name.escape_debug())));
    }
    Ok(name.to_owned())
}
