//! `EXPCACHE.GET`, `EXPCACHE.MGET`, `EXPCACHE.META`.

use expcache_core::{Error, Result};

use super::look::{Dated, Look, slide};
use super::parse;
use crate::server::context::{Arg, Args, Ctx};
use crate::server::key::{Found, Mode};
use crate::server::state;

/// Replies with a key's payload when fresh, else null.
fn reply_fresh(ctx: &Ctx, name: Arg<'_>) -> Result<()> {
    let mut key = ctx.open(name, Mode::Read);
    let slides_to = match Look::at(ctx, &mut key, Dated::IfItDecides)? {
        Some(mut look) if look.is_fresh() => {
            let slides_to = state::with(|s| {
                look.count_hit(s, true);
                look.slides_to(s)
            });
            ctx.reply_bytes(look.entry.payload());
            slides_to
        }
        _ => {
            state::with(|s| s.count_by_key(name.bytes(), |counters| counters.misses += 1));
            ctx.reply_null();
            None
        }
    };
    drop(key);
    slide(ctx, name, slides_to);
    Ok(())
}

/// `EXPCACHE.GET key`
pub fn get(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    reply_fresh(ctx, name)
}

/// `EXPCACHE.MGET key [key …]`
pub fn mget(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    // Errors come before the first element.
    for name in args {
        if matches!(ctx.open(name, Mode::Peek).found(), Found::Foreign) {
            return Err(Error::WrongType);
        }
    }
    ctx.reply_array(args.len());
    for name in args {
        reply_fresh(ctx, name)?;
    }
    Ok(())
}

/// A value of a map: something, or null.
pub enum Value<'v> {
    /// Any bytes.
    Bytes(Option<&'v [u8]>),
    /// A number of something.
    Count(Option<u64>),
    /// A number that may be negative.
    Signed(Option<i64>),
}

/// One field of a map.
pub fn field(ctx: &Ctx, name: &str, value: Value<'_>) {
    ctx.reply_bytes(name.as_bytes());
    match value {
        Value::Bytes(Some(bytes)) => ctx.reply_bytes(bytes),
        Value::Count(Some(count)) => ctx.reply_count(count),
        Value::Signed(Some(number)) => ctx.reply_integer(number),
        Value::Bytes(None) | Value::Count(None) | Value::Signed(None) => ctx.reply_null(),
    }
}

/// `EXPCACHE.META key`
pub fn meta(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    let mut key = ctx.open(name, Mode::Peek);
    let Some(look) = Look::at(ctx, &mut key, Dated::Always)? else {
        ctx.reply_null();
        return Ok(());
    };
    let etag = look.entry.etag();
    let entry = &*look.entry;
    let extras = entry.extras();
    let names = state::with(|s| s.names(ctx.db(), entry));
    ctx.reply_map(17);
    field(ctx, "type", Value::Bytes(Some(&names.type_name)));
    field(ctx, "format", Value::Bytes(extras.format));
    field(ctx, "records", Value::Count(extras.records));
    field(ctx, "size", Value::Count(Some(entry.payload().len() as u64)));
    field(ctx, "stored", Value::Count(Some(entry.stored_len() as u64)));
    field(ctx, "encoding", Value::Bytes(Some(b"identity")));
    field(ctx, "etag", Value::Bytes(Some(&parse::etag_text(etag))));
    field(ctx, "created", Value::Count(Some(entry.created_ms())));
    field(ctx, "age", Value::Count(Some(look.age_ms())));
    field(ctx, "ttl", Value::Signed(look.fresh_left_ms));
    field(ctx, "grace", Value::Count(Some(look.grace_ms)));
    field(ctx, "state", Value::Bytes(Some(if look.is_fresh() { b"fresh" } else { b"stale" })));
    field(ctx, "hits", Value::Count(Some(entry.hits().into())));
    field(ctx, "last-access", Value::Count(Some(entry.touched_us() / 1000)));
    field(ctx, "cost", Value::Count(extras.cost_ms));
    ctx.reply_bytes(b"tags");
    ctx.reply_array(names.tags.len());
    names.tags.iter().for_each(|tag| ctx.reply_bytes(tag));
    field(ctx, "meta", Value::Bytes(extras.meta));
    Ok(())
}
