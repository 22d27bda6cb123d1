//! What the caller may do, where the server cannot check it by itself: with tags, which are guarded as keys of their names
//! are, and with keys that a listing shows.

use std::ffi::c_int;

use redis_module::raw;

use super::api::api;
use super::context::{Arg, Ctx, Text};

/// What a user may do with a key, or with the entries of a tag of that name.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Right {
    /// See it, or read its value.
    Read = raw::REDISMODULE_CMD_KEY_ACCESS,
    /// Delete it.
    Delete = raw::REDISMODULE_CMD_KEY_DELETE,
}

/// The rights of the caller.
pub enum Rights {
    /// No user stands behind the call: it is replication, loading, another module's own. All is allowed.
    Unchecked,
    /// The user is no more.
    None,
    /// Those of a user.
    Of(User),
}

/// A user of the server's, whom we may ask about.
pub struct User(*mut raw::RedisModuleUser);

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { api!(RedisModule_FreeModuleUser)(self.0) };
    }
}

impl Rights {
    /// May the caller do this with a key of this name?
    pub fn allow(&self, right: Right, name: &[u8]) -> bool {
        match self {
            Self::Unchecked => true,
            Self::None => false,
            // SAFETY: user and name are live.
            Self::Of(user) => unsafe {
                let verdict = api!(RedisModule_ACLCheckKeyPermissions)(
                    user.0,
                    Text::new(name).arg().raw(),
                    right as u32 as c_int,
                );
                verdict == raw::REDISMODULE_OK as c_int
            },
        }
    }

    /// May the caller do this with every key? The server can only be asked about one: about a random name, which no pattern
    /// matches but one of those that match nearly everything; and then about the empty name, which only who has all keys
    /// (`~*`) may use, as the pattern of `%R~*` does not match it, or about all names of one byte.
    pub fn allow_all(&self, right: Right, random: u64) -> bool {
        self.allow(right, &random.to_le_bytes())
            && (self.allow(right, b"") || (0..=u8::MAX).all(|byte| self.allow(right, &[byte])))
    }
}

impl Ctx {
    /// The rights of whoever calls.
    pub fn rights(&self) -> Rights {
        Self::rights_of(self.user_name())
    }

    /// The rights of a client, by its number; those of one that went are nobody's business.
    pub fn client_rights(&self, client: u64) -> Rights {
        Self::rights_of(self.client_user_name(client))
    }

    /// The number of the client that calls.
    pub fn client(&self) -> u64 {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_GetClientId)(self.raw()) }
    }

    fn rights_of(name: Option<Text>) -> Rights {
        let Some(name) = name else { return Rights::Unchecked };
        // SAFETY: the name is live; the user is freed when it is dropped.
        let user = unsafe { api!(RedisModule_GetModuleUserFromUserName)(name.arg().raw()) };
        if user.is_null() { Rights::None } else { Rights::Of(User(user)) }
    }

    /// The user behind the call. Asking for the current one crashes servers when there is none, so it is only asked for
    /// where there is: in a script, whose client is not in the server's list. Every other client is looked up there.
    fn user_name(&self) -> Option<Text> {
        if !self.has_flag(raw::REDISMODULE_CTX_FLAGS_LUA) {
            return self.client_user_name(self.client());
        }
        // SAFETY: the context is live.
        self.own(unsafe { api!(RedisModule_GetCurrentUserName)(self.raw()) })
    }

    fn client_user_name(&self, client: u64) -> Option<Text> {
        // SAFETY: the context is live.
        self.own(unsafe { api!(RedisModule_GetClientUserNameById)(self.raw(), client) })
    }

    fn own(&self, name: *mut raw::RedisModuleString) -> Option<Text> {
        if name.is_null() {
            return None;
        }
        // SAFETY: the string is ours to free.
        unsafe {
            let text = Text::new(Arg::new(name).bytes());
            api!(RedisModule_FreeString)(self.raw(), name);
            Some(text)
        }
    }
}
