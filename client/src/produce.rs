//! [`Cache::get_or_produce`]: at most one production over all processes, and always an answer.
//!
//! Asking (`FETCH … LEASE`) has one of five outcomes. A fresh value is the answer. So is a stale one; whoever is handed the lease
//! beside it makes the next in the background. A miss with the lease: produce, renewing the lease meanwhile, and store under it.
//! A miss while another has the lease: wait, on a connection of its own, one for all callers of this process. Otherwise the
//! server cannot help (it is away, or gives no lease): produce for this process alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use crate::Cache;
use crate::abort::AbortOnDrop;
use crate::asking::{Answer, Task};
use crate::command::Release;
use crate::error::{BoxError, Error, Result};
use crate::export::Export;
use crate::flight::{Boarded, Flight, Landed, ValidFor};
use crate::how::{How, Stored};
use crate::lease::{Claim, Held};
use crate::memory::Ticket;
use crate::request::{Request, RequestPlan};
use crate::served::{CachedEntry, Served};
use crate::time::ROUND;

/// A reply to waiting that comes sooner is no waiting.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(20);
/// So many of those in a row, and there is nobody to be waited for: the key backs off.
pub(crate) const VAIN: u32 = 4;
/// How long a message to the server's log may be.
const MAX_MESSAGE_CHARS: usize = 500;

/// Before who need not wait comes again.
pub(crate) fn pause() -> Duration {
    AT_ONCE.mul_f64(1.0 + 4.0 * fastrand::f64())
}

type Producing = BoxFuture<'static, Result<Export, BoxError>>;
pub(crate) type Producer = Box<dyn FnOnce() -> Producing + Send>;
/// Where the producing caller waits for what is made, while that is still being stored.
type Early = oneshot::Sender<Served>;

tokio::task_local! {
    /// What the task is producing.
    static PRODUCING: Arc<Chain>;
}

/// A key that is being produced, and those for whose productions it is.
struct Chain {
    /// Which cache it is of, by its address.
    cache: usize,
    key: Bytes,
    above: Option<Arc<Chain>>,
}

impl Chain {
    fn contains(&self, cache: usize, key: &Bytes) -> bool {
        let mut link = Some(self);
        std::iter::from_fn(|| {
            let this = link?;
            link = this.above.as_deref();
            Some(this)
        })
        .any(|link| link.cache == cache && link.key == *key)
    }
}

