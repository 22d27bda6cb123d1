//! Asking for an entry, and for the lease to make the next: what there is, and what is left to do.
//!
//! Whoever asks has made up the token by which the lease is his, so it can be given back although nobody heard whether it was
//! granted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::Cache;
use crate::command::{Fetched, Release};
use crate::error::{Error, Result};
use crate::flight::Tasks;
use crate::lease::Claim;
use crate::memory::Ticket;
use crate::request::{Request, RequestPlan};
use crate::served::Served;

/// What is left to do for a caller whom the cache could not serve.
#[derive(Clone)]
pub(crate) enum Task {
    /// Produce under this lease.
    Produce(Arc<Claim>),
    /// Wait for another's production.
    Wait,
    /// Produce without a lease, since the cache cannot help.
    Alone(Error),
}

pub(crate) enum Answer {
    /// An answer; and with it perhaps the lease to make the next.
    Ready(Served, Option<Arc<Claim>>),
    Not(Task),
}

impl Cache {
    /// Asks once, without waiting.
    pub(crate) async fn ask(&self, request: &Request) -> Answer {
        Asking::new(self, request).await
    }

    /// Asks, and waits while another produces: so long at most, and so long at most until there is a connection to wait with.
    pub(crate) async fn ask_and_wait(&self, plan: &RequestPlan, wait: Duration, queue: Duration) -> Answer {
        let (ticket, claim) = (self.0.near.ticket(&plan.key), self.claim(plan));
        let fetch = plan.fetch(self.config()).lease(self.lease_of(plan)).token(claim.token());
        let fetched = self.0.client.fetch(&fetch.wait(wait).queue(queue)).await;
        self.answer(plan, fetched, ticket, claim).await
    }

    /// A claim that is dropped here may have been granted, for all that is known, and is given back.
    async fn answer(
        &self,
        plan: &RequestPlan,
        fetched: Result<Fetched>,
        near: Option<Ticket>,
        claim: Arc<Claim>,
    ) -> Answer {
        let (mut fetched, lease) = match fetched {
            Ok(fetched) if fetched.lease.is_some() => (fetched, Some(claim)),
            Ok(fetched) => {
                claim.settle();
                (fetched, None)
            }
            Err(error) => {
                claim.settle_unless_lost(&error);
                return Answer::Not(Task::Alone(error));
            }
        };
        let retry = fetched.retry.take();
        match self.serve(plan, fetched, near).await {
            Ok(Some(served)) => Answer::Ready(served, lease),
            Ok(None) => Answer::Not(match (lease, retry) {
                (Some(claim), _) => Task::Produce(claim),
                (None, Some(_)) => Task::Wait,
                (None, None) => Task::Alone(Error::NoLease),
            }),
            // It cannot be read: whoever has the lease makes a new one.
            Err(error) => Answer::Not(lease.map_or(Task::Alone(error), Task::Produce)),
        }
    }

    pub(crate) fn claim(&self, plan: &RequestPlan) -> Arc<Claim> {
        Arc::new(Claim::new(&self.0.keeper, &plan.key, self.lease_of(plan)))
    }

    /// What is not heard of the server here is left to whoever looks after leases.
    pub(crate) async fn give_up(&self, plan: &RequestPlan, claim: &Claim, release: Release) {
        match self.0.client.release(&plan.key, claim.token(), &release).await {
            Err(error) if error.is_unavailable() => tracing::debug!(%error, "a lease is not released yet"),
            Err(error) => {
                claim.settle();
                tracing::debug!(%error, "a lease cannot be released: it ends by itself");
            }
            Ok(_) => claim.settle(),
        }
    }

    pub(crate) fn lease_of(&self, plan: &RequestPlan) -> Duration {
        plan.lease.unwrap_or(self.config().lease)
    }
}

/// `FETCH … LEASE`. If its caller is dropped before the reply is here (a web client that hung up), the reply may hand out a
/// lease that nobody would use: so it is awaited elsewhere, and the lease given back.
struct Asking {
    reply: Option<BoxFuture<'static, Answer>>,
    tasks: Tasks,
}

impl Asking {
    fn new(cache: &Cache, request: &Request) -> Self {
        let (cache, request, claim) = (cache.clone(), request.clone(), cache.claim(&request.0));
        let (ticket, tasks) = (cache.0.near.ticket(&request.0.key), cache.0.tasks.clone());
        let asking = async move {
            let plan = &request.0;
            let fetch = plan.fetch(cache.config()).lease(cache.lease_of(plan)).token(claim.token());
            cache.answer(plan, cache.0.client.fetch(&fetch).await, ticket, claim).await
        };
        Self { reply: Some(asking.boxed()), tasks }
    }
}

impl Future for Asking {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(reply) = &mut self.reply else {
            return Poll::Ready(Answer::Not(Task::Alone(Error::NoLease)));
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
        if let (Some(reply), Ok(_within)) = (self.reply.take(), tokio::runtime::Handle::try_current()) {
            self.tasks.spawn(async move { drop(reply.await) });
        }
    }
}
