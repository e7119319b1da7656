//! Paths to jobs: which files are worked on, and where the results go.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use cloudia::{
    feed::names::{self, Role, Unpublished},
    limits::{MAX_DEPTH, MAX_FILE},
};

use crate::{
    args::{Mode, Options, Output},
    files::{self, explain},
    report::{Outcome, What},
};

/// One file to work on.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is read.
    pub source: PathBuf,
    /// What is written, or compared with; where nothing is, the source.
    pub target: PathBuf,
    /// Bytes of the source.
    pub size: u64,
}

/// What is to be done, and what was settled on the way.
#[derive(Default)]
pub struct Plan {
    /// In the order of their paths.
    pub jobs: Vec<Job>,
    /// Files that are passed over or cannot be worked on.
    pub settled: Vec<Outcome>,
    /// Who makes each target: two must not.
    targets: BTreeMap<PathBuf, PathBuf>,
}

/// Endings of what is compressed already; deflate takes nothing off them.
const COMPRESSED: [&str; 24] = [
    "7z", "apk", "avif", "bz2", "flac", "gif", "heic", "jar", "jpeg", "jpg", "lz4", "m4a", "mkv", "mov", "mp3", "mp4",
    "ogg", "opus", "png", "webm", "webp", "woff", "woff2", "xz",
];

impl Plan {
    /// Looks at every path that was named.
    pub fn of(options: &Options) -> Self {
        let mut plan = Self::default();
        for path in &options.paths {
            match fs::metadata(path) {
                Err(error) => plan.settle(path, What::Failed, explain("cannot be looked at", &error)),
                Ok(meta) if meta.is_dir() && !options.recursive => {
                    plan.settle(path, What::Failed, "is a directory: add -r to take what is below it".to_owned());
                }
                Ok(meta) if meta.is_dir() => Walk { options, root: path, plan: &mut plan }.start(),
                Ok(meta) if meta.is_file() => plan.named(options, path, meta.len()),
                Ok(_) => plan.settle(path, What::Failed, "is not a regular file".to_owned()),
            }
        }
        plan.jobs.sort_by(|a, b| a.source.cmp(&b.source));
        plan
    }

    /// The directories that are written to.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        self.jobs.iter().map(|job| files::directory_of(&job.target).to_owned()).collect()
    }

    /// A file that was named itself: taken whatever its name, if that makes sense.
    fn named(&mut self, options: &Options, path: &Path, size: u64) {
        let is_mz = has_ending(path, "mz");
        let reason = match options.mode {
            Mode::Compress(_) | Mode::Check(_) if is_mz => Some((What::Skipped, "is a .mz already")),
            Mode::Restore if !is_mz && !matches!(options.output, Output::File(_) | Output::Stdout) => {
                Some((What::Failed, "does not end in .mz: say with -o what to restore"))
            }
            Mode::Prune if !is_mz => Some((What::Skipped, "is no .mz")),
            _ => None,
        };
        let name = path.file_name().map_or_else(PathBuf::new, PathBuf::from);
        match reason {
            Some((what, reason)) => self.settle(path, what, reason.to_owned()),
            None => self.add(options, path, &name, size),
        }
    }

    /// `below`: the path below the output directory, if there is one.
    fn add(&mut self, options: &Options, source: &Path, below: &Path, size: u64) {
        if size > MAX_FILE && !matches!(options.mode, Mode::Prune) {
            self.settle(source, What::Warned, files::TOO_LARGE.to_owned());
            return;
        }
        let base = match &options.output {
            Output::Beside | Output::Stdout => source.to_owned(),
            Output::Directory(directory) => directory.join(below),
            Output::File(file) => return self.push(source, file.clone(), size),
        };
        let target = match options.mode {
            Mode::Compress(_) | Mode::Check(_) => files::with_suffix(&base, Role::Mz.suffix()),
            Mode::Restore => base.with_extension(""),
            Mode::Prune | Mode::Test | Mode::List => base,
        };
        self.push(source, target, size);
    }

    fn push(&mut self, source: &Path, target: PathBuf, size: u64) {
        match self.targets.get(&target) {
            Some(first) if first == source => {}
            Some(first) => {
                let reason = format!("would overwrite what becomes of {}: use another -o", first.display());
                self.settle(source, What::Failed, reason);
            }
            None => {
                self.targets.insert(target.clone(), source.to_owned());
                self.jobs.push(Job { source: source.to_owned(), target, size });
            }
        }
    }

    fn settle(&mut self, path: &Path, what: What, reason: String) {
        self.settled.push(Outcome::new(path, what, reason));
    }
}

