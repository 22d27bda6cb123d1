//! Rules: what happens (a key is written, an event is told) means that entries are outdated.
//!
//! ```text
//!  what happened ──▶ prefixes   which patterns may match it?     pattern   does it match, and what do the names stand for?
//!                                                                template  the selector, filled in with that
//! ```
//!
//! Whatever is matched, it takes time in proportion to its length and no more: nothing is tried twice.

mod braces;
mod pattern;
mod prefixes;
mod template;

use smallvec::SmallVec;

pub use self::pattern::{Captures, Pattern};
use self::prefixes::Prefixes;
pub use self::template::{Filled, Template, Unfilled};
use crate::selector::Selector;
use crate::stats::RuleCounts;
use crate::{Error, Result};

/// The most bytes of what happened: all rules may be held against it, in one step.
pub const MOST_TEXT_BYTES: usize = 16 << 10;

/// What a rule reacts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A key that is not an entry is written, or goes.
    Key,
    /// An event that a client tells.
    Event,
}

impl On {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Event => "event",
        }
    }
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What it reacts to.
    pub on: On,
    /// Which of that.
    pub pattern: Pattern,
    /// Which entries are outdated then, as it was written.
    pub selector: Selector,
    /// Do they turn stale instead of going?
    pub is_soft: bool,
    template: Template,
}

impl Definition {
    /// Refuses what could never be carried out.
    pub fn new(on: On, pattern: &[u8], selector: Selector, is_soft: bool) -> Result<Self> {
        let (pattern, template) = (Pattern::parse(pattern)?, Template::read(&selector)?);
        if on == On::Key && template.looks_at_keys() {
            return Err(Error::invalid("a KEY rule has no MATCH: a write cannot wait until names are looked at"));
        }
        let is_known = |name: &[u8]| pattern.names().iter().any(|known| **known == *name);
        if on == On::Key
            && let Some(unknown) = template.names().find(|name| !is_known(name))
        {
            let unknown = String::from_utf8_lossy(unknown);
            return Err(Error::invalid(format!("the pattern of a KEY rule must capture '{unknown}'")));
        }
        Ok(Self { on, pattern, selector, is_soft, template })
    }

    /// What the name stands for, by what the pattern captured.
    fn captured<'t>(&self, captures: &Captures<'t>, name: &[u8]) -> Option<&'t [u8]> {
        let at = self.pattern.names().iter().position(|known| **known == *name)?;
        captures.get(at).copied()
    }

    /// The selector, filled in with what was captured and, for what was not, with what is told besides.
    fn fill<'r>(
        &'r self,
        captures: &Captures<'_>,
        told: &[(&[u8], &[u8])],
    ) -> std::result::Result<Selector, Unfilled<'r>> {
        let is_captured = |name: &[u8]| self.pattern.names().iter().any(|known| **known == *name);
        if let Some((both, _)) = told.iter().find(|(name, _)| is_captured(name)) {
            let both = String::from_utf8_lossy(both);
            return Err(Unfilled::Invalid(Error::invalid(format!("'{both}' is both captured and a field"))));
        }
        let field = |name: &[u8]| told.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        self.template.fill(|name| self.captured(captures, name).or_else(|| field(name)))
    }
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// What it is called.
    pub name: Box<[u8]>,
    /// What it says.
    pub definition: Definition,
    /// What it did since it says that.
    pub counts: RuleCounts,
    /// When it was last carried out, unix ms.
    pub last_ms: Option<u64>,
}

/// Rules that are to be carried out: which (until the rules change), and what the names of their patterns stand for.
pub type Matches<'t> = SmallVec<[(usize, Captures<'t>); 2]>;

/// All rules, in the order of their names.
#[derive(Debug, Default)]
pub struct Rules {
    all: Vec<Rule>,
    /// What finds them; made when it is first needed after a change.
    found_by: Option<FoundBy>,
    /// What all did, those that are no more included.
    pub total: RuleCounts,
}

#[derive(Debug)]
struct FoundBy {
    keys: Prefixes,
    events: Prefixes,
}

impl FoundBy {
    fn new(all: &[Rule]) -> Self {
        let of = |on: On| {
            let numbered = all.iter().enumerate().filter(move |(_, rule)| rule.definition.on == on);
            Prefixes::new(numbered.map(|(number, rule)| (number, rule.definition.pattern.prefix())))
        };
        Self { keys: of(On::Key), events: of(On::Event) }
    }

    fn of(&self, on: On) -> &Prefixes {
        match on {
            On::Key => &self.keys,
            On::Event => &self.events,
        }
    }
}

impl Rules {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Is there one of this kind?
    pub fn react_to(&self, on: On) -> bool {
        self.all.iter().any(|rule| rule.definition.on == on)
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.all.iter()
    }

