//! A screen outside of a terminal: as plain text, or as a picture.

use std::fmt::Write;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::screen;
use crate::view::View;

const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d0d3d8";
const WIDTH: usize = 8;
const HEIGHT: usize = 17;
const MARGIN: usize = 10;

/// The screen as it would be at this size.
pub fn screen(view: &View, columns: u16, lines: u16) -> Buffer {
    // It cannot fail: it is memory.
    let Ok(mut terminal) = Terminal::new(TestBackend::new(columns, lines));
    let Ok(frame) = terminal.draw(|frame| screen::draw(frame, view));
    frame.buffer.clone()
}

/// Its lines.
pub fn text(buffer: &Buffer) -> String {
    let line = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>().trim_end().to_string() + "\n";
    lines(buffer).map(line).collect()
}

fn lines(buffer: &Buffer) -> impl Iterator<Item = &[Cell]> {
    buffer.content.chunks(usize::from(buffer.area.width).max(1))
}

/// A picture of it, for a page.
pub fn svg(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width) * WIDTH + 2 * MARGIN;
    let height = usize::from(buffer.area.height) * HEIGHT + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" \
         font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n"
    );
    for (y, cells) in lines(buffer).enumerate() {
        runs(cells).for_each(|(x, run)| svg += &picture(run, MARGIN + x * WIDTH, MARGIN + y * HEIGHT));
    }
    svg + "</svg>\n"
}

/// Cells that look alike and are alike in kind, with where they begin.
fn runs(cells: &[Cell]) -> impl Iterator<Item = (usize, &[Cell])> {
    let alike = |a: &Cell, b: &Cell| colours(a) == colours(b) && block(a).is_none() && block(b).is_none();
    placed(cells.chunk_by(alike))
}

/// Parts, each with where it begins.
fn placed<'a>(parts: impl Iterator<Item = &'a [Cell]>) -> impl Iterator<Item = (usize, &'a [Cell])> {
    parts.scan(0, |next, part| {
        let at = *next;
        *next += part.len();
        Some((at, part))
    })
}

fn picture(run: &[Cell], x: usize, y: usize) -> String {
    let Some((foreground, background)) = run.first().map(colours) else { return String::new() };
    let mut svg = String::new();
    let width = run.len() * WIDTH;
    // Writing to a text does not fail.
    if background != BACKGROUND {
        let _ =
            writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" fill=\"{background}\"/>");
    }
    if let Some((left, above, opacity)) = run.first().and_then(block) {
        let (wide, high) = (WIDTH as f64 * left, HEIGHT as f64 * above);
        let top = (y + HEIGHT) as f64 - high;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" fill=\"{foreground}\" opacity=\"{opacity}\"/>"
        );
    } else {
        words(run).for_each(|(at, word)| svg += &text_at(x + at * WIDTH, y, word, foreground));
    }
    svg
}

/// A run's words, with where they begin: what shows pictures treats blanks as it likes.
fn words(run: &[Cell]) -> impl Iterator<Item = (usize, &[Cell])> {
    let is_blank = |cell: &Cell| cell.symbol() == " ";
    let parts = run.chunk_by(move |a, b| is_blank(a) == is_blank(b));
    placed(parts).filter(move |(_, part)| part.first().is_some_and(|cell| !is_blank(cell)))
}

fn text_at(x: usize, y: usize, word: &[Cell], colour: &str) -> String {
    let (base, width) = (y + HEIGHT - 4, word.len() * WIDTH);
    let text: String = word.iter().map(Cell::symbol).collect();
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x}\" y=\"{base}\" textLength=\"{width}\" fill=\"{colour}\">{text}</text>\n")
}

/// What of a cell a block element fills: its width, its height, and how much shines through. Fonts leave gaps between them.
fn block(cell: &Cell) -> Option<(f64, f64, f64)> {
    match cell.symbol().chars().next()? {
        '░' => Some((1.0, 1.0, 0.2)),
        '█' => Some((1.0, 1.0, 1.0)),
        high @ '▁'..='▇' => Some((1.0, f64::from(u32::from(high) - u32::from('▁') + 1) / 8.0, 1.0)),
        wide @ '▉'..='▏' => Some((f64::from(u32::from('▏') - u32::from(wide) + 1) / 8.0, 1.0, 1.0)),
        _ => None,
    }
}

fn colours(cell: &Cell) -> (&'static str, &'static str) {
    let foreground = match cell.fg {
        Color::Red => "#f2777a",
        Color::Green => "#8ac17c",
        Color::Yellow => "#e5c07b",
        Color::Blue => "#7aa6da",
        Color::Magenta => "#c397d8",
        Color::Cyan => "#70c0b1",
        _ if cell.modifier.contains(Modifier::DIM) => "#868b95",
        _ => FOREGROUND,
    };
    if cell.modifier.contains(Modifier::REVERSED) { (BACKGROUND, foreground) } else { (foreground, BACKGROUND) }
}
