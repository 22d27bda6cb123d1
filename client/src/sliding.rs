//! Which types are sliding: a hit prolongs the life of their entries, so one that the server does not hear of must not be.
//!
//! Nothing of such types is kept near. The server is asked about a type when something of it could be kept, behind the callers;
//! until the answer is there, and if there is none, nothing is.

use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;

use crate::command::Client;

/// How many types are remembered.
const TYPES: u64 = 10_000;
/// For how long: a policy may change.
const KNOWN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Sliding(Cache<Bytes, bool>);

impl Sliding {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(TYPES).time_to_live(KNOWN).build())
    }

    /// Whether the type may be sliding, for all that is known.
    pub(crate) fn may_be(&self, type_name: &Bytes, client: &Client) -> bool {
        self.0.get(type_name).unwrap_or_else(|| {
            self.look(type_name, client);
            true
        })
    }

    fn look(&self, type_name: &Bytes, client: &Client) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // Whoever comes next does not ask, too.
        self.0.insert(type_name.clone(), true);
        let (known, type_name, client) = (self.0.clone(), type_name.clone(), client.clone());
        runtime.spawn(async move {
            if let Ok(policy) = client.get_type(&type_name).await {
                known.insert(type_name, policy.and_then(|policy| policy.sliding).unwrap_or(false));
            }
        });
    }
}
