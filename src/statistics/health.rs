//! `EXPCACHE.HEALTH`: is anything wrong, or about to be? Each check says a figure, its limit, and the verdict.

use expcache_core::Result;
use expcache_core::lease::TAGS_PER_FENCE;

use crate::cache::{self, Cache};
use crate::invalidation::reclaim;
use crate::leases;
use crate::rules;
use crate::server::args::Args;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::replies::Value;
use crate::server::setting::Setting;
use crate::server::{blocked, workers};

/// The least share of reads that should hit, percent; 0: none.
pub static MIN_HIT_RATE: Setting = Setting::number(c"min-hit-rate", 0, 0..=100);

/// Memory is short from this share of `maxmemory` on, in percent, if what is there is never evicted.
const MEMORY_PERCENT: u64 = 95;
/// So many reads tell something of the hit rate.
const READS: u64 = 1000;
/// The hit rate is that of so many minutes.
const RECENT_MINUTES: u64 = 15;
/// What is invalidated should be reclaimed within so many seconds.
const RECLAIM_S: u64 = 60;

/// What one check found.
struct Check {
    name: &'static str,
    figure: Figure,
    /// The figure that it should keep to; `None`: there is none.
    limit: Option<u64>,
    is_well: bool,
}

enum Figure {
    Count(u64),
    Text(String),
}

impl Check {
    /// A figure that must not be over a limit.
    fn at_most(name: &'static str, figure: u64, limit: u64) -> Self {
        Self { name, figure: Figure::Count(figure), limit: Some(limit), is_well: figure <= limit }
    }

    /// A word of the server's that must be one of these.
    fn one_of(name: &'static str, word: Option<String>, good: &[&str]) -> Self {
        let word = word.unwrap_or_else(|| good.first().copied().unwrap_or_default().into());
        let is_well = good.contains(&word.as_str());
        Self { name, figure: Figure::Text(word), limit: None, is_well }
    }

    fn reply(&self, ctx: &Ctx) {
        ctx.reply_bytes(self.name.as_bytes());
        let figure = match &self.figure {
            Figure::Count(count) => Value::Count(*count),
            Figure::Text(text) => text.as_str().into(),
        };
        ctx.map(&[("figure", figure), ("limit", self.limit.into()), ("verdict", verdict(self.is_well).into())]);
    }
}

fn verdict(is_well: bool) -> &'static str {
    if is_well { "ok" } else { "degraded" }
}

/// `EXPCACHE.HEALTH`, for the server.
pub const HEALTH: Row = Row {
    name: "expcache.health",
    handler: command(health),
    flags: "readonly allow-stale allow-loading",
    arity: 1,
    summary: "Returns whether all is well, and what was checked: each figure, its limit and the verdict.",
    complexity: "O(T) for T types.",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    ..ROW
};

/// `EXPCACHE.HEALTH`
pub fn health(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    args.end()?;
    let checks: Vec<Check> =
        [memory(ctx)].into_iter().chain(cache::with(own)).chain(servers(ctx)).chain(service(ctx)).collect();
    ctx.reply_map(1 + checks.len());
    ctx.field("status", verdict(checks.iter().all(|check| check.is_well)).into());
    checks.iter().for_each(|check| check.reply(ctx));
    Ok(())
}

/// Bytes in use, against what the server may use; only a server that evicts nothing is in trouble there.
fn memory(ctx: &Ctx) -> Check {
    let number = |field| ctx.server_info(c"memory", field).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (used, most): (u64, u64) = (number(c"used_memory"), number(c"maxmemory"));
    let evicts = ctx.server_info(c"memory", c"maxmemory_policy").is_some_and(|policy| policy != "noeviction");
    let is_well = most == 0 || evicts || used <= most / 100 * MEMORY_PERCENT;
    Check { name: "memory-bytes", figure: Figure::Count(used), limit: (most > 0).then_some(most), is_well }
}

/// What the module knows of itself.
fn own(s: &mut Cache) -> Vec<Check> {
    let databases = s.indexes().count();
    let of_all = |limit: &Setting| limit.get() * databases.max(1) as u64;
    let counts = leases::counts();
    vec![
        Check::at_most("index-disagreements", s.index_disagreements(), 0),
        Check { name: "reclaim-backlog", figure: Figure::Count(s.marked_len()), limit: None, is_well: true },
        Check::at_most("reclaim-seconds", reclaim::backlog_age_ms() / 1000, RECLAIM_S),
        Check::at_most("leases", counts.held + counts.backing_off, of_all(&leases::MAX_LEASES)),
        Check::at_most("fences", counts.fences, of_all(&leases::MAX_FENCES).saturating_mul(TAGS_PER_FENCE as u64)),
        Check::at_most("waiters", counts.waiting, blocked::MAX_WAITERS.get()),
        hit_rate(s),
    ]
    .into_iter()
    .chain(workers())
    .chain(of_rules())
    .collect()
}

