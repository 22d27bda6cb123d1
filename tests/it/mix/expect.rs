//! What a reply must be, as exactly as it can be known.

use super::Span;
use crate::harness::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub enum Expect {
    Anything,
    Is(Value),
    /// An error with this prefix.
    Error(&'static str),
    OneOf(Vec<Expect>),
    Between(Span),
    /// A map that has at least these fields.
    Fields(Vec<(&'static str, Expect)>),
    Items(Vec<Expect>),
    /// These strings in any order; one may come twice.
    Names(Vec<Vec<u8>>),
    /// This number and behind it so many of these strings, none twice.
    Some {
        number: i64,
        names: usize,
        of: Vec<Vec<u8>>,
    },
    /// Names in any order, each followed by its number; one may come twice.
    Numbers(BTreeMap<Vec<u8>, i64>),
}

impl Expect {
    pub fn ok() -> Expect {
        Expect::Is(Value::Simple("OK".into()))
    }

    pub fn int(number: usize) -> Expect {
        Expect::Is(Value::Int(number as i64))
    }

    /// A number, or null.
    pub fn number(number: Option<i64>) -> Expect {
        Expect::Is(number.map_or(Value::Nil, Value::Int))
    }

    /// A string, or null.
    pub fn text(text: Option<impl AsRef<[u8]>>) -> Expect {
        Expect::Is(text.map_or(Value::Nil, Value::bulk))
    }

    pub fn nil() -> Expect {
        Expect::Is(Value::Nil)
    }

    /// Why `reply` is not as expected; `None` when it is.
    pub fn mismatch(&self, reply: &Value) -> Option<String> {
        let fits = match (self, reply) {
            (Expect::Anything, _) => true,
            (Expect::Is(value), _) => value == reply,
            (Expect::Error(prefix), Value::Error(text)) => text.starts_with(prefix),
            (Expect::OneOf(choices), _) => choices.iter().any(|choice| choice.mismatch(reply).is_none()),
            (Expect::Between(span), Value::Int(number)) => (span.lo..=span.hi).contains(number),
            (Expect::Fields(expected), Value::Map(_) | Value::Array(_)) => {
                let fields = reply.fields();
                let mismatch = |(name, expect): &(&str, Expect)| {
                    expect.mismatch(&fields[*name]).map(|why| format!("field {name}: {why}"))
                };
                return expected.iter().find_map(mismatch);
            }
            (Expect::Items(expected), Value::Array(items)) if expected.len() == items.len() => {
                return expected.iter().zip(items).find_map(|(expect, item)| expect.mismatch(item));
            }
            (Expect::Names(expected), Value::Array(_) | Value::Set(_)) => {
                let mut names: Vec<&[u8]> = reply.items().iter().map(Value::as_bytes).collect();
                let mut expected: Vec<&[u8]> = expected.iter().map(Vec::as_slice).collect();
                expected.sort_unstable();
                names.sort_unstable();
                names.dedup();
                names == expected
            }
            (Expect::Some { number, names, of }, Value::Array(items)) => {
                let mut some: Vec<&[u8]> = items.iter().skip(1).map(Value::as_bytes).collect();
                some.sort_unstable();
                some.dedup();
                let known = some.iter().all(|name| of.iter().any(|other| other == name));
                items.first() == Some(&Value::Int(*number)) && items.len() == 1 + names && some.len() == *names && known
            }
            (Expect::Numbers(expected), Value::Array(items)) => {
                let pairs = items.chunks(2).map(|pair| (pair[0].as_bytes().to_vec(), pair[1].int()));
                pairs.clone().all(|(name, number)| expected.get(&name) == Some(&number))
                    && pairs.collect::<BTreeMap<_, _>>().len() == expected.len()
            }
            _ => false,
        };
        (!fits).then(|| format!("got {reply}, expected {self:?}"))
    }
}
