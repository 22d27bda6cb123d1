//! `KEY` rules: a key that is not an entry is written, or goes, and entries are invalidated in the same step.
//!
//! The server tells of it by a keyspace event, after the write and before its reply, inside of transactions and scripts too. In that
//! callback no key may be written, and none needs to be: marks in the index and fences are all that makes entries outdated. Their keys
//! follow when the command is over, if they are few, else in slices. Replicas and the append-only file are told in one transaction with
//! the write, or, of what follows from an expiry, behind the command that found it; they decide nothing themselves.
//!
//! What is loaded, or comes over replication or with a slot, happened elsewhere.

use expcache_core::Result;
use expcache_core::audit::Action;
use expcache_core::rules::{Captures, On};

use super::set;
use crate::audit;
use crate::cache::{self, Cache};
use crate::invalidation::{self, Mode, Telling};
use crate::server::args::{Arg, Text};
use crate::server::context::Ctx;
use crate::server::feature::{KeyEvent, WriteEvent};
use crate::server::key::{Found, Mode as KeyMode};
use crate::server::{afterwards, clock, events, slots, status};

/// A native value was written.
pub fn on_write(ctx: &Ctx, event: WriteEvent, key: Arg<'_>) {
    // Over an entry, perhaps. Of that no event will say why it went.
    cache::with(Cache::forget_last_unlinked);
    // Who looks at a field of a hash that is over has it expire.
    fire(ctx, key, || event != WriteEvent::PartExpired, || Some(ctx.db()));
}

/// Something happened to a key of any type. The books have not counted yet what went.
pub fn on_key(ctx: &Ctx, event: KeyEvent, key: Arg<'_>) {
    if !events::are_writes_watched() {
        return;
    }
    match event {
        KeyEvent::Deleted | KeyEvent::Expired | KeyEvent::Evicted | KeyEvent::Left => {
            // Whoever looks at a key that is over has it expire; or the server itself, which walks over all, as over those of a slot
            // that it lost. (A hash goes by its last field's end too: but then `on_write` has marked all.)
            let may_be_a_walks = || event == KeyEvent::Deleted && afterwards::is_there() && !ctx.serves(key);
            let is_by_a_write = || event != KeyEvent::Expired && !may_be_a_walks();
            fire(ctx, key, is_by_a_write, || {
                let was_entry = cache::with(|cache| cache.is_unlinking() || cache.was_last_unlinked(key.bytes()));
                (!was_entry).then(|| ctx.db())
            });
        }
        KeyEvent::Arrived | KeyEvent::Restored => {
            cache::with(Cache::forget_last_unlinked);
            // Slots that are moved by hand come key by key, before they are this node's.
            fire(ctx, key, || true, || native_in(ctx, key).filter(|_| event != KeyEvent::Restored || ctx.serves(key)));
        }
        KeyEvent::Redated | KeyEvent::Loaded => (),
    }
}

/// The database of a key that is no entry, as the opened key says it: of one that was moved some servers say the client's.
fn native_in(ctx: &Ctx, key: Arg<'_>) -> Option<i32> {
    // The name may stand on the server's stack, so a name of our own is used to open it.
    let name = Text::new(key.bytes());
    let mut opened = ctx.open(name.arg(), KeyMode::Peek);
    match opened.found() {
        Found::Entry(_) => None,
        Found::Foreign => Some(opened.db()),
        Found::Missing => Some(ctx.db()),
    }
}

/// Carries out the rules that match, if the key is a native one's, of this database.
fn fire(ctx: &Ctx, key: Arg<'_>, is_by_a_write: impl FnOnce() -> bool, native_in: impl FnOnce() -> Option<i32>) {
    if status::is_replica() || status::is_loading() {
        return;
    }
    let matches = set::with(|rules| rules.matches(On::Key, key.bytes()));
    if matches.is_empty() || slots::is_arriving(key.bytes()) {
        return;
    }
    let Some(db) = native_in() else { return };
    let telling = if is_by_a_write() { Telling::Now } else { Telling::Afterwards };
    for (rule, captures) in &matches {
        match carry_out(ctx, db, *rule, captures, telling) {
            Ok(entries) => note(ctx, *rule, key, entries),
            // No entry can bear such a tag, nor be of such a type.
            Err(_) => set::with(|rules| rules.count_error(*rule)),
        }
    }
}

/// Counts that a rule was carried out, and puts it on record if that changed anything.
fn note(ctx: &Ctx, rule: usize, key: Arg<'_>, entries: u64) {
    set::with(|rules| rules.count_fired(rule, entries, clock::unix_ms_coarse()));
    if entries > 0 {
        let (name, key, count) = (set::with(|rules| rules.name(rule).to_vec()), Some(key.bytes()), Some(entries));
        audit::note_by_unknown(ctx, &Action { command: "rule", key, count, result: &name, ..audit::OK });
    }
}

/// How many entries that concerned.
fn carry_out(ctx: &Ctx, db: i32, rule: usize, captures: &Captures<'_>, telling: Telling) -> Result<u64> {
    // Most writes are to keys of which there is no entry at the time.
    let only_tag = set::with(|rules| rules.only_tag(rule, captures));
    if only_tag.is_some_and(|tag| !invalidation::matters(db, &tag)) {
        return Ok(0);
    }
    let (selector, is_soft) = set::with(|rules| (rules.selector(rule, captures, &[]), rules.is_soft(rule)));
    Ok(invalidation::mark(ctx, db, &selector?, Mode::now(is_soft), telling))
}
