//! `EXPCACHE.SET`, `EXPCACHE.MSET` and the resolved form in which both are replicated, `EXPCACHE.RESTORE`.
//!
//! Storing has two steps. Planning looks at the request, the type's policy and what is there, and may refuse: nothing has
//! changed then. Committing fails only when a database has four billion entries. `MSET` plans for all its keys before it commits any.

use expcache_core::entry::{Content, Entry, Etag, Extras, MAX_PAYLOAD, Verdict, etag_of};
use expcache_core::index::Arrival;
use expcache_core::key::validate_meta;
use expcache_core::lease::{Subject, Token};
use expcache_core::policy::{Freshness, Life, Moment, Policy, fresh_until_ms};
use expcache_core::types::DEFAULT_TYPE;

use expcache_core::{Error, Result, units};

use super::evict::make_room;
use super::look::{Dated, Look};
use super::parse::{self, Tags, is, once};
use super::types::replicate_policy;
use crate::server::context::{Arg, Args, Ctx, EventClass};

use crate::server::key::{Found, Key, Mode};
use crate::server::{leases, reclaim, state};

/// `[options]` of `SET` and `MSET`.
#[derive(Default)]
struct Options<'a> {
    type_name: Option<&'a [u8]>,
    freshness: Option<Wish>,
    grace_ms: Option<u64>,
    tags: Option<Tags<'a>>,
    format: Option<&'a [u8]>,
    records: Option<u64>,
    cost_ms: Option<u64>,
    meta: Option<&'a [u8]>,
    hash: Option<Etag>,
    identity: Option<()>,
    condition: Option<Condition>,
    /// `None` inside: the text is no token's.
    lease: Option<Option<Token>>,
}

/// How long the value shall be fresh, as it was said: a count of seconds or ms, or a moment.
#[derive(Clone, Copy)]
enum Wish {
    Seconds(i64),
    Millis(i64),
    AtSecond(i64),
    AtMilli(i64),
    Keep,
}

/// When to store at all.
#[derive(Clone, Copy)]
enum Condition {
    /// There is no entry.
    Nx,
    /// There is one.
    Xx,
    /// There is one with this etag; `None` matches nothing.
    IfMatch(Option<Etag>),
}

/// Which command the options belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Set,
    Mset,
}

impl<'a> Options<'a> {
    /// ```text
    /// [TYPE name] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] [GRACE d] [TAGS count tag …] [FORMAT name] [RECORDS n]
    /// [COST ms] [META json] [HASH md5hex] [ENCODING name] [NX | XX | IFMATCH etag] [LEASE token]
    /// ```
    fn parse(mut args: Args<'a>, form: Form) -> Result<Self> {
        let mut options = Self::default();
        while let Some(word) = args.next() {
            options.parse_one(word, &mut args, form)?;
        }
        Ok(options)
    }

    fn parse_one(&mut self, word: Arg<'a>, args: &mut Args<'a>, form: Form) -> Result<()> {
        let single = form == Form::Set;
        match parse::upper(word, &mut [0; parse::LONGEST_WORD]) {
            b"TYPE" => once(&mut self.type_name, parse::type_name(args)?),
            b"EX" => once(&mut self.freshness, Wish::Seconds(units::parse_i64(args.need()?.bytes())?)),
            b"PX" => once(&mut self.freshness, Wish::Millis(units::parse_i64(args.need()?.bytes())?)),
            b"EXAT" => once(&mut self.freshness, Wish::AtSecond(units::parse_i64(args.need()?.bytes())?)),
            b"PXAT" => once(&mut self.freshness, Wish::AtMilli(units::parse_i64(args.need()?.bytes())?)),
            b"KEEPTTL" => once(&mut self.freshness, Wish::Keep),
            b"GRACE" => once(&mut self.grace_ms, parse::duration(args.need()?)?),
            b"TAGS" => once(&mut self.tags, parse::tags(args)?),
            b"FORMAT" => once(&mut self.format, parse::format_name(args)?),
            b"RECORDS" => once(&mut self.records, parse::number(args.need()?)?),
            b"COST" => once(&mut self.cost_ms, parse::number(args.need()?)?),
            b"META" => once(&mut self.meta, parse_meta(args)?),
            b"ENCODING" => once(&mut self.identity, parse_encoding(args)?),
            b"NX" => once(&mut self.condition, Condition::Nx),
            b"XX" => once(&mut self.condition, Condition::Xx),
            b"HASH" if single => once(&mut self.hash, parse_hash(args)?),
            b"IFMATCH" if single => {
                let etag = parse::etag(args.need()?.bytes());
                once(&mut self.condition, Condition::IfMatch(etag))
            }
            b"LEASE" if single => once(&mut self.lease, Token::parse(args.need()?.bytes())),
            _ => Err(Error::Syntax),
        }
    }

