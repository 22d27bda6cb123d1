//! `EXPCACHE.TYPE SET|GET|LIST|DEL|HELP`.

use expcache_core::grammar::policy::PolicyChange;
use expcache_core::grammar::{self, is};
use expcache_core::policy::Policy;
use expcache_core::types::{DEFAULT_TYPE, Definer, Type};
use expcache_core::{Error, Result};

use crate::server::access::Right;
use crate::server::args::Args;
use crate::server::context::{Ctx, Recipients};
use crate::server::replies::Value;
use crate::server::setting::Setting;
use crate::server::state;

/// The lifetime of entries whose type has none; 0: without end.
pub static DEFAULT_TTL: Setting = Setting::duration(c"default-ttl", 3_600_000, |_ms| Ok(()));

/// `EXPCACHE.TYPE SET name [TTL d|default] [GRACE d] [MAXTTL d] [JITTER percent] [EARLY percent] [SLIDING yes|no]
/// [CODEC name] [THRESHOLD size] [MAXVALUE size] [MAXENTRIES n] [MAXBYTES size] [FORMATS n name …] [VALIDATE yes|no]`
pub fn set(ctx: &Ctx, args: Args<'_>) -> Result<()> {
    let decides = ctx.decides();
    if decides {
        ctx.need_all_keys(Right::Delete)?;
    }
    let most = if decides { state::MAX_TYPES.as_usize() } else { usize::MAX };
    let (name, policy, definer) = define(args)?;
    if decides && definer != Definer::Command {
        // What only a master may say.
        return Err(Error::Syntax);
    }
    let (displaced, id) = state::with(|s| {
        let id = s.types.to_define(&name, most)?;
        let displaced = if s.types.get(id).policy.is_some() { None } else { s.types.make_room(most) };
        s.types.set_policy(id, policy.clone(), definer);
        Ok::<_, Error>((displaced, id))
    })?;
    replicate_displaced(ctx, displaced);
    replicate_policy(ctx, id);
    ctx.reply_ok();
    Ok(())
}

/// As `TYPE SET`, from words that [`policy_words`] wrote; for loading.
pub fn restore_policy(mut words: Args<'_>) -> Result<()> {
    if !is(words.need()?.bytes(), "SET") {
        return Err(Error::Syntax);
    }
    let (name, policy, definer) = define(words)?;
    state::with(|s| {
        let id = s.types.to_define(&name, usize::MAX)?;
        s.types.set_policy(id, policy, definer);
        Ok(())
    })
}

/// What a type is going to be; nothing is changed.
fn define(args: Args<'_>) -> Result<(Box<[u8]>, Policy, Definer)> {
    let (name, change) = PolicyChange::parse(args.words())?;
    // A new type starts as `default` is.
    let mut policy = state::with(|s| s.types.policy(s.types.id(name).unwrap_or(DEFAULT_TYPE)).clone());
    change.apply(&mut policy)?;
    Ok((name.into(), policy, change.definer()))
}

/// The words of the `TYPE SET` that makes a type what it is, whatever it was: every field, nothing left to configuration.
pub fn policy_words(known: &Type) -> Option<Vec<Vec<u8>>> {
    let whole = PolicyChange::to_all_of(known.policy.as_ref()?, known.definer);
    Some(grammar::words(|to| {
        to(b"SET");
        to(&known.name);
        whole.write(to);
    }))
}

/// Sends a type's policy to replicas and the append-only file.
pub fn replicate_policy(ctx: &Ctx, id: u16) {
    if let Some(words) = state::with(|s| policy_words(s.types.get(id))) {
        ctx.replicate_words(c"EXPCACHE.TYPE", &words, Recipients::All);
    }
}

/// Tells them of a type that made room.
pub fn replicate_displaced(ctx: &Ctx, name: Option<Box<[u8]>>) {
    if let Some(name) = name {
        ctx.replicate_words(c"EXPCACHE.TYPE", &[b"DEL".to_vec(), name.into()], Recipients::All);
    }
}

/// `EXPCACHE.TYPE GET name`
pub fn get(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    let found = state::with(|s| {
        let id = s.types.defined_id(name)?;
        Some((s.types.policy(id).clone(), DEFAULT_TTL.get()))
    });
    let Some((policy, default_ttl_ms)) = found else {
        ctx.reply_null();
        return Ok(());
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    ctx.map(&[
        ("ttl", policy.ttl_ms(default_ttl_ms).into()),
        ("grace", policy.grace_ms.into()),
        ("maxttl", policy.max_ttl_ms.into()),
        ("jitter", u64::from(policy.jitter_percent).into()),
        ("early", u64::from(policy.early_percent).into()),
        ("sliding", yes(policy.sliding).into()),
        ("codec", policy.codec.name().into()),
        ("threshold", policy.threshold.into()),
        ("maxvalue", policy.max_value.into()),
        ("maxentries", policy.max_entries.into()),
        ("maxbytes", policy.max_bytes.into()),
        ("formats", Value::Names(&policy.formats)),
        ("validate", yes(policy.validate).into()),
    ]);
    Ok(())
}

/// `EXPCACHE.TYPE LIST`
pub fn list(ctx: &Ctx, _args: Args<'_>) -> Result<()> {
    let mut names: Vec<Box<[u8]>> = state::with(|s| {
        s.types.iter().filter(|(_, known)| known.policy.is_some()).map(|(_, known)| known.name.clone()).collect()
    });
    names.sort();
    ctx.reply_array(names.len());
    names.iter().for_each(|name| ctx.reply_bytes(name));
    Ok(())
}

/// `EXPCACHE.TYPE DEL name`
pub fn del(ctx: &Ctx, mut args: Args<'_>) -> Result<()> {
    let name = args.need()?.bytes();
    if ctx.decides() {
        ctx.need_all_keys(Right::Delete)?;
    }
    let deleted = state::with(|s| s.types.undefine(name))?;
    if deleted {
        ctx.replicate_verbatim();
    }
    ctx.reply_integer(deleted.into());
    Ok(())
}
