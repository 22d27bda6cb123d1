//! In which hours of the day, and on which days of the week, a key is asked for: sixteen bytes.
//!
//! ```text
//!  bits 0–95    four for each hour of the day: the last of its days first, 1 where the key was asked for in that hour
//!  bits 96–123  four for each day of the week, likewise
//!  bits 124–127 for how many days it is known, up to fifteen
//! ```
//!
//! It is moved on lazily, when somebody asks. Hours are those of UTC.

const HOURS: u64 = 24;
const WEEKDAYS: u64 = 7;
/// Days, or weeks, that are remembered of each.
const KEPT: u32 = 4;
const MOST_DAYS: u128 = 15;
const WEEKDAYS_FROM: u32 = 4 * HOURS as u32;
const DAYS_FROM: u32 = WEEKDAYS_FROM + 4 * WEEKDAYS as u32;
/// So many days tell something.
const TELLING: u32 = 2;
/// A clock that is set back by less than this many hours is let catch up.
const SET_BACK: u64 = 48;

/// Ms in an hour.
pub const HOUR_MS: u64 = 3_600_000;

/// See the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    bits: [u8; 16],
}

/// What hour it is, since 1970.
pub fn hour(unix_ms: u64) -> u32 {
    u32::try_from(unix_ms / HOUR_MS).unwrap_or(u32::MAX)
}

fn of_hour(hour: u64) -> u32 {
    (hour % HOURS) as u32 * KEPT
}

fn of_weekday(day: u64) -> u32 {
    WEEKDAYS_FROM + (day % WEEKDAYS) as u32 * KEPT
}

impl Default for Pattern {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Pattern {
    fn of(bits: u128) -> Self {
        Self { bits: bits.to_le_bytes() }
    }

    fn all(self) -> u128 {
        u128::from_le_bytes(self.bits)
    }

    fn days(self) -> u32 {
        (self.all() >> DAYS_FROM) as u32
    }

    fn four(self, from: u32) -> u32 {
        (self.all() >> from) as u32 & 15
    }

    /// Moves on from the hour that it is at to another, in which the key was not asked for yet.
    pub fn moved(self, from: u32, to: u32) -> Self {
        let (from, to) = (u64::from(from), u64::from(to));
        let mut bits = self.all();
        let mut shift = |at: u32| {
            let four = bits >> at & 15;
            bits = bits & !(15 << at) | (four << 1 & 15) << at;
        };
        // Whatever is older is forgotten.
        let past = |kept: u64| from.max(to.saturating_sub(kept)) + 1..=to;
        past(HOURS * u64::from(KEPT)).for_each(|hour| shift(of_hour(hour)));
        let (first, last) = (from / HOURS, to / HOURS);
        let past = first.max(last.saturating_sub(WEEKDAYS * u64::from(KEPT))) + 1..=last;
        past.for_each(|day| shift(of_weekday(day)));
        let days = (bits >> DAYS_FROM).saturating_add(u128::from(last.saturating_sub(first))).min(MOST_DAYS);
        Self::of(bits & !(15 << DAYS_FROM) | days << DAYS_FROM)
    }

    /// Notes that the key is asked for in the hour that it is at.
    pub fn note(&mut self, hour: u32) {
        let hour = u64::from(hour);
        *self = Self::of(self.all() | 1 << of_hour(hour) | 1 << of_weekday(hour / HOURS));
    }

    /// Is a day of the week one on which the key is never asked for?
    fn is_idle(self, day: u64) -> bool {
        self.days() >= WEEKDAYS as u32 && self.four(of_weekday(day)) == 0
    }

    /// Is it to be expected that the key is asked for in an hour, to which this was moved on? In how many of the matching hours of the last
    /// days was it: matching are those of days on which it is asked for at all.
    pub fn share(self, hour: u32) -> f64 {
        let hour = u64::from(hour);
        let (known, day) = (self.days().min(KEPT - 1), hour / HOURS);
        if known < TELLING || self.is_idle_but_for_today(day) {
            return 0.0;
        }
        let four = self.four(of_hour(hour));
        let matching = || (1..=known).filter(|back| !self.is_idle(day.saturating_sub(u64::from(*back))));
        let asked = matching().filter(|back| four >> back & 1 != 0).count();
        if asked == 0 { 0.0 } else { asked as f64 / matching().count() as f64 }
    }

    /// As [`Pattern::is_idle`], for the day that has begun: what was asked for on it says nothing of the others.
    fn is_idle_but_for_today(self, day: u64) -> bool {
        self.days() >= WEEKDAYS as u32 && self.four(of_weekday(day)) >> 1 == 0
    }
}

/// The hour that a pattern is at when it is asked at another: a clock that was set back is let catch up, or begun with anew.
pub fn at_hour(pattern_hour: u32, now_hour: u32) -> u32 {
    let is_far = u64::from(pattern_hour) > u64::from(now_hour) + SET_BACK;
    if is_far { now_hour } else { pattern_hour.max(now_hour) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Monday.
    const MONDAY: u32 = 24 * 4;

    /// Asked for in these hours; what is expected of an hour.
    fn share(asked: impl IntoIterator<Item = u32>, hour: u32) -> f64 {
        let (mut pattern, mut at) = (Pattern::default(), MONDAY);
        for one in asked {
            pattern = pattern.moved(at, one);
            pattern.note(one);
            at = one;
        }
        pattern.moved(at, hour).share(hour)
    }

    #[test]
    fn what_is_asked_for_each_day_at_eight_is_expected_then() {
        let at_eight = |days: u32| (0..days).map(|day| MONDAY + 24 * day + 8);
        assert_eq!(share(at_eight(5), MONDAY + 24 * 5 + 8), 1.0);
        assert_eq!(share(at_eight(5), MONDAY + 24 * 5 + 9), 0.0);
        assert_eq!(share(at_eight(1), MONDAY + 24 + 8), 0.0, "once is no pattern");
        assert_eq!(share(at_eight(2), MONDAY + 24 * 2 + 8), 1.0);
        assert_eq!(share(at_eight(3).filter(|hour| *hour != MONDAY + 24 + 8), MONDAY + 24 * 3 + 8), 2.0 / 3.0);
        assert_eq!(share(at_eight(5), MONDAY + 24 * 50 + 8), 0.0, "long ago");
    }

    #[test]
    fn working_days_are_told_from_weekends() {
        let working = |days: u32| (0..days).filter(|day| day % 7 < 5).map(|day| MONDAY + 24 * day + 8);
        for day in 14..21 {
            let expected = if day % 7 < 5 { 1.0 } else { 0.0 };
            assert_eq!(share(working(day), MONDAY + 24 * day + 8), expected, "day {day}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_is_let_catch_up() {
        assert_eq!((at_hour(10, 12), at_hour(12, 10), at_hour(100, 12)), (12, 12, 12));
        assert_eq!(size_of::<Pattern>(), 16);
    }
}
