//! The caller's rights, where the server cannot check them by itself: to tags, which are guarded as keys of their names
//! are, and to keys that a listing shows.
//!
//! A user may have several selectors, each with commands and keys of its own. One of them must grant the command
//! *and* the name; but the server tells of a module's question only whether any grants the one, and whether any grants the
//! other. So where there are several, each is asked apart: a user of nobody's, a [`StandIn`], is given the rules of one of them.

use std::ffi::{CString, c_int};
use std::sync::{Mutex, PoisonError};

use expcache_core::{Error, Result};
use redis_module::raw;

use super::api::{api, api_if_any};
use super::args::{Arg, Text};
use super::context::Ctx;
use super::main_thread::MainThread;
use super::rules::{self, Selector};

/// What a user may do with a key, or with the entries of a tag of that name.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Right {
    /// See it, or read its value.
    Read = raw::REDISMODULE_CMD_KEY_ACCESS,
    /// Delete it.
    Delete = raw::REDISMODULE_CMD_KEY_DELETE,
}

/// The rights of the caller.
pub enum Rights {
    /// No user stands behind the call: it is replication, loading, another module's own. All is allowed.
    Unchecked,
    /// Those of a user by his selectors that grant the command; none, if the user is no more.
    Of(Vec<Granted>),
}

/// One selector's rights.
pub struct Granted {
    who: Who,
    reads_all: bool,
    writes_all: bool,
}

enum Who {
    /// The user, who has no other selector.
    User(User),
    StandIn(Spare),
}

/// A user of the server's, whom we may ask about.
struct User(*mut raw::RedisModuleUser);

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { api!(RedisModule_FreeModuleUser)(self.0) };
    }
}

/// A user of ours with the rules of one selector of another's. They are used again and never freed: the server would look at
/// every client for each.
struct StandIn {
    user: *mut raw::RedisModuleUser,
    rules: Vec<u8>,
}

// SAFETY: a plain address; only whoever holds the server's lock uses it.
unsafe impl Send for StandIn {}

/// Those that nobody uses at the moment.
static SPARE: Mutex<Vec<StandIn>> = Mutex::new(Vec::new());
/// How many are kept with the rules that they have; past it one is given others.
const KEPT: usize = 64;

impl StandIn {
    /// One with these rules; `None` if the server does not take them.
    fn with(selector: &Selector<'_>) -> Option<Spare> {
        let rules = selector.rules.join(&b' ');
        let found = {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            let same = spare.iter().position(|one| one.rules == rules);
            let at = same.or_else(|| (spare.len() >= KEPT).then_some(0));
            at.map(|at| spare.remove(at))
        };
        let mut one = found.unwrap_or_else(Self::new);
        if one.rules == rules || one.learn(&selector.rules) {
            one.rules = rules;
            return Some(Spare(Some(one)));
        }
        // Half of somebody's rules is nobody's.
        one.rules = b"?".to_vec();
        drop(Spare(Some(one)));
        None
    }

    fn new() -> Self {
        // SAFETY: the server copies the name.
        Self { user: unsafe { api!(RedisModule_CreateModuleUser)(c"expcache".as_ptr()) }, rules: b"?".to_vec() }
    }

    fn learn(&mut self, rules: &[&[u8]]) -> bool {
        std::iter::once(&b"reset"[..]).chain(rules.iter().copied()).all(|rule| {
            let Ok(rule) = CString::new(rule) else { return false };
            // SAFETY: the user is ours, the text live.
            unsafe { api!(RedisModule_SetModuleUserACL)(self.user, rule.as_ptr()) == raw::REDISMODULE_OK as c_int }
        })
    }
}

/// A stand-in in use, given back at last.
struct Spare(Option<StandIn>);

impl Drop for Spare {
    fn drop(&mut self) {
        let one = self.0.take();
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).extend(one);
    }
}

impl Granted {
    fn of(who: Who, selector: &Selector<'_>) -> Self {
        Self { who, reads_all: selector.reads_all, writes_all: selector.writes_all }
    }

    fn raw(&self) -> *mut raw::RedisModuleUser {
        match &self.who {
            Who::User(user) => user.0,
            Who::StandIn(spare) => spare.0.as_ref().map_or(std::ptr::null_mut(), |one| one.user),
        }
    }

    fn allows(&self, right: Right, name: &[u8]) -> bool {
        let name = Text::new(name);
        // SAFETY: user and name are live.
        let verdict =
            unsafe { api!(RedisModule_ACLCheckKeyPermissions)(self.raw(), name.arg().raw(), right as u32 as c_int) };
        verdict == raw::REDISMODULE_OK as c_int
    }

