//! A queue in which small work goes before large work, and large work waits no longer than is fair.
//!
//! Each piece of work has a cost, and is to have as much done for it as every other at the same time, as if all of them went on together:
//! so it ends when as much was done, divided by how many there were to share it, as it costs. That is the order in which
//! they are begun. Small work need not wait for large that came before, and a stream of small work does not keep large work
//! waiting for ever.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// See the module's head.
pub struct Fair<T> {
    heap: BinaryHeap<Waiting<T>>,
    /// What each of those that were there from the beginning on has had its share of.
    share: u64,
    /// How many have come.
    count: u64,
}

/// A piece of work, ordered by when it is to end; of equals the first comes first.
struct Waiting<T> {
    end: Reverse<(u64, u64)>,
    cost: u64,
    work: T,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), share: 0, count: 0 }
    }
}

impl<T> Fair<T> {
    /// One more piece of work of that cost.
    pub fn push(&mut self, cost: u64, work: T) {
        self.count += 1;
        let end = Reverse((self.share.saturating_add(cost), self.count));
        self.heap.push(Waiting { end, cost, work });
    }

    /// The one that is to be begun next.
    pub fn pop(&mut self) -> Option<T> {
        let sharers = self.heap.len() as u64;
        let Waiting { cost, work, .. } = self.heap.pop()?;
        self.share = self.share.saturating_add(cost / sharers);
        Some(work)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Does none?
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.end == other.end
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.end.cmp(&other.end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::Fair;

    #[test]
    fn equals_come_in_their_order() {
        let mut fair = Fair::default();
        (0..5).for_each(|n| fair.push(10, n));
        assert_eq!(std::iter::from_fn(|| fair.pop()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_is_small_goes_before_what_is_large() {
        let mut fair = Fair::default();
        (0..6).for_each(|_| fair.push(1_000_000, "large"));
        for _ in 0..3 {
            assert_eq!(fair.pop(), Some("large"));
            fair.push(100, "small");
            assert_eq!(fair.pop(), Some("small"));
        }
    }

    #[test]
    fn what_is_large_has_its_turn_among_any_number_of_small() {
        let mut fair = Fair::default();
        fair.push(1_000, "large");
        let before = (0..10_000).take_while(|_| {
            (0..3).for_each(|_| fair.push(10, "small"));
            (0..3).all(|_| fair.pop().unwrap() == "small")
        });
        // It shares with three: four times its cost, and no more.
        assert!(before.count() <= 4_000 / 30 + 1);
    }
}
