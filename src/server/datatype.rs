//! The data type: the callbacks by which the server saves, loads, copies and frees an entry.
//!
//! `free` may run on any thread and touches only the value. All others run on the main thread, or in a child that has a copy
//! of everything; none of them writes.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use expcache_core::Result;
use expcache_core::entry::{Body, Entry, Names, etag_of};
use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::Arg;
use super::context::Ctx;
use super::discard;
use super::guard::guard;
use super::key::{as_entry, into_raw, set_data_type};
use super::log::{LogLevel, log};
use super::saving;

/// Nine characters, as the server demands.
const NAME: &std::ffi::CStr = c"exp-cache";
/// Version of what `rdb_save` and `aux_save` write.
const ENCODING_VERSION: c_int = 1;
/// The effort from which the server frees aside is 64.
const FREE_ASIDE: usize = 65;

/// Questions of the data type to the room that keeps the books. The number is that of the value's database, as the server says it,
/// which is not always right.
pub struct ValueHooks {
    /// An entry's metadata, as it is saved and replicated.
    pub metadata: fn(i32, &Entry) -> Vec<u8>,
    /// An entry's names, wherever it is.
    pub names: fn(i32, &Entry) -> Names,
    /// Was it invalidated?
    pub is_dead: fn(i32, &Entry) -> bool,
    /// May an entry be restored by a client, here or on a node of a cluster?
    pub admit: fn(&Entry, Home) -> Result<()>,
    /// The key under this name lets its value go.
    pub unlinked: fn(i32, &[u8], &mut Entry),
    /// A copy of it; nothing if there is no memory.
    pub copied: fn(i32, &Entry) -> Option<Box<Entry>>,
}

/// Where an entry is restored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// On a server by itself.
    Alone,
    /// On a node of a cluster.
    Node,
}

static HOOKS: OnceLock<&'static ValueHooks> = OnceLock::new();

#[expect(clippy::panic, reason = "caught by the guard around every callback")]
fn hooks() -> &'static ValueHooks {
    HOOKS.get().unwrap_or_else(|| panic!("nobody answers for the data type"))
}

/// Registers the type, and who answers for it.
pub(super) fn register(ctx: &Ctx, hooks: Option<&'static ValueHooks>) -> std::result::Result<(), String> {
    hooks.into_iter().for_each(|hooks| _ = HOOKS.set(hooks));
    // SAFETY: the structure has no invalid all-zero field: numbers and optional functions.
    let mut methods: raw::RedisModuleTypeMethods = unsafe { std::mem::zeroed() };
    methods.version = raw::REDISMODULE_TYPE_METHOD_VERSION.into();
    methods.rdb_load = Some(rdb_load);
    methods.rdb_save = Some(rdb_save);
    methods.aof_rewrite = Some(aof_rewrite);
    methods.free = Some(free);
    methods.digest = Some(digest);
    methods.unlink2 = Some(unlink2);
    methods.copy2 = Some(copy2);
    methods.mem_usage2 = Some(mem_usage2);
    methods.free_effort2 = Some(free_effort2);
    methods.defrag = Some(defrag);
    methods.aux_load = Some(aux_load);
    methods.aux_save = Some(aux_save);
    methods.aux_save2 = Some(aux_save2);
    methods.aux_save_triggers = raw::REDISMODULE_AUX_BEFORE_RDB as c_int;
    // SAFETY: the server copies what it needs of the structure.
    let made = unsafe { api!(RedisModule_CreateDataType)(ctx.raw(), NAME.as_ptr(), ENCODING_VERSION, &mut methods) };
    set_data_type(made);
    if made.is_null() { Err("the data type could not be registered".into()) } else { Ok(()) }
}

// ---- saved and loaded ----

unsafe extern "C" fn rdb_save(io: *mut raw::RedisModuleIO, value: *mut c_void) {
    guard((), || {
        // SAFETY: the server hands us a value of ours and a live file.
        let (entry, db) = unsafe { (&*as_entry(value), api!(RedisModule_GetDbIdFromIO)(io)) };
        save_bytes(io, &(hooks().metadata)(db, entry));
        save_bytes(io, entry.stored());
    });
}

unsafe extern "C" fn rdb_load(io: *mut raw::RedisModuleIO, version: c_int) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        if version != ENCODING_VERSION {
            log(LogLevel::Warning, &format!("cannot load an entry of encoding version {version}"));
            return std::ptr::null_mut();
        }
        let Some(entry) = load_bytes(io)
            .zip(load_bytes(io))
            .and_then(|(metadata, stored)| Entry::decode(metadata.as_ref(), Body::new(stored).into()))
        else {
            log(LogLevel::Warning, "an entry is truncated or malformed");
            return std::ptr::null_mut();
        };
        if let Err(refused) = admit(&entry) {
            log(LogLevel::Warning, &format!("an entry is not restored: {refused}"));
            return std::ptr::null_mut();
        }
        into_raw(entry)
    })
}

