//! Files to bytes: found without leaving the data directory, and read whole or not at all.
//!
//! It opens regular files only, and only those whose real place is inside the data directory under a name that may be
//! published. It never believes a file that changes while it is read.

use std::{
    fs::{File, Metadata, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    num::NonZero,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::names;
use crate::{limits::MAX_FILE, stats::Refusal};

/// How long a file must have been as it is before it is believed where the kernel does not tell of its writers.
pub const REST: Duration = Duration::from_millis(20);

/// What tells one state of a file from another. A write cannot leave the change time as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// What tells one writing of the file from another.
    pub fn rewrite(&self) -> Rewrite {
        Rewrite(digest(&(self.device, self.inode, self.size, self.modified)))
    }

    /// Seconds since 1970 of the last modification; 0 before.
    pub fn modified_secs(&self) -> u64 {
        u64::try_from(self.modified.0).unwrap_or(0)
    }
}

/// A digest of a [`Fingerprint`] that a change of the file's mode or owner leaves as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite(NonZero<u64>);

/// A digest of the states of a content's files, for a table of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(Option<NonZero<u64>>);

impl Mark {
    /// Of a content's files, the sidecars behind the first.
    pub fn of(files: &[Option<Fingerprint>]) -> Self {
        let has_sidecars = files.iter().skip(1).any(Option::is_some);
        // The lowest bit says it. The next one is always set, so that it is never zero.
        Self(NonZero::new(digest(files).get() & !0b11 | 0b10 | u64::from(has_sidecars)))
    }

    /// There were no sidecars, or nothing is known.
    pub fn is_bare(self) -> bool {
        self.0.is_none_or(|digest| digest.get() & 1 == 0)
    }
}

fn digest(value: &(impl Hash + ?Sized)) -> NonZero<u64> {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    NonZero::new(hasher.finish()).unwrap_or(NonZero::<u64>::MAX)
}

/// A file that may be read.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its real place.
    pub path: PathBuf,
    /// Its state when it was found.
    pub fingerprint: Fingerprint,
    /// It was reached through a symbolic link.
    pub linked: bool,
    /// Its device and inode, if it has other names besides this one.
    pub shared: Option<(u64, u64)>,
}

impl Found {
    fn new(path: PathBuf, meta: &Metadata, linked: bool) -> Self {
        let shared = (meta.nlink() > 1).then(|| (meta.dev(), meta.ino()));
        Self { path, fingerprint: Fingerprint::of(meta), linked, shared }
    }
}

/// Why a file is not there to be read.
#[derive(Debug)]
pub enum Absent {
    /// There is nothing of this name, or nothing that is a file.
    Missing,
    /// There is something that is refused.
    Refused(Refusal, String),
    /// It cannot be said; see [`Unread::Failed`].
    Failed(Failure),
}

/// What the system did not do.
#[derive(Debug)]
pub struct Failure {
    /// In words that follow the file's name.
    pub reason: String,
    /// It may do it the next time. It will not where a right is missing, before somebody has given it.
    pub passes: bool,
}

impl Failure {
    fn new(what: &str, error: &io::Error) -> Self {
        let passes = error.kind() != io::ErrorKind::PermissionDenied;
        Self { reason: format!("{what}: {error}"), passes }
    }
}

/// A file's bytes, all of one moment.
pub struct Loaded {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The state in which they were.
    pub fingerprint: Fingerprint,
    /// The kernel has said that nobody writes the file, or that need not be known.
    pub is_sure: bool,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum Unread {
    /// Somebody is writing it; it will be looked at again.
    Busy,
    /// It has changed so lately that whoever did may not be done, and the kernel does not tell.
    Young,
    /// It is gone.
    Missing,
    /// It is refused.
    Refused(Refusal, String),
    /// It could not be read. Nothing is known of its state, so that the next look tries again.
    Failed(Failure),
}

/// How a file is read that somebody may be writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Not while anybody writes; where the kernel does not tell, not before it has rested.
    Usual,
    /// Only where the kernel tells that nobody writes: it was made a moment ago, and no close of it is known.
    Told,
    /// It has been still for long: a writer that holds it open is not waited for.
    Still,
}

/// A directory below the root, with the place where it really is: looking that up costs more than all else of a look.
#[derive(Default)]
pub struct Place {
    directory: PathBuf,
    real: PathBuf,
    linked: bool,
}

impl Place {
    /// Goes to the directory of `relative`, unless it is there already.
    fn enter(&mut self, root: &Path, relative: &Path) -> Result<(), Absent> {
        let directory = relative.parent().unwrap_or(Path::new(""));
        if self.real.as_os_str().is_empty() || self.directory != directory {
            let path = root.join(directory);
            self.real = PathBuf::new();
            let real = path.canonicalize().map_err(|error| absent(&error))?;
            *self = Self { directory: directory.to_owned(), linked: real != path, real };
        }
        Ok(())
    }
}

/// Looks for the file `relative` below `root`, which must be a real path. `place` is where the last search ended; it must
/// not be older than one look at things.
pub fn find(root: &Path, relative: &Path, place: &mut Place) -> Result<Found, Absent> {
    place.enter(root, relative)?;
    let Some(name) = relative.file_name() else {
        return Err(Absent::Missing);
    };
    let path = place.real.join(name);
    let meta = std::fs::symlink_metadata(&path).map_err(|error| absent(&error))?;
    if !meta.is_symlink() && !place.linked {
        let found = Found::new(path, &meta, false);
        return if meta.is_file() { Ok(found) } else { Err(Absent::Missing) };
    }
    find_linked(root, relative, &path)
}

