//! `EXPCACHE.ADVISE [TYPE name] [COUNT n]` and `EXPCACHE.ADVISE CURVE name`.

use expcache_core::advice::choice::{What, by_gain};
use expcache_core::advice::{Advice, Curve, Keeping, Present, TTLS, advise as advise_on};
use expcache_core::grammar::advise::AdviseOptions;
use expcache_core::{Result, grammar};

use super::follow;
use crate::cache::{self, Cache};
use crate::server::access::Right;
use crate::server::args::Args;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::replies::Value;
use crate::server::status;

/// How many pieces of advice are given unless it is said.
const COUNT: u64 = 10;
/// A curve that is founded on fewer reads is not told.
const TELLING: f64 = 1_000.0;

/// What the server is told of it.
pub const ADVISE: Row = Row {
    name: "expcache.advise",
    handler: command(advise),
    flags: "readonly",
    arity: -1,
    summary: "Returns what to change about types, by their own traffic, or a type's hit rate by lifetime.",
    complexity: "O(T*F) for T types of which F keys are followed.",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: grammar::advise::ADVISE,
    ..ROW
};

/// One piece of advice, and whom it concerns.
struct Line {
    type_name: Box<[u8]>,
    advice: Advice,
    /// The tag that it is about.
    tag: Option<Box<[u8]>>,
}

/// See the head.
pub fn advise(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let (type_name, count) = match AdviseOptions::parse(args.words())? {
        AdviseOptions::Curve(name) => {
            reply_curve(ctx, name);
            return Ok(());
        }
        AdviseOptions::Advice { type_name, count } => (type_name, count.unwrap_or(COUNT)),
    };
    let types = match type_name {
        Some(name) => cache::with(|s| s.types.id(name)).into_iter().collect(),
        None => follow::with(|all| all.types()),
    };
    let rights = ctx.rights();
    let mut lines: Vec<Line> = types.into_iter().flat_map(of_type).collect();
    lines.retain(|line| line.tag.as_ref().is_none_or(|tag| rights.allow(Right::Read, tag)));
    let has_replicas = || ctx.server_info(c"replication", c"connected_slaves").is_some_and(|replicas| replicas != "0");
    if status::is_replica() || has_replicas() {
        // Perhaps they are read elsewhere.
        lines.retain(|line| line.advice.what != What::Unread);
    }
    lines.sort_by(|one, other| by_gain(&one.advice, &other.advice));
    lines.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    ctx.reply_array(lines.len());
    lines.iter().for_each(|line| line.reply(ctx));
    Ok(())
}

fn of_type(type_id: u16) -> Vec<Line> {
    let (type_name, mut present) = cache::with(|s| (s.types.get(type_id).name.clone(), present(s, type_id)));
    follow::with(|all| {
        let now = all.now();
        let Some(of) = all.named_mut(type_id, &type_name) else { return Vec::new() };
        let curve = Curve::of(&of.estimator);
        present.busy_keys = curve.in_force.map_or(0.0, |(ttl_ms, _)| of.estimator.busy_keys(now, ttl_ms));
        let line = |advice: Advice| {
            let is_named = |tag| of.tags.iter().find(|(known, _)| *known == tag).map(|(_, name)| name.clone());
            let tag = match advice.what {
                What::Tag(tag) => Some(is_named(tag)?),
                _ => None,
            };
            Some(Line { type_name: type_name.clone(), advice, tag })
        };
        advise_on(&present, &curve, &of.estimator.evidence).into_iter().filter_map(line).collect()
    })
}

fn present(s: &Cache, type_id: u16) -> Present {
    let (policy, known) = (s.types.policy(type_id), s.types.get(type_id));
    Present {
        // Whichever ends entries first.
        max_ttl_ms: [policy.max_ttl_ms, policy.whole_life_ms].into_iter().filter(|ms| *ms > 0).min().unwrap_or(0),
        grace_ms: policy.grace_ms,
        early_percent: policy.early_percent,
        max_bytes: policy.max_bytes,
        warm: policy.warm,
        keeping: Keeping { codec: policy.codec, threshold: policy.threshold },
        payload_bytes: known.payload_bytes,
        busy_keys: 0.0,
    }
}

impl Line {
    fn reply(&self, ctx: &Ctx) {
        let Self { type_name, advice, tag } = self;
        ctx.map(&[
            ("type", Value::Bytes(type_name)),
            ("what", advice.what.name().into()),
            ("now", tag.as_deref().map_or(advice.now.as_str().into(), Value::Bytes)),
            ("to", advice.to.as_deref().into()),
            ("gain", advice.gain.into()),
            ("unit", advice.unit.name().into()),
            ("error", advice.error.into()),
            ("requests", (advice.requests as u64).into()),
            ("why", advice.why.as_str().into()),
        ]);
    }
}

/// Null for a type that is not known; nothing while too few reads were seen.
fn reply_curve(ctx: &Ctx, name: &[u8]) {
    let type_id = cache::with(|s| s.types.id(name).filter(|id| s.types.get(*id).is_in_use()));
    let Some(type_id) = type_id else { return ctx.reply_null() };
    let curve = follow::with(|all| all.named_mut(type_id, name).map(|of| Curve::of(&of.estimator)));
    let Some(curve) = curve.filter(|curve| curve.reads >= TELLING) else { return ctx.reply_array(0) };
    ctx.reply_array(TTLS);
    for point in &curve.points {
        ctx.reply_array(6);
        ctx.reply_count(point.ttl_ms);
        ctx.reply_double(point.hit_rate);
        ctx.reply_count(point.productions.round() as u64);
        ctx.reply_count(point.bytes.round() as u64);
        match point.stale_share {
            Some(share) => ctx.reply_double(share),
            None => ctx.reply_null(),
        }
        ctx.reply_double(point.error);
    }
}