/// What is loaded, or comes from a master, is taken as it is.
fn admit(entry: &Entry) -> Result<()> {
    // SAFETY: without a context the server tells its own state.
    let flags = unsafe { api!(RedisModule_GetContextFlags)(std::ptr::null_mut()) } as u32;
    let is_masters_word =
        flags & raw::REDISMODULE_CTX_FLAGS_LOADING != 0 || flags & raw::REDISMODULE_CTX_FLAGS_MASTER == 0;
    let home = if flags & raw::REDISMODULE_CTX_FLAGS_CLUSTER != 0 { Home::Node } else { Home::Alone };
    if is_masters_word { Ok(()) } else { (hooks().admit)(entry, home) }
}

unsafe extern "C" fn aof_rewrite(io: *mut raw::RedisModuleIO, key: *mut raw::RedisModuleString, value: *mut c_void) {
    guard((), || {
        // SAFETY: the server hands us a value of ours and a live file.
        let (entry, db) = unsafe { (&*as_entry(value), api!(RedisModule_GetDbIdFromIO)(io)) };
        // What is dead stays so by not being written. The server writes the expiry itself.
        if (hooks().is_dead)(db, entry) {
            return;
        }
        let (metadata, stored) = ((hooks().metadata)(db, entry), entry.stored());
        // SAFETY: the variable arguments are what the format says: a string, a number, twice bytes with their length.
        unsafe {
            api!(RedisModule_EmitAOF)(
                io,
                c"EXPCACHE.RESTORE".as_ptr(),
                c"slbb".as_ptr(),
                key,
                -1i64,
                metadata.as_ptr(),
                metadata.len(),
                stored.as_ptr(),
                stored.len(),
            );
        }
    });
}

/// What is saved beside the keys comes once, before them. Servers from 7.2 on save nothing where we write nothing, so a file that has
/// only what a fresh server has can be loaded without the module.
unsafe extern "C" fn aux_save2(io: *mut raw::RedisModuleIO, _when: c_int) {
    guard((), || {
        if !saving::are_initial() {
            save_aside(io);
        }
    });
}

/// As [`aux_save2`], for servers that load what is not there.
unsafe extern "C" fn aux_save(io: *mut raw::RedisModuleIO, _when: c_int) {
    guard((), || save_aside(io));
}

fn save_aside(io: *mut raw::RedisModuleIO) {
    let commands = saving::commands();
    save_number(io, commands.len() as u64);
    for words in commands {
        save_number(io, words.len() as u64);
        words.iter().for_each(|word| save_bytes(io, word));
    }
}

unsafe extern "C" fn aux_load(io: *mut raw::RedisModuleIO, version: c_int, _when: c_int) -> c_int {
    guard(raw::REDISMODULE_ERR as c_int, || match load_aside(io, version) {
        Some(()) => raw::REDISMODULE_OK as c_int,
        None => {
            log(LogLevel::Warning, "the saved policies and rules are truncated, malformed or of a newer version");
            raw::REDISMODULE_ERR as c_int
        }
    })
}

fn load_aside(io: *mut raw::RedisModuleIO, version: c_int) -> Option<()> {
    /// More than the words of any command that is saved.
    const MOST_WORDS: u64 = 4096;
    /// More than there are types and rules.
    const MOST_COMMANDS: u64 = 1 << 17;
    if version != ENCODING_VERSION {
        return None;
    }
    saving::forget();
    for _ in 0..load_number(io).filter(|count| *count <= MOST_COMMANDS)? {
        let count = load_number(io).filter(|count| *count <= MOST_WORDS)?;
        let words: Vec<Buffer> = (0..count).map(|_| load_bytes(io)).collect::<Option<_>>()?;
        saving::load(&words.iter().map(AsRef::as_ref).collect::<Vec<_>>()).ok()?;
    }
    Some(())
}

fn save_bytes(io: *mut raw::RedisModuleIO, bytes: &[u8]) {
    // SAFETY: the file is live; the server copies the bytes.
    unsafe { api!(RedisModule_SaveStringBuffer)(io, bytes.as_ptr().cast(), bytes.len()) };
}

fn save_number(io: *mut raw::RedisModuleIO, number: u64) {
    // SAFETY: the file is live.
    unsafe { api!(RedisModule_SaveUnsigned)(io, number) };
}

/// Bytes that the server read for us.
struct Buffer {
    start: *mut u8,
    len: usize,
}

// SAFETY: the bytes are nobody else's, and any thread may free them.
unsafe impl Send for Buffer {}
// SAFETY: as above; sharing a reference only reads them.
unsafe impl Sync for Buffer {}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the server gave us so many bytes, ours until we free them.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { api!(RedisModule_Free)(self.start.cast()) };
    }
}

fn has_failed(io: *mut raw::RedisModuleIO) -> bool {
    // SAFETY: the file is live.
    unsafe { api!(RedisModule_IsIOError)(io) != 0 }
}

