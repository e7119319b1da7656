//! What somebody who waits may want to see.

use std::{
    io::{self, IsTerminal},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::counts::Counts;

/// What all threads have done so far, drawn on standard error where that is a terminal.
pub struct Progress {
    bar: ProgressBar,
    connected: AtomicU64,
    answered: AtomicU64,
    not_modified: AtomicU64,
    failed: AtomicU64,
}

/// What a thread has told.
#[derive(Clone, Copy, Default)]
pub struct Told {
    connected: u64,
    answered: u64,
    not_modified: u64,
    failed: u64,
}

impl Progress {
    /// For so many seconds.
    pub fn new(seconds: f64) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(Duration::from_secs_f64(seconds).as_millis() as u64),
            ProgressDrawTarget::hidden(),
        );
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} [{bar:16}] {msg}") {
            bar.set_style(style);
        }
        // Elsewhere it would be one line of many in a file.
        if io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let none = || AtomicU64::new(0);
        Self { bar, connected: none(), answered: none(), not_modified: none(), failed: none() }
    }

    /// Adds what a thread has counted since it told so last.
    pub fn add(&self, counts: &Counts, told: &mut Told) {
        let now = Told {
            connected: counts.connected,
            answered: counts.answered(),
            not_modified: counts.answers.get(&304).copied().unwrap_or_default(),
            failed: counts.failed(),
        };
        self.connected.fetch_add(now.connected - told.connected, Ordering::Relaxed);
        self.answered.fetch_add(now.answered - told.answered, Ordering::Relaxed);
        self.not_modified.fetch_add(now.not_modified - told.not_modified, Ordering::Relaxed);
        self.failed.fetch_add(now.failed - told.failed, Ordering::Relaxed);
        *told = now;
    }

    /// Shows what has been added. `past`: of the time asked for.
    pub fn show(&self, past: Duration) {
        let count = |value: &AtomicU64| HumanCount(value.load(Ordering::Relaxed));
        self.bar.set_position(past.as_millis() as u64);
        self.bar.set_message(format!(
            "{} connected, {} answered, {} of them 304, {} failed",
            count(&self.connected),
            count(&self.answered),
            count(&self.not_modified),
            count(&self.failed)
        ));
    }

    /// Takes it away: the report follows.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
