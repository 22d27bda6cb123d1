//! What there is to say of a command: the columns of [`super::TABLE`].

pub use expcache_core::grammar::syntax::{Arg, Kind, syntax};
use redis_module::raw;

use crate::server::Handler;

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
