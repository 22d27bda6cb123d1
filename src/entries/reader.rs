//! Who reads, and what is put on record of it.

use expcache_core::audit::Action;

use super::look::HIT;
use super::reply::Status;
use crate::audit::{self, Caller, Recorded};
use crate::server::context::Ctx;

/// The command that says it.
pub const NAME: &str = "expcache.fetch";

/// Who asks, for the record.
#[derive(Clone, Copy, Default)]
pub struct Reader<'a> {
    /// The person, or the reason, as the client says.
    pub note: Option<&'a [u8]>,
    /// `None`: the client whose command is running, or being answered.
    pub caller: Option<&'a Caller>,
}

/// A [`Reader`] that is kept while others work.
pub struct KeptReader {
    note: Option<Box<[u8]>>,
    caller: Caller,
}

impl Reader<'_> {
    /// It, for later.
    pub fn keep(self, ctx: &Ctx) -> KeptReader {
        let caller = self.caller.map_or_else(|| Caller::of(ctx), Caller::clone);
        KeptReader { note: self.note.map(Into::into), caller }
    }
}

impl KeptReader {
    /// Who it is.
    pub fn reader(&self) -> Reader<'_> {
        Reader { note: self.note.as_deref(), caller: Some(&self.caller) }
    }
}

/// A read of a type whose reads are put on record.
pub struct ReadRecord {
    /// Its type.
    pub recorded: Recorded,
    /// What was found.
    pub status: Status,
    /// Bytes of the payload that are handed out.
    pub size: usize,
}

/// Puts a read on record that handed something out.
pub fn note_found(ctx: &Ctx, read: Option<&ReadRecord>, key: &[u8], reader: Reader<'_>) {
    if let Some(ReadRecord { recorded, status, size }) = read {
        let result = if *status == Status::Stale { status.text() } else { HIT };
        note(ctx, Some(recorded), key, result, Some(*size), reader);
    }
}

/// Puts a read on record.
pub fn note(
    ctx: &Ctx,
    recorded: Option<&Recorded>,
    key: &[u8],
    result: &[u8],
    size: Option<usize>,
    reader: Reader<'_>,
) {
    if let Some(recorded) = recorded {
        let (type_name, key, size) = (Some(recorded.name()), Some(key), size.map(|size| size as u64));
        let action = Action { command: NAME, type_name, key, size, result, note: reader.note, ..audit::OK };
        audit::note_read(ctx, reader.caller, &action);
    }
}
