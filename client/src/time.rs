//! Durations as the server and this process can take them.

use std::time::Duration;

/// How long a server is asked to wait at a time.
///
/// Only so many wait for a production at once, and the others come in turns; and what is under way is waited for before a program
/// ends.
pub(crate) const ROUND: Duration = Duration::from_secs(1);
/// A century. What is longer overflows clocks and is refused by the server, and nobody will see the difference.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// A lease that could not be renewed before it is over would be none.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

pub(crate) fn bounded(time: Duration) -> Duration {
    time.min(LONGEST)
}

pub(crate) fn lease(time: Duration) -> Duration {
    bounded(time).max(SHORTEST_LEASE)
}

/// In whole milliseconds, rounded up: what lasts at all does not become nothing.
pub(crate) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_millisecond_is_one() {
        let cases = [(0, 0), (1, 1), (900, 1), (1000, 1), (1001, 2)];
        for (micros, expected) in cases {
            assert_eq!(ms(Duration::from_micros(micros)), expected);
        }
        assert_eq!(ms(Duration::MAX), u64::MAX);
    }
}
