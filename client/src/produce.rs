//! [`Cache::get_or_produce`]: at most one production over all processes, and always an answer.
//!
//! Asking (`FETCH … LEASE`) has one of five outcomes. A fresh value is the answer. So is a stale one; whoever is handed the lease
//! beside it makes the next in the background. A miss with the lease: produce, renewing the lease meanwhile, and store under it.
//! A miss while another has the lease: wait, on a connection of its own, one for all callers of this process. Otherwise the
//! server cannot help (it is away, or gives no lease): produce for this process alone.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::Instrument as _;

use crate::Cache;
use crate::command::{Fetched, Release};
use crate::error::{BoxError, Error, Result};
use crate::export::Export;
use crate::flight::{Boarded, GoodFor, Landed, start};
use crate::memory::Ticket;
use crate::request::{Plan, Request};
use crate::served::{Entry, How, Served, Stored};

/// How long the server is asked to wait at a time.
///
/// Only so many wait at once, and the others come in turns.
const ROUND: Duration = Duration::from_secs(1);
/// A reply to waiting that comes sooner is no waiting.
const AT_ONCE: Duration = Duration::from_millis(20);
/// How long a message to the server's log may be.
const MAX_MESSAGE_CHARS: usize = 500;

type Producing = BoxFuture<'static, Result<Export, BoxError>>;
pub(crate) type Producer = Box<dyn FnOnce() -> Producing + Send>;

/// What is left to do for a caller whom the cache could not serve.
#[derive(Clone)]
pub(crate) enum Task {
    /// Produce under this lease.
    Produce(String),
    /// Wait for another's production.
    Wait,
    /// Produce without a lease, since the cache cannot help.
    Alone(Error),
}

pub(crate) enum Answer {
    /// An answer; and with it perhaps the lease to make the next.
    Ready(Served, Option<String>),
    Not(Task),
}

