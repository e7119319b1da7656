//! What is said: a line a file, a progress bar for long work on a terminal, a table at the end, or JSON.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::args::{Mode, Options};

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its `.mz` was made.
    Made,
    /// It was made from its `.mz`.
    Restored,
    /// It is a `.mz` that is whole.
    Good,
    /// It is as it should be already.
    Unchanged,
    /// It was removed.
    Removed,
    /// It was passed over for a reason.
    Skipped,
    /// The same, and somebody should know.
    Warned,
    /// Nothing came of it.
    Failed,
}

impl What {
    const ALL: [What; 8] = [
        What::Made,
        What::Restored,
        What::Good,
        What::Unchanged,
        What::Removed,
        What::Skipped,
        What::Warned,
        What::Failed,
    ];

    fn name(self) -> &'static str {
        match self {
            What::Made => "made",
            What::Restored => "restored",
            What::Good => "good",
            What::Unchanged => "unchanged",
            What::Removed => "removed",
            What::Skipped => "skipped",
            What::Warned => "warning",
            What::Failed => "failed",
        }
    }
}

/// One file and what became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The file that was named or found.
    pub path: PathBuf,
    pub what: What,
    /// Why, or how; may be empty.
    pub note: String,
    /// Bytes of what was read and of what came of it; zero and zero where nothing was weighed.
    pub sizes: (u64, u64),
}

impl Outcome {
    /// One without sizes.
    pub fn new(path: &Path, what: What, note: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what, note: note.into(), sizes: (0, 0) }
    }

    /// With sizes.
    pub fn sized(self, before: usize, after: usize) -> Self {
        Self { sizes: (before as u64, after as u64), ..self }
    }

    fn line(&self) -> String {
        let mut line = format!("{:<10} {}", self.what.name(), shown(&self.path));
        if self.sizes != (0, 0) {
            let (before, after) = self.sizes;
            let _ = write!(line, "  {before} -> {after} bytes{}", saved(before, after, ", "));
        }
        if !self.note.is_empty() {
            let _ = write!(line, "  {}", self.note);
        }
        line
    }

    fn json(&self) -> Value {
        let mut value = json!({ "path": self.path.to_string_lossy(), "result": self.what.name() });
        if self.sizes != (0, 0) {
            value["before"] = self.sizes.0.into();
            value["after"] = self.sizes.1.into();
        }
        if !self.note.is_empty() {
            value["note"] = self.note.as_str().into();
        }
        value
    }
}

/// Tells as it goes, and sums up.
pub struct Report<'o> {
    options: &'o Options,
    started: Instant,
    bar: ProgressBar,
    outcomes: Vec<Outcome>,
}

/// Work that is done sooner needs no bar.
const LONG: Duration = Duration::from_millis(700);

