//! Storing has two steps. Planning looks at the request, the type's policy and what is there, and may refuse: nothing has
//! changed then. Committing cannot fail, except that an index holds at most four billion entries. `MSET` plans for all its keys before it commits any.

use expcache_core::advice::Stored;
use expcache_core::codec::Encoding;
use expcache_core::entry::{
    APART_FROM, Body, Content, End, Entry, Etag, Extras, Form, MAX_PAYLOAD, PayloadBytes, Verdict, etag_of,
};
use expcache_core::grammar::etag;
use expcache_core::grammar::set::{Condition, ExpiryOption, SetOptions};
use expcache_core::index::{Index, Placement};
use expcache_core::lease::{Subject, Token};
use expcache_core::policy::{Freshness, Lifetime, Policy, StoreContext, end_ms, fresh_until_ms};
use expcache_core::types::{DEFAULT_TYPE, Definer};
use expcache_core::{Error, Result};

use super::look::{Look, ReadExpiry};
use crate::cache::place::place;
use crate::payloads::claims::Checked;
use crate::payloads::outgoing::{OFFLOAD_WRITE_SIZE, fits};
use crate::payloads::settle::{self, worth_keeping};
use crate::payloads::trial;
use crate::server::args::{Arg, Text};
use crate::server::context::{Ctx, EventClass};
use crate::server::held::Held;
use crate::server::key::{Found, Key};
use crate::server::{clock, workers};
use crate::types::limits::enforce_limits;
use crate::types::per_tag;
use crate::types::policies::{DEFAULT_TTL, MAX_TYPES, replicate_displaced, replicate_policy};
use crate::{advice, cache, leases, warming};

/// When the entry is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// By the command that is running.
    InCommand,
    /// After its client has waited for a worker.
    AfterWait,
}

/// What is going to be stored under a key.
pub struct Plan {
    entry: Box<Entry>,
    /// Are its bytes those that the command brought?
    is_as_it_came: bool,
    /// The bytes, if they were put together.
    made: Option<Body>,
    type_id: u16,
    life: Lifetime,
    /// Has the type's TTL nothing to do with how long it lives?
    has_own_lifetime: bool,
    /// The type's policy, if this value is the first to use its name.
    defines: Option<Policy>,
    /// Does the type limit how many entries one of the tags may have?
    has_tag_limit: bool,
}

/// The value now under the key, as far as storing depends on it.
#[derive(Default)]
struct Current {
    exists: bool,
    etag: Option<Etag>,
    fresh_until_ms: Option<Option<i64>>,
    /// What that end follows from.
    end: End,
    /// When its key was first stored, unix ms.
    born_ms: Option<u64>,
    /// Is that kept?
    keeps_born: bool,
}

impl Current {
    fn look(ctx: &Ctx, key: &mut Key<'_>, wants: &SetOptions<'_>) -> Result<Self> {
        let keep = wants.expiry == Some(ExpiryOption::Keep);
        let dated = if keep { ReadExpiry::Always } else { ReadExpiry::WhenNeeded };
        let Some(look) = Look::at(ctx, key, dated)? else { return Ok(Self::default()) };
        let fresh_until_ms = keep.then(|| look.fresh_until_ms());
        let end = if keep { look.entry.end() } else { End::default() };
        let etag = wants.if_match().map(|_| look.entry.etag());
        let (born_ms, keeps_born) = (Some(look.entry.born_ms()), look.entry.kept_born_ms().is_some());
        Ok(Self { exists: true, etag, fresh_until_ms, end, born_ms, keeps_born })
    }

    /// When the key of what takes its place now was first stored, if that is to be kept.
    fn born_ms(&self, policy: &Policy, now_ms: u64) -> Option<u64> {
        let is_kept = self.keeps_born || policy.whole_life_ms != 0;
        is_kept.then(|| self.born_ms.map_or(now_ms, |born_ms| born_ms.min(now_ms)))
    }

    fn satisfies(&self, condition: Option<Condition<'_>>) -> bool {
        match condition {
            None => true,
            Some(Condition::Nx) => !self.exists,
            Some(Condition::Xx) => self.exists,
            Some(Condition::IfMatch(text)) => self.exists && etag(text).is_some_and(|etag| self.etag == Some(etag)),
        }
    }
}

