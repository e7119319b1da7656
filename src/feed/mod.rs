//! File changed → store swapped.
//!
//! The feed keeps the store equal to the data directory. It is told by `watch` where to look, looks (`look`), and
//! publishes what is new and whole. Whatever goes wrong with a file, its last good version stays.
//!
//! It runs on threads of its own; it never waits for a worker, and no worker waits for it.

mod build;
mod catalog;
pub mod codec;
mod doubts;
mod follow;
mod improve;
mod load;
mod look;
mod media;
pub mod names;
mod news;
pub mod quotes;
mod root;
mod scan;
mod timers;
mod vanish;
mod watch;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

pub use catalog::Stamped;
use catalog::{Catalog, Neighbours};
use codec::Effort;
use doubts::Doubts;
use load::{Fingerprint, Mark, Place};
use look::{Fresh, Known, Look, Outcome, Refused, Sight, Writing};
use media::Types;
use names::Role;
use news::News;
pub use news::{Inquiry, Summary};
use quotes::board::SharedBoard;
use root::Mounts;
use scan::{Listing, Scan};
use watch::Watch;

use crate::{
    clock::unix_now,
    stats::{FeedStats, Refusal, Rejection},
    store::Store,
};

/// A file whose writer never closes is read when it has been still for this long.
const STILL: Duration = Duration::from_secs(2);
/// A writer whose close was told of has gone after this long, but for one in a thousand.
const CLOSING: Duration = Duration::from_millis(1);
/// A file that has become empty gets this long to be filled.
const EMPTY: Duration = Duration::from_millis(200);
/// How often the data directory's own identity is looked at: it may be renamed, replaced, unmounted.
const ROOT: Duration = Duration::from_secs(1);
/// How often everything is looked at, for the sake of file systems that send no events.
const RESCAN: Duration = Duration::from_secs(60);
/// As [`RESCAN`], where nothing can be watched.
const POLL: Duration = Duration::from_secs(1);
/// When a new directory is looked at once more.
const REVISIT: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];
/// When a file that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Events are lost in storms; a new watch is not set more often than this.
const REWATCH: Duration = Duration::from_secs(1);
/// New versions that are published at once, at the most: the first must not wait for the last. In the first load nobody
/// waits, and larger batches copy fewer maps.
const BATCH: usize = 256;
const LOAD_BATCH: usize = 16_384;
/// How often a long first load says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);
/// From so many paths on, looking is shared among all cores.
const MANY: usize = 64;

/// Keeps a store equal to a directory.
pub struct Feed {
    /// As it was given; it may be a link.
    directory: PathBuf,
    /// Its real place, while it has one.
    root: PathBuf,
    catalog: Catalog,
    types: Types,
    stats: Arc<FeedStats>,
    news: Receiver<News>,
    /// For the watch, and for the one after it.
    tell_news: Sender<News>,
    /// With the identity of the directory that is watched.
    watch: Option<(Watch, (u64, u64))>,
    /// Files that somebody is writing, and since when they have been still.
    writing: HashMap<PathBuf, Writing>,
    /// Contents that have become empty, and when that is believed.
    empty: HashMap<String, Instant>,
    /// Contents to look at again, and when.
    soon: HashMap<String, Instant>,
    /// New versions that may not be whole.
    doubts: Doubts,
    /// Directories to look at once more: what is made in a new one before it is watched sends no event.
    revisit: Vec<(Instant, PathBuf)>,
    /// Contents that are reached through links, and whether there are any links at all.
    linked: BTreeSet<String>,
    links: bool,
    /// Contents of files that have several names, by device and inode: a write under one name is told of that one only.
    shared: HashMap<(u64, u64), BTreeSet<String>>,
    /// What was said of a file, so that it is said once.
    told: HashMap<PathBuf, (Option<Fingerprint>, Refusal)>,
    /// The data directory is gone or unreadable.
    lost: bool,
    /// Events were lost, or file systems mounted: directories may have come that are not watched.
    unsure: bool,
    mounts: Mounts,
    /// It was said that nothing can be watched.
    told_unwatched: bool,
    next_watch: Instant,
    next_root: Instant,
    next_scan: Instant,
}

impl Feed {
    /// Loads everything in `directory` into `store`, tables by way of `board`, as far as `memory_limit`, in bytes, allows.
    ///
    /// # Errors
    /// When the directory cannot be found or read, or a thread not be started.
    pub fn load(
        directory: PathBuf,
        store: Arc<Store>,
        board: SharedBoard,
        stats: Arc<FeedStats>,
        memory_limit: Option<u64>,
    ) -> io::Result<(Self, Summary)> {
        let mut feed = Self::load_once(directory, store, board, stats, memory_limit)?;
        // Watched from the beginning, every file that is read would be an event. A second look, at names and times only,
        // finds what has changed since the first.
        feed.watch();
        feed.rescan(true);
        feed.finish_load();
        let stats = &feed.stats;
        let (entries, content_bytes, held_bytes) = (&stats.entries, &stats.content_bytes, &stats.held_bytes);
        let summary =
            Summary { entries: entries.get(), content_bytes: content_bytes.get(), held_bytes: held_bytes.get() };
        Ok((feed, summary))
    }

