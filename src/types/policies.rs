//! Policies of types: what a type is going to be, and the words that make it so on replicas and in files.

use expcache_core::grammar::policy::PolicyChange;
use expcache_core::grammar::{self, is};
use expcache_core::policy::Policy;
use expcache_core::types::{DEFAULT_TYPE, Definer, Type};
use expcache_core::{Error, Result};

use crate::cache;
use crate::server::context::{Ctx, Recipients};
use crate::server::setting::Setting;

/// The lifetime of entries whose type has none; 0: without end.
pub static DEFAULT_TTL: Setting = Setting::duration(c"default-ttl", 3_600_000, |_ms| Ok(()));
/// The most types.
pub static MAX_TYPES: Setting = Setting::number(c"max-types", 1024, 8..=16_384);

/// As `TYPE SET`, from words that [`policy_words`] wrote; for loading.
pub fn restore_policy(words: &[&[u8]]) -> Result<()> {
    let words = match words.split_first() {
        Some((word, words)) if is(word, "SET") => words,
        _ => return Err(Error::Syntax),
    };
    let (name, policy, definer) = define(words.iter().copied())?;
    cache::with(|s| {
        let id = s.types.to_define(&name, usize::MAX)?;
        s.types.set_policy(id, policy, definer);
        Ok(())
    })
}

/// What a type is going to be; nothing is changed.
pub fn define<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<(Box<[u8]>, Policy, Definer)> {
    let (name, change) = PolicyChange::parse(words)?;
    let mut policy = current_policy(name);
    change.apply(&mut policy)?;
    Ok((name.into(), policy, change.definer()))
}

/// The policy that a type's change starts from. A new type starts as `default` is.
pub fn current_policy(name: &[u8]) -> Policy {
    cache::with(|s| s.types.policy(s.types.id(name).unwrap_or(DEFAULT_TYPE)).clone())
}

/// The words of the `TYPE SET` that makes a type what it is where it was that before: nothing is left to configuration.
pub fn policy_words(known: &Type, before: &Policy) -> Option<Vec<Vec<u8>>> {
    let whole = PolicyChange::to_all_of(known.policy.as_ref()?, before, known.definer);
    Some(grammar::words(|to| {
        to(b"SET");
        to(&known.name);
        whole.write(to);
    }))
}

/// Sends a type's policy to replicas and the append-only file, where it was that before.
pub fn replicate_policy(ctx: &Ctx, id: u16, before: &Policy) {
    if let Some(words) = cache::with(|s| policy_words(s.types.get(id), before)) {
        ctx.replicate_words(c"EXPCACHE.TYPE", &words, Recipients::All);
    }
}

/// Tells them of a type that made room.
pub fn replicate_displaced(ctx: &Ctx, name: Option<Box<[u8]>>) {
    if let Some(name) = name {
        ctx.replicate_words(c"EXPCACHE.TYPE", &[b"DEL".to_vec(), name.into()], Recipients::All);
    }
}
