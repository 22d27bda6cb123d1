//! Lines, as a client gets them.

use expcache_core::audit::{Findings, LogLine};

use crate::server::replies::{Replies, Value};

/// A worker makes the reply of more lines than this.
const MANY: usize = 256;

/// Is it so much that the main thread had better not reply it?
pub fn is_large(found: &Findings) -> bool {
    found.count() > MANY
}

/// Replies with what was found.
pub fn reply(to: &Replies, found: &Findings) {
    to.reply_array(found.count());
    let mut lost = found.lost();
    for (id, line) in found.iter() {
        reply_line(to, id, &line, lost.take());
    }
}

fn reply_line(to: &Replies, id: u64, line: &LogLine<'_>, lost: Option<u64>) {
    let tags = |to: &Replies| {
        to.reply_array(line.tags.count());
        line.tags.for_each(|tag| to.reply_bytes(tag));
    };
    let fields = [
        ("id", Value::Count(id)),
        ("time", line.time_ms.into()),
        ("user", line.actor.user.into()),
        ("client", Some(line.actor.client).filter(|client| *client > 0).into()),
        ("name", line.actor.name.into()),
        ("command", line.command.into()),
        ("type", line.type_name.into()),
        ("key", line.key.into()),
        ("tags", Value::With(&tags)),
        ("count", line.count.into()),
        ("size", line.size.into()),
        ("result", line.result.into()),
        ("note", line.note.into()),
    ];
    to.reply_map(fields.len() + usize::from(lost.is_some()));
    fields.iter().for_each(|(name, value)| to.field(name, *value));
    if let Some(lost) = lost {
        to.field("lost", lost.into());
    }
}