/// Rules, and how often one could not be carried out. Whoever writes a key or tells an event decides about the latter, so it says
/// nothing of the server's health.
fn of_rules() -> [Check; 2] {
    let errors = Figure::Count(rules::total().errors);
    [
        Check::at_most("rules", rules::count() as u64, rules::MAX_RULES.get()),
        Check { name: "rule-errors", figure: errors, limit: None, is_well: true },
    ]
}

/// Threads at work, and what waits for one of them or for the main thread to use what they did.
fn workers() -> [Check; 3] {
    let figures = workers::figures();
    [
        Check::at_most("workers-busy", figures.busy as u64, workers::WORKERS.get()),
        Check::at_most("worker-backlog", figures.queued as u64, workers::WORKER_QUEUE.get()),
        Check::at_most("settle-backlog", (figures.aside + figures.posted) as u64, workers::most_aside()),
    ]
}

/// The share of the last reads that hit, in percent, against the floor that was configured.
fn hit_rate(s: &mut Cache) -> Check {
    s.roll_windows();
    let (all, _) = s.all_figures();
    let recent = s.types.since(s.types.minute().saturating_sub(RECENT_MINUTES), &all.counters);
    let reads = recent.reads();
    let (percent, floor) = ((recent.hits * 100).checked_div(reads).unwrap_or(0), MIN_HIT_RATE.get());
    let is_well = floor == 0 || reads < READS || percent >= floor;
    Check { name: "hit-rate-percent", figure: Figure::Count(percent), limit: (floor > 0).then_some(floor), is_well }
}

/// What the server says of its files and its master.
fn servers(ctx: &Ctx) -> Vec<Check> {
    let info = |section, field| ctx.server_info(section, field);
    vec![
        Check::one_of("rdb-save", info(c"persistence", c"rdb_last_bgsave_status"), &["ok"]),
        Check::one_of("aof-rewrite", info(c"persistence", c"aof_last_bgrewrite_status"), &["ok"]),
        Check::one_of("aof-write", info(c"persistence", c"aof_last_write_status"), &["ok"]),
        Check::one_of("master-link", info(c"replication", c"master_link_status"), &["none", "up"]),
    ]
}

/// Does the server take what clients send? Not while it loads, its cluster is down, or writes want more replicas than there are.
fn service(ctx: &Ctx) -> Vec<Check> {
    let number = |section, field| ctx.server_info(section, field).and_then(|text| text.parse().ok()).unwrap_or(0);
    vec![
        Check::at_most("loading", number(c"persistence", c"loading"), 0),
        Check::one_of("cluster-state", cluster_state(ctx), &["none", "ok"]),
        replicas(ctx),
    ]
}

/// `ok` or `fail`; nothing where there is no cluster.
fn cluster_state(ctx: &Ctx) -> Option<String> {
    if ctx.server_info(c"cluster", c"cluster_enabled").as_deref() != Some("1") {
        return None;
    }
    let info = ctx.call_for_texts(c"CLUSTER", &[c"INFO"]);
    let info = String::from_utf8_lossy(info.first()?);
    let state = info.lines().find_map(|line| line.strip_prefix("cluster_state:"))?;
    Some(state.trim_ascii().into())
}

/// Replicas that keep up, against how many there must be for a write to be taken (`min-replicas-to-write`). The server counts
/// them only if some are demanded.
fn replicas(ctx: &Ctx) -> Check {
    let good = ctx.server_info(c"replication", c"min_slaves_good_slaves").and_then(|text| text.parse().ok());
    let setting = || ctx.call_for_texts(c"CONFIG", &[c"GET", c"min-replicas-to-write"]);
    let demanded = || setting().get(1).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    match (good, good.and_then(|_| demanded())) {
        (Some(good), Some(least)) if ctx.is_master() => {
            Check { name: "replicas", figure: Figure::Count(good), limit: Some(least), is_well: good >= least }
        }
        (good, _) => {
            let connected = ctx.server_info(c"replication", c"connected_slaves").and_then(|text| text.parse().ok());
            let figure = Figure::Count(good.or(connected).unwrap_or(0));
            Check { name: "replicas", figure, limit: None, is_well: true }
        }
    }
}
