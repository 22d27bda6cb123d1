//! Which productions failed a moment ago, and for how long nobody is to try: longer each time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::sync::Cache;

use crate::error::Error;

/// How many keys are remembered.
const KEYS: u64 = 10_000;

pub(crate) struct Failures {
    first: Duration,
    longest: Duration,
    failed: Cache<Bytes, Failure>,
}

#[derive(Clone)]
struct Failure {
    times: u32,
    until: Instant,
    error: Error,
}

impl Failures {
    pub(crate) fn new((first, longest): (Duration, Duration)) -> Self {
        // A failure is forgotten when there was none for twice the longest pause.
        let failed = Cache::builder().max_capacity(KEYS).time_to_live(longest.saturating_mul(2)).build();
        Self { first, longest, failed }
    }

    /// Notes a failure; returns for how long nobody is to try.
    pub(crate) fn note(&self, key: &Bytes, error: &Error, now: Instant) -> Duration {
        let times = self.failed.get(key).map_or(0, |failure| failure.times);
        let pause = self.first.saturating_mul(1 << times.min(20)).min(self.longest);
        let failure = Failure { times: times.saturating_add(1), until: now + pause, error: error.clone() };
        self.failed.insert(key.clone(), failure);
        pause
    }

    /// The error of the last failure, while nobody is to try.
    pub(crate) fn present(&self, key: &Bytes, now: Instant) -> Option<Error> {
        self.failed.get(key).filter(|failure| now < failure.until).map(|failure| failure.error)
    }

    pub(crate) fn forget(&self, key: &Bytes) {
        self.failed.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_success() {
        let seconds = Duration::from_secs;
        let failures = Failures::new((seconds(1), seconds(5)));
        let (key, now, error) = (Bytes::from_static(b"k"), Instant::now(), Error::Timeout);
        let pauses: Vec<Duration> = (0..5).map(|_| failures.note(&key, &error, now)).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5].map(seconds));
        assert!(failures.present(&key, now + seconds(4)).is_some());
        assert!(failures.present(&key, now + seconds(5)).is_none());
        failures.forget(&key);
        assert!(failures.present(&key, now).is_none());
        assert_eq!(failures.note(&key, &error, now), seconds(1));
    }
}
