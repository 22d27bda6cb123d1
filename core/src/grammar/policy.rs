//! `EXPCACHE.TYPE SET`: changes of a type's policy.

use std::iter::Peekable;

use super::syntax::{Arg, integer, one_of, text, with_block, with_integer, with_one_of, with_text, word};
use super::{
    LONGEST_WORD, Words, Writer, format_name, is, number, type_name, upper, write_amount, write_counted, write_number,
    write_text, write_word,
};
use crate::key::MAX_NAME_BYTES;
use crate::policy::{Audit, Beyond, Codec, PerTag, Policy};
use crate::types::Definer;
use crate::units::{self, UnitRule, format_duration};
use crate::{Error, Result};

/// `TYPE SET name [fields]`
pub const TYPE_SET: &[Arg] = &[
    text("name"),
    with_text("TTL", "duration-or-default").optional(),
    with_text("GRACE", "grace-duration").optional(),
    with_text("MAXTTL", "longest-duration").optional(),
    with_integer("JITTER", "jitter-percent").optional(),
    with_integer("EARLY", "early-percent").optional(),
    with_one_of("SLIDING", "sliding", YES_OR_NO).optional(),
    with_one_of("CODEC", "codec", CODECS).optional(),
    with_text("THRESHOLD", "threshold-size").optional(),
    with_text("MAXVALUE", "payload-size").optional(),
    with_integer("MAXENTRIES", "entries").optional(),
    with_text("MAXBYTES", "total-size").optional(),
    with_block("FORMATS", "formats", &[integer("count"), text("format").optional().multiple()]).optional(),
    with_one_of("VALIDATE", "validate", YES_OR_NO).optional(),
    with_text("LIFETIME", "whole-life").optional(),
    with_block(
        "PERTAG",
        "pertag",
        &[
            text("prefix"),
            integer("entries-a-tag"),
            one_of("mode", &[word("evict", "evict"), word("reject", "reject")]),
        ],
    )
    .optional(),
    with_one_of("AUDIT", "audit", &[word("off", "off"), word("changes", "changes"), word("all", "all")]).optional(),
];

const YES_OR_NO: &[Arg] = &[word("yes", "yes"), word("no", "no")];
const CODECS: &[Arg] =
    &[word("auto", "auto"), word("none", "none"), word("gzip", "gzip"), word("zstd", "zstd"), word("lz4", "lz4")];

const MOST_FORMATS: u64 = 64;
/// The most entries that a tag can be limited to: so many keys may be looked at for each that is stored.
const MOST_PER_TAG: u64 = 1024;
/// Stands for the configured lifetime.
const DEFAULT: &str = "default";
/// Says that nobody defined the type but its first use. It is for replicas and files.
const FIRST_USE: &str = "FIRSTUSE";

/// What a policy is to say from now on; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyChange<'a> {
    /// The fresh lifetime, in ms; `None` inside: the configured default.
    pub ttl_ms: Option<Option<u64>>,
    /// See [`Policy::grace_ms`].
    pub grace_ms: Option<u64>,
    /// See [`Policy::max_ttl_ms`].
    pub max_ttl_ms: Option<u64>,
    /// See [`Policy::jitter_percent`].
    pub jitter_percent: Option<u8>,
    /// See [`Policy::early_percent`].
    pub early_percent: Option<u8>,
    /// See [`Policy::sliding`].
    pub sliding: Option<bool>,
    /// The name of a [`Codec`].
    pub codec: Option<&'a [u8]>,
    /// See [`Policy::threshold`].
    pub threshold: Option<u64>,
    /// See [`Policy::max_value`].
    pub max_value: Option<u64>,
    /// See [`Policy::max_entries`].
    pub max_entries: Option<u64>,
    /// See [`Policy::max_bytes`].
    pub max_bytes: Option<u64>,
    /// See [`Policy::formats`].
    pub formats: Option<Vec<&'a [u8]>>,
    /// See [`Policy::validate`].
    pub validate: Option<bool>,
    /// See [`Policy::whole_life_ms`].
    pub whole_life_ms: Option<u64>,
    /// See [`Policy::per_tag`]; `None` inside: no limit.
    pub per_tag: Option<Option<PerTagChange<'a>>>,
    /// See [`Policy::audit`].
    pub audit: Option<Audit>,
    /// Nobody defined the type but its first use.
    pub first_use: Option<()>,
}

/// See [`PerTag`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerTagChange<'a> {
    /// Of tags that begin with this.
    pub prefix: &'a [u8],
    /// So many entries each.
    pub most: u64,
    /// What becomes of one more.
    pub beyond: Beyond,
}

