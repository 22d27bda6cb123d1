//! `EXPCACHE.STATS [TYPE name]` and `EXPCACHE.STATS RESET`.

use expcache_core::index::Bytes;
use expcache_core::types::Counters;
use expcache_core::{Error, Result};

use super::parse::is;
use crate::server::context::{Args, Ctx};
use crate::server::state::{self, State};

/// What is said of one type, or of all.
struct Figures {
    entries: u64,
    bytes: Bytes,
    counters: Counters,
}

impl Figures {
    fn of(s: &State, type_id: u16) -> Self {
        let known = s.types.get(type_id);
        let mut counters = known.counters.clone();
        let dead = s.type_dead(type_id);
        // Those that were reclaimed are counted; those that wait are dead all the same.
        counters.invalidated += dead.saturating_sub(known.dead_before_reset);
        Self { entries: known.entries.saturating_sub(dead), bytes: s.type_bytes(type_id), counters }
    }

    fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.bytes.payload += other.bytes.payload;
        self.bytes.stored += other.bytes.stored;
        self.counters.add(&other.counters);
    }

    /// How many times smaller the stored bytes are than the payloads; 1 when there are none.
    fn ratio(&self) -> f64 {
        if self.bytes.stored == 0 { 1.0 } else { self.bytes.payload as f64 / self.bytes.stored as f64 }
    }
}

/// `EXPCACHE.STATS [TYPE name | RESET]`
pub fn stats(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let Some(word) = args.next() else { return overall(ctx) };
    if is(word, "RESET") {
        args.end()?;
        reset(ctx);
        return Ok(());
    }
    if !is(word, "TYPE") {
        return Err(Error::Syntax);
    }
    let name = args.need()?.bytes();
    args.end()?;
    let known = |s: &mut State| s.types.id(name).filter(|id| s.types.get(*id).is_in_use()).map(|id| Figures::of(s, id));
    match state::with(known) {
        None => ctx.reply_null(),
        Some(figures) => {
            ctx.reply_map(4 + COUNTERS);
            sizes(ctx, &figures);
            count_fields(ctx, &figures.counters);
        }
    }
    Ok(())
}

fn overall(ctx: &Ctx) -> Result<()> {
    let (all, types, tags, index_bytes) = state::with(|s| {
        let mut all = Figures { entries: 0, bytes: Bytes::default(), counters: s.types.retired.clone() };
        let mut types = Vec::new();
        for (id, known) in s.types.iter() {
            let figures = Figures::of(s, id);
            all.add(&figures);
            if known.is_in_use() {
                types.push((known.name.clone(), figures));
            }
        }
        let tags: u64 = s.indexes().map(|(_, index)| index.tag_count()).sum();
        (all, types, tags, s.index_bytes())
    });

    ctx.reply_map(7 + COUNTERS);
    field(ctx, "entries", all.entries);
    field(ctx, "tags", tags);
    field(ctx, "payload-bytes", all.bytes.payload);
    field(ctx, "stored-bytes", all.bytes.stored);
    field(ctx, "index-bytes", index_bytes);
    ctx.reply_bytes(b"ratio");
    ctx.reply_double(all.ratio());
    count_fields(ctx, &all.counters);
    ctx.reply_bytes(b"types");
    ctx.reply_map(types.len());
    for (name, figures) in &types {
        ctx.reply_bytes(name);
        ctx.reply_map(6);
        field(ctx, "entries", figures.entries);
        field(ctx, "payload-bytes", figures.bytes.payload);
        field(ctx, "stored-bytes", figures.bytes.stored);
        field(ctx, "hits", figures.counters.hits);
        field(ctx, "misses", figures.counters.misses);
        ctx.reply_bytes(b"hit-rate");
        ctx.reply_double(figures.counters.hit_rate());
    }
    Ok(())
}

fn sizes(ctx: &Ctx, figures: &Figures) {
    field(ctx, "entries", figures.entries);
    field(ctx, "payload-bytes", figures.bytes.payload);
    field(ctx, "stored-bytes", figures.bytes.stored);
    ctx.reply_bytes(b"ratio");
    ctx.reply_double(figures.ratio());
}

/// How many fields [`count_fields`] writes.
const COUNTERS: usize = 16;

fn count_fields(ctx: &Ctx, counters: &Counters) {
    field(ctx, "hits", counters.hits);
    field(ctx, "stale-hits", counters.stale_hits);
    field(ctx, "misses", counters.misses);
    ctx.reply_bytes(b"hit-rate");
    ctx.reply_double(counters.hit_rate());
    field(ctx, "sets", counters.sets);
    field(ctx, "deletes", counters.deletes);
    field(ctx, "expired", counters.expired);
    field(ctx, "evicted", counters.evicted);
    field(ctx, "invalidated", counters.invalidated);
    field(ctx, "rejected", counters.rejected);
    field(ctx, "leases", counters.leases);
    field(ctx, "fenced", counters.fenced);
    field(ctx, "waits", counters.waits);
    field(ctx, "failures", counters.failures);
    field(ctx, "produce-ms", counters.mean_produce_ms());
    field(ctx, "saved-ms", counters.saved_ms);
}

fn field(ctx: &Ctx, name: &str, value: u64) {
    ctx.reply_bytes(name.as_bytes());
    ctx.reply_count(value);
}

fn reset(ctx: &Ctx) {
    state::with(State::reset_counters);
    ctx.reply_ok();
}
