//! Temporary files, and the end by a signal.
//!
//! INVARIANT: every temporary file on disk is in `live` or belongs to a run that was killed. A signal takes the lock of
//! `live` for ever, so no file is made after it has removed those that there are.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    iterator::Signals,
};

/// A name that cloudia never publishes, and short enough whatever the name of the file.
const PREFIX: &str = ".myzip-";
const SUFFIX: &str = ".tmp";

/// The temporary files of this run.
#[derive(Default)]
pub struct Temps {
    live: Mutex<BTreeSet<PathBuf>>,
    next: AtomicU64,
}

/// A temporary file: removed when dropped, unless it got its name.
pub struct Temp<'t> {
    temps: &'t Temps,
    path: PathBuf,
    writer: File,
    /// Holds the lock that tells other runs that this one lives. A descriptor that only reads: a server that asks whether
    /// somebody is still writing the file must hear no once it has its name.
    lock: File,
    is_named: bool,
}

impl Temps {
    /// From here on SIGINT, SIGTERM and SIGHUP remove the temporary files and end the process, at once, whatever it does.
    ///
    /// # Errors
    /// When the signals cannot be had.
    pub fn guarded() -> io::Result<Arc<Self>> {
        let temps = Arc::new(Self::default());
        // A file size limit is then an error of the write, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let for_signals = Arc::clone(&temps);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                for_signals.end(signal);
            }
        })?;
        Ok(temps)
    }

    fn end(&self, signal: i32) -> ! {
        let live = self.live();
        for path in live.iter() {
            let _ = std::fs::remove_file(path);
        }
        mem::forget(live);
        // The line end leaves the progress bar, if there is one.
        let _ = writeln!(io::stderr(), "\nmyzip: stopped; what was finished is in place, run it again for the rest");
        process::exit(128 + signal)
    }

    fn live(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an empty one in `directory`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self, directory: &Path, mode: u32) -> io::Result<Temp<'_>> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{PREFIX}{}-{number}{SUFFIX}", process::id()));
            let mut live = self.live();
            let writer = match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
                Ok(writer) => writer,
                // Of a process of the same number, in another namespace or before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                // Somebody who cleaned up was faster; see below.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let _ = std::fs::remove_file(&path);
                    return Err(error);
                }
            };
            live.insert(path.clone());
            drop(live);
            let temp = Temp { temps: self, path, writer, lock, is_named: false };
            // Where there are no locks, nobody takes one to clean up either.
            let _ = temp.lock.lock_shared();
            // Until here it looked as if a killed run had left it.
            if temp.lock.metadata()?.nlink() > 0 {
                return Ok(temp);
            }
        }
    }
}

impl Temp<'_> {
    /// To write to.
    pub fn writer(&mut self) -> &mut File {
        &mut self.writer
    }

    /// Puts it on disk and gives it its name, in place of what had it.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn name(mut self, target: &Path) -> io::Result<()> {
        self.writer.sync_all()?;
        // Closed before it has its name: who sees the name finds no writer.
        self.writer = self.lock.try_clone()?;
        std::fs::rename(&self.path, target)?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        let mut live = self.temps.live();
        if !self.is_named {
            let _ = std::fs::remove_file(&self.path);
        }
        live.remove(&self.path);
    }
}

/// Removes what killed runs have left in `directory`. A run that lives holds a lock on its files.
pub fn clean(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        // Held until the file is gone: a run that has just made it waits for the lock, and then sees that it is.
        if file.try_lock().is_ok() {
            let _ = std::fs::remove_file(&path);
        }
    }
}
