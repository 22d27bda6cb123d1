//! Grammar as data: what `COMMAND DOCS` and the pages of documentation show of a command.

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
