//! `EXPCACHE.TYPE`: policies.

use bytes::Bytes;

use super::client::Client;
use crate::error::Result;
use crate::link::{Call, Route};
use crate::policy::{self, Policy};

impl Client {
    /// Defines a type, or changes fields of its policy, on every primary.
    pub async fn set_type(&self, type_name: impl AsRef<[u8]>, policy: &Policy) -> Result<()> {
        let cmd = policy::set(type_name.as_ref(), policy);
        self.everywhere(Call { cmd, ..Call::new("EXPCACHE.TYPE SET", Route::Primaries) }).await.map(drop)
    }

    /// A type's policy, as one of the primaries has it.
    pub async fn get_type(&self, type_name: impl AsRef<[u8]>) -> Result<Option<Policy>> {
        let cmd = policy::get(type_name.as_ref());
        Policy::of_reply(self.call(Call { cmd, ..Call::new("EXPCACHE.TYPE GET", Route::Any) }).await?)
    }

    /// The names of all types that any primary knows, in order.
    pub async fn list_types(&self) -> Result<Vec<Bytes>> {
        self.names_of("EXPCACHE.TYPE LIST").await
    }

    /// Takes a type's policy away, on every primary. `false`: none of them had it.
    pub async fn delete_type(&self, type_name: impl AsRef<[u8]>) -> Result<bool> {
        let mut call = Call::new("EXPCACHE.TYPE DEL", Route::Primaries);
        call.cmd.arg(type_name.as_ref());
        Ok(self.sum(call).await? > 0)
    }
}
