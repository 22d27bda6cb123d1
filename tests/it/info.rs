//! `INFO expcache`: the figures of the table, each under its name, and those of STATS.

use crate::harness::{Conn, HOSTILE, Server, args, wait_until};
use expcache_core::stats::metrics::{Metric, of_types, overall};

fn lines(c: &mut Conn) -> Vec<(String, String)> {
    let info = c.text("INFO expcache");
    assert!(info.starts_with("# expcache\r\n"), "{info}");
    info.lines().filter_map(|line| line.split_once(':')).map(|(n, v)| (n.to_string(), v.to_string())).collect()
}

fn names<'m>(metrics: impl Iterator<Item = &'m Metric>) -> Vec<&'m str> {
    metrics.map(|metric| metric.name).collect()
}

/// The figures of one type.
#[track_caller]
fn of_type(c: &mut Conn, name: &str) -> Vec<(String, String)> {
    let line = c.info("expcache", &format!("expcache_type_{name}"));
    assert!(!line.is_empty(), "no type {name}");
    line.split(',').map(|field| field.split_once('=').unwrap()).map(|(n, v)| (n.into(), v.into())).collect()
}

#[track_caller]
fn figure(c: &mut Conn, name: &str) -> f64 {
    c.info("expcache", &format!("expcache_{name}")).parse().unwrap()
}

#[test]
fn every_figure_of_the_table_is_there_in_its_order() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET trips:1 v");
    let lines = lines(&mut c);
    let (types, figures): (Vec<_>, Vec<_>) = lines.iter().partition(|(name, _)| name.starts_with("expcache_type_"));
    let expected: Vec<String> =
        names(of_types().chain(overall())).iter().map(|name| format!("expcache_{name}")).collect();
    assert_eq!(figures.iter().map(|(name, _)| name).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert!(figures.iter().all(|(name, value)| value.parse::<f64>().is_ok_and(f64::is_finite) || name.is_empty()));
    assert_eq!(types.len(), c.cmd("EXPCACHE.TYPE LIST").items().len());
    let trips = of_type(&mut c, "trips");
    assert_eq!(trips.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names(of_types()));
    assert!(c.text("INFO everything").contains("\r\nexpcache_hits_total:0\r\n"));
    assert!(!c.text("INFO").contains("expcache_hits_total"), "as any module's, it is shown to who asks");
}

#[test]
fn figures_are_those_of_what_was_done() {
    let server = Server::start();
    let mut c = server.conn();
    c.ok("EXPCACHE.SET trips:1 12345 COST 1500 TAGS 2 a b");
    c.ok("EXPCACHE.SET trips:2 123 TAGS 1 a PX 1");
    wait_until("it has expired", || c.cmd("DBSIZE") == 1);
    for command in ["EXPCACHE.GET trips:1", "EXPCACHE.FETCH trips:1", "EXPCACHE.GET trips:2", "EXPCACHE.GET trips:3"] {
        c.cmd(command);
    }
    c.cmd("EXPCACHE.FETCH trips:9 LEASE 1m");
    for (name, value) in [
        ("hits_total", 2.0),
        ("misses_total", 3.0),
        ("misses_cold_total", 2.0),
        ("misses_expired_total", 1.0),
        ("sets_total", 2.0),
        ("expired_total", 1.0),
        ("leases_total", 1.0),
        ("produce_seconds_total", 1.5),
        ("productions_total", 1.0),
        ("saved_seconds_total", 3.0),
        ("entries", 1.0),
        ("payload_bytes", 5.0),
        ("tags", 2.0),
        ("hit_ratio", 0.4),
        ("compression_ratio", 1.0),
        ("leases_held", 1.0),
        ("miss_memory_keys", 1.0),
        ("index_disagreements", 0.0),
        ("reclaim_backlog", 0.0),
    ] {
        assert_eq!(figure(&mut c, name), value, "{name}");
    }
    let stats = c.map("EXPCACHE.STATS");
    assert_eq!(figure(&mut c, "index_bytes"), stats["index-bytes"].number());
    let trips = of_type(&mut c, "trips");
    let of = |name: &str| trips.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_eq!(["hits_total", "misses_total", "saved_seconds_total", "entries"].map(of), ["2", "3", "3.000", "1"]);
    c.ok("EXPCACHE.STATS RESET");
    assert_eq!((figure(&mut c, "hits_total"), figure(&mut c, "entries")), (0.0, 1.0));
    assert!(figure(&mut c, "counting_seconds") < 60.0);
}

#[test]
fn a_type_of_any_name_has_one_line() {
    let server = Server::start();
    let mut c = server.conn();
    for name in HOSTILE {
        c.ok(args!["EXPCACHE.SET", name, "v", "TYPE", name]);
        let escaped: String = name
            .iter()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(*b).to_string(),
                other => format!("%{other:02x}"),
            })
            .collect();
        let figures = of_type(&mut c, &escaped);
        assert!(figures.contains(&("entries".into(), "1".into())), "{figures:?}");
    }
    let types = c.cmd("EXPCACHE.TYPE LIST").items().len();
    assert_eq!(lines(&mut c).iter().filter(|(name, _)| name.starts_with("expcache_type_")).count(), types);
}
