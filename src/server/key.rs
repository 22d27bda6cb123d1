//! Opened keys, and the way from the server's pointer to an entry and back.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use expcache_core::entry::{Entry, TAIL_LEN_OFFSET};
use expcache_core::{Error, Result};
use redis_module::raw;
use smallvec::SmallVec;

use super::api::api;
use super::args::{Arg, Text};
use super::context::{Ctx, EventClass};

/// How a key is opened.
#[derive(Clone, Copy)]
pub enum Mode {
    /// As a client's read: it counts for LRU and LFU and in `keyspace_hits`.
    Read,
    /// A look that leaves no trace, where the server knows how to.
    Peek,
    /// As [`Mode::Peek`], and finds what has expired and is still there, where the server shows it.
    Buried,
    /// As a client's write.
    Write,
}

/// An open key.
pub struct Key<'c> {
    raw: *mut raw::RedisModuleKey,
    name: Arg<'c>,
    ctx: PhantomData<&'c Ctx>,
}

/// What a key holds.
pub enum Found<'k> {
    /// Nothing.
    Missing,
    /// An entry.
    Entry(&'k mut Entry),
    /// A value of another type.
    Foreign,
}

/// Our type, once the server knows it.
static TYPE: AtomicPtr<raw::RedisModuleType> = AtomicPtr::new(std::ptr::null_mut());

static IS_REMOVING: AtomicBool = AtomicBool::new(false);

/// Our type, as the server knows it.
fn data_type() -> *mut raw::RedisModuleType {
    TYPE.load(Ordering::Relaxed)
}

/// Notes the address that the server gave our type.
pub(super) fn set_data_type(address: *mut raw::RedisModuleType) {
    TYPE.store(address, Ordering::Relaxed);
}

/// Does an event that is being published tell of a key that we ourselves removed?
pub fn is_removing() -> bool {
    IS_REMOVING.load(Ordering::Relaxed)
}

impl Ctx {
    /// Opens a key of the selected database.
    pub fn open<'c>(&'c self, name: Arg<'c>, mode: Mode) -> Key<'c> {
        Key::open(self, name, mode)
    }

    /// As `UNLINK key`: with its keyspace event, seen by those who watch and track, replicated. Was there a key?
    ///
    /// Not by calling `UNLINK`, which is refused for a key of a slot that this node is only about to own.
    pub fn unlink(&self, name: Arg<'_>) -> bool {
        self.remove(name, EventClass::Generic, c"del")
    }

    /// As [`Ctx::unlink`], of several keys; `tell` is called for each that was there. Replicas and the append-only file get them together:
    /// but in a cluster one by one, for slots move by themselves.
    pub fn unlink_all<'k>(&self, names: impl Iterator<Item = Arg<'k>>, mut tell: impl FnMut(Arg<'k>)) {
        let mut gone: SmallVec<[*mut raw::RedisModuleString; 8]> = SmallVec::new();
        for name in names {
            if self.take_out(name, EventClass::Generic, c"del") {
                gone.push(name.raw());
                tell(name);
            }
        }
        let together = if self.is_cluster() { 1 } else { gone.len().max(1) };
        for keys in gone.chunks_mut(together) {
            // SAFETY: the variable arguments are what the format says: strings and how many.
            unsafe {
                api!(RedisModule_Replicate)(
                    self.raw(),
                    c"UNLINK".as_ptr(),
                    c"v".as_ptr(),
                    keys.as_mut_ptr(),
                    keys.len(),
                )
            };
        }
    }

    /// As the server does for `maxmemory`.
    pub fn evict(&self, name: Arg<'_>) -> bool {
        self.remove(name, EventClass::Evicted, c"evicted")
    }

    fn remove(&self, name: Arg<'_>, class: EventClass, event: &CStr) -> bool {
        let was_there = self.take_out(name, class, event);
        if was_there {
            // SAFETY: the variable argument is the string that the format says.
            unsafe { api!(RedisModule_Replicate)(self.raw(), c"UNLINK".as_ptr(), c"s".as_ptr(), name.raw()) };
        }
        was_there
    }

