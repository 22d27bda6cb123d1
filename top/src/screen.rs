//! Drawing: a [`View`] in, a screen out, and nothing else happens.
//!
//! No boxes: in 80 columns and 24 lines they would take what the figures need. What has no room is left out, the least telling
//! first: sparklines and columns when it is narrow, whole sections when it is low.

use expcache_core::stats::{By, Counters};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, RenderDirection, Sparkline};

use crate::advice;
use crate::rates::Rates;
use crate::source::{Figures, First, Snapshot, word};
use crate::table::{Column, Palette, table};
use crate::text::{self, bar, bytes, count, millis, percent, rate, span};
use crate::view::View;

const KEYS: &str = " q quit  t order  a advice  +/- interval  p pause  ? help";
const HELP: [&str; 13] = [
    "q  Esc  Ctrl-C    quit",
    "t  arrows         order of the first entries: hits, size, cost, saved",
    "a                 advice, and the keys that are worth producing; again: back",
    "+  -              look less often, more often",
    "p  blank          pause, go on",
    "?  h              this help",
    "",
    "Rates are what was counted between the last two looks, by the server's clock.",
    "The hit rate is that of fresh payloads; shares of types are since counting began.",
    "cold: never seen, or not remembered.  due: the time was over.  inval.: invalidated.",
    "saved: hits times what producing the entry took.",
    "",
    "EXPCACHE.HEALTH says more when the status is not ok.",
];

/// What is left of the screen, from above and below.
struct Room(Rect);

impl Room {
    fn above(&mut self, lines: u16) -> Rect {
        let [taken, left] = Layout::vertical([Constraint::Length(lines), Constraint::Min(0)]).areas(self.0);
        self.0 = left;
        taken
    }

    fn below(&mut self, lines: u16) -> Rect {
        let [left, taken] = Layout::vertical([Constraint::Min(0), Constraint::Length(lines)]).areas(self.0);
        self.0 = left;
        taken
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let palette = Palette { has_colours: view.has_colours };
    let height = frame.area().height;
    let mut room = Room(frame.area());
    frame.render_widget(header(view, &palette), room.above(1));
    if let Some(notice) = notice(view) {
        frame.render_widget(Line::styled(notice, palette.alarm()), room.above(1));
    }
    if height >= 8 {
        frame.render_widget(footer(view), room.below(1));
    }
    if view.is_helping {
        help(frame, room.0);
    } else if let Some(now) = &view.now {
        figures(frame, room, view, now, &palette);
    }
}

fn figures(frame: &mut Frame<'_>, mut room: Room, view: &View, now: &Snapshot, palette: &Palette) {
    let height = frame.area().height;
    if height >= 6 {
        frame.render_widget(state(now, palette), room.below(1));
    }
    if height >= 10 {
        frame.render_widget(sizes(now), room.above(1));
    }
    frame.render_widget(hit_rate(view, now, palette, room.0.width), room.above(1));
    if height >= 12 {
        let area = room.above(READS.len() as u16);
        rates(frame, area, view, palette);
    }
    if room.0.height >= 2 {
        tables(frame, room.0, view, now, palette);
    }
}

// ---- lines

fn header<'a>(view: &'a View, palette: &Palette) -> Line<'a> {
    let mut line = vec![Span::styled(" expcache ", palette.heading()), Span::raw(" ")];
    if let Some(Snapshot { server, health, .. }) = &view.now {
        let (style, mark) = match health.status.as_str() {
            "ok" => (palette.of(Color::Green), "●"),
            _ => (palette.of(Color::Red).add_modifier(Modifier::BOLD), "▲"),
        };
        line.push(Span::styled(format!("{mark} {}", health.status), style));
        line.push(Span::raw(format!("  {} at {}  up {}", server.name, view.address, span(server.uptime_s))));
        line.push(Span::raw(format!("  memory {}", memory(server.used_bytes, server.most_bytes))));
    } else {
        line.push(Span::raw(format!("connecting to {}", view.address)));
    }
    Line::from(line)
}

fn memory(used: u64, most: u64) -> String {
    match most {
        0 => bytes(used),
        _ => format!("{} of {} ({:.0} %)", bytes(used), bytes(most), used as f64 / most as f64 * 100.0),
    }
}

