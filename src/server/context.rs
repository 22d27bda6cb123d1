//! The context of a command: its caller, its rights, and the replies it can give.

use std::ffi::{CStr, c_char, c_int};

use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::{Arg, Text};
use super::replies::Replies;

/// A call in progress, on the main thread: a command, an event or a timer.
pub struct Ctx {
    replies: Replies,
    /// The words of the command, where there is one.
    words: (*mut *mut raw::RedisModuleString, usize),
}

impl std::ops::Deref for Ctx {
    type Target = Replies;

    fn deref(&self) -> &Replies {
        &self.replies
    }
}

impl Ctx {
    /// # Safety
    /// `raw` must be a live context, on the main thread, for as long as this value is used.
    pub(super) unsafe fn new(raw: *mut raw::RedisModuleCtx) -> Self {
        // SAFETY: the caller vouches for it.
        Self { replies: unsafe { Replies::new(raw) }, words: (std::ptr::null_mut(), 0) }
    }

    /// # Safety
    /// As for [`Ctx::new`]; `argv` must hold `argc` strings for as long.
    pub(super) unsafe fn of_command(
        raw: *mut raw::RedisModuleCtx,
        argv: *mut *mut raw::RedisModuleString,
        argc: c_int,
    ) -> Self {
        // SAFETY: the caller vouches for it.
        Self { words: (argv, usize::try_from(argc).unwrap_or(0)), ..unsafe { Self::new(raw) } }
    }

