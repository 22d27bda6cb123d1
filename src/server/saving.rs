//! What is saved beside the keys, as the words of our own commands that make things so again: in the RDB, and in an append-only file
//! that is rewritten without an RDB preamble.
//!
//! Such a rewrite asks only keys for what they are, so nobody would write the rest. But the server opens the file for what comes
//! next before it forks: sending the commands once more, right after the fork, puts them there.

use std::ffi::CStr;
use std::sync::OnceLock;

use expcache_core::{Error, Result};

use super::background::{Background, WHILE_QUIET_MS};
use super::context::{Ctx, Recipients};

/// A command without the word that says its name.
pub type Words = Vec<Vec<u8>>;

/// What one room saves.
pub struct Saves {
    /// The command.
    pub command: &'static CStr,
    /// The word that stands before the command's in the RDB; none for what was saved before there was anything else to save.
    pub mark: &'static [u8],
    /// Is there nothing to be saved?
    pub is_initial: fn() -> bool,
    /// The words of the commands that make things so, where there is nothing yet.
    pub save: fn() -> Vec<Words>,
    /// The words of those that take away what a fresh server has besides.
    pub delete: fn() -> Vec<Words>,
    /// Forgets what is there: it is going to be loaded.
    pub forget: fn(),
    /// Carries out a command, by its words.
    pub load: fn(&[&[u8]]) -> Result<()>,
}

static ALL: OnceLock<Vec<&'static Saves>> = OnceLock::new();

/// Notes what rooms save. Called when the module is loaded.
pub(super) fn set_all(saves: Vec<&'static Saves>) {
    let _ = ALL.set(saves);
}

fn all() -> impl Iterator<Item = &'static Saves> {
    ALL.get().into_iter().flatten().copied()
}

/// Is there nothing to be saved?
pub(super) fn are_initial() -> bool {
    all().all(|saves| (saves.is_initial)())
}

/// All that is saved, for the RDB.
pub(super) fn commands() -> Vec<Words> {
    let marked = |saves: &'static Saves| {
        let mark = (!saves.mark.is_empty()).then(|| saves.mark.to_vec());
        (saves.save)().into_iter().map(move |words| mark.iter().cloned().chain(words).collect())
    };
    all().flat_map(marked).collect()
}

/// Forgets what is there: it is going to be loaded.
pub(super) fn forget() {
    all().for_each(|saves| (saves.forget)());
}

/// Carries out what [`commands`] said.
pub(super) fn load(words: &[&[u8]]) -> Result<()> {
    let marked = words.split_first().and_then(|(mark, words)| {
        let saves = all().find(|saves| !saves.mark.is_empty() && saves.mark == *mark)?;
        Some((saves, words))
    });
    let unmarked = || all().find(|saves| saves.mark.is_empty()).map(|saves| (saves, words));
    let (saves, words) = marked.or_else(unmarked).ok_or(Error::Syntax)?;
    (saves.load)(words)
}

static SENDING: Background = Background::new(send);

/// Sends it all to the append-only file soon, if that is being rewritten.
pub(super) fn schedule(ctx: &Ctx) {
    if !are_initial() {
        SENDING.schedule(ctx, 0);
    }
}

fn send(ctx: &Ctx) -> Option<i64> {
    if ctx.server_info(c"persistence", c"aof_rewrite_in_progress").as_deref() != Some("1") {
        return None;
    }
    if ctx.must_keep_quiet() {
        return Some(WHILE_QUIET_MS);
    }
    for saves in all() {
        for words in (saves.save)().into_iter().chain((saves.delete)()) {
            ctx.replicate_words(saves.command, &words, Recipients::AppendOnlyFile);
        }
    }
    None
}
