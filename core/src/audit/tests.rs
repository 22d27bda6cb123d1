#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::VecDeque;

use fastrand::Rng;

use super::*;
use crate::grammar::audit::After;

const FIRST: u64 = 1_000;

fn log(bytes: usize) -> AuditLog {
    let mut log = AuditLog::new(FIRST);
    assert!(log.resize(bytes).is_empty());
    log
}

fn wanted(after: Option<After>, count: usize) -> Wanted {
    Wanted { after, count, ..Wanted::default() }
}

/// Reads to the end, or until there is enough, in steps of so many lines.
fn read(log: &AuditLog, wanted: Wanted, step: usize) -> Findings {
    let mut reading = Reading::new(log, wanted);
    while reading.step(log, step) == Progress::Between {}
    reading.into_found()
}

fn ids(found: &Findings) -> Vec<u64> {
    found.iter().map(|(id, _)| id).collect()
}

#[test]
fn a_line_is_read_as_it_was_written() {
    let mut log = log(1 << 20);
    let (actor, tags): (_, [&[u8]; 3]) =
        (Actor { user: Some(b"alice"), client: 7, name: Some(b"api") }, [b"a", b"", b"\0\xFF"]);
    let action = Action {
        command: "expcache.set",
        type_name: Some(b"trips"),
        key: Some(b"k"),
        tags: &tags,
        count: Some(0),
        size: Some(u64::MAX),
        result: b"ok",
        note: Some(b""),
    };
    log.push(17, &actor, &action);
    log.push(18, &Actor::default(), &Action { command: "del", result: b"ok", ..Action::default() });
    let found = read(&log, wanted(None, 10), 1);
    let lines: Vec<_> = found.iter().collect();
    assert_eq!(ids(&found), [FIRST, FIRST + 1]);
    let (_, line) = lines[0];
    assert_eq!((line.time_ms, line.actor, line.command), (17, actor, b"expcache.set".as_slice()));
    assert_eq!(
        (line.type_name, line.key, line.count, line.size),
        (action.type_name, action.key, Some(0), Some(u64::MAX))
    );
    assert_eq!(
        (line.tags.collect::<Vec<_>>(), line.result, line.note),
        (tags.to_vec(), b"ok".as_slice(), Some([].as_slice()))
    );
    let (_, line) = lines[1];
    assert_eq!((line.actor, line.type_name, line.key, line.count), (Actor::default(), None, None, None));
    assert_eq!((line.size, line.note, line.tags.count()), (None, None, 0));
}

#[test]
fn what_is_long_is_cut_and_says_so() {
    let mut log = log(1 << 20);
    let long = vec![b'x'; 1 << 20];
    let tags = vec![long.as_slice(); 4096];
    let action = Action {
        command: "expcache.invalidate.tag",
        type_name: Some(&long),
        key: Some(&long),
        tags: &tags,
        result: &long,
        note: Some(&long),
        ..Action::default()
    };
    log.push(0, &Actor { user: Some(&long), client: 1, name: Some(&long) }, &action);
    let found = read(&log, wanted(None, 1), 1);
    assert!(found.size_bytes() < 6_000, "{}", found.size_bytes());
    let (_, line) = found.iter().next().unwrap();
    let cut = |kept: usize| [&long[..kept], format!("... ({} more bytes)", long.len() - kept).as_bytes()].concat();
    assert_eq!((line.key.unwrap(), line.type_name.unwrap(), line.result), (&*cut(512), &*cut(512), &*cut(512)));
    assert_eq!(
        (line.actor.user.unwrap(), line.actor.name.unwrap(), line.note.unwrap()),
        (&*cut(128), &*cut(128), &*cut(256))
    );
    let tags: Vec<_> = line.tags.collect();
    assert_eq!((tags.len(), tags[0]), (4, &*cut(512)));
    assert_eq!(tags[3], b"... (4093 more)");
}

