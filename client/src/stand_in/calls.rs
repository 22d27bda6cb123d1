//! Commands as the link sends them, those that wait among them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use expcache_core::Error;
use expcache_core::grammar::warm::WarmOptions;
use redis::{Arg, Cmd, Value};
use tokio::sync::oneshot;

use super::fetch::{Fetch, Turn};
use super::store::Store;
use super::words::words;

/// How often is looked whether a key became worth producing.
const LOOK: Duration = Duration::from_millis(10);

impl Store {
    /// The reply to a command.
    pub(crate) async fn call(&self, cmd: &Cmd) -> crate::Result<Value> {
        self.answer(&words_of(cmd)).await.map_err(|error| refusal(&error))
    }

    /// The reply to a command that does not wait.
    pub(crate) fn call_at_once(&self, cmd: &Cmd) -> crate::Result<Value> {
        self.with(|state| state.run(&words_of(cmd))).map_err(|error| refusal(&error))
    }

    async fn answer(&self, all: &[Bytes]) -> Result<Value, Error> {
        let rest = match all.split_first().map(|(name, rest)| (name.as_ref(), rest)) {
            Some((b"EXPCACHE.FETCH", rest)) => rest,
            Some((b"EXPCACHE.WARM", rest)) => return self.warm(rest).await,
            _ => return self.with(|state| state.run(all)),
        };
        let fetch = Fetch::parse(words(rest))?;
        let turn = self.with(|state| state.fetch(&fetch, true))?;
        let (number, woken) = match turn {
            Turn::Over(reply) => return Ok(reply),
            Turn::Waits(number, woken) => (number, woken),
        };
        let leaving = Leaving { store: self, number };
        self.wait(woken, fetch.wait()).await;
        drop(leaving);
        match self.with(|state| state.fetch(&fetch, false))? {
            Turn::Over(reply) => Ok(reply),
            Turn::Waits(..) => Ok(Value::Nil),
        }
    }

    /// Waits for a key that is worth producing by looking again and again.
    async fn warm(&self, words_of_it: &[Bytes]) -> Result<Value, Error> {
        let options = WarmOptions::parse(words(words_of_it))?;
        let wait = Duration::from_millis(options.wait_ms.filter(|_| options.dry_run.is_none()).unwrap_or(0));
        let end = tokio::time::Instant::now() + wait;
        loop {
            let offered = self.with(|state| state.warm(&options));
            if !offered.is_empty() || tokio::time::Instant::now() >= end {
                return Ok(Value::Array(offered));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Until something is told, or the time is up. Meanwhile who waits sees to it that leases end.
    async fn wait(&self, mut woken: oneshot::Receiver<()>, limit: Duration) {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let next = self.with(|state| state.until_deadline());
            let next = next.map_or(end, |next| end.min(tokio::time::Instant::now() + next));
            match tokio::time::timeout_at(next, &mut woken).await {
                Err(_) if next < end => {}
                _ => return,
            }
        }
    }

    /// What the program says of its types.
    pub(crate) fn set_policies(self: &Arc<Self>, policies: &[(Bytes, crate::Policy)]) -> crate::Result<()> {
        policies.iter().try_for_each(|(name, policy)| self.call_at_once(&crate::policy::set(name, policy)).map(drop))
    }
}

/// Who waits is forgotten however that ends.
struct Leaving<'a> {
    store: &'a Store,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.store.with(|state| state.leave(self.number));
    }
}

fn words_of(cmd: &Cmd) -> Vec<Bytes> {
    let word = |arg| if let Arg::Simple(word) = arg { Some(Bytes::copy_from_slice(word)) } else { None };
    cmd.args_iter().filter_map(word).collect()
}

/// The error as it would come over the wire.
fn refusal(error: &Error) -> crate::Error {
    let line = format!("-{}\r\n", error.reply());
    match redis::parse_redis_value(line.as_bytes()).and_then(Value::extract_error) {
        Err(error) => error.into(),
        Ok(_) => crate::Error::reply(&line),
    }
}
