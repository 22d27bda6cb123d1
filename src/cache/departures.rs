//! Why entries go.
//!
//! The server says that a value goes and why in two steps, and the module has its own reasons for some:
//!
//! ```text
//!  we unlink on our own account ── while_unlinking(Reason) ──┐
//!                                                            ▼
//!  the server takes a value out ──▶ the type's `unlink2` ──▶ the index lets it go: `last_unlinked`
//!  the server says why          ──▶ the key's event      ──▶ `last_unlinked` is counted, and the memory of misses learns of it
//!  nobody says why (a rename, an overwriting command)    ──▶ the next beat of the server's clock forgets it
//! ```
//!
//! At most one entry waits for the event that says why it went.

use std::hash::BuildHasher;

use expcache_core::stats::{MissMemory, Why};
use hashbrown::DefaultHashBuilder;

use crate::server::clock::steady_ms;
use crate::server::setting::Setting;

/// How many keys are remembered of which it is known why they went; 0: none.
pub static MISS_MEMORY: Setting = Setting::number(c"miss-memory", 65_536, 0..=16_777_216);

/// Why an entry went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A command deleted it.
    Deleted,
    /// Its time was over.
    Expired,
    /// It made room.
    Evicted,
}

/// Why we unlink keys on our own account.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They are dead.
    Reclaiming,
    /// Their type is over its limits.
    MakingRoom,
}

/// An entry that was unlinked and of which nobody has said yet why.
pub struct Unlinked {
    /// The hash of its name.
    pub name: u64,
    /// The hash under which its departure is remembered.
    pub departure: u64,
    /// Its type.
    pub type_id: u16,
    /// Had it been invalidated?
    pub was_dead: bool,
    /// When its key expired.
    pub expires_ms: u64,
}

/// See the head.
#[derive(Default)]
pub struct Departures {
    /// Why we ourselves are unlinking keys, while we are.
    pub reason: Option<Reason>,
    last_unlinked: Option<Unlinked>,
    /// The name and the type of the entry that went last, whether or not it is known why.
    last: Option<(u64, u16)>,
    misses: MissMemory,
    hasher: DefaultHashBuilder,
}

impl Departures {
    /// The hash of a key's name.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The hash under which the departure of a key is remembered. It is its database's index that counts, wherever that goes.
    pub fn departure_hash(name: u64, index: u16) -> u64 {
        name ^ u64::from(index).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Notes that an entry was unlinked.
    pub fn unlinked(&mut self, entry: Unlinked) {
        if entry.was_dead {
            self.note(entry.departure, Why::Invalidated);
        } else {
            self.misses.forget(entry.departure);
        }
        self.last = Some((entry.name, entry.type_id));
        self.last_unlinked = Some(entry);
    }

    /// The type of the entry that went last, if the key was its.
    pub fn departed_type(&self, key: &[u8]) -> Option<u16> {
        let (name, type_id) = self.last?;
        (name == self.hash(key)).then_some(type_id)
    }

    /// The entry that was unlinked last, if the key is its.
    pub fn last_unlinked(&self, key: &[u8]) -> Option<&Unlinked> {
        let name = self.hash(key);
        self.last_unlinked.as_ref().filter(|entry| entry.name == name)
    }

    /// Takes the entry that was unlinked last, if the key is its.
    pub fn take_last_unlinked(&mut self, key: &[u8]) -> Option<Unlinked> {
        let name = self.hash(key);
        self.last_unlinked.take().filter(|entry| entry.name == name)
    }

    /// Forgets the last unlinked entry: it was renamed or moved, or no event will say its reason.
    pub fn forget_last_unlinked(&mut self) {
        self.last_unlinked = None;
    }

    /// Is the reason still to be said why the last entry went?
    pub fn has_last_unlinked(&self) -> bool {
        self.last_unlinked.is_some()
    }

    /// Remembers why a key went.
    pub fn note(&mut self, departure: u64, why: Why) {
        self.fit();
        self.misses.note(departure, why, steady_ms() / 1000);
    }

    /// Forgets why a key went.
    pub fn forget(&mut self, departure: u64) {
        self.misses.forget(departure);
    }

    /// Why a key is not there, as far as known.
    pub fn why(&self, departure: u64) -> Option<Why> {
        self.misses.why(departure, steady_ms() / 1000)
    }

    /// Makes the memory of misses as large as it is configured.
    pub fn fit(&mut self) {
        if !self.misses.has_room_for(MISS_MEMORY.as_usize()) {
            self.misses = MissMemory::new(MISS_MEMORY.as_usize(), steady_ms() / 1000);
        }
    }

    /// The memory of misses.
    pub fn misses(&self) -> &MissMemory {
        &self.misses
    }
}
