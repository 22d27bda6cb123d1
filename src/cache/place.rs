//! An entry into index and key in one step: for everybody who stores.

use expcache_core::entry::Entry;
use expcache_core::index::Placement;
use expcache_core::{Error, Result};

use super::with;
use crate::server::discard;
use crate::server::key::{Found, Key};

/// Puts an entry under a key of this database, over whatever entry is there, and gives the key its expiry. The key must be open for
/// writing.
pub fn place(
    db: i32,
    key: &mut Key<'_>,
    mut entry: Box<Entry>,
    placement: Placement,
    tags: &[&[u8]],
    expire_at_ms: Option<i64>,
) -> Result<()> {
    let name = key.name().bytes();
    let (replaces, linked) = match key.found() {
        Found::Entry(old) => (true, with(|cache| cache.relink(db, name, old, &mut entry, placement, tags))),
        Found::Missing | Found::Foreign => (false, with(|cache| cache.link(db, name, &mut entry, placement, tags))),
    };
    if !linked {
        return Err(Error::invalid("the index is full"));
    }
    if !replaces {
        key.create(entry);
    } else if let Some(old) = key.replace(entry) {
        discard::free_entry(old);
    }
    if replaces || expire_at_ms.is_some() {
        key.set_expire_at_ms(expire_at_ms);
    }
    Ok(())
}
