//! Tables, and the colours of words.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table};

/// Words of a state have colours; without colours the words must do.
pub struct Palette {
    pub has_colours: bool,
}

impl Palette {
    /// Of a word that means something.
    pub fn of(&self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of the first line of a table.
    pub fn heading(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of what is wrong.
    pub fn alarm(&self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }
}

/// A column: its heading, its width, from which width of the screen on it is shown.
pub type Column = (&'static str, Constraint, u16);

/// A table of the columns that there is room for; numbers stand at the right, the first column and one more at the left.
pub fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    (columns, second_left, first_heading): (&[Column], usize, String),
    rows: impl Iterator<Item = Vec<String>>,
    palette: &Palette,
) {
    let is_shown = |at: usize| columns.get(at).is_some_and(|(_, _, from)| area.width >= *from);
    let cell = |(at, text): (usize, String)| {
        let style = if text.starts_with(['━', '╸']) { palette.of(Color::Green) } else { Style::new() };
        let line = Line::styled(text, style);
        Cell::new(if at == 0 || at == second_left { line } else { line.right_aligned() })
    };
    let row = |texts: Vec<String>| Row::new(texts.into_iter().enumerate().filter(|(at, _)| is_shown(*at)).map(cell));
    let headings = columns.iter().map(|(heading, ..)| (*heading).into());
    let headings: Vec<String> = [first_heading].into_iter().chain(headings.skip(1)).collect();
    let widths = columns.iter().enumerate().filter(|(at, _)| is_shown(*at)).map(|(_, (_, width, _))| *width);
    let lines = usize::from(area.height).saturating_sub(1);
    let table = Table::new(rows.take(lines).map(row), widths).header(row(headings).style(palette.heading()));
    frame.render_widget(table, area);
}