/// A tag that is as long as it may be is not cut, and as many short ones as an entry has are all there.
#[test]
fn what_is_within_bounds_is_whole() {
    let mut log = log(1 << 20);
    let (text, names): (_, Vec<Vec<u8>>) =
        (vec![b'x'; 512], (0..64).map(|n| format!("company:{n}").into_bytes()).collect());
    let tags: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    log.push(0, &Actor::default(), &Action { key: Some(&text), tags: &tags, ..Action::default() });
    log.push(0, &Actor::default(), &Action { tags: &[&text], ..Action::default() });
    let found = read(&log, wanted(None, 2), 1);
    let lines: Vec<_> = found.iter().map(|(_, line)| line).collect();
    assert_eq!((lines[0].key, lines[0].tags.collect::<Vec<_>>()), (Some(&*text), tags));
    assert_eq!(lines[1].tags.collect::<Vec<_>>(), [&*text]);
}

#[test]
fn a_reader_learns_what_it_missed() {
    let mut log = log(128 << 10);
    let push =
        |log: &mut AuditLog| log.push(0, &Actor::default(), &Action { command: "expcache.get", ..Action::default() });
    while log.oldest_id() == FIRST {
        push(&mut log);
    }
    let (oldest, newest) = (log.oldest_id(), log.next_id() - 1);
    for (after, first, lost) in [
        (None, Some(oldest), None),
        (Some(After::Last(0)), None, None),
        (Some(After::Last(1)), Some(newest), None),
        (Some(After::Last(u64::MAX)), Some(oldest), None),
        (Some(After::Id(newest)), None, None),
        (Some(After::Id(newest - 1)), Some(newest), None),
        (Some(After::Id(oldest - 1)), Some(oldest), None),
        (Some(After::Id(oldest - 2)), Some(oldest), Some(1)),
        (Some(After::Id(FIRST)), Some(oldest), Some(oldest - FIRST - 1)),
        (Some(After::Id(FIRST - 1)), Some(oldest), Some(oldest - FIRST)),
        // Another log's numbers, before it and behind it.
        (Some(After::Id(0)), Some(oldest), Some(oldest - FIRST)),
        (Some(After::Id(newest + 1)), Some(oldest), Some(oldest - FIRST)),
        (Some(After::Id(i64::MAX as u64)), Some(oldest), Some(oldest - FIRST)),
    ] {
        let found = read(&log, wanted(after, 3), 7);
        assert_eq!((found.iter().next().map(|(id, _)| id), found.lost()), (first, lost), "{after:?}");
    }
    // It is overtaken by the log.
    let mut slow = Reading::new(&log, Wanted { user: Some(b"nobody".as_slice().into()), ..wanted(None, 1) });
    assert_eq!(slow.step(&log, 1), Progress::Between);
    let was_oldest = log.oldest_id();
    while log.oldest_id() == was_oldest {
        push(&mut log);
    }
    while slow.step(&log, 100) == Progress::Between {}
    assert_eq!(slow.found().lost(), Some(log.oldest_id() - was_oldest - 1));
    // What it found before stands by itself; the gap is the next answer's.
    let mut slow = Reading::new(&log, wanted(None, 10));
    assert_eq!(slow.step(&log, 1), Progress::Between);
    let (found, was_oldest) = (ids(slow.found()), log.oldest_id());
    while log.oldest_id() == was_oldest {
        push(&mut log);
    }
    assert_eq!((slow.step(&log, 100), ids(slow.found()), slow.found().lost()), (Progress::Full, found, None));
}

#[test]
fn memory_follows_the_bound() {
    let mut log = log(1 << 20);
    for _ in 0..100_000 {
        log.push(0, &Actor::default(), &Action { command: "expcache.get", ..Action::default() });
    }
    assert_eq!(log.size_bytes(), 1 << 20);
    let (oldest, next) = (log.oldest_id(), log.next_id());
    assert!(log.resize(2 << 20).is_empty());
    assert_eq!((log.oldest_id(), log.size_bytes()), (oldest, 1 << 20), "more room moves nothing");
    assert_eq!(log.resize(1).len(), 14, "of whatever is not nothing there are two");
    assert_eq!((log.size_bytes(), log.next_id()), (128 << 10, next));
    assert_eq!(log.resize(0).len(), 2);
    log.push(0, &Actor::default(), &Action::default());
    assert_eq!(
        (log.oldest_id(), log.next_id(), log.size_bytes()),
        (next, next, 0),
        "without memory nothing is numbered"
    );
}

