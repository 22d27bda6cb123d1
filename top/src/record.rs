//! Recording a trace: the audit log is followed, and entries are looked at as they come up ([`crate::trace`]).
//!
//! It ends well: by a signal, after so many lines or so long, and when the file cannot be written. A server that is away is asked
//! again; what it logged meanwhile is read then, and what is lost is told, here and in the trace.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, RedisError, RedisResult, Value};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::args::Record;
use crate::source::{Source, is_refusal, number, said};
use crate::trace::{self, Logged, Tracer};

/// So many lines are asked for at a time.
const PAGE: usize = 1000;
/// The server is asked to wait so long for the first: a signal has its effect after that.
const WAIT: &str = "500ms";
/// After a failure.
const PAUSE: Duration = Duration::from_millis(300);

/// Why it ended before its time.
pub type Ended = Box<dyn std::error::Error>;

/// Records.
pub fn run(url: &str, plan: &Record) -> Result<(), Ended> {
    let over = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&over))?;
    }
    let source = Source::new(url)?;
    let mut connection = source.connect().map_err(|why| said(&why))?;
    let types = logged(&mut connection).map_err(|why| said(&why))?;
    if types.is_empty() {
        return Err("reads of no type are logged: EXPCACHE.TYPE SET name AUDIT all".into());
    }
    let place = newest(&mut connection).map_err(|why| said(&why))?;
    // What is in it is nobody else's business; and what took days to record is not written over.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&plan.path);
    let file = file.map_err(|why| format!("{}: {why}", plan.path.display()))?;
    eprintln!("recording {} into {}; Ctrl-C ends it", types.join(", "), plan.path.display());
    let mut recorder = Recorder {
        source,
        connection: Some(connection),
        place,
        tracer: Tracer::new(plan.is_hashed),
        file: BufWriter::new(file),
        written: 0,
        most: plan.lines,
        lost: 0,
        over,
        until: plan.time.map(|time| Instant::now() + time),
    };
    recorder.tracer.say(format!("time key type size cost tags etag; of {}", types.join(", ")));
    let followed = recorder.follow();
    let written = recorder.write(true).and_then(|()| Ok(recorder.file.flush()?));
    recorder.sum_up();
    followed.and(written)
}

/// The types whose reads are in the log.
fn logged(c: &mut Connection) -> RedisResult<Vec<String>> {
    let mut types = Vec::new();
    for name in redis::cmd("EXPCACHE.TYPE").arg("LIST").query::<Vec<Vec<u8>>>(c)? {
        let policy: Value = redis::cmd("EXPCACHE.TYPE").arg("GET").arg(&name).query(c)?;
        let is_all = |(field, value): (&Value, &Value)| bytes(field) == b"audit" && bytes(value) == b"all";
        if policy.as_map_iter().into_iter().flatten().any(is_all) {
            types.push(name.escape_ascii().to_string());
        }
    }
    Ok(types)
}

/// The number of the newest line, if there is one.
fn newest(c: &mut Connection) -> RedisResult<Option<u64>> {
    let lines: Value = redis::cmd("EXPCACHE.AUDIT").arg("AFTER").arg("-1").query(c)?;
    Ok(lines.as_sequence().and_then(<[Value]>::last).map(|line| line_of(line).id))
}

struct Recorder {
    source: Source,
    connection: Option<Connection>,
    /// The number of the line that was read last.
    place: Option<u64>,
    tracer: Tracer,
    file: BufWriter<File>,
    written: u64,
    most: u64,
    lost: u64,
    over: Arc<AtomicBool>,
    until: Option<Instant>,
}

impl Recorder {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
            || self.written >= self.most
            || self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn follow(&mut self) -> Result<(), Ended> {
        let mut was_told = false;
        while !self.is_over() {
            match self.read() {
                Ok(()) => was_told = false,
                Err(why) if is_refusal(&why) => return Err(said(&why).into()),
                Err(why) => {
                    self.connection = None;
                    if !std::mem::replace(&mut was_told, true) {
                        eprintln!("the server is away, retrying: {}", said(&why));
                    }
                    thread::sleep(PAUSE);
                }
            }
            self.write(false)?;
            self.file.flush()?;
        }
        Ok(())
    }

