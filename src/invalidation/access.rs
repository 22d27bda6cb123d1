//! Which entries a command means, and whose they are.

use expcache_core::Result;
use expcache_core::grammar::selector::Limits;
use expcache_core::selector::{Clause, Selector};

use crate::server::access::{Right, Rights};
use crate::server::context::Ctx;

/// The limits that hold for a selector of this command: what was decided before is not measured again.
pub fn limits(ctx: &Ctx) -> Limits {
    if ctx.is_handed_on() { Limits::Applied } else { Limits::Apply }
}

/// A selector of these tags, any of them.
pub fn any_of(tags: &[&[u8]]) -> Selector {
    Selector { clauses: vec![Clause::Any(tags.iter().map(|tag| (*tag).into()).collect())] }
}

/// Refuses a selector that may mean entries which are not the caller's. One that is confined to tags which are his (all of an
/// `ANY`, or one of an `ALL`) is his; any other needs the right to all keys.
pub fn guard(ctx: &Ctx, right: Right, selector: &Selector) -> Result<()> {
    let rights = ctx.rights();
    if owns(&rights, right, selector) {
        return Ok(());
    }
    let mut tags = selector.clauses.iter().flat_map(|clause| match clause {
        Clause::Any(tags) | Clause::All(tags) => &**tags,
        Clause::None(_) | Clause::Type(_) | Clause::Types(_) | Clause::Match(_) => &[],
    });
    let refused = tags.find(|tag| !rights.allow(right, tag));
    Err(ctx.refuse(refused.map_or(b"*", AsRef::as_ref)))
}

/// Does all that a selector can mean belong to whoever has these rights?
pub fn owns(rights: &Rights, right: Right, selector: &Selector) -> bool {
    rights.allow_all(right) || confines(rights, right, selector)
}

fn confines(rights: &Rights, right: Right, selector: &Selector) -> bool {
    let mine = |tag: &[u8]| rights.allow(right, tag);
    selector.clauses.iter().any(|clause| match clause {
        Clause::Any(tags) => tags.iter().all(|tag| mine(tag)),
        Clause::All(tags) => tags.iter().any(|tag| mine(tag)),
        Clause::None(_) | Clause::Type(_) | Clause::Types(_) | Clause::Match(_) => false,
    })
}