/// Random lines, bounds and readers, beside a list that forgets what the log forgets.
#[test]
fn a_log_is_a_list_whose_oldest_lines_go() {
    for seed in 0..20 {
        let rng = &mut Rng::with_seed(seed);
        let (mut log, mut list) = (log(128 << 10), VecDeque::<(u64, Vec<u8>, bool)>::new());
        let mut next = FIRST;
        for _ in 0..3_000 {
            match rng.u8(..100) {
                0 => drop(log.resize([0, 1, 128 << 10, 192 << 10, 512 << 10][rng.usize(..5)])),
                1..80 => {
                    let (key, is_alices) = (vec![b'k'; rng.usize(..900)], rng.bool());
                    let tags = vec![b"tag".as_slice(); rng.usize(..40)];
                    let user: &[u8] = if is_alices { b"alice" } else { b"bob" };
                    let action = Action { command: "expcache.set", key: Some(&key), tags: &tags, ..Action::default() };
                    log.push(next, &Actor { user: Some(user), ..Actor::default() }, &action);
                    if log.next_id() > next {
                        list.push_back((next, key, is_alices));
                        next += 1;
                    }
                }
                _ => {
                    let after = rng.u64(FIRST.max(next.saturating_sub(900)) - 1..next);
                    let (count, picky) = (rng.usize(1..50), rng.bool());
                    let user = picky.then(|| b"alice".as_slice().into());
                    let found = read(&log, Wanted { user, ..wanted(Some(After::Id(after)), count) }, rng.usize(1..100));
                    let expected = list.iter().filter(|(id, _, alices)| *id > after && (*alices || !picky)).take(count);
                    let expected: Vec<_> = expected.map(|(id, key, _)| (*id, key.len())).collect();
                    let shown = |key: &[u8]| match key.iter().position(|byte| *byte == b'.') {
                        None => key.len(),
                        Some(at) => {
                            let more = String::from_utf8_lossy(&key[at..]);
                            at + more.split(['(', ' ']).find_map(|word| word.parse::<usize>().ok()).unwrap()
                        }
                    };
                    let there: Vec<_> = found.iter().map(|(id, line)| (id, shown(line.key.unwrap()))).collect();
                    assert_eq!(there, expected, "seed {seed}");
                    let oldest = list.front().map_or(next, |(id, ..)| *id);
                    assert_eq!(found.lost(), (after + 1 < oldest).then(|| oldest - after - 1), "seed {seed}");
                }
            }
            while list.front().is_some_and(|(id, ..)| *id < log.oldest_id()) {
                list.pop_front();
            }
            assert_eq!(
                (log.next_id(), log.oldest_id()),
                (next, list.front().map_or(next, |(id, ..)| *id)),
                "seed {seed}"
            );
        }
    }
}

/// Whatever the bytes are, reading them ends.
#[test]
fn any_bytes_can_be_read() {
    let rng = &mut Rng::with_seed(1);
    let mut buffer = vec![0; 4096];
    let tags = vec![b"company:42".as_slice(); 9];
    let action = Action { command: "expcache.set", key: Some(b"key"), tags: &tags, ..Action::default() };
    let written = super::line::write(&mut buffer, 1, &Actor::default(), &action).unwrap();
    for _ in 0..20_000 {
        let mut bytes = buffer[..written].to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(rng.usize(..=written));
        if let Some(line) = LogLine::read(&bytes) {
            assert!(line.tags.count() <= bytes.len());
        }
    }
    // No room is no line, and nothing beyond the room is touched.
    for room in 0..written {
        assert_eq!(super::line::write(&mut buffer[..room], 1, &Actor::default(), &action), None);
    }
}
