//! What `simulate` and `replay` share: a timeline shown as text, JSON or a page.

use std::fmt::Write;
use std::path::Path;

use super::paint::Tone;
use super::render::{Page, clean};
use crate::timeline::Timeline;

/// The widest that a column with a name gets.
const MAX_COLUMN: usize = 44;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It was typed wrongly, or what was named is not there or not readable.
    #[error("{0}")]
    Typed(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

impl Wrong {
    /// The exit status.
    pub fn code(&self) -> u8 {
        match self {
            Wrong::Typed(_) => 2,
            Wrong::Failed(_) => 1,
        }
    }
}

/// Rows under their headings; all but the first column to the right.
pub fn columns<const N: usize>(heads: &[&str; N], rows: &[[String; N]], page: Page) -> String {
    let width_of = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain(heads.get(at).map(|head| head.chars().count())).max().unwrap_or_default().min(MAX_COLUMN)
    };
    let widths: Vec<usize> = (0..N).map(width_of).collect();
    let line = |cells: Vec<String>| {
        let mut text = String::new();
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let cell = clean(cell);
            let cell: String = cell.chars().take(MAX_COLUMN).collect();
            let _ = if at == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.trim_end().to_owned()
    };
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}",
        page.paint.paint(Tone::Strong, line(heads.iter().map(|head| (*head).to_owned()).collect()))
    );
    for row in rows {
        let _ = writeln!(out, "{}", line(row.to_vec()));
    }
    out
}

/// The page, written to a file.
///
/// # Errors
/// The file cannot be written.
pub fn write_page(timeline: &Timeline, path: &Path) -> Result<(), Wrong> {
    std::fs::write(path, crate::timeline::page::render(timeline))
        .map_err(|error| Wrong::Failed(format!("{} cannot be written: {error}", path.display())))
}

/// The timeline for people.
pub fn text(timeline: &Timeline, page: Page) -> String {
    crate::timeline::text::render(timeline, page)
}
