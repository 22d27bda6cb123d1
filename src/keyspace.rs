//! The keyspace: native commands change keys and databases, and the books follow.
//!
//! Every way in which a key can come, go or move ends in one of these (tried on every supported server):
//!
//! | change | how we learn of it |
//! |---|---|
//! | our own commands | they link by themselves |
//! | a key goes, in whatever way: deleted, expired, evicted, overwritten, renamed, moved, trimmed | the type's `unlink2` |
//! | a key comes by `RENAME`, `MOVE`, `COPY`, `RESTORE` | `rename_to`, `move_to`, `copy_to`, `restore` |
//! | a key is loaded (RDB, full synchronization, slot migration) | `loaded` |
//! | a database, or all, is emptied at once | the event of flushing, which comes before the values are freed |
//! | two databases are exchanged | the event of swapping |
//!
//! `new` is not used: some servers send it before the old name is unlinked. Loading into a database beside the live one
//! is not opted in to, so a replica is flushed and loaded like anybody else.

use expcache_core::Result;
use expcache_core::audit::Action;
use expcache_core::entry::{Entry, Verdict};
use expcache_core::index::Mark;
use expcache_core::policy::Audit;

use crate::audit::{self, Recorded};
use crate::cache::departures::Cause;
use crate::cache::{self, Cache, figures};
use crate::invalidation::reclaim;
use crate::leases;
use crate::payloads::settle;
use crate::server::args::{Arg, Text};
use crate::server::clock;
use crate::server::context::Ctx;
use crate::server::datatype::{Home, ValueHooks};
use crate::server::discard;
use crate::server::feature::{Feature, KeyEvent, NOTHING, ServerEvent};
use crate::server::key::{self, Found, Mode};
use crate::server::log::{LogLevel, log};
use crate::types::policies::MAX_TYPES;

/// What the keyspace brings to the server.
pub const FEATURE: Feature = Feature {
    on_key: Some(on_key),
    on_server: Some(on_server),
    gauges: Some(figures::gauges),
    value: Some(&VALUE),
    ..NOTHING
};

// ---- what the data type asks ----

static VALUE: ValueHooks = ValueHooks {
    metadata: |db, entry| cache::with(|cache| cache.metadata(db, entry)),
    names: |db, entry| cache::with(|cache| cache.names(db, entry)),
    is_dead: |db, entry| cache::with(|cache| cache.is_dead(db, entry)),
    admit,
    unlinked: |db, key, entry| cache::with(|cache| cache.unlink(db, key, entry)),
    copied,
};

/// In a cluster so many times the most types may come by `RESTORE`: so slots do, from nodes that have as many types each, and what is
/// refused leaves a slot half moved.
const TYPES_OF_OTHER_NODES: usize = 4;

/// Refuses an entry of one type too many.
fn admit(entry: &Entry, home: Home) -> Result<()> {
    let times = if home == Home::Node { TYPES_OF_OTHER_NODES } else { 1 };
    let Some(names) = entry.names() else { return Ok(()) };
    cache::with(|cache| cache.types.has_room_for(names.type_name(), times * MAX_TYPES.as_usize()))
}

fn copied(db: i32, entry: &Entry) -> Option<Box<Entry>> {
    let (names, dead) = cache::with(|cache| (cache.names(db, entry), cache.is_dead(db, entry)));
    let mut copy = entry.copy(names, dead)?;
    copy.touch(clock::use_us());
    Some(copy)
}

// ---- what happens to the server ----

fn on_server(_ctx: &Ctx, event: ServerEvent) {
    cache::with(|cache| match event {
        ServerEvent::Flushed(db) => cache.flush(db),
        ServerEvent::Swapped(first, second) => cache.swap(first, second),
        ServerEvent::Beat => cache.tick(),
        _ => (),
    });
}

// ---- what happens to keys ----

fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    match event {
        KeyEvent::Redated => redate_by_name(ctx, key),
        KeyEvent::Restored => {
            begin_anew(ctx, key);
            link_by_name(ctx, key);
        }
        KeyEvent::Loaded | KeyEvent::Arrived => link_by_name(ctx, key),
        KeyEvent::Left => cache::with(Cache::forget_last_unlinked),
        KeyEvent::Deleted => {
            note_deletion(ctx, key);
            count_departure(key, Cause::Deleted);
        }
        KeyEvent::Expired => count_departure(key, Cause::Expired),
        KeyEvent::Evicted => {
            // What goes for its type's limits we remove ourselves.
            if !key::is_removing() && cache::with(|cache| cache.was_last_unlinked(key.bytes())) {
                discard::note_eviction();
            }
            count_departure(key, Cause::Evicted);
        }
    }
}

/// Notes the first use of an entry that a client brought, who may have named any moment as that of its storing. Replicas get it as it
/// came, so each server believes no moment later than its own.
fn begin_anew(ctx: &Ctx, key: Arg<'_>) {
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    if let Found::Entry(entry) = opened.found()
        && !entry.is_linked()
    {
        entry.touch(clock::use_us());
        entry.clamp_created_ms(clock::unix_ms());
    }
}

/// Puts what the key holds into the index, if it is an entry.
fn link_by_name(ctx: &Ctx, key: Arg<'_>) {
    // The name may stand on the server's stack, so a name of our own is used to open it.
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    let db = opened.db();
    let (Found::Entry(entry), expire_at_ms) = opened.found_dated(|_| true) else { return };
    if entry.is_linked() {
        return;
    }
    let (linked, is_marked) = cache::with(|cache| {
        let linked = cache.link_arrived(db, key.bytes(), entry, expire_at_ms);
        (linked, cache.verdict(db, entry) != Verdict::Alive)
    });
    if entry.is_unsettled() {
        settle::schedule_encoding(ctx, db, key.bytes(), entry);
    }
    drop(opened);
    leases::stored(ctx, db, key.bytes(), None);
    if !linked {
        log(LogLevel::Warning, "the index is full; an entry is left out of it");
    }
    if is_marked {
        reclaim::schedule(ctx);
    }
}

/// Notes when what the key holds expires, if it is an entry.
fn redate_by_name(ctx: &Ctx, key: Arg<'_>) {
    // Without entries, every key is somebody else's.
    if !cache::with(|cache| cache.indexes().any(|(_, index)| index.minds_expiries())) {
        return;
    }
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    let db = opened.db();
    if let (Found::Entry(entry), expire_at_ms) = opened.found_dated(|_| true) {
        // A rewritten append-only file gives each key its expiry, also where a soft invalidation is still to be carried out. Any
        // other says when the entry is gone; what was softly invalidated stays stale.
        cache::with(|cache| {
            let mark = if cache.take_expected_expiry(key.bytes()) { Mark::Kept } else { Mark::CarriedOut };
            cache.redate(db, entry, expire_at_ms, mark);
        });
    }
}

/// Puts on record that a command of the server's own deleted an entry. Ours say so themselves.
fn note_deletion(ctx: &Ctx, key: Arg<'_>) {
    if key::is_removing() {
        return;
    }
    let recorded = cache::with(|cache| {
        let may_be = cache.has_last_unlinked() && cache.types.are_audited();
        let type_id = if may_be { cache.last_unlinked_type(key.bytes())? } else { return None };
        Recorded::of(cache, type_id, Audit::Changes)
    });
    if let Some(recorded) = recorded.filter(|_| ctx.decides()) {
        let (type_name, key) = (Some(recorded.name()), Some(key.bytes()));
        audit::note_by_unknown(ctx, &Action { command: "del", type_name, key, ..audit::OK });
    }
}

fn count_departure(key: Arg<'_>, cause: Cause) {
    cache::with(|cache| {
        // Almost every event is about a key of another type.
        if cache.has_last_unlinked() {
            cache.count_departure(key.bytes(), cause);
        }
    });
}
