//! How far those who look for the same keys with the same rights have looked.
//!
//! A user that may have few of the keys finds the first of its own behind many of others, which one look does not reach. So the next look of the
//! same user goes on where that one ended, whichever of its workers asks, and however short it waits. What became due at the top meanwhile is
//! looked at first.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::keep;
use super::offer::{self, Asker, Looking, Place, Untold, Wanted};
use crate::server::context::Ctx;
use crate::server::main_thread::MainThread;

/// Of who goes on somewhere so many keys are looked at first, from the best on.
const LOOKED_AT_FIRST: usize = 32;
/// So many crews of one user are remembered, and so many of all.
const MOST_OF_USER: usize = 16;
const MOST: usize = 1024;

/// Those who look for the same: a user, a database, and what stands for the types and how far they look ahead.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Crew {
    user: Option<Box<[u8]>>,
    db: i32,
    wanted: u64,
}

/// How far a crew has looked.
#[derive(Clone, Copy, Default)]
struct Looked {
    /// It goes on after that place.
    after: Option<Place>,
    /// How many keys had become due when it began at the top.
    begun: u64,
    /// In that pass over the workers that wait it has seen all.
    all_in: Option<u64>,
}

static LOOKED: MainThread<HashMap<Crew, Looked>> = MainThread::new();

impl Crew {
    /// That of a client that wants something of the selected database.
    pub fn of(ctx: &Ctx, db: i32, client: u64, wanted: &Wanted) -> Self {
        let mut hasher = DefaultHasher::new();
        (&wanted.types, wanted.ahead_ms).hash(&mut hasher);
        let user = ctx.client_user_name(client).map(|name| name.arg().bytes().into());
        Self { user, db, wanted: hasher.finish() }
    }

    /// Has it seen all that is due in that pass?
    pub fn has_seen_all(&self, pass: u64) -> bool {
        LOOKED.with(|all| all.get(self).is_some_and(|looked| looked.all_in == Some(pass)))
    }

    /// Looks for the next keys, at about so many. Are there more to be looked at?
    pub fn look(
        &self,
        ctx: &Ctx,
        wanted: &Wanted,
        asker: &Asker<'_>,
        most: usize,
        pass: Option<u64>,
    ) -> (Untold, bool) {
        let known = LOOKED.with(|all| all.get(self).copied()).filter(|looked| looked.after.is_some());
        let (start, begun) = known.map_or_else(|| (None, keep::dues()), |looked| (looked.after, looked.begun));
        if start.is_some() {
            let first = Looking { after: None, most: LOOKED_AT_FIRST };
            let (offered, _) = offer::next(ctx, wanted, asker, first);
            if !offered.is_empty() {
                return (offered, true);
            }
        }
        let (offered, mut after) = offer::next(ctx, wanted, asker, Looking { after: start, most });
        if !offered.is_empty() {
            // The next of them begins there too: what it is given is in order.
            return (offered, after.is_some());
        }
        let has_ended = after.is_none();
        if has_ended && start.is_some() && pass.is_none() {
            // It does not come again by itself.
            let (offered, left) = offer::next(ctx, wanted, asker, Looking { after: None, most });
            after = left;
            if !offered.is_empty() {
                self.remember(Looked::default());
                return (offered, true);
            }
        }
        // What became due above meanwhile is for another round.
        let has_seen_all = after.is_none() && begun == keep::dues();
        self.remember(Looked { after, begun, all_in: pass.filter(|_| has_seen_all) });
        (offered, !has_seen_all)
    }

    fn remember(&self, looked: Looked) {
        LOOKED.with(|all| {
            if let Some(known) = all.get_mut(self) {
                *known = looked;
                return;
            }
            if looked.after.is_none() && looked.all_in.is_none() {
                return;
            }
            if all.len() >= MOST {
                all.clear();
            }
            if all.keys().filter(|crew| crew.user == self.user).count() >= MOST_OF_USER {
                let other = all.keys().find(|crew| crew.user == self.user).cloned();
                other.into_iter().for_each(|crew| _ = all.remove(&crew));
            }
            all.insert(self.clone(), looked);
        });
    }
}

/// A database, or all, is another's now: nobody has looked there.
pub fn forget() {
    LOOKED.with(HashMap::clear);
}
