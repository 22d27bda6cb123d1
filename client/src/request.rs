//! What is asked for: the parameters that make the key, whom the result concerns, and how long it is good for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use expcache_core::entry::MAX_TAGS;
use expcache_core::grammar::MOST_NOTE_BYTES;
use expcache_core::key::{KeyRequest, MAX_NAME_BYTES, derive_key};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::exact::{Exact, Integers};
use crate::time::bounded;
use crate::words::name;

/// A request, with its key. Cheap to clone; made once, it can be asked again and again.
#[derive(Debug, Clone)]
pub struct Request(pub(crate) Arc<RequestPlan>);

/// Everything that a request says.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestPlan {
    pub(crate) key: Bytes,
    pub(crate) type_name: Bytes,
    pub(crate) format: Option<Bytes>,
    pub(crate) tags: Vec<Bytes>,
    pub(crate) meta: Option<Bytes>,
    pub(crate) note: Option<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) lease: Option<Duration>,
    pub(crate) patience: Option<Duration>,
    pub(crate) near: bool,
    /// What of the entry is to come, if not all of it.
    #[cfg(feature = "http")]
    pub(crate) view: Option<crate::view::View>,
    pub(crate) produce_timeout: Option<Duration>,
    pub(crate) store_wait: Option<Duration>,
}

impl Request {
    /// A request whose key begins with the prefix; [`Cache::request`](crate::Cache::request) knows it.
    ///
    /// ```
    /// use expcache_client::Request;
    ///
    /// let request = Request::builder("export_cache", "trips").format("csv").company("42").build()?;
    /// assert_eq!(request.key(), b"export_cache:trips:f1a2ed9c41b5820ccc9619f2e57a66be");
    /// # Ok::<(), expcache_client::Error>(())
    /// ```
    pub fn builder(prefix: impl AsRef<[u8]>, type_name: impl AsRef<[u8]>) -> RequestBuilder {
        RequestBuilder { prefix: name(prefix), type_name: name(type_name), ..RequestBuilder::default() }
    }

    /// Of an entry that there is, or was: as it was stored, but for its lifetime and tags.
    pub(crate) fn of_entry(key: Bytes, type_name: Bytes, format: Option<Bytes>, meta: Option<Bytes>) -> Self {
        Self(Arc::new(RequestPlan { key, type_name, format, meta, near: true, ..RequestPlan::default() }))
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0.key
    }

    /// The tags that the entry will have, besides those that its producer adds.
    pub fn tags(&self) -> impl Iterator<Item = &[u8]> {
        self.0.tags.iter().map(AsRef::as_ref)
    }
}

/// A request in the making. `format`, `filters`, `company`, `user`, `project` and `field` make the key; their order means
/// nothing. Company, user, project and objects are tags as well (`company:42`, `user:7`, `project:3`, `object:123`), by which
/// the entry is invalidated. Durations longer than a century count as one.
#[derive(Debug, Clone, Default)]
#[must_use = "a request is made by `build`"]
pub struct RequestBuilder {
    prefix: Bytes,
    type_name: Bytes,
    key: Option<Bytes>,
    format: Option<Bytes>,
    filters: Option<Result<Bytes>>,
    company: Option<Bytes>,
    user: Option<Bytes>,
    project: Option<Bytes>,
    fields: Vec<(Bytes, Bytes)>,
    hashtag: Option<Bytes>,
    tags: Vec<Bytes>,
    has_empty_object: bool,
    meta: Option<Bytes>,
    note: Option<String>,
    ttl: Option<Duration>,
    grace: Option<Duration>,
    max_age: Option<Duration>,
    lease: Option<Duration>,
    patience: Option<Duration>,
    produce_timeout: Option<Duration>,
    store_wait: Option<Duration>,
    far: bool,
}

impl RequestBuilder {
    /// The format of the payload, such as `csv`.
    pub fn format(mut self, format: impl AsRef<[u8]>) -> Self {
        self.format = Some(name(format));
        self
    }

    /// Anything that serializes to JSON. The order of a set without an order means nothing. Refused are numbers that are not finite,
    /// which JSON does not tell from what is absent.
    pub fn filters(mut self, filters: &(impl Serialize + ?Sized)) -> Self {
        let json = serde_json::to_vec(&Exact::new(filters, Integers::AsTheyAre, 0));
        self.filters = Some(json.map(Bytes::from).map_err(|error| Error::Request(format!("the filters: {error}"))));
        self
    }

