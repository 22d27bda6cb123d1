//! `EXPCACHE.GET` and `EXPCACHE.MGET`.

use expcache_core::codec::{Coder, Encoding};
use expcache_core::entry::{Entry, Form};
use expcache_core::grammar::syntax::KEY;
use expcache_core::{Error, Result};

use super::look::{Look, Miss, ReadExpiry, slide};
use crate::cache;
use crate::payloads::outgoing::{self, Outgoing, Part, ReplyTo, Weight};
use crate::server::args::{Arg, Args, Text};
use crate::server::command::{Keys, READS, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::key::{Found, Mode};
use crate::server::replies::Replies;
use crate::server::workers;

/// Replies with a key's payload when fresh, else null.
fn reply_fresh(ctx: &Ctx, name: Arg<'_>) -> Result<()> {
    let mut key = ctx.open(name, Mode::Read);
    let (payload, slides_to) = match Look::at(ctx, &mut key, ReadExpiry::WhenNeeded)?.filter(Look::is_fresh) {
        None => {
            Miss::of(ctx, &mut key).count(ctx, name.bytes());
            ctx.reply_null();
            return Ok(());
        }
        Some(mut look) => {
            let is_plain = is_plain(look.entry);
            if !is_plain {
                admit(ctx, &[look.entry.form()])?;
            }
            let slides_to = hit(ctx, &mut look);
            if is_plain {
                ctx.reply_bytes(look.entry.stored());
                (None, slides_to)
            } else {
                (Some((Outgoing::new(look.entry, Part::WHOLE), Part::WHOLE.cost(look.entry))), slides_to)
            }
        }
    };
    drop(key);
    slide(ctx, name, slides_to);
    if let Some((payload, cost)) = payload {
        hand_out(ctx, Shape::Single, vec![(name.bytes().into(), Some(payload))], cost)?;
    }
    Ok(())
}

fn hit(ctx: &Ctx, look: &mut Look<'_>) -> Option<i64> {
    let slides_to = cache::with(|s| {
        look.count_hit(s, true);
        look.slides_to(s)
    });
    look.tell(ctx);
    slides_to
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

/// A key and its payload, if that is fresh.
type Payload = (Box<[u8]>, Option<Outgoing>);

/// Refuses what is too much to be decoded by one command, of payloads that are kept like that.
fn admit(ctx: &Ctx, forms: &[Form]) -> Result<()> {
    let sizes = || forms.iter().map(|form| Part::WHOLE.decoded(*form));
    outgoing::admit(ctx, sizes().fold(0, usize::saturating_add), sizes().max().unwrap_or(0))
}

/// Replies with payloads that take as long as copying so many bytes.
fn hand_out(ctx: &Ctx, shape: Shape, payloads: Vec<Payload>, cost: u64) -> Result<()> {
    let mut client = ReplyTo::Caller;
    let db = ctx.db();
    let is_heavy = Weight::of(cost) == Weight::Heavy || !workers::has_time();
    match if is_heavy { client.block_for(ctx, cost)? } else { None } {
        Some(waiting) => waiting.work(cost, move |coder, waiting| {
            let broken = reply_payloads(waiting.replies(), coder, shape, payloads);
            if !broken.is_empty() {
                workers::run_on_main_when_writable(move |ctx| {
                    ctx.select(db);
                    remove(ctx, broken);
                });
            }
        }),
        None => {
            let broken = workers::run_here(|coder| reply_payloads(ctx, coder, shape, payloads));
            remove(ctx, broken);
        }
    }
    Ok(())
}

/// Replies, and returns what turned out to be broken, for which null was replied.
fn reply_payloads(to: &Replies, coder: &mut Coder, shape: Shape, payloads: Vec<Payload>) -> Vec<(Box<[u8]>, Outgoing)> {
    if shape == Shape::Array {
        to.reply_array(payloads.len());
    }
    let mut broken = Vec::new();
    for (key, payload) in payloads {
        match payload.as_ref().map(|payload| payload.bytes(coder)) {
            Some(Ok(bytes)) => to.reply_bytes(&bytes),
            Some(Err(Error::NoMemory)) => to.reply_error(&Error::NoMemory.reply()),
            None | Some(Err(_)) => {
                to.reply_null();
                broken.extend(payload.map(|payload| (key, payload)));
            }
        }
    }
    broken
}

fn remove(ctx: &Ctx, broken: Vec<(Box<[u8]>, Outgoing)>) {
    for (key, payload) in broken {
        let name = Text::new(&key);
        payload.remove_corrupt(ctx, name.arg(), true);
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
    reply_fresh(ctx, name)
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
            reply_fresh(ctx, name)?;
        }
        return Ok(());
    }
    admit(ctx, &encoded)?;
    let payloads = args.map(|name| Ok((name.bytes().into(), take(ctx, name)?))).collect::<Result<_>>()?;
    hand_out(ctx, Shape::Array, payloads, cost)
}

/// The payload of a key when fresh.
fn take(ctx: &Ctx, name: Arg<'_>) -> Result<Option<Outgoing>> {
    let mut key = ctx.open(name, Mode::Read);
    let taken = Look::at(ctx, &mut key, ReadExpiry::WhenNeeded)?.filter(Look::is_fresh).map(|mut look| {
        let slides_to = hit(ctx, &mut look);
        (Outgoing::new(look.entry, Part::WHOLE), slides_to)
    });
    let Some((payload, slides_to)) = taken else {
        Miss::of(ctx, &mut key).count(ctx, name.bytes());
        return Ok(None);
    };
    drop(key);
    slide(ctx, name, slides_to);
    Ok(Some(payload))
}
