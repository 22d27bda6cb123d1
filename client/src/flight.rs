//! Who in this process is already after a key: the others join him instead of asking, waiting or producing themselves.
//!
//! A flight is a task of its own: it goes on when its callers lose interest, since others, here and elsewhere, wait for what it
//! brings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use crate::error::{Error, Result};
use crate::locked;
use crate::served::Served;

/// What a flight brings.
#[derive(Clone)]
pub(crate) struct Landed {
    pub(crate) result: Result<Served>,
    pub(crate) good_for: GoodFor,
}

/// For whom of those who joined it is good.
///
/// A caller must not be given what was invalidated before he asked, and he may have joined when that had happened already: the
/// value was stored, then invalidated, then he asked and joined, and only then the flight heard that it was stored. What is
/// certain is that a value was good after the command was sent that stored it, or fetched it; so it is for those who had asked
/// by then. The others ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GoodFor {
    /// None: it was invalidated while it was produced.
    Nobody,
    /// Those who had asked by then.
    AskedBy(Instant),
    /// All: an error is never too old.
    Everybody,
}

impl GoodFor {
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
pub(crate) struct Flights(Arc<Mutex<HashMap<Bytes, Flight>>>);

/// Somebody's flight, or one's own.
pub(crate) enum Boarded {
    Joined(Flight),
    Leads(Flight),
}

impl Flights {
    /// Joins the flight for the key, if there is one; else starts `lead`.
    pub(crate) fn board<F>(&self, key: &Bytes, lead: impl FnOnce() -> F) -> Boarded
    where
        F: Future<Output = Landed> + Send + 'static,
    {
        let mut flights = locked(&self.0);
        if let Some(flight) = flights.get(key) {
            return Boarded::Joined(flight.clone());
        }
        let ending = Ending { flights: self.clone(), key: key.clone() };
        let leading = lead();
        let flight = start(async move {
            let _ending = ending;
            leading.await
        });
        flights.insert(key.clone(), flight.clone());
        Boarded::Leads(flight)
    }
}

/// Starts a task whose result many may wait for.
pub(crate) fn start(task: impl Future<Output = Landed> + Send + 'static) -> Flight {
    let task = tokio::spawn(task);
    let landed = async move {
        task.await.unwrap_or_else(|error| Landed { result: Err(Error::producer(error)), good_for: GoodFor::Nobody })
    };
    landed.boxed().shared()
}

/// Takes the flight off the list however it ends.
struct Ending {
    flights: Flights,
    key: Bytes,
}

impl Drop for Ending {
    fn drop(&mut self) {
        locked(&self.flights.0).remove(&self.key);
    }
}