impl Plan {
    /// What the request comes to; `None` when its condition does not hold.
    pub fn new(
        ctx: &Ctx,
        key: &mut Key<'_>,
        payload: Arg<'_>,
        checked: &Checked,
        options: &SetOptions<'_>,
        command: &'static str,
    ) -> Result<Option<Self>> {
        if payload.bytes().len() > MAX_PAYLOAD || checked.size > MAX_PAYLOAD {
            return Err(Error::TooLarge);
        }
        let freshness = options.freshness(command)?;
        // What a master decided is done.
        let decodes = !ctx.decides() || fits(ctx, checked.size);
        if !decodes && options.encoding.is_some_and(|encoding| encoding != Encoding::Identity) {
            return Err(Error::Expands);
        }
        let current = Current::look(ctx, key, options)?;
        if !current.satisfies(options.condition) {
            return Ok(None);
        }
        let most_types = most_types(ctx);
        cache::with(|s| {
            let name = key.name().bytes();
            let type_id = match options.type_name {
                Some(name) => s.types.to_define(name, most_types)?,
                None => s.type_by_key(name),
            };
            let (random, use_us) = (clock::random(), clock::use_us());
            let moment = StoreContext { now_ms: clock::unix_ms(), default_ttl_ms: DEFAULT_TTL.get(), random };
            let policy = s.types.policy(type_id);
            if let Err(refused) = policy.admit(checked.size as u64, options.format) {
                // A name that this would have been the first use of stays unused.
                let known = if s.types.get(type_id).policy.is_some() { type_id } else { DEFAULT_TYPE };
                s.count(known, |counters| counters.rejected += 1);
                return Err(refused);
            }
            let life = policy.life(freshness, options.grace_ms, current.fresh_until_ms, moment);
            let life = life.ok_or(Error::InvalidExpire(command))?;
            let born_ms = current.born_ms(policy, moment.now_ms);
            let latest_ms = born_ms.and_then(|born_ms| policy.end_of_life_ms(born_ms));
            let uncut_ms = life.lifetime_ms;
            let life = latest_ms.map_or(life, |latest_ms| life.cut_off(latest_ms, moment.now_ms));
            // What a master decided is named to replicas as a moment in any case.
            let is_named = ctx.decides() && !matches!(freshness, Freshness::TypeDefault);
            let has_own_lifetime = is_named || life.lifetime_ms != uncut_ms;
            let wanted =
                if decodes { policy.encoding(checked.size as u64, options.format) } else { Encoding::Identity };
            let PreparedPayload { stored, form, etag } = PreparedPayload::new(payload, checked, wanted);
            let extras = Extras {
                grace_ms: life.grace_ms,
                form,
                cost_ms: options.cost_ms,
                records: checked.records.or(options.records),
                etag,
                format: options.format,
                meta: options.meta,
                end: options.end().unwrap_or(current.end),
                born_ms,
            };
            let content = Content { created_ms: moment.now_ms, lifetime_ms: life.lifetime_ms, extras, stored };
            let tag_count = options.tags.as_ref().map_or(0, |tags| tags.len());
            let mut entry = Entry::new(content, tag_count).ok_or(Error::TooLarge)?;
            entry.touch(use_us);
            let is_as_it_came = checked.made.is_none() && entry.form().encoding == checked.encoding;
            let made = checked.made.clone();
            let defines = s.types.get(type_id).policy.is_none().then(|| policy.clone());
            let has_tag_limit = policy.per_tag.is_some() && tag_count > 0;
            Ok(Some(Self { entry, is_as_it_came, made, type_id, life, has_own_lifetime, defines, has_tag_limit }))
        })
    }

    /// The type, if it limits how many entries one of the tags may have.
    pub fn limits_tags(&self) -> Option<u16> {
        self.has_tag_limit.then_some(self.type_id)
    }

    /// Is it still wanted: nothing that it may have been computed from was invalidated since its lease was given?
    pub fn check_fences(&self, ctx: &Ctx, key: &[u8], token: Token, tags: &[&[u8]]) -> Result<()> {
        let type_name = cache::with(|s| s.types.get(self.type_id).name.clone());
        let checked = leases::check(ctx, token, &Subject { key, type_name: &type_name, tags });
        if checked == Err(Error::Fenced) {
            cache::with(|s| s.count(self.type_id, |counters| counters.fenced += 1));
        }
        checked
    }

