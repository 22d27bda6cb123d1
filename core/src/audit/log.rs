//! The lines, one behind the other, in segments of one size. When all segments are full the oldest is written over, with all its
//! lines: so a line takes no memory of its own, and changing how many segments there may be moves no byte.
//!
//! Lines are numbered without a gap. The first number of a log is given, and is to be greater than any that a log before it gave:
//! so a reader sees by the numbers what it missed, also over a restart.

use std::collections::VecDeque;

use super::line::{self, Action, Actor};

const SEGMENT_BYTES: usize = 64 << 10;
/// The oldest makes room while the newest is written, so one alone would often be almost empty.
const LEAST_SEGMENTS: usize = 2;

struct Segment {
    bytes: Box<[u8]>,
    /// So many of them are lines.
    used: usize,
    /// The number of its first line.
    first_id: u64,
}

/// See the head.
pub struct AuditLog {
    segments: VecDeque<Segment>,
    /// So many segments may be there.
    most: usize,
    /// The number of the first line ever.
    first_id: u64,
    /// The number that the next line gets.
    next_id: u64,
}

impl AuditLog {
    /// A log without memory, whose first line gets this number.
    pub fn new(first_id: u64) -> Self {
        Self { segments: VecDeque::new(), most: 0, first_id, next_id: first_id }
    }

    /// Bounds its memory. Returns what it gives up, oldest lines first, for somebody to free.
    pub fn resize(&mut self, bytes: usize) -> Vec<Box<[u8]>> {
        self.most = if bytes == 0 { 0 } else { (bytes / SEGMENT_BYTES).max(LEAST_SEGMENTS) };
        let too_many = self.segments.len().saturating_sub(self.most);
        self.segments.drain(..too_many).map(|segment| segment.bytes).collect()
    }

    /// Adds a line. Without memory there is none, and no number is taken.
    pub fn push(&mut self, time_ms: u64, actor: &Actor<'_>, action: &Action<'_>) {
        if self.most > 0 && !self.append(time_ms, actor, action) {
            self.turn();
            self.append(time_ms, actor, action);
        }
    }

    fn append(&mut self, time_ms: u64, actor: &Actor<'_>, action: &Action<'_>) -> bool {
        let Some(last) = self.segments.back_mut() else { return false };
        let room = last.bytes.get_mut(last.used..).unwrap_or_default();
        let Some(written) = line::write(room, time_ms, actor, action) else { return false };
        last.used += written;
        self.next_id += 1;
        true
    }

    /// Begins a segment, in the place of the oldest if there are as many as there may be.
    fn turn(&mut self) {
        let is_full = self.segments.len() >= self.most;
        let oldest = if is_full { self.segments.pop_front() } else { None };
        let bytes = oldest.map_or_else(|| vec![0; SEGMENT_BYTES].into_boxed_slice(), |segment| segment.bytes);
        self.segments.push_back(Segment { bytes, used: 0, first_id: self.next_id });
    }

    /// The number of the first line that there ever was.
    pub fn first_id(&self) -> u64 {
        self.first_id
    }

    /// The number of the oldest line; without any, of the next one.
    pub fn oldest_id(&self) -> u64 {
        self.segments.front().map_or(self.next_id, |segment| segment.first_id)
    }

    /// The number that the next line gets.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Bytes of memory that it takes.
    pub fn size_bytes(&self) -> usize {
        self.segments.len() * SEGMENT_BYTES
    }

    /// The lines from a number on as they are kept, each with its number. Looking for the first takes no longer than a segment has
    /// lines.
    pub fn lines_from(&self, id: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let before = self.segments.partition_point(|segment| segment.first_id <= id);
        let segments = self.segments.range(before.saturating_sub(1)..);
        segments.flat_map(Segment::lines).skip_while(move |(at, _)| *at < id)
    }
}

impl Segment {
    fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = self.bytes.get(..self.used).unwrap_or_default();
        let lines = std::iter::from_fn(move || {
            let (line, after) = rest.split_at_checked(line::len(rest)?)?;
            rest = after;
            Some(line)
        });
        (self.first_id..).zip(lines)
    }
}
