//! Registers the commands of a table with everything that a server can know of them: flags, keys, categories, documentation.

use std::ffi::{CStr, CString, c_char, c_int};

use redis_module::raw;

use super::Version;
use super::api::{api, api_if_any};
use super::context::Ctx;
use crate::command::table::{Arg, Keys, Kind, LEASES, Row};

/// A command, as the server calls it.
pub type Handler = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// Makes a [`Handler`] of a function `fn(&Ctx, Args) -> Result<()>`. A subcommand's name is two words.
macro_rules! handler {
    ($call:path) => {
        $crate::server::handler!($call, 1)
    };
    (sub $call:path) => {
        $crate::server::handler!($call, 2)
    };
    ($call:path, $words:literal) => {{
        unsafe extern "C" fn handle(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            // SAFETY: the server calls this, with what it calls a command with.
            unsafe { $crate::server::run_command($call, ctx, argv, argc, $words) }
        }
        handle
    }};
}

pub(crate) use handler;

/// Our own category in access control lists, where the server has such.
const CATEGORY: &CStr = c"expcache";

pub(super) fn register(ctx: &Ctx, table: &'static [Row]) -> std::result::Result<(), String> {
    let category = api_if_any!(RedisModule_AddACLCategory)
        // SAFETY: the context is that of loading the module, the name static.
        .is_some_and(|add| unsafe { add(ctx.raw(), CATEGORY.as_ptr()) } == raw::REDISMODULE_OK as c_int);
    let server = Server { category, counts_pairs: counts_pairs(ctx) };
    table.iter().try_for_each(|row| register_row(ctx, row, None, &server))
}

/// What the server at hand can do.
struct Server {
    /// Is there our own category in access control lists?
    category: bool,
    /// Does it find every key where the words of the command say how many pairs of key and value follow?
    counts_pairs: bool,
}

/// Redis before 8.4 finds the first such key only, and so does Valkey in a cluster: they are told to ask the command itself.
/// Later Redis must not be told so: it would ask on any thread, which crashes it.
fn counts_pairs(ctx: &Ctx) -> bool {
    matches!(ctx.server_version(), Version::Redis(version) if version >= [8, 4, 0])
}

fn register_row(
    ctx: &Ctx,
    row: &'static Row,
    parent: Option<*mut raw::RedisModuleCommand>,
    server: &Server,
) -> std::result::Result<(), String> {
    let failed = |what: &str| format!("the command {} {what}", row.name);
    let full_name = text(&parent.map_or(row.name.into(), |_| format!("{}|{}", row.container, row.name)));
    let asks = matches!(row.keys, Keys::CountedPairs) && !server.counts_pairs;
    let flags = if asks { format!("{} getkeys-api", row.flags) } else { row.flags.into() };
    let (name, flags) = (text(row.name), text(&flags));
    // SAFETY: the server copies the texts; handlers live as long as the module, which is never unloaded.
    let command = unsafe {
        let status = match parent {
            None => api!(RedisModule_CreateCommand)(
                ctx.raw(),
                name.as_ptr(),
                row.handler.map(|h| h as _),
                flags.as_ptr(),
                0,
                0,
                0,
            ),
            Some(parent) => api!(RedisModule_CreateSubcommand)(
                parent,
                name.as_ptr(),
                row.handler.map(|h| h as _),
                flags.as_ptr(),
                0,
                0,
                0,
            ),
        };
        if status != raw::REDISMODULE_OK as c_int {
            return Err(failed("could not be registered"));
        }
        api!(RedisModule_GetCommand)(ctx.raw(), full_name.as_ptr())
    };
    if command.is_null() || !describe(command, row, asks) {
        return Err(failed("could not be described"));
    }
    if let Some(set) = api_if_any!(RedisModule_SetCommandACLCategories) {
        let categories = text(&categories(row, server.category));
        // SAFETY: the command was just registered; the server copies what the text says.
        unsafe { set(command, categories.as_ptr()) };
    }
    row.subcommands.iter().try_for_each(|sub| register_row(ctx, sub, Some(command), server))
}

