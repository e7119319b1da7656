//! The contents of compact entries, inflated when they are asked for, and kept under a bound.
//!
//! Nearly every client takes a compressed answer. For those that do not, a small content is inflated where it is asked
//! for; a large one on a thread of its own, so that a worker's other clients do not wait for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, Weak},
};

use flate2::{Decompress, FlushDecompress, Status};

use super::{Content, Entry, Held};
use crate::{
    limits::{IDENTITIES, INFLATE_AT_ONCE},
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// How whoever waits for a content is told that it may be there.
pub type Nudge = Arc<dyn Fn() + Send + Sync>;

/// What has come of asking for a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provided {
    /// It is there.
    Ready,
    /// It is being inflated; the nudge comes when that is done.
    Later,
    /// The compressed body does not inflate to it. No entry is published that does this.
    Broken,
}

/// The inflated contents of a store.
pub struct Identities {
    /// Bytes of contents that are kept.
    room: usize,
    has_thread: AtomicBool,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    /// What is wanted, each once, and by whom.
    jobs: VecDeque<(Arc<Entry>, Vec<Nudge>)>,
    /// In the order in which they were inflated. Those whose entry is gone count until their turn comes.
    kept: VecDeque<(Weak<Entry>, usize)>,
    bytes: usize,
    /// Contents that made room for others while a client was still reading them, by the place of their entry.
    lent: HashMap<usize, (Weak<Entry>, Weak<Content>)>,
    /// When so many are lent, those that have come back are forgotten.
    forget_at: usize,
}

impl State {
    /// Notes a content that makes room: as long as anybody reads it, it can be had again.
    fn lend(&mut self, entry: &Arc<Entry>, content: &Arc<Content>) {
        if self.lent.len() >= self.forget_at {
            self.lent.retain(|_, (entry, content)| entry.strong_count() > 0 && content.strong_count() > 0);
            self.forget_at = 2 * self.lent.len() + 64;
        }
        self.lent.insert(Arc::as_ptr(entry) as usize, (Arc::downgrade(entry), Arc::downgrade(content)));
    }

    /// The content of `entry`, if anybody is still reading it.
    fn lent(&mut self, entry: &Arc<Entry>) -> Option<Arc<Content>> {
        let (lender, content) = self.lent.remove(&(Arc::as_ptr(entry) as usize))?;
        // Another entry may have come to lie in its place.
        content.upgrade().filter(|_| lender.upgrade().is_some_and(|lender| Arc::ptr_eq(&lender, entry)))
    }

    /// Keeps a content, in the place of the oldest ones where there is no `room` for all.
    fn keep(&mut self, entry: &Arc<Entry>, content: Arc<Content>, room: usize) {
        let len = content.len();
        entry.set_inflated(Some(content));
        self.kept.push_back((Arc::downgrade(entry), len));
        self.bytes += len;
        while self.bytes > room && self.kept.len() > 1 {
            let Some((oldest, len)) = self.kept.pop_front() else { break };
            self.bytes -= len;
            if let Some(oldest) = oldest.upgrade()
                && let Some(content) = oldest.set_inflated(None)
            {
                self.lend(&oldest, &content);
            }
        }
    }

    fn want(&mut self, entry: Arc<Entry>, nudge: &Nudge) {
        match self.jobs.iter_mut().find(|(wanted, _)| Arc::ptr_eq(wanted, &entry)) {
            Some((_, nudges)) if nudges.iter().any(|known| Arc::ptr_eq(known, nudge)) => {}
            Some((_, nudges)) => nudges.push(nudge.clone()),
            None => self.jobs.push_back((entry, vec![nudge.clone()])),
        }
    }
}

impl Default for Identities {
    fn default() -> Self {
        Self::with_room(IDENTITIES)
    }
}

impl Identities {
    /// None, and room for so many bytes of them.
    pub fn with_room(room: usize) -> Self {
        Self { room, has_thread: AtomicBool::default(), state: Mutex::default(), wanted: Condvar::default() }
    }

    /// Inflates large contents on this thread from now on, for ever.
    pub fn serve(&self) {
        self.defer();
        loop {
            drop(self.wanted.wait_while(self.state(), |state| state.jobs.is_empty()));
            self.serve_one();
        }
    }

