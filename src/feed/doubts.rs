//! What was read of files whose writers the kernel does not tell of waits here until everything that has happened before it was
//! read has been heard.
//!
//! Who has no lease on a file, because another user owns it, learns of writers by their events alone, and those may be on their
//! way. So behind what was read a bell is rung that is heard among the events: whoever wrote before is heard before.
//! If nobody is, what was read is whole.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Batch, Feed, Mode, load, look::Fresh};

/// A bell that is not heard for so long is not heard at all: events do not reach this process.
const DEAF: Duration = Duration::from_secs(1);

/// Versions that wait for the bell.
#[derive(Default)]
pub(super) struct Doubts {
    /// For the bell that was rung, and when that was.
    rung: Option<(Instant, Vec<Doubt>)>,
    /// For the next one.
    next: Vec<Doubt>,
}

/// A version that was read from files of which somebody may have been heard too late.
struct Doubt {
    fresh: Fresh,
    /// Relative to the root.
    files: Vec<PathBuf>,
}

impl Doubts {
    fn retain(&mut self, keep: impl Fn(&Doubt) -> bool) {
        self.next.retain(&keep);
        if let Some((_, doubts)) = &mut self.rung {
            doubts.retain(&keep);
        }
    }

    /// The content is looked at anew.
    pub(super) fn forget(&mut self, content: &str) {
        self.retain(|doubt| doubt.fresh.content != content);
    }

    /// Somebody has written `path`, or moved it, or something above it.
    pub(super) fn dispel(&mut self, path: &Path) {
        self.retain(|doubt| !doubt.files.iter().any(|file| file.starts_with(path)));
    }

    /// When a bell must have been heard.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.rung.as_ref().map(|(since, _)| *since + DEAF)
    }
}

impl Feed {
    /// Lets a version wait that was read from `files`.
    pub(super) fn doubt(&mut self, fresh: Fresh, files: Vec<PathBuf>) {
        self.doubts.next.push(Doubt { fresh, files });
    }

    /// Rings, if anything waits for that. One bell at a time, since two might be heard as one.
    pub(super) fn ring(&mut self) {
        if self.doubts.rung.is_some() || self.doubts.next.is_empty() {
            return;
        }
        if self.watch.as_ref().is_some_and(|(watch, _)| watch.ring()) {
            self.doubts.rung = Some((Instant::now(), std::mem::take(&mut self.doubts.next)));
        } else {
            self.look_again_at_doubts();
        }
    }

    /// The bell was heard: what waited for it is published.
    pub(super) fn is_rung(&mut self) {
        let Some((_, doubts)) = self.doubts.rung.take() else { return };
        let fresh = doubts.into_iter().map(|doubt| doubt.fresh).collect();
        self.publish_all(Batch { fresh, ..Batch::default() }, &Mode::default());
        self.ring();
    }

    /// Events were lost, and perhaps the bell with them.
    pub(super) fn look_again_at_doubts(&mut self) {
        let rung = self.doubts.rung.take().map(|(_, doubts)| doubts).unwrap_or_default();
        let again = Instant::now() + load::REST;
        for doubt in rung.into_iter().chain(std::mem::take(&mut self.doubts.next)) {
            self.soon.entry(doubt.fresh.content).or_insert(again);
        }
    }
}
