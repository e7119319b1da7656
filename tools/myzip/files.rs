//! Files: read whole or not at all, written whole or not at all.

use std::{
    fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use cloudia::limits::MAX_FILE;

use crate::stop::Temps;

/// A file's bytes, all of one moment.
pub struct Content {
    pub bytes: Vec<u8>,
    pub meta: Metadata,
}

/// Bytes beyond the limit are not read: a payload may be a little larger than its content.
const MOST: u64 = MAX_FILE + MAX_FILE / 1024 + 64;

/// Reads `path`, through a link.
///
/// # Errors
/// The reason with the remedy, in words that go behind the file's name.
pub fn read(path: &Path) -> Result<Content, String> {
    // A pipe in the file's place must not block the open.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let explained = |error: io::Error| explain("cannot be read", &error);
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(explained)?;
    let meta = file.metadata().map_err(explained)?;
    if !meta.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::with_capacity(meta.size().min(MOST) as usize + 1);
    (&mut file).take(MOST + 1).read_to_end(&mut bytes).map_err(explained)?;
    if bytes.len() as u64 > MOST {
        return Err(TOO_LARGE.to_owned());
    }
    if bytes.len() as u64 != meta.size() || !is_unchanged(path, &meta) {
        return Err(BUSY.to_owned());
    }
    Ok(Content { bytes, meta })
}

/// As [`read`]; None if there is nothing.
///
/// # Errors
/// As [`read`].
pub fn read_if_there(path: &Path) -> Result<Option<Content>, String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => read(path).map(Some),
    }
}

/// All of standard input.
///
/// # Errors
/// As [`read`].
pub fn read_stdin() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MOST + 1).read_to_end(&mut bytes).map_err(|error| explain("cannot be read", &error))?;
    if bytes.len() as u64 > MOST { Err(TOO_LARGE.to_owned()) } else { Ok(bytes) }
}

/// Whether nothing has been written to `path` since it had this `meta`.
pub fn is_unchanged(path: &Path, meta: &Metadata) -> bool {
    let state = |meta: &Metadata| (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    fs::metadata(path).is_ok_and(|now| state(&now) == state(meta))
}

/// Gives `path` these bytes, whole or not at all, with the times and rights of `like`.
///
/// # Errors
/// As [`read`].
pub fn write(temps: &Temps, path: &Path, bytes: &[u8], like: Option<&Metadata>) -> Result<(), String> {
    // Nobody reads a file before it has the rights it is to have.
    let mode = if like.is_some() { 0o600 } else { 0o666 };
    let put = || {
        let mut temp = temps.make(directory_of(path), mode)?;
        temp.writer().write_all(bytes)?;
        if let Some(meta) = like {
            resemble(temp.writer(), meta)?;
        }
        temp.name(path)
    };
    put().map_err(|error: io::Error| explain("cannot be written", &error))
}

/// Owner, rights and time of a file, as far as they can be had.
fn resemble(file: &File, like: &Metadata) -> io::Result<()> {
    let mut mode = like.mode() & 0o777;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid())
        && fchown(file, Some(like.uid()), Some(like.gid())).is_err()
        && fchown(file, None, Some(like.gid())).is_err()
    {
        // Another group gets no more than everybody.
        mode = mode & 0o707 | (mode & 0o007) << 3;
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_times(FileTimes::new().set_modified(like.modified()?))
}

/// Gives `path` the modification time of `like`. False: it cannot be done in place.
pub fn copy_time(path: &Path, like: &Metadata) -> bool {
    let set = || {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        file.set_times(FileTimes::new().set_modified(like.modified()?))
    };
    set().is_ok()
}

/// Writes to standard output.
///
/// # Errors
/// As [`read`].
pub fn write_stdout(bytes: &[u8]) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| explain("cannot be written", &error))
}

/// Puts the names of a directory on disk.
///
/// # Errors
/// As [`read`].
pub fn sync_directory(directory: &Path) -> Result<(), String> {
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Some file systems have nothing to sync; some directories may be written but not read.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::EACCES)) => Ok(()),
        Err(error) => Err(explain("cannot be put on disk", &error)),
        Ok(()) => Ok(()),
    }
}

/// The directory that a path is in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `path` with `suffix` behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What cannot be done, why, and what helps.
pub fn explain(what: &str, error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "make room and run it again",
        Some(libc::EACCES | libc::EPERM) => "run it as a user who may, or change the rights",
        Some(libc::EROFS) => "write elsewhere with -o",
        Some(libc::EFBIG) => "the file size limit of this shell is too low: see ulimit -f",
        Some(libc::ENAMETOOLONG) => "its name with .mz is too long: shorten it",
        Some(libc::EMFILE | libc::ENFILE) => "raise the descriptor limit, see ulimit -n, or use --jobs 1",
        Some(libc::EIO) => "look at the disk's health",
        Some(libc::EISDIR) => "a directory has this name: move it away",
        Some(libc::ENOENT) => "look at its spelling; it may have been removed meanwhile",
        _ => return format!("{what}: {error}"),
    };
    format!("{what}: {error}; {remedy}")
}

/// Above what the server takes.
pub const TOO_LARGE: &str = "is larger than 64 MiB, which cloudia does not publish: split it";
/// Somebody writes it.
pub const BUSY: &str = "changes while it is read: run it again when its writer is done";
