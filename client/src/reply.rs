//! Replies taken apart: maps come as maps in RESP3 and as flat arrays in RESP2, and fields are looked up by name.

use bytes::Bytes;
use redis::Value;

use crate::error::{Error, Result};

/// The fields of a reply, in the order in which they came, and where the next is looked for first: mostly they are taken as they came.
pub(crate) struct Fields {
    all: Vec<(Value, Value)>,
    next: usize,
}

impl Fields {
    /// `None` for a null reply.
    pub(crate) fn optional(value: Value) -> Result<Option<Self>> {
        match value {
            Value::Nil => Ok(None),
            value => Self::new(value).map(Some),
        }
    }

    pub(crate) fn new(value: Value) -> Result<Self> {
        Ok(Self { all: pairs(value)?, next: 0 })
    }

    /// Takes a field out; null when there is none, as from a server that does not know it yet.
    pub(crate) fn take(&mut self, name: &str) -> Value {
        // Never beyond the last.
        let (before, behind) = self.all.split_at_mut(self.next);
        let mut places = (self.next..).zip(behind).chain((0..).zip(before));
        let Some((place, (_, value))) = places.find(|(_, (field, _))| is_named(field, name)) else { return Value::Nil };
        self.next = place + 1;
        std::mem::replace(value, Value::Nil)
    }

    /// An integer that is not negative; 0 when there is none.
    pub(crate) fn count(&mut self, name: &str) -> Result<u64> {
        Ok(self.optional_integer(name)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
    }

    pub(crate) fn optional_integer(&mut self, name: &str) -> Result<Option<i64>> {
        optional(self.take(name), integer)
    }

    pub(crate) fn optional_count(&mut self, name: &str) -> Result<Option<u64>> {
        Ok(self.optional_integer(name)?.and_then(|n| u64::try_from(n).ok()))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String> {
        text(self.take(name))
    }

    pub(crate) fn optional_text(&mut self, name: &str) -> Result<Option<String>> {
        optional(self.take(name), text)
    }

    pub(crate) fn optional_bytes(&mut self, name: &str) -> Result<Option<Bytes>> {
        optional(self.take(name), bytes)
    }

    pub(crate) fn bytes(&mut self, name: &str) -> Result<Bytes> {
        bytes(self.take(name))
    }

    /// A double; 0 when there is none.
    pub(crate) fn double(&mut self, name: &str) -> Result<f64> {
        Ok(optional(self.take(name), double)?.unwrap_or(0.0))
    }

    /// What was not taken.
    pub(crate) fn rest(self) -> impl Iterator<Item = (String, Value)> {
        let left = self.all.into_iter().filter(|(_, value)| *value != Value::Nil);
        left.filter_map(|(name, value)| Some((text(name).ok()?, value)))
    }
}

fn is_named(field: &Value, name: &str) -> bool {
    match field {
        Value::BulkString(bytes) => bytes == name.as_bytes(),
        Value::SimpleString(text) => text == name,
        _ => false,
    }
}

pub(crate) fn pairs(value: Value) -> Result<Vec<(Value, Value)>> {
    match value {
        Value::Map(pairs) => Ok(pairs),
        Value::Array(items) => {
            let mut items = items.into_iter();
            let mut pairs = Vec::with_capacity(items.len() / 2);
            while let Some(name) = items.next() {
                pairs.push((name, items.next().unwrap_or_default()));
            }
            Ok(pairs)
        }
        _ => Err(Error::reply("no map")),
    }
}

pub(crate) fn optional<T>(value: Value, read: impl FnOnce(Value) -> Result<T>) -> Result<Option<T>> {
    match value {
        Value::Nil => Ok(None),
        value => read(value).map(Some),
    }
}

pub(crate) fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into_bytes().into()),
        Value::VerbatimString { text, .. } => Ok(text.into_bytes().into()),
        Value::Okay => Ok(Bytes::from_static(b"OK")),
        _ => Err(Error::reply("no string")),
    }
}

/// Text that the protocol promises to be text; names of the user's are bytes.
pub(crate) fn text(value: Value) -> Result<String> {
    Ok(match value {
        Value::BulkString(bytes) => {
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        value => String::from_utf8_lossy(&bytes(value)?).into_owned(),
    })
}

pub(crate) fn integer(value: Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(number),
        value => text(value)?.parse().map_err(|_| Error::reply("no integer")),
    }
}

pub(crate) fn count(value: Value) -> Result<u64> {
    u64::try_from(integer(value)?).map_err(|_| Error::reply("a negative count"))
}

pub(crate) fn double(value: Value) -> Result<f64> {
    match value {
        Value::Double(number) => Ok(number),
        #[expect(clippy::cast_precision_loss, reason = "figures, not identities")]
        Value::Int(number) => Ok(number as f64),
        value => text(value)?.parse().map_err(|_| Error::reply("no number")),
    }
}

pub(crate) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(Error::reply("no array")),
    }
}

pub(crate) fn strings(value: Value) -> Result<Vec<Bytes>> {
    array(value)?.into_iter().map(bytes).collect()
}

/// `OK`, or null because a condition did not hold.
pub(crate) fn stored(value: Value) -> Result<bool> {
    match value {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        _ => Err(Error::reply("neither OK nor null")),
    }
}

pub(crate) fn yes(value: Value) -> Result<bool> {
    Ok(integer(value)? != 0)
}
