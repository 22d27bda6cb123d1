//! The plan of the house: which file may name which other. Imports are read from the sources, so this needs no server.
//!
//! A *room* is a module of the crate's root: a file or a folder of `src/`. Arrows between rooms point down, as
//! [`ROOMS`] says. Files of one room may name each other as long as no circle comes of it: neither rooms nor files go
//! round.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the module, from the bottom up, and which others each may name. Besides, each may name `expcache-core`.
const ROOMS: &[(&str, &[&str])] = &[
    ("server", &[]),
    ("cache", &["server"]),
    ("audit", &["cache", "server"]),
    ("leases", &["cache", "server"]),
    ("advice", &["cache", "server"]),
    ("payloads", &["advice", "cache", "server"]),
    ("types", &["advice", "audit", "cache", "server"]),
    ("diagnosis", &["cache", "server"]),
    ("keyfor", &["cache", "server"]),
    ("limits", &["server"]),
    ("warming", &["leases", "cache", "server"]),
    ("invalidation", &["warming", "leases", "advice", "audit", "cache", "server"]),
    ("entries", &["invalidation", "warming", "leases", "payloads", "types", "advice", "audit", "cache", "server"]),
    ("keyspace", &["invalidation", "leases", "payloads", "types", "audit", "cache", "server"]),
    ("rules", &["invalidation", "audit", "cache", "server"]),
    ("listing", &["entries", "invalidation", "cache", "server"]),
    ("statistics", &["entries", "invalidation", "leases", "rules", "audit", "cache", "server"]),
    (
        "lib",
        &[
            "server",
            "cache",
            "audit",
            "leases",
            "payloads",
            "types",
            "diagnosis",
            "keyfor",
            "limits",
            "advice",
            "warming",
            "invalidation",
            "entries",
            "keyspace",
            "rules",
            "listing",
            "statistics",
        ],
    ),
];

/// Arrows between rooms that are there and should not be.
const OWED_ARROWS: &[(&str, &str)] = &[];

/// Circles of files that are there and should not be.
const OWED_CIRCLES: &[(&str, &[&str])] = &[];

#[test]
fn rooms_name_only_those_below_them() {
    let house = House::read("src");
    let mut wrong = BTreeSet::new();
    for (from, to) in house.arrows() {
        let (above, below) = (room(from), room(to));
        let allowed = ROOMS.iter().find(|(name, _)| *name == above).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{from}: a room that is not in the table"));
        if above != below && !allowed.contains(&below.as_str()) {
            wrong.insert((from.clone(), to.clone()));
        }
    }
    let owed = OWED_ARROWS.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
    assert_eq!(wrong, owed, "arrows between rooms that the table does not allow, and those that are owed");
}

/// Invariant 6: whatever the server calls goes through the guard, where a panic ends.
#[test]
fn every_way_in_goes_through_the_guard() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut ways_in = 0;
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for at in text.match_indices("extern \"C\" fn ").map(|(at, _)| at) {
            let rest = &text[at..];
            // A type, or a declaration, has no body.
            let Some(body) = rest.find(" {\n").filter(|open| rest[..*open].contains(')')) else { continue };
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            let indent = text[line..].chars().take_while(|c| *c == ' ').count();
            let end = rest.find(&format!("\n{}}}\n", " ".repeat(indent))).unwrap();
            let guarded = ["guard(", "reply("].iter().any(|call| rest[body..end].contains(call));
            let name = rest.split(['(', '<']).next().unwrap();
            assert!(guarded, "{}: {name} is called by the server and not guarded", path.display());
            ways_in += 1;
        }
    }
    assert!(ways_in > 30, "only {ways_in} ways in were found");
}

/// The table itself is in order: each room names only rooms that stand before it.
#[test]
fn the_table_of_rooms_goes_upwards() {
    for (at, (name, below)) in ROOMS.iter().enumerate() {
        for room in *below {
            assert!(ROOMS[..at].iter().any(|(other, _)| other == room), "{name} names {room}, which is not below it");
        }
    }
}