    /// As [`Feed::load`], without following the directory afterwards.
    ///
    /// # Errors
    /// As [`Feed::load`].
    pub fn load_once(
        directory: PathBuf,
        store: Arc<Store>,
        board: SharedBoard,
        stats: Arc<FeedStats>,
        memory_limit: Option<u64>,
    ) -> io::Result<Self> {
        let root = directory.canonicalize()?;
        std::fs::read_dir(&root)?;
        let (tell_news, news) = mpsc::channel();
        let news_of_better = tell_news.clone();
        let improvements = improve::start(move |improved| drop(news_of_better.send(News::Improved(improved))))?;
        let now = Instant::now();
        let mut feed = Self {
            directory,
            root,
            catalog: Catalog::new(store, board, stats.clone(), improvements, memory_limit),
            types: Types::default(),
            stats,
            news,
            tell_news,
            watch: None,
            writing: HashMap::new(),
            doubts: Doubts::default(),
            empty: HashMap::new(),
            soon: HashMap::new(),
            revisit: Vec::new(),
            linked: BTreeSet::new(),
            links: false,
            shared: HashMap::new(),
            told: HashMap::new(),
            lost: false,
            unsure: false,
            mounts: Mounts::new(),
            told_unwatched: false,
            next_watch: now,
            next_root: now + ROOT,
            next_scan: now,
        };
        feed.rescan(false);
        Ok(feed)
    }

