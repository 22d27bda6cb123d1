//! Whose a key is.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::Cache;
use crate::command::WarmJob;
use crate::error::{BoxError, Error, Result, Unshared};
use crate::produce::Producer;
use crate::request::Request;
use crate::words::name;

/// Makes of a key what is stored, and how.
pub(super) type Handler = Arc<dyn Fn(&Cache, &WarmJob) -> Result<(Request, Producer)> + Send + Sync>;

#[derive(Clone, Default)]
struct OfType {
    requests: Vec<Handler>,
    plain: Option<Handler>,
}

/// The handlers, by type.
#[derive(Clone, Default)]
pub(super) struct Handlers(HashMap<Bytes, OfType>);

impl Handlers {
    pub(super) fn types(&self) -> impl Iterator<Item = &Bytes> {
        self.0.keys()
    }

    /// For keys that are stored as they were.
    pub(super) fn add_plain(&mut self, type_name: &[u8], handler: Handler) {
        self.of(type_name).plain = Some(handler);
    }

    /// For those whose request it makes.
    pub(super) fn add_request(&mut self, type_name: &[u8], handler: Handler) {
        self.of(type_name).requests.push(handler);
    }

    fn of(&mut self, type_name: &[u8]) -> &mut OfType {
        self.0.entry(name(type_name)).or_default()
    }

    /// What is to be done for a key; an error if nobody here makes it.
    pub(super) fn plan(&self, cache: &Cache, job: &WarmJob) -> Result<(Request, Producer)> {
        let mut why = Error::Request("it has no handler".to_owned());
        let of_type = self.0.get(&job.type_name);
        for handler in of_type.into_iter().flat_map(|of| of.requests.iter().chain(&of.plain)) {
            match handler(cache, job) {
                Ok(planned) => return Ok(planned),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

/// What a key is stored as if its handler says nothing else. Its tags are the export's.
pub(super) fn as_it_was(job: &WarmJob) -> Request {
    Request::of_entry(job.key.clone(), job.type_name.clone(), job.format.clone(), job.meta.clone())
}

/// Here there is no caller whom alone an error might concern: the key would be offered again at once.
pub(super) fn as_failure(error: impl Into<BoxError>) -> BoxError {
    let error = error.into();
    if error.is::<Unshared>() { error.to_string().into() } else { error }
}
