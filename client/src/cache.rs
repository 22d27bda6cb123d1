//! The cache as an application sees it: ask, and it is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use expcache_core::codec::Encoding;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff::Failures;
use crate::command::{Client, Event, Fetched, Fired, Purge, Purged, Selector, Set};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::export::Export;
use crate::flight::{Flights, Tasks};
use crate::how::{How, Stored};
use crate::lease::Keeper;
use crate::memory::{KeptEntry, Memory, Ticket};
use crate::request::{Request, RequestBuilder, RequestPlan, tag};
use crate::served::{CachedEntry, Served};
use crate::sliding::Sliding;
use crate::time::ROUND;
use crate::{compression, tracking};

/// A cache of exports. Cheap to clone; clones share everything.
///
/// See the [crate's page](crate) for how it is used, and [`Cache::get_or_produce`] for what it does.
#[derive(Clone)]
pub struct Cache(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) near: Arc<Memory>,
    pub(crate) fallback: Memory,
    /// Is something kept that was made because the cache could not be read?
    unread: AtomicBool,
    /// Was the server away when such was kept?
    outage: AtomicBool,
    pub(crate) flights: Flights,
    /// Of those who waited too long for one of the former.
    pub(crate) impatient: Flights,
    pub(crate) failures: Failures,
    /// What is produced, refreshed and stored.
    pub(crate) tasks: Tasks,
    /// Who asks for keys to be warmed: not given up like those, as a reply that is under way brings leases.
    pub(crate) askers: Tasks,
    pub(crate) keeper: Arc<Keeper>,
    /// The program is about to end: nothing is begun that nobody asks for.
    pub(crate) closing: watch::Sender<bool>,
    sliding: Sliding,
    tracking: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(tracking) = &self.tracking {
            tracking.abort();
        }
    }
}

