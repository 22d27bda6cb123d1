//! Diagnosis: commands that check whether index, keyspace and module agree.

mod check;
mod selftest;

use crate::server::feature::{Feature, NOTHING};

/// What diagnosis brings to the server.
pub const FEATURE: Feature = Feature { commands: &[check::DEBUG, selftest::SELFTEST], ..NOTHING };