    /// Is the payload the one that the client speaks of, and is the client the one that is to produce it? Then the cost is
    /// measured, unless it was said.
    fn verify_claims(&mut self, ctx: &Ctx, key: &[u8], payload: &[u8]) -> Result<()> {
        if let Some(token) = self.lease {
            let production_ms = leases::production_ms(ctx, key, token.ok_or(Error::LeaseLost)?)?;
            self.cost_ms.get_or_insert(production_ms);
        }
        match self.hash {
            Some(hash) if etag_of(payload) != hash => Err(Error::HashMismatch),
            _ => Ok(()),
        }
    }

    fn token(&self) -> Option<Token> {
        self.lease.flatten()
    }

    fn tags(&self) -> &[&'a [u8]] {
        self.tags.as_deref().unwrap_or_default()
    }

    fn freshness(&self, command: &'static str) -> Result<Freshness> {
        let invalid = Error::InvalidExpire(command);
        let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).ok_or(invalid.clone());
        let in_ms = |n: i64| n.checked_mul(1000).ok_or(invalid.clone());
        Ok(match self.freshness {
            None => Freshness::OfType,
            Some(Wish::Keep) => Freshness::Keep,
            Some(Wish::Seconds(n)) => Freshness::For(positive(in_ms(n)?)?),
            Some(Wish::Millis(n)) => Freshness::For(positive(n)?),
            Some(Wish::AtSecond(n)) => Freshness::Until(positive(in_ms(n)?)?.cast_signed()),
            Some(Wish::AtMilli(n)) => Freshness::Until(positive(n)?.cast_signed()),
        })
    }
}

fn parse_meta<'a>(args: &mut Args<'a>) -> Result<&'a [u8]> {
    let json = args.need()?.bytes();
    validate_meta(json)?;
    Ok(json)
}

fn parse_hash(args: &mut Args<'_>) -> Result<Etag> {
    parse::etag(args.need()?.bytes()).ok_or(Error::invalid("HASH must be 32 hexadecimal digits"))
}

fn parse_encoding(args: &mut Args<'_>) -> Result<()> {
    let name = args.need()?;
    if is(name, "identity") {
        return Ok(());
    }
    let known = ["gzip", "zstd", "lz4"].iter().any(|known| is(name, known));
    Err(if known { Error::invalid("only ENCODING identity is supported") } else { Error::Syntax })
}

/// What is going to be stored under a key.
struct Plan {
    entry: Box<Entry>,
    type_id: u16,
    life: Life,
    /// The type's policy, if this value is the first to use its name.
    defines: Option<Policy>,
}

/// What stands in the way of a plan, or what it has to know, of the present value.
#[derive(Default)]
struct Present {
    exists: bool,
    etag: Option<Etag>,
    fresh_until_ms: Option<Option<i64>>,
}

impl Present {
    fn look(ctx: &Ctx, key: &mut Key<'_>, wants: &Options<'_>) -> Result<Self> {
        let keep = matches!(wants.freshness, Some(Wish::Keep));
        let dated = if keep { Dated::Always } else { Dated::IfItDecides };
        let Some(look) = Look::at(ctx, key, dated)? else { return Ok(Self::default()) };
        let fresh_until_ms = keep.then(|| look.fresh_until_ms());
        let etag = matches!(wants.condition, Some(Condition::IfMatch(Some(_)))).then(|| look.entry.etag());
        Ok(Self { exists: true, etag, fresh_until_ms })
    }

    fn satisfies(&self, condition: Option<Condition>) -> bool {
        match condition {
            None => true,
            Some(Condition::Nx) => !self.exists,
            Some(Condition::Xx) => self.exists,
            Some(Condition::IfMatch(etag)) => self.exists && etag.is_some() && self.etag == etag,
        }
    }
}

