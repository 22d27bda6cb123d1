//! A feature is all that a room brings to the server, in one literal: `Feature { commands: …, ..NOTHING }`. `lib.rs` lists the features in the order in
//! which they react.

use std::sync::OnceLock;

use expcache_core::stats::Gauges;

use super::args::Arg;
use super::command::Row;
use super::context::Ctx;
use super::datatype::ValueHooks;
use super::guard::guard;
use super::info::Report;
use super::saving::Saves;
use super::setting::Setting;
use super::word::Word;

/// All that a room brings.
pub struct Feature {
    /// Its commands.
    pub commands: &'static [Row],
    /// Its settings.
    pub settings: &'static [&'static Setting],
    /// What it replies often.
    pub words: &'static [&'static [Word]],
    /// Reacts to an event of a key of any type.
    pub on_key: Option<fn(&Ctx, KeyEvent, Arg<'_>)>,
    /// Reacts to a native value that was written, while somebody [watches](super::events::watch_writes).
    pub on_write: Option<fn(&Ctx, WriteEvent, Arg<'_>)>,
    /// Reacts to an event of the server.
    pub on_server: Option<fn(&Ctx, ServerEvent)>,
    /// Reacts to a key of that database of which anybody may produce the next value again: its lease ended without one and is nobody else's, or
    /// it does not back off any more.
    pub on_freed: Option<fn(&Ctx, i32, &[u8])>,
    /// Fills in the figures that it knows.
    pub gauges: Option<fn(&mut Gauges)>,
    /// Answers the data type's questions. One room does.
    pub value: Option<&'static ValueHooks>,
    /// Saves data beside the keys.
    pub saves: Option<&'static Saves>,
    /// Writes the section of `INFO`. One room does.
    pub info: Option<fn(&Report)>,
}

/// A feature to start from.
pub const NOTHING: Feature = Feature {
    commands: &[],
    settings: &[],
    words: &[],
    on_key: None,
    on_write: None,
    on_server: None,
    on_freed: None,
    gauges: None,
    value: None,
    saves: None,
    info: None,
};

/// An event of a key, which may be of any type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KeyEvent {
    /// A client restored it.
    Restored,
    /// It was loaded.
    Loaded,
    /// It was renamed or moved to, or copied to.
    Arrived,
    /// It goes on under another name or in another database.
    Left,
    /// Its expiry was set or taken away.
    Redated,
    /// A command deleted it.
    Deleted,
    /// Its time was over.
    Expired,
    /// It made room.
    Evicted,
}

/// What happened to a native value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WriteEvent {
    /// A command changed it.
    Changed,
    /// The time of a part of it was over: of a field of a hash. Whoever found that out may only have looked at it.
    PartExpired,
}

/// An event of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    /// A database, or all, is emptied at once. The values are not freed yet.
    Flushed(Option<i32>),
    /// Two databases were exchanged.
    Swapped(i32, i32),
    /// Loading begins.
    LoadingStarted,
    /// Loading ended well.
    Loaded,
    /// A child that saves was born.
    Forked,
    /// The server became a master, or a replica.
    RoleChanged,
    /// The server's clock beat: ten times a second or so.
    Beat,
}

static ALL: OnceLock<Vec<&'static Feature>> = OnceLock::new();

/// Notes all features. Called when the module is loaded.
pub(super) fn set_all(features: Vec<&'static Feature>) {
    let _ = ALL.set(features);
}

/// Tells every feature of a key that [was freed](Feature::on_freed).
pub fn freed(ctx: &Ctx, db: i32, key: &[u8]) {
    let reactions = ALL.get().into_iter().flatten().filter_map(|feature| feature.on_freed);
    reactions.for_each(|react| guard((), || react(ctx, db, key)));
}

/// Has every feature fill in the figures that it knows.
pub fn gauges(gauges: &mut Gauges) {
    ALL.get().into_iter().flatten().filter_map(|feature| feature.gauges).for_each(|fill| fill(gauges));
}