/// What is wrong, if something is.
fn notice(view: &View) -> Option<String> {
    if let Some(why) = &view.lost {
        let what = if view.now.is_some() { "connection lost, retrying" } else { "no connection, retrying" };
        return Some(format!(" {what}: {why}"));
    }
    let complaints = &view.now.as_ref()?.health.complaints;
    let told: Vec<String> = complaints.iter().map(|(check, figure)| format!("{check} {figure}")).collect();
    (!told.is_empty()).then(|| format!(" degraded: {}", told.join(", ")))
}

fn sizes(now: &Snapshot) -> Line<'static> {
    let (sizes, gauges) = (&now.all.sizes, &now.gauges);
    Line::raw(format!(
        " entries {}  tags {}  payload {}  stored {} (1:{:.1})  index {}",
        count(sizes.entries),
        count(gauges.tags),
        bytes(sizes.payload_bytes),
        bytes(sizes.stored_bytes),
        gauges.compression_ratio as f64 / 1e6,
        bytes(gauges.index_bytes),
    ))
}

fn hit_rate(view: &View, now: &Snapshot, palette: &Palette, width: u16) -> Line<'static> {
    let recent = view.history.newest().filter(|rates| rates.all.reads() > 0).map(|rates| rates.all.hit_rate());
    let columns = usize::from(width).saturating_sub(52).clamp(10, 60);
    let shown = recent.map_or("   –   ".into(), percent);
    let full = bar(recent.unwrap_or(0.0), columns);
    let rest = "░".repeat(columns.saturating_sub(full.chars().count()));
    Line::from(vec![
        Span::raw(" hit rate "),
        Span::styled(full, palette.of(Color::Green)),
        Span::raw(rest),
        Span::raw(format!(" {shown} now")),
        Span::raw(format!(", {} in {}", percent(now.all.counters.hit_rate()), span(now.gauges.counting_ms / 1000))),
    ])
}

fn state(now: &Snapshot, palette: &Palette) -> Line<'static> {
    let g = &now.gauges;
    let backing_off = match g.keys_backing_off {
        0 => String::new(),
        keys => format!(" backing off {}", count(keys)),
    };
    let alarming =
        |text: String, is_so: bool| Span::styled(text, if is_so { palette.of(Color::Yellow) } else { Style::new() });
    Line::from(vec![
        alarming(format!(" reclaim backlog {}", count(g.reclaim_backlog)), g.reclaim_backlog > 0),
        alarming(format!("  workers {} queue {}", g.workers, count(g.worker_queue)), g.worker_queue > g.workers),
        Span::raw(format!("  leases {} waiting {}", count(g.leases_held), count(g.waiting_clients))),
        Span::styled(backing_off, palette.of(Color::Yellow)),
        Span::raw(format!("  saved {}", millis(now.all.counters.saved_ms))),
    ])
}

fn footer(view: &View) -> Line<'_> {
    let interval_ms = u64::try_from(view.pace.interval.as_millis()).unwrap_or(u64::MAX);
    let pace = if view.pace.is_paused { "PAUSED".into() } else { format!("every {}", millis(interval_ms)) };
    Line::styled(format!("{KEYS}  [{pace}]"), Style::new().add_modifier(Modifier::DIM))
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::raw(format!("  {line}"))).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}

// ---- rates

/// A count that is shown as a rate.
struct Shown {
    name: &'static str,
    colour: Color,
    count: fn(&Counters) -> u64,
}

const fn shown(name: &'static str, colour: Color, count: fn(&Counters) -> u64) -> Shown {
    Shown { name, colour, count }
}

const READS: [Shown; 5] = [
    shown("hits", Color::Green, |all| all.hits),
    shown("stale hits", Color::Yellow, |all| all.stale_hits),
    shown("misses: cold", Color::Red, |all| all.misses_cold),
    shown("misses: due", Color::Red, |all| all.misses_expired),
    shown("misses: inval.", Color::Red, |all| all.misses_invalidated),
];

const CHANGES: [Shown; READS.len()] = [
    shown("sets", Color::Cyan, |all| all.sets),
    shown("deleted", Color::Blue, |all| all.deletes),
    shown("expired", Color::Blue, |all| all.expired),
    shown("evicted", Color::Magenta, |all| all.evicted),
    shown("invalidated", Color::Magenta, |all| all.invalidated),
];

fn rates(frame: &mut Frame<'_>, area: Rect, view: &View, palette: &Palette) {
    let is_wide = area.width >= 60;
    let right = Constraint::Percentage(if is_wide { 50 } else { 0 });
    let [left, right] = Layout::horizontal([Constraint::Min(0), right]).areas(area);
    column(frame, left, &READS, view, palette);
    column(frame, right, &CHANGES, view, palette);
}

