//! Policies, saved: in the RDB, and in an append-only file that is rewritten without an RDB preamble.
//!
//! Such a rewrite asks only keys for what they are, so nobody would write the policies. But the server opens the file for what comes
//! next before it forks: sending the policies once more, right after the fork, puts them there.

use expcache_core::policy::Policy;
use expcache_core::types::DEFAULT_TYPE;

use super::policies::{policy_words, restore_policy};
use crate::cache;
use crate::server::background::{Background, WHILE_QUIET_MS};
use crate::server::context::{Ctx, Recipients};
use crate::server::datatype::Saves;

/// What is saved beside the keys. Nothing is, while policies are the initial ones.
pub static SAVES: Saves = Saves {
    is_initial: || cache::with(|cache| cache.types.are_initial()),
    save: policies,
    forget: || cache::with(|cache| cache.types.forget_policies()),
    load: restore_policy,
};

/// The words of a `TYPE SET` for each defined type, `default` first: whoever reads them has nothing but initial policies, and starts every
/// other type as `default` is.
fn policies() -> Vec<Vec<Vec<u8>>> {
    cache::with(|cache| {
        let (initial, default) = (Policy::default(), cache.types.policy(DEFAULT_TYPE));
        let before = |id: u16| if id == DEFAULT_TYPE { &initial } else { default };
        cache.types.iter().filter_map(|(id, known)| policy_words(known, before(id))).collect()
    })
}

static SENDING: Background = Background::new(send);

/// Sends the policies to the append-only file soon, if it is being rewritten and they are not the initial ones.
pub fn schedule(ctx: &Ctx) {
    if !cache::with(|s| s.types.are_initial()) {
        SENDING.schedule(ctx, 0);
    }
}

fn send(ctx: &Ctx) -> Option<i64> {
    if ctx.server_info(c"persistence", c"aof_rewrite_in_progress").as_deref() != Some("1") {
        return None;
    }
    if ctx.must_keep_quiet() {
        return Some(WHILE_QUIET_MS);
    }
    let (deleted, policies) = (cache::with(|cache| cache.types.deleted_initial()), policies());
    let deletions = deleted.into_iter().map(|name| vec![b"DEL".to_vec(), name.as_bytes().to_vec()]);
    for words in policies.into_iter().chain(deletions) {
        ctx.replicate_words(c"EXPCACHE.TYPE", &words, Recipients::AppendOnlyFile);
    }
    None
}
