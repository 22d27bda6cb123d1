//! What is put on record.

use expcache_core::audit::{Action, Actor};
use expcache_core::policy::Audit;
use expcache_core::types::DEFAULT_TYPE;
use smallvec::SmallVec;

use super::actor::{self, Caller};
use super::{log, readers};
use crate::cache::{self, Cache};
use crate::server::context::Ctx;

/// An action to start from: it was done.
pub const OK: Action<'static> =
    Action { command: "", type_name: None, key: None, tags: &[], count: None, size: None, result: b"ok", note: None };

/// Who runs the command, if that is to be noted: not if it only carries out what was decided before.
pub fn caller(ctx: &Ctx) -> Option<Caller> {
    (log::is_on() && !ctx.is_handed_on()).then(|| Caller::of(ctx))
}

/// Notes what the command that is running has done.
pub fn note(ctx: &Ctx, action: &Action<'_>) {
    if let Some(caller) = caller(ctx) {
        note_by(ctx, &caller, action);
    }
}

/// Notes what was read, by a caller who waited or else by the one whose command is running. (No read is carried out for others.)
pub fn note_read(ctx: &Ctx, caller: Option<&Caller>, action: &Action<'_>) {
    match caller {
        Some(caller) => note_by(ctx, caller, action),
        None => {
            actor::with_reader(ctx, |actor| log::push(actor, action));
            readers::wake(ctx);
        }
    }
}

/// Notes what was done for somebody who called before.
pub fn note_by(ctx: &Ctx, caller: &Caller, action: &Action<'_>) {
    write(ctx, &caller.actor(), action);
}

/// Notes what followed from a command of the server's own. No server tells a module whose command that is.
pub fn note_by_unknown(ctx: &Ctx, action: &Action<'_>) {
    if log::is_on() {
        write(ctx, &Actor::default(), action);
    }
}

fn write(ctx: &Ctx, actor: &Actor<'_>, action: &Action<'_>) {
    log::push(actor, action);
    readers::wake(ctx);
}

/// A type that has something recorded.
pub struct Recorded(SmallVec<[u8; 32]>);

impl Recorded {
    /// A type, if this is recorded of it.
    #[inline]
    pub fn of(cache: &Cache, type_id: u16, what: Audit) -> Option<Self> {
        let is_recorded = cache.types.policy(type_id).audit >= what && log::is_on();
        is_recorded.then(|| Self(SmallVec::from_slice(&cache.types.get(type_id).name)))
    }

    /// The type that a command names, or else the one in a key's name, if this is recorded of it.
    pub fn by_name(type_name: Option<&[u8]>, key: &[u8], what: Audit) -> Option<Self> {
        cache::with(|cache| {
            let id = |cache: &Cache| match type_name {
                Some(name) => cache.types.id(name).unwrap_or(DEFAULT_TYPE),
                None => cache.type_by_key(key),
            };
            if cache.types.are_audited() { Self::of(cache, id(cache), what) } else { None }
        })
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.0
    }
}
