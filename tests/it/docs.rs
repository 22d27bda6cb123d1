//! The documentation is true: the head of each command's page is what a server says of the command, every example gives the
//! reply that stands below it, and the README's tables are those of the module.
//!
//! An example stands in a fence of the language `redis`: `> ` and a command, then the reply as `redis-cli -3` prints it. Each
//! page's examples run one after the other on a server of their own. Where a reply varies, `<number>` stands for a number
//! and `…` for anything; `…` on a line of its own stands for any lines. `<token>` stands for the token of a lease, and in a
//! command for the one that was shown last.
//!
//! `EXPCACHE_WRITE_HEADS=1 cargo test --test it docs::` writes the heads anew after a change of the command table; a new
//! command's needs a server that knows ACL categories of modules (`EXPCACHE_SERVER`, Redis 8 or Valkey).

use crate::harness::{Conn, Fields, Server, Value};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file of Markdown.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn read(path: PathBuf) -> Page {
        let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        Page { path, text }
    }

    fn name(&self) -> String {
        self.path.strip_prefix(ROOT).unwrap().display().to_string()
    }

    /// What the file's links to other files point to, without the part of the file.
    fn links(&self) -> impl Iterator<Item = &str> {
        let targets = self.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        targets.filter(|target| !target.is_empty() && !target.contains("://"))
    }
}

fn readme() -> Page {
    Page::read(Path::new(ROOT).join("README.md"))
}

