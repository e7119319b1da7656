//! From what the system says has changed to what is worth a look.

use std::{collections::BTreeSet, os::unix::fs::MetadataExt, path::Path, time::Instant};

use super::{
    Feed, Mode, REVISIT,
    look::Refused,
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
            self.unsure = true;
            return false;
        };
        let Ok(path) = full.strip_prefix(&self.root).map(Path::to_owned) else {
            return true;
        };
        if path.as_os_str().is_empty() {
            return true;
        }
        if names::check(&path) == Err(Unpublished::Unspeakable) && full.symlink_metadata().is_ok() {
            let (refusal, reason) = (Refusal::Name, scan::UNSPEAKABLE.to_owned());
            self.tell(Refused { path: path.clone(), fingerprint: None, refusal, reason });
        }
        let is_structural = !matches!(hint, Hint::Written(_) | Hint::Touched(_) | Hint::Settled(_));
        match hint {
            Hint::Created(_) => match full.symlink_metadata() {
                Ok(meta) if meta.is_symlink() => return true,
                // A hard link comes whole: it was written under its other name.
                Ok(meta) if meta.nlink() > 1 => affected(&path, contents),
                _ => {
                    self.writing.insert(path, Instant::now());
                }
            },
            Hint::Written(_) => {
                self.writing.insert(path, Instant::now());
            }
            Hint::Touched(_) => affected(&path, contents),
            Hint::Settled(_) => {
                self.writing.remove(&path);
                affected(&path, contents);
            }
            Hint::Appeared(_) | Hint::Vanished(_) => {
                self.writing.retain(|written, _| !written.starts_with(&path));
                if full.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                    let soon = REVISIT.map(|after| (Instant::now() + after, path.clone()));
                    self.revisit.extend(soon);
                    contents.extend(self.scan_below(&path));
                }
                contents.extend(path.to_str().into_iter().flat_map(|path| self.catalog.below(path)).map(str::to_owned));
                affected(&path, contents);
            }
            // Noted above.
            Hint::Lost => {}
        }
        is_structural && self.links
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
