//! `EXPCACHE.GET` and `EXPCACHE.MGET`.

use expcache_core::audit::Action;
use expcache_core::codec::{Coder, Encoding};
use expcache_core::entry::{Entry, Form};
use expcache_core::grammar::syntax::KEY;
use expcache_core::policy::Audit;
use expcache_core::{Error, Result};

use super::look::{HIT, Look, MISS, Miss, ReadExpiry, slide};
use crate::audit::{self, Caller, Recorded};
use crate::cache;
use crate::payloads::outgoing::{self, Outgoing, Part, ReplyTo, Weight};
use crate::server::args::{Arg, Args, Text};
use crate::server::command::{Keys, READS, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::server::replies::Replies;
use crate::server::workers;

/// Replies with a key's payload when fresh, else null.
fn reply_fresh(ctx: &Ctx, name: Arg<'_>, command: &'static str) -> Result<()> {
    let mut key = ctx.open(name, Mode::Read);
    let Some(mut look) = Look::at(ctx, &mut key, ReadExpiry::WhenNeeded)?.filter(Look::is_fresh) else {
        let recorded = Miss::of(ctx, &mut key).count(ctx, name.bytes());
        ctx.reply_null();
        note(ctx, None, command, name.bytes(), recorded.as_ref(), None);
        return Ok(());
    };
    let is_plain = is_plain(look.entry);
    if !is_plain {
        admit(ctx, &[look.entry.form()])?;
    }
    let Hit { slides_to, recorded } = hit(ctx, &mut look);
    let size = look.entry.size();
    if is_plain {
        ctx.reply_bytes(look.entry.stored());
        drop(key);
        slide(ctx, name, slides_to);
        note(ctx, None, command, name.bytes(), recorded.as_ref(), Some(size));
        return Ok(());
    }
    let (payload, cost) = (Some(Outgoing::new(look.entry, Part::WHOLE)), Part::WHOLE.cost(look.entry));
    drop(key);
    slide(ctx, name, slides_to);
    let taken = Taken { key: name.bytes().into(), payload, size, recorded, is_broken: false };
    hand_out(ctx, Shape::Single, command, vec![taken], cost)
}

/// What a hit brings.
struct Hit {
    slides_to: Option<i64>,
    /// The type, if its reads are put on record.
    recorded: Option<Recorded>,
}

fn hit(ctx: &Ctx, look: &mut Look<'_>) -> Hit {
    let hit = cache::with(|s| {
        look.count_hit(s, true);
        Hit { slides_to: look.slides_to(s), recorded: Recorded::of(s, look.entry.type_id(), Audit::All) }
    });
    look.tell(ctx);
    hit
}

/// Puts a read on record, if its type's reads are: of so many bytes, or of nothing.
fn note(
    ctx: &Ctx,
    caller: Option<&Caller>,
    command: &'static str,
    key: &[u8],
    recorded: Option<&Recorded>,
    size: Option<usize>,
) {
    if let Some(recorded) = recorded {
        let (type_name, key, result) = (Some(recorded.name()), Some(key), if size.is_some() { HIT } else { MISS });
        let size = size.map(|size| size as u64);
        audit::note_read(ctx, caller, &Action { command, type_name, key, size, result, ..audit::OK });
    }
}

/// May the main thread hand out what is kept, just as it is kept?
fn is_plain(entry: &Entry) -> bool {
    entry.form().encoding == Encoding::Identity && Part::WHOLE.weight(entry) == Weight::Light
}

/// What the payloads are told in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// There is one.
    Single,
    /// An array of them.
    Array,
}

/// A key that is read.
struct Taken {
    key: Box<[u8]>,
    /// Its payload, if that is fresh.
    payload: Option<Outgoing>,
    size: usize,
    /// The type, if its reads are put on record.
    recorded: Option<Recorded>,
    /// The payload turned out to be none, and null was replied.
    is_broken: bool,
}

/// Refuses what is too much to be decoded by one command, of payloads that are kept like that.
fn admit(ctx: &Ctx, forms: &[Form]) -> Result<()> {
    let sizes = || forms.iter().map(|form| Part::WHOLE.decoded(*form));
    outgoing::admit(ctx, sizes().fold(0, usize::saturating_add), sizes().max().unwrap_or(0))
}

/// Replies with payloads that take as long as copying so many bytes.
fn hand_out(ctx: &Ctx, shape: Shape, command: &'static str, mut taken: Vec<Taken>, cost: u64) -> Result<()> {
    let mut client = ReplyTo::Caller;
    let db = ctx.db();
    let is_heavy = Weight::of(cost) == Weight::Heavy || !workers::has_time();
    let Some(waiting) = (if is_heavy { client.block_for(ctx, cost)? } else { None }) else {
        workers::run_here(|coder| reply_payloads(ctx, coder, shape, &mut taken));
        note_all(ctx, None, command, &taken);
        remove_broken(ctx, taken);
        return Ok(());
    };
    let caller = taken.iter().any(|one| one.recorded.is_some()).then(|| Caller::of(ctx));
    waiting.work(cost, move |coder, waiting| {
        reply_payloads(waiting.replies(), coder, shape, &mut taken);
        let is_broken = taken.iter().any(|one| one.is_broken);
        if caller.is_none() && !is_broken {
            return;
        }
        workers::run_on_main(move |ctx| {
            note_all(ctx, caller.as_ref(), command, &taken);
            // What a client has read is on record before it asks for more.
            drop(waiting);
            if is_broken {
                workers::run_on_main_when_writable(move |ctx| {
                    ctx.select(db);
                    remove_broken(ctx, taken);
                });
            }
        });
    });
    Ok(())
}

