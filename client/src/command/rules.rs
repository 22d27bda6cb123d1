//! `EXPCACHE.RULE` and `EXPCACHE.EVENT`: what happens, and which entries are outdated then.
//!
//! Rules are each node's own. So they are set on every primary, and an event is told to every primary.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use expcache_core::grammar;
use expcache_core::grammar::event::EventOptions;
use expcache_core::grammar::rule::RuleOptions;
pub use expcache_core::rules::On;
use redis::Value;
use serde::{Serialize, Serializer};

use super::client::Client;
use super::look::moment;
use super::selector::Selector;
use super::shown;
use crate::error::{Error, Result};
use crate::link::{Call, Route};
use crate::reply::{self, Fields};
use crate::words::{name, words_of};

/// What happens, and which entries are outdated then. In a pattern `*` stands for anything and `{id}` for something; in the selector
/// `{id}` is that. `{{` and `}}` are braces.
///
/// ```
/// use expcache_client::{Rule, Selector};
///
/// let users = Rule::on_key("user:{id}", Selector::new().any(["user:{id}"]));
/// let points = Rule::on_event("* /v1.0/points/*", Selector::new().types(["user_stats", "dashboard_stats"])).soft();
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What it reacts to.
    #[serde(serialize_with = "kind")]
    pub on: On,
    /// Which of that.
    #[serde(serialize_with = "shown::text")]
    pub pattern: Bytes,
    /// Which entries are outdated then.
    #[serde(rename = "do", serialize_with = "words")]
    pub selector: Selector,
    /// They turn stale instead of going.
    pub soft: bool,
}

impl Rule {
    /// When a key that is no entry is written, or goes, and its name matches. The entries go in the same step.
    pub fn on_key(pattern: impl AsRef<[u8]>, selector: Selector) -> Self {
        Self { on: On::Key, pattern: name(pattern), selector, soft: false }
    }

    /// When an event is told and its text matches.
    pub fn on_event(pattern: impl AsRef<[u8]>, selector: Selector) -> Self {
        Self { on: On::Event, pattern: name(pattern), selector, soft: false }
    }

    /// The entries turn stale instead of going.
    #[must_use]
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }

    fn set(&self, rule: &[u8]) -> Call {
        let mut call = Call::new("EXPCACHE.RULE SET", Route::Primaries);
        let (selector, soft) = (self.selector.0.clone(), self.soft.then_some(()));
        let options = RuleOptions { name: rule, on: self.on, pattern: &self.pattern, selector, soft };
        options.write(&mut words_of(&mut call.cmd));
        call
    }
}

fn kind<S: Serializer>(on: &On, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(on.name())
}

fn words<S: Serializer>(selector: &Selector, serializer: S) -> Result<S::Ok, S::Error> {
    let words: Vec<Bytes> = grammar::words(|to| selector.0.write(to)).into_iter().map(Bytes::from).collect();
    shown::texts(&words, serializer)
}

/// A rule, and what it did on all primaries together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleState {
    /// What it says.
    #[serde(flatten)]
    pub rule: Rule,
    /// How often it was carried out.
    pub fired: u64,
    /// How many entries that made go, or stale.
    pub entries: u64,
    /// How often it could not be carried out.
    pub errors: u64,
    /// When it was last carried out.
    #[serde(serialize_with = "shown::optional_unix_millis")]
    pub last: Option<SystemTime>,
}

impl RuleState {
    fn parse(mut fields: Fields) -> Result<Self> {
        let on = match fields.text("on")?.as_str() {
            "key" => On::Key,
            "event" => On::Event,
            _ => return Err(Error::reply("a rule on neither keys nor events")),
        };
        let selector = Selector::parse(&reply::strings(fields.take("do"))?)?;
        Ok(Self {
            rule: Rule { on, pattern: fields.bytes("pattern")?, selector, soft: fields.text("soft")? == "yes" },
            fired: fields.count("fired")?,
            entries: fields.count("entries")?,
            errors: fields.count("errors")?,
            last: fields.optional_count("last")?.map(moment),
        })
    }

    fn add(&mut self, other: &Self) {
        self.fired += other.fired;
        self.entries += other.entries;
        self.errors += other.errors;
        self.last = self.last.max(other.last);
    }
}

/// What happened, in words that rules match.
///
/// ```
/// use expcache_client::Event;
///
/// let event = Event::new("PATCH /v1.0/user/7").field("company", "42").note("alice");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Event {
    text: Bytes,
    fields: Vec<(Bytes, Bytes)>,
    note: Option<String>,
    dry_run: bool,
}

