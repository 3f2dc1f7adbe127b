//! One line on a terminal that says how far a phase is; nothing where standard error is not a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// How often the line is drawn.
pub(crate) const EVERY: Duration = Duration::from_millis(100);

const WIDTH: usize = 30;

/// The line.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    /// A line if standard error is a terminal and --quiet is not given.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { shown: !quiet && std::io::stderr().is_terminal() }
    }

    /// Draws how much is done, from 0 to 1.
    pub(crate) fn draw(&self, label: &str, done: f64, detail: &str) {
        if self.shown {
            // A terminal that cannot be written to costs its reader the bar and nothing else.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(label, done, detail));
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(label: &str, done: f64, detail: &str) -> String {
    let done = done.clamp(0.0, 1.0);
    let full = (done * WIDTH as f64).round() as usize;
    let bar = "█".repeat(full) + &"░".repeat(WIDTH - full);
    format!("{label} {bar} {:3.0} % {detail}", done * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_one_width_whatever_is_done() {
        for done in [-1.0, 0.0, 0.5, 1.0, 7.0] {
            let line = line("get", done, "");
            assert_eq!(line.chars().filter(|c| "█░".contains(*c)).count(), WIDTH, "{line}");
        }
    }
}
