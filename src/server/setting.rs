//! Settings: `CONFIG SET expcache.…`, lines of the server's configuration file, arguments of `loadmodule`.
//!
//! A setting is a static that stands beside its use and holds its own value: any thread may read it. Registration, the arguments
//! and their messages follow from the lists that the features bring.

use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use expcache_core::units::{self, UnitRule};
use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::api;
use super::args::{Arg, Args, Text};
use super::context::Ctx;
use super::guard::guard;
use super::main_thread::MainThread;

/// One setting, and its value.
pub struct Setting {
    name: &'static CStr,
    kind: Kind,
}

enum Kind {
    Number(Number),
    Duration(Duration),
    Text { default: &'static CStr, check: fn(&[u8]) -> Result<()>, value: MainThread<Option<Box<[u8]>>> },
}

struct Number {
    default: u64,
    least: u64,
    most: u64,
    /// How the server reads and shows it.
    flags: u32,
    value: AtomicU64,
}

struct Duration {
    default_ms: u64,
    check: fn(u64) -> Result<()>,
    value_ms: AtomicU64,
}

impl Setting {
    /// A number that may be changed at any time.
    pub const fn number(name: &'static CStr, default: u64, range: RangeInclusive<u64>) -> Self {
        Self::with_flags(name, default, range, raw::REDISMODULE_CONFIG_DEFAULT)
    }

    /// A number of bytes: `16kb` may be written.
    pub const fn size(name: &'static CStr, default: u64, range: RangeInclusive<u64>) -> Self {
        Self::with_flags(name, default, range, raw::REDISMODULE_CONFIG_MEMORY)
    }

    /// A number that is set when the module is loaded, and not changed after.
    pub const fn number_at_start(name: &'static CStr, default: u64, range: RangeInclusive<u64>) -> Self {
        Self::with_flags(name, default, range, raw::REDISMODULE_CONFIG_IMMUTABLE)
    }

    const fn with_flags(name: &'static CStr, default: u64, range: RangeInclusive<u64>, flags: u32) -> Self {
        let (least, most) = (*range.start(), *range.end());
        let number = Number { default, least, most, flags, value: AtomicU64::new(default) };
        Self { name, kind: Kind::Number(number) }
    }

    /// A duration, written with its unit. `check` refuses those that make no sense.
    pub const fn duration(name: &'static CStr, default_ms: u64, check: fn(u64) -> Result<()>) -> Self {
        let duration = Duration { default_ms, check, value_ms: AtomicU64::new(default_ms) };
        Self { name, kind: Kind::Duration(duration) }
    }

    /// Any text. `check` refuses those that make no sense.
    pub const fn text(name: &'static CStr, default: &'static CStr, check: fn(&[u8]) -> Result<()>) -> Self {
        Self { name, kind: Kind::Text { default, check, value: MainThread::new() } }
    }

    /// Its value, of a number; in ms, of a duration.
    #[inline]
    pub fn get(&self) -> u64 {
        match &self.kind {
            Kind::Number(number) => number.value.load(Ordering::Relaxed),
            Kind::Duration(duration) => duration.value_ms.load(Ordering::Relaxed),
            Kind::Text { .. } => 0,
        }
    }

    /// As [`Setting::get`].
    #[inline]
    pub fn as_usize(&self) -> usize {
        usize::try_from(self.get()).unwrap_or(usize::MAX)
    }

    /// Shows its value, of a text. On the main thread.
    pub fn with_text<R>(&self, show: impl FnOnce(&[u8]) -> R) -> R {
        match &self.kind {
            Kind::Text { default, value, .. } => value.with(|text| show(text.as_deref().unwrap_or(default.to_bytes()))),
            Kind::Number(_) | Kind::Duration(_) => show(b""),
        }
    }

    /// Its value as the server shows it, where that is a text.
    fn shown(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Duration(_) => units::format_duration(self.get()).into_bytes(),
            Kind::Number(_) | Kind::Text { .. } => self.with_text(<[u8]>::to_vec),
        }
    }

