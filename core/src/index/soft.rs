//! STUB
use super::{Ids, Index};
use crate::entry::Entry;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Alive,
    Dead,
    Soft(Soft),
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soft {
    pub moment_ms: u64,
    pub grace_ms: u64,
}
impl Soft {
    pub fn end_ms(&self) -> u64 {
        self.moment_ms + self.grace_ms
    }
}
impl Index {
    pub fn fresh(&self, ids: &Ids, _now: u64) -> Ids {
        ids.clone()
    }
    pub fn soften(&mut self, ids: &Ids, _now: u64, _g: impl Fn(u16) -> u64) {
        self.kill(ids);
    }
    pub fn marked_len(&self) -> u64 {
        self.dead_len() + self.soft_len()
    }
    pub fn soft_len(&self) -> u64 {
        0
    }
    pub fn next_soft(&self) -> Option<(u32, &[u8], Soft)> {
        None
    }
    pub fn verdict(&self, entry: &Entry) -> Verdict {
        if self.is_dead(entry) { Verdict::Dead } else { Verdict::Alive }
    }
}
