//! What programs that watch a server are given: the script for redis_exporter gives every figure, and the dashboard asks for
//! nothing that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::harness::{Conn, Server, check};
use expcache_core::stats::metrics::{of_types, overall};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};
use serde_json::Value;

/// What redis_exporter has of its own that the dashboard uses.
const EXPORTERS_OWN: [&str; 6] = [
    "redis_commands_duration_seconds_total",
    "redis_commands_latencies_usec_bucket",
    "redis_commands_total",
    "redis_latency_percentiles_usec",
    "redis_memory_max_bytes",
    "redis_memory_used_bytes",
];

fn contrib(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)).unwrap()
}

/// What the script gives, as redis_exporter reads it: names and numbers in turn.
fn exported(c: &mut Conn, by: &str) -> BTreeMap<String, f64> {
    let reply = c.cmd(&[by, &contrib("exporter.lua"), "0"]);
    let (pairs, rest) = reply.items().as_chunks::<2>();
    assert!(rest.is_empty(), "{reply}");
    let number = |text: String| text.parse::<f64>().unwrap_or_else(|_| panic!("{text:?} is no number"));
    let all: BTreeMap<_, _> = pairs.iter().map(|[name, value]| (name.text(), number(value.text()))).collect();
    assert_eq!(all.len(), pairs.len(), "names come twice");
    all
}

/// Two types with entries, one with an awkward name.
fn used() -> Server {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET trips:1 payload TAGS 1 company:42 COST 1500");
    c.ok(&["EXPCACHE.SET", "other", "v", "TYPE", "we:ird=1,2\r\nname"]);
    assert_eq!(c.bulk("EXPCACHE.GET trips:1"), b"payload");
    c.nil("EXPCACHE.GET trips:2");
    server
}

// ---- the script

#[test]
fn the_script_gives_every_figure() {
    let server = used();
    let mut c = server.conn();
    let all = exported(&mut c, "EVAL");
    for metric in of_types().chain(overall()) {
        assert!(all.contains_key(&format!("expcache_{}", metric.name)), "{}", metric.name);
    }
    for metric in of_types() {
        for name in ["trips", "default", "we%3aird%3d1%2c2%0d%0aname"] {
            assert!(all.contains_key(&format!("expcache_type_{name}:{}", metric.name)), "{} of {name}", metric.name);
        }
    }
    let told = ["entries", "hits_total", "misses_total", "saved_seconds_total", "type_trips:payload_bytes"];
    assert_eq!(told.map(|name| all[&format!("expcache_{name}")]), [2.0, 1.0, 1.0, 1.5, 7.0]);
    check(&mut c);
}

#[test]
fn the_script_only_reads() {
    let server = used();
    let mut c = server.conn();
    c.ok("ACL SETUSER exporter on >secret +info +eval +eval_ro");
    c.ok("AUTH exporter secret");
    let names = |all: BTreeMap<String, f64>| all.into_keys().collect::<Vec<_>>();
    let by_eval = names(exported(&mut c, "EVAL"));
    assert_eq!(names(exported(&mut c, "EVAL_RO")), by_eval);
    let replica = Server::start();
    replica.replica_of(&server);
    assert_eq!(exported(&mut replica.conn(), "EVAL")["expcache_entries"], 2.0);
}

// ---- the dashboard

/// A query of the dashboard, with the panel that it is of.
struct Query {
    panel: String,
    expr: Expr,
}

fn dashboard() -> Value {
    serde_json::from_str(&contrib("grafana.json")).unwrap()
}

