//! What the feed does when it is time, whoever has told it anything.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Feed, Mode, ROOT, STILL, follow::affected, load, look::Writing};

impl Feed {
    /// Takes out the files that have been still for long although somebody has them open.
    fn take_still(&mut self, now: Instant) -> HashSet<PathBuf> {
        let root = &self.root;
        let is_still = |path: &PathBuf, writing: &mut Writing| {
            if now.duration_since(writing.since) < STILL {
                return false;
            }
            match load::rest(&root.join(path)) {
                // It has changed, and nobody has told.
                Some((state, _)) if writing.state.is_some_and(|before| before != state) => {
                    *writing = Writing { since: now, state: Some(state), is_new: false };
                    false
                }
                Some((state, rested)) if rested < STILL && rested > Duration::ZERO => {
                    let since = now.checked_sub(rested).unwrap_or(now);
                    *writing = Writing { since, state: Some(state), is_new: false };
                    false
                }
                _ => true,
            }
        };
        self.writing.extract_if(is_still).map(|(path, _)| path).collect()
    }

    pub(super) fn next_wake(&self) -> Instant {
        let still = self.writing.values().map(|writing| writing.since + STILL);
        let empty = self.empty.values().copied().chain(self.revisit.iter().map(|(at, _)| *at));
        let soon =
            self.soon.values().copied().chain(self.unsure.then_some(self.next_watch)).chain(self.doubts.deadline());
        let timers = [self.next_root, self.next_scan].into_iter().chain(self.catalog.next_expiry());
        timers.chain(still).chain(empty).chain(soon).min().unwrap_or(self.next_scan)
    }

    /// Does what is due.
    pub(super) fn keep_time(&mut self) {
        let now = Instant::now();
        let still = self.take_still(now);
        if !still.is_empty() {
            let mut contents = BTreeSet::new();
            still.iter().for_each(|path| affected(path, &mut contents));
            self.look_at(contents, &Mode { force: true, still, ..Mode::default() });
        }
        let empty = self.take_empty(now);
        if !empty.is_empty() {
            self.look_at(empty, &Mode { force: true, believe_empty: true, ..Mode::default() });
        }
        self.look_soon(now);
        if self.doubts.deadline().is_some_and(|deadline| deadline <= now) {
            self.is_rung();
        }
        let revisit: Vec<_> = self.revisit.extract_if(.., |(at, _)| *at <= now).collect();
        let contents: BTreeSet<String> = revisit.iter().flat_map(|(_, path)| self.scan_below(path)).collect();
        if !contents.is_empty() {
            self.look_at(contents, &Mode::default());
        }
        let expired = self.catalog.expired(now);
        if !expired.is_empty() {
            self.look_at(expired, &Mode { force: true, certain: true, ..Mode::default() });
        }
        if self.next_root <= now {
            self.next_root = now + ROOT;
            self.check_root();
        }
        if self.unsure && self.next_watch <= now {
            self.unsure = false;
            self.watch();
            self.rescan(true);
        }
        if self.next_scan <= now {
            self.rescan(true);
        }
    }

    fn look_soon(&mut self, now: Instant) {
        let soon: BTreeSet<String> = self.soon.extract_if(|_, at| *at <= now).map(|(content, _)| content).collect();
        if !soon.is_empty() {
            self.look_at(soon, &Mode { force: true, ..Mode::default() });
        }
    }

    /// Looks again at what could not be believed yet, so that the first load has everything.
    pub(super) fn finish_load(&mut self) {
        let end = Instant::now() + 3 * load::REST;
        while let Some(next) = self.soon.values().min().copied().filter(|next| *next < end) {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            self.look_soon(Instant::now());
        }
    }
}