impl Cache {
    /// A cache that connects when it is first used. Fails on what can never work, not because the server is away.
    ///
    /// It must be called within a tokio runtime, which its tasks live in.
    pub fn open(config: Config) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| Error::Request(error.to_string()))?;
        let client = Client::open(config.clone())?;
        let near = Arc::new(Memory::new(config.near_bytes, false));
        let tracking = (config.near_bytes > 0).then(|| runtime.spawn(tracking::run(Arc::clone(&near), client.clone())));
        let tasks = Tasks::default();
        Ok(Self(Arc::new(Shared {
            client,
            near,
            fallback: Memory::new(config.fallback_bytes, true),
            unread: AtomicBool::new(false),
            outage: AtomicBool::new(false),
            flights: Flights::new(&tasks),
            impatient: Flights::new(&tasks),
            failures: Failures::new(config.backoff),
            tasks,
            askers: Tasks::default(),
            keeper: Arc::new(Keeper::new(config)),
            closing: watch::Sender::new(false),
            sliding: Sliding::new(),
            tracking,
        })))
    }

    /// The commands. What is changed through it reaches the near cache by the server's messages only; use the methods here to
    /// have it gone at once.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// A request in the making, with this cache's prefix.
    pub fn request(&self, type_name: impl AsRef<[u8]>) -> RequestBuilder {
        Request::builder(&self.config().prefix, type_name)
    }

    /// Whether the server tells of changes at present, so that payloads are kept near.
    pub fn is_near(&self) -> bool {
        self.0.near.is_open()
    }

    /// What is in the cache, if anything is. Nothing is produced; a server that is away is an error.
    pub async fn get(&self, request: &Request) -> Result<Option<Served>> {
        let plan = &request.0;
        if let Some(served) = self.near(plan) {
            return Ok(Some(served));
        }
        let ticket = self.0.near.ticket(&plan.key);
        let fetched = self.0.client.fetch(&plan.fetch(self.config())).await?;
        self.serve(plan, fetched, ticket).await
    }

    /// Stores an export, whether or not anybody is producing it.
    pub async fn put(&self, request: &Request, export: impl Into<Export>) -> Result<()> {
        let plan = &request.0;
        let stored = self.set(plan, &export.into(), None).await;
        self.0.near.forget(&plan.key);
        self.0.fallback.forget(&plan.key);
        stored.map(drop)
    }

    /// Removes what a request would find, and keeps out what is being produced for it.
    pub async fn remove(&self, request: &Request) -> Result<bool> {
        let removed = self.0.client.del(&[request.key()]).await;
        self.0.near.forget(&request.0.key);
        self.0.fallback.forget(&request.0.key);
        Ok(removed? > 0)
    }

    /// All that belongs to a company is gone; returns how many entries there were.
    pub async fn invalidate_company(&self, id: impl ToString) -> Result<u64> {
        self.invalidate_tags([tag("company", id)]).await
    }

    /// All that belongs to a user is gone.
    pub async fn invalidate_user(&self, id: impl ToString) -> Result<u64> {
        self.invalidate_tags([tag("user", id)]).await
    }

    /// All that belongs to a project is gone.
    pub async fn invalidate_project(&self, id: impl ToString) -> Result<u64> {
        self.invalidate_tags([tag("project", id)]).await
    }

    /// All that shows an object is gone.
    pub async fn invalidate_object(&self, id: impl ToString) -> Result<u64> {
        self.invalidate_tags([tag("object", id)]).await
    }

    /// All with any of the tags is gone. What this process keeps is gone even if the server cannot be told, which is an error:
    /// whoever changed the data has to see to it that this is tried again.
    pub async fn invalidate_tags<T: AsRef<[u8]>>(&self, tags: impl IntoIterator<Item = T>) -> Result<u64> {
        self.forgetting(self.0.client.invalidate_tags(tags)).await
    }

    /// All of a type is gone; returns how many entries there were.
    pub async fn invalidate_type(&self, type_name: impl AsRef<[u8]>) -> Result<u64> {
        Ok(self.purge(&Selector::new().type_name(type_name), Purge::hard()).await?.count)
    }

    /// Invalidates what a selector means.
    pub async fn purge(&self, selector: &Selector, purge: Purge) -> Result<Purged> {
        self.forgetting(self.0.client.purge(selector, purge)).await
    }

    /// Every entry of the database is gone; no other key.
    pub async fn clear(&self) -> Result<u64> {
        self.forgetting(self.0.client.clear()).await
    }

    /// Tells what happened: the rules say which entries are outdated then. What this process keeps is gone too, unless every primary
    /// answers that no rule matches, since most of what happens concerns nothing that is cached.
    ///
    /// As with any invalidation, an error means that it has to be told again; what this process keeps is gone all the same.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> expcache_client::Result<()> {
    /// # let cache = expcache_client::testing::InMemory::new().cache()?;
    /// use expcache_client::{Event, Rule, Selector};
    ///
    /// // Once, where the program is set up.
    /// let details = Selector::new().type_name("user_details").any(["user:{id}"]);
    /// cache.client().set_rule("details", &Rule::on_event("* /v1.0/user/{id}", details)).await?;
    ///
    /// let request = cache.request("user_details").user(7).build()?;
    /// cache.put(&request, "Ada").await?;
    ///
    /// // Whenever a user has changed.
    /// let fired = cache.event(&Event::new("PATCH /v1.0/user/7").note("alice")).await?;
    /// assert_eq!(fired.count, 1);
    /// assert!(cache.get(&request).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn event(&self, event: &Event) -> Result<Fired> {
        if event.is_dry_run() {
            return self.0.client.event(event).await;
        }
        let forgetting = Forgetting { cache: self, is_due: true };
        let told = self.0.client.event(event).await;
        forgetting.unless(told.as_ref().is_ok_and(|fired| fired.rules.is_empty()));
        told
    }

    /// Which of the kept entries are meant is not known here, so all go: before, for those who read meanwhile, and after, since
    /// the server's word on each of very many keys comes late.
    async fn forgetting<T>(&self, invalidating: impl Future<Output = Result<T>>) -> Result<T> {
        self.forget_all();
        let _after = Forgetting { cache: self, is_due: true };
        invalidating.await
    }

    fn forget_all(&self) {
        self.0.near.forget_all();
        self.0.fallback.forget_all();
    }

    /// Before the end of a program: waits for what is being produced, refreshed, warmed and stored, so long at most, gives up the rest
    /// and gives its leases back, so that nobody has to wait for them. Has all ended by itself?
    ///
    /// A program that was served something stale and ends without it has not made the next, and keeps others from that until the
    /// lease is over. What is warmed stops here; who is still asking meanwhile may begin anew. Replies that may bring leases are waited
    /// for in any case, as long as for any reply.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(cache: expcache_client::Cache) -> expcache_client::Result<()> {
    /// # use expcache_client::Export;
    /// let request = cache.request("trips").company(42).grace(Duration::from_secs(300)).build()?;
    /// let served = cache.get_or_produce(&request, || async { Export::json(&["A to B"]) }).await?;
    /// println!("{}", String::from_utf8_lossy(served.payload()));
    /// // If that was stale, the next is made behind it.
    /// cache.shutdown(Duration::from_secs(30)).await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, limit: Duration) -> bool {
        self.0.closing.send_replace(true);
        let (since, timeout) = (Instant::now(), self.config().timeout);
        // First those who begin something.
        let answered = self.0.askers.finish(ROUND + timeout).await;
        let ended = self.0.tasks.finish(limit.saturating_sub(since.elapsed())).await;
        let given_back = tokio::time::timeout(timeout, self.0.keeper.finish()).await;
        answered && ended && given_back.is_ok()
    }

    /// Stores an export, compressed on the way if that is wanted. How much a payload may grow in being decoded is the server's to
    /// say: what it refuses so is sent as it is.
    pub(crate) async fn set(&self, plan: &RequestPlan, export: &Export, lease: Option<&str>) -> Result<bool> {
        let set = |payload| lease.iter().fold(plan.set(export, payload), |set, token| set.lease(*token));
        let client = &self.0.client;
        let (encoding, payload) = compression::pack(self.config().compression, export.payload.clone()).await;
        match client.set(&set(payload).encoding(encoding)).await {
            Err(Error::TooLarge) if encoding != Encoding::Identity => client.set(&set(export.payload.clone())).await,
            stored => stored,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        self.0.client.config()
    }

    pub(crate) fn near(&self, plan: &RequestPlan) -> Option<Served> {
        let kept = self.0.near.get(&plan.key).filter(|_| self.may_be_near(plan))?;
        let age = kept.age_now();
        if !plan.takes(age) {
            return None;
        }
        let left = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let ttl_ms = kept.ttl_ms.map(|ttl| ttl.saturating_sub(left(kept.since.elapsed())));
        Some(Served { entry: kept.entry, how: How::Hit, near: true, age, ttl_ms, stored: kept.stored })
    }

    /// What was fetched, as an answer; `None` for a miss. What is fresh and small is kept near.
    pub(crate) async fn serve(
        &self,
        plan: &RequestPlan,
        fetched: Fetched,
        near: Option<Ticket>,
    ) -> Result<Option<Served>> {
        self.recovered(&plan.key);
        #[cfg(feature = "http")]
        if let Some(view) = &plan.view {
            return self.serve_view(plan, view, fetched, near).await;
        }
        let mut fetched = fetched;
        let Some(value) = fetched.value.take() else { return Ok(None) };
        let how = if fetched.status == crate::Status::Stale { How::Stale } else { How::Hit };
        let (age, ttl_ms) = (fetched.age, fetched.ttl_ms);
        let size = usize::try_from(fetched.size).unwrap_or(usize::MAX);
        let payload = compression::unpack(fetched.encoding, value, size).await?;
        let entry = Arc::new(entry_of(payload, fetched));
        if let (How::Hit, Some(ticket)) = (how, near) {
            self.keep_near(plan, &entry, age, ttl_ms, ticket);
        }
        Ok(Some(Served { entry, how, near: false, age, ttl_ms, stored: Stored::Before }))
    }

    fn may_be_near(&self, plan: &RequestPlan) -> bool {
        plan.near && !self.config().far.contains(&plan.type_name)
    }

    pub(crate) fn keep_near(
        &self,
        plan: &RequestPlan,
        entry: &Arc<CachedEntry>,
        age: Duration,
        ttl_ms: Option<i64>,
        ticket: Ticket,
    ) {
        let config = self.config();
        // The server tells of changes of keys with the prefix only.
        let told = plan.key.strip_prefix(config.prefix.as_slice()).is_some_and(|rest| rest.starts_with(b":"));
        if !told
            || !self.may_be_near(plan)
            || entry.payload.len() > config.near_value_bytes
            || self.0.sliding.may_be(&entry.type_name, &self.0.client)
        {
            return;
        }
        let left = ttl_ms.map_or(Duration::MAX, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        let lifetime = left.min(config.near_lifetime);
        let stored = Stored::Before;
        let kept =
            KeptEntry { entry: Arc::clone(entry), age, ttl_ms, since: Instant::now(), lifetime, stored, unread: false };
        self.0.near.put(&plan.key, kept, ticket);
    }

    /// Keeps what was produced without a server that can be read.
    pub(crate) fn keep_fallback(
        &self,
        plan: &RequestPlan,
        entry: &Arc<CachedEntry>,
        ticket: Option<Ticket>,
        why: &Error,
    ) {
        if ticket.is_some() {
            self.0.outage.fetch_or(why.is_away(), Ordering::AcqRel);
            self.0.unread.store(true, Ordering::Release);
        }
        self.keep_produced(plan, entry, ticket, why, self.config().fallback_lifetime, true);
    }

    /// Keeps what could not be stored, although the server is there. Others may be invalidating, and this process would not hear
    /// of it: that is borne for as long as it is for what is kept near.
    pub(crate) fn keep_unstored(
        &self,
        plan: &RequestPlan,
        entry: &Arc<CachedEntry>,
        ticket: Option<Ticket>,
        why: &Error,
    ) {
        let config = self.config();
        if config.near_bytes > 0 {
            self.keep_produced(plan, entry, ticket, why, config.near_lifetime.min(config.fallback_lifetime), false);
        }
    }

    fn keep_produced(
        &self,
        plan: &RequestPlan,
        entry: &Arc<CachedEntry>,
        ticket: Option<Ticket>,
        why: &Error,
        longest: Duration,
        unread: bool,
    ) {
        let Some(ticket) = ticket else { return };
        let (entry, since, stored) = (Arc::clone(entry), Instant::now(), Stored::No(why.clone()));
        let lifetime = plan.ttl.map_or(longest, |ttl| ttl.min(longest));
        let kept = KeptEntry { entry, age: Duration::ZERO, ttl_ms: None, since, lifetime, stored, unread };
        self.0.fallback.put(&plan.key, kept, ticket);
    }

    /// The key can be read again: what was kept without may have been invalidated by others, who told only the server. After an
    /// outage that goes for all that is kept; but in a cluster others of its servers may be away still.
    fn recovered(&self, key: &Bytes) {
        let Shared { fallback, unread, outage, client, .. } = &*self.0;
        if !unread.load(Ordering::Acquire) {
            return;
        }
        if !client.is_cluster() && outage.swap(false, Ordering::AcqRel) {
            fallback.forget_all();
        } else if fallback.get(key).is_some_and(|kept| kept.unread) {
            fallback.forget(key);
        }
    }
}

/// What is kept goes when this does, even if nobody waits for the reply any more: the server may have carried the command out.
struct Forgetting<'a> {
    cache: &'a Cache,
    is_due: bool,
}