#[test]
fn files_do_not_go_round() {
    let found: BTreeSet<(String, String)> = ["src", "core/src", "client/src"]
        .into_iter()
        .flat_map(|sources| circles(&House::read(sources).names).into_iter().map(move |files| (sources, files)))
        .map(|(sources, files)| (sources.to_string(), files.join(" ")))
        .collect();
    let owed = OWED_CIRCLES.iter().map(|(sources, files)| (sources.to_string(), files.join(" "))).collect();
    assert_eq!(found, owed, "files that name each other in a circle, and those that are owed");
}

#[test]
fn rooms_do_not_go_round() {
    for sources in ["core/src", "client/src"] {
        let mut rooms: Graph = BTreeMap::new();
        for (from, to) in House::read(sources).arrows() {
            let below = rooms.entry(room(from)).or_default();
            if room(from) != room(to) {
                below.insert(room(to));
            }
        }
        let found: Vec<String> = circles(&rooms).into_iter().map(|rooms| rooms.join(" ")).collect();
        let owed = OWED_ROOM_CIRCLES.iter().filter(|(of, _)| *of == sources).map(|(_, rooms)| rooms.to_string());
        assert_eq!(found, owed.collect::<Vec<_>>(), "{sources}: rooms that name each other in a circle");
    }
}

/// Circles of rooms of the other crates that are there and should not be.
const OWED_ROOM_CIRCLES: &[(&str, &str)] = &[];

/// Who names whom.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The sources of a crate: its files by their module's path, and which file names which.
struct House {
    names: Graph,
}

impl House {
    fn read(sources: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(sources);
        let mut files = Vec::new();
        collect(&root, &mut files);
        let texts: BTreeMap<String, Source> = files
            .iter()
            .map(|path| {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
                let source = Source::new(&name, &fs::read_to_string(path).unwrap());
                (name, source)
            })
            .collect();
        let of_module: BTreeMap<Vec<String>, String> =
            texts.iter().map(|(name, source)| (source.module.clone(), name.clone())).collect();
        let names = texts
            .iter()
            .map(|(name, source)| {
                let paths = source.paths.iter().filter(|path| !path.is_exported);
                let found = paths.map(|path| resolve(&of_module, &texts, &path.segments, 0));
                (name.clone(), found.filter(|to| to != name).collect())
            })
            .collect();
        Self { names }
    }

    fn arrows(&self) -> impl Iterator<Item = (&String, &String)> {
        self.names.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)))
    }
}

/// The file in which what has this path is; what a file hands on (`pub use`) is where it comes from.
fn resolve(
    of_module: &BTreeMap<Vec<String>, String>,
    texts: &BTreeMap<String, Source>,
    path: &[String],
    depth: usize,
) -> String {
    let len = (0..=path.len()).rev().find(|len| of_module.contains_key(&path[..*len])).unwrap();
    let file = &of_module[&path[..len]];
    let Some(name) = path.get(len).filter(|_| depth < 8) else { return file.clone() };
    let exports = |file: &String| {
        let mut exported = texts[file].paths.iter().filter(|path| path.is_exported && !path.is_all);
        exported.find(|path| path.segments.last() == Some(name))
    };
    let of_all = || texts[file].paths.iter().filter(|path| path.is_exported && path.is_all);
    let handed_on = exports(file).or_else(|| of_all().find_map(|path| exports(of_module.get(&path.segments)?)));
    match handed_on {
        Some(path) => resolve(of_module, texts, &path.segments, depth + 1),
        None => file.clone(),
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Tests look at what they like.
        if path.is_dir() && name != "tests" {
            collect(&path, files);
        } else if name.ends_with(".rs") && !["tests.rs", "race.rs"].contains(&name) {
            files.push(path);
        }
    }
}

/// The room that a file is in.
fn room(file: &str) -> String {
    file.split('/').next().unwrap().trim_end_matches(".rs").to_string()
}

/// One file.
struct Source {
    module: Vec<String>,
    children: Vec<String>,
    paths: Vec<Named>,
}