fn column(frame: &mut Frame<'_>, area: Rect, all: &[Shown], view: &View, palette: &Palette) {
    for (line, one) in area.rows().zip(all) {
        let widths = [Constraint::Length(15), Constraint::Length(8), Constraint::Min(0), Constraint::Length(1)];
        let [name, number, run, _] = Layout::horizontal(widths).areas(line);
        frame.render_widget(format!(" {}", one.name), name);
        let newest = view.history.newest().map(|rates| rate(rates.per_second((one.count)(&rates.all))) + "/s ");
        frame.render_widget(
            Line::styled(newest.unwrap_or("–   ".into()), palette.of(one.colour)).right_aligned(),
            number,
        );
        let steps = view.history.run(one.count, run.width.into());
        let sparkline = Sparkline::default().data(steps).direction(RenderDirection::RightToLeft);
        frame.render_widget(sparkline.style(palette.of(one.colour)), run);
    }
}

// ---- tables

fn tables(frame: &mut Frame<'_>, area: Rect, view: &View, now: &Snapshot, palette: &Palette) {
    let known = now.types.len() as u16 + 1;
    let half = area.height - area.height / 2;
    if view.pace.is_advised {
        return advice::draw(frame, area, now.advice.as_ref(), palette);
    }
    let has_both = area.height >= 6;
    let lines = if has_both { known.min(half) } else { area.height };
    let [types_area, top_area] = Layout::vertical([Constraint::Length(lines), Constraint::Min(0)]).areas(area);
    types(frame, types_area, view.history.newest(), now, palette);
    if has_both {
        top(frame, top_area, view.by, now, palette);
    }
}

const TYPES: [Column; 9] = [
    (" type", Constraint::Fill(1), 0),
    ("entries", Constraint::Length(7), 50),
    ("payload", Constraint::Length(7), 58),
    ("stored", Constraint::Length(7), 66),
    ("ratio", Constraint::Length(5), 72),
    ("hit rate", Constraint::Length(8), 0),
    ("", Constraint::Length(8), 78),
    ("hits/s", Constraint::Length(7), 30),
    ("misses/s", Constraint::Length(8), 40),
];

/// The column whose text begins at its left, besides the first.
const BAR: usize = 6;

fn types(frame: &mut Frame<'_>, area: Rect, rates: Option<&Rates>, now: &Snapshot, palette: &Palette) {
    let mut types: Vec<&(String, Figures)> = now.types.iter().collect();
    types.sort_by_key(|(_, figures)| std::cmp::Reverse((figures.counters.reads(), figures.sizes.entries)));
    let room = usize::from(area.height).saturating_sub(1);
    let left_out = types.len().saturating_sub(room);
    let heading = if left_out > 0 { format!(" type (+{left_out})") } else { " type".into() };
    let rows = types.into_iter().map(|(name, figures)| type_cells(name, figures, rates));
    table(frame, area, (&TYPES, BAR, heading), rows, palette);
}

fn type_cells(name: &str, figures: &Figures, rates: Option<&Rates>) -> Vec<String> {
    let Figures { counters, sizes } = figures;
    let ratio = if sizes.stored_bytes == 0 { 1.0 } else { sizes.payload_bytes as f64 / sizes.stored_bytes as f64 };
    let share = (counters.reads() > 0).then(|| counters.hit_rate());
    let per_second = |count: fn(&Counters) -> u64| {
        rates.map_or("–".into(), |rates| rate(rates.per_second(count(&rates.of_type(name)))))
    };
    vec![
        format!(" {name}"),
        count(sizes.entries),
        bytes(sizes.payload_bytes),
        bytes(sizes.stored_bytes),
        format!("{ratio:.1}"),
        share.map_or("–".into(), percent),
        text::line(share.unwrap_or(0.0), 8),
        per_second(|of| of.hits + of.stale_hits),
        per_second(|of| of.misses),
    ]
}

const TOP: [Column; 7] = [
    (" first by", Constraint::Fill(3), 0),
    ("type", Constraint::Fill(1), 60),
    ("hits", Constraint::Length(6), 0),
    ("size", Constraint::Length(6), 40),
    ("cost", Constraint::Length(6), 48),
    ("saved", Constraint::Length(6), 56),
    ("last used", Constraint::Length(9), 74),
];

const TYPE_OF_FIRST: usize = 1;

