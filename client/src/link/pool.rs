//! Connections of their own for those who wait: as many as are needed at a time, up to a limit.

use std::sync::Mutex;

use redis::{Cmd, RedisResult, Value};
use tokio::sync::Semaphore;

use super::wire::{Route, Wire};
use crate::config::Config;
use crate::locked;

pub(crate) struct Pool {
    permits: Semaphore,
    idle: Mutex<Vec<Wire>>,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { permits: Semaphore::new(limit), idle: Mutex::default() }
    }

    /// Sends a command on a connection of its own. One whose caller gave up is not taken back: the server may still be
    /// holding a reply.
    pub(crate) async fn send(&self, config: &Config, cmd: &Cmd, route: &Route) -> RedisResult<Value> {
        let _permit = self.permits.acquire().await;
        let idle = locked(&self.idle).pop();
        let wire = match idle {
            Some(wire) => wire,
            None => Wire::new(config)?,
        };
        let reply = wire.send(cmd, route).await;
        locked(&self.idle).push(wire);
        reply
    }
}
