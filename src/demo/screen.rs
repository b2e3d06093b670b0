//! What the demo shows: lines of a story, and under them, in a terminal, a view that is drawn again and again.

use std::collections::BTreeMap;
use std::io::{self, Write};

use tokio::time::Instant;

use crate::cli::paint::{self, Paint, Tone};

/// Requests in the view's strip.
pub const STRIP: usize = 60;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// The demo itself, and what it does to the nodes.
    Demo,
    /// eipwatch.
    Watch,
    /// The client.
    Client,
}

/// One node in the view.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// What the demo did to its process.
    pub process: &'static str,
    /// The verdict on it.
    pub verdict: &'static str,
    /// Whether it holds the address.
    pub holds: bool,
}

/// What the view shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The nodes by name.
    pub nodes: BTreeMap<&'static str, NodeView>,
    /// Whether each of the newest requests was answered well.
    pub strip: Vec<bool>,
    /// The Elastic IP.
    pub address: String,
}

/// Standard output.
pub struct Screen {
    start: Instant,
    paint: Paint,
    live: bool,
    silent: bool,
    /// Lines of the view that stand on the screen.
    drawn: usize,
}

impl Screen {
    /// Begins now; a `silent` one shows nothing.
    pub fn new(silent: bool) -> Screen {
        let live = !silent && paint::is_screen();
        Screen { start: Instant::now(), paint: Paint::for_stdout(), live, silent, drawn: 0 }
    }

    /// Whether there is a view.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, voice: Voice, tone: Option<Tone>, text: &str) {
        let (name, of_name) = match voice {
            Voice::Demo => ("demo", Tone::Strong),
            Voice::Watch => ("eipwatch", Tone::Faint),
            Voice::Client => ("client", Tone::Strong),
        };
        let seconds = self.start.elapsed().as_secs_f64();
        let name = self.paint.paint(of_name, format!("{name:<8}"));
        let line = match tone {
            Some(tone) => format!("{seconds:5.1} s  {name}  {}\n", self.paint.paint(tone, text)),
            None => format!("{seconds:5.1} s  {name}  {text}\n"),
        };
        self.put(&line);
    }

    /// Adds lines that belong to nobody.
    pub fn say(&mut self, text: &str) {
        self.put(&format!("{text}\n"));
    }

    /// Draws the view again, under all lines.
    pub fn draw(&mut self, view: &View) {
        if !self.live {
            return;
        }
        let mut text = format!("\n  {}\n", self.paint.paint(Tone::Strong, &view.address));
        for (name, node) in &view.nodes {
            let mark = if node.holds { "<- holds it" } else { "" };
            let tone = match node.verdict {
                "healthy" => Tone::Good,
                "unhealthy" | "gone" => Tone::Bad,
                _ => Tone::Odd,
            };
            let verdict = self.paint.paint(tone, format!("{:<10}", node.verdict));
            text.push_str(&format!("  {name:<6} process {:<8} verdict {verdict} {mark}\n", node.process));
        }
        text.push_str("  client ");
        for good in &view.strip {
            let (tone, mark) = if *good { (Tone::Good, "|") } else { (Tone::Bad, "x") };
            text.push_str(&self.paint.paint(tone, mark).to_string());
        }
        text.push('\n');
        self.erase();
        self.drawn = text.lines().count();
        self.write(&text);
    }

    /// Takes the view away.
    pub fn close(&mut self) {
        self.erase();
        self.live = false;
    }

    fn put(&mut self, text: &str) {
        self.erase();
        self.write(text);
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            let up = format!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
            self.write(&up);
        }
    }

    fn write(&self, text: &str) {
        if self.silent {
            return;
        }
        // A reader that has gone away does not change what the demo finds.
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