impl Forgetting<'_> {
    fn unless(mut self, nothing_went: bool) {
        self.is_due = !nothing_went;
    }
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        if self.is_due {
            self.cache.forget_all();
        }
    }
}

impl RequestPlan {
    /// Whether an entry is young enough.
    pub(crate) fn takes(&self, age: Duration) -> bool {
        self.max_age.is_none_or(|limit| age <= limit)
    }

    pub(crate) fn fetch(&self, config: &Config) -> crate::Fetch {
        let fetch = crate::Fetch::of(self.key.clone());
        #[cfg(feature = "http")]
        let fetch = match &self.view {
            Some(view) => view.apply(fetch),
            None => fetch.accept(&config.accept),
        };
        #[cfg(not(feature = "http"))]
        let fetch = fetch.accept(&config.accept);
        let fetch = self.note.iter().fold(fetch, |fetch, note| fetch.note(note));
        match self.max_age {
            Some(limit) => fetch.max_age(limit),
            None => fetch,
        }
    }

    pub(crate) fn set(&self, export: &Export, payload: Bytes) -> Set {
        let mut set = Set::new(&self.key, payload).type_name(&self.type_name);
        set = set.tags(&self.tags).tags(&export.tags);
        if let Some(ttl) = self.ttl {
            set = set.ttl(ttl);
        }
        if let Some(grace) = self.grace {
            set = set.grace(grace);
        }
        if let Some(format) = self.format_of(export) {
            set = set.format(format);
        }
        if let Some(records) = export.records {
            set = set.records(records);
        }
        if let Some(meta) = self.meta_of(export) {
            set = set.meta(meta);
        }
        if let Some(note) = &self.note {
            set = set.note(note);
        }
        set
    }

    pub(crate) fn produced(&self, export: Export) -> CachedEntry {
        let (format, meta) = (self.format_of(&export).cloned(), self.meta_of(&export).cloned());
        let Export { payload, records, .. } = export;
        CachedEntry { type_name: self.type_name.clone(), format, records, meta, ..CachedEntry::new(payload) }
    }

    fn format_of<'a>(&'a self, export: &'a Export) -> Option<&'a Bytes> {
        export.format.as_ref().or(self.format.as_ref())
    }

    fn meta_of<'a>(&'a self, export: &'a Export) -> Option<&'a Bytes> {
        export.meta.as_ref().or(self.meta.as_ref())
    }
}

/// What was fetched, with its payload.
pub(crate) fn entry_of(payload: Bytes, fetched: Fetched) -> CachedEntry {
    CachedEntry {
        etag: fetched.etag.map(OnceLock::from).unwrap_or_default(),
        type_name: fetched.type_name.unwrap_or_default(),
        format: fetched.format,
        records: fetched.records,
        meta: fetched.meta,
        ..CachedEntry::new(payload)
    }
}
