//! The data directory itself: watched, lost, replaced, found again.

use std::{fs::File, io, path::Path, time::Instant};

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use super::{Feed, News, RESCAN, REWATCH, watch::Watch};

impl Feed {
    /// Watches the root as it is now, in place of what was watched before.
    pub(super) fn watch(&mut self) {
        self.watch = None;
        self.look_again_at_doubts();
        self.next_watch = Instant::now() + REWATCH;
        let identity = identity(&self.root);
        let news = self.tell_news.clone();
        // The feed has ended where nobody receives, and with it this watch is about to.
        let tell = move |hint| drop(news.send(News::Hint(hint, Instant::now())));
        match Watch::new(&self.root, tell) {
            Ok(watch) => {
                self.watch = identity.map(|identity| (watch, identity));
                self.told_unwatched = false;
            }
            Err(error) => {
                self.next_watch = Instant::now() + RESCAN;
                if !std::mem::replace(&mut self.told_unwatched, true) {
                    tracing::warn!(
                        "{} cannot be watched ({error}); it is looked at every second instead. If there are too many \
                         directories: sysctl -w fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024",
                        self.root.display()
                    );
                }
            }
        }
    }

    /// Watches a directory that has come, or can be read now.
    pub(super) fn watch_below(&mut self, directory: &Path) {
        if let Some((watch, _)) = &mut self.watch {
            watch.add(directory);
        }
    }

    /// The directory that was watched is gone.
    pub(super) fn forget_watch(&mut self) {
        self.watch = None;
        self.look_again_at_doubts();
        self.next_watch = Instant::now();
        self.next_root = Instant::now();
    }

    fn is_watched(&self, root: &Path) -> bool {
        match &self.watch {
            Some((_, watched)) => Some(*watched) == identity(root),
            // It is tried again from time to time; meanwhile everything is looked at every second.
            None => Instant::now() < self.next_watch,
        }
    }

    /// The data directory can be read.
    pub(super) fn found(&mut self) {
        if std::mem::take(&mut self.lost) {
            self.stats.lost.set(0);
            tracing::info!("the data directory {} is back; it is read again", self.directory.display());
        }
    }

    pub(super) fn lose(&mut self, error: &io::Error) {
        if !self.lost {
            self.lost = true;
            self.stats.lost.set(1);
            tracing::error!(
                "the data directory {} cannot be read: {error}; its last content is still served",
                self.directory.display()
            );
        }
    }

    /// The data directory may have been replaced, or be there again.
    pub(super) fn check_root(&mut self) {
        self.unsure |= self.mounts.have_changed();
        match self.directory.canonicalize().and_then(|root| std::fs::read_dir(&root).map(|_| root)) {
            Ok(root) if self.lost || root != self.root || !self.is_watched(&root) => {
                self.root = root;
                self.watch();
                self.rescan(true);
            }
            Ok(_) => {}
            Err(error) => self.lose(&error),
        }
    }
}

/// What tells a directory from another that has taken its place.
fn identity(root: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    root.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}

/// What is mounted: no event tells that a file system has come or gone below the data directory.
pub(super) struct Mounts(Option<File>);

impl Mounts {
    /// As it is now.
    pub(super) fn new() -> Self {
        let mut mounts = Self(File::open("/proc/self/mountinfo").ok());
        mounts.have_changed();
        mounts
    }

    /// Something was mounted or unmounted since the last time (proc_pid_mountinfo(5)). Its text may be the same again.
    fn have_changed(&mut self) -> bool {
        let Some(file) = &self.0 else { return false };
        let mut asked = [PollFd::new(file, PollFlags::PRI)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}
