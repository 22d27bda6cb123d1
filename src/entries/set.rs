//! `EXPCACHE.SET` and `EXPCACHE.MSET`.
//!
//! What takes time to check (`HASH`, `ENCODING`, `VALIDATE`) is checked first, of large payloads by a worker while the client waits.
//! Then everything is stored in one go, on the main thread, and only then is it decided whether it may be: by the conditions,
//! lease and fences of that moment.

use expcache_core::audit::Action;
use expcache_core::codec::{Coder, Encoding};
use expcache_core::entry::{MAX_PAYLOAD, etag_of};
use expcache_core::grammar::set::{SetOptions, Verb};
use expcache_core::grammar::{self, number};
use expcache_core::policy::Audit;
use expcache_core::types::DEFAULT_TYPE;
use expcache_core::{Error, Result};
use smallvec::{SmallVec, smallvec};

use super::part::{self, Assembled, NotAssembled};
use super::store::{Plan, Timing};
use crate::audit::{self, Caller, Recorded};
use crate::cache::{self, Cache};
use crate::leases;
use crate::leases::pieces::Gathered;
use crate::payloads::claims::{Checked, Claims};
use crate::payloads::outgoing::{self, COPYING, OFFLOAD_READ_SIZE, OFFLOAD_WRITE_SIZE, ReplyTo, fits};
use crate::server::args::{Arg, Args};
use crate::server::command::{Keys, OVERWRITES, ROW, Row, command};
use crate::server::context::Ctx;
use crate::server::deferred::DeferredReply;
use crate::server::held::HeldArgs;
use crate::server::key::{Found, Mode};
use crate::server::replies::Replies;
use crate::server::{at_once, workers};
use crate::types::per_tag;

/// Something for each key: mostly there is one.
type Each<T> = SmallVec<[T; 1]>;

/// `EXPCACHE.SET`, for the server.
pub const SET: Row = Row {
    name: "expcache.set",
    handler: command(set),
    flags: "write deny-oom fast",
    keys: Keys::First,
    key_flags: OVERWRITES,
    arity: -3,
    summary: "Stores an entry, replacing everything about the one that may be there.",
    complexity: "O(T) for T tags, and the copy of the payload.",
    args: grammar::set::SET,
    ..ROW
};

/// `EXPCACHE.SET key value [options]`
pub fn set(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    Request::parse(args, Verb::Set)?.run(ctx, args)
}

/// `EXPCACHE.MSET`, for the server.
pub const MSET: Row = Row {
    name: "expcache.mset",
    handler: command(mset),
    flags: "write deny-oom",
    keys: Keys::CountedPairs,
    key_flags: OVERWRITES,
    arity: -4,
    summary: "Stores several entries with the same options, all or none.",
    complexity: "O(N*T) for N keys and T tags, and the copy of the payloads.",
    tips: "request_policy:multi_shard response_policy:all_succeeded",
    args: grammar::set::MSET,
    ..ROW
};

/// `EXPCACHE.MSET numkeys key value [key value …] [options]`
pub fn mset(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    if ctx.asks_for_keys() {
        let numkeys = numkeys(&mut args).unwrap_or(0);
        (0..numkeys).for_each(|pair| ctx.declare_overwritten_key(2 + 2 * pair));
        return Ok(());
    }
    Request::parse(args, Verb::Mset)?.run(ctx, args)
}

/// How many keys there are: no more than there are words for.
fn numkeys(args: &mut Args<'_>) -> Result<usize> {
    let numkeys = number(args.need()?.bytes())?;
    let numkeys = usize::try_from(numkeys).ok().filter(|n| *n > 0 && *n <= args.len() / 2);
    numkeys.ok_or(Error::invalid("invalid numkeys value"))
}

/// The keys and their payloads.
fn pairs<'a>(args: &mut Args<'a>, verb: Verb) -> Result<Each<(Arg<'a>, Arg<'a>)>> {
    Ok(match verb {
        Verb::Set => smallvec![(args.need()?, args.need()?)],
        Verb::Mset => {
            let count = numkeys(args)?;
            let mut words = args.split_off(count * 2)?;
            std::iter::from_fn(|| words.next().zip(words.next())).collect()
        }
    })
}

/// What a client wants stored.
struct Request<'a> {
    verb: Verb,
    pairs: Each<(Arg<'a>, Arg<'a>)>,
    options: SetOptions<'a>,
}

