//! Commands: registers each with its flags, keys, categories and documentation, and lets the server call it.

use std::ffi::{CStr, CString, c_char, c_int};

use expcache_core::Result;
use expcache_core::grammar::syntax::{Arg, Kind, syntax};
use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::Args;
use super::context::Ctx;
use super::replies::reply;
use super::version::Version;

/// One command, or one subcommand.
pub struct Row {
    /// Its name; a subcommand's own word.
    pub name: &'static str,
    /// Of a subcommand, the command that it belongs to.
    pub container: &'static str,
    /// What runs it; nothing for a command that only has subcommands.
    pub handler: Option<Handler>,
    /// Flags, as `RM_CreateCommand` takes them.
    pub flags: &'static str,
    /// Where its keys are.
    pub keys: Keys,
    /// What it does to them: `REDISMODULE_CMD_KEY_*`.
    pub key_flags: u32,
    /// The number of words, its name's included; negative: at least so many.
    pub arity: i32,
    /// What it does.
    pub summary: &'static str,
    /// What that costs.
    pub complexity: &'static str,
    /// The version in which it came.
    pub since: &'static str,
    /// Hints for clients, as `COMMAND` knows them.
    pub tips: &'static str,
    /// Its grammar.
    pub args: &'static [Arg],
    /// Its subcommands.
    pub subcommands: &'static [Row],
}

/// Where a command's keys are.
#[derive(Clone, Copy)]
pub enum Keys {
    /// There are none.
    None,
    /// The first argument.
    First,
    /// All arguments.
    All,
    /// The first argument says how many pairs of key and value follow.
    CountedPairs,
}

/// Reads the value, changes nothing.
pub const READS: u32 = raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS;
/// Overwrites the value.
pub const OVERWRITES: u32 = raw::REDISMODULE_CMD_KEY_OW | raw::REDISMODULE_CMD_KEY_UPDATE;
/// Removes the key.
pub const REMOVES: u32 = raw::REDISMODULE_CMD_KEY_RM | raw::REDISMODULE_CMD_KEY_DELETE;

/// Changes the value by what it was.
pub const CHARGES: u32 =
    raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE;

/// Decides about the next value, and touches none.
pub const LEASES: u32 = raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_UPDATE;

/// A row to start from: `Row { name: …, ..ROW }`.
pub const ROW: Row = Row {
    name: "",
    container: "",
    handler: None,
    flags: "",
    keys: Keys::None,
    key_flags: 0,
    arity: -1,
    summary: "",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[],
    subcommands: &[],
};

/// A command, as the server calls it.
pub type Handler = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// The handler of a command.
pub const fn command<F: Fn(&Ctx, Args<'_>) -> Result<()> + Copy>(_: F) -> Option<Handler> {
    const { assert!(size_of::<F>() == 0, "a function by its name, which is a type of its own") };
    Some(handle::<F, 1>)
}

/// The handler of a subcommand, whose name is two words.
pub const fn subcommand<F: Fn(&Ctx, Args<'_>) -> Result<()> + Copy>(_: F) -> Option<Handler> {
    const { assert!(size_of::<F>() == 0, "a function by its name, which is a type of its own") };
    Some(handle::<F, 2>)
}

unsafe extern "C" fn handle<F: Fn(&Ctx, Args<'_>) -> Result<()> + Copy, const WORDS_OF_NAME: usize>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: a function's own type has no bytes (see `command`), and one of its values was there: it can be copied from nowhere.
    let call: F = unsafe { std::mem::transmute_copy(&()) };
    // SAFETY: context and arguments live during the call.
    let (ctx, args) = unsafe { (Ctx::of_command(ctx, argv, argc), Args::new(argv, argc, WORDS_OF_NAME)) };
    reply(&ctx, || call(&ctx, args));
    raw::REDISMODULE_OK as c_int
}

/// Our own category in access control lists, where the server has such.
const CATEGORY: &CStr = c"expcache";

/// Registers commands.
pub(super) fn register(ctx: &Ctx, mut rows: impl Iterator<Item = &'static Row>) -> std::result::Result<(), String> {
    let category = api_if_any!(RedisModule_AddACLCategory)
        // SAFETY: the context is that of loading the module, the name static.
        .is_some_and(|add| unsafe { add(ctx.raw(), CATEGORY.as_ptr()) } == raw::REDISMODULE_OK as c_int);
    let server = Server { category, counts_pairs: counts_pairs(ctx) };
    rows.try_for_each(|row| register_row(ctx, row, None, &server))
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
    categories.extend((has("write") || [LEASES, CHARGES].contains(&row.key_flags)).then_some("write"));
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

/// Answers `HELP` as the server's own containers do.
pub fn help(ctx: &Ctx, container: &str, subcommands: &[Row]) {
    ctx.reply_array(1 + 2 * subcommands.len());
    ctx.reply_line(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for row in subcommands {
        ctx.reply_line(&syntax(&row.name.to_ascii_uppercase(), row.args));
        ctx.reply_line(&format!("    {}", row.summary));
    }
}

/// What `HELP` says of itself.
pub const HELP: &str = "Returns helpful text about the different subcommands.";
