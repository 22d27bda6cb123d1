//! `EXPCACHE.TOP`: the first entries of the database by hits, size, cost or time saved.

use expcache_core::grammar::top::TopOptions;
use expcache_core::stats::By;
use expcache_core::stats::ranking::TOP_MAX;
use expcache_core::{Result, grammar};

use crate::cache;
use crate::entries::look::{Look, ReadExpiry};
use crate::server::access::{Right, Rights};
use crate::server::args::{Args, Text};
use crate::server::clock;
use crate::server::command::{ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::Mode;
use crate::server::replies::Value;

/// How many are told of unless it is said.
const COUNT: u64 = 10;

type Name = Box<[u8]>;

/// What is said of one entry.
struct Line {
    key: Name,
    type_name: Name,
    hits: u64,
    size: u64,
    cost_ms: Option<u64>,
    touched_ms: u64,
}

/// `EXPCACHE.TOP`, for the server.
pub const TOP: Row = Row {
    name: "expcache.top",
    handler: command(top),
    flags: "readonly",
    arity: -1,
    summary: "Returns the first entries of the database by hits, size, cost or time saved.",
    complexity: "O(T) for T types.",
    tips: "nondeterministic_output request_policy:all_shards response_policy:special",
    args: grammar::top::TOP,
    ..ROW
};

/// `EXPCACHE.TOP [TYPE name] [BY hits|size|cost|saved] [COUNT n]`
pub fn top(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let TopOptions { type_name, by, count } = TopOptions::parse(args.words())?;
    let count = usize::try_from(count.unwrap_or(COUNT)).unwrap_or(TOP_MAX).min(TOP_MAX);
    let rights = ctx.rights();
    let ranked = ranked(ctx, by.unwrap_or(By::Hits), type_name).into_iter();
    let lines: Vec<Line> = ranked.filter_map(|(key, name)| line(ctx, &rights, key, name)).take(count).collect();
    ctx.reply_array(lines.len());
    lines.iter().for_each(|line| line.reply(ctx));
    Ok(())
}

/// The keys of the first entries, each with its type.
fn ranked(ctx: &Ctx, by: By, type_name: Option<&[u8]>) -> Vec<(Name, Name)> {
    cache::with(|s| {
        let type_id = type_name.map(|name| s.types.id(name));
        let Some(index) = s.index(ctx.db()).filter(|_| type_id != Some(None)) else { return Vec::new() };
        let named = |(id, type_id, _)| Some((index.key(id)?.into(), s.types.get(type_id).name.clone()));
        index.top(by, type_id.flatten()).into_iter().filter_map(named).collect()
    })
}

/// What there is to say of an entry, if it is there and the caller may see it.
fn line(ctx: &Ctx, rights: &Rights, key: Name, type_name: Name) -> Option<Line> {
    if !rights.allow(Right::Read, &key) {
        return None;
    }
    let name = Text::new(&key);
    let mut opened = ctx.open(name.arg(), Mode::Peek);
    let look = Look::at(ctx, &mut opened, ReadExpiry::Always).ok()??;
    let entry = &*look.entry;
    let (hits, size) = (entry.hits().into(), entry.size() as u64);
    let touched_ms = clock::last_access_ms(entry);
    Some(Line { key, type_name, hits, size, cost_ms: entry.cost_ms(), touched_ms })
}

impl Line {
    fn reply(&self, ctx: &Ctx) {
        ctx.map(&[
            ("key", Value::Bytes(&self.key)),
            ("type", Value::Bytes(&self.type_name)),
            ("hits", self.hits.into()),
            ("size", self.size.into()),
            ("cost", self.cost_ms.into()),
            ("last-access", self.touched_ms.into()),
        ]);
    }
}
