//! Which node has a key, if not this one: only the module itself can redirect a client that waits for the key.
//!
//! Valkey before 9.0.1 must not be asked which node is where: outside a client's command, `CLUSTER SLOTS` and its kind look for a
//! connection that is not there, and the server dies (valkey #2912). There the client is told to try again, and the server itself
//! sends it on.

use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::api;
use super::args::Arg;
use super::call::Reply;
use super::clock;
use super::context::Ctx;
use super::main_thread::MainThread;
use super::version::Version;

/// Thousands may wait for keys of a slot, and asking where it is takes the longer the larger the cluster: so for these the answer
/// is kept. A client that is sent to where the slot was a moment ago is sent on from there.
const KNOWN_FOR_MS: u64 = 100;

/// Where clients were sent last.
static LAST: MainThread<Option<Redirection>> = MainThread::new();

#[derive(Clone)]
struct Redirection {
    slot: u16,
    where_to: Error,
    until_ms: u64,
}

/// Where a key is, as far as this node knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// Here.
    Here,
    /// In another node, or on its way there.
    Elsewhere,
    /// Nobody knows: the cluster is down.
    Unknown,
}

impl Ctx {
    /// Is this node the one for a key? Where there is no cluster, it is for all.
    pub fn serves(&self, key: Arg<'_>) -> bool {
        self.whereabouts(key) == Whereabouts::Here
    }

    /// Where is a key?
    pub fn whereabouts(&self, key: Arg<'_>) -> Whereabouts {
        if !self.is_cluster() {
            return Whereabouts::Here;
        }
        // SAFETY: the variable argument is the string that the format says. The server refuses to ask about another node's key.
        let reply = unsafe { api!(RedisModule_Call)(self.raw(), c"EXISTS".as_ptr(), c"s".as_ptr(), key.raw()) };
        if reply.is_null() {
            let is_down = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENETDOWN);
            return if is_down { Whereabouts::Unknown } else { Whereabouts::Elsewhere };
        }
        // SAFETY: it is ours, and freed once.
        unsafe { api!(RedisModule_FreeCallReply)(reply) };
        Whereabouts::Here
    }

    /// Is the key this node's still? If not, the error sends the client to where it is, as the server's own would; or has it try
    /// again, when the server knows: while the slot is on its way, the value that the client waits for will come to the other node.
    pub fn check_node(&self, key: Arg<'_>) -> Result<()> {
        if self.serves(key) {
            return Ok(());
        }
        let slot = self.slot(key).unwrap_or_default();
        let known =
            LAST.with(|last| last.clone().filter(|last| last.slot == slot && clock::steady_ms() < last.until_ms));
        let known = known.unwrap_or_else(|| {
            let where_to = self.redirection(slot);
            let known = Redirection { slot, where_to, until_ms: clock::steady_ms() + KNOWN_FOR_MS };
            LAST.with(|last| last.insert(known).clone())
        });
        Err(known.where_to)
    }

    fn redirection(&self, slot: u16) -> Error {
        if matches!(self.server_version(), Version::Valkey(version) if version < [9, 0, 1]) {
            return Error::SlotMoved;
        }
        match self.owner(slot) {
            Some(Owner { is_this_node: true, .. }) => Error::SlotMoved,
            Some(owner) => Error::Moved(slot, Some(owner.address.into())),
            None => Error::Moved(slot, None),
        }
    }

    fn slot(&self, key: Arg<'_>) -> Option<u16> {
        // SAFETY: the variable arguments are the two strings that the format says.
        let reply = unsafe {
            Reply::new(api!(RedisModule_Call)(
                self.raw(),
                c"CLUSTER".as_ptr(),
                c"cs".as_ptr(),
                c"KEYSLOT".as_ptr(),
                key.raw(),
            ))
        };
        u16::try_from(reply.integer()?).ok()
    }

    /// Who serves a slot, as far as this node knows.
    fn owner(&self, slot: u16) -> Option<Owner> {
        // SAFETY: the variable argument is the string that the format says.
        let reply = unsafe {
            Reply::new(api!(RedisModule_Call)(self.raw(), c"CLUSTER".as_ptr(), c"c".as_ptr(), c"SLOTS".as_ptr()))
        };
        let id_len = raw::REDISMODULE_NODE_ID_LEN as usize;
        // SAFETY: the server's own name of this node lives as long as the server. It has no end but its length.
        let own_id = unsafe { std::slice::from_raw_parts(api!(RedisModule_GetMyClusterID)().cast::<u8>(), id_len) };
        (0..reply.len()).find_map(|at| {
            let range = reply.at(at)?;
            let (first, last) = (range.at(0)?.integer()?, range.at(1)?.integer()?);
            let node = range.at(2).filter(|_| (first..=last).contains(&slot.into()))?;
            let address = format!("{}:{}", node.at(0)?.text(), node.at(1)?.integer()?);
            Some(Owner { is_this_node: node.at(2)?.text().as_bytes() == own_id, address })
        })
    }
}

struct Owner {
    is_this_node: bool,
    address: String,
}
