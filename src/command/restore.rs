//! `EXPCACHE.RESTORE`, the resolved form in which what is stored is replicated.

use expcache_core::entry::{Entry, Verdict};
use expcache_core::index::Arrival;
use expcache_core::policy::fresh_until_ms;
use expcache_core::types::DEFAULT_TYPE;
use expcache_core::{Error, Result, units};

use super::payload::digest;
use super::plan::{announce, has_ended, hold, put};
use crate::server::context::{Args, Ctx};
use crate::server::key::{Found, Mode};
use crate::server::{leases, reclaim, state, workers};

/// What a client claims in the place of a master is checked: an etag, a moment of storing, one more type.
fn distrust(entry: &mut Entry, now_ms: u64) -> Result<()> {
    let form = entry.form();
    if let Some(claimed) = entry.known_etag() {
        let found = workers::here(|coder| digest(coder, form.encoding, entry.stored(), form.size, |_chunk| ()));
        match found {
            Err(Error::TooLarge) => return Err(Error::BadEncoding),
            Err(error) => return Err(error),
            Ok((_, size)) if size != form.size => return Err(Error::BadEncoding),
            Ok((etag, _)) if etag != claimed => return Err(Error::HashMismatch),
            Ok(_) => (),
        }
    }
    entry.clamp_created_ms(now_ms);
    let type_name = entry.names().map(|names| names.type_name.clone()).unwrap_or_default();
    state::with(|s| s.types.has_room_for(&type_name, s.config.max_types))
}

/// `EXPCACHE.RESTORE key expire-at-ms metadata payload`: what `SET` comes to, with nothing left to decide. Replication and
/// the append-only file speak it; anybody may, and is believed as little as anybody.
pub fn restore(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let (name, expire_at, metadata_bytes, payload) = (args.need()?, args.need()?, args.need()?, args.need()?);
    args.end()?;
    let expire_at_ms = match units::parse_i64(expire_at.bytes())? {
        -1 => None,
        moment if moment > 0 => Some(moment),
        _ => return Err(Error::InvalidExpire("expcache.restore")),
    };
    let malformed = || Error::invalid("bad metadata, or a payload over 512 MB");
    let mut entry = Entry::decode(metadata_bytes.bytes(), hold(payload)).ok_or_else(malformed)?;
    let mut key = ctx.open(name, Mode::Write);
    if matches!(key.found(), Found::Foreign) {
        return Err(Error::WrongType);
    }
    let verdict = state::with(|s| s.verdict(ctx.db(), &entry));
    let (now_ms, claimed_ms) = (state::now_ms(), entry.created_ms());
    if ctx.decides() {
        distrust(&mut entry, now_ms)?;
    }
    entry.touch(state::with(|s| s.use_us()));
    if has_ended(ctx, now_ms, expire_at_ms) {
        drop(key);
        ctx.unlink(name);
    } else {
        let names = entry.take_names();
        let tags: Vec<&[u8]> = names.tags.iter().map(AsRef::as_ref).collect();
        let type_id = state::with(|s| s.types.know(&names.type_name)).unwrap_or(DEFAULT_TYPE);
        let fresh_until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
        let arrival = Arrival { type_id, fresh_until_ms, soft: names.soft };
        // What was not believed is not passed on either.
        let corrected = (entry.created_ms() != claimed_ms).then(|| entry.encode(&names.type_name, &tags, verdict));
        put(ctx, &mut key, entry, arrival, &tags, expire_at_ms)?;
        drop(key);
        if names.soft.is_some_and(|soft| soft.grace_ms.is_some()) && expire_at_ms.is_none() {
            state::with(|s| s.expect_expiry(name.bytes()));
        }
        match corrected {
            None => ctx.replicate_verbatim(),
            Some(metadata) => ctx.replicate_entry(name, expire_at_ms.unwrap_or(-1), &metadata, payload),
        }
        leases::stored(ctx, ctx.db(), name.bytes(), None);
        announce(ctx, name);
        if verdict != Verdict::Alive {
            reclaim::schedule(ctx);
        }
    }
    ctx.reply_ok();
    Ok(())
}
