//! The circuit breaker: a server that failed several times in a row is left alone for a moment, and then tried by one command
//! while the others go on without it. So a dead server costs callers nothing but the first few timeouts.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::locked;

#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when nobody is let through; `None` while the circuit is closed.
    open_until: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, pause, state: Mutex::default() }
    }

    /// Whether a command may be sent now. Whoever comes first after the pause is the one to try, and the next pause begins.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut state = locked(&self.state);
        match state.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + self.jittered());
                true
            }
        }
    }

    pub(crate) fn succeeded(&self) {
        *locked(&self.state) = State::default();
    }

    pub(crate) fn failed(&self, now: Instant) {
        let mut state = locked(&self.state);
        state.failures = state.failures.saturating_add(1);
        if self.limit > 0 && state.failures >= self.limit {
            state.open_until = Some(now + self.jittered());
        }
    }

    /// So that many processes do not all try at the same moment.
    fn jittered(&self) -> Duration {
        self.pause.mul_f64(0.75 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_a_success() {
        let (breaker, start) = (Breaker::new(2, PAUSE), Instant::now());
        breaker.failed(start);
        breaker.succeeded();
        breaker.failed(start);
        assert!(breaker.allows(start), "failures were not in a row");
        breaker.failed(start);
        assert!(!breaker.allows(start));
        assert!(!breaker.allows(start + PAUSE / 2));

        let later = start + PAUSE * 2;
        assert!(breaker.allows(later), "one may try");
        assert!(!breaker.allows(later), "and only one");
        breaker.succeeded();
        assert!(breaker.allows(later));
    }

    #[test]
    fn without_a_limit_it_never_opens() {
        let (breaker, start) = (Breaker::new(0, PAUSE), Instant::now());
        (0..100).for_each(|_| breaker.failed(start));
        assert!(breaker.allows(start));
    }
}