/// The commands' pages.
fn pages() -> Vec<Page> {
    let files = fs::read_dir(Path::new(ROOT).join("docs/commands")).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

/// The other pages of `docs/`, at any depth.
fn guides() -> Vec<Page> {
    let mut folders = vec![Path::new(ROOT).join("docs")];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let (inner, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| path.is_dir());
        folders.extend(inner.into_iter().filter(|path| !path.ends_with("commands")));
        paths.extend(files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

// ---- heads

/// Every command of the module and every subcommand, as `EXPCACHE.TYPE SET`, with its container first.
fn commands(c: &mut Conn) -> Vec<String> {
    let mut names = c.cmd("COMMAND LIST FILTERBY MODULE expcache").sorted_texts();
    names.retain(|name| !name.contains('|'));
    let with_subcommands = |name: &String| {
        let info = c.cmd(&["COMMAND", "INFO", name]);
        let subcommands = info.items()[0].items()[9].items();
        let mut all: Vec<String> = subcommands.iter().map(|sub| sub.items()[0].text()).collect();
        all.sort();
        all.insert(0, name.clone());
        all
    };
    names.iter().flat_map(with_subcommands).map(|name| name.to_uppercase().replace('|', " ")).collect()
}

/// What `COMMAND DOCS` says of one command.
fn docs(c: &mut Conn, command: &str) -> Fields {
    let docs = c.map(&["COMMAND", "DOCS", &command.replace(' ', "|")]);
    docs[docs.names()[0]].fields()
}

/// A command's head, its heading left out. `categories` are shown where the server knows none.
fn head(c: &mut Conn, command: &str, categories: &str) -> String {
    let docs = docs(c, command);
    let info = c.cmd(&["COMMAND", "INFO", &command.replace(' ', "|")]);
    let info = info.items()[0].items();
    let mut flags = info[2].sorted_texts();
    flags.retain(|flag| flag != "module");
    let known = info[6].sorted_texts();
    assert!(
        !known.is_empty() || !categories.is_empty(),
        "{command}: this server knows no {CATEGORIES}: write the heads with a later one"
    );
    let categories = if known.is_empty() { categories.to_string() } else { code(&known) };

    let mut head = String::new();
    if docs.get("subcommands").is_none() {
        let arguments = docs.get("arguments").map(|a| a.items().to_vec()).unwrap_or_default();
        head += &format!("```text\n{}\n```\n\n", wrapped(command, &arguments));
    }
    head += &format!("{}\n\n", docs["summary"].text());
    head += &format!("- **Since:** {}\n- **Complexity:** {}\n", docs["since"].text(), docs["complexity"].text());
    for (title, value) in [("Flags", code(&flags)), (CATEGORIES, categories), ("Tips", code(&info[7].sorted_texts()))] {
        if !value.is_empty() {
            head += &format!("- **{title}:** {value}\n");
        }
    }
    head
}

const CATEGORIES: &str = "ACL categories";

fn code(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The syntax in lines of a readable length.
fn wrapped(command: &str, arguments: &[Value]) -> String {
    const WIDTH: usize = 100;
    let (mut lines, mut line) = (Vec::new(), command.to_string());
    for word in arguments.iter().map(|argument| syntax(&argument.fields())) {
        if line.len() + 1 + word.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, format!("  {word}")));
        } else {
            line += &format!(" {word}");
        }
    }
    lines.push(line);
    lines.join("\n")
}

/// One argument, by the rules of <https://valkey.io/topics/command-arguments>.
fn syntax(argument: &Fields) -> String {
    let parts = |separator: &str| {
        let parts = argument["arguments"].items().iter().map(|part| syntax(&part.fields()));
        parts.collect::<Vec<_>>().join(separator)
    };
    let inner = match argument["type"].text().as_str() {
        "pure-token" => String::new(),
        "oneof" => parts(" | "),
        "block" => parts(" "),
        _ => argument.get("display_text").unwrap_or(&argument["name"]).text(),
    };
    let token = argument.get("token").map(Value::text).unwrap_or_default();
    let whole = format!("{token} {inner}").trim().to_string();
    let flags = argument.get("flags").map(Value::sorted_texts).unwrap_or_default();
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    let all = match (has("multiple"), has("multiple_token")) {
        (_, true) => format!("{whole} [{whole} ...]"),
        (true, false) => format!("{whole} [{inner} ...]"),
        (false, false) => whole,
    };
    if has("optional") { format!("[{all}]") } else { all }
}

/// Where a command's head stands in a page: from the line below its heading to the end of the first list.
fn find_head(text: &str, command: &str) -> Option<std::ops::Range<usize>> {
    let heading = [format!("# {command}\n\n"), format!("## {command}\n\n")].into_iter().find_map(|heading| {
        let at = if text.starts_with(&heading) { Some(0) } else { text.find(&format!("\n{heading}")).map(|at| at + 1) };
        at.map(|at| at + heading.len())
    })?;
    let rest = text.get(heading..)?;
    let list = rest.find("- **").unwrap_or(0);
    let end = rest.get(list..)?.find("\n\n").map_or(rest.len(), |end| list + end + 1);
    Some(heading..heading + end)
}

#[test]
fn heads_are_what_the_server_says() {
    let server = Server::start();
    let mut c = server.conn();
    let write = std::env::var_os("EXPCACHE_WRITE_HEADS").is_some();
    let mut pages = pages();
    let mut wrong = Vec::new();
    for command in commands(&mut c) {
        let found = pages.iter_mut().find_map(|page| find_head(&page.text, &command).map(|place| (page, place)));
        let Some((page, place)) = found else {
            wrong.push(format!("no page has a heading {command}"));
            continue;
        };
        let own = page.text[place.clone()].to_string();
        let shown = format!("- **{CATEGORIES}:** ");
        let categories = own.lines().find_map(|line| line.strip_prefix(&shown)).unwrap_or_default();
        let expected = head(&mut c, &command, categories);
        if own != expected && write {
            page.text.replace_range(place, &expected);
            fs::write(&page.path, &page.text).unwrap();
        } else if own != expected {
            wrong.push(format!("{}: the head of {command} should be\n{expected}", page.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_heading_of_a_command_is_of_one_that_there_is() {
    let server = Server::start();
    let there = commands(&mut server.conn());
    for page in pages() {
        assert!(page.text.starts_with("# EXPCACHE."), "{}", page.name());
        let headings = page.text.lines().filter(|line| line.starts_with('#'));
        let mut named = headings.map(|line| line.trim_start_matches(['#', ' '])).filter(|h| h.starts_with("EXPCACHE."));
        let unknown = named.find(|heading| !there.iter().any(|command| command == heading));
        assert_eq!(unknown, None, "{}", page.name());
    }
}

// ---- examples

/// A command and the reply that stands below it.
struct Example<'t> {
    line: usize,
    command: &'t str,
    reply: Vec<&'t str>,
}

fn examples(text: &str) -> Vec<Example<'_>> {
    let (mut examples, mut fenced): (Vec<Example<'_>>, bool) = (Vec::new(), false);
    for (line, content) in (1..).zip(text.lines()) {
        if content.starts_with("```") {
            fenced = content == "```redis";
        } else if let Some(command) = content.strip_prefix("> ").filter(|_| fenced) {
            examples.push(Example { line, command, reply: Vec::new() });
        } else if fenced && !content.is_empty() {
            let example = examples.last_mut().unwrap_or_else(|| panic!("line {line}: a reply without a command"));
            example.reply.push(content.trim_end());
        }
    }
    examples
}

#[test]
fn examples_give_the_replies_that_they_show() {
    let with_examples = |page: &Page| page.text.contains("```redis\n");
    for page in pages().into_iter().chain(guides().into_iter().filter(with_examples)).chain([readme()]) {
        // A machine that stands still for half a second makes a TTL one less; it does not do so three times.
        if let Err(wrong) = play(&page).or_else(|_| play(&page)).or_else(|_| play(&page)) {
            panic!("{wrong}");
        }
    }
}

/// Runs a page's examples on a new server; says which reply is another than shown.
fn play(page: &Page) -> Result<(), String> {
    let server = Server::start();
    let mut c = server.conn();
    c.hello3();
    let examples = examples(&page.text);
    assert!(!examples.is_empty(), "{} has no example", page.name());
    let mut token = String::new();
    for example in examples {
        let reply = shown(&c.cmd(words(&example.command.replace(TOKEN, &token))), "");
        let lines: Vec<&str> = reply.lines().map(str::trim_end).collect();
        if !lines_match(&example.reply, &lines) {
            return Err(format!("{}:{}: {}\n{reply}", page.name(), example.line, example.command));
        }
        let fields = ["\"lease\" => \"", "\"token\" => \""];
        let after = |line: &&str| {
            fields.iter().find_map(|field| Some(line.split_once(field)?.1.strip_suffix('"')?.to_string()))
        };
        let granted = lines.iter().find_map(after);
        token = granted.unwrap_or(token);
    }
    crate::harness::check(&mut server.conn());
    Ok(())
}

/// Splits a command into words as redis-cli does: quotes hold a word together, and double ones know escapes.
fn words(command: &str) -> Vec<Vec<u8>> {
    let (mut words, mut bytes) = (Vec::new(), command.bytes().peekable());
    while let Some(first) = bytes.next() {
        let mut word = Vec::new();
        match first {
            b' ' => continue,
            b'\'' => word.extend(bytes.by_ref().take_while(|byte| *byte != b'\'')),
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    word.push(if byte == b'\\' { escaped(&mut bytes) } else { byte });
                }
            }
            plain => {
                word.push(plain);
                word.extend(std::iter::from_fn(|| bytes.next_if(|byte| *byte != b' ')));
            }
        }
        words.push(word);
    }
    words
}

/// What a backslash and the bytes after it stand for.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    match bytes.next().unwrap() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digits: String = bytes.take(2).map(char::from).collect();
            u8::from_str_radix(&digits, 16).unwrap()
        }
        other => other,
    }
}