impl<'a> PerTagChange<'a> {
    /// `prefix n evict|reject`, or `prefix 0`
    fn parse(words: &mut Peekable<impl Words<'a>>) -> Result<Option<Self>> {
        let (prefix, most) = (words.need()?, number(words.need()?)?);
        if prefix.len() > MAX_NAME_BYTES {
            return Err(Error::invalid("a prefix has at most 512 bytes"));
        }
        match most {
            0 => {
                let _no_matter = words.next_if(|word| Beyond::parse(word).is_some());
                Ok(None)
            }
            1..=MOST_PER_TAG => {
                let mode = Beyond::parse(words.need()?);
                let beyond = mode.ok_or(Error::invalid("PERTAG must evict or reject"))?;
                Ok(Some(Self { prefix, most, beyond }))
            }
            _ => Err(Error::invalid("PERTAG allows a tag at most 1024 entries")),
        }
    }

    fn of(limit: &'a PerTag) -> Self {
        Self { prefix: &limit.prefix, most: limit.most, beyond: limit.beyond }
    }

    fn write(limit: Option<Self>, to: Writer<'_>) {
        write_text(to, "PERTAG", Some(limit.map_or(b"", |limit| limit.prefix)));
        write_number(to, limit.map_or(0, |limit| limit.most));
        if let Some(limit) = limit {
            to(limit.beyond.name().as_bytes());
        }
    }
}

impl From<PerTagChange<'_>> for PerTag {
    fn from(change: PerTagChange<'_>) -> Self {
        Self { prefix: change.prefix.into(), most: change.most, beyond: change.beyond }
    }
}

impl<'a> PolicyChange<'a> {
    /// Reads the type's name and all words that are left.
    pub fn parse(words: impl Words<'a>) -> Result<(&'a [u8], Self)> {
        let mut words = words.peekable();
        let (name, mut change) = (type_name(&mut words)?, Self::default());
        while let Some(word) = words.next() {
            change.read(word, &mut words)?;
        }
        Ok((name, change))
    }

    fn read(&mut self, word: &[u8], words: &mut Peekable<impl Words<'a>>) -> Result<()> {
        let duration = |word: &[u8]| units::parse_duration_ms(word, UnitRule::Required);
        match upper(word, &mut [0; LONGEST_WORD]) {
            b"TTL" => {
                fill(
                    &mut self.ttl_ms,
                    words,
                    |word| {
                        if is(word, DEFAULT) { Ok(None) } else { duration(word).map(Some) }
                    },
                )
            }
            b"GRACE" => fill(&mut self.grace_ms, words, duration),
            b"MAXTTL" => fill(&mut self.max_ttl_ms, words, duration),
            b"JITTER" => fill(&mut self.jitter_percent, words, percent),
            b"EARLY" => fill(&mut self.early_percent, words, percent),
            b"SLIDING" => fill(&mut self.sliding, words, yes_or_no),
            b"CODEC" => fill(&mut self.codec, words, |name| Codec::parse(name).map(|_| name)),
            b"THRESHOLD" => fill(&mut self.threshold, words, units::parse_size),
            b"MAXVALUE" => fill(&mut self.max_value, words, units::parse_size),
            b"MAXENTRIES" => fill(&mut self.max_entries, words, number),
            b"MAXBYTES" => fill(&mut self.max_bytes, words, units::parse_size),
            b"FORMATS" => fill_from(&mut self.formats, || formats(words)),
            b"VALIDATE" => fill(&mut self.validate, words, yes_or_no),
            b"LIFETIME" => fill(&mut self.whole_life_ms, words, duration),
            b"PERTAG" => fill_from(&mut self.per_tag, || PerTagChange::parse(words)),
            b"AUDIT" => fill(&mut self.audit, words, Audit::parse),
            b"FIRSTUSE" => fill_from(&mut self.first_use, || Ok(())),
            _ => Err(Error::Syntax),
        }
    }

    /// Everything that a policy says, nothing left to configuration. `before` is what whoever reads it has in its place. Of the
    /// fields that came later, those that are initial there and here are left out: so an older module reads what says nothing of
    /// them.
    pub fn to_all_of(policy: &'a Policy, before: &Policy, definer: Definer) -> Self {
        Self {
            ttl_ms: Some(policy.ttl_ms),
            grace_ms: Some(policy.grace_ms),
            max_ttl_ms: Some(policy.max_ttl_ms),
            jitter_percent: Some(policy.jitter_percent),
            early_percent: Some(policy.early_percent),
            sliding: Some(policy.sliding),
            codec: Some(policy.codec.name().as_bytes()),
            threshold: Some(policy.threshold),
            max_value: Some(policy.max_value),
            max_entries: Some(policy.max_entries),
            max_bytes: Some(policy.max_bytes),
            formats: Some(policy.formats.iter().map(AsRef::as_ref).collect()),
            validate: Some(policy.validate),
            whole_life_ms: changed(policy.whole_life_ms, before.whole_life_ms),
            per_tag: (policy.per_tag.is_some() || before.per_tag.is_some())
                .then(|| policy.per_tag.as_ref().map(PerTagChange::of)),
            audit: changed(policy.audit, before.audit),
            first_use: (definer == Definer::FirstUse).then_some(()),
        }
    }