/// The categories of a command in access control lists. (Redis 7.0 has none for a module's commands.)
fn categories(row: &Row, own: bool) -> String {
    let has = |flag| row.flags.split(' ').any(|word| word == flag);
    let mut categories = vec![if has("fast") { "fast" } else { "slow" }];
    categories.extend((has("write") || row.key_flags == LEASES).then_some("write"));
    categories.extend(has("readonly").then_some("read"));
    categories.extend(has("admin").then_some("admin dangerous"));
    categories.extend(own.then_some("expcache"));
    categories.join(" ")
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Keeps C texts and arrays alive while the server copies them.
#[derive(Default)]
struct Arena {
    texts: Vec<CString>,
    arrays: Vec<Box<[raw::RedisModuleCommandArg]>>,
}

impl Arena {
    fn text(&mut self, from: &str) -> *const c_char {
        if from.is_empty() {
            return std::ptr::null();
        }
        self.texts.push(text(from));
        self.texts.last().map_or(std::ptr::null(), |t| t.as_ptr())
    }

    fn args(&mut self, args: &[Arg]) -> *mut raw::RedisModuleCommandArg {
        if args.is_empty() {
            return std::ptr::null_mut();
        }
        let mut all: Vec<_> = args.iter().map(|arg| self.arg(arg)).collect();
        // SAFETY: an argument of nothing but zeros ends the array.
        all.push(unsafe { std::mem::zeroed() });
        self.arrays.push(all.into());
        self.arrays.last_mut().map_or(std::ptr::null_mut(), |a| a.as_mut_ptr())
    }

    fn arg(&mut self, arg: &Arg) -> raw::RedisModuleCommandArg {
        let (kind, subargs) = match arg.kind {
            Kind::Key => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY, [].as_slice()),
            Kind::Text => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING, [].as_slice()),
            Kind::Integer => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER, [].as_slice()),
            Kind::Token => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN, [].as_slice()),
            Kind::OneOf(args) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF, args),
            Kind::Block(args) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK, args),
        };
        let bit = |given: bool, bit: u32| if given { bit as c_int } else { 0 };
        raw::RedisModuleCommandArg {
            name: self.text(arg.name),
            type_: kind,
            key_spec_index: if matches!(arg.kind, Kind::Key) { 0 } else { -1 },
            token: self.text(arg.token),
            summary: std::ptr::null(),
            since: std::ptr::null(),
            flags: bit(arg.optional, raw::REDISMODULE_CMD_ARG_OPTIONAL)
                | bit(arg.multiple, raw::REDISMODULE_CMD_ARG_MULTIPLE)
                | bit(arg.multiple && !arg.token.is_empty(), raw::REDISMODULE_CMD_ARG_MULTIPLE_TOKEN),
            deprecated_since: std::ptr::null(),
            subargs: self.args(subargs),
            display_text: std::ptr::null(),
        }
    }
}

fn describe(command: *mut raw::RedisModuleCommand, row: &Row, asks: bool) -> bool {
    let mut arena = Arena::default();
    let mut specs = key_specs(row, asks);
    let version = raw::RedisModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
        sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
    };
    let info = raw::RedisModuleCommandInfo {
        version: &raw const version,
        summary: arena.text(row.summary),
        complexity: arena.text(row.complexity),
        since: arena.text(row.since),
        history: std::ptr::null_mut(),
        tips: arena.text(row.tips),
        arity: row.arity,
        key_specs: specs.as_mut_ptr(),
        args: arena.args(row.args),
    };
    // SAFETY: the server copies everything it is shown here.
    unsafe { api!(RedisModule_SetCommandInfo)(command, &info) == raw::REDISMODULE_OK as c_int }
}

/// Where a command's keys are and what it does to them; an entry of nothing but zeros ends the list.
fn key_specs(row: &Row, asks: bool) -> Vec<raw::RedisModuleCommandKeySpec> {
    // SAFETY: a specification of nothing but zeros is one that says nothing.
    let nothing: raw::RedisModuleCommandKeySpec = unsafe { std::mem::zeroed() };
    let index = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    let range = |last: c_int, step: c_int| raw::RedisModuleCommandKeySpec {
        flags: row.key_flags.into(),
        begin_search_type: index,
        bs: raw::RedisModuleCommandKeySpec__bindgen_ty_1 {
            index: raw::RedisModuleCommandKeySpec__bindgen_ty_1__bindgen_ty_1 { pos: 1 },
        },
        find_keys_type: raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE,
        fk: raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
            range: raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 {
                lastkey: last,
                keystep: step,
                limit: 0,
            },
        },
        ..nothing
    };
    let spec = match row.keys {
        Keys::None => return vec![nothing],
        Keys::First => range(0, 1),
        Keys::All => range(-1, 1),
        Keys::CountedPairs => raw::RedisModuleCommandKeySpec {
            flags: (row.key_flags | if asks { raw::REDISMODULE_CMD_KEY_INCOMPLETE } else { 0 }).into(),
            find_keys_type: raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM,
            fk: raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
                keynum: raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_2 {
                    keynumidx: 0,
                    firstkey: 1,
                    keystep: 2,
                },
            },
            ..range(0, 1)
        },
    };
    vec![spec, nothing]
}
