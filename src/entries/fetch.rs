//! `EXPCACHE.FETCH`: the full read protocol.
//!
//! A client that waits for another's production is blocked, and its `FETCH` runs again when the waiting is over: then it is
//! answered whatever there is. What is large is computed and sent by a worker, from what the main thread decided.

use expcache_core::early::is_due_early;
use expcache_core::entry::{Etag, Form};
use expcache_core::grammar::fetch::{Accepted, FetchOptions, Field, Fields};
use expcache_core::grammar::{self, etag};
use expcache_core::lease::{Named, Token, Wish};
use expcache_core::policy::Audit;
use expcache_core::{Error, Result};

use super::look::{Look, MISS, Miss, ReadExpiry, slide};
use super::reader::{KeptReader, NAME, ReadRecord, Reader, note, note_found};
use super::reply::{Attempt, Outcome, ReplyFields, Status, reply_miss};
use crate::audit::{Caller, Recorded};
use crate::cache::{self, Cache};
use crate::leases::{self, Offer, Resume};
use crate::payloads::outgoing::{self, Outgoing, Part, Portion, ReplyTo, Weight};
use crate::server::args::{Arg, Args, Text};
use crate::server::blocked::OnEnd;
use crate::server::command::{Keys, READS, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::deferred::DeferredReply;
use crate::server::key::{Found, Mode};
use crate::server::{at_once, clock, workers};

/// What is asked for, kept while the client waits: see [`FetchOptions`].
#[derive(Clone, Copy)]
struct Fetch {
    lease_ms: Option<u64>,
    token: Option<Token>,
    wait_ms: Option<u64>,
    accept: Option<Accepted>,
    if_none_match: Option<Etag>,
    range: Option<(u64, u64)>,
    max_age_ms: Option<u64>,
    verify: Option<()>,
    fields: Fields,
}

impl From<&FetchOptions<'_>> for Fetch {
    fn from(options: &FetchOptions<'_>) -> Self {
        let FetchOptions {
            lease_ms,
            token,
            wait_ms,
            accept,
            if_none_match,
            range,
            max_age_ms,
            verify,
            fields,
            note: _,
        } = *options;
        let (token, if_none_match) = (token.and_then(Token::parse), if_none_match.and_then(etag));
        let fields = fields.unwrap_or(Fields::ALL);
        Self { lease_ms, token, wait_ms, accept, if_none_match, range, max_age_ms, verify, fields }
    }
}

impl Attempt {
    /// There is a fresh value: a lease that the client may have got while it waited is given up.
    fn needs_none(self, ctx: &Ctx, name: Arg<'_>) -> Offer {
        if let Self::Last { lease: Some(token), .. } = self {
            leases::release(ctx, name.bytes(), token, 0, Named::default());
        }
        Offer::default()
    }
}

/// `EXPCACHE.FETCH`, for the server.
pub const FETCH: Row = Row {
    name: NAME,
    handler: command(fetch),
    flags: "readonly",
    keys: Keys::First,
    key_flags: READS,
    arity: -2,
    summary: "Returns an entry with what is known of it: its state, payload or part of it, etag, type and age.",
    complexity: "O(1) on the main thread; large payloads are hashed, decoded and sent by a worker.",
    args: grammar::fetch::FETCH,
    ..ROW
};

/// `EXPCACHE.FETCH`: see [`Fetch`].
pub fn fetch(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    run(ctx, args, Attempt::First)
}

fn run(ctx: &Ctx, mut args: Args<'_>, attempt: Attempt) -> Result<()> {
    let name = args.need()?;
    let options = FetchOptions::parse(args.words())?;
    let reader = Reader { note: options.note, caller: None };
    Fetch::from(&options).run(ctx, &mut ReplyTo::Caller, name, attempt, reader)
}

/// A client that waits for a key's value.
struct WaitingFetch {
    fetch: Fetch,
    note: Option<Box<[u8]>>,
    wish: Option<Wish>,
    key: Box<[u8]>,
    client: u64,
}

impl WaitingFetch {
    // What it may do can have changed while it waited, and where the key is; nobody checks that but us.
    fn check(&self, ctx: &Ctx, name: Arg<'_>) -> Result<()> {
        if !ctx.client_may_run(self.client, &[b"EXPCACHE.FETCH", name.bytes()]) {
            return Err(Error::NoPermission);
        }
        ctx.check_node(name)
    }

    fn last(&self, lease: Option<Token>) -> Attempt {
        Attempt::Last { client: self.client, lease }
    }
}

static WAITING: OnEnd = OnEnd { gone: leases::gone, unblocked: Some(unblocked) };

/// It need not wait any longer: it is answered as if its time were up.
fn unblocked(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    run(ctx, args, Attempt::Last { client: ctx.client(), lease: None })
}

