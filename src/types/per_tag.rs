//! `PERTAG`: of each tag that begins with a prefix, so many live entries of a type and no more.
//!
//! Who stores one too many is refused, or makes the least recently used of the others go in the same step. Which entries are live is
//! seen by opening their keys, and only when there are more than the limit; how many that are is bounded by the limit. Those whose
//! time is over, and which the server has not looked at yet, are expired by that: so they never hide live ones.

use std::collections::HashSet;
use std::ops::Range;

use expcache_core::policy::{Beyond, PerTag};
use expcache_core::types::DEFAULT_TYPE;
use expcache_core::{Error, Result};

use crate::cache;
use crate::cache::departures::Reason;
use crate::server::args::{Arg, Text};
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};

/// The most entries that one command evicts for a tag, after the limit was lowered. Later ones go on.
const MOST_AT_ONCE: usize = 64;
/// How often one command looks for more, where it found nothing but entries whose time is over.
const MOST_LOOKS: usize = 16;

/// Refuses what would be one entry too many: keys that are about to be stored with these tags, as entries of one type.
pub fn admit(ctx: &Ctx, type_id: u16, keys: &[&[u8]], tags: &[&[u8]]) -> Result<()> {
    let Some(limit) = limit(ctx, type_id, Beyond::Reject) else { return Ok(()) };
    let coming: HashSet<&[u8]> = keys.iter().copied().collect();
    let room = (limit.most as usize).checked_sub(coming.len());
    let has_room = |tag: &[u8]| room.is_some_and(|room| has_room(ctx, type_id, tag, room, &coming));
    if limited(&limit, tags).all(has_room) {
        return Ok(());
    }
    cache::with(|s| {
        let known = if s.types.get(type_id).policy.is_some() { type_id } else { DEFAULT_TYPE };
        s.count(known, |counters| counters.rejected += 1);
    });
    Err(Error::TagLimit)
}

/// Are there no more live entries beside those that come?
fn has_room(ctx: &Ctx, type_id: u16, tag: &[u8], room: usize, coming: &HashSet<&[u8]>) -> bool {
    let most = room + coming.len() + MOST_AT_ONCE;
    live(ctx, type_id, tag, room..most, |key| !coming.contains(key)).len() <= room
}

/// Has the least recently used entries go that are too many now that `newest` is stored.
pub fn make_room(ctx: &Ctx, newest: Arg<'_>, type_id: u16, tags: &[&[u8]]) {
    let Some(limit) = limit(ctx, type_id, Beyond::Evict) else { return };
    let most = limit.most as usize;
    if ctx.is_cluster() {
        // A command sees the keys of its own slot only.
        let (newest, tags) =
            (Text::new(newest.bytes()), limited(&limit, tags).map(Box::from).collect::<Vec<Box<[u8]>>>());
        let all = move |ctx: &Ctx| tags.iter().for_each(|tag| evict(ctx, newest.arg(), type_id, tag, most));
        if ctx.afterwards(all) {
            return;
        }
    }
    limited(&limit, tags).for_each(|tag| evict(ctx, newest, type_id, tag, most));
}

/// Has the least recently used entries of a tag go that are too many.
fn evict(ctx: &Ctx, newest: Arg<'_>, type_id: u16, tag: &[u8], most: usize) {
    let mut others = live(ctx, type_id, tag, most..most + MOST_AT_ONCE, |key| *key != *newest.bytes());
    others.sort_unstable_by_key(|(used, _)| *used);
    let too_many = (others.len() + 1).saturating_sub(most);
    for (_, name) in others.iter().take(too_many) {
        cache::while_unlinking(Reason::MakingRoom, || ctx.evict(name.arg()));
    }
}

/// The limit of a type, if it is dealt with like that, and here.
fn limit(ctx: &Ctx, type_id: u16, beyond: Beyond) -> Option<PerTag> {
    let limit = cache::with(|s| s.types.policy(type_id).per_tag.clone()).filter(|limit| limit.beyond == beyond)?;
    ctx.decides().then_some(limit)
}

fn limited<'t>(limit: &PerTag, tags: &'t [&'t [u8]]) -> impl Iterator<Item = &'t [u8]> {
    tags.iter().copied().filter(|tag| tag.starts_with(&limit.prefix))
}

/// The live entries (fresh or stale) of a type that have a tag, with what orders them by their last use; none, if there are no more than
/// `bounds.start` entries at all, and not much more than `bounds.end` of them.
fn live(
    ctx: &Ctx,
    type_id: u16,
    tag: &[u8],
    bounds: Range<usize>,
    counts: impl Fn(&[u8]) -> bool,
) -> Vec<((u64, u64), Text)> {
    let mut known = Vec::new();
    for _ in 0..MOST_LOOKS {
        let keys = cache::with(|s| s.crowded(ctx.db(), type_id, tag, bounds.start, bounds.end));
        // None has gone: they are of other slots, perhaps, and not seen from here.
        if keys == known {
            break;
        }
        let (mut live, mut expired) = (Vec::new(), 0);
        for name in keys.iter().filter(|key| counts(key)).map(|key| Text::new(key)) {
            let last_use = match ctx.open(name.arg(), Mode::Peek).found() {
                Found::Entry(entry) => (!cache::with(|s| s.has_outlived(entry))).then(|| entry.use_order()),
                Found::Foreign => None,
                Found::Missing => {
                    expired += 1;
                    // A write looks, and the server expires it.
                    drop(ctx.open(name.arg(), Mode::Write));
                    None
                }
            };
            live.extend(last_use.map(|last_use| (last_use, name)));
        }
        // Behind those that are gone there may be others.
        if expired == 0 || keys.len() < bounds.end {
            return live;
        }
        known = keys;
    }
    Vec::new()
}
