//! What is written is read back as it was: for each set of options, thousands of random ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use fastrand::Rng;

use super::advise::AdviseOptions;
use super::audit::{After, AuditOptions};
use super::event::EventOptions;
use super::fetch::{FetchOptions, Field, Fields};
use super::lease::ReleaseOptions;
use super::policy::{PerTagChange, PolicyChange};
use super::purge::PurgeOptions;
use super::rule::RuleOptions;
use super::scan::{ScanOptions, TagsOptions};
use super::selector::Limits;
use super::set::{Condition, ExpiryOption, SetOptions, Verb};
use super::stats::StatsOptions;
use super::throttle::ThrottleOptions;
use super::top::TopOptions;
use super::warm::WarmOptions;
use super::{Tags, Words, Writer, words};
use crate::codec::Encoding;
use crate::entry::MAX_COST_MS;
use crate::glob::Glob;
use crate::key::KeyRequest;
use crate::policy::{Audit, Beyond, Policy};
use crate::rules::On;
use crate::selector::{Clause, Selector, TagNames};
use crate::stats::By;
use crate::types::Definer;
use crate::{Error, Result, limit};

const ROUNDS: u64 = 4000;
const MOST: u64 = i64::MAX as u64;

/// Texts of all kinds, some of which are words of the grammar.
const TEXTS: [&[u8]; 8] = [b"a", b"trips", b"TYPE", b"tags", b"\0\xFF", b"company:42", b"*", b"7"];
const TOKENS: [&[u8]; 2] = [b"0123456789abcdef", b"a token of some length, of its holder's own making"];

fn text(rng: &mut Rng) -> &'static [u8] {
    TEXTS[rng.usize(..TEXTS.len())]
}

fn maybe<T>(rng: &mut Rng, value: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rng.bool().then(|| value(rng))
}

/// Small ones and extreme ones.
fn amount(rng: &mut Rng, most: u64) -> u64 {
    match rng.u8(..4) {
        0 => 0,
        1 => most,
        2 => rng.u64(..=most),
        _ => rng.u64(..1000).min(most),
    }
}

fn some<T>(rng: &mut Rng, most: usize, one: impl Fn(&mut Rng) -> T) -> Vec<T> {
    (0..rng.usize(..=most)).map(|_| one(rng)).collect()
}