impl Resume for WaitingFetch {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn wish(&self) -> Option<Wish> {
        self.wish
    }

    fn is_heavy(&self, ctx: &Ctx) -> bool {
        let name = Text::new(&self.key);
        match ctx.open(name.arg(), Mode::Peek).found() {
            Found::Entry(entry) => {
                let part = Part { portion: self.fetch.portion(entry.form()), verify: None };
                let (sends, needs_etag) = (self.fetch.wants(Field::Value), self.fetch.needs_etag());
                sends && part.weight(entry) == Weight::Heavy || needs_etag && outgoing::is_etag_heavy(entry)
            }
            Found::Missing | Found::Foreign => false,
        }
    }

    fn answer(&self, ctx: &Ctx, mut args: Args<'_>, lease: Option<Token>) -> Result<()> {
        let name = args.need()?;
        self.check(ctx, name)?;
        let reader = Reader { note: self.note.as_deref(), caller: None };
        self.fetch.run(ctx, &mut ReplyTo::Caller, name, self.last(lease), reader)
    }

    fn answer_aside(&self, ctx: &Ctx, waiting: DeferredReply, lease: Option<Token>) -> bool {
        outgoing::answer(ctx, waiting, &self.key, |ctx, client, name| {
            self.check(ctx, name)?;
            let caller = Caller::of_client(ctx, self.client);
            let reader = Reader { note: self.note.as_deref(), caller: Some(&caller) };
            self.fetch.run(ctx, client, name, self.last(lease), reader)
        })
    }
}

impl Fetch {
    fn wants(&self, field: Field) -> bool {
        self.fields.has(field)
    }

    /// Does the reply tell the MD5 of the payload, or depend on it?
    fn needs_etag(&self) -> bool {
        self.wants(Field::Etag) || self.if_none_match.is_some() || self.verify.is_some()
    }

    /// When to look up the key's expiry, and the exact time.
    fn dated(&self) -> ReadExpiry {
        let tells = self.wants(Field::Ttl) || self.wants(Field::Age);
        if tells || self.lease_ms.is_some() || self.max_age_ms.is_some() {
            ReadExpiry::Always
        } else {
            ReadExpiry::WhenNeeded
        }
    }

    /// The lease, if it is asked for, as this client's.
    fn wish(&self, ctx: &Ctx, client: u64) -> Option<Wish> {
        let duration_ms = self.lease_ms?;
        let token = self.token.unwrap_or_else(leases::new_token);
        Some(Wish { token, duration_ms, owner: leases::owner(ctx, client) })
    }

