//! What the system says has changed. Hints only: the feed looks at the files and believes those.
//!
//! Directories are watched, never files: a rename over a file hides from a watch on the file.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, Flag, ModifyKind, RenameMode},
};
use rustix::fs::{MemfdFlags, memfd_create};

/// What may have happened to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A file was made, and whoever made it may still be writing.
    Created(PathBuf),
    /// Bytes were written or cut off; the writer has not closed.
    Written(PathBuf),
    /// Its attributes changed.
    Touched(PathBuf),
    /// A writer closed it.
    Settled(PathBuf),
    /// The name came whole (a rename), or a directory did.
    Appeared(PathBuf),
    /// The name went, with everything below it.
    Vanished(PathBuf),
    /// The bell was rung: whatever had happened before has been told.
    Rung,
    /// Events were lost.
    Lost,
}

/// A watch on a directory and everything below it, until it is dropped.
pub struct Watch {
    watcher: RecommendedWatcher,
    bell: Option<Bell>,
}

/// A file that is nowhere and nobody else's: when it is opened, that is an event among the others.
struct Bell {
    path: PathBuf,
    /// For as long as the path is used.
    _file: OwnedFd,
}

impl Bell {
    fn new() -> Option<Self> {
        let file = memfd_create(c"cloudia-bell", MemfdFlags::CLOEXEC).ok()?;
        Some(Self { path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(), _file: file })
    }
}

impl Watch {
    /// Watches `root`, which must be a real path, and tells what happens.
    ///
    /// # Errors
    /// What the system says, above all that there are too many watches.
    pub fn new(root: &Path, tell: impl Fn(Hint) + Send + 'static) -> notify::Result<Self> {
        let bell = Bell::new();
        let is_bell = bell.as_ref().map(|bell| bell.path.clone());
        let tell_all = move |event: notify::Result<Event>| {
            let hints_of = match event {
                Ok(event) if event.paths.first().is_some_and(|path| Some(path) == is_bell.as_ref()) => {
                    let is_rung = matches!(event.kind, EventKind::Access(AccessKind::Open(_)));
                    is_rung.then_some(Hint::Rung).into_iter().collect()
                }
                Ok(event) => translate(event),
                // Whatever it was, a look at everything mends it.
                Err(_) => vec![Hint::Lost],
            };
            hints_of.into_iter().for_each(&tell);
        };
        // A link's target is watched where it lies, if that is below the root; nothing else is served.
        let mut watcher = RecommendedWatcher::new(tell_all, Config::default().with_follow_symlinks(false))?;
        match watcher.watch(root, RecursiveMode::Recursive) {
            // One directory that may not be read is no reason to watch none.
            Err(error) if is_denied(&error) => watch_readable(&mut watcher, root)?,
            watched => watched?,
        }
        let bell = bell.filter(|bell| watcher.watch(&bell.path, RecursiveMode::NonRecursive).is_ok());
        Ok(Self { watcher, bell })
    }

    /// There is a bell.
    pub fn has_bell(&self) -> bool {
        self.bell.is_some()
    }

    /// Rings the bell: when [`Hint::Rung`] is told, everything that has happened until now has been. Whether it could be rung.
    pub fn ring(&self) -> bool {
        self.bell.as_ref().is_some_and(|bell| std::fs::File::open(&bell.path).is_ok())
    }

    /// Watches a directory below the root that has come, or that could not be read before.
    pub fn add(&mut self, directory: &Path) {
        if self.watcher.watch(directory, RecursiveMode::Recursive).is_err() {
            // It is gone again, or may not be read; else the next look at everything finds what it holds.
            let _ = watch_readable(&mut self.watcher, directory);
        }
    }
}

/// Watches a directory and those below it that may be read.
fn watch_readable(watcher: &mut RecommendedWatcher, directory: &Path) -> notify::Result<()> {
    match watcher.watch(directory, RecursiveMode::NonRecursive) {
        Err(error) if is_denied(&error) => return Ok(()),
        watched => watched?,
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            match watcher.watch(&entry.path(), RecursiveMode::Recursive) {
                Err(error) if is_denied(&error) => watch_readable(watcher, &entry.path())?,
                watched => watched?,
            }
        }
    }
    Ok(())
}

fn is_denied(error: &notify::Error) -> bool {
    matches!(&error.kind, notify::ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn translate(event: Event) -> Vec<Hint> {
    if event.attrs.flag() == Some(Flag::Rescan) {
        return vec![Hint::Lost];
    }
    let each = |hint: fn(PathBuf) -> Hint| event.paths.iter().cloned().map(hint).collect();
    match event.kind {
        EventKind::Create(CreateKind::Folder) => each(Hint::Appeared),
        EventKind::Create(_) => each(Hint::Created),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => each(Hint::Settled),
        // Reading, ours among it.
        EventKind::Access(_) => Vec::new(),
        EventKind::Modify(ModifyKind::Metadata(_)) => each(Hint::Touched),
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => each(Hint::Vanished),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => each(Hint::Appeared),
        // It comes after the two above and says the same again.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Vec::new(),
        EventKind::Modify(ModifyKind::Name(_)) => vec![Hint::Lost],
        EventKind::Modify(_) => each(Hint::Written),
        EventKind::Remove(_) => each(Hint::Vanished),
        EventKind::Any | EventKind::Other => vec![Hint::Lost],
    }
}
