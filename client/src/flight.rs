//! Who in this process is already after a key: the others join him instead of asking, waiting or producing themselves.
//!
//! A flight is a task of its own: it goes on when its callers lose interest, since others, here and elsewhere, wait for what it
//! brings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::lock::locked;
use crate::served::Served;
use crate::time::bounded;

/// How long what is given up may take to end. It does at once, unless it keeps its thread.
const GIVING_UP: Duration = Duration::from_secs(1);

/// What a flight brings.
#[derive(Clone)]
pub(crate) struct Landed {
    pub(crate) result: Result<Served>,
    pub(crate) valid_for: ValidFor,
}

/// For whom of those who joined it is good.
///
/// A caller must not be given what was invalidated before he asked, and he may have joined when that had happened already: the
/// value was stored, then invalidated, then he asked and joined, and only then the flight heard that it was stored. What is
/// certain is that a value was good after the command was sent that stored it, or fetched it; so it is for those who had asked
/// by then. The others ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValidFor {
    /// None: it was invalidated while it was produced.
    Nobody,
    /// Those who had asked by then.
    AskedBy(Instant),
    /// All: an error is never too old.
    Everybody,
}

impl ValidFor {
    pub(crate) fn covers(self, asked: Instant) -> bool {
        match self {
            Self::Nobody => false,
            Self::AskedBy(moment) => asked <= moment,
            Self::Everybody => true,
        }
    }
}

pub(crate) type Flight = Shared<BoxFuture<'static, Landed>>;

#[derive(Clone, Default)]
pub(crate) struct Flights {
    under_way: Arc<Mutex<HashMap<Bytes, Flight>>>,
    tasks: Tasks,
}

/// Somebody's flight, or one's own.
pub(crate) enum Boarded {
    Joined(Flight),
    Leads(Flight),
}

impl Flights {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self { tasks: tasks.clone(), ..Self::default() }
    }

    /// Joins the flight for the key, if there is one; else starts `lead`.
    pub(crate) fn board<F>(&self, key: &Bytes, lead: impl FnOnce() -> F) -> Boarded
    where
        F: Future<Output = Landed> + Send + 'static,
    {
        let mut flights = locked(&self.under_way);
        if let Some(flight) = flights.get(key) {
            return Boarded::Joined(flight.clone());
        }
        let ending = Ending { flights: self.clone(), key: key.clone() };
        let leading = lead();
        let (land, landing) = tokio::sync::oneshot::channel();
        let flight = async move { landing.await.unwrap_or_else(|_| Landed::given_up()) }.boxed().shared();
        flights.insert(key.clone(), flight.clone());
        // A runtime that is going drops the task at once, and `ending` with it: that must not find the list locked.
        drop(flights);
        self.tasks.spawn(async move {
            let landed = leading.await;
            // Who is woken by it must not find it on the list any more.
            drop(ending);
            let _ = land.send(landed);
        });
        Boarded::Leads(flight)
    }
}

impl Landed {
    pub(crate) fn failed(error: Error) -> Self {
        Self { result: Err(error), valid_for: ValidFor::Nobody }
    }

    fn given_up() -> Self {
        Self::failed(Error::of_producer("the task was given up"))
    }
}

/// What goes on behind the callers.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = locked(&self.0);
        while running.try_join_next().is_some() {}
        running.spawn(task);
    }

    /// Starts a task whose result many may wait for.
    pub(crate) fn start(&self, task: impl Future<Output = Landed> + Send + 'static) -> Flight {
        let (land, landing) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            let _ = land.send(task.await);
        });
        async move { landing.await.unwrap_or_else(|_| Landed::given_up()) }.boxed().shared()
    }

    /// Waits for what there is, and for what that starts, so long at most, and gives up the rest. Has all ended by itself?
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        let end = tokio::time::Instant::now() + bounded(limit);
        let mut have_all_ended = true;
        while tokio::time::Instant::now() < end + GIVING_UP {
            let mut running = std::mem::take(&mut *locked(&self.0));
            if running.is_empty() {
                return have_all_ended;
            }
            if tokio::time::timeout_at(end, all_ended(&mut running)).await.is_err() {
                have_all_ended = false;
                running.abort_all();
                let _ = tokio::time::timeout_at(end + GIVING_UP, all_ended(&mut running)).await;
            }
        }
        false
    }
}

async fn all_ended(running: &mut JoinSet<()>) {
    while running.join_next().await.is_some() {}
}

/// Takes the flight off the list however it ends.
struct Ending {
    flights: Flights,
    key: Bytes,
}

impl Drop for Ending {
    fn drop(&mut self) {
        locked(&self.flights.under_way).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_does_not_wait_for_ever_for_who_keeps_his_thread() {
        let (tasks, (go, gone)) = (Tasks::default(), std::sync::mpsc::channel::<()>());
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        tasks.spawn(async move {
            let _ = begun.send(());
            let _ = gone.recv();
        });
        assert!(has_begun.await.is_ok());
        assert!(!tasks.finish(Duration::ZERO).await);
        drop(go);
        assert!(tasks.finish(Duration::MAX).await);
    }
}