    fn set_text(&self, text: &[u8]) -> Result<()> {
        match &self.kind {
            Kind::Number(_) => return Err(Error::Syntax),
            Kind::Duration(duration) => {
                let ms = units::parse_duration_ms(text, UnitRule::Required)?;
                (duration.check)(ms)?;
                duration.value_ms.store(ms, Ordering::Relaxed);
            }
            Kind::Text { check, value, .. } => {
                check(text)?;
                value.with(|value| *value = Some(text.into()));
            }
        }
        Ok(())
    }

    fn set_number(&self, to: u64) {
        if let Kind::Number(number) = &self.kind {
            number.value.store(to, Ordering::Relaxed);
        }
    }
}

/// Registers settings. Arguments of `loadmodule` (`name value …`) take the place of the defaults. Says what is wrong with them, if
/// anything is.
pub(super) fn register(ctx: &Ctx, args: Args<'_>, settings: &[&'static Setting]) -> std::result::Result<(), String> {
    let given = read_arguments(args, settings)?;
    for setting in settings {
        let value = given.iter().rev().find(|(name, _)| *name == setting.name).map(|(_, value)| value.as_slice());
        setting.register(ctx, value)?;
    }
    // SAFETY: the context is that of loading the module.
    if unsafe { api!(RedisModule_LoadConfigs)(ctx.raw()) } != raw::REDISMODULE_OK as c_int {
        return Err("the server refused a setting of the configuration file".into());
    }
    Ok(())
}

/// A setting's name, and its value as it was given.
type Given = (&'static CStr, Vec<u8>);

fn read_arguments(mut args: Args<'_>, settings: &[&'static Setting]) -> std::result::Result<Vec<Given>, String> {
    let mut given = Vec::new();
    while let Some(name) = args.next().map(Arg::bytes) {
        let short = name.strip_prefix(b"expcache.").unwrap_or(name);
        let known = settings.iter().find(|setting| setting.name.to_bytes().eq_ignore_ascii_case(short));
        let shown = String::from_utf8_lossy(name);
        let Some(setting) = known else {
            let names: Vec<_> = settings.iter().map(|setting| setting.name.to_string_lossy()).collect();
            return Err(format!("unknown argument '{shown}'; known are {}", names.join(", ")));
        };
        let value = args.next().ok_or_else(|| format!("the argument '{shown}' has no value"))?;
        given.push((setting.name, value.bytes().to_vec()));
    }
    Ok(given)
}

impl Setting {
    fn register(&'static self, ctx: &Ctx, argument: Option<&[u8]>) -> std::result::Result<(), String> {
        let status = match &self.kind {
            Kind::Number(number) => self.register_number(ctx, number, argument)?,
            Kind::Duration(Duration { default_ms, .. }) => {
                self.register_text(ctx, units::format_duration(*default_ms).as_bytes(), argument)?
            }
            Kind::Text { default, .. } => self.register_text(ctx, default.to_bytes(), argument)?,
        };
        if status == raw::REDISMODULE_OK as c_int { Ok(()) } else { Err(self.wrong("could not be registered")) }
    }

    fn wrong(&self, why: &str) -> String {
        format!("the argument '{}' {why}", self.name.to_string_lossy())
    }

    fn address(&'static self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn register_text(
        &'static self,
        ctx: &Ctx,
        default: &[u8],
        argument: Option<&[u8]>,
    ) -> std::result::Result<c_int, String> {
        if let Some(value) = argument {
            self.set_text(value).map_err(|error| self.wrong(&format!("is refused: {error}")))?;
        }
        let value = CString::new(argument.unwrap_or(default)).map_err(|_| self.wrong("contains a NUL"))?;
        // SAFETY: the server copies the texts; the setting is static.
        Ok(unsafe {
            api!(RedisModule_RegisterStringConfig)(
                ctx.raw(),
                self.name.as_ptr(),
                value.as_ptr(),
                raw::REDISMODULE_CONFIG_DEFAULT,
                Some(get_text),
                Some(set_text),
                None,
                self.address(),
            )
        })
    }