/// A directory that was named.
struct Walk<'w> {
    options: &'w Options,
    root: &'w Path,
    plan: &'w mut Plan,
}

impl Walk<'_> {
    fn start(&mut self) {
        let root = self.root;
        self.directory(Path::new(""), 0, root.canonicalize().ok().as_deref());
    }

    /// `real`: where the root really is; links are judged by it.
    fn directory(&mut self, below: &Path, depth: usize, real: Option<&Path>) {
        let path = if below.as_os_str().is_empty() { self.root.to_owned() } else { self.root.join(below) };
        if depth >= MAX_DEPTH {
            self.plan.settle(&path, What::Warned, format!("is passed over: more than {MAX_DEPTH} directories deep"));
            return;
        }
        let entries = match fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => return self.plan.settle(&path, What::Failed, explain("cannot be read", &error)),
        };
        for entry in entries {
            let below = below.join(entry.file_name());
            match names::check(&below) {
                // A table is not sent as it is.
                Ok(path) if names::is_table(path) => continue,
                Ok(_) => {}
                Err(Unpublished::Meant) => continue,
                Err(Unpublished::Unspeakable) => {
                    let reason = "is passed over: no URL can hold its name (not UTF-8, or a control character)";
                    self.plan.settle(&entry.path(), What::Warned, reason.to_owned());
                    continue;
                }
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.directory(&below, depth + 1, real),
                Ok(kind) if kind.is_file() => self.file(&entry.path(), &below),
                Ok(kind) if kind.is_symlink() => self.link(&entry.path(), &below, real),
                // Pipes, sockets and devices are nothing that is served.
                Ok(_) => {}
                Err(error) => self.plan.settle(&entry.path(), What::Failed, explain("cannot be looked at", &error)),
            }
        }
    }

    /// What a link leads to must be what the server would publish under the link's name. Else a copy of a file outside
    /// would be made inside, under a name of its own.
    fn link(&mut self, path: &Path, below: &Path, real: Option<&Path>) {
        let target = path.canonicalize();
        let is_inside = target.as_ref().is_ok_and(|target| {
            let name = target.file_name().and_then(OsStr::to_str).unwrap_or_default();
            real.is_some_and(|root| target.starts_with(root)) && names::is_publishable(name)
        });
        match target.and_then(fs::metadata) {
            // What is in a directory inside is met there.
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) if meta.is_file() && is_inside => self.file(path, below),
            Ok(_) => self.plan.settle(path, What::Skipped, "is a link out of the directory".to_owned()),
            Err(_) => self.plan.settle(path, What::Skipped, "is a link that leads nowhere".to_owned()),
        }
    }

    fn file(&mut self, path: &Path, below: &Path) {
        let (_, role) = below.to_str().map_or(("", Role::Plain), names::split);
        let is_wanted = match self.options.mode {
            Mode::Compress(_) | Mode::Check(_) => match role {
                Role::Mz => false,
                Role::Gz | Role::Br | Role::Zst => {
                    // Beside its file it is a sidecar, which needs no word.
                    if fs::metadata(path.with_extension("")).is_err() {
                        self.plan.settle(path, What::Skipped, ALREADY.to_owned());
                    }
                    false
                }
                Role::Plain if COMPRESSED.iter().any(|ending| has_ending(path, ending)) => {
                    self.plan.settle(path, What::Skipped, ALREADY.to_owned());
                    false
                }
                Role::Plain => true,
            },
            Mode::Prune => role == Role::Mz && is_gone(&path.with_extension("")),
            Mode::Restore | Mode::Test | Mode::List => role == Role::Mz,
        };
        if is_wanted {
            let size = fs::metadata(path).map_or(0, |meta| meta.len());
            self.plan.add(self.options, path, below, size);
        }
    }
}

/// Whether there is nothing of this name; what merely cannot be seen is not gone.
pub fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ending))
}

const ALREADY: &str = "is compressed already";
