//! From what the system says has changed to what is worth a look.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    EMPTY, Feed, Mode, POLL, REVISIT, load,
    look::{Refused, Writing},
    names::{self, Role, Unpublished},
    scan,
    watch::Hint,
};
use crate::stats::Refusal;

impl Feed {
    /// Does what `hints` suggest.
    pub(super) fn follow(&mut self, hints: Vec<Hint>, since: Option<Instant>) {
        let mut contents = BTreeSet::new();
        let mut everything = false;
        for hint in hints {
            everything |= self.take_hint(hint, &mut contents);
        }
        if everything {
            self.rescan(true);
        }
        if !contents.is_empty() {
            contents.extend(self.linked.iter().cloned());
            self.look_at(contents, &Mode { force: true, since, ..Mode::default() });
        }
    }

    /// Notes what a hint says. True: only a look at everything will do.
    fn take_hint(&mut self, hint: Hint, contents: &mut BTreeSet<String>) -> bool {
        let (Hint::Created(full)
        | Hint::Written(full)
        | Hint::Touched(full)
        | Hint::Settled(full)
        | Hint::Appeared(full)
        | Hint::Vanished(full)) = &hint
        else {
            match hint {
                Hint::Rung => self.is_rung(),
                _ => {
                    self.unsure = true;
                    self.look_again_at_doubts();
                }
            }
            return false;
        };
        let Ok(path) = full.strip_prefix(&self.root).map(Path::to_owned) else {
            return true;
        };
        if path.as_os_str().is_empty() {
            if matches!(hint, Hint::Vanished(_)) {
                // What comes in its place may have the same number.
                self.forget_watch();
            }
            return true;
        }
        if names::check(&path) == Err(Unpublished::Unspeakable) && full.symlink_metadata().is_ok() {
            let (refusal, reason) = (Refusal::Name, scan::UNSPEAKABLE.to_owned());
            self.tell(Refused { path: path.clone(), fingerprint: None, refusal, reason });
        }
        if !matches!(hint, Hint::Touched(_) | Hint::Settled(_)) {
            self.doubts.dispel(&path);
        }
        let full = full.clone();
        let is_structural = !matches!(hint, Hint::Written(_) | Hint::Touched(_) | Hint::Settled(_));
        match hint {
            Hint::Created(_) if full.is_symlink() => return true,
            Hint::Created(_) => self.is_created(path, &full, contents),
            Hint::Written(_) => {
                self.writing.insert(path, Writing { since: Instant::now(), state: None, is_new: false });
            }
            // Its rights may have changed, and with them what can be seen below it.
            Hint::Touched(_) if full.is_dir() => {
                self.watch_below(&full);
                contents.extend(self.scan_below(&path));
            }
            Hint::Touched(_) => {
                affected(&path, contents);
                self.other_names(&full, contents);
            }
            Hint::Settled(_) => {
                self.writing.remove(&path);
                affected(&path, contents);
                self.other_names(&full, contents);
            }
            Hint::Appeared(_) | Hint::Vanished(_) => self.has_moved(&path, &full, contents),
            // Noted above.
            Hint::Rung | Hint::Lost => {}
        }
        is_structural && self.links
    }

    /// A file was made.
    fn is_created(&mut self, path: PathBuf, full: &Path, contents: &mut BTreeSet<String>) {
        affected(&path, contents);
        if full.symlink_metadata().is_ok_and(|meta| meta.nlink() > 1) {
            // A hard link comes whole. The other name is told of nothing; a look at everything finds it.
            self.next_scan = self.next_scan.min(Instant::now() + POLL);
        } else {
            // Whether it is being written is for the kernel to say; it may have been without a name until now.
            self.writing.insert(path, Writing { since: Instant::now(), state: None, is_new: true });
        }
    }

    /// A name came whole, or went.
    fn has_moved(&mut self, path: &Path, full: &Path, contents: &mut BTreeSet<String>) {
        self.writing.retain(|written, _| !written.starts_with(path));
        if full.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            self.watch_below(full);
            self.revisit.extend(REVISIT.map(|after| (Instant::now() + after, path.to_owned())));
            contents.extend(self.scan_below(path));
        }
        contents.extend(path.to_str().into_iter().flat_map(|path| self.catalog.below(path)).map(str::to_owned));
        affected(path, contents);
    }

    /// Takes out the contents that have been empty for so long that it is believed. One that is empty again has been filled
    /// meanwhile, and waits anew.
    pub(super) fn take_empty(&mut self, now: Instant) -> BTreeSet<String> {
        let root = &self.root;
        let is_empty_for_long = |content: &String, at: &mut Instant| {
            let rested = load::rest(&root.join(content)).map_or(EMPTY, |(_, rested)| rested);
            // Where the clock was set back, nobody knows for how long.
            if *at <= now && !rested.is_zero() && rested < EMPTY {
                *at = now + (EMPTY - rested);
            }
            *at <= now
        };
        self.empty.extract_if(is_empty_for_long).map(|(content, _)| content).collect()
    }

    /// The contents that have the file at `full` under other names.
    fn other_names(&self, full: &Path, contents: &mut BTreeSet<String>) {
        let Ok(meta) = full.symlink_metadata() else { return };
        if meta.nlink() > 1 {
            contents.extend(self.shared.get(&(meta.dev(), meta.ino())).into_iter().flatten().cloned());
        }
    }

    /// What there is below a directory. None of it, if it cannot be read or may not be published.
    pub(super) fn scan_below(&mut self, path: &Path) -> BTreeSet<String> {
        match names::check(path).is_ok().then(|| scan::scan(&self.root, path)) {
            Some(Ok(scan)) => self.note(scan),
            Some(Err(_)) | None => BTreeSet::new(),
        }
    }
}

/// The contents that the file at `path` may be part of.
pub(super) fn affected(path: &Path, contents: &mut BTreeSet<String>) {
    let Some(path) = path.to_str() else { return };
    let (base, role) = names::split(path);
    if role != Role::Plain {
        contents.insert(base.to_owned());
    }
    if role != Role::Mz {
        contents.insert(path.to_owned());
    }
}
