//! `EXPCACHE.META`: everything known of an entry but its payload.

use expcache_core::Result;
use expcache_core::grammar::etag_text;
use expcache_core::grammar::syntax::KEY;
use expcache_core::index::Bytes;

use super::look::{Look, ReadExpiry};
use crate::cache;
use crate::payloads::outgoing::{self, ReplyTo};
use crate::server::args::{Arg, Args};
use crate::server::clock;
use crate::server::command::{Keys, READS, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::Mode;
use crate::server::replies::{Replies, Value};

/// `EXPCACHE.META`, for the server.
pub const META: Row = Row {
    name: "expcache.meta",
    handler: command(meta),
    flags: "readonly",
    keys: Keys::First,
    key_flags: READS,
    arity: 2,
    summary: "Returns everything known of an entry but its payload. Counts as no use of it.",
    complexity: "O(T) for T tags; the client waits for the MD5 of a large payload that was just stored.",
    args: &[KEY],
    ..ROW
};

/// `EXPCACHE.META key`
pub fn meta(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    reply_meta(ctx, &mut ReplyTo::Caller, name)
}

fn reply_meta(ctx: &Ctx, client: &mut ReplyTo, name: Arg<'_>) -> Result<()> {
    let mut key = ctx.open(name, Mode::Peek);
    let Some(look) = Look::at(ctx, &mut key, ReadExpiry::Always)? else {
        client.replies(ctx).reply_null();
        return Ok(());
    };
    if outgoing::with_etag(ctx, client, name, look.entry, reply_meta) {
        return Ok(());
    }
    let etag = look.entry.etag();
    let entry = &*look.entry;
    let (extras, form) = (entry.extras(), entry.form());
    let bytes = Bytes { payload: form.size as u64, stored: entry.stored().len() as u64 };
    let (names, last_access_ms) = cache::with(|s| (s.names(ctx.db(), entry), clock::last_access_ms(entry)));
    let tags = |to: &Replies| {
        to.reply_array(names.tag_count());
        names.tags().for_each(|tag| to.reply_bytes(tag));
    };
    let to = client.replies(ctx);
    to.map(&[
        ("type", Value::Bytes(names.type_name())),
        ("format", extras.format.into()),
        ("records", extras.records.into()),
        ("size", bytes.payload.into()),
        ("stored", bytes.stored.into()),
        ("encoding", form.encoding.name().into()),
        ("etag", Value::Bytes(&etag_text(etag))),
        ("created", entry.created_ms().into()),
        ("age", look.age_ms().into()),
        ("ttl", look.fresh_left_ms.into()),
        ("grace", look.grace_ms.into()),
        ("state", if look.is_fresh() { "fresh" } else { "stale" }.into()),
        ("hits", Value::Count(entry.hits().into())),
        ("last-access", last_access_ms.into()),
        ("cost", extras.cost_ms.into()),
        ("tags", Value::With(&tags)),
        ("meta", extras.meta.into()),
        ("ratio", bytes.ratio().into()),
        ("born", entry.born_ms().into()),
    ]);
    Ok(())
}
