//! A type's policy, as a client says and hears it.

use std::time::Duration;

use bytes::Bytes;
use expcache_core::grammar::policy::{PerTagChange, PolicyChange};
pub use expcache_core::policy::{Audit, Beyond};
use redis::{Cmd, Value};

use crate::error::{Error, Result};
use crate::reply::{self, Fields};
use crate::time::ms;
use crate::words::{name, words_of};

/// A type's policy, or the fields of it that are to change: what is `None` stays as it is. Durations and limits of nothing take
/// the limit away.
///
/// ```
/// use expcache_client::Policy;
/// use std::time::Duration;
///
/// let policy = Policy { grace: Some(Duration::from_secs(300)), max_entries: Some(10_000), ..Policy::default() };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// How long entries are fresh.
    pub ttl: Option<Duration>,
    /// How long they are stale after that.
    pub grace: Option<Duration>,
    /// The longest TTL.
    pub max_ttl: Option<Duration>,
    /// By up to how many percent a TTL is shortened at random.
    pub jitter: Option<u8>,
    /// After how many percent of the TTL the refresh may be handed out early.
    pub early: Option<u8>,
    /// Whether a hit restarts the TTL.
    pub sliding: Option<bool>,
    /// How payloads are kept: `auto`, `none`, `gzip`, `zstd` or `lz4`.
    pub codec: Option<String>,
    /// From how many bytes on payloads are compressed.
    pub threshold: Option<u64>,
    /// The largest payload.
    pub max_value: Option<u64>,
    /// The most entries.
    pub max_entries: Option<u64>,
    /// The most bytes of payloads.
    pub max_bytes: Option<u64>,
    /// The formats that entries may have; an empty list: any.
    pub formats: Option<Vec<Bytes>>,
    /// Whether payloads must be of their format.
    pub validate: Option<bool>,
    /// How long an entry is seen at all since its key was first stored.
    pub lifetime: Option<Duration>,
    /// How many entries a tag may have.
    pub per_tag: Option<PerTag>,
    /// What of it goes into the audit log.
    pub audit: Option<Audit>,
}

/// How many live entries of a type a tag may have that begins with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerTag {
    /// The prefix; an empty one means every tag.
    pub prefix: Bytes,
    /// The most entries; 0: no limit.
    pub most: u64,
    /// What becomes of one more.
    pub beyond: Beyond,
}

impl PerTag {
    /// The least recently used of them goes when there is one more.
    pub fn evict(prefix: impl AsRef<[u8]>, most: u64) -> Self {
        Self { prefix: name(prefix), most, beyond: Beyond::Evict }
    }

    /// One more is not stored: [`Error::TagLimit`](crate::Error::TagLimit).
    pub fn reject(prefix: impl AsRef<[u8]>, most: u64) -> Self {
        Self { prefix: name(prefix), most, beyond: Beyond::Reject }
    }

    fn change(&self) -> Option<PerTagChange<'_>> {
        let (prefix, most, beyond) = (self.prefix.as_ref(), self.most, self.beyond);
        (most > 0).then_some(PerTagChange { prefix, most, beyond })
    }

    fn parse(value: Value) -> Result<Self> {
        let [prefix, most, beyond] =
            <[Value; 3]>::try_from(reply::array(value)?).map_err(|_| Error::reply("no limit of a tag"))?;
        let beyond = Beyond::parse(&reply::bytes(beyond)?).ok_or_else(|| Error::reply("neither evict nor reject"))?;
        Ok(Self { prefix: reply::bytes(prefix)?, most: reply::count(most)?, beyond })
    }
}

