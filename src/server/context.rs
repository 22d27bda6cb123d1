//! What a command sees of the server: its arguments, its caller, and the replies it can give.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;

use expcache_core::index::Mark;
use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::{api, api_if_any};
use super::cluster::Reply;
use super::key::{Found, Key, Mode, expire_at_ms, found};
use super::replies::Replies;
use super::state;

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

/// One argument of a command.
#[derive(Clone, Copy)]
pub struct Arg<'a> {
    string: *mut raw::RedisModuleString,
    call: PhantomData<&'a Ctx>,
}

/// The arguments of a command that were not taken yet. The command's name was.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    left: &'a [*mut raw::RedisModuleString],
}

impl<'a> Arg<'a> {
    /// # Safety
    /// `string` must be a string of the server's that lives as long as `'a`.
    pub(super) unsafe fn new(string: *mut raw::RedisModuleString) -> Self {
        Self { string, call: PhantomData }
    }

    pub(super) fn raw(self) -> *mut raw::RedisModuleString {
        self.string
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the string lives as long as `'a`, and the server does not change it while a module may see it.
        unsafe {
            let start = api!(RedisModule_StringPtrLen)(self.string, &mut len);
            std::slice::from_raw_parts(start.cast(), len)
        }
    }
}

impl<'a> Args<'a> {
    /// # Safety
    /// `argv` must hold `argc` strings that live as long as `'a`.
    pub(super) unsafe fn new(argv: *mut *mut raw::RedisModuleString, argc: c_int, skip: usize) -> Self {
        // SAFETY: as above.
        let all = unsafe { std::slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or(0)) };
        Self { left: all.get(skip..).unwrap_or_default() }
    }

    /// # Safety
    /// The strings must be the server's, and live as long as `'a`.
    pub(super) unsafe fn these(strings: &'a [*mut raw::RedisModuleString]) -> Self {
        Self { left: strings }
    }

    /// The next argument, which the grammar demands.
    pub fn need(&mut self) -> Result<Arg<'a>> {
        self.next().ok_or(Error::Syntax)
    }

    /// Takes the next `count` arguments.
    pub fn split_off(&mut self, count: usize) -> Result<Args<'a>> {
        let (taken, rest) = self.left.split_at_checked(count).ok_or(Error::Syntax)?;
        self.left = rest;
        Ok(Args { left: taken })
    }

    /// What is left, as the grammar reads it.
    pub fn words(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.map(Arg::bytes)
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// Is nothing left?
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// What is left has to be nothing.
    pub fn end(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(Error::Syntax) }
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = Arg<'a>;

    fn next(&mut self) -> Option<Arg<'a>> {
        let (first, rest) = self.left.split_first()?;
        self.left = rest;
        // SAFETY: `new`'s caller vouched for it.
        Some(unsafe { Arg::new(*first) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.iter().size_hint()
    }
}

impl ExactSizeIterator for Args<'_> {}

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

    /// Does this server decide for itself, and may it do so now? Not on a replica, not for a command that came over
    /// replication, not while loading.
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

    /// Is this server a master?
    pub fn is_master(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_MASTER)
    }

    /// Is the server a node of a cluster?
    pub fn is_cluster(&self) -> bool {
        self.has_flag(raw::REDISMODULE_CTX_FLAGS_CLUSTER)
    }

    /// Is this node the one for a key? Where there is no cluster, it is for all.
    pub fn serves(&self, key: Arg<'_>) -> bool {
        if !self.is_cluster() {
            return true;
        }
        // SAFETY: the variable argument is the string that the format says. The server refuses to ask about another node's key.
        unsafe {
            let reply = api!(RedisModule_Call)(self.raw(), c"EXISTS".as_ptr(), c"s".as_ptr(), key.raw());
            if !reply.is_null() {
                api!(RedisModule_FreeCallReply)(reply);
            }
            !reply.is_null()
        }
    }

    /// Would the server let a client store something now? Not on a read-only replica, nor while memory is short, too few replicas
    /// are there or the disk fails.
    pub fn accepts_writes(&self) -> bool {
        const REFUSALS: [&str; 4] = ["OOM", "NOREPLICAS", "MISCONF", "READONLY"];
        // A write that changes nothing, held to what scripts (`S`) and memory (`M`) are held to; refusals come as replies (`E`).
        // SAFETY: the variable arguments are the three strings that the format says.
        let reply = unsafe {
            Reply::new(api!(RedisModule_Call)(
                self.raw(),
                c"SETRANGE".as_ptr(),
                c"cccSME".as_ptr(),
                c"".as_ptr(),
                c"0".as_ptr(),
                c"".as_ptr(),
            ))
        };
        let text = reply.whole().text();
        !REFUSALS.iter().any(|refusal| text.trim_start_matches('-').starts_with(refusal))
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

    /// Opens a key of the selected database.
    pub fn open<'c>(&'c self, name: Arg<'c>, mode: Mode) -> Key<'c> {
        Key::open(self, name, mode)
    }

    /// Shows every key of the selected database, expired ones that are still there included, with when the server expires
    /// it. `show` must not call the server.
    pub fn scan(&self, mut show: impl FnMut(&[u8], Found<'_>, Option<i64>)) {
        let cursor = Cursor::start();
        while self.scan_step(&cursor, &mut show) {}
    }

    /// As [`Ctx::scan`], a few keys at a time: `false` when there are no more. A key that is there throughout is shown.
    pub fn scan_step<F: FnMut(&[u8], Found<'_>, Option<i64>)>(&self, cursor: &Cursor, show: &mut F) -> bool {
        unsafe extern "C" fn visit<F: FnMut(&[u8], Found<'_>, Option<i64>)>(
            _ctx: *mut raw::RedisModuleCtx,
            name: *mut raw::RedisModuleString,
            key: *mut raw::RedisModuleKey,
            data: *mut c_void,
        ) {
            super::guard((), || {
                // SAFETY: `data` is the closure that `scan` lent; name and key are live during the callback.
                unsafe { (*data.cast::<F>())(Arg::new(name).bytes(), found(key), expire_at_ms(key)) }
            });
        }
        // SAFETY: context, cursor and closure are live during the step.
        unsafe { api!(RedisModule_Scan)(self.raw(), cursor.0, Some(visit::<F>), std::ptr::from_mut(show).cast()) != 0 }
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

    /// Does anybody get what is replicated: a replica, now or from the backlog, or the append-only file? While nobody does,
    /// the resolved form of a command need not be made: [`Ctx::replicate_verbatim`] then only marks the data as changed.
    ///
    /// Asking costs some microseconds, so the answer is kept until the next beat of the server's clock, and at the most until the
    /// server forks, loads or changes its role: one of these comes before anybody starts to listen. Should somebody get the
    /// command as it came all the same, it makes the same entry but for the time it takes to arrive.
    pub fn is_heard(&self) -> bool {
        if let Some(heard) = state::with(|s| s.heard) {
            return heard;
        }
        let is = |section, field, silent: &str| self.server_info(section, field).as_deref() == Some(silent);
        let silent = is(c"replication", c"connected_slaves", "0")
            && is(c"replication", c"repl_backlog_active", "0")
            && is(c"persistence", c"aof_enabled", "0")
            && is(c"cluster", c"cluster_enabled", "0");
        state::with(|s| s.heard = Some(!silent));
        !silent
    }

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

    // ---- keys, changed as the server's own commands change them ----

    /// As `UNLINK key`: with its keyspace event, seen by those who watch and track, replicated. Was there a key?
    ///
    /// Not by calling `UNLINK`, which is refused for a key of a slot that this node is only about to own.
    pub fn unlink(&self, name: Arg<'_>) -> bool {
        self.remove(name, EventClass::Generic, c"del")
    }

    /// As the server does for `maxmemory`.
    pub fn evict(&self, name: Arg<'_>) -> bool {
        self.remove(name, EventClass::Evicted, c"evicted")
    }

    fn remove(&self, name: Arg<'_>, class: EventClass, event: &CStr) -> bool {
        if !self.open(name, Mode::Write).unlink() {
            return false;
        }
        self.signal_modified(name);
        self.notify(class, event, name);
        // SAFETY: the variable argument is the string that the format says.
        unsafe { api!(RedisModule_Replicate)(self.raw(), c"UNLINK".as_ptr(), c"s".as_ptr(), name.raw()) };
        true
    }

    /// Puts a key's expiry off and tells replicas. Who watches or tracks the key is not told: its value is the same.
    pub fn expire_at(&self, name: Arg<'_>, moment_ms: i64) {
        let mut key = self.open(name, Mode::Write);
        key.set_expire_at_ms(Some(moment_ms));
        let db = key.db();
        if let Found::Entry(entry) = key.found() {
            state::with(|s| s.redate(db, entry, Some(moment_ms), Mark::CarriedOut));
        }
        drop(key);
        // SAFETY: the variable arguments are the string and the number that the format says.
        unsafe {
            api!(RedisModule_Replicate)(self.raw(), c"PEXPIREAT".as_ptr(), c"sl".as_ptr(), name.raw(), moment_ms)
        };
    }

    /// The server's bound for all memory, if there is one.
    pub fn max_memory(&self) -> Option<u64> {
        // SAFETY: asks a question. Without a bound nothing is used of it.
        let used = api_if_any!(RedisModule_GetUsedMemoryRatio).map(|ratio| unsafe { ratio() });
        if used.is_some_and(|used| used <= 0.0) {
            return None;
        }
        let value = self.call_for_texts(c"CONFIG", &[c"GET", c"maxmemory"]).pop()?;
        String::from_utf8(value).ok()?.parse().ok().filter(|most| *most > 0)
    }

    /// Calls a command of the server's on our own account, for texts: that of its reply, or those in it; nothing for an error.
    pub fn call_for_texts(&self, command: &CStr, words: &[&CStr]) -> Vec<Vec<u8>> {
        let texts: Vec<Text> = words.iter().map(|word| Text::new(word.to_bytes())).collect();
        let mut strings: Vec<_> = texts.iter().map(|text| text.arg().raw()).collect();
        // SAFETY: the variable arguments are what the format says: strings and how many. The reply is freed after its last use,
        // and with it those in it.
        unsafe {
            let call = api!(RedisModule_Call);
            let reply = call(self.raw(), command.as_ptr(), c"v".as_ptr(), strings.as_mut_ptr(), strings.len());
            if reply.is_null() {
                return Vec::new();
            }
            let kind = api!(RedisModule_CallReplyType)(reply) as isize;
            let found = if kind == raw::REDISMODULE_REPLY_ARRAY {
                let elements = 0..api!(RedisModule_CallReplyLength)(reply);
                elements.map(|at| reply_text(api!(RedisModule_CallReplyArrayElement)(reply, at))).collect()
            } else {
                vec![reply_text(reply)]
            };
            api!(RedisModule_FreeCallReply)(reply);
            found
        }
    }

    /// A field of a section of the server's `INFO`.
    pub fn server_info(&self, section: &CStr, field: &CStr) -> Option<String> {
        // SAFETY: the section's data is freed after its last use; the field's text is the data's.
        unsafe {
            let data = api!(RedisModule_GetServerInfo)(self.raw(), section.as_ptr());
            let text = api!(RedisModule_ServerInfoGetFieldC)(data, field.as_ptr());
            let found = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
            api!(RedisModule_FreeServerInfo)(self.raw(), data);
            found
        }
    }
}

/// # Safety
/// `reply` must be a live part of a reply, or null.
unsafe fn reply_text(reply: *mut raw::RedisModuleCallReply) -> Vec<u8> {
    let mut len = 0;
    // SAFETY: the caller vouches for the reply; anything but a text has no bytes.
    unsafe {
        let start =
            if reply.is_null() { std::ptr::null() } else { api!(RedisModule_CallReplyStringPtr)(reply, &mut len) };
        if start.is_null() { Vec::new() } else { std::slice::from_raw_parts(start.cast(), len).to_vec() }
    }
}

/// How far a scan of a database has come.
pub struct Cursor(*mut raw::RedisModuleScanCursor);

impl Cursor {
    /// At its beginning.
    pub fn start() -> Self {
        // SAFETY: makes something that is ours to free.
        Self(unsafe { api!(RedisModule_ScanCursorCreate)() })
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { api!(RedisModule_ScanCursorDestroy)(self.0) };
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

/// A string of the server's that we made.
pub struct Text(*mut raw::RedisModuleString);

impl Text {
    /// From any bytes.
    pub fn new(bytes: &[u8]) -> Self {
        // SAFETY: the server copies the bytes; without a context the string is ours to free.
        Self(unsafe { api!(RedisModule_CreateString)(std::ptr::null_mut(), bytes.as_ptr().cast(), bytes.len()) })
    }

    /// As an argument.
    pub fn arg(&self) -> Arg<'_> {
        // SAFETY: the string lives as long as `self`.
        unsafe { Arg::new(self.0) }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: we made it, and nobody else frees it.
        unsafe { api!(RedisModule_FreeString)(std::ptr::null_mut(), self.0) };
    }
}

/// Writes to the server's log. The text is never a format, and cut at a NUL.
pub fn log(level: LogLevel, text: &str) {
    let level = match level {
        LogLevel::Verbose => c"verbose",
        LogLevel::Notice => c"notice",
        LogLevel::Warning => c"warning",
    };
    let clean: Vec<u8> = text.bytes().map(|b| if b < b' ' { b' ' } else { b }).collect();
    let text = CString::new(clean).unwrap_or_default();
    // SAFETY: the format takes exactly the one text; no context is needed to log.
    unsafe { api!(RedisModule_Log)(std::ptr::null_mut(), level.as_ptr(), c"expcache: %s".as_ptr(), text.as_ptr()) };
}

/// How much a line of the log matters.
#[derive(Clone, Copy)]
pub enum LogLevel {
    /// For those who look closely.
    Verbose,
    /// Good to know.
    Notice,
    /// Needs somebody's attention.
    Warning,
}