impl<'o> Report<'o> {
    /// `bytes`: of all that is to be done.
    pub fn new(options: &'o Options, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left") {
            bar.set_style(style);
        }
        Self { options, started: Instant::now(), bar, outcomes: Vec::new() }
    }

    /// Time has passed.
    pub fn tick(&self) {
        let is_late = self.started.elapsed() >= LONG;
        if is_late && self.bar.is_hidden() && io::stderr().is_terminal() && !self.options.quiet {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.tick();
    }

    /// Bytes were worked on.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Something became of a file.
    pub fn tell(&mut self, outcome: Outcome) {
        let Options { quiet, verbose, json, mode, dry_run, .. } = *self.options;
        let is_silent = match outcome.what {
            What::Failed | What::Warned => false,
            What::Unchanged => !verbose || quiet || json,
            _ => quiet || json || mode == Mode::List,
        };
        if !is_silent {
            self.bar.suspend(|| say(&outcome, if dry_run { "dry run: " } else { "" }));
        }
        self.outcomes.push(outcome);
    }

    /// Sums up. True: nothing failed.
    pub fn end(self) -> bool {
        self.bar.finish_and_clear();
        let mut out = io::stdout().lock();
        let text = match self.options {
            Options { json: true, .. } => format!("{:#}\n", self.json()),
            Options { quiet: true, .. } => String::new(),
            Options { mode: Mode::List, .. } => self.list(),
            _ => self.table(),
        };
        // Whoever closed the pipe has read enough.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        self.count(What::Failed) == 0
    }

    fn count(&self, what: What) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.what == what).count()
    }

    fn sums(&self, wanted: impl Fn(What) -> bool) -> (usize, u64, u64) {
        let wanted = self.outcomes.iter().filter(|outcome| wanted(outcome.what));
        wanted.fold((0, 0, 0), |(files, before, after), outcome| {
            (files + 1, before + outcome.sizes.0, after + outcome.sizes.1)
        })
    }

    fn table(&self) -> String {
        let heading = if self.options.dry_run { "dry run" } else { "" };
        let mut text =
            format!("{heading:<10}{:>9}{:>13}{:>13}{:>10}{:>10}\n", "files", "before", "after", "saved", "seconds");
        for what in What::ALL {
            let (files, before, after) = self.sums(|of| of == what);
            if files > 0 {
                let _ = writeln!(text, "{}", row(what.name(), files, before, after).trim_end());
            }
        }
        let (files, before, after) = self.sums(|_| true);
        let _ = writeln!(text, "{}{:>10.2}", row("total", files, before, after), self.started.elapsed().as_secs_f64());
        text
    }

    fn list(&self) -> String {
        let mut text = format!("{:>13}{:>13}{:>10}  {:<10} name\n", "content", ".mz", "saved", "effort");
        let line = |mz, content, note: &str, name: &str| {
            format!("{content:>13}{mz:>13}{:>10}  {note:<10} {name}\n", saved(content, mz, ""))
        };
        for outcome in self.outcomes.iter().filter(|outcome| outcome.what == What::Good) {
            text += &line(outcome.sizes.0, outcome.sizes.1, &outcome.note, &shown(&outcome.path));
        }
        let (files, mz, content) = self.sums(|of| of == What::Good);
        text += &line(mz, content, "", &format!("{files} in all"));
        text
    }

    fn json(&self) -> Value {
        let (files, before, after) = self.sums(|_| true);
        let mut summary = json!({
            "files": files,
            "before": before,
            "after": after,
            "saved": before as i64 - after as i64,
            "seconds": self.started.elapsed().as_secs_f64(),
        });
        for what in What::ALL {
            summary[what.name()] = self.count(what).into();
        }
        json!({
            "mode": self.options.mode.name(),
            "dry_run": self.options.dry_run,
            "files": self.outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
            "summary": summary,
        })
    }
}

fn row(name: &str, files: usize, before: u64, after: u64) -> String {
    let sizes = match (before, after) {
        (0, 0) => String::new(),
        _ => format!("{before:>13}{after:>13}{:>10}", saved(before, after, "")),
    };
    format!("{name:<10}{files:>9}{sizes:36}")
}

/// What the smaller saves of the larger, in percent.
fn saved(one: u64, other: u64, before: &str) -> String {
    let (small, large) = (one.min(other), one.max(other));
    if large == 0 { String::new() } else { format!("{before}{:.1} %", 100.0 - small as f64 / large as f64 * 100.0) }
}

/// A path that cannot tell the terminal what to do.
pub fn shown(path: &Path) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    path.to_string_lossy().chars().map(escape).collect()
}

/// One line for one file, with `prefix` before it; what is not well goes to standard error.
pub fn say(outcome: &Outcome, prefix: &str) {
    let Outcome { path, note, .. } = outcome;
    // Whoever closed the pipe has read enough.
    let _ = match outcome.what {
        What::Failed => writeln!(io::stderr(), "myzip: {}: {note}", shown(path)),
        What::Warned => writeln!(io::stderr(), "myzip: warning: {}: {note}", shown(path)),
        _ => writeln!(io::stdout(), "{prefix}{}", outcome.line()),
    };
}

/// One line for what failed before there was a report. False, which is how it went.
pub fn fail(path: &Path, reason: String) -> bool {
    say(&Outcome::new(path, What::Failed, reason), "");
    false
}