/// Replies, with null for what is not there or turns out to be broken.
fn reply_payloads(to: &Replies, coder: &mut Coder, shape: Shape, taken: &mut [Taken]) {
    if shape == Shape::Array {
        to.reply_array(taken.len());
    }
    for one in taken {
        match one.payload.as_ref().map(|payload| payload.bytes(coder)) {
            Some(Ok(bytes)) => to.reply_bytes(&bytes),
            Some(Err(Error::NoMemory)) => {
                to.reply_error(&Error::NoMemory.reply());
                one.recorded = None;
            }
            None => to.reply_null(),
            Some(Err(_)) => {
                to.reply_null();
                one.is_broken = true;
            }
        }
    }
}

fn note_all(ctx: &Ctx, caller: Option<&Caller>, command: &'static str, taken: &[Taken]) {
    for Taken { key, payload, size, recorded, is_broken } in taken {
        let size = Some(*size).filter(|_| payload.is_some() && !is_broken);
        note(ctx, caller, command, key, recorded.as_ref(), size);
    }
}

fn remove_broken(ctx: &Ctx, taken: Vec<Taken>) {
    for Taken { key, payload, .. } in taken.into_iter().filter(|one| one.is_broken) {
        let name = Text::new(&key);
        payload.iter().for_each(|payload| payload.remove_corrupt(ctx, name.arg(), true));
        Miss::of(ctx, &mut ctx.open(name.arg(), Mode::Peek)).count(ctx, &key);
    }
}

/// `EXPCACHE.GET`, for the server.
pub const GET: Row = Row {
    name: "expcache.get",
    handler: command(get),
    flags: "readonly fast",
    keys: Keys::First,
    key_flags: READS,
    arity: 2,
    summary: "Returns the payload of a fresh entry.",
    args: &[KEY],
    ..ROW
};

/// `EXPCACHE.GET key`
pub fn get(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?;
    reply_fresh(ctx, name, GET.name)
}

/// `EXPCACHE.MGET`, for the server.
pub const MGET: Row = Row {
    name: "expcache.mget",
    handler: command(mget),
    flags: "readonly fast",
    keys: Keys::All,
    key_flags: READS,
    arity: -2,
    summary: "Returns the payloads of fresh entries, null for each other key.",
    complexity: "O(N) for N keys.",
    tips: "request_policy:multi_shard",
    args: &[KEY.multiple()],
    ..ROW
};

/// `EXPCACHE.MGET key [key …]`
pub fn mget(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    // Errors come before the first element.
    let (mut all_plain, mut cost, mut encoded) = (true, 0, Vec::new());
    for name in args {
        match ctx.open(name, Mode::Peek).found() {
            Found::Missing => (),
            Found::Foreign => return Err(Error::WrongType),
            Found::Entry(entry) => {
                all_plain &= is_plain(entry);
                encoded.extend(Some(entry.form()).filter(|form| form.encoding != Encoding::Identity));
                cost += Part::WHOLE.cost(entry);
            }
        }
    }
    if all_plain && Weight::of(cost) == Weight::Light {
        ctx.reply_array(args.len());
        for name in args {
            reply_fresh(ctx, name, MGET.name)?;
        }
        return Ok(());
    }
    admit(ctx, &encoded)?;
    let taken = args.map(|name| take(ctx, name)).collect::<Result<_>>()?;
    hand_out(ctx, Shape::Array, MGET.name, taken, cost)
}

/// A key and its payload, if that is fresh.
fn take(ctx: &Ctx, name: Arg<'_>) -> Result<Taken> {
    let mut key = ctx.open(name, Mode::Read);
    let of = |payload, size, recorded| Taken { key: name.bytes().into(), payload, size, recorded, is_broken: false };
    let Some(mut look) = Look::at(ctx, &mut key, ReadExpiry::WhenNeeded)?.filter(Look::is_fresh) else {
        let recorded = Miss::of(ctx, &mut key).count(ctx, name.bytes());
        return Ok(of(None, 0, recorded));
    };
    let Hit { slides_to, recorded } = hit(ctx, &mut look);
    let taken = of(Some(Outgoing::new(look.entry, Part::WHOLE)), look.entry.size(), recorded);
    drop(key);
    slide(ctx, name, slides_to);
    Ok(taken)
}
