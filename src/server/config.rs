//! The configuration: `CONFIG SET expcache.…`, lines of the server's configuration file, arguments of `loadmodule`.
//!
//! [`KNOBS`] is the only list there is; registration, arguments and messages follow from it.

use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};

use expcache_core::entry::{APART_FROM, MAX_PAYLOAD};
use expcache_core::units::{self, UnitRule};
use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::api;
use super::context::{Arg, Args, Ctx, LogLevel, Text, log};
use super::state;

/// The configuration as it stands.
pub struct Config {
    /// What derived keys begin with.
    pub prefix: Box<[u8]>,
    /// The lifetime of entries whose type has none, ms; 0: without end.
    pub default_ttl_ms: u64,
    /// The most types.
    pub max_types: usize,
    /// How long one slice of reclaiming may take, µs.
    pub reclaim_slice_us: u64,
    /// Up to how many entries an invalidation reclaims before it replies.
    pub reclaim_inline: u64,
    /// The longest that a lease lasts unless it is renewed, ms.
    pub max_lease_ms: u64,
    /// The most leases, in each database.
    pub max_leases: usize,
    /// The most of them of one user; 0: any number.
    pub max_leases_per_user: usize,
    /// The most bytes that leases and keys backing off take, in each database.
    pub lease_memory: usize,
    /// The most clients that wait for another's production.
    pub max_waiters: usize,
    /// The least share of reads that should hit, percent; 0: none.
    pub min_hit_rate: u64,
    /// Threads for what is large; 0: none.
    pub workers: usize,
    /// How many pieces of work may wait for one, and be waited for, while all is well.
    pub worker_queue: usize,
    /// From which size on payloads are encoded and checked by a worker, bytes.
    pub offload_write_size: u64,
    /// From which size on payloads are decoded by a worker, bytes.
    pub offload_read_size: u64,
    /// The most bytes that what is encoded may decode to, alone or in one command.
    pub max_decoded: usize,
    /// The most bytes that each encoded byte may decode to, of what decodes to more than [`Config::ANY_RATIO`] allows; 0: any number.
    pub max_ratio: usize,
    /// What encoding must save for its result to be kept, percent.
    pub min_saving: u64,
    /// How many keys are remembered of which it is known why they went; 0: none.
    pub miss_memory: usize,
    /// The most names of tags and types that fences remember, in each database.
    pub max_fences: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefix: b"export_cache".as_slice().into(),
            default_ttl_ms: 3_600_000,
            max_types: 1024,
            reclaim_slice_us: 500,
            reclaim_inline: 256,
            max_lease_ms: 3_600_000,
            max_leases: 100_000,
            max_leases_per_user: 0,
            lease_memory: 64 << 20,
            max_waiters: 100_000,
            max_fences: 100_000,
            min_hit_rate: 0,
            workers: 3,
            worker_queue: 1024,
            max_decoded: MAX_DECODED,
            max_ratio: MAX_RATIO,
            offload_write_size: APART_FROM as u64,
            offload_read_size: 32 << 10,
            min_saving: 10,
            miss_memory: 65_536,
        }
    }
}

/// How many payloads may wait to be compressed while all is well, for each piece of work that may wait and is waited for. They are
/// not held for it: what waits is a place of some hundred bytes.
const ASIDE_FACTOR: usize = 64;

const MAX_DECODED: usize = 256 << 20;
/// Exports compress to a twentieth, some to a sixtieth; what repeats a few lines all the time, to a two-hundredth.
const MAX_RATIO: usize = 250;

impl Config {
    /// What decodes to no more than this may do so from as few bytes as it likes.
    const ANY_RATIO: usize = 1 << 20;

    /// The most bytes that so many encoded bytes may decode to.
    pub fn may_decode_to(&self, encoded_bytes: usize) -> usize {
        let by_ratio = match self.max_ratio {
            0 => usize::MAX,
            ratio => encoded_bytes.saturating_mul(ratio).max(Self::ANY_RATIO),
        };
        self.max_decoded.min(by_ratio)
    }

    /// How many payloads may wait to be compressed while all is well.
    pub fn aside_queue(&self) -> usize {
        self.worker_queue.saturating_mul(ASIDE_FACTOR)
    }

    /// The most bytes that an encoded payload of so many may have and be kept.
    pub fn worth_keeping(&self, payload_bytes: usize) -> usize {
        payload_bytes.saturating_sub((payload_bytes as u64 * self.min_saving).div_ceil(100) as usize)
    }
}

