//! The best compression for answers that are asked for again.
//!
//! What was joined is compressed once more on a thread that runs only when nobody else wants to. Workers give it answers
//! without waiting, and find the better ones when they look.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak},
    time::Instant,
};

use crate::{
    limits::LISTS_TO_IMPROVE,
    mz,
    store::Entry,
    sync::{
        ArcSwapOption,
        mpsc::{self, Receiver, SyncSender},
        thread,
    },
};

/// An answer, and what becomes of it.
pub struct Joined {
    /// As it was joined.
    entry: Arc<Entry>,
    /// A deflate body, once it has been tried; None inside: there is no better one.
    tried: ArcSwapOption<Option<Box<[u8]>>>,
}

/// What has become of an answer.
pub enum Fate {
    /// Nothing yet.
    Waiting,
    /// It is as good as it gets.
    Best,
    /// This is better.
    Better(Entry),
}

impl Joined {
    /// An answer that has not been tried.
    pub fn new(entry: Arc<Entry>) -> Arc<Self> {
        Arc::new(Self { entry, tried: ArcSwapOption::empty() })
    }

    /// What has become of it.
    pub fn fate(&self) -> Fate {
        match &*self.tried.load() {
            None => Fate::Waiting,
            Some(tried) => match &**tried {
                Some(deflate) => Fate::Better(self.entry.recompressed(deflate.clone())),
                None => Fate::Best,
            },
        }
    }
}

/// The way to the thread that compresses.
pub struct Improver(SyncSender<Weak<Joined>>);

impl Improver {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(LISTS_TO_IMPROVE);
        let thread = thread::Builder::new().name("lists".to_owned());
        thread.spawn(move || improve(&receiver))?;
        Ok(Self(sender))
    }

    /// Takes an answer, unless too many are waiting.
    pub(super) fn take(&self, joined: &Arc<Joined>) -> bool {
        self.0.try_send(Arc::downgrade(joined)).is_ok()
    }
}

/// Answers of other workers to the same list are the same: the last of them are remembered, but for large ones.
const REMEMBERED: usize = 256;
const MOST_REMEMBERED: usize = 32 * 1024;
/// libdeflate's level: 6 % smaller than zlib's sixth on quotes, in twice its time, a quarter of a millisecond for a list of fifty.
const LEVEL: i32 = 8;
/// For each second of work this many of rest: popular lists are a quarter of a core's worth at the most.
const REST: u32 = 3;
/// The niceness of the thread: the last of all.
const NICE: i32 = 19;

/// The hash and length of a content, and its deflate body.
type Made = (u64, usize, Option<Box<[u8]>>);

fn improve(joined: &Receiver<Weak<Joined>>) {
    // Where that is not allowed it competes with the workers, at their priority.
    let _ = rustix::process::setpriority_process(None, NICE);
    let mut made: VecDeque<Made> = VecDeque::new();
    while let Ok(joined) = joined.recv() {
        // Its list may have been forgotten, or changed.
        let Some(joined) = joined.upgrade() else { continue };
        let begun = Instant::now();
        let entry = &joined.entry;
        let known = made.iter().find(|(hash, len, _)| (*hash, *len) == (entry.hash(), entry.identity_len()));
        let deflate = match known {
            Some((.., deflate)) => deflate.clone(),
            None => {
                let deflate = entry.identity().and_then(|content| mz::libdeflate(content, LEVEL));
                let deflate = deflate.map(Vec::into_boxed_slice);
                if deflate.as_ref().is_none_or(|deflate| deflate.len() <= MOST_REMEMBERED) {
                    made.truncate(REMEMBERED - 1);
                    made.push_front((entry.hash(), entry.identity_len(), deflate.clone()));
                }
                deflate
            }
        };
        // The frame around it is at least six bytes.
        let most = entry.deflate_body().map_or(entry.identity_len().saturating_sub(6), <[u8]>::len);
        joined.tried.store(Some(Arc::new(deflate.filter(|deflate| deflate.len() < most))));
        thread::sleep(begun.elapsed() * REST);
    }
}