    /// A JSON text.
    pub fn filters_json(mut self, json: impl AsRef<[u8]>) -> Self {
        self.filters = Some(Ok(name(json)));
        self
    }

    /// Whose data it is.
    pub fn company(mut self, id: impl ToString) -> Self {
        self.company = Some(id.to_string().into());
        self
    }

    /// Who asks.
    pub fn user(mut self, id: impl ToString) -> Self {
        self.user = Some(id.to_string().into());
        self
    }

    /// The project it belongs to.
    pub fn project(mut self, id: impl ToString) -> Self {
        self.project = Some(id.to_string().into());
        self
    }

    /// A further parameter.
    pub fn field(mut self, field: impl AsRef<[u8]>, value: impl ToString) -> Self {
        self.fields.push((name(field), value.to_string().into()));
        self
    }

    /// In a cluster, keys with the same text live in the same slot.
    pub fn hashtag(mut self, text: impl AsRef<[u8]>) -> Self {
        self.hashtag = Some(name(text));
        self
    }

    /// A key of one's own, instead of one derived from the parameters.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(name(key));
        self
    }

    /// An object that it shows: it is invalidated when that changes. No part of the key.
    pub fn object(mut self, id: impl ToString) -> Self {
        let id = id.to_string();
        self.has_empty_object |= id.is_empty();
        self.tag(tag("object", id))
    }

    /// A further tag. No part of the key.
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(name(tag));
        self
    }

    /// A JSON object to keep beside the payload.
    pub fn meta(mut self, json: impl AsRef<[u8]>) -> Self {
        self.meta = Some(name(json));
        self
    }

    /// Who or what is behind it, for the server's record of what is read and stored. No part of the key.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.note = Some(text.into());
        self
    }

    /// For how long it is fresh; else its type says.
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl = Some(bounded(time));
        self
    }

    /// For how long it is stale after that; else its type says.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = Some(bounded(time));
        self
    }

    /// An older one counts as stale.
    pub fn max_age(mut self, time: Duration) -> Self {
        self.max_age = Some(bounded(time));
        self
    }

    /// For how long the lease is asked at a time; else [`Config::lease`](crate::Config::lease).
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = Some(crate::time::lease(time));
        self
    }

    /// How long to wait for others; else [`Config::patience`](crate::Config::patience).
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = Some(bounded(time));
        self
    }

    /// How long its production may take; else [`Config::produce_timeout`](crate::Config::produce_timeout).
    pub fn produce_timeout(mut self, limit: Duration) -> Self {
        self.produce_timeout = Some(bounded(limit));
        self
    }

    /// How long who produced it waits until it is stored; else [`Config::store_wait`](crate::Config::store_wait).
    pub fn store_wait(mut self, limit: Duration) -> Self {
        self.store_wait = Some(bounded(limit));
        self
    }

    /// Whether it is kept near. It is unless said, if its type is: see [`Config::near_type`](crate::Config::near_type).
    pub fn near(mut self, near: bool) -> Self {
        self.far = !near;
        self
    }

    /// Derives the key. Refused is what the server would never store, and what would make two meanings one: see [`expcache_core::key`].
    pub fn build(mut self) -> Result<Request> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => self.derived()?,
        };
        let ids = [("company", &self.company), ("user", &self.user), ("project", &self.project)];
        let ids = ids.into_iter().filter_map(|(kind, id)| Some([kind.as_bytes(), id.as_deref()?].join(&b':').into()));
        let mut tags: Vec<Bytes> = Vec::new();
        for tag in ids.chain(std::mem::take(&mut self.tags)) {
            expcache_core::key::validate_name("tag", &tag)?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        if tags.len() > MAX_TAGS {
            return Err(Error::Request(format!("an entry has at most {MAX_TAGS} tags, not {}", tags.len())));
        }
        self.check()?;
        Ok(Request(Arc::new(RequestPlan {
            key,
            type_name: self.type_name,
            format: self.format,
            tags,
            meta: self.meta,
            note: self.note,
            ttl: self.ttl,
            grace: self.grace,
            max_age: self.max_age,
            lease: self.lease,
            patience: self.patience,
            near: !self.far,
            #[cfg(feature = "http")]
            view: None,
            produce_timeout: self.produce_timeout,
            store_wait: self.store_wait,
        })))
    }

    /// Refuses what could be asked for, and never be stored.
    fn check(&self) -> Result<()> {
        expcache_core::key::validate_name("type", &self.type_name)?;
        let refuse = |what: &str| Err(Error::Request(what.to_owned()));
        if [&self.company, &self.user, &self.project].into_iter().flatten().any(Bytes::is_empty)
            || self.has_empty_object
        {
            return refuse("the id of a company, user, project or object must not be empty");
        }
        if self.format.as_ref().is_some_and(|format| format.is_empty() || format.len() > MAX_NAME_BYTES) {
            return refuse("a format must be 1 to 512 bytes");
        }
        if self.note.as_ref().is_some_and(|note| note.len() > MOST_NOTE_BYTES) {
            return refuse("a note has at most 256 bytes");
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return refuse("a TTL of nothing: what is not to be kept needs no cache");
        }
        Ok(self.meta.as_deref().map_or(Ok(()), expcache_core::key::validate_meta)?)
    }

    fn derived(&self) -> Result<Bytes> {
        let filters = self.filters.as_ref().map(Result::as_ref).transpose().map_err(Error::clone)?;
        let request = KeyRequest {
            type_name: &self.type_name,
            format: self.format.as_deref(),
            filters: filters.map(AsRef::as_ref),
            company: self.company.as_deref(),
            user: self.user.as_deref(),
            project: self.project.as_deref(),
            fields: self.fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect(),
            hashtag: self.hashtag.as_deref(),
        };
        Ok(derive_key(&self.prefix, &request)?.into())
    }
}