fn load_bytes(io: *mut raw::RedisModuleIO) -> Option<Buffer> {
    let mut len = 0;
    // SAFETY: the file is live.
    let start: *mut u8 = unsafe { api!(RedisModule_LoadStringBuffer)(io, &mut len) }.cast();
    (!start.is_null()).then_some(Buffer { start, len }).filter(|_| !has_failed(io))
}

fn load_number(io: *mut raw::RedisModuleIO) -> Option<u64> {
    // SAFETY: the file is live.
    let number = unsafe { api!(RedisModule_LoadUnsigned)(io) };
    (!has_failed(io)).then_some(number)
}

// ---- moved, copied, freed ----

/// The key's name and database, for as long as the callback runs.
struct Place {
    ctx: *mut raw::RedisModuleKeyOptCtx,
}

impl Place {
    fn key(&self) -> Option<Arg<'_>> {
        // SAFETY: the context is live during the callback.
        unsafe {
            let name = api!(RedisModule_GetKeyNameFromOptCtx)(self.ctx).cast_mut();
            (!name.is_null()).then(|| Arg::new(name))
        }
    }

    fn db(&self) -> i32 {
        // SAFETY: the context is live during the callback.
        unsafe { api!(RedisModule_GetDbIdFromOptCtx)(self.ctx) }
    }
}

unsafe extern "C" fn unlink2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) {
    guard((), || {
        let place = Place { ctx };
        discard::note_unlinked();
        // SAFETY: the value is ours, and nobody else uses it during the callback.
        let entry = unsafe { &mut *as_entry(value.cast_mut()) };
        if let Some(key) = place.key() {
            (hooks().unlinked)(place.db(), key.bytes(), entry);
        }
    });
}

unsafe extern "C" fn copy2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        let db = Place { ctx }.db();
        // SAFETY: the value is ours.
        let entry = unsafe { &*as_entry(value.cast_mut()) };
        (hooks().copied)(db, entry).map_or(std::ptr::null_mut(), into_raw)
    })
}

/// On any thread.
unsafe extern "C" fn free(value: *mut c_void) {
    guard((), || {
        // SAFETY: the server gives the value up.
        discard::free_entry(unsafe { Box::from_raw(as_entry(value)) });
    });
}

unsafe extern "C" fn free_effort2(_ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) -> usize {
    guard(1, || {
        // SAFETY: the value is ours.
        let size = unsafe { &*as_entry(value.cast_mut()) }.size_bytes().0;
        // What is evicted is freed at once: the server goes on evicting as long as another thread still has it.
        if discard::goes_aside(size) { FREE_ASIDE } else { 1 }
    })
}

unsafe extern "C" fn mem_usage2(_ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void, _sample: usize) -> usize {
    guard(0, || {
        // SAFETY: the value is ours; the server measures the block that it allocated.
        unsafe {
            let entry = &*as_entry(value.cast_mut());
            match api_if_any!(RedisModule_MallocSize) {
                Some(size) => size(value.cast_mut()) + entry.size_bytes().1,
                None => entry.size_bytes().0,
            }
        }
    })
}

unsafe extern "C" fn defrag(
    ctx: *mut raw::RedisModuleDefragCtx,
    _key: *mut raw::RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    guard((), || {
        // SAFETY: nothing points to an entry's block but the key, so it may be moved as it is. What stands apart stays where it is.
        unsafe {
            let moved = api!(RedisModule_DefragAlloc)(ctx, *value);
            if !moved.is_null() {
                *value = moved;
            }
        }
    });
    0
}

/// The properties in which equal entries agree; uses are not counted.
unsafe extern "C" fn digest(digest: *mut raw::RedisModuleDigest, value: *mut c_void) {
    guard((), || {
        // SAFETY: the value is ours, the digest live.
        let (entry, db) = unsafe { (&*as_entry(value), api!(RedisModule_GetDbIdFromDigest)(digest)) };
        let names = (hooks().names)(db, entry);
        let mut tags: Vec<&[u8]> = names.tags().collect();
        tags.sort_unstable();
        let extras = entry.extras();
        let add = |bytes: &[u8]| {
            // SAFETY: the digest is live; it copies the bytes.
            unsafe { api!(RedisModule_DigestAddStringBuffer)(digest, bytes.as_ptr().cast(), bytes.len()) };
        };
        // Whatever form it is kept in.
        add(&entry.known_etag().unwrap_or_else(|| etag_of(entry.stored())));
        add(names.type_name());
        tags.into_iter().for_each(add);
        for number in [Some(entry.created_ms()), Some(extras.grace_ms), extras.born_ms].into_iter().flatten() {
            add(&number.to_le_bytes());
        }
        add(extras.format.unwrap_or_default());
        add(extras.meta.unwrap_or_default());
        // SAFETY: the digest is live.
        unsafe { api!(RedisModule_DigestEndSequence)(digest) };
    });
}
