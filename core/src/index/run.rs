//! A short list of rising numbers.
//!
//! Each is kept as its difference from the one before, seven bits a byte (LEB128), so what lies close together takes one
//! or two bytes. A few bytes stand in place, more in a block of the size that is needed. Looking something up means
//! reading from the start, which is why a run has an end: whoever has more numbers keeps several runs.

use std::ops::Range;

/// The longest run, in bytes.
const FULL: usize = 128;
/// So many bytes need no block; with the length and the kind this fills 24 bytes.
const INLINE: usize = 22;
/// The most bytes of one number.
const LONGEST: usize = 5;

/// See the module's head.
pub(super) enum Run {
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    /// Never empty. `last` is the last number, because most numbers come in rising order.
    Heap {
        len: u16,
        last: u32,
        bytes: Box<[u8]>,
    },
}

impl Default for Run {
    fn default() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE] }
    }
}

impl FromIterator<u32> for Run {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut run = Self::default();
        for number in numbers {
            run.insert(number);
        }
        run
    }
}

impl Run {
    /// `false` when it was there already. Must not be called when the run is full.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let spot = match self.last() {
            Some(last) if last < number => Spot { bytes: self.len_bytes()..self.len_bytes(), before: last, here: None },
            _ => self.find(number),
        };
        match spot.here {
            Some(here) if here == number => return false,
            Some(here) => self.replace(spot.bytes, [Some(number - spot.before), Some(here - number)]),
            None => {
                self.replace(spot.bytes, [Some(number - spot.before), None]);
                self.set_last(number);
            }
        }
        true
    }

    /// `false` when it was not there.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let Spot { bytes, before, here } = self.find(number);
        if here != Some(number) {
            return false;
        }
        let mut rest = Numbers { bytes: self.bytes().get(bytes.end..).unwrap_or_default(), before: number };
        if let Some(next) = rest.next() {
            let end = self.len_bytes() - rest.bytes.len();
            self.replace(bytes.start..end, [Some(next - before), None]);
        } else {
            self.replace(bytes, [None; 2]);
            self.set_last(before);
        }
        true
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.find(number).here == Some(number)
    }

    pub(super) fn iter(&self) -> Numbers<'_> {
        Numbers { bytes: self.bytes(), before: 0 }
    }

    /// The largest number.
    pub(super) fn last(&self) -> Option<u32> {
        match self {
            Self::Inline { .. } => self.iter().last(),
            Self::Heap { last, .. } => Some(*last),
        }
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.bytes().iter().filter(|byte| **byte < 0x80).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Is there perhaps no room for another number?
    pub(super) fn is_full(&self) -> bool {
        self.len_bytes() + LONGEST > FULL
    }

    /// Does it take less than half of what it may together with another?
    pub(super) fn is_small_beside(&self, other: &Self) -> bool {
        self.len_bytes() + other.len_bytes() < FULL / 2
    }

    /// Takes the upper half of the numbers out.
    pub(super) fn split(&mut self) -> Self {
        let half = self.len() / 2;
        let upper = self.iter().skip(half).collect();
        *self = self.iter().take(half).collect();
        upper
    }

    fn find(&self, number: u32) -> Spot {
        let bytes = self.bytes();
        let Passed { mut at, mut sum, mut shift } = pass(bytes, number);
        for byte in bytes.get(at..).unwrap_or_default() {
            let more = u32::from(byte & 0x7F) << shift;
            if sum + more >= number {
                break;
            }
            sum += more;
            shift = if *byte < 0x80 { 0 } else { shift + 7 };
            at += 1;
        }
        // Back to the start of the number in which the sum was reached.
        let start = at - shift / 7;
        let begun = bytes.get(start..at).unwrap_or_default();
        let before = sum - begun.iter().rev().fold(0, |high, byte| high << 7 | u32::from(byte & 0x7F));
        let mut rest = Numbers { bytes: bytes.get(start..).unwrap_or_default(), before };
        let here = rest.next();
        Spot { bytes: start..bytes.len() - rest.bytes.len(), before, here }
    }

    fn bytes(&self) -> &[u8] {
        let (bytes, len) = match self {
            Self::Inline { len, bytes } => (bytes.as_slice(), usize::from(*len)),
            Self::Heap { len, bytes, .. } => (&**bytes, usize::from(*len)),
        };
        bytes.get(..len).unwrap_or_default()
    }

    fn len_bytes(&self) -> usize {
        match self {
            Self::Inline { len, .. } => usize::from(*len),
            Self::Heap { len, .. } => usize::from(*len),
        }
    }

    fn set_last(&mut self, number: u32) {
        if let Self::Heap { last, .. } = self {
            *last = number;
        }
    }

    /// Writes the differences in the place of the bytes in a range.
    fn replace(&mut self, range: Range<usize>, differences: [Option<u32>; 2]) {
        let mut digits = Digits::default();
        differences.into_iter().flatten().for_each(|difference| digits.push(difference));
        let (new, old_len) = (digits.bytes(), self.len_bytes());
        let len = old_len - range.len() + new.len();
        if len > old_len {
            self.fit(len);
        }
        let (room, len_slot): (&mut [u8], _) = match self {
            Self::Inline { len, bytes } => (bytes, Ok(len)),
            Self::Heap { len, bytes, .. } => (bytes, Err(len)),
        };
        room.copy_within(range.end..old_len, range.start + new.len());
        room.iter_mut().skip(range.start).zip(new).for_each(|(slot, digit)| *slot = *digit);
        match len_slot {
            Ok(slot) => *slot = len as u8,
            Err(slot) => *slot = len as u16,
        }
        if len < old_len {
            self.fit(len);
        }
    }

    /// Makes room for so many bytes, and gives room back that is much too large.
    fn fit(&mut self, len: usize) {
        let capacity = match self {
            Self::Inline { .. } => INLINE,
            Self::Heap { bytes, .. } => bytes.len(),
        };
        if len <= capacity && (capacity <= INLINE || len * 2 > capacity) {
            return;
        }
        let last = self.last().unwrap_or_default();
        if len <= INLINE {
            let mut bytes = [0; INLINE];
            bytes.iter_mut().zip(self.bytes()).for_each(|(to, from)| *to = *from);
            *self = Self::Inline { len: len as u8, bytes };
            return;
        }
        // As allocators round up anyway.
        let capacity = len.next_multiple_of(16);
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(self.bytes());
        let used = bytes.len() as u16;
        bytes.resize(capacity, 0);
        *self = Self::Heap { len: used, last, bytes: bytes.into_boxed_slice() };
    }
}