impl Policy {
    fn change(&self) -> PolicyChange<'_> {
        PolicyChange {
            ttl_ms: self.ttl.map(|time| Some(ms(time))),
            grace_ms: self.grace.map(ms),
            max_ttl_ms: self.max_ttl.map(ms),
            jitter_percent: self.jitter,
            early_percent: self.early,
            sliding: self.sliding,
            codec: self.codec.as_deref().map(str::as_bytes),
            threshold: self.threshold,
            max_value: self.max_value,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            formats: self.formats.as_ref().map(|formats| formats.iter().map(AsRef::as_ref).collect()),
            validate: self.validate,
            whole_life_ms: self.lifetime.map(ms),
            per_tag: self.per_tag.as_ref().map(PerTag::change),
            audit: self.audit,
            first_use: None,
        }
    }

    /// What of it another policy, as a server has it, does not say: each as `name 1h, not 2h`.
    pub(crate) fn differing(&self, there: &Self) -> Vec<String> {
        /// No limit is a limit of nothing.
        fn limit<T: Default>(limit: Option<T>) -> T {
            limit.unwrap_or_default()
        }
        let time = |time: Option<Duration>| format!("{:?}", Duration::from_millis(ms(limit(time))));
        let number = |number: Option<u64>| limit(number).to_string();
        let percent = |percent: Option<u8>| limit(percent).to_string();
        let flag = |flag: Option<bool>| yes_or_no(limit(flag)).to_owned();
        let formats = |formats: &Option<Vec<Bytes>>| {
            let mut names: Vec<String> = formats.iter().flatten().map(|name| name.escape_ascii().to_string()).collect();
            names.sort_unstable();
            names.join(" ")
        };
        let codec = |codec: &Option<String>| codec.as_deref().unwrap_or_default().to_ascii_lowercase();
        let audit = |audit: Option<Audit>| limit(audit).name().to_owned();
        let per_tag = |limit: &Option<PerTag>| match limit.as_ref().and_then(PerTag::change) {
            Some(limit) => format!("{} {} {}", limit.prefix.escape_ascii(), limit.most, limit.beyond.name()),
            None => String::new(),
        };
        let fields = [
            ("ttl", self.ttl.map(|_| (time(self.ttl), time(there.ttl)))),
            ("grace", self.grace.map(|_| (time(self.grace), time(there.grace)))),
            ("maxttl", self.max_ttl.map(|_| (time(self.max_ttl), time(there.max_ttl)))),
            ("jitter", self.jitter.map(|_| (percent(self.jitter), percent(there.jitter)))),
            ("early", self.early.map(|_| (percent(self.early), percent(there.early)))),
            ("sliding", self.sliding.map(|_| (flag(self.sliding), flag(there.sliding)))),
            ("codec", self.codec.as_ref().map(|_| (codec(&self.codec), codec(&there.codec)))),
            ("threshold", self.threshold.map(|_| (number(self.threshold), number(there.threshold)))),
            ("maxvalue", self.max_value.map(|_| (number(self.max_value), number(there.max_value)))),
            ("maxentries", self.max_entries.map(|_| (number(self.max_entries), number(there.max_entries)))),
            ("maxbytes", self.max_bytes.map(|_| (number(self.max_bytes), number(there.max_bytes)))),
            ("formats", self.formats.as_ref().map(|_| (formats(&self.formats), formats(&there.formats)))),
            ("validate", self.validate.map(|_| (flag(self.validate), flag(there.validate)))),
            ("lifetime", self.lifetime.map(|_| (time(self.lifetime), time(there.lifetime)))),
            ("pertag", self.per_tag.as_ref().map(|_| (per_tag(&self.per_tag), per_tag(&there.per_tag)))),
            ("audit", self.audit.map(|_| (audit(self.audit), audit(there.audit)))),
        ];
        let differs = |(name, values): (&str, Option<(String, String)>)| {
            let (wanted, found) = values.filter(|(wanted, found)| wanted != found)?;
            Some(format!("{name} {wanted:?}, not {found:?}"))
        };
        fields.into_iter().filter_map(differs).collect()
    }

    pub(crate) fn of_reply(reply: Value) -> Result<Option<Self>> {
        Fields::optional(reply)?.map(Self::parse).transpose()
    }

    fn parse(mut fields: Fields) -> Result<Self> {
        Ok(Self {
            ttl: duration(&mut fields, "ttl")?,
            grace: duration(&mut fields, "grace")?,
            max_ttl: duration(&mut fields, "maxttl")?,
            jitter: percent(&mut fields, "jitter")?,
            early: percent(&mut fields, "early")?,
            sliding: flag(fields.take("sliding"))?,
            codec: fields.optional_text("codec")?,
            threshold: fields.optional_count("threshold")?,
            max_value: fields.optional_count("maxvalue")?,
            max_entries: fields.optional_count("maxentries")?,
            max_bytes: fields.optional_count("maxbytes")?,
            formats: reply::optional(fields.take("formats"), reply::strings)?,
            validate: flag(fields.take("validate"))?,
            lifetime: duration(&mut fields, "lifetime")?,
            per_tag: reply::optional(fields.take("pertag"), PerTag::parse)?,
            audit: fields.optional_bytes("audit")?.and_then(|name| Audit::parse(&name).ok()),
        })
    }
}

/// `TYPE GET`.
pub(crate) fn get(type_name: &[u8]) -> Cmd {
    type_command("GET", type_name)
}

/// `TYPE SET`.
pub(crate) fn set(type_name: &[u8], policy: &Policy) -> Cmd {
    let mut cmd = type_command("SET", type_name);
    policy.change().write(&mut words_of(&mut cmd));
    cmd
}

fn type_command(subcommand: &str, type_name: &[u8]) -> Cmd {
    let mut cmd = redis::cmd("EXPCACHE.TYPE");
    cmd.arg(subcommand).arg(type_name);
    cmd
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn percent(fields: &mut Fields, name: &str) -> Result<Option<u8>> {
    Ok(fields.optional_count(name)?.and_then(|percent| u8::try_from(percent).ok()))
}

fn flag(value: Value) -> Result<Option<bool>> {
    match value {
        Value::Boolean(flag) => Ok(Some(flag)),
        Value::Int(number) => Ok(Some(number != 0)),
        value => Ok(reply::optional(value, reply::text)?.map(|word| word == "yes")),
    }
}

fn duration(fields: &mut Fields, name: &str) -> Result<Option<Duration>> {
    Ok(fields.optional_count(name)?.map(Duration::from_millis))
}