impl Event {
    /// This has happened.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        Self { text: name(text), ..Self::default() }
    }

    /// A name that selectors may use beside those that patterns capture.
    #[must_use]
    pub fn field(mut self, field: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name(field), name(value)));
        self
    }

    /// Who or what is behind it, for the server's record: at most 256 bytes.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }

    /// Only counts.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Whether anything may change by it.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    fn call(&self) -> Call {
        let mut call = Call::new("EXPCACHE.EVENT", Route::Primaries);
        let options = EventOptions {
            text: &self.text,
            fields: self.fields.iter().map(|(field, value)| (field.as_ref(), value.as_ref())).collect(),
            dry_run: self.dry_run.then_some(()),
            rules: Some(()),
            note: self.note.as_deref().map(str::as_bytes),
        };
        options.write(&mut words_of(&mut call.cmd));
        call
    }
}

/// What followed from an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fired {
    /// How many entries that concerned.
    pub count: u64,
    /// Each rule that matched, and how many entries it concerned. An entry counts for the first of them; in a dry run for each.
    #[serde(serialize_with = "shown::by_name")]
    pub rules: BTreeMap<Bytes, u64>,
}

impl Fired {
    fn add(&mut self, reply: Value) -> Result<()> {
        for (rule, entries) in reply::pairs(reply)? {
            let entries = reply::count(entries)?;
            self.count += entries;
            *self.rules.entry(reply::bytes(rule)?).or_default() += entries;
        }
        Ok(())
    }
}

impl Client {
    /// Defines a rule, or makes the one of that name say this, on every primary. An error means that it may be in force on some of them:
    /// set it again.
    pub async fn set_rule(&self, rule: impl AsRef<[u8]>, says: &Rule) -> Result<()> {
        self.twice(|| says.set(rule.as_ref())).await.map(drop)
    }

    /// What a rule says, as one of the primaries has it, and what it did on all of them.
    pub async fn get_rule(&self, rule: impl AsRef<[u8]>) -> Result<Option<RuleState>> {
        let mut call = Call::new("EXPCACHE.RULE GET", Route::Primaries);
        call.cmd.arg(rule.as_ref());
        let mut all: Option<RuleState> = None;
        for reply in self.everywhere(call).await? {
            let Some(state) = Fields::optional(reply)?.map(RuleState::parse).transpose()? else { continue };
            match &mut all {
                Some(all) => all.add(&state),
                None => all = Some(state),
            }
        }
        Ok(all)
    }

    /// The names of all rules that any primary knows, in order.
    pub async fn list_rules(&self) -> Result<Vec<Bytes>> {
        self.names_of("EXPCACHE.RULE LIST").await
    }

    /// Takes a rule away, on every primary. `false`: none of them had it.
    pub async fn delete_rule(&self, rule: impl AsRef<[u8]>) -> Result<bool> {
        let deleted = self.sum_twice(|| {
            let mut call = Call::new("EXPCACHE.RULE DEL", Route::Primaries);
            call.cmd.arg(rule.as_ref());
            call
        });
        Ok(deleted.await? > 0)
    }

    /// Tells every primary what happened: the rules that match are carried out. An error means that some primaries may have done so and
    /// others not: tell it again, which does no harm.
    ///
    /// What a [`Cache`](crate::Cache) keeps in this process hears of it by the server's messages; [`Cache::event`](crate::Cache::event)
    /// has it gone at once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> expcache_client::Result<()> {
    /// # let client = expcache_client::testing::InMemory::new().cache()?.client().clone();
    /// use expcache_client::{Event, Rule, Selector};
    ///
    /// let rows = Selector::new().types(["trips", "reports"]).any(["company:{company_id}"]);
    /// client.set_rule("rows", &Rule::on_event("public.trips *", rows)).await?;
    ///
    /// let event = Event::new("public.trips UPDATE").field("company_id", "42");
    /// let would = client.event(&event.clone().dry_run()).await?;
    /// assert_eq!((would.count, would.rules.len()), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn event(&self, event: &Event) -> Result<Fired> {
        let call = || event.call();
        let replies = if event.dry_run { self.everywhere(call()).await? } else { self.twice(call).await? };
        let mut fired = Fired::default();
        replies.into_iter().try_for_each(|reply| fired.add(reply))?;
        Ok(fired)
    }
}
