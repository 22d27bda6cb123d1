//! `EXPCACHE.STATS [TYPE name] [WINDOW d]` and `EXPCACHE.STATS RESET`.

use expcache_core::grammar::stats::StatsOptions;
use expcache_core::stats::spread::{BOUNDS_S, Left};
use expcache_core::stats::windows::start;
use expcache_core::stats::{Counters, Formats};
use expcache_core::{Result, grammar};

use crate::cache::figures::Figures;
use crate::cache::{self, Cache};
use crate::server::args::Args;
use crate::server::clock;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;

/// Who may run one of these is an administrator. (`CONFIG` may have been renamed.)
const ADMINS: [&[&[u8]]; 2] = [&[b"CONFIG", b"RESETSTAT"], &[b"EXPCACHE.DEBUG", b"CHECK"]];

/// What of the statistics is wanted.
struct Stats {
    window_ms: Option<u64>,
}

/// `EXPCACHE.STATS`, for the server.
pub const STATS: Row = Row {
    name: "expcache.stats",
    handler: command(stats),
    flags: "readonly allow-stale allow-loading",
    arity: -1,
    summary: "Returns what there is and what was counted, overall or of one type, lately or at all; or starts counting anew.",
    complexity: "O(T) for T types.",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: grammar::stats::STATS,
    ..ROW
};

/// `EXPCACHE.STATS [TYPE name] [WINDOW d] | RESET`
pub fn stats(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let (type_name, window_ms) = match StatsOptions::parse(args.words())? {
        StatsOptions::Reset => return reset(ctx),
        StatsOptions::Read { type_name, window_ms } => (type_name, window_ms),
    };
    cache::with(Cache::roll_windows);
    match type_name {
        None => Stats { window_ms }.overall(ctx),
        Some(name) => Stats { window_ms }.of_type(ctx, name),
    }
    Ok(())
}

/// One command cannot be in two sets of categories; so who may reset the server's own counters, or look into the module, may
/// reset these.
fn reset(ctx: &Ctx) -> Result<()> {
    if !ADMINS.iter().any(|words| ctx.may_run(words)) {
        return Err(ctx.refuse_command());
    }
    cache::with(Cache::reset_counters);
    ctx.reply_ok();
    Ok(())
}

impl Stats {
    /// The minute with which the window begins.
    fn start(&self) -> Option<u64> {
        self.window_ms.map(|window_ms| start(clock::steady_ms(), window_ms))
    }

    /// The counters of a type that are to be shown; `total` are all of them.
    fn counters_of(&self, s: &Cache, type_id: u16, total: Counters) -> Counters {
        match self.start() {
            None => total,
            Some(start) => s.types.get(type_id).windows.since(start, &total),
        }
    }

    fn of_type(&self, ctx: &Ctx, name: &[u8]) {
        let known = cache::with(|s| {
            let id = s.types.id(name).filter(|id| s.types.get(*id).is_in_use())?;
            let mut figures = s.figures_of(id);
            figures.counters = self.counters_of(s, id, figures.counters);
            Some((figures, s.types.get(id).formats.clone(), s.left(Some(id))))
        });
        let Some((figures, formats, left)) = known else { return ctx.reply_null() };
        ctx.reply_map(5 + 1 + COUNTERS + 2);
        sizes(ctx, &figures, None);
        count_fields(ctx, &figures.counters);
        format_fields(ctx, &formats);
        ttl(ctx, &left);
    }

    fn overall(&self, ctx: &Ctx) {
        let (all, types, tags, index_bytes, formats, left) = cache::with(|s| {
            let (mut all, types) = s.all_figures();
            if let Some(start) = self.start() {
                all.counters = s.types.since(start, &all.counters);
            }
            let named = types.into_iter().map(|(id, figures)| {
                let counters = self.counters_of(s, id, figures.counters);
                (s.types.get(id).name.clone(), Figures { counters, ..figures })
            });
            let types: Vec<_> = named.collect();
            let of_types = s.types.iter().map(|(_, known)| &known.formats);
            let formats = Formats::sum(std::iter::once(&s.types.retired_formats).chain(of_types));
            (all, types, s.tag_count(), s.index_bytes(), formats, s.left(None))
        });
        ctx.reply_map(5 + 1 + COUNTERS + 3);
        sizes(ctx, &all, Some((tags, index_bytes)));
        count_fields(ctx, &all.counters);
        format_fields(ctx, &formats);
        ttl(ctx, &left);
        ctx.reply_bytes(b"types");
        ctx.reply_map(types.len());
        for (name, figures) in &types {
            ctx.reply_bytes(name);
            of_one_of_many(ctx, figures);
        }
    }
}