impl Cache {
    /// The export that a request means: from this process's memory, from the cache, produced by another, or by `produce`.
    ///
    /// - `produce` runs at most once over all processes for a key at a time, as long as the cache hands out leases; the others
    ///   wait for it, up to [`Config::patience`](crate::Config::patience) and then produce for themselves. Those in one process wait up to
    ///   twice that or twice the [lease](crate::Config::lease), and then produce together.
    /// - A stale export is returned at once, while one caller's `produce` makes the next in the background.
    /// - It runs in a task of its own, and goes on if the caller is dropped: others may wait for it.
    /// - If it fails, its error is returned to all who waited in this process, and this process does not try again for a while
    ///   ([`Config::backoff`](crate::Config::backoff)), whether or not the server is there. Stale exports go on being served.
    /// - Other processes do not know the error. While the server gives nobody the lease, each of them tries for itself, one
    ///   caller at a time.
    /// - What cannot be stored, for want of a lease or because the server or its type refuses it, is kept in this process for
    ///   [`Config::near_lifetime`](crate::Config::near_lifetime), unless [`Config::near_bytes`](crate::Config::near_bytes) is 0.
    ///   What others invalidated while it was produced is not known then.
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
        let producer = boxed(produce);
        let span = tracing::debug_span!("get_or_produce", key = %request.0.key.escape_ascii());
        let served = self.obtain(request, producer).instrument(span).await?;
        self.tell_served(&request.0, &served, Some(since));
        Ok(served)
    }

    pub(crate) async fn obtain(&self, request: &Request, producer: Producer) -> Result<Served> {
        let asked = Instant::now();
        match self.ask(request).await {
            Answer::Ready(served, None) => Ok(served),
            Answer::Ready(served, Some(lease)) => {
                self.refresh(request, lease, producer);
                Ok(served)
            }
            Answer::Not(task) => self.fly(request, asked, task, producer).await,
        }
    }

    /// Asks once, without waiting.
    pub(crate) async fn ask(&self, request: &Request) -> Answer {
        Asking::new(self, request).await
    }

    async fn answer(&self, plan: &Plan, fetched: Result<Fetched>, near: Option<Ticket>) -> Answer {
        let mut fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return Answer::Not(Task::Alone(error)),
        };
        let (lease, retry) = (fetched.lease.take(), fetched.retry);
        match self.serve(plan, fetched, near).await {
            Ok(Some(served)) => Answer::Ready(served, lease),
            Ok(None) => Answer::Not(match (lease, retry) {
                (Some(token), _) => Task::Produce(token),
                (None, Some(_)) => Task::Wait,
                (None, None) => Task::Alone(Error::NoLease),
            }),
            // It cannot be read: whoever has the lease makes a new one.
            Err(error) => Answer::Not(lease.map_or(Task::Alone(error), Task::Produce)),
        }
    }

    pub(crate) fn refresh(&self, request: &Request, lease: String, producer: Producer) {
        let (cache, request) = (self.clone(), request.clone());
        // Nobody waits for it; the task goes on by itself.
        drop(start(async move { cache.produce_under(&request, lease, producer).await }));
    }

    /// Joins who is after the key already, or goes after it.
    pub(crate) async fn fly(
        &self,
        request: &Request,
        mut asked: Instant,
        mut task: Task,
        producer: Producer,
    ) -> Result<Served> {
        // Who leads may have waited as long as that for another process, and only then begun to produce. And he is known to live: who
        // has no patience with other processes still shares what this one makes.
        let impatient = asked + self.patience_of(&request.0).max(self.lease_of(&request.0)) * 2;
        let mut producer = Some(producer);
        loop {
            let mut lead = || {
                let (cache, request, task, producer) = (self.clone(), request.clone(), task.clone(), producer.take());
                async move { cache.lead(&request, task, producer).await }
            };
            let flight = match self.0.flights.board(&request.0.key, &mut lead) {
                Boarded::Leads(flight) => return flight.await.result,
                // The lease came to this caller, so the other one waits for what this one makes.
                Boarded::Joined(_) if matches!(task, Task::Produce(_)) => return start(lead()).await.result,
                Boarded::Joined(flight) => flight,
            };
            let landed = match tokio::time::timeout_at(impatient.into(), flight).await {
                Ok(landed) => landed,
                // It hangs. All who do not wait any longer go on together.
                Err(_) => {
                    let alone = || {
                        let (cache, request, producer) = (self.clone(), request.clone(), producer.take());
                        async move { cache.lead(&request, Task::Alone(Error::NoLease), producer).await }
                    };
                    match self.0.impatient.board(&request.0.key, alone) {
                        Boarded::Leads(flight) => return flight.await.result,
                        Boarded::Joined(flight) => flight.await,
                    }
                }
            };
            if landed.good_for.covers(asked) {
                return landed.result.map(Served::waited);
            }
            asked = Instant::now();
            task = match (self.ask(request).await, producer.take()) {
                (Answer::Ready(served, Some(lease)), Some(made)) => {
                    self.refresh(request, lease, made);
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

    async fn lead(&self, request: &Request, mut task: Task, producer: Option<Producer>) -> Landed {
        let Some(producer) = producer else { return Landed::failed(Error::NoLease) };
        let deadline = Instant::now() + self.patience_of(&request.0);
        loop {
            if let Some(landed) = self.instead(&request.0, &task).await {
                return landed;
            }
            task = match task {
                Task::Produce(token) => return self.produce_under(request, token, producer).await,
                Task::Alone(why) => return self.produce_alone(request, why, producer).await,
                Task::Wait => match self.wait(request, deadline).await {
                    (_, Answer::Not(task)) => task,
                    (sent, Answer::Ready(served, lease)) => {
                        if let Some(lease) = lease {
                            self.refresh(request, lease, producer);
                        }
                        return Landed { result: Ok(served.waited()), good_for: GoodFor::AskedBy(sent) };
                    }
                },
            }
        }
    }

    /// What was produced here a moment ago and could not be stored. It would be no better now.
    async fn instead(&self, plan: &Plan, task: &Task) -> Option<Landed> {
        let now = Instant::now();
        let kept = self.0.fallback.get(&plan.key).filter(|kept| plan.takes(kept.age_now()))?;
        if let Task::Produce(token) = task {
            self.give_up(plan, token, Release::unused()).await;
        }
        let age = kept.age_now();
        let served = Served { age, ..Served::made(kept.entry, How::Degraded, kept.stored, plan) };
        Some(Landed { result: Ok(served), good_for: GoodFor::AskedBy(now) })
    }

    /// Waits a round for another's production; tells since when.
    async fn wait(&self, request: &Request, deadline: Instant) -> (Instant, Answer) {
        let (plan, since) = (&request.0, Instant::now());
        let left = deadline.saturating_duration_since(since);
        if left.is_zero() {
            return (since, Answer::Not(Task::Alone(Error::NoLease)));
        }
        let ticket = self.0.near.ticket(&plan.key);
        let fetch = plan.fetch(self.config()).lease(self.lease_of(plan)).wait(left.min(ROUND)).queue(left);
        let answer = self.answer(plan, self.0.client.fetch(&fetch).await, ticket).await;
        // The server lets only so many wait; then they have to come again.
        if matches!(answer, Answer::Not(Task::Wait)) && since.elapsed() < AT_ONCE {
            tokio::time::sleep(AT_ONCE.mul_f64(1.0 + 4.0 * fastrand::f64())).await;
        }
        (since, answer)
    }

    async fn produce_under(&self, request: &Request, token: String, producer: Producer) -> Landed {
        let plan = &request.0;
        let held = self.hold(plan, token);
        match self.run(plan, producer).await {
            Ok(export) => self.store(plan, export, held).await,
            Err(error) => {
                let token = held.let_go();
                let pause = self.0.failures.note(&plan.key, &error, Instant::now());
                let message: String = error.to_string().chars().take(MAX_MESSAGE_CHARS).collect();
                self.give_up(plan, &token, Release::failed(message).backoff(pause)).await;
                Landed { result: Err(error), good_for: GoodFor::Everybody }
            }
        }
    }

    async fn store(&self, plan: &Plan, export: Export, held: Held) -> Landed {
        self.0.failures.forget(&plan.key);
        let (leased, ticket) = (held.since, held.ticket);
        let set = plan.set(&export, self.config()).await.lease(&held.token);
        let (entry, sent) = (Arc::new(plan.produced(export)), Instant::now());
        let stored = match self.0.client.set(&set).await {
            Ok(_) => Stored::Yes,
            Err(error) => {
                self.note_not_stored(plan, &error);
                Stored::No(error)
            }
        };
        // To pack and to send it may have taken longer than the lease lasts, too.
        let token = held.let_go();
        let good_for = match &stored {
            Stored::No(Error::Fenced | Error::LeaseLost) => GoodFor::Nobody,
            Stored::No(error) if error.is_unavailable() => {
                self.keep_fallback(plan, &entry, ticket, error);
                self.unless_invalidated(plan, ticket)
            }
            Stored::No(error) => {
                self.keep_unstored(plan, &entry, ticket, error);
                self.give_up(plan, &token, Release::unused()).await;
                GoodFor::AskedBy(leased)
            }
            _ => GoodFor::AskedBy(sent),
        };
        Landed { result: Ok(Served::made(entry, How::Produced, stored, plan)), good_for }
    }

    /// Without the server, what this process itself invalidated meanwhile is all that is known.
    fn unless_invalidated(&self, plan: &Plan, ticket: Option<Ticket>) -> GoodFor {
        let now = Instant::now();
        if self.0.fallback.ticket(&plan.key) == ticket { GoodFor::AskedBy(now) } else { GoodFor::Nobody }
    }

    async fn produce_alone(&self, request: &Request, why: Error, producer: Producer) -> Landed {
        let plan = &request.0;
        if let Some(error) = self.0.failures.present(&plan.key, Instant::now()) {
            return Landed { result: Err(error), good_for: GoodFor::Everybody };
        }
        tracing::debug!(%why, "producing without the cache");
        let ticket = self.0.fallback.ticket(&plan.key);
        let entry = match self.run(plan, producer).await {
            Ok(export) => Arc::new(plan.produced(export)),
            Err(error) => {
                self.0.failures.note(&plan.key, &error, Instant::now());
                return Landed { result: Err(error), good_for: GoodFor::Everybody };
            }
        };
        self.0.failures.forget(&plan.key);
        match why {
            Error::NoLease => self.keep_unstored(plan, &entry, ticket, &why),
            _ => self.keep_fallback(plan, &entry, ticket, &why),
        }
        let good_for = self.unless_invalidated(plan, ticket);
        Landed { result: Ok(Served::made(entry, How::Degraded, Stored::No(why), plan)), good_for }
    }

    /// Runs the producer; a panic is its failure.
    async fn run(&self, plan: &Plan, producer: Producer) -> Result<Export> {
        let since = Instant::now();
        let span = tracing::debug_span!("produce", key = %plan.key.escape_ascii());
        let made = AssertUnwindSafe(async { producer().await }).catch_unwind().instrument(span).await;
        let made = made.unwrap_or_else(|_| Err("the producer panicked".into())).map_err(Error::producer);
        if let Some(observer) = &self.config().observer {
            observer.produced(&plan.type_name, since.elapsed(), made.is_ok());
        }
        made
    }

    /// Renews the lease until it is let go. In a task of its own: the producer may keep its thread busy.
    fn hold(&self, plan: &Plan, token: String) -> Held {
        let (ticket, since) = (self.0.fallback.ticket(&plan.key), Instant::now());
        let (client, key, time) = (self.0.client.clone(), plan.key.clone(), self.lease_of(plan));
        let renewed = token.clone();
        let renewing = AbortOnDrop(tokio::spawn(async move {
            loop {
                tokio::time::sleep(time / 3).await;
                if let Ok(false) = client.renew(&key, &renewed, time).await {
                    return;
                }
            }
        }));
        Held { token, since, ticket, renewing }
    }

    async fn give_up(&self, plan: &Plan, token: &str, release: Release) {
        if let Err(error) = self.0.client.release(&plan.key, token, &release).await {
            tracing::debug!(%error, "a lease could not be released: it ends by itself");
        }
    }

    fn patience_of(&self, plan: &Plan) -> Duration {
        plan.patience.unwrap_or(self.config().patience)
    }

    fn lease_of(&self, plan: &Plan) -> Duration {
        plan.lease.unwrap_or(self.config().lease)
    }

    fn note_not_stored(&self, plan: &Plan, error: &Error) {
        tracing::warn!(key = %plan.key.escape_ascii(), %error, "not stored");
        if let Some(observer) = &self.config().observer {
            observer.not_stored(&plan.type_name, error);
        }
    }

    pub(crate) fn tell_served(&self, plan: &Plan, served: &Served, since: Option<Instant>) {
        if let Some(observer) = &self.config().observer {
            observer.served(&plan.type_name, served.how(), since.map_or(Duration::ZERO, |since| since.elapsed()));
        }
    }
}

/// A producer of anything that an export can be made of.
pub(crate) fn boxed<P, F, T, E>(produce: P) -> Producer
where
    P: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Export>,
    E: Into<BoxError>,
{
    Box::new(|| produce().map(|made| made.map(Into::into).map_err(Into::into)).boxed())
}

impl Served {
    fn made(entry: Arc<Entry>, how: How, stored: Stored, plan: &Plan) -> Self {
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

/// A lease that is renewed as long as this is there.
struct Held {
    token: String,
    since: Instant,
    /// Of the fallback, from before the production.
    ticket: Option<Ticket>,
    renewing: AbortOnDrop,
}

impl Held {
    fn let_go(self) -> String {
        drop(self.renewing);
        self.token
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `FETCH … LEASE`. If its caller is dropped before the reply is here (a web client that hung up), the reply may hand out a
/// lease that nobody would use, and everybody would wait for: so it is awaited elsewhere, and the lease released.
struct Asking {
    reply: Option<BoxFuture<'static, Answer>>,
    cache: Cache,
    request: Request,
}

impl Asking {
    fn new(cache: &Cache, request: &Request) -> Self {
        let plan = &request.0;
        let (client, fetch) = (cache.0.client.clone(), plan.fetch(cache.config()).lease(cache.lease_of(plan)));
        let (asker, ticket) = (request.clone(), cache.0.near.ticket(&plan.key));
        let answering = cache.clone();
        let reply = async move { answering.answer(&asker.0, client.fetch(&fetch).await, ticket).await }.boxed();
        Self { reply: Some(reply), cache: cache.clone(), request: request.clone() }
    }
}

impl Future for Asking {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let Some(reply) = &mut self.reply else {
            return std::task::Poll::Ready(Answer::Not(Task::Alone(Error::NoLease)));
        };
        let polled = reply.poll_unpin(context);
        if polled.is_ready() {
            self.reply = None;
        }
        polled
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let (Some(reply), Ok(runtime)) = (self.reply.take(), tokio::runtime::Handle::try_current()) else { return };
        let (cache, request) = (self.cache.clone(), self.request.clone());
        runtime.spawn(async move {
            if let Answer::Ready(_, Some(token)) | Answer::Not(Task::Produce(token)) = reply.await {
                cache.give_up(&request.0, &token, Release::unused()).await;
            }
        });
    }
}
