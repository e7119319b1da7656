//! Where the two paths meet: key → [`Entry`].
//!
//! Writers are the feed, readers are the workers. A change of content is one pointer swap whatever the number of
//! files; a reader sees the version before it or the one after it, whole. Reading takes no lock, allocates nothing
//! and writes no memory that another core writes: `arc_swap` notes a guard in a slot of the reading thread instead
//! of in the entry's reference count.

mod entry;
pub mod identities;
pub mod quotes;

use std::{collections::HashMap, ops::Deref, sync::Arc};

use ahash::RandomState;

pub use entry::{Bodies, Coding, Content, Entry, Etag, Inflated, Payload, gzip_header, zlib_header};
use identities::Identities;
use quotes::{Quotes, Terms};

use crate::{
    limits::STORE_SHARDS,
    sync::{ArcSwap, Guard},
};

type Names = HashMap<Arc<[u8]>, Arc<ArcSwap<Entry>>, RandomState>;

/// All entries by key: the decoded path without the slash that it begins with.
pub struct Store {
    identities: Identities,
    quotes: Quotes,
    hasher: RandomState,
    shards: Box<[ArcSwap<Names>]>,
}

/// One step of a batch given to [`Store::apply`].
pub enum Change {
    /// The key has this entry from now on.
    Put(Arc<[u8]>, Arc<Entry>),
    /// The key is gone.
    Remove(Arc<[u8]>),
}

/// An entry as a reader found it. It stays whole and alive while it is held; to keep it across waits, [`Held::keep`] it.
pub struct Held(Guard<Arc<Entry>>);

impl Store {
    /// A store without entries.
    pub fn new() -> Self {
        Self::with_terms(Terms::default())
    }

    /// A store without entries, whose quotes will be answered as `terms` say.
    pub fn with_terms(terms: Terms) -> Self {
        Self::with_identities(terms, Identities::default())
    }

    /// The same, which inflates what is asked for into `identities`.
    pub fn with_identities(terms: Terms, identities: Identities) -> Self {
        let hasher = RandomState::new();
        let shard = |_| ArcSwap::from_pointee(Names::with_hasher(hasher.clone()));
        let shards = (0..STORE_SHARDS).map(shard).collect();
        Self { identities, quotes: Quotes::new(terms), hasher, shards }
    }

    /// The current version of `key`.
    pub fn get(&self, key: &[u8]) -> Option<Held> {
        let names = self.shard(key).load();
        Some(Held(names.get(key)?.load()))
    }

    /// The contents of its compact entries.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// The quotes.
    pub fn quotes(&self) -> &Quotes {
        &self.quotes
    }

    /// Whether there is an entry for `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.shard(key).load().contains_key(key)
    }

    /// All entries, by key. It is made for the occasion, at some milliseconds for a hundred thousand.
    pub fn entries(&self) -> Vec<(Arc<[u8]>, Arc<Entry>)> {
        let shards = self.shards.iter().map(ArcSwap::load_full);
        let mut entries: Vec<_> = shards
            .flat_map(|names| names.iter().map(|(key, slot)| (key.clone(), slot.load_full())).collect::<Vec<_>>())
            .collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        entries
    }

    /// Makes the changes visible, in order. A known name is one swap; new and removed names copy the map of their
    /// shard, once a batch.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        let mut touched: HashMap<usize, Names> = HashMap::new();
        for change in changes {
            let at = match &change {
                Change::Put(key, _) | Change::Remove(key) => self.shard_index(key),
            };
            match change {
                Change::Put(key, entry) => {
                    let slot = match touched.get(&at) {
                        Some(names) => names.get(&key).cloned(),
                        None => self.shards[at].load().get(&key).cloned(),
                    };
                    match slot {
                        Some(slot) => {
                            slot.load().set_current(false);
                            entry.set_current(true);
                            slot.store(entry);
                        }
                        None => {
                            entry.set_current(true);
                            let names = touched.entry(at).or_insert_with(|| Names::clone(&self.shards[at].load()));
                            names.insert(key, Arc::new(ArcSwap::new(entry)));
                        }
                    }
                }
                Change::Remove(key) => {
                    let names = touched.entry(at).or_insert_with(|| Names::clone(&self.shards[at].load()));
                    if let Some(slot) = names.remove(&key) {
                        slot.load().set_current(false);
                    }
                }
            }
        }
        for (at, names) in touched {
            self.shards[at].store(Arc::new(names));
        }
    }

    fn shard(&self, key: &[u8]) -> &ArcSwap<Names> {
        &self.shards[self.shard_index(key)]
    }

    fn shard_index(&self, key: &[u8]) -> usize {
        // The map below uses the low bits of the same hash, and the top seven as tags.
        (self.hasher.hash_one(key) >> 32) as usize % STORE_SHARDS
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    /// An entry that is not in a store.
    pub fn own(entry: Arc<Entry>) -> Self {
        Self(Guard::from_inner(entry))
    }

    /// Takes a share of the entry, so that the thread's slot is free for the next one.
    pub fn keep(self) -> Self {
        Self(Guard::from_inner(Guard::into_inner(self.0)))
    }

    /// A share of the entry.
    pub fn share(&self) -> Arc<Entry> {
        Arc::clone(&self.0)
    }
}

impl Deref for Held {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Arc<Entry> {
        Arc::new(Entry::new("text/plain", 1, Bodies::identity(text.as_bytes().into())))
    }

    fn text(store: &Store, key: &str) -> Option<Vec<u8>> {
        store.get(key.as_bytes()).map(|held| held.payload(Coding::Identity).slices().concat())
    }

    #[test]
    fn puts_swaps_and_removes() {
        let store = Store::new();
        let key = |name: &str| Arc::from(name.as_bytes());
        store.apply([Change::Put(key("/a"), entry("1")), Change::Put(key("/b"), entry("2"))]);
        let old = store.get(b"/a");
        store.apply([Change::Put(key("/a"), entry("3")), Change::Remove(key("/b"))]);
        assert_eq!(text(&store, "/a").as_deref(), Some(&b"3"[..]));
        assert_eq!(text(&store, "/b"), None);
        assert_eq!(old.map(|held| held.identity_len()), Some(1), "what is held stays alive");
        store.apply([Change::Remove(key("/a")), Change::Put(key("/a"), entry("4")), Change::Remove(key("/none"))]);
        assert_eq!(text(&store, "/a").as_deref(), Some(&b"4"[..]));
    }
}