/// What is said of each type among the others.
fn of_one_of_many(ctx: &Ctx, figures: &Figures) {
    ctx.reply_map(6);
    field(ctx, "entries", figures.sizes.entries);
    field(ctx, "payload-bytes", figures.sizes.payload_bytes);
    field(ctx, "stored-bytes", figures.sizes.stored_bytes);
    field(ctx, "hits", figures.counters.hits);
    field(ctx, "misses", figures.counters.misses);
    share(ctx, "hit-rate", figures.counters.hit_rate());
}

/// The index, its tags and its bytes, is one for all types.
fn sizes(ctx: &Ctx, figures: &Figures, index: Option<(u64, u64)>) {
    let of_index = |name: &str, value: Option<u64>| match value {
        Some(value) => field(ctx, name, value),
        None => {
            ctx.reply_bytes(name.as_bytes());
            ctx.reply_null();
        }
    };
    field(ctx, "entries", figures.sizes.entries);
    of_index("tags", index.map(|(tags, _)| tags));
    field(ctx, "payload-bytes", figures.sizes.payload_bytes);
    field(ctx, "stored-bytes", figures.sizes.stored_bytes);
    of_index("index-bytes", index.map(|(_, bytes)| bytes));
    share(ctx, "ratio", figures.ratio());
}

/// How many fields [`count_fields`] writes.
const COUNTERS: usize = 20;

fn count_fields(ctx: &Ctx, counters: &Counters) {
    field(ctx, "hits", counters.hits);
    field(ctx, "stale-hits", counters.stale_hits);
    field(ctx, "misses", counters.misses);
    field(ctx, "misses-cold", counters.misses_cold);
    field(ctx, "misses-expired", counters.misses_expired);
    field(ctx, "misses-invalidated", counters.misses_invalidated);
    share(ctx, "hit-rate", counters.hit_rate());
    field(ctx, "sets", counters.sets);
    field(ctx, "deletes", counters.deletes);
    field(ctx, "expired", counters.expired);
    field(ctx, "evicted", counters.evicted);
    // What was thought to be invalidated and had expired is a step down, which may be all there is in a window.
    field(ctx, "invalidated", counters.invalidated.cast_signed().max(0).cast_unsigned());
    field(ctx, "rejected", counters.rejected);
    field(ctx, "corrupt", counters.corrupt);
    field(ctx, "leases", counters.leases);
    field(ctx, "fenced", counters.fenced);
    field(ctx, "waits", counters.waits);
    field(ctx, "failures", counters.failures);
    field(ctx, "produce-ms", counters.mean_produce_ms());
    field(ctx, "saved-ms", counters.saved_ms);
}

fn format_fields(ctx: &Ctx, formats: &Formats) {
    ctx.reply_bytes(b"formats");
    ctx.reply_map(formats.iter().len());
    for format in formats.iter() {
        ctx.reply_bytes(&format.name);
        ctx.reply_map(3);
        field(ctx, "sets", format.sets);
        field(ctx, "bytes", format.bytes);
        field(ctx, "max-bytes", format.max_bytes);
    }
}

/// Pairs of a bound in seconds and how many have no more left, and more than the bound before; the last has no bound: -1.
fn ttl(ctx: &Ctx, left: &Left) {
    ctx.reply_bytes(b"ttl");
    ctx.reply_array(left.len());
    let bounds = BOUNDS_S.iter().map(|bound_s| bound_s.cast_signed()).chain([-1]);
    for (bound_s, entries) in bounds.zip(left) {
        ctx.reply_array(2);
        ctx.reply_integer(bound_s);
        ctx.reply_count(*entries);
    }
}

fn field(ctx: &Ctx, name: &str, value: u64) {
    ctx.reply_bytes(name.as_bytes());
    ctx.reply_count(value);
}

fn share(ctx: &Ctx, name: &str, value: f64) {
    ctx.reply_bytes(name.as_bytes());
    ctx.reply_double(value);
}
