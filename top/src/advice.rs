//! Drawing advice: what to change, each piece with its reason below it, and the keys that are worth producing now.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::source::{Advice, Due, Piece};
use crate::table::{Column, Palette, table};
use crate::text::{bytes, count, millis, rate};

const DUE: [Column; 6] = [
    (" worth producing now", Constraint::Fill(3), 0),
    ("type", Constraint::Fill(1), 60),
    ("because it is", Constraint::Length(13), 36),
    ("worth", Constraint::Length(9), 0),
    ("hits", Constraint::Length(6), 50),
    ("cost", Constraint::Length(6), 56),
];

const TYPE_OF_DUE: usize = 1;

/// Draws both, in half of the area each.
pub fn draw(frame: &mut Frame<'_>, area: Rect, advice: Option<&Advice>, palette: &Palette) {
    let Some(advice) = advice else {
        return frame.render_widget(Line::raw(" asking for advice"), area);
    };
    let wanted = u16::try_from(2 * advice.pieces.len().max(1) + 1).unwrap_or(u16::MAX);
    let most = if area.height >= 6 { area.height - area.height / 3 } else { area.height };
    let [above, below] = Layout::vertical([Constraint::Length(wanted.min(most)), Constraint::Min(0)]).areas(area);
    pieces(frame, above, advice, palette);
    due(frame, below, advice, palette);
}

fn pieces(frame: &mut Frame<'_>, area: Rect, advice: &Advice, palette: &Palette) {
    let width = usize::from(area.width);
    let mut lines = vec![Line::styled(format!("{:width$}", " advice"), palette.heading())];
    match &advice.refused {
        Some(why) => lines.push(Line::raw(format!(" {why}"))),
        None if advice.pieces.is_empty() => {
            lines.push(Line::raw(" there is none: all is well, or too little was read yet"))
        }
        None => lines.extend(advice.pieces.iter().flat_map(|piece| of_piece(piece, palette))),
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn of_piece(piece: &Piece, palette: &Palette) -> [Line<'static>; 2] {
    let Piece { type_name, what, now, to, why, .. } = piece;
    let change = if to.is_empty() { now.clone() } else { format!("{now} → {to}") };
    let gain = format!("{} ±{}", amount(piece.gain, &piece.unit, true), amount(piece.error, &piece.unit, false));
    let first = Line::from(vec![
        Span::raw(format!(" {type_name}  ")),
        Span::styled(what.clone(), palette.of(Color::Cyan)),
        Span::raw(format!("  {change}  ")),
        Span::styled(gain, palette.of(Color::Green)),
    ]);
    [first, Line::styled(format!("   {why}"), Style::new().add_modifier(Modifier::DIM))]
}

/// A gain in its unit.
fn amount(figure: f64, unit: &str, is_whole: bool) -> String {
    let number = figure.max(0.0).round() as u64;
    match (unit, is_whole) {
        ("ms/h", true) => millis(number) + "/h",
        ("ms/h", false) => millis(number),
        ("bytes", _) => bytes(number),
        (_, true) => format!("{figure:.1} {unit}"),
        (_, false) => format!("{figure:.1}"),
    }
}

fn due(frame: &mut Frame<'_>, area: Rect, advice: &Advice, palette: &Palette) {
    let rows = advice.due.iter().map(cells);
    table(frame, area, (&DUE, TYPE_OF_DUE, " worth producing now".into()), rows, palette);
    let notice = match &advice.refused_due {
        Some(why) => format!(" {why}"),
        None if advice.due.is_empty() => " nothing is due".into(),
        None => return,
    };
    if let Some(line) = area.rows().nth(1) {
        frame.render_widget(Line::raw(notice), line);
    }
}

fn cells(due: &Due) -> Vec<String> {
    vec![
        format!(" {}", due.key),
        due.type_name.clone(),
        due.reason.clone(),
        rate(due.worth) + "ms/s",
        count(due.hits),
        millis(due.cost_ms),
    ]
}
