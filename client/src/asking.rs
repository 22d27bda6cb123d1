//! Asking for an entry, and for the lease to make the next: what there is, and what is left to do.
//!
//! Whoever asks has made up the token by which the lease is his, so it can be given back although nobody heard whether it was
//! granted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::Cache;
use crate::command::{Fetched, Fetching, Release};
use crate::error::{Error, Result};
use crate::lease::{Claim, token};
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
        let plan = &request.0;
        let near = self.0.near.ticket(&plan.key);
        let (fetched, token) = Asking::new(self, plan).await;
        let lease = match &fetched {
            // As nearly always: then no claim is made.
            Ok(fetched) if fetched.lease.is_none() => None,
            fetched => granted(fetched, self.claim(plan, token)),
        };
        self.answer(plan, fetched, near, lease).await
    }

    /// Asks, and waits while another produces: so long at most, and so long at most until there is a connection to wait with.
    pub(crate) async fn ask_and_wait(&self, plan: &RequestPlan, wait: Duration, queue: Duration) -> Answer {
        let (near, claim) = (self.0.near.ticket(&plan.key), self.claim(plan, token()));
        let fetch = plan.fetch(self.config()).lease(self.lease_of(plan)).token(claim.token());
        let fetched = self.0.client.fetch(&fetch.wait(wait).queue(queue)).await;
        let lease = granted(&fetched, claim);
        self.answer(plan, fetched, near, lease).await
    }

    async fn answer(
        &self,
        plan: &RequestPlan,
        fetched: Result<Fetched>,
        near: Option<Ticket>,
        lease: Option<Arc<Claim>>,
    ) -> Answer {
        let mut fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return Answer::Not(Task::Alone(error)),
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

    pub(crate) fn claim(&self, plan: &RequestPlan, token: String) -> Claim {
        Claim::new(&self.0.keeper, &plan.key, token, self.lease_of(plan))
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

/// The lease, if it was granted. If that is not known, it is given back.
fn granted(fetched: &Result<Fetched>, claim: Claim) -> Option<Arc<Claim>> {
    match fetched {
        Ok(fetched) if fetched.lease.is_some() => return Some(Arc::new(claim)),
        Ok(_) => claim.settle(),
        Err(error) => claim.settle_unless_lost(error),
    }
    None
}

/// `FETCH … LEASE`. If its caller is dropped before the reply is here (a web client that hung up), the reply may hand out a
/// lease that nobody would use: so it is awaited elsewhere, and the lease given back.
struct Asking<'a> {
    cache: &'a Cache,
    plan: &'a RequestPlan,
    /// The reply, and the token of the lease.
    waiting: Option<(Fetching, String)>,
}

impl<'a> Asking<'a> {
    fn new(cache: &'a Cache, plan: &'a RequestPlan) -> Self {
        let token = token();
        let fetch = plan.fetch(cache.config()).lease(cache.lease_of(plan)).token(token.as_str());
        Self { cache, plan, waiting: Some((cache.0.client.fetching(&fetch), token)) }
    }
}

impl Future for Asking<'_> {
    type Output = (Result<Fetched>, String);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((mut reply, token)) = self.waiting.take() else { return Poll::Pending };
        match reply.poll_unpin(context) {
            Poll::Ready(fetched) => Poll::Ready((fetched, token)),
            Poll::Pending => {
                self.waiting = Some((reply, token));
                Poll::Pending
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Some((reply, token)) = self.waiting.take() else { return };
        let claim = self.cache.claim(self.plan, token);
        // Without a runtime nobody hears of it, and it is given back.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.cache.0.tasks.spawn(async move { drop(granted(&reply.await, claim)) });
        }
    }
}