/// A reply as redis-cli prints it on a terminal; lines after the first begin with `indent`.
fn shown(value: &Value, indent: &str) -> String {
    match value {
        Value::Nil => "(nil)".into(),
        Value::Simple(text) => text.clone(),
        Value::Error(text) => format!("(error) {text}"),
        Value::Int(number) => format!("(integer) {number}"),
        Value::Double(number) => format!("(double) {number}"),
        Value::Bool(yes) => format!("({yes})"),
        Value::Bulk(bytes) => format!("\"{}\"", quoted(bytes)),
        Value::Array(items) if items.is_empty() => "(empty array)".into(),
        Value::Map(pairs) if pairs.is_empty() => "(empty hash)".into(),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => listed(')', indent, items, shown),
        Value::Map(pairs) => listed('#', indent, pairs, |(name, value), indent| {
            let nested = matches!(value, Value::Array(items) if !items.is_empty())
                || matches!(value, Value::Map(pairs) if !pairs.is_empty());
            let (gap, shown_value) = (if nested { format!("\n{indent}") } else { String::new() }, shown(value, indent));
            format!("{} => {gap}{shown_value}", shown(name, indent))
        }),
    }
}

fn listed<T>(sign: char, indent: &str, items: &[T], show: impl Fn(&T, &str) -> String) -> String {
    let width = items.len().to_string().len();
    let deeper = format!("{indent}{}", " ".repeat(width + 2));
    let lines = (1..).zip(items).map(|(n, item)| format!("{n:width$}{sign} {}", show(item, &deeper)));
    lines.collect::<Vec<_>>().join(&format!("\n{indent}"))
}

fn quoted(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'\\' | b'"' => format!("\\{}", char::from(*byte)),
        b'\n' => "\\n".into(),
        b'\r' => "\\r".into(),
        b'\t' => "\\t".into(),
        b' '..=b'~' => char::from(*byte).to_string(),
        other => format!("\\x{other:02x}"),
    };
    bytes.iter().map(one).collect()
}