    /// Large contents are left to whoever calls [`Identities::serve_one`] from now on.
    pub fn defer(&self) {
        self.has_thread.store(true, Ordering::Release);
    }

    /// Inflates the content that has waited for longest. Whether there was one.
    pub fn serve_one(&self) -> bool {
        let job = self.state().jobs.pop_front();
        let Some((entry, nudges)) = job else { return false };
        if entry.inflated().is_none() {
            self.inflate(&entry);
        }
        nudges.iter().for_each(|nudge| nudge());
        true
    }

    /// Makes the content of `entry` available. Without a nudge it is done at once, however long it takes.
    pub fn provide(&self, entry: &Held, nudge: Option<&Nudge>) -> Provided {
        if entry.identity().is_some() || entry.inflated().is_some() {
            return Provided::Ready;
        }
        let entry = entry.share();
        let mut state = self.state();
        if let Some(content) = state.lent(&entry) {
            state.keep(&entry, content, self.room);
            return Provided::Ready;
        }
        drop(state);
        match nudge {
            Some(nudge) if entry.identity_len() > INFLATE_AT_ONCE && self.has_thread.load(Ordering::Acquire) => {
                self.state().want(entry, nudge);
                self.wanted.notify_one();
                Provided::Later
            }
            _ if self.inflate(&entry) => Provided::Ready,
            _ => Provided::Broken,
        }
    }

    fn inflate(&self, entry: &Arc<Entry>) -> bool {
        let Some(content) = inflate(entry) else {
            return false;
        };
        self.state().keep(entry, Arc::new(Content::new(content)), self.room);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left by halves.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of an entry from its deflate body.
pub fn inflate(entry: &Entry) -> Option<Box<[u8]>> {
    if let Some(identity) = entry.identity() {
        return Some(identity.into());
    }
    let mut content = vec![0; entry.identity_len()];
    let status = Decompress::new(false).decompress(entry.deflate_body()?, &mut content, FlushDecompress::Finish);
    (status.ok()? == Status::StreamEnd).then(|| content.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::DeflateEncoder};

    use super::*;
    use crate::store::{Bodies, Change, Store};

    fn compact(content: &[u8]) -> Entry {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        let deflate = Some(encoder.finish().unwrap().into());
        Entry::new("text/plain", 0, Bodies { deflate, ..Bodies::identity(content.into()) }).compact()
    }

    #[test]
    fn a_content_is_inflated_once_and_the_oldest_make_room() {
        let store = Store::new();
        let content = vec![b'x'; IDENTITIES / 4];
        let names: Vec<Arc<[u8]>> = (0..6_u8).map(|name| Arc::from([name])).collect();
        store.apply(names.iter().map(|name| Change::Put(name.clone(), Arc::new(compact(&content)))));
        for name in &names {
            let entry = store.get(name).unwrap();
            assert!(entry.identity().is_none() && entry.inflated().is_none());
            assert_eq!(store.identities().provide(&entry, None), Provided::Ready);
            assert!(entry.inflated().is_some_and(|inflated| *inflated == content));
            assert_eq!(store.identities().provide(&entry, None), Provided::Ready);
        }
        let held: Vec<bool> = names.iter().map(|name| store.get(name).unwrap().inflated().is_some()).collect();
        assert_eq!(held, [false, false, true, true, true, true]);
    }

    /// Otherwise every slow reader of many contents would hold a copy of its own.
    #[test]
    fn what_made_room_comes_back_as_long_as_it_is_read() {
        let store = Store::new();
        let content = vec![b'x'; IDENTITIES / 2];
        let names: Vec<Arc<[u8]>> = (0..3_u8).map(|name| Arc::from([name])).collect();
        store.apply(names.iter().map(|name| Change::Put(name.clone(), Arc::new(compact(&content)))));
        let provided = |name: &[u8]| {
            let entry = store.get(name).unwrap();
            assert_eq!(store.identities().provide(&entry, None), Provided::Ready);
            entry.inflated().unwrap().keep()
        };
        let read: Vec<_> = names.iter().map(|name| provided(name)).collect();
        for (name, read) in names.iter().zip(&read) {
            assert_eq!(provided(name).as_ptr(), read.as_ptr());
        }
    }

    #[test]
    fn what_is_not_smaller_is_not_compact() {
        assert!(compact(b"abc").identity().is_some());
    }
}