fn top(frame: &mut Frame<'_>, area: Rect, by: By, now: &Snapshot, palette: &Palette) {
    let heading = format!(" first by {}", word(by).to_uppercase());
    let first = By::ALL.iter().zip(&now.top.by).find(|(of, _)| **of == by).map(|(_, first)| first);
    let rows = first.into_iter().flatten().map(|first| first_cells(first, now.server.clock_ms));
    table(frame, area, (&TOP, TYPE_OF_FIRST, heading), rows, palette);
    if let (Some(why), Some(line)) = (&now.top.refused, area.rows().nth(1)) {
        frame.render_widget(Line::raw(format!(" {why}")), line);
    }
}

fn first_cells(first: &First, clock_ms: u64) -> Vec<String> {
    vec![
        format!(" {}", first.key),
        first.type_name.clone(),
        count(first.hits),
        bytes(first.size),
        millis(first.cost_ms),
        millis(first.hits.saturating_mul(first.cost_ms)),
        span(clock_ms.saturating_sub(first.touched_ms) / 1000) + " ago",
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print;
    use crate::source::{Advice, Due, Piece, snapshot};
    use crate::view::Wish;
    use ratatui::buffer::Buffer;
    use std::time::Duration;

    fn look(seconds: u64, hits: u64) -> Snapshot {
        let mut now = snapshot(&format!(
            "redis_version:7.0.15\r\nrun_id:a\r\nuptime_in_seconds:{seconds}\r\nused_memory:1048576\r\nmaxmemory:4194304\r\n\
             server_time_usec:{seconds}000000\r\nexpcache_counting_seconds:{seconds}.000\r\nexpcache_hits_total:{hits}\r\n\
             expcache_misses_total:10\r\nexpcache_misses_cold_total:10\r\nexpcache_reclaim_backlog:7\r\n\
             expcache_entries:1500\r\nexpcache_payload_bytes:4096\r\nexpcache_stored_bytes:1024\r\n\
             expcache_compression_ratio:4.000000\r\n\
             expcache_type_quiet:entries=1\r\n\
             expcache_type_trips:hits_total={hits},misses_total=10,entries=1500,payload_bytes=4096,stored_bytes=1024\r\n"
        ));
        now.health.status = "ok".into();
        for (by, first) in By::ALL.into_iter().zip(&mut now.top.by) {
            let key = format!("key-by-{}", word(by));
            first.push(First { key, hits: 5, cost_ms: 300, touched_ms: 1000, ..First::default() });
        }
        now
    }

    fn seen() -> View {
        let mut view = View::new("server:1".into(), Duration::from_secs(1), true);
        view.take(Ok(look(10, 40)));
        view.take(Ok(look(12, 70)));
        view
    }

    fn text(view: &View, columns: u16, lines: u16) -> String {
        print::text(&print::screen(view, columns, lines))
    }

    #[track_caller]
    fn assert_shows(shown: &str, wanted: &[&str]) {
        for words in wanted {
            assert!(shown.contains(words), "no {words:?} in\n{shown}");
        }
    }

    #[test]
    fn an_ordinary_terminal_shows_everything() {
        let shown = text(&seen(), 80, 24);
        assert_shows(&shown, &["● ok", "redis 7.0.15 at server:1", "up 12s", "1.0M of 4.0M (25 %)"]);
        assert_shows(&shown, &["entries 1.5k", "stored 1.0K (1:4.0)", "100.0 % now, 87.5 % in 12s"]);
        assert_shows(&shown, &["hits             15/s", "misses: inval.", "invalidated", "reclaim backlog 7"]);
        assert_shows(&shown, &["4.0", "87.5 %", "━━━━━━━", "first by HITS", "key-by-hits", "1.5s   11s ago", "q quit"]);
        let trips = shown.find(" trips").unwrap();
        assert!(trips < shown.find(" quiet").unwrap(), "what is read most comes first:\n{shown}");
    }

    /// Whatever the size, it draws, and what matters most is there for as long as there is room.
    #[test]
    fn small_terminals_show_less() {
        let mut view = seen();
        for columns in [1, 2, 9, 15, 24, 39, 52, 60, 79, 300] {
            for lines in (1..14).chain([24, 100]) {
                assert_eq!(text(&view, columns, lines).lines().count(), usize::from(lines));
            }
        }
        assert_shows(&text(&view, 40, 12), &["hit rate", "hits", "type", "trips", "reclaim backlog"]);
        assert_shows(&text(&view, 20, 3), &["expcache", "hit rate"]);
        view.is_helping = true;
        assert_shows(&text(&view, 80, 24), &["this help", "Esc"]);
    }

    #[test]
    fn before_the_first_look_and_between_two_there_are_no_rates() {
        let mut view = View::new("server:1".into(), Duration::from_secs(1), true);
        assert_shows(&text(&view, 80, 24), &["connecting to server:1"]);
        view.take(Err("nobody listens".into()));
        assert_shows(&text(&view, 80, 24), &["no connection, retrying: nobody listens"]);
        view.take(Ok(look(10, 40)));
        assert_shows(&text(&view, 80, 24), &["hits              –", "– "]);
        view.take(Err("nobody listens".into()));
        assert_shows(&text(&view, 80, 24), &["connection lost, retrying: nobody listens", "trips", "80.0 % in 10s"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut now = look(10, 40);
        now.health.status = "degraded".into();
        now.health.complaints = vec![("master-link".into(), "down".into())];
        now.top.refused = Some("NOPERM this user".into());
        now.top.by = Default::default();
        let mut view = View::new("server:1".into(), Duration::from_secs(1), true);
        view.take(Ok(now));
        assert_shows(&text(&view, 80, 24), &["▲ degraded", "degraded: master-link down", "NOPERM this user"]);
    }

    #[test]
    fn orders_change_what_comes_first() {
        let mut view = seen();
        for (by, name) in [(By::Size, "size"), (By::Cost, "cost"), (By::Saved, "saved")] {
            view.by = by;
            assert_shows(
                &text(&view, 80, 24),
                &[&format!("first by {}", name.to_uppercase()), &format!("key-by-{name}")],
            );
        }
    }

    #[test]
    fn advice_is_shown_in_the_place_of_types_and_first_entries() {
        let mut view = seen();
        view.grant(Wish::Advice);
        assert_shows(&text(&view, 80, 24), &["asking for advice", "hit rate"]);
        let mut now = look(14, 80);
        now.advice = Some(Advice::default());
        view.take(Ok(now.clone()));
        assert_shows(&text(&view, 80, 24), &["there is none", "nothing is due"]);
        let piece = Piece {
            type_name: "reports".into(),
            what: "ttl".into(),
            now: "4h".into(),
            to: "12h".into(),
            gain: 1_804_200.0,
            unit: "ms/h".into(),
            error: 61_000.0,
            why: "the hit rate would be 91.2% instead of 84%".into(),
        };
        let points = Piece { unit: "points".into(), gain: 2.25, error: 0.5, what: "grace".into(), ..piece.clone() };
        let bytes =
            Piece { unit: "bytes".into(), gain: 2_097_152.0, error: 0.0, what: "unread".into(), ..piece.clone() };
        let due = Due { key: "trips:7".into(), reason: "invalidated".into(), worth: 12.5, hits: 2, ..Due::default() };
        now.advice = Some(Advice { pieces: vec![piece, points, bytes], due: vec![due], ..Advice::default() });
        view.take(Ok(now.clone()));
        let shown = text(&view, 80, 24);
        assert_shows(&shown, &["reports", "ttl", "4h → 12h", "30m04s/h ±1m01s", "would be 91.2% instead of 84%"]);
        assert_shows(&shown, &["2.2 points ±0.5", "trips:7", "invalidated", "12ms/s"]);
        assert_shows(&text(&view, 120, 40), &["2.0M"]);
        now.advice = Some(Advice {
            refused: Some("NOPERM a".into()),
            refused_due: Some("NOPERM w".into()),
            ..Advice::default()
        });
        view.take(Ok(now));
        assert_shows(&text(&view, 80, 24), &["NOPERM a", "NOPERM w"]);
        for columns in [1, 9, 24, 39, 60, 79, 300] {
            for lines in (1..14).chain([24, 100]) {
                assert_eq!(text(&view, columns, lines).lines().count(), usize::from(lines));
            }
        }
        view.grant(Wish::Advice);
        assert_shows(&text(&view, 80, 24), &["first by HITS"]);
    }

    #[test]
    fn without_colours_there_are_none() {
        let mut view = seen();
        let is_coloured =
            |buffer: &Buffer| buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert!(is_coloured(&print::screen(&view, 80, 24)));
        view.has_colours = false;
        assert!(!is_coloured(&print::screen(&view, 80, 24)));
    }

    #[test]
    fn a_picture_has_what_the_screen_has() {
        let picture = print::svg(&print::screen(&seen(), 80, 24));
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert_shows(&picture, &[">trips</text>", ">key-by-hits</text>", ">87.5</text>"]);
    }
}