    fn allows_all(&self, right: Right) -> bool {
        match right {
            Right::Read => self.reads_all,
            Right::Delete => self.writes_all,
        }
    }
}

impl Rights {
    /// May the caller do this with a key of this name, by this command?
    pub fn allow(&self, right: Right, name: &[u8]) -> bool {
        match self {
            Self::Unchecked => true,
            Self::Of(granted) => granted.iter().any(|one| one.allows(right, name)),
        }
    }

    /// May the caller do this with every key? The server cannot be asked that; the rules say it, word for word.
    pub fn allow_all(&self, right: Right) -> bool {
        match self {
            Self::Unchecked => true,
            Self::Of(granted) => granted.iter().any(|one| one.allows_all(right)),
        }
    }

    /// Those of a user by a command, which is none when the server has already checked it.
    fn of(ctx: &Ctx, name: &Text, command: &[*mut raw::RedisModuleString], is_checked: bool) -> Self {
        let Some(user) = User::named(name) else { return Self::Of(Vec::new()) };
        let text = user.rules(ctx, name);
        let selectors = rules::selectors(&text);
        let granted = match selectors.as_slice() {
            [only] if is_checked || may(user.0, command) => vec![Granted::of(Who::User(user), only)],
            [_] => Vec::new(),
            several => several
                .iter()
                .filter_map(|selector| Some(Granted::of(Who::StandIn(StandIn::with(selector)?), selector)))
                .filter(|granted| command.is_empty() || may(granted.raw(), command))
                .collect(),
        };
        Self::Of(granted)
    }
}

impl User {
    fn named(name: &Text) -> Option<Self> {
        // SAFETY: the name is live; the user is freed when it is dropped.
        let user = unsafe { api!(RedisModule_GetModuleUserFromUserName)(name.arg().raw()) };
        (!user.is_null()).then_some(Self(user))
    }

    /// His rules, as `ACL LIST` writes them. (Redis before 7.0.6 can only be asked for everybody's.)
    fn rules(&self, ctx: &Ctx, name: &Text) -> Vec<u8> {
        match api_if_any!(RedisModule_GetModuleUserACLString) {
            // SAFETY: the user is live; the string is ours to free.
            Some(rules) => ctx.own(unsafe { rules(self.0) }).map_or_else(Vec::new, |text| text.arg().bytes().to_vec()),
            None => {
                let begin = [b"user ", name.arg().bytes(), b" "].concat();
                let all = ctx.call_for_texts(c"ACL", &[c"LIST"]);
                all.iter().find_map(|line| line.strip_prefix(begin.as_slice())).unwrap_or_default().to_vec()
            }
        }
    }
}

/// May this user run this command, with the keys in it?
fn may(user: *mut raw::RedisModuleUser, command: &[*mut raw::RedisModuleString]) -> bool {
    // SAFETY: user and words are live, and there is a word; the server only reads them.
    let verdict = unsafe {
        api!(RedisModule_ACLCheckCommandPermissions)(user, command.as_ptr().cast_mut(), command.len() as c_int)
    };
    verdict == raw::REDISMODULE_OK as c_int
}

fn user_may_run(name: Option<Text>, words: &[&[u8]]) -> bool {
    let Some(name) = name else { return true };
    let texts: Vec<Text> = words.iter().map(|word| Text::new(word)).collect();
    let words: Vec<_> = texts.iter().map(|text| text.arg().raw()).collect();
    User::named(&name).is_some_and(|user| may(user.0, &words))
}

/// Clients that have users: of all whose numbers share their last bits, the one that was asked about last.
struct HaveUsers([u64; 256]);

impl Default for HaveUsers {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl HaveUsers {
    fn at(&mut self, client: u64) -> Option<&mut u64> {
        self.0.get_mut((client % 256) as usize)
    }
}

static HAVE_USERS: MainThread<HaveUsers> = MainThread::new();

impl Ctx {
    /// The rights of whoever calls, by the command that is running or being answered.
    pub fn rights(&self) -> Rights {
        let Some(name) = self.user_name() else { return Rights::Unchecked };
        Rights::of(self, &name, self.words(), !self.is_answering())
    }

    /// The rights that a client, by its number, has now by a command of these words; those of one that went are nobody's business.
    pub fn client_rights(&self, client: u64, words: &[Box<[u8]>]) -> Rights {
        let Some(name) = self.client_user_name(client) else { return Rights::Unchecked };
        let texts: Vec<Text> = words.iter().map(|word| Text::new(word)).collect();
        let words: Vec<_> = texts.iter().map(|text| text.arg().raw()).collect();
        Rights::of(self, &name, &words, words.is_empty())
    }

