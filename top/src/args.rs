//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use expcache_core::units::{UnitRule, parse_duration_ms};
use lexopt::{Arg, Parser, ValueExt};

/// What `--help` says.
pub const USAGE: &str = "\
What an expcache server does, live in the terminal.

usage: expcache-top [--url ADDRESS] [--interval DURATION] [--advice] [--once | --svg] [--looks N] [--size COLUMNSxLINES]
       expcache-top [--url ADDRESS] --record FILE [--hash] [--lines N] [--for DURATION]

  --url        redis://[user[:password]@]host[:port][/db] or unix:///path; default redis://127.0.0.1:6379
  --interval   how often to look, from 100ms on: 500ms 2s 1m; default 1s
  --advice     begin with advice, and with the keys that are worth producing
  --once       print one screen as text, after two looks
  --svg        print one screen as a picture
  --looks      with these: after so many looks
  --size       with these: of this size, default 80x24

  --record     write what types with AUDIT all are asked for, as a trace, into a new file, until Ctrl-C
  --hash       with it: keys and tags as hashes with a salt that nobody knows
  --lines      with it: so many lines at most, default 10000000
  --for        with it: so long at most

The password may also stand in REDISCLI_AUTH. NO_COLOR turns colours off. Keys: ? shows them.
";

const SHORTEST: Duration = Duration::from_millis(100);
/// Some hundreds of megabytes.
const MOST_LINES: u64 = 10_000_000;

/// How one screen is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    Text,
    Svg,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    pub url: String,
    pub interval: Duration,
    /// One screen, without a terminal.
    pub print: Option<Print>,
    pub looks: u32,
    /// Columns and lines.
    pub size: (u16, u16),
    /// Does it begin with advice?
    pub is_advised: bool,
    pub record: Option<Record>,
}

/// What is recorded, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub path: PathBuf,
    pub is_hashed: bool,
    /// The most lines.
    pub lines: u64,
    /// The longest time.
    pub time: Option<Duration>,
}

impl Args {
    /// Reads them; `None` when help was asked for.
    pub fn parse(mut parser: Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            url: "redis://127.0.0.1:6379".into(),
            interval: Duration::from_secs(1),
            print: None,
            looks: 2,
            size: (80, 24),
            is_advised: false,
            record: None,
        };
        let (mut path, mut is_hashed, mut lines, mut time) = (None, None, None, None);
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("url") => args.url = parser.value()?.string()?,
                Arg::Long("interval") => args.interval = parser.value()?.parse_with(interval)?,
                Arg::Long("once") => args.print = Some(Print::Text),
                Arg::Long("svg") => args.print = Some(Print::Svg),
                Arg::Long("looks") => args.looks = parser.value()?.parse_with(looks)?,
                Arg::Long("size") => args.size = parser.value()?.parse_with(size)?,
                Arg::Long("advice") => args.is_advised = true,
                Arg::Long("record") => path = Some(PathBuf::from(parser.value()?)),
                Arg::Long("hash") => is_hashed = Some(true),
                Arg::Long("lines") => lines = Some(parser.value()?.parse_with(many)?),
                Arg::Long("for") => time = Some(parser.value()?.parse_with(interval)?),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        args.record = match path {
            Some(path) => {
                let (is_hashed, lines) = (is_hashed.unwrap_or(false), lines.unwrap_or(MOST_LINES));
                Some(Record { path, is_hashed, lines, time })
            }
            None if is_hashed.is_some() || lines.is_some() || time.is_some() => {
                return Err("--hash, --lines and --for go with --record".into());
            }
            None => None,
        };
        Ok(Some(args))
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let ms = parse_duration_ms(text.as_bytes(), UnitRule::Required).map_err(|why| why.to_string())?;
    Some(Duration::from_millis(ms)).filter(|interval| *interval >= SHORTEST).ok_or("it is too short".into())
}

fn many(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|lines| *lines > 0).ok_or("a number from 1 on".into())
}

fn looks(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|looks| *looks > 0).ok_or("a number from 1 on".into())
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(columns, lines)| Some((columns.parse().ok()?, lines.parse().ok()?)));
    sides.filter(|sides| (1..=500).contains(&sides.0) && (1..=500).contains(&sides.1)).ok_or("such as 100x30".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Option<Args>, lexopt::Error> {
        Args::parse(Parser::from_args(words.split_whitespace()))
    }

    #[test]
    fn what_is_asked_for() {
        let args = parse("--url redis://h:7 --interval=250ms --svg --looks 5 --size 100x30").unwrap().unwrap();
        assert_eq!((args.url.as_str(), args.interval, args.looks), ("redis://h:7", Duration::from_millis(250), 5));
        assert_eq!((args.print, args.size), (Some(Print::Svg), (100, 30)));
        assert_eq!(parse("--help").unwrap(), None);
        let record = parse("--record f --hash --for 2h").unwrap().unwrap().record;
        let time = Some(Duration::from_secs(7200));
        assert_eq!(record, Some(Record { path: "f".into(), is_hashed: true, lines: MOST_LINES, time }));
        let args = parse("--record f --lines 5 --advice").unwrap().unwrap();
        assert_eq!((args.record.map(|record| record.lines), args.is_advised), (Some(5), true));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for words in [
            "--hash",
            "--lines 5",
            "--record f --lines 0",
            "--record f --for 1",
            "--record",
            "--interval 1",
            "--interval 5ms",
            "--looks 0",
            "--size 9",
            "--size 0x5",
            "extra",
            "--unknown",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
