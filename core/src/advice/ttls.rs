//! The lifetimes that are tried, and moments.

/// How many lifetimes are tried.
pub const TTLS: usize = 24;

const SECOND: u32 = 10;
const MINUTE: u32 = 60 * SECOND;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

/// The lifetimes that are tried, about evenly spaced on a logarithmic scale, in tenths of a second. They are such as people choose.
pub(super) const TICKS: [u32; TTLS] = [
    10 * SECOND,
    15 * SECOND,
    25 * SECOND,
    40 * SECOND,
    MINUTE,
    90 * SECOND,
    150 * SECOND,
    4 * MINUTE,
    6 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    HOUR,
    90 * MINUTE,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    12 * HOUR,
    18 * HOUR,
    DAY,
    2 * DAY,
    3 * DAY,
];

/// Ms in a tick.
const TICK_MS: u64 = 100;
/// What is never younger than any lifetime: so 0 says "never".
const START: u32 = 3 * DAY;

/// A moment, in tenths of a second; 0: never. Enough for thirteen years.
pub type Moment = u32;

/// The moment of a clock that nobody sets, in ms since the start.
pub fn moment(steady_ms: u64) -> Moment {
    u32::try_from(steady_ms / TICK_MS).unwrap_or(u32::MAX).saturating_add(START)
}

/// A lifetime that is tried, in ms.
pub fn ttl_ms(at: usize) -> u64 {
    TICKS.get(at).copied().map_or(0, |ticks| u64::from(ticks) * TICK_MS)
}

/// So many ticks, in ms.
pub(super) fn in_ms(ticks: f64) -> f64 {
    ticks * TICK_MS as f64
}

/// A day, in ticks.
pub(super) const A_DAY: u32 = DAY;
/// The longest lifetime that is tried.
pub(super) const LONGEST: u32 = 3 * DAY;
/// Ticks in a minute.
pub(super) const A_MINUTE: f64 = MINUTE as f64;
/// Ticks in an hour.
pub(super) const AN_HOUR: f64 = HOUR as f64;

/// What a figure that is known for each lifetime is at another: between two of them it goes straight on the logarithmic scale.
pub fn at(figures: &[f64; TTLS], ms: f64) -> f64 {
    let mut before: Option<(f64, f64)> = None;
    for (ticks, figure) in TICKS.into_iter().zip(figures) {
        let here = in_ms(f64::from(ticks));
        if ms <= here {
            let Some((below, lower)) = before else { return *figure };
            let share = (ms / below).ln() / (here / below).ln();
            return lower + (figure - lower) * share;
        }
        before = Some((here, *figure));
    }
    before.map_or(0.0, |(_, last)| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_goes_straight_between_two_lifetimes() {
        let mut figures = [0.0; TTLS];
        figures.iter_mut().enumerate().for_each(|(at, figure)| *figure = at as f64);
        assert_eq!(at(&figures, 1.0), 0.0);
        assert_eq!(at(&figures, 15_000.0), 1.0);
        assert_eq!(at(&figures, 1e12), 23.0);
        let middle = (10_000.0f64 * 15_000.0).sqrt();
        assert!((at(&figures, middle) - 0.5).abs() < 1e-9);
        assert!(TICKS.is_sorted() && TICKS.last() == Some(&LONGEST) && ttl_ms(13) == 3_600_000);
    }
}