impl<'a> Request<'a> {
    fn parse(mut args: Args<'a>, verb: Verb) -> Result<Self> {
        let pairs = pairs(&mut args, verb)?;
        Ok(Self { verb, pairs, options: SetOptions::parse(args.words(), verb)? })
    }

    fn run(mut self, ctx: &Ctx, args: Args<'a>) -> Result<()> {
        if self.waits_for_etag(ctx, args) {
            return Ok(());
        }
        if let Some(pieces) = self.take_pieces(ctx)? {
            return self.run_with(pieces, ctx, args);
        }
        let bytes: usize = self.pairs.iter().map(|(_, payload)| payload.bytes().len()).sum();
        let is_much = bytes as u64 >= OFFLOAD_WRITE_SIZE.get();
        // Of one payload what is much is encoded later, of several each may be little.
        let are_many = is_much && self.pairs.len() > 1;
        // Mostly nothing is said of the payload, and no policy need be asked what that means.
        let claims = if !are_many && self.options.say_nothing_of_payloads() { Each::new() } else { self.claims(ctx) };
        let encodes = are_many && claims.iter().any(Claims::are_to_encode) && ctx.may_block();
        if !encodes && claims.iter().all(Claims::are_plain) {
            let checked: Each<Checked> =
                self.pairs.iter().map(|(_, payload)| Checked::plain(payload.bytes())).collect();
            return reply(ctx, self.store_noted(ctx, &checked, Timing::InCommand, None));
        }
        // Who will be refused anyway is refused before the work is done.
        self.refuse_foreign(ctx)?;
        self.claim_lease(ctx)?;
        let light = OFFLOAD_READ_SIZE.as_usize();
        let is_heavy = is_much
            || !self.says_it_is_within(&claims, light)
            || !workers::has_time()
            || ctx.may_block() && !self.is_within(&claims, light);
        if let Some(waiting) = if is_heavy { DeferredReply::new(ctx) } else { None } {
            self.check_aside(ctx, claims, HeldArgs::new(args), waiting, audit::caller(ctx));
            return Ok(());
        }
        let mut left = at_once::left(ctx);
        if left == 0 {
            return Err(self.refuse(Error::TooMuchAtOnce));
        }
        let checked = workers::run_here(|coder| {
            let mut check = |claims: &Claims, payload: Arg<'_>| claims.check_here(coder, payload.bytes(), &mut left);
            let both = claims.iter().zip(&self.pairs);
            both.map(|(claims, (_, payload))| check(claims, *payload)).collect::<Result<Each<_>>>()
        });
        let stored = checked
            .map_err(|refused| self.refuse(refused))
            .and_then(|of| self.store_noted(ctx, &of, Timing::InCommand, None));
        reply(ctx, stored)
    }

    /// `IFMATCH` compares with an MD5 that may still have to be computed: then the client waits for that.
    fn waits_for_etag(&self, ctx: &Ctx, args: Args<'a>) -> bool {
        let (Some(_), Some((name, _))) = (self.options.if_match(), self.pairs.first()) else {
            return false;
        };
        let mut key = ctx.open(*name, Mode::Peek);
        let Found::Entry(entry) = key.found() else { return false };
        if !outgoing::is_etag_heavy(entry) {
            return false;
        }
        let (verb, held, caller) = (self.verb, HeldArgs::new(args), audit::caller(ctx));
        outgoing::with_etag(ctx, &mut ReplyTo::Caller, *name, entry, move |ctx, client, _name| {
            let mut request = Request::parse(held.args(), verb)?;
            let Some(waiting) = client.block(ctx) else { return Ok(()) };
            match request.take_pieces(ctx) {
                Ok(Some(pieces)) => request.assemble_aside(ctx, pieces, HeldArgs::new(held.args()), waiting, caller),
                Ok(None) => request.check_aside(ctx, request.claims(ctx), HeldArgs::new(held.args()), waiting, caller),
                Err(refused) => waiting.replies().reply_error(&refused.reply()),
            }
            Ok(())
        })
    }

    /// Does it say that it decodes to no more than so many bytes? What says nothing is not tried.
    fn says_it_is_within(&self, claims: &[Claims], most: usize) -> bool {
        let mut both = claims.iter().zip(&self.pairs).map(|(claims, (_, payload))| claims.said_size(payload.bytes()));
        both.try_fold(0, |sum: usize, said| sum.checked_add(said?)).is_some_and(|sum| sum <= most)
    }

