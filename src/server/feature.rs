//! What a room brings to the server, in one literal: `Feature { commands: …, ..NOTHING }`.

use super::command::Row;
use super::setting::Setting;

/// What a room brings.
pub struct Feature {
    /// Its commands.
    pub commands: &'static [Row],
    /// Its settings.
    pub settings: &'static [&'static Setting],
}

/// A feature to start from.
pub const NOTHING: Feature = Feature { commands: &[], settings: &[] };
