//! Reading the log: what is wanted of it, how far the reader has come, and what it found.
//!
//! A reader may want few lines of many, so it goes on in steps. What it found is copied: the log may write over it meanwhile.

use super::line::{LogLine, len};
use super::log::AuditLog;
use crate::grammar::audit::After;

/// One answer has no more bytes of lines; a reader asks for the others behind it.
const MOST_BYTES: usize = 4 << 20;

/// What is wanted of the log.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Lines behind this place; `None`: all.
    pub after: Option<After>,
    /// So many at most.
    pub count: usize,
    /// Of this type only.
    pub type_name: Option<Box<[u8]>>,
    /// Of this user only.
    pub user: Option<Box<[u8]>>,
}

impl Wanted {
    fn matches(&self, line: &LogLine<'_>) -> bool {
        let is = |wanted: &Option<Box<[u8]>>, there: Option<&[u8]>| wanted.is_none() || wanted.as_deref() == there;
        is(&self.type_name, line.type_name) && is(&self.user, line.actor.user)
    }

    fn is_picky(&self) -> bool {
        self.type_name.is_some() || self.user.is_some()
    }
}

/// A reader's way through the log.
pub struct Reading {
    wanted: Wanted,
    next_id: u64,
    found: Findings,
}

/// How far a reader has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has all that one answer holds.
    Full,
    /// It has seen the newest line.
    AtEnd,
    /// There is more to look at.
    Between,
}

/// Lines that a reader found.
#[derive(Default)]
pub struct Findings {
    /// Each with its number before it, in eight bytes.
    bytes: Vec<u8>,
    count: usize,
    lost: Option<u64>,
}

impl Reading {
    /// Begins where it is wanted.
    pub fn new(log: &AuditLog, wanted: Wanted) -> Self {
        let (oldest, next) = (log.oldest_id(), log.next_id());
        let from = match wanted.after {
            None => oldest,
            Some(After::Last(lines)) => next.saturating_sub(lines),
            // A number that this log never gave is another's: of before a restart, with a clock that was set back since.
            Some(After::Id(after)) if after >= next => log.first_id(),
            Some(After::Id(after)) => (after + 1).max(log.first_id()),
        };
        let knows_more = matches!(wanted.after, Some(After::Id(after)) if after >= next || after + 1 < oldest);
        let lost = knows_more.then(|| oldest - from.min(oldest));
        Self { wanted, next_id: from.max(oldest), found: Findings { lost, ..Findings::default() } }
    }

    /// Looks at so many lines.
    pub fn step(&mut self, log: &AuditLog, most: usize) -> Progress {
        let gap = log.oldest_id().saturating_sub(self.next_id);
        if gap > 0 {
            if !self.found.is_empty() {
                return Progress::Full;
            }
            self.found.lost = Some(self.found.lost.unwrap_or(0) + gap);
            self.next_id += gap;
        }
        for (id, bytes) in log.lines_from(self.next_id).take(most) {
            let is_wanted =
                !self.wanted.is_picky() || LogLine::read(bytes).is_some_and(|line| self.wanted.matches(&line));
            if is_wanted && !self.found.add(id, bytes) {
                return Progress::Full;
            }
            self.next_id = id + 1;
            if self.found.count >= self.wanted.count {
                return Progress::Full;
            }
        }
        if self.next_id == log.next_id() { Progress::AtEnd } else { Progress::Between }
    }

    /// What it has found so far.
    pub fn found(&self) -> &Findings {
        &self.found
    }

    /// What it has found.
    pub fn into_found(self) -> Findings {
        self.found
    }
}

impl Findings {
    /// Adds a line, if there is room for it.
    fn add(&mut self, id: u64, line: &[u8]) -> bool {
        let has_room = self.count == 0 || self.bytes.len() + line.len() <= MOST_BYTES;
        if !has_room || self.bytes.try_reserve(8 + line.len()).is_err() {
            return false;
        }
        self.bytes.extend_from_slice(&id.to_le_bytes());
        self.bytes.extend_from_slice(line);
        self.count += 1;
        true
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many bytes they take.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many lines between the place behind which the reader began and the first of these the log wrote over; `None`: it begins
    /// where the reader knows the line before.
    pub fn lost(&self) -> Option<u64> {
        self.lost
    }

    /// The lines with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, LogLine<'_>)> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (id, lines) = rest.split_first_chunk()?;
            let (line, after) = lines.split_at_checked(len(lines)?)?;
            rest = after;
            Some((u64::from_le_bytes(*id), LogLine::read(line)?))
        })
    }
}
