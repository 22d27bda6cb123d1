//! Early refresh: a client that reads a fresh entry near its end may be asked to produce the next value already.
//!
//! If everybody waits for the end, everybody finds the entry stale at once; if one asker at random does it before, and the
//! more likely the nearer the end is and the longer producing takes, the next value is mostly there in time. That is XFetch,
//! from A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015:
//!
//! ```text
//! due   when   -cost * beta * ln(u) >= fresh left,   u uniform in (0, 1],   beta = 1
//! ```
//!
//! so an asker with `left` ms to go is chosen with the probability `exp(-left / cost)`. Two things are added. It starts only
//! when `EARLY` percent of the lifetime have passed. And the cost counts as at least a tenth of the window from then to the
//! end, so an entry whose cost is unknown, or tiny, is refreshed before its end too if it is asked for: when the window opens
//! one asker in 22,000 is chosen, in its last tenth more than one in three.
//!
//! A chosen client still must get the lease, so one refresh runs at a time.

/// The share of the window that a cost counts as at least.
const LEAST_COST_SHARE: f64 = 0.1;

/// Is an entry to be refreshed before its end by this asker? `early_percent` and `lifetime_ms` are as the policy and the
/// entry have them (0: never, and without end), `fresh_left_ms` is what is left of the lifetime, `cost_ms` what producing
/// took if that is known, `random` any number.
pub fn is_due_early(
    early_percent: u8,
    lifetime_ms: u64,
    fresh_left_ms: u64,
    cost_ms: Option<u64>,
    random: u64,
) -> bool {
    if early_percent == 0 || lifetime_ms == 0 {
        return false;
    }
    let window = lifetime_ms as f64 * f64::from(100_u8.saturating_sub(early_percent)) / 100.0;
    let left = fresh_left_ms as f64;
    let cost = (cost_ms.unwrap_or(0) as f64).max(window * LEAST_COST_SHARE);
    left <= window && -cost * uniform(random).ln() >= left
}

/// A number in (0, 1], from the upper 53 bits.
fn uniform(random: u64) -> f64 {
    ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// The number from which `uniform` makes (nearly) this.
    fn random_for(u: f64) -> u64 {
        ((u * (1_u64 << 53) as f64) as u64 - 1) << 11
    }

    #[test]
    fn due_as_the_formula_says_and_never_before_the_window() {
        const LUCKIEST: f64 = 1.2e-16;
        for (early, lifetime, left, cost, u, due) in [
            (0, 1_000, 1, Some(1_000), LUCKIEST, false),    // not asked for
            (80, 0, 1, Some(1_000), LUCKIEST, false),       // without end
            (80, 1_000, 201, Some(9_999), LUCKIEST, false), // 79.9 % passed
            (80, 1_000, 200, Some(9_999), LUCKIEST, true),
            (80, 1_000, 5_000, Some(9_999), LUCKIEST, false), // an expiry put off by hand
            (80, 1_000, 100, Some(100), 0.36, true),          // exp(-1) = 0.3679
            (80, 1_000, 100, Some(100), 0.37, false),
            (80, 1_000, 200, Some(100), 0.135, true), // exp(-2) = 0.1353
            (80, 1_000, 200, Some(100), 0.136, false),
            (80, 1_000, 20, None, 0.36, true), // counts as 20 ms: a tenth of 200
            (80, 1_000, 20, None, 0.37, false),
            (80, 1_000, 20, Some(3), 0.36, true),
            (80, 1_000, 0, None, 1.0, true),
            (100, 1_000, 1, Some(9_999), LUCKIEST, false), // no window
            (100, 1_000, 0, None, 1.0, true),
            (255, 1_000, 1, None, LUCKIEST, false),
            (1, u64::MAX, u64::MAX / 2, Some(u64::MAX), 0.6, true),
        ] {
            let is_due = is_due_early(early, lifetime, left, cost, random_for(u));
            assert_eq!(is_due, due, "{early} % of {lifetime}, {left} left, cost {cost:?}, u {u}");
        }
        assert!(!is_due_early(80, 1_000, 1, None, u64::MAX), "the unluckiest");
        assert!(is_due_early(80, 1_000, 200, None, 0), "the luckiest");
    }

    #[test]
    fn the_chance_grows_towards_the_end_and_with_the_cost() {
        let chance = |left, cost| {
            let randoms = (0..10_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            randoms.filter(|random| is_due_early(50, 10_000, left, cost, *random)).count()
        };
        let by_left: Vec<usize> = [5_000, 2_000, 1_000, 500, 100, 0].map(|left| chance(left, None)).to_vec();
        assert!(by_left.is_sorted(), "{by_left:?}");
        assert!(by_left[0] < 100 && by_left[5] == 10_000, "{by_left:?}");
        let by_cost: Vec<usize> = [10, 500, 1_000, 5_000].map(|cost| chance(1_000, Some(cost))).to_vec();
        assert!(by_cost.is_sorted() && by_cost[0] < by_cost[2], "{by_cost:?}");
    }
}
