//! For programs without an async runtime: a [`Cache`](crate::Cache) that brings its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::error::{BoxError, Error, Result};
use crate::{Client, Config, Event, Export, Fired, Purge, Purged, Request, RequestBuilder, Selector, Served};

/// As [`crate::Cache`], but its methods return when they are done. Not to be used within an async runtime.
///
/// ```no_run
/// use expcache_client::{Config, Export, blocking::Cache};
///
/// let cache = Cache::open(Config::single("redis://127.0.0.1/")?)?;
/// let request = cache.request("trips").company(42).build()?;
/// let served = cache.get_or_produce(&request, || Export::json(&["A to B"]))?;
/// # Ok::<(), expcache_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Cache {
    cache: crate::Cache,
    runtime: Arc<Hosted>,
}

/// A runtime that does not wait for its tasks when it goes.
struct Hosted(Option<Runtime>);

impl Drop for Hosted {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(Duration::ZERO);
        }
    }
}

impl Cache {
    /// A cache that connects when it is first used.
    pub fn open(config: Config) -> Result<Self> {
        let refused = |error: std::io::Error| Error::Request(error.to_string());
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(refused)?;
        let cache = {
            let _within = runtime.enter();
            crate::Cache::open(config)?
        };
        Ok(Self { cache, runtime: Arc::new(Hosted(Some(runtime))) })
    }

    /// The cache itself, for what has no method here: see [`Cache::run`].
    pub fn cache(&self) -> &crate::Cache {
        &self.cache
    }

    /// The commands: see [`Cache::run`].
    pub fn client(&self) -> &Client {
        self.cache.client()
    }

    /// Runs anything async on the cache's runtime: `cache.run(cache.client().stats())`.
    pub fn run<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.runtime.0 {
            Some(runtime) => runtime.block_on(future),
            None => Err(Error::Request("the runtime is gone".to_owned())),
        }
    }

    /// A request in the making, with this cache's prefix.
    pub fn request(&self, type_name: impl AsRef<[u8]>) -> RequestBuilder {
        self.cache.request(type_name)
    }

    /// As [`crate::Cache::get_or_produce`]; `produce` runs on a thread for blocking work.
    pub fn get_or_produce<P, T, E>(&self, request: &Request, produce: P) -> Result<Served>
    where
        P: FnOnce() -> Result<T, E> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        self.run(self.cache.get_or_produce_blocking(request, produce))
    }

    /// What is in the cache, if anything is.
    pub fn get(&self, request: &Request) -> Result<Option<Served>> {
        self.run(self.cache.get(request))
    }

    /// Stores an export.
    pub fn put(&self, request: &Request, export: impl Into<Export>) -> Result<()> {
        self.run(self.cache.put(request, export))
    }

    /// Removes what a request would find.
    pub fn remove(&self, request: &Request) -> Result<bool> {
        self.run(self.cache.remove(request))
    }

    /// As [`crate::Cache::shutdown`].
    pub fn shutdown(&self, limit: Duration) -> bool {
        self.run(async { Ok(self.cache.shutdown(limit).await) }).unwrap_or(false)
    }

    /// All that belongs to a company is gone; returns how many entries there were.
    pub fn invalidate_company(&self, id: impl ToString) -> Result<u64> {
        self.run(self.cache.invalidate_company(id))
    }

    /// All that belongs to a user is gone.
    pub fn invalidate_user(&self, id: impl ToString) -> Result<u64> {
        self.run(self.cache.invalidate_user(id))
    }

    /// All that belongs to a project is gone.
    pub fn invalidate_project(&self, id: impl ToString) -> Result<u64> {
        self.run(self.cache.invalidate_project(id))
    }

    /// All that shows an object is gone.
    pub fn invalidate_object(&self, id: impl ToString) -> Result<u64> {
        self.run(self.cache.invalidate_object(id))
    }

    /// All with any of the tags is gone; returns how many entries there were.
    pub fn invalidate_tags<T: AsRef<[u8]>>(&self, tags: impl IntoIterator<Item = T>) -> Result<u64> {
        self.run(self.cache.invalidate_tags(tags))
    }

    /// All of a type is gone; returns how many entries there were.
    pub fn invalidate_type(&self, type_name: impl AsRef<[u8]>) -> Result<u64> {
        self.run(self.cache.invalidate_type(type_name))
    }

    /// Invalidates what a selector means.
    pub fn purge(&self, selector: &Selector, purge: Purge) -> Result<Purged> {
        self.run(self.cache.purge(selector, purge))
    }

    /// As [`crate::Cache::event`].
    pub fn event(&self, event: &Event) -> Result<Fired> {
        self.run(self.cache.event(event))
    }

    /// Every entry of the database is gone; no other key.
    pub fn clear(&self) -> Result<u64> {
        self.run(self.cache.clear())
    }
}
