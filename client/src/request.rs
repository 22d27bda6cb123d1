//! What is asked for: the parameters that make the key, whom the result concerns, and how long it is good for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use expcache_core::key::{KeyRequest, derive_key};
use serde::Serialize;

use crate::command::name;
use crate::error::{Error, Result};
use crate::time::bounded;

/// A request, with its key. Cheap to clone; made once, it can be asked again and again.
#[derive(Debug, Clone)]
pub struct Request(pub(crate) Arc<Plan>);

/// Everything that a request says.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) key: Bytes,
    pub(crate) type_name: Bytes,
    pub(crate) format: Option<Bytes>,
    pub(crate) tags: Vec<Bytes>,
    pub(crate) meta: Option<Bytes>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) lease: Option<Duration>,
    pub(crate) patience: Option<Duration>,
    /// What of the entry is to come, if not all of it.
    #[cfg(feature = "http")]
    pub(crate) view: Option<crate::http::View>,
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
    meta: Option<Bytes>,
    ttl: Option<Duration>,
    grace: Option<Duration>,
    max_age: Option<Duration>,
    lease: Option<Duration>,
    patience: Option<Duration>,
    produce_timeout: Option<Duration>,
    store_wait: Option<Duration>,
}

impl RequestBuilder {
    /// The format of the payload, such as `csv`.
    pub fn format(mut self, format: impl AsRef<[u8]>) -> Self {
        self.format = Some(name(format));
        self
    }

    /// Anything that serializes to JSON.
    pub fn filters(mut self, filters: &(impl Serialize + ?Sized)) -> Self {
        self.filters =
            Some(serde_json::to_vec(filters).map(Bytes::from).map_err(|error| Error::Request(error.to_string())));
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
    pub fn object(self, id: impl ToString) -> Self {
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

    /// Derives the key. Refused is what would make two meanings one: see [`expcache_core::key`].
    pub fn build(self) -> Result<Request> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => self.derived()?,
        };
        let ids = [("company", &self.company), ("user", &self.user), ("project", &self.project)];
        let ids = ids.into_iter().filter_map(|(kind, id)| Some([kind.as_bytes(), id.as_deref()?].join(&b':').into()));
        let tags: Vec<Bytes> = ids.chain(self.tags).collect();
        for tag in &tags {
            expcache_core::key::validate_name("tag", tag)?;
        }
        Ok(Request(Arc::new(Plan {
            key,
            type_name: self.type_name,
            format: self.format,
            tags,
            meta: self.meta,
            ttl: self.ttl,
            grace: self.grace,
            max_age: self.max_age,
            lease: self.lease,
            patience: self.patience,
            #[cfg(feature = "http")]
            view: None,
            produce_timeout: self.produce_timeout,
            store_wait: self.store_wait,
        })))
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
}
