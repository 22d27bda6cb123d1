//! Keys that are being produced, as far as known.
//!
//! A job is a lease, and whoever keeps the leases tells of their ends. Some ends nobody tells: a key that backs off is free again once an
//! invalidation meant it, and a server that changes its role gives up all leases. Then the jobs are *doubted*: looked at, some at a time.

use super::keeper::Keeper;
use super::known::{Job, Now, Slot};
use crate::lease::Token;

/// So many slots are looked through at a time for jobs that are doubted.
const LOOKED_THROUGH: usize = 1024;

impl Keeper {
    /// A value was produced by the holder of a lease. Was that because the key was offered?
    pub fn is_job(&self, key: &[u8], token: Token) -> bool {
        let known = self.find(key).and_then(|slot| self.get(slot));
        known.and_then(|known| known.job.as_ref()?.token.as_deref()).is_some_and(|own| *own == token)
    }

    /// A key is being produced, by somebody who was offered it or by another; look again at that time, steady ms.
    pub fn start_job(&mut self, slot: Slot, until_ms: u64, token: Option<Token>) {
        self.end_job(slot);
        if self.get(slot).is_some() {
            // What was invalidated before must not end the job later.
            let is_invalidated = self.take_untold(slot);
            self.change(slot, |known| {
                known.job = Some(Job { until_ms, token: token.map(Box::new) });
                if is_invalidated {
                    (known.is_lapsed, known.is_resting) = (true, false);
                }
            });
            self.jobs.insert((until_ms, slot));
        }
    }

    /// A key is not being produced any more.
    pub fn end_job(&mut self, slot: Slot) {
        if let Some(job) = self.get_mut(slot).and_then(|known| known.job.take()) {
            self.jobs.remove(&(job.until_ms, slot));
        }
        self.refile(slot);
    }

    /// Anybody may produce a key again. Is it due?
    pub fn freed(&mut self, key: &[u8]) -> bool {
        let Some(slot) = self.find(key) else { return false };
        self.end_job(slot);
        self.get(slot).is_some_and(|known| known.is_due)
    }

    /// A key goes on being produced; look again at that time, steady ms.
    pub fn prolong_job(&mut self, slot: Slot, until_ms: u64) {
        let Some(job) = self.get_mut(slot).and_then(|known| known.job.as_mut()) else { return };
        let old = std::mem::replace(&mut job.until_ms, until_ms);
        self.jobs.remove(&(old, slot));
        self.jobs.insert((until_ms, slot));
    }

    /// Something may have ended jobs, and nobody tells which.
    pub fn doubt_jobs(&mut self) {
        self.doubted = if self.jobs.is_empty() { 0 } else { self.known.len() };
    }

    /// Some jobs that are to be looked at: those whose time is over, and those that are doubted, in turns.
    pub fn some_jobs(&mut self, most: usize, now: Now) -> Vec<Slot> {
        let over = self.jobs.range(..=(now.steady_ms, Slot::MAX)).take(most);
        let mut jobs: Vec<Slot> = over.map(|(_, slot)| *slot).collect();
        for _ in 0..LOOKED_THROUGH.min(self.doubted) {
            if jobs.len() >= most {
                break;
            }
            self.doubted -= 1;
            self.next_doubted = (self.next_doubted + 1) % self.known.len().max(1);
            let job = self.known.get(self.next_doubted).and_then(Option::as_deref).and_then(|known| known.job.as_ref());
            let slot =
                Slot::try_from(self.next_doubted).ok().filter(|_| job.is_some_and(|job| job.until_ms > now.steady_ms));
            jobs.extend(slot);
        }
        jobs
    }
}
