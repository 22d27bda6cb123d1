//! How figures look when they are serialized: under the names that the commands have for them, times in milliseconds, names as text.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Serialize, Serializer};

pub(super) fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1000.0)
}

pub(super) fn optional_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64() * 1000.0).serialize(serializer)
}

pub(super) fn unix_millis<S: Serializer>(moment: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn optional_unix_millis<S: Serializer>(
    moment: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => unix_millis(moment, serializer),
        None => serializer.serialize_none(),
    }
}

pub(super) fn text<S: Serializer>(name: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(name))
}

pub(super) fn optional_text<S: Serializer>(name: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_deref().map(String::from_utf8_lossy).serialize(serializer)
}

pub(super) fn texts<S: Serializer>(names: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| String::from_utf8_lossy(name)))
}

pub(super) fn by_name<S: Serializer, T: Serialize>(
    values: &BTreeMap<Bytes, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(values.iter().map(|(name, value)| (String::from_utf8_lossy(name), value)))
}

/// JSON, or a text if it is none.
pub(super) fn json<S: Serializer>(json: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    match json.as_deref().map(serde_json::from_slice::<serde_json::Value>) {
        Some(Ok(value)) => value.serialize(serializer),
        _ => optional_text(json, serializer),
    }
}

pub(super) fn encoding<S: Serializer>(
    encoding: &expcache_core::codec::Encoding,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(encoding.name())
}
