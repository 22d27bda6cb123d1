//! Asking the primaries for keys, and working on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::handlers::Handlers;
use super::phase::{Phase, reached};
use crate::Cache;
use crate::command::{Warm, WarmJob};
use crate::error::{Error, Result};
use crate::lease::Claim;
use crate::link::Route;
use crate::produce::Producer;
use crate::request::Request;
use crate::time::ROUND;

/// How soon a primary that could not be asked is asked again, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often is looked up which primaries there are.
const LOOK: Duration = Duration::from_secs(2);
/// So many keys are produced at most that were asked for at a time.
const MOST_AT_ONCE: usize = 100;
/// The server offers no more at a time.
const MOST_COUNT: usize = 1000;

/// What there is to do.
pub(super) struct Work {
    cache: Cache,
    handlers: Handlers,
    slots: Arc<Semaphore>,
    warm: Warm,
    /// Was it told that there are keys which nobody here makes?
    has_warned: AtomicBool,
}

impl Work {
    pub(super) fn new(cache: &Cache, handlers: Handlers, concurrency: usize, ahead: Option<Duration>) -> Self {
        let warm = Warm::new().types(handlers.types()).lease(cache.config().lease);
        let warm = ahead.into_iter().fold(warm, Warm::ahead);
        let (slots, has_warned) = (Arc::new(Semaphore::new(concurrency)), AtomicBool::new(false));
        Self { cache: cache.clone(), handlers, slots, warm, has_warned }
    }

