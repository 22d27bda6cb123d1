//! Reading the server: one look at it is a [`Snapshot`].
//!
//! Everything comes from three commands, none of which walks over keys: `INFO` for the figures, `EXPCACHE.HEALTH` and
//! `EXPCACHE.TOP`; and while advice is shown, from `EXPCACHE.ADVISE` and `EXPCACHE.WARM … DRYRUN`. Who may not run one of these sees the
//! rest. A look that fails ends the connection; the next one makes a new one,
//! so a server that comes back is seen again by itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use expcache_core::stats::metrics::{Metric, Unit};
use expcache_core::stats::{By, Counters, Gauges, Sizes};
use redis::{Client, Connection, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, Value};

/// A server that says nothing for so long is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many of the first entries are asked for, by each figure.
const FIRST: usize = 30;
/// Advice takes the server some milliseconds, and changes slowly.
const ADVISED: Duration = Duration::from_secs(10);

/// What a look found.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub server: Server,
    pub all: Figures,
    pub gauges: Gauges,
    /// By name, in the server's order.
    pub types: Vec<(String, Figures)>,
    pub health: Health,
    pub top: Top,
    /// If it was asked for.
    pub advice: Option<Advice>,
}

/// The process that was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Program and version.
    pub name: String,
    /// Different after each start.
    pub run_id: String,
    pub uptime_s: u64,
    pub clock_ms: u64,
    pub used_bytes: u64,
    /// 0: there is no limit.
    pub most_bytes: u64,
}

/// The figures of a type, or of all.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub counters: Counters,
    pub sizes: Sizes,
}

/// What `EXPCACHE.HEALTH` says, in short.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Or why that is not known.
    pub status: String,
    /// The checks that are not well, with their figures.
    pub complaints: Vec<(String, String)>,
}

/// The first entries.
#[derive(Debug, Clone, Default)]
pub struct Top {
    /// In the order of [`By::ALL`].
    pub by: [Vec<First>; By::ALL.len()],
    /// Why they are not known.
    pub refused: Option<String>,
}

/// One of the first entries.
#[derive(Debug, Clone, Default)]
pub struct First {
    pub key: String,
    pub type_name: String,
    pub hits: u64,
    pub size: u64,
    pub cost_ms: u64,
    pub touched_ms: u64,
}

/// What to change, and what is worth producing.
#[derive(Debug, Clone, Default)]
pub struct Advice {
    pub pieces: Vec<Piece>,
    pub due: Vec<Due>,
    /// Why the former are not known.
    pub refused: Option<String>,
    /// Why the latter are not known.
    pub refused_due: Option<String>,
}

/// A piece of advice.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    pub type_name: String,
    pub what: String,
    pub now: String,
    pub to: String,
    pub gain: f64,
    pub unit: String,
    pub error: f64,
    pub why: String,
}

/// A key that is worth producing.
#[derive(Debug, Clone, Default)]
pub struct Due {
    pub key: String,
    pub type_name: String,
    pub reason: String,
    pub worth: f64,
    pub hits: u64,
    pub cost_ms: u64,
}

/// Where snapshots come from.
pub struct Source {
    client: Client,
    connection: Option<Connection>,
    /// The last advice, and when it was asked for.
    advice: Option<(Instant, Advice)>,
}

impl Source {
    /// A server that is not asked yet. The password, where the address has none, is the environment's `REDISCLI_AUTH`, as with redis-cli.
    pub fn new(url: &str) -> RedisResult<Self> {
        let info = with_password(url.into_connection_info()?, std::env::var("REDISCLI_AUTH").ok());
        Ok(Self { client: Client::open(info)?, connection: None, advice: None })
    }

    /// The server's address, without user and password.
    pub fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Looks, and asks for advice.
    pub fn look(&mut self, is_advised: bool) -> Result<Snapshot, String> {
        let looked = self.look_once(is_advised);
        if looked.is_err() {
            self.connection = None;
        }
        looked.map_err(|why| said(&why))
    }