fn find_linked(root: &Path, relative: &Path, path: &Path) -> Result<Found, Absent> {
    let real = path.canonicalize().map_err(|error| absent(&error))?;
    if !leads_to_published_places(root, relative, &real) {
        let reason = "is a link out of the data directory or to a name that is never published".to_owned();
        return Err(Absent::Refused(Refusal::Link, reason));
    }
    let meta = std::fs::symlink_metadata(&real).map_err(|error| absent(&error))?;
    if !meta.is_file() {
        return Err(Absent::Missing);
    }
    Ok(Found::new(real, &meta, true))
}

/// No link on the way to `relative` leads where nothing is published, nor does the last one disguise a `.mz` or a table.
fn leads_to_published_places(root: &Path, relative: &Path, real: &Path) -> bool {
    let is_mz = |path: &Path| path.extension().is_some_and(|extension| extension == "mz");
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let is_table = |path: &Path| names::is_table_name(&name(path));
    let directories = relative.ancestors().skip(1).map(|directory| root.join(directory));
    let mut targets = directories.filter(|path| path.is_symlink()).map(|path| path.canonicalize());
    (is_published_place(root, real) || (is_table(relative) && is_table(real) && real.starts_with(root)))
        && (is_mz(relative) || !is_mz(real))
        && targets.all(|target| target.is_ok_and(|target| is_published_place(root, &target)))
}

/// A link may lead through a hidden directory of the data directory (`..data/`), but not to a hidden name.
pub fn is_published_place(root: &Path, real: &Path) -> bool {
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    real.starts_with(root) && (real == root || names::is_publishable(name))
}

fn absent(error: &io::Error) -> Absent {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Absent::Missing,
        Some(libc::ELOOP) => Absent::Refused(Refusal::Link, "is a link that leads back to itself".to_owned()),
        _ => Absent::Failed(Failure::new("cannot be looked at", error)),
    }
}

/// Reads a file that was found.
pub fn read(found: &Found, trust: Trust) -> Result<Loaded, Unread> {
    let refused = |error: &io::Error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => Unread::Missing,
        _ => Unread::Failed(Failure::new("cannot be read", error)),
    };
    // A pipe that took the file's place must not block the open, nor a terminal become ours.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&found.path)
        .map_err(|error| refused(&error))?;
    let before = file.metadata().map_err(|error| refused(&error))?;
    if !before.is_file() {
        return Err(Unread::Missing);
    }
    if before.size() > MAX_FILE {
        let reason = format!("has {} bytes, the limit is {MAX_FILE}", before.size());
        return Err(Unread::Refused(Refusal::TooLarge, reason));
    }
    let is_sure = match (writers(&file), trust) {
        (Writers::None, _) | (_, Trust::Still) => true,
        (Writers::Some, _) | (Writers::Unknown, Trust::Told) => return Err(Unread::Busy),
        (Writers::Unknown, Trust::Usual) if is_young(&before) => return Err(Unread::Young),
        (Writers::Unknown, Trust::Usual) => false,
    };
    // One byte more than there should be tells that the file has grown.
    let mut bytes = Vec::with_capacity(before.size() as usize + 1);
    (&mut file).take(before.size() + 1).read_to_end(&mut bytes).map_err(|error| refused(&error))?;
    let after = file.metadata().map_err(|error| refused(&error))?;
    let fingerprint = Fingerprint::of(&before);
    if bytes.len() as u64 != before.size() || Fingerprint::of(&after).modified != fingerprint.modified {
        return Err(Unread::Busy);
    }
    Ok(Loaded { bytes, fingerprint, is_sure })
}

/// A digest of a file's state, and for how long it has been so; zero where its times are in the future. None: it is gone.
pub fn rest(path: &Path) -> Option<(Mark, Duration)> {
    let meta = std::fs::metadata(path).ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some((Mark::of(&[Some(Fingerprint::of(&meta))]), now.saturating_sub(changed(&meta))))
}

fn changed(meta: &Metadata) -> Duration {
    Duration::new(u64::try_from(meta.ctime()).unwrap_or(0), meta.ctime_nsec() as u32)
}

/// Whether anyone has a file open for writing.
enum Writers {
    None,
    Some,
    /// The kernel does not say: the file is on a network filesystem, or another user's.
    Unknown,
}

/// The kernel grants a read lease only where nobody has the file open for writing.
fn writers(file: &File) -> Writers {
    /// From <linux/fcntl.h>; libc leaves it out.
    const F_SETSIG: libc::c_int = 10;
    let descriptor = file.as_raw_fd();
    // SAFETY: the descriptor is open for the whole block, and these commands take plain numbers. A writer that opens the
    // file while the lease is held waits the few microseconds until it is given back, and the kernel signals its break
    // with SIGURG, which is ignored by default, instead of SIGIO, which kills.
    unsafe {
        if libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) != 0 {
            return Writers::Unknown;
        }
        if libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK) == 0 {
            libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK);
            return Writers::None;
        }
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writers::Some,
        _ => Writers::Unknown,
    }
}

/// Where the kernel does not tell of writers, their events do, and those may be on their way. A file that has rested for
/// longer than events and the steps of file times take has none that it was not told of.
fn is_young(meta: &Metadata) -> bool {
    let changed = changed(meta);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A time in the future says that the clock was set back, not that the file is new.
    now >= changed && now - changed < REST
}
