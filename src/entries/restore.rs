//! `EXPCACHE.RESTORE`, the resolved form in which what is stored is replicated.
//!
//! What a client says of a payload is looked at as for `SET`: of what is large by a worker, while the client waits.

use expcache_core::audit::Action;
use expcache_core::codec::{Coder, Encoding};
use expcache_core::entry::{Entry, Etag, Form, Verdict};
use expcache_core::grammar::Tags;
use expcache_core::grammar::syntax::{KEY, integer, text};
use expcache_core::index::Placement;
use expcache_core::policy::{Audit, fresh_until_ms};
use expcache_core::types::DEFAULT_TYPE;
use expcache_core::{Error, Result, units};

use super::store::{Timing, announce, has_ended, hold, put};
use crate::audit::{self, Caller, Recorded};
use crate::invalidation::reclaim;
use crate::payloads::outgoing::{COPYING, ReplyTo, Weight, digest, may_decode_to};
use crate::server::args::{Arg, Args};
use crate::server::command::{Keys, OVERWRITES, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::deferred::DeferredReply;
use crate::server::held::HeldArgs;
use crate::server::key::{Found, Mode};
use crate::server::{at_once, clock, workers};
use crate::types::lifetime;
use crate::types::policies::MAX_TYPES;
use crate::{cache, leases, warming};

/// What `RESTORE` was given, and comes to.
struct Request<'a> {
    name: Arg<'a>,
    expire_at_ms: Option<i64>,
    metadata: &'a [u8],
    payload: Arg<'a>,
    /// When it was stored, as is said.
    claimed_ms: u64,
    entry: Box<Entry>,
}

impl<'a> Request<'a> {
    fn parse(mut args: Args<'a>) -> Result<Self> {
        let (name, expire_at, metadata, payload) = (args.need()?, args.need()?, args.need()?.bytes(), args.need()?);
        args.end()?;
        let expire_at_ms = match units::parse_i64(expire_at.bytes())? {
            -1 => None,
            moment if moment > 0 => Some(moment),
            _ => return Err(Error::InvalidExpire("expcache.restore")),
        };
        let malformed = || Error::invalid("bad metadata, or a payload over 512 MB");
        let entry = Entry::decode(metadata, hold(payload)).ok_or_else(malformed)?;
        Ok(Self { name, expire_at_ms, metadata, payload, claimed_ms: entry.created_ms(), entry })
    }

    /// The payload among the words of the command.
    fn payload(mut args: Args<'a>) -> Result<Arg<'a>> {
        args.split_off(3)?;
        args.need()
    }

    fn refuse_foreign(&self, ctx: &Ctx) -> Result<()> {
        let is_foreign = matches!(ctx.open(self.name, Mode::Peek).found(), Found::Foreign);
        if is_foreign { Err(Error::WrongType) } else { Ok(()) }
    }

    /// Looking at the payload, if its MD5 is claimed.
    fn claim(&self) -> Option<Claim> {
        self.entry.known_etag().map(|etag| Claim { etag, form: self.entry.form() })
    }

    /// What a client claims in the place of a master, besides the payload: a moment of storing, one more type.
    fn distrust(&mut self, now_ms: u64) -> Result<()> {
        self.entry.clamp_created_ms(now_ms);
        let type_name = self.entry.names().map(|names| names.type_name().to_vec()).unwrap_or_default();
        cache::with(|s| s.types.has_room_for(&type_name, MAX_TYPES.as_usize()))
    }
}

/// What is said of a payload.
#[derive(Clone, Copy)]
struct Claim {
    etag: Etag,
    form: Form,
}

impl Claim {
    /// How many bytes could be copied while so many are looked at.
    fn cost(self, stored: &[u8]) -> u64 {
        self.size(stored) as u64 * COPYING
    }

    /// How many bytes are looked at.
    fn size(self, stored: &[u8]) -> usize {
        self.form.size.max(stored.len())
    }

    /// Refuses what is not to be decoded at all.
    fn admit(self, stored: &[u8]) -> Result<()> {
        let may = self.form.encoding == Encoding::Identity || self.form.size <= may_decode_to(stored.len());
        if may { Ok(()) } else { Err(Error::Expands) }
    }