    /// Stores it.
    pub fn commit(
        self,
        ctx: &Ctx,
        mut key: Key<'_>,
        payload: Arg<'_>,
        options: &SetOptions<'_>,
        timing: Timing,
    ) -> Result<()> {
        let (tags, db) = (options.tags(), ctx.db());
        let Self { entry, is_as_it_came, made, type_id, life, has_own_lifetime, defines, has_tag_limit } = self;
        let name = key.name();
        // Of several keys of one MSET only the first defines their type.
        let is_defined = cache::with(|s| s.types.get(type_id).policy.is_some());
        if let Some(policy) = defines.filter(|_| !is_defined) {
            let most_types = most_types(ctx);
            // It is `default`'s.
            let before = policy.clone();
            let displaced = cache::with(|s| {
                let displaced = s.types.make_room(most_types);
                s.types.set_policy(type_id, policy, Definer::FirstUse);
                displaced
            });
            replicate_displaced(ctx, displaced);
            replicate_policy(ctx, type_id, &before);
        }
        if has_ended(ctx, entry.created_ms(), life.expire_at_ms) {
            drop(key);
            leases::stored(ctx, db, name.bytes(), options.token());
            ctx.unlink(name);
            return Ok(());
        }
        let (cost_ms, size) = (entry.cost_ms(), entry.size());
        let fresh_until_ms = fresh_until_ms(life.expire_at_ms, life.grace_ms);
        // Of what was put together there is no command to be handed on, and it is not copied for nobody.
        let is_silent = made.is_some() && !ctx.is_heard();
        // Nor is there one where none is running.
        let is_resolved = !is_silent && (timing == Timing::AfterWait || ctx.is_heard());
        let resolved = is_resolved.then(|| Resolved::new(&entry, is_as_it_came, type_id, tags));
        let placement = Placement { type_id, fresh_until_ms, soft: None };
        let is_settled = made.is_some() && !entry.is_unsettled();
        let told = Told {
            payload: made.as_deref().unwrap_or(payload.bytes()),
            etag: entry.known_etag().filter(|_| is_settled),
        };
        if is_settled {
            place(db, &mut key, entry, placement, tags, life.expire_at_ms)?;
        } else {
            put(ctx, &mut key, entry, placement, tags, life.expire_at_ms)?;
        }
        drop(key);
        match resolved {
            Some(resolved) => resolved.replicate(ctx, name, life.expire_at_ms, payload),
            None if is_silent => ctx.note_change(name),
            None => ctx.replicate_verbatim(),
        }
        cache::with(|s| s.count_set(type_id, cost_ms, options.format, size));
        let value = Stored {
            lifetime_ms: life.lifetime_ms,
            size: size as u64,
            cost_ms,
            has_own_lifetime,
            has_lease: options.lease.is_some(),
        };
        tell(ctx, name, type_id, value, options, told);
        leases::stored(ctx, db, name.bytes(), options.token());
        announce(ctx, name);
        if has_tag_limit {
            per_tag::make_room(ctx, name, type_id, tags);
        }
        enforce_limits(ctx, name, type_id);
        Ok(())
    }
}

/// What is told of a payload.
struct Told<'p> {
    payload: &'p [u8],
    /// Its MD5, if nobody is going to compute it later.
    etag: Option<Etag>,
}

/// Tells those who follow what is stored.
fn tell(ctx: &Ctx, name: Arg<'_>, type_id: u16, value: Stored, options: &SetOptions<'_>, told: Told<'_>) {
    let db = ctx.db();
    let (index, warm, warms) =
        cache::with(|s| (s.index(db).map_or(0, Index::number), s.types.warm(type_id), s.types.warms()));
    let bytes = Some(told.payload).filter(|bytes| !advice::digests_later(bytes.len()));
    let is_to_be_tried = advice::stored(type_id, index, name.bytes(), value, options.tags(), bytes);
    if is_to_be_tried && options.encoding.is_none_or(|encoding| encoding == Encoding::Identity) {
        trial::begin(type_id, told.payload, options.format.is_some());
    }
    if let (None, Some(etag)) = (bytes, told.etag) {
        let tags = || options.tags().iter().map(|tag| (*tag).into()).collect();
        advice::digested(type_id, index, name.bytes(), &etag, tags);
    }
    if warm > 0 {
        warming::stored(ctx, name, options.token());
    } else if warms {
        // It may have been kept in mind as one of another type.
        warming::forget(ctx, name.bytes());
    }
}

/// How many types there may be; what was decided elsewhere is not measured again.
fn most_types(ctx: &Ctx) -> usize {
    if ctx.is_handed_on() { usize::MAX } else { MAX_TYPES.as_usize() }
}