    /// Reads the next lines, and looks at their entries.
    fn read(&mut self) -> RedisResult<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.source.connect()?,
        };
        let mut asking = redis::cmd("EXPCACHE.AUDIT");
        self.place.iter().for_each(|place| _ = asking.arg("AFTER").arg(*place));
        let reply: Value = asking.arg("COUNT").arg(PAGE).arg("WAIT").arg(WAIT).query(&mut connection)?;
        let lines: Vec<Logged> = reply.as_sequence().unwrap_or_default().iter().map(line_of).collect();
        let is_gap = lines.first().zip(self.place).is_some_and(|(line, place)| line.id != place.saturating_add(1));
        if is_gap {
            self.tracer.forget_values();
        }
        let found = look_at(&self.tracer.unknown(&lines), &mut connection)?;
        self.connection = Some(connection);
        self.note_gap(lines.first());
        self.place = lines.last().map(|line| line.id).or(self.place);
        self.tracer.take(&lines, &found);
        Ok(())
    }

    /// Tells what is missing before a line.
    fn note_gap(&mut self, first: Option<&Logged>) {
        let (Some(first), Some(place)) = (first, self.place) else { return };
        let lost = first.lost.unwrap_or(0);
        let is_anew = first.id != place.saturating_add(lost).saturating_add(1);
        let what = match (lost, is_anew) {
            (0, false) => return,
            (0, true) => "the server was started anew, and what it logged before is not known".to_owned(),
            (lost, _) => format!("{lost} lines of the log were written over before they were read"),
        };
        self.lost += lost;
        eprintln!("{what}");
        self.tracer.say(what);
    }

    fn write(&mut self, is_over: bool) -> Result<(), Ended> {
        while self.written < self.most
            && let Some(line) = self.tracer.next(is_over)
        {
            writeln!(self.file, "{line}")?;
            self.written += 1;
        }
        Ok(())
    }

    fn sum_up(&self) {
        eprintln!("{} lines are recorded", self.written);
        if self.lost > 0 {
            eprintln!("{} lines of the log were lost: give it more expcache.audit-memory", self.lost);
        }
        for (what, times) in &self.tracer.left_out {
            eprintln!("left out, as a trace has no words for them: {times} {what}");
        }
    }
}

fn line_of(reply: &Value) -> Logged {
    let mut line = Logged::default();
    for (name, value) in reply.as_map_iter().into_iter().flatten() {
        match bytes(name) {
            b"id" => line.id = number(value),
            b"lost" => line.lost = Some(number(value)),
            b"time" => line.time_ms = number(value),
            b"command" => line.command = String::from_utf8_lossy(bytes(value)).into_owned(),
            b"type" => line.type_name = bytes(value).to_vec(),
            b"key" => line.key = bytes(value).to_vec(),
            b"tags" => line.tags = texts(value),
            b"size" if *value != Value::Nil => line.size = Some(number(value)),
            b"result" => line.result = String::from_utf8_lossy(bytes(value)).into_owned(),
            _ => {}
        }
    }
    line
}

/// What the entries of these keys are, of those that there are.
fn look_at(keys: &[&[u8]], c: &mut Connection) -> RedisResult<HashMap<Vec<u8>, trace::Value>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let mut asking = redis::pipe();
    keys.iter().for_each(|key| _ = asking.cmd("EXPCACHE.META").arg(*key));
    // Another type's value is none of ours.
    asking.ignore_errors();
    let replies: Vec<Result<Value, RedisError>> = asking.query(c)?;
    let found = keys.iter().zip(replies).filter_map(|(key, reply)| Some((key.to_vec(), value_of(&reply.ok()?)?)));
    Ok(found.collect())
}

fn value_of(reply: &Value) -> Option<trace::Value> {
    let mut value = trace::Value::default();
    for (name, field) in reply.as_map_iter()? {
        match bytes(name) {
            b"size" => value.size = number(field),
            b"cost" if *field != Value::Nil => value.cost_ms = Some(number(field)),
            b"tags" => value.tags = texts(field),
            b"etag" => value.etag = Some(String::from_utf8_lossy(bytes(field)).into_owned()),
            _ => {}
        }
    }
    Some(value)
}

fn texts(value: &Value) -> Vec<Vec<u8>> {
    value.as_sequence().unwrap_or_default().iter().map(|text| bytes(text).to_vec()).collect()
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.as_bytes(),
        _ => &[],
    }
}