    fn check(self, coder: &mut Coder, stored: &[u8]) -> Result<()> {
        match digest(coder, self.form.encoding, stored, self.form.size, |_chunk| ()) {
            Err(Error::TooLarge) => Err(Error::BadEncoding),
            Err(error) => Err(error),
            Ok((_, size)) if size != self.form.size => Err(Error::BadEncoding),
            Ok((etag, _)) if etag != self.etag => Err(Error::HashMismatch),
            Ok(_) => Ok(()),
        }
    }
}

/// `EXPCACHE.RESTORE`, for the server.
pub const RESTORE: Row = Row {
    name: "expcache.restore",
    handler: command(restore),
    flags: "write deny-oom",
    keys: Keys::First,
    key_flags: OVERWRITES,
    arity: 5,
    summary: "Stores an entry in its resolved form. Replication and the append-only file use it.",
    complexity: "O(T) for T tags, and the copy of the payload.",
    args: &[KEY, integer("expire-at-milliseconds"), text("metadata"), text("payload")],
    ..ROW
};

/// `EXPCACHE.RESTORE key expire-at-ms metadata payload`: what `SET` comes to, with nothing left to decide. Replication and
/// the append-only file speak it; anybody may, and is believed as little as anybody.
pub fn restore(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let mut request = Request::parse(args)?;
    request.refuse_foreign(ctx)?;
    if ctx.decides() {
        if let Some(claim) = request.claim() {
            claim.admit(request.payload.bytes())?;
            at_once::admit(ctx, claim.size(request.payload.bytes()) * at_once::CHECKING)?;
            if check_aside(ctx, claim, &request, args)? {
                return Ok(());
            }
            workers::run_here(|coder| claim.check(coder, request.payload.bytes()))?;
        }
        request.distrust(clock::unix_ms())?;
    }
    store(ctx, request, Timing::InCommand, None)?;
    ctx.reply_ok();
    Ok(())
}

/// Has a worker look at the payload, if the main thread would feel it and the client can wait.
fn check_aside(ctx: &Ctx, claim: Claim, request: &Request<'_>, args: Args<'_>) -> Result<bool> {
    let cost = claim.cost(request.payload.bytes());
    if Weight::of(cost) == Weight::Light && workers::has_time() {
        return Ok(false);
    }
    let Some(waiting) = ReplyTo::Caller.block_for(ctx, cost)? else { return Ok(false) };
    let (held, db, caller) = (HeldArgs::new(args), ctx.db(), audit::caller(ctx));
    waiting.work(cost, move |coder, waiting| {
        let checked = Request::payload(held.args()).and_then(|payload| claim.check(coder, payload.bytes()));
        workers::run_on_main_when_writable(move |ctx| finish(ctx, db, caller, held, checked, waiting));
    });
    Ok(true)
}

/// Stores what a worker has looked at, and answers the client.
fn finish(ctx: &Ctx, db: i32, caller: Option<Caller>, held: HeldArgs, checked: Result<()>, waiting: DeferredReply) {
    ctx.select(db);
    let stored = checked.and_then(|()| {
        let mut request = Request::parse(held.args())?;
        if !ctx.is_master() {
            return Err(Error::Unblocked);
        }
        if !ctx.serves(request.name) {
            return Err(Error::SlotMoved);
        }
        request.refuse_foreign(ctx)?;
        request.distrust(clock::unix_ms())?;
        store(ctx, request, Timing::AfterWait, caller.as_ref())
    });
    match stored {
        Ok(()) => waiting.replies().reply_ok(),
        Err(error) => waiting.replies().reply_error(&error.reply()),
    }
    // The client lets its words go before we do.
    drop(waiting);
}

fn store(ctx: &Ctx, request: Request<'_>, timing: Timing, caller: Option<&Caller>) -> Result<()> {
    let Request { name, expire_at_ms, metadata, payload, claimed_ms, mut entry } = request;
    let mut key = ctx.open(name, Mode::Write);
    let verdict = cache::with(|s| s.verdict(ctx.db(), &entry));
    let (size, names) = (entry.size() as u64, entry.take_names());
    entry.touch(clock::use_us());
    let tags: Tags<'_> = names.tags().collect();
    if has_ended(ctx, clock::unix_ms(), expire_at_ms) {
        drop(key);
        ctx.unlink(name);
    } else {
        let type_id = cache::with(|s| s.types.know(names.type_name())).unwrap_or(DEFAULT_TYPE);
        let fresh_until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
        let placement = Placement { type_id, fresh_until_ms, soft: names.soft };
        // What was not believed is not passed on either.
        let corrected = (entry.created_ms() != claimed_ms).then(|| entry.encode(names.type_name(), &tags, verdict));
        put(ctx, &mut key, entry, placement, &tags, expire_at_ms)?;
        drop(key);
        if names.soft.is_some_and(|soft| soft.grace_ms.is_some()) && expire_at_ms.is_none() {
            cache::with(|s| s.expect_expiry(name.bytes()));
        }
        match (timing, corrected) {
            (Timing::InCommand, None) => ctx.replicate_verbatim(),
            (_, corrected) => {
                let metadata = corrected.as_deref().unwrap_or(metadata);
                ctx.replicate_entry(name, expire_at_ms.unwrap_or(-1), metadata, payload);
            }
        }
        lifetime::look_after(ctx, name);
        warming::arrived(ctx, name);
        leases::stored(ctx, ctx.db(), name.bytes(), None);
        announce(ctx, name);
        if verdict != Verdict::Alive {
            reclaim::schedule(ctx);
        }
    }
    if let Some(recorded) = Recorded::by_name(Some(names.type_name()), name.bytes(), Audit::Changes) {
        let (type_name, key, size) = (Some(recorded.name()), Some(name.bytes()), Some(size));
        let action = Action { command: RESTORE.name, type_name, key, tags: &tags, size, ..audit::OK };
        match timing {
            Timing::InCommand => audit::note(ctx, &action),
            Timing::AfterWait => caller.into_iter().for_each(|caller| audit::note_by(ctx, caller, &action)),
        }
    }
    Ok(())
}