    fn place(&self, name: &[u8]) -> std::result::Result<usize, usize> {
        self.all.binary_search_by(|rule| (*rule.name).cmp(name))
    }

    /// The rule of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Rule> {
        self.place(name).ok().and_then(|at| self.all.get(at))
    }

    /// Has a rule say this from now on. One that said it already goes on counting. A new one is refused when there are `most`.
    pub fn set(&mut self, name: &[u8], definition: Definition, most: usize) -> Result<()> {
        let place = self.place(name);
        if place.is_err() && self.all.len() >= most {
            return Err(Error::invalid("too many rules (see the config expcache.max-rules)"));
        }
        let new = Rule { name: name.into(), definition, counts: RuleCounts::default(), last_ms: None };
        match place.map(|at| self.all.get_mut(at)) {
            Ok(Some(old)) if old.definition == new.definition => return Ok(()),
            Ok(Some(old)) => *old = new,
            Ok(None) => {}
            Err(at) => self.all.insert(at, new),
        }
        self.found_by = None;
        Ok(())
    }

    /// Takes a rule away; was there one?
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let Ok(at) = self.place(name) else { return false };
        self.all.remove(at);
        self.found_by = None;
        true
    }

    /// Takes all of them away.
    pub fn clear(&mut self) {
        (self.all, self.found_by) = (Vec::new(), None);
    }

    /// The rules that are to be carried out because of what happened, in the order of their names.
    pub fn matches<'t>(&mut self, on: On, text: &'t [u8]) -> Matches<'t> {
        let Self { all, found_by, .. } = self;
        let found_by = found_by.get_or_insert_with(|| FoundBy::new(all));
        if text.len() > MOST_TEXT_BYTES {
            return Matches::new();
        }
        let candidates = found_by.of(on).that_begin(text);
        let captures = |rule: usize| Some((rule, all.get(rule)?.definition.pattern.captures(text)?));
        let mut matches: Matches<'t> = candidates.filter_map(captures).collect();
        matches.sort_unstable_by_key(|(rule, _)| *rule);
        matches
    }

    /// Which entries are outdated by a rule, if its names stand for this and for what is told besides; or why that cannot be said.
    pub fn selector(&self, rule: usize, captures: &Captures<'_>, told: &[(&[u8], &[u8])]) -> Result<Selector> {
        let Some(Rule { name, definition, .. }) = self.all.get(rule) else { return Err(Error::Syntax) };
        definition.fill(captures, told).map_err(|unfilled| refusal(name, unfilled))
    }

    /// The tag whose entries are outdated by a rule, if it is about one tag and nothing else.
    pub fn only_tag(&self, rule: usize, captures: &Captures<'_>) -> Option<Filled> {
        let definition = &self.all.get(rule)?.definition;
        definition.template.only_tag(|name| definition.captured(captures, name))
    }

    /// Does a rule make entries stale rather than go?
    pub fn is_soft(&self, rule: usize) -> bool {
        self.all.get(rule).is_some_and(|rule| rule.definition.is_soft)
    }

    /// The name of a rule that was found.
    pub fn name(&self, rule: usize) -> &[u8] {
        self.all.get(rule).map_or(&[], |rule| &rule.name)
    }

    /// Counts that a rule was carried out, and how many entries that concerned.
    pub fn count_fired(&mut self, rule: usize, entries: u64, now_ms: u64) {
        let one = RuleCounts { fired: 1, entries, errors: 0 };
        self.total.add(&one);
        if let Some(rule) = self.all.get_mut(rule) {
            rule.counts.add(&one);
            rule.last_ms = Some(now_ms);
        }
    }

    /// As [`Rules::count_fired`], for a rule by its name, if it still is.
    pub fn count_fired_by_name(&mut self, name: &[u8], entries: u64, now_ms: u64) {
        self.count_fired(self.place(name).unwrap_or(usize::MAX), entries, now_ms);
    }

    /// Counts that a rule could not be carried out.
    pub fn count_error(&mut self, rule: usize) {
        let one = RuleCounts { fired: 0, entries: 0, errors: 1 };
        self.total.add(&one);
        self.all.get_mut(rule).into_iter().for_each(|rule| rule.counts.add(&one));
    }
}

fn refusal(rule: &[u8], why: Unfilled<'_>) -> Error {
    let rule = String::from_utf8_lossy(rule);
    match why {
        Unfilled::Unknown(name) => {
            let name = String::from_utf8_lossy(name);
            Error::invalid(format!("the rule '{rule}' wants '{name}', which is neither captured nor a field"))
        }
        Unfilled::Invalid(Error::Invalid(text)) => Error::invalid(format!("the rule '{rule}': {text}")),
        Unfilled::Invalid(error) => error,
    }
}

#[cfg(test)]
mod tests;