    /// Has each primary asked, as long as it is one.
    pub(super) async fn follow(self: Arc<Self>, mut phase: watch::Receiver<Phase>) {
        self.warn_of_types(&mut phase).await;
        let mut asked: Vec<(Route, Arc<AtomicBool>)> = Vec::new();
        while !self.is_over(&phase) {
            match self.cache.client().nodes().await {
                Ok(nodes) => {
                    for (_, is_wanted) in asked.extract_if(.., |(node, _)| !nodes.contains(node)) {
                        is_wanted.store(false, Ordering::Release);
                    }
                    for node in nodes {
                        if asked.iter().all(|(known, _)| *known != node) {
                            let is_wanted = Arc::new(AtomicBool::new(true));
                            let asker = Arc::clone(&self).ask(node.clone(), Arc::clone(&is_wanted), phase.clone());
                            self.cache.0.askers.spawn(asker);
                            asked.push((node, is_wanted));
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "it is not known which primaries there are"),
            }
            self.rest(LOOK, &mut phase).await;
        }
    }

    /// Of types of which no keys are kept in mind there is nothing to be done, and nobody would say so.
    async fn warn_of_types(&self, phase: &mut watch::Receiver<Phase>) {
        let looking = async {
            for name in self.handlers.types() {
                let policy = self.cache.client().get_type(name).await;
                if policy.is_ok_and(|policy| policy.is_none_or(|policy| policy.warm.unwrap_or(0) == 0)) {
                    let name = name.escape_ascii();
                    tracing::warn!("no keys of the type {name} are kept in mind: EXPCACHE.TYPE SET {name} WARM n");
                }
            }
        };
        tokio::select! {
            () = looking => {}
            () = self.over(phase) => {}
        }
    }

    fn is_over(&self, phase: &watch::Receiver<Phase>) -> bool {
        *phase.borrow() >= Phase::Stopping || phase.has_changed().is_err() || *self.cache.0.closing.borrow()
    }

    /// Returns when that is so.
    async fn over(&self, phase: &mut watch::Receiver<Phase>) {
        let mut closing = self.cache.0.closing.subscribe();
        tokio::select! {
            () = reached(phase, Phase::Stopping) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }

    async fn rest(&self, time: Duration, phase: &mut watch::Receiver<Phase>) {
        let _ = tokio::time::timeout(time, self.over(phase)).await;
    }

    /// Asks a primary again and again.
    async fn ask(self: Arc<Self>, node: Route, is_wanted: Arc<AtomicBool>, mut phase: watch::Receiver<Phase>) {
        let (mut pause, mut left): (Option<Duration>, usize) = (None, 0);
        loop {
            let free = tokio::select! {
                free = Arc::clone(&self.slots).acquire_owned() => free,
                () = self.over(&mut phase) => return,
            };
            let Ok(free) = free else { return };
            if self.is_over(&phase) || !is_wanted.load(Ordering::Acquire) {
                return;
            }
            match self.ask_once(&node, free, left, &mut phase).await {
                Ok(now_left) => (pause, left) = (None, now_left),
                Err(error) => {
                    if pause.is_none() {
                        tracing::warn!(?node, %error, "no keys to be warmed can be had");
                    }
                    let next = pause.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1));
                    pause = Some(next);
                    self.rest(next.mul_f64(0.75 + fastrand::f64() / 2.0), &mut phase).await;
                }
            }
        }
    }

    /// Asks for as many keys as there are slots, and waits for one if there is none. Returns how many were left to others, as nobody
    /// here makes them: they are offered again, and are not to keep those from being offered that are worth less.
    ///
    /// What is asked for is waited for, also when it is time to stop: it may bring leases, whose tokens only the reply tells.
    async fn ask_once(
        self: &Arc<Self>,
        node: &Route,
        mut free: OwnedSemaphorePermit,
        left: usize,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<usize> {
        while free.num_permits() < MOST_AT_ONCE
            && let Ok(more) = Arc::clone(&self.slots).try_acquire_owned()
        {
            free.merge(more);
        }
        let count = (free.num_permits() + left).min(MOST_COUNT);
        let fetch = |count, wait| {
            let warm = self.warm.clone().count(count);
            async move { self.cache.client().warm_of(node, &warm, wait).await }
        };
        let jobs = fetch(count, Duration::ZERO).await?;
        if jobs.is_empty() {
            drop(free);
            return Ok(self.start_all(fetch(1, ROUND).await?, None, phase).await);
        }
        let all = jobs.len();
        let left = self.start_all(jobs, Some(free), phase).await;
        if left == all {
            self.rest(ROUND, phase).await;
        }
        Ok(left)
    }

    /// Works on keys as far as there are slots: these, or others that are free now. The leases of all others go back. Returns how many
    /// nobody here makes.
    async fn start_all(
        self: &Arc<Self>,
        jobs: Vec<WarmJob>,
        mut free: Option<OwnedSemaphorePermit>,
        phase: &watch::Receiver<Phase>,
    ) -> usize {
        // All are held before one is looked at.
        let claim = |job: WarmJob| {
            let (keeper, time) = (&self.cache.0.keeper, job.lease.unwrap_or(self.cache.config().lease));
            let claim = Claim::of_job(keeper, &job.key, job.token.clone()?, time);
            Some((job, Arc::new(claim)))
        };
        let claimed: Vec<_> = jobs.into_iter().filter_map(claim).collect();
        let mut left = 0;
        for (job, claim) in claimed {
            let planned = self.plan(&job).await;
            if self.is_over(phase) {
                break;
            }
            let Some(planned) = planned else {
                left += 1;
                continue;
            };
            let slot = match &mut free {
                Some(free) => free.split(1),
                None => Arc::clone(&self.slots).try_acquire_owned().ok(),
            };
            if let Some(slot) = slot {
                self.start(planned, claim, slot, phase.clone());
            }
        }
        left
    }

    async fn plan(self: &Arc<Self>, job: &WarmJob) -> Option<(Request, Producer)> {
        let (work, own) = (Arc::clone(self), job.clone());
        // In a task of its own, where a panic ends.
        let planning = tokio::spawn(async move { work.handlers.plan(&work.cache, &own) });
        let planned = planning.await.unwrap_or_else(|ended| Err(Error::of_producer(ended)));
        if let Err(error) = &planned {
            let key = job.key.escape_ascii();
            match self.has_warned.swap(true, Ordering::AcqRel) {
                false => {
                    tracing::warn!(%key, %error, "nobody here makes this key; it is left to others, as are further ones")
                }
                true => tracing::debug!(%key, %error, "nobody here makes this key"),
            }
        }
        planned.ok()
    }

    /// Works on a key.
    fn start(
        self: &Arc<Self>,
        (request, producer): (Request, Producer),
        claim: Arc<Claim>,
        slot: OwnedSemaphorePermit,
        mut phase: watch::Receiver<Phase>,
    ) {
        let work = Arc::clone(self);
        self.cache.0.tasks.spawn(async move {
            let key = || request.key().escape_ascii();
            let landed = tokio::select! {
                landed = work.cache.produce_under(&request, claim, producer, None) => landed,
                () = reached(&mut phase, Phase::Ended) => return,
            };
            match landed.result {
                Ok(served) => tracing::debug!(key = %key(), stored = ?served.stored(), "warmed"),
                Err(error) => tracing::warn!(key = %key(), %error, "not warmed"),
            }
            drop(slot);
        });
    }
}