    /// Does all of it decode to no more than so many bytes? Found out on the main thread.
    fn is_within(&self, claims: &[Claims], mut most: usize) -> bool {
        workers::run_here(|coder| {
            let mut both = claims.iter().zip(&self.pairs);
            both.all(|(claims, (_, payload))| claims.are_within(coder, payload.bytes(), &mut most))
        })
    }

    /// Has a worker check it; it is stored after that.
    fn check_aside(
        &self,
        ctx: &Ctx,
        claims: Each<Claims>,
        held: HeldArgs,
        waiting: DeferredReply,
        caller: Option<Caller>,
    ) {
        let bytes: usize = self.pairs.iter().map(|(_, payload)| payload.bytes().len()).sum();
        let home = Home { db: ctx.db(), is_master: ctx.is_master(), caller };
        Errand { home, verb: self.verb, claims, held }.send(bytes, waiting);
    }

    // ---- a payload that came in pieces ----

    /// The pieces that were sent under the lease, if they are to be stored and there are any.
    fn take_pieces(&mut self, ctx: &Ctx) -> Result<Option<Box<Gathered>>> {
        let (Some(()), Some(token), Some((name, value))) =
            (self.options.parts, self.options.token(), self.pairs.first().copied())
        else {
            return Ok(None);
        };
        self.refuse_foreign(ctx)?;
        let sent = part::sent(ctx, name.bytes(), token)?;
        if sent + value.bytes().len() > MAX_PAYLOAD {
            return Err(self.refuse(Error::TooLarge));
        }
        if !ctx.may_block() && sent > 0 && sent + value.bytes().len() > at_once::left(ctx) {
            return Err(self.refuse(Error::TooMuchAtOnce));
        }
        self.claim_lease(ctx)?;
        part::take(ctx, name.bytes(), token)
    }

    /// Puts the pieces together and stores the payload.
    fn run_with(&mut self, pieces: Box<Gathered>, ctx: &Ctx, args: Args<'a>) -> Result<()> {
        if let Some(waiting) = DeferredReply::new(ctx) {
            self.assemble_aside(ctx, pieces, HeldArgs::new(args), waiting, audit::caller(ctx));
            return Ok(());
        }
        let Some((claims, keeps)) = self.claims_of_pieces(ctx, &pieces) else { return Err(Error::Syntax) };
        let last = self.pairs.first().map_or(&[][..], |(_, value)| value.bytes());
        let most = at_once::left(ctx) / claims.weight();
        workers::charge((pieces.size() + last.len()) * claims.weight());
        // What is left is encoded later, unless it is little.
        let keeps = keeps && pieces.rest_len() + last.len() <= OFFLOAD_READ_SIZE.as_usize();
        let done = workers::run_here(|coder| check_pieces(coder, pieces, last, keeps, &claims, most));
        reply(ctx, self.store_pieces(ctx, done, audit::caller(ctx).as_ref()))
    }

    /// Has a worker put the pieces together; the payload is stored after that.
    fn assemble_aside(
        &self,
        ctx: &Ctx,
        pieces: Box<Gathered>,
        held: HeldArgs,
        waiting: DeferredReply,
        caller: Option<Caller>,
    ) {
        let Some((claims, keeps)) = self.claims_of_pieces(ctx, &pieces) else { return };
        let home = Home { db: ctx.db(), is_master: ctx.is_master(), caller };
        let last = self.pairs.first().map_or(0, |(_, value)| value.bytes().len());
        // What they decode to is looked at too.
        let read = if claims.are_plain() { 0 } else { claims.bound().min(MAX_PAYLOAD) }.max(pieces.size() + last);
        let encoded = if keeps { pieces.rest_len() + last } else { 0 };
        let cost = read as u64 * COPYING + encoded as u64 * part::ENCODING;
        waiting.work(cost, move |coder, waiting| {
            let mut words = held.args();
            let last = words.nth(1).map_or(&[][..], Arg::bytes);
            let done = check_pieces(coder, pieces, last, keeps, &claims, usize::MAX);
            workers::run_on_main_when_writable(move |ctx| {
                finish(ctx, home, Verb::Set, held, waiting, |ctx, request, stands, caller| match stands {
                    Ok(()) => request.store_pieces(ctx, done, caller),
                    Err(refused) => {
                        request.put_back(ctx, done.0);
                        Err(refused)
                    }
                });
            });
        });
    }

