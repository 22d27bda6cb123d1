//! What there is to say of a command: the columns of [`super::TABLE`].

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

/// One piece of a command's grammar.
pub struct Arg {
    /// What it is called.
    pub name: &'static str,
    /// The word before it, if there is one.
    pub token: &'static str,
    /// What it is.
    pub kind: Kind,
    /// May it be left out?
    pub optional: bool,
    /// May it be repeated?
    pub multiple: bool,
}

/// What a piece of grammar is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A key.
    Key,
    /// Any bytes.
    Text,
    /// A number.
    Integer,
    /// Nothing but its word.
    Token,
    /// One of these.
    OneOf(&'static [Arg]),
    /// All of these.
    Block(&'static [Arg]),
}

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

const fn arg(name: &'static str, token: &'static str, kind: Kind) -> Arg {
    Arg { name, token, kind, optional: false, multiple: false }
}

/// A key.
pub const KEY: Arg = arg("key", "", Kind::Key);

/// Any bytes.
pub const fn text(name: &'static str) -> Arg {
    arg(name, "", Kind::Text)
}

/// A number.
pub const fn integer(name: &'static str) -> Arg {
    arg(name, "", Kind::Integer)
}

/// A word.
pub const fn word(token: &'static str, name: &'static str) -> Arg {
    arg(name, token, Kind::Token)
}

/// A word and any bytes.
pub const fn with_text(token: &'static str, name: &'static str) -> Arg {
    arg(name, token, Kind::Text)
}

/// A word and a number.
pub const fn with_integer(token: &'static str, name: &'static str) -> Arg {
    arg(name, token, Kind::Integer)
}

/// A word and what follows it.
pub const fn with_block(token: &'static str, name: &'static str, of: &'static [Arg]) -> Arg {
    arg(name, token, Kind::Block(of))
}

/// A word and one of these.
pub const fn with_one_of(token: &'static str, name: &'static str, of: &'static [Arg]) -> Arg {
    arg(name, token, Kind::OneOf(of))
}

/// All of these, in this order.
pub const fn block(name: &'static str, of: &'static [Arg]) -> Arg {
    arg(name, "", Kind::Block(of))
}

/// One of these.
pub const fn one_of(name: &'static str, of: &'static [Arg]) -> Arg {
    arg(name, "", Kind::OneOf(of))
}

impl Arg {
    /// That may be left out.
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// That may be repeated.
    pub const fn multiple(mut self) -> Self {
        self.multiple = true;
        self
    }
}

/// A command's grammar in one line, as the server's own documentation writes it.
pub fn syntax(name: &str, args: &[Arg]) -> String {
    args.iter().fold(name.to_string(), |line, arg| line + " " + &arg.syntax())
}

impl Arg {
    fn syntax(&self) -> String {
        let inner = match self.kind {
            Kind::Token => String::new(),
            Kind::OneOf(args) => args.iter().map(Self::syntax).collect::<Vec<_>>().join(" | "),
            Kind::Block(args) => args.iter().map(Self::syntax).collect::<Vec<_>>().join(" "),
            Kind::Key | Kind::Text | Kind::Integer => self.name.to_string(),
        };
        let inner = match self.kind {
            Kind::OneOf(_) if !self.token.is_empty() => format!("<{inner}>"),
            _ => inner,
        };
        let once = [self.token, inner.as_str()].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" ");
        let all = if self.multiple { format!("{once} [{once} ...]") } else { once };
        if self.optional { format!("[{all}]") } else { all }
    }
}