    /// Follows the directory for ever.
    pub fn run(mut self) {
        loop {
            let wait = self.next_wake().saturating_duration_since(Instant::now());
            let first = match self.news.recv_timeout(wait) {
                Ok(news) => Some(news),
                Err(RecvTimeoutError::Timeout) => None,
                // The feed itself holds a sender, so this cannot be; if it is, nothing can come any more.
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // What has queued up meanwhile is one batch.
            let mut hints = Vec::new();
            let mut since = None;
            for news in first.into_iter().chain(self.news.try_iter()) {
                match news {
                    News::Hint(hint, at) => {
                        since = since.or(Some(at));
                        hints.push(hint);
                    }
                    News::Improved(improved) => self.catalog.improve(improved),
                    News::Leave(tell) => {
                        self.catalog.leave();
                        // Whoever has asked may have given up.
                        let _ = tell.send(self.catalog.stamps());
                    }
                    News::Stay => self.catalog.stay(),
                }
            }
            self.follow(hints, since);
            self.keep_time();
        }
    }

    /// Looks at everything. `loud`: it is not the first load.
    fn rescan(&mut self, loud: bool) {
        let now = Instant::now();
        self.next_scan = now + if self.watch.is_some() { RESCAN } else { POLL };
        self.catalog.forget_deleted(now);
        let is_there = |path: &Path| self.root.join(path).symlink_metadata().is_ok();
        for (path, _) in self.told.extract_if(|path, _| !is_there(path)) {
            self.stats.rejections.forget(&path.to_string_lossy());
        }
        match scan::scan(&self.root, Path::new("")) {
            Ok(mut scan) => {
                self.found();
                self.links = scan.links;
                // It was made after the watch was set, so what came later is told of.
                let listing = scan.listing();
                scan.leave_out_hidden();
                let mut contents = self.note(scan);
                contents.extend(self.catalog.contents().map(str::to_owned));
                self.look_at(contents, &Mode { load: !loud, listing, ..Mode::default() });
            }
            Err(error) => self.lose(&error),
        }
        if loud {
            self.stats.rescans.add(1);
        }
    }

    fn note(&mut self, scan: Scan) -> BTreeSet<String> {
        self.links |= scan.links;
        for (path, refusal, reason) in scan.refused {
            self.tell(Refused { path, fingerprint: None, refusal, reason });
        }
        scan.contents
    }

    /// Looks at `contents`, and publishes what has come of it.
    fn look_at(&mut self, contents: BTreeSet<String>, mode: &Mode) {
        let mut batch = Batch::default();
        if contents.len() < MANY {
            let mut place = Place::default();
            for content in contents {
                let sight = self.looking(mode).at(&content, self.catalog.known(&content), &mut place);
                self.settle(content, sight, &mut batch);
                self.publish(&mut batch, mode);
            }
        } else {
            self.look_at_many(contents.into_iter().collect(), mode, &mut batch);
        }
        self.publish_all(batch, mode);
        self.ring();
    }

    /// Publishes what there is, removes what is gone, and looks at what either may matter to.
    fn publish_all(&mut self, mut batch: Batch, mode: &Mode) {
        self.publish(&mut batch, mode);
        self.remove(std::mem::take(&mut batch.gone), mode, &mut batch.neighbours);
        let mut neighbours = batch.neighbours;
        neighbours.retain(|content| self.may_matter(content));
        if !neighbours.is_empty() {
            self.look_at(neighbours, &Mode { force: true, ..Mode::default() });
        }
    }

    fn looking<'a>(&'a self, mode: &'a Mode) -> Look<'a> {
        let Mode { force, still, believe_empty, load, listing, .. } = mode;
        Look {
            root: &self.root,
            types: &self.types,
            writing: &self.writing,
            effort: if *load { Effort::Load } else { Effort::Change },
            force: *force,
            still,
            believe_empty: *believe_empty,
            hears: !load && self.watch.as_ref().is_some_and(|(watch, _)| watch.has_bell()),
            listing: listing.as_ref(),
        }
    }

    /// Looks at contents side by side, batch by batch.
    fn look_at_many(&mut self, contents: Vec<String>, mode: &Mode, batch: &mut Batch) {
        let mut next_progress = Instant::now() + PROGRESS;
        let mut done = 0;
        for some in contents.chunks(if mode.load { LOAD_BATCH } else { BATCH }) {
            for (content, sight) in self.sights(some, mode) {
                self.settle(content, sight, batch);
            }
            self.publish(batch, mode);
            done += some.len();
            if mode.load && Instant::now() >= next_progress {
                next_progress = Instant::now() + PROGRESS;
                let megabytes = self.stats.content_bytes.get() / 1_000_000;
                tracing::info!("loading: {done} of {} files, {megabytes} MB so far", contents.len());
            }
        }
    }

    fn publish(&mut self, batch: &mut Batch, mode: &Mode) {
        let count = batch.fresh.len();
        // In the first load everything is looked at, what is beside it as well.
        let neighbours = (!mode.load).then_some(&mut batch.neighbours);
        let refused = self.catalog.publish(std::mem::take(&mut batch.fresh), neighbours);
        if let Some(first) = refused.first() {
            self.stats.refused[Refusal::Memory as usize].add(refused.len() as u64);
            tracing::error!(
                "{first:?} and {} other files do not fit the memory limit: they are not served, or not their new versions; \
                 raise --memory-limit, or publish less",
                refused.len() - 1
            );
            for path in &refused {
                let reason = "does not fit the memory limit".to_owned();
                let rejection = Rejection { refusal: Refusal::Memory, reason, since: unix_now() };
                self.stats.rejections.note(path.clone(), rejection);
            }
        }
        if let Some(since) = mode.since {
            (refused.len()..count).for_each(|_| self.stats.visible.note(since.elapsed()));
        }
    }

    fn sights(&self, contents: &[String], mode: &Mode) -> Vec<(String, Sight)> {
        let (look, catalog) = (self.looking(mode), &self.catalog);
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut sights = Vec::new();
            let mut place = Place::default();
            while let Some(content) = contents.get(next.fetch_add(1, Ordering::Relaxed)) {
                sights.push((content.clone(), look.at(content, catalog.known(content), &mut place)));
            }
            sights
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            // A look does not panic; see `Look::at`.
            others.into_iter().filter_map(|other| other.join().ok()).fold(own, |mut all, other| {
                all.extend(other);
                all
            })
        })
    }

    fn may_matter(&self, content: &str) -> bool {
        self.catalog.known(content).is_some() || self.root.join(content).symlink_metadata().is_ok()
    }

    /// Takes in what a look has seen.
    fn settle(&mut self, content: String, sight: Sight, batch: &mut Batch) {
        let Sight { outcome, seen, disowned, linked, shared, doubted, refused } = sight;
        self.doubts.forget(&content);
        let was_seen = self.catalog.known(&content).is_some_and(|known| known.seen == Mark::of(&seen));
        let is_good = refused.is_empty() && !was_seen;
        if matches!(outcome, Outcome::Publish { .. } | Outcome::Gone) || matches!(outcome, Outcome::Keep) && is_good {
            self.forgive(&content);
        }
        refused.into_iter().for_each(|refused| self.tell(refused));
        if linked {
            self.linked.insert(content.clone());
        }
        if let Some(inode) = shared {
            self.shared.entry(inode).or_default().insert(content.clone());
        }
        if !matches!(outcome, Outcome::Empty) {
            self.empty.remove(&content);
        }
        match outcome {
            Outcome::Busy(path) => self.is_written(content, path),
            Outcome::Failed { passes: true } => {
                self.soon.entry(content).or_insert_with(|| Instant::now() + RETRY);
            }
            Outcome::Failed { passes: false } => {}
            Outcome::Soon => {
                self.soon.entry(content).or_insert_with(|| Instant::now() + load::REST);
            }
            Outcome::Empty => {
                self.empty.entry(content).or_insert_with(|| Instant::now() + EMPTY);
            }
            Outcome::Keep => {
                if let Some(known) = self.catalog.known_mut(&content) {
                    *known = Known { version: known.version.take(), seen: Mark::of(&seen), disowned };
                }
                self.catalog.came_back(&content);
            }
            Outcome::Publish { made, modified, is_improvable } => {
                self.catalog.came_back(&content);
                let seen = Mark::of(&seen);
                let fresh = Fresh { content, made, modified, is_improvable, seen, disowned };
                match doubted.is_empty() {
                    true => batch.fresh.push(fresh),
                    false => self.doubt(fresh, doubted),
                }
            }
            Outcome::Gone => {
                if let Some(known) = self.catalog.known_mut(&content) {
                    known.disowned = disowned;
                    if known.version.is_some() {
                        batch.gone.push(content);
                    }
                }
            }
        }
    }

    /// Notes that somebody writes a file. Where no events tell of the writes, its state does; one that was written before
    /// it had a name is closed without an event, too.
    fn is_written(&mut self, content: String, path: PathBuf) {
        let state = load::rest(&self.root.join(&path)).map(|(state, _)| state);
        // Nobody has told of a writer, so it may be one who closes the file: the kernel tells of that a little too early.
        let is_closing = !self.writing.contains_key(&path);
        let new = Writing { since: Instant::now(), state, is_new: is_closing };
        let writing = self.writing.entry(path).or_insert(new);
        if writing.state.is_some_and(|before| state.is_some_and(|now| now != before)) {
            writing.since = new.since;
        }
        writing.state = state;
        if writing.is_new {
            let soon = if is_closing { CLOSING } else { load::REST };
            self.soon.entry(content).or_insert(new.since + soon);
        }
    }

    /// Removes contents whose files are gone, if it is they that are gone and not their directory.
    fn remove(&mut self, gone: Vec<String>, mode: &Mode, neighbours: &mut Neighbours) {
        if gone.is_empty() {
            return;
        }
        if let Err(error) = std::fs::read_dir(&self.root) {
            self.lose(&error);
            return;
        }
        for content in &gone {
            self.linked.remove(content);
        }
        if let Some(held) = self.catalog.remove(gone, mode.certain, neighbours) {
            tracing::warn!(
                "{held} files have vanished from {} within a second, more than half: their last content is kept for \
                 {} s in case they come back",
                self.directory.display(),
                vanish::HOLD.as_secs()
            );
        }
    }

    /// The files of a content are believed again, or gone. One that was too large may be told of again.
    fn forgive(&mut self, content: &str) {
        for role in Role::ALL {
            let path = format!("{content}{}", role.suffix());
            self.stats.rejections.forget(&path);
            let path = Path::new(&path);
            if self.told.get(path).is_some_and(|(_, refusal)| *refusal == Refusal::TooLarge) {
                self.told.remove(path);
            }
        }
    }

    /// Says once of each state of a file why it is not believed.
    fn tell(&mut self, refused: Refused) {
        let Refused { path, fingerprint, refusal, reason } = refused;
        // A file that is too large may grow on and on.
        let state = (fingerprint.filter(|_| refusal != Refusal::TooLarge), refusal);
        let is_new = self.told.get(&path) != Some(&state);
        if is_new {
            self.stats.refuse(refusal);
            // Quoted: a name can hold anything, a line end as well.
            tracing::warn!("{path:?} {reason}");
        }
        let rejection = Rejection { refusal, reason, since: unix_now() };
        self.stats.rejections.note(path.to_string_lossy().into_owned(), rejection);
        if is_new {
            self.told.insert(path, state);
        }
    }
}

/// How a number of contents is looked at; see [`Look`].
#[derive(Default)]
struct Mode {
    force: bool,
    still: HashSet<PathBuf>,
    believe_empty: bool,
    /// What is gone has been gone for long.
    certain: bool,
    /// It is the first load.
    load: bool,
    /// When the first news of it came.
    since: Option<Instant>,
    /// The files that there are, where that is known.
    listing: Option<Listing>,
}

/// What has come of looking, before it is done.
#[derive(Default)]
struct Batch {
    fresh: Vec<Fresh>,
    gone: Vec<String>,
    neighbours: Neighbours,
}
