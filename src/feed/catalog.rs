//! What is known of every content, and what of it is published.
//!
//! It is the only writer of the store. It opens no file and waits for nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use super::{
    build::{Previous, stamp},
    improve::{Improvable, Improved},
    look::{Fresh, Known, Version},
    names::Role,
    quotes::board::{SharedBoard, TableChange, When},
    vanish::{Fate, Vanishing},
};
use crate::{
    clock::unix_now,
    limits::ENTRY_BYTES,
    stats::FeedStats,
    store::{Change, Entry, Store},
};

/// A version that was deleted is remembered for this long, so that its successor's stamp is later.
const MEMORY: Duration = Duration::from_secs(3600);

/// The contents of a data directory.
pub struct Catalog {
    store: Arc<Store>,
    stats: Arc<FeedStats>,
    /// By path relative to the root, without the ending of a `.mz`.
    known: BTreeMap<Arc<str>, Known>,
    published: usize,
    /// Those of them that are tables.
    tables: usize,
    board: SharedBoard,
    /// Versions that were deleted, and when.
    deleted: HashMap<String, (Previous, Instant)>,
    /// Stamps that were given while the clock was behind them, and under which nothing was sent yet.
    ahead: HashMap<String, u64>,
    /// Another server has taken over: it does not know what is published here from now on.
    is_left: bool,
    vanishing: Vanishing,
    improvements: Sender<Improvable>,
    memory_limit: u64,
}

/// Under which stamp a content is, or was, served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Its path, relative to the root.
    pub content: Arc<str>,
    /// In seconds since 1970.
    pub stamp: u64,
    /// Of the content.
    pub hash: u64,
}

/// Contents that came or went hide or uncover the sidecars beside them: names to look at next.
pub type Neighbours = BTreeSet<String>;

impl Catalog {
    /// An empty catalog over `store` and `board`, of at most `memory_limit` bytes. Who receives `improvements` may make them.
    pub fn new(
        store: Arc<Store>,
        board: SharedBoard,
        stats: Arc<FeedStats>,
        improvements: Sender<Improvable>,
        memory_limit: Option<u64>,
    ) -> Self {
        Self {
            store,
            stats,
            known: BTreeMap::new(),
            published: 0,
            tables: 0,
            board,
            deleted: HashMap::new(),
            ahead: HashMap::new(),
            is_left: false,
            vanishing: Vanishing::default(),
            improvements,
            memory_limit: memory_limit.unwrap_or(u64::MAX),
        }
    }

    /// What is known of a content.
    pub fn known(&self, content: &str) -> Option<&Known> {
        self.known.get(content)
    }

    /// As [`Catalog::known`], to note how its files were seen.
    pub fn known_mut(&mut self, content: &str) -> Option<&mut Known> {
        self.known.get_mut(content)
    }

    /// All contents that anything is known of.
    pub fn contents(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(|content| &**content)
    }