    fn look_once(&mut self, is_advised: bool) -> RedisResult<Snapshot> {
        let last = self.advice.take_if(|(asked, _)| is_advised && asked.elapsed() < ADVISED);
        let connection = self.connection()?;
        let mut snapshot = look(connection)?;
        if is_advised {
            let (asked, pieces) = match last {
                Some(last) => last,
                None => (Instant::now(), pieces(connection)?),
            };
            let advice = with_due(pieces, connection)?;
            (snapshot.advice, self.advice) = (Some(advice.clone()), Some((asked, advice)));
        }
        Ok(snapshot)
    }

    /// Whoever asks for advice now wants it anew.
    pub fn forget_advice(&mut self) {
        self.advice = None;
    }

    /// A connection of its own, for whoever has other questions.
    pub fn connect(&self) -> RedisResult<Connection> {
        connect(&self.client)
    }

    fn connection(&mut self) -> RedisResult<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.client)?,
        };
        Ok(self.connection.insert(connection))
    }
}

fn with_password(info: ConnectionInfo, password: Option<String>) -> ConnectionInfo {
    let redis = info.redis_settings().clone();
    match password {
        Some(password) if redis.password().is_none() => info.set_redis_settings(redis.set_password(password)),
        _ => info,
    }
}

fn connect(client: &Client) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn look(c: &mut Connection) -> RedisResult<Snapshot> {
    let info: Vec<u8> = redis::cmd("INFO").arg(&["server", "memory", "expcache"]).query(c)?;
    let mut snapshot = snapshot(&String::from_utf8_lossy(&info));
    if snapshot.gauges.counting_ms == 0 && snapshot.types.is_empty() {
        return Err((redis::ErrorKind::Client, "the module expcache is not loaded there").into());
    }
    let no_health = |status| Health { status, ..Health::default() };
    snapshot.health = or_refused(redis::cmd("EXPCACHE.HEALTH").query(c).map(|reply| health(&reply)), no_health)?;
    snapshot.top = or_refused(top(c), |why| Top { refused: Some(why), ..Top::default() })?;
    Ok(snapshot)
}

/// A refusal is an answer; anything else that went wrong is the connection's.
fn or_refused<T>(answer: RedisResult<T>, refused: impl Fn(String) -> T) -> RedisResult<T> {
    answer.or_else(|why| if is_refusal(&why) { Ok(refused(said(&why))) } else { Err(why) })
}

/// An error in the server's words where it is the server's.
pub fn said(why: &RedisError) -> String {
    match (why.code(), why.detail()) {
        (Some(code), Some(detail)) => plain(&format!("{code} {detail}")),
        _ => plain(&why.to_string()),
    }
}

pub fn is_refusal(why: &RedisError) -> bool {
    matches!(why.code(), Some("NOPERM" | "ERR"))
}

// ---- INFO

/// What `INFO` says. What is missing there, because the server is of another version, is 0.
pub fn snapshot(info: &str) -> Snapshot {
    let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.split_once(':')).collect();
    let own = |name: &str| fields.get(format!("expcache_{name}").as_str()).copied();
    Snapshot {
        server: server(&fields),
        all: figures(own),
        gauges: Gauges::from_values(Gauges::METRICS.map(|metric| value(&metric, own(metric.name)))),
        types: info.lines().filter_map(type_line).collect(),
        ..Snapshot::default()
    }
}

fn server(fields: &HashMap<&str, &str>) -> Server {
    let text = |name: &str| fields.get(name).copied().unwrap_or_default();
    let number = |name: &str| text(name).parse().unwrap_or(0);
    let (name, version) = match text("valkey_version") {
        "" => ("redis", text("redis_version")),
        version => ("valkey", version),
    };
    Server {
        name: format!("{name} {}", plain(version)),
        run_id: text("run_id").into(),
        uptime_s: number("uptime_in_seconds"),
        clock_ms: number("server_time_usec") / 1000,
        used_bytes: number("used_memory"),
        most_bytes: number("maxmemory"),
    }
}