    /// The words of the command that is running or being answered, its name's included.
    pub(super) fn words(&self) -> &[*mut raw::RedisModuleString] {
        let (start, count) = self.words;
        // SAFETY: `of_command`'s caller vouched for it.
        if start.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(start, count) } }
    }

    // ---- where and who ----

    /// The selected database.
    pub fn db(&self) -> i32 {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_GetSelectedDb)(self.raw()) }
    }

    /// Selects another database, for this context. `false` when there is none of that number.
    pub fn select(&self, db: i32) -> bool {
        // SAFETY: the context is live; a database that does not exist is refused.
        unsafe { api!(RedisModule_SelectDb)(self.raw(), db) == raw::REDISMODULE_OK as c_int }
    }

    pub(super) fn has_flag(&self, flag: u32) -> bool {
        // SAFETY: the context is live.
        let flags = unsafe { api!(RedisModule_GetContextFlags)(self.raw()) };
        flags & flag as c_int != 0
    }

    /// May this call make decisions of its own? Not on a replica, not in a command that came over replication, not while loading.
    pub fn decides(&self) -> bool {
        // SAFETY: the context is live.
        let flags = unsafe { api!(RedisModule_GetContextFlags)(self.raw()) } as u32;
        flags & raw::REDISMODULE_CTX_FLAGS_MASTER != 0
            && flags & (raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING) == 0
    }

    /// Does the command carry out what was decided before: did it come over replication, or from the append-only file?
    pub fn is_handed_on(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING)
    }

    /// Is the server loading its data, and the command part of that?
    pub fn is_loading(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_LOADING)
    }

    /// Is the command one of a script or a function?
    pub fn is_in_script(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_LUA)
    }

    /// Is the command one of a transaction?
    pub(super) fn is_in_transaction(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_MULTI)
    }

    /// Is this server a master?
    pub fn is_master(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_MASTER)
    }

    /// Is the server a node of a cluster?
    pub fn is_cluster(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_CLUSTER)
    }

    /// Does the server look for every key in the slot of what is under way? In a cluster it does (Redis from 7.4, Valkey from 8 on) while a
    /// transaction or a script with keys is carried out; keys of other slots then seem to be missing. What has to reach them is done
    /// [`Ctx::afterwards`].
    pub fn is_bound_to_a_slot(&self) -> bool {
        self.is_cluster() && self.has_flag(raw::REDISMODULE_CTX_FLAGS_MULTI | raw::REDISMODULE_CTX_FLAGS_LUA)
    }

    /// May this client be made to wait? Not in a transaction or a script, nobody who brings what others decided, and nobody who has
    /// waited and is being answered: the server would not let him go again.
    pub fn may_block(&self) -> bool {
        const NEVER: u32 = raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_REPLICATED
            | raw::REDISMODULE_CTX_FLAGS_LOADING;
        !self.has_flag(NEVER) && !self.is_answering()
    }

    /// Is it a client's own command, and everybody has to wait until it is done: in a transaction or a script, or called by another
    /// module?
    pub(super) fn holds_others_up(&self) -> bool {
        const ALWAYS: u32 = raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA;
        self.has_flag(ALWAYS) && !self.is_handed_on()
    }

    pub(super) fn is_answering(&self) -> bool {
        // SAFETY: the context is live.
        unsafe {
            api!(RedisModule_IsBlockedReplyRequest)(self.raw()) != 0
                || api!(RedisModule_IsBlockedTimeoutRequest)(self.raw()) != 0
        }
    }

    /// Must nothing be written on our own account now? So it is during `CLIENT PAUSE WRITE` and a failover: a write that no
    /// client's command asked for would abort the server.
    pub fn must_keep_quiet(&self) -> bool {
        // SAFETY: asks a question.
        api_if_any!(RedisModule_AvoidReplicaTraffic).is_some_and(|avoid| unsafe { avoid() } != 0)
    }

    // ---- keys ----

    /// Does the server only ask where the command's keys are? Then they are to be declared and nothing is to be done.
    pub fn asks_for_keys(&self) -> bool {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_IsKeysPositionRequest)(self.raw()) != 0 }
    }

    /// Says that a word of the command is a key that it overwrites; the command's name is word 0.
    pub fn declare_overwritten_key(&self, word: usize) {
        let flags = raw::REDISMODULE_CMD_KEY_OW | raw::REDISMODULE_CMD_KEY_UPDATE;
        // SAFETY: the context is live, and asks for keys.
        unsafe { api!(RedisModule_KeyAtPosWithFlags)(self.raw(), word as c_int, flags as c_int) };
    }

    /// Tells clients that watch or track the key that it changed.
    pub fn signal_modified(&self, key: Arg<'_>) {
        // SAFETY: context and key are live.
        unsafe { api!(RedisModule_SignalModifiedKey)(self.raw(), key.raw()) };
    }

    /// Publishes a keyspace event.
    pub fn notify(&self, class: EventClass, event: &CStr, key: Arg<'_>) {
        // SAFETY: context, text and key are live.
        unsafe { api!(RedisModule_NotifyKeyspaceEvent)(self.raw(), class as c_int, event.as_ptr(), key.raw()) };
    }

    // ---- replication ----

    /// Sends the command to replicas and the append-only file as it came.
    pub fn replicate_verbatim(&self) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplicateVerbatim)(self.raw()) };
    }

    /// Sends an entry to replicas and the append-only file, resolved.
    pub fn replicate_entry(&self, key: Arg<'_>, expire_at_ms: i64, metadata: &[u8], payload: Arg<'_>) {
        // SAFETY: the variable arguments are what the format says: a string, a number, bytes with their length, a string.
        unsafe {
            api!(RedisModule_Replicate)(
                self.raw(),
                c"EXPCACHE.RESTORE".as_ptr(),
                c"slbs".as_ptr(),
                key.raw(),
                expire_at_ms,
                metadata.as_ptr().cast::<c_char>(),
                metadata.len(),
                payload.raw(),
            )
        };
    }

    /// Notes that the data changed, where [nobody hears](Ctx::is_heard) what is replicated: what is sent means nothing.
    pub fn note_change(&self, key: Arg<'_>) {
        // SAFETY: the variable argument is the string that the format says.
        unsafe { api!(RedisModule_Replicate)(self.raw(), c"TOUCH".as_ptr(), c"s".as_ptr(), key.raw()) };
    }

    /// Sends a key's expiry to replicas and the append-only file.
    pub fn replicate_expiry(&self, key: Arg<'_>, moment_ms: i64) {
        // SAFETY: the variable arguments are the string and the number that the format says.
        unsafe { api!(RedisModule_Replicate)(self.raw(), c"PEXPIREAT".as_ptr(), c"sl".as_ptr(), key.raw(), moment_ms) };
    }

    /// Sends a native string with an expiry to replicas and the append-only file.
    pub fn replicate_text(&self, key: Arg<'_>, text: &[u8], expire_at_ms: i64) {
        // SAFETY: the variable arguments are what the format says: a string, bytes with their length, a text, a number.
        unsafe {
            api!(RedisModule_Replicate)(
                self.raw(),
                c"SET".as_ptr(),
                c"sbcl".as_ptr(),
                key.raw(),
                text.as_ptr().cast::<c_char>(),
                text.len(),
                c"PXAT".as_ptr(),
                expire_at_ms,
            )
        };
    }

    /// Sends a command, by its words, to replicas and the append-only file, or to the latter only.
    pub fn replicate_words(&self, command: &CStr, words: &[Vec<u8>], to: Recipients) {
        let texts: Vec<Text> = words.iter().map(|word| Text::new(word)).collect();
        let mut strings: Vec<_> = texts.iter().map(|text| text.arg().raw()).collect();
        let format = match to {
            Recipients::All => c"v",
            Recipients::AppendOnlyFile => c"vR",
        };
        // SAFETY: the variable arguments are what the format says: strings and how many. The server keeps its own references.
        unsafe {
            api!(RedisModule_Replicate)(
                self.raw(),
                command.as_ptr(),
                format.as_ptr(),
                strings.as_mut_ptr(),
                strings.len(),
            )
        };
    }
}

/// To whom a command is sent.
#[derive(Clone, Copy)]
pub enum Recipients {
    /// Replicas and the append-only file.
    All,
    /// The append-only file.
    AppendOnlyFile,
}

/// A class of keyspace events, as `notify-keyspace-events` selects them.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum EventClass {
    /// `g`
    Generic = raw::REDISMODULE_NOTIFY_GENERIC,
    /// `e`
    Evicted = raw::REDISMODULE_NOTIFY_EVICTED,
    /// `d`
    Module = raw::REDISMODULE_NOTIFY_MODULE,
}