impl Plan {
    /// What the request comes to; `None` when its condition does not hold.
    fn new(
        ctx: &Ctx,
        key: &mut Key<'_>,
        payload: Arg<'_>,
        options: &Options<'_>,
        command: &'static str,
    ) -> Result<Option<Self>> {
        let payload = payload.bytes();
        if payload.len() > MAX_PAYLOAD {
            return Err(Error::TooLarge);
        }
        let freshness = options.freshness(command)?;
        let present = Present::look(ctx, key, options)?;
        if !present.satisfies(options.condition) {
            return Ok(None);
        }
        state::with(|s| {
            let name = key.name().bytes();
            let type_id = match options.type_name {
                Some(name) => s.types.to_define(name, s.config.max_types)?,
                None => s.type_by_key(name),
            };
            let (now_us, random) = (s.now_us(), s.random());
            let moment = Moment { now_ms: now_us / 1000, default_ttl_ms: s.config.default_ttl_ms, random };
            let policy = s.types.policy(type_id);
            if let Err(refused) = policy.admit(payload.len() as u64, options.format) {
                // A name that this would have been the first use of stays unused.
                let known = if s.types.get(type_id).policy.is_some() { type_id } else { DEFAULT_TYPE };
                s.count(known, |counters| counters.rejected += 1);
                return Err(refused);
            }
            let life = policy.life(freshness, options.grace_ms, present.fresh_until_ms, moment);
            let life = life.ok_or(Error::InvalidExpire(command))?;
            let extras = Extras {
                grace_ms: life.grace_ms,
                cost_ms: options.cost_ms,
                records: options.records,
                etag: options.hash,
                format: options.format,
                meta: options.meta,
            };
            let content = Content { created_ms: moment.now_ms, lifetime_ms: life.lifetime_ms, extras, payload };
            let tag_count = options.tags.as_ref().map_or(0, |tags| tags.len());
            let mut entry = Entry::new(&content, tag_count).ok_or(Error::TooLarge)?;
            entry.touch(now_us);
            let defines = s.types.get(type_id).policy.is_none().then(|| policy.clone());
            Ok(Some(Self { entry, type_id, life, defines }))
        })
    }

    /// Is it still wanted: nothing that it may have been computed from was invalidated since its lease was given?
    fn check_fences(&self, ctx: &Ctx, key: &[u8], token: Token, tags: &[&[u8]]) -> Result<()> {
        let type_name = state::with(|s| s.types.get(self.type_id).name.clone());
        let checked = leases::check(ctx, token, &Subject { key, type_name: &type_name, tags });
        if checked == Err(Error::Fenced) {
            state::with(|s| s.count_by_key(key, |counters| counters.fenced += 1));
        }
        checked
    }

    /// Stores it.
    fn commit(self, ctx: &Ctx, mut key: Key<'_>, payload: Arg<'_>, options: &Options<'_>) -> Result<()> {
        let (tags, db) = (options.tags(), ctx.db());
        let Self { entry, type_id, life, defines } = self;
        let name = key.name();
        // Of several keys of one MSET only the first defines their type.
        let is_defined = state::with(|s| s.types.get(type_id).policy.is_some());
        if let Some(policy) = defines.filter(|_| !is_defined) {
            let type_name = state::with(|s| {
                s.types.set_policy(type_id, policy.clone());
                s.types.get(type_id).name.clone()
            });
            replicate_policy(ctx, &type_name, &policy);
        }
        if has_ended(ctx, entry.created_ms(), life.expire_at_ms) {
            drop(key);
            leases::stored(ctx, db, name.bytes(), options.token());
            ctx.unlink(name);
            return Ok(());
        }
        let cost_ms = entry.cost_ms();
        let fresh_until_ms = fresh_until_ms(life.expire_at_ms, life.grace_ms);
        let metadata = if ctx.is_heard() { Some(encode(&entry, type_id, tags)) } else { None };
        put(ctx, &mut key, entry, Arrival { type_id, fresh_until_ms, soft: None }, tags, life.expire_at_ms)?;
        drop(key);
        match metadata {
            Some(metadata) => ctx.replicate_entry(name, life.expire_at_ms.unwrap_or(-1), &metadata, payload),
            None => ctx.replicate_verbatim(),
        }
        state::with(|s| s.count(type_id, |counters| counters.count_set(cost_ms)));
        leases::stored(ctx, db, name.bytes(), options.token());
        announce(ctx, name);
        make_room(ctx, name, type_id);
        Ok(())
    }
}

/// Is a value's time over before it is stored? Only who decides for himself may say so: a replica keeps what its master
/// sends until its master says otherwise.
fn has_ended(ctx: &Ctx, now_ms: u64, expire_at_ms: Option<i64>) -> bool {
    expire_at_ms.is_some_and(|at| at <= now_ms.cast_signed()) && ctx.decides()
}

/// The metadata as replicas and the append-only file get it.
fn encode(entry: &Entry, type_id: u16, tags: &[&[u8]]) -> Vec<u8> {
    state::with(|s| entry.encode(&s.types.get(type_id).name, tags, Verdict::Alive))
}

/// Puts an entry into index and keyspace, over whatever entry is there.
fn put(
    ctx: &Ctx,
    key: &mut Key<'_>,
    mut entry: Box<Entry>,
    arrival: Arrival,
    tags: &[&[u8]],
    expire_at_ms: Option<i64>,
) -> Result<()> {
    let (db, name) = (ctx.db(), key.name().bytes());
    let (replaces, linked) = match key.found() {
        Found::Entry(old) => (true, state::with(|s| s.relink(db, name, old, &mut entry, arrival, tags))),
        Found::Missing | Found::Foreign => (false, state::with(|s| s.link(db, name, &mut entry, arrival, tags))),
    };
    if !linked {
        return Err(Error::invalid("the index is full"));
    }
    if replaces {
        drop(key.replace(entry));
    } else {
        key.create(entry);
    }
    if replaces || expire_at_ms.is_some() {
        key.set_expire_at_ms(expire_at_ms);
    }
    Ok(())
}

