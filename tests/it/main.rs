//! The module in real servers, as a user meets it: one file for each subject, all in one binary, so that the harness is
//! compiled once. `cargo test --test it lease::` runs one file's tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod harness;
mod large;
mod leases;
mod mix;

mod acl;
mod advise;
mod audit;
mod backlog;
mod bombs;
mod clock;
mod cluster;
mod codec;
mod config;
mod docs;
mod encoded;
mod entries;
mod eviction;
mod expiry;
mod fetch;
mod health;
mod hostile;
mod info;
mod invalidate;
mod keyfor;
mod large_replication;
mod leak;
mod lease;
mod lease_fence;
mod lease_wait;
mod lifecycle;
mod lifetime;
mod model;
mod monitoring;
mod panics;
mod part;
mod persistence;
mod protocol;
mod purge;
mod race;
mod replication;
mod rules;
mod scan;
mod selftest;
mod sessions;
mod stampede;
mod stats;
mod throttle;
mod top;
mod types;
mod verify;
mod warm;
mod warm_many;
mod workers;