    fn run(&self, ctx: &Ctx, client: &mut ReplyTo, name: Arg<'_>, attempt: Attempt, reader: Reader<'_>) -> Result<()> {
        let mut key = ctx.open(name, Mode::Read);
        let Some(mut look) = Look::at(ctx, &mut key, self.dated())? else {
            let miss = Miss::of(ctx, &mut key);
            drop(key);
            self.miss(ctx, client, name, attempt, &miss, reader);
            return Ok(());
        };
        if self.needs_etag() && outgoing::is_etag_heavy(look.entry) {
            let (fetch, kept) = (*self, reader.keep(ctx));
            let again = move |ctx: &Ctx, client: &mut ReplyTo, name: Arg<'_>| {
                fetch.run(ctx, client, name, attempt, kept.reader())
            };
            if outgoing::with_etag(ctx, client, name, look.entry, again) {
                return Ok(());
            }
        }
        let etag = self.needs_etag().then(|| look.entry.etag());
        let status = self.status(&look, etag);
        let (form, kept) = (look.entry.form(), look.entry.stored().len());
        if self.sends(status) {
            let decoded = Part { portion: self.portion(form), verify: None }.decoded(form);
            outgoing::admit(ctx, decoded, decoded)?;
        }
        if self.verify.is_some() {
            at_once::admit(ctx, form.size.max(kept) * at_once::CHECKING)?;
        }
        let type_id = look.entry.type_id();
        let (due, slides_to) = cache::with(|s| {
            let due = status == Status::Stale || self.lease_ms.is_some() && is_due(s, &look);
            look.count_hit(s, status != Status::Stale);
            (due, if status == Status::Stale { None } else { look.slides_to(s) })
        });
        look.tell(ctx);
        let mut offer = if due { self.offer(ctx, name, attempt, Some(type_id)) } else { attempt.needs_none(ctx, name) };
        if status != Status::Stale {
            offer.retry_ms = None;
        }
        let outcome = Outcome { status, etag, offer, attempt };
        let broken = self.reply_found(ctx, client, name, &look, &outcome, reader)?;
        drop(key);
        match broken {
            Some(broken) => self.broken(ctx, client, name, &broken, &outcome, reader),
            None => slide(ctx, name, slides_to),
        }
        Ok(())
    }

    /// What is kept of the payload is not what was stored: it goes, and is a miss.
    fn broken(
        &self,
        ctx: &Ctx,
        client: &ReplyTo,
        name: Arg<'_>,
        broken: &Outgoing,
        outcome: &Outcome,
        reader: Reader<'_>,
    ) {
        broken.remove_corrupt(ctx, name, outcome.status != Status::Stale);
        let miss = Miss::of(ctx, &mut ctx.open(name, Mode::Peek));
        // Removing it ended the lease that came with it, if there was one.
        let holds = |token| leases::production_ms(ctx, name.bytes(), token).is_ok();
        if outcome.offer.lease.is_some_and(holds) {
            self.tell_miss(ctx, client, name, outcome.offer, &miss, reader);
        } else {
            self.miss(ctx, client, name, outcome.attempt, &miss, reader);
        }
    }

    /// There is nothing: the client is told so, unless it waits for another that produces it.
    fn miss(&self, ctx: &Ctx, client: &ReplyTo, name: Arg<'_>, attempt: Attempt, miss: &Miss, reader: Reader<'_>) {
        let offer = self.offer(ctx, name, attempt, None);
        if let (ReplyTo::Caller, Attempt::First, Some(wait_ms @ 1..), true) =
            (client, attempt, self.wait_ms, offer.is_held)
        {
            let client = ctx.client();
            let wish = self.wish(ctx, client).filter(|_| leases::may_hold(ctx, client, name.bytes()));
            let waiter = WaitingFetch {
                fetch: *self,
                note: reader.note.map(Into::into),
                wish,
                key: name.bytes().into(),
                client,
            };
            if leases::wait(ctx, &WAITING, waiter, wait_ms) {
                return cache::with(|s| s.count_by_key(name.bytes(), |counters| counters.waits += 1));
            }
        }
        self.tell_miss(ctx, client, name, offer, miss, reader);
    }

    fn tell_miss(&self, ctx: &Ctx, client: &ReplyTo, name: Arg<'_>, offer: Offer, miss: &Miss, reader: Reader<'_>) {
        let recorded = miss.count(ctx, name.bytes());
        reply_miss(client.replies(ctx), &self.fields, offer);
        note(ctx, recorded.as_ref(), name.bytes(), MISS, None, reader);
    }

    /// The key's lease: the reader's own, if it asked for it and nobody holds it.
    fn offer(&self, ctx: &Ctx, name: Arg<'_>, attempt: Attempt, type_id: Option<u16>) -> Offer {
        let wish = self.holder(ctx, name, attempt).and_then(|client| self.wish(ctx, client));
        let offer = match attempt {
            // Unless it was lost again before it could be told.
            Attempt::Last { lease: Some(token), .. } if leases::production_ms(ctx, name.bytes(), token).is_ok() => {
                self.inherit(ctx, name, token, wish)
            }
            // What it waited for may have been stored and be gone again: then it asks as anybody does.
            Attempt::First | Attempt::Last { .. } => leases::offer(ctx, name, wish),
        };
        if offer.is_new {
            cache::with(|s| {
                let type_id = type_id.unwrap_or_else(|| s.type_by_key(name.bytes()));
                s.count(type_id, |counters| counters.leases += 1);
            });
        }
        offer
    }

    /// The client, if it may be given a lease.
    fn holder(&self, ctx: &Ctx, name: Arg<'_>, attempt: Attempt) -> Option<u64> {
        let client = match attempt {
            _ if self.lease_ms.is_none() => return None,
            Attempt::First if ctx.may_lease() => ctx.client(),
            Attempt::Last { client, .. } if ctx.is_master() => client,
            Attempt::First | Attempt::Last { .. } => return None,
        };
        leases::may_hold(ctx, client, name.bytes()).then_some(client)
    }

    /// The lease that the client got while it waited; if it may not have it any more, it is given up.
    fn inherit(&self, ctx: &Ctx, name: Arg<'_>, token: Token, wish: Option<Wish>) -> Offer {
        let may_hold = wish.is_some_and(|wish| leases::is_within_share(ctx, wish.owner));
        if may_hold && ctx.accepts_writes() {
            return Offer { lease: Some(token), is_new: true, ..Offer::default() };
        }
        leases::release(ctx, name.bytes(), token, 0, Named::default());
        leases::offer(ctx, name, None)
    }

    fn status(&self, look: &Look<'_>, etag: Option<Etag>) -> Status {
        let too_old = self.max_age_ms.is_some_and(|most| look.is_older_than(most));
        let same = self.if_none_match.is_some() && self.if_none_match == etag;
        match (look.is_fresh() && !too_old, same) {
            (true, true) => Status::NotModified,
            (true, false) => Status::Hit,
            (false, _) => Status::Stale,
        }
    }

    /// Does a reply of this status bring the payload?
    fn sends(&self, status: Status) -> bool {
        status != Status::NotModified && self.wants(Field::Value)
    }

    /// What is handed out of a payload that is kept like that.
    fn portion(&self, form: Form) -> Portion {
        match (self.range, self.accept) {
            (Some((offset, length)), _) => Portion::Range(offset, length),
            (None, Some(accepted)) if accepted.contains(form.encoding) => Portion::AsKept,
            (None, _) => Portion::Whole,
        }
    }

    /// Replies, or has a worker do it; hands back what turned out to be broken.
    fn reply_found(
        &self,
        ctx: &Ctx,
        client: &mut ReplyTo,
        name: Arg<'_>,
        look: &Look<'_>,
        outcome: &Outcome,
        reader: Reader<'_>,
    ) -> Result<Option<Outgoing>> {
        let form = look.entry.form();
        let sends = self.sends(outcome.status);
        let part = Part { portion: self.portion(form), verify: outcome.etag.filter(|_| self.verify.is_some()) };
        let (fields, recorded) = cache::with(|s| {
            let fields = ReplyFields::new(s, look, self.fields, part.encoding(form));
            (fields, Recorded::of(s, look.entry.type_id(), Audit::All))
        });
        let size = if sends { part.payload_len(form) } else { 0 };
        let read = recorded.map(|recorded| ReadRecord { recorded, status: outcome.status, size });
        let is_nothing = !sends && part.verify.is_none();
        let weight = if is_nothing { Weight::Light } else { part.weight(look.entry) };
        if weight == Weight::Heavy {
            let cost = part.cost(look.entry);
            if let Some(waiting) = client.block_for(ctx, cost)? {
                let (outgoing, kept) = (Outgoing::new(look.entry, part), reader.keep(ctx));
                let (outcome, fields) = (*outcome, fields.into_owned());
                let reply = AsideReply { fetch: *self, outcome, fields, outgoing, read, reader: kept };
                reply.make(ctx, waiting, name, cost);
                return Ok(None);
            }
        }
        let (replies, stored) = (client.replies(ctx), look.entry.stored());
        if is_nothing {
            fields.reply(replies, outcome, None);
        } else if let Some(kept) = part.kept(stored, form).filter(|_| weight == Weight::Light) {
            fields.reply(replies, outcome, Some(kept));
        } else {
            match workers::run_here(|coder| part.of(coder, stored, form)) {
                Ok(value) => fields.reply(replies, outcome, sends.then_some(&value)),
                Err(Error::NoMemory) => return Err(Error::NoMemory),
                Err(_) => return Ok(Some(Outgoing::new(look.entry, part))),
            }
        }
        note_found(ctx, read.as_ref(), name.bytes(), reader);
        Ok(None)
    }
}

