//! The data directory itself: watched, lost, replaced, found again.

use std::{io, path::Path, time::Instant};

use super::{Feed, News, REWATCH, watch::Watch};

impl Feed {
    /// Watches the root as it is now, in place of what was watched before.
    pub(super) fn watch(&mut self) {
        self.watch = None;
        self.next_watch = Instant::now() + REWATCH;
        let identity = identity(&self.root);
        let news = self.tell_news.clone();
        // The feed has ended where nobody receives, and with it this watch is about to.
        let tell = move |hint| drop(news.send(News::Hint(hint, Instant::now())));
        match Watch::new(&self.root, tell) {
            Ok(watch) => self.watch = identity.map(|identity| (watch, identity)),
            Err(error) => tracing::warn!(
                "{} cannot be watched ({error}); it is looked at every second instead. If there are too many \
                 directories: sysctl -w fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024",
                self.root.display()
            ),
        }
    }

    fn is_watched(&self, root: &Path) -> bool {
        match &self.watch {
            Some((_, watched)) => Some(*watched) == identity(root),
            // There is nothing that another watch would do better; everything is looked at all the time.
            None => true,
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
