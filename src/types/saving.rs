//! Policies, saved.

use expcache_core::policy::Policy;
use expcache_core::types::DEFAULT_TYPE;

use super::policies::{policy_words, restore_policy};
use crate::cache;
use crate::server::saving::{Saves, Words};

/// The words of `TYPE SET` and `TYPE DEL`. Nothing is saved, while policies are the initial ones.
pub static SAVES: Saves = Saves {
    command: c"EXPCACHE.TYPE",
    mark: b"",
    is_initial: || cache::with(|cache| cache.types.are_initial()),
    save: policies,
    delete: deletions,
    forget: || cache::with(|cache| cache.types.forget_policies()),
    load: restore_policy,
};

/// The words of a `TYPE SET` for each defined type, `default` first: whoever reads them has nothing but initial policies, and starts every
/// other type as `default` is.
fn policies() -> Vec<Words> {
    cache::with(|cache| {
        let (initial, default) = (Policy::default(), cache.types.policy(DEFAULT_TYPE));
        let before = |id: u16| if id == DEFAULT_TYPE { &initial } else { default };
        cache.types.iter().filter_map(|(id, known)| policy_words(known, before(id))).collect()
    })
}

/// Of the types that a fresh server has and this one has not.
fn deletions() -> Vec<Words> {
    let deleted = cache::with(|cache| cache.types.deleted_initial());
    deleted.into_iter().map(|name| vec![b"DEL".to_vec(), name.as_bytes().to_vec()]).collect()
}