    /// What is known below a directory.
    pub fn below(&self, directory: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{directory}/");
        let behind = self.known.range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded));
        behind.map(|(content, _)| &**content).take_while(move |content| content.starts_with(&prefix))
    }

    /// There are files for a content again, or still.
    pub fn came_back(&mut self, content: &str) {
        self.vanishing.came_back(content);
    }

    /// Publishes new versions, all at once. Those that memory does not allow for are left out, and returned.
    pub fn publish(&mut self, fresh: Vec<Fresh>, mut neighbours: Option<&mut Neighbours>) -> Vec<String> {
        let mut refused = Vec::new();
        if fresh.is_empty() {
            return refused;
        }
        let now = unix_now();
        self.ahead.retain(|_, stamp| *stamp >= now);
        // In the first load nobody looks at what is beside a content.
        let loading = neighbours.is_none();
        let mut close = Vec::new();
        let mut changes = Changes::default();
        for fresh in fresh {
            if !self.fits(&fresh) {
                refused.push(fresh.content);
                continue;
            }
            let previous = self.previous(&fresh.content);
            let stamp = match &previous {
                Some(previous) if previous.hash == fresh.made.hash() => previous.stamp,
                _ => self.settle(&fresh.content, fresh.modified, now, previous.as_ref().map(|previous| previous.stamp)),
            };
            let differs = previous.as_ref().is_some_and(|previous| previous.hash != fresh.made.hash());
            if differs && previous.is_some_and(|previous| previous.stamp == stamp) {
                close.push(fresh.content.clone());
            }
            let version = fresh.made.stamped(stamp);
            let content = self.name(&fresh.content);
            if let Some(entry) = version.entry().filter(|_| fresh.is_improvable).map(Arc::downgrade) {
                // Without that thread it stays as it is.
                let _ = self.improvements.send(Improvable { content: content.clone(), entry });
            }
            changes.put(&content, &version, if loading { When::Modified(fresh.modified) } else { When::Now });
            let known = Known { version: Some(version), seen: fresh.seen, disowned: fresh.disowned };
            self.note(content, known, neighbours.as_deref_mut());
        }
        self.apply(changes);
        self.separate(close, now);
        self.stats.newest.set(now);
        self.count();
        refused
    }

    fn apply(&self, changes: Changes) {
        self.store.apply(changes.entries);
        if !changes.tables.is_empty() {
            self.board.lock().change(changes.tables);
        }
    }

    fn count(&self) {
        self.stats.entries.set((self.published - self.tables) as u64);
    }

    /// There is memory for a new version in place of the one before it.
    fn fits(&self, fresh: &Fresh) -> bool {
        let (held, new) = (self.stats.held_bytes.get(), fresh.made.held_bytes() as u64);
        let (old, names) = match self.known.get(&*fresh.content).and_then(|known| known.version.as_ref()) {
            Some(old) => (old.held_bytes() as u64, self.published as u64),
            None => (0, self.published as u64 + 1),
        };
        (held + new + self.stats.quotes.fed_bytes.get()).saturating_sub(old).saturating_add(names * ENTRY_BYTES)
            <= self.memory_limit
    }

    /// Swaps a better compression in, if it is of the version that is served.
    pub fn improve(&mut self, improved: Improved) {
        let Improved { content, entry: base, deflate } = improved;
        let Some(known) = self.known.get_mut(&*content) else { return };
        if let Some(Version::Entry(entry)) = &mut known.version
            && Arc::ptr_eq(entry, &base)
        {
            *entry = Arc::new(base.recompressed(deflate));
            self.stats.improved.add(1);
            self.stats.held_bytes.sub(base.held_bytes() as u64);
            self.stats.held_bytes.add(entry.held_bytes() as u64);
            self.store.apply([Change::Put(content.into(), entry.clone())]);
        }
    }

    /// Two versions may share a stamp only within its second, while it is not sent. Where that second ended before the
    /// later version was visible, the earlier may have been sent under it: the later one gets a stamp of its own.
    fn separate(&mut self, close: Vec<String>, before: u64) {
        let now = unix_now();
        if now == before {
            return;
        }
        for content in close {
            if let Some(known) = self.known.get_mut(&*content)
                && let Some(Version::Entry(entry)) = &mut known.version
            {
                *entry = Arc::new(entry.copy().stamped(now));
                self.store.apply([Change::Put(content.as_bytes().into(), entry.clone())]);
            }
        }
    }

    /// The stamp of a new version.
    fn settle(&mut self, content: &str, modified: u64, now: u64, previous: Option<u64>) -> u64 {
        if self.is_left {
            return Entry::UNDATED;
        }
        // One that is not sent yet can be given again; otherwise a file that changes often would run away from the clock.
        let unsent = previous.filter(|previous| now <= *previous && self.ahead.get(content) == Some(previous));
        let settled = unsent.unwrap_or_else(|| stamp(modified, now, previous));
        if settled > now {
            self.ahead.insert(content.to_owned(), settled);
        }
        settled
    }

    /// The version whose stamp a new one must not repeat.
    fn previous(&self, content: &str) -> Option<Previous> {
        let alive = self.known.get(content).and_then(|known| known.version.as_ref());
        let alive = alive.map(|version| Previous { stamp: version.stamp(), hash: version.hash() });
        alive.or_else(|| self.deleted.get(content).map(|(previous, _)| *previous))
    }

    /// The name of a content, held once for the store and for here.
    fn name(&self, content: &str) -> Arc<str> {
        self.known.get_key_value(content).map_or_else(|| content.into(), |(name, _)| name.clone())
    }

    fn note(&mut self, content: Arc<str>, known: Known, neighbours: Option<&mut Neighbours>) {
        let Some(version) = &known.version else { return };
        self.stats.published.add(1);
        self.stats.content_bytes.add(version.content_len() as u64);
        self.stats.held_bytes.add(version.held_bytes() as u64);
        self.deleted.remove(&*content);
        let is_table = version.entry().is_none();
        match self.known.insert(content.clone(), known).and_then(|known| known.version) {
            Some(old) => self.uncount(&old),
            None => {
                self.published += 1;
                self.tables += usize::from(is_table);
                neighbours.into_iter().for_each(|neighbours| sidecars(&content, neighbours));
            }
        }
    }

    /// Under which stamp each content is served, or was before it was deleted lately.
    pub fn stamps(&self) -> Vec<Stamped> {
        let alive = self.known.iter().filter_map(|(content, known)| {
            let entry = known.version.as_ref()?.entry()?;
            Some(Stamped { content: content.clone(), stamp: entry.stamp(), hash: entry.hash() })
        });
        let deleted = self.deleted.iter().map(|(content, (previous, _))| Stamped {
            content: content.as_str().into(),
            stamp: previous.stamp,
            hash: previous.hash,
        });
        alive.chain(deleted).collect()
    }

    /// Goes on where another server left off: what is the same has the same stamp, anything else a later one. The contents that
    /// are not the same.
    pub fn inherit(&mut self, stamps: Vec<Stamped>) -> BTreeSet<String> {
        let (now, since) = (unix_now(), Instant::now());
        let mut changes = Vec::new();
        let mut others: BTreeSet<String> = self.known.keys().map(|content| content.as_ref().to_owned()).collect();
        for Stamped { content, stamp: inherited, hash } in stamps {
            let Some(version) = self.known.get(&content).and_then(|known| known.version.as_ref()) else {
                let previous = Previous { stamp: inherited, hash };
                self.deleted.insert(content.as_ref().to_owned(), (previous, since));
                others.insert(content.as_ref().to_owned());
                continue;
            };
            let Version::Entry(entry) = version else { continue };
            let settled = if entry.hash() == hash {
                others.remove(&*content);
                inherited
            } else {
                let modified = entry.stamp();
                // Later than the other by a second, for that one is being sent at this moment.
                self.settle(&content, modified, now.max(inherited.saturating_add(1)), Some(inherited))
            };
            if settled > now {
                self.ahead.insert(content.as_ref().to_owned(), settled);
            }
            changes.extend(self.restamp(&content, settled));
        }
        self.store.apply(changes);
        others
    }

    /// Another server takes over: what is published from now on has no date, since that server may give it to another content.
    pub fn leave(&mut self) {
        self.is_left = true;
    }

    /// It has not come to that.
    pub fn stay(&mut self) {
        self.is_left = false;
        let is_undated =
            |known: &Known| known.version.as_ref().is_some_and(|version| version.stamp() == Entry::UNDATED);
        let undated: Vec<_> =
            self.known.iter().filter(|(_, known)| is_undated(known)).map(|(name, _)| name.clone()).collect();
        let now = unix_now();
        let changes: Vec<_> = undated.iter().filter_map(|content| self.restamp(content, now)).collect();
        self.store.apply(changes);
    }

    /// The version that is served, under another stamp.
    fn restamp(&mut self, content: &Arc<str>, stamp: u64) -> Option<Change> {
        let Version::Entry(entry) = self.known.get_mut(content)?.version.as_mut()? else { return None };
        if entry.stamp() == stamp {
            return None;
        }
        *entry = Arc::new(entry.copy().stamped(stamp));
        Some(Change::Put(content.clone().into(), entry.clone()))
    }

    /// Removes contents whose files are gone, unless so many are that it looks like an accident: then it says how many it
    /// keeps. `certain`: they have been gone for long.
    pub fn remove(&mut self, gone: Vec<String>, certain: bool, neighbours: &mut Neighbours) -> Option<usize> {
        let now = Instant::now();
        let fate = if certain { Fate::Remove(gone) } else { self.vanishing.judge(gone, self.published, now) };
        let mut changes = Changes::default();
        let held = match fate {
            Fate::Remove(gone) => {
                gone.into_iter().for_each(|content| self.forget(content, certain, now, neighbours, &mut changes));
                None
            }
            Fate::Hold { held, restore } => {
                for (content, version) in restore {
                    let content = self.name(&content);
                    changes.put(&content, &version, When::Now);
                    let disowned = self.known.get(&content).and_then(|known| known.disowned);
                    let known = Known { version: Some(version), disowned, ..Known::default() };
                    self.note(content, known, Some(neighbours));
                }
                Some(held)
            }
        };
        self.apply(changes);
        self.count();
        held
    }

    fn forget(
        &mut self,
        content: String,
        certain: bool,
        now: Instant,
        neighbours: &mut Neighbours,
        changes: &mut Changes,
    ) {
        let Some(known) = self.known.remove(&*content) else { return };
        if let Some(disowned) = known.disowned {
            let known = Known { disowned: Some(disowned), ..Known::default() };
            self.known.insert(content.as_str().into(), known);
        }
        let Some(version) = known.version else { return };
        self.uncount(&version);
        self.published -= 1;
        self.tables -= usize::from(version.entry().is_none());
        self.stats.removed.add(1);
        sidecars(&content, neighbours);
        let previous = Previous { stamp: version.stamp(), hash: version.hash() };
        self.deleted.insert(content.clone(), (previous, now));
        changes.remove(&content, &version);
        if !certain {
            self.vanishing.removed(content, version, now);
        }
    }

    /// Contents that have been kept for long enough although their files are gone.
    pub fn expired(&mut self, now: Instant) -> BTreeSet<String> {
        self.vanishing.expired(now)
    }

    /// When the next of them has.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.vanishing.next()
    }

    /// Forgets deleted versions that no client can have in use any more.
    pub fn forget_deleted(&mut self, now: Instant) {
        self.deleted.retain(|_, (_, since)| now.duration_since(*since) < MEMORY);
    }

    fn uncount(&self, version: &Version) {
        self.stats.content_bytes.sub(version.content_len() as u64);
        self.stats.held_bytes.sub(version.held_bytes() as u64);
    }
}

/// What is to become visible at once.
#[derive(Default)]
struct Changes {
    entries: Vec<Change>,
    tables: Vec<(TableChange, When)>,
}

impl Changes {
    fn put(&mut self, content: &Arc<str>, version: &Version, when: When) {
        match version {
            Version::Entry(entry) => self.entries.push(Change::Put(content.clone().into(), entry.clone())),
            Version::Table(table) => self.tables.push((TableChange::Put(content.clone(), table.clone()), when)),
        }
    }

    fn remove(&mut self, content: &str, version: &Version) {
        match version {
            Version::Entry(_) => self.entries.push(Change::Remove(content.as_bytes().into())),
            Version::Table(_) => self.tables.push((TableChange::Remove(content.into()), When::Now)),
        }
    }
}

/// The names that are hidden beside a content.
fn sidecars(content: &str, names: &mut Neighbours) {
    names.extend([Role::Gz, Role::Br, Role::Zst].map(|role| format!("{content}{}", role.suffix())));
}
