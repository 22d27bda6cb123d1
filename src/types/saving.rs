//! Policies, saved.

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

/// Of each defined type.
fn policies() -> Vec<Words> {
    cache::with(|cache| cache.types.iter().filter_map(|(_, known)| policy_words(known)).collect())
}

/// Of the types that a fresh server has and this one has not.
fn deletions() -> Vec<Words> {
    let deleted = cache::with(|cache| cache.types.deleted_initial());
    deleted.into_iter().map(|name| vec![b"DEL".to_vec(), name.as_bytes().to_vec()]).collect()
}
