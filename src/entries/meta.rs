//! `EXPCACHE.META`: everything known of an entry but its payload.

use expcache_core::Result;
use expcache_core::grammar::etag_text;
use expcache_core::grammar::syntax::KEY;
use expcache_core::index::Bytes;

use super::look::{Dated, Look};
use crate::cache;
use crate::payloads::outgoing::{self, Client};
use crate::server::args::{Arg, Args};
use crate::server::clock;
use crate::server::command::{Keys, READS, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::Mode;
use crate::server::replies::{Value, field};

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
    reply_meta(ctx, &mut Client::Running, name)
}

fn reply_meta(ctx: &Ctx, client: &mut Client, name: Arg<'_>) -> Result<()> {
    let mut key = ctx.open(name, Mode::Peek);
    let Some(look) = Look::at(ctx, &mut key, Dated::Always)? else {
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
    let to = client.replies(ctx);
    to.reply_map(18);
    field(to, "type", Value::Bytes(Some(&names.type_name)));
    field(to, "format", Value::Bytes(extras.format));
    field(to, "records", Value::Count(extras.records));
    field(to, "size", Value::Count(Some(bytes.payload)));
    field(to, "stored", Value::Count(Some(bytes.stored)));
    field(to, "encoding", Value::Bytes(Some(form.encoding.name().as_bytes())));
    field(to, "etag", Value::Bytes(Some(&etag_text(etag))));
    field(to, "created", Value::Count(Some(entry.created_ms())));
    field(to, "age", Value::Count(Some(look.age_ms())));
    field(to, "ttl", Value::Signed(look.fresh_left_ms));
    field(to, "grace", Value::Count(Some(look.grace_ms)));
    field(to, "state", Value::Bytes(Some(if look.is_fresh() { b"fresh" } else { b"stale" })));
    field(to, "hits", Value::Count(Some(entry.hits().into())));
    field(to, "last-access", Value::Count(Some(last_access_ms)));
    field(to, "cost", Value::Count(extras.cost_ms));
    to.reply_bytes(b"tags");
    to.reply_array(names.tags.len());
    names.tags.iter().for_each(|tag| to.reply_bytes(tag));
    field(to, "meta", Value::Bytes(extras.meta));
    field(to, "ratio", Value::Ratio(bytes.ratio()));
    Ok(())
}