/// Is a value's time over before it is stored? Only who decides for himself may say so: a replica keeps what its master
/// sends until its master says otherwise.
pub fn has_ended(ctx: &Ctx, now_ms: u64, expire_at_ms: Option<i64>) -> bool {
    expire_at_ms.is_some_and(|at| at <= end_ms(now_ms, 0)) && ctx.decides()
}

/// An entry as replicas and the append-only file get it.
struct Resolved {
    metadata: Vec<u8>,
    /// What is kept, where that is not what came.
    encoded: Option<Text>,
}

impl Resolved {
    fn new(entry: &Entry, is_as_it_came: bool, type_id: u16, tags: &[&[u8]]) -> Self {
        let metadata = cache::with(|s| entry.encode(&s.types.get(type_id).name, tags, Verdict::Alive));
        Self { metadata, encoded: (!is_as_it_came).then(|| Text::new(entry.stored())) }
    }

    fn replicate(&self, ctx: &Ctx, name: Arg<'_>, expire_at_ms: Option<i64>, payload: Arg<'_>) {
        let stored = self.encoded.as_ref().map_or(payload, Text::arg);
        ctx.replicate_entry(name, expire_at_ms.unwrap_or(-1), &self.metadata, stored);
    }
}

/// A payload as it is going to be kept, for now.
struct PreparedPayload<'p> {
    stored: PayloadBytes<'p>,
    form: Option<Form>,
    etag: Option<Etag>,
}

impl<'p> PreparedPayload<'p> {
    /// What the client has encoded stays as it is. What is small is encoded at once; what is large is held as it came, and a worker
    /// does the rest.
    fn new(payload: Arg<'p>, checked: &Checked, wanted: Encoding) -> Self {
        let Checked { encoding, size, etag, .. } = *checked;
        match checked.tried.as_ref().filter(|(tried, _)| *tried == wanted) {
            Some((_, Some(encoded))) => {
                return Self { stored: encoded.clone().into(), form: Some(Form::encoded(wanted, size)), etag };
            }
            Some((_, None)) => return Self { stored: bytes_of(payload, checked), form: None, etag },
            None => (),
        }
        let form = match encoding {
            Encoding::Identity if wanted == Encoding::Identity => None,
            Encoding::Identity if (size as u64) < OFFLOAD_WRITE_SIZE.get() && checked.made.is_none() => {
                return Self::encoded(payload, etag, wanted);
            }
            Encoding::Identity => Some(Form::wanting(wanted, size)),
            encoding => Some(Form::encoded(encoding, size)),
        };
        Self { stored: bytes_of(payload, checked), form, etag }
    }

    fn encoded(payload: Arg<'p>, etag: Option<Etag>, wanted: Encoding) -> Self {
        let bytes = payload.bytes();
        match workers::run_here(|coder| coder.encode(wanted, bytes, worth_keeping(bytes.len()))) {
            Some(encoded) => Self {
                stored: Body::new(encoded.into_boxed_slice()).into(),
                form: Some(Form::encoded(wanted, bytes.len())),
                etag: Some(etag.unwrap_or_else(|| etag_of(bytes))),
            },
            None => Self { stored: hold(payload), form: None, etag },
        }
    }
}

/// The bytes that are to be kept.
fn bytes_of<'p>(payload: Arg<'p>, checked: &Checked) -> PayloadBytes<'p> {
    checked.made.clone().map_or_else(|| hold(payload), Into::into)
}

/// The bytes of an argument, for an entry: what is to stand apart is not copied.
pub fn hold(payload: Arg<'_>) -> PayloadBytes<'_> {
    let bytes = payload.bytes();
    if bytes.len() < APART_FROM { bytes.into() } else { Body::new(Held::new(payload)).into() }
}

/// Stores an entry under a key, over whatever entry is there. What is large is settled later.
pub fn put(
    ctx: &Ctx,
    key: &mut Key<'_>,
    entry: Box<Entry>,
    placement: Placement,
    tags: &[&[u8]],
    expire_at_ms: Option<i64>,
) -> Result<()> {
    let (db, name, is_apart) = (ctx.db(), key.name().bytes(), entry.body().is_some());
    place(db, key, entry, placement, tags, expire_at_ms)?;
    if is_apart && let Found::Entry(entry) = key.found() {
        settle::schedule_encoding(ctx, db, name, entry);
    }
    Ok(())
}

/// Tells who listens that a key was stored.
pub fn announce(ctx: &Ctx, key: Arg<'_>) {
    ctx.signal_modified(key);
    ctx.notify(EventClass::Module, c"expcache.set", key);
}