/// A reply that a worker makes.
struct AsideReply {
    fetch: Fetch,
    outcome: Outcome,
    fields: ReplyFields<'static>,
    outgoing: Outgoing,
    read: Option<ReadRecord>,
    reader: KeptReader,
}

impl AsideReply {
    fn make(self, ctx: &Ctx, waiting: DeferredReply, name: Arg<'_>, cost: u64) {
        let (db, key) = (ctx.db(), name.bytes().to_vec());
        waiting.work(cost, move |coder, waiting| match self.outgoing.bytes(coder) {
            Ok(value) => {
                let sends = self.fetch.sends(self.outcome.status);
                self.fields.reply(waiting.replies(), &self.outcome, sends.then_some(&value));
                drop(value);
                if self.read.is_some() {
                    workers::run_on_main(move |ctx| {
                        note_found(ctx, self.read.as_ref(), &key, self.reader.reader());
                        // What a client has read is on record before it asks for more.
                        drop(waiting);
                    });
                }
            }
            Err(Error::NoMemory) => waiting.replies().reply_error(&Error::NoMemory.reply()),
            Err(_) => workers::run_on_main_when_writable(move |ctx| {
                ctx.select(db);
                outgoing::answer(ctx, waiting, &key, |ctx, client, name| {
                    let Self { fetch, outcome, outgoing, reader, .. } = self;
                    fetch.broken(ctx, client, name, &outgoing, &outcome, reader.reader());
                    Ok(())
                });
            }),
        });
    }
}

/// Is a fresh entry to be refreshed by this reader already?
fn is_due(s: &mut Cache, look: &Look<'_>) -> bool {
    let early_percent = s.types.policy(look.entry.type_id()).early_percent;
    let Some(left_ms) = look.fresh_left_ms.filter(|_| early_percent > 0) else { return false };
    let (lifetime_ms, cost_ms) = (look.entry.lifetime_ms(), look.entry.cost_ms());
    is_due_early(early_percent, lifetime_ms, left_ms.unsigned_abs(), cost_ms, clock::random())
}
