//! All rules: how they are changed, saved and replicated.

use expcache_core::grammar::rule::RuleOptions;
use expcache_core::grammar::selector::Limits;
use expcache_core::grammar::{self, is};
use expcache_core::rules::{Definition, On, Rule, Rules};
use expcache_core::stats::RuleCounts;
use expcache_core::{Error, Result};

use crate::server::context::{Ctx, Recipients};
use crate::server::events;
use crate::server::main_thread::MainThread;
use crate::server::saving::{Saves, Words};
use crate::server::setting::Setting;

/// The most rules.
pub static MAX_RULES: Setting = Setting::number(c"max-rules", 1024, 0..=16_384);

static RULES: MainThread<Rules> = MainThread::new();

/// Opens them. `work` must not call the server.
pub fn with<R>(work: impl FnOnce(&mut Rules) -> R) -> R {
    RULES.with(work)
}

/// How many there are.
pub fn count() -> usize {
    with(|rules| rules.len())
}

/// What all of them did.
pub fn total() -> RuleCounts {
    with(|rules| rules.total.clone())
}

/// Starts counting anew what all of them do.
pub fn reset_total() {
    with(|rules| rules.total = RuleCounts::default());
}

/// Has written keys looked at if a rule reacts to them.
pub fn watch(ctx: &Ctx) {
    events::watch_writes(ctx, with(|rules| rules.react_to(On::Key)));
}

/// Has a rule say what the words do; returns those that say the same, for others.
pub fn define<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>, limits: Limits) -> Result<Words> {
    let options = RuleOptions::parse(words, limits)?;
    let written = command(&options);
    let RuleOptions { name, on, pattern, selector, soft } = options;
    let definition = Definition::new(on, pattern, selector, soft.is_some())?;
    let most = if limits == Limits::Apply { MAX_RULES.as_usize() } else { usize::MAX };
    with(|rules| rules.set(name, definition, most))?;
    Ok(written)
}

/// Takes a rule away; was there one?
pub fn remove(name: &[u8]) -> bool {
    with(|rules| rules.remove(name))
}

/// Takes all of them away.
pub fn clear() {
    with(Rules::clear);
}

/// Tells others of a rule.
pub fn replicate(ctx: &Ctx, words: &Words) {
    ctx.replicate_words(c"EXPCACHE.RULE", words, Recipients::All);
}

/// The words of the `RULE SET` that says what a rule does.
fn words_of(rule: &Rule) -> Words {
    let definition = &rule.definition;
    command(&RuleOptions {
        name: &rule.name,
        on: definition.on,
        pattern: definition.pattern.text(),
        selector: definition.selector.clone(),
        soft: definition.is_soft.then_some(()),
    })
}

fn command(options: &RuleOptions<'_>) -> Words {
    grammar::words(|to| {
        to(b"SET");
        options.write(to);
    })
}

/// A `RULE SET` for each. Nothing is saved, while there is none.
pub static SAVES: Saves = Saves {
    command: c"EXPCACHE.RULE",
    mark: b"RULE",
    is_initial: || with(|rules| rules.is_empty()),
    save: || with(|rules| rules.iter().map(words_of).collect()),
    delete: Vec::new,
    forget: clear,
    load,
};

fn load(words: &[&[u8]]) -> Result<()> {
    match words.split_first() {
        Some((word, words)) if is(word, "SET") => define(words.iter().copied(), Limits::Applied).map(drop),
        _ => Err(Error::Syntax),
    }
}
