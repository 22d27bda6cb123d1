//! All of a server's state that must survive a restart and reach a replica, as one value to compare.

use super::{Conn, Value, args, check, wait_until_settled};
use std::collections::BTreeMap;

/// How many databases a picture looks at.
pub const DATABASES: usize = 4;

/// What time and reads change, and so differs where nothing is wrong.
const VOLATILE: [&str; 4] = ["age", "ttl", "hits", "last-access"];

/// One line for each key, policy and figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture(BTreeMap<String, String>);

impl Picture {
    /// Looks at everything without leaving a trace; the connection is on database 0 afterwards.
    #[track_caller]
    pub fn of(c: &mut Conn) -> Picture {
        wait_until_settled(c);
        check(c);
        let mut lines = BTreeMap::new();
        for db in 0..DATABASES {
            c.ok(args!["SELECT", db]);
            for key in c.cmd("KEYS *").items().iter().map(Value::as_bytes) {
                lines.insert(format!("db {db} key {}", key.escape_ascii()), key_line(c, key));
            }
        }
        c.ok("SELECT 0");
        for name in c.cmd("EXPCACHE.TYPE LIST").items().iter().map(Value::as_bytes) {
            let policy = c.map(args!["EXPCACHE.TYPE", "GET", name]);
            let figures =
                figures(c, args!["EXPCACHE.STATS", "TYPE", name], &["entries", "payload-bytes", "stored-bytes"]);
            lines.insert(format!("type {}", name.escape_ascii()), format!("{policy:?} {figures}"));
        }
        lines.insert(
            "figures".into(),
            figures(c, vec!["EXPCACHE.STATS"], &["entries", "tags", "payload-bytes", "stored-bytes"]),
        );
        Picture(lines)
    }

    /// How many keys it shows.
    pub fn keys(&self) -> usize {
        self.0.keys().filter(|name| name.starts_with("db ")).count()
    }

    /// Asserts that both are the same; what is not is named.
    #[track_caller]
    pub fn assert_same(&self, other: &Picture) {
        let names = self.0.keys().chain(other.0.keys());
        let mut differences: Vec<String> = names
            .filter(|name| self.0.get(*name) != other.0.get(*name))
            .map(|name| format!("{name}:\n  {:?}\n  {:?}", self.0.get(name), other.0.get(name)))
            .collect();
        differences.dedup();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

fn key_line(c: &mut Conn, key: &[u8]) -> String {
    let (kind, expiry) = (c.cmd(args!["TYPE", key]).text(), c.cmd(args!["PEXPIRETIME", key]));
    let content = match kind.as_str() {
        "exp-cache" => meta(c, key),
        _ => c.cmd(args!["DEBUG", "DIGEST-VALUE", key]).to_string(),
    };
    format!("{kind} expires {expiry} {content}")
}

/// `META` without what is volatile, the tags in a fixed order. An invalidated entry that waits to be reclaimed has none.
pub fn meta(c: &mut Conn, key: &[u8]) -> String {
    match c.cmd(args!["EXPCACHE.META", key]) {
        Value::Nil => "invalidated".into(),
        reply => {
            let meta = reply.fields();
            let names = meta.names().into_iter().filter(|name| !VOLATILE.contains(name) && *name != "tags");
            let rest: Vec<String> = names.map(|name| format!("{name} {}", meta[name])).collect();
            format!("{} tags {:?}", rest.join(" "), meta["tags"].sorted_texts())
        }
    }
}

fn figures(c: &mut Conn, command: Vec<impl super::Arg>, names: &[&str]) -> String {
    let stats = c.map(command);
    let shown: Vec<String> = names.iter().map(|name| format!("{name} {}", stats[*name])).collect();
    shown.join(" ")
}