    /// Writes the fields as a client, or a master, sends them.
    pub fn write(&self, to: Writer<'_>) {
        let yes_or_no = |flag: bool| if flag { "yes" } else { "no" };
        write_amount(to, "TTL", self.ttl_ms.map(|ttl_ms| ttl_ms.map_or(DEFAULT.to_owned(), format_duration)));
        write_amount(to, "GRACE", self.grace_ms.map(format_duration));
        write_amount(to, "MAXTTL", self.max_ttl_ms.map(format_duration));
        write_amount(to, "JITTER", self.jitter_percent);
        write_amount(to, "EARLY", self.early_percent);
        write_amount(to, "SLIDING", self.sliding.map(yes_or_no));
        write_text(to, "CODEC", self.codec);
        write_amount(to, "THRESHOLD", self.threshold);
        write_amount(to, "MAXVALUE", self.max_value);
        write_amount(to, "MAXENTRIES", self.max_entries);
        write_amount(to, "MAXBYTES", self.max_bytes);
        write_amount(to, "VALIDATE", self.validate.map(yes_or_no));
        if let Some(formats) = &self.formats {
            write_counted(to, "FORMATS", formats.iter().copied());
        }
        write_amount(to, "LIFETIME", self.whole_life_ms.map(format_duration));
        if let Some(limit) = self.per_tag {
            PerTagChange::write(limit, to);
        }
        write_amount(to, "AUDIT", self.audit.map(Audit::name));
        write_word(to, FIRST_USE, self.first_use.is_some());
    }

    /// Who defines the type with it.
    pub fn definer(&self) -> Definer {
        self.first_use.map_or(Definer::Command, |()| Definer::FirstUse)
    }

    /// Makes a policy say it.
    pub fn apply(&self, policy: &mut Policy) -> Result<()> {
        fn set<T: Clone>(field: &mut T, change: Option<T>) {
            change.into_iter().for_each(|value| *field = value);
        }
        set(&mut policy.codec, self.codec.map(Codec::parse).transpose()?);
        set(&mut policy.ttl_ms, self.ttl_ms);
        set(&mut policy.grace_ms, self.grace_ms);
        set(&mut policy.max_ttl_ms, self.max_ttl_ms);
        set(&mut policy.jitter_percent, self.jitter_percent);
        set(&mut policy.early_percent, self.early_percent);
        set(&mut policy.sliding, self.sliding);
        set(&mut policy.threshold, self.threshold);
        set(&mut policy.max_value, self.max_value);
        set(&mut policy.max_entries, self.max_entries);
        set(&mut policy.max_bytes, self.max_bytes);
        set(&mut policy.formats, self.formats.as_ref().map(|all| all.iter().map(|name| (*name).into()).collect()));
        set(&mut policy.validate, self.validate);
        set(&mut policy.whole_life_ms, self.whole_life_ms);
        set(&mut policy.per_tag, self.per_tag.map(|limit| limit.map(PerTag::from)));
        set(&mut policy.audit, self.audit);
        Ok(())
    }
}

/// A field, unless it is initial and was.
fn changed<T: Default + PartialEq>(value: T, before: T) -> Option<T> {
    let initial = T::default();
    (value != initial || before != initial).then_some(value)
}

/// Reads the value of a field that was not given yet.
fn fill<'a, T>(
    slot: &mut Option<T>,
    words: &mut impl Words<'a>,
    read: impl FnOnce(&'a [u8]) -> Result<T>,
) -> Result<()> {
    fill_from(slot, || read(words.need()?))
}

fn fill_from<T>(slot: &mut Option<T>, read: impl FnOnce() -> Result<T>) -> Result<()> {
    if slot.is_some() {
        return Err(Error::Syntax);
    }
    *slot = Some(read()?);
    Ok(())
}

fn percent(word: &[u8]) -> Result<u8> {
    let number = number(word)?;
    u8::try_from(number).ok().filter(|p| *p <= 100).ok_or(Error::invalid("a percentage must be 0 to 100"))
}

fn yes_or_no(word: &[u8]) -> Result<bool> {
    match (is(word, "yes"), is(word, "no")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(Error::invalid("argument must be 'yes' or 'no'")),
    }
}

fn formats<'a>(words: &mut impl Words<'a>) -> Result<Vec<&'a [u8]>> {
    let count = number(words.need()?)?;
    if count > MOST_FORMATS {
        return Err(Error::invalid("a type has at most 64 formats"));
    }
    (0..count).map(|_| format_name(words)).collect()
}
