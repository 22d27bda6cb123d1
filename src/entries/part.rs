//! `EXPCACHE.PART`: a payload that comes in pieces, and how they become one.
//!
//! The pieces stand in the record of their lease ([`crate::leases::pieces`]). To store them, a command takes them out of it; a worker
//! puts them together. If the store is then refused, they are put back: what the client may try again must not be less than
//! what it sent.

use expcache_core::codec::{Coder, Encoding, frame};
use expcache_core::entry::{Body, Etag, MAX_PAYLOAD};
use expcache_core::lease::Token;
use expcache_core::{Error, Result, grammar};

use crate::leases::pieces::{Encoded, Gathered, HOLD_FROM, PARTS_MEMORY, Pieces, taken};
use crate::payloads::settle::worth_keeping;
use crate::server::args::{Arg, Args};
use crate::server::command::{Keys, LEASES, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::held::Held;
use crate::server::joined::Hall;
use crate::server::key::{Found, Mode};
use crate::server::workers;
use crate::{cache, leases};

/// By how much copying is quicker than encoding.
pub const ENCODING: u64 = 64;

/// Which part of what came in pieces may be kept along with it.
const KEPT_ALONG: usize = 8;

/// What the server is told of it.
pub const PART: Row = Row {
    name: "expcache.part",
    handler: command(part),
    flags: "deny-oom fast",
    keys: Keys::First,
    key_flags: LEASES,
    arity: 4,
    summary: "Appends to what the holder of a lease is going to store; returns how many bytes that are.",
    complexity: "O(1), and the copy of the piece if it is small.",
    args: grammar::lease::PART,
    ..ROW
};

/// `EXPCACHE.PART key token chunk`
pub fn part(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let (name, token, chunk) = (args.need()?, args.need()?, args.need()?);
    if matches!(ctx.open(name, Mode::Peek).found(), Found::Foreign) {
        return Err(Error::WrongType);
    }
    let token = Token::parse(token.bytes()).ok_or(Error::LeaseLost)?;
    let bytes = chunk.bytes();
    let (held, is_stored) =
        leases::with_pieces(ctx, name.bytes(), token, |pieces| (pieces.size(), matches!(pieces, Pieces::Stored(_))))?;
    if is_stored {
        return Err(Error::BeingStored);
    }
    let (most, encoding) = wanted(name, held + bytes.len());
    if held + bytes.len() > most {
        return Err(Error::TooLarge);
    }
    let memory = PARTS_MEMORY.as_usize();
    if memory == 0 || taken().saturating_add(bytes.len()) > memory {
        return Err(Error::PartsFull);
    }
    if bytes.is_empty() {
        ctx.reply_count(held as u64);
        return Ok(());
    }
    let body = (bytes.len() >= HOLD_FROM).then(|| Body::new(Held::new(chunk)));
    let held = leases::with_pieces(ctx, name.bytes(), token, |pieces| {
        let mut gathered = match std::mem::take(pieces) {
            Pieces::Some(gathered) => gathered,
            Pieces::None | Pieces::Stored(_) => Box::default(),
        };
        match body {
            Some(body) => gathered.push(body),
            None => gathered.copy_in(bytes),
        }
        *pieces = Pieces::Some(gathered);
        pieces.size()
    })?;
    encode_next(ctx, name.bytes(), token, encoding);
    ctx.reply_count(held as u64);
    Ok(())
}

/// The most bytes that the type in a key's name allows, and how it wants so many to be encoded. What has to be looked into is encoded after
/// that.
fn wanted(name: Arg<'_>, bytes: usize) -> (usize, Encoding) {
    cache::with(|s| {
        let policy = s.types.policy(s.type_by_key(name.bytes()));
        let most = if policy.max_value == 0 { u64::MAX } else { policy.max_value };
        // Exports that are sent in pieces have a format, which nobody has told yet.
        let encoding = policy.encoding(bytes as u64, Some(b""));
        let encoding = if policy.validate { Encoding::Identity } else { encoding };
        (usize::try_from(most).unwrap_or(usize::MAX).min(MAX_PAYLOAD), encoding)
    })
}

/// Has a worker encode the next part, if as much has come, and so on.
fn encode_next(ctx: &Ctx, key: &[u8], token: Token, encoding: Encoding) {
    if encoding == Encoding::Identity || !workers::are_there() {
        return;
    }
    let next = leases::with_pieces(ctx, key, token, |pieces| match pieces {
        Pieces::Some(gathered) => gathered.next_part(encoding, false),
        Pieces::None | Pieces::Stored(_) => None,
    });
    let Ok(Some(part)) = next else { return };
    let (db, key, bytes) = (ctx.db(), Box::<[u8]>::from(key), part.bytes);
    workers::run_soon(bytes as u64 * ENCODING, move |coder| {
        let Some(done) = part.encode(coder, worth_keeping(bytes)) else { return };
        workers::run_on_main(move |ctx| {
            ctx.select(db);
            let put = leases::with_pieces(ctx, &key, token, |pieces| match pieces {
                Pieces::Some(gathered) => gathered.put(done),
                Pieces::None | Pieces::Stored(_) => (),
            });
            if put.is_ok() {
                encode_next(ctx, &key, token, encoding);
            }
        });
    });
}

// ---- pieces become a payload ----

/// How many bytes the holder of a lease has sent.
pub fn sent(ctx: &Ctx, key: &[u8], token: Token) -> Result<usize> {
    leases::with_pieces(ctx, key, token, |pieces| pieces.size())
}

/// Takes the pieces out of the record of their lease, to be stored. Nobody else may, until they are put back.
pub fn take(ctx: &Ctx, key: &[u8], token: Token) -> Result<Option<Box<Gathered>>> {
    leases::with_pieces(ctx, key, token, |pieces| match std::mem::take(pieces) {
        Pieces::None => Ok(None),
        Pieces::Some(mut gathered) => {
            *pieces = Pieces::Stored(gathered.size());
            gathered.detach();
            Ok(Some(gathered))
        }
        stored @ Pieces::Stored(_) => {
            *pieces = stored;
            Err(Error::BeingStored)
        }
    })?
}

/// Is the lease another than that whose pieces were taken, though its token is the same?
pub fn is_another(ctx: &Ctx, key: &[u8], token: Token) -> bool {
    leases::with_pieces(ctx, key, token, |pieces| !matches!(pieces, Pieces::Stored(_))) == Ok(true)
}

/// Puts pieces back whose store was refused, if their lease is still held. Else they go.
pub fn put_back(ctx: &Ctx, key: &[u8], token: Token, gathered: Box<Gathered>) {
    let _ = leases::with_pieces(ctx, key, token, |pieces| {
        if let Pieces::Stored(_) = pieces {
            *pieces = Pieces::Some(gathered);
        }
    });
}

/// A payload that was put together.
pub struct Assembled {
    body: Body,
    /// How it is encoded.
    pub encoding: Encoding,
    /// How many bytes it has, before it was encoded.
    pub size: usize,
    /// Its MD5, where it is encoded.
    pub etag: Option<Etag>,
    /// How many bytes of it came in pieces.
    pieces_len: usize,
    /// What the pieces took counts as long as this is there.
    counted: Box<Gathered>,
}

/// There is no memory to put them together. They are as they were, or gone.
pub struct NotAssembled(pub Option<Box<Gathered>>);

/// Puts pieces together, and a last one behind them. What was encoded as it came is `kept` so, and the rest is encoded; or it is undone.
pub fn assemble(
    coder: &mut Coder,
    mut gathered: Box<Gathered>,
    last: &[u8],
    kept: bool,
) -> std::result::Result<Assembled, NotAssembled> {
    let pieces_len = gathered.size();
    let size = pieces_len + last.len();
    let of = |(body, encoding, etag), counted| Assembled { body, encoding, size, etag, pieces_len, counted };
    let mut last = last;
    if kept && gathered.rest_len() < pieces_len {
        gathered.copy_in(last);
        last = &[];
        while let Some(part) = gathered.next_part(Encoding::Identity, true) {
            let Some(done) = part.encode(coder, usize::MAX) else { break };
            gathered.put(done);
        }
        if gathered.rest_len() == 0
            && let Some(encoded) = gathered.take_encoded()
        {
            let made = match joined(encoded, worth_keeping(size)) {
                Err(Some(encoded)) => whole(coder, Some(encoded), &mut gathered, last, (size, pieces_len))?,
                made => made.map_err(|_| NotAssembled(None))?,
            };
            return Ok(of(made, gathered));
        }
    }
    let encoded = gathered.take_encoded();
    let made = whole(coder, encoded, &mut gathered, last, (size, pieces_len))?;
    Ok(of(made, gathered))
}

/// A payload, how it is encoded, and its MD5 where it is.
type Made = (Body, Encoding, Option<Etag>);

/// Encoded parts as one stream, if it is of no more than `most` bytes; else the parts. Nothing is left if there is no memory.
fn joined(encoded: Box<Encoded>, most: usize) -> std::result::Result<Made, Option<Box<Encoded>>> {
    let Some((head, tail)) = frame(encoded.encoding, &encoded.parts) else { return Err(Some(encoded)) };
    let bytes = head.len() + encoded.parts.iter().map(|part| part.bytes.len()).sum::<usize>() + tail.len();
    if bytes > most {
        return Err(Some(encoded));
    }
    let Some(mut hall) = Hall::new(bytes) else { return Err(None) };
    let mut is_there = hall.push(&head);
    for part in encoded.parts {
        is_there &= hall.push(&part.bytes);
    }
    is_there &= hall.push(&tail);
    match hall.into_block() {
        Ok(block) if is_there => Ok((Body::new(block), encoded.encoding, Some(encoded.hasher.finish()))),
        _ => Err(None),
    }
}

/// All of it as it came.
fn whole(
    coder: &mut Coder,
    encoded: Option<Box<Encoded>>,
    gathered: &mut Gathered,
    last: &[u8],
    (size, pieces_len): (usize, usize),
) -> std::result::Result<Made, NotAssembled> {
    let Some(mut hall) = Hall::new(size) else { return Err(NotAssembled(None)) };
    let mut is_there = match encoded {
        None => true,
        Some(encoded) => decoded(coder, *encoded).is_some_and(|bytes| hall.push(&bytes)),
    };
    while let Some(rest) = gathered.next_rest() {
        is_there &= hall.push(rest.as_ref());
    }
    is_there &= hall.push(last);
    if !is_there {
        return Err(NotAssembled(None));
    }
    match hall.into_block() {
        Ok(block) => Ok((Body::new(block), Encoding::Identity, None)),
        Err(hall) => Err(NotAssembled(Some(Box::new(Gathered::of(first_of(hall, pieces_len)))))),
    }
}

/// What encoded parts were made of.
fn decoded(coder: &mut Coder, encoded: Encoded) -> Option<Vec<u8>> {
    let (head, tail) = frame(encoded.encoding, &encoded.parts)?;
    let mut stream = head;
    for part in encoded.parts {
        stream.try_reserve(part.bytes.len() + tail.len()).ok()?;
        stream.extend_from_slice(&part.bytes);
    }
    stream.extend_from_slice(&tail);
    coder.decode(encoded.encoding, &stream, encoded.size).ok()
}

/// The first bytes of something.
struct First<B> {
    of: B,
    len: usize,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for First<B> {
    fn as_ref(&self) -> &[u8] {
        self.of.as_ref().get(..self.len).unwrap_or_default()
    }
}

fn first_of(of: impl AsRef<[u8]> + Send + Sync + 'static, len: usize) -> Body {
    Body::new(First { of, len })
}

impl Assembled {
    /// The payload, as it is kept.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The store was refused: what came in pieces goes back to its lease.
    pub fn put_back(self, ctx: &Ctx, key: &[u8], token: Token) {
        let Self { body, encoding, size, pieces_len, counted, .. } = self;
        // What came with the command counts as nobody's memory, so little of it may be kept along.
        let is_mostly_pieces = size - pieces_len <= pieces_len / KEPT_ALONG;
        if encoding == Encoding::Identity && is_mostly_pieces {
            return put_back(ctx, key, token, Box::new(Gathered::of(first_of(body, pieces_len))));
        }
        let (db, key) = (ctx.db(), Box::<[u8]>::from(key));
        let cost = size as u64 * if encoding == Encoding::Identity { 1 } else { ENCODING };
        workers::run_soon(cost, move |coder| {
            let pieces = match encoding {
                Encoding::Identity => body.get(..pieces_len).and_then(Body::copy_of),
                _ => coder.decode(encoding, &body, size).ok().map(|mut payload| {
                    payload.truncate(pieces_len);
                    Body::new(payload.into_boxed_slice())
                }),
            };
            workers::run_on_main(move |ctx| {
                drop(counted);
                ctx.select(db);
                match pieces {
                    Some(pieces) => put_back(ctx, &key, token, Box::new(Gathered::of(pieces))),
                    // Else the next try would store less than what was sent.
                    None => leases::lost(ctx, db, &key),
                }
            });
        });
    }
}