    fn take_out(&self, name: Arg<'_>, class: EventClass, event: &CStr) -> bool {
        if !self.open(name, Mode::Write).unlink() {
            return false;
        }
        self.signal_modified(name);
        IS_REMOVING.store(true, Ordering::Relaxed);
        self.notify(class, event, name);
        IS_REMOVING.store(false, Ordering::Relaxed);
        true
    }
}

impl<'c> Key<'c> {
    fn open(ctx: &'c Ctx, name: Arg<'c>, mode: Mode) -> Self {
        // Redis from 8.4 on hides the keys of a slot that has left while it deletes them; in our index they still are.
        let even_trimmed = raw::REDISMODULE_READ | raw::REDISMODULE_OPEN_KEY_ACCESS_TRIMMED;
        let mode = match mode {
            Mode::Read => raw::REDISMODULE_READ,
            Mode::Buried => {
                even_trimmed
                    | raw::REDISMODULE_OPEN_KEY_NOTOUCH
                    | raw::REDISMODULE_OPEN_KEY_NOEFFECTS
                    | raw::REDISMODULE_OPEN_KEY_ACCESS_EXPIRED
            }
            Mode::Peek => even_trimmed | raw::REDISMODULE_OPEN_KEY_NOTOUCH | raw::REDISMODULE_OPEN_KEY_NOEFFECTS,
            Mode::Write => even_trimmed | raw::REDISMODULE_WRITE,
        };
        // SAFETY: context and name are live for as long as the key is open.
        let raw = unsafe { api!(RedisModule_OpenKey)(ctx.raw(), name.raw(), mode as c_int) };
        Self { raw, name, ctx: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> Arg<'c> {
        self.name
    }

    /// What it holds.
    pub fn found(&mut self) -> Found<'_> {
        // SAFETY: the key is open (or null, which counts as empty).
        unsafe { found(self.raw) }
    }

    /// What it holds, and when the server expires it if `wants_expiry` says of an entry that this is worth looking up: some
    /// servers keep expiries in a table of their own.
    pub fn found_dated(&mut self, wants_expiry: impl FnOnce(&Entry) -> bool) -> (Found<'_>, Option<i64>) {
        // SAFETY: the key is open; looking up the expiry does not touch the value.
        let found = unsafe { found(self.raw) };
        let expire_at_ms = match &found {
            Found::Entry(entry) if wants_expiry(entry) => self.expire_at_ms(),
            _ => None,
        };
        (found, expire_at_ms)
    }

    /// The bytes of a native string; nothing if there is none.
    pub fn text(&mut self) -> Result<Option<&[u8]>> {
        // SAFETY: the key is open, or null. The bytes are the server's and stay while nobody writes the key.
        unsafe {
            match api!(RedisModule_KeyType)(self.raw) as isize {
                raw::REDISMODULE_KEYTYPE_EMPTY => Ok(None),
                raw::REDISMODULE_KEYTYPE_STRING => {
                    let mut len = 0;
                    let start = api!(RedisModule_StringDMA)(self.raw, &mut len, raw::REDISMODULE_READ as c_int);
                    Ok(Some(std::slice::from_raw_parts(start.cast(), len)))
                }
                _ => Err(Error::WrongType),
            }
        }
    }

