//! A type's own limits: past `MAXENTRIES` or `MAXBYTES` its least recently used entries make room.
//!
//! As the server does for `maxmemory`: among a few entries exactly, among many by looking at a sample and taking the one
//! that was not used for longest.

use crate::advice;
use crate::cache;
use crate::cache::departures::Reason;
use crate::server::args::{Arg, Text};
use crate::server::clock;
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};

/// How many entries are looked at to find one to evict; a type with no more is evicted from exactly.
const SAMPLE: u64 = 16;
/// The most entries that one command evicts. Later ones go on.
const MOST_AT_ONCE: usize = 64;

/// Brings a type back within its limits after `newest` was stored. Entries that are dead or expired do not count.
pub fn enforce_limits(ctx: &Ctx, newest: Arg<'_>, type_id: u16) {
    // Without limits, or far from them, that is all there is to do.
    if !is_over(type_id, 0) || !ctx.decides() {
        return;
    }
    if ctx.is_cluster() {
        // A command sees the keys of its own slot only.
        let newest = Text::new(newest.bytes());
        if ctx.afterwards(move |ctx| evict(ctx, newest.arg(), type_id)) {
            return;
        }
    }
    evict(ctx, newest, type_id);
}

fn evict(ctx: &Ctx, newest: Arg<'_>, type_id: u16) {
    let dead = cache::with(|s| s.type_dead(type_id));
    let home = ctx.db();
    for _ in 0..MOST_AT_ONCE {
        if !is_over(type_id, dead) {
            break;
        }
        let Some(victim) = choose(ctx, home, newest, type_id) else { break };
        victim.evict(ctx, type_id);
    }
    ctx.select(home);
}

/// Is the type over its limits, its dead entries left out? Their bytes are not known, so while there are any the limit of
/// bytes waits for them to be reclaimed.
fn is_over(type_id: u16, dead: u64) -> bool {
    cache::with(|s| {
        let (policy, of) = (s.types.policy(type_id), s.types.get(type_id));
        policy.max_entries != 0 && of.entries.saturating_sub(dead) > policy.max_entries
            || dead == 0 && policy.max_bytes != 0 && of.payload_bytes > policy.max_bytes
    })
}

struct Victim {
    db: i32,
    name: Text,
    /// Its time is over already; the server just has not looked.
    expired: bool,
}

impl Victim {
    fn evict(&self, ctx: &Ctx, type_id: u16) {
        ctx.select(self.db);
        if self.expired {
            // A write looks, and the server expires it.
            drop(ctx.open(self.name.arg(), Mode::Write));
            return;
        }
        let index = cache::with(|s| {
            let (policy, of) = (s.types.policy(type_id), s.types.get(type_id));
            let has_too_many_bytes = policy.max_bytes != 0 && of.payload_bytes > policy.max_bytes;
            s.index(self.db).map(|index| index.number()).filter(|_| has_too_many_bytes)
        });
        index.into_iter().for_each(|index| advice::evicted(index, self.name.arg().bytes()));
        cache::while_unlinking(Reason::MakingRoom, || ctx.evict(self.name.arg()));
    }
}

/// An expired entry of the sample, or the one that was not used for longest.
fn choose(ctx: &Ctx, home: i32, newest: Arg<'_>, type_id: u16) -> Option<Victim> {
    let mut oldest: Option<((u64, u64), Victim)> = None;
    for (db, name) in sample(type_id) {
        if db == home && name.arg().bytes() == newest.bytes() {
            continue;
        }
        ctx.select(db);
        let (touched, expired) = match ctx.open(name.arg(), Mode::Peek).found() {
            Found::Entry(entry) => ((!cache::with(|s| s.is_dead(db, entry))).then(|| entry.use_order()), false),
            Found::Missing => (None, true),
            Found::Foreign => (None, false),
        };
        if expired {
            return Some(Victim { db, name, expired });
        }
        if let Some(touched) = touched
            && oldest.as_ref().is_none_or(|(least, _)| touched < *least)
        {
            oldest = Some((touched, Victim { db, name, expired: false }));
        }
    }
    oldest.map(|(_, victim)| victim)
}

/// All entries of a type if they are few, else some of them, anywhere.
fn sample(type_id: u16) -> Vec<(i32, Text)> {
    cache::with(|s| {
        let all = s.types.get(type_id).entries;
        let ranks: Vec<u64> = match all {
            0 => Vec::new(),
            1..=SAMPLE => (0..all).collect(),
            _ => (0..SAMPLE).map(|_| clock::random() % all).collect(),
        };
        ranks
            .into_iter()
            .filter_map(|rank| s.type_member(type_id, rank))
            .map(|(db, key)| (db, Text::new(key)))
            .collect()
    })
}
