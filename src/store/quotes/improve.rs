//! The best compression for answers that are asked for again.
//!
//! What was joined is compressed once more on a thread that runs only when nobody else wants to. Workers give it answers
//! without waiting, and find the better ones when they look.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Weak,
        mpsc::{self, Receiver, SyncSender},
    },
};

use arc_swap::ArcSwapOption;

use crate::{limits::LISTS_TO_IMPROVE, mz, store::Entry};

/// An answer, and what becomes of it.
pub struct Joined {
    /// As it was joined.
    entry: Arc<Entry>,
    /// With a better deflate body, when there is one.
    better: ArcSwapOption<Entry>,
}

impl Joined {
    /// An answer that is not better yet.
    pub fn new(entry: Arc<Entry>) -> Arc<Self> {
        Arc::new(Self { entry, better: ArcSwapOption::empty() })
    }

    /// The better one, if it has been made.
    pub fn better(&self) -> Option<Arc<Entry>> {
        self.better.load_full()
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
        let thread = std::thread::Builder::new().name("lists".to_owned());
        thread.spawn(move || improve(&receiver))?;
        Ok(Self(sender))
    }

    /// Takes an answer, unless too many are waiting.
    pub(super) fn take(&self, joined: &Arc<Joined>) -> bool {
        self.0.try_send(Arc::downgrade(joined)).is_ok()
    }
}

/// Answers of other workers to the same list are the same: the last of them are remembered.
const REMEMBERED: usize = 256;
/// libdeflate's level: 6 % smaller than zlib's sixth on quotes, in twice its time, a quarter of a millisecond for a list of fifty.
const LEVEL: i32 = 8;
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
        let entry = &joined.entry;
        let known = made.iter().find(|(hash, len, _)| (*hash, *len) == (entry.hash(), entry.identity_len()));
        let deflate = match known {
            Some((.., deflate)) => deflate.clone(),
            None => {
                let deflate = entry.identity().and_then(|content| mz::libdeflate(content, LEVEL));
                let deflate = deflate.map(Vec::into_boxed_slice);
                made.truncate(REMEMBERED - 1);
                made.push_front((entry.hash(), entry.identity_len(), deflate.clone()));
                deflate
            }
        };
        let is_smaller = |deflate: &[u8]| entry.deflate_body().is_some_and(|body| deflate.len() < body.len());
        if let Some(deflate) = deflate.filter(|deflate| is_smaller(deflate)) {
            joined.better.store(Some(Arc::new(entry.recompressed(deflate))));
        }
    }
}