/// A path that a file names, from the crate's root on.
struct Named {
    segments: Vec<String>,
    is_exported: bool,
    /// It ends in a star.
    is_all: bool,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        let mut module: Vec<String> = name.trim_end_matches(".rs").split('/').map(Into::into).collect();
        if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
            module.pop();
        }
        let text = without_comments(text.split("\nmod tests {").next().unwrap());
        let (children, code) = (children(&text), without_uses(&text));
        let mut source = Self { module, children, paths: Vec::new() };
        for (statement, is_exported) in uses(&text) {
            source.add_tree(&statement, &[], is_exported);
        }
        for path in inline_paths(&code) {
            source.add(&path, false);
        }
        // Its own modules need no import.
        for child in source.children.clone() {
            if words(&code, "::").any(|word| word == child) {
                source.add(&["self".into(), child], false);
            }
        }
        source
    }

    /// Adds the paths of a `use`, its braces spread out.
    fn add_tree(&mut self, tree: &str, before: &[String], is_exported: bool) {
        let tree = tree.trim();
        let (head, inner) = match tree.split_once('{') {
            Some((head, rest)) => (head, Some(rest.strip_suffix('}').unwrap_or(rest))),
            None => (tree, None),
        };
        let head = head.split(" as ").next().unwrap();
        let mut path = before.to_vec();
        path.extend(head.split("::").map(str::trim).filter(|s| !s.is_empty()).map(Into::into));
        match inner {
            Some(inner) => split_at_depth_0(inner).iter().for_each(|part| self.add_tree(part, &path, is_exported)),
            None => self.add(&path, is_exported),
        }
    }

    fn add(&mut self, path: &[String], is_exported: bool) {
        let mut segments = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            Some(first) if self.children.iter().any(|child| child == first) => self.module.clone(),
            _ => return,
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" | "*" => (),
                "super" => _ = segments.pop(),
                name => segments.push(name.into()),
            }
        }
        let is_all = path.last().is_some_and(|last| last == "*");
        self.paths.push(Named { segments, is_exported, is_all });
    }
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_string();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// What follows each `use`, and whether it is handed on.
fn uses(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let (before, after) = (&rest[..at], &rest[at + 4..]);
        let start = before.rsplit('\n').next().unwrap_or_default().trim();
        if start.is_empty() || start.starts_with("pub") {
            let statement = after.split(';').next().unwrap_or_default();
            // What a parent hands to its children stays in the house, but it is handed on all the same.
            found.push((statement.split_whitespace().collect::<Vec<_>>().join(" "), start.starts_with("pub")));
        }
        rest = after;
    }
    found
}

/// Paths in the code itself.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let found = code
        .split(|c| !is_part(c))
        .filter(|word| ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start)));
    found.map(|word| word.split("::").filter(|s| !s.is_empty()).map(Into::into).collect()).collect()
}

/// The code, its imports left out.
fn without_uses(text: &str) -> String {
    let mut in_use = false;
    let mut is_code = |line: &&str| {
        let words = line.trim_start().trim_start_matches(|c: char| c != ' ').trim_start();
        in_use |= line.trim_start().starts_with("use ") || line.starts_with("pub") && words.starts_with("use ");
        let was_use = in_use;
        in_use &= !line.contains(';');
        !was_use
    };
    text.lines().filter(|line| is_code(line)).collect::<Vec<_>>().join("\n")
}

fn children(text: &str) -> Vec<String> {
    let declared = |line: &str| {
        let line = line.trim_end().strip_suffix(';')?;
        let (before, name) = line.rsplit_once("mod ")?;
        (before.is_empty() || before.starts_with("pub")).then(|| name.to_string())
    };
    text.lines().filter_map(declared).collect()
}

/// The words that stand before `end`.
fn words<'t>(text: &'t str, end: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(end).filter_map(move |(at, _)| {
        let before = &text[..at];
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        // After a path's own `::` it is another's child.
        (!before[..start].ends_with(':')).then(|| &before[start..])
    })
}

fn split_at_depth_0(text: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => (),
        }
        if c == ',' && depth == 0 { parts.push(String::new()) } else { parts.last_mut().unwrap().push(c) }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Those that reach themselves, together with who is on the way.
fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reached = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_string()]);
        while let Some(one) = next.pop() {
            for to in graph.get(&one).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|one| (one, reached(one))).collect();
    let round: BTreeSet<Vec<String>> = all
        .iter()
        .filter(|(one, reached)| reached.contains(**one))
        .map(|(one, reached)| {
            reached.iter().filter(|to| all.get(to).is_some_and(|reached| reached.contains(*one))).cloned().collect()
        })
        .collect();
    round.into_iter().collect()
}