    /// What is said of the whole payload, and whether it is stored as it was encoded as it came.
    fn claims_of_pieces(&self, ctx: &Ctx, pieces: &Gathered) -> Option<(Claims, bool)> {
        let (name, value) = self.pairs.first()?;
        let size = pieces.size() + value.bytes().len();
        let (claims, encoding) = cache::with(|s| {
            let policy = s.types.policy(self.type_of(s, *name));
            (Claims::new(&self.options, policy, size), policy.encoding(size as u64, self.options.format))
        });
        // A large last one is not copied for that.
        let is_mostly_pieces = value.bytes().len() <= pieces.size();
        let may_be = is_mostly_pieces && claims.may_be_encoded_before();
        let keeps = encoding != Encoding::Identity && may_be && fits(ctx, size);
        Some((claims, keeps))
    }

    /// Stores a payload that was put together, or puts its pieces back.
    fn store_pieces(&mut self, ctx: &Ctx, (assembled, checked): Whole, caller: Option<&Caller>) -> Result<Option<()>> {
        let is_another = self.pairs.first().zip(self.options.token());
        let is_another = is_another.is_some_and(|((name, _), token)| part::is_another(ctx, name.bytes(), token));
        let stored = match checked {
            // Its holder gave the first one up, and invalidations since then were before the second.
            _ if is_another => Err(Error::LeaseLost),
            // What is replicated is the payload, and not that it came in pieces.
            Ok(checked) => self.store_noted(ctx, std::slice::from_ref(&checked), Timing::AfterWait, caller),
            Err(refused) => Err(self.refuse(refused)),
        };
        if stored != Ok(Some(())) {
            self.put_back(ctx, assembled);
        }
        stored
    }

    /// What was to be stored is not: the pieces go back to their lease. If they are gone, so is the lease: the next try would store less
    /// than what was sent.
    fn put_back(&self, ctx: &Ctx, assembled: std::result::Result<Assembled, NotAssembled>) {
        let (Some(token), Some((name, _))) = (self.options.token(), self.pairs.first()) else { return };
        match assembled {
            Ok(whole) => whole.put_back(ctx, name.bytes(), token),
            Err(NotAssembled(Some(pieces))) => part::put_back(ctx, name.bytes(), token, pieces),
            Err(NotAssembled(None)) => leases::lost(ctx, ctx.db(), name.bytes()),
        }
    }

    /// The type that is named, or else the one in the key's name.
    fn type_of(&self, s: &Cache, name: Arg<'_>) -> u16 {
        match self.options.type_name {
            Some(name) => s.types.id(name).unwrap_or(DEFAULT_TYPE),
            None => s.type_by_key(name.bytes()),
        }
    }

    fn claims(&self, ctx: &Ctx) -> Each<Claims> {
        let is_decided = ctx.is_handed_on();
        cache::with(|s| {
            let new = |(name, payload): &(Arg<'_>, Arg<'_>)| {
                let policy = s.types.policy(self.type_of(s, *name));
                let claims = Claims::new(&self.options, policy, payload.bytes().len());
                if is_decided { claims.of_what_was_decided() } else { claims }
            };
            self.pairs.iter().map(new).collect()
        })
    }

    /// Counts what a policy refuses.
    fn refuse(&self, refused: Error) -> Error {
        if matches!(refused, Error::TooLarge | Error::Expands | Error::TooMuchAtOnce | Error::BadFormat(_)) {
            cache::with(|s| {
                let by_key = |s: &mut Cache| self.pairs.first().map_or(0, |(name, _)| s.type_by_key(name.bytes()));
                let named = self.options.type_name.and_then(|name| s.types.defined_id(name));
                let type_id = named.unwrap_or_else(|| by_key(s));
                s.count(type_id, |counters| counters.rejected += 1);
            });
        }
        refused
    }

    fn refuse_foreign(&self, ctx: &Ctx) -> Result<()> {
        let is_foreign = |name: Arg<'_>| matches!(ctx.open(name, Mode::Peek).found(), Found::Foreign);
        if self.pairs.iter().any(|(name, _)| is_foreign(*name)) { Err(Error::WrongType) } else { Ok(()) }
    }

    /// Is the client the one that is to produce it? Then the cost is measured, unless it was said.
    fn claim_lease(&mut self, ctx: &Ctx) -> Result<()> {
        if let (Some(_), Some((name, _))) = (self.options.lease, self.pairs.first()) {
            let token = self.options.token().ok_or(Error::LeaseLost)?;
            let production_ms = leases::production_ms(ctx, name.bytes(), token)?;
            self.options.cost_ms.get_or_insert(production_ms);
        }
        Ok(())
    }

