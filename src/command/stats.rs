//! `EXPCACHE.STATS [TYPE name] [WINDOW d]` and `EXPCACHE.STATS RESET`.

use expcache_core::Result;
use expcache_core::grammar::stats::StatsOptions;
use expcache_core::stats::metrics::Shown;
use expcache_core::stats::spread::{BOUNDS_S, Left};
use expcache_core::stats::windows::start;
use expcache_core::stats::{Counters, Formats};

use crate::server::args::Args;
use crate::server::clock;
use crate::server::context::Ctx;
use crate::server::figures::Figures;
use crate::server::state::{self, State};

/// Who may run one of these is an administrator. (`CONFIG` may have been renamed.)
const ADMINS: [&[&[u8]]; 2] = [&[b"CONFIG", b"RESETSTAT"], &[b"EXPCACHE.DEBUG", b"CHECK"]];

/// What of the statistics is wanted.
struct Stats {
    window_ms: Option<u64>,
}

/// `EXPCACHE.STATS [TYPE name] [WINDOW d] | RESET`
pub fn stats(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let (type_name, window_ms) = match StatsOptions::parse(args.words())? {
        StatsOptions::Reset => return reset(ctx),
        StatsOptions::Read { type_name, window_ms } => (type_name, window_ms),
    };
    state::with(State::turn);
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
    state::with(State::reset_counters);
    ctx.reply_ok();
    Ok(())
}

impl Stats {
    /// The minute with which the window begins.
    fn start(&self) -> Option<u64> {
        self.window_ms.map(|window_ms| start(clock::steady_ms(), window_ms))
    }

    /// The counters of a type that are to be shown; `total` are all of them.
    fn counters_of(&self, s: &State, type_id: u16, total: Counters) -> Counters {
        match self.start() {
            None => total,
            Some(start) => s.types.get(type_id).windows.since(start, &total),
        }
    }

    fn of_type(&self, ctx: &Ctx, name: &[u8]) {
        let known = state::with(|s| {
            let id = s.types.id(name).filter(|id| s.types.get(*id).is_in_use())?;
            let mut figures = s.figures_of(id);
            figures.counters = self.counters_of(s, id, figures.counters);
            Some((figures, s.types.get(id).formats.clone(), s.left(Some(id))))
        });
        let Some((figures, formats, left)) = known else { return ctx.reply_null() };
        let shown = figures.counters.in_stats();
        ctx.reply_map(SIZES + shown.len() + 2);
        sizes(ctx, &figures, None);
        count_fields(ctx, &shown);
        format_fields(ctx, &formats);
        ttl(ctx, &left);
    }

    fn overall(&self, ctx: &Ctx) {
        let (all, types, tags, index_bytes, formats, left) = state::with(|s| {
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
        let shown = all.counters.in_stats();
        ctx.reply_map(SIZES + shown.len() + 3);
        sizes(ctx, &all, Some((tags, index_bytes)));
        count_fields(ctx, &shown);
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

/// How many fields [`sizes`] writes.
const SIZES: usize = 6;

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

fn count_fields(ctx: &Ctx, shown: &[(String, Shown)]) {
    for (name, value) in shown {
        match value {
            Shown::Count(count) => field(ctx, name, *count),
            Shown::Share(value) => share(ctx, name, *value),
        }
    }
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