fn distinct(mut texts: Vec<&'static [u8]>) -> Vec<&'static [u8]> {
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// Writes the options of each round, and reads what was written.
fn round_trips<T: PartialEq + std::fmt::Debug>(
    random: impl Fn(&mut Rng) -> T,
    write: impl Fn(&T, Writer<'_>),
    same: impl Fn(&T, &mut dyn ExactSizeIterator<Item = &[u8]>) -> Result<bool>,
) {
    for seed in 0..ROUNDS {
        let options = random(&mut Rng::with_seed(seed));
        let written = words(|to| write(&options, to));
        let read = same(&options, &mut written.iter().map(Vec::as_slice));
        assert_eq!(read, Ok(true), "round {seed}: {options:?} as {:?}", shown(&written));
    }
}

fn shown(words: &[Vec<u8>]) -> Vec<String> {
    words.iter().map(|word| word.escape_ascii().to_string()).collect()
}

#[test]
fn parts_are_those_of_a_lease() {
    let options = SetOptions { lease: Some(TOKENS[0]), parts: Some(()), ..SetOptions::default() };
    let words = words(|to| options.write(to));
    let read = |words: &[Vec<u8>], verb| {
        let shown = |options: SetOptions<'_>| format!("{options:?}");
        SetOptions::parse(words.iter().map(AsRef::as_ref), verb).map(shown)
    };
    assert_eq!(read(&words, Verb::Set), Ok(format!("{options:?}")));
    assert_eq!(read(&words, Verb::Mset), Err(Error::Syntax));
    assert_eq!(read(&[b"parts".to_vec()], Verb::Set), Err(Error::Syntax));
    let twice = [&words[..], &[b"PARTS".to_vec()]].concat();
    assert_eq!(read(&twice, Verb::Set), Err(Error::Syntax));
}

#[test]
fn options_of_set_are_read_as_they_were_written() {
    for verb in [Verb::Set, Verb::Mset] {
        let single = verb == Verb::Set;
        round_trips(
            |rng| SetOptions {
                type_name: maybe(rng, text),
                expiry: maybe(rng, |rng| match rng.u8(..6) {
                    0 => ExpiryOption::Seconds(rng.i64(..)),
                    1 => ExpiryOption::Millis(rng.i64(..)),
                    2 => ExpiryOption::AtSecond(rng.i64(..)),
                    3 => ExpiryOption::AtMilli(rng.i64(..)),
                    4 => ExpiryOption::Never,
                    _ => ExpiryOption::Keep,
                }),
                grace_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
                tags: maybe(rng, |rng| distinct(some(rng, 12, text)).into_iter().collect::<Tags<'_>>()),
                format: maybe(rng, text),
                records: maybe(rng, |rng| amount(rng, MOST)),
                cost_ms: maybe(rng, |rng| amount(rng, MAX_COST_MS)),
                meta: maybe(rng, |rng| if rng.bool() { b"{}".as_slice() } else { br#"{"n": [1, "TAGS"]}"# }),
                hash: maybe(rng, |_| b"D41d8cd98f00b204e9800998ecf8427e".as_slice()).filter(|_| single),
                encoding: maybe(rng, |rng| Encoding::ALL[rng.usize(..4)]),
                condition: maybe(rng, |rng| match rng.u8(..3) {
                    0 => Condition::Nx,
                    1 if single => Condition::IfMatch(text(rng)),
                    _ => Condition::Xx,
                }),
                lease: maybe(rng, |rng| if rng.bool() { text(rng) } else { TOKENS[0] }).filter(|_| single),
                note: maybe(rng, text),
                ..SetOptions::default()
            },
            |options, to| options.write(to),
            // Compared as texts: the type's lifetime cannot shrink.
            |options, words| Ok(format!("{:?}", SetOptions::parse(words, verb)?) == format!("{options:?}")),
        );
    }
}

#[test]
fn options_of_fetch_are_read_as_they_were_written() {
    round_trips(
        |rng| {
            let lease_ms = maybe(rng, |rng| amount(rng, MOST / 2).max(1));
            FetchOptions {
                lease_ms,
                token: maybe(rng, |rng| TOKENS[rng.usize(..2)]).filter(|_| lease_ms.is_some()),
                wait_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
                accept: maybe(rng, |rng| some(rng, 4, |rng| Encoding::ALL[rng.usize(..4)]).into_iter().collect()),
                if_none_match: maybe(rng, text),
                range: maybe(rng, |rng| (amount(rng, MOST), amount(rng, MOST))),
                max_age_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
                verify: maybe(rng, |_| ()),
                fields: maybe(rng, |rng| {
                    let mut fields = Field::ALL;
                    rng.shuffle(&mut fields);
                    let least = fields.iter().position(|field| *field == Field::Lease).filter(|_| lease_ms.is_some());
                    Fields::new(fields.into_iter().take(rng.usize(least.unwrap_or(0) + 1..=Field::ALL.len()))).unwrap()
                }),
                note: maybe(rng, text),
            }
        },
        |options, to| options.write(to),
        |options, words| Ok(FetchOptions::parse(words)? == *options),
    );
}

#[test]
fn policies_of_throttle_are_read_as_they_were_written() {
    round_trips(
        |rng| {
            let mut policies = limit::Each::new();
            while policies.is_empty() || policies.len() < limit::MAX_POLICIES && rng.bool() {
                let (count, period_ms) = (rng.u64(1..1000), amount(rng, 1_000_000) + 1);
                match limit::Policy::new(count, period_ms, maybe(rng, |rng| rng.u64(1..1000))) {
                    Ok(policy) if !policies.contains(&policy) => policies.push(policy),
                    _ => (),
                }
            }
            ThrottleOptions { policies, cost: maybe(rng, |rng| rng.i64(..)) }
        },
        |options, to| options.write(to),
        |options, words| Ok(ThrottleOptions::parse(words.collect::<Vec<_>>().into_iter())? == *options),
    );
}

fn clause(rng: &mut Rng) -> Clause {
    let tags = |rng: &mut Rng| -> TagNames {
        let mut tags = distinct(some(rng, 6, text));
        if tags.is_empty() {
            tags.push(b"one");
        }
        tags.into_iter().map(Into::into).collect()
    };
    match rng.u8(..6) {
        0 => Clause::Any(tags(rng)),
        1 => Clause::All(tags(rng)),
        2 => Clause::None(tags(rng)),
        3 => Clause::Type(text(rng).into()),
        4 => Clause::Types(tags(rng)),
        _ => Clause::Match(Glob::new(text(rng))),
    }
}

/// No clause twice.
fn selector(rng: &mut Rng) -> Selector {
    let mut clauses: Vec<Clause> = Vec::new();
    for clause in some(rng, 8, clause) {
        if !clauses.contains(&clause) {
            clauses.push(clause);
        }
    }
    Selector { clauses }
}

/// With a clause at least.
fn some_selector(rng: &mut Rng) -> Selector {
    match selector(rng) {
        Selector { clauses } if clauses.is_empty() => Selector { clauses: vec![clause(rng)] },
        selector => selector,
    }
}

#[test]
fn a_selector_is_read_as_it_was_written() {
    round_trips(
        some_selector,
        |selector, to| selector.write(to),
        |selector, words| Ok(Selector::parse(words, Limits::Apply)? == *selector),
    );
}

#[test]
fn what_to_purge_is_read_as_it_was_written() {
    round_trips(
        |rng| {
            let soft = maybe(rng, |_| ());
            PurgeOptions {
                selector: selector(rng),
                soft,
                dry_run: maybe(rng, |_| ()),
                keys: maybe(rng, |rng| rng.usize(..=10_000)),
                at_ms: maybe(rng, |rng| amount(rng, MOST)).filter(|_| soft.is_some()),
                note: maybe(rng, |rng| text(rng).into()),
            }
        },
        |options, to| options.write(to),
        |options, words| Ok(PurgeOptions::parse(words, Limits::Apply)? == *options),
    );
}

#[test]
fn rules_and_events_are_read_as_they_were_written() {
    round_trips(
        |rng| RuleOptions {
            name: text(rng),
            on: if rng.bool() { On::Key } else { On::Event },
            pattern: text(rng),
            selector: some_selector(rng),
            soft: maybe(rng, |_| ()),
        },
        |options, to| options.write(to),
        |options, words| Ok(RuleOptions::parse(words, Limits::Apply)? == *options),
    );
    round_trips(
        |rng| EventOptions {
            text: text(rng),
            fields: distinct(some(rng, 8, text)).into_iter().map(|name| (name, text(rng))).collect(),
            dry_run: maybe(rng, |_| ()),
            rules: maybe(rng, |_| ()),
            note: maybe(rng, text),
        },
        |options, to| options.write(to),
        |options, words| Ok(EventOptions::parse(words)? == *options),
    );
}

#[test]
fn iterations_are_read_as_they_were_written() {
    let count = |rng: &mut Rng| maybe(rng, |rng| rng.usize(1..=1 << 40));
    round_trips(
        |rng| {
            let selector = Some(selector(rng)).filter(|selector| !selector.clauses.is_empty());
            ScanOptions { cursor: rng.u32(..), selector, count: count(rng) }
        },
        |options, to| options.write(to),
        |options, words| Ok(ScanOptions::parse(words, Limits::Apply)? == *options),
    );
    round_trips(
        |rng| TagsOptions { cursor: rng.u32(..), glob: maybe(rng, |rng| Glob::new(text(rng))), count: count(rng) },
        |options, to| options.write(to),
        |options, words| Ok(TagsOptions::parse(words)? == *options),
    );
}

fn policy(rng: &mut Rng) -> Policy {
    let mut policy = Policy::default();
    change(rng).apply(&mut policy).unwrap();
    policy
}

fn change(rng: &mut Rng) -> PolicyChange<'static> {
    PolicyChange {
        ttl_ms: maybe(rng, |rng| maybe(rng, |rng| amount(rng, MOST / 2))),
        grace_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
        max_ttl_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
        jitter_percent: maybe(rng, |rng| rng.u8(..=100)),
        early_percent: maybe(rng, |rng| rng.u8(..=100)),
        sliding: maybe(rng, Rng::bool),
        codec: maybe(rng, |rng| [b"auto".as_slice(), b"none", b"gzip", b"zstd", b"lz4"][rng.usize(..5)]),
        threshold: maybe(rng, |rng| amount(rng, MOST)),
        max_value: maybe(rng, |rng| amount(rng, MOST)),
        max_entries: maybe(rng, |rng| amount(rng, MOST)),
        max_bytes: maybe(rng, |rng| amount(rng, MOST)),
        formats: maybe(rng, |rng| some(rng, 5, text)),
        validate: maybe(rng, Rng::bool),
        whole_life_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
        per_tag: maybe(rng, |rng| {
            maybe(rng, |rng| PerTagChange {
                prefix: if rng.bool() { b"" } else { text(rng) },
                most: rng.u64(1..=1024),
                beyond: if rng.bool() { Beyond::Evict } else { Beyond::Reject },
            })
        }),
        warm: maybe(rng, |rng| rng.u64(..=10_000)),
        audit: maybe(rng, |rng| [Audit::Off, Audit::Changes, Audit::All][rng.usize(..3)]),
        first_use: maybe(rng, |_| ()),
    }
}

fn write_named(change: &PolicyChange<'_>, to: Writer<'_>) {
    to(b"trips");
    change.write(to);
}

#[test]
fn changes_of_a_policy_are_read_as_they_were_written() {
    round_trips(change, write_named, |change, words| {
        let (name, read) = PolicyChange::parse(words)?;
        Ok(name == b"trips" && read == *change)
    });
}

#[test]
fn a_policy_is_carried_whole() {
    let before = [Policy::default(), policy(&mut Rng::with_seed(7)), policy(&mut Rng::with_seed(8))];
    let both = |rng: &mut Rng| {
        let definer = if rng.bool() { Definer::Command } else { Definer::FirstUse };
        ((policy(rng), definer), rng.usize(..before.len()))
    };
    round_trips(
        both,
        |((policy, definer), over), to| write_named(&PolicyChange::to_all_of(policy, &before[*over], *definer), to),
        |(whole, over), words| {
            let mut policy = before[*over].clone();
            let (_, change) = PolicyChange::parse(words)?;
            change.apply(&mut policy)?;
            Ok((policy, change.definer()) == *whole)
        },
    );
}

#[test]
fn the_rest_is_read_as_it_was_written() {
    round_trips(
        |rng| ReleaseOptions { failure: maybe(rng, text), backoff_ms: maybe(rng, |rng| amount(rng, MOST / 2)) },
        |options, to| options.write(to),
        |options, words| Ok(ReleaseOptions::parse(words)? == *options),
    );
    round_trips(
        |rng| TopOptions {
            type_name: maybe(rng, text),
            by: maybe(rng, |rng| By::ALL[rng.usize(..4)]),
            count: maybe(rng, |rng| amount(rng, MOST)),
        },
        |options, to| options.write(to),
        |options, words| Ok(TopOptions::parse(words)? == *options),
    );
    round_trips(
        |rng| AuditOptions {
            after: maybe(
                rng,
                |rng| if rng.bool() { After::Last(amount(rng, MOST)) } else { After::Id(amount(rng, MOST)) },
            ),
            count: maybe(rng, |rng| rng.usize(1..=10_000)),
            wait_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
            type_name: maybe(rng, text),
            user: maybe(rng, text),
        },
        |options, to| options.write(to),
        |options, words| Ok(AuditOptions::parse(words)? == *options),
    );
    round_trips(
        |rng| match rng.u8(..4) {
            0 => StatsOptions::Reset,
            _ => StatsOptions::Read {
                type_name: maybe(rng, text),
                window_ms: maybe(rng, |rng| rng.u64(1..=30 * 24 * 60 * 60 * 1000)),
            },
        },
        |options, to| options.write(to),
        |options, words| Ok(StatsOptions::parse(words)? == *options),
    );
    round_trips(
        |rng| match rng.u8(..3) {
            0 => AdviseOptions::Curve(text(rng)),
            _ => AdviseOptions::Advice { type_name: maybe(rng, text), count: maybe(rng, |rng| amount(rng, MOST)) },
        },
        |options, to| options.write(to),
        |options, words| Ok(AdviseOptions::parse(words)? == *options),
    );
    round_trips(
        |rng| WarmOptions {
            types: maybe(rng, |rng| distinct(some(rng, 5, text))).filter(|types| !types.is_empty()),
            count: maybe(rng, |rng| rng.u64(1..=1000)),
            lease_ms: maybe(rng, |rng| amount(rng, MOST / 2).max(1)),
            wait_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
            ahead_ms: maybe(rng, |rng| amount(rng, MOST / 2)),
            dry_run: maybe(rng, |_| ()),
        },
        |options, to| options.write(to),
        |options, words| Ok(WarmOptions::parse(words)? == *options),
    );
    round_trips(
        |rng| KeyRequest {
            type_name: text(rng),
            format: maybe(rng, text),
            filters: maybe(rng, text),
            company: maybe(rng, text),
            user: maybe(rng, text),
            project: maybe(rng, text),
            fields: some(rng, 4, |rng| (text(rng), text(rng))),
            hashtag: maybe(rng, text),
        },
        |request, to| request.write(to),
        |request, words| Ok(KeyRequest::parse(words)? == *request),
    );
}

/// The first word that is wrong is the error.
#[test]
fn a_word_given_twice_or_cut_off_is_an_error() {
    let set = |words: &str| SetOptions::parse(split(words).into_iter(), Verb::Set).map(drop);
    for wrong in
        ["TYPE", "EX 1 PX 2", "NX XX", "TAGS 2 a", "TAGS", "GRACE", "UNKNOWN", "a-word-that-is-longer-than-any"]
    {
        assert_eq!(set(wrong), Err(Error::Syntax), "{wrong}");
    }
    assert_eq!(set(&format!("NOTE {}", "x".repeat(257))), Err(Error::invalid("a note has at most 256 bytes")));
    assert_eq!(set("EX x TYPE"), Err(Error::NotAnInteger));
    assert_eq!(set("TAGS 65"), Err(Error::invalid("an entry has at most 64 tags")));
    assert_eq!(SetOptions::parse(split("HASH 0").into_iter(), Verb::Mset), Err(Error::Syntax));
    let policy = |words: &str| PolicyChange::parse(split(words).into_iter()).map(drop);
    assert_eq!(policy("t TTL 1h ttl nonsense"), Err(Error::Syntax), "twice is worse than wrong");
    assert_eq!(policy("t CODEC brotli"), Err(Error::invalid("CODEC must be auto, none, gzip, zstd or lz4")));
    for nothing in ["t PERTAG x 0", "t PERTAG x 0 evict", "t PERTAG x 0 REJECT"] {
        assert_eq!(PolicyChange::parse(split(nothing).into_iter()).map(|(_, change)| change.per_tag), Ok(Some(None)));
        let with_more = format!("{nothing} TTL 1s");
        let (_, change) = PolicyChange::parse(split(&with_more).into_iter()).unwrap();
        assert_eq!((change.per_tag, change.ttl_ms), (Some(None), Some(Some(1000))));
    }
    assert_eq!(policy("t PERTAG x 1"), Err(Error::Syntax));
    assert_eq!(policy("t PERTAG x 1 TTL 1s"), Err(Error::invalid("PERTAG must evict or reject")));
    assert_eq!(policy("t PERTAG x 1025 evict"), Err(Error::invalid("PERTAG allows a tag at most 1024 entries")));
    assert_eq!(policy("t WARM 10001"), Err(Error::invalid("WARM keeps at most 10000 keys of a type in mind")));
    let mut two = split("a b").into_iter();
    assert!(two.need_some(3).is_err() && two.len() == 2, "nothing was taken");
}

fn split(words: &str) -> Vec<&[u8]> {
    words.split(' ').map(str::as_bytes).collect()
}
