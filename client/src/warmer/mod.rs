//! Workers that keep the cache warm: they ask the servers which keys are most worth producing ([`Client::warm`](crate::Client::warm)),
//! and produce them, each under the lease that it is offered with, as [`Cache::get_or_produce`] does.
//!
//! ```text
//!  follow   one task: an asker for each primary, as long as there is one
//!  asker    waits for a free slot, asks its primary, and starts a task for each key; if there is none, it waits there without the slot
//!  work     one key: production, renewal, store or release: all of that is `produce_under`
//! ```
//!
//! Slots are asked for before keys are, so no lease is held that nobody works on. Who waits holds none: of keys that become due on
//! several primaries at once some may be too many, and are given back. So are those that no handler makes: readers have to.

mod asker;
mod handlers;
mod phase;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use self::asker::Work;
use self::handlers::{Handlers, as_failure, as_it_was};
use self::phase::Phase;
use crate::Cache;
use crate::command::WarmJob;
use crate::error::{BoxError, Error, Result};
use crate::export::Export;
use crate::request::Request;

/// The server takes no more names of types.
const MOST_TYPES: usize = 1024;

/// Which keys are to be kept warm, and by whom. It begins with [`Warmer::start`].
///
/// ```no_run
/// # async fn trips_of(_company: u64, _month: u8) -> Result<Vec<(String, String)>, std::io::Error> { Ok(Vec::new()) }
/// # async fn example(cache: expcache_client::Cache) -> Result<(), expcache_client::BoxError> {
/// use expcache_client::{BoxError, Export};
/// use std::time::Duration;
///
/// #[derive(serde::Deserialize)]
/// struct Wanted { company: u64, month: u8 }
///
/// let warming = cache
///     .warmer()
///     .handle("trips", |job| async move {
///         let Wanted { company, month } = job.meta()?;
///         Ok::<_, BoxError>(Export::csv(trips_of(company, month).await?)?)
///     })
///     .concurrency(4)
///     .start()?;
/// // … until the program ends.
/// warming.stop(Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is warmed before `start`"]
pub struct Warmer {
    cache: Cache,
    handlers: Handlers,
    concurrency: usize,
    ahead: Option<Duration>,
}

impl Cache {
    /// A worker in the making, which produces what the server thinks is worth it, before anybody waits for it. The types that it is
    /// for need `TYPE SET … WARM n` ([`Policy::warm`](crate::Policy::warm)).
    pub fn warmer(&self) -> Warmer {
        Warmer { cache: self.clone(), handlers: Handlers::default(), concurrency: 1, ahead: None }
    }
}

impl Warmer {
    /// Who produces keys of a type. What he makes is stored as the value before it was: with its format, `META` and tags (but if the
    /// export says any, with those alone), and with the lifetime of its type. Where requests say more, such as a lifetime of their
    /// own, [`Warmer::handle_request`] is what you need.
    ///
    /// He fails as a producer does: an error, a panic, or more time than [`Config::produce_timeout`](crate::Config::produce_timeout).
    /// Then nobody is offered the key for a while ([`Config::backoff`](crate::Config::backoff)). He must not block his thread.
    pub fn handle<P, F, T, E>(mut self, type_name: impl AsRef<[u8]>, produce: P) -> Self
    where
        P: Fn(WarmJob) -> F + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        let produce = Arc::new(produce);
        let handler = move |cache: &Cache, job: &WarmJob| {
            let (produce, job, request) = (Arc::clone(&produce), job.clone(), as_it_was(job));
            let producer = cache.producer(&request.0.key, move || async move {
                let tags = job.tags.clone();
                let mut export: Export = produce(job).await.map_err(as_failure)?.into();
                if export.tags.is_empty() {
                    export.tags = tags;
                }
                Ok::<_, BoxError>(export)
            });
            Ok((request, producer))
        };
        self.handlers.add_plain(type_name.as_ref(), Arc::new(handler));
        self
    }

    /// Who makes of a key the request that it was asked for by, and its producer, as they are given to
    /// [`Cache::get_or_produce`]. The request has to have that key; of several handlers of a type, the first whose request has it
    /// is taken, and one by [`Warmer::handle`] if there is no such. Keys that no handler makes are left to those who ask for them.
    pub fn handle_request<M, P, F, T, E>(mut self, type_name: impl AsRef<[u8]>, make: M) -> Self
    where
        M: Fn(&Cache, &WarmJob) -> Result<(Request, P)> + Send + Sync + 'static,
        P: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        let handler = move |cache: &Cache, job: &WarmJob| {
            let (request, produce) = make(cache, job)?;
            if request.0.key != job.key {
                return Err(Error::Request("the request that was made of it has another key".to_owned()));
            }
            let producer = cache.producer(&request.0.key, move || async move { produce().await.map_err(as_failure) });
            Ok((request, producer))
        };
        self.handlers.add_request(type_name.as_ref(), Arc::new(handler));
        self
    }

    /// So many keys are produced at a time. One unless said.
    pub fn concurrency(mut self, count: usize) -> Self {
        self.concurrency = count.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// Also what is fresh for no longer than that; else its type's early refresh says.
    pub fn ahead(mut self, time: Duration) -> Self {
        self.ahead = Some(crate::time::bounded(time));
        self
    }

    /// Begins, in tasks of the runtime that this is called in, and goes on until [`Warming::stop`], the cache's shutdown, or until what
    /// it returns is dropped. Servers that are away are asked again.
    pub fn start(self) -> Result<Warming> {
        Handle::try_current().map_err(|error| Error::Request(error.to_string()))?;
        if !(1..=MOST_TYPES).contains(&self.handlers.types().count()) {
            return Err(Error::Request(format!("a warmer has handlers for 1 to {MOST_TYPES} types")));
        }
        let (phase, watched) = watch::channel(Phase::Running);
        let work = Work::new(&self.cache, self.handlers, self.concurrency, self.ahead);
        self.cache.0.askers.spawn(Arc::new(work).follow(watched));
        Ok(Warming { cache: self.cache, phase })
    }
}

/// A worker at work. Dropped, it gives up what it produces, and the leases go back.
#[must_use = "dropped, it ends"]
pub struct Warming {
    cache: Cache,
    /// Every task of it listens.
    phase: watch::Sender<Phase>,
}

impl Warming {
    /// Begins nothing more, waits for what is being produced, so long at most, gives up the rest and gives its leases back, so that
    /// others are offered these keys at once. Has all ended by itself?
    pub async fn stop(self, limit: Duration) -> bool {
        self.phase.send_replace(Phase::Stopping);
        let ended = tokio::time::timeout(limit, self.phase.closed()).await.is_ok();
        self.phase.send_replace(Phase::Ended);
        self.phase.closed().await;
        let given_back = tokio::time::timeout(self.cache.config().timeout, self.cache.0.keeper.finish()).await;
        ended && given_back.is_ok()
    }
}