struct Knob {
    name: &'static CStr,
    kind: Kind,
}

enum Kind {
    Text { default: &'static CStr, set: fn(&mut Config, &[u8]) -> Result<()>, get: fn(&Config) -> Vec<u8> },
    Number { default: i64, range: (i64, i64), flags: u32, set: fn(&mut Config, u64), get: fn(&Config) -> u64 },
}

/// A number of bytes: `16kb` may be written.
const SIZE: u32 = raw::REDISMODULE_CONFIG_MEMORY;
/// Said when the module is loaded, and not changed after.
const AT_START: u32 = raw::REDISMODULE_CONFIG_IMMUTABLE;
const PLAIN: u32 = raw::REDISMODULE_CONFIG_DEFAULT;

static KNOBS: [Knob; 20] = [
    Knob {
        name: c"prefix",
        kind: Kind::Text { default: c"export_cache", set: set_prefix, get: |config| config.prefix.to_vec() },
    },
    Knob {
        name: c"default-ttl",
        kind: Kind::Text {
            default: c"1h",
            set: |config, text| {
                config.default_ttl_ms = units::parse_duration_ms(text, UnitRule::Required)?;
                Ok(())
            },
            get: |config| units::format_duration(config.default_ttl_ms).into_bytes(),
        },
    },
    Knob {
        name: c"max-types",
        kind: Kind::Number {
            default: 1024,
            range: (8, 16_384),
            flags: PLAIN,
            set: |config, most| config.max_types = most as usize,
            get: |config| config.max_types as u64,
        },
    },
    Knob {
        name: c"reclaim-slice-us",
        kind: Kind::Number {
            default: 500,
            range: (1, 100_000),
            flags: PLAIN,
            set: |config, us| config.reclaim_slice_us = us,
            get: |config| config.reclaim_slice_us,
        },
    },
    Knob {
        name: c"reclaim-inline",
        kind: Kind::Number {
            default: 256,
            range: (0, 10_000),
            flags: PLAIN,
            set: |config, most| config.reclaim_inline = most,
            get: |config| config.reclaim_inline,
        },
    },
    Knob {
        name: c"max-lease",
        kind: Kind::Text {
            default: c"1h",
            set: set_max_lease,
            get: |config| units::format_duration(config.max_lease_ms).into_bytes(),
        },
    },
    Knob {
        name: c"max-leases",
        kind: Kind::Number {
            default: 100_000,
            range: (0, 10_000_000),
            flags: PLAIN,
            set: |config, most| config.max_leases = most as usize,
            get: |config| config.max_leases as u64,
        },
    },
    Knob {
        name: c"max-leases-per-user",
        kind: Kind::Number {
            default: 0,
            range: (0, 10_000_000),
            flags: PLAIN,
            set: |config, most| config.max_leases_per_user = most as usize,
            get: |config| config.max_leases_per_user as u64,
        },
    },
    Knob {
        name: c"lease-memory",
        kind: Kind::Number {
            default: 64 << 20,
            range: (0, 1 << 40),
            flags: SIZE,
            set: |config, bytes| config.lease_memory = bytes as usize,
            get: |config| config.lease_memory as u64,
        },
    },
    Knob {
        name: c"max-waiters",
        kind: Kind::Number {
            default: 100_000,
            range: (0, 10_000_000),
            flags: PLAIN,
            set: |config, most| config.max_waiters = most as usize,
            get: |config| config.max_waiters as u64,
        },
    },
    Knob {
        name: c"max-fences",
        kind: Kind::Number {
            default: 100_000,
            range: (1, 10_000_000),
            flags: PLAIN,
            set: |config, most| config.max_fences = most as usize,
            get: |config| config.max_fences as u64,
        },
    },
    Knob {
        name: c"min-hit-rate",
        kind: Kind::Number {
            default: 0,
            range: (0, 100),
            flags: PLAIN,
            set: |config, percent| config.min_hit_rate = percent,
            get: |config| config.min_hit_rate,
        },
    },
    Knob {
        name: c"workers",
        kind: Kind::Number {
            default: 3,
            range: (0, 64),
            flags: AT_START,
            set: |config, threads| config.workers = threads as usize,
            get: |config| config.workers as u64,
        },
    },
    Knob {
        name: c"worker-queue",
        kind: Kind::Number {
            default: 1024,
            range: (0, 1_000_000),
            flags: PLAIN,
            set: |config, most| config.worker_queue = most as usize,
            get: |config| config.worker_queue as u64,
        },
    },
    Knob {
        name: c"offload-write-size",
        kind: Kind::Number {
            default: APART_FROM as i64,
            range: (APART_FROM as i64, MAX_PAYLOAD as i64),
            flags: SIZE,
            set: |config, bytes| config.offload_write_size = bytes,
            get: |config| config.offload_write_size,
        },
    },
    Knob {
        name: c"offload-read-size",
        kind: Kind::Number {
            default: 32 << 10,
            range: (1024, MAX_PAYLOAD as i64),
            flags: SIZE,
            set: |config, bytes| config.offload_read_size = bytes,
            get: |config| config.offload_read_size,
        },
    },
    Knob {
        name: c"max-decoded",
        kind: Kind::Number {
            default: MAX_DECODED as i64,
            range: (1 << 20, MAX_PAYLOAD as i64),
            flags: SIZE,
            set: |config, bytes| config.max_decoded = bytes as usize,
            get: |config| config.max_decoded as u64,
        },
    },
    Knob {
        name: c"max-ratio",
        kind: Kind::Number {
            default: MAX_RATIO as i64,
            range: (0, 1_000_000),
            flags: PLAIN,
            set: |config, ratio| config.max_ratio = ratio as usize,
            get: |config| config.max_ratio as u64,
        },
    },
    Knob {
        name: c"min-saving",
        kind: Kind::Number {
            default: 10,
            range: (0, 90),
            flags: PLAIN,
            set: |config, percent| config.min_saving = percent,
            get: |config| config.min_saving,
        },
    },
    Knob {
        name: c"miss-memory",
        kind: Kind::Number {
            default: 65_536,
            range: (0, 16_777_216),
            flags: PLAIN,
            set: |config, keys| config.miss_memory = keys as usize,
            get: |config| config.miss_memory as u64,
        },
    },
];

fn set_max_lease(config: &mut Config, text: &[u8]) -> Result<()> {
    config.max_lease_ms = match units::parse_duration_ms(text, UnitRule::Required)? {
        0 => return Err(Error::invalid("leases must last longer than nothing")),
        most_ms => most_ms,
    };
    Ok(())
}

fn set_prefix(config: &mut Config, prefix: &[u8]) -> Result<()> {
    if prefix.is_empty() || prefix.len() > 512 {
        return Err(Error::invalid("the prefix must be 1 to 512 bytes"));
    }
    // CONFIG REWRITE writes a module's settings as they are: with one of these the server would not read its file again,
    // or read something else (Valkey 8.1 leaves backslashes out).
    if prefix.iter().any(|byte| b" \t\n\x0b\x0c\r\0\"'\\".contains(byte)) {
        return Err(Error::invalid("the prefix must have no blank, quote, backslash or NUL in it"));
    }
    config.prefix = prefix.into();
    Ok(())
}

/// Registers every knob. Arguments of `loadmodule` (`name value …`) take the place of the defaults. Says what is wrong with
/// them, if anything is.
pub(super) fn register(ctx: &Ctx, args: Args<'_>) -> std::result::Result<(), String> {
    let given = read_arguments(args)?;
    for knob in &KNOBS {
        let value = given.iter().rev().find(|(name, _)| *name == knob.name).map(|(_, value)| value.as_slice());
        knob.register(ctx, value)?;
    }
    // SAFETY: the context is that of loading the module.
    if unsafe { api!(RedisModule_LoadConfigs)(ctx.raw()) } != raw::REDISMODULE_OK as c_int {
        return Err("the server refused a setting of the configuration file".into());
    }
    Ok(())
}

fn read_arguments(mut args: Args<'_>) -> std::result::Result<Vec<(&'static CStr, Vec<u8>)>, String> {
    let mut given = Vec::new();
    while let Some(name) = args.next().map(Arg::bytes) {
        let short = name.strip_prefix(b"expcache.").unwrap_or(name);
        let known = KNOBS.iter().find(|knob| knob.name.to_bytes().eq_ignore_ascii_case(short));
        let shown = String::from_utf8_lossy(name);
        let Some(knob) = known else {
            let names: Vec<_> = KNOBS.iter().map(|knob| knob.name.to_string_lossy()).collect();
            return Err(format!("unknown argument '{shown}'; known are {}", names.join(", ")));
        };
        let value = args.next().ok_or_else(|| format!("the argument '{shown}' has no value"))?;
        given.push((knob.name, value.bytes().to_vec()));
    }
    Ok(given)
}

impl Knob {
    fn register(&'static self, ctx: &Ctx, argument: Option<&[u8]>) -> std::result::Result<(), String> {
        let wrong = |why: &str| format!("the argument '{}' {why}", self.name.to_string_lossy());
        let this: *const Self = self;
        let status = match &self.kind {
            Kind::Text { default, set, .. } => {
                if let Some(value) = argument {
                    state::with(|s| set(&mut s.config, value))
                        .map_err(|error| wrong(&format!("is refused: {error}")))?;
                }
                let value = match argument {
                    Some(value) => CString::new(value).map_err(|_| wrong("contains a NUL"))?,
                    None => CString::from(*default),
                };
                // SAFETY: the server copies the texts; the knob is static.
                unsafe {
                    api!(RedisModule_RegisterStringConfig)(
                        ctx.raw(),
                        self.name.as_ptr(),
                        value.as_ptr(),
                        raw::REDISMODULE_CONFIG_DEFAULT,
                        Some(get_text),
                        Some(set_text),
                        None,
                        this.cast_mut().cast::<c_void>(),
                    )
                }
            }
            Kind::Number { default, range: (least, most), flags, set, .. } => {
                let value = match argument {
                    Some(text) if *flags == SIZE => units::parse_size(text).ok().and_then(|size| size.try_into().ok()),
                    Some(text) => units::parse_i64(text).ok(),
                    None => Some(*default),
                };
                let value = value.filter(|n| (least..=most).contains(&n));
                let value = value.ok_or_else(|| wrong(&format!("must be a number from {least} to {most}")))?;
                state::with(|s| set(&mut s.config, value as u64));
                // SAFETY: as above.
                unsafe {
                    api!(RedisModule_RegisterNumericConfig)(
                        ctx.raw(),
                        self.name.as_ptr(),
                        value,
                        *flags,
                        *least,
                        *most,
                        Some(get_number),
                        Some(set_number),
                        None,
                        this.cast_mut().cast::<c_void>(),
                    )
                }
            }
        };
        if status == raw::REDISMODULE_OK as c_int { Ok(()) } else { Err(wrong("could not be registered")) }
    }
}

/// # Safety
/// `knob` must be what [`Knob::register`] gave the server.
unsafe fn knob<'a>(knob: *mut c_void) -> &'a Knob {
    // SAFETY: it is static.
    unsafe { &*knob.cast::<Knob>() }
}

extern "C" fn get_text(_name: *const c_char, which: *mut c_void) -> *mut raw::RedisModuleString {
    /// The server reads the string without taking it over: it has to outlive the call.
    static LAST: std::sync::Mutex<usize> = std::sync::Mutex::new(0);
    // SAFETY: the server hands back what it was given.
    let Kind::Text { get, .. } = &unsafe { knob(which) }.kind else { return std::ptr::null_mut() };
    let text = Text::new(&state::with(|s| get(&s.config)));
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
}

extern "C" fn set_text(
    _name: *const c_char,
    value: *mut raw::RedisModuleString,
    which: *mut c_void,
    error: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: the server hands back what it was given; the value lives during the call.
    let (kind, value) = unsafe { (&knob(which).kind, Arg::new(value)) };
    let Kind::Text { set, .. } = kind else { return raw::REDISMODULE_ERR as c_int };
    match state::with(|s| set(&mut s.config, value.bytes())) {
        Ok(()) => raw::REDISMODULE_OK as c_int,
        Err(why) => {
            let why = why.reply();
            let text = Text::new(why.strip_prefix("ERR ").unwrap_or(&why).as_bytes());
            if !error.is_null() {
                // SAFETY: the server takes the string over and frees it.
                unsafe { *error = text.arg().raw() };
                std::mem::forget(text);
            }
            raw::REDISMODULE_ERR as c_int
        }
    }
}

extern "C" fn get_number(_name: *const c_char, which: *mut c_void) -> c_longlong {
    // SAFETY: the server hands back what it was given.
    match &unsafe { knob(which) }.kind {
        Kind::Number { get, .. } => state::with(|s| get(&s.config)) as c_longlong,
        Kind::Text { .. } => 0,
    }
}

extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    which: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: the server hands back what it was given, and keeps the range.
    if let Kind::Number { set, .. } = &unsafe { knob(which) }.kind {
        state::with(|s| set(&mut s.config, value.unsigned_abs()));
    }
    raw::REDISMODULE_OK as c_int
}

/// Says in the log why loading stops.
pub(super) fn refuse(why: &str) {
    log(LogLevel::Warning, &format!("the module is not loaded: {why}"));
}
