//! Whether the primaries of a cluster agree: types and rules are each node's own, and no server compares them with others'.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::Value;
use serde::Serialize;

use super::client::Client;
use super::shown;
use crate::error::Result;
use crate::link::{Call, Route};
use crate::reply::{self, Fields};

/// So many of a node's types or rules are asked for at a time.
const AT_ONCE: usize = 100;

/// The type whose policy others begin with.
const DEFAULT: &[u8] = b"default";

/// What [`Client::check_cluster`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedCluster {
    /// The primaries' addresses; empty where there is but one server.
    pub nodes: Vec<String>,
    /// In what they differ.
    pub differences: Vec<Difference>,
}

impl CheckedCluster {
    /// The primaries agree.
    pub fn is_ok(&self) -> bool {
        self.differences.is_empty()
    }
}

/// A line for each difference; nothing if there is none.
impl fmt::Display for CheckedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.differences.iter().try_for_each(|difference| writeln!(f, "{difference}"))
    }
}

/// A type or a rule that not all primaries have alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which of the two it is.
    pub of: Defined,
    /// Its name.
    #[serde(serialize_with = "shown::text")]
    pub name: Bytes,
    /// What they say of it, beginning with what most of them say.
    pub said: Vec<Said>,
}

/// What is defined on each primary for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Defined {
    /// A type, with its policy.
    Type,
    /// A rule.
    Rule,
}

/// What some of the primaries say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Their addresses.
    pub nodes: Vec<String>,
    /// The fields of `TYPE GET` or `RULE GET` that differ from what others say; `None`: they have none of that name.
    pub fields: Option<BTreeMap<String, String>>,
}

/// As `type trips: ttl "3600000" on 10.0.0.1:6379, 10.0.0.2:6379; ttl "60000" on 10.0.0.3:6379`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said: Vec<String> = self.said.iter().map(ToString::to_string).collect();
        write!(f, "{} {}: {}", self.of.word(), self.name.escape_ascii(), said.join("; "))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.as_ref().map(|fields| {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name} \"{value}\"")).collect();
            fields.join(", ")
        });
        write!(f, "{} on {}", fields.as_deref().unwrap_or("none"), self.nodes.join(", "))
    }
}

impl Defined {
    fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Rule => "rule",
        }
    }

    /// How they are listed, and how one is shown.
    fn commands(self) -> (&'static str, &'static str) {
        match self {
            Self::Type => ("EXPCACHE.TYPE LIST", "EXPCACHE.TYPE GET"),
            Self::Rule => ("EXPCACHE.RULE LIST", "EXPCACHE.RULE GET"),
        }
    }
}

/// What is said of one type or rule.
type Words = BTreeMap<String, String>;

/// All types, or all rules, of a node.
struct Definitions {
    node: String,
    all: BTreeMap<Bytes, Words>,
}

impl Definitions {
    /// What is said of it; of a type that nobody has set, what would be on its first use.
    fn in_force(&self, of: Defined, name: &Bytes) -> Option<&Words> {
        let unset = || if of == Defined::Type { self.all.get(DEFAULT) } else { None };
        self.all.get(name).or_else(unset)
    }
}

impl Client {
    /// Whether types and rules are the same on all primaries of a cluster: each has its own, and one that was away when they were set
    /// knows nothing of it. Setting them again mends that. It needs the right to read all keys. The primaries are asked however often they have
    /// failed before; a single server agrees with itself and is not asked.
    ///
    /// A type that a primary does not have counts as what it would become there: one of the policy of the type `default`. So types that
    /// came to be by their first use are no difference.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> expcache_client::Result<()> {
    /// # let client = expcache_client::testing::InMemory::new().cache()?.client().clone();
    /// let checked = client.check_cluster().await?;
    /// if !checked.is_ok() {
    ///     eprint!("{checked}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check_cluster(&self) -> Result<CheckedCluster> {
        let nodes = self.primaries().await?;
        let mut differences = self.differences(&nodes).await?;
        if !differences.is_empty() {
            // What was being set at the time is none.
            let again = self.differences(&nodes).await?;
            differences.retain(|difference| again.contains(difference));
        }
        Ok(CheckedCluster { nodes, differences })
    }

    async fn differences(&self, nodes: &[String]) -> Result<Vec<Difference>> {
        let mut found = Vec::new();
        if nodes.len() > 1 {
            for of in [Defined::Type, Defined::Rule] {
                let all = try_join_all(nodes.iter().map(|node| self.definitions(of, node))).await?;
                found.extend(compared(of, &all));
            }
        }
        Ok(found)
    }

    async fn definitions(&self, of: Defined, node: &str) -> Result<Definitions> {
        let (list, get) = of.commands();
        let call = |command| Call { anyway: true, ..Call::new(command, Route::Node(node.to_owned())) };
        let names = reply::strings(self.call(call(list)).await?)?;
        let mut all = BTreeMap::new();
        for some in names.chunks(AT_ONCE) {
            let asking = some.iter().map(|name| {
                let (mut call, name): (_, &[u8]) = (call(get), name);
                call.cmd.arg(name);
                self.call(call)
            });
            for (name, reply) in some.iter().zip(try_join_all(asking).await?) {
                if let Some(fields) = Fields::optional(reply)? {
                    all.insert(name.clone(), words(fields)?);
                }
            }
        }
        Ok(Definitions { node: node.to_owned(), all })
    }
}

