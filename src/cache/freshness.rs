//! Expiries that are moved, and what that means for the freshness of entries.

use expcache_core::entry::Entry;
use expcache_core::index::Mark;
use expcache_core::policy::{end_ms, fresh_until_ms};

use super::{Cache, with};
use crate::server::args::Arg;
use crate::server::clock;
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};

impl Cache {
    /// Is an entry's whole life over, be its key there or not?
    pub fn has_outlived(&self, entry: &Entry) -> bool {
        self.types.end_of_life_ms(entry).is_some_and(|ends_ms| ends_ms <= end_ms(clock::unix_ms(), 0))
    }

    /// Notes that an entry's key expires at another time from now on, and what that means for a soft invalidation that is
    /// still to be carried out.
    pub fn redate(&mut self, db: i32, entry: &Entry, expire_at_ms: Option<i64>, mark: Mark) {
        self.databases.change(db, |index| index.redate(entry, fresh_until_ms(expire_at_ms, entry.grace_ms()), mark));
    }

    /// An entry was stored by itself, and its expiry follows: so the server rewrites the append-only file.
    pub fn expect_expiry(&mut self, key: &[u8]) {
        self.expiry_follows = Some(self.departures.hash(key));
    }

    /// Is this expiry the one that follows an entry? Any other is somebody's will. Asking ends the expectation.
    pub fn take_expected_expiry(&mut self, key: &[u8]) -> bool {
        self.expiry_follows.take().is_some_and(|name| name == self.departures.hash(key))
    }
}

/// Puts a key's expiry off and tells replicas. Clients that watch or track the key are not told: its value is the same.
pub fn put_off(ctx: &Ctx, name: Arg<'_>, moment_ms: i64) {
    let mut key = ctx.open(name, Mode::Write);
    key.set_expire_at_ms(Some(moment_ms));
    let db = key.db();
    if let Found::Entry(entry) = key.found() {
        with(|cache| cache.redate(db, entry, Some(moment_ms), Mark::CarriedOut));
    }
    drop(key);
    ctx.replicate_expiry(name, moment_ms);
}
