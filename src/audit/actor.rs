//! Who calls.
//!
//! The user is asked for each line: a connection may change it between two commands. What a client calls itself is asked for each change;
//! for reads, of which there are many, it is as it was at the last beat of the server's clock.

use expcache_core::audit::Actor;
use smallvec::SmallVec;

use crate::server::args::Text;
use crate::server::context::Ctx;
use crate::server::main_thread::MainThread;

/// Most names are short, and take no block of memory.
type Name = SmallVec<[u8; 32]>;

/// Who calls, kept while others work.
#[derive(Clone)]
pub struct Caller {
    user: Option<Name>,
    client: u64,
    name: Option<Name>,
}

impl Caller {
    /// Who runs the command. In a script only the user is known: its commands are those of a client of the server's own.
    pub fn of(ctx: &Ctx) -> Self {
        let (user, client) = ctx.caller();
        Self { user: user.as_ref().map(copy), client, name: ask(ctx, client) }
    }

    /// A client that waits, by its number.
    pub fn of_client(ctx: &Ctx, client: u64) -> Self {
        Self { user: ctx.client_user_name(client).as_ref().map(copy), client, name: ask(ctx, client) }
    }

    /// As an actor of the log.
    pub fn actor(&self) -> Actor<'_> {
        Actor { user: self.user.as_deref(), client: self.client, name: self.name.as_deref() }
    }
}

fn copy(text: &Text) -> Name {
    Name::from_slice(text.arg().bytes())
}

/// Shows who runs a command that reads. `show` must not call the server.
pub fn with_reader(ctx: &Ctx, show: impl FnOnce(&Actor<'_>)) {
    let (user, client) = ctx.caller();
    if !NAMES.with(|names| names.is_known(client)) {
        ask(ctx, client);
    }
    NAMES.with(|names| {
        let user = user.as_ref().map(|text| text.arg().bytes());
        show(&Actor { user, client, name: names.of(client) });
    });
}

/// What clients call themselves: of all whose numbers share their last bits, the one that was asked about last.
struct Names {
    known: Vec<KnownName>,
    beat: u64,
}

#[derive(Clone, Default)]
struct KnownName {
    client: u64,
    name: Option<Name>,
    /// At which beat of the server's clock it was asked for.
    beat: u64,
    /// It is longer than any should be.
    is_long: bool,
}

static NAMES: MainThread<Names> = MainThread::new();

/// A client may call itself whatever it likes, and the server hands out a copy of the whole. What is longer is asked for once.
const LONG_BYTES: usize = 4096;
/// So much of it is kept: with a word on the rest it is no longer than others may be.
const KEPT_BYTES: usize = 96;

impl Default for Names {
    fn default() -> Self {
        Self { known: vec![KnownName::default(); 256], beat: 1 }
    }
}

impl Names {
    fn at(&mut self, client: u64) -> Option<&mut KnownName> {
        self.known.get_mut((client % 256) as usize)
    }

    fn is_known(&mut self, client: u64) -> bool {
        let beat = self.beat;
        self.at(client).is_some_and(|known| known.client == client && (known.beat == beat || known.is_long))
    }

    fn of(&mut self, client: u64) -> Option<&[u8]> {
        self.at(client).filter(|known| known.client == client)?.name.as_deref()
    }
}

/// What is known has to be asked again.
pub fn forget() {
    NAMES.with(|names| names.beat += 1);
}

/// What a client calls itself.
fn ask(ctx: &Ctx, client: u64) -> Option<Name> {
    if client == 0 {
        return None;
    }
    let long = |names: &mut Names| names.at(client).filter(|known| known.client == client && known.is_long).cloned();
    if let Some(known) = NAMES.with(|names| long(names)) {
        return known.name;
    }
    let text = ctx.client_name(client);
    let bytes = text.as_ref().map(|text| text.arg().bytes());
    let is_long = bytes.is_some_and(|bytes| bytes.len() > LONG_BYTES);
    let name = bytes.map(|bytes| match bytes.split_at_checked(KEPT_BYTES).filter(|_| is_long) {
        None => Name::from_slice(bytes),
        Some((start, rest)) => [start, format!("... ({} more bytes)", rest.len()).as_bytes()].concat().into(),
    });
    NAMES.with(|names| {
        let beat = names.beat;
        names.at(client).into_iter().for_each(|known| *known = KnownName { client, name: name.clone(), beat, is_long });
    });
    name
}
