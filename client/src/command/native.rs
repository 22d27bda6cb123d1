//! Commands of the server's own, for keys that are no entries, and for entries as keys.

use std::time::Duration;

use bytes::Bytes;

use super::client::Client;
use crate::error::{Error, Result};
use crate::link::{Call, Repeat};
use crate::reply;
use crate::time::{bounded, ms};

/// What came of giving a key another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renamed {
    /// It has the new name.
    Yes,
    /// There is another key of that name.
    Taken,
    /// There is no key of the old name.
    Missing,
}

impl Client {
    /// Deletes a key of whatever kind. Was there one?
    pub(crate) async fn delete_native(&self, key: &[u8]) -> Result<bool> {
        reply::yes(self.call(Call::on_key("DEL", key)).await?)
    }

    /// The bytes of a string.
    pub(crate) async fn get_native(&self, key: &[u8]) -> Result<Option<Bytes>> {
        reply::optional(self.call(Call::on_key("GET", key)).await?, reply::bytes)
    }

    /// Stores a string for so long, unless there is a key of that name. Was it stored?
    pub(crate) async fn set_native(&self, key: &[u8], value: &str, time: Duration) -> Result<bool> {
        let mut call = Call { repeat: Repeat::Never, ..Call::on_key("SET", key) };
        call.cmd.arg(value).arg("PX").arg(positive(time)).arg("NX");
        reply::stored(self.call(call).await?)
    }

    /// Lets a key expire in so long. Is there one?
    pub(crate) async fn expire_native(&self, key: &[u8], time: Duration) -> Result<bool> {
        let mut call = Call::on_key("PEXPIRE", key);
        call.cmd.arg(positive(time));
        reply::yes(self.call(call).await?)
    }

    /// Gives a key another name, in the same slot. Sent a second time after a lost reply, it finds the old name [`Renamed::Missing`].
    pub(crate) async fn rename_native(&self, key: &[u8], name: &[u8]) -> Result<Renamed> {
        let mut call = Call::on_key("RENAMENX", key);
        call.cmd.arg(name);
        match self.call(call).await.and_then(reply::yes) {
            Ok(true) => Ok(Renamed::Yes),
            Ok(false) => Ok(Renamed::Taken),
            Err(Error::Refused(error)) if error.detail() == Some("no such key") => Ok(Renamed::Missing),
            Err(error) => Err(error),
        }
    }
}

/// In whole milliseconds; none would be an end, or an error.
fn positive(time: Duration) -> u64 {
    ms(bounded(time)).max(1)
}