    fn register_number(
        &'static self,
        ctx: &Ctx,
        number: &Number,
        argument: Option<&[u8]>,
    ) -> std::result::Result<c_int, String> {
        let Number { default, least, most, flags, .. } = *number;
        let value = match argument {
            Some(text) if flags == raw::REDISMODULE_CONFIG_MEMORY => units::parse_size(text).ok(),
            Some(text) => units::parse_i64(text).ok().and_then(|number| number.try_into().ok()),
            None => Some(default),
        };
        let value = value.filter(|n| (least..=most).contains(n));
        let value = value.ok_or_else(|| self.wrong(&format!("must be a number from {least} to {most}")))?;
        self.set_number(value);
        // SAFETY: the server copies the texts; the setting is static.
        Ok(unsafe {
            api!(RedisModule_RegisterNumericConfig)(
                ctx.raw(),
                self.name.as_ptr(),
                value.cast_signed(),
                flags,
                least.cast_signed(),
                most.cast_signed(),
                Some(get_number),
                Some(set_number),
                None,
                self.address(),
            )
        })
    }
}

/// # Safety
/// `address` must be what [`Setting::address`] gave the server.
unsafe fn setting<'a>(address: *mut c_void) -> &'a Setting {
    // SAFETY: it is static.
    unsafe { &*address.cast::<Setting>() }
}

extern "C" fn get_text(_name: *const c_char, which: *mut c_void) -> *mut raw::RedisModuleString {
    /// The server reads the string without taking it over: it has to outlive the call.
    static LAST: std::sync::Mutex<usize> = std::sync::Mutex::new(0);
    guard(std::ptr::null_mut(), || {
        // SAFETY: the server hands back what it was given.
        let text = Text::new(&unsafe { setting(which) }.shown());
        let raw = text.arg().raw();
        std::mem::forget(text);
        if let Ok(mut last) = LAST.lock() {
            let old = std::mem::replace(&mut *last, raw as usize) as *mut raw::RedisModuleString;
            if !old.is_null() {
                // SAFETY: made here and forgotten, so ours to free; the server is done with it.
                unsafe { api!(RedisModule_FreeString)(std::ptr::null_mut(), old) };
            }
        }
        raw
    })
}

extern "C" fn set_text(
    _name: *const c_char,
    value: *mut raw::RedisModuleString,
    which: *mut c_void,
    error: *mut *mut raw::RedisModuleString,
) -> c_int {
    let set = || {
        // SAFETY: the server hands back what it was given; the value lives during the call.
        let (setting, value) = unsafe { (setting(which), Arg::new(value)) };
        setting.set_text(value.bytes())
    };
    let Err(why) = guard(Err(Error::invalid("internal error, see the server's log")), set) else {
        return raw::REDISMODULE_OK as c_int;
    };
    let why = why.reply();
    let text = Text::new(why.strip_prefix("ERR ").unwrap_or(&why).as_bytes());
    if !error.is_null() {
        // SAFETY: the server takes the string over and frees it.
        unsafe { *error = text.arg().raw() };
        std::mem::forget(text);
    }
    raw::REDISMODULE_ERR as c_int
}

extern "C" fn get_number(_name: *const c_char, which: *mut c_void) -> c_longlong {
    // SAFETY: the server hands back what it was given.
    guard(0, || unsafe { setting(which) }.get().cast_signed())
}

extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    which: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    guard(raw::REDISMODULE_ERR as c_int, || {
        // SAFETY: the server hands back what it was given, and keeps the range.
        unsafe { setting(which) }.set_number(value.unsigned_abs());
        raw::REDISMODULE_OK as c_int
    })
}