/// A query with the dashboard's variables in place.
fn parsed(text: &str) -> Expr {
    let text = text.replace("$__rate_interval", "5m").replace("$instance", ".*");
    assert!(!text.contains("$_"), "unknown variable in {text}");
    parser::parse(&text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn queries() -> Vec<Query> {
    let dashboard = dashboard();
    let of_panel = |panel: &Value| -> Vec<Query> {
        let name = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let query = |target: &Value| Query { panel: name.into(), expr: parsed(target["expr"].as_str().unwrap()) };
        targets.iter().map(query).collect()
    };
    let variable = dashboard["templating"]["list"][1]["query"]["query"].as_str().unwrap();
    let selector = variable.strip_prefix("label_values(").unwrap().rsplit_once(',').unwrap().0;
    let mut all: Vec<Query> = dashboard["panels"].as_array().unwrap().iter().flat_map(of_panel).collect();
    all.push(Query { panel: "the variable".into(), expr: parsed(selector) });
    all
}

/// Calls `see` with an expression and all in it.
fn walk(expr: &Expr, see: &mut impl FnMut(&Expr)) {
    see(expr);
    match expr {
        Expr::Aggregate(one) => walk(&one.expr, see),
        Expr::Unary(one) => walk(&one.expr, see),
        Expr::Paren(one) => walk(&one.expr, see),
        Expr::Subquery(one) => walk(&one.expr, see),
        Expr::Binary(two) => [&two.lhs, &two.rhs].into_iter().for_each(|side| walk(side, see)),
        Expr::Call(call) => call.args.args.iter().for_each(|arg| walk(arg, see)),
        _ => {}
    }
}

fn selectors(expr: &Expr) -> Vec<VectorSelector> {
    let mut found = Vec::new();
    walk(expr, &mut |part| match part {
        Expr::VectorSelector(selector) => found.push(selector.clone()),
        Expr::MatrixSelector(selector) => found.push(selector.vs.clone()),
        _ => {}
    });
    found
}

/// What a selector says of a label.
fn matcher<'a>(selector: &'a VectorSelector, label: &str) -> Option<&'a Matcher> {
    selector.matchers.matchers.iter().find(|matcher| matcher.name == label)
}

fn matches(matcher: &Matcher, value: &str) -> bool {
    match &matcher.op {
        MatchOp::Equal => matcher.value == value,
        MatchOp::Re(pattern) => pattern.is_match(value),
        _ => panic!("{matcher:?}"),
    }
}

#[test]
fn every_query_asks_for_what_is_there() {
    let server = used();
    let mut c = server.conn();
    let keys = exported(&mut c, "EVAL");
    let measured: BTreeSet<String> = c.map("LATENCY HISTOGRAM").names().into_iter().map(str::to_owned).collect();
    let queries = queries();
    assert!(queries.len() > 40, "{} queries", queries.len());
    for Query { panel, expr } in &queries {
        for selector in selectors(expr) {
            match selector.name.as_deref().unwrap() {
                "redis_script_values" => {
                    let wanted = matcher(&selector, "key").unwrap();
                    assert!(keys.keys().any(|key| matches(wanted, key)), "{panel}: nothing has {wanted:?}");
                }
                name => {
                    assert!(EXPORTERS_OWN.contains(&name), "{panel}: {name}");
                    let command = matcher(&selector, "cmd");
                    assert!(command.is_none_or(|wanted| measured.contains(&wanted.value)), "{panel}: {command:?}");
                }
            }
        }
    }
}

/// A rate is one of a counter, and not of the one that can be taken back.
#[test]
fn rates_are_of_what_only_grows() {
    for Query { panel, expr } in queries() {
        walk(&expr, &mut |part| {
            let Expr::Call(call) = part else { return };
            if call.func.name != "rate" {
                return;
            }
            for selector in selectors(part) {
                let counter = matcher(&selector, "key").map_or(selector.name.clone().unwrap(), |key| key.value.clone());
                let only_grows = ["_total", "_bucket"].iter().any(|end| counter.ends_with(end));
                assert!(only_grows && counter != "expcache_invalidated_total", "{panel}: {counter}");
            }
        });
    }
}

/// Where a type is taken from the key, it is from the very keys that are asked for.
#[test]
fn types_are_found_in_the_keys() {
    let mut found = 0;
    for Query { panel, expr } in queries() {
        walk(&expr, &mut |part| {
            let Expr::Call(call) = part else { return };
            if call.func.name != "label_replace" {
                return;
            }
            let Some(Expr::StringLiteral(pattern)) = call.args.args.last().map(|arg| &**arg) else { panic!("{panel}") };
            let keys = selectors(part);
            assert_eq!(pattern.val.replace("(.+)", ".+"), matcher(&keys[0], "key").unwrap().value, "{panel}");
            found += 1;
        });
    }
    assert!(found > 10, "{found}");
}

#[test]
fn the_dashboard_can_be_imported_anywhere() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        cells.for_each(|cell| assert!(cell.0 < 24 && taken.insert(cell), "{} stands on another", panel["title"]));
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{}", panel["title"]);
        }
    }
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(variables, ["datasource", "instance"]);
    assert!(dashboard["id"].is_null(), "an id belongs to one installation");
}
