//! What the screen shows and how it is shown: everything that [`crate::screen`] draws from.

use std::time::Duration;

use expcache_core::stats::By;

use crate::rates::{History, Rates};
use crate::source::Snapshot;

/// Between looks lies one of these.
const INTERVALS_MS: [u64; 10] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000];

fn intervals() -> impl DoubleEndedIterator<Item = Duration> {
    INTERVALS_MS.into_iter().map(Duration::from_millis)
}

/// How often the server is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub interval: Duration,
    pub is_paused: bool,
    /// Is advice wanted? It takes the server some time.
    pub is_advised: bool,
}

impl Pace {
    /// The next longer interval.
    fn slower(&mut self) {
        self.interval = intervals().find(|pace| *pace > self.interval).unwrap_or(self.interval);
    }

    /// The next shorter interval.
    fn faster(&mut self) {
        self.interval = intervals().rfind(|pace| *pace < self.interval).unwrap_or(self.interval);
    }
}

/// What a key press asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Quit,
    NextOrder,
    PreviousOrder,
    Slower,
    Faster,
    Pause,
    Advice,
    Help,
}

/// All that is shown.
pub struct View {
    /// The server's address.
    pub address: String,
    /// The newest look.
    pub now: Option<Snapshot>,
    pub history: History,
    /// The order of the first entries.
    pub by: By,
    pub pace: Pace,
    /// Why the last look failed.
    pub lost: Option<String>,
    pub is_helping: bool,
    pub has_colours: bool,
}

impl View {
    /// Before the first look.
    pub fn new(address: String, interval: Duration, has_colours: bool) -> Self {
        Self {
            address,
            now: None,
            history: History::default(),
            by: By::Hits,
            pace: Pace { interval, is_paused: false, is_advised: false },
            lost: None,
            is_helping: false,
            has_colours,
        }
    }

    /// Takes in what a look brought. After a failure the last one that brought something stays to be seen.
    pub fn take(&mut self, looked: Result<Snapshot, String>) {
        match looked {
            Ok(now) => {
                let rates = self.now.as_ref().and_then(|before| Rates::between(before, &now));
                rates.into_iter().for_each(|rates| self.history.push(rates));
                self.now = Some(now);
                self.lost = None;
            }
            Err(why) => self.lost = Some(why),
        }
    }

    /// Does what is asked for; to quit is not its business.
    pub fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::NextOrder => self.turn(1),
            Wish::PreviousOrder => self.turn(By::ALL.len() - 1),
            Wish::Slower => self.pace.slower(),
            Wish::Faster => self.pace.faster(),
            Wish::Pause => self.pace.is_paused = !self.pace.is_paused,
            Wish::Advice => self.pace.is_advised = !self.pace.is_advised,
            Wish::Help => self.is_helping = !self.is_helping,
            Wish::Quit => {}
        }
    }

    fn turn(&mut self, steps: usize) {
        let at = By::ALL.iter().position(|by| *by == self.by).unwrap_or(0);
        self.by = By::ALL.into_iter().cycle().nth(at + steps).unwrap_or(self.by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(interval_ms: u64) -> View {
        View::new(String::new(), Duration::from_millis(interval_ms), true)
    }

    #[test]
    fn orders_go_round_in_both_directions() {
        let mut view = new(1);
        let mut order_after = |wish| {
            view.grant(wish);
            view.by
        };
        let seen = [Wish::NextOrder, Wish::PreviousOrder, Wish::PreviousOrder, Wish::NextOrder].map(&mut order_after);
        assert_eq!(seen, [By::Size, By::Hits, By::Saved, By::Hits]);
    }

    #[test]
    fn the_interval_keeps_to_its_bounds() {
        let mut view = new(1500);
        view.grant(Wish::Slower);
        assert_eq!(view.pace.interval, Duration::from_millis(2000));
        (0..20).for_each(|_| view.grant(Wish::Slower));
        assert_eq!(view.pace.interval, Duration::from_secs(300));
        (0..20).for_each(|_| view.grant(Wish::Faster));
        assert_eq!(view.pace.interval, Duration::from_millis(100));
    }

    #[test]
    fn a_failure_leaves_what_was_seen() {
        let mut view = new(1);
        view.take(Ok(Snapshot::default()));
        view.take(Err("gone".into()));
        assert!(view.now.is_some() && view.lost.as_deref() == Some("gone"));
        view.take(Ok(Snapshot::default()));
        assert_eq!(view.lost, None);
    }
}