    /// Makes it a native string with an expiry. The key must be open for writing, and hold such a string or nothing.
    pub fn set_text(&mut self, bytes: &[u8], expire_at_ms: i64) {
        let mut len = 0;
        // SAFETY: the key is open; what it holds may be overwritten up to its length, as nobody else looks at it now.
        unsafe {
            let start = api!(RedisModule_StringDMA)(self.raw, &mut len, raw::REDISMODULE_WRITE as c_int);
            if len == bytes.len() && !start.is_null() {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast(), len);
            } else {
                api!(RedisModule_StringSet)(self.raw, Text::new(bytes).arg().raw());
            }
        }
        self.set_expire_at_ms(Some(expire_at_ms));
    }

    /// When the server expires it, unix ms.
    pub fn expire_at_ms(&self) -> Option<i64> {
        // SAFETY: the key is open, or null.
        unsafe { expire_at_ms(self.raw) }
    }

    /// Sets or takes away its expiry. It must be open for writing and hold something.
    pub fn set_expire_at_ms(&mut self, moment: Option<i64>) {
        let moment = moment.unwrap_or(i64::from(raw::REDISMODULE_NO_EXPIRE));
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_SetAbsExpire)(self.raw, moment) };
    }

    /// Unlinks the key; its value is freed by whoever has the time. The key must be open for writing. Was there one?
    pub fn unlink(mut self) -> bool {
        // SAFETY: the key is open; nobody borrows its value.
        !matches!(self.found(), Found::Missing)
            && unsafe { api!(RedisModule_UnlinkKey)(self.raw) } == raw::REDISMODULE_OK as c_int
    }

    /// The database that it is in, which is not always the one that the context says: some servers say the client's.
    pub fn db(&self) -> i32 {
        // SAFETY: the key is open.
        if self.raw.is_null() { -1 } else { unsafe { api!(RedisModule_GetDbIdFromModuleKey)(self.raw) } }
    }

    /// Puts an entry where there is nothing. The key must be open for writing.
    pub fn create(&mut self, entry: Box<Entry>) {
        // SAFETY: the key is open; the server owns the value from now on and hands it to our type's callbacks.
        unsafe { api!(RedisModule_ModuleTypeSetValue)(self.raw, data_type(), into_raw(entry)) };
    }

    /// Puts an entry in the place of an entry, keeping expiry and access statistics; returns the old one, which the caller
    /// has taken out of the index. The key must be open for writing.
    pub fn replace(&mut self, entry: Box<Entry>) -> Option<Box<Entry>> {
        let mut old = std::ptr::null_mut();
        // SAFETY: the key is open; the old value was ours (an entry) and is nobody's any more, so it becomes a box again.
        unsafe {
            api!(RedisModule_ModuleTypeReplaceValue)(self.raw, data_type(), into_raw(entry), &mut old);
            (!old.is_null()).then(|| Box::from_raw(as_entry(old)))
        }
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: opened by us, closed once.
            unsafe { api!(RedisModule_CloseKey)(self.raw) };
        }
    }
}

/// What an open key holds.
///
/// # Safety
/// `key` must be open, or null, and nobody may use its value in another way while the result lives.
pub(super) unsafe fn found<'k>(key: *mut raw::RedisModuleKey) -> Found<'k> {
    // SAFETY: the caller vouches for the key; a value of our type is an entry.
    unsafe {
        let kind = api!(RedisModule_ModuleTypeGetType)(key);
        if !kind.is_null() && kind == data_type() {
            return Found::Entry(&mut *as_entry(api!(RedisModule_ModuleTypeGetValue)(key)));
        }
        match api!(RedisModule_KeyType)(key) as isize {
            raw::REDISMODULE_KEYTYPE_EMPTY => Found::Missing,
            _ => Found::Foreign,
        }
    }
}

/// When the server expires an open key, unix ms.
///
/// # Safety
/// `key` must be open, or null.
pub(super) unsafe fn expire_at_ms(key: *mut raw::RedisModuleKey) -> Option<i64> {
    if key.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for the key.
    let moment = unsafe { api!(RedisModule_GetAbsExpire)(key) };
    (moment != i64::from(raw::REDISMODULE_NO_EXPIRE)).then_some(moment)
}

/// The server keeps one address a value; an entry knows its own length.
pub(super) fn into_raw(entry: Box<Entry>) -> *mut c_void {
    Box::into_raw(entry).cast()
}

/// # Safety
/// `value` must come from [`into_raw`] and be alive.
pub(super) unsafe fn as_entry(value: *mut c_void) -> *mut Entry {
    // SAFETY: an entry is at least as long as its head, in which its tail's length stands at that place, aligned.
    let tail_len = unsafe { *value.byte_add(TAIL_LEN_OFFSET).cast::<u32>() };
    std::ptr::slice_from_raw_parts_mut(value.cast::<u8>(), tail_len as usize) as *mut Entry
}
