//! Whether a cache can do its work: for the start of a program, and for whoever asks it whether it is ready.

use bytes::Bytes;
use serde::Serialize;

use crate::Cache;
use crate::command::Health;
use crate::error::{Error, Result};

/// What [`Cache::check`] found.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// What each primary says of itself; empty if this user may not ask.
    pub health: Vec<Health>,
    /// What of [`Config::policy`](crate::Config::policy) the servers have otherwise, each as a text.
    pub policies: Vec<String>,
    /// Whether the server tells of changes at present, so that payloads are kept near.
    pub near: bool,
}

impl Checked {
    /// Nothing is to be mended.
    pub fn is_ok(&self) -> bool {
        self.policies.is_empty() && self.health.iter().all(|health| health.ok)
    }
}

impl Cache {
    /// Whether it can do its work. The servers are asked however often they have failed before. An error says why it cannot: no server
    /// ([`Error::Unavailable`]), one without the module ([`Error::NoModule`]), a wrong password ([`Error::Refused`]).
    ///
    /// Without it everything works all the same: a cache that cannot help is not noticed but by its warnings.
    pub async fn check(&self) -> Result<Checked> {
        let health = match self.client().health().await {
            Err(Error::Refused(error)) if error.code() == Some("NOPERM") => Vec::new(),
            health => health?,
        };
        let mut policies = Vec::new();
        for (type_name, policy) in self.config().policies.iter() {
            policies.extend(self.differing(type_name, policy).await?);
        }
        Ok(Checked { health, policies, near: self.is_near() })
    }

    async fn differing(&self, type_name: &Bytes, policy: &crate::Policy) -> Result<Option<String>> {
        let shown = type_name.escape_ascii();
        let found = match self.client().get_type(type_name).await {
            Err(Error::Refused(error)) => return Ok(Some(format!("{shown}: {error}"))),
            found => found?.unwrap_or_default(),
        };
        let differing = policy.differing(&found);
        Ok((!differing.is_empty()).then(|| format!("{shown}: {}", differing.join(", "))))
    }
}
