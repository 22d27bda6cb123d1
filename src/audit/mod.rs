//! The audit log: who did what on this node.
//!
//! ```text
//!  note ──▶ actor    who calls
//!       ──▶ log      the lines, and the settings
//!       ──▶ readers  clients that wait for lines ◀── command   EXPCACHE.AUDIT
//!                                                └─▶ reply     lines, as a client gets them
//! ```
//!
//! Every room says what it did, when it is done, in one line: [`note`]. What a type has recorded is up to its policy ([`Recorded`]).
//! A node logs what its own clients ask for. What comes over replication, or from a file, is in the log of the node that was asked.

mod actor;
mod command;
mod log;
mod note;
mod readers;
mod reply;

use expcache_core::stats::Gauges;

pub use self::actor::Caller;
pub use self::note::{OK, Recorded, caller, note, note_by, note_by_unknown, note_read};
use crate::server::context::Ctx;
use crate::server::feature::{Feature, NOTHING, ServerEvent};

/// What the log brings to the server.
pub const FEATURE: Feature = Feature {
    commands: &[command::AUDIT],
    settings: &[&log::AUDIT_MEMORY, &log::AUDIT_KEYS],
    on_server: Some(on_server),
    gauges: Some(gauges),
    ..NOTHING
};

fn on_server(_ctx: &Ctx, event: ServerEvent) {
    if event == ServerEvent::Beat {
        log::fit();
        actor::forget();
    }
}

fn gauges(gauges: &mut Gauges) {
    gauges.audit_bytes = log::size_bytes() as u64;
}