/// How far reading has come: so many bytes, which add up to so much, and by how much to shift the next one's bits.
#[derive(Default)]
struct Passed {
    at: usize,
    sum: u32,
    shift: usize,
}

/// Reads eight bytes at a time while they add up to less than `number`. Adding up needs no borders between numbers, only
/// what is a second byte: it counts 128-fold.
fn pass(bytes: &[u8], number: u32) -> Passed {
    const GOES_ON: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut passed = Passed::default();
    let mut carry = 0;
    for eight in bytes.as_chunks().0 {
        let word = u64::from_le_bytes(*eight);
        let goes_on = word & GOES_ON;
        let is_second = goes_on << 8 | carry;
        if goes_on & is_second != 0 {
            break; // A number of three bytes or more: one by one from here.
        }
        let seconds = (is_second >> 7) * 0x7F;
        let sum = passed.sum + sum_bytes(word & !GOES_ON & !seconds) + (sum_bytes(word & seconds) << 7);
        if sum >= number {
            break;
        }
        carry = goes_on >> 56;
        passed = Passed { at: passed.at + 8, sum, shift: if carry == 0 { 0 } else { 7 } };
    }
    passed
}

/// The sum of eight bytes.
fn sum_bytes(word: u64) -> u32 {
    const EVERY_OTHER: u64 = u64::from_le_bytes([0xFF, 0, 0xFF, 0, 0xFF, 0, 0xFF, 0]);
    let pairs = (word & EVERY_OTHER) + (word >> 8 & EVERY_OTHER);
    (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as u32
}

/// Where a number is, or would be.
struct Spot {
    /// The bytes of the first number that is not below it.
    bytes: Range<usize>,
    /// The number before that, or 0.
    before: u32,
    /// That number.
    here: Option<u32>,
}

/// The numbers of a run, rising.
pub(super) struct Numbers<'r> {
    bytes: &'r [u8],
    before: u32,
}

impl Iterator for Numbers<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (mut difference, mut shift) = (0, 0);
        loop {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            difference |= u32::from(byte & 0x7F) << shift;
            if *byte < 0x80 {
                break;
            }
            shift += 7;
        }
        self.before += difference;
        Some(self.before)
    }
}

/// The bytes of at most two differences.
#[derive(Default)]
struct Digits {
    bytes: [u8; 2 * LONGEST],
    len: usize,
}

impl Digits {
    fn push(&mut self, mut difference: u32) {
        while let Some(slot) = self.bytes.get_mut(self.len) {
            self.len += 1;
            *slot = difference as u8 & 0x7F;
            difference >>= 7;
            if difference == 0 {
                return;
            }
            *slot |= 0x80;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_come_back_in_order() {
        let numbers = [0, 1, 127, 128, 129, 16_511, 16_512, 1 << 21, 1 << 28, u32::MAX - 1, u32::MAX];
        for order in [|n: usize| n, |n| 10 - n, |n| n * 7 % 11] {
            let mut run = Run::default();
            for at in 0..11 {
                assert!(run.insert(numbers[order(at)]) && !run.insert(numbers[order(at)]));
            }
            assert!(run.iter().eq(numbers));
            assert_eq!((run.len(), run.last()), (11, Some(u32::MAX)));
            for at in 0..11 {
                assert!(run.contains(numbers[order(at)]));
                assert!(run.remove(numbers[order(at)]) && !run.remove(numbers[order(at)]));
                assert_eq!(run.last(), run.iter().last());
            }
            assert!(run.is_empty());
        }
    }

    #[test]
    fn it_takes_24_bytes_and_what_its_numbers_need() {
        assert_eq!(size_of::<Run>(), 24);
        let ten: Run = (1..=10).map(|n| n * 10_000).collect();
        assert!(matches!(ten, Run::Inline { len: 20, .. }), "two bytes each, being 10,000 apart");
        let mut many = Run::default();
        while !many.is_full() {
            many.insert(many.last().unwrap_or_default() + 100);
        }
        assert!(matches!(&many, Run::Heap { bytes, .. } if bytes.len() == FULL));
        let upper = many.split();
        assert_eq!((many.len(), upper.len(), many.last()), (62, 62, Some(6200)));
        assert!(matches!(&many, Run::Heap { bytes, .. } if bytes.len() == FULL / 2));
        for number in many.iter().skip(3).collect::<Vec<u32>>() {
            many.remove(number);
        }
        assert!(matches!(many, Run::Inline { len: 3, .. }) && many.iter().eq([100, 200, 300]));
    }
}