fn figures<'a>(named: impl Fn(&str) -> Option<&'a str>) -> Figures {
    let value = |metric: Metric| value(&metric, named(metric.name));
    Figures {
        counters: Counters::from_values(Counters::METRICS.map(value)),
        sizes: Sizes::from_values(Sizes::METRICS.map(value)),
    }
}

/// A figure in the unit that it is kept in, from the one that it is shown in.
fn value(metric: &Metric, shown: Option<&str>) -> u64 {
    let shown = shown.unwrap_or_default();
    let scaled = |scale: f64| shown.parse().map_or(0, |number: f64| (number * scale).round() as u64);
    match metric.unit {
        Unit::Count | Unit::Bytes => shown.parse().unwrap_or(0),
        Unit::Millis => scaled(1e3),
        Unit::Millionths => scaled(1e6),
    }
}

/// `expcache_type_<name>:<figure>=<value>,…`
fn type_line(line: &str) -> Option<(String, Figures)> {
    let (name, values) = line.strip_prefix("expcache_type_")?.split_once(':')?;
    let values: HashMap<&str, &str> = values.split(',').filter_map(|field| field.split_once('=')).collect();
    Some((unescaped(name), figures(|metric| values.get(metric).copied())))
}

/// A type's name as it was before `INFO` made `%20` of a blank.
fn unescaped(name: &str) -> String {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(code, 16));
        bytes.extend(rest.as_bytes());
    }
    shown(&bytes)
}

// ---- HEALTH and TOP

fn health(reply: &Value) -> Health {
    let mut health = Health::default();
    for (name, said) in reply.as_map_iter().into_iter().flatten() {
        match said.as_map_iter() {
            None => health.status = text(said),
            Some(fields) => {
                let fields: HashMap<String, String> = fields.map(|(name, value)| (text(name), text(value))).collect();
                if fields.get("verdict").is_some_and(|verdict| verdict != "ok") {
                    health.complaints.push((text(name), fields.get("figure").cloned().unwrap_or_default()));
                }
            }
        }
    }
    health
}

fn top(c: &mut Connection) -> RedisResult<Top> {
    let mut top = Top::default();
    for (by, first) in By::ALL.into_iter().zip(&mut top.by) {
        let reply: Value = redis::cmd("EXPCACHE.TOP").arg(&["BY", word(by), "COUNT"]).arg(FIRST).query(c)?;
        *first = reply.as_sequence().unwrap_or_default().iter().map(first_entry).collect();
    }
    Ok(top)
}

/// What an order is called.
pub fn word(by: By) -> &'static str {
    match by {
        By::Hits => "hits",
        By::Size => "size",
        By::Cost => "cost",
        By::Saved => "saved",
    }
}

fn first_entry(reply: &Value) -> First {
    let mut first = First::default();
    for (name, value) in reply.as_map_iter().into_iter().flatten() {
        match text(name).as_str() {
            "key" => first.key = text(value),
            "type" => first.type_name = text(value),
            "hits" => first.hits = number(value),
            "size" => first.size = number(value),
            "cost" => first.cost_ms = number(value),
            "last-access" => first.touched_ms = number(value),
            _ => {}
        }
    }
    first
}

// ---- ADVISE and WARM

fn pieces(c: &mut Connection) -> RedisResult<Advice> {
    let reply: RedisResult<Value> = redis::cmd("EXPCACHE.ADVISE").arg("COUNT").arg(FIRST).query(c);
    let read = |reply: Value| Advice {
        pieces: reply.as_sequence().unwrap_or_default().iter().map(piece).collect(),
        ..Advice::default()
    };
    or_refused(reply.map(read), |why| Advice { refused: Some(why), ..Advice::default() })
}