    /// As [`Request::store`], and puts it on record, for a caller who waited or else for the one whose command is running.
    fn store_noted(
        &mut self,
        ctx: &Ctx,
        checked: &[Checked],
        timing: Timing,
        caller: Option<&Caller>,
    ) -> Result<Option<()>> {
        let stored = self.store(ctx, checked, timing)?;
        for ((name, _), checked) in self.pairs.iter().zip(checked) {
            let Some(recorded) = Recorded::by_name(self.options.type_name, name.bytes(), Audit::Changes) else {
                continue;
            };
            let action = Action {
                command: if self.verb == Verb::Set { SET.name } else { MSET.name },
                type_name: Some(recorded.name()),
                key: Some(name.bytes()),
                tags: self.options.tags(),
                size: Some(checked.size as u64),
                result: if stored.is_some() { b"ok" } else { b"null" },
                note: self.options.note,
                ..audit::OK
            };
            match timing {
                Timing::InCommand => audit::note(ctx, &action),
                Timing::AfterWait => caller.into_iter().for_each(|caller| audit::note_by(ctx, caller, &action)),
            }
        }
        Ok(stored)
    }

    /// Stores all of it, or nothing: `None` when a condition does not hold.
    fn store(&mut self, ctx: &Ctx, checked: &[Checked], timing: Timing) -> Result<Option<()>> {
        match (self.verb, self.pairs.first().copied(), checked) {
            (Verb::Set, Some((name, payload)), [checked]) => self.store_one(ctx, name, payload, checked, timing),
            _ => self.store_all(ctx, checked, timing),
        }
    }

    fn store_one(
        &mut self,
        ctx: &Ctx,
        name: Arg<'_>,
        payload: Arg<'_>,
        checked: &Checked,
        timing: Timing,
    ) -> Result<Option<()>> {
        if self.options.lease.is_some() {
            self.refuse_foreign(ctx)?;
            self.claim_lease(ctx)?;
        }
        let mut key = ctx.open(name, Mode::Write);
        let Some(plan) = Plan::new(ctx, &mut key, payload, checked, &self.options, "expcache.set")? else {
            return Ok(None);
        };
        if let Some(token) = self.options.token() {
            plan.check_fences(ctx, name.bytes(), token, self.options.tags())?;
        }
        if let Some(type_id) = plan.limits_tags() {
            per_tag::admit(ctx, type_id, &[name.bytes()], self.options.tags())?;
        }
        plan.commit(ctx, key, payload, &self.options, timing)?;
        Ok(Some(()))
    }

    fn store_all(&self, ctx: &Ctx, checked: &[Checked], timing: Timing) -> Result<Option<()>> {
        // A condition that does not hold is no answer for who names a key of another kind; else planning finds it.
        if self.options.condition.is_some() {
            self.refuse_foreign(ctx)?;
        }
        let mut plans = Vec::with_capacity(self.pairs.len());
        for ((name, payload), checked) in self.pairs.iter().zip(checked) {
            let mut key = ctx.open(*name, Mode::Write);
            match Plan::new(ctx, &mut key, *payload, checked, &self.options, "expcache.mset")? {
                Some(plan) => plans.push(plan),
                None => return Ok(None),
            }
        }
        self.admit_all(ctx, &plans)?;
        for (plan, (name, payload)) in plans.into_iter().zip(&self.pairs) {
            plan.commit(ctx, ctx.open(*name, Mode::Write), *payload, &self.options, timing)?;
        }
        Ok(Some(()))
    }
}

impl Request<'_> {
    /// Refuses what would be too many entries of a tag.
    fn admit_all(&self, ctx: &Ctx, plans: &[Plan]) -> Result<()> {
        let mut types: Vec<u16> = plans.iter().filter_map(Plan::limits_tags).collect();
        types.sort_unstable();
        types.dedup();
        types.into_iter().try_for_each(|type_id| {
            let both = plans.iter().zip(&self.pairs).filter(|(plan, _)| plan.limits_tags() == Some(type_id));
            let keys: Vec<&[u8]> = both.map(|(_, (name, _))| name.bytes()).collect();
            per_tag::admit(ctx, type_id, &keys, self.options.tags())
        })
    }
}

/// A payload that was put together of pieces, and what was found in it.
type Whole = (std::result::Result<Assembled, NotAssembled>, Result<Checked>);