    /// The words of the command that is running.
    pub fn copied_words(&self) -> Vec<Box<[u8]>> {
        // SAFETY: the words live as long as the command runs.
        self.words().iter().map(|word| unsafe { Arg::new(*word) }.bytes().into()).collect()
    }

    /// May the caller run this command as well?
    pub fn may_run(&self, words: &[&[u8]]) -> bool {
        user_may_run(self.user_name(), words)
    }

    /// As [`Ctx::may_run`], for a client by its number.
    pub fn client_may_run(&self, client: u64, words: &[&[u8]]) -> bool {
        user_may_run(self.client_user_name(client), words)
    }

    /// Refuses whoever may not do this with every key.
    pub fn need_all_keys(&self, right: Right) -> Result<()> {
        if self.rights().allow_all(right) { Ok(()) } else { Err(self.refuse(b"*")) }
    }

    /// The reply to a client that may not use a name. Notes it in the server's log of refusals.
    pub fn refuse(&self, name: &[u8]) -> Error {
        self.log_refusal(&Text::new(name), raw::RedisModuleACLLogEntryReason_REDISMODULE_ACL_LOG_KEY);
        Error::NoPermission
    }

    /// As [`Ctx::refuse`], for a form of the command that is not for everybody who may run it.
    pub fn refuse_command(&self) -> Error {
        if let Some(name) = self.words().first() {
            // SAFETY: the word is live.
            let name = Text::new(unsafe { Arg::new(*name) }.bytes());
            self.log_refusal(&name, raw::RedisModuleACLLogEntryReason_REDISMODULE_ACL_LOG_CMD);
        }
        Error::NoCommandPermission
    }

    fn log_refusal(&self, what: &Text, why: raw::RedisModuleACLLogEntryReason) {
        if let Some(user) = self.user_name().as_ref().and_then(User::named) {
            // SAFETY: context, user and text are live; the server copies the text.
            unsafe { api!(RedisModule_ACLAddLogEntry)(self.raw(), user.0, what.arg().raw(), why) };
        }
    }

    /// The number of the client that calls.
    pub fn client(&self) -> u64 {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_GetClientId)(self.raw()) }
    }

    /// The user behind the call. Asking for the current one crashes servers when there is none, so it is only asked for
    /// where there is: in a script, whose client is not in the server's list. Every other client is looked up there.
    fn user_name(&self) -> Option<Text> {
        if !self.has_flag(raw::REDISMODULE_CTX_FLAGS_LUA) {
            return self.client_user_name(self.client());
        }
        // SAFETY: the context is live.
        self.own(unsafe { api!(RedisModule_GetCurrentUserName)(self.raw()) })
    }

    /// The user behind the command that is running or being answered, and its client's number, for those who ask each time. A client
    /// that was found in the server's list with a user has one for as long as it is there, perhaps another; so it need not be
    /// looked for again. A script's client is in no list: its number is 0.
    pub fn caller(&self) -> (Option<Text>, u64) {
        let client = self.client();
        if client != 0 && HAVE_USERS.with(|known| known.at(client).is_some_and(|known| *known == client)) {
            // SAFETY: the context is live, and its client has a user.
            return (self.own(unsafe { api!(RedisModule_GetCurrentUserName)(self.raw()) }), client);
        }
        let Some(name) = self.client_user_name(client) else {
            return (if self.is_in_script() { self.user_name() } else { None }, 0);
        };
        HAVE_USERS.with(|known| known.at(client).into_iter().for_each(|known| *known = client));
        (Some(name), client)
    }

    /// A client's user, by the client's number.
    pub fn client_user_name(&self, client: u64) -> Option<Text> {
        // SAFETY: the context is live.
        self.own(unsafe { api!(RedisModule_GetClientUserNameById)(self.raw(), client) })
    }

    /// What a client calls itself, by its number. (Redis before 7.0.3 does not tell.)
    pub fn client_name(&self, client: u64) -> Option<Text> {
        let name_of = api_if_any!(RedisModule_GetClientNameById)?;
        // SAFETY: the context is live.
        self.own(unsafe { name_of(self.raw(), client) })
    }

    fn own(&self, name: *mut raw::RedisModuleString) -> Option<Text> {
        // SAFETY: the server made the string for us, and keeps no account of it: none of our contexts asks it to.
        (!name.is_null()).then(|| unsafe { Text::taken(name) })
    }
}
