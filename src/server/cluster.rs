//! Where a key is, if not on this node: for clients that wait for it, whom nobody but us sends elsewhere.
//!
//! Valkey before 9.0.1 must not be asked which node is where: outside a client's command, `CLUSTER SLOTS` and its kind look for a
//! connection that is not there, and the server dies (valkey #2912). There the client is told to try again, and the server itself
//! sends it on.

use std::ffi::c_char;

use expcache_core::{Error, Result};
use redis_module::raw;

use super::Version;
use super::api::api;
use super::context::{Arg, Ctx};

impl Ctx {
    /// Is the key this node's still? If not, the error sends the client to where it is, as the server's own would; or has it try
    /// again, when the server knows: while the slot is on its way, the value that the client waits for will come to the other node.
    pub fn check_node(&self, key: Arg<'_>) -> Result<()> {
        if self.serves(key) {
            return Ok(());
        }
        if matches!(self.server_version(), Version::Valkey(version) if version < [9, 0, 1]) {
            return Err(Error::SlotMoved);
        }
        let slot = self.slot(key).unwrap_or_default();
        match self.owner(slot) {
            Some(Owner { is_this_node: true, .. }) => Err(Error::SlotMoved),
            Some(owner) => Err(Error::Moved(slot, Some(owner.address.into()))),
            None => Err(Error::Moved(slot, None)),
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

/// A reply of the server's to a call of ours.
pub struct Reply(*mut raw::RedisModuleCallReply);

/// A part of a reply, which is freed with the whole.
pub struct Part<'r>(*mut raw::RedisModuleCallReply, std::marker::PhantomData<&'r Reply>);

impl Reply {
    /// # Safety
    /// The reply must be nobody else's to free; null is none.
    pub(super) unsafe fn new(reply: *mut raw::RedisModuleCallReply) -> Self {
        Self(reply)
    }

    /// All of it.
    pub fn whole(&self) -> Part<'_> {
        Part(self.0, std::marker::PhantomData)
    }

    fn integer(&self) -> Option<i64> {
        self.whole().integer()
    }

    fn len(&self) -> usize {
        // SAFETY: the reply is live; of what is no array the length is of no matter, as it has no parts.
        if self.0.is_null() { 0 } else { unsafe { api!(RedisModule_CallReplyLength)(self.0) } }
    }

    fn at(&self, at: usize) -> Option<Part<'_>> {
        self.whole().at(at)
    }
}

impl<'r> Part<'r> {
    fn is(&self, kind: isize) -> bool {
        // SAFETY: the reply is live.
        !self.0.is_null() && unsafe { api!(RedisModule_CallReplyType)(self.0) } as isize == kind
    }

    fn integer(&self) -> Option<i64> {
        // SAFETY: the reply is live.
        self.is(raw::REDISMODULE_REPLY_INTEGER).then(|| unsafe { api!(RedisModule_CallReplyInteger)(self.0) })
    }

    fn at(&self, at: usize) -> Option<Part<'r>> {
        if !self.is(raw::REDISMODULE_REPLY_ARRAY) {
            return None;
        }
        // SAFETY: the reply is live and an array; beyond its end is null.
        let part = unsafe { api!(RedisModule_CallReplyArrayElement)(self.0, at) };
        (!part.is_null()).then_some(Part(part, std::marker::PhantomData))
    }

    /// Its text, if it is one, or an error's.
    pub fn text(&self) -> String {
        if !self.is(raw::REDISMODULE_REPLY_STRING) && !self.is(raw::REDISMODULE_REPLY_ERROR) {
            return String::new();
        }
        let mut len = 0;
        // SAFETY: the reply is live, and its text as long as it says.
        unsafe {
            let text: *const c_char = api!(RedisModule_CallReplyStringPtr)(self.0, &mut len);
            if text.is_null() {
                return String::new();
            }
            String::from_utf8_lossy(std::slice::from_raw_parts(text.cast(), len)).into_owned()
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: ours, freed once.
            unsafe { api!(RedisModule_FreeCallReply)(self.0) };
        }
    }
}