fn announce(ctx: &Ctx, key: Arg<'_>) {
    ctx.signal_modified(key);
    ctx.notify(EventClass::Module, c"expcache.set", key);
}

/// `EXPCACHE.SET key value [options]`
pub fn set(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    const NAME: &str = "expcache.set";
    let (name, payload) = (args.need()?, args.need()?);
    let mut options = Options::parse(args, Form::Set)?;
    let mut key = ctx.open(name, Mode::Write);
    if options.lease.is_some() || options.hash.is_some() {
        if matches!(key.found(), Found::Foreign) {
            return Err(Error::WrongType);
        }
        options.verify_claims(ctx, name.bytes(), payload.bytes())?;
    }
    let Some(plan) = Plan::new(ctx, &mut key, payload, &options, NAME)? else {
        ctx.reply_null();
        return Ok(());
    };
    if let Some(token) = options.token() {
        plan.check_fences(ctx, name.bytes(), token, options.tags())?;
    }
    plan.commit(ctx, key, payload, &options)?;
    ctx.reply_ok();
    Ok(())
}

/// `EXPCACHE.MSET numkeys key value [key value …] [options]`
pub fn mset(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    const NAME: &str = "expcache.mset";
    let numkeys = parse::number(args.need()?)?;
    let numkeys = usize::try_from(numkeys).ok().filter(|n| *n > 0 && *n <= args.len() / 2);
    if ctx.asks_for_keys() {
        (0..numkeys.unwrap_or(0)).for_each(|pair| ctx.declare_overwritten_key(2 + 2 * pair));
        return Ok(());
    }
    let numkeys = numkeys.ok_or(Error::invalid("invalid numkeys value"))?;
    let mut words = args.split_off(numkeys * 2)?;
    let options = Options::parse(args, Form::Mset)?;
    let mut pairs = Vec::with_capacity(numkeys);
    while let (Some(name), Some(payload)) = (words.next(), words.next()) {
        pairs.push((name, payload));
    }
    if pairs.iter().any(|(name, _)| matches!(ctx.open(*name, Mode::Peek).found(), Found::Foreign)) {
        return Err(Error::WrongType);
    }
    let mut plans = Vec::with_capacity(numkeys);
    for (name, payload) in &pairs {
        match Plan::new(ctx, &mut ctx.open(*name, Mode::Write), *payload, &options, NAME)? {
            Some(plan) => plans.push(plan),
            None => {
                ctx.reply_null();
                return Ok(());
            }
        }
    }
    for (plan, (name, payload)) in plans.into_iter().zip(pairs) {
        plan.commit(ctx, ctx.open(name, Mode::Write), payload, &options)?;
    }
    ctx.reply_ok();
    Ok(())
}

/// What a client claims in the place of a master is checked: an etag, a moment of storing, one more type.
fn distrust(entry: &mut Entry, now_ms: u64) -> Result<()> {
    if entry.claimed_etag().is_some_and(|claimed| claimed != etag_of(entry.payload())) {
        return Err(Error::HashMismatch);
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
    let mut entry = Entry::decode(metadata_bytes.bytes(), payload.bytes()).ok_or_else(malformed)?;
    let mut key = ctx.open(name, Mode::Write);
    if matches!(key.found(), Found::Foreign) {
        return Err(Error::WrongType);
    }
    let is_marked = state::with(|s| s.verdict(ctx.db(), &entry)) != Verdict::Alive;
    let now_us = state::with(|s| s.now_us());
    if ctx.decides() {
        distrust(&mut entry, now_us / 1000)?;
    }
    entry.touch(now_us);
    if has_ended(ctx, now_us / 1000, expire_at_ms) {
        drop(key);
        ctx.unlink(name);
    } else {
        let names = entry.take_names();
        let tags: Vec<&[u8]> = names.tags.iter().map(AsRef::as_ref).collect();
        let type_id = state::with(|s| s.types.know(&names.type_name)).unwrap_or(DEFAULT_TYPE);
        let fresh_until_ms = fresh_until_ms(expire_at_ms, entry.grace_ms());
        let arrival = Arrival { type_id, fresh_until_ms, soft: names.soft };
        put(ctx, &mut key, entry, arrival, &tags, expire_at_ms)?;
        drop(key);
        if names.soft.is_some() && expire_at_ms.is_none() {
            state::with(|s| s.expect_expiry(name.bytes()));
        }
        ctx.replicate_verbatim();
        leases::stored(ctx, ctx.db(), name.bytes(), None);
        announce(ctx, name);
        if is_marked {
            reclaim::schedule(ctx);
        }
    }
    ctx.reply_ok();
    Ok(())
}
