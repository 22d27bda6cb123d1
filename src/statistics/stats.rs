//! `EXPCACHE.STATS [TYPE name] [WINDOW d]` and `EXPCACHE.STATS RESET`.

use expcache_core::audit::Action;
use expcache_core::grammar::stats::StatsOptions;
use expcache_core::stats::metrics::Shown;
use expcache_core::stats::spread::{BOUNDS_S, Left};
use expcache_core::stats::windows::start;
use expcache_core::stats::{Counters, Formats};
use expcache_core::{Result, grammar};

use crate::audit;
use crate::cache::figures::Figures;
use crate::cache::{self, Cache};
use crate::server::args::Args;
use crate::server::clock;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::replies::{Replies, Value};

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
    audit::note(ctx, &Action { command: "expcache.stats", tags: &[b"RESET"], ..audit::OK });
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
            Some((figures, s.types.get(id).formats.clone(), s.lifetimes_left(Some(id))))
        });
        let Some((figures, formats, left)) = known else { return ctx.reply_null() };
        reply(ctx, &figures, &formats, &left, None);
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
            (all, types, s.tag_count(), s.index_bytes(), formats, s.lifetimes_left(None))
        });
        reply(ctx, &all, &formats, &left, Some(&Whole { tags, index_bytes, types }));
    }
}

/// What there is only of all types together: the index is one for all.
struct Whole {
    tags: u64,
    index_bytes: u64,
    types: Vec<(Box<[u8]>, Figures)>,
}

fn reply(to: &Replies, figures: &Figures, formats: &Formats, left: &Left, whole: Option<&Whole>) {
    let (sizes, counters) = (&figures.sizes, figures.counters.in_stats());
    let (formats, ttl) = (|to: &Replies| reply_formats(to, formats), |to: &Replies| reply_ttl(to, left));
    let types = |to: &Replies| reply_types(to, whole.map(|whole| whole.types.as_slice()).unwrap_or_default());
    let mut fields: Vec<(&str, Value<'_>)> = vec![
        ("entries", sizes.entries.into()),
        ("tags", whole.map(|whole| whole.tags).into()),
        ("payload-bytes", sizes.payload_bytes.into()),
        ("stored-bytes", sizes.stored_bytes.into()),
        ("index-bytes", whole.map(|whole| whole.index_bytes).into()),
        ("ratio", figures.ratio().into()),
    ];
    fields.extend(counters.iter().map(|(name, shown)| match shown {
        Shown::Count(count) => (name.as_str(), Value::Count(*count)),
        Shown::Share(share) => (name.as_str(), Value::Ratio(*share)),
    }));
    fields.extend([("formats", Value::With(&formats)), ("ttl", Value::With(&ttl))]);
    fields.extend(whole.map(|_| ("types", Value::With(&types))));
    to.map(&fields);
}

fn reply_types(to: &Replies, types: &[(Box<[u8]>, Figures)]) {
    to.reply_map(types.len());
    for (name, Figures { sizes, counters }) in types {
        to.reply_bytes(name);
        to.map(&[
            ("entries", sizes.entries.into()),
            ("payload-bytes", sizes.payload_bytes.into()),
            ("stored-bytes", sizes.stored_bytes.into()),
            ("hits", counters.hits.into()),
            ("misses", counters.misses.into()),
            ("hit-rate", counters.hit_rate().into()),
        ]);
    }
}

fn reply_formats(to: &Replies, formats: &Formats) {
    to.reply_map(formats.iter().len());
    for format in formats.iter() {
        to.reply_bytes(&format.name);
        to.map(&[("sets", format.sets.into()), ("bytes", format.bytes.into()), ("max-bytes", format.max_bytes.into())]);
    }
}

/// Pairs of a bound in seconds and how many have no more left, and more than the bound before; the last has no bound: -1.
fn reply_ttl(to: &Replies, left: &Left) {
    to.reply_array(left.len());
    let bounds = BOUNDS_S.iter().map(|bound_s| bound_s.cast_signed()).chain([-1]);
    for (bound_s, entries) in bounds.zip(left) {
        to.reply_array(2);
        to.reply_integer(bound_s);
        to.reply_count(*entries);
    }
}
