//! `EXPCACHE.RENEW`, `RELEASE` and `PART`.

use std::time::Duration;

use expcache_core::grammar::lease::ReleaseOptions;

use super::client::Client;
use crate::error::Result;
use crate::link::{Call, Carries, Repeat};
use crate::reply;
use crate::time::ms;
use crate::words::words_of;

/// How a lease is given up.
#[derive(Debug, Clone, Default)]
pub struct Release {
    failure: Option<String>,
    backoff: Option<Duration>,
}

impl Release {
    /// Without a word: nothing was tried.
    pub fn unused() -> Self {
        Self::default()
    }

    /// Production was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { failure: Some(message.into()), backoff: None }
    }

    /// Nobody is to try for so long.
    #[must_use]
    pub fn backoff(mut self, time: Duration) -> Self {
        self.backoff = Some(time);
        self
    }
}

impl Client {
    /// Extends a lease to last so long from now. `false`: it is not ours any more.
    pub async fn renew(&self, key: impl AsRef<[u8]>, token: &str, time: Duration) -> Result<bool> {
        let mut call = Call::on_key("EXPCACHE.RENEW", key.as_ref());
        call.cmd.arg(token).arg(ms(time));
        reply::yes(self.call(call).await?)
    }

    /// Gives a lease up. `false`: it was not ours any more.
    pub async fn release(&self, key: impl AsRef<[u8]>, token: &str, release: &Release) -> Result<bool> {
        let mut call = Call::on_key("EXPCACHE.RELEASE", key.as_ref());
        call.cmd.arg(token);
        let failure = release.failure.as_deref().map(str::as_bytes);
        let options = ReleaseOptions { failure, backoff_ms: release.backoff.map(ms) };
        options.write(&mut words_of(&mut call.cmd));
        reply::yes(self.call(call).await?)
    }

    /// Appends a piece to what is going to be stored under a lease with [`Set::parts`](crate::Set::parts); returns how many bytes there are
    /// now. It is sent once: after an error an empty piece, which may be sent twice, tells whether it came.
    pub async fn part(&self, key: impl AsRef<[u8]>, token: &str, piece: impl AsRef<[u8]>) -> Result<u64> {
        let piece = piece.as_ref();
        let mut call = Call::on_key("EXPCACHE.PART", key.as_ref());
        call.cmd.arg(token).arg(piece);
        let repeat = if piece.is_empty() { Repeat::Harmless } else { Repeat::Never };
        reply::count(self.call(Call { repeat, carries: Carries::Payload, ..call }).await?)
    }
}