/// `company:42` and the like.
pub(crate) fn tag(kind: &str, id: impl ToString) -> String {
    format!("{kind}:{}", id.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn whom_it_concerns_is_in_the_tags() {
        let request =
            Request::builder("p", "trips").company(42).user(7).project("x").object(123).tag("t").build().unwrap();
        let tags: Vec<&[u8]> = request.tags().collect();
        assert_eq!(tags, [b"company:42".as_slice(), b"user:7", b"project:x", b"object:123", b"t"]);
    }

    #[test]
    fn objects_and_tags_are_no_part_of_the_key() {
        let plain = Request::builder("p", "trips").company(42).build().unwrap();
        let tagged = Request::builder("p", "trips").company(42).object(1).tag("t").build().unwrap();
        assert_eq!(plain.key(), tagged.key());
    }

    #[test]
    fn filters_are_any_value_or_a_text() {
        let value = Request::builder("p", "t").filters(&serde_json::json!({"b": [1, 2.0], "a": null})).build().unwrap();
        let text = Request::builder("p", "t").filters_json(r#"{ "a": null, "b": [1.0, 2] }"#).build().unwrap();
        assert_eq!(value.key(), text.key());
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for json in ["{", r#"{"a":1,"a":2}"#, r#"{"a":9007199254740993}"#] {
            assert!(matches!(Request::builder("p", "t").filters_json(json).build(), Err(Error::Request(_))), "{json}");
        }
        assert!(Request::builder("p", "").build().is_err());
        assert!(Request::builder("p", "t").tag("").build().is_err());
    }

    #[test]
    fn numbers_that_json_has_not_are_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let request = Request::builder("p", "t").filters(&serde_json::json!({})).filters(&[Some(number)]).build();
            assert!(matches!(request, Err(Error::Request(_))), "{number} is no null");
        }
        assert!(Request::builder("p", "t").filters(&[None::<f64>]).build().is_ok());
    }

    #[test]
    fn what_would_never_be_stored_is_refused() {
        let new = || Request::builder("p", "t");
        let tags = |count: usize| (0..count).fold(new(), |request, n| request.tag(n.to_string()));
        for refused in [
            new().company(""),
            new().user(""),
            new().project(""),
            new().object(""),
            tags(65),
            tags(64).company(1),
            new().meta("no JSON"),
            new().meta("[1]"),
            new().meta(format!("{{\"a\":\"{}\"}}", "x".repeat(64 << 10))),
            new().ttl(Duration::ZERO),
            new().note("n".repeat(257)),
            new().format(""),
            new().format("f".repeat(513)),
            Request::builder("p", "").key("k"),
            Request::builder("p", "t".repeat(513)).key("k"),
        ] {
            assert!(matches!(refused.clone().build(), Err(Error::Request(_))), "{refused:?}");
        }
        for taken in [tags(64), tags(64).tag("0").tag("1"), new().meta(r#" {"a": 1}"#), new().grace(Duration::ZERO)] {
            assert!(taken.clone().build().is_ok(), "{taken:?}");
        }
    }
}
