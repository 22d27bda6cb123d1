//! The circuit breaker: a server that failed several times in a row is left alone for a moment, and then tried by one command
//! while the others go on without it. So a dead server costs callers nothing but the first few timeouts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::lock::locked;

#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    pause: Duration,
    /// It did not fail last. Then there is nothing to be looked up, and nothing to be changed by one more success.
    is_well: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when nobody is let through, and why; `None` while the circuit is closed.
    open: Option<(Instant, Arc<Error>)>,
}

impl Breaker {
    pub(crate) fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, pause, is_well: AtomicBool::new(true), state: Mutex::default() }
    }

    /// Whether anybody is allowed.
    pub(crate) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Acquire)
    }

    /// Whether a command may be sent now; if not, how the last one failed. Whoever comes first after the pause is the one to try,
    /// and the next pause begins.
    pub(crate) fn allows(&self, now: Instant) -> Result<(), Arc<Error>> {
        match &mut locked(&self.state).open {
            Some((until, why)) if now < *until => Err(Arc::clone(why)),
            Some((until, _)) => {
                *until = now + self.jittered();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether that has closed the circuit.
    pub(crate) fn succeeded(&self) -> bool {
        if self.is_well() {
            return false;
        }
        let mut state = locked(&self.state);
        self.is_well.store(true, Ordering::Release);
        std::mem::take(&mut *state).open.is_some()
    }

    /// Whether that has opened the circuit.
    pub(crate) fn failed(&self, now: Instant, why: &Error) -> bool {
        let mut state = locked(&self.state);
        self.is_well.store(false, Ordering::Release);
        state.failures = state.failures.saturating_add(1);
        if self.limit == 0 || state.failures < self.limit {
            return false;
        }
        state.open.replace((now + self.jittered(), Arc::new(why.clone()))).is_none()
    }

    /// So that many processes do not all try at the same moment.
    fn jittered(&self) -> Duration {
        self.pause.mul_f64(0.75 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_a_success() {
        let (breaker, start) = (Breaker::new(2, PAUSE), Instant::now());
        assert!(!breaker.failed(start, &Error::Timeout));
        assert!(!breaker.succeeded());
        assert!(!breaker.failed(start, &Error::Timeout));
        assert!(breaker.allows(start).is_ok(), "failures were not in a row");
        assert!(breaker.failed(start, &Error::Timeout), "it opens");
        assert!(!breaker.failed(start, &Error::NoModule), "it is open");
        assert!(matches!(*breaker.allows(start).unwrap_err(), Error::NoModule));
        assert!(breaker.allows(start + PAUSE / 2).is_err());

        let later = start + PAUSE * 2;
        assert!(breaker.allows(later).is_ok(), "one may try");
        assert!(breaker.allows(later).is_err(), "and only one");
        assert!(breaker.succeeded(), "it closes");
        assert!(breaker.allows(later).is_ok());
    }

    #[test]
    fn without_a_limit_it_never_opens() {
        let (breaker, start) = (Breaker::new(0, PAUSE), Instant::now());
        assert!((0..100).all(|_| !breaker.failed(start, &Error::Timeout)));
        assert!(breaker.allows(start).is_ok());
    }
}
