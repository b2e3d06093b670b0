//! Colour, where it is wanted: on a terminal, and only if nobody asked for none.

use std::fmt::{self, Display};
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

/// What a piece of text means to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// To be looked at.
    Odd,
    /// Wrong.
    Bad,
    /// A heading, or what matters most.
    Strong,
    /// Beside the point.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Odd => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default(),
            Tone::Strong => Style::new().bold(),
            Tone::Faint => Style::new().dimmed(),
        }
    }
}

/// Whether to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// No colour at all.
    pub const PLAIN: Paint = Paint { on: false };

    /// Colour in any case.
    pub const COLOURED: Paint = Paint { on: true };

    /// Colour if standard output is a terminal that shows it and `NO_COLOR` is not set (<https://no-color.org>).
    pub fn for_stdout() -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint { on: is_screen() && !refused }
    }

    /// The text in that tone.
    pub fn paint<T: Display>(self, tone: Tone, text: T) -> Painted<T> {
        Painted { style: self.on.then(|| tone.style()), text }
    }
}

/// Whether standard output is a terminal whose lines can be drawn again.
pub fn is_screen() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// A text with its colour.
pub struct Painted<T> {
    style: Option<Style>,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    /// Padding counts the text alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Some(style) => {
                style.fmt(f)?;
                self.text.fmt(f)?;
                write!(f, "{style:#}")
            }
            None => self.text.fmt(f),
        }
    }
}
