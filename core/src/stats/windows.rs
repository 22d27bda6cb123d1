//! Counters of the last minutes, hours and days.
//!
//! Nothing here is on the way of a hit: counters only grow, and when a minute turns what they grew by is put down. Sixty such
//! minutes also make an hour and 24 hours a day, so a window of any length is a few sums: the minutes up to the next full hour,
//! the hours up to the next full day, days, and the hours and minutes since.
//!
//! ```text
//!   now - window           full hour                          full day       now
//!        |-minutes-minutes-|----- hours ----- hours -----|------ day ------|- hours, minutes, what is new -|
//! ```
//!
//! Minutes are those of a clock that nobody sets, counted from its beginning. A window begins with the minute (beyond
//! 24 hours, with the hour) that it reaches into: it is at most that much longer than it was asked for. A minute in which nothing
//! was counted takes no room, another some twenty bytes.

use std::collections::VecDeque;

use super::Counters;

/// Ms of a minute; everything else is in minutes.
const MINUTE_MS: u64 = 60_000;
const HOUR: u64 = 60;
const DAY: u64 = 24 * HOUR;
/// The longest window: 30 days, in minutes.
pub const LONGEST: u64 = 30 * DAY;

/// The first minute of the window that reaches so far back; both in ms.
pub fn start(now_ms: u64, back_ms: u64) -> u64 {
    let start = now_ms.saturating_sub(back_ms) / MINUTE_MS;
    if back_ms > DAY * MINUTE_MS { start / HOUR * HOUR } else { start }
}

/// The windows of a set of counters.
#[derive(Debug)]
pub struct Windows {
    minutes: Ring,
    hours: Ring,
    days: Ring,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Windows {
    /// Those of counters that are zero, from this minute on.
    pub fn new(now_minute: u64) -> Self {
        Self {
            minutes: Ring::new(1, DAY + 1, now_minute),
            hours: Ring::new(HOUR, LONGEST / HOUR + 1, now_minute),
            days: Ring::new(DAY, LONGEST / DAY + 1, now_minute),
        }
    }

    /// Notes that it is this minute; `total` is what the counters say.
    pub fn turn(&mut self, now_minute: u64, total: &Counters) {
        for ring in [&mut self.minutes, &mut self.hours, &mut self.days] {
            ring.turn(now_minute, total);
        }
    }

    /// What was counted from the beginning of this minute on. It was [turned](Windows::turn) to the present one.
    pub fn since(&self, start: u64, total: &Counters) -> Counters {
        let mut sum = self.minutes.running(total);
        let mut at = start;
        while at < self.minutes.now() {
            // The largest steps that start here, as many as there are up to where larger ones start.
            let (ring, end) = if at.is_multiple_of(DAY) && at < self.days.now() {
                (&self.days, self.days.now())
            } else if at.is_multiple_of(HOUR) && at < self.hours.now() {
                (&self.hours, next(at, DAY).min(self.hours.now()))
            } else {
                (&self.minutes, next(at, HOUR).min(self.minutes.now()))
            };
            ring.add(at, end, &mut sum);
            at = end;
        }
        Counters::from_values(sum)
    }

    /// Bytes of memory that they take.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.minutes.heap_bytes() + self.hours.heap_bytes() + self.days.heap_bytes()
    }
}

fn next(at: u64, step: u64) -> u64 {
    (at / step + 1) * step
}

type Values = [u64; Counters::METRICS.len()];

/// What was counted in each step of a length, as far back as so many steps.
#[derive(Debug)]
struct Ring {
    step: u64,
    keep: u64,
    /// The running step.
    slot: u64,
    /// What the counters said when it began.
    base: Counters,
    slots: VecDeque<Slot>,
    /// Of each slot the counters that moved, one after the other: which, and by how much.
    bytes: VecDeque<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: u32,
    len: u32,
}

impl Ring {
    fn new(step: u64, keep: u64, now_minute: u64) -> Self {
        let (slots, bytes) = (VecDeque::new(), VecDeque::new());
        Self { step, keep, slot: now_minute / step, base: Counters::default(), slots, bytes }
    }

    /// The minute with which the running step began.
    fn now(&self) -> u64 {
        self.slot * self.step
    }

    fn turn(&mut self, now_minute: u64, total: &Counters) {
        let slot = now_minute / self.step;
        if slot <= self.slot {
            return;
        }
        let before = self.bytes.len();
        for (which, moved) in (0u8..).zip(total.since(&self.base).values()).filter(|(_, moved)| *moved != 0) {
            self.bytes.push_back(which);
            put(&mut self.bytes, moved.cast_signed());
        }
        if self.bytes.len() > before {
            self.slots.push_back(Slot { number: self.slot as u32, len: (self.bytes.len() - before) as u32 });
            self.base = total.clone();
        }
        self.slot = slot;
        while let Some(old) = self.slots.front().filter(|oldest| u64::from(oldest.number) + self.keep < slot) {
            self.bytes.drain(..old.len as usize);
            self.slots.pop_front();
        }
    }

