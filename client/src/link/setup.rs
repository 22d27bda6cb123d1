//! What a new connection is told before anybody uses it: its name, and the policies that the server has to have.
//!
//! A server without persistence comes back without them, and nobody would notice. So each new connection looks; what differs is
//! set. Who may not do that (it takes an administrator) has said what he expects, and hears once of each type what is there
//! instead.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind};

use crate::config::Config;
use crate::error::Error;
use crate::lock::locked;
use crate::policy::{self, Policy};

pub(crate) struct Setup {
    name: String,
    policies: Arc<Vec<(Bytes, Policy)>>,
    /// The types whose policies this user could not set.
    refused: Arc<Mutex<HashSet<Bytes>>>,
}

impl Setup {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            name: config.client_name.clone(),
            policies: Arc::clone(&config.policies),
            refused: Arc::clone(&config.refused_policies),
        }
    }

    /// Fails only if the connection does: whatever the server refuses, it can be used.
    pub(crate) async fn apply(
        &self,
        connection: &mut impl ConnectionLike,
        server: &str,
        limit: Duration,
    ) -> RedisResult<()> {
        let told = tokio::time::timeout(limit, async {
            let mut name = redis::cmd("CLIENT");
            name.arg("SETNAME").arg(&self.name);
            if let Err(error) = ask(connection, &name).await? {
                tracing::debug!(server, %error, "the connection has no name");
            }
            for (type_name, policy) in self.policies.iter() {
                self.see_to(connection, server, type_name, policy).await?;
            }
            Ok(())
        });
        told.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn see_to(
        &self,
        connection: &mut impl ConnectionLike,
        server: &str,
        type_name: &Bytes,
        policy: &Policy,
    ) -> RedisResult<()> {
        let found = match ask(connection, &policy::get(type_name)).await? {
            Ok(reply) => Policy::of_reply(reply).ok().flatten(),
            // Then it cannot be set either, and that is told of elsewhere.
            Err(Error::NoModule) => return Ok(()),
            Err(_) => None,
        };
        let differing = policy.differing(&found.unwrap_or_default());
        if differing.is_empty() {
            return Ok(());
        }
        let (shown, differing) = (type_name.escape_ascii(), differing.join(", "));
        match ask(connection, &policy::set(type_name, policy)).await? {
            Ok(_) => tracing::info!(server, "type" = %shown, %differing, "its policy is set"),
            // A replica has what its primary has.
            Err(Error::Unavailable(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) => {}
            Err(error) if locked(&self.refused).insert(type_name.clone()) => {
                tracing::warn!(server, "type" = %shown, %differing, %error, "its policy is another, and cannot be set");
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// The outer error is the connection's, the inner one the server's.
async fn ask(connection: &mut impl ConnectionLike, cmd: &Cmd) -> RedisResult<Result<redis::Value, Error>> {
    match connection.req_packed_command(cmd).await.and_then(redis::Value::extract_error) {
        Err(error) if error.is_io_error() => Err(error),
        reply => Ok(reply.map_err(Error::from)),
    }
}
