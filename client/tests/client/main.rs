//! The client against real servers: single, replicated, three primaries; alive, dead and half-dead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/it/harness/mod.rs"]
mod harness;

mod audit;
mod blocking;
mod checker;
mod cluster;
mod commands;
mod decorator;
mod degraded;
mod failover;
mod faults;
mod hanging;
mod in_memory;
mod keys;
mod limiter;
mod near;
mod page;
mod parts;
mod processes;
mod produce;
mod production;
mod proxy;
mod respond;
mod rules;
mod sessions;
mod silence;
mod snippets;
mod tls;
mod tower_sessions;
mod values;
mod warmed;
mod warmer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use expcache_client::{Cache, Client, Config, Request};
use harness::{IN_VAIN, PATIENCE, Server};

/// The server, without anything kept in the process: every answer is the server's. On a busy machine a store takes its time, and
/// tests want to know what became of it.
fn config(server: &Server) -> Config {
    Config::single(address(server)).unwrap().near_bytes(0).store_wait(PATIENCE)
}

fn address(server: &Server) -> String {
    format!("redis://127.0.0.1:{}/", server.port())
}

fn client(server: &Server) -> Client {
    Client::open(config(server)).unwrap()
}

fn cache(server: &Server) -> Cache {
    Cache::open(config(server)).unwrap()
}

fn request(cache: &Cache) -> Request {
    cache.request("trips").company(42).user(7).grace(Duration::from_secs(600)).build().unwrap()
}

/// Counts how often a producer ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Notes a run; returns its number.
    fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Polls until it holds, giving way to other tasks.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < IN_VAIN, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A server that is there and does not answer, as one that swaps or whose network is cut. Dropped, it goes on.
struct Frozen(String);

impl Frozen {
    fn new(server: &Server) -> Self {
        let pid = server.conn().info("server", "process_id");
        signal("-STOP", &pid);
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(name: &str, pid: &str) {
    assert!(std::process::Command::new("kill").args([name, pid]).status().unwrap().success());
}
