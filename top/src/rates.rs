//! What happened between two looks, and the run of that over the last minutes.
//!
//! Time is the server's: the difference of `counting_seconds` belongs to the same moments as the counters, however long
//! the replies were under way. When counting began anew in between (`STATS RESET`, a restart), what was counted since is
//! all there is to say, and `counting_seconds` is how long that took.

use std::collections::{HashMap, VecDeque};

use expcache_core::stats::Counters;

use crate::source::Snapshot;

/// So many steps are remembered.
const REMEMBERED: usize = 600;

/// What was counted between two looks.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    seconds: f64,
    /// Of all types together.
    pub all: Counters,
    types: HashMap<String, Counters>,
}

impl Rates {
    /// What happened between two looks. `None` if no time passed.
    pub fn between(earlier: &Snapshot, later: &Snapshot) -> Option<Self> {
        let nothing = Snapshot::default();
        let earlier = if is_counted_anew(earlier, later) { &nothing } else { earlier };
        let passed_ms = later.gauges.counting_ms.saturating_sub(earlier.gauges.counting_ms);
        let before: HashMap<&str, &Counters> =
            earlier.types.iter().map(|(name, figures)| (name.as_str(), &figures.counters)).collect();
        let none = Counters::default();
        let of_type = |name: &str, now: &Counters| grown(now, before.get(name).copied().unwrap_or(&none));
        (passed_ms > 0).then(|| Self {
            seconds: passed_ms as f64 / 1000.0,
            all: grown(&later.all.counters, &earlier.all.counters),
            types: later.types.iter().map(|(name, now)| (name.clone(), of_type(name, &now.counters))).collect(),
        })
    }

    /// A count of this step, a second.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }

    /// What was counted of a type.
    pub fn of_type(&self, name: &str) -> Counters {
        self.types.get(name).cloned().unwrap_or_default()
    }
}

fn is_counted_anew(earlier: &Snapshot, later: &Snapshot) -> bool {
    earlier.server.run_id != later.server.run_id || later.gauges.counting_ms < earlier.gauges.counting_ms
}

/// By how much counters have grown. What is taken back (an entry thought to be invalidated had expired) is no growth.
fn grown(now: &Counters, before: &Counters) -> Counters {
    let mut values = now.values();
    values.iter_mut().zip(before.values()).for_each(|(value, before)| *value = value.saturating_sub(before));
    Counters::from_values(values)
}

/// The last steps, the newest first.
#[derive(Debug, Default)]
pub struct History(VecDeque<Rates>);

impl History {
    /// Adds a step.
    pub fn push(&mut self, rates: Rates) {
        self.0.push_front(rates);
        self.0.truncate(REMEMBERED);
    }

    /// The newest step.
    pub fn newest(&self) -> Option<&Rates> {
        self.0.front()
    }

    /// A count's run, thousandths a second, the newest first.
    pub fn run(&self, count: impl Fn(&Counters) -> u64, steps: usize) -> Vec<u64> {
        self.0.iter().take(steps).map(|rates| (rates.per_second(count(&rates.all)) * 1000.0).round() as u64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Figures;

    fn seen(run_id: &str, counting_ms: u64, hits: u64) -> Snapshot {
        let mut seen = Snapshot::default();
        seen.server.run_id = run_id.into();
        seen.gauges.counting_ms = counting_ms;
        seen.all.counters.hits = hits;
        seen.types
            .push(("t".into(), Figures { counters: Counters { hits, ..Counters::default() }, ..Figures::default() }));
        seen
    }

    #[test]
    fn rates_are_what_was_counted_by_the_servers_time() {
        // earlier, later → hits a second
        let cases = [
            (seen("a", 1000, 10), seen("a", 3000, 30), Some(10.0)),
            (seen("a", 1000, 10), seen("a", 1000, 10), None), // no time passed
            (seen("a", 9000, 90), seen("a", 500, 4), Some(8.0)), // reset in between
            (seen("a", 1000, 10), seen("b", 4000, 40), Some(10.0)), // another process, counting for longer by now
            (seen("a", 1000, 10), seen("a", 2000, 8), Some(0.0)), // taken back
        ];
        for (earlier, later, expected) in cases {
            let rates = Rates::between(&earlier, &later);
            let hits = rates.as_ref().map(|rates| rates.per_second(rates.all.hits));
            assert_eq!(hits, expected, "{} to {}", earlier.gauges.counting_ms, later.gauges.counting_ms);
            let of_type = rates.map(|rates| rates.per_second(rates.of_type("t").hits));
            assert_eq!(of_type, expected);
        }
    }

    #[test]
    fn a_new_type_has_counted_from_nothing() {
        let (mut earlier, later) = (seen("a", 1000, 10), seen("a", 2000, 12));
        earlier.types.clear();
        assert_eq!(Rates::between(&earlier, &later).unwrap().of_type("t").hits, 12);
    }

    #[test]
    fn the_newest_comes_first_and_the_oldest_is_forgotten() {
        let mut history = History::default();
        for step in 0..REMEMBERED as u64 + 5 {
            history.push(Rates::between(&seen("a", step * 1000, 0), &seen("a", step * 1000 + 500, step)).unwrap());
        }
        assert_eq!(history.run(|all| all.hits, 2), [604 * 2000, 603 * 2000]);
        assert_eq!(history.run(|all| all.hits, 1000).len(), REMEMBERED);
    }
}
