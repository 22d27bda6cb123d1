//! A type's own limits: past `MAXENTRIES` or `MAXBYTES` its least recently used entries make room.
//!
//! As the server does for `maxmemory`: among a few entries exactly, among many by looking at a sample and taking the one
//! that was not used for longest.

use crate::server::context::{Arg, Ctx, EventClass, Text};
use crate::server::key::{Found, Mode};
use crate::server::state;

/// How many entries are looked at to find one to evict; a type with no more is evicted from exactly.
const SAMPLE: u64 = 16;
/// The most entries that one command evicts. Later ones go on.
const MOST_AT_ONCE: usize = 64;

/// Brings a type back within its limits after `newest` was stored.
pub fn make_room(ctx: &Ctx, newest: Arg<'_>, type_id: u16) {
    if !is_over(type_id) || !ctx.decides() {
        return;
    }
    let home = ctx.db();
    for _ in 0..MOST_AT_ONCE {
        let Some((db, victim)) = least_recently_used(ctx, home, newest, type_id) else { break };
        ctx.select(db);
        // The type's `unlink2` and this event, in this order, count it; the server itself says `del`.
        state::with(|s| s.evicting = true);
        ctx.unlink(victim.arg());
        state::with(|s| s.evicting = false);
        ctx.notify(EventClass::Evicted, c"evicted", victim.arg());
        if !is_over(type_id) {
            break;
        }
    }
    ctx.select(home);
}

fn is_over(type_id: u16) -> bool {
    state::with(|s| {
        let (policy, of) = (s.types.policy(type_id), s.types.get(type_id));
        policy.max_entries != 0 && of.entries - s.type_dead(type_id) > policy.max_entries
            || policy.max_bytes != 0 && of.payload_bytes > policy.max_bytes
    })
}

fn least_recently_used(ctx: &Ctx, home: i32, newest: Arg<'_>, type_id: u16) -> Option<(i32, Text)> {
    let mut oldest: Option<(u64, i32, Text)> = None;
    for (db, name) in sample(type_id) {
        if db == home && name.arg().bytes() == newest.bytes() {
            continue;
        }
        ctx.select(db);
        let touched = match ctx.open(name.arg(), Mode::Peek).found() {
            Found::Entry(entry) => entry.touched_us(),
            Found::Missing | Found::Foreign => continue,
        };
        if oldest.as_ref().is_none_or(|(least, ..)| touched < *least) {
            oldest = Some((touched, db, name));
        }
    }
    oldest.map(|(_, db, name)| (db, name))
}

/// All entries of a type if they are few, else some of them, anywhere.
fn sample(type_id: u16) -> Vec<(i32, Text)> {
    state::with(|s| {
        let all = s.types.get(type_id).entries;
        let ranks: Vec<u64> = match all {
            0 => Vec::new(),
            1..=SAMPLE => (0..all).collect(),
            _ => (0..SAMPLE).map(|_| s.random() % all).collect(),
        };
        ranks
            .into_iter()
            .filter_map(|rank| s.type_member(type_id, rank))
            .map(|(db, key)| (db, Text::new(key)))
            .collect()
    })
}
