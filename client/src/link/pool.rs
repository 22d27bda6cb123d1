//! Connections of their own for those who wait: as many as are needed at a time. How many these may be is seen to by
//! [`Link`](super::Link).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::call::{Call, before};
use super::connection::{Connection, Visit};
use super::connector::Connector;
use crate::error::{Error, Result};
use crate::lock::locked;

#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// Sends a command on a connection of its own. One that failed, or whose caller gave up, is not taken back: the server may
    /// still be holding a reply.
    pub(crate) async fn send(
        &self,
        connector: &Arc<Connector>,
        call: &Call,
        visit: Visit,
        timeout: Duration,
    ) -> Result<Value> {
        let connection = self.living(connector, timeout).await?;
        let limit = Instant::now() + call.wait + timeout;
        let reply = before(limit, connection.send(&call.cmd, visit)).await;
        if !reply.as_ref().is_err_and(Error::is_away) {
            locked(&self.idle).push(connection);
        }
        reply
    }

    /// One that answers: it may have died while nobody used it, and the wait would be for nothing.
    async fn living(&self, connector: &Arc<Connector>, timeout: Duration) -> Result<Connection> {
        let (limit, ping) = (Instant::now() + timeout, redis::cmd("PING"));
        while let Some(idle) = self.idle() {
            let pong = before(limit, idle.send(&ping, Visit::Own)).await;
            if !pong.is_err_and(|error| error.is_away()) {
                return Ok(idle);
            }
        }
        let limit = Instant::now() + timeout;
        before(limit, async { connector.connect(None).await.map(Connection::new) }).await
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = locked(&self.idle);
        idle.retain(|connection| !connection.is_closed());
        idle.pop()
    }
}