fn piece(reply: &Value) -> Piece {
    let mut piece = Piece::default();
    for (name, value) in reply.as_map_iter().into_iter().flatten() {
        match text(name).as_str() {
            "type" => piece.type_name = text(value),
            "what" => piece.what = text(value),
            "now" => piece.now = text(value),
            "to" => piece.to = text(value),
            "gain" => piece.gain = double(value),
            "unit" => piece.unit = text(value),
            "error" => piece.error = double(value),
            "why" => piece.why = text(value),
            _ => {}
        }
    }
    piece
}

/// With the keys that are worth producing now.
fn with_due(advice: Advice, c: &mut Connection) -> RedisResult<Advice> {
    let reply: RedisResult<Value> = redis::cmd("EXPCACHE.WARM").arg("COUNT").arg(FIRST).arg("DRYRUN").query(c);
    let read = |reply: Value| (reply.as_sequence().unwrap_or_default().iter().map(due).collect(), None);
    let (due, refused_due) = or_refused(reply.map(read), |why| (Vec::new(), Some(why)))?;
    Ok(Advice { due, refused_due, ..advice })
}

fn due(reply: &Value) -> Due {
    let mut due = Due::default();
    for (name, value) in reply.as_map_iter().into_iter().flatten() {
        match text(name).as_str() {
            "key" => due.key = text(value),
            "type" => due.type_name = text(value),
            "reason" => due.reason = text(value),
            "worth" => due.worth = double(value),
            "hits" => due.hits = number(value),
            "cost" => due.cost_ms = number(value),
            _ => {}
        }
    }
    due
}

fn double(value: &Value) -> f64 {
    f64::from_redis_value_ref(value).unwrap_or(0.0)
}

pub fn number(value: &Value) -> u64 {
    u64::from_redis_value_ref(value).unwrap_or(0)
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => shown(bytes),
        Value::SimpleString(text) => plain(text),
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Bytes of anybody's making, as a terminal may be sent them.
fn shown(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes))
}

/// A text in which nothing is left that a terminal would obey.
fn plain(text: &str) -> String {
    let one = |c: char| if is_obeyed(c) { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(one).collect()
}

/// Control characters, and those that turn the direction of writing.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nuptime_in_seconds:61\r\n# Memory\r\n\
        used_memory:2048\r\nmaxmemory:4096\r\n# expcache\r\nexpcache_hits_total:12\r\nexpcache_saved_seconds_total:1.007\r\n\
        expcache_hit_ratio:0.625000\r\nexpcache_tags:9007199254740993\r\n\
        expcache_type_we%20ird%1b:hits_total=3,entries=2\r\n";

    #[test]
    fn figures_are_read_in_the_unit_that_they_are_kept_in() {
        let seen = snapshot(INFO);
        assert_eq!(
            (seen.server.name.as_str(), seen.server.uptime_s, seen.server.most_bytes),
            ("redis 7.0.15", 61, 4096)
        );
        assert_eq!((seen.all.counters.hits, seen.all.counters.saved_ms), (12, 1007));
        assert_eq!((seen.gauges.hit_ratio, seen.gauges.tags), (625_000, 9_007_199_254_740_993));
        let (name, figures) = seen.types.first().unwrap();
        assert_eq!((name.as_str(), figures.counters.hits, figures.sizes.entries), ("we ird\\u{1b}", 3, 2));
    }

    /// What the table of figures writes is what is read here, whichever figure it is.
    #[test]
    fn every_figure_of_the_table_is_read() {
        for metric in Counters::METRICS.iter().chain(&Sizes::METRICS).chain(&Gauges::METRICS) {
            for number in [0, 1, 999, 1_234_567] {
                assert_eq!(value(metric, Some(&metric.unit.show(number))), number, "{}", metric.name);
            }
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left_in_a_text() {
        assert_eq!(shown(b"a\x1b[2Jb\xff"), "a\\u{1b}[2Jb\u{fffd}");
        assert_eq!(plain("km² – \u{202e}x"), "km² – \\u{202e}x");
    }
}