    /// What the counters moved by in the running step.
    fn running(&self, total: &Counters) -> Values {
        total.since(&self.base).values()
    }

    /// Adds what was counted from one minute to another, both the beginnings of steps.
    fn add(&self, from: u64, to: u64, sum: &mut Values) {
        let wanted = from / self.step..to / self.step;
        let mut end = self.bytes.len();
        for slot in self.slots.iter().rev() {
            let (start, number) = (end - slot.len as usize, u64::from(slot.number));
            if number < wanted.start {
                break;
            }
            if number < wanted.end {
                let mut bytes = self.bytes.range(start..end).copied();
                while let Some(which) = bytes.next() {
                    let moved = take(&mut bytes).cast_unsigned();
                    sum.get_mut(usize::from(which)).into_iter().for_each(|value| *value = value.wrapping_add(moved));
                }
            }
            end = start;
        }
    }

    fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.bytes.capacity()
    }
}

/// Writes a number in as few bytes as it takes, seven bits each; small negative ones are short as well.
fn put(bytes: &mut VecDeque<u8>, number: i64) {
    let mut left = (number << 1 ^ number >> 63).cast_unsigned();
    while left > 0x7f {
        bytes.push_back(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push_back(left as u8);
}

fn take(bytes: &mut impl Iterator<Item = u8>) -> i64 {
    let (mut number, mut shift) = (0u64, 0);
    for byte in bytes {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 || shift > 63 {
            break;
        }
    }
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [0, 1, -1, 63, 64, -64, 1 << 40, i64::MAX, i64::MIN];
        let mut bytes = VecDeque::new();
        numbers.iter().for_each(|number| put(&mut bytes, *number));
        let mut bytes = bytes.into_iter();
        for number in numbers {
            assert_eq!(take(&mut bytes), number);
        }
        assert_eq!(bytes.next(), None);
    }

    #[test]
    fn a_window_begins_with_the_minute_or_the_hour_that_it_reaches_into() {
        for (now, second, back_ms, first) in [
            (100, 0, 1, 99),
            (100, 58, 1, 100),
            (100, 58, 58_000, 100),
            (100, 58, 58_001, 99),
            (100, 0, MINUTE_MS, 99),
            (100, 0, MINUTE_MS + 1, 98),
            (100, 0, 500 * MINUTE_MS, 0),
            (5000, 0, 1440 * MINUTE_MS, 3560),
            (5000, 0, 1441 * MINUTE_MS, 3540),
            (LONGEST + 90, 0, LONGEST * MINUTE_MS, 60),
        ] {
            assert_eq!(start(now * MINUTE_MS + second * 1000, back_ms), first, "{now} {second} {back_ms}");
        }
    }

    /// Counters move at random, with long silences; every window is compared with what really happened.
    #[test]
    fn every_window_is_what_was_counted_in_it() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut random = |bound: u64| rng.u64(..bound);
        let (mut total, mut story) = (Counters::default(), Vec::new());
        let mut now = 1000;
        let mut windows = Windows::new(now);
        for round in 0..6000 {
            now += match random(40) {
                0 => random(3 * DAY),
                1..20 => 1,
                _ => 0,
            };
            windows.turn(now, &total);
            let (hits, saved) = (random(3), random(2) * random(1 << 34));
            total.hits += hits;
            total.saved_ms += saved;
            // Sometimes a step down.
            let back = u64::from(total.invalidated > 0 && random(3) == 0);
            total.invalidated = total.invalidated + random(2) - back;
            story.push((now, total.clone()));
            if round % 50 != 0 {
                continue;
            }
            for back_ms in [1, 60_000, 600_000, 7_200_000, 86_400_000, 90_000_000, 86_400_000 * 3, LONGEST * 60_000] {
                let first = start(now * MINUTE_MS + random(MINUTE_MS), back_ms);
                let before = story.partition_point(|(minute, _)| *minute < first);
                let before = before.checked_sub(1).and_then(|at| story.get(at)).map(|(_, total)| total.clone());
                let expected = total.since(&before.unwrap_or_default());
                assert_eq!(windows.since(first, &total), expected, "{back_ms} ms before minute {now}");
            }
        }
        assert!(now > 2 * LONGEST, "what is old was forgotten meanwhile");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut total, mut windows) = (Counters::default(), Windows::new(0));
        for minute in 1..2 * LONGEST {
            total = Counters::from_values(total.values().map(|value| value + 1_000_000));
            windows.turn(minute, &total);
        }
        assert!(windows.size_bytes() < 400_000, "{}", windows.size_bytes());
        let (mut total, mut windows) = (Counters::default(), Windows::new(0));
        for minute in 1..2 * DAY {
            (total.hits, total.misses, total.misses_cold) = (minute * 1000, minute, minute);
            (total.sets, total.invalidated) = (minute * 9, minute * 7);
            windows.turn(minute, &total);
        }
        assert!(windows.size_bytes() < 80_000, "{}", windows.size_bytes());
    }
}