/// What a policy or a rule says. What a rule did is each node's own.
fn words(fields: Fields) -> Result<Words> {
    const DID: [&str; 4] = ["fired", "entries", "errors", "last"];
    let said = fields.rest().filter(|(field, _)| !DID.contains(&field.as_str()));
    said.map(|(field, value)| Ok((field.clone(), text(&field, value)?))).collect()
}

fn text(field: &str, value: Value) -> Result<String> {
    Ok(match value {
        Value::Array(items) | Value::Set(items) => {
            let mut words = items.into_iter().map(|item| text("", item)).collect::<Result<Vec<_>>>()?;
            if field == "formats" {
                words.sort_unstable();
            }
            words.join(" ")
        }
        Value::Int(number) => number.to_string(),
        value => reply::bytes(value)?.escape_ascii().to_string(),
    })
}

fn compared(of: Defined, nodes: &[Definitions]) -> Vec<Difference> {
    let mut names: Vec<&Bytes> = nodes.iter().flat_map(|node| node.all.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| difference(of, name, nodes)).collect()
}

fn difference(of: Defined, name: &Bytes, nodes: &[Definitions]) -> Option<Difference> {
    let mut in_force = nodes.iter().map(|node| node.in_force(of, name));
    let first = in_force.next()?;
    if in_force.all(|words| words == first) {
        return None;
    }
    let mut said: Vec<Said> = Vec::new();
    for Definitions { node, all } in nodes {
        let fields = all.get(name).cloned();
        match said.iter_mut().find(|said| said.fields == fields) {
            Some(same) => same.nodes.push(node.clone()),
            None => said.push(Said { nodes: vec![node.clone()], fields }),
        }
    }
    said.sort_by_key(|said| std::cmp::Reverse(said.nodes.len()));
    let everywhere = said.iter().map(|said| said.fields.clone().unwrap_or_default());
    let alike = everywhere.reduce(|mut alike, fields| {
        alike.retain(|field, value| fields.get(field) == Some(value));
        alike
    });
    let differs = |field: &str| !alike.as_ref().is_some_and(|alike| alike.contains_key(field));
    said.iter_mut().flat_map(|said| &mut said.fields).for_each(|fields| fields.retain(|field, _| differs(field)));
    Some(Difference { of, name: name.clone(), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: &str, all: &[(&str, &[(&str, &str)])]) -> Definitions {
        let words =
            |said: &[(&str, &str)]| said.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let all = all.iter().map(|(name, said)| (Bytes::copy_from_slice(name.as_bytes()), words(said)));
        Definitions { node: node.into(), all: all.collect() }
    }

    fn shown(of: Defined, nodes: &[Definitions]) -> Vec<String> {
        compared(of, nodes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_most_say_comes_first_and_only_what_differs_is_said() {
        let rule = |on| [("on", on), ("soft", "no")];
        let (key, event) = (rule("key"), rule("event"));
        let both = |name| node(name, &[("r", &key), ("s", &key)]);
        let nodes = [node("a", &[("r", &event)]), both("b"), both("c")];
        let expected =
            ["rule r: on \"key\" on b, c; on \"event\" on a", "rule s: on \"key\", soft \"no\" on b, c; none on a"];
        assert_eq!(shown(Defined::Rule, &nodes), expected);
        assert!(shown(Defined::Rule, &nodes[1..]).is_empty());
    }

    #[test]
    fn a_type_that_nobody_set_is_as_the_default_is() {
        let (hour, day) = ([("ttl", "1h")], [("ttl", "1d")]);
        let used = node("a", &[("default", &hour), ("mine", &hour)]);
        let set = node("b", &[("default", &hour), ("mine", &day)]);
        let without = || node("c", &[("default", &hour)]);
        assert!(shown(Defined::Type, &[used, without()]).is_empty());
        assert_eq!(shown(Defined::Type, &[set, without()]), ["type mine: ttl \"1d\" on b; none on c"]);
    }
}