/// Puts pieces together, and looks at what is said of them, if that is no more than so many bytes.
fn check_pieces(
    coder: &mut Coder,
    pieces: Box<Gathered>,
    last: &[u8],
    keeps: bool,
    claims: &Claims,
    most: usize,
) -> Whole {
    let assembled = part::assemble(coder, pieces, last, keeps);
    let checked = match &assembled {
        Ok(whole) => {
            let checked = match whole.etag {
                Some(etag) => claims.check_known(whole.encoding, whole.size, etag),
                None => claims.check_and_encode(coder, whole.body(), most),
            };
            // Of a worker it is wanted to the end: then nothing is left to be done later, on a copy.
            let hash = |checked: &Checked| {
                let is_left = checked.etag.is_none() && !workers::is_main_thread();
                checked.etag.or_else(|| is_left.then(|| etag_of(whole.body())))
            };
            checked.map(|checked| Checked { etag: hash(&checked), made: Some(whole.body().clone()), ..checked })
        }
        Err(_) => Err(Error::NoMemory),
    };
    (assembled, checked)
}

/// What a worker is asked to check, for a client that waits.
struct Errand {
    home: Home,
    verb: Verb,
    claims: Each<Claims>,
    held: HeldArgs,
}

/// What decodes to no more than this is no large piece of work. Which it is cannot be told from how many bytes came: so it is found
/// out, and what is more is put off until its turn comes.
const SMALL: usize = 1 << 20;

impl Errand {
    /// So many bytes came.
    fn send(self, bytes: usize, waiting: DeferredReply) {
        if bytes > SMALL {
            return self.send_as_large(waiting);
        }
        waiting.work(bytes as u64 * COPYING, move |coder, waiting| {
            if self.is_within(coder, SMALL) { self.run(coder, waiting) } else { self.send_as_large(waiting) }
        });
    }

    fn send_as_large(self, waiting: DeferredReply) {
        let bound: usize = self.claims.iter().map(Claims::bound).sum();
        waiting.work(bound as u64 * COPYING, move |coder, waiting| self.run(coder, waiting));
    }

    fn is_within(&self, coder: &mut Coder, mut most: usize) -> bool {
        let Ok(pairs) = pairs(&mut self.held.args(), self.verb) else { return true };
        let mut both = self.claims.iter().zip(&pairs);
        both.all(|(claims, (_, payload))| claims.are_within(coder, payload.bytes(), &mut most))
    }

    fn run(self, coder: &mut Coder, waiting: DeferredReply) {
        let Self { home, verb, claims, held } = self;
        let checked = pairs(&mut held.args(), verb).and_then(|pairs| {
            let both = claims.iter().zip(&pairs);
            both.map(|(claims, (_, payload))| claims.check_and_encode(coder, payload.bytes(), usize::MAX))
                .collect::<Result<Vec<_>>>()
        });
        workers::run_on_main_when_writable(move |ctx| {
            finish(ctx, home, verb, held, waiting, |ctx, request, stands, caller| match checked {
                _ if stands.is_err() => stands.map(|()| None),
                Ok(checked) => request.store_noted(ctx, &checked, Timing::AfterWait, caller),
                Err(refused) => Err(request.refuse(refused)),
            });
        });
    }
}

/// Where it was asked for.
struct Home {
    db: i32,
    /// A replica may be writable.
    is_master: bool,
    /// Who asked, if that is put on record.
    caller: Option<Caller>,
}

/// Stores what a worker has checked, and answers the client. What was asked is read again from the command's words. `store` is told if
/// what it asked is not to be done any more.
fn finish(
    ctx: &Ctx,
    home: Home,
    verb: Verb,
    held: HeldArgs,
    waiting: DeferredReply,
    store: impl FnOnce(&Ctx, &mut Request<'_>, Result<()>, Option<&Caller>) -> Result<Option<()>>,
) {
    ctx.select(home.db);
    let stored = Request::parse(held.args(), verb).and_then(|mut request| {
        let stands = match () {
            () if home.is_master && !ctx.is_master() => Err(Error::Unblocked),
            () if request.pairs.iter().any(|(name, _)| !ctx.serves(*name)) => Err(Error::SlotMoved),
            () => Ok(()),
        };
        store(ctx, &mut request, stands, home.caller.as_ref())
    });
    if let Err(error) = reply(waiting.replies(), stored) {
        waiting.replies().reply_error(&error.reply());
    }
    // The client lets its words go before we do.
    drop(waiting);
}

fn reply(to: &Replies, stored: Result<Option<()>>) -> Result<()> {
    match stored? {
        Some(()) => to.reply_ok(),
        None => to.reply_null(),
    }
    Ok(())
}