fn lines_match(patterns: &[&str], lines: &[&str]) -> bool {
    match (patterns, lines) {
        ([], []) => true,
        ([first, rest @ ..], _) if first.trim() == "…" => (0..=lines.len()).any(|n| lines_match(rest, &lines[n..])),
        ([first, patterns @ ..], [line, lines @ ..]) => line_matches(first, line) && lines_match(patterns, lines),
        _ => false,
    }
}

/// How a token is shown: another one each time.
const TOKEN: &str = "<token>";

fn line_matches(pattern: &str, line: &str) -> bool {
    if let Some(pattern) = pattern.strip_prefix('…') {
        return (0..=line.len()).any(|at| line.get(at..).is_some_and(|rest| line_matches(pattern, rest)));
    }
    if let Some(pattern) = pattern.strip_prefix("<number>") {
        let digits = line.strip_prefix('-').unwrap_or(line);
        let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        return rest.len() < digits.len() && line_matches(pattern, rest);
    }
    if let Some(pattern) = pattern.strip_prefix(TOKEN) {
        let token = line.get(..32).filter(|token| token.bytes().all(|byte| byte.is_ascii_hexdigit()));
        return token.is_some() && line_matches(pattern, &line[32..]);
    }
    let (mut pattern, mut line) = (pattern.chars(), line.chars());
    match (pattern.next(), line.next()) {
        (None, None) => true,
        (one, other) => one == other && line_matches(pattern.as_str(), line.as_str()),
    }
}

// ---- the table of figures

/// `docs/metrics.md`, but for the prose before its first table.
fn tables() -> String {
    use expcache_core::stats::metrics::{Kind, Metric, of_types, overall};
    let row = |metric: &Metric| {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        format!("| `{}` | {kind} | {} |\n", metric.name, metric.help)
    };
    let table = |title: &str, rows: String| format!("## {title}\n\n| name | kind | |\n|---|---|---|\n{rows}");
    let by_type: String = of_types().map(row).collect();
    let rest: String = overall().map(row).collect();
    format!("{}\n{}", table("Overall and by type", by_type), table("Overall", rest))
}

#[test]
fn the_table_of_figures_is_the_modules() {
    let path = Path::new(ROOT).join("docs/metrics.md");
    let page = Page::read(path.clone());
    let prose = page.text.split("## Overall and by type").next().unwrap();
    let whole = format!("{prose}{}", tables());
    if std::env::var_os("EXPCACHE_WRITE_HEADS").is_some() {
        fs::write(path, whole).unwrap();
    } else {
        assert_eq!(page.text, whole, "docs/metrics.md (EXPCACHE_WRITE_HEADS=1 writes it anew)");
    }
}

// ---- the README, and links

/// The cells of a table's row.
fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
}

#[test]
fn the_readme_lists_every_command() {
    let server = Server::start();
    let mut c = server.conn();
    let (readme, pages) = (readme(), pages());
    for command in commands(&mut c).iter().filter(|command| !command.ends_with(" HELP")) {
        let docs = docs(&mut c, command);
        if docs.get("subcommands").is_some() {
            continue;
        }
        let page = pages.iter().find(|page| find_head(&page.text, command).is_some()).unwrap();
        let row = format!("| [{command}]({}", page.name());
        let row = readme.text.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("no row {row}"));
        let cells = cells(row);
        assert_eq!(cells[1..], [docs["summary"].text(), docs["complexity"].text()], "{command}");
    }
}

#[test]
fn the_readme_lists_every_setting_with_its_default_and_its_range() {
    let server = Server::start();
    let mut c = server.conn();
    let readme = readme();
    let settings = c.map("CONFIG GET expcache.*");
    assert!(!settings.names().is_empty());
    for name in settings.names() {
        let row = readme.text.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let cells = cells(row.unwrap_or_else(|| panic!("no row {name}")));
        assert_eq!(settings[name], cells[1].as_str(), "{name}");
        let Some((least, most)) = cells[2].split_once('–').filter(|(least, _)| least.parse::<i64>().is_ok()) else {
            continue;
        };
        let (least, most): (i64, i64) = (least.parse().unwrap(), most.split(' ').next().unwrap().parse().unwrap());
        for (value, allowed) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
            let allowed = allowed && !cells[3].contains("Read at start");
            let reply = c.cmd(&["CONFIG", "SET", name, &value.to_string()]);
            assert_eq!(reply == Value::Simple("OK".into()), allowed, "{name} {value}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for page in pages().into_iter().chain(guides()).chain([readme()]) {
        for link in page.links() {
            let target = page.path.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", page.name());
        }
    }
}
