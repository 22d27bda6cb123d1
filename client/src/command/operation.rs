//! `EXPCACHE.HEALTH`, `SELFTEST` and `DEBUG CHECK`.

use std::collections::BTreeMap;

use redis::Value;
use serde::Serialize;

use super::client::Client;
use crate::error::Result;
use crate::link::{Call, Route};
use crate::reply::{self, Fields};

/// Whether all is well, of one primary.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// The primary's address.
    pub node: String,
    /// None of the checks is degraded.
    pub ok: bool,
    /// Each check by its name.
    pub checks: BTreeMap<String, Check>,
}

/// A figure, and what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// As it is: a number or a word.
    pub figure: String,
    /// Its limit, if it has one.
    pub limit: Option<String>,
    /// The verdict.
    pub ok: bool,
}

impl Health {
    fn parse(node: String, value: Value) -> Result<Self> {
        let mut fields = Fields::new(value)?;
        let ok = fields.text("status")? == "ok";
        let checks = fields.rest().map(|(name, value)| Ok((name, Check::parse(value)?)));
        Ok(Self { node, ok, checks: checks.collect::<Result<_>>()? })
    }
}

impl Check {
    fn parse(value: Value) -> Result<Self> {
        let mut fields = Fields::new(value)?;
        Ok(Self {
            figure: shown(fields.take("figure"))?.unwrap_or_default(),
            limit: shown(fields.take("limit"))?,
            ok: fields.text("verdict")? == "ok",
        })
    }
}

fn shown(value: Value) -> Result<Option<String>> {
    Ok(match value {
        Value::Nil => None,
        Value::Int(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        text => Some(reply::text(text)?),
    })
}

/// What a self-test came to, of one primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SelfTest {
    /// The primary's address.
    pub node: String,
    /// What each step came to, by its name: `pass`, or what went wrong.
    pub steps: BTreeMap<String, String>,
}

impl Client {
    /// Whether all is well, of each primary. They are asked however often they have failed before.
    pub async fn health(&self) -> Result<Vec<Health>> {
        let replies = self.by_node(Call { anyway: true, ..Call::new("EXPCACHE.HEALTH", Route::Primaries) }).await?;
        replies.into_iter().map(|(node, reply)| Health::parse(node, reply)).collect()
    }

    /// Has each primary store, read, expire, invalidate and delete an entry of its own.
    pub async fn self_test(&self) -> Result<Vec<SelfTest>> {
        let replies = self.by_node(Call { anyway: true, ..Call::new("EXPCACHE.SELFTEST", Route::Primaries) }).await?;
        let read = |(node, reply)| {
            let steps = Fields::new(reply)?.rest().map(|(step, value)| Ok((step, reply::text(value)?)));
            Ok(SelfTest { node, steps: steps.collect::<Result<_>>()? })
        };
        replies.into_iter().map(read).collect()
    }

    /// Every disagreement between index and keyspace. Walks over everything while the servers wait: for tests and diagnosis.
    pub async fn debug_check(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for reply in self.everywhere(Call::new("EXPCACHE.DEBUG CHECK", Route::Primaries)).await? {
            for text in reply::array(reply)? {
                found.push(reply::text(text)?);
            }
        }
        Ok(found)
    }
}