impl Cache {
    /// The export that a request means: from this process's memory, from the cache, produced by another, or by `produce`.
    ///
    /// - `produce` runs at most once over all processes for a key at a time, as long as the cache hands out leases; the others
    ///   wait for it, up to [`Config::patience`](crate::Config::patience) and then produce for themselves. Those in one process wait up to
    ///   twice that or twice the [lease](crate::Config::lease), and then produce together.
    /// - A stale export is returned at once, while one caller's `produce` makes the next in the background.
    /// - It runs in a task of its own, and goes on if the caller is dropped: others may wait for it. It must not block its thread:
    ///   what does (a database without async, a long computation) is for [`Cache::get_or_produce_blocking`].
    /// - It may take [`Config::produce_timeout`](crate::Config::produce_timeout); then it is dropped, and has failed.
    /// - It must not ask for the key that it produces, nor may what it asks for: that is an error, at once.
    /// - Its caller is answered when the export is stored, but does not wait for that longer than
    ///   [`Config::store_wait`](crate::Config::store_wait). Those who joined him do: only then it is known that nothing was invalidated.
    /// - If it fails, its error is returned to all who waited in this process, and this process does not try again for a while
    ///   ([`Config::backoff`](crate::Config::backoff)), whether or not the server is there. Stale exports go on being served.
    /// - Other processes do not know the error. While the server gives nobody the lease, each of them tries for itself, one
    ///   caller at a time.
    /// - What cannot be stored, for want of a lease or because the server or its type refuses it, is kept in this process for
    ///   [`Config::near_lifetime`](crate::Config::near_lifetime), unless [`Config::near_bytes`](crate::Config::near_bytes) is 0.
    ///   What others invalidated meanwhile is not known then. Where it was for want of a lease, it is kept only until there is one.
    /// - What was invalidated while it was produced is returned to its caller, and neither stored nor given to others.
    /// - Whatever is wrong with the cache (it is away, or refuses to be read), `produce` is reached: that is [`How::Degraded`].
    ///   What it makes is kept in this process for [`Config::fallback_lifetime`](crate::Config::fallback_lifetime), or until the key
    ///   can be read again.
    ///
    /// ```no_run
    /// # async fn example(cache: expcache_client::Cache) -> expcache_client::Result<()> {
    /// use expcache_client::Export;
    ///
    /// let request = cache.request("trips").format("json").company(42).filters(&serde_json::json!({"month": 5})).build()?;
    /// let served = cache.get_or_produce(&request, || async { Export::json(&["A to B"]) }).await?;
    /// println!("{} bytes, {:?}, etag {}", served.payload().len(), served.how(), served.etag());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_produce<P, F, T, E>(&self, request: &Request, produce: P) -> Result<Served>
    where
        P: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        if let Some(served) = self.near(&request.0) {
            self.tell_served(&request.0, &served, None);
            return Ok(served);
        }
        let since = Instant::now();
        let producer = || self.producer(&request.0.key, produce);
        let span = tracing::debug_span!("get_or_produce", key = %request.0.key.escape_ascii());
        // Boxed: who finds a copy kept near would have to carry the room for it.
        let served = Box::pin(self.obtain(request, producer).instrument(span)).await?;
        self.tell_served(&request.0, &served, Some(since));
        Ok(served)
    }

    /// Makes the export anew now, whatever there is, and returns it when it is made and stored; what there is goes on being served
    /// meanwhile. A production that is under way is waited for, as it may have begun before what this is about; for no longer than
    /// [`Config::patience`](crate::Config::patience), then it is [`Error::NoLease`]. Without a server it is produced for this process.
    pub async fn refresh<P, F, T, E>(&self, request: &Request, produce: P) -> Result<Served>
    where
        P: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        let producer = self.producer(&request.0.key, produce);
        let anew =
            Request(Arc::new(RequestPlan { max_age: Some(Duration::ZERO), near: false, ..(*request.0).clone() }));
        let deadline = Instant::now() + self.patience_of(&request.0);
        let (cache, request) = (self.clone(), request.clone());
        loop {
            match self.ask(&anew).await {
                Answer::Ready(_, Some(lease)) | Answer::Not(Task::Produce(lease)) => {
                    let task = async move { cache.produce_under(&request, lease, producer, None).await };
                    return self.0.tasks.start(task).await.result;
                }
                Answer::Not(Task::Alone(why)) if !matches!(why, Error::NoLease) => {
                    let task = async move { cache.produce_alone(&request, why, producer).await };
                    return self.0.tasks.start(task).await.result;
                }
                _ if Instant::now() >= deadline => return Err(Error::NoLease),
                _ => tokio::time::sleep(AT_ONCE).await,
            }
        }
    }

    /// As [`Cache::get_or_produce`], for a `produce` that blocks its thread: it runs on one for blocking work.
    ///
    /// ```no_run
    /// # struct Database;
    /// # impl Database {
    /// #     fn query(&self, _sql: &str) -> Result<Vec<String>, std::io::Error> { Ok(Vec::new()) }
    /// # }
    /// # async fn example(cache: expcache_client::Cache, database: std::sync::Arc<Database>) -> expcache_client::Result<()> {
    /// use expcache_client::{BoxError, Export};
    ///
    /// let request = cache.request("trips").company(42).build()?;
    /// let produce = move || {
    ///     // A driver without async. In `get_or_produce` it would keep a thread of the runtime from all else.
    ///     let trips = database.query("SELECT name FROM trips WHERE company = 42")?;
    ///     Ok::<_, BoxError>(Export::json(&trips)?)
    /// };
    /// let served = cache.get_or_produce_blocking(&request, produce).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_produce_blocking<P, T, E>(&self, request: &Request, produce: P) -> Result<Served>
    where
        P: FnOnce() -> Result<T, E> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        let on_a_thread = move || async move {
            let chain = PRODUCING.try_with(Arc::clone).ok();
            let produce = move || produce().map(Into::into).map_err(Into::into);
            let made = tokio::task::spawn_blocking(move || match chain {
                Some(chain) => PRODUCING.sync_scope(chain, produce),
                None => produce(),
            });
            made.await.unwrap_or_else(|ended| Err(why_it_ended(ended)))
        };
        self.get_or_produce::<_, _, Export, BoxError>(request, on_a_thread).await
    }

    /// With a note of what it produces, for itself and for what it asks for.
    pub(crate) fn producer<P, F, T, E>(&self, key: &Bytes, produce: P) -> Producer
    where
        P: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Export>,
        E: Into<BoxError>,
    {
        let (cache, key, above) = (self.identity(), key.clone(), PRODUCING.try_with(Arc::clone).ok());
        Box::new(move || {
            let chain = Arc::new(Chain { cache, key, above });
            PRODUCING.scope(chain, async { produce().await.map(Into::into).map_err(Into::into) }).boxed()
        })
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Is it for the production of the key that it is asked for?
    fn is_producing(&self, key: &Bytes) -> bool {
        PRODUCING.try_with(|chain| chain.contains(self.identity(), key)).unwrap_or(false)
    }

    pub(crate) async fn obtain(&self, request: &Request, producer: impl FnOnce() -> Producer) -> Result<Served> {
        let asked = Instant::now();
        match self.ask(request).await {
            Answer::Ready(served, None) => Ok(served),
            Answer::Ready(served, Some(lease)) => {
                self.refresh_behind(request, lease, producer());
                Ok(served)
            }
            // Boxed: a hit would have to carry the room for it.
            Answer::Not(task) => Box::pin(self.fly(request, asked, task, producer())).await,
        }
    }

    pub(crate) fn refresh_behind(&self, request: &Request, lease: Arc<Claim>, producer: Producer) {
        let (cache, request) = (self.clone(), request.clone());
        // Nobody waits for it; the task goes on by itself.
        drop(self.0.tasks.start(async move { cache.produce_under(&request, lease, producer, None).await }));
    }

    /// Joins who is after the key already, or goes after it.
    pub(crate) async fn fly(
        &self,
        request: &Request,
        mut asked: Instant,
        mut task: Task,
        producer: Producer,
    ) -> Result<Served> {
        if self.is_producing(&request.0.key) {
            let key = request.0.key.escape_ascii();
            return Err(Error::Request(format!("the producer of {key} asks for what it is to produce")));
        }
        // Who leads may have waited as long as that for another process, and only then begun to produce. And he is known to live: who
        // has no patience with other processes still shares what this one makes.
        let impatient = asked + self.patience_of(&request.0).max(self.lease_of(&request.0)) * 2;
        let mut producer = Some(producer);
        loop {
            let (tell, early) = oneshot::channel();
            let mut tell = Some(tell);
            let mut lead = || {
                let (cache, request, task) = (self.clone(), request.clone(), task.clone());
                let (producer, tell) = (producer.take(), tell.take());
                async move { cache.lead(&request, task, producer, tell).await }
            };
            let flight = match self.0.flights.board(&request.0.key, &mut lead) {
                Boarded::Leads(flight) => return made(flight, early).await,
                // The lease came to this caller, so the other one waits for what this one makes.
                Boarded::Joined(_) if matches!(task, Task::Produce(_)) => {
                    return made(self.0.tasks.start(lead()), early).await;
                }
                Boarded::Joined(flight) => flight,
            };
            let landed = match tokio::time::timeout_at(impatient.into(), flight).await {
                Ok(landed) => landed,
                // It hangs. All who do not wait any longer go on together.
                Err(_) => {
                    let alone = || {
                        let (cache, request, producer) = (self.clone(), request.clone(), producer.take());
                        async move { cache.lead(&request, Task::Alone(Error::NoLease), producer, None).await }
                    };
                    match self.0.impatient.board(&request.0.key, alone) {
                        Boarded::Leads(flight) => return flight.await.result,
                        Boarded::Joined(flight) => flight.await,
                    }
                }
            };
            if landed.valid_for.covers(asked) {
                return landed.result.map(Served::waited);
            }
            asked = Instant::now();
            task = match (self.ask(request).await, producer.take()) {
                (Answer::Ready(served, Some(lease)), Some(made)) => {
                    self.refresh_behind(request, lease, made);
                    return Ok(served);
                }
                (Answer::Ready(served, _), _) => return Ok(served),
                (Answer::Not(task), made) => {
                    producer = made;
                    task
                }
            };
        }
    }

    async fn lead(
        &self,
        request: &Request,
        mut task: Task,
        producer: Option<Producer>,
        early: Option<Early>,
    ) -> Landed {
        let Some(producer) = producer else { return Landed::failed(Error::NoLease) };
        let deadline = Instant::now() + self.patience_of(&request.0);
        let mut in_vain = 0;
        loop {
            if let Some(landed) = self.recent_unstored(&request.0, &task).await {
                return landed;
            }
            task = match task {
                Task::Produce(claim) => return self.produce_under(request, claim, producer, early).await,
                // It failed here a moment ago.
                Task::Alone(why @ Error::Producer(_)) => {
                    return Landed { result: Err(why), valid_for: ValidFor::Everybody };
                }
                Task::Alone(why) => return self.produce_alone(request, why, producer).await,
                Task::Wait => match self.wait(request, deadline, &mut in_vain).await {
                    (_, Answer::Not(task)) => task,
                    (sent, Answer::Ready(served, lease)) => {
                        if let Some(lease) = lease {
                            self.refresh_behind(request, lease, producer);
                        }
                        return Landed { result: Ok(served.waited()), valid_for: ValidFor::AskedBy(sent) };
                    }
                },
            }
        }
    }

    /// What was produced here a moment ago and could not be stored. It would be no better now, unless there is a lease: then the
    /// server can be asked to store it, and what others invalidated meanwhile is known to it.
    async fn recent_unstored(&self, plan: &RequestPlan, task: &Task) -> Option<Landed> {
        let now = Instant::now();
        let kept = self.0.fallback.get(&plan.key).filter(|kept| plan.takes(kept.age_now()))?;
        if let Task::Produce(claim) = task {
            if !kept.is_refused() {
                return None;
            }
            self.give_up(plan, claim, Release::unused()).await;
        }
        let age = kept.age_now();
        let served = Served { age, ..Served::made(kept.entry, How::Kept, kept.stored, plan) };
        Some(Landed { result: Ok(served), valid_for: ValidFor::AskedBy(now) })
    }

    /// Waits a round for another's production; tells since when.
    async fn wait(&self, request: &Request, deadline: Instant, in_vain: &mut u32) -> (Instant, Answer) {
        let (plan, since) = (&request.0, Instant::now());
        let left = deadline.saturating_duration_since(since);
        if left.is_zero() || *in_vain >= VAIN {
            return (since, Answer::Not(Task::Alone(Error::NoLease)));
        }
        let answer = self.ask_and_wait(plan, left.min(ROUND), left).await;
        match answer {
            // Nobody had it any more, and it was given to nobody.
            Answer::Not(Task::Alone(Error::NoLease))
                if !deadline.saturating_duration_since(Instant::now()).is_zero() =>
            {
                (since, self.ask(request).await)
            }
            // The key backs off, or the server lets only so many wait; then they have to come again.
            Answer::Not(Task::Wait) if since.elapsed() < AT_ONCE.min(left) => {
                if let Some(failed) = self.0.failures.present(&plan.key, Instant::now()) {
                    return (since, Answer::Not(Task::Alone(failed)));
                }
                *in_vain += 1;
                tokio::time::sleep(pause()).await;
                (since, answer)
            }
            answer => (since, answer),
        }
    }

    pub(crate) async fn produce_under(
        &self,
        request: &Request,
        claim: Arc<Claim>,
        producer: Producer,
        early: Option<Early>,
    ) -> Landed {
        let (plan, limit) = (&request.0, self.produce_timeout_of(&request.0));
        let held = claim.hold(self.0.fallback.ticket(&plan.key), Some(limit));
        match self.run(plan, producer).await {
            Ok(export) => {
                held.note_made();
                self.store(plan, export, held, early).await
            }
            // It is nobody else's: they try for themselves.
            Err(error) if error.is_unshared() => {
                self.give_up(plan, &held.let_go(), Release::unused()).await;
                Landed::failed(error)
            }
            Err(error) => {
                let claim = held.let_go();
                self.give_up(plan, &claim, self.failed(plan, &error)).await;
                Landed { result: Err(error), valid_for: ValidFor::Everybody }
            }
        }
    }

    /// Nobody is to try again for a while.
    pub(crate) fn failed(&self, plan: &RequestPlan, error: &Error) -> Release {
        let pause = self.0.failures.note(&plan.key, error, Instant::now());
        let message: String = error.to_string().chars().take(MAX_MESSAGE_CHARS).collect();
        Release::failed(message).backoff(pause)
    }

    /// Stores it. If that takes longer than the caller waits for it, he is told before.
    async fn store(&self, plan: &RequestPlan, export: Export, held: Held, early: Option<Early>) -> Landed {
        self.0.failures.forget(&plan.key);
        let entry = Arc::new(plan.produced(export.clone()));
        let mut storing = std::pin::pin!(self.send(plan, &export, Arc::clone(&entry), held));
        let wait = plan.store_wait.unwrap_or(self.config().store_wait);
        if let Ok(landed) = tokio::time::timeout(wait, &mut storing).await {
            return landed;
        }
        if let Some(early) = early {
            // He may have gone.
            let _ = early.send(Served::made(entry, How::Produced, Stored::UnderWay, plan));
        }
        storing.await
    }

    async fn send(&self, plan: &RequestPlan, export: &Export, entry: Arc<CachedEntry>, held: Held) -> Landed {
        let (leased, ticket) = (held.since, held.ticket);
        let sent = Instant::now();
        let stored = match self.set(plan, export, Some(held.token())).await {
            Ok(_) => Stored::Yes,
            Err(error) => {
                self.note_not_stored(plan, &error);
                Stored::No(error)
            }
        };
        // To pack and to send it may have taken longer than the lease lasts, too.
        let claim = held.let_go();
        let valid_for = match &stored {
            // Given back if it was not stored after all.
            Stored::No(error) if error.is_away() => {
                self.keep_fallback(plan, &entry, ticket, error);
                self.unless_invalidated(plan, ticket)
            }
            Stored::No(Error::Fenced | Error::LeaseLost) => {
                claim.settle();
                ValidFor::Nobody
            }
            Stored::No(error) => {
                self.keep_unstored(plan, &entry, ticket, error);
                // What is asked for again by the server alone would be made again and again.
                let release = if claim.is_job() { self.failed(plan, error) } else { Release::unused() };
                self.give_up(plan, &claim, release).await;
                ValidFor::AskedBy(leased)
            }
            _ => {
                claim.settle();
                ValidFor::AskedBy(sent)
            }
        };
        Landed { result: Ok(Served::made(entry, How::Produced, stored, plan)), valid_for }
    }

    /// Without the server, what this process itself invalidated meanwhile is all that is known.
    fn unless_invalidated(&self, plan: &RequestPlan, ticket: Option<Ticket>) -> ValidFor {
        let now = Instant::now();
        if self.0.fallback.ticket(&plan.key) == ticket { ValidFor::AskedBy(now) } else { ValidFor::Nobody }
    }

    async fn produce_alone(&self, request: &Request, why: Error, producer: Producer) -> Landed {
        let plan = &request.0;
        if let Some(error) = self.0.failures.present(&plan.key, Instant::now()) {
            return Landed { result: Err(error), valid_for: ValidFor::Everybody };
        }
        tracing::debug!(%why, "producing without the cache");
        let ticket = self.0.fallback.ticket(&plan.key);
        let entry = match self.run(plan, producer).await {
            Ok(export) => Arc::new(plan.produced(export)),
            Err(error) if error.is_unshared() => return Landed::failed(error),
            Err(error) => {
                self.0.failures.note(&plan.key, &error, Instant::now());
                return Landed { result: Err(error), valid_for: ValidFor::Everybody };
            }
        };
        self.0.failures.forget(&plan.key);
        match why {
            Error::NoLease => self.keep_unstored(plan, &entry, ticket, &why),
            _ => self.keep_fallback(plan, &entry, ticket, &why),
        }
        let valid_for = self.unless_invalidated(plan, ticket);
        let how = if matches!(why, Error::NoLease) { How::Alone } else { How::Degraded };
        Landed { result: Ok(Served::made(entry, how, Stored::No(why), plan)), valid_for }
    }

    /// Runs the producer, in a task of its own: what blocks its thread does not keep others from giving it up. A panic is its
    /// failure.
    async fn run(&self, plan: &RequestPlan, producer: Producer) -> Result<Export> {
        let (since, limit) = (Instant::now(), self.produce_timeout_of(plan));
        let span = tracing::debug_span!("produce", key = %plan.key.escape_ascii());
        let mut task = AbortOnDrop(tokio::spawn(async move { producer().await }.instrument(span)));
        let made = match tokio::time::timeout(limit, &mut task.0).await {
            Ok(Ok(made)) => made.map_err(Error::of_producer),
            Ok(Err(ended)) => Err(Error::of_producer(why_it_ended(ended))),
            Err(_) => Err(Error::of_producer(format!("it took longer than {limit:?}"))),
        };
        if let Some(observer) = &self.config().observer {
            observer.produced(&plan.type_name, since.elapsed(), made.is_ok());
        }
        made
    }

    pub(crate) fn produce_timeout_of(&self, plan: &RequestPlan) -> Duration {
        plan.produce_timeout.unwrap_or(self.config().produce_timeout)
    }

    pub(crate) fn patience_of(&self, plan: &RequestPlan) -> Duration {
        plan.patience.unwrap_or(self.config().patience)
    }

    fn note_not_stored(&self, plan: &RequestPlan, error: &Error) {
        tracing::warn!(key = %plan.key.escape_ascii(), %error, "not stored");
        if let Some(observer) = &self.config().observer {
            observer.not_stored(&plan.type_name, error);
        }
    }

    pub(crate) fn tell_served(&self, plan: &RequestPlan, served: &Served, since: Option<Instant>) {
        if let Some(observer) = &self.config().observer {
            observer.served(&plan.type_name, served.how(), since.map_or(Duration::ZERO, |since| since.elapsed()));
        }
    }
}

impl Served {
    fn made(entry: Arc<CachedEntry>, how: How, stored: Stored, plan: &RequestPlan) -> Self {
        let ttl_ms = plan.ttl.and_then(|ttl| i64::try_from(ttl.as_millis()).ok());
        Self { entry, how, near: false, age: Duration::ZERO, ttl_ms, stored }
    }

    /// As it looks to one who waited for it.
    fn waited(mut self) -> Self {
        if matches!(self.how, How::Produced | How::Hit) {
            self.how = How::Waited;
        }
        self
    }
}

/// What was made, for him who made it.
async fn made(flight: Flight, early: oneshot::Receiver<Served>) -> Result<Served> {
    tokio::select! {
        biased;
        landed = flight => landed.result,
        Ok(served) = early => Ok(served),
    }
}

fn why_it_ended(ended: tokio::task::JoinError) -> BoxError {
    let Ok(panic) = ended.try_into_panic() else { return "the task was given up".into() };
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    message.map_or("the producer panicked".into(), |message: &str| format!("the producer panicked: {message}").into())
}
